"""CkTIM-net (cybernetic-m/nn-project, 2024): TIM-Net with kernels as long as the clip.

Small networks generate them from the positions of their taps (CKConv: Romero et al.,
ICLR 2022, arXiv 2102.02611). The second half of the channels reads it backwards.
"""

import math
from typing import Annotated, Literal

import keras
import numpy as np
import scipy.fft
from keras import layers, ops
from keras.initializers import RandomUniform
from pydantic import Field

from lib.models import Count, Share, Taps, Width

HIDDEN = 32  # units of a generator's hidden layers at hidden_scale 1
# PyTorch's: a generated kernel's statistics have to follow weights that move.
NORMALISATION = {"momentum": 0.9, "epsilon": 1e-5}
SPLINES = np.arange(-1.0, 7.0, dtype="float32")  # centres, in fifths of [-1, 1]


def build_cktim(
    input_shape: tuple,
    num_classes: int,
    *,
    continuous: bool = True,
    blocks: Count = 6,
    filters: Width = 39,
    kernel_size: Taps = 2,
    generator: Literal["conv", "convKan"] = "conv",
    activation: Literal["sin", "relu"] = "sin",
    omega_0: Annotated[float, Field(ge=1e-3, le=1e4)] = 25.0,
    omega_0_at_input: bool = False,
    hidden_scale: Annotated[float, Field(ge=1 / HIDDEN, le=16)] = 1.0,
    siren_initialisation: bool = True,
    normalise_generator: bool = True,
    kernel_gain: Literal["sum", "mean"] = "sum",
    dropout: Share = 0.1,
    kernel_dropout: Share = 0.1,
    output_bias: bool = False,
    convolution: Literal["auto", "direct", "fft"] = "auto",
) -> keras.Model:
    """Build CkTIM-net, or, not `continuous`, the dilated TIM it was compared with.

    The defaults are the published best run but for `siren_initialisation` (Sitzmann
    et al. 2020), which its code meant and missed. `omega_0` stands before the sine. By
    `kernel_gain` "sum", as published, the embedding grows with the length of the clip;
    "mean" divides by it. `kernel_dropout` drops single values of the kernels, published
    as 0.1 in the first layer and `dropout` in others. "auto" is "fft". The layer
    "block_1_1_generator" makes the kernels of the convolution "block_1_1".
    """

    def kernel_generator(outputs: int, omega: float, name: str):
        hidden = int(HIDDEN * hidden_scale)
        deep = 1 / math.sqrt(hidden)
        if activation == "sin" and siren_initialisation:
            deep = math.sqrt(6 / hidden) / omega
        dense = NormedDense if generator == "conv" else SplineDense
        values = places = keras.Input((None, 2))
        for limit in (1.0, deep):
            values = dense(hidden, limit)(values)
            if activation == "sin":
                values = layers.Rescaling(omega)(values)
            if normalise_generator:
                values = layers.BatchNormalization(**NORMALISATION)(values)
            values = ops.sin(values) if activation == "sin" else ops.relu(values)
        values = layers.Dropout(kernel_dropout)(dense(outputs, deep)(values))
        return keras.Model(places, values, name=f"{name}_generator")

    def convolve(signal, taps: int, dilation: int, omega: float, name: str):
        if continuous:
            outputs = signal.shape[-1] // 2 * filters
            kernels = kernel_generator(outputs, omega, name)(positions)
            settings = (filters, convolution, kernel_gain, output_bias)
            return ContinuousConvolution(*settings, name=name)([signal, kernels])
        how = {"padding": "causal", "dilation_rate": dilation}
        halves = ops.split(signal, 2, axis=-1)
        halves = [layers.Conv1D(filters, taps, **how)(half) for half in halves]
        return layers.Concatenate(name=name)(halves)

    clip = keras.Input(input_shape, name="features")  # (batch, frames, c)
    positions = Positions(name="positions")(clip)  # (1, frames, 2)
    signal = layers.Concatenate(name="directions")([clip, ops.flip(clip, axis=1)])
    first_omega = omega_0 if omega_0_at_input else 1.0
    signal = convolve(signal, 1, 1, first_omega, "input_convolution")
    levels = []
    for number in range(1, blocks + 1):
        hidden = signal
        for part in (1, 2):
            name, dilation = f"block_{number}_{part}", 2 ** (number - 1)
            hidden = convolve(hidden, kernel_size, dilation, omega_0, name)
            hidden = layers.BatchNormalization(**NORMALISATION)(hidden)
            hidden = layers.ReLU()(hidden)
            hidden = layers.SpatialDropout1D(dropout)(hidden)
        gate = layers.Activation("sigmoid", name=f"block_{number}_gate")(hidden)
        signal = layers.Multiply(name=f"block_{number}")([signal, gate])
        means = layers.GlobalAveragePooling1D()(signal)
        levels.append(ops.sum(layers.Reshape((2, filters))(means), axis=1))
    start = RandomUniform(0, 1)  # of one weight per level
    fusion = layers.Dense(1, use_bias=False, kernel_initializer=start, name="fusion")
    fused = fusion(ops.stack(levels, axis=-1))  # (batch, filters, 1)
    embedding = layers.Flatten(name="embedding")(fused)
    probabilities = layers.Dense(num_classes, "softmax", name="probabilities")
    return keras.Model(clip, probabilities(embedding), name="cktim")


