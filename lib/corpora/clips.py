"""Utterances together with what their files hold, and how to speak of many."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from lib.corpora.audio_checks import Inspection, decibels
from lib.corpora.base import Problem, Utterance

# The quietest clip of the recorded corpora (in RAVDESS) peaks at -44 dBFS.
SILENT_DBFS = -60


@dataclasses.dataclass(frozen=True)
class Clip:
    """An utterance, what its file holds, and what the list of hashes says.

    Attributes:
        utterance: The utterance.
        seen: What the file holds.
        expected: SHA-256 of the original file, "" where it is not known.
        holds: Key of the utterance whose original it is, "" unless another one's.
    """

    utterance: Utterance
    seen: Inspection
    expected: str = ""
    holds: str = ""

    @property
    def file(self) -> str:
        """Path relative to the corpus folder."""
        return self.utterance.file

    @property
    def key(self) -> str:
        """Official name of the utterance."""
        return self.utterance.key

    @property
    def original(self) -> bool | None:
        """Whether it is the original file; None where that cannot be told.

        The bytes of a FLAC file differ from those of the original WAV.
        """
        if not self.expected or self.seen.flac:
            return None
        return self.seen.sha256 == self.expected

    @property
    def usable(self) -> bool:
        """Whether the audio could be read to its end."""
        return not self.seen.fault

    @property
    def silent(self) -> bool:
        """Whether nothing can be heard once the channels are mixed."""
        return self.usable and decibels(self.seen.mix_peak) < SILENT_DBFS


def compare_with_originals(
    utterances: Sequence[Utterance],
    inspections: Sequence[Inspection],
    hashes: Mapping[str, str],
) -> list[Clip]:
    """Join utterances, inspections and the hashes of the originals, by key."""
    keys = defaultdict(list)
    for key, digest in hashes.items():
        keys[digest].append(key)
    clips = []
    for utterance, seen in zip(utterances, inspections, strict=True):
        key = utterance.key
        there = keys.get(seen.sha256, [])
        holds = there[0] if there and key not in there else ""
        clips.append(Clip(utterance, seen, hashes.get(key, ""), holds))
    return clips


def gather(
    severity: str, kind: str, clips: Sequence[Clip], message: str, fix: str
) -> Iterator[Problem]:
    """Yield one problem of several clips, or none where there are none."""
    files = tuple(clip.file for clip in clips)
    if files:
        yield Problem(severity, kind, files[0], message, fix, files)


def listed(items: Sequence[Clip | str], noun: str = "files") -> str:
    """Return a single name, or how many there are and the first few of them."""
    names = [item if isinstance(item, str) else item.file for item in items]
    return names[0] if len(names) == 1 else f"{len(names)} {noun}: {first_few(names)}"


def first_few(names: Sequence[str], limit: int = 4) -> str:
    """Return the first few names and how many more there are."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def clip_table(clips: Sequence[Clip]) -> pd.DataFrame:
    """Return one row per utterance, for plots."""
    rows = [
        {
            "file": clip.file,
            "label": clip.utterance.label,
            "speaker": clip.utterance.speaker,
            "sex": clip.utterance.sex,
            "text": clip.utterance.text,
            "key": clip.key,
            "seconds": clip.seen.seconds,
            "sample_rate": clip.seen.sample_rate,
            "channels": clip.seen.channels,
            "encoding": clip.seen.encoding,
            "peak_dbfs": clip.seen.peak_dbfs,
            "clipped": clip.seen.clipped,
            "original": clip.original,
            "usable": clip.usable,
            "sha256": clip.seen.sha256,
            "content": clip.seen.content,
        }
        for clip in clips
    ]
    return pd.DataFrame(rows).astype({"original": "boolean"})
