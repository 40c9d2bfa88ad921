"""Look at one audio file: is it whole, what does it hold, can it be trusted."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import struct
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import joblib
import numpy as np
import soundfile
from tqdm.auto import tqdm

from lib.files import write_json

# What is stored of a file holds for this code and this decoder.
VERSION = f"2, libsndfile {soundfile.__libsndfile_version__}"
# Full-scale peaks touch one sample, at most two; a clipped one is flat.
CLIPPED_RUN = 3
# Programs that write to a pipe cannot know the size and declare the largest one.
_UNKNOWN_SIZE = 0x7FFF_F000
_BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_24": 24, "PCM_32": 32}
LOSSLESS = frozenset(
    "PCM_U8 PCM_S8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE "
    "ALAC_16 ALAC_20 ALAC_24 ALAC_32".split()
)
_BLOCK = 1 << 20  # frames


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
        mix_peak: Largest magnitude of the mean of the channels, which the front end
            hears.
        mix_ratio: Root mean square of that mean over that of the loudest channel;
            small where the channels cancel.
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
    mix_peak: float = math.nan
    mix_ratio: float = 1.0
    content: str = ""

    @property
    def seconds(self) -> float:
        """Duration, NaN where it is not known."""
        return self.frames / self.sample_rate if self.sample_rate else math.nan

    @property
    def peak_dbfs(self) -> float:
        """Peak in dB relative to full scale; minus infinity for zeros only."""
        return decibels(self.peak)


def decibels(ratio: float) -> float:
    """Return an amplitude ratio in dB; minus infinity for zero."""
    return 20 * math.log10(ratio) if ratio != 0 else -math.inf


def read_audio(
    source: Path | typing.BinaryIO,
) -> tuple[np.ndarray, soundfile.SoundFile]:
    """Decode a whole file, whatever length its header declares.

    Block by block, because a damaged header may declare years, and because a format
    without random access (GSM) is read only in numbers of frames.

    Args:
        source: An audio file, or an open binary file.

    Returns:
        Samples (frames, channels), float32, and the closed file, for its properties.

    Raises:
        soundfile.LibsndfileError: If it cannot be decoded.
    """
    with soundfile.SoundFile(source) as sound:
        blocks = [np.zeros((0, sound.channels), np.float32)]
        while len(block := sound.read(_BLOCK, dtype="float32", always_2d=True)):
            blocks.append(block)
    return np.concatenate(blocks), sound


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


def inspect_files(
    paths: Sequence[Path],
    cache: Path | str | None = None,
    jobs: int = -1,
    progress: bool = False,
) -> list[Inspection]:
    """Read files in threads and say what each of them holds.

    Args:
        paths: The files.
        cache: JSON file of what is known by the hash of the bytes: only files that
            are new to it are decoded, and it is kept up to date; None for none.
        jobs: Number of threads; -1 is one per core.
        progress: Whether to draw a progress bar.

    Returns:
        One inspection per file, in their order.
    """
    known = _read_inspections(Path(cache)) if cache else {}
    # Decoding and hashing release the interpreter's lock.
    workers = joblib.Parallel(n_jobs=jobs, prefer="threads", return_as="generator")
    found = workers(joblib.delayed(inspect_file)(path, known) for path in paths)
    bar = tqdm(found, "doctor", len(paths), unit="clip", disable=not progress)
    inspections = list(bar)
    # Faulty files are read each time: another decoder may know better.
    new = {seen.sha256: seen for seen in inspections if not seen.fault}
    if cache and not new.keys() <= known.keys():
        _write_inspections(Path(cache), known | new)
    return inspections


def _read_inspections(path: Path) -> dict[str, Inspection]:
    """Return the stored inspections by SHA-256; none of a damaged or other version."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
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


def _write_inspections(path: Path, inspections: Mapping[str, Inspection]) -> None:
    """Store inspections by SHA-256."""
    files = {sha256: dataclasses.asdict(seen) for sha256, seen in inspections.items()}
    for fields in files.values():
        del fields["sha256"]
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
    samples, sound = read_audio(io.BytesIO(content))
    found = dataclasses.replace(
        known,
        encoding=sound.subtype,
        sample_rate=sound.samplerate,
        channels=sound.channels,
        frames=len(samples),
    )
    if len(samples) < sound.frames:
        reason = f"declares {sound.frames:,} samples but decodes to {len(samples):,}"
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
    mix = samples.mean(axis=1)
    loudest = _root_mean_square(samples).max()
    return dataclasses.replace(
        found,
        peak=peak,
        clipped=clipped,
        equal_channels=equal,
        mix_peak=float(np.abs(mix).max()),
        mix_ratio=float(_root_mean_square(mix) / loudest) if loudest else 1.0,
        content=digest.hexdigest(),
    )


def _root_mean_square(samples: np.ndarray) -> np.ndarray:
    """Return the root mean square over the frames, (channels,)."""
    return np.sqrt(np.square(samples, dtype=np.float64).mean(axis=0))


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
