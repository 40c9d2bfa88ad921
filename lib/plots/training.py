"""Folds and curves: who trains and tests, and how the training went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from natsort import natsorted

from lib.plots.look import (
    BLUE,
    FAINT,
    INK,
    ORANGE,
    ROLE_COLOURS,
    axes,
    finish,
    label_right,
    percent,
)

_CELL = 0.92  # width of a cell; the rest is the gap between folds


class FoldRows(Protocol):
    """What a fold has to tell: row indices by role."""

    number: int
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def folds_grid(
    folds: Sequence[FoldRows],
    speaker: np.ndarray,
    *,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw who trains, who chooses the epoch and who tests in every fold.

    A cell of one colour is a speaker with one role; a cell of several is a
    speaker whose utterances are on several sides. Numbers are utterances.

    Args:
        folds: Folds with `number`, `train`, `validation` and `test`.
        speaker: Speaker of every row, (n,).
        ax: Axis to draw on.
        title: Title.
    """
    speaker = np.asarray(speaker)
    names = natsorted(np.unique(speaker))
    ax = axes(ax, height=min(9.0, 1.1 + max(1.2, 0.2 * len(names))))
    parts = [_cells(fold, speaker, names) for fold in folds]
    cells = pd.concat(parts, ignore_index=True)
    positions = {fold.number: place for place, fold in enumerate(folds)}
    cells["left"] += cells["fold"].map(positions) - _CELL / 2
    for role in ROLE_COLOURS:
        _draw_role(ax, cells[cells["role"] == role], role, small=len(names) > 12)
    ax.set_xticks(range(len(folds)), [fold.number for fold in folds])
    ax.set_yticks(range(len(names)), [name or "unknown" for name in names])
    ax.tick_params(length=0, labelleft=len(names) <= 45)
    ax.set_xlim(-0.5, len(folds) - 0.5)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.spines[:].set_visible(False)
    ax.legend(
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=len(ROLE_COLOURS),
        handlelength=1,
        borderaxespad=0.2,
    )
    return finish(ax, title, "fold", "speaker")


def _cells(fold: FoldRows, speaker: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """Return row, role, count, left edge and width of all parts of a fold."""
    role = np.full(len(speaker), "", dtype=object)
    role[fold.train] = "trains"
    role[fold.validation] = "chooses the epoch"
    role[fold.test] = "tests"
    role[np.intersect1d(fold.validation, fold.test)] = "tests and chooses"
    counts = pd.crosstab(speaker, role).reindex(index=names)
    counts = counts.reindex(columns=list(ROLE_COLOURS), fill_value=0).to_numpy()
    widths = _CELL * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    place, kind = np.nonzero(counts)
    return pd.DataFrame(
        {
            "fold": fold.number,
            "row": place,
            "role": np.array(list(ROLE_COLOURS))[kind],
            "count": counts[place, kind],
            "left": (np.cumsum(widths, axis=1) - widths)[place, kind],
            "width": widths[place, kind],
        }
    )


def _draw_role(ax: Axes, cells: pd.DataFrame, role: str, *, small: bool) -> None:
    if not len(cells):
        return
    leaks = role == "tests and chooses"
    hatch = {"hatch": "////", "edgecolor": "white"} if leaks else {}
    place = (cells["row"], cells["width"], 0.86, cells["left"])
    ax.barh(*place, color=ROLE_COLOURS[role], linewidth=0, label=role, **hatch)
    for _, cell in cells[cells["width"] >= 0.3 * _CELL].iterrows():
        ax.text(
            cell["left"] + cell["width"] / 2,
            cell["row"],
            cell["count"],
            ha="center",
            va="center_baseline",
            fontsize=7 if small else 9,
            color="white" if role.startswith("tests") else INK,
        )


def training_curves(
    history: pd.DataFrame,
    metric: str = "loss",
    *,
    chosen: Mapping[int, int] | None = None,
    floor: float | None = None,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw a metric over the epochs: folds thin, their mean bold.

    Args:
        history: Columns fold, epoch, the metric, and val_<metric> where there is
            validation.
        metric: "loss", "accuracy" or "uar".
        chosen: Epoch that is tested, by fold; marked on the validation curve, or
            on the training curve where there is none.
        floor: The lowest loss that smoothed labels allow, in nats.
        ax: Axis to draw on.
        title: Title.

    Raises:
        ValueError: If the history lacks the metric.
    """
    if metric not in history:
        raise ValueError(f"history lacks '{metric}'; it has {list(history.columns)}")
    ax = axes(ax)
    sides = {"training": (metric, BLUE, "-")}
    if f"val_{metric}" in history and history[f"val_{metric}"].notna().any():
        sides["validation"] = (f"val_{metric}", ORANGE, "--")
    ends, colours = {}, {}
    for name, (column, colour, line) in sides.items():
        wide = history.pivot(index="epoch", columns="fold", values=column)
        several = wide.shape[1] > 1
        if several:
            ax.plot(wide, color=colour, linestyle=line, linewidth=0.6, alpha=0.45)
        # Where a fold has ended, a mean would be that of the others.
        mean = wide.mean(axis=1, skipna=False).dropna()
        ax.plot(mean, color=colour, linestyle=line, linewidth=2.2, label=name)
        text = f"{name} (mean)" if several else name
        ends[text], colours[text] = float(mean.iloc[-1]), colour
    _mark_chosen(ax, wide, chosen or {}, colour)
    if floor is not None:
        ax.axhline(floor, color=FAINT, linestyle=":", linewidth=1.4)
        text = f"floor {floor:.3f}"
        ends[text], colours[text] = floor, FAINT
    _limits(ax, metric, history["epoch"])
    label_right(ax, ends, colours)
    unit = {"loss": "loss (nats)", "accuracy": "WAR (accuracy)", "uar": "UAR"}
    return finish(ax, title, "epoch", unit.get(metric, metric))


def _mark_chosen(
    ax: Axes, wide: pd.DataFrame, chosen: Mapping[int, int], colour: str
) -> None:
    points = [(epoch, wide.loc[epoch, fold]) for fold, epoch in chosen.items()]
    if points:
        x, y = zip(*points, strict=True)
        ax.scatter(
            x,
            y,
            s=30,
            facecolor="white",
            edgecolor=colour,
            linewidth=1.4,
            zorder=5,
            label="chosen epoch",
        )
        ax.legend(handles=[ax.collections[-1]], loc="best")


def _limits(ax: Axes, metric: str, epochs: pd.Series) -> None:
    ax.set_xlim(epochs.min(), max(epochs.max(), epochs.min() + 1))
    if metric == "loss":
        ax.set_ylim(bottom=0)
    else:
        ax.set_ylim(0, 1.02)
        percent(ax.yaxis)
