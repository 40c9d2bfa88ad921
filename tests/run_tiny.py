"""A process that trains a small run, for tests that kill it.

usage: run_tiny.py WORKSPACE [EPOCHS]
"""

import sys

from conftest import small_plan, tiny_features

from lib import training
from lib.device import select
from lib.training import fold

if __name__ == "__main__":
    workspace, epochs = sys.argv[1], int(sys.argv[2])
    # A checkpoint after every epoch: more moments at which a cut can hurt.
    fold.CHECKPOINT_SECONDS = 0.0
    data = tiny_features()
    plan, params = small_plan(workspace, data, epochs=epochs)
    folders = training.train(
        plan.configuration,
        data,
        plan.folds,
        params.folders,
        device=select("cpu"),
        verbose=2,
    )
    print(folders.run_id)
