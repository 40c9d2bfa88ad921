"""Projections keep what they promise, and folds are never mixed."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist

from lib import runs, spaces
from lib.files import find_workspace, write_npz
from lib.runs import RunFolders


def clusters(seed=0, groups=3, each=20, width=6, apart=8.0):
    """Return points in well separated groups, and the group of each."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(groups), each)
    centres = rng.normal(size=(groups, width)) * apart
    return centres[label] + rng.normal(size=(len(label), width)), label


def test_standardised_points_have_mean_zero_and_deviation_one():
    z, _ = clusters()
    z = np.column_stack([z * [1, 10, 100, 1, 1, 1], np.full(len(z), 7.0)])
    scaled = spaces.standardised(z)
    expected = (z[:, :6] - z[:, :6].mean(0)) / z[:, :6].std(0)
    np.testing.assert_allclose(scaled[:, :6], expected, atol=1e-12)
    assert (scaled[:, 6] == 0).all()


def test_pca_is_the_projection_on_the_first_singular_vectors():
    z, _ = clusters()
    scaled = (z - z.mean(0)) / z.std(0)
    _, _, axes = np.linalg.svd(scaled, full_matrices=False)
    points = spaces.pca(z)
    np.testing.assert_allclose(np.abs(points), np.abs(scaled @ axes[:2].T), atol=1e-9)


def test_tsne_keeps_groups_together():
    z, label = clusters()
    points = spaces.tsne(z, perplexity=10)
    assert points.shape == (60, 2)
    distances = cdist(points, points) + np.diag(np.full(60, np.inf))
    assert (label[distances.argmin(axis=1)] == label).all()
    # A perplexity that is too large is lowered.
    assert np.isfinite(spaces.tsne(clusters(each=4)[0], perplexity=500)).all()


def test_tsne_repeats_itself_and_the_seed_counts_only_for_a_random_start():
    z, _ = clusters(each=8)
    first = spaces.tsne(z, seed=1)
    np.testing.assert_array_equal(first, spaces.tsne(z, seed=2))
    drawn = [spaces.tsne(z, seed=seed, start="random") for seed in (1, 2)]
    assert not np.allclose(*drawn)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spaces.tsne(clusters()[0], perplexity=0), "perplexity 0"),
        (lambda: spaces.tsne(clusters()[0], start="zero"), "'zero'"),
        (lambda: spaces.tsne(np.eye(5)), "5 points are too few"),
        (lambda: spaces.pca(np.eye(5)), "5 points are too few"),
    ],
)
def test_values_out_of_range_and_too_few_points_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_every_fold_is_taken_alone_and_small_ones_are_left_out():
    z = np.arange(34.0).reshape(17, 2)
    fold = np.array([1, 2] * 7 + [3, 3, 3])
    scaled = spaces.each_fold(spaces.standardised, z, fold)
    for number in (1, 2):
        part = z[fold == number]
        np.testing.assert_allclose(
            scaled[fold == number], (part - part.mean(0)) / part.std(0)
        )
    assert np.isnan(scaled[fold == 3]).all()
    with pytest.raises(ValueError, match="3 points are too few"):
        spaces.each_fold(spaces.standardised, z[-3:], fold[-3:])


def test_purities_are_those_of_a_distance_table_inside_each_fold():
    z, label = clusters(apart=1.0)
    fold = np.tile([1, 2, 3], 20)
    table = spaces.purities({"space": z}, {"group": label}, fold, neighbours=4)
    for row in table.itertuples():
        points, names = z[fold == row.fold], label[fold == row.fold]
        distances = cdist(points, points) + np.diag(np.full(len(points), np.inf))
        near = distances.argsort(axis=1)[:, :4]
        assert row.purity == pytest.approx((names[near] == names[:, None]).mean())
        alike = (names[:, None] == names).sum() - len(names)
        assert row.chance == pytest.approx(alike / (len(names) * (len(names) - 1)))
    assert table["fold"].tolist() == [1, 2, 3]


def test_a_question_that_cannot_be_asked_in_a_fold_is_left_out():
    z, _ = clusters()
    fold = np.repeat([1, 2, 3], [30, 26, 4])
    speaker = np.where(fold == 1, "a", np.where(np.arange(60) % 2, "b", "c"))
    emotion = np.where(np.arange(60) % 3, "sad", "angry")
    table = spaces.purities({"z": z}, {"emotion": emotion, "speaker": speaker}, fold)
    asked = list(zip(table["fold"], table["kind"], strict=True))
    assert asked == [(1, "emotion"), (2, "emotion"), (2, "speaker")]


# --- reading -------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
    """Return a run that has predictions and embeddings and nothing else."""
    folders = RunFolders(find_workspace(str(tmp_path)), "X")
    file = np.array([f"{row}.wav" for row in range(6)])
    fold = np.array([1, 1, 1, 2, 2, 2])
    table = runs.predictions_table(
        file=file,
        speaker=np.array(list("ababab")),
        sex=np.full(6, ""),
        fold=fold,
        y_true=np.array([0, 1] * 3),
        probabilities=np.tile([0.4, 0.6], (6, 1)),
        label_names=["angry", "sad"],
    )
    runs.write_predictions(folders.predictions, table)
    z = np.arange(12, dtype=np.float32).reshape(6, 2)
    write_npz(folders.embeddings, {"file": file, "fold": fold, "z": z})
    return folders


def test_embeddings_come_with_their_predictions(run):
    table, z = spaces.held_out(run)
    assert z.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]
    pd.testing.assert_frame_equal(table, runs.read_predictions(run.predictions))


def test_embeddings_of_other_clips_missing_or_damaged_ones_are_refused(run):
    with np.load(run.embeddings) as saved:
        content = dict(saved)
    for name, other in (
        ("file", content["file"][::-1]),
        ("fold", content["fold"][::-1]),
        ("z", content["z"][:-1]),
    ):
        write_npz(run.embeddings, content | {name: other})
        with pytest.raises(ValueError, match="other clips"):
            spaces.held_out(run)
    write_npz(run.embeddings, {"z": np.zeros((6, 2))})
    lacking = run.embeddings.read_bytes()
    for damaged in (lacking, lacking[:100], b'"text"'):
        run.embeddings.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"embeddings.npz is damaged; run 02_tr"):
            spaces.held_out(run)
    run.embeddings.unlink()
    with pytest.raises(FileNotFoundError, match="no embeddings at .*02_train"):
        spaces.held_out(run)
