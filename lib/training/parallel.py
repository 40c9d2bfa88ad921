"""Train folds of a run, or of several seeds, as one program, on the JAX backend.

The networks of the folds have one shape, so their weights, optimiser states,
batches and dropout seeds are stacked along a first axis, and one step is mapped
over it. Each fold sees the clips, the order and the random numbers that it would
see alone, and its files are the same too: a run may be cut off in one way and go
on in the other. A GPU that one small network leaves idle is filled by ten.
"""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from lib import features
from lib.losses import smoothed_labels
from lib.metrics.classification import scores_of_counts
from lib.systems import SYSTEMS
from lib.training import fold as fold_module
from lib.training.clips import Augmentation, predict_utterances
from lib.training.curves import Curves
from lib.training.fold import FoldTraining, Outcome, Progress
from lib.training.program import Program

Report = Callable[[FoldTraining, dict[str, float]], None]
State = Any  # lists of arrays: trainable, other, optimiser's; a first axis of folds


def possible(model: str, augmentations: Sequence[Augmentation], folds: int) -> bool:
    """Tell whether folds can be trained together.

    That takes JAX, a network, more than one fold, and clips that are the same for
    all of them: altered anew in every epoch, or once by the seed of each run, they
    would differ from fold to fold.

    Args:
        model: The system.
        augmentations: Those of the runs that the folds belong to.
        folds: Number of folds, over all runs.
    """
    jax = keras.backend.backend() == "jax" and not SYSTEMS[model].fit
    altered = any(each.cepstrum is not None for each in augmentations)
    copies = any(each.copies is not None for each in augmentations)
    same = not altered and (not copies or len(augmentations) == 1)
    return jax and same and folds > 1


def train_together(trainings: Sequence[FoldTraining], report: Report) -> list[Outcome]:
    """Train folds together; where memory is too small for all, half and half.

    Args:
        trainings: One per fold, all with the same program.
        report: Called with what trains the fold and the figures of each epoch.

    Returns:
        The outcomes, in the order given; they are on disk already.
    """
    try:
        return _Together(trainings).run(report)
    except Exception as error:
        # JAX's error of a full memory has no class of its own.
        if "RESOURCE_EXHAUSTED" not in str(error) or len(trainings) == 1:
            raise
    # The failed attempt is a circle of references, and holds memory until it is found.
    gc.collect()
    half = (len(trainings) + 1) // 2
    first = train_together(trainings[:half], report)
    return first + train_together(trainings[half:], report)


@dataclasses.dataclass(frozen=True)
class _Store:
    """The clips of the whole corpus, on the device once; folds point into them.

    Attributes:
        clips: (n, frames, coefficients), on the device.
        labels: Soft labels (n, classes).
        train: Indices of each fold's training clips, in the fold's own order.
        validation: Indices of each fold's validation clips.
    """

    clips: Any
    labels: np.ndarray
    train: list[np.ndarray]
    validation: list[np.ndarray]

    @classmethod
    def of(cls, trainings: Sequence[FoldTraining]) -> _Store:
        """Return the store of some folds of one corpus."""
        import jax

        first = trainings[0]
        clips, owner = features.pieces(first.x)
        own = _indices(owner, len(first.y))
        if (copies := first.augmentation.copies) is None:
            added = [np.zeros(0, int)] * len(own)
        else:
            more, of = features.pieces(copies)
            added = [index + len(clips) for index in _indices(of, len(first.y))]
            clips, owner = np.concatenate([clips, more]), np.concatenate([owner, of])
        smoothing = first.program.recipe.label_smoothing
        return cls(
            jax.device_put(clips),
            smoothed_labels(first.y[owner], first.num_classes, smoothing),
            # As `Augmentation.training_clips`: first the clips, then the copies.
            [_of(own, t.fold.train, added) for t in trainings],
            [_of(own, t.fold.validation) for t in trainings],
        )


def _indices(owner: np.ndarray, rows: int) -> list[np.ndarray]:
    """Return where the clips of every row stand."""
    return np.split(np.arange(len(owner)), np.searchsorted(owner, np.arange(1, rows)))


