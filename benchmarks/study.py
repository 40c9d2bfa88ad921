"""A whole study, ten folds of TIM-Net, beside the official code.

usage: python -m benchmarks.study [--official FOLDER] [--official-packages FOLDER]
                                  [--epochs N] [--official-folds N]

Clips shaped as EMODB's (535 clips, 188 frames, 39 coefficients, 7 classes), batch 64.
Both are processes of their own; what is timed is all that training does, from the
features in memory to the files on disk: building, tracing, training, validating,
saving. Each of the official folds builds and traces its own network and does the same
work, so one of them tells what ten cost; `--official-folds 10` runs them all.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import types

FOLDS, EPOCHS, BATCH, CORPUS = 10, 20, 64, "EMODB"


def ours(folder: str, epochs: int) -> dict[str, float]:
    """Train all folds as notebook 02 does; return the seconds."""
    from benchmarks.synthetic import SHAPES
    from lib import config, training
    from lib.device import select

    params = config.validated(
        {
            "workspace": folder,
            "corpus": CORPUS,
            "protocol": "paper",
            "folds": FOLDS,
            "epochs": epochs,
            "batch_size": BATCH,
        }
    )
    data = SHAPES[CORPUS].features()
    machine = select("cpu", side_by_side=params.folds_side_by_side)
    begun = time.perf_counter()
    training.train(
        training.resolve(params, data),
        data,
        training.make_folds(params, data),
        params.folders,
        device=machine,
        verbose=0,
    )
    return {"seconds": time.perf_counter() - begun, "folds": FOLDS}


def official(folder: str, epochs: int, code: str, folds: int) -> dict[str, float]:
    """Train some folds with the official code; return the seconds."""
    import numpy as np
    from sklearn.model_selection import KFold

    from benchmarks.synthetic import SHAPES

    sys.path.insert(0, code)
    module = importlib.import_module("Model")
    # Its tables are written for an older pandas; they are no part of the training.
    nothing = types.SimpleNamespace
    table = nothing(to_excel=lambda *_, **__: None)
    table.transpose = lambda: table
    file = nothing(save=lambda: None, close=lambda: None)
    module.pd = nothing(ExcelWriter=lambda *_: file, DataFrame=lambda *_: table)

    class SomeFolds(KFold):
        def split(self, *arguments):
            return list(super().split(*arguments))[:folds]

    module.KFold = SomeFolds
    data = SHAPES[CORPUS].features()
    labels = np.eye(SHAPES[CORPUS].classes, dtype=np.float32)[data.y]
    chosen = nothing(
        data=CORPUS,
        model_path=f"{folder}/Models/",
        result_path=f"{folder}/Results/",
        lr=1e-3,
        beta1=0.93,
        beta2=0.98,
        batch_size=BATCH,
        epoch=epochs,
        dropout=0.1,
        random_seed=46,
        activation="relu",
        filter_size=39,
        kernel_size=2,
        stack_size=1,
        dilation_size=8,
        split_fold=FOLDS,
    )
    names = tuple(data.label_names)
    network = module.TIMNET_Model(chosen, data.x.shape[1:], names)
    begun = time.perf_counter()
    network.train(data.x, labels)
    return {"seconds": time.perf_counter() - begun, "folds": folds}


def in_process(kind: str, packages: str = "", **given) -> dict[str, float]:
    """Return what `ours` or `official` measures in a process of its own."""
    root = pathlib.Path(__file__).resolve().parent.parent
    more = {"TF_USE_LEGACY_KERAS": "1"} if kind == "official" else {}
    search = os.pathsep.join(filter(None, [str(root), packages]))
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "benchmarks.study",
                "--contender",
                json.dumps({"kind": kind, "folder": folder} | given),
            ],
            capture_output=True,
            text=True,
            cwd=root,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": search} | more,
        )
    if done.returncode:
        raise RuntimeError(f"{kind} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(
    official: str = "",
    official_packages: str = "",
    epochs: int = EPOCHS,
    official_folds: int = 1,
) -> dict[str, float]:
    """Return the seconds of ten folds of each contender, and their ratio.

    Args:
        official: The folder Code of a checkout of the official repository; "" to
            measure ours alone.
        official_packages: Folder that holds tf_keras, if it is not installed.
        epochs: Epochs of every fold.
        official_folds: Folds that the official code trains; the rest is reckoned.
    """
    found = {"epochs": epochs, "folds": FOLDS}
    if official:
        theirs = in_process(
            "official",
            official_packages,
            epochs=epochs,
            code=official,
            folds=official_folds,
        )
        found["official_folds_measured"] = official_folds
        found["official_seconds"] = theirs["seconds"] / theirs["folds"] * FOLDS
    found["ours_seconds"] = in_process("ours", epochs=epochs)["seconds"]
    if official:
        found["ratio"] = found["ours_seconds"] / found["official_seconds"]
    return found


def contend(given: dict) -> None:
    """Be a contender; print its figures as the last line."""
    kind = given.pop("kind")
    print(json.dumps({"ours": ours, "official": globals()["official"]}[kind](**given)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--official", default="")
    parser.add_argument("--official-packages", default="")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--official-folds", type=int, default=1)
    chosen = vars(parser.parse_args())
    if contender := chosen.pop("contender"):
        contend(json.loads(contender))
        return
    found = measure(**chosen)
    print(f"{FOLDS} folds, {found['epochs']} epochs: {found['ours_seconds']:.0f} s")
    if "ratio" in found:
        print(
            f"official: {found['official_seconds']:.0f} s "
            f"({found['official_folds_measured']} folds measured), "
            f"ours / official = {found['ratio']:.2f}"
        )


if __name__ == "__main__":
    main()
