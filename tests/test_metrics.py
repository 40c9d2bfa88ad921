"""Scores, intervals and tests against scikit-learn, brute force and simulation."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from lib import metrics


def predicted(classes=5, speakers=9, seed=0):
    """Labels, predictions and speakers; speakers differ in size and in skill."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(30, 60, speakers)
    speaker = np.repeat([f"s{index}" for index in range(speakers)], sizes)
    skills = np.repeat(np.clip(rng.normal(0.6, 0.15, speakers), 0, 1), sizes)
    y_true = rng.integers(0, classes, len(speaker))
    right = rng.random(len(speaker)) < skills
    y_pred = np.where(right, y_true, rng.integers(0, classes, len(speaker)))
    return y_true, y_pred, speaker


def as_frame(y_true, y_pred, speaker):
    columns = {"y_true": y_true, "y_pred": y_pred, "speaker": speaker}
    return pd.DataFrame(columns).assign(file=[f"{i}.wav" for i in range(len(y_true))])


# --- scores ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_scikit_learn_over_the_classes_that_occur(seed):
    y_true, y_pred, speaker = predicted(seed=seed)
    y_true[y_true == seed] = 4  # one class is predicted and never occurs
    there = {"labels": np.unique(y_true), "average": "macro"}
    expected = [sk.recall_score(y_true, y_pred, **there)]
    expected += [
        sk.accuracy_score(y_true, y_pred),
        sk.f1_score(y_true, y_pred, **there),
    ]
    found = [*metrics.scores(y_true, y_pred).values()]
    assert found == pytest.approx(expected, rel=1e-12)
    counts = metrics.confusion(y_true, y_pred, 6)
    assert np.array_equal(counts, sk.confusion_matrix(y_true, y_pred, labels=range(6)))
    table = metrics.per_speaker(y_true, y_pred, speaker, speaker)
    assert table.columns.tolist() == ["speaker", "sex", "n", *metrics.SCORES]
    for row in table.itertuples():
        here = speaker == row.speaker
        assert row.n == here.sum() and row.sex == row.speaker
        there["labels"] = np.unique(y_true[here])
        recall = sk.recall_score(y_true[here], y_pred[here], **there)
        assert row.uar == pytest.approx(recall)


