"""SAVEE: British English, 4 male speakers, 7 emotions.

The release keeps one folder per speaker, `AudioData/DC/a01.wav`; flattened copies
put the speaker in front, `DC_a01.wav`. The letters before the number are the
emotion: a, d, f, h, n, sa, su.

Which sentences the emotions share is not written in the names. The sentence number
is taken as the text, so that a sentence that several emotions share under one number
is never on both sides of a split by text.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from lib.corpora.base import Corpus, Mislabelled, Tags

EMOTIONS = {
    "a": "angry",
    "d": "disgust",
    "f": "fear",
    "h": "happy",
    "n": "neutral",
    "sa": "sad",
    "su": "surprise",
}
SPEAKERS = ("DC", "JE", "JK", "KL")
_NAME = re.compile(r"(?:([A-Za-z]{2})[_-])?(sa|su|[adfhn])(\d\d)")


def folder_speaker(file: PurePosixPath) -> str:
    """Return the speaker that the folders of a file name, "" where none does."""
    for part in reversed(file.parts[:-1]):
        if part.upper() in SPEAKERS:
            return part.upper()
    return ""


def parse(file: PurePosixPath) -> Tags:
    """Read the tags of a SAVEE file from its name and its speaker folder.

    Args:
        file: Path relative to the corpus folder.

    Returns:
        The tags.

    Raises:
        Mislabelled: If the speaker folder contradicts the file name.
        ValueError: If the name is not one of SAVEE, or no speaker can be told.
    """
    match = _NAME.fullmatch(file.stem)
    if match is None:
        raise ValueError("expected a name like a01 in a speaker folder, or DC_a01.")
    named, letters, number = (match[1] or "").upper(), match[2], match[3]
    folder = folder_speaker(file)
    if named and folder and named != folder:
        raise Mislabelled(f"the folder says {folder}, the name says {named}.")
    speaker = named or folder
    if speaker not in SPEAKERS:
        raise ValueError(
            f"no speaker can be told ({', '.join(SPEAKERS)}): neither the name nor a "
            "folder gives one."
        )
    if not 1 <= int(number) <= (30 if letters == "n" else 15):
        raise ValueError(f"there is no sentence {letters}{number}.")
    key = f"{speaker}_{letters}{number}"
    return Tags(EMOTIONS[letters], speaker, "male", number, key)


LABELS = tuple(EMOTIONS.values())

CORPUS = Corpus(
    name="SAVEE",
    title="SAVEE, Surrey Audio-Visual Expressed Emotion",
    language="English (UK)",
    labels=LABELS,
    counts={label: 120 if label == "neutral" else 60 for label in LABELS},
    sexes=dict.fromkeys(SPEAKERS, "male"),
    sample_rate=44_100,
    clip_samples=130_000,
    dilations=8,
    terms="Free for research after registration; do not redistribute.",
    how_to_get=(
        "Register with the University of Surrey (kahlan.eps.surrey.ac.uk/savee), "
        "fetch the audio part and unpack it there, so that AudioData/DC/a01.wav and "
        "the other 479 files lie in it."
    ),
    citation=(
        "Haq, S. and Jackson, P. J. B. (2010). Multimodal Emotion Recognition. In "
        "Machine Audition: Principles, Algorithms and Systems, IGI Global, 398-423."
    ),
    parse=parse,
    checksums="SAVEE",
    official_name="SAVEE",
    seconds=(1.0, 8.0),
)
