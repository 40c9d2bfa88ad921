"""Scores, intervals, paired tests, calibration and neighbourhoods, on plain arrays.

Everywhere: `y_true` and `y_pred` are label indices (n,), `probabilities` is
(n, classes), `speaker` holds names (n,) with "" where unknown; scores, shares
and p-values lie between 0 and 1.
"""

from lib.metrics.bootstrap import FEW_SPEAKERS, Interval, interval
from lib.metrics.calibration import (
    expected_calibration_error,
    reliability,
    smoothed_label_entropy,
)
from lib.metrics.classification import (
    SCORES,
    chance,
    confusion,
    per_class,
    per_fold,
    per_speaker,
    scores,
)
from lib.metrics.comparison import PairedTest, compare_predictions, paired_test
from lib.metrics.neighbours import neighbourhood_purity, purity_by_chance
from lib.metrics.significance import (
    corrected_repeated_cv_t,
    holm,
    mcnemar,
    sign_flip,
)
from lib.metrics.summary import pooled_and_folds

__all__ = [
    "FEW_SPEAKERS",
    "SCORES",
    "Interval",
    "PairedTest",
    "chance",
    "compare_predictions",
    "confusion",
    "corrected_repeated_cv_t",
    "expected_calibration_error",
    "holm",
    "interval",
    "mcnemar",
    "neighbourhood_purity",
    "paired_test",
    "per_class",
    "per_fold",
    "per_speaker",
    "pooled_and_folds",
    "purity_by_chance",
    "reliability",
    "scores",
    "sign_flip",
    "smoothed_label_entropy",
]
