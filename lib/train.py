"""Train all folds of a run, go on after a cut, and record what was done."""

import contextlib
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
from tqdm.auto import tqdm

from lib import config, files, metrics, planning, protocols, runs
from lib.device import Device, select
from lib.files import FeatureSet
from lib.fold import FoldTraining, Metrics, Network, Report, fit_fold, train_folds
from lib.models import SYSTEMS
from lib.planning import Plan
from lib.protocols import Fold
from lib.runs import RunFolders

LINE_EVERY = 25  # epochs between two plain lines
# A process imports TensorFlow and traces its network, which takes some hundred steps.
LEAST_STEPS, MOST_PROCESSES = 600, 8


def train(
    plans: Sequence[Plan],
    data: FeatureSet,
    workspace: files.Workspace,
    *,
    device: Device,
    fold_parallel: str = "auto",
    overwrite: bool = False,
    verbose: int = 1,
) -> list[RunFolders]:
    """Train a run, or several that differ by their seed alone; return their folders.

    A finished run is not touched. One that was cut off goes on at its last checkpoints,
    and ends with the same predictions as one that was never disturbed. With
    `fold_parallel` "auto", folds train as one program on JAX, and in processes on
    TensorFlow's CPU, unless they are short; with "off" one after the other. A step
    agrees to rounding, which many steps magnify. `verbose` is 0 for silence, 1 for a
    bar, 2 for plain lines.
    """
    first, seeds = plans[0].settings, [plan.settings["seed"] for plan in plans]
    same = set(first) - {"seed", "folds_sha256"}
    differ = [n for n in same if any(plan.settings[n] != first[n] for plan in plans)]
    if differ or len(set(seeds)) < len(plans):
        fault = f"differ in {sorted(differ)} or share one of the seeds {seeds}"
        raise ValueError(f"runs that {fault} are not trained together")
    epochs = {seed: [None] * len(plans[0].folds) for seed in seeds}
    refit = first["validation"] == "refit"
    if refit:  # the run that chooses the epochs is one of its own
        choosing = {"validation": "speakers"}
        others = [one._replace(settings=one.settings | choosing) for one in plans]
        how = {"fold_parallel": fold_parallel, "verbose": verbose}
        how["overwrite"] = overwrite
        done = train(others, data, workspace, device=device, **how)
        for seed, folders in zip(seeds, done, strict=True):
            folds = runs.read_manifest(folders.manifest)["folds"]
            epochs[seed] = [fold["epoch_chosen"] for fold in folds]
    with contextlib.ExitStack() as stack:
        by_id = {}
        for plan in plans:
            folders = RunFolders(workspace, config.make_run_id(plan.settings))
            stack.enter_context(runs.only_one(folders))
            by_id[folders.run_id] = _Run(plan, data, folders, device, overwrite)
        left = [run for run in by_id.values() if run.document["status"] != "done"]
        trainings = []
        for run in left:
            chosen = epochs[run.plan.settings["seed"]]
            for fold, count in zip(run.plan.folds, chosen, strict=True):
                fold = protocols.trained_on_all(fold) if refit else fold
                of_run = run.plan, data, fold, run.folders
                trainings.append(FoldTraining(*of_run, epochs=count))
        bar = tqdm(total=len(trainings), unit="fold", disable=verbose != 1)
        stack.callback(bar.close)

        def report(training: FoldTraining, row: Metrics, done: bool = False) -> None:
            names = [name for name in ("loss", "uar", "val_uar") if name in row]
            scores = "  ".join(f"{name} {row[name]:.3f}" for name in names)
            seed, number = training.plan.settings["seed"], training.fold.number
            text = f"seed {seed}, fold {number}  epoch {row['epoch']}  "
            text += "tested  " * done + scores
            bar.set_postfix_str(text)
            if verbose == 2 and (done or row["epoch"] % LINE_EVERY == 0):
                print(text, flush=True)

        try:
            known = [(training, training.outcome()) for training in trainings]
            there = [pair for pair in known if pair[1] is not None]
            missing = [training for training, outcome in known if outcome is None]
            made = _outcomes(missing, device, fold_parallel == "auto", report)
            with contextlib.closing(made):
                for training, outcome in itertools.chain(there, made):
                    by_id[training.folders.run_id].add(training.fold, outcome)
                    bar.update()
                    last = outcome["history"][outcome["epoch"] - 1]
                    report(training, last, done=True)
        except BaseException as error:
            # Also where the user interrupts: nothing is running then.
            text, trace = f"{error}" or type(error).__name__, traceback.format_exc()
            for run in left:
                if run.document["status"] != "done":
                    run.write(status="failed", error=text, traceback=trace)
            raise
    return [run.folders for run in by_id.values()]


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
                fault = "does not match its name: settings or data differ"
                way = "set overwrite=True to retrain the run"
                raise ValueError(f"{folders.manifest} {fault}; {way}")
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
        files.write_json(self.folders.manifest, self.document)

    def add(self, fold: Fold, outcome: dict[str, Any]) -> None:
        """Note the outcome of a fold; complete the run if it was the last one."""
        self.outcomes[fold.number] = outcome
        (entry,) = (one for one in self.document["folds"] if one["fold"] == fold.number)
        entry |= {
            "attempt": entry["attempt"] or len(self.document["attempts"]),
            "epochs_run": len(outcome["history"]),
            "epoch_chosen": outcome["epoch"],
            "chosen_on": planning.chosen_on(self.plan.settings),
            "seconds": outcome["seconds"],
        }
        self.write()
        if len(self.outcomes) < len(self.plan.folds):
            return
        numbers = [fold.number for fold in self.plan.folds]
        outcomes = [self.outcomes[number] for number in numbers]
        saved = [self.folders.model(number) for number in numbers]
        self.write(
            parameters=outcome["parameters"],
            seconds=round(sum(outcome["seconds"] for outcome in outcomes), 3),
            **write_outcomes(self.folders, self.data, numbers, outcomes, saved),
        )


