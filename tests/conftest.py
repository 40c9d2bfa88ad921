"""What several test modules need."""

import os
import subprocess
import sys

import numpy as np
import pytest

from lib import config, planning, train
from lib.device import Device, select
from lib.files import REPOSITORY, FeatureSet, array_hash
from lib.models import SYSTEMS


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
    }
    about |= {"labels": labels, "counts": dict.fromkeys(labels, clips // classes)}
    about |= {"clip_samples": 22_050, "dilations": 8, "hop_seconds": 0.02, "failed": {}}
    about |= {"audio_sha256": f"audio {seed}", "data_sha256": f"data {seed}"}
    about["audit"] = dict.fromkeys(("expected", "found", "used"), clips)
    about["audit"] |= {"dropped": {}, "problems": []}
    about["x_sha256"] = array_hash(x)
    file = np.array([f"{row:03d}.wav" for row in range(clips)])
    speaker = np.array([f"s{value % speakers}" for value in turn])
    sex = np.array([("female", "male")[value % speakers % 2] for value in turn])
    text = np.array([f"t{value // speakers}" for value in turn])
    return FeatureSet(x, y, np.array(labels), file, speaker, sex, text, about)


def elsewhere(*line, **variables):
    """Run Python in a process of its own; return what it says if it succeeds."""
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    how = {"cwd": REPOSITORY, "env": os.environ | {"PYTHONPATH": path} | variables}
    line = [sys.executable, *map(str, line)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=900, **how)
    said = done.stderr + done.stdout
    assert done.returncode == 0, said[-3000:]
    return said


@pytest.fixture
def tiny():
    return tiny_features()


CPU = Device("cpu", "a processor", "not needed")


def parameters(workspace, **given):
    return config.validated({"workspace": str(workspace), "verbose": 0} | given)


def small_plan(workspace, data, **given):
    """Return the plan of a small run of the small CNN, and its parameters."""
    values = {"workspace": str(workspace), "folds": 3, "model": "cnn"} | given
    if not SYSTEMS[values["model"]].fit:
        values = {"epochs": 4, "batch_size": 8} | values
    if values["model"] == "cnn":
        values = {"model_options": {"filters": 4, "blocks": 1}} | values
    params = config.validated(values)
    return planning.make_plan(params, data), params


def small_run(workspace, data, *, overwrite=False, verbose=0, **given):
    """Train a small run; return its folders."""
    plan, params = small_plan(workspace, data, **given)
    chosen = {"device": select("cpu"), "fold_parallel": params.fold_parallel}
    chosen |= {"overwrite": overwrite, "verbose": verbose}
    return train.train([plan], data, params.folders, **chosen)[0]
