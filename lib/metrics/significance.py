"""P-values: sign flips over speakers, McNemar, Holm, and Nadeau and Bengio's t."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

EXACT_SPEAKERS = 24  # 2**23 sums fit in memory; beyond, signs are drawn
RANDOM_FLIPS = 100_000


def sign_flip(differences: Sequence[float], seed: int = 0) -> float:
    """Return the two-sided p of the sign-flip test on the mean difference.

    If A and B were alike, every speaker's difference could as well have the
    other sign. The p-value is the share of all 2**n sign patterns whose mean is
    at least as far from zero as the observed one. Exact up to 24 speakers;
    beyond, 100,000 patterns are drawn and the observed one is added to them.

    Args:
        differences: One difference per speaker.
        seed: Seed of the drawn patterns.

    Raises:
        ValueError: If there are no differences.
    """
    values = np.asarray(differences, float)
    if not values.size:
        raise ValueError("there are no differences to test; give one per speaker")
    observed = abs(values.sum())
    limit = observed - 1e-9 * max(1.0, observed)  # ties in spite of rounding
    if len(values) <= EXACT_SPEAKERS:
        # A pattern and its mirror image are equally far: half of them suffice.
        sums = values[:1]
        for value in values[1:]:
            sums = np.concatenate([sums + value, sums - value])
        return float(np.mean(np.abs(sums) >= limit))
    rng = np.random.default_rng(seed)
    sums = np.zeros(RANDOM_FLIPS)
    for value in values:
        sums += value * rng.choice((-1, 1), RANDOM_FLIPS)
    return float((1 + np.sum(np.abs(sums) >= limit)) / (1 + RANDOM_FLIPS))


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the two-sided p of McNemar's exact test.

    Args:
        only_a: Number of utterances that A alone has right.
        only_b: Number of utterances that B alone has right.
    """
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(only_b, only_a + only_b).pvalue)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return p-values corrected for their number by Holm's step-down method.

    Args:
        p_values: The p-values of a family of tests, (m,).

    Returns:
        Adjusted p-values in the same order: the i-th smallest times m - i + 1,
        never smaller than the one before it, at most 1.
    """
    p = np.asarray(p_values, float)
    if p.ndim != 1 or not np.all((p >= 0) & (p <= 1)):
        raise ValueError(f"p_values must be a list of numbers from 0 to 1, not {p}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def corrected_repeated_cv_t(
    differences: Sequence[float], test_share: float
) -> tuple[float, float]:
    """Return t and two-sided p of Nadeau and Bengio's corrected resampled t test.

    Overlapping training sets make plain t tests over random splits far too sure;
    the variance is multiplied by 1/k + n_test/n_train instead of 1/k.

    Args:
        differences: Score of B minus score of A on each of k splits.
        test_share: Share of the utterances that test, e.g. 0.2.

    Raises:
        ValueError: If there are fewer than two splits or the share is not
            between 0 and 1.
    """
    values = np.asarray(differences, float)
    if len(values) < 2 or not 0 < test_share < 1:
        raise ValueError(
            f"{len(values)} splits and a test share of {test_share}: give two splits "
            "or more and a share between 0 and 1"
        )
    if np.ptp(values) == 0:
        return (0.0, 1.0) if values[0] == 0 else (np.copysign(np.inf, values[0]), 0.0)
    factor = 1 / len(values) + test_share / (1 - test_share)
    t = values.mean() / np.sqrt(factor * values.var(ddof=1))
    return float(t), float(2 * stats.t.sf(abs(t), len(values) - 1))
