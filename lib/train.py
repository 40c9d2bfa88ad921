"""Train all folds of a run, go on after a cut, and record what was done."""

import contextlib
import itertools
import json
import os
import shutil
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import joblib
import keras
import numpy as np
from pydantic import Field
from tqdm.auto import tqdm

from lib import augment, config, files, losses, metrics, models, protocols, runs
from lib.device import Device, select
from lib.files import FeatureSet
from lib.fold import FoldTraining, Metrics, Network, Plan, Report, fit_fold, train_folds
from lib.models import SYSTEMS
from lib.protocols import PROTOCOLS, Fold
from lib.runs import RunFolders

LINE_EVERY = 25  # epochs between two plain lines
# A process imports TensorFlow and traces its network, which takes some hundred steps.
LEAST_STEPS, MOST_PROCESSES = 600, 8


def make_plan(params: config.Parameters, data: FeatureSet, corpus: Any = None) -> Plan:
    """Return the settings that decide the result of a run, its folds, altered copies.

    `corpus` is needed where augmentation alters the audio. ValueError for parameters
    that are unknown or could have no effect.
    """
    folds = make_folds(params, data)
    settings = make_settings(params, data, folds)
    if params.augmentation != "waveform":
        return Plan(settings, folds)
    transforms = settings["augmentation_options"]["transforms"]
    return Plan(
        settings, folds, augment.augmented_copies(params, corpus, data, transforms)
    )


def make_settings(
    params: config.Parameters, data: FeatureSet, folds: Sequence[Fold]
) -> dict[str, Any]:
    """Return the settings that decide the result of a run; `make_plan` has the errors.

    Of runs that differ in the seed alone, only what `drawn` returns is different.
    """
    system = SYSTEMS[params.model]
    require_use(params)
    own = models.options(params.model)
    if "dilations" in own:
        own["dilations"] = data.about["dilations"]
    given = params.model_options.items()
    what, chosen = f"augmentation '{params.augmentation}'", params.augmentation_options
    options = config.with_defaults(what, AUGMENTATIONS[params.augmentation], chosen)
    settings = inputs(params, data, folds) | {
        "model_options": own
        | {name: config.as_default(own[name], value) for name, value in given},
        **dict.fromkeys(config.TRAINING),
        "augmentation": params.augmentation,
        "augmentation_options": options,
    }
    if not system.fit:
        epochs = params.epochs_in_force
        settings |= {name: getattr(params, name) for name in config.TRAINING} | {
            "epochs": epochs,
            "batch_size": params.batch_size_in_force,
            "schedule_options": losses.resolved(
                "schedule", params.schedule, params.schedule_options, epochs
            ),
            "loss_options": losses.resolved("loss", params.loss, params.loss_options),
        }
        _require_effect(settings, folds)
    if params.augmentation == "cepstrum" and data.x.shape[-2] == 1:
        raise ValueError(
            "augmentation 'cepstrum' alters coefficients along time, and these "
            "features have one frame a clip; leave it out"
        )
    return settings


def drawn(folds: Sequence[Fold], seed: int) -> dict[str, Any]:
    """Return the settings of a run that follow from its seed."""
    digest = config.digest([fold.parts() for fold in folds], length=64)
    return {"folds": len(folds), "folds_sha256": digest, "seed": seed}


def inputs(
    params: config.Parameters, data: FeatureSet, folds: Sequence[Fold]
) -> dict[str, Any]:
    """Return what a run is trained and tested on, which is a part of its settings."""
    return {
        "corpus": data.about["corpus"],
        "features": data.about["features"],
        "feature_settings": data.about["settings"],
        "clip_samples": data.about["clip_samples"],
        "data_sha256": data.about["data_sha256"],
        "model": params.model,
        "protocol": params.protocol_in_force,
    } | drawn(folds, params.seed)


def make_folds(params: config.Parameters, data: FeatureSet) -> list[Fold]:
    """Return the folds that the parameters ask for."""
    name = params.protocol_in_force
    return protocols.make_folds(name, data, params.folds, params.seed)


