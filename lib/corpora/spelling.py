"""How labels and people are written, and which spellings mean the same."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable

# Apostrophes and dashes that a word processor puts in place of the plain ones.
_TYPOGRAPHIC = dict.fromkeys(map(ord, "‘’ʼ`´"), "'")
_TYPOGRAPHIC |= dict.fromkeys(map(ord, "‐‑‒–—−"), "-")
# Their letters look alike.
_SCRIPTS = ("LATIN", "CYRILLIC", "GREEK")
_INVISIBLE = frozenset(("Cc", "Cf"))


def tidy(text: str) -> str:
    """Return text composed (NFC), without invisible characters and spare spaces."""
    visible = "".join(
        character
        for character in text
        if character.isspace() or unicodedata.category(character) not in _INVISIBLE
    )
    return unicodedata.normalize("NFC", " ".join(visible.split()))


def folded(name: str) -> str:
    """Return what all spellings of a name have in common: "01" and "1", both "1"."""
    plain = unicodedata.normalize("NFKC", tidy(name)).casefold()
    plain = plain.translate(_TYPOGRAPHIC).strip(".,;:!?'\" ")
    plain = re.sub(r"(?<=[^\W\d])\s+(?=\d)", "", plain)
    plain = re.sub(r"(?<=\w)[\s-]+(?=\w)", " ", plain.replace("_", " "))
    plain = re.sub(r"(?<![\d.])0+(?=\d)", "", plain)
    return re.sub(r"(?<=\d)\.0+$", "", plain).strip()


def spelt_differently(kind: str, names: Iterable[str]) -> list[str]:
    """Return a sentence on the names that differ only in spelling, if there are any.

    Args:
        kind: What they are, e.g. "Labels".
        names: The name of every clip, as it is written in the source.
    """
    counted = Counter(unicodedata.normalize("NFC", name).strip() for name in names)
    spellings = defaultdict(list)
    for name in filter(tidy, sorted(counted)):
        # A representation shows characters that cannot be seen.
        spellings[folded(name)].append(f"{name!r} ({counted[name]})")
    alike = [" and ".join(group) for group in spellings.values() if len(group) > 1]
    mixed = [ascii(name) for name in sorted(counted) if len(_scripts(name)) > 1]
    return [
        f"{kind} that {what}: {'; '.join(found)}. Write each in one way."
        for what, found in (
            ("differ only in spelling", alike),
            ("mix letters of several scripts, which look alike", mixed),
        )
        if found
    ]


def _scripts(name: str) -> set[str]:
    """Return which of the scripts that look alike the letters of a name are of."""
    scripts = {unicodedata.name(letter, "").split(" ")[0] for letter in name}
    return scripts & set(_SCRIPTS)
