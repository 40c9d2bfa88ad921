"""The Excel layout of the official TIM-Net: two sheets per fold."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd

from lib import files
from lib.runs.fold_tables import fold_tables
from lib.runs.summary import ReportedRun, reported_runs, write_summary_workbook

__all__ = [
    "ReportedRun",
    "official_workbook_name",
    "reported_runs",
    "write_official_workbook",
    "write_summary_workbook",
]


def official_workbook_name(
    official_corpus_name: str,
    folds: int,
    mean_accuracy: float,
    seed: int,
    finished_timestamp: str | datetime,
) -> str:
    """Return `<DATA>_<k>fold_<ACC>_<seed>_<timestamp>.xlsx`.

    Args:
        official_corpus_name: What the TIM-Net authors call the corpus ("RAVDE").
        folds: Number of folds k.
        mean_accuracy: Mean accuracy over the folds, in [0, 1]; ACC is in percent.
        seed: Seed of the folds.
        finished_timestamp: When the run finished, as in its manifest (ISO 8601).

    Raises:
        ValueError: If the accuracy is no fraction or the time no ISO time.
    """
    if not 0 <= mean_accuracy <= 1:
        raise ValueError(f"mean_accuracy is {mean_accuracy}; give a fraction in [0, 1]")
    if isinstance(finished_timestamp, str):
        finished_timestamp = datetime.fromisoformat(finished_timestamp)
    accuracy = round(float(mean_accuracy) * 10_000) / 100
    time = finished_timestamp.strftime("%Y-%m-%d_%H-%M-%S")
    return f"{official_corpus_name}_{folds}fold_{accuracy}_{seed}_{time}.xlsx"


def write_official_workbook(
    target: Path, predictions: pd.DataFrame, label_names: Sequence[str]
) -> None:
    """Write the workbook that the official TIM-Net code leaves behind.

    Fold i, counted from 0, has the sheet "<i>", its confusion matrix with the
    true classes as columns and the predicted ones as rows, and the sheet
    "<i>_evaluate", its classification report. As there, the accuracy row
    repeats the accuracy in all four columns. A class that a fold lacks has
    empty scores and no part in the macro average.

    Args:
        target: The file to write, atomically.
        predictions: Columns fold (from 1), y_true, y_pred (label indices).
        label_names: Names of the labels in index order.

    Raises:
        ValueError: As `fold_tables`.
        OSError: If the file cannot be written.
    """
    sheets: dict[str, pd.DataFrame] = {}
    for fold, matrix, report in fold_tables(predictions, label_names):
        sheet = pd.DataFrame({" ": matrix.columns})
        for place, label in enumerate(matrix.columns):
            counts = matrix.iloc[:, place].to_numpy()
            sheet.insert(place + 1, label, counts, allow_duplicates=True)
        sheets |= {str(fold - 1): sheet, f"{fold - 1}_evaluate": report}
    with (
        files.atomic_path(target) as temporary,
        pd.ExcelWriter(temporary, engine="openpyxl") as writer,
    ):
        for name, sheet in sheets.items():
            sheet.to_excel(writer, sheet_name=name)
        for sheet in writer.book:
            for cell in itertools.chain.from_iterable(sheet):
                if isinstance(cell.value, str):
                    cell.data_type = "s"  # a label such as "=1" is text