def new_manifest(run_id: str, plan: Plan, data: FeatureSet, device: Device) -> dict:
    """Return the manifest of a run that begins."""
    attempt = {"started": runs.now(), "code": runs.git_state()}
    attempt |= {"environment": runs.environment(), "device": device._asdict()}
    used = [row for fold in plan.folds for row in fold.parts()]
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
            "in_no_fold": len(data) - len(set().union(*used)),
            "audit": data.about.get("audit"),
            "versions": data.about.get("versions"),  # of what made the features
        },
        "attempts": [attempt],
        "folds": [_described(fold, data, plan.settings) for fold in plan.folds],
    }


def _described(fold: Fold, data: FeatureSet, settings: Mapping) -> dict[str, Any]:
    """Return who trains, validates and tests in a fold."""
    rows = {name: getattr(fold, name) for name in ("train", "validation", "test")}
    if settings.get("validation") == "refit":
        rows["train"] = protocols.trained_on_all(fold).train
    untrained = protocols.untrained_labels(fold, data.y)
    return {
        name: {"n": len(part), "speakers": np.unique(data.speaker[part]).tolist()}
        for name, part in rows.items()
    } | {
        "fold": fold.number,
        "attempt": None,
        "validation_is_test": fold.validation_is_test,
        "repeated": protocols.repeated_recordings(fold, data.content),
        "untrained": data.label_names[untrained].tolist(),
    }


def write_outcomes(
    folders: RunFolders, data: FeatureSet, numbers, outcomes: list[dict], saved=()
) -> dict[str, Any]:
    """Write embeddings and predictions; return what the manifest of a run gains."""
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
    text = table.to_csv(index=False, lineterminator="\n")
    files.write_text(folders.predictions, text)
    arrays = {"file": data.file[tested], "fold": fold, "z": embeddings.astype("f4")}
    files.write_npz(folders.embeddings, arrays)
    written = [folders.predictions, folders.embeddings, *saved]
    return {
        "status": "done",
        "finished": runs.now(),
        "metrics": metrics.pooled_and_folds(table),
        "artefacts": runs.artefacts(folders, written),
    }


def _outcomes(
    trainings: Sequence[FoldTraining], device: Device, at_once: bool, report: Report
) -> Iterator[tuple[FoldTraining, dict[str, Any]]]:
    """Yield folds and their outcomes, trained in the way that suits the backend."""
    if not trainings:
        return
    plan, data = trainings[0].plan, trainings[0].data
    if SYSTEMS[plan.settings["model"]].fit:
        for training in trainings:
            yield training, fit_fold(training, report)
        return
    # Of all folds, also of those that are done: the number of threads decides the last
    # bits of sums, and a run that was cut has to end as one that was not.
    sizes = [len(fold.train) for fold in plan.folds]
    if at_once and (count := processes(plan.settings, device, sizes)) > 1:
        pool, job = joblib.Parallel(count, return_as="generator"), _in_process
        here = max(1, joblib.cpu_count() // count), os.getpid()
        outcomes = pool(joblib.delayed(job)(one, *here) for one in trainings)
        yield from zip(trainings, outcomes, strict=True)
        return
    network = Network(plan.settings, data)
    # As one program where the clips are the same for all folds: neither altered in
    # every epoch, nor copies that the seed decides.
    seeds = {training.plan.settings["seed"] for training in trainings}
    differ = {"none": False, "waveform": len(seeds) > 1, "cepstrum": True}
    same = at_once and not differ[plan.settings["augmentation"]]
    together = same and keras.backend.backend() == "jax"
    for some in [trainings] if together else [[training] for training in trainings]:
        yield from zip(some, train_folds(network, some, report), strict=True)


def processes(settings: Mapping[str, Any], device: Device, sizes: Sequence[int]) -> int:
    """Return how many folds, of these sizes, to train at once; 1 if more do not pay."""
    steps = settings["epochs"] * sum(-(-n // settings["batch_size"]) for n in sizes)
    here = keras.backend.backend() == "tensorflow" and device.name == "cpu"
    many = here and steps >= LEAST_STEPS
    return min(len(sizes), joblib.cpu_count(), MOST_PROCESSES) if many else 1


_networks: dict[str, Network] = {}  # of a process, by run: compiled once for its folds


def _in_process(training: FoldTraining, threads: int, parent: int) -> dict[str, Any]:
    """Train a fold in a process of its own; return its outcome."""
    select("cpu", threads=threads)
    run_id = training.folders.run_id
    if run_id not in _networks:
        _networks.clear()
        _networks[run_id] = Network(training.plan.settings, training.data)

    def report(training: FoldTraining, row: Metrics) -> None:
        if os.getppid() != parent:  # which was killed, so that its lock is gone
            raise SystemExit

    return train_folds(_networks[run_id], [training], report)[0]
