"""The workbook "Accuracy Analysis Summary.xlsx": all runs, fold by fold."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from openpyxl import Workbook
from openpyxl.worksheet.hyperlink import Hyperlink
from openpyxl.worksheet.worksheet import Worksheet

from lib import files
from lib.runs import manifest
from lib.runs import predictions as predictions_file
from lib.runs.cells import (
    REPORT_COLUMNS,
    block,
    formula,
    heading,
    lay_out,
    put,
    report_rows,
)
from lib.runs.fold_tables import SUMMARY_ROWS, FoldTables, fold_tables

COMBINED = "Combined Result"
_MOST_CHARACTERS = 31  # of a sheet's name in Excel


@dataclasses.dataclass(frozen=True)
class ReportedRun:
    """A finished run as the summary shows it.

    Attributes:
        run_id: Its id.
        corpus: Corpus of the run.
        model: System of the run.
        protocol: Protocol of the run.
        chosen_on: "last", "validation" or "test".
        synthetic: True if nobody speaks on the audio.
        label_names: Names of the labels in index order.
        predictions: Every tested utterance: fold, y_true, y_pred.
    """

    run_id: str
    corpus: str
    model: str
    protocol: str
    chosen_on: str
    synthetic: bool
    label_names: tuple[str, ...]
    predictions: pd.DataFrame

    @property
    def marks(self) -> str:
        """What no number of the run may be shown without."""
        leak = " (epoch chosen on the test fold)" if self.chosen_on == "test" else ""
        audio = "synthetic audio" if self.synthetic else "recorded speech"
        return f"protocol {self.protocol}{leak} · {audio} · run {self.run_id}"


def reported_runs(results: Path, run_ids: Iterable[str]) -> list[ReportedRun]:
    """Read finished runs for `write_summary_workbook`.

    Args:
        results: The folder of all runs.
        run_ids: Ids of finished runs, in the order they shall appear.

    Raises:
        FileNotFoundError: If a run or its predictions are missing.
        ValueError: If its manifest or predictions are damaged.
    """
    return [_read(Path(results) / run_id) for run_id in run_ids]


def _read(folder: Path) -> ReportedRun:
    document = manifest.read(folder / "run.json")
    config = document["config"]
    return ReportedRun(
        run_id=folder.name,
        corpus=config["corpus"],
        model=config["model"],
        protocol=config["protocol"],
        chosen_on=document["folds"][0].get("chosen_on", ""),
        synthetic=bool(document["synthetic"]),
        label_names=tuple(document["data"]["label_names"]),
        predictions=predictions_file.read(folder / "predictions.csv"),
    )


def write_summary_workbook(target: Path, runs: Sequence[ReportedRun]) -> None:
    """Write the summary of all runs.

    The first sheet has a block per run: "Avg Acc" is the mean over folds of the
    macro recall (UAR), "Avg Weight" the mean accuracy (WAR). A sheet per run
    follows with confusion matrix and report of every fold, and at its end the
    block "Final", whose formulas average the folds.

    Args:
        target: The file to write, atomically.
        runs: The runs, in the order they shall appear.

    Raises:
        ValueError: As `fold_tables`.
        OSError: If the file cannot be written.
    """
    book = Workbook()
    # Values of formulas are not stored: make spreadsheet programs compute them.
    book.calculation.fullCalcOnLoad = True
    combined = book.active
    combined.title = COMBINED
    row = _begin_combined(combined, bool(runs))
    names = sheet_names([run.run_id for run in runs])
    for run, name in zip(runs, names, strict=True):
        tables = fold_tables(run.predictions, run.label_names)
        row = _combined_block(combined, row, run, name, tables)
        _run_sheet(book.create_sheet(name), run, tables)
    with files.atomic_path(target) as temporary:
        book.save(temporary)


def sheet_names(run_ids: Sequence[str]) -> list[str]:
    """Return a legal and unique sheet name for every run.

    A long id keeps its head and its last eight digits, which tell runs apart.
    """
    taken = {COMBINED.lower(), "history"}  # Excel keeps the latter for itself
    names = []
    for run_id in run_ids:
        legal = re.sub(r"[\[\]:*?/\\']", "_", run_id) or "_"
        name = legal
        if len(legal) > _MOST_CHARACTERS:
            name = f"{legal[: _MOST_CHARACTERS - 9]}-{legal[-8:]}"
        number = 1
        while name.lower() in taken:
            number += 1
            name = f"{legal[: _MOST_CHARACTERS - 5]} ({number})"
        taken.add(name.lower())
        names.append(name)
    return names


def _begin_combined(sheet: Worksheet, any_runs: bool) -> int:
    put(sheet, 1, 1, "Accuracy Analysis Summary", bold=True, size=14)
    text = (
        "Avg Acc: mean over folds of the macro recall (UAR). Avg Weight: mean over "
        "folds of the accuracy (WAR)."
    )
    put(sheet, 2, 1, text if any_runs else "There are no finished runs yet.")
    lay_out(sheet, 14)
    return 4


def _combined_block(
    sheet: Worksheet, top: int, run: ReportedRun, name: str, tables: list[FoldTables]
) -> int:
    """Write a run's block of the first sheet and return the row after it."""
    reports = np.stack([table.report.to_numpy(dtype=float) for table in tables])
    averages = reports[:, -len(SUMMARY_ROWS) :].mean(axis=0)
    heading(sheet, top, f"{run.corpus} · {run.model}", 5)
    put(sheet, top + 1, 1, run.marks)
    link = sheet.cell(top + 1, 1)
    link.hyperlink = Hyperlink(ref=link.coordinate, location=f"'{name}'!A1")
    link.style = "Hyperlink"
    put(sheet, top + 2, 1, f"Emotions: {len(run.label_names)}")
    put(sheet, top + 2, 2, f"Fold: {len(tables)}")
    for column, title, value in (
        (1, "Avg Acc", averages[1, 1]),
        (3, "Avg Weight", averages[0, 0]),
    ):
        put(sheet, top + 3, column, title, bold=True)
        put(sheet, top + 3, column + 1, value, shown="0.00%", bold=True)
    titles = ("Avg Accuracy", *SUMMARY_ROWS[1:])
    return report_rows(sheet, top + 4, titles, averages.tolist()) + 1


