"""All runs of a workspace as one table, and the tables made of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lib import config, files
from lib.runs import caveats, read_manifest

# From the question that matters (a speaker never heard) down to the leaks.
HONESTY = "speaker text stratified paper holdout repeated_holdout paper_best".split()
LEADERBOARD = (
    "corpus model protocol uar uar_low uar_high war war_low war_high macro_f1 "
    "fold_uar_mean fold_uar_sd fold_war_mean fold_war_sd features folds seed epochs "
    "parameters seconds finished synthetic warning run_id"
).split()
TEXTS = (
    "corpus model protocol features finished warning run_id status note kind "
    "configuration data settings feature_settings"
).split()
KINDS = dict.fromkeys(LEADERBOARD, float) | dict.fromkeys(TEXTS, str)
KINDS |= dict.fromkeys(("folds", "seed", "epochs", "parameters"), int)
KINDS["synthetic"] = bool
TYPES = {str: "str", int: "Int64", bool: "boolean", float: "float64"}  # of pandas
OWN_COLUMNS = "corpus features model protocol folds seed epochs".split()
NOT_SETTINGS = {*OWN_COLUMNS, "feature_settings", "model_options"}
NOT_SETTINGS |= {"data_sha256", "folds_sha256"}
# What is the same for the same system on the same data.
SAME = "corpus features model epochs data settings feature_settings".split()


def load_runs(results: Path) -> pd.DataFrame:
    """Return one row for every `Results/<run_id>/run.json`; there may be none.

    `note` says why a run is not in the leaderboard, `warning` what spoils its score.
    `configuration` is the same for runs that differ by their seed alone, `data` for
    the same recordings, labels and speakers.
    """
    rows = [_row(path) for path in sorted(Path(results).glob("*/run.json"))]
    types = {name: TYPES[kind] for name, kind in KINDS.items()}
    return pd.DataFrame(rows, columns=[*KINDS]).astype(types)


def _row(path: Path) -> dict[str, Any]:
    """Return the row of one manifest; a damaged one says so in its row."""
    row = dict.fromkeys(TEXTS, "") | {"run_id": path.parent.name, "status": "damaged"}
    try:
        found = _facts(read_manifest(path), path.parent.name)
        for name, value in found.items():
            if KINDS[name] is str and not isinstance(value, str):
                raise TypeError(f"its {name} is {value!r}")
            found[name] = value if value is None else KINDS[name](value)
        return row | found
    except (OSError, ValueError, TypeError, AttributeError, LookupError) as error:
        message = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
    there = "" if str(path) in message else f"{path} is damaged: "
    return row | {"note": there + message}


def _facts(document: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Return what a run is, how far it got, and its scores if it is done."""
    given, folds, status = document["config"], document["folds"], document["status"]
    trained = sum("seconds" in fold for fold in folds)
    notes = {
        "done": "",
        "failed": f"failed: {document.get('error') or 'no reason was recorded'}",
        "running": f"not finished: {trained} of {len(folds)} folds; 02_train goes on",
    }
    if status not in notes:
        raise ValueError(f"its status is {status!r}")
    copy = "" if document["run_id"] == folder else f"a copy of {document['run_id']}"
    settings = {key: given[key] for key in given if key not in NOT_SETTINGS}
    settings |= given.get("model_options") or {}
    facts = {name: given[name] for name in OWN_COLUMNS} | {
        "status": status,
        "synthetic": document["synthetic"],
        "parameters": document.get("parameters"),
        "seconds": math.fsum(fold.get("seconds") or 0.0 for fold in folds),
        "finished": document.get("finished") or "",
        "kind": document.get("kind", "trained"),
        "note": "; ".join(filter(None, [notes[status], copy])),
        "warning": "; ".join(caveats(document)),
        "data": document["data"].get("sha256", "")[:6],
        "settings": json.dumps(settings, sort_keys=True),
        "feature_settings": json.dumps(given.get("feature_settings"), sort_keys=True),
    }
    alike = [facts[name] for name in (*SAME, "protocol", "folds")]
    facts["configuration"] = config.digest(alike)
    if status != "done":
        return facts
    scores, pooled = document["metrics"], document["metrics"]["pooled"]
    for name in ("uar", "war", "macro_f1"):
        facts[name] = float(pooled[name])
        if not 0 <= facts[name] <= 1:
            raise ValueError(f"its {name} is {facts[name]}")
    for name in ("uar", "war"):
        low, high = pooled.get(f"{name}_interval") or (None, None)
        facts |= {f"{name}_low": low, f"{name}_high": high}
        facts[f"fold_{name}_mean"] = scores["mean"][name]
        facts[f"fold_{name}_sd"] = scores["sd"].get(name)
    return facts


