"""The modified TIM-Net is what the report describes."""

import keras
import numpy as np
import pytest
from references import randomise

from lib import models
from lib.models.modified_timnet import ShuffledFrames

SMALL = {"filters": 4, "dilations": 3, "classifier_units": 6}


@pytest.fixture
def clips():
    return np.random.default_rng(1).normal(size=(6, 40, 5)).astype(np.float32)


def outputs(model, clips, **how):
    return np.asarray(model(clips, **how))


def places(clip, shuffled):
    """Return which frame of a clip stands at each place of its shuffled copy."""
    return [int(np.flatnonzero((clip == row).all(axis=1))[0]) for row in shuffled]


@pytest.mark.parametrize("anew", [False, True])
def test_shuffling_outside_training_is_fixed_unless_as_published(clips, anew):
    model = models.build_model(
        "modified_timnet", (None, 5), 3, shuffle_at_inference=anew, **SMALL
    )
    randomise(model)
    difference = np.abs(outputs(model, clips) - outputs(model, clips)).max()
    assert (difference > 1e-5) if anew else (difference == 0)


def test_training_draws_one_permutation_for_the_whole_batch(clips):
    layer = ShuffledFrames()
    shuffled, again = (outputs(layer, clips, training=True) for _ in range(2))
    order = places(clips[0], shuffled[0])
    assert sorted(order) == list(range(40)) and order != list(range(40))
    np.testing.assert_array_equal(shuffled, clips[:, order])
    assert not np.array_equal(shuffled, again)


@pytest.mark.parametrize("frames", [1, 2, 188, 606, 5000])
def test_the_fixed_order_is_a_permutation_without_pattern(frames):
    clip = np.arange(frames, dtype=np.float32)[None, :, None]
    order = outputs(ShuffledFrames(), clip)[0, :, 0]
    assert sorted(order) == list(range(frames))
    if frames > 100:
        # Neighbours in the new order are no nearer than chance: a third apart.
        assert np.abs(np.diff(order)).mean() == pytest.approx(frames / 3, rel=0.15)
        assert (np.diff(order) == 1).mean() < 0.05


def test_a_clip_too_long_for_the_fixed_order_is_refused():
    with pytest.raises(ValueError, match="32,769 frames; give 32,768"):
        ShuffledFrames()(np.zeros((1, 2**15 + 1, 1), np.float32))


def test_attention_is_softmax_of_scaled_products_with_a_small_query(clips):
    model = models.build_model("modified_timnet", (None, 5), 3, **SMALL)
    wide = models.build_model("modified_timnet", (None, 39), 7)
    assert 0.03 < wide.get_layer("fusion").get_weights()[0].std() < 0.075
    randomise(model)
    names = ("levels", "attention", "fused")
    inside = keras.Model(model.input, [model.get_layer(name).output for name in names])
    levels, weights, fused = (np.asarray(part) for part in inside(clips))
    query = model.get_layer("fusion").get_weights()[0][:, 0]
    powers = np.exp(levels @ query / np.sqrt(4))
    wanted = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(weights[..., 0], wanted, rtol=1e-4)
    average = (levels * wanted[..., None]).sum(axis=1)
    np.testing.assert_allclose(fused, average, rtol=1e-4, atol=1e-6)


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
    gone = outputs(layer, np.ones((4, 50, 30), np.float32), training=True) == 0
    assert 0.3 < gone.mean() < 0.7
    # What is gone is gone along the whole of the other axis.
    assert (gone.all(axis=whole) == gone.any(axis=whole)).all()
    # And each clip has a pattern of its own.
    assert not (gone[0] == gone[1]).all()


def test_dropout_rises_with_depth_as_published_in_every_chain():
    model = models.build_model("modified_timnet", (None, 5), 7, filters=3, stacks=2)
    rates = [
        layer.rate
        for layer in model.layers
        if isinstance(layer, keras.layers.SpatialDropout1D)
    ]
    # Three directions, two sub-blocks each; deeper layers come later.
    wanted = [0.05 + 0.0125 * block for block in range(8)] * 2
    assert rates == pytest.approx(np.repeat(wanted, 6))


def test_without_its_changes_it_is_timnet(clips):
    same = {"filters": 4, "dilations": 3, "dropout": 0.05}
    plain = models.build_model("timnet", (None, 5), 3, **same)
    without = models.build_model(
        "modified_timnet",
        (None, 5),
        3,
        temporal_dropout=0.0,
        dropout_rise=0.0,
        shuffle=False,
        attention=False,
        classifier_units=0,
        **same,
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
        **SMALL | {"classifier_units": units, "dilations": 2},
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
    assert all(path.endswith("convolution/bias") for path in still)
    models.save(model, tmp_path / "model.keras")
    loaded = models.load(tmp_path / "model.keras")
    np.testing.assert_allclose(outputs(loaded, clips), outputs(model, clips), atol=1e-6)
