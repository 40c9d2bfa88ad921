"""The benchmarks measure by turns, and say which target is missed."""

import sys

import pytest

from benchmarks import contest, suite


def counting(start):
    """A contender for these tests: each turn counts on."""
    numbers = iter(range(start, 99))
    return lambda: next(numbers)


def failing():
    """A contender that cannot be prepared."""
    raise ValueError("no such thing")


def test_contenders_are_processes_of_their_own_that_take_turns():
    contenders = {
        name: contest.start("tests.test_benchmarks:counting", start=start)
        for name, start in (("a", 1), ("b", 10))
    }
    turns = contest.take_turns(contenders, 3)
    assert [turn["answer"] for turn in turns["a"]] == [1, 2, 3]
    assert [turn["answer"] for turn in turns["b"]] == [10, 11, 12]
    assert all(turn["seconds"] >= 0 for turn in turns["a"] + turns["b"])


def test_a_contender_that_does_not_start_is_named(capfd):
    process = contest.start("tests.test_benchmarks:failing")
    with pytest.raises(RuntimeError, match=f"x did not start: {sys.executable}"):
        contest.take_turns({"x": process}, 1)
    assert "no such thing" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("value", "said"), [(0.5, "met"), (0.6, "MISSED"), (None, "not measured")]
)
def test_a_missed_target_is_marked(value, said):
    figures = {} if value is None else {"step": {"ours_over_official": value}}
    (line,) = [
        line for line in suite.judged(figures) if "step       ours_over_off" in line
    ]
    assert said in line
