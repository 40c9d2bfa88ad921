"""The authors' arrays and weights are read safely and answer as their code does."""

import dataclasses
import json
import os
from pathlib import PurePosixPath

import h5py
import numpy as np
import pytest
import soundfile
from references import plain_timnet, randomise, write_official_file

from lib import corpora, features, models, official
from lib.files import REPOSITORY, read_features

SHARED = REPOSITORY.parent / "shared"
RAVDESS = SHARED / "corpora" / "RAVDESS"
WEIGHTS = SHARED / "weights" / "RAVDE_46"
ORACLE = SHARED / "oracles" / "oracle_RAVDE.npz"
MISSING = [path.name for path in (RAVDESS, WEIGHTS, ORACLE) if not path.exists()]
needs_shared = pytest.mark.skipif(bool(MISSING), reason=f"not there: {MISSING}")


@needs_shared
def test_rows_are_in_the_official_order_with_and_without_audio(tmp_path):
    oracle = np.load(ORACLE)
    names = [PurePosixPath(name).stem for name in oracle["files"].tolist()]
    ravdess, path = corpora.get("RAVDESS"), tmp_path / "RAVDE.npy"
    recordings = corpora.scan(ravdess, RAVDESS)
    assert list(ravdess.labels) == oracle["labels"].tolist()
    write_arrays(path, ravdess, oracle["y"])
    made = official.adopt_official(path, ravdess, tmp_path / "none", tmp_path)
    for files in (made.file.tolist(), [clip.file for clip in recordings]):
        assert [PurePosixPath(file).stem for file in files] == names
    labels = [ravdess.labels.index(clip.label) for clip in recordings]
    assert labels == made.y.tolist() == oracle["y"].tolist()


@needs_shared
@pytest.mark.slow
def test_official_weights_answer_as_the_official_code():
    """All clips of the first fold, and some of each other one."""
    ravdess, settings = corpora.get("RAVDESS"), features.front_end("timnet")
    length = features.clip_length(settings, ravdess)
    recordings, oracle = corpora.scan(ravdess, RAVDESS), np.load(ORACLE)
    scores = json.loads(ORACLE.with_suffix(".json").read_text())
    for fold, file in enumerate(official.fold_files(WEIGHTS, 10), start=1):
        rows = np.flatnonzero(oracle["fold"] == fold)[:: 1 if fold == 1 else 10]
        paths = [recordings[row].path for row in rows]
        x = np.stack([features.extract(path, settings, length) for path in paths])
        model = official.load_weights(file, x.shape[1:], 8)
        probabilities, embeddings = models.predict(model, x)
        theirs = oracle["probabilities"][rows], oracle["embedding"][rows]
        np.testing.assert_allclose(probabilities, theirs[0], atol=1e-4, rtol=0)
        np.testing.assert_allclose(embeddings, theirs[1], atol=1e-3, rtol=1e-3)
        if fold == 1:
            right = probabilities.argmax(axis=1) == oracle["y"][rows]
            assert right.mean() == scores["fold_accuracy"][0]


@pytest.fixture(scope="module")
def plain():
    """TIM-Net of stock layers in the authors' order of creation, weights at random."""
    network = plain_timnet(40, 5, 3, blocks=3, filters=6)
    randomise(network)
    return network


def test_weights_go_by_the_order_of_creation_wherever_it_starts(plain, tmp_path):
    path = tmp_path / "5-fold_weights_best_1.hdf5"
    write_official_file(path, plain, shift=(18, 16, 1))
    clips = np.random.default_rng(1).normal(size=(6, 40, 5)).astype(np.float32)
    ours = official.load_weights(path, (None, 5), 3)
    np.testing.assert_allclose(ours(clips), plain(clips), atol=1e-5)
    with pytest.raises(ValueError, match=r"\(5, 3\) coefficients and.* \(39, 7\)"):
        official.load_weights(path, (None, 39), 7)
    with pytest.raises(FileNotFoundError, match="0 files, not one.*_2.*weights_dir"):
        official.fold_files(tmp_path, 2)


