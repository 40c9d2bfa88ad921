"""The feature files: what is in them, and how they are read and written."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
import tokenize
import typing
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lib import files


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """The features of a corpus, one row per utterance.

    Attributes:
        x: Features, float32, (utterances, frames, coefficients); of utterances
            that were cut (utterances, pieces, frames, coefficients), where the
            pieces that a short one lacks are not numbers.
        y: Label indices, int64, (utterances,).
        label_names: Names of the labels in index order.
        file: Path of every utterance relative to the corpus folder.
        speaker: Speaker of every utterance, "" where unknown.
        sex: "female", "male" or "".
        text: Identifier of the sentence, "" where unknown.
        about: The document stored beside the arrays (preset, versions, hashes).
    """

    x: np.ndarray
    y: np.ndarray
    label_names: np.ndarray
    file: np.ndarray
    speaker: np.ndarray
    sex: np.ndarray
    text: np.ndarray
    about: Mapping[str, typing.Any]

    def __len__(self) -> int:
        return len(self.y)

    @property
    def content(self) -> np.ndarray:
        """Hash of the decoded audio of every utterance, "" where it is not known."""
        return np.array(self.about.get("content") or [""] * len(self))


_AGAIN = "run 01_preprocess with overwrite=True to make it again"
ARRAYS = ("x", "y", "label_names", "file", "speaker", "sex", "text")
# What zipfile and NumPy raise for a file with wrong bytes in it: a flipped bit of
# a header can ask for a password, an unknown compression or half a Python tuple.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    RuntimeError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def feature_path(folder: Path, corpus: str, name: str) -> Path:
    """Return `<folder>/<CORPUS>-<features>.npz`."""
    return folder / f"{corpus}-{name}.npz"


def array_hash(array: np.ndarray) -> str:
    """Return the SHA-256 of an array's bytes in row order."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def save(target: Path, features: FeatureSet) -> None:
    """Write a feature file, then the document beside it that makes it count."""
    arrays = {name: getattr(features, name) for name in ARRAYS}
    files.write_npz(target, arrays)
    about = dict(features.about) | {"arrays_sha256": _arrays_hash(arrays)}
    files.write_json(target.with_suffix(".json"), about)


def _arrays_hash(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of all arrays of a feature file."""
    hashes = [array_hash(arrays[name]) for name in ARRAYS]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def read_about(target: Path) -> dict[str, typing.Any] | None:
    """Return the document beside a feature file, None if there is no whole one."""
    beside = target.with_suffix(".json")
    if not target.is_file() or not beside.is_file():
        return None
    try:
        about = json.loads(beside.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return about if isinstance(about, dict) else None


def read_arrays(target: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read arrays of an `.npz` file.

    Raises:
        ValueError: If the file is damaged or lacks one of them.
    """
    try:
        with np.load(target, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except _DAMAGE as error:
        raise ValueError(f"{target} is damaged ({error}); {_AGAIN}") from error


def load(target: Path) -> FeatureSet:
    """Read a feature file and check it against the document beside it.

    Raises:
        FileNotFoundError: If there is no such file; the message says what
            makes it.
        ValueError: If the arrays are not the ones the document describes.
    """
    about = read_about(target)
    if about is None:
        raise FileNotFoundError(
            f"no features at {target}. Run 01_preprocess with the same corpus and "
            "features to make them."
        )
    arrays = read_arrays(target, ARRAYS)
    if "arrays_sha256" not in about:
        raise ValueError(f"{target} was made by an earlier edition; {_AGAIN}")
    if _arrays_hash(arrays) != about["arrays_sha256"]:
        raise ValueError(f"{target} does not match its description; {_AGAIN}")
    if len(np.unique(arrays["file"])) < len(arrays["file"]):
        raise ValueError(f"{target} holds a clip twice; {_AGAIN}")
    return FeatureSet(**arrays, about=about)


def pieces(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the clips of utterances, and whose each is.

    Args:
        x: (n, frames, coefficients); or (n, pieces, frames, coefficients), where
            absent pieces are not numbers.

    Returns:
        Clips (m, frames, coefficients), and the index of the utterance of each,
        (m,), which never falls.
    """
    if x.ndim == 3:
        return x, np.arange(len(x))
    owner, piece = np.nonzero(~np.isnan(x[:, :, 0, 0]))
    return x[owner, piece], owner
