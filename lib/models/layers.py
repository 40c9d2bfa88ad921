"""Layers shared by the systems.

Tensors inside a temporal network have the shape (branches, frames, batch,
channels): the directions of time are computed side by side, each with its own
weights, and frames a while apart are slices that need not be copied.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Sequence

import keras
from keras import layers, ops

PACKAGE = "ser_workbook"
register = keras.saving.register_keras_serializable(package=PACKAGE)


# Vector units take eight numbers at a time: 40 channels are faster than 39.
VECTOR = 8
# Of the thread: folds may train side by side.
_real_rows: contextvars.ContextVar = contextvars.ContextVar("real_rows", default=None)


@contextlib.contextmanager
def real_rows(weights):
    """Let batch normalisation count some rows of a batch and not others.

    Args:
        weights: (batch,), 1 for a clip and 0 for a row that only fills up; None for
            what has no batch, such as a generated kernel.
    """
    token = _real_rows.set(weights)
    try:
        yield
    finally:
        _real_rows.reset(token)


def shares_of_rows(batch: int):
    """Return the share of every row in what is averaged over a batch, (batch,)."""
    weights = _real_rows.get()
    if weights is None:
        return ops.full((batch,), 1.0 / batch)
    return weights / ops.sum(weights)


def batch_moments(inputs, axis: int, others: Sequence[int]):
    """Return mean and variance over the real rows of a batch, dimensions kept.

    Args:
        inputs: Any tensor.
        axis: The axis of the batch.
        others: The other axes to average over.
    """
    axes = (axis, *others)
    weights = _real_rows.get()
    if weights is None:
        return ops.moments(inputs, axes=axes, keepdims=True)
    shape = [1] * len(inputs.shape)
    shape[axis] = -1
    weights = ops.reshape(weights / ops.sum(weights), shape)
    mean = ops.sum(ops.mean(inputs, others, keepdims=True) * weights, axis, True)
    squares = ops.mean(ops.square(inputs - mean), others, keepdims=True)
    return mean, ops.sum(squares * weights, axis, True)


if not hasattr(layers.BatchNormalization, "_moments"):
    raise ImportError(
        "this version of Keras has no BatchNormalization._moments, without which rows "
        "that only fill up a batch would be counted; install the pinned version"
    )


@register
class BatchNormalization(layers.BatchNormalization):
    """Keras's batch normalisation of the last axis, blind to rows that fill up."""

    def _moments(self, inputs, mask):
        others = tuple(range(1, len(inputs.shape) - 1))
        mean, variance = batch_moments(inputs, 0, others)
        return ops.reshape(mean, (-1,)), ops.reshape(variance, (-1,))


@register
class StackedConv1D(layers.Layer):
    """Dilated convolution along time with its own weights per branch.

    out[t] = bias + sum_k input[t - (kernel_size - 1 - k) * dilation] · kernel[k],
    what lies before the first frame being zero. Not causal, the taps lie around
    t instead, the odd one out in the future (Keras's padding "same").

    Args:
        filters: Number of output channels.
        kernel_size: Number of taps.
        dilation: Frames between two taps.
        causal: False lets a frame see as much of the future as of the past.
        lanes: Channels of input and output, those above the kernel's own being
            zero; None for no more than there are.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 1,
        dilation: int = 1,
        causal: bool = True,
        lanes: int | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.causal = causal
        self.lanes = lanes
        reach = (kernel_size - 1) * dilation
        ahead = 0 if causal else reach - reach // 2
        # Frames that each tap lies in the past.
        self.delays = [reach - ahead - tap * dilation for tap in range(kernel_size)]

    def build(self, input_shape: tuple) -> None:
        """Create kernel (branches, kernel_size, in, filters) and bias."""
        branches, _, _, size = input_shape
        # Glorot's limit for one branch: stacking does not change what it sees.
        limit = math.sqrt(6.0 / (self.kernel_size * (size + self.filters)))
        self.kernel = self.add_weight(
            name="kernel",
            shape=(branches, self.kernel_size, size, self.filters),
            initializer=keras.initializers.RandomUniform(-limit, limit),
        )
        self.bias = self.add_weight(
            name="bias", shape=(branches, 1, self.filters), initializer="zeros"
        )

    def weights_in_use(self, channels: int) -> tuple:
        """Return kernel and bias with zeros for channels that fill up.

        Args:
            channels: Of the input.
        """
        size = self.kernel.shape[2]
        more = (self.lanes or self.filters) - self.filters
        kernel, bias = map(ops.convert_to_tensor, (self.kernel, self.bias))
        if more or channels > size:
            kernel = ops.pad(kernel, [[0, 0], [0, 0], [0, channels - size], [0, more]])
            bias = ops.pad(bias, [[0, 0], [0, 0], [0, more]])
        return kernel, bias

    def call(self, inputs):
        """Convolve (branches, frames, batch, in) to (branches, frames, batch, out)."""
        branches, frames, _, channels = inputs.shape
        frames = ops.shape(inputs)[1] if frames is None else frames
        kernel, bias = self.weights_in_use(channels)
        # All taps side by side turn the convolution into one matrix product.
        taps = [delayed(inputs, delay, frames) for delay in self.delays]
        width = self.kernel_size * channels
        rows = ops.reshape(ops.concatenate(taps, axis=-1), (branches, -1, width))
        out = ops.matmul(rows, ops.reshape(kernel, (branches, width, -1))) + bias
        return ops.reshape(out, (branches, frames, -1, bias.shape[-1]))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the input's shape with `lanes` or `filters` channels."""
        return (*input_shape[:-1], self.lanes or self.filters)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "dilation": self.dilation,
            "causal": self.causal,
            "lanes": self.lanes,
        }


