import itertools
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from lib import metrics


def predicted(classes=5, speakers=9, seed=0, skill=0.6):
    """Labels, predictions and speakers; speakers differ in size and in skill."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(30, 60, speakers)
    speaker = np.repeat([f"s{index}" for index in range(speakers)], sizes)
    skills = np.repeat(np.clip(rng.normal(skill, 0.15, speakers), 0, 1), sizes)
    y_true = rng.integers(0, classes, len(speaker))
    right = rng.random(len(speaker)) < skills
    y_pred = np.where(right, y_true, rng.integers(0, classes, len(speaker)))
    return y_true, y_pred, speaker


# Scores


def test_scores_of_a_hand_worked_example():
    # Class 0: 3 of 4 right, class 1: 1 of 2, class 2: 0 of 1.
    y_true = np.array([0, 0, 0, 0, 1, 1, 2])
    y_pred = np.array([0, 0, 0, 1, 1, 2, 0])
    found = metrics.scores(y_true, y_pred)
    assert found["uar"] == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)
    assert found["war"] == pytest.approx(4 / 7)
    # F1 = 2 hits / (said + heard): 6/8, 2/4, 0.
    assert found["macro_f1"] == pytest.approx((6 / 8 + 2 / 4 + 0) / 3)


def test_scores_agree_with_scikit_learn():
    for seed in range(5):
        y_true, y_pred, _ = predicted(seed=seed)
        found = metrics.scores(y_true, y_pred)
        assert found["uar"] == pytest.approx(sk.balanced_accuracy_score(y_true, y_pred))
        assert found["war"] == pytest.approx(sk.accuracy_score(y_true, y_pred))
        f1 = sk.f1_score(y_true, y_pred, average="macro")
        assert found["macro_f1"] == pytest.approx(f1)


def test_a_class_that_is_never_said_does_not_count():
    y_true, y_pred = np.array([0, 0, 2, 2]), np.array([0, 1, 2, 2])
    found = metrics.scores(y_true, y_pred)
    assert found["uar"] == pytest.approx((1 / 2 + 1) / 2)
    f1 = sk.f1_score(y_true, y_pred, labels=[0, 2], average="macro")
    assert found["macro_f1"] == pytest.approx(f1)


def test_confusion_has_true_rows_and_predicted_columns():
    counts = metrics.confusion(np.array([0, 0, 1]), np.array([1, 1, 0]), 3)
    assert counts.tolist() == [[0, 2, 0], [1, 0, 0], [0, 0, 0]]
    y_true, y_pred, _ = predicted()
    expected = sk.confusion_matrix(y_true, y_pred)
    assert np.array_equal(metrics.confusion(y_true, y_pred, 5), expected)


def test_per_class_leaves_undefined_values_open():
    table = metrics.per_class(
        np.array([0, 0, 0, 1, 1]), np.array([0, 0, 2, 0, 0]), ["angry", "sad", "calm"]
    )
    assert table.index.tolist() == ["angry", "sad", "calm"]
    assert table["support"].tolist() == [3, 2, 0]
    assert table.loc["angry", "precision"] == pytest.approx(2 / 4)
    assert table.loc["angry", "recall"] == pytest.approx(2 / 3)
    assert table.loc["angry", "f1"] == pytest.approx(4 / 7)
    assert table.loc["sad", "recall"] == 0 and table.loc["sad", "f1"] == 0
    assert np.isnan(table.loc["sad", "precision"])
    assert np.isnan(table.loc["calm", "recall"])


def test_per_speaker_and_per_fold_score_their_own_rows_only():
    y_true, y_pred = np.array([0, 1, 0, 1]), np.array([0, 1, 1, 0])
    speaker = np.array(["b", "b", "a", "a"])
    sex = np.array(["male", "male", "female", "female"])
    table = metrics.per_speaker(y_true, y_pred, speaker, sex)
    assert table.columns.tolist() == ["speaker", "sex", "n", "uar", "war", "macro_f1"]
    assert table["speaker"].tolist() == ["a", "b"]
    assert table["sex"].tolist() == ["female", "male"]
    assert table["uar"].tolist() == [0, 1] and table["n"].tolist() == [2, 2]
    folds = metrics.per_fold(y_true, y_pred, np.array([10, 10, 2, 10]))
    assert folds["fold"].tolist() == [2, 10] and folds["n"].tolist() == [1, 3]
    assert folds["uar"].tolist() == pytest.approx([0, (1 + 1 / 2) / 2])


def test_chance_is_what_the_majority_class_scores():
    y_true = np.array([0] * 5 + [2] * 3 + [3] * 2)
    always = metrics.scores(y_true, np.zeros(10, int))
    found = metrics.chance(y_true)
    assert found == {"uar": pytest.approx(1 / 3), "war": pytest.approx(0.5)}
    assert found["uar"] == pytest.approx(always["uar"])
    assert found["war"] == pytest.approx(always["war"])


@pytest.mark.parametrize("columns", [([], []), ([0, 1], [0]), ([[0, 1]], [[0, 1]])])
def test_columns_that_do_not_match_are_refused(columns):
    with pytest.raises(ValueError, match="columns of one and the same length"):
        metrics.scores(*map(np.array, columns))


def test_a_label_out_of_range_is_refused():
    with pytest.raises(ValueError, match="y_pred holds labels from 0 to 3"):
        metrics.confusion(np.array([0, 1]), np.array([0, 3]), 3)
    with pytest.raises(ValueError, match="y_true holds labels from -1"):
        metrics.scores(np.array([-1, 1]), np.array([0, 1]))


# Intervals


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


@pytest.mark.parametrize("what", ["uar", "war", "macro_f1", "a paired difference"])
def test_the_interval_covers_the_truth_in_new_corpora(what):
    paired, rng = what.startswith("a paired"), np.random.default_rng(1)
    truth = 0.1 * 0.4 if paired else 0.6  # a tenth of the 40 % that were wrong
    found, values = [], []
    for _ in range(200):
        y_true, first, second, speaker = simulated(rng)
        if paired:
            test = metrics.paired_test(
                y_true, first == y_true, second == y_true, speaker, draws=400
            )
            found.append(test.interval)
            values.append(test.delta)
        else:
            columns = (y_true, first, speaker)
            found.append(metrics.interval(*columns, metric=what, draws=400))
            values.append(metrics.scores(y_true, first)[what])
    covered = np.mean([each.low <= truth <= each.high for each in found])
    assert covered >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / 200)
    width = np.mean([each.high - each.low for each in found])
    # Of what the values of new corpora spread. A redraw of clips within redrawn
    # speakers counts the spread within speakers twice, and that is all of a pair's.
    assert 0.85 < width / (2 * 1.96 * np.std(values)) < (2.0 if paired else 1.3)
    assert found[0].clusters == 9 and found[0].reliable and found[0].unit == "speaker"


def test_unlike_speakers_widen_the_interval():
    y_true = np.tile([0, 1], 200)
    speaker = np.repeat([f"s{index}" for index in range(10)], 40)
    half_deaf = np.isin(speaker, [f"s{index}" for index in range(5)])
    y_pred = np.where(half_deaf, 1 - y_true, y_true)
    clustered = metrics.interval(y_true, y_pred, speaker)
    plain = metrics.interval(y_true, y_pred, np.full(400, ""))
    # WAR of 10 speakers who are 0 or 1: sd sqrt(0.25/10); of 400 rows sqrt(0.25/400).
    width = 2 * 1.96 * np.sqrt(0.25 / 10)
    assert clustered.high - clustered.low == pytest.approx(width, abs=0.1)
    width = 2 * 1.96 * np.sqrt(0.25 / 400)
    assert plain.high - plain.low == pytest.approx(width, abs=0.01)


def test_few_speakers_are_indicative_only():
    columns = predicted(speakers=7)
    found = metrics.interval(*columns)
    assert (found.clusters, found.reliable) == (7, False)
    assert "7 speakers" in found.note and "indicative only" in found.note
    assert metrics.interval(*predicted(speakers=8)).reliable


def test_unknown_speakers_leave_utterances_to_resample_and_it_says_so():
    y_true, y_pred, _ = predicted(classes=3)
    unknown = np.full(len(y_true), "")
    found = metrics.interval(y_true, y_pred, unknown, "war", draws=4000)
    assert (found.unit, found.clusters) == ("utterance", len(y_true))
    assert not found.reliable and "speakers unknown" in found.note
    share, n = np.mean(y_true == y_pred), len(y_true)
    expected = stats.binom.ppf([0.025, 0.975], n, share) / n
    assert (found.low, found.high) == pytest.approx(expected, abs=0.006)


def test_the_interval_follows_seed_draws_and_level():
    columns = predicted()
    assert metrics.interval(*columns, seed=3) == metrics.interval(*columns, seed=3)
    assert metrics.interval(*columns, seed=3) != metrics.interval(*columns, seed=4)
    wide, narrow = (metrics.interval(*columns, level=level) for level in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.high < wide.high
    with pytest.raises(ValueError, match="level is 95"):
        metrics.interval(*columns, level=95)
    with pytest.raises(ValueError, match="unknown metric 'ua'"):
        metrics.interval(*columns, metric="ua")


def test_a_run_is_summed_up_pooled_and_per_fold():
    y_true, y_pred, speaker = predicted()
    fold = np.arange(len(y_true)) % 3 + 1
    frame = pd.DataFrame(
        {"y_true": y_true, "y_pred": y_pred, "speaker": speaker, "fold": fold}
    )
    summary = json.loads(json.dumps(metrics.pooled_and_folds(frame), allow_nan=False))
    uars = [
        sk.balanced_accuracy_score(y_true[fold == number], y_pred[fold == number])
        for number in (1, 2, 3)
    ]
    assert list(summary) == ["pooled", "per_fold", "mean", "sd"]
    assert [row["fold"] for row in summary["per_fold"]] == [1, 2, 3]
    assert [row["uar"] for row in summary["per_fold"]] == pytest.approx(uars)
    assert summary["mean"]["uar"] == pytest.approx(np.mean(uars))
    assert summary["sd"]["uar"] == pytest.approx(np.std(uars, ddof=1))
    pooled = summary["pooled"]
    assert pooled["uar"] == pytest.approx(sk.balanced_accuracy_score(y_true, y_pred))
    for metric in ("uar", "war"):
        low, high = pooled[f"{metric}_interval"]
        assert 0 < low < pooled[metric] < high < 1
    assert pooled["interval"]["clusters"] == 9


def test_one_fold_has_no_standard_deviation():
    frame = pd.DataFrame({"y_true": [0, 1], "y_pred": [0, 0], "speaker": "", "fold": 1})
    summary = json.loads(json.dumps(metrics.pooled_and_folds(frame), allow_nan=False))
    assert summary["sd"] == {"uar": None, "war": None, "macro_f1": None}
    assert summary["pooled"]["interval"]["unit"] == "utterance"


# Paired tests


def brute_force_sign_flip(differences):
    """Share of all sign patterns whose mean is as far from zero as the observed."""
    observed = abs(sum(differences))
    patterns = list(itertools.product((1, -1), repeat=len(differences)))
    far = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        >= observed - 1e-12
        for signs in patterns
    ]
    return sum(far) / len(patterns)


def test_sign_flip_of_many_speakers_draws_patterns():
    differences = np.random.default_rng(0).normal(0.4, 1, 40)
    # With 40 speakers the sum is all but normal.
    z = abs(differences.sum()) / np.sqrt((differences**2).sum())
    expected = 2 * stats.norm.sf(z)
    assert metrics.sign_flip(differences) == pytest.approx(expected, abs=0.01)


def test_four_speakers_cannot_prove_anything():
    y_true = np.tile([0, 1], 40)
    speaker = np.repeat(["a", "b", "c", "d"], 20)
    found = metrics.paired_test(y_true, np.zeros(80), np.ones(80), speaker)
    assert found.delta == 1
    assert found.sign_flip_p == found.smallest_p == 2 / 2**4
    assert not found.interval.reliable


def test_a_paired_test_of_a_hand_worked_example():
    #                  a: classes 0, 0, 1, 1   b: classes 0, 1, 1
    y_true = np.array([0, 0, 1, 1, 0, 1, 1])
    speaker = np.array(list("aaaabbb"))
    correct_a = np.array([1, 0, 0, 0, 1, 1, 0])
    correct_b = np.array([1, 1, 1, 0, 0, 1, 1])
    found = metrics.paired_test(y_true, correct_a, correct_b, speaker)
    # a: class 0 from 1/2 to 1, class 1 from 0 to 1/2; b: -1 and +1/2.
    expected = {"a": pytest.approx((0.5 + 0.5) / 2), "b": pytest.approx(-0.25)}
    assert found.per_speaker == expected
    # Pooled: class 0 from 2/3 to 2/3, class 1 from 1/4 to 3/4.
    assert found.delta == pytest.approx(0.25)
    assert (found.only_a, found.only_b) == (1, 3)
    # Two-sided binomial of 3 in 4: 2 (4 + 1) / 16.
    assert found.mcnemar_p == pytest.approx(10 / 16)
    assert found.sign_flip_p == pytest.approx(brute_force_sign_flip([0.5, -0.25]))


def frames(count, seed):
    """Predictions of some systems for the same utterances, rows shuffled."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(count):
        y_true, _, speaker = predicted(seed=0)
        right = rng.random(len(y_true)) < 0.5
        y_pred = np.where(right, y_true, (y_true + 1) % 5)
        file = [f"{row}.wav" for row in range(len(y_true))]
        columns = {"file": file, "speaker": speaker, "y_true": y_true, "y_pred": y_pred}
        made.append(pd.DataFrame(columns).sample(frac=1, random_state=index))
    return made


