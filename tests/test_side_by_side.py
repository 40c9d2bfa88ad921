"""Folds in threads end as folds one after the other, and stop together."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import small_plan, small_run, tiny_features

from lib import config, runs, training
from lib.device import select
from lib.files import REPOSITORY
from lib.models import fused
from lib.training import fold as fold_module
from lib.training import side_by_side


def curves(folders, number):
    return pd.read_csv(folders.curves(number)).drop(columns="seconds").to_numpy()


@pytest.fixture
def three_threads(monkeypatch):
    monkeypatch.setattr(side_by_side.joblib, "cpu_count", lambda: 3)
    monkeypatch.setattr(side_by_side, "LEAST_STEPS", 0)
    fused._operation.cache_clear()  # as in a process that has trained nothing yet


@pytest.mark.parametrize("protocol", ["speaker", "paper"])
def test_side_by_side_and_one_by_one_agree(tmp_path, three_threads, protocol):
    data = tiny_features(clips=51, speakers=7, signal=0.3)
    given = {"protocol": protocol, "epochs": 6, "folds": 4}
    threads = small_run(tmp_path / "threads", data, **given)
    alone = small_run(tmp_path / "alone", data, fold_parallel="off", **given)
    assert threads.run_id == alone.run_id
    one, other = (runs.predictions.read(f.predictions) for f in (threads, alone))
    pd.testing.assert_frame_equal(one, other, rtol=0, atol=1e-5)
    for number in (1, 2, 3, 4):
        np.testing.assert_allclose(
            curves(threads, number), curves(alone, number), atol=1e-5
        )


def test_several_folds_are_trained_at_the_same_time(tmp_path, tiny, three_threads):
    together = []
    inside = fold_module.FoldTraining._epoch

    def watched(self, *arguments):
        together.append(self.fold.number)
        return inside(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fold_module.FoldTraining, "_epoch", watched)
        small_run(tmp_path, tiny, epochs=40)
    # One after the other, the second fold would begin after 40 epochs of the first.
    assert together.index(2) < 40 and together[:40].count(1) < 40


def test_a_fold_that_fails_stops_the_others_and_keeps_them(
    tmp_path, tiny, three_threads, monkeypatch
):
    monkeypatch.setattr(fold_module, "CHECKPOINT_SECONDS", 0.0)
    calm = small_run(tmp_path / "calm", tiny, epochs=12)
    inside = fold_module.FoldTraining._epoch

    def failing(self, progress, *arguments):
        if self.fold.number == 2 and progress.epoch == 3:
            raise OSError("the disk is full")
        return inside(self, progress, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(fold_module.FoldTraining, "_epoch", failing)
        with pytest.raises(OSError, match="disk is full"):
            small_run(tmp_path / "cut", tiny, epochs=12)
    (manifest,) = (tmp_path / "cut" / "Results").glob("*/run.json")
    document = json.loads(manifest.read_text())
    assert document["status"] == "failed" and "disk is full" in document["error"]
    assert not (manifest.parent / "predictions.csv").exists()
    again = small_run(tmp_path / "cut", tiny, epochs=12)
    one, other = (runs.predictions.read(f.predictions) for f in (calm, again))
    pd.testing.assert_frame_equal(one, other, rtol=0, atol=1e-5)


def test_the_others_stop_when_a_fold_fails(tmp_path, tiny, three_threads, monkeypatch):
    trained = []
    inside = fold_module.FoldTraining._epoch

    def failing(self, progress, *arguments):
        trained.append(self.fold.number)
        if self.fold.number == 2:
            raise OSError("the disk is full")
        return inside(self, progress, *arguments)

    monkeypatch.setattr(fold_module.FoldTraining, "_epoch", failing)
    with pytest.raises(OSError, match="disk is full"):
        small_run(tmp_path, tiny, epochs=400)
    assert trained.count(1) < 400 and trained.count(3) < 400


def test_off_is_one_after_the_other(tmp_path, tiny, three_threads, monkeypatch):
    monkeypatch.setattr(side_by_side, "train_side_by_side", None)
    small_run(tmp_path / "off", tiny, epochs=1, fold_parallel="off")
    with pytest.raises(TypeError):
        small_run(tmp_path / "auto", tiny, epochs=1)


def test_each_operation_keeps_to_one_core_where_folds_share_them():
    source = """
