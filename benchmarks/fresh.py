"""Call a function of a benchmark in a process of its own.

A fresh process has no compiled programs, no pools of memory and no threads left over
from the measurement before, and its failure is an error message here.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


def call(
    target: str, environment: Mapping[str, str] | None = None, **arguments: Any
) -> Any:
    """Return what a function returns in a fresh process.

    Args:
        target: "module:function".
        environment: Variables that are set for it.
        **arguments: Its arguments, values that JSON has.

    Raises:
        RuntimeError: If it fails; the message is that of its error.
    """
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.fresh", target, json.dumps(arguments)],
        cwd=REPOSITORY,
        env={"TF_CPP_MIN_LOG_LEVEL": "3"} | os.environ | dict(environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    with contextlib.suppress(ValueError, KeyError):
        answer = json.loads(process.stdout)
        if process.returncode == 0:
            return answer["result"]
        raise RuntimeError(answer["error"])
    # It did not live to tell: killed, or stopped inside a library.
    *_, last = ["", *process.stderr.strip().splitlines()]
    raise RuntimeError(f"{target} ended with status {process.returncode} {last}")


def answer(target: str, arguments: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return the exit status, and the result or the error of a function."""
    module, function = target.split(":")
    try:
        result = getattr(importlib.import_module(module), function)(**arguments)
    except (Exception, SystemExit) as error:
        return 1, {"error": f"{type(error).__name__}: {error}"}
    return 0, {"result": result}


def main() -> int:
    """Call what the command line names; write one JSON document."""
    # What the packages print must not mix with the answer.
    with os.fdopen(os.dup(1), "w") as channel:
        os.dup2(2, 1)
        status, document = answer(sys.argv[1], json.loads(sys.argv[2]))
        # NumPy's numbers are no JSON, but numbers; what is not a number is an error.
        text = json.dumps(document, default=float, allow_nan=False)
        channel.write(text)
    return status


if __name__ == "__main__":
    sys.exit(main())
