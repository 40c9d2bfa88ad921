"""Run studies: all runs of a file in notebooks/sweeps, side by side on Dask.

    python -m lib.batch plan | run | retry | status | stop | script STUDY

Every command can be given again at any time: what is done stands on disk.
"""

import argparse
import collections
import contextlib
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dask.system
import distributed
import pandas as pd
import pydantic
from pydantic import PositiveInt
from tqdm.auto import tqdm

from lib import files, runs, sweeps
from lib.runs import RunFolders
from lib.sweeps import Study

AGAIN = "run the same command again to continue"
KILLS = 20  # workers that may die over one run before it counts as failed
ATTEMPTS = 10  # at a run whose own processes are killed, by lack of memory for instance
RUN_BYTES = 2.5 * 2**30  # memory that the processes of one run take


def run(
    study: Study,
    only: Sequence[str] = sweeps.LEFT,
    *,
    workers: int = 0,
    scheduler: str = "",
    cluster: str = "",
) -> pd.DataFrame:
    """Run what is left of a study; return its plan. It can be given again any time.

    `workers` is for this machine (0: as many as fit), `scheduler` the address of Dask's
    scheduler, `cluster` a file for a queue. RuntimeError if the study is being run.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(runs.only_one(study.folders))
        study.stop.unlink(missing_ok=True)
        planned = (study.folders.results / "study.yaml").is_file()
        table = study.read() if planned else study.plan()
        left = table[table["state"].isin(only)]
        print(f"{sweeps.counts(table)}; {len(left)} to run", flush=True)
        if left.empty:
            return table
        client, count, told = stack.enter_context(_workers(workers, scheduler, cluster))
        # Runs end with this command, also where it is interrupted.
        stack.callback(files.write_text, study.stop, runs.now())
        print(f"Time left: {study.estimate(table, count)}", flush=True)
        print(f"What the workers do: {client.dashboard_link}", flush=True)
        bar = stack.enter_context(tqdm(total=len(left), unit="run"))
        tasks = _tasks(left, told["gpus"])
        # Results of an earlier time, of which the scheduler knows, are not taken.
        own = {"key": [f"{ids[0]}-{time.time_ns()}" for ids in tasks.values()]}
        own |= {"stop": str(study.stop), "pure": False, "batch_size": 1000}
        futures = client.map(execute, list(tasks), **own, **told)
        made = dict(zip((one.key for one in futures), tasks.values(), strict=True))
        ended = collections.Counter()
        for future in distributed.as_completed(futures):
            if future.status not in ("finished", "error"):
                raise RuntimeError(f"the scheduler is gone; {AGAIN}")
            # The exception tells that no worker has survived it.
            said = future.exception() or future.result()
            for run_id in made[future.key]:
                folders = RunFolders(study.workspace, run_id)
                if said:
                    note_failure(folders, str(said))
                ended[sweeps.state(folders)] += 1
            bar.update(len(made[future.key]))
            bar.set_postfix(ended, running=min(count, len(left) - ended.total()))
        if study.stop.exists():
            time.sleep(2)  # kernels notice within a second that they are alone
        return study.write(table)


def _tasks(left: pd.DataFrame, gpus: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the commands to give, each with the runs that it makes."""
    # On JAX's GPU, runs that differ in the seed alone are trained as one program.
    join = gpus and os.environ.get("KERAS_BACKEND") == "jax"
    tasks = {}
    for _, some in left.groupby(sweeps.CELL if join else "id", sort=False):
        line = "; ".join(some["command"])
        if others := some["seed"].tolist()[1:]:
            line = " || status=$?; ".join([*some["command"], "exit ${status:-0}"])
            line = line.replace("{seed: ", f"{{more_seeds: {others}, seed: ", 1)
        tasks[line] = tuple(some["id"])
    return tasks


