"""Run folders, manifests and predictions, and the tables made of all runs."""

import json
import re
import statistics

import numpy as np
import pandas as pd
import pytest

from lib import overview, protocols, runs
from lib.files import find_workspace

WHOLE = {"expected": 10, "found": 10, "used": 10, "dropped": {}, "problems": []}


def make_manifest(run_id, **changes):
    """Return a manifest; `changes` go to the part that knows them."""
    given = {"corpus": "EMODB", "features": "timnet", "feature_settings": None}
    given |= {"model": "timnet", "model_options": {"dilations": 8}, "seed": 46}
    given |= {"protocol": "speaker", "folds": 2, "epochs": 500, "batch_size": 64}
    pooled = {"uar": 0.7, "war": 0.72, "macro_f1": 0.69}
    pooled |= {"uar_interval": [0.66, 0.74], "war_interval": [0.68, 0.76]}
    sides = {"train": {"speakers": ["01"]}, "test": {"speakers": ["02"]}}
    fold = {**sides, "seconds": 3.5, "chosen_on": "validation", "epoch_chosen": 7}
    document = {
        "schema_version": 2,
        "run_id": run_id,
        "status": "done",
        "finished": "2025-03-01T10:00:00+00:00",
        "synthetic": False,
        "kind": "trained",
        "parameters": 106992,
        "config": given,
        "data": {"label_names": ["a", "b"], "audit": dict(WHOLE)},
        "folds": [fold | {"fold": 1}, fold | {"fold": 2}],
        "metrics": {
            "pooled": pooled,
            "mean": {"uar": 0.71, "war": 0.73},
            "sd": {"uar": 0.05, "war": 0.06},
        },
        "artefacts": [],
    }
    for name, value in changes.items():
        part = next((p for p in (given, pooled, fold) if name in p), document)
        part[name] = value
    for entry in document["folds"] if "folds" not in changes else ():
        entry |= {name: fold[name] for name in changes if name in fold}
    return document


def write_run(results, run_id, document=None, **changes):
    (results / run_id).mkdir(parents=True, exist_ok=True)
    document = document or make_manifest(run_id, **changes)
    (results / run_id / "run.json").write_text(json.dumps(document))


def load(results):
    return overview.load_runs(results).set_index("run_id")


# --- folders, manifests, predictions --------------------------------------------------


@pytest.mark.parametrize(
    ("run_id", "name"),
    [
        ("DEMO-timnet-speaker-s1-00000000", "fold_02.keras"),
        ("DEMO-svm-speaker-s1-00000000", "fold_02.skops"),
        ("svm-timnet-majority-s1-svm", "fold_02.keras"),
        ("X", "fold_02.keras"),
    ],
)
def test_a_baseline_is_saved_by_skops_and_a_network_by_keras(tmp_path, run_id, name):
    folders = runs.RunFolders(find_workspace(str(tmp_path)), run_id)
    assert folders.model(2) == tmp_path / "Models" / run_id / name
    paths = [folders.outcome(1), folders.checkpoint(1), folders.curves(1)]
    paths += [folders.events(1), folders.last_weights(1), folders.predictions]
    assert len(set(paths)) == 6 and all(run_id in path.parts for path in paths)


def test_a_run_lists_its_files_and_hashes_and_keeps_others_out(tmp_path):
    folders = runs.RunFolders(find_workspace(str(tmp_path)), "X")
    with runs.only_one(folders):
        with pytest.raises(RuntimeError, match="X is being worked on by another"):
            with runs.only_one(folders):
                pass
    with runs.only_one(folders):
        folders.curves(1).write_text("epoch,uar\n1,0.5\n")
    assert runs.listing(folders) == ["logs/X/fold_01.csv"]  # the lock is hidden
    (entry,) = runs.artefacts(folders, [folders.curves(1)])
    assert entry["path"] == "logs/X/fold_01.csv" and len(entry["sha256"]) == 64
    table = runs.curves(folders, 1)
    assert table.to_dict("records") == [{"epoch": 1, "uar": 0.5, "fold": 1}]
    with pytest.raises(FileNotFoundError, match="fold_02.csv"):
        runs.curves(folders, 2)
    assert runs.chosen_epochs(make_manifest("X")) == {1: 7, 2: 7}


