"""GM-TCNet: gated multi-scale temporal convolutions, as its published code has them.

Ye et al., Speech Communication 145, 2022 (arXiv 2210.15834).
"""

import math

import keras
from keras import layers, ops

from lib.models import Count, Taps, Width


def build_gm_tcnet(
    input_shape: tuple,
    num_classes: int,
    *,
    filters: Width = 39,
    kernel_size: Taps = 2,
    blocks: Count = 7,
    pairs: Count = 3,
) -> keras.Model:
    """Build GM-TCNet; the defaults are the published network.

    A block is two levels of `pairs` gated convolutions, with dilations 2^i and
    2^(i+1) in the block i = 0, 1, ... What the second level gives is added to the
    block's input for the next block, and skips to the end, where all are summed.
    """
    clip = keras.Input(input_shape, name="features")  # (batch, frames, c)
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
    """Return mean_p relu(a_p) * sigmoid(relu(b_p)) for causal convolutions a_p, b_p."""
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
