"""Parameters are checked, and unknown ones are named."""

import subprocess
import sys

import pytest

from lib import config, files


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
        ({"verbose": True}, "'verbose': True.*0, 1 or 2"),
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


CELL = "corpus: str = 'DEMO'  # corpus\nepochs: int = 0  # epochs\nseed: int = 46"
TIMED = "get_ipython().run_cell_magic('time', '', {!r})"
CHECK = "params = config.from_notebook(globals())"


def read(*cells, **options):
    """Return what a notebook's check makes of the cells that were run before it."""
    history = {"In": ["", "import sys\nroot = '.'", *cells, CHECK]}
    # Variables do not count: by a second run, names may be anything.
    return config.from_notebook(history | {"corpus": object(), "hop": 0.1}, **options)


@pytest.mark.parametrize(
    ("cells", "values", "given"),
    [
        ([CELL], {"corpus": "DEMO", "epochs": 0}, set()),
        ([CELL.replace("0  #", "3  #")], {"epochs": 3}, {"epochs"}),
        ([CELL, "# Parameters\nepochs = 3\n"], {"epochs": 3}, {"epochs"}),
        ([CELL, "# Parameters\nseed = 46\n"], {"seed": 46}, {"seed"}),
        ([CELL, "epochs = 3"], {"epochs": 3}, {"epochs"}),
        ([CELL, "epochs = 3\nhop = 0.1"], {"epochs": 3}, {"epochs"}),
        ([CELL, CHECK, "hop = f(1)", "x = corpus"], {"corpus": "DEMO"}, set()),
        ([CELL.replace("0  #", "3  #"), CHECK, CELL, CHECK], {"epochs": 0}, set()),
        ([CELL.replace("0  #", "f(1)  #"), CHECK, CELL], {"epochs": 0}, set()),
        ([CELL, "seed = max(1, 2)", "seed = 47"], {"seed": 47}, {"seed"}),
        ([CELL, TIMED.format("seed: int = 47")], {"seed": 47}, {"seed"}),
        ([CELL, "# Parameters of a plot\nwidth = 8"], {"seed": 46}, set()),
        (["corpus = 'EMOVO'\nseed = 46"], {"corpus": "EMOVO"}, {"corpus"}),
        (['"""why"""\n' + CELL], {"epochs": 0}, set()),
    ],
    ids=str,
)
def test_parameters_come_from_the_cells_however_often_they_are_run(
    cells, values, given
):
    found = read(*cells)
    assert {name: getattr(found, name) for name in values} == values
    assert found.given == given


@pytest.mark.parametrize(
    "line",
    [
        "epochs: int = int('3')",
        "epochs: int = 2 * 3",
        "import os",
        "workspace: str = str(Path('x'))",
        "epochs, seed = 3, 4",
        "model_options: dict = {'a': (1, 2)}",
        "model_options: dict = dict(a=1)",
        "epochs: int = seed",
        "epochs: int",
        "epochs += 1",
        "print('x')",
        "if True:\n    epochs = 3",
        "model_options: dict = {'a': {1, 2}}",
        "device: str = b'cpu'",
    ],
)
def test_a_cell_of_parameters_that_cannot_be_read_is_an_error(line):
    with pytest.raises(ValueError, match="cannot be read") as error:
        read(f"{CELL}\n{line}")
    assert line.split("\n")[0].split(":")[0][:6] in str(error.value)


@pytest.mark.parametrize(
    "line",
    ["epochs = int('3')", "epochs, x = 3, 4", "seed += 1", "if x:\n    seed = 1"],
)
def test_a_parameter_that_another_cell_computes_is_an_error(line):
    with pytest.raises(ValueError, match="cannot be read"):
        read(CELL, line)


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_a_number_as_papermill_writes_it_is_told(number):
    cell = f"# Parameters\nlearning_rate = float('{number}')"
    with pytest.raises(ValueError, match=f"'learning_rate': {number}"):
        read(CELL + "\nlearning_rate: float = 0.1", cell)


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


@pytest.mark.parametrize(
    "changed", [{"seed": 47}, {"model_options": {"filters": 5}}, {"corpus": "EMOVO"}]
)
def test_a_variable_that_no_cell_explains_is_an_error(changed):
    """`seed` of a loop, `model_options["filters"] = 5`, or a walrus."""
    cell = CELL + "\nmodel_options: dict = {}"
    ((name, value),) = changed.items()
    with pytest.raises(ValueError, match=f"the variable {name} is .*but the cells say"):
        config.from_notebook({"In": [cell, CHECK]} | changed)


def test_without_the_cell_of_parameters_nothing_is_assumed():
    with pytest.raises(ValueError, match="run the cell of parameters first"):
        read("hop = 0.1")


def test_the_paper_follows_the_official_hyper_parameters():
    params = config.validated({"corpus": "RAVDESS", "protocol": "paper"})
    assert params.epochs_in_force == 500
    assert (params.batch_size_in_force, params.learning_rate) == (64, 1e-3)
    assert (params.beta_1, params.beta_2, params.label_smoothing) == (0.93, 0.98, 0.1)


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
        "import sys; import lib.config, lib.corpora, lib.metrics, lib.runs; "
        "heavy = {'tensorflow', 'keras', 'jax', 'librosa'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=files.REPOSITORY, check=True)
