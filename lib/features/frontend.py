"""The front ends of the published systems, as named presets of numbers."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping

import scipy.signal

from lib import config

OFFICIAL = "timnet_official"  # the authors' own arrays; there is nothing to extract


@dataclasses.dataclass(frozen=True)
class FrontEnd:
    """Every number that decides the features.

    Attributes:
        kind: "cepstrum" for frames of cepstral coefficients; "egemaps" for the
            88 functionals of the extended Geneva minimalistic acoustic parameter
            set (eGeMAPSv02), one row for the whole clip, neither padded nor
            cropped, at `sample_rate`: no other value may be replaced. One rate
            for all keeps corpora comparable, as some functionals follow the
            band. It needs the optional package opensmile.
        sample_rate: Rate the audio is resampled to, in Hz.
        clip_seconds: Length every clip is padded or cropped to, in seconds;
            0 for the corpus's official length.
        pieces: "one" clip per utterance; "all" cuts the utterance from its
            beginning into pieces of `clip_seconds` and drops the rest, or pads
            it if it is shorter than one piece. A row of the features stays one
            utterance with all its pieces: folds are made of utterances, so no
            piece of a tested one can be trained on.
        channels: 1 for the mean of the channels; 2 for left and right one
            after the other along time (mono is taken twice).
        scale: "none", or "percentile": divide by the 99.9th percentile of the
            magnitudes and clip to [-1, 1].
        window: Name of the window.
        frame_samples: Length of the window in samples.
        hop_samples: Distance between frames in samples.
        fft_samples: Length of the Fourier transform in samples.
        padding: How the signal goes on beyond its ends so that frames are
            centred: "constant", "reflect", or "none" for uncentred frames.
        power: 2 for the power spectrum, 1 for the magnitude.
        mel_bands: Number of mel filters.
        mel_filters: "slaney" (area-normalised), "htk", or "htk_in_mel"
            (triangles straight in mel, not in hertz, as TensorFlow draws them).
        mel_rate: Sampling rate that the filters assume, in Hz; 0 for
            sample_rate. (One published front end assumes a wrong one.)
        low_hertz: Lowest frequency of the filters.
        high_hertz: Highest frequency of the filters; 0 for half the rate.
        logarithm: "decibel" (floor 80 dB below the clip's maximum) or
            "natural" (of the value plus 1e-6).
        coefficients: Number of cepstral coefficients kept, from c0.
        limit: Coefficients are clipped to ±limit; 0 for no limit.
    """

    kind: typing.Literal["cepstrum", "egemaps"] = "cepstrum"
    sample_rate: int = 22_050
    clip_seconds: float = 0.0
    pieces: typing.Literal["one", "all"] = "one"
    channels: typing.Literal[1, 2] = 1
    scale: typing.Literal["none", "percentile"] = "none"
    window: str = "hann"
    frame_samples: int = 2048
    hop_samples: int = 512
    fft_samples: int = 2048
    padding: typing.Literal["constant", "reflect", "none"] = "constant"
    power: typing.Literal[1, 2] = 2
    mel_bands: int = 128
    mel_filters: typing.Literal["slaney", "htk", "htk_in_mel"] = "slaney"
    mel_rate: int = 0
    low_hertz: float = 0.0
    high_hertz: float = 0.0
    logarithm: typing.Literal["decibel", "natural"] = "decibel"
    coefficients: int = 39
    limit: float = 0.0

    @property
    def hop_seconds(self) -> float:
        """Distance between two frames in seconds."""
        return self.hop_samples / self.sample_rate


PRESETS: Mapping[str, FrontEnd] = {
    # What the official TIM-Net code computes.
    "timnet": FrontEnd(),
    # What the TIM-Net paper says: 50 ms Hamming frames every 12.5 ms.
    "timnet_paper": FrontEnd(window="hamming", frame_samples=1102, hop_samples=275),
    # Light-SERNet's official code: 64 ms frames every 16 ms at 16 kHz.
    "lightsernet": FrontEnd(
        sample_rate=16_000,
        clip_seconds=3.0,
        scale="percentile",
        frame_samples=1024,
        hop_samples=256,
        fft_samples=1024,
        padding="none",
        power=1,
        mel_filters="htk_in_mel",
        low_hertz=80.0,
        high_hertz=7600.0,
        logarithm="natural",
        coefficients=40,
        limit=10.0,
    ),
    # CkTIM-net's augmented runs: two seconds of 48 kHz stereo, filters that
    # assume 22,050 Hz.
    "cktim": FrontEnd(
        sample_rate=48_000,
        clip_seconds=2.0,
        channels=2,
        window="hamming",
        frame_samples=1102,
        hop_samples=275,
        padding="reflect",
        mel_filters="htk",
        mel_rate=22_050,
    ),
    # The functionals that most classical systems are compared on.
    "egemaps": FrontEnd(kind="egemaps", sample_rate=16_000, coefficients=88),
}


def front_end(preset: str, options: Mapping[str, object] | None = None) -> FrontEnd:
    """Return a preset with some of its values replaced.

    Args:
        preset: One of `PRESETS`.
        options: Values by name; see `FrontEnd`.

    Raises:
        ValueError: For an unknown preset, an unknown name, or a value of the
            wrong type or range.
    """
    if preset == OFFICIAL:
        raise ValueError(
            f"features '{OFFICIAL}' are imported, not extracted: run 01_preprocess "
            "with official_features set to the authors' .npy file"
        )
    if preset not in PRESETS:
        hint = config.did_you_mean(preset, PRESETS)
        raise ValueError(f"unknown feature preset '{preset}'{hint}")
    chosen = dict(options or {})
    kinds = typing.get_type_hints(FrontEnd)
    for name, value in chosen.items():
        if name not in kinds:
            raise ValueError(
                f"unknown feature option '{name}'{config.did_you_mean(name, kinds)}"
            )
        chosen[name] = _checked(name, value, kinds[name])
    result = dataclasses.replace(PRESETS[preset], **chosen)
    # A value written out that 0 stands for must not give the same numbers another
    # name.
    if result.mel_rate == result.sample_rate:
        result = dataclasses.replace(result, mel_rate=0)
    if result.high_hertz == (result.mel_rate or result.sample_rate) / 2:
        result = dataclasses.replace(result, high_hertz=0.0)
    if result.hop_samples > result.frame_samples:
        raise ValueError(
            f"hop_samples {result.hop_samples} exceeds frame_samples "
            f"{result.frame_samples}: audio between the frames would not count"
        )
    piece = round(result.clip_seconds * result.sample_rate)
    if result.pieces == "all" and piece < 1:
        raise ValueError("pieces 'all' needs clip_seconds, the length of a piece")
    # An option without effect would only give the same numbers another name.
    functionals = dataclasses.replace(
        PRESETS["egemaps"], sample_rate=result.sample_rate
    )
    if result.kind == "egemaps" and result != functionals:
        raise ValueError(
            "egemaps are 88 coefficients of a whole clip: of the options of the "
            "preset 'egemaps' only sample_rate can be replaced"
        )
    if result.frame_samples > result.fft_samples:
        raise ValueError(
            f"frame_samples {result.frame_samples} exceeds fft_samples "
            f"{result.fft_samples}; a frame has to fit into the transform"
        )
    _require_band(result)
    if result.coefficients > result.mel_bands:
        raise ValueError(
            f"coefficients {result.coefficients} exceeds mel_bands "
            f"{result.mel_bands}; there are no more coefficients than bands"
        )
    return result


def _require_band(settings: FrontEnd) -> None:
    """Raise ValueError for an unknown window, or a band that is not there."""
    try:
        scipy.signal.get_window(settings.window, 8)
    except ValueError:
        raise ValueError(
            f"feature option 'window': {settings.window!r} is no window that needs no "
            "number of its own; hann and hamming are two"
        ) from None
    rate = settings.mel_rate or settings.sample_rate
    high = settings.high_hertz or rate / 2
    if not settings.low_hertz < high <= rate / 2:
        raise ValueError(
            f"the mel filters would span {settings.low_hertz:g} to {high:g} Hz: give "
            f"low_hertz below high_hertz, and high_hertz up to {rate / 2:g}"
        )


def _checked(name: str, value: object, kind: object) -> object:
    """Return a feature option in its own type, or raise ValueError."""
    literals = typing.get_args(kind)
    if literals:
        # 1.0 and True equal 1, but would give the same numbers another name.
        valid = any(value == one and type(value) is type(one) for one in literals)
        wanted = f"one of {', '.join(map(repr, literals))}"
    elif kind is str:
        valid, wanted = isinstance(value, str), "a text"
    else:
        kinds = (int, float) if kind is float else int
        number = isinstance(value, kinds) and not isinstance(value, bool)
        least = {"clip_seconds", "mel_rate", "low_hertz", "high_hertz", "limit"}
        floor = 0 if name in least else 1
        valid = number and value >= floor
        wanted = f"{'a number' if kind is float else 'a whole number'} from {floor}"
    if not valid:
        raise ValueError(f"feature option '{name}': {value!r}; give {wanted}")
    return float(value) if kind is float else value


def preset_name(preset: str, options: Mapping[str, object] | None = None) -> str:
    """Return the name that a preset's files carry.

    Overridden values add eight hexadecimal digits, so that two settings never
    share a file.
    """
    chosen = front_end(preset, options)
    if chosen == PRESETS[preset]:
        return preset
    return f"{preset}-{config.digest(dataclasses.asdict(chosen))}"
