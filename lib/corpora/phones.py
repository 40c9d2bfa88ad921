"""The speech sounds of the synthesiser, as targets for an adult male voice.

Vowel formants are the men's averages of Peterson and Barney (1952), Control methods
used in a study of the vowels, J. Acoust. Soc. Am. 24, 175-184. The consonants are
simplified: the place of articulation sets the formants that vowels move from and to,
and the peak of the noise.
"""

from __future__ import annotations

import dataclasses

Formants = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Segment:
    """A stretch of sound with constant targets.

    Attributes:
        seconds: Duration at rate 1.
        formants: First three resonances in Hz.
        voicing: Amplitude of the glottal pulses, 1 in a vowel.
        breath: Amplitude of noise made at the glottis (aspiration).
        frication: Amplitude of noise made at a constriction.
        centre: Spectral peak of the frication in Hz.
    """

    seconds: float
    formants: Formants
    voicing: float = 0.0
    breath: float = 0.0
    frication: float = 0.0
    centre: float = 4000.0


def _vowel(*formants: float) -> list[Segment]:
    return [Segment(0.105, formants, voicing=1.0)]


def _stop(voiced: bool, place: Formants, centre: float, noise: float) -> list[Segment]:
    """Return closure, burst and, for a voiceless stop, aspiration."""
    closure = Segment(0.05 if voiced else 0.065, place, 0.12 if voiced else 0.0)
    burst = Segment(0.012, place, 0.0, 0.1, noise, centre)
    release = Segment(0.025, place, 0.0, 0.35)
    return [closure, burst] if voiced else [closure, burst, release]


_LABIAL, _CORONAL, _VELAR = (350, 900, 2200), (350, 1750, 2650), (350, 1900, 2300)

# S is the sound of "sh"; the comma is a pause.
PHONES: dict[str, list[Segment]] = {
    "a": _vowel(730, 1090, 2440),
    "e": _vowel(530, 1840, 2480),
    "i": _vowel(270, 2290, 3010),
    "o": _vowel(570, 840, 2410),
    "u": _vowel(300, 870, 2240),
    "p": _stop(False, _LABIAL, 1200, 0.12),
    "t": _stop(False, _CORONAL, 4500, 0.35),
    "k": _stop(False, _VELAR, 2000, 0.3),
    "b": _stop(True, _LABIAL, 1000, 0.08),
    "d": _stop(True, _CORONAL, 4200, 0.2),
    "g": _stop(True, _VELAR, 1900, 0.18),
    "f": [Segment(0.085, _LABIAL, 0.0, 0.02, 0.08, 6500)],
    "s": [Segment(0.095, _CORONAL, 0.0, 0.02, 0.3, 5600)],
    "S": [Segment(0.095, (350, 1800, 2400), 0.0, 0.02, 0.32, 3000)],
    "z": [Segment(0.075, _CORONAL, 0.25, 0.0, 0.16, 5600)],
    "v": [Segment(0.06, _LABIAL, 0.3, 0.0, 0.04, 6000)],
    "m": [Segment(0.07, (250, 1000, 2200), 0.35)],
    "n": [Segment(0.065, (250, 1500, 2500), 0.35)],
    "l": [Segment(0.06, (360, 1200, 2700), 0.55)],
    "r": [Segment(0.05, (430, 1250, 1700), 0.5)],
    "j": [Segment(0.055, (280, 2200, 2900), 0.6)],
    "w": [Segment(0.055, (300, 700, 2200), 0.6)],
    ",": [Segment(0.11, (500, 1500, 2500))],
}
VOWELS = frozenset("aeiou")
