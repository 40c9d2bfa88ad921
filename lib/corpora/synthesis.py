"""Speech-like sound from a sequence of phones.

A small source-filter synthesiser in the tradition of Klatt (1980), Software for a
cascade/parallel formant synthesizer, J. Acoust. Soc. Am. 67, 971-995: glottal pulses
after Rosenberg (1971), Effect of glottal pulse shape on the quality of natural
vowels, J. Acoust. Soc. Am. 49, 583-590, with jitter, shimmer and tremor, and breath
noise that the open glottis modulates. It knows nothing of emotions:
`lib.corpora.demo_voices` decides how a sentence is spoken.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import signal

from lib.corpora.phones import PHONES, VOWELS, Segment
from lib.corpora.vocal_tract import (
    CONTROL_RATE,
    SAMPLE_RATE,
    STEP,
    constriction_filter,
    filter_blocks,
    tract_filter,
)

_NEUTRAL_FORMANTS = (500.0, 1500.0, 2500.0)
# The voice starts and stops over a few periods, not at once.
_REST = Segment(0.03, _NEUTRAL_FORMANTS)


@dataclasses.dataclass(frozen=True)
class Voice:
    """How one sentence is spoken.

    Attributes:
        pitch: Mean fundamental frequency in Hz.
        accent: Height of a pitch accent in semitones.
        final: Pitch movement over the end of the sentence in semitones.
        rate: Speech rate, 1 is about five syllables a second.
        pause: Factor on the length of pauses.
        tract: Factor on all formants (shorter vocal tract, spread lips).
        jaw: Factor on the first formant (openness of the mouth).
        articulation: 1 reaches the vowel targets, 0 stays at the neutral vowel.
        tilt: Corner frequency in Hz above which the glottal source falls by
            a further 6 dB an octave: low is soft or lax, high is loud or tense.
        open_quotient: Part of the glottal cycle with open folds, 0.3 to 0.9.
        breath: Amplitude of breath noise relative to the voiced source.
        jitter: Standard deviation of the cycle length, relative.
        shimmer: Standard deviation of the cycle amplitude, relative.
        tremor: Depth of a slow waver of the pitch in semitones.
    """

    pitch: float
    accent: float = 3.6
    final: float = -2.0
    rate: float = 1.0
    pause: float = 1.0
    tract: float = 1.0
    jaw: float = 1.0
    articulation: float = 1.0
    tilt: float = 2000.0
    open_quotient: float = 0.6
    breath: float = 0.03
    jitter: float = 0.008
    shimmer: float = 0.04
    tremor: float = 0.0


def speak(text: str, voice: Voice, random: np.random.Generator) -> np.ndarray:
    """Return a sentence as sound, with a mean square of 1 in its loud vowels.

    Args:
        text: Phones of `PHONES`; an apostrophe before a vowel marks stress,
            a comma a pause, a space nothing.
        voice: How it is spoken.
        random: Source of every random choice.

    Returns:
        Samples at 16 kHz, float64 (samples,), without silence at the ends.

    Raises:
        ValueError: If the text holds a phone that is not in `PHONES`, or no vowel.
    """
    segments, accents = _score(text, voice, random)
    tracks = _tracks(segments, voice)
    pitch = _pitch_contour(accents, len(tracks["voicing"]), voice, random)
    source = _source(pitch, tracks, voice, random)
    tract = tract_filter(tracks["formants"], voice.tract, voice.tilt)
    voiced = filter_blocks(source, *tract)
    loud = np.repeat(tracks["voicing"], STEP) > 0.5
    voiced /= np.sqrt(np.mean(voiced[loud] ** 2))
    noise = random.standard_normal(len(source)) * _samples(tracks["frication"])
    return voiced + filter_blocks(noise, *constriction_filter(tracks["centre"]))


def _score(
    text: str, voice: Voice, random: np.random.Generator
) -> tuple[list[Segment], list[tuple[float, float]]]:
    """Return the timed segments and the (second, strength) of the pitch accents."""
    phones = text.replace(" ", "")
    unknown = set(phones) - set(PHONES) - {"'"}
    if unknown or not VOWELS & set(phones):
        raise ValueError(f"text {text!r}: no vowel, or unknown: {sorted(unknown)}.")
    last_vowel = max(i for i, phone in enumerate(phones) if phone in VOWELS)
    segments, accents, clock = [_REST], [], _REST.seconds
    for i, phone in enumerate(phones):
        if phone == "'":
            continue
        stressed = phones[i - 1 : i] == "'"
        stretch = np.exp(0.08 * random.standard_normal()) / voice.rate
        stretch *= 1.3 if stressed else 1.0
        stretch *= 1.35 if i == last_vowel else 1.0
        stretch *= voice.pause if phone == "," else 1.0
        gain = 0.8 if phone in VOWELS and not stressed else 1.0
        spoken = [_spoken(segment, stretch, gain) for segment in PHONES[phone]]
        if stressed:
            strength = 1 + 0.2 * random.standard_normal()
            accents.append((clock + spoken[0].seconds / 2, strength))
        segments += spoken
        clock += sum(segment.seconds for segment in spoken)
    return [*segments, _REST], accents


def _spoken(segment: Segment, stretch: float, gain: float) -> Segment:
    """Return a segment at its length and strength in the sentence."""
    return dataclasses.replace(
        segment, seconds=segment.seconds * stretch, voicing=segment.voicing * gain
    )


def _tracks(segments: list[Segment], voice: Voice) -> dict[str, np.ndarray]:
    """Return the smoothed targets over time, one value a millisecond."""
    ends = np.cumsum([segment.seconds for segment in segments])
    counts = np.diff(np.rint(ends * CONTROL_RATE).astype(int), prepend=0)

    def track(name: str, milliseconds: int) -> np.ndarray:
        values = np.array([getattr(segment, name) for segment in segments], float)
        return _smooth(np.repeat(values, counts, axis=0), milliseconds)

    neutral = np.array(_NEUTRAL_FORMANTS)
    formants = neutral + voice.articulation * (track("formants", 55) - neutral)
    return {
        "formants": formants * voice.tract * np.array([voice.jaw, 1.0, 1.0]),
        "voicing": track("voicing", 24),
        "breath": track("breath", 12),
        "frication": track("frication", 8),
        "centre": track("centre", 8) * (1 + voice.tract) / 2,
    }


def _smooth(values: np.ndarray, milliseconds: int) -> np.ndarray:
    """Return `values` (n, …) under a moving Hann window, the ends held."""
    window = signal.windows.hann(milliseconds + 2)[1:-1]
    window /= window.sum()
    before = milliseconds // 2
    pad = [(before, milliseconds - 1 - before)] + [(0, 0)] * (values.ndim - 1)
    padded = np.pad(values, pad, mode="edge")
    columns = padded.reshape(len(padded), -1).T
    smooth = [np.convolve(column, window, mode="valid") for column in columns]
    return np.stack(smooth, axis=-1).reshape(values.shape)


def _samples(track: np.ndarray) -> np.ndarray:
    """Return a millisecond track at the sample rate, linearly interpolated."""
    times = np.arange(len(track) * STEP) / STEP
    return np.interp(times, np.arange(len(track)), track)


def _pitch_contour(
    accents: list[tuple[float, float]],
    count: int,
    voice: Voice,
    random: np.random.Generator,
) -> np.ndarray:
    """Return the fundamental frequency in Hz, one value a sample."""
    seconds = np.arange(count) / CONTROL_RATE
    position = seconds / seconds[-1]
    semitones = 0.5 * voice.accent * (0.5 - position)
    for moment, strength in accents:
        bump = np.exp(-0.5 * ((seconds - moment) / 0.07) ** 2)
        semitones += voice.accent * strength * bump
    semitones -= semitones.mean()
    semitones += voice.final * np.clip((position - 0.75) / 0.25, 0, 1) ** 2
    waver = 2 * np.pi * (random.uniform() + random.uniform(5.0, 7.5) * seconds)
    semitones += voice.tremor * np.sin(waver)
    return voice.pitch * 2 ** (_samples(semitones) / 12)


def _source(
    pitch: np.ndarray,
    tracks: dict[str, np.ndarray],
    voice: Voice,
    random: np.random.Generator,
) -> np.ndarray:
    """Return glottal pulses (differentiated flow) with breath noise."""
    steady = np.cumsum(pitch) / SAMPLE_RATE
    # Jitter can only stretch the sentence by a few cycles: a tenth is ample.
    cycles = int(steady[-1] * 1.1) + 10
    jitter = 1 + voice.jitter * random.standard_normal(cycles)
    shimmer = 1 + voice.shimmer * random.standard_normal(cycles)
    phase = np.cumsum(pitch * jitter[steady.astype(int)]) / SAMPLE_RATE
    cycle = phase.astype(int)
    flow = _glottal_flow(phase - cycle, voice.open_quotient) * shimmer[cycle]
    # The step of the flow over one sample is the derivative averaged over that
    # sample, which aliases far less than the derivative sampled.
    pulses = np.diff(flow, prepend=0.0) * SAMPLE_RATE / pitch
    pulses /= np.sqrt(np.mean(pulses**2))
    noise = random.standard_normal(len(pitch))
    voicing = _samples(tracks["voicing"])
    breath = voice.breath * voicing * (0.4 + flow) + 0.5 * _samples(tracks["breath"])
    return pulses * voicing + noise * breath


def _glottal_flow(phase: np.ndarray, open_quotient: float) -> np.ndarray:
    """Return Rosenberg's trigonometric pulse at phases in [0, 1)."""
    rise = 0.67 * open_quotient
    fall = open_quotient - rise
    opening = 0.5 * (1 - np.cos(np.pi * phase / rise))
    closing = np.cos(0.5 * np.pi * np.clip((phase - rise) / fall, 0, 1))
    return np.where(phase < rise, opening, closing)
