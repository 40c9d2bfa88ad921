import json
import re

import numpy as np
import openpyxl
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lib.runs import cells, excel, predictions, summary

LABELS = ("angry", "happy", "sad")


def make_predictions(folds=3, size=12, seed=0, classes=3):
    rng = np.random.default_rng(seed)
    fold = np.repeat(np.arange(1, folds + 1), size)
    # Every class is tested in every fold, the last one most: with equal numbers
    # macro and weighted averages could be mistaken for each other.
    once = np.minimum(np.arange(size) % (classes + 2), classes - 1)
    y_true = np.tile(once, folds)
    y_pred = np.where(
        rng.random(len(fold)) < 0.6, y_true, rng.integers(0, classes, len(fold))
    )
    return pd.DataFrame({"fold": fold, "y_true": y_true, "y_pred": y_pred})


def by_hand(rows, classes):
    """Return counts[true][predicted] and (precision, recall, f1, support) rows."""
    counts = [[0] * classes for _ in range(classes)]
    for true, predicted in zip(rows["y_true"], rows["y_pred"], strict=True):
        counts[true][predicted] += 1
    scores = []
    for label in range(classes):
        hit, support = counts[label][label], sum(counts[label])
        called = sum(line[label] for line in counts)
        precision = hit / called if called else 0.0
        recall = hit / support if support else 0.0
        f1 = 2 * hit / (called + support) if called + support else 0.0
        scores.append((precision, recall, f1, support))
    return counts, scores


def grid(sheet):
    return [[cell.value for cell in row] for row in sheet.iter_rows()]


def make_run(run_id="EMODB-timnet-paper-s46-0123abcd", **changes):
    values = {
        "corpus": "EMODB",
        "model": "timnet",
        "protocol": "paper",
        "chosen_on": "last",
        "synthetic": False,
        "label_names": LABELS,
        "predictions": make_predictions(),
    }
    return summary.ReportedRun(run_id=run_id, **values | changes)


def test_official_sheets_hold_what_counting_by_hand_gives(tmp_path):
    frame = make_predictions()
    target = tmp_path / "official.xlsx"
    excel.write_official_workbook(target, frame, LABELS)
    book = openpyxl.load_workbook(target)
    expected = ["0", "0_evaluate", "1", "1_evaluate", "2", "2_evaluate"]
    assert book.sheetnames == expected
    for fold in (1, 2, 3):
        counts, scores = by_hand(frame[frame["fold"] == fold], 3)
        matrix = grid(book[str(fold - 1)])
        assert matrix[0] == [None, " ", *LABELS]
        for predicted, row in enumerate(matrix[1:]):
            assert row[:2] == [predicted, LABELS[predicted]]
            assert row[2:] == [counts[true][predicted] for true in range(3)]
        report = grid(book[f"{fold - 1}_evaluate"])
        assert report[0] == [None, "precision", "recall", "f1-score", "support"]
        names = [row[0] for row in report[1:]]
        assert names == [*LABELS, "accuracy", "macro avg", "weighted avg"]
        for row, score in zip(report[1:4], scores, strict=True):
            assert row[1:] == pytest.approx(score)
        accuracy = sum(counts[i][i] for i in range(3)) / 12
        assert report[4][1:] == pytest.approx([accuracy] * 4)
        macro = [sum(score[i] for score in scores) / 3 for i in range(3)]
        assert report[5][1:] == pytest.approx([*macro, 12])
        weighted = [sum(s[i] * s[3] for s in scores) / 12 for i in range(3)]
        assert report[6][1:] == pytest.approx([*weighted, 12])


def test_the_official_matrix_is_transposed(tmp_path):
    frame = pd.DataFrame({"fold": 1, "y_true": [0, 0, 1], "y_pred": [1, 1, 1]})
    excel.write_official_workbook(tmp_path / "a.xlsx", frame, ("one", "two"))
    matrix = grid(openpyxl.load_workbook(tmp_path / "a.xlsx")["0"])
    # Two of class "one" were called "two": column one, row two.
    assert matrix[2] == [1, "two", 2, 1]
    assert matrix[1] == [0, "one", 0, 0]


