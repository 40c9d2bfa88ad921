"""TIM-Net is the published network."""

import numpy as np
import pytest
from references import (
    clips,
    inside,
    plain_timnet,
    randomise,
    reach,
    write_official_file,
)

from lib import models, official

BLOCKS, SIDES = 4, ("forward", "backward")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Return stock layers and ours, with the same weights by the authors' file."""
    plain = plain_timnet(40, 5, 3, blocks=BLOCKS, filters=5)
    randomise(plain)
    path = tmp_path_factory.mktemp("weights") / "5-fold_weights_best_1.hdf5"
    write_official_file(path, plain)
    return plain, official.load_weights(path, (None, 5), 3)


BATCH = clips(40, 5, number=6)


@pytest.mark.parametrize("frames", [1, 7, 300])
def test_outputs_equal_those_of_stock_layers_at_any_length(pair, frames):
    plain, ours = pair
    wide = plain_timnet(frames, 5, 3, blocks=BLOCKS, filters=5)
    wide.set_weights(plain.get_weights())
    batch = clips(frames, 5)
    np.testing.assert_allclose(ours(batch), wide(batch), atol=1e-5)


def test_receptive_field_is_what_a_perturbation_reaches():
    frames, at = 121, 60
    # That activation lets every frame through.
    given = {"activation": "tanh", "backward": False, "filters": 4}
    cases = (2, 2, 1, True), (3, 3, 1, True), (2, 2, 2, True), (3, 3, 1, False)
    for blocks, kernel_size, stacks, causal in cases:
        options = {"dilations": blocks, "kernel_size": kernel_size, "stacks": stacks}
        options |= given | {"causal": causal}
        model = models.build_model("timnet", (frames, 4), 2, **options)
        found = reach(model, f"block_{blocks * stacks}_forward", frames)
        reached = np.flatnonzero(found[:, at])
        # There are two convolutions in every block.
        field = 1 + 2 * (kernel_size - 1) * stacks * (2**blocks - 1)
        assert reached.max() - reached.min() + 1 == field
        assert reached.max() == at if causal else reached.max() > at > reached.min()


def small(**chosen):
    options = {"filters": 4, "dilations": 3, "dropout": 0.0} | chosen
    model = models.build_model("timnet", (None, 5), 3, **options)
    randomise(model)
    return model


def test_fusion_is_the_weighted_sum_the_mean_or_the_last_level():
    for fusion, combine in (
        ("weights", lambda levels, weights: np.einsum("blc,l->bc", levels, weights)),
        ("mean", lambda levels, _: levels.mean(axis=1)),
        ("last", lambda levels, _: levels[:, 2]),
    ):
        model = small(fusion=fusion)
        names = [f"block_{block}_{side}" for side in SIDES for block in (1, 2, 3)]
        *blocks, levels, embedding = inside(model, BATCH, *names, "levels", "embedding")
        means = np.mean(blocks, axis=2).swapaxes(0, 1)
        wanted = means[:, :3] + means[:, 3:]
        np.testing.assert_allclose(levels, wanted, rtol=1e-4, atol=1e-6)
        chosen = fusion == "weights"
        weights = model.get_layer("fusion").get_weights()[0][:, 0] if chosen else None
        wanted = combine(wanted, weights)
        np.testing.assert_allclose(embedding, wanted, rtol=1e-4, atol=1e-5)


def test_a_plain_block_adds_and_activates():
    model = small(block="residual", backward=False, activation="tanh")
    before, found = inside(model, BATCH, "input_forward", "block_1_forward")
    hidden = before
    for part in (1, 2):
        hidden = np.tanh(model.get_layer(f"block_1_forward_{part}")(hidden))
    np.testing.assert_allclose(found, np.tanh(before + hidden), atol=1e-6)
