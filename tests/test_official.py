"""The authors' arrays and weights are read safely and answer as their code does."""

import dataclasses
import json
import os
import pickle
from pathlib import PurePosixPath

import h5py
import keras
import numpy as np
import pytest
import soundfile
from references import plain_timnet, randomise, write_official_file

from lib import corpora, features, models, official
from lib.files import REPOSITORY

SHARED = REPOSITORY.parent / "shared"
RAVDESS = SHARED / "corpora" / "RAVDESS"
WEIGHTS = SHARED / "weights" / "RAVDE_46"
ORACLE = SHARED / "oracles" / "oracle_RAVDE.npz"
MISSING = [path.name for path in (RAVDESS, WEIGHTS, ORACLE) if not path.exists()]
needs_shared = pytest.mark.skipif(
    bool(MISSING), reason=f"not beside the project: {', '.join(MISSING)}"
)


# --- the published answers ------------------------------------------------------------


@pytest.fixture(scope="module")
def oracle():
    with np.load(ORACLE, allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def recordings():
    """The recordings of RAVDESS in the official row order."""
    return corpora.scan(corpora.get("RAVDESS"), RAVDESS)


@needs_shared
def test_rows_are_in_the_official_order_with_and_without_audio(
    oracle, recordings, tmp_path
):
    names = [PurePosixPath(name).stem for name in oracle["files"].tolist()]
    ravdess = corpora.get("RAVDESS")
    assert list(ravdess.labels) == oracle["labels"].tolist()
    write_arrays(tmp_path / "RAVDE.npy", ravdess, y=oracle["y"])
    _, made = official.adopt_official(
        tmp_path / "RAVDE.npy", ravdess, tmp_path / "none", tmp_path
    )
    for files in (made.file.tolist(), [clip.file for clip in recordings]):
        assert [PurePosixPath(file).stem for file in files] == names
    labels = [ravdess.labels.index(clip.label) for clip in recordings]
    assert labels == made.y.tolist() == oracle["y"].tolist()


@needs_shared
@pytest.mark.parametrize(
    "fold",
    [1, *(pytest.param(fold, marks=pytest.mark.slow) for fold in range(2, 11))],
)
def test_official_weights_answer_as_the_official_code(fold, oracle, recordings):
    ravdess, settings = corpora.get("RAVDESS"), features.front_end("timnet")
    length = features.clip_length(settings, ravdess)
    rows = np.flatnonzero(oracle["fold"] == fold)
    paths = [recordings[row].path for row in rows]
    x = np.stack([features.extract(path, settings, length) for path in paths])
    file = official.fold_files(WEIGHTS, 10)[fold - 1]
    model = official.load_weights(file, x.shape[1:], 8)
    probabilities, embeddings = models.predict(model, x)
    np.testing.assert_allclose(
        probabilities, oracle["probabilities"][rows], atol=1e-4, rtol=0
    )
    np.testing.assert_allclose(
        embeddings, oracle["embedding"][rows], atol=1e-3, rtol=1e-3
    )
    scores = json.loads(ORACLE.with_suffix(".json").read_text())
    right = probabilities.argmax(axis=1) == oracle["y"][rows]
    assert right.mean() == scores["fold_accuracy"][fold - 1]


@needs_shared
@pytest.mark.slow
def test_features_have_the_official_moments(oracle, recordings, tmp_path):
    made = features.prepare(corpora.get("RAVDESS"), recordings, tmp_path, verbose=0)
    flat = made.features.x.reshape(-1, 39).astype(float)
    np.testing.assert_allclose(flat.mean(axis=0), oracle["mfcc_mean"], atol=1e-3)
    np.testing.assert_allclose(flat.std(axis=0), oracle["mfcc_std"], atol=1e-3)


# --- weights --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain():
    """TIM-Net of stock layers in the authors' order of creation, weights at random."""
    keras.utils.clear_session()
    network = plain_timnet(40, 5, 3, blocks=3, filters=6)
    randomise(network)
    return network


@pytest.mark.parametrize("shift", [(0, 0, 0), (18, 16, 1)])
def test_weights_go_by_the_order_of_creation_wherever_it_starts(plain, shift, tmp_path):
    path = tmp_path / "5-fold_weights_best_2.hdf5"
    write_official_file(path, plain, shift=shift)
    clips = np.random.default_rng(1).normal(size=(6, 40, 5)).astype(np.float32)
    ours = official.load_weights(path, (None, 5), 3)
    np.testing.assert_allclose(ours(clips), plain(clips), atol=1e-5)


def test_wrong_files_are_refused(plain, tmp_path):
    path = tmp_path / "5-fold_weights_best_1.hdf5"
    write_official_file(path, plain)
    with pytest.raises(ValueError, match="5 coefficients and 3 classes.*39 and 7"):
        official.load_weights(path, (None, 39), 7)
    assert official.fold_files(tmp_path, 1) == [path]
    (tmp_path / "10-fold_weights_best_1.hdf5").touch()
    for folder, found in ((tmp_path, 2), (tmp_path / "nowhere", 0)):
        with pytest.raises(FileNotFoundError, match=f"{found} files match.*best_1"):
            official.fold_files(folder, 1)
    with pytest.raises(ValueError, match="none.hdf5.*No such file"):
        official.load_weights(tmp_path / "none.hdf5", (None, 5), 3)
    path.write_bytes(b"not HDF5")
    with pytest.raises(ValueError, match="not an official weight file"):
        official.load_weights(path, (None, 5), 3)


@pytest.mark.parametrize(
    ("layer", "arrays", "message"),
    [
        ("lstm", {"kernel": (5, 6)}, "not an official weight file: 'lstm'"),
        ("conv1d_99", {"kernel": (2, 6, 6), "bias": (6,)}, "is not a TIM-Net"),
        ("conv1d_3", {"kernel": (3, 6, 6), "bias": (6,)}, "3, 6, 6|same shape"),
    ],
)
def test_files_of_another_network_are_refused(layer, arrays, message, plain, tmp_path):
    path = tmp_path / "other.hdf5"
    write_official_file(path, plain)
    with h5py.File(path, "a") as file:
        if layer in file:
            del file[layer]
        else:
            names = [*file.attrs["layer_names"], layer.encode()]
            file.attrs["layer_names"] = np.array(names)
        for name, shape in arrays.items():
            file[f"{layer}/{layer}/{name}:0"] = np.zeros(shape)
        weights = [f"{layer}/{name}:0".encode() for name in arrays]
        file[layer].attrs["weight_names"] = np.array(weights)
    with pytest.raises(ValueError, match=message):
        official.load_weights(path, (None, 5), 3)


# --- arrays ---------------------------------------------------------------------------


def write_arrays(path, corpus, counts=None, y=None):
    """Write random features as the authors' files hold them; return x."""
    if y is None:
        y = np.repeat(
            np.arange(len(corpus.labels)), counts or [*corpus.counts.values()]
        )
    x = np.random.default_rng(0).normal(size=(len(y), 4, 39)).astype(np.float32)
    content = {"x": x, "y": np.eye(len(corpus.labels), dtype=np.float32)[y]}
    np.save(path, content, allow_pickle=True)
    return x


def test_adopted_arrays_are_a_feature_file_with_speakers(tmp_path):
    demo = corpora.get("DEMO")
    x = write_arrays(tmp_path / "DEMO.npy", demo)
    clip = tmp_path / "audio" / "elsewhere" / "f1_angry_t2.wav"
    clip.parent.mkdir(parents=True)
    soundfile.write(clip, np.zeros(8000), 16_000)
    source, folder = str(tmp_path / "DEMO.npy"), tmp_path / "MFCC"
    for audio in (tmp_path / "none", tmp_path / "audio"):
        target, made = official.adopt_official(source, demo, audio, folder)
        assert target == folder / "DEMO-timnet_official.npz"
        kept = features.load(target)
        np.testing.assert_array_equal(kept.x, x)
        assert kept.about == made.about and kept.about["features"] == "timnet_official"
        assert set(kept.speaker) == set(demo.speakers)
        stems = [PurePosixPath(file).stem.split("_") for file in kept.file.tolist()]
        assert [stem[0] for stem in stems] == kept.speaker.tolist()
        assert [stem[1] for stem in stems] == kept.label_names[kept.y].tolist()
    # A file that is there has its own name, one that is not the official one.
    assert {"elsewhere/f1_angry_t2.wav", "f1_angry_t3.wav"} <= set(kept.file.tolist())


def test_arrays_of_unknown_clips_and_of_another_corpus(tmp_path):
    unknown = dataclasses.replace(corpora.get("SAVEE"), checksums="")
    x = write_arrays(tmp_path / "a.npy", unknown)
    _, made = official.adopt_official(
        tmp_path / "a.npy", unknown, tmp_path / "none", tmp_path
    )
    assert len(set(made.file)) == len(x) and set(made.speaker) == {""}
    demo = corpora.get("DEMO")
    write_arrays(tmp_path / "b.npy", demo, [1] * len(demo.labels))
    with pytest.raises(ValueError, match=r"holds \[1.* clips per class, DEMO has"):
        official.adopt_official(tmp_path / "b.npy", demo, tmp_path / "none", tmp_path)


class Attack:
    """Runs code when it is unpickled the ordinary way."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


def test_an_arbitrary_pickle_is_refused_and_nothing_of_it_runs(tmp_path):
    trap = tmp_path / "run"
    content = {"x": Attack(trap), "y": np.eye(2)}
    np.save(tmp_path / "bad.npy", content, allow_pickle=True)
    with pytest.raises(ValueError, match="refused: it asks for posix.mkdir"):
        official.read_official(tmp_path / "bad.npy")
    assert not trap.exists()
    np.load(tmp_path / "bad.npy", allow_pickle=True)  # the trap is a real one
    assert trap.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "refused"),
        (pickle.dumps({"x": 1}), "refused"),
        (np.zeros(3), "plain array"),
        ([1, 2], "refused"),
        ({"x": np.zeros((2, 3, 4))}, "refused.*'y'"),
        ({"x": np.zeros((2, 3)), "y": np.eye(2)}, "refused: x.*are not"),
        ({"x": np.zeros((3, 3, 4)), "y": np.eye(2)}, "refused: x.*are not"),
        ({"x": np.zeros((2, 3, 4), complex), "y": np.eye(2)}, "refused: x.*are not"),
    ],
)
def test_other_files_are_refused(content, message, tmp_path):
    path = tmp_path / "bad.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(ValueError, match=message):
        official.read_official(path)
    with pytest.raises(FileNotFoundError, match="no official features"):
        official.read_official(tmp_path / "none.npy")
