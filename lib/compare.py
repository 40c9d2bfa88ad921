"""Runs against each other on the same clips, and beside published numbers."""

import functools
import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from lib import config, features, files, metrics, runs
from lib.protocols import PROTOCOLS

PUBLISHED = files.REPOSITORY / "lib" / "data" / "published.csv"
RECIPES = files.REPOSITORY / "notebooks" / "recipes"
COLUMNS = (
    "corpus protocol system first second difference low high reliable speakers "
    "sign_flip_p smallest_p holm_p mcnemar_p only_first only_second note"
).split()
FACTS = ("protocol", "folds", "seed", "epochs")
# What decides a result, besides features and options of the system.
COMPARED = (*FACTS[:3], *config.TRAINING, "augmentation", "augmentation_options")
# Marks of runs that did not hear the published recordings.
OTHER_AUDIO = r"synthetic|ignored| clips$|warnings:.*(altered|encoding|extra|rate)"


def within_protocols(results: Path, board: pd.DataFrame) -> pd.DataFrame:
    """Compare the systems of every corpus and protocol, each with each.

    A system is a configuration; its seeds are averaged. Where there is only one, its
    seeds are compared with each other. `note` says why a pair could not be.
    """
    pairs = []
    places = runs.newest(board).groupby(["corpus", "protocol"], sort=False)
    for (corpus, protocol), part in places:
        several = part["configuration"].nunique() > 1
        by, name = ("configuration", "system") if several else ("run_id", "name")
        groups = part.groupby(by, sort=False)
        best_first = sorted(groups, key=lambda group: -group[1]["uar"].mean())
        sides = [(group[name].iloc[0], group["run_id"]) for _, group in best_first]
        pairs += [(corpus, protocol, "", *pair) for pair in combinations(sides, 2)]
    return _compared(results, pairs)


def across_protocols(results: Path, board: pd.DataFrame) -> pd.DataFrame:
    """Compare what the same system scores under different protocols.

    The same system has the same settings in everything but protocol, number of folds
    and seed; the second side is the most honest protocol, first in a leaderboard.
    """
    pairs = []
    for _, part in runs.newest(board).groupby("setup", sort=False):
        sides = {name: g["run_id"] for name, g in part.groupby("protocol", sort=False)}
        base, *others = sides
        for name in others:
            both = [(PROTOCOLS[side].label, sides[side]) for side in (name, base)]
            place = (part["corpus"].iloc[0], f"{name} − {base}", part["system"].iloc[0])
            pairs.append((*place, *both))
    return _compared(results, pairs)


def _compared(results: Path, pairs: Sequence[tuple]) -> pd.DataFrame:
    @functools.cache
    def predictions(run_id: str) -> pd.DataFrame:
        return runs.read_predictions(Path(results) / run_id / "predictions.csv")

    rows = []
    for corpus, protocol, system, *sides in pairs:
        row = {"corpus": corpus, "protocol": protocol, "system": system, "note": ""}
        for side, (name, ids) in zip(("first", "second"), sides, strict=True):
            row[side] = name + (f" ({len(ids)} seeds)" if len(ids) > 1 else "")
        try:
            both = [[predictions(run_id) for run_id in ids] for _, ids in sides]
            row |= metrics.compare_predictions(*both)
        except (ValueError, FileNotFoundError) as error:
            row["note"] = str(error)
        rows.append(row)
    table = pd.DataFrame(rows, columns=COLUMNS)
    tested = table["sign_flip_p"].dropna().astype(float)
    return table.assign(holm_p=pd.Series(metrics.holm(tested), tested.index))


def load_published() -> pd.DataFrame:
    """Return every published number with its source; scores in percent.

    variant is "" for the system as its recipe builds it; protocol is the workbook's
    nearest; chosen is what the recipe decides because it was not published, differs
    what was published and is not done.
    """
    whole = dict.fromkeys(("folds", "seed", "epochs"), "Int64")
    table = pd.read_csv(PUBLISHED, dtype=whole)
    texts = table.columns.difference(["uar", "war", "macro_f1", *whole])
    return table.assign(**table[texts].fillna(""))


def beside(board: pd.DataFrame) -> pd.DataFrame:
    """Return our runs joined with the published numbers of their system and corpus.

    Scores are in percent: UAR and WAR the mean over folds, as published ones are.
    `comparable` is True where everything that decides a result is published and
    agrees with the recipe of the number; `why_not` names what differs.
    """
    theirs = load_published().add_prefix("published_")
    keys = ["published_system", "published_corpus"]
    pairs = board.merge(theirs, left_on=["model", "corpus"], right_on=keys)
    reasons = [_reasons(pair) for pair in pairs.to_dict("records")]
    pairs = pairs.assign(
        uar=100 * pairs["fold_uar_mean"],
        war=100 * pairs["fold_war_mean"],
        why_not=["; ".join(found) for found in reasons],
        comparable=[not found for found in reasons],
    )
    return pairs.sort_values("comparable", ascending=False, kind="stable")


def _reasons(pair: Mapping[str, Any]) -> list[str]:
    """Return why a run must not be compared with a published number."""
    marks = pair["warning"].split("; ")
    found = [f"ours: {mark}" for mark in marks if re.search(OTHER_AUDIO, mark)]
    if pair["kind"] != "trained":
        return [*found, f"{pair['kind']}: not trained here"]
    if not pair["published_recipe"]:
        return [*found, f"no recipe: {pair['published_no_recipe']}"]
    recipe = (RECIPES / pair["published_recipe"]).read_text("utf-8")
    params = config.validated(yaml.safe_load(recipe))
    recorded = runs.settings(pair)
    settings = recorded["feature_settings"] or {}
    preset = params.feature_preset, params.feature_options
    front_end = vars(features.front_end(*preset))
    theirs = {name: getattr(params, name) for name in ("model", *COMPARED)}
    theirs |= params.model_options | {name: front_end[name] for name in settings}
    theirs["features"] = features.preset_name(*preset)
    if (recorded["features"], theirs["features"]) == ("timnet_official", "timnet"):
        del theirs["features"]  # the authors' own arrays, which the preset computes
    for name in FACTS:
        if pd.isna(pair[f"published_{name}"]):
            found.append(f"published {name} not stated")
            del theirs[name]
    ours = recorded | recorded["model_options"] | settings
    for name, value in theirs.items():
        if name not in ours or ours[name] != value:
            found.append(f"{name} {ours.get(name, 'not recorded')}, recipe {value}")
    for column, said in (("chosen", "chosen here"), ("differs", "not as published")):
        remarks = filter(None, pair[f"published_{column}"].split(" | "))
        found += [f"{said}: {remark}" for remark in remarks]
    return found
