"""The doctor: is a copy of a corpus whole, right and original; if not, what to do.

`inspect` reads one file. `check` sets what it says of all files beside what is known
of the corpus, in tables, and applies the rules of `check.yaml` to them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import joblib
import numpy as np
import pandas as pd
import soundfile
import yaml
from scipy.ndimage import binary_opening
from scipy.stats import chi2_contingency
from scipy.stats.contingency import association
from tqdm.auto import tqdm

from lib.corpora import records
from lib.corpora.download import load_checksums
from lib.corpora.records import Clip, Corpus, Problem, find, first_few
from lib.files import write_json

# What is stored of a file holds for this code and this decoder.
VERSION = f"3, libsndfile {soundfile.__libsndfile_version__}"
RULES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))
SEVERITIES = ("error", "warning", "note")
# Bits of a sample; 16 are taken where an encoding does not tell.
BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_24": 24, "PCM_32": 32}


def inspect(path: Path, known: Mapping[str, dict]) -> dict[str, object]:
    """Return what a file holds, as `nothing` in `check.yaml`; no file is too broken."""
    row = dict(RULES["nothing"])
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        reason = f"cannot be opened ({error.strerror or error})"
        return row | {"fault": "unreadable", "reason": reason}
    row |= {"sha256": hashlib.sha256(content).hexdigest()}
    if row["sha256"] in known:
        return known[row["sha256"]]
    row |= {"flac": content[:4] == b"fLaC"}
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as sound:
            samples = read_blocks(sound)
            log = sound.extra_info
    except (soundfile.LibsndfileError, MemoryError, ValueError):
        head = content[:200].decode("latin-1").lstrip().lower()
        kinds = RULES["beginnings"]
        return row | next(kind for kind in kinds if re.match(kind["begins"], head))
    row |= {"encoding": sound.subtype, "sample_rate": sound.samplerate}
    row |= {"channels": sound.channels, "frames": len(samples)}
    fault, reason = "truncated", ""
    cut = re.search(r"(?:data|SSND|Data Size) +: (\d+) \(should be (\d+)\)", log)
    # Programs that write to a pipe cannot know the size and declare the largest one.
    if cut and int(cut[1]) < 0x7FFF_F000:
        reason = f"declares {cut[1]} bytes of audio but holds {cut[2]}"
    elif len(samples) < sound.frames:
        reason = f"declares {sound.frames} samples but decodes to {len(samples)}"
    elif not len(samples):
        fault, reason = "empty", "holds no samples"
    elif not np.isfinite(samples).all():
        fault, reason = "unreadable", "holds values that are not finite numbers"
    else:
        return row | _measured(samples, sound.subtype, sound.samplerate)
    return row | {"fault": fault, "reason": reason}


def read_blocks(sound: soundfile.SoundFile) -> np.ndarray:
    """Return all samples of an open file, float32, (samples, channels)."""
    blocks = [np.zeros((0, sound.channels), np.float32)]
    # A damaged header may declare years, and GSM is read only in numbers of frames.
    while len(block := sound.read(1 << 20, dtype="float32", always_2d=True)):
        blocks.append(block)
    return np.concatenate(blocks)


def _measured(samples: np.ndarray, encoding: str, rate: int) -> dict[str, object]:
    """Return peak, clipping, mix and content; samples (frames, channels)."""
    peak = float(np.abs(samples).max())
    equal = bool((samples[:, 1:] == samples[:, :1]).all())
    distinct = samples[:, :1] if equal else samples
    full_scale = 1 - 2.0 ** (1 - BITS.get(encoding, 16))
    # Floating-point samples beyond 1 were not cut off there.
    sides = (distinct, -distinct) if full_scale <= peak <= 1 else ()
    # Full-scale peaks touch one sample, at most two; a clipped one is flat.
    flat = [binary_opening(side >= full_scale, np.ones((3, 1))) for side in sides]
    mix = samples.mean(axis=1)
    loudest = np.linalg.norm(samples.astype(float), axis=0).max()
    # Adding zero turns the two zeros of floating-point files into one.
    digest = hashlib.sha256((distinct + np.float32(0)).tobytes())
    digest.update(f"{distinct.shape} {rate}".encode())
    return {
        "peak": peak,
        "clipped": int(np.sum(flat)),
        "equal_channels": equal,
        "mix_peak": float(np.abs(mix).max()),
        "mix_ratio": float(np.linalg.norm(mix) / loudest) if loudest else 1.0,
        "content": digest.hexdigest(),
    }


def inspect_files(
    paths: Sequence[Path], cache: Path | str | None = None, progress: bool = False
) -> pd.DataFrame:
    """Inspect files in threads, those only that `cache` does not know; a row each."""
    known: dict[str, dict] = {}
    # A cache that is damaged or of another version is made again.
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        stored = json.loads(Path(cache or "").read_text("utf-8"))
        known = stored["files"] if stored["version"] == VERSION else {}
    # Decoding and hashing release the interpreter's lock.
    workers = joblib.Parallel(n_jobs=-1, prefer="threads", return_as="generator")
    found = workers(joblib.delayed(inspect)(path, known) for path in paths)
    rows = list(tqdm(found, "doctor", len(paths), unit="clip", disable=not progress))
    # Faulty files are read each time: another decoder may know better.
    new = {row["sha256"]: row for row in rows if not row["fault"]}
    if cache and not new.keys() <= known.keys():
        write_json(Path(cache), {"version": VERSION, "files": known | new})
    table = pd.DataFrame(rows, columns=list(RULES["nothing"]))
    return table.assign(seconds=table["frames"] / table["sample_rate"])


def _clip_table(
    corpus: Corpus, clips: Sequence[Clip], rows: pd.DataFrame
) -> pd.DataFrame:
    """Return what clips are said to be, what they hold, and what follows from it."""
    hashes = load_checksums(corpus)
    keys = {digest: key for key, digest in hashes.items()}
    table = pd.DataFrame(clips).drop(columns="path").join(rows)
    table["expected"] = [hashes.get(key, "") for key in table["key"]]
    table["original_of"] = [keys.get(sha256, "") for sha256 in table["sha256"]]
    for column, rule in RULES["columns"].items():
        with np.errstate(divide="ignore"):  # silence is minus infinity dB
            values = table.eval(rule, engine="python", local_dict={"corpus": corpus})
        table[column] = values
    return table


def _problems(name: str, table: pd.DataFrame, **words: object) -> Iterator[Problem]:
    """Yield a problem for every rule of a table that has rows."""
    for rule in RULES[name] if len(table) else ():
        hit = table.eval(rule["rows"], engine="python").fillna(False).astype(bool)
        if not hit.any():
            continue
        rows = table[hit].to_dict("records")
        named = dict.fromkeys(rule.get("named", "{file}").format(**row) for row in rows)
        count = {"count": len(rows), "total": len(table), "listed": first_few(named, 4)}
        message = rule["message"].format(**words, **count)
        fix = rule.get("fix", "{remedy}").format(**words)
        files = tuple(row["file"] for row in rows if "file" in row)
        first = next(iter(files), "")
        yield Problem(rule["severity"], rule["kind"], first, message, fix, files)


def _one_per_fix(problems: Iterable[Problem]) -> Iterator[Problem]:
    """Yield one problem for all that share severity, kind and fix."""
    groups: dict[tuple[str, ...], list[Problem]] = {}
    for item in problems:
        groups.setdefault((item.severity, item.kind, item.fix), []).append(item)
    for first, *others in groups.values():
        names = first_few([item.file or item.message for item in others], 4)
        message = first.message + (f" And likewise {names}." if others else "")
        files = (first.file, *(item.file for item in others))
        yield dataclasses.replace(first, message=message, files=files)


def expected_utterances(corpus: Corpus) -> dict[str, Clip]:
    """Return every clip of the release by official key, none where it is not known."""
    naming = corpus.naming
    codes, texts = naming.get("codes", corpus.labels), naming.get("sentences", ())
    keys = load_checksums(corpus) or [
        naming["release"].format(code=code, speaker=speaker, text=text)
        for code, speaker, text in itertools.product(codes, corpus.sexes, texts)
    ]
    return {key: corpus.parse(PurePosixPath(key)) for key in keys}


def study_problems(clips: pd.DataFrame) -> Iterator[Problem]:
    """Yield what speaks against a study of a registered corpus, from usable clips."""
    known = clips[clips["speaker"] != ""]
    heard = pd.crosstab(known["label"], known["speaker"]) > 0
    found, voices = clips["label"].value_counts(sort=False), heard.sum(axis=1)
    design = pd.DataFrame({"found": found, "voices": voices}).assign(
        people=heard.shape[1],
        speakers=first_few(heard.columns),
        any_label_alone=(voices == 1).any(),
        every_label_alone=(voices == 1).all(),
        every_person_alone=(heard.sum(axis=0) == 1).all(),
    )
    yield from _problems("design", design.rename_axis("label").reset_index())
    rows = []
    for column in ("sample_rate", "channels", "encoding", "sex"):
        known = clips[clips[column] != ""]
        table = pd.crosstab(known["label"], known[column])
        if min(table.shape) > 1:
            most = table.idxmax(axis=1)
            usual = first_few(f"{label} {value}" for label, value in most.items())
            chance = chi2_contingency(table, correction=False).pvalue
            rows.append([column.replace("_", " "), usual, association(table), chance])
    columns = ["property", "usual", "association", "by_chance"]
    yield from _problems("recordings", pd.DataFrame(rows, columns=columns))


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """What `check` found in one copy of a corpus."""

    corpus: Corpus
    folder: Path
    utterances: list[Clip]  # everything found, in the official row order
    usable: list[Clip]  # those whose audio could be read to its end
    problems: tuple[Problem, ...]  # errors first
    counts: pd.DataFrame  # by label: found, expected (missing where not known)
    # A row per utterance: its tags, what `inspect` says, seconds, and the columns of
    # `check.yaml`, such as peak_dbfs, usable and original.
    clips: pd.DataFrame

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Findings that make results wrong."""
        return tuple(item for item in self.problems if item.severity == "error")

    def to_frame(self) -> pd.DataFrame:
        """Return one row per problem, errors first; `files` is their number."""
        columns = ["severity", "kind", "files", "message", "fix"]
        table = pd.DataFrame(map(vars, self.problems), columns=columns)
        return table.assign(files=[sum(map(bool, files)) for files in table["files"]])

    def summary(self) -> str:
        """Return the outcome in a few sentences."""
        found = Counter(problem.severity for problem in self.problems)
        told = [f"{n} {severity}{'s' * (n > 1)}" for severity, n in found.items()]
        total = self.counts["expected"]
        of = "" if self.corpus.own or total.isna().any() else f" of {total.sum()}"
        originals = self.clips["released"].sum()
        text = f"{self.corpus.name}: {len(self.utterances)}{of} utterances in "
        text += f"{self.folder}, {len(self.usable)} usable; "
        text += f"{', '.join(told) or 'nothing to complain about'}."
        more = f" {originals} are byte for byte the original files."
        return text + (more if originals else "")

    def require_ok(self, ignore: bool = False) -> None:
        """Raise ValueError for errors; where `ignore`, only if nothing is usable."""
        if self.usable and (ignore or not self.errors):
            return
        lines = [f"{self.corpus.name} in {self.folder} would give wrong results:"]
        lines += [f"- {error.message} {error.fix}" for error in self.errors]
        onward = (
            "Repair that, or set ignore_problems = True (01_preprocess and 02_train "
        )
        onward += f"take it) to go on with the {len(self.usable)} usable ones."
        lines += [onward if self.usable else "Nothing in it can be used."]
        raise ValueError("\n".join(lines))


