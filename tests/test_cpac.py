"""CPAC is the published network; its capsules follow their equations."""

import keras
import numpy as np
import pytest
from references import randomise

from lib.models.capsules import PrimaryCapsules, RoutedCapsules, squashed
from lib.models.cpac import LEAST, build_cpac

SMALL = {"filters": 4, "primary_capsules": 3, "capsules": 3, "capsule_size": 5}


def count(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


def clips(frames=60, coefficients=39, number=4):
    shape = (number, frames, coefficients)
    return np.random.default_rng(frames).normal(size=shape).astype(np.float32)


def plain_squash(vector):
    length = np.linalg.norm(vector)
    return vector / length * length**2 / (1 + length**2)


def plain_routing(capsules, kernel, outputs, routings, accumulate):
    """Route one clip's capsules (n, d), one prediction at a time."""
    size = kernel.shape[1] // outputs
    predictions = {
        (n, m): capsule @ kernel[:, m * size : (m + 1) * size]
        for n, capsule in enumerate(capsules)
        for m in range(outputs)
    }
    logits = np.zeros((len(capsules), outputs))
    for turn in range(routings):
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        routed = [
            sum(shares[n, m] * predictions[n, m] for n in range(len(capsules)))
            for m in range(outputs)
        ]
        for n, m in predictions if turn < routings - 1 else ():
            direction = routed[m] / np.linalg.norm(routed[m])
            agreement = predictions[n, m] @ direction
            logits[n, m] = agreement + (logits[n, m] if accumulate else 0)
    return np.array([plain_squash(vector) for vector in routed])


def test_squashing_keeps_the_direction_and_bounds_the_length():
    vectors = np.random.default_rng(0).normal(size=(3, 4, 5)) * 3
    expected = np.apply_along_axis(plain_squash, -1, vectors)
    np.testing.assert_allclose(squashed(vectors), expected, atol=1e-6)
    np.testing.assert_array_equal(squashed(np.zeros((1, 5), np.float32)), 0)


def test_primary_capsules_are_runs_of_the_channels_of_one_place():
    picture = np.random.default_rng(0).normal(size=(1, 2, 3, 8)).astype(np.float32)
    ours = np.asarray(PrimaryCapsules(4)(picture))[0]
    expected = [
        plain_squash(picture[0, frame, coefficient, first : first + 4])
        for frame in range(2)
        for coefficient in range(3)
        for first in (0, 4)
    ]
    np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("routings", [1, 2, 4])
def test_routing_follows_its_equations(routings, accumulate):
    inputs = np.random.default_rng(1).normal(size=(2, 7, 4)).astype(np.float32)
    layer = RoutedCapsules(3, 5, routings, accumulate)
    ours = layer(inputs)
    kernel = np.array(layer.kernel).astype(float)
    expected = [plain_routing(clip, kernel, 3, routings, accumulate) for clip in inputs]
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_every_round_and_the_sum_of_logits_make_a_difference():
    inputs = np.random.default_rng(1).normal(size=(2, 7, 4)).astype(np.float32)
    outputs = []
    for routings, accumulate in [(1, False), (2, False), (3, False), (3, True)]:
        layer = RoutedCapsules(3, 5, routings, accumulate)
        layer.build(inputs.shape)
        layer.kernel.assign(np.random.default_rng(2).normal(size=(4, 15)))
        outputs.append(np.asarray(layer(inputs)))
    for index, one in enumerate(outputs):
        for other in outputs[:index]:
            assert np.abs(one - other).max() > 1e-3


def test_capsules_are_multiplied_by_what_they_attend_to():
    model = build_cpac((100, 39), 3, **SMALL)
    randomise(model)
    model.get_layer("attention").set_weights([np.float32(3.0)])
    names = ["primary_capsules", "attended_capsules"]
    inside = keras.Model(model.input, [model.get_layer(name).output for name in names])
    primary, ours = (np.asarray(item) for item in inside(clips(100)))
    assert primary.shape == (4, 8 * 1 * 3, 5)
    for capsules, attended in zip(primary, ours, strict=True):
        likeness = np.exp(3.0 * capsules @ capsules.T)
        seen = likeness / likeness.sum(axis=1, keepdims=True) @ capsules
        np.testing.assert_allclose(attended, capsules * seen, atol=1e-5)


def test_the_embedding_is_the_average_routed_capsule():
    model = build_cpac((60, 39), 3, **SMALL)
    randomise(model)
    names = ["attended_capsules", "embedding"]
    inside = keras.Model(model.input, [model.get_layer(name).output for name in names])
    attended, ours = (np.asarray(item) for item in inside(clips()))
    kernel = np.array(model.get_layer("capsules").kernel).astype(float)
    expected = [
        plain_routing(clip, kernel, 3, 3, False).mean(axis=0) for clip in attended
    ]
    np.testing.assert_allclose(ours, expected, atol=1e-5)


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
    model.compile("sgd", "categorical_crossentropy", jit_compile=False)
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


def test_a_training_step_reaches_every_weight():
    model = build_cpac((60, 39), 3, **SMALL)
    before = [np.array(weight) for weight in model.trainable_weights]
    # Adam moves whatever has a gradient, however small; an untrained network's
    # capsules are short, and squashed twice.
    adam = keras.optimizers.Adam(1e-3, epsilon=1e-15)
    model.compile(adam, "categorical_crossentropy", jit_compile=False)
    model.train_on_batch(clips(), np.eye(3)[[0, 1, 2, 0]])
    for weight, old in zip(model.trainable_weights, before, strict=True):
        assert np.abs(np.array(weight) - old).max() > 1e-4, weight.path


def test_a_step_of_capsules_compiled_by_xla_is_the_same_step():
    picture = np.random.default_rng(0).normal(size=(4, 3, 2, 8)).astype(np.float32)
    after = []
    for fused in (True, False):
        given = keras.Input((3, 2, 8))
        routed = RoutedCapsules(3, 5)(PrimaryCapsules(4)(given))
        answer = keras.layers.Dense(3, "softmax")(keras.layers.Flatten()(routed))
        model = keras.Model(given, answer)
        randomise(model)
        model.compile(
            keras.optimizers.SGD(1.0), "categorical_crossentropy", jit_compile=fused
        )
        model.train_on_batch(picture, np.eye(3)[[0, 1, 2, 0]])
        after.append(model.get_weights())
    for fused, plain in zip(*after, strict=True):
        np.testing.assert_allclose(fused, plain, atol=1e-6)


def test_a_silent_clip_leaves_finite_weights():
    model = build_cpac((60, 39), 3, **SMALL)  # biases 0: every capsule is 0
    model.compile("sgd", "categorical_crossentropy", jit_compile=False)
    model.train_on_batch(0 * clips(), np.eye(3)[[0, 1, 2, 0]])
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_clips_of_any_length_have_the_answer_of_a_network_of_that_length():
    model = build_cpac((None, 39), 3, **SMALL)
    randomise(model)
    model.jit_compile = False  # one program whose frames are unknown
    for frames in (LEAST, LEAST + 1, 121):
        fixed = build_cpac((frames, 39), 3, **SMALL)
        fixed.set_weights(model.get_weights())
        np.testing.assert_allclose(
            model.predict_on_batch(clips(frames)), fixed(clips(frames)), atol=1e-6
        )


def test_the_least_size_leaves_one_place_and_a_smaller_one_is_named():
    model = build_cpac((LEAST, LEAST), 3, **SMALL)
    assert model.get_layer("primary_convolution").output.shape[1:3] == (1, 1)
    for shape, name in (((37, 39), "frames"), ((None, 37), "coefficients")):
        with pytest.raises(ValueError, match=f"{name}: 37; cpac needs 38 or more"):
            build_cpac(shape, 3)


@pytest.mark.parametrize("frozen", [True, False])
def test_keras_files_reload_without_custom_objects(frozen, tmp_path):
    model = build_cpac((None, 39), 3, **SMALL, frozen_normalisation=frozen)
    randomise(model)
    model.save(tmp_path / "a.keras")
    again = keras.saving.load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(again(clips()), model(clips()))
    again.compile("sgd", "categorical_crossentropy", jit_compile=False)
    again.train_on_batch(clips(), np.eye(3)[[0, 1, 2, 0]])
    means = [
        np.array(item.get_layer("normalisation_1").moving_mean)
        for item in (model, again)
    ]
    assert np.array_equal(*means) == frozen


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": 0}, "'filters': 0; give a whole number from 1"),
        ({"primary_capsules": 0}, "'primary_capsules': 0; give a whole number from 1"),
        ({"capsules": True}, "'capsules': True; give a whole number from 1"),
        ({"capsule_size": "8"}, "'capsule_size': '8'; give a whole number from 1"),
        ({"routings": 0}, "'routings': 0; give a whole number from 1"),
        ({"accumulate": 1}, "'accumulate': 1; give True or False"),
        ({"frozen_normalisation": None}, "'frozen_normalisation': None; give True or"),
        ({"first_dropout": 1}, "'first_dropout': 1; give 0 to below 1"),
        ({"later_dropout": -0.1}, "'later_dropout': -0.1; give 0 to below 1"),
        ({"dropout": "no"}, "'dropout': 'no'; give 0 to below 1"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=f"cpac option {message}"):
        build_cpac((60, 39), 3, **options)
