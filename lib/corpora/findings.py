"""What the content of the files says about a copy of a corpus."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from lib.corpora.audio_checks import LOSSLESS, decibels
from lib.corpora.base import Corpus, Problem
from lib.corpora.clips import SILENT_DBFS, Clip, gather, listed

# Fewer clips may share a length by chance; in RAVDESS one in twenty does.
_RECUT_CLIPS, _RECUT_SHARE = 20, 0.9
# Single files of the releases themselves have another number of channels.
_FEW = 0.01
_SLACK = 0.01  # of a duration, for copies whose resampler rounded
_CANCELLED = 0.1  # of the level of the loudest channel: 20 dB
_UNSCALED = 2.0  # of full scale: 6 dB, more than encoders and filters overshoot
_FRAME_SECONDS = 2048 / 22_050
_LONG_SECONDS = 60
_ONE_CHANNEL = "Keep one of the channels, or invert one of them, and save it again."


def content_problems(
    corpus: Corpus, clips: Sequence[Clip], remedy: str
) -> Iterator[Problem]:
    """Yield everything wrong with the content of single utterances.

    Args:
        corpus: The corpus.
        clips: Its utterances, inspected.
        remedy: How to get a good copy, in a sentence.
    """
    yield from _damaged(clips, remedy)
    whole = [clip for clip in clips if clip.usable]
    yield from _silent(whole, remedy)
    yield from _swapped(whole, remedy)
    yield from _cancelled(whole)
    yield from _unscaled(whole, remedy)
    if corpus.own:
        yield from _short_or_long(whole)
    else:
        yield from _unlike_the_release(corpus, whole, remedy)
    yield from _encoding(corpus, whole, remedy)
    yield from _clipped(corpus, whole)


def _unlike_the_release(
    corpus: Corpus, clips: Sequence[Clip], remedy: str
) -> Iterator[Problem]:
    """Yield lengths, contents, rates and channels that the release does not have."""
    sound = audible(clips)
    usual = _recut_seconds(corpus, sound)
    wrong = {clip.file for clip in _implausible(corpus, sound)}
    if usual:
        wrong |= {clip.file for clip in sound if clip.seen.seconds == usual}
    yield from _length(corpus, sound, wrong, usual, remedy)
    yield from _altered(corpus, sound, wrong, remedy)
    yield from _rate_and_channels(corpus, clips, remedy)


def audible(clips: Sequence[Clip]) -> list[Clip]:
    """Return the clips whose audio is there, and not another utterance's."""
    return [clip for clip in clips if clip.usable and not (clip.silent or clip.holds)]


def _damaged(clips: Sequence[Clip], remedy: str) -> Iterator[Problem]:
    for fault in ("empty", "unreadable", "truncated"):
        hit = [clip for clip in clips if clip.seen.fault == fault]
        if not hit:
            continue
        message = f"{hit[0].file} {hit[0].seen.reason}."
        if len(hit) > 1:
            message = f"{fault.capitalize()}: {listed(hit)}. The first: {message}"
        yield from gather("error", fault, hit, message, remedy)


def _silent(clips: Sequence[Clip], remedy: str) -> Iterator[Problem]:
    hit = [clip for clip in clips if clip.silent and not clip.original]
    inverse = [clip for clip in hit if clip.seen.mix_ratio < _CANCELLED]
    empty = [clip for clip in hit if clip not in inverse]
    zeros = all(clip.seen.peak == 0 for clip in empty)
    why = "only zeros" if zeros else f"no sample reaches {SILENT_DBFS} dBFS"
    message = f"Silent ({why}): {listed(empty)}."
    yield from gather("error", "silent", empty, message, remedy)
    message = f"Silent once the channels are averaged, which cancel: {listed(inverse)}."
    yield from gather("error", "silent", inverse, message, _ONE_CHANNEL)


def _cancelled(clips: Sequence[Clip]) -> Iterator[Problem]:
    hit = [
        clip for clip in clips if clip.seen.mix_ratio < _CANCELLED and not clip.silent
    ]
    named = [f"{clip.file} ({decibels(clip.seen.mix_ratio):.0f} dB)" for clip in hit]
    message = f"The channels nearly cancel when they are averaged: {listed(named)}."
    yield from gather("warning", "phase", hit, message, _ONE_CHANNEL)


