"""Scores, intervals and paired tests, on predictions.

Labels are indices; speakers "" where unknown; scores and p-values lie in [0, 1].
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

SCORES = ("uar", "war", "macro_f1")
FEW_SPEAKERS = 8  # with fewer, one unusual speaker decides the interval
EXACT_SPEAKERS = 24  # 2**23 sums fit in memory; with more, signs are drawn
RANDOM_FLIPS = 100_000
LEVEL = 0.95  # coverage of the intervals


def scores(y_true, y_pred) -> dict[str, float]:
    """Return "uar" and "macro_f1", means over the classes of `y_true`, and "war"."""
    labels = np.union1d(y_true, y_pred)
    if not labels.size:
        raise ValueError("there are no clips to score")
    table = stats.contingency.crosstab(y_true, y_pred, levels=(labels, labels))
    found = _scores_of_counts(table.count)
    return {name: float(value) for name, value in found.items()}


def _scores_of_counts(counts) -> dict[str, np.ndarray]:
    """Return the scores (...) of confusion matrices (..., true class, predicted)."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    predicted, true = counts.sum(axis=-2), counts.sum(axis=-1)
    occurs = true > 0
    with np.errstate(invalid="ignore"):  # no clip, no score
        recall = np.where(occurs, hits / np.maximum(true, 1), 0)
        f1 = np.where(occurs, 2 * hits / np.maximum(true + predicted, 1), 0)
        return {
            "uar": recall.sum(axis=-1) / occurs.sum(axis=-1),
            "war": hits.sum(axis=-1) / true.sum(axis=-1),
            "macro_f1": f1.sum(axis=-1) / occurs.sum(axis=-1),
        }


