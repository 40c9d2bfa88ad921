"""A corpus of one's own: a folder per label, or a table of files and labels.

`register` checks everything once and writes `<datasets>/<NAME>/corpus.json`; from
then on the corpus is found by its name like any other. The audio stays where it is.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path, PurePosixPath

import numpy as np
from natsort import natsorted

from lib.corpora.base import Corpus, Problem, Tags, Utterance
from lib.corpora.sources import Clip, read_source
from lib.corpora.validation import CLIP_SECONDS, check_registration, measure
from lib.corpora.walk import files_below, is_audio
from lib.paths import write_json

RECORD = "corpus.json"
SCHEMA_VERSION = 1
RATE = 22_050
# Eight blocks of the official TIM-Net look back 511 frames of 512 samples; longer
# clips need the ten that it uses for IEMOCAP.
_LONGEST_FOR_EIGHT = 511 * 512


def register(
    name: str,
    source: Path | str,
    datasets: Path | str,
    clip_seconds: float | None = None,
    speaker_pattern: str = "",
) -> Corpus:
    """Make a folder or a table of labelled audio known as a corpus.

    Registering the same name again replaces the record.

    Args:
        name: Name of the corpus: letters, digits and underscores.
        source: A folder `<label>/**/*.wav`, or a CSV file with the columns file,
            label and speaker (empty in every row where unknown), and optionally sex
            (female, male) and text; files relative to the table or absolute.
        datasets: Folder of the corpora.
        clip_seconds: Length that clips are padded or cropped to; None is the 95th
            percentile of the durations.
        speaker_pattern: Regular expression with a group `speaker`, searched in the
            path of every file of a folder; "" leaves the speakers unknown.

    Returns:
        The corpus.

    Raises:
        ValueError: If anything is wrong; the message names all faults at once.
    """
    source, datasets = Path(source).expanduser().resolve(), Path(datasets)
    clips, faults = read_source(source, speaker_pattern)
    faults = check_registration(name, clip_seconds, clips) + faults
    durations, rates, unreadable = measure(clips)
    if faults := faults + unreadable:
        listed = "\n".join(f"- {fault}" for fault in faults)
        raise ValueError(f"{name!r} was not registered from {source}:\n{listed}")
    folder = datasets / name
    record = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "kind": "folder" if source.is_dir() else "table",
        "source": _portable(source, folder),
        "speaker_pattern": speaker_pattern,
        "clip_seconds": clip_seconds or _percentile_95(durations),
        "seconds": [min(durations), max(durations)],
        "sample_rate": rates.pop() if len(rates) == 1 else 0,
        **_summary(clips),
    }
    write_json(folder / RECORD, record)
    return load(name, datasets)


def registered(datasets: Path | str) -> tuple[str, ...]:
    """Return the names of the registered corpora of a datasets folder, sorted."""
    return tuple(
        sorted(path.parent.name for path in Path(datasets).glob(f"*/{RECORD}"))
    )


def is_unregistered(name: str, datasets: Path | str) -> bool:
    """Tell whether `<datasets>/<name>` holds audio in label folders, unregistered."""
    folder = Path(datasets) / str(name)
    if not str(name).isidentifier() or not folder.is_dir():
        return False
    return any(is_audio(file) and len(file.parts) > 1 for file in files_below(folder))


def load(name: str, datasets: Path | str) -> Corpus:
    """Read a registered corpus back.

    Args:
        name: Name of the corpus.
        datasets: Folder of the corpora.

    Returns:
        The corpus; its counts are those at registration.

    Raises:
        ValueError: If the record is damaged.
    """
    path = Path(datasets) / name / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return _corpus(record)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); register the corpus again."
        ) from error


def _corpus(record: dict) -> Corpus:
    """Build the corpus that a record describes."""
    shortest, longest = record["seconds"]
    clip_samples = round(record["clip_seconds"] * RATE)
    source, pattern = record["source"], record["speaker_pattern"]
    return Corpus(
        name=record["name"],
        title=f"{record['name']} (registered)",
        language="",
        labels=tuple(record["labels"]),
        counts=record["counts"],
        sexes=record["sexes"],
        sample_rate=record["sample_rate"],
        clip_samples=clip_samples,
        dilations=8 if clip_samples <= _LONGEST_FOR_EIGHT else 10,
        terms="Your own data.",
        how_to_get=f"It was registered from {source}; register it again if it moved.",
        citation="",
        parse=_refuse,
        find=functools.partial(
            _find, source=source, pattern=pattern, labels=tuple(record["labels"])
        ),
        seconds=(shortest, longest),
    )


def _find(
    folder: Path, source: str, pattern: str, labels: tuple[str, ...]
) -> tuple[list[Utterance], list[Problem]]:
    """Read a registered source again."""
    # An absolute source replaces the folder; one inside it moves along with it.
    clips, faults = read_source((Path(folder) / source).resolve(), pattern)
    problems = [
        Problem("error", "extra", "", fault, "Repair the source and register it again.")
        for fault in faults
    ]
    utterances = []
    for clip in clips:
        if clip.tags.label in labels:
            utterances.append(Utterance(clip.path, clip.file, clip.tags))
            continue
        problems.append(
            Problem(
                "error",
                "extra",
                clip.file,
                f"{clip.file} has the label {clip.tags.label!r}, which is new.",
                "Register the corpus again.",
            )
        )
    return utterances, problems


def _refuse(file: PurePosixPath) -> Tags | None:
    """Refuse: the labels of a registered corpus are not in the names alone."""
    raise ValueError(f"{file}: labels come from the registered source.")


def _summary(clips: list[Clip]) -> dict[str, object]:
    """Return labels, counts and sexes of speakers, in natural order."""
    labels = natsorted({clip.tags.label for clip in clips})
    found = [clip.tags.label for clip in clips]
    sexes = {clip.tags.speaker: clip.tags.sex for clip in clips if clip.tags.speaker}
    return {
        "labels": labels,
        "counts": {label: found.count(label) for label in labels},
        "sexes": {speaker: sexes[speaker] for speaker in natsorted(sexes)},
    }


def _portable(source: Path, folder: Path) -> str:
    """Return a source inside the corpus folder relative to it, else absolute."""
    resolved = folder.resolve()
    if source.is_relative_to(resolved):
        return source.relative_to(resolved).as_posix()
    return str(source)


def _percentile_95(durations: list[float]) -> float:
    """Return the 95th percentile in seconds, within what a clip may last."""
    return round(float(np.clip(np.percentile(durations, 95), *CLIP_SECONDS)), 3)
