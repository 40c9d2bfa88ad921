"""Peak memory of training a run of the size of RAVDESS, through `lib.training`.

usage: python -m benchmarks.memory [--backend NAME]

One line: the most memory that the process had resident at any moment. 1440 random
clips of 215 frames and 39 coefficients, 24 speakers and 8 classes; TIM-Net with 8
dilations in batches of 64; 3 of the 6 folds of the protocol `speaker`, each with 960
clips that train, 240 that choose the epoch and 240 that test; one epoch. Memory grows
neither with more epochs nor, beyond those that train at once, with more folds.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys

from benchmarks import fresh

CLIPS, FRAMES, COEFFICIENTS, CLASSES, SPEAKERS = 1440, 215, 39, 8, 24
FOLDS, ONLY, EPOCHS = 6, 3, 1


def peak_gib() -> float:
    """Return the largest resident memory of this process so far, in GiB.

    On Linux it counts what the parent held when it started this process, so that
    a parent should be small.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on macOS, KiB on Linux.
    return peak / (1 << 30 if sys.platform == "darwin" else 1 << 20)


def train() -> dict[str, float]:
    """Train in this process, which should be a fresh one.

    Returns:
        `imported_gib`, the peak before there were any clips; `features_gib`, the
        size of the features; `peak_gib`, the peak of the whole run.
    """
    from benchmarks import synthetic
    from lib.training import side_by_side  # the packages, before anything is measured

    # As in a run of many epochs, whose folds train on all cores.
    side_by_side.LEAST_STEPS = 0
    imported = peak_gib()
    data = synthetic.feature_set(CLIPS, FRAMES, COEFFICIENTS, CLASSES, SPEAKERS)
    synthetic.train(data, epochs=EPOCHS, folds=FOLDS, only=ONLY)
    return {
        "imported_gib": imported,
        "features_gib": data.x.nbytes / (1 << 30),
        "peak_gib": peak_gib(),
    }


def measure(backend: str = "") -> dict[str, float]:
    """Return the figures of `train`, called in a process of its own.

    Args:
        backend: Keras's backend; "" for the one in force.

    Raises:
        RuntimeError: If the training fails.
    """
    environment = {"KERAS_BACKEND": backend} if backend else {}
    return fresh.call("benchmarks.memory:train", environment)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory")
    parser.add_argument("--backend", choices=("tensorflow", "jax"), default="")
    found = measure(parser.parse_args().backend)
    print(
        f"peak memory of a training run: {found['peak_gib']:.2f} GiB "
        f"({found['imported_gib']:.2f} of it are the imported packages, "
        f"{found['features_gib']:.2f} the features; {os.cpu_count()} processors)"
    )


if __name__ == "__main__":
    main()
