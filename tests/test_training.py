"""Runs are complete, repeatable, and survive being killed."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import small_run as run
from conftest import tiny_features
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lib import config, runs, training
from lib.device import derived_seed
from lib.files import REPOSITORY
from lib.losses import smoothed_labels
from lib.models import build_model
from lib.runs import RunFolders
from lib.training import fold as fold_module
from lib.training.fold import Outcome
from lib.training.program import Program, Recipe, fresh_weights

OPTIONS = {"dilations": 2, "filters": 5}
QUICK = {"model": "logistic", "model_options": {}}


def document(folders):
    return json.loads(folders.manifest.read_text())


def plain_loss(model, data, rows):
    """Return the cross-entropy of unsmoothed labels."""
    probabilities = np.asarray(model(data.x[rows]))
    return -np.log(probabilities[np.arange(len(rows)), data.y[rows]]).mean()


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """Return the workspace of a run that nothing has disturbed."""
    workspace = tmp_path_factory.mktemp("calm")
    run(workspace, tiny_features())
    return workspace


@pytest.fixture
def copied(calm, tmp_path):
    """Return the folders of that run in a workspace of its own."""
    shutil.copytree(calm, tmp_path / "copied")
    return run(tmp_path / "copied", tiny_features())


def test_a_run_leaves_all_its_files(calm, tiny):
    folders = run(calm, tiny)
    manifest = document(folders)
    assert manifest["status"] == "done"
    assert folders.run_id.startswith("TINY-timnet-speaker-s46-")
    table = runs.predictions.read(folders.predictions)
    assert sorted(table["file"]) == tiny.file.tolist()
    expected = "file speaker sex fold y_true y_pred p_class_0 p_class_1 p_class_2"
    assert list(table.columns) == expected.split()
    probabilities = table.filter(like="p_").to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities.argmax(axis=1) == table["y_pred"]).all()
    with np.load(folders.embeddings) as embeddings:
        assert embeddings["file"].tolist() == table["file"].tolist()
        assert embeddings["z"].dtype == np.float32
        assert embeddings["z"].shape == (48, 5)
    for fold in (1, 2, 3):
        curves = pd.read_csv(folders.curves(fold))
        assert curves["epoch"].tolist() == [1, 2, 3, 4]
        assert {"loss", "accuracy", "uar", "val_loss", "val_uar"} <= set(curves)
        events = EventAccumulator(str(folders.events(fold))).Reload()
        logged = [event.value for event in events.Scalars("uar/validation")]
        np.testing.assert_allclose(logged, curves["val_uar"], atol=1e-6)
    files = {item["path"] for item in manifest["artefacts"]}
    assert f"Models/{folders.run_id}/fold_03.keras" in files


def test_scores_in_the_manifest_are_those_of_the_predictions(calm, tiny):
    from sklearn.metrics import accuracy_score, recall_score

    folders = run(calm, tiny)
    table = runs.predictions.read(folders.predictions)
    pooled = document(folders)["metrics"]["pooled"]
    uar = recall_score(table["y_true"], table["y_pred"], average="macro")
    assert pooled["uar"] == pytest.approx(uar)
    assert pooled["war"] == pytest.approx(
        accuracy_score(table["y_true"], table["y_pred"])
    )


def test_the_saved_network_is_the_tested_one(calm, tiny):
    folders = run(calm, tiny)
    table = runs.predictions.read(folders.predictions)
    for fold in (1, 2, 3):
        part = table[table["fold"] == fold]
        rows = [tiny.file.tolist().index(file) for file in part["file"]]
        model = keras.saving.load_model(folders.model(fold), compile=False)
        np.testing.assert_allclose(
            model(tiny.x[rows]), part.filter(like="p_"), atol=1e-5
        )


@pytest.mark.parametrize("weight_average", [0.0, 0.8])
def test_the_tested_epoch_is_the_best_on_validation_and_the_last_is_kept(
    tmp_path, weight_average
):
    hard = tiny_features(signal=0.1)
    epochs = 12
    given = {"learning_rate": 0.05, "weight_average": weight_average}
    folders = run(tmp_path, hard, epochs=epochs, **given)
    params = config.validated({"folds": 3})
    folds = training.make_folds(params, hard)
    earlier = 0
    for fold, entry in zip(folds, document(folders)["folds"], strict=True):
        curves = pd.read_csv(folders.curves(entry["fold"]))
        ranked = curves.sort_values(
            ["val_uar", "val_loss", "epoch"], ascending=[False, True, True]
        )
        assert entry["epoch_chosen"] == ranked["epoch"].iloc[0]
        assert entry["chosen_on"] == "validation"
        # The saved networks are those of the epochs they are said to be of.
        model = keras.saving.load_model(folders.model(entry["fold"]), compile=False)
        chosen = curves["val_loss"][entry["epoch_chosen"] - 1]
        assert plain_loss(model, hard, fold.validation) == pytest.approx(chosen, 1e-3)
        is_earlier = entry["epoch_chosen"] < epochs
        if is_earlier:
            model.load_weights(folders.last_weights(entry["fold"]))
            last = curves["val_loss"].iloc[-1]
            assert plain_loss(model, hard, fold.validation) == pytest.approx(last, 1e-3)
            assert abs(last - chosen) > 0.01 * chosen
        assert folders.last_weights(entry["fold"]).is_file() == is_earlier
        earlier += is_earlier
    assert earlier, "choose data for which an earlier epoch wins"


def test_paper_tests_the_last_epoch_and_never_looks_at_the_test_fold(tmp_path, tiny):
    folders = run(tmp_path / "a", tiny, protocol="paper")
    assert "val_loss" not in pd.read_csv(folders.curves(1))
    assert [entry["epoch_chosen"] for entry in document(folders)["folds"]] == [4] * 3
    # Other test clips: training must not notice.
    other = tiny_features()
    tested = training.make_folds(
        config.validated({"protocol": "paper", "folds": 3}), tiny
    )[0].test
    other.x[tested] += 5.0
    changed = run(tmp_path / "b", other, protocol="paper")
    pd.testing.assert_frame_equal(
        pd.read_csv(folders.curves(1)).drop(columns="seconds"),
        pd.read_csv(changed.curves(1)).drop(columns="seconds"),
    )


def test_paper_best_says_that_it_leaks(tmp_path, tiny):
    folders = run(tmp_path, tiny, protocol="paper_best")
    for entry in document(folders)["folds"]:
        assert entry["validation_is_test"]
        assert entry["chosen_on"] == "test"
        curves = pd.read_csv(folders.curves(entry["fold"]))
        best = curves["val_accuracy"].max()
        assert curves["val_accuracy"][entry["epoch_chosen"] - 1] == best


def test_the_same_seed_gives_the_same_run(calm, tmp_path, tiny):
    first, again = run(calm, tiny), run(tmp_path, tiny)
    assert first.predictions.read_bytes() == again.predictions.read_bytes()


def test_a_fold_does_not_depend_on_the_folds_before_it(copied, tiny):
    before = copied.predictions.read_bytes()
    # As after a cut: the first and last fold are done, the second is not.
    manifest = document(copied) | {"status": "running"}
    copied.manifest.write_text(json.dumps(manifest))
    copied.outcome(2).unlink()
    copied.model(2).unlink()
    run(copied.workspace.root, tiny)
    assert copied.predictions.read_bytes() == before


def test_a_finished_run_is_not_touched(tmp_path, tiny):
    folders = run(tmp_path, tiny, **QUICK)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("fold_*")}
    run(tmp_path, tiny, **QUICK)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("fold_*")} == (
        stamps
    )
    run(tmp_path, tiny, overwrite=True, **QUICK)
    assert folders.model(1).stat().st_mtime_ns != stamps[folders.model(1)]


def test_a_failure_is_recorded_and_the_same_command_goes_on(tmp_path, tiny):
    broken = tiny_features()
    broken.x[:] = np.nan
    with pytest.raises(FloatingPointError, match="loss is nan; lower learning_rate"):
        run(tmp_path, broken)
    (path,) = tmp_path.glob("Results/*/run.json")
    manifest = json.loads(path.read_text())
    assert manifest["status"] == "failed"
    assert "loss is nan" in manifest["error"]


def test_a_full_disk_is_one_clear_error_and_the_same_command_goes_on(
    tmp_path, tiny, monkeypatch
):
    undisturbed = run(tmp_path / "a", tiny, **QUICK)

    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("lib.training.fold.shutil.copyfile", full)
        with pytest.raises(OSError, match=r"fold_0\d.*disk is full.*free some space"):
            run(tmp_path / "b", tiny, **QUICK)
    (path,) = tmp_path.glob("b/Results/*/run.json")
    assert json.loads(path.read_text())["status"] == "failed"
    assert not list(tmp_path.rglob(".partial-*"))
    again = run(tmp_path / "b", tiny, **QUICK)
    assert again.predictions.read_bytes() == undisturbed.predictions.read_bytes()


def test_two_processes_cannot_train_the_same_run(tmp_path, tiny):
    folders = run(tmp_path, tiny, **QUICK)
    with runs.manifest.only_one(folders):
        with pytest.raises(RuntimeError, match="another process"):
            run(tmp_path, tiny, overwrite=True, **QUICK)


def test_unknown_model_options_are_named(tmp_path, tiny):
    with pytest.raises(ValueError, match="model_options.*'dilation'.*'dilations'"):
        run(tmp_path, tiny, model_options={"dilation": 3})


# --- label smoothing -----------------------------------------------------------------


def test_smoothing_is_the_formula_and_leaves_the_labels_alone():
    y = np.array([2, 0])
    smooth = smoothed_labels(y, 4, 0.1)
    np.testing.assert_allclose(smooth[0], [0.025, 0.025, 0.925, 0.025], atol=1e-7)
    np.testing.assert_allclose(smooth.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(y, [2, 0])
    np.testing.assert_array_equal(smoothed_labels(y, 4, 0.0), np.eye(4)[[2, 0]])


# --- the compiled step ---------------------------------------------------------------


def test_an_epoch_is_that_of_keras_fit(tiny):
    """The same weights, order and labels through `fit` give the same network."""
    from lib import models

    # 48 clips are two batches of 20 and one of 8. Adam's epsilon is large, because
    # a bias before a normalisation has no gradient but rounding errors, which a
    # small one would blow up.
    recipe = Recipe(1, 20, 1e-2, 0.93, 0.98, 1e-3, 0.1, fused=False)
    shape = tiny.x.shape[1:]
    program = Program(
        lambda: models.build_model("timnet", shape, 3, dropout=0.0, **OPTIONS),
        recipe,
        3,
    )
    program.reset(1)
    twin = models.build_model("timnet", shape, 3, dropout=0.0, **OPTIONS)
    twin.set_weights(program.network.get_weights())
    labels = smoothed_labels(tiny.y, 3, 0.1)
    order = np.random.default_rng(0).permutation(48)
    row = program.train_epoch(tiny.x, labels, order)
    twin.compile(
        keras.optimizers.Adam(1e-2, 0.93, 0.98, 1e-3), "categorical_crossentropy"
    )
    history = twin.fit(
        tiny.x[order], labels[order], batch_size=20, shuffle=False, verbose=0
    )
    assert row["loss"] == pytest.approx(history.history["loss"][0], abs=1e-5)
    for ours, theirs in zip(
        program.network.get_weights(), twin.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_reset_forgets_the_fold_before(tiny):
    from lib import models

    recipe = Recipe(1, 16, 1e-2, 0.93, 0.98, 1e-8, 0.1, fused=False)
    program = Program(
        lambda: models.build_model("timnet", tiny.x.shape[1:], 3, **OPTIONS), recipe, 3
    )
    labels, order = smoothed_labels(tiny.y, 3, 0.1), np.arange(48)
    program.reset(1)
    program.train_epoch(tiny.x, labels, order)
    first = program.state()
    program.reset(2)
    program.train_epoch(tiny.x, labels, order)
    program.reset(1)
    program.train_epoch(tiny.x, labels, order)
    again = program.state()
    assert first.keys() == again.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])


def test_predictions_do_not_depend_on_the_batch(tiny):
    from lib import models

    recipe = Recipe(1, 16, 1e-2, 0.93, 0.98, 1e-8, 0.1, fused=False)
    program = Program(
        lambda: models.build_model("timnet", tiny.x.shape[1:], 3, **OPTIONS), recipe, 3
    )
    whole, embedding = program.predict(np.tile(tiny.x, (4, 1, 1)))
    assert whole.shape == (192, 3)
    assert embedding.shape == (192, 5)
    np.testing.assert_allclose(whole[:1], program.predict(tiny.x[:1])[0], atol=1e-6)


def test_derived_seeds_differ_between_folds_and_seeds():
    seeds = {derived_seed(seed, fold) for seed in range(20) for fold in range(20)}
    assert len(seeds) == 400


# --- kill -9 -------------------------------------------------------------------------


def start(workspace, epochs=25):
    command = [sys.executable, "tests/run_tiny.py", str(workspace), str(epochs)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process, seconds):
    """Wait for a process; tell whether it has ended by then."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def progress(workspace):
    """Return finished folds and the epoch that the running fold's checkpoint holds."""
    folds = list(workspace.glob("logs/*/fold_0?.npz"))
    epochs = 0
    for path in workspace.glob("logs/*/fold_0?.checkpoint.npz"):
        try:
            with np.load(path) as file:
                epochs = json.loads(str(file["rest"]))["epoch"]
        except (OSError, ValueError):
            continue
    return len(folds), epochs


