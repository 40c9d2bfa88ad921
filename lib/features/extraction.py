"""Extract a whole corpus in parallel, or find it in the cache."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import joblib
import numpy as np
from tqdm.auto import tqdm

from lib import config, corpora, files
from lib.corpora.base import Corpus, Utterance
from lib.features.frontend import FrontEnd, front_end, preset_name
from lib.features.official import NAME as OFFICIAL
from lib.features.signal import (
    clip_length,
    features_of,
    load_audio,
    num_frames,
    single_threaded_products,
)
from lib.features.store import (
    FeatureSet,
    array_hash,
    feature_path,
    load,
    read_about,
    save,
)

CLIPS_AT_A_TIME = 8  # given to a thread
_ALWAYS = ("librosa", "soxr", "soundfile", "numpy", "scipy")
# The packages whose versions decide the numbers of each kind of front end.
_PACKAGES = {"cepstrum": _ALWAYS, "egemaps": (*_ALWAYS, "opensmile")}


@dataclasses.dataclass(frozen=True)
class Extraction:
    """What `prepare` did.

    Attributes:
        path: The feature file.
        features: Its content.
        made: Number of clips extracted now, 0 if the cache held them all.
        failed: Files left out, with the reason.
    """

    path: Path
    features: FeatureSet
    made: int
    failed: Mapping[str, str]


def prepare(
    corpus: Corpus,
    utterances: Sequence[Utterance],
    folder: Path,
    preset: str = "timnet",
    options: Mapping[str, object] | None = None,
    *,
    overwrite: bool = False,
    jobs: int = -1,
    verbose: int = 1,
) -> Extraction:
    """Extract the features of a corpus, or find them in the cache.

    The cache is by content: the same audio and the same settings are never
    worked on twice, and changed audio or settings never take the old numbers.

    Args:
        corpus: The corpus; gives the labels and the clip length.
        utterances: Its audio files in row order.
        folder: Folder of the feature files.
        preset: Name of the front end.
        options: Values that override the preset.
        overwrite: Extract again although the cache is good.
        jobs: Number of parallel workers, -1 for one per processor.
        verbose: 1 for a progress bar.

    Returns:
        The features and what had to be done. A clip that cannot be read is
        left out and reported; the others are kept.

    Raises:
        ValueError: If no clip can be read.
    """
    settings = front_end(preset, options)
    name = preset_name(preset, options)
    target = feature_path(folder, corpus.name, name)
    workers = _in_threads(jobs)
    length = clip_length(settings, corpus)
    if settings.kind == "cepstrum" and length < settings.frame_samples:
        raise ValueError(
            f"a clip of {length} samples is shorter than a frame of "
            f"{settings.frame_samples}; give a longer clip_seconds, or shorter frames"
        )
    known = {
        "labels": list(corpus.labels),
        "settings": dataclasses.asdict(settings),
        "clip_samples": length,
        "dilations": corpus.dilations,
    }
    if not overwrite and (cached := _cached(target, known, utterances, workers)):
        return cached
    work = (joblib.delayed(_extract_one)(item, settings, length) for item in utterances)
    rows = _Rows(len(utterances), settings, length)
    kept: list[Utterance] = []
    hashes: list[str] = []
    failed: dict[str, str] = {}
    bar = tqdm(total=len(utterances), desc="clips", unit="clip", disable=verbose != 1)
    # Each worker has a processor to itself; matrix products must not ask for more.
    with bar, single_threaded_products():
        for item, (content, result) in zip(utterances, workers(work), strict=True):
            bar.update()
            hashes.append(content)
            if isinstance(result, str):
                failed[item.file] = result
                continue
            rows.add(result)
            kept.append(item)
    if not kept:
        raise ValueError(
            f"{corpus.name}: none of the {len(utterances)} clips can be read; "
            + "; ".join(f"{file}: {why}" for file, why in list(failed.items())[:3])
        )
    sha256 = dict(zip((item.file for item in utterances), hashes, strict=True))
    about = known | {
        "failed": failed,
        "audio_sha256": data_hash(utterances, hashes),
        "data_sha256": data_hash(kept, [sha256[item.file] for item in kept]),
    }
    features = _assemble(corpus, kept, rows.array(), name, settings, about)
    save(target, features)
    return Extraction(target, features, len(kept), failed)


def _in_threads(jobs: int) -> joblib.Parallel:
    """Return what calls functions in threads and yields their results in order.

    Several clips at a time: whenever a thread asks for work, all others that need
    the interpreter wait.
    """
    return joblib.Parallel(
        n_jobs=jobs,
        prefer="threads",
        return_as="generator",
        batch_size=CLIPS_AT_A_TIME,
        pre_dispatch=f"{4 * CLIPS_AT_A_TIME} * n_jobs",
    )


class _Rows:
    """Features as they come: in place where their shape is known, else listed.

    Args:
        count: The largest number of rows.
        settings: The front end.
        length: Length of a clip, or of a piece, in samples.
    """

    def __init__(self, count: int, settings: FrontEnd, length: int) -> None:
        frames = num_frames(settings, length) * settings.channels
        self._listed: list[np.ndarray] | None = None
        if settings.pieces == "all":
            self._listed = []
        else:
            self._x = np.empty((count, frames, settings.coefficients), np.float32)
        self._used = 0

    def add(self, row: np.ndarray) -> None:
        """Take the features of the next utterance."""
        if self._listed is not None:
            self._listed.append(row)
        else:
            self._x[self._used] = row
        self._used += 1

    def array(self) -> np.ndarray:
        """Return all rows; pieces that a short utterance lacks are not numbers."""
        if self._listed is None:
            return self._x[: self._used]
        return stacked(self._listed)


def stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Return arrays (pieces, frames, coefficients) as one, filled up with NaN."""
    most = max(map(len, rows))
    x = np.full((len(rows), most, *rows[0].shape[1:]), np.nan, np.float32)
    for index, row in enumerate(rows):
        x[index, : len(row)] = row
    return x


