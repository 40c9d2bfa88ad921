"""Train folds side by side on a processor, each in a thread of its own.

One small network leaves a core idle while its operations wait for each other; two
folds at once do not. The results are those of one fold after the other: a fold's
random numbers are its own.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import joblib
import keras

from lib.protocols import Fold
from lib.systems import SYSTEMS
from lib.training.fold import FoldTraining, Outcome

Report = Callable[[Fold, dict[str, float]], None]
# Each holds a network, its optimiser and the arrays of a step in memory.
MOST = 8
# Every thread compiles a network of its own, which takes as long as some hundred steps.
LEAST_STEPS = 1000


class _StoppedError(Exception):
    """Another fold has failed, or the user has interrupted."""


def workers(model: str, device: str, folds: int, steps: int) -> int:
    """Return how many folds to train at once; 1 where that is no use.

    As many as there are cores that this process may use.

    Args:
        model: The system.
        device: "cpu" or "gpu"; one network after the other on a GPU.
        folds: Number of folds to train.
        steps: Steps of all of them; for a few, one network is sooner compiled.
    """
    here = keras.backend.backend() == "tensorflow" and device == "cpu"
    if not here or SYSTEMS[model].fit or steps < LEAST_STEPS:
        return 1
    return max(1, min(folds, joblib.cpu_count(), MOST))


def train_side_by_side(
    folds: Sequence[Fold],
    trainer: Callable[[Fold], FoldTraining],
    count: int,
    report: Report,
) -> Iterator[tuple[Fold, Outcome]]:
    """Yield folds and their outcomes as they are done.

    If a fold fails, or the caller stops, the others end with their epoch; what
    their last checkpoints hold is kept.

    Args:
        folds: The folds to train.
        trainer: From a fold to what trains it; called in the thread that will.
        count: Number of threads.
        report: Called with the fold and the figures of each epoch, by one thread
            at a time.
    """
    done: queue.SimpleQueue = queue.SimpleQueue()
    stop, one_at_a_time = threading.Event(), threading.Lock()

    def train(fold: Fold) -> None:
        def tell(row: dict[str, float]) -> None:
            if stop.is_set():
                raise _StoppedError
            with one_at_a_time:
                report(fold, row)

        try:
            if not stop.is_set():
                done.put((fold, trainer(fold).run(tell)))
        except BaseException as error:
            done.put((fold, error))

    with ThreadPoolExecutor(count, thread_name_prefix="fold") as pool:
        try:
            for fold in folds:
                pool.submit(train, fold)
            for _ in folds:
                fold, result = done.get()
                if isinstance(result, BaseException):
                    raise result
                yield fold, result
        finally:
            stop.set()
