"""The notebooks work through papermill, and say clearly what is wrong."""

import json
import os
import re

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
import soundfile
from papermill.exceptions import PapermillExecutionError

from lib import corpora
from lib.files import REPOSITORY

CHAPTERS = ("01_preprocess", "02_train", "03_test", "04_tsne", "05_results")


def execute(name, folder, **parameters):
    """Run a notebook in a workspace of its own; return where it was written."""
    target = folder / f"{name}.ipynb"
    folder.mkdir(parents=True, exist_ok=True)
    papermill.execute_notebook(
        str(REPOSITORY / "notebooks" / f"{name}.ipynb"),
        str(target),
        parameters={"workspace": str(folder / "work"), **parameters},
        progress_bar=False,
        kernel_name="python3",
        cwd=str(REPOSITORY),
    )
    return target


def message_of(error):
    """Return the name and the text of the error that stopped a notebook."""
    return f"{error.value.ename}: {error.value.evalue}"


def outputs_of(path):
    """Return all text that the cells of an executed notebook printed."""
    cells = nbformat.read(path, 4).cells
    outputs = [out for cell in cells for out in cell.get("outputs", [])]
    return "".join(out.get("text", "") for out in outputs)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Run 01 to 05 on a DEMO of their own making, briefly."""
    folder = tmp_path_factory.mktemp("chain")
    settings = {"epochs": 2, "verbose": 2}
    for name in CHAPTERS:
        used = settings if name == "02_train" else {"verbose": 2}
        execute(name, folder, **used)
    return folder / "work"


@pytest.mark.slow
def test_the_chain_leaves_the_files_of_the_design(chain):
    assert (chain / "MFCC" / "DEMO-timnet.npz").is_file()
    about = json.loads((chain / "MFCC" / "DEMO-timnet.json").read_text())
    assert about["synthetic"]
    (results,) = chain.glob("Results/DEMO-timnet-speaker-s46-*")
    manifest = json.loads((results / "run.json").read_text())
    assert manifest["status"] == "done"
    assert manifest["synthetic"]
    assert len(manifest["folds"]) == 4
    table = pd.read_csv(results / "predictions.csv")
    assert len(table) == about["shape"][0]
    embeddings = np.load(results / "embeddings.npz", allow_pickle=False)
    assert len(embeddings["z"]) == len(table)
    assert list(results.glob("*.png"))
    assert list(results.glob("DEMO_4fold_*_46_*.xlsx"))
    assert (chain / "Results" / "leaderboard.csv").is_file()
    assert (chain / "Results" / "Accuracy Analysis Summary.xlsx").is_file()
    assert len(list((chain / "Models" / results.name).glob("fold_0?.keras"))) == 4
    assert not list(chain.rglob(".partial-*"))


@pytest.mark.slow
def test_the_leaderboard_holds_what_the_predictions_say(chain):
    (results,) = chain.glob("Results/DEMO-timnet-speaker-s46-*")
    table = pd.read_csv(results / "predictions.csv")
    recalls = [
        (part["y_pred"] == label).mean() for label, part in table.groupby("y_true")
    ]
    (row,) = pd.read_csv(chain / "Results" / "leaderboard.csv").itertuples()
    assert row.run_id == results.name
    assert row.uar == pytest.approx(np.mean(recalls))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("02_train", {"epoch_typo": 3}, "ValueError.*epoch_typo.*'epochs'"),
        ("01_preprocess", {"corpus": "EMODB"}, "FileNotFoundError.*EMODB"),
        ("03_test", {"run_id": "DEMO-nothing"}, "ValueError.*DEMO-nothing"),
        ("05_results", {}, "FileNotFoundError.*02_train"),
    ],
)
def test_bad_input_gets_one_clear_error(name, given, expected, tmp_path):
    with pytest.raises(PapermillExecutionError) as error:
        execute(name, tmp_path, **given)
    message = message_of(error)
    assert re.search(expected, message, re.DOTALL), message


@pytest.mark.slow
def test_a_damaged_corpus_is_refused_unless_told_and_stays_marked(tmp_path):
    """One silent, one cut and one foreign file among the user's own recordings."""
    datasets = tmp_path / "Datasets"
    source = tmp_path / "mine"
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
    given = {"corpus": "MINE", "datasets_dir": str(datasets), "verbose": 0}
    for name in ("01_preprocess", "02_train"):
        with pytest.raises(PapermillExecutionError) as error:
            execute(name, tmp_path, **given)
        message = message_of(error)
        assert "calm/1.wav" in message and "cross/2.wav" in message
        assert "ignore_problems" in message
    execute("01_preprocess", tmp_path, ignore_problems=True, **given)
    with np.load(tmp_path / "work" / "MFCC" / "MINE-timnet.npz") as file:
        assert len(file["x"]) == 6
        assert "calm/1.wav" not in file["file"].tolist()
    # Training takes the same clips and extracts nothing again.
    stamp = (tmp_path / "work" / "MFCC" / "MINE-timnet.npz").stat().st_mtime_ns
    chosen = {"model": "majority", "protocol": "stratified", "folds": 3}
    execute("02_train", tmp_path, ignore_problems=True, **chosen, **given)
    assert (tmp_path / "work" / "MFCC" / "MINE-timnet.npz").stat().st_mtime_ns == stamp
    said = outputs_of(execute("03_test", tmp_path, **given))
    assert "Errors ignored (" in said and "calm/1.wav" in said
    execute("05_results", tmp_path, corpus="MINE", workspace=str(tmp_path / "work"))
    (row,) = pd.read_csv(tmp_path / "work" / "Results" / "leaderboard.csv").itertuples()
    assert "errors ignored" in row.warning and "6 of 8 clips" in row.warning


@pytest.mark.slow
def test_a_workspace_that_cannot_be_written_is_named(tmp_path):
    if os.geteuid() == 0:
        blocked = tmp_path / "file"
        blocked.write_text("")  # root may write anywhere: a file is no folder
    else:
        blocked = tmp_path / "closed"
        blocked.mkdir(mode=0o500)
    with pytest.raises(PapermillExecutionError) as error:
        execute("02_train", tmp_path, workspace=str(blocked))
    assert str(blocked) in message_of(error)
