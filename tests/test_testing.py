"""The right run is found, and what it saved is tested again."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from conftest import tiny_features
from references import plain_timnet, randomise, write_official_file
from sklearn.model_selection import KFold

from lib import config, runs, training
from lib.device import Device
from lib.runs import RunFolders

CPU = Device("cpu", "a processor", "not needed")


def parameters(workspace, **given):
    return config.validated({"workspace": str(workspace), "verbose": 0} | given)


def trained(workspace, data, finished, **given):
    """Train a very small run and date it; return its id."""
    small = {"epochs": 1, "folds": 3, "batch_size": 16}
    options = {"dilations": 1, "filters": 3}
    cfg = parameters(workspace, model_options=options, **small, **given)
    folders = training.train(
        training.resolve(cfg, data, {}),
        data,
        training.make_folds(cfg, data),
        cfg.folders,
        device=CPU,
        verbose=0,
    )
    document = json.loads(folders.manifest.read_text())
    folders.manifest.write_text(json.dumps(document | {"finished": finished}))
    return folders.run_id


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Return a workspace with three runs; its files must not be changed."""
    root, data = tmp_path_factory.mktemp("runs"), tiny_features()
    trained(root, data, "2026-01-01T00:00:03+00:00", protocol="paper")
    trained(root, data, "2026-01-01T00:00:02+00:00", protocol="speaker")
    trained(root, data, "2026-01-01T00:00:01+00:00", protocol="speaker", seed=47)
    return root


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "TINY-timnet-paper-s46"),
        ({"protocol": "speaker"}, "TINY-timnet-speaker-s46"),
        ({"seed": 47}, "TINY-timnet-speaker-s47"),
        ({"folds": 3}, "TINY-timnet-paper-s46"),
    ],
)
def test_the_newest_run_that_fits_is_found(workspace, tiny, given, found):
    cfg = parameters(workspace, corpus="TINY", **given)
    assert training.find_run(cfg, tiny, CPU).run_id.startswith(found)


def test_a_run_can_be_named(workspace, tiny):
    oldest = next(workspace.glob("Results/*-s47-*")).name
    cfg = parameters(workspace, corpus="TINY", run_id=oldest)
    assert training.find_run(cfg, tiny, CPU) == RunFolders(cfg.folders, oldest)


@pytest.mark.parametrize(
    "given", [{"protocol": "stratified"}, {"folds": 4}, {"seed": 48}]
)
def test_without_a_run_the_command_that_makes_it_is_named(workspace, tiny, given):
    cfg = parameters(workspace, corpus="TINY", **given)
    ((name, value),) = given.items()
    with pytest.raises(FileNotFoundError, match=f"02_train.*-p {name} {value}"):
        training.find_run(cfg, tiny, CPU)


def test_a_run_on_other_features_is_refused(workspace, tiny):
    cfg = parameters(workspace, run_id=next(workspace.glob("Results/*")).name)
    for name, value in (("corpus", "EMODB"), ("features", "lightsernet")):
        other = dataclasses.replace(tiny, about=tiny.about | {name: value})
        with pytest.raises(ValueError, match=f"trained on {name} .*'{value}'"):
            training.find_run(cfg, other, CPU)
    with pytest.raises(ValueError, match="has changed since"):
        training.find_run(cfg, tiny_features(seed=1), CPU)


# --- testing again -------------------------------------------------------------------


@pytest.fixture
def run(workspace, tmp_path):
    """Return a copy of a run, to be damaged."""
    copy = tmp_path / "copy"
    shutil.copytree(workspace, copy)
    run_id = next(copy.glob("Results/*-speaker-s46-*")).name
    return RunFolders(parameters(copy).folders, run_id)


def test_saved_networks_repeat_the_recorded_predictions(run, tiny):
    recorded = runs.predictions.read(run.predictions)
    again, embeddings = training.retest(run, tiny, verbose=0)
    assert again["file"].tolist() == recorded["file"].tolist()
    columns = recorded.filter(like="p_").columns
    np.testing.assert_allclose(again[columns], recorded[columns], atol=1e-6)
    with np.load(run.embeddings) as saved:
        np.testing.assert_allclose(embeddings, saved["z"], atol=1e-5)


def test_recorded_predictions_that_are_not_the_networks_are_seen(run, tiny):
    table = runs.predictions.read(run.predictions)
    honest = table["p_class_0"].to_numpy().copy()
    table["p_class_0"] += 0.5
    runs.predictions.write(run.predictions, table)
    again, _ = training.retest(run, tiny, verbose=0)
    np.testing.assert_allclose(again["p_class_0"], honest, atol=1e-6)


def test_weights_that_were_changed_or_lost_are_refused(run, tiny):
    shutil.copy(run.model(1), run.model(2))
    with pytest.raises(ValueError, match="fold_02.keras is not the file"):
        training.retest(run, tiny, verbose=0)
    run.model(1).unlink()
    with pytest.raises(FileNotFoundError, match="fold_01.keras is gone"):
        training.retest(run, tiny, verbose=0)


def test_other_features_are_refused(run):
    with pytest.raises(ValueError, match="has changed since"):
        training.retest(run, tiny_features(seed=1), verbose=0)


