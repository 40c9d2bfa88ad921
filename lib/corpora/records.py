"""What is known of each corpus, how to fetch it, which files in a folder are clips."""

import dataclasses
import json
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import yaml

from lib.config import did_you_mean
from lib.files import DATASETS, located, sha256_file

HERE = Path(__file__).parent
CHECKSUMS = HERE.parent / "data" / "checksums"
MESSAGES = yaml.safe_load((HERE / "messages.yaml").read_text(encoding="utf-8"))
# The built-in corpora are released in WAV; FLAC holds the same samples.
RELEASED_SUFFIXES = (".wav", ".flac")
AUDIO_SUFFIXES = MESSAGES["words"]["audio_suffixes"].split()
RECORD = "corpus.json"


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
    labels: list[str]
    clip_samples: int
    dilations: int
    how_to_get: str
    naming: dict
    seconds: tuple[float, float]
    terms: str = "Your own data."
    citation: str = ""
    language: str = ""
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    sexes: dict[str, str] = dataclasses.field(default_factory=dict)
    sample_rate: int = 0  # 0 where it varies, as with the channels
    channels: int = 0
    download: str = ""
    checksums: str = ""
    official_name: str = ""
    ignore_case: bool = False
    synthetic: bool = False
    own: bool = False  # registered by the user

    def parse(
        self, file: PurePosixPath, folder: Path = Path()
    ) -> Clip | Problem | None:
        """Read a file's name; None is one of the release, but not of the task."""
        naming = self.naming
        pattern, path = f"(.*/)? ({naming['pattern']})", str(file.with_suffix(""))
        match = re.fullmatch(pattern, path, re.VERBOSE)
        found = match.groupdict("") if match else {}
        code, text = found.get("label", ""), found.get("text", "")
        label = naming.get("codes", {}).get(code, code)
        # The speaker is told by the innermost folder that names one, and by the name.
        in_folder = naming.get("speaker_folder", "(?!)")
        matches = [re.fullmatch(in_folder, part, re.I) for part in file.parts[:-1]]
        told = [match[1] for match in matches if match][-1:]
        told += filter(None, [found.get("speaker")])
        if label not in (*self.labels, None) or not told:
            return problem("name", str(file), corpus=self)
        if label is None or re.search(naming.get("left_out", "(?!)"), str(file)):
            return None
        # As `sexes` writes them: capitals, leading zeros.
        usual = {speaker.lower(): speaker for speaker in self.sexes}
        digits = naming.get("digits", 0)
        told = [usual.get(name.lower(), name.zfill(digits)) for name in told]
        if told[0] != told[-1] and not naming.get("folder_decides"):
            return problem("speaker", str(file), told=told[0], named=told[1])
        speaker, rules = told[0], naming.get("sex_rules", {}).items()
        ruled = [sex for sex, rule in rules if re.fullmatch(rule, speaker)]
        sex = self.sexes.get(speaker, "".join(ruled))
        names = {"code": code, "label": label, "speaker": speaker}
        key = naming.get("key", "{stem}").format(**names, text=text, stem=file.stem)
        return Clip(folder / file, str(file), label, speaker, sex, text, key)


_RECORDS = yaml.safe_load((HERE / "corpora.yaml").read_text(encoding="utf-8"))
BUILT_IN = {name: Corpus(name, **record) for name, record in _RECORDS.items()}


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
        hint = did_you_mean(name, known, f"{datasets} has")
        fault = f"unknown corpus '{name}'{hint}"
        raise ValueError(f"{fault}; register your own with corpora.register")
    path = datasets / name / RECORD
    try:
        return Corpus(name, **json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}); register it again.") from error


def load_checksums(corpus: Corpus) -> dict[str, str]:
    """Return the SHA-256 of every original file by official key, {} if not known."""
    if not corpus.checksums:
        return {}
    text = (CHECKSUMS / f"{corpus.checksums}.sha256").read_text(encoding="utf-8")
    lines = [line.split("  ") for line in text.splitlines()]
    return {corpus.parse(PurePosixPath(file)).key: digest for digest, file in lines}


def download(corpus: Corpus, datasets: Path | str | None = None) -> Path:
    """Fetch a corpus into `<datasets>/<NAME>`, or find it there; return the folder."""
    import pooch

    target = located(datasets or DATASETS) / corpus.name
    if not corpus.download:
        raise ValueError(f"{corpus.title} cannot be fetched. {corpus.how_to_get}")
    if not target.is_dir() or not any(target.iterdir()):
        target.parent.mkdir(parents=True, exist_ok=True)
        # It would ask the user to copy a hash; that of an archive does not last.
        pooch.get_logger().setLevel("WARNING")
        with tempfile.TemporaryDirectory(prefix=".", dir=target.parent) as scratch:
            unzip = pooch.Unzip(extract_dir="unpacked")
            place = {"fname": "archive.zip", "path": scratch, "progressbar": True}
            try:
                pooch.retrieve(corpus.download, None, processor=unzip, **place)
            except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
                fault = f"{corpus.download} was not fetched ({error!r})"
                way = f"Run the same again, or: {corpus.how_to_get}"
                raise OSError(f"{fault}. {way}") from error
            (Path(scratch) / "unpacked").rename(target)
    found = {clip.key: sha256_file(clip.path) for clip in find(corpus, target)[0]}
    odd = sorted({key for key, _ in found.items() ^ load_checksums(corpus).items()})
    if odd:
        fault = f"{len(odd)} files are missing or altered ({first_few(odd, 4)})"
        way = "Move it away to fetch the original."
        raise ValueError(f"{target} is no original copy, {fault}. {way}")
    return target


