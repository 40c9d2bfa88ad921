"""Which spellings of a label or of a person's name mean the same."""

from __future__ import annotations

import re
import unicodedata

# Apostrophes and dashes that a word processor puts in place of the plain ones.
_TYPOGRAPHIC = dict.fromkeys(map(ord, "‘’ʼ`´"), "'")
_TYPOGRAPHIC |= dict.fromkeys(map(ord, "‐‑‒–—−"), "-")
# Cyrillic letters that look like the Latin ones.
_TYPOGRAPHIC |= str.maketrans("асеорхуі", "aceopxyi")


def tidy(text: str) -> str:
    """Return text composed (NFC), without invisible characters and spare spaces."""
    words = " ".join(text.split())
    visible = (c for c in words if unicodedata.category(c) not in ("Cc", "Cf"))
    return unicodedata.normalize("NFC", " ".join("".join(visible).split()))


def folded(name: str) -> str:
    """Return what all spellings of a name have in common: "01" and "1", both "1"."""
    plain = unicodedata.normalize("NFKC", tidy(name)).casefold()
    plain = plain.translate(_TYPOGRAPHIC).strip(".,;:!?'\" ")
    plain = re.sub(r"(?<=[^\W\d])\s+(?=\d)", "", plain)
    plain = re.sub(r"(?<=\w)[\s-]+(?=\w)", " ", plain.replace("_", " "))
    plain = re.sub(r"(?<![\d.])0+(?=\d)", "", plain)
    return re.sub(r"(?<=\d)\.0+$", "", plain).strip()
