"""Look at one audio file: is it whole, what does it hold, can it be trusted."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import soundfile

from lib.paths import write_json

# What is stored of a file holds for this code and this decoder.
VERSION = f"1, libsndfile {soundfile.__libsndfile_version__}"
# No utterance lasts ten minutes, and a damaged header may declare years.
LONGEST_SECONDS = 600
# Full-scale peaks touch one sample, at most two; a clipped one is flat.
CLIPPED_RUN = 3
# Programs that write to a pipe cannot know the size and declare the largest one.
_UNKNOWN_SIZE = 0x7FFF_F000
_BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_24": 24, "PCM_32": 32}
LOSSLESS = frozenset("PCM_U8 PCM_S8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE".split())


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What one file holds.

    Attributes:
        fault: "empty", "unreadable" or "truncated"; "" where it can be read whole.
        reason: What is wrong, as the second half of a sentence.
        sha256: Of the bytes, "" where they cannot be read.
        flac: Whether it is a FLAC file, whatever its name says.
        encoding: How samples are stored, e.g. "PCM_16".
        sample_rate: In Hz.
        channels: Number of channels.
        frames: Samples per channel.
        peak: Largest magnitude, 1 is full scale.
        clipped: Samples in runs of three or more at full scale.
        equal_channels: Whether all channels are the same.
        content: Hash of the decoded samples; the same for the same audio in WAV
            and FLAC, and in mono and in two equal channels.
    """

    fault: str = ""
    reason: str = ""
    sha256: str = ""
    flac: bool = False
    encoding: str = ""
    sample_rate: int = 0
    channels: int = 0
    frames: int = 0
    peak: float = math.nan
    clipped: int = 0
    equal_channels: bool = True
    content: str = ""

    @property
    def seconds(self) -> float:
        """Duration, NaN where it is not known."""
        return self.frames / self.sample_rate if self.sample_rate else math.nan

    @property
    def peak_dbfs(self) -> float:
        """Peak in dB relative to full scale; minus infinity for zeros only."""
        return 20 * math.log10(self.peak) if self.peak != 0 else -math.inf


