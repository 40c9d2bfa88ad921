"""DEMO: a small corpus of synthetic speech, described in `demo.yaml`; nobody speaks."""

import itertools
from pathlib import Path
from types import SimpleNamespace as Traits

import numpy as np
import yaml
from numpy.random import Generator
from scipy import signal
from scipy.io import wavfile
from tqdm.auto import tqdm

from lib.files import atomic_path, sha256_file, unchanged, write_json

# Raise the version with every change that is heard, so that older copies are replaced.
FACTS = {"corpus": "DEMO", "synthetic": True, "version": 2}
MANIFEST = "DEMO.json"
RATE = 16_000  # Hz
STEP = 80  # samples from target to target, 5 ms
HOP, WINDOW = 160, 480  # samples of sound for which a filter stands still
DATA = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))
TEXTS, EMOTIONS, PHONES = DATA["texts"], DATA["emotions"], DATA["phones"]
SPEAKERS = {name: Traits(**traits) for name, traits in DATA["speakers"].items()}
CLIPS = list(itertools.product(SPEAKERS, EMOTIONS, TEXTS))


def generate(folder: Path, *, verbose: int = 1) -> Path:
    """Write the corpus unless it is there, whole and unchanged; return the folder."""
    if unchanged(folder / MANIFEST, **FACTS):
        return folder
    hashes = {}
    for who, how, text in tqdm(CLIPS, "DEMO", unit="clip", disable=not verbose):
        file = f"{who}/{who}_{how}_{text}.wav"
        with atomic_path(folder / file) as temporary:
            wavfile.write(temporary, RATE, utterance(who, how, text))
        hashes[file] = sha256_file(folder / file)
    write_json(folder / MANIFEST, FACTS | {"files": hashes})  # last: now it is whole
    return folder


