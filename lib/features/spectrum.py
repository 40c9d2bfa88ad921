"""From the samples of a clip to its mel spectrogram and cepstral coefficients."""

from __future__ import annotations

import functools

import librosa
import numpy as np
import scipy.fft
import scipy.signal

from lib.features.frontend import FrontEnd
from lib.features.scratch import scratch

# Frames transformed at a time: few, so that they stay in the processor's cache, but
# not fewer, since threads wait for each other between two calls.
BLOCK = 64


def mel_spectrogram(samples: np.ndarray, settings: FrontEnd) -> np.ndarray:
    """Return the mel spectrogram of one channel, before the logarithm.

    Args:
        samples: Shape (samples,).
        settings: The front end.

    Returns:
        Non-negative, float32, shape (mel_bands, frames).

    Raises:
        ValueError: If frames are not centred and the signal is shorter than one.
    """
    samples = _padded(samples, settings)
    frames = np.lib.stride_tricks.sliding_window_view(samples, settings.fft_samples)
    frames = frames[:: settings.hop_samples]
    shape = len(frames), settings.fft_samples // 2 + 1
    power = scratch("power", shape, np.float32)
    heard = _heard(samples, settings)
    power[: heard.start] = power[heard.stop :] = 0
    _magnitudes(frames[heard], settings, power[heard])
    if settings.power == 2:
        np.square(power[heard], out=power[heard])
    # Filters are zero nearly everywhere, and so are silent frames. Without those the
    # product would be sooner done, but rounded otherwise than librosa's.
    return mel_filters(settings) @ power.T


def _heard(samples: np.ndarray, settings: FrontEnd) -> slice:
    """Return the frames with samples other than zero, and those between them.

    The frames beside them, as a padded clip has, have a spectrum of zeros.
    """
    sounding = (samples != 0).tobytes()
    first, last = sounding.find(1), sounding.rfind(1)
    if first < 0:
        return slice(0, 0)
    hop = settings.hop_samples
    return slice(max(0, (first - settings.fft_samples) // hop + 1), last // hop + 1)


def _padded(samples: np.ndarray, settings: FrontEnd) -> np.ndarray:
    """Return a signal as its frames are cut from it, the first one at its start.

    In double precision, as the window is: a sample is in several frames, and would
    be turned into it in each.
    """
    size = settings.fft_samples
    if settings.padding == "constant":
        padded = scratch("padded", (len(samples) + 2 * (size // 2),), np.float64)
        padded[: size // 2] = padded[size // 2 + len(samples) :] = 0
        padded[size // 2 : size // 2 + len(samples)] = samples
        return padded
    samples = samples.astype(np.float64)
    if settings.padding != "none":
        return np.pad(samples, size // 2, mode=settings.padding)
    if len(samples) < size:
        raise ValueError(
            f"{len(samples)} samples are shorter than one frame of {size}; "
            "set a longer clip_seconds"
        )
    return samples


def _magnitudes(frames: np.ndarray, settings: FrontEnd, out: np.ndarray) -> None:
    """Write the spectra of frames to `out`, (frames, fft_samples / 2 + 1)."""
    window = _window(settings)
    size = settings.fft_samples
    weighted = scratch("weighted", (BLOCK, size), np.float64)
    spectra = scratch("spectra", (BLOCK, size // 2 + 1), np.complex128)
    single = scratch("single", spectra.shape, np.complex64)
    for start in range(0, len(frames), BLOCK):
        part = frames[start : start + BLOCK]
        count = len(part)
        # librosa's roundings: the transform in double precision, the rest in
        # single. Quiet bands lie 80 dB below loud ones.
        np.multiply(part, window, out=weighted[:count])
        np.fft.rfft(weighted[:count], out=spectra[:count])
        single[:count] = spectra[:count]
        np.abs(single[:count], out=out[start : start + count])


@functools.lru_cache(maxsize=16)
def _window(settings: FrontEnd) -> np.ndarray:
    """Return the window in the middle of a frame, float64, (fft_samples,)."""
    window = scipy.signal.get_window(settings.window, settings.frame_samples)
    before = (settings.fft_samples - settings.frame_samples) // 2
    after = settings.fft_samples - settings.frame_samples - before
    return np.pad(window, (before, after))


@functools.lru_cache(maxsize=16)
def mel_filters(settings: FrontEnd) -> np.ndarray:
    """Return the filter bank, float32, shape (mel_bands, fft_samples / 2 + 1)."""
    rate = settings.mel_rate or settings.sample_rate
    high = settings.high_hertz or rate / 2
    if settings.mel_filters == "htk_in_mel":
        return _filters_in_mel(settings, rate, high)
    return librosa.filters.mel(
        sr=rate,
        n_fft=settings.fft_samples,
        n_mels=settings.mel_bands,
        fmin=settings.low_hertz,
        fmax=high,
        htk=settings.mel_filters == "htk",
        norm="slaney" if settings.mel_filters == "slaney" else None,
    )


def _filters_in_mel(settings: FrontEnd, rate: int, high: float) -> np.ndarray:
    """Return triangles of height one that are straight on the HTK mel axis."""
    hertz = np.linspace(0, rate / 2, settings.fft_samples // 2 + 1)
    mels = librosa.hz_to_mel(hertz, htk=True)[np.newaxis]
    edges = np.linspace(
        librosa.hz_to_mel(settings.low_hertz, htk=True),
        librosa.hz_to_mel(high, htk=True),
        settings.mel_bands + 2,
    )[:, np.newaxis]
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    rising = (mels - lower) / (centre - lower)
    falling = (upper - mels) / (upper - centre)
    filters = np.maximum(0, np.minimum(rising, falling))
    filters[:, 0] = 0  # the constant part of a signal carries no speech
    return filters.astype(np.float32)


def cepstrum(samples: np.ndarray, settings: FrontEnd) -> np.ndarray:
    """Return the cepstral coefficients of one clip.

    Args:
        samples: Shape (channels, samples), of the final length.
        settings: The front end.

    Returns:
        float32, shape (frames, coefficients); with two channels the frames of
        the left one are followed by those of the right one.
    """
    rows = [_cepstrum_of_channel(channel, settings) for channel in samples]
    return np.concatenate(rows)


def _cepstrum_of_channel(samples: np.ndarray, settings: FrontEnd) -> np.ndarray:
    mel = mel_spectrogram(samples, settings)
    if settings.logarithm == "decibel":
        logarithm = 10.0 * np.log10(np.maximum(mel, 1e-10))
        logarithm = np.maximum(logarithm, logarithm.max() - 80.0)
    else:
        logarithm = np.log(mel + 1e-6)
    spectrum = scipy.fft.dct(logarithm, type=2, norm="ortho", axis=0)
    kept = spectrum[: settings.coefficients]
    if settings.logarithm == "natural":
        # TensorFlow scales every coefficient like the ortho form's c1, c2, ...
        kept[0] *= np.sqrt(2.0)
    if settings.limit:
        kept = np.clip(kept, -settings.limit, settings.limit)
    return np.ascontiguousarray(kept.T, dtype=np.float32)
