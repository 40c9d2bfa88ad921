"""Train all folds of a run, go on where an earlier attempt stopped, and record it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from lib import config, losses, metrics, models, paths, protocols, runs
from lib.device import Device, derived_seed
from lib.features import FeatureSet
from lib.protocols import PROTOCOLS, Fold, Rows
from lib.runs import RunFolders, manifest
from lib.systems import SYSTEMS
from lib.training import parallel, schedules, side_by_side
from lib.training.clips import Augmentation, resolve_augmentation
from lib.training.fitted import FoldFit
from lib.training.fold import NO_AUGMENTATION, FoldTraining, Outcome
from lib.training.program import Program, Recipe, fresh_weights
from lib.training.progress import Progress
from lib.training.schedules import SCHEDULES


def resolve(
    cfg: config.Parameters, features: FeatureSet, model_options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return everything that decides the result of a run, nothing left open.

    Args:
        cfg: The notebook's parameters.
        features: The features that are trained on.
        model_options: Options the corpus suggests; the user's go before them.

    Returns:
        JSON values, in a fixed order; the run id is made from them.

    Raises:
        ValueError: If the model has no such option, or training is to stop early
            and nobody validates.
    """
    folds = make_folds(cfg, features)
    _require_validation(cfg)
    return {
        "corpus": features.about["corpus"],
        "features": features.about["features"],
        "feature_settings": features.about["settings"],
        "model": cfg.model,
        "model_options": _model_options(cfg, model_options),
        "protocol": cfg.protocol_in_force,
        "folds": len(folds),
        "seed": cfg.seed,
        **_training_settings(cfg),
        "augmentation": cfg.augmentation,
        "augmentation_options": resolve_augmentation(cfg),
    }


def _require_validation(cfg: config.Parameters) -> None:
    """Raise ValueError if training is to stop early and nobody validates."""
    if cfg.early_stopping and PROTOCOLS[cfg.protocol_in_force].chosen_on == "last":
        others = [name for name, p in PROTOCOLS.items() if p.chosen_on == "validation"]
        raise ValueError(
            f"early_stopping {cfg.early_stopping}: protocol "
            f"'{cfg.protocol_in_force}' has no validation to stop on; set it to 0, "
            f"or choose one of {', '.join(others)}"
        )


def _model_options(
    cfg: config.Parameters, suggested: Mapping[str, Any]
) -> dict[str, Any]:
    """Return all options of the system: its own, the corpus's, then the user's."""
    own = models.options(cfg.model)
    for name in cfg.model_options:
        if name not in own:
            hint = config.did_you_mean(name, own)
            raise ValueError(f"model_options: {cfg.model} has no option '{name}'{hint}")
    fitting = {name: value for name, value in suggested.items() if name in own}
    return own | fitting | cfg.model_options


def _training_settings(cfg: config.Parameters) -> dict[str, Any]:
    """Return what decides a training; nothing of it for a system without epochs."""
    settings = {
        "epochs": cfg.epochs_in_force,
        "batch_size": cfg.batch_size_in_force,
        "learning_rate": cfg.learning_rate,
        "beta_1": cfg.beta_1,
        "beta_2": cfg.beta_2,
        "epsilon": cfg.epsilon,
        "schedule": cfg.schedule,
        "schedule_options": schedules.resolved_options(
            cfg.schedule, cfg.schedule_options, cfg.epochs_in_force
        ),
        "early_stopping": cfg.early_stopping,
        "weight_average": cfg.weight_average,
        "label_smoothing": cfg.label_smoothing,
        "loss": cfg.loss,
        "loss_options": losses.resolved_options(cfg.loss, cfg.loss_options),
    }
    return dict.fromkeys(settings) if SYSTEMS[cfg.model].fit else settings


def make_folds(cfg: config.Parameters, features: FeatureSet) -> list[Fold]:
    """Return the folds that the parameters ask for."""
    rows = Rows(features.y, features.speaker, features.sex, features.text)
    return protocols.make_folds(
        cfg.protocol_in_force,
        rows,
        folds=cfg.folds,
        seed=cfg.seed,
        corpus=features.about["corpus"],
    )


