"""The modified TIM-Net is what the report describes."""

import keras
import numpy as np
import pytest
from references import clips, inside, randomise

from lib import models
from lib.models.modified_timnet import ShuffledFrames


def small(**chosen):
    options = {"filters": 4, "dilations": 3, "classifier_units": 6} | chosen
    return models.build_model("modified_timnet", (None, 5), 3, **options)


BATCH = clips(40, 5, number=6)


def outputs(model, clips, **how):
    return np.asarray(model(clips, **how))


def test_shuffling_outside_training_is_fixed_unless_as_published():
    for anew in (False, True):
        model = small(shuffle_at_inference=anew)
        randomise(model)
        difference = np.abs(outputs(model, BATCH) - outputs(model, BATCH)).max()
        assert (difference > 1e-5) if anew else (difference == 0)


def test_training_draws_one_permutation_for_the_whole_batch():
    layer, batch = ShuffledFrames(), np.arange(40.0)[None, :, None].repeat(3, axis=0)
    shuffled, again = (outputs(layer, batch, training=True) for _ in range(2))
    order = shuffled[0, :, 0].tolist()
    assert sorted(order) == list(range(40)) and order != list(range(40))
    np.testing.assert_array_equal(shuffled, shuffled[:1].repeat(3, axis=0))
    assert not np.array_equal(shuffled, again)


def test_the_fixed_order_is_a_permutation_without_pattern():
    for frames in (1, 188, 606):
        clip = np.arange(frames, dtype=np.float32)[None, :, None]
        order = outputs(ShuffledFrames(), clip)[0, :, 0]
        assert sorted(order) == list(range(frames))
    # Neighbours in the new order are no nearer than chance: a third apart.
    assert np.abs(np.diff(order)).mean() == pytest.approx(frames / 3, rel=0.15)
    with pytest.raises(ValueError, match="32,769 frames; give 32,768"):
        ShuffledFrames()(np.zeros((1, 2**15 + 1, 1), np.float32))


def test_attention_is_softmax_of_scaled_products_with_a_small_query():
    model = small()
    wide = models.build_model("modified_timnet", (None, 39), 7)
    assert 0.03 < wide.get_layer("fusion").get_weights()[0].std() < 0.075
    randomise(model)
    names = ("levels", "attention", "fused")
    levels, weights, fused = inside(model, BATCH, *names)
    query = model.get_layer("fusion").get_weights()[0][:, 0]
    powers = np.exp(levels @ query / np.sqrt(4))
    wanted = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(weights[..., 0], wanted, rtol=1e-4)
    average = (levels * wanted[..., None]).sum(axis=1)
    np.testing.assert_allclose(fused, average, rtol=1e-4, atol=1e-6)


def test_input_dropout_takes_whole_coefficients_or_whole_frames():
    for mode, other in (("coefficients", 1), ("frames", 2)):
        model = small(temporal_dropout=0.5, temporal_dropout_mode=mode)
        layer = model.get_layer("temporal_dropout")
        gone = outputs(layer, np.ones((16, 50, 5), np.float32), training=True) == 0
        assert gone.any() and not gone.all()
        # What is gone is gone along the whole of the other axis.
        assert (gone.all(axis=other) == gone.any(axis=other)).all()
        # And clips have patterns of their own; by chance, 16 are not the same.
        assert len(np.unique(gone.reshape(16, -1), axis=0)) > 1


def test_dropout_rises_with_depth_as_published_in_every_chain():
    model = models.build_model("modified_timnet", (None, 5), 7, filters=3, stacks=2)
    kind = keras.layers.SpatialDropout1D
    rates = [layer.rate for layer in model.layers if isinstance(layer, kind)]
    # Three directions, two sub-blocks each; deeper layers come later.
    wanted = [0.05 + 0.0125 * block for block in range(8)] * 2
    assert rates == pytest.approx(np.repeat(wanted, 6))


def test_without_its_changes_it_is_timnet():
    plain = models.build_model("timnet", (None, 5), 3, filters=4, dilations=3)
    without = small(shuffle=False, attention=False, classifier_units=0)
    randomise(plain)
    without.set_weights(plain.get_weights())
    np.testing.assert_allclose(without(BATCH), plain(BATCH), atol=1e-6)