@pytest.mark.slow
def test_killed_at_ten_random_moments_a_run_ends_as_if_undisturbed(tmp_path):
    undisturbed = start(tmp_path / "a")
    output = undisturbed.communicate()[0]
    assert undisturbed.returncode == 0, output
    (expected,) = (tmp_path / "a").glob("Results/*/predictions.csv")
    rng = np.random.default_rng(int.from_bytes(os.urandom(4), "big"))
    workspace, seen = tmp_path / "b", []
    for _ in range(10):
        process = start(workspace)
        # Wait until this attempt has got further than the last one, then a while.
        before = seen[-1] if seen else (0, 0)
        while not ended(process, 0.05) and progress(workspace) <= before:
            continue
        if not ended(process, float(rng.uniform(0, 0.8))):
            process.send_signal(signal.SIGKILL)
        process.communicate()
        seen.append(progress(workspace))
        for path in workspace.glob("Results/*/run.json"):
            json.loads(path.read_text())  # whole at any moment
        for path in workspace.glob("Results/*/predictions.csv"):
            assert path.read_bytes() == expected.read_bytes()
    assert len(set(seen)) >= 4, f"the cuts fell on the same moment: {seen}"
    last = start(workspace)
    output = last.communicate()[0]
    assert last.returncode == 0, output
    (path,) = workspace.glob("Results/*/predictions.csv")
    assert path.read_bytes() == expected.read_bytes()
    assert not list(workspace.rglob(".partial-*"))
    assert not list(workspace.rglob("*.checkpoint.npz"))


