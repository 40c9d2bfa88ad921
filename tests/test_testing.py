"""The right run is found, and what it saved is tested again."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import tiny_features
from references import plain_timnet, randomise, write_official_file
from sklearn.model_selection import KFold

from lib import config, features, overview, runs, spaces, test, train
from lib.device import Device
from lib.features import array_hash
from lib.runs import RunFolders

CPU = Device("cpu", "a processor", "not needed")


def parameters(workspace, **given):
    return config.validated({"workspace": str(workspace), "verbose": 0} | given)


def trained(workspace, data, finished, **given):
    """Train a very small run and date it; return its id."""
    small = {"epochs": 1, "folds": 3, "batch_size": 16}
    options = {"dilations": 1, "filters": 3} | given.pop("model_options", {})
    params = parameters(workspace, model_options=options, **small, **given)
    folders = train.train(
        train.resolve(params, data),
        data,
        train.make_folds(params, data),
        params.folders,
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
    trained(
        root,
        data,
        "2026-01-01T00:00:01+00:00",
        protocol="speaker",
        seed=47,
        model_options={"dropout": 0.5},
    )
    return root


def choose(workspace, **given):
    """Return the id of the run that parameters speak of, and what is said of it."""
    folders, sentence = test.find_run(parameters(workspace, **given))
    return folders.run_id, sentence


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "TINY-timnet-paper-s46"),
        ({"protocol": "speaker"}, "TINY-timnet-speaker-s46"),
        ({"seed": 47}, "TINY-timnet-speaker-s47"),
        ({"seed": 46, "protocol": "speaker"}, "TINY-timnet-speaker-s46"),
        ({"folds": 3, "features": "timnet"}, "TINY-timnet-paper-s46"),
        ({"seed": 46}, "TINY-timnet-paper-s46"),  # also where it is the default
        ({"model_options": {"dilations": 1, "dropout": 0.5}}, "TINY-timnet-speaker-s4"),
    ],
)
def test_given_parameters_select_and_others_mean_any(workspace, given, found):
    run_id, sentence = choose(workspace, corpus="TINY", **given)
    assert run_id.startswith(found) and run_id in sentence
    if "model_options" in given:
        assert "only finished run" in sentence


def test_what_was_left_open_is_said(workspace):
    _, sentence = choose(workspace, corpus="TINY")
    for word in ("newest of 3", "seed (46, 47)", "protocol (paper, speaker)"):
        assert word in sentence
    assert "folds" not in sentence  # all three have three


@pytest.mark.parametrize(
    "given",
    [
        {"protocol": "stratified"},
        {"folds": 0},  # the protocol's own number
        {"folds": 4},
        {"seed": 48},
        {"model": "svm"},
        {"epochs": 7},
        {"model_options": {"dropout": 0.25}},
        {"features": "lightsernet"},
        {"feature_options": {"power": 1}},
        {"augmentation": "cepstrum"},
    ],
)
def test_without_such_a_run_there_is_an_error_that_says_how_to_make_it(
    workspace, given
):
    ((name, value),) = given.items()
    with pytest.raises(FileNotFoundError) as error:
        choose(workspace, corpus="TINY", **given)
    message = str(error.value)
    assert f"{name} {value}" in message.splitlines()[0]
    assert "there is TINY-timnet-" in message
    assert "02_train" in message and name in message.splitlines()[-1]


def test_what_02_would_refuse_is_not_looked_for(workspace):
    with pytest.raises(ValueError, match="svm .* no use for epochs"):
        choose(workspace, corpus="TINY", model="svm", epochs=7)


def test_defaults_of_a_system_without_epochs_fit(tmp_path):
    """02 takes `-p model majority -p epochs 0`, so 03 finds that run."""
    data = tiny_features()
    params = parameters(tmp_path, model="majority", folds=3, epochs=0)
    plan = train.Plan(train.resolve(params, data), train.make_folds(params, data))
    train.train_seeds([plan], data, params.folders, device=CPU, verbose=0)
    given = {"corpus": "TINY", "model": "majority", "epochs": 0, "learning_rate": 1e-3}
    assert choose(tmp_path, **given)[0].startswith("TINY-majority")
    with pytest.raises(FileNotFoundError, match="epochs None"):
        choose(tmp_path, corpus="TINY", epochs=3)


def test_a_copied_folder_is_not_taken_for_a_run(run):
    copy = run.results.with_name(run.run_id + "-copy")
    shutil.copytree(run.results, copy)
    root = run.workspace.root
    assert choose(root, corpus="TINY", protocol="speaker", seed=46)[0] == run.run_id


def test_a_run_can_be_named_and_must_be_what_else_is_asked_for(workspace):
    oldest = next(workspace.glob("Results/*-s47-*")).name
    assert choose(workspace, run_id=oldest)[0] == oldest
    with pytest.raises(ValueError, match="seed 47.*leave run_id empty"):
        choose(workspace, run_id=oldest, seed=46)
    with pytest.raises(ValueError, match="did you mean"):
        choose(workspace, run_id=oldest[:-1])


def test_a_run_on_other_data_is_refused(workspace, tiny):
    folders, _ = test.find_run(parameters(workspace, corpus="TINY"))
    document = runs.read_manifest(folders.manifest)
    for name, value in (("corpus", "EMODB"), ("features", "lightsernet")):
        other = dataclasses.replace(tiny, about=tiny.about | {name: value})
        with pytest.raises(ValueError, match=f"on {name} '.*not on '{value}'"):
            test.require_data(document, other)
    with pytest.raises(ValueError, match="other recordings, labels or speakers"):
        test.require_data(document, tiny_features(seed=1))
    # Another processor rounds differently; the run is the same.
    x = np.nextafter(tiny.x, np.float32(9))
    about = tiny.about | {"x_sha256": array_hash(x)}
    test.require_data(document, dataclasses.replace(tiny, x=x, about=about))


# --- testing again -------------------------------------------------------------------


@pytest.fixture
def run(workspace, tmp_path):
    """Return a copy of a run, to be damaged."""
    copy = tmp_path / "copy"
    shutil.copytree(workspace, copy)
    run_id = next(copy.glob("Results/*-speaker-s46-*")).name
    return RunFolders(parameters(copy).folders, run_id)


def test_saved_networks_repeat_the_recorded_predictions(run, tiny):
    recorded = runs.read_predictions(run.predictions)
    again, embeddings = test.retest(run, tiny, verbose=0)
    assert again["file"].tolist() == recorded["file"].tolist()
    columns = recorded.filter(like="p_").columns
    np.testing.assert_allclose(again[columns], recorded[columns], atol=1e-6)
    with np.load(run.embeddings) as saved:
        np.testing.assert_allclose(embeddings, saved["z"], atol=1e-5)


def test_files_that_were_changed_after_the_run_are_refused(run, tiny):
    honest = run.predictions.read_bytes()
    run.predictions.write_bytes(honest.replace(b"s1", b"s2"))
    for use in (
        lambda: test.retest(run, tiny, verbose=0),
        lambda: spaces.held_out(run),
    ):
        with pytest.raises(ValueError, match="predictions.csv was changed after"):
            use()
    run.predictions.write_bytes(honest)
    run.embeddings.write_bytes(run.embeddings.read_bytes() + b" ")
    with pytest.raises(ValueError, match="embeddings.npz was changed after"):
        spaces.held_out(run)


def test_weights_that_were_changed_or_lost_are_refused(run, tiny):
    shutil.copy(run.model(1), run.model(2))
    with pytest.raises(ValueError, match="fold_02.keras is not the file"):
        test.retest(run, tiny, verbose=0)
    run.model(1).unlink()
    with pytest.raises(FileNotFoundError, match="fold_01.keras is gone"):
        test.retest(run, tiny, verbose=0)


def test_predictions_of_other_labels_speakers_or_rows_are_refused(run, tiny):
    honest = runs.read_predictions(run.predictions)
    # Without its manifest's hash, a table is held against the data themselves.
    document = json.loads(run.manifest.read_text())
    run.manifest.write_text(json.dumps(document | {"artefacts": []}))
    for name, table in (
        ("labels", honest.assign(y_true=np.roll(honest["y_true"], 1))),
        ("speakers", honest.assign(speaker=np.roll(honest["speaker"], 1))),
        ("files", honest.assign(file=honest["file"] + "x")),
        ("twice", pd.concat([honest, honest.iloc[:1]])),
    ):
        runs.write_predictions(run.predictions, table)
        with pytest.raises(ValueError, match=name):
            test.retest(run, tiny, verbose=0)


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


def official_run(params, data):
    folds = train.make_folds(params, data)
    return test.official_run(params, data, folds, device=CPU)


def official_parameters(workspace, folder, **given):
    return parameters(workspace, weights_dir=str(folder), folds=3, **given)


def test_official_weights_are_tested_on_their_own_folds(tmp_path, tiny, official):
    folder, networks = official
    params = official_parameters(tmp_path, folder)
    folders = official_run(params, tiny)
    table = runs.read_predictions(folders.predictions)
    splitter = KFold(3, shuffle=True, random_state=46)
    for fold, (_, tested) in enumerate(splitter.split(tiny.x), start=1):
        part = table[table["fold"] == fold]
        assert part["file"].tolist() == tiny.file[tested].tolist()
        expected = networks[fold - 1].predict(tiny.x[tested], verbose=0)
        np.testing.assert_allclose(part.filter(like="p_"), expected, atol=1e-5)
    again, _ = test.retest(folders, tiny, weights_dir=str(folder), verbose=0)
    np.testing.assert_allclose(
        again.filter(like="p_"), table.filter(like="p_"), atol=1e-6
    )


def test_a_test_of_official_weights_is_kept_and_marked_as_no_honest_score(
    tmp_path, tiny, official
):
    params = official_parameters(tmp_path, official[0])
    folders = official_run(params, tiny)
    before = folders.manifest.stat().st_mtime_ns
    assert official_run(params, tiny).run_id == folders.run_id
    assert folders.manifest.stat().st_mtime_ns == before
    (row,) = overview.load_runs(folders.results.parent).to_dict("records")
    assert "epoch chosen on the test fold" in row["warning"]
    assert official_run(params, tiny_features(seed=1)).run_id != folders.run_id


def test_official_weights_need_their_folder_and_their_files(tmp_path, tiny, official):
    folder = tmp_path / "weights"
    shutil.copytree(official[0], folder)
    folders = official_run(official_parameters(tmp_path, folder), tiny)
    with pytest.raises(ValueError, match="set weights_dir"):
        test.retest(folders, tiny, verbose=0)
    one, two = (folder / f"3-fold_weights_best_{fold}.hdf5" for fold in (1, 2))
    shutil.copy(one, two)
    with pytest.raises(ValueError, match="best_2.hdf5 is not the file"):
        test.retest(folders, tiny, weights_dir=str(folder), verbose=0)
    two.unlink()
    with pytest.raises(FileNotFoundError, match="needed for each of 3 folds"):
        test.retest(folders, tiny, weights_dir=str(folder), verbose=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"protocol": "speaker"}, "trained on random folds"),
        ({"run_id": "TINY-timnet-paper-s46-00000000"}, "not both"),
        ({"weights_dir": "", "overwrite": True}, "02_train makes a run anew"),
        ({"weights_dir": "", "weights_format": "timnet_hdf5"}, "give the folder too"),
        ({"model": "cnn"}, "leave out model 'cnn'"),
        ({"epochs": 3, "learning_rate": 0.1}, "leave out epochs, learning_rate"),
    ],
)
def test_parameters_that_contradict_each_other(
    tmp_path, tiny, official, given, message, monkeypatch
):
    monkeypatch.setattr(features, "obtain", lambda params: (None, tiny))
    values = {"weights_dir": str(official[0]), "folds": 3} | given
    with pytest.raises(ValueError, match=message):
        test.open_run(parameters(tmp_path, **values), CPU)
