"""TIM-Net is the published network."""

import keras
import numpy as np
import pytest
from keras import layers
from references import clips, in_order, inside, plain_timnet, randomise

from lib import models
from lib.models.timnet import receptive_field

BLOCKS, SIDES = 4, ("forward", "backward")


@pytest.fixture(scope="module")
def pair():
    """Return stock layers, in the authors' order of creation, and ours; same weights.

    The order: both input convolutions; in every block the sub-blocks of the clip, then
    those of its reversal.
    """
    plain = plain_timnet(40, 5, 3, blocks=BLOCKS, filters=5)
    randomise(plain)
    ours = models.build_model("timnet", (None, 5), 3, filters=5, dilations=BLOCKS)
    convolutions = in_order(plain, layers.Conv1D)
    norms = in_order(plain, layers.BatchNormalization)
    fusion, classifier = in_order(plain, layers.Dense)
    targets = [ours.get_layer(f"input_{side}") for side in SIDES]
    ours.get_layer("fusion").set_weights(fusion.get_weights())
    ours.get_layer("probabilities").set_weights(classifier.get_weights())
    for block in range(1, BLOCKS + 1):
        for side in SIDES:
            for part in (1, 2):
                layer = ours.get_layer(f"block_{block}_{side}_{part}")
                targets.append(layer.convolution)
                layer.normalisation.set_weights(norms.pop(0).get_weights())
    for target, source in zip(targets, convolutions, strict=True):
        target.set_weights(source.get_weights())
    return plain, ours


BATCH = clips(40, 5, number=6)


@pytest.mark.parametrize("frames", [1, 7, 300])
def test_outputs_equal_those_of_stock_layers_at_any_length(pair, frames):
    plain, ours = pair
    wide = plain_timnet(frames, 5, 3, blocks=BLOCKS, filters=5)
    wide.set_weights(plain.get_weights())
    batch = clips(frames, 5)
    np.testing.assert_allclose(ours(batch), wide(batch), atol=1e-5)


def test_training_equals_that_of_stock_layers(pair):
    for model in pair:
        for layer in model.layers:
            if isinstance(layer, layers.SpatialDropout1D):
                layer.rate = 0.0
    losses = []
    for model in pair:
        # Plain gradient descent: a weight moves by its gradient.
        descent = keras.optimizers.SGD(0.1)
        model.compile(descent, "categorical_crossentropy", jit_compile=False)
        labels = np.eye(3)[[0, 1, 2, 0, 1, 2]]
        losses.append([model.train_on_batch(BATCH, labels) for _ in range(6)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)
    assert losses[0][0] - losses[0][-1] > 1e-3
    plain, ours = pair
    np.testing.assert_allclose(ours(BATCH), plain(BATCH), atol=1e-3)


@pytest.mark.parametrize(
    ("blocks", "kernel_size", "stacks", "causal"),
    [(2, 2, 1, True), (3, 3, 1, True), (2, 2, 2, True), (3, 3, 1, False)],
)
def test_receptive_field_is_what_a_perturbation_reaches(
    blocks, kernel_size, stacks, causal
):
    frames, at = 121, 60
    options = {"dilations": blocks, "kernel_size": kernel_size, "stacks": stacks}
    # That activation lets every frame through.
    options |= {"activation": "tanh", "causal": causal, "backward": False, "filters": 4}
    model = models.build_model("timnet", (frames, 4), 2, **options)
    changed = clips(frames, 4, 1) + 3.0 * np.eye(frames, dtype="float32")[..., None]
    same = np.repeat(clips(frames, 4, 1), frames, axis=0)  # so that it is rounded alike
    block = f"block_{blocks * stacks}_forward"
    (before,), (after,) = (inside(model, batch, block) for batch in (same, changed))
    (reached,) = np.nonzero(np.abs(after - before)[:, at].max(axis=1))
    field = receptive_field(blocks, kernel_size, stacks)
    assert reached.max() - reached.min() + 1 == field
    assert reached.max() == at if causal else reached.max() > at > reached.min()


# --- ablations ------------------------------------------------------------------------


def small(**chosen):
    model = models.build_model(
        "timnet", (None, 5), 3, filters=4, dilations=3, dropout=0.0, **chosen
    )
    randomise(model)
    return model


@pytest.mark.parametrize(
    ("fusion", "combine"),
    [
        ("weights", lambda levels, weights: np.einsum("blc,l->bc", levels, weights)),
        ("mean", lambda levels, _: levels.mean(axis=1)),
        ("last", lambda levels, _: levels[:, 2]),
    ],
)
def test_fusion_is_the_weighted_sum_the_mean_or_the_last_level(fusion, combine):
    model = small(fusion=fusion)
    names = [f"block_{block}_{side}" for side in SIDES for block in (1, 2, 3)]
    *blocks, levels, embedding = inside(model, BATCH, *names, "levels", "embedding")
    means = np.mean(blocks, axis=2).swapaxes(0, 1)
    wanted = means[:, :3] + means[:, 3:]
    np.testing.assert_allclose(levels, wanted, rtol=1e-4, atol=1e-6)
    weights = None
    if fusion == "weights":
        weights = model.get_layer("fusion").get_weights()[0][:, 0]
    wanted = combine(wanted, weights)
    np.testing.assert_allclose(embedding, wanted, rtol=1e-4, atol=1e-5)


def test_a_plain_block_adds_and_activates():
    model = small(block="residual", backward=False, activation="tanh")
    before, found = inside(model, BATCH, "input_forward", "block_1_forward")
    hidden = before
    for part in (1, 2):
        hidden = np.tanh(model.get_layer(f"block_1_forward_{part}")(hidden))
    np.testing.assert_allclose(found, np.tanh(before + hidden), atol=1e-6)
