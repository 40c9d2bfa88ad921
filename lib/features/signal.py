"""From one audio file to one array of cepstral coefficients."""

from __future__ import annotations

import functools
import typing
from pathlib import Path

import librosa
import numpy as np
import scipy.fft
import scipy.sparse
import soundfile

from lib.corpora.base import Corpus
from lib.features import egemaps
from lib.features.frontend import FrontEnd

OFFICIAL_RATE = 22_050  # Hz; the unit of Corpus.clip_samples


def load_audio(source: Path | typing.BinaryIO, settings: FrontEnd) -> np.ndarray:
    """Read an audio file, mix or keep its channels, and resample it.

    Args:
        source: A WAV or FLAC file, or an open binary file.
        settings: The front end; uses `sample_rate` and `channels`.

    Returns:
        Samples in [-1, 1], float32, shape (channels, samples).

    Raises:
        ValueError: If the content is no audio, is empty or holds no samples.
    """
    try:
        samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"not readable as audio: {error.error_string}") from error
    if not len(samples):
        raise ValueError("holds no samples")
    channels = samples.T
    if settings.channels == 1:
        channels = librosa.to_mono(channels)[np.newaxis]
    elif len(channels) == 1:
        channels = np.repeat(channels, 2, axis=0)
    resampled = librosa.resample(
        channels[: settings.channels],
        orig_sr=rate,
        target_sr=settings.sample_rate,
        res_type="soxr_hq",
    )
    return np.ascontiguousarray(resampled, dtype=np.float32)


def pad_or_crop(samples: np.ndarray, length: int) -> np.ndarray:
    """Centre a signal in `length` samples: zeros around it, or its middle.

    An odd difference puts the extra zero at the end, and crops from the
    rounded-down start, as the official TIM-Net code does.

    Args:
        samples: Shape (..., samples).
        length: Number of samples wanted.

    Returns:
        Shape (..., length).
    """
    missing = length - samples.shape[-1]
    if missing <= 0:
        start = -missing // 2
        return samples[..., start : start + length]
    left = missing // 2
    widths = [(0, 0)] * (samples.ndim - 1) + [(left, missing - left)]
    return np.pad(samples, widths)


def clip_length(settings: FrontEnd, corpus: Corpus) -> int:
    """Return the length of every clip in samples at the front end's rate."""
    seconds = settings.clip_seconds or corpus.clip_samples / OFFICIAL_RATE
    return round(seconds * settings.sample_rate)


def num_frames(settings: FrontEnd, length: int) -> int:
    """Return how many frames a clip of `length` samples has, per channel."""
    if settings.kind == "egemaps":
        return 1
    if settings.padding == "none":
        return 1 + (length - settings.frame_samples) // settings.hop_samples
    return 1 + length // settings.hop_samples


def mel_spectrogram(samples: np.ndarray, settings: FrontEnd) -> np.ndarray:
    """Return the mel spectrogram of one channel, before the logarithm.

    Args:
        samples: Shape (samples,).
        settings: The front end.

    Returns:
        Non-negative, float32, shape (mel_bands, frames).
    """
    centred = settings.padding != "none"
    if not centred and len(samples) < settings.fft_samples:
        raise ValueError(
            f"{len(samples)} samples are shorter than one frame of "
            f"{settings.fft_samples}; set a longer clip_seconds"
        )
    spectrum = librosa.stft(
        samples,
        n_fft=settings.fft_samples,
        hop_length=settings.hop_samples,
        win_length=settings.frame_samples,
        window=settings.window,
        center=centred,
        pad_mode=settings.padding if centred else "constant",
    )
    magnitude = np.abs(spectrum)
    if settings.power == 2:
        magnitude = np.square(magnitude)
    return _sparse_mel_filters(settings) @ np.ascontiguousarray(magnitude)


@functools.lru_cache(maxsize=16)
def _sparse_mel_filters(settings: FrontEnd) -> scipy.sparse.csr_array:
    # One weight in fifty is not zero; and a dense product would start BLAS's own
    # threads inside every worker.
    return scipy.sparse.csr_array(mel_filters(settings))


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
        logarithm = librosa.power_to_db(mel, top_db=80.0)
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


def rescale(samples: np.ndarray) -> np.ndarray:
    """Divide by the 99.9th percentile of the magnitudes and clip to [-1, 1]."""
    loud = np.percentile(np.abs(samples), 99.9)
    return np.clip(samples / loud, -1.0, 1.0) if loud > 0 else samples


def cut(samples: np.ndarray, length: int) -> list[np.ndarray]:
    """Return the pieces of `length` samples that a signal is made of.

    The rest is dropped; a signal shorter than one piece is padded to one.

    Args:
        samples: Shape (channels, samples).
        length: Samples of a piece.
    """
    count = samples.shape[-1] // length
    if not count:
        return [pad_or_crop(samples, length)]
    return np.split(samples[..., : count * length], count, axis=-1)


def features_of(samples: np.ndarray, settings: FrontEnd, length: int) -> np.ndarray:
    """Return the features of a signal.

    Args:
        samples: Shape (channels, samples), at the front end's rate.
        settings: The front end.
        length: Length of a clip, or of a piece, in samples.

    Returns:
        float32, shape (frames, coefficients), or (pieces, frames, coefficients).

    Raises:
        ModuleNotFoundError: If a package that the front end needs is missing.
    """
    if settings.kind == "egemaps":
        return egemaps.functionals(samples[0], settings.sample_rate)
    if settings.scale == "percentile":
        # Crop first: loudness outside the clip must not decide its scale.
        if settings.pieces == "one" and samples.shape[-1] > length:
            samples = pad_or_crop(samples, length)
        samples = rescale(samples)
    if settings.pieces == "all":
        return np.stack([cepstrum(piece, settings) for piece in cut(samples, length)])
    return cepstrum(pad_or_crop(samples, length), settings)


def extract(
    source: Path | typing.BinaryIO, settings: FrontEnd, length: int
) -> np.ndarray:
    """Return the features of one audio file.

    Args:
        source: A WAV or FLAC file, or an open binary file.
        settings: The front end.
        length: Clip length in samples at the front end's rate.

    Returns:
        As `features_of`.

    Raises:
        ValueError: If the file is no audio or holds no samples.
    """
    return features_of(load_audio(source, settings), settings, length)