def _extract_one(
    utterance: Utterance, settings: FrontEnd, length: int
) -> tuple[str, np.ndarray | str]:
    """Return the content's hash and the features, or why there are none."""
    content = ""
    try:
        audio = utterance.path.read_bytes()
        content = hashlib.sha256(audio).hexdigest()
        samples = load_audio(io.BytesIO(audio), settings)
        row = features_of(samples, settings, length)
        if not np.isfinite(row).all():
            raise ValueError("its features are not finite numbers")
        return content, row
    except (ValueError, OSError) as error:
        return content, str(error)


def _hash_one(utterance: Utterance) -> str:
    """Return the SHA-256 of one audio file, "" if it cannot be read."""
    try:
        return files.sha256_file(utterance.path)
    except OSError:
        return ""


def data_hash(utterances: Sequence[Utterance], content: Iterable[str]) -> str:
    """Return the SHA-256 of the list of files, their contents and their tags.

    The tags belong to it: other speakers or labels are other data.
    """
    rows = [
        [item.file, value, *dataclasses.astuple(item.tags)]
        for item, value in zip(utterances, content, strict=True)
    ]
    return config.digest(rows, length=64)


def _cached(
    target: Path,
    known: Mapping[str, object],
    utterances: Sequence[Utterance],
    workers: joblib.Parallel,
) -> Extraction | None:
    """Return the cached features if they are of exactly this, else None."""
    about = read_about(target)
    if about is None or {name: about.get(name) for name in known} != known:
        return None
    content = workers(joblib.delayed(_hash_one)(item) for item in utterances)
    # Clips that failed are in the list too: one that was mended is noticed.
    if data_hash(utterances, content) != about.get("audio_sha256"):
        return None
    try:
        return Extraction(target, load(target), 0, about.get("failed", {}))
    except ValueError:  # a damaged cache is made again
        return None


def _assemble(
    corpus: Corpus,
    kept: Sequence[Utterance],
    x: np.ndarray,
    name: str,
    settings: FrontEnd,
    about: Mapping[str, object],
) -> FeatureSet:
    """Return the feature set of the clips that could be read."""
    index = {label: number for number, label in enumerate(corpus.labels)}
    tags = [item.tags for item in kept]
    y = np.array([index[tag.label] for tag in tags], np.int64)
    counts = Counter(tag.label for tag in tags)
    about = {
        "schema_version": 1,
        "corpus": corpus.name,
        "synthetic": corpus.synthetic,
        "features": name,
        "hop_seconds": settings.hop_seconds,
        "counts": {label: counts[label] for label in corpus.labels},
        "shape": list(x.shape),
        **about,
        "versions": {
            package: importlib.metadata.version(package)
            for package in _PACKAGES[settings.kind]
        },
        "x_sha256": array_hash(x),
    }
    return FeatureSet(
        x=x,
        y=y,
        label_names=np.array(corpus.labels),
        file=np.array([item.file for item in kept]),
        speaker=np.array([tag.speaker for tag in tags]),
        sex=np.array([tag.sex for tag in tags]),
        text=np.array([tag.text for tag in tags]),
        about=about,
    )


