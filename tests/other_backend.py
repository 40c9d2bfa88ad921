"""A process on another backend: it answers and trains what it finds in a folder.

usage: other_backend.py FOLDER

FOLDER holds *.keras networks and clips.npz (clips, labels). Written are answers.npz
and trained.npz (for every network whose name starts with "train_": its weights after
an epoch, and the loss of that epoch).
"""

import sys
from pathlib import Path

import keras
import numpy as np

from lib import models
from lib.losses import cross_entropy
from lib.training.step import batches, make_step


def trained(network, clips, labels):
    """Train two batches, the second one partly filled; return weights and loss."""
    optimizer = keras.optimizers.SGD(0.05)
    optimizer.build(network.trainable_variables)
    # TensorFlow by its own kernels: those of XLA take half a minute to compile.
    step = make_step(network, optimizer, cross_entropy(), labels.shape[1], fused=False)
    order = np.arange(len(clips))[::-1]
    loss, _ = step.epoch(batches(clips, labels, order, 4))
    values = [np.asarray(v).ravel() for v in network.weights if "seed" not in v.path]
    return np.concatenate([*values, [loss]])


def main(folder):
    with np.load(folder / "clips.npz") as file:
        clips, labels = file["clips"], file["labels"]
    answers, after = {}, {}
    for file in sorted(folder.glob("*.keras")):
        network = keras.saving.load_model(file, compile=False)
        if file.stem.startswith("train_"):
            after[file.stem] = trained(network, clips, labels)
        else:
            answers[file.stem] = models.predict(network, clips)[0]
    np.savez(folder / "answers.npz", **answers)
    np.savez(folder / "trained.npz", **after)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    print(keras.backend.backend())
