"""All folds of a run, and of several seeds, as one program on JAX.

Weights, optimiser states and batches of the folds are stacked along a first axis, and
one step is mapped over it. A GPU that one small network leaves idle is filled by ten.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import keras
import numpy as np
from keras import ops


class Networks:
    """Stacked states of one network; trains and answers as `fold.Network` does."""

    def __init__(self, network: Any) -> None:
        self.network = network
        step = jax.vmap(step_function(network), in_axes=(0, None, 0, 0, 0))
        self._step = jax.jit(step, donate_argnums=0)
        self._answers = jax.jit(jax.vmap(self._answer, in_axes=(0, None, 0)))
        self._host_clips = None

    def assign(self, states: Sequence[Sequence[np.ndarray]]) -> None:
        """Stack the states of some folds."""
        together = zip(*states, strict=True)
        self._states = [jax.device_put(np.stack(values)) for values in together]
        self._copied = None

    def state(self, fold: int) -> list[np.ndarray]:
        """Return a copy of the state of a fold."""
        if self._copied is None:
            self._copied = jax.device_get(self._states)
        return [np.array(values[fold]) for values in self._copied]

    def train_epoch(self, clips, labels, orders, rates, weights) -> list[tuple]:
        """Train each fold once on the clips of its order; without any it stays."""
        names = [variable.name for variable in self.network.variables]
        self._states[names.index("learning_rate")] = np.array(rates, np.float32)
        size, counts = self.network.batch_size, np.array([*map(len, orders)])
        length = -(-max(counts) // size) * size
        rows = np.stack([_filled(order, length) for order in orders])
        weights = np.stack([w[part] for w, part in zip(weights, rows, strict=True)])
        weights *= np.arange(length) < counts[:, None]
        clips, found = self._on_device(clips), []
        for start in range(0, length, size):
            part = rows[:, start : start + size]
            real = weights[:, start : start + size]
            done = self._step(self._states, clips, part, labels[part], real)
            self._states, loss, probabilities = done
            found.append(((real > 0).sum(axis=1), loss, probabilities))
        self._copied = None
        sizes, means, said = zip(*found, strict=True)
        totals = (np.stack(sizes) * np.stack(means)).sum(axis=0)
        means = totals / np.maximum(counts, 1)
        triples = zip(means, np.concatenate(said, axis=1), counts, strict=True)
        return [(float(mean), said[:count]) for mean, said, count in triples]

    def answer(self, clips: np.ndarray, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return each fold's probabilities of some clips, by its EMA weights."""
        longest = max(map(len, rows))
        filled = np.stack([_filled(part, longest) for part in rows])
        answers = self._answers(self._states, self._on_device(clips), filled)
        pairs = zip(np.asarray(answers), rows, strict=True)
        return [answer[: len(part)] for answer, part in pairs]

    def _on_device(self, clips: np.ndarray) -> Any:
        if clips is not self._host_clips:
            self._host_clips, self._clips = clips, jax.device_put(clips)
        return self._clips

    def _answer(self, state, clips, rows):
        model, variables = self.network.model, self.network.optimizer.variables
        trainable, others, rest = _groups(model, state)
        if self.network.optimizer.use_ema:
            named = zip(variables, rest, strict=True)
            trainable = [v for item, v in named if item.name.endswith("_average")]
        return model.stateless_call(trainable, others, clips[rows], training=False)[0]


def step_function(network: Any) -> Callable:
    """Return the pure function that trains one fold on one batch.

    From the fold's state, the clips of the corpus, and of the batch the indices, soft
    labels and weights (what a row counts; 0: it only fills the batch up) to the state
    after the step, the mean loss and the probabilities. Without real rows the state
    stays.
    """
    model, optimizer = network.model, network.optimizer

    def mean_loss(trainable, others, clips, labels, weights):
        with _masked_normalisation(weights):
            probabilities, others, penalties = model.stateless_call(
                trainable, others, clips, training=True, return_losses=True
            )
        losses = network.loss(labels, probabilities) * weights
        real = ops.sum(ops.cast(weights > 0, losses.dtype))
        mean = ops.sum(losses) / ops.maximum(real, 1.0)
        return mean + sum(penalties), (others, probabilities)

    def step(state, clips, rows, labels, weights):
        trainable, others, rest = _groups(model, state)
        gradient = jax.value_and_grad(mean_loss, has_aux=True)
        (loss, (others, probabilities)), gradients = gradient(
            trainable, others, clips[rows], labels, weights
        )
        trainable, rest = optimizer.stateless_apply(rest, gradients, trainable)
        real, after = ops.sum(weights) > 0, [*trainable, *others, *rest]
        kept = [ops.where(real, b, a) for a, b in zip(state, after, strict=True)]
        return kept, loss, probabilities

    return step


def _groups(model: keras.Model, state: Sequence) -> tuple[Sequence, ...]:
    """Return the trainable, the other, and the optimiser's values of a state."""
    first = len(model.trainable_variables)
    second = first + len(model.non_trainable_variables)
    return state[:first], state[first:second], state[second:]


def _filled(rows: np.ndarray, length: int) -> np.ndarray:
    """Return rows repeated up to a length."""
    return np.resize(rows if len(rows) else [0], length)


@contextlib.contextmanager
def _masked_normalisation(weights: Any) -> Iterator[None]:
    """Let batch normalisations that are traced ignore the rows of weight 0."""
    kind = keras.layers.BatchNormalization
    original = kind.call

    def call(self, inputs, training=None, mask=None):
        # A generated kernel, which is normalised too, has a single row.
        if inputs.shape[0] == len(weights) > 1:
            shape = (-1, *[1] * (len(inputs.shape) - 2))
            mask = ops.reshape(weights > 0, shape)
            mask = ops.broadcast_to(mask, inputs.shape[:-1])
        return original(self, inputs, training=training, mask=mask)

    kind.call = call
    try:
        yield
    finally:
        kind.call = original
