"""Runs are complete, repeatable, and survive being cut."""

import dataclasses
import errno
import json
import os
import shutil

import cuts
import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from conftest import elsewhere, small_plan, tiny_features
from conftest import small_run as run
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.preprocessing import StandardScaler
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from lib import compare, config, device, fold, losses, models, planning, runs, train
from lib.files import Workspace
from lib.models import baselines

QUICK = {"model": "majority"}
HARD = {"learning_rate": 0.05, "epochs": 12, "fold_parallel": "off"}


def document(folders):
    return json.loads(folders.manifest.read_text())


def curves(folders, number):
    return pd.read_csv(folders.curves(number)).drop(columns="seconds")


def logged(folders, number, name):
    """Return the steps and the values of a curve in TensorBoard."""
    events = EventAccumulator(str(folders.events(number)), {"tensors": 0}).Reload()
    found = events.Tensors(name)
    return [e.step for e in found], [make_ndarray(e.tensor_proto) for e in found]


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """Return the workspace of a run that nothing has disturbed."""
    workspace = tmp_path_factory.mktemp("calm")
    run(workspace, tiny_features())
    return workspace


@pytest.fixture
def copied(calm, tmp_path):
    """Return the folders of that run in a workspace of its own, not yet completed."""
    shutil.copytree(calm, tmp_path / "copied")
    folders = run(tmp_path / "copied", tiny_features())
    folders.manifest.write_text(json.dumps(document(folders) | {"status": "running"}))
    return folders


@pytest.fixture(scope="module")
def network():
    """Return a small compiled network with an EMA, and clips in batches of 8, 8, 3."""
    options = {"filters": 4, "blocks": 1, "dropout": 0.0}
    given = {"weight_average": 0.7, "epochs": 20, "model_options": options}
    plan, _ = small_plan("", tiny_features(), **given)
    return fold.Network(plan.settings, tiny_features()), tiny_features().x[:19]


def test_a_run_leaves_all_its_files(calm, tiny):
    folders = run(calm, tiny)
    manifest = document(folders)
    assert manifest["status"] == "done"
    assert folders.run_id.startswith("TINY-cnn-speaker-s46-")
    table = runs.read_predictions(folders.predictions)
    expected = "file speaker sex fold y_true y_pred p_class_0 p_class_1 p_class_2"
    assert list(table.columns) == expected.split()
    uar = recall_score(table["y_true"], table["y_pred"], average="macro")
    assert manifest["metrics"]["pooled"]["uar"] == pytest.approx(uar)
    with np.load(folders.embeddings) as embeddings:
        assert embeddings["file"].tolist() == table["file"].tolist()
        assert len(embeddings["z"]) == 48
    for number in (1, 2, 3):
        rows = curves(folders, number)
        assert rows["epoch"].tolist() == [1, 2, 3, 4]
        _, values = logged(folders, number, "uar/validation")
        np.testing.assert_allclose(values, rows["val_uar"], atol=1e-6)
    model = models.load(folders.model(3))
    assert manifest["parameters"] == models.trainable_parameters(model)
    kept = {item["path"] for item in manifest["artefacts"]}
    assert f"Models/{folders.run_id}/fold_03.keras" in kept


def test_patience_ends_a_fold_and_its_best_epoch_is_the_saved_one(tmp_path):
    given = HARD | {"weight_average": 0.8, "epochs": 40, "early_stopping": 3}
    hard, lengths = tiny_features(signal=0.1), []
    plan, _ = small_plan(tmp_path, hard, **given)
    folders = run(tmp_path, hard, **given)
    for part, entry in zip(plan.folds, document(folders)["folds"], strict=True):
        found, best = curves(folders, part.number)["val_loss"], entry["epoch_chosen"]
        lengths.append(len(found))
        assert entry["epochs_run"] == len(found) and len(found) in (40, best + 3)
        model = keras.saving.load_model(folders.model(part.number), compile=False)
        rows = part.validation
        answers = np.asarray(model(hard.x[rows]))[np.arange(len(rows)), hard.y[rows]]
        assert -np.log(answers).mean() == pytest.approx(found[best - 1], 1e-3)
    assert len(set(lengths)) > 1


