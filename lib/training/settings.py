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


def resolve(cfg: config.Parameters, features: FeatureSet) -> dict[str, Any]:
    """Return everything that decides the result of a run, nothing left open.

    Args:
        cfg: The notebook's parameters.
        features: The features that are trained on.

    Returns:
        JSON values, in a fixed order; the run id is made from them.

    Raises:
        ValueError: If the model has no such option or no use for a given parameter,
            training is to stop early and nobody validates, or it is too short for
            the average of the weights.
    """
    folds = make_folds(cfg, features)
    require_use(cfg)
    if cfg.augmentation == "cepstrum" and features.x.shape[-2] == 1:
        raise ValueError(
            "augmentation 'cepstrum' alters coefficients along time, and these "
            "features have one frame a clip; leave it out"
        )
    if not SYSTEMS[cfg.model].fit:
        _require_validation(cfg)
        _require_time_to_stop(cfg)
        _require_many_steps(cfg, folds)
    return {
        "corpus": features.about["corpus"],
        "features": features.about["features"],
        "feature_settings": features.about["settings"],
        "clip_samples": features.about["clip_samples"],
        "data_sha256": features.about["data_sha256"],
        "model": cfg.model,
        "model_options": _model_options(cfg, features),
        "protocol": cfg.protocol_in_force,
        "folds": len(folds),
        "folds_sha256": config.digest([fold.parts() for fold in folds], length=64),
        "seed": cfg.seed,
        **_training_settings(cfg),
        "augmentation": cfg.augmentation,
        "augmentation_options": resolve_augmentation(cfg),
    }


def require_use(cfg: config.Parameters) -> None:
    """Raise ValueError for an option or parameter that the system has no use for."""
    own = models.options(cfg.model)
    for name in cfg.model_options:
        if name not in own:
            hint = config.did_you_mean(name, own)
            raise ValueError(f"model_options: {cfg.model} has no option '{name}'{hint}")
    if not SYSTEMS[cfg.model].fit:
        return
    default = config.Parameters()
    useless = [
        name
        for name in config.TRAINING
        if name in cfg.given and getattr(cfg, name) != getattr(default, name)
    ]
    if cfg.augmentation == "cepstrum":
        useless.append("augmentation 'cepstrum'")
    if useless:
        raise ValueError(
            f"{cfg.model} is fitted in one go, without epochs, and has no use for "
            f"{', '.join(useless)}; leave that out"
        )


def _require_validation(cfg: config.Parameters) -> None:
    """Raise ValueError if training is to stop early and nobody validates."""
    if cfg.early_stopping and PROTOCOLS[cfg.protocol_in_force].chosen_on == "last":
        others = [name for name, p in PROTOCOLS.items() if p.chosen_on == "validation"]
        raise ValueError(
            f"early_stopping {cfg.early_stopping}: protocol "
            f"'{cfg.protocol_in_force}' has no validation to stop on; set it to 0, "
            f"or choose one of {', '.join(others)}"
        )


def _require_time_to_stop(cfg: config.Parameters) -> None:
    """Raise ValueError if training ends before it could stop early."""
    if cfg.early_stopping >= cfg.epochs_in_force:
        raise ValueError(
            f"early_stopping {cfg.early_stopping} with {cfg.epochs_in_force} epochs "
            "can never stop anything; lower it, or set it to 0"
        )


def _require_many_steps(cfg: config.Parameters, folds: Sequence[Fold]) -> None:
    """Raise ValueError if the average of the weights would be that of a beginner.

    It begins with the weights of the first step, and forgets them with time: after
    three times as many steps as it averages, a twentieth of them is left.
    """
    if not cfg.weight_average:
        return
    fewest = min(-(-len(fold.train) // cfg.batch_size_in_force) for fold in folds)
    steps = cfg.epochs_in_force * fewest
    averaged = 1 / (1 - cfg.weight_average)
    if steps < 3 * averaged:
        raise ValueError(
            f"weight_average {cfg.weight_average} averages about {averaged:.0f} steps, "
            f"and a fold has {steps} of them in all, so that the first weights would "
            "not be forgotten; lower it or train longer"
        )


def _model_options(cfg: config.Parameters, features: FeatureSet) -> dict[str, Any]:
    """Return all options of the system: its own, the corpus's, then the user's."""
    own = models.options(cfg.model)
    if "dilations" in own:
        own |= {"dilations": features.about["dilations"]}
    return own | {
        name: config.as_default(own[name], value)
        for name, value in cfg.model_options.items()
    }


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
        "schedule_options": _schedule_options(cfg),
        "early_stopping": cfg.early_stopping,
        "weight_average": cfg.weight_average,
        "label_smoothing": cfg.label_smoothing,
        "loss": cfg.loss,
        "loss_options": losses.resolved_options(cfg.loss, cfg.loss_options),
    }
    return dict.fromkeys(settings) if SYSTEMS[cfg.model].fit else settings


def _schedule_options(cfg: config.Parameters) -> dict[str, Any]:
    """Return the options of the schedule, which has to change something.

    Raises:
        ValueError: For a wrong option, or a schedule without effect.
    """
    epochs = cfg.epochs_in_force
    options = schedules.resolved_options(cfg.schedule, cfg.schedule_options, epochs)
    # One that watches the loss has no effect if it waits until the end.
    idle = options.get("patience", 0) >= epochs
    if cfg.schedule in ("step", "exponential", "cosine"):
        share = schedules.SCHEDULES[cfg.schedule](**options)
        idle = all(share(epoch, []) == 1 for epoch in range(1, epochs + 1))
    if idle:
        raise ValueError(
            f"schedule '{cfg.schedule}' with {options} changes nothing in {epochs} "
            "epochs; change its options, or leave it out"
        )
    return options


def make_folds(cfg: config.Parameters, features: FeatureSet) -> list[Fold]:
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
        cfg.protocol_in_force,
        rows,
        folds=cfg.folds,
        seed=cfg.seed,
        corpus=features.about["corpus"],
    )