def test_folds_classes_and_guessing_by_hand():
    y_true, y_pred = np.array([0, 1, 0, 1]), np.array([0, 1, 1, 0])
    folds = metrics.per_fold(y_true, y_pred, [10, 10, 2, 10])
    assert folds["fold"].tolist() == [2, 10] and folds["n"].tolist() == [1, 3]
    assert folds["uar"].tolist() == pytest.approx([0, (1 + 1 / 2) / 2])
    guess = metrics.chance(np.array([0] * 5 + [2] * 3 + [3] * 2))
    assert guess == pytest.approx({"uar": 1 / 3, "war": 5 / 10})
    table = metrics.per_class([0, 0, 0, 1, 1], [0, 0, 2, 0, 0], ["a", "b", "c"])
    expected = [[2 / 4, 2 / 3, 4 / 7, 3], [np.nan, 0, 0, 2], [0, np.nan, 0, 0]]
    assert table.to_numpy() == pytest.approx(np.array(expected), nan_ok=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.scores([], []), "columns of one and the same length"),
        (lambda: metrics.scores([0, 1], [0]), "columns of one and the same length"),
        (lambda: metrics.scores([[0, 1]], [[0, 1]]), "columns of one"),
        (lambda: metrics.scores([-1, 1], [0, 1]), "labels go from -1 to 1"),
        (lambda: metrics.per_class([0, 1], [0, 3], "abc"), "from 0 to 3; there are 3"),
        (lambda: metrics.interval([0], [0], ["a"], level=95), "level is 95"),
        (lambda: metrics.interval([0], [0], ["a"], "ua"), "unknown metric 'ua'"),
        (lambda: metrics.sign_flip([]), "no differences"),
        (lambda: metrics.reliability([0], [[3.0, -1.0]]), "between 0 and 1"),
        (lambda: metrics.reliability([0, 1], [[0.5, 0.5]]), "inconsistent"),
        (lambda: metrics.neighbourhood_purity([[0], [1]], [0, 1], 2), "neighbors = 2"),
        (lambda: metrics.neighbourhood_purity([[0], [1]], [0], 1), "inconsistent"),
        (lambda: metrics.purity_by_chance(["a"]), "two points"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- intervals ------------------------------------------------------------------------


def simulated(rng, speakers=9, clips=40, skill=0.6):
    """Labels, two systems' predictions and speakers of a new corpus; UAR is `skill`.

    Speakers differ in how well they are understood, more than their clips' number
    explains; the second system is right where the first one is, and on a tenth more.
    """
    understood = np.repeat(rng.beta(10 * skill, 10 * (1 - skill), speakers), clips)
    y_true = np.tile(np.arange(4), speakers * clips // 4)
    wrong = (y_true + rng.integers(1, 4, len(y_true))) % 4
    right = rng.random(len(y_true)) < understood
    more = right | (rng.random(len(y_true)) < 0.1)
    first, second = (np.where(hit, y_true, wrong) for hit in (right, more))
    speaker = np.repeat([f"s{index}" for index in range(speakers)], clips)
    return y_true, first, second, speaker


@pytest.mark.parametrize("what", ["uar", "macro_f1", "difference"])
def test_the_interval_covers_the_truth_in_new_corpora(what):
    paired, rng = what == "difference", np.random.default_rng(1)
    truth = 0.1 * 0.4 if paired else 0.6  # a tenth of the 40 % that were wrong
    lows, highs, values = [], [], []
    for _ in range(200):
        y_true, first, second, speaker = simulated(rng)
        if paired:
            sides = [[as_frame(y_true, said, speaker)] for said in (second, first)]
            found = metrics.compare_predictions(*sides, draws=400)
        else:
            span = metrics.interval(y_true, first, speaker, metric=what, draws=400)
            found = metrics.scores(y_true, first) | span._asdict()
        lows.append(found["low"])
        highs.append(found["high"])
        values.append(found[what])
    covered = np.mean((np.array(lows) <= truth) & (truth <= np.array(highs)))
    assert covered >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / 200)
    width = np.mean(highs) - np.mean(lows)
    # Of what the values of new corpora spread. A redraw of clips within redrawn
    # speakers counts the spread within speakers twice, and that is all of a pair's.
    assert 0.85 < width / (2 * 1.96 * np.std(values)) < (2.0 if paired else 1.3)


def test_unlike_speakers_widen_the_interval_and_unknown_ones_are_said():
    y_true = np.tile([0, 1], 200)
    speaker = np.repeat([f"s{index}" for index in range(10)], 40)
    y_pred = np.where(speaker < "s5", 1 - y_true, y_true)
    clustered = metrics.interval(y_true, y_pred, speaker)
    plain = metrics.interval(y_true, y_pred, np.where(speaker == "s0", "", speaker))
    # WAR of 10 speakers who are 0 or 1: sd sqrt(0.25/10); of 400 rows sqrt(0.25/400).
    width = 2 * 1.96 * np.sqrt(0.25 / 10)
    assert clustered.high - clustered.low == pytest.approx(width, abs=0.1)
    assert plain.high - plain.low == pytest.approx(width / np.sqrt(40), abs=0.01)
    assert (plain.unit, plain.clusters, plain.reliable) == ("utterance", 400, False)
    assert (clustered.unit, clustered.clusters) == ("speaker", 10)
    assert "speakers unknown" in plain.note and "indicative" not in clustered.note
    few = metrics.interval(*predicted(speakers=7))
    assert (few.clusters, few.reliable) == (7, False) and "too few" in few.note
    assert metrics.interval(*predicted(speakers=8)).reliable


def test_the_interval_follows_seed_and_level():
    columns = predicted()
    assert metrics.interval(*columns, seed=3) == metrics.interval(*columns, seed=3)
    assert metrics.interval(*columns, seed=3) != metrics.interval(*columns, seed=4)
    wide, narrow = (metrics.interval(*columns, level=level) for level in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_a_run_is_summed_up_pooled_and_per_fold():
    frame = as_frame(*predicted())
    frame["fold"] = frame.index % 3 + 1
    summary = json.loads(json.dumps(metrics.pooled_and_folds(frame), allow_nan=False))
    uars = [
        sk.balanced_accuracy_score(rows["y_true"], rows["y_pred"])
        for _, rows in frame.groupby("fold")
    ]
    assert [row["fold"] for row in summary["per_fold"]] == [1, 2, 3]
    assert [row["uar"] for row in summary["per_fold"]] == pytest.approx(uars)
    assert summary["mean"]["uar"] == pytest.approx(np.mean(uars))
    assert summary["sd"]["uar"] == pytest.approx(np.std(uars, ddof=1))
    pooled = summary["pooled"]
    whole = sk.balanced_accuracy_score(frame["y_true"], frame["y_pred"])
    assert pooled["uar"] == pytest.approx(whole)
    low, high = pooled["war_interval"]
    assert 0 < low < pooled["war"] < high < 1 and pooled["interval"]["clusters"] == 9
    frame = pd.DataFrame({"y_true": [0, 1], "y_pred": 0, "speaker": None, "fold": 1})
    summary = json.loads(json.dumps(metrics.pooled_and_folds(frame), allow_nan=False))
    assert summary["sd"] == {"uar": None, "war": None, "macro_f1": None}
    assert summary["pooled"]["interval"]["unit"] == "utterance"


# --- paired tests ---------------------------------------------------------------------


def sign_patterns(differences):
    """Share of all sign patterns whose mean is as far from zero as the observed."""
    signs = np.array(list(itertools.product((1, -1), repeat=len(differences))))
    observed = abs(np.sum(differences))
    return np.mean(np.abs(signs @ np.asarray(differences)) >= observed - 1e-12)


@pytest.mark.parametrize("speakers", [1, 2, 3, 8, 12])
def test_sign_flip_counts_every_arrangement(speakers):
    rng = np.random.default_rng(speakers)
    for differences in (
        np.full(speakers, 0.1),
        rng.normal(0.5, 1, speakers),
        rng.integers(-2, 3, speakers) / 10,  # ties and zeros
    ):
        found = metrics.sign_flip(differences)
        assert found == pytest.approx(sign_patterns(differences), rel=1e-9)


def test_sign_flip_of_many_speakers_draws_patterns_and_adds_the_observed():
    differences = np.random.default_rng(0).normal(0.4, 1, 40)
    # With 40 speakers the sum is all but normal.
    z = abs(differences.sum()) / np.sqrt((differences**2).sum())
    p = metrics.sign_flip(differences)
    assert p == pytest.approx(2 * stats.norm.sf(z), abs=0.01)
    # Of 2**40 patterns two are as far from zero: none of those drawn.
    never = metrics.sign_flip(np.full(40, 0.1))
    assert never == pytest.approx(1 / (1 + metrics.RANDOM_FLIPS), rel=1e-9)


def test_a_paired_test_of_a_hand_worked_example():
    #                  a: classes 0, 0, 1, 1   b: classes 0, 1, 1
    y_true, speaker = np.array([0, 0, 1, 1, 0, 1, 1]), list("aaaabbb")
    right = np.array([[1, 1, 1, 0, 0, 1, 1], [1, 0, 0, 0, 1, 1, 0]])
    first, second = (np.where(hit, y_true, 1 - y_true) for hit in right)
    sides = [[as_frame(y_true, said, speaker)] for said in (first, second)]
    found = metrics.compare_predictions(*sides)
    # Pooled: class 0 from 2/3 to 2/3, class 1 from 1/4 to 3/4.
    assert found["difference"] == pytest.approx(0.25) and found["speakers"] == 2
    assert (found["only_first"], found["only_second"]) == (3, 1)
    # Two-sided binomial of 3 in 4: 2 (4 + 1) / 16.
    assert found["mcnemar_p"] == pytest.approx(10 / 16)
    # a: class 0 from 1/2 to 1, class 1 from 0 to 1/2; b: -1 and +1/2.
    assert found["sign_flip_p"] == pytest.approx(sign_patterns([0.5, -0.25]))
    assert found["smallest_p"] == 2 / 2**2 and not found["reliable"]
    unknown = [[frame.assign(speaker="")] for (frame,) in sides]
    found = metrics.compare_predictions(*unknown)
    assert np.isnan(found["sign_flip_p"]) and found["smallest_p"] == 1
    assert found["speakers"] == 0 and not found["reliable"]
    assert metrics.compare_predictions(sides[0], sides[0])["mcnemar_p"] == 1


def frames(count, seed):
    """Predictions of some systems for the same clips, rows shuffled."""
    rng, made = np.random.default_rng(seed), []
    y_true, _, speaker = predicted(seed=0)
    for index in range(count):
        y_pred = np.where(rng.random(len(y_true)) < 0.5, y_true, (y_true + 1) % 5)
        frame = as_frame(y_true, y_pred, speaker)
        made.append(frame.sample(frac=1, random_state=index))
    return made


@pytest.mark.parametrize("seeds", [(1, 1), (3, 2)])
def test_predictions_are_matched_by_file_and_seeds_averaged(seeds):
    sides = frames(seeds[0], seed=1), frames(seeds[1], seed=2)
    found = metrics.compare_predictions(*sides)
    uar = [
        np.mean([sk.balanced_accuracy_score(f.y_true, f.y_pred) for f in side])
        for side in sides
    ]
    assert found["difference"] == pytest.approx(uar[0] - uar[1])
    assert np.isnan(found["mcnemar_p"]) == (seeds != (1, 1))
    first, second = (
        np.mean([f.sort_values("file").eval("y_true == y_pred") for f in side], axis=0)
        for side in sides
    )
    assert found["only_first"] == (first > second + 1e-9).sum()
    other = metrics.compare_predictions(*sides[::-1])
    assert other["difference"] == pytest.approx(-found["difference"])


def test_predictions_that_do_not_match_are_refused():
    a, b = frames(2, seed=1)
    for other, message in (
        (b.iloc[1:], "1 clips were tested by one system only"),
        (pd.concat([b, b]), "tested more than once"),
        (b.assign(y_true=0), "disagree about .*y_true"),
        (b.assign(speaker="s0"), "disagree about .*speaker"),
    ):
        with pytest.raises(ValueError, match=message):
            metrics.compare_predictions([a], [other])


def test_holm_by_hand():
    # Sorted: 0.005*4 = 0.02, 0.01*3 = 0.03, 0.03*2 = 0.06, 0.04*1 -> 0.06.
    found = metrics.holm([0.01, 0.04, 0.03, 0.005])
    assert found == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert metrics.holm([0.6, 0.7]) == pytest.approx([1, 1])


# --- calibration and neighbours -------------------------------------------------------


def test_calibration_is_that_of_its_definition_and_of_scikit_learn():
    rng = np.random.default_rng(3)
    p, y_true = rng.dirichlet(np.ones(4), 400), rng.integers(0, 4, 400)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y_true
    table = metrics.reliability(y_true, p, bins=10)
    assert table["n"].sum() == 400 and len(table) == 10
    filled = table[table["n"] > 0]
    expected = calibration_curve(right, confidence, n_bins=10)
    found = filled[["accuracy", "confidence"]].to_numpy().T
    assert found == pytest.approx(np.array(expected))
    error = np.abs(found[0] - found[1]) @ filled["n"] / 400
    found = metrics.expected_calibration_error(y_true, p, bins=10)
    assert found == pytest.approx(error)
    edge = metrics.reliability([0, 0], [[0.5, 0.5], [1 + 1e-7, 0]], 2)
    assert edge["n"].tolist() == [1, 1]  # closed on the right; rounding is forgiven


@pytest.mark.parametrize("classes", [4, 7])
def test_the_floor_of_a_smoothed_loss(classes):
    target = 0.9 * np.eye(classes)[0] + 0.1 / classes
    found = metrics.smoothed_label_entropy(classes, 0.1)
    assert found == pytest.approx(-(target * np.log(target)).sum())
    assert metrics.smoothed_label_entropy(classes, 0.0) == 0


def test_purity_is_that_of_a_full_distance_table():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    z = rng.normal(0, 1, (60, 5)) + 1.5 * np.eye(5)[labels]
    distance = np.linalg.norm(z[:, None] - z[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    near = np.argsort(distance, axis=1)[:, :7]
    expected = np.mean(labels[near] == labels[:, None])
    assert metrics.neighbourhood_purity(z, labels, 7) == pytest.approx(expected)
    alike = [a == b for a, b in itertools.permutations(labels, 2)]
    assert metrics.purity_by_chance(labels) == pytest.approx(np.mean(alike))
    # A point is not its own neighbour, even among duplicates.
    assert metrics.neighbourhood_purity(np.zeros((4, 2)), list("abcd"), 3) == 0
