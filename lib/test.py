"""Find a finished run, and test what it or the TIM-Net authors have saved."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from lib import config, features, files, metrics, models, official, overview, runs
from lib.corpora import Corpus
from lib.device import Device
from lib.features import FeatureSet
from lib.protocols import PROTOCOLS, Fold, own_speaker_folds
from lib.runs import RunFolders
from lib.settings import Plan, inputs, make_folds, require_use
from lib.train import new_manifest, predict_utterances, write_outcomes

# What may be asked of official weights; the rest they decide themselves.
_OF_OFFICIAL = {"corpus", "features", "protocol", "folds", "seed", "model"}
_AGAIN = "run 02_train again with overwrite=True"


class OpenedRun(NamedTuple):
    """A finished run with its data; `chosen` says which run it is, and why."""

    folders: RunFolders
    manifest: dict[str, Any]
    corpus: Corpus
    features: FeatureSet
    chosen: str


def open_run(params: config.Parameters, device: Device) -> OpenedRun:
    """Return the finished run that the parameters speak of, with its data.

    With `weights_dir`, official weights are tested first, on `device`.
    """
    _require_sense(params)
    if params.weights_dir:
        corpus, data = features.obtain(params)
        folds = make_folds(params, data)
        folders = official_run(params, data, folds, device=device)
        chosen = f"{folders.run_id}: the official weights in {params.weights_dir}"
    else:
        folders, chosen = find_run(params)
        document = runs.read_manifest(folders.manifest)
        corpus, data = features.obtain(_of_run(params, document))
    document = runs.read_manifest(folders.manifest)
    require_data(document, data)
    return OpenedRun(folders, document, corpus, data, chosen)


def find_run(params: config.Parameters) -> tuple[RunFolders, str]:
    """Return the finished run that the parameters speak of, and a sentence on which.

    A parameter that is given selects, one that is not given means any; the newest
    of the runs that are left is taken.
    """
    if "model" in params.given:
        require_use(params)
    results = params.folders.results
    table = overview.load_runs(results)
    asked = sorted(config.DECIDE_A_RUN & params.given)
    if params.run_id:
        overview.require_finished(table, params.run_id, results)
        folders = RunFolders(params.folders, params.run_id)
        document = runs.read_manifest(folders.manifest)
        if differs := _differences(params, asked, document):
            fault = f"run '{params.run_id}' has {', '.join(differs)}"
            raise ValueError(f"{fault}; leave run_id empty, or these parameters out")
        return folders, f"{params.run_id}, by its name"
    asked = sorted({*asked, "corpus"})
    table = table[(table["kind"] == "trained") & (table["status"] != "damaged")]
    notes, documents = table.set_index("run_id")["note"], {}
    for run_id in notes.index:
        document = runs.read_manifest(results / run_id / "run.json")
        if document["run_id"] == run_id:  # a copied folder has no weights of its own
            documents[run_id] = document
    differs = {name: _differences(params, asked, documents[name]) for name in documents}
    done = [name for name in documents if documents[name]["status"] == "done"]
    fits = [name for name in done if not differs[name]]
    if not fits:
        wanted = ", ".join(f"{name} {getattr(params, name)}" for name in asked)
        lines = [f"no finished run with {wanted} in {results}."]
        for run_id in sorted(differs, key=lambda name: len(differs[name]))[:3]:
            reasons = filter(None, [*differs[run_id], notes[run_id]])
            lines.append(f"  there is {run_id}: {'; '.join(reasons)}")
        lines.append(f"Train it: run 02_train with {wanted}.")
        raise FileNotFoundError("\n".join(lines))
    run_id = sorted(fits, key=lambda name: documents[name]["finished"])[-1]
    chosen = f"{run_id}, the only finished run that fits"
    if len(fits) > 1:
        settings = pd.DataFrame([documents[name]["config"] for name in fits])
        differ = [
            f"{name} ({', '.join(sorted(column.unique()))})"
            for name, column in settings.astype(str).sort_index(axis=1).items()
            if name in config.DECIDE_A_RUN and column.nunique() > 1
        ]
        left_open = ", ".join(differ) or "the recordings, labels or speakers"
        chosen = (
            f"{run_id}, the newest of {len(fits)} finished runs that fit; left open: "
            f"{left_open}. Give a parameter, or run_id, to choose another"
        )
    return RunFolders(params.folders, run_id), chosen


def _differences(
    params: config.Parameters, asked: Iterable[str], document: Mapping[str, Any]
) -> list[str]:
    """Return what a run has in place of the parameters that are asked for."""
    known, found = document["config"], []
    for name in asked:
        wanted, has = getattr(params, name), known.get(name)
        if name == "features":
            system = models.SYSTEMS.get(known["model"])
            own = wanted or getattr(system, "features", "")
            changed = "feature_options" in asked and has.rpartition("-")[0] == own
            same = has == own or changed
        elif isinstance(wanted, dict):
            settings = "feature_settings" if name == "feature_options" else name
            has = {key: (known.get(settings) or {}).get(key) for key in wanted}
            same = has == wanted
        elif has is None:  # a system without epochs has none of it
            same = wanted == getattr(config.Parameters(), name)
        elif name == "folds" and not wanted:  # as many as the protocol has by itself
            sides = [set(fold["test"]["speakers"]) for fold in document["folds"]]
            by_speaker = own_speaker_folds(known["corpus"], len(set().union(*sides)))
            same = has == (PROTOCOLS[known["protocol"]].folds or by_speaker)
        else:
            same = has == getattr(params, f"{name}_in_force", wanted)
        if not same:
            found.append(f"{name} {has}")
    return found


def _of_run(
    params: config.Parameters, document: Mapping[str, Any]
) -> config.Parameters:
    """Return the parameters with the corpus and the front end of a run."""
    known, audit = document["config"], document["data"]["audit"] or {}
    preset, options = known["features"], {}
    if preset not in (*features.PRESETS, "timnet_official"):
        preset = preset.rpartition("-")[0]
        own, used = features.front_end(preset), known["feature_settings"]
        options = {k: value for k, value in used.items() if value != getattr(own, k)}
    # Errors that were ignored when it was trained are ignored again; caveats name them.
    errors = any(item["severity"] == "error" for item in audit.get("problems", ()))
    update = {"corpus": known["corpus"], "features": preset}
    update |= {"feature_options": options, "ignore_problems": errors}
    return params.model_copy(update=update)


def require_data(document: Mapping[str, Any], data: FeatureSet) -> None:
    """Raise ValueError unless a run was trained on exactly these data."""
    run_id, known, about = document["run_id"], document["config"], data.about
    for name in ("corpus", "features", "clip_samples"):
        if known[name] != about[name]:
            raise ValueError(
                f"run {run_id} was trained on {name} '{known[name]}', not on "
                f"'{about[name]}'. Run 02_train: with that it is another run."
            )
    if known["data_sha256"] != about["data_sha256"]:
        raise ValueError(
            f"run {run_id} was trained on other recordings, labels or speakers than "
            "are there now. Run 02_train: on what is there now it is another run."
        )


def retest(
    folders: RunFolders, data: FeatureSet, *, weights_dir: str = "", verbose: int = 1
) -> tuple[pd.DataFrame, np.ndarray]:
    """Load the saved network of every fold and predict its test rows again.

    Returns:
        The predictions, in the order of the run's own, and the embeddings (n, width).
    """
    document = runs.read_manifest(folders.manifest)
    require_data(document, data)
    recorded = runs.read_predictions(folders.predictions)
    rows = pd.Index(data.file).get_indexer(recorded["file"])
    wrong = recorded["y_true"].to_numpy() != data.y[rows]
    wrong |= recorded["speaker"].to_numpy() != data.speaker[rows]
    if -1 in rows or wrong.any():
        raise ValueError(
            f"{folders.predictions} has other files, labels or speakers than the data; "
            f"{_AGAIN}"
        )
    columns = runs.probability_columns(data.label_names)
    tables, embeddings = [], []
    numbers = sorted(recorded["fold"].unique())
    for fold in tqdm(numbers, "folds", unit="fold", disable=verbose != 1):
        here = (recorded["fold"] == fold).to_numpy()
        x = data.x[rows[here]]
        if document["kind"] == runs.OFFICIAL:
            file = _official_file(weights_dir, folders, int(fold), document)
            model = official.load_weights(file, x.shape[-2:], len(columns))
        else:
            model = load_fold(folders, int(fold), document)
        probabilities, embedding = _answers(model, x)
        part = recorded[here].assign(y_pred=probabilities.argmax(axis=1))
        part[columns] = probabilities
        tables.append(part)
        embeddings.append(embedding)
    return pd.concat(tables), np.concatenate(embeddings)


def load_fold(folders: RunFolders, fold: int, document: Mapping[str, Any]) -> Any:
    """Return the system that was tested in a fold; refuse a file changed since."""
    path = folders.model(fold)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is gone; {_AGAIN}")
    (now,) = runs.artefacts(folders, [path])
    if now not in document["artefacts"]:
        raise ValueError(
            f"{path} is not the file that {folders.run_id} was tested with; {_AGAIN}"
        )
    return models.load(path)


def _require_sense(params: config.Parameters) -> None:
    """Raise ValueError for parameters that contradict each other."""
    useless = sorted((params.given & config.DECIDE_A_RUN) - _OF_OFFICIAL)
    useless += [f"model '{params.model}'"] * (params.model != "timnet")
    protocol = params.protocol_in_force
    if not params.weights_dir and params.overwrite:
        fault = "overwrite is for official weights; 02_train makes a run anew"
    elif not params.weights_dir and params.weights_format:
        fault = "weights_format without weights_dir: give the folder too"
    elif params.weights_dir and params.run_id:
        fault = "give run_id or weights_dir, not both"
    elif params.weights_dir and useless:
        fault = (
            f"weights_dir holds TIM-Net as published: leave out {', '.join(useless)}"
        )
    elif params.weights_dir and protocol not in ("paper", "paper_best"):
        fault = f"protocol '{protocol}': official weights were trained on random folds"
        fault += ", so most of its test clips trained; use protocol='paper'"
    else:
        return
    raise ValueError(fault)


def official_run(
    params: config.Parameters,
    data: FeatureSet,
    folds: Sequence[Fold],
    *,
    device: Device,
) -> RunFolders:
    """Test the TIM-Net authors' weights on the folds they were trained for.

    The folders are those of a finished run, which has no weights of its own.
    """
    folder = Path(params.weights_dir).expanduser()
    weights = official.fold_files(folder, len(folds))
    settings = inputs(params, data, folds) | {
        "model_options": {},
        "epochs": None,
        "weights_format": "timnet_hdf5",
        "weights_sha256": [files.sha256_file(path) for path in weights],
    }
    folders = RunFolders(params.folders, config.make_run_id(settings))
    if folders.manifest.is_file() and not params.overwrite:
        if runs.read_manifest(folders.manifest)["status"] == "done":
            return folders
    with runs.only_one(folders):
        plan = Plan(settings, folds)
        document = new_manifest(folders.run_id, plan, data, device)
        # The authors published them when their code still kept the epoch that was
        # best on the test fold (until August 2023).
        unrecorded = {"epochs_run": None, "epoch_chosen": None, "chosen_on": "test"}
        document["kind"] = runs.OFFICIAL
        document["folds"] = [entry | unrecorded for entry in document["folds"]]
        runs.write_manifest(folders.manifest, document)
        shape, classes, outcomes = data.x.shape[-2:], len(data.label_names), []
        bar = tqdm(weights, "folds", unit="fold", disable=params.verbose != 1)
        for fold, file in zip(folds, bar, strict=True):
            model = official.load_weights(file, shape, classes)
            answers = (fold.test, *_answers(model, data.x[fold.test]))
            names = ("rows", "probabilities", "embeddings")
            outcomes.append(dict(zip(names, answers, strict=True)))
        numbers = [fold.number for fold in folds]
        table = write_outcomes(folders, data, numbers, outcomes)
        written = [folders.predictions, folders.embeddings]
        document |= {
            "status": "done",
            "finished": runs.now(),
            "metrics": metrics.pooled_and_folds(table),
            "artefacts": runs.artefacts(folders, written),
        }
        runs.write_manifest(folders.manifest, document)
    return folders


def _answers(model: Any, x: np.ndarray) -> Sequence[np.ndarray]:
    """Return probabilities and embeddings of utterances, in pieces or not."""
    return predict_utterances(functools.partial(models.predict, model), x)


def _official_file(
    weights_dir: str, folders: RunFolders, fold: int, document: Mapping[str, Any]
) -> Path:
    """Return the weight file that a run of official weights tested in a fold."""
    known = document["config"]["weights_sha256"]
    if not weights_dir:
        raise ValueError(
            f"run {folders.run_id} tested official weights, of which it keeps no "
            "copy; set weights_dir to their folder"
        )
    file = official.fold_files(Path(weights_dir).expanduser(), len(known))[fold - 1]
    if files.sha256_file(file) != known[fold - 1]:
        raise ValueError(
            f"{file} is not the file that run {folders.run_id} tested; leave run_id "
            "empty to test it as a run of its own"
        )
    return file
