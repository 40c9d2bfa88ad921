"""The predictions and embeddings of the tested utterances."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lib import files
from lib.runs import manifest

KEYS = ["file", "speaker", "sex", "fold", "y_true", "y_pred"]


def probability_columns(label_names: Sequence[str]) -> list[str]:
    """Return the names of the probability columns in label order."""
    return [f"p_{label}" for label in label_names]


def assemble(
    *,
    file: np.ndarray,
    speaker: np.ndarray,
    sex: np.ndarray,
    fold: np.ndarray,
    y_true: np.ndarray,
    probabilities: np.ndarray,
    label_names: Sequence[str],
) -> pd.DataFrame:
    """Return one row for every tested utterance.

    Args:
        file: Paths relative to the corpus folder, (n,).
        speaker: Speakers, (n,).
        sex: "female", "male" or "", (n,).
        fold: Number of the fold that tested the utterance, from 1, (n,).
        y_true: True label indices, (n,).
        probabilities: Class probabilities, (n, classes).
        label_names: Names of the labels in index order.
    """
    frame = pd.DataFrame(
        {
            "file": file,
            "speaker": speaker,
            "sex": sex,
            "fold": fold,
            "y_true": y_true,
            "y_pred": probabilities.argmax(axis=1),
        }
    )
    columns = probability_columns(label_names)
    return frame.join(pd.DataFrame(probabilities, columns=columns, index=frame.index))


def write(target: Path, predictions: pd.DataFrame) -> None:
    """Write predictions as CSV, atomically; floats keep all their digits."""
    files.write_text(target, predictions.to_csv(index=False, lineterminator="\n"))


def require_unchanged(path: Path) -> None:
    """Raise ValueError if a file of a finished run is not what its manifest names."""
    try:
        document = manifest.read(path.parent / "run.json")
    except (FileNotFoundError, ValueError):
        return
    place = f"{path.parent.parent.name}/{document['run_id']}/{path.name}"
    for item in document.get("artefacts", ()):
        if item["path"] == place and item["sha256"] != files.sha256_file(path):
            raise ValueError(
                f"{path} was changed after the run was finished; run 02_train with "
                "overwrite=True"
            )


def read(path: Path) -> pd.DataFrame:
    """Read predictions; identifiers stay text, also where they look like numbers.

    Raises:
        FileNotFoundError: If there are none.
        ValueError: If columns are missing, a clip is there twice, or the file is not
            what the run has written.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"no predictions at {path}; run 02_train with overwrite=True"
        )
    require_unchanged(path)
    text = {"file": str, "speaker": str, "sex": str}
    frame = pd.read_csv(path, dtype=text, keep_default_na=False)
    missing = [name for name in KEYS if name not in frame.columns]
    if missing:
        raise ValueError(f"{path} lacks the columns {missing}")
    if frame.duplicated(["fold", "file"]).any():
        raise ValueError(f"{path} holds a clip twice in one fold; run 02_train again")
    return frame
