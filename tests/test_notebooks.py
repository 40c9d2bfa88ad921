"""What every notebook promises: its form, parameters, outputs, exercises and quiz."""

import ast
import inspect
import re

import nbformat
import papermill
import pytest

from lib import config
from lib.files import REPOSITORY
from lib.models import timnet
from tools import render, student

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
EVERY_NOTEBOOK = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind):
    notebook = nbformat.read(path, as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def defaults(path):
    """Return names and values of the parameters, read as Python literals."""
    body = ast.parse(cells(path, "code")[1].source).body
    return {line.target.id: ast.literal_eval(line.value) for line in body}


@EVERY_NOTEBOOK
def test_the_head_is_bootstrap_parameters_and_validation(path):
    bootstrap, parameters, validation = cells(path, "code")[:3]
    assert bootstrap.source == cells(NOTEBOOKS[0], "code")[0].source
    assert parameters.metadata["tags"] == ["parameters"]
    assert "from_notebook(globals()" in validation.source
    first, *_ = parameters.source.split("\n# Further parameters")
    assert first.count("\n") < 8, "what a beginner may change is seen at once"
    # Papermill drops a line with a second "=" or a union, and a parameter that the
    # formatter has to fold; the comment is its help.
    form = r"[a-z]\w*: (str|int|float|bool|list|dict) = [^=|]+  # [^=|]+"
    for line in parameters.source.splitlines():
        assert re.fullmatch(form, line) or line.startswith("# Further parameters"), line
    given = defaults(path)
    assert list(papermill.inspect_notebook(str(path))) == list(given)
    config.validated(given)
    for cell in cells(path, "code")[2:]:
        for node in ast.walk(ast.parse(cell.source)):
            names = {one.asname or one.name for one in getattr(node, "names", [])}
            if isinstance(getattr(node, "ctx", None), ast.Store):
                names |= {getattr(node, "id", "")}
            assert not names & {*given}, cell.source


def test_a_parameter_has_one_default_in_all_notebooks():
    seen = {}
    for path in NOTEBOOKS:
        for name, value in defaults(path).items():
            assert seen.setdefault(name, value) == value, f"{name} in {path.stem}"


@EVERY_NOTEBOOK
def test_outputs_are_those_of_the_code_without_warnings_or_this_machine(path):
    assert render.check(path) == [], f"run: make render NAMES={path.stem[:2]}"
    assert str(REPOSITORY) not in path.read_text("utf-8")
    for cell in [*cells(path, "code"), *cells(path, "markdown")]:
        text = cell.source
        if cell.cell_type == "markdown":
            for link in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", text):
                assert (path.parent / link).exists(), link
        for output in cell.get("outputs", []):
            assert output.get("name") != "stderr", output.text
            shown = output.get("data", {}) | {"text/stream": output.get("text", "")}
            for kind in filter(re.compile("text/").match, shown):
                text += re.sub(r"base64,[A-Za-z0-9+/=\s]+", "", shown[kind])
        # A path that starts at the root, or a registry of packages.
        roots = r"(?<![\w./<])/(home|Users|root|tmp|var|mnt|opt|usr|work|private)/"
        elsewhere = rf"{roots}|[A-Z]:\\\\?\w|pypi\.|files\.pythonhosted|/simple/"
        assert not re.search(elsewhere, text), re.search(elsewhere, text)


def test_the_training_chapter_shows_the_network_as_it_is_built():
    outputs = sum((cell.outputs for cell in cells(NOTEBOOKS[2], "code")), [])
    shown = "".join(output.get("text", "") for output in outputs)
    for part in "build_timnet multi_scale temporal_aware_block weighted_sum".split():
        assert inspect.getsource(getattr(timnet, part)) in shown, "make render NAMES=02"


@EVERY_NOTEBOOK
def test_three_exercises_can_be_written_checked_and_handed_out(path):
    notebook = nbformat.read(path, as_version=4)
    own = [cell for cell in notebook.cells if student.kind(cell)]
    assert [student.kind(cell) for cell in own] == student.GROUP * 3
    levels = [re.match(r"### Exercise \d \((\w+)\)", task.source) for task in own[::4]]
    assert [level[1] for level in levels] == ["easy", "medium", "open"]
    first = notebook.cells.index(own[0])
    assert notebook.cells[first : first + 12] == own
    kept = "".join(cell.source for cell in notebook.cells if cell not in own)
    for task, answer, solution, check in zip(*[iter(own)] * 4, strict=True):
        (name,) = re.findall(r"^(answer_\w+) = None", answer.source, re.MULTILINE)
        assert name in solution.source and name in check.source and name in task.source
        assert solution.metadata["jupyter"]["source_hidden"]
        assert len(check.metadata["wrong"]) >= 2 and "<summary>Hint" in task.source
        assert name not in kept, "the other cells do not depend on an answer"
    given = student.student(notebook)
    assert len(given.cells) == len(notebook.cells) - 3
    assert not any(cell.get("outputs") for cell in given.cells)
    checks = [cell for cell in given.cells if student.kind(cell) == "check"]
    assert all(cell.metadata["jupyter"]["source_hidden"] for cell in checks)
    handed_out = "".join(map(str, given.cells))
    assert all(cell.source not in handed_out for cell in own[2::4])
    assert "wrong" not in {key for cell in given.cells for key in cell.metadata}


@EVERY_NOTEBOOK
def test_a_quiz_has_five_questions_and_explains_every_choice(path):
    prose = cells(path, "markdown")
    (quiz,) = [cell for cell in prose if "quiz" in cell.metadata.get("tags", [])]
    questions = re.split(r"^\*\*\d\. ", quiz.source, flags=re.MULTILINE)[1:]
    assert len(questions) == 5
    for question in questions:
        choices = question.split("<details><summary>")[1:]
        said = [choice.split("</summary>")[1].strip() for choice in choices]
        verdicts = sorted(text.split()[0] for text in said)
        assert verdicts in (["No."] * 2 + ["Right."], ["No."] * 3 + ["Right."])
        assert min(len(text.split()) for text in said) >= 6


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        ("a == 2, 'count your ears again'", "2 is right"),
        ("a in (2, 3), 'count your ears again'", "the check takes a = 3"),
        ("a == 2", "no help with a = None"),
    ],
)
def test_a_check_that_takes_a_wrong_answer_is_not_rendered(tmp_path, check, fault):
    told = {"answer": "a = None", "solution": "a = 2", "check": f"assert {check}"}
    told["end"] = "raise ValueError(f'{a} is right')"
    notebook, path = nbformat.v4.new_notebook(), tmp_path / "one.ipynb"
    for tag, source in told.items():
        given = {"tags": [tag], "wrong": ["a = 1", "a = 3"]}
        notebook.cells.append(nbformat.v4.new_code_cell(source, metadata=given))
    nbformat.write(notebook, path)
    with pytest.raises(RuntimeError, match=fault):
        render.render(path)
