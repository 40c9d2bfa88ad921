"""Figures that are drawn more than once: data and an axis in, the axis out.

Every figure takes `ax=None` (a new figure of its own size) and `title=""`. Scores are
shares (0 to 1), shown in per cent. An emotion has the same colour in every figure.
"""

from __future__ import annotations

import functools
import logging
import textwrap
import warnings
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import yaml
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text
from natsort import natsorted

Ax = Axes | None
INK = "#333333"
FAINT = "#8C8C8C"
BLUE = "#3B6FA0"
ORANGE = "#D9822B"

_FILE = Path(__file__).parent / "data" / "emotions.yaml"
_EMOTIONS = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
EMOTION_COLOURS: Mapping[str, str] = _EMOTIONS["colours"]
_FURTHER = sns.color_palette("colorblind").as_hex()


def style() -> None:
    """Apply the style of the workbook to all figures that follow."""
    rc = {
        "figure.figsize": (8, 3.5),
        "figure.constrained_layout.use": True,
        "axes.titlelocation": "left",
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
    }
    sns.set_theme("paper", "ticks", "colorblind", font_scale=1.05, rc=rc)


def emotion_colours(names: Iterable[str]) -> dict[str, str]:
    """Return the colour of every emotion, the same in every figure."""
    colours: dict[str, str] = {}
    for name in sorted(set(map(str, names))):
        usual = _EMOTIONS["other_names"].get(name.lower(), name.lower())
        # An unknown label has a colour that follows from its name, or the next one.
        start = zlib.crc32(name.encode()) % len(_FURTHER)
        turned = _FURTHER[start:] + _FURTHER[:start]
        free = [colour for colour in turned if colour not in colours.values()]
        colours[name] = EMOTION_COLOURS.get(usual, (free or turned)[0])
    return colours


