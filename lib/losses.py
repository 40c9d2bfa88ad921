"""What training minimises, where Keras lacks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import numpy as np
from keras import ops

from lib import config


def smoothed_labels(y: np.ndarray, num_classes: int, smoothing: float) -> np.ndarray:
    """Return one-hot labels with a share spread evenly over all classes.

    y' = (1 - smoothing) * one_hot(y) + smoothing / num_classes, in a new array:
    smoothing in place would add up from fold to fold.

    Args:
        y: Label indices, int, (n,).
        num_classes: Number of classes.
        smoothing: Share in [0, 1).

    Returns:
        float32, (n, num_classes); rows sum to 1.

    >>> smoothed_labels(np.array([1]), 2, 0.1).round(2).tolist()
    [[0.05000000074505806, 0.949999988079071]]
    """
    one_hot = np.eye(num_classes, dtype=np.float32)[y]
    return one_hot * np.float32(1 - smoothing) + np.float32(smoothing / num_classes)


def focal(
    gamma: float = 2.0, alpha: float = 0.25, smooth_twice: bool = False
) -> Callable:
    """Return the focal loss: well-classified clips count less.

    L = alpha (1 - p_t)^gamma CE(q, p) with p_t = sum_k q_k p_k, q being the soft
    label (Lin et al. 2017, with the soft labels of the modified TIM-Net's
    report). With hard labels and alpha 1 it is Light-SERNet's. A common alpha
    only scales the loss.

    Args:
        gamma: How much less, at least 0; 0 is the cross-entropy.
        alpha: Factor of the loss, above 0.
        smooth_twice: Smooth the labels a second time, as the report's code did;
            see `effective_smoothing`.

    Returns:
        A function of (labels, probabilities), both (batch, classes), to (batch,).

    Raises:
        ValueError: If an option is out of range.
    """
    _require(gamma, "gamma", low=0.0)
    _require(alpha, "alpha", low=1e-6)
    _require_switch(smooth_twice, "smooth_twice")

    def loss(labels, probabilities):
        of_truth = ops.sum(labels * probabilities, axis=-1)
        entropy = keras.losses.categorical_crossentropy(labels, probabilities)
        # A sum of rounded shares may exceed 1 by a hair.
        rest = ops.maximum(1.0 - of_truth, 0.0)
        return alpha * ops.power(rest, gamma) * entropy

    return loss


def margin(
    present: float = 0.9, absent: float = 0.1, absent_weight: float = 0.5
) -> Callable:
    """Return the margin loss of capsule networks (Sabour et al. 2017, equation 4).

    L = sum_k q_k max(0, present - p_k)^2
    + absent_weight (1 - q_k) max(0, p_k - absent)^2.

    Args:
        present: What the true class should reach, in [0, 1].
        absent: What another class may reach, in [0, 1].
        absent_weight: Weight of the classes that are not there, at least 0.

    Returns:
        A function of (labels, probabilities), both (batch, classes), to (batch,).

    Raises:
        ValueError: If an option is out of range.
    """
    _require(present, "present", low=0.0, high=1.0)
    _require(absent, "absent", low=0.0, high=1.0)
    _require(absent_weight, "absent_weight", low=0.0)

    def loss(labels, probabilities):
        missing = ops.square(ops.maximum(present - probabilities, 0.0))
        surplus = ops.square(ops.maximum(probabilities - absent, 0.0))
        return ops.sum(
            labels * missing + absent_weight * (1.0 - labels) * surplus, axis=-1
        )

    return loss


def cross_entropy() -> Callable:
    """Return the cross-entropy -sum_k q_k log p_k of soft labels."""
    return keras.losses.categorical_crossentropy


LOSSES: Mapping[str, Callable[..., Callable]] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "margin": margin,
}


def resolved_options(name: str, chosen: Mapping[str, object]) -> dict[str, object]:
    """Return the options of a loss, the defaults filled in.

    Raises:
        ValueError: If the loss has no such option, or a value is out of range.
    """
    options = config.with_defaults(f"loss '{name}'", LOSSES[name], chosen)
    LOSSES[name](**options)
    return options


def effective_smoothing(smoothing: float, options: Mapping[str, object]) -> float:
    """Return the smoothing of the labels that training sees.

    Smoothing by s what is smoothed by s already leaves (1 - s)^2 of a label
    where it was.

    >>> round(effective_smoothing(0.1, {"smooth_twice": True}), 6)
    0.19
    """
    if options.get("smooth_twice"):
        return 1.0 - (1.0 - smoothing) ** 2
    return smoothing


def _require(value: object, name: str, low: float, high: float = float("inf")) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        limits = f"from {low:g}" + (f" to {high:g}" if high < float("inf") else "")
        raise ValueError(f"loss_options: {name} is {value!r}; give a number {limits}")


def _require_switch(value: object, name: str) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"loss_options: {name} is {value!r}; give True or False")
