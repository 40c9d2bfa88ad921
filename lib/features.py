"""The features of a corpus: extracted once, kept in a file, checked when read."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from lib import config, corpora, files
from lib.audio import (  # noqa: F401 - what notebooks know as features.cepstrum, ...
    OFFICIAL,
    PRESETS,
    FrontEnd,
    cepstrum,
    clip_length,
    extract,
    features_of,
    front_end,
    load_audio,
    mel_filters,
    mel_spectrogram,
    num_frames,
    one_thread_a_product,
    pad_or_crop,
    preset_name,
)

ARRAYS = ("x", "y", "label_names", "file", "speaker", "sex", "text")


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """The features of a corpus, one row per utterance, in the official row order."""

    # float32, (utterances, frames, coefficients); of utterances in pieces
    # (utterances, pieces, frames, coefficients), NaN for a piece that is lacking.
    x: np.ndarray
    y: np.ndarray  # int64, (utterances,): indices of label_names
    label_names: np.ndarray
    file: np.ndarray  # paths relative to the corpus folder
    speaker: np.ndarray  # "" where unknown, like text
    sex: np.ndarray  # "female", "male" or ""
    text: np.ndarray
    about: Mapping[str, Any]  # the document beside the arrays

    def __len__(self) -> int:
        return len(self.y)

    @property
    def content(self) -> np.ndarray:
        """Hash of the decoded audio of every utterance, "" where it is not known."""
        return np.array(self.about.get("content") or [""] * len(self))


class Extraction(NamedTuple):
    """A feature file, what is in it, and how many clips were extracted just now."""

    path: Path
    features: FeatureSet
    made: int


def pieces(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the clips (m, frames, coefficients) of utterances, and whose each is."""
    if x.ndim == 3:
        return x, np.arange(len(x))
    owner, piece = np.nonzero(~np.isnan(x[:, :, 0, 0]))
    return x[owner, piece], owner


def stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Return the features of utterances as one array, filled up with NaN."""
    if rows[0].ndim == 2:
        return np.stack(rows)
    most = max(map(len, rows))
    x = np.full((len(rows), most, *rows[0].shape[1:]), np.nan, np.float32)
    for index, row in enumerate(rows):
        x[index, : len(row)] = row
    return x


def feature_path(folder: Path, corpus: str, name: str) -> Path:
    """Return `<folder>/<CORPUS>-<features>.npz`; its document is beside it, `.json`."""
    return folder / f"{corpus}-{name}.npz"


def array_hash(array: np.ndarray) -> str:
    """Return the SHA-256 of an array's bytes in row order."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _hash_of_all(features: FeatureSet) -> str:
    hashes = [array_hash(getattr(features, name)) for name in ARRAYS]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def save(target: Path, features: FeatureSet) -> FeatureSet:
    """Write a feature file, then the document beside it that makes it count."""
    about = {**features.about, "arrays_sha256": _hash_of_all(features)}
    files.write_npz(target, {name: getattr(features, name) for name in ARRAYS})
    files.write_json(target.with_suffix(".json"), about)
    return dataclasses.replace(features, about=about)


def load(target: Path) -> FeatureSet:
    """Read a feature file that is whole and what its document describes."""
    beside = target.with_suffix(".json")
    if not target.is_file() or not beside.is_file():
        way = "Run 01_preprocess with the same corpus and features to make them."
        raise FileNotFoundError(f"no features at {target}. {way}")
    try:
        about = json.loads(beside.read_text(encoding="utf-8"))
        with np.load(target, allow_pickle=False) as file:
            features = FeatureSet(*(file[name] for name in ARRAYS), about)
        if about["arrays_sha256"] != _hash_of_all(features):
            raise ValueError("it does not match its description")
        if len(set(features.file)) < len(features.file):
            raise ValueError("it holds a clip twice")
    except Exception as error:  # zipfile and NumPy raise eleven kinds for wrong bytes
        way = "run 01_preprocess with overwrite=True to make it again"
        raise ValueError(f"{target} is damaged ({error}); {way}") from error
    return features


def cached(
    target: Path,
    key: Mapping[str, Any],
    make: Callable[[], FeatureSet],
    overwrite: bool = False,
) -> tuple[FeatureSet, bool]:
    """Return what a feature file holds, and whether it had to be made.

    It is made where it is missing or damaged, or does not say what `key` says.
    """
    with contextlib.suppress(FileNotFoundError, ValueError):
        found = load(target)
        if not overwrite and {**found.about, **key} == found.about:
            return found, False
    made = make()
    return save(target, dataclasses.replace(made, about={**made.about, **key})), True


