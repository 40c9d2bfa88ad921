"""The renderer and the demo, on small notebooks made here."""

import nbformat
import pytest
from nbformat import v4

from lib import config
from lib.files import REPOSITORY, Workspace
from tools import demo, readme, render


def save(path, *sources):
    notebook = v4.new_notebook(cells=[v4.new_code_cell(source) for source in sources])
    notebook.cells[0].metadata.tags = ["parameters"]
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, path)
    return path


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    path = save(
        tmp_path_factory.mktemp("notebooks") / "02_small.ipynb",
        "seed: int = 46  # seed of everything",
        f"print({str(REPOSITORY)!r} + '/MFCC/DEMO.npz')\nobject()",
        "from tqdm import tqdm\nfor _ in tqdm(range(3)):\n    print('.', end='')",
        "from tqdm.auto import tqdm\nfor _ in tqdm(range(3)):\n    pass",
    )
    render.render(path)
    return path


def test_a_rendered_notebook_holds_outputs_without_paths_addresses_and_bars(rendered):
    notebook = nbformat.read(rendered, as_version=4)
    code = notebook.cells
    assert [cell.execution_count for cell in code] == [1, 2, 3, 4]
    assert code[0].metadata == {"tags": ["parameters"]}
    assert code[1].outputs[0].text == "./MFCC/DEMO.npz\n"
    assert code[1].outputs[1].data["text/plain"] == "<object>"
    assert [output.text for output in code[2].outputs] == ["...\n"]
    assert code[3].outputs == []


ERROR = v4.new_output("error", ename="ValueError", evalue="", traceback=[])


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"source": "seed: int = 47"}, "its code changed after it was rendered"),
        ({"execution_count": 7}, "its cells were not run once each"),
        ({"outputs": [ERROR]}, "ValueError is in its outputs"),
        ({"outputs": [ERROR], "metadata": {"tags": ["raises-exception"]}}, ""),
    ],
)
def test_the_check_finds_what_was_changed(rendered, changes, fault):
    notebook = nbformat.read(rendered, as_version=4)
    notebook.cells[1].update(nbformat.from_dict(changes))
    copy = rendered.with_name("copy.ipynb")
    nbformat.write(notebook, copy)
    found = "; ".join(render.check(copy))
    assert fault in found and bool(fault) == bool(found)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("epoch 1\repoch 2\repoch 3\n", "epoch 3\n"),
        ("a warning\nfolds:  50%|#####     | 2/4 [00:01<00:01]\n", "a warning\n"),
        ("2025-01-02 03:04:05.678: I tensorflow/core/a.cc:210] rebuild\n", None),
        ("I0000 00:00:17.1 9 gpu_device.cc:2019] Created device\nkept\n", "kept\n"),
        ("/tmp/ipykernel_12/345.py:1: Warning: odd\n", "cell.py:1: Warning: odd\n"),
    ],
)
def test_streams_are_kept_as_a_terminal_would_show_them(content, expected):
    stream = v4.new_output("stream", name="stderr", text=content)
    cleaned = render.cleaned(stream)
    assert (cleaned and cleaned.text) == expected


def test_the_demo_stops_at_the_first_failure_and_names_it(tmp_path, capsys):
    first = save(tmp_path / "01_one.ipynb", "1", "1 / 0")
    second = save(tmp_path / "02_two.ipynb", "2")
    message = r"01_one\.ipynb failed in cell \[2\]: ZeroDivisionError"
    with pytest.raises(RuntimeError, match=message):
        demo.run([first, second], tmp_path / "executed")
    assert "02_two" not in capsys.readouterr().out


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
    for name in config.Parameters.model_fields:
        assert "".join(pages).count(f"\n| `{name}` | ") == 1
    assert "| `EMODB` | German | 7 | 10 | 535 |" in "".join(pages)
