"""The right run is found, and what it saved is tested again."""

import dataclasses
import json
import math
import re
import shutil

import numpy as np
import pytest
from conftest import CPU, parameters, small_run, tiny_features
from references import plain_timnet, randomise, write_official_file
from sklearn.model_selection import KFold

from lib import features, runs, test
from lib.files import array_hash
from lib.runs import RunFolders


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Return a workspace with three runs; its files must not be changed."""
    root, options = tmp_path_factory.mktemp("runs"), {"dilations": 1, "filters": 3}
    small = {"model": "timnet", "epochs": 1, "batch_size": 16, "model_options": options}
    others = {"seed": 47, "model_options": options | {"dropout": 0.5}}
    for day, protocol, own in ((3, "paper", {}), (2, "speaker", {}), (1, "", others)):
        given = small | own | {"protocol": protocol}
        folders = small_run(root, tiny_features(), **given)
        document = runs.read_manifest(folders.manifest)
        document["finished"] = f"2026-01-0{day}T00:00:00+00:00"
        folders.manifest.write_text(json.dumps(document))
    return root


def choose(workspace, **given):
    """Return the id of the run that parameters speak of, and what is said of it."""
    folders, sentence = test.find_run(parameters(workspace, **given))
    return folders.run_id, sentence


def test_given_parameters_select_and_others_mean_any(workspace):
    for given, found in (
        ({}, "TINY-timnet-speaker-s46"),  # the protocol where none is given
        ({"protocol": "paper"}, "TINY-timnet-paper-s46"),  # newer
        ({"seed": 47}, "TINY-timnet-speaker-s47"),
        ({"folds": 3, "features": "timnet"}, "TINY-timnet-speaker-s46"),
        ({"model_options": {"dropout": 0.5}}, "TINY-timnet-speaker-s47"),
    ):
        run_id, sentence = choose(workspace, corpus="TINY", **given)
        assert run_id.startswith(found) and run_id in sentence
        assert choose(workspace, run_id=run_id)[0] == run_id
        said = "runs that fit: 3; left open: model_options, protocol, seed"
        assert given or sentence.endswith(said)  # all three have three folds


def test_without_such_a_run_an_error_says_how_to_make_it(workspace):
    for given in (
        {"protocol": "stratified"},
        {"folds": 0},  # the protocol's own number
        {"seed": 48},
        {"model": "svm"},
        {"epochs": 7},
        {"model_options": {"dropout": 0.25}},
        {"features": "lightsernet"},
        {"feature_options": {"power": 1}},
    ):
        ((name, value),) = given.items()
        message = rf"(?s){re.escape(f'{name} {value}')}.*there is TINY-timnet-"
        with pytest.raises(FileNotFoundError, match=message):
            choose(workspace, corpus="TINY", **given)


def test_a_run_can_be_named_and_must_be_what_else_is_asked_for(workspace):
    oldest = next(workspace.glob("Results/*-s47-*")).name
    with pytest.raises(FileNotFoundError, match="(?s)run_id .*there is .*seed 47"):
        choose(workspace, run_id=oldest, seed=46)
    with pytest.raises(FileNotFoundError, match="did you mean"):
        choose(workspace, run_id=oldest[:-1])


def test_the_number_of_listed_folds_is_that_of_the_file(tmp_path, tiny):
    lines = "".join(f"{name},{name}\n" for name in np.unique(tiny.speaker))
    (tmp_path / "list.csv").write_text(f"speaker,fold\n{lines}")
    given = {"protocol": "listed", "folds": 0, "fold_file": f"{tmp_path}/list.csv"}
    folders = small_run(tmp_path, tiny, model="majority", **given)
    assert choose(tmp_path, corpus="TINY", **given)[0] == folders.run_id


def test_a_damaged_run_is_named_with_the_way_out(tmp_path):
    # 02 takes `-p model majority -p epochs 0`, so 03 finds that run.
    folders = small_run(tmp_path, tiny_features(), model="majority", epochs=0)
    given = {"corpus": "TINY", "model": "majority", "epochs": 0, "learning_rate": 1e-3}
    assert choose(tmp_path, **given)[0] == folders.run_id
    with pytest.raises(FileNotFoundError, match="epochs None"):
        choose(tmp_path, corpus="TINY", epochs=3)
    folders.manifest.write_text("{")
    told = rf"(?s)there is {folders.run_id}: it cannot be read.*overwrite=True"
    with pytest.raises(FileNotFoundError, match=told):
        choose(tmp_path, corpus="TINY", model="majority")
    for seed in (1, 2, 3):  # of which none fits
        small_run(tmp_path, tiny_features(), model="logistic", seed=seed)
    with pytest.raises(FileNotFoundError, match=told) as caught:
        choose(tmp_path, run_id=folders.run_id)
    assert "did you mean" not in str(caught.value)
    small_run(tmp_path, tiny_features(), model="cnn", epochs=1)  # what both kinds have:
    said = "; left open: model, model_options, seed"
    assert choose(tmp_path, corpus="TINY")[1].endswith(said)


def test_a_run_on_other_data_is_refused(workspace, tiny):
    folders, _ = test.find_run(parameters(workspace, corpus="TINY"))
    document = runs.read_manifest(folders.manifest)
    other = dataclasses.replace(tiny, about=tiny.about | {"features": "cktim"})
    with pytest.raises(ValueError, match="on features 'timnet', not on 'cktim'"):
        test.require_data(document, other)
    other = dataclasses.replace(tiny, about=tiny.about | {"labels": ["a", "b"]})
    with pytest.raises(ValueError, match="on labels '.*', not on '.'a', 'b'.'"):
        test.require_data(document, other)
    # Another processor rounds differently; the run is the same.
    x = np.nextafter(tiny.x, np.float32(9))
    about = tiny.about | {"x_sha256": array_hash(x)}
    test.require_data(document, dataclasses.replace(tiny, x=x, about=about))


def test_a_run_is_tested_on_features_normalised_as_it_was(tmp_path, monkeypatch):
    small_run(tmp_path, tiny_features(), model="svm", normalisation="speaker")
    asked = []

    def obtain(params):
        asked.append(params.normalisation)
        return None, tiny_features()

    monkeypatch.setattr(features, "obtain", obtain)
    test.open_run(parameters(tmp_path, corpus="TINY"), CPU)
    assert asked == ["speaker"]


@pytest.fixture
def run(workspace, tmp_path):
    """Return a copy of a run, to be damaged."""
    copy = tmp_path / "copy"
    shutil.copytree(workspace, copy)
    run_id = next(copy.glob("Results/*-speaker-s46-*")).name
    return RunFolders(parameters(copy).folders, run_id)


def test_saved_networks_repeat_the_recorded_predictions(run, tiny):
    shutil.copytree(run.results, run.results.with_name(run.run_id + "-copy"))
    given = {"corpus": "TINY", "protocol": "speaker", "seed": 46}
    assert choose(run.workspace.root, **given)[0] == run.run_id  # not the copy
    recorded = runs.read_predictions(run.predictions)
    again, embeddings = test.retest(run, tiny, verbose=0)
    assert again["file"].tolist() == recorded["file"].tolist()
    columns = recorded.filter(like="p_").columns
    np.testing.assert_allclose(again[columns], recorded[columns], atol=1e-6)
    with np.load(run.embeddings) as saved:
        np.testing.assert_allclose(embeddings, saved["z"], atol=1e-5)


def test_weights_that_were_changed_or_lost_are_refused(run, tiny):
    shutil.copy(run.model(1), run.model(2))
    with pytest.raises(ValueError, match="fold_02.keras is gone or was changed"):
        test.retest(run, tiny, verbose=0)
    run.model(1).unlink()
    with pytest.raises(ValueError, match="fold_01.keras is gone"):
        test.retest(run, tiny, verbose=0)


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """Return parameters that name official weight files, their networks, their run."""
    folder, networks = tmp_path_factory.mktemp("weights"), []
    for fold in (1, 2, 3):
        network = plain_timnet(20, 5, 3, blocks=2, filters=5)
        randomise(network, seed=fold)
        write_official_file(folder / f"3-fold_weights_best_{fold}.hdf5", network)
        networks.append(network)
    given = {"weights_dir": str(folder), "folds": 3}
    params = parameters(tmp_path_factory.mktemp("official"), **given)
    return params, networks, test.official_run(params, tiny_features(), CPU)


def test_official_weights_are_tested_on_their_own_folds(tmp_path, tiny, official):
    params, networks, folders = official
    table = runs.read_predictions(folders.predictions)
    splitter = KFold(3, shuffle=True, random_state=46)
    for fold, (_, tested) in enumerate(splitter.split(tiny.x), start=1):
        part = table[table["fold"] == fold]
        assert part["file"].tolist() == tiny.file[tested].tolist()
        expected = networks[fold - 1].predict(tiny.x[tested], verbose=0)
        np.testing.assert_allclose(part.filter(like="p_"), expected, atol=1e-5)
    again, _ = test.retest(folders, tiny, weights_dir=params.weights_dir, verbose=0)
    both = [one.filter(like="p_") for one in (again, table)]
    np.testing.assert_allclose(*both, atol=1e-6)
    # It is kept, and marked as no honest score.
    before = folders.manifest.stat().st_mtime_ns
    assert test.official_run(params, tiny, CPU).run_id == folders.run_id
    assert folders.manifest.stat().st_mtime_ns == before
    (row,) = runs.load_runs(folders.results.parent).to_dict("records")
    assert "epoch chosen on the test fold" in row["warning"]
    trained = networks[0].trainable_weights
    assert row["parameters"] == sum(math.prod(one.shape) for one in trained)
    with pytest.raises(ValueError, match="give weights_dir in place of run_id"):
        test.retest(folders, tiny, verbose=0)
    shutil.copytree(params.weights_dir, tmp_path / "weights")
    one, two, _ = sorted((tmp_path / "weights").iterdir())
    shutil.copy(one, two)
    with pytest.raises(ValueError, match="does not hold what TINY-timnet-paper-s46"):
        test.retest(folders, tiny, weights_dir=str(tmp_path / "weights"), verbose=0)


def test_parameters_that_contradict_each_other(tmp_path, tiny, official, monkeypatch):
    for given, message in (
        ({"protocol": "speaker"}, "trained on random folds"),
        ({"run_id": "TINY-timnet-paper-s46-00000000"}, "not both"),
        ({"weights_dir": "", "overwrite": True}, "for official weights; leave"),
        ({"weights_dir": "", "weights_format": "timnet_hdf5"}, "leave them out"),
        ({"model": "cnn"}, "leave out model 'cnn'"),
        ({"epochs": 3, "learning_rate": 0.1}, "leave out epochs, learning_rate"),
    ):
        monkeypatch.setattr(features, "obtain", lambda params: (None, tiny))
        values = {"weights_dir": official[0].weights_dir, "folds": 3} | given
        with pytest.raises(ValueError, match=message):
            test.open_run(parameters(tmp_path, **values), CPU)
