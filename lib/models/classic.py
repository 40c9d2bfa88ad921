"""Classical classifiers on clip statistics: what a network has to beat.

scikit-learn fits them; what it has found is put into a small network, so that
they are saved, loaded, tested and drawn like every other system.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

from lib.models.checks import check_choice, check_number
from lib.models.layers import register

KERNELS = ("rbf", "linear")
BATCH = 256  # clips whose statistics are computed at once


@register
class ClipStatistics(layers.Layer):
    """What a clip is like on the whole: (batch, frames, c) to (batch, 4 c).

    Mean and standard deviation over time of every coefficient, and of its change
    from one frame to the next. Features that have no time, a single frame, are
    taken as they are: (batch, c).
    """

    def call(self, inputs):
        """Return the statistics."""
        if inputs.shape[1] == 1:
            return inputs[:, 0]
        # One frame twice has no change, rather than none that could be averaged.
        longer = ops.concatenate([inputs[:, :1], inputs], axis=1)
        change = longer[:, 1:] - longer[:, :-1]
        parts = [ops.mean(inputs, 1), ops.std(inputs, 1)]
        parts += [ops.mean(change, 1), ops.std(change, 1)]
        return ops.concatenate(parts, axis=-1)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return (batch, statistics)."""
        batch, frames, coefficients = input_shape
        return (batch, coefficients if frames == 1 else 4 * coefficients)


@register
class Standardise(layers.Layer):
    """Subtract a mean and divide by a standard deviation, both (width,)."""

    def build(self, input_shape: tuple) -> None:
        """Create mean and scale, which scikit-learn fills."""
        shape = (input_shape[-1],)
        self.mean = self.add_weight(
            name="mean", shape=shape, initializer="zeros", trainable=False
        )
        self.scale = self.add_weight(
            name="scale", shape=shape, initializer="ones", trainable=False
        )

    def call(self, inputs):
        """Return (inputs - mean) / scale."""
        return (inputs - self.mean) / self.scale


@register
class ClassShares(layers.Layer):
    """The same answer for every clip: (batch, width) to (batch, classes).

    Args:
        num_classes: Number of classes.
    """

    def __init__(self, num_classes: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes

    def build(self, input_shape: tuple) -> None:
        """Create the shares, equal at first."""
        self.shares = self.add_weight(
            name="shares",
            shape=(self.num_classes,),
            initializer=keras.initializers.Constant(1 / self.num_classes),
        )

    def call(self, inputs):
        """Return the shares once per clip."""
        return ops.broadcast_to(self.shares, (ops.shape(inputs)[0], self.num_classes))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return (batch, classes)."""
        return (input_shape[0], self.num_classes)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "num_classes": self.num_classes}


@register
class RadialBasis(layers.Layer):
    """exp(-gamma ||x - v||^2) to each known vector v: (batch, width) to (batch, n).

    Args:
        vectors: Number n of known vectors.
        gamma: How fast the likeness falls with the distance.
    """

    def __init__(self, vectors: int, gamma: float, **kwargs) -> None:
        super().__init__(**kwargs)
        self.vectors = vectors
        self.gamma = gamma

    def build(self, input_shape: tuple) -> None:
        """Create the known vectors, which scikit-learn fills."""
        self.known = self.add_weight(
            name="known", shape=(self.vectors, input_shape[-1]), initializer="zeros"
        )

    def call(self, inputs):
        """Return the likeness to every known vector."""
        products = ops.matmul(inputs, ops.transpose(self.known))
        squares = ops.sum(ops.square(self.known), axis=-1)
        own = ops.sum(ops.square(inputs), axis=-1, keepdims=True)
        distances = ops.maximum(own + squares - 2.0 * products, 0.0)
        return ops.exp(-self.gamma * distances)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return (batch, vectors)."""
        return (input_shape[0], self.vectors)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "vectors": self.vectors, "gamma": self.gamma}


def build_majority(input_shape: Sequence[int | None], num_classes: int) -> keras.Model:
    """Build the system that gives each clip the class shares of the training side.

    Args:
        input_shape: (frames, coefficients); frames may be None.
        num_classes: Number of emotions.
    """
    clip, embedding = _statistics(input_shape)
    shares = ClassShares(num_classes, name="probabilities")(embedding)
    return keras.Model(clip, shares, name="majority")


def fit_majority(model: keras.Model, x: np.ndarray, y: np.ndarray) -> keras.Model:
    """Fit `build_majority`'s network on (n, frames, c) and labels (n,)."""
    _standardised(model, x)
    count = model.output_shape[-1]
    shares = np.bincount(y, minlength=count) / len(y)
    model.get_layer("probabilities").set_weights([shares])
    return model


def build_logistic(
    input_shape: Sequence[int | None], num_classes: int, *, regularisation: float = 0.1
) -> keras.Model:
    """Build logistic regression on the statistics of a clip.

    Args:
        input_shape: (frames, coefficients); frames may be None.
        num_classes: Number of emotions.
        regularisation: Inverse strength C of the L2 penalty; less is simpler.

    Raises:
        ValueError: If an option is out of range.
    """
    check_number("logistic", "regularisation", regularisation, 1e-9, 1e9)
    clip, embedding = _statistics(input_shape)
    dense = layers.Dense(num_classes, "softmax", name="probabilities")
    return keras.Model(clip, dense(embedding), name="logistic")


