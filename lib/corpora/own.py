"""A corpus of one's own: a folder per label, or a table of files and labels.

`register` checks everything once and writes `<datasets>/<NAME>/corpus.json`; from
then on the corpus is found by its name like any other. The audio stays where it is.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from unicodedata import normalize

import numpy as np
import pandas as pd
from natsort import natsorted

from lib.corpora import records
from lib.corpora.check import inspect_files
from lib.corpora.records import Clip, Corpus, Problem, first_few, printable
from lib.corpora.spelling import folded, tidy
from lib.files import DATASETS, located, write_json

_CLIP_SECONDS = (0.1, 60.0)
_COLUMNS = ["file", "label", "speaker", "sex", "text"]
_WORDS = records.MESSAGES["words"]
_NO_EMOTION = re.compile("|".join(_WORDS["no_emotion"]))


def register(
    name: str,
    source: Path | str,
    datasets: Path | str | None = None,
    clip_seconds: float | None = None,
    speaker_pattern: str = "",
) -> Corpus:
    """Make labelled audio known as a corpus, or name all its faults (ValueError).

    Args:
        name: Letters, digits and underscores; an older record is replaced.
        source: A folder `<label>/**/*.wav`, or a CSV file with the columns file, label,
            speaker (or empty) and, if you like, sex (female, male) and text.
        datasets: Folder of the corpora; None is the workbook's own.
        clip_seconds: Length that clips are padded or cropped to; None is the 95th
            percentile of the durations.
        speaker_pattern: Regular expression with a group `speaker`, searched in the
            path of every file of a folder; "" leaves the speakers unknown.
    """
    source, datasets = located(source), located(datasets or DATASETS)
    rows, faults = _read(source, speaker_pattern)
    seen = inspect_files(rows["path"])
    labels = natsorted(set(rows["label"]))
    number = clip_seconds if type(clip_seconds) in (int, float) else 0
    fits = clip_seconds is None or _CLIP_SECONDS[0] <= number <= _CLIP_SECONDS[1]
    named = re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,31}", name)
    told = zip(rows["file"], seen["fault"], seen["reason"], strict=True)
    faults += _faults(
        # Names become folder names and parts of run ids, which hyphens divide.
        name=[] if named and name.upper() not in records.BUILT_IN else [repr(name)],
        clip_seconds=[] if fits else [clip_seconds],
        one_label=[repr(label) for label in labels] if len(labels) == 1 else [],
        no_emotions=_no_emotions(rows, source.is_dir()),
        unreadable=[f"{file} ({reason})" for file, fault, reason in told if fault],
        source=[] if len(rows) or faults else [source],
    )
    if faults:
        told = "\n".join(f"- {fault}" for fault in faults)
        where = printable(source)
        raise ValueError(f"{name!r} was not registered from {where}:\n{told}")
    folder = datasets / name
    inside = source.is_relative_to(folder.resolve())
    usual = float(np.clip(seen["seconds"].quantile(0.95), *_CLIP_SECONDS))
    rates = seen["sample_rate"].unique()
    sexes = dict(zip(rows["speaker"], rows["sex"], strict=True))
    speakers = natsorted(filter(None, sexes))
    counts = rows["label"].value_counts()[labels].to_dict()
    record = {
        "schema_version": 1,
        "name": name,
        # What lies inside the corpus folder moves along with it.
        "source": os.path.relpath(source, folder.resolve()) if inside else str(source),
        "speaker_pattern": speaker_pattern,
        "clip_seconds": clip_seconds or round(usual, 3),
        "seconds": [float(seen["seconds"].min()), float(seen["seconds"].max())],
        "sample_rate": int(rates[0]) if len(rates) == 1 else 0,
        "labels": labels,
        "counts": counts,
        "sexes": {speaker: sexes[speaker] for speaker in speakers},
    }
    write_json(folder / records.RECORD, record)
    told = ", ".join(f"{label} {count}" for label, count in counts.items())
    told = f"{len(rows)} clips ({told}); speakers {first_few(speakers, 4) or 'unknown'}"
    print(f"{name}: {told}; registered in {folder}.")
    return records.get(name, datasets)


def _find(corpus: Corpus, folder: Path) -> Iterator[Clip | Problem]:
    """Read a registered source again."""
    # An absolute source replaces the folder.
    source = (folder / corpus.naming["source"]).resolve()
    rows, faults = _read(source, corpus.naming["speaker_pattern"])
    for fault in faults:
        yield records.problem("source", "", reason=fault)
    for clip in (Clip(**row) for row in rows.to_dict("records")):
        if clip.label in corpus.labels:
            yield clip
        else:
            yield records.problem("new label", clip.file, label=clip.label)


records.FINDERS["own"] = _find


def _faults(**found: Iterable[Any]) -> list[str]:
    """Return the sentence of `messages.yaml` on each list of names that has some."""
    return [
        records.MESSAGES["own"][about].format(names=printable(first_few(names)))
        for about, names in found.items()
        if len(names)
    ]


def _no_emotions(rows: pd.DataFrame, folders: bool) -> list[str]:
    """Return the labels that are people or parts of the data."""
    emotions = set(_WORDS["emotions"].split())
    labels = natsorted(set(rows["label"]))
    inner = {part for file in rows["file"] for part in file.split("/")[1:-1]}
    here, below = (
        [name for name in names if emotions & {*folded(name).split()}]
        for names in (labels, inner if folders else ())
    )
    known = rows[rows["speaker"] != ""]
    people = known["label"].map(folded) == known["speaker"].map(folded)
    if (len(known) and people.all()) or (len(below) > 1 and not here):
        return labels
    return [label for label in labels if _NO_EMOTION.fullmatch(folded(label))]


def _read(source: Path, pattern: str) -> tuple[pd.DataFrame, list[str]]:
    """Return the clips of a folder or a table, and its faults in full sentences."""
    rows, faults = pd.DataFrame(columns=["path", *_COLUMNS], dtype=object), []
    if source.is_dir():
        rows, faults = _read_folder(source, pattern)
    elif source.is_file():
        rows, faults = _read_table(source)
        faults += _faults(no_folder=[pattern] if pattern else [])
    for kind in ("label", "speaker"):
        names = rows[kind].map(lambda name: normalize("NFC", name).strip())
        spellings = names.groupby(names.map(folded)).unique()
        # A representation shows characters that cannot be seen.
        alike = [
            f"{kind} {' and '.join(map(repr, sorted(found)))}"
            for name, found in spellings.items()
            if name and len(found) > 1
        ]
        faults += _faults(spelling=alike)
    rows[_COLUMNS[1:]] = rows[_COLUMNS[1:]].map(tidy)
    rows = rows[(rows["file"] != "") & (rows["label"] != "")].reset_index(drop=True)
    rows["key"] = [os.path.splitext(file)[0] for file in rows["file"]]
    files = rows.drop_duplicates("file")
    alike = files["file"][files["key"].duplicated(keep=False)]
    return rows, faults + _faults(alike=sorted(alike))


def _read_folder(folder: Path, pattern: str) -> tuple[pd.DataFrame, list[str]]:
    """Take the first folder of every path as the label."""
    files = list(records.files_below(folder))
    unnamable = [file for file in files if printable(file) != str(file)]
    bare = [file for file in files if len(file.parts) == 1]
    files = [file for file in files if file not in {*unnamable, *bare}]
    rows = pd.DataFrame({"path": [folder / file for file in files]}, dtype=object)
    rows["file"] = [normalize("NFC", str(file)) for file in files]
    rows["label"] = [file.parts[0] for file in files]
    rows = rows.assign(speaker="", sex="", text="")
    faults = _faults(bare=bare, unnamable=unnamable)
    if not pattern or not files:
        return rows, faults
    try:
        found = rows["file"].str.extract(normalize("NFC", pattern))["speaker"]
    except (re.error, ValueError, KeyError) as error:
        return rows, faults + _faults(pattern=[f"{pattern!r} ({error})"])
    rows["speaker"] = found.fillna("")
    return rows, faults + _faults(silent=rows["file"][rows["speaker"].map(tidy) == ""])


def _read_table(table: Path) -> tuple[pd.DataFrame, list[str]]:
    """Take label and speaker from the columns of a CSV file, rows by "row 2" …."""
    rows, faults = _columns(table)
    words = rows.map(tidy).assign(sex=rows["sex"].map(tidy).str.lower())
    empty = words[_COLUMNS[:3]] == ""
    empty["speaker"] &= not empty["speaker"].all()
    empty = [f"{row} ({column})" for (row, column), no in empty.stack().items() if no]
    odd = words["sex"][~words["sex"].isin(["", "female", "male"])]
    sexes = words[words["speaker"] != ""].groupby("speaker")["sex"].nunique()
    files = [PurePosixPath(file.strip().replace("\\", "/")) for file in rows["file"]]
    rows["sex"] = words["sex"]
    rows["file"] = [str(file) if file.name else "" for file in files]
    rows["path"] = [table.parent / file for file in files]
    for form in ("NFC", "NFD"):  # a name has one of the two on the disk
        other = [table.parent / normalize(form, str(file)) for file in files]
        rows["path"] = rows["path"].where(rows["path"].map(Path.is_file), other)
    listed = rows[rows["file"] != ""]
    twice = listed["path"].map(Path.resolve).duplicated(keep=False)
    return rows, faults + _faults(
        empty=empty,
        sex=[f"{row} ({sex})" for row, sex in odd.items()],
        twice=listed["file"][twice].unique(),
        two_sexes=sexes.index[sexes > 1],
    )


def _columns(table: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return the columns that count; pandas would pass over faults without a word."""
    rows, unread = {}, []
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            # Spreadsheets of half the world write semicolons.
            mark = max(",;\t", key=file.readline().count)
            file.seek(0)
            options = {"delimiter": mark, "skipinitialspace": True, "strict": True}
            for number, fields in enumerate(csv.reader(file, **options), start=1):
                rows[f"row {number}"] = fields
    except (UnicodeDecodeError, csv.Error) as error:
        unread = [f"row {len(rows) + 1}, {error}"]
    rows = {row: fields for row, fields in rows.items() if any(map(str.strip, fields))}
    heading = [tidy(field).lower() for field in next(iter(rows.values()), [])]
    for name, usual in _WORDS["columns"].items():
        if usual not in heading:
            heading = [usual if column == name else column for column in heading]
    times = [heading.count(column) for column in _COLUMNS]
    right = min(times[:3]) == 1 and max(times) == 1
    lengths = {row: len(fields) for row, fields in rows.items()}
    odd = [f"{row} has {n}" for row, n in lengths.items() if n != len(heading)]
    faults = _faults(unread=unread) or _faults(
        columns=[] if right else heading or ["none"], fields=odd
    )
    if faults:
        return pd.DataFrame(columns=_COLUMNS, dtype=str), faults
    read = pd.DataFrame(list(rows.values()), list(rows), heading, dtype=str)[1:]
    read = read.loc[:, ~read.columns.duplicated()]
    return read.reindex(columns=_COLUMNS, fill_value=""), []
