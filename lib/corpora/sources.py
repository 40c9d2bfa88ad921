"""Read labelled audio from a folder per label or from a table."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path, PurePosixPath

from lib.corpora.base import Tags, Utterance
from lib.corpora.builtin import BUILT_IN
from lib.corpora.spelling import folded, spelt_differently, tidy
from lib.corpora.walk import files_below, is_audio, is_other_audio, printable

COLUMNS = ("file", "label", "speaker")
OPTIONAL_COLUMNS = ("sex", "text")
OTHER_NAMES = {"gender": "sex", "sentence": "text", "transcript": "text"}
SEXES = ("", "female", "male")
_NAMED = 10
_EMOTIONS = frozenset(
    "anger joy happiness sadness fearful anxiety disgusted surprised bored boredom "
    "calm excited excitement frustration contempt love hate".split()
).union(word for corpus in BUILT_IN.values() for word in corpus.labels)


def read_source(
    source: Path, speaker_pattern: str
) -> tuple[list[Utterance], list[str]]:
    """Read a folder or a table.

    Args:
        source: Folder `<label>/**/*.wav` or CSV file.
        speaker_pattern: Regular expression with a group `speaker`, for folders.

    Returns:
        The utterances, and the faults in full sentences.
    """
    if source.is_dir():
        return _read_folder(source, speaker_pattern)
    if not source.is_file():
        return [], [f"There is no folder and no table {printable(source)}."]
    utterances, faults = _read_table(source)
    if speaker_pattern:
        faults.append("speaker_pattern is for folders; a table has a speaker column.")
    return utterances, faults


def name_some(names: Iterable[object]) -> str:
    """Return a list of names in one line, cut after the first few."""
    names = [str(name) for name in names]
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _read_folder(folder: Path, pattern: str) -> tuple[list[Utterance], list[str]]:
    """Take the first folder of every path as the label."""
    expression, faults = _compiled(pattern)
    files = list(files_below(folder))
    unnamable = [printable(file) for file in files if printable(file) != str(file)]
    files = [file for file in files if printable(file) == str(file)]
    audio = [file for file in files if is_audio(file, own=True)]
    utterances, speechless, labels, speakers = [], [], [], []
    for file in audio:
        path = unicodedata.normalize("NFC", str(file))
        match = expression.search(path) if expression else None
        speaker = (match["speaker"] or "") if match else ""
        if expression and not tidy(speaker):
            speechless.append(file)
        if len(file.parts) > 1:
            labels.append(file.parts[0])
            speakers += [speaker] if speaker else []
            key = str(PurePosixPath(path).with_suffix(""))
            tags = Tags(tidy(file.parts[0]), tidy(speaker), "", "", key)
            utterances.append(Utterance(folder / file, path, tags))
    bare = [file for file in audio if len(file.parts) == 1]
    foreign = [file for file in files if is_other_audio(file, own=True)]
    return utterances, [
        *faults,
        *_sentences(
            ("Audio outside a label folder", bare),
            ("Audio in a format that is not read (convert it to WAV or FLAC)", foreign),
            ("Names that are not UTF-8 text (rename them)", unnamable),
            (f"speaker_pattern {pattern!r} finds no speaker in", speechless),
            ("Files that differ only in the suffix (keep one)", _one_stem(utterances)),
        ),
        *_labels_further_down(audio),
        *spelt_differently("Labels", labels),
        *spelt_differently("Speakers", speakers),
    ]


def _compiled(pattern: str) -> tuple[re.Pattern[str] | None, list[str]]:
    """Return the speaker expression, or what is wrong with it."""
    if not pattern:
        return None, []
    try:
        expression = re.compile(unicodedata.normalize("NFC", pattern))
    except re.error as error:
        return None, [f"speaker_pattern {pattern!r} is no regular expression: {error}."]
    if "speaker" not in expression.groupindex:
        return None, [
            f"speaker_pattern {pattern!r} has no group named speaker; write e.g. "
            r"(?P<speaker>s\d+)."
        ]
    return expression, []


def _labels_further_down(files: list[PurePosixPath]) -> list[str]:
    """Return a sentence where not the first folders, but later ones are emotions."""
    first = sorted({file.parts[0] for file in files if len(file.parts) > 1})
    inner = sorted({part for file in files for part in file.parts[1:-1]})
    emotions = [name for name in inner if _names_an_emotion(name)]
    if len(emotions) < 2 or any(map(_names_an_emotion, first)):
        return []
    return [
        f"The first folder of every path is its label, here {name_some(first)}; but "
        f"emotions seem to be further down ({name_some(emotions)}). Put them first, "
        "register the folder that holds them, or write a table."
    ]


def _names_an_emotion(name: str) -> bool:
    """Tell whether a word of a folder's name is a well-known emotion."""
    return bool(_EMOTIONS.intersection(folded(name).split()))