def train(
    configuration: Mapping[str, Any],
    features: FeatureSet,
    folds: list[Fold],
    workspace: paths.Workspace,
    *,
    device: Device,
    augmentation: Augmentation = NO_AUGMENTATION,
    fold_parallel: str = "auto",
    overwrite: bool = False,
    verbose: int = 1,
) -> RunFolders:
    """Train a run, or what is left of it.

    A finished run is not touched. A run that was cut off goes on at the last
    checkpoint of the fold it was in, and ends with the same predictions as one
    that was never disturbed.

    Args:
        configuration: What `resolve` returned.
        features: The features to train on.
        folds: The folds, as `make_folds` returned them.
        workspace: Where the run's files go.
        device: The device in force, for the manifest.
        augmentation: What `prepare_augmentation` returned.
        fold_parallel: "auto" trains all folds as one vectorised program on JAX,
            and one fold per core side by side on TensorFlow's CPU; "off" one
            after the other. The results agree to rounding.
        overwrite: Start again from nothing.
        verbose: 0 silent, 1 bars, 2 plain lines.

    Returns:
        The folders of the finished run.

    Raises:
        ValueError: If the run was begun on other audio.
        RuntimeError: If another process works on the run.
        OSError: If a file cannot be written; what is done so far is kept.
    """
    folders = RunFolders(workspace, config.make_run_id(configuration))
    with manifest.only_one(folders):
        if overwrite:
            _remove(folders)
        document = _begin(folders, configuration, features, folds, device)
        if document["status"] == "done":
            return folders
        try:
            outcomes = _train_folds(
                folders, document, features, folds, augmentation, fold_parallel, verbose
            )
            _complete(folders, document, features, folds, outcomes)
        except Exception as error:
            document |= {"status": "failed", "error": f"{error}"}
            manifest.write(folders.manifest, document)
            raise
    return folders


def _remove(folders: RunFolders) -> None:
    """Delete what earlier attempts made, except the lock that is held."""
    for folder in (folders.models, folders.results):
        shutil.rmtree(folder, ignore_errors=True)
    for path in folders.logs.glob("fold_*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _begin(
    folders: RunFolders,
    configuration: Mapping[str, Any],
    features: FeatureSet,
    folds: list[Fold],
    device: Device,
) -> dict[str, Any]:
    """Return the manifest of the run, made or found."""
    data = describe_data(features)
    for folder in (folders.models, folders.logs, folders.results):
        paths.remove_leftovers(folder)
    if folders.manifest.is_file():
        document = manifest.read(folders.manifest)
        if document["data"]["x_sha256"] != data["x_sha256"]:
            raise ValueError(
                f"run {folders.run_id} was begun on other features of the same "
                "settings: the audio has changed since. Set overwrite=True to train "
                "it again on what is there now."
            )
        if document["status"] == "done":
            return document
    else:
        document = {
            "schema_version": manifest.SCHEMA_VERSION,
            "run_id": folders.run_id,
            "status": "running",
            "created": manifest.now(),
            "finished": None,
        }
    document |= {
        "status": "running",
        "error": None,
        "kind": "trained",
        "config": dict(configuration),
        "synthetic": bool(features.about["synthetic"]),
        "code": manifest.git_state(),
        "environment": manifest.environment(),
        "device": dataclasses.asdict(device),
        "data": data,
        "folds": [describe_fold(fold, features) for fold in folds],
    }
    manifest.write(folders.manifest, document)
    return document


