"""The systems of the workbook behind one door: `build_model`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence

import lib.lean_keras  # isort: skip  # noqa: F401  (before the first import of Keras)
import keras
import numpy as np

from lib.config import did_you_mean
from lib.systems import SYSTEMS


def _found(builder: str) -> Callable[..., keras.Model]:
    module, function = builder.split(":")
    return getattr(importlib.import_module(module), function)


# All of them at once: a saved network loads only where its layers are known.
BUILDERS: Mapping[str, Callable[..., keras.Model]] = {
    name: _found(system.builder) for name, system in SYSTEMS.items()
}


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


def fit(
    name: str, x: np.ndarray, y: np.ndarray, num_classes: int, **chosen: object
) -> keras.Model:
    """Build a system that has no epochs, and fit it.

    Args:
        name: A system with a `fit` in `lib.systems`.
        x: Training clips, float32, (n, frames, coefficients).
        y: Their labels, int, (n,).
        num_classes: Number of emotions.
        **chosen: Options of the system.

    Returns:
        The fitted network.

    Raises:
        ValueError: For an option that is unknown or out of range.
    """
    model = build_model(name, x.shape[1:], num_classes, **chosen)
    return _found(SYSTEMS[name].fit)(model, x, y, **chosen)


def predict(
    model: keras.Model, x: np.ndarray, batch: int = 128
) -> tuple[np.ndarray, np.ndarray]:
    """Return class probabilities (n, classes) and embeddings (n, width)."""
    both = with_embedding(model)
    # On TensorFlow called, not `predict`: compiling a graph for each fold takes
    # longer than the few clips it would answer. JAX compiles every operation alone
    # if it is not given all of them.
    answer = both.predict_on_batch if keras.backend.backend() == "jax" else both
    answers = [answer(x[start : start + batch]) for start in range(0, len(x), batch)]
    probabilities, embeddings = (
        np.concatenate([keras.ops.convert_to_numpy(part) for part in parts])
        for parts in zip(*answers, strict=True)
    )
    return probabilities, embeddings


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
