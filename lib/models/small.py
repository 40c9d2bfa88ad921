"""Two small networks of textbook layers: what a published one has to beat."""

import keras
from keras import layers

from lib.models import Count, Share, Taps, Width


def build_cnn(
    input_shape: tuple,
    num_classes: int,
    *,
    filters: Width = 64,
    kernel_size: Taps = 5,
    blocks: Count = 3,
    dropout: Share = 0.3,
) -> keras.Model:
    """Build blocks of convolution along time, averaged: (batch, filters)."""
    clip = signal = keras.Input(input_shape, name="features")
    for number in range(1, blocks + 1):
        if number > 1:
            signal = layers.MaxPooling1D(2, padding="same")(signal)
        options = {"padding": "same", "use_bias": False, "name": f"conv_{number}"}
        signal = layers.Conv1D(filters, kernel_size, **options)(signal)
        signal = layers.BatchNormalization(name=f"normalisation_{number}")(signal)
        signal = layers.ReLU()(signal)
    return classified(clip, signal, num_classes, dropout, "cnn")


def build_gru(
    input_shape: tuple,
    num_classes: int,
    *,
    units: Width = 64,
    dropout: Share = 0.3,
) -> keras.Model:
    """Build recurrent units of both directions; the mean of all states is judged."""
    clip = keras.Input(input_shape, name="features")
    recurrent = layers.GRU(units, return_sequences=True)
    recurrent = layers.Bidirectional(recurrent, name="recurrent")
    return classified(clip, recurrent(clip), num_classes, dropout, "gru")


def classified(clip, signal, num_classes: int, dropout: float, name: str):
    """Return the network that classifies the average of a signal over time."""
    embedding = layers.GlobalAveragePooling1D(name="embedding")(signal)
    kept = layers.Dropout(dropout, name="dropout")(embedding)
    probabilities = layers.Dense(num_classes, "softmax", name="probabilities")
    return keras.Model(clip, probabilities(kept), name=name)
