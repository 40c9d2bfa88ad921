"""UAR, WAR and macro F1, over all rows, per class, per speaker and per fold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_fscore_support

SCORES = ("uar", "war", "macro_f1")


def scores(y_true: np.ndarray, y_pred: np.ndarray) -> dict[str, float]:
    """Return UAR, WAR and macro F1.

    UAR (unweighted average recall) is the mean recall over the classes that
    occur in `y_true`: a held-out speaker may lack a class, and what was never
    said cannot be missed. Macro F1 is the mean over the same classes. WAR
    (weighted average recall) is the share of rows that are right.

    Args:
        y_true: True label indices, (n,).
        y_pred: Predicted label indices, (n,).

    Returns:
        "uar", "war" and "macro_f1", each between 0 and 1.

    Raises:
        ValueError: If there are no rows, or unequally many.
    """
    y_true, y_pred = checked(y_true, y_pred)
    counts = confusion(y_true, y_pred, 1 + max(y_true.max(), y_pred.max()))
    return {name: float(value) for name, value in scores_of_counts(counts).items()}


def scores_of_counts(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return the scores of confusion counts.

    Args:
        counts: Rows of true and columns of predicted classes, (..., K, K).

    Returns:
        "uar", "war" and "macro_f1", each (...).
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    said, heard = counts.sum(axis=-1), counts.sum(axis=-2)
    present = said > 0
    classes = present.sum(axis=-1)
    recall = hits / np.maximum(said, 1)
    f1 = 2 * hits / np.maximum(said + heard, 1)
    return {
        "uar": np.where(present, recall, 0).sum(axis=-1) / classes,
        "war": hits.sum(axis=-1) / said.sum(axis=-1),
        "macro_f1": np.where(present, f1, 0).sum(axis=-1) / classes,
    }


def confusion(y_true: np.ndarray, y_pred: np.ndarray, num_classes: int) -> np.ndarray:
    """Return how often class i (row) was heard as class j (column), int (K, K).

    Raises:
        ValueError: If a label is not in 0 ... num_classes - 1.
    """
    y_true, y_pred = checked(y_true, y_pred)
    for name, labels in (("y_true", y_true), ("y_pred", y_pred)):
        if labels.min() < 0 or labels.max() >= num_classes:
            raise ValueError(
                f"{name} holds labels from {labels.min()} to {labels.max()}, but "
                f"there are {num_classes} classes (0 to {num_classes - 1})"
            )
    cells = np.bincount(y_true * num_classes + y_pred, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def per_class(
    y_true: np.ndarray, y_pred: np.ndarray, label_names: Sequence[str]
) -> pd.DataFrame:
    """Return precision, recall, F1 and support of every class.

    What is undefined is NaN: the recall of a class that never occurs, the
    precision of one that is never predicted.

    Args:
        y_true: True label indices, (n,).
        y_pred: Predicted label indices, (n,).
        label_names: Names in index order.

    Returns:
        One row a class in index order, indexed by label.
    """
    y_true, y_pred = checked(y_true, y_pred)
    confusion(y_true, y_pred, len(label_names))  # rejects labels without a name
    columns = precision_recall_fscore_support(
        y_true, y_pred, labels=range(len(label_names)), zero_division=np.nan
    )
    index = pd.Index(list(label_names), name="label")
    names = ("precision", "recall", "f1", "support")
    return pd.DataFrame(dict(zip(names, columns, strict=True)), index=index)


def per_speaker(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    speaker: np.ndarray,
    sex: np.ndarray | None = None,
) -> pd.DataFrame:
    """Return the scores of every speaker.

    Args:
        y_true: True label indices, (n,).
        y_pred: Predicted label indices, (n,).
        speaker: Speakers, (n,).
        sex: Sexes, (n,), to be carried along as a column.

    Returns:
        Columns speaker, (sex,) n, uar, war, macro_f1, sorted by speaker; UAR
        over the classes that the speaker has.
    """
    table = _per_group(y_true, y_pred, speaker, "speaker")
    if sex is not None:
        of_speaker = dict(zip(speaker, sex, strict=True))
        table.insert(1, "sex", [of_speaker[name] for name in table["speaker"]])
    return table


def per_fold(y_true: np.ndarray, y_pred: np.ndarray, fold: np.ndarray) -> pd.DataFrame:
    """Return columns fold, n, uar, war, macro_f1: the scores of every test fold.

    Args:
        y_true: True label indices, (n,).
        y_pred: Predicted label indices, (n,).
        fold: Number of the fold that tested the row, (n,).
    """
    return _per_group(y_true, y_pred, fold, "fold")


def _per_group(
    y_true: np.ndarray, y_pred: np.ndarray, group: np.ndarray, name: str
) -> pd.DataFrame:
    y_true, y_pred, group = checked(y_true, y_pred, group)
    rows = []
    for value in np.unique(group):
        here = group == value
        found = scores(y_true[here], y_pred[here])
        rows.append({name: value, "n": int(here.sum()), **found})
    return pd.DataFrame(rows)


def chance(y_true: np.ndarray) -> dict[str, float]:
    """Return what always answering the most frequent class scores.

    Returns:
        "uar", which is 1 / (number of classes that occur), and "war", the share
        of the most frequent class.
    """
    (y_true,) = checked(y_true)
    counts = np.unique(y_true, return_counts=True)[1]
    return {"uar": 1 / len(counts), "war": float(counts.max() / counts.sum())}


def checked(*columns: np.ndarray) -> list[np.ndarray]:
    """Return the columns as arrays.

    Raises:
        ValueError: If they are empty, not one-dimensional or of unequal length.
    """
    arrays = [np.asarray(column) for column in columns]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1 or arrays[0].ndim != 1 or not arrays[0].size:
        raise ValueError(
            "labels and speakers must be columns of one and the same length, at "
            f"least 1; their shapes are {[array.shape for array in arrays]}"
        )
    return arrays