def leaderboard(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the finished runs by corpus, honesty of the protocol, and UAR."""
    done = runs[runs["status"] == "done"]
    order = done["protocol"].map({name: rank for rank, name in enumerate(HONESTY)})
    ranked = done.assign(order=order, worse=-done["uar"]).sort_values(
        ["corpus", "order", "protocol", "worse", "run_id"]
    )
    return ranked[done.columns].reset_index(drop=True)


def finished_runs(results: Path, corpus: str) -> pd.DataFrame:
    """Return the leaderboard of all corpora; an error names what else is there."""
    runs = load_runs(results)
    board = leaderboard(runs)
    if board.empty:
        there = "\n  there is " + runs["run_id"] + ": " + runs["note"]
        raise FileNotFoundError(
            f"no finished run in {results}.{''.join(there)}\n"
            f"Run 02_train first, for instance with -p corpus {corpus}."
        )
    return board


def corpora_to_show(board: pd.DataFrame, corpus: str) -> tuple[list[str], str]:
    """Return `corpus`, or all if it has no finished run, and a sentence on why."""
    there = [*board["corpus"].unique()]
    others = ", ".join(name for name in there if name != corpus)
    if corpus not in there:
        return there, f"There is no finished run of {corpus}: you see {others} instead."
    more = f" There are also runs of {others}." if others else ""
    return [corpus], f"The sections below are about {corpus}.{more}"


def write_leaderboard(target: Path, runs: pd.DataFrame) -> None:
    """Write the leaderboard as CSV, atomically; scores are fractions."""
    table = leaderboard(runs)[LEADERBOARD]
    files.write_text(target, table.to_csv(index=False, lineterminator="\n"))


def newest(board: pd.DataFrame) -> pd.DataFrame:
    """Return one run of each configuration and seed: of copies the newest."""
    last = board.sort_values("finished", kind="stable")
    last = last.drop_duplicates(["configuration", "seed"], keep="last")
    return board[board.index.isin(last.index)]


def seeds_summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Return number of runs, mean and sample sd over seeds of each configuration."""
    done = newest(leaderboard(runs)).sort_values("seed")
    same = "corpus features model protocol folds epochs configuration".split()
    groups = done.assign(seeds=done["seed"].astype(str)).groupby(same, dropna=False)
    table = groups.agg(runs=("seed", "size"), seeds=("seeds", " ".join))
    for score in ("uar", "war", "macro_f1"):
        table[f"{score}_mean"] = groups[score].mean()
        table[f"{score}_sd"] = groups[score].std()
    return table.reset_index()


def require_finished(runs: pd.DataFrame, run_id: str, results: Path) -> None:
    """Raise ValueError unless a run that the user names is there and finished."""
    named = runs[runs["run_id"] == run_id]
    if named.empty:
        near = config.did_you_mean(run_id, runs["run_id"])
        there = f"{len(runs)} runs in {results}{near}"
        raise ValueError(f"there is no run '{run_id}' among {there}")
    if named["status"].item() != "done":
        raise ValueError(f"run '{run_id}' cannot be used: {named['note'].item()}")


def system_names(board: pd.DataFrame) -> pd.Series:
    """Return the names of the runs' systems, without their seeds.

    A setting is named where the runs of a corpus and model differ in it, the number of
    folds only where they differ under one protocol: "timnet, 4 epochs, dilations 3".
    """
    settings = [json.loads(text or "{}") for text in board["settings"]]
    table = pd.DataFrame(
        [{k: f"{k.replace('_', ' ')} {v}" for k, v in s.items()} for s in settings],
        index=board.index,
    )
    epochs = board["epochs"].map("{} epochs".format, na_action="ignore")
    table.insert(0, "epochs", epochs)
    table.insert(0, "features", "features " + board["features"])
    table.insert(0, "data", "data " + board["data"])
    table["folds"] = board["folds"].map("{} folds".format)
    systems = [board["corpus"], board["model"], board["kind"]]
    differs = table.groupby(systems).transform("nunique") > 1
    same = table["folds"].groupby([*systems, board["protocol"]]).transform("nunique")
    differs["folds"] = same > 1
    kind = ", " + board["kind"]
    table.insert(0, "model", board["model"] + kind.where(kind != ", trained", ""))
    named = table.where(differs.assign(model=True)).to_numpy()
    names = [", ".join(part for part in row if isinstance(part, str)) for row in named]
    return pd.Series(names, board.index, dtype="object")


def short_names(board: pd.DataFrame) -> pd.Series:
    """Return a name for every run, unique inside its corpus and protocol."""
    names = system_names(board) + board["seed"].map(", seed {}".format).astype("object")
    keys = [board["corpus"], board["protocol"], names]
    several = names.groupby(keys).transform("size") > 1
    return names.where(~several, names + " (" + board["run_id"].str[-8:] + ")")
