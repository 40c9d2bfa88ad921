"""A network compiled once and reused for every fold of a run."""

from __future__ import annotations

import contextlib
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
        weight_average: Share that the averaged weights keep at every step; the
            network answers with them. 0 for no average.
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
    weight_average: float = 0.0


def fresh_weights(build: Callable[[], keras.Model], seed: int) -> list[np.ndarray]:
    """Return the variables of an untrained network, drawn with a seed."""
    keras.utils.set_random_seed(seed)
    return [variable.numpy() for variable in build().variables]


class Program:
    """A network, its optimiser and its compiled step, reused over folds.

    Args:
        build: Builds the untrained network; called again for fresh weights.
        recipe: How it is trained.
        num_classes: Number of classes.
        fresh: By seed, fresh weights that have been drawn already. TensorFlow
            forgets how it has laid out a compiled step whenever a network is built,
            so the weights of all folds are best drawn before the first one trains.
    """

    def __init__(
        self,
        build: Callable[[], keras.Model],
        recipe: Recipe,
        num_classes: int,
        fresh: Mapping[int, list[np.ndarray]] | None = None,
    ) -> None:
        self.recipe = recipe
        self._build = build
        self._fresh = fresh or {}
        # The network to save: without optimiser and metrics, so that it loads
        # wherever the layers are known.
        self.network = build()
        # Weights and the states of the dropout seeds, not the metrics'.
        self._variables = list(self.network.variables)
        self._embedder = with_embedding(self.network)
        self._embedder.jit_compile = recipe.fused and self._embedder.jit_compile
        average = recipe.weight_average
        self._optimizer = keras.optimizers.Adam(
            recipe.learning_rate,
            recipe.beta_1,
            recipe.beta_2,
            recipe.epsilon,
            **({"use_ema": True, "ema_momentum": average} if average else {}),
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
        fresh = self._fresh.get(seed) or fresh_weights(self._build, seed)
        self._assign(self._variables, fresh)
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

    @contextlib.contextmanager
    def averaged(self):
        """Let the network have its averaged weights for a while, if it has any."""
        if not self.recipe.weight_average:
            yield
            return
        raw = [v.numpy() for v in self.network.trainable_variables]
        self.settle()
        try:
            yield
        finally:
            self._assign(self.network.trainable_variables, raw)

    def settle(self) -> None:
        """Give the network its averaged weights for good, if it has any."""
        if self.recipe.weight_average:
            self._optimizer.finalize_variable_values(self.network.trainable_variables)

    def answering(self, state: Sequence) -> tuple[Sequence, Sequence]:
        """Return the trainable and the other values that a network answers with.

        Args:
            state: As `values` returned it.
        """
        trainable, others, optimizer = state
        if self.recipe.weight_average:
            named = zip(self._optimizer.variables, optimizer, strict=True)
            averages = [v for name, v in named if name.name.endswith("_average")]
            if len(averages) != len(trainable):
                raise RuntimeError(
                    "this version of Keras does not call its averaged weights "
                    f"'..._average': {len(averages)} found for {len(trainable)} weights"
                )
            trainable = averages
        return trainable, others

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
        for letter, variables in (
            ("v", self._variables),
            ("o", self._optimizer.variables),
        ):
            values = [state[f"{letter}{i}"] for i in range(len(variables))]
            self._assign(variables, values)

    @staticmethod
    def _assign(variables, values) -> None:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
