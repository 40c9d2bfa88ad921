"""Folds that train together end as folds that train one after the other."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import folds
from lib.files import REPOSITORY
from lib.systems import SYSTEMS
from lib.training import parallel
from lib.training.clips import Augmentation


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Return what a process on JAX has found."""
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    done = subprocess.run(
        [
            sys.executable,
            "tests/folds_together.py",
            str(tmp_path_factory.mktemp("folds")),
        ],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "RuntimeWarning" not in done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "what", ["speaker", "paper", "cnn", "early", "average", "schedule"]
)
def test_together_and_one_by_one_agree(found, what):
    result = found[what]
    assert result["probabilities"] < 1e-4 and result["losses"] < 1e-4
    assert result["spread"] > 0.03  # the answers do differ from clip to clip
    one, other = result["run ids"]
    assert one == other
    one, other = result["epochs"]
    assert one == other


@pytest.mark.parametrize(
    "name",
    [name for name, system in SYSTEMS.items() if not system.fit and name != "timnet"],
)
def test_every_network_trains_together(found, name):
    result = found[name]
    # CkTIM-net's kernels turn by 25 radians where others turn by one, roundings too.
    tolerance = 2e-3 if name == "cktim" else 1e-4
    assert result["probabilities"] < tolerance and result["losses"] < tolerance
    one, other = result["run ids"]
    assert one == other and f"-{name}-" in one


def test_the_best_epoch_of_every_fold_is_its_own(found):
    assert len(set(found["speaker"]["epochs"][0])) > 1


def test_every_fold_stops_early_by_its_own_validation(found):
    one, other = found["early"]["lengths"]
    assert one == other
    assert min(one) < 40 and len(set(one)) > 1


def test_a_cut_between_two_folds_changes_nothing(found):
    assert found["cut"]["cut"] == [1, 1, 1, 2, 2, 2, 3, 3]
    assert found["cut"]["probabilities"] == found["cut"]["losses"] == 0


def test_where_memory_is_short_half_of_the_folds_train_at_a_time(found):
    assert found["halved"]["sizes"] == [3, 2, 1]
    assert found["halved"]["probabilities"] < 1e-4


def test_all_folds_of_several_seeds_are_one_program_and_runs_of_their_own(found):
    result = found["seeds"]
    assert result["sizes"] == [9]
    together, alone = result["run ids"]
    assert together == alone and len(set(together)) == 3
    assert max(result["probabilities"]) < 1e-4 < result["between seeds"]
    assert all(result["again"])  # a run of the notebook finds its own done


def test_only_on_jax_and_for_networks_whose_clips_stay(monkeypatch):
    plain, altered = Augmentation(), Augmentation(cepstrum={})
    assert not parallel.possible("timnet", [plain], 10)  # TensorFlow here
    monkeypatch.setattr(parallel.keras.backend, "backend", lambda: "jax")
    assert parallel.possible("timnet", [plain], 10)
    assert not parallel.possible("timnet", [plain], 1)
    assert not parallel.possible("timnet", [altered], 10)
    copied = Augmentation(copies=np.zeros((1, 1, 2, 3)))
    assert parallel.possible("timnet", [copied], 10)
    assert not parallel.possible("timnet", [copied, copied], 10)
    assert not parallel.possible("svm", [plain], 10)


def test_a_step_of_all_folds_starts_as_many_kernels_as_that_of_one():
    """A GPU gains by folds together because a step stays one series of kernels."""
    code = """
import json
from benchmarks import folds
from benchmarks.synthetic import Shape
print(json.dumps(folds.counted(Shape(64, 16, 3, 4, dilations=2), 5)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=os.environ | {"KERAS_BACKEND": "jax"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kernels_per_step"] > 50
    ratio = found["kernels_per_step_together"] / found["kernels_per_step"]
    assert ratio < 1.1


def test_kernels_are_those_of_the_whole_program():
    text = """
%fused (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  ROOT %n = f32[4]{0} negate(%p)
}

ENTRY %main (a: f32[4], b: f32[4]) -> (f32[4], f32[4]) {
  %a = f32[4]{0} parameter(0)
  %b = f32[4]{0} parameter(1), metadata={op_name="add(b)"}
  %c = f32[4]{0} fusion(%a), kind=kLoop, calls=%fused
  %d = (f32[4]{0}, f32[4]{0}) custom-call(%a, %c), custom_call_target="f(x)"
  %e = f32[4]{0} get-tuple-element(%d), index=0
  ROOT %f = (f32[4]{0}, f32[4]{0}) tuple(%e, %c)
}
"""
    assert folds.kernels(text) == 2