def test_a_damaged_checkpoint_or_outcome_starts_the_fold_again(copied, tiny):
    before = copied.predictions.read_bytes()
    manifest = document(copied) | {"status": "running"}
    copied.manifest.write_text(json.dumps(manifest))
    copied.outcome(3).write_bytes(b"half")
    copied.checkpoint(3).write_bytes(copied.outcome(1).read_bytes()[:500])
    assert Outcome.load(copied.outcome(3)) is None
    run(copied.workspace.root, tiny)
    assert copied.predictions.read_bytes() == before


def test_folders_of_a_run_are_those_of_the_design(tmp_path):
    from lib.files import find_workspace

    folders = RunFolders(find_workspace(str(tmp_path)), "X")
    assert folders.model(1) == tmp_path / "Models" / "X" / "fold_01.keras"
    assert folders.manifest == tmp_path / "Results" / "X" / "run.json"
    assert folders.curves(2) == tmp_path / "logs" / "X" / "fold_02.csv"


def test_training_stops_when_validation_stops_improving(tmp_path):
    hard = tiny_features(signal=0.1)
    folders = run(tmp_path, hard, epochs=60, learning_rate=0.05, early_stopping=3)
    lengths = []
    for entry in document(folders)["folds"]:
        curves = pd.read_csv(folders.curves(entry["fold"]))
        keys = list(zip(curves["val_uar"], -curves["val_loss"], strict=True))
        best = max(range(len(keys)), key=lambda index: (keys[index], -index)) + 1
        lengths.append(len(curves))
        assert entry["epochs_run"] == len(curves)
        assert entry["epoch_chosen"] == best
        assert len(curves) in (60, best + 3)
    assert min(lengths) < 60 and len(set(lengths)) > 1


