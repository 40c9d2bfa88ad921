"""A process on JAX that trains folds together and one by one.

usage: on_jax.py FOLDER

Prints, as JSON, how far both are apart and what their manifests say of their epochs.
"""

import json
import sys

import keras
import numpy as np
import pandas as pd
from conftest import small_plan, small_run, tiny_features

from lib import fold, losses, models, runs, together, train
from lib.device import select

# Speakers of unequal number, so that folds have unequal numbers of steps.
DATA = tiny_features(clips=51, speakers=7, signal=0.3)
GIVEN = {
    "epochs": 24,
    "learning_rate": 0.05,
    "weight_average": 0.6,
    "early_stopping": 4,
    "schedule": "plateau",
    "schedule_options": {"patience": 2},
}


def train_run(folder, name, how="auto", **given):
    """Return predictions, metrics of every epoch, and manifest of a run."""
    folders = small_run(f"{folder}/{name}", DATA, fold_parallel=how, **GIVEN | given)
    document = runs.read_manifest(folders.manifest)
    numbers = [entry["fold"] for entry in document["folds"]]
    curves = [pd.read_csv(folders.curves(number)) for number in numbers]
    rows = pd.concat(curves).drop(columns="seconds").to_numpy()
    table = runs.read_predictions(folders.predictions)
    return table.filter(like="p_").to_numpy(float), rows, document


def apart(one, other):
    """Return how far two runs are apart, and what both say of their folds."""
    names = ("epoch_chosen", "epochs_run")
    folds = [
        [[entry[name] for name in names] for entry in document["folds"]]
        for *_, document in (one, other)
    ]
    same = one[1].shape == other[1].shape
    return {
        "probabilities": float(np.abs(one[0] - other[0]).max()),
        "metrics": float(np.abs(one[1] - other[1]).max()) if same else 9.0,
        "spread": float(np.ptp(one[0])),
        "same run": one[2]["run_id"] == other[2]["run_id"],
        "folds": folds,
    }


class CutError(Exception):
    """The moment at which a run is cut off."""


def cut_and_resumed(folder):
    """Cut a run between the checkpoints of two folds, and go on."""
    save, calls = fold.FoldTraining.save, []

    def cut(self, state):
        calls.append(self.epoch)
        if len(calls) == 8:  # of three folds in the third epoch, the second
            raise CutError
        save(self, state)

    fold.CHECKPOINT_SECONDS, fold.FoldTraining.save = 0.0, cut
    try:
        train_run(folder, "cut")
    except CutError:
        pass
    fold.FoldTraining.save = save
    found = train_run(folder, "cut")
    fold.CHECKPOINT_SECONDS = 5.0
    return found, calls


def of_seeds(folder):
    """Return probabilities of two seeds, and how many folds were trained at once."""
    inside, sizes = train.train_folds, []

    def counted(network, trainings, report):
        sizes.append(len(trainings))
        return inside(network, trainings, report)

    train.train_folds = counted
    pairs = [small_plan(folder, DATA, seed=seed, **GIVEN) for seed in (46, 7)]
    plans, params = zip(*pairs, strict=True)
    cpu = select("cpu")
    made = train.train_seeds(plans, DATA, params[0].folders, device=cpu, verbose=0)
    train.train_folds = inside
    tables = [runs.read_predictions(item.predictions) for item in made]
    return [table.filter(like="p_").to_numpy(float) for table in tables], sizes


@keras.saving.register_keras_serializable("tests")
class Generated(keras.layers.Layer):
    """A convolution by a kernel that is normalised before, over its own rows."""

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(3, input_shape[-1]))
        self.normalise = keras.layers.BatchNormalization()
        self.normalise.build((None, input_shape[-1]))

    def call(self, inputs, training=False):
        return inputs * keras.ops.sum(self.normalise(self.kernel, training=training), 0)


def generated(shape, classes):
    """Return a network with batch normalisations that see the batch, and one not."""
    clip = keras.Input(shape)
    signal = keras.layers.BatchNormalization()(Generated()(clip))
    mean = keras.layers.GlobalAveragePooling1D(name="embedding")(signal)
    return keras.Model(clip, keras.layers.Dense(classes, "softmax")(mean))


def of_padding(model):
    """Return how far a padded step is from Keras's own, and from another padding."""
    network = type("Network", (), {})()
    network.model, network.optimizer = model, keras.optimizers.SGD(0.05)
    network.loss = losses.cross_entropy()
    network.optimizer.build(model.trainable_variables)
    variables = model.trainable_variables + model.non_trainable_variables
    state = [v.value for v in variables + network.optimizer.variables]
    random = np.random.default_rng(0)
    clips = random.normal(size=(8, *model.input_shape[1:])).astype(np.float32)
    labels = np.eye(3, dtype=np.float32)[np.arange(8) % 3]
    weights, made = np.array([1] * 5 + [0] * 3, np.float32), []
    for filler in (0.0, 1e3):
        clips[5:] = filler
        step = together.step_function(network)
        after, loss, _ = step(state, clips, np.arange(8), labels, weights)
        made.append([np.asarray(value) for value in after[: len(variables)]])
    model.compile(
        keras.optimizers.SGD(0.05), "categorical_crossentropy", run_eagerly=True
    )
    own_loss = model.train_on_batch(clips[:5], labels[:5])
    own = [v.numpy() for v in variables]
    pairs = list(zip(own, *made, strict=True))
    return [
        max(float(np.abs(other - one).max()) for _, one, other in pairs),
        max(float(np.abs(own - one).max()) for own, one, _ in pairs),
        abs(float(loss) - float(own_loss)),
    ]


def main(folder):
    """Train and print."""
    # Compiled once for all runs, which differ in nothing that a network knows of.
    network = fold.Network(small_plan(folder, DATA, **GIVEN)[0].settings, (20, 5), 3)
    train.Network = lambda *_: network
    alone, whole = train_run(folder, "alone", "off"), train_run(folder, "together")
    cut, calls = cut_and_resumed(folder)
    (one, other), sizes = of_seeds(f"{folder}/seeds")
    # Their layers draw no random numbers.
    steady = {"filters": 4, "blocks": 1, "dropout": 0.0}
    networks = {
        "cnn": models.build_model("cnn", (12, 6), 3, **steady),
        "generated": generated((12, 6), 3),
    }
    answers = {
        "together": apart(alone, whole),
        "cut": apart(whole, cut) | {"calls": calls},
        "seeds": {
            "sizes": sizes,
            "of alone": float(np.abs(one - alone[0]).max()),
            "between": float(np.abs(one - other).max()),
        },
        "padding": {name: of_padding(model) for name, model in networks.items()},
    }
    print(json.dumps(answers))


if __name__ == "__main__":
    main(sys.argv[1])
