"""Run the committed notebooks and keep their outputs, free of what is volatile.

`python -m tools.render [names ...]` runs notebooks from top to bottom in a new kernel,
with their own parameters, and writes them back.
"""

import hashlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

from lib import batch, config, features, planning, train
from lib.device import select
from lib.files import REPOSITORY, Workspace, sha256_file, write_text
from lib.sweeps import Study
from tools import KERNEL_OPTIONS, readme, student

# A browser opens it at once, and the repository stays light.
LIMIT_BYTES = 1_500_000
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python"}
KERNEL |= {"name": "python3"}
# What a writer says of a cell: tags, folding, the text for those who do not see its
# figure (as MyST-NB names it), wrong answers of an exercise.
METADATA = ("tags", "jupyter", "mystnb", "wrong")
NOTHING = re.compile(
    r"(?i)\bnan\b|nothing to (draw|show)|no (run|pair)s? yet|Empty DataFrame"
)
# What 05 and 08 show beside the run of 02: another system, protocol or seed.
OTHER = ({}, {"protocol": "stratified"}, {"seed": 47})
BESIDE = [{"model": "logistic"} | more for more in OTHER]
_WIDGET = "application/vnd.jupyter.widget-view+json"
_BAR = re.compile(r"\d+%\|.*\||^\d+it \[")
_CELL_FILE = re.compile(r"(/[^\s\"'<>]*)?/ipykernel_\d+/\d+\.py")
_ROOT = re.compile(rf"(file://)?{re.escape(str(REPOSITORY))}(?![\w.-])")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,}")


def render(path: Path) -> None:
    """Run one notebook in a new kernel and write it back; RuntimeError if it fails."""
    notebook = nbformat.read(path, as_version=4)
    # As a student might, it gives wrong answers before the right ones.
    tried = student.tried(notebook)
    client = NotebookClient(
        tried,
        **KERNEL_OPTIONS,
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
    for cell, done in zip(notebook.cells, tried.cells, strict=True):
        known = {name: cell.metadata.get(name) for name in METADATA}
        cell.metadata = NotebookNode({k: value for k, value in known.items() if value})
        if cell.cell_type == "code":
            cell.execution_count = done.execution_count
            cell.outputs = [kept for kept in map(cleaned, done.outputs) if kept]
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.metadata["image/png"] = {"alt": alternative_text(cell)}
    notebook.metadata = NotebookNode(
        kernelspec=NotebookNode(KERNEL),
        language_info=NotebookNode(name="python", file_extension=".py"),
        workbook=NotebookNode(source_sha256=source_sha256(notebook)),
    )
    nbformat.validate(notebook)
    write_text(path, nbformat.writes(notebook) + "\n")


def train_beside(changed: dict[str, object]) -> None:
    """Train DEMO with other parameters, for others to have runs to compare."""
    params = config.validated({"verbose": 0, **changed})
    corpus, data = features.obtain(params)
    plans = [planning.make_plan(params, data, corpus)]
    train.train(plans, data, params.folders, device=select("cpu"), verbose=0)


def alternative_text(cell: NotebookNode) -> str:
    """Return what a cell says of its figure, "" if nothing."""
    return cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")


def source_sha256(notebook: NotebookNode) -> str:
    """Return the SHA-256 over all code cells, and committed runs if it reads them."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    if '"Results" / "reference"' in "".join(sources):
        sources += map(sha256_file, sorted(readme.REFERENCE.rglob("run.json")))
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def cleaned(output: NotebookNode) -> NotebookNode | None:
    """Return an output without paths, addresses, bars and widgets; None if empty."""
    if output.output_type == "stream":
        output.text = plain(_shown(output.text))
        return output if output.text.strip() else None
    if output.output_type == "error":
        output.traceback = [plain(line) for line in output.traceback]
        output.evalue = plain(output.evalue)
        return output
    if _WIDGET in output.data:
        return None
    # Of the images only PNG is kept: every viewer shows it.
    kept = {
        kind: plain(content) if isinstance(content, str) else content
        for kind, content in output.data.items()
        if kind == "image/png" or not kind.startswith("image/")
    }
    output.data = NotebookNode(kept)
    return output if kept else None


def plain(content: str) -> str:
    """Return text without absolute paths of the repository and memory addresses."""
    if "/ipykernel_" in content:  # the pattern takes long for the sound of a player
        content = _CELL_FILE.sub("cell.py", content)
    return _ADDRESS.sub("", _ROOT.sub(".", content))


def _shown(content: str) -> str:
    """Return what a terminal would show in the end, without bars."""
    lines = content.replace("\r\n", "\n").replace("\b", "").split("\n")
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines]
    kept = (line for line in lines if not _BAR.search(line))
    return "\n".join(kept).rstrip("\n") + "\n"


def check(path: Path) -> list[str]:
    """Return what is wrong with a committed notebook, in sentences; [] if nothing."""
    notebook = nbformat.read(path, as_version=4)
    cells = [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]
    kept = notebook.metadata.get("workbook", {}).get("source_sha256")
    stale = "its code, or a run that it reads, changed after rendering"
    faults = [] if kept == source_sha256(notebook) else [stale]
    if [cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)):
        faults.append("its cells were not run once each, from top to bottom")
    if not any(cell.outputs for cell in cells):
        faults.append("it has no outputs")
    for cell in cells:
        on_purpose = "raises-exception" in cell.metadata.get("tags", [])
        errors = [out.ename for out in cell.outputs if out.output_type == "error"]
        faults += [f"{name} is in its outputs" for name in errors if not on_purpose]
        for output in cell.outputs:
            data = output.get("data", {}) | {"text": output.get("text", "")}
            if "image/png" in data and not alternative_text(cell):
                faults.append(f"cell [{cell.execution_count}]: a figure without text")
            text = data["text"] + data.get("text/plain", "")
            if found := NOTHING.search(text):
                faults.append(f"cell [{cell.execution_count}] shows {found[0]}")
    if (size := path.stat().st_size) > LIMIT_BYTES:
        faults.append(f"it is {size / 1e6:.1f} MB, more than {LIMIT_BYTES / 1e6} MB")
    return faults


def main(names: Sequence[str]) -> int:
    """Render the notebooks whose names begin so, or all; return the exit status."""
    known = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
    beginnings = [Path(name).name for name in names] or [""]
    chosen = [path for path in known if path.name.startswith(tuple(beginnings))]
    if not chosen:
        print(f"no notebook begins with {' or '.join(beginnings)}", file=sys.stderr)
        return 1
    for path in chosen:
        print(f"{path.name} ... ", end="", flush=True)
        try:
            if path.name.startswith(("05", "08")):  # which show runs
                for parameters in BESIDE:
                    train_beside(parameters)
            if path.name.startswith(("05", "07")):  # which show a study
                batch.run(Study("demo", Workspace()))
            render(path)
        except (OSError, RuntimeError) as error:
            print(f"\n{error}", file=sys.stderr)
            return 1
        print(f"{path.stat().st_size / 1e3:.0f} kB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
