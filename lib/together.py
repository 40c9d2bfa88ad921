"""All folds of a run, and of several seeds, as one program on JAX.

Weights, optimiser states and batches of the folds are stacked along a first axis, one
step is mapped over it, and an epoch is one call, as a call costs as much as a small
network's step. A GPU that one such network leaves idle is filled by ten.
"""

import contextlib
import itertools
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

        def epoch(states, clips, labels, rows, weights):
            def next_step(states, batch):
                rows, weights = batch
                states, *said = step(states, clips, rows, labels[rows], weights)
                return states, said

            return jax.lax.scan(next_step, states, (rows, weights))

        self._epoch, self._steps = jax.jit(epoch, donate_argnums=0), 0
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
        counts, size = np.array([*map(len, orders)]), self.network.batch_size
        # Never fewer steps than before: another number would be compiled anew.
        self._steps = max(self._steps, -(-max(counts) // size))
        length, shape = self._steps * size, (len(orders), self._steps, size)
        rows = np.stack([_filled(order, length) for order in orders])
        weights = np.stack([w[part] for w, part in zip(weights, rows, strict=True)])
        weights *= np.arange(length) < counts[:, None]
        batches = [part.reshape(shape).swapaxes(0, 1) for part in (rows, weights)]
        done = self._epoch(self._states, self._on_device(clips), labels, *batches)
        self._states, self._copied = done[0], None
        means, said = jax.device_get(done[1])  # (steps, folds), (steps, folds, size, K)
        totals = (means * (batches[1] > 0).sum(axis=2)).sum(axis=0)
        said = said.swapaxes(0, 1).reshape(len(orders), length, -1)
        triples = zip(totals / np.maximum(counts, 1), said, counts, strict=True)
        return [(float(mean), answers[:count]) for mean, answers, count in triples]

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
        with _mapped_layers():
            said = model.stateless_call(trainable, others, clips[rows], training=False)
        return said[0]


def step_function(network: Any) -> Callable:
    """Return the pure function that trains one fold on one batch.

    From the fold's state, all clips, and of the batch the rows, soft labels and weights
    (0: it only fills the batch up) to the next state, mean loss and probabilities.
    """
    model, optimizer = network.model, network.optimizer
    last = model.layers[-1]
    last = getattr(last, "layers", [last])[-1]  # the classifier's, if standardised

    def mean_loss(trainable, others, clips, labels, weights):
        last.activation, softmax = None, last.activation
        with _mapped_layers(weights):
            logits, others, penalties = model.stateless_call(
                trainable, others, clips, training=True, return_losses=True
            )
        last.activation, probabilities = softmax, softmax(logits)
        losses = network.loss(labels, probabilities, logits) * weights
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
def _mapped_layers(weights: Any = None) -> Iterator[None]:
    """Trace layers so that they suit networks that are mapped over.

    Batch normalisations ignore the rows of weight 0. Convolutions become matrix
    products: one for all networks, where a GPU takes a convolution for each of them.
    """
    kinds = keras.layers.BatchNormalization, keras.layers.Conv1D, keras.layers.Conv2D
    normalise, *_ = originals = [kind.call for kind in kinds]

    def normalised(self, inputs, training=None, mask=None):
        # A generated kernel, which is normalised too, has a single row.
        if weights is not None and inputs.shape[0] == len(weights) > 1:
            shape = (-1, *[1] * (len(inputs.shape) - 2))
            mask = ops.reshape(weights > 0, shape)
            mask = ops.broadcast_to(mask, inputs.shape[:-1])
        return normalise(self, inputs, training=training, mask=mask)

    for kind, call in zip(kinds, (normalised, _convolved, _convolved), strict=True):
        kind.call = call
    try:
        yield
    finally:
        for kind, call in zip(kinds, originals, strict=True):
            kind.call = call


def _convolved(layer: Any, inputs: Any) -> Any:
    """Return what a convolution of one group does, as a product with shifted copies."""
    sizes, shape = inputs.shape[1:-1], layer.compute_output_shape(inputs.shape)[1:-1]
    how = sizes, shape, layer.kernel_size, layer.strides, layer.dilation_rate
    padding, places = [(0, 0)], []
    for size, count, taps, stride, dilation in zip(*how, strict=True):
        lacking = max(0, (count - 1) * stride + (taps - 1) * dilation + 1 - size)
        before = lacking if layer.padding == "causal" else lacking // 2
        padding.append((before, lacking - before))
        seen = (count - 1) * stride + 1
        starts = range(0, taps * dilation, dilation)
        places.append([slice(start, start + seen, stride) for start in starts])
    padded = ops.pad(inputs, [*padding, (0, 0)])
    copies = [padded[:, *place] for place in itertools.product(*places)]
    kernel = ops.reshape(layer.kernel, (-1, layer.filters))
    outputs = ops.matmul(ops.concatenate(copies, axis=-1), kernel)
    if layer.use_bias:
        outputs = outputs + layer.bias
    return layer.activation(outputs)
