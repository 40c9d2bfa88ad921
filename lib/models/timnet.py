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

from lib.models.checks import check_choice, check_share, check_switch, check_whole
from lib.models.fused import can_fuse, fused_sub_blocks
from lib.models.layers import (
    LevelPooling,
    StackDirections,
    StackedBatchNormalization,
    StackedConv1D,
    WeightedFusion,
    register,
    with_lanes,
)

ACTIVATIONS = ("relu", "elu", "gelu", "leaky_relu", "selu", "silu", "tanh")
# f(a x) = a f(x) for all a >= 0.
HOMOGENEOUS = ("relu", "leaky_relu")
BLOCKS = ("gated", "residual")
FUSIONS = ("weights", "mean", "last")


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
        causal: False lets the convolutions see the future too.
        gated: False adds the sub-blocks' output to the signal and activates the
            sum, as a plain temporal convolutional network does.
        lanes: Channels in and out, those above `filters` being zero; None for no
            more than those.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        dilation: int,
        dropout: float,
        activation: str,
        causal: bool = True,
        gated: bool = True,
        lanes: int | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.settings = {
            "filters": filters,
            "kernel_size": kernel_size,
            "dilation": dilation,
            "dropout": dropout,
            "activation": activation,
            "causal": causal,
            "gated": gated,
            "lanes": lanes,
        }
        self.convolutions = [
            StackedConv1D(
                filters,
                kernel_size,
                dilation,
                causal,
                lanes,
                name=f"convolution_{part}",
            )
            for part in (1, 2)
        ]
        self.normalisations = [
            StackedBatchNormalization(lanes=lanes, name=f"normalisation_{part}")
            for part in (1, 2)
        ]
        self.activation = keras.activations.get(activation)
        self.dropout = dropout
        self.seed_generator = keras.random.SeedGenerator()

    def build(self, input_shape: tuple) -> None:
        """Build the two sub-blocks."""
        filters, lanes = self.settings["filters"], self.settings["lanes"]
        if input_shape[-1] != (lanes or filters):
            raise ValueError(
                f"a block of {lanes or filters} channels cannot gate "
                f"{input_shape[-1]} channels"
            )
        for layer in self.convolutions + self.normalisations:
            layer.build((*input_shape[:-1], filters))

    def call(self, inputs, training: bool = False):
        """Gate (branches, frames, batch, channels); the shape stays."""
        if training and can_fuse(inputs, self.convolutions):
            return fused_sub_blocks(
                inputs,
                self.convolutions,
                self.normalisations,
                [self._dropout_factor(inputs) for _ in self.convolutions],
                activate=self.activation,
                combine=self._combined,
                homogeneous=self.settings["activation"] in HOMOGENEOUS,
            )
        return self._combined(inputs, self.sub_blocks(inputs, training))

    def _combined(self, inputs, hidden):
        if self.settings["gated"]:
            return inputs * ops.sigmoid(hidden)
        return self.activation(inputs + hidden)

    def gate(self, inputs):
        """Return the factor in (0, 1) that each value is multiplied by."""
        return ops.sigmoid(self.sub_blocks(inputs))

    def sub_blocks(self, inputs, training: bool = False):
        """Return what the two sub-blocks make of the signal."""
        hidden = inputs
        for convolve, normalise in zip(
            self.convolutions, self.normalisations, strict=True
        ):
            hidden = self.activation(normalise(convolve(hidden), training=training))
            if training:
                hidden = hidden * self._dropout_factor(inputs)
        return hidden

    def _dropout_factor(self, inputs):
        """Return 0 for a channel of a clip that is dropped, else 1 / (1 - dropout)."""
        branches, _, batch, channels = ops.shape(inputs)
        factor = ops.ones((branches, 1, batch, channels))
        if not self.dropout:
            return factor
        return keras.random.dropout(factor, self.dropout, seed=self.seed_generator)

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
    backward: bool = True,
    fusion: str = "weights",
    block: str = "gated",
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
        dropout: Spatial dropout in training, in [0, 1).
        activation: Activation inside the blocks, one of `ACTIVATIONS`.
        backward: Read the clip backwards too.
        fusion: "weights" learned for the levels, their "mean", or the "last"
            level alone.
        block: "gated" (temporal-aware), or "residual".
        causal: False lets the blocks see the future of each direction too.

    Returns:
        A model from (batch, frames, coefficients) to class probabilities
        (batch, num_classes); its layer "embedding" gives the fused vector
        (batch, filters).

    Raises:
        ValueError: If an option is out of range.
    """
    check("timnet", filters, kernel_size, dilations, stacks, activation)
    check_share("timnet", "dropout", dropout)
    check_choice("timnet", "fusion", fusion, FUSIONS)
    check_choice("timnet", "block", block, BLOCKS)
    check_switch("timnet", backward=backward, causal=causal)
    clip = keras.Input(tuple(input_shape), name="features")  # (batch, frames, c)
    both = StackDirections(backward, name="directions")(clip)  # (2, frames, batch, c)
    levels = multi_scale(
        both,
        filters=filters,
        kernel_size=kernel_size,
        dilations=dilations,
        stacks=stacks,
        dropouts=[dropout] * dilations,
        activation=activation,
        causal=causal,
        gated=block == "gated",
    )
    embedding = _fused(levels, fusion)
    probabilities = layers.Dense(num_classes, "softmax", name="probabilities")(
        embedding
    )
    return keras.Model(clip, probabilities, name="timnet")


def multi_scale(
    branches,
    *,
    filters: int,
    kernel_size: int,
    dilations: int,
    stacks: int,
    dropouts: Sequence[float],
    activation: str,
    causal: bool = True,
    gated: bool = True,
) -> list:
    """Return what each block of a chain has seen, averaged over time.

    Args:
        branches: (branches, frames, batch, coefficients).
        filters: Channels of every block.
        kernel_size: Taps of every convolution in the blocks.
        dilations: Number of blocks in a chain.
        stacks: Number of chains, one after the other.
        dropouts: Dropout of each block of a chain.
        activation: Activation inside the blocks.
        causal: As in `build_timnet`.
        gated: As in `TemporalAwareBlock`.

    Returns:
        One tensor (batch, 1, filters) per block, from the shortest to the
        longest view.
    """
    lanes = with_lanes(filters)
    signal = StackedConv1D(filters, lanes=lanes, name="input_convolution")(branches)
    levels = []
    for stack in range(1, stacks + 1):
        for exponent, dropout in enumerate(dropouts):
            dilation = 2**exponent
            signal = TemporalAwareBlock(
                filters,
                kernel_size,
                dilation,
                dropout,
                activation,
                causal,
                gated,
                lanes,
                name=f"block_{stack}_dilation_{dilation}",
            )(signal)
            pooled = LevelPooling(filters, name=f"level_{stack}_dilation_{dilation}")(
                signal
            )
            levels.append(layers.Reshape((1, filters))(pooled))
    return levels


def _fused(levels: list, fusion: str):
    """Return one vector (batch, filters) from the levels."""
    if fusion == "last":
        return layers.Flatten(name="embedding")(levels[-1])
    # (batch, levels, filters)
    stacked = layers.Concatenate(axis=1, name="levels")(levels)
    if fusion == "mean":
        return layers.GlobalAveragePooling1D(name="embedding")(stacked)
    return WeightedFusion(name="embedding")(stacked)


def check(system, filters, kernel_size, dilations, stacks, activation) -> None:
    """Raise ValueError if a number that shapes the blocks is out of range."""
    ranges = {
        "filters": (filters, 1, 4096),
        "kernel_size": (kernel_size, 1, 64),
        "dilations": (dilations, 1, 16),
        "stacks": (stacks, 1, 16),
    }
    for name, (value, low, high) in ranges.items():
        check_whole(system, name, value, low, high)
    check_choice(system, "activation", activation, ACTIVATIONS)


def receptive_field(dilations: int, kernel_size: int = 2, stacks: int = 1) -> int:
    """Return how many frames one output frame of a direction depends on.

    1 + 2 (kernel_size - 1) sum_j 2^(j-1), the present frame included: two
    convolutions in every block. All of them lie in the past if the blocks are
    causal, around the frame otherwise.

    >>> receptive_field(8), receptive_field(10)
    (511, 2047)
    """
    return 1 + 2 * (kernel_size - 1) * stacks * (2**dilations - 1)
