"""The modified TIM-Net of a course report: five changes, each a switch.

Input dropout, dropout that rises with depth, a third branch that reads the
frames in a shuffled order, attention with a learned query in place of the
fusion weights, and a hidden layer before the classifier. Its focal loss is
`loss="focal"` of the training notebook.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from lib.models.checks import check_choice, check_share, check_switch, check_whole
from lib.models.layers import StackDirections, StaticAttention, WeightedFusion
from lib.models.timnet import check, multi_scale

NAME = "modified_timnet"
MODES = ("coefficients", "frames")


def build_modified_timnet(
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    filters: int = 39,
    kernel_size: int = 2,
    dilations: int = 8,
    stacks: int = 1,
    activation: str = "relu",
    temporal_dropout: float = 0.05,
    temporal_dropout_mode: str = "coefficients",
    dropout: float = 0.05,
    dropout_rise: float = 0.0125,
    shuffle: bool = True,
    shuffle_at_inference: bool = False,
    attention: bool = True,
    classifier_units: int = 128,
) -> keras.Model:
    """Build the modified TIM-Net; the defaults are all of its changes together.

    Args:
        input_shape: (frames, coefficients); frames may be None for any length.
        num_classes: Number of emotions.
        filters: Channels of every block.
        kernel_size: Taps of every convolution in the blocks.
        dilations: Number n of blocks; their dilations are 1, 2, ... 2^(n-1).
        stacks: How often the chain of n blocks is repeated.
        activation: Activation inside the blocks.
        temporal_dropout: Share of the input dropped in training, in [0, 1).
        temporal_dropout_mode: What is dropped: "coefficients" for the whole
            clip, which is what the published code does although it is called
            temporal; or whole "frames".
        dropout: Spatial dropout of the first block, in [0, 1).
        dropout_rise: How much it rises from block to block.
        shuffle: Add the branch of shuffled frames.
        shuffle_at_inference: Shuffle anew outside training too, as published.
        attention: Static attention in place of the fusion weights.
        classifier_units: Width of the hidden layer, 0 for none.

    Returns:
        A model from (batch, frames, coefficients) to class probabilities
        (batch, num_classes); its layer "embedding" is the hidden layer, or the
        fused vector where there is none.

    Raises:
        ValueError: If an option is out of range.
    """
    check(NAME, filters, kernel_size, dilations, stacks, activation)
    check_share(NAME, "temporal_dropout", temporal_dropout)
    check_choice(NAME, "temporal_dropout_mode", temporal_dropout_mode, MODES)
    check_switch(
        NAME,
        shuffle=shuffle,
        shuffle_at_inference=shuffle_at_inference,
        attention=attention,
    )
    check_whole(NAME, "classifier_units", classifier_units, 0, 4096)
    dropouts = _rising(dropout, dropout_rise, dilations)
    clip = keras.Input(tuple(input_shape), name="features")  # (batch, frames, c)
    kept = {"coefficients": (None, 1, None), "frames": (None, None, 1)}
    dropped = layers.Dropout(
        temporal_dropout, kept[temporal_dropout_mode], name="temporal_dropout"
    )(clip)
    branches = StackDirections(True, shuffle, shuffle_at_inference, name="directions")(
        dropped
    )
    levels = multi_scale(
        branches,
        filters=filters,
        kernel_size=kernel_size,
        dilations=dilations,
        stacks=stacks,
        dropouts=dropouts,
        activation=activation,
    )
    stacked = layers.Concatenate(axis=1, name="levels")(levels)
    fusion = StaticAttention if attention else WeightedFusion
    if classifier_units:
        fused = fusion(name="fusion")(stacked)
        embedding = layers.Dense(classifier_units, "relu", name="embedding")(fused)
    else:
        embedding = fusion(name="embedding")(stacked)
    probabilities = layers.Dense(num_classes, "softmax", name="probabilities")(
        embedding
    )
    return keras.Model(clip, probabilities, name=NAME)


def _rising(first: float, rise: float, blocks: int) -> list[float]:
    """Return the dropout of every block: p_j = first + rise * (j - 1)."""
    check_share(NAME, "dropout", first)
    check_share(NAME, "dropout_rise", rise)
    dropouts = [first + rise * block for block in range(blocks)]
    if dropouts[-1] >= 1:
        raise ValueError(
            f"{NAME} option 'dropout_rise': {rise!r}; with {blocks} blocks the last "
            f"one would drop {dropouts[-1]:g} of its channels; give less"
        )
    return dropouts
