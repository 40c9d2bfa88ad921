"""All runs in one table: who is best, how much a seed matters, which run is newest."""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lib import paths
from lib.runs.rows import load_runs

__all__ = [
    "HONESTY",
    "corpora_to_show",
    "finished_runs",
    "leaderboard",
    "load_runs",
    "newest_run",
    "seeds_summary",
    "train_command",
    "write_leaderboard",
]

# From the question that matters (a speaker never heard) down to the leaks.
HONESTY = (
    "speaker",
    "text",
    "stratified",
    "paper",
    "holdout",
    "repeated_holdout",
    "paper_best",
)
_LEADERBOARD = (
    "corpus model protocol uar uar_low uar_high war war_low war_high macro_f1 "
    "fold_uar_mean fold_uar_sd fold_war_mean fold_war_sd features folds seed epochs "
    "parameters seconds finished synthetic warning run_id"
).split()


def leaderboard(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the finished runs by corpus, honesty of the protocol, and UAR.

    Args:
        runs: What `load_runs` returned.

    Returns:
        The same columns, best first inside a corpus and protocol.
    """
    done = runs[runs["status"] == "done"]
    order = done["protocol"].map({name: rank for rank, name in enumerate(HONESTY)})
    ranked = done.assign(_order=order.fillna(len(HONESTY)), _worse=-done["uar"])
    keys = ["corpus", "_order", "protocol", "_worse", "run_id"]
    return (
        ranked.sort_values(keys)
        .drop(columns=["_order", "_worse"])
        .reset_index(drop=True)
    )


def finished_runs(results: Path, corpus: str) -> pd.DataFrame:
    """Return the leaderboard of all corpora, which has at least one run.

    Args:
        results: The folder of all runs.
        corpus: Corpus that the command in the message trains.

    Raises:
        FileNotFoundError: If no run is finished; the message names the runs that
            are not, and the command that makes one.
    """
    runs = load_runs(results)
    board = leaderboard(runs)
    if board.empty:
        fits = (runs["corpus"] == corpus).astype(int)
        raise FileNotFoundError(
            _nothing_found(runs, fits, {"corpus": corpus}, Path(results))
        )
    return board


def corpora_to_show(board: pd.DataFrame, corpus: str) -> tuple[list[str], str]:
    """Return the corpora that a closer look is about, and a sentence on why.

    Args:
        board: What `finished_runs` returned.
        corpus: The corpus that was asked for; without a finished run of it, all
            that have one take its place.
    """
    there = list(dict.fromkeys(board["corpus"]))
    named = ", ".join(there)
    if corpus in there:
        others = [name for name in there if name != corpus]
        more = f" There are also runs of {', '.join(others)}." if others else ""
        return [corpus], f"The sections below are about {corpus}.{more}"
    return there, f"There is no finished run of {corpus}: you see {named} instead."


def write_leaderboard(target: Path, runs: pd.DataFrame) -> None:
    """Write the leaderboard as CSV, atomically; scores are fractions."""
    table = leaderboard(runs)[_LEADERBOARD]
    paths.write_text(target, table.to_csv(index=False, lineterminator="\n"))


def seeds_summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Return mean and sd over seeds of runs that are equal otherwise.

    Args:
        runs: What `load_runs` returned; unfinished runs are left out, and of
            copies of a run the newest counts.

    Returns:
        One row a configuration: `runs` (their number), `seeds`, and mean and
        sample sd (empty for one run) of pooled UAR, WAR and macro F1.
    """
    same = ["corpus", "features", "model", "protocol", "folds", "epochs"]
    done = leaderboard(runs).sort_values("finished", kind="stable")
    done = done.drop_duplicates(["configuration", "seed"], keep="last")
    groups = done.sort_values("seed").groupby([*same, "configuration"], dropna=False)
    named = {
        f"{score}_{statistic}": (score, kind)
        for score in ("uar", "war", "macro_f1")
        for statistic, kind in (("mean", "mean"), ("sd", "std"))
    }
    seeds = ("seed", lambda column: " ".join(map(str, column)))
    return groups.agg(runs=("seed", "size"), seeds=seeds, **named).reset_index()


def newest_run(
    results: Path,
    *,
    corpus: str,
    model: str,
    protocol: str = "",
    run_id: str = "",
    features: str = "",
    folds: int = 0,
    epochs: int = 0,
    seed: int | None = None,
) -> str:
    """Return the newest finished run that was trained as described.

    Args:
        results: The folder of all runs.
        corpus: Corpus of the run.
        model: System of the run.
        protocol: Protocol of the run; "" for any.
        run_id: A run to use whatever the rest says; it has to be finished.
        features: Feature preset; "" for any.
        folds: Number of folds; 0 for any.
        epochs: Number of epochs; 0 for any.
        seed: Seed; None for any.

    Returns:
        Its id, the name of its folders.

    Raises:
        ValueError: If `run_id` is given and there is no such finished run.
        FileNotFoundError: If no finished run matches; the message names what
            there is, closest first, and the command that makes one.
    """
    runs = load_runs(results)
    if run_id:
        return _named_run(runs, run_id, results)
    wanted = {"corpus": corpus, "model": model, "protocol": protocol or None}
    wanted |= {"features": features or None, "folds": folds or None}
    wanted |= {"epochs": epochs or None, "seed": seed}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    trained = runs[runs["kind"] == "trained"]
    hits = sum((trained[name] == value).fillna(False) for name, value in wanted.items())
    matching = trained[(hits == len(wanted)) & (trained["status"] == "done")]
    if matching.empty:
        raise FileNotFoundError(_nothing_found(trained, hits, wanted, Path(results)))
    times = pd.to_datetime(
        matching["finished"], utc=True, format="ISO8601", errors="coerce"
    )
    return (
        matching.assign(_time=times)
        .sort_values(["_time", "run_id"], na_position="first")["run_id"]
        .iloc[-1]
    )


def _named_run(runs: pd.DataFrame, run_id: str, results: Path) -> str:
    """Return an id that the user gave, if that run is there and finished."""
    known = dict(zip(runs["run_id"], runs["status"], strict=True))
    if run_id not in known:
        near = difflib.get_close_matches(run_id, known, n=1, cutoff=0.5)
        hint = f" – did you mean '{near[0]}'?" if near else ""
        there = f"{len(known)} runs" if known else "no runs"
        raise ValueError(f"there is no run '{run_id}' among {there} in {results}{hint}")
    if known[run_id] != "done":
        note = runs.loc[runs["run_id"] == run_id, "note"].iloc[0]
        raise ValueError(f"run '{run_id}' cannot be used: {note}")
    return run_id


def _nothing_found(
    runs: pd.DataFrame, hits: pd.Series, wanted: Mapping[str, Any], results: Path
) -> str:
    """Return what was looked for, what there is, and how to make it."""
    looked = ", ".join(f"{name} {value}" for name, value in wanted.items())
    lines = [f"no finished run with {looked} in {results}."]
    near = runs.assign(_hits=hits).sort_values("_hits", ascending=False, kind="stable")
    closest = near[near["status"] != "damaged"].head(3)
    for row in closest.to_dict("records"):
        differs = [
            f"{name} {row[name]}"
            for name, value in wanted.items()
            if str(row[name]) != str(value)
        ]
        reasons = "; ".join(filter(None, [", ".join(differs), row["note"]]))
        lines.append(f"  there is {row['run_id']}: {reasons}")
    if closest.empty:
        lines.append("  there are no runs yet.")
    lines.append(
        f"Make it, from the folder of the workbook: {train_command(wanted, results)}"
    )
    return "\n".join(lines)


def train_command(parameters: Mapping[str, Any], results: Path) -> str:
    """Return the papermill command that trains with these parameters.

    Args:
        parameters: Parameters of 02_train; mappings are handed over as JSON.
        results: The folder of all runs, from which the workspace follows.
    """
    given = dict(parameters)
    if Path(results).resolve().parent != paths.REPOSITORY:
        given["workspace"] = str(Path(results).resolve().parent)
    notebook = "notebooks/02_train.ipynb"
    words = ["papermill", "--cwd", "notebooks", notebook, "Results/02_train.ipynb"]
    for name, value in given.items():
        if isinstance(value, Mapping):
            words += ["-y", json.dumps({name: value})]
        else:
            words += ["-p", name, str(value)]
    return shlex.join(words)
