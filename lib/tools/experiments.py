"""The published experiments as parameters of 02_train.

`lib/data/experiments.yaml` says how the experiments are run, `lib/data/published.csv`
what was published of them. A recipe is made of both; nothing is typed twice.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import yaml

from lib import config
from lib.files import REPOSITORY
from lib.runs.published import load_published

EXPERIMENTS = REPOSITORY / "lib" / "data" / "experiments.yaml"
# What a row of published.csv may state, besides what its settings hold.
FACTS = ("corpus", "features", "protocol", "folds", "seed", "epochs")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One published experiment.

    Attributes:
        file: Path of its file below the folder of recipes, e.g. "timnet/emodb.yaml".
        title: What the experiment is.
        row: The row of published.csv that it aims at.
        parameters: Parameters of the notebook, in the order of `lib.config`.
        chosen: What was decided here because it was not published.
        differs: What was published and is not done again.
    """

    file: str
    title: str
    row: Mapping[str, Any]
    parameters: Mapping[str, Any]
    chosen: tuple[str, ...]
    differs: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """Published numbers without a recipe.

    Attributes:
        what: What they are.
        why: Why there is none.
        rows: Their rows of published.csv.
    """

    what: str
    why: str
    rows: pd.DataFrame


def load() -> tuple[list[Recipe], list[LeftOut]]:
    """Return all recipes, and what has none.

    Raises:
        ValueError: As `made_of`.
    """
    return made_of(yaml.safe_load(EXPERIMENTS.read_text("utf-8")), load_published())


def made_of(
    experiments: Mapping[str, Any], published: pd.DataFrame
) -> tuple[list[Recipe], list[LeftOut]]:
    """Return the recipes of a table of experiments, and what has none.

    Args:
        experiments: The content of a file like `EXPERIMENTS`.
        published: Published numbers, as `load_published` returns them.

    Raises:
        ValueError: If a row of published.csv has no recipe and is not left out, or
            is both, or twice; if the experiments repeat what a row states, name
            rows that are not there, or make parameters that are not allowed.
    """
    recipes: list[Recipe] = []
    used: Counter = Counter()
    for family in experiments["families"]:
        for experiment in family["experiments"]:
            rows = _rows(published, experiment["rows"])
            used.update(rows.index)
            recipes += [
                _recipe(family, experiment, row, published)
                for row in rows.to_dict("records")
            ]
    left_out = [
        LeftOut(entry["what"], entry["why"], _rows(published, entry["rows"]))
        for entry in experiments["left_out"]
    ]
    for entry in left_out:
        used.update(entry.rows.index)
    _require_each_once(recipes, used, published)
    return recipes, left_out


def _require_each_once(
    recipes: Sequence[Recipe], used: Mapping[int, int], published: pd.DataFrame
) -> None:
    for index, row in published.iterrows():
        if used[index] != 1:
            name = " / ".join(row[["system", "variant", "corpus", "protocol"]])
            raise ValueError(f"{name} stands {used[index]} times in experiments.yaml")
    for file, count in Counter(recipe.file for recipe in recipes).items():
        if count > 1:
            raise ValueError(f"{count} experiments are called {file}")


def _rows(
    published: pd.DataFrame, wanted: Mapping[str, str | Sequence[str]]
) -> pd.DataFrame:
    """Return the rows whose columns match the patterns, at least one."""
    chosen = np.full(len(published), True)
    for column, patterns in wanted.items():
        patterns = [patterns] if isinstance(patterns, str) else patterns
        chosen &= [
            any(fnmatch.fnmatchcase(value, pattern) for pattern in patterns)
            for value in published[column]
        ]
    if not chosen.any():
        raise ValueError(f"published.csv has no row with {dict(wanted)}")
    return published[chosen]


def _recipe(
    family: Mapping[str, Any],
    experiment: Mapping[str, Any],
    row: Mapping[str, Any],
    published: pd.DataFrame,
) -> Recipe:
    """Return the recipe of one row."""
    name = experiment["file"].format(corpus=row["corpus"].lower())
    file = f"{family['folder']}/{name}.yaml"
    ours = _merged(family["parameters"], experiment.get("parameters", {}))
    theirs = _stated(row)
    repeated = sorted(_names(ours) & _names(theirs))
    if repeated:
        raise ValueError(f"{file}: published.csv already states {', '.join(repeated)}")
    like = {}
    if "like" in family:
        same = _rows(published, {**family["like"], "corpus": row["corpus"]})
        like = _stated(same.iloc[0])
    parameters = _merged(like, ours, theirs)
    config.validated(parameters)
    order = list(config.Parameters.model_fields).index
    return Recipe(
        file=file,
        title=experiment["title"],
        row=row,
        parameters={name: parameters[name] for name in sorted(parameters, key=order)},
        chosen=_remarks("chosen", family, experiment),
        differs=_remarks("differs", family, experiment),
    )


def _remarks(
    name: str, family: Mapping[str, Any], experiment: Mapping[str, Any]
) -> tuple[str, ...]:
    return (*family.get(name, ()), *experiment.get(name, ()))


def _stated(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that a row of published.csv states."""
    stated: dict[str, Any] = {}
    for name in FACTS:
        value = row[name]
        if pd.notna(value) and value != "":
            stated[name] = value if isinstance(value, str) else int(value)
    for name, value in json.loads(row["settings"] or "{}").items():
        if name in config.Parameters.model_fields:
            stated[name] = value
        else:
            stated.setdefault("model_options", {})[name] = value
    return stated


def _merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return mappings put over each other; the options in them are merged too."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            if isinstance(value, Mapping):
                value = {**merged.get(name, {}), **value}
            merged[name] = value
    return merged


def _names(parameters: Mapping[str, Any]) -> set[str]:
    """Return the names of parameters and, dotted, of the options in them."""
    names: set[str] = set()
    for name, value in parameters.items():
        if isinstance(value, Mapping):
            names |= {f"{name}.{option}" for option in value}
        else:
            names.add(name)
    return names