import tensorflow
from lib import device
device.select("cpu", side_by_side=%s)
print(tensorflow.config.threading.get_intra_op_parallelism_threads())
"""
    found = [
        subprocess.run(
            [sys.executable, "-c", source % shared],
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            check=True,
        ).stdout.split()
        for shared in (False, True)
    ]
    assert found == [["0"], ["1"]]
    notebook = (REPOSITORY / "notebooks" / "02_train.ipynb").read_text()
    assert "side_by_side=params.folds_side_by_side" in notebook
    assert "fold_parallel=params.fold_parallel" in notebook


@pytest.mark.parametrize(
    ("given", "several"),
    [
        ({}, True),
        ({"folds": 3}, True),
        ({"folds": 1}, False),
        ({"protocol": "holdout"}, False),
        ({"fold_parallel": "off"}, False),
    ],
)
def test_several_folds_share_the_cores(given, several):
    assert config.validated(given).folds_side_by_side is several


def test_threads_are_for_long_runs_of_networks_on_tensorflows_processor(monkeypatch):
    long = 10_000
    monkeypatch.setattr(side_by_side.joblib, "cpu_count", lambda: 4)
    assert side_by_side.workers("timnet", "cpu", 10, long) == 4
    assert side_by_side.workers("timnet", "cpu", 3, long) == 3
    assert side_by_side.workers("timnet", "cpu", 10, 999) == 1
    assert side_by_side.workers("timnet", "gpu", 10, long) == 1
    assert side_by_side.workers("svm", "cpu", 10, long) == 1
    monkeypatch.setattr(side_by_side.joblib, "cpu_count", lambda: 64)
    assert side_by_side.workers("timnet", "cpu", 100, long) == side_by_side.MOST
    monkeypatch.setattr(side_by_side.keras.backend, "backend", lambda: "jax")
    assert side_by_side.workers("timnet", "cpu", 10, long) == 1


def test_the_steps_of_a_run_decide_whether_it_is_long(tmp_path, tiny, monkeypatch):
    asked = []
    monkeypatch.setattr(
        side_by_side, "workers", lambda *given: asked.append(given) or 1
    )
    plan, _ = small_plan(tmp_path, tiny)
    small_run(tmp_path, tiny, epochs=2)
    steps = sum(-(-len(fold.train) // 8) for fold in plan.folds)
    assert asked == [("timnet", "cpu", 3, 2 * steps)]


# --- several seeds --------------------------------------------------------------------


def test_seeds_end_as_each_alone(tmp_path, tiny, three_threads):
    pairs = [small_plan(tmp_path / "both", tiny, seed=seed) for seed in (3, 4)]
    plans, cfgs = zip(*pairs, strict=True)
    made = training.train_seeds(
        plans, tiny, cfgs[0].folders, device=select("cpu"), verbose=0
    )
    for seed, folders in zip((3, 4), made, strict=True):
        alone = small_run(tmp_path / "alone", tiny, seed=seed)
        assert folders.run_id == alone.run_id
        one, other = (runs.predictions.read(f.predictions) for f in (folders, alone))
        pd.testing.assert_frame_equal(one, other, rtol=0, atol=1e-5)


def test_plans_that_differ_in_more_than_the_seed_are_refused(tmp_path, tiny):
    first, params = small_plan(tmp_path, tiny, seed=3)
    twice, _ = small_plan(tmp_path, tiny, seed=3)
    slower, _ = small_plan(tmp_path, tiny, seed=4, learning_rate=0.5)
    for plans, message in (
        ([first, twice], r"seeds \[3, 3\]: give each of them once"),
        ([first, slower], "learning_rate is 0.001 with seed 3 and 0.5 with seed 4"),
    ):
        with pytest.raises(ValueError, match=message):
            training.train_seeds(plans, tiny, params.folders, device=select("cpu"))
    assert not (tmp_path / "Results").exists()


def test_a_seed_that_fails_is_written_down_and_the_finished_one_stays(
    tmp_path, tiny, monkeypatch
):
    pairs = [small_plan(tmp_path, tiny, seed=seed) for seed in (3, 4)]
    plans, cfgs = zip(*pairs, strict=True)
    inside = fold_module.FoldTraining._epoch

    def failing(self, *arguments):
        if self.seed == 4:
            raise OSError("the disk is full")
        return inside(self, *arguments)

    monkeypatch.setattr(fold_module.FoldTraining, "_epoch", failing)
    with pytest.raises(OSError, match="disk is full"):
        training.train_seeds(
            plans, tiny, cfgs[0].folders, device=select("cpu"), verbose=0
        )
    states = {
        json.loads(path.read_text())["config"]["seed"]: json.loads(path.read_text())
        for path in (tmp_path / "Results").glob("*/run.json")
    }
    assert states[3]["status"] == "done"
    assert states[4]["status"] == "failed" and "disk" in states[4]["error"]
