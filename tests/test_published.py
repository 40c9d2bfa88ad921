"""Published numbers are those of their sources, and recipes run what was published."""

import functools
import json
import re

import nbformat
import pandas as pd
import pytest
import yaml

from lib import compare, config, corpora, features, losses, models, protocols, schedules
from lib.files import REPOSITORY

FACTS = REPOSITORY.parent / "shared" / "reference" / "systems.md"
SIX = ["CASIA", "EMODB", "EMOVO", "IEMOCAP", "RAVDESS", "SAVEE"]
EVERY = [path.relative_to(compare.RECIPES) for path in compare.RECIPES.rglob("*.yaml")]
FILES = sorted(file.as_posix() for file in EVERY)
NUMBERS = compare.load_published()
AIMED = NUMBERS[NUMBERS["recipe"] != ""].set_index("recipe")


def test_the_table_is_consistent():
    assert set(NUMBERS["protocol"]) <= {*protocols.PROTOCOLS, ""}
    known = {*corpora.names(), "cross-corpus", "mean of six"}
    assert all(set(name.split(">")) <= known for name in NUMBERS["corpus"])
    scores = NUMBERS[["uar", "war", "macro_f1"]]
    assert scores.notna().any(axis=1).all()
    assert ((scores > 10) & (scores <= 100) | scores.isna()).all(axis=None)
    assert (NUMBERS["source"].str.len() > 10).all()
    keys = ["system", "variant", "corpus", "protocol", "source"]
    assert not NUMBERS.duplicated(keys).any()
    stated = NUMBERS[(NUMBERS["protocol"] != "") & (NUMBERS["epoch_choice"] != "")]
    promised = stated["protocol"].map(lambda name: protocols.PROTOCOLS[name].chosen_on)
    assert (stated["epoch_choice"] == promised).all()
    leaks = NUMBERS[NUMBERS["epoch_choice"] == "test"]
    assert leaks["note"].str.contains("test-selected").all()
    # A number has one recipe, or a reason why it has none.
    assert ((NUMBERS["recipe"] == "") == (NUMBERS["no_recipe"].str.len() > 20)).all()
    own = [file for file in FILES if file.startswith("workbook/")]
    assert sorted([*AIMED.index, *own]) == FILES  # each once


def test_printed_means_follow_from_the_rows():
    ablation = NUMBERS[NUMBERS["variant"].str.startswith("ablation")]
    for variant, rows in ablation.groupby("variant"):
        rows = rows.set_index("corpus")[["uar", "war"]]
        gap = (rows.loc[SIX].mean() - rows.loc["mean of six"]).abs()
        assert len(rows) == 7 and gap.max() <= 0.011, variant
    pairs = NUMBERS[NUMBERS["corpus"].str.contains(">")][["uar", "war"]]
    best = NUMBERS["variant"] == "cross-corpus, best of the runs"
    (printed,) = NUMBERS.loc[
        best & (NUMBERS["system"] == "timnet") & (NUMBERS["corpus"] == "cross-corpus"),
        ["uar", "war"],
    ].to_numpy()
    assert len(pairs) == 20
    assert pairs.mean().tolist() == pytest.approx(printed, abs=0.051)


@pytest.mark.skipif(not FACTS.is_file(), reason=f"no reference text at {FACTS}")
def test_the_numbers_of_a_row_stand_in_one_place_of_the_reference():
    short = {"C": "CASIA", "B": "EMODB", "E": "EMOVO", "R": "RAVDESS", "S": "SAVEE"}
    facts = re.sub(
        r"\b([CBERS])>([CBERS])\b",
        lambda found: f"{short[found[1]]}>{short[found[2]]}",
        FACTS.read_text("utf-8"),
    )
    places = [  # paragraphs, items and rows of tables, each with its numbers
        (text, {float(number) for number in re.findall(r"\d*\.\d+|\d+", text)})
        for text in [facts, *re.split(r"\n(?=[|\-#\n])", facts)]
    ]
    for row in NUMBERS.itertuples():
        given = {value for value in (row.uar, row.war, row.macro_f1) if value == value}
        printed = [{round(value / k, 4) for value in given} for k in (1, 100)]
        unnamed = row.corpus not in SIX and ">" not in row.corpus
        texts = [
            text
            for text, numbers in places
            if any(wanted <= numbers for wanted in printed)
            and (unnamed or row.corpus in text or text.strip().startswith("|"))
        ]
        # The tables of Light-SERNet have scores as rows and corpora as columns.
        assert len(texts) > (row.system != "light_sernet"), row
    for file, row in AIMED[AIMED["protocol"] == "paper"].iterrows():
        seed = re.search(rf"^- {row['corpus']}\((\d+)\):", facts, re.M)
        if row["system"] == "timnet" and row["variant"] == "":
            assert yaml_of(file)["seed"] == int(seed[1])


# --- recipes --------------------------------------------------------------------------


@functools.cache
def yaml_of(file):
    return yaml.safe_load((compare.RECIPES / file).read_text("utf-8"))


