"""What the workbook knows of each corpus, and which files in a folder are its clips."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import soundfile
import yaml
from natsort import natsort_keygen, ns

from lib.files import DATASETS, located

HERE = Path(__file__).parent
MESSAGES = yaml.safe_load((HERE / "messages.yaml").read_text(encoding="utf-8"))
# The built-in corpora are released in WAV; FLAC holds the same samples.
RELEASED_SUFFIXES = (".wav", ".flac")
AUDIO_SUFFIXES = {f".{name.lower()}" for name in soundfile.available_formats()}
AUDIO_SUFFIXES |= set(MESSAGES["words"]["audio_suffixes"].split())
AUDIO_SUFFIXES -= {".raw", ".sd2"}  # they do not say how they are to be read
RECORD = "corpus.json"
# What `naming` cannot describe, by corpus; layouts.py and own.py add theirs.
NAMES: dict[str, Callable[[Corpus, PurePosixPath], str]] = {}
FINDERS: dict[str, Callable[[Corpus, Path], Iterator[Clip | Problem]]] = {}


@dataclasses.dataclass(frozen=True)
class Clip:
    """One audio file and what its name, or an annotation, says about it."""

    path: Path
    file: str  # relative to the corpus folder, with forward slashes
    label: str
    speaker: str  # "" where unknown
    sex: str = ""  # "female", "male" or "" where unknown
    text: str = ""  # which sentence is spoken, "" where unknown
    key: str = ""  # official name without suffix, unique


@dataclasses.dataclass(frozen=True)
class Problem:
    """One finding: what is wrong with which file, and what to do about it."""

    severity: str  # "error" (results would be wrong), "warning" or "note"
    kind: str  # missing, extra, mislabelled, duplicate, rate, truncated, silent, …
    file: str  # relative to the corpus folder, or ""
    message: str
    fix: str
    files: tuple[str, ...] = ()  # all of them where there are several


@dataclasses.dataclass(frozen=True)
class Corpus:
    """One corpus; `corpora.yaml` explains the fields."""

    name: str
    title: str
    labels: tuple[str, ...]
    clip_samples: int
    dilations: int
    how_to_get: str
    naming: Mapping[str, Any]
    seconds: tuple[float, float]
    terms: str = "Your own data."
    citation: str = ""
    language: str = ""
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    sexes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    sample_rate: int = 0  # 0 where it varies, as with the channels
    channels: int = 0
    download: str = ""
    checksums: str = ""
    official_name: str = ""
    ignore_case: bool = False
    synthetic: bool = False
    own: bool = False  # registered by the user

    @property
    def speakers(self) -> tuple[str, ...]:
        """Known speakers in display order."""
        return tuple(self.sexes)

    def parse(
        self, file: PurePosixPath, folder: Path = Path()
    ) -> Clip | Problem | None:
        """Read a file's name; None is one of the release, but not of the task."""
        naming = self.naming
        reason = {"corpus": self.name, "reason": naming["expected"]}
        stem = NAMES[self.name](self, file) if self.name in NAMES else file.stem
        match = re.fullmatch(naming["pattern"], stem, re.VERBOSE)
        found = match.groupdict("") if match else {}
        code, text = found.get("label", ""), found.get("text", "")
        label = naming.get("codes", {}).get(code, code)
        if label not in (*self.labels, None):
            return problem("name", str(file), **reason)
        if label is None or re.search(naming.get("left_out", "(?!)"), str(file)):
            return None
        in_folder = naming.get("speaker_folder", "(?!)")
        matches = [re.fullmatch(in_folder, part, re.I) for part in file.parts[:-1]]
        told = [match[1] for match in matches if match][-1:]
        told += filter(None, [found.get("speaker")])
        # As `sexes` writes them: capitals, leading zeros.
        usual = {speaker.lower(): speaker for speaker in self.sexes}
        digits = naming.get("digits", 0)
        told = [usual.get(name.lower(), name.zfill(digits)) for name in told]
        if not told:
            return problem("name", str(file), **reason)
        if told[0] != told[-1] and not naming.get("folder_decides"):
            return problem("speaker", str(file), told=told[0], named=told[1])
        speaker = told[0]
        rules = naming.get("sex_rules", {}).items()
        ruled = [sex for sex, rule in rules if re.fullmatch(rule, speaker)]
        sex = self.sexes.get(speaker, "".join(ruled))
        names = {"code": code, "label": label, "speaker": speaker}
        key = naming.get("key", "{stem}").format(**names, text=text, stem=file.stem)
        return Clip(folder / file, str(file), label, speaker, sex, text, key)


_RECORDS = yaml.safe_load((HERE / "corpora.yaml").read_text(encoding="utf-8"))
BUILT_IN = {
    name: Corpus(name=name, **record | {"labels": tuple(record["labels"])})
    for name, record in _RECORDS.items()
}


def names(datasets: Path | str | None = None) -> tuple[str, ...]:
    """Return the names of all corpora, with those registered in a datasets folder."""
    records = Path(datasets).glob(f"*/{RECORD}") if datasets else ()
    return tuple(BUILT_IN) + tuple(sorted(path.parent.name for path in records))


