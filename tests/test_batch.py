"""A study is planned, survives what kills its processes, refuses the impossible."""

import contextlib
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import dask.system
import distributed
import numpy as np
import psutil
import pytest
import yaml
from conftest import tiny_features

from lib import batch, config, corpora, files, planning, runs, sweeps
from lib.sweeps import Study

SAVEE = corpora.get("SAVEE")
RATES = {"slow": 0.125, "killed": 0.5, "large": 0.25}
TOY = {"title": "toy", "base": {"model": "cnn", "epochs": 2}, "reference": "slow"}
TOY |= {"corpora": ["SAVEE"], "protocols": ["holdout"], "seeds": [1, 2]}
TOY["variants"] = {name: {"learning_rate": rate} for name, rate in RATES.items()}


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
    variants = TOY["variants"] | {"last": {"validation": "none"}}  # other folds
    toy = study(variants=variants)
    table = toy.plan()
    data = files.read_features(toy.workspace.features / "SAVEE-timnet.npz")
    expected, clips = [], []
    for seed in (1, 2):
        for changes in variants.values():
            own = {"workspace": str(toy.workspace.root), "corpus": "SAVEE"}
            own |= {"model": "cnn", "epochs": 2, "protocol": "holdout"}
            params = config.validated(own | changes | {"seed": seed})
            plan = planning.make_plan(params, data)
            expected.append(config.make_run_id(plan.settings))
            clips.append(2 * len(plan.folds[0].train))
    assert table["id"].tolist() == expected
    assert table["variant"].tolist() == [*variants] * 2
    assert set(table["state"]) == {"planned"}
    assert table["clips"].tolist() == clips
    lines = (toy.folders.results / "plan.tsv").read_text("utf-8").splitlines()
    assert [line.split("\t")[0] for line in lines] == expected
    assert toy.read().equals(table)
    assert set(study(protocols=[""]).plan()["protocol"]) == {"speaker"}
    toy = study(variants={"0.1": {}, "0.10": {"epochs": 3}}, reference="0.1")
    assert toy.plan()["variant"].tolist() == toy.read()["variant"].tolist()  # as text


def test_the_time_left_is_reckoned_from_the_runs_that_are_done(study):
    toy = study()
    table = toy.plan()
    assert toy.estimate(table, 2) == "unknown for cnn"
    done = runs.RunFolders(toy.workspace, table["id"][0])
    files.write_json(done.manifest, {"schema_version": 2, "seconds": 100.0})
    (done.results / "03_test.ipynb").touch()
    # Five runs as long as the first, with 20 s for its notebooks, on two workers.
    assert toy.estimate(toy.read(), 2) == "0 days 00:05:00"
    other = toy.read().replace({"id": {table["id"][5]: "TOY-svm-speaker-s9-0"}})
    assert toy.estimate(other, 2) == "0 days 00:04:00, and unknown for svm"


def test_another_choice_begins_with_its_own_options():
    base = {"model": "timnet", "model_options": {"dilations": 3, "dropout": 0.2}}
    without = {"model_options": {"backward": False}}
    merged = base["model_options"] | without["model_options"]
    assert sweeps.merged(base, without) == base | {"model_options": merged}
    assert sweeps.merged(base, {"model": "svm"}) == {"model": "svm"}
    del base["model"]  # which is the default
    assert sweeps.merged(base, {"model": "timnet"} | without)["model_options"] == merged
    focal = {"loss": "focal", "loss_options": {"gamma": 3.0}}
    assert sweeps.merged(focal, {"loss": "margin"}) == {"loss": "margin"}
    from_recipe = sweeps.merged(base, {"recipe": "cktim/emovo", "epochs": 7})
    assert from_recipe["epochs"] == 7 and from_recipe["model"] == "cktim"
    assert "dilations" not in from_recipe["model_options"]


