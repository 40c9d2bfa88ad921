"""Median time of one training step, as notebook 02 runs it.

usage: python -m benchmarks.step [--steps N] [--model NAME] [--backend NAME]

One line: the median of milliseconds per step, its spread, and where it was measured.
The network is TIM-Net unless another system is named: 64 clips of 188 frames and 39
coefficients, 8 dilations, 7 classes.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable

BATCH, FRAMES, COEFFICIENTS, CLASSES = 64, 188, 39, 7
WARM_UP = 3


def make_program(name: str, frames: int = FRAMES):
    """Return the program that trains a system as notebook 02 does, ready to begin.

    Args:
        name: The system.
        frames: Frames of a clip.
    """
    from lib import models
    from lib.systems import SYSTEMS
    from lib.training.program import Program, Recipe

    recipe = Recipe(1, BATCH, 1e-3, 0.93, 0.98, 1e-8, 0.1, fused=SYSTEMS[name].fused)
    shape = (frames, COEFFICIENTS)
    # Its weights are fresh already; a `reset` would build the network once more.
    return Program(lambda: models.build_model(name, shape, CLASSES), recipe, CLASSES)


def epoch_of(program, clips: int = BATCH) -> Callable[[], object]:
    """Return the function that trains one epoch.

    Args:
        program: What `make_program` returned.
        clips: Number of random clips of the epoch; the default is one step.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    shape = program.network.input_shape[1:]
    x = rng.normal(size=(clips, *shape)).astype(np.float32)
    labels = np.eye(CLASSES, dtype=np.float32)[np.arange(clips) % CLASSES]
    order = np.arange(clips)
    # Whole epochs: what reading the clips and the scores costs is in them.
    return lambda: program.train_epoch(x, labels, order)


def prepare(name: str) -> Callable[[], object]:
    """Return the function that trains one step as notebook 02 does.

    Args:
        name: The system.
    """
    from lib.device import select

    select("cpu", side_by_side=True)
    return epoch_of(make_program(name))


def measure(name: str, steps: int) -> list[float]:
    """Return the milliseconds of every step after the warm-up.

    Args:
        name: The system.
        steps: Number of steps to time.
    """
    step, times = prepare(name), []
    for number in range(WARM_UP + steps):
        begun = time.perf_counter()
        step()
        if number >= WARM_UP:
            times.append(1e3 * (time.perf_counter() - begun))
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--model", default="timnet")
    parser.add_argument("--backend", choices=("tensorflow", "jax"), default=None)
    chosen = parser.parse_args()
    if chosen.backend:
        os.environ["KERAS_BACKEND"] = chosen.backend
    times = measure(chosen.model, chosen.steps)
    import keras

    print(
        f"{chosen.model}: {statistics.median(times):.1f} ms/step "
        f"(median of {len(times)}, {min(times):.1f} to {max(times):.1f}; "
        f"{keras.backend.backend()}, {os.cpu_count()} processors, "
        f"{platform.machine()})"
    )


if __name__ == "__main__":
    main()