def test_predictions_are_matched_by_file():
    a, b = frames(2, seed=1)
    found = metrics.compare_predictions(a, b)
    uar = [metrics.scores(frame.y_true, frame.y_pred)["uar"] for frame in (a, b)]
    assert found.delta == pytest.approx(uar[1] - uar[0])
    both = a.merge(b, on="file")
    discordant = (both.y_pred_y == both.y_true_y) & (both.y_pred_x != both.y_true_x)
    assert found.only_b == discordant.sum()
    assert metrics.compare_predictions(b, a).delta == pytest.approx(-found.delta)


def test_several_seeds_are_averaged():
    a = frames(3, seed=1)
    b = frames(2, seed=2)
    found = metrics.compare_predictions(a, b)
    uar = [
        np.mean([metrics.scores(frame.y_true, frame.y_pred)["uar"] for frame in side])
        for side in (a, b)
    ]
    assert found.delta == pytest.approx(uar[1] - uar[0])
    assert np.isnan(found.mcnemar_p) and 0 < found.sign_flip_p <= 1


def test_predictions_that_do_not_match_are_refused():
    a, b = frames(2, seed=1)
    with pytest.raises(ValueError, match="1 utterances were tested by one system only"):
        metrics.compare_predictions(a, b.iloc[1:])
    with pytest.raises(ValueError, match="tested more than once"):
        metrics.compare_predictions(a, pd.concat([b, b]))
    with pytest.raises(ValueError, match="disagree about y_true"):
        metrics.compare_predictions(a, b.assign(y_true=0))


