"""How the systems are built: boxes and arrows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from lib.plots.look import BLUE, FAINT, INK, ORANGE, finish

# What a box is: its fill, its edge and what the legend says.
KINDS: Mapping[str, tuple[str, str, str]] = {
    "data": ("white", FAINT, ""),
    "learned": ("#DFE9F3", BLUE, "has weights"),
    "fixed": ("#F1F1F1", FAINT, "nothing to learn"),
    "idea": ("#FCE9D4", ORANGE, "the idea of this system"),
}
COLUMN, ROW = 1.1, 0.72  # inches from box to box
WIDTH, HEIGHT = 0.92, 0.5  # inches of a box


@dataclasses.dataclass(frozen=True)
class Box:
    """A box of a diagram.

    Attributes:
        column: Place from the left, in columns; the middle of the box.
        row: Place from the top, in rows.
        kind: One of `KINDS`.
        text: What stands in it.
        columns: How many columns it spans.
    """

    column: float
    row: float
    kind: str
    text: str
    columns: float = 1

    @property
    def x(self) -> float:
        """Its middle in inches from the left."""
        return self.column * COLUMN

    @property
    def y(self) -> float:
        """Its middle in inches, upwards."""
        return -self.row * ROW

    @property
    def half(self) -> float:
        """Half of its width in inches."""
        return (WIDTH + (self.columns - 1) * COLUMN) / 2


@dataclasses.dataclass(frozen=True)
class Diagram:
    """Boxes by name, and chains of arrows: "a > b > c"; "a ^ b" passes above."""

    boxes: Mapping[str, Box]
    arrows: Sequence[str]


def structure(
    system: str, *, ax: Axes | None = None, title: str = "", legend: bool = True
) -> Axes:
    """Draw how a system is built, from the clip on the left to the answer.

    Args:
        system: One of `DIAGRAMS`.
        ax: Axis to draw on; the boxes are laid out in inches.
        title: Title.
        legend: Say below what the colours mean.

    Raises:
        ValueError: If there is no such drawing.
    """
    from lib.plots.diagrams import DIAGRAMS

    if system not in DIAGRAMS:
        raise ValueError(
            f"no drawing of {system!r}; there are: {', '.join(sorted(DIAGRAMS))}"
        )
    diagram = DIAGRAMS[system]
    boxes = diagram.boxes.values()
    left = min(box.x - box.half for box in boxes) - 0.05
    right = max(box.x + box.half for box in boxes) + 0.05
    over = 0.3 * any("^" in chain for chain in diagram.arrows)
    top = max(box.y for box in boxes) + HEIGHT / 2 + 0.05 + over
    bottom = min(box.y for box in boxes) - HEIGHT / 2 - 0.05 - 0.3 * legend
    own = ax is None
    if own:
        size = (right - left, top - bottom + 0.35 * bool(title))
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
    ax.set_aspect("equal")
    ax.set_axis_off()
    for chain in diagram.arrows:
        _draw_chain(ax, diagram.boxes, chain)
    for box in boxes:
        _draw_box(ax, box)
    if legend:
        _draw_legend(ax, {box.kind for box in boxes}, left + 0.05, bottom + 0.12)
    finish(ax, title)
    if own:  # a second line of the title must not shrink the boxes below their text
        lines = ax.get_title().count("\n")
        ax.figure.set_figheight(ax.figure.get_figheight() + 0.2 * lines)
    return ax


def _draw_box(ax: Axes, box: Box) -> None:
    fill, edge, _ = KINDS[box.kind]
    if box.text != "…":  # stands for more of the same, not for a box
        ax.add_patch(
            FancyBboxPatch(
                (box.x - box.half, box.y - HEIGHT / 2),
                2 * box.half,
                HEIGHT,
                boxstyle="round,pad=0,rounding_size=0.06",
                facecolor=fill,
                edgecolor=edge,
                linewidth=1,
                zorder=2,
            )
        )
    style = {"ha": "center", "va": "center", "linespacing": 1.05, "zorder": 3}
    ax.text(box.x, box.y, box.text, fontsize=8.5, color=INK, **style)


def _draw_chain(ax: Axes, boxes: Mapping[str, Box], chain: str) -> None:
    names = chain.split()
    for start, sign, end in zip(names[::2], names[1::2], names[2::2], strict=False):
        _draw_arrow(ax, boxes[start], boxes[end], above=sign == "^")


def _draw_arrow(ax: Axes, start: Box, end: Box, above: bool) -> None:
    """Draw an arrow: from side to side, straight down, or around the top."""
    if above:
        height = max(start.y, end.y) + HEIGHT / 2 + 0.18
        # Off the middle, so that one arrow's end is not the next one's start.
        left, right = start.x + start.half / 3, end.x - end.half / 3
        path = [(left, start.y), (left, height), (right, height)]
        ax.plot(*zip(*path, strict=True), color=INK, linewidth=0.9, zorder=1)
        points = (path[-1], (right, end.y + HEIGHT / 2))
    elif abs(start.x - end.x) < end.half and start.row != end.row:
        down = 1 if end.y < start.y else -1
        points = ((start.x, start.y), (start.x, end.y + down * HEIGHT / 2))
    else:
        points = ((start.x + start.half, start.y), (end.x - end.half, end.y))
    arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 0.9, "mutation_scale": 9}
    arrow |= {"shrinkA": 0, "shrinkB": 0}
    ax.annotate("", points[1], points[0], arrowprops=arrow, zorder=1)


def _draw_legend(ax: Axes, kinds: set[str], x: float, y: float) -> None:
    for kind, (fill, edge, text) in KINDS.items():
        if kind in kinds and text:
            ax.plot(x, y, "s", color=fill, markeredgecolor=edge, markersize=7)
            ax.text(x + 0.1, y, text, va="center", fontsize=8.5, color=INK)
            x += 0.35 + 0.075 * len(text)
