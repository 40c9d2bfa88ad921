"""TIM-Net: a temporal-aware bi-direction multi-scale network.

Ye, Wen, Wei, Xu, Liu and Shan, "Temporal modeling matters: a novel temporal
emotional modeling approach for speech emotion recognition", ICASSP 2023
(arXiv 2211.08233). A clip and its reversal each pass through a chain of
temporal-aware blocks whose dilation doubles; the time averages of all blocks
are summed with learned weights and classified.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers, ops

from lib.models.layers import (
    LevelPooling,
    StackDirections,
    StackedBatchNormalization,
    StackedConv1D,
    WeightedFusion,
    register,
)

ACTIVATIONS = ("relu", "elu", "gelu", "leaky_relu", "selu", "silu", "tanh")


@register
class TemporalAwareBlock(layers.Layer):
    """Gate a signal by what two dilated convolutions see of its past.

    F_(j+1) = F_j * sigmoid(sub-block(sub-block(F_j))) (TIM-Net, equations 1
    and 2), a sub-block being convolution, batch normalisation, activation and
    spatial dropout. As the sigmoid follows a ReLU, the gate lies in [0.5, 1).

    Args:
        filters: Number of channels, the same in and out.
        kernel_size: Taps of each convolution.
        dilation: Frames between two taps.
        dropout: Share of channels dropped for a whole clip in training.
        activation: Name of the activation.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        dilation: int,
        dropout: float,
        activation: str,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.settings = {
            "filters": filters,
            "kernel_size": kernel_size,
            "dilation": dilation,
            "dropout": dropout,
            "activation": activation,
        }
        self.convolutions = [
            StackedConv1D(filters, kernel_size, dilation, name=f"convolution_{part}")
            for part in (1, 2)
        ]
        self.normalisations = [
            StackedBatchNormalization(name=f"normalisation_{part}") for part in (1, 2)
        ]
        self.activation = keras.activations.get(activation)
        self.dropout = dropout
        self.seed_generator = keras.random.SeedGenerator()

    def build(self, input_shape: tuple) -> None:
        """Build the two sub-blocks."""
        if input_shape[-1] != self.settings["filters"]:
            raise ValueError(
                f"a block of {self.settings['filters']} channels cannot gate "
                f"{input_shape[-1]} channels"
            )
        for layer in self.convolutions + self.normalisations:
            layer.build(input_shape)

    def call(self, inputs, training: bool = False):
        """Gate (branches, batch, frames, channels); the shape stays."""
        return inputs * self.gate(inputs, training)

    def gate(self, inputs, training: bool = False):
        """Return the factor in (0, 1) that each value is multiplied by."""
        hidden = inputs
        for convolve, normalise in zip(
            self.convolutions, self.normalisations, strict=True
        ):
            hidden = self.activation(normalise(convolve(hidden), training=training))
            if training and self.dropout:
                branches, batch, _, channels = ops.shape(hidden)
                hidden = keras.random.dropout(
                    hidden,
                    self.dropout,
                    noise_shape=(branches, batch, 1, channels),
                    seed=self.seed_generator,
                )
        return ops.sigmoid(hidden)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the input's shape."""
        return input_shape

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), **self.settings}


def build_timnet(
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    filters: int = 39,
    kernel_size: int = 2,
    dilations: int = 8,
    stacks: int = 1,
    dropout: float = 0.1,
    activation: str = "relu",
) -> keras.Model:
    """Build TIM-Net as its authors published it.

    Args:
        input_shape: (frames, coefficients); frames may be None for any length.
        num_classes: Number of emotions.
        filters: Channels of every block.
        kernel_size: Taps of every convolution in the blocks.
        dilations: Number n of blocks; their dilations are 1, 2, ... 2^(n-1).
        stacks: How often the chain of n blocks is repeated.
        dropout: Spatial dropout in training, in [0, 1).
        activation: Activation inside the blocks, one of `ACTIVATIONS`.

    Returns:
        A model from (batch, frames, coefficients) to class probabilities
        (batch, num_classes); its layer "embedding" gives the fused vector
        (batch, filters).

    Raises:
        ValueError: If an option is out of range.
    """
    _check(filters, kernel_size, dilations, stacks, dropout, activation)
    clip = keras.Input(tuple(input_shape), name="features")  # (batch, frames, c)
    both = StackDirections(name="directions")(clip)  # (2, batch, frames, c)
    signal = StackedConv1D(filters, name="input_convolution")(both)
    levels = []
    for stack in range(1, stacks + 1):
        for exponent in range(dilations):
            dilation = 2**exponent
            signal = TemporalAwareBlock(
                filters,
                kernel_size,
                dilation,
                dropout,
                activation,
                name=f"block_{stack}_dilation_{dilation}",
            )(signal)
            pooled = LevelPooling(name=f"level_{stack}_dilation_{dilation}")(signal)
            levels.append(layers.Reshape((1, filters))(pooled))
    # (batch, levels, filters)
    stacked = layers.Concatenate(axis=1, name="levels")(levels)
    embedding = WeightedFusion(name="embedding")(stacked)
    probabilities = layers.Dense(num_classes, "softmax", name="probabilities")(
        embedding
    )
    return keras.Model(clip, probabilities, name="timnet")


def _check(filters, kernel_size, dilations, stacks, dropout, activation) -> None:
    """Raise ValueError if an option of `build_timnet` is out of range."""
    ranges = {
        "filters": (filters, 1, 4096),
        "kernel_size": (kernel_size, 1, 64),
        "dilations": (dilations, 1, 16),
        "stacks": (stacks, 1, 16),
    }
    for name, (value, low, high) in ranges.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not low <= value <= high:
            raise ValueError(
                f"timnet option '{name}': {value!r}; give a whole number from {low} "
                f"to {high}"
            )
    number = isinstance(dropout, int | float) and not isinstance(dropout, bool)
    if not number or not 0 <= dropout < 1:
        raise ValueError(f"timnet option 'dropout': {dropout!r}; give 0 to below 1")
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"timnet option 'activation': {activation!r}; give one of {ACTIVATIONS}"
        )


def receptive_field(dilations: int, kernel_size: int = 2, stacks: int = 1) -> int:
    """Return how many frames of the past one output frame depends on.

    1 + 2 (kernel_size - 1) sum_j 2^(j-1), the present frame included: two
    convolutions in every block.

    >>> receptive_field(8), receptive_field(10)
    (511, 2047)
    """
    return 1 + 2 * (kernel_size - 1) * stacks * (2**dilations - 1)
