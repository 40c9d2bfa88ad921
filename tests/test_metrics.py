"""Scores, intervals and tests against scikit-learn, brute force and simulation."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sk

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
    folds = metrics.per_fold(as_frame(y_true, y_pred, speaker).assign(fold=speaker))
    assert [*folds["fold"]] == [*np.unique(speaker)]
    for row in folds.itertuples():
        here = speaker == row.fold
        assert row.n == here.sum()
        there["labels"] = np.unique(y_true[here])
        recall = sk.recall_score(y_true[here], y_pred[here], **there)
        assert row.uar == pytest.approx(recall)


def test_bad_input_is_refused():
    for y_true, message in (([], "no clips to score"), ([0, 1], "the same length")):
        with pytest.raises(ValueError, match=message):
            metrics.scores(y_true, y_true[:1])


def corpus_of(rng, speakers, seeds=3):
    """A new corpus of UAR 0.6, tested by systems of a few seeds, and better ones.

    The better ones are right on a tenth of what the others are wrong on.
    """
    understood = np.repeat(rng.beta(6, 4, speakers), 20)
    y_true = np.tile(np.arange(4), 5 * speakers)
    speaker = np.arange(20 * speakers) // 20
    sides = [], []
    for luck in rng.normal(0, 0.04, seeds):
        wrong = (y_true + rng.integers(1, 4, len(y_true))) % 4
        right = rng.random(len(y_true)) < understood + luck
        better = right | (rng.random(len(right)) < 0.1)
        for side, hit in zip(sides, (right, better), strict=True):
            said = np.where(hit, y_true, wrong)
            columns = {"y_true": y_true, "y_pred": said, "speaker": speaker}
            side.append(pd.DataFrame(columns).assign(file=range(len(y_true))))
    return sides


@pytest.mark.parametrize("speakers", [6, 12])
def test_the_intervals_cover_the_truth_in_new_corpora(speakers):
    rng, turns, found = np.random.default_rng(speakers), 200, []
    for _ in range(turns):
        usual, better = corpus_of(rng, speakers)
        single = metrics.compare_predictions(better[:1], usual[:1])
        of_one = {"difference": (single, "", 0.04)}
        for metric in ("uar", "macro_f1"):
            # Of the first seed, whose luck the truth includes; and of any seeds.
            of_one[metric] = metrics.mean_score(usual, metric), "_seeds", 0.6
        for name, (one, end, truth) in of_one.items():
            low, high = one[f"low{end}"], one[f"high{end}"]
            width = one["high"] - one["low"]
            found.append((name, low <= truth <= high, one["value"], width))
    table = pd.DataFrame(found, columns=["name", "covered", "value", "width"])
    groups = table.groupby("name")
    assert (groups["covered"].mean() - 0.95).abs().max() < 0.045  # of 200
    # As wide as the values of new corpora spread, with so few degrees of freedom.
    width = groups["width"].mean() / groups["value"].std() / 2
    wanted = stats.t.ppf(0.975, speakers - 1)
    assert width["difference"] == pytest.approx(wanted, rel=0.15)


def test_intervals_of_equal_speakers_are_those_of_student_and_welch():
    # With as many clips of each class the pooled UAR is the mean of the speakers'. The
    # variances of speakers and of seeds add up as those of Welch's two samples.
    usual, better = corpus_of(np.random.default_rng(0), 7)

    def of_speakers(table):
        parts = [part for _, part in table.groupby("speaker")]
        return [sk.balanced_accuracy_score(p["y_true"], p["y_pred"]) for p in parts]

    uars = [np.array([*map(of_speakers, side)]) for side in (usual, better)]
    difference = metrics.compare_predictions(better, usual)
    pairs = (uars[0], metrics.mean_score(usual)), (uars[1] - uars[0], difference)
    for values, found in pairs:
        assert found["value"] == pytest.approx(values.mean())
        student = stats.ttest_1samp(values.mean(axis=0), 0).confidence_interval()
        ends = student.low, student.high
        assert (found["low"], found["high"]) == pytest.approx(ends)
        of_seeds = values.mean(axis=1)
        welch = stats.ttest_ind(values.mean(axis=0), of_seeds, equal_var=False)
        low, high = welch.confidence_interval()
        assert found["high_seeds"] - found["low_seeds"] == pytest.approx(high - low)
        assert found["seeds"] == 3 and found["clusters"] == 7


def lacking(seed=0):
    """Speakers of unlike size, some without a class; two systems, two seeds each."""
    rng = np.random.default_rng(seed)
    y_true, _, speaker = predicted(speakers=6)
    kept = ~((y_true < 2) & np.isin(speaker, ["s1", "s4"]))
    y_true, speaker = y_true[kept], speaker[kept]
    hits = rng.random((2, 2, len(y_true))) < np.array([0.5, 0.6])[:, None, None]
    told = np.where(hits, y_true, (y_true + 1) % 5)
    return [[as_frame(y_true, one, speaker) for one in side] for side in told]


def uar(table):
    return sk.balanced_accuracy_score(table["y_true"], table["y_pred"])


def test_the_interval_leaves_speakers_out_of_the_pooled_score():
    first, second = lacking()
    without = []
    for name in first[0]["speaker"].unique():
        kept = [[t[t["speaker"] != name] for t in side] for side in (first, second)]
        without.append([np.mean([*map(uar, side)]) for side in kept])
    ours, theirs = np.array(without).T
    alone = metrics.mean_score(first)
    paired = metrics.compare_predictions(first, second)
    for values, found in ((ours, alone), (ours - theirs, paired)):
        variance = 5 / 6 * np.sum((values - values.mean()) ** 2)
        half = stats.t.ppf(0.975, 5) * np.sqrt(variance)
        assert found["high"] - found["low"] == pytest.approx(2 * half)


def test_what_an_interval_rests_on_is_said():
    def found(*columns):
        return metrics.mean_score([as_frame(*columns)])

    y_true = np.tile([0, 1], 200)
    speaker = np.repeat([f"s{index}" for index in range(10)], 40)
    y_pred = np.where(speaker < "s5", 1 - y_true, y_true)
    clustered = found(y_true, y_pred, speaker)
    plain = found(y_true, y_pred, np.where(speaker == "s0", "", speaker))
    # UAR of 10 speakers who are 0 or 1: sd sqrt(0.25/9); of 400 rows sqrt(0.25/399).
    half = stats.t.ppf(0.975, 9) * np.sqrt(0.25 / 9)
    assert clustered["high"] - clustered["low"] == pytest.approx(2 * half)
    wide = stats.t.ppf(0.975, 399) * np.sqrt(0.25 / 399)
    assert plain["high"] - plain["low"] == pytest.approx(2 * wide, rel=0.01)
    assert (plain["unit"], plain["clusters"]) == ("utterance", 400)
    assert "speakers unknown" in plain["note"] and not plain["reliable"]
    assert "indicative" not in clustered["note"]
    few = found(*predicted(speakers=7))
    assert (few["clusters"], few["reliable"]) == (7, False) and "too few" in few["note"]
    y_true, y_pred, speaker = predicted(speakers=8)
    assert found(y_true, y_pred, speaker)["reliable"]
    alone = np.where((y_true == 0) & (speaker != "s1"), 1, y_true)
    alone = found(alone, y_pred, speaker)
    assert not alone["reliable"] and "one speaker only" in alone["note"]
    # Of one speaker nothing follows for others.
    one = found(y_true, y_pred, np.full(len(y_true), "s"))
    assert (one["low"], one["high"], one["reliable"]) == (0, 1, False)


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


def test_signs_are_flipped_by_exchanging_the_answers_of_speakers():
    for seed in range(4):
        first, second = lacking(seed)
        found = metrics.compare_predictions(first, second)
        differences = []
        for pattern in itertools.product((False, True), repeat=6):
            total = 0
            for one, other in zip(first, second, strict=True):
                names, code = np.unique(one["speaker"], return_inverse=True)
                turned, y_true = np.array(pattern)[code], one["y_true"].to_numpy()
                said = np.where(turned, other["y_pred"], one["y_pred"])
                back = np.where(turned, one["y_pred"], other["y_pred"])
                gain = (said == y_true).astype(int) - (back == y_true)
                total += np.mean([gain[y_true == label].mean() for label in range(5)])
            differences.append(total / 2)
        assert found["value"] == pytest.approx(differences[0])
        further = np.abs(differences) >= abs(differences[0]) - 1e-12
        assert found["sign_flip_p"] == pytest.approx(further.mean())
        assert found["smallest_p"] == 2 / 2**6 and found["speakers"] == len(names)


@pytest.mark.parametrize(("speakers", "least"), [(4, 0.125), (5, 0.0625), (6, 0.03125)])
def test_too_few_speakers_have_no_p(speakers, least):
    y_true, y_pred, speaker = predicted(speakers)
    sides = [as_frame(y_true, told, speaker) for told in (y_true, y_pred)]
    found = metrics.compare_predictions(sides[:1], sides[1:])
    assert found["smallest_p"] == least
    # All speakers have the same sign: the p is the smallest.
    wanted = least if least < 0.05 else np.nan
    assert found["sign_flip_p"] == pytest.approx(wanted, nan_ok=True)
    unknown = [[side.assign(speaker="")] for side in sides]
    found = metrics.compare_predictions(*unknown)
    assert np.isnan(found["sign_flip_p"]) and found["speakers"] == 0


def test_the_corrected_t_test_is_that_of_its_formula_and_holds_its_level():
    rng = np.random.default_rng(0)
    values = rng.normal(0.5, 1, 10)
    usual = stats.ttest_1samp(values, 0)
    assert metrics.corrected_t(values, 0) == pytest.approx(usual.pvalue)
    # A variance of (1/n + 1/4) in place of 1/n, of ten splits of 80/20.
    t = usual.statistic / np.sqrt(1 + 10 / 4)
    assert metrics.corrected_t(values, 0.25) == pytest.approx(2 * stats.t.sf(abs(t), 9))
    # Scores of splits that share most of their clips: a common part, and an own one.
    common, own = (rng.normal(size=(2000, count)) for count in (1, 10))
    rows = np.sqrt(0.2) * common + np.sqrt(0.8) * own
    found = [[metrics.corrected_t(row, ratio) for row in rows] for ratio in (1 / 4, 0)]
    corrected, plain = np.mean(np.array(found) < 0.05, axis=1)
    assert corrected == pytest.approx(0.05, abs=0.01) and plain > 0.2
    assert np.isnan(metrics.corrected_t([0.5], 0.1))
    assert np.isnan(metrics.corrected_t([0.5, 0.5], 0.1))


@pytest.mark.parametrize("seeds", [1, 3])
def test_predictions_are_matched_by_file_and_seeds_averaged(seeds):
    one, rng = as_frame(*predicted()), np.random.default_rng(1)
    sides = ([], [])
    for seed in range(seeds):
        tested = one.sample(frac=0.5, random_state=seed)  # a hold-out of this seed
        for side in sides:
            side.append(tested.assign(y_pred=rng.permutation(tested["y_pred"])))
    means = [np.mean([*map(uar, side)]) for side in sides]
    sides[1][0] = sides[1][0].sample(frac=1, random_state=rng)
    found = metrics.compare_predictions(*sides)
    assert found["value"] == pytest.approx(means[0] - means[1])
    for changed, message in (
        (one.iloc[1:], "1 clips were tested by one system only"),
        (pd.concat([one, one]), "some more often"),
        (one.assign(speaker="s0"), "another label or speaker"),
    ):
        with pytest.raises(ValueError, match=message):
            metrics.compare_predictions([one], [changed])
    # Overlapping splits test a clip in several folds.
    twice = [pd.concat([side[0], side[0].assign(fold=2)]) for side in sides]
    found = metrics.compare_predictions(*([one] for one in twice))
    assert found["value"] == pytest.approx(uar(sides[0][0]) - uar(sides[1][0]))


def test_holm_by_hand():
    # Sorted: 0.005*4 = 0.02, 0.01*3 = 0.03, 0.03*2 = 0.06, 0.04*1 -> 0.06.
    found = metrics.holm([0.01, 0.04, 0.03, 0.005])
    assert found == pytest.approx([0.03, 0.06, 0.06, 0.02])