def in_threads(function: Callable, items: Iterable, bar: str = "") -> list:
    """Return a function's results for all items; `bar` names a progress bar."""
    items = list(items)
    # Several at a time: whenever a thread asks for work, the other ones wait.
    several = {"batch_size": 8, "pre_dispatch": "all"}
    workers = joblib.Parallel(-1, prefer="threads", return_as="generator", **several)
    with one_thread_a_product():
        results = workers(map(joblib.delayed(function), items))
        return list(tqdm(results, bar, len(items), unit="clip", disable=not bar))


def data_hash(clips: Iterable[corpora.Clip], content: Iterable[str]) -> str:
    """Return the SHA-256 of files, their contents and what is said of them."""
    rows = [
        [clip.file, one, clip.label, clip.speaker, clip.sex, clip.text, clip.key]
        for clip, one in zip(clips, content, strict=True)
    ]
    return config.digest(rows, length=64)


def assembled(
    corpus: corpora.Corpus,
    name: str,
    clips: Sequence[corpora.Clip],
    x: np.ndarray,
    about: Mapping[str, Any],
) -> FeatureSet:
    """Return the feature set of clips, with all that is written about it."""
    table = pd.DataFrame(clips)
    counts = table["label"].value_counts()
    about = {
        "schema_version": 1,
        "corpus": corpus.name,
        "synthetic": corpus.synthetic,
        "features": name,
        "labels": list(corpus.labels),
        "counts": {label: int(counts.get(label, 0)) for label in corpus.labels},
        "shape": list(x.shape),
        "dilations": corpus.dilations,
        **about,
        "x_sha256": array_hash(x),
    }
    y = np.array([corpus.labels.index(label) for label in table["label"]])
    tags = (table[tag].to_numpy(str) for tag in ("file", "speaker", "sex", "text"))
    return FeatureSet(x, y, np.array(corpus.labels), *tags, about)


def prepare(
    corpus: corpora.Corpus,
    clips: Sequence[corpora.Clip],
    folder: Path,
    preset: str = "timnet",
    options: Mapping[str, object] | None = None,
    *,
    overwrite: bool = False,
    verbose: int = 1,
) -> Extraction:
    """Extract the features of clips, or find them in `folder`.

    The same audio and settings are never worked on twice; changed audio, labels,
    speakers or settings never take the old numbers. A clip that cannot be read is left
    out, and `features.about["failed"]` says why.
    """
    settings, name = front_end(preset, options), preset_name(preset, options)
    length = clip_length(settings, corpus)
    if settings.kind == "cepstrum" and length < settings.frame_samples:
        raise ValueError(
            f"a clip of {length} samples is shorter than a frame of "
            f"{settings.frame_samples}; give a longer clip_seconds, or shorter frames"
        )
    paths = [clip.path for clip in clips]
    # Before the audio is read: what changes meanwhile is noticed the next time.
    hashes = in_threads(files.sha256_file, paths)
    key = {
        "settings": dataclasses.asdict(settings),
        "labels": list(corpus.labels),
        "clip_samples": length,
        "dilations": corpus.dilations,
        # Clips that failed are in it too: one that was mended is noticed.
        "audio_sha256": data_hash(clips, hashes),
    }

    def features_or_fault(path: Path) -> np.ndarray | str:
        try:
            row = features_of(load_audio(path, settings), settings, length)
        except ValueError as error:
            return str(error)
        return row if np.isfinite(row).all() else "its features are not finite"

    def make() -> FeatureSet:
        made = in_threads(features_or_fault, paths, "clips" if verbose == 1 else "")
        parts = list(zip(clips, hashes, made, strict=True))
        failed = {clip.file: why for clip, _, why in parts if isinstance(why, str)}
        good = [part for part in parts if part[0].file not in failed]
        if not good:
            first = [*failed.items()][:4]
            raise ValueError(f"{corpus.name}: no clip can be read: {first}")
        kept, content, rows = zip(*good, strict=True)
        packages = ["librosa", "soxr", "soundfile", "numpy", "scipy"]
        packages += ["opensmile"] if settings.kind == "egemaps" else []
        about = {
            "hop_seconds": settings.hop_seconds,
            "failed": failed,
            "data_sha256": data_hash(kept, content),
            "versions": {each: importlib.metadata.version(each) for each in packages},
        }
        return assembled(corpus, name, kept, stacked(rows), about)

    target = feature_path(folder, corpus.name, name)
    features, new = cached(target, key, make, overwrite)
    return Extraction(target, features, new * len(features))


