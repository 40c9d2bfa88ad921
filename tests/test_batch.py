"""A study is planned, survives what kills its processes, and says what is impossible."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest
import stub_study
import yaml
from conftest import tiny_features

from lib import batch, config, corpora, files, protocols, runs, sweeps, train
from lib.sweeps import Study

SAVEE = corpora.get("SAVEE")
TOY = {
    "title": "toy",
    "base": {"model": "cnn", "epochs": 2},
    "reference": "slow",
    "variants": {
        "slow": {"learning_rate": 0.125},
        "killed": {"learning_rate": 0.5},
        "large": {"learning_rate": 0.25},
    },
    "corpora": ["SAVEE"],
    "protocols": ["holdout"],
    "seeds": [1, 2],
}


def features_of_savee(workspace):
    """Write a feature file that passes for one of SAVEE, 70 clips of noise."""
    data = tiny_features(clips=70, classes=7, speakers=4)
    labels, length = list(SAVEE.labels), SAVEE.clip_samples
    about = data.about | {"corpus": "SAVEE", "labels": labels, "clip_samples": length}
    data = replace(data, label_names=np.array(labels), about=about)
    return files.write_features(workspace.features / "SAVEE-timnet.npz", data)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Return a function that makes the study `toy`, some of its entries replaced."""
    monkeypatch.setattr(sweeps, "SWEEPS", tmp_path)
    workspace = files.Workspace(tmp_path / "work")
    features_of_savee(workspace)

    def made(**entries):
        text = yaml.safe_dump(TOY | entries, sort_keys=False)
        (tmp_path / "toy.yaml").write_text(text)
        return Study("toy", workspace)

    return made


def test_a_plan_has_every_run_once_under_the_id_that_training_gives_it(study):
    toy = study()
    table = toy.plan()
    data = files.read_features(toy.workspace.features / "SAVEE-timnet.npz")
    expected = []
    for seed in (1, 2):
        for rate in (0.125, 0.5, 0.25):
            own = {"workspace": str(toy.workspace.root), "corpus": "SAVEE"}
            own |= {"model": "cnn", "epochs": 2, "protocol": "holdout"}
            params = config.validated(own | {"seed": seed, "learning_rate": rate})
            plan = train.make_plan(params, data)
            expected.append(config.make_run_id(plan.settings))
    assert table["id"].tolist() == expected
    assert table["variant"].tolist() == ["slow", "killed", "large"] * 2
    assert set(table["state"]) == {"planned"}
    (fold,) = protocols.make_folds("holdout", data, 0, 1)
    assert (table["clips"] == 2 * len(fold.train)).all()
    lines = (toy.folders.results / "plan.tsv").read_text("utf-8").splitlines()
    assert [line.split("\t")[0] for line in lines] == expected
    assert toy.read().equals(table)


