import re

import numpy as np
import openpyxl
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_runs import write_run

from lib import excel, runs

LABELS = ("angry", "happy", "sad")


def make_predictions(folds=3, size=12, seed=0, classes=3):
    rng = np.random.default_rng(seed)
    fold = np.repeat(np.arange(1, folds + 1), size)
    # Every class is tested in every fold, the last one most: with equal numbers
    # macro and weighted averages could be mistaken for each other.
    once = np.minimum(np.arange(size) % (classes + 2), classes - 1)
    y_true = np.tile(once, folds)
    wrong = rng.integers(0, classes, len(fold))
    y_pred = np.where(rng.random(len(fold)) < 0.6, y_true, wrong)
    return pd.DataFrame({"fold": fold, "y_true": y_true, "y_pred": y_pred})


def by_hand(rows, classes=3):
    """Return counts[true][predicted] and (precision, recall, f1, support) rows."""
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (rows["y_true"], rows["y_pred"]), 1)
    hits, support, called = counts.diagonal(), counts.sum(1), counts.sum(0)
    scores = [hits / called, hits / support, 2 * hits / (called + support), support]
    return counts, np.array(scores).T


def grid(sheet):
    return [[cell.value for cell in row] for row in sheet.iter_rows()]


def written(folder, label_names=LABELS, frame=None, ids=("EMODB-0123abcd",), **changes):
    """Write runs and their summary; return the workbook."""
    frame = make_predictions() if frame is None else frame
    frame = frame.assign(speaker="01", sex="", file=[f"{i}.wav" for i in frame.index])
    for run_id in ids:
        data = {"label_names": list(label_names)}
        write_run(folder, run_id, data=data, **changes)
        runs.write_predictions(folder / run_id / "predictions.csv", frame)
    reported = excel.reported_runs(folder, ids)
    excel.write_summary_workbook(folder / "s.xlsx", reported)
    return openpyxl.load_workbook(folder / "s.xlsx")


def test_official_sheets_hold_what_counting_by_hand_gives(tmp_path):
    frame = make_predictions()
    excel.write_official_workbook(tmp_path / "o.xlsx", frame, LABELS)
    book = openpyxl.load_workbook(tmp_path / "o.xlsx")
    assert book.sheetnames == "0 0_evaluate 1 1_evaluate 2 2_evaluate".split()
    for fold in (1, 2, 3):
        counts, scores = by_hand(frame[frame["fold"] == fold])
        matrix = grid(book[str(fold - 1)])
        assert matrix[0] == [None, " ", *LABELS]
        for predicted, row in enumerate(matrix[1:]):  # true classes are columns
            assert row == [predicted, LABELS[predicted], *counts[:, predicted]]
        report = grid(book[f"{fold - 1}_evaluate"])
        assert report[0] == [None, "precision", "recall", "f1-score", "support"]
        names = [row[0] for row in report[1:]]
        assert names == [*LABELS, "accuracy", "macro avg", "weighted avg"]
        accuracy = np.full(4, counts.trace() / 12)
        weighted = scores[:, 3] @ scores[:, :3] / 12
        averages = [accuracy, [*scores[:, :3].mean(axis=0), 12], [*weighted, 12]]
        values = np.array([row[1:] for row in report[1:]])
        assert values == pytest.approx(np.array([*scores, *averages]))


def test_a_class_that_a_fold_lacks_stays_in_the_tables_without_scores(tmp_path):
    frame = pd.DataFrame({"fold": 1, "y_true": [0, 0, 1, 1], "y_pred": [0, 0, 1, 2]})
    # Labels named like rows of the report do not collide with them.
    excel.write_official_workbook(tmp_path / "a.xlsx", frame, ("accuracy", "b", "c"))
    book = openpyxl.load_workbook(tmp_path / "a.xlsx")
    assert grid(book["0"])[3] == [2, "c", 0, 1, 0]
    rows = grid(book["0_evaluate"])
    assert rows[3] == ["c", None, None, None, 0]
    assert rows[2][1:] == pytest.approx([1, 0.5, 2 / 3, 2])
    assert rows[4] == ["accuracy", *[0.75] * 4]
    # Mean recall of the two classes that are there, not of three.
    assert rows[5][2] == pytest.approx((1 + 0.5) / 2)