def per_fold(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return fold, n, uar, war, macro_f1 of every test fold."""
    rows = [
        {"fold": fold, "n": len(part)} | scores(part["y_true"], part["y_pred"])
        for fold, part in predictions.groupby("fold")
    ]
    return pd.DataFrame(rows)


def mean_score(seeds: Sequence[pd.DataFrame], metric="uar") -> dict[str, Any]:
    """Return one of `SCORES` as value, pooled over clips, the mean over the seeds.

    `seeds` are predictions of a system, a table for each seed. low to high is the
    interval over speakers, of these seeds; low_seeds to high_seeds that over speakers
    and seeds, None with one seed. Where the speaker of some row is unknown, `unit` is
    "utterance"; note says what the interval rests on, reliable whether to trust it.
    """
    counts, unit = _by_cluster(seeds)
    return _estimate([counts], unit, metric)


def _by_cluster(seeds: Sequence[pd.DataFrame]) -> tuple[np.ndarray, str]:
    """Return confusion matrices (seeds, clusters, K, K), and what a cluster is."""
    clips = pd.concat(seeds)
    unit = "utterance" if clips["speaker"].eq("").any() else "speaker"
    member = clips["file" if unit == "utterance" else "speaker"]
    names, code = np.unique(member, return_inverse=True)
    seed = np.repeat(range(len(seeds)), [len(table) for table in seeds])
    y_true, y_pred = clips["y_true"].to_numpy(), clips["y_pred"].to_numpy()
    classes = 1 + max(y_true.max(), y_pred.max())
    counts = np.zeros((len(seeds), len(names), classes, classes), np.int64)
    np.add.at(counts, (seed, code, y_true, y_pred), 1)
    return counts, unit


def _estimate(sides: Sequence[np.ndarray], unit: str, metric: str) -> dict[str, Any]:
    """Return a mean over seeds with intervals, of one side or of first minus second.

    The jackknife-t interval (Efron and Tibshirani, 1993, chapter 11): in simulations it
    covers what it says, also of six speakers, where bootstrap percentiles do not.
    """
    values = []
    for counts in sides:
        total = counts.sum(axis=1, keepdims=True)
        kept = np.concatenate([total, total - counts], axis=1)
        values.append(_scores_of_counts(kept)[metric])
    values = values[0] - values[1] if len(sides) > 1 else values[0]
    (seeds, clusters), whole = counts.shape[:2], values[:, 0]
    found = {"value": float(whole.mean()), "low_seeds": None, "high_seeds": None}
    parts = [((clusters - 1) * values[:, 1:].mean(axis=0).var(), clusters - 1)]
    parts += [(whole.var(ddof=1) / seeds, seeds - 1)] if seeds > 1 else []
    for end in ("", "_seeds")[:seeds]:
        half = _half_width(parts if end else parts[:1])
        ends = [found["value"] - half, found["value"] + half]
        ends = np.clip(ends, 1 - len(sides), 1)  # a difference may be negative
        found["low" + end], found["high" + end] = ends.tolist()
    clips = counts.sum(axis=-1) > 0
    faults = {
        "speakers unknown: too narrow": unit == "utterance",
        "too few": clusters < FEW_SPEAKERS,
        "an emotion has one speaker only": (clips.sum(axis=1) == 1).any(),
    }
    why = next((fault for fault, holds in faults.items() if holds), "")
    told = f"{LEVEL:.0%} interval, {clusters} {unit}s"
    note = f"{told} ({why}, indicative only)" if why else told
    found |= {"unit": unit, "reliable": not why, "note": note}
    return found | {"seeds": seeds, "clusters": clusters}


def _half_width(parts: Sequence[tuple[float, int]]) -> float:
    """Return that of the interval of a sum; `parts`: variances, degrees of freedom."""
    variance, freedom = np.array(parts, float).T
    total = variance.sum()
    if not freedom.all() or np.isnan(total):  # one cluster tells nothing of others
        return np.inf
    degrees = total**2 / np.sum(variance**2 / freedom) if total else 1  # Satterthwaite
    return stats.t.ppf((1 + LEVEL) / 2, degrees) * np.sqrt(total)


def pooled_and_folds(predictions: pd.DataFrame) -> dict:
    """Return the scores of a run, pooled and over folds, as its manifest has them."""
    pooled = scores(predictions["y_true"], predictions["y_pred"])
    for metric in ("uar", "war"):
        found = mean_score([predictions.fillna({"speaker": ""})], metric)
        pooled[f"{metric}_interval"] = [found["low"], found["high"]]
    basis = {key: found[key] for key in ("unit", "clusters", "reliable")}
    pooled["interval"] = {"method": "jackknife-t", "level": LEVEL} | basis
    folds = per_fold(predictions).drop(columns="n")
    spread = folds[list(SCORES)].std().astype(object)
    return {
        "pooled": pooled,
        "per_fold": folds.to_dict("records"),
        "mean": folds[list(SCORES)].mean().to_dict(),
        "sd": spread.where(spread.notna(), None).to_dict(),  # JSON has no NaN
    }


def compare_predictions(first, second) -> dict[str, Any]:
    """Compare two systems on the same clips: UAR of the first minus that of the second.

    Each is a list of predictions, one a seed, in the same order of seeds. Returns what
    `mean_score` does, `value` being the mean difference, with speakers (0 if unknown),
    sign_flip_p, and smallest_p, the least that so many speakers can give. Where that is
    above 5 % there is no sign_flip_p. ValueError if other clips were tested.
    """
    keys = ["file", "y_true", "speaker"]
    for pair in zip(first, second, strict=True):
        clips = [side[keys].sort_values(keys).to_numpy() for side in pair]
        if not np.array_equal(*clips):
            odd = set(pair[0]["file"]) ^ set(pair[1]["file"])
            raise ValueError(
                f"{len(odd)} clips were tested by one system only, some more often or "
                "under another label or speaker; compare runs of one corpus, under "
                "protocols that test the same clips"
            )
    counts, unit = _by_cluster([*first, *second])
    sides = np.split(counts, 2)
    found = _estimate(sides, unit, "uar")
    # What a speaker adds to the difference. With the two answers of this speaker
    # exchanged it has the other sign, whatever classes the speaker lacks.
    hits = np.diagonal(sides[0] - sides[1], axis1=-2, axis2=-1)  # (seeds, speakers, K)
    clips = sides[0].sum(axis=(1, 3))[:, None]
    shares = (hits / np.maximum(clips, 1)).sum(axis=-1) / (clips > 0).sum(axis=-1)
    speakers = found["clusters"] if unit == "speaker" else 0
    drawn = 1 / (1 + RANDOM_FLIPS) if speakers > EXACT_SPEAKERS else 0.0
    least = max(min(1.0, 2 / 2**speakers), drawn)
    p = np.nan if least > 1 - LEVEL else sign_flip(shares.mean(axis=0))
    return found | {"speakers": speakers, "sign_flip_p": p, "smallest_p": least}


def corrected_t(differences, ratio: float) -> float:
    """Return the two-sided p of the corrected t test on differences of random splits.

    `ratio` is that of tested to training clips. The splits train on the same clips, so
    that their variance alone is too small (Nadeau and Bengio, Machine Learning 52,
    2003, equation 9). NaN with fewer than two splits, or if all are alike.
    """
    values = np.asarray(differences, float)
    if len(values) < 2 or np.ptp(values) < 1e-12:
        return np.nan
    error = np.sqrt((1 / len(values) + ratio) * values.var(ddof=1))
    return float(2 * stats.t.sf(abs(values.mean()) / error, len(values) - 1))


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
