"""Confusion matrix and classification report of every fold, as Excel sheets show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import classification_report, confusion_matrix

SUMMARY_ROWS = ("accuracy", "macro avg", "weighted avg")
SCORES = ("precision", "recall", "f1-score")


class FoldTables(NamedTuple):
    """What the predictions of one fold amount to.

    Attributes:
        fold: Number of the fold, from 1.
        matrix: Numbers of utterances, rows predicted and columns true class,
            both in label order.
        report: Rows classes, accuracy, macro avg, weighted avg; columns
            precision, recall, f1-score, support.
    """

    fold: int
    matrix: pd.DataFrame
    report: pd.DataFrame


def fold_tables(
    predictions: pd.DataFrame, label_names: Sequence[str]
) -> list[FoldTables]:
    """Return the tables of every fold, in order.

    Args:
        predictions: Columns fold, y_true, y_pred (label indices) at least.
        label_names: Names of the labels in index order; all of them are in
            every table, also where a fold lacks a class.

    Raises:
        ValueError: If there are no predictions, or a label index has no name.
    """
    names = [str(name) for name in label_names]
    if predictions.empty:
        raise ValueError("there are no predictions to tabulate; run 02_train first")
    used = pd.unique(predictions[["y_true", "y_pred"]].to_numpy().ravel())
    unknown = sorted(set(used.tolist()) - set(range(len(names))))
    if unknown:
        raise ValueError(
            f"predictions hold the label indices {unknown}, but the labels are {names}"
        )
    return [
        FoldTables(int(fold), _matrix(rows, names), _report(rows, names))
        for fold, rows in predictions.groupby("fold", sort=True)
    ]


def _matrix(rows: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    indices = np.arange(len(names))
    counts = confusion_matrix(rows["y_true"], rows["y_pred"], labels=indices)
    return pd.DataFrame(counts.T, index=names, columns=names)


def _report(rows: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Return scikit-learn's report; a class that the fold lacks has no scores.

    Scikit-learn would count such a class as a recall of 0, so that a speaker
    who never sounds disgusted would cost a perfect system a seventh of its UAR.
    """
    indices = np.arange(len(names))
    report = classification_report(
        rows["y_true"],
        rows["y_pred"],
        labels=indices,
        # Indices cannot be mistaken for "accuracy" and the averages; names could.
        target_names=[str(index) for index in indices],
        output_dict=True,
        zero_division=0,
    )
    table = pd.DataFrame(report).transpose()
    table.index = [*names, *SUMMARY_ROWS]
    absent = np.append(table["support"].to_numpy()[: len(names)] == 0, [False] * 3)
    if absent.any():
        scores = table.loc[:, list(SCORES)].to_numpy(copy=True)
        scores[absent] = np.nan
        scores[-2] = np.nanmean(scores[: len(names)], axis=0)
        table[list(SCORES)] = scores
    return table