def _unscaled(clips: Sequence[Clip], remedy: str) -> Iterator[Problem]:
    for severity, low, high, what, fix in (
        (
            "error",
            _UNSCALED,
            math.inf,
            "Not scaled to full scale 1, but beyond it by far",
            f"Divide by the full scale of the numbers (32768 for 16 bits). {remedy}",
        ),
        (
            "warning",
            1.0,
            _UNSCALED,
            "Beyond full scale",
            "Nothing to do if they are louder on purpose; nothing was cut off.",
        ),
    ):
        hit = [clip for clip in clips if low < clip.seen.peak <= high]
        named = [f"{clip.file} ({clip.seen.peak_dbfs:+.1f} dBFS)" for clip in hit]
        message = f"{what}: {listed(named)}."
        yield from gather(severity, "scale", hit, message, fix)


def _short_or_long(clips: Sequence[Clip]) -> Iterator[Problem]:
    short = [clip for clip in clips if clip.seen.seconds < _FRAME_SECONDS]
    named = [f"{clip.file} ({clip.seen.frames} samples)" for clip in short]
    message = (
        f"Shorter than one frame ({1000 * _FRAME_SECONDS:.0f} ms), so that nearly all "
        f"of the clip is padding: {listed(named)}."
    )
    fix = "Remove them, unless they are as short on purpose."
    yield from gather("warning", "length", short, message, fix)
    long = [clip for clip in clips if clip.seen.seconds > _LONG_SECONDS]
    named = [f"{clip.file} ({clip.seen.seconds:.0f} s)" for clip in long]
    message = f"Longer than a minute: {listed(named)}."
    fix = "Only the middle of a clip is used: cut them into utterances."
    yield from gather("warning", "length", long, message, fix)


def _swapped(clips: Sequence[Clip], remedy: str) -> Iterator[Problem]:
    hit = [clip for clip in clips if clip.holds]
    pairs = [f"{clip.file} is the original of {clip.holds}" for clip in hit]
    message = f"Filed under a wrong name, by SHA-256: {listed(pairs)}."
    yield from gather("error", "mislabelled", hit, message, remedy)


def _implausible(corpus: Corpus, clips: Sequence[Clip]) -> list[Clip]:
    """Return the clips that last shorter or longer than any of the release."""
    low = corpus.seconds[0] * (1 - _SLACK)
    high = corpus.seconds[1] * (1 + _SLACK)
    return [
        clip
        for clip in clips
        if not clip.original and not low <= clip.seen.seconds <= high
    ]


def _recut_seconds(corpus: Corpus, clips: Sequence[Clip]) -> float:
    """Return the duration that nearly all clips have, 0 where there is none."""
    lengths = Counter(clip.seen.seconds for clip in clips if not clip.original)
    total = lengths.total()
    if total < _RECUT_CLIPS or corpus.seconds[0] >= corpus.seconds[1]:
        return 0.0
    usual, number = lengths.most_common(1)[0]
    return usual if number >= _RECUT_SHARE * total else 0.0


def _length(
    corpus: Corpus, clips: Sequence[Clip], wrong: set[str], usual: float, remedy: str
) -> Iterator[Problem]:
    same = [clip for clip in clips if usual and clip.seen.seconds == usual]
    message = (
        f"{len(same)} of {len(clips)} clips last exactly {usual:.3f} s: this is not "
        f"{corpus.name} as released, but a copy that was cut or padded."
    )
    yield from gather("error", "length", same, message, remedy)
    odd = [c for c in clips if c.file in wrong and c.seen.seconds != usual]
    named = [f"{clip.file} ({clip.seen.seconds:.2f} s)" for clip in odd]
    message = (
        f"Too short or too long for {corpus.name}, whose clips last "
        f"{corpus.seconds[0]:g} to {corpus.seconds[1]:g} s: {listed(named)}."
    )
    # Without a fixed release the limits are a guess.
    severity = "error" if corpus.counts else "warning"
    yield from gather(severity, "length", odd, message, remedy)