def test_what_cannot_be_run_is_refused_before_anything_starts(study):
    for entries, told in (
        ({"variants": {"slow": {"learnin_rate": 0.1}}}, "did you mean 'learning_rate'"),
        ({"variants": {"slow": {"model_options": {"filters": 0}}}}, "slow.*filters"),
        ({"variants": {"slow": {}, "b": {"label_smoothing": 0.1}}}, "b, SAVEE.*same"),
        ({"variants": {"slow": {}, "again": {}}}, "'slow', 'slow'. has one .* twice"),
        ({"variants": {"slow": {"recipe": "none"}}}, "slow.*none.yaml"),
        ({"base": {"run_id": "x", "protocol": "text"}}, "not set protocol, run_id"),
        ({"variants": {"slow": {"corpus": "DEMO"}}}, "slow.*not set corpus; corpora"),
        ({"reference": "slwo"}, "'slwo' is not one of the variants.*'slow'"),
        ({"corpora": ["SAVEE", "EMODB"]}, "EMODB, holdout: .*EMODB"),
        ({"corpora": ["SAVEE", "SAVEE"]}, "slow, SAVEE.*same run"),
        ({"seeds": [1, 1]}, "seed 1: is the same run as slow"),
        ({"seeds": [True]}, "seeds: 0: Input should be a valid integer"),
        ({"variants": {"slow": {}, "a\tb": {}}}, "variants.*one printable line"),
        ({"variants": {"slow": {}, "=1": {}}}, "variants.*one printable line"),
        ({"joined": {"BOTH": ["EMODB", "SAVEE"]}}, "not there: .*EMODB"),
        ({"protocols": ["speakers"]}, "did you mean 'speaker'"),
        ({"seed": 3}, "seed: Extra inputs"),
    ):
        toy = study(**entries)
        toy.path.write_text(toy.path.read_text().replace("again", "slow"))
        with pytest.raises(ValueError, match=rf"(?s){told}"):
            batch.run(toy)
        assert not (study().workspace.results / "studies").exists()


def test_what_changed_since_the_plan_is_refused(study, tmp_path, monkeypatch, capsys):
    before = study().plan()
    toy = study(seeds=[1, 2, 3])
    with pytest.raises(ValueError, match="changed since; .*batch plan toy"):
        toy.read()
    assert toy.plan()["id"].tolist()[:6] == before["id"].tolist()  # nothing is lost
    place = f"toy --workspace {tmp_path / 'work'} --datasets-dir".split()
    for at, code in ((toy.workspace.datasets, 0), (tmp_path, 2)):
        assert batch.main(["status", *place, str(at)]) == code
    assert "plan.tsv has other datasets" in capsys.readouterr().err
    monkeypatch.setattr(sweeps, "RECIPES", tmp_path)
    (tmp_path / "mine.yaml").write_text("{model: cnn, epochs: 2}")
    toy = study(base={"recipe": "mine"})
    toy.plan()
    (tmp_path / "mine.yaml").write_text("{model: cnn, epochs: 3}")
    with pytest.raises(ValueError, match="recipe or fold file changed"):
        toy.read()
    lists = tmp_path / "mine.csv"
    lists.write_text("speaker,fold\n" + "".join(f"s{n},{n % 2}\n" for n in range(4)))
    own = {"model": "cnn", "fold_file": str(lists)}
    toy = study(base=own, protocols=["listed"])
    toy.plan()
    lists.write_text("speaker,fold\n" + "".join(f"s{n},{n // 2}\n" for n in range(4)))
    with pytest.raises(ValueError, match="recipe or fold file changed"):
        toy.read()


def test_a_wrong_place_to_run_is_one_clear_error(study, tmp_path, monkeypatch):
    real, file = distributed.Client, tmp_path / "cluster.yaml"
    monkeypatch.setattr(distributed, "Client", lambda at, timeout: real(at, timeout=1))
    for scheduler, content, told in (
        ("tcp://127.0.0.1:1", "", "no Dask scheduler answers at tcp://127.0.0.1:1"),
        ("", "{kind: SLRMCluster, jobs: 1, options: {}}", "no attribute 'SLRMCl"),
        ("", "{kind: PBSCluster, jobs: 1, options: {}}", "qsub .* is not on"),
        ("", "{kind: PBSCluster, options: {}}", "jobs: Field required"),
    ):
        file.write_text(content)
        where = {"scheduler": scheduler} if scheduler else {"cluster": str(file)}
        with pytest.raises(ValueError, match=told):
            batch.run(study(), **where)
    monkeypatch.setattr(batch, "run", lambda _, only, **where: sys.exit(only[0]))
    lines = dict.fromkeys(("plan toy --workers 2", "run toy --slurm"), "2")
    lines |= {"run toy --workers -1": "2", "retry toy": "failed"}
    for line, told in lines.items():  # no option is ignored; `retry` takes the failed
        with pytest.raises(SystemExit, match=f"^{told}$"):
            batch.main(line.split())


