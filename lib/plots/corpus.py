"""A corpus: how long its clips are, and who says what how often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lib.plots.look import BLUE, INK, axes, emotion_colours, finish, halo, written


def duration_histogram(
    seconds: np.ndarray,
    labels: Sequence[str] | None = None,
    *,
    clip_seconds: float = 0.0,
    bins: int = 40,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw how long the clips are, and how many a clip length crops.

    Args:
        seconds: Durations, (n,).
        labels: Emotion of every clip, (n,), to stack the bars by.
        clip_seconds: Length that clips are padded or cropped to; 0 for none.
        bins: Number of bars.
        ax: Axis to draw on.
        title: Title.
    """
    ax = axes(ax)
    seconds = np.asarray(seconds, float)
    edges = np.histogram_bin_edges(seconds, bins)
    if labels is None:
        ax.hist(seconds, edges, color=BLUE, linewidth=0.3)
    else:
        labels = np.asarray(labels)
        names = list(dict.fromkeys(map(str, labels)))
        colours = emotion_colours(names)
        ax.hist(
            [seconds[labels == name] for name in names],
            edges,
            stacked=True,
            linewidth=0.3,
            color=[colours[name] for name in names],
            label=names,
        )
        ax.legend(
            loc="center left", bbox_to_anchor=(1, 0.5), reverse=True, handlelength=1
        )
    if clip_seconds:
        _mark_clip_length(ax, seconds, clip_seconds)
    return finish(ax, title, "duration (s)", "clips")


def _mark_clip_length(ax: Axes, seconds: np.ndarray, clip_seconds: float) -> None:
    ax.axvline(clip_seconds, color=INK, linewidth=1.2, linestyle="--")
    ax.margins(y=0.2)
    low, high = ax.get_xlim()
    ax.set_xlim(low, max(high, clip_seconds + 0.02 * (high - low)))
    low, high = ax.get_xlim()
    right = clip_seconds > (low + high) / 2
    ax.annotate(
        f"clip length {clip_seconds:.2f} s\n"
        f"{written(np.mean(seconds > clip_seconds), 1)} are longer and cropped",
        (clip_seconds, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if right else 5, -2),
        textcoords="offset points",
        ha="right" if right else "left",
        va="top",
        fontsize=9,
        path_effects=halo(),
    )


def counts(table: pd.DataFrame, *, ax: Axes | None = None, title: str = "") -> Axes:
    """Draw how many clips there are of each emotion by each speaker.

    Args:
        table: Counts, emotions in rows and speakers in columns, as
            `pandas.crosstab` makes them.
        ax: Axis to draw on.
        title: Title.
    """
    ax = axes(ax)
    values = table.to_numpy()
    legible = table.shape[1] <= 30
    # Where numbers stand in the cells, the colours stay light enough for them.
    top = max(values.max(), 1) * (2.2 if legible else 1)
    image = ax.imshow(values, aspect="auto", cmap="Blues", vmin=0, vmax=top)
    if legible:
        for (row, column), value in np.ndenumerate(values):
            ax.text(column, row, value, ha="center", va="center", fontsize=8)
    else:
        ax.figure.colorbar(image, ax=ax, pad=0.02).set_label("clips")
    _name_columns(ax, table.columns)
    ax.set_yticks(range(len(table)), table.index)
    ax.tick_params(length=0)
    return finish(ax, title, "speaker", "emotion")


def _name_columns(ax: Axes, names: Sequence[str]) -> None:
    names = [str(name) for name in names]
    every = max(1, -(-len(names) // 60))  # more names than fit are thinned out
    crowded = sum(len(name) + 1 for name in names) > 80
    ax.set_xticks(
        range(0, len(names), every), names[::every], rotation=90 if crowded else 0
    )


def label_counts(
    found: Mapping[str, int],
    expected: Mapping[str, int] | None = None,
    *,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw how many clips of each emotion there are, against what there should be.

    Args:
        found: Clips by emotion.
        expected: What the publication says, by emotion.
        ax: Axis to draw on.
        title: Title.
    """
    names = list(dict.fromkeys([*(expected or {}), *found]))
    ax = axes(ax, height=1.0 + 0.28 * len(names))
    colours = emotion_colours(names)
    here = [found.get(name, 0) for name in names]
    colour = [colours[name] for name in names]
    ax.barh(range(len(names)), here, color=colour, height=0.7)
    for row, (name, count) in enumerate(zip(names, here, strict=True)):
        should = (expected or {}).get(name, count)
        if expected:
            ax.plot([should] * 2, [row - 0.43, row + 0.43], color=INK, linewidth=2)
        text = f"{count}" if count == should else f"{count} of {should}"
        ax.annotate(
            text,
            (max(count, should), row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            fontweight="normal" if count == should else "bold",
        )
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.set_xlim(left=0)
    return finish(ax, title, "clips" + " (line: expected)" * bool(expected))
