"""CPAC: convolutions, self-attention and capsules.

Wen, Ye, Luo, Xu, Wang, Wu and Liu, "CTL-MTNet: a novel CapsNet and transfer
learning-based mixed task net for single-corpus and cross-corpus speech emotion
recognition", IJCAI 2022 (arXiv 2207.10644): its network for a single corpus, as
its published code has it. Capsules: Sabour, Frosst and Hinton, "Dynamic routing
between capsules", NIPS 2017 (arXiv 1710.09829).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import keras
import pydantic
from keras import layers, ops
from pydantic import Field

from lib.models import Share
from lib.models.conv_bn import register

Width = Annotated[int, Field(ge=1, le=4096)]
Count = Annotated[int, Field(ge=1, le=256)]

# Frames and coefficients that leave one position: no convolution or pooling pads.
LEAST = 38


@pydantic.validate_call(config={"strict": True})
def build_cpac(
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    filters: Width = 64,
    primary_capsules: Count = 6,
    capsules: Count = 6,
    capsule_size: Width = 64,
    routings: Annotated[int, Field(ge=1, le=64)] = 3,
    accumulate: bool = False,
    first_dropout: Share = 0.5,
    later_dropout: Share = 0.25,
    dropout: Share = 0.2,
    frozen_normalisation: bool = True,
) -> keras.Model:
    """Build CPAC; the defaults are the published network.

    Args:
        primary_capsules: Capsules cut from each position of the last convolution.
        capsules: Capsules routed into. They are not the classes: the average of
            all, the layer "embedding" (batch, capsule_size), is classified.
        accumulate: As in `Routing`; not published.
        first_dropout: Dropout after the first convolution.
        later_dropout: Dropout after the second and the third.
        dropout: Dropout before the classifier.
        frozen_normalisation: As published, a learned scale and offset per channel;
            False normalises by the batch in training, as usual.

    Raises:
        ValueError: If an option is out of range, or the input below `LEAST`.
    """
    for name, length in zip(("frames", "coefficients"), input_shape, strict=True):
        if length is not None and length < LEAST:
            raise ValueError(f"{name}: {length}; cpac needs {LEAST} or more")
    normalisation = layers.BatchNormalization
    if frozen_normalisation:
        normalisation = FrozenNormalization
    clip = keras.Input(tuple(input_shape), name="features")
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
    # What each capsule predicts of each output, û_nm = u_n · W_m with the same W_m
    # for all n: (batch, n, capsules size).
    size = capsules * capsule_size
    predictions = layers.Dense(size, use_bias=False, name="predictions")(attended)
    routed = Routing(capsules, routings, accumulate, name="capsules")(predictions)
    embedding = layers.GlobalAveragePooling1D(name="embedding")(routed)
    kept = layers.Dropout(dropout, name="dropout")(embedding)
    probabilities = layers.Dense(num_classes, "softmax", name="probabilities")
    return keras.Model(clip, probabilities(kept), name="cpac")


@register
class FrozenNormalization(layers.BatchNormalization):
    """Batch normalisation by its moving statistics, 0 and 1, in training too.

    A layer of its own, because `training=False` at the building of a Keras 3 model
    does not outlive a call with `training=True`.
    """

    def call(self, inputs, training=False, mask=None):
        return super().call(inputs, training=False, mask=mask)


def squashed(vectors):
    """Return |v|^2 / (1 + |v|^2) * v / |v| along the last axis (equation 1)."""
    square = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    # The small number keeps the gradient of a length finite at zero.
    return vectors * (square / (1.0 + square) * ops.rsqrt(square + 1e-7))


@register
class Routing(layers.Layer):
    """Route predictions (batch, n, capsules size) to (batch, capsules, size).

    Round by round, an output is the sum of its predictions, weighted by the softmax
    over the outputs of logits that start at 0; the next logits are the agreement of
    the predictions with the output's direction. The last outputs are squashed.
    Sabour et al. (procedure 1) add the agreement to the logits (`accumulate`) and
    squash every round; the published CPAC replaces the logits and only normalises.
    """

    def __init__(self, capsules, routings, accumulate, **kwargs):
        super().__init__(**kwargs)
        self.capsules = capsules
        self.routings = routings
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

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.capsules, input_shape[-1] // self.capsules)
