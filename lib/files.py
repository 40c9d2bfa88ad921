"""The folders of a workspace, files that are either whole or absent, feature files."""

import contextlib
import dataclasses
import hashlib
import json
import os
import uuid
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from errno import EACCES, EDQUOT, ENOSPC, EROFS
from pathlib import Path
from typing import Any

import numpy as np

ARRAYS = ("x", "y", "label_names", "file", "speaker", "sex", "text")
REPOSITORY = Path(__file__).resolve().parent.parent
DATASETS = REPOSITORY / "Datasets"
_ADVICE = dict.fromkeys((ENOSPC, EDQUOT), "free some space and run the same again")
_ADVICE |= dict.fromkeys((EACCES, EROFS), "set `workspace` or `datasets_dir`")


class Workspace:
    """The folders that one study reads and writes.

    An empty `root` is the repository, an empty `datasets_dir` its folder `Datasets`.
    """

    def __init__(self, root: str | Path = "", datasets_dir: str | Path = ""):
        self.root = Path(root or REPOSITORY).expanduser().resolve()
        self.datasets = Path(datasets_dir or self.root / "Datasets")
        self.datasets = self.datasets.expanduser().resolve()
        for name, path in (("workspace", self.root), ("datasets_dir", self.datasets)):
            if path.exists() and not path.is_dir():
                raise ValueError(f"{name}: {path} is a file; give a folder")
        self.features = self.root / "MFCC"
        self.models = self.root / "Models"
        self.logs = self.root / "logs"
        self.results = self.root / "Results"


def located(path: Path | str) -> Path:
    """Return an absolute path; a relative one is of here, else of the repository."""
    path = Path(path).expanduser()
    if not path.exists() and (REPOSITORY / path).exists():
        path = REPOSITORY / path
    return path.resolve()


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a path that becomes `target` if the block succeeds, never by halves."""
    temporary = target.parent / f".partial-{uuid.uuid4().hex}-{target.name}"
    try:
        with advised(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            os.replace(temporary, target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def advised(target: Path) -> Iterator[None]:
    """Say what to do where the disk does not take a file."""
    try:
        yield
    except OSError as error:
        if error.errno not in _ADVICE:
            raise
        reason = f"{error.strerror}; {_ADVICE[error.errno]}"
        raise OSError(error.errno, f"could not write {target}: {reason}") from error


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, value: object) -> None:
    """Write a JSON document atomically, indented, keys in the order given."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(target, text + "\n")


def unchanged(manifest: Path, **facts: object) -> bool:
    """Return whether a manifest says `facts`, and files beside it have its hashes."""
    with contextlib.suppress(FileNotFoundError, ValueError, LookupError):
        document = json.loads(manifest.read_text(encoding="utf-8"))
        named = document["files"].items()
        whole = all(sha256_file(manifest.parent / path) == sha for path, sha in named)
        return whole and {**document, **facts} == document
    return False


def write_npz(target: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays to an uncompressed `.npz` atomically, without pickles."""
    # NumPy's own `savez` cannot name an array "file", which the feature files do.
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """The features of a corpus, one row per utterance, in the official row order."""

    # float32, (utterances, frames, coefficients); of utterances in pieces
    # (utterances, pieces, frames, coefficients), NaN for a piece that is lacking.
    x: np.ndarray
    y: np.ndarray  # int64, (utterances,): indices of label_names
    label_names: np.ndarray
    file: np.ndarray  # paths relative to the corpus folder
    speaker: np.ndarray  # "" where unknown, like text
    sex: np.ndarray  # "female", "male" or ""
    text: np.ndarray
    about: Mapping[str, Any]  # the document beside the arrays

    def __len__(self) -> int:
        return len(self.y)

    @property
    def content(self) -> np.ndarray:
        """Hash of the decoded audio of every utterance, "" where it is not known."""
        return np.array(self.about.get("content") or [""] * len(self))


def pieces(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the clips (m, frames, coefficients) of utterances, and whose each is."""
    if x.ndim == 3:
        return x, np.arange(len(x))
    owner, piece = np.nonzero(~np.isnan(x[:, :, 0, 0]))
    return x[owner, piece], owner


def stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Return the features of utterances as one array, filled up with NaN."""
    most = max(map(len, rows))
    x = np.full((len(rows), most, *rows[0].shape[1:]), np.nan, np.float32)
    for filled, row in zip(x, rows, strict=True):
        filled[: len(row)] = row
    return x


def array_hash(array: np.ndarray) -> str:
    """Return the SHA-256 of an array's bytes in row order."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def write_features(target: Path, features: FeatureSet) -> FeatureSet:
    """Write a feature file, then the document beside it that makes it count."""
    about = {**features.about, "x_sha256": array_hash(features.x)}
    beside = target.with_suffix(".json")
    beside.unlink(missing_ok=True)
    write_npz(target, {name: getattr(features, name) for name in ARRAYS})
    write_json(beside, about)
    return dataclasses.replace(features, about=about)


def read_features(target: Path) -> FeatureSet:
    """Read a feature file that is whole and what its document describes."""
    beside = target.with_suffix(".json")
    if not target.is_file() or not beside.is_file():
        way = "Run 01_preprocess with the same corpus and features to make them."
        raise FileNotFoundError(f"no features at {target}. {way}")
    try:
        about = json.loads(beside.read_text(encoding="utf-8"))
        with np.load(target, allow_pickle=False) as file:
            features = FeatureSet(*(file[name] for name in ARRAYS), about)
        if about["x_sha256"] != array_hash(features.x):
            raise ValueError("it does not match its description")
    except Exception as error:  # zipfile and NumPy raise eleven kinds for wrong bytes
        way = "run 01_preprocess with overwrite=True to make it again"
        raise ValueError(f"{target} is damaged ({error}); {way}") from error
    return features


def find_features(target: Path, key: Mapping[str, Any]) -> FeatureSet | None:
    """Return what a feature file holds if it is whole and says what `key` says."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        found = read_features(target)
        if {**found.about, **key} == found.about:
            return found
    return None
