"""Write the tables of the README and docs that the code knows better than a writer."""

import base64
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args, get_origin

import nbformat

from lib import compare, models, runs
from lib.config import Parameters
from lib.features import PRESETS
from lib.files import REPOSITORY, write_text
from lib.models import SYSTEMS
from lib.protocols import PROTOCOLS
from tools import student

PAGES = ("README.md", "docs/parameters.md", "docs/teaching.md")
PICTURE = "08-036"  # the id of its cell
REFERENCE = REPOSITORY / "Results" / "reference"


def parameters_table() -> str:
    """Return the notebooks' parameters as a Markdown table."""
    rows = []
    for name, field in Parameters.model_fields.items():
        allowed, default = _allowed(field.annotation), f"`{field.get_default()!r}`"
        rows.append((f"`{name}`", allowed, default, field.description))
    return _table(("parameter", "allowed", "default", "meaning"), rows)


def protocols_table() -> str:
    """Return the protocols as a Markdown table."""
    apart = {True: "yes", False: "no", None: "as the file says"}
    epoch = {"last": "none, the last", "validation": "validation part"}
    epoch["test"] = "**test part: a leak**"
    rows = []
    for name, item in PROTOCOLS.items():
        said = apart[item.speakers_apart], epoch[item.chosen_on]
        rows.append((f"`{name}`", item.explanation, *said))
    heads = ("protocol", "what it does", "unseen speakers", "epoch chosen on")
    return _table(heads, rows)


def systems_table() -> str:
    """Return the systems as a Markdown table, with parameters for seven emotions."""
    rows = []
    for name, system in SYSTEMS.items():
        size = "fitted"
        if not system.fit:
            shape = (None, PRESETS[system.features].coefficients)
            network = models.build_model(name, shape, 7)
            size = f"{models.trainable_parameters(network):,}"
        options = ", ".join(f"`{option}`" for option in models.options(name))
        rows.append((f"`{name}`", system.title, f"`{system.features}`", size, options))
    heads = ("model", "system", "own features", "parameters", "options")
    return _table(heads, rows)


def reference_table() -> str:
    """Return the UAR of the committed runs as a Markdown table, in per cent."""
    board = runs.leaderboard(runs.load_runs(REFERENCE))
    table = compare.systems(REFERENCE, board)
    low, mean, high = (100 * table[name] for name in ("uar_low", "uar", "uar_high"))
    spans = zip(mean, low, high, table["seeds"], strict=True)
    table["score"] = ["{:.1f} [{:.1f}, {:.1f}], {}".format(*span) for span in spans]
    wide = table.pivot(index=["corpus", "system"], columns="protocol", values="score")
    wide = wide.fillna("–")[table["protocol"].unique()].rename(columns="`{}`".format)
    rows = _table(("corpus", "system", *wide), wide.reset_index().to_numpy().tolist())
    pairs = compare.beside(board[board["model"] == "timnet"])
    pairs = pairs[~pairs["why_not"].str.contains("normalisation")]
    pairs = pairs.query("protocol == published_protocol and published_variant == ''")
    means = pairs.groupby(["corpus", "protocol", "published_uar"])["uar"].mean()
    told = [f"{c} `{p}` {our:.1f} ({of:.1f})" for (c, p, of), our in means.items()]
    return f"{rows}\n\nTIM-Net, mean over folds (published): {', '.join(told)}."


def chapters_table() -> str:
    """Return how long the chapters take to read, as a Markdown table."""
    rows = []
    for path in sorted((REPOSITORY / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        cells = [c for c in cells if not student.OWN & {*c.metadata.get("tags", [])}]
        prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
        # Nobody reads the source of a drawing.
        words = re.sub(r"(?s)```mermaid.*?```", "", " ".join(prose)).split()
        words, code = len(words), len(cells) - len(prose)
        rows.append((f"`{path.stem}`", words, code, round(words / 150 + code / 2)))
    return _table(("chapter", "words", "code cells", "minutes of reading"), rows)


def picture() -> bytes:
    """Return the figure of the README: that of 08 which shows the way down."""
    cells = nbformat.read(REPOSITORY / "notebooks/08_leakage.ipynb", as_version=4).cells
    (drawn,) = (cell for cell in cells if cell.id == PICTURE)
    return base64.b64decode(drawn.outputs[-1].data["image/png"])


def filled(text: str) -> str:
    """Return Markdown with the tables between `<!-- table: name -->` made anew."""
    tables = {
        "systems": systems_table,
        "parameters": parameters_table,
        "protocols": protocols_table,
        "reference": reference_table,
        "chapters": chapters_table,
    }
    return re.sub(
        r"<!-- table: (\w+) -->\n.*?<!-- end -->",
        lambda match: f"<!-- table: {match[1]} -->\n{tables[match[1]]()}\n<!-- end -->",
        text,
        flags=re.DOTALL,
    )


def _allowed(annotation: Any) -> str:
    """Return the values that a type annotation allows, for people."""
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value!r}`" for value in get_args(annotation))
    plain = get_origin(annotation) or annotation
    names = {str: "text", int: "whole number", float: "number", bool: "yes or no"}
    names |= {list: "list", dict: "mapping"}
    return names[plain]


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    # A bar inside a cell would start another one.
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |"
        for line in lines
    )


if __name__ == "__main__":
    for page in PAGES:
        write_text(REPOSITORY / page, filled((REPOSITORY / page).read_text("utf-8")))
    (REPOSITORY / "docs/results.png").write_bytes(picture())
