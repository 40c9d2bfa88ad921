"""Train all folds of a run, go on where an earlier attempt stopped, and record it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras

from lib import config, files, losses, models
from lib.device import Device, derived_seed
from lib.features import FeatureSet
from lib.protocols import PROTOCOLS, Fold
from lib.runs import RunFolders, manifest
from lib.systems import SYSTEMS
from lib.training import parallel, side_by_side
from lib.training.clips import Augmentation
from lib.training.fitted import FoldFit
from lib.training.fold import (
    NO_AUGMENTATION,
    FoldTraining,
    Outcome,
    owner_of,
    require_owner,
)
from lib.training.program import Program, Recipe, fresh_weights
from lib.training.progress import Progress
from lib.training.record import complete, describe_data, describe_fold
from lib.training.schedules import SCHEDULES


@dataclasses.dataclass(frozen=True)
class Plan:
    """A run that is to be trained.

    Attributes:
        configuration: What `resolve` returned.
        folds: What `make_folds` returned.
        augmentation: What `prepare_augmentation` returned.
    """

    configuration: Mapping[str, Any]
    folds: Sequence[Fold]
    augmentation: Augmentation = NO_AUGMENTATION


def train(
    configuration: Mapping[str, Any],
    features: FeatureSet,
    folds: list[Fold],
    workspace: files.Workspace,
    *,
    augmentation: Augmentation = NO_AUGMENTATION,
    **options: Any,
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
        augmentation: What `prepare_augmentation` returned.
        **options: `device` and the others of `train_seeds`.

    Returns:
        The folders of the finished run.

    Raises:
        ValueError: If files of the run are of other settings, data or rows.
        RuntimeError: If another process works on the run.
        OSError: If a file cannot be written; what is done so far is kept.
    """
    plan = Plan(configuration, folds, augmentation)
    return train_seeds([plan], features, workspace, **options)[0]


def train_seeds(
    plans: Sequence[Plan],
    features: FeatureSet,
    workspace: files.Workspace,
    *,
    device: Device,
    fold_parallel: str = "auto",
    overwrite: bool = False,
    verbose: int = 1,
) -> list[RunFolders]:
    """Train runs that differ in nothing but the seed, each as `train` does.

    On JAX, the folds of all runs are one vectorised program; a notebook that is
    then started for one of them finds its run finished.

    Args:
        plans: The runs.
        features: The features to train on.
        workspace: Where the runs' files go.
        device: The device in force, for the manifests.
        fold_parallel: "auto" trains all folds as one vectorised program on JAX,
            and one fold per core side by side on TensorFlow's CPU, unless they
            are short; "off" one after the other. The results agree to rounding.
        overwrite: Start again from nothing.
        verbose: 0 silent, 1 bars, 2 plain lines.

    Returns:
        The folders of the finished runs, in the order of the plans.

    Raises:
        ValueError: If files of a run are of other settings, data or rows, two plans
            are the same, or they differ in more than the seed.
        RuntimeError: If another process works on one of the runs.
        OSError: If a file cannot be written; what is done so far is kept.
    """
    _require_other_seeds(plans)
    with contextlib.ExitStack() as locks:
        runs = []
        for plan in plans:
            folders = RunFolders(workspace, config.make_run_id(plan.configuration))
            locks.enter_context(manifest.only_one(folders))
            if overwrite:
                _remove(folders)
            document = _begin(folders, plan, features, device)
            runs.append(_Run(folders, plan, document, len(plans) > 1))
        unfinished = [run for run in runs if not run.done]
        if unfinished:
            _train_runs(unfinished, features, fold_parallel, verbose)
    return [run.folders for run in runs]


def _require_other_seeds(plans: Sequence[Plan]) -> None:
    """Raise ValueError unless the plans differ in the seed, and in nothing else."""
    seeds = [plan.configuration["seed"] for plan in plans]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds {seeds}: give each of them once")
    first = plans[0].configuration
    for plan in plans[1:]:
        for name, value in plan.configuration.items():
            if name not in ("seed", "folds_sha256") and value != first[name]:
                raise ValueError(
                    f"{name} is {first[name]!r} with seed {seeds[0]} and {value!r} "
                    f"with seed {plan.configuration['seed']}; train them apart"
                )


