"""Projections keep what they promise, and folds are never mixed."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist

from lib import runs, spaces
from lib.files import Workspace, write_json, write_npz
from lib.runs import RunFolders


def clusters():
    """Return points in three well separated groups, and the group of each."""
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(3), 20)
    return 8 * rng.normal(size=(3, 6))[label] + rng.normal(size=(60, 6)), label


def test_tsne_keeps_groups_together_and_a_seed_counts_only_for_a_random_start():
    z, label = clusters()
    points = spaces.tsne(z, perplexity=10)
    assert points.shape == (60, 2)
    distances = cdist(points, points) + np.diag(np.full(60, np.inf))
    assert (label[distances.argmin(axis=1)] == label).all()
    np.testing.assert_array_equal(points, spaces.tsne(z, perplexity=10, seed=1))
    drawn = [spaces.tsne(z, seed=seed, start="random") for seed in (1, 2)]
    assert not np.allclose(*drawn)
    # A perplexity that is too large is lowered.
    assert np.isfinite(spaces.tsne(z[:12], perplexity=500)).all()
    with pytest.raises(ValueError, match="5 points are too few"):
        spaces.tsne(np.eye(5))


def test_embeddings_come_with_their_predictions_or_are_refused(tmp_path):
    run = RunFolders(Workspace(tmp_path), "X")
    file = np.array([f"{row}.wav" for row in range(6)])
    fold = np.array([1, 1, 1, 2, 2, 2])
    table = {"file": file, "speaker": [*"ababab"], "sex": "", "fold": fold}
    table = pd.DataFrame(table | {"y_true": [0, 1] * 3, "y_pred": 1})
    runs.write_predictions(run.predictions, table)
    z = np.arange(12, dtype=np.float32).reshape(6, 2)
    write_npz(run.embeddings, {"file": file, "fold": fold, "z": z})
    table, found = spaces.held_out(run)
    np.testing.assert_array_equal(found, z)
    pd.testing.assert_frame_equal(table, runs.read_predictions(run.predictions))
    document = {"schema_version": runs.SCHEMA_VERSION, "run_id": "X", "status": "done"}
    document["artefacts"] = runs.artefacts(run, [run.embeddings])
    write_json(run.manifest, document)
    run.embeddings.write_bytes(run.embeddings.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"embeddings.npz was changed .* run 02_train"):
        spaces.held_out(run)
    run.embeddings.unlink()
    with pytest.raises(FileNotFoundError, match="no embeddings at .*02_train"):
        spaces.held_out(run)
