"""The blocks that the summary workbook is built of."""

from __future__ import annotations

from collections.abc import Sequence

from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.worksheet.worksheet import Worksheet

from lib.runs.fold_tables import SCORES, SUMMARY_ROWS

REPORT_COLUMNS = (*SCORES, "support")
_MOST_ARGUMENTS = 255  # of a function in Excel
_HEADING = PatternFill("solid", fgColor="DDE6F0")


def formula(
    function: str, sheet: Worksheet, tops: list[int], down: int, column: int
) -> str | None:
    """Return a formula over the same cell of every fold; None if all are empty."""
    cells = [sheet.cell(top + down, column) for top in tops]
    if all(cell.value is None for cell in cells):
        return None
    arguments = ",".join(cell.coordinate for cell in cells)
    # A union in parentheses counts as one argument.
    union = f"({arguments})" if len(cells) > _MOST_ARGUMENTS else arguments
    return f"={function}({union})"


def block(
    sheet: Worksheet,
    top: int,
    title: str,
    labels: Sequence[str],
    matrix: list[list],
    report: list[list],
) -> int:
    """Write confusion matrix and report and return the row after them."""
    heading(sheet, top, title, max(len(labels), len(REPORT_COLUMNS)) + 1)
    put(sheet, top + 1, 1, "predicted \\ true", bold=True)
    for place, label in enumerate(labels):
        put(sheet, top + 1, 2 + place, label, bold=True, right=True)
        put(sheet, top + 2 + place, 1, label, bold=True)
        for column, value in enumerate(matrix[place], start=2):
            put(sheet, top + 2 + place, column, value, shown="0")
    titles = (*labels, *SUMMARY_ROWS)
    return report_rows(sheet, top + 2 + len(labels), titles, report) + 1


def report_rows(
    sheet: Worksheet, top: int, titles: Sequence[str], values: list[list]
) -> int:
    """Write a report with its header and return the row after it."""
    for column, title in enumerate(REPORT_COLUMNS, start=2):
        put(sheet, top, column, title, bold=True, right=True)
    accuracy = top + 1 + len(titles) - len(SUMMARY_ROWS)
    for row, (title, numbers) in enumerate(zip(titles, values, strict=True), top + 1):
        put(sheet, row, 1, title, bold=True)
        for column, value in enumerate(numbers, start=2):
            counts = column == 5 and row != accuracy
            put(sheet, row, column, value, shown="0.0" if counts else "0.00%")
    return top + 1 + len(titles)


def heading(sheet: Worksheet, row: int, text: str, width: int) -> None:
    """Write a heading on a coloured strip of `width` columns."""
    put(sheet, row, 1, text, bold=True)
    for column in range(1, width + 1):
        sheet.cell(row, column).fill = _HEADING


def put(
    sheet: Worksheet,
    row: int,
    column: int,
    value: str | float | None,
    *,
    shown: str = "",
    bold: bool = False,
    right: bool = False,
    size: int = 11,
) -> None:
    """Write one cell; only a cell with a number format may hold a formula."""
    if value is None or value != value:
        return
    cell = sheet.cell(row, column, value)
    cell.font = Font(bold=bold, size=size)
    if shown:
        cell.number_format = shown
    elif isinstance(value, str):
        cell.data_type = "s"  # a label such as "=1" is text
    if right:
        cell.alignment = Alignment(horizontal="right")


def lay_out(sheet: Worksheet, width: int) -> None:
    """Set widths, and keep titles and names in sight while scrolling."""
    sheet.column_dimensions["A"].width = 24
    for column in range(2, max(sheet.max_column, 6) + 1):
        letter = sheet.cell(1, column).column_letter
        sheet.column_dimensions[letter].width = width
    sheet.freeze_panes = "B4"