def test_a_class_that_a_fold_lacks_stays_in_the_tables_without_scores(tmp_path):
    frame = pd.DataFrame({"fold": 1, "y_true": [0, 0, 1, 1], "y_pred": [0, 0, 1, 2]})
    excel.write_official_workbook(tmp_path / "a.xlsx", frame, LABELS)
    book = openpyxl.load_workbook(tmp_path / "a.xlsx")
    assert grid(book["0"])[3] == [2, "sad", 0, 1, 0]
    report = {row[0]: row[1:] for row in grid(book["0_evaluate"])}
    assert report["sad"] == [None, None, None, 0]
    assert report["happy"] == pytest.approx([1, 0.5, 2 / 3, 2])
    # Mean recall of the two classes that are there, not of three.
    assert report["macro avg"][1] == pytest.approx((1 + 0.5) / 2)
    assert report["accuracy"][0] == pytest.approx(0.75)


def test_labels_named_like_report_rows_do_not_collide(tmp_path):
    frame = make_predictions(folds=1, classes=2)
    excel.write_official_workbook(tmp_path / "a.xlsx", frame, ("accuracy", "macro avg"))
    names = [
        row[0]
        for row in grid(openpyxl.load_workbook(tmp_path / "a.xlsx").worksheets[1])
    ]
    assert names[1:] == [
        "accuracy",
        "macro avg",
        "accuracy",
        "macro avg",
        "weighted avg",
    ]


@pytest.mark.parametrize("frame", [make_predictions().head(0), None])
def test_bad_predictions_are_refused_and_leave_no_file(tmp_path, frame):
    if frame is None:
        frame = pd.DataFrame({"fold": 1, "y_true": [0, 3], "y_pred": [0, 1]})
    with pytest.raises(ValueError, match="predictions"):
        excel.write_official_workbook(tmp_path / "a.xlsx", frame, LABELS)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_workbook(tmp_path, monkeypatch):
    target = tmp_path / "a.xlsx"
    target.write_bytes(b"old")

    def fail(*args, **kwargs):
        raise RuntimeError("cut")

    monkeypatch.setattr(pd.DataFrame, "to_excel", fail)
    with pytest.raises((RuntimeError, IndexError)):
        excel.write_official_workbook(target, make_predictions(), LABELS)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("accuracy", "text"), [(0.878334, "87.83"), (0.9, "90.0"), (0.766666, "76.67")]
)
def test_official_name(accuracy, text):
    name = excel.official_workbook_name(
        "RAVDE", 10, accuracy, 46, "2024-10-28T19:05:09+00:00"
    )
    assert name == f"RAVDE_10fold_{text}_46_2024-10-28_19-05-09.xlsx"


def test_official_name_refuses_percent():
    with pytest.raises(ValueError, match="fraction"):
        excel.official_workbook_name("RAVDE", 10, 87.83, 46, "2024-10-28T19:05:09")


def evaluate(sheet, formula):
    """Return what a spreadsheet program makes of a SUM or AVERAGE of cells."""
    function, cells = re.fullmatch(
        r"=(SUM|AVERAGE)\(\(?([A-Z0-9,]+)\)?\)", formula
    ).groups()
    values = [sheet[cell].value for cell in cells.split(",")]
    assert all(value is None or isinstance(value, int | float) for value in values)
    present = [value for value in values if value is not None]
    return sum(present) / (len(present) if function == "AVERAGE" else 1)


def final_block(sheet):
    rows = [row for row in sheet.iter_rows() if str(row[0].value).startswith("Final")]
    return rows[0][0].row


def test_summary_formulas_average_the_folds(tmp_path):
    run = make_run()
    excel.write_summary_workbook(tmp_path / "s.xlsx", [run])
    book = openpyxl.load_workbook(tmp_path / "s.xlsx")
    sheet = book.worksheets[1]
    top = final_block(sheet)
    folds = [
        by_hand(run.predictions[run.predictions["fold"] == k], 3) for k in (1, 2, 3)
    ]
    for true in range(3):
        assert sheet.cell(top + 1, 2 + true).value == LABELS[true]
        for predicted in range(3):
            formula = sheet.cell(top + 2 + predicted, 2 + true).value
            total = sum(counts[true][predicted] for counts, _ in folds)
            assert evaluate(sheet, formula) == total
    header = [sheet.cell(top + 5, column).value for column in range(2, 6)]
    assert header == ["precision", "recall", "f1-score", "support"]
    for label in range(3):
        assert sheet.cell(top + 6 + label, 1).value == LABELS[label]
        for column in range(4):
            formula = sheet.cell(top + 6 + label, 2 + column).value
            mean = sum(scores[label][column] for _, scores in folds) / 3
            assert evaluate(sheet, formula) == pytest.approx(mean)
    uar = np.mean([np.mean([s[1] for s in scores]) for _, scores in folds])
    war = np.mean([np.trace(counts) / 12 for counts, _ in folds])
    assert sheet.cell(top + 9, 1).value == "accuracy"
    assert evaluate(sheet, sheet.cell(top + 9, 2).value) == pytest.approx(war)
    assert sheet.cell(top + 10, 1).value == "macro avg"
    assert evaluate(sheet, sheet.cell(top + 10, 3).value) == pytest.approx(uar)


