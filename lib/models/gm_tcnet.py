"""GM-TCNet: gated multi-scale temporal convolutions.

Ye, Wen, Wang, Luo, Xu and Liu, "GM-TCNet: gated multi-scale temporal
convolutional network using emotion causality for speech emotion recognition",
Speech Communication 145, 2022 (arXiv 2210.15834), as its published code has it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import keras
import pydantic
from keras import layers, ops
from pydantic import Field


@pydantic.validate_call(config={"strict": True})
def build_gm_tcnet(
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    filters: Annotated[int, Field(ge=1, le=4096)] = 39,
    kernel_size: Annotated[int, Field(ge=1, le=64)] = 2,
    blocks: Annotated[int, Field(ge=1, le=16)] = 7,
    pairs: Annotated[int, Field(ge=1, le=64)] = 3,
) -> keras.Model:
    """Build GM-TCNet; the defaults are the published network.

    A block is two levels of `pairs` gated convolutions, with dilations 2^i and
    2^(i+1) in the block i = 0, 1, ... What the second level gives is added to the
    block's input for the next block, and skips to the end, where all blocks are
    summed. There is neither normalisation nor dropout. The layer "embedding" gives
    the average over time (batch, filters).
    """
    clip = keras.Input(tuple(input_shape), name="features")  # (batch, frames, c)
    signal = layers.Dense(filters, name="input_convolution")(clip)  # one tap
    skips = []
    for number in range(1, blocks + 1):
        inner = signal
        for level in (1, 2):
            name, dilation = f"block_{number}_level_{level}", level * 2 ** (number - 1)
            inner = gated_level(inner, filters, kernel_size, dilation, pairs, name)
        skips.append(inner)
        if number < blocks:  # nothing reads the last sum
            signal = layers.Add(name=f"block_{number}")([signal, inner])
    summed = layers.Add(name="skips")(skips) if blocks > 1 else skips[0]
    activated = layers.LeakyReLU(negative_slope=0.05, name="activated")(summed)
    embedding = layers.GlobalAveragePooling1D(name="embedding")(activated)
    probabilities = layers.Dense(num_classes, "softmax", name="probabilities")
    return keras.Model(clip, probabilities(embedding), name="gm_tcnet")


def gated_level(signal, filters, kernel_size, dilation, pairs, name: str):
    """Return mean_p relu(a_p) * sigmoid(relu(b_p)), (batch, frames, filters).

    a_p and b_p are causal convolutions of the signal, each with weights of its own.
    As the sigmoid follows a ReLU, a gate lies in [0.5, 1).
    """
    # Glorot's limit for one convolution: those of all pairs are one only for speed.
    limit = math.sqrt(6.0 / (kernel_size * (signal.shape[-1] + filters)))
    values, gates = (
        layers.Conv1D(
            pairs * filters,
            kernel_size,
            padding="causal",
            dilation_rate=dilation,
            activation="relu",
            kernel_initializer=keras.initializers.RandomUniform(-limit, limit),
            name=f"{name}_{part}",
        )(signal)
        for part in ("signal", "gate")
    )
    gated = layers.Multiply()([values, layers.Activation("sigmoid")(gates)])
    return ops.mean(layers.Reshape((-1, pairs, filters))(gated), axis=2)


def receptive_field(blocks: int, kernel_size: int = 2) -> int:
    """Return how many frames one output frame depends on, itself included.

    >>> receptive_field(7)
    382
    """
    return 1 + 3 * (kernel_size - 1) * (2**blocks - 1)