def prepare_checked(
    params: config.Parameters,
    corpus: corpora.Corpus,
    report: corpora.Report,
    *,
    overwrite: bool = False,
) -> Extraction:
    """Extract the features of a copy that `corpora.check` has examined, or find them.

    `features.about["audit"]` says what was expected and found, what was left out and
    why, and what is wrong with the copy; errors stop unless `ignore_problems` is set.
    """
    report.require_ok(params.ignore_problems)
    made = prepare(
        corpus,
        report.usable,
        params.folders.features,
        params.feature_preset,
        params.feature_options,
        overwrite=overwrite,
        verbose=params.verbose,
    )
    failed = made.features.about["failed"]
    problems = report.to_frame().drop(columns="fix").query("severity != 'note'")
    problems = problems.to_dict("records")
    if failed:
        message = f"{len(failed)} clips give no features: {[*failed.items()][:4]}."
        kind = {"severity": "error", "kind": "without features"}
        problems.append(kind | {"files": len(failed), "message": message})
    clips = report.clips.set_index("file")
    kinds = {}
    for problem in reversed(report.errors):
        kinds |= dict.fromkeys((problem.file, *problem.files), problem.kind)
    unusable = clips.index[~clips["usable"]]
    dropped = {file: kinds.get(file, "unreadable") for file in unusable}
    expected = report.counts["expected"]
    audit = {
        "expected": None if expected.isna().any() else int(expected.sum()),
        "found": len(report.utterances),
        "used": len(made.features),
        "dropped": dropped | failed,
        "problems": problems,
    }
    content = clips["content"].loc[made.features.file].tolist()
    about = {**made.features.about, "audit": audit, "content": content}
    if about != made.features.about:
        files.write_json(made.path.with_suffix(".json"), about)
    checked = dataclasses.replace(made.features, about=about)
    _require_usable(checked, corpus, about["features"], params.ignore_problems)
    return made._replace(features=checked)


def obtain(params: config.Parameters) -> tuple[corpora.Corpus, FeatureSet]:
    """Return the corpus and the features that the parameters ask for.

    DEMO is generated if it is missing. A copy of a corpus is always examined. Where the
    audio is not at hand but a feature file is, it is taken, with the verdict in it.
    """
    datasets, folder = params.folders.datasets, params.folders.features
    corpus, name = corpora.get(params.corpus, datasets), params.feature_preset
    if name != OFFICIAL:
        name = preset_name(name, params.feature_options)
    elif params.feature_options:
        raise ValueError(f"features '{OFFICIAL}' have no feature_options")
    audio, target = datasets / corpus.name, feature_path(folder, corpus.name, name)
    if corpus.synthetic and name != OFFICIAL:
        corpora.demo.generate(audio, verbose=params.verbose)
    elif name == OFFICIAL or not audio.is_dir() and target.is_file():
        features = load(target)
        _require_usable(features, corpus, name, params.ignore_problems)
        return corpus, features
    progress, known = params.verbose == 1, folder / f"{corpus.name}-audio.json"
    report = corpora.check(corpus, audio, cache=known, progress=progress)
    return corpus, prepare_checked(params, corpus, report).features


def _require_usable(
    features: FeatureSet, corpus: corpora.Corpus, name: str, ignore: bool
) -> None:
    """Refuse features that are not what their file's name says, or have errors."""
    about, length = features.about, corpus.clip_samples
    if about["settings"]:
        length = clip_length(FrontEnd(**about["settings"]), corpus)
    held = [about["corpus"], about["features"], about["labels"], about["clip_samples"]]
    right = [corpus.name, name, list(corpus.labels), length]
    if held != right or len(features.content) != len(features):
        raise ValueError(
            f"the file of {corpus.name} by '{name}' holds {held[0]} by '{held[1]}', or "
            "clips of another length or other labels; make it again with 01_preprocess"
        )
    problems = about.get("audit", {}).get("problems", [])
    errors = [one["message"] for one in problems if one["severity"] == "error"]
    if errors and not ignore:
        head = f"the features were made from audio with {len(errors)} errors:"
        tail = "Set ignore_problems = True to use them all the same."
        raise ValueError("\n".join([head, *errors, tail]))


def audio_paths(params: config.Parameters, corpus: corpora.Corpus) -> dict[str, Path]:
    """Return where the audio of every file lies, empty where it is not at hand."""
    folder = params.folders.datasets / corpus.name
    found = corpora.find(corpus, folder)[0] if folder.is_dir() else []
    return {clip.file: clip.path for clip in found}
