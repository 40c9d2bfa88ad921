"""Published numbers, and how far ours may be held beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lib import config

PUBLISHED = Path(__file__).resolve().parent.parent / "data" / "published.csv"
_COLUMNS = (
    "corpus system run_id protocol published_protocol comparable why_not "
    "uar published_uar uar_difference war published_war war_difference "
    "macro_f1 published_macro_f1 variant folds published_folds seed published_seed "
    "epochs published_epochs epoch_choice synthetic source note"
).split()
# The parameters that decide a result; features and options of the system besides.
COMPARED = (
    *("protocol", "folds", "seed", "epochs", "batch_size", "learning_rate"),
    *("beta_1", "beta_2", "epsilon", "schedule", "schedule_options"),
    *("early_stopping", "weight_average", "label_smoothing", "loss", "loss_options"),
    *("augmentation", "augmentation_options"),
)
# Warnings of the doctor with which a copy is not the published recordings.
_OTHER_AUDIO = ("altered", "encoding", "extra", "rate")
_FACTS = ("protocol", "folds", "seed", "epochs")
_KEY = ["system", "variant", "corpus", "protocol", "source"]


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
        where everything that decides a result is published and agrees with the
        recipe of the number; `why_not` names what differs or is not stated. Runs
        without published numbers (DEMO) are left out.
    """
    # The experiments are made of this module's table.
    from lib.tools import experiments

    theirs = load_published()
    recipes, left_out = experiments.load()
    found = {tuple(recipe.row[name] for name in _KEY): recipe for recipe in recipes}
    found |= {
        key: entry.why
        for entry in left_out
        for key in entry.rows[_KEY].itertuples(index=False, name=None)
    }
    theirs["aim"] = [
        found[key] for key in theirs[_KEY].itertuples(index=False, name=None)
    ]
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
    found = ["ours is on synthetic audio"] if pair["synthetic"] else []
    found += [
        f"ours: {mark}"
        for mark in (pair.get("warning") or "").split("; ")
        if mark.startswith("errors ignored")
        or mark.endswith(" clips")
        or (mark.startswith("data warnings") and any(k in mark for k in _OTHER_AUDIO))
    ]
    if pair.get("kind", "trained") != "trained":
        return [*found, f"{pair['kind']}: not trained here"]
    recipe = pair["published_aim"]
    if isinstance(recipe, str):
        return [*found, f"no recipe of the published number: {recipe}"]
    model = recipe.parameters["model"]
    if pair["model"] != model:
        return [*found, f"model {pair['model']}, published as our {model}"]
    unknown = [name for name in _FACTS if pd.isna(pair[f"published_{name}"])]
    found += [f"published {name} not stated" for name in unknown]
    found += _other_features(pair, recipe.parameters)
    found += _other_settings(pair, recipe, unknown)
    found += [f"not published, chosen here: {remark}" for remark in recipe.chosen]
    return found + [f"not as published: {remark}" for remark in recipe.differs]


def _other_features(
    pair: Mapping[str, Any], parameters: Mapping[str, Any]
) -> list[str]:
    """Return the numbers of the front end in which a run differs from a recipe."""
    from lib.features import frontend  # only here: it takes half a second

    chosen = parameters["features"], parameters.get("feature_options")
    name = frontend.preset_name(*chosen)
    if pair["features"] == frontend.OFFICIAL and name == "timnet":
        return []  # the authors' own arrays, which the preset computes anew
    found = []
    if pair["features"] != name:
        found.append(f"features {pair['features']}, published {name}")
    theirs = vars(frontend.front_end(*chosen))
    ours = json.loads(pair.get("feature_settings") or "null") or {}
    return found + [
        f"{name} {value}, published {theirs[name]}"
        for name, value in ours.items()
        if name in theirs and value != theirs[name]
    ]


def _other_settings(
    pair: Mapping[str, Any], recipe: Any, unknown: Sequence[str]
) -> list[str]:
    """Return the settings in which a run differs from a recipe."""
    params = config.validated(recipe.parameters)
    theirs = {name: getattr(params, name) for name in COMPARED if name not in unknown}
    theirs = _flat(theirs | params.model_options)
    ours = _flat(json.loads(pair["settings"]))
    ours |= {name: pair[name] for name in _FACTS if pd.notna(pair[name])}
    stated = {*_FACTS, *_flat(json.loads(pair["published_settings"] or "{}"))}
    found = []
    for name, value in theirs.items():
        what = name.partition("_options.")[0]
        if what != name and ours.get(what) != theirs[what]:
            continue  # options of another loss, schedule or augmentation
        given = f"{name} {ours[name]}" if name in ours else f"{name} not recorded"
        if name not in ours or ours[name] != value:
            assumed = recipe.chosen and name not in stated
            found.append(f"{given}, {'assumed' if assumed else 'published'} {value}")
    return found


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the options in them under dotted names."""
    flat = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{option}": chosen for option, chosen in value.items()}
        else:
            flat[name] = value
    return flat
