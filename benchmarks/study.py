"""A whole study, ten folds of TIM-Net, beside the official code.

usage: python -m benchmarks.study [--official FOLDER] [--official-packages FOLDER]
                                  [--epochs N]

Clips shaped as EMODB's (535 clips, 188 frames, 39 coefficients, 7 classes), batch 64.
Both are processes of their own; what is timed is all that training does, from the
features in memory to the files on disk: building, tracing, training, validating,
saving. All folds of both are run: those of the official code take from 64 to 104 s
each on a quiet machine, so one of them does not tell what ten cost.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import types
from collections.abc import Callable

from benchmarks import contest

FOLDS, EPOCHS, BATCH, CORPUS = 10, 20, 64, "EMODB"


def ours(epochs: int) -> Callable[[], None]:
    """Return the function that trains all folds as notebook 02 does."""
    from benchmarks.synthetic import feature_set
    from lib import config, planning, train
    from lib.device import select

    data, machine = feature_set(CORPUS), select("cpu")

    def turn() -> None:
        with tempfile.TemporaryDirectory() as folder:
            given = {"workspace": folder, "corpus": CORPUS, "protocol": "paper"}
            sizes = {"folds": FOLDS, "epochs": epochs, "batch_size": BATCH}
            params = config.validated(given | sizes)
            plans = [planning.make_plan(params, data)]
            train.train(plans, data, params.folders, device=machine, verbose=0)

    return turn


def official(epochs: int, code: str) -> Callable[[], None]:
    """Return the function that trains all folds with the official code."""
    import numpy as np

    from benchmarks.synthetic import feature_set

    sys.path.insert(0, code)
    module = importlib.import_module("Model")
    # Its tables are written for an older pandas; they are no part of the training.
    nothing = types.SimpleNamespace
    table = nothing(to_excel=lambda *_, **__: None)
    table.transpose = lambda: table
    file = nothing(save=lambda: None, close=lambda: None)
    module.pd = nothing(ExcelWriter=lambda *_: file, DataFrame=lambda *_: table)

    data = feature_set(CORPUS)
    labels = np.eye(len(data.label_names), dtype=np.float32)[data.y]
    settings = {
        "lr": 1e-3,
        "beta1": 0.93,
        "beta2": 0.98,
        "batch_size": BATCH,
        "epoch": epochs,
        "dropout": 0.1,
        "random_seed": 46,
        "activation": "relu",
        "filter_size": 39,
        "kernel_size": 2,
        "stack_size": 1,
        "dilation_size": 8,
        "split_fold": FOLDS,
    }

    def turn() -> None:
        with tempfile.TemporaryDirectory() as folder:
            places = {
                f"{kind}_path": f"{folder}/{kind}s/" for kind in ("model", "result")
            }
            chosen = nothing(data=CORPUS, **settings, **places)
            names = tuple(data.label_names)
            module.TIMNET_Model(chosen, data.x.shape[1:], names).train(data.x, labels)

    return turn


def measure(
    official: str = "",
    official_packages: str = "",
    epochs: int = EPOCHS,
) -> dict[str, float]:
    """Return the seconds of ten folds of each contender, and their ratio."""
    seconds = {}
    # One after the other: side by side, each would slow the other down.
    if official:
        theirs = contest.start(
            "benchmarks.study:official",
            packages=official_packages,
            TF_USE_LEGACY_KERAS="1",
            epochs=epochs,
            code=official,
        )
        (turn,) = contest.take_turns({"official": theirs}, 1)["official"]
        seconds["official_seconds"] = turn["seconds"]
    own = contest.start("benchmarks.study:ours", epochs=epochs)
    (turn,) = contest.take_turns({"ours": own}, 1)["ours"]
    seconds["ours_seconds"] = turn["seconds"]
    if official:
        seconds["ratio"] = seconds["ours_seconds"] / seconds["official_seconds"]
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study")
    parser.add_argument("--official", default="")
    parser.add_argument("--official-packages", default="")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    for name, value in measure(**vars(parser.parse_args())).items():
        print(f"{name.replace('_', ' '):20s} {value:9.2f}")


if __name__ == "__main__":
    main()
