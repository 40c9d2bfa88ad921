"""Everything that decides the result of a run, from the notebook's parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lib import config, losses, models, protocols
from lib.features import FeatureSet
from lib.protocols import PROTOCOLS, Fold, Rows
from lib.systems import SYSTEMS
from lib.training import schedules
from lib.training.clips import resolve_augmentation


def resolve(params: config.Parameters, features: FeatureSet) -> dict[str, Any]:
    """Return everything that decides the result of a run, nothing left open.

    Args:
        params: The notebook's parameters.
        features: The features that are trained on.

    Returns:
        JSON values, in a fixed order; the run id is made from them.

    Raises:
        ValueError: If the model has no such option or no use for a given parameter,
            training is to stop early and nobody validates, or it is too short for
            the average of the weights.
    """
    folds = make_folds(params, features)
    require_use(params)
    if params.augmentation == "cepstrum" and features.x.shape[-2] == 1:
        raise ValueError(
            "augmentation 'cepstrum' alters coefficients along time, and these "
            "features have one frame a clip; leave it out"
        )
    if not SYSTEMS[params.model].fit:
        _require_validation(params)
        _require_time_to_stop(params)
        _require_many_steps(params, folds)
    return {
        "corpus": features.about["corpus"],
        "features": features.about["features"],
        "feature_settings": features.about["settings"],
        "clip_samples": features.about["clip_samples"],
        "data_sha256": features.about["data_sha256"],
        "model": params.model,
        "model_options": _model_options(params, features),
        "protocol": params.protocol_in_force,
        "folds": len(folds),
        "folds_sha256": config.digest([fold.parts() for fold in folds], length=64),
        "seed": params.seed,
        **_training_settings(params),
        "augmentation": params.augmentation,
        "augmentation_options": resolve_augmentation(params),
    }


def require_use(params: config.Parameters) -> None:
    """Raise ValueError for an option or parameter that the system has no use for."""
    own = models.options(params.model)
    for name in params.model_options:
        if name not in own:
            hint = config.did_you_mean(name, own)
            raise ValueError(
                f"model_options: {params.model} has no option '{name}'{hint}"
            )
    if not SYSTEMS[params.model].fit:
        return
    default = config.Parameters()
    useless = [
        name
        for name in config.TRAINING
        if name in params.given and getattr(params, name) != getattr(default, name)
    ]
    if params.augmentation == "cepstrum":
        useless.append("augmentation 'cepstrum'")
    if useless:
        raise ValueError(
            f"{params.model} is fitted in one go, without epochs, and has no use for "
            f"{', '.join(useless)}; leave that out"
        )


def _require_validation(params: config.Parameters) -> None:
    """Raise ValueError if training is to stop early and nobody validates."""
    if (
        params.early_stopping
        and PROTOCOLS[params.protocol_in_force].chosen_on == "last"
    ):
        others = [name for name, p in PROTOCOLS.items() if p.chosen_on == "validation"]
        raise ValueError(
            f"early_stopping {params.early_stopping}: protocol "
            f"'{params.protocol_in_force}' has no validation to stop on; set it to 0, "
            f"or choose one of {', '.join(others)}"
        )


def _require_time_to_stop(params: config.Parameters) -> None:
    """Raise ValueError if training ends before it could stop early."""
    if params.early_stopping >= params.epochs_in_force:
        raise ValueError(
            f"early_stopping {params.early_stopping} with {params.epochs_in_force} epochs "  # noqa: E501
            "can never stop anything; lower it, or set it to 0"
        )


def _require_many_steps(params: config.Parameters, folds: Sequence[Fold]) -> None:
    """Raise ValueError if the average of the weights would be that of a beginner.

    It begins with the weights of the first step, and forgets them with time: after
    three times as many steps as it averages, a twentieth of them is left.
    """
    if not params.weight_average:
        return
    fewest = min(-(-len(fold.train) // params.batch_size_in_force) for fold in folds)
    steps = params.epochs_in_force * fewest
    averaged = 1 / (1 - params.weight_average)
    if steps < 3 * averaged:
        raise ValueError(
            f"weight_average {params.weight_average} averages about {averaged:.0f} steps, "  # noqa: E501
            f"and a fold has {steps} of them in all, so that the first weights would "
            "not be forgotten; lower it or train longer"
        )


def _model_options(params: config.Parameters, features: FeatureSet) -> dict[str, Any]:
    """Return all options of the system: its own, the corpus's, then the user's."""
    own = models.options(params.model)
    if "dilations" in own:
        own |= {"dilations": features.about["dilations"]}
    return own | {
        name: config.as_default(own[name], value)
        for name, value in params.model_options.items()
    }


def _training_settings(params: config.Parameters) -> dict[str, Any]:
    """Return what decides a training; nothing of it for a system without epochs."""
    settings = {
        "epochs": params.epochs_in_force,
        "batch_size": params.batch_size_in_force,
        "learning_rate": params.learning_rate,
        "beta_1": params.beta_1,
        "beta_2": params.beta_2,
        "epsilon": params.epsilon,
        "schedule": params.schedule,
        "schedule_options": _schedule_options(params),
        "early_stopping": params.early_stopping,
        "weight_average": params.weight_average,
        "label_smoothing": params.label_smoothing,
        "loss": params.loss,
        "loss_options": losses.resolved_options(params.loss, params.loss_options),
    }
    return dict.fromkeys(settings) if SYSTEMS[params.model].fit else settings


def _schedule_options(params: config.Parameters) -> dict[str, Any]:
    """Return the options of the schedule, which has to change something.

    Raises:
        ValueError: For a wrong option, or a schedule without effect.
    """
    epochs = params.epochs_in_force
    options = schedules.resolved_options(
        params.schedule, params.schedule_options, epochs
    )
    # One that watches the loss has no effect if it waits until the end.
    idle = options.get("patience", 0) >= epochs
    if params.schedule in ("step", "exponential", "cosine"):
        share = schedules.SCHEDULES[params.schedule](**options)
        idle = all(share(epoch, []) == 1 for epoch in range(1, epochs + 1))
    if idle:
        raise ValueError(
            f"schedule '{params.schedule}' with {options} changes nothing in {epochs} "
            "epochs; change its options, or leave it out"
        )
    return options


def make_folds(params: config.Parameters, features: FeatureSet) -> list[Fold]:
    """Return the folds that the parameters ask for."""
    rows = Rows(
        features.y,
        features.speaker,
        features.sex,
        features.text,
        features.content,
        features.label_names.tolist(),
    )
    return protocols.make_folds(
        params.protocol_in_force,
        rows,
        folds=params.folds,
        seed=params.seed,
        corpus=features.about["corpus"],
    )
