"""The command that trains a run again with something changed."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping
from typing import Any

from lib import config, corpora, models, protocols
from lib.features.frontend import PRESETS
from lib.losses import LOSSES
from lib.paths import Workspace
from lib.runs.table import train_command
from lib.training.clips import resolve_augmentation
from lib.training.schedules import SCHEDULES

_PLAIN = ("learning_rate", "beta_1", "beta_2", "epsilon", "label_smoothing")
_CHOICES = {"loss": LOSSES, "schedule": SCHEDULES}  # each has options of its own


def train_again(
    document: Mapping[str, Any], workspace: Workspace, **changes: Any
) -> str:
    """Return the papermill command that trains a run with other parameters.

    Parameters that are the notebook's own anyway are left out.

    Args:
        document: The manifest of a trained run.
        workspace: The workspace of the run.
        **changes: Parameters to change, e.g. `seed=47`. With another protocol the
            number of folds is that protocol's own.
    """
    settings = document["config"]
    given = {name: settings[name] for name in ("corpus", "model", "protocol", "folds")}
    given |= {"seed": settings["seed"]} | _features(settings)
    given |= {"model_options": _model_options(settings, workspace)}
    given |= _training(settings)
    if "protocol" in changes:
        del given["folds"]
    given |= changes
    own = config.validated({"corpus": given["corpus"], "model": given["model"]})
    stays = _own_values(own, given["protocol"])
    kept = {
        name: value
        for name, value in given.items()
        if name == "corpus" or value != stays.get(name, getattr(own, name))
    }
    if workspace.datasets != workspace.root / "Datasets":
        kept["datasets_dir"] = str(workspace.datasets)
    return train_command(kept, workspace.results)


def _training(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a run was trained; what a system without epochs lacks is left out."""
    known = {name: settings.get(name) for name in ("epochs", "batch_size", *_PLAIN)}
    known = {name: value for name, value in known.items() if value is not None}
    for name, choices in _CHOICES.items():
        if choice := settings.get(name):
            known |= {name: choice}
            own = config.with_defaults(name, choices[choice], {})
            known |= _differing(f"{name}_options", settings, own)
    name = settings["augmentation"]
    own = resolve_augmentation(config.validated({"augmentation": name}))
    return (
        known
        | {"augmentation": name}
        | _differing("augmentation_options", settings, own)
    )


def _differing(
    name: str, settings: Mapping[str, Any], own: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the options that are not the own ones, under their parameter's name."""
    chosen = settings.get(name) or {}
    return {name: {key: chosen[key] for key in chosen if chosen[key] != own.get(key)}}


def another_seed(
    documents: Iterable[Mapping[str, Any]], workspace: Workspace, corpus: str
) -> str:
    """Return the command that trains the first trained run with the next seed.

    Args:
        documents: Manifests of runs, the most interesting one first.
        workspace: Their workspace.
        corpus: Corpus to train where no run was trained.
    """
    trained = _trained(documents)
    if not trained:
        return train_command({"corpus": corpus}, workspace.results)
    seed = 1 + max(document["config"]["seed"] for document in trained)
    return train_again(trained[0], workspace, seed=seed)


def another_protocol(
    documents: Iterable[Mapping[str, Any]], workspace: Workspace, corpus: str
) -> str:
    """Return the command that trains the first trained run under another protocol.

    That is random folds, or unseen speakers where the run has random folds.

    Args:
        documents: Manifests of runs, the most interesting one first.
        workspace: Their workspace.
        corpus: Corpus to train where no run was trained.
    """
    trained = _trained(documents)
    if not trained:
        return train_command({"corpus": corpus}, workspace.results)
    first = trained[0]
    other = "speaker" if first["config"]["protocol"] == "paper" else "paper"
    return train_again(first, workspace, protocol=other)


def _trained(documents: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [item for item in documents if item.get("kind", "trained") == "trained"]


def _own_values(own: config.Parameters, protocol: str) -> dict[str, Any]:
    """Return what a parameter that is not given stands for."""
    folds = protocols.PROTOCOLS[protocol].folds
    if protocol == "speaker":
        folds = protocols.OWN_SPEAKER_FOLDS.get(own.corpus, 0)
    return {
        "epochs": own.epochs_in_force,
        "batch_size": own.batch_size_in_force,
        "protocol": own.protocol_in_force,
        "features": own.feature_preset,
    } | ({"folds": folds} if folds else {})


def _features(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return preset and overridden values of a run's front end."""
    known = typing.get_args(config.Features)
    name = settings["features"]
    if name in known:
        return {"features": name}
    # Overridden values add a digest to the name of the preset.
    preset = name.rpartition("-")[0]
    options = {
        key: value
        for key, value in settings["feature_settings"].items()
        if value != getattr(PRESETS[preset], key)
    }
    return {"features": preset, "feature_options": options}


def _model_options(settings: Mapping[str, Any], workspace: Workspace) -> dict[str, Any]:
    """Return the options of a run that neither the model nor the corpus suggests."""
    own = models.options(settings["model"])
    try:
        corpus = corpora.get(settings["corpus"], workspace.datasets)
        if "dilations" in own:
            own = own | {"dilations": corpus.dilations}
    except ValueError:
        # A corpus that is gone suggests nothing: say all that could differ.
        own.pop("dilations", None)
    chosen = settings["model_options"]
    return {
        key: chosen[key] for key in chosen if key not in own or chosen[key] != own[key]
    }
