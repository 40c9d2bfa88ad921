"""Figures that are drawn more than once: data in, the axis of a new figure out.

Scores are shares (0 to 1), shown in per cent. An emotion keeps its colour.
"""

import textwrap
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import yaml
from matplotlib.axes import Axes
from matplotlib.font_manager import fontManager
from matplotlib.text import Text

INK = "#333333"
FAINT = "#8C8C8C"
BLUE = "#3B6FA0"
ORANGE = "#D9822B"
_FILE = Path(__file__).parent / "data" / "emotions.yaml"
_DRAWN = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
EMOTION_COLOURS: Mapping[str, str] = _DRAWN["colours"]
_FURTHER = sns.color_palette("colorblind").as_hex()


def style() -> None:
    """Apply the style of the workbook to all figures that follow."""
    sns.set_theme("paper", "ticks", "colorblind", font_scale=1.05, rc=_DRAWN["style"])
    there = set(fontManager.get_font_names())  # Matplotlib warns of letters in none
    fonts = [name for name in _DRAWN["fonts"] if name in there]
    plt.rcParams["font.family"] = [*plt.rcParams["font.family"], *fonts]


def emotion_colours(names: Iterable[str]) -> dict[str, str]:
    """Return the colour of every emotion, the same in every figure."""
    colours: dict[str, str] = {}
    for name in sorted(set(map(str, names))):
        usual = _DRAWN["other_names"].get(name.lower(), name.lower())
        # An unknown label has a colour that follows from its name, or the next one.
        start = zlib.crc32(name.encode()) % len(_FURTHER)
        turned = _FURTHER[start:] + _FURTHER[:start]
        free = [colour for colour in turned if colour not in colours.values()]
        colours[name] = EMOTION_COLOURS.get(usual, (free or turned)[0])
    return colours


def finish(ax: Axes, title: str = "", x: str = "", y: str = "") -> Axes:
    """Set title and axis labels, draw text as it is written, return the axis."""
    # A saved figure would cut off a long title.
    inches = ax.get_position().width * ax.figure.get_figwidth()
    letters = max(20, int(10 * inches))  # of a title in 11 point bold
    lines = [textwrap.fill(line, letters) for line in title.split("\n")]
    ax.set(title="\n".join(lines), xlabel=x, ylabel=y)
    for axis in ax.figure.axes:
        axis.get_xticklabels(), axis.get_yticklabels()  # makes the texts of the ticks
    for text in ax.figure.findobj(Text):
        # The powers of ten of a logarithmic axis are Matplotlib's own formulas.
        if "$" in text.get_text() and r"\mathdefault" not in text.get_text():
            text.set_parse_math(False)
    return ax


def mel_spectrogram(mel, settings, *, title: str = "") -> Axes:
    """Draw what `features.mel_spectrogram` returned for the front end `settings`."""
    import librosa  # slow to import, and needed by this figure alone

    ax = plt.subplots()[1]
    half = (settings.mel_rate or settings.sample_rate) / 2
    image = librosa.display.specshow(
        librosa.power_to_db(mel ** (2 / settings.power), ref=np.max),
        x_coords=np.arange(mel.shape[1]) * settings.hop_seconds,
        x_axis="time",
        y_axis="mel",
        fmin=settings.low_hertz,
        fmax=settings.high_hertz or half,
        htk=settings.mel_filters != "slaney",
        cmap="magma",
        vmin=-80,
        vmax=0,
        ax=ax,
    )
    ax.figure.colorbar(image, ax=ax, pad=0.02, label="level (dB, loudest = 0)")
    return finish(ax, title, "time (s)", "frequency (Hz, mel scale)")


def probabilities(
    label_names: Sequence[str], p, *, true_label: str = "", title: str = ""
) -> Axes:
    """Draw the probability (classes,) of every emotion, and mark the true one."""
    ax = plt.subplots(figsize=(6, 0.9 + 0.26 * len(label_names)))[1]
    names = [f"{name} (true)" if name == true_label else name for name in label_names]
    colours = emotion_colours(label_names)
    bars = ax.barh(range(len(p)), p, color=[colours[str(one)] for one in label_names])
    ax.bar_label(bars, fmt="{:.0%}", padding=3)
    ax.set_yticks(range(len(p)), names)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.08)
    ax.xaxis.set_major_formatter("{x:.0%}")
    return finish(ax, title, "probability")


def intervals(
    table: pd.DataFrame,
    value: str,
    label: str,
    group: str,
    *,
    x: str,
    hollow: str = "",
    legend: Sequence[str] = (),
    mark: float | None = None,
    signed: bool = False,
    title: str = "",
) -> Axes:
    """Draw a row for every point with its interval, under the heading of its group.

    `value`, `label`, `group` and `hollow` are columns; if known, low, high (ends of the
    interval) and reliable (False: a dotted one) are too. Values and `mark`, a dotted
    line, are shares. `legend` says what filled points, hollow ones and the mark are.
    """
    parts = []
    for name, part in table.groupby(group, sort=False):
        parts += [pd.DataFrame({label: [name], "_heading": [True]}), part]
    rows = pd.concat(parts, ignore_index=True)
    rows = rows.reindex(columns=rows.columns.union(["low", "high", "reliable"]))
    rows[["_point", "low", "high"]] = 100 * rows[[value, "low", "high"]].astype(float)
    heading = rows["_heading"].isin([True])
    empty = rows[hollow or "_heading"].isin([True])
    labels = rows[label].astype(str).map(lambda name: textwrap.fill(name, 48))
    height = 1.2 + 0.14 * (2 + labels.str.count("\n")).sum()
    ax = plt.subplots(figsize=(8, min(12.0, height)))[1]
    names = [*legend, None, None, None]
    for part, colour, face, name in (
        (rows[~heading & ~empty], BLUE, BLUE, names[0]),
        (rows[~heading & empty], ORANGE, "white", names[1]),
    ):
        if part.empty:
            continue
        lines = np.where(part["reliable"].isin([False]), ":", "-")
        ax.hlines(part.index, part["low"], part["high"], colour, lines, linewidth=2)
        looks = {"color": colour, "markerfacecolor": face, "label": name}
        ax.plot(part["_point"], part.index, "o", **looks)
    if mark is not None:
        ax.axvline(100 * mark, color=INK, linestyle=":", zorder=0, label=names[2])
    for tick in np.array(ax.set_yticks(rows.index, labels))[heading]:
        tick.label1.set_fontweight("bold")
    form = "+z" if signed else "z"  # z: no minus before a zero
    texts = []
    for point, low, high in rows[["_point", "low", "high"]].to_numpy():
        text = "" if np.isnan(point) else f"{point:{form}.1f}"
        span = "" if np.isnan(low) else f"  [{low:{form}.1f}, {high:{form}.1f}]"
        texts.append((text + span).replace("-", "−"))
    right = ax.secondary_yaxis("right")
    right.set_yticks(rows.index, texts)
    for side in (ax.yaxis, right.yaxis):
        side.set_tick_params(length=0)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.grid(axis="x", color="#E5E5E5")
    if legend:
        ax.figure.legend(loc="outside lower right", ncols=3)
    return finish(ax, title, x)
