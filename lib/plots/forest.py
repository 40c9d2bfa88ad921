"""Tables as forest plots: runs against each other, and against publications."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from lib.plots.look import BLUE, INK, ORANGE, axes, finish, halo, written

_HEADER = 0.9  # rows that the heading of a group takes


def leaderboard(
    table: pd.DataFrame,
    *,
    chance: float | None = None,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw runs with their intervals, best first inside each protocol.

    Scores of different protocols answer different questions, so each protocol
    is a group of its own. Runs on synthetic audio are hollow and say so;
    intervals of too few speakers are dotted.

    Args:
        table: Columns name, uar, low, high, protocol, synthetic and, if known,
            reliable.
        chance: Chance UAR, drawn as a dotted line.
        ax: Axis to draw on.
        title: Title.
    """
    order = {name: rank for rank, name in enumerate(table["protocol"].unique())}
    ranked = table.assign(rank=table["protocol"].map(order)).sort_values(
        ["rank", "uar"], ascending=[True, False], kind="stable"
    )
    certain = pd.Series(True, index=ranked.index)
    frame = pd.DataFrame(
        {
            "group": ranked["protocol"],
            "label": [
                f"{name} (synthetic audio)" if synthetic else name
                for name, synthetic in zip(
                    ranked["name"], ranked["synthetic"], strict=True
                )
            ],
            "value": ranked["uar"],
            "low": ranked["low"],
            "high": ranked["high"],
            "colour": BLUE,
            "hollow": ranked["synthetic"].astype(bool),
            "dotted": ~ranked.get("reliable", certain).astype(bool),
        }
    )
    ax = _forest(ax, frame)
    if chance is not None:
        bottom, top = ax.get_ylim()
        ax.set_ylim(bottom + 0.6, top)  # room for the text
        ax.axvline(chance, color=INK, linestyle=":", linewidth=1.2, zorder=1)
        ax.annotate(
            f"chance {written(chance, 1)}",
            (chance, 0),
            xycoords=("data", "axes fraction"),
            xytext=(4, 3),
            textcoords="offset points",
            fontsize=9,
        )
    return finish(ax, title, "UAR, pooled over the test folds")


def published_versus_ours(
    table: pd.DataFrame,
    *,
    metric: str = "UAR",
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw published scores and ours side by side, each with its protocol.

    Args:
        table: Columns name (what is compared, a group of rows), source, protocol,
            value and ours (bool); low and high if known.
        metric: Name of the score.
        ax: Axis to draw on.
        title: Title.
    """
    grouped = table.sort_values("name", key=_first_seen, kind="stable")
    ours = grouped["ours"].astype(bool)
    empty = pd.Series(np.nan, index=grouped.index)
    frame = pd.DataFrame(
        {
            "group": grouped["name"],
            "label": grouped["source"] + ": " + grouped["protocol"],
            "value": grouped["value"],
            "low": grouped.get("low", empty),
            "high": grouped.get("high", empty),
            "colour": np.where(ours, BLUE, ORANGE),
            "hollow": ~ours,
            "dotted": False,
        }
    )
    ax = _forest(ax, frame)
    keys = [
        _key("ours", BLUE, hollow=False),
        _key("published", ORANGE, hollow=True),
    ]
    # Below the label of the axis: above, it would meet a long title.
    place = {"loc": "upper right", "bbox_to_anchor": (1, 0), "borderaxespad": 4.5}
    ax.legend(handles=keys, ncols=2, **place)
    return finish(ax, title, metric)


def differences(
    table: pd.DataFrame, *, ax: Axes | None = None, title: str = ""
) -> Axes:
    """Draw differences between systems with their intervals, and a line at none.

    Args:
        table: Columns name (a group of rows), label, difference (first minus
            second), low, high and, if known, reliable.
        ax: Axis to draw on.
        title: Title.
    """
    frame = pd.DataFrame(
        {
            "group": table["name"],
            "label": table["label"],
            "value": table["difference"],
            "low": table["low"],
            "high": table["high"],
            "colour": BLUE,
            "hollow": False,
            "dotted": ~table.get("reliable", pd.Series(True, table.index)).astype(bool),
        }
    )
    ax = _forest(ax, frame, write=_points)
    ax.axvline(0, color=INK, linewidth=1, zorder=1)
    ax.xaxis.set_major_formatter(_tick_in_points)
    return finish(ax, title, "difference in UAR (percentage points)")


def _points(difference: float, decimals: int) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    points = round(100 * difference, decimals)
    # Zero has no sign, also where it was rounded from below.
    text = f"{points:+.{decimals}f}" if points else f"{0:.{decimals}f}"
    return text.replace("-", "−")


def _tick_in_points(share: float, _: int) -> str:
    points = round(100 * share, 6)
    return f"{points:+.4g}".replace("-", "−") if points else "0"


def _first_seen(column: pd.Series) -> pd.Series:
    return column.map({name: rank for rank, name in enumerate(column.unique())})


def _key(label: str, colour: str, *, hollow: bool) -> Line2D:
    face = "white" if hollow else colour
    looks = {"linestyle": "", "marker": "o", "color": colour, "markerfacecolor": face}
    return Line2D([], [], label=label, **looks)


def _forest(
    ax: Axes | None,
    frame: pd.DataFrame,
    write: Callable[[float, int], str] = written,
) -> Axes:
    """Draw one row for each entry, under the heading of its group."""
    labels = [textwrap.fill(str(label), 48) for label in frame["label"]]
    places, headings, end = _places(labels, frame["group"].tolist())
    ax = axes(ax, height=min(12.0, 1.0 + 0.24 * end))
    for group, y in headings.items():
        _heading(ax, y, str(group))
    for y, (_, row) in zip(places, frame.iterrows(), strict=True):
        _draw_row(ax, y, row, write)
    ax.set_yticks(places, labels)
    ax.set_ylim(end - 0.3, -0.7)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    ax.set_axisbelow(True)
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    # As many decimals as the step needs: rounded ticks would look uneven.
    ax.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.4g} %")
    return ax


def _places(
    labels: list[str], groups: list[str]
) -> tuple[list[float], dict[str, float], float]:
    """Return the heights of rows and of headings, and the height of all."""
    place, places, headings = 0.0, [], {}
    for label, group in zip(labels, groups, strict=True):
        if group not in headings:
            place += 0.3 * bool(headings)
            headings[group] = place
            place += _HEADER
        more = 0.7 * label.count("\n")
        places.append(place + more / 2)
        place += 1 + more
    return places, headings, place


def _heading(ax: Axes, y: float, text: str) -> None:
    ax.annotate(
        text,
        (0, y),
        xycoords=("axes fraction", "data"),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        fontweight="bold",
        path_effects=halo(4),
    )


def _draw_row(
    ax: Axes, y: float, row: pd.Series, write: Callable[[float, int], str]
) -> None:
    text = write(row["value"], 1)
    if np.isfinite(row["low"]):
        line = ":" if row["dotted"] else "-"
        ax.plot(
            [row["low"], row["high"]], [y, y], color=row["colour"], linestyle=line, lw=2
        )
        ends = [write(row[name], 0).removesuffix(" %") for name in ("low", "high")]
        text += f"  [{', '.join(ends)}]"
    face = "white" if row["hollow"] else row["colour"]
    ax.plot(
        row["value"], y, "o", color=row["colour"], markerfacecolor=face, markersize=7
    )
    ax.annotate(
        text,
        (1, y),
        xycoords=("axes fraction", "data"),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
    )
