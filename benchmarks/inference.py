"""Milliseconds from one recording to class probabilities, and seconds to the first.

usage: python -m benchmarks.inference [--recording FILE] [--turns N] [--backend NAME]

TIM-Net with 8 dilations and 7 classes, 96,000 samples a clip, on one processor: the
process is bound to it where the system can do so, and asks TensorFlow for one thread.
Without `--recording`, 3.5 s of noise at 48 kHz are read from a WAV file.

The first prediction is measured in a process of its own, from before the import of
lib.models to the answer of models.predict. The run before it, not counted, lets Python
write its bytecode, as pip does when it installs packages.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LENGTH, CLASSES = 96_000, 7
FIRST = """
import time
begun = time.perf_counter(), time.process_time()
import numpy as np
from lib import models
network = models.build_model("timnet", (188, 39), 7)
models.predict(network, np.zeros((1, 188, 39), np.float32))
print(time.perf_counter() - begun[0], time.process_time() - begun[1])
"""


def noise(folder: Path) -> Path:
    """Return a WAV file of noise, 3.5 s at 48 kHz."""
    import numpy as np
    import soundfile

    samples = 0.1 * np.random.default_rng(46).standard_normal(round(3.5 * 48_000))
    soundfile.write(folder / "noise.wav", samples, 48_000, "PCM_16")
    return folder / "noise.wav"


def one_processor() -> None:
    """Bind this process to one processor, its libraries to one thread."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = "1"


def parts(recording: Path, turns: int) -> dict[str, float]:
    """Return the median milliseconds of every part and of the whole."""
    from lib import features, inference, models

    settings = features.front_end("timnet")
    shape = (features.num_frames(settings, LENGTH), settings.coefficients)
    network = models.build_model("timnet", shape, CLASSES)
    recogniser = inference.Recogniser(network, settings, LENGTH)
    samples = features.load_audio(recording, settings)
    clip = features.extract(recording, settings, LENGTH)
    work = {
        "load_and_resample_ms": lambda: features.load_audio(recording, settings),
        "mfcc_ms": lambda: features.signal.features_of(samples, settings, LENGTH),
        "network_ms": lambda: recogniser.of_clip(clip),
        "total_ms": lambda: recogniser.probabilities(recording),
    }
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(turns):
        for name, function in work.items():
            begun = time.perf_counter()
            function()
            times[name].append(1e3 * (time.perf_counter() - begun))
    return {name: statistics.median(found) for name, found in times.items()}


def process(*arguments: str) -> str:
    """Return the last line that a Python process prints."""
    environment = {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_CPU_ALLOCATOR_USE_BFC": "true",
    } | os.environ
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, *arguments],
        check=True,
        cwd=Path(__file__).resolve().parent.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return done.stdout.splitlines()[-1]


def measure(recording: str = "", turns: int = 100) -> dict[str, float]:
    """Return milliseconds of the parts and seconds of the first prediction.

    Args:
        recording: A WAV or FLAC file, "" for noise.
        turns: How often every part is timed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = Path(recording).resolve() if recording else noise(folder)
        for _ in range(2):
            first = process("-c", FIRST).split()
        module = ("-m", "benchmarks.inference")
        child = (*module, "--parts", str(path), "--turns", str(turns))
        result = json.loads(process(*child))
    wall, processor = map(float, first)
    return result | {
        "first_prediction_s": wall,
        "first_prediction_processor_s": processor,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference")
    parser.add_argument("--parts", help=argparse.SUPPRESS)
    parser.add_argument("--recording", default="")
    parser.add_argument("--turns", type=int, default=100)
    parser.add_argument("--backend", choices=("tensorflow", "jax"), default=None)
    chosen = parser.parse_args()
    if chosen.parts:
        one_processor()
        print(json.dumps(parts(Path(chosen.parts), chosen.turns)))
        return
    if chosen.backend:
        os.environ["KERAS_BACKEND"] = chosen.backend
    for name, value in measure(chosen.recording, chosen.turns).items():
        print(f"{name.replace('_', ' '):42s} {value:8.2f}")


if __name__ == "__main__":
    main()
