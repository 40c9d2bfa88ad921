"""Scores, intervals, paired tests and calibration, on plain arrays.

Labels are indices; speakers "" where unknown; scores and p-values lie in [0, 1].
"""

from collections import namedtuple

import numpy as np
import pandas as pd
from scipy import stats

SCORES = ("uar", "war", "macro_f1")
FEW_SPEAKERS = 8  # with fewer, percentiles of a bootstrap over speakers mislead
EXACT_SPEAKERS = 24  # 2**23 sums fit in memory; with more, signs are drawn
RANDOM_FLIPS = 100_000
LEVEL = 0.95  # coverage of the intervals


def scores(y_true, y_pred) -> dict[str, float]:
    """Return "uar" and "macro_f1", means over the classes of `y_true`, and "war"."""
    found = _scores_of_counts(confusion(y_true, y_pred))
    return {name: float(value) for name, value in found.items()}


def _scores_of_counts(counts) -> dict[str, np.ndarray]:
    """Return the scores (...) of confusion matrices (..., true class, predicted)."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    predicted, true = counts.sum(axis=-2), counts.sum(axis=-1)
    occurring = np.where(true > 0, true, np.nan)
    return {
        "uar": np.nanmean(hits / occurring, axis=-1),
        "war": hits.sum(axis=-1) / true.sum(axis=-1),
        "macro_f1": np.nanmean(2 * hits / (occurring + predicted), axis=-1),
    }


def confusion(y_true, y_pred, num_classes: int = 0) -> np.ndarray:
    """Return how often class i (row) was predicted as class j (column), int (K, K)."""
    y_true, y_pred = _columns(y_true, y_pred)
    low, high = min(y_true.min(), y_pred.min()), max(y_true.max(), y_pred.max())
    classes = num_classes or high + 1
    if low < 0 or high >= classes:
        raise ValueError(f"labels go from {low} to {high}; there are {classes} classes")
    cells = np.bincount(y_true * classes + y_pred, minlength=classes**2)
    return cells.reshape(classes, classes)


def per_fold(y_true, y_pred, fold) -> pd.DataFrame:
    """Return fold, n, uar, war, macro_f1 of every test fold."""
    y_true, y_pred, fold = _columns(y_true, y_pred, fold)
    names, n = np.unique(fold, return_counts=True)
    found = [scores(y_true[fold == name], y_pred[fold == name]) for name in names]
    return pd.DataFrame({"fold": names, "n": n}).join(pd.DataFrame(found))


def _columns(*columns) -> list[np.ndarray]:
    arrays = [np.asarray(column) for column in columns]
    shapes = [array.shape for array in arrays]
    if len(set(shapes)) > 1 or arrays[0].ndim != 1 or not arrays[0].size:
        raise ValueError(f"columns of one and the same length are needed, not {shapes}")
    return arrays


# Clusters are speakers, or utterances where the speaker of some row is unknown.
Interval = namedtuple("Interval", "low high clusters reliable unit note")


def interval(y_true, y_pred, speaker, metric="uar", draws=1000, seed=0) -> Interval:
    """Return the percentile interval of a bootstrap of one of `SCORES` over speakers.

    A draw takes as many speakers as there are, with replacement, and from each as many
    clips as there are: the cells of the confusion matrix, from their multinomial.
    """
    y_true, y_pred, speaker = _columns(y_true, y_pred, speaker)
    classes = 1 + max(y_true.max(), y_pred.max())
    cell = y_true * classes + y_pred
    counts = _resampled(cell, classes**2, speaker, draws, seed)
    found = _scores_of_counts(counts.reshape(-1, classes, classes))
    return _percentiles(found[metric], speaker)


def _resampled(cell, cells: int, speaker, draws: int, seed: int) -> np.ndarray:
    """Return how often each of `cells` occurs in each draw, int (draws, cells)."""
    rng = np.random.default_rng(seed)
    names, code = np.unique(speaker, return_inverse=True)
    if "" in names:
        names, code = names[:1], np.zeros_like(code)
    taken = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), draws)
    total = np.zeros((draws, cells), np.int64)
    for index in range(len(names)):
        there, counts = np.unique(cell[code == index], return_counts=True)
        drawn = rng.multinomial(counts.sum(), counts / counts.sum(), draws)
        total[:, there] += taken[:, [index]] * drawn
    return total


def _percentiles(values, speaker) -> Interval:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    clusters, unit, why = len(np.unique(speaker)), "speaker", "too few"
    if "" in np.unique(speaker):
        clusters, unit, why = len(speaker), "utterance", "speakers unknown: too narrow"
    reliable = unit == "speaker" and clusters >= FEW_SPEAKERS
    warning = "" if reliable else f" ({why}, indicative only)"
    note = f"{LEVEL:.0%} interval, {clusters} {unit}s resampled{warning}"
    return Interval(low, high, clusters, reliable, unit, note)


def pooled_and_folds(predictions: pd.DataFrame, draws: int = 1000) -> dict:
    """Return the scores of a run, pooled and over folds, as its manifest has them."""
    y_true, y_pred, fold = (predictions[name] for name in ("y_true", "y_pred", "fold"))
    speaker = predictions["speaker"].fillna("")
    pooled = scores(y_true, y_pred)
    for metric in ("uar", "war"):
        found = interval(y_true, y_pred, speaker, metric, draws)
        pooled[f"{metric}_interval"] = [found.low, found.high]
    basis = {key: getattr(found, key) for key in ("unit", "clusters", "reliable")}
    pooled["interval"] = {"draws": draws, "level": LEVEL} | basis
    folds = per_fold(y_true, y_pred, fold).drop(columns="n")
    spread = folds[list(SCORES)].std().astype(object)
    return {
        "pooled": pooled,
        "per_fold": folds.to_dict("records"),
        "mean": folds[list(SCORES)].mean().to_dict(),
        "sd": spread.where(spread.notna(), None).to_dict(),  # JSON has no NaN
    }


def compare_predictions(first, second, draws=1000, seed=0) -> dict:
    """Compare two systems on the same clips; each is a list of predictions, one a seed.

    The difference is of UAR pooled over all clips, with its paired interval; smallest_p
    is the least that so many speakers (0 where unknown) can give; mcnemar_p, as if
    clips were independent, is NaN with several seeds. Seeds may test other clips, each
    of them as often by one system as by the other.
    """
    ours, theirs = (
        pd.concat(side)
        .eval("right = y_pred == y_true")
        .groupby(["file", "y_true", "speaker"])["right"]
        .agg(["mean", "size"])
        for side in (first, second)
    )
    often = ours["size"] / len(first), theirs["size"] / len(second)
    twice = any(frame["file"].duplicated().any() for frame in [*first, *second])
    if twice or not often[0].equals(often[1]):
        odd = ours.index.levels[0].symmetric_difference(theirs.index.levels[0])
        raise ValueError(
            f"{len(odd)} clips were tested by one system only, some twice or under "
            "another label or speaker; compare runs of one corpus, and of the same "
            "seeds where these decide who is tested"
        )
    gain = np.round(ours["mean"] - theirs["mean"], 12).to_numpy()  # equal made equal
    y_true, speaker = (ours.index.get_level_values(n) for n in ("y_true", "speaker"))
    # UAR is the mean over classes of correctness, so this is the difference of UAR.
    table = pd.DataFrame({"speaker": speaker, "y": y_true, "gain": gain})
    gains = table.groupby(["speaker", "y"])["gain"].mean().groupby("speaker").mean()
    gains = gains[:0] if "" in gains.index else gains
    pairs, cell = np.unique([y_true, gain], axis=1, return_inverse=True)
    counts = _resampled(cell.ravel(), pairs.shape[1], speaker, draws, seed)
    member = pairs[0][:, None] == np.unique(y_true)  # (cells, classes)
    clips = np.where(counts @ member, counts @ member, np.nan)
    values = np.nanmean((counts * pairs[1]) @ member / clips, axis=1)
    span = _percentiles(values, speaker)
    only = [int(np.sum(gain > 0)), int(np.sum(gain < 0))]
    mcnemar = min(1.0, 2 * stats.binom.cdf(min(only), sum(only), 0.5))
    return {
        "difference": float(table.groupby("y")["gain"].mean().mean()),
        **{"low": span.low, "high": span.high, "reliable": span.reliable},
        "speakers": len(gains),
        "sign_flip_p": sign_flip(gains, seed) if len(gains) else np.nan,
        "smallest_p": min(1.0, 2 / 2 ** len(gains)),
        "mcnemar_p": mcnemar if len(first) == len(second) == 1 else np.nan,
        "only_first": only[0],
        "only_second": only[1],
    }


def sign_flip(differences, seed: int = 0) -> float:
    """Return the two-sided p of the sign-flip test on the mean of differences.

    It is the share of all 2**n sign patterns whose mean is at least as far from zero.
    """
    values = np.asarray(differences, float)
    observed = abs(values.sum())
    limit = observed - 1e-9 * max(1.0, observed)  # ties in spite of rounding
    if len(values) <= EXACT_SPEAKERS:
        # SciPy's permutation_test would visit every pattern in Python. A pattern and
        # its mirror image are equally far: half of them suffice.
        sums = values[:1]
        for value in values[1:]:
            sums = np.concatenate([sums + value, sums - value])
        return float(np.mean(np.abs(sums) >= limit))
    rng = np.random.default_rng(seed)
    sums = sum(value * rng.choice((-1, 1), RANDOM_FLIPS) for value in values)
    return float((1 + np.sum(np.abs(sums) >= limit)) / (1 + RANDOM_FLIPS))


def holm(p_values) -> np.ndarray:
    """Return p-values corrected by Holm: the i-th smallest of m times m - i + 1."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(stepped, 1)[np.argsort(order)]


def reliability(y_true, probabilities, bins: int = 15) -> pd.DataFrame:
    """Return low, high, n, confidence and accuracy of bins of equal width."""
    probabilities = np.asarray(probabilities, float)
    y_true, confidence = _columns(y_true, probabilities.max(axis=1))
    if confidence.max() > 1 + 1e-6:  # softmax may exceed 1 by a rounding error
        raise ValueError("probabilities must lie between 0 and 1; these do not")
    edges = np.linspace(0, 1, bins + 1)
    place = pd.cut(np.minimum(confidence, 1), edges, labels=False)
    right = probabilities.argmax(axis=1) == y_true
    groups = pd.DataFrame({"confidence": confidence, "accuracy": right}).groupby(place)
    table = groups.mean().reindex(range(bins))
    table.insert(0, "n", groups.size().reindex(range(bins), fill_value=0))
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:]}).join(table)


def expected_calibration_error(y_true, probabilities, bins: int = 15) -> float:
    """Return the expected calibration error (Guo et al., ICML 2017, equation 3)."""
    table = reliability(y_true, probabilities, bins)
    gap = (table["accuracy"] - table["confidence"]).abs().fillna(0)
    return float(np.average(gap, weights=table["n"]))
