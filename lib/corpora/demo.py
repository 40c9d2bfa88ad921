"""DEMO: a small corpus of synthetic emotional speech that the workbook generates.

Nobody speaks here. Eight made-up speakers say six made-up sentences in six
emotions, so that every chapter runs without a download; `lib.corpora.demo_voices`
says after which studies a voice changes with an emotion.

As in real corpora, speakers differ from each other more than emotions do, each
expresses an emotion in a manner of their own, expression is weaker or stronger from
clip to clip, and each speaker recorded each emotion in one sitting. A test on unseen
speakers is therefore harder than one on random clips. Results on DEMO say nothing
about human speech.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import wave
from pathlib import Path, PurePosixPath

import joblib
import numpy as np
from scipy import signal
from tqdm.auto import tqdm

from lib.corpora.base import Corpus, Mislabelled, Tags
from lib.corpora.demo_voices import EMOTIONS, SPEAKERS, express
from lib.corpora.synthesis import speak
from lib.corpora.vocal_tract import SAMPLE_RATE
from lib.files import atomic_path, write_json

# Raise it with every change that is heard, so that older copies are replaced.
VERSION = 1
MANIFEST = "DEMO.json"

TEXTS = {
    "t1": "m'ani tok'a sel'u",
    "t2": "S'aro b'edin, k'ofu",
    "t3": "l'upe t'anosi g'a",
    "t4": "d'avi, w'ena rust'o",
    "t5": "k'isa m'obel jan'i",
    "t6": "f'eno, z'ulat p'ori",
}


def utterance(
    speaker: str, emotion: str, text: str, seed: int = 0
) -> tuple[np.ndarray, int]:
    """Synthesise one clip.

    Args:
        speaker: One of `SPEAKERS`.
        emotion: One of `EMOTIONS`.
        text: One of `TEXTS`.
        seed: 0 or more; the same seed gives the same clip.

    Returns:
        Samples float32 (n,) in [-1, 1], exactly those of the 16-bit file, and
        the sample rate of 16,000 Hz.

    Raises:
        ValueError: If one of the three is unknown or the seed is negative.
    """
    for value, known in ((speaker, SPEAKERS), (emotion, EMOTIONS), (text, TEXTS)):
        if value not in known:
            raise ValueError(f"{value!r} is not one of {', '.join(known)}.")
    codes = _codes(speaker, emotion, text, _checked(seed))
    return codes.astype(np.float32) / 32768, SAMPLE_RATE


def generate(folder: Path, *, seed: int = 0, verbose: int = 1) -> Path:
    """Write the corpus unless it is there, whole and unchanged.

    `DEMO.json`, written last, says which version and seed the clips are and what
    their bytes hash to; where it is missing or does not match, all clips are
    written again. Other files in the folder are left alone.

    Args:
        folder: The corpus folder, e.g. `Datasets/DEMO`; made if missing.
        seed: Seed of all random choices, 0 or more.
        verbose: 0 silent, 1 a progress bar, 2 plain lines.

    Returns:
        The folder.

    Raises:
        ValueError: If the seed is negative.
        OSError: If the disk is full or the folder cannot be written.
    """
    folder = Path(folder)
    _remove_old_leftovers(folder)
    if _is_complete(folder, _checked(seed)):
        return folder
    clips = _clips()
    # Only the synthesis runs in threads: files are written one after another.
    jobs = joblib.Parallel(n_jobs=-1, prefer="threads", return_as="generator")
    sounds = jobs(joblib.delayed(_codes)(*clip, seed) for clip in clips)
    bar = tqdm(sounds, "DEMO", len(clips), unit="clip", disable=verbose != 1)
    for clip, codes in zip(clips, bar, strict=True):
        _write(folder / _file(*clip), codes)
    write_json(folder / MANIFEST, _identity(folder, seed))
    if verbose == 2:
        print(f"DEMO: wrote {len(clips)} synthetic clips to {folder}")
    return folder


def parse(file: PurePosixPath) -> Tags:
    """Return the tags of `<speaker>/<speaker>_<emotion>_<text>.wav`.

    Args:
        file: Path relative to the corpus folder.

    Raises:
        Mislabelled: If the folder is another speaker's.
        ValueError: If the name is not one of DEMO.
    """
    speaker, emotion, text = [*file.stem.split("_"), "", "", ""][:3]
    if (speaker, emotion, text) not in _clips() or file.stem.count("_") != 2:
        raise ValueError("expected <speaker>_<emotion>_<text>, as in f1_angry_t1.")
    if (folder := file.parent.name) in SPEAKERS and folder != speaker:
        raise Mislabelled(f"the folder says {folder}, the name says {speaker}.")
    return Tags(emotion, speaker, SPEAKERS[speaker].sex, text, file.stem)


def _checked(seed: int) -> int:
    if seed < 0:
        raise ValueError(f"seed {seed} is negative; give 0 or more.")
    return seed


def _clips() -> list[tuple[str, str, str]]:
    """Return speaker, emotion and text of every clip."""
    return [(s, e, t) for s in SPEAKERS for e in EMOTIONS for t in TEXTS]


def _file(speaker: str, emotion: str, text: str) -> str:
    return f"{speaker}/{speaker}_{emotion}_{text}.wav"


def _codes(speaker: str, emotion: str, text: str, seed: int) -> np.ndarray:
    """Return one clip as 16-bit integers (n,)."""
    place = (list(SPEAKERS).index(speaker), EMOTIONS.index(emotion))
    room = np.random.default_rng((seed, 1, place[0]))
    manner = np.random.default_rng((seed, 2, *place))
    clip = np.random.default_rng((seed, 3, *place, list(TEXTS).index(text)))
    who = SPEAKERS[speaker]
    voice, level = express(who, emotion, manner, clip)
    spoken = speak(TEXTS[text], voice, clip) * 10 ** (level / 20)
    response = _impulse_response(who.echo, room, manner)
    return _record(spoken, who.noise, response, clip)


def _impulse_response(
    echo: float, room: np.random.Generator, manner: np.random.Generator
) -> np.ndarray:
    """Return the impulse response from mouth to file.

    The room and the microphone are the speaker's; how far away the microphone
    stood is the sitting's, in which one emotion was recorded.
    """
    seconds = np.arange(int(echo * SAMPLE_RATE)) / SAMPLE_RATE
    response = room.standard_normal(len(seconds)) * 10 ** (-3 * seconds / echo)
    response[: SAMPLE_RATE // 200] = 0
    distance = 2 ** (0.5 * manner.standard_normal())
    response *= 0.35 * distance / np.linalg.norm(response)
    response[0] = 1.0
    treble = room.uniform(-0.35, 0.35) + 0.05 * manner.standard_normal()
    return signal.lfilter([1.0, -treble], [1.0], response)


def _record(
    spoken: np.ndarray, noise: float, response: np.ndarray, clip: np.random.Generator
) -> np.ndarray:
    """Return what is recorded of a sentence, as 16-bit integers."""
    silence = (clip.uniform(0.08, 0.2, 2) * SAMPLE_RATE).astype(int)
    dry = np.pad(spoken, silence)
    hiss = signal.lfilter([1.0], [1.0, -0.9], clip.standard_normal(len(dry)))
    # The filter's power gain is 1 / (1 - 0.9 ** 2).
    hiss *= 10 ** (noise / 20) * np.sqrt(1 - 0.9**2)
    sound = signal.fftconvolve(dry, response)[: len(dry)] + hiss
    # A recordist turns the gain down before a loud clip distorts.
    sound *= min(1.0, 0.9 / np.abs(sound).max())
    return np.rint(sound * 32767).astype(np.int16)


def _write(target: Path, codes: np.ndarray) -> None:
    # The standard library writes the same header on every machine.
    with atomic_path(target) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(codes.astype("<i2").tobytes())


def _identity(folder: Path, seed: int) -> dict[str, object]:
    """Return what the manifest says of the clips that are in the folder."""
    digest = hashlib.sha256()
    clips = _clips()
    for clip in clips:
        digest.update(hashlib.sha256((folder / _file(*clip)).read_bytes()).digest())
    return {
        "corpus": "DEMO",
        "synthetic": True,
        "version": VERSION,
        "seed": seed,
        "clips": len(clips),
        "sha256_of_clips": digest.hexdigest(),
    }


def _is_complete(folder: Path, seed: int) -> bool:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return manifest == _identity(folder, seed)
    except (FileNotFoundError, ValueError):
        return False


def _remove_old_leftovers(folder: Path) -> None:
    """Delete what a killed run left, but not what another run is writing now."""
    for path in folder.rglob(".partial-*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > 3600:
                path.unlink()


CORPUS = Corpus(
    name="DEMO",
    title="DEMO (synthetic speech, generated by the workbook)",
    language="none (made-up words)",
    labels=EMOTIONS,
    counts={emotion: len(SPEAKERS) * len(TEXTS) for emotion in EMOTIONS},
    sexes={name: who.sex for name, who in SPEAKERS.items()},
    sample_rate=SAMPLE_RATE,
    channels=1,
    clip_samples=44_100,
    # 1 + 2 (2**6 - 1) = 127 frames of context cover the 87 frames of a clip.
    dilations=6,
    terms="Generated by the workbook; free for any use.",
    how_to_get=(
        "There is nothing to download: notebook 01_preprocess generates DEMO where "
        "it is missing, and so does lib.corpora.demo.generate(folder) in a script."
    ),
    citation="Synthetic; generated by lib.corpora.demo of this workbook.",
    parse=parse,
    seconds=(0.8, 4.0),
    synthetic=True,
)
