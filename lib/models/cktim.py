"""CkTIM-net: TIM-Net with continuous kernels in place of dilated ones.

The network of the project CkTIM-net (cybernetic-m/nn-project, 2024): a clip and its
reversal each pass through temporal-aware blocks whose convolutions see the whole
past, by kernels that small networks generate (`lib.models.continuous`).
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from lib.models.checks import (
    check_choice,
    check_number,
    check_share,
    check_switch,
    check_whole,
)
from lib.models.continuous import (
    ACTIVATIONS,
    CONVOLUTIONS,
    EPSILON,
    GAINS,
    GENERATORS,
    MOMENTUM,
    ContinuousConvolution,
)
from lib.models.layers import (
    LevelPooling,
    StackDirections,
    StackedBatchNormalization,
    StackedConv1D,
    WeightedFusion,
    register,
)
from lib.models.timnet import TemporalAwareBlock

NAME = "cktim"
HIDDEN = 32  # units of a generator's hidden layers at hidden_scale 1


@register
class ContinuousBlock(TemporalAwareBlock):
    """A temporal-aware block with continuous kernels, or with dilated ones.

    Args:
        filters: Number of channels, the same in and out.
        dropout: Share of channels dropped for a whole clip in training.
        continuous: The arguments of `ContinuousConvolution` without `filters`; None
            for dilated convolutions.
        kernel_size: Taps of a dilated convolution.
        dilation: Frames between two of its taps.
    """

    def __init__(
        self,
        filters: int,
        dropout: float,
        continuous: dict | None,
        kernel_size: int = 2,
        dilation: int = 1,
        **kwargs,
    ) -> None:
        # Past the parent's own, which would make other convolutions.
        layers.Layer.__init__(self, **kwargs)
        self.own_settings = {
            "filters": filters,
            "dropout": dropout,
            "continuous": continuous,
            "kernel_size": kernel_size,
            "dilation": dilation,
        }
        self.settings = {
            "filters": filters,
            "gated": True,
            "activation": "relu",
            "lanes": None,
        }
        self.convolutions = [
            StackedConv1D(filters, kernel_size, dilation, name=f"convolution_{number}")
            if continuous is None
            else ContinuousConvolution(
                filters, name=f"convolution_{number}", **continuous
            )
            for number in (1, 2)
        ]
        self.normalisations = [
            StackedBatchNormalization(MOMENTUM, EPSILON, name=f"normalisation_{number}")
            for number in (1, 2)
        ]
        self.activation = keras.activations.relu
        self.dropout = dropout
        self.seed_generator = keras.random.SeedGenerator()

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**layers.Layer.get_config(self), **self.own_settings}


@register
class UniformFusion(WeightedFusion):
    """`WeightedFusion` whose weights start in U(0, 1)."""

    def build(self, input_shape: tuple) -> None:
        """Create one weight per level."""
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[1], 1),
            initializer=keras.initializers.RandomUniform(0.0, 1.0),
        )


def build_cktim(
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    continuous: bool = True,
    blocks: int = 6,
    filters: int = 39,
    kernel_size: int = 2,
    generator: str = "conv",
    activation: str = "sin",
    omega_0: float = 25.0,
    omega_0_at_input: bool = False,
    hidden_scale: float = 1.0,
    siren_initialisation: bool = True,
    normalise_generator: bool = True,
    kernel_gain: str = "sum",
    dropout: float = 0.1,
    kernel_dropout: float = 0.1,
    output_bias: bool = False,
    convolution: str = "auto",
) -> keras.Model:
    """Build CkTIM-net, or the network with dilated kernels it was compared with.

    The defaults are the published best run but for `siren_initialisation`. Of the
    options from `generator` on, only `dropout` matters without `continuous`.

    Args:
        input_shape: (frames, coefficients); frames may be None for any length.
        num_classes: Number of emotions.
        continuous: Generated kernels as long as the clip; False for kernels of
            `kernel_size` taps, dilation 2^i in the block i = 0, 1, ... and first
            layers of one tap: the network called TIM in the same project.
        blocks: Number of temporal-aware blocks.
        filters: Channels of every block.
        kernel_size: Taps of a dilated kernel.
        generator: What makes the kernels: "conv", dense layers with normed
            weights, or "convKan", layers of splines; no published result uses the
            latter.
        activation: Of the generators: "sin", "relu", "kaf" (a learned sum of
            Gaussian kernels for every unit, a reading of our own: the published one
            holds for 188 frames only) or "kafsin" (which starts as the sine).
        omega_0: Factor before the sine of the generators in the blocks. With
            `normalise_generator` it changes next to nothing but the start of the
            weights.
        omega_0_at_input: Give it to the two first convolutions too; published, it
            is 1 there.
        hidden_scale: Units of a generator's hidden layers, in 32; rounded down.
        siren_initialisation: As in `KernelGenerator`. The published code meant to
            start the weights so, but they kept U(-1/sqrt(in), 1/sqrt(in)): False.
        normalise_generator: Batch normalisation before the sine, as published.
        kernel_gain: "sum", as published, or "mean" over the frames. With "sum", the
            embedding grows with the clip's length and reaches thousands: the
            published losses begin at 12,000.
        dropout: Spatial dropout in the blocks in training, in [0, 1).
        kernel_dropout: Share of the kernels' single values dropped in training.
            Published, it is 0.1 in the first layers and `dropout` in the blocks.
        output_bias: Train an offset for every continuous convolution; the published
            one stays zero.
        convolution: "direct", "fft", or "auto" for the faster one.

    Returns:
        A model from (batch, frames, coefficients) to class probabilities
        (batch, num_classes); its layer "embedding" gives the fused vector
        (batch, filters).

    Raises:
        ValueError: If an option is out of range.
    """
    _check_sizes(blocks, filters, kernel_size, omega_0, hidden_scale)
    _check_choices(generator, activation, kernel_gain, convolution)
    check_share(NAME, "dropout", dropout)
    check_share(NAME, "kernel_dropout", kernel_dropout)
    check_switch(
        NAME,
        continuous=continuous,
        omega_0_at_input=omega_0_at_input,
        siren_initialisation=siren_initialisation,
        normalise_generator=normalise_generator,
        output_bias=output_bias,
    )
    kernels = {
        "generator": {
            "hidden": int(HIDDEN * hidden_scale),
            "generator": generator,
            "activation": activation,
            "omega_0": float(omega_0),
            "normalise": normalise_generator,
            "siren_initialisation": siren_initialisation,
            "dropout": kernel_dropout,
        },
        "convolution": convolution,
        "gain": kernel_gain,
        "bias": output_bias,
    }
    clip = keras.Input(tuple(input_shape), name="features")  # (batch, frames, c)
    signal = StackDirections(name="directions")(clip)  # (2, frames, batch, c)
    if continuous:
        signal = _first(filters, kernels, omega_0_at_input)(signal)
    else:
        signal = StackedConv1D(filters, name="input_convolution")(signal)
    levels = []
    for number in range(blocks):
        signal = ContinuousBlock(
            filters,
            dropout,
            kernels if continuous else None,
            kernel_size,
            dilation=2**number,
            name=f"block_{number + 1}",
        )(signal)
        pooled = LevelPooling(name=f"level_{number + 1}")(signal)
        levels.append(layers.Reshape((1, filters))(pooled))
    stacked = layers.Concatenate(axis=1, name="levels")(levels)
    embedding = UniformFusion(name="embedding")(stacked)
    probabilities = layers.Dense(num_classes, "softmax", name="probabilities")(
        embedding
    )
    return keras.Model(clip, probabilities, name=NAME)


def _first(filters: int, kernels: dict, with_omega: bool) -> ContinuousConvolution:
    """Return the convolution before the blocks; its omega_0 is 1 as published."""
    generator = dict(kernels["generator"])
    if not with_omega:
        generator["omega_0"] = 1.0
    return ContinuousConvolution(
        filters, name="input_convolution", **(kernels | {"generator": generator})
    )


def _check_sizes(blocks, filters, kernel_size, omega_0, hidden_scale) -> None:
    check_whole(NAME, "blocks", blocks, 1, 16)
    check_whole(NAME, "filters", filters, 1, 512)
    check_whole(NAME, "kernel_size", kernel_size, 1, 64)
    check_number(NAME, "omega_0", omega_0, 1e-3, 1e4)
    check_number(NAME, "hidden_scale", hidden_scale, 1 / HIDDEN, 16)


def _check_choices(generator, activation, kernel_gain, convolution) -> None:
    check_choice(NAME, "generator", generator, GENERATORS)
    check_choice(NAME, "activation", activation, ACTIVATIONS)
    check_choice(NAME, "kernel_gain", kernel_gain, GAINS)
    check_choice(NAME, "convolution", convolution, CONVOLUTIONS)
