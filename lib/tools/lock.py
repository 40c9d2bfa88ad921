"""Resolve the direct dependencies into one complete, pinned list per platform.

Run by `make lock`. It needs uv, which can resolve for a machine other than the
one it runs on; users of the lists need pip alone.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lib.files import REPOSITORY, write_text

FOLDER = REPOSITORY / "requirements"
PYTHON = "3.11"
# manylinux_2_28 is the oldest Linux that every pinned wheel still supports.
TARGETS = {
    "linux-cpu": "x86_64-manylinux_2_28",
    "linux-cuda": "x86_64-manylinux_2_28",
    "linux-arm64": "aarch64-manylinux_2_28",
    "macos-arm64": "aarch64-apple-darwin",
    # Nothing in it depends on the platform.
    "tests": "x86_64-manylinux_2_28",
}
HEADER = """\
# Made by `make lock` from {source} for Python {python}; do not edit.
"""


def direct_for(name: str, text: str) -> str:
    """Return the direct dependencies of one list.

    Args:
        name: A key of `TARGETS`.
        text: The content of direct.in.

    Returns:
        The same text; for CUDA with the TensorFlow that brings its libraries.
    """
    if name == "linux-cuda":
        return text.replace("tensorflow-cpu==", "tensorflow[and-cuda]==")
    return text


def command(name: str, source: Path, target: Path) -> list[str]:
    """Return the uv command that resolves one list.

    Wheels only, so that no user needs a compiler. The pins already in `target`
    are kept where they still fit.
    """
    # What both lists name has to be the same version.
    same = ("--constraint", str(FOLDER / "linux-cpu.txt")) if name == "tests" else ()
    return [
        *("uv", "pip", "compile", str(source), "--output-file", str(target), *same),
        *("--python-version", PYTHON, "--python-platform", TARGETS[name]),
        *("--only-binary", ":all:", "--no-strip-markers", "--quiet"),
        *("--no-header", "--no-annotate"),
        *("--no-emit-index-url", "--no-emit-find-links"),
    ]


def lock(name: str, upgrade: bool = False) -> Path:
    """Write `requirements/<name>.txt`.

    Args:
        name: A key of `TARGETS`.
        upgrade: Take the newest version of every indirect dependency.

    Returns:
        The list written.

    Raises:
        FileNotFoundError: If uv is not installed.
        RuntimeError: If the pins contradict each other; with uv's explanation.
    """
    if shutil.which("uv") is None:
        raise FileNotFoundError(
            "`make lock` needs uv, which is not installed: `pipx install uv` or "
            "`pip install uv`. Only changing the pins needs it; using them does not."
        )
    listed = FOLDER / f"{name}.txt"
    pins = FOLDER / ("tests.in" if name == "tests" else "direct.in")
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch, "direct.in"), Path(scratch, "list.txt")
        source.write_text(direct_for(name, pins.read_text("utf-8")), "utf-8")
        if listed.exists() and not upgrade:
            shutil.copy(listed, target)
        done = subprocess.run(
            command(name, source, target), capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{listed.name}: {done.stderr.strip()}")
        header = HEADER.format(source=pins.name, python=PYTHON)
        text = header + target.read_text("utf-8")
    # An untouched list keeps its time, so that `make setup` has nothing to do.
    if not listed.exists() or listed.read_text("utf-8") != text:
        write_text(listed, text)
    return listed


def main(arguments: list[str] | None = None) -> int:
    """Write all lists; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lib.tools.lock")
    parser.add_argument(
        "--upgrade",
        action="store_true",
        help="take the newest version of every indirect dependency",
    )
    upgrade = parser.parse_args(arguments).upgrade
    try:
        for name in TARGETS:
            print(lock(name, upgrade).relative_to(REPOSITORY))
    except (FileNotFoundError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
