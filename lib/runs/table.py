"""All runs in one table: who is best, how much a seed matters, which run is newest."""

from __future__ import annotations

import difflib
from pathlib import Path

import pandas as pd

from lib import files
from lib.runs.rows import load_runs

__all__ = [
    "HONESTY",
    "corpora_to_show",
    "finished_runs",
    "leaderboard",
    "load_runs",
    "require_finished",
    "seeds_summary",
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
        corpus: Corpus that the message names.

    Raises:
        FileNotFoundError: If no run is finished; the message names those that are
            not.
    """
    runs = load_runs(results)
    board = leaderboard(runs)
    if board.empty:
        lines = [f"no finished run in {results}."]
        lines += [f"  there is {row.run_id}: {row.note}" for row in runs.itertuples()]
        lines.append(f"Run 02_train first, for instance with -p corpus {corpus}.")
        raise FileNotFoundError("\n".join(lines))
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
    files.write_text(target, table.to_csv(index=False, lineterminator="\n"))


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


def require_finished(runs: pd.DataFrame, run_id: str, results: Path) -> None:
    """Raise ValueError unless a run that the user names is there and finished."""
    known = dict(zip(runs["run_id"], runs["status"], strict=True))
    if run_id not in known:
        near = difflib.get_close_matches(run_id, known, n=1, cutoff=0.5)
        hint = f" – did you mean '{near[0]}'?" if near else ""
        there = f"{len(known)} runs" if known else "no runs"
        raise ValueError(f"there is no run '{run_id}' among {there} in {results}{hint}")
    if known[run_id] != "done":
        note = runs.loc[runs["run_id"] == run_id, "note"].iloc[0]
        raise ValueError(f"run '{run_id}' cannot be used: {note}")
