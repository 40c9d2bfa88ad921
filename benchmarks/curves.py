"""How the cost of training grows: over clips, frames, folds and systems.

usage: python -m benchmarks.curves [--only NAME ...]

`clips`: seconds of an epoch against its clips of 188 frames. `frames`: milliseconds of
a step of 64 clips against the frames of each. `folds`: seconds of a whole run against
its folds, through `lib.training`, with 256 clips of 94 frames from 16 speakers, 2
epochs and 2 dilations. `models`: milliseconds of a step of 64 clips of 188 frames, and
parameters, of every neural system. TIM-Net with 8 dilations and batches of 64, unless
it says otherwise.

Every curve is measured in a process of its own. Its points take turns, so that all of
them see the same minutes of a machine; of each point the median counts. What a network
does the first time, such as compiling, is left out, except from a whole run, of which
it is a part.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks import fresh
from benchmarks.step import BATCH, COEFFICIENTS, epoch_of, make_program

CLIPS = (128, 256, 512, 1024)
FRAME_COUNTS = (94, 188, 376, 606)
FOLDS = (1, 2, 4)
FOLD_CLIPS, FOLD_FRAMES, FOLD_CLASSES, FOLD_SPEAKERS, FOLD_EPOCHS = 256, 94, 8, 16, 2
FOLD_DILATIONS = 2  # of 8, so that every run compiles in seconds
ROUNDS = 3
ROUNDS_OF_FOLDS = 2
# The slowest systems take seconds for a step.
STEPS_OF_A_SYSTEM, SECONDS_OF_A_SYSTEM, LEAST_STEPS = 8, 2.0, 3


def take_turns(
    work: Mapping[int, Callable[[], object]], rounds: int
) -> dict[int, list[float]]:
    """Return the seconds of every call, the points taking turns.

    Args:
        work: What is timed, by its size.
        rounds: Calls of each.
    """
    times: dict[int, list[float]] = {size: [] for size in work}
    for _ in range(rounds):
        for size, call in work.items():
            begun = time.perf_counter()
            call()
            times[size].append(time.perf_counter() - begun)
    return times


def spread(times: list[float]) -> dict[str, float]:
    """Return median, least and largest of some times."""
    return {
        "median": statistics.median(times),
        "low": min(times),
        "high": max(times),
    }


def exponent(sizes: list[float], costs: list[float]) -> float:
    """Return the slope of the costs over the sizes, both as logarithms.

    1 means that twice the size costs twice as much, less that it costs less than
    that. It is the least-squares line through all points.

    Args:
        sizes: At least two, positive.
        costs: As many, positive.
    """
    import numpy as np

    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def curve(times: Mapping[int, list[float]], unit: str) -> dict[str, Any]:
    """Return a curve as plain numbers.

    Args:
        times: Seconds of the calls of every size.
        unit: "s" or "ms", the unit of what is returned.

    Returns:
        `unit`; `points`, each with `size`, `median`, `low` and `high`; `exponent`.
    """
    scale = {"s": 1.0, "ms": 1e3}[unit]
    points = [
        {"size": size, **spread([scale * value for value in found])}
        for size, found in times.items()
    ]
    medians = [point["median"] for point in points]
    slope = exponent(list(times), medians)
    return {"unit": unit, "points": points, "exponent": slope}


def clips() -> dict[str, Any]:
    """Return the seconds of an epoch over the number of its clips."""
    program = make_program("timnet")
    work = {count: epoch_of(program, count) for count in CLIPS}
    work[min(CLIPS)]()  # compiles what all of them run
    return curve(take_turns(work, ROUNDS), "s")


def frames() -> dict[str, Any]:
    """Return the milliseconds of a step over the frames of a clip."""
    work = {
        count: epoch_of(make_program("timnet", frames=count)) for count in FRAME_COUNTS
    }
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # each is compiled on one core
        for compiled in [pool.submit(call) for call in work.values()]:
            compiled.result()
    return curve(take_turns(work, 2 * ROUNDS), "ms")


def folds() -> dict[str, Any]:
    """Return the seconds of a run over the number of its folds.

    The speakers are always split into as many folds as the largest run has, of
    which the smaller runs train the first ones: the folds stay alike.
    """
    from benchmarks import synthetic

    data = synthetic.feature_set(
        FOLD_CLIPS, FOLD_FRAMES, COEFFICIENTS, FOLD_CLASSES, FOLD_SPEAKERS
    )

    def run(count: int) -> None:
        synthetic.train(
            data,
            epochs=FOLD_EPOCHS,
            folds=max(FOLDS),
            only=count,
            dilations=FOLD_DILATIONS,
        )

    run(1)
    work = {count: lambda count=count: run(count) for count in FOLDS}
    return curve(take_turns(work, ROUNDS_OF_FOLDS), "s")


def steps_of(name: str) -> dict[str, float]:
    """Return what a step of a system takes.

    Args:
        name: The system.

    Returns:
        `median`, `low` and `high` in milliseconds; `steps`, how many were timed;
        `parameters`, how many are trained.
    """
    from lib import models

    program = make_program(name)
    step, times = epoch_of(program), []
    for _ in range(2):
        step()
    while len(times) < STEPS_OF_A_SYSTEM and (
        len(times) < LEAST_STEPS or sum(times) < 1e3 * SECONDS_OF_A_SYSTEM
    ):
        begun = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - begun))
    parameters = models.trainable_parameters(program.network)
    return {**spread(times), "steps": len(times), "parameters": parameters}


def systems() -> dict[str, Any]:
    """Return `unit` and `systems`: what a step of every neural system takes."""
    from lib.systems import SYSTEMS

    neural = [name for name, system in SYSTEMS.items() if not system.fit]
    return {"unit": "ms", "systems": {name: steps_of(name) for name in neural}}


CURVES = {"clips": clips, "frames": frames, "folds": folds, "models": systems}


def measure(only: list[str] | None = None) -> dict[str, Any]:
    """Return the curves, each measured in a process of its own.

    Args:
        only: Names of the curves; None for all.

    Raises:
        RuntimeError: If one of them fails.
    """
    return {
        name: fresh.call(f"benchmarks.curves:{CURVES[name].__name__}")
        for name in only or CURVES
    }


def written(name: str, found: Mapping[str, Any]) -> str:
    """Return a curve as lines of text."""
    if name == "models":
        return "\n".join(
            f"{system:16s} {one['median']:8.1f} ms/step  "
            f"({one['low']:.1f} to {one['high']:.1f}, {one['parameters']:,} parameters)"
            for system, one in found["systems"].items()
        )
    points = "  ".join(
        f"{point['size']}: {point['median']:.3g} {found['unit']}"
        for point in found["points"]
    )
    return f"{name:8s} {points}  exponent {found['exponent']:.2f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curves")
    parser.add_argument("--only", nargs="+", choices=CURVES)
    for name, found in measure(parser.parse_args().only).items():
        print(written(name, found))
    print(f"batches of {BATCH}, {os.cpu_count()} processors, {platform.machine()}")


if __name__ == "__main__":
    main()
