"""Light-SERNet: a small fully convolutional network on the MFCC picture of a clip.

Aftab, Morsali, Ghaemmaghami and Champagne, "LIGHT-SERNET: a lightweight fully
convolutional neural network for speech emotion recognition", ICASSP 2022 (arXiv
2110.03435). Body 1 looks along time, along the coefficients and at both, side by
side; body 2 is a chain of five local feature learning blocks (LFLB).
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from lib.models.checks import check_choice, check_number, check_share
from lib.models.layers import BatchNormalization

NAME = "light_sernet"
ACTIVATIONS = ("relu", "prelu")
RESIDUALS = (None, "add", "projection")
# Each path's kernel: (frames, coefficients).
PATHS = {"time": (11, 1), "coefficients": (1, 9), "both": (3, 3)}
PATH_CHANNELS = 32
# Each block of body 2: channels, kernel, and what its pooling covers; None is
# the average over the whole picture.
BLOCKS = (
    (64, 3, (2, 2)),
    (96, 3, (2, 2)),
    (128, 3, (2, 1)),
    (160, 3, (2, 1)),
    (320, 1, None),
)


def build_light_sernet(
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    activation: str = "relu",
    residual: str | None = None,
    width: float = 1.0,
    l2: float = 1e-6,
    dropout: float = 0.3,
) -> keras.Model:
    """Build Light-SERNet as its authors published it, or the variant of a report.

    The defaults are the authors'. The variant has `activation="prelu"`, a
    `residual` in each path and, for its largest corpus, a wider body. The report
    does not say how one channel is added to 32, nor how wide: both readings of
    the first are here, and any width.

    Args:
        input_shape: (frames, coefficients); frames may be None for any length.
            One frame is enough: all convolutions and poolings pad.
        num_classes: Number of emotions.
        activation: "relu", or "prelu" with one learned slope a layer that starts
            at 0.25, which is what PyTorch's PReLU is unless told otherwise.
        residual: None; "add" the input to every channel of a path after its
            normalisation, before its activation; or the "projection" of it by a
            1x1 convolution with bias, learned per path.
        width: Factor of the channels of body 1 and body 2, from 0.1 to 8; the
            embedding widens with them.
        l2: Weight of the squared kernels of body 2 in the loss, 0 for none. Body
            1 and the classifier have none.
        dropout: Share of the embedding dropped in training, in [0, 1).

    Returns:
        A model from (batch, frames, coefficients) to class probabilities
        (batch, num_classes); its layer "embedding" gives the average over time
        and coefficients (batch, 320 times width).

    Raises:
        ValueError: If an option is out of range.
    """
    check_choice(NAME, "activation", activation, ACTIVATIONS)
    check_choice(NAME, "residual", residual, RESIDUALS)
    check_number(NAME, "width", width, 0.1, 8)
    check_number(NAME, "l2", l2, 0, 1)
    check_share(NAME, "dropout", dropout)
    clip = keras.Input(tuple(input_shape), name="features")
    picture = layers.Reshape((-1, input_shape[1], 1), name="picture")(clip)
    paths = [
        _path(picture, name, _channels(PATH_CHANNELS, width), activation, residual)
        for name in PATHS
    ]
    # (batch, frames / 2, coefficients / 2, 96 times width)
    signal = layers.Concatenate(name="paths")(paths)
    for number, (channels, kernel_size, pool) in enumerate(BLOCKS, start=1):
        signal = layers.Conv2D(
            _channels(channels, width),
            kernel_size,
            padding="same",
            use_bias=False,
            kernel_regularizer=keras.regularizers.L2(l2) if l2 else None,
            name=f"block_{number}_convolution",
        )(signal)
        signal = BatchNormalization(name=f"block_{number}_normalisation")(signal)
        signal = _activation(activation, f"block_{number}_activation")(signal)
        if pool:
            signal = layers.AveragePooling2D(
                pool, padding="same", name=f"block_{number}_pooling"
            )(signal)
    embedding = layers.GlobalAveragePooling2D(name="embedding")(signal)
    kept = layers.Dropout(dropout, name="dropout")(embedding)
    probabilities = layers.Dense(num_classes, "softmax", name="probabilities")(kept)
    return keras.Model(clip, probabilities, name=NAME)


def _path(picture, name: str, channels: int, activation: str, residual: str | None):
    """Return what one path of body 1 makes of (batch, frames, coefficients, 1)."""
    signal = layers.Conv2D(
        channels, PATHS[name], padding="same", name=f"{name}_convolution"
    )(picture)
    signal = BatchNormalization(name=f"{name}_normalisation")(signal)
    if residual:
        skipped = picture
        if residual == "projection":
            skipped = layers.Conv2D(channels, 1, name=f"{name}_projection")(picture)
        signal = layers.Add(name=f"{name}_residual")([signal, skipped])
    signal = _activation(activation, f"{name}_activation")(signal)
    return layers.AveragePooling2D(2, padding="same", name=f"{name}_pooling")(signal)


def _activation(activation: str, name: str) -> layers.Layer:
    if activation == "relu":
        return layers.ReLU(name=name)
    # Shared by all positions, so that any clip length fits.
    return layers.PReLU(
        keras.initializers.Constant(0.25), shared_axes=(1, 2, 3), name=name
    )


def _channels(channels: int, width: float) -> int:
    return max(1, round(channels * width))
