"""A corpus of one's own: a folder per label, or a table of files and labels.

`register` writes `<datasets>/<NAME>/corpus.json`; the audio stays where it is.
"""

import csv
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from unicodedata import category, normalize

import numpy as np
import pandas as pd

from lib.corpora import records
from lib.corpora.check import inspect_files
from lib.corpora.records import Clip, Corpus, first_few
from lib.files import DATASETS, located, write_json, write_text

SECONDS = (0.1, 60.0)  # what clips may be padded or cropped to
COLUMNS = ["file", "label", "speaker", "sex", "text"]
WHY_NOT, WORDS = records.MESSAGES["own"], records.MESSAGES["words"]


def register(
    name: str,
    source: Path | str,
    datasets: Path | str | None = None,
    clip_seconds: float | None = None,
    speaker_pattern: str = "",
    synthetic: bool = False,
) -> Corpus:
    """Make labelled audio known as a corpus, or say what is wrong with it (ValueError).

    `source` is a CSV file with the columns file, label, speaker (or empty) and, if you
    like, sex (female, male) and text; or a folder `<label>/**/*.wav`, in whose paths
    the group `speaker` of the regular expression `speaker_pattern` finds who speaks.
    Clips are padded or cropped to `clip_seconds`; None takes in 95 % of them. Scores of
    `synthetic` speech are marked so.
    """
    from natsort import natsorted

    source, datasets = located(source), located(datasets or DATASETS)
    # Names become folder names and parts of run ids, which hyphens divide.
    named = re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,31}", name)
    free = named and name.lower() not in map(str.lower, records.BUILT_IN)
    _refuse("name", [] if free else [name])
    rows = _read(source, speaker_pattern)
    _refuse("source", [source] if rows.empty else [])
    labels = natsorted(set(rows["label"]))
    _refuse("one_label", labels if len(labels) == 1 else [])
    parts = "|".join(WORDS["no_emotion"])
    people = labels if (rows["label"] == rows["speaker"]).all() else []
    emotions = set(WORDS["emotions"].split())
    inner = {folded(part) for file in rows["file"] for part in file.split("/")[1:-1]}
    if source.is_dir() and len(inner & emotions) > 1:
        people = [] if emotions.intersection(map(folded, labels)) else labels
    odd = [label for label in labels if re.fullmatch(parts, folded(label))]
    _refuse("no_emotions", people or odd)
    seen = inspect_files(rows["path"])
    reasons = rows["file"] + " (" + seen["reason"] + ")"
    _refuse("unreadable", reasons[seen["fault"] != ""])
    usual = round(float(np.clip(seen["seconds"].quantile(0.95), *SECONDS)), 3)
    length = usual if clip_seconds is None else float(clip_seconds)
    _refuse("clip_seconds", [] if SECONDS[0] <= length <= SECONDS[1] else [length])
    samples = round(length * 22_050)
    rates = seen["sample_rate"].unique()
    sexes = dict(zip(rows["speaker"], rows["sex"], strict=True))
    record = {
        "title": f"{name} (registered)",
        "labels": labels,
        "counts": rows["label"].value_counts()[labels].to_dict(),
        "sexes": {name: sexes[name] for name in natsorted(filter(None, sexes))},
        "sample_rate": int(rates[0]) if len(rates) == 1 else 0,
        "clip_samples": samples,
        # Eight blocks of the official TIM-Net look back 511 frames of 512 samples;
        # longer clips need the ten that it uses for IEMOCAP.
        "dilations": 8 if samples <= 511 * 512 else 10,
        "seconds": [float(seen["seconds"].min()), float(seen["seconds"].max())],
        "naming": {"source": str(source), "speaker_pattern": speaker_pattern},
        "how_to_get": f"If {source} moved, register the corpus again.",
        "own": True,
        "synthetic": synthetic,
    }
    write_json(datasets / name / records.RECORD, record)
    told = ", ".join(f"{label} {count}" for label, count in record["counts"].items())
    told = f"{len(rows)} clips ({told}); speakers {[*record['sexes']] or 'unknown'}"
    print(f"{name}: {told}; registered in {datasets / name}.")
    return records.get(name, datasets)


def join(
    name: str,
    corpora: Sequence[str],
    datasets: Path | str | None = None,
    labels: Sequence[str] = (),
) -> Corpus:
    """Register the clips of corpora as one, of all labels they share or only some.

    Writes `<datasets>/<name>.csv`, with speakers such as "EMOVO f1", and `<name>_folds
    .csv`, a `fold_file` in which each corpus tests once, on what the others teach.
    """
    _refuse("too_few", [] if corpora else ["none"])
    datasets, tables = located(datasets or DATASETS), []
    joined = [records.get(one, datasets) for one in corpora]
    for one in joined:
        clips, _ = records.find(one, datasets / one.name)
        _refuse("absent", [] if clips else [datasets / one.name])
        rows = [[getattr(clip, column) for column in COLUMNS] for clip in clips]
        table = pd.DataFrame(rows, columns=COLUMNS)
        for column in ("speaker", "text"):
            table[column] = [part and f"{one.name} {part}" for part in table[column]]
        table["file"] = [os.path.relpath(clip.path, datasets) for clip in clips]
        tables.append(table.assign(fold=one.name))
    shared = set.intersection(*(set(table["label"]) for table in tables))
    _refuse("not_shared", sorted(set(labels) - shared))
    rows = pd.concat(tables)
    rows = rows[rows["label"].isin(labels or shared)]
    folds = rows.loc[rows["speaker"] != "", ["speaker", "fold"]].drop_duplicates()
    write_text(datasets / f"{name}.csv", rows[COLUMNS].to_csv(index=False))
    write_text(datasets / f"{name}_folds.csv", folds.to_csv(index=False))
    synthetic = any(one.synthetic for one in joined)
    return register(name, datasets / f"{name}.csv", datasets, synthetic=synthetic)


