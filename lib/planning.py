"""From parameters to a plan: the settings that decide a run, its folds, its copies."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from lib import augment, config, features, losses, models, protocols
from lib.files import FeatureSet
from lib.models import SYSTEMS
from lib.protocols import PROTOCOLS, Fold


class Plan(NamedTuple):
    """A run to train; see `make_plan`."""

    settings: Mapping[str, Any]  # everything that decides the result
    folds: Sequence[Fold]
    copies: np.ndarray | None = None  # altered ones, (utterances, copies, frames, c)


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
    copies = augment.augmented_copies(params, corpus, data, transforms)
    if params.normalisation == "clip":
        copies = features.without_mean(copies)
    return Plan(settings, folds, copies)


def make_settings(
    params: config.Parameters, data: FeatureSet, folds: Sequence[Fold]
) -> dict[str, Any]:
    """Return the settings that decide a run; its seed only what `drawn` returns."""
    system = SYSTEMS[params.model]
    require_use(params, data)
    own = models.options(params.model)
    if "dilations" in own:
        own["dilations"] = data.about["dilations"]
    given = params.model_options.items()
    what, chosen = f"augmentation '{params.augmentation}'", params.augmentation_options
    options = config.with_defaults(what, AUGMENTATIONS[params.augmentation], chosen)
    settings = inputs(params, data, folds) | {
        "model_options": own
        | {name: config.as_default(own[name], value) for name, value in given},
        "normalisation": params.normalisation,
        "class_weights": params.class_weights,
        "validation": params.validation,
        "fold_file": PurePath(params.fold_file).name,
        **dict.fromkeys(config.TRAINING),
        "augmentation": params.augmentation,
        "augmentation_options": options,
    }
    if not system.fit:
        epochs, schedule = params.epochs_in_force, losses.SCHEDULES[params.schedule]
        # It ends with the training, unless told otherwise.
        end = {"epochs": epochs} if params.schedule == "cosine" else {}
        steps = f"schedule '{params.schedule}'", schedule, end | params.schedule_options
        loss = f"loss '{params.loss}'", losses.LOSSES[params.loss], params.loss_options
        settings |= {name: getattr(params, name) for name in config.TRAINING} | {
            "epochs": epochs,
            "batch_size": params.batch_size_in_force,
            "schedule_options": config.with_defaults(*steps),
            "loss_options": config.with_defaults(*loss),
        }
        _require_effect(settings, folds)
    return settings


def chosen_on(settings: Mapping[str, Any]) -> str:
    """Return what the tested epoch is chosen on, as `protocols.Protocol` names it."""
    none = settings["validation"] == "none" or settings["epochs"] is None
    return "last" if none else PROTOCOLS[settings["protocol"]].chosen_on


def drawn(folds: Sequence[Fold], seed: int) -> dict[str, Any]:
    """Return the settings of a run that follow from its seed."""
    digest = config.digest([fold.parts() for fold in folds], length=64)
    return {"folds": len(folds), "folds_sha256": digest, "seed": seed}


def under_paper(plan: Plan) -> Plan:
    """Return the plan of the same training under `paper`: its last epoch is tested."""
    alone = {"validation": np.empty(0, np.int64), "validation_is_test": False}
    folds = [dataclasses.replace(fold, **alone) for fold in plan.folds]
    of_seed = drawn(folds, plan.settings["seed"])
    return Plan({**plan.settings, "protocol": "paper"} | of_seed, folds, plan.copies)


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
    path = params.folders.datasets / params.fold_file  # or as seen from elsewhere
    path = path if params.fold_file and path.is_file() else params.fold_file
    own = {"validation": params.validation, "fold_file": str(path)}
    return protocols.make_folds(name, data, params.folds, params.seed, **own)


def require_use(params: config.Parameters, data: FeatureSet) -> None:
    """Raise ValueError for an option or parameter that could have no effect."""
    own, name = models.options(params.model), params.model
    for option in set(params.model_options) - set(own):
        hint = config.did_you_mean(option, own, "there are")
        raise ValueError(f"model_options: {name} has no option '{option}'{hint}")
    default = config.Parameters()
    given = [item for item in config.TRAINING if item in params.given]
    useless = [one for one in given if getattr(params, one) != getattr(default, one)]
    useless += ["augmentation 'cepstrum'"] * (params.augmentation == "cepstrum")
    # A baseline standardises what it takes from the clips over its training rows.
    useless += ["normalisation 'train'"] * (params.normalisation == "train")
    useless += ["validation 'refit'"] * (params.validation == "refit")
    weighted = params.class_weights != "none"
    useless += ["class_weights"] * (weighted and name == "majority")
    if SYSTEMS[name].fit and useless:
        fault = f"{name} is fitted in one go, without epochs, and has no use for "
        raise ValueError(f"{fault}{', '.join(useless)}; leave that out")
    how, altered = params.normalisation, params.augmentation
    one_frame, unknown = data.x.shape[-2] == 1, "" in data.speaker
    faults = [
        (altered == "cepstrum" and one_frame, "alters along time clips of one frame"),
        (how == "clip" and one_frame, "leaves nothing of clips of one frame"),
        (how == "speaker" and unknown, "needs the speakers of all clips"),
        (how == "speaker" and altered == "waveform", "does not go with 'waveform'"),
    ]
    for holds, fault in faults:
        if holds:
            what = "augmentation" if fault.startswith("alters") else "normalisation"
            raise ValueError(f"{what} '{getattr(params, what)}' {fault}; leave it out")


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
    if patience and chosen_on(settings) == "last":
        fault = f"early_stopping {patience}: '{protocol}' has no validation to stop on"
    elif patience >= epochs:
        fault = f"early_stopping {patience} can never stop anything in {epochs} epochs"
    elif name != "constant" and share(1, []) == share(epochs, stuck) == 1:
        fault = f"schedule '{name}' with {options} changes nothing in {epochs} epochs"
    elif name == "plateau" and settings["validation"] == "refit":
        fault = "schedule 'plateau' watches validation clips, and 'refit' has none"
    elif kept and steps < 3 * averaged:
        fault = f"weight_average {kept} averages {averaged:.0f} steps, and there are"
        fault += f" {steps} in all, so that the first weights would not be forgotten"
    else:
        return
    raise ValueError(f"{fault}; change one of them, or leave it out")


Cepstral = Annotated[Sequence[Literal[*augment.CEPSTRUM]], Field(min_length=1)]
Audible = Annotated[Sequence[Literal[*augment.WAVEFORM]], Field(min_length=1)]


@losses.checked
def _cepstrum(
    transforms: Cepstral = tuple(augment.CEPSTRUM),
    probability: Annotated[float, Field(gt=0, le=1)] = 0.5,
) -> None: ...


@losses.checked
def _waveform(transforms: Audible = tuple(augment.WAVEFORM)) -> None: ...


# Functions that have the options of each kind, and refuse wrong ones.
AUGMENTATIONS = {"cepstrum": _cepstrum, "waveform": _waveform, "none": lambda: None}
