"""The workbooks hold what counting by hand gives."""

import re

import numpy as np
import openpyxl
import pandas as pd
import pytest
from test_runs import make_manifest, write_run

from lib import excel

LABELS = ("angry", "happy", "sad")


def make_predictions():
    """Return predictions of three folds that test the last class most."""
    rng = np.random.default_rng(0)
    y_true = np.tile(np.minimum(np.arange(12) % 5, 2), 3)
    y_pred = np.where(rng.random(36) < 0.6, y_true, rng.integers(0, 3, 36))
    fold = np.repeat([1, 2, 3], 12)
    return pd.DataFrame({"fold": fold, "y_true": y_true, "y_pred": y_pred})


def by_hand(rows):
    """Return counts[true][predicted] and (precision, recall, f1, support) rows."""
    counts = np.zeros((3, 3), int)
    np.add.at(counts, (rows["y_true"], rows["y_pred"]), 1)
    hits, support, called = counts.diagonal(), counts.sum(1), counts.sum(0)
    scores = [hits / called, hits / support, 2 * hits / (called + support), support]
    return counts, np.array(scores).T


def grid(sheet):
    return [list(row) for row in sheet.iter_rows(values_only=True)]


def written(folder, frame, label_names=LABELS, ids=("EMODB-0123abcd",), **changes):
    """Write runs and their summary; return the workbook."""
    frame = frame.assign(speaker="01", sex="", file=[f"{i}.wav" for i in frame.index])
    for run_id in ids:
        document = make_manifest(run_id, **changes)
        document["data"]["label_names"] = list(label_names)
        write_run(folder, run_id, document)
        frame.to_csv(folder / run_id / "predictions.csv", index=False)
    excel.write_summary_workbook(folder / "s.xlsx", folder, ids)
    return openpyxl.load_workbook(folder / "s.xlsx")


def test_official_sheets_hold_what_counting_by_hand_gives(tmp_path):
    frame = make_predictions()
    excel.write_official_workbook(tmp_path / "o.xlsx", frame, LABELS)
    book = openpyxl.load_workbook(tmp_path / "o.xlsx")
    assert book.sheetnames == "0 0_evaluate 1 1_evaluate 2 2_evaluate".split()
    for fold, rows in frame.groupby("fold"):
        counts, scores = by_hand(rows)
        matrix = grid(book[str(fold - 1)])
        assert matrix[0] == [None, " ", *LABELS]
        for predicted, row in enumerate(matrix[1:]):  # true classes are columns
            assert row == [predicted, LABELS[predicted], *counts[:, predicted]]
        report = grid(book[f"{fold - 1}_evaluate"])
        assert report[0] == [None, "precision", "recall", "f1-score", "support"]
        averaged = ["accuracy", "macro avg", "weighted avg"]
        assert [row[0] for row in report[1:]] == [*LABELS, *averaged]
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
    # Mean recall of the two classes that are there, not of three.
    assert rows[5][2] == pytest.approx((1 + 0.5) / 2)
    # And in the averages over folds, the fold takes no part.
    frame = make_predictions()
    frame = frame[(frame["fold"] == 1) | (frame["y_true"] < 2)]
    _, report = final_block(written(tmp_path, frame).worksheets[1])
    _, scores = by_hand(frame[frame["fold"] == 1])
    assert report[2, :3] == pytest.approx(scores[2, :3])


def evaluate(sheet, formula):
    """Return what a spreadsheet program makes of a SUM or AVERAGE of cells."""
    pattern = r"=(SUM|AVERAGE)\(\(?([A-Z0-9,]+)\)?\)"
    function, cells = re.fullmatch(pattern, formula).groups()
    values = [sheet[cell].value for cell in cells.split(",")]
    present = [value for value in values if value is not None]
    return sum(present) / (len(present) if function == "AVERAGE" else 1)


def final_block(sheet):
    """Yield the matrix and the report of the last block as computed."""
    (top,) = (c.row for c in sheet["A"] if str(c.value).startswith("Final"))
    matrix = sheet.iter_rows(top + 2, top + 4, 2, 4)
    report = sheet.iter_rows(top + 6, top + 11, 2, 5)
    for rows in (matrix, report):
        yield np.array([[evaluate(sheet, cell.value) for cell in row] for row in rows])


def test_the_summary_averages_the_folds(tmp_path):
    frame = make_predictions()
    ids = ["EMODB-timnet-paper-s46-0123abcd", "RAVDESS-timnet-speaker-s1-89abcdef"]
    book = written(tmp_path, frame, ids=ids)
    # A name has 31 characters at most: a longer id keeps its head and its digits.
    names = [ids[0], "RAVDESS-timnet-speaker-89abcdef"]
    assert book.sheetnames == ["Combined Result", *names]
    matrix, report = final_block(book.worksheets[1])
    folds = [by_hand(rows) for _, rows in frame.groupby("fold")]
    assert np.array_equal(matrix, sum(counts for counts, _ in folds).T)
    assert report[:3] == pytest.approx(sum(scores for _, scores in folds) / 3)
    uar = np.mean([scores[:, 1].mean() for _, scores in folds])
    war = np.mean([counts.trace() / 12 for counts, _ in folds])
    assert report[3] == pytest.approx(np.full(4, war))
    assert report[4, 1] == pytest.approx(uar)
    combined = grid(book.worksheets[0])
    for start, name in zip((3, 12), names, strict=True):
        assert combined[start][0] == "EMODB · timnet"
        link = book.worksheets[0].cell(start + 2, 1).hyperlink
        assert link.target == f"#'{name}'!A1"
        assert combined[start + 2][:2] == ["Emotions: 3", "Fold: 3"]
        means = ["Avg Acc", pytest.approx(uar), "Avg Weight", pytest.approx(war)]
        assert combined[start + 3][:4] == means
        titles, *columns = zip(*combined[start + 5 : start + 8], strict=True)
        assert titles == ("Avg Accuracy", "macro avg", "weighted avg")
        assert np.transpose(columns) == pytest.approx(report[3:])
    assert book.calculation.fullCalcOnLoad


def test_blocks_name_protocol_run_and_audio_and_labels_stay_text(tmp_path):
    labels, frame = ("=1+1", "#N/A", "@x"), make_predictions()
    for synthetic, chosen_on in ((True, "last"), (False, "test")):
        own = {"synthetic": synthetic, "chosen_on": chosen_on}
        book = written(tmp_path, frame, labels, **own)
        texts = [str(cell.value) for sheet in book for cell in sheet["A"]]
        marked = [text for text in texts if "protocol speaker" in text]
        assert len(marked) == 6  # three folds, their mean, and both titles
        for text in marked:
            assert "run EMODB-0123abcd" in text and ("synthetic" in text) == synthetic
            assert ("chosen on the test fold" in text) == (chosen_on == "test")
    summed = book.worksheets[1]
    excel.write_official_workbook(tmp_path / "o.xlsx", frame, labels)
    matrix, report = openpyxl.load_workbook(tmp_path / "o.xlsx").worksheets[:2]
    columns = summed["A7":"A9"], matrix["B2":"B4"], report["A2":"A4"]
    found = [[cell for (cell,) in cells] for cells in columns]
    found += [summed["B6":"D6"][0], matrix["C1":"E1"][0]]
    for cells in found:
        assert [cell.value for cell in cells] == list(labels)
        assert {cell.data_type for cell in cells} == {"s"}