def test_unknown_speakers_leave_the_sign_flip_open():
    y_true = np.tile([0, 1], 20)
    found = metrics.paired_test(y_true, y_true, 1 - y_true, np.full(40, ""))
    assert np.isnan(found.sign_flip_p) and found.smallest_p == 1
    assert found.interval.unit == "utterance" and found.per_speaker == {}


def test_holm_by_hand():
    # Sorted: 0.005*4 = 0.02, 0.01*3 = 0.03, 0.03*2 = 0.06, 0.04*1 -> 0.06.
    found = metrics.holm([0.01, 0.04, 0.03, 0.005])
    assert found == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert metrics.holm([0.6, 0.7]) == pytest.approx([1, 1])
    assert metrics.holm([0.2]) == pytest.approx([0.2])
    with pytest.raises(ValueError, match="from 0 to 1"):
        metrics.holm([0.2, 1.2])


def test_the_corrected_t_test_by_hand():
    differences = [0.02, 0.04, 0.03, 0.05, 0.01]
    t, p = metrics.corrected_repeated_cv_t(differences, 0.2)
    # Mean 0.03, variance 0.00025, factor 1/5 + 0.2/0.8 = 0.45.
    assert t == pytest.approx(0.03 / np.sqrt(0.45 * 0.00025))
    assert p == pytest.approx(2 * (1 - stats.t.cdf(t, 4)))
    plain = stats.ttest_1samp(differences, 0)
    assert p > plain.pvalue
    assert metrics.corrected_repeated_cv_t([0.0, 0.0], 0.2) == (0.0, 1.0)
    with pytest.raises(ValueError, match="two splits"):
        metrics.corrected_repeated_cv_t([0.1], 0.2)


