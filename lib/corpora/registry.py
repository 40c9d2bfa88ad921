"""Find a corpus by its name, with a hint where the name is wrong."""

from __future__ import annotations

import difflib
from pathlib import Path

from lib.corpora import custom
from lib.corpora.base import Corpus
from lib.corpora.builtin import BUILT_IN
from lib.files import DATASETS, located


def names(datasets: Path | None = None) -> tuple[str, ...]:
    """Return the names of all corpora.

    Args:
        datasets: Folder of the corpora; given, a user's registered corpora in it
            follow the ones that the workbook knows.

    Returns:
        The names in display order.
    """
    return tuple(BUILT_IN) + (custom.registered(datasets) if datasets else ())


def get(name: str, datasets: Path | None = None) -> Corpus:
    """Return a corpus by its name.

    Args:
        name: E.g. "EMODB", or the name of a registered corpus of one's own.
        datasets: Folder of the corpora, where registered ones are looked up; None
            is the workbook's own.

    Returns:
        The corpus.

    Raises:
        ValueError: If there is no such corpus; the message names the nearest known
            ones, or the call that registers a folder of that name.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    datasets = located(datasets or DATASETS)
    if name in custom.registered(datasets):
        return custom.load(name, datasets)
    if custom.is_unregistered(name, datasets):
        folder = Path(datasets) / name
        raise ValueError(
            f"{folder} holds audio, but was never registered as a corpus. Register "
            f'it once: corpora.register("{name}", r"{folder}", r"{datasets}").'
        )
    raise ValueError(_unknown(name, datasets))


def _unknown(name: str, datasets: Path | None) -> str:
    """Return the message for a name that no corpus has."""
    known = names(datasets)
    spelt = {known_name.upper(): known_name for known_name in known}
    # The TIM-Net authors and papers write some names in another way.
    spelt |= {
        corpus.official_name: corpus.name
        for corpus in BUILT_IN.values()
        if corpus.official_name
    }
    wanted = str(name).strip().upper().replace("-", "")
    near = difflib.get_close_matches(wanted, spelt, n=2, cutoff=0.6)
    hints = list(dict.fromkeys(spelt[match] for match in near))
    hint = f" Did you mean {' or '.join(hints)}?" if hints else ""
    where = f" Registered ones are looked for in {datasets}." if datasets else ""
    return f"Unknown corpus {name!r}.{hint} Known: {', '.join(known)}.{where}"
