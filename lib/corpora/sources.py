"""Read labelled audio from a folder per label or from a table."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from lib.corpora.base import AUDIO_SUFFIXES, Tags
from lib.corpora.walk import files_below, foreign_format, is_audio

COLUMNS = ("file", "label", "speaker")
SEXES = ("", "female", "male")
_NAMED = 10


@dataclasses.dataclass(frozen=True)
class Clip:
    """One labelled file of a user's own.

    Attributes:
        path: Where the audio lies.
        file: How the source names it, with forward slashes.
        tags: Label, speaker, sex, text and key.
    """

    path: Path
    file: str
    tags: Tags


def read_source(source: Path, speaker_pattern: str) -> tuple[list[Clip], list[str]]:
    """Read a folder or a table.

    Args:
        source: Folder `<label>/**/*.wav` or CSV file.
        speaker_pattern: Regular expression with a group `speaker`, for folders.

    Returns:
        The clips, and the faults in full sentences.
    """
    if source.is_dir():
        return _read_folder(source, speaker_pattern)
    if not source.is_file():
        return [], [f"There is no folder and no table {source}."]
    clips, faults = _read_table(source)
    if speaker_pattern:
        faults.append("speaker_pattern is for folders; a table has a speaker column.")
    return clips, faults


def name_some(names: Iterable[object]) -> str:
    """Return a list of names in one line, cut after the first few."""
    names = [str(name) for name in names]
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _read_folder(folder: Path, pattern: str) -> tuple[list[Clip], list[str]]:
    """Take the first folder of every path as the label."""
    expression, faults = _compiled(pattern)
    files = list(files_below(folder))
    audio = [file for file in files if is_audio(file)]
    clips, speechless = [], []
    for file in audio:
        match = expression.search(str(file)) if expression else None
        if expression and not (match and match["speaker"]):
            speechless.append(file)
        if len(file.parts) > 1:
            speaker = match["speaker"] or "" if match else ""
            key = str(file.with_suffix(""))
            tags = Tags(file.parts[0].strip(), speaker, "", "", key)
            clips.append(Clip(folder / file, str(file), tags))
    bare = [file for file in audio if len(file.parts) == 1]
    foreign = [file for file in files if foreign_format(file)]
    return clips, faults + _sentences(
        ("Audio outside a label folder", bare),
        ("Audio in a format that is not read (convert it to WAV or FLAC)", foreign),
        (f"speaker_pattern {pattern!r} finds no speaker in", speechless),
    )


def _compiled(pattern: str) -> tuple[re.Pattern[str] | None, list[str]]:
    """Return the speaker expression, or what is wrong with it."""
    if not pattern:
        return None, []
    try:
        expression = re.compile(pattern)
    except re.error as error:
        return None, [f"speaker_pattern {pattern!r} is no regular expression: {error}."]
    if "speaker" not in expression.groupindex:
        return None, [
            f"speaker_pattern {pattern!r} has no group named speaker; write e.g. "
            r"(?P<speaker>s\d+)."
        ]
    return expression, []


def _read_table(table: Path) -> tuple[list[Clip], list[str]]:
    """Read the rows of a CSV file."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        return [], [f"{table.name} is not UTF-8 text; save it as CSV UTF-8."]
    heading = text.partition("\n")[0]
    # Spreadsheets of half the world write semicolons.
    delimiter = ";" if ";" in heading and "," not in heading else ","
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter)
    columns = [(column or "").strip() for column in reader.fieldnames or ()]
    reader.fieldnames = columns
    if missing := [column for column in COLUMNS if column not in columns]:
        return [], [
            f"{table.name} lacks the columns {', '.join(missing)}; it has "
            f"{', '.join(columns) or 'none'}."
        ]
    rows = [
        {key: (value or "").strip() for key, value in row.items() if key in columns}
        for row in reader
    ]
    return _clips_of(table, rows)


def _clips_of(table: Path, rows: list[dict[str, str]]) -> tuple[list[Clip], list[str]]:
    """Turn table rows into clips and collect what is wrong with them."""
    clips: list[Clip] = []
    lines = {"no file": [], "no label": [], "no speaker": [], "sex": []}
    for number, row in enumerate(rows, start=2):
        named = f"line {number}"
        lines["no file"] += [] if row["file"] else [named]
        lines["no label"] += [] if row["label"] else [named]
        lines["no speaker"] += [] if row["speaker"] else [named]
        sex = row.get("sex", "").lower()
        lines["sex"] += [] if sex in SEXES else [f"{named} ({sex})"]
        if row["file"] and row["label"]:
            file = PurePosixPath(row["file"].replace("\\", "/"))
            key = str(file.with_suffix(""))
            tags = Tags(row["label"], row["speaker"], sex, row.get("text", ""), key)
            clips.append(Clip(table.parent / file, str(file), tags))
    return clips, _sentences(
        ("Rows without a file", lines["no file"]),
        ("Rows without a label", lines["no label"]),
        ("Rows without a speaker", _unless_all(lines["no speaker"], rows)),
        ("Rows with a sex other than female, male or empty", lines["sex"]),
        ("Files that do not exist", [c.file for c in clips if not c.path.is_file()]),
        ("Files that are neither WAV nor FLAC", _other_formats(clips)),
        ("Files listed more than once", _repeated(clips)),
        ("Speakers with two sexes", _two_sexes(clips)),
    )


def _unless_all(lines: list[str], rows: list[dict[str, str]]) -> list[str]:
    """Return lines, or none if every row lacks it: the speakers are unknown."""
    return [] if len(lines) == len(rows) else lines


def _other_formats(clips: list[Clip]) -> list[str]:
    """Return the files whose name does not end like audio that is read."""
    return [
        clip.file for clip in clips if clip.path.suffix.lower() not in AUDIO_SUFFIXES
    ]


def _repeated(clips: list[Clip]) -> list[str]:
    """Return the files that more than one row names, each once."""
    seen: dict[Path, int] = {}
    for clip in clips:
        path = clip.path.resolve()
        seen[path] = seen.get(path, 0) + 1
    return sorted({c.file for c in clips if seen[c.path.resolve()] > 1})


def _two_sexes(clips: list[Clip]) -> list[str]:
    """Return the speakers that rows give different sexes."""
    sexes: dict[str, set[str]] = {}
    for clip in clips:
        if clip.tags.speaker:
            sexes.setdefault(clip.tags.speaker, set()).add(clip.tags.sex)
    return sorted(speaker for speaker, found in sexes.items() if len(found) > 1)


def _sentences(*groups: tuple[str, list]) -> list[str]:
    """Return one sentence for every group of names that is not empty."""
    return [f"{said}: {name_some(found)}." for said, found in groups if found]
