"""Walk over a corpus folder: which files are utterances, and what is odd."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath, PurePosixPath

from natsort import natsort_keygen, ns

from lib.corpora.base import (
    AUDIO_SUFFIXES,
    READABLE_SUFFIXES,
    Corpus,
    Mislabelled,
    Problem,
    Utterance,
)

UNREADABLE_SUFFIXES = frozenset(
    ".aac .ac3 .amr .ape .dsf .m4a .m4b .mka .ra .spx .tta .webm .wma .wv".split()
)


def find(corpus: Corpus, folder: Path) -> tuple[list[Utterance], list[Problem]]:
    """Return the utterances below a folder and everything that is odd there.

    Args:
        corpus: The corpus expected in the folder.
        folder: Folder of the corpus, normally `<datasets>/<NAME>`.

    Returns:
        The utterances in the official row order, one per key, and the problems:
        foreign or contradicting names, audio in another format, the same
        utterance twice, audio that is not part of the task.

    Raises:
        FileNotFoundError: If the folder does not exist; the message says what
            is expected there and how to get it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise _missing(corpus, folder, "there is no such folder")
    found, problems = corpus.find(folder) if corpus.find else _walk(corpus, folder)
    kept, duplicates = _one_per_key(found)
    return official_order(corpus, kept), problems + duplicates


def scan(corpus: Corpus, folder: Path) -> list[Utterance]:
    """Return the utterances of a corpus in the official row order.

    Class after class in label order; inside a class in natural order of the
    official names, as the published TIM-Net arrays are. Folds drawn over the
    rows depend on this order.

    Args:
        corpus: The corpus expected in the folder.
        folder: Folder of the corpus, normally `<datasets>/<NAME>`.

    Returns:
        The utterances, one per official key.

    Raises:
        FileNotFoundError: If the folder does not exist or holds none of them.
    """
    utterances, problems = find(corpus, folder)
    if not utterances:
        reason = f"no utterance of {corpus.name} was found in it"
        if problems:
            reason += f"; for instance: {problems[0].message}"
        raise _missing(corpus, Path(folder), reason)
    return utterances


def official_order(corpus: Corpus, utterances: Iterable[Utterance]) -> list[Utterance]:
    """Sort utterances by class in label order, then naturally by official key."""
    position = {label: index for index, label in enumerate(corpus.labels)}
    algorithm = ns.PATH | ns.IGNORECASE if corpus.ignore_case else ns.PATH
    natural = natsort_keygen(alg=algorithm)

    def key(utterance: Utterance) -> tuple[object, ...]:
        tags = utterance.tags
        # The official arrays were sorted by the names of their feature files.
        return position[tags.label], natural(f"{tags.key}_raw.csv"), tags.key

    return sorted(utterances, key=key)


def files_below(folder: Path) -> Iterator[PurePosixPath]:
    """Yield every visible file below a folder, as relative paths, sorted.

    Hidden files and folders, and the resource files of macOS, are left out.
    Linked folders are followed, each real folder once.
    """
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(
            name for name in folders if not name.startswith((".", "__MACOSX"))
        )
        relative = Path(parent).relative_to(folder)
        for name in sorted(names):
            if not name.startswith("."):
                yield PurePosixPath(relative.as_posix()) / name


def is_audio(file: PurePath, own: bool = False) -> bool:
    """Tell whether a name ends like audio of a built-in or a user's own corpus."""
    return file.suffix.lower() in (READABLE_SUFFIXES if own else AUDIO_SUFFIXES)


def is_other_audio(file: PurePath, own: bool = False) -> bool:
    """Tell whether a name ends like audio, but of a format that is not read."""
    known = READABLE_SUFFIXES | UNREADABLE_SUFFIXES
    return file.suffix.lower() in known and not is_audio(file, own)


def printable(name: object) -> str:
    """Return a name with escapes for the bytes that are not UTF-8 text."""
    return str(name).encode("utf-8", "backslashreplace").decode("utf-8")


