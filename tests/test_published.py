import json
import re

import pandas as pd
import pytest

from lib import config, corpora, protocols
from lib.paths import REPOSITORY
from lib.runs import published

FACTS = REPOSITORY.parent / "shared" / "reference" / "systems.md"
SIX = ["CASIA", "EMODB", "EMOVO", "IEMOCAP", "RAVDESS", "SAVEE"]


@pytest.fixture(scope="module")
def numbers():
    return published.load_published()


@pytest.fixture(scope="module")
def facts():
    if not FACTS.is_file():
        pytest.skip(f"the reference text is not there: {FACTS}")
    return FACTS.read_text(encoding="utf-8")


def section(facts, title):
    """Return the text of one numbered section."""
    found = re.search(rf"^### {re.escape(title)} .*?(?=^###? )", facts, re.S | re.M)
    return found.group(0)


def pair(numbers, **where):
    """Return the one (UAR, WAR) that fits, rounded to the two decimals given."""
    rows = numbers
    for name, value in where.items():
        rows = rows[rows[name] == value]
    assert len(rows) == 1, (where, len(rows))
    return tuple(round(rows.iloc[0][name], 2) for name in ("uar", "war"))


def as_pair(text):
    return tuple(float(part) for part in re.split(r"\s*/\s*", text.strip()))


def test_names_are_those_of_the_workbook(numbers):
    assert set(numbers["protocol"]) <= {*protocols.PROTOCOLS, ""}
    assert set(numbers["epoch_choice"]) <= {"last", "validation", "test", ""}
    known = {*corpora.names(), "cross-corpus", "mean of six"}
    for corpus in set(numbers["corpus"]):
        assert corpus in known or set(corpus.split(">")) <= known, corpus
    assert set(numbers["features"]) <= {"", "timnet", "lightsernet", "cktim"}


def test_every_number_is_a_percentage_with_a_source(numbers):
    scores = numbers[["uar", "war", "macro_f1"]]
    assert scores.notna().any(axis=1).all()
    assert ((scores > 10) & (scores <= 100) | scores.isna()).all(axis=None)
    assert (numbers["source"].str.len() > 10).all()
    assert not numbers.duplicated(
        ["system", "variant", "corpus", "protocol", "source"]
    ).any()


def test_epoch_choice_is_what_the_protocol_says(numbers):
    stated = numbers[(numbers["protocol"] != "") & (numbers["epoch_choice"] != "")]
    for row in stated.itertuples():
        assert row.epoch_choice == protocols.PROTOCOLS[row.protocol].chosen_on
    leaks = numbers[numbers["epoch_choice"] == "test"]
    assert leaks["note"].str.contains("test-selected").all()


def test_settings_are_json_with_values_a_run_can_have(numbers):
    for text in filter(None, numbers["settings"]):
        settings = json.loads(text)
        known = set(settings) & set(config.Parameters.model_fields)
        config.validated({name: settings[name] for name in known})


def test_means_of_the_ablation_follow_from_its_rows(numbers):
    ablation = numbers[numbers["variant"].str.startswith("ablation")]
    for variant, rows in ablation.groupby("variant"):
        rows = rows.set_index("corpus")
        for name in ("uar", "war"):
            mean = sum(rows.loc[corpus, name] for corpus in SIX) / 6
            assert rows.loc["mean of six", name] == pytest.approx(mean, abs=0.011), (
                variant
            )


def test_mean_of_the_cross_corpus_pairs_is_the_printed_average(numbers):
    pairs = numbers[numbers["corpus"].str.contains(">")]
    assert len(pairs) == 20
    best = numbers["variant"] == "cross-corpus, best of the runs"
    printed = pair(numbers[best], system="timnet", corpus="cross-corpus")
    assert pairs["uar"].mean() == pytest.approx(printed[0], abs=0.051)
    assert pairs["war"].mean() == pytest.approx(printed[1], abs=0.051)


def test_main_table(numbers, facts):
    seen = 0
    for line in section(facts, "1.9").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 4 or cells[0] not in SIX:
            continue
        where = {"system": "timnet", "variant": "", "corpus": cells[0]}
        last = as_pair(cells[1])
        best = as_pair(cells[2].split("(")[0])
        assert pair(numbers, **where, protocol="paper") == last
        assert pair(numbers, **where, protocol="paper_best") == best
        seeds = re.search(rf"^- {cells[0]}\((\d+)\):", facts, re.M)
        paper = numbers[
            (numbers["system"] == "timnet") & (numbers["protocol"] == "paper")
        ]
        assert paper.set_index("corpus").loc[cells[0], "seed"] == int(seeds.group(1))
        # Every figure of the earlier methods is somewhere in this corpus's rows.
        there = numbers[numbers["corpus"] == cells[0]]
        figures = {round(x, 2) for x in [*there["uar"], *there["war"]] if x == x}
        assert {float(x) for x in re.findall(r"\d\d\.\d\d", cells[3])} <= figures
        seen += 1
    assert seen == 6