def test_seeds_are_trained_as_one_program_on_the_gpu_of_jax_alone(study, monkeypatch):
    table = study().plan()
    alone = dict(zip(table["command"], zip(table["id"]), strict=True))
    assert batch._tasks(table, gpus=[]) == batch._tasks(table, gpus=["0"]) == alone
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert batch._tasks(table, gpus=[]) == alone
    joined = batch._tasks(table, gpus=["0"])
    first, second = table["id"].tolist()[:3], table["id"].tolist()[3:]
    assert [*joined.values()] == [*zip(first, second, strict=True)]
    for line, rate in zip(joined, RATES.values(), strict=True):
        train = yaml.safe_load(shlex.split(line)[4])
        assert train["more_seeds"] == [2] and train["seed"] == 1
        assert train["learning_rate"] == rate
        last = table["command"][table["id"] == joined[line][1]].item()
        assert line.endswith(f"; {last} || status=$?; exit ${{status:-0}}")


def test_the_studies_of_the_reports_are_possible(tmp_path):
    """Every cell has valid parameters, and its system has a use for them."""
    data = tiny_features()
    for path in sorted(sweeps.SWEEPS.glob("*.yaml")):
        faults, workspace = {}, files.Workspace(tmp_path)
        cells = Study(path.stem, workspace).cells(faults)
        assert cells and not faults, path.name
        for cell in cells:
            planning.require_use(cell.params, data)


def test_the_scripts_of_job_arrays_are_whole(study):
    table, folder = study().plan(), study().folders.results
    script = ["script", "toy", "--workspace", str(study().workspace.root)]
    assert batch.main([*script, "--slurm"]) == 0 and not (folder / "pbs.sh").exists()
    assert batch.main(script) == 0
    for path in (folder / "slurm.sh", folder / "pbs.sh"):
        subprocess.run(["sh", "-n", path], check=True)
        assert f"1-{len(table)}" in path.read_text()
    job = yaml.safe_load((folder / "kubernetes.yaml").read_text())["spec"]
    (pod,) = job["template"]["spec"]["containers"]
    assert job["completions"] == len(table) and job["completionMode"] == "Indexed"
    subprocess.run(["sh", "-n", "-c", pod["args"][0]], check=True)


class Tree:
    """A copy of the workbook with a stand-in for papermill, and the study `toy`."""

    def __init__(self, folder):
        self.root, self.workspace, self.started = folder, files.Workspace(folder), []
        shutil.copytree(files.REPOSITORY / "lib", folder / "lib")
        (folder / "notebooks" / "sweeps").mkdir(parents=True)
        stand_in = files.REPOSITORY / "tests" / "stand_in.py"
        shutil.copy(stand_in, folder / "papermill.py")
        path = folder / "notebooks" / "sweeps" / "toy.yaml"
        path.write_text(yaml.safe_dump(TOY, sort_keys=False))
        features_of_savee(self.workspace)
        assert self.command("plan").wait() == 0, self.said()
        lines = (folder / "Results/studies/toy/plan.tsv").read_text().splitlines()
        names = [line.split("\t")[0] for line in lines]
        self.runs = [runs.RunFolders(self.workspace, name) for name in names]

    def forget(self):
        """Return to the state in which nothing but the plan is there."""
        for name in ("said.txt", "trouble", "hold"):
            (self.root / name).unlink(missing_ok=True)
        for folders in self.runs:
            for folder in (folders.results, folders.logs):
                shutil.rmtree(folder, ignore_errors=True)

    def command(self, what, *options, **how):
        """Start a command of `lib.batch`."""
        return self.start("lib.batch", what, "toy", *options, **how)

    def start(self, module, *options, **how):
        """Start a module; what it says is kept in a file."""
        line = [sys.executable, "-m", module, *options]
        with open(self.root / "said.txt", "a") as said:
            how |= {"cwd": self.root, "stdout": said, "stderr": said}
            self.started.append(subprocess.Popen(line, **how))
        return self.started[-1]

    def said(self):
        return (self.root / "said.txt").read_text()

    def states(self):
        return [sweeps.state(folders) for folders in self.runs]

    def steps(self):
        """Return the steps that were done, a list for each run."""
        noted = [folders.logs / "every_step.txt" for folders in self.runs]
        return [path.read_text().split() if path.exists() else [] for path in noted]

    def wait_for_steps(self, more):
        count = sum(map(len, self.steps())) + more
        for _ in range(1200):
            if sum(map(len, self.steps())) >= count:
                return
            time.sleep(0.05)
        raise AssertionError(self.said())

    def processes(self):
        """Return the processes that work on this tree."""
        found = psutil.process_iter(["cmdline"])
        return [one for one in found if str(self.root) in str(one.info["cmdline"])]

    def require_finished(self):
        """All runs are done, with the result of their own, and no step was repeated."""
        assert set(self.states()) == {"done"}, self.said()
        for folders, noted in zip(self.runs, self.steps(), strict=True):
            assert runs.read_manifest(folders.manifest)["status"] == "done"
            assert folders.predictions.read_text().split()[0] == folders.run_id
            # One that was killed between a step and its note has not noted it.
            assert sorted(set(noted)) == noted and len(noted) >= 4, noted
        assert not [*self.root.rglob(".partial-*.json")]


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    return Tree(tmp_path_factory.mktemp("study") / "tree")


