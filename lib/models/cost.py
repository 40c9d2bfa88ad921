"""What a network costs: parameters, multiply-adds, memory, time."""

from __future__ import annotations

import dataclasses
import time

import keras
import numpy as np

from lib.models import operations

FLOAT_BYTES = 4  # weights and activations are 32-bit floats


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one clip costs a network, and what the network itself takes.

    Attributes:
        parameters: Number of trainable parameters.
        weight_bytes: Memory of all weights that are not for training alone,
            moving averages included, as 32-bit floats.
        multiply_adds: Multiply-adds of one clip in matrix products, convolutions
            and Fourier transforms. Element-wise work, sums and averages are
            left out, as is usual.
        activation_bytes: Memory of the largest array between input and answer,
            before a compiler has merged any operations.
    """

    parameters: int
    weight_bytes: int
    multiply_adds: int
    activation_bytes: int


def measure(model: keras.Model, frames: int) -> Cost:
    """Return what a network costs for one clip.

    Args:
        model: From (batch, frames, coefficients) to probabilities.
        frames: Length of the clip.

    Raises:
        NotImplementedError: On a backend other than TensorFlow and JAX, or for a
            loop whose rounds are not known beforehand.
    """
    multiply_adds, largest = operations.count(model, frames)
    return Cost(
        parameters=_numbers(model.trainable_weights),
        weight_bytes=_numbers(model.weights) * FLOAT_BYTES,
        multiply_adds=multiply_adds,
        activation_bytes=largest * FLOAT_BYTES,
    )


def latency(
    model: keras.Model,
    frames: int,
    *,
    repeats: int = 20,
    warm_up: int = 3,
    fused: bool = True,
) -> np.ndarray:
    """Return how long a network takes for one clip, call after call.

    Args:
        model: From (batch, frames, coefficients) to probabilities.
        frames: Length of the clip.
        repeats: Number of calls that are timed.
        warm_up: Number of calls before, in which the graph is compiled.
        fused: Whether XLA compiles the graph, as `lib.systems` says it does in
            training.

    Returns:
        Seconds of each call, float64, (repeats,). It is the time from handing
        over the clip until the answer lies in memory, on this machine and under
        its present load.
    """
    clip = np.zeros((1, frames, model.input_shape[-1]), np.float32)
    # A model of its own: the caller's may be compiled for something else.
    timed = keras.Model(model.input, model.output)
    timed.compile(jit_compile="auto" if fused else False)
    for _ in range(warm_up):
        timed.predict_on_batch(clip)
    seconds = np.empty(repeats)
    for number in range(repeats):
        start = time.perf_counter()
        timed.predict_on_batch(clip)
        seconds[number] = time.perf_counter() - start
    return seconds


def _numbers(weights: list) -> int:
    return sum(int(np.prod(weight.shape)) for weight in weights)
