"""Published numbers have sources, and recipes run what was published."""

import json

import pandas as pd
import pytest
import yaml

from lib import compare, config, corpora, features, models, protocols

EVERY = [path.relative_to(compare.RECIPES) for path in compare.RECIPES.rglob("*.yaml")]
NUMBERS = compare.load_published()
AIMED = NUMBERS[NUMBERS["recipe"] != ""].set_index("recipe")


def test_every_number_has_a_source_and_a_recipe_or_a_reason_why_it_has_none():
    assert set(NUMBERS["protocol"]) <= {*protocols.PROTOCOLS, ""}
    known = {*corpora.names(), "cross-corpus", "mean of six"}
    assert all(set(name.split(">")) <= known for name in NUMBERS["corpus"])
    scores = NUMBERS[["uar", "war", "macro_f1"]]
    assert scores.notna().any(axis=1).all()
    assert ((scores > 10) & (scores <= 100) | scores.isna()).all(axis=None)
    assert (NUMBERS["source"].str.len() > 10).all()
    keys = ["system", "variant", "corpus", "protocol", "source"]
    assert not NUMBERS.duplicated(keys).any()
    leaks = NUMBERS[NUMBERS["epoch_choice"] == "test"]
    assert leaks["note"].str.contains("test-selected").all()
    assert ((NUMBERS["recipe"] == "") == (NUMBERS["no_recipe"].str.len() > 20)).all()
    published = [file.as_posix() for file in EVERY if file.parts[0] != "workbook"]
    assert sorted(AIMED.index) == sorted(published)  # each once
    for file in EVERY:
        config.validated(yaml_of(file))


def yaml_of(file):
    return yaml.safe_load((compare.RECIPES / file).read_text("utf-8"))


@pytest.mark.parametrize("file", AIMED.index)
def test_a_recipe_runs_what_its_row_says(file):
    row, given = AIMED.loc[file], yaml_of(file)
    params = config.validated(given)
    assert file.startswith(f"{params.model}/") and params.corpus == row["corpus"]
    assert (params.protocol, params.features) == (row["protocol"], row["features"])
    # What is published is done, and what is not stated is said to be chosen.
    settings = given | given["model_options"]
    facts = {n: row[n] for n in ("folds", "seed", "epochs") if not pd.isna(row[n])}
    stated = json.loads(row["settings"] or "{}") | facts
    assert {name: settings[name] for name in stated} == stated
    assert len(facts) == 3 or row["chosen"]


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
cpac/emodb 321480
"""


@pytest.mark.parametrize("published", COUNTS.split("\n")[1:-1])
def test_a_recipe_builds_the_network_that_was_published(published):
    file, count = published.split()
    given = yaml_of(f"{file}.yaml")
    front_end = features.front_end(given["features"], given.get("feature_options"))
    classes = len(corpora.get(given["corpus"]).labels)
    shape = (None, front_end.coefficients)
    chosen = given["model_options"]
    network = models.build_model(given["model"], shape, classes, **chosen)
    assert models.trainable_parameters(network) == int(count)


def test_defaults_are_the_published_network():
    for recipe in ("cktim/emovo", "light_sernet/emodb", "gm_tcnet/casia", "cpac/casia"):
        options = yaml_of(f"{recipe}.yaml")["model_options"]
        defaults = models.options(recipe.split("/")[0])
        if recipe == "cktim/emovo":
            assert options["siren_initialisation"] != defaults["siren_initialisation"]
            options["siren_initialisation"] = defaults["siren_initialisation"]
        assert options == defaults, recipe
