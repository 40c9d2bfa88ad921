"""Write the tables of README.md that the code knows better than a writer."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args, get_origin

from lib import corpora, models
from lib.config import Parameters
from lib.features import PRESETS
from lib.files import REPOSITORY, write_text
from lib.protocols import PROTOCOLS
from lib.systems import SYSTEMS

README = REPOSITORY / "README.md"


def parameters_table() -> str:
    """Return the notebooks' parameters as a Markdown table."""
    rows = [
        (
            f"`{name}`",
            _allowed(field.annotation),
            f"`{field.get_default(call_default_factory=True)!r}`",
            field.description,
        )
        for name, field in Parameters.model_fields.items()
    ]
    return _table(("parameter", "allowed", "default", "meaning"), rows)


def protocols_table() -> str:
    """Return the protocols as a Markdown table."""
    rows = [
        (
            f"`{item.name}`",
            item.explanation,
            "yes" if item.speakers_apart else "no",
            {"last": "none, the last", "validation": "validation part"}.get(
                item.chosen_on, "**test part: a leak**"
            ),
        )
        for item in PROTOCOLS.values()
    ]
    heads = ("protocol", "what it does", "unseen speakers", "epoch chosen on")
    return _table(heads, rows)


def corpora_table() -> str:
    """Return the corpora that come with a parser as a Markdown table."""
    rows = []
    for name in corpora.names():
        corpus = corpora.get(name)
        clips = sum(corpus.counts.values()) or "varies"
        speakers = len(corpus.sexes) or "unknown"
        rows.append(
            (
                f"`{name}`",
                corpus.language,
                len(corpus.labels),
                speakers,
                clips,
                corpus.terms,
            )
        )
    heads = ("corpus", "language", "emotions", "speakers", "clips", "terms")
    return _table(heads, rows)


def systems_table() -> str:
    """Return the systems as a Markdown table."""
    rows = [
        (
            f"`{name}`",
            system.title,
            f"`{system.features}`",
            _parameters(name, system.features),
            ", ".join(f"`{option}`" for option in models.options(name)),
        )
        for name, system in SYSTEMS.items()
    ]
    heads = ("model", "system", "own features", "parameters", "options")
    return _table(heads, rows)


def _parameters(name: str, preset: str) -> str:
    """Return how many parameters a system has for seven emotions."""
    if SYSTEMS[name].fit:
        return "fitted"
    shape = (None, PRESETS[preset].coefficients)
    return f"{models.trainable_parameters(models.build_model(name, shape, 7)):,}"


TABLES = {
    "systems": systems_table,
    "parameters": parameters_table,
    "protocols": protocols_table,
    "corpora": corpora_table,
}


def filled(text: str) -> str:
    """Return README text with the tables between their markers made anew.

    Args:
        text: Markdown with `<!-- table: name -->` and `<!-- end -->` lines.

    Raises:
        ValueError: If a marker names no table.
    """

    def block(match: re.Match[str]) -> str:
        if match[1] not in TABLES:
            raise ValueError(f"README.md asks for a table {match[1]!r}, unknown here.")
        return f"<!-- table: {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(
        r"<!-- table: (\w+) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL
    )


def _allowed(annotation: Any) -> str:
    """Return the values that a type annotation allows, for people."""
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value!r}`" for value in get_args(annotation))
    plain = get_origin(annotation) or annotation
    names = {str: "text", int: "whole number", float: "number", bool: "yes or no"}
    return names.get(plain, "mapping" if plain is dict else plain.__name__)


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    # A bar inside a cell would start another one.
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |"
        for line in lines
    )


def main() -> int:
    """Write README.md; return the exit status."""
    write_text(README, filled(README.read_text("utf-8")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
