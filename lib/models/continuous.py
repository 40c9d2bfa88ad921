"""Convolution with a kernel that a small network generates from positions.

Romero, Kuzina, Bekkers, Tomczak and Hoogendoorn, "CKConv: continuous kernel
convolution for sequential data", ICLR 2022 (arXiv 2102.02611), with the generators
of CkTIM-net. The kernel is as long as the clip, so every frame sees all frames
before it. Positions are those of the clip at hand, from -1 to 1 whatever its length:
the kernel of a longer clip is the same function, stretched.
"""

from __future__ import annotations

import math

import keras
import scipy.fft
from keras import layers, ops

from lib.models.kan import KernelActivation, StackedKanDense
from lib.models.layers import StackedBatchNormalization, real_rows, register

# Those of the published code, which is PyTorch's: statistics of a generated kernel
# have to follow weights that move at every step.
MOMENTUM = 0.9
EPSILON = 1e-5
BIAS_LIMIT = 0.1

GENERATORS = ("conv", "convKan")
ACTIVATIONS = ("sin", "relu", "kaf", "kafsin")
CONVOLUTIONS = ("auto", "direct", "fft")
GAINS = ("sum", "mean")


@register
class StackedNormedDense(layers.Layer):
    """Dense layer with normed weights, per branch.

    Every unit's weights are w = gain * direction / |direction|. The gain starts as
    |direction|, so that w starts in U(-limit, limit).

    Args:
        units: Number of outputs.
        limit: Of the weights at the start; None for 1 / sqrt(in).
        bias_limit: Of the bias at the start.
    """

    def __init__(
        self,
        units: int,
        limit: float | None = None,
        bias_limit: float = BIAS_LIMIT,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.limit = limit
        self.bias_limit = bias_limit

    def build(self, input_shape: tuple) -> None:
        """Create direction (branches, 1, in, units), gain and bias."""
        branches, _, _, size = input_shape
        limit = 1.0 / math.sqrt(size) if self.limit is None else self.limit
        self.direction = self.add_weight(
            name="direction",
            shape=(branches, 1, size, self.units),
            initializer=keras.initializers.RandomUniform(-limit, limit),
        )
        self.gain = self.add_weight(
            name="gain",
            shape=(branches, 1, 1, self.units),
            initializer=lambda shape, dtype=None: self._norms(),
        )
        self.bias = self.add_weight(
            name="bias",
            shape=(branches, 1, 1, self.units),
            initializer=keras.initializers.RandomUniform(
                -self.bias_limit, self.bias_limit
            ),
        )

    def _norms(self):
        squares = ops.sum(ops.square(self.direction), axis=-2, keepdims=True)
        return ops.sqrt(squares)

    def weights_in_use(self):
        """Return the weights w, (branches, 1, in, units)."""
        return self.direction * (self.gain / self._norms())

    def call(self, inputs):
        """Return (branches, 1, points, units) from (branches, 1, points, in)."""
        return ops.matmul(inputs, self.weights_in_use()) + self.bias

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the input's shape with `units` channels."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "limit": self.limit,
            "bias_limit": self.bias_limit,
        }


