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

from lib import config, runs, spaces, training
from lib.device import Device
from lib.features.store import array_hash
from lib.runs import RunFolders
from lib.training import testing

CPU = Device("cpu", "a processor", "not needed")


def parameters(workspace, **given):
    return config.validated({"workspace": str(workspace), "verbose": 0} | given)


def trained(workspace, data, finished, **given):
    """Train a very small run and date it; return its id."""
    small = {"epochs": 1, "folds": 3, "batch_size": 16}
    options = {"dilations": 1, "filters": 3} | given.pop("model_options", {})
    params = parameters(workspace, model_options=options, **small, **given)
    folders = training.train(
        training.resolve(params, data),
        data,
        training.make_folds(params, data),
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
    folders, sentence = training.find_run(parameters(workspace, **given))
    return folders.run_id, sentence


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "TINY-timnet-paper-s46"),
        ({"protocol": "speaker"}, "TINY-timnet-speaker-s46"),
        ({"seed": 47}, "TINY-timnet-speaker-s47"),
        ({"seed": 46, "protocol": "speaker"}, "TINY-timnet-speaker-s46"),
        ({"folds": 3}, "TINY-timnet-paper-s46"),
        ({"features": "timnet", "model": "timnet"}, "TINY-timnet-paper-s46"),
        ({"model_options": {"dropout": 0.5}}, "TINY-timnet-speaker-s47"),
        ({"model_options": {"dilations": 1, "dropout": 0.5}}, "TINY-timnet-speaker-s4"),
    ],
)
def test_given_parameters_select_and_others_mean_any(workspace, given, found):
    run_id, sentence = choose(workspace, corpus="TINY", **given)
    assert run_id.startswith(found)
    assert run_id in sentence


def test_what_was_left_open_is_said(workspace):
    _, sentence = choose(workspace, corpus="TINY")
    for word in ("newest of 3", "seed (46, 47)", "protocol (paper, speaker)"):
        assert word in sentence
    assert "folds" not in sentence  # all three have three
    _, sentence = choose(workspace, corpus="TINY", seed=47)
    assert "only finished run" in sentence


def test_a_seed_equal_to_the_default_selects_where_it_is_given(tmp_path):
    """Runs of 46 and 47: `-p seed 46` is a wish although 46 is the default."""
    data, small = tiny_features(), {"model": "majority", "folds": 3}
    for seed in (46, 47):
        params = parameters(tmp_path, seed=seed, **small)
        plan = training.Plan(
            training.resolve(params, data), training.make_folds(params, data)
        )
        training.train_seeds([plan], data, params.folders, device=CPU, verbose=0)
    assert "-s46-" in choose(tmp_path, corpus="TINY", seed=46)[0]
    assert "-s47-" in choose(tmp_path, corpus="TINY", seed=47)[0]


@pytest.mark.parametrize(
    "given",
    [
        {"protocol": "stratified"},
        {"folds": 4},
        {"seed": 48},
        {"model": "svm"},
        {"epochs": 7},
        {"model_options": {"dropout": 0.25}},
        {"learning_rate": 0.5},
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


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": "svm", "epochs": 7}, "svm .* no use for epochs"),
        ({"model": "svm", "model_options": {"dropout": 1}}, "svm has no option 'drop"),
        ({"model": "timnet", "model_options": {"filtres": 3}}, "mean 'filters'"),
    ],
)
def test_what_02_would_refuse_is_not_looked_for(workspace, given, message):
    with pytest.raises(ValueError, match=message):
        choose(workspace, corpus="TINY", **given)