def speaker_colours(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for every speaker of a corpus."""
    ordered = natsorted(set(map(str, names)))
    few = len(ordered) <= len(_FURTHER)
    palette = _FURTHER if few else sns.husl_palette(len(ordered), l=0.55).as_hex()
    return dict(zip(ordered, palette, strict=False))


def finish(ax: Axes, title: str = "", x: str = "", y: str = "") -> Axes:
    """Set title and axis labels, draw all text as it is written, return the axis."""
    # A saved figure would cut off a long title.
    inches = ax.get_position().width * ax.figure.get_figwidth()
    letters = max(20, int(10 * inches))  # of a title in 11 point bold
    lines = [textwrap.fill(line, letters) for line in title.split("\n")]
    ax.set(title="\n".join(lines), xlabel=x, ylabel=y)
    for axis in ax.figure.axes:
        axis.get_xticklabels(), axis.get_yticklabels()  # makes the texts of the ticks
    texts = ax.figure.findobj(Text)
    for text in texts:
        # The powers of ten of a logarithmic axis are Matplotlib's own formulas.
        if "$" in text.get_text() and r"\mathdefault" not in text.get_text():
            text.set_parse_math(False)
    _add_fonts(texts)
    return ax


def _add_fonts(texts: Sequence[Text]) -> None:
    """Add installed fonts for letters that those in use lack; warn of what is left."""
    missing = {ord(letter) for text in texts for letter in text.get_text()} - {10}
    families = list(plt.rcParams["font.family"])
    missing = missing.difference(*map(_letters_of, families))
    if not missing:
        return
    # It tells of every family that has no bold type.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    for family in sorted({font.name for font in fontManager.ttflist}):
        # The last resort has a box for every letter.
        if missing & _letters_of(family) and "Last Resort" not in family:
            families.append(family)
            missing -= _letters_of(family)
    plt.rcParams["font.family"] = families
    for text in texts:
        text.set_fontfamily(families)
    if missing:
        warnings.warn(
            f"No installed font has the letters {' '.join(map(chr, sorted(missing)))}, "
            "so figures show boxes for them. Install the Noto fonts (for Chinese, "
            "Japanese and Korean Noto Sans CJK), then restart the notebook.",
            stacklevel=3,
        )


@functools.cache
def _letters_of(family: str) -> frozenset[int]:
    """Return the letters that a font has in normal and in bold type."""
    kinds = [FontProperties(family=[family], weight=one) for one in ("normal", "bold")]
    try:
        normal, bold = (set(get_font(findfont(one)).get_charmap()) for one in kinds)
    except (OSError, RuntimeError):  # a kind of font that cannot be drawn
        return frozenset()
    return frozenset(normal & bold)


def _axis(ax: Ax, width: float = 8, height: float = 3.5) -> Axes:
    """Return the axis given, or that of a new figure of a size in inches."""
    return ax or plt.subplots(figsize=(width, height), layout="constrained")[1]


def waveform(
    samples: np.ndarray, sample_rate: int, *, ax: Ax = None, title: str = ""
) -> Axes:
    """Draw mono samples (n,), full scale ±1, over time; the rate is in Hz."""
    ax = _axis(ax, height=2.2)
    ax.plot(np.arange(len(samples)) / sample_rate, samples, color=BLUE, linewidth=0.6)
    ax.set_xlim(0, len(samples) / sample_rate)
    return finish(ax, title, "time (s)", "amplitude\n(full scale = 1)")


def mel_spectrogram(
    mel: np.ndarray, settings, *, ax: Ax = None, title: str = ""
) -> Axes:
    """Draw what `features.mel_spectrogram` returned for the front end `settings`."""
    import librosa  # slow to import, and needed by this figure alone

    ax = _axis(ax)
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
    label_names: Sequence[str],
    p: Sequence[float],
    *,
    true_label: str = "",
    ax: Ax = None,
    title: str = "",
) -> Axes:
    """Draw the probability (classes,) of every emotion, and mark the true one."""
    ax = _axis(ax, width=6, height=0.9 + 0.26 * len(label_names))
    names = [f"{name} (true)" if name == true_label else name for name in label_names]
    colours = emotion_colours(label_names)
    bars = ax.barh(range(len(p)), p, color=[colours[str(one)] for one in label_names])
    ax.bar_label(bars, fmt="{:.0%}", padding=3)
    ax.set_yticks(range(len(p)), names)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.08)
    ax.xaxis.set_major_formatter("{x:.0%}")
    return finish(ax, title, "probability")


def training_curves(
    history: pd.DataFrame,
    metric: str = "loss",
    *,
    chosen: Mapping[int, int] | None = None,
    ax: Ax = None,
    title: str = "",
) -> Axes:
    """Draw "loss", "accuracy" or "uar" over the epochs: folds thin, their mean bold.

    `history` has the columns fold, epoch, the metric and, where there is validation,
    val_<metric>. The epoch `chosen` of each fold is marked on the last curve.
    """
    ax = _axis(ax)
    sides = [("training", metric, BLUE, "-")]
    if f"val_{metric}" in history and history[f"val_{metric}"].notna().any():
        sides.append(("validation", f"val_{metric}", ORANGE, "--"))
    for name, column, colour, line in sides:
        wide = history.pivot(index="epoch", columns="fold", values=column)
        if wide.shape[1] > 1:
            ax.plot(wide, color=colour, linestyle=line, linewidth=0.6, alpha=0.45)
        # Where a fold has ended, a mean would be that of the others.
        mean = wide.mean(axis=1, skipna=False).dropna()
        ax.plot(mean, color=colour, linestyle=line, linewidth=2.2, label=name)
    if chosen:
        y = [wide.loc[epoch, fold] for fold, epoch in chosen.items()]
        looks = {"facecolor": "white", "edgecolor": colour, "zorder": 5}
        ax.scatter(list(chosen.values()), y, 30, label="chosen epoch", **looks)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_ylim(0, None if metric == "loss" else 1.02)
    if metric != "loss":
        ax.yaxis.set_major_formatter("{x:.0%}")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    units = {"loss": "loss (nats)", "accuracy": "WAR (accuracy)", "uar": "UAR"}
    return finish(ax, title, "epoch", units.get(metric, metric))


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
    ax: Ax = None,
    title: str = "",
) -> Axes:
    """Draw a row for every point with its interval, under the heading of its group.

    `value`, `label`, `group` and `hollow` are columns of the table; if known, it also
    has low, high (ends of the interval) and reliable (False: a dotted one). Values are
    shares, `mark` (a dotted line) is one too. `legend` says what a filled point, a
    hollow one and the mark are.
    """
    parts = []
    for name, part in table.groupby(group, sort=False):
        parts += [pd.DataFrame({label: [name], "heading": [True]}), part]
    rows = pd.concat(parts, ignore_index=True)
    rows = rows.reindex(columns=rows.columns.union(["low", "high", "reliable"]))
    ax = _axis(ax, height=min(12.0, 1.2 + 0.28 * len(rows)))
    points, low, high = 100 * rows[[value, "low", "high"]].to_numpy(float).T
    names = [*legend, None, None, None]
    headings = rows["heading"].isin([True]).to_numpy(bool)
    empty = rows[hollow or "heading"].isin([True]).to_numpy(bool) & ~headings
    lines = np.where(rows["reliable"].isin([False]), ":", "-")
    for place, kind in enumerate((~empty & ~headings, empty)):
        if not kind.any():
            continue
        y, colour = rows.index[kind], (BLUE, ORANGE)[place]
        ax.hlines(y, low[kind], high[kind], colour, lines[kind], linewidth=2)
        looks = {"color": colour, "markerfacecolor": (colour, "white")[place]}
        ax.plot(points[kind], y, "o", label=names[place], **looks)
    if mark is not None:
        ax.axvline(100 * mark, color=INK, linestyle=":", zorder=0, label=names[2])
    wrapped = [textwrap.fill(str(name), 48) for name in rows[label]]
    ticks = ax.set_yticks(rows.index, wrapped)
    for tick in np.array(ticks)[headings]:
        tick.label1.set_fontweight("bold")
    form = "+z" if signed else "z"  # z: no minus before a zero
    texts = [f"{point:{form}.1f}" for point in points]
    ends = [f"  [{a:{form}.0f}, {b:{form}.0f}]" for a, b in zip(low, high, strict=True)]
    known = np.where(np.isnan(low), texts, np.char.add(texts, ends))
    right = ax.secondary_yaxis("right")
    right.set_yticks(rows.index, np.where(headings, "", known))
    for side in (ax.yaxis, right.yaxis):
        side.set_tick_params(length=0)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.grid(axis="x", color="#E5E5E5")
    if legend:
        ax.figure.legend(loc="outside lower right", ncols=3)
    return finish(ax, title, x)


def embedding(
    points: np.ndarray,
    labels: Sequence[str],
    *,
    colours: Mapping[str, str] | None = None,
    legend: bool = True,
    ax: Ax = None,
    title: str = "",
) -> Axes:
    """Draw points (n, 2) in the colours of their labels (n,), emotions by default."""
    ax = _axis(ax, width=6, height=5)
    labels = np.asarray(labels).astype(str)
    # In random order, so that no group hides the others.
    order = np.random.default_rng(0).permutation(len(points))
    sns.scatterplot(
        x=points[order, 0],
        y=points[order, 1],
        hue=labels[order],
        hue_order=natsorted(set(labels)),
        palette=emotion_colours(labels) if colours is None else colours,
        s=float(np.clip(16_000 / len(points), 8, 40)),
        linewidth=0,
        alpha=0.8,
        legend=legend,
        ax=ax,
    )
    if legend:
        place = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
        ax.legend(**place, ncols=1 + len(set(labels)) // 18)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return finish(ax, title)
