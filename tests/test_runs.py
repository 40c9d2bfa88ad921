"""Run folders, manifests and predictions, and the tables made of all runs."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from lib import runs
from lib.files import Workspace, write_text


def make_manifest(run_id, **changes):
    """Return a manifest; `changes` go to the part that knows them."""
    settings = {"corpus": "EMODB", "features": "timnet", "feature_settings": None}
    settings |= {"model": "timnet", "model_options": {"dilations": 8}, "seed": 46}
    settings |= {"protocol": "speaker", "folds": 2, "epochs": 500, "batch_size": 64}
    settings |= {"data_sha256": "ab" * 32, "folds_sha256": "cd" * 32}
    settings |= {"normalisation": "none"}
    pooled = {"uar": 0.7, "war": 0.72, "macro_f1": 0.69, "interval": {"reliable": True}}
    pooled |= {"uar_interval": [0.66, 0.74], "war_interval": [0.68, 0.76]}
    fold = {"train": {"speakers": ["01"]}, "test": {"speakers": ["02"]}, "seconds": 3.5}
    fold |= {"chosen_on": "validation", "repeated": 0, "untrained": []}
    fold |= {"validation": {"speakers": ["03"]}}
    audit = {"expected": 10, "found": 10, "used": 10, "dropped": {}, "problems": []}
    rest = {"schema_version": 2, "run_id": run_id, "status": "done", "error": None}
    rest |= {"finished": "2025-03-01T10:00:00+00:00", "synthetic": False}
    rest |= {"kind": "trained", "parameters": 106992, "seconds": 7.0, "artefacts": []}
    rest["data"] = {"label_names": ["a", "b"], "audit": audit, "in_no_fold": 0}
    rest["metrics"] = {"pooled": pooled, "mean": {"uar": 0.71, "war": 0.73}}
    rest["metrics"]["sd"] = {"uar": 0.05, "war": 0.06}
    for name, value in changes.items():
        parts = (settings, pooled, fold, audit, rest["data"])
        next((part for part in parts if name in part), rest)[name] = value
    return rest | {"config": settings, "folds": [fold | {"fold": n} for n in (1, 2)]}


def write_run(results, run_id, document=None, **changes):
    (results / run_id).mkdir(parents=True, exist_ok=True)
    document = document or make_manifest(run_id, **changes)
    (results / run_id / "run.json").write_text(json.dumps(document))


def load(results):
    return runs.load_runs(results).set_index("run_id")


def test_predictions_come_back_as_they_were_and_changes_are_noticed(tmp_path):
    p = np.random.default_rng(0).dirichlet(np.ones(2), 4)
    table = runs.predictions_table(
        file=np.array(["1.wav", "02.wav", "NA", "x.wav"]),
        speaker=np.array(["01", "1", "", "nan"]),
        sex=np.full(4, ""),
        fold=np.array([1, 1, 2, 2]),
        y_true=np.array([0, 1, 0, 1]),
        probabilities=p,
        label_names=["a", "b"],
    )
    assert table["y_pred"].tolist() == p.argmax(axis=1).tolist()
    assert table.columns[-2:].tolist() == runs.probability_columns(["a", "b"])
    folders = runs.RunFolders(Workspace(tmp_path), "X")
    with pytest.raises(FileNotFoundError, match="no predictions at"):
        runs.read_predictions(folders.predictions)
    write_text(folders.predictions, table.to_csv(index=False))
    kept = runs.artefacts(folders, [folders.predictions])
    write_run(folders.results.parent, "X", make_manifest("X") | {"artefacts": kept})
    found = runs.read_predictions(folders.predictions)
    pd.testing.assert_frame_equal(found, table, check_dtype=False, rtol=0, atol=0)
    copied = shutil.copytree(folders.results, folders.results.parent / "reference/X")
    for path in (folders.predictions, copied / "predictions.csv"):
        table.assign(y_pred=0).to_csv(path, index=False)
        with pytest.raises(RuntimeError, match="changed after its run was done"):
            runs.read_predictions(path)


def problem(severity, kind, files):
    return {"severity": severity, "kind": kind, "files": files, "message": "X is so."}


NO_AUDIT = {"audit": None, "label_names": ["anger", "fear"]}
RATES = [problem("warning", "rate", 9), problem("warning", "rate", 1)]


def test_what_spoils_a_score_is_said_and_marked_in_tables(tmp_path):
    for changes, mark, word in (
        ({"test": {"speakers": ["01", "02"]}}, "speakers shared", "In 2 of 2 folds"),
        ({"validation": {"speakers": ["02"]}}, "speakers shared", "or validate"),
        ({"test": {"speakers": [""]}}, "speakers unknown", "not known"),
        ({"chosen_on": "test"}, "epoch chosen on the test fold", "no honest"),
        ({"synthetic": True}, "synthetic audio", "generated"),
        ({"kind": "official weights"}, "official weights", "authors"),
        ({"data": NO_AUDIT}, "audio not checked", "checked"),
        ({"interval": {"reliable": False}}, "interval indicative only", "too few"),
        ({"normalisation": "speaker"}, "transductive", "tested ones too"),
        ({"in_no_fold": 3}, "3 clips in no fold", "leave 3 clips out"),
        ({"repeated": 3}, "6 test clips trained too", "under another name"),
        ({"untrained": ["fear"]}, "untrained: fear", "In a fold fear"),
        ({"problems": [problem("error", "a", 2)]}, "errors ignored: a 2", "X is so."),
        ({"problems": RATES}, "data warnings: rate 10", "(2): X is so. X is so."),
        ({"used": 8, "dropped": {"f": "cut"}}, "8 of 10 clips", "Left out: f (cut)"),
    ):
        document = make_manifest("x", **changes)
        ((found, sentence),) = runs.caveats(document).items()
        assert found == mark and word in sentence
        write_run(tmp_path, "x", document)
        assert load(tmp_path).loc["x", "warning"] == mark
    assert runs.caveats(make_manifest("x")) == {}
    assert runs.protocol_label(make_manifest("x")) == "unseen speakers"
    fitted = make_manifest("x", protocol="paper_best", epochs=None)
    assert "chosen" not in runs.protocol_label(fitted)
    leaking = make_manifest("x", protocol="paper_best", synthetic=True)
    official = make_manifest("x", kind="official weights")
    for document, mark in ((leaking, "synthetic speech"), (official, "official")):
        label = runs.protocol_label(document)
        assert "chosen on the test fold" in label and "speakers shared" in label
        assert mark in label


def test_a_finished_run_is_a_row_with_all_its_figures(tmp_path):
    write_run(tmp_path, "one")
    write_run(tmp_path / "archive", "old")  # one level of folders is read
    (row,) = runs.load_runs(tmp_path).to_dict("records")
    expected = {"corpus": "EMODB", "seed": 46, "folds": 2, "status": "done", "note": ""}
    expected |= {"uar": 0.7, "uar_low": 0.66, "uar_high": 0.74, "war": 0.72}
    expected |= {"war_low": 0.68, "war_high": 0.76, "macro_f1": 0.69, "seconds": 7.0}
    expected |= {"fold_uar_mean": 0.71, "fold_uar_sd": 0.05, "fold_war_mean": 0.73}
    expected |= {"parameters": 106992, "synthetic": False, "warning": ""}
    assert {name: row[name] for name in expected} == expected
    known = make_manifest("one")["config"]
    assert known.items() >= runs.settings(row).items() and "batch_size" in row["config"]
    assert not runs.load_runs(tmp_path, ["another"]).size


def test_a_damaged_or_older_manifest_is_a_row_that_says_so(tmp_path):
    for content, reason in (
        ('{"schema_version": 2, "run_', "damaged"),
        ("[]", "damaged"),
        ('{"schema_version": 1}', "earlier edition"),
        ('{"schema_version": 2}', "'config'"),
        (json.dumps(make_manifest("odd", metrics={})), "pooled"),
    ):
        write_run(tmp_path, "whole")
        write_run(tmp_path, "odd")
        (tmp_path / "odd" / "run.json").write_text(content)
        table = load(tmp_path)
        assert table["status"].to_dict() == {"odd": "damaged", "whole": "done"}
        assert reason in table.loc["odd", "note"]
        board = runs.leaderboard(runs.load_runs(tmp_path))
        assert board["run_id"].tolist() == ["whole"]


def test_unfinished_failed_and_copied_runs_say_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished run; run 02_train"):
        runs.leaderboard(runs.load_runs(tmp_path / "none"))
    cut = make_manifest("cut", status="running", finished=None)
    del cut["folds"][1]["seconds"], cut["metrics"]
    write_run(tmp_path, "cut", cut)
    write_run(tmp_path, "failed", status="failed", error="the loss is nan")
    with pytest.raises(FileNotFoundError, match="there is cut: not finished: 1 of 2"):
        runs.leaderboard(runs.load_runs(tmp_path))
    write_run(tmp_path, "copy", make_manifest("original"))
    notes = load(tmp_path)["note"]
    assert notes["failed"] == "failed: the loss is nan"
    assert notes["copy"] == "a copy of original"
    assert load(tmp_path)["uar"].isna().sum() == 2


def test_the_leaderboard_is_sorted_by_corpus_honesty_and_uar(tmp_path):
    write_run(tmp_path, "a", protocol="paper_best", uar=0.95)
    write_run(tmp_path, "b", uar=0.6)
    write_run(tmp_path, "c", uar=0.65)
    write_run(tmp_path, "d", corpus="CASIA", uar=0.1)
    write_run(tmp_path, "e", protocol="paper", uar=0.9)
    write_run(tmp_path, "f", status="failed", uar=0.99)
    board = runs.leaderboard(runs.load_runs(tmp_path))
    assert "".join(board["run_id"]) == "dcbea"


def test_configurations_differ_by_more_than_the_seed(tmp_path):
    for seed in (1, 2, 3):
        write_run(tmp_path, f"s{seed}", seed=seed)
    write_run(tmp_path, "s2-copy", seed=2, finished="2024-01-01T00:00:00")
    write_run(tmp_path, "options", seed=1, model_options={"dilations": 6})
    write_run(tmp_path, "batch", seed=2, batch_size=32)
    write_run(tmp_path, "random", seed=2, protocol="paper")
    write_run(tmp_path, "folds", seed=2, protocol="paper", folds=7)
    board = runs.leaderboard(runs.load_runs(tmp_path))
    rest = board[~board["run_id"].isin({"options", "batch"})]
    assert board["setup"].nunique() == 3 and rest["setup"].nunique() == 1
    assert sorted(rest.groupby("configuration").size()) == [1, 1, 4]
    assert set(board["run_id"]) - set(runs.newest(board)["run_id"]) == {"s2-copy"}
    for rows in ("ab", "cd"):  # of two fold files with one name
        write_run(tmp_path, rows, protocol="listed", folds_sha256=rows * 32)
    listed = runs.leaderboard(runs.load_runs(tmp_path)).query("protocol == 'listed'")
    assert listed["setup"].nunique() == 2 and "rows ab" in " ".join(listed["system"])


def test_a_name_says_only_what_differs(tmp_path):
    def names():
        board = runs.leaderboard(runs.load_runs(tmp_path))
        return board.set_index("run_id")["name"].to_dict()

    write_run(tmp_path, "one")
    assert names() == {"one": "timnet, seed 46"}
    write_run(tmp_path, "two", model_options={"dilations": 3}, epochs=4)
    write_run(tmp_path, "other", corpus="SAVEE", folds=5, normalisation="speaker")
    write_run(tmp_path, "official", kind="official weights", epochs=None)
    one = "timnet, epochs 500, dilations 8"
    assert names() == {
        "one": f"{one}, seed 46",
        "two": "timnet, epochs 4, dilations 3, seed 46",
        "other": "timnet, transductive, seed 46",
        "official": "timnet, official weights, seed 46",
    }
    # Folds are named where they differ under one protocol.
    for folds in (10, 5):
        write_run(tmp_path, str(folds), protocol="paper", folds=folds)
    assert names()["5"] == "timnet, folds 5, epochs 500, dilations 8, seed 46"
    # What no setting tells apart is told apart by the end of the run id.
    write_run(tmp_path, "x-01234567")
    assert names()["x-01234567"] == f"{one}, seed 46 (01234567)"
