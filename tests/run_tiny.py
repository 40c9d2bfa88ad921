"""A process that trains a small run, for tests that kill it.

usage: run_tiny.py WORKSPACE [EPOCHS]
"""

import sys

from conftest import tiny_features

from lib import config, training
from lib.device import select
from lib.training import fold

if __name__ == "__main__":
    workspace, epochs = sys.argv[1], int(sys.argv[2])
    # A checkpoint after every epoch: more moments at which a cut can hurt.
    fold.CHECKPOINT_SECONDS = 0.0
    cfg = config.validated(
        {
            "workspace": workspace,
            "epochs": epochs,
            "folds": 3,
            "batch_size": 8,
            "model_options": {"dilations": 2, "filters": 5},
        }
    )
    data = tiny_features()
    machine = select("cpu")
    folders = training.train(
        training.resolve(cfg, data, {}),
        data,
        training.make_folds(cfg, data),
        cfg.folders,
        device=machine,
        verbose=2,
    )
    print(folders.run_id)
