"""Altered copies of training clips: of the audio, kept in a file, and of cepstra.

What is altered is for training alone; folds part whole utterances, so that no copy of
a tested clip is trained on. The alterations of the audio are CkTIM-net's.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.random import Generator

from lib import config, corpora, features

# Shares of the clip that a copy may be shifted by, and speeds it may be played at.
SHIFTS = (0.05, 0.10, 0.15, 0.20, 0.30)
SPEEDS = (0.25, 0.5, 1.5, 2.0)


def white_noise(signal: np.ndarray, rng: Generator, decibel: float = 10) -> np.ndarray:
    """Add white noise at a signal-to-noise ratio in decibels, for each channel."""
    power = np.mean(np.square(signal, dtype=np.float64), axis=-1, keepdims=True)
    noise = np.sqrt(power / 10 ** (decibel / 10)) * rng.standard_normal(signal.shape)
    return (signal + noise).astype(np.float32)


def time_shift(signal: np.ndarray, rng: Generator) -> np.ndarray:
    """Move a signal earlier or later by one of `SHIFTS`; what comes in is silence."""
    by = int(signal.shape[-1] * rng.choice(SHIFTS))
    by = by if rng.random() < 0.5 else -by
    moved = np.roll(signal, by, axis=-1)
    moved[..., slice(by) if by >= 0 else slice(by, None)] = 0
    return moved


def time_stretch(
    signal: np.ndarray, rng: Generator, rates: Sequence[float] = SPEEDS
) -> np.ndarray:
    """Play a signal faster or slower at the same pitch; a rate of 2 halves it."""
    import librosa  # here: training on ready-made features does not need it

    return librosa.effects.time_stretch(signal, rate=rng.choice(rates))


# From samples, float32, (channels, samples), to such samples.
WAVEFORM: Mapping[str, Callable[[np.ndarray, Generator], np.ndarray]] = {
    "noise": white_noise,
    "shift": time_shift,
    "stretch": time_stretch,
    "reversal": lambda signal, rng: signal[..., ::-1].copy(),
}


def cepstrum_noise(x: np.ndarray, rng: Generator, share: float = 0.005) -> np.ndarray:
    """Add noise of a share of each coefficient's standard deviation over the clip."""
    deviation = np.float32(share) * x.std(axis=1, keepdims=True)
    return x + deviation * rng.standard_normal(x.shape, np.float32)


def cepstrum_shift(x: np.ndarray, rng: Generator, frames: int = 2) -> np.ndarray:
    """Move clips by up to `frames` frames; the edge frame is repeated."""
    by = rng.integers(-frames, frames + 1, (len(x), 1))
    return _read_at(x, np.arange(x.shape[1]) - by)


def mask(x: np.ndarray, rng: Generator, axis: int, width: int = 2) -> np.ndarray:
    """Set `width` neighbours along an axis (1: frames) to the mean over the clip."""
    place = np.arange(x.shape[axis])
    begin = rng.integers(0, max(len(place) - width, 0) + 1, (len(x), 1))
    inside = np.expand_dims((place >= begin) & (place < begin + width), 3 - axis)
    return np.where(inside, x.mean(axis=1, keepdims=True), x)


def crop(x: np.ndarray, rng: Generator, share: float = 0.9) -> np.ndarray:
    """Take a random part of each clip, stretched to the old number of frames."""
    frames = x.shape[1]
    start = rng.uniform(0, (1 - share) * (frames - 1), (len(x), 1))
    return _read_at(x, start + share * np.arange(frames))


def stretch(x: np.ndarray, rng: Generator, most: float = 0.1) -> np.ndarray:
    """Play clips at a speed of 1 +- `most`; the last frame is repeated at need."""
    rates = rng.uniform(1 - most, 1 + most, (len(x), 1))
    return _read_at(x, rates * np.arange(x.shape[1]))