def _run_sheet(sheet: Worksheet, run: ReportedRun, tables: list[FoldTables]) -> None:
    """Write all folds of a run below each other, and the averages at the end."""
    put(sheet, 1, 1, f"{run.corpus} · {run.model}", bold=True, size=14)
    put(sheet, 2, 1, run.marks)
    note = "Confusion matrices: rows are the predicted, columns the true emotion."
    put(sheet, 3, 1, note)
    tops, row = [], 5
    for fold, matrix, report in tables:
        tops.append(row)
        row = block(
            sheet,
            row,
            f"Fold {fold} · {run.marks}",
            run.label_names,
            matrix.to_numpy().tolist(),
            report.to_numpy(dtype=float).tolist(),
        )
    _final(sheet, row, run, tops)
    lay_out(sheet, 14)


def _final(sheet: Worksheet, top: int, run: ReportedRun, tops: list[int]) -> None:
    """Write the sums and averages of all folds as formulas."""
    size = len(run.label_names)
    matrix = [
        [formula("SUM", sheet, tops, 2 + row, 2 + column) for column in range(size)]
        for row in range(size)
    ]
    report = [
        [
            formula("AVERAGE", sheet, tops, 3 + size + row, 2 + column)
            for column in range(len(REPORT_COLUMNS))
        ]
        for row in range(size + len(SUMMARY_ROWS))
    ]
    title = f"Final: matrix summed, report averaged over folds · {run.marks}"
    block(sheet, top, title, run.label_names, matrix, report)
