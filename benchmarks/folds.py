"""All folds as one vectorised program on JAX, beside one fold after the other.

usage: KERAS_BACKEND=jax python -m benchmarks.folds [--corpus NAME] [--epochs N]
                         [--folds N] [--clips N] [--few N] [--dilations N]
                         [--teraflops N --terabytes N]

A whole run of TIM-Net on random numbers of a corpus's shape is timed: `--epochs` of all
folds together, compiling included, and `--few` epochs of two folds one after the other.
What both take without compiling is reckoned from the median epoch after the first. The
floor is what the operations and the bytes of a step, as XLA counts them, take at the
rates of the device, in 10^12 operations and bytes a second. A device that is far larger
than the network waits for kernels to start: how many a step has, alone and together, is
counted too.

On one GPU of the kind H200, for instance:
    KERAS_BACKEND=jax python -m benchmarks.folds --teraflops 67 --terabytes 4.8
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from typing import Any

BATCH = 64
# Of the operations of a compiled program: names for memory that is there.
STARTS_NOTHING = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast"}


def run(shape, name: str, how: str, folds: int, epochs: int) -> tuple[float, float]:
    """Return the seconds of a run, and of a later epoch of all its folds.

    The first epoch of a fold, which may compile, is in the former alone.
    """
    import pandas as pd

    from lib import config, training
    from lib.device import select

    with tempfile.TemporaryDirectory() as folder:
        params = config.validated(
            {
                "workspace": folder,
                "corpus": name,
                "protocol": "paper",
                "folds": 10,
                "epochs": epochs,
                "batch_size": BATCH,
                "model_options": {"dilations": shape.dilations},
            }
        )
        data = shape.features()
        chosen = training.make_folds(params, data)[:folds]
        begun = time.perf_counter()
        folders = training.train(
            training.resolve(params, data),
            data,
            chosen,
            params.folders,
            device=select("auto"),
            fold_parallel=how,
            verbose=0,
        )
        whole = time.perf_counter() - begun
        curves = [pd.read_csv(folders.curves(fold.number)) for fold in chosen]
    return whole, sum(curve["seconds"][1:].median() for curve in curves)


def counted(shape, folds: int) -> dict[str, float]:
    """Return what XLA counts in a compiled step.

    Args:
        shape: One of `benchmarks.synthetic.SHAPES`.
        folds: Folds of the step that trains several together.

    Returns:
        Operations and bytes of a step of one fold; the kernels that a device has to
        start for it, and those for a step of all folds together.
    """
    import jax
    import numpy as np

    from lib import models
    from lib.training import parallel
    from lib.training.program import Program, Recipe

    recipe = Recipe(1, BATCH, 1e-3, 0.93, 0.98, 1e-8, 0.1)
    size = (shape.frames, 39)
    options = {"dilations": shape.dilations}
    program = Program(
        lambda: models.build_model("timnet", size, shape.classes, **options),
        recipe,
        shape.classes,
    )
    state = program.values()
    clips = np.zeros((BATCH, *size), np.float32)
    labels = np.zeros((BATCH, shape.classes), np.float32)
    weights = np.ones(BATCH, np.float32)
    step = jax.jit(program.step.compute)
    alone = step.lower(state, clips, labels, weights).compile()
    each = (np.arange(BATCH), labels, weights, np.float32(1e-3))
    states, each = jax.tree.map(lambda a: np.stack([a] * folds), (state, each))
    step = jax.jit(parallel.stacked_step(program))
    together = step.lower(states, clips, *each).compile()
    cost = alone.cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    return {
        "operations_per_step": float(cost["flops"]),
        "bytes_per_step": float(cost["bytes accessed"]),
        "kernels_per_step": kernels(alone.as_text()),
        "kernels_per_step_together": kernels(together.as_text()),
    }


def kernels(program: str) -> int:
    """Return how many kernels a compiled program starts, those of a loop once.

    Args:
        program: Its text, as XLA prints it.
    """
    entry = program[program.index("ENTRY ") :]
    operations = re.findall(r" = .*? ([a-z][a-z-]*)\(", entry)
    return sum(operation not in STARTS_NOTHING for operation in operations)


def figures(
    corpus: str = "EMOVO",
    clips: int = 0,
    folds: int = 10,
    epochs: int = 500,
    few: int = 3,
    dilations: int = 0,
    teraflops: float = 0.0,
    terabytes: float = 0.0,
) -> dict[str, Any]:
    """Return what a run takes in both ways, and the least it could take.

    Args:
        corpus: One of `benchmarks.synthetic.SHAPES`.
        clips: Number of clips, if not the corpus's.
        folds: Folds that train, of ten.
        epochs: Epochs of every fold.
        few: Epochs measured one fold after the other.
        dilations: TIM-Net's dilations, if not those for the corpus.
        teraflops: The device's operations a second, in 10^12; 0 if unknown.
        terabytes: Its memory's bytes a second, in 10^12; 0 if unknown.
    """
    import jax

    from benchmarks.synthetic import SHAPES

    shape = SHAPES[corpus]
    shape = dataclasses.replace(
        shape, clips=clips or shape.clips, dilations=dilations or shape.dilations
    )
    steps = -(-shape.clips * 9 // 10 // BATCH) * epochs * folds
    whole, epoch = run(shape, corpus, "auto", folds, epochs)
    together = epoch * epochs
    alone = run(shape, corpus, "off", 2, few)[1] / 2 * folds * epochs
    found = {
        "device": str(jax.devices()[0].device_kind),
        "corpus": corpus,
        "clips": shape.clips,
        "folds": folds,
        "epochs": epochs,
        "dilations": shape.dilations,
        "seconds": whole,
        "together_seconds": together,
        "one_by_one_seconds": alone,
        "speed_up": alone / together,
        "steps": steps,
        **counted(shape, folds),
    }
    floors = [
        found[what] * steps / (rate * 1e12)
        for what, rate in (
            ("operations_per_step", teraflops),
            ("bytes_per_step", terabytes),
        )
        if rate
    ]
    if floors:
        found |= {"floor_seconds": max(floors), "of_floor": together / max(floors)}
    return found


def measure(**given: Any) -> dict[str, Any]:
    """Return `figures` of a small run, by a process of its own on JAX.

    Args:
        **given: Arguments of `figures`; by default few of everything.
    """
    root = pathlib.Path(__file__).resolve().parent.parent
    small = {"folds": 3, "epochs": 4, "few": 4, "clips": 142, "dilations": 2}
    arguments = [
        f"--{name.replace('_', '-')}={value}" for name, value in (small | given).items()
    ]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.folds", "--json", *arguments],
        capture_output=True,
        text=True,
        cwd=root,
        env=os.environ | {"KERAS_BACKEND": "jax"},
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.folds")
    parser.add_argument("--json", action="store_true", help="print the figures only")
    parser.add_argument("--corpus", default="EMOVO")
    for name, value in (
        ("clips", 0),
        ("folds", 10),
        ("epochs", 500),
        ("few", 3),
        ("dilations", 0),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    for name in ("teraflops", "terabytes"):
        parser.add_argument(f"--{name}", type=float, default=0.0)
    chosen = vars(parser.parse_args())
    bare = chosen.pop("json")
    found = figures(**chosen)
    if bare:
        print(json.dumps(found))
        return
    for name, value in found.items():
        shown = f"{value:,.4g}" if isinstance(value, float) else value
        print(f"{name:20s} {shown}")


if __name__ == "__main__":
    main()
