"""Scores, intervals, paired tests, calibration and neighbourhoods, on plain arrays.

Labels are indices; speakers "" where unknown; scores and p-values lie in [0, 1].
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import precision_recall_fscore_support
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_consistent_length

SCORES = ("uar", "war", "macro_f1")
FEW_SPEAKERS = 8  # with fewer, percentiles of a bootstrap over speakers mislead
EXACT_SPEAKERS = 24  # 2**23 sums fit in memory; with more, signs are drawn
RANDOM_FLIPS = 100_000


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


def per_class(y_true, y_pred, label_names) -> pd.DataFrame:
    """Return precision, recall, f1 and support by label; NaN where undefined."""
    confusion(y_true, y_pred, len(label_names))  # refuses labels without a name
    columns = precision_recall_fscore_support(
        y_true, y_pred, labels=range(len(label_names)), zero_division=np.nan
    )
    table = pd.DataFrame(columns, ["precision", "recall", "f1", "support"], label_names)
    return table.T.rename_axis("label").astype({"support": int})


def per_speaker(y_true, y_pred, speaker, sex) -> pd.DataFrame:
    """Return speaker, sex, n, uar, war, macro_f1: over the classes each one has."""
    table = per_fold(y_true, y_pred, speaker).rename(columns={"fold": "speaker"})
    of_speaker = dict(zip(speaker, sex, strict=True))
    table.insert(1, "sex", table["speaker"].map(of_speaker))
    return table


def per_fold(y_true, y_pred, fold) -> pd.DataFrame:
    """Return fold, n, uar, war, macro_f1 of every test fold."""
    y_true, y_pred, fold = _columns(y_true, y_pred, fold)
    names, n = np.unique(fold, return_counts=True)
    found = [scores(y_true[fold == name], y_pred[fold == name]) for name in names]
    return pd.DataFrame({"fold": names, "n": n}).join(pd.DataFrame(found))


def chance(y_true) -> dict[str, float]:
    """Return the "uar" and "war" of always answering the most frequent class."""
    shares = pd.Series(*_columns(y_true)).value_counts(normalize=True)
    return {"uar": 1 / len(shares), "war": float(shares.max())}


def _columns(*columns) -> list[np.ndarray]:
    arrays = [np.asarray(column) for column in columns]
    shapes = [array.shape for array in arrays]
    if len(set(shapes)) > 1 or arrays[0].ndim != 1 or not arrays[0].size:
        raise ValueError(f"columns of one and the same length are needed, not {shapes}")
    return arrays


# A percentile interval of the bootstrap over `clusters` units: speakers, or utterances
# where the speaker of some row is unknown. It is not reliable then, and not with fewer
# than eight speakers; the note says so.
Interval = namedtuple("Interval", "low high clusters reliable unit level note")


def interval(
    y_true, y_pred, speaker, metric="uar", draws=1000, level=0.95, seed=0
) -> Interval:
    """Return the bootstrap interval of one of `SCORES` at a coverage `level`.

    A draw takes as many speakers as there are, with replacement, and from each as many
    clips as there are: the cells of the confusion matrix, from their multinomial.
    """
    if metric not in SCORES:
        raise ValueError(f"unknown metric '{metric}'; one of {list(SCORES)}")
    y_true, y_pred, speaker = _columns(y_true, y_pred, speaker)
    classes = 1 + max(y_true.max(), y_pred.max())
    cell = y_true * classes + y_pred
    counts = _resampled(cell, classes**2, speaker, draws, seed)
    values = _scores_of_counts(counts.reshape(-1, classes, classes))[metric]
    return _percentiles(values, speaker, level)


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


def _percentiles(values, speaker, level: float) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; give a share between 0 and 1, e.g. 0.95")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()
    clusters, unit, why = len(np.unique(speaker)), "speaker", "too few"
    if "" in np.unique(speaker):
        clusters, unit, why = len(speaker), "utterance", "speakers unknown: too narrow"
    reliable = unit == "speaker" and clusters >= FEW_SPEAKERS
    warning = "" if reliable else f" ({why}, indicative only)"
    note = f"{level:.0%} interval, {clusters} {unit}s resampled{warning}"
    return Interval(low, high, clusters, reliable, unit, level, note)


def pooled_and_folds(predictions: pd.DataFrame, draws: int = 1000) -> dict:
    """Return the scores of a run, pooled and over folds, as its manifest has them."""
    y_true, y_pred, fold = (predictions[name] for name in ("y_true", "y_pred", "fold"))
    speaker = predictions["speaker"].fillna("").astype(str).to_numpy(dtype=object)
    pooled = scores(y_true, y_pred)
    for metric in ("uar", "war"):
        found = interval(y_true, y_pred, speaker, metric, draws)
        pooled[f"{metric}_interval"] = [found.low, found.high]
    basis = ("level", "unit", "clusters", "reliable")
    pooled["interval"] = {"draws": draws} | {key: getattr(found, key) for key in basis}
    folds = per_fold(y_true, y_pred, fold).drop(columns="n")
    spread = folds[list(SCORES)].std().astype(object)
    return {
        "pooled": pooled,
        "per_fold": folds.to_dict("records"),
        "mean": folds[list(SCORES)].mean().to_dict(),
        "sd": spread.where(spread.notna(), None).to_dict(),  # JSON has no NaN
    }


def compare_predictions(first, second, draws=1000, level=0.95, seed=0) -> dict:
    """Compare two systems on the same clips; each is a list of predictions, one a seed.

    The difference is of UAR pooled over all clips, with its paired interval; smallest_p
    is the least that so many speakers (0 where unknown) can give; mcnemar_p, as if
    clips were independent, is NaN with several seeds.
    """
    sides = [
        [frame.set_index("file").sort_index() for frame in side]
        for side in (first, second)
    ]
    one = sides[0][0]
    for frame in sides[0] + sides[1]:
        odd = one.index.symmetric_difference(frame.index)
        differ = [n for n in ("y_true", "speaker") if [*one[n]] != [*frame[n]]]
        for wrong, message in (
            (frame.index.has_duplicates, "a clip was tested more than once"),
            (len(odd), f"{len(odd)} clips were tested by one system only: {odd[:1]}"),
            (differ, f"the two systems disagree about {differ} of a clip"),
        ):
            if wrong:
                raise ValueError(f"{message}; compare runs of the same corpus")
    right = [[frame["y_pred"] == frame["y_true"] for frame in side] for side in sides]
    ours, theirs = (np.mean(side, axis=0) for side in right)
    gain = np.round(ours - theirs, 12)  # equal shares made equal
    y_true, speaker = one["y_true"].to_numpy(), one["speaker"].to_numpy()
    # UAR is the mean over classes of correctness, so this is the difference of UAR.
    table = pd.DataFrame({"speaker": speaker, "y": y_true, "gain": gain})
    gains = table.groupby(["speaker", "y"])["gain"].mean().groupby("speaker").mean()
    gains = gains[:0] if "" in gains.index else gains
    pairs, cell = np.unique([y_true, gain], axis=1, return_inverse=True)
    counts = _resampled(cell.ravel(), pairs.shape[1], speaker, draws, seed)
    member = pairs[0][:, None] == np.unique(y_true)  # (cells, classes)
    clips = np.where(counts @ member, counts @ member, np.nan)
    values = np.nanmean((counts * pairs[1]) @ member / clips, axis=1)
    span = _percentiles(values, speaker, level)
    only = [int(np.sum(gain > 0)), int(np.sum(gain < 0))]
    mcnemar = min(1.0, 2 * stats.binom.cdf(min(only), sum(only), 0.5))
    return {
        "difference": float(table.groupby("y")["gain"].mean().mean()),
        **{"low": span.low, "high": span.high, "reliable": span.reliable},
        "speakers": len(gains),
        "sign_flip_p": sign_flip(gains, seed) if len(gains) else np.nan,
        "smallest_p": min(1.0, 2 / 2 ** len(gains)),
        "mcnemar_p": mcnemar if np.isin([ours, theirs], (0, 1)).all() else np.nan,
        "only_first": only[0],
        "only_second": only[1],
    }


def sign_flip(differences, seed: int = 0) -> float:
    """Return the two-sided p of the sign-flip test on the mean of differences.

    It is the share of all 2**n sign patterns whose mean is at least as far from zero.
    """
    values = np.asarray(differences, float)
    if not values.size:
        raise ValueError("there are no differences to test; give one per speaker")
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
    (y_true,), probabilities = _columns(y_true), np.asarray(probabilities, float)
    check_consistent_length(y_true, probabilities)
    confidence = probabilities.max(axis=1)
    # Softmax in single precision may exceed 1 by a rounding error.
    if not np.all((confidence > 0) & (confidence <= 1 + 1e-6)):
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


def smoothed_label_entropy(num_classes: int, smoothing: float) -> float:
    """Return the lowest cross-entropy that smoothed labels allow, in nats."""
    target = np.full(num_classes, smoothing / num_classes)
    target[0] += 1 - smoothing
    return float(stats.entropy(target))


def neighbourhood_purity(z, labels, neighbours: int = 10) -> float:
    """Return the mean share of the nearest neighbours that have the label of a row."""
    z, labels = np.asarray(z), np.asarray(labels)
    check_consistent_length(z, labels)
    fitted = NearestNeighbors(n_neighbors=neighbours).fit(z)
    near = fitted.kneighbors(return_distance=False)  # of the fitted: never itself
    return float(np.mean(labels[near] == labels[:, None]))


def purity_by_chance(labels) -> float:
    """Return the probability that two different points carry the same label."""
    n, counts = len(labels), np.unique(labels, return_counts=True)[1]
    if n < 2:
        raise ValueError("purity needs two points at least")
    return float((counts * (counts - 1)).sum() / (n * (n - 1)))
