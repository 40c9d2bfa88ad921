"""Run the committed notebooks and keep their outputs, free of what is volatile.

`python -m lib.tools.render [names ...]` runs notebooks from top to bottom in a new
kernel, with their own parameters, and writes them back. `--check` runs nothing; it
names the notebooks whose outputs are not those of their code.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

from lib.files import REPOSITORY, write_text
from lib.tools import kernels, outputs

NOTEBOOKS = REPOSITORY / "notebooks"
# A browser opens it at once, and the repository stays light.
LIMIT_BYTES = 1_500_000
KERNEL = {
    "display_name": "Python 3 (ipykernel)",
    "language": "python",
    "name": "python3",
}
KEPT_CELL_METADATA = ("tags", "jupyter", "slideshow")


def find(names: Sequence[str] = (), folder: Path = NOTEBOOKS) -> list[Path]:
    """Return the notebooks that names stand for, in order.

    Args:
        names: Beginnings of notebook names ("02", "02_train"), or file names;
            none for all notebooks.
        folder: Where the notebooks lie.

    Raises:
        ValueError: If a name fits no notebook.
    """
    known = sorted(folder.glob("*.ipynb"))
    chosen = []
    for name in names:
        fitting = [path for path in known if path.name.startswith(Path(name).name)]
        if not fitting:
            there = ", ".join(path.stem for path in known) or "none"
            raise ValueError(f"no notebook is called {name!r}; there are: {there}.")
        chosen += fitting
    return [path for path in known if not names or path in chosen]


def source_sha256(notebook: NotebookNode) -> str:
    """Return the SHA-256 over the sources of all code cells, in order."""
    return _sha256([cell.source for cell in _code_cells(notebook)])


def outputs_sha256(notebook: NotebookNode) -> str:
    """Return the SHA-256 over the outputs of all code cells, in order."""
    return _sha256([cell.outputs for cell in _code_cells(notebook)])


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _run_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the cells that a kernel counts: those that hold code."""
    return [cell for cell in _code_cells(notebook) if cell.source.strip()]


def read(path: Path) -> NotebookNode:
    """Return a notebook whose cells all have an id that the next reading repeats.

    Ids are kept where they are unique and otherwise made from the notebook's name
    and the position; nbformat alone would draw them at random.
    """
    raw = json.loads(path.read_text("utf-8"))
    taken: set[str] = set()
    for place, cell in enumerate(raw["cells"]):
        if cell.get("id") in {None, ""} | taken:
            name = f"{path.stem} {place}"
            cell["id"] = hashlib.sha256(name.encode()).hexdigest()[:8]
        taken.add(cell["id"])
    raw["nbformat"], raw["nbformat_minor"] = 4, 5
    return nbformat.reads(json.dumps(raw), as_version=4)


def render(path: Path) -> None:
    """Run one notebook in a new kernel and write it back with its outputs.

    Args:
        path: The notebook; unchanged if a cell fails.

    Raises:
        RuntimeError: If a cell fails; with the notebook, the cell and the error.
    """
    notebook = read(path)
    notebook.metadata = NotebookNode(kernelspec=KERNEL)
    client = NotebookClient(
        notebook,
        **kernels.OPTIONS,
        timeout=None,
        kernel_name=KERNEL["name"],
        coalesce_streams=True,
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute()
    except (CellExecutionError, DeadKernelError) as error:
        raise RuntimeError(f"{path.name}: {error}") from None
    clean(notebook)
    nbformat.validate(notebook)
    write_text(path, nbformat.writes(notebook) + "\n")


def clean(notebook: NotebookNode) -> None:
    """Drop from an executed notebook what the next execution would change.

    Kept are sources, tags, outputs and execution counts.

    Args:
        notebook: The notebook, changed in place.
    """
    for cell in notebook.cells:
        kept = {key: cell.metadata.get(key) for key in KEPT_CELL_METADATA}
        cell.metadata = NotebookNode({key: kept[key] for key in kept if kept[key]})
        if cell.cell_type == "code":
            cell.outputs = outputs.clean(cell.outputs, REPOSITORY)
    notebook.metadata = NotebookNode(
        kernelspec=NotebookNode(KERNEL),
        language_info=NotebookNode(name="python", file_extension=".py"),
    )
    # Hashed as they will be read back, where lines have been split and joined.
    written = nbformat.reads(nbformat.writes(notebook), as_version=4)
    notebook.metadata.workbook = NotebookNode(
        source_sha256=source_sha256(notebook), outputs_sha256=outputs_sha256(written)
    )


def check(path: Path) -> list[str]:
    """Return what is wrong with a committed notebook, in sentences; [] if nothing.

    Args:
        path: The notebook; only read.
    """
    notebook = nbformat.read(path, as_version=4)
    kept = notebook.metadata.get("workbook", {})
    cells = _run_cells(notebook)
    faults = []
    if "source_sha256" not in kept:
        return ["it was never rendered"]
    if kept["source_sha256"] != source_sha256(notebook):
        faults.append("its code changed after it was rendered")
    if [cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)):
        faults.append("its cells were not run once each, from top to bottom")
    if kept.get("outputs_sha256") != outputs_sha256(notebook):
        faults.append("its outputs are not those that the renderer wrote")
    if not any(cell.outputs for cell in cells):
        faults.append("it has no outputs")
    faults += [f"{error} is in its outputs" for error in _errors(cells)]
    if (size := path.stat().st_size) > LIMIT_BYTES:
        faults.append(f"it is {size / 1e6:.1f} MB, more than {LIMIT_BYTES / 1e6} MB")
    return faults


def _errors(cells: Sequence[NotebookNode]) -> list[str]:
    """Return the errors in outputs, but for those a lesson shows on purpose."""
    return [
        output.ename
        for cell in cells
        if "raises-exception" not in cell.metadata.get("tags", [])
        for output in cell.outputs
        if output.output_type == "error"
    ]


def _check_all(paths: Sequence[Path]) -> int:
    faults = {path.name: check(path) for path in paths}
    for name, found in faults.items():
        print(f"{name}: {'; '.join(found) or 'as rendered'}")
    wrong = [name for name, found in faults.items() if found]
    if wrong:
        numbers = " ".join(name.split("_")[0] for name in wrong)
        print(f'Run: make render NAMES="{numbers}"', file=sys.stderr)
    return 1 if wrong else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Render or check the notebooks named; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lib.tools.render")
    parser.add_argument("names", nargs="*", help="notebooks, e.g. 02; none for all")
    parser.add_argument("--check", action="store_true", help="run nothing, only check")
    given = parser.parse_args(arguments)
    try:
        paths = find(given.names)
        if given.check:
            return _check_all(paths)
        for path in paths:
            print(f"{path.name} ... ", end="", flush=True)
            render(path)
            print(f"{path.stat().st_size / 1e3:.0f} kB", flush=True)
    except (OSError, RuntimeError, ValueError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
