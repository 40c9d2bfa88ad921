"""Folds that train together end as folds that train one after the other."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from lib import together
from lib.files import REPOSITORY
from lib.train import Augmentation, Plan


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Return what a process on JAX has found."""
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    done = subprocess.run(
        [sys.executable, "tests/on_jax.py", str(tmp_path_factory.mktemp("folds"))],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "RuntimeWarning" not in done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_together_and_one_by_one_agree(found):
    """With EMA, a schedule that watches the loss, and early stopping by each fold."""
    result = found["together"]
    assert result["same run"]
    # Float32 after a hundred steps or so; the answers do differ from clip to clip.
    assert max(result["probabilities"], result["metrics"]) < 1e-3 < result["spread"]
    one, other = result["folds"]
    assert one == other
    assert len({chosen for chosen, _ in one}) > 1
    assert min(length for _, length in one) < 24


def test_a_cut_between_two_folds_changes_nothing(found):
    assert found["cut"]["calls"] == [1, 1, 1, 2, 2, 2, 3, 3]
    assert found["cut"]["probabilities"] == found["cut"]["metrics"] == 0


def test_seeds_are_one_program(found):
    result = found["seeds"]
    assert result["sizes"] == [6]
    assert result["of alone"] < 1e-3 < result["between"]


@pytest.mark.parametrize("name", ["cnn", "generated"])
def test_what_fills_up_a_batch_changes_nothing(found, name):
    """A padded step is Keras's own on the real rows, in weights and statistics."""
    by_filler, from_keras, of_loss = found["padding"][name]
    assert by_filler < 1e-6
    # Keras adds 1e-7 to a count of masked rows; moments differ by a millionth.
    assert max(from_keras, of_loss) < 1e-5


def test_only_on_jax_and_for_clips_that_are_the_same_for_all(monkeypatch):
    def plans(*seeds, **given):
        return [Plan({"seed": seed}, (), Augmentation(**given)) for seed in seeds]

    assert not together.possible(plans(1, 1))  # TensorFlow here
    monkeypatch.setattr(together.keras.backend, "backend", lambda: "jax")
    copies = np.zeros((1, 1, 2, 3))
    assert together.possible(plans(1, 1)) and together.possible(plans(1, 2))
    assert not together.possible(plans(1))
    assert not together.possible(plans(1, 1, cepstrum={"probability": 0.5}))
    assert together.possible(plans(1, 1, copies=copies))
    assert not together.possible(plans(1, 2, copies=copies))