# Calibration


def softmax_rows(n=400, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, classes))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return rng.integers(0, classes, n), p


def test_calibration_error_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.45, 0.55]])
    y_true = np.array([0, 1, 1, 0])
    # Two bins (0.5, 0.75] and (0.75, 1] of four: confidence 0.625 and 0.85,
    # accuracy 1/2 each.
    found = metrics.expected_calibration_error(y_true, probabilities, bins=4)
    assert found == pytest.approx(0.5 * 0.125 + 0.5 * 0.35)


def test_calibration_error_is_the_sum_of_its_definition():
    y_true, p = softmax_rows()
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y_true
    expected = 0.0
    for m in range(1, 11):
        inside = (confidence > (m - 1) / 10) & (confidence <= m / 10)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            expected += inside.mean() * gap
    found = metrics.expected_calibration_error(y_true, p, bins=10)
    assert found == pytest.approx(expected)


def test_reliability_agrees_with_scikit_learn():
    y_true, p = softmax_rows(seed=3)
    table = metrics.reliability(y_true, p, bins=10)
    assert table["n"].sum() == len(y_true) and len(table) == 10
    right = p.argmax(axis=1) == y_true
    accuracy, confidence = calibration_curve(right, p.max(axis=1), n_bins=10)
    filled = table[table["n"] > 0]
    assert filled["accuracy"].to_numpy() == pytest.approx(accuracy)
    assert filled["confidence"].to_numpy() == pytest.approx(confidence)
    assert table.loc[table["n"] == 0, "accuracy"].isna().all()