def inspect_file(
    path: Path, known: Mapping[str, Inspection] = MappingProxyType({})
) -> Inspection:
    """Read one file once and say what it holds.

    Args:
        path: The file.
        known: Inspections by SHA-256; a file with one of these is not decoded.

    Returns:
        The inspection; a file that cannot be read is described, not raised.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        reason = f"cannot be opened ({error.strerror or error})"
        return Inspection("unreadable", reason)
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 in known:
        return known[sha256]
    start = Inspection(sha256=sha256, flac=content[:4] == b"fLaC")
    if not content:
        return dataclasses.replace(start, fault="empty", reason="holds no bytes")
    declared, present = wav_data_size(content)
    try:
        found = _decode(content, start)
    except (soundfile.LibsndfileError, MemoryError, ValueError) as error:
        fault, reason = _why_unreadable(content, error)
        return dataclasses.replace(start, fault=fault, reason=reason)
    if declared > present:
        reason = f"declares {declared:,} bytes of audio but holds {present:,}"
        return dataclasses.replace(found, fault="truncated", reason=reason)
    return found


def read_inspections(path: Path) -> dict[str, Inspection]:
    """Return the stored inspections by SHA-256; none where they are of no use.

    Args:
        path: A file that `write_inspections` wrote, by this version or another.
    """
    try:
        stored = json.loads(Path(path).read_text(encoding="utf-8"))
        if stored["version"] != VERSION:
            return {}
        known = {
            sha256: Inspection(sha256=sha256, **fields)
            for sha256, fields in stored["files"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
    return known if all(map(_is_sound, known.values())) else {}


def _is_sound(seen: Inspection) -> bool:
    """Tell whether every value has the type that it should have."""
    return all(
        isinstance(getattr(seen, field.name), type(field.default))
        for field in dataclasses.fields(seen)
    )


def write_inspections(path: Path, inspections: Iterable[Inspection]) -> None:
    """Store inspections, but for files that could not be read: they may be mended.

    Args:
        path: The file to write.
        inspections: What files hold.
    """
    files = {}
    for seen in inspections:
        if not seen.fault:
            fields = dataclasses.asdict(seen)
            files[fields.pop("sha256")] = fields
    write_json(path, {"version": VERSION, "files": files})


def wav_data_size(content: bytes) -> tuple[int, int]:
    """Return how many bytes of audio a WAV declares and how many it holds.

    Args:
        content: The whole file.

    Returns:
        Declared and present bytes of the `data` chunk, other chunks passed over;
        (0, 0) where the file is no RIFF, has no such chunk or does not know.
    """
    if content[:4] != b"RIFF":
        return 0, 0
    position = 12
    while position + 8 <= len(content):
        (size,) = struct.unpack_from("<I", content, position + 4)
        if content[position : position + 4] == b"data":
            present = min(size, len(content) - position - 8)
            return (size, present) if size < _UNKNOWN_SIZE else (0, 0)
        # Chunks are padded to an even size.
        position += 8 + size + size % 2
    return 0, 0


def _decode(content: bytes, known: Inspection) -> Inspection:
    """Decode a file from memory and measure the samples."""
    with soundfile.SoundFile(io.BytesIO(content)) as sound:
        found = dataclasses.replace(
            known,
            encoding=sound.subtype,
            sample_rate=sound.samplerate,
            channels=sound.channels,
        )
        if sound.frames > LONGEST_SECONDS * sound.samplerate:
            reason = "declares more than ten minutes of audio, or no length at all"
            return dataclasses.replace(found, fault="unreadable", reason=reason)
        declared = sound.frames
        samples = sound.read(dtype="float32", always_2d=True)
    found = dataclasses.replace(found, frames=len(samples))
    if len(samples) < declared:
        reason = f"declares {declared:,} samples but decodes to {len(samples):,}"
        return dataclasses.replace(found, fault="truncated", reason=reason)
    if not len(samples):
        return dataclasses.replace(found, fault="empty", reason="holds no samples")
    return _measure(samples, found)


def _measure(samples: np.ndarray, found: Inspection) -> Inspection:
    """Add peak, clipping and the content's hash; samples (frames, channels)."""
    peak = float(max(samples.max(), -samples.min()))
    if not math.isfinite(peak):
        reason = "holds values that are not finite numbers"
        return dataclasses.replace(found, fault="unreadable", reason=reason)
    equal = bool((samples[:, 1:] == samples[:, :1]).all())
    samples = samples[:, :1] if equal else samples
    full_scale = 1 - 2.0 ** (1 - _BITS.get(found.encoding, 16))
    # Floating-point samples beyond 1 were not cut off there.
    clipped = sum(_clipped(row, full_scale) for row in samples.T) if peak <= 1 else 0
    # Adding zero turns the two zeros of floating-point files into one.
    plain = np.ascontiguousarray(samples + np.float32(0))
    digest = hashlib.sha256(plain.tobytes())
    digest.update(f"{samples.shape} {found.sample_rate}".encode())
    return dataclasses.replace(
        found,
        peak=peak,
        clipped=clipped,
        equal_channels=equal,
        content=digest.hexdigest(),
    )


def _clipped(channel: np.ndarray, full_scale: float) -> int:
    """Count the samples in runs at full scale of one sign."""
    total = 0
    if np.abs(channel).max() < full_scale:
        return total
    for sign in (1, -1):
        at_limit = np.concatenate([[False], sign * channel >= full_scale, [False]])
        edges = np.flatnonzero(np.diff(at_limit))
        runs = edges[1::2] - edges[::2]
        total += int(runs[runs >= CLIPPED_RUN].sum())
    return total


def _why_unreadable(content: bytes, error: Exception) -> tuple[str, str]:
    """Return fault and reason of content that could not be decoded."""
    head = content[:200].lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        return "unreadable", "is a pointer of Git LFS, not the audio itself"
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "unreadable", "is a web page, not audio"
    if content[:4] == b"fLaC":
        return "truncated", "cannot be decoded to its end: it is cut off or damaged"
    if content[:4] == b"RIFF":
        size = struct.unpack_from("<I", content.ljust(8, b"\0"), 4)[0]
        if size + 8 > len(content):
            return "truncated", f"declares {size + 8:,} bytes but has {len(content):,}"
    said = getattr(error, "error_string", "") or str(error)
    return "unreadable", f"is not readable as audio ({said.strip(' .')})"
