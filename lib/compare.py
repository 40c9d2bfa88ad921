"""Runs against each other on the same clips, and beside published numbers."""

from __future__ import annotations

import functools
import itertools
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from lib import config, files, metrics, overview, runs
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
# Warnings of the check with which a copy is not the published recordings.
OTHER_AUDIO = ("altered", "encoding", "extra", "rate")
LABELS = {name: protocol.label for name, protocol in PROTOCOLS.items()}


def within_protocols(results: Path, board: pd.DataFrame) -> pd.DataFrame:
    """Compare the systems of every corpus and protocol, each with each.

    A system is a configuration; its seeds are averaged. Where there is only one, its
    seeds are compared with each other. `note` says why a pair could not be.
    """
    pairs = []
    places = _newest(board).groupby(["corpus", "protocol"], sort=False)
    for (corpus, protocol), part in places:
        several = part["configuration"].nunique() > 1
        groups = part.groupby("configuration" if several else "run_id", sort=False)
        best_first = sorted(groups, key=lambda group: -group[1]["uar"].mean())
        sides = []
        for _, group in best_first:
            seed = "" if several else f", seed {group['seed'].iloc[0]}"
            sides.append((group["system"].iloc[0] + seed, group["run_id"]))
        both = itertools.combinations(sides, 2)
        pairs += [(corpus, protocol, "", *pair) for pair in both]
    return _compared(results, pairs)


def across_protocols(results: Path, board: pd.DataFrame) -> pd.DataFrame:
    """Compare what the same system scores under different protocols.

    The same system has the same settings in everything but protocol, number of folds
    and seed; the second side is the most honest protocol, first in a leaderboard.
    """
    pairs = []
    for _, part in _newest(board).groupby(overview.SAME, sort=False, dropna=False):
        sides = {name: g["run_id"] for name, g in part.groupby("protocol", sort=False)}
        corpus, system = part[["corpus", "system"]].iloc[0]
        base, *others = sides
        for name in others:
            both = [(LABELS[side], sides[side]) for side in (name, base)]
            pairs.append((corpus, f"{name} − {base}", system, *both))
    return _compared(results, pairs)


def _newest(board: pd.DataFrame) -> pd.DataFrame:
    return overview.newest(board.assign(system=overview.system_names(board)))


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
    corrected = pd.Series(metrics.holm(tested), tested.index, dtype=float)
    return table.assign(holm_p=corrected.reindex(table.index))


def load_published() -> pd.DataFrame:
    """Return every published number with its source; scores in percent.

    variant is "" for the system as its recipe builds it; protocol is the workbook's
    nearest; chosen is what the recipe decides because it was not published, differs
    what was published and is not done.
    """
    kinds = dict.fromkeys(("uar", "war", "macro_f1"), "float64")
    kinds |= dict.fromkeys(("folds", "seed", "epochs"), "Int64")
    types, empty = defaultdict(lambda: "str", kinds), dict.fromkeys(kinds, [""])
    # "" is a value in the text columns but none in the numbers.
    told = {"keep_default_na": False, "na_values": empty}
    return pd.read_csv(PUBLISHED, dtype=types, **told)


def beside(board: pd.DataFrame) -> pd.DataFrame:
    """Return our runs joined with the published numbers of their system and corpus.

    Scores are in percent: UAR and WAR the mean over folds, as published ones are.
    `comparable` is True where everything that decides a result is published and
    agrees with the recipe of the number; `why_not` names what differs.
    """
    theirs = load_published().add_prefix("published_")
    keys = {"left_on": ["model", "corpus"]}
    keys["right_on"] = ["published_system", "published_corpus"]
    ours = board.drop(columns="note").assign(place=range(len(board)))
    pairs = ours.merge(theirs, **keys)
    reasons = [_reasons(pair) for pair in pairs.to_dict("records")]
    pairs = pairs.assign(
        uar=100 * pairs["fold_uar_mean"],
        war=100 * pairs["fold_war_mean"],
        macro_f1=100 * pairs["macro_f1"],
        why_not=["; ".join(found) for found in reasons],
        comparable=[not found for found in reasons],
    )
    for name in ("uar", "war"):
        pairs[f"{name}_difference"] = pairs[name] - pairs[f"published_{name}"]
    kept = ("system", "variant", "epoch_choice", "source", "note")
    pairs = pairs.rename(columns={f"published_{name}": name for name in kept})
    pairs = pairs.sort_values(["place", "comparable"], ascending=[True, False])
    return pairs.reset_index(drop=True)