@register
class KernelGenerator(layers.Layer):
    """From a position to the kernel's values there: 1 -> hidden -> hidden -> outputs.

    Each hidden layer is linear, times omega_0 where the activation is the sine,
    batch normalisation over the positions, activation; the last one is linear, with
    dropout. Batch normalisation takes away the factor omega_0 and the scale of the
    first two layers' weights: only without it do they matter. It also makes all
    units of the first hidden layer equal up to their sign at the start, as each is
    a linear function of one position.

    Args:
        hidden: Units of each hidden layer.
        outputs: Values per position.
        generator: "conv": normed weights; "convKan": splines (`StackedKanDense`).
        activation: "sin", "relu", "kaf" or "kafsin" (`KernelActivation` with a
            random start, and with the sine as its start).
        omega_0: Factor before the sine: the higher, the rougher the kernel.
        normalise: Batch normalisation before the activation.
        siren_initialisation: Weights start in U(-1, 1) in the first layer and in
            U(-sqrt(6 / in) / omega_0, sqrt(6 / in) / omega_0) in the others
            (Sitzmann et al. 2020); False for U(-1/sqrt(in), 1/sqrt(in)). Only for
            "conv" with "sin"; all others start in the latter way.
        dropout: Share of the kernel's single values dropped in training.
    """

    def __init__(
        self,
        hidden: int,
        outputs: int,
        generator: str = "conv",
        activation: str = "sin",
        omega_0: float = 25.0,
        normalise: bool = True,
        siren_initialisation: bool = True,
        dropout: float = 0.1,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.settings = {
            "hidden": hidden,
            "outputs": outputs,
            "generator": generator,
            "activation": activation,
            "omega_0": omega_0,
            "normalise": normalise,
            "siren_initialisation": siren_initialisation,
            "dropout": dropout,
        }
        sizes = (hidden, hidden, outputs)
        self.linear = [self._linear(number, size) for number, size in enumerate(sizes)]
        self.normalisations = [
            StackedBatchNormalization(MOMENTUM, EPSILON, name=f"normalisation_{number}")
            for number in ((1, 2) if normalise else ())
        ]
        start = {"kaf": "random", "kafsin": "sin"}.get(activation)
        self.kernels = [
            KernelActivation(start, name=f"activation_{number}")
            for number in ((1, 2) if start else ())
        ]
        self.seed_generator = keras.random.SeedGenerator()

    def _linear(self, number: int, units: int) -> layers.Layer:
        name = f"linear_{number + 1}"
        settings = self.settings
        if settings["generator"] == "convKan":
            return StackedKanDense(units, name=name)
        limit = None
        if settings["siren_initialisation"] and settings["activation"] == "sin":
            deep = math.sqrt(6.0 / settings["hidden"]) / settings["omega_0"]
            limit = deep if number else 1.0
        return StackedNormedDense(units, limit, name=name)

    def build(self, input_shape: tuple) -> None:
        """Build all layers for positions (branches, 1, points, 1)."""
        shape = tuple(input_shape)
        inside = (*shape[:-1], self.settings["hidden"])
        for layer, size in zip(self.linear, (shape, inside, inside), strict=True):
            layer.build(size)
        for layer in self.normalisations + self.kernels:
            layer.build(inside)

    def call(self, inputs, training: bool = False):
        """Return kernel values (branches, 1, points, outputs) at the positions."""
        values = inputs
        for number in (0, 1):
            values = self._activated(self.linear[number](values), number, training)
        values = self.linear[2](values)
        if training and self.settings["dropout"]:
            values = keras.random.dropout(
                values, self.settings["dropout"], seed=self.seed_generator
            )
        return values

    def _activated(self, values, number: int, training: bool):
        sine = self.settings["activation"] == "sin"
        if sine:
            values = values * self.settings["omega_0"]
        if self.normalisations:
            with real_rows(None):  # of positions, not of clips
                values = self.normalisations[number](values, training=training)
        if self.kernels:
            return self.kernels[number](values)
        return ops.sin(values) if sine else ops.relu(values)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the input's shape with `outputs` channels."""
        return (*input_shape[:-1], self.settings["outputs"])

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), **self.settings}


