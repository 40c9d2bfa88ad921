"""The two small baselines are what they say, and small."""

import keras
import numpy as np
import pytest
from references import randomise

from lib.models.small import build_cnn, build_gru


def clips(frames=20, number=4):
    shape = (number, frames, 5)
    return np.random.default_rng(frames).normal(size=shape).astype(np.float32)


def weights(model, name):
    return [np.asarray(weight) for weight in model.get_layer(name).weights]


def embedded(model, batch):
    inside = keras.Model(model.input, model.get_layer("embedding").output)
    return np.asarray(inside(batch))


def plain_block(signal, kernel, normalisation, last):
    """Convolve, normalise, rectify and pool (frames, channels) of one clip."""
    gamma, beta, mean, variance = normalisation
    padded = np.pad(signal, ((2, 2), (0, 0)))
    rows = [
        sum(padded[frame + tap] @ kernel[tap] for tap in range(5))
        for frame in range(len(signal))
    ]
    rows = gamma * (np.array(rows) - mean) / np.sqrt(variance + 1e-3) + beta
    rows = np.maximum(rows, 0)
    if last:
        return rows
    return np.array([rows[at : at + 2].max(axis=0) for at in range(0, len(rows), 2)])


def test_the_cnn_halves_the_frames_and_averages_the_last_block():
    model = build_cnn((None, 5), 3, filters=6)
    randomise(model)
    for frames in (1, 13):
        batch, expected = clips(frames), []
        for signal in batch:
            for number in (1, 2, 3):
                kernel = weights(model, f"conv_{number}")[0]
                normalisation = weights(model, f"normalisation_{number}")
                signal = plain_block(signal, kernel, normalisation, number == 3)
            expected.append(signal.mean(axis=0))
        np.testing.assert_allclose(embedded(model, batch), expected, atol=1e-4)


def plain_states(clip, kernel, recurrent_kernel, bias):
    """Return the states of a gated recurrent unit, (frames, units)."""

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    state, states = np.zeros(len(recurrent_kernel)), []
    for frame in clip:
        of_input = np.split(frame @ kernel + bias[0], 3)
        of_state = np.split(state @ recurrent_kernel + bias[1], 3)
        update = sigmoid(of_input[0] + of_state[0])
        reset = sigmoid(of_input[1] + of_state[1])
        new = np.tanh(of_input[2] + reset * of_state[2])
        state = update * state + (1 - update) * new
        states.append(state)
    return np.array(states)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_gru_averages_the_states_of_its_directions(bidirectional):
    model = build_gru((None, 5), 3, units=6, bidirectional=bidirectional)
    randomise(model)
    values = weights(model, "recurrent")
    expected = []
    for clip in clips(13):
        means = [plain_states(clip, *values[:3]).mean(axis=0)]
        if bidirectional:
            means.append(plain_states(clip[::-1], *values[3:]).mean(axis=0))
        expected.append(np.concatenate(means))
    np.testing.assert_allclose(embedded(model, clips(13)), expected, atol=1e-5)
