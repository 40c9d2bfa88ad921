"""Published numbers, and how far ours may be held beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

PUBLISHED = Path(__file__).resolve().parent.parent / "data" / "published.csv"
_COLUMNS = (
    "corpus system run_id protocol published_protocol comparable why_not "
    "uar published_uar uar_difference war published_war war_difference "
    "macro_f1 published_macro_f1 variant folds published_folds seed published_seed "
    "epochs published_epochs epoch_choice synthetic source note"
).split()


def load_published() -> pd.DataFrame:
    """Return every published number with its source.

    Returns:
        One row a number or pair: system and corpus by the workbook's names
        where it has them; variant ("" for the system as its recipe builds it);
        protocol, the workbook's nearest, and epoch_choice ("last",
        "validation", "test"), "" where not stated; uar, war and macro_f1 in
        percent, empty where not given; folds, seed and epochs; features and
        settings (JSON) as far as they are known; source; note.
    """
    numbers = dict.fromkeys(("uar", "war", "macro_f1"), "float64")
    whole = dict.fromkeys(("folds", "seed", "epochs"), "Int64")
    kinds = numbers | whole
    # "" is a value in the text columns but none in the numbers.
    table = pd.read_csv(PUBLISHED, dtype="str", keep_default_na=False)
    for name, kind in kinds.items():
        table[name] = pd.to_numeric(table[name].replace("", None)).astype(kind)
    return table


def beside(leaderboard: pd.DataFrame) -> pd.DataFrame:
    """Return our runs joined with the published numbers of their system and corpus.

    Args:
        leaderboard: What `lib.runs.table.leaderboard` returned.

    Returns:
        One row for each pair of run and published number, comparable ones
        first inside a run. Scores are in percent: UAR and WAR the mean over
        folds, as published ones are, macro F1 pooled. `comparable` is True
        where protocol, folds, epochs, features and all known settings agree;
        `why_not` names what differs. Runs without published numbers (DEMO) are
        left out.
    """
    theirs = load_published()
    names = {name: f"published_{name}" for name in theirs.columns}
    theirs = theirs.rename(columns=names).rename(
        columns={"published_system": "model", "published_corpus": "corpus"}
    )
    ours = leaderboard.assign(_place=range(len(leaderboard)))
    pairs = ours.merge(theirs, on=["model", "corpus"], how="inner")
    reasons = [_reasons(row) for row in pairs.to_dict("records")]
    pairs = _in_percent(pairs).assign(
        why_not=["; ".join(found) for found in reasons],
        comparable=[not found for found in reasons],
    )
    kept = ("variant", "epoch_choice", "source", "note")
    pairs = pairs.drop(columns=[name for name in kept if name in pairs.columns])
    pairs = pairs.rename(columns={f"published_{name}": name for name in kept})
    pairs = pairs.rename(columns={"model": "system"})
    pairs = pairs.sort_values(["_place", "comparable"], ascending=[True, False])
    return pairs[_COLUMNS].reset_index(drop=True)


def _in_percent(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs with our scores in percent and the differences in points."""
    scores = {
        "uar": 100 * pairs["fold_uar_mean"],
        "war": 100 * pairs["fold_war_mean"],
        "macro_f1": 100 * pairs["macro_f1"],
    }
    differences = {
        f"{name}_difference": scores[name] - pairs[f"published_{name}"]
        for name in ("uar", "war")
    }
    return pairs.assign(**scores, **differences)


def _reasons(pair: Mapping[str, Any]) -> list[str]:
    """Return why a run must not be compared with a published number."""
    found = []
    if pair["published_variant"]:
        found.append(f"published for another variant: {pair['published_variant']}")
    for name in ("protocol", "folds", "epochs", "features"):
        theirs = pair[f"published_{name}"]
        if pd.isna(theirs) or theirs == "":
            found.append(f"published {name} not stated")
        elif theirs != pair[name]:
            found.append(f"{name} {pair[name]}, published {theirs}")
    found += _other_settings(pair.get("settings"), pair["published_settings"])
    if pair["synthetic"]:
        found.append("ours is on synthetic audio")
    return found


def _other_settings(ours: Any, theirs: str) -> list[str]:
    """Return the known settings in which a run differs from a published one."""
    if not ours or not theirs:
        return []
    ours = json.loads(ours)
    return [
        f"{name} {ours[name]}, published {value}"
        for name, value in json.loads(theirs).items()
        if name in ours and ours[name] != value
    ]
