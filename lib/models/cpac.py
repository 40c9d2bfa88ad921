"""CPAC: convolutions, self-attention and capsules.

Wen, Ye, Luo, Xu, Wang, Wu and Liu, "CTL-MTNet: a novel CapsNet and transfer
learning-based mixed task net for single-corpus and cross-corpus speech emotion
recognition", IJCAI 2022 (arXiv 2207.10644): its network for a single corpus, as
its published code has it.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from lib.models.capsules import PrimaryCapsules, RoutedCapsules
from lib.models.checks import check_share, check_switch, check_whole
from lib.models.layers import BatchNormalization, register

NAME = "cpac"
KERNEL = 3  # frames and coefficients of every convolution
STAGES = 3


@register
class FrozenNormalization(layers.BatchNormalization):
    """Batch normalisation that takes its moving statistics in training too.

    They never move from 0 and 1, so it is a learned scale and offset. A layer of
    its own, because `training=False` at the building of a Keras 3 model does not
    outlive a call of the model with `training=True`.
    """

    def call(self, inputs, training: bool = False, mask=None):
        """Normalise as outside training."""
        return super().call(inputs, training=False, mask=mask)


def build_cpac(
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    filters: int = 64,
    primary_capsules: int = 6,
    capsules: int = 6,
    capsule_size: int = 64,
    routings: int = 3,
    accumulate: bool = False,
    first_dropout: float = 0.5,
    later_dropout: float = 0.25,
    dropout: float = 0.2,
    frozen_normalisation: bool = True,
) -> keras.Model:
    """Build CPAC; the defaults are the published network.

    Three stages of convolution, normalisation, ELU, average pooling and dropout;
    capsules of 64 channels; attention of the capsules to each other, by which
    each is multiplied; routing into six capsules, whose average is classified.

    Nothing pads: a clip has `LEAST` frames and coefficients or more.

    Args:
        input_shape: (frames, coefficients); frames may be None for any length
            from `LEAST`.
        num_classes: Number of emotions.
        filters: Channels of the three convolutions.
        primary_capsules: Capsules cut from each position of the last one.
        capsules: Capsules routed into. They are not the classes: the average of
            all of them is classified.
        capsule_size: Length of every capsule's vector.
        routings: Rounds of routing.
        accumulate: As in `RoutedCapsules`; not published.
        first_dropout: Dropout after the first convolution, in [0, 1).
        later_dropout: Dropout after the second and the third.
        dropout: Dropout before the classifier.
        frozen_normalisation: As published, batch normalisation takes its moving
            mean and variance in training too, and so never moves them from 0 and
            1: it is a learned scale and offset per channel. False normalises by
            the batch in training, as usual.

    Returns:
        A model from (batch, frames, coefficients) to class probabilities
        (batch, num_classes); its layer "embedding" gives the average capsule
        (batch, capsule_size).

    Raises:
        ValueError: If an option is out of range, or the input too small.
    """
    check_whole(NAME, "filters", filters, 1, 4096)
    check_whole(NAME, "primary_capsules", primary_capsules, 1, 256)
    check_whole(NAME, "capsules", capsules, 1, 256)
    check_whole(NAME, "capsule_size", capsule_size, 1, 4096)
    check_whole(NAME, "routings", routings, 1, 64)
    check_switch(NAME, accumulate=accumulate, frozen_normalisation=frozen_normalisation)
    check_share(NAME, "first_dropout", first_dropout)
    check_share(NAME, "later_dropout", later_dropout)
    check_share(NAME, "dropout", dropout)
    _check_size(input_shape)
    clip = keras.Input(tuple(input_shape), name="features")
    signal = layers.Reshape((-1, input_shape[1], 1), name="picture")(clip)
    for number in range(1, STAGES + 1):
        dropped = first_dropout if number == 1 else later_dropout
        signal = _stage(signal, number, filters, dropped, frozen_normalisation)
    primary = layers.Conv2D(
        primary_capsules * capsule_size, KERNEL, name="primary_convolution"
    )(signal)
    primary = PrimaryCapsules(capsule_size, name="primary_capsules")(primary)
    attended = layers.Attention(use_scale=True, name="attention")([primary, primary])
    attended = layers.Multiply(name="attended_capsules")([primary, attended])
    routed = RoutedCapsules(
        capsules, capsule_size, routings, accumulate, name="capsules"
    )(attended)
    embedding = layers.GlobalAveragePooling1D(name="embedding")(routed)
    kept = layers.Dropout(dropout, name="dropout")(embedding)
    probabilities = layers.Dense(num_classes, "softmax", name="probabilities")(kept)
    return keras.Model(clip, probabilities, name=NAME)


def _stage(signal, number: int, filters: int, dropout: float, frozen: bool):
    """Return a convolved, normalised and halved picture."""
    signal = layers.Conv2D(filters, KERNEL, name=f"convolution_{number}")(signal)
    normalisation = FrozenNormalization if frozen else BatchNormalization
    signal = normalisation(name=f"normalisation_{number}")(signal)
    signal = layers.ELU(name=f"activation_{number}")(signal)
    signal = layers.AveragePooling2D(2, name=f"pooling_{number}")(signal)
    return layers.Dropout(dropout, name=f"dropout_{number}")(signal)


def _least() -> int:
    """Return the smallest length that leaves one position for the capsules."""
    length = KERNEL
    for _ in range(STAGES):
        length = 2 * length + KERNEL - 1
    return length


LEAST = _least()


def _check_size(input_shape: Sequence[int | None]) -> None:
    for name, length in zip(("frames", "coefficients"), input_shape, strict=True):
        if length is not None and length < LEAST:
            raise ValueError(f"{name}: {length}; {NAME} needs {LEAST} or more")
