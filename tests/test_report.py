"""The table of a study, its sentences, and the files that are handed in."""

import re

import numpy as np
import pandas as pd
import pytest
from test_compare import answers, board, uar

from lib import compare, report, sweeps
from lib.files import Workspace

CHANGE = "− 50 % of a_b & c|d > e"
STUDY = f"""
title: A study
base: {{}}
reference: whole
variants: {{whole: {{}}, "{CHANGE}": {{epochs: 9}}, never run: {{epochs: 1}}}}
corpora: [EMODB]
protocols: [speaker]
seeds: [0, 1]
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study of which half is done: one seed of the change is missing."""
    monkeypatch.setattr(sweeps, "SWEEPS", tmp_path)
    (tmp_path / "mine.yaml").write_text(STUDY)
    made = sweeps.Study("mine", Workspace(tmp_path))
    frames = {
        "a0": (answers(12, 1), {"seed": 0, "synthetic": True, "in_no_fold": 3}),
        "a1": (answers(10, 2), {"seed": 1, "synthetic": True}),
        "b0": (answers(20, 3), {"seed": 0, "epochs": 9}),
    }
    board(tmp_path / "Results", frames)
    names = dict(zip("abc", ("whole", CHANGE, "never run"), strict=True))
    rows = []
    for key, name in names.items():
        for seed in (0, 1):
            rows.append((f"{key}{seed}", "", name, "EMODB", "speaker", seed, 1, "true"))
            if f"{key}{seed}" in frames:
                (tmp_path / "Results" / f"{key}{seed}" / sweeps.TESTED).touch()
    made.write(pd.DataFrame(rows, columns=sweeps.COLUMNS))
    (made.folders.results / "study.yaml").write_text(made.asked(), "utf-8")
    return made, frames


def test_a_study_that_is_half_done_shows_what_is_there(study):
    made, frames = study
    table = report.variants(made).set_index("system")
    assert [*table.index] == ["whole", CHANGE, "never run"]  # as in the file
    assert table["seeds"].tolist() == [2, 1, 0] and set(table["planned"]) == {2}
    row = table.loc[CHANGE]
    gain = uar(frames["b0"][0]) - uar(frames["a0"][0])
    assert row["difference"] == pytest.approx(gain)
    told = [report.sentence(row) for row in table.reset_index().to_dict("records")]
    spoilt = "(EMODB, speaker, 3 clips in no fold, speakers shared, synthetic audio)"
    assert told[0].startswith(f"whole {spoilt}") and table["warning"].iloc[2] == ""
    assert told[0].endswith("2 of 2 seeds; the reference.")
    assert "1 of 2 seeds" in told[1] and "6 speakers, one seed" in told[1]
    assert "few or unknown speakers" in told[1] and "sign-flip" in told[1]
    assert told[2] == "never run (EMODB, speaker): no run is done."


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.02, 0.05, "A loss of more than 2.0 points is ruled out, and a gain of"),
        (0.02, 0.05, "A gain of less than 2.0 points lies outside"),
        (-0.05, -0.02, "A loss of less than 2.0 points lies outside"),
        (0.0, 0.0, "loss of more than 0.0 points is ruled out"),
        (-0.40, 0.30, "not shown, and the interval is too wide to be of use"),
    ],
)
def test_a_sentence_says_what_the_intervals_rule_out(low, high, said):
    row = dict.fromkeys(compare.COLUMNS, 0.1) | {"note": "", "matched": 3, "planned": 3}
    row |= {"seeds": 3, "low": 0.01, "high": 0.02, "low_seeds": low, "high_seeds": high}
    row |= {"system": "new", "reference": "old", "corpus": "C", "protocol": "speaker"}
    marks = "data warnings: a 9; 5 of 9 clips; transductive; errors ignored: silent 4"
    row |= {"warning": marks, "speakers": 7}
    for told in (said, "over 7 speakers and 3 seeds", "p = 0.100 (sign"):
        assert told in report.sentence(row)
    spoilt = "speaker, 5 of 9 clips, transductive, errors ignored: silent 4"
    assert report.sentence(row).startswith(f"new (C, {spoilt}): UAR")
    assert ("above 5 %: not settled" in report.sentence(row)) == (low * high > 0)
    assert "p < 0.001 (sign" in report.sentence(row | {"holm_p": 0.0001})
    alone = "p = 0.010 (sign-flip test, corrected by Holm), for these seeds alone"
    assert (alone in report.sentence(row | {"holm_p": 0.01})) == (low * high <= 0)
    assert "over unknown sp" in report.sentence(row | {"matched": 1, "speakers": 0})
    assert "no p: why" in report.sentence(row | {"note": "no p: why", "holm_p": np.nan})


def test_the_files_hold_the_table_and_latex_is_escaped(study, tmp_path):
    table = report.variants(study[0]).assign(epoch_seconds=[1.5, 2, np.nan], holm_p=0)
    folder = tmp_path / "report"
    report.write(folder, table, "A study")
    read = pd.read_csv(folder / "variants.csv"), pd.read_excel(folder / "variants.xlsx")
    for found in read:
        assert found["system"].tolist() == table["system"].tolist()
        for name in ("uar", "difference", "low", "holm_p"):
            wanted = table[name].astype(float).to_numpy()
            np.testing.assert_allclose(found[name], wanted, rtol=1e-12)
    latex = (folder / "variants.tex").read_text("utf-8")
    begins, ends = (re.findall(rf"\\{tag}{{(\w+)}}", latex) for tag in ("begin", "end"))
    assert begins == ends == ["tabular"] and "\n\\resizebox{\\linewidth}" in latex
    assert r"$-$ 50 \% of a\_b \& c$|$d $>$ e" in latex and latex.isascii()
    assert "synthetic audio & whole" in latex and "$<$ 0.001 &" in latex
    assert {*report.readable(table.assign(parameters=0))["parameters"]} == {"–"}
    layout = re.search(r"\\begin{tabular}{(\w+)}", latex)[1]
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + len(table)
    for row in rows:
        assert len(re.findall(r"(?<!\\)&", row)) == len(layout) - 1
        assert not re.findall(r"(?<!\\)[%#_{}~^]", row)
    assert report.readable(table)["s per epoch"].tolist() == ["1.50", "2.00", "–"]
    lines = (folder / "variants.md").read_text("utf-8").splitlines()
    cells = [len(re.findall(r"(?<!\\)\|", line)) for line in lines if line[:1] == "|"]
    assert set(cells) == {len(layout) + 1} and len(cells) == 2 + len(table)
    assert sum(line.startswith("- ") for line in lines) == len(table)
