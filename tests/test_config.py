"""Parameters are checked, and unknown ones are named."""

import subprocess
import sys

import pytest

from lib import config, paths


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epoch_typo": 3}, "unknown parameter 'epoch_typo' – did you mean 'epochs'"),
        ({"lerning_rate": 0.1}, "did you mean 'learning_rate'"),
        ({"epochs": "ten"}, "'epochs': 'ten'.*integer"),
        ({"epochs": 2.5}, "'epochs': 2.5.*integer"),
        ({"folds": -1}, "'folds': -1.*greater than or equal to 0"),
        ({"overwrite": 1}, "'overwrite': 1.*boolean"),
        ({"epochs": True}, "'epochs': True.*integer"),
        ({"protocol": "spaeker"}, "'spaeker'.*'paper'.*did you mean 'speaker'"),
        ({"corpus": 12}, "'corpus': 12.*-r"),
        ({"corpus": "../x"}, "'corpus': '../x'"),
        ({"label_smoothing": 1.0}, "'label_smoothing': 1.0.*less than 1"),
        ({"learning_rate": float("nan")}, "'learning_rate': nan"),
        ({"model_options": [1]}, "'model_options'.*dictionary"),
        ({"verbose": 3}, "'verbose': 3.*0, 1 or 2"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(given, message):
    with pytest.raises(ValueError, match=message):
        config.validated(given)


def test_all_faults_are_told_at_once():
    with pytest.raises(ValueError) as caught:
        config.validated({"epochs": "x", "folds": -1, "sead": 3})
    assert len(str(caught.value).splitlines()) == 3


def test_whole_numbers_pass_for_real_ones():
    assert config.validated({"label_smoothing": 0}).label_smoothing == 0.0


def test_variables_of_later_cells_are_not_taken_for_parameters():
    cells = [
        "",
        "import sys\nroot = '.'",
        "corpus: str = 'EMOVO'  # corpus\nepochs: int = 3  # epochs",
        "cfg = config.from_notebook(globals())",
        "hop = 0.1",
    ]
    namespace = {"In": cells, "root": ".", "corpus": "EMOVO", "epochs": 3, "hop": 0.1}
    assert config.from_notebook(namespace).epochs == 3


def test_an_unknown_name_injected_by_papermill_is_an_error():
    cells = ["", "epochs: int = 3  # epochs", "# Parameters\nepoch_typo = 5\n"]
    namespace = {"In": cells, "epochs": 3, "epoch_typo": 5}
    with pytest.raises(ValueError, match="epoch_typo.*did you mean 'epochs'"):
        config.from_notebook(namespace)


def test_the_paper_follows_the_official_hyper_parameters():
    cfg = config.validated({"corpus": "RAVDESS", "protocol": "paper"})
    assert cfg.epochs_in_force == 500
    assert (cfg.batch_size_in_force, cfg.learning_rate) == (64, 1e-3)
    assert (cfg.beta_1, cfg.beta_2, cfg.label_smoothing) == (0.93, 0.98, 0.1)


def test_a_run_id_depends_on_every_value_and_on_no_order():
    first = {"corpus": "A", "model": "m", "protocol": "paper", "seed": 1, "epochs": 3}
    again = dict(reversed(first.items()))
    assert config.make_run_id(first) == config.make_run_id(again)
    assert config.make_run_id(first).startswith("A-m-paper-s1-")
    for name in first:
        changed = first | {name: 7}
        assert config.make_run_id(changed) != config.make_run_id(first)


def test_light_rooms_do_not_import_tensorflow():
    code = (
        "import sys; from lib import config, corpora, metrics, paths, protocols, runs, "
        "features; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=paths.REPOSITORY, check=True)
