"""The commands that notebooks suggest make the run they promise."""

import shlex

import pytest
import yaml
from papermill.cli import _resolve_type

from lib import commands, config, protocols, training
from lib.device import select
from lib.features import front_end
from lib.features.frontend import preset_name
from lib.paths import find_workspace
from lib.runs import manifest


def parameters(command):
    """Return the parameters of a papermill command, as papermill reads them."""
    words = shlex.split(command)
    assert words[:5] == [
        *("papermill", "--cwd", "notebooks"),
        *("notebooks/02_train.ipynb", "Results/02_train.ipynb"),
    ]
    given, rest = {}, words[5:]
    while rest:
        if rest[0] == "-p":
            given[rest[1]], rest = _resolve_type(rest[2]), rest[3:]
        else:
            assert rest[0] == "-y"
            given, rest = given | yaml.safe_load(rest[1]), rest[2:]
    return given


def resolved(tiny, **given):
    cfg = config.validated({"corpus": "TINY", **given})
    return training.resolve(cfg, tiny, {})


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"epochs": 4, "model_options": {"dilations": 3, "dropout": 0.2}},
        {"protocol": "paper", "folds": 3, "learning_rate": 1e-05, "seed": 1},
        {"batch_size": 8, "label_smoothing": 0.0, "beta_2": 0.999},
    ],
)
def test_the_command_trains_the_same_but_for_the_change(tiny, tmp_path, given):
    workspace = find_workspace(str(tmp_path))
    settings = resolved(tiny, **given)
    said = commands.train_again({"config": settings}, workspace, seed=99)
    found = parameters(said)
    assert found.pop("workspace") == str(tmp_path.resolve())
    assert resolved(tiny, **found | {"corpus": "TINY"}) == settings | {"seed": 99}


def test_another_protocol_has_its_own_folds(tiny, tmp_path):
    workspace = find_workspace(str(tmp_path), str(tmp_path / "audio"))
    settings = resolved(tiny, folds=3, epochs=7)
    document = {"config": settings, "kind": "trained"}
    found = parameters(commands.another_protocol([document], workspace, "TINY"))
    assert found == {
        "corpus": "TINY",
        "protocol": "paper",
        "epochs": 7,
        "workspace": str(workspace.root),
        "datasets_dir": str(workspace.datasets),
        # A corpus that nobody knows suggests no number of blocks.
        "model_options": {"dilations": settings["model_options"]["dilations"]},
    }
    back = {"config": settings | {"protocol": "paper"}}
    found = parameters(commands.another_protocol([back], workspace, "TINY"))
    # Unseen speakers are the notebook's own protocol and need no mention.
    assert "protocol" not in found and "folds" not in found


def test_changed_features_are_named_by_what_was_changed(tmp_path):
    settings = {"hop_samples": 256}
    chosen = front_end("timnet_paper", settings)
    workspace = find_workspace(str(tmp_path))
    document = {
        "config": {
            "corpus": "DEMO",
            "features": preset_name("timnet_paper", settings),
            "feature_settings": vars(chosen),
            **{"model": "timnet", "model_options": {}, "protocol": "speaker"},
            **{"folds": protocols.OWN_SPEAKER_FOLDS["DEMO"], "seed": 46},
            **{"epochs": config.OWN_EPOCHS_DEMO},
            **{"batch_size": config.OWN_BATCH_SIZE_DEMO},
            **{"learning_rate": 0.001, "beta_1": 0.93, "beta_2": 0.98},
            **{"label_smoothing": 0.1, "loss": "cross_entropy"},
            "augmentation": "none",
        }
    }
    found = parameters(commands.train_again(document, workspace))
    assert found.pop("workspace")
    # All else is DEMO's own, so the command stays short.
    assert found == {
        "corpus": "DEMO",
        "features": "timnet_paper",
        "feature_options": settings,
    }


def test_the_next_seed_is_one_nobody_has_used(tiny, tmp_path):
    workspace = find_workspace(str(tmp_path))
    documents = [{"config": resolved(tiny, seed=seed)} for seed in (3, 8)]
    found = parameters(commands.another_seed(documents, workspace, "TINY"))
    assert found["seed"] == 9


def test_without_a_trained_run_the_plain_command_is_named(tmp_path):
    workspace = find_workspace(str(tmp_path))
    weights = {"kind": "official weights", "config": {}}
    for suggest in (commands.another_seed, commands.another_protocol):
        found = parameters(suggest([weights], workspace, "RAVDESS"))
        assert found == {"corpus": "RAVDESS", "workspace": str(workspace.root)}


def test_a_manifest_as_training_writes_it_is_understood(tiny, tmp_path):
    workspace = find_workspace(str(tmp_path))
    cfg = config.validated(
        {"corpus": "TINY", "epochs": 1, "folds": 2, "model_options": {"dilations": 1}}
    )
    folders = training.train(
        training.resolve(cfg, tiny, {}),
        tiny,
        training.make_folds(cfg, tiny),
        workspace,
        device=select("cpu"),
        verbose=0,
    )
    document = manifest.read(folders.manifest)
    found = parameters(commands.another_seed([document], workspace, "TINY"))
    assert (found["epochs"], found["folds"], found["seed"]) == (1, 2, 47)
    assert found["model_options"] == {"dilations": 1}
