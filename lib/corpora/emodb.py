"""EMO-DB, the Berlin database: German, 10 actors, 10 sentences, 7 emotions.

A name such as `03a01Fa` holds the speaker (03), the sentence (a01), the first letter
of the German word for the emotion (F, Freude) and the take (a). The letters are not
the English ones: A is Angst, fear, and E is Ekel, disgust.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from lib.corpora.base import Corpus, Download, Tags

EMOTIONS = {
    "W": "angry",  # Wut
    "L": "boredom",  # Langeweile
    "E": "disgust",  # Ekel
    "A": "fear",  # Angst
    "F": "happy",  # Freude
    "N": "neutral",
    "T": "sad",  # Trauer
}
SEXES = {
    "03": "male",
    "08": "female",
    "09": "female",
    "10": "male",
    "11": "male",
    "12": "male",
    "13": "female",
    "14": "female",
    "15": "male",
    "16": "female",
}
SENTENCES = ("a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10")
_NAME = re.compile(r"(\d\d)([ab]\d\d)([WLEAFNT])([a-f])")


def parse(file: PurePosixPath) -> Tags:
    """Read the tags of an EMO-DB file from its name.

    Args:
        file: Path relative to the corpus folder.

    Returns:
        The tags.

    Raises:
        ValueError: If the name is not one of EMO-DB.
    """
    match = _NAME.fullmatch(file.stem)
    if match is None:
        raise ValueError(
            "expected speaker, sentence, emotion letter and take, as in 03a01Fa."
        )
    speaker, sentence, letter, _ = match.groups()
    if speaker not in SEXES:
        raise ValueError(f"there is no speaker {speaker}.")
    if sentence not in SENTENCES:
        raise ValueError(f"there is no sentence {sentence}.")
    return Tags(EMOTIONS[letter], speaker, SEXES[speaker], sentence, file.stem)


LABELS = tuple(EMOTIONS.values())

CORPUS = Corpus(
    name="EMODB",
    title="EMO-DB, the Berlin Database of Emotional Speech",
    language="German",
    labels=LABELS,
    counts=dict(zip(LABELS, (127, 81, 46, 69, 71, 79, 62), strict=True)),
    sexes=SEXES,
    sample_rate=16_000,
    channels=1,
    clip_samples=96_000,
    dilations=8,
    terms="Free to download; cite the publication.",
    how_to_get=(
        "Fetch https://emodb.bilderbar.info/download/download.zip and unpack it "
        "there, so that wav/03a01Fa.wav and the other 534 files lie in it."
    ),
    citation=(
        "Burkhardt, F., Paeschke, A., Rolfes, M., Sendlmeier, W. F. and Weiss, B. "
        "(2005). A Database of German Emotional Speech. Interspeech 2005, 1517-1520."
    ),
    parse=parse,
    download=(
        Download(
            url="https://emodb.bilderbar.info/download/download.zip",
            megabytes=40,
            checksums="EMODB",
        ),
    ),
    checksums="EMODB",
    official_name="EMODB",
    seconds=(1.0, 9.5),
)
