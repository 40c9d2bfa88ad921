"""EMOVO: Italian, 6 actors, 14 sentences, 7 emotions, every combination once.

File names are `<emotion>-<speaker>-<sentence>`, e.g. `rab-f1-b1`, the emotion in
three Italian letters.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from lib.corpora.base import Corpus, Mislabelled, Tags

EMOTIONS = {
    "rab": "angry",  # rabbia
    "dis": "disgust",  # disgusto
    "pau": "fear",  # paura
    "gio": "happy",  # gioia
    "neu": "neutral",  # neutro
    "tri": "sad",  # tristezza
    "sor": "surprise",  # sorpresa
}
SPEAKERS = ("f1", "f2", "f3", "m1", "m2", "m3")
SENTENCES = ("b1", "b2", "b3", "d1", "d2", "l1", "l2", "l3", "l4") + tuple(
    f"n{number}" for number in range(1, 6)
)
_NAME = re.compile(r"([a-z]{3})-([fm]\d)-([a-z]\d)")


def folder_speaker(file: PurePosixPath) -> str:
    """Return the speaker that the folders of a file name, "" where none does."""
    for part in reversed(file.parts[:-1]):
        if part.lower() in SPEAKERS:
            return part.lower()
    return ""


def parse(file: PurePosixPath) -> Tags:
    """Read the tags of an EMOVO file from its name.

    Args:
        file: Path relative to the corpus folder.

    Returns:
        The tags.

    Raises:
        Mislabelled: If the speaker folder contradicts the file name.
        ValueError: If the name is not one of EMOVO.
    """
    match = _NAME.fullmatch(file.stem)
    known = match and (
        match[1] in EMOTIONS and match[2] in SPEAKERS and match[3] in SENTENCES
    )
    if not match or not known:
        raise ValueError("expected <emotion>-<speaker>-<sentence>, as in rab-f1-b1.")
    emotion, speaker, sentence = match.groups()
    if (folder := folder_speaker(file)) not in ("", speaker):
        raise Mislabelled(f"the folder says {folder}, the name says {speaker}.")
    return Tags(EMOTIONS[emotion], speaker, _sex(speaker), sentence, file.stem)


def _sex(speaker: str) -> str:
    """Return the sex that the first letter of a speaker stands for."""
    return "female" if speaker.startswith("f") else "male"


LABELS = tuple(EMOTIONS.values())

CORPUS = Corpus(
    name="EMOVO",
    title="EMOVO",
    language="Italian",
    labels=LABELS,
    counts=dict.fromkeys(LABELS, 84),
    sexes={speaker: _sex(speaker) for speaker in SPEAKERS},
    sample_rate=48_000,
    channels=2,
    clip_samples=96_000,
    dilations=8,
    terms="Free for research with acknowledgement; do not redistribute.",
    how_to_get=(
        "Ask the authors at the Fondazione Ugo Bordoni (voice.fub.it) or use the "
        "release of your institution, and unpack it there, so that f1/rab-f1-b1.wav "
        "and the other 587 files lie in it."
    ),
    citation=(
        "Costantini, G., Iaderola, I., Paoloni, A. and Todisco, M. (2014). EMOVO "
        "Corpus: an Italian Emotional Speech Database. LREC 2014, 3501-3504."
    ),
    parse=parse,
    official_name="EMOVO",
    seconds=(1.0, 15.0),
)