def _altered(
    corpus: Corpus, clips: Sequence[Clip], wrong: set[str], remedy: str
) -> Iterator[Problem]:
    compared = [clip for clip in clips if clip.original is not None]
    altered = [clip for clip in compared if not clip.original]
    worse = [clip for clip in altered if clip.file in wrong]
    milder = [clip for clip in altered if clip.file not in wrong]
    heading = f"Not the original, by SHA-256 ({len(compared)} compared"
    message = f"{heading}), and of a wrong length: {listed(worse)}."
    yield from gather("error", "altered", worse, message, remedy)
    fix = (
        f"{remedy} Where only the headers were rewritten the audio is still the same; "
        "otherwise results differ from published ones."
    )
    yield from gather(
        "warning", "altered", milder, f"{heading}): {listed(milder)}.", fix
    )
    flac = [clip for clip in clips if clip.expected and clip.seen.flac]
    message = f"FLAC cannot be compared with the hashes of the WAV: {listed(flac)}."
    fix = "Nothing to do; only the original WAV files can be verified."
    yield from gather("note", "unverified", flac, message, fix)


def _encoding(corpus: Corpus, clips: Sequence[Clip], remedy: str) -> Iterator[Problem]:
    lossy = [clip for clip in clips if clip.seen.encoding not in LOSSLESS]
    kinds = ", ".join(sorted({clip.seen.encoding for clip in lossy}))
    message = f"Compressed with loss ({kinds}): {listed(lossy)}."
    if corpus.own:
        fix = (
            "Nothing to do if they were recorded so; else take the uncompressed files."
        )
        yield from gather("note", "encoding", lossy, message, fix)
    else:
        yield from gather("warning", "encoding", lossy, message, remedy)


def _rate_and_channels(
    corpus: Corpus, clips: Sequence[Clip], remedy: str
) -> Iterator[Problem]:
    groups: dict[tuple[int, int, bool], list[Clip]] = defaultdict(list)
    for clip in clips:
        seen = clip.seen
        groups[seen.sample_rate, seen.channels, seen.equal_channels].append(clip)
    for (rate, channels, equal), hit in sorted(groups.items()):
        if corpus.sample_rate not in (0, rate):
            released = f"{corpus.sample_rate:,} Hz {_channels(corpus.channels)}"
            message = (
                f"Resampled to {rate:,} Hz {_channels(channels)} ({corpus.name} is "
                f"released at {released.strip()}): {listed(hit)}."
            )
            fix = (
                f"{remedy} Until then results differ from published ones, because "
                "features depend on the resampler."
            )
            yield from gather("warning", "rate", hit, message, fix)
        elif corpus.channels not in (0, channels):
            harmless = (equal and channels > 1) or len(hit) <= _FEW * len(clips)
            message = (
                f"{_channels(channels).capitalize()}"
                f"{' with equal channels' if equal and channels > 1 else ''}, where "
                f"{corpus.name} is {_channels(corpus.channels)}: {listed(hit)}."
            )
            fix = "Nothing to do: channels are averaged." if harmless else remedy
            severity = "note" if harmless else "warning"
            yield from gather(severity, "channels", hit, message, fix)


def _channels(number: int) -> str:
    names = {0: "", 1: "mono", 2: "stereo"}
    return names.get(number, f"{number} channels")


def _clipped(corpus: Corpus, clips: Sequence[Clip]) -> Iterator[Problem]:
    hit = [clip for clip in clips if clip.seen.clipped]
    amplified = (
        "Record or export them at a lower level."
        if corpus.own
        else "Compare with another copy: if they are not so in the release, they were "
        "amplified too much on the way."
    )
    for released, severity, fix in (
        (True, "note", "Nothing to do: they are so in the release."),
        (False, "warning", amplified),
    ):
        group = [clip for clip in hit if bool(clip.original) == released]
        named = [f"{clip.file} ({clip.seen.clipped} samples)" for clip in group]
        message = f"Clipped, at full scale several samples in a row: {listed(named)}."
        yield from gather(severity, "clipped", group, message, fix)
