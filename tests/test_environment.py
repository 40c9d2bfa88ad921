"""The pins, the lists per platform and what the Makefile chooses."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lib.files import REPOSITORY

REQUIREMENTS = REPOSITORY / "requirements"
LISTS = {
    "linux-cpu": {"sys_platform": "linux", "platform_machine": "x86_64"},
    "linux-cuda": {"sys_platform": "linux", "platform_machine": "x86_64"},
    "linux-cuda-jax": {"sys_platform": "linux", "platform_machine": "x86_64"},
    "linux-arm64": {"sys_platform": "linux", "platform_machine": "aarch64"},
    "macos-arm64": {"sys_platform": "darwin", "platform_machine": "arm64"},
}


def lines(path: Path) -> list[str]:
    text = path.read_text("utf-8").splitlines()
    return [line for line in text if line and not line.startswith("#")]


def pins(path: Path, environment: dict[str, str]) -> dict[str, str]:
    """Return the version of every package that a list names for a platform."""
    found = {}
    for requirement in map(Requirement, lines(path)):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", f"{requirement} is not pinned"
            name = canonicalize_name(requirement.name)
            assert name not in found, f"{name} is listed twice"
            found[name] = specifier.version
    return found


def test_environment_yml_has_the_pins_of_direct_in():
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text("utf-8"))
    *conda, pip = environment["dependencies"]
    assert conda == ["python=3.11", "pip", "libsndfile"]
    assert pip["pip"] == lines(REQUIREMENTS / "direct.in")


@pytest.mark.parametrize("name", LISTS)
def test_a_list_has_the_direct_pins_and_goes_with_that_of_the_tests(name):
    wanted = pins(REQUIREMENTS / "direct.in", LISTS[name])
    if name == "linux-cuda":
        wanted["tensorflow"] = wanted.pop("tensorflow-cpu")
    listed = pins(REQUIREMENTS / f"{name}.txt", LISTS[name])
    assert wanted.items() <= listed.items()
    tests = pins(REQUIREMENTS / "tests.txt", LISTS[name])
    assert pins(REQUIREMENTS / "tests.in", LISTS[name]).items() <= tests.items()
    assert {k: tests[k] for k in tests if k in listed}.items() <= listed.items()
    for file in (f"{name}.txt", "tests.txt"):
        found = pins(REQUIREMENTS / file, LISTS[name])
        assert len(found) == len(lines(REQUIREMENTS / file)), "not of this platform"
    # TensorBoard 2.19 imports pkg_resources, which setuptools 82 removed.
    assert int(listed["setuptools"].split(".")[0]) < 82
    assert ("nvidia-cudnn-cu12" in listed) == name.startswith("linux-cuda")
    assert ("tensorflow-metal" in listed) == (name == "macos-arm64")
    # The CUDA libraries of JAX and TensorFlow exclude each other.
    assert ("jax-cuda12-plugin" in listed) == (name == "linux-cuda-jax")


def make(folder: Path, *arguments: str, **environment: str):
    return subprocess.run(
        [shutil.which("make"), *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def clone(tmp_path):
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    shutil.copytree(REQUIREMENTS, tmp_path / "requirements")
    return tmp_path


def pretend(clone: Path, system: str, machine: str, gpu: str) -> str:
    """Make programs that tell of another machine; return the PATH to find them."""
    answer = f'case "$1" in -s) echo {system} ;; *) echo {machine} ;; esac'
    (clone / "bin").mkdir()
    for name, body in (("uname", answer), ("nvidia-smi", gpu)):
        path = clone / "bin" / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
    return f"{clone / 'bin'}:{os.environ['PATH']}"


WORKING, BROKEN = 'echo "GPU 0: NVIDIA (UUID: GPU-0)"', "exit 9"


@pytest.mark.parametrize(
    ("system", "machine", "gpu", "expected"),
    [
        ("Linux", "x86_64", WORKING, "linux-cuda"),
        ("Linux", "x86_64", BROKEN, "linux-cpu"),
        ("Linux", "aarch64", BROKEN, "linux-arm64"),
        ("Darwin", "arm64", BROKEN, "macos-arm64"),
        ("Darwin", "x86_64", BROKEN, ""),
    ],
)
def test_setup_chooses_the_list_of_the_platform(clone, system, machine, gpu, expected):
    path = pretend(clone, system, machine, gpu)
    done = make(clone, *(["-n"] if expected else []), "setup", PATH=path)
    chosen = re.findall(r"-r requirements/([\w-]+)\.txt", done.stdout)
    assert set(chosen) == ({expected} if expected else set())
    assert (done.returncode == 0) == bool(expected), done.stderr
    if not expected:
        assert all(one in done.stderr for one in ("no-list-for-Darwin-x86_64", *LISTS))


def test_setup_keeps_to_what_is_installed_until_the_list_changes(clone):
    path = pretend(clone, "Linux", "x86_64", WORKING)
    (clone / ".venv").mkdir()
    stamp = clone / ".venv" / "installed-linux-cpu"
    stamp.touch()
    assert "Nothing to be done" in make(clone, "setup", PATH=path).stdout
    asked = make(clone, "-n", "setup", "PLATFORM=linux-cuda", PATH=path)
    assert "-r requirements/linux-cuda.txt" in asked.stdout
    # A variable of that name in the user's environment means something else.
    assert "Nothing to be done" in make(clone, "setup", PATH=path, PLATFORM="x").stdout
    os.utime(stamp, (0, 0))
    assert "pip" in make(clone, "-n", "setup", PATH=path).stdout
