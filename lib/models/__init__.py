"""The systems of the workbook behind one door: `build_model`.

To add one, write `lib/models/<name>.py` with its builder and a line in `SYSTEMS`.
Keras is imported when a system is built or loaded, not before.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints

import numpy as np
import pydantic
from pydantic import Field

Share = Annotated[float, Field(ge=0, lt=1)]  # type of many systems' options


class System(NamedTuple):
    """What the rest of the workbook has to know of a system."""

    title: str  # its name in prose
    builder: str  # "module:function", a module of lib.models
    features: str = "timnet"  # the front end it was published with
    fit: bool = False  # fitted by scikit-learn in one go, without epochs
    fused: bool = False  # TensorFlow's training step is faster if XLA compiles it


SYSTEMS: Mapping[str, System] = {
    "timnet": System("TIM-Net", "timnet:build_timnet"),
    "modified_timnet": System(
        "modified TIM-Net", "modified_timnet:build_modified_timnet"
    ),
    "cktim": System("CkTIM-net", "cktim:build_cktim", fused=True),
    "light_sernet": System(
        "Light-SERNet", "light_sernet:build_light_sernet", features="lightsernet"
    ),
    "gm_tcnet": System("GM-TCNet", "gm_tcnet:build_gm_tcnet"),
    "cpac": System("CPAC", "cpac:build_cpac"),
    "majority": System("majority class", "baselines:build_majority", fit=True),
    "logistic": System("logistic regression", "baselines:build_logistic", fit=True),
    "svm": System("support vector machine", "baselines:build_svm", fit=True),
    "cnn": System("small CNN", "small:build_cnn"),
    "gru": System("small GRU", "small:build_gru"),
}


def options(name: str) -> dict[str, Any]:
    """Return the options of a system and their defaults."""
    parameters = inspect.signature(_builder(name)).parameters.values()
    return {
        item.name: item.default for item in parameters if item.kind is item.KEYWORD_ONLY
    }


def build_model(
    name: str, input_shape: Sequence[int | None], num_classes: int, **chosen: Any
) -> Any:
    """Build an untrained system.

    Args:
        name: One of `SYSTEMS`.
        input_shape: (frames, coefficients); frames may be None for any length.
        num_classes: Number of emotions, at least 2.
        **chosen: Options of the system; see `options`.

    Returns:
        A Keras model from (batch, frames, coefficients) to class probabilities
        (batch, num_classes), with a layer "embedding" before the classifier; or, for
        a baseline, a scikit-learn pipeline whose last step is the classifier.
    """
    builder, known = _builder(name), options(name)
    for option in chosen:
        if option not in known:
            raise ValueError(
                f"{name} has no option '{option}'{_nearest(option, known)}"
            )
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; give 2 or more")
    validated = pydantic.validate_call(builder, config={"strict": True})
    try:
        return validated(tuple(input_shape), num_classes, **chosen)
    except pydantic.ValidationError as error:
        wrong = error.errors()[0]
        option = wrong["loc"][0]
        if option not in chosen:
            raise
        annotation = get_type_hints(builder, include_extras=True)[option]
        schema = pydantic.TypeAdapter(annotation).json_schema()
        limits = sorted(schema.items(), reverse=True)
        allowed = ", ".join(f"{key} {value}" for key, value in limits)
        raise ValueError(
            f"{name} option '{option}': {wrong['input']!r}; give {allowed}"
        ) from error


def fit(name: str, x: np.ndarray, y: np.ndarray, num_classes: int, **chosen: Any):
    """Return a fitted baseline; x (n, frames, coefficients), y int (n,)."""
    return build_model(name, x.shape[1:], num_classes, **chosen).fit(x, y)


def predict(model: Any, x: np.ndarray, batch: int = 128) -> tuple[np.ndarray, ...]:
    """Return class probabilities (n, classes) and embeddings (n, width), float32."""
    if _is_baseline(model):
        from lib.models import baselines

        return baselines.predict(model, x)
    import keras

    both = keras.Model(model.input, [model.output, model.get_layer("embedding").output])
    # On TensorFlow called, not `predict`: compiling a graph for each fold takes
    # longer than the few clips it would answer. JAX compiles every operation alone
    # if it is not given all of them.
    answer = both.predict_on_batch if keras.backend.backend() == "jax" else both
    parts = [answer(x[start : start + batch]) for start in range(0, len(x), batch)]
    return tuple(
        np.concatenate([keras.ops.convert_to_numpy(part) for part in kind])
        for kind in zip(*parts, strict=True)
    )


def save(model: Any, path: Path) -> None:
    """Write a system: a network as .keras, a baseline as .skops, without pickle."""
    if _is_baseline(model):
        import skops.io

        skops.io.dump(model, path)
    else:
        model.save(path)


def load(path: Path) -> Any:
    """Return what `save` wrote, for whichever backend is in force."""
    path = Path(path)
    if path.suffix == ".skops":
        import skops.io

        return skops.io.load(path, trusted=["lib.models.baselines.clip_statistics"])
    import keras

    for name in SYSTEMS:  # Keras finds the layers of modules that are imported
        if not SYSTEMS[name].fit:
            _builder(name)
    return keras.saving.load_model(path, compile=False)


def trainable_parameters(model: Any) -> int:
    """Return the number of trainable parameters; 0 for a baseline, which has none."""
    weights = [] if _is_baseline(model) else model.trainable_weights
    return sum(int(np.prod(weight.shape)) for weight in weights)


def _is_baseline(model: Any) -> bool:
    return hasattr(model, "steps")


def _builder(name: str) -> Callable[..., Any]:
    if name not in SYSTEMS:
        raise ValueError(
            f"unknown model '{name}'{_nearest(name, SYSTEMS)}; "
            f"there are: {', '.join(SYSTEMS)}"
        )
    module, function = SYSTEMS[name].builder.split(":")
    return getattr(importlib.import_module(f"lib.models.{module}"), function)


def _nearest(given: str, known: Iterable[str]) -> str:
    from lib.config import did_you_mean  # a module that imports this one

    return did_you_mean(given, known)
