"""One row per run, read from its manifest; a damaged one says so in its row."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lib.runs import manifest

_TYPES = {
    "run_id": "str",
    "corpus": "str",
    "features": "str",
    "model": "str",
    "protocol": "str",
    "folds": "Int64",
    "seed": "Int64",
    "epochs": "Int64",
    "status": "str",
    "synthetic": "boolean",
    **dict.fromkeys(
        ("uar", "uar_low", "uar_high", "war", "war_low", "war_high", "macro_f1"),
        "float64",
    ),
    **dict.fromkeys(
        ("fold_uar_mean", "fold_uar_sd", "fold_war_mean", "fold_war_sd"), "float64"
    ),
    "parameters": "Int64",
    "seconds": "float64",
    "finished": "str",
    "note": "str",
    "warning": "str",
    "kind": "str",
    "configuration": "str",
    "data": "str",
    "settings": "str",
    "feature_settings": "str",
}
_NOT_SETTINGS = (
    *("corpus", "features", "feature_settings", "model", "model_options"),
    *("protocol", "folds", "seed", "epochs"),
    *("clip_samples", "data_sha256", "folds_sha256"),
)


def load_runs(results: Path) -> pd.DataFrame:
    """Return one row for every `Results/<run_id>/run.json`.

    Args:
        results: The folder of all runs; it may be missing or empty.

    Returns:
        Scores are fractions: pooled over the test folds with their interval,
        and mean and sd over folds. `status` is running, done, failed or
        damaged; `note` says why a run is not in the leaderboard; `warning`
        says what keeps a score from being taken at face value;
        `configuration` is the same for runs that differ by their seed alone;
        `data` is the same for the same recordings, labels and speakers;
        `settings` is JSON of training settings and model options,
        `feature_settings` of the numbers of the front end.
    """
    rows = [_row(path) for path in sorted(Path(results).glob("*/run.json"))]
    return pd.DataFrame(rows, columns=list(_TYPES)).astype(_TYPES)


def _row(path: Path) -> dict[str, Any]:
    """Return the row of one manifest; a damaged one says so in its row."""
    row = {name: "" for name, kind in _TYPES.items() if kind == "str"}
    row |= {"run_id": path.parent.name, "status": "damaged"}
    try:
        document = manifest.read(path)
        found = _identity(document, path.parent.name) | _scores(document)
        return row | {name: _typed(name, value) for name, value in found.items()}
    except KeyError as error:
        message = f"it lacks {error}"
    except (OSError, ValueError, TypeError, AttributeError, OverflowError) as error:
        message = str(error)
    if str(path) not in message:
        message = f"{path} is damaged: {message}"
    return row | {"note": message}


def _typed(name: str, value: Any) -> Any:
    """Return a value as its column's type, so that one bad row spoils no other."""
    kinds = {"str": str, "Int64": int, "float64": float, "boolean": bool}
    if _TYPES[name] == "str" and not isinstance(value, str):
        raise TypeError(f"its {name} is {value!r}")
    return None if value is None else kinds[_TYPES[name]](value)


