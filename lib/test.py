"""Find a finished run, and test what it or the TIM-Net authors have saved."""

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from lib import config, features, files, models, official, planning, runs, train
from lib.corpora import Corpus
from lib.device import Device
from lib.files import FeatureSet
from lib.protocols import PROTOCOLS
from lib.runs import AGAIN, RunFolders

# What may be asked of official weights; the rest they decide themselves.
_OF_OFFICIAL = {"corpus", "features", "protocol", "folds", "seed", "model"}


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
        folders = official_run(params, data, device)
        chosen = f"{folders.run_id}: the official weights in {params.weights_dir}"
    else:
        folders, chosen = find_run(params)
        corpus, data = features.obtain(_of_run(params, folders))
    document = runs.read_manifest(folders.manifest)
    require_data(document, data)
    return OpenedRun(folders, document, corpus, data, chosen)


def _require_sense(params: config.Parameters) -> None:
    """Raise ValueError for parameters that contradict each other."""
    useless = sorted((params.given & config.DECIDE_A_RUN) - _OF_OFFICIAL)
    useless += [f"model '{params.model}'"] * (params.model != "timnet")
    random = params.protocol_in_force in ("paper", "paper_best")
    if not params.weights_dir and (params.overwrite or params.weights_format):
        fault = "overwrite and weights_format are for official weights; leave them out"
    elif params.weights_dir and params.run_id:
        fault = "give run_id or weights_dir, not both"
    elif params.weights_dir and useless:
        fault = f"weights_dir holds TIM-Net itself: leave out {', '.join(useless)}"
    elif params.weights_dir and not random:
        fault = "official weights were trained on random folds; use protocol='paper'"
    else:
        return
    raise ValueError(fault)


def find_run(params: config.Parameters) -> tuple[RunFolders, str]:
    """Return the finished run that the parameters speak of, and a sentence on which.

    A parameter that is given selects, one that is not given means any. Of the runs that
    are left, the newest under the usual protocol is taken, else the newest.
    """
    results, way = params.folders.results, "run_id" if params.run_id else "corpus"
    asked = sorted({way} | config.DECIDE_A_RUN & params.given)
    there = way == "run_id" and (results / params.run_id / "run.json").is_file()
    table = runs.load_runs(results, [params.run_id] if there else None)
    if way == "corpus":
        table = table[table["kind"] != runs.OFFICIAL]  # a damaged one has no kind
    reasons = []
    for run in table.itertuples():
        found = _differences(params, asked, run) if run.status != "damaged" else []
        # A copied folder has no weights of its own.
        if run.status != "done" or (run.note and way == "corpus"):
            found.append(run.note)
        reasons.append("; ".join(found))
    table = table.assign(reasons=pd.Series(reasons, table.index, dtype="str"))
    fits = table[table["reasons"] == ""].sort_values("finished")
    if fits.empty:
        hint = config.did_you_mean(params.run_id, table["run_id"])
        wanted = ", ".join(f"{name} {getattr(params, name)}" for name in asked)
        message = f"no finished run with {wanted} in {results}{hint}; run 02_train"
        nearest = table.sort_values("reasons", key=lambda texts: texts.str.len())
        for run in nearest[:3].itertuples():
            message += f"\n  there is {run.run_id}: {run.reasons}"
        raise FileNotFoundError(message)
    usual = fits["protocol"] == params.protocol_in_force
    run_id = fits["run_id"][usual if usual.any() else ~usual].iloc[-1]
    chosen = f"{run_id}, the newest that fits; finished runs that fit: {len(fits)}"
    known = pd.DataFrame([runs.settings(run) for run in fits.to_dict("records")])
    counts = known.map(str, na_action="ignore").nunique()  # None: it has none
    if left := sorted(config.DECIDE_A_RUN & {*counts[counts > 1].index}):
        chosen += f"; left open: {', '.join(left)}"
    return RunFolders(params.folders, run_id), chosen


def _differences(params: config.Parameters, asked: Iterable[str], run) -> list[str]:
    """Return what a run has in place of the parameters that are asked for."""
    known, found = runs.settings(run._asdict()) | {"run_id": run.run_id}, []
    for name in asked:
        wanted, has = getattr(params, name), known.get(name)
        if name == "features":  # its options are a parameter of their own
            wanted = wanted or models.SYSTEMS[known["model"]].features
            has = has.partition("-")[0]
        elif isinstance(wanted, dict):
            recorded = known["feature_settings"] if name == "feature_options" else has
            has = {key: (recorded or {}).get(key) for key in wanted}
        elif name == "fold_file":
            wanted, has = PurePath(wanted).name, has or ""
        elif has is None and wanted == getattr(config.Parameters(), name):
            continue  # a system without epochs has none of it
        elif name == "folds" and not wanted:  # as many as the protocol has by itself
            path = params.folders.results / run.run_id / "run.json"
            folds = runs.read_manifest(path)["folds"]
            tested = [set(fold["test"]["speakers"]) for fold in folds]
            own = PROTOCOLS[known["protocol"]].own_folds
            wanted = own(known["corpus"], len(set().union(*tested))) or has
        else:
            wanted = getattr(params, f"{name}_in_force", wanted)
        if has != wanted:
            found.append(f"{name} {has}")
    return found