def find(corpus: Corpus, folder: Path | str) -> tuple[list[Clip], list[Problem]]:
    """Return the clips of a folder, one per key in row order, and all that is odd."""
    folder = Path(folder)
    finder = FINDERS.get("own" if corpus.own else corpus.name, _walk)
    found = list(finder(corpus, folder))
    problems = [item for item in found if isinstance(item, Problem)]
    clips = [item for item in found if isinstance(item, Clip)]
    kept: dict[str, Clip] = {}
    # The shortest path of each key stays.
    for clip in sorted(clips, key=lambda c: (c.file.count("/"), len(c.file), c.file)):
        first = kept.setdefault(clip.key, clip)
        if first is not clip:
            problems.append(problem("twice", clip.file, used=first.file))
    return official_order(corpus, kept.values()), problems


def scan(corpus: Corpus, folder: Path | str) -> list[Clip]:
    """Return the clips as `find` does; FileNotFoundError where there is none."""
    clips, problems = find(corpus, folder)
    if clips:
        return clips
    reason = f" ({problems[0].message})" if problems else ""
    fault = f"{corpus.title} belongs in {folder}, but no clip of it was found{reason}."
    raise FileNotFoundError(f"{fault} {corpus.how_to_get}")


def official_order(corpus: Corpus, clips: Iterable[Clip]) -> list[Clip]:
    """Sort clips by class in label order, then naturally by official key."""
    from natsort import natsort_keygen, ns

    # So are the published arrays, by the names of their feature files, and the folds.
    natural = natsort_keygen(alg=ns.PATH | (ns.IGNORECASE if corpus.ignore_case else 0))
    by_name = sorted(clips, key=lambda clip: (natural(f"{clip.key}_raw.csv"), clip.key))
    return sorted(by_name, key=lambda clip: corpus.labels.index(clip.label))


def files_below(folder: Path, suffixes=AUDIO_SUFFIXES) -> Iterator[PurePosixPath]:
    """Yield the visible files with some suffixes as relative paths, sorted."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
        relative = PurePosixPath(Path(parent).relative_to(folder).as_posix())
        for file in (relative / name for name in sorted(files) if name[0] != "."):
            if file.suffix.lower() not in suffixes:
                continue
            shown = str(file).encode("utf-8", "backslashreplace").decode("utf-8")
            if shown != str(file):
                advice = "rename it, or unpack the archive with the right encoding"
                raise ValueError(f"The name {shown} is not UTF-8 text: {advice}.")
            yield file


def first_few(names: Iterable[object], limit: int = 10) -> str:
    """Return the first few names in one line, and how many more there are."""
    names = [str(name) for name in names]
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def problem(about: str, file: str, **facts: object) -> Problem:
    """Return the problem that `messages.yaml` describes."""
    severity, kind, *words = MESSAGES[about]
    message, fix = (text.format(file=file, **facts) for text in words)
    return Problem(severity, kind, file, message, fix)


def _walk(corpus: Corpus, folder: Path) -> Iterator[Clip | Problem]:
    """Read the name of every audio file."""
    outside = []
    for file in files_below(folder):
        if file.suffix.lower() not in RELEASED_SUFFIXES:
            yield problem("format", str(file), suffix=file.suffix)
        elif (clip := corpus.parse(file, folder)) is None:
            outside.append(str(file))
        else:
            yield clip
            classes = {part.lower() for part in file.parts[:-1]} & set(corpus.labels)
            if classes and isinstance(clip, Clip) and clip.label not in classes:
                said = {"folders": " and ".join(sorted(classes)), "label": clip.label}
                yield problem("class folder", str(file), **said)
    if outside:
        yield problem("outside", outside[0], corpus=corpus.name, count=len(outside))


def _find_iemocap(corpus: Corpus, folder: Path) -> Iterator[Clip | Problem]:
    """Match the annotated turns of all sessions with their sentence files."""
    audio, turns = {}, {}
    for file in files_below(folder, {".txt", *RELEASED_SUFFIXES}):
        if file.parent.name == "EmoEvaluation":
            text = (folder / file).read_text(encoding="utf-8", errors="replace")
            for turn, code in re.findall(corpus.naming["turn"], text):
                turns.setdefault(turn, (code, file))
        elif "sentences" in file.parts and file.suffix != ".txt":
            audio.setdefault(file.stem, file)
    for turn, (code, where) in turns.items():
        name = re.fullmatch(corpus.naming["pattern"], turn, re.VERBOSE)
        label = corpus.naming["codes"].get(code, "") if name else ""
        if label == "":
            yield problem("turn", str(where), turn=turn, code=code)
        elif label and turn in audio:
            speaker = name["session"] + name["letter"]
            told = (label, speaker, corpus.sexes[speaker], name["text"], turn)
            yield Clip(folder / audio[turn], str(audio[turn]), *told)
        elif label:
            yield problem("no audio", str(where), turn=turn)
    for turn in sorted(audio.keys() - turns.keys()):
        yield problem("no label", str(audio[turn]))


# Who finds the clips of a corpus whose file names do not tell all; own.py adds itself.
FINDERS = {"IEMOCAP": _find_iemocap}
