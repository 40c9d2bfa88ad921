"""Altered copies of training clips: waveforms, and cepstra.

What is altered is for training alone. Who trains is decided elsewhere, for whole
utterances, so that no copy of a tested clip is ever trained on.

The waveform alterations and their values are those of CkTIM-net; its repository
also has transforms of MFCC arrays, which its published runs do not use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

Generator = np.random.Generator

# Shares of the clip that a copy may be shifted by, and the speeds it may be played at.
SHIFTS = (0.05, 0.10, 0.15, 0.20, 0.30)
SPEEDS = (0.25, 0.5, 1.5, 2.0)


def white_noise(
    signal: np.ndarray, rng: Generator, snr_decibel: float = 10.0
) -> np.ndarray:
    """Return a signal with white Gaussian noise.

    Args:
        signal: float32, (samples,) or (channels, samples).
        rng: Random generator.
        snr_decibel: Power of the signal over that of the noise, in decibels. Each
            channel has noise of its own.
    """
    power = np.mean(np.square(signal, dtype=np.float64), axis=-1, keepdims=True)
    deviation = np.sqrt(power / 10 ** (snr_decibel / 10))
    noise = deviation * rng.standard_normal(signal.shape)
    return (signal + noise).astype(np.float32)


def time_shift(
    signal: np.ndarray, rng: Generator, shares: Sequence[float] = SHIFTS
) -> np.ndarray:
    """Return a signal moved earlier or later; what comes in is silence.

    Args:
        signal: float32, (samples,) or (channels, samples).
        rng: Random generator; it draws the share and the direction.
        shares: Shares of the length, each in (0, 1).
    """
    samples = signal.shape[-1]
    by = int(samples * rng.choice(np.asarray(shares, float)))
    moved = np.zeros_like(signal)
    if by == 0:
        return signal.copy()
    if rng.random() < 0.5:
        moved[..., by:] = signal[..., :-by]
    else:
        moved[..., :-by] = signal[..., by:]
    return moved


def time_stretch(
    signal: np.ndarray, rng: Generator, rates: Sequence[float] = SPEEDS
) -> np.ndarray:
    """Return a signal played faster or slower at the same pitch (phase vocoder).

    Args:
        signal: float32, (samples,) or (channels, samples).
        rng: Random generator; it draws the rate.
        rates: Speeds; 2 halves the length, 0.5 doubles it.
    """
    import librosa

    rate = float(rng.choice(np.asarray(rates, float)))
    return librosa.effects.time_stretch(signal, rate=rate).astype(np.float32)


def reverse(signal: np.ndarray, rng: Generator | None = None) -> np.ndarray:
    """Return a signal (..., samples) from its end to its beginning."""
    return np.ascontiguousarray(signal[..., ::-1])


WAVEFORM: Mapping[str, Callable[[np.ndarray, Generator], np.ndarray]] = {
    "noise": white_noise,
    "shift": time_shift,
    "stretch": time_stretch,
    "reversal": reverse,
}


def cepstrum_noise(
    x: np.ndarray, rng: Generator, deviation: float = 0.005, *, relative: bool = True
) -> np.ndarray:
    """Return clips with Gaussian noise on every value.

    Args:
        x: float32, (clips, frames, coefficients).
        rng: Random generator.
        deviation: Standard deviation of the noise.
        relative: True if `deviation` is a share of the standard deviation of each
            coefficient over the clip; False if it is added outright, as the
            repository does, which is nothing beside a c0 of minus 500.
    """
    scale = np.float32(deviation)
    if relative:
        scale = scale * x.std(axis=1, keepdims=True)
    return x + scale * rng.standard_normal(x.shape, np.float32)


def cepstrum_shift(x: np.ndarray, rng: Generator, frames: int = 2) -> np.ndarray:
    """Return clips moved by up to `frames` frames; the edge frame is repeated."""
    by = rng.integers(-frames, frames + 1, (len(x), 1))
    source = np.clip(np.arange(x.shape[1]) - by, 0, x.shape[1] - 1)
    return np.take_along_axis(x, source[..., None], axis=1)


def frame_mask(x: np.ndarray, rng: Generator, width: int = 2) -> np.ndarray:
    """Return clips with `width` neighbouring frames at the clip's mean."""
    return _masked(x, rng, width, axis=1)


def coefficient_mask(x: np.ndarray, rng: Generator, width: int = 2) -> np.ndarray:
    """Return clips with `width` neighbouring coefficients at their mean."""
    return _masked(x, rng, width, axis=2)


def _masked(x: np.ndarray, rng: Generator, width: int, axis: int) -> np.ndarray:
    """Return clips with a run of places along an axis set to the mean over time."""
    length = x.shape[axis]
    begin = rng.integers(0, max(length - width, 0) + 1, (len(x), 1))
    place = np.arange(length)
    inside = (place >= begin) & (place < begin + width)
    shape = (len(x), length, 1) if axis == 1 else (len(x), 1, length)
    return np.where(inside.reshape(shape), x.mean(axis=1, keepdims=True), x)


def crop(x: np.ndarray, rng: Generator, share: float = 0.9) -> np.ndarray:
    """Return a random part of each clip, stretched to the old number of frames."""
    frames = x.shape[1]
    start = rng.uniform(0, (1 - share) * (frames - 1), (len(x), 1))
    return _resampled(x, start + share * np.arange(frames))


def stretch(
    x: np.ndarray, rng: Generator, low: float = 0.9, high: float = 1.1
) -> np.ndarray:
    """Return clips played at another speed; the last frame is repeated at need."""
    rate = rng.uniform(low, high, (len(x), 1))
    return _resampled(x, rate * np.arange(x.shape[1]))


def _resampled(x: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return clips read at fractional frames (clips, frames), linearly between."""
    places = np.clip(places, 0, x.shape[1] - 1)
    below = np.floor(places).astype(int)
    above = np.minimum(below + 1, x.shape[1] - 1)
    share = (places - below)[..., None].astype(np.float32)
    return (
        np.take_along_axis(x, below[..., None], axis=1) * (1 - share)
        + np.take_along_axis(x, above[..., None], axis=1) * share
    )


CEPSTRUM: Mapping[str, Callable[[np.ndarray, Generator], np.ndarray]] = {
    "noise": cepstrum_noise,
    "shift": cepstrum_shift,
    "frame_mask": frame_mask,
    "coefficient_mask": coefficient_mask,
    "crop": crop,
    "stretch": stretch,
}


def augment_cepstra(
    x: np.ndarray,
    rng: Generator,
    transforms: Sequence[str] = tuple(CEPSTRUM),
    probability: float = 0.5,
) -> np.ndarray:
    """Return clips, each transform applied to a random share of them.

    Args:
        x: float32, (clips, frames, coefficients); left as it is.
        rng: Random generator; the same one gives the same clips.
        transforms: Names from `CEPSTRUM`, applied in this order.
        probability: Share of the clips that each is applied to.

    Returns:
        A new array of the same shape.

    Raises:
        ValueError: For an unknown transform, or a probability outside [0, 1].
    """
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
    if not isinstance(names, list | tuple) or not names:
        raise ValueError(f"transforms is {names!r}; give a list of {', '.join(known)}")
    for name in names:
        if name not in known:
            raise ValueError(
                f"there is no transform {name!r}; there are: {', '.join(known)}"
            )