def _of_run(params: config.Parameters, folders: RunFolders) -> config.Parameters:
    """Return the parameters with the corpus and the front end of a run."""
    document = runs.read_manifest(folders.manifest)
    known, audit = document["config"], document["data"]["audit"] or {"problems": []}
    preset, _, altered = known["features"].partition("-")
    # Errors that were ignored when it was trained are ignored again; caveats name them.
    errors = any(item["severity"] == "error" for item in audit["problems"])
    update = {"corpus": known["corpus"], "features": preset, "ignore_problems": errors}
    update["normalisation"] = known.get("normalisation") or "none"
    update["feature_options"] = known["feature_settings"] if altered else {}
    return params.model_copy(update=update)


def require_data(document: Mapping[str, Any], data: FeatureSet) -> None:
    """Raise ValueError unless a run was trained on exactly these data."""
    known, about = dict(document["config"]), data.about
    known["labels"] = document["data"]["label_names"]
    for name in ("corpus", "features", "clip_samples", "data_sha256", "labels"):
        if known[name] != about[name]:
            fault = f"run {document['run_id']} was trained on {name} '{known[name]}', "
            fault += f"not on '{about[name]}': on other recordings, labels or speakers"
            raise ValueError(f"{fault}. Run 02_train: with these it is another run.")


def retest(
    folders: RunFolders, data: FeatureSet, *, weights_dir: str = "", verbose: int = 1
) -> tuple[pd.DataFrame, np.ndarray]:
    """Load the saved network of every fold and predict its test rows again.

    Returns the predictions, in the order of the run's own, and embeddings (n, width).
    """
    document = runs.read_manifest(folders.manifest)
    require_data(document, data)
    recorded = runs.read_predictions(folders.predictions)
    rows = pd.Index(data.file).get_indexer(recorded["file"])
    columns = runs.probability_columns(data.label_names)
    if is_official := document["kind"] == runs.OFFICIAL:
        if not weights_dir:
            fault = f"{folders.run_id} is of official weights"
            raise ValueError(f"{fault}; give weights_dir in place of run_id")
        known = document["config"]["weights_sha256"]
        weights = official.fold_files(files.located(weights_dir), len(known))
        if [files.sha256_file(path) for path in weights] != known:
            fault = f"{weights_dir} does not hold what {folders.run_id} tested"
            raise ValueError(f"{fault}; give the folder of these weights")
    tables, embeddings = [], []
    folds = recorded.groupby("fold")
    for fold, part in tqdm(folds, "folds", unit="fold", disable=verbose != 1):
        x = data.x[rows[part.index]]
        if is_official:
            model = official.load_weights(weights[fold - 1], x.shape[-2:], len(columns))
        else:
            model = load_fold(folders, fold, document)
        probabilities, embedding = models.predict(model, x)
        part = part.assign(y_pred=probabilities.argmax(axis=1))
        part[columns] = probabilities
        tables.append(part)
        embeddings.append(embedding)
    return pd.concat(tables), np.concatenate(embeddings)


def load_fold(folders: RunFolders, fold: int, document: Mapping[str, Any]) -> Any:
    """Return the system that was tested in a fold; refuse a file changed since."""
    path = folders.model(fold)
    kept = runs.artefacts(folders, [path]) if path.is_file() else [None]
    if kept[0] not in document["artefacts"]:
        raise ValueError(f"{path} is gone or was changed after the run; {AGAIN}")
    return models.load(path)


def official_run(
    params: config.Parameters, data: FeatureSet, device: Device
) -> RunFolders:
    """Test the authors' weights on the folds they were trained for, as a run."""
    folds = planning.make_folds(params, data)
    weights = official.fold_files(files.located(params.weights_dir), len(folds))
    settings = planning.inputs(params, data, folds) | {
        "model_options": {},
        "epochs": None,
        "weights_format": "timnet_hdf5",
        "weights_sha256": [files.sha256_file(path) for path in weights],
    }
    folders = RunFolders(params.folders, config.make_run_id(settings))
    with runs.only_one(folders):
        if folders.manifest.is_file() and not params.overwrite:
            return folders
        plan = planning.Plan(settings, folds)
        document = train.new_manifest(folders.run_id, plan, data, device)
        # Until August 2023 the authors' code kept the epoch best on the test fold.
        unrecorded = {"epochs_run": None, "epoch_chosen": None, "chosen_on": "test"}
        document["kind"] = runs.OFFICIAL
        document["folds"] = [entry | unrecorded for entry in document["folds"]]
        shape, classes, outcomes = data.x.shape[-2:], len(data.label_names), []
        bar = tqdm(weights, "folds", unit="fold", disable=params.verbose != 1)
        for fold, file in zip(folds, bar, strict=True):
            model = official.load_weights(file, shape, classes)
            p, z = models.predict(model, data.x[fold.test])
            outcomes.append({"rows": fold.test, "probabilities": p, "embeddings": z})
        numbers = [fold.number for fold in folds]
        document["parameters"] = models.trainable_parameters(model)
        document |= train.write_outcomes(folders, data, numbers, outcomes)
        files.write_json(folders.manifest, document)
    return folders
