"""CPAC: convolutions, self-attention and capsules.

The network for a single corpus of CTL-MTNet (Wen et al., IJCAI 2022, arXiv 2207.10644)
as its published code has it. Capsules: Sabour et al., NIPS 2017 (arXiv 1710.09829).
"""

import keras
from keras import layers, ops

from lib.models import Count, Share, Width

LEAST = 38  # frames and coefficients, of which one position is left


def build_cpac(
    input_shape: tuple,
    num_classes: int,
    *,
    filters: Width = 64,
    primary_capsules: Width = 6,
    capsules: Width = 6,
    capsule_size: Width = 64,
    routings: Count = 3,
    accumulate: bool = False,
    first_dropout: Share = 0.5,
    later_dropout: Share = 0.25,
    dropout: Share = 0.2,
    frozen_normalisation: bool = True,
) -> keras.Model:
    """Build CPAC; the defaults are the published network.

    `primary_capsules` are cut from each position of the last convolution and routed
    (see `Routing`) into `capsules`, which are not the classes: the average of all, the
    layer "embedding", is classified. `frozen_normalisation` is, as published, a learned
    scale and offset per channel; False normalises by the batch in training, as usual.
    """
    if min(length or LEAST for length in input_shape) < LEAST:
        raise ValueError(f"clips {input_shape}: cpac needs {LEAST} or more of both")
    frozen = frozen_normalisation
    normalisation = FrozenNormalization if frozen else layers.BatchNormalization
    clip = keras.Input(input_shape, name="features")
    signal = layers.Reshape((-1, input_shape[1], 1), name="picture")(clip)
    for number in (1, 2, 3):
        signal = layers.Conv2D(filters, 3, name=f"convolution_{number}")(signal)
        signal = normalisation(name=f"normalisation_{number}")(signal)
        signal = layers.ELU(name=f"activation_{number}")(signal)
        signal = layers.AveragePooling2D(2, name=f"pooling_{number}")(signal)
        rate = first_dropout if number == 1 else later_dropout
        signal = layers.Dropout(rate, name=f"dropout_{number}")(signal)
    channels = primary_capsules * capsule_size
    primary = layers.Conv2D(channels, 3, name="primary_convolution")(signal)
    primary = layers.Reshape((-1, capsule_size), name="cut")(primary)
    primary = squashed(primary)  # (batch, n, size)
    attention = layers.Attention(use_scale=True, name="attention")([primary, primary])
    attended = layers.Multiply(name="attended_capsules")([primary, attention])
    # What capsule n predicts of output m, u_n · W_m: (batch, n, capsules size).
    size = capsules * capsule_size
    predictions = layers.Dense(size, use_bias=False, name="predictions")(attended)
    routed = Routing(capsules, routings, accumulate, name="capsules")(predictions)
    embedding = layers.GlobalAveragePooling1D(name="embedding")(routed)
    kept = layers.Dropout(dropout, name="dropout")(embedding)
    probabilities = layers.Dense(num_classes, "softmax", name="probabilities")
    return keras.Model(clip, probabilities(kept), name="cpac")


@keras.saving.register_keras_serializable("ser_workbook")
class FrozenNormalization(layers.BatchNormalization):
    """Batch normalisation by its moving statistics, 0 and 1, in training too."""

    def call(self, inputs, training=False, mask=None):
        return super().call(inputs, training=False, mask=mask)


def squashed(vectors):
    """Return |v|^2 / (1 + |v|^2) * v / |v| along the last axis (equation 1)."""
    square = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    inverse = ops.rsqrt(square + 1e-7)  # its gradient is finite at zero
    return vectors * (square / (1.0 + square) * inverse)


@keras.saving.register_keras_serializable("ser_workbook")
class Routing(layers.Layer):
    """Route predictions (batch, n, capsules size) to (batch, capsules, size).

    Round by round, an output is the sum of its predictions, weighted by the softmax
    over the outputs of logits that start at 0; the next logits are the agreement of
    the predictions with the output's direction. The last outputs are squashed.
    Sabour et al. (procedure 1) squash every round and add to the logits (`accumulate`).
    """

    def __init__(self, capsules, routings, accumulate, **kwargs):
        super().__init__(**kwargs)
        self.capsules, self.routings = capsules, routings
        self.accumulate = accumulate

    def call(self, inputs):
        count, size = ops.shape(inputs)[1], inputs.shape[-1] // self.capsules
        predictions = ops.reshape(inputs, (-1, count, self.capsules, size))
        outputs = ops.sum(predictions, axis=1) / self.capsules  # equal weights
        logits = 0.0
        for _ in range(self.routings - 1):
            direction = ops.normalize(outputs, axis=-1)
            agreement = ops.einsum("bnms,bms->bnm", predictions, direction)
            logits = logits + agreement if self.accumulate else agreement
            weights = ops.softmax(logits, axis=-1)
            outputs = ops.einsum("bnm,bnms->bms", weights, predictions)
        return squashed(outputs)