def check(
    corpus: Corpus | str,
    folder: Path | str,
    *,
    cache: Path | str | None = None,
    progress: bool = False,
) -> Report:
    """Examine a copy of a corpus: names, counts, audio, duplicates, hashes.

    Args:
        corpus: The corpus, or its name, looked up beside the folder if registered.
        folder: Normally `<datasets>/<NAME>`; nothing in it is changed.
        cache: JSON file that keeps what files hold, by the hash of their bytes.
        progress: Whether to draw a progress bar.
    """
    folder = Path(folder)
    if isinstance(corpus, str):
        corpus = records.get(corpus, folder.parent)
    utterances, odd = find(corpus, folder)
    if not utterances:
        raise records.missing(corpus, folder, odd)
    # Of a file under the name of another one, `find` gives both.
    pairs = [item.files for item in odd if item.files]
    paths = [clip.path for clip in utterances] + [folder / copy for copy, _ in pairs]
    rows = inspect_files(paths, cache, progress)
    clips = _clip_table(corpus, utterances, rows[: len(utterances)])
    copies = pd.DataFrame(pairs, columns=["file", "used"])
    copies["content"] = rows["content"].to_numpy()[len(utterances) :]
    copies["of_used"] = copies["used"].map(clips.set_index("file")["content"])
    release = expected_utterances(corpus)
    clips["surplus"] = bool(release) & ~clips["key"].isin(release)
    usable = clips[clips["usable"]]
    # What was left out because its folder contradicts its name is not missing, too.
    moved = [item.file for item in odd if item.kind == "mislabelled"]
    there = {*clips["key"], *(PurePosixPath(file).stem for file in moved)}
    missing = pd.DataFrame({"file": [key for key in release if key not in there]})
    labels = pd.Index(corpus.labels, name="label")
    found = clips["label"].value_counts().reindex(labels, fill_value=0).astype("Int64")
    counts = found.to_frame("found")
    counts["expected"] = pd.Series(corpus.counts, labels, "Int64")
    remedies = RULES["remedies"].items()
    remedy = next(text for field, text in remedies if getattr(corpus, field))
    words = {"corpus": corpus, "remedy": remedy.format(corpus=corpus, folder=folder)}
    words["expected"] = len(release)
    problems = [*_one_per_fix(item for item in odd if not item.files)]
    for name, table in {
        "copies": copies,
        "clips": clips,
        "own" if corpus.own else "release": usable,
        "names": missing,
        "counts": counts.reset_index()[: 0 if release else None],
    }.items():
        problems += _problems(name, table, **words)
    if corpus.own:
        problems += study_problems(usable)
    return Report(
        corpus,
        folder,
        utterances,
        usable=[utterances[row] for row in usable.index],
        problems=tuple(sorted(problems, key=lambda p: SEVERITIES.index(p.severity))),
        counts=counts,
        clips=clips,
    )