def fit_logistic(
    model: keras.Model, x: np.ndarray, y: np.ndarray, *, regularisation: float = 0.1
) -> keras.Model:
    """Fit `build_logistic`'s network on (n, frames, c) and labels (n,)."""
    from sklearn.linear_model import LogisticRegression

    vectors = _standardised(model, x)
    fitted = LogisticRegression(C=regularisation, max_iter=5000).fit(vectors, y)
    kernel, bias = fitted.coef_.T, fitted.intercept_
    if len(fitted.classes_) == 2:  # scikit-learn keeps the second one's alone
        kernel = np.hstack([np.zeros_like(kernel), kernel])
        bias = np.append(0.0, bias)
    _assign_classes(model, kernel, bias, fitted.classes_)
    return model


def build_svm(
    input_shape: Sequence[int | None],
    num_classes: int,
    *,
    kernel: str = "rbf",
    regularisation: float = 1.0,
) -> keras.Model:
    """Build support vector machines, one per class against the rest.

    Its probabilities are the softmax of the machines' margins: the largest
    margin wins, but nobody calibrated the numbers.

    Args:
        input_shape: (frames, coefficients); frames may be None.
        num_classes: Number of emotions.
        kernel: "rbf", or "linear".
        regularisation: Inverse strength C of the penalty; less is simpler.

    Returns:
        A network without support vectors: `fit_svm` finds them.

    Raises:
        ValueError: If an option is out of range.
    """
    check_choice("svm", "kernel", kernel, KERNELS)
    check_number("svm", "regularisation", regularisation, 1e-9, 1e9)
    return _svm(input_shape, num_classes, vectors=0 if kernel == "linear" else 1)


def fit_svm(
    model: keras.Model,
    x: np.ndarray,
    y: np.ndarray,
    *,
    kernel: str = "rbf",
    regularisation: float = 1.0,
) -> keras.Model:
    """Fit support vector machines on (n, frames, c) and labels (n,).

    Args:
        model: What `build_svm` returned; gives the shapes.
        x: Training clips.
        y: Their labels.
        kernel: As in `build_svm`.
        regularisation: As in `build_svm`.

    Returns:
        A network that holds the training clips that are support vectors.
    """
    from sklearn.svm import SVC

    num_classes, (_, *input_shape) = model.output_shape[-1], model.input_shape
    vectors = _standardised(model, x)
    gamma = 1.0 / (vectors.shape[1] * vectors.var())  # scikit-learn's "scale"
    weights, bias = np.zeros((len(vectors), num_classes)), np.full(num_classes, -1.0)
    for index in np.unique(y):
        machine = SVC(kernel=kernel, C=regularisation, gamma=gamma)
        machine.fit(vectors, y == index)
        weights[machine.support_, index] = machine.dual_coef_[0]
        bias[index] = machine.intercept_[0]
    used = np.flatnonzero(np.abs(weights).max(axis=1))
    if kernel == "linear":
        fitted = _svm(input_shape, num_classes, vectors=0)
        weights = vectors.T @ weights
    else:
        fitted = _svm(input_shape, num_classes, vectors=len(used), gamma=float(gamma))
        fitted.get_layer("likeness").set_weights([vectors[used]])
        weights = weights[used]
    _standardised(fitted, x)
    fitted.get_layer("probabilities").set_weights([weights, bias])
    return fitted


def _svm(input_shape, num_classes: int, *, vectors: int, gamma: float = 1.0):
    """Return the network of support vector machines; 0 vectors is linear."""
    clip, embedding = _statistics(input_shape)
    hidden = embedding
    if vectors:
        hidden = RadialBasis(vectors, gamma, name="likeness")(embedding)
    dense = layers.Dense(num_classes, "softmax", name="probabilities")
    return keras.Model(clip, dense(hidden), name="svm")


def _statistics(input_shape: Sequence[int | None]):
    """Return the input and the standardised statistics of a clip."""
    clip = keras.Input(tuple(input_shape), name="features")
    statistics = ClipStatistics(name="statistics")(clip)
    return clip, Standardise(name="embedding")(statistics)


def _standardised(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """Set the network's standardisation by training clips; return their vectors."""
    from sklearn.preprocessing import StandardScaler

    inside = keras.Model(model.input, model.get_layer("statistics").output)
    statistics = np.concatenate(
        [
            ops.convert_to_numpy(inside(x[start : start + BATCH]))
            for start in range(0, len(x), BATCH)
        ]
    )
    scaler = StandardScaler().fit(statistics)
    model.get_layer("embedding").set_weights([scaler.mean_, scaler.scale_])
    return scaler.transform(statistics)


def _assign_classes(
    model: keras.Model, kernel: np.ndarray, bias: np.ndarray, classes: np.ndarray
) -> None:
    """Set the classifier; a class nobody trained on is never the answer."""
    count = model.output_shape[-1]
    full_kernel = np.zeros((kernel.shape[0], count))
    full_bias = np.full(count, -1e4)
    full_kernel[:, classes], full_bias[classes] = kernel, bias
    model.get_layer("probabilities").set_weights([full_kernel, full_bias])
