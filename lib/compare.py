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
ENDS = ("low", "high", "low_seeds", "high_seeds")
SCORED = ["seeds", "uar", *(f"uar_{end}" for end in ENDS)]
SCORED += ["parameters", "label", "warning", "trainers", "clips"]
PAIRED = ["matched", "difference", *ENDS, "reliable", "speakers"]
COLUMNS = [*PLACE, "system", "reference", *SCORED, *PAIRED]
COLUMNS += ["p", "smallest_p", "holm_p", "note"]
# Splits that speakers do not decide; each trains on clips that others test.
RANDOM = ("paper", "paper_best", "stratified", "holdout", "repeated_holdout")
FACTS = ("protocol", "folds", "seed", "epochs")
# What decides a result, besides features and options of the system.
COMPARED = (*FACTS[:3], *config.TRAINING, "augmentation", "augmentation_options")
COMPARED += ("normalisation", "class_weights", "validation")
# Marks of runs that did not hear the published recordings.
OTHER_AUDIO = r"synthetic|ignored| clips$|warnings:.*(altered|encoding|extra|rate)"


def systems(
    results: Path, board: pd.DataFrame, reference: str = "", by: str = "system"
) -> pd.DataFrame:
    """Return a row for every system, the best mean UAR first, beside a reference.

    `by` is the column of the leaderboard that names systems, `reference` one of them;
    without it, the best baseline of a corpus and protocol that is not transductive.
    uar is the mean over `seeds`, difference that over the `matched` ones, which both
    have; low_seeds and high_seeds are those of `metrics.mean_score`. p is that of the
    sign-flip test, for random splits of the corrected t test; holm_p corrects it for
    all rows of a corpus and protocol. trainers and clips are how many speakers and
    clips train in a fold; note says what there is not. RuntimeError if a file changed.
    """

    @functools.cache
    def read(run_id: str) -> tuple[pd.DataFrame, list[dict]]:
        folder = Path(results) / run_id
        table = runs.read_predictions(folder / "predictions.csv")
        return table, runs.read_manifest(folder / "run.json")["folds"]

    rows = []
    for place, part in runs.newest(board).groupby(PLACE, sort=False):
        name = reference or _best_baseline(part, by)
        base = part[part[by] == name]
        for system in part.groupby(by)["uar"].mean().sort_values().index[::-1]:
            own = part[part[by] == system]
            row = dict(zip(PLACE, place, strict=True)) | {"note": ""}
            row |= {"system": system, "reference": name}
            try:
                row |= _score(read, own)
                if system != name:
                    row |= _pair(read, own, base, place[1])
            except (ValueError, FileNotFoundError) as error:
                row["note"] = str(error)
            rows.append(row)
    table = pd.DataFrame(rows, columns=COLUMNS)
    given = table[table["p"].notna()]
    return table.assign(holm_p=given.groupby(PLACE)["p"].transform(metrics.holm))


def _best_baseline(part: pd.DataFrame, by: str) -> str:
    fitted = part[[SYSTEMS[model].fit for model in part["model"]]]
    fitted = fitted[~fitted["label"].str.contains("transductive")]
    return "" if fitted.empty else fitted.groupby(by)["uar"].mean().idxmax()


def _score(read: Callable, own: pd.DataFrame) -> dict[str, Any]:
    tables, folds = zip(*map(read, own["run_id"]), strict=True)
    found = metrics.mean_score(tables)
    told = {f"uar_{end}": found[end] for end in ENDS} | {"uar": found["value"]}
    trained = [fold["train"] for fold in sum(folds, [])]
    trainers = sorted({len(one["speakers"]) for one in trained})
    told["trainers"] = " to ".join(map(str, {trainers[0]: 1, trainers[-1]: 1}))
    told["clips"] = np.mean([one["n"] for one in trained])
    marks = {*"; ".join(own["warning"]).split("; ")} - {""}
    told["warning"] = "; ".join(sorted(marks))
    return told | {"seeds": len(own), **own[["parameters", "label"]].iloc[0]}


def _pair(
    read: Callable, own: pd.DataFrame, base: pd.DataFrame, protocol: str
) -> dict[str, Any]:
    """Return the difference over the seeds that both have, tested for a protocol."""
    sides = [side.set_index("seed")["run_id"].to_dict() for side in (own, base)]
    seeds = sorted(set(sides[0]).intersection(sides[1]))
    if not seeds:
        raise ValueError("the reference has no finished run of the same seed here")
    pairs = [[*zip(*(read(side[n]) for n in seeds), strict=True)] for side in sides]
    (ours, _), (theirs, folds) = pairs
    found = metrics.compare_predictions(ours, theirs)
    found |= {"matched": found.pop("seeds"), "difference": found["value"]}
    p, least = found["sign_flip_p"], found["smallest_p"]
    why = f"with {found['speakers']} speakers it cannot be below {least:.3f}"
    scores = [pd.concat(map(metrics.per_fold, side)) for side in (ours, theirs)]
    where = [pd.concat(side).value_counts(["file", "fold"]) for side in (ours, theirs)]
    if not where[0].sort_index().equals(where[1].sort_index()):
        p, least, why = np.nan, np.nan, "the folds differ"
    elif protocol in RANDOM:
        trained = [fold["train"]["n"] for fold in sum(folds, [])]
        ratio = scores[0]["n"].mean() / np.mean(trained)
        p = metrics.corrected_t(scores[0]["uar"] - scores[1]["uar"], ratio)
        least, why = np.nan, "one split, or no spread over splits"
    note = f"no p: {why}" if np.isnan(p) else ""
    return found | {"p": p, "smallest_p": least, "note": note}


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