def _read_at(x: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return clips at fractional frames, (clips, frames), linearly between two."""
    places = np.clip(places, 0, x.shape[1] - 1)[..., np.newaxis]
    below = np.floor(places).astype(int)
    above = np.ceil(places).astype(int)
    share = (places - below).astype(np.float32)
    parts = (np.take_along_axis(x, frames, axis=1) for frames in (below, above))
    return next(parts) * (1 - share) + next(parts) * share


# From clips, float32, (clips, frames, coefficients), to such clips.
CEPSTRUM: Mapping[str, Callable[[np.ndarray, Generator], np.ndarray]] = {
    "noise": cepstrum_noise,
    "shift": cepstrum_shift,
    "frame_mask": functools.partial(mask, axis=1),
    "coefficient_mask": functools.partial(mask, axis=2),
    "crop": crop,
    "stretch": stretch,
}


def augment_cepstra(
    x: np.ndarray,
    rng: Generator,
    transforms: Sequence[str] = tuple(CEPSTRUM),
    probability: float = 0.5,
) -> np.ndarray:
    """Return clips, each transform applied in turn to a random share of them."""
    require_known(transforms, CEPSTRUM)
    if not 0 <= probability <= 1:
        raise ValueError(f"probability is {probability!r}; give 0 to 1")
    changed = x.copy()
    for name in transforms:
        hit = np.flatnonzero(rng.random(len(x)) < probability)
        if len(hit):
            changed[hit] = CEPSTRUM[name](changed[hit], rng)
    return changed


def require_known(names: Sequence[str], known: Mapping[str, object]) -> None:
    """Raise ValueError unless all names are known, and there are some."""
    right = isinstance(names, list | tuple) and names
    if not right or any(name not in list(known) for name in names):
        raise ValueError(f"transforms is {names!r}; give a list of {', '.join(known)}")


def augmented_copies(
    params: config.Parameters,
    corpus: corpora.Corpus,
    data: features.FeatureSet,
    transforms: Sequence[str] = tuple(WAVEFORM),
) -> np.ndarray:
    """Return the features of altered copies of every utterance, or find them.

    A copy depends on its own audio, the seed, the file's name and the transform only.
    Kept copies of the same recordings are taken, also where the audio is not at hand.

    Returns:
        float32, (utterances, copies, frames, coefficients), a copy for each of the
        `transforms`, or of its pieces.
    """
    require_known(transforms, WAVEFORM)
    chosen = params.feature_preset, params.feature_options
    settings, name = features.front_end(*chosen), data.about["features"]
    if name != features.preset_name(*chosen):
        raise ValueError(f"copies by '{chosen[0]}' {chosen[1]} do not go with '{name}'")
    length = features.clip_length(settings, corpus)
    key = {
        "source_sha256": data.about["x_sha256"],
        "settings": dataclasses.asdict(settings),
        "transforms": list(transforms),
        "seed": params.seed,
    }
    name = f"{name}-augmented-{config.digest(key)}"
    audio = features.audio_paths(params, corpus)

    def copies_of(file: str) -> np.ndarray:
        rows = []
        try:
            samples = features.load_audio(audio[file], settings)
            for transform in transforms:
                text = f"{params.seed} {transform} {file}"
                number = hashlib.sha256(text.encode()).digest()[:8]
                rng = np.random.default_rng(int.from_bytes(number, "big"))
                changed = WAVEFORM[transform](samples, rng)
                made = features.features_of(changed, settings, length)
                rows.extend(made if made.ndim == 3 else [made])
        except ValueError as error:
            raise ValueError(f"no altered copies of {file}: {error}") from error
        return np.stack(rows)

    def make() -> features.FeatureSet:
        lost = [file for file in data.file if file not in audio]
        if lost:
            raise FileNotFoundError(
                f"augmentation 'waveform' alters the audio, and {len(lost)} of "
                f"{len(data)} files are not there (first: {lost[0]}); set "
                "datasets_dir, or augmentation='cepstrum'"
            )
        bar = "copies" if params.verbose == 1 else ""
        rows = features.in_threads(copies_of, data.file, bar)
        return dataclasses.replace(data, x=features.stacked(rows), about={})

    target = features.feature_path(params.folders.features, corpus.name, name)
    key["data_sha256"] = data.about["data_sha256"]  # of the audio too
    return features.cached(target, key, make)[0].x
