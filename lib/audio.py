"""From one recording to one array: the front ends of the published systems.

Their numbers are part of the models: the same weights on the same audio lose up to
eight points when only the resampler is changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import numpy as np
import pydantic.dataclasses
import scipy.fft
import scipy.signal
import threadpoolctl
import yaml
from pydantic import Field

from lib import config, corpora
from lib.corpora.check import read_blocks

OFFICIAL = "timnet_official"  # the authors' own arrays; see lib.official
OFFICIAL_RATE = 22_050  # Hz; the unit of Corpus.clip_samples
FRAMES_AT_A_TIME = 32  # so that they stay in the processor's cache

Count = Annotated[int, Field(ge=1)]
OneOrTwo = Annotated[int, Field(ge=1, le=2)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@pydantic.dataclasses.dataclass(frozen=True, config={"strict": True})
class FrontEnd:
    """Every number that decides the features; `PRESETS` has the published ones."""

    # "egemaps": the 88 functionals of eGeMAPSv02, one row for the whole clip.
    kind: Literal["cepstrum", "egemaps"] = "cepstrum"
    sample_rate: Count = 22_050  # Hz, after resampling
    clip_seconds: Amount = 0.0  # clips are padded or cropped to it; 0: the corpus's own
    # "all": the utterance is cut from its beginning into pieces of clip_seconds, the
    # rest is dropped. A row stays one utterance, so that folds never part its pieces.
    pieces: Literal["one", "all"] = "one"
    channels: OneOrTwo = 1  # 1: their mean; 2: left, then right along time
    # "percentile": divided by the 99.9th of the magnitudes and clipped to [-1, 1].
    scale: Literal["none", "percentile"] = "none"
    window: str = "hann"  # a name that scipy.signal.get_window knows
    frame_samples: Count = 2048  # length of the window
    hop_samples: Count = 512  # between two frames
    fft_samples: Count = 2048
    padding: Literal["constant", "reflect", "none"] = "constant"  # "none": not centred
    power: OneOrTwo = 2  # 1: magnitudes; 2: power spectrum
    mel_bands: Count = 128
    # "slaney": of equal area; "htk_in_mel": triangles in mel, as TensorFlow has them.
    mel_filters: Literal["slaney", "htk", "htk_in_mel"] = "slaney"
    mel_rate: Annotated[int, Field(ge=0)] = 0  # Hz the filters assume; 0: sample_rate
    low_hertz: Amount = 0.0
    high_hertz: Amount = 0.0  # 0: half the rate
    # "decibel": not below the clip's maximum less 80 dB; "natural": of value + 1e-6.
    logarithm: Literal["decibel", "natural"] = "decibel"
    coefficients: Count = 39  # from c0
    limit: Amount = 0.0  # coefficients are clipped to +-limit; 0: they are not

    @property
    def hop_seconds(self) -> float:
        """Time between two frames in seconds."""
        return self.hop_samples / self.sample_rate

    @pydantic.model_validator(mode="after")
    def _check_together(self) -> FrontEnd:
        half = (self.mel_rate or self.sample_rate) / 2
        high = self.high_hertz or half
        piece = self.clip_seconds * self.sample_rate
        faults = {
            "hop_samples exceeds frame_samples": self.hop_samples > self.frame_samples,
            "frame_samples exceeds fft_samples": self.frame_samples > self.fft_samples,
            "coefficients exceeds mel_bands": self.coefficients > self.mel_bands,
            "low_hertz is not below high_hertz": self.low_hertz >= high,
            f"high_hertz is above half the rate, {half:g}": high > half,
            "pieces 'all' needs clip_seconds": self.pieces == "all" and piece < 1,
        }
        for message, there in faults.items():
            if there:
                raise ValueError(message)
        scipy.signal.get_window(self.window, self.frame_samples)
        return self


_PRESETS = Path(__file__).parent / "data" / "front_ends.yaml"
PRESETS: Mapping[str, FrontEnd] = {
    name: FrontEnd(**values)
    for name, values in yaml.safe_load(_PRESETS.read_text(encoding="utf-8")).items()
}


def front_end(preset: str, options: Mapping[str, object] | None = None) -> FrontEnd:
    """Return a preset with some of its values replaced."""
    options = dict(options or {})
    if preset == OFFICIAL:
        way = "run 01_preprocess with official_features set to the authors' .npy file"
        raise ValueError(f"features '{OFFICIAL}' are imported, not extracted: {way}")
    own = dataclasses.asdict(PRESETS.get(preset, FrontEnd()))
    given = [("preset", preset, PRESETS), *(("option", name, own) for name in options)]
    for kind, name, known in given:
        if name not in known:
            hint = config.did_you_mean(name, known)
            raise ValueError(f"unknown feature {kind} '{name}'{hint}")
    try:
        made = FrontEnd(**(own | options))
    except pydantic.ValidationError as error:
        fault = error.errors()[0]
        told = ": ".join([*fault["loc"], fault["msg"].removeprefix("Value error, ")])
        raise ValueError(f"feature options {options}: {told}") from None
    # A value without effect must not give the same numbers another name.
    if made.mel_rate == made.sample_rate:
        made = dataclasses.replace(made, mel_rate=0)
    if made.high_hertz == (made.mel_rate or made.sample_rate) / 2:
        made = dataclasses.replace(made, high_hertz=0.0)
    only = dataclasses.replace(PRESETS["egemaps"], sample_rate=made.sample_rate)
    if made.kind == "egemaps" and made != only:
        raise ValueError("of the options of 'egemaps' only sample_rate can be replaced")
    return made


def preset_name(preset: str, options: Mapping[str, object] | None = None) -> str:
    """Return the name of a preset's files: replaced values add eight hex digits."""
    chosen = front_end(preset, options)
    if chosen == PRESETS[preset]:
        return preset
    return f"{preset}-{config.digest(dataclasses.asdict(chosen))}"