def test_combined_sheet_agrees_with_the_formulas(tmp_path):
    runs = [
        make_run(),
        make_run("RAVDESS-timnet-speaker-s1-89abcdef", corpus="RAVDESS"),
    ]
    runs[1].predictions.loc[:10, "y_pred"] = 0
    excel.write_summary_workbook(tmp_path / "s.xlsx", runs)
    book = openpyxl.load_workbook(tmp_path / "s.xlsx")
    # A name has 31 characters at most: a longer id keeps its head and its digits.
    assert book.sheetnames == [
        "Combined Result",
        "EMODB-timnet-paper-s46-0123abcd",
        "RAVDESS-timnet-speaker-89abcdef",
    ]
    combined = grid(book["Combined Result"])
    starts = [
        i
        for i, row in enumerate(combined)
        if row[0] in ("EMODB · timnet", "RAVDESS · timnet")
    ]
    assert len(starts) == 2
    for start, sheet in zip(starts, book.worksheets[1:], strict=True):
        top = final_block(sheet)
        assert combined[start + 2][:2] == ["Emotions: 3", "Fold: 3"]
        titles, scores = combined[start + 3][:4:2], combined[start + 3][1:4:2]
        assert titles == ["Avg Acc", "Avg Weight"]
        uar = evaluate(sheet, sheet.cell(top + 10, 3).value)
        war = evaluate(sheet, sheet.cell(top + 9, 2).value)
        assert scores == pytest.approx([uar, war])
        assert combined[start + 4][1:5] == [
            "precision",
            "recall",
            "f1-score",
            "support",
        ]
        rows = combined[start + 5 : start + 8]
        assert [row[0] for row in rows] == ["Avg Accuracy", "macro avg", "weighted avg"]
        for down, row in enumerate(rows):
            formulas = [
                sheet.cell(top + 9 + down, column).value for column in range(2, 6)
            ]
            assert row[1:5] == pytest.approx([evaluate(sheet, f) for f in formulas])


def test_empty_scores_take_no_part_in_the_averages(tmp_path):
    frame = make_predictions(folds=2)
    frame = frame[(frame["fold"] == 1) | (frame["y_true"] < 2)]
    excel.write_summary_workbook(tmp_path / "s.xlsx", [make_run(predictions=frame)])
    sheet = openpyxl.load_workbook(tmp_path / "s.xlsx").worksheets[1]
    recall = sheet.cell(final_block(sheet) + 8, 3).value
    _, scores = by_hand(frame[frame["fold"] == 1], 3)
    assert evaluate(sheet, recall) == pytest.approx(scores[2][1])


@pytest.mark.parametrize("synthetic", [True, False])
@pytest.mark.parametrize("chosen_on", ["last", "test"])
def test_every_block_names_protocol_run_and_audio(tmp_path, synthetic, chosen_on):
    run = make_run(synthetic=synthetic, chosen_on=chosen_on)
    excel.write_summary_workbook(tmp_path / "s.xlsx", [run])
    book = openpyxl.load_workbook(tmp_path / "s.xlsx")
    blocks = [
        row[0]
        for row in grid(book.worksheets[1])
        if str(row[0]).startswith(("Fold ", "Final"))
    ] + [row[0] for row in grid(book.worksheets[0]) if "protocol" in str(row[0])]
    assert len(blocks) == 3 + 1 + 1
    for text in blocks:
        assert "protocol paper" in text and run.run_id in text
        assert ("synthetic" in text) == synthetic
        assert ("chosen on the test fold" in text) == (chosen_on == "test")


