"""What a run leaves behind: predictions, embeddings, scores, and what they are of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from lib import files, metrics, models, protocols, runs
from lib.features import FeatureSet
from lib.protocols import Fold
from lib.runs import RunFolders, manifest
from lib.training.fold import Outcome


def describe_data(features: FeatureSet) -> dict[str, Any]:
    """Return what a run was trained and tested on, for the manifest."""
    return {
        "sha256": features.about["data_sha256"],
        "x_sha256": features.about["x_sha256"],
        "count": len(features),
        "shape": list(features.x.shape),
        "label_names": features.label_names.tolist(),
        "counts": features.about["counts"],
        "audit": features.about.get("audit"),
    }


def describe_fold(fold: Fold, features: FeatureSet) -> dict[str, Any]:
    """Return who trains, validates and tests in a fold, for the manifest."""
    parts = {
        name: {
            "n": len(rows),
            "speakers": np.unique(features.speaker[rows]).tolist(),
        }
        for name, rows in (
            ("train", fold.train),
            ("validation", fold.validation),
            ("test", fold.test),
        )
    }
    untrained = protocols.untrained_labels(fold, features.y)
    return {
        "fold": fold.number,
        **parts,
        "validation_is_test": fold.validation_is_test,
        "repeated": protocols.repeated_recordings(fold, features.content),
        "untrained": features.label_names[untrained].tolist(),
    }


def complete(
    folders: RunFolders,
    document: dict[str, Any],
    features: FeatureSet,
    folds: list[Fold],
    outcomes: list[Outcome],
) -> None:
    """Write predictions, embeddings and scores, and then that the run is done.

    Args:
        folders: Where they go.
        document: The manifest of the run; completed and written.
        features: The features that were trained on.
        folds: The folds.
        outcomes: Their outcomes, in the same order; their networks are saved.
    """
    table = write_outcomes(
        folders,
        features,
        [fold.number for fold in folds],
        [outcome.rows for outcome in outcomes],
        [outcome.probabilities for outcome in outcomes],
        [outcome.embeddings for outcome in outcomes],
    )
    weights = [folders.model(fold.number) for fold in folds]
    document |= {
        "status": "done",
        "finished": manifest.now(),
        "parameters": _trainable_parameters(weights[0]),
        "seconds": round(sum(outcome.seconds for outcome in outcomes), 3),
        "metrics": metrics.pooled_and_folds(table),
        "artefacts": manifest.artefacts(
            folders, [folders.predictions, folders.embeddings, *weights]
        ),
    }
    manifest.write(folders.manifest, document)


def _trainable_parameters(saved: Path) -> int:
    """Return the number of trainable parameters of a saved network."""
    return models.trainable_parameters(keras.saving.load_model(saved, compile=False))


def write_outcomes(
    folders: RunFolders,
    features: FeatureSet,
    numbers: list[int],
    rows: list[np.ndarray],
    probabilities: list[np.ndarray],
    embeddings: list[np.ndarray],
) -> pd.DataFrame:
    """Write the predictions and embeddings of all folds.

    Args:
        folders: Where they go.
        features: The features that were tested.
        numbers: Number of every fold.
        rows: Tested rows of every fold.
        probabilities: Class probabilities of those rows, fold by fold.
        embeddings: Embeddings of those rows, fold by fold.

    Returns:
        The predictions, one row per tested utterance.
    """
    lengths = [len(part) for part in rows]
    tested, fold = np.concatenate(rows), np.repeat(numbers, lengths)
    table = runs.predictions.assemble(
        file=features.file[tested],
        speaker=features.speaker[tested],
        sex=features.sex[tested],
        fold=fold,
        y_true=features.y[tested],
        probabilities=np.concatenate(probabilities),
        label_names=features.label_names.tolist(),
    )
    runs.predictions.write(folders.predictions, table)
    z = np.concatenate(embeddings).astype(np.float32)
    files.write_npz(
        folders.embeddings, {"file": features.file[tested], "fold": fold, "z": z}
    )
    return table
