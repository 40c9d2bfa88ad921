"""Find a run, test what it or others have saved, and say what a score is worth."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from lib import config, files, metrics, models, runs
from lib.corpora import Corpus
from lib.device import Device
from lib.features import PRESETS, FeatureSet, obtain
from lib.features.frontend import OFFICIAL as OFFICIAL_FEATURES
from lib.models import official
from lib.protocols import PROTOCOLS, Fold, own_speaker_folds
from lib.runs import RunFolders, manifest
from lib.systems import SYSTEMS
from lib.training.clips import predict_utterances
from lib.training.record import describe_data, describe_fold, write_outcomes
from lib.training.settings import make_folds, require_use

OFFICIAL = "official weights"  # what the manifest calls a test of such weights
_OF_OFFICIAL = frozenset(("corpus", "features", "protocol", "folds", "seed", "model"))


@dataclasses.dataclass(frozen=True)
class OpenedRun:
    """A finished run, with the data it was trained on.

    Attributes:
        folders: Where its files lie.
        manifest: Its manifest.
        corpus: Its corpus.
        features: The features of its front end.
        chosen: A sentence on which run it is, and what was left open.
    """

    folders: RunFolders
    manifest: dict[str, Any]
    corpus: Corpus
    features: FeatureSet
    chosen: str


def open_run(params: config.Parameters, device: Device) -> OpenedRun:
    """Return the finished run that the parameters speak of, with its data.

    With `weights_dir`, official weights are tested, unless they have been before.

    Args:
        params: The notebook's parameters; see `find_run`.
        device: The device in force, for the manifest of official weights.

    Raises:
        FileNotFoundError: If there is no such run, no audio, or a weight file is
            missing.
        ValueError: If the parameters contradict each other, or the run was trained
            on other recordings, labels or speakers than are there now.
    """
    if params.weights_dir:
        _require_official(params)
        corpus, features = obtain(params)
        folders = official_run(
            params, features, make_folds(params, features), device=device
        )
        chosen = f"{folders.run_id}: the official weights in {params.weights_dir}"
    else:
        if params.overwrite:
            raise ValueError(
                "overwrite tests official weights again; a trained run is made anew by "
                "02_train with overwrite=True"
            )
        if params.weights_format:
            raise ValueError("weights_format without weights_dir: give the folder too")
        folders, chosen = find_run(params)
        corpus, features = obtain(_of_run(params, manifest.read(folders.manifest)))
    document = manifest.read(folders.manifest)
    require_data(document, features)
    return OpenedRun(folders, document, corpus, features, chosen)


def find_run(params: config.Parameters) -> tuple[RunFolders, str]:
    """Return the finished run that the parameters speak of.

    A parameter that is given selects, one that is not given means any; the newest
    of the runs that are left is taken.

    Args:
        params: The notebook's parameters.

    Returns:
        The run, and a sentence that names it and what was left open.

    Raises:
        FileNotFoundError: If there is no such run; the message names the closest
            ones and what to give to 02_train.
        ValueError: If the named run is not there, not finished, or another one than
            the other parameters ask for.
    """
    if "model" in params.given:
        require_use(params)
    results = params.folders.results
    table = runs.table.load_runs(results)
    asked = sorted(config.DECIDE_A_RUN & params.given)
    if params.run_id:
        runs.table.require_finished(table, params.run_id, results)
        folders = RunFolders(params.folders, params.run_id)
        if differs := _differences(params, asked, manifest.read(folders.manifest)):
            raise ValueError(
                f"run '{params.run_id}' has {', '.join(differs)}; leave run_id empty, or "  # noqa: E501
                "the other parameters out"
            )
        return folders, f"{params.run_id}, by its name"
    asked = sorted({*asked, "corpus"})
    found = [
        (row, manifest.read(results / row.run_id / "run.json"))
        for row in table.itertuples()
        if row.kind == "trained" and row.status != "damaged"
    ]
    # A copied folder has no weights of its own.
    found = [(row, known) for row, known in found if known["run_id"] == row.run_id]
    differs = {row.run_id: _differences(params, asked, known) for row, known in found}
    fits = [pair for pair in found if not differs[pair[0].run_id]]
    done = [(row, known) for row, known in fits if row.status == "done"]
    if not done:
        raise FileNotFoundError(_nothing_found(params, asked, found, differs))
    done.sort(key=lambda pair: (_when(pair[0].finished), pair[0].run_id))
    run_id = done[-1][0].run_id
    return RunFolders(params.folders, run_id), _what_was_open(run_id, done)


def _when(finished: str) -> pd.Timestamp:
    """Return a time, the earliest one where it cannot be read."""
    time = pd.to_datetime(finished, utc=True, format="ISO8601", errors="coerce")
    return pd.Timestamp.min.tz_localize("UTC") if pd.isna(time) else time


def _differences(
    params: config.Parameters, names: Sequence[str], document: Mapping[str, Any]
) -> list[str]:
    """Return what a run has in place of the parameters that are asked for."""
    known = document["config"]
    found = []
    for name in names:
        wanted = json.loads(json.dumps(getattr(params, name)))
        has = known.get(name)
        if name == "features":
            own = wanted or getattr(SYSTEMS.get(known["model"]), "features", "")
            changed = "feature_options" in names and has.rpartition("-")[0] == own
            same = has == own or changed
        elif has is None and name in config.TRAINING:
            same = wanted == config.Parameters.model_fields[name].get_default(
                call_default_factory=True
            )  # a system without epochs has none of it
        elif isinstance(wanted, dict):
            settings = "feature_settings" if name == "feature_options" else name
            has = {key: (known.get(settings) or {}).get(key) for key in wanted}
            same = has == wanted
        elif name == "folds" and not wanted:
            same = has == _own_folds(document)
        else:
            same = has == getattr(params, f"{name}_in_force", wanted)
        if not same:
            found.append(f"{name} {has}")
    return found


def _own_folds(document: Mapping[str, Any]) -> int:
    """Return how many folds the protocol of a run has if the user does not say."""
    known = document["config"]
    speakers = {name for fold in document["folds"] for name in fold["test"]["speakers"]}
    own = PROTOCOLS[known["protocol"]].folds
    return own or own_speaker_folds(known["corpus"], len(speakers))


def _what_was_open(run_id: str, fits: Sequence[tuple[Any, Mapping[str, Any]]]) -> str:
    """Return a sentence on what the runs that fit differ in."""
    if len(fits) == 1:
        return f"{run_id}, the only finished run that fits"
    values: dict[str, set[str]] = {}
    for _, document in fits:
        names = {*config.DECIDE_A_RUN, "clip_samples"} & set(document["config"])
        for name in sorted(names):
            values.setdefault(name, set()).add(str(document["config"][name]))
    differ = [
        f"{name} ({', '.join(sorted(found))})"
        for name, found in values.items()
        if len(found) > 1
    ]
    return (
        f"{run_id}, the newest of {len(fits)} finished runs that fit; left open: "
        f"{', '.join(differ) or 'the recordings, labels or speakers'}. Give a "
        "parameter, or run_id, to choose another"
    )


def _nothing_found(
    params: config.Parameters,
    asked: Sequence[str],
    found: Sequence[tuple[Any, Mapping[str, Any]]],
    differs: Mapping[str, Sequence[str]],
) -> str:
    """Return what was looked for, what there is, and how to make it."""
    wanted = ", ".join(f"{name} {getattr(params, name)}" for name in asked)
    lines = [f"no finished run with {wanted} in {params.folders.results}."]
    closest = sorted(found, key=lambda pair: len(differs[pair[0].run_id]))[:3]
    for row, _ in closest:
        reasons = [*differs[row.run_id], *filter(None, [row.note])]
        lines.append(f"  there is {row.run_id}: {'; '.join(reasons)}")
    if not closest:
        lines.append("  there are no runs yet.")
    given = params.arguments("workspace", "datasets_dir", *asked)
    lines.append(f"Train it: papermill notebooks/02_train.ipynb OUT.ipynb {given}")
    return "\n".join(lines)


def _of_run(
    params: config.Parameters, document: Mapping[str, Any]
) -> config.Parameters:
    """Return the parameters with the corpus and the front end of a run.

    Errors in the audio that were ignored when it was trained are ignored again; its
    caveats name them.
    """
    known, audit = document["config"], document["data"]["audit"] or {}
    preset, options = known["features"], {}
    if preset not in (*PRESETS, OFFICIAL_FEATURES):
        preset = preset.rpartition("-")[0]
        options = {
            name: value
            for name, value in known["feature_settings"].items()
            if value != getattr(PRESETS[preset], name)
        }
    errors = any(p["severity"] == "error" for p in audit.get("problems", ()))
    return params.model_copy(
        update={
            "corpus": known["corpus"],
            "features": preset,
            "feature_options": options,
            "ignore_problems": errors,
        }
    )


def require_data(document: Mapping[str, Any], features: FeatureSet) -> None:
    """Raise ValueError unless a run was trained on exactly these data."""
    run_id, about = document["run_id"], features.about
    for name in ("corpus", "features"):
        if document["config"][name] != about[name]:
            raise ValueError(
                f"run {run_id} was trained on {name} '{document['config'][name]}', "
                f"not on '{about[name]}'"
            )
    if document["config"]["clip_samples"] != about["clip_samples"]:
        raise ValueError(
            f"run {run_id} was trained on clips of "
            f"{document['config']['clip_samples']} samples, not of "
            f"{about['clip_samples']}: the corpus was registered again with another "
            "clip length. Run 02_train: with that it is another run."
        )
    if document["data"]["sha256"] != about["data_sha256"]:
        raise ValueError(
            f"run {run_id} was trained on other recordings, labels or speakers than "
            "are there now. Run 02_train: on what is there now it is another run."
        )


def _require_official(params: config.Parameters) -> None:
    """Raise ValueError for parameters that official weights have no use for."""
    if params.run_id:
        raise ValueError("give run_id or weights_dir, not both")
    useless = (params.given & config.DECIDE_A_RUN) - _OF_OFFICIAL
    if useless or params.model != "timnet":
        said = ", ".join(sorted(useless)) or f"model '{params.model}'"
        raise ValueError(f"weights_dir holds TIM-Net as published: leave out {said}")


def retest(
    folders: RunFolders,
    features: FeatureSet,
    *,
    weights_dir: str = "",
    verbose: int = 1,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Load the saved network of every fold and predict its test rows again.

    Args:
        folders: A finished run.
        features: The features it was trained on.
        weights_dir: Folder of the weights, for a run of official ones.
        verbose: 1 for a progress bar.

    Returns:
        The predictions, in the order of the run's own, and the embeddings.

    Raises:
        FileNotFoundError: If a file of weights is gone.
        ValueError: If the features are not those of the run, or a file of
            weights was changed since.
    """
    document = manifest.read(folders.manifest)
    require_data(document, features)
    recorded = runs.predictions.read(folders.predictions)
    row_of = {file: row for row, file in enumerate(features.file)}
    rows = [row_of.get(file, -1) for file in recorded["file"]]
    wrong = recorded["y_true"].to_numpy() != features.y[rows]
    wrong |= recorded["speaker"].to_numpy() != features.speaker[rows]
    if -1 in rows or wrong.any():
        raise ValueError(
            f"{folders.predictions} has other files, labels or speakers than the data; "
            "run 02_train again with overwrite=True"
        )
    columns = runs.predictions.probability_columns(features.label_names)
    tables, embeddings = [], []
    for fold in _bar(sorted(recorded["fold"].unique()), verbose):
        part = recorded[recorded["fold"] == fold]
        x = features.x[[row_of[file] for file in part["file"]]]
        if document.get("kind") == OFFICIAL:
            file = _official_file(weights_dir, folders, int(fold), document)
            model = official.load_official(file, x.shape[-2:], len(columns))
        else:
            model = load_fold(folders, int(fold), document)
        probabilities, embedding = _answers(model, x)
        answers = dict(zip(columns, probabilities.T, strict=True))
        tables.append(part.assign(y_pred=probabilities.argmax(axis=1), **answers))
        embeddings.append(embedding)
    return pd.concat(tables), np.concatenate(embeddings)


