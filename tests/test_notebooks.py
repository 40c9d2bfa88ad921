"""What every notebook promises: its form, its parameters, its outputs."""

import ast
import base64
import io
import re
import struct
import tokenize
from pathlib import Path

import nbformat
import papermill
import pytest
from nbformat import NotebookNode

from lib import config
from lib.files import REPOSITORY
from tools import render

COURSE = (
    "00_start_here",
    "01_preprocess",
    "02_train",
    "03_test",
    "04_tsne",
    "05_results",
    "06_models",
)
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
EVERY_NOTEBOOK = pytest.mark.parametrize(
    "path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS]
)


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def cells(path: Path, kind: str) -> list[NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == kind]


def markdown(path: Path) -> list[str]:
    return [cell.source for cell in cells(path, "markdown")]


def parameter_cells(path: Path) -> list[NotebookNode]:
    return [
        c for c in cells(path, "code") if "parameters" in c.metadata.get("tags", [])
    ]


def parameter_lines(path: Path) -> list[str]:
    (cell,) = parameter_cells(path)
    return [line for line in cell.source.splitlines() if line.strip()]


def defaults(path: Path) -> dict[str, object]:
    """Return names and values of the parameters, read as Python literals."""
    found = {}
    for line in parameter_lines(path):
        (statement,) = ast.parse(line).body
        assert isinstance(statement, ast.AnnAssign), line
        found[statement.target.id] = ast.literal_eval(statement.value)
    return found


def words(text: str) -> int:
    return len(re.findall(r"\w+", text))


def png_size(data: bytes) -> tuple[int, int]:
    """Return width and height from a PNG's header (PNG specification, 11.2.2)."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR"
    return struct.unpack(">II", data[16:24])


def test_the_course_is_complete():
    assert set(COURSE) <= {path.stem for path in NOTEBOOKS}


# --- parameters -----------------------------------------------------------------------


@EVERY_NOTEBOOK
def test_every_parameter_line_is_name_type_literal_and_help(path):
    for line in parameter_lines(path):
        # Papermill drops a line with a second "=" or a union, and a parameter that
        # the formatter has to fold.
        assert line.count("=") == 1 and "|" not in line and len(line) <= 88, line
        assert re.fullmatch(r"[a-z]\w*: (str|int|float|bool|list|dict) = .+", line), (
            line
        )
        tokens = tokenize.generate_tokens(io.StringIO(line).readline)
        comments = [t.string for t in tokens if t.type == tokenize.COMMENT]
        assert comments and words(comments[0]) >= 2, f"no help: {line}"


@EVERY_NOTEBOOK
def test_parameters_are_known_and_their_defaults_valid(path):
    given = defaults(path)
    assert list(papermill.inspect_notebook(str(path))) == list(given)
    assert set(given) <= set(config.Parameters.model_fields)
    config.validated(given)


def test_a_parameter_has_one_default_in_all_notebooks():
    seen: dict[str, dict[str, list[str]]] = {}
    for path in NOTEBOOKS:
        for name, value in defaults(path).items():
            seen.setdefault(name, {}).setdefault(repr(value), []).append(path.stem)
    assert {name: given for name, given in seen.items() if len(given) > 1} == {}


# --- form -----------------------------------------------------------------------------


def test_all_notebooks_begin_with_the_same_code():
    heads = {cells(path, "code")[0].source: path.stem for path in NOTEBOOKS}
    assert len(heads) <= 1, f"different first cells: {sorted(heads.values())}"


@EVERY_NOTEBOOK
def test_the_head_is_bootstrap_parameters_and_validation(path):
    bootstrap, parameters, validation = cells(path, "code")[:3]
    assert not bootstrap.metadata.get("tags")
    assert "parameters" in parameters.metadata.get("tags", [])
    assert "from_notebook(globals()" in validation.source


@EVERY_NOTEBOOK
def test_links_and_chapters_exist(path):
    for source in markdown(path):
        for link in re.findall(r"\]\((?!https?://|#|attachment:)([^)#\s]+)", source):
            assert (path.parent / link).exists(), link


# --- outputs --------------------------------------------------------------------------


@EVERY_NOTEBOOK
def test_outputs_are_those_of_the_code(path):
    assert render.check(path) == [], f"run: make render NAMES={path.stem[:2]}"


@EVERY_NOTEBOOK
def test_nothing_of_this_machine_is_in_a_notebook(path):
    text = path.read_text("utf-8")
    folders = {str(REPOSITORY), str(Path.home()), str(REPOSITORY.parent) + "/"}
    assert [folder for folder in folders - {"/"} if folder in text] == []
    for cell in read(path).cells:
        readable = cell.source + "".join(map(_text_of, cell.get("outputs", [])))
        # A path that starts at the root, or a registry of packages.
        roots = r"(?<![\w./<])/(home|Users|root|tmp|var|mnt|opt|usr|work|private)/"
        assert not re.search(roots, readable), re.search(roots, readable)
        assert not re.search(r"[A-Z]:\\\\?\w", readable)
        assert not re.search(r"pypi\.|files\.pythonhosted|/simple/", readable)


def _text_of(output: NotebookNode) -> str:
    """Return what can be read of an output, without embedded sound and images."""
    if output.output_type == "stream":
        return output.text
    if output.output_type == "error":
        return "\n".join(output.traceback)
    text = [v for k, v in output.data.items() if k.startswith("text/")]
    return re.sub(r"base64,[A-Za-z0-9+/=\s]+", "", "\n".join(text))


@EVERY_NOTEBOOK
def test_every_image_shows_something(path):
    outputs = [output for cell in cells(path, "code") for output in cell.outputs]
    for output in outputs:
        for kind, content in output.get("data", {}).items():
            if kind.startswith("image/"):
                assert kind == "image/png"
                data = base64.b64decode(content)
                assert min(png_size(data)) >= 50 and len(data) > 1000


@EVERY_NOTEBOOK
def test_no_warning_is_left_in_the_outputs(path):
    streams = [
        output.text
        for cell in cells(path, "code")
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stderr"
    ]
    assert streams == []
