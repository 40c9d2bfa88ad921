"""The renderer and the demo, on small notebooks made here."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from lib import config
from lib.files import REPOSITORY, Workspace
from lib.tools import demo, lock, outputs, readme, render

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


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def edit(path: Path, change) -> list[str]:
    """Return what the check says about a copy of a notebook after a change."""
    notebook = read(path)
    change(notebook)
    copy = path.with_name("copy.ipynb")
    nbformat.write(notebook, copy)
    return render.check(copy)


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


def test_a_rendered_notebook_holds_outputs_counts_tags_and_kernel(rendered):
    notebook = read(rendered)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3, 4, 5]
    assert code[0].metadata == {"tags": ["parameters"]}
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata) == {"kernelspec", "language_info", "workbook"}
    assert code[4].outputs[0].data["image/png"] == PIXEL


def test_a_rendered_notebook_names_no_path_address_or_progress(rendered):
    written = rendered.read_text("utf-8")
    code = [cell for cell in read(rendered).cells if cell.cell_type == "code"]
    assert code[1].outputs[0].text == "./MFCC/DEMO.npz\n"
    assert code[1].outputs[1].data["text/plain"] == "<object>"
    assert [output.text for output in code[2].outputs] == ["...\n"]
    assert code[3].outputs == []
    assert "widget" not in written.replace("widgets", "") and "it/s" not in written


def test_rendering_again_changes_nothing(rendered, tmp_path):
    again = tmp_path / rendered.name
    again.write_bytes(rendered.read_bytes())
    render.render(again)
    assert again.read_bytes() == rendered.read_bytes()


def test_the_check_passes_what_the_renderer_wrote_and_edited_prose(rendered):
    assert render.check(rendered) == []

    def prose(notebook):
        notebook.cells[0].source = "# Another title"

    assert edit(rendered, prose) == []


def test_the_check_finds_changed_code(rendered):
    def code(notebook):
        notebook.cells[1].source = "seed: int = 47  # seed of everything"

    assert edit(rendered, code) == ["its code changed after it was rendered"]


def test_the_check_finds_changed_outputs_and_counts(rendered):
    def result(notebook):
        notebook.cells[2].outputs[0].text = "UAR 100 %\n"

    def order(notebook):
        notebook.cells[2].execution_count = 7

    assert edit(rendered, result) == [
        "its outputs are not those that the renderer wrote"
    ]
    assert edit(rendered, order) == [
        "its cells were not run once each, from top to bottom"
    ]


def test_the_check_finds_stripped_outputs(rendered):
    def strip(notebook):
        for cell in notebook.cells[1:]:
            cell.outputs, cell.execution_count = [], None

    assert "it has no outputs" in edit(rendered, strip)


def test_the_check_finds_errors_but_those_shown_on_purpose(rendered):
    error = v4.new_output("error", ename="ValueError", evalue="", traceback=[])

    def fail(notebook):
        notebook.cells[2].outputs.append(error)

    def lesson(notebook):
        fail(notebook)
        notebook.cells[2].metadata.tags = ["raises-exception"]

    assert "ValueError is in its outputs" in edit(rendered, fail)
    assert "ValueError is in its outputs" not in edit(rendered, lesson)


def test_the_check_finds_a_heavy_notebook(rendered):
    def fatten(notebook):
        notebook.cells[0].source = "x" * 1_600_000

    assert edit(rendered, fatten) == ["it is 1.6 MB, more than 1.5 MB"]


def test_the_check_finds_a_notebook_that_was_never_rendered(tmp_path):
    assert render.check(save(tmp_path / "01_new.ipynb", "1")) == [
        "it was never rendered"
    ]


def test_a_failing_notebook_is_named_and_left_as_it_was(tmp_path):
    path = save(tmp_path / "03_bad.ipynb", "1", "raise KeyError('fold_03')")
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match=r"(?s)03_bad\.ipynb.*KeyError.*fold_03"):
        render.render(path)
    assert path.read_bytes() == before


def test_cell_ids_are_unique_stable_and_reproducible(tmp_path):
    path = save(tmp_path / "02_small.ipynb", "1", "2")
    raw = json.loads(path.read_text("utf-8"))
    raw["nbformat_minor"] = 4
    raw["cells"][0]["id"] = raw["cells"][1]["id"] = "kept"
    del raw["cells"][2]["id"]
    path.write_text(json.dumps(raw), "utf-8")
    first, second = ([cell.id for cell in render.read(path).cells] for _ in range(2))
    assert first == second
    assert first[0] == "kept" and len(set(first)) == 3


def test_names_choose_notebooks_by_their_beginning(tmp_path):
    for name in ("01_preprocess", "02_train", "03_test"):
        save(tmp_path / f"{name}.ipynb", "1")

    def chosen(*names):
        return [path.stem for path in render.find(names, tmp_path)]

    assert chosen() == ["01_preprocess", "02_train", "03_test"]
    assert chosen("03", "notebooks/01_preprocess.ipynb") == ["01_preprocess", "03_test"]
    with pytest.raises(ValueError, match="'09'.*there are: 01_preprocess"):
        render.find(["09"], tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("epoch 1\repoch 2\repoch 3\n", "epoch 3\n"),
        ("a warning\nfolds:  50%|#####     | 2/4 [00:01<00:01]\n", "a warning\n"),
        ("2025-01-02 03:04:05.678: I tensorflow/core/a.cc:210] rebuild\n", None),
        ("I0000 00:00:17.1 9 gpu_device.cc:2019] Created device\nkept\n", "kept\n"),
        (
            "/tmp/ipykernel_12/345.py:1: UserWarning: odd\n",
            "cell.py:1: UserWarning: odd\n",
        ),
        (f"in {REPOSITORY}-copy/x\n", f"in {REPOSITORY}-copy/x\n"),
    ],
)
def test_streams_are_kept_as_a_terminal_would_show_them(content, expected):
    stream = v4.new_output("stream", name="stderr", text=content)
    cleaned = [output.text for output in outputs.clean([stream], REPOSITORY)]
    assert cleaned == ([] if expected is None else [expected])


def test_only_png_is_kept_of_the_images():
    figure = v4.new_output(
        "display_data",
        {"image/png": PIXEL, "image/svg+xml": "<svg/>", "text/plain": "<Figure>"},
        metadata={"image/png": {"width": 3}},
    )
    (kept,) = outputs.clean([figure], REPOSITORY)
    assert kept.data == {"image/png": PIXEL, "text/plain": "<Figure>"}
    assert kept.metadata == {"image/png": {"width": 3}}


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
    executed = sorted(path.name for path in (tmp_path / "executed").iterdir())
    assert executed == ["01_one.ipynb", "02_two.ipynb"]
    assert "[1/3] 01_one" in capsys.readouterr().out


def test_the_demo_says_which_notebook_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"04_tsne\.ipynb is missing"):
        demo.run([tmp_path / "04_tsne.ipynb"], tmp_path / "executed")


def test_the_demo_reports_results_figures_and_notebooks(tmp_path):
    workspace = Workspace(tmp_path, tmp_path / "Datasets")
    with pytest.raises(FileNotFoundError, match="05_results"):
        demo.report(workspace, workspace.results / "demo")
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


def test_only_the_cuda_list_asks_for_cuda():
    text = 'tensorflow-cpu==2.19.1 ; sys_platform == "linux"\nkeras==3.15.1\n'
    assert lock.direct_for("linux-cuda", text).startswith(
        "tensorflow[and-cuda]==2.19.1"
    )
    assert all(
        lock.direct_for(name, text) == text
        for name in ("linux-cpu", "linux-arm64", "macos-arm64")
    )


def test_the_lock_says_that_it_needs_uv(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert lock.main([]) == 1
    assert "needs uv" in capsys.readouterr().err


def test_the_tables_of_the_readme_are_those_of_the_code():
    text = readme.README.read_text("utf-8")
    assert readme.filled(text) == text, "run `make readme`"
    for name in config.Parameters.model_fields:
        assert len(re.findall(rf"^\| `{name}` \| ", text, re.MULTILINE)) == 1
    assert "| `EMODB` | German | 7 | 10 | 535 |" in text
    assert re.search(r"^\| `paper_best` .*no \| \*\*test part: a leak", text, re.M)


def test_a_readme_marker_for_no_table_is_an_error():
    with pytest.raises(ValueError, match="'weather'"):
        readme.filled("<!-- table: weather -->\n<!-- end -->")
