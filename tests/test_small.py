"""The two small baselines are what they say, and small."""

import numpy as np
import pytest
from references import clips, inside, randomise

from lib.models.small import build_cnn, build_gru


def test_the_cnn_halves_the_frames_and_averages_the_last_block():
    model = build_cnn((None, 5), 3, filters=6)
    randomise(model)
    names = ("conv_1", "conv_2", "conv_3", "normalisation_3", "embedding")
    *convolved, last, embedding = inside(model, clips(13, 5), *names)
    assert [part.shape[1] for part in convolved] == [13, 7, 4]
    wanted = np.maximum(last, 0).mean(axis=1)
    np.testing.assert_allclose(embedding, wanted, atol=1e-5)


@pytest.mark.parametrize(("bidirectional", "width"), [(True, 12), (False, 6)])
def test_the_gru_averages_the_states_of_its_directions(bidirectional, width):
    model = build_gru((None, 5), 3, units=6, bidirectional=bidirectional)
    randomise(model)
    states, embedding = inside(model, clips(13, 5), "recurrent", "embedding")
    assert states.shape == (4, 13, width)
    np.testing.assert_allclose(embedding, states.mean(axis=1), atol=1e-5)
