"""The renderer and the demo, on small notebooks made here."""

import re
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from lib import config
from lib.files import REPOSITORY, Workspace
from tools import demo, readme, render

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
    "AABJRU5ErkJggg=="
)


def save(path: Path, *sources: str, tags: tuple[str, ...] = ()) -> Path:
    cells = [v4.new_markdown_cell("# A title")]
    cells += [v4.new_code_cell(source) for source in sources]
    cells[1].metadata.tags = list(tags)
    notebook = v4.new_notebook(cells=cells)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, path)
    return path


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> Path:
    path = save(
        tmp_path_factory.mktemp("notebooks") / "02_small.ipynb",
        "seed: int = 46  # seed of everything",
        f"print({str(REPOSITORY)!r} + '/MFCC/DEMO.npz')\nobject()",
        "from tqdm import tqdm\nfor _ in tqdm(range(3)):\n    print('.', end='')",
        "from tqdm.auto import tqdm\nfor _ in tqdm(range(3)):\n    pass",
        f"from IPython.display import Image\nimport base64\n"
        f"Image(base64.b64decode({PIXEL!r}))",
        tags=("parameters",),
    )
    render.render(path)
    return path


def test_a_rendered_notebook_holds_outputs_without_paths_addresses_and_bars(rendered):
    notebook = nbformat.read(rendered, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3, 4, 5]
    assert code[0].metadata == {"tags": ["parameters"]}
    assert set(notebook.metadata) == {"kernelspec", "language_info", "workbook"}
    assert code[1].outputs[0].text == "./MFCC/DEMO.npz\n"
    assert code[1].outputs[1].data["text/plain"] == "<object>"
    assert [output.text for output in code[2].outputs] == ["...\n"]
    assert code[3].outputs == []
    assert code[4].outputs[0].data["image/png"] == PIXEL
    assert render.check(rendered) == []


def change(notebook, what):
    second = notebook.cells[2]
    if what == "code":
        notebook.cells[1].source = "seed: int = 47  # seed of everything"
    elif what == "order":
        second.execution_count = 7
    elif what in ("error", "lesson"):
        error = v4.new_output("error", ename="ValueError", evalue="", traceback=[])
        second.outputs.append(error)
        second.metadata.tags = ["raises-exception"] if what == "lesson" else []
    elif what == "heavy":
        notebook.cells[0].source = "x" * 1_600_000
    elif what == "stripped":
        for cell in notebook.cells[1:]:
            cell.outputs, cell.execution_count = [], None


@pytest.mark.parametrize(
    ("what", "faults"),
    [
        ("code", "its code changed after it was rendered"),
        ("order", "its cells were not run once each, from top to bottom"),
        ("error", "ValueError is in its outputs"),
        ("lesson", ""),
        ("heavy", "it is 1.6 MB, more than 1.5 MB"),
        ("stripped", "it has no outputs"),
    ],
)
def test_the_check_finds_what_was_changed(rendered, what, faults):
    notebook = nbformat.read(rendered, as_version=4)
    change(notebook, what)
    copy = rendered.with_name("copy.ipynb")
    nbformat.write(notebook, copy)
    assert faults in "; ".join(render.check(copy))
    assert bool(faults) == bool(render.check(copy))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("epoch 1\repoch 2\repoch 3\n", "epoch 3\n"),
        ("a warning\nfolds:  50%|#####     | 2/4 [00:01<00:01]\n", "a warning\n"),
        ("2025-01-02 03:04:05.678: I tensorflow/core/a.cc:210] rebuild\n", None),
        ("I0000 00:00:17.1 9 gpu_device.cc:2019] Created device\nkept\n", "kept\n"),
        ("/tmp/ipykernel_12/345.py:1: Warning: odd\n", "cell.py:1: Warning: odd\n"),
        (f"in {REPOSITORY}-copy/x\n", f"in {REPOSITORY}-copy/x\n"),
    ],
)
def test_streams_are_kept_as_a_terminal_would_show_them(content, expected):
    stream = v4.new_output("stream", name="stderr", text=content)
    cleaned = render.cleaned(stream)
    assert (cleaned and cleaned.text) == expected


def test_the_demo_stops_at_the_first_failure_and_names_it(tmp_path, capsys):
    chapters = [
        save(tmp_path / "01_one.ipynb", "open('one.txt', 'w').write('1')"),
        save(tmp_path / "02_two.ipynb", "1", "1 / 0"),
        save(tmp_path / "03_three.ipynb", "open('three.txt', 'w').write('3')"),
    ]
    with pytest.raises(
        RuntimeError, match=r"02_two\.ipynb failed in cell \[2\]: ZeroDivisionError"
    ):
        demo.run(chapters, tmp_path / "executed")
    assert (tmp_path / "one.txt").exists() and not (tmp_path / "three.txt").exists()
    assert "[1/3] 01_one" in capsys.readouterr().out


def test_the_demo_reports_results_figures_and_notebooks(tmp_path):
    workspace = Workspace(tmp_path, tmp_path / "Datasets")
    run = workspace.results / "DEMO-timnet-speaker-s46-00000000"
    run.mkdir(parents=True)
    (run / "confusion.png").touch()
    (workspace.results / "leaderboard.csv").write_text(
        "corpus,model,protocol,uar,uar_low,uar_high,war,war_low,macro_f1\n"
        "DEMO,timnet,speaker,0.31251,0.25,0.375,0.3333,0.1,0.3\n"
        "EMOVO,timnet,paper,0.98765,0.9,0.99,0.9,0.9,0.9\n"
    )
    said = demo.report(workspace, workspace.results / "demo")
    # Generated speech only: other runs of the user are not the demo's.
    assert "0.313" in said and "EMOVO" not in said
    assert str(run) in said and str(workspace.results / "demo") in said


def test_the_tables_of_the_pages_are_those_of_the_code():
    pages = [(REPOSITORY / page).read_text("utf-8") for page in readme.PAGES]
    for text in pages:
        assert readme.filled(text) == text, "run `make readme`"
    text = "".join(pages)
    for name in config.Parameters.model_fields:
        assert len(re.findall(rf"^\| `{name}` \| ", text, re.MULTILINE)) == 1
    assert "| `EMODB` | German | 7 | 10 | 535 |" in text
    assert re.search(r"^\| `paper_best` .*no \| \*\*test part: a leak", text, re.M)
