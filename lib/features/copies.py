"""Features of altered copies of the audio, for training."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import joblib
import numpy as np
from tqdm.auto import tqdm

from lib import augment, config, files
from lib.corpora.base import Corpus
from lib.features.extraction import stacked
from lib.features.frontend import FrontEnd, front_end, preset_name
from lib.features.signal import clip_length, features_of, load_audio
from lib.features.store import (
    FeatureSet,
    array_hash,
    feature_path,
    read_about,
    read_arrays,
)


def augmented_copies(
    corpus: Corpus,
    features: FeatureSet,
    audio: Mapping[str, Path],
    cache_folder: Path,
    preset: str,
    options: Mapping[str, object] | None = None,
    *,
    transforms: Sequence[str] = tuple(augment.WAVEFORM),
    seed: int = 46,
    jobs: int = -1,
    verbose: int = 1,
) -> np.ndarray:
    """Return the features of altered copies of every utterance, or find them.

    A copy depends on its own audio, the seed, the file's name and the transform,
    not on the other files. The altered audio goes through the same front end as
    the audio. Copies that are there are taken as long as the audio is what they
    were made of, or, as on a machine that only trains, is not at hand at all.

    Args:
        corpus: The corpus.
        features: Its features; give the rows.
        audio: Where the audio of its files lies; empty where it is not at hand.
        cache_folder: Where the copies are kept, as
            `<CORPUS>-<features>-augmented-<8 hex digits>.npz`.
        preset: Name of the front end.
        options: Values that override the preset.
        transforms: Names from `augment.WAVEFORM`, one copy for each.
        seed: Seed of the copies.
        jobs: Number of parallel workers, -1 for one per processor.
        verbose: 1 for a progress bar.

    Returns:
        float32, (utterances, copies, frames, coefficients), rows as in
        `features`; where utterances are cut into pieces, a copy is a piece.

    Raises:
        FileNotFoundError: If the audio, or some of it, is not there.
        ValueError: For an unknown transform, for features of another front end,
            or if a file cannot be read; with its name.
    """
    augment.require_known(transforms, augment.WAVEFORM)
    settings = front_end(preset, options)
    if (name := preset_name(preset, options)) != features.about["features"]:
        raise ValueError(
            f"copies by the front end '{name}' do not go with features by "
            f"'{features.about['features']}'"
        )
    about = {
        "audio_sha256": features.about["audio_sha256"],
        "features_sha256": features.about["x_sha256"],
        "settings": dataclasses.asdict(settings),
        "transforms": list(transforms),
        "seed": seed,
    }
    target = feature_path(
        cache_folder, corpus.name, f"{name}-augmented-{config.digest(about)}"
    )
    content = _content(audio, features, jobs)
    if (found := _cached(target, about, content)) is not None:
        return found
    _require_audio(features, content)
    length = clip_length(settings, corpus)
    work = (
        joblib.delayed(_copies_of)(
            audio[file], str(file), settings, length, transforms, seed
        )
        for file in features.file
    )
    workers = joblib.Parallel(n_jobs=jobs, prefer="threads", return_as="generator")
    bar = tqdm(total=len(features), desc="copies", unit="clip", disable=verbose != 1)
    rows, hashes = [], []
    with bar:
        for hashed, row in workers(work):
            bar.update()
            hashes.append(hashed)
            rows.append(row)
    copies = stacked(rows)
    files.write_npz(target, {"copies": copies})
    made = {
        "copied_sha256": config.digest(hashes, length=64),
        "copies_sha256": array_hash(copies),
    }
    files.write_json(target.with_suffix(".json"), about | made)
    return copies


def _content(
    audio: Mapping[str, Path], features: FeatureSet, jobs: int
) -> list[str] | None:
    """Return the SHA-256 of every file, "" where it is not; None without audio."""
    if not audio:
        return None
    workers = joblib.Parallel(n_jobs=jobs, prefer="threads")
    return workers(joblib.delayed(_hash_of)(audio.get(file)) for file in features.file)


def _hash_of(path: Path | None) -> str:
    return files.sha256_file(path) if path and path.is_file() else ""


def _require_audio(features: FeatureSet, content: Sequence[str] | None) -> None:
    """Raise FileNotFoundError, with what to do, unless all the audio is there."""
    if content is None:
        lack = "there is none"
    elif missing := [
        file for file, known in zip(features.file, content, strict=True) if not known
    ]:
        lack = (
            f"{len(missing)} of {len(content)} files are not there (first: "
            f"{missing[0]})"
        )
    else:
        return
    raise FileNotFoundError(
        f"augmentation 'waveform' alters the audio, and {lack}; set datasets_dir, "
        "or augmentation='cepstrum'"
    )


def _copies_of(
    path: Path,
    file: str,
    settings: FrontEnd,
    length: int,
    transforms: Sequence[str],
    seed: int,
) -> tuple[str, np.ndarray]:
    """Return an utterance's SHA-256 and copies, (copies, frames, coefficients)."""
    content = path.read_bytes()
    copies = []
    try:
        samples = load_audio(io.BytesIO(content), settings)
        for transform in transforms:
            text = f"{seed} {transform} {file}"
            number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
            rng = np.random.default_rng(number)
            changed = augment.WAVEFORM[transform](samples, rng)
            made = features_of(changed, settings, length)
            copies.extend(made if made.ndim == 3 else [made])
    except ValueError as error:
        raise ValueError(f"no altered copies of {file}: {error}") from error
    return hashlib.sha256(content).hexdigest(), np.stack(copies)


def _cached(
    target: Path, about: Mapping[str, object], content: Sequence[str] | None
) -> np.ndarray | None:
    """Return the copies of a whole file that was made of the same, else None."""
    known = read_about(target)
    if known is None or {name: known.get(name) for name in about} != about:
        return None
    if content is not None and known.get("copied_sha256") != config.digest(
        content, length=64
    ):
        return None
    try:
        copies = read_arrays(target, ("copies",))["copies"]
    except ValueError:  # damaged copies are made again
        return None
    return copies if array_hash(copies) == known.get("copies_sha256") else None
