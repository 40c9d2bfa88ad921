"""Run the course from end to end on generated speech: `make demo`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import papermill
from papermill.exceptions import PapermillExecutionError

from lib.corpora import demo
from lib.files import REPOSITORY, Workspace, find_workspace
from lib.tools import kernels

CHAPTERS = ("01_preprocess", "02_train", "03_test", "04_tsne", "05_results")
# What fits a terminal; the table itself has more.
SHOWN = ("corpus", "model", "protocol", "uar", "uar_low", "uar_high", "war", "macro_f1")


def run(notebooks: Sequence[Path], folder: Path) -> None:
    """Run notebooks one after another, with the parameters they are kept with.

    Args:
        notebooks: The notebooks, in order.
        folder: Where the executed notebooks go, under the same names.

    Raises:
        FileNotFoundError: If a notebook is missing.
        RuntimeError: If a notebook fails; it names the notebook and the cell,
            and the notebooks after it are not run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for place, notebook in enumerate(notebooks, start=1):
        if not notebook.is_file():
            raise FileNotFoundError(f"{notebook} is missing; restore it from git.")
        print(f"[{place}/{len(notebooks)}] {notebook.stem} ... ", end="", flush=True)
        started = time.monotonic()
        _execute(notebook, folder / notebook.name)
        print(f"{time.monotonic() - started:.0f} s", flush=True)


def _execute(notebook: Path, executed: Path) -> None:
    try:
        papermill.execute_notebook(
            str(notebook),
            str(executed),
            progress_bar=False,
            cwd=str(notebook.parent),
            **kernels.OPTIONS,
        )
    except PapermillExecutionError as error:
        raise RuntimeError(
            f"{notebook.name} failed in cell [{error.exec_count}]: {error.ename}: "
            f"{error.evalue}\nEverything up to there is in {executed}"
        ) from None


def report(workspace: Workspace, executed: Path) -> str:
    """Return what the demo produced: the results and where to look further.

    Raises:
        FileNotFoundError: If notebook 05 left no table.
    """
    table = workspace.results / "leaderboard.csv"
    if not table.is_file():
        raise FileNotFoundError(f"{table} is missing, which 05_results writes.")
    runs = pd.read_csv(table)
    runs = runs.loc[runs["corpus"] == demo.CORPUS.name, list(SHOWN)]
    results = runs.to_string(index=False, float_format="{:.3f}".format)
    folders = sorted({figure.parent for figure in workspace.results.rglob("*.png")})
    figures = "\n".join(f"  {_shown(folder)}" for folder in folders) or "  none"
    return (
        "\nResults on generated speech, which say nothing about human speech:\n\n"
        f"{results}\n\nTable:\n  {_shown(table)}\nFigures:\n{figures}\n"
        f"Executed notebooks:\n  {_shown(executed)}\n\n"
        "Next: `make lab` opens the notebooks; begin with 00_start_here."
    )


def _shown(path: Path) -> str:
    return str(
        path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path
    )


def main() -> int:
    """Generate DEMO, run the chapters, print the results; return the status."""
    workspace = find_workspace()
    executed = workspace.results / "demo"
    notebooks = [REPOSITORY / "notebooks" / f"{name}.ipynb" for name in CHAPTERS]
    try:
        demo.generate(workspace.datasets / demo.CORPUS.name, verbose=2)
        run(notebooks, executed)
        print(report(workspace, executed))
    except (OSError, RuntimeError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
