"""Runs on disk: folders, manifests, predictions, caveats; the table of all runs."""

import collections
import contextlib
import dataclasses
import fcntl
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partialmethod
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import pandas as pd
import pydantic_core

from lib import config, files
from lib.models import SYSTEMS
from lib.protocols import PROTOCOLS

SCHEMA_VERSION = 2
OFFICIAL = "official weights"  # kind of a run that the TIM-Net authors trained
AGAIN = "run 02_train again with overwrite=True"
# The columns of the leaderboard file, up to run_id; then what only the workbook needs.
COLUMNS = (
    "corpus model protocol uar uar_low uar_high war war_low war_high macro_f1 "
    "fold_uar_mean fold_uar_sd fold_war_mean fold_war_sd features folds seed epochs "
    "parameters seconds finished synthetic warning run_id "
    "status note kind label classes setup configuration config"
).split()
APART = ("protocol", "folds", "seed")  # settings in columns of their own


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
    machine = f"{platform.system()} {platform.machine()}"
    found = {"python": sys.version.split()[0], "platform": machine}
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
    if not path.is_file():
        raise FileNotFoundError(f"no run at {path.parent}; 02_train makes runs")
    with contextlib.suppress(ValueError, LookupError, TypeError):
        document = pydantic_core.from_json(path.read_bytes())
        if document["schema_version"] == SCHEMA_VERSION:
            return document
    raise ValueError(f"{path} is damaged or of an earlier edition; {AGAIN}")


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
    with files.advised(folders.logs):
        folders.logs.mkdir(parents=True, exist_ok=True)
        file = open(folders.logs / ".lock", "w", encoding="utf-8")
    with file:
        # `is_locked` holds it for a moment: a second look is right.
        if not any(_locks(file) or time.sleep(0.1) for _ in range(2)):
            message = f"run {folders.run_id} is being worked on by another process"
            raise RuntimeError(f"{message}; wait for it")
        yield


def _locks(file: TextIO) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def is_locked(folders: RunFolders) -> bool:
    """Tell whether a process works on a run."""
    if not (folders.logs / ".lock").is_file():
        return False
    with open(folders.logs / ".lock", "a", encoding="utf-8") as file:
        return not _locks(file)


def protocol_label(document: Mapping[str, Any]) -> str:
    """Return the protocol of a run with its warnings, for titles."""
    promise = PROTOCOLS[document["config"]["protocol"]]
    if document["config"].get("epochs", 0) is None:  # fitted: it chooses none
        promise = dataclasses.replace(promise, chosen_on="last")
    label = promise.label
    if document["kind"] == OFFICIAL:  # this is how the authors chose the epoch
        label = f"{OFFICIAL}; {PROTOCOLS['paper_best'].label}"
    if document["config"].get("normalisation") == "speaker":
        label += "; transductive"
    return f"{label}; synthetic speech" if document["synthetic"] else label


