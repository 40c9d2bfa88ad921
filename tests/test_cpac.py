"""CPAC is the published network; its capsules follow their equations."""

import keras
import numpy as np
import pytest
from references import randomise

from lib.models.cpac import LEAST, Routing, build_cpac

SMALL = {"filters": 4, "primary_capsules": 3, "capsules": 3, "capsule_size": 5}


def count(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


def clips(frames=60, coefficients=39, number=4):
    shape = (number, frames, coefficients)
    return np.random.default_rng(frames).normal(size=shape).astype(np.float32)


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


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("routings", [1, 2, 4])
def test_routing_follows_its_equations(routings, accumulate):
    inputs = np.random.default_rng(1).normal(size=(2, 7, 3 * 5)).astype(np.float32)
    ours = np.asarray(Routing(3, routings, accumulate)(inputs))
    predictions = inputs.astype(float).reshape(2, 7, 3, 5)
    expected = [plain_routing(clip, routings, accumulate) for clip in predictions]
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    fewer = Routing(3, routings + 1, accumulate)(inputs)
    assert np.abs(ours - np.asarray(fewer)).max() > 1e-3


def test_capsules_attend_to_each_other_and_are_routed():
    model = build_cpac((100, 39), 3, **SMALL)
    randomise(model)
    model.get_layer("attention").set_weights([np.float32(3.0)])
    names = ["primary_convolution", "attended_capsules", "embedding"]
    inside = keras.Model(model.input, [model.get_layer(name).output for name in names])
    found = (np.asarray(item, float) for item in inside(clips(100)))
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


def test_the_parameters_are_those_of_the_published_megabytes():
    model = build_cpac((None, 39), 7)
    convolutions = (9 * 1 * 64 + 64) + 2 * (9 * 64 * 64 + 64)
    normalisations = 3 * 2 * 64
    primary = 9 * 64 * 6 * 64 + 6 * 64
    scale, routing, classifier = 1, 64 * 6 * 64, 64 * 7 + 7
    trainable = convolutions + normalisations + primary + scale + routing + classifier
    assert count(model.trainable_weights) == trainable == 321_480
    assert count(model.weights) == trainable + normalisations
    assert round(4 * count(model.weights) / 2**20, 2) == 1.23


def test_stages_are_those_published():
    model = build_cpac((88, 39), 7)
    shapes = [
        model.get_layer(name).output.shape[1:]
        for name in ("pooling_1", "pooling_2", "pooling_3", "primary_convolution")
    ]
    assert shapes == [(43, 18, 64), (20, 8, 64), (9, 3, 64), (7, 1, 384)]
    names = ("dropout_1", "dropout_2", "dropout_3", "dropout")
    assert [model.get_layer(name).rate for name in names] == [0.5, 0.25, 0.25, 0.2]
    inside = keras.Model(
        model.input,
        [model.get_layer(f"{name}_1").output for name in ("convolution", "pooling")],
    )
    convolved, pooled = (np.asarray(item) for item in inside(clips(88, number=1)))
    scaled = convolved / np.sqrt(1 + 1e-3)  # statistics 0 and 1
    bent = np.where(scaled > 0, scaled, np.expm1(scaled))[:, :86, :36]
    tiles = bent.reshape(1, 43, 2, 18, 2, 64).mean(axis=(2, 4))
    np.testing.assert_allclose(pooled, tiles, atol=1e-5)


@pytest.mark.parametrize("frozen", [True, False])
def test_normalisation_learns_no_statistics_if_frozen(frozen):
    model = build_cpac((60, 39), 3, **SMALL, frozen_normalisation=frozen)
    model = keras.models.clone_model(model)  # as a saved network is read
    model.compile("sgd", "categorical_crossentropy", jit_compile="auto")
    model.train_on_batch(clips(), np.eye(3)[[0, 1, 2, 0]])
    for number in (1, 2, 3):
        layer = model.get_layer(f"normalisation_{number}")
        still = np.allclose(layer.moving_mean, 0) and np.allclose(
            layer.moving_variance, 1
        )
        assert still == frozen


def test_a_frozen_network_without_dropout_trains_as_it_tests():
    dropouts = dict.fromkeys(("first_dropout", "later_dropout", "dropout"), 0.0)
    model = build_cpac((60, 39), 3, **SMALL, **dropouts)
    randomise(model)
    np.testing.assert_allclose(model(clips(), training=True), model(clips()), atol=1e-6)


def test_the_least_size_leaves_one_place_and_a_smaller_one_is_named():
    model = build_cpac((LEAST, LEAST), 3, **SMALL)
    assert model.get_layer("primary_convolution").output.shape[1:3] == (1, 1)
    for shape, name in (((37, 39), "frames"), ((None, 37), "coefficients")):
        with pytest.raises(ValueError, match=f"{name}: 37; cpac needs 38 or more"):
            build_cpac(shape, 3)
