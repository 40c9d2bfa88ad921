"""Learned activation functions: splines on every connection, kernels on every unit.

Kolmogorov-Arnold layers (Liu et al. 2024, arXiv 2404.19756) in the form that was
published for the generators of CkTIM-net, and kernel activation functions
(Scardapane, Van Vaerenbergh, Totaro and Uncini 2019, "Kafnets").
"""

from __future__ import annotations

import math

import keras
import numpy as np
from keras import layers, ops

from lib.models.layers import register

INTERVALS = 5  # pieces of a spline between -1 and 1
ORDER = 3  # cubic
WIDTH = 2.0 / INTERVALS
# Further knots on both sides, so that `ORDER` + 1 splines cover all of [-1, 1].
KNOTS = -1.0 + WIDTH * np.arange(-ORDER, INTERVALS + ORDER + 1)
SPLINES = INTERVALS + ORDER
NOISE = 0.1  # spread of the splines at the start

CENTRES = np.linspace(-4.0, 4.0, 20)  # of the kernels of an activation function
SPACING = CENTRES[1] - CENTRES[0]
GAMMA = 0.5 / (2.0 * SPACING) ** 2  # a kernel is two spacings wide
RIDGE = 1e-4


def spline_basis(inputs):
    """Return the cubic B-splines of evenly spaced knots at some values.

    Cox and de Boor's recursion. The splines add up to 1 on [-1, 1] and fade to 0
    outside, at the outermost of `KNOTS`.

    Args:
        inputs: Any shape.

    Returns:
        (*shape, SPLINES).
    """
    # In widths from the first knot, the knots are 0, 1, 2, ...
    place = (inputs[..., None] - float(KNOTS[0])) / WIDTH
    place = place - np.arange(len(KNOTS) - 1, dtype=np.float32)
    basis = ops.cast((place >= 0) & (place < 1), inputs.dtype)
    for order in range(1, ORDER + 1):
        # What lies `order` splines to the right has its own place in its own row.
        rising = place[..., :-order] * basis[..., :-1]
        falling = (order + 1 - place[..., :-order]) * basis[..., 1:]
        basis = (rising + falling) / order
    return basis


def _spline_start() -> np.ndarray:
    """Return what takes values at the knots in [-1, 1] to coefficients.

    The smallest coefficients (least norm) whose spline passes through the values:
    (INTERVALS + 1, SPLINES).
    """
    # A cubic B-spline is 1/6, 4/6, 1/6 at its three inner knots and 0 elsewhere.
    at_knots = np.zeros((INTERVALS + 1, SPLINES))
    for knot in range(INTERVALS + 1):
        at_knots[knot, knot : knot + ORDER] = np.array([1, 4, 1]) / 6
    return np.linalg.pinv(at_knots).T


@register
class StackedKanDense(layers.Layer):
    """Dense layer with a learned function on every connection, per branch.

    out_j = sum_i (base_ij silu(x_i) + scale_ij sum_k coefficient_ijk B_k(x_i)) with
    the cubic B-splines B_k; five intervals between -1 and 1, no bias. The splines
    start through noise in U(-0.01, 0.01) at the knots; base and scale start in
    U(-1/sqrt(in), 1/sqrt(in)).

    Args:
        units: Number of outputs.
    """

    def __init__(self, units: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape: tuple) -> None:
        """Create base, scale (branches, 1, in, units) and spline coefficients."""
        branches, _, _, size = input_shape
        shape = (branches, 1, size, self.units)
        limit = 1.0 / math.sqrt(size)
        start = keras.initializers.RandomUniform(-limit, limit)
        self.base = self.add_weight(name="base", shape=shape, initializer=start)
        start = keras.initializers.RandomUniform(-limit, limit)
        self.scale = self.add_weight(name="scale", shape=shape, initializer=start)
        self.coefficients = self.add_weight(
            name="coefficients",
            shape=(branches, 1, size, SPLINES, self.units),
            initializer=_noise,
        )

    def call(self, inputs):
        """Return (branches, 1, points, units) from (branches, 1, points, in)."""
        size = inputs.shape[-1]
        splines = self.coefficients * self.scale[:, :, :, None]
        splines = ops.reshape(splines, (-1, 1, size * SPLINES, self.units))
        basis = spline_basis(inputs)
        # All splines of all inputs side by side: one matrix product.
        flat = (basis.shape[0], 1, -1, size * SPLINES)
        curves = ops.matmul(ops.reshape(basis, flat), splines)
        return ops.matmul(ops.silu(inputs), self.base) + curves

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the input's shape with `units` channels."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "units": self.units}


def _noise(shape: tuple, dtype: str | None = None):
    """Return coefficients of splines through small random values at the knots."""
    branches, one, size, _, units = shape
    height = NOISE / INTERVALS / 2
    values = keras.random.uniform(
        (branches, one, size, units, INTERVALS + 1), -height, height, dtype=dtype
    )
    start = ops.cast(_spline_start(), values.dtype)
    return ops.swapaxes(ops.matmul(values, start), -1, -2)


@register
class KernelActivation(layers.Layer):
    """Activation function of every unit as a learned sum of Gaussian kernels.

    f_j(x) = sum_k mixing_jk exp(-gamma (x - d_k)^2) with 20 fixed centres d_k between
    -4 and 4; gamma = 1 / (8 spacing^2).

    Every unit has a function of its own, so that any number of positions can be
    given. The published code has a function for each of 188 positions instead,
    which fixes the length of a clip.

    Args:
        start: "random": the mixing starts in N(0, 0.8^2); "sin": it approximates
            the sine, by ridge regression at the centres.
    """

    def __init__(self, start: str = "random", **kwargs) -> None:
        super().__init__(**kwargs)
        if start not in ("random", "sin"):
            raise ValueError(f"start is {start!r}; give 'random' or 'sin'")
        self.start = start

    def build(self, input_shape: tuple) -> None:
        """Create the mixing (branches, 1, 1, units, centres)."""
        branches, _, _, units = input_shape
        initializer = keras.initializers.RandomNormal(stddev=0.8)
        self.mixing = self.add_weight(
            name="mixing",
            shape=(branches, 1, 1, units, len(CENTRES)),
            initializer=initializer if self.start == "random" else _sine,
        )

    def call(self, inputs):
        """Return the activations of (branches, 1, points, units)."""
        distance = inputs[..., None] - CENTRES.astype(np.float32)
        kernels = ops.exp(-float(GAMMA) * ops.square(distance))
        return ops.sum(kernels * self.mixing, axis=-1)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the input's shape."""
        return input_shape

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "start": self.start}


def _sine(shape: tuple, dtype: str | None = None):
    """Return the mixing that approximates the sine between the outer centres."""
    kernels = np.exp(-GAMMA * np.subtract.outer(CENTRES, CENTRES) ** 2)
    mixing = np.linalg.solve(kernels + RIDGE * np.eye(len(CENTRES)), np.sin(CENTRES))
    return ops.cast(np.broadcast_to(mixing, shape), dtype or "float32")