def _of(
    own: list[np.ndarray],
    rows: np.ndarray,
    added: list[np.ndarray] | None = None,
) -> np.ndarray:
    """Return the clips of some rows, then their copies."""
    groups = [own] if added is None else [own, added]
    parts = [group[row] for group in groups for row in rows]
    return np.concatenate([np.zeros(0, int), *parts]).astype(np.int32)


class _Together:
    """The stacked state of some folds, and what changes it."""

    def __init__(self, trainings: Sequence[FoldTraining]) -> None:
        import jax

        self.trainings = trainings
        self.program: Program = trainings[0].program
        self.size = self.program.recipe.batch_size
        self.store = _Store.of(trainings)
        self._step = jax.jit(stacked_step(self.program), donate_argnums=0)
        self._answers = jax.jit(jax.vmap(self._one_answer, in_axes=(0, None, 0)))
        self._better = jax.jit(jax.vmap(_chosen), donate_argnums=0)

    def run(self, report: Report) -> list[Outcome]:
        """Train all folds from where they stand, then test them."""
        import jax

        progresses, state, best = self._begin()
        curves = [
            training.curves(progress)
            for training, progress in zip(self.trainings, progresses, strict=True)
        ]
        for training, progress in zip(self.trainings, progresses, strict=True):
            for row in progress.history:
                report(training, row)
        saved = time.monotonic()
        while open_folds := [
            progress.epoch
            for training, progress in zip(self.trainings, progresses, strict=True)
            if not training.ended(progress)
        ]:
            # Folds that a cut has left behind catch up first.
            done = min(open_folds)
            active = np.array(
                [
                    progress.epoch == done and not training.ended(progress)
                    for training, progress in zip(
                        self.trainings, progresses, strict=True
                    )
                ]
            )
            state, best, rows = self._epoch(state, best, progresses, active, done + 1)
            for index in np.flatnonzero(active):
                curves[index].add(rows[index])
                report(self.trainings[index], rows[index])
            if time.monotonic() - saved >= fold_module.CHECKPOINT_SECONDS:
                self._save(state, best, progresses, curves)
                saved = time.monotonic()
        for item in curves:
            item.close()
        outcomes = []
        state, best = jax.device_get((state, best))
        for index, progress in enumerate(progresses):
            self._restore(state, best, index, progress)
            outcomes.append(self.trainings[index].finish(progress))
        return outcomes

    def _begin(self) -> tuple[list[Progress], State, State]:
        """Return where every fold stands, their state, and the state at their best."""
        import jax

        progresses, states, bests = [], [], []
        for training in self.trainings:
            progresses.append(training.resume())
            states.append(self.program.values())
            if progresses[-1].best:
                self.program.restore(progresses[-1].best)
            bests.append(self.program.values())
        stack = [
            jax.tree.map(lambda *a: np.stack(a), *each) for each in (states, bests)
        ]
        return progresses, *map(jax.device_put, stack)

    def _epoch(
        self,
        state: State,
        best: State,
        progresses: list[Progress],
        active: np.ndarray,
        epoch: int,
    ) -> tuple[State, State, list[dict[str, float]]]:
        """Train and validate the folds that are active."""
        begun = time.monotonic()
        rates = self.program.recipe.learning_rate * np.array(
            [
                training.schedule(epoch, progress.history)
                for training, progress in zip(self.trainings, progresses, strict=True)
            ]
        )
        rates = rates.astype(np.float32)
        results = []
        for rows, weights in self._batches(epoch, active):
            labels = self.store.labels[rows]
            state, *result = self._step(
                state, self.store.clips, rows, labels, weights, rates
            )
            results.append((weights.sum(axis=1), *result))
        table = [{"epoch": epoch} | row for row in _figures(results)]
        indices = np.flatnonzero(active)
        for index in indices:
            self.trainings[index].require_finite(table[index])
        if self.trainings[0].chosen_on != "last":
            better = self._judge(state, progresses, table, active)
            best = self._better(best, state, better)
        # Each fold is charged its share of the time.
        seconds = (time.monotonic() - begun) / len(indices)
        for index in indices:
            self.trainings[index].record(progresses[index], table[index], seconds)
        return state, best, table

    def _batches(
        self, epoch: int, active: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield indices and weights, (folds, batch), of every step of an epoch.

        A fold that has fewer clips, or is not active, has weights of zero.
        """
        orders = [
            clips[training.random(epoch).permutation(len(clips))]
            for training, clips in zip(self.trainings, self.store.train, strict=True)
        ]
        steps = -(-max(map(len, orders)) // self.size)
        rows = np.stack([np.resize(order, steps * self.size) for order in orders])
        lengths = np.array([len(order) for order in orders]) * active
        weights = (np.arange(steps * self.size) < lengths[:, None]).astype(np.float32)
        for start in range(0, steps * self.size, self.size):
            here = slice(start, start + self.size)
            yield rows[:, here], weights[:, here]

    def _judge(
        self,
        state: State,
        progresses: list[Progress],
        table: list[dict[str, float]],
        active: np.ndarray,
    ) -> np.ndarray:
        """Add the validation's figures; tell which folds are best so far."""
        longest = max(map(len, self.store.validation))
        rows = np.stack([np.resize(some, longest) for some in self.store.validation])
        answers = np.asarray(self._answers(state, self.store.clips, rows))
        better = np.zeros(len(table), bool)
        for index in np.flatnonzero(active):
            training = self.trainings[index]
            found = answers[index, : len(self.store.validation[index])]
            x = training.x[training.fold.validation]
            probabilities, _ = predict_utterances(lambda _, a=found: (a, a), x)
            better[index] = training.judge(
                progresses[index], table[index], probabilities
            )
        return better

    def _save(
        self,
        state: State,
        best: State,
        progresses: list[Progress],
        curves: list[Curves],
    ) -> None:
        """Write a checkpoint of every fold."""
        import jax

        state, best = jax.device_get((state, best))
        for index, progress in enumerate(progresses):
            self._restore(state, best, index, progress)
            self.trainings[index].save_checkpoint(progress)
            curves[index].save()

    def _restore(
        self, state: State, best: State, index: int, progress: Progress
    ) -> None:
        """Bring the program to the state of one fold; the states are NumPy's."""
        import jax

        if progress.best_epoch:
            self.program.assign(jax.tree.map(lambda a: a[index], best))
            progress.best = self.program.state()
        self.program.assign(jax.tree.map(lambda a: a[index], state))

    def _one_answer(self, state, clips, rows):
        """Return the probabilities of some clips by one fold's network."""
        trainable, others = self.program.answering(state)
        return self.program.network.stateless_call(
            trainable, others, clips[rows], training=False
        )[0]


def stacked_step(program: Program) -> Callable:
    """Return the function that trains folds for one step.

    Its arguments are the folds' states, the clips of the corpus, which all share, and
    of each fold the indices of its batch, labels, weights and learning rate. It
    returns the states, losses and confusions. A fold without real rows stays as it is.

    Args:
        program: The program of the folds.
    """
    import jax
    from jax import numpy

    def one(state, clips, rows, labels, weights, rate):
        asked = program.with_learning_rate(state, rate)
        after, loss, confusions = program.step.compute(
            asked, clips[rows], labels, weights
        )
        real = weights.sum() > 0
        loss = numpy.where(real, loss, 0.0)
        return _chosen(state, after, real), loss, confusions

    return jax.vmap(one, in_axes=(0, None, 0, 0, 0, 0))


def _chosen(old: State, new: State, take: Any) -> State:
    """Return the new state where `take`, else the old one."""
    import jax

    return jax.tree.map(lambda a, b: jax.numpy.where(take, b, a), old, new)


def _figures(results: list[tuple]) -> list[dict[str, float]]:
    """Return mean loss, accuracy and UAR while training, of every fold.

    A fold that has not trained has no figures.
    """
    clips = np.stack([count for count, _, _ in results])  # (steps, folds)
    losses = np.stack([np.asarray(loss) for _, loss, _ in results])
    counts = sum(np.asarray(confusions, np.float64) for *_, confusions in results)
    totals, seen = (losses * clips).sum(axis=0), clips.sum(axis=0)
    rows: list[dict[str, float]] = []
    for total, count, confusions in zip(totals, seen, counts, strict=True):
        if not count:
            rows.append({})
            continue
        scores = scores_of_counts(np.asarray(confusions))
        figures = {"accuracy": float(scores["war"]), "uar": float(scores["uar"])}
        rows.append({"loss": float(total / count)} | figures)
    return rows