def get(name: str, datasets: Path | str | None = None) -> Corpus:
    """Return a built-in corpus, or one registered in `datasets` (the workbook's)."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    datasets = located(datasets or DATASETS)
    known = names(datasets)
    if name not in known:
        spelt = {known_name.upper(): known_name for known_name in known}
        near = difflib.get_close_matches(str(name).strip().upper(), spelt, n=2)
        hint = f" Did you mean {' or '.join(spelt[n] for n in near)}?" if near else ""
        raise ValueError(
            f"Unknown corpus {name!r}.{hint} Known: {', '.join(known)}. Recordings of "
            f'your own are registered once: corpora.register("{name}", source, '
            f'r"{datasets}").'
        )
    path = datasets / name / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        samples = round(record["clip_seconds"] * 22_050)
        return Corpus(
            **{key: record[key] for key in ("counts", "sexes", "sample_rate")},
            name=name,
            title=f"{name} (registered)",
            labels=tuple(record["labels"]),
            clip_samples=samples,
            # Eight blocks of the official TIM-Net look back 511 frames of 512 samples;
            # longer clips need the ten that it uses for IEMOCAP.
            dilations=8 if samples <= 511 * 512 else 10,
            seconds=tuple(record["seconds"]),
            how_to_get=f"It was registered from {record['source']}; register it again "
            "if it moved.",
            naming={key: record[key] for key in ("source", "speaker_pattern")},
            own=True,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); register the corpus again."
        ) from error


def find(corpus: Corpus, folder: Path | str) -> tuple[list[Clip], list[Problem]]:
    """Return the clips of a folder, one per key in row order, and all that is odd."""
    folder = Path(folder)
    if not folder.is_dir():
        return [], [problem("no folder", str(folder))]
    finder = FINDERS.get("own" if corpus.own else corpus.name, _walk)
    found = list(finder(corpus, folder))
    problems = [item for item in found if isinstance(item, Problem)]
    clips = [item for item in found if isinstance(item, Clip)]
    kept: dict[str, Clip] = {}
    # The shortest path of each key stays.
    for clip in sorted(clips, key=lambda c: (c.file.count("/"), len(c.file), c.file)):
        first = kept.setdefault(clip.key, clip)
        if first is not clip:
            pair = (clip.file, first.file)
            problems.append(problem("twice", clip.file, files=pair))
    return official_order(corpus, kept.values()), problems


def scan(corpus: Corpus, folder: Path | str) -> list[Clip]:
    """Return the clips as `find` does; FileNotFoundError where there is none."""
    clips, problems = find(corpus, folder)
    if not clips:
        raise missing(corpus, folder, problems)
    return clips


def missing(
    corpus: Corpus, folder: Path | str, problems: Sequence[Problem]
) -> FileNotFoundError:
    """Return the error that says what is expected in a folder, and how to get it."""
    advice = f"{corpus.title} belongs in {folder}, but no clip of it was found"
    advice += f" ({problems[0].message})" if problems else ""
    return FileNotFoundError(f"{advice}. {corpus.how_to_get}")


def official_order(corpus: Corpus, clips: Iterable[Clip]) -> list[Clip]:
    """Sort clips by class in label order, then naturally by official key."""
    # The published arrays are sorted so, by the names of their feature files; folds
    # that are drawn over rows depend on it.
    natural = natsort_keygen(alg=ns.PATH | (ns.IGNORECASE if corpus.ignore_case else 0))
    by_name = sorted(clips, key=lambda clip: (natural(f"{clip.key}_raw.csv"), clip.key))
    return sorted(by_name, key=lambda clip: corpus.labels.index(clip.label))


def files_below(
    folder: Path, suffixes: Iterable[str] = AUDIO_SUFFIXES
) -> Iterator[PurePosixPath]:
    """Yield the visible files with some suffixes, as relative paths, sorted."""
    # Linked folders are followed, each real folder once.
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
        relative = PurePosixPath(Path(parent).relative_to(folder).as_posix())
        visible = [relative / name for name in sorted(files) if name[0] != "."]
        yield from (file for file in visible if file.suffix.lower() in suffixes)


def printable(name: object) -> str:
    """Return a name with escapes for the bytes that are not UTF-8 text."""
    return str(name).encode("utf-8", "backslashreplace").decode("utf-8")


def first_few(names: Iterable[object], limit: int = 10) -> str:
    """Return the first few names in one line, and how many more there are."""
    names = [str(name) for name in names]
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def problem(about: str, file: str, **facts: object) -> Problem:
    """Return the problem that `messages.yaml` describes."""
    severity, kind, *words = MESSAGES[about]
    message, fix = (text.format(file=file, **facts) for text in words)
    return Problem(severity, kind, file, message, fix, facts.get("files", ()))


def _walk(corpus: Corpus, folder: Path) -> Iterator[Clip | Problem]:
    """Read the name of every audio file."""
    outside = []
    for file in files_below(folder):
        name = printable(file)
        if file.suffix.lower() not in RELEASED_SUFFIXES:
            yield problem("format", name, suffix=file.suffix)
        elif name != str(file):
            yield problem("no text", name)
        elif (clip := corpus.parse(file, folder)) is None:
            outside.append(name)
        else:
            yield clip
            classes = {part.lower() for part in file.parts[:-1]} & set(corpus.labels)
            if classes and isinstance(clip, Clip) and clip.label not in classes:
                said = {"folders": " and ".join(sorted(classes)), "label": clip.label}
                yield problem("class folder", name, **said)
    if outside:
        yield problem("outside", outside[0], corpus=corpus.name, count=len(outside))
