"""The systems, a file each, which is imported, as Keras is, when one is built."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pydantic
from pydantic import Field

from lib import files

# Types of the systems' options.
Share = Annotated[float, Field(ge=0, lt=1)]
Width = Annotated[int, Field(ge=1, le=4096)]
Taps = Annotated[int, Field(ge=1, le=64)]
Count = Annotated[int, Field(ge=1, le=16)]


class System(NamedTuple):
    """What the rest of the workbook has to know of a system."""

    title: str  # its name in prose
    module: str  # of lib.models, with its function build_<name>
    features: str = "timnet"  # the front end it was published with
    fit: bool = False  # fitted by scikit-learn in one go, without epochs
    fused: bool = False  # TensorFlow's training step is faster if XLA compiles it


SYSTEMS: Mapping[str, System] = {
    "timnet": System("TIM-Net", "timnet"),
    "modified_timnet": System("modified TIM-Net", "modified_timnet"),
    "cktim": System("CkTIM-net", "cktim", fused=True),
    "light_sernet": System("Light-SERNet", "light_sernet", features="lightsernet"),
    "gm_tcnet": System("GM-TCNet", "gm_tcnet"),
    "cpac": System("CPAC", "cpac"),
    "majority": System("majority class", "baselines", fit=True),
    "logistic": System("logistic regression", "baselines", fit=True),
    "svm": System("support vector machine", "baselines", fit=True),
    "cnn": System("small CNN", "small"),
    "gru": System("small GRU", "small"),
}


def options(name: str) -> dict[str, Any]:
    """Return the options of a system and their defaults."""
    return dict(_builder(name).__kwdefaults__ or {})


def build_model(
    name: str,
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    standardised: bool = False,
    **chosen: Any,
) -> Any:
    """Build an untrained system for clips (frames, coefficients), frames None for any.

    A network that is `standardised` has fixed means and variances of its training rows.
    A Keras model answers with class probabilities (batch, num_classes) and has a layer
    "embedding" before the classifier; a baseline is a scikit-learn pipeline.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; give 2 or more")
    validated = pydantic.validate_call(_builder(name), config={"strict": True})
    try:
        model = validated(tuple(input_shape), num_classes, **chosen)
        return _standardised(model) if standardised else model
    except pydantic.ValidationError as error:
        wrong = error.errors()[0]
        fault = f"{name} option '{wrong['loc'][0]}': {wrong['input']!r}"
        raise ValueError(f"{fault}; {wrong['msg']}") from None


def _standardised(network: Any) -> Any:
    """Return a network that standardises the coefficients before all else."""
    # Layer "normalisation" holds means and variances of training rows, (coefficients,).
    import keras

    embedding = network.get_layer("embedding").output
    encoder = keras.Model(network.input, embedding, name="encoder")
    classifier = keras.Model(embedding, network.output, name="classifier")
    clip = keras.Input(network.input_shape[1:], name="features")
    fixed = {"center": False, "scale": False, "trainable": False, "epsilon": 1e-6}
    rows = keras.layers.BatchNormalization(**fixed, name="normalisation")(clip)
    seen = keras.layers.Identity(name="embedding")(encoder(rows))
    return keras.Model(clip, classifier(seen), name=network.name)


def predict(model: Any, x: np.ndarray, batch: int = 128) -> list[np.ndarray]:
    """Return class probabilities (n, classes) and embeddings (n, width), float32.

    The x are n utterances (frames, coefficients), perhaps in pieces: one in pieces has
    the mean of the answers to them.
    """
    clips, owner = files.pieces(x)
    if hasattr(model, "steps"):  # a pipeline
        from lib.models import baselines

        answers = baselines.predict(model, clips)
    else:
        import keras

        embedding = model.get_layer("embedding").output
        both = keras.Model(model.input, [model.output, embedding])
        # On TensorFlow called: compiling a graph takes longer than the clips of a fold.
        # JAX compiles every operation alone if it is not given all of them.
        answer = both.predict_on_batch if keras.backend.backend() == "jax" else both
        starts = range(0, len(clips), batch)
        parts = [answer(clips[start : start + batch]) for start in starts]
        parts = [
            [keras.ops.convert_to_numpy(array) for array in pair] for pair in parts
        ]
        answers = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    return [mean_over_pieces(answer, owner) for answer in answers]


def mean_over_pieces(answers: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Return the mean of the answers to the pieces of each utterance, owners sorted."""
    _, first, counts = np.unique(owner, return_index=True, return_counts=True)
    total = np.add.reduceat(answers, first, dtype=float)
    return (total / counts[:, None]).astype(answers.dtype)


def save(model: Any, path: Path) -> None:
    """Write a system: a network as .keras, a baseline as .skops, without pickle."""
    if hasattr(model, "steps"):
        import skops.io

        skops.io.dump(model, path)
    else:
        model.save(path)


def load(path: Path) -> Any:
    """Return what `save` wrote, for whichever backend is in force."""
    if Path(path).suffix == ".skops":
        import skops.io

        return skops.io.load(path, trusted=["lib.models.baselines.clip_statistics"])
    import keras

    for name in SYSTEMS:
        _builder(name)  # Keras finds the layers of modules that are imported
    return keras.saving.load_model(path, compile=False)


def trainable_parameters(model: Any) -> int:
    """Return the number of trainable parameters; 0 for a baseline, which has none."""
    weights = getattr(model, "trainable_weights", [])
    return sum(int(np.prod(weight.shape)) for weight in weights)


def _builder(name: str) -> Callable[..., Any]:
    if name not in SYSTEMS:
        raise ValueError(f"unknown model '{name}'; there are: {', '.join(SYSTEMS)}")
    module = importlib.import_module(f"lib.models.{SYSTEMS[name].module}")
    return getattr(module, f"build_{name}")
