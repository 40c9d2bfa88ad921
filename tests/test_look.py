"""Looking into a network shows what is there."""

import keras
import numpy as np
import pytest
from keras import layers

from lib import models
from lib.models import look
from lib.models.timnet import receptive_field

FRAMES = 41


@pytest.fixture(scope="module")
def clips():
    return np.random.default_rng(0).normal(size=(70, FRAMES, 5)).astype(np.float32)


def small(name="timnet", **options):
    keras.utils.set_random_seed(0)
    return models.build_model(
        name, (None, 5), 3, **{"filters": 5, "dilations": 3} | options
    )


def test_a_gate_is_what_a_block_multiplies_by(clips):
    model = small()
    names = [block.name for block in look.blocks(model)]
    assert len(names) == 3
    gates = look.gates(model, clips)
    for name, gate in zip(names, gates, strict=True):
        block = model.get_layer(name)
        inside = keras.Model(model.input, [block.input, block.output])
        before, after = (np.asarray(part).swapaxes(1, 2) for part in inside(clips))
        assert gate.shape == before.shape == (2, len(clips), FRAMES, 5)
        np.testing.assert_allclose(before * gate, after, atol=1e-5)


def test_no_gate_of_timnet_closes_but_one_after_another_activation_can(clips):
    assert min(gate.min() for gate in look.gates(small(), clips)) == 0.5
    other = look.gates(small(activation="leaky_relu"), clips)
    assert min(gate.min() for gate in other) < 0.5


def test_fusion_weights_are_those_of_the_network():
    model = small()
    model.get_layer("embedding").set_weights([np.array([[1.0], [-2.0], [0.5]])])
    np.testing.assert_allclose(look.fusion(model), [1, -2, 0.5])


def test_a_network_without_fusion_or_attention_is_named(clips):
    with pytest.raises(ValueError, match="cnn has 0 layers WeightedFusion"):
        look.fusion(models.build_model("cnn", (None, 5), 3))
    with pytest.raises(ValueError, match="timnet has 0 layers StaticAttention"):
        look.attention(small(), clips)


def test_attention_is_the_softmax_of_query_times_level(clips):
    model = small("modified_timnet", classifier_units=4)
    weights = look.attention(model, clips)
    (query,) = model.get_layer("fusion").get_weights()
    (levels,) = look.answers(
        keras.Model(model.input, model.get_layer("levels").output), clips
    )
    powers = np.exp(levels @ query / np.sqrt(5))
    expected = powers / powers.sum(axis=1, keepdims=True)
    assert weights.shape == (len(clips), 3)
    np.testing.assert_allclose(weights, expected, rtol=1e-4)


def test_a_kernel_is_what_an_impulse_leaves_behind():
    model = models.build_model(
        "cktim", (None, 3), 2, filters=3, blocks=1, kernel_dropout=0.0
    )
    kernel = look.kernel(model, 12)
    assert kernel.shape == (12, 3, 3)
    impulse = np.zeros((2, 12, 1, 3), np.float32)  # (branches, frames, batch, in)
    impulse[0, 0, 0, 1] = 1.0
    convolution = model.get_layer("block_1").convolutions[0]
    left = np.asarray(convolution(impulse, training=True))[0, :, 0]
    np.testing.assert_allclose(left[::-1], kernel[:, 1], atol=1e-5)


# --- footprints -----------------------------------------------------------------------


def seen(row, at):
    """Return the first and last frame, from the one looked at, that has an effect."""
    (found,) = np.nonzero(row)
    return found.min() - at, found.max() - at


def test_a_causal_block_sees_exactly_its_receptive_field(clips):
    forwards, backwards = look.footprint(small(activation="tanh"), clips[0])
    for number in range(3):
        reach = receptive_field(number + 1) - 1
        assert seen(forwards[number], FRAMES // 2) == (-reach, 0)
        assert seen(backwards[number], FRAMES // 2) == (0, reach)


def test_a_block_that_is_not_causal_sees_both_sides(clips):
    forwards, _ = look.footprint(small(causal=False, activation="tanh"), clips[0])
    for number in range(3):
        first, last = seen(forwards[number], FRAMES // 2)
        assert last - first == receptive_field(number + 1) - 1
        assert first <= 0 < last


def test_any_frame_can_be_looked_at_and_one_direction_alone(clips):
    views = look.footprint(small(backward=False, activation="tanh"), clips[0], at=30)
    assert views.shape == (1, 3, FRAMES)
    assert seen(views[0, 2], 30) == (-(receptive_field(3) - 1), 0)


def test_a_shuffled_branch_is_left_out(clips):
    views = look.footprint(small("modified_timnet"), clips[0])
    assert views.shape == (2, 3, FRAMES)


# --- sensitivity ----------------------------------------------------------------------


class OneFrame(layers.Layer):
    """Looks at frame 7 and nothing else."""

    def call(self, inputs):
        return inputs[:, 7]


def test_a_disturbance_matters_where_the_network_looks(clips):
    clip = keras.Input((FRAMES, 5))
    model = keras.Model(clip, layers.Dense(3)(OneFrame(name="embedding")(clip)))
    moved = look.sensitivity(model, clips[0], width=3, size=0.5)
    assert np.flatnonzero(moved).tolist() == [6, 7, 8]
    # Plus or minus half a standard deviation in every coefficient.
    expected = np.linalg.norm(0.5 * clips[0].std(axis=0)) / np.linalg.norm(clips[0, 7])
    np.testing.assert_allclose(moved[6:9], expected, rtol=1e-4)


def test_an_average_over_time_cares_for_all_frames_alike(clips):
    clip = keras.Input((FRAMES, 5))
    average = layers.GlobalAveragePooling1D(name="embedding")(clip)
    model = keras.Model(clip, layers.Dense(3)(average))
    quiet = clips[0].copy()
    quiet[:20] *= 0.01
    moved = look.sensitivity(model, quiet, width=1)
    np.testing.assert_allclose(moved, moved[0], rtol=1e-2)


# --- batches --------------------------------------------------------------------------


def test_answers_of_many_clips_are_those_of_single_ones(clips):
    model = small()
    inside = keras.Model(
        model.input, [look.blocks(model)[0].output, model.get_layer("embedding").output]
    )
    block, embedding = look.answers(inside, clips)
    assert block.shape == (2, FRAMES, 70, 5) and embedding.shape == (70, 5)
    for row in (0, 63, 64, 69):
        one_block, one_embedding = look.answers(inside, clips[row : row + 1])
        np.testing.assert_allclose(block[:, :, row], one_block[:, :, 0], atol=1e-5)
        np.testing.assert_allclose(embedding[row], one_embedding[0], atol=1e-5)