def utterance(speaker: str, emotion: str, text: str) -> np.ndarray:
    """Return the samples, 16 bits, of a clip such as ("f1", "angry", "t1")."""
    who = SPEAKERS[speaker]
    place = list(SPEAKERS).index(speaker), list(EMOTIONS).index(emotion)
    room = np.random.default_rng((0, 1, place[0]))
    manner = np.random.default_rng((0, 2, *place))
    random = np.random.default_rng((0, 3, *place, list(TEXTS).index(text)))
    change = np.array([*EMOTIONS[emotion].values()]) * random.uniform(*DATA["strength"])
    change += DATA["manner"] * manner.standard_normal(6)
    change += DATA["clip"] * random.standard_normal(6)
    how = Traits(**dict(zip(EMOTIONS[emotion], change, strict=True)))

    steps, accents = _score(TEXTS[text], who.rate * 2**how.rate, random)
    seconds = np.arange(len(steps)) * STEP / RATE
    position = seconds / seconds[-1]
    contour = 0.5 * (0.5 - position)
    for moment, height in accents:
        contour += height * np.exp(-0.5 * ((seconds - moment) / 0.07) ** 2)
    melody = how.pitch + 3.6 * 2**how.accent * (contour - contour.mean())
    melody += (how.final - 2) * np.clip((position - 0.75) / 0.25, 0, None) ** 2
    pitch = who.pitch * 2 ** (melody / 12)  # from semitones
    spoken = _voice(steps, pitch, who, how.effort, random)
    spoken *= 10 ** ((who.level + how.level) / 20)
    spoken = np.pad(spoken, (random.uniform(0.08, 0.2, 2) * RATE).astype(int))

    times = np.arange(int(who.echo * RATE)) / RATE
    response = room.standard_normal(len(times)) * 10 ** (-3 * times / who.echo)
    response[: RATE // 200] = 0
    response *= 0.35 / np.linalg.norm(response)
    response[0] = 1.0
    sound = signal.fftconvolve(spoken, response)[: len(spoken)]
    hiss = 10 ** (who.noise / 20) * random.standard_normal(len(sound))
    # The power gain of this low-pass is 1.
    sound += signal.lfilter([np.sqrt(1 - 0.9**2)], [1, -0.9], hiss)
    # A recordist turns the gain down before a loud clip distorts.
    sound *= min(1.0, 0.9 / np.abs(sound).max())
    return np.rint(sound * 32767).astype(np.int16)


def _score(text: str, rate: float, random: Generator) -> tuple[np.ndarray, list]:
    """Return targets every 5 ms (steps, 7), and second and height of the accents."""
    phones = text.replace(" ", "")
    last_vowel = max(map(phones.rfind, "aeiou"))
    segments, accents = list(PHONES["rest"]), []
    for place, phone in enumerate(phones):
        if phone == "'":
            continue
        stretch = np.exp(0.08 * random.standard_normal()) / rate
        stretch *= 1.35 if place == last_vowel else 1
        if phones[place - 1 : place] == "'":
            stretch *= 1.3
            moment = sum(segment[0] for segment in segments) / 1000 + 0.05 * stretch
            accents.append((moment, 1 + 0.2 * random.standard_normal()))
        segments += [[stretch * length, *rest] for length, *rest in PHONES[phone]]
    table = np.array(segments + PHONES["rest"])
    ends = np.rint(np.cumsum(table[:, 0]) * RATE / 1000 / STEP).astype(int)
    steps = np.repeat(table[:, 1:], np.diff(ends, prepend=0), axis=0)
    # Mouths do not jump: a moving Hann window of 35 ms.
    window = signal.windows.hann(9)[1:-1, np.newaxis]
    padded = np.pad(steps, ((3, 3), (0, 0)), "edge")
    return signal.convolve(padded, window / window.sum(), "valid"), accents


def _voice(
    steps: np.ndarray, pitch: np.ndarray, who: Traits, effort: float, random: Generator
) -> np.ndarray:
    """Return a sentence, its loud vowels with a mean square of 1."""
    samples = np.arange(len(steps) * STEP) / STEP
    tracks = [*steps[:, 3:6].T, pitch]
    tracks = [np.interp(samples, np.arange(len(steps)), track) for track in tracks]
    voicing, breath, friction, pitch = tracks
    # The cycles are uneven by one per cent (jitter).
    cycle = np.cumsum(pitch / RATE).astype(int)
    pitch *= 1 + 0.01 * random.standard_normal(cycle[-1] + 1)[cycle]
    phase = np.cumsum(pitch / RATE) % 1
    # The glottal pulse of Rosenberg (1971, J. Acoust. Soc. Am. 49, 583-590).
    peak = 0.67 * np.clip(0.6 - 0.12 * effort, 0.35, 0.9)
    opening = 0.5 - 0.5 * np.cos(np.pi * phase / peak)
    closing = np.cos(0.5 * np.pi * np.clip(2 * (phase / peak - 1), 0, 1))
    flow = np.where(phase < peak, opening, closing)
    pulses = np.diff(flow, prepend=0) * RATE / pitch
    noise = random.standard_normal((2, len(samples)))
    airy = who.breath * 2**-effort * voicing * (0.4 + flow) + 0.5 * breath
    source = voicing * pulses / pulses.std() + airy * noise[0]

    steps = steps[:: HOP // STEP]
    tilt = np.full(len(steps), who.tilt * 2**effort)
    # Two poles on the real axis: the root has one, a low-pass of 6 dB an octave.
    gain = np.sqrt(_resonance(0 * tilt, 2 * tilt))
    # Effort opens the mouth and reaches the vowels; without, they are near the neutral.
    neutral = np.array(PHONES["rest"][0][1:4])
    formants = neutral + (0.85 + 0.14 * effort) * (steps[:, :3] - neutral)
    formants[:, 0] *= 1 + 0.1 * effort
    for formant in [*formants.T, 3500.0, 4500.0, 5500.0, 6500.0]:
        formant = formant * who.tract
        gain = gain * _resonance(formant, 50 + 0.04 * formant)
    sound = _filtered(source, gain)
    sound /= np.sqrt(np.mean(sound[voicing > 0.5] ** 2))
    centre = steps[:, 6] * (1 + who.tract) / 2
    gain = _resonance(centre, 0.3 * centre)
    gain /= np.sqrt(np.mean(gain**2, axis=0))
    return sound + _filtered(friction * noise[1], gain)


def _resonance(frequency: np.ndarray, bandwidth: np.ndarray) -> np.ndarray:
    """Return the gain of a digital resonator, 1 at 0 Hz, (frequencies, steps)."""
    last = np.exp(-2 * np.pi * bandwidth / RATE)
    middle = -2 * np.sqrt(last) * np.cos(2 * np.pi * frequency / RATE)
    cosine = np.cos(2 * np.pi * np.fft.rfftfreq(WINDOW))[:, np.newaxis]
    # |1 + middle / z + last / z ** 2| ** 2 on the unit circle.
    power = (1 - last) ** 2 + middle**2 + 2 * middle * (1 + last) * cosine
    return (1 + middle + last) / np.sqrt(power + 4 * last * cosine**2)


def _filtered(sound: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Return sound behind a filter whose gain is (frequencies, steps)."""
    options = {"nperseg": WINDOW, "noverlap": WINDOW - HOP}
    spectrum = signal.stft(sound, RATE, **options)[2]
    filtered = signal.istft(spectrum[:, : gain.shape[1]] * gain, RATE, **options)[1]
    return np.pad(filtered, (0, len(sound) - len(filtered)))
