"""Find a run, test what it or others have saved, and say what a score is worth."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from lib import config, metrics, models, paths, runs
from lib.device import Device
from lib.features import FeatureSet
from lib.models import official
from lib.protocols import PROTOCOLS, Fold
from lib.runs import RunFolders, manifest
from lib.training.clips import predict_utterances
from lib.training.record import describe_data, describe_fold, write_outcomes
from lib.training.settings import make_folds

OFFICIAL = "official weights"  # what the manifest calls a test of such weights
_ANY_SEED = config.Parameters.model_fields["seed"].default


def find_run(
    cfg: config.Parameters, features: FeatureSet, device: Device
) -> RunFolders:
    """Return the finished run that the parameters speak of.

    With `weights_dir`, official weights are tested, unless they have been
    before. Else it is `run_id`, or the newest finished run of the same corpus,
    features and model; protocol and folds count if they are given, and the seed
    if it is not the one that stands in every notebook.

    Args:
        cfg: The notebook's parameters.
        features: The features they ask for.
        device: The device in force, for the manifest of official weights.

    Raises:
        FileNotFoundError: If there is no such run, or a weight file is missing;
            the message names the command that makes the run.
        ValueError: If the parameters contradict each other, or the run was
            trained on other features.
    """
    if cfg.weights_dir:
        if cfg.run_id:
            raise ValueError("give run_id or weights_dir, not both")
        return official_run(cfg, features, make_folds(cfg, features), device=device)
    if cfg.weights_format:
        raise ValueError("weights_format without weights_dir: give the folder too")
    run_id = runs.table.newest_run(
        cfg.folders.results,
        corpus=features.about["corpus"],
        features=features.about["features"],
        model=cfg.model,
        protocol=cfg.protocol,
        folds=cfg.folds,
        seed=None if cfg.seed == _ANY_SEED else cfg.seed,
        run_id=cfg.run_id,
    )
    folders = RunFolders(cfg.folders, run_id)
    _require_features(manifest.read(folders.manifest), features)
    return folders


def _require_features(document: dict[str, Any], features: FeatureSet) -> None:
    """Raise ValueError unless a run was trained on exactly these features."""
    run_id, about = document["run_id"], features.about
    for name in ("corpus", "features"):
        if document["config"][name] != about[name]:
            raise ValueError(
                f"run {run_id} was trained on {name} '{document['config'][name]}', "
                f"the parameters ask for '{about[name]}'. Set corpus, features and "
                "feature_options as they were in 02_train."
            )
    if document["data"]["x_sha256"] != about["x_sha256"]:
        raise ValueError(
            f"run {run_id} was trained on other features than those now in MFCC: the "
            "audio, or a library that reads it, has changed since. Run 02_train again "
            "with overwrite=True."
        )


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
    _require_features(document, features)
    recorded = runs.predictions.read(folders.predictions)
    row_of = {file: row for row, file in enumerate(features.file)}
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
    if known.get(relative) != paths.sha256_file(path):
        raise ValueError(
            f"{path} is not the file that run {folders.run_id} was tested with; run "
            "02_train again with overwrite=True"
        )
    return keras.saving.load_model(path, compile=False)


def official_run(
    cfg: config.Parameters,
    features: FeatureSet,
    folds: list[Fold],
    *,
    device: Device,
) -> RunFolders:
    """Test the TIM-Net authors' weights on the folds they were trained for.

    Args:
        cfg: The parameters; `weights_dir` holds one file per fold.
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
    protocol = cfg.protocol_in_force
    if protocol not in ("paper", "paper_best"):
        raise ValueError(
            f"protocol '{protocol}': the official weights were trained on random "
            "folds, so most of its test clips were in their training data. Use "
            "protocol='paper' with the authors' seed and number of folds."
        )
    files = official.fold_files(Path(cfg.weights_dir).expanduser(), len(folds))
    document = _describe(cfg, features, folds, files, device)
    folders = RunFolders(cfg.folders, document["run_id"])
    if _finished(folders, document["data"]) and not cfg.overwrite:
        return folders
    with manifest.only_one(folders):
        manifest.write(folders.manifest, document)
        shape, classes = features.x.shape[1:], len(features.label_names)
        rows, probabilities, embeddings = [], [], []
        pairs = list(zip(folds, files, strict=True))
        for fold, file in _bar(pairs, cfg.verbose):
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
    if paths.sha256_file(file) != known[fold - 1]:
        raise ValueError(
            f"{file} is not the file that run {folders.run_id} tested; leave run_id "
            "empty to test it as a run of its own"
        )
    return file


def _finished(folders: RunFolders, data: dict[str, Any]) -> bool:
    """Tell whether a run is done, on these data."""
    try:
        known = manifest.read(folders.manifest)
    except (FileNotFoundError, ValueError):
        return False
    return (known["status"], known["data"]) == ("done", data)


def _describe(
    cfg: config.Parameters,
    features: FeatureSet,
    folds: list[Fold],
    files: list[Path],
    device: Device,
) -> dict[str, Any]:
    """Return the manifest of a test of official weights, not finished yet."""
    configuration = {
        "corpus": features.about["corpus"],
        "features": features.about["features"],
        "feature_settings": features.about["settings"],
        "model": "timnet",
        "model_options": {},
        "protocol": cfg.protocol_in_force,
        "folds": len(folds),
        "seed": cfg.seed,
        "epochs": None,
        "weights_format": "timnet_hdf5",
        "weights_sha256": [paths.sha256_file(file) for file in files],
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


def caveats(document: dict[str, Any]) -> list[str]:
    """Return in sentences what keeps a run's score from being taken at face value.

    Args:
        document: The manifest of a finished run.
    """
    folds = document["folds"]
    said = []
    if document["synthetic"]:
        said.append("The speech is generated; its scores say nothing about people.")
    if document.get("kind") == OFFICIAL:
        said.append("The weights are the TIM-Net authors', made by their own code.")
    if any(fold.get("chosen_on") == "test" for fold in folds):
        said.append(
            "The epoch was chosen on the test fold: the score is the best of many "
            "tries on the very clips that test, and no honest one."
        )
    sides = [
        (set(fold["train"]["speakers"]), set(fold["test"]["speakers"]))
        for fold in folds
    ]
    if any("" in train | test for train, test in sides):
        said.append("Speakers are not known: the same voice may train and test.")
    elif shared := sum(bool(train & test) for train, test in sides):
        said.append(
            f"In {shared} of {len(folds)} folds people who test have trained too: "
            "for people never heard, expect less."
        )
    return said
