"""The systems of the workbook behind one door: `build_model`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from lib.config import did_you_mean
from lib.models.timnet import build_timnet

BUILDERS: Mapping[str, Callable[..., keras.Model]] = {"timnet": build_timnet}


def options(name: str) -> dict[str, object]:
    """Return the options of a system and their defaults.

    Raises:
        ValueError: If there is no such system.
    """
    parameters = inspect.signature(_builder(name)).parameters.values()
    return {
        item.name: item.default for item in parameters if item.kind is item.KEYWORD_ONLY
    }


def build_model(
    name: str, input_shape: Sequence[int | None], num_classes: int, **chosen: object
) -> keras.Model:
    """Build an untrained system.

    Args:
        name: One of `BUILDERS`.
        input_shape: (frames, coefficients); frames may be None for any length.
        num_classes: Number of emotions, at least 2.
        **chosen: Options of the system; see `options`.

    Returns:
        A model from (batch, frames, coefficients) to class probabilities
        (batch, num_classes), with a layer "embedding" before the classifier.

    Raises:
        ValueError: For an unknown system or option, or a value out of range.
    """
    builder = _builder(name)
    known = options(name)
    for option in chosen:
        if option not in known:
            hint = did_you_mean(option, known)
            raise ValueError(f"{name} has no option '{option}'{hint}")
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; give 2 or more")
    return builder(input_shape, num_classes, **chosen)


def _builder(name: str) -> Callable[..., keras.Model]:
    if name not in BUILDERS:
        raise ValueError(
            f"unknown model '{name}'{did_you_mean(name, BUILDERS)}; "
            f"there are: {', '.join(BUILDERS)}"
        )
    return BUILDERS[name]


def with_embedding(model: keras.Model) -> keras.Model:
    """Return the same network giving (probabilities, embedding) in one pass."""
    embedding = model.get_layer("embedding").output
    return keras.Model(model.input, [model.output, embedding], name=model.name)


def trainable_parameters(model: keras.Model) -> int:
    """Return the number of trainable parameters."""
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