def test_paper_tests_the_last_epoch_and_never_looks_at_the_test_fold(tmp_path, tiny):
    folders = run(tmp_path / "a", tiny, protocol="paper")
    assert "val_loss" not in curves(folders, 1)
    assert [entry["epoch_chosen"] for entry in document(folders)["folds"]] == [4] * 3
    # Other test clips: training must not notice.
    other, (plan, _) = tiny_features(), small_plan(tmp_path, tiny, protocol="paper")
    other.x[plan.folds[0].test] += 5.0
    changed = run(tmp_path / "b", other, protocol="paper")
    pd.testing.assert_frame_equal(curves(folders, 1), curves(changed, 1))


def test_one_training_is_paper_best_and_paper(tmp_path, tiny, monkeypatch):
    apart = run(tmp_path / "apart", tiny, protocol="paper")
    save = fold.FoldTraining.save

    def cut(self, state):
        save(self, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # what a cut has left is not counted twice
        patch.setattr(fold, "CHECKPOINT_SECONDS", 0.0)
        patch.setattr(fold.FoldTraining, "save", cut)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "both", tiny, protocol="paper")
    best = run(tmp_path / "both", tiny, protocol="paper_best")
    # Not where the test fold decides the step size.
    given = {"schedule": "plateau", "schedule_options": {"patience": 1}}
    run(tmp_path / "other", tiny, protocol="paper_best", **given)
    assert len([*tmp_path.glob("other/Models/*")]) == 1
    monkeypatch.setattr(fold.Network, "train_epoch", None)  # nothing is trained again
    last = run(tmp_path / "both", tiny, protocol="paper")
    assert last.run_id == apart.run_id != best.run_id
    assert last.predictions.read_bytes() == apart.predictions.read_bytes()
    for number in (1, 2, 3):
        pd.testing.assert_frame_equal(curves(last, number), curves(apart, number))


def test_refit_trains_on_all_but_the_test_for_the_chosen_epochs(tmp_path):
    given, hard = HARD | {"epochs": 6, "seed": 5}, tiny_features(signal=0.1)
    refit = run(tmp_path, hard, validation="refit", **given)
    chosen = run(tmp_path, hard, **given)
    assert len(document(chosen)["attempts"]) == 1
    pairs = zip(document(refit)["folds"], document(chosen)["folds"], strict=True)
    for entry, before in pairs:
        assert entry["epoch_chosen"] == before["epoch_chosen"] == entry["epochs_run"]
        assert entry["train"]["n"] == before["train"]["n"] + before["validation"]["n"]
    assert min(entry["epochs_run"] for entry in document(refit)["folds"]) < 6
    fixed = run(tmp_path, hard, validation="none", **given)
    for entry in document(refit)["folds"]:  # the same, as far as it goes
        both = [curves(one, entry["fold"]) for one in (refit, fixed)]
        pd.testing.assert_frame_equal(both[0], both[1].head(entry["epochs_run"]))