def with_lanes(channels: int) -> int:
    """Return the number of channels that a vector unit is best given for so many.

    >>> with_lanes(39), with_lanes(17)
    (40, 17)
    """
    full = -(-channels // VECTOR) * VECTOR
    return full if full <= 1.1 * channels else channels


def delayed(inputs, by: int, frames):
    """Return (branches, frames, batch, channels) moved `by` frames to the future.

    Frames that come in are zero; a negative `by` moves to the past.
    """
    if by == 0:
        return inputs
    padded = ops.pad(inputs, [[0, 0], [max(by, 0), max(-by, 0)], [0, 0], [0, 0]])
    return padded[:, :frames] if by > 0 else padded[:, -by:]


@register
class StackedBatchNormalization(layers.Layer):
    """Batch normalisation of (branches, frames, batch, channels), per branch.

    Keras's defaults: momentum 0.99, epsilon 1e-3, learned scale and offset.

    Args:
        momentum: Share of the moving statistics kept at every step.
        epsilon: Added to the variance.
        lanes: Channels of input and output, those above its own being zero; None
            for no more than there are.
    """

    def __init__(
        self,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        lanes: int | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.momentum = momentum
        self.epsilon = epsilon
        self.lanes = lanes

    def build(self, input_shape: tuple) -> None:
        """Create scale, offset and moving statistics, (branches, 1, 1, channels)."""
        shape = (input_shape[0], 1, 1, input_shape[-1])
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones")
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros")
        self.moving_mean = self.add_weight(
            name="moving_mean", shape=shape, initializer="zeros", trainable=False
        )
        self.moving_variance = self.add_weight(
            name="moving_variance", shape=shape, initializer="ones", trainable=False
        )

    def call(self, inputs, training: bool = False):
        """Normalise over batch and frames in training, else by the moving values."""
        if training:
            mean, variance = batch_moments(inputs, 2, (1,))
            self.follow(mean, variance)
        else:
            mean = self.widened(self.moving_mean)
            variance = self.widened(self.moving_variance)
        scale = self.widened(self.gamma) * ops.rsqrt(variance + self.epsilon)
        return inputs * scale + (self.widened(self.beta) - mean * scale)

    def widened(self, values):
        """Return weights (branches, 1, 1, channels) with zeros up to `lanes`."""
        values = ops.convert_to_tensor(values)
        more = (self.lanes or values.shape[-1]) - values.shape[-1]
        return ops.pad(values, [[0, 0]] * 3 + [[0, more]]) if more else values

    def follow(self, mean, variance) -> None:
        """Move the statistics towards those of a batch, (branches, 1, 1, lanes)."""
        keep, channels = self.momentum, self.gamma.shape[-1]
        mean, variance = mean[..., :channels], variance[..., :channels]
        self.moving_mean.assign(self.moving_mean * keep + mean * (1 - keep))
        self.moving_variance.assign(self.moving_variance * keep + variance * (1 - keep))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the input's shape."""
        return input_shape

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "lanes": self.lanes,
        }


@register
class StackDirections(layers.Layer):
    """Stack a clip and its altered copies: (batch, t, c) to (branches, t, batch, c).

    Args:
        backward: Add the clip read from its end.
        shuffle: Add the clip with its frames in another order, the same for the
            whole batch: a new one at every training step, a fixed one otherwise.
        shuffle_at_inference: Draw a new order outside training too, as the
            published code did; the same clip then has a new answer every time.
    """

    def __init__(
        self,
        backward: bool = True,
        shuffle: bool = False,
        shuffle_at_inference: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.backward = backward
        self.shuffle = shuffle
        self.shuffle_at_inference = shuffle_at_inference
        if shuffle:
            self.seed_generator = keras.random.SeedGenerator()

    def call(self, inputs, training: bool = False):
        """Return the stack of branches."""
        inputs = ops.transpose(inputs, (1, 0, 2))
        branches = [inputs]
        if self.backward:
            branches.append(ops.flip(inputs, axis=0))
        if self.shuffle:
            frames = ops.arange(ops.shape(inputs)[0])
            if training or self.shuffle_at_inference:
                order = keras.random.shuffle(frames, seed=self.seed_generator)
            else:
                order = fixed_order(frames)
            branches.append(ops.take(inputs, order, axis=0))
        return ops.stack(branches, axis=0)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return (branches, frames, batch, coefficients)."""
        batch, frames, size = input_shape
        return (1 + self.backward + self.shuffle, frames, batch, size)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "backward": self.backward,
            "shuffle": self.shuffle,
            "shuffle_at_inference": self.shuffle_at_inference,
        }


def fixed_order(frames):
    """Return the numbers 0, 1, ... in an order without pattern, always the same.

    Whole-number arithmetic that stays below 2^31, so that every backend and
    machine finds the same order; random generators differ.

    Args:
        frames: 0, 1, ... n - 1 as int32, n at most 32,768.
    """
    prime = 32_749  # its square is below 2^31
    mixed = (frames * 7_919 + 17) % prime
    mixed = (mixed * mixed + 3 * mixed + frames) % prime
    # The frame's own number keeps two equal values apart.
    return ops.argsort(mixed * 32_768 + frames)


@register
class LevelPooling(layers.Layer):
    """Sum the branches and average over time: (branches, t, b, c) to (b, c).

    Args:
        channels: How many of the channels count; None for all of them.
    """

    def __init__(self, channels: int | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.channels = channels

    def call(self, inputs):
        """Return g_j = mean over frames of the sum over branches."""
        return ops.sum(ops.mean(inputs, axis=1), axis=0)[:, : self.channels]

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return (batch, channels)."""
        return (input_shape[2], self.channels or input_shape[-1])

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "channels": self.channels}


@register
class WeightedFusion(layers.Layer):
    """Weighted sum of the levels: (batch, levels, channels) to (batch, channels).

    The weights are learned numbers, neither normalised nor dependent on the
    input (TIM-Net, equation 4).
    """

    def build(self, input_shape: tuple) -> None:
        """Create one weight per level."""
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[1], 1),
            initializer=keras.initializers.RandomUniform(-0.05, 0.05),
        )

    def call(self, inputs):
        """Return the sum over levels of weight times level."""
        return ops.sum(inputs * self.kernel, axis=1)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return (batch, channels)."""
        return (input_shape[0], input_shape[-1])


@register
class StaticAttention(layers.Layer):
    """Average of the levels, weighted by how much they resemble a learned query.

    softmax(q · V^T / sqrt(channels)) · V over the levels V of a clip: the query
    is the same for all clips, the weights are not. It takes the place of the
    fusion in the modified TIM-Net.
    """

    def build(self, input_shape: tuple) -> None:
        """Create the query (channels,)."""
        self.query = self.add_weight(
            name="query",
            shape=(input_shape[-1],),
            initializer=keras.initializers.RandomNormal(stddev=0.05),
        )

    def attention(self, inputs):
        """Return the weights of the levels (batch, levels); rows sum to 1."""
        scores = ops.matmul(inputs, self.query) / math.sqrt(inputs.shape[-1])
        return ops.softmax(scores, axis=-1)

    def call(self, inputs):
        """Return the weighted average (batch, channels)."""
        return ops.sum(inputs * self.attention(inputs)[..., None], axis=1)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return (batch, channels)."""
        return (input_shape[0], input_shape[-1])
