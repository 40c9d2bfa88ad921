"""What the benchmarks say about measurements; nothing here is timed."""

import math
import subprocess
import sys

import pytest

from benchmarks import curves, fresh, page, peers, suite
from lib import files
from lib.files import REPOSITORY, write_json

MODULES = {
    "fake_good": "def measure():\n    print('a word')\n    return {'peak_gib': 2.0}\n",
    "fake_bad": "def measure():\n    raise ValueError('the disk is on fire')\n",
    "fake_exit": "def measure():\n    raise SystemExit('official did not start')\n",
    "fake_dead": "import os\ndef measure():\n    os._exit(7)\n",
    "fake_numpy": "import numpy\ndef measure():\n"
    "    return {'ratio': numpy.float32(0.5)}\n",
    "fake_nan": "def measure():\n    return {'ratio': float('nan')}\n",
    "fake_asked": "def measure(official):\n    return {'ratio': len(official)}\n",
}


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """Modules that can be imported here and in the processes of the parts."""
    for name, source in MODULES.items():
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def parts(**figures):
    """Return parts that were measured, from their figures."""
    return {
        name: {"status": "measured", "error": "", "figures": found}
        for name, found in figures.items()
    }


def measured(**figures):
    """Return the rows of the table by part and figure, from fake figures."""
    found = parts(**figures)
    return {
        (line[0], line[1]): line
        for line in suite.rows([target.judge(found) for target in suite.TARGETS])
    }


# --- parts ----------------------------------------------------------------------------


def test_a_failing_part_does_not_stop_the_others(fakes, monkeypatch, capsys):
    modules = ("fake_bad", "fake_exit", "fake_dead", "fake_gone", "fake_good")
    fake = {name: suite.Part(name) for name in modules}
    monkeypatch.setattr(suite, "PARTS", fake)
    done = suite.run_all(list(fake), {})
    assert [part["status"] for part in done.values()] == [
        "failed",
        "failed",
        "failed",
        "not there",
        "measured",
    ]
    assert done["fake_bad"]["error"] == "ValueError: the disk is on fire"
    assert "official did not start" in done["fake_exit"]["error"]
    assert "status 7" in done["fake_dead"]["error"]
    assert "fake_gone" in done["fake_gone"]["error"]
    assert done["fake_good"]["figures"] == {"peak_gib": 2.0}
    assert "the disk is on fire" in capsys.readouterr().out


def test_a_part_gets_the_options_it_takes_and_is_left_out_without_those_it_needs(
    fakes,
):
    part = suite.Part("fake_asked", ("official", "peer"), ("official",))
    left_out = suite.run(part, {"official": "", "peer": "x"})
    assert left_out["status"] == "left out" and "--official" in left_out["error"]
    part = suite.Part("fake_asked", ("official",), ("official",))
    options = {"official": "four", "peer": "x"}
    assert suite.run(part, options)["figures"] == {"ratio": 4}


def test_options_come_from_the_command_line_or_else_the_environment(monkeypatch):
    monkeypatch.setenv("SER_OFFICIAL", "there")
    monkeypatch.delenv("SER_PEER", raising=False)
    assert suite.arguments([]).official == "there"
    assert suite.arguments(["--official", "here"]).official == "here"
    assert suite.arguments([]).peer == ""
    assert suite.arguments(["--only", "memory", "step"]).only == ["memory", "step"]


def test_every_target_is_of_a_part():
    assert {target.part for target in suite.TARGETS} <= set(suite.PARTS)


def test_numbers_of_numpy_come_back_and_errors_keep_their_names(fakes):
    assert fresh.call("fake_numpy:measure") == {"ratio": 0.5}
    with pytest.raises(RuntimeError, match="not JSON compliant"):
        fresh.call("fake_nan:measure")
    with pytest.raises(RuntimeError, match="AttributeError.*no_such_function"):
        fresh.call("math:no_such_function")


# --- verdicts -------------------------------------------------------------------------


def test_a_missed_target_is_marked_as_missed():
    rows = measured(
        memory={"peak_gib": 2.51},
        step={"ours_over_official": 0.55, "ours_over_pytorch": 1.2},
        features={"ratio": 9.9, "largest_difference": 1e-5},
    )
    verdicts = {key: line[-1] for key, line in rows.items()}
    assert verdicts["memory", "peak memory of a training run"] == "NO"
    assert verdicts["step", "training step, ours / official"] == "yes"
    assert verdicts["step", "training step, ours / PyTorch"] == "NO"
    assert verdicts["features", "clips per second, ours / official"] == "NO"
    assert verdicts["features", "largest difference of features"] == "yes"
    assert verdicts["study", "whole study, ours / official"] == "not measured"


def test_more_is_better_where_a_target_says_at_least():
    (row,) = (
        line
        for line in measured(features={"ratio": 12.0}).values()
        if line[1] == "clips per second, ours / official"
    )
    assert row[2:] == (">= 10.0", "12.0", "yes")


