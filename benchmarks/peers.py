"""A training step of TIM-Net beside its peers, in one run, as ratios.

usage: python -m benchmarks.peers [--official FOLDER] [--official-packages FOLDER]
                                  [--peer FILE --peer-python PYTHON]
                                  [--rounds N] [--steps N]

Every contender is a process of its own that waits for its turn; the turns alternate,
so that all of them see the same minutes of a machine. `--official` is the folder Code
of a checkout of the authors' repository, run by tf_keras, which may lie in a folder of
its own (pip install --no-deps --target FOLDER tf_keras). `--peer` is a PyTorch script
that has a class TimNet(blocks, classes), run by a Python that has torch.

64 clips of 188 frames and 39 coefficients, 8 dilations, 7 classes, on every contender.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Sequence

BATCH, FRAMES, COEFFICIENTS, CLASSES, DILATIONS = 64, 188, 39, 7, 8
WARM_UP = 3
OURS = {"TensorFlow": "tensorflow", "JAX": "jax"}


def ours(_):
    """Return the function that runs one step as notebook 02 runs it."""
    from benchmarks.step import prepare

    return prepare("timnet")


def official(folder: str):
    """Return one step of the official network, compiled as its authors do."""
    import numpy as np

    # Neither the official code nor torch is a package that the workbook needs.
    sys.path.insert(0, folder)
    module = importlib.import_module("Model")
    chosen = types.SimpleNamespace(
        filter_size=COEFFICIENTS,
        kernel_size=2,
        stack_size=1,
        dilation_size=DILATIONS,
        dropout=0.1,
        activation="relu",
        lr=1e-3,
        beta1=0.93,
        beta2=0.98,
    )
    names = [str(number) for number in range(CLASSES)]
    network = module.TIMNET_Model(
        chosen,
        input_shape=(FRAMES, COEFFICIENTS),
        class_label=names,
        save_path="",
        name="",
    )
    network.create_model()
    clips = np.random.default_rng(0).normal(size=(BATCH, FRAMES, COEFFICIENTS))
    labels = np.eye(CLASSES, dtype=np.float32)[np.arange(BATCH) % CLASSES]
    return lambda: network.model.train_on_batch(clips.astype(np.float32), labels)


def peer(script: str):
    """Return one step of a plain PyTorch network, without compilation."""
    torch = importlib.import_module("torch")
    found = importlib.util.spec_from_file_location("peer", script)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(0)
    network = module.TimNet(DILATIONS, CLASSES)
    settings = {"lr": 1e-3, "betas": (0.93, 0.98), "eps": 1e-8}
    optimizer = torch.optim.Adam(network.parameters(), **settings)
    clips = torch.randn(BATCH, COEFFICIENTS, FRAMES)
    labels = torch.arange(BATCH) % CLASSES

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            network(clips), labels, label_smoothing=0.1
        )
        loss.backward()
        optimizer.step()
        return float(loss)

    return step


def contend(kind: str, where: str) -> None:
    """Be a contender: a line in, so many steps done, their milliseconds out."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the packages print goes elsewhere
    step = {"ours": ours, "official": official, "peer": peer}[kind](where)
    for _ in range(WARM_UP):
        step()
    print("ready", file=channel, flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            begun = time.perf_counter()
            step()
            times.append(f"{1e3 * (time.perf_counter() - begun):.2f}")
        print(*times, file=channel, flush=True)


def start(kind: str, where: str = "", python: str = "", **more: str):
    """Return the process of a contender, which says when it is ready."""
    path = str(pathlib.Path(__file__).resolve())
    command = [python or sys.executable, path, "--contender", kind, where]
    folders = [str(pathlib.Path(path).parent.parent), more.pop("packages", "")]
    search = os.pathsep.join(filter(None, folders[:: 1 if kind != "peer" else 2]))
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": search} | more,
    )
    return process


def take_turns(contenders: dict, rounds: int, steps: int) -> dict[str, list[float]]:
    """Return the milliseconds of every step of every contender, in turns.

    Raises:
        SystemExit: If a contender does not start.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for name, process in contenders.items():
        # They compile side by side, and none is timed before all have.
        if process.stdout.readline().strip() != "ready":
            command = " ".join(process.args)
            for other in contenders.values():
                other.kill()
            raise SystemExit(f"{name} did not start; to see why: {command}")
    for _ in range(rounds):
        for name, process in contenders.items():
            print(steps, file=process.stdin, flush=True)
            times[name] += map(float, process.stdout.readline().split())
    for process in contenders.values():
        process.stdin.close()
        process.wait()
    return times


def contest(
    official: str = "",
    official_packages: str = "",
    peer: str = "",
    peer_python: str = "",
    rounds: int = 5,
    steps: int = 5,
    backends: Sequence[str] = tuple(OURS),
) -> dict[str, list[float]]:
    """Return the milliseconds of every step of every contender that there is.

    Args:
        official: Folder Code of a checkout of the authors' repository, or "".
        official_packages: Folder that has tf_keras; "" if it is installed.
        peer: PyTorch script that has a class TimNet, or "".
        peer_python: A Python that has torch.
        rounds: Turns of each contender.
        steps: Steps of a turn.
        backends: Those of ours that take part, of `OURS`.

    Raises:
        SystemExit: If a contender does not start.
    """
    contenders = {
        f"ours, {name}": start("ours", KERAS_BACKEND=OURS[name]) for name in backends
    }
    if official:
        contenders["official"] = start(
            "official", official, packages=official_packages, TF_USE_LEGACY_KERAS="1"
        )
    if peer:
        contenders["PyTorch"] = start("peer", peer, peer_python)
    return take_turns(contenders, rounds, steps)


def measure(**given: str | int) -> dict[str, float]:
    """Return the medians of `contest`, on TensorFlow, and ours as ratios to the others.

    Args:
        **given: Arguments of `contest`.

    Returns:
        Milliseconds per step, `ours_ms`, `official_ms` and `pytorch_ms`;
        `ours_over_official` and `ours_over_pytorch`. What took no part is left out.
    """
    times = contest(**given, backends=["TensorFlow"])
    middle = {name: statistics.median(found) for name, found in times.items()}
    ours_ms = middle["ours, TensorFlow"]
    found = {"ours_ms": ours_ms}
    for name in [name for name in ("official", "PyTorch") if name in middle]:
        found[f"{name.lower()}_ms"] = middle[name]
        found[f"ours_over_{name.lower()}"] = ours_ms / middle[name]
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers")
    parser.add_argument("--contender", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--official", default="")
    parser.add_argument("--official-packages", default="")
    parser.add_argument("--peer", default="")
    parser.add_argument("--peer-python", default="")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5)
    chosen = vars(parser.parse_args())
    if contender := chosen.pop("contender"):
        contend(*contender)
        return
    times = contest(**chosen)
    reference = statistics.median(times[f"ours, {next(iter(OURS))}"])
    for name, found in times.items():
        middle = statistics.median(found)
        print(
            f"{name:18s} {middle:7.1f} ms/step  ({min(found):.1f} to {max(found):.1f}, "
            f"{len(found)} steps)  ours / this = {reference / middle:.2f}"
        )
    print(f"{os.cpu_count()} processors, {platform.machine()}")


if __name__ == "__main__":
    main()
