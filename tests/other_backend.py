"""A fresh process on another backend: it answers and trains what it finds in a folder.

usage: other_backend.py FOLDER

FOLDER holds systems as `models.save` wrote them and clips.npz (clips, labels). Written
is answers.npz, by file; a network whose name starts with "train_" answers with its
weights after training.
"""

import sys
from pathlib import Path

import numpy as np

from lib import models


def trained(network, clips, labels):
    """Train twice on the clips; return weights and the last loss."""
    import keras

    descent = keras.optimizers.SGD(0.05)
    # TensorFlow by its own kernels: those of XLA take half a minute to compile.
    compiled = keras.backend.backend() == "jax"
    network.compile(descent, "categorical_crossentropy", jit_compile=compiled)
    network.train_on_batch(clips, labels)
    loss = network.train_on_batch(clips, labels)
    values = [np.asarray(v).ravel() for v in network.weights]
    return np.concatenate([*values, [float(loss)]])


def main(folder):
    with np.load(folder / "clips.npz") as file:
        clips, labels = file["clips"], file["labels"]
    answers = {}
    for file in sorted([*folder.glob("*.keras"), *folder.glob("*.skops")]):
        network = models.load(file)
        if file.stem.startswith("train_"):
            answers[file.stem] = trained(network, clips, labels)
        else:
            answers[file.stem] = models.predict(network, clips)[0]
    np.savez(folder / "answers.npz", **answers)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    import keras

    print(keras.backend.backend())
