"""Two Excel layouts: the official TIM-Net's of one run, and the summary of all runs."""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
from openpyxl import Workbook
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.hyperlink import Hyperlink
from sklearn.metrics import classification_report, confusion_matrix

from lib import files, runs

SCORES = ("precision", "recall", "f1-score", "support")
SUMMARY = ("accuracy", "macro avg", "weighted avg")
COMBINED = "Combined Result"
MOST_CHARACTERS = 31  # of a sheet's name in Excel
MOST_ARGUMENTS = 255  # of a function in Excel


def official_workbook_name(
    corpus: str, folds: int, mean_accuracy: float, seed: int, finished: str
) -> str:
    """Return `<DATA>_<k>fold_<ACC>_<seed>_<timestamp>.xlsx`, as the authors name it.

    `corpus` as the authors call it, `mean_accuracy` in [0, 1], ACC in percent.
    """
    if not 0 <= mean_accuracy <= 1:
        raise ValueError(f"mean_accuracy is {mean_accuracy}; give a fraction in [0, 1]")
    accuracy = round(float(mean_accuracy) * 10_000) / 100
    time = datetime.fromisoformat(finished).strftime("%Y-%m-%d_%H-%M-%S")
    return f"{corpus}_{folds}fold_{accuracy}_{seed}_{time}.xlsx"


def write_official_workbook(
    target: Path, predictions: pd.DataFrame, label_names: Sequence[str]
) -> None:
    """Write the workbook that the official TIM-Net code leaves behind.

    Fold i, counted from 0, has the sheets "<i>", its confusion matrix with the true
    classes as columns, and "<i>_evaluate", its classification report. A class that a
    fold lacks has empty scores and no part in the macro average.
    """
    tables = _fold_tables(predictions, label_names)
    with (
        files.atomic_path(target) as temporary,
        pd.ExcelWriter(temporary, engine="openpyxl") as writer,
    ):
        for fold, (matrix, report) in tables.items():
            sheet = matrix.reset_index(names=" ", allow_duplicates=True)
            sheet.to_excel(writer, sheet_name=str(fold - 1))
            report.to_excel(writer, sheet_name=f"{fold - 1}_evaluate")
        for sheet in writer.book:
            _keep_text(sheet)


def _keep_text(sheet) -> None:
    """Make text of every string: a label such as "=1" is no formula."""
    for row in sheet.iter_rows():
        for cell in row:
            cell.data_type = "s" if isinstance(cell.value, str) else cell.data_type


def _fold_tables(
    predictions: pd.DataFrame, label_names: Sequence[str]
) -> dict[int, tuple[pd.DataFrame, pd.DataFrame]]:
    """Return confusion matrix (predicted, true) and report of every fold."""
    names, indices = [str(name) for name in label_names], range(len(label_names))
    if predictions.empty:
        raise ValueError("there are no predictions to tabulate; run 02_train first")
    unknown = {*predictions[["y_true", "y_pred"]].to_numpy().flat} - {*indices}
    if unknown:
        message = f"predictions hold the label indices {sorted(unknown)}"
        raise ValueError(f"{message}, but the labels are {names}")
    tables = {}
    for fold, rows in predictions.groupby("fold", sort=True):
        answers = rows["y_true"], rows["y_pred"]
        counts = confusion_matrix(*answers, labels=indices).T
        # Indices cannot be mistaken for "accuracy" and the averages; names could.
        told = {"target_names": [str(index) for index in indices], "zero_division": 0}
        report = pd.DataFrame(
            classification_report(*answers, labels=indices, output_dict=True, **told)
        ).T.set_axis([*names, *SUMMARY])
        # Scikit-learn counts a class that nobody said as a recall of 0.
        absent = [*(report["support"].iloc[: len(names)] == 0), False, False, False]
        report.loc[absent, list(SCORES[:3])] = np.nan
        report.iloc[-2, :3] = report.iloc[: len(names), :3].mean()
        tables[int(fold)] = pd.DataFrame(counts, names, names), report
    return tables


# A finished run as the summary shows it: its title is corpus and system, its marks are
# what no number may be shown without, its predictions have fold, y_true and y_pred.
ReportedRun = namedtuple("ReportedRun", "run_id title marks label_names predictions")


def reported_runs(results: Path, run_ids: Iterable[str]) -> list[ReportedRun]:
    """Read finished runs for `write_summary_workbook`, in the order of their ids."""
    reported = []
    for run_id in run_ids:
        document = runs.read_manifest(Path(results) / run_id / "run.json")
        config, names = document["config"], document["data"]["label_names"]
        leaks = document["folds"][0].get("chosen_on") == "test"
        leak = " (epoch chosen on the test fold)" if leaks else ""
        audio = "synthetic audio" if document["synthetic"] else "recorded speech"
        marks = f"protocol {config['protocol']}{leak} · {audio} · run {run_id}"
        title = f"{config['corpus']} · {config['model']}"
        table = runs.read_predictions(Path(results) / run_id / "predictions.csv")
        reported.append(ReportedRun(run_id, title, marks, names, table))
    return reported


