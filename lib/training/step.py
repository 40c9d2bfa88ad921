"""One training step, compiled once: its shapes never change.

The last batch of an epoch is filled up with rows that count for nothing, neither
in the loss nor in batch normalisation. A batch of another size would be compiled
anew, in every fold.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from lib.models.layers import real_rows

Batch = tuple[np.ndarray, np.ndarray, np.ndarray]

_drawing = threading.Lock()


def batches(
    x: np.ndarray, labels: np.ndarray, order: np.ndarray, size: int
) -> Sequence[Batch]:
    """Yield clips, labels and weights of every step of an epoch.

    Args:
        x: Clips (n, frames, coefficients).
        labels: Soft labels (n, classes).
        order: Permutation of the n rows.
        size: Clips per step.

    Yields:
        Arrays of `size` rows; the weight of a row is 1, or 0 if it fills up.
    """
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        weights = np.zeros(size, np.float32)
        weights[: len(rows)] = 1.0
        filled = np.resize(rows, size)
        yield x[filled], labels[filled], weights


class Step:
    """What every backend computes in a step.

    Args:
        network: The network.
        optimizer: Its optimiser, built.
        loss: From labels and probabilities, (batch, classes), to (batch,).
        num_classes: Number of classes.
    """

    def __init__(
        self,
        network: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        loss: Callable,
        num_classes: int,
    ) -> None:
        self.network = network
        self.optimizer = optimizer
        self.loss = loss
        self.num_classes = num_classes

    def epoch(self, steps: Sequence[Batch]) -> tuple[float, np.ndarray]:
        """Train on batches; return the mean loss of the clips and the confusions.

        The confusions are counts (true class, predicted class) while training.
        """
        raise NotImplementedError

    def _mean_loss(self, labels, probabilities, weights):
        total = ops.sum(self.loss(labels, probabilities) * weights)
        return total / ops.sum(weights)

    def _confusions(self, labels, probabilities, weights):
        true = ops.one_hot(ops.argmax(labels, -1), self.num_classes)
        predicted = ops.one_hot(ops.argmax(probabilities, -1), self.num_classes)
        return ops.matmul(ops.transpose(true * weights[:, None]), predicted)


class TensorFlowStep(Step):
    """The step as one TensorFlow function, by XLA where `fused`."""

    def __init__(self, *arguments, fused: bool) -> None:
        super().__init__(*arguments)
        import tensorflow

        self._tensorflow = tensorflow
        # Apple's Metal plug-in has no XLA.
        metal = sys.platform == "darwin" and tensorflow.config.get_visible_devices(
            "GPU"
        )
        self._step = tensorflow.function(
            self._compute, jit_compile=bool(fused and not metal), autograph=False
        )

    def epoch(self, steps: Sequence[Batch]) -> tuple[float, np.ndarray]:
        """Train on batches; see `Step`."""
        loss, clips = 0.0, 0.0
        counts = np.zeros((self.num_classes, self.num_classes))
        for batch in steps:
            mean, confusions = self._step(*map(self._tensorflow.constant, batch))
            count = float(batch[2].sum())
            loss, clips = loss + float(mean) * count, clips + count
            counts += confusions.numpy()
        return loss / clips, counts

    def _compute(self, x, labels, weights):
        # Runs once, for TensorFlow to draw its graph. Networks share the functions
        # of `lib.models.fused`, whose gradients TensorFlow draws without a lock.
        with _drawing:
            return self._drawn(x, labels, weights)

    def _drawn(self, x, labels, weights):
        variables = self.network.trainable_variables
        with self._tensorflow.GradientTape() as tape:
            with real_rows(weights):
                probabilities = self.network(x, training=True)
            loss = self._mean_loss(labels, probabilities, weights)
            loss = loss + sum(self.network.losses)
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        self.optimizer.apply(gradients, variables)
        return loss, self._confusions(labels, probabilities, weights)


class JaxStep(Step):
    """The step as one JAX function; the weights stay on the device in an epoch."""

    def __init__(self, *arguments, fused: bool = True) -> None:
        super().__init__(*arguments)
        import jax

        self._gradient = jax.value_and_grad(self._loss, has_aux=True)
        self._step = jax.jit(self.compute, donate_argnums=0)

    def epoch(self, steps: Sequence[Batch]) -> tuple[float, np.ndarray]:
        """Train on batches; see `Step`."""
        groups = (
            self.network.trainable_variables,
            self.network.non_trainable_variables,
            self.optimizer.variables,
        )
        state = [[variable.value for variable in group] for group in groups]
        results = []
        for batch in steps:
            state, *result = self._step(state, *batch)
            results.append((batch[2].sum(), *result))
        for group, values in zip(groups, state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)
        clips = np.array([count for count, _, _ in results])
        losses = np.array([float(mean) for _, mean, _ in results])
        counts = sum(np.asarray(confusions) for *_, confusions in results)
        return float((losses * clips).sum() / clips.sum()), counts

    def _loss(self, trainable, others, x, labels, weights):
        with real_rows(weights):
            probabilities, others, penalties = self.network.stateless_call(
                trainable, others, x, training=True, return_losses=True
            )
        loss = self._mean_loss(labels, probabilities, weights) + sum(penalties)
        return loss, (others, self._confusions(labels, probabilities, weights))

    def compute(self, state, x, labels, weights):
        """Return the state after a step, its mean loss, and its confusions.

        Args:
            state: Values of the trainable, the other, and the optimiser's
                variables, in the order of their lists.
            x: Clips (batch, frames, coefficients).
            labels: Soft labels (batch, classes).
            weights: 1 for a clip, 0 for a row that fills up, (batch,).
        """
        trainable, others, optimizer = state
        (loss, (others, confusions)), gradients = self._gradient(
            trainable, others, x, labels, weights
        )
        trainable, optimizer = self.optimizer.stateless_apply(
            optimizer, gradients, trainable
        )
        return [trainable, others, optimizer], loss, confusions


STEPS = {"tensorflow": TensorFlowStep, "jax": JaxStep}


def make_step(
    network: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    loss: Callable,
    num_classes: int,
    *,
    fused: bool = True,
) -> Step:
    """Return the step of the backend in force.

    Raises:
        RuntimeError: If the backend is neither TensorFlow nor JAX.
    """
    backend = keras.backend.backend()
    if backend not in STEPS:
        raise RuntimeError(
            f"KERAS_BACKEND is '{backend}'; training runs on {' or '.join(STEPS)}"
        )
    return STEPS[backend](network, optimizer, loss, num_classes, fused=fused)
