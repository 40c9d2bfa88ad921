"""Train all folds of a run, go on after a cut, and record what was done."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import shutil
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import joblib
import keras
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from lib import config, files, metrics, models, protocols, runs, together
from lib.device import Device, derived_seed, select
from lib.features import FeatureSet
from lib.fold import FoldTraining, Metrics, Network, Report, fit_fold, train_folds
from lib.fold import predict_utterances as predict_utterances
from lib.protocols import PROTOCOLS, Fold
from lib.runs import RunFolders
from lib.settings import (  # noqa: F401
    NO_AUGMENTATION,
    Augmentation,
    Plan,
    inputs,
    make_folds,
    prepare_augmentation,
    require_use,
    resolve,
)

LINE_EVERY = 25  # epochs between two plain lines
# A process of its own imports TensorFlow and traces the network, which takes as long as
# some hundred steps; each holds a network and the arrays of a step in memory.
LEAST_STEPS, MOST_PROCESSES = 600, 8


def train(
    settings: Mapping[str, Any],
    data: FeatureSet,
    folds: Sequence[Fold],
    workspace: files.Workspace,
    *,
    augmentation: Augmentation = NO_AUGMENTATION,
    **options: Any,
) -> RunFolders:
    """Train a run, or what is left of it, and return its folders.

    A finished run is not touched. A run that was cut off goes on at its last
    checkpoints, and ends with the same predictions as one that was never disturbed.
    `settings`, `folds` and `augmentation` are what `resolve`, `make_folds` and
    `prepare_augmentation` returned, `options` those of `train_seeds`.
    """
    plan = Plan(settings, folds, augmentation)
    return train_seeds([plan], data, workspace, **options)[0]


def train_seeds(
    plans: Sequence[Plan],
    data: FeatureSet,
    workspace: files.Workspace,
    *,
    device: Device,
    fold_parallel: str = "auto",
    overwrite: bool = False,
    verbose: int = 1,
) -> list[RunFolders]:
    """Train runs that differ in nothing but the seed, each as `train` does.

    With `fold_parallel` "auto", folds train as one program on JAX, and in processes on
    TensorFlow's CPU, unless they are short; with "off" one after the other. A step
    agrees to rounding, which many steps magnify. `verbose` is 0 for silence, 1 for a
    bar, 2 for plain lines.
    """
    first, seeds = plans[0].settings, [plan.settings["seed"] for plan in plans]
    if len(set(seeds)) < len(plans):
        raise ValueError(f"seeds {seeds}: give each of them once")
    for plan, name in itertools.product(plans, set(first) - {"seed", "folds_sha256"}):
        if (other := plan.settings[name]) != first[name]:
            raise ValueError(
                f"{name} is {first[name]!r} with seed {seeds[0]} and {other!r} with "
                f"seed {plan.settings['seed']}; train them apart"
            )
    with contextlib.ExitStack() as locks:
        opened = []
        for plan in plans:
            folders = RunFolders(workspace, config.make_run_id(plan.settings))
            locks.enter_context(runs.only_one(folders))
            opened.append(_Run(plan, data, folders, device, overwrite))
        left = [run for run in opened if run.document["status"] != "done"]
        _train_runs(left, device, fold_parallel == "auto", verbose)
    return [run.folders for run in opened]


class _Run:
    """A run that is being trained: its manifest and the outcomes so far."""

    def __init__(self, plan, data, folders, device, overwrite) -> None:
        self.plan, self.data, self.folders = plan, data, folders
        self.outcomes: dict[int, dict[str, Any]] = {}
        for folder in (folders.models, folders.logs, folders.results):
            for path in folder.glob("*" if overwrite else ".partial-*"):
                if path.name != ".lock":  # which is held
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.document = new_manifest(folders.run_id, plan, data, device)
        if folders.manifest.is_file():
            known = runs.read_manifest(folders.manifest)
            if known["config"] != json.loads(json.dumps(plan.settings)):
                raise ValueError(
                    f"{folders.manifest} is of other settings or data than its name "
                    "says; set overwrite=True to train the run anew"
                )
            if known["status"] == "done":
                self.document = known
                return
            self.document["created"] = known["created"]
            self.document["attempts"] = known["attempts"] + self.document["attempts"]
            for entry, old in zip(self.document["folds"], known["folds"], strict=True):
                entry["attempt"] = old["attempt"]
        self.write()

    def write(self, **changes: object) -> None:
        self.document |= changes
        runs.write_manifest(self.folders.manifest, self.document)

    def add(self, fold: Fold, outcome: dict[str, Any]) -> None:
        """Note the outcome of a fold; complete the run if it was the last one."""
        self.outcomes[fold.number] = outcome
        (entry,) = (e for e in self.document["folds"] if e["fold"] == fold.number)
        entry |= {
            "attempt": entry["attempt"] or len(self.document["attempts"]),
            "epochs_run": len(outcome["history"]),
            "epoch_chosen": outcome["epoch"],
            "chosen_on": PROTOCOLS[self.plan.settings["protocol"]].chosen_on,
            "seconds": outcome["seconds"],
        }
        self.write()
        if len(self.outcomes) < len(self.plan.folds):
            return
        numbers = [fold.number for fold in self.plan.folds]
        outcomes = [self.outcomes[number] for number in numbers]
        table = write_outcomes(self.folders, self.data, numbers, outcomes)
        saved = [self.folders.model(number) for number in numbers]
        kept = [self.folders.predictions, self.folders.embeddings, *saved]
        self.write(
            status="done",
            finished=runs.now(),
            parameters=outcome["parameters"],
            seconds=round(sum(outcome["seconds"] for outcome in outcomes), 3),
            metrics=metrics.pooled_and_folds(table),
            artefacts=runs.artefacts(self.folders, kept),
        )


def new_manifest(run_id: str, plan: Plan, data: FeatureSet, device: Device) -> dict:
    """Return the manifest of a run that begins."""
    attempt = {"started": runs.now(), "code": runs.git_state()}
    attempt |= {"environment": runs.environment(), "device": device._asdict()}
    return attempt | {
        "schema_version": runs.SCHEMA_VERSION,
        "run_id": run_id,
        "status": "running",
        "created": runs.now(),
        "finished": None,
        "error": None,
        "traceback": None,
        "kind": "trained",
        "config": dict(plan.settings),
        "synthetic": bool(data.about["synthetic"]),
        "data": {
            "sha256": data.about["data_sha256"],
            "x_sha256": data.about["x_sha256"],
            "count": len(data),
            "shape": list(data.x.shape),
            "label_names": data.label_names.tolist(),
            "counts": data.about["counts"],
            "audit": data.about.get("audit"),
        },
        "attempts": [attempt],
        "folds": [describe_fold(f, data) | {"attempt": None} for f in plan.folds],
    }


def describe_fold(fold: Fold, data: FeatureSet) -> dict[str, Any]:
    """Return who trains, validates and tests in a fold, for the manifest."""
    rows = {name: getattr(fold, name) for name in ("train", "validation", "test")}
    untrained = protocols.untrained_labels(fold, data.y)
    return {
        name: {"n": len(part), "speakers": np.unique(data.speaker[part]).tolist()}
        for name, part in rows.items()
    } | {
        "fold": fold.number,
        "validation_is_test": fold.validation_is_test,
        "repeated": protocols.repeated_recordings(fold, data.content),
        "untrained": data.label_names[untrained].tolist(),
    }


def write_outcomes(
    folders: RunFolders, data: FeatureSet, numbers: Sequence[int], outcomes: list[dict]
) -> pd.DataFrame:
    """Write embeddings and predictions of some folds; return the predictions."""
    tested, probabilities, embeddings = (
        np.concatenate([outcome[name] for outcome in outcomes])
        for name in ("rows", "probabilities", "embeddings")
    )
    fold = np.repeat(numbers, [len(outcome["rows"]) for outcome in outcomes])
    table = runs.predictions_table(
        **{name: getattr(data, name)[tested] for name in ("file", "speaker", "sex")},
        fold=fold,
        y_true=data.y[tested],
        probabilities=probabilities,
        label_names=data.label_names.tolist(),
    )
    runs.write_predictions(folders.predictions, table)
    arrays = {"file": data.file[tested], "fold": fold, "z": embeddings.astype("f4")}
    files.write_npz(folders.embeddings, arrays)
    return table


def _train_runs(left: list[_Run], device: Device, at_once: bool, verbose: int) -> None:
    """Train what is left of some runs, and write down why if it fails."""
    by_id = {run.folders.run_id: run for run in left}
    trainings = [
        FoldTraining(run.plan, run.data, fold, run.folders)
        for run in left
        for fold in run.plan.folds
    ]
    bar = tqdm(total=len(trainings), unit="fold", disable=verbose != 1)

    def report(training: FoldTraining, row: Metrics, done: bool = False) -> None:
        names = [name for name in ("loss", "uar", "val_uar") if name in row]
        scores = "  ".join(f"{name} {row[name]:.3f}" for name in names)
        text = f"{training.name}  epoch {row['epoch']}  {'tested  ' * done}{scores}"
        bar.set_postfix_str(text)
        if verbose == 2 and (done or row["epoch"] % LINE_EVERY == 0):
            print(text, flush=True)

    try:
        known = [(training, training.outcome()) for training in trainings]
        there = [pair for pair in known if pair[1] is not None]
        missing = [training for training, outcome in known if outcome is None]
        with contextlib.closing(_outcomes(missing, device, at_once, report)) as made:
            for training, outcome in itertools.chain(there, made):
                by_id[training.folders.run_id].add(training.fold, outcome)
                bar.update()
                report(training, outcome["history"][outcome["epoch"] - 1], done=True)
    except BaseException as error:
        # Also where the user interrupts: nothing is running then.
        text, trace = f"{error}" or type(error).__name__, traceback.format_exc()
        for run in left:
            if run.document["status"] != "done":
                run.write(status="failed", error=text, traceback=trace)
        raise
    finally:
        bar.close()


def _outcomes(
    trainings: Sequence[FoldTraining], device: Device, at_once: bool, report: Report
) -> Iterator[tuple[FoldTraining, dict[str, Any]]]:
    """Yield folds and their outcomes, trained in the way that suits the backend."""
    if not trainings:
        return
    plan, data = trainings[0].plan, trainings[0].data
    if models.SYSTEMS[plan.settings["model"]].fit:
        for training in trainings:
            yield training, fit_fold(training, report)
        return
    network = Network(plan.settings, data.x.shape[-2:], len(data.label_names))
    # Drawn before the first fold trains: TensorFlow lays out a compiled step anew
    # whenever a network has been built.
    for training in trainings:
        seed = training.plan.settings["seed"]
        training.untrained = network.draw(derived_seed(seed, training.fold.number))
    # Of all folds, also of those that are done: the number of threads decides the last
    # bits of sums, and a run that was cut has to end as one that was not.
    sizes = [len(fold.train) for fold in plan.folds]
    count = processes(plan.settings, device, sizes) if at_once else 1
    if at_once and together.possible([training.plan for training in trainings]):
        outcomes = train_folds(network, trainings, report)
        yield from zip(trainings, outcomes, strict=True)
    elif count > 1:
        threads = max(1, joblib.cpu_count() // count)
        pool = joblib.Parallel(count, return_as="generator_unordered")
        jobs = enumerate(trainings)
        job = joblib.delayed(_in_process)
        for place, outcome in pool(job(*pair, threads, os.getpid()) for pair in jobs):
            yield trainings[place], outcome
    else:
        for training in trainings:
            yield training, train_folds(network, [training], report)[0]


def processes(settings: Mapping[str, Any], device: Device, sizes: Sequence[int]) -> int:
    """Return how many folds, of these sizes, to train at once; 1 if more do not pay."""
    steps = settings["epochs"] * sum(-(-n // settings["batch_size"]) for n in sizes)
    here = keras.backend.backend() == "tensorflow" and device.name == "cpu"
    many = here and steps >= LEAST_STEPS
    return min(len(sizes), joblib.cpu_count(), MOST_PROCESSES) if many else 1


@functools.lru_cache(1)
def _network(settings: str, shape: tuple[int, ...], classes: int) -> Network:
    """Return the network of a process, compiled once for all its folds."""
    return Network(json.loads(settings), shape, classes)


def _in_process(
    place: int, training: FoldTraining, threads: int, parent: int
) -> tuple[int, dict[str, Any]]:
    """Train a fold in a process of its own."""
    select("cpu", threads=threads)
    shape, classes = training.data.x.shape[-2:], len(training.data.label_names)
    network = _network(json.dumps(training.plan.settings), shape, classes)

    def report(training: FoldTraining, row: Metrics) -> None:
        if os.getppid() != parent:  # which was killed, so that its lock is gone
            raise SystemExit

    return place, train_folds(network, [training], report)[0]
