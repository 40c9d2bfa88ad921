"""What training minimises, where Keras lacks it, and how the learning rate changes.

A loss is one of soft labels, probabilities and logits, (batch, classes), to (batch,). A
schedule is one of the epoch and the metrics before it to a share of the learning rate.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import keras
import numpy as np
from keras import ops
from pydantic import Field, validate_call

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Scale = Annotated[float, Field(ge=1e-6)]
Factor = Annotated[float, Field(gt=0, le=1)]
Epochs = Annotated[int, Field(ge=1)]
checked = validate_call(config={"strict": True})


def smoothed_labels(y: np.ndarray, num_classes: int, smoothing: float) -> np.ndarray:
    """Return (1 - smoothing) * one_hot(y) + smoothing / num_classes, (n, classes)."""
    one_hot = np.eye(num_classes, dtype=np.float32)[y]
    return one_hot * np.float32(1 - smoothing) + np.float32(smoothing / num_classes)


def cross_entropy() -> Callable:
    """Return -sum_k q_k log p_k of soft labels q."""
    return _entropy


def _entropy(labels, probabilities, logits=None):
    # TensorFlow finds the logits by itself; JAX would see no probability below 1e-7.
    known = logits is not None
    given = logits if known else probabilities
    return keras.losses.categorical_crossentropy(labels, given, from_logits=known)


@checked
def focal(
    gamma: Weight = 2.0, alpha: Scale = 0.25, smooth_twice: bool = False
) -> Callable:
    """Return alpha (1 - p_t)^gamma CE(q, p) with p_t = sum_k q_k p_k.

    Lin et al. 2017, with the soft labels of the modified TIM-Net's report, whose code
    smooths them twice (`smooth_twice`); with hard labels and alpha 1, Light-SERNet's.
    """

    def loss(labels, probabilities, logits=None):
        entropy = _entropy(labels, probabilities, logits)
        # The sum of rounded probabilities may exceed 1 by a rounding error.
        rest = ops.maximum(1.0 - ops.sum(labels * probabilities, axis=-1), 0.0)
        return alpha * ops.power(rest, gamma) * entropy

    return loss


@checked
def margin(
    present: Share = 0.9, absent: Share = 0.1, absent_weight: Weight = 0.5
) -> Callable:
    """Return the margin loss of capsules (Sabour et al. 2017, equation 4)."""

    def loss(labels, probabilities, logits=None):
        missing = labels * ops.relu(present - probabilities) ** 2
        surplus = (1.0 - labels) * ops.relu(probabilities - absent) ** 2
        return ops.sum(missing + absent_weight * surplus, axis=-1)

    return loss


LOSSES = {"cross_entropy": cross_entropy, "focal": focal, "margin": margin}


def constant() -> Callable:
    """Leave the learning rate alone."""
    return lambda epoch, history: 1.0


@checked
def step(
    factor: Factor = 0.8607079764250578, start: Epochs = 61, every: Epochs = 20
) -> Callable:
    """Multiply by a factor at epoch `start` and `every` so often (2, 1: each time)."""
    # Light-SERNet's: exp(-0.15) at its epochs 60, 80, ..., which it counts from 0.
    return lambda epoch, history: factor ** max(0, 1 + (epoch - start) // every)


@checked
def plateau(factor: Factor = 0.25, patience: Epochs = 5) -> Callable:
    """Multiply by a factor after more than `patience` epochs without a better loss."""

    # PyTorch's ReduceLROnPlateau, as CkTIM-net uses it.
    def share(epoch: int, history: Sequence[Mapping[str, float]]) -> float:
        best, waited, drops = math.inf, 0, 0
        for row in history:
            loss = row.get("val_loss", row["loss"])
            if loss < best * (1 - 1e-4):
                best, waited = loss, 0
            elif waited == patience:
                drops, waited = drops + 1, 0
            else:
                waited += 1
        return factor**drops

    return share


@checked
def cosine(epochs: Epochs = 100, warm_up: Epochs = 5, floor: Factor = 0.01) -> Callable:
    """Rise in a line (Goyal et al. 2017, section 2.2), then fall as half a cosine.

    It ends at `floor` (Loshchilov and Hutter, "SGDR", 2017, equation 5, no restarts).
    """
    if warm_up >= epochs:
        fault = f"warm_up is {warm_up}, but the schedule has {epochs} epochs"
        raise ValueError(f"schedule_options: {fault}; give a smaller warm_up")
    rise, steps = {"warmup_target": 1.0, "warmup_steps": warm_up}, epochs - warm_up
    rate = keras.optimizers.schedules.CosineDecay(0.0, steps, floor, **rise)
    return lambda epoch, history: float(rate(epoch))


SCHEDULES = {made.__name__: made for made in (constant, step, plateau, cosine)}
