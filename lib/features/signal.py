"""From one audio file to one array of cepstral coefficients."""

from __future__ import annotations

import contextlib
import functools
import math
import threading
import typing
import wave
from pathlib import Path

import librosa
import numpy as np
import scipy.fft
import scipy.signal
import soundfile
import soxr
import threadpoolctl

from lib.corpora.base import Corpus
from lib.features import egemaps
from lib.features.frontend import FrontEnd

OFFICIAL_RATE = 22_050  # Hz; the unit of Corpus.clip_samples
# Frames transformed at a time: few, so that they stay in the processor's cache, but
# not fewer, since threads wait for each other between two calls.
BLOCK = 64


def load_audio(source: Path | typing.BinaryIO, settings: FrontEnd) -> np.ndarray:
    """Read an audio file, mix or keep its channels, and resample it.

    Args:
        source: A WAV or FLAC file, or an open binary file.
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
    if not np.isfinite(samples).all():
        raise ValueError("holds samples that are not finite numbers")
    channels = samples.T
    if settings.channels == 1 and len(channels) > 1:
        channels = channels.mean(axis=0, keepdims=True)
    elif settings.channels > len(channels):
        channels = np.repeat(channels, 2, axis=0)
    resampled = [
        _resampled(channel, rate, settings.sample_rate)
        for channel in channels[: settings.channels]
    ]
    return np.stack(resampled)


def _any_audio(source: Path | typing.BinaryIO) -> tuple[np.ndarray, int]:
    """Return samples (n, channels) in [-1, 1], float32, and their rate."""
    try:
        return soundfile.read(source, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"not readable as audio: {error.error_string}") from error


def _pcm_16(source: Path | typing.BinaryIO) -> tuple[np.ndarray, int] | None:
    """Return what `_any_audio` does for a plain 16-bit WAV file, else None.

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
        samples = np.frombuffer(content, "<i2").reshape(-1, channels)
        return samples * np.float32(1 / 32768), rate
    if hasattr(source, "seek"):
        source.seek(0)
    return None


def _resampled(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Return one channel at another rate, with as many samples as librosa keeps."""
    if rate == wanted:
        return samples
    resampled = soxr.resample(samples, rate, wanted, quality="HQ")
    # The filter may end one sample early or late.
    length = math.ceil(len(samples) * (wanted / rate))
    return np.pad(resampled[:length], (0, max(0, length - len(resampled))))


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
    power = np.zeros((len(frames), settings.fft_samples // 2 + 1), np.float32)
    heard = _heard(samples, settings)
    _magnitudes(frames[heard], settings, power[heard])
    if settings.power == 2:
        np.square(power, out=power)
    # Filters are zero nearly everywhere, and so are silent frames. Without those the
    # product would be sooner done, but rounded otherwise than librosa's.
    return mel_filters(settings) @ power.T


def _heard(samples: np.ndarray, settings: FrontEnd) -> slice:
    """Return the frames with samples other than zero, and those between them.

    The frames beside them, as a padded clip has, have a spectrum of zeros.
    """
    sounding = samples != 0
    if not sounding.any():
        return slice(0, 0)
    first = int(sounding.argmax())
    last = len(samples) - 1 - int(sounding[::-1].argmax())
    hop = settings.hop_samples
    return slice(max(0, (first - settings.fft_samples) // hop + 1), last // hop + 1)


def _padded(samples: np.ndarray, settings: FrontEnd) -> np.ndarray:
    """Return a signal as its frames are cut from it, the first one at its start."""
    size = settings.fft_samples
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
    for start in range(0, len(frames), BLOCK):
        # librosa's roundings: the transform in double precision, the rest in
        # single. Quiet bands lie 80 dB below loud ones.
        part = scipy.fft.rfft(frames[start : start + BLOCK] * window)
        np.abs(part.astype(np.complex64), out=out[start : start + BLOCK])


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
