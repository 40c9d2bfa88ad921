"""The recipes aim at what was published, and run as it was published."""

import csv
import functools
import json
import math
import re

import nbformat
import pytest
import yaml
from conftest import tiny_features
from papermill.iorw import read_yaml_file

from lib import augment, config, corpora, features, losses, models, training
from lib.files import REPOSITORY
from lib.protocols import PROTOCOLS
from lib.runs.published import load_published
from lib.systems import SYSTEMS
from lib.tools import experiments, recipes
from lib.training import schedules

FACTS = REPOSITORY.parent / "shared" / "reference" / "systems.md"
FOLDER = REPOSITORY / "notebooks" / "recipes"
EVERY = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.yaml"))
OWN = [file for file in EVERY if file.startswith("workbook/")]
FILES = [file for file in EVERY if file not in OWN]  # what was published
SIX = ("CASIA", "EMODB", "EMOVO", "IEMOCAP", "RAVDESS", "SAVEE")


@functools.cache
def parameters(file):
    return yaml.safe_load((FOLDER / file).read_text("utf-8"))


@functools.cache
def header(file):
    """Return the remarks at the top of a recipe by their first word."""
    remarks, name = {}, ""
    for line in (FOLDER / file).read_text("utf-8").splitlines():
        if not line.startswith("#"):
            break
        if line.startswith("#   "):
            remarks[name][-1] += " " + line[4:]
            continue
        name, _, remark = line[2:].partition(": ")
        remarks.setdefault(name, []).append(remark)
    return remarks