def test_another_choice_begins_with_its_own_options():
    base = {"model": "timnet", "model_options": {"dilations": 3, "dropout": 0.2}}
    assert sweeps.merged(base, {"model_options": {"backward": False}}) == {
        "model": "timnet",
        "model_options": {"dilations": 3, "dropout": 0.2, "backward": False},
    }
    assert sweeps.merged(base, {"model": "svm"}) == {"model": "svm"}
    from_recipe = sweeps.merged(base, {"recipe": "cktim/emovo", "epochs": 7})
    assert from_recipe["epochs"] == 7 and from_recipe["model"] == "cktim"
    assert "dilations" not in from_recipe["model_options"]


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ({"variants": {"slow": {"learnin_rate": 0.1}}}, "did you mean 'learning_rate'"),
        ({"variants": {"slow": {"epochs": "ten"}}}, "slow, SAVEE, holdout: .*epochs"),
        ({"variants": {"slow": {"model_options": {"filters": 0}}}}, "slow.*filters"),
        ({"variants": {"slow": {}, "b": {"label_smoothing": 0.1}}}, "b, SAVEE.*same"),
        ({"variants": {"slow": {"recipe": "none"}}}, "slow.*none.yaml"),
        ({"reference": "slwo"}, "'slwo' is not one of the variants.*'slow'"),
        ({"corpora": ["SAVEE", "EMODB"]}, "EMODB, holdout: .*EMODB"),
        ({"corpora": ["SAVEE", "SAVEE"]}, "twice"),
        ({"protocols": ["speakers"]}, "did you mean 'speaker'"),
        ({"seeds": [1, -1]}, "seeds.*greater than or equal to 0"),
        ({"seed": 3}, "seed: Extra inputs"),
        ({"protocols": []}, "protocols.*at least 1"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_starts(study, entries, told):
    with pytest.raises(ValueError, match=rf"(?s){told}"):
        batch.run(study(**entries))
    assert not (study().workspace.results / "studies").exists()


def test_a_variant_named_twice_is_refused(study):
    toy = study()
    text = toy.path.read_text().replace("  large:", "  slow:")
    toy.path.write_text(text)
    with pytest.raises(ValueError, match="twice"):
        toy.sweep()


def test_a_study_that_changed_since_its_plan_is_refused_and_nothing_lost(study):
    before = study().plan()
    toy = study(seeds=[1, 2, 3])
    with pytest.raises(ValueError, match="has changed since its plan"):
        toy.read()
    assert toy.plan()["id"].tolist()[:6] == before["id"].tolist()


def test_a_wrong_place_to_run_is_one_clear_error(study, tmp_path):
    file = tmp_path / "cluster.yaml"
    for scheduler, content, told in (
        ("tcp://127.0.0.1:1", "", "no Dask scheduler answers at tcp://127.0.0.1:1"),
        ("", "{kind: SLRMCluster, jobs: 1, options: {}}", "SLRMCluster is unknown"),
        ("", "{kind: PBSCluster, jobs: 1, options: {}}", "needs `qsub`, which is not"),
        ("", "{kind: PBSCluster, options: {}}", "jobs: Field required"),
    ):
        file.write_text(content)
        where = {"scheduler": scheduler} if scheduler else {"cluster": str(file)}
        with pytest.raises(ValueError, match=told):
            batch.run(study(), **where)


def test_the_studies_of_the_reports_are_possible(tmp_path):
    """Every cell has valid parameters; the recipes of a report keep their values."""
    for path in sorted(sweeps.SWEEPS.glob("*.yaml")):
        faults, workspace = {}, files.Workspace(tmp_path)
        cells = Study(path.stem, workspace).cells(faults)
        assert cells and not faults, path.name
        for cell in cells:
            train.require_use(cell.params)


class Tree:
    """A copy of the workbook with stand-ins for 02 and 03, and the study `toy`."""

    def __init__(self, folder, variants=TOY["variants"], seeds=(1, 2)):
        self.root, self.workspace = folder, files.Workspace(folder)
        shutil.copytree(files.REPOSITORY / "lib", folder / "lib")
        (folder / "notebooks" / "sweeps").mkdir(parents=True)
        stub_study.write(folder / "notebooks")
        entries = TOY | {"variants": variants, "seeds": list(seeds)}
        path = folder / "notebooks" / "sweeps" / "toy.yaml"
        path.write_text(yaml.safe_dump(entries, sort_keys=False))
        features_of_savee(self.workspace)
        self.command("plan").wait()

    def command(self, what, *options, **how):
        """Start a command; its output is kept in a file."""
        line = [sys.executable, "-m", "lib.batch", what, "toy", *options]
        with open(self.root / "said.txt", "a") as said:
            return subprocess.Popen(
                line, cwd=self.root, stdout=said, stderr=said, text=True, **how
            )

    def said(self):
        return (self.root / "said.txt").read_text()

    def runs(self):
        lines = (self.root / "Results/studies/toy/plan.tsv").read_text().splitlines()
        return [runs.RunFolders(self.workspace, line.split("\t")[0]) for line in lines]

    def states(self):
        return [sweeps.state(folders) for folders in self.runs()]

    def wait_for_steps(self, count):
        """Wait until the runs have done so many steps."""
        for _ in range(2400):
            time.sleep(0.05)
            if len(self.steps()) >= count:
                return
        raise AssertionError(self.said())

    def steps(self):
        noted = (folders.logs / "every_step.txt" for folders in self.runs())
        return [path.read_text().split() for path in noted if path.exists()]

    def require_finished(self):
        """All runs are done with the right result, and no step was lost or repeated."""
        for folders in self.runs():
            known = json.loads(folders.manifest.read_text())
            assert known["status"] == "done", self.said()
            told, _ = folders.predictions.read_text().split()
            assert told == folders.run_id
            noted = (folders.logs / "every_step.txt").read_text().split()
            # Killed between the file of a step and its note, it may lack in the notes.
            assert sorted(set(noted)) == noted and len(noted) >= 4, noted
        assert set(self.states()) == {"done"}
        partial = [*self.root.glob("Results/**/.partial-*.json")]
        assert not partial
