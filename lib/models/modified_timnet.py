"""The modified TIM-Net of a course report, whose loss is `loss="focal"`."""

import math
from typing import Annotated, Literal

import keras
import numpy as np
from keras import layers, ops
from pydantic import Field

from lib.models import Count, Share, Taps, Width, timnet

MOST_FRAMES = 2**15
# A stream that no version of NumPy and no backend changes.
FIXED_PLACES = np.random.RandomState(0).permutation(MOST_FRAMES)  # noqa: NPY002


def build_modified_timnet(
    input_shape: tuple,
    num_classes: int,
    *,
    filters: Width = 39,
    kernel_size: Taps = 2,
    dilations: Count = 8,
    stacks: Count = 1,
    activation: timnet.Activation = "relu",
    temporal_dropout: Share = 0.05,
    temporal_dropout_mode: Literal["coefficients", "frames"] = "coefficients",
    dropout: Share = 0.05,
    dropout_rise: Share = 0.0125,
    shuffle: bool = True,
    shuffle_at_inference: bool = False,
    attention: bool = True,
    classifier_units: Annotated[int, Field(ge=0, le=4096)] = 128,
) -> keras.Model:
    """Build the modified TIM-Net; the defaults are all of its changes together.

    They are dropout of the input, of whole "coefficients" as published or of "frames",
    dropout that rises with depth from `dropout`, a third direction with the frames in a
    shuffled order, attention in place of the fusion weights (layer "attention", (batch,
    levels, 1)) and a hidden layer before the classifier (layer "embedding"). With
    `shuffle_at_inference`, as published, the order is new at every answer.
    """
    dropouts = [dropout + dropout_rise * block for block in range(dilations)]
    if dropouts[-1] >= 1:
        last = f"the last of {dilations} blocks would drop {dropouts[-1]:g}"
        raise ValueError(f"modified_timnet option 'dropout_rise': {last}; give less")
    clip = keras.Input(input_shape, name="features")
    alike = {"coefficients": (None, 1, None), "frames": (None, None, 1)}
    noise = alike[temporal_dropout_mode]
    dropped = layers.Dropout(temporal_dropout, noise, name="temporal_dropout")(clip)
    signals = {"forward": dropped, "backward": ops.flip(dropped, axis=1)}
    if shuffle:
        shuffled = ShuffledFrames(shuffle_at_inference, name="shuffled_frames")
        signals["shuffled"] = shuffled(dropped)
    how = {"kernel_size": kernel_size, "stacks": stacks, "activation": activation}
    levels = timnet.multi_scale(signals, filters, dropouts, **how)
    combine = static_attention if attention else timnet.weighted_sum
    if classifier_units:
        hidden = layers.Dense(classifier_units, "relu", name="embedding")
        embedding = hidden(combine(levels, name="fused"))
    else:
        embedding = combine(levels, name="embedding")
    classifier = layers.Dense(num_classes, "softmax", name="probabilities")
    return keras.Model(clip, classifier(embedding), name="modified_timnet")


def static_attention(levels: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Return softmax(q · V^T / sqrt(filters)) · V for the levels V, (batch, filters).

    The learned query q, in the layer "fusion", is the same for all clips.
    """
    start = keras.initializers.RandomNormal(stddev=0.05)
    query = layers.Dense(1, use_bias=False, kernel_initializer=start, name="fusion")
    scores = query(levels) / math.sqrt(levels.shape[-1])  # (batch, levels, 1)
    weights = layers.Softmax(axis=1, name="attention")(scores)
    return layers.Flatten(name=name)(layers.Dot(axes=1)([weights, levels]))


@keras.saving.register_keras_serializable("ser_workbook")
class ShuffledFrames(layers.Layer):
    """The frames in another order for the whole batch, new at every training step."""

    def __init__(self, at_inference=False, **kwargs):
        super().__init__(**kwargs)
        self.at_inference = at_inference
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, inputs, training=False):
        frames = ops.shape(inputs)[1]
        if isinstance(frames, int) and frames > MOST_FRAMES:
            raise ValueError(f"{frames:,} frames; give {MOST_FRAMES:,} or less")
        if training or self.at_inference:
            order = keras.random.shuffle(ops.arange(frames), seed=self.seed_generator)
        else:
            order = ops.argsort(ops.convert_to_tensor(FIXED_PLACES)[:frames])
        return ops.take(inputs, order, axis=1)
