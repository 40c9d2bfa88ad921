"""CPAC is the published network; its capsules follow their equations."""

import keras
import numpy as np
import pytest
from references import clips, inside, randomise

from lib.models.cpac import LEAST, Routing, build_cpac

SMALL = {"filters": 4, "primary_capsules": 3, "capsules": 3, "capsule_size": 5}


def plain_squash(vector):
    length = np.linalg.norm(vector)
    return vector / length * length**2 / (1 + length**2)


def plain_routing(predictions, routings, accumulate):
    """Route one clip's predictions (n, m, size), one at a time."""
    count, outputs, _ = predictions.shape
    predictions = {(n, m): predictions[n, m] for n, m in np.ndindex(count, outputs)}
    logits = np.zeros((count, outputs))
    for turn in range(routings):
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        routed = [
            sum(shares[n, m] * predictions[n, m] for n in range(count))
            for m in range(outputs)
        ]
        for n, m in predictions if turn < routings - 1 else ():
            direction = routed[m] / np.linalg.norm(routed[m])
            agreement = predictions[n, m] @ direction
            logits[n, m] = agreement + (logits[n, m] if accumulate else 0)
    return np.array([plain_squash(vector) for vector in routed])


def test_routing_follows_its_equations():
    inputs = np.random.default_rng(1).normal(size=(2, 7, 3 * 5)).astype(np.float32)
    predictions = inputs.astype(float).reshape(2, 7, 3, 5)
    for how in ((1, False), (4, False), (4, True)):
        expected = [plain_routing(clip, *how) for clip in predictions]
        np.testing.assert_allclose(Routing(3, *how)(inputs), expected, atol=1e-5)


def test_capsules_attend_to_each_other_and_are_routed():
    model = build_cpac((100, 39), 3, **SMALL)
    randomise(model)
    model.get_layer("attention").set_weights([np.float32(3.0)])
    names = ["primary_convolution", "attended_capsules", "embedding"]
    found = (item.astype(float) for item in inside(model, clips(100, 39), *names))
    (weights,) = model.get_layer("predictions").get_weights()
    for picture, attended, embedding in zip(*found, strict=True):
        assert picture.shape == (8, 1, 3 * 5)
        # Runs of the channels of one place.
        capsules = np.apply_along_axis(plain_squash, -1, picture.reshape(-1, 5))
        likeness = np.exp(3.0 * capsules @ capsules.T)
        seen = likeness / likeness.sum(axis=1, keepdims=True) @ capsules
        np.testing.assert_allclose(attended, capsules * seen, atol=1e-5)
        routed = plain_routing((attended @ weights).reshape(-1, 3, 5), 3, False)
        np.testing.assert_allclose(embedding, routed.mean(axis=0), atol=1e-5)


def test_stages_are_those_published():
    model = build_cpac((88, 39), 7)
    names = ("pooling_1", "pooling_2", "pooling_3", "primary_convolution")
    shapes = [model.get_layer(name).output.shape[1:] for name in names]
    assert shapes == [(43, 18, 64), (20, 8, 64), (9, 3, 64), (7, 1, 384)]
    names = ("dropout_1", "dropout_2", "dropout_3", "dropout")
    assert [model.get_layer(name).rate for name in names] == [0.5, 0.25, 0.25, 0.2]
    convolved, pooled = inside(model, clips(88, 39, 1), "convolution_1", "pooling_1")
    scaled = convolved / np.sqrt(1 + 1e-3)  # statistics 0 and 1
    bent = np.where(scaled > 0, scaled, np.expm1(scaled))[:, :86, :36]
    tiles = bent.reshape(1, 43, 2, 18, 2, 64).mean(axis=(2, 4))
    np.testing.assert_allclose(pooled, tiles, atol=1e-5)


def test_normalisation_learns_no_statistics_if_frozen():
    for frozen in (True, False):
        model = build_cpac((60, 39), 3, **SMALL, frozen_normalisation=frozen)
        model = keras.models.clone_model(model)  # as a saved network is read
        model.compile("sgd", "categorical_crossentropy", jit_compile="auto")
        model.train_on_batch(clips(60, 39), np.eye(3)[[0, 1, 2, 0]])
        layer = model.get_layer("normalisation_1")
        assert np.allclose(layer.moving_mean, 0) == frozen
        assert np.allclose(layer.moving_variance, 1) == frozen


def test_the_least_size_leaves_one_place_and_a_smaller_one_is_named():
    model = build_cpac((LEAST, LEAST), 3, **SMALL)
    assert model.get_layer("primary_convolution").output.shape[1:3] == (1, 1)
    for shape in ((37, 39), (None, 37)):
        with pytest.raises(ValueError, match="37.*: cpac needs 38 or more"):
            build_cpac(shape, 3)
