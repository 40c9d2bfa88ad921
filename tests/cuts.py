"""A process that trains a small run, and once more with kills.

usage: cuts.py FOLDER KILLS

It trains in children, each forked before TensorFlow has begun, so that a start takes
no time. A child is killed once it has got further than the one before it and a random
moment later; the last one is left alone. FOLDER/calm holds the run without kills,
FOLDER/killed the other. Prints how far each child had got, as JSON.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from conftest import small_run, tiny_features

from lib import fold


def progress(workspace):
    """Return finished folds, and the epoch of the checkpoint of the current one."""
    epochs = 0
    for path in workspace.glob("logs/*/fold_0?.checkpoint.npz"):
        try:
            with np.load(path) as file:
                epochs = json.loads(str(file["rest"]))["epoch"]
        except (OSError, ValueError):
            continue
    return [len(list(workspace.glob("logs/*/fold_0?.npz"))), epochs]


def main(folder, kills):
    """Train without kills, then with so many."""
    fold.CHECKPOINT_SECONDS = 0.0  # more moments at which a cut can hurt
    random, seen = np.random.default_rng(), [[0, 0]]
    for name, left in [("calm", 0), *(("killed", kills - n) for n in range(kills + 1))]:
        workspace, child, ended = folder / name, os.fork(), False
        if not child:
            given = {"epochs": 15, "weight_average": 0.6, "fold_parallel": "off"}
            small_run(workspace, tiny_features(), **given)
            os._exit(0)
        while left and not ended and progress(workspace) <= max(seen):
            time.sleep(0.02)
            ended = os.waitpid(child, os.WNOHANG) != (0, 0)
        if left and not ended:
            time.sleep(float(random.uniform(0, 0.3)))
            os.kill(child, signal.SIGKILL)
        if not ended:
            os.waitpid(child, 0)
        if name == "killed":
            seen.append(progress(workspace))
            for path in workspace.glob("Results/*/run.json"):
                json.loads(path.read_text())  # whole at any moment
    print(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
