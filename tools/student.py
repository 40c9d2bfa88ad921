"""The course for students: `make student` writes the notebooks to student/.

An exercise is a group of cells with these tags, in this order: "exercise" (the task,
with hints), "answer" (a stub with a named variable), "solution" and "check"; students
get no solutions and no outputs, and the checks folded. The metadata of a check list
`wrong` answers, which `tried` gives in turn, as a student might.
"""

import copy
import sys

import nbformat
from nbformat import NotebookNode

from lib.files import REPOSITORY, write_text

GROUP = ["exercise", "answer", "solution", "check"]
OWN = {*GROUP, "quiz"}  # what students do, beside what they read
TRIAL = """
for _answer in {answers!r}:
    exec(_answer)
    try:
        exec({check!r})
    except AssertionError as _error:
        assert len(str(_error)) > 10, f"no help with {{_answer}}"
    else:
        raise RuntimeError(f"the check takes {{_answer}}")
"""


def kind(cell: NotebookNode) -> str:
    """Return which part of an exercise a cell is, or ""."""
    return next((tag for tag in cell.metadata.get("tags", []) if tag in GROUP), "")


def student(notebook: NotebookNode) -> NotebookNode:
    """Return a notebook without solutions and outputs."""
    made = copy.deepcopy(notebook)
    made.cells = [cell for cell in made.cells if kind(cell) != "solution"]
    for cell in made.cells:
        cell.metadata.pop("wrong", None)
        # The folders beside the notebooks stay where they are.
        cell.source = cell.source.replace("](recipes/", "](../notebooks/recipes/")
        cell.source = cell.source.replace("](sweeps/", "](../notebooks/sweeps/")
        if kind(cell) == "check":  # many compute the answer
            cell.metadata["jupyter"] = {"source_hidden": True}
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    made.metadata.pop("workbook", None)
    return made


def tried(notebook: NotebookNode) -> NotebookNode:
    """Return a notebook that gives the stub and all wrong answers before a solution."""
    made, answers = copy.deepcopy(notebook), []
    cells, made.cells = made.cells, []
    for cell, after in zip(cells, [*cells[1:], None], strict=True):
        if kind(cell) == "solution":
            answers = [cells[len(made.cells) - 1].source, *after.metadata["wrong"]]
            trial = TRIAL.format(answers=answers, check=after.source)
            cell.source = f"{trial}\n{cell.source}"
        made.cells.append(cell)
    return made


def main() -> int:
    """Write the chapters that are not in student/ yet; return the exit status."""
    for path in sorted((REPOSITORY / "notebooks").glob("*.ipynb")):
        target = REPOSITORY / "student" / path.name
        if target.exists():
            print(f"student/{path.name} stays as it is; delete it for a new one")
            continue
        made = student(nbformat.read(path, as_version=4))
        write_text(target, nbformat.writes(made) + "\n")
    print("The student edition is in student/; `make lab LAB=student` opens it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