def test_early_stopping_needs_somebody_to_validate(tmp_path, tiny):
    with pytest.raises(ValueError, match="early_stopping 5: protocol 'paper' has no"):
        run(tmp_path, tiny, protocol="paper", early_stopping=5)


def test_averaged_weights_answer_and_are_saved(tmp_path, tiny):
    given = {"epochs": 8, "protocol": "paper", "folds": 2}
    folders = run(tmp_path, tiny, weight_average=0.8, **given)
    table = runs.predictions.read(folders.predictions)
    part = table[table["fold"] == 1]
    rows = [tiny.file.tolist().index(file) for file in part["file"]]
    model = keras.saving.load_model(folders.model(1), compile=False)
    np.testing.assert_allclose(model(tiny.x[rows]), part.filter(like="p_"), atol=1e-5)
    last = runs.predictions.read(run(tmp_path, tiny, **given).predictions)
    assert (table.filter(like="p_") - last.filter(like="p_")).abs().max().max() > 1e-3


def test_an_average_that_would_still_be_the_beginning_is_refused(tmp_path, tiny):
    # 24 clips in batches of 8, 4 times: 12 steps.
    with pytest.raises(ValueError, match="0.9 averages about 10 steps.* has 12 of"):
        run(tmp_path, tiny, weight_average=0.9, protocol="paper", folds=2)


