"""A network compiled once and reused for every fold of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import keras
import numpy as np

from lib.metrics.classification import scores_of_counts
from lib.models import with_embedding

EVALUATION_BATCH = 128


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        epochs: Passes over the training clips.
        batch_size: Clips per step.
        learning_rate: Adam's step size.
        beta_1: Adam's first decay.
        beta_2: Adam's second decay.
        epsilon: Adam's epsilon.
        label_smoothing: Share of a training label spread over all classes.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    beta_1: float
    beta_2: float
    epsilon: float
    label_smoothing: float


@keras.saving.register_keras_serializable(package="ser_workbook")
class ConfusionCounts(keras.metrics.Metric):
    """Counts of (true, predicted) classes of a batch; its value is the accuracy.

    Args:
        num_classes: Number of classes.
    """

    def __init__(self, num_classes: int, name: str = "confusion", **kwargs) -> None:
        super().__init__(name=name, **kwargs)
        self.num_classes = num_classes
        self.counts = self.add_variable(
            (num_classes, num_classes), initializer="zeros", name="counts"
        )

    def update_state(self, y_true, y_pred, sample_weight=None) -> None:
        """Count a batch; the true class is the largest of a soft label."""
        true = keras.ops.one_hot(keras.ops.argmax(y_true, -1), self.num_classes)
        predicted = keras.ops.one_hot(keras.ops.argmax(y_pred, -1), self.num_classes)
        self.counts.assign_add(keras.ops.matmul(keras.ops.transpose(true), predicted))

    def result(self):
        """Return the accuracy."""
        right = keras.ops.sum(keras.ops.diagonal(self.counts))
        return right / keras.ops.maximum(keras.ops.sum(self.counts), 1.0)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "num_classes": self.num_classes}


class Program:
    """A network, its optimiser and its compiled step, reused over folds.

    Args:
        build: Builds the untrained network; called again for the fresh weights
            of every fold.
        recipe: How it is trained.
        num_classes: Number of classes.
    """

    def __init__(
        self, build: Callable[[], keras.Model], recipe: Recipe, num_classes: int
    ) -> None:
        self.recipe = recipe
        self._build = build
        # The network to save: without optimiser and metrics, so that it loads
        # wherever the layers are known.
        self.network = build()
        # Weights and the states of the dropout seeds, not the metrics'.
        self._variables = list(self.network.variables)
        self.model = keras.Model(self.network.input, self.network.output)
        self._embedder = with_embedding(self.network)
        self._counts = ConfusionCounts(num_classes)
        self.model.compile(
            optimizer=keras.optimizers.Adam(
                recipe.learning_rate, recipe.beta_1, recipe.beta_2, recipe.epsilon
            ),
            loss="categorical_crossentropy",
            metrics=[self._counts],
            # XLA where the backend has it: a third of the processor time of
            # TensorFlow's own kernels on small batches, for one compilation a run.
            jit_compile="auto",
        )
        self.model.optimizer.build(self.model.trainable_variables)
        self._fresh_optimizer = [
            variable.numpy() for variable in self.model.optimizer.variables
        ]

    def reset(self, seed: int) -> None:
        """Give the network fresh weights, and the optimiser a fresh start."""
        keras.utils.set_random_seed(seed)
        fresh = self._build()
        for variable, new in zip(self._variables, fresh.variables, strict=True):
            variable.assign(new)
        self._assign(self.model.optimizer.variables, self._fresh_optimizer)

    def train_epoch(
        self, x: np.ndarray, labels: np.ndarray, order: np.ndarray
    ) -> dict[str, float]:
        """Train one pass over the clips.

        Args:
            x: Training clips, float32, (n, frames, coefficients).
            labels: Soft labels, float32, (n, classes).
            order: Permutation of the n rows.

        Returns:
            Mean loss over the clips, accuracy and UAR while training.
        """
        size, total = self.recipe.batch_size, 0.0
        counts = np.zeros(self._counts.counts.shape)
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            logs = self.model.train_on_batch(x[rows], labels[rows], return_dict=True)
            # Keras forgets its metrics from one call to the next.
            total += float(logs["loss"]) * len(rows)
            counts += self._counts.counts.numpy()
        scores = scores_of_counts(counts)
        return {
            "loss": total / len(order),
            "accuracy": float(scores["war"]),
            "uar": float(scores["uar"]),
        }

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return class probabilities (n, classes) and embeddings (n, width)."""
        parts = []
        for start in range(0, len(x), EVALUATION_BATCH):
            clips = x[start : start + EVALUATION_BATCH]
            missing = EVALUATION_BATCH - len(clips)
            # A batch of another size would be traced and compiled again.
            full = np.concatenate([clips, np.repeat(clips[:1], missing, axis=0)])
            pair = self._embedder.predict_on_batch(full)
            parts.append([np.asarray(array)[: len(clips)] for array in pair])
        probabilities, embeddings = zip(*parts, strict=True)
        return np.concatenate(probabilities), np.concatenate(embeddings)

    def state(self) -> dict[str, np.ndarray]:
        """Return copies of all that the next step depends on."""
        network = {f"v{i}": v.numpy() for i, v in enumerate(self._variables)}
        optimizer = self.model.optimizer.variables
        return network | {f"o{i}": v.numpy() for i, v in enumerate(optimizer)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go back to a state."""
        self.restore_network(state)
        optimizer = self.model.optimizer.variables
        self._assign(optimizer, [state[f"o{i}"] for i in range(len(optimizer))])

    def restore_network(self, state: Mapping[str, np.ndarray]) -> None:
        """Go back to the network of a state, and leave the optimiser alone."""
        count = len(self._variables)
        self._assign(self._variables, [state[f"v{i}"] for i in range(count)])

    @staticmethod
    def _assign(variables, values) -> None:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