def test_the_environment_and_the_state_of_the_code_are_known():
    assert {"python", "platform", "numpy", "scikit-learn"} <= set(runs.environment())
    state = runs.git_state()
    assert state["commit"] == "" or re.fullmatch("[0-9a-f]{40}", state["commit"])


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
    folders = runs.RunFolders(find_workspace(str(tmp_path)), "X")
    with pytest.raises(FileNotFoundError, match="no predictions at"):
        runs.read_predictions(folders.predictions)
    runs.write_predictions(folders.predictions, table)
    found = runs.read_predictions(folders.predictions)
    pd.testing.assert_frame_equal(found, table, check_dtype=False, rtol=0, atol=0)
    kept = runs.artefacts(folders, [folders.predictions])
    write_run(folders.results.parent, "X", make_manifest("X") | {"artefacts": kept})
    runs.read_predictions(folders.predictions)
    runs.write_predictions(folders.predictions, table.assign(y_pred=0))
    with pytest.raises(ValueError, match="changed after the run was finished"):
        runs.read_predictions(folders.predictions)
    folders.manifest.unlink()
    for wrong, message in (
        (table.drop(columns="sex"), r"lacks \['sex'\]"),
        (table.assign(file="1.wav"), "holds a clip twice in a fold"),
    ):
        runs.write_predictions(folders.predictions, wrong)
        with pytest.raises(ValueError, match=message):
            runs.read_predictions(folders.predictions)


# --- caveats --------------------------------------------------------------------------


def problem(severity, kind, files):
    return {"severity": severity, "kind": kind, "files": files, "message": "X is so."}


@pytest.mark.parametrize(
    ("changes", "mark", "word"),
    [
        ({"test": {"speakers": ["01", "02"]}}, "speakers shared", "In 2 of 2 folds"),
        ({"test": {"speakers": [""]}}, "speakers unknown", "not known"),
        ({"train": {"speakers": []}}, "speakers unknown", "not known"),
        ({"chosen_on": "test"}, "epoch chosen on the test fold", "no honest"),
        ({"synthetic": True}, "synthetic audio", "generated"),
        ({"kind": "official weights"}, "official weights", "authors"),
        ({"data": {}}, "audio not checked", "checked"),
        ({"interval": {"reliable": False}}, "interval indicative only", "too few"),
        ({"repeated": 3}, "6 test clips trained too", "under another name"),
        ({"untrained": ["fear"]}, "untrained: fear", "In 2 of 2 folds fear"),
        ([problem("error", "silent", 2)], "errors ignored: silent 2", "(1): X is so."),
        (
            [problem("warning", "rate", 9), problem("warning", "rate", 1)],
            "data warnings: rate 10",
            "(2): X is so. X is so.",
        ),
        (
            {"found": 9, "used": 8, "dropped": {"f": "cut"}},
            "8 of 10 clips",
            "8 of 10 clips are used, 9 were found. Left out: f (cut)",
        ),
    ],
)
def test_what_spoils_a_score_is_said_and_marked_in_tables(
    tmp_path, changes, mark, word
):
    document = make_manifest("x")
    if isinstance(changes, list):
        document["data"]["audit"]["problems"] = changes
    elif "used" in changes:
        document["data"]["audit"] |= changes
    elif "interval" in changes:
        document["metrics"]["pooled"] |= changes
    elif {"synthetic", "kind", "data"} & set(changes):
        document |= changes
    else:
        document["folds"] = [fold | changes for fold in document["folds"]]
    ((found, sentence),) = runs.caveats(document).items()
    assert found == mark and word in sentence
    write_run(tmp_path, "x", document)
    assert load(tmp_path).loc["x", "warning"] == mark


def test_titles_carry_the_warnings():
    assert runs.caveats(make_manifest("x")) == {}
    assert runs.protocol_label(make_manifest("x")) == "unseen speakers"
    leaking = make_manifest("x", protocol="paper_best", synthetic=True)
    official = make_manifest("x", kind="official weights")
    for document, mark in ((leaking, "synthetic speech"), (official, "official")):
        label = runs.protocol_label(document)
        assert "chosen on the test fold" in label and "speakers shared" in label
        assert mark in label


