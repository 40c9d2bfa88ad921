"""What several test modules need."""

from __future__ import annotations

import numpy as np
import pytest

from lib import config, training
from lib.device import select
from lib.features import FeatureSet
from lib.features.store import array_hash
from lib.systems import SYSTEMS


def tiny_features(
    seed=0, clips=48, frames=20, coefficients=5, classes=3, speakers=6, signal=1.0
):
    """Return separable random features of a few speakers."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(classes), clips // classes)
    turn = np.tile(np.arange(clips // classes), classes)
    centres = signal * rng.normal(size=(classes, 1, coefficients))
    x = centres[y] + rng.normal(size=(clips, frames, coefficients))
    x = x.astype(np.float32)
    labels = [f"class_{index}" for index in range(classes)]
    about = {
        "corpus": "TINY",
        "synthetic": True,
        "features": "timnet",
        "settings": None,
        "labels": labels,
        "counts": {label: clips // classes for label in labels},
        "clip_samples": 22_050,
        "dilations": 8,
        "failed": {},
        "audio_sha256": f"audio {seed}",
        "data_sha256": f"data {seed}",
        "audit": {
            "expected": clips,
            "found": clips,
            "used": clips,
            "dropped": {},
            "problems": [],
        },
        "x_sha256": array_hash(x),
        "hop_seconds": 0.02,
    }
    return FeatureSet(
        x=x,
        y=y,
        label_names=np.array(labels),
        file=np.array([f"{row:03d}.wav" for row in range(clips)]),
        speaker=np.array([f"s{value % speakers}" for value in turn]),
        sex=np.array([("female", "male")[value % speakers % 2] for value in turn]),
        text=np.array([f"t{value // speakers}" for value in turn]),
        about=about,
    )


@pytest.fixture
def tiny():
    return tiny_features()


def small_plan(workspace, data, **given):
    """Return the plan of a small run of TIM-Net, and its parameters."""
    options = {"dilations": 2, "filters": 5}
    values = {"workspace": str(workspace), "folds": 3}
    if not SYSTEMS[given.get("model", "timnet")].fit:
        values |= {"epochs": 4, "batch_size": 8}
    if "model" not in given:
        values |= {"model_options": options}
    params = config.validated(values | given)
    resolved = training.resolve(params, data)
    return training.Plan(resolved, training.make_folds(params, data)), params


def small_run(workspace, data, *, overwrite=False, **given):
    """Train a small run of TIM-Net; return its folders."""
    plan, params = small_plan(workspace, data, **given)
    return training.train(
        plan.configuration,
        data,
        plan.folds,
        params.folders,
        device=select("cpu"),
        fold_parallel=params.fold_parallel,
        overwrite=overwrite,
        verbose=0,
    )
