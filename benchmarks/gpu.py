"""All folds of a run as one JAX program: seconds, floors, precisions.

usage: KERAS_BACKEND=jax python -m benchmarks.gpu [--corpora NAME ...] [--folds N ...]
                              [--precisions NAME ...] [--epochs N] [--clips N]

TIM-Net on random numbers of a corpus's shape, some folds of ten, batches of 64. `run_s`
is a run of `--epochs` with compiling, tests and files; `of_500_epochs_s` are the steps
of 500. Floors are the operations and bytes that XLA counts in a step, over the rates of
a data sheet. The figures are printed and written to benchmarks/results/gpu.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.contest import REPOSITORY
from benchmarks.synthetic import SHAPES, feature_set
from lib import config, files, losses, planning, runs, train
from lib.device import select
from lib.fold import Network

# Operations of float32 and bytes a second, of the GPUs' data sheets.
RATES = {"H100": (67e12, 3.35e12), "H200": (67e12, 4.8e12)}
# What layers compute in, and how JAX multiplies float32.
PRECISIONS = {
    "float32": ("float32", "float32"),
    "tf32": ("float32", "tensorfloat32"),
    "bfloat16": ("mixed_bfloat16", "tensorfloat32"),
}


def step_figures(plan, data, device: str) -> dict[str, float]:
    """Return the time of a step of all folds, and what bounds it."""
    import jax

    from lib.together import step_function

    network, folds = Network(plan.settings, data), len(plan.folds)
    engine, rows = network.engine, [fold.train for fold in plan.folds]
    labels = losses.smoothed_labels(data.y, len(data.label_names), 0.1)
    weights = [np.ones(len(data), np.float32)] * folds
    engine.assign([network.draw(46, 1, data.x[rows[0]])] * folds)
    steps, times = -(-max(map(len, rows)) // network.batch_size), []
    epoch = data.x, labels, rows, [1e-3] * folds, weights
    for _ in range(4):
        begun = time.perf_counter()
        engine.train_epoch(*epoch)
        times.append(time.perf_counter() - begun)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            engine.train_epoch(*epoch)
        (path,) = Path(folder).glob("**/*.xplane.pb")
        profile = jax.profiler.ProfileData.from_file(str(path))
    lines = [line for p in profile.planes if "GPU" in p.name for line in p.lines]
    streams = [[*line.events] for line in lines if "Stream" in line.name]
    batch = np.zeros((folds, network.batch_size), np.int64)
    given = data.x, batch, labels[batch], np.ones(batch.shape, np.float32)
    step = jax.vmap(step_function(network), in_axes=(0, None, 0, 0, 0))
    cost = jax.jit(step).lower(engine._states, *given).compile().cost_analysis()
    later = statistics.median(times[1:])
    found = {"compile_s": times[0] - later, "of_500_epochs_s": 500 * later}
    found["step_ms"] = 1e3 * later / steps
    found["kernels_a_step"] = sum(map(len, streams)) / steps  # none on a CPU
    both = {"operations": cost["flops"], "bytes": cost["bytes accessed"]}
    rates = next((RATES[name] for name in RATES if name in device), (None, None))
    for (name, count), rate in zip(both.items(), rates, strict=True):
        found[f"{name}_a_step"] = count
        found[f"floor_of_{name}_ms"] = rate and 1e3 * count / rate
    return found


def measure(
    corpus: str, folds: int, precision: str, epochs: int, clips: int, **changed
) -> dict:
    """Return the figures of a run of some folds of ten, with `changed` parameters."""
    import jax
    import keras

    device, data = select("auto"), feature_set(corpus, clips)
    policy, products = PRECISIONS[precision]
    keras.config.set_dtype_policy(policy)
    jax.config.update("jax_default_matmul_precision", products)
    given = {"corpus": corpus, "folds": 10, "protocol": "paper", "epochs": epochs}
    given |= {"batch_size": 64} | changed
    plan = planning.make_plan(config.validated(given), data)
    plan = plan._replace(folds=plan.folds[:folds])
    with tempfile.TemporaryDirectory() as folder:
        begun, space = time.perf_counter(), files.Workspace(folder)
        train.train([plan], data, space, device=device, verbose=0)
        seconds = time.perf_counter() - begun
    figures = step_figures(plan, data, device.description)
    about = {"corpus": corpus, "folds": folds, "precision": precision, "epochs": epochs}
    about |= {"device": device.description, "run_s": seconds}
    return about | figures


def main() -> None:
    """Measure every combination, print and save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--corpora", nargs="+", choices=SHAPES, default=["EMOVO"])
    parser.add_argument("--folds", nargs="+", type=int, default=[10, 1])
    parser.add_argument("--precisions", nargs="+", default=["float32"])
    for name, default in (("epochs", 500), ("clips", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    chosen = parser.parse_args()
    document = {"finished": runs.now(), "versions": runs.environment()}
    document |= {"code": runs.git_state(), "figures": []}
    cases = itertools.product(chosen.corpora, chosen.folds, chosen.precisions)
    for case in cases:
        document["figures"].append(measure(*case, chosen.epochs, chosen.clips))
        print(json.dumps(document["figures"][-1], indent=1), flush=True)
    files.write_json(REPOSITORY / "benchmarks" / "results" / "gpu.json", document)


if __name__ == "__main__":
    main()