def test_normalisation_takes_its_statistics_from_the_training_rows(tmp_path, tiny):
    given = {"normalisation": "train", "validation": "none"}
    plan, _ = small_plan(tmp_path, tiny, **given)
    folders = run(tmp_path, tiny, **given)
    for part in plan.folds:
        assert not {*part.train} & {*part.test}
        layer = models.load(folders.model(part.number)).get_layer("normalisation")
        frames = np.concatenate([tiny.x[row] for row in part.train]).astype(float)
        for found, wanted in zip(
            layer.get_weights(), (frames.mean(0), frames.std(0) ** 2), strict=True
        ):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_balanced_weights_of_a_baseline_are_those_of_scikit_learn(tmp_path):
    uneven = tiny_features()
    keep = np.flatnonzero((uneven.y > 0) | (np.arange(len(uneven)) % 3 == 0))
    columns = {n: getattr(uneven, n)[keep] for n in "x y file speaker sex text".split()}
    uneven = dataclasses.replace(uneven, **columns)
    given = {"model": "logistic", "class_weights": "balanced", "protocol": "paper"}
    plan, _ = small_plan(tmp_path, uneven, **given)
    table = runs.read_predictions(run(tmp_path, uneven, **given).predictions)
    part = plan.folds[0]
    counts = np.bincount(uneven.y[part.train])
    share = len(part.train) / (3 * counts)
    rows = StandardScaler().fit(x := baselines.clip_statistics(uneven.x[part.train]))
    own = LogisticRegression(C=0.1, max_iter=5000)
    own.fit(rows.transform(x), uneven.y[part.train], share[uneven.y[part.train]])
    tested = rows.transform(baselines.clip_statistics(uneven.x[part.test]))
    found = table[table["fold"] == 1].filter(like="p_").to_numpy()
    np.testing.assert_allclose(found, own.predict_proba(tested), atol=1e-3)


def test_lost_and_damaged_files_of_a_fold_are_made_again(copied, tiny):
    """By the same seed, so that the predictions are the same."""
    before = copied.predictions.read_bytes()
    copied.model(2).unlink()
    copied.outcome(3).write_bytes(b"half")
    copied.checkpoint(3).write_bytes(copied.outcome(1).read_bytes()[:500])
    first = copied.model(1).stat().st_mtime_ns
    run(copied.workspace.root, tiny)
    assert copied.predictions.read_bytes() == before
    assert copied.model(1).stat().st_mtime_ns == first


def test_a_finished_run_is_not_touched_by_anybody(tmp_path, tiny):
    folders = run(tmp_path, tiny, **QUICK)
    (folders.results / "more").mkdir()
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("fold_*")}
    run(tmp_path, tiny, **QUICK)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    with runs.only_one(folders), pytest.raises(RuntimeError, match="another process"):
        run(tmp_path, tiny, overwrite=True, **QUICK)
    run(tmp_path, tiny, overwrite=True, **QUICK)
    assert folders.model(1).stat().st_mtime_ns != stamps[folders.model(1)]
    assert not (folders.results / "more").exists()


def test_a_failure_is_recorded_with_where_it_happened(tmp_path):
    broken = tiny_features()
    broken.x[:] = np.nan
    with pytest.raises(FloatingPointError, match="loss is nan; lower learning_rate"):
        run(tmp_path, broken, fold_parallel="off")
    (path,) = tmp_path.glob("Results/*/run.json")
    manifest = json.loads(path.read_text())
    assert manifest["status"] == "failed" and "loss is nan" in manifest["error"]
    assert "train_folds" in manifest["traceback"]


@pytest.mark.slow
def test_a_run_that_is_killed_ends_bit_by_bit_as_an_undisturbed_one(tmp_path):
    calm, folder = run(tmp_path, cuts.DATA, **cuts.GIVEN), tmp_path / "killed"
    # As a rule in front of a checkpoint, an outcome, and one after the best.
    elsewhere("tests/cuts.py", folder, 4, 18, 24)
    killed = runs.RunFolders(Workspace(folder), calm.run_id)
    assert calm.predictions.read_bytes() == killed.predictions.read_bytes()
    for number in (1, 2, 3):
        pd.testing.assert_frame_equal(curves(calm, number), curves(killed, number))
        steps, _ = logged(killed, number, "uar/train")
        assert steps == curves(calm, number)["epoch"].tolist()
    attempts = [entry["attempt"] for entry in document(killed)["folds"]]
    assert attempts[0] > 1 and attempts[2] == 4
    assert not [*folder.rglob(".partial-*"), *folder.rglob("*.checkpoint.npz")]