def load_audio(source: Path | BinaryIO, settings: FrontEnd) -> np.ndarray:
    """Read float32 (channels, samples), resampled to the rate of the front end."""
    import librosa  # in functions: training on ready-made features does not need them
    import soundfile

    try:
        with soundfile.SoundFile(source) as sound:
            samples = read_blocks(sound)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"not readable as audio: {error.error_string}") from error
    if not len(samples):
        raise ValueError("holds no samples")
    if not np.isfinite(samples).all():
        raise ValueError("holds samples that are not finite numbers")
    if settings.channels == 1:
        channels = samples.T.mean(axis=0, keepdims=True)
    else:
        channels = np.tile(samples.T, (2, 1))[:2]
    rates = {"orig_sr": sound.samplerate, "target_sr": settings.sample_rate}
    return librosa.resample(channels, **rates)


def pad_or_crop(samples: np.ndarray, length: int) -> np.ndarray:
    """Centre a signal (..., samples) in `length`: zeros around, or its middle."""
    # As the official TIM-Net does, an odd difference puts the extra zero at the end,
    # and crops from the rounded-down start.
    lacking = length - samples.shape[-1]
    start, left = max(0, -lacking) // 2, max(0, lacking) // 2
    around = [(0, 0)] * (samples.ndim - 1) + [(left, max(0, lacking) - left)]
    return np.pad(samples[..., start : start + length], around)


def clip_length(settings: FrontEnd, corpus: corpora.Corpus) -> int:
    """Return the samples of a clip, or of a piece, at the rate of the front end."""
    seconds = settings.clip_seconds or corpus.clip_samples / OFFICIAL_RATE
    return round(seconds * settings.sample_rate)


def num_frames(settings: FrontEnd, length: int) -> int:
    """Return how many frames a clip of `length` samples has, per channel."""
    if settings.kind == "egemaps":
        return 1
    outside = settings.fft_samples if settings.padding == "none" else 0
    return 1 + (length - outside) // settings.hop_samples


@functools.lru_cache(maxsize=16)
def mel_filters(settings: FrontEnd) -> np.ndarray:
    """Return the filter bank, float32, (mel_bands, fft_samples / 2 + 1)."""
    import librosa

    rate, size = settings.mel_rate or settings.sample_rate, settings.fft_samples
    low, high = settings.low_hertz, settings.high_hertz or rate / 2
    if settings.mel_filters != "htk_in_mel":
        htk = settings.mel_filters == "htk"
        kind = {"htk": htk, "norm": None if htk else "slaney"}
        band = {"n_mels": settings.mel_bands, "fmin": low, "fmax": high}
        return librosa.filters.mel(sr=rate, n_fft=size, **band, **kind)
    mels = librosa.hz_to_mel(librosa.fft_frequencies(sr=rate, n_fft=size), htk=True)
    ends = librosa.hz_to_mel(np.array([low, high]), htk=True)
    edges = np.linspace(*ends, settings.mel_bands + 2)[:, np.newaxis]
    rising = (mels - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mels) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0, np.minimum(rising, falling))
    filters[:, 0] = 0  # the constant part of a signal carries no speech
    return filters.astype(np.float32)


