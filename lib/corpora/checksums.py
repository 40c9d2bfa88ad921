"""Hashes of the original files, by official key."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from lib.corpora.builtin import BUILT_IN

FOLDER = Path(__file__).resolve().parent.parent / "data" / "checksums"


def load_checksums(name: str) -> dict[str, str]:
    """Return the SHA-256 of every original file of a corpus.

    Args:
        name: Name of the list, e.g. "EMODB" (a corpus's `checksums`).

    Returns:
        64 hexadecimal digits by official key, e.g. "03a01Fa" or "DC_a01".

    Raises:
        ValueError: If there is no list of that name.
    """
    lists = sorted(path.stem for path in FOLDER.glob("*.sha256"))
    if name not in lists:
        raise ValueError(f"No checksums for {name!r}; there are: {', '.join(lists)}.")
    parse = BUILT_IN[name].parse
    hashes: dict[str, str] = {}
    text = (FOLDER / f"{name}.sha256").read_text(encoding="utf-8")
    for line in text.splitlines():
        digest, _, file = line.partition("  ")
        if tags := parse(PurePosixPath(file)):
            hashes[tags.key] = digest
    return hashes
