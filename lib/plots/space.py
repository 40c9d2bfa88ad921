"""Spaces: embeddings in the plane, and who neighbours whom."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from natsort import natsorted
from scipy.spatial.distance import cdist

from lib.plots.letters import make_legible
from lib.plots.look import (
    BLUE,
    INK,
    ORANGE,
    axes,
    emotion_colours,
    finish,
    percent,
    speaker_colours,
    written,
)


def embedding(
    points: np.ndarray,
    labels: np.ndarray,
    *,
    palette: Mapping[str, str] | str = "emotion",
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw points of a plane, each group named at its medoid.

    Args:
        points: (n, 2); the axes of t-SNE have no unit and no direction.
        labels: Emotion or speaker of every point, (n,).
        palette: "emotion", "speaker", or a colour for every label.
        ax: Axis to draw on.
        title: Title.
    """
    ax = axes(ax, width=6, height=5)
    points, labels = np.asarray(points), np.asarray(labels).astype(str)
    names = natsorted(np.unique(labels))
    if isinstance(palette, str):
        makers = {"emotion": emotion_colours, "speaker": speaker_colours}
        if palette not in makers:
            raise ValueError(f"palette is '{palette}'; one of {list(makers)} or a dict")
        palette = makers[palette](names)
    size = float(np.clip(16_000 / len(points), 8, 40))
    # In one call and in random order, so that no group hides the others.
    order = np.random.default_rng(0).permutation(len(points))
    ax.scatter(
        *points[order].T,
        s=size,
        c=[palette[name] for name in labels[order]],
        linewidth=0,
        alpha=0.8,
    )
    ax.margins(0.04)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    _name_groups(ax, {name: medoid(points[labels == name]) for name in names}, palette)
    return finish(ax, title)


def medoid(points: np.ndarray) -> np.ndarray:
    """Return the point whose distances to all others sum to the least."""
    return points[cdist(points, points).sum(axis=1).argmin()]


def _name_groups(
    ax: Axes, places: Mapping[str, np.ndarray], palette: Mapping[str, str]
) -> None:
    texts = [
        ax.annotate(
            name,
            place,
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=10 if len(places) <= 12 else 8,
            fontweight="bold",
            color=INK,
            bbox={
                "boxstyle": "round,pad=0.18",
                "facecolor": "white",
                "edgecolor": palette[name],
                "linewidth": 1.8,
                "alpha": 0.92,
            },
        )
        for name, place in places.items()
    ]
    _push_apart(ax, texts)


def _push_apart(ax: Axes, texts: list, rounds: int = 200) -> None:
    """Move annotations up and down until their boxes no longer overlap."""
    figure = ax.figure
    make_legible(figure)
    figure.draw_without_rendering()  # the layout has to be known
    boxes = [
        text.get_bbox_patch().get_window_extent().padded(1).get_points()
        for text in texts
    ]
    moved = np.zeros(len(texts))
    for _ in range(rounds):
        calm = True
        for i in range(len(texts)):
            for j in range(i):
                (xi, yi), (xj, yj) = boxes[i].T, boxes[j].T
                across = min(xi[1], xj[1]) - max(xi[0], xj[0])
                along = min(yi[1], yj[1]) - max(yi[0], yj[0])
                if across <= 0 or along <= 0:
                    continue
                calm = False
                sign = 1 if yi.sum() >= yj.sum() else -1
                for index, step in ((i, sign), (j, -sign)):
                    boxes[index][:, 1] += step * (along / 2 + 0.01)
                    moved[index] += step * (along / 2 + 0.01)
        if calm:
            break
    for text, shift in zip(texts, moved, strict=True):
        text.set_position((0, shift * 72 / figure.dpi))


def purity_bars(
    table: pd.DataFrame, *, ax: Axes | None = None, title: str = ""
) -> Axes:
    """Draw which share of neighbours are of the same emotion or speaker.

    Args:
        table: Columns space (e.g. "MFCC", "embedding"), kind ("emotion" or
            "speaker"), purity and chance (shares).
        ax: Axis to draw on.
        title: Title.
    """
    ax = axes(ax)
    spaces, kinds = list(table["space"].unique()), list(table["kind"].unique())
    colours = dict(zip(kinds, (BLUE, ORANGE, INK), strict=False))
    width = 0.8 / len(kinds)
    for number, kind in enumerate(kinds):
        part = table[table["kind"] == kind].set_index("space").reindex(spaces)
        x = np.arange(len(spaces)) + (number - (len(kinds) - 1) / 2) * width
        bars = ax.bar(x, part["purity"], width * 0.94, color=colours[kind], label=kind)
        texts = [f"{kind}\n{written(value)}" for value in part["purity"]]
        ax.bar_label(bars, texts, padding=2, fontsize=9)
        ends = (x - width / 2, x + width / 2)
        ax.hlines(part["chance"], *ends, color=INK, linestyle=":", linewidth=1.6)
    ax.plot([], [], color=INK, linestyle=":", linewidth=1.6, label="chance")
    ax.legend(handles=[ax.lines[-1]], loc="center left", bbox_to_anchor=(1, 0.5))
    ax.set_xticks(range(len(spaces)), spaces)
    ax.set_ylim(0, 1.2)
    ax.set_yticks(np.linspace(0, 1, 6))
    percent(ax.yaxis)
    return finish(ax, title, "", "same among neighbours")
