"""A process whose children train a small run until they are killed.

usage: cuts.py FOLDER N...

Each child is forked before TensorFlow has begun, goes on with what the last one left,
and is killed as it is about to put its N-th file in place; the last one is let alone.
"""

import os
import signal
import sys

from conftest import small_run, tiny_features

from lib import fold

DATA = tiny_features(signal=0.1, clips=51, speakers=7)
GIVEN = {"epochs": 40, "learning_rate": 0.05, "fold_parallel": "off", "loss": "focal"}
GIVEN |= {"weight_average": 0.6, "early_stopping": 5, "augmentation": "cepstrum"}
GIVEN |= {"schedule": "plateau", "schedule_options": {"patience": 1}}


def train_until(left):
    """Train, and kill this process in front of its so many-th file."""
    replace = os.replace

    def counted(*paths):
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*paths)

    os.replace = counted
    small_run(sys.argv[1], DATA, **GIVEN)


if __name__ == "__main__":
    fold.CHECKPOINT_SECONDS = 0.0  # a checkpoint after each epoch
    for number in (*map(int, sys.argv[2:]), 0):
        child = os.fork()
        if not child:
            train_until(number)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        assert status == (9 if number else 0), (number, status)