def mel_spectrogram(samples: np.ndarray, settings: FrontEnd) -> np.ndarray:
    """Return the mel spectrogram (mel_bands, frames) of one channel (samples,)."""
    size = settings.fft_samples
    if settings.padding != "none":
        samples = np.pad(samples, size // 2, mode=settings.padding)
    if len(samples) < size:
        raise ValueError(f"{len(samples)} samples are shorter than a frame of {size}")
    window = scipy.signal.get_window(settings.window, settings.frame_samples)
    window = pad_or_crop(window, size)
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)
    frames = frames[:: settings.hop_samples]  # (frames, fft_samples)
    magnitudes = np.empty((len(frames), size // 2 + 1), np.float32)
    for start in range(0, len(frames), FRAMES_AT_A_TIME):
        some = slice(start, start + FRAMES_AT_A_TIME)
        # librosa's roundings: the transform in double precision, the rest in single.
        spectra = scipy.fft.rfft(frames[some] * window)
        magnitudes[some] = np.abs(spectra.astype(np.complex64))
    magnitudes **= settings.power
    return mel_filters(settings) @ magnitudes.T


def cepstrum(samples: np.ndarray, settings: FrontEnd) -> np.ndarray:
    """Return the cepstra (frames, coefficients) of a clip (channels, samples)."""
    import librosa

    rows = []  # the frames of the left channel, then those of the right one
    for channel in samples:
        mel = mel_spectrogram(channel, settings)
        if settings.logarithm == "decibel":
            logarithm = librosa.power_to_db(mel, top_db=80.0)
        else:
            logarithm = np.log(mel + 1e-6)
        kept = scipy.fft.dct(logarithm, axis=0, norm="ortho")[: settings.coefficients]
        if settings.logarithm == "natural":
            kept[0] *= np.sqrt(2.0)  # TensorFlow scales c0 like the other ones
        rows.append(kept.T)
    limit = settings.limit or np.inf
    return np.clip(np.concatenate(rows), -limit, limit)


def features_of(samples: np.ndarray, settings: FrontEnd, length: int) -> np.ndarray:
    """Return float32 ([pieces,] frames, coefficients) of (channels, samples)."""
    if settings.kind == "egemaps":
        return _functionals(samples[0], settings.sample_rate)
    if settings.pieces == "one":
        # Crop first: loudness outside the clip must not decide its scale.
        samples = pad_or_crop(samples, min(length, samples.shape[-1]))
    if settings.scale == "percentile":
        loud = np.percentile(np.abs(samples), 99.9) or 1.0
        samples = np.clip(samples / loud, -1.0, 1.0)
    count = samples.shape[-1] // length
    if settings.pieces == "one" or not count:
        clips = [pad_or_crop(samples, length)]
    else:
        clips = np.split(samples[..., : count * length], count, axis=-1)
    made = np.stack([cepstrum(clip, settings) for clip in clips])
    return made if settings.pieces == "all" else made[0]


def extract(source: Path | BinaryIO, settings: FrontEnd, length: int) -> np.ndarray:
    """Return float32 ([pieces,] frames, coefficients) of one audio file."""
    with one_thread_a_product():
        return features_of(load_audio(source, settings), settings, length)


_blas = threadpoolctl.ThreadpoolController()
_limiting, _in_opensmile = threading.Lock(), threading.Lock()


@contextlib.contextmanager
def one_thread_a_product() -> Iterator[None]:
    """Keep matrix products to one thread each; who comes second waits."""
    # Several threads sum in another order: a cached clip would differ from one that is
    # extracted alone. The limit is the process's: two would lift it for each other.
    with _limiting, _blas.limit(limits=1, user_api="blas"):
        yield


@functools.cache
def _smile():
    try:
        import opensmile
    except ModuleNotFoundError as error:
        way = "install it with `.venv/bin/python -m pip install opensmile`"
        raise ModuleNotFoundError(f"'egemaps' need opensmile: {way}") from error
    return opensmile.Smile("eGeMAPSv02", "func")


def _functionals(samples: np.ndarray, rate: int) -> np.ndarray:
    """Return the eGeMAPS of one channel, float32, (1, 88); what is undefined is 0."""
    with _in_opensmile:  # which does not promise that threads may share it
        row = _smile().process_signal(samples, rate).to_numpy(np.float32)
    if np.isnan(row).all():
        raise ValueError(f"{len(samples)} samples are too short for eGeMAPS")
    return np.nan_to_num(row, nan=0.0, posinf=0.0, neginf=0.0)
