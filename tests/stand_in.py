"""Stands in for papermill in the tests of studies: no kernel, no network, the rest.

Like notebook 02 it holds the lock of its run, keeps what every step has made and writes
the manifest last; every step is noted each time that it is done. While there is a file
`hold` in the workspace, it waits after each step. While there is a file `trouble`, a
run at learning rate 0.5 is killed, one at 0.25 writes more than its disk takes, and
the other one of seed 2 is made under another name.
"""

import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path

import yaml

STEPS = 6


def train(run_id, root, values):
    trouble = values["learning_rate"] if (root / "trouble").exists() else None
    if trouble == 0.125 and values["seed"] == 2:
        return
    logs, results = root / "logs" / run_id, root / "Results" / run_id
    logs.mkdir(parents=True, exist_ok=True)
    with open(logs / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        kept = logs / "steps.json"
        done = json.loads(kept.read_text()) if kept.exists() else 0
        document = {"schema_version": 2, "run_id": run_id, "traceback": None}
        document |= {"status": "running", "started": "2026-01-01", "seconds": 2}
        (results / "run.json").write_text(json.dumps(document))
        if trouble == 0.5:
            os.kill(os.getpid(), signal.SIGKILL)
        if trouble == 0.25:
            (logs / "large").write_bytes(bytes(2**23))
        for step in range(done, STEPS):
            (logs / "new.json").write_text(json.dumps(step + 1))
            os.replace(logs / "new.json", kept)
            with open(logs / "every_step.txt", "a") as noted:
                noted.write(f"{step} ")
            while (root / "hold").exists():
                time.sleep(0.05)
        place = os.environ["CORES"], os.environ.get("CUDA_VISIBLE_DEVICES")
        (results / "place.json").write_text(json.dumps(place))
        (results / "predictions.csv").write_text(f"{run_id} {values['learning_rate']}")
        (results / "run.json").write_text(json.dumps(document | {"status": "done"}))


def main():
    *_, notebook, written, _, text = sys.argv
    values, folder = yaml.safe_load(text), Path(written).parent
    root = Path(values["workspace"])
    if "02_train" in notebook:
        train(folder.name, root, values)
    else:
        document = (root / "Results" / values["run_id"] / "run.json").read_text()
        assert json.loads(document)["status"] == "done"
    Path(written).write_text("{}")


main()
