"""Do the probabilities mean what they say?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.metrics.classification import checked


def reliability(
    y_true: np.ndarray, probabilities: np.ndarray, bins: int = 15
) -> pd.DataFrame:
    """Return confidence and accuracy in bins of equal width.

    Args:
        y_true: True label indices, (n,).
        probabilities: Class probabilities, (n, classes).
        bins: Number of bins; bin m of M holds the utterances whose largest
            probability lies in ((m - 1)/M, m/M].

    Returns:
        Columns low, high (edges), n, confidence (mean largest probability) and
        accuracy; NaN where a bin is empty.

    Raises:
        ValueError: If the shapes do not match, or a largest probability is not
            in (0, 1].
    """
    confidence, right = _confidence(y_true, probabilities)
    edges = np.linspace(0, 1, bins + 1)
    # The first inner edge that is not below the value: bins closed on the right.
    place = np.searchsorted(edges[1:-1], confidence, side="left")
    n = np.bincount(place, minlength=bins)
    filled = np.where(n > 0, n, np.nan)
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "n": n,
            "confidence": np.bincount(place, confidence, bins) / filled,
            "accuracy": np.bincount(place, right, bins) / filled,
        }
    )


def expected_calibration_error(
    y_true: np.ndarray, probabilities: np.ndarray, bins: int = 15
) -> float:
    """Return the expected calibration error (Guo et al., ICML 2017, equation 3).

    The mean over utterances of |accuracy - confidence| of their bin, 0 to 1.

    Args:
        y_true: True label indices, (n,).
        probabilities: Class probabilities, (n, classes).
        bins: Number of bins of equal width.
    """
    table = reliability(y_true, probabilities, bins)
    gap = (table["accuracy"] - table["confidence"]).abs().fillna(0)
    return float((gap * table["n"]).sum() / table["n"].sum())


def _confidence(
    y_true: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    (y_true,) = checked(y_true)
    probabilities = np.asarray(probabilities, float)
    if probabilities.ndim != 2 or len(probabilities) != len(y_true):
        raise ValueError(
            f"probabilities have the shape {probabilities.shape}; one row for each "
            f"of the {len(y_true)} labels is needed"
        )
    confidence = probabilities.max(axis=1)
    # Softmax in single precision may exceed 1 by a rounding error.
    if not np.all((confidence > 0) & (confidence <= 1 + 1e-6)):
        raise ValueError("probabilities must lie between 0 and 1; these do not")
    return np.minimum(confidence, 1), probabilities.argmax(axis=1) == y_true


def smoothed_label_entropy(num_classes: int, smoothing: float) -> float:
    """Return the lowest cross-entropy that smoothed labels allow, in nats.

    A target gives 1 - s + s/K to the true and s/K to each other class; even a
    perfect network pays the entropy of that target, so that a training curve
    levels off there and not at zero.

    Args:
        num_classes: Number of classes K.
        smoothing: Label smoothing s, from 0 to 1.
    """
    target = np.full(num_classes, smoothing / num_classes)
    target[0] += 1 - smoothing
    target = target[target > 0]
    return float(-(target * np.log(target)).sum()) + 0.0  # not -0.0
