"""The modified TIM-Net is what the report describes."""

import keras
import numpy as np
import pytest
from references import randomise

from lib import models
from lib.models.layers import StackDirections, StaticAttention, fixed_order

SMALL = {"filters": 4, "dilations": 3, "classifier_units": 6}


@pytest.fixture
def clips():
    return np.random.default_rng(1).normal(size=(6, 40, 5)).astype(np.float32)


def outputs(model, clips, **how):
    return np.asarray(model(clips, **how))


def test_inference_is_deterministic_although_a_branch_is_shuffled(clips):
    model = models.build_model("modified_timnet", (None, 5), 3, **SMALL)
    randomise(model)
    np.testing.assert_array_equal(outputs(model, clips), outputs(model, clips))


def test_published_inference_answers_the_same_clip_differently(clips):
    model = models.build_model(
        "modified_timnet", (None, 5), 3, shuffle_at_inference=True, **SMALL
    )
    randomise(model)
    first, second = outputs(model, clips), outputs(model, clips)
    assert np.abs(first - second).max() > 1e-5


def test_training_draws_one_permutation_for_the_whole_batch(clips):
    layer = StackDirections(backward=True, shuffle=True)
    # (branches, frames, batch, coefficients), turned to have the batch second
    stacked = outputs(layer, clips, training=True).swapaxes(1, 2)
    again = outputs(layer, clips, training=True).swapaxes(1, 2)
    np.testing.assert_array_equal(stacked[0], clips)
    np.testing.assert_array_equal(stacked[1], clips[:, ::-1])
    # Which original frame stands at each place of the first clip?
    places = [
        int(np.flatnonzero((clips[0] == frame).all(axis=1))[0])
        for frame in stacked[2, 0]
    ]
    assert sorted(places) == list(range(40)) and places != list(range(40))
    np.testing.assert_array_equal(stacked[2], clips[:, places])
    assert not np.array_equal(stacked[2], again[2])


@pytest.mark.parametrize("frames", [1, 2, 188, 606, 5000])
def test_the_fixed_order_is_a_permutation_without_pattern(frames):
    order = np.asarray(fixed_order(np.arange(frames, dtype=np.int32)))
    assert sorted(order) == list(range(frames))
    if frames > 100:
        # Neighbours in the new order are no nearer than chance: a third apart.
        assert np.abs(np.diff(order)).mean() == pytest.approx(frames / 3, rel=0.15)
        steps = np.diff(order)
        assert (steps == 1).mean() < 0.05


def test_static_attention_is_softmax_of_scaled_products():
    rng = np.random.default_rng(0)
    levels = rng.normal(size=(2, 3, 4)).astype(np.float32)
    layer = StaticAttention()
    layer.build((None, 3, 4))
    query = rng.normal(size=4).astype(np.float32)
    layer.set_weights([query])
    got = outputs(layer, levels)
    for clip, value in zip(levels, got, strict=True):
        scores = np.array([float(np.dot(query, level)) / 2.0 for level in clip])
        weights = np.exp(scores) / np.exp(scores).sum()
        wanted = sum(w * level for w, level in zip(weights, clip, strict=True))
        np.testing.assert_allclose(value, wanted, rtol=1e-5)


def test_the_query_starts_small():
    model = models.build_model("modified_timnet", (None, 39), 7)
    query = model.get_layer("fusion").get_weights()[0]
    assert 0.03 < query.std() < 0.075


@pytest.mark.parametrize(("mode", "whole"), [("coefficients", (1,)), ("frames", (2,))])
def test_input_dropout_takes_whole_coefficients_or_whole_frames(mode, whole):
    model = models.build_model(
        "modified_timnet",
        (None, 30),
        3,
        temporal_dropout=0.5,
        temporal_dropout_mode=mode,
        **SMALL,
    )
    layer = model.get_layer("temporal_dropout")
    ones = np.ones((4, 50, 30), np.float32)
    gone = outputs(layer, ones, training=True) == 0
    assert 0.3 < gone.mean() < 0.7
    # What is gone is gone along the whole of the other axis.
    assert (gone.all(axis=whole) == gone.any(axis=whole)).all()
    # And each clip has a pattern of its own.
    assert not (gone[0] == gone[1]).all()


def test_dropout_rises_with_depth_as_published():
    model = models.build_model("modified_timnet", (None, 39), 7)
    got = [
        model.get_layer(f"block_1_dilation_{2**block}").dropout for block in range(8)
    ]
    assert got == pytest.approx([0.05 + 0.0125 * block for block in range(8)])
    assert got[-1] == pytest.approx(0.1375)


def test_without_its_changes_it_is_timnet(clips):
    plain = models.build_model(
        "timnet", (None, 5), 3, filters=4, dilations=3, dropout=0.05
    )
    without = models.build_model(
        "modified_timnet",
        (None, 5),
        3,
        filters=4,
        dilations=3,
        temporal_dropout=0.0,
        dropout_rise=0.0,
        shuffle=False,
        attention=False,
        classifier_units=0,
    )
    randomise(plain)
    without.set_weights(plain.get_weights())
    np.testing.assert_allclose(
        outputs(without, clips), outputs(plain, clips), atol=1e-6
    )


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("units", [0, 6])
def test_every_combination_trains_and_reloads(
    tmp_path, clips, shuffle, attention, units
):
    model = models.build_model(
        "modified_timnet",
        (40, 5),
        3,
        **SMALL | {"classifier_units": units},
        shuffle=shuffle,
        attention=attention,
    )
    before = model.get_weights()
    # A step long enough that a scale of one moves at all in single precision.
    descent = keras.optimizers.SGD(1.0)
    model.compile(descent, "categorical_crossentropy", jit_compile=False)
    model.train_on_batch(clips, np.eye(3)[[0, 1, 2, 0, 1, 2]])
    still = {
        weight.path
        for weight, then in zip(model.weights, before, strict=True)
        if np.abs(np.array(weight) - then).max() == 0
    }
    # Batch normalisation takes away what the bias before it adds.
    biases = {weight.path for weight in model.weights if "/convolution_" in weight.path}
    assert still <= {path for path in biases if path.endswith("bias")}
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(outputs(loaded, clips), outputs(model, clips), atol=1e-6)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("temporal_dropout", 1.0, "'temporal_dropout': 1.0; give 0 to below 1"),
        ("temporal_dropout_mode", "time", "'coefficients', 'frames'"),
        ("dropout_rise", 0.5, "the last one would drop 3.55"),
        ("shuffle", "yes", "'shuffle': 'yes'; give True or False"),
        ("classifier_units", -1, "'classifier_units': -1; give a whole number"),
        ("dilations", 0, "modified_timnet option 'dilations': 0"),
    ],
)
def test_a_bad_option_is_named(option, value, message):
    with pytest.raises(ValueError, match=message):
        models.build_model("modified_timnet", (None, 39), 7, **{option: value})