@pytest.fixture
def tree(planned):
    planned.forget()
    yield planned
    for process in [*planned.started, *planned.processes()]:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_killed_workers_lose_nothing_and_repeat_nothing(tree):
    (tree.root / "hold").touch()
    gpus = os.environ | {"CUDA_VISIBLE_DEVICES": "5,7"}
    driver = tree.command("run", "--workers", "2", env=gpus)
    for _ in range(4):
        tree.wait_for_steps(1)
        working = [p for p in tree.processes() if "papermill" in p.info["cmdline"]]
        working[0].kill()
    (tree.root / "hold").unlink()
    assert driver.wait(timeout=90) == 0, tree.said()
    tree.require_finished()
    places = {(folders.results / "place.json").read_text() for folders in tree.runs}
    share = max(1, dask.system.CPU_COUNT // 2)
    assert places == {f'["{share}", "{gpu}"]' for gpu in (5, 7)}


@pytest.mark.slow
def test_a_failed_run_stops_no_other_and_keeps_its_traceback(tree):
    """A kernel that is killed, a disk that takes no more, a run of another name."""
    for name in ("trouble", "hold"):
        (tree.root / name).touch()
    code = tree.root / "lib" / "batch.py"
    text = code.read_text("utf-8")
    code.write_text(text.replace("ATTEMPTS = 10", "ATTEMPTS = 2"), "utf-8")

    def small_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**22, 2**22))

    driver = tree.command("run", "--workers", "2", preexec_fn=small_disk)
    tree.wait_for_steps(1)
    assert tree.command("run", "--workers", "2").wait() == 2
    assert "is being worked on by another process" in tree.said()
    (tree.root / "hold").unlink()
    assert driver.wait(timeout=90) == 1, tree.said()
    told = ["", "Killed", "File too large", "not those of the plan"]
    told += told[1:3]
    assert tree.states() == ["failed" if fault else "done" for fault in told]
    for folders, fault in zip(tree.runs, told, strict=True):
        assert not fault or fault in sweeps.reason(folders)
        if folders.manifest.is_file():
            document = runs.read_manifest(folders.manifest)
            assert document["status"] == ("failed" if fault else "done")
            assert fault in (document["traceback"] or "")
    assert tree.command("status").wait() == 0 and "File too large" in tree.said()
    (tree.root / "trouble").unlink()
    code.write_text(text, "utf-8")
    assert tree.command("retry", "--workers", "2").wait() == 0, tree.said()
    tree.require_finished()