# --- official weights ----------------------------------------------------------------


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """Return a folder of three official weight files and their networks."""
    folder, networks = tmp_path_factory.mktemp("weights"), []
    for fold in (1, 2, 3):
        network = plain_timnet(20, 5, 3, blocks=2, filters=5)
        randomise(network, seed=fold)
        write_official_file(folder / f"3-fold_weights_best_{fold}.hdf5", network)
        networks.append(network)
    return folder, networks


def official_parameters(workspace, folder, **given):
    return parameters(workspace, weights_dir=str(folder), folds=3, **given)


def test_official_weights_are_tested_on_their_own_folds(tmp_path, tiny, official):
    folder, networks = official
    cfg = official_parameters(tmp_path, folder)
    folders = training.find_run(cfg, tiny, CPU)
    table = runs.predictions.read(folders.predictions)
    splitter = KFold(3, shuffle=True, random_state=46)
    for fold, (_, test) in enumerate(splitter.split(tiny.x), start=1):
        part = table[table["fold"] == fold]
        assert part["file"].tolist() == tiny.file[test].tolist()
        expected = networks[fold - 1].predict(tiny.x[test], verbose=0)
        np.testing.assert_allclose(part.filter(like="p_"), expected, atol=1e-5)
    again, _ = training.retest(folders, tiny, weights_dir=str(folder), verbose=0)
    np.testing.assert_allclose(
        again.filter(like="p_"), table.filter(like="p_"), atol=1e-6
    )


def test_a_test_of_official_weights_is_kept_and_made_again_for_other_audio(
    tmp_path, tiny, official
):
    cfg = official_parameters(tmp_path, official[0])
    folders = training.find_run(cfg, tiny, CPU)
    before = folders.manifest.stat().st_mtime_ns
    assert training.find_run(cfg, tiny, CPU) == folders
    assert folders.manifest.stat().st_mtime_ns == before
    other = tiny_features(seed=1)
    training.find_run(cfg, other, CPU)
    document = json.loads(folders.manifest.read_text())
    assert document["data"]["x_sha256"] == other.about["x_sha256"]


def test_official_weights_are_marked_as_no_honest_score(tmp_path, tiny, official):
    folders = training.find_run(official_parameters(tmp_path, official[0]), tiny, CPU)
    document = runs.manifest.read(folders.manifest)
    assert "epoch chosen on the test fold" in training.protocol_label(document)
    assert any("no honest one" in sentence for sentence in training.caveats(document))
    (row,) = runs.table.load_runs(folders.results.parent).to_dict("records")
    assert "epoch chosen on the test fold" in row["warning"]


def test_official_weights_need_their_folder_and_their_files(tmp_path, tiny, official):
    folder = tmp_path / "weights"
    shutil.copytree(official[0], folder)
    folders = training.find_run(official_parameters(tmp_path, folder), tiny, CPU)
    with pytest.raises(ValueError, match="set weights_dir"):
        training.retest(folders, tiny, verbose=0)
    one, two = (folder / f"3-fold_weights_best_{fold}.hdf5" for fold in (1, 2))
    shutil.copy(one, two)
    with pytest.raises(ValueError, match="best_2.hdf5 is not the file"):
        training.retest(folders, tiny, weights_dir=str(folder), verbose=0)
    two.unlink()
    with pytest.raises(FileNotFoundError, match="needed for each of 3 folds"):
        training.retest(folders, tiny, weights_dir=str(folder), verbose=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"protocol": "speaker"}, "trained on random folds"),
        ({"run_id": "TINY-timnet-paper-s46-00000000"}, "not both"),
        ({"weights_dir": "", "weights_format": "timnet_hdf5"}, "give the folder too"),
    ],
)
def test_parameters_that_contradict_each_other(
    tmp_path, tiny, official, given, message
):
    values = {"weights_dir": str(official[0]), "folds": 3} | given
    with pytest.raises(ValueError, match=message):
        training.find_run(parameters(tmp_path, **values), tiny, CPU)


# --- what a score is worth -----------------------------------------------------------


def document(train, test, *, protocol="speaker", chosen_on="validation", **given):
    fold = {
        "fold": 1,
        "chosen_on": chosen_on,
        "train": {"speakers": train},
        "test": {"speakers": test},
    }
    return {
        "kind": "trained",
        "synthetic": False,
        "config": {"protocol": protocol},
        "folds": [fold],
    } | given


def test_an_honest_run_has_no_caveats():
    assert training.caveats(document(["a", "b"], ["c"])) == []


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (document(["a", "b"], ["b"]), "In 1 of 1 folds"),
        (document(["a"], ["b"], chosen_on="test"), "chosen on the test fold"),
        (document(["a"], ["b"], synthetic=True), "generated"),
        (document([""], [""]), "not known"),
        (document(["a", ""], ["b"]), "not known"),
    ],
)
def test_what_spoils_a_score_is_said(given, word):
    (sentence,) = training.caveats(given)
    assert word in sentence


def test_titles_carry_the_warnings():
    assert training.protocol_label(document(["a"], ["b"])) == "unseen speakers"
    leaking = document(["a"], ["a"], protocol="paper_best", synthetic=True)
    label = training.protocol_label(leaking)
    for mark in ("speakers shared", "chosen on the test fold", "synthetic speech"):
        assert mark in label