@register
class ContinuousConvolution(layers.Layer):
    """Causal convolution with a generated kernel as long as the clip, per branch.

    out[t] = sum_s input[t - s] · kernel(position s), s = 0 ... t, where position s is
    1 - 2 s / (frames - 1): +1 for the present frame, -1 for the oldest a clip has.

    Args:
        filters: Number of output channels.
        generator: The arguments of `KernelGenerator`, without `outputs`.
        convolution: "direct", or by the fast Fourier transform, "fft", which takes
            a tenth of the time at 188 frames; "auto" is "fft".
        gain: "sum", or "mean": the kernel is divided by the number of frames, so
            that a longer clip does not make a louder output.
        bias: Add a learned offset per channel.
    """

    def __init__(
        self,
        filters: int,
        generator: dict,
        convolution: str = "auto",
        gain: str = "sum",
        bias: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.settings = {
            "filters": filters,
            "generator": dict(generator),
            "convolution": convolution,
            "gain": gain,
            "bias": bias,
        }

    def build(self, input_shape: tuple) -> None:
        """Create the generator for this number of channels, and the bias."""
        branches, _, _, self.channels = input_shape
        filters = self.settings["filters"]
        self.generator = KernelGenerator(
            outputs=self.channels * filters,
            name="generator",
            **self.settings["generator"],
        )
        self.generator.build((branches, 1, None, 1))
        self.bias = None
        if self.settings["bias"]:
            self.bias = self.add_weight(
                name="bias", shape=(branches, 1, 1, filters), initializer="zeros"
            )

    def kernel(self, frames, training: bool = False):
        """Return the kernel (branches, frames, in, filters), newest tap first.

        Args:
            frames: Length of the clip, a number or a scalar tensor.
            training: With dropout, and normalised by its own statistics.
        """
        values = self.generator(positions(frames), training=training)
        if self.settings["gain"] == "mean":
            values = values / ops.cast(frames, values.dtype)
        shape = (values.shape[0], -1, self.channels, self.settings["filters"])
        return ops.reshape(values, shape)

    def call(self, inputs, training: bool = False):
        """Convolve (branches, frames, batch, in) to (branches, frames, batch, out)."""
        frames = inputs.shape[1]
        frames = ops.shape(inputs)[1] if frames is None else frames
        kernel = self.kernel(frames, training)
        direct = self.settings["convolution"] == "direct"
        outputs = (convolve_directly if direct else convolve_by_fft)(inputs, kernel)
        return outputs if self.bias is None else outputs + self.bias

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the input's shape with `filters` channels."""
        return (*input_shape[:-1], self.settings["filters"])

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), **self.settings}


def positions(frames):
    """Return the positions (1, 1, frames, 1) of the taps, from the newest, +1, to -1.

    Args:
        frames: Length of the clip, a number or a scalar tensor.
    """
    age = ops.cast(ops.arange(frames), "float32")
    steps = ops.cast(ops.maximum(frames - 1, 1), "float32")  # one frame has none
    return (1.0 - 2.0 * age / steps)[None, None, :, None]


def convolve_directly(inputs, kernel):
    """Return out[n, t, b] = sum_s inputs[n, t - s, b] · kernel[n, s], s = 0 ... t.

    Args:
        inputs: (branches, frames, batch, in).
        kernel: (branches, frames, in, out), newest tap first.

    Returns:
        (branches, frames, batch, out).
    """
    padded = ops.concatenate([ops.zeros_like(inputs[:, 1:]), inputs], axis=1)
    padded = ops.transpose(padded, (0, 2, 1, 3))
    kernel = ops.flip(kernel, axis=1)
    branches = range(inputs.shape[0])
    outputs = ops.stack([ops.conv(padded[n], kernel[n]) for n in branches])
    return ops.transpose(outputs, (0, 2, 1, 3))


def convolve_by_fft(inputs, kernel):
    """Return what `convolve_directly` does, as a product of spectra.

    Both are padded to at least 2 frames - 1, so that nothing wraps around.
    """
    frames = inputs.shape[1]
    length = None
    if frames is not None:
        length = scipy.fft.next_fast_len(2 * frames - 1, real=True)
    # (branches, frequencies, batch, in) times (branches, frequencies, in, out).
    real, imaginary = _spectrum(inputs, length)
    kernel_real, kernel_imaginary = _spectrum(kernel, length)
    # Three products instead of the four of complex numbers.
    first = ops.matmul(real, kernel_real)
    second = ops.matmul(imaginary, kernel_imaginary)
    both = ops.matmul(real + imaginary, kernel_real + kernel_imaginary)
    product = (first - second, both - first - second)
    product = tuple(ops.transpose(part, (0, 2, 3, 1)) for part in product)
    signal = ops.irfft(product, length)  # (branches, batch, out, length)
    frames = ops.shape(inputs)[1] if frames is None else frames
    outputs = ops.transpose(signal[..., :frames], (0, 3, 1, 2))
    # A transform whose length only the data know has lost all other sizes too.
    return ops.reshape(outputs, (kernel.shape[0], frames, -1, kernel.shape[-1]))


def _spectrum(values, length: int | None):
    """Return real and imaginary part, frequencies second: (branches, f, ., .)."""
    if length is None:
        # A length that only the data know: twice the clip's.
        values = ops.concatenate([values, ops.zeros_like(values)], axis=1)
    values = ops.moveaxis(values, 1, -1)
    return tuple(ops.moveaxis(part, -1, 1) for part in ops.rfft(values, length))