def _find(corpus: Corpus, folder: Path) -> Iterator[Clip]:
    """Read a registered source again; folder and source are one if it is absolute."""
    source = folder / corpus.naming["source"]
    rows = _read(source, corpus.naming["speaker_pattern"])
    _refuse("new_label", sorted(set(rows["label"]) - set(corpus.labels)))
    yield from (Clip(**row) for row in rows.to_dict("records"))


records.FINDERS["own"] = _find


def tidy(text: str) -> str:
    """Return text composed (NFC), without invisible characters and spare spaces."""
    seen = (c for c in text if c.isspace() or category(c) not in ("Cc", "Cf"))
    return normalize("NFC", " ".join("".join(seen).split()))


def folded(name: str) -> str:
    """Return what all spellings of a name have in common: "01" and "1", both "1"."""
    plain = normalize("NFKC", name).casefold()
    plain = re.sub(r"(?<=[^\W_])[\s_-]+(?=[^\W_])", " ", plain)
    plain = re.sub(r"(?<=[^\W\d]) (?=\d)|[.,;:!?'\"‘’“”]+(?!\d)", "", plain)
    return re.sub(r"(?<![\d.])0+(?=\d)|(?<=\d)\.0+$", "", plain) or name


def _refuse(fault: str, names: Sequence[object]) -> None:
    """Raise what `messages.yaml` says of a fault if there is anything that has it."""
    if len(names):
        raise ValueError(WHY_NOT[fault].format(names=first_few(names)))


def _read(source: Path, pattern: str) -> pd.DataFrame:
    """Return the clips of a folder or a table."""
    if source.is_file():
        _refuse("no_folder", [pattern] if pattern else [])
        rows = _read_table(source)
    else:
        rows = _read_folder(source, pattern)
    for kind in ("label", "speaker", "text"):
        usual = rows.groupby(rows[kind].map(folded))[kind].transform("min")
        odd = (usual != rows[kind]) & (kind != "text")
        told = f"{kind} " + usual[odd].map(repr) + " and " + rows[kind][odd].map(repr)
        _refuse("spelling", told.unique())
        rows[kind] = usual
    _refuse("absent", [path for path in rows["path"] if not path.is_file()])
    rows["key"] = [os.path.splitext(file)[0] for file in rows["file"]]
    _refuse("twice", rows["file"][rows["key"].duplicated(keep=False)].unique())
    return rows.reset_index(drop=True)


def _read_folder(folder: Path, pattern: str) -> pd.DataFrame:
    """Take the first folder of every path as the label."""
    files = list(records.files_below(folder))
    _refuse("bare", [file for file in files if len(file.parts) == 1])
    rows = {
        "path": [folder / file for file in files],
        "file": [normalize("NFC", str(file)) for file in files],
        "label": [tidy(file.parts[0]) for file in files],
    }
    rows = pd.DataFrame(rows, dtype=object).assign(speaker="", sex="", text="")
    if pattern and files:
        try:
            found = rows["file"].str.extract(normalize("NFC", pattern))["speaker"]
        except (re.error, ValueError, KeyError) as error:
            _refuse("pattern", [f"{pattern!r} ({error})"])
        rows["speaker"] = found.fillna("").map(tidy)
        _refuse("silent", rows["file"][rows["speaker"] == ""])
    return rows


def _read_table(table: Path) -> pd.DataFrame:
    """Take label and speaker from the columns of a CSV file, rows by "row 2" …."""
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            # Spreadsheets of half the world write semicolons.
            mark = max(",;\t", key=file.readline().count)
            file.seek(0)
            # pandas would pass over rows after an open quote without a word.
            form = {"delimiter": mark, "skipinitialspace": True, "strict": True}
            lines = list(csv.reader(file, **form))
    except (UnicodeDecodeError, csv.Error) as error:
        _refuse("unread", [error])
    lines = {f"row {n}": row for n, row in enumerate(lines, 1) if any(map(tidy, row))}
    heading = [tidy(name).lower() for name in next(iter(lines.values()), [])]
    lengths = {row: len(line) for row, line in lines.items()}
    odd = [f"{row} has {n}" for row, n in lengths.items() if n != len(heading)]
    _refuse("fields", odd)
    heading = [WORDS["columns"].get(name, name) for name in heading]
    times = [heading.count(name) for name in COLUMNS]
    right = min(times[:3]) == max(times) == 1
    _refuse("columns", [] if right else heading or ["none"])
    rows = pd.DataFrame(list(lines.values()), list(lines), heading, dtype=str)[1:]
    rows = rows[[name for name in COLUMNS if name in heading]]
    rows = rows.reindex(columns=COLUMNS, fill_value="")
    files = [PurePosixPath(file.strip().replace("\\", "/")) for file in rows["file"]]
    rows = rows.map(tidy).assign(path=[table.parent / file for file in files])
    rows["file"] = [str(file) if file.name else "" for file in files]
    rows["sex"] = rows["sex"].str.lower()
    _refuse("empty", rows.index[(rows[["file", "label"]] == "").any(axis=1)])
    known = rows[rows["speaker"] != ""]
    _refuse("some", rows.index[rows["speaker"] == ""] if len(known) else [])
    _refuse("sex", rows.index[~rows["sex"].isin(["", "female", "male"])])
    sexes = known.groupby("speaker")["sex"].nunique()
    _refuse("two_sexes", sexes.index[sexes > 1])
    return rows
