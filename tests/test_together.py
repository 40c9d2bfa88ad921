"""Folds that train together end as folds that train one after the other."""

import os
import subprocess
import sys

from lib.files import REPOSITORY


def test_folds_and_seeds_train_as_one_program_on_jax():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/on_jax.py"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=os.environ | {"KERAS_BACKEND": "jax"},
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "RuntimeWarning" not in done.stdout + done.stderr