def test_defaults_of_a_system_without_epochs_fit(tmp_path):
    """02 takes `-p model majority -p epochs 0`, so 03 finds that run."""
    data = tiny_features()
    params = parameters(tmp_path, model="majority", folds=3, epochs=0)
    plan = training.Plan(
        training.resolve(params, data), training.make_folds(params, data)
    )
    training.train_seeds([plan], data, params.folders, device=CPU, verbose=0)
    given = {"corpus": "TINY", "model": "majority", "epochs": 0, "learning_rate": 1e-3}
    assert choose(tmp_path, **given)[0].startswith("TINY-majority")
    with pytest.raises(FileNotFoundError, match="folds 3"):
        choose(tmp_path, corpus="TINY", folds=0)  # the protocol's own: six speakers


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
    folders, _ = training.find_run(parameters(workspace, corpus="TINY"))
    document = runs.manifest.read(folders.manifest)
    for name, value in (("corpus", "EMODB"), ("features", "lightsernet")):
        other = dataclasses.replace(tiny, about=tiny.about | {name: value})
        with pytest.raises(ValueError, match=f"on {name} '.*not on '{value}'"):
            training.require_data(document, other)
    with pytest.raises(ValueError, match="other recordings, labels or speakers"):
        training.require_data(document, tiny_features(seed=1))


def test_features_that_differ_in_last_bits_are_the_same_data(workspace, tiny):
    """Another processor rounds differently; the run is the same."""
    folders, _ = training.find_run(parameters(workspace, corpus="TINY"))
    x = np.nextafter(tiny.x, np.float32(9))
    other = dataclasses.replace(
        tiny, x=x, about=tiny.about | {"x_sha256": array_hash(x)}
    )
    training.require_data(runs.manifest.read(folders.manifest), other)
    params = parameters(workspace)
    assert training.resolve(params, other) == training.resolve(params, tiny)


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


def test_files_that_were_changed_after_the_run_are_refused(run, tiny):
    honest = run.predictions.read_bytes()
    rows = honest.decode().splitlines(keepends=True)
    for changed in (
        rows[:-1],
        [*rows, rows[1]],
        [row.replace("s1", "s2") for row in rows],
    ):
        run.predictions.write_text("".join(changed))
        for use in (
            lambda: training.retest(run, tiny, verbose=0),
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
        training.retest(run, tiny, verbose=0)
    run.model(1).unlink()
    with pytest.raises(FileNotFoundError, match="fold_01.keras is gone"):
        training.retest(run, tiny, verbose=0)


def test_predictions_of_other_labels_speakers_or_rows_are_refused(run, tiny):
    with pytest.raises(ValueError, match="other recordings"):
        training.retest(run, tiny_features(seed=1), verbose=0)
    honest = runs.predictions.read(run.predictions)
    twice = pd.concat([honest, honest.iloc[:1]])
    # Without its manifest's hash, a table is held against the data themselves.
    document = json.loads(run.manifest.read_text())
    run.manifest.write_text(json.dumps(document | {"artefacts": []}))
    for name, table in (
        ("labels", honest.assign(y_true=np.roll(honest["y_true"], 1))),
        ("speakers", honest.assign(speaker=np.roll(honest["speaker"], 1))),
        ("files", honest.assign(file=honest["file"] + "x")),
        ("twice", twice),
    ):
        runs.predictions.write(run.predictions, table)
        with pytest.raises(ValueError, match=name):
            training.retest(run, tiny, verbose=0)


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
    folds = training.make_folds(params, data)
    return training.official_run(params, data, folds, device=CPU)


def official_parameters(workspace, folder, **given):
    return parameters(workspace, weights_dir=str(folder), folds=3, **given)


def test_official_weights_are_tested_on_their_own_folds(tmp_path, tiny, official):
    folder, networks = official
    params = official_parameters(tmp_path, folder)
    folders = official_run(params, tiny)
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


def test_a_test_of_official_weights_is_kept_and_is_another_run_for_other_audio(
    tmp_path, tiny, official
):
    params = official_parameters(tmp_path, official[0])
    folders = official_run(params, tiny)
    before = folders.manifest.stat().st_mtime_ns
    assert official_run(params, tiny) == folders
    assert folders.manifest.stat().st_mtime_ns == before
    assert official_run(params, tiny_features(seed=1)).run_id != folders.run_id


def test_official_weights_are_marked_as_no_honest_score(tmp_path, tiny, official):
    folders = official_run(official_parameters(tmp_path, official[0]), tiny)
    document = runs.manifest.read(folders.manifest)
    assert "epoch chosen on the test fold" in training.protocol_label(document)
    assert any(
        "no honest one" in sentence for sentence in runs.caveats(document).values()
    )
    (row,) = runs.table.load_runs(folders.results.parent).to_dict("records")
    assert "epoch chosen on the test fold" in row["warning"]


def test_official_weights_need_their_folder_and_their_files(tmp_path, tiny, official):
    folder = tmp_path / "weights"
    shutil.copytree(official[0], folder)
    folders = official_run(official_parameters(tmp_path, folder), tiny)
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
        ({"model": "cnn"}, "leave out model 'cnn'"),
        ({"epochs": 3, "learning_rate": 0.1}, "leave out epochs, learning_rate"),
    ],
)
def test_parameters_that_contradict_each_other(
    tmp_path, tiny, official, given, message, monkeypatch
):
    monkeypatch.setattr(testing, "obtain", lambda params: (None, tiny))
    values = {"weights_dir": str(official[0]), "folds": 3} | given
    with pytest.raises(ValueError, match=message):
        training.open_run(parameters(tmp_path, **values), CPU)


