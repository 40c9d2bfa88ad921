"""Run folders and the manifest that says what a run is and how far it got."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from lib import files

SCHEMA_VERSION = 2


@dataclasses.dataclass(frozen=True)
class RunFolders:
    """Where the files of one run lie.

    Attributes:
        workspace: The workspace of the run.
        run_id: Its id.
    """

    workspace: files.Workspace
    run_id: str

    @property
    def models(self) -> Path:
        """Folder of the weights."""
        return self.workspace.models / self.run_id

    @property
    def logs(self) -> Path:
        """Folder of curves, TensorBoard events and checkpoints."""
        return self.workspace.logs / self.run_id

    @property
    def results(self) -> Path:
        """Folder of manifest, predictions, embeddings, figures and tables."""
        return self.workspace.results / self.run_id

    @property
    def manifest(self) -> Path:
        """The manifest `run.json`."""
        return self.results / "run.json"

    @property
    def predictions(self) -> Path:
        """The table of every tested utterance."""
        return self.results / "predictions.csv"

    @property
    def embeddings(self) -> Path:
        """The embeddings of every tested utterance."""
        return self.results / "embeddings.npz"

    def model(self, fold: int) -> Path:
        """The weights that were tested in a fold."""
        return self.models / f"fold_{fold:02d}.keras"

    def last_weights(self, fold: int) -> Path:
        """The weights after the last epoch, where another epoch was tested."""
        return self.models / f"fold_{fold:02d}.last.weights.h5"

    def outcome(self, fold: int) -> Path:
        """What a finished fold leaves behind: predictions, embeddings, curves."""
        return self.logs / f"fold_{fold:02d}.npz"

    def checkpoint(self, fold: int) -> Path:
        """The state of a fold that is being trained."""
        return self.logs / f"fold_{fold:02d}.checkpoint.npz"

    def curves(self, fold: int) -> Path:
        """The curves of a fold, one row per epoch."""
        return self.logs / f"fold_{fold:02d}.csv"

    def events(self, fold: int) -> Path:
        """Folder of a fold's TensorBoard events."""
        return self.logs / f"fold_{fold:02d}"


def now() -> str:
    """Return the time in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def environment() -> dict[str, str]:
    """Return the versions that a result depends on."""
    packages = ("keras", "tensorflow", "tensorflow-cpu", "jax", "numpy", "librosa")
    found = {}
    for package in (*packages, "soxr", "scikit-learn"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    # Only where something was computed with it: this module stays light.
    if keras := sys.modules.get("keras"):
        found["backend"] = keras.backend.backend()
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processors": str(os.cpu_count()),
        **found,
    }


def git_state(*aside: str) -> dict[str, Any]:
    """Return the commit of the workbook and whether its files were changed.

    Args:
        aside: Files whose changes do not count, relative to the repository.
    """
    command = ["git", "-C", str(files.REPOSITORY)]
    try:
        commit = subprocess.run(
            [*command, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        status = subprocess.run(
            [*command, "status", "--porcelain", "--untracked-files=no", "--", "."]
            + [f":(exclude){path}" for path in aside],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "", "changed": None}  # a downloaded archive has no history
    return {"commit": commit.stdout.strip(), "changed": bool(status.stdout.strip())}


def read(path: Path) -> dict[str, Any]:
    """Read a manifest.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged or of another schema.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"there is no run at {path.parent}; 02_train makes runs"
        ) from None
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}); run 02_train again with overwrite=True"
        ) from error
    if not isinstance(manifest, dict) or manifest.get("schema_version") != (
        SCHEMA_VERSION
    ):
        raise ValueError(
            f"{path} is not a manifest of schema {SCHEMA_VERSION}: it was made by an "
            "earlier edition; train the run again"
        )
    return manifest


def write(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write a manifest atomically."""
    files.write_json(path, dict(manifest))


def artefacts(folders: RunFolders, paths: list[Path]) -> list[dict[str, str]]:
    """Return path (relative to the workspace) and SHA-256 of every file."""
    return [
        {
            "path": path.relative_to(folders.workspace.root).as_posix(),
            "sha256": files.sha256_file(path),
        }
        for path in paths
    ]


@contextlib.contextmanager
def only_one(folders: RunFolders) -> Iterator[None]:
    """Keep a second process from working on the same run at the same time.

    The lock belongs to the process, so one that is killed leaves none behind.

    Raises:
        RuntimeError: If another process works on the run.
    """
    folders.logs.mkdir(parents=True, exist_ok=True)
    with open(folders.logs / ".lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(
                f"run {folders.run_id} is being worked on by another process; wait "
                "for it, or change a parameter"
            ) from None
        yield


def curves(folders: RunFolders, folds: int) -> pd.DataFrame:
    """Return the curves of all folds: columns fold, epoch, loss, accuracy, uar, ...

    Args:
        folders: A run.
        folds: Number of its folds.

    Raises:
        FileNotFoundError: If the curves of a fold are missing.
    """
    tables = []
    for fold in range(1, folds + 1):
        path = folders.curves(fold)
        if not path.is_file():
            raise FileNotFoundError(f"no curves at {path}; run 02_train again")
        tables.append(pd.read_csv(path).assign(fold=fold))
    return pd.concat(tables, ignore_index=True)


def chosen_epochs(manifest: Mapping[str, Any]) -> dict[int, int]:
    """Return the epoch that was tested in every fold."""
    return {entry["fold"]: entry["epoch_chosen"] for entry in manifest["folds"]}


def listing(folders: RunFolders) -> list[str]:
    """Return the files of a run relative to its workspace, hidden ones left out."""
    found = [
        path
        for folder in (folders.models, folders.logs, folders.results)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    ]
    return [path.relative_to(folders.workspace.root).as_posix() for path in found]
