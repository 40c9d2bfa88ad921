"""Find the workspace and write files that are either whole or absent.

This is the only module that knows the names of the folders.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
DATASETS = REPOSITORY / "Datasets"


@dataclasses.dataclass(frozen=True)
class Workspace:
    """The folders that one study reads and writes."""

    root: Path
    datasets: Path  # one sub-folder of audio for each corpus

    @property
    def features(self) -> Path:
        """Folder of the cached feature arrays."""
        return self.root / "MFCC"

    @property
    def models(self) -> Path:
        """Folder of the trained weights, one sub-folder for each run."""
        return self.root / "Models"

    @property
    def logs(self) -> Path:
        """Folder of the training logs, one sub-folder for each run."""
        return self.root / "logs"

    @property
    def results(self) -> Path:
        """Folder of the manifests, predictions and figures of all runs."""
        return self.root / "Results"


def find_workspace(root: str = "", datasets_dir: str = "") -> Workspace:
    """Return the workspace that two notebook parameters describe.

    Args:
        root: Workspace folder; "" is the repository root. It is created on
            the first write.
        datasets_dir: Folder of the corpora; "" is `Datasets` in the workspace.

    Raises:
        ValueError: If one of the two paths exists and is not a folder.
    """
    base = Path(root).expanduser().resolve() if root else REPOSITORY
    datasets = (
        Path(datasets_dir).expanduser().resolve() if datasets_dir else base / "Datasets"
    )
    for name, path in (("workspace", base), ("datasets_dir", datasets)):
        if path.exists() and not path.is_dir():
            raise ValueError(f"{name}: {path} is a file; give a folder.")
    return Workspace(base, datasets)


def located(path: Path | str) -> Path:
    """Return an absolute path; a relative one is seen from here, then from the root.

    Notebooks run in `notebooks/`, but folders are named as seen from the repository.
    """
    path = Path(path).expanduser()
    if not path.exists() and (REPOSITORY / path).exists():
        path = REPOSITORY / path
    return path.resolve()


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` that becomes it only if the block succeeds.

    A cut at any moment leaves the old file or the new one, never half of one.

    Raises:
        OSError: If the disk is full or the folder cannot be written; the
            message names the file and the way out.
    """
    target = Path(target)
    temporary = target.parent / f".partial-{uuid.uuid4().hex}-{target.name}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise _explained(error, target) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _explained(error: OSError, target: Path) -> OSError:
    """Return the same error with a message that says what to do."""
    elsewhere = "choose another one (`workspace`; for audio `datasets_dir`)"
    advice = {
        errno.ENOSPC: "the disk is full; free some space and run the same again",
        errno.EDQUOT: "the disk quota is used up; free some space and run again",
        errno.EACCES: f"the folder cannot be written; {elsewhere}",
        errno.EROFS: f"the disk is read-only; {elsewhere}",
    }.get(error.errno)
    if advice is None:
        return error
    message = f"could not write {target}: {advice}. Nothing half-written was kept."
    return type(error)(error.errno, message)


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, value: object) -> None:
    """Write a JSON document atomically, indented, keys in the order given."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(target, text + "\n")


def write_npz(target: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays to an uncompressed `.npz` atomically, without pickles.

    NumPy's own `savez` cannot name an array "file", which the feature files do.
    """
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(
                    member, np.asanyarray(array), allow_pickle=False
                )


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that a killed process left in a folder tree."""
    if folder.is_dir():
        for path in folder.rglob(".partial-*"):
            path.unlink(missing_ok=True)
