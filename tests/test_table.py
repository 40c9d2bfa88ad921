import json
import math
import shlex
import statistics

import pandas as pd
import pytest

from lib import config, protocols, training
from lib.runs import table

WHOLE = {"expected": 9, "found": 9, "used": 9, "dropped": {}, "problems": []}
APART = {"speakers": ["01"]}, {"speakers": ["02"]}


def make_manifest(run_id, **changes):
    """Return a manifest; `changes` go to the part that knows them."""
    configuration = {
        "corpus": "EMODB",
        "features": "timnet",
        "feature_settings": {"hop_samples": 512},
        "model": "timnet",
        "model_options": {"dilations": 8},
        "protocol": "speaker",
        "folds": 2,
        "seed": 46,
        "epochs": 500,
        "batch_size": 64,
    }
    pooled = {"uar": 0.7, "war": 0.72, "macro_f1": 0.69}
    pooled |= {"uar_interval": [0.66, 0.74], "war_interval": [0.68, 0.76]}
    document = {
        "schema_version": 2,
        "run_id": run_id,
        "status": "done",
        "finished": "2025-03-01T10:00:00+00:00",
        "synthetic": False,
        "kind": "trained",
        "parameters": 106992,
        "config": configuration,
        "data": {"label_names": ["a", "b"], "audit": dict(WHOLE)},
        "folds": [
            {"fold": 1, "train": APART[0], "test": APART[1], "seconds": 3.5}
            | {"chosen_on": "validation"},
            {"fold": 2, "train": APART[1], "test": APART[0], "seconds": 4.0}
            | {"chosen_on": "validation"},
        ],
        "metrics": {
            "pooled": pooled,
            "per_fold": [],
            "mean": {"uar": 0.71, "war": 0.73, "macro_f1": 0.7},
            "sd": {"uar": 0.05, "war": 0.06, "macro_f1": 0.05},
        },
        "artefacts": [],
    }
    for name, value in changes.items():
        for part in (configuration, pooled):
            if name in part:
                part[name] = value
                break
        else:
            document[name] = value
    return document


def write_run(results, run_id, **changes):
    folder = results / run_id
    folder.mkdir(parents=True)
    document = make_manifest(run_id, **changes)
    (folder / "run.json").write_text(json.dumps(document))
    return run_id


def only(results):
    (row,) = table.load_runs(results).to_dict("records")
    return row


def test_a_finished_run_is_a_row_with_all_its_figures(tmp_path):
    write_run(tmp_path, "one", synthetic=True)
    row = only(tmp_path)
    expected = {
        "run_id": "one",
        "corpus": "EMODB",
        "features": "timnet",
        "model": "timnet",
        "protocol": "speaker",
        "folds": 2,
        "seed": 46,
        "epochs": 500,
        "status": "done",
        "synthetic": True,
        "uar": 0.7,
        "uar_low": 0.66,
        "uar_high": 0.74,
        "war": 0.72,
        "war_low": 0.68,
        "war_high": 0.76,
        "macro_f1": 0.69,
        "fold_uar_mean": 0.71,
        "fold_uar_sd": 0.05,
        "fold_war_mean": 0.73,
        "fold_war_sd": 0.06,
        "parameters": 106992,
        "seconds": 7.5,
        "finished": "2025-03-01T10:00:00+00:00",
        "note": "",
        "warning": "synthetic audio",
    }
    assert {name: row[name] for name in expected} == expected
    assert json.loads(row["settings"]) == {"batch_size": 64, "dilations": 8}


def test_no_results_are_an_empty_table_that_still_works(tmp_path):
    runs = table.load_runs(tmp_path / "Results")
    assert len(runs) == 0 and "uar" in runs.columns
    assert len(table.leaderboard(runs)) == 0
    assert len(table.seeds_summary(runs)) == 0
    table.write_leaderboard(tmp_path / "leaderboard.csv", runs)
    assert len(pd.read_csv(tmp_path / "leaderboard.csv")) == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "damaged"),
        (b'{"schema_version": 2, "run_', "damaged"),
        (b"\xff\xfe\x00", "damaged"),
        (b"[]", "schema"),
        (b'{"schema_version": 1}', "earlier edition"),
        (b'{"schema_version": 2}', "lacks 'config'"),
        (b'{"schema_version": 2, "config": 3}', "damaged"),
    ],
)
def test_a_damaged_manifest_is_a_row_that_says_so(tmp_path, content, reason):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_bytes(content)
    write_run(tmp_path, "whole")
    runs = table.load_runs(tmp_path).set_index("run_id")
    assert runs.loc["broken", "status"] == "damaged"
    assert reason in runs.loc["broken", "note"]
    assert "run.json" in runs.loc["broken", "note"]
    assert runs.loc["whole", "status"] == "done"
    assert table.leaderboard(table.load_runs(tmp_path))["run_id"].tolist() == ["whole"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"folds": "ten"}, "ten"),
        ({"uar": float("nan")}, "uar is nan"),
        ({"war": 72.0}, "war is 72.0"),
        ({"metrics": {}}, "lacks 'pooled'"),
        ({"status": "finished"}, "'finished'"),
        ({"corpus": None}, "corpus is None"),
    ],
)
def test_a_manifest_with_impossible_values_is_damaged(tmp_path, changes, reason):
    write_run(tmp_path, "odd", **changes)
    row = only(tmp_path)
    assert row["status"] == "damaged"
    assert reason in row["note"]


