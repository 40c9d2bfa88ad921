"""Run the course from end to end on generated speech: `make demo`."""

import os
import sys
import time
from pathlib import Path

import joblib
import pandas as pd
import papermill
from papermill.exceptions import PapermillExecutionError

from lib.corpora import demo
from lib.files import REPOSITORY, Workspace
from tools import KERNEL_OPTIONS

CHAPTERS = ("01_preprocess", "02_train", "03_test", "04_tsne", "05_results")
# What fits a terminal; the table itself has more.
SHOWN = ["corpus", "model", "protocol", "uar", "uar_low", "uar_high", "war", "macro_f1"]


def run(notebooks: list[Path], folder: Path, at_once: int = 1) -> None:
    """Run notebooks, with the parameters they are kept with, into a folder.

    RuntimeError if one fails: it names the cell, and later ones are not begun.
    """
    folder.mkdir(parents=True, exist_ok=True)
    several = joblib.Parallel(at_once, prefer="threads")
    several(joblib.delayed(_run)(one, folder / one.name) for one in notebooks)


def _run(notebook: Path, executed: Path) -> None:
    started = time.monotonic()
    given = {"cwd": str(notebook.parent), "progress_bar": False} | KERNEL_OPTIONS
    try:
        papermill.execute_notebook(str(notebook), str(executed), **given)
    except PapermillExecutionError as error:
        raise RuntimeError(
            f"{notebook.name} failed in cell [{error.exec_count}]: {error.ename}: "
            f"{error.evalue}\nEverything up to there is in {executed}"
        ) from None
    print(f"{notebook.stem}: {time.monotonic() - started:.0f} s", flush=True)


def report(workspace: Workspace, executed: Path) -> str:
    """Return what the demo produced: the results and where to look further."""
    board = pd.read_csv(workspace.results / "leaderboard.csv")
    board = board.loc[board["corpus"] == "DEMO", SHOWN]
    results = board.to_string(index=False, float_format="{:.3f}".format)
    folders = sorted({path.parent for path in workspace.results.rglob("*.png")})
    text = (
        "\nResults on generated speech, which say nothing about human speech:\n\n"
        f"{results}\n\nTable:\n  {workspace.results / 'leaderboard.csv'}\nFigures:\n"
        f"{''.join(f'  {folder}{os.linesep}' for folder in folders)}"
        f"Executed notebooks:\n  {executed}\n\n"
        "Next: `make lab` opens the notebooks; begin with 00_start_here."
    )
    return text.replace(f"{REPOSITORY}/", "")


def main() -> int:
    """Generate DEMO, run the chapters, print the results; return the status."""
    workspace = Workspace()
    executed = workspace.results / "demo"
    notebooks = [REPOSITORY / "notebooks" / f"{name}.ipynb" for name in CHAPTERS]
    try:
        demo.generate(workspace.datasets / "DEMO", verbose=2)
        print("Notebooks 01 to 05 run, two to four minutes:", flush=True)
        run(notebooks[:2], executed)
        run(notebooks[2:], executed, at_once=2)  # none needs what another makes
        print(report(workspace, executed))
    except (OSError, RuntimeError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