def write_summary_workbook(target: Path, reported: Sequence[ReportedRun]) -> None:
    """Write a first sheet with the means of all runs, and a sheet for every run."""
    text = "Avg Acc: mean over folds of the macro recall (UAR). Avg Weight: mean over "
    text += "folds of the accuracy (WAR)."
    book, names = Workbook(), _sheet_names([run.run_id for run in reported])
    # Values of formulas are not stored: make spreadsheet programs compute them.
    book.calculation.fullCalcOnLoad = True
    combined, book.active.title = book.active, COMBINED
    rows = [["Accuracy Analysis Summary"]]
    rows += [[text if reported else "There are no finished runs yet."], []]
    for run, name in zip(reported, names, strict=True):
        tables = _fold_tables(run.predictions, run.label_names)
        _write_run(book.create_sheet(name), run, tables)
        averages = np.mean([report.to_numpy()[-3:] for _, report in tables.values()], 0)
        rows += [
            [run.title],
            [run.marks],
            [f"Emotions: {len(run.label_names)}", f"Fold: {len(tables)}"],
            ["Avg Acc", averages[1, 1], "Avg Weight", averages[0, 0]],
            *_titled([None, *SCORES], ["Avg Accuracy", *SUMMARY[1:]], averages),
            [],
        ]
    _write(combined, rows)
    for top, name in zip(range(4, len(rows), 9), names, strict=True):
        link = combined.cell(top + 1, 1)
        link.hyperlink = Hyperlink(link.coordinate, location=f"'{name}'!A1")
        link.style = "Hyperlink"
        for column in (2, 4):
            combined.cell(top + 3, column).number_format = "0.00%"
        _percent(combined, top + 5, 3)
    with files.atomic_path(target) as temporary:
        book.save(temporary)


def _sheet_names(run_ids: Sequence[str]) -> list[str]:
    """Return legal, unique names; a long id keeps its head and its last 8 digits."""
    names = {COMBINED.lower(): "", "history": ""}  # Excel keeps the latter for itself
    for run_id in run_ids:
        legal = re.sub(r"[\[\]:*?/\\']", "_", run_id) or "_"
        name, number = legal, 1
        if len(legal) > MOST_CHARACTERS:
            name = f"{legal[: MOST_CHARACTERS - 9]}-{legal[-8:]}"
        while name.lower() in names:
            number += 1
            name = f"{legal[: MOST_CHARACTERS - 5]} ({number})"
        names[name.lower()] = name
    return list(names.values())[2:]


def _write_run(sheet, run: ReportedRun, tables) -> None:
    """Write all folds of a run below each other, and formulas over them at the end."""
    labels, size = run.label_names, len(run.label_names)
    matrices, reports = (np.array(part) for part in zip(*tables.values(), strict=True))
    note = "Confusion matrices: rows are the predicted, columns the true emotion."
    rows, tops = [[run.title], [run.marks], [note], []], []
    titles = [f"Fold {fold}" for fold in tables]
    titles += ["Final: matrix summed, report averaged over folds"]
    empty = np.full((1, size, size), np.nan), np.full((1, size + 3, 4), np.nan)
    for title, matrix, report in zip(
        titles, [*matrices, *empty[0]], [*reports, *empty[1]], strict=True
    ):
        tops.append(len(rows) + 1)
        rows += [
            [f"{title} · {run.marks}"],
            *_titled(["predicted \\ true", *labels], labels, matrix),
            *_titled([None, *SCORES], [*labels, *SUMMARY], report),
            [],
        ]
    _write(sheet, rows)
    for top in tops:
        _percent(sheet, top + 3 + size, size + 3)
    for function, below, values in (
        ("SUM", 2, matrices),
        ("AVERAGE", 3 + size, reports),
    ):
        # What no fold has a value of stays empty.
        for row, column in np.argwhere(~np.isnan(values).all(axis=0)):
            letter = get_column_letter(column + 2)
            *cells, total = (f"{letter}{top + below + row}" for top in tops)
            # A union in parentheses counts as one argument.
            union = "({})" if len(cells) > MOST_ARGUMENTS else "{}"
            sheet[total] = f"={function}({union.format(','.join(cells))})"


def _titled(head: list, titles: Sequence[str], values) -> list[list]:
    """Return a table as rows: its head, and every row behind its title."""
    return [head, *([title, *row] for title, row in zip(titles, values, strict=True))]


def _write(sheet, rows: Iterable[list]) -> None:
    for values in rows:
        sheet.append([None if value != value else value for value in values])
    _keep_text(sheet)
    sheet["A1"].font = Font(bold=True, size=14)
    for column in range(1, max(sheet.max_column, 6) + 1):
        width = 24 if column == 1 else 14
        sheet.column_dimensions[get_column_letter(column)].width = width
    sheet.freeze_panes = "B4"  # titles and names stay in sight while scrolling


def _percent(sheet, top: int, size: int) -> None:
    """Show the scores of a report as percentages, its supports as numbers."""
    for row in sheet.iter_rows(top, top + size - 1, 2, 5):
        for cell in row:
            cell.number_format = "0.00%" if cell.column < 5 else "0.0"
    sheet.cell(top + size - 3, 5).number_format = "0.00%"  # repeats the accuracy
