"""GM-TCNet: gated multi-scale temporal convolutions.

Ye, Wen, Wang, Luo, Xu and Liu, "GM-TCNet: gated multi-scale temporal
convolutional network using emotion causality for speech emotion recognition",
Speech Communication 145, 2022 (arXiv 2210.15834), as its published code has it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
from keras import layers, ops

from lib.models.checks import check_whole
from lib.models.layers import register

NAME = "gm_tcnet"
PARTS = ("signal", "gate")
SLOPE = 0.05  # of the LeakyReLU after the sum of the skips


@register
class GatedLevel(layers.Layer):
    """Mean of gated pairs of causal convolutions of the same signal.

    mean_p relu(a_p) * sigmoid(relu(b_p)), a_p and b_p being convolutions with
    weights of their own. As the sigmoid follows a ReLU, a gate lies in [0.5, 1).

    Args:
        filters: Channels of each convolution, and of the result.
        kernel_size: Taps of each convolution.
        dilation: Frames between two taps.
        pairs: Number of gated pairs.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 2,
        dilation: int = 1,
        pairs: int = 3,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.pairs = pairs

    def build(self, input_shape: tuple) -> None:
        """Create a kernel (taps, in, pairs, filters) and bias for each part."""
        channels = input_shape[-1]
        # Glorot's limit for one convolution: they only share a matrix product.
        limit = math.sqrt(6.0 / (self.kernel_size * (channels + self.filters)))
        shape = (self.kernel_size, channels, self.pairs, self.filters)
        self.kernels, self.biases = [], []
        for part in PARTS:
            kernel = self.add_weight(
                name=f"{part}_kernel",
                shape=shape,
                initializer=keras.initializers.RandomUniform(-limit, limit),
            )
            bias = self.add_weight(
                name=f"{part}_bias", shape=shape[2:], initializer="zeros"
            )
            self.kernels.append(kernel)
            self.biases.append(bias)

    def call(self, inputs):
        """Return (batch, frames, filters) of (batch, frames, channels)."""
        frames, channels = inputs.shape[1:]
        frames = ops.shape(inputs)[1] if frames is None else frames
        reach = (self.kernel_size - 1) * self.dilation
        padded = ops.pad(inputs, [[0, 0], [reach, 0], [0, 0]])
        starts = [tap * self.dilation for tap in range(self.kernel_size)]
        taps = [padded[:, start : start + frames] for start in starts]
        # All taps side by side turn the convolutions into one matrix product;
        # a second one for the gates spares cutting the result in two.
        width, across = self.kernel_size * channels, self.pairs * self.filters
        rows = ops.reshape(ops.concatenate(taps, axis=-1), (-1, width))
        signal, gate = (
            ops.relu(
                ops.matmul(rows, ops.reshape(kernel, (width, across)))
                + ops.reshape(bias, (across,))
            )
            for kernel, bias in zip(self.kernels, self.biases, strict=True)
        )
        gated = ops.reshape(
            signal * ops.sigmoid(gate), (-1, frames, self.pairs, self.filters)
        )
        return ops.sum(gated, axis=2) / self.pairs

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return (batch, frames, filters)."""
        return (*input_shape[:-1], self.filters)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "dilation": self.dilation,
            "pairs": self.pairs,
        }


def build_gm_tcnet(
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    filters: int = 39,
    kernel_size: int = 2,
    blocks: int = 7,
    pairs: int = 3,
) -> keras.Model:
    """Build GM-TCNet; the defaults are the published network.

    A block is two levels, the second one with twice the dilation. What the
    second gives is added to the block's input for the next block, and skips to
    the end, where all blocks are summed. There is neither normalisation nor
    dropout.

    Args:
        input_shape: (frames, coefficients); frames may be None for any length,
            and one is enough.
        num_classes: Number of emotions.
        filters: Channels of every block.
        kernel_size: Taps of every convolution in the blocks.
        blocks: Number n of blocks; their dilations are 1, 2, ... 2^(n-1).
        pairs: Gated pairs of convolutions in a level.

    Returns:
        A model from (batch, frames, coefficients) to class probabilities
        (batch, num_classes); its layer "embedding" gives the average over time
        (batch, filters).

    Raises:
        ValueError: If an option is out of range.
    """
    check_whole(NAME, "filters", filters, 1, 4096)
    check_whole(NAME, "kernel_size", kernel_size, 1, 64)
    check_whole(NAME, "blocks", blocks, 1, 16)
    check_whole(NAME, "pairs", pairs, 1, 64)
    clip = keras.Input(tuple(input_shape), name="features")  # (batch, frames, c)
    signal = layers.Dense(filters, name="input_convolution")(clip)  # one tap
    skips = []
    for exponent in range(blocks):
        inner = signal
        for level in (1, 2):
            inner = GatedLevel(
                filters,
                kernel_size,
                level * 2**exponent,
                pairs,
                name=f"block_{exponent + 1}_level_{level}",
            )(inner)
        skips.append(inner)
        if exponent < blocks - 1:  # nothing reads the last sum
            signal = layers.Add(name=f"block_{exponent + 1}")([signal, inner])
    summed = layers.Add(name="skips")(skips) if blocks > 1 else skips[0]
    activated = layers.LeakyReLU(negative_slope=SLOPE, name="activation")(summed)
    embedding = layers.GlobalAveragePooling1D(name="embedding")(activated)
    probabilities = layers.Dense(num_classes, "softmax", name="probabilities")(
        embedding
    )
    return keras.Model(clip, probabilities, name=NAME)


def receptive_field(blocks: int, kernel_size: int = 2) -> int:
    """Return how many frames one output frame depends on, itself included.

    1 + 3 (kernel_size - 1) sum_j 2^(j-1): a block looks back by its dilation and
    by twice that.

    >>> receptive_field(7)
    382
    """
    return 1 + 3 * (kernel_size - 1) * (2**blocks - 1)
