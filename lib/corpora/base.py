"""What a corpus is: its labels, its speakers, and how its file names speak."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import soundfile

# The built-in corpora are released in WAV; FLAC holds the same samples.
AUDIO_SUFFIXES = frozenset((".wav", ".flac"))
# Of a user's own files, whatever the audio library knows by its first bytes.
READABLE_SUFFIXES = frozenset(
    f".{name.lower()}" for name in soundfile.available_formats().keys() - {"RAW", "SD2"}
).union(".8svx .aif .aifc .iff .mp2 .oga .opus .sf .snd .sph .wave".split())


@dataclasses.dataclass(frozen=True)
class Tags:
    """What a file name (or an annotation) says about one utterance.

    Attributes:
        label: Emotion, one of the corpus's `labels`.
        speaker: Speaker identifier, unique inside the corpus.
        sex: "female", "male" or "" where unknown.
        text: Identifier of the sentence spoken, "" where unknown.
        key: The official name of the utterance without suffix: what the
            official arrays are sorted by, and what copies in another layout
            (flattened, FLAC) are recognised by. Unique inside the corpus.
    """

    label: str
    speaker: str
    sex: str = ""
    text: str = ""
    key: str = ""


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One audio file with its tags.

    Attributes:
        path: Where the audio lies.
        file: The path relative to the corpus folder, with forward slashes.
        tags: Label, speaker, sex, text and official key.
    """

    path: Path
    file: str
    tags: Tags

    @property
    def label(self) -> str:
        """Emotion of the clip."""
        return self.tags.label

    @property
    def speaker(self) -> str:
        """Speaker of the clip."""
        return self.tags.speaker

    @property
    def sex(self) -> str:
        """Sex of the speaker."""
        return self.tags.sex

    @property
    def text(self) -> str:
        """Sentence of the clip."""
        return self.tags.text

    @property
    def key(self) -> str:
        """Official name of the clip."""
        return self.tags.key


@dataclasses.dataclass(frozen=True)
class Download:
    """One archive that can be fetched without a form.

    Attributes:
        url: Address of the archive (zip).
        megabytes: Approximate size, told before the download starts.
        checksums: Name of the list in `lib/data/checksums` that the extracted
            files are checked against.
    """

    url: str
    megabytes: int
    checksums: str


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Everything the workbook knows about one corpus.

    Attributes:
        name: Folder name under `Datasets`, e.g. "EMODB".
        title: Name in full, for headings.
        language: Language spoken.
        labels: Emotions in the official index order.
        counts: Expected number of utterances per label.
        sexes: Sex of every known speaker, in display order.
        sample_rate: Rate of the distributed audio in Hz, 0 where it varies.
        clip_samples: Clip length in samples at 22,050 Hz that the official
            TIM-Net pads or crops to (its `mean_signal_length`).
        dilations: Number of temporal-aware blocks the official TIM-Net uses.
        terms: Licence or terms of use, in a sentence.
        how_to_get: What a user does to obtain it, in full sentences.
        citation: The publication to cite.
        parse: Reads the tags out of a path relative to the corpus folder;
            None for an audio file that belongs to the release but not to the
            task (song, another class); ValueError, with the reason, for a
            name that is not the corpus's.
        find: Replaces the walk over the folder where tags do not come from
            names (IEMOCAP, user's CSV). Returns (utterances, problems).
        download: Archives to fetch, empty where a licence forbids it.
        checksums: Name of the list of original hashes, "" where none is known.
        official_name: What the TIM-Net authors call it ("RAVDE").
        seconds: Shortest and longest plausible clip in seconds.
        synthetic: True for generated audio, to be said wherever it appears.
        ignore_case: True where the official row order inside a class does not
            tell upper from lower case (CASIA).
        channels: Channels of the distributed audio, 0 where it varies or is not
            known.
        own: True for a registered corpus: no release that it could differ from.
    """

    name: str
    title: str
    language: str
    labels: tuple[str, ...]
    counts: Mapping[str, int]
    sexes: Mapping[str, str]
    sample_rate: int
    clip_samples: int
    dilations: int
    terms: str
    how_to_get: str
    citation: str
    parse: Callable[[PurePosixPath], Tags | None]
    find: Callable[[Path], tuple[list[Utterance], list[Problem]]] | None = None
    download: tuple[Download, ...] = ()
    checksums: str = ""
    official_name: str = ""
    seconds: tuple[float, float] = (0.3, 30.0)
    synthetic: bool = False
    ignore_case: bool = False
    channels: int = 0
    own: bool = False

    @property
    def speakers(self) -> tuple[str, ...]:
        """Known speakers in display order."""
        return tuple(self.sexes)


@dataclasses.dataclass(frozen=True)
class Problem:
    """One finding of the doctor.

    Attributes:
        severity: "error" (results would be wrong), "warning" or "note".
        kind: missing, extra, mislabelled, duplicate, rate, length, truncated,
            silent, clipped, altered, unreadable, empty …
        file: The file concerned, relative to the corpus folder, or "".
        message: What is wrong, in a sentence.
        fix: What to do about it, in a sentence.
        files: All files concerned where there are several; `file` is the first.
    """

    severity: str
    kind: str
    file: str
    message: str
    fix: str
    files: tuple[str, ...] = ()


class Mislabelled(ValueError):  # noqa: N818 - named as the doctor reports it
    """A file's name and its folder contradict each other about the speaker."""
