"""Notebooks that stand in for 02 and 03 in the tests of studies: no network, the rest.

Like the true ones they hold the lock of their run, keep what every step has made, and
write the manifest last. A step is noted each time that it is done. While there is a file
`trouble` in the workspace, a run whose corpus is trained at rate 0.5 kills its kernel, at
rate 0.25 it writes more than the disk takes.
"""

import json

import nbformat

FIND = """
import sys; sys.path.insert(0, "..")
import json, os, pathlib, signal, time
from lib import files, runs
place = files.Workspace(workspace)
"""
TRAIN = """
for line in open(place.results / "studies" / "toy" / "plan.tsv"):
    name, _, _, _, protocol_, seed_, *_, command = line.split("\\t")
    if int(seed_) == seed and f"learning_rate: {learning_rate}" in command:
        folders = runs.RunFolders(place, name)
with runs.only_one(folders):
    steps = folders.logs / "steps.txt"
    done = steps.read_text().split() if steps.exists() else []
    document = {"schema_version": runs.SCHEMA_VERSION, "run_id": name, "error": None}
    document |= {"status": "running", "started": runs.now(), "traceback": None}
    files.write_json(folders.manifest, document)
    if (place.root / "trouble").exists() and learning_rate == 0.5:
        os.kill(os.getpid(), signal.SIGKILL)
    if (place.root / "trouble").exists() and learning_rate == 0.25:
        (folders.logs / "large").write_bytes(bytes(2**23))
    for step in range(len(done), 6):
        time.sleep(0.25)
        files.write_text(steps, " ".join([*done, str(step)]))
        done.append(str(step))
        with open(folders.logs / "every_step.txt", "a") as noted:
            noted.write(f"{step} ")
    scores = f"{name} {learning_rate * seed}"
    files.write_text(folders.predictions, scores)
    files.write_json(folders.manifest, document | {"status": "done"})
"""
TEST = """
folders = runs.RunFolders(place, run_id)
assert json.loads(folders.manifest.read_text())["status"] == "done"
"""


def write(folder):
    """Write both notebooks into a folder."""
    for name, parameters, code in (
        ("02_train", 'workspace: str = ""\nseed: int = 0', TRAIN),
        ("03_test", 'workspace: str = ""\nrun_id: str = ""', TEST),
    ):
        cells = [nbformat.v4.new_code_cell(part) for part in (parameters, FIND + code)]
        cells[0].metadata["tags"] = ["parameters"]
        notebook = nbformat.v4.new_notebook(cells=cells)
        kernel = {"name": "python3", "display_name": "", "language": "python"}
        notebook.metadata["kernelspec"] = kernel
        (folder / f"{name}.ipynb").write_text(json.dumps(notebook))
