"""Contenders in processes of their own that take turns on one machine.

A contender is a function "module:function" that prepares its work and returns the
function of one turn. All of them see the same minutes of a machine, so their ratios
hold where other programs run beside them.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent


def start(
    target: str, *, python: str = "", packages: str = "", **arguments: Any
) -> subprocess.Popen:
    """Return the process of a contender; names in capitals go into its environment.

    Args:
        target: "module:function".
        python: Another Python to run it; "" for this one.
        packages: Folder with packages that only it needs.
        **arguments: Arguments of the function, values that JSON has.
    """
    environment = {name: arguments.pop(name) for name in [*arguments] if name.isupper()}
    search = os.pathsep.join(filter(None, [str(REPOSITORY), packages]))
    command = [python or sys.executable, "-m", "benchmarks.contest", target]
    return subprocess.Popen(
        [*command, json.dumps(arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=os.environ
        | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": search}
        | environment,
    )


def take_turns(
    contenders: Mapping[str, subprocess.Popen], rounds: int
) -> dict[str, list[dict[str, Any]]]:
    """Return for every contender and turn: seconds, processor seconds, and the answer.

    Raises:
        RuntimeError: If a contender does not start, or fails; its error is above.
    """
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    try:
        # They prepare side by side, and none is timed before all have.
        for name, process in contenders.items():
            if process.stdout.readline().strip() != "ready":
                raise RuntimeError(f"{name} did not start: {' '.join(process.args)}")
        for _ in range(rounds):
            for name, process in contenders.items():
                print(file=process.stdin, flush=True)
                answer = process.stdout.readline()
                if not answer:
                    raise RuntimeError(f"{name} failed: {' '.join(process.args)}")
                turns[name].append(json.loads(answer))
    finally:
        for process in contenders.values():
            process.stdin.close()
            process.wait()
    return turns


def serve(target: str, arguments: Mapping[str, Any]) -> None:
    """Be a contender: a line in, a turn done, its seconds and its answer out."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the packages print goes elsewhere
    module, function = target.split(":")
    turn = getattr(importlib.import_module(module), function)(**arguments)
    print("ready", file=channel, flush=True)
    for _ in sys.stdin:
        wall, processor = time.perf_counter(), time.process_time()
        answer = turn()
        seconds = {"seconds": time.perf_counter() - wall, "answer": answer}
        seconds["processor_seconds"] = time.process_time() - processor
        print(json.dumps(seconds, default=float), file=channel, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], json.loads(sys.argv[2]))
