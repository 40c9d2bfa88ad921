"""What TIM-Net sees: how far back its blocks reach, and which of them it trusts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from lib.plots.look import BLUE, FAINT, INK, ORANGE, axes, finish


def receptive_frames(
    dilations: Sequence[int], kernel_size: int, convolutions: int = 2
) -> np.ndarray:
    """Return how many frames the output of each block in a chain depends on.

    Args:
        dilations: Dilation of each block, in order.
        kernel_size: Taps of a convolution.
        convolutions: Convolutions in a block (a temporal-aware block has two).

    Returns:
        1 + convolutions (kernel_size - 1) (sum of the dilations so far), int.
    """
    return 1 + convolutions * (kernel_size - 1) * np.cumsum(dilations)


def receptive_field(
    dilations: Sequence[int],
    kernel_size: int,
    hop_seconds: float,
    *,
    convolutions: int = 2,
    clip_seconds: float = 0.0,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw how far back each block of a causal chain sees.

    Args:
        dilations: Dilation of each block, in order.
        kernel_size: Taps of a convolution.
        hop_seconds: Distance of frames in seconds.
        convolutions: Convolutions in a block.
        clip_seconds: Length of a clip, drawn as a line; 0 for none.
        ax: Axis to draw on.
        title: Title.
    """
    ax = axes(ax, height=1.1 + 0.27 * len(dilations))
    frames = receptive_frames(dilations, kernel_size, convolutions)
    seconds = frames * hop_seconds
    start = hop_seconds / 2  # a logarithmic axis has no zero
    rows = np.arange(len(frames))
    ax.barh(rows, seconds - start, left=start, height=0.7, color=BLUE)
    for row, (count, reach) in enumerate(zip(frames, seconds, strict=True)):
        ax.annotate(
            f"{count} frames, {reach:.2f} s",
            (start, row),
            xytext=(-6, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            color="white",
            fontsize=9,
        )
    ax.set_xscale("log")
    ax.set_xlim(max(seconds.max(), clip_seconds) * 1.15, start)
    _tick_seconds(ax)
    ax.set_yticks(rows, [str(dilation) for dilation in dilations])
    if clip_seconds:
        _mark_clip(ax, clip_seconds)
    return finish(ax, title, "seconds before the present frame", "dilation of block")


def _tick_seconds(ax: Axes) -> None:
    """Put ticks at round seconds of a logarithmic axis that runs backwards."""
    far, near = ax.get_xlim()
    round_ones = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
    ticks = [tick for tick in round_ones if near <= tick <= far]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_xticks([], minor=True)


def _mark_clip(ax: Axes, clip_seconds: float) -> None:
    ax.axvline(clip_seconds, color=ORANGE, linewidth=1.6)
    ax.annotate(
        f"clip {clip_seconds:.2f} s",
        (clip_seconds, -0.45),
        xytext=(-4, 0),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=9,
    )


def fusion_weights(
    weights: np.ndarray,
    dilations: Sequence[int],
    hop_seconds: float,
    *,
    kernel_size: int = 2,
    convolutions: int = 2,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw the learned weight of every block's level in the sum.

    Args:
        weights: One row for each fold, (folds, levels), or (levels,).
        dilations: Dilation of each block, in order.
        hop_seconds: Distance of frames in seconds.
        kernel_size: Taps of a convolution.
        convolutions: Convolutions in a block.
        ax: Axis to draw on.
        title: Title.

    Raises:
        ValueError: If there is not one weight for each block.
    """
    weights = np.atleast_2d(np.asarray(weights, float))
    if weights.shape[1] != len(dilations):
        raise ValueError(
            f"there are {weights.shape[1]} weights but {len(dilations)} dilations"
        )
    ax = axes(ax)
    x = np.arange(len(dilations))
    ax.bar(x, weights.mean(axis=0), width=0.65, color=BLUE, alpha=0.55)
    if len(weights) > 1:
        shifts = np.linspace(-0.2, 0.2, len(weights))[:, None]
        ax.scatter(x + shifts, weights, s=12, color=INK, linewidth=0, zorder=3)
    ax.axhline(0, color=FAINT, linewidth=0.8)
    seconds = receptive_frames(dilations, kernel_size, convolutions) * hop_seconds
    ticks = [f"{d}\n{s:.2f} s" for d, s in zip(dilations, seconds, strict=True)]
    ax.set_xticks(x, ticks)
    several = " (bar: mean, dots: folds)" if len(weights) > 1 else ""
    return finish(
        ax,
        title,
        "dilation of the block, and how far back it sees",
        f"fusion weight (no unit)\n{several.strip()}".strip(),
    )