@pytest.mark.parametrize("frame", [make_predictions().head(0), None])
def test_bad_predictions_are_refused_and_a_failed_write_keeps_the_old_file(
    tmp_path, frame, monkeypatch
):
    if frame is None:
        frame = pd.DataFrame({"fold": 1, "y_true": [0, 3], "y_pred": [0, 1]})
    with pytest.raises(ValueError, match="predictions"):
        excel.write_official_workbook(tmp_path / "a.xlsx", frame, LABELS)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.xlsx").write_bytes(b"old")
    monkeypatch.setattr(pd.DataFrame, "to_excel", lambda *_, **__: 1 / 0)
    with pytest.raises((ZeroDivisionError, IndexError)):
        excel.write_official_workbook(tmp_path / "a.xlsx", make_predictions(), LABELS)
    assert (tmp_path / "a.xlsx").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("accuracy", "text"), [(0.878334, "87.83"), (0.9, "90.0"), (0.766666, "76.67")]
)
def test_official_name(accuracy, text):
    finished = "2024-10-28T19:05:09+00:00"
    name = excel.official_workbook_name("RAVDE", 10, accuracy, 46, finished)
    assert name == f"RAVDE_10fold_{text}_46_2024-10-28_19-05-09.xlsx"
    with pytest.raises(ValueError, match="fraction"):
        excel.official_workbook_name("RAVDE", 10, 100 * accuracy, 46, finished)


def evaluate(sheet, formula):
    """Return what a spreadsheet program makes of a SUM or AVERAGE of cells."""
    pattern = r"=(SUM|AVERAGE)\(\(?([A-Z0-9,]+)\)?\)"
    function, cells = re.fullmatch(pattern, formula).groups()
    values = [sheet[cell].value for cell in cells.split(",")]
    assert all(value is None or isinstance(value, int | float) for value in values)
    present = [value for value in values if value is not None]
    return sum(present) / (len(present) if function == "AVERAGE" else 1)


def final_block(sheet):
    """Return row of the last block, and its matrix and report as computed."""
    (top,) = (c.row for c in sheet["A"] if str(c.value).startswith("Final"))
    rows = (
        sheet.iter_rows(top + 2, top + 4, 2, 4),
        sheet.iter_rows(top + 6, top + 11, 2, 5),
    )
    blocks = [[[cell.value for cell in row] for row in block] for block in rows]
    return top, *(
        np.array([[evaluate(sheet, value) for value in row] for row in block])
        for block in blocks
    )


def test_the_summary_averages_the_folds(tmp_path):
    frame = make_predictions()
    ids = ["EMODB-timnet-paper-s46-0123abcd", "RAVDESS-timnet-speaker-s1-89abcdef"]
    book = written(tmp_path, frame=frame, ids=ids)
    # A name has 31 characters at most: a longer id keeps its head and its digits.
    assert book.sheetnames == [
        "Combined Result",
        ids[0],
        "RAVDESS-timnet-speaker-89abcdef",
    ]
    sheet, combined = book.worksheets[1], grid(book.worksheets[0])
    top, matrix, report = final_block(sheet)
    folds = [by_hand(rows) for _, rows in frame.groupby("fold")]
    assert np.array_equal(matrix, sum(counts for counts, _ in folds).T)
    assert report[:3] == pytest.approx(sum(scores for _, scores in folds) / 3)
    uar = np.mean([scores[:, 1].mean() for _, scores in folds])
    war = np.mean([counts.trace() / 12 for counts, _ in folds])
    assert report[3] == pytest.approx(np.full(4, war))
    assert report[4, 1] == pytest.approx(uar)
    start = 3
    for name in book.sheetnames[1:]:
        assert combined[start][0] == "EMODB · timnet"
        link = book.worksheets[0].cell(start + 2, 1).hyperlink
        assert link.location == f"'{name}'!A1"
        assert combined[start + 2][:2] == ["Emotions: 3", "Fold: 3"]
        assert combined[start + 3][:3:2] == ["Avg Acc", "Avg Weight"]
        assert combined[start + 3][1:4:2] == pytest.approx([uar, war])
        assert combined[start + 4][1:] == ["precision", "recall", "f1-score", "support"]
        titles, values = [r[0] for r in combined[start + 5 : start + 8]], report[3:]
        assert titles == ["Avg Accuracy", "macro avg", "weighted avg"]
        found = np.array([row[1:] for row in combined[start + 5 : start + 8]], float)
        assert found == pytest.approx(values)
        start += 9
    for sheet in book.worksheets:
        assert sheet.freeze_panes == "B4" and sheet["A1"].font.bold
    assert sheet.cell(top + 10, 3).number_format == "0.00%"
    assert sheet.cell(top + 10, 5).number_format == "0.0"
    assert book.calculation.fullCalcOnLoad


