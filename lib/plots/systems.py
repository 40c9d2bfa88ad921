"""What the systems cost, and where they look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import StrMethodFormatter

from lib.plots.look import (
    BLUE,
    FAINT,
    INK,
    ORANGE,
    axes,
    emotion_colours,
    finish,
    label_right,
    percent,
)

LINES = (BLUE, ORANGE, "#4B8B5A", "#8A4F9E", INK)


def magnitudes(
    values: Mapping[str, float],
    unit: str,
    *,
    names: bool = True,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw one quantity of several systems, on a logarithmic axis.

    Args:
        values: Positive quantity by system; NaN for one that has none.
        unit: What the numbers are, for the axis.
        names: Write the systems beside the axis.
        ax: Axis to draw on.
        title: Title.
    """
    values = dict(values)
    ax = axes(ax, width=5, height=0.9 + 0.3 * len(values))
    numbers = np.array(list(values.values()), float)
    known = numbers[np.isfinite(numbers)]
    low = known.min() / 2
    inches = ax.get_window_extent().width / ax.figure.dpi
    room = min(0.5, 0.75 / inches)  # of the axis, for the written value
    high = low * (known.max() / low) ** (1 / (1 - room))
    rows = np.arange(len(numbers))
    ax.hlines(rows, low, numbers, color=FAINT, linewidth=1)
    ax.plot(numbers, rows, "o", color=BLUE, markersize=6)
    for row, number in zip(rows, numbers, strict=True):
        ax.annotate(
            _short(number),
            (number if np.isfinite(number) else low, row),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    ax.set_yticks(rows, list(values) if names else [""] * len(values))
    ax.set_ylim(len(numbers) - 0.4, -0.6)
    return finish(ax, title, unit)


def _short(number: float) -> str:
    """Return a number in three digits: 0.051, 7.3, 104 k, 1.38 M; "–" for NaN."""
    if not np.isfinite(number):
        return "–"
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def footprint(
    change: np.ndarray,
    dilations: Sequence[int],
    hop_seconds: float,
    *,
    at: int | None = None,
    bar: bool = True,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw which frames the output of each block at one frame depends on.

    Args:
        change: What altering each frame changes, (blocks, frames); 0 stays white.
        dilations: Dilation of each block.
        hop_seconds: Distance of frames in seconds.
        at: The frame looked at; None for the middle one.
        bar: Say beside it what the colours mean.
        ax: Axis to draw on.
        title: Title.
    """
    ax = axes(ax, height=1.2 + 0.27 * len(dilations))
    blocks, frames = change.shape
    at = frames // 2 if at is None else at
    share = change / change.max(axis=1, keepdims=True)
    image = ax.imshow(
        np.where(share > 0, share, np.nan),
        aspect="auto",
        interpolation="nearest",
        cmap="YlGnBu",
        norm=LogNorm(1e-6, 1, clip=True),
        extent=(
            (-at - 0.5) * hop_seconds,
            (frames - at - 0.5) * hop_seconds,
            blocks - 0.5,
            -0.5,
        ),
    )
    ax.set_yticks(range(blocks), [str(dilation) for dilation in dilations])
    ax.axvline(0, color=ORANGE, linewidth=1)
    if bar:
        key = ax.figure.colorbar(image, ax=ax, pad=0.02)
        key.set_label("effect of a frame\n(share of the largest)")
    return finish(ax, title, "time from the frame (s)", "dilation of block")


def over_time(
    curves: Mapping[str, np.ndarray],
    hop_seconds: float,
    label: str,
    *,
    start: float = 0.0,
    time_label: str = "time (s)",
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw one value a frame for several systems or settings.

    Args:
        curves: Values (frames,) by name, at most five.
        hop_seconds: Distance of frames in seconds.
        label: What the values are, with their unit.
        start: Time of the first frame in seconds.
        time_label: What the time is counted from.
        ax: Axis to draw on.
        title: Title.
    """
    ax = axes(ax, height=2.8)
    colours = dict(zip(curves, LINES, strict=False))
    for name, values in curves.items():
        seconds = start + np.arange(len(values)) * hop_seconds
        ax.plot(seconds, values, color=colours[name], linewidth=1.4)
    ax.margins(x=0, y=0.2)  # labels of curves that end alike need height
    if len(curves) > 1:
        label_right(ax, {key: v[-1] for key, v in curves.items()}, colours)
    return finish(ax, title, time_label, label)


def level_weights(
    weights: np.ndarray,
    emotions: Sequence[str],
    dilations: Sequence[int],
    *,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw how an attention weighs the levels of every clip.

    Args:
        weights: Weight of each level, (clips, levels); rows sum to 1.
        emotions: Emotion of each clip.
        dilations: Dilation of the block behind each level.
        ax: Axis to draw on.
        title: Title.
    """
    ax = axes(ax)
    emotions = np.asarray(emotions, str)
    names = list(dict.fromkeys(emotions))
    colours = emotion_colours(names)
    shifts = np.linspace(-0.32, 0.32, len(names)) if len(names) > 1 else [0.0]
    rng = np.random.default_rng(0)  # dots that would hide each other are spread
    for name, shift in zip(names, shifts, strict=True):
        rows = weights[emotions == name]
        x = np.arange(len(dilations)) + shift + rng.uniform(-0.03, 0.03, rows.shape)
        ax.scatter(
            x, rows, s=6, color=colours[name], alpha=0.6, linewidth=0, label=name
        )
    ax.set_xticks(range(len(dilations)), [str(dilation) for dilation in dilations])
    ax.set_ylim(0, None)
    percent(ax.yaxis)
    ax.legend(markerscale=2, loc="upper left")
    return finish(ax, title, "dilation of the block", "weight of its level")


def histogram(
    values: np.ndarray,
    label: str,
    *,
    limits: tuple[float, float] = (0.0, 1.0),
    mark: float | None = None,
    mark_label: str = "",
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw how often values occur.

    Args:
        values: Any shape.
        label: What they are, with their unit.
        limits: Range of the axis: what the values could be.
        mark: A value to mark by a line.
        mark_label: What stands beside the line.
        ax: Axis to draw on.
        title: Title.
    """
    ax = axes(ax, height=2.8)
    flat = np.ravel(values)
    weights = np.full(len(flat), 1 / len(flat))
    ax.hist(flat, bins=80, range=limits, weights=weights, color=BLUE)
    ax.set_xlim(*limits)
    percent(ax.yaxis)
    if mark is not None:
        ax.axvline(mark, color=ORANGE, linewidth=1.6)
        ax.annotate(
            mark_label,
            (mark, 0.95),
            xycoords=("data", "axes fraction"),
            xytext=(-5, 0),
            textcoords="offset points",
            ha="right",
            va="top",
        )
    return finish(ax, title, label, "share of the values")


def best_so_far(
    scores: Mapping[str, np.ndarray],
    truth: float,
    *,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw what "the best epoch" reports, the longer one looks.

    Args:
        scores: Best score up to each epoch, (epochs,), by what was tested on.
        truth: The score that the network really has.
        ax: Axis to draw on.
        title: Title.
    """
    ax = axes(ax, height=2.8)
    colours = dict(zip(scores, LINES, strict=False))
    for name, values in scores.items():
        epochs = np.arange(1, len(values) + 1)
        ax.plot(epochs, values, color=colours[name], linewidth=1.6)
    ax.axhline(truth, color=INK, linewidth=1, linestyle=":")
    ax.annotate(
        "the truth", (1, truth), xytext=(2, -12), textcoords="offset points", fontsize=9
    )
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.set_xlim(1, max(len(values) for values in scores.values()))
    low, high = ax.get_ylim()
    ax.set_ylim(low - 0.12 * (high - low), high)
    percent(ax.yaxis)
    label_right(ax, {name: values[-1] for name, values in scores.items()}, colours)
    return finish(ax, title, "epochs looked at", "reported accuracy")