def test_a_bin_is_closed_on_the_right():
    table = metrics.reliability(np.array([0, 0]), np.array([[0.5, 0.5], [1, 0]]), 2)
    assert table["n"].tolist() == [1, 1]


def test_what_is_no_probability_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        metrics.reliability(np.array([0]), np.array([[3.0, -1.0]]))
    with pytest.raises(ValueError, match="one row for each"):
        metrics.reliability(np.array([0, 1]), np.array([[0.5, 0.5]]))


@pytest.mark.parametrize(
    "classes, expected", [(4, 0.349), (6, 0.421), (7, 0.446), (8, 0.467)]
)
def test_the_floor_of_a_smoothed_loss(classes, expected):
    found = metrics.smoothed_label_entropy(classes, 0.1)
    assert found == pytest.approx(expected, abs=0.0005)
    target = 0.9 * np.eye(classes)[0] + 0.1 / classes
    assert found == pytest.approx(stats.entropy(target))
    assert metrics.smoothed_label_entropy(classes, 0.0) == 0


# Neighbours


def test_purity_is_that_of_a_full_distance_table():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    z = rng.normal(0, 1, (60, 5)) + 1.5 * np.eye(5)[labels]
    distance = np.linalg.norm(z[:, None] - z[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    near = np.argsort(distance, axis=1)[:, :7]
    expected = np.mean(labels[near] == labels[:, None])
    assert metrics.neighbourhood_purity(z, labels, 7) == pytest.approx(expected)
    assert expected > metrics.purity_by_chance(labels) + 0.1


def test_a_point_is_not_its_own_neighbour_even_among_duplicates():
    z = np.zeros((4, 2))
    labels = np.array(["a", "b", "c", "d"])
    assert metrics.neighbourhood_purity(z, labels, 3) == 0


def test_purity_by_chance_is_the_share_of_alike_pairs():
    labels = ["x"] * 4 + ["y"] * 3 + ["z"]
    alike = [a == b for a, b in itertools.permutations(labels, 2)]
    assert metrics.purity_by_chance(labels) == pytest.approx(np.mean(alike))


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="from 1 to 2"):
        metrics.neighbourhood_purity(np.zeros((3, 2)), np.array([0, 1, 1]), 3)
    with pytest.raises(ValueError, match="two points"):
        metrics.purity_by_chance(["a"])