@functools.cache
def csv_rows():
    """Return published.csv as it stands, without the code that reads it."""
    with (REPOSITORY / "lib/data/published.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def scores(row):
    names = {"uar": "UAR", "war": "WAR", "macro_f1": "macro F1"}
    return ", ".join(f"{names[name]} {row[name]} %" for name in names if row[name])


def aimed_at(file):
    """Return the rows of published.csv that fit what a recipe's header says."""
    said, given = header(file), parameters(file)
    return [
        number
        for number, row in enumerate(csv_rows())
        if said["Published"][0].split("; ")[0] == scores(row)
        and said["Source"] == [row["source"] + "."]
        and given["corpus"] == row["corpus"]
        and given["protocol"] == row["protocol"]
    ]


def built(file):
    """Return the network of a recipe."""
    given = parameters(file)
    front_end = features.front_end(given["features"], given.get("feature_options"))
    return models.build_model(
        given["model"],
        (None, front_end.coefficients),
        len(corpora.get(given["corpus"]).labels),
        **given["model_options"],
    )


def facts():
    if not FACTS.is_file():
        pytest.skip(f"the reference text is not there: {FACTS}")
    return FACTS.read_text(encoding="utf-8")


def test_files_are_what_the_table_of_experiments_makes():
    made = recipes.contents()
    assert not recipes.stale(made)
    for path, text in made.items():
        assert path.read_text("utf-8") == text, f"{path.name}: run `make recipes`"


@pytest.mark.parametrize("file", OWN)
def test_the_workbooks_own_recipes_forget_their_first_weights_even_on_few_clips(file):
    # Some 50 clips train. Too slow an average is refused, whatever the corpus.
    data = tiny_features(clips=72)
    params = config.validated(parameters(file) | {"corpus": "EMOVO"})
    steps = training.resolve(params, data)["epochs"] * min(
        math.ceil(len(fold.train) / params.batch_size_in_force)
        for fold in training.make_folds(params, data)
    )
    assert params.weight_average**steps < 0.05


@pytest.mark.parametrize("file", OWN)
def test_the_workbooks_own_recipes_run_on_any_corpus_in_a_fifth_of_the_epochs(file):
    given = parameters(file)
    assert "corpus" not in given and "protocol" not in given
    for corpus in ("EMOVO", "RAVDESS"):
        params = config.validated(given | {"corpus": corpus})
        published = config.validated({"corpus": corpus, "model": given["model"]})
        assert params.protocol_in_force == "speaker"
        assert params.epochs_in_force <= published.epochs_in_force / 5
    schedules.resolved_options(
        params.schedule, params.schedule_options, params.epochs_in_force
    )
    assert "notebooks/recipes/" + file in (FOLDER / file).read_text("utf-8")


def test_a_recipe_that_nothing_makes_is_stale(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "FOLDER", tmp_path)
    (tmp_path / "old").mkdir()
    old, new = tmp_path / "old" / "one.yaml", tmp_path / "new.yaml"
    old.touch()
    new.touch()
    assert recipes.stale([new]) == [old]


@pytest.mark.parametrize("file", FILES)
def test_the_number_at_the_top_is_the_published_one(file):
    rows = [csv_rows()[number] for number in aimed_at(file)]
    assert rows, header(file)["Published"]
    row, given = rows[0], parameters(file)
    assert PROTOCOLS[given["protocol"]].chosen_on == row["epoch_choice"]
    for name in ("folds", "seed", "epochs"):
        assert name in given
        if row[name]:
            assert given[name] == int(row[name])
        else:
            assert name in header(file)["Not stated"][0]
            assert header(file)["Chosen here"]
    assert given["features"] == row["features"]
    flat = given | given["model_options"]
    for name, value in json.loads(row["settings"] or "{}").items():
        assert flat[name] == value
    if row["epoch_choice"] == "test":
        assert "test-selected" in header(file)["Known"][0]


def test_every_published_number_has_one_recipe_or_a_reason():
    made, left_out = experiments.load()
    reasons = [number for entry in left_out for number in entry.rows.index]
    assert all(len(entry.why) > 20 for entry in left_out)
    aims = {file: aimed_at(file) for file in FILES}
    # Nothing is aimed at twice, and what is not aimed at has a reason.
    assert len({number for rows in aims.values() for number in rows}) == len(FILES)
    certain = {rows[0] for rows in aims.values() if len(rows) == 1}
    assert not certain & set(reasons)
    assert len(FILES) + len(set(reasons)) == len(csv_rows())
    assert len(reasons) == len(set(reasons))


def test_every_cell_of_the_tables_has_its_file():
    names = ["", "_best", "_tcn", "_no_bd", "_no_ms", "_no_df", "_phase_1"]
    wanted = {f"timnet/{corpus.lower()}{name}.yaml" for corpus in SIX for name in names}
    for system in ("gm_tcnet", "cpac"):
        for corpus in ("casia", "emodb", "ravdess", "savee"):
            wanted |= {f"{system}/{corpus}.yaml", f"{system}/{corpus}_best.yaml"}
    assert wanted <= set(FILES)
    count = {folder: 0 for folder in ("modified_timnet", "cktim", "light_sernet")}
    for file in FILES:
        count[file.split("/")[0]] = count.get(file.split("/")[0], 0) + 1
    assert count["modified_timnet"] == 8 and count["cktim"] == 9
    assert count["light_sernet"] == 8 and set(count) <= set(SYSTEMS)


@pytest.mark.parametrize("file", FILES)
def test_a_recipe_is_accepted_as_it_stands(file):
    given = parameters(file)
    assert given == read_yaml_file(str(FOLDER / file))
    params = config.validated(given)
    assert file == file.lower() and file.startswith(
        f"{params.model}/{params.corpus.lower()}"
    )
    assert params.corpus in corpora.names()
    features.front_end(params.features, params.feature_options)
    # What a run is compared with is stated, not left to defaults.
    assert params.loss_options == losses.resolved_options(
        params.loss, params.loss_options
    )
    assert params.schedule_options == schedules.resolved_options(
        params.schedule, params.schedule_options, params.epochs_in_force
    )
    known = set(models.options(params.model))
    assert set(params.model_options) <= known
    assert set(params.model_options) == known or "_tim_" in file
    if params.augmentation == "waveform":
        assert set(params.augmentation_options["transforms"]) == set(augment.WAVEFORM)
    else:
        assert params.augmentation == "none" and not params.augmentation_options


def test_the_training_notebook_knows_every_parameter_of_a_recipe():
    notebook = nbformat.read(REPOSITORY / "notebooks/02_train.ipynb", as_version=4)
    cell = next(
        cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])
    )
    known = set(re.findall(r"^(\w+)\b.*=", cell.source, re.M))
    assert {name for file in FILES for name in parameters(file)} <= known


def test_nothing_that_decides_a_training_is_left_to_a_default():
    decisive = {
        *("corpus", "features", "model", "model_options", "protocol", "folds", "seed"),
        *("epochs", "batch_size", "learning_rate", "beta_1", "beta_2", "epsilon"),
        *("schedule", "label_smoothing", "loss", "augmentation"),
    }
    for file in FILES:
        assert decisive <= set(parameters(file)), file