def test_empty_scores_take_no_part_in_the_averages(tmp_path):
    frame = make_predictions(folds=2)
    frame = frame[(frame["fold"] == 1) | (frame["y_true"] < 2)]
    _, _, report = final_block(written(tmp_path, frame=frame).worksheets[1])
    _, scores = by_hand(frame[frame["fold"] == 1])
    assert report[2, :3] == pytest.approx(scores[2, :3])


@pytest.mark.parametrize("synthetic", [True, False])
@pytest.mark.parametrize("chosen_on", ["last", "test"])
def test_every_block_names_protocol_run_and_audio(tmp_path, synthetic, chosen_on):
    book = written(tmp_path, synthetic=synthetic, chosen_on=chosen_on)
    texts = [str(cell.value) for sheet in book for cell in sheet["A"]]
    marked = [text for text in texts if "protocol speaker" in text]
    starts = ("Fold ", "Final")
    assert sum(text.startswith(starts) for text in marked) == 3 + 1 and len(marked) == 6
    for text in marked:
        assert "run EMODB-0123abcd" in text and ("synthetic" in text) == synthetic
        assert ("chosen on the test fold" in text) == (chosen_on == "test")


def test_sheet_names_are_legal_and_unique_and_nothing_says_so(tmp_path):
    ids = ["x" * 40 + "-11111111", "x" * 40 + "-22222222", "history", "a:b", "a?b"]
    ids += ["Combined Result", "same", "SAME", "it's"]
    frame = make_predictions(folds=1)
    names = written(tmp_path, frame=frame, ids=ids).sheetnames
    assert len({name.lower() for name in names}) == len(ids) + 1
    for name in names:
        assert 0 < len(name) <= 31 and not re.search(r"[\[\]:*?/\\']", name)
    assert "history" not in [name.lower() for name in names]
    assert names[1].endswith("11111111")
    excel.write_summary_workbook(tmp_path / "s.xlsx", [])
    sheet = openpyxl.load_workbook(tmp_path / "s.xlsx")["Combined Result"]
    assert "no finished runs" in sheet["A2"].value
    with pytest.raises(FileNotFoundError, match="no run"):
        excel.reported_runs(tmp_path, ["missing"])


names = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=20)


@settings(max_examples=15, deadline=None)
@example("=1+1", "+1", "-a")
@example("@x", "#N/A", "=cmd|' /C calc'!A0")
@given(*(st.builds("{}{}".format, st.sampled_from(["", *"=+-@#%'"]), names),) * 3)
def test_labels_stay_text_in_both_workbooks(tmp_path_factory, one, two, three):
    labels = one, two, three
    folder = tmp_path_factory.mktemp("books")
    summed = written(folder, label_names=labels).worksheets[1]
    excel.write_official_workbook(folder / "o.xlsx", make_predictions(), labels)
    matrix, report = openpyxl.load_workbook(folder / "o.xlsx").worksheets[:2]
    for cells_of_labels in (
        [*summed["A7":"A9"], *summed["B6":"D6"]],
        [*matrix["B2":"B4"], *matrix["C1":"E1"]],
        [*report["A2":"A4"]],
    ):
        found = [cell for row in cells_of_labels for cell in row]
        assert {cell.data_type for cell in found} == {"s"}
        assert [cell.value for cell in found] == [*labels, *labels][: len(found)]


def test_more_folds_than_a_function_takes_arguments(tmp_path):
    frame = make_predictions(folds=256, size=5)
    sheet = written(tmp_path, frame=frame).worksheets[1]
    top, matrix, _ = final_block(sheet)
    assert matrix.sum() == len(frame)
    formula = sheet.cell(top + 2, 2).value
    assert formula.startswith("=SUM((") and len(formula) <= 8192