@pytest.mark.parametrize("file", ["outcome", "checkpoint", "manifest", "backend"])
def test_files_of_another_run_are_refused(tmp_path, copied, tiny, file):
    """Files of a run under another seed are put into this run's folders."""
    if file == "backend":
        with np.load(copied.outcome(1)) as content:
            arrays = dict(content)
        told = str(arrays["rest"]).replace(f" {keras.backend.backend()} ", " other ")
        np.savez(copied.outcome(1), **arrays | {"rest": np.array(told)})
    elif file == "manifest":
        known = document(copied)
        known["config"]["data_sha256"] = "other"
        copied.manifest.write_text(json.dumps(known))
    else:
        other = run(tmp_path / "other", tiny, seed=5, epochs=1)
        copied.outcome(1).unlink()
        shutil.copy(other.outcome(1), getattr(copied, file)(1))
    message = "(settings or data differ|another run, backend or rows).*overwrite=True"
    with pytest.raises(ValueError, match=message):
        run(copied.workspace.root, tiny)


def test_an_epoch_is_that_of_keras_fit_and_the_ema_that_of_all_its_steps(network):
    """The last batch is smaller: 8, 8 and 3 clips."""
    network, x = network
    labels = losses.smoothed_labels(np.arange(19) % 3, 3, 0.1)
    network.assign([network.draw(1, 1, x)])
    share = np.array([0.5, 1.0, 3.0], np.float32)[np.arange(19) % 3]
    twin = keras.models.clone_model(network.model)
    twin.set_weights(network.model.get_weights())
    adam = keras.optimizers.Adam(1e-3, 0.93, 0.98, 1e-8)
    twin.compile(adam, "categorical_crossentropy")
    averages = None
    for epoch in range(2):
        order = np.random.default_rng(epoch).permutation(19)
        ((loss, _),) = network.train_epoch(x, labels, [order], [1e-3], [share])
        total = 0.0
        for start in (0, 8, 16):
            rows = order[start : start + 8]
            counted = x[rows], labels[rows], share[rows]
            total += float(twin.train_on_batch(*counted)) * len(rows)
            now = [weight.numpy() for weight in twin.trainable_variables]
            old = averages or now  # the first step begins the average
            averages = [0.7 * a + 0.3 * b for a, b in zip(old, now, strict=True)]
        assert loss == pytest.approx(total / 19, abs=1e-5)
    for ours, theirs in zip(network.model.weights, twin.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    state = network.state()
    network.assign([state], average=True)
    for ours, average in zip(network.variables, averages, strict=False):
        np.testing.assert_allclose(ours, average, atol=1e-5)
    assert np.abs(averages[0] - state[0]).max() > 1e-4
    # Answers are by the average; the raw weights are what training goes on with.
    averaged = np.asarray(network.model(x))
    network.assign([state])
    (answers,) = network.answer(x, [np.arange(19)])
    np.testing.assert_allclose(answers, averaged, atol=1e-6)
    np.testing.assert_array_equal(network.state()[0], state[0])


def test_what_trains_follows_schedule_seed_fold_and_epoch_and_has_its_copies(
    tmp_path, tiny, monkeypatch
):
    seen = []

    def watched(self, clips, labels, orders, rates, weights):
        seen.append((clips, labels, orders[0], rates[0], self.state()[0].tobytes()))
        return [(1.0, np.full((len(orders[0]), 3), 1 / 3))]

    monkeypatch.setattr(fold.Network, "train_epoch", watched)
    half = {"factor": 0.5, "start": 2, "every": 1}
    given = {"schedule": "step", "schedule_options": half, "folds": 2}
    for place, seed in zip("abc", (1, 1, 2), strict=True):
        plan, params = small_plan(tmp_path / place, tiny, epochs=3, seed=seed, **given)
        plans = [plan._replace(copies=np.repeat(tiny.x[:, None] + 100, 2, axis=1))]
        train.train(plans, tiny, params.folders, device=device.select("cpu"), verbose=0)
    assert not tf.config.experimental.tensor_float_32_execution_enabled()
    assert tf.config.optimizer.get_experimental_options()["disable_meta_optimizer"]
    orders, drawn = [tuple(one[2]) for one in seen], [one[4] for one in seen]
    assert orders[:6] == orders[6:12] and len(set(orders)) == 12
    assert drawn[:6] == drawn[6:12] and len(set(drawn)) == 4  # one a seed and fold
    assert [one[3] for one in seen] == pytest.approx([1e-3, 5e-4, 2.5e-4] * 6)
    for place, (clips, labels, order, *_) in enumerate(seen[-6:]):
        rows = plan.folds[place // 3].train
        trained = clips[np.sort(order)]
        np.testing.assert_array_equal(trained[: len(rows)], tiny.x[rows])
        np.testing.assert_array_equal(trained[len(rows) :: 2], tiny.x[rows] + 100)
        wanted = tiny.y[np.concatenate([rows, np.repeat(rows, 2)])]
        assert labels[np.sort(order)].argmax(axis=1).tolist() == wanted.tolist()
        assert labels.max() == pytest.approx(0.9 + 0.1 / 3)


FEW_STEPS = {"weight_average": 0.9, "protocol": "paper", "folds": 2, "batch_size": 8}
CEPSTRUM = {"augmentation": "cepstrum"}


def test_a_parameter_that_would_change_nothing_is_refused(tiny):
    for given, message in (
        ({"model": "svm", "epochs": 3}, "svm .* no use for epochs"),
        ({"model": "svm"} | CEPSTRUM, "no use for augmentation"),
        ({"model": "svm", "model_options": {"kernel_size": 3}}, "no option 'kernel"),
        ({"model_options": {"dilation": 3}}, "model_options.*'dilation'.*'dilations'"),
        ({"protocol": "paper", "early_stopping": 3}, "no validation to stop on"),
        ({"epochs": 9, "early_stopping": 9}, "can never stop anything"),
        ({"epochs": 20, "schedule": "step"}, "changes nothing in 20 epochs"),
        ({"schedule": "plateau", "validation": "refit"}, "and 'refit' has none"),
        # 24 clips in batches of 8, 4 times.
        (FEW_STEPS | {"epochs": 4}, "0.9 averages 10 steps.* are 12 in all"),
        ({"augmentation_options": {"transforms": ["noise"]}}, "has no option"),
        (CEPSTRUM | {"augmentation_options": {"transforms": "noise"}}, "as a Sequence"),
        (CEPSTRUM | {"augmentation_options": {"transforms": ["nois"]}}, "mean 'noise'"),
        (CEPSTRUM | {"augmentation_options": {"probability": 0}}, "greater than 0"),
    ):
        with pytest.raises(ValueError, match=message):
            planning.make_plan(config.validated(given), tiny)


def test_a_gpu_that_computes_wrongly_is_refused(monkeypatch):
    from tensorflow import config as of_tensorflow

    details, chip = {"device_name": "a chip"}, device.Device("gpu", "", "")
    gpu = of_tensorflow, "get_visible_devices", lambda kind: [chip]
    named = of_tensorflow.experimental, "get_device_details", lambda gpu: details
    for place in (gpu, named, (device, "self_check", lambda: 0.5)):
        monkeypatch.setattr(*place)
    for wanted in ("auto", "gpu"):
        fault = f"'{wanted}': a chip differs .* 5.0e-01, too much; restart"
        with pytest.raises(RuntimeError, match=fault):
            device.select(wanted)


def test_the_settings_are_the_official_ones_and_all_are_compared(tiny):
    """With published runs, whose features, model and options are compared apart."""
    settings = planning.make_plan(config.validated({"corpus": "EMODB"}), tiny).settings
    apart = "corpus features feature_settings clip_samples model model_options"
    apart = {*apart.split(), "data_sha256", "folds_sha256", "fold_file"}
    assert set(compare.COMPARED) == set(settings) - apart
    official = {"epochs": 500, "batch_size": 64, "learning_rate": 1e-3}
    official |= {"beta_1": 0.93, "beta_2": 0.98, "label_smoothing": 0.1}
    assert official.items() <= settings.items()
    # A cosine ends with the training, unless told otherwise.
    for options, end in (({}, 60), ({"epochs": 9}, 9)):
        given = {"epochs": 60, "schedule": "cosine", "schedule_options": options}
        made = planning.make_plan(config.validated(given), tiny).settings
        assert made["schedule_options"]["epochs"] == end
    classical = planning.make_plan(config.validated(QUICK), tiny).settings
    assert {classical[name] for name in config.TRAINING} == {None}


def test_seeds_end_as_each_alone_also_after_a_full_disk(tmp_path, tiny, monkeypatch):
    pairs = [small_plan(tmp_path / "both", tiny, seed=seed) for seed in (3, 4)]
    plans, params = zip(*pairs, strict=True)
    copy = shutil.copyfile

    def full(source, target):
        if "-s4-" in str(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copy(source, target)

    given = {"device": device.select("cpu"), "verbose": 0}
    slower, _ = small_plan(tmp_path / "both", tiny, seed=5, learning_rate=0.5)
    for wrong, told in ((plans[0], r"seeds \[3, 3\]"), (slower, "in .'learning_rate'")):
        with pytest.raises(ValueError, match=told):
            train.train([plans[0], wrong], tiny, params[0].folders, **given)
    assert not (tmp_path / "both").exists()
    with monkeypatch.context() as patch:
        patch.setattr("lib.fold.shutil.copyfile", full)
        with pytest.raises(OSError, match=r"fold_01.*No space left.*free some"):
            train.train(plans, tiny, params[0].folders, **given)
    paths = tmp_path.glob("both/Results/*/run.json")
    found = [json.loads(path.read_text()) for path in paths]
    states = {item["config"]["seed"]: item["status"] for item in found}
    assert states == {3: "done", 4: "failed"}
    made = train.train(plans, tiny, params[0].folders, **given)
    alone = run(tmp_path / "alone", tiny, seed=4)
    assert alone.run_id == made[1].run_id
    assert alone.predictions.read_bytes() == made[1].predictions.read_bytes()
    assert document(made[1])["traceback"] is None


@pytest.mark.slow
def test_folds_in_processes_end_as_one_after_the_other(calm, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "LEAST_STEPS", 0)
    monkeypatch.setattr(train.joblib, "cpu_count", lambda: 2)
    beside = run(tmp_path / "beside", tiny_features())
    made = [beside, run(calm, tiny_features())]
    one, other = (runs.read_predictions(folders.predictions) for folders in made)
    pd.testing.assert_frame_equal(one, other, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_folds_and_seeds_are_one_program_on_jax_which_answers_recordings_too():
    recording = "test_inference.py::test_a_recording_is_answered_as_in_a_batch[cpac]"
    line = ["-m", "pytest", "-q", "tests/on_jax.py", f"tests/{recording}"]
    said = elsewhere(*line, KERAS_BACKEND="jax")
    assert "RuntimeWarning" not in said, said[-3000:]


def test_processes_are_for_long_runs_on_tensorflows_cpu(monkeypatch):
    cpu, gpu = (device.Device(name, "", "") for name in ("cpu", "gpu"))
    monkeypatch.setattr(train.joblib, "cpu_count", lambda: 4)
    settings, sizes = {"epochs": 500, "batch_size": 64}, [480] * 10
    assert train.processes(settings, cpu, sizes) == 4
    assert train.processes(settings, gpu, sizes) == 1
    assert train.processes(settings | {"epochs": 1}, cpu, sizes) == 1
    monkeypatch.setattr(train.keras.backend, "backend", lambda: "jax")
    assert train.processes(settings, cpu, sizes) == 1


def test_plain_lines_tell_epochs_and_folds(tmp_path, tiny, capsys, monkeypatch):
    monkeypatch.setattr(train, "LINE_EVERY", 1)
    run(tmp_path, tiny, verbose=2, **QUICK)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert "fold 1  epoch 1  loss" in lines[0] and "tested" in lines[1]
