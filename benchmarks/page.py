"""Write docs/cost.md and its figure from the saved figures of the suite.

usage: python -m benchmarks.page

Every number of the page is computed from benchmarks/results/last.json; the prose is
that of benchmarks/cost.template.md.
"""

from __future__ import annotations

import hashlib
import json
import string
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import curves, suite
from benchmarks.fresh import REPOSITORY
from benchmarks.step import BATCH

TEMPLATE = REPOSITORY / "benchmarks" / "cost.template.md"
PAGE = REPOSITORY / "docs" / "cost.md"
FIGURE = REPOSITORY / "docs" / "cost.png"
# What grows, what it costs, and how the axes are called.
CURVES = {
    "clips": ("clips of an epoch", "time of an epoch"),
    "frames": ("frames of a clip", f"time of a step of {BATCH} clips"),
    "folds": ("folds of a run", "time of a whole run"),
}
PROPORTIONAL = 0.1  # so far from 1 an exponent is still called proportional


def page(data: Mapping[str, Any]) -> str:
    """Return the page as Markdown.

    Args:
        data: What `suite.read` returned.

    Raises:
        ValueError: If the curves have not been measured.
    """
    found = measured_curves(data)
    values = {
        "exponents": exponents(found),
        "targets": markdown(suite.HEADS, suite.rows(data["targets"])),
        "machine": machine(data),
        "parts": parts(data),
        "busy": busy(data),
        "models": systems(found["models"]),
        "batch": BATCH,
        "fold_epochs": curves.FOLD_EPOCHS,
        "fold_clips": curves.FOLD_CLIPS,
        "fold_dilations": curves.FOLD_DILATIONS,
        **compared(found["models"]["systems"]),
        **fold_costs(found["folds"]),
    }
    for name in CURVES:
        values |= growth(name, found[name])
    template = string.Template(TEMPLATE.read_text("utf-8"))
    return template.substitute(values)