def prepare_checked(
    params: config.Parameters,
    corpus: Corpus,
    report: corpora.Report,
    *,
    overwrite: bool = False,
) -> Extraction:
    """Extract the features of a copy that the doctor has examined, or find them.

    Args:
        params: The notebook's parameters.
        corpus: The corpus.
        report: What `corpora.check` found in the copy.
        overwrite: Extract again although the cache is good.

    Returns:
        As `prepare`; `features.about["audit"]` says what was found, what was left
        out and why, and what the doctor found wrong.

    Raises:
        ValueError: If there are errors and `ignore_problems` is not set, or no clip
            can be read.
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
    if made.failed and not params.ignore_problems:
        told = "; ".join(
            f"{file}: {why}" for file, why in list(made.failed.items())[:4]
        )
        raise ValueError(
            f"{corpus.name}: {len(made.failed)} clips give no features ({told}). "
            "Repair or remove them, or set ignore_problems = True to go on."
        )
    clips = report.clips.set_index("file")
    unusable = clips.index[~clips["usable"]]
    dropped = {
        file: next(
            (p.kind for p in report.errors if file in (p.file, *p.files)),
            "unreadable",
        )
        for file in unusable
    }
    expected = report.counts["expected"]
    audit = {
        "expected": None if expected.isna().any() else int(expected.sum()),
        "found": len(report.utterances),
        "used": len(made.features),
        "dropped": dropped | dict(made.failed),
        "problems": [
            {
                "severity": problem.severity,
                "kind": problem.kind,
                "files": len(problem.files) or int(bool(problem.file)),
                "message": problem.message,
            }
            for problem in (*report.errors, *report.warnings)
        ],
    }
    if made.failed:
        audit["problems"].append(
            {
                "severity": "error",
                "kind": "without features",
                "files": len(made.failed),
                "message": f"Clips that give no features: {', '.join(made.failed)}.",
            }
        )
    content = clips.loc[made.features.file, "content"].tolist()
    known = read_about(made.path) or {}
    about = known | {"audit": audit, "content": content}
    if about != known:
        files.write_json(made.path.with_suffix(".json"), about)
    features = dataclasses.replace(made.features, about=about)
    return dataclasses.replace(made, features=features)


def obtain(params: config.Parameters) -> tuple[Corpus, FeatureSet]:
    """Return the features that the parameters ask for, making them if need be.

    DEMO is generated if it is missing. The copy of the corpus is examined; a clip
    whose content was examined before is not decoded again. Where the audio is not
    at hand but a feature file is, as on a machine that only trains, the file is
    taken, with the verdict that was written into it.

    Args:
        params: The notebook's parameters.

    Returns:
        The corpus and its features.

    Raises:
        FileNotFoundError: If there is neither audio nor a feature file; the
            message says how to get the corpus.
        ValueError: If the copy has errors and `ignore_problems` is not set, or
            cannot be used at all.
    """
    datasets, folder = params.folders.datasets, params.folders.features
    corpus = corpora.get(params.corpus, datasets)
    if params.feature_preset == OFFICIAL:
        if params.feature_options:
            raise ValueError(
                f"features '{OFFICIAL}' are the authors' own arrays and have no "
                "feature_options; leave them out"
            )
        features = load(feature_path(folder, corpus.name, OFFICIAL))
        _require_of(features, corpus, OFFICIAL)
        return corpus, features
    audio = datasets / corpus.name
    if corpus.synthetic:
        corpora.demo.generate(audio, verbose=params.verbose)
    elif not audio.is_dir():
        name = preset_name(params.feature_preset, params.feature_options)
        target = feature_path(folder, corpus.name, name)
        if read_about(target) is not None:
            features = _without_audio(params, target)
            _require_of(features, corpus, name)
            return corpus, features
    report = corpora.check(
        corpus,
        audio,
        cache=folder / f"{corpus.name}-audio.json",
        progress=params.verbose == 1,
    )
    return corpus, prepare_checked(params, corpus, report).features


def audio_paths(params: config.Parameters, corpus: Corpus) -> dict[str, Path]:
    """Return where the audio of every file lies, empty where it is not at hand."""
    folder = params.folders.datasets / corpus.name
    if not folder.is_dir():
        return {}
    return {item.file: item.path for item in corpora.find(corpus, folder)[0]}


def _require_of(features: FeatureSet, corpus: Corpus, name: str) -> None:
    """Raise ValueError unless a feature file is what its name says."""
    about, clips = features.about, len(features)
    known = (about["corpus"], about["features"], list(about["labels"]))
    settings = about["settings"]
    if settings is not None:
        length = clip_length(FrontEnd(**settings), corpus)
        known += (about["clip_samples"] == length,)
    wanted = (corpus.name, name, list(corpus.labels), True)[: len(known)]
    if known != wanted or len(features.content) != clips:
        raise ValueError(
            f"the feature file of {corpus.name} and '{name}' holds {about['corpus']} "
            f"by '{about['features']}', or clips of another length or other labels; "
            "make it again with 01_preprocess, where the audio is"
        )


def _without_audio(params: config.Parameters, target: Path) -> FeatureSet:
    """Return a feature file whose audio is not at hand, if it may be used."""
    features = load(target)
    problems = features.about.get("audit", {}).get("problems", [])
    errors = [item["message"] for item in problems if item["severity"] == "error"]
    if errors and not params.ignore_problems:
        raise ValueError(
            "\n".join(
                [
                    f"{target} was made from audio with {len(errors)} errors:",
                    *errors,
                    "Set ignore_problems = True to use it all the same.",
                ]
            )
        )
    return features
