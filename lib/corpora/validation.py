"""Check what a user registers as a corpus of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence

from natsort import natsorted

from lib.corpora.base import Utterance
from lib.corpora.builtin import BUILT_IN
from lib.corpora.sources import name_some
from lib.corpora.spelling import folded

# Names become folder names and parts of run ids, which are divided by hyphens.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
CLIP_SECONDS = (0.1, 60.0)
_PART_OF_DATA = re.compile(
    r"(train|training|test|testing|val|valid|validation|dev|devel|development|eval"
    r"|evaluation|hold ?out)( ?(set|data|split))?|(fold|split|session) ?\d+"
)
_PERSON = re.compile(r"(actor|actress|speaker|spk|subject|participant|person) ?\d+")


def check_registration(
    name: str, clip_seconds: float | None, utterances: Sequence[Utterance]
) -> list[str]:
    """Return what is wrong with a name, a clip length or the labels."""
    faults = []
    if not _NAME.fullmatch(name):
        faults.append(
            f"The name {name!r} must begin with a letter and hold only letters, "
            "digits and underscores, 32 at most."
        )
    if name.upper() in BUILT_IN:
        faults.append(f"The name {name!r} belongs to a corpus that is built in.")
    shortest, longest = CLIP_SECONDS
    if clip_seconds is not None and not (
        type(clip_seconds) in (int, float) and shortest <= clip_seconds <= longest
    ):
        faults.append(
            f"clip_seconds is {clip_seconds}; it must lie between {shortest} and "
            f"{longest}."
        )
    labels = sorted({item.label for item in utterances})
    if len(labels) == 1:
        faults.append(f"At least two labels are needed; there is only {labels[0]!r}.")
    return faults + _wrong_roles(utterances)


def _wrong_roles(utterances: Sequence[Utterance]) -> list[str]:
    """Return a sentence on labels that are surely something else."""
    labels = natsorted({item.label for item in utterances})
    parts = [label for label in labels if _PART_OF_DATA.fullmatch(folded(label))]
    people = [label for label in labels if _PERSON.fullmatch(folded(label))]
    told = [item.tags for item in utterances if item.speaker]
    if not people and told:
        same = all(folded(tags.label) == folded(tags.speaker) for tags in told)
        people = labels if same else []
    faults = []
    if parts:
        faults.append(
            f"The labels {name_some(parts)} name parts of the data, not emotions. The "
            "first folder, or the column `label`, must be the emotion; which clips "
            "train and test is decided by the protocol."
        )
    if people:
        faults.append(
            f"The labels {name_some(people)} name people, not emotions. The first "
            "folder, or the column `label`, must be the emotion."
        )
    return faults
