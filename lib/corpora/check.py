"""The doctor: is a copy of a corpus whole, right and original; if not, what to do."""

import contextlib
import dataclasses
import hashlib
import io
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import joblib
import numpy as np
import pandas as pd
import yaml
from tqdm.auto import tqdm

from lib.corpora import records
from lib.corpora.records import Clip, Corpus, Problem, first_few, load_checksums
from lib.files import write_json

RULES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))


def inspect(path: Path, known: Mapping[str, dict]) -> dict[str, object]:
    """Return what a file holds, as `nothing` in `check.yaml`; no file is too broken."""
    import soundfile

    content = path.read_bytes()
    row = RULES["nothing"] | {"sha256": hashlib.sha256(content).hexdigest()}
    if row["sha256"] in known:
        return known[row["sha256"]]
    row["flac"] = content[:4] == b"fLaC"
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
    cut = re.search(r"(?:data|SSND|Data Size) +: (\d+) \(should be \d+\)", log)
    # Programs that write to a pipe cannot know the size and declare the largest one.
    if cut and int(cut[1]) < 0x7FFF_F000 or len(samples) < sound.frames:
        return row | {"fault": "truncated", "reason": "declares more than it holds"}
    if not len(samples):
        return row | {"fault": "empty", "reason": "holds no samples"}
    if not np.isfinite(samples).all():
        return row | {"fault": "unreadable", "reason": "holds NaN or infinite numbers"}
    peak = float(np.abs(samples).max())
    equal = bool((samples[:, 1:] == samples[:, :1]).all())
    distinct = samples[:, :1] if equal else samples
    at_full_scale = int((np.abs(distinct) >= 1 - 2**-15).sum())
    # Adding zero turns the two zeros of floating-point files into one.
    digest = hashlib.sha256((distinct + np.float32(0)).tobytes())
    digest.update(f"{distinct.shape} {sound.samplerate}".encode())
    return row | {
        "peak": peak,
        # Floating-point samples beyond 1 were not cut off there.
        "clipped": at_full_scale if peak <= 1 else 0,
        "equal_channels": equal,
        "mix_peak": float(np.abs(samples.mean(axis=1)).max()),
        "content": digest.hexdigest(),
    }


def read_blocks(sound) -> np.ndarray:
    """Return all samples of an open SoundFile, float32, (samples, channels)."""
    blocks = [np.zeros((0, sound.channels), np.float32)]
    # A damaged header may declare years, and GSM is read only in numbers of frames.
    while len(block := sound.read(1 << 20, dtype="float32", always_2d=True)):
        blocks.append(block)
    return np.concatenate(blocks)


def inspect_files(
    paths: Sequence[Path], cache: Path | str = "", progress: bool = False
) -> pd.DataFrame:
    """Inspect files in threads, those only that `cache` does not know; a row each."""
    import soundfile

    known: dict[str, dict] = {}
    # A cache that is damaged, or of other code (the number) or decoder, is made again.
    version = f"5, libsndfile {soundfile.__libsndfile_version__}"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        stored = json.loads(Path(cache).read_text("utf-8"))
        known = stored["files"] if stored["version"] == version else {}
    # Decoding and hashing release the interpreter's lock.
    workers = joblib.Parallel(n_jobs=-1, prefer="threads", return_as="generator")
    found = workers(joblib.delayed(inspect)(path, known) for path in paths)
    rows = list(tqdm(found, "doctor", len(paths), unit="clip", disable=not progress))
    # Faulty files are read each time: another decoder may know better.
    new = {row["sha256"]: row for row in rows if not row["fault"]}
    if cache and not new.keys() <= known.keys():
        write_json(Path(cache), {"version": version, "files": known | new})
    table = pd.DataFrame(rows, columns=list(RULES["nothing"]))
    return table.assign(seconds=table["frames"] / table["sample_rate"])


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
        files = tuple(row.get("file", "") for row in rows)
        yield Problem(rule["severity"], rule["kind"], files[0], message, fix, files)


