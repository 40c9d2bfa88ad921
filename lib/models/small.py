"""Two small networks without a paper: what a published one has to beat.

Both are of textbook layers and below 100,000 parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from lib.models.checks import check_share, check_switch, check_whole
from lib.models.layers import BatchNormalization


def build_cnn(
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    filters: int = 64,
    kernel_size: int = 5,
    blocks: int = 3,
    dropout: float = 0.3,
) -> keras.Model:
    """Build a chain of convolutions along time, each halving the frames.

    A block is convolution, batch normalisation, ReLU and max pooling; the last
    one is averaged over time. 54,279 parameters for 39 coefficients and seven
    classes.

    Args:
        input_shape: (frames, coefficients); frames may be None for any length,
            and one is enough.
        num_classes: Number of emotions.
        filters: Channels of every block.
        kernel_size: Taps of every convolution.
        blocks: Number of blocks.
        dropout: Share of the embedding dropped in training, in [0, 1).

    Returns:
        A model from (batch, frames, coefficients) to class probabilities
        (batch, num_classes); its layer "embedding" gives (batch, filters).

    Raises:
        ValueError: If an option is out of range.
    """
    check_whole("cnn", "filters", filters, 1, 4096)
    check_whole("cnn", "kernel_size", kernel_size, 1, 64)
    check_whole("cnn", "blocks", blocks, 1, 16)
    check_share("cnn", "dropout", dropout)
    clip = keras.Input(tuple(input_shape), name="features")
    signal = clip
    for number in range(1, blocks + 1):
        signal = layers.Conv1D(
            filters,
            kernel_size,
            padding="same",
            use_bias=False,  # the normalisation would subtract it
            name=f"convolution_{number}",
        )(signal)
        signal = BatchNormalization(name=f"normalisation_{number}")(signal)
        signal = layers.ReLU(name=f"activation_{number}")(signal)
        if number < blocks:
            signal = layers.MaxPooling1D(2, padding="same", name=f"pooling_{number}")(
                signal
            )
    embedding = layers.GlobalAveragePooling1D(name="embedding")(signal)
    return _classified(clip, embedding, num_classes, dropout, "cnn")


def build_gru(
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    units: int = 64,
    bidirectional: bool = True,
    dropout: float = 0.3,
) -> keras.Model:
    """Build a gated recurrent unit whose states are averaged over time.

    The average, as the last state of a padded clip has seen mostly silence.
    41,223 parameters for 39 coefficients and seven classes.

    Args:
        input_shape: (frames, coefficients); frames may be None for any length,
            and one is enough.
        num_classes: Number of emotions.
        units: Width of the state of each direction.
        bidirectional: Read the clip backwards too, with weights of its own.
        dropout: Share of the embedding dropped in training, in [0, 1).

    Returns:
        A model from (batch, frames, coefficients) to class probabilities
        (batch, num_classes); its layer "embedding" gives (batch, units), twice
        as many if it is bidirectional.

    Raises:
        ValueError: If an option is out of range.
    """
    check_whole("gru", "units", units, 1, 4096)
    check_switch("gru", bidirectional=bidirectional)
    check_share("gru", "dropout", dropout)
    clip = keras.Input(tuple(input_shape), name="features")
    recurrent = layers.GRU(units, return_sequences=True, name="recurrent")
    if bidirectional:
        recurrent = layers.Bidirectional(recurrent, name="recurrent")
    states = recurrent(clip)  # (batch, frames, units or twice that)
    embedding = layers.GlobalAveragePooling1D(name="embedding")(states)
    return _classified(clip, embedding, num_classes, dropout, "gru")


def _classified(
    clip, embedding, num_classes: int, dropout: float, name: str
) -> keras.Model:
    kept = layers.Dropout(dropout, name="dropout")(embedding)
    probabilities = layers.Dense(num_classes, "softmax", name="probabilities")(kept)
    return keras.Model(clip, probabilities, name=name)
