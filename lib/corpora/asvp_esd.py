"""ASVP-ESD: emotional sounds from the web, many speakers and languages, 12 emotions.

A name holds at least six numbers: modality, vocal channel (01 speech, 02 non-speech
such as laughter or crying), emotion, intensity, a running number and the actor; age,
source and language may follow. The emotion numbers look like those of RAVDESS and
mean other emotions.

Decisions: speech and non-speech are both kept, because the published figures were
measured on both; emotion 13 (others) and the recordings of babies, a supplement of
its own, are left out. The actor folder gives the speaker, as in the release; a copy
without folders falls back on the actor field. Nothing is scripted, so there is no
text. The releases differ in size, so no counts are expected.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from lib.corpora.base import Corpus, Tags

EMOTIONS = {
    "01": "boredom",
    "02": "neutral",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
    "09": "excited",
    "10": "pleasure",
    "11": "pain",
    "12": "disappointed",
}
OTHERS = "13"
_NAME = re.compile(r"\d\d-(0[12])-(\d\d)-\d+-\d+-(\d+)(?:-\w+)*")
_FOLDER = re.compile(r"actor[ _-]?(\d+)", re.IGNORECASE)


def folder_speaker(file: PurePosixPath) -> str:
    """Return the actor that the folders of a file name, "" where none does."""
    for part in reversed(file.parts[:-1]):
        if match := _FOLDER.fullmatch(part):
            return match[1].zfill(3)
    return ""


def parse(file: PurePosixPath) -> Tags | None:
    """Read the tags of an ASVP-ESD file from its name and its actor folder.

    Args:
        file: Path relative to the corpus folder.

    Returns:
        The tags; None for the emotion "others" and for the babies' supplement.

    Raises:
        ValueError: If the name is not one of ASVP-ESD.
    """
    match = _NAME.fullmatch(file.stem)
    if match is None or match[2] not in {*EMOTIONS, OTHERS}:
        raise ValueError(
            "expected numbers for modality, channel (01, 02), emotion (01 to 13), "
            "intensity, count and actor, as in 03-01-05-01-12-47-02-03."
        )
    if match[2] == OTHERS or _is_supplement(file):
        return None
    actor = folder_speaker(file) or match[3].zfill(3)
    return Tags(EMOTIONS[match[2]], actor, _sex(actor), "", file.stem)


def _is_supplement(file: PurePosixPath) -> bool:
    """Tell whether a file lies in the folder of the babies' recordings."""
    return any(
        word in part.lower() for part in file.parts for word in ("baby", "bonus")
    )


def _sex(actor: str) -> str:
    """Return the sex of an actor: odd numbers are female; 0 stands for nobody."""
    if int(actor) == 0:
        return ""
    return "female" if int(actor) % 2 else "male"


CORPUS = Corpus(
    name="ASVP_ESD",
    title="ASVP-ESD, speech and non-speech emotional sounds",
    language="mixed",
    labels=tuple(EMOTIONS.values()),
    counts={},
    sexes={},
    sample_rate=0,
    clip_samples=66_150,
    dilations=8,
    terms="See the licence of the Zenodo record that you use.",
    how_to_get=(
        "Fetch the archive from Zenodo (records 3782416, 5573185 and later versions) "
        "or Kaggle and unpack it there, so that the folders actor_1, actor_2 … lie "
        "in it."
    ),
    citation=(
        "Landry, D. T. T., He, Q., Yan, H. and Li, Y. (2020). ASVP-ESD: A dataset and "
        "its benchmark for emotion recognition using both speech and non-speech "
        "utterances. Global Scientific Journals 8(6)."
    ),
    parse=parse,
    seconds=(0.2, 60.0),
)
