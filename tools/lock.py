"""Resolve the direct dependencies into one complete, pinned list per platform.

Run by `make lock`. It needs uv, which can resolve for a machine other than the
one it runs on; users of the lists need pip alone.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lib.files import REPOSITORY, write_text

FOLDER = REPOSITORY / "requirements"
# manylinux_2_28 is the oldest Linux that every pinned wheel still supports.
TARGETS = {
    "linux-cpu": "x86_64-manylinux_2_28",
    "linux-cuda": "x86_64-manylinux_2_28",
    "linux-arm64": "aarch64-manylinux_2_28",
    "macos-arm64": "aarch64-apple-darwin",
    # Nothing in it depends on the platform.
    "tests": "x86_64-manylinux_2_28",
}


def lock(name: str, upgrade: bool) -> None:
    """Write `requirements/<name>.txt`, keeping the pins in it that still fit.

    Raises:
        RuntimeError: If the pins contradict each other; with uv's explanation.
    """
    listed = FOLDER / f"{name}.txt"
    pins = FOLDER / ("tests.in" if name == "tests" else "direct.in")
    asked = pins.read_text("utf-8")
    if name == "linux-cuda":  # the TensorFlow that brings its libraries
        asked = asked.replace("tensorflow-cpu==", "tensorflow[and-cuda]==")
    # What both lists name has to be the same version.
    same = ("--constraint", str(FOLDER / "linux-cpu.txt")) if name == "tests" else ()
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch, "direct.in"), Path(scratch, "list.txt")
        source.write_text(asked, "utf-8")
        if listed.exists() and not upgrade:
            shutil.copy(listed, target)
        command = [
            *("uv", "pip", "compile", str(source), "--output-file", str(target), *same),
            *("--python-version", "3.11", "--python-platform", TARGETS[name]),
            # Wheels only, so that no user needs a compiler.
            *("--only-binary", ":all:", "--no-strip-markers", "--quiet"),
            *("--no-header", "--no-annotate"),
            *("--no-emit-index-url", "--no-emit-find-links"),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{listed.name}: {done.stderr.strip()}")
        head = f"# Made by `make lock` from {pins.name} for Python 3.11; do not edit.\n"
        text = head + target.read_text("utf-8")
    # An untouched list keeps its time, so that `make setup` has nothing to do.
    if not listed.exists() or listed.read_text("utf-8") != text:
        write_text(listed, text)


def main(arguments: list[str]) -> int:
    """Write all lists; `--upgrade` takes the newest indirect dependencies."""
    if shutil.which("uv") is None:
        print(
            "`make lock` needs uv, which is not installed: `pipx install uv` or "
            "`pip install uv`. Only changing the pins needs it; using them does not.",
            file=sys.stderr,
        )
        return 1
    for name in TARGETS:
        lock(name, "--upgrade" in arguments)
        print(f"requirements/{name}.txt")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
