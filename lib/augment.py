"""Altered copies of training clips: of their audio, as in CkTIM-net, or of cepstra.

Folds part whole utterances, so that no copy of a tested clip is trained on.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from lib import config, features, files
from lib.corpora import Corpus


def white_noise(signal: np.ndarray, rng: Generator, decibel: float = 10) -> np.ndarray:
    """Add white noise at a signal-to-noise ratio in decibels, for each channel."""
    power = np.mean(np.square(signal, dtype=np.float64), axis=-1, keepdims=True)
    noise = np.sqrt(power / 10 ** (decibel / 10)) * rng.standard_normal(signal.shape)
    return (signal + noise).astype(np.float32)


def time_shift(signal: np.ndarray, rng: Generator) -> np.ndarray:
    """Move a signal earlier or later by 5 to 30 %; what comes in is silence."""
    by = int(signal.shape[-1] * rng.choice((0.05, 0.10, 0.15, 0.20, 0.30)))
    by = by if rng.random() < 0.5 else -by
    moved = np.roll(signal, by, axis=-1)
    moved[..., slice(by) if by >= 0 else slice(by, None)] = 0
    return moved


def time_stretch(signal: np.ndarray, rng: Generator) -> np.ndarray:
    """Play a signal slower or faster at the same pitch; a rate of 2 halves it."""
    import librosa  # here: training on ready-made features does not need it

    return librosa.effects.time_stretch(signal, rate=rng.choice((0.25, 0.5, 1.5, 2)))


# From samples, float32, (channels, samples), to such samples.
WAVEFORM = {
    "noise": white_noise,
    "shift": time_shift,
    "stretch": time_stretch,
    "reversal": lambda signal, rng: signal[..., ::-1].copy(),
}


def cepstrum_noise(x: np.ndarray, rng: Generator) -> np.ndarray:
    """Add noise of 0.5 % of each coefficient's standard deviation over the clip."""
    deviation = np.float32(0.005) * x.std(axis=1, keepdims=True)
    return x + deviation * rng.standard_normal(x.shape, np.float32)


def cepstrum_shift(x: np.ndarray, rng: Generator) -> np.ndarray:
    """Move clips by up to two frames; the edge frame is repeated."""
    frames = np.arange(x.shape[1]) - rng.integers(-2, 3, (len(x), 1))
    inside = np.clip(frames, 0, x.shape[1] - 1)
    return np.take_along_axis(x, inside[..., np.newaxis], axis=1)


def mask(x: np.ndarray, rng: Generator, axis: int) -> np.ndarray:
    """Set two neighbours along an axis (1: frames) to the mean over the clip."""
    place = np.arange(x.shape[axis])
    begin = rng.integers(0, max(len(place) - 2, 0) + 1, (len(x), 1))
    inside = np.expand_dims((place >= begin) & (place < begin + 2), 3 - axis)
    return np.where(inside, x.mean(axis=1, keepdims=True), x)


# From clips, float32, (clips, frames, coefficients), to such clips.
CEPSTRUM = {
    "noise": cepstrum_noise,
    "shift": cepstrum_shift,
    "frame_mask": lambda x, rng: mask(x, rng, axis=1),
    "coefficient_mask": lambda x, rng: mask(x, rng, axis=2),
}


def augment_cepstra(
    x: np.ndarray, rng: Generator, transforms: Sequence[str], probability: float
) -> np.ndarray:
    """Return clips, each transform applied in turn to a random share of them."""
    changed = x.copy()
    for name in transforms:
        hit = rng.random(len(x)) < probability
        changed[hit] = CEPSTRUM[name](changed[hit], rng)
    return changed


def augmented_copies(
    params: config.Parameters, corpus: Corpus, data: files.FeatureSet, transforms: list
) -> np.ndarray:
    """Return (utterances, copies or their pieces, frames, coefficients), float32."""
    settings = features.front_end(params.feature_preset, params.feature_options)
    length = features.clip_length(settings, corpus)
    key = {"source_sha256": data.about["x_sha256"], "seed": params.seed}
    key |= {"settings": dataclasses.asdict(settings), "transforms": list(transforms)}
    name = f"{corpus.name}-{data.about['features']}-augmented-{config.digest(key)}.npz"
    target = params.folders.features / name
    key["data_sha256"] = data.about["data_sha256"]  # of the audio, which may be gone
    if found := files.find_features(target, key):
        return found.x
    audio = features.audio_paths(params, corpus)
    if lost := [file for file in data.file if file not in audio]:
        fault = f"{len(lost)} of {len(data)} files are not there, first {lost[0]}"
        way = "set datasets_dir, or use augmentation 'cepstrum'"
        raise FileNotFoundError(f"'waveform' alters the audio; {fault}: {way}")

    def copies_of(named: tuple) -> np.ndarray:
        file, path = named
        rows, samples = [], features.load_audio(path, settings)
        for transform in transforms:
            seed = hashlib.sha256(f"{params.seed} {transform} {file}".encode()).digest()
            rng = np.random.default_rng(int.from_bytes(seed[:8], "big"))
            changed = WAVEFORM[transform](samples, rng)
            made = features.features_of(changed, settings, length)
            rows.extend(made if made.ndim == 3 else [made])
        return np.stack(rows)

    bar = "copies" if params.verbose == 1 else ""
    named = [(file, audio[file]) for file in data.file]
    x = files.stacked(features.in_parallel(copies_of, named, bar))
    return files.write_features(target, dataclasses.replace(data, x=x, about=key)).x