# --- what a score is worth -----------------------------------------------------------


WHOLE = {"expected": 10, "found": 10, "used": 10, "dropped": {}, "problems": []}


def document(train, test, *, protocol="speaker", audit=None, **given):
    fold = {"fold": 1, "train": {"speakers": train}, "test": {"speakers": test}}
    fold |= {"chosen_on": "validation", "repeated": 0, "untrained": []}
    own = {name: given.pop(name) for name in list(given) if name in fold}
    return {
        "kind": "trained",
        "synthetic": False,
        "config": {"protocol": protocol},
        "data": {"audit": WHOLE | (audit or {})},
        "folds": [fold | own],
    } | given


def problem(severity, kind, files):
    return {"severity": severity, "kind": kind, "files": files, "message": "X is so."}


def test_an_honest_run_has_no_caveats():
    assert runs.caveats(document(["a", "b"], ["c"])) == {}


@pytest.mark.parametrize(
    ("given", "mark", "word"),
    [
        (document(["a", "b"], ["b"]), "speakers shared", "In 1 of 1 folds"),
        (document(["a"], ["b"], chosen_on="test"), "chosen on the test", "no honest"),
        (document(["a"], ["b"], synthetic=True), "synthetic", "generated"),
        (document([""], [""]), "speakers unknown", "not known"),
        (document(["a", ""], ["b"]), "speakers unknown", "not known"),
        (document(["a"], ["b"], repeated=3), "3 test clips", "under another name"),
        (document(["a"], ["b"], untrained=["fear"]), "untrained: fear", "In 1 of 1"),
        (document(["a"], ["b"], data={"audit": None}), "not checked", "nobody"),
        (
            document(["a"], ["b"], audit={"problems": [problem("error", "silent", 2)]}),
            "errors ignored: silent 2",
            "that were ignored (1): X is so.",
        ),
        (
            document(["a"], ["b"], audit={"problems": [problem("warning", "rate", 9)]}),
            "data warnings: rate 9",
            "X is so.",
        ),
        (
            document(
                ["a"], ["b"], audit={"found": 9, "used": 8, "dropped": {"f": "cut"}}
            ),
            "8 of 10 clips",
            "8 of 10 clips are used, 9 were found. Left out: f (cut)",
        ),
    ],
)
def test_what_spoils_a_score_is_said_in_a_sentence_and_marked_in_tables(
    given, mark, word
):
    ((found, sentence),) = runs.caveats(given).items()
    assert mark in found
    assert word in sentence


def test_titles_carry_the_warnings():
    assert training.protocol_label(document(["a"], ["b"])) == "unseen speakers"
    leaking = document(["a"], ["a"], protocol="paper_best", synthetic=True)
    label = training.protocol_label(leaking)
    for mark in ("speakers shared", "chosen on the test fold", "synthetic speech"):
        assert mark in label
