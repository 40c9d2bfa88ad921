"""The files of a run: folders, manifest, predictions, and what spoils its score."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partialmethod
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from lib import files
from lib.models import SYSTEMS
from lib.protocols import PROTOCOLS

SCHEMA_VERSION = 2
OFFICIAL = "official weights"  # kind of a run that the TIM-Net authors trained


class RunFolders:
    """Where the files of one run lie; folds are numbered from 1."""

    def __init__(self, workspace: files.Workspace, run_id: str):
        self.workspace, self.run_id = workspace, run_id
        self.models = workspace.models / run_id
        self.logs = workspace.logs / run_id
        self.results = workspace.results / run_id
        self.manifest = self.results / "run.json"
        self.predictions = self.results / "predictions.csv"
        self.embeddings = self.results / "embeddings.npz"

    def model(self, fold: int) -> Path:  # a baseline is saved by skops
        system = SYSTEMS.get("".join(self.run_id.split("-")[1:2]))
        ending = "skops" if system and system.fit else "keras"
        return self.models / f"fold_{fold:02d}.{ending}"

    def last_weights(self, fold: int) -> Path:  # where another epoch was tested
        return self.models / f"fold_{fold:02d}.last.weights.h5"

    def _log(self, ending: str, fold: int) -> Path:
        return self.logs / f"fold_{fold:02d}{ending}"

    outcome = partialmethod(_log, ".npz")  # what a finished fold leaves
    checkpoint = partialmethod(_log, ".checkpoint.npz")  # of a fold in training
    curves = partialmethod(_log, ".csv")  # one row per epoch
    events = partialmethod(_log, "")  # folder of TensorBoard events


def now() -> str:
    """Return the time in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def environment() -> dict[str, str]:
    """Return the versions that a result depends on."""
    found = {"python": sys.version.split()[0], "platform": platform.platform()}
    found["processors"] = str(os.cpu_count())
    packages = "keras tensorflow tensorflow-cpu jax numpy librosa soxr scikit-learn"
    for package in packages.split():
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    # Only where something was computed with it: this module stays light.
    if keras := sys.modules.get("keras"):
        found["backend"] = keras.backend.backend()
    return found


def git_state() -> dict[str, Any]:
    """Return the workbook's commit, and whether tracked files were changed."""
    command = "git describe --always --abbrev=40 --dirty --exclude=*".split()
    told = {"cwd": files.REPOSITORY, "capture_output": True, "text": True}
    try:
        done = subprocess.run(command, check=True, **told)
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "", "changed": None}  # an archive has no history
    commit, _, dirty = done.stdout.strip().partition("-")
    return {"commit": commit, "changed": bool(dirty)}


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest; ValueError if it is damaged or of an earlier edition."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        message = f"there is no run at {path.parent}; 02_train makes runs"
        raise FileNotFoundError(message) from None
    except ValueError as error:
        message = f"{path} is damaged ({error}); run 02_train again with overwrite=True"
        raise ValueError(message) from error
    known = isinstance(document, dict) and document.get("schema_version")
    if known != SCHEMA_VERSION:
        raise ValueError(
            f"{path} is not a manifest of schema {SCHEMA_VERSION}: it was made by an "
            "earlier edition; train the run again"
        )
    return document


write_manifest = files.write_json


def artefacts(folders: RunFolders, paths: Sequence[Path]) -> list[dict[str, str]]:
    """Return path (relative to the workspace) and SHA-256 of every file."""
    root = folders.workspace.root
    return [
        {"path": path.relative_to(root).as_posix(), "sha256": files.sha256_file(path)}
        for path in paths
    ]


@contextlib.contextmanager
def only_one(folders: RunFolders) -> Iterator[None]:
    """Keep other processes from working on a run; a killed one leaves no lock."""
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
    """Return the curves of all folds: columns fold, epoch, loss, accuracy, uar, ..."""
    tables = [
        pd.read_csv(folders.curves(fold)).assign(fold=fold)
        for fold in range(1, folds + 1)
    ]
    return pd.concat(tables, ignore_index=True)


def chosen_epochs(document: Mapping[str, Any]) -> dict[int, int]:
    """Return the epoch that was tested in every fold."""
    return {fold["fold"]: fold["epoch_chosen"] for fold in document["folds"]}


def listing(folders: RunFolders) -> list[str]:
    """Return the files of a run relative to its workspace, hidden ones left out."""
    return [
        path.relative_to(folders.workspace.root).as_posix()
        for folder in (folders.models, folders.logs, folders.results)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    ]


def protocol_label(document: Mapping[str, Any]) -> str:
    """Return the protocol of a run with its warnings, for titles."""
    label = PROTOCOLS[document["config"]["protocol"]].label
    if document.get("kind") == OFFICIAL:  # this is how the authors chose the epoch
        label = f"{OFFICIAL}; {PROTOCOLS['paper_best'].label}"
    return f"{label}; synthetic speech" if document["synthetic"] else label