def measured_curves(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the curves of the saved figures.

    Raises:
        ValueError: If they have not been measured.
    """
    figures = data.get("parts", {}).get("curves", {}).get("figures")
    if not figures:
        raise ValueError(
            "the curves have not been measured; run "
            "`python -m benchmarks.suite --only curves --save`"
        )
    return figures


def markdown(heads: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    every = [heads, ["---"] * len(heads), *lines]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in every)


def exponents(found: Mapping[str, Any]) -> str:
    """Return the table of the exponents, and what each of them means."""
    lines = []
    for name, (size, cost) in CURVES.items():
        slope = found[name]["exponent"]
        twice = f"{2**slope:.2f} times"
        lines.append((cost, size, f"{slope:.2f}", twice, verdict(slope)))
    heads = ("cost", "grows with", "exponent", "twice as many cost", "that is")
    return markdown(heads, lines)


def verdict(slope: float) -> str:
    """Return how a cost of some exponent grows, in words."""
    if abs(slope - 1) <= PROPORTIONAL:
        return "in proportion"
    return f"{'less' if slope < 1 else 'more'} than in proportion"


def growth(name: str, found: Mapping[str, Any]) -> dict[str, str]:
    """Return the table of a curve, and its last point over its first."""
    points, unit = found["points"], found["unit"]
    lines = [
        (
            point["size"],
            suite.number(point["median"], unit),
            f"{suite.number(point['low'])} to {suite.number(point['high'], unit)}",
        )
        for point in points
    ]
    first, last = points[0], points[-1]
    size, cost = CURVES[name]
    return {
        name: markdown((size, f"{cost}, median", "fastest to slowest"), lines),
        f"{name}_factor": f"{last['size'] / first['size']:.2g}",
        f"{name}_cost": f"{last['median'] / first['median']:.2g}",
    }


def fold_costs(found: Mapping[str, Any]) -> dict[str, str]:
    """Return what a run of one fold takes, and what every further fold adds."""
    first, last = found["points"][0], found["points"][-1]
    further = (last["median"] - first["median"]) / (last["size"] - first["size"])
    return {
        "folds_first": suite.number(first["median"], found["unit"]),
        "folds_further": suite.number(further, found["unit"]),
    }


def titles() -> dict[str, str]:
    """Return how every system is called in prose."""
    from lib.systems import SYSTEMS

    return {name: system.title for name, system in SYSTEMS.items()}


def systems(found: Mapping[str, Any]) -> str:
    """Return the table of the systems, the fastest first."""
    lines = [
        (
            titles()[name],
            suite.number(one["median"], found["unit"]),
            f"{suite.number(one['low'])} to {suite.number(one['high'], found['unit'])}",
            f"{one['parameters']:,}",
        )
        for name, one in by_time(found["systems"])
    ]
    heads = ("system", f"step of {BATCH} clips", "fastest to slowest", "parameters")
    return markdown(heads, lines)


def by_time(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the systems, the fastest first."""
    return sorted(found.items(), key=lambda item: item[1]["median"])


def compared(found: Mapping[str, Any]) -> dict[str, str]:
    """Return the slowest system beside the fastest, and order beside order."""
    from scipy.stats import spearmanr

    ordered = by_time(found)
    (fastest, least), (slowest, most) = ordered[0], ordered[-1]
    sizes = [one["parameters"] for _, one in ordered]
    same = float(spearmanr(range(len(sizes)), sizes).statistic)
    each = {name: 1e3 * one["median"] / one["parameters"] for name, one in ordered}
    lean, heavy = min(each, key=each.get), max(each, key=each.get)
    return {
        "fastest": titles()[fastest],
        "slowest": titles()[slowest],
        "slower": f"{most['median'] / least['median']:.2g}",
        "more_parameters": f"{most['parameters'] / least['parameters']:.2g}",
        "rank_correlation": f"{same:.2f}",
        "least_name": titles()[lean],
        "least_per_thousand": suite.number(each[lean], "ms"),
        "most_name": titles()[heavy],
        "most_per_thousand": suite.number(each[heavy], "ms"),
    }


def machine(data: Mapping[str, Any]) -> str:
    """Return the machine and the versions as a table."""
    where = data["machine"]
    lines = [
        ("processor", f"{where['processor']} ({where['architecture']})"),
        ("cores", where["cores"]),
        ("memory", f"{where['memory_gib']} GiB"),
        ("operating system", where["system"]),
        *data["versions"].items(),
    ]
    return markdown(("machine", "value"), lines)


def parts(data: Mapping[str, Any]) -> str:
    """Return when and of which commit every part was measured, as a table."""
    lines = []
    for name, part in data["parts"].items():
        commit = part["code"]["commit"][:7] or "unknown"
        changed = " with changes" if part["code"]["changed"] else ""
        lines.append(
            (
                f"`{name}`",
                f"{part['status']} {part['error']}".strip().replace("|", "\\|"),
                part["started"],
                f"{part['seconds']:.0f} s",
                part["load"],
                f"`{commit}`{changed}",
            )
        )
    heads = ("part", "outcome", "started", "took", "load before", "commit")
    return markdown(heads, lines)


def busy(data: Mapping[str, Any]) -> str:
    """Return what else the machine was doing when the curves were begun."""
    load, cores = data["parts"]["curves"]["load"], data["machine"]["cores"]
    said = (
        f"In the minute before the curves were begun, {load} processes on average ran "
        f"or waited for {cores} cores"
    )
    if load < cores / 4:
        return f"{said}: the machine was quiet."
    return (
        f"{said}: the machine had other work, so that these times are longer, and "
        "scatter more, than those of a quiet one."
    )


def digest(data: Mapping[str, Any]) -> str:
    """Return a digest of what the figure shows; the file of the figure holds it."""
    shown = json.dumps(measured_curves(data), sort_keys=True)
    return hashlib.sha256(shown.encode()).hexdigest()


def figure(data: Mapping[str, Any]):
    """Return the figure of the curves, as Matplotlib's.

    Args:
        data: What `suite.read` returned.

    Raises:
        ValueError: If the curves have not been measured.
    """
    from matplotlib.figure import Figure

    from lib import plots

    plots.style()
    found = measured_curves(data)
    drawn = Figure(figsize=(9, 7), layout="constrained")
    axes = drawn.subplots(2, 2).ravel()
    for ax, name in zip(axes, CURVES, strict=False):
        draw_curve(ax, name, found[name])
    draw_systems(axes[-1], found["models"])
    return drawn


def draw_curve(ax, name: str, found: Mapping[str, Any]) -> None:
    """Draw a curve with its spread, and a proportional one from its last point."""
    from lib.plots.look import BLUE, FAINT, finish

    points = found["points"]
    sizes = [point["size"] for point in points]
    medians = [point["median"] for point in points]
    spread = [
        [point["median"] - point["low"] for point in points],
        [point["high"] - point["median"] for point in points],
    ]
    logarithmic(ax, sizes)
    last = medians[-1]
    proportional = [last * size / sizes[-1] for size in sizes]
    ax.plot(sizes, proportional, "--", color=FAINT, label="in proportion")
    label = f"measured, exponent {found['exponent']:.2f}"
    ax.errorbar(sizes, medians, spread, fmt="o-", color=BLUE, capsize=3, label=label)
    size, cost = CURVES[name]
    finish(ax, name.capitalize(), size, f"{cost} ({found['unit']})")
    ax.legend(loc="best")


def draw_systems(ax, found: Mapping[str, Any]) -> None:
    """Draw the time of a step of every system over its parameters."""
    from lib.plots.look import BLUE, INK, finish, halo

    logarithmic(ax)
    for name, one in found["systems"].items():
        at = (one["parameters"], one["median"])
        ax.plot(*at, "o", color=BLUE)
        ax.annotate(
            titles()[name],
            at,
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            color=INK,
            fontsize=9,
            path_effects=halo(),
        )
    ax.margins(0.12)
    ax.set_xlim(right=2.5 * ax.get_xlim()[1])  # room for the name of the largest
    cost = f"time of a step of {BATCH} clips ({found['unit']})"
    finish(ax, "Systems", "trainable parameters", cost)


def logarithmic(ax, ticks: Sequence[int] = ()) -> None:
    """Make both axes logarithmic, with plain numbers on them."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    ax.set_xscale("log")
    ax.set_yscale("log")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
        axis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    if ticks:
        ax.set_xticks(ticks)


def main() -> int:
    """Write page and figure; return the exit status."""
    from lib.files import atomic_path, write_text

    data = suite.read()
    write_text(PAGE, page(data))
    with atomic_path(FIGURE) as temporary:
        figure(data).savefig(temporary, metadata={"Description": digest(data)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