def note_failure(folders: RunFolders, text: str) -> None:
    """Keep why a run failed in its manifest, where its killed kernel could not."""
    path = folders.results / sweeps.FAILED
    if sweeps.state(folders) in ("done", "running"):  # by somebody else
        return
    if not path.is_file() or not path.stat().st_size:
        files.write_text(path, text)
    known = folders.manifest.is_file() and runs.read_manifest(folders.manifest)
    if known and known["status"] == "running":
        told = {"error": sweeps.reason(folders), "traceback": path.read_text("utf-8")}
        files.write_json(folders.manifest, known | {"status": "failed"} | told)


def execute(line: str, stop: str, cores: int, gpus: Sequence[str]) -> str:
    """Run a command on a worker; return what went wrong, "" if nothing."""
    # Its processes are killed where the worker dies or there is a file `stop`: either
    # closes the pipe. Checkpoints lose nothing by it.
    variables, name = os.environ | {"CORES": str(cores)}, distributed.get_worker().name
    if gpus and str(name).isdecimal():  # of this machine: a GPU for each
        variables["CUDA_VISIBLE_DEVICES"] = gpus[int(name) % len(gpus)]
    guarded = f"exec 3<&0 </dev/null; (cat <&3; kill -KILL 0) >/dev/null 2>&1 & {line}"
    how = {"stdin": subprocess.PIPE, "start_new_session": True, "env": variables}
    for _ in range(ATTEMPTS):
        if os.path.exists(stop):
            return ""
        process = subprocess.Popen(["sh", "-c", guarded], **how)
        while process.poll() is None and not os.path.exists(stop):
            time.sleep(0.5)
        process.stdin.close()
        if process.wait() not in (-9, 137):
            break
        time.sleep(1)
    killed = process.returncode and not os.path.exists(stop)
    return "its processes were killed" if killed else ""