def require_use(params: config.Parameters) -> None:
    """Raise ValueError for an option or parameter that the system has no use for."""
    own, name = models.options(params.model), params.model
    for option in set(params.model_options) - set(own):
        hint = config.did_you_mean(option, own)
        raise ValueError(f"model_options: {name} has no option '{option}'{hint}")
    default = config.Parameters()
    given = [item for item in config.TRAINING if item in params.given]
    useless = [one for one in given if getattr(params, one) != getattr(default, one)]
    useless += ["augmentation 'cepstrum'"] * (params.augmentation == "cepstrum")
    if SYSTEMS[name].fit and useless:
        raise ValueError(
            f"{name} is fitted in one go, without epochs, and has no use for "
            f"{', '.join(useless)}; leave that out"
        )


def _require_effect(settings: Mapping[str, Any], folds: Sequence[Fold]) -> None:
    """Raise ValueError for a setting of training that could change nothing."""
    epochs, patience = settings["epochs"], settings["early_stopping"]
    name, options = settings["schedule"], settings["schedule_options"]
    share, stuck = losses.SCHEDULES[name](**options), [{"loss": 1.0}] * (epochs - 1)
    # The EMA begins with the weights of the first step; after three times as many steps
    # as it averages, a twentieth of them is left.
    kept, fewest = settings["weight_average"], min(len(fold.train) for fold in folds)
    steps, averaged = epochs * -(-fewest // settings["batch_size"]), 1 / (1 - kept)
    protocol = settings["protocol"]
    if patience and PROTOCOLS[protocol].chosen_on == "last":
        fault = f"early_stopping {patience}: '{protocol}' has no validation to stop on"
    elif patience >= epochs:
        fault = f"early_stopping {patience} can never stop anything in {epochs} epochs"
    elif name != "constant" and share(1, []) == share(epochs, stuck) == 1:
        fault = f"schedule '{name}' with {options} changes nothing in {epochs} epochs"
    elif kept and steps < 3 * averaged:
        fault = f"weight_average {kept} averages {averaged:.0f} steps, and there are"
        fault += f" {steps} in all, so that the first weights would not be forgotten"
    else:
        return
    raise ValueError(f"{fault}; change one of them, or leave it out")


@losses.checked
def _cepstrum(
    transforms: Any = tuple(augment.CEPSTRUM),
    probability: Annotated[float, Field(gt=0, le=1)] = 0.5,
) -> None:
    augment.require_known(transforms, augment.CEPSTRUM)


def _waveform(transforms: Any = tuple(augment.WAVEFORM)) -> None:
    augment.require_known(transforms, augment.WAVEFORM)


# Functions that have the options of each kind, and refuse wrong ones.
AUGMENTATIONS = {"cepstrum": _cepstrum, "waveform": _waveform, "none": lambda: None}


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
    with contextlib.ExitStack() as stack:
        by_id = {}
        for plan in plans:
            folders = RunFolders(workspace, config.make_run_id(plan.settings))
            stack.enter_context(runs.only_one(folders))
            by_id[folders.run_id] = _Run(plan, data, folders, device, overwrite)
        left = [run for run in by_id.values() if run.document["status"] != "done"]
        trainings = [
            FoldTraining(run.plan, data, fold, run.folders)
            for run in left
            for fold in run.plan.folds
        ]
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
        files.write_json(self.folders.manifest, self.document)

    def add(self, fold: Fold, outcome: dict[str, Any]) -> None:
        """Note the outcome of a fold; complete the run if it was the last one."""
        self.outcomes[fold.number] = outcome
        (entry,) = (one for one in self.document["folds"] if one["fold"] == fold.number)
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
        "folds": [_described(fold, data) for fold in plan.folds],
    }


def _described(fold: Fold, data: FeatureSet) -> dict[str, Any]:
    """Return who trains, validates and tests in a fold."""
    rows = {name: getattr(fold, name) for name in ("train", "validation", "test")}
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
    runs.write_predictions(folders.predictions, table)
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
    for training in trainings:
        seed = training.plan.settings["seed"]
        training.untrained = network.draw(seed, training.fold.number)
    # As one program where the clips are the same for all folds: neither altered in
    # every epoch, nor copies that the seed decides.
    seeds = {training.plan.settings["seed"] for training in trainings}
    same = plan.settings["augmentation"] == "none" or plan.copies is not None
    same &= plan.copies is None or len(seeds) == 1
    together = at_once and same and keras.backend.backend() == "jax"
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
    seed, network = training.plan.settings["seed"], _networks[run_id]
    training.untrained = network.draw(seed, training.fold.number)

    def report(training: FoldTraining, row: Metrics) -> None:
        if os.getppid() != parent:  # which was killed, so that its lock is gone
            raise SystemExit

    return train_folds(network, [training], report)[0]
