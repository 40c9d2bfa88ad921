"""The pins, their reasons, the lists per platform and what the Makefile chooses."""

import ast
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lib.files import REPOSITORY

REQUIREMENTS = REPOSITORY / "requirements"
TENSORFLOW = {"tensorflow", "tensorflow-cpu"}


def platform(system: str, machine: str) -> dict[str, str]:
    return {
        "sys_platform": system,
        "platform_machine": machine,
        "platform_system": system.capitalize(),
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "python_version": "3.11",
        "python_full_version": "3.11.9",
        "extra": "",
    }


LISTS = {
    "linux-cpu": platform("linux", "x86_64"),
    "linux-cuda": platform("linux", "x86_64"),
    "linux-arm64": platform("linux", "aarch64"),
    "macos-arm64": platform("darwin", "arm64"),
}
EVERY_LIST = pytest.mark.parametrize("name", LISTS)


def lines(path: Path) -> list[str]:
    text = path.read_text("utf-8").splitlines()
    return [line for line in text if line and not line.startswith("#")]


def applies(requirement: Requirement, environment: dict[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(environment)


def pins(path: Path, environment: dict[str, str]) -> dict[str, str]:
    """Return the version of every package that a list names for a platform."""
    found = {}
    for requirement in map(Requirement, lines(path)):
        if applies(requirement, environment):
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", f"{requirement} is not pinned"
            name = canonicalize_name(requirement.name)
            assert name not in found, f"{name} is listed twice"
            found[name] = specifier.version
    return found


def direct(environment: dict[str, str]) -> dict[str, str]:
    return pins(REQUIREMENTS / "direct.in", environment)


def in_force() -> dict[str, str]:
    """Return the direct pins for this machine, TensorFlow under the name it has."""
    here = {**default_environment(), "extra": ""}
    found = direct(here) | pins(REQUIREMENTS / "tests.in", here)
    version = {found.pop(name) for name in TENSORFLOW & set(found)}
    return {**found, "tensorflow": version.pop()}


def installed(name: str) -> str:
    for candidate in TENSORFLOW if name == "tensorflow" else {name}:
        try:
            return metadata.version(candidate)
        except metadata.PackageNotFoundError:
            continue
    return "not installed"


# --- the pins and their reasons -------------------------------------------------------


def test_environment_yml_has_the_pins_of_direct_in():
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text("utf-8"))
    *conda, pip = environment["dependencies"]
    assert environment["name"] == "ser"
    assert environment["channels"] == ["conda-forge"]
    assert conda == ["python=3.11", "pip", "libsndfile"]
    assert pip["pip"] == lines(REQUIREMENTS / "direct.in")


def test_every_line_of_environment_yml_gives_its_reason():
    text = (REPOSITORY / "environment.yml").read_text("utf-8")
    items = [line for line in text.splitlines() if re.match(r"\s+- (?!pip:)", line)]
    assert len(items) > 30
    without = [line for line in items if not re.search(r"  # \w.{3,}", line)]
    assert without == []


@EVERY_LIST
def test_a_list_has_the_direct_pins_and_goes_with_that_of_the_tests(name):
    wanted = direct(LISTS[name])
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


@EVERY_LIST
def test_tensorflow_and_jax_are_those_of_the_platform(name):
    listed = pins(REQUIREMENTS / f"{name}.txt", LISTS[name])
    tensorflow = "tensorflow-cpu" if name == "linux-cpu" else "tensorflow"
    assert listed[tensorflow] == "2.19.1"
    assert tuple(map(int, listed["numpy"].split(".")))[:2] < (2, 2)
    # TensorBoard 2.19 imports pkg_resources, which setuptools 82 removed.
    assert int(listed["setuptools"].split(".")[0]) < 82
    assert ("nvidia-cudnn-cu12" in listed) == (name == "linux-cuda")
    assert ("tensorflow-metal" in listed) == (name == "macos-arm64")
    # The CUDA libraries of JAX and TensorFlow exclude each other.
    assert listed["jax"] == listed["jaxlib"]
    assert not any(package.startswith("jax-cuda") for package in listed)


def test_no_file_names_a_registry():
    files = [*REQUIREMENTS.iterdir(), REPOSITORY / "environment.yml"]
    files += [REPOSITORY / name for name in ("Makefile", "pyproject.toml", ".ci/run")]
    pattern = r"https?://|--(extra-)?index|--find-links|pypi\.|--trusted-host"
    naming = [path.name for path in files if re.search(pattern, path.read_text())]
    assert naming == []


# --- what is installed ----------------------------------------------------------------


def test_the_pinned_versions_are_installed():
    found = {name: installed(name) for name in in_force()}
    assert found == in_force(), "run `make setup`"


def test_the_list_of_this_platform_is_complete():
    stamps = list((REPOSITORY / ".venv").glob("installed-*"))
    if not stamps or Path(sys.prefix) != REPOSITORY / ".venv":
        pytest.skip("the packages were not installed by `make setup`")
    name = stamps[0].name.removeprefix("installed-")
    listed = pins(REQUIREMENTS / f"{name}.txt", LISTS[name])
    listed |= pins(REQUIREMENTS / "tests.txt", LISTS[name])
    here = {**default_environment(), "extra": ""}
    broken = [
        f"{package} needs {needed}"
        for package in listed
        for needed in map(Requirement, metadata.requires(package) or [])
        if applies(needed, here)
        and listed.get(canonicalize_name(needed.name), "0") not in needed.specifier
    ]
    assert broken == []


# --- what is used ---------------------------------------------------------------------

# Packages that no code imports, and the words in the project that need them.
USED_WITHOUT_IMPORT = {
    "tensorflow-metal": r"2\.19\.1 is the newest that Metal's plug-in loads under",
    "ipykernel": r'"name": "python3"',
    "ipywidgets": r"from tqdm\.auto import",
    "jupyterlab": r"-m jupyterlab",
    "nbconvert": r"-m\s+nbconvert",
    "openpyxl": r"openpyxl|to_excel|ExcelWriter",
    "pytest": r"-m pytest",
    "ruff": r"-m ruff",
    "soxr": r"librosa\.resample\(",
    "setuptools": r"-m tensorboard\.main",
    "tensorboard": r"-m tensorboard\.main",
    "tensorflow": r"^\s*(import|from) tensorflow",
    "tensorflow-cpu": r"^\s*(import|from) tensorflow",
}


@functools.cache
def code() -> dict[str, str]:
    """Return all Python code of the project by file name."""
    found = {}
    for folder in ("lib", "tests", "benchmarks", "tools"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            found[str(path.relative_to(REPOSITORY))] = path.read_text("utf-8")
    for path in (REPOSITORY / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        code_cells = [cell for cell in cells if cell["cell_type"] == "code"]
        found[path.name] = "\n".join("".join(cell["source"]) for cell in code_cells)
    return found


@functools.cache
def imported() -> dict[str, set[str]]:
    """Return the files that import a module, by top-level module name."""
    found: dict[str, set[str]] = {}
    for name, source in code().items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module]
            else:
                continue
            for module in modules:
                found.setdefault(module.split(".")[0], set()).add(name)
    return found


@functools.cache
def distributions() -> dict[str, set[str]]:
    """Return the packages that an importable module comes from."""
    return {
        module: {canonicalize_name(package) for package in packages}
        for module, packages in metadata.packages_distributions().items()
    }


def names_in(file: str) -> set[str]:
    found = lines(REQUIREMENTS / file)
    return {canonicalize_name(Requirement(line).name) for line in found}


def in_tests(file: str) -> bool:
    return file.startswith("tests/")


@pytest.mark.parametrize("needed", ["direct.in", "tests.in"])
def test_every_direct_dependency_is_used(needed):
    # What only the tests import is not installed for everybody.
    used = set()
    for module, importing in imported().items():
        if needed == "tests.in" or not all(map(in_tests, importing)):
            used |= distributions().get(module, set())
    # This file's own patterns prove nothing.
    own = f"tests/{Path(__file__).name}"
    texts = [text for file, text in code().items() if file != own]
    for file in ("Makefile", "README.md", "CONTRIBUTING.md", "environment.yml"):
        texts.append((REPOSITORY / file).read_text("utf-8"))
    for name, pattern in USED_WITHOUT_IMPORT.items():
        if any(re.search(pattern, text, re.MULTILINE) for text in texts):
            used.add(name)
    assert names_in(needed) - used == set(), "nothing needs them: drop them"


@pytest.mark.parametrize("tested", [False, True])
def test_every_import_is_a_direct_dependency(tested):
    declared = names_in("direct.in") | TENSORFLOW
    declared |= names_in("tests.in") if tested else set()
    own = {"lib", "benchmarks", "tools"} | {
        path.stem for path in (REPOSITORY / "tests").glob("*.py")
    }
    own |= set(sys.stdlib_module_names)
    undeclared = {
        module: sorted(files)
        for module, files in imported().items()
        if module not in own | {"opensmile"}  # optional, its licence is restrictive
        and (tested or not all(map(in_tests, files)))
        and not distributions().get(module, {module}) & declared
    }
    assert undeclared == {}


# --- the Makefile ---------------------------------------------------------------------


def make(folder: Path, *arguments: str, **environment: str):
    return subprocess.run(
        [shutil.which("make"), *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def program(path: Path, body: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def clone(tmp_path):
    """Return a folder with the Makefile and the lists, and nothing installed."""
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    shutil.copytree(REQUIREMENTS, tmp_path / "requirements")
    return tmp_path


def pretend(clone: Path, system: str, machine: str, gpu: str) -> str:
    """Make programs that tell of another machine; return the PATH to find them."""
    answer = f'case "$1" in -s) echo {system} ;; *) echo {machine} ;; esac'
    program(clone / "bin" / "uname", answer)
    program(clone / "bin" / "nvidia-smi", gpu)
    return f"{clone / 'bin'}:{os.environ['PATH']}"


WORKING, BROKEN = 'echo "GPU 0: NVIDIA (UUID: GPU-0)"', "exit 9"


@pytest.mark.parametrize(
    ("system", "machine", "gpu", "expected"),
    [
        ("Linux", "x86_64", WORKING, "linux-cuda"),
        ("Linux", "x86_64", BROKEN, "linux-cpu"),
        ("Linux", "x86_64", "echo 'No devices were found'", "linux-cpu"),
        ("Linux", "aarch64", BROKEN, "linux-arm64"),
        ("Darwin", "arm64", BROKEN, "macos-arm64"),
    ],
)
def test_setup_chooses_the_list_of_the_platform(clone, system, machine, gpu, expected):
    path = pretend(clone, system, machine, gpu)
    done = make(clone, "-n", "setup", PATH=path)
    assert done.returncode == 0, done.stderr
    chosen = set(re.findall(r"-r requirements/([\w-]+)\.txt", done.stdout))
    assert chosen == {expected}


def test_setup_explains_that_a_platform_has_no_list(clone):
    done = make(clone, "setup", PATH=pretend(clone, "Darwin", "x86_64", BROKEN))
    assert done.returncode != 0
    assert "no-list-for-Darwin-x86_64" in done.stderr
    assert all(name in done.stderr for name in LISTS)


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


def test_what_only_the_tests_need_is_installed_for_them_alone(clone):
    environment = clone / ".venv"
    environment.mkdir()
    path = pretend(clone, "Linux", "x86_64", BROKEN)
    (environment / "installed-linux-cpu").touch()
    wanted = "-r requirements/tests.txt"
    for command in ("test", "test-fast", "lint", "format"):
        assert wanted in make(clone, "-n", command, PATH=path).stdout
    for command in ("setup", "demo", "lab"):
        assert wanted not in make(clone, "-n", command, PATH=path).stdout
    (environment / "with-tests").touch()
    assert wanted not in make(clone, "-n", "test", PATH=path).stdout


def test_setup_says_which_python_it_needs(clone):
    for name in ("python3.11", "python3", "python"):
        program(clone / "bin" / name, "exit 1")
    path = pretend(clone, "Linux", "x86_64", BROKEN)
    done = make(clone, "setup", PATH=path)
    assert done.returncode != 0
    assert "Python 3.11 was not found" in done.stderr
    assert "make setup PYTHON=" in done.stderr
    assert not (clone / ".venv").exists()


@pytest.mark.slow
def test_setup_makes_an_environment_and_begins_anew_for_another_platform(clone):
    for name in LISTS:
        (clone / "requirements" / f"{name}.txt").write_text("# nothing to install\n")
    extra = clone / ".venv" / "extra"
    make(clone, "setup", "PLATFORM=linux-cpu").check_returncode()
    extra.touch()
    # Two TensorFlows share their files: neither survives the other's removal.
    make(clone, "setup", "PLATFORM=linux-cuda").check_returncode()
    (stamp,) = (clone / ".venv").glob("installed-*")
    assert stamp.name == "installed-linux-cuda" and not extra.exists()


def test_help_is_the_default_and_lists_every_command():
    done = make(REPOSITORY)
    text = (REPOSITORY / "Makefile").read_text("utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.+)$", text, re.MULTILINE)
    listed = re.findall(r"^  ([a-z-]+) ", done.stdout, re.MULTILINE)
    assert sorted(listed) == sorted(phony.split())


# --- what is checked before a change is taken -----------------------------------------


@pytest.mark.parametrize("failing", ["", "lint", "test"])
def test_ci_lints_then_tests_and_stops_at_a_failure(tmp_path, failing):
    (tmp_path / ".ci").mkdir()
    shutil.copy(REPOSITORY / ".ci" / "run", tmp_path / ".ci" / "run")
    rule = "{0}:\n\t@echo {0} CI=$(CI) stdin=$$(wc -c)\n\t@test {0} != '{1}'\n"
    rules = [rule.format(name, failing) for name in ("lint", "test")]
    (tmp_path / "Makefile").write_text("".join(rules))
    # Under `make test`, make has told its children that it is running.
    quiet = {
        k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))
    }
    done = subprocess.run(
        [tmp_path / ".ci" / "run"],
        input="y\n",
        capture_output=True,
        text=True,
        env=quiet,
    )
    ran = ["lint CI=true stdin=0", "test CI=true stdin=0"]
    assert done.stdout.splitlines() == (ran[:1] if failing == "lint" else ran)
    assert (done.returncode == 0) == (failing == "")


def test_the_readme_names_commands_and_files_that_exist():
    pages = ("README.md", "CONTRIBUTING.md")
    readme = "".join((REPOSITORY / page).read_text("utf-8") for page in pages)
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    commands = set(re.findall(r"(?:`|^\s*)make ([a-z-]+)", readme, re.MULTILINE))
    assert commands >= {"demo", "test", "lab"} and commands <= targets
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", readme)
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


# --- licence, citation and version ----------------------------------------------------


def test_the_licence_is_named_the_same_everywhere():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text("utf-8"))
    licence = (REPOSITORY / "LICENSE").read_text("utf-8")
    (author,) = citation["authors"]
    assert licence.startswith("MIT License") and citation["license"] == "MIT"
    assert f"Copyright (c) 2026 {author['name']}\n" in licence
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"


def test_the_version_stands_in_one_place():
    stated = r"^(?:__version__|version)\s*[=:]\s*\S+"
    files = [REPOSITORY / name for name in ("CITATION.cff", "pyproject.toml")]
    files += (REPOSITORY / "lib").rglob("*.py")
    found = [
        (file.name, line)
        for file in files
        for line in re.findall(stated, file.read_text("utf-8"), re.MULTILINE)
    ]
    assert len(found) == 1, found
    assert re.fullmatch(r"version: \d+\.\d+\.\d+", found[0][1])