def test_the_summary_is_made_to_be_read(tmp_path):
    excel.write_summary_workbook(tmp_path / "s.xlsx", [make_run()])
    book = openpyxl.load_workbook(tmp_path / "s.xlsx")
    for sheet in book.worksheets:
        assert sheet.freeze_panes == "B4"
        assert sheet["A1"].font.bold
        assert sheet.column_dimensions["A"].width > 20
    sheet = book.worksheets[1]
    top = final_block(sheet)
    assert sheet.cell(top + 10, 3).number_format == "0.00%"
    assert sheet.cell(top + 10, 5).number_format == "0.0"
    assert book.calculation.fullCalcOnLoad
    link = book.worksheets[0].cell(5, 1).hyperlink
    assert link.location == f"'{book.sheetnames[1]}'!A1"


def test_sheet_names_are_legal_and_unique():
    ids = ["x" * 40 + "-11111111", "x" * 40 + "-22222222", "history", "a:b/c", "a?b*c"]
    ids += ["Combined Result", "same", "SAME", "", "it's"]
    names = summary.sheet_names(ids)
    assert len({name.lower() for name in names}) == len(ids)
    for name in names:
        assert 0 < len(name) <= 31
        assert not re.search(r"[\[\]:*?/\\']", name)
    assert "history" not in [name.lower() for name in names]
    assert "combined result" not in [name.lower() for name in names]
    assert names[0].endswith("11111111")


names = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=20)


@settings(max_examples=30, deadline=None)
@example("=1+1", "+1", "-a")
@example("@x", "#N/A", "=cmd|' /C calc'!A0")
@given(*(st.builds("{}{}".format, st.sampled_from(["", *"=+-@#%'"]), names),) * 3)
def test_labels_stay_text_in_both_workbooks(tmp_path_factory, one, two, three):
    labels = one, two, three
    folder = tmp_path_factory.mktemp("books")
    excel.write_summary_workbook(folder / "s.xlsx", [make_run(label_names=labels)])
    excel.write_official_workbook(folder / "o.xlsx", make_predictions(), labels)
    summed = openpyxl.load_workbook(folder / "s.xlsx").worksheets[1]
    matrix, report = openpyxl.load_workbook(folder / "o.xlsx").worksheets[:2]
    for cells_of_labels in (
        [*summed["A7":"A9"], *summed["B6":"D6"]],
        [*matrix["B2":"B4"], *matrix["C1":"E1"]],
        [*report["A2":"A4"]],
    ):
        found = [cell for row in cells_of_labels for cell in row]
        assert {cell.data_type for cell in found} == {"s"}
        assert [cell.value for cell in found] == [*labels, *labels][: len(found)]


def test_more_folds_than_a_function_takes_arguments():
    sheet = openpyxl.Workbook().active
    tops = [7 * fold for fold in range(1, 1001)]
    for place, top in enumerate(tops):
        sheet.cell(top + 2, 3, place)
    assert cells.formula("AVERAGE", sheet, tops[:255], 2, 3).count("(") == 1
    formula = cells.formula("AVERAGE", sheet, tops, 2, 3)
    assert formula.startswith("=AVERAGE((") and len(formula) <= 8192
    assert evaluate(sheet, formula) == pytest.approx(999 / 2)


def test_a_summary_of_nothing_says_so(tmp_path):
    excel.write_summary_workbook(tmp_path / "s.xlsx", [])
    cells = grid(openpyxl.load_workbook(tmp_path / "s.xlsx")["Combined Result"])
    assert any("no finished runs" in str(value) for row in cells for value in row)


def test_reported_runs_reads_what_a_run_leaves(tmp_path):
    folder = tmp_path / "DEMO-timnet-speaker-s1-00000000"
    folder.mkdir()
    document = {
        "schema_version": 2,
        "run_id": folder.name,
        "status": "done",
        "synthetic": True,
        "config": {"corpus": "DEMO", "model": "timnet", "protocol": "speaker"},
        "data": {"label_names": list(LABELS)},
        "folds": [{"fold": 1, "chosen_on": "validation"}],
    }
    (folder / "run.json").write_text(json.dumps(document))
    frame = make_predictions(folds=1).assign(speaker="01", sex="")
    frame["file"] = [f"{row}.wav" for row in frame.index]
    predictions.write(folder / "predictions.csv", frame)
    (run,) = excel.reported_runs(tmp_path, [folder.name])
    assert (run.corpus, run.chosen_on, run.synthetic) == ("DEMO", "validation", True)
    assert run.label_names == LABELS
    assert run.predictions["y_true"].tolist() == frame["y_true"].tolist()
    with pytest.raises(FileNotFoundError, match="no run"):
        excel.reported_runs(tmp_path, ["missing"])
