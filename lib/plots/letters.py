"""Names in figures as they are written: in any script, and `$` as `$`."""

from __future__ import annotations

import logging
import warnings

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

_without_font: set[str] = set()


def make_legible(figure: Figure) -> None:
    """Draw all text of a figure literally, in fonts that have its letters.

    Letters that the usual font lacks are taken from an installed one, in this
    figure and all that follow; a warning says once what to install for those that
    no font has.
    """
    for axes in figure.axes:
        axes.get_xticklabels(), axes.get_yticklabels()  # makes the texts of the ticks
    texts = figure.findobj(Text)
    letters = set()
    for text in texts:
        letters |= set(text.get_text())
        # The powers of ten of a logarithmic axis are Matplotlib's own formulas.
        if "$" in text.get_text() and r"\mathdefault" not in text.get_text():
            text.set_parse_math(False)
    _take_fonts({letter for letter in letters if ord(letter) > 127}, texts)


def _take_fonts(letters: set[str], texts: list[Text]) -> None:
    """Add the fonts that have the letters to those in use."""
    families = list(plt.rcParams["font.family"])
    for family in families:
        letters = _lacking(letters, family)
    if not letters:
        return
    searched = letters - _without_font
    # It tells of every family that has no bold type.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    for family in sorted({font.name for font in fontManager.ttflist}):
        rest = _lacking(searched, family)
        # The last resort has a box for every letter.
        if rest != searched and "Last Resort" not in family:
            families.append(family)
            searched = rest
    plt.rcParams["font.family"] = families
    for text in texts:
        text.set_fontfamily(families)
    if searched:
        _without_font.update(searched)
        warnings.warn(
            f"No installed font has the letters {' '.join(sorted(searched))}, so "
            "figures show boxes for them. Install one that has (the Noto fonts, for "
            "example Noto Sans CJK for Chinese, Japanese and Korean), then restart "
            "the notebook.",
            stacklevel=2,
        )
    if letters & _without_font:  # one sentence instead of a warning for every letter
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from font")


def _lacking(letters: set[str], family: str) -> set[str]:
    """Return the letters that a font lacks in normal or in bold type."""
    lacking: set[str] = set()
    for weight in ("normal", "bold") if letters else ():
        try:
            font = get_font(findfont(FontProperties(family=[family], weight=weight)))
        except (OSError, RuntimeError):  # a kind of font that cannot be drawn
            return letters
        lacking |= {one for one in letters if not font.get_char_index(ord(one))}
    return lacking