def caveats(document: Mapping[str, Any]) -> dict[str, str]:
    """Return what spoils a run's score: a sentence by the mark that tables carry."""
    folds, said = document["folds"], {}
    trained, chose, tested = (
        [set(fold[part]["speakers"]) for fold in folds]
        for part in ("train", "validation", "test")
    )
    trained = [*map(set.union, trained, chose)]
    shared = sum(map(bool, map(set.intersection, trained, tested)))
    repeated = sum(fold["repeated"] for fold in folds)
    if document["synthetic"]:
        said["synthetic audio"] = "The speech is generated: no score is about people."
    if document["kind"] == OFFICIAL:
        said[OFFICIAL] = "The weights are the TIM-Net authors', made by their own code."
    if any(fold.get("chosen_on") == "test" for fold in folds):
        told = "The score is the best of many tries on the test clips: no honest one."
        said["epoch chosen on the test fold"] = told
    if "" in set().union(*trained, *tested):
        said["speakers unknown"] = "Speakers are not known: one may train and test."
    elif shared:
        told = f"In {shared} of {len(folds)} folds test speakers train or validate."
        said["speakers shared"] = told
    if document["config"].get("normalisation") == "speaker":
        told = "A speaker's clips are normalised together, the tested ones too."
        said["transductive"] = told
    if unused := document["data"].get("in_no_fold"):
        said[f"{unused} clips in no fold"] = f"The folds leave {unused} clips out."
    if repeated:
        told = f"{repeated} recordings also train or validate, under another name."
        said[f"{repeated} test clips trained too"] = told
    for name in sorted({name for fold in folds for name in fold["untrained"]}):
        said[f"untrained: {name}"] = f"In a fold {name} tests and never trains."
    scores = document.get("metrics")
    if scores and not scores["pooled"]["interval"]["reliable"]:
        told = "The interval is a hint only: speakers are too few, or not known."
        said["interval indicative only"] = told
    if not (audit := document["data"]["audit"]):
        return said | {"audio not checked": "The features came without checked audio."}
    for severity, mark in (("error", "errors ignored"), ("warning", "data warnings")):
        found = [one for one in audit["problems"] if one["severity"] == severity]
        counts = collections.Counter()
        for one in found:
            counts[one["kind"]] += one["files"]
        kinds = ", ".join(f"{kind} {n}" if n else kind for kind, n in counts.items())
        if found:
            messages = " ".join(one["message"] for one in found)
            said[f"{mark}: {kinds}"] = f"{mark.capitalize()} ({len(found)}): {messages}"
    used, whole = audit["used"], audit["expected"] or audit["found"]
    if used < whole:
        told = f"{used} of {whole} clips are used, {audit['found']} were found."
        if dropped := [f"{file} ({why})" for file, why in audit["dropped"].items()]:
            more = f" and {len(dropped) - 4} more" if len(dropped) > 4 else ""
            told += f" Left out: {'; '.join(dropped[:4])}{more}"
        said[f"{used} of {whole} clips"] = told
    return said


def probability_columns(label_names: Sequence[str]) -> list[str]:
    """Return the names of the probability columns in label order."""
    return [f"p_{label}" for label in label_names]


def predictions_table(*, probabilities, label_names: Sequence[str], **columns):
    """Return one row a tested clip; columns: file, speaker, sex, fold, y_true, (n,)."""
    table = pd.DataFrame(columns)[["file", "speaker", "sex", "fold", "y_true"]]
    table["y_pred"] = probabilities.argmax(axis=1)
    table[probability_columns(label_names)] = probabilities
    return table


def read_predictions(path: Path) -> pd.DataFrame:
    """Read predictions; identifiers stay text, also where they look like numbers."""
    require_unchanged(path)
    text = dict.fromkeys(("file", "speaker", "sex"), "object")
    return pd.read_csv(path, dtype=text, keep_default_na=False)


def require_unchanged(path: Path) -> None:
    """Raise an error if a file of a finished run is gone, or not what was written."""
    if not path.is_file():
        raise FileNotFoundError(f"no {path.stem} at {path}; {AGAIN}")
    try:
        document = read_manifest(path.parent / "run.json")
    except (FileNotFoundError, ValueError):
        return
    place = f"Results/{document['run_id']}/{path.name}"  # also where it was copied
    for item in document["artefacts"] if document["status"] == "done" else ():
        if item["path"] == place and item["sha256"] != files.sha256_file(path):
            raise RuntimeError(f"{path} was changed after its run was done; {AGAIN}")


def load_runs(results: Path, run_ids: Iterable[str] | None = None) -> pd.DataFrame:
    """Return one row for every run, or for some of them; there may be none.

    `note` says why a run has no score, `warning` what spoils it. `config` has the
    settings that make its `setup`: all but protocol, folds and seed, which have columns
    of their own. `configuration` is the same for other seeds.
    """
    there = (one.name for one in Path(results).glob("*"))
    ids = sorted(there if run_ids is None else set(run_ids))
    rows, setups = [], {}  # runs of a setup share its settings and their digest
    for folder in ids:
        try:
            document = read_manifest(Path(results) / folder / "run.json")
            row = _row(document, folder, setups)
            rows.append({name: row[name] for name in COLUMNS if name in row})
        except FileNotFoundError:
            continue
        except (ValueError, LookupError, TypeError) as error:
            note = f"it cannot be read: {error}"
            rows.append({"run_id": folder, "status": "damaged", "note": note})
    whole = dict.fromkeys(("folds", "seed", "epochs", "parameters"), "Int64")
    return pd.DataFrame(rows, columns=COLUMNS).astype(whole)


