"""Audio that lies in a corpus folder more than once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from lib.corpora.base import Problem
from lib.corpora.clips import Clip, gather, listed


def repeated_audio(clips: Sequence[Clip], remedy: str) -> Iterator[Problem]:
    """Yield the audio that has several official names.

    Decoded samples are compared, so that WAV and FLAC of the same audio match.

    Args:
        clips: Utterances with audible content.
        remedy: How to get a good copy, in a sentence.
    """
    groups: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        groups[clip.seen.content].append(clip)
    repeated = [group for group in groups.values() if len(group) > 1]
    across = [group for group in repeated if not _is_one_class(group)]
    yield from _problem(
        "error", across, "The same audio under several speakers or labels", remedy
    )
    inside = [group for group in repeated if _is_one_class(group)]
    known = [group for group in inside if _is_released(group)]
    split = "Random folds may train on one and test on the other"
    yield from _problem(
        "warning",
        [group for group in inside if group not in known],
        "The same audio under several names of one speaker and label",
        f"Find out which name is right and remove the other. {split}.",
    )
    yield from _problem(
        "warning",
        known,
        "The same audio under several names, and so in the release",
        f"Leave it as published. {split}; the protocol `speaker` does not.",
    )


def second_copies(clips: Sequence[Clip], copies: Sequence[Clip]) -> Iterator[Problem]:
    """Yield the utterances that lie there twice, with the same audio or not.

    Args:
        clips: The utterances that are used.
        copies: Further files of the same official names.
    """
    used = {clip.key: clip for clip in clips}
    same, unlike = [], []
    for copy in copies:
        # The samples of files that cannot be read are not known to be equal.
        equal = copy.usable and copy.seen.content == used[copy.key].seen.content
        (same if equal else unlike).append(copy)
    for severity, group, what, fix in (
        (
            "error",
            unlike,
            "The same name twice, the audio being different or not readable",
            "Keep the one from an original copy and remove the other.",
        ),
        ("warning", same, "The same utterance twice", "Remove the second copies."),
    ):
        pairs = [f"{copy.file} beside {used[copy.key].file}" for copy in group]
        message = f"{what} (the latter is used): {listed(pairs)}."
        yield from gather(severity, "duplicate", group, message, fix)


def _problem(
    severity: str, groups: Sequence[Sequence[Clip]], what: str, fix: str
) -> Iterator[Problem]:
    names = [" = ".join(clip.file for clip in group) for group in groups]
    flat = [clip for group in groups for clip in group]
    message = f"{what}: {listed(names, 'recordings')}."
    yield from gather(severity, "duplicate", flat, message, fix)


def _is_one_class(group: Sequence[Clip]) -> bool:
    tags = [clip.utterance.tags for clip in group]
    return len({(tag.speaker, tag.label) for tag in tags}) == 1


def _is_released(group: Sequence[Clip]) -> bool:
    """Tell whether the original files of all names are the same."""
    return bool(group[0].expected) and len({clip.expected for clip in group}) == 1
