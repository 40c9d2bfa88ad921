"""A recording alone is answered as in a batch of features."""

import keras
import numpy as np
import pytest
import soundfile

from lib import features, inference, models

SETTINGS = features.front_end("timnet")
LENGTH = 22_050


@pytest.fixture
def recordings(tmp_path):
    """Recordings of two rates, longer and shorter than a clip."""
    rng = np.random.default_rng(0)
    paths = []
    for rate, seconds in ((48_000, 1.5), (16_000, 0.4)):
        paths.append(tmp_path / f"{rate}.wav")
        soundfile.write(paths[-1], rng.uniform(-1, 1, int(rate * seconds)), rate)
    return paths


def build(name, settings=SETTINGS, length=LENGTH):
    keras.utils.set_random_seed(46)
    shape = (features.num_frames(settings, length), settings.coefficients)
    return models.build_model(name, shape, 7)


@pytest.mark.parametrize("name", ["timnet", "cpac"])
def test_a_recording_is_answered_as_in_a_batch(name, recordings):
    """The compiled network beside the one that answers whole corpora."""
    model = build(name)
    recogniser = inference.Recogniser(model, SETTINGS, LENGTH)
    x = np.stack([features.extract(path, SETTINGS, LENGTH) for path in recordings])
    rng, answers = np.random.default_rng(1), []
    for _ in range(2):
        answers.append(models.predict(model, x)[0])
        made = [recogniser.probabilities(path) for path in recordings]
        np.testing.assert_allclose(made, answers[-1], atol=1e-5)
        changed = [old + rng.uniform(0, 0.1, old.shape) for old in model.get_weights()]
        model.set_weights(changed)  # weights that are loaded later count
    assert np.abs(answers[1] - answers[0]).max() > 1e-3


def test_a_clip_is_normalised_as_in_its_run_which_no_speaker_can_be(recordings):
    model = build("gru")
    with pytest.raises(ValueError, match="needs many clips of a speaker"):
        inference.Recogniser(model, SETTINGS, LENGTH, "speaker")
    clip = features.extract(recordings[0], SETTINGS, LENGTH)
    expected = models.predict(model, (clip - clip.mean(axis=0))[np.newaxis])[0][0]
    made = inference.Recogniser(model, SETTINGS, LENGTH, "clip")
    np.testing.assert_allclose(made.probabilities(recordings[0]), expected, atol=1e-5)


def test_pieces_are_averaged(recordings):
    settings = features.front_end("timnet", {"pieces": "all", "clip_seconds": 0.5})
    length = 11_025
    model = build("gru", settings, length)
    pieces = features.extract(recordings[0], settings, length)
    assert len(pieces) == 3
    made = inference.Recogniser(model, settings, length).probabilities(recordings[0])
    expected = models.predict(model, pieces)[0].mean(axis=0)
    np.testing.assert_allclose(made, expected, atol=1e-5)


def test_a_baseline_answers_for_all_labels_also_those_it_never_heard(recordings):
    x = np.stack([features.extract(path, SETTINGS, LENGTH) for path in recordings])
    model = build("svm").fit(x, np.array([1, 5]))
    recogniser = inference.Recogniser(model, SETTINGS, LENGTH)
    made = [recogniser.probabilities(path) for path in recordings]
    np.testing.assert_allclose(made, models.predict(model, x)[0], atol=1e-6)
    assert np.shape(made) == (2, 7)


def test_another_front_end_is_refused():
    fewer = features.front_end("timnet", {"coefficients": 13})
    for settings, length, given in (fewer, LENGTH, "44, 13"), (SETTINGS, 96_000, "188"):
        with pytest.raises(ValueError, match=rf"\(44, 39\).*gives \({given}"):
            inference.Recogniser(build("gru"), settings, length)