def test_unfinished_and_failed_runs_say_why_they_are_left_out(tmp_path):
    folds = make_manifest("x")["folds"]
    del folds[1]["seconds"]
    document = make_manifest("cut", status="running", finished=None)
    document["folds"] = folds
    del document["metrics"]
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "run.json").write_text(json.dumps(document))
    write_run(tmp_path, "failed", status="failed", error="the loss is nan")
    runs = table.load_runs(tmp_path).set_index("run_id")
    assert "1 of 2 folds" in runs.loc["cut", "note"]
    assert "the loss is nan" in runs.loc["failed", "note"]
    assert math.isnan(runs.loc["cut", "uar"]) and math.isnan(runs.loc["failed", "uar"])
    assert len(table.leaderboard(runs.reset_index())) == 0


def test_a_copied_folder_is_named_as_the_copy_it_is(tmp_path):
    write_run(tmp_path, "copy")
    document = make_manifest("original")
    (tmp_path / "copy" / "run.json").write_text(json.dumps(document))
    row = only(tmp_path)
    assert (row["run_id"], row["note"]) == ("copy", "a copy of original")


def test_only_one_level_of_folders_is_read(tmp_path):
    write_run(tmp_path, "one")
    write_run(tmp_path / "archive", "old")
    (tmp_path / "demo").mkdir()
    assert table.load_runs(tmp_path)["run_id"].tolist() == ["one"]


def test_warnings_come_from_the_folds(tmp_path):
    shared = [
        {"fold": 1, "chosen_on": "test", "seconds": 1.0}
        | {"train": {"speakers": ["01", "02"]}, "test": {"speakers": ["02"]}}
    ]
    nameless = [
        {"fold": 1, "chosen_on": "last", "seconds": 1.0}
        | {"train": {"speakers": [""]}, "test": {"speakers": [""]}}
    ]
    for name, folds in (("apart", None), ("shared", shared), ("nameless", nameless)):
        write_run(tmp_path, name)
        if folds:
            document = make_manifest(name)
            document["folds"] = folds
            (tmp_path / name / "run.json").write_text(json.dumps(document))
    warnings = table.load_runs(tmp_path).set_index("run_id")["warning"]
    assert warnings["apart"] == ""
    assert warnings["shared"] == "epoch chosen on the test fold; speakers shared"
    assert warnings["nameless"] == "speakers unknown"


def test_an_interval_of_few_speakers_is_marked(tmp_path):
    for name, reliable in (("few", False), ("many", True)):
        pooled = make_manifest(name)["metrics"]["pooled"]
        metrics = make_manifest(name)["metrics"] | {
            "pooled": pooled | {"interval": {"reliable": reliable}}
        }
        write_run(tmp_path, name, metrics=metrics)
    warnings = table.load_runs(tmp_path).set_index("run_id")["warning"]
    assert warnings.to_dict() == {"few": "interval indicative only", "many": ""}


def test_honesty_knows_every_protocol_and_puts_leaks_last():
    assert set(table.HONESTY) == set(protocols.PROTOCOLS)
    leaks = [protocols.PROTOCOLS[name].leaks for name in table.HONESTY]
    assert leaks == sorted(leaks)
    apart = [protocols.PROTOCOLS[name].speakers_apart for name in table.HONESTY]
    assert apart == sorted(apart, reverse=True)


def test_leaderboard_is_sorted_by_corpus_honesty_and_uar(tmp_path):
    write_run(tmp_path, "a", protocol="paper_best", uar=0.95)
    write_run(tmp_path, "b", protocol="speaker", uar=0.60)
    write_run(tmp_path, "c", protocol="speaker", uar=0.65)
    write_run(tmp_path, "d", corpus="CASIA", uar=0.10)
    write_run(tmp_path, "e", protocol="paper", uar=0.90)
    write_run(tmp_path, "f", protocol="speaker", uar=0.99, status="failed")
    runs = table.load_runs(tmp_path)
    assert table.leaderboard(runs)["run_id"].tolist() == ["d", "c", "b", "e", "a"]
    table.write_leaderboard(tmp_path / "leaderboard.csv", runs)
    written = pd.read_csv(tmp_path / "leaderboard.csv")
    assert written["run_id"].tolist() == ["d", "c", "b", "e", "a"]
    assert written["uar"].tolist() == [0.10, 0.65, 0.60, 0.90, 0.95]
    assert list(tmp_path.glob(".partial-*")) == []


