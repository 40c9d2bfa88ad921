"""A network compiled once and reused for every fold of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from lib.losses import LOSSES
from lib.metrics.classification import scores_of_counts
from lib.models import with_embedding
from lib.training.step import batches, make_step

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
        loss: One of `losses.LOSSES`.
        loss_options: Its options.
        fused: Whether the step is compiled by XLA.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    beta_1: float
    beta_2: float
    epsilon: float
    label_smoothing: float
    loss: str = "cross_entropy"
    loss_options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    fused: bool = True


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
        self._embedder = with_embedding(self.network)
        self._embedder.jit_compile = recipe.fused and self._embedder.jit_compile
        self._optimizer = keras.optimizers.Adam(
            recipe.learning_rate, recipe.beta_1, recipe.beta_2, recipe.epsilon
        )
        self._optimizer.build(self.network.trainable_variables)
        self._fresh_optimizer = [v.numpy() for v in self._optimizer.variables]
        self.step = make_step(
            self.network,
            self._optimizer,
            LOSSES[recipe.loss](**recipe.loss_options),
            num_classes,
            fused=recipe.fused,
        )

    def reset(self, seed: int) -> None:
        """Give the network fresh weights, and the optimiser a fresh start."""
        keras.utils.set_random_seed(seed)
        fresh = self._build()
        for variable, new in zip(self._variables, fresh.variables, strict=True):
            variable.assign(new)
        self._assign(self._optimizer.variables, self._fresh_optimizer)

    def train_epoch(
        self, x: np.ndarray, labels: np.ndarray, order: np.ndarray, share: float = 1.0
    ) -> dict[str, float]:
        """Train one pass over the clips.

        Args:
            x: Training clips, float32, (n, frames, coefficients).
            labels: Soft labels, float32, (n, classes).
            order: Permutation of the n rows.
            share: The step size, as a share of the recipe's.

        Returns:
            Mean loss over the clips, accuracy and UAR while training.
        """
        self._optimizer.learning_rate = self.recipe.learning_rate * share
        loss, counts = self.step.epoch(
            batches(x, labels, order, self.recipe.batch_size)
        )
        scores = scores_of_counts(counts)
        return {
            "loss": loss,
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
        optimizer = self._optimizer.variables
        return network | {f"o{i}": v.numpy() for i, v in enumerate(optimizer)}

    def values(self) -> list[list[np.ndarray]]:
        """Return the trainable, the other, and the optimiser's values.

        It is what `JaxStep.compute` takes as its state.
        """
        return [[v.numpy() for v in group] for group in self._groups()]

    def assign(self, values: Sequence[Sequence[np.ndarray]]) -> None:
        """Go back to what `values` returned."""
        for group, new in zip(self._groups(), values, strict=True):
            self._assign(group, new)

    def with_learning_rate(self, values: list[list], rate) -> list[list]:
        """Return values with another step size in the optimiser's."""
        trainable, others, optimizer = values
        optimizer = [
            rate if variable.name == "learning_rate" else value
            for variable, value in zip(
                self._optimizer.variables, optimizer, strict=True
            )
        ]
        return [trainable, others, optimizer]

    def _groups(self) -> tuple[list, ...]:
        return (
            self.network.trainable_variables,
            self.network.non_trainable_variables,
            self._optimizer.variables,
        )

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go back to a state."""
        self.restore_network(state)
        optimizer = self._optimizer.variables
        self._assign(optimizer, [state[f"o{i}"] for i in range(len(optimizer))])

    def restore_network(self, state: Mapping[str, np.ndarray]) -> None:
        """Go back to the network of a state, and leave the optimiser alone."""
        count = len(self._variables)
        self._assign(self._variables, [state[f"v{i}"] for i in range(count)])

    @staticmethod
    def _assign(variables, values) -> None:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
