"""Write one file of papermill parameters per published experiment.

Run by `make recipes`; `lib.tools.experiments` knows the experiments.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from lib.files import REPOSITORY, write_text
from lib.protocols import PROTOCOLS
from lib.tools import experiments
from lib.tools.experiments import LeftOut, Recipe

FOLDER = REPOSITORY / "notebooks" / "recipes"
README = FOLDER / "README.md"
OWN = "workbook"  # folder of the recipes that reproduce nobody
NOTEBOOK = "notebooks/02_train.ipynb"
WIDTH = 88
SCORES = {"uar": "UAR", "war": "WAR", "macro_f1": "macro F1"}
# What a recipe settles in any case and a publication may leave open.
SETTLED = ("folds", "seed", "epochs")


def text(recipe: Recipe) -> str:
    """Return the content of a recipe's file: what it aims at, then the parameters."""
    parameters = yaml.safe_dump(
        dict(recipe.parameters), sort_keys=False, default_flow_style=False
    )
    return "\n".join([*_header(recipe), parameters])


def _header(recipe: Recipe) -> Iterator[str]:
    row = recipe.row
    protocol = PROTOCOLS[row["protocol"]]
    shared = "" if protocol.speakers_apart else " Speakers are shared."
    scores = ", ".join(f"{name} {score} %" for name, score in _scores(row).items())
    missing = ", ".join(name for name in SETTLED if pd.isna(row[name]))
    remarks = [
        ("", f"{row['corpus']}: {recipe.title}"),
        ("Published: ", f"{scores}; {_over(row)}"),
        ("Source: ", row["source"]),
        ("Known: ", row["note"]),
        ("Not stated: ", missing),
        *(("Chosen here: ", remark) for remark in recipe.chosen),
        *(("Differs: ", remark) for remark in recipe.differs),
    ]
    for head, remark in remarks:
        if remark:
            yield from _comment(f"{head}{remark}.")
    yield from _comment(f"Protocol: {protocol.explanation}{shared}")
    file = (FOLDER / recipe.file).relative_to(REPOSITORY).as_posix()
    yield f"# Run: papermill {NOTEBOOK} out.ipynb -f {file}"


def _comment(remark: str) -> list[str]:
    return textwrap.wrap(
        remark,
        WIDTH,
        initial_indent="# ",
        subsequent_indent="#   ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _scores(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the published scores in percent, by name; only those there are."""
    return {
        name: f"{row[column]:.2f}"
        for column, name in SCORES.items()
        if pd.notna(row[column])
    }


def _over(row: Mapping[str, Any]) -> str:
    """Return what a published score is the mean of."""
    if pd.isna(row["folds"]):
        return "mean over folds"
    if row["folds"] == 1:
        return "one split"
    parts = "random splits" if row["protocol"] == "repeated_holdout" else "folds"
    return f"mean over {row['folds']} {parts}"


def recipes_table(recipes: Iterable[Recipe]) -> str:
    """Return the recipes as a Markdown table."""
    rows = []
    for recipe in recipes:
        scores = _scores(recipe.row)
        rows.append(
            (
                f"[{recipe.file.removesuffix('.yaml')}]({recipe.file})",
                recipe.title,
                recipe.row["corpus"],
                f"`{recipe.row['protocol']}`",
                scores.get("UAR", ""),
                scores.get("WAR", ""),
                recipe.row["source"],
            )
        )
    heads = ("recipe", "experiment", "corpus", "protocol", "UAR", "WAR", "source")
    return _table(heads, rows)


def left_out_table(left_out: Iterable[LeftOut]) -> str:
    """Return what has no recipe as a Markdown table."""
    rows = [(entry.what, len(entry.rows), entry.why) for entry in left_out]
    return _table(("what", "rows of published.csv", "why there is no recipe"), rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    # Two asterisks in a row would begin bold type.
    return "\n".join(
        "| " + " | ".join(str(cell).replace("*", "\\*") for cell in line) + " |"
        for line in lines
    )


def filled(page: str, tables: Mapping[str, str]) -> str:
    """Return a page with the tables between their markers made anew.

    Args:
        page: Markdown with `<!-- table: name -->` and `<!-- end -->` lines.
        tables: The tables by name.
    """
    return re.sub(
        r"<!-- table: (\w+) -->\n.*?<!-- end -->",
        lambda match: f"<!-- table: {match[1]} -->\n{tables[match[1]]}\n<!-- end -->",
        page,
        flags=re.DOTALL,
    )


def contents() -> dict[Path, str]:
    """Return what every file of the recipes should hold, the README included."""
    recipes, left_out = experiments.load()
    tables = {"recipes": recipes_table(recipes), "left_out": left_out_table(left_out)}
    return {
        **{FOLDER / recipe.file: text(recipe) for recipe in recipes},
        README: filled(README.read_text("utf-8"), tables),
    }


def stale(made: Iterable[Path]) -> list[Path]:
    """Return the recipes on disk that no experiment makes any more.

    The workbook's own are written by hand.
    """
    own = set((FOLDER / OWN).rglob("*.yaml"))
    return sorted(set(FOLDER.rglob("*.yaml")) - own - set(made))


def main() -> int:
    """Write all recipes, remove those that are gone; return the exit status."""
    made = contents()
    for path in stale(made):
        path.unlink()
    for path, content in made.items():
        write_text(path, content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
