"""Clean a cell's outputs of progress bars, machine paths and addresses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nbformat import NotebookNode

WIDGET = "application/vnd.jupyter.widget-view+json"
# The one image format kept: every viewer shows it, and it diffs as one blob.
IMAGE = "image/png"

_BAR = re.compile(r"\d+%\|.*\||^\d+it \[")
_NATIVE_LOG = re.compile(
    r"^(\d{4}-\d\d-\d\d [\d:.]+: )?[IWE]\d* ?[\w./ :]*\.(cc|cpp|h):\d+\]"
    r"|^[IWE]0000 |^WARNING: All log messages before absl::InitializeLog"
    r"|^To enable the following instructions:"
)
_CELL_FILE = re.compile(r"(/[^\s\"'<>]*)?/ipykernel_\d+/\d+\.py")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,}")


def clean(outputs: Sequence[NotebookNode], root: Path) -> list[NotebookNode]:
    """Return the outputs without what changes from one execution to the next.

    Args:
        outputs: The outputs of one cell.
        root: The repository, whose absolute path becomes ".".

    Returns:
        The outputs worth keeping. Widgets and progress bars are gone, of the
        images only PNG is left, text names no path of this machine.
    """
    cleaned = []
    for output in outputs:
        if output.output_type == "stream":
            output.text = text(_shown(output.text, output.name), root)
            if output.text.strip():
                cleaned.append(output)
        elif output.output_type == "error":
            output.traceback = [text(line, root) for line in output.traceback]
            output.evalue = text(output.evalue, root)
            cleaned.append(output)
        elif data := _data(output, root):
            output.data = data
            cleaned.append(output)
    return cleaned


def text(content: str, root: Path) -> str:
    """Return text without absolute paths of the repository and memory addresses."""
    content = _CELL_FILE.sub("cell.py", content)
    content = re.sub(rf"(file://)?{re.escape(str(root))}(?![\w.-])", ".", content)
    return _ADDRESS.sub("", content)


def _shown(content: str, stream: str) -> str:
    """Return what a terminal would show in the end, without bars and native logs."""
    lines = [line.rsplit("\r", 1)[-1] for line in _lines(content)]
    kept = [line for line in lines if not _BAR.search(line)]
    if stream == "stderr":
        kept = [line for line in kept if not _NATIVE_LOG.match(line)]
    return "".join(f"{line}\n" for line in kept).rstrip("\n") + "\n"


def _lines(content: str) -> list[str]:
    """Return the lines of a stream; only a line feed ends one."""
    content = content.replace("\r\n", "\n").replace("\b", "")
    return [line.rstrip("\r") for line in content.split("\n")]


def _data(output: NotebookNode, root: Path) -> NotebookNode:
    """Return the representations worth keeping; {} for a widget."""
    if WIDGET in output.data:
        return NotebookNode()
    kept = NotebookNode()
    for kind, content in output.data.items():
        if kind == IMAGE:
            kept[kind] = content.replace("\n", "")
        elif kind.startswith("image/"):
            continue
        elif isinstance(content, str):
            kept[kind] = text(content, root)
        else:
            kept[kind] = content
    return kept