@pytest.mark.parametrize(
    ("file", "trainable"),
    [
        ("timnet/casia", 104_456),
        ("timnet/emodb", 104_496),
        ("timnet/emovo_best", 104_496),
        ("timnet/iemocap", 129_650),
        ("timnet/iemocap_phase_1", 129_650),
        ("timnet/ravdess_no_df", 104_536 - 8),
        ("timnet/savee_no_bd", 52_392),
        ("modified_timnet/savee", 162_374),
        ("modified_timnet/savee_dropout_attention", 104_527),
        ("modified_timnet/savee_dropout_attention_classifier", 110_270),
        ("modified_timnet/emodb_dropout", 104_496),
        ("modified_timnet/emodb_dropout_classifier", 110_239),
        ("modified_timnet/emodb_dropout_shuffle", 156_600),
        ("cktim/emovo_1_block", 318_749),
        ("cktim/emovo_3_blocks", 743_583),
        ("cktim/emovo", 1_380_834),
        ("cktim/emovo_omega_26", 1_380_834),
        ("cktim/emovo_augmented", 1_380_834),
        ("cktim/emovo_tim_1_block", 16_037),
        ("cktim/emovo_tim_3_blocks", 41_311),
        ("cktim/emovo_tim_6_blocks", 79_222),
        ("light_sernet/emodb_focal", 461_703),
        ("light_sernet/iemocap_7s", 460_740),
        ("gm_tcnet/emodb", 260_644),
    ],
)
def test_a_recipe_builds_the_network_that_was_published(file, trainable):
    assert models.trainable_parameters(built(f"{file}.yaml")) == trainable


@pytest.mark.parametrize(
    "file", ["cpac/savee", "light_sernet/emodb_prelu", "light_sernet/asvp_esd_prelu"]
)
def test_networks_without_a_published_count_are_built_too(file):
    labels = corpora.get(parameters(f"{file}.yaml")["corpus"]).labels
    assert built(f"{file}.yaml").output_shape == (None, len(labels))


def test_timnet_has_the_blocks_of_the_corpus_it_is_trained_on():
    files = [file for file in FILES if file.startswith("timnet/")]
    assert len(files) == 42
    for file in files:
        given = parameters(file)
        dilations = corpora.get(given["corpus"]).dilations
        assert given["model_options"]["dilations"] == dilations, file


def test_seeds_are_those_of_the_official_test_commands():
    line = re.search(r"Published seeds per corpus .*?: (.*?);", facts(), re.S).group(1)
    seeds = dict(re.findall(r"([A-Z]+) (\d+)", line))
    seeds["RAVDESS"] = seeds.pop("RAVDE")
    assert len(seeds) == 6
    for corpus, seed in seeds.items():
        for name in ("", "_best", "_tcn"):
            file = f"timnet/{corpus.lower()}{name}.yaml"
            assert parameters(file)["seed"] == int(seed)


def test_the_course_project_is_run_with_its_own_settings():
    table = re.search(
        r"^Hyper-parameters \(\[KK\].*?^random_seed", facts(), re.S | re.M
    )
    seen, phase = [], ""
    for line in table.group(0).splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) != 9 or not cells[2].startswith("."):
            continue
        phase = cells[0] or phase
        corpus = cells[1].replace("RAVDE", "RAVDESS").lower()
        plain = phase.startswith("Phase 1")
        file = f"timnet/{corpus}_phase_1" if plain else f"modified_timnet/{corpus}"
        given = parameters(f"{file}.yaml")
        names = ("beta_1", "beta_2", "batch_size", "epochs")
        options = given["model_options"]
        ours = [given[name] for name in names] + [options["dropout"], given["folds"]]
        assert ours == [float(cell) for cell in (*cells[2:7], cells[8])], file
        if not plain:
            assert options["temporal_dropout"] == float(cells[7])
        assert given["seed"] == 46
        seen.append(file)
    assert len(seen) == 8


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("timnet/emovo", "64 500 1e-3 .93 .98 1e-8 constant .1 cross_entropy"),
        ("timnet/emovo_tcn", "64 60 1e-3 .93 .98 1e-8 constant .1 cross_entropy"),
        ("modified_timnet/savee", "256 500 1e-3 .875 .98 1e-8 constant .1 focal"),
        ("cktim/emovo", "64 100 1e-2 .9 .999 1e-8 plateau .1 cross_entropy"),
        (
            "cktim/emovo_tim_1_block",
            "64 100 1e-2 .9 .999 1e-8 plateau .1 cross_entropy",
        ),
        ("light_sernet/emodb", "32 300 1e-4 .9 .999 1e-7 step 0 cross_entropy"),
        ("light_sernet/iemocap_7s_focal", "32 300 1e-4 .9 .999 1e-7 step 0 focal"),
        ("light_sernet/emodb_prelu", "32 300 1e-5 .9 .999 1e-8 step 0 cross_entropy"),
        ("gm_tcnet/savee_best", "64 300 1e-3 .93 .98 1e-8 constant 0 cross_entropy"),
        ("gm_tcnet/savee", "64 300 1e-3 .93 .98 1e-8 constant 0 cross_entropy"),
        ("cpac/savee", "64 300 1e-3 .975 .932 1e-8 constant .1 margin"),
    ],
)
def test_training_is_set_as_the_public_code_sets_it(file, settings):
    given = parameters(f"{file}.yaml")
    *numbers, schedule, smoothing, loss = settings.split()
    names = ("batch_size", "epochs", "learning_rate", "beta_1", "beta_2", "epsilon")
    assert [given[name] for name in names] == [float(text) for text in numbers]
    assert (given["schedule"], given["loss"]) == (schedule, loss)
    assert given["label_smoothing"] == float(smoothing)