def test_what_is_not_a_number_meets_no_target():
    (target,) = (target for target in suite.TARGETS if target.part == "memory")
    judged = target.judge(parts(memory={"peak_gib": math.nan}))
    assert judged["met"] is False
    failed = {"memory": {"status": "failed", "error": "x", "figures": {}}}
    assert target.judge(failed)["met"] is None


def test_the_ratio_is_measured_over_target():
    (target,) = (target for target in suite.TARGETS if target.part == "memory")
    assert target.judge(parts(memory={"peak_gib": 1.25}))["ratio"] == 0.5


def test_the_printed_table_has_a_line_for_every_target():
    text = suite.table(list(measured(memory={"peak_gib": 1.0}).values()))
    assert len(text.splitlines()) == 1 + len(suite.TARGETS)
    assert "<= 2.50 GiB  1.00 GiB  yes" in text


# --- what is saved --------------------------------------------------------------------


def record(commit):
    return {
        "status": "measured",
        "error": "",
        "started": f"2000-01-0{commit}T00:00:00Z",
        "seconds": 1.0,
        "load": 0.1,
        "code": {"commit": str(commit), "changed": False},
        "figures": {"peak_gib": 3.0},
    }


def test_other_parts_are_kept_only_from_the_same_machine(monkeypatch, tmp_path):
    first = suite.document({"memory": record(1)}, {})
    both = suite.document({"curves": record(2)}, first)
    assert list(both["parts"]) == ["memory", "curves"]
    assert both["parts"]["memory"]["code"]["commit"] == "1"
    assert [one["met"] for one in both["targets"] if one["part"] == "memory"] == [False]
    elsewhere = both | {"machine": {"processor": "another"}}
    assert list(suite.document({"curves": record(2)}, elsewhere)["parts"]) == ["curves"]
    write_json(tmp_path / "last.json", both)
    assert suite.read(tmp_path / "last.json") == both
    assert suite.read(tmp_path / "none.json") == {}


# --- curves ---------------------------------------------------------------------------


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_is_that_of_the_power_law(power):
    sizes = [1, 2, 4, 8]
    times = {size: [3e-3 * size**power, 1.0, 0.0] for size in sizes}
    found = curves.curve(times, "ms")
    assert found["exponent"] == pytest.approx(power)
    assert found["points"][0] == {"size": 1, "median": 3.0, "low": 0.0, "high": 1000.0}


# --- the page -------------------------------------------------------------------------


def test_the_page_is_that_of_the_committed_figures():
    data = suite.read()
    assert page.PAGE.read_text("utf-8") == page.page(data), (
        "run `python -m benchmarks.page`"
    )
    assert page.digest(data).encode() in page.FIGURE.read_bytes()


def test_the_committed_verdicts_follow_from_the_committed_figures():
    data = suite.read()
    assert data["targets"] == [target.judge(data["parts"]) for target in suite.TARGETS]


def test_every_panel_of_the_figure_names_its_axes_and_units():
    axes = page.figure(suite.read()).axes
    assert len(axes) == 4
    assert all(ax.get_xlabel() and ax.get_title(loc="left") for ax in axes)
    units = [ax.get_ylabel().rpartition(" ")[2] for ax in axes]
    assert units == ["(s)", "(ms)", "(s)", "(ms)"]


def test_a_page_without_curves_is_refused():
    with pytest.raises(ValueError, match="--only curves --save"):
        page.page({"parts": {}})


def test_the_words_for_an_exponent_follow_its_value():
    assert page.verdict(0.5) == "less than in proportion"
    assert page.verdict(1.05) == "in proportion"
    assert page.verdict(2.0) == "more than in proportion"


def test_the_page_says_whether_the_machine_was_busy():
    data = {"parts": {"curves": {"load": 0.2}}, "machine": {"cores": 2}}
    assert page.busy(data).endswith("the machine was quiet.")
    data["parts"]["curves"]["load"] = 3.0
    assert "had other work" in page.busy(data)


@pytest.mark.parametrize("name", ["suite", "memory", "curves", "peers", "step"])
def test_every_benchmark_says_how_it_is_used(name):
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and f"benchmarks.{name}" in done.stdout


def test_a_contender_that_does_not_start_is_named(tmp_path):
    script = tmp_path / "peer.py"
    script.touch()  # without a network in it
    with pytest.raises(SystemExit, match=r"PyTorch did not start.*peer\.py"):
        peers.contest(peer=str(script), backends=())


def test_results_that_were_just_written_do_not_make_the_code_changed(
    tmp_path, monkeypatch
):
    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", "-C", tmp_path, *who, *words], check=True)

    results, code = tmp_path / "results" / "last.json", tmp_path / "code.py"
    results.parent.mkdir()
    for file in (results, code):
        file.write_text("1")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "first")
    monkeypatch.setattr(files, "REPOSITORY", tmp_path)
    monkeypatch.setattr(suite.fresh, "REPOSITORY", tmp_path)
    monkeypatch.setattr(suite, "RESULTS", results)
    results.write_text("2")
    assert suite.code()["changed"] is False
    code.write_text("2")
    assert suite.code()["changed"] is True