def test_comparison_at_the_last_epoch(numbers, facts):
    text = section(facts, "1.9")
    for name, system in (("GM-TCNet", "gm_tcnet"), ("CPAC", "cpac")):
        cells = re.search(rf"{name} (\d\d\.\d\d/[\d./, ]+);", text).group(1).split(", ")
        for corpus, cell in zip(
            ("CASIA", "EMODB", "RAVDESS", "SAVEE"), cells, strict=True
        ):
            where = {"system": system, "corpus": corpus, "protocol": "paper"}
            assert pair(numbers, **where) == as_pair(cell)


def test_ablation_table(numbers, facts):
    names = ("TCN", "w/o BD", "w/o MS", "w/o DF", "full")
    seen = 0
    for line in section(facts, "1.9").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 6 or cells[0] not in (*SIX, "mean"):
            continue
        corpus = "mean of six" if cells[0] == "mean" else cells[0]
        for name, cell in zip(names, cells[1:], strict=True):
            rows = numbers[numbers["variant"].str.startswith("ablation")]
            rows = rows[rows["variant"].str.contains(name, regex=False)]
            if name == "TCN":
                rows = rows[rows["variant"].str.contains("in place")]
            assert pair(rows, corpus=corpus) == as_pair(cell)
            seen += 1
    assert seen == 35


def test_cross_corpus(numbers, facts):
    text = section(facts, "1.9")
    for name, system in (("TCN", "TCN"), ("CAAM", "CAAM"), (r"TIM-Net \**", "timnet")):
        found = re.search(rf"{name} ?(\d\d\.\d\d)±[\d.]+ / (\d\d\.\d\d)±", text)
        where = {"system": system, "variant": "cross-corpus, mean of 10 runs"}
        assert pair(numbers, **where) == as_pair("/".join(found.groups()))
    short = {"C": "CASIA", "B": "EMODB", "E": "EMOVO", "R": "RAVDESS", "S": "SAVEE"}
    pairs = re.findall(r"([CBERS])>([CBERS]) (\d\d\.\d/\d\d\.\d)", text)
    assert len(pairs) == 20
    for source, target, cell in pairs:
        corpus = f"{short[source]}>{short[target]}"
        assert pair(numbers, corpus=corpus) == as_pair(cell)


def test_modified_timnet(numbers, facts):
    text = section(facts, "2.4")
    names = {"All": "", "Attention": "attention", "Classification": "classifier"}
    names |= {"Dropout": "dropout", "Shuffle": "shuffle"}
    found = re.findall(
        r"^\| (SAVEE|EMODB) (\S+) \| \**(0\.\d+) / (0\.\d+)\** \|", text, re.M
    )
    # The other four rows are phase 1 and the official numbers, which stand elsewhere.
    assert len(found) == len(re.findall(r"^\| (?:SAVEE|EMODB) ", text, re.M)) - 4
    for corpus, run, uar, war in found:
        scores = (round(100 * float(uar), 2), round(100 * float(war), 2))
        where = {
            "system": "modified_timnet",
            "variant": " + ".join(names[part] for part in run.split("+")),
        }
        assert pair(numbers, corpus=corpus, **where) == scores
    phase_one = {"system": "timnet", "variant": "EE798R phase 1 re-run"}
    line = re.search(r"^Phase 1 table.*$", text, re.M).group(0)
    cells = re.findall(
        r"(SAVEE|EMODB|RAVDESS|CASIA|EMOVO|IEMOCAP) (\.\d+)/(\.\d+)", line
    )
    assert len(cells) == 6
    for corpus, uar, war in cells:
        scores = (round(100 * float(uar), 2), round(100 * float(war), 2))
        assert pair(numbers, corpus=corpus, **phase_one) == scores


def test_cktim(numbers, facts):
    seen = []
    for line in section(facts, "3.5").splitlines():
        cells = [cell.strip().strip("*") for cell in line.strip("|").split("|")]
        if len(cells) == 13 and cells[0] in ("TIM", "CkTIM"):
            accuracy, _, recall, f1 = (float(cell) for cell in cells[4:8])
            seen.append((cells[0], recall, accuracy, f1))
    rows = numbers[numbers["protocol"] == "holdout"]
    kinds = rows["system"].map({"timnet": "TIM", "cktim": "CkTIM"})
    ours = list(zip(kinds, rows["uar"], rows["war"], rows["macro_f1"], strict=True))
    assert len(seen) == 9 and sorted(ours) == sorted(seen)


