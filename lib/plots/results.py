"""Results of a run: confusions, recalls, speakers, calibration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lib.plots.look import (
    BLUE,
    FAINT,
    INK,
    SEX_MARKS,
    axes,
    emotion_colours,
    finish,
    halo,
    label_right,
    percent,
    written,
)


def confusion_matrix(
    counts: np.ndarray,
    label_names: Sequence[str],
    *,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw confusions: colour and per cent by row, counts below.

    Args:
        counts: Rows of true and columns of predicted classes, (K, K).
        label_names: Names in index order.
        ax: Axis to draw on.
        title: Title.
    """
    counts = np.asarray(counts)
    size = len(label_names)
    ax = axes(ax, height=min(9.0, max(3.0, 1.0 + 0.42 * size)))
    said = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, said, out=np.full(counts.shape, np.nan), where=said > 0)
    ax.imshow(shares, aspect="auto", cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        text = f"{written(share)}\n{counts[row, column]}"
        ax.text(
            column,
            row,
            text if said[row] else "–",
            ha="center",
            va="center",
            fontsize=8,
            linespacing=1.05,
            color="white" if share > 0.55 else INK,
            alpha=1.0 if counts[row, column] else 0.45,
        )
    crowded = sum(len(str(name)) + 2 for name in label_names) > 85
    ax.set_xticks(range(size), label_names, rotation=30 if crowded else 0)
    ax.set_yticks(range(size), label_names)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return finish(ax, title, "predicted", "true")


def class_recall(
    per_class: pd.DataFrame,
    *,
    chance: float | None = None,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw the recall of every emotion against chance.

    Args:
        per_class: Columns recall and support, indexed by emotion.
        chance: Chance UAR, 1 / classes by default.
        ax: Axis to draw on.
        title: Title.
    """
    ax = axes(ax)
    names = [str(name) for name in per_class.index]
    colours = emotion_colours(names)
    recall = per_class["recall"].to_numpy(float)
    bars = ax.bar(range(len(names)), np.nan_to_num(recall), width=0.7)
    for bar, name in zip(bars, names, strict=True):
        bar.set_facecolor(colours[name])
    texts = ["–" if np.isnan(value) else written(value) for value in recall]
    ax.bar_label(bars, texts, padding=2, fontsize=9)
    chance = 1 / len(names) if chance is None else chance
    ax.axhline(chance, color=INK, linestyle=":", linewidth=1.4)
    support = per_class["support"].astype(int)
    ticks = [f"{name}\nn = {n}" for name, n in zip(names, support, strict=True)]
    ax.set_xticks(range(len(names)), ticks)
    ax.set_ylim(0, 1.1)
    ax.set_xlim(-0.5, len(names) - 0.5)
    percent(ax.yaxis)
    text = f"chance {written(chance, 1)}"
    label_right(ax, {text: chance}, {text: INK})
    return finish(ax, title, "", "recall")


def speaker_dots(
    per_speaker: pd.DataFrame,
    *,
    pooled: float | None = None,
    interval: tuple[float, float] | None = None,
    chance: float | None = None,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw the UAR of every speaker, from worst to best.

    Args:
        per_speaker: Columns speaker, n, uar and, if known, sex.
        pooled: UAR over all rows, drawn as a line.
        interval: Its confidence interval, drawn as a band.
        chance: Chance UAR, drawn as a dotted line.
        ax: Axis to draw on.
        title: Title.
    """
    ax = axes(ax)
    table = per_speaker.sort_values("uar", kind="stable").reset_index(drop=True)
    sex = table["sex"] if "sex" in table else pd.Series("", index=table.index)
    if interval is not None:
        ax.axhspan(*interval, color=FAINT, alpha=0.22, linewidth=0)
    for key, (name, marker, colour) in SEX_MARKS.items():
        here = table[sex == key]
        if len(here):
            looks = {"marker": marker, "color": colour, "label": name or None}
            ax.scatter(here.index, here["uar"], 46, zorder=3, **looks)
    lines = {"pooled": (pooled, "-"), "chance": (chance, ":")}
    texts = {}
    for name, (value, line) in lines.items():
        if value is not None:
            ax.axhline(value, color=INK, linestyle=line, linewidth=1.2, zorder=2)
            texts[f"{name} {written(value, 1)}"] = value
    ax.set_ylim(0, 1.02)
    ax.set_xlim(-0.7, len(table) - 0.3)
    percent(ax.yaxis)
    label_right(ax, texts, dict.fromkeys(texts, INK))
    if (sex != "").any():
        ax.legend(loc="lower right", ncols=2, handletextpad=0.2)
    same = table["n"].nunique() == 1
    crowded = len(table) > 14 and table["speaker"].str.len().max() > 3
    ticks = (
        table["speaker"] if same else table["speaker"] + "\n" + table["n"].astype(str)
    )
    ax.set_xticks(table.index, ticks, rotation=90 if crowded else 0)
    note = f"{table['n'].iloc[0]} utterances each" if same else "utterances below"
    return finish(ax, title, f"speaker ({note})", "UAR")


def reliability_diagram(
    table: pd.DataFrame,
    *,
    error: float | None = None,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw accuracy over confidence; the diagonal is perfect calibration.

    Args:
        table: What `metrics.reliability` returns.
        error: Expected calibration error, to be written.
        ax: Axis to draw on.
        title: Title.
    """
    ax = axes(ax, width=5, height=4)
    filled = table[table["n"] > 0]
    ax.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
    x, y, n = (filled[name] for name in ("confidence", "accuracy", "n"))
    ax.vlines(x, y, x, color=BLUE, alpha=0.4, linewidth=3)
    ax.scatter(x, y, 12 + 380 * n / n.sum(), color=BLUE, zorder=3)
    lines = [
        f"{n.sum()} clips; dot area: clips in the bin",
        "above the line too modest, below too sure",
    ]
    if error is not None:
        lines.append(f"expected calibration error {written(error, 1)}")
    # Beside the diagonal, on the side where the dots are not.
    modest = (filled["n"] * (filled["accuracy"] - filled["confidence"])).sum() > 0
    place = (1.0, 0.02, "right", "bottom") if modest else (0.02, 1.0, "left", "top")
    note = ax.text(*place[:2], "\n".join(lines), fontsize=9, zorder=5)
    note.set(ha=place[2], va=place[3])
    note.set_path_effects(halo())
    ax.set(xlim=(0, 1.02), ylim=(0, 1.02))
    percent(ax.xaxis)
    percent(ax.yaxis)
    return finish(ax, title, "confidence", "accuracy")
