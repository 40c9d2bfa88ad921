"""A process on another backend: it answers and trains what it finds in a folder.

usage: other_backend.py FOLDER

FOLDER holds *.keras networks and clips.npz (clips, labels). Written are answers.npz
and trained.npz (for every network whose name starts with "train_": the loss of an
epoch, and the answers after it).
"""

import sys
from pathlib import Path

import keras
import numpy as np

from lib import models
from lib.losses import cross_entropy
from lib.training.step import batches, make_step


def epoch(network, clips, labels):
    """Train one epoch of two batches, the second one partly filled; return the loss."""
    optimizer = keras.optimizers.SGD(0.05)
    optimizer.build(network.trainable_variables)
    step = make_step(network, optimizer, cross_entropy(), labels.shape[1])
    order = np.arange(len(clips))[::-1]
    return step.epoch(batches(clips, labels, order, 4))[0]


def main(folder):
    with np.load(folder / "clips.npz") as file:
        clips, labels = file["clips"], file["labels"]
    answers, trained = {}, {}
    for file in sorted(folder.glob("*.keras")):
        network = keras.saving.load_model(file, compile=False)
        answers[file.stem] = models.predict(network, clips)[0]
        if file.stem.startswith("train_"):
            loss = epoch(network, clips, labels)
            after = models.predict(network, clips)[0]
            trained[file.stem] = np.append(after.ravel(), loss)
    np.savez(folder / "answers.npz", **answers)
    np.savez(folder / "trained.npz", **trained)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    print(keras.backend.backend())
