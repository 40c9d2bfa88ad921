"""Clips per second of the extraction, beside the official extractor, in one run.

usage: python -m benchmarks.features [--official FOLDER] [--clips N] [--rounds N]

`--official` is the folder Code of a checkout of the TIM-Net authors' repository. Its
script extract_feature.py is run as it is: MFCC, a CSV file for every clip, and one
array from these. Ours is notebook 01's: MFCC, hash of the audio and a feature file.
Both have made all clips once before and take turns on the same WAV files: 3.5 s of
noise at 48 kHz, 96,000 samples a clip after resampling.
"""

import argparse
import dataclasses
import importlib.util
import os
import runpy
import statistics
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path

from benchmarks import contest

LENGTH = 96_000  # samples at 22,050 Hz
NAME, LABEL = "EMODB", "angry"  # where the official script looks for clips
AUDIO = Path("SER_WAV_DATA", NAME, LABEL)
SCRIPT = "extract_feature.py"


def noise(folder: Path, count: int) -> None:
    """Write WAV files of noise where both extractors find them."""
    import numpy as np
    import soundfile

    (folder / AUDIO).mkdir(parents=True)
    rng = np.random.default_rng(46)
    for number in range(count):
        samples = 0.1 * rng.standard_normal(round(3.5 * 48_000))
        soundfile.write(folder / AUDIO / f"{number:05d}.wav", samples, 48_000, "PCM_16")


def ours(folder: str) -> Callable[[], int]:
    """Return the function that extracts all clips as notebook 01 does."""
    from lib import config, corpora, features

    corpus = corpora.get(NAME)
    corpus = dataclasses.replace(corpus, clip_samples=LENGTH, labels=(LABEL,))
    clips = [
        corpora.Clip(path, path.name, LABEL, "speaker")
        for path in sorted((Path(folder) / AUDIO).iterdir())
    ]

    params = config.validated({"workspace": folder, "corpus": NAME, "verbose": 0})

    def turn() -> int:
        return features.prepare(params, corpus, clips, overwrite=True)[1]

    turn()
    return turn


def official(folder: str, code: str) -> Callable[[], int]:
    """Return the function that runs the official script on all clips."""
    import librosa.display  # noqa: F401
    import tensorflow.keras.utils  # noqa: F401

    name = "python_speech_features"  # imported by the script, and not used
    if importlib.util.find_spec(name) is None:
        sys.modules[name] = types.ModuleType(name)
    os.chdir(folder)
    sys.argv = [SCRIPT, "--data_name", NAME, "--mean_signal_length", str(LENGTH)]

    def turn() -> int:
        return len(runpy.run_path(str(Path(code) / SCRIPT)))

    turn()
    return turn


def largest_difference(folder: Path) -> float:
    """Return by how much the two arrays differ at most."""
    import numpy as np

    from lib import official

    theirs = folder / f"{NAME}.npy"
    expected, _ = official.read_official(theirs)
    with np.load(folder / "MFCC" / f"{NAME}-timnet.npz") as ours_file:
        return float(np.abs(ours_file["x"] - expected).max())


def measure(official: str = "", clips: int = 1000, rounds: int = 3) -> dict[str, float]:
    """Return clips per second of each, their ratio and the largest difference."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        noise(folder, clips)
        contenders = {"ours": contest.start("benchmarks.features:ours", folder=name)}
        if official:
            code = str(Path(official).resolve())
            contenders["official"] = contest.start(
                "benchmarks.features:official", folder=name, code=code
            )
        turns = contest.take_turns(contenders, rounds)
        seconds = {
            kind: statistics.median(turn["seconds"] for turn in found)
            for kind, found in turns.items()
        }
        result = {f"{kind}_clips_per_second": clips / s for kind, s in seconds.items()}
        if official:
            result["ratio"] = seconds["official"] / seconds["ours"]
            result["largest_difference"] = largest_difference(folder)
        return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.features")
    parser.add_argument("--official", default="")
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    for name, value in measure(**vars(parser.parse_args())).items():
        print(f"{name.replace('_', ' '):36s} {value:12.6g}")


if __name__ == "__main__":
    main()
