"""Clips per second of the extraction, beside the official extractor, in one run.

usage: python -m benchmarks.features [--official FOLDER] [--corpus FOLDER]
                                     [--clips N] [--rounds N]

`--official` is the folder Code of a checkout of the TIM-Net authors' repository. Its
script extract_feature.py is run as it is: MFCC, a CSV file for every clip, and one
array from these. Ours is notebook 01's: MFCC, hash of the audio and a feature file.
Both are processes that have imported their packages and made all clips once before,
and take turns on the same WAV files, 96,000 samples a clip.

`--corpus` is a folder of WAV or FLAC files; without it, 3.5 s of noise at 48 kHz.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path

LENGTH = 96_000  # samples at 22,050 Hz
NAME, LABEL = "EMODB", "angry"  # where the official script looks for clips
AUDIO = Path("SER_WAV_DATA", NAME, LABEL)
SCRIPT = "extract_feature.py"
AUDIO_ENDINGS = {".wav", ".flac"}
TIMES_AS_MANY = 4  # clips of the second measurement of memory


def clips_of(corpus: str, count: int, folder: Path) -> int:
    """Lay WAV files where both extractors find them, and return how many.

    Args:
        corpus: Folder of WAV and FLAC files, "" for noise.
        count: Number of clips wanted.
        folder: Folder to work in.
    """
    import numpy as np
    import soundfile

    target = folder / AUDIO
    target.mkdir(parents=True)
    if not corpus:
        rng = np.random.default_rng(46)
        for number in range(count):
            noise = 0.1 * rng.standard_normal(round(3.5 * 48_000))
            soundfile.write(target / f"{number:05d}.wav", noise, 48_000, "PCM_16")
        return count
    found = [path for path in Path(corpus).rglob("*") if path.suffix in AUDIO_ENDINGS]
    found = sorted(found)[:count]
    for number, path in enumerate(found):
        kind = soundfile.info(path).subtype
        samples, rate = soundfile.read(path, dtype="int32")
        soundfile.write(target / f"{number:05d}.wav", samples, rate, kind)
    return len(found)


def ours(folder: Path, times: int = 1) -> Callable[[], object]:
    """Return the function that extracts all clips, `times` times over."""
    from lib import corpora, features
    from lib.corpora.base import Tags, Utterance

    corpus = dataclasses.replace(corpora.get(NAME), clip_samples=LENGTH)
    tags = Tags(LABEL, "speaker")
    corpus = dataclasses.replace(corpus, labels=(LABEL,))
    clips = [
        Utterance(path, f"{turn}/{path.name}", tags)
        for turn in range(times)
        for path in sorted((folder / AUDIO).iterdir())
    ]
    return lambda: features.prepare(corpus, clips, folder, overwrite=True, verbose=0)


def official(folder: Path, code: str) -> Callable[[], object]:
    """Return the function that runs the official script on all clips."""
    import librosa.display  # noqa: F401
    import tensorflow.keras.utils  # noqa: F401

    name = "python_speech_features"  # imported by the script, and not used
    if importlib.util.find_spec(name) is None:
        sys.modules[name] = types.ModuleType(name)
    os.chdir(folder)
    sys.argv = [SCRIPT, "--data_name", NAME, "--mean_signal_length", str(LENGTH)]
    return lambda: runpy.run_path(str(Path(code) / SCRIPT))


def contend(kind: str, folder: str, code: str) -> None:
    """Be a contender: a line in, all clips made, wall and processor seconds out."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the packages print goes elsewhere
    work = Path(folder)
    turn = ours(work) if kind == "ours" else official(work, code)
    turn()
    print("ready", file=channel, flush=True)
    for _ in sys.stdin:
        wall, processor = time.perf_counter(), time.process_time()
        turn()
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        print(wall, processor, file=channel, flush=True)


def peak_memory(folder: Path) -> None:
    """Print the megabytes that this process has held at most, few and many clips."""
    import resource

    unit = 1e6 if sys.platform == "darwin" else 1e3
    for times in (1, TIMES_AS_MANY):
        made = ours(folder, times)()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
        print(peak, made.features.x.nbytes / 1e6)
        del made


def started(*arguments: str) -> subprocess.Popen:
    """Return this module as a process of its own."""
    command = [sys.executable, "-m", "benchmarks.features", *arguments]
    root = str(Path(__file__).resolve().parent.parent)
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=root,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def in_turns(folder: Path, code: str, rounds: int) -> dict[str, list[list[float]]]:
    """Return wall and processor seconds of every turn of every contender."""
    kinds = ["ours", "official"] if code else ["ours"]
    contenders = {
        kind: started("--contender", kind, str(folder), code) for kind in kinds
    }
    for kind, process in contenders.items():
        if process.stdout.readline().strip() != "ready":
            raise SystemExit(f"{kind} did not start")
    seconds: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, process in contenders.items():
            print(file=process.stdin, flush=True)
            line = process.stdout.readline()
            seconds[kind].append([float(value) for value in line.split()])
    for process in contenders.values():
        process.stdin.close()
        process.wait()
    return seconds


def largest_difference(folder: Path) -> float:
    """Return the largest difference between the official array and ours."""
    import numpy as np

    from lib import features

    theirs, _ = features.official.read_official(folder / f"{NAME}.npy")
    made = features.load(features.feature_path(folder, NAME, "timnet"))
    return float(np.abs(theirs - made.x).max())


def memory(folder: Path) -> dict[str, float]:
    """Return peak memory in MB for the clips and for several times as many."""
    process = started("--memory", str(folder))
    answer, _ = process.communicate()
    few, many = ([float(value) for value in row.split()] for row in answer.splitlines())
    return {
        "memory_mb": few[0],
        f"memory_mb_{TIMES_AS_MANY}_times_the_clips": many[0],
        "memory_growth_mb": many[0] - few[0],
        "features_growth_mb": many[1] - few[1],
    }


def measure(
    official: str = "", corpus: str = "", clips: int = 100, rounds: int = 3
) -> dict[str, float]:
    """Return clips per second, their ratio, the difference and the memory.

    Args:
        official: The authors' folder Code, "" to measure ours only.
        corpus: Folder of WAV and FLAC files, "" for noise.
        clips: Number of clips.
        rounds: Turns of each contender.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = clips_of(corpus, clips, folder)
        code = str(Path(official).resolve()) if official else ""
        seconds = in_turns(folder, code, rounds)
        result: dict[str, float] = {"clips": found, "processors": os.cpu_count()}
        for kind, turns in seconds.items():
            wall, processor = map(statistics.median, zip(*turns, strict=True))
            result[f"{kind}_clips_per_second"] = found / wall
            result[f"{kind}_processor_ms_per_clip"] = 1e3 * processor / found
        if official:
            result["ratio"] = statistics.median(
                theirs[0] / own[0]
                for theirs, own in zip(
                    *map(seconds.get, ("official", "ours")), strict=True
                )
            )
            result["largest_difference"] = largest_difference(folder)
        return result | memory(folder)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.features")
    parser.add_argument("--contender", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    parser.add_argument("--official", default="")
    parser.add_argument("--corpus", default="")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    if chosen.contender:
        contend(*chosen.contender)
        return
    if chosen.memory:
        peak_memory(Path(chosen.memory))
        return
    found = measure(chosen.official, chosen.corpus, chosen.clips, chosen.rounds)
    for name, value in found.items():
        print(f"{name.replace('_', ' '):36s} {value:12.6g}")
    if not chosen.official:
        print("the official extractor was not measured: give --official FOLDER")


if __name__ == "__main__":
    main()