def test_fresh_weights_follow_their_seed():
    def build():
        return build_model("timnet", (12, 5), 3, **OPTIONS)

    first, again, other = (fresh_weights(build, seed) for seed in (1, 1, 2))
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, same)
    assert any(
        np.abs(one - two).max() > 0 for one, two in zip(first, other, strict=True)
    )


def test_the_share_of_an_epoch_is_one_of_the_step_size():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 12, 5)).astype(np.float32)
    labels = np.eye(3, dtype=np.float32)[np.arange(8) % 3]
    found = {}
    for rate, share in ((0.04, 0.25), (0.01, 1.0), (0.04, 1.0)):
        recipe = Recipe(1, 4, rate, 0.9, 0.99, 1e-8, 0.0, fused=False)
        program = Program(
            lambda: build_model("timnet", (12, 5), 3, **OPTIONS), recipe, 3
        )
        program.reset(1)
        program.train_epoch(x, labels, np.arange(8), share)
        found[rate, share] = program.predict(x)[0]
    np.testing.assert_allclose(found[0.04, 0.25], found[0.01, 1.0], atol=1e-6)
    assert np.abs(found[0.04, 1.0] - found[0.01, 1.0]).max() > 1e-3


def test_a_cut_fold_waits_no_longer_for_a_better_epoch(tmp_path, monkeypatch):
    given = {"epochs": 60, "learning_rate": 0.05, "early_stopping": 3}
    hard = tiny_features(signal=0.1)
    calm = run(tmp_path / "calm", hard, fold_parallel="off", **given)
    best = document(calm)["folds"][0]["epoch_chosen"]
    monkeypatch.setattr(fold_module, "CHECKPOINT_SECONDS", 0.0)
    inside = fold_module.FoldTraining._epoch

    def cut(self, progress, *arguments):
        if progress.epoch == best + 2:
            raise KeyboardInterrupt
        return inside(self, progress, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(fold_module.FoldTraining, "_epoch", cut)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut", hard, fold_parallel="off", **given)
    again = run(tmp_path / "cut", hard, fold_parallel="off", **given)
    lengths = [
        [entry["epochs_run"] for entry in document(folders)["folds"]]
        for folders in (calm, again)
    ]
    assert lengths[0] == lengths[1] and lengths[0][0] == best + 3
    assert calm.predictions.read_bytes() == again.predictions.read_bytes()


def test_the_average_is_that_of_the_weights_of_all_steps():
    recipe = Recipe(1, 4, 0.05, 0.9, 0.99, 1e-8, 0.0, fused=False, weight_average=0.7)
    program = Program(lambda: build_model("timnet", (12, 5), 3, **OPTIONS), recipe, 3)
    program.reset(1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 12, 5)).astype(np.float32)
    labels = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    expected = None
    for _ in range(5):
        program.train_epoch(x, labels, np.arange(4))
        now = [w.numpy() for w in program.network.trainable_variables]
        if expected is None:
            expected = now  # the first step begins the average
        pairs = zip(expected, now, strict=True)
        expected = [0.7 * old + 0.3 * new for old, new in pairs]
    with program.averaged():
        found = [w.numpy() for w in program.network.trainable_variables]
    after = [w.numpy() for w in program.network.trainable_variables]
    for one, other, last, kept in zip(found, expected, now, after, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
        np.testing.assert_array_equal(last, kept)
    assert max(np.abs(a - b).max() for a, b in zip(found, now, strict=True)) > 1e-3
