"""The scores of a run in the layout of its manifest."""

from __future__ import annotations

from typing import Any

import pandas as pd

from lib.metrics.bootstrap import interval
from lib.metrics.classification import SCORES, per_fold, scores


def pooled_and_folds(predictions: pd.DataFrame, draws: int = 1000) -> dict[str, Any]:
    """Return pooled scores with intervals, scores per fold, their mean and sd.

    Pooled over the rows of all test folds comes first: a fold of one speaker
    may lack classes, so that the mean of fold UARs mixes unlike quantities.

    Args:
        predictions: Columns y_true, y_pred, speaker and fold.
        draws: Number of bootstrap draws of each interval.

    Returns:
        "pooled" (uar, war, macro_f1, uar_interval and war_interval as [low,
        high], and in "interval" what they rest on), "per_fold" (a list of fold,
        uar, war, macro_f1), "mean" and "sd" over the folds. The sd is the
        sample's (n - 1), and None where there is one fold. Ready for JSON.
    """
    y_true, y_pred = (predictions[name].to_numpy() for name in ("y_true", "y_pred"))
    speaker = predictions["speaker"].fillna("").astype(str).to_numpy(dtype=object)
    pooled: dict[str, Any] = scores(y_true, y_pred)
    for metric in ("uar", "war"):
        found = interval(y_true, y_pred, speaker, metric, draws)
        pooled[f"{metric}_interval"] = [found.low, found.high]
    pooled["interval"] = {
        "level": found.level,
        "draws": draws,
        "unit": found.unit,
        "clusters": found.clusters,
        "reliable": found.reliable,
    }
    folds = per_fold(y_true, y_pred, predictions["fold"].to_numpy()).drop(columns="n")
    sd = folds[list(SCORES)].std()
    return {
        "pooled": pooled,
        "per_fold": folds.to_dict("records"),
        "mean": folds[list(SCORES)].mean().to_dict(),
        "sd": {name: float(sd[name]) if len(folds) > 1 else None for name in SCORES},
    }
