"""What every notebook promises: its form, its parameters, its outputs."""

import ast
import re

import nbformat
import papermill
import pytest

from lib import config
from lib.files import REPOSITORY
from tools import render

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
EVERY_NOTEBOOK = pytest.mark.parametrize(
    "path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS]
)


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
    for line in parameters.source.splitlines():
        if line.startswith("# Further parameters"):
            continue
        # Papermill drops a line with a second "=" or a union, and a parameter that
        # the formatter has to fold; the comment is its help.
        assert re.fullmatch(
            r"[a-z]\w*: (str|int|float|bool|list|dict) = [^=|]+  # [^=|]+", line
        ), line
    given = defaults(path)
    assert list(papermill.inspect_notebook(str(path))) == list(given)
    config.validated(given)
    # A parameter hides the module of its name until the validation imports it.
    for cell in cells(path, "code")[3:]:
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                imported = {alias.asname or alias.name for alias in node.names}
                assert not imported & {*given}, cell.source


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
