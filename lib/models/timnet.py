"""TIM-Net: a temporal-aware bi-direction multi-scale network.

Ye, Wen, Wei, Xu, Liu and Shan, "Temporal modeling matters: a novel temporal
emotional modeling approach for speech emotion recognition", ICASSP 2023
(arXiv 2211.08233). A clip and its reversal each pass through a chain of
temporal-aware blocks whose dilation doubles; the time averages of all blocks
are summed with learned weights and classified.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import keras
from keras import layers, ops
from pydantic import Field

from lib.models import Share
from lib.models.conv_bn import ChannelDropout, ConvolutionBatchNorm

Width = Annotated[int, Field(ge=1, le=4096)]
Taps = Annotated[int, Field(ge=1, le=64)]
Count = Annotated[int, Field(ge=1, le=16)]
Activation = Literal["relu", "elu", "gelu", "leaky_relu", "selu", "silu", "tanh"]


def build_timnet(
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    filters: Width = 39,
    kernel_size: Taps = 2,
    dilations: Count = 8,
    stacks: Count = 1,
    dropout: Share = 0.1,
    activation: Activation = "relu",
    backward: bool = True,
    fusion: Literal["weights", "mean", "last"] = "weights",
    block: Literal["gated", "residual"] = "gated",
    causal: bool = True,
) -> keras.Model:
    """Build TIM-Net as its authors published it, or one of its ablations.

    The published ablations (table 3) are `backward=False` (without
    bi-direction), `fusion="last"` (without multi-scale), `fusion="mean"`
    (without dynamic fusion) and, its configuration not being given, our reading
    of a plain temporal convolutional network: `block="residual"`,
    `backward=False`, `fusion="last"`.

    Args:
        input_shape: (frames, coefficients); frames may be None for any length.
        num_classes: Number of emotions.
        filters: Channels of every block.
        kernel_size: Taps of every convolution in the blocks.
        dilations: Number n of blocks; their dilations are 1, 2, ... 2^(n-1).
        stacks: How often the chain of n blocks is repeated.
        dropout: Spatial dropout in training.
        activation: Activation inside the blocks.
        backward: Read the clip backwards too.
        fusion: Learned "weights" of the levels, their "mean", or the "last" alone.
        block: "gated" (temporal-aware), or "residual".
        causal: False lets the blocks see the future of each direction too.

    Returns:
        A model from (batch, frames, coefficients) to class probabilities
        (batch, num_classes). Its layer "embedding" gives the fused vector
        (batch, filters), "levels" what is fused, (batch, levels, filters),
        "block_3_backward" what the third block makes of the reversed clip and
        "block_3_backward_gate" what it multiplies by, (batch, frames, filters).
    """
    clip = keras.Input(tuple(input_shape), name="features")
    signals = {"forward": clip}
    if backward:
        signals["backward"] = ops.flip(clip, axis=1)
    levels = multi_scale(
        signals,
        filters=filters,
        kernel_size=kernel_size,
        dropouts=[dropout] * dilations,
        stacks=stacks,
        activation=activation,
        gated=block == "gated",
        causal=causal,
    )
    if fusion == "weights":
        embedding = weighted_sum(levels, name="embedding")
    elif fusion == "mean":
        embedding = layers.GlobalAveragePooling1D(name="embedding")(levels)
    else:
        last = layers.Cropping1D((levels.shape[1] - 1, 0))(levels)
        embedding = layers.Flatten(name="embedding")(last)
    classifier = layers.Dense(num_classes, "softmax", name="probabilities")
    return keras.Model(clip, classifier(embedding), name="timnet")


def multi_scale(
    signals: Mapping[str, keras.KerasTensor],
    *,
    filters: int,
    dropouts: Sequence[float],
    stacks: int,
    **block,
) -> keras.KerasTensor:
    """Return what each block has seen in all directions, (batch, levels, filters).

    g_j = mean over frames of the sum over directions of F_j (equation 3).

    Args:
        signals: The clip in each direction, (batch, frames, coefficients).
        filters: Channels of every block.
        dropouts: Dropout of each block of a chain; their number is that of blocks.
        stacks: How often the chain is repeated.
        **block: Further arguments of `temporal_aware_block`.
    """
    current = {
        direction: layers.Conv1D(filters, 1, name=f"input_{direction}")(signal)
        for direction, signal in signals.items()
    }
    levels = []
    for number, dropout in enumerate(list(dropouts) * stacks):
        block |= {"dilation": 2 ** (number % len(dropouts)), "dropout": dropout}
        for direction, signal in current.items():
            name = f"block_{number + 1}_{direction}"
            current[direction] = temporal_aware_block(signal, name, **block)
        pool = layers.GlobalAveragePooling1D(keepdims=True)
        levels.append(sum(map(pool, current.values())))
    return layers.Concatenate(axis=1, name="levels")(levels)


def temporal_aware_block(
    signal: keras.KerasTensor,
    name: str,
    *,
    kernel_size: int,
    dilation: int,
    dropout: float,
    activation: str,
    gated: bool = True,
    causal: bool = True,
) -> keras.KerasTensor:
    """Return F_(j+1) = F_j * sigmoid(sub-block(sub-block(F_j))) (equations 1 and 2).

    A sub-block is convolution, batch normalisation, activation and spatial dropout.
    As the sigmoid follows a ReLU, the gate lies in [0.5, 1). Without it, F_j is added
    and the sum activated, as in a plain temporal convolutional network.
    """
    hidden = signal
    for part in (f"{name}_1", f"{name}_2"):
        hidden = ConvolutionBatchNorm(
            signal.shape[-1], kernel_size, dilation, causal, name=part
        )(hidden)
        hidden = layers.Activation(activation)(hidden)
        hidden = ChannelDropout(dropout)(hidden)
    if not gated:
        return layers.Activation(activation, name=name)(signal + hidden)
    gate = layers.Activation("sigmoid", name=f"{name}_gate")(hidden)
    return layers.Multiply(name=name)([signal, gate])


def weighted_sum(levels: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Return the sum of the levels, (batch, filters), with learned weights.

    They are neither normalised nor dependent on the clip (equation 4).
    """
    start = keras.initializers.RandomUniform(-0.05, 0.05)
    fusion = layers.Dense(1, use_bias=False, kernel_initializer=start, name="fusion")
    by_channel = layers.Permute((2, 1))(levels)  # (batch, filters, levels)
    return layers.Flatten(name=name)(fusion(by_channel))


def receptive_field(dilations: int, kernel_size: int = 2, stacks: int = 1) -> int:
    """Return how many frames one output frame of a direction depends on.

    1 + 2 (kernel_size - 1) sum_j 2^(j-1), the present frame included: two
    convolutions in every block. All of them lie in the past if the blocks are
    causal, around the frame otherwise.

    >>> receptive_field(8), receptive_field(10)
    (511, 2047)
    """
    return 1 + 2 * (kernel_size - 1) * stacks * (2**dilations - 1)