def test_options_of_training_are_those_of_the_public_code():
    for file in FILES:
        given = parameters(file)
        chosen = (given["model"], given["loss"], given["schedule"])
        if "plateau" in chosen:
            assert given["schedule_options"] == {"factor": 0.25, "patience": 5}
        if "focal" in chosen:
            alpha = 1.0 if "light_sernet" in chosen else 0.25
            twice = alpha == 0.25
            wanted = {"gamma": 2.0, "alpha": alpha, "smooth_twice": twice}
            assert given["loss_options"] == wanted
        if given["model"] == "light_sernet" and "prelu" not in file:
            seconds = 7.0 if "7s" in file else 3.0
            assert given["feature_options"] == {"clip_seconds": seconds}
            assert (given["seed"], given["folds"]) == (42, 10)
    assert parameters("gm_tcnet/emodb_best.yaml")["seed"] == 32


def test_the_modified_network_is_run_with_its_published_flaws():
    for name in ("savee", "emodb"):
        given = parameters(f"modified_timnet/{name}.yaml")
        options = given["loss_options"]
        effective = losses.effective_smoothing(given["label_smoothing"], options)
        assert given["loss"] == "focal" and effective == pytest.approx(0.19)
        assert given["model_options"]["shuffle_at_inference"] is True
        assert given["model_options"]["temporal_dropout_mode"] == "coefficients"


def test_light_sernet_lowers_its_step_twelve_times():
    given = parameters("light_sernet/emodb.yaml")
    share = schedules.SCHEDULES[given["schedule"]](**given["schedule_options"])
    steps = [given["learning_rate"] * share(epoch, []) for epoch in range(1, 1 + 300)]
    assert len(set(steps)) == 13
    # The first epoch has the number 0 there.
    assert steps[59] == 1e-4 and steps[60] == pytest.approx(1e-4 * math.exp(-0.15))
    assert steps[-1] == pytest.approx(1.65e-5, rel=0.01)


def altered(change):
    table = yaml.safe_load(experiments.EXPERIMENTS.read_text("utf-8"))
    change(table)
    return experiments.made_of(table, load_published())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda table: table["families"][0]["parameters"].update(seed=32),
            "timnet/casia.yaml: published.csv already states seed",
        ),
        (
            lambda table: table["families"][0]["parameters"]["model_options"].update(
                dropout=0.1
            ),
            "already states model_options.dropout",
        ),
        (
            lambda table: table["families"][0]["parameters"].update(epsilom=1e-8),
            "did you mean 'epsilon'",
        ),
        (lambda table: table["left_out"].pop(), "stands 0 times"),
        (
            lambda table: table["left_out"].append(table["left_out"][0]),
            "stands 2 times",
        ),
        (
            lambda table: table["left_out"][0]["rows"].update(corpus="EMODE"),
            "published.csv has no row with",
        ),
        (
            lambda table: table["families"][0]["experiments"][0].update(file="one"),
            "6 experiments are called timnet/one.yaml",
        ),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        altered(change)


def test_what_is_published_goes_before_what_is_assumed():
    def other_seed(table):
        table["families"][1]["parameters"]["seed"] = 5

    made, _ = altered(other_seed)
    seeds = {recipe.file: recipe.parameters["seed"] for recipe in made}
    # Not stated for the best epoch, so ours stands; stated for the last one.
    assert seeds["timnet/casia_best.yaml"] == 5 and seeds["timnet/casia.yaml"] == 32
