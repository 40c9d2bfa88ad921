"""A convolution and the batch normalisation after it, as one operation for training.

Most of a training step of TIM-Net is spent here. What a framework derives by itself
reads and writes the signal about twice as often as need be, so the gradient of both
together is written out. Time comes first in the arrays: a delay is then a slice that
need not be copied.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import keras
from keras import layers, ops

from lib.models.layers import (
    StackedBatchNormalization,
    StackedConv1D,
    shares_of_rows,
)


def can_fuse(inputs, convolutions: Sequence[layers.Layer]) -> bool:
    """Tell whether convolutions of these inputs can be fused: all sizes are known."""
    stacked = all(isinstance(layer, StackedConv1D) for layer in convolutions)
    return stacked and None not in inputs.shape


def fused_sub_blocks(
    inputs,
    convolutions: Sequence[StackedConv1D],
    normalisations: Sequence[StackedBatchNormalization],
    factors: Sequence,
    *,
    activate: Callable,
    combine: Callable,
    homogeneous: bool,
):
    """Return combine(inputs, sub-blocks of inputs), as training needs it.

    A sub-block is convolution, batch normalisation, activation and dropout. The
    moving statistics follow.

    Args:
        inputs: (branches, frames, batch, channels), all sizes known.
        convolutions: The convolution of each sub-block.
        normalisations: The batch normalisation of each.
        factors: Dropout of each, (branches, 1, batch, channels); no gradient flows
            through it.
        activate: The activation.
        combine: From the signal and what the sub-blocks make of it to the output.
        homogeneous: Whether the activation of a x is a times that of x, a >= 0.
    """
    channels = inputs.shape[-1]
    weights = [
        (*_weights(convolve, channels), *_scales(normalise), factor[:, 0])
        for convolve, normalise, factor in zip(
            convolutions, normalisations, factors, strict=True
        )
    ]
    shares = shares_of_rows(inputs.shape[2])

    def one_branch(given):
        signal, weights = given
        hidden, moments = signal, []
        for layer, normalise, (*parts, factor) in zip(
            convolutions, normalisations, weights, strict=True
        ):
            # A factor that is not negative may pass the activation.
            early = factor if homogeneous else ops.ones_like(factor)
            operation = _operation(tuple(layer.delays), normalise.epsilon)
            values, *of_batch = operation(hidden, *parts, early, shares)
            hidden = activate(values) if homogeneous else activate(values) * factor
            moments.append([ops.stop_gradient(moment) for moment in of_batch])
        return combine(signal, hidden), moments

    outputs, moments = _per_branch(one_branch, (inputs, weights))
    for normalise, of_batch in zip(normalisations, moments, strict=True):
        normalise.follow(*(moment[:, None, None] for moment in of_batch))
    return outputs


def _weights(convolve: StackedConv1D, channels: int) -> tuple:
    """Return kernel (branches, taps, in, out) and bias (branches, out)."""
    kernel, bias = convolve.weights_in_use(channels)
    return kernel, bias[:, 0]


def _scales(normalise: StackedBatchNormalization) -> list:
    """Return gamma and beta, (branches, channels)."""
    return [
        normalise.widened(weights)[:, 0, 0]
        for weights in (normalise.gamma, normalise.beta)
    ]


def _per_branch(function: Callable, given):
    """Return what a function makes of each branch of a tree of arrays, stacked."""
    if keras.backend.backend() == "jax":
        # One stacked product keeps a GPU busier than one per branch.
        return ops.vectorized_map(function, given)
    # Branches are independent: TensorFlow computes them side by side.
    flat = [ops.unstack(array, axis=0) for array in keras.tree.flatten(given)]
    done = [
        function(keras.tree.pack_sequence_as(given, parts))
        for parts in zip(*flat, strict=True)
    ]
    return keras.tree.map_structure(lambda *same: ops.stack(same), *done)


@functools.lru_cache(maxsize=64)
def _operation(delays: tuple[int, ...], epsilon: float):
    """Return convolution and batch normalisation of one branch, with their gradient.

    The operation returns factor * (gamma * (y - mean) / sqrt(variance + epsilon) +
    beta), mean and variance. y[t] = bias + sum_k signal[t - delays[k]] · kernel[k];
    its mean and variance are those over batch and time. The bias leaves with the
    mean, so its gradient is zero, where rounding would give it a random one.

    Its arguments are signal (frames, batch, in), kernel (taps, in, out), bias, gamma
    and beta (out,), factor (batch, out), and shares (batch,): that of each clip in
    the statistics, 1 in all.

    Args:
        delays: Frames that each tap lies in the past; negative in the future.
        epsilon: Added to the variance.
    """

    @ops.custom_gradient
    def operation(signal, kernel, bias, gamma, beta, factor, shares):
        frames, batch, _ = signal.shape
        y = _convolve(signal, kernel, delays)
        mean = _average(y, shares)
        variance = _average(ops.square(y - mean), shares)
        inverse = ops.rsqrt(variance + epsilon)
        scale = gamma * inverse
        # Tables (batch, out), so that the signal itself is passed over just once.
        values = y * (scale * factor) + (beta - mean * scale) * factor

        def gradient(*upstream):
            # TensorFlow passes one argument per output, JAX a tuple of them.
            first = upstream[0]
            change = first[0] if isinstance(first, tuple | list) else first
            change = change * factor
            every = ops.full_like(shares, frames)
            offset = _average(change, every)  # sums, here, not averages
            slope = (_average(change * y, every) - mean * offset) * inverse
            # What a clip does to the mean and to the variance, by its share in them.
            share = shares[:, None] / frames
            along = -scale * inverse * slope * share
            level = -scale * offset * share - along * mean
            dy = change * scale + (y * along + level)
            zero = ops.zeros_like
            return (
                *_convolve_back(signal, kernel, dy, delays),
                zero(bias),
                slope,
                offset,
                zero(factor),
                zero(shares),
            )

        return (values, mean + bias, variance), gradient

    if keras.backend.backend() != "tensorflow":
        return operation
    import tensorflow

    # A function of its own is traced once for all branches and sub-blocks alike.
    return tensorflow.function(operation, autograph=False)


def _average(values, shares):
    """Return sum_b shares[b] * mean_t values[t, b], (channels,)."""
    frames, batch, channels = values.shape
    if keras.backend.backend() == "jax":
        return ops.sum(values * shares[:, None], axis=(0, 1)) / frames
    # In TensorFlow a product with a row of weights is faster than a sum.
    row = ops.reshape(ops.broadcast_to(shares / frames, (frames, batch)), (1, -1))
    product = ops.matmul(row, ops.reshape(values, (frames * batch, channels)))
    return ops.reshape(product, (channels,))


def _convolve(signal, kernel, delays):
    """Return sum_k signal[t - delays[k]] · kernel[k], zero outside the clip."""
    frames, batch, size = signal.shape
    out = kernel.shape[-1]
    if keras.backend.backend() == "jax":
        # One product for all taps, then the delays.
        wide = ops.reshape(ops.transpose(kernel, (1, 0, 2)), (size, -1))
        taps = ops.matmul(ops.reshape(signal, (-1, size)), wide)
        taps = ops.reshape(taps, (frames, batch, -1))
        parts = [taps[..., k * out : (k + 1) * out] for k in range(len(delays))]
        return functools.reduce(ops.add, map(_delayed, parts, delays))
    parts = []
    for tap, delay in enumerate(delays):
        if abs(delay) < frames:
            rows = ops.reshape(_rows(signal, delay), (-1, size))
            parts.append(_placed(ops.matmul(rows, kernel[tap]), delay, batch))
    return ops.reshape(functools.reduce(ops.add, parts), (frames, batch, out))


def _convolve_back(signal, kernel, dy, delays):
    """Return the gradients of the signal and of the kernel."""
    frames, batch, size = signal.shape
    out = kernel.shape[-1]
    if keras.backend.backend() == "jax":
        wide = ops.reshape(ops.transpose(kernel, (1, 0, 2)), (size, -1))
        taps = ops.concatenate([_delayed(dy, -delay) for delay in delays], axis=-1)
        taps = ops.reshape(taps, (frames * batch, -1))
        back = ops.matmul(taps, ops.transpose(wide))
        change = ops.matmul(ops.transpose(ops.reshape(signal, (-1, size))), taps)
        change = ops.reshape(change, (size, len(delays), out))
        return ops.reshape(back, signal.shape), ops.transpose(change, (1, 0, 2))
    parts, changes = [], []
    for tap, delay in enumerate(delays):
        if abs(delay) >= frames:
            changes.append(ops.zeros_like(kernel[tap]))
            continue
        rows = ops.reshape(_rows(dy, -delay), (-1, out))
        seen = ops.reshape(_rows(signal, delay), (-1, size))
        back = ops.matmul(rows, ops.transpose(kernel[tap]))
        parts.append(_placed(back, -delay, batch))
        changes.append(ops.matmul(ops.transpose(seen), rows))
    total = functools.reduce(ops.add, parts)
    return ops.reshape(total, signal.shape), ops.stack(changes)


def _rows(values, delay: int):
    """Return the frames that are still in the clip after a delay."""
    frames = values.shape[0]
    return values[: frames - delay] if delay >= 0 else values[-delay:]


def _placed(rows, delay: int, batch: int):
    """Return rows (frames * batch, channels) filled up to where a delay puts them."""
    if delay == 0:
        return rows
    return ops.pad(rows, [[max(delay, 0) * batch, max(-delay, 0) * batch], [0, 0]])


def _delayed(values, delay: int):
    """Return (frames, batch, channels) moved `delay` frames to the future."""
    frames = values.shape[0]
    if abs(delay) >= frames:
        return ops.zeros_like(values)
    padding = [[max(delay, 0), max(-delay, 0)], [0, 0], [0, 0]]
    return ops.pad(_rows(values, delay), padding)
