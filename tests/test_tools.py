"""The renderer and the demo, on small notebooks made here."""

import json

import nbformat
import pandas as pd
import pytest
from nbformat import v4
from test_compare import uar

from lib import config, runs
from lib.files import REPOSITORY, Workspace
from tools import demo, readme, render, student


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
    one = v4.new_output("stream", name="stderr", text="a\rb\n/ipykernel_1/2.py:3: c\n")
    assert render.cleaned(one).text == "b\ncell.py:3: c\n"


def test_the_check_finds_what_was_changed(rendered):
    error = v4.new_output("error", ename="ValueError", evalue="", traceback=[])
    table, figure = (
        v4.new_output("execute_result", data, execution_count=2)
        for data in ({"text/plain": "0   NaN"}, {"image/png": "iVBORw0KGgo="})
    )
    for changes, fault in (
        ({"source": "seed: int = 47"}, "its code, or a run that it reads, changed"),
        ({"execution_count": 7}, "its cells were not run once each"),
        ({"outputs": [error]}, "ValueError is in its outputs"),
        ({"outputs": [table]}, "cell [2] shows NaN"),
        ({"outputs": [figure]}, "cell [2]: a figure without text"),
        ({"outputs": [error], "metadata": {"tags": ["raises-exception"]}}, ""),
    ):
        notebook = nbformat.read(rendered, as_version=4)
        notebook.cells[1].update(nbformat.from_dict(changes))
        copy = rendered.with_name("copy.ipynb")
        nbformat.write(notebook, copy)
        found = "; ".join(render.check(copy))
        assert fault in found and bool(fault) == bool(found)


def test_the_demo_stops_at_the_first_failure_and_names_it(tmp_path, capsys):
    first = save(tmp_path / "01_one.ipynb", "1", "1 / 0")
    second = save(tmp_path / "02_two.ipynb", "2")
    message = r"01_one\.ipynb failed in cell \[2\]: ZeroDivisionError"
    with pytest.raises(RuntimeError, match=message):
        demo.run([first, second], tmp_path / "executed")
    assert "02_two" not in capsys.readouterr().out


def test_answers_of_students_stay_and_chapters_without_are_made(tmp_path, monkeypatch):
    monkeypatch.setattr(student, "REPOSITORY", tmp_path)
    for folder, names in (("notebooks", "ab"), ("student", "a")):
        (tmp_path / folder).mkdir()
        for name in names:
            save(tmp_path / folder / f"{name}.ipynb", folder)
    assert student.main() == 0
    made = (tmp_path / "student" / f"{name}.ipynb" for name in "ab")
    sources = [nbformat.read(path, as_version=4).cells[0].source for path in made]
    assert sources == ["student", "notebooks"]


def test_the_demo_reports_its_own_results_and_no_others(tmp_path):
    results = Workspace(tmp_path, tmp_path / "Datasets").results
    results.mkdir(parents=True)
    rows = [["DEMO", *["x"] * 2, *[0.31251] * 5], ["EMOVO", *["x"] * 2, *[0.5] * 5]]
    table = pd.DataFrame(rows, columns=demo.SHOWN)
    table.to_csv(results / "leaderboard.csv", index=False)
    said = demo.report(Workspace(tmp_path, tmp_path / "Datasets"), results / "demo")
    assert "0.313" in said and "EMOVO" not in said and str(results / "demo") in said


def test_the_scores_of_committed_runs_are_those_of_their_predictions():
    for path in readme.REFERENCE.rglob("run.json"):
        kept = json.loads(path.read_text("utf-8"))["metrics"]
        table = runs.read_predictions(path.with_name("predictions.csv"))
        folds = table.groupby("fold")[["y_true", "y_pred"]].apply(uar)
        found = [uar(table), folds.mean(), folds.std()]
        told = [kept[name]["uar"] for name in ("pooled", "mean", "sd")]
        assert told == pytest.approx(found, abs=1e-9), path


def test_the_tables_of_the_pages_are_those_of_the_code():
    pages = [(REPOSITORY / page).read_text("utf-8") for page in readme.PAGES]
    for text in pages:
        assert readme.filled(text) == text, "run `make readme`"
    assert (REPOSITORY / "docs/results.png").read_bytes() == readme.picture()
    for name in config.Parameters.model_fields:
        assert "".join(pages).count(f"\n| `{name}` | ") == 1
