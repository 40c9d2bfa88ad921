"""TIM-Net (Ye et al., ICASSP 2023, arXiv 2211.08233).

A clip and its reversal pass through temporal-aware blocks whose dilation doubles; the
time averages of all blocks are summed with learned weights and classified.
"""

from typing import Literal

import keras
from keras import layers, ops

from lib.models import Count, Share, Taps, Width
from lib.models.conv_bn import ChannelDropout, ConvolutionBatchNorm

Activation = Literal["relu", "elu", "gelu", "leaky_relu", "selu", "silu", "tanh"]


def build_timnet(
    input_shape: tuple,
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
    """Build TIM-Net as published, or one of its ablations (table 3).

    They are `backward=False` (without bi-direction), `fusion="last"` (without
    multi-scale), `fusion="mean"` (without dynamic fusion) and, as we read it, the plain
    temporal convolutional network: "residual" blocks, not backward, the last level.
    The dilations of n blocks are 1, 2, ... 2^(n-1); `stacks` repeats their chain.
    Without `causal`, a block sees the future of its direction too.

    Layers: "embedding" (batch, filters), fused from "levels" (batch, levels, filters);
    "block_3_backward", what the third block makes of the reversed clip, and
    "block_3_backward_gate", what it multiplies by.
    """
    clip = keras.Input(input_shape, name="features")
    signals = {"forward": clip}
    if backward:
        signals["backward"] = ops.flip(clip, axis=1)
    how = {"kernel_size": kernel_size, "activation": activation, "causal": causal}
    how |= {"gated": block == "gated", "stacks": stacks}
    levels = multi_scale(signals, filters, [dropout] * dilations, **how)
    if fusion == "weights":
        embedding = weighted_sum(levels, name="embedding")
    elif fusion == "mean":
        embedding = layers.GlobalAveragePooling1D(name="embedding")(levels)
    else:
        embedding = layers.Identity(name="embedding")(levels[:, -1])
    classifier = layers.Dense(num_classes, "softmax", name="probabilities")
    return keras.Model(clip, classifier(embedding), name="timnet")


def multi_scale(signals: dict, filters: int, dropouts: list, *, stacks: int, **block):
    """Return what each block has seen of the clip in all directions of `signals`.

    g_j = mean over frames of the sum over directions of F_j (equation 3), (batch,
    levels, filters). A block has a dropout of its own and what `block` says.
    """
    current = {
        direction: layers.Conv1D(filters, 1, name=f"input_{direction}")(signal)
        for direction, signal in signals.items()
    }
    levels = []
    for number, dropout in enumerate(dropouts * stacks):
        block |= {"dilation": 2 ** (number % len(dropouts)), "dropout": dropout}
        for direction, signal in current.items():
            name = f"block_{number + 1}_{direction}"
            current[direction] = temporal_aware_block(signal, name, **block)
        pool = layers.GlobalAveragePooling1D(keepdims=True)
        levels.append(sum(map(pool, current.values())))
    return layers.Concatenate(axis=1, name="levels")(levels)


def temporal_aware_block(
    signal, name, *, kernel_size, dilation, dropout, activation, gated=True, causal=True
):
    """Return F_(j+1) = F_j * sigmoid(sub-block(sub-block(F_j))) (equations 1 and 2).

    A sub-block is convolution, batch normalisation, activation and spatial dropout.
    As the sigmoid follows a ReLU, the gate lies in [0.5, 1). Not `gated`, F_j is added
    and the sum activated.
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
    """Return sum_j w_j g_j (equation 4), the same weights for all clips."""
    start = keras.initializers.RandomUniform(-0.05, 0.05)
    fusion = layers.Dense(1, use_bias=False, kernel_initializer=start, name="fusion")
    by_channel = layers.Permute((2, 1))(levels)  # (batch, filters, levels)
    return layers.Flatten(name=name)(fusion(by_channel))


def receptive_field(dilations: int, kernel_size: int = 2, stacks: int = 1) -> int:
    """Return how many frames one output frame depends on, itself included.

    1 + 2 (kernel_size - 1) sum_j 2^(j-1): there are two convolutions in every block.
    """
    return 1 + 2 * (kernel_size - 1) * stacks * (2**dilations - 1)