def _walk(corpus: Corpus, folder: Path) -> tuple[list[Utterance], list[Problem]]:
    """Read the tags of every audio file from its name."""
    utterances: list[Utterance] = []
    problems: list[Problem] = []
    outside: list[str] = []
    for file in files_below(folder):
        if is_other_audio(file):
            problems.append(_foreign_format(file))
        if not is_audio(file):
            continue
        if printable(file) != str(file):
            problems.append(_no_text(file))
            continue
        try:
            tags = corpus.parse(file)
        except ValueError as error:
            problems.append(_unparsed(corpus, file, error))
            continue
        if tags is None:
            outside.append(str(file))
            continue
        utterances.append(Utterance(folder / file, str(file), tags))
        problems += _contradicting_folder(corpus, file, tags.label)
    return utterances, problems + _outside(corpus, outside)


def _foreign_format(file: PurePosixPath) -> Problem:
    """Return the problem of audio in a format that is not read."""
    return Problem(
        "warning",
        "extra",
        printable(file),
        f"{printable(file)} is audio in a format that is not read ({file.suffix}).",
        "Convert it to WAV or FLAC without changing the sampling rate, or remove it.",
    )


def _no_text(file: PurePosixPath) -> Problem:
    """Return the problem of a name that is not UTF-8 text."""
    return Problem(
        "error",
        "extra",
        printable(file),
        f"The name of {printable(file)} is not UTF-8 text.",
        "Rename it, or unpack the archive again with the encoding of its names; until "
        "then it is left out.",
    )


def _unparsed(corpus: Corpus, file: PurePosixPath, error: ValueError) -> Problem:
    """Return the problem of a file whose name could not be read."""
    if isinstance(error, Mislabelled):
        return Problem(
            "error",
            "mislabelled",
            str(file),
            f"{file}: {error}",
            "Compare it with an original copy and put it where it belongs; until "
            "then it is left out.",
        )
    return Problem(
        "warning",
        "extra",
        str(file),
        f"{file} is not a file of {corpus.name}: {error}",
        "Remove it from the corpus folder, or give it its official name; until "
        "then it is left out.",
    )


def _contradicting_folder(
    corpus: Corpus, file: PurePosixPath, label: str
) -> list[Problem]:
    """Return a warning where a class folder names another class than the file."""
    classes = {part.lower() for part in file.parts[:-1]} & set(corpus.labels)
    if not classes or label in classes:
        return []
    said = " and ".join(sorted(classes))
    return [
        Problem(
            "warning",
            "mislabelled",
            str(file),
            f"{file} lies in the folder {said}, but its name says {label}.",
            f"The name decides: it counts as {label}. Move it to the right folder.",
        )
    ]


def _outside(corpus: Corpus, files: list[str]) -> list[Problem]:
    """Return one note on all audio of the release that the task leaves out."""
    if not files:
        return []
    return [
        Problem(
            "note",
            "extra",
            files[0],
            f"{len(files)} audio files belong to the release of {corpus.name} but "
            f"not to this task and are left out, e.g. {files[0]}.",
            "Nothing to do.",
        )
    ]


def _one_per_key(found: list[Utterance]) -> tuple[list[Utterance], list[Problem]]:
    """Keep the utterance with the shortest path for each key."""
    kept: dict[str, Utterance] = {}
    problems: list[Problem] = []
    for utterance in sorted(found, key=_nearness):
        first = kept.setdefault(utterance.key, utterance)
        if first is not utterance:
            problems.append(
                Problem(
                    "warning",
                    "duplicate",
                    utterance.file,
                    f"{utterance.file} is the same utterance as {first.file}.",
                    f"{first.file} is used; remove the other copy.",
                )
            )
    return list(kept.values()), problems


def _nearness(utterance: Utterance) -> tuple[int, int, str]:
    """Return a sort key that puts the shortest path first."""
    file = utterance.file
    return file.count("/"), len(file), file


def _missing(corpus: Corpus, folder: Path, reason: str) -> FileNotFoundError:
    """Return the error that says what is expected in a folder and whence."""
    advice = f"{corpus.title} belongs in {folder}, but {reason}. {corpus.how_to_get}"
    if corpus.download:
        size = sum(part.megabytes for part in corpus.download)
        advice += (
            f" Or let the workbook fetch it (about {size} MB): "
            f'corpora.download(corpora.get("{corpus.name}"), r"{folder.parent}").'
        )
    return FileNotFoundError(advice)