# --- the table of all runs ------------------------------------------------------------


def test_a_finished_run_is_a_row_with_all_its_figures(tmp_path):
    write_run(tmp_path, "one")
    write_run(tmp_path / "archive", "old")  # one level of folders is read
    (tmp_path / "demo").mkdir()
    row = load(tmp_path).loc[["one"]].to_dict("records")[0]
    assert len(load(tmp_path)) == 1
    expected = make_manifest("one")["config"] | {"status": "done", "note": ""}
    expected |= {"uar": 0.7, "uar_low": 0.66, "uar_high": 0.74, "war": 0.72}
    expected |= {"war_low": 0.68, "war_high": 0.76, "macro_f1": 0.69, "seconds": 7.0}
    expected |= {"fold_uar_mean": 0.71, "fold_uar_sd": 0.05, "fold_war_mean": 0.73}
    expected |= {"parameters": 106992, "synthetic": False, "warning": ""}
    expected |= {"feature_settings": "null"}
    apart = {"batch_size": expected.pop("batch_size")} | expected.pop("model_options")
    assert {name: row[name] for name in expected} == expected
    assert json.loads(row["settings"]) == apart == {"batch_size": 64, "dilations": 8}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "damaged"),
        (b'{"schema_version": 2, "run_', "damaged"),
        (b"\xff\xfe\x00", "damaged"),
        (b"[]", "not a manifest of schema 2"),
        (b'{"schema_version": 1}', "earlier edition; train the run again"),
        (b'{"schema_version": 2}', "lacks 'config'"),
        (b'{"schema_version": 2, "config": 3}', "damaged"),
        ({"folds": "ten"}, "ten"),
        ({"uar": float("nan")}, "uar is nan"),
        ({"war": 72.0}, "war is 72.0"),
        ({"metrics": {}}, "lacks 'pooled'"),
        ({"status": "finished"}, "'finished'"),
        ({"corpus": None}, "corpus is None"),
    ],
)
def test_a_damaged_or_older_manifest_is_a_row_that_says_so(tmp_path, content, reason):
    if isinstance(content, dict):
        content = json.dumps(make_manifest("odd", **content)).encode()
    write_run(tmp_path, "whole")
    write_run(tmp_path, "odd")
    (tmp_path / "odd" / "run.json").write_bytes(content)
    table = load(tmp_path)
    assert table["status"].to_dict() == {"odd": "damaged", "whole": "done"}
    assert reason in table.loc["odd", "note"] and "run.json" in table.loc["odd", "note"]
    assert overview.finished_runs(tmp_path, "X")["run_id"].tolist() == ["whole"]


def test_unfinished_failed_and_copied_runs_say_so(tmp_path):
    cut = make_manifest("cut", status="running", finished=None)
    del cut["folds"][1]["seconds"], cut["metrics"]
    write_run(tmp_path, "cut", cut)
    write_run(tmp_path, "failed", status="failed", error="the loss is nan")
    with pytest.raises(FileNotFoundError, match="-p corpus EMOVO") as caught:
        overview.finished_runs(tmp_path, "EMOVO")
    assert "there is cut: not finished: 1 of 2 folds" in str(caught.value)
    write_run(tmp_path, "copy", make_manifest("original"))
    table = overview.load_runs(tmp_path)
    notes = table.set_index("run_id")["note"]
    assert notes["failed"] == "failed: the loss is nan"
    assert notes["copy"] == "a copy of original"
    assert table.set_index("run_id")["uar"].isna().sum() == 2
    overview.require_finished(table, "copy", tmp_path)
    with pytest.raises(ValueError, match="the loss is nan"):
        overview.require_finished(table, "failed", tmp_path)
    with pytest.raises(ValueError, match="no run 'faild' among 3 runs.*mean 'failed'"):
        overview.require_finished(table, "faild", tmp_path)


def test_no_results_are_an_empty_table_that_still_works(tmp_path):
    table = overview.load_runs(tmp_path / "Results")
    assert table.empty and overview.seeds_summary(table).empty
    overview.write_leaderboard(tmp_path / "board.csv", table)
    assert "uar" in pd.read_csv(tmp_path / "board.csv").columns
    with pytest.raises(FileNotFoundError, match="no finished run in"):
        overview.finished_runs(tmp_path, "DEMO")