def test_files_of_another_network_are_refused(plain, tmp_path):
    for layer, message in (
        ("lstm", "not an official weight file: 'lstm'"),
        ("conv1d_99", "is not a TIM-Net"),
    ):
        path = tmp_path / "other.hdf5"
        write_official_file(path, plain)
        with h5py.File(path, "a") as file:
            names = [*file.attrs["layer_names"], layer.encode()]
            file.attrs["layer_names"] = np.array(names)
            file[f"{layer}/kernel"] = np.zeros((2, 6, 6))
            file[layer].attrs["weight_names"] = ["kernel"]
        with pytest.raises(ValueError, match=message):
            official.load_weights(path, (None, 5), 3)


def write_arrays(path, corpus, y=None):
    """Write random features as the authors' files hold them; return x."""
    classes = len(corpus.labels)
    if y is None:
        y = np.repeat(np.arange(classes), [*corpus.counts.values()])
    x = np.random.default_rng(0).normal(size=(len(y), 4, 39)).astype(np.float32)
    np.save(path, {"x": x, "y": np.eye(classes, dtype=np.float32)[y]})
    return x


def test_adopted_arrays_are_a_feature_file_with_speakers(tmp_path, monkeypatch):
    monkeypatch.setattr("lib.files.REPOSITORY", tmp_path)  # paths are seen from there
    demo, source = corpora.get("DEMO"), tmp_path / "DEMO.npy"
    x = write_arrays(source, demo)
    clip = tmp_path / "audio" / "elsewhere" / "f1_angry_t2.wav"
    clip.parent.mkdir(parents=True)
    soundfile.write(clip, np.zeros(8000), 16_000)
    made = official.adopt_official("DEMO.npy", demo, tmp_path / "audio", tmp_path)
    kept = read_features(tmp_path / "DEMO-timnet_official.npz")
    np.testing.assert_array_equal(kept.x, x)
    assert kept.about == made.about and kept.about["features"] == "timnet_official"
    stems = [PurePosixPath(file).stem.split("_") for file in kept.file.tolist()]
    assert [stem[0] for stem in stems] == kept.speaker.tolist()
    assert [stem[1] for stem in stems] == kept.label_names[kept.y].tolist()
    # A file that is there has its own name, one that is not the official one.
    assert {"elsewhere/f1_angry_t2.wav", "f1_angry_t3.wav"} <= set(kept.file.tolist())
    # Arrays of unknown clips, and of another corpus.
    path = tmp_path / "a.npy"
    unknown = dataclasses.replace(corpora.get("SAVEE"), checksums="")
    x = write_arrays(path, unknown)
    made = official.adopt_official(path, unknown, tmp_path / "none", tmp_path)
    assert len(set(made.file)) == len(x) and set(made.speaker) == {""}
    with pytest.raises(ValueError, match="holds .* clips per class, DEMO has"):
        official.adopt_official(path, demo, tmp_path, tmp_path)


class Attack:
    """Makes the folder "run" when it is unpickled the ordinary way."""

    def __reduce__(self):
        return os.mkdir, ("run",)


def test_an_arbitrary_pickle_is_refused_and_nothing_of_it_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trap, path = tmp_path / "run", tmp_path / "bad.npy"
    np.save(path, {"x": Attack(), "y": np.eye(2)})
    with pytest.raises(ValueError, match="refused: it asks for posix.mkdir"):
        official.read_official(path)
    assert not trap.exists()
    np.load(path, allow_pickle=True)  # the trap is a real one
    assert trap.exists()


def test_other_files_are_refused(tmp_path):
    for content, message in (
        (np.zeros(3), "plain array"),
        ({"x": np.zeros((2, 3, 4))}, "refused.*'y'"),
        ({"x": np.zeros((2, 3, 4), complex), "y": np.eye(2)}, "refused: x.*are not"),
    ):
        path = tmp_path / "bad.npy"
        np.save(path, content)
        with pytest.raises(ValueError, match=message):
            official.read_official(path)
        path.write_bytes(b"hello")
        with pytest.raises(ValueError, match="refused"):
            official.read_official(path)
        with pytest.raises(FileNotFoundError, match="no official features"):
            official.read_official(tmp_path / "none.npy")