def expected_utterances(corpus: Corpus) -> dict[str, Clip]:
    """Return every clip of the release by official key, none where it is not known."""
    naming = corpus.naming
    codes, texts = naming.get("codes", corpus.labels), naming.get("sentences", ())
    keys = load_checksums(corpus) or [
        naming["release"].format(code=code, speaker=speaker, text=text)
        for code, speaker, text in itertools.product(codes, corpus.sexes, texts)
    ]
    return {key: corpus.parse(PurePosixPath(key)) for key in keys}


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """What `check` found in one copy of a corpus."""

    corpus: Corpus
    folder: Path
    utterances: list[Clip]  # everything found, in the official row order
    usable: list[Clip]  # those whose audio could be read to its end
    problems: tuple[Problem, ...]  # errors first
    counts: pd.DataFrame  # by label: found, expected (missing where not known)
    # A row per utterance: its tags, what `inspect` says, the columns of `check.yaml`.
    clips: pd.DataFrame

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Findings that make results wrong."""
        return tuple(item for item in self.problems if item.severity == "error")

    def to_frame(self) -> pd.DataFrame:
        """Return one row per problem; `files` is their number."""
        columns = ["severity", "kind", "files", "message", "fix"]
        table = pd.DataFrame(map(vars, self.problems), columns=columns)
        return table.assign(files=[sum(map(bool, files)) for files in table["files"]])

    def summary(self) -> str:
        """Return the outcome in a sentence."""
        expected = self.counts["expected"].sum() or "an unknown number"
        verified = f"{self.clips['released'].sum()} verified originals"
        found = f"{len(self.utterances)} clips ({expected} expected)"
        faults = f"{len(self.problems)} problems, {len(self.errors)} of them errors"
        found += f", {len(self.usable)} usable, {verified}; {faults}"
        return f"{self.corpus.name} in {self.folder}: {found}."

    def require_ok(self, ignore: bool = False) -> None:
        """Raise ValueError for errors; where `ignore`, only if nothing is usable."""
        if self.usable and (ignore or not self.errors):
            return
        rest = f"set ignore_problems = True to use the {len(self.usable)} good clips."
        rest = f"Repair that, or {rest}" if self.usable else "Nothing can be used."
        faults = [f"- {error.message} {error.fix}" for error in self.errors]
        where = f"{self.corpus.name} in {self.folder} would give wrong results:"
        raise ValueError("\n".join([where, *faults, rest]))


def check(
    corpus: Corpus, folder: Path | str, cache: Path | str = "", progress: bool = False
) -> Report:
    """Examine a copy by the rules of `check.yaml`: names, counts, audio, hashes.

    Nothing in the folder is changed; the JSON file `cache` keeps what files hold.
    """
    folder = Path(folder)
    utterances, odd = records.find(corpus, folder)
    if not utterances:
        records.scan(corpus, folder)  # says why
    rows = inspect_files([clip.path for clip in utterances], cache, progress)
    hashes = load_checksums(corpus)
    keys = {digest: key for key, digest in hashes.items()}
    clips = pd.DataFrame(utterances).drop(columns="path").join(rows)
    clips["expected"] = [hashes.get(key, "") for key in clips["key"]]
    clips["original_of"] = [keys.get(sha256, "") for sha256 in clips["sha256"]]
    remedies = RULES["remedies"].items()
    remedy = next(text for field, text in remedies if getattr(corpus, field))
    words = {"corpus": corpus, "remedy": remedy.format(corpus=corpus, folder=folder)}
    with np.errstate(divide="ignore"):  # silence is minus infinity dB
        for column, rule in RULES["columns"].items():
            clips[column] = clips.eval(rule, engine="python", local_dict=words)
    release = expected_utterances(corpus)
    clips["surplus"] = bool(release) & ~clips["key"].isin(release)
    usable = clips[clips["usable"]]
    absent = pd.Index(release, name="file").difference(clips["key"], sort=False)
    counts = {"found": clips["label"].value_counts(), "expected": corpus.counts}
    counts = pd.DataFrame(counts, pd.Index(corpus.labels, name="label"))
    counts = counts.astype("Int64").fillna({"found": 0})
    problems = []
    for fix in dict.fromkeys(item.fix for item in odd):
        alike = [item for item in odd if item.fix == fix]
        files = tuple(item.file for item in alike)
        message = alike[0].message
        message += f" And likewise {first_few(files[1:], 4)}." if files[1:] else ""
        problems.append(dataclasses.replace(alike[0], message=message, files=files))
    for name, table in {
        "clips": clips,
        "own" if corpus.own else "release": usable,
        "names": absent.to_frame(index=False),
        "counts": counts.reset_index()[: 0 if release else None],
    }.items():
        problems += _problems(name, table, expected=len(release), **words)
    usable = [utterances[row] for row in usable.index]
    problems.sort(key=lambda item: ("error", "warning", "note").index(item.severity))
    return Report(corpus, folder, utterances, usable, tuple(problems), counts, clips)
