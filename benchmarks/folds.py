"""All folds as one JAX program, beside one fold after the other.

usage: KERAS_BACKEND=jax python -m benchmarks.folds [--corpus NAME] [--epochs N]
                                                    [--folds N] [--few N] [--clips N]

A run of TIM-Net on random numbers of a corpus's shape: `--epochs` of all folds
together, compiling included, and `--few` epochs of two folds one after the other. What
both take without compiling is reckoned from the median epoch after the first.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import pandas as pd

from benchmarks.synthetic import feature_set


def run(data, how: str, folds: int, epochs: int) -> tuple[float, float]:
    """Return the seconds of a run, and of a later epoch of all its folds."""
    from lib import config, planning, train
    from lib.device import select

    with tempfile.TemporaryDirectory() as folder:
        given = {"workspace": folder, "corpus": data.about["corpus"], "folds": 10}
        given |= {"protocol": "paper", "epochs": epochs, "batch_size": 64}
        params = config.validated(given)
        plan = planning.make_plan(params, data)
        plan = plan._replace(folds=plan.folds[:folds])
        begun = time.perf_counter()
        (folders,) = train.train(
            [plan],
            data,
            params.folders,
            device=select("auto"),
            fold_parallel=how,
            verbose=0,
        )
        whole = time.perf_counter() - begun
        curves = [pd.read_csv(folders.curves(fold.number)) for fold in plan.folds]
    # The first epoch, which may compile, is in the former alone.
    return whole, sum(curve["seconds"][1:].median() for curve in curves)


def measure(
    corpus: str = "EMOVO",
    folds: int = 10,
    epochs: int = 500,
    few: int = 3,
    clips: int = 0,
) -> dict[str, object]:
    """Return what a run takes in both ways."""
    import jax

    data = feature_set(corpus, clips)
    whole, epoch = run(data, "auto", folds, epochs)
    alone = run(data, "off", 2, few)[1] / 2 * folds * epochs
    return {
        "device": str(jax.devices()[0].device_kind),
        "corpus": corpus,
        "folds": folds,
        "epochs": epochs,
        "seconds": whole,
        "together_seconds": epoch * epochs,
        "one_by_one_seconds": alone,
        "speed_up": alone / (epoch * epochs),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.folds")
    parser.add_argument("--corpus", default="EMOVO")
    for name, value in (("folds", 10), ("epochs", 500), ("few", 3), ("clips", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    for name, value in measure(**vars(parser.parse_args())).items():
        print(f"{name:20s} {value:,.4g}" if isinstance(value, float) else f"{value}")


if __name__ == "__main__":
    main()