def _reasons(pair: Mapping[str, Any]) -> list[str]:
    """Return why a run must not be compared with a published number."""
    from lib import features  # only here: it takes half a second

    found = ["ours is on synthetic audio"] if pair["synthetic"] else []
    for mark in pair["warning"].split("; "):
        warned = mark.startswith("data warnings")
        altered = warned and any(kind in mark for kind in OTHER_AUDIO)
        if altered or mark.startswith("errors ignored") or mark.endswith(" clips"):
            found.append(f"ours: {mark}")
    if pair["kind"] != "trained":
        return [*found, f"{pair['kind']}: not trained here"]
    if not pair["published_recipe"]:
        why = pair["published_no_recipe"]
        return [*found, f"no recipe of the published number: {why}"]
    params = _recipe(pair["published_recipe"])
    if pair["model"] != params.model:
        return [*found, f"model {pair['model']}, published as our {params.model}"]
    unknown = [name for name in FACTS if pd.isna(pair[f"published_{name}"])]
    found += [f"published {name} not stated" for name in unknown]
    preset = params.feature_preset, params.feature_options
    ours = {name: pair[name] for name in FACTS if pd.notna(pair[name])}
    ours["features"] = pair["features"]
    theirs = {"features": features.preset_name(*preset)}
    if (pair["features"], theirs["features"]) == ("timnet_official", "timnet"):
        del theirs["features"]  # the authors' own arrays, which the preset computes
    else:
        recorded = json.loads(pair["feature_settings"]) or {}
        front_end = vars(features.front_end(*preset))
        theirs |= {name: front_end[name] for name in front_end if name in recorded}
        ours |= recorded
    stated = {*FACTS, *theirs, *_flat(json.loads(pair["published_settings"] or "{}"))}
    theirs |= {name: getattr(params, name) for name in COMPARED if name not in unknown}
    theirs = _flat(theirs | params.model_options)
    ours = _flat(json.loads(pair["settings"])) | ours
    for name, value in theirs.items():
        what, _, option = name.partition("_options.")
        other = option and ours.get(what) != theirs[what]  # another loss, schedule, ...
        if not other and (name not in ours or ours[name] != value):
            assumed = pair["published_chosen"] and name not in stated
            given = f"{name} {ours.get(name, 'not recorded')}"
            found.append(f"{given}, {'assumed' if assumed else 'published'} {value}")
    for column, said in (
        ("chosen", "not published, chosen here"),
        ("differs", "not as published"),
    ):
        remarks = filter(None, pair[f"published_{column}"].split(" | "))
        found += [f"{said}: {remark}" for remark in remarks]
    return found


@functools.cache
def _recipe(file: str) -> config.Parameters:
    return config.validated(yaml.safe_load((RECIPES / file).read_text("utf-8")))


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the options in them under dotted names."""
    flat = {}
    for name, value in settings.items():
        options = isinstance(value, Mapping)
        flat |= {f"{name}.{k}": value[k] for k in value} if options else {name: value}
    return flat


def runs_by_protocol(board: pd.DataFrame, labels: Mapping[str, str]) -> pd.DataFrame:
    """Return runs as `plots.intervals` draws them; labels: protocol by run id."""
    columns = ["uar", "uar_low", "uar_high", "synthetic"]
    table = board[columns].rename(columns={"uar_low": "low", "uar_high": "high"})
    return table.assign(
        name=overview.short_names(board),
        protocol=board["run_id"].map(labels),
        reliable=~board["warning"].str.contains("interval indicative only"),
    )


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """Return comparisons as `plots.intervals` draws them, but impossible ones."""
    done = table[table["note"] == ""]
    return done.assign(
        name=done["system"].where(done["system"] != "", done["protocol"].map(LABELS)),
        label=done["first"] + " minus " + done["second"],
    )


def published_beside(
    pairs: pd.DataFrame, names: Mapping[str, str], labels: Mapping[str, str]
) -> pd.DataFrame:
    """Return published numbers and ours as `plots.intervals` draws them, by run id.

    Variants of a system (ablations, re-implementations) are left out where the system
    itself has a number; published numbers without UAR always.
    """
    known = pairs[pairs["published_uar"].notna()]
    plain = known[known["variant"] == ""]
    known = known if plain.empty else plain
    known = known.assign(name=known["system"] + " on " + known["corpus"])
    ours = known.drop_duplicates("run_id")
    ours = ours.assign(
        source=ours["run_id"].map(names),
        protocol=ours["run_id"].map(labels),
        value=ours["uar"] / 100,
        ours=True,
    )
    same = ["system", "corpus", "variant", "source", "published_protocol"]
    theirs = known.drop_duplicates(same)
    stated = theirs["published_protocol"].map(LABELS).fillna("protocol not stated")
    variant = ("; " + theirs["variant"]).where(theirs["variant"] != "", "")
    theirs = theirs.assign(
        protocol=stated + variant, value=theirs["published_uar"] / 100, ours=False
    )
    both = pd.concat([theirs, ours], ignore_index=True)
    return both[["name", "source", "protocol", "value", "ours"]]
