"""A training step of TIM-Net beside its peers, in one run, as ratios.

usage: python -m benchmarks.step [--official FOLDER] [--official-packages FOLDER]
                                 [--peer FILE --peer-python PYTHON]
                                 [--rounds N] [--steps N] [--backends NAME ...]

`--official` is the folder Code of the authors' repository, run by tf_keras,
which may lie in a folder of its own (pip install --no-deps --target FOLDER tf_keras).
`--peer` is a PyTorch script that has a class TimNet(blocks, classes), run by a Python
that has torch. The environment variables SER_OFFICIAL, SER_OFFICIAL_PACKAGES, SER_PEER
and SER_PEER_PYTHON say the same to `make bench-step`.

64 clips of 188 frames and 39 coefficients, 8 dilations, 7 classes, on every contender;
ours is a step of an epoch as notebook 02 runs it.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import platform
import statistics
import sys
import types
from collections.abc import Callable, Sequence

from benchmarks import contest

BATCH, FRAMES, COEFFICIENTS, CLASSES, DILATIONS = 64, 188, 39, 7, 8


def repeated(step: Callable[[], object], steps: int) -> Callable[[], None]:
    """Return the function of a turn: so many steps; three have been done."""

    def turn() -> None:
        for _ in range(steps):
            step()

    for _ in range(3):
        step()
    return turn


def ours(steps: int) -> Callable[[], None]:
    """Return the function that runs steps as notebook 02 runs them."""
    import numpy as np

    from benchmarks.synthetic import feature_set
    from lib import config, fold, losses, planning
    from lib.device import select

    select("cpu")
    data = feature_set("EMODB", BATCH)
    given = {"corpus": "EMODB", "protocol": "paper", "batch_size": BATCH, "epochs": 1}
    settings = planning.make_plan(config.validated(given), data).settings
    network = fold.Network(settings, data)
    network.engine.assign([network.draw(0, 0, data.x)])
    labels = losses.smoothed_labels(data.y, CLASSES, 0.1)
    epoch = data.x, labels, [np.arange(BATCH)], [1e-3], [np.ones(BATCH, np.float32)]
    return repeated(lambda: network.engine.train_epoch(*epoch), steps)


def official(steps: int, code: str) -> Callable[[], None]:
    """Return steps of the official network, compiled as its authors do."""
    import numpy as np

    sys.path.insert(0, code)
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
    network = module.TIMNET_Model(
        chosen,
        input_shape=(FRAMES, COEFFICIENTS),
        class_label=[str(number) for number in range(CLASSES)],
        save_path="",
        name="",
    )
    network.create_model()
    rng = np.random.default_rng(0)
    clips = rng.normal(size=(BATCH, FRAMES, COEFFICIENTS)).astype(np.float32)
    labels = np.eye(CLASSES, dtype=np.float32)[np.arange(BATCH) % CLASSES]
    return repeated(lambda: network.model.train_on_batch(clips, labels), steps)


def peer(steps: int, script: str) -> Callable[[], None]:
    """Return steps of a plain PyTorch network, without compilation."""
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

    def step() -> None:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            network(clips), labels, label_smoothing=0.1
        )
        loss.backward()
        optimizer.step()

    return repeated(step, steps)


def measure(
    official: str = "",
    official_packages: str = "",
    peer: str = "",
    peer_python: str = "",
    rounds: int = 5,
    steps: int = 5,
    backends: Sequence[str] = ("tensorflow",),
) -> dict[str, float]:
    """Return the milliseconds of a step of each contender, and ours over the others'.

    The other contenders are those of the module; without a path they are left out. The
    first of Keras's backends is compared with them.
    """
    contenders, own = {}, "benchmarks.step:ours"
    for name in backends:
        contender = contest.start(own, steps=steps, KERAS_BACKEND=name)
        contenders[f"ours_{name}"] = contender
    if official:
        contenders["official"] = contest.start(
            "benchmarks.step:official",
            packages=official_packages,
            TF_USE_LEGACY_KERAS="1",
            steps=steps,
            code=official,
        )
    if peer:
        contenders["pytorch"] = contest.start(
            "benchmarks.step:peer", python=peer_python, steps=steps, script=peer
        )
    turns = contest.take_turns(contenders, rounds)
    middle = {
        name: statistics.median(turn["seconds"] for turn in found) / steps
        for name, found in turns.items()
    }
    result = {f"{name}_ms": 1e3 * seconds for name, seconds in middle.items()}
    for name in {"official", "pytorch"} & set(middle):
        result[f"ours_over_{name}"] = middle[f"ours_{backends[0]}"] / middle[name]
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step")
    for name in ("official", "official-packages", "peer", "peer-python"):
        variable = f"SER_{name.upper().replace('-', '_')}"
        parser.add_argument(f"--{name}", default=os.environ.get(variable, ""))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--backends", nargs="+", default=["tensorflow"])
    for name, value in measure(**vars(parser.parse_args())).items():
        print(f"{name.replace('_', ' '):22s} {value:8.2f}")
    print(f"{os.cpu_count()} processors, {platform.machine()}")


if __name__ == "__main__":
    main()