def _identity(document: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Return what a run is and how far it got."""
    config = document["config"]
    names = ("corpus", "features", "model", "protocol", "folds", "seed", "epochs")
    settings = {key: config[key] for key in config if key not in _NOT_SETTINGS}
    settings |= config.get("model_options") or {}
    # Other seeds have other folds.
    apart = {key: config[key] for key in config if key not in ("seed", "folds_sha256")}
    digest = hashlib.sha256(json.dumps(apart, sort_keys=True).encode()).hexdigest()
    note = _note(document)
    if document["run_id"] != folder:
        note = "; ".join(filter(None, [note, f"a copy of {document['run_id']}"]))
    return {
        **{name: config[name] for name in names},
        "status": document["status"],
        "synthetic": bool(document["synthetic"]),
        "parameters": document.get("parameters"),
        "seconds": document.get("seconds", _seconds(document)),
        "finished": document.get("finished") or "",
        "kind": document.get("kind", "trained"),
        "note": note,
        "warning": "; ".join(caveats(document)),
        "configuration": digest[:8],
        "data": document["data"].get("sha256", "")[:6],
        "settings": json.dumps(settings, sort_keys=True),
        "feature_settings": json.dumps(config.get("feature_settings")),
    }


def _seconds(document: Mapping[str, Any]) -> float:
    return math.fsum(fold.get("seconds") or 0.0 for fold in document["folds"])


def _note(document: Mapping[str, Any]) -> str:
    """Return why a run is not in the leaderboard, or ""."""
    status = document["status"]
    if status == "done":
        return ""
    if status == "failed":
        return f"failed: {document.get('error') or 'no reason was recorded'}"
    if status != "running":
        raise ValueError(f"its status is {status!r}")
    folds = document["folds"]
    done = sum("seconds" in fold for fold in folds)
    return f"not finished: {done} of {len(folds)} folds; 02_train goes on with it"


def caveats(document: Mapping[str, Any]) -> dict[str, str]:
    """Return what keeps a run's score from being taken at face value.

    Args:
        document: The manifest of a finished run.

    Returns:
        A sentence for each, by the short mark that tables carry.
    """
    folds = document["folds"]
    said = {}
    if document["synthetic"]:
        said["synthetic audio"] = (
            "The speech is generated; its scores say nothing about people."
        )
    if document.get("kind") == "official weights":
        said["official weights"] = (
            "The weights are the TIM-Net authors', made by their own code."
        )
    if any(fold.get("chosen_on") == "test" for fold in folds):
        said["epoch chosen on the test fold"] = (
            "The epoch was chosen on the test fold: the score is the best of many "
            "tries on the very clips that test, and no honest one."
        )
    sides = [
        (set(_speakers(fold, "train")), set(_speakers(fold, "test"))) for fold in folds
    ]
    if any("" in train | test or not (train and test) for train, test in sides):
        said["speakers unknown"] = (
            "Speakers are not known: the same voice may train and test."
        )
    elif shared := sum(bool(train & test) for train, test in sides):
        said["speakers shared"] = (
            f"In {shared} of {len(folds)} folds speakers who test have trained too: "
            "for speakers never heard, expect less."
        )
    if repeated := sum(fold.get("repeated", 0) for fold in folds):
        said[f"{repeated} test clips trained too"] = (
            f"{repeated} clips that test have also trained, or chosen the epoch, under "
            "another name: the same recording."
        )
    absent = sorted({name for fold in folds for name in fold.get("untrained", ())})
    if absent:
        number = sum(bool(fold.get("untrained")) for fold in folds)
        said[f"untrained: {', '.join(absent)}"] = (
            f"In {number} of {len(folds)} folds {', '.join(absent)} is tested and was "
            "never trained: there it cannot be right, and lowers the UAR."
        )
    said |= _audio_caveats(document.get("data", {}))
    pooled = document.get("metrics", {}).get("pooled", {})
    if pooled.get("interval", {}).get("reliable") is False:
        said["interval indicative only"] = (
            "The interval is indicative only: speakers are too few, or not known."
        )
    return said


def _audio_caveats(data: Mapping[str, Any]) -> dict[str, str]:
    """Return what the doctor has said of the audio that a run was made of."""
    audit = data.get("audit")
    if not audit:
        return {
            "audio not checked": (
                "The features were imported without their audio, which nobody has "
                "checked."
            )
        }
    said = {}
    by_severity = {"error": [], "warning": []}
    for problem in audit["problems"]:
        by_severity[problem["severity"]].append(problem)
    for severity, mark in (("error", "errors ignored"), ("warning", "data warnings")):
        if found := by_severity[severity]:
            counts = {}
            for problem in found:
                kind = problem["kind"]
                counts[kind] = counts.get(kind, 0) + problem["files"]
            kinds = ", ".join(
                f"{kind} {n}" if n else kind for kind, n in counts.items()
            )
            told = " ".join(problem["message"] for problem in found)
            heading = (
                f"Errors of the data that were ignored ({len(found)})"
                if severity == "error"
                else f"Warnings about the data ({len(found)})"
            )
            said[f"{mark}: {kinds}"] = f"{heading}: {told}"
    whole = audit["expected"] or audit["found"]
    if audit["used"] < whole:
        dropped = [f"{file} ({why})" for file, why in audit["dropped"].items()]
        told = f" Left out: {'; '.join(dropped[:4])}" if dropped else ""
        more = f" and {len(dropped) - 4} more" if len(dropped) > 4 else ""
        said[f"{audit['used']} of {whole} clips"] = (
            f"{audit['used']} of {whole} clips are used, {audit['found']} were "
            f"found.{told}{more}"
        )
    return said


def _speakers(fold: Mapping[str, Any], part: str) -> list[str]:
    speakers = fold.get(part, {}).get("speakers", [])
    return speakers if isinstance(speakers, list) else []


def _scores(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scores of a finished run, else none."""
    if document["status"] != "done":
        return {}
    metrics = document["metrics"]
    pooled = metrics["pooled"]
    scores = {name: float(pooled[name]) for name in ("uar", "war", "macro_f1")}
    for name, score in scores.items():
        if not 0 <= score <= 1:
            raise ValueError(f"its {name} is {score}")
    for name in ("uar", "war"):
        low, high = pooled.get(f"{name}_interval") or (None, None)
        scores |= {f"{name}_low": low, f"{name}_high": high}
        scores[f"fold_{name}_mean"] = metrics["mean"][name]
        scores[f"fold_{name}_sd"] = metrics["sd"].get(name)
    return scores
