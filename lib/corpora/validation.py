"""Check what a user registers as a corpus of their own."""

from __future__ import annotations

import math
import re

import soundfile

from lib.corpora.base import AUDIO_SUFFIXES
from lib.corpora.builtin import BUILT_IN
from lib.corpora.sources import Clip, name_some

# Names become folder names and parts of run ids, which are divided by hyphens.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
CLIP_SECONDS = (0.1, 60.0)


def check_registration(
    name: str, clip_seconds: float | None, clips: list[Clip]
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
        math.isfinite(clip_seconds) and shortest <= clip_seconds <= longest
    ):
        faults.append(
            f"clip_seconds is {clip_seconds}; it must lie between {shortest} and "
            f"{longest}."
        )
    labels = sorted({clip.tags.label for clip in clips})
    if len(labels) < 2:
        found = f"only {labels[0]!r}" if labels else "none"
        faults.append(f"At least two labels are needed; there is {found}.")
    return faults


def measure(clips: list[Clip]) -> tuple[list[float], set[int], list[str]]:
    """Return the durations in seconds, the sampling rates, and unreadable files."""
    durations: list[float] = []
    rates: set[int] = set()
    unreadable: list[str] = []
    for clip in clips:
        if not clip.path.is_file() or clip.path.suffix.lower() not in AUDIO_SUFFIXES:
            continue
        try:
            info = soundfile.info(clip.path)
        except (OSError, RuntimeError):
            unreadable.append(clip.file)
            continue
        if info.frames == 0:
            unreadable.append(f"{clip.file} (empty)")
            continue
        durations.append(info.frames / info.samplerate)
        rates.add(info.samplerate)
    faults = []
    if unreadable:
        faults.append(f"Files that cannot be read as audio: {name_some(unreadable)}.")
    return durations, rates, faults
