"""The modified TIM-Net of a course report: five changes, each a switch.

Input dropout, dropout that rises with depth, a third direction that reads the
frames in a shuffled order, attention with a learned query in place of the
fusion weights, and a hidden layer before the classifier. Its focal loss is
`loss="focal"` of the training notebook.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import keras
import numpy as np
from keras import layers, ops
from pydantic import Field

from lib.models import Share, timnet
from lib.models.conv_bn import register

MOST_FRAMES = 2**15
# A stream that no version of NumPy changes.
FIXED_PLACES = np.random.RandomState(0).permutation(MOST_FRAMES)  # noqa: NPY002


def build_modified_timnet(
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    filters: timnet.Width = 39,
    kernel_size: timnet.Taps = 2,
    dilations: timnet.Count = 8,
    stacks: timnet.Count = 1,
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

    Args:
        input_shape: (frames, coefficients); frames may be None for any length.
        num_classes: Number of emotions.
        filters: As in `build_timnet`.
        kernel_size: As there.
        dilations: As there.
        stacks: As there.
        activation: As there.
        temporal_dropout: Share of the input dropped in training.
        temporal_dropout_mode: What is dropped: "coefficients" for the whole clip,
            as published although it is called temporal; or whole "frames".
        dropout: Spatial dropout of the first block.
        dropout_rise: How much it rises from block to block.
        shuffle: Add the direction of shuffled frames.
        shuffle_at_inference: Shuffle anew outside training too, as published.
        attention: Static attention in place of the fusion weights.
        classifier_units: Width of the hidden layer, 0 for none.

    Returns:
        A model as of `build_timnet`; its layer "embedding" is the hidden layer, or
        the fused vector where there is none, and "attention" gives the weights of
        the levels, (batch, levels, 1).
    """
    dropouts = [dropout + dropout_rise * block for block in range(dilations)]
    if dropouts[-1] >= 1:
        raise ValueError(
            f"modified_timnet option 'dropout_rise': {dropout_rise!r}; with "
            f"{dilations} blocks the last one would drop {dropouts[-1]:g} of its "
            "channels; give less"
        )
    clip = keras.Input(tuple(input_shape), name="features")
    kept = {"coefficients": (None, 1, None), "frames": (None, None, 1)}
    noise = kept[temporal_dropout_mode]
    dropped = layers.Dropout(temporal_dropout, noise, name="temporal_dropout")(clip)
    signals = {"forward": dropped, "backward": ops.flip(dropped, axis=1)}
    if shuffle:
        shuffled = ShuffledFrames(shuffle_at_inference, name="shuffled_frames")
        signals["shuffled"] = shuffled(dropped)
    levels = timnet.multi_scale(
        signals,
        filters=filters,
        kernel_size=kernel_size,
        dropouts=dropouts,
        stacks=stacks,
        activation=activation,
    )
    combine = static_attention if attention else timnet.weighted_sum
    if classifier_units:
        hidden = layers.Dense(classifier_units, "relu", name="embedding")
        embedding = hidden(combine(levels, name="fused"))
    else:
        embedding = combine(levels, name="embedding")
    classifier = layers.Dense(num_classes, "softmax", name="probabilities")
    return keras.Model(clip, classifier(embedding), name="modified_timnet")


def static_attention(levels: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Return the levels V averaged by their likeness to a learned query q.

    softmax(q · V^T / sqrt(filters)) · V, (batch, filters): the query, in the layer
    "fusion", is the same for all clips, the weights are not.
    """
    start = keras.initializers.RandomNormal(stddev=0.05)
    query = layers.Dense(1, use_bias=False, kernel_initializer=start, name="fusion")
    scores = query(levels) / math.sqrt(levels.shape[-1])  # (batch, levels, 1)
    weights = layers.Softmax(axis=1, name="attention")(scores)
    return layers.Flatten(name=name)(layers.Dot(axes=1)([weights, levels]))


@register
class ShuffledFrames(layers.Layer):
    """The frames in another order, new at every training step, fixed otherwise.

    The whole batch has the same. With `at_inference`, as published, it is new outside
    training too: the same clip then has a new answer every time.
    """

    def __init__(self, at_inference: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.at_inference = at_inference
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, inputs, training: bool = False):
        frames = ops.shape(inputs)[1]
        if isinstance(frames, int) and frames > MOST_FRAMES:
            raise ValueError(
                f"a clip of {frames:,} frames; give {MOST_FRAMES:,} or less"
            )
        if training or self.at_inference:
            order = keras.random.shuffle(ops.arange(frames), seed=self.seed_generator)
        else:
            # NumPy's, as the generators of the backends differ.
            order = ops.argsort(ops.convert_to_tensor(FIXED_PLACES)[:frames])
        return ops.take(inputs, order, axis=1)