def test_light_sernet(numbers, facts):
    rows = numbers[(numbers["system"] == "light_sernet") & (numbers["folds"] == 10)]
    text = section(facts, "4.4").split("UA = mean recall")[0]
    cells = re.findall(r"(\d\d\.\d\d)/(\d\d\.\d\d)/(\d\d\.\d\d)", text)
    assert len(cells) == 10
    ours = set(zip(rows["uar"], rows["war"], strict=True))
    assert ours == {(float(ua), float(wa)) for ua, wa, _ in cells}
    for ua, wa, f1 in cells:
        row = rows[(rows["uar"] == float(ua)) & (rows["war"] == float(wa))].iloc[0]
        assert f"F1 {f1}" in row["note"]
    variant = numbers[numbers["variant"].str.startswith("PyTorch, PReLU")]
    text = section(facts, "4.5")
    for title, column in (
        ("Accuracy (probably UA)", "uar"),
        ("Weighted accuracy", "war"),
    ):
        line = re.search(rf"^\| {re.escape(title)} \|(.*)\|$", text, re.M).group(1)
        given = dict(
            zip(("EMODB", "IEMOCAP", "ASVP_ESD"), line.split("|"), strict=True)
        )
        for corpus, cell in given.items():
            assert variant.set_index("corpus").loc[corpus, column] == float(cell)


def make_leaderboard(**changes):
    row = {
        "run_id": "mine",
        "corpus": "EMODB",
        "features": "timnet",
        "model": "timnet",
        "protocol": "paper",
        "folds": 10,
        "seed": 7,
        "epochs": 500,
        "synthetic": False,
        "uar": 0.80,
        "war": 0.81,
        "macro_f1": 0.79,
        "fold_uar_mean": 0.8719,
        "fold_war_mean": 0.8828,
        "note": "",
        "settings": json.dumps({"batch_size": 64, "dropout": 0.1, "dilations": 8}),
    }
    return pd.DataFrame([row | changes])


def last_epoch(joined):
    rows = joined[(joined["variant"] == "") & (joined["published_protocol"] == "paper")]
    assert len(rows) == 1
    return rows.iloc[0]


def test_the_same_recipe_is_comparable_by_its_mean_over_folds():
    joined = published.beside(make_leaderboard())
    row = last_epoch(joined)
    assert bool(row["comparable"]) and row["why_not"] == ""
    assert row["uar"] == pytest.approx(87.19) and row["published_uar"] == 89.19
    assert row["uar_difference"] == pytest.approx(-2.0)
    assert row["war_difference"] == pytest.approx(-2.0)
    assert (row["seed"], row["published_seed"]) == (7, 46)
    assert joined["comparable"].tolist() == [True] + [False] * (len(joined) - 1)
    assert set(joined["system"]) == {"timnet"} and set(joined["corpus"]) == {"EMODB"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"protocol": "speaker"}, "protocol speaker, published paper"),
        ({"epochs": 30}, "epochs 30, published 500"),
        ({"folds": 5}, "folds 5, published 10"),
        ({"features": "timnet_paper"}, "features timnet_paper, published timnet"),
        ({"settings": '{"dilations": 6}'}, "dilations 6, published 8"),
        ({"synthetic": True}, "synthetic"),
    ],
)
def test_what_differs_is_named(changes, reason):
    row = last_epoch(published.beside(make_leaderboard(**changes)))
    assert not row["comparable"]
    assert row["why_not"].count(";") == 0 and reason in row["why_not"]


def test_variants_and_unknown_epochs_are_never_comparable():
    joined = published.beside(make_leaderboard(protocol="paper_best"))
    assert not joined["comparable"].any()
    full = joined[
        (joined["variant"] == "") & (joined["published_protocol"] == "paper_best")
    ]
    assert full.iloc[0]["why_not"] == "published epochs not stated"
    ablation = joined[joined["variant"].str.contains("w/o BD")].iloc[0]
    assert "another variant" in ablation["why_not"]


@pytest.mark.parametrize("changes", [{"corpus": "DEMO"}, {"model": "majority"}])
def test_runs_without_published_numbers_are_left_out(changes):
    assert len(published.beside(make_leaderboard(**changes))) == 0


def test_an_empty_leaderboard_gives_an_empty_table():
    joined = published.beside(make_leaderboard().head(0))
    assert len(joined) == 0 and "comparable" in joined.columns
