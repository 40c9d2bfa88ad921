"""Milliseconds from one recording to class probabilities, and seconds to the first.

usage: python -m benchmarks.inference [--recording FILE] [--turns N]

TIM-Net with 8 dilations and 7 classes, 96,000 samples a clip, on one processor: the
process is bound to it where the system can do so, and asks TensorFlow for one thread.
Without `--recording`, 3.5 s of noise at 48 kHz are read from a WAV file. The first
prediction is measured from the start of a process of its own to its answer.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import contest

LENGTH, CLASSES = 96_000, 7
FIRST = """
import numpy as np
from lib import models
network = models.build_model("timnet", (188, 39), 7)
models.predict(network, np.zeros((1, 188, 39), np.float32))
"""


def parts(recording: str, turns: int) -> Callable[[], dict[str, float]]:
    """Return the function that gives the median milliseconds of each part."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    from lib import features, inference, models

    settings = features.front_end("timnet")
    shape = (features.num_frames(settings, LENGTH), settings.coefficients)
    network = models.build_model("timnet", shape, CLASSES)
    recogniser = inference.Recogniser(network, settings, LENGTH)
    clip = features.extract(Path(recording), settings, LENGTH)
    work = {
        "load_and_resample_ms": lambda: features.load_audio(Path(recording), settings),
        "network_ms": lambda: recogniser.of_clip(clip),
        "total_ms": lambda: recogniser.probabilities(Path(recording)),
    }

    def turn() -> dict[str, float]:
        times: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(turns):
            for name, function in work.items():
                begun = time.perf_counter()
                function()
                times[name].append(1e3 * (time.perf_counter() - begun))
        return {name: statistics.median(found) for name, found in times.items()}

    return turn


def measure(recording: str = "", turns: int = 100) -> dict[str, float]:
    """Return milliseconds of the parts and seconds of the first prediction."""
    import numpy as np
    import soundfile

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(recording).resolve()) if recording else f"{folder}/noise.wav"
        if not recording:
            samples = 0.1 * np.random.default_rng(46).standard_normal(168_000)
            soundfile.write(path, samples, 48_000, "PCM_16")
        one_thread = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
        contender = contest.start(
            "benchmarks.inference:parts", recording=path, turns=turns, **one_thread
        )
        (found,) = contest.take_turns({"ours": contender}, 1)["ours"]
    command, place = [sys.executable, "-c", FIRST], {"cwd": contest.REPOSITORY}
    for _ in range(2):  # the first lets Python write its bytecode
        begun = time.perf_counter()
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL, **place)
    return found["answer"] | {"first_prediction_s": time.perf_counter() - begun}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference")
    parser.add_argument("--recording", default="")
    parser.add_argument("--turns", type=int, default=100)
    for name, value in measure(**vars(parser.parse_args())).items():
        print(f"{name.replace('_', ' '):30s} {value:8.2f}")


if __name__ == "__main__":
    main()
