"""Runs against each other on the same clips, and beside published numbers."""

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from lib import config, features, files, metrics, runs
from lib.models import SYSTEMS

PUBLISHED = files.REPOSITORY / "lib" / "data" / "published.csv"
RECIPES = files.REPOSITORY / "notebooks" / "recipes"
PLACE = ["corpus", "protocol"]
SPAN = "seeds difference low high low_seeds high_seeds reliable speakers".split()
COLUMNS = [*PLACE, "system", "reference", *SPAN, "p", "smallest_p", "holm_p", "note"]
LEAKS = [*PLACE, "reference", "system", *SPAN, "clips", "reference_clips", "note"]
# Splits that speakers do not decide; each trains on clips that others test.
RANDOM = ("paper", "paper_best", "stratified", "holdout", "repeated_holdout")
FACTS = ("protocol", "folds", "seed", "epochs")
# What decides a result, besides features and options of the system.
COMPARED = (*FACTS[:3], *config.TRAINING, "augmentation", "augmentation_options")
# Marks of runs that did not hear the published recordings.
OTHER_AUDIO = r"synthetic|ignored| clips$|warnings:.*(altered|encoding|extra|rate)"


def with_reference(
    results: Path, board: pd.DataFrame, reference: str = "", by: str = "system"
) -> pd.DataFrame:
    """Compare every system with a reference; a corpus and protocol is one Holm family.

    `by` is the column of the leaderboard that names systems, `reference` one of them;
    without it, the baseline that scored best in a corpus and protocol. p is that of
    the sign-flip test over speakers, and over random splits that of the corrected t
    test. `note` says what cannot be said, and why.
    """
    rows, read = [], functools.cache(functools.partial(_predictions, Path(results)))
    for place, part in runs.newest(board).groupby(PLACE, sort=False):
        name = reference or _best_baseline(part, by)
        for system, own in part.groupby(by, sort=False):
            row = dict(zip(PLACE, place, strict=True))
            row |= {"system": system, "reference": name}
            if system != name:
                found = _pair(read, own, part[part[by] == name])
                rows.append(row | found | _tested(found, place[1]))
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["p"] = table["p"].astype(float)
    corrected = table.dropna(subset="p").groupby(PLACE)["p"].transform(metrics.holm)
    return table.assign(holm_p=corrected)


def across_protocols(results: Path, board: pd.DataFrame) -> pd.DataFrame:
    """Compare what the same system scores under different protocols, without tests.

    The same system has the same settings in everything but protocol, number of folds
    and seed; the reference is the most honest protocol, first in a leaderboard. clips
    and reference_clips train in a fold: where they differ, so does the training.
    """
    rows, read = [], functools.cache(functools.partial(_predictions, Path(results)))
    for _, part in runs.newest(board).groupby("setup", sort=False):
        first, *others = part.groupby("protocol", sort=False)
        for name, own in others:
            row = {"corpus": part["corpus"].iloc[0], "system": part["system"].iloc[0]}
            row |= {"protocol": name, "reference": first[0]}
            rows.append(row | _pair(read, own, first[1]))
    return pd.DataFrame(rows, columns=LEAKS)


def _predictions(results: Path, run_id: str) -> tuple[pd.DataFrame, list[int]]:
    """Return the predictions of a run, and how many clips trained in its folds."""
    folds = runs.read_manifest(results / run_id / "run.json")["folds"]
    table = runs.read_predictions(results / run_id / "predictions.csv")
    return table, [fold["train"]["n"] for fold in folds]


def _best_baseline(part: pd.DataFrame, by: str) -> str:
    fitted = part[[SYSTEMS[model].fit for model in part["model"]]]
    return "" if fitted.empty else fitted.groupby(by)["uar"].mean().idxmax()


def _pair(read: Callable, ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, Any]:
    """Return the difference of two systems over the seeds that both have."""
    sides = [
        dict(zip(side["seed"], side["run_id"], strict=True)) for side in (ours, theirs)
    ]
    seeds = sorted(set(sides[0]).intersection(sides[1]))
    if theirs.empty:
        return {"note": "the reference has no finished run here"}
    if not seeds:
        return {"note": "no seed in common with the reference"}
    try:
        pairs = [[read(side[seed]) for seed in seeds] for side in sides]
        tables = [[table for table, _ in side] for side in pairs]
        found = metrics.compare_predictions(*tables)
    except (ValueError, FileNotFoundError) as error:
        return {"note": str(error)}
    left = len(set(sides[0]).symmetric_difference(sides[1]))
    note = f"{left} seeds of one side are left out" if left else ""
    trained = [np.mean([clips for _, clips in side]) for side in pairs]
    found |= dict(zip(("clips", "reference_clips"), trained, strict=True))
    return found | {"difference": found["value"], "note": note, "tables": tables}


def _tested(found: Mapping[str, Any], protocol: str) -> dict[str, Any]:
    """Return p and smallest_p of a pair, and a note if it can have none."""
    if "tables" not in found:
        return {}
    least, p, notes = found["smallest_p"], found["sign_flip_p"], [found["note"]]
    if protocol in RANDOM:
        scores = [
            [metrics.per_fold(t["y_true"], t["y_pred"], t["fold"]) for t in side]
            for side in found["tables"]
        ]
        ours, theirs = map(pd.concat, scores)
        ratio = theirs["n"].mean() / found["reference_clips"]
        if same := np.array_equal(*(side[["fold", "n"]] for side in (ours, theirs))):
            p = metrics.corrected_t(ours["uar"] - theirs["uar"], ratio)
        least = np.nan
        if np.isnan(p):
            notes.append("no p: one split" if same else "no p: not the same folds")
    elif np.isnan(p):
        speakers = found["speakers"] or "unknown"
        notes.append(f"no p: with {speakers} speakers none is below {least:.3f}")
    return {"p": p, "smallest_p": least, "note": "; ".join(filter(None, notes))}


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
