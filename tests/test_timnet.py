"""TIM-Net is the published network."""

import re

import keras
import numpy as np
import pytest
from keras import layers
from references import plain_timnet, randomise

from lib import models
from lib.models.timnet import receptive_field

BLOCKS = 4


def in_order(plain, kind):
    """Return a network's layers of a kind in the order of their creation."""
    found = [layer for layer in plain.layers if type(layer) is kind]
    ends = {layer.name: re.search(r"_(\d+)$", layer.name) for layer in found}
    return sorted(found, key=lambda layer: int((ends[layer.name] or [0, 0])[1]))


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
    targets = [ours.get_layer(f"input_{side}") for side in ("forward", "backward")]
    ours.get_layer("fusion").set_weights(fusion.get_weights())
    ours.get_layer("probabilities").set_weights(classifier.get_weights())
    for block in range(1, BLOCKS + 1):
        for side in ("forward", "backward"):
            for part in (1, 2):
                layer = ours.get_layer(f"block_{block}_{side}_{part}")
                targets.append(layer.convolution)
                layer.normalisation.set_weights(norms.pop(0).get_weights())
    for target, source in zip(targets, convolutions, strict=True):
        target.set_weights(source.get_weights())
    return plain, ours


@pytest.fixture
def clips():
    return np.random.default_rng(1).normal(size=(6, 40, 5)).astype(np.float32)


def inside(model, layer):
    found = keras.Model(model.input, model.get_layer(layer).output)
    return lambda clips: np.asarray(found(clips))


def test_outputs_equal_those_of_stock_layers_at_any_length(pair, clips):
    plain, ours = pair
    np.testing.assert_allclose(ours(clips), plain(clips), atol=1e-5)
    for frames in (1, 7, 300):
        clip = np.random.default_rng(frames).normal(size=(2, frames, 5))
        wide = plain_timnet(frames, 5, 3, blocks=BLOCKS, filters=5)
        wide.set_weights(plain.get_weights())
        np.testing.assert_allclose(ours(clip), wide(clip), atol=1e-5)


def test_training_equals_that_of_stock_layers(pair, clips):
    for model in pair:
        for layer in model.layers:
            if isinstance(layer, layers.SpatialDropout1D):
                layer.rate = 0.0
    before = [model.get_weights() for model in pair]
    losses = []
    for model in pair:
        # Plain gradient descent: a weight moves by its gradient.
        descent = keras.optimizers.SGD(0.1)
        model.compile(descent, "categorical_crossentropy", jit_compile=False)
        labels = np.eye(3)[[0, 1, 2, 0, 1, 2]]
        losses.append([model.train_on_batch(clips, labels) for _ in range(6)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)
    assert losses[0][0] - losses[0][-1] > 1e-3
    plain, ours = pair
    np.testing.assert_allclose(ours(clips), plain(clips), atol=1e-3)
    for model, weights in zip(pair, before, strict=True):
        model.set_weights(weights)


@pytest.mark.parametrize("side", ["forward", "backward"])
def test_blocks_are_causal_in_each_direction(pair, clips, side):
    block = inside(pair[1], f"block_4_{side}")
    changed = clips.copy()
    changed[:, 25] += 1.0
    touched = np.abs(block(changed) - block(clips)).max(axis=(0, 2)) > 0
    # The backward direction runs from the last frame to the first.
    first = 25 if side == "forward" else 40 - 1 - 25
    assert not touched[:first].any()
    assert touched[first]


def test_a_gate_is_what_a_block_multiplies_by_and_never_closes(pair, clips):
    signal = inside(pair[1], "input_backward")(clips)
    for block in range(1, BLOCKS + 1):
        gate = inside(pair[1], f"block_{block}_backward_gate")(clips)
        assert gate.min() >= 0.5 and gate.max() < 1.0
        signal = signal * gate
        found = inside(pair[1], f"block_{block}_backward")(clips)
        np.testing.assert_allclose(found, signal, atol=1e-5)


@pytest.mark.parametrize(
    ("blocks", "kernel_size", "stacks"), [(2, 2, 1), (3, 3, 1), (2, 2, 2)]
)
@pytest.mark.parametrize("causal", [True, False])
def test_receptive_field_is_what_a_perturbation_reaches(
    blocks, kernel_size, stacks, causal
):
    frames, at = 121, 60
    model = models.build_model(
        "timnet",
        (frames, 4),
        2,
        dilations=blocks,
        kernel_size=kernel_size,
        stacks=stacks,
        filters=4,
        activation="tanh",  # lets every frame through
        causal=causal,
        backward=False,
    )
    clip = np.random.default_rng(0).normal(size=(frames, 4)).astype(np.float32)
    changed = clip + 3.0 * np.eye(frames, dtype=np.float32)[..., None]
    same = np.repeat(clip[None], frames, axis=0)  # so that it is rounded alike
    block = inside(model, f"block_{blocks * stacks}_forward")
    (reached,) = np.nonzero(np.abs(block(changed) - block(same))[:, at].max(axis=1))
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


def test_without_the_backward_direction_it_is_the_sum_without_it(clips):
    both, forward = small(), small(backward=False)
    for layer in (layer for layer in forward.layers if layer.weights):
        layer.set_weights(both.get_layer(layer.name).get_weights())
    mean = inside(both, "block_3_forward")(clips).mean(axis=1)
    np.testing.assert_allclose(
        inside(forward, "levels")(clips)[:, 2], mean, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("fusion", "combine"),
    [
        ("weights", lambda levels, weights: np.einsum("blc,l->bc", levels, weights)),
        ("mean", lambda levels, _: levels.mean(axis=1)),
        ("last", lambda levels, _: levels[:, 2]),
    ],
)
def test_fusion_is_the_weighted_sum_the_mean_or_the_last_level(clips, fusion, combine):
    model = small(fusion=fusion)
    sides = [
        [inside(model, f"block_{block}_{side}")(clips) for block in (1, 2, 3)]
        for side in ("forward", "backward")
    ]
    levels = np.sum(sides, axis=0).mean(axis=2).swapaxes(0, 1)
    np.testing.assert_allclose(
        inside(model, "levels")(clips), levels, rtol=1e-4, atol=1e-6
    )
    weights = None
    if fusion == "weights":
        weights = model.get_layer("fusion").get_weights()[0][:, 0]
    np.testing.assert_allclose(
        inside(model, "embedding")(clips),
        combine(levels, weights),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_plain_block_adds_and_activates(clips, activation):
    model = small(block="residual", backward=False, activation=activation)
    before = inside(model, "input_forward")(clips)
    hidden = before
    activate = keras.activations.get(activation)
    for part in (1, 2):
        hidden = activate(model.get_layer(f"block_1_forward_{part}")(hidden))
    wanted = np.asarray(activate(before + hidden))
    found = inside(model, "block_1_forward")(clips)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_the_future_matters_only_without_causality(clips):
    changed = clips.copy()
    changed[:, 25:] += 1.0
    for causal in (True, False):
        block = inside(small(causal=causal, backward=False), "block_3_forward")
        difference = np.abs(block(changed) - block(clips))[:, :25]
        assert (difference.max() == 0) == causal
