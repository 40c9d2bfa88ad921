"""Two Excel layouts: the official TIM-Net's of one run, and the summary of all runs."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from openpyxl import Workbook
from openpyxl.styles import Font
from sklearn.metrics import classification_report, confusion_matrix

from lib import files, runs

SCORES = ["precision", "recall", "f1-score", "support"]


def write_official_workbook(
    target: Path, predictions: pd.DataFrame, label_names: Sequence[str]
) -> None:
    """Write a workbook as the official TIM-Net code does, two sheets a fold from 0.

    "<i>" is the confusion matrix with the true classes as columns, "<i>_evaluate" the
    report. A class that a fold lacks has no scores and no part in the macro average.
    """
    with files.atomic_path(target) as path, pd.ExcelWriter(path, "openpyxl") as writer:
        for fold, (matrix, report) in _fold_tables(predictions, label_names).items():
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
    names, indices, tables = [*map(str, label_names)], range(len(label_names)), {}
    # Indices cannot be mistaken for "accuracy" and the averages; names could.
    told = {"labels": indices, "target_names": [*map(str, indices)], "zero_division": 0}
    for fold, rows in predictions.groupby("fold"):
        answers = rows["y_true"], rows["y_pred"]
        counts = confusion_matrix(*answers, labels=indices).T
        report = classification_report(*answers, output_dict=True, **told)
        report = pd.DataFrame(report).T.set_axis([*names, *list(report)[-3:]])
        # Scikit-learn gives a class that does not occur a recall of 0.
        report.loc[report["support"] == 0, SCORES[:3]] = np.nan
        report.iloc[-2, :3] = report.iloc[: len(names), :3].mean()
        tables[int(fold)] = pd.DataFrame(counts, names, names), report
    return tables


def write_summary_workbook(target: Path, results: Path, run_ids: Iterable[str]) -> None:
    """Write a first sheet with the means of finished runs, and a sheet for each run."""
    text = "Means over folds. Avg Acc: macro recall (UAR). Avg Weight: accuracy (WAR)."
    rows, links = [["Accuracy Analysis Summary"], [text], []], {}
    book = Workbook()
    # Values of formulas are not stored: make spreadsheet programs compute them.
    book.calculation.fullCalcOnLoad = True
    combined, book.active.title = book.active, "Combined Result"
    for run_id in run_ids:
        document = runs.read_manifest(results / run_id / "run.json")
        predictions = runs.read_predictions(results / run_id / "predictions.csv")
        config, label_names = document["config"], document["data"]["label_names"]
        tables = _fold_tables(predictions, label_names)
        title = f"{config['corpus']} · {config['model']}"
        told = [f"protocol {config['protocol']}", *runs.caveats(document)]
        marks = " · ".join([*told, f"run {run_id}"])
        # Excel allows 31 characters.
        name = run_id if len(run_id) <= 31 else f"{run_id[:22]}-{run_id[-8:]}"
        _write_run(book.create_sheet(name), title, marks, tables)
        links[len(rows) + 2] = name
        means = np.mean([report.iloc[-3:] for _, report in tables.values()], axis=0)
        rows += [
            [title],
            [marks],
            [f"Emotions: {len(label_names)}", f"Fold: {len(tables)}"],
            ["Avg Acc", means[1, 1], "Avg Weight", means[0, 0]],
            [None, *SCORES],
            ["Avg Accuracy", *means[0]],
            ["macro avg", *means[1]],
            ["weighted avg", *means[2]],
            [],
        ]
    _write(combined, rows)
    for row, name in links.items():
        combined.cell(row, 1).hyperlink = f"#'{name}'!A1"
        combined.cell(row, 1).style = "Hyperlink"
    with files.atomic_path(target) as temporary:
        book.save(temporary)


def _write_run(sheet, title: str, marks: str, tables) -> None:
    """Write the folds of a run and, below, formulas over them."""
    note = "Confusion matrices: rows are the predicted, columns the true emotion."
    rows, tops = [[title], [marks], [note], []], []
    blocks = {f"Fold {fold}": table for fold, table in tables.items()}
    blocks["Final: matrix summed, report averaged over folds"] = tables[min(tables)]
    for heading, (matrix, report) in blocks.items():
        tops.append(len(rows) + 1)
        rows.append([f"{heading} · {marks}"])
        rows += [["predicted \\ true", *matrix], *matrix.itertuples(name=None)]
        rows += [[None, *report], *report.itertuples(name=None), []]
    _write(sheet, rows)
    # Every number of the last block becomes a formula over its place in the others.
    for row in range(tops[-1] + 1, len(rows)):
        function = "SUM" if row < tops[-1] + 2 + len(matrix) else "AVERAGE"
        for column in range(2, sheet.max_column + 1):
            places = [sheet.cell(row - tops[-1] + top, column) for top in tops[:-1]]
            numbers = [cell for cell in places if isinstance(cell.value, int | float)]
            if numbers:
                cells = ",".join(cell.coordinate for cell in numbers)
                # Excel takes 255 arguments; a union in parentheses is one.
                cells = f"({cells})" if len(numbers) > 255 else cells
                sheet.cell(row, column).value = f"={function}({cells})"
                sheet.cell(row, column).number_format = numbers[0].number_format


def _write(sheet, rows: Iterable) -> None:
    for values in rows:
        sheet.append([None if value != value else value for value in values])
    _keep_text(sheet)
    for row in sheet.iter_rows(min_col=2, max_col=4):  # supports stand in column 5
        for cell in row:
            if isinstance(cell.value, float):
                cell.number_format = "0.00%"
    sheet["A1"].font = Font(bold=True, size=14)
    sheet.sheet_format.defaultColWidth = 14
    sheet.column_dimensions["A"].width = 24
    sheet.freeze_panes = "B4"  # titles and names stay in sight while scrolling
