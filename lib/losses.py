"""What training minimises, where Keras lacks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import keras
import numpy as np
from keras import ops
from pydantic import Field

from lib import config
from lib.schedules import checked

Loss = Callable[..., Any]  # of labels and probabilities, (batch, classes), to (batch,)
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


def smoothed_labels(y: np.ndarray, num_classes: int, smoothing: float) -> np.ndarray:
    """Return (1 - smoothing) * one_hot(y) + smoothing / num_classes, (n, classes)."""
    one_hot = np.eye(num_classes, dtype=np.float32)[y]
    return one_hot * np.float32(1 - smoothing) + np.float32(smoothing / num_classes)


def cross_entropy() -> Loss:
    """Return -sum_k q_k log p_k of soft labels q."""
    return keras.losses.categorical_crossentropy


@checked
def focal(
    gamma: Weight = 2.0,
    alpha: Annotated[float, Field(ge=1e-6)] = 0.25,
    smooth_twice: bool = False,
) -> Loss:
    """Return alpha (1 - p_t)^gamma CE(q, p) with p_t = sum_k q_k p_k.

    Lin et al. 2017, with the soft labels of the modified TIM-Net's report; with hard
    labels and alpha 1 it is Light-SERNet's. `smooth_twice`: see `effective_smoothing`.
    """

    def loss(labels, probabilities):
        entropy = keras.losses.categorical_crossentropy(labels, probabilities)
        # The sum of rounded probabilities may exceed 1 by a rounding error.
        rest = ops.maximum(1.0 - ops.sum(labels * probabilities, axis=-1), 0.0)
        return alpha * ops.power(rest, gamma) * entropy

    return loss


@checked
def margin(
    present: Share = 0.9, absent: Share = 0.1, absent_weight: Weight = 0.5
) -> Loss:
    """Return the margin loss of capsules (Sabour et al. 2017, equation 4)."""

    def loss(labels, probabilities):
        missing = ops.square(ops.maximum(present - probabilities, 0.0))
        surplus = ops.square(ops.maximum(probabilities - absent, 0.0))
        both = labels * missing + absent_weight * (1.0 - labels) * surplus
        return ops.sum(both, axis=-1)

    return loss


LOSSES = {"cross_entropy": cross_entropy, "focal": focal, "margin": margin}


def resolved_options(name: str, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a loss, the defaults filled in."""
    return config.with_defaults(f"loss '{name}'", LOSSES[name], chosen)


def effective_smoothing(smoothing: float, options: Mapping[str, Any]) -> float:
    """Return the smoothing of the labels that training sees."""
    # The modified TIM-Net's code smooths labels that are smoothed already.
    twice = options.get("smooth_twice")
    return 1.0 - (1.0 - smoothing) ** 2 if twice else smoothing