def _answers(model: keras.Model, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return probabilities and embeddings of utterances."""
    return predict_utterances(lambda clips: models.predict(model, clips), x)


def load_fold(folders: RunFolders, fold: int, document: dict[str, Any]) -> keras.Model:
    """Load the network that was tested in a fold.

    Raises:
        FileNotFoundError: If its file is gone.
        ValueError: If its file was changed since the run was finished.
    """
    path = folders.model(fold)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is gone; run 02_train again with overwrite=True"
        )
    relative = path.relative_to(folders.workspace.root).as_posix()
    known = {item["path"]: item["sha256"] for item in document["artefacts"]}
    if known.get(relative) != files.sha256_file(path):
        raise ValueError(
            f"{path} is not the file that run {folders.run_id} was tested with; run "
            "02_train again with overwrite=True"
        )
    return keras.saving.load_model(path, compile=False)


def official_run(
    params: config.Parameters,
    features: FeatureSet,
    folds: list[Fold],
    *,
    device: Device,
) -> RunFolders:
    """Test the TIM-Net authors' weights on the folds they were trained for.

    Args:
        params: The parameters; `weights_dir` holds one file per fold.
        features: Features of the corpus the weights were trained on.
        folds: The folds, made with the authors' number of folds and seed.
        device: The device in force.

    Returns:
        The folders of a finished run, like that of a trained one but without
        weights of its own.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the protocol would test the weights on clips they were
            trained on, or the files do not fit the corpus.
    """
    protocol = params.protocol_in_force
    if protocol not in ("paper", "paper_best"):
        raise ValueError(
            f"protocol '{protocol}': the official weights were trained on random "
            "folds, so most of its test clips were in their training data. Use "
            "protocol='paper' with the authors' seed and number of folds."
        )
    weights = official.fold_files(Path(params.weights_dir).expanduser(), len(folds))
    document = _describe(params, features, folds, weights, device)
    folders = RunFolders(params.folders, document["run_id"])
    if _finished(folders) and not params.overwrite:
        return folders
    with manifest.only_one(folders):
        manifest.write(folders.manifest, document)
        shape, classes = features.x.shape[1:], len(features.label_names)
        rows, probabilities, embeddings = [], [], []
        pairs = list(zip(folds, weights, strict=True))
        for fold, file in _bar(pairs, params.verbose):
            model = official.load_official(file, shape, classes)
            pair = _answers(model, features.x[fold.test])
            rows.append(fold.test)
            probabilities.append(pair[0])
            embeddings.append(pair[1])
        numbers = [fold.number for fold in folds]
        table = write_outcomes(
            folders, features, numbers, rows, probabilities, embeddings
        )
        document |= {
            "status": "done",
            "finished": manifest.now(),
            "metrics": metrics.pooled_and_folds(table),
            "artefacts": manifest.artefacts(
                folders, [folders.predictions, folders.embeddings]
            ),
        }
        manifest.write(folders.manifest, document)
    return folders


def _official_file(
    weights_dir: str, folders: RunFolders, fold: int, document: dict[str, Any]
) -> Path:
    """Return the weight file that a run of official weights tested in a fold.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If no folder is given, or its file is another one.
    """
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


def _finished(folders: RunFolders) -> bool:
    """Tell whether a run is done."""
    try:
        known = manifest.read(folders.manifest)
    except (FileNotFoundError, ValueError):
        return False
    return known["status"] == "done"


def _describe(
    params: config.Parameters,
    features: FeatureSet,
    folds: list[Fold],
    weights: list[Path],
    device: Device,
) -> dict[str, Any]:
    """Return the manifest of a test of official weights, not finished yet."""
    configuration = {
        "corpus": features.about["corpus"],
        "features": features.about["features"],
        "feature_settings": features.about["settings"],
        "clip_samples": features.about["clip_samples"],
        "data_sha256": features.about["data_sha256"],
        "model": "timnet",
        "model_options": {},
        "protocol": params.protocol_in_force,
        "folds": len(folds),
        "folds_sha256": config.digest([fold.parts() for fold in folds], length=64),
        "seed": params.seed,
        "epochs": None,
        "weights_format": "timnet_hdf5",
        "weights_sha256": [files.sha256_file(path) for path in weights],
    }
    # The authors published them when their code still kept the epoch that was
    # best on the test fold (until August 2023).
    unrecorded = {"epochs_run": None, "epoch_chosen": None, "chosen_on": "test"}
    return {
        "schema_version": manifest.SCHEMA_VERSION,
        "run_id": config.make_run_id(configuration),
        "status": "running",
        "created": manifest.now(),
        "finished": None,
        "error": None,
        "kind": OFFICIAL,
        "config": configuration,
        "synthetic": bool(features.about["synthetic"]),
        "code": manifest.git_state(),
        "environment": manifest.environment(),
        "device": dataclasses.asdict(device),
        "data": describe_data(features),
        "folds": [describe_fold(fold, features) | unrecorded for fold in folds],
    }


def _bar(items: list, verbose: int) -> Iterable:
    return tqdm(items, desc="folds", unit="fold", disable=verbose != 1)


def protocol_label(document: dict[str, Any]) -> str:
    """Return the protocol of a run with its warnings, for titles."""
    if document.get("kind") == OFFICIAL:
        # Whatever the parameters say: this is how the authors chose the epoch.
        label = f"official weights; {PROTOCOLS['paper_best'].label}"
    else:
        label = PROTOCOLS[document["config"]["protocol"]].label
    return f"{label}; synthetic speech" if document["synthetic"] else label
