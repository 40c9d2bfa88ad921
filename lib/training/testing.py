"""Test what a run has saved, and test weights that others have trained."""

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
from lib.training.study import describe_data, describe_fold, write_outcomes

BATCH = 128


def predict(model: keras.Model, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return class probabilities (n, classes) and embeddings (n, width)."""
    both = models.with_embedding(model)
    probabilities, embeddings = both.predict(x, batch_size=BATCH, verbose=0)
    return probabilities, embeddings


def retest(
    folders: RunFolders, features: FeatureSet, *, verbose: int = 1
) -> tuple[pd.DataFrame, np.ndarray]:
    """Load the saved network of every fold and predict its test rows again.

    Args:
        folders: A finished run.
        features: The features it was trained on.
        verbose: 1 for a progress bar.

    Returns:
        The predictions, in the order of the run's own, and the embeddings.

    Raises:
        ValueError: If the features are not those of the run, or a file of
            weights was changed since.
    """
    document = manifest.read(folders.manifest)
    if document["data"]["x_sha256"] != features.about["x_sha256"]:
        raise ValueError(
            f"run {folders.run_id} was trained on other features than those now in "
            "MFCC. Run 02_train again with overwrite=True."
        )
    recorded = runs.predictions.read(folders.predictions)
    row_of = {file: row for row, file in enumerate(features.file)}
    tables, embeddings = [], []
    for fold in _bar(sorted(recorded["fold"].unique()), verbose):
        part = recorded[recorded["fold"] == fold]
        rows = np.array([row_of[file] for file in part["file"]])
        model = load_fold(folders, int(fold), document)
        probabilities, embedding = predict(model, features.x[rows])
        columns = runs.predictions.probability_columns(features.label_names)
        tables.append(
            part.assign(
                y_pred=probabilities.argmax(axis=1),
                **dict(zip(columns, probabilities.T, strict=True)),
            )
        )
        embeddings.append(embedding)
    return pd.concat(tables), np.concatenate(embeddings)


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
    if _finished(folders) and not cfg.overwrite:
        return folders
    with manifest.only_one(folders):
        manifest.write(folders.manifest, document)
        shape, classes = features.x.shape[1:], len(features.label_names)
        rows, probabilities, embeddings = [], [], []
        for fold, file in _bar(list(zip(folds, files, strict=True)), cfg.verbose):
            model = official.load_official(file, shape, classes)
            pair = predict(model, features.x[fold.test])
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


def _finished(folders: RunFolders) -> bool:
    """Tell whether a run is done."""
    try:
        return manifest.read(folders.manifest)["status"] == "done"
    except (FileNotFoundError, ValueError):
        return False


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
    return {
        "schema_version": manifest.SCHEMA_VERSION,
        "run_id": config.make_run_id(configuration),
        "status": "running",
        "created": manifest.now(),
        "finished": None,
        "error": None,
        "kind": "official weights",
        "config": configuration,
        "synthetic": False,
        "code": manifest.git_state(),
        "environment": manifest.environment(),
        "device": dataclasses.asdict(device),
        "data": describe_data(features),
        "folds": [
            describe_fold(fold, features)
            | {"epochs_run": None, "epoch_chosen": None, "chosen_on": "unknown"}
            for fold in folds
        ],
    }


def _bar(items: list, verbose: int) -> Iterable:
    return tqdm(items, desc="folds", unit="fold", disable=verbose != 1)


def protocol_label(document: dict[str, Any]) -> str:
    """Return the protocol of a run with its warnings, for titles."""
    label = PROTOCOLS[document["config"]["protocol"]].label
    return f"{label}; synthetic speech" if document["synthetic"] else label
