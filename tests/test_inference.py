"""A recording alone is answered as in a batch of features."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import soundfile

from lib import corpora, features, inference, models
from lib.files import REPOSITORY

SETTINGS = features.front_end("timnet")
LENGTH = 22_050


@pytest.fixture
def recordings(tmp_path):
    """Recordings of several rates, shorter and longer than a clip."""
    rng = np.random.default_rng(0)
    paths = []
    for rate, seconds in ((48_000, 1.5), (16_000, 0.4), (22_050, 1.0)):
        paths.append(tmp_path / f"{rate}.wav")
        noise = 0.1 * np.cumsum(rng.normal(size=int(rate * seconds)))
        soundfile.write(paths[-1], noise / np.abs(noise).max(), rate)
    return paths


def build(name, settings=SETTINGS, length=LENGTH):
    keras.utils.set_random_seed(46)
    shape = (features.num_frames(settings, length), settings.coefficients)
    return models.build_model(name, shape, 7)


def compare(name, recordings):
    """The compiled network beside the one that answers whole corpora."""
    model = build(name)
    recogniser = inference.Recogniser(model, SETTINGS, LENGTH)
    x = np.stack([features.extract(path, SETTINGS, LENGTH) for path in recordings])
    rng, answers = np.random.default_rng(1), []
    for _ in range(2):
        answers.append(models.predict(model, x)[0])
        made = [recogniser.probabilities(path) for path in recordings]
        np.testing.assert_allclose(made, answers[-1], atol=1e-5)
        # Weights that are loaded later count.
        model.set_weights(
            [old + rng.uniform(0, 0.1, old.shape) for old in model.get_weights()]
        )
    assert np.abs(answers[1] - answers[0]).max() > 1e-3


@pytest.mark.parametrize("name", ["timnet", "cpac"])
def test_a_recording_is_answered_as_in_a_batch(name, recordings):
    compare(name, recordings)


def test_jax_answers_alike(recordings):
    code = (
        "import sys; from pathlib import Path; "
        "sys.path.insert(0, 'tests'); import test_inference; "
        "test_inference.compare('timnet', [Path(name) for name in sys.argv[1:]]); "
        "import keras; print(keras.backend.backend())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, recordings)],
        env={"KERAS_BACKEND": "jax", "PATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert done.stdout.split()[-1:] == ["jax"], done.stderr


def test_pieces_are_averaged(recordings):
    options = {"pieces": "all", "clip_seconds": 0.5}
    settings = features.front_end("timnet", options)
    length = 11_025
    model = build("gru", settings, length)
    pieces = features.extract(recordings[0], settings, length)
    assert len(pieces) == 3
    made = inference.Recogniser(model, settings, length).probabilities(recordings[0])
    expected = models.predict(model, pieces)[0].mean(axis=0)
    np.testing.assert_allclose(made, expected, atol=1e-5)


def test_another_front_end_or_clip_is_refused(tmp_path):
    model, fewer = build("gru"), features.front_end("timnet", {"coefficients": 13})
    recogniser = inference.Recogniser(model, SETTINGS, LENGTH)
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    clip = np.zeros((43, 39), np.float32)
    for call, message in (
        (lambda: inference.Recogniser(model, fewer, LENGTH), r"\(44, 39\).*\(44, 13\)"),
        (lambda: inference.Recogniser(model, SETTINGS, 96_000), r"gives \(188, 39\)"),
        (lambda: recogniser.of_clip(clip), r"\(43, 39\).*give \(44, 39\)"),
        (lambda: recogniser.probabilities(tmp_path / "a.wav"), "not readable as audio"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_the_readmes_recording_is_answered(tmp_path, monkeypatch, recordings):
    text = (REPOSITORY / "README.md").read_text("utf-8")
    code = text.partition("### One recording")[2].split("```")[1]
    demo = corpora.get("DEMO")
    length = features.clip_length(SETTINGS, demo)
    shape = (features.num_frames(SETTINGS, length), 39)
    network = models.build_model("timnet", shape, len(demo.labels), dilations=2)
    (tmp_path / "Models" / "RUN").mkdir(parents=True)
    network.save(tmp_path / "Models" / "RUN" / "fold_01.keras")
    recordings[0].rename(tmp_path / "recording.wav")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code.removeprefix("python\n"), names)
    assert names["answers"].shape == (len(demo.labels),)
    assert names["answers"].sum() == pytest.approx(1)
