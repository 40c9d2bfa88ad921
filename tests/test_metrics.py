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


def predicted(speakers=9):
    """Labels, predictions and speakers; speakers differ in size and in skill."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(30, 60, speakers)
    speaker = np.repeat([f"s{index}" for index in range(speakers)], sizes)
    skills = np.repeat(np.clip(rng.normal(0.6, 0.15, speakers), 0, 1), sizes)
    y_true, other = rng.integers(0, 5, (2, len(speaker)))
    y_pred = np.where(rng.random(len(speaker)) < skills, y_true, other)
    return y_true, y_pred, speaker


def as_frame(y_true, y_pred, speaker):
    columns = {"y_true": y_true, "y_pred": y_pred, "speaker": speaker}
    return pd.DataFrame(columns).assign(file=[f"{i}.wav" for i in range(len(y_true))])


def test_scores_are_those_of_scikit_learn_over_the_classes_that_occur():
    y_true, y_pred, speaker = predicted()
    y_true[y_true == 0] = 4  # one class is predicted and never occurs
    there = {"labels": np.unique(y_true), "average": "macro"}
    found = metrics.scores(y_true, y_pred)
    assert found["uar"] == pytest.approx(sk.recall_score(y_true, y_pred, **there))
    assert found["war"] == pytest.approx(sk.accuracy_score(y_true, y_pred))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(y_true, y_pred, **there))
    counts = metrics.confusion(y_true, y_pred, 6)
    assert np.array_equal(counts, sk.confusion_matrix(y_true, y_pred, labels=range(6)))
    for row in metrics.per_fold(y_true, y_pred, speaker).itertuples():
        here = speaker == row.fold
        assert row.n == here.sum()
        there["labels"] = np.unique(y_true[here])
        recall = sk.recall_score(y_true[here], y_pred[here], **there)
        assert row.uar == pytest.approx(recall)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.scores([], []), "columns of one and the same length"),
        (lambda: metrics.scores([-1, 1], [0, 1]), "labels go from -1 to 1"),
        (lambda: metrics.confusion([0, 1], [0, 3], 3), "from 0 to 3; there are 3"),
        (lambda: metrics.reliability([0], [[3.0, -1.0]]), "between 0 and 1"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def simulated(rng):
    """A corpus of UAR 0.6, and a second system that is right on a tenth more."""
    understood = np.repeat(rng.beta(6, 4, 9), 40)
    y_true = np.tile(np.arange(4), 90)
    wrong = (y_true + rng.integers(1, 4, 360)) % 4
    right = rng.random(360) < understood
    more = right | (rng.random(360) < 0.1)
    first, second = (np.where(hit, y_true, wrong) for hit in (right, more))
    return y_true, first, second, np.repeat([*"abcdefghi"], 40)


@pytest.mark.parametrize("what", ["uar", "macro_f1", "difference"])
def test_the_interval_covers_the_truth_in_new_corpora(what):
    paired, rng = what == "difference", np.random.default_rng(1)
    truth = 0.1 * 0.4 if paired else 0.6  # a tenth of the 40 % that were wrong
    lows, highs, values = np.zeros((3, 200))
    for turn in range(200):
        y_true, first, second, speaker = simulated(rng)
        if paired:
            sides = [[as_frame(y_true, said, speaker)] for said in (second, first)]
            found = metrics.compare_predictions(*sides, draws=400)
        else:
            span = metrics.interval(y_true, first, speaker, metric=what, draws=400)
            found = metrics.scores(y_true, first) | span._asdict()
        lows[turn], highs[turn] = found["low"], found["high"]
        values[turn] = found[what]
    covered = np.mean((lows <= truth) & (truth <= highs))
    assert covered >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / 200)
    # Of what the values of new corpora spread. A redraw of clips within redrawn
    # speakers counts the spread within speakers twice, and that is all of a pair's.
    width = np.mean(highs - lows) / (2 * 1.96 * np.std(values))
    assert 0.85 < width < (2.0 if paired else 1.3)


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
    assert "speakers unknown" in plain.note and "indicative" not in clustered.note
    few = metrics.interval(*predicted(speakers=7))
    assert (few.clusters, few.reliable) == (7, False) and "too few" in few.note
    found = [metrics.interval(*predicted(speakers=8), seed=seed) for seed in (3, 3, 4)]
    assert found[0].reliable and found[0] == found[1] != found[2]


def test_a_run_is_summed_up_pooled_and_per_fold():
    frame = as_frame(*predicted())
    frame["fold"] = frame.index % 3 + 1
    summary = json.loads(json.dumps(metrics.pooled_and_folds(frame), allow_nan=False))
    uars = [row["uar"] for row in summary["per_fold"]]
    assert [row["fold"] for row in summary["per_fold"]] == [1, 2, 3]
    assert summary["mean"]["uar"] == pytest.approx(np.mean(uars))
    assert summary["sd"]["uar"] == pytest.approx(np.std(uars, ddof=1))
    pooled = summary["pooled"]
    assert pooled["uar"] == metrics.scores(frame["y_true"], frame["y_pred"])["uar"]
    low, high = pooled["war_interval"]
    assert 0 < low < pooled["war"] < high < 1 and pooled["interval"]["clusters"] == 9
    single = metrics.pooled_and_folds(frame.assign(fold=1, speaker=None))
    assert json.loads(json.dumps(single, allow_nan=False))["sd"]["uar"] is None
    assert single["pooled"]["interval"]["unit"] == "utterance"


def sign_patterns(differences):
    """Share of all sign patterns whose mean is as far from zero as the observed."""
    signs = np.array(list(itertools.product((1, -1), repeat=len(differences))))
    return np.mean(np.abs(signs @ differences) >= abs(np.sum(differences)) - 1e-12)


@pytest.mark.parametrize("speakers", [1, 3, 12])
def test_sign_flip_counts_every_arrangement(speakers):
    rng = np.random.default_rng(speakers)
    tied = rng.integers(-2, 3, speakers) / 10  # ties and zeros
    for values in (rng.normal(0.5, 1, speakers), tied):
        assert metrics.sign_flip(values) == pytest.approx(sign_patterns(values))


def test_sign_flip_of_many_speakers_draws_patterns_and_adds_the_observed():
    many = np.random.default_rng(0).normal(0.4, 1, 40)
    z = abs(many.sum()) / np.sqrt((many**2).sum())  # the sum is all but normal
    assert metrics.sign_flip(many) == pytest.approx(2 * stats.norm.sf(z), abs=0.01)
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
    assert np.isnan(found["sign_flip_p"]) and found["speakers"] == 0


@pytest.mark.parametrize("seeds", [(1, 1), (3, 2)])
def test_predictions_are_matched_by_file_and_seeds_averaged(seeds):
    one, rng = as_frame(*predicted()), np.random.default_rng(1)
    sides, means = ([], []), []
    for side, count in zip(sides, seeds, strict=True):
        for _ in range(count):
            said = one.assign(y_pred=rng.permutation(one["y_pred"]))
            side.append(said.sample(frac=1, random_state=rng))
        scores = [metrics.scores(said["y_true"], said["y_pred"]) for said in side]
        means.append(np.mean([score["uar"] for score in scores]))
    found = metrics.compare_predictions(*sides)
    assert found["difference"] == pytest.approx(means[0] - means[1])
    assert np.isnan(found["mcnemar_p"]) == (seeds != (1, 1))
    for changed, message in (
        (one.iloc[1:], "1 clips were tested by one system only"),
        (pd.concat([one, one]), "some twice"),
        (one.assign(speaker="s0"), "another label or speaker"),
    ):
        with pytest.raises(ValueError, match=message):
            metrics.compare_predictions([one], [changed])


def test_seeds_that_test_other_clips_are_compared_clip_by_clip():
    one, rng = as_frame(*predicted()), np.random.default_rng(2)
    first = [one.sample(frac=0.5, random_state=seed) for seed in (1, 2)]
    second = [part.assign(y_pred=rng.permutation(part["y_pred"])) for part in first]
    both = pd.concat(first), pd.concat(second)
    right = [np.equal(side["y_pred"], side["y_true"]).astype(int) for side in both]
    clips = both[0].assign(gain=right[0].to_numpy() - right[1].to_numpy())
    clips = clips.groupby(["y_true", "file"])["gain"].mean()
    found = metrics.compare_predictions(first, second)
    assert found["difference"] == pytest.approx(clips.groupby("y_true").mean().mean())
    assert np.isnan(found["mcnemar_p"])
    with pytest.raises(ValueError, match="of the same seeds"):
        metrics.compare_predictions(first, second[:1])


def test_holm_by_hand():
    # Sorted: 0.005*4 = 0.02, 0.01*3 = 0.03, 0.03*2 = 0.06, 0.04*1 -> 0.06.
    found = metrics.holm([0.01, 0.04, 0.03, 0.005])
    assert found == pytest.approx([0.03, 0.06, 0.06, 0.02])


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
    error = metrics.expected_calibration_error(y_true, p, bins=10)
    assert error == pytest.approx(np.abs(found[0] - found[1]) @ filled["n"] / 400)
    edge = metrics.reliability([0, 0], [[0.5, 0.5], [1 + 1e-7, 0]], 2)
    assert edge["n"].tolist() == [1, 1]  # closed on the right; rounding is forgiven