@pytest.mark.slow
def test_a_study_that_is_stopped_or_cut_off_goes_on(tree):
    port, own = 20_000 + os.getpid() % 10_000, ["--host", "127.0.0.1", "--no-dashboard"]
    scheduler = tree.start("distributed.cli.dask_scheduler", "--port", f"{port}", *own)
    address = f"tcp://127.0.0.1:{port}"
    worker = tree.start("distributed.cli.dask_worker", address, "--nthreads", "1")
    (tree.root / "hold").touch()
    driver = tree.command("run", "--workers", "2")
    tree.wait_for_steps(2)
    assert tree.command("stop").wait() == 0
    assert driver.wait(timeout=60) == 1, tree.said()
    assert "done" not in tree.states() and not tree.processes()
    driver = tree.command("run", "--workers", "2")
    tree.wait_for_steps(2)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=60) == 130 and not tree.processes()
    driver = tree.command("run", "--scheduler", address)
    tree.wait_for_steps(1)
    scheduler.kill()
    assert driver.wait(timeout=90) == 2 and "scheduler is gone" in tree.said()
    worker.terminate()
    worker.wait()
    driver = tree.command("run", "--workers", "2")
    tree.wait_for_steps(2)
    driver.kill()  # as if the machine were cut off: nothing that it started is left
    driver.wait()
    psutil.wait_procs(tree.processes(), timeout=20)
    assert not tree.processes()
    (tree.root / "hold").unlink()
    assert tree.command("run", "--workers", "2").wait() == 0, tree.said()
    tree.require_finished()


SBATCH = """#!/bin/sh
# Stands in for SLURM's own: starts the jobs of a file at once, each in its own session.
cp "$1" "$QUEUE/$$.sh"
last=$(sed -n 's/^#SBATCH --array=1-\\([0-9]*\\).*/\\1/p' "$1")
for number in $(seq 1 "${last:-1}"); do
    SLURM_ARRAY_TASK_ID=$number setsid sh "$QUEUE/$$.sh" >/dev/null 2>&1 &
    echo $! >> "$QUEUE/jobs"
done
echo "Submitted batch job $!"
"""
CLUSTER = """
kind: SLURMCluster
jobs: 2
options: {cores: 1, memory: 2GiB, walltime: "00:20:00", interface: lo, shebang: /bin/sh}
"""


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """Put a stand-in of SLURM's commands on the path; return its list of jobs."""
    for name, text in (
        ("sbatch", SBATCH),
        ("scancel", '#!/bin/sh\nfor job in "$@"; do kill -KILL "-$job"; done\n'),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("QUEUE", str(tmp_path))
    return tmp_path / "jobs"


def kill_a_job(queue):
    """Kill one of the jobs that are running, with all that it has started."""
    for job in queue.read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(job), signal.SIGKILL)
            return
    raise AssertionError("no job is running")


@pytest.mark.slow
def test_runs_of_a_queue_go_on_where_their_jobs_were_killed(tree, queue):
    """Line n of a job array is run n, and workers are replaced."""

    def array():
        subprocess.run(["sbatch", tree.root / "Results/studies/toy/slurm.sh"])
        jobs = filter(psutil.pid_exists, map(int, queue.read_text().split()))
        return [*map(psutil.Process, jobs)]

    assert tree.command("script").wait() == 0
    (tree.root / "hold").touch()
    jobs = array()
    tree.wait_for_steps(6)
    kill_a_job(queue)
    (tree.root / "hold").unlink()
    psutil.wait_procs(jobs, timeout=60)
    assert tree.states() == ["interrupted", *["done"] * 5]
    before = [(run.results / "log.txt").stat().st_mtime_ns for run in tree.runs[1:]]
    (tree.root / "hold").touch()
    (tree.root / "cluster.yaml").write_text(CLUSTER)
    driver = tree.command("run", "--cluster", str(tree.root / "cluster.yaml"))
    tree.wait_for_steps(1)
    scripts = [path.read_text() for path in queue.parent.glob("*.sh")]
    # Nine tenths of the wall time.
    assert any("--lifetime 1080s" in script for script in scripts)
    kill_a_job(queue)
    (tree.root / "hold").unlink()
    assert driver.wait(timeout=120) == 0, tree.said()
    tree.require_finished()
    psutil.wait_procs(array(), timeout=60)
    after = [(run.results / "log.txt").stat().st_mtime_ns for run in tree.runs[1:]]
    assert before == after
