"""Everything that decides the result of a run, from the notebook's parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field

from lib import augment, config, losses, models, protocols, schedules
from lib.features import FeatureSet
from lib.models import SYSTEMS
from lib.protocols import PROTOCOLS, Fold


class Augmentation(NamedTuple):
    """How the training clips are altered."""

    copies: np.ndarray | None = None  # (utterances, copies, frames, coefficients)
    cepstrum: Mapping[str, Any] | None = None  # for augment_cepstra, in every epoch


NO_AUGMENTATION = Augmentation()


class Plan(NamedTuple):
    """A run to train: what `resolve`, `make_folds`, `prepare_augmentation` returned."""

    settings: Mapping[str, Any]
    folds: Sequence[Fold]
    augmentation: Augmentation = NO_AUGMENTATION


def resolve(params: config.Parameters, data: FeatureSet) -> dict[str, Any]:
    """Return everything that decides the result of a run, which its id is made from.

    ValueError for what is unknown or could have no effect.
    """
    folds = make_folds(params, data)
    require_use(params)
    own = models.options(params.model)
    if "dilations" in own:
        own["dilations"] = data.about["dilations"]
    given = params.model_options.items()
    settings = inputs(params, data, folds) | {
        "model_options": own | {k: config.as_default(own[k], v) for k, v in given},
        **dict.fromkeys(config.TRAINING),
        "augmentation": params.augmentation,
        "augmentation_options": _augmentation_options(params),
    }
    if not SYSTEMS[params.model].fit:
        epochs = params.epochs_in_force
        settings |= {name: getattr(params, name) for name in config.TRAINING}
        settings |= {
            "epochs": epochs,
            "batch_size": params.batch_size_in_force,
            "schedule_options": schedules.resolved_options(
                params.schedule, params.schedule_options, epochs
            ),
            "loss_options": losses.resolved_options(params.loss, params.loss_options),
        }
        _require_effect(settings, folds)
    if params.augmentation == "cepstrum" and data.x.shape[-2] == 1:
        raise ValueError(
            "augmentation 'cepstrum' alters coefficients along time, and these "
            "features have one frame a clip; leave it out"
        )
    return settings


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
        "folds": len(folds),
        "folds_sha256": config.digest([fold.parts() for fold in folds], length=64),
        "seed": params.seed,
    }


def make_folds(params: config.Parameters, data: FeatureSet) -> list[Fold]:
    """Return the folds that the parameters ask for."""
    columns = (data.y, data.speaker, data.sex, data.text, data.content)
    return protocols.make_folds(
        params.protocol_in_force,
        protocols.Rows(*columns, data.label_names.tolist()),
        folds=params.folds,
        seed=params.seed,
        corpus=data.about["corpus"],
    )


def require_use(params: config.Parameters) -> None:
    """Raise ValueError for an option or parameter that the system has no use for."""
    own, name = models.options(params.model), params.model
    for option in set(params.model_options) - set(own):
        hint = config.did_you_mean(option, own)
        raise ValueError(f"model_options: {name} has no option '{option}'{hint}")
    default = config.Parameters()
    given = [item for item in config.TRAINING if item in params.given]
    useless = [i for i in given if getattr(params, i) != getattr(default, i)]
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
    share, stuck = schedules.SCHEDULES[name](**options), [{"loss": 1.0}] * epochs
    # The EMA begins with the weights of the first step; after three times as many steps
    # as it averages, a twentieth of them is left.
    kept, fewest = settings["weight_average"], min(len(fold.train) for fold in folds)
    steps, averaged = epochs * -(-fewest // settings["batch_size"]), 1 / (1 - kept)
    protocol = settings["protocol"]
    if patience and PROTOCOLS[protocol].chosen_on == "last":
        fault = f"early_stopping {patience}: '{protocol}' has no validation to stop on"
    elif patience >= epochs:
        fault = f"early_stopping {patience} can never stop anything in {epochs} epochs"
    elif name != "constant" and share(1, []) == share(epochs, stuck[1:]) == 1:
        fault = f"schedule '{name}' with {options} changes nothing in {epochs} epochs"
    elif kept and steps < 3 * averaged:
        fault = f"weight_average {kept} averages {averaged:.0f} steps, and there are"
        fault += f" {steps} in all, so that the first weights would not be forgotten"
    else:
        return
    raise ValueError(f"{fault}; change one of them, or leave it out")


@schedules.checked
def _cepstrum(
    transforms: Any = tuple(augment.CEPSTRUM),
    probability: Annotated[float, Field(gt=0, le=1)] = 0.5,
) -> None:
    augment.require_known(transforms, augment.CEPSTRUM)


def _waveform(transforms: Any = tuple(augment.WAVEFORM)) -> None:
    augment.require_known(transforms, augment.WAVEFORM)


def _augmentation_options(params: config.Parameters) -> dict[str, Any]:
    functions = {"cepstrum": _cepstrum, "waveform": _waveform, "none": lambda: None}
    name = params.augmentation
    what, chosen = f"augmentation '{name}'", params.augmentation_options
    return config.with_defaults(what, functions[name], chosen)


def prepare_augmentation(
    params: config.Parameters, corpus: Any, data: FeatureSet
) -> Augmentation:
    """Return how the training clips are altered; computes the copies of waveforms."""
    options = _augmentation_options(params)
    if params.augmentation != "waveform":
        return Augmentation(cepstrum=options or None)
    copies = augment.augmented_copies(params, corpus, data, options["transforms"])
    return Augmentation(copies)