@dataclasses.dataclass
class _Run:
    """A run that is being trained.

    Attributes:
        folders: Where its files lie.
        plan: What is to be trained.
        document: Its manifest.
        one_of_several: Whether other seeds are trained with it.
    """

    folders: RunFolders
    plan: Plan
    document: dict[str, Any]
    one_of_several: bool

    @property
    def done(self) -> bool:
        """Whether it is finished."""
        return self.document["status"] == "done"

    def outcome(self, fold: Fold) -> Outcome | None:
        """Return the outcome of a fold, or None if it has not been trained."""
        if not self.folders.model(fold.number).is_file():
            return None
        path = self.folders.outcome(fold.number)
        if (found := Outcome.load(path)) is not None:
            require_owner(path, found.owner, owner_of(self.folders, fold))
        return found

    def open_folds(self) -> list[Fold]:
        """Return the folds that have no outcome yet."""
        return [fold for fold in self.plan.folds if self.outcome(fold) is None]

    def open_steps(self) -> int:
        """Return the training steps of those folds, 0 for a system without any."""
        settings = self.plan.configuration
        if SYSTEMS[settings["model"]].fit:
            return 0
        sizes = [len(fold.train) for fold in self.open_folds()]
        steps = sum(-(-size // settings["batch_size"]) for size in sizes)
        return steps * settings["epochs"]

    def name(self, fold: Fold) -> str:
        """Return what a user sees of a fold."""
        seed = f"seed {self.plan.configuration['seed']}, " * self.one_of_several
        return f"{seed}fold {fold.number}"

    def write(self, **changes: object) -> None:
        """Change the manifest."""
        self.document |= changes
        manifest.write(self.folders.manifest, self.document)


def _remove(folders: RunFolders) -> None:
    """Delete what earlier attempts made, except the lock that is held."""
    for folder in (folders.models, folders.results):
        shutil.rmtree(folder, ignore_errors=True)
    for path in folders.logs.glob("fold_*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _begin(
    folders: RunFolders, plan: Plan, features: FeatureSet, device: Device
) -> dict[str, Any]:
    """Return the manifest of the run, made or found."""
    for folder in (folders.models, folders.logs, folders.results):
        files.remove_leftovers(folder)
    attempt = {
        "started": manifest.now(),
        "code": manifest.git_state(),
        "environment": manifest.environment(),
        "device": dataclasses.asdict(device),
    }
    if folders.manifest.is_file():
        document = manifest.read(folders.manifest)
        if document["config"] != json.loads(json.dumps(plan.configuration)):
            raise ValueError(
                f"{folders.manifest} is of other settings or data than its name says; "
                "set overwrite=True to train the run anew"
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
            "attempts": [],
            "folds": [],
        }
    trained_in = {entry["fold"]: entry.get("attempt") for entry in document["folds"]}
    document |= attempt | {
        "status": "running",
        "error": None,
        "kind": "trained",
        "config": dict(plan.configuration),
        "synthetic": bool(features.about["synthetic"]),
        "data": describe_data(features),
        "attempts": [*document["attempts"], attempt],
        "folds": [
            describe_fold(fold, features) | {"attempt": trained_in.get(fold.number)}
            for fold in plan.folds
        ],
    }
    manifest.write(folders.manifest, document)
    return document


def _train_runs(
    runs: Sequence[_Run], features: FeatureSet, fold_parallel: str, verbose: int
) -> None:
    """Train what is left of some runs, and write down why if it fails."""
    folds = sum(len(run.plan.folds) for run in runs)
    epochs = runs[0].plan.configuration["epochs"] or 1
    progress = Progress(folds, epochs, verbose)
    try:
        with contextlib.closing(progress):
            trainer = _trainer(runs, features)
            if fold_parallel == "auto":
                _train_together(runs, trainer, progress)
            for run in runs:
                _train_run(run, features, trainer, fold_parallel, progress)
    except BaseException as error:
        # Also where the user interrupts: nothing is running then.
        for run in runs:
            if not run.done:
                run.write(status="failed", error=f"{error}" or type(error).__name__)
        raise


def _train_together(
    runs: Sequence[_Run], trainer: Callable[..., FoldTraining], progress: Progress
) -> None:
    """Train the folds of all runs as one program, where that is possible."""
    work = [(run, fold) for run in runs for fold in run.open_folds()]
    augmentations = [run.plan.augmentation for run in runs]
    model = runs[0].plan.configuration["model"]
    if not parallel.possible(model, augmentations, len(work)):
        return
    progress.start_fold(work[0][0].name(work[0][1]))
    trainings = [trainer(run, fold) for run, fold in work]
    names = [run.name(fold) for run, fold in work]
    parallel.train_together(
        trainings,
        lambda training, row: progress.together(names[trainings.index(training)], row),
    )


def _train_run(
    run: _Run,
    features: FeatureSet,
    trainer: Callable[..., FoldTraining | FoldFit],
    fold_parallel: str,
    progress: Progress,
) -> None:
    """Train the folds of a run that are not done yet, and complete its files."""
    configuration = run.plan.configuration
    at_once = 1
    if fold_parallel == "auto":
        at_once = side_by_side.workers(
            configuration["model"],
            run.document["device"]["name"],
            len(run.open_folds()),
            run.open_steps(),
        )
    numbers = [fold.number for fold in run.plan.folds]
    entries = dict(zip(numbers, run.document["folds"], strict=True))
    outcomes = {}
    with contextlib.closing(_outcomes(run, trainer, at_once, progress)) as results:
        for fold, outcome in results:
            outcomes[fold.number] = outcome
            entry = entries[fold.number]
            entry["attempt"] = entry["attempt"] or len(run.document["attempts"])
            entry |= {
                "epochs_run": len(outcome.history),
                "epoch_chosen": outcome.epoch,
                "chosen_on": PROTOCOLS[configuration["protocol"]].chosen_on,
                "seconds": outcome.seconds,
            }
            run.write()
            right = outcome.probabilities.argmax(1) == features.y[outcome.rows]
            progress.end_fold(
                run.name(fold),
                f"epoch {outcome.epoch} tested: accuracy {right.mean():.3f}",
            )
    in_order = [outcomes[number] for number in numbers]
    complete(run.folders, run.document, features, run.plan.folds, in_order)


def _outcomes(
    run: _Run,
    trainer: Callable[..., FoldTraining | FoldFit],
    at_once: int,
    progress: Progress,
) -> Iterator[tuple[Fold, Outcome]]:
    """Yield each fold and its outcome once it has one, trained here or before."""
    left = []
    for fold in run.plan.folds:
        if (outcome := run.outcome(fold)) is not None:
            progress.start_fold(run.name(fold))
            yield fold, outcome
        else:
            left.append(fold)
    if at_once > 1 and len(left) > 1:
        progress.start_fold(run.name(left[0]))
        yield from side_by_side.train_side_by_side(
            left,
            functools.partial(trainer, run),
            at_once,
            lambda fold, row: progress.together(run.name(fold), row),
        )
        return
    for fold in left:
        progress.start_fold(run.name(fold))
        yield fold, trainer(run, fold).run(progress.epoch)


def _trainer(
    runs: Sequence[_Run], features: FeatureSet
) -> Callable[[_Run, Fold], FoldTraining | FoldFit]:
    """Return the function from a fold of a run to what trains it, not yet begun."""
    configuration = runs[0].plan.configuration
    name, options = configuration["model"], configuration["model_options"]
    what = {"x": features.x, "y": features.y, "num_classes": len(features.label_names)}
    if SYSTEMS[name].fit:
        return lambda run, fold: FoldFit(
            name,
            options,
            fold,
            folders=run.folders,
            augmentation=run.plan.augmentation,
            **what,
        )
    build = functools.partial(_build, configuration, features)
    fresh = _fresh_weights(runs, build)
    # Compiled for the first fold that a thread trains, and kept for its others.
    program = functools.cache(
        lambda thread: Program(
            build, _recipe(configuration), what["num_classes"], fresh
        )
    )
    schedule = SCHEDULES[configuration["schedule"]](**configuration["schedule_options"])
    return lambda run, fold: FoldTraining(
        program(threading.get_ident()),
        fold,
        seed=run.plan.configuration["seed"],
        chosen_on=PROTOCOLS[configuration["protocol"]].chosen_on,
        folders=run.folders,
        schedule=schedule,
        augmentation=run.plan.augmentation,
        patience=configuration["early_stopping"],
        **what,
    )


def _fresh_weights(
    runs: Sequence[_Run], build: Callable[[], keras.Model]
) -> dict[int, list]:
    """Return the first weights of all folds by seed, where that helps `Program`."""
    seeds = [
        derived_seed(run.plan.configuration["seed"], fold.number)
        for run in runs
        for fold in run.open_folds()
    ]
    if keras.backend.backend() != "tensorflow" or len(seeds) == 1:
        return {}
    return {seed: fresh_weights(build, seed) for seed in seeds}


def _build(configuration: Mapping[str, Any], features: FeatureSet) -> keras.Model:
    """Return the untrained network of a run."""
    return models.build_model(
        configuration["model"],
        features.x.shape[-2:],
        len(features.label_names),
        **configuration["model_options"],
    )


def _recipe(configuration: Mapping[str, Any]) -> Recipe:
    """Return how the network of a run is trained."""
    names = set(Recipe.__dataclass_fields__) & set(configuration)
    return Recipe(
        **{name: configuration[name] for name in names - {"label_smoothing"}},
        label_smoothing=losses.effective_smoothing(
            configuration["label_smoothing"], configuration["loss_options"]
        ),
        fused=SYSTEMS[configuration["model"]].fused,
    )