def test_the_leaderboard_is_sorted_by_corpus_honesty_and_uar(tmp_path):
    assert set(overview.HONESTY) == set(protocols.PROTOCOLS)
    leaks = [protocols.PROTOCOLS[name].leaks for name in overview.HONESTY]
    apart = [not protocols.PROTOCOLS[name].speakers_apart for name in overview.HONESTY]
    assert leaks == sorted(leaks) and apart == sorted(apart)
    write_run(tmp_path, "a", protocol="paper_best", uar=0.95)
    write_run(tmp_path, "b", uar=0.6)
    write_run(tmp_path, "c", uar=0.65)
    write_run(tmp_path, "d", corpus="CASIA", uar=0.1)
    write_run(tmp_path, "e", protocol="paper", uar=0.9)
    write_run(tmp_path, "f", status="failed", uar=0.99)
    overview.write_leaderboard(tmp_path / "board.csv", overview.load_runs(tmp_path))
    written = pd.read_csv(tmp_path / "board.csv")
    assert "".join(written["run_id"]) == "dcbea"
    assert written["uar"].tolist() == [0.10, 0.65, 0.60, 0.90, 0.95]
    board = overview.finished_runs(tmp_path, "EMODB")
    names, sentence = overview.corpora_to_show(board, "EMODB")
    assert names == ["EMODB"] and "CASIA" in sentence
    names, sentence = overview.corpora_to_show(board, "RAVDESS")
    assert names == ["CASIA", "EMODB"] and "no finished run of RAVDESS" in sentence


def test_seeds_are_summed_up_where_all_else_is_equal(tmp_path):
    scores = {1: 0.60, 2: 0.66, 3: 0.75}
    for seed, uar in scores.items():
        write_run(tmp_path, f"s{seed}", seed=seed, uar=uar)
    write_run(tmp_path, "s2-copy", seed=2, uar=0.1, finished="2024-01-01T00:00:00")
    write_run(tmp_path, "options", seed=1, model_options={"dilations": 6})
    write_run(tmp_path, "batch", seed=2, batch_size=32)
    write_run(tmp_path, "running", seed=4, uar=0.1, status="running")
    summary = overview.seeds_summary(overview.load_runs(tmp_path)).sort_values("runs")
    assert summary["runs"].tolist() == [1, 1, 3]
    assert summary["uar_sd"].isna().tolist() == [True, True, False]
    group = summary.iloc[2]
    assert group["seeds"] == "1 2 3"
    assert group["uar_mean"] == pytest.approx(statistics.mean(scores.values()))
    assert group["uar_sd"] == pytest.approx(statistics.stdev(scores.values()))


def test_a_name_says_only_what_differs(tmp_path):
    def names():
        board = overview.finished_runs(tmp_path, "EMODB")
        board.index = board["run_id"]
        return overview.short_names(board).to_dict()

    write_run(tmp_path, "one")
    assert names() == {"one": "timnet, seed 46"}
    write_run(tmp_path, "two", model_options={"dilations": 3}, epochs=4)
    write_run(tmp_path, "other", corpus="SAVEE", epochs=7, folds=5)
    write_run(tmp_path, "official", kind="official weights", epochs=None)
    one = "timnet, 500 epochs, dilations 8"
    assert names() == {
        "one": f"{one}, seed 46",
        "two": "timnet, 4 epochs, dilations 3, seed 46",
        "other": "timnet, seed 46",
        "official": "timnet, official weights, seed 46",
    }
    # Folds are named where they differ under one protocol.
    write_run(tmp_path, "random", protocol="paper", folds=10)
    assert names()["random"] == f"{one}, seed 46"
    write_run(tmp_path, "five", protocol="paper", folds=5)
    assert names()["five"] == f"{one}, 5 folds, seed 46"
    # What no setting tells apart is told apart by the end of the run id.
    write_run(tmp_path, "x-01234567")
    assert names()["x-01234567"] == f"{one}, seed 46 (01234567)"
