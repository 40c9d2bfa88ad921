"""A process on JAX that trains runs with their folds together and one by one.

usage: folds_together.py FOLDER

Prints, as JSON, how far the runs differ and what their manifests say of their epochs.
"""

import json
import sys

import numpy as np
from conftest import small_plan, small_run, tiny_features

from lib import runs, training
from lib.device import select
from lib.training import fold, parallel

# Speakers of unequal number, so that folds have unequal numbers of steps.
DATA = tiny_features(clips=51, speakers=7, signal=0.3)

# As many frames as the largest system needs, and few clips, for the slowest.
OTHER_DATA = tiny_features(clips=24, frames=40, coefficients=39, speakers=8)
OTHER_SYSTEMS = {
    "modified_timnet": {"dilations": 2, "filters": 5},
    "gm_tcnet": {"filters": 5},
    "light_sernet": {"width": 0.25},
    "cpac": {"filters": 4, "capsule_size": 4},
    "cktim": {"blocks": 1, "filters": 5, "kernel_gain": "mean"},
    "gru": {"units": 4},
}


def train(folder, name, how, data=DATA, **given):
    """Return predictions, figures of every epoch, and manifest of a run."""
    folders = small_run(f"{folder}/{name}", data, fold_parallel=how, **given)
    table = runs.predictions.read(folders.predictions)
    probabilities = table.filter(like="p_").to_numpy(float)
    curves = [
        np.atleast_1d(np.genfromtxt(folders.curves(number), delimiter=",", names=True))
        for number in range(1, 1 + given.get("folds", 3))
    ]
    columns = sorted({"loss", "val_loss"} & set(curves[0].dtype.names))
    losses = np.concatenate([curve[name] for name in columns for curve in curves])
    return probabilities, losses, runs.manifest.read(folders.manifest)


def compare(folder, name, **given):
    """Return how far both ways differ, and the epochs that both have chosen."""
    alone, single, one = train(folder, f"{name}_off", "off", **given)
    together, stacked, other = train(folder, f"{name}_auto", "auto", **given)
    return {
        "probabilities": float(np.abs(alone - together).max()),
        "losses": float(np.abs(single - stacked).max()),
        "spread": float(np.ptp(alone)),
        "run ids": [one["run_id"], other["run_id"]],
        "epochs": [
            [entry["epoch_chosen"] for entry in document["folds"]]
            for document in (one, other)
        ],
        "lengths": [
            [entry["epochs_run"] for entry in document["folds"]]
            for document in (one, other)
        ],
    }


class CutError(Exception):
    """The moment at which a run is cut off."""


def cut_and_resumed(folder, **given):
    """Return how far a run that was cut off is from one that was not."""
    fold.CHECKPOINT_SECONDS = 0.0
    calm, losses, _ = train(folder, "calm", "auto", **given)
    save, calls = fold.FoldTraining.save_checkpoint, []

    def cut(self, progress):
        calls.append(progress.epoch)
        if len(calls) == 8:  # of three folds in the third epoch, the second
            raise CutError
        save(self, progress)

    fold.FoldTraining.save_checkpoint = cut
    try:
        train(folder, "cut", "auto", **given)
    except CutError:
        pass
    fold.FoldTraining.save_checkpoint = save
    again, resumed, _ = train(folder, "cut", "auto", **given)
    return {
        "cut": calls,
        "probabilities": float(np.abs(calm - again).max()),
        "losses": float(np.abs(losses - resumed).max()),
    }


def seeds_together(folder, seeds, **given):
    """Return how far seeds that train together are from each alone, and how many do."""
    run, sizes = parallel._Together.run, []

    def counted(self, report):
        sizes.append(len(self.trainings))
        return run(self, report)

    pairs = [small_plan(folder, DATA, seed=seed, **given) for seed in seeds]
    plans, cfgs = zip(*pairs, strict=True)
    parallel._Together.run = counted
    made = training.train_seeds(
        plans, DATA, cfgs[0].folders, device=select("cpu"), verbose=0
    )
    parallel._Together.run = run
    tables = [runs.predictions.read(folders.predictions) for folders in made]
    answers = [table.filter(like="p_").to_numpy(float) for table in tables]
    alone = [
        train(folder, f"alone_{seed}", "off", seed=seed, **given) for seed in seeds
    ]
    return {
        "sizes": sizes,
        "run ids": [
            [folders.run_id for folders in made],
            [document["run_id"] for *_, document in alone],
        ],
        "probabilities": [
            float(np.abs(found - expected).max())
            for found, (expected, *_) in zip(answers, alone, strict=True)
        ],
        "between seeds": float(np.abs(answers[0] - answers[1]).max()),
        "again": [
            train(folder, ".", "auto", seed=seed, **given)[2]["finished"]
            == runs.manifest.read(folders.manifest)["finished"]
            for seed, folders in zip(seeds, made, strict=True)
        ],
    }


def halved(folder, **given):
    """Return how far a run is from one whose device had no room for three folds."""
    whole, *_ = train(folder, "whole", "auto", **given)
    run, sizes = parallel._Together.run, []

    def small(self, report):
        sizes.append(len(self.trainings))
        if len(self.trainings) == 3:
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return run(self, report)

    parallel._Together.run = small
    parts, *_ = train(folder, "parts", "auto", **given)
    parallel._Together.run = run
    return {"sizes": sizes, "probabilities": float(np.abs(whole - parts).max())}


if __name__ == "__main__":
    folder = sys.argv[1]
    print(
        json.dumps(
            {
                "speaker": compare(folder, "speaker", epochs=10, learning_rate=0.03),
                "paper": compare(
                    folder, "paper", epochs=6, protocol="paper", learning_rate=0.01
                ),
                "cnn": compare(
                    folder, "cnn", epochs=3, model="cnn", model_options={"filters": 4}
                ),
                "early": compare(
                    folder, "early", epochs=40, learning_rate=0.05, early_stopping=4
                ),
                "average": compare(
                    folder, "average", epochs=8, learning_rate=0.05, weight_average=0.8
                ),
                "schedule": compare(
                    folder,
                    "schedule",
                    epochs=4,
                    learning_rate=0.02,
                    schedule="exponential",
                    schedule_options={"factor": 0.3},
                ),
                **{
                    name: compare(
                        folder,
                        name,
                        data=OTHER_DATA,
                        model=name,
                        model_options=options,
                        epochs=1,
                        folds=2,
                    )
                    for name, options in OTHER_SYSTEMS.items()
                },
                "cut": cut_and_resumed(folder, epochs=5, seed=3),
                "seeds": seeds_together(folder, (5, 6, 7), epochs=4),
                "halved": halved(folder, epochs=2, seed=4),
            }
        )
    )
