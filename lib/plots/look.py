"""One look for all figures: sizes, colours, and text that does not collide."""

from __future__ import annotations

import textwrap
import zlib
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from natsort import natsorted

from lib.plots.letters import make_legible

INK = "#333333"
FAINT = "#8C8C8C"
BLUE = "#3B6FA0"
ORANGE = "#D9822B"
_LETTERS_PER_INCH = 10  # of a title in 11 point bold

# Found by search: the distance of the closest two in CIELAB, seen with full and
# with red- or green-blind eyes (Machado et al. 2009), is as large as it gets.
EMOTION_COLOURS: Mapping[str, str] = {
    "angry": "#CE4B23",
    "happy": "#EEBF1B",
    "sad": "#1447F1",
    "fear": "#6C1E81",
    "disgust": "#63CB8C",
    "surprise": "#5BDBE4",
    "neutral": "#666666",
    "calm": "#8A8BF3",
    "boredom": "#451E0B",
    "excited": "#DE65A8",
    "pleasure": "#B0B559",
    "pain": "#370217",
    "disappointed": "#080438",
}
_ALIASES: Mapping[str, str] = {
    "anger": "angry",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "fearful": "fear",
    "disgusted": "disgust",
    "surprised": "surprise",
    "bored": "boredom",
    "excitement": "excited",
    "disappointment": "disappointed",
}
_SPARE = tuple(sns.color_palette("colorblind").as_hex())

ROLE_COLOURS: Mapping[str, str] = {
    "trains": "#BCCCDC",
    "chooses the epoch": "#EEBF1B",
    "tests": "#CE4B23",
    "tests and chooses": "#CE4B23",
}
SEX_MARKS: Mapping[str, tuple[str, str, str]] = {
    "female": ("women", "o", ORANGE),
    "male": ("men", "s", BLUE),
    "": ("", "D", FAINT),
}


def style() -> None:
    """Apply the style of the workbook to all figures that follow."""
    sns.set_theme(
        context="notebook",
        style="ticks",
        palette="colorblind",
        rc={
            "figure.figsize": (8, 3.5),
            "figure.dpi": 100,
            "savefig.dpi": 100,
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.titleweight": "bold",
            "axes.labelsize": 10,
            "axes.labelcolor": INK,
            "axes.edgecolor": FAINT,
            "axes.linewidth": 0.8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "text.color": INK,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "xtick.color": INK,
            "ytick.color": INK,
            "xtick.major.width": 0.8,
            "ytick.major.width": 0.8,
            "legend.fontsize": 9,
            "legend.frameon": False,
            "grid.color": "#E5E5E5",
            "grid.linewidth": 0.8,
        },
    )


def emotion_colours(names: Iterable[str]) -> dict[str, str]:
    """Return the colour of every emotion, the same in every figure.

    Labels that the workbook does not know get a colour that follows from their
    name, so that it stays theirs.

    Args:
        names: Emotions.
    """
    colours: dict[str, str] = {}
    unknown = []
    for name in dict.fromkeys(map(str, names)):
        known = EMOTION_COLOURS.get(_ALIASES.get(name.lower(), name.lower()))
        if known is None:
            unknown.append(name)
        else:
            colours[name] = known
    taken: set[int] = set()
    for name in sorted(unknown):
        place = zlib.crc32(name.encode()) % len(_SPARE)
        while place in taken and len(taken) < len(_SPARE):
            place = (place + 1) % len(_SPARE)
        taken.add(place)
        colours[name] = _SPARE[place]
    return colours


def speaker_colours(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for every speaker; so many hues need labels beside them.

    Args:
        names: All speakers of the corpus.
    """
    ordered = natsorted(set(map(str, names)))
    few = len(ordered) <= len(_SPARE)
    palette = _SPARE if few else sns.husl_palette(len(ordered), l=0.55).as_hex()
    return dict(zip(ordered, palette[: len(ordered)], strict=True))


def axes(ax: Axes | None, width: float = 8, height: float = 3.5) -> Axes:
    """Return the axis given, or that of a new figure of a size in inches."""
    if ax is not None:
        return ax
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def finish(ax: Axes, title: str, x: str = "", y: str = "") -> Axes:
    """Set title and axis labels and return the axis.

    A long title goes on in the next line: it ends with the warnings, and a saved
    figure would cut them off.
    """
    if title:
        inches = ax.get_position().width * ax.figure.get_figwidth()
        width = max(20, int(inches * _LETTERS_PER_INCH))
        lines = [textwrap.fill(line, width) for line in title.split("\n")]
        ax.set_title("\n".join(lines))
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    make_legible(ax.figure)
    return ax


def percent(axis) -> None:
    """Show shares of an axis in per cent."""
    axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))


def written(share: float, decimals: int = 0) -> str:
    """Return a share as text in per cent."""
    return f"{100 * share:.{decimals}f} %"


def halo(width: float = 2.5) -> list:
    """Return the white rim that keeps text legible on top of data."""
    return [patheffects.withStroke(linewidth=width, foreground="white")]


def spread(values: Sequence[float], gap: float) -> np.ndarray:
    """Return the values, moved apart just so much that neighbours keep a gap.

    Args:
        values: Positions in any order.
        gap: Least distance between two of them.
    """
    wanted = np.asarray(values, float)
    order = np.argsort(wanted, kind="stable")
    # Each value belongs to a block; blocks that touch merge around their mean.
    blocks: list[list[int]] = []
    for index in order:
        blocks.append([index])
        while len(blocks) > 1 and _start(blocks[-1], wanted, gap) < (
            _start(blocks[-2], wanted, gap) + gap * len(blocks[-2])
        ):
            upper = blocks.pop()
            blocks[-1] += upper
    placed = np.empty_like(wanted)
    for block in blocks:
        placed[block] = _start(block, wanted, gap) + gap * np.arange(len(block))
    return placed


def _start(block: list[int], wanted: np.ndarray, gap: float) -> float:
    return float(wanted[block].mean() - gap * (len(block) - 1) / 2)


def label_right(ax: Axes, values: Mapping[str, float], colours: Mapping[str, str]):
    """Write texts beside the right edge at their heights, moved apart if need be.

    Args:
        ax: The axis, with its final limits and scale linear.
        values: Height in data units by text.
        colours: Colour by text.
    """
    low, high = ax.get_ylim()
    height = ax.get_window_extent().height / ax.figure.dpi  # inches
    placed = spread(list(values.values()), (high - low) * 0.17 / height)
    for text, place in zip(values, placed, strict=True):
        ax.annotate(
            text,
            (1, place),
            xytext=(5, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            color=colours[text],
            fontsize=9,
        )