def remarks_of(file):
    """Return the remarks at the top of a recipe by their first word."""
    head = (compare.RECIPES / file).read_text("utf-8")
    remarks = {}
    for name, text in re.findall(r"^# (\w[\w ]*): (.*(?:\n#   .*)*)", head, re.M):
        remarks.setdefault(name, []).append(re.sub(r"\n#  ", "", text).rstrip("."))
    return remarks


@pytest.mark.parametrize("file", AIMED.index)
def test_a_recipe_runs_what_its_row_says(file):
    row, given, said = AIMED.loc[file], yaml_of(file), remarks_of(file)
    params = config.validated(given)
    assert file == file.lower() and file.startswith(f"{params.model}/")
    assert params.corpus == row["corpus"] and row["corpus"] in corpora.names()
    assert (params.protocol, params.features) == (row["protocol"], row["features"])
    # What is published is done, and what is not stated is said to be chosen.
    settings = given | given["model_options"]
    missing = [name for name in ("folds", "seed", "epochs") if pd.isna(row[name])]
    stated = json.loads(row["settings"] or "{}")
    stated |= {n: row[n] for n in ("folds", "seed", "epochs") if n not in missing}
    assert {name: settings[name] for name in stated} == stated
    assert said.get("Not stated", [""])[0].split(", ") == (missing or [""])
    assert bool(row["chosen"]) >= bool(missing)
    # The head of the file says what the table says.
    for name, column in (("Chosen here", "chosen"), ("Differs", "differs")):
        assert " | ".join(said.get(name, [])) == row[column]
    assert (said["Source"], said.get("Known", [""])) == ([row["source"]], [row["note"]])
    titles = {"uar": "UAR", "war": "WAR", "macro_f1": "macro F1"}
    scores = [f"{titles[n]} {row[n]:.2f} %" for n in titles if row[n] == row[n]]
    assert said["Published"][0].split("; ")[0] == ", ".join(scores)
    index = (compare.RECIPES / "README.md").read_text("utf-8")
    line = re.search(rf"^\|.*\]\({file}\).*$", index, re.M)[0]
    assert all(f"{row[n]:.2f}" in line for n in ("uar", "war") if row[n] == row[n])


@pytest.mark.parametrize("file", FILES)
def test_nothing_that_decides_a_training_is_left_to_a_default(file):
    given = yaml_of(file)
    params = config.validated(given)
    resolved = schedules.resolved_options(
        params.schedule, params.schedule_options, params.epochs_in_force
    )
    if file.startswith("workbook/"):
        assert "corpus" not in given and params.protocol_in_force == "speaker"
        assert (
            params.epochs_in_force
            <= config.validated({"corpus": "X"}).epochs_in_force / 5
        )
        return
    assert params.schedule_options == resolved
    loss = losses.resolved_options(params.loss, params.loss_options)
    assert params.loss_options == loss
    assert {*compare.COMPARED, "model_options"} - {*given} <= {
        *("early_stopping", "weight_average", "augmentation_options"),
        *("schedule_options", "loss_options"),
    }
    known = set(models.options(params.model))
    assert set(params.model_options) == known or "_tim_" in file
    dilations = corpora.get(params.corpus).dilations
    assert params.model != "timnet" or params.model_options["dilations"] == dilations
    if params.loss == "focal" and "light" not in file:  # smoothed twice, as published
        smoothed = losses.effective_smoothing(params.label_smoothing, loss)
        assert smoothed == pytest.approx(0.19)


def test_the_training_notebook_knows_every_parameter_of_a_recipe():
    notebook = nbformat.read(REPOSITORY / "notebooks/02_train.ipynb", as_version=4)
    (cell,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    known = set(re.findall(r"^(\w+)\b.*=", cell.source, re.M))
    assert {name for file in FILES for name in yaml_of(file)} <= known


COUNTS = """
timnet/casia 104456
timnet/iemocap 129650
timnet/ravdess_no_df 104528
timnet/savee_no_bd 52392
modified_timnet/savee 162374
modified_timnet/savee_dropout_attention 104527
modified_timnet/savee_dropout_attention_classifier 110270
modified_timnet/emodb_dropout 104496
modified_timnet/emodb_dropout_shuffle 156600
cktim/emovo_1_block 318749
cktim/emovo 1380834
cktim/emovo_tim_6_blocks 79222
light_sernet/emodb_focal 461703
light_sernet/iemocap_7s 460740
gm_tcnet/emodb 260644
"""


@pytest.mark.parametrize("published", COUNTS.split("\n")[1:-1])
def test_a_recipe_builds_the_network_that_was_published(published):
    file, count = published.split()
    given = yaml_of(f"{file}.yaml")
    front_end = features.front_end(given["features"], given.get("feature_options"))
    classes = len(corpora.get(given["corpus"]).labels)
    shape = (None, front_end.coefficients)
    network = models.build_model(
        given["model"], shape, classes, **given["model_options"]
    )
    assert models.trainable_parameters(network) == int(count)
