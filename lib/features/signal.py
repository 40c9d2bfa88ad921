"""From one audio file to samples, and on to one array of features."""

from __future__ import annotations

import contextlib
import functools
import math
import threading
import typing
import wave
from pathlib import Path

import numpy as np
import soundfile
import soxr
import threadpoolctl

from lib.corpora.audio_checks import read_audio
from lib.corpora.base import Corpus
from lib.features import egemaps
from lib.features.frontend import FrontEnd
from lib.features.scratch import scratch
from lib.features.spectrum import cepstrum

OFFICIAL_RATE = 22_050  # Hz; the unit of Corpus.clip_samples


def load_audio(source: Path | typing.BinaryIO, settings: FrontEnd) -> np.ndarray:
    """Read an audio file, mix or keep its channels, and resample it.

    Args:
        source: An audio file, or an open binary file.
        settings: The front end; uses `sample_rate` and `channels`.

    Returns:
        Samples in [-1, 1], float32, shape (channels, samples).

    Raises:
        ValueError: If the content is no audio, is empty, or holds no samples or
            some that are not numbers.
    """
    samples, rate = _pcm_16(source) or _any_audio(source)
    if not len(samples):
        raise ValueError("holds no samples")
    channels = samples.T
    if settings.channels == 1 and len(channels) > 1:
        channels = channels.mean(axis=0, keepdims=True)
    elif settings.channels > len(channels):
        channels = np.repeat(channels, 2, axis=0)
    resampled = [
        _resampled(channel, rate, settings.sample_rate)
        for channel in channels[: settings.channels]
    ]
    return np.stack(resampled) if len(resampled) > 1 else resampled[0][np.newaxis]


def _any_audio(source: Path | typing.BinaryIO) -> tuple[np.ndarray, int]:
    """Return samples (n, channels) in [-1, 1], float32, and their rate."""
    try:
        samples, sound = read_audio(source)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"not readable as audio: {error.error_string}") from error
    if not np.isfinite(samples).all():
        raise ValueError("holds samples that are not finite numbers")
    return samples, sound.samplerate


def _pcm_16(source: Path | typing.BinaryIO) -> tuple[np.ndarray, int] | None:
    """Return what `_any_audio` does for a plain 16-bit WAV file, else None.

    The samples are overwritten by those of this thread's next file.

    Most corpora are such files. The audio library reads an open file by calls back
    to Python, which the threads of an extraction have to make one after the other.
    """
    try:
        with wave.open(source if hasattr(source, "read") else str(source)) as file:
            content = file.readframes(file.getnframes())
            width, channels, rate = (
                file.getsampwidth(),
                file.getnchannels(),
                file.getframerate(),
            )
            whole = len(content) == file.getnframes() * width * channels
    except (wave.Error, EOFError):
        whole, width = False, 0
    if whole and width == 2:
        whole_numbers = np.frombuffer(content, "<i2").reshape(-1, channels)
        samples = scratch("samples", whole_numbers.shape, np.float32)
        return np.multiply(whole_numbers, np.float32(1 / 32768), out=samples), rate
    if hasattr(source, "seek"):
        source.seek(0)
    return None


def _resampled(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Return a copy of one channel at another rate, as long as librosa has it."""
    if rate == wanted:
        return samples.copy()
    resampled = soxr.resample(samples, rate, wanted, quality="HQ")
    # The filter may end one sample early or late.
    length = math.ceil(len(samples) * (wanted / rate))
    missing = max(0, length - len(resampled))
    return np.pad(resampled, (0, missing)) if missing else resampled[:length]


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
    padded = np.zeros((*samples.shape[:-1], length), samples.dtype)
    padded[..., left : left + samples.shape[-1]] = samples
    return padded


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
        source: An audio file, or an open binary file.
        settings: The front end.
        length: Clip length in samples at the front end's rate.

    Returns:
        As `features_of`.

    Raises:
        ValueError: If the file is no audio or holds no samples.
    """
    with single_threaded_products():
        return features_of(load_audio(source, settings), settings, length)


_one_at_a_time = threading.Lock()


@contextlib.contextmanager
def single_threaded_products():
    """Keep matrix products to one thread each; who comes second waits.

    A product shared between threads is summed in another order, and a cache would
    not hold the very numbers of a clip that is extracted alone. The limit is one of
    the whole process, so that two who set it would lift it for each other.
    """
    with _one_at_a_time, _threads().limit(limits=1, user_api="blas"):
        yield


@functools.cache
def _threads() -> threadpoolctl.ThreadpoolController:
    """Return what holds the numerical libraries to so many threads."""
    return threadpoolctl.ThreadpoolController()
