"""Capsules: vectors whose length says how present a thing is.

Sabour, Frosst and Hinton, "Dynamic routing between capsules", NIPS 2017
(arXiv 1710.09829).
"""

from __future__ import annotations

from keras import layers, ops

from lib.models.layers import register

EPSILON = 1e-7  # keeps the gradient of a length finite at zero


def squashed(vectors):
    """Return vectors of the same direction and a length below 1.

    |v|^2 / (1 + |v|^2) * v / |v| (equation 1); the last axis is the vector.
    """
    square = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    return vectors * (square / (1.0 + square) * ops.rsqrt(square + EPSILON))


@register
class PrimaryCapsules(layers.Layer):
    """Cut the channels of each position into capsules, and squash them.

    (batch, frames, coefficients, channels) to (batch, frames * coefficients *
    channels / size, size).

    Args:
        size: Length of a capsule's vector; divides the channels.
    """

    def __init__(self, size: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.size = size

    def call(self, inputs):
        """Return the squashed capsules."""
        _, frames, coefficients, channels = inputs.shape
        frames = ops.shape(inputs)[1] if frames is None else frames
        count = frames * coefficients * channels // self.size
        return squashed(ops.reshape(inputs, (-1, count, self.size)))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return (batch, capsules, size); capsules is None if frames are."""
        batch, frames, coefficients, channels = input_shape
        count = frames and frames * coefficients * channels // self.size
        return (batch, count, self.size)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "size": self.size}


@register
class RoutedCapsules(layers.Layer):
    """Sort capsules into a few others by agreement: (b, n, d) to (b, m, size).

    Every capsule u_n predicts each output capsule, û_mn = u_n · W_m, with the
    same W_m for all n. Round by round, an output is the sum of its predictions
    weighted by softmax over m of the logits b_mn; the next logits are the
    agreement of the predictions with the output's direction, b_mn = û_mn · o_m /
    |o_m|. The first logits are 0; the output of the last round is squashed.

    Sabour et al. add the agreement to the logits and squash every round. The
    published CPAC replaces the logits and only normalises, as here.

    Args:
        capsules: Number m of output capsules.
        size: Length of their vectors.
        routings: Number of rounds.
        accumulate: Add the agreement to the logits, rather than replace them.
    """

    def __init__(
        self,
        capsules: int,
        size: int,
        routings: int = 3,
        accumulate: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.capsules = capsules
        self.size = size
        self.routings = routings
        self.accumulate = accumulate

    def build(self, input_shape: tuple) -> None:
        """Create the kernel (d, capsules * size)."""
        self.kernel = self.add_weight(
            name="kernel",
            # Flat, so that Glorot's limit counts all outputs, as published.
            shape=(input_shape[-1], self.capsules * self.size),
            initializer="glorot_uniform",
        )

    def call(self, inputs):
        """Route (batch, n, d) to (batch, capsules, size)."""
        kernel = ops.reshape(self.kernel, (inputs.shape[-1], self.capsules, self.size))
        # With one W for all n, sums over n come before the product with W, and
        # the predictions (batch, n, capsules, size) need never be written down.
        # Logits of 0 give all weights the same value.
        gathered = ops.sum(inputs, axis=1, keepdims=True) / self.capsules
        gathered = ops.repeat(gathered, self.capsules, axis=1)
        outputs = ops.einsum("bmd,dms->bms", gathered, kernel)
        logits = 0.0
        for _ in range(self.routings - 1):
            query = ops.einsum("bms,dms->bmd", _direction(outputs), kernel)
            agreement = ops.einsum("bnd,bmd->bnm", inputs, query)
            logits = logits + agreement if self.accumulate else agreement
            weights = ops.softmax(logits, axis=-1)
            gathered = ops.einsum("bnm,bnd->bmd", weights, inputs)
            outputs = ops.einsum("bmd,dms->bms", gathered, kernel)
        return squashed(outputs)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return (batch, capsules, size)."""
        return (input_shape[0], self.capsules, self.size)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "capsules": self.capsules,
            "size": self.size,
            "routings": self.routings,
            "accumulate": self.accumulate,
        }


def _direction(vectors):
    """Return vectors of length 1; those of length 0 stay."""
    square = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    return vectors * ops.rsqrt(ops.maximum(square, 1e-12))
