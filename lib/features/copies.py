"""Features of altered copies of the audio, for training."""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import joblib
import numpy as np
from tqdm.auto import tqdm

from lib import augment, config, paths
from lib.corpora.base import Corpus
from lib.features.extraction import stacked
from lib.features.frontend import FrontEnd, front_end
from lib.features.signal import clip_length, features_of, load_audio
from lib.features.store import FeatureSet, array_hash, feature_path, read_about


def augmented_copies(
    corpus: Corpus,
    features: FeatureSet,
    audio_folder: Path,
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

    A copy depends on the seed, the file's name and the transform, on nothing
    else. The altered audio goes through the same front end as the audio.

    Args:
        corpus: The corpus.
        features: Its features; give the rows.
        audio_folder: Where its audio lies.
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
        FileNotFoundError: If the audio is not there.
        ValueError: For an unknown transform.
    """
    augment.require_known(transforms, augment.WAVEFORM)
    settings = front_end(preset, options)
    about = {
        "audio_sha256": features.about["audio_sha256"],
        "features_sha256": features.about["x_sha256"],
        "settings": dataclasses.asdict(settings),
        "transforms": list(transforms),
        "seed": seed,
    }
    name = f"{features.about['features']}-augmented-{config.digest(about)}"
    target = feature_path(cache_folder, corpus.name, name)
    if (found := _cached(target, about)) is not None:
        return found
    if not audio_folder.is_dir():
        raise FileNotFoundError(
            f"augmentation 'waveform' alters the audio, and there is none at "
            f"{audio_folder}; set datasets_dir, or augmentation='cepstrum'"
        )
    length = clip_length(settings, corpus)
    work = (
        joblib.delayed(_copies_of)(
            audio_folder / file, str(file), settings, length, transforms, seed
        )
        for file in features.file
    )
    workers = joblib.Parallel(n_jobs=jobs, prefer="threads", return_as="generator")
    bar = tqdm(total=len(features), desc="copies", unit="clip", disable=verbose != 1)
    rows = []
    with bar:
        for row in workers(work):
            bar.update()
            rows.append(row)
    copies = stacked(rows)
    paths.write_npz(target, {"copies": copies})
    paths.write_json(
        target.with_suffix(".json"), about | {"copies_sha256": array_hash(copies)}
    )
    return copies


def _copies_of(
    path: Path,
    file: str,
    settings: FrontEnd,
    length: int,
    transforms: Sequence[str],
    seed: int,
) -> np.ndarray:
    """Return the copies of one utterance, (copies, frames, coefficients)."""
    samples = load_audio(path, settings)
    copies = []
    for transform in transforms:
        text = f"{seed} {transform} {file}"
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        changed = augment.WAVEFORM[transform](samples, np.random.default_rng(number))
        made = features_of(changed, settings, length)
        copies.extend(made if made.ndim == 3 else [made])
    return np.stack(copies)


def _cached(target: Path, about: Mapping[str, object]) -> np.ndarray | None:
    """Return the copies of a whole file that was made for the same, else None."""
    known = read_about(target)
    if known is None or {name: known.get(name) for name in about} != about:
        return None
    try:
        with np.load(target, allow_pickle=False) as content:
            copies = content["copies"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return copies if array_hash(copies) == known["copies_sha256"] else None
