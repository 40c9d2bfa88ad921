"""Parameters are checked, and unknown ones are named."""

import subprocess
import sys

import pytest

from lib import config, files


def test_a_wrong_value_is_named_with_what_is_allowed():
    for given, message in (
        ({"epoch_typo": 3}, "unknown parameter 'epoch_typo' – did you mean 'epochs'"),
        ({"xyz": 3}, "parameter 'xyz'; there are corpus, .*, learning_rate, "),
        ({"epochs": "ten"}, "epochs is 'ten'.*integer"),
        ({"epochs": True}, "epochs is True.*integer"),
        ({"protocol": "spaeker"}, "'spaeker'.*'paper'.*did you mean 'speaker'"),
        ({"corpus": 12}, "corpus is 12.*-r"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"epochs": "x", "folds": -1}, "folds is -1.*\n.*epochs is 'x'"),
        ({"official_features": "x.npy", "features": "cktim"}, "leave features"),
    ):
        with pytest.raises(ValueError, match=message):
            config.validated(given)


CELL = "corpus: str = 'DEMO'  # corpus\nepochs: int = 0  # epochs\nseed: int = 46"
CHECK = "params = config.from_notebook(globals())"


def read(*cells, **options):
    """Return what a notebook's check makes of the cells that were run before it."""
    history = {"In": ["", "import sys\nroot = '.'", *cells, CHECK]}
    # Variables do not count: by a second run, names may be those of modules.
    return config.from_notebook(history | {"corpus": object(), "hop": 0.1}, **options)


def test_parameters_come_from_the_cells_however_often_they_are_run():
    for cells, values, given in (
        ([CELL], {"corpus": "DEMO", "epochs": 0}, set()),
        ([CELL.replace("0  #", "3  #")], {"epochs": 3}, {"epochs"}),
        ([CELL, "# Parameters\nseed = 46\n"], {"seed": 46}, {"seed"}),
        ([CELL, CHECK, "hop = f(1)", "x = corpus", "x +"], {"corpus": "DEMO"}, set()),
        ([CELL.replace("0  #", "3  #"), CHECK, CELL, CHECK], {"epochs": 0}, set()),
        ([CELL, "# Parameters\nepochs = 3\n", CHECK, CELL], {"epochs": 0}, set()),
    ):
        found = read(*cells)
        assert {name: getattr(found, name) for name in values} == values
        assert found.given == given


def test_a_cell_of_parameters_that_holds_no_plain_values_is_an_error():
    wrong = "epochs: int = int('3')|import os|options: dict = {'a': (1, 2)}|epochs += 1"
    for line in wrong.split("|"):
        for cells in ([f"{CELL}\n{line}"], [CELL, f"# Parameters\n{line}"]):
            with pytest.raises(ValueError, match="with a plain value") as error:
                read(*cells)
            assert line[:6] in str(error.value)


def test_names_that_a_notebook_has_no_use_for_are_refused():
    for cell in ("# Parameters\nepoch_typo = 5\n", CELL + "\nepoch_typo: int = 5"):
        with pytest.raises(ValueError, match="epoch_typo.*did you mean 'epochs'"):
            read(CELL, cell)
    with pytest.raises(ValueError, match="no use for model_options; it takes corpus"):
        read(CELL, "# Parameters\nmodel_options = {'a': 1}")
    chosen = read(CELL, "# Parameters\nmodel_options = {'a': 1}", selects_a_run=True)
    assert chosen.given == {"model_options"}
    with pytest.raises(ValueError, match="no use for fold_parallel"):
        read(CELL, "# Parameters\nfold_parallel = 'off'", selects_a_run=True)


def test_without_a_cell_that_explains_a_variable_nothing_is_assumed():
    with pytest.raises(ValueError, match="run the cell of parameters first"):
        read("hop = 0.1")
    with pytest.raises(ValueError, match="variable seed is 47, but the cells say 46"):
        config.from_notebook({"In": [CELL, "seed = 47", CHECK], "seed": 47})


def test_a_run_id_depends_on_every_value_and_on_no_order():
    first = {"corpus": "A", "model": "m", "protocol": "paper", "seed": 1, "epochs": 3}
    run_id = config.make_run_id(first)
    assert run_id.startswith("A-m-paper-s1-")
    assert config.make_run_id(dict(reversed(first.items()))) == run_id
    assert run_id not in [config.make_run_id(first | {name: 7}) for name in first]


def test_light_rooms_import_no_tensorflow_and_training_nothing_that_reads_audio():
    code = """
import sys
sys.modules |= dict.fromkeys(("librosa", "soxr", "soundfile", "natsort"))
import lib.config, lib.corpora, lib.metrics, lib.runs
heavy = {"tensorflow", "keras", "jax"} & set(sys.modules)
assert not heavy, heavy
import lib.augment, lib.features, lib.fold, lib.official, lib.train
"""
    subprocess.run([sys.executable, "-c", code], cwd=files.REPOSITORY, check=True)