def caveats(document: Mapping[str, Any]) -> dict[str, str]:
    """Return what spoils a run's score: a sentence by the mark that tables carry."""
    folds = document["folds"]
    sides = [
        [set(fold.get(part, {}).get("speakers") or ()) for part in ("train", "test")]
        for fold in folds
    ]
    unknown = any("" in train | test or not (train and test) for train, test in sides)
    shared = 0 if unknown else sum(bool(train & test) for train, test in sides)
    repeated = sum(fold.get("repeated", 0) for fold in folds)
    untrained = [fold["untrained"] for fold in folds if fold.get("untrained")]
    absent = ", ".join(sorted(set().union(*untrained)))
    pooled = document.get("metrics", {}).get("pooled", {})
    said = {
        "synthetic audio": document["synthetic"]
        and "The speech is generated: no score is about people.",
        OFFICIAL: document.get("kind") == OFFICIAL
        and "The weights are the TIM-Net authors', made by their own code.",
        "epoch chosen on the test fold": "test" in [f.get("chosen_on") for f in folds]
        and "The score is the best of many tries on the test clips: no honest one.",
        "speakers unknown": unknown
        and "Speakers are not known: one may train and test.",
        "speakers shared": shared
        and f"In {shared} of {len(folds)} folds speakers who test have trained too.",
        f"{repeated} test clips trained too": repeated
        and f"{repeated} recordings also train or validate, under another name.",
        f"untrained: {absent}": absent
        and f"In {len(untrained)} of {len(folds)} folds {absent} tests, never trains.",
        **_audio_caveats(document.get("data", {}).get("audit")),
        "interval indicative only": pooled.get("interval", {}).get("reliable") is False
        and "The interval is a hint only: speakers are too few, or not known.",
    }
    return {mark: sentence for mark, sentence in said.items() if sentence}


def _audio_caveats(audit: Mapping[str, Any] | None) -> dict[str, str]:
    if not audit:
        return {"audio not checked": "The features came without audio: nobody checked."}
    columns = ["severity", "kind", "files", "message"]
    problems, said = pd.DataFrame(audit["problems"], columns=columns), {}
    for severity, mark in (("error", "errors ignored"), ("warning", "data warnings")):
        found = problems[problems["severity"] == severity]
        counts = found.groupby("kind", sort=False)["files"].sum()
        kinds = ", ".join(f"{kind} {n}" if n else kind for kind, n in counts.items())
        told = f"{mark.capitalize()} ({len(found)}): {' '.join(found['message'])}"
        said |= {f"{mark}: {kinds}": told} if len(found) else {}
    used, whole = audit["used"], audit["expected"] or audit["found"]
    told = f"{used} of {whole} clips are used, {audit['found']} were found."
    if dropped := [f"{file} ({why})" for file, why in audit["dropped"].items()]:
        more = f" and {len(dropped) - 4} more" if len(dropped) > 4 else ""
        told += f" Left out: {'; '.join(dropped[:4])}{more}"
    return said | ({f"{used} of {whole} clips": told} if used < whole else {})


def probability_columns(label_names: Sequence[str]) -> list[str]:
    """Return the names of the probability columns in label order."""
    return [f"p_{label}" for label in label_names]


def predictions_table(*, probabilities, label_names: Sequence[str], **columns):
    """Return one row a tested clip; columns: file, speaker, sex, fold, y_true, (n,)."""
    order = ("file", "speaker", "sex", "fold", "y_true")
    table = pd.DataFrame({name: columns[name] for name in order})
    table["y_pred"] = probabilities.argmax(axis=1)
    names = probability_columns(label_names)
    return table.join(pd.DataFrame(probabilities, columns=names))


def write_predictions(target: Path, table: pd.DataFrame) -> None:
    """Write predictions as CSV, atomically; floats keep all their digits."""
    files.write_text(target, table.to_csv(index=False, lineterminator="\n"))


def read_predictions(path: Path) -> pd.DataFrame:
    """Read predictions; identifiers stay text, also where they look like numbers."""
    again = "run 02_train with overwrite=True"
    if not path.is_file():
        raise FileNotFoundError(f"no predictions at {path}; {again}")
    require_unchanged(path)
    text = dict.fromkeys(("file", "speaker", "sex"), "object")
    table = pd.read_csv(path, dtype=text, keep_default_na=False)
    missing = {*text, "fold", "y_true", "y_pred"} - {*table}
    if missing or table.duplicated(["fold", "file"]).any():
        odd = f"lacks {sorted(missing)}" if missing else "holds a clip twice in a fold"
        raise ValueError(f"{path} {odd}; {again}")
    return table


def require_unchanged(path: Path) -> None:
    """Raise ValueError if a file of a finished run is not what its manifest names."""
    try:
        document = read_manifest(path.parent / "run.json")
    except (FileNotFoundError, ValueError):
        return
    place = f"{path.parent.parent.name}/{document['run_id']}/{path.name}"
    for item in document.get("artefacts", ()):
        if item["path"] == place and item["sha256"] != files.sha256_file(path):
            raise ValueError(
                f"{path} was changed after the run was finished; run 02_train with "
                "overwrite=True"
            )
