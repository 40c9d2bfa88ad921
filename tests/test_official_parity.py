"""Official weights on the original audio answer what the official code answers."""

import json
from pathlib import PurePosixPath

import numpy as np
import pytest

from lib import config, features, runs, training
from lib.device import select
from lib.files import REPOSITORY

SHARED = REPOSITORY.parent / "shared"
CORPORA = SHARED / "corpora"
WEIGHTS = SHARED / "weights" / "RAVDE_46"
ORACLE = SHARED / "oracles" / "oracle_RAVDE"
NEEDED = (CORPORA / "RAVDESS", WEIGHTS, ORACLE.with_suffix(".npz"))
MISSING = [path.name for path in NEEDED if not path.exists()]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(MISSING), reason=f"not beside the project: {', '.join(MISSING)}"
    ),
]


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    """Return features, predictions and manifest of the official weights."""
    params = config.validated(
        {
            "workspace": str(tmp_path_factory.mktemp("official")),
            "datasets_dir": str(CORPORA),
            "corpus": "RAVDESS",
            "weights_dir": str(WEIGHTS),
            "weights_format": "timnet_hdf5",
            "protocol": "paper",
            "folds": 10,
            "seed": 46,
            "verbose": 0,
        }
    )
    _, data = features.obtain(params)
    folds = training.make_folds(params, data)
    folders = training.official_run(params, data, folds, device=select("cpu"))
    with np.load(folders.embeddings) as saved:
        embeddings = saved["z"]
    table = runs.predictions.read(folders.predictions)
    return data, table, embeddings, runs.manifest.read(folders.manifest)


@pytest.fixture(scope="module")
def oracle():
    """Return what the official code answers, its rows by key of the utterance."""
    with np.load(ORACLE.with_suffix(".npz"), allow_pickle=False) as saved:
        content = dict(saved)
    rows = {_key(file): row for row, file in enumerate(content["files"])}
    assert len(rows) == 1440
    scores = json.loads(ORACLE.with_suffix(".json").read_text())
    return content, rows, scores


def _key(file):
    """Return the name without folder and ending: WAV there, FLAC here."""
    return PurePosixPath(str(file)).stem


def test_rows_are_in_the_official_order(tested, oracle):
    data, content = tested[0], oracle[0]
    assert [_key(file) for file in data.file] == [_key(f) for f in content["files"]]
    assert data.label_names.tolist() == content["labels"].tolist()
    np.testing.assert_array_equal(data.y, content["y"])


def test_features_are_the_official_ones(tested, oracle):
    data, content = tested[0], oracle[0]
    np.testing.assert_allclose(data.x[0], content["mfcc_first_file"], atol=1e-2)
    flat = data.x.reshape(-1, data.x.shape[-1])
    np.testing.assert_allclose(
        flat.mean(axis=0, dtype=float), content["mfcc_mean"], atol=1e-3
    )
    np.testing.assert_allclose(
        flat.std(axis=0, dtype=float), content["mfcc_std"], atol=1e-3
    )


def test_every_row_gets_the_official_probabilities(tested, oracle):
    _, table, embeddings, _ = tested
    content, rows, _ = oracle
    order = [rows[_key(file)] for file in table["file"]]
    assert sorted(order) == list(range(1440))
    np.testing.assert_array_equal(table["fold"], content["fold"][order])
    np.testing.assert_array_equal(table["y_true"], content["y"][order])
    columns = [f"p_{label}" for label in content["labels"]]
    np.testing.assert_allclose(
        table[columns], content["probabilities"][order], atol=1e-4, rtol=0
    )
    np.testing.assert_allclose(
        embeddings, content["embedding"][order], atol=1e-3, rtol=1e-3
    )


def test_fold_accuracies_are_the_official_ones_to_the_last_digit(tested, oracle):
    _, table, _, manifest = tested
    scores = oracle[2]
    right = table["y_true"] == table["y_pred"]
    assert right.groupby(table["fold"]).mean().tolist() == scores["fold_accuracy"]
    recorded = [entry["war"] for entry in manifest["metrics"]["per_fold"]]
    assert recorded == scores["fold_accuracy"]
    mean = manifest["metrics"]["mean"]["war"]
    assert mean == pytest.approx(scores["mean_accuracy"], abs=1e-12)
    assert round(mean, 6) == 0.907639