def test_seeds_summary_groups_runs_that_differ_by_their_seed_alone(tmp_path):
    scores = {1: 0.60, 2: 0.66, 3: 0.75}
    for seed, uar in scores.items():
        write_run(tmp_path, f"s{seed}", seed=seed, uar=uar)
    write_run(tmp_path, "s2-copy", seed=2, uar=0.66)
    write_run(tmp_path, "options", seed=1, uar=0.2, model_options={"dilations": 6})
    write_run(tmp_path, "batch", seed=2, uar=0.3, batch_size=32)
    write_run(tmp_path, "running", seed=4, uar=0.1, status="running")
    summary = table.seeds_summary(table.load_runs(tmp_path))
    assert sorted(summary["runs"].tolist()) == [1, 1, 3]
    group = summary[summary["runs"] == 3].iloc[0]
    assert group["seeds"] == "1 2 3"
    assert group["uar_mean"] == pytest.approx(statistics.mean(scores.values()))
    assert group["uar_sd"] == pytest.approx(statistics.stdev(scores.values()))
    assert summary[summary["runs"] == 1]["uar_sd"].isna().all()


def found(root, **given):
    """Return the id of the run that notebooks 03 and 04 would take."""
    params = config.validated({"workspace": str(root), "corpus": "EMODB"} | given)
    return training.find_run(params)[0].run_id


def test_the_newest_run_goes_by_time_not_by_name(tmp_path):
    for name, finished, given in (
        ("z-old", "2025-01-01T00:00:00+00:00", {}),
        # 23:30 at +02:00 is before 22:00 at UTC, although the text sorts after it.
        ("a-new", "2025-02-01T22:00:00+00:00", {"seed": 1}),
        ("m", "2025-02-01T23:30:00+02:00", {"seed": 2}),
        ("newer", "2025-05-01T00:00:00+00:00", {"corpus": "SAVEE"}),
        ("cut", "2025-06-01T00:00:00+00:00", {"status": "running"}),
        ("foreign", "2025-07-01T00:00:00+00:00", {"kind": "tested"}),
    ):
        write_run(tmp_path / "Results", name, finished=finished, **given)
    assert found(tmp_path) == "a-new"
    assert found(tmp_path, seed=2) == "m"
    assert found(tmp_path, seed=46, epochs=500) == "z-old"


def test_without_a_finished_run_the_way_to_one_is_named(tmp_path):
    results = tmp_path / "Results"
    with pytest.raises(FileNotFoundError, match="02_train.*-p corpus EMOVO"):
        table.finished_runs(results, "EMOVO")
    write_run(results, "cut", status="running")
    with pytest.raises(FileNotFoundError, match="cut: not finished"):
        table.finished_runs(results, "EMOVO")
    write_run(results, "one")
    assert table.finished_runs(results, "EMOVO")["run_id"].tolist() == ["one"]


def test_the_corpus_asked_for_is_shown_or_those_that_have_runs(tmp_path):
    write_run(tmp_path, "a")
    write_run(tmp_path, "b", corpus="SAVEE")
    board = table.leaderboard(table.load_runs(tmp_path))
    names, sentence = table.corpora_to_show(board, "SAVEE")
    assert names == ["SAVEE"] and "EMODB" in sentence
    names, sentence = table.corpora_to_show(board, "RAVDESS")
    assert names == ["EMODB", "SAVEE"] and "no finished run of RAVDESS" in sentence


def test_nothing_found_names_the_closest_and_a_command_that_is_valid(tmp_path):
    results = tmp_path / "Results"
    write_run(results, "near", protocol="paper")
    write_run(results, "far", protocol="paper", corpus="SAVEE", model="svm")
    write_run(results, "cut", status="running")
    asked = {"model": "timnet", "protocol": "speaker", "seed": 46, "model_options": {}}
    with pytest.raises(FileNotFoundError) as caught:
        found(tmp_path, **asked)
    lines = str(caught.value).splitlines()
    assert "corpus EMODB" in lines[0] and "protocol speaker" in lines[0]
    assert [line.split()[2] for line in lines[1:4]] == ["cut:", "near:", "far:"]
    assert "not finished" in lines[1] and "protocol paper" in lines[2]
    words = shlex.split(lines[-1].split(": ", 1)[1])
    assert words[0] == "papermill" and "notebooks/02_train.ipynb" in words
    values = {
        words[i + 1]: words[i + 2] for i, word in enumerate(words) if word == "-r"
    }
    values |= {"seed": int(words[words.index("seed") + 1])}
    params = config.validated(values)
    assert (params.corpus, params.protocol, params.seed) == ("EMODB", "speaker", 46)
    assert params.folders.results == results


def test_nothing_found_where_there_is_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match="there are no runs yet"):
        found(tmp_path)


def test_a_run_id_that_is_given_is_taken_or_refused(tmp_path):
    good, bad = "EMODB-timnet-speaker-s46-01234567", "SAVEE-timnet-paper-s1-89abcdef"
    write_run(tmp_path / "Results", good)
    write_run(tmp_path / "Results", bad, status="failed", error="oops")
    assert found(tmp_path, run_id=good) == good
    with pytest.raises(ValueError, match=f"did you mean '{good}'"):
        found(tmp_path, run_id=good[:-1])
    with pytest.raises(ValueError, match="oops"):
        found(tmp_path, run_id=bad)
    with pytest.raises(ValueError, match="has protocol speaker"):
        found(tmp_path, run_id=good, protocol="paper")
