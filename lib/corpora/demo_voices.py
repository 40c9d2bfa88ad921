"""Who speaks in DEMO, and what an emotion does to a voice.

The changes follow the findings on human speech, in direction and rough size:

- Banse and Scherer (1996), Acoustic profiles in vocal emotion expression, Journal
  of Personality and Social Psychology 70, 614-636: pitch level and range,
  intensity, energy above 1 kHz of hot anger, panic fear, elation and sadness.
- Juslin and Laukka (2003), Communication of emotions in vocal expression and music
  performance, Psychological Bulletin 129, 770-814: rate, intensity, pitch level,
  variability and contour, high-frequency energy, first formant, precision of
  articulation, pauses and jitter of anger, fear, happiness and sadness.
- Scherer (2003), Vocal communication of emotion: a review of research paradigms,
  Speech Communication 40, 227-256: its synopsis of intensity, pitch and rate.
- Cahn (1990), The generation of affect in synthesized speech, Journal of the
  American Voice I/O Society 8, 1-19: surprise.

The sizes themselves are chosen for this corpus; no study gave them.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from lib.corpora.synthesis import Voice


@dataclasses.dataclass(frozen=True)
class Speaker:
    """A made-up speaker and the room they were recorded in.

    Attributes:
        sex: "female" or "male".
        pitch: Mean fundamental frequency in Hz when neutral.
        tract: Formants relative to an average adult male.
        rate: Speech rate relative to the average.
        level: Habitual loudness with the recording gain, in dB of full scale.
        tilt: Corner frequency of the glottal source in Hz.
        breath: Breath noise relative to the voiced source.
        echo: Reverberation time of the room in seconds.
        noise: Level of the room's noise in dB of full scale.
    """

    sex: str
    pitch: float
    tract: float
    rate: float
    level: float
    tilt: float
    breath: float
    echo: float
    noise: float


SPEAKERS = {
    "f1": Speaker("female", 205, 1.16, 1.00, -27, 1700, 0.05, 0.20, -68),
    "f2": Speaker("female", 182, 1.12, 0.93, -23, 2300, 0.03, 0.35, -62),
    "f3": Speaker("female", 228, 1.20, 1.10, -30, 1400, 0.09, 0.15, -72),
    "f4": Speaker("female", 195, 1.14, 1.05, -25, 2800, 0.04, 0.28, -58),
    "m1": Speaker("male", 112, 0.99, 0.97, -26, 1600, 0.03, 0.25, -66),
    "m2": Speaker("male", 96, 0.95, 0.90, -29, 1200, 0.06, 0.40, -60),
    "m3": Speaker("male", 131, 1.04, 1.12, -22, 2400, 0.02, 0.18, -70),
    "m4": Speaker("male", 120, 1.01, 1.02, -28, 1900, 0.05, 0.30, -64),
}

# One column per control, as a difference from the speaker's neutral voice:
# pitch (semitones), accent (octaves), final (semitones), level (dB), rate, pause
# and tilt (octaves), open quotient, breath and jitter (octaves), tremor
# (semitones), tract and jaw (per cent), articulation.
_CHANGES = {
    "angry": (3.0, 0.6, -1.5, 8, 0.12, -0.5, 1.1, -0.13, -0.6, 0.7, 0, 0, 12, 0.15),
    "fear": (4.5, -0.1, 0.5, 1, 0.25, 0.3, 0.3, 0.04, 0.6, 1.2, 0.4, 1, 0, -0.05),
    "happy": (4.0, 0.6, 1.5, 5, 0.12, -0.3, 0.7, -0.05, -0.2, -0.2, 0, 4, 5, 0.1),
    "neutral": (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    "sad": (-1.5, -0.7, -1.0, -6, -0.3, 0.8, -1.1, 0.12, 1.2, 0.6, 0.1, -1, -8, -0.2),
    "surprise": (5.0, 0.9, 7.0, 2, 0, 0, 0.1, 0.05, 0.4, 0, 0, 0, 9, 0.05),
}
EMOTIONS = tuple(_CHANGES)

# Standard deviations in the same units: how far one speaker's manner of an emotion
# is from the common one, and how far one clip is from the speaker's manner. They
# were tuned, with the range of strengths, so that a linear classifier on MFCC
# statistics is well over chance on new speakers, and clearly better on known ones.
_MANNER = np.array(
    (0.6, 0.15, 0.5, 1.3, 0.04, 0.15, 0.22, 0.025, 0.25, 0.15, 0.03, 0.8, 2, 0.04)
)
_CLIP = np.array(
    (0.4, 0.1, 0.5, 0.8, 0.03, 0.15, 0.14, 0.015, 0.2, 0.15, 0.03, 0.4, 1.5, 0.03)
)
_STRENGTH = (0.75, 1.2)


def express(
    who: Speaker,
    emotion: str,
    manner: np.random.Generator,
    clip: np.random.Generator,
) -> tuple[Voice, float]:
    """Return how a speaker says a sentence in an emotion.

    Args:
        who: The speaker.
        emotion: One of `EMOTIONS`.
        manner: Random generator that starts anew for a speaker and emotion.
        clip: Random generator of the clip.

    Returns:
        The voice, and its level in dB of full scale.
    """
    change = np.array(_CHANGES[emotion]) * clip.uniform(*_STRENGTH)
    change += _MANNER * manner.standard_normal(len(_MANNER))
    change += _CLIP * clip.standard_normal(len(_CLIP))
    pitch, accent, final, level, rate, pause, tilt, opening, *others = change
    breath, jitter, tremor, tract, jaw, articulation = others
    voice = Voice(
        pitch=who.pitch * 2 ** (pitch / 12),
        accent=3.6 * 2**accent,
        final=final - 2.0,
        rate=who.rate * 2**rate,
        pause=2**pause,
        tract=who.tract * (1 + tract / 100),
        jaw=1 + jaw / 100,
        articulation=np.clip(0.85 + articulation, 0.5, 1.15),
        tilt=who.tilt * 2**tilt,
        open_quotient=np.clip(0.6 + opening, 0.35, 0.9),
        breath=who.breath * 2**breath,
        jitter=0.008 * 2**jitter,
        tremor=max(tremor, 0.0),
    )
    return voice, who.level + level
