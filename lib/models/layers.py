"""Layers shared by the systems.

Tensors inside a temporal network have the shape (branches, batch, frames,
channels): the directions of time are computed side by side, each with its own
weights, as one stacked matrix product.
"""

from __future__ import annotations

import math

import keras
from keras import layers, ops

PACKAGE = "ser_workbook"
register = keras.saving.register_keras_serializable(package=PACKAGE)


@register
class StackedConv1D(layers.Layer):
    """Causal dilated convolution along time with its own weights per branch.

    out[t] = bias + sum_k input[t - (kernel_size - 1 - k) * dilation] · kernel[k],
    the past before the first frame being zero.

    Args:
        filters: Number of output channels.
        kernel_size: Number of taps.
        dilation: Frames between two taps.
    """

    def __init__(
        self, filters: int, kernel_size: int = 1, dilation: int = 1, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.dilation = dilation

    def build(self, input_shape: tuple) -> None:
        """Create kernel (branches, kernel_size, in, filters) and bias."""
        branches, _, _, channels = input_shape
        # Glorot's limit for one branch: stacking does not change what it sees.
        limit = math.sqrt(6.0 / (self.kernel_size * (channels + self.filters)))
        self.kernel = self.add_weight(
            name="kernel",
            shape=(branches, self.kernel_size, channels, self.filters),
            initializer=keras.initializers.RandomUniform(-limit, limit),
        )
        self.bias = self.add_weight(
            name="bias", shape=(branches, 1, self.filters), initializer="zeros"
        )

    def call(self, inputs):
        """Convolve (branches, batch, frames, in) to (branches, batch, frames, out)."""
        branches, _, frames, channels = inputs.shape
        frames = ops.shape(inputs)[2] if frames is None else frames
        taps = [
            delayed(inputs, (self.kernel_size - 1 - tap) * self.dilation, frames)
            for tap in range(self.kernel_size)
        ]
        # All taps side by side turn the convolution into one matrix product.
        width = self.kernel_size * channels
        rows = ops.reshape(ops.concatenate(taps, axis=-1), (branches, -1, width))
        kernel = ops.reshape(self.kernel, (branches, width, self.filters))
        out = ops.matmul(rows, kernel) + self.bias
        return ops.reshape(out, (branches, -1, frames, self.filters))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the input's shape with `filters` channels."""
        return (*input_shape[:-1], self.filters)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "dilation": self.dilation,
        }


def delayed(inputs, by: int, frames):
    """Return (branches, batch, frames, channels) moved `by` frames to the future."""
    if by == 0:
        return inputs
    padded = ops.pad(inputs, [[0, 0], [0, 0], [by, 0], [0, 0]])
    return padded[:, :, :frames]


@register
class StackedBatchNormalization(layers.Layer):
    """Batch normalisation of (branches, batch, frames, channels), per branch.

    Keras's defaults: momentum 0.99, epsilon 1e-3, learned scale and offset.

    Args:
        momentum: Share of the moving statistics kept at every step.
        epsilon: Added to the variance.
    """

    def __init__(self, momentum: float = 0.99, epsilon: float = 1e-3, **kwargs) -> None:
        super().__init__(**kwargs)
        self.momentum = momentum
        self.epsilon = epsilon

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
            mean, variance = ops.moments(inputs, axes=(1, 2), keepdims=True)
            keep = self.momentum
            self.moving_mean.assign(self.moving_mean * keep + mean * (1 - keep))
            self.moving_variance.assign(
                self.moving_variance * keep + variance * (1 - keep)
            )
        else:
            mean, variance = self.moving_mean, self.moving_variance
        scale = self.gamma * ops.rsqrt(variance + self.epsilon)
        return inputs * scale + (self.beta - mean * scale)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the input's shape."""
        return input_shape

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "epsilon": self.epsilon,
        }


@register
class StackDirections(layers.Layer):
    """Stack a clip and its reversal: (batch, frames, c) to (2, batch, frames, c).

    Args:
        backward: False leaves the reversal out: (1, batch, frames, c).
    """

    def __init__(self, backward: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        self.backward = backward

    def call(self, inputs):
        """Return the stack of directions."""
        directions = [inputs]
        if self.backward:
            directions.append(ops.flip(inputs, axis=1))
        return ops.stack(directions, axis=0)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return (directions, *input_shape)."""
        return (1 + self.backward, *input_shape)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "backward": self.backward}


@register
class LevelPooling(layers.Layer):
    """Sum the branches and average over time: (branches, b, t, c) to (b, c)."""

    def call(self, inputs):
        """Return g_j = mean over frames of the sum over branches."""
        return ops.sum(ops.mean(inputs, axis=2), axis=0)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return (batch, channels)."""
        return (input_shape[1], input_shape[-1])


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
