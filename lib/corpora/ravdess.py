"""RAVDESS, the speech part: North American English, 24 actors, 8 emotions.

The file name says everything: seven fields of two digits, modality (03 audio),
channel (01 speech), emotion, intensity, statement, repetition, actor. Calm is a
class of its own here, as in the official TIM-Net; some other works merge it with
neutral or drop it, which makes their figures incomparable.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from lib.corpora.base import Corpus, Download, Mislabelled, Tags

EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
_NAME = re.compile(
    r"(0[1-3])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1\d|2[0-4])"
)
_FOLDER = re.compile(r"actor[ _-]?(\d{1,2})", re.IGNORECASE)


def folder_speaker(file: PurePosixPath) -> str:
    """Return the actor that the folders of a file name, "" where none does."""
    for part in reversed(file.parts[:-1]):
        if match := _FOLDER.fullmatch(part):
            return match[1].zfill(2)
    return ""


def parse(file: PurePosixPath) -> Tags | None:
    """Read the tags of a RAVDESS file from its name.

    Args:
        file: Path relative to the corpus folder.

    Returns:
        The tags; None for song and for video, which are not this task.

    Raises:
        Mislabelled: If the actor folder contradicts the file name.
        ValueError: If the name is not one of RAVDESS.
    """
    match = _NAME.fullmatch(file.stem)
    if match is None:
        raise ValueError(
            "expected seven two-digit fields in range, as in 03-01-05-01-02-01-12."
        )
    modality, channel, emotion, intensity, statement, _, actor = match.groups()
    if (modality, channel) != ("03", "01"):
        return None
    if (emotion, intensity) == ("01", "02"):
        raise ValueError("neutral was never spoken with strong intensity.")
    if (folder := folder_speaker(file)) not in ("", actor):
        raise Mislabelled(f"the folder says actor {folder}, the name actor {actor}.")
    return Tags(EMOTIONS[emotion], actor, _sex(actor), statement, file.stem)


def _sex(actor: str) -> str:
    """Return the sex of an actor: odd numbers are male."""
    return "male" if int(actor) % 2 else "female"


LABELS = ("angry", "calm", "disgust", "fear", "happy", "neutral", "sad", "surprise")
ACTORS = tuple(f"{number:02d}" for number in range(1, 25))

CORPUS = Corpus(
    name="RAVDESS",
    title="RAVDESS, speech audio",
    language="English (North American)",
    labels=LABELS,
    counts={label: 96 if label == "neutral" else 192 for label in LABELS},
    sexes={actor: _sex(actor) for actor in ACTORS},
    sample_rate=48_000,
    channels=1,
    clip_samples=110_000,
    dilations=8,
    terms="CC BY-NC-SA 4.0: free for non-commercial use with credit.",
    how_to_get=(
        "Fetch Audio_Speech_Actors_01-24.zip from Zenodo record 1188976 "
        "(https://zenodo.org/records/1188976) and unpack it there, so that "
        "Actor_01/03-01-01-01-01-01-01.wav and the other 1439 files lie in it."
    ),
    citation=(
        "Livingstone, S. R. and Russo, F. A. (2018). The Ryerson Audio-Visual "
        "Database of Emotional Speech and Song (RAVDESS). PLoS ONE 13(5): e0196391."
    ),
    parse=parse,
    download=(
        Download(
            url=(
                "https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip"
            ),
            megabytes=208,
            checksums="RAVDESS",
        ),
    ),
    checksums="RAVDESS",
    official_name="RAVDE",
    seconds=(2.0, 6.0),
)
