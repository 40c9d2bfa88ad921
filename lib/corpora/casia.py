"""CASIA: Mandarin, 4 speakers, 50 sentences, 6 emotions, every combination once.

The release keeps `<speaker>/<emotion>/<number>.wav`, so numbers repeat; flattened
copies write all three into the name, `201-angry-liuchanhg.wav`. What the name says
decides; what it leaves out is taken from the folders.

Row order inside a class is the sentence number, then the speaker without regard to
case (ZhaoZuoxiang is spelt with capitals): with a case-sensitive sort the folds of
the official weights no longer match, and they are tested on their training data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from lib.corpora.base import Corpus, Mislabelled, Tags

SEXES = {
    "liuchanhg": "female",
    "wangzhe": "male",
    "zhaoquanyin": "female",
    "ZhaoZuoxiang": "male",
}
LABELS = ("angry", "fear", "happy", "neutral", "sad", "surprise")
_SPEAKERS = {speaker.lower(): speaker for speaker in SEXES}
_EMOTIONS = {label: label for label in LABELS}
_NUMBERS = range(201, 251)


def folder_speaker(file: PurePosixPath) -> str:
    """Return the speaker that the folders of a file name, "" where none does."""
    return _first(reversed(file.parts[:-1]), _SPEAKERS)


def parse(file: PurePosixPath) -> Tags:
    """Read the tags of a CASIA file from its name, then from its folders.

    Args:
        file: Path relative to the corpus folder.

    Returns:
        The tags, with the key `<number>-<emotion>-<speaker>`.

    Raises:
        Mislabelled: If the speaker folder contradicts the file name.
        ValueError: If number, emotion or speaker cannot be told.
    """
    fields = re.split(r"[-_ ]", file.stem)
    folder = folder_speaker(file)
    named = _first(fields, _SPEAKERS)
    if named and folder and named != folder:
        raise Mislabelled(f"the folder says {folder}, the name says {named}.")
    number = next((field for field in fields if field.isdecimal()), "")
    emotion = _first(fields, _EMOTIONS) or _first(reversed(file.parts[:-1]), _EMOTIONS)
    speaker = named or folder
    known = bool(number) + bool(_first(fields, _EMOTIONS)) + bool(named)
    if not (number and emotion and speaker) or known != len(fields):
        raise ValueError(
            "expected <speaker>/<emotion>/<number>, or a name such as "
            "201-angry-liuchanhg."
        )
    if int(number) not in _NUMBERS:
        raise ValueError(f"there is no sentence {number}: they run from 201 to 250.")
    return Tags(
        emotion, speaker, SEXES[speaker], number, f"{number}-{emotion}-{speaker}"
    )


def _first(parts: Sequence[str], known: Mapping[str, str]) -> str:
    """Return the first part that is known, in its usual spelling, else ""."""
    return next((known[part.lower()] for part in parts if part.lower() in known), "")


CORPUS = Corpus(
    name="CASIA",
    title="CASIA Chinese emotional speech corpus",
    language="Mandarin",
    labels=LABELS,
    counts=dict.fromkeys(LABELS, 200),
    sexes=SEXES,
    sample_rate=16_000,
    channels=1,
    clip_samples=88_000,
    dilations=8,
    terms="Licensed by the Chinese Academy of Sciences; do not redistribute.",
    how_to_get=(
        "Ask the Institute of Automation of the Chinese Academy of Sciences, or the "
        "Chinese Linguistic Data Consortium, for a licence, and put the copy there, "
        "so that liuchanhg/angry/201.wav and the other 1199 files lie in it."
    ),
    citation=(
        "Institute of Automation, Chinese Academy of Sciences: CASIA Chinese "
        "emotional speech corpus, Chinese Linguistic Data Consortium."
    ),
    parse=parse,
    official_name="CASIA",
    seconds=(0.8, 6.0),
    ignore_case=True,
)