@keras.saving.register_keras_serializable("ser_workbook")
class Positions(layers.Layer):
    """Positions of the taps: from +1, the present frame, to -1, the oldest."""

    def call(self, clip):
        frames = ops.shape(clip)[1]
        age = ops.cast(ops.arange(frames), "float32")
        steps = ops.cast(ops.maximum(frames - 1, 1), "float32")  # one frame has none
        return ops.tile((1 - 2 * age / steps)[None, :, None], (1, 1, 2))


@keras.saving.register_keras_serializable("ser_workbook")
class ContinuousConvolution(layers.Layer):
    """Convolution of (batch, frames, 2 in) by values (1, frames, 2 in * filters)."""

    def __init__(self, filters, convolution, gain, bias, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.gain, self.bias = filters, gain, bias
        direct = convolution == "direct"
        self.convolve = convolve_directly if direct else convolve_by_fft

    def build(self, input_shapes):
        shape = (2 * self.filters,)
        self.offset = self.add_weight(shape, "zeros", name="bias") if self.bias else 0.0

    def call(self, inputs):
        signal, values = inputs
        frames, size = ops.shape(signal)[1], signal.shape[-1] // 2
        signal = ops.reshape(signal, (-1, frames, 2, size))
        if self.gain == "mean":
            values = values / ops.cast(frames, values.dtype)
        kernels = ops.reshape(values, (frames, 2, size, self.filters))
        outputs = self.convolve(signal, kernels)
        return ops.reshape(outputs, (-1, frames, 2 * self.filters)) + self.offset

    def compute_output_shape(self, input_shapes):
        return (*input_shapes[0][:2], 2 * self.filters)


def convolve_directly(signal, kernels):
    """Return out[b, t, d] = sum_s signal[b, t - s, d] · kernels[s, d], s = 0 ... t."""
    padded = ops.concatenate([ops.zeros_like(signal[:, 1:]), signal], axis=1)
    halves = [ops.conv(padded[:, :, d], ops.flip(kernels[:, d], 0)) for d in (0, 1)]
    return ops.stack(halves, axis=2)


def convolve_by_fft(signal, kernels):
    """Return the same as a product of spectra, in three products, not four."""
    frames = ops.shape(signal)[1]
    length = 2 * frames  # filled up with zeros, so that nothing wraps around
    if isinstance(frames, int):
        length = scipy.fft.next_fast_len(2 * frames - 1, real=True)
    real, imaginary = ops.rfft(ops.moveaxis(signal, 1, -1), length)
    kernel_real, kernel_imaginary = ops.rfft(ops.moveaxis(kernels, 0, -1), length)
    each = "bdif,diof->bdof"  # a product of matrices per direction and frequency
    first = ops.einsum(each, real, kernel_real)
    second = ops.einsum(each, imaginary, kernel_imaginary)
    both = ops.einsum(each, real + imaginary, kernel_real + kernel_imaginary)
    outputs = ops.irfft((first - second, both - first - second), length)
    return ops.moveaxis(outputs[..., :frames], -1, 1)


@keras.saving.register_keras_serializable("ser_workbook")
class NormedDense(layers.Layer):
    """Dense layer per direction of weights gain * direction / |direction|."""

    def __init__(self, units, limit, **kwargs):
        super().__init__(**kwargs)
        self.units, self.limit = units, limit

    def build(self, input_shape):
        shape = (2, input_shape[-1] // 2, self.units)
        start = RandomUniform(-self.limit, self.limit)
        self.direction = self.add_weight(shape, start, name="direction")
        shape = (2, 1, self.units)
        self.gain = self.add_weight(shape, lambda *_, **__: self.length(), name="gain")
        self.bias = self.add_weight(shape, RandomUniform(-0.1, 0.1), name="bias")

    def length(self):
        return ops.sqrt(ops.sum(ops.square(self.direction), axis=1, keepdims=True))

    def call(self, inputs):
        inputs = ops.reshape(inputs, (1, -1, 2, inputs.shape[-1] // 2))
        return ops.reshape(self.units_of(inputs), (1, -1, 2 * self.units))

    def units_of(self, inputs):  # (1, frames, 2, in)
        weights = self.direction * (self.gain / self.length())
        return ops.einsum("bfdi,diu->bfdu", inputs, weights) + self.bias[:, 0]


@keras.saving.register_keras_serializable("ser_workbook")
class SplineDense(NormedDense):
    """Dense layer per direction with a learned function on every connection.

    out_j = sum_i (base_ij silu(x_i) + scale_ij sum_k coefficient_ikj B_k(x_i)) with
    cubic B-splines B_k: a Kolmogorov-Arnold network (Liu et al. 2024, arXiv
    2404.19756). It has a start of its own, whatever `limit` says.
    """

    def build(self, input_shape):
        size = input_shape[-1] // 2
        shape, limit = (2, size, self.units), 1 / math.sqrt(size)
        self.base = self.add_weight(shape, RandomUniform(-limit, limit), name="base")
        self.scale = self.add_weight(shape, RandomUniform(-limit, limit), name="scale")
        shape = (2, size, len(SPLINES), self.units)
        self.coefficients = self.add_weight(shape, small_curves, name="coefficients")

    def units_of(self, inputs):
        splines = self.coefficients * self.scale[:, :, None]  # (2, in, 8, units)
        curves = ops.einsum("bfdik,diku->bfdu", cubic_splines(inputs), splines)
        return ops.einsum("bfdi,diu->bfdu", ops.silu(inputs), self.base) + curves


def cubic_splines(inputs):
    """Return the cubic B-splines of five intervals in [-1, 1], (*shape, 8)."""
    distance = ops.abs((inputs[..., None] + 1) * 2.5 - SPLINES)
    return (ops.relu(2 - distance) ** 3 - 4 * ops.relu(1 - distance) ** 3) / 6


def small_curves(shape, dtype=None):
    """Return the smallest coefficients of curves in U(-0.01, 0.01) at the knots."""
    at_knots = cubic_splines(np.linspace(-1, 1, 6, dtype="float32"))
    from_values = np.linalg.pinv(ops.convert_to_numpy(at_knots))
    values = keras.random.uniform((*shape[:2], 6, shape[-1]), -0.01, 0.01, dtype)
    return ops.einsum("kn,dinu->diku", from_values, values)