def _row(document: Mapping[str, Any], folder: str, setups: dict) -> dict[str, Any]:
    """Return what a run is, how far it got, and its scores if it is done."""
    given, folds, status = document["config"], document["folds"], document["status"]
    trained = sum("seconds" in fold for fold in folds)
    note = {
        "done": "",
        "failed": f"failed: {document['error']}",
        "running": f"not finished: {trained} of {len(folds)} folds; 02_train continues",
    }[status]
    if document["run_id"] != folder:
        note = "; ".join(filter(None, [note, f"a copy of {document['run_id']}"]))
    settings = {key: given[key] for key in given if key not in (*APART, "folds_sha256")}
    if given["protocol"] == "listed":  # a file may have changed under its name
        settings["rows"] = given["folds_sha256"][:6]
    if (key := pydantic_core.to_json(settings)) not in setups:
        setups[key] = {"config": settings, "setup": config.digest(settings)}
    row = {**document, **given, **setups[key], "run_id": folder, "note": note}
    row["configuration"] = f"{row['setup']} {given['protocol']} {given['folds']}"
    row |= {"label": protocol_label(document), "warning": "; ".join(caveats(document))}
    row["classes"] = len(document["data"]["label_names"])
    if status == "done":
        scores = document["metrics"]
        row |= scores["pooled"]
        for name in ("uar", "war"):
            row[f"{name}_low"], row[f"{name}_high"] = row[f"{name}_interval"]
            row[f"fold_{name}_mean"] = scores["mean"][name]
            row[f"fold_{name}_sd"] = scores["sd"][name]
    return row


def settings(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run, a row of `load_runs`."""
    return run["config"] | {name: run[name] for name in APART}


def leaderboard(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the finished runs by corpus, honesty of the protocol, and UAR.

    `system` is the name of the system without its seed: settings are named where the
    runs of a corpus and model differ in them, the number of folds where they differ
    under one protocol ("timnet, epochs 4, dilations 3"). `name` is that of the run.
    """
    done = runs[runs["status"] == "done"]
    if done.empty:
        there = "\n  there is " + runs["run_id"] + ": " + runs["note"]
        raise FileNotFoundError(f"no finished run; run 02_train first{''.join(there)}")
    # From the question that matters (a speaker never heard) down to the leaks.
    chosen = ("validation", "last", "test")
    ranks = {
        name: 3 * (not one.speakers_apart) + chosen.index(one.chosen_on)
        for name, one in PROTOCOLS.items()
    }
    done = done.assign(rank=done["protocol"].map(ranks), worse=-done["uar"])
    order = ["corpus", "rank", "protocol", "worse", "run_id"]
    board = done.sort_values(order, ignore_index=True)
    names = _system_names(board)
    board = board.assign(system=names, name=names + ", seed " + board["seed"].map(str))
    several = board.duplicated(["corpus", "protocol", "name"], keep=False)
    ends = " (" + board["run_id"].str[-8:] + ")"
    return board.assign(name=board["name"].where(~several, board["name"] + ends))


def _system_names(board: pd.DataFrame) -> pd.Series:
    kinds = ["corpus", "model", "kind", "protocol", "folds"]
    once = board.drop_duplicates("configuration").set_index("configuration")
    told = []
    for settings, folds in zip(once["config"], once["folds"], strict=True):
        given = {"folds": folds} | settings | settings["model_options"]
        given["data_sha256"] = given["data_sha256"][:6]
        hidden = {*kinds[:-1], "feature_settings", "model_options"}
        shown = {key: given[key] for key in given if key not in hidden}
        told.append({k: f"{k.replace('_', ' ')} {v}" for k, v in shown.items()})
    table = pd.DataFrame(told, index=once.index)
    groups = [once[name] for name in kinds[:3]]
    differs = table.groupby(groups).transform("nunique") > 1
    folds = table["folds"].groupby([*groups, once["protocol"]]).transform("nunique")
    differs["folds"] = folds > 1
    table = table.where(differs)
    table.insert(0, "kind", once["kind"].where(once["kind"] != "trained"))
    table.insert(0, "model", once["model"])
    table["mark"] = once["label"].str.extract("(transductive)", expand=False)
    names = table.apply(lambda row: ", ".join(row.dropna()), axis=1)
    return board["configuration"].map(names)


def newest(board: pd.DataFrame) -> pd.DataFrame:
    """Return one run of each configuration and seed: of copies the newest."""
    last = board.sort_values("finished", kind="stable")
    return last.drop_duplicates(["configuration", "seed"], keep="last").sort_index()