def _read_table(table: Path) -> tuple[list[Utterance], list[str]]:
    """Read the rows of a CSV file."""
    try:
        text = table.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        return [], [f"{table.name} is not UTF-8 text; save it as CSV UTF-8."]
    # Spreadsheets of half the world write semicolons.
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        lines = list(_lines(text, delimiter))
    except csv.Error as error:
        return [], [f"{table.name} has a row that cannot be read: {error}."]
    heading = [tidy(field).lower() for field in lines[0][1]] if lines else []
    if faults := _faulty_heading(table.name, heading):
        return [], faults
    odd = [
        f"line {number} has {len(fields)}"
        for number, fields in lines
        if len(fields) != len(heading)
    ]
    if odd:
        return [], [
            f"Rows with more or fewer fields than the {len(heading)} of the heading: "
            f"{name_some(odd)}. Put text that holds {delimiter!r} in double quotes."
        ]
    rows = {
        number: dict(zip(heading, fields, strict=True)) for number, fields in lines[1:]
    }
    return _utterances_of(table, rows)


def _lines(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line and the fields of every row that is not empty."""
    # The reader alone knows which separators and line breaks are inside quotes.
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        skipinitialspace=True,
        strict=True,
    )
    first = 1
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield first, fields
            first = reader.line_num + 1
    except csv.Error as error:
        raise csv.Error(f"line {first}, {error}") from error


def _faulty_heading(name: str, columns: list[str]) -> list[str]:
    """Return what is wrong with the heading of a table."""
    if missing := [column for column in COLUMNS if column not in columns]:
        return [
            f"{name} lacks the columns {', '.join(missing)}; it has "
            f"{', '.join(columns) or 'none'}."
        ]
    used = COLUMNS + OPTIONAL_COLUMNS
    if twice := [column for column in used if columns.count(column) > 1]:
        return [f"{name} has several columns named {', '.join(twice)}."]
    return [
        f"{name} has a column '{other}'; call it '{meant}', or it would not count."
        for other, meant in OTHER_NAMES.items()
        if other in columns and meant not in columns
    ]


def _utterances_of(
    table: Path, rows: dict[int, dict[str, str]]
) -> tuple[list[Utterance], list[str]]:
    """Turn table rows, by line, into utterances and collect what is wrong."""
    utterances: list[Utterance] = []
    lines = {"file": [], "label": [], "speaker": [], "sex": []}
    for number, row in rows.items():
        file = row["file"].strip()
        label, speaker = tidy(row["label"]), tidy(row["speaker"])
        sex, text = (tidy(row.get(column, "")) for column in OPTIONAL_COLUMNS)
        lines["file"] += [] if file else [f"line {number}"]
        lines["label"] += [] if label else [f"line {number}"]
        lines["speaker"] += [] if speaker else [f"line {number}"]
        lines["sex"] += [] if sex.lower() in SEXES else [f"line {number} ({sex})"]
        if file and label:
            posix = PurePosixPath(file.replace("\\", "/"))
            key = str(posix.with_suffix(""))
            tags = Tags(label, speaker, sex.lower(), text, key)
            utterances.append(
                Utterance(_on_disk(table.parent, posix), str(posix), tags)
            )
    return utterances, [
        *_sentences(
            ("Rows without a file", lines["file"]),
            ("Rows without a label", lines["label"]),
            ("Rows without a speaker", _unless_all(lines["speaker"], rows)),
            ("Rows with a sex other than female, male or empty", lines["sex"]),
            (
                "Files that do not exist",
                [item.file for item in utterances if not item.path.is_file()],
            ),
            (
                "Files in a format that is not read (convert them to WAV or FLAC)",
                [item.file for item in utterances if not is_audio(item.path, own=True)],
            ),
            ("Files listed more than once", _repeated(utterances)),
            ("Files that differ only in the suffix (keep one)", _one_stem(utterances)),
            ("Speakers with two sexes", _two_sexes(utterances)),
        ),
        *spelt_differently("Labels", (row["label"] for row in rows.values())),
        *spelt_differently("Speakers", (row["speaker"] for row in rows.values())),
    ]


def _on_disk(folder: Path, file: PurePosixPath) -> Path:
    """Return where a file lies, in the normal form that its name has there."""
    forms = (unicodedata.normalize(form, str(file)) for form in ("NFC", "NFD"))
    paths = [folder / file, *(folder / form for form in forms)]
    return next((path for path in paths if path.is_file()), paths[0])


def _unless_all(lines: list[str], rows: Sized) -> list[str]:
    """Return lines, or none if every row lacks it: the speakers are unknown."""
    return [] if len(lines) == len(rows) else lines


def _repeated(utterances: list[Utterance]) -> list[str]:
    """Return the files that more than one row names, each once."""
    counted = Counter(item.path.resolve() for item in utterances)
    return sorted({i.file for i in utterances if counted[i.path.resolve()] > 1})


def _one_stem(utterances: list[Utterance]) -> list[str]:
    """Return the different files whose names are equal but for the suffix."""
    files = defaultdict(set)
    for item in utterances:
        files[item.key].add(item.file)
    return sorted(name for group in files.values() if len(group) > 1 for name in group)


def _two_sexes(utterances: list[Utterance]) -> list[str]:
    """Return the speakers that rows give different sexes."""
    sexes = defaultdict(set)
    for item in utterances:
        sexes[item.speaker].add(item.sex)
    return sorted(name for name, found in sexes.items() if name and len(found) > 1)


def _sentences(*groups: tuple[str, list]) -> list[str]:
    """Return one sentence for every group of names that is not empty."""
    return [f"{said}: {name_some(found)}." for said, found in groups if found]
