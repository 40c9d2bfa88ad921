"""The notebooks work through papermill, and say clearly what is wrong."""

import json
import re

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
import soundfile
from papermill.exceptions import PapermillExecutionError

from lib import corpora, features, planning, train
from lib.device import select
from lib.files import REPOSITORY, Workspace
from lib.sweeps import TESTED, Study
from tools import student

pytestmark = pytest.mark.slow
CHAPTERS = "01_preprocess 02_train 03_test 04_tsne 05_results 08_leakage".split()


def execute(name, folder, **parameters):
    """Run a notebook in a workspace of its own; return the text that it printed.

    As a student might, it gives wrong answers to every exercise before the right one.
    """
    notebook = nbformat.read(REPOSITORY / "notebooks" / f"{name}.ipynb", as_version=4)
    nbformat.write(student.tried(notebook), folder / "tried.ipynb")
    notebook = papermill.execute_notebook(
        str(folder / "tried.ipynb"),
        str(folder / f"{name}.ipynb"),
        parameters={"workspace": str(folder / "work")} | parameters,
        progress_bar=False,
        kernel_name="python3",
        cwd=str(REPOSITORY),
    )
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    return "".join(out.get("text", "") for out in outputs)


def test_the_chain_leaves_the_files_of_the_design(tmp_path):
    """Run chapters on a DEMO of their own making; a network of two blocks is brief."""
    chosen = {"epochs": 2, "model_options": {"dilations": 2, "filters": 8}}
    own, said = {"02_train": chosen, "08_leakage": {"epochs": 1}}, {}
    for name in CHAPTERS:
        said[name] = execute(name, tmp_path, **own.get(name, {}))
    assert "The speech is generated" in said["03_test"]
    chain = tmp_path / "work"
    assert (chain / "MFCC" / "DEMO-timnet.npz").is_file()
    (results,) = chain.glob("Results/DEMO-timnet-speaker-s46-*")
    manifest = json.loads((results / "run.json").read_text())
    assert manifest["status"] == "done" and manifest["synthetic"]
    assert len(list((chain / "Models" / results.name).glob("fold_0?.keras"))) == 4
    table = pd.read_csv(results / "predictions.csv")
    embeddings = np.load(results / "embeddings.npz", allow_pickle=False)
    assert len(embeddings["z"]) == len(table) == manifest["data"]["audit"]["used"]
    figures = "confusion recall speakers reliability tsne tsne_grid purity".split()
    assert {path.stem for path in results.glob("*.png")} >= set(figures)
    war = round(10_000 * manifest["metrics"]["mean"]["war"]) / 100
    (book,) = results.glob(f"DEMO_4fold_{war}_46_*.xlsx")
    assert re.search(r"_20\d\d-\d\d-\d\d_\d\d-\d\d-\d\d.xlsx$", book.name)
    assert (chain / "Results" / "Accuracy Analysis Summary.xlsx").is_file()
    right = table["y_pred"] == table["y_true"]
    (row,) = pd.read_csv(chain / "Results" / "leaderboard.csv").itertuples()
    assert row.run_id == results.name and "synthetic" in row.warning
    assert row.uar == pytest.approx(right.groupby(table["y_true"]).mean().mean())
    assert not list(chain.rglob(".partial-*"))
    assert "test clips right" in execute("00_start_here", tmp_path)  # trains a run


def test_the_chapter_of_models_holds_with_networks_of_one_epoch(tmp_path):
    said = execute("06_models", tmp_path, epochs=1)
    assert said.count("Right: ") == 3 and "All checks hold." in said


def test_the_chapter_of_ablations_writes_the_report_of_a_study(tmp_path):
    workspace = Workspace(tmp_path / "work")
    study = Study("demo", workspace)
    table, cpu = study.plan(), select("cpu")
    for cell in study.cells({}):
        corpus, data = features.obtain(cell.params)
        plans = []
        for seed in study.sweep().seeds:
            params = cell.params.model_copy(update={"seed": seed})
            plans.append(planning.make_plan(params, data, corpus))
        for folders in train.train(plans, data, workspace, device=cpu, verbose=0):
            (folders.results / TESTED).touch()
    said = execute("07_ablations", tmp_path)
    assert f"{len(table)} runs: {len(table)} done" in said
    assert said.count("Right: ") == 3 and "All checks hold." in said
    report = {path.suffix for path in (study.folders.results / "report").iterdir()}
    assert report == {".md", ".tex", ".csv", ".xlsx", ".pdf", ".png"}


def test_a_damaged_corpus_is_refused_unless_told(tmp_path):
    datasets, source = tmp_path / "Datasets", tmp_path / "mine"
    rng = np.random.default_rng(0)
    for label in ("calm", "cross"):
        (source / label).mkdir(parents=True)
        for index in range(4):
            noise = 0.1 * rng.normal(size=12_000)
            soundfile.write(source / label / f"{index}.wav", noise, 16_000)
    corpora.register("MINE", source, datasets)
    whole = (source / "calm" / "1.wav").read_bytes()
    (source / "calm" / "1.wav").write_bytes(whole[: len(whole) // 2])
    (source / "cross" / "2.wav").write_bytes(b"")
    given = {"corpus": "MINE", "datasets_dir": str(datasets)}
    said = "(?s)ValueError.*cross/2.wav.*calm/1.wav.*ignore_problems"
    with pytest.raises(PapermillExecutionError, match=said):
        execute("01_preprocess", tmp_path, **given)
    chosen = {"model": "majority", "protocol": "repeated_holdout", "folds": 3}
    said = execute("02_train", tmp_path, ignore_problems=True, **chosen, **given)
    assert "8 found, 6 used, 2 left out" in said and "calm/1.wav" in said
    assert "All checks hold." in execute("03_test", tmp_path, **given)
