"""The benchmarks measure by turns."""

from benchmarks import contest


def counting(start):
    numbers = iter(range(start, 99))
    return lambda: next(numbers)


def test_contenders_are_processes_of_their_own_that_take_turns():
    contenders = {
        name: contest.start("tests.test_benchmarks:counting", start=start)
        for name, start in (("a", 1), ("b", 10))
    }
    turns = contest.take_turns(contenders, 3)
    assert [turn["answer"] for turn in turns["a"]] == [1, 2, 3]
    assert [turn["answer"] for turn in turns["b"]] == [10, 11, 12]
