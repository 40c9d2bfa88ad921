"""Exercises, quizzes and the student edition; `test_chain` runs what is in them."""

import re

import nbformat
import pytest

from lib.files import REPOSITORY
from tools import student

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
EVERY_NOTEBOOK = pytest.mark.parametrize(
    "path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS]
)


@EVERY_NOTEBOOK
def test_three_exercises_can_be_written_checked_and_handed_out(path):
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if student.kind(cell)]
    assert [student.kind(cell) for cell in cells] == student.GROUP * (len(cells) // 4)
    levels = [
        re.match(r"### Exercise \d \((\w+)\)", cell.source) for cell in cells[::4]
    ]
    assert [level[1] for level in levels] == ["easy", "medium", "open"]
    for task, answer, solution, check in zip(*[iter(cells)] * 4, strict=True):
        (name,) = re.findall(r"^(answer_\w+) = None", answer.source, re.MULTILINE)
        places = [
            notebook.cells.index(cell) for cell in (task, answer, solution, check)
        ]
        assert places == list(range(places[0], places[0] + 4))
        assert name in solution.source and name in check.source and name in task.source
        assert solution.metadata["jupyter"]["source_hidden"]
        assert len(check.metadata["wrong"]) >= 2 and "<summary>Hint" in task.source
        kept = "".join(cell.source for cell in notebook.cells if cell not in cells)
        assert name not in kept, "the other cells do not depend on an answer"
    given = student.student(notebook)
    assert len(given.cells) == len(notebook.cells) - 3
    assert not any(cell.get("outputs") for cell in given.cells)
    kept = "".join(map(str, given.cells))
    assert all(cell.source not in kept for cell in cells[2::4])
    assert "wrong" not in {key for cell in given.cells for key in cell.metadata}


@EVERY_NOTEBOOK
def test_a_quiz_has_five_questions_and_explains_every_choice(path):
    cells = nbformat.read(path, as_version=4).cells
    (quiz,) = [cell for cell in cells if "quiz" in cell.metadata.get("tags", [])]
    questions = re.split(r"^\*\*\d\. ", quiz.source, flags=re.MULTILINE)[1:]
    assert len(questions) == 5
    for question in questions:
        choices = question.split("<details><summary>")[1:]
        said = [choice.split("</summary>")[1].strip() for choice in choices]
        assert 3 <= len(said) <= 4
        assert sum(text.startswith("Right.") for text in said) == 1
        assert sum(text.startswith("No.") for text in said) == len(said) - 1
        assert min(len(text.split()) for text in said) >= 6


def test_a_check_that_takes_a_wrong_answer_is_found():
    def cell(kind, source, **metadata):
        return nbformat.v4.new_code_cell(source, metadata={"tags": [kind], **metadata})

    def trial(check, wrong):
        stub, solution = cell("answer", "a = None"), cell("solution", "a = 2")
        parts = [stub, solution, cell("check", check, wrong=wrong)]
        made = student.tried(nbformat.v4.new_notebook(cells=parts))
        space = {}
        for part in made.cells:
            exec(part.source, space)
        return space["a"]

    assert trial("assert a == 2, 'a is the number of ears'", ["a = 1", "a = 3"]) == 2
    with pytest.raises(RuntimeError, match="the check takes a = 3"):
        trial("assert a in (2, 3), 'a is the number of ears'", ["a = 1", "a = 3"])
    with pytest.raises(AssertionError, match="no help with a = None"):
        trial("assert a == 2", [])
