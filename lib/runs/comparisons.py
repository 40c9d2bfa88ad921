"""Runs against each other, on the utterances that both have tested."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lib import config, metrics
from lib.protocols import PROTOCOLS
from lib.runs import manifest
from lib.runs import predictions as predictions_file
from lib.runs.names import system_names
from lib.runs.table import HONESTY

_COLUMNS = (
    "corpus protocol system first second difference low high reliable speakers "
    "sign_flip_p smallest_p holm_p mcnemar_p only_first only_second note"
).split()
_NOT_THE_SYSTEM = ("protocol", "folds", "folds_sha256", "seed")


@dataclasses.dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        name: What is compared, as a reader would call it.
        run_ids: Its runs; several are seeds, whose answers are averaged.
    """

    name: str
    run_ids: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two sides on the same utterances; positive differences favour the first.

    Attributes:
        corpus: Their corpus.
        protocol: Their protocol, or both where they differ.
        system: What both sides are where only the protocol differs, else "".
        first: The side that is expected to be better.
        second: The other one.
        test: What the comparison gave; None where none was possible.
        note: Why none was possible, or "".
    """

    corpus: str
    protocol: str
    system: str
    first: Side
    second: Side
    test: metrics.PairedTest | None
    note: str


def within_protocols(results: Path, board: pd.DataFrame) -> list[Comparison]:
    """Compare the systems of every corpus and protocol, each with each.

    A system is a configuration; its seeds are averaged. Where there is only one,
    its seeds are compared with each other: what is left then is luck.

    Args:
        results: The folder of all runs.
        board: What `lib.runs.table.leaderboard` returned.
    """
    found = []
    for (corpus, protocol), part in _latest(board).groupby(
        ["corpus", "protocol"], sort=False
    ):
        groups = part.groupby("configuration", sort=False)
        if len(groups) > 1:
            best_first = sorted(
                (group for _, group in groups), key=lambda group: -group["uar"].mean()
            )
            sides = [_side(group, group["system"].iloc[0]) for group in best_first]
        else:
            sides = [
                Side(f"{row.system}, seed {row.seed}", (row.run_id,))
                for row in part.itertuples()
            ]
        for first, second in itertools.combinations(sides, 2):
            found.append(_compared(results, (corpus, protocol, ""), first, second))
    return found


def across_protocols(results: Path, board: pd.DataFrame) -> list[Comparison]:
    """Compare what the same system scores under different protocols.

    The same system has the same settings in everything but protocol, number of
    folds and seed. The second side is the most honest protocol there is.

    Args:
        results: The folder of all runs.
        board: What `lib.runs.table.leaderboard` returned.
    """
    board = _latest(board)
    keys = [_system_key(Path(results) / run_id) for run_id in board["run_id"]]
    found = []
    for (corpus, _), part in board.groupby(["corpus", keys], sort=False):
        rank = part["protocol"].map({name: i for i, name in enumerate(HONESTY)})
        ordered = part.assign(_rank=rank.fillna(len(HONESTY))).sort_values(
            "_rank", kind="stable"
        )
        sides = {
            protocol: _side(group, PROTOCOLS[protocol].label)
            for protocol, group in ordered.groupby("protocol", sort=False)
        }
        base, *others = sides
        for other in others:
            what = (corpus, f"{other} − {base}", part["system"].iloc[0])
            found.append(_compared(results, what, sides[other], sides[base]))
    return found


def as_table(comparisons: Iterable[Comparison]) -> pd.DataFrame:
    """Return comparisons as a table, one row each.

    Returns:
        Names of both sides, difference of pooled UAR (first minus second) with
        its interval, number of speakers, p of the exact sign-flip test over
        speakers, the smallest p so many speakers can give, p corrected by Holm
        for the number of rows, McNemar's p, and the utterances that one side
        alone has right. `reliable` is False where speakers are too few for the
        interval; `note` says why a comparison was not possible.
    """
    rows = [_row(comparison) for comparison in comparisons]
    table = pd.DataFrame(rows, columns=_COLUMNS)
    tested = table["sign_flip_p"].notna().to_numpy()
    corrected = np.full(len(table), np.nan)
    corrected[tested] = metrics.holm(table["sign_flip_p"][tested].astype(float))
    return table.assign(holm_p=corrected)


def _row(comparison: Comparison) -> dict[str, object]:
    row: dict[str, object] = {
        "corpus": comparison.corpus,
        "protocol": comparison.protocol,
        "system": comparison.system,
        "first": comparison.first.name,
        "second": comparison.second.name,
        "note": comparison.note,
    }
    test = comparison.test
    if test is None:
        return row
    return row | {
        "difference": test.delta,
        "low": test.interval.low,
        "high": test.interval.high,
        "reliable": test.interval.reliable,
        "speakers": len(test.per_speaker),
        "sign_flip_p": test.sign_flip_p,
        "smallest_p": test.smallest_p,
        "mcnemar_p": test.mcnemar_p,
        "only_first": test.only_b,
        "only_second": test.only_a,
    }


def _latest(board: pd.DataFrame) -> pd.DataFrame:
    """Return the runs with names of their systems; of copies the newest counts."""
    named = board.assign(system=system_names(board))
    newest = named.sort_values("finished", kind="stable").drop_duplicates(
        ["configuration", "seed"], keep="last"
    )
    return named.loc[named.index.isin(newest.index)]


def _side(group: pd.DataFrame, name: str) -> Side:
    """Return the runs of one system as one side."""
    seeds = sorted(group["seed"])
    more = f" ({len(seeds)} seeds)" if len(seeds) > 1 else ""
    return Side(f"{name}{more}", tuple(group["run_id"]))


def _system_key(folder: Path) -> str:
    """Return what is the same for runs that differ only in who trains and tests."""
    settings = manifest.read(folder / "run.json")["config"]
    kept = {key: settings[key] for key in settings if key not in _NOT_THE_SYSTEM}
    return config.digest(kept)


def _compared(
    results: Path, what: tuple[str, str, str], first: Side, second: Side
) -> Comparison:
    """Compare two sides, or say why that is not possible."""
    test, note = None, ""
    try:
        # `compare_predictions` subtracts its first argument from its second.
        test = metrics.compare_predictions(
            _predictions(results, second.run_ids), _predictions(results, first.run_ids)
        )
    except (ValueError, FileNotFoundError) as error:
        note = str(error)
    return Comparison(*what, first, second, test, note)


def _predictions(results: Path, run_ids: Sequence[str]) -> list[pd.DataFrame]:
    return [
        predictions_file.read(Path(results) / run_id / "predictions.csv")
        for run_id in run_ids
    ]
