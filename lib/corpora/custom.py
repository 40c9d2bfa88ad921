"""A corpus of one's own: a folder per label, or a table of files and labels.

`register` checks everything once and writes `<datasets>/<NAME>/corpus.json`; from
then on the corpus is found by its name like any other. The audio stays where it is.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from natsort import natsorted

from lib.corpora.audio_checks import Inspection, inspect_files
from lib.corpora.base import Corpus, Problem, Tags, Utterance
from lib.corpora.clips import first_few
from lib.corpora.design import design_problems
from lib.corpora.sources import name_some, read_source
from lib.corpora.validation import CLIP_SECONDS, check_registration
from lib.corpora.walk import files_below, is_audio, printable
from lib.files import DATASETS, located, write_json

RECORD = "corpus.json"
SCHEMA_VERSION = 1
RATE = 22_050
# Eight blocks of the official TIM-Net look back 511 frames of 512 samples; longer
# clips need the ten that it uses for IEMOCAP.
_LONGEST_FOR_EIGHT = 511 * 512


def register(
    name: str,
    source: Path | str,
    datasets: Path | str | None = None,
    clip_seconds: float | None = None,
    speaker_pattern: str = "",
) -> Corpus:
    """Make a folder or a table of labelled audio known as a corpus.

    Registering the same name again replaces the record. What was registered, and
    where, is printed.

    Args:
        name: Name of the corpus: letters, digits and underscores.
        source: A folder `<label>/**/*.wav`, or a CSV file with the columns file,
            label and speaker (empty in every row where unknown), and optionally sex
            (female, male) and text; files relative to the table or absolute. A
            relative path that is not in the current folder is one in the workbook's.
        datasets: Folder of the corpora, taken likewise; None is the workbook's own.
        clip_seconds: Length that clips are padded or cropped to; None is the 95th
            percentile of the durations.
        speaker_pattern: Regular expression with a group `speaker`, searched in the
            path of every file of a folder; "" leaves the speakers unknown.

    Returns:
        The corpus.

    Raises:
        ValueError: If anything is wrong; the message names all faults at once.
    """
    source, datasets = located(source), located(datasets or DATASETS)
    utterances, faults = read_source(source, speaker_pattern)
    inspections = inspect_files([item.path for item in utterances])
    faults = check_registration(name, clip_seconds, utterances) + faults
    if not utterances and not faults:
        faults = ["There is no audio in it."]
    if faults := faults + _unreadable(utterances, inspections):
        listed = "\n".join(f"- {fault}" for fault in faults)
        raise ValueError(
            f"{name!r} was not registered from {printable(source)}:\n{listed}"
        )
    folder = datasets / name
    durations = [seen.seconds for seen in inspections]
    rates = {seen.sample_rate for seen in inspections}
    record = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "kind": "folder" if source.is_dir() else "table",
        "source": _portable(source, folder),
        "speaker_pattern": speaker_pattern,
        "clip_seconds": clip_seconds or _percentile_95(durations),
        "seconds": [min(durations), max(durations)],
        "sample_rate": rates.pop() if len(rates) == 1 else 0,
        **_summary(utterances),
    }
    write_json(folder / RECORD, record)
    corpus = load(name, datasets)
    counts = ", ".join(f"{label} {count}" for label, count in corpus.counts.items())
    print(
        f"{name}: {len(utterances)} clips ({counts}); speakers "
        f"{first_few(corpus.speakers) or 'unknown'}; registered in {folder}."
    )
    for problem in design_problems(utterances):
        print(f"{problem.severity}: {problem.message}")
    return corpus


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
    files = files_below(folder)
    return any(is_audio(file, own=True) and len(file.parts) > 1 for file in files)


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
        if record["name"] != name:
            raise ValueError(f"it is the record of the corpus '{record['name']}'")
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
        own=True,
    )


def _find(
    folder: Path, source: str, pattern: str, labels: tuple[str, ...]
) -> tuple[list[Utterance], list[Problem]]:
    """Read a registered source again."""
    # An absolute source replaces the folder; one inside it moves along with it.
    found, faults = read_source((Path(folder) / source).resolve(), pattern)
    problems = [
        Problem("error", "extra", "", fault, "Repair the source and register it again.")
        for fault in faults
    ]
    utterances = []
    for item in found:
        if item.label in labels:
            utterances.append(item)
            continue
        message = f"{item.file} has the label {item.label!r}, which is new."
        fix = "Register the corpus again."
        problems.append(Problem("error", "extra", item.file, message, fix))
    return utterances, problems


def _refuse(file: PurePosixPath) -> Tags | None:
    """Refuse: the labels of a registered corpus are not in the names alone."""
    raise ValueError(f"{file}: labels come from the registered source.")


def _unreadable(
    utterances: Sequence[Utterance], inspections: Sequence[Inspection]
) -> list[str]:
    """Return a sentence on the existing files that hold no audio, if there are any."""
    odd = [
        f"{item.file} ({seen.reason})"
        for item, seen in zip(utterances, inspections, strict=True)
        if seen.fault and item.path.is_file() and is_audio(item.path, own=True)
    ]
    return [f"Files that cannot be read as audio: {name_some(odd)}."] if odd else []


def _summary(utterances: Sequence[Utterance]) -> dict[str, object]:
    """Return labels, counts, sexes of speakers, and clips by speaker and label."""
    tags = [item.tags for item in utterances]
    labels = Counter(tag.label for tag in tags)
    sexes = {tag.speaker: tag.sex for tag in tags if tag.speaker}
    cells = Counter((tag.speaker, tag.label) for tag in tags)
    names = natsorted(labels)
    speakers = natsorted(sexes)
    return {
        "labels": names,
        "counts": {label: labels[label] for label in names},
        "sexes": {speaker: sexes[speaker] for speaker in speakers},
        "clips_by_speaker": {
            speaker: {label: cells[speaker, label] for label in names}
            for speaker in speakers
        },
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