def describe_data(features: FeatureSet) -> dict[str, Any]:
    """Return what a run was trained and tested on, for the manifest."""
    return {
        "x_sha256": features.about["x_sha256"],
        "audio_sha256": features.about["audio_sha256"],
        "count": len(features),
        "shape": list(features.x.shape),
        "label_names": features.label_names.tolist(),
        "counts": features.about["counts"],
        "left_out": features.about["left_out"] | features.about["failed"],
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
    return {"fold": fold.number, **parts, "validation_is_test": fold.validation_is_test}


def _train_folds(
    folders: RunFolders,
    document: dict[str, Any],
    features: FeatureSet,
    folds: list[Fold],
    augmentation: Augmentation,
    fold_parallel: str,
    verbose: int,
) -> list[Outcome]:
    """Train the folds that are not done yet."""
    configuration = document["config"]
    progress = Progress(len(folds), configuration["epochs"] or 1, verbose)
    open_folds = [fold for fold in folds if _done(folders, fold) is None]
    trainer = _fold_trainer(configuration, features, folders, augmentation, open_folds)
    entries = dict(zip([fold.number for fold in folds], document["folds"], strict=True))
    outcomes = {}
    with contextlib.ExitStack() as exits:
        exits.callback(progress.close)
        if fold_parallel == "auto" and parallel.possible(
            configuration["model"], augmentation, len(open_folds)
        ):
            progress.start_fold(open_folds[0].number)
            trainings = [trainer(fold) for fold in open_folds]
            parallel.train_together(trainings, progress.together)
        at_once = 1
        if fold_parallel == "auto":
            at_once = side_by_side.workers(
                configuration["model"], document["device"]["name"], len(open_folds)
            )
        results = _one_by_one(folders, folds, trainer, at_once, progress)
        for fold, outcome in exits.enter_context(contextlib.closing(results)):
            outcomes[fold.number] = outcome
            entries[fold.number] |= {
                "epochs_run": len(outcome.history),
                "epoch_chosen": outcome.epoch,
                "chosen_on": PROTOCOLS[configuration["protocol"]].chosen_on,
                "seconds": outcome.seconds,
            }
            manifest.write(folders.manifest, document)
            right = outcome.probabilities.argmax(1) == features.y[outcome.rows]
            progress.end_fold(
                fold.number,
                f"epoch {outcome.epoch} tested: accuracy {right.mean():.3f}",
            )
    return [outcomes[fold.number] for fold in folds]


def _one_by_one(
    folders: RunFolders,
    folds: list[Fold],
    trainer: Callable[[Fold], FoldTraining | FoldFit],
    at_once: int,
    progress: Progress,
) -> Iterator[tuple[Fold, Outcome]]:
    """Yield each fold and its outcome once it has one, trained here or before."""
    left = []
    for fold in folds:
        if (outcome := _done(folders, fold)) is not None:
            progress.start_fold(fold.number)
            yield fold, outcome
        else:
            left.append(fold)
    if at_once > 1 and len(left) > 1:
        progress.start_fold(left[0].number)
        yield from side_by_side.train_side_by_side(
            left, trainer, at_once, progress.together
        )
        return
    for fold in left:
        progress.start_fold(fold.number)
        yield fold, trainer(fold).run(progress.epoch)


def _done(folders: RunFolders, fold: Fold) -> Outcome | None:
    """Return the outcome of a fold, or None if it has not been trained."""
    if not folders.model(fold.number).is_file():
        return None
    return Outcome.load(folders.outcome(fold.number))


def _fold_trainer(
    configuration: Mapping[str, Any],
    features: FeatureSet,
    folders: RunFolders,
    augmentation: Augmentation,
    folds: list[Fold],
) -> Callable[[Fold], FoldTraining | FoldFit]:
    """Return the function from one of the folds to what trains it, not yet begun."""
    what = {
        "x": features.x,
        "y": features.y,
        "num_classes": len(features.label_names),
        "folders": folders,
        "augmentation": augmentation,
    }
    name, options = configuration["model"], configuration["model_options"]
    if SYSTEMS[name].fit:
        return lambda fold: FoldFit(name, options, fold, **what)
    # Compiled for the first fold that a thread trains, and kept for its others.
    build = functools.partial(_build, configuration, features)
    seeds = [derived_seed(configuration["seed"], fold.number) for fold in folds]
    fresh = {seed: fresh_weights(build, seed) for seed in seeds}
    program = functools.cache(lambda thread: _program(configuration, features, fresh))
    schedule = SCHEDULES[configuration["schedule"]](**configuration["schedule_options"])
    return lambda fold: FoldTraining(
        program(threading.get_ident()),
        fold,
        seed=configuration["seed"],
        chosen_on=PROTOCOLS[configuration["protocol"]].chosen_on,
        schedule=schedule,
        patience=configuration["early_stopping"],
        **what,
    )


def _count_parameters(
    configuration: Mapping[str, Any], features: FeatureSet, saved: Path
) -> int:
    """Return the number of trainable parameters of a run's network."""
    if SYSTEMS[configuration["model"]].fit:
        # Support vectors are known only after the fact.
        network = keras.saving.load_model(saved, compile=False)
    else:
        network = _build(configuration, features)
    return models.trainable_parameters(network)


def _build(configuration: Mapping[str, Any], features: FeatureSet) -> keras.Model:
    """Return the untrained network of a run."""
    return models.build_model(
        configuration["model"],
        features.x.shape[-2:],
        len(features.label_names),
        **configuration["model_options"],
    )


def _program(
    configuration: Mapping[str, Any],
    features: FeatureSet,
    fresh: Mapping[int, list[np.ndarray]],
) -> Program:
    """Return the compiled network of a run."""
    names = set(Recipe.__dataclass_fields__) & set(configuration)
    recipe = Recipe(
        **{name: configuration[name] for name in names - {"label_smoothing"}},
        label_smoothing=losses.effective_smoothing(
            configuration["label_smoothing"], configuration["loss_options"]
        ),
        fused=SYSTEMS[configuration["model"]].fused,
    )
    num_classes = len(features.label_names)
    build = functools.partial(_build, configuration, features)
    return Program(build, recipe, num_classes, fresh)


def _complete(
    folders: RunFolders,
    document: dict[str, Any],
    features: FeatureSet,
    folds: list[Fold],
    outcomes: list[Outcome],
) -> None:
    """Write predictions, embeddings and scores, and then that the run is done."""
    table = write_outcomes(
        folders,
        features,
        [fold.number for fold in folds],
        [outcome.rows for outcome in outcomes],
        [outcome.probabilities for outcome in outcomes],
        [outcome.embeddings for outcome in outcomes],
    )
    weights = [folders.model(fold.number) for fold in folds]
    configuration = document["config"]
    document |= {
        "status": "done",
        "finished": manifest.now(),
        "parameters": _count_parameters(configuration, features, weights[0]),
        "seconds": round(sum(outcome.seconds for outcome in outcomes), 3),
        "metrics": metrics.pooled_and_folds(table),
        "artefacts": manifest.artefacts(
            folders, [folders.predictions, folders.embeddings, *weights]
        ),
    }
    manifest.write(folders.manifest, document)


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
    paths.write_npz(
        folders.embeddings, {"file": features.file[tested], "fold": fold, "z": z}
    )
    return table