@contextlib.contextmanager
def _workers(count: int, scheduler: str, cluster: str) -> Iterator[tuple]:
    """Yield a client, the number of its workers, and what `execute` needs to know."""
    cores, gpus, share = dask.system.CPU_COUNT, _gpus(), 1
    with contextlib.ExitStack() as stack:
        rules = {"distributed.scheduler.allowed-failures": KILLS}
        stack.enter_context(dask.config.set(rules))
        if scheduler:
            address, gpus = scheduler, []
        elif cluster:
            queue = sweeps.read_yaml(Path(cluster), Cluster)
            address, count, gpus = queue.start(Path(cluster)), queue.jobs, []
            stack.enter_context(address)
        else:
            fit = int(distributed.system.MEMORY_LIMIT // RUN_BYTES)
            count = count or len(gpus) or max(1, min(cores, fit))
            share = max(1, cores // count)
            # In this process: what could be killed apart from it are the runs alone.
            local = {"n_workers": count, "threads_per_worker": 1, "processes": False}
            local["dashboard_address"] = "127.0.0.1:0"  # a free port, here alone
            page = {"distributed.dashboard.link": "http://127.0.0.1:{port}/status"}
            stack.enter_context(dask.config.set(page))
            local |= {"memory_limit": 0, "silence_logs": logging.ERROR}
            address = stack.enter_context(distributed.LocalCluster(**local))
        try:
            client = stack.enter_context(distributed.Client(address, timeout=10))
        except (OSError, ValueError) as error:
            fault = f"no Dask scheduler answers at {address} ({error})"
            raise ValueError(f"{fault}; start one, or leave --scheduler out") from None
        count = count or max(1, sum(client.nthreads().values()))
        yield client, count, {"cores": share, "gpus": gpus}


def _gpus() -> list[str]:
    """Return the numbers of NVIDIA's GPUs that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None and shutil.which("nvidia-smi"):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
        visible = ",".join(map(str, range(listed.stdout.count("GPU "))))
    return [name for name in (visible or "").split(",") if name not in ("", "-1")]


class Cluster(pydantic.BaseModel, extra="forbid"):
    """What a cluster file says; `options` are those of dask-jobqueue's class."""

    kind: str  # SLURMCluster, PBSCluster, ...
    jobs: PositiveInt  # at most at once
    options: dict[str, Any]  # with walltime; one run for each of its cores

    def start(self, path: Path) -> Any:
        """Return the cluster, which replaces jobs that end."""
        import dask_jobqueue  # which takes SIGINT from the one who imports it

        try:
            kind = getattr(dask_jobqueue, self.kind)
            program = kind.job_cls.submit_command.split()[0]
            if not shutil.which(program):
                raise ValueError(f"{program} of {self.kind} is not on this machine")
            wall = pd.Timedelta(self.options["walltime"].replace("-", " days "))
            # Those that leave in time hand their runs on; the killed are noticed late.
            life = ["--lifetime", f"{0.9 * wall.total_seconds():.0f}s"]
            extra = [*self.options.get("worker_extra_args", []), *life]
            made = kind(**self.options | {"worker_extra_args": extra})
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            way = 'take those of dask-jobqueue, walltime as text: "08:00:00"'
            raise ValueError(f"{path}: kind or options: {error!r}; {way}") from None
        made.adapt(minimum_jobs=1, maximum_jobs=self.jobs)
        return made


def stop(study: Study) -> str:
    """Ask who runs a study to stop; checkpoints keep what is unfinished."""
    if not runs.is_locked(study.folders):
        return f"{study.name} is not being run; a job array is stopped by its queue"
    files.write_text(study.stop, runs.now())
    return f"{study.name} stops within seconds; {AGAIN}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; return 0 if all is done, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m lib.batch")
    parser.add_argument("what", choices="plan run retry status stop script".split())
    parser.add_argument("study", help="name of a file in notebooks/sweeps")
    parser.add_argument("--workspace", default="", help="folder of Results and others")
    parser.add_argument("--datasets-dir", default="", help="folder of the corpora")
    parser.add_argument("--workers", type=int, default=0, help="on this machine")
    parser.add_argument("--scheduler", default="", help="address of Dask's scheduler")
    parser.add_argument("--cluster", default="", help="file that describes a queue")
    for queue in sweeps.QUEUES:  # of `script`: that for one queue, not for all
        how = {"action": "append_const", "const": queue, "dest": "queues"}
        parser.add_argument(f"--{queue.split('.')[0]}", help=f"{queue} alone", **how)
    given = parser.parse_args(arguments)
    if given.workers < 0:
        parser.error(f"--workers is {given.workers}; give 1 or more")
    where = {name: getattr(given, name) for name in ("workers", "scheduler", "cluster")}
    asked = {name for name in where if where[name]}.union(given.queues or ())
    used = {"run": where, "retry": where, "script": sweeps.QUEUES}.get(given.what, ())
    if useless := sorted(asked.difference(used)):
        parser.error(f"{given.what} has no use for {', '.join(useless)}")
    try:
        study = Study(given.study, files.Workspace(given.workspace, given.datasets_dir))
        plan = study.folders.results / "plan.tsv"
        if given.datasets_dir and given.what != "plan" and plan.is_file():
            if f"dir: {study.workspace.datasets}," not in plan.read_text("utf-8"):
                raise ValueError(f"{plan} has other datasets; plan, or leave them out")
        if given.what in ("run", "retry"):
            only = sweeps.LEFT if given.what == "run" else ("failed",)
            table = run(study, only, **where)
            print(sweeps.counts(table))
            return int((table["state"] != "done").any())
        does = {
            "plan": lambda: sweeps.counts(study.plan()),
            "status": study.status,
            "stop": lambda: stop(study),
            "script": lambda: study.script(given.queues or sweeps.QUEUES),
        }
        print(does[given.what]())
    except KeyboardInterrupt:
        print(f"\nstopped; {AGAIN}", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    from lib import batch  # under the name by which workers find it

    sys.exit(batch.main())
