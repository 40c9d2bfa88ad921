"""Baselines: clip statistics, standardised (the embedding), and a classifier."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy.special import softmax
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

Regularisation = Annotated[float, Field(ge=1e-9, le=1e9)]  # C, less is simpler


def build_majority(input_shape: tuple, num_classes: int) -> Pipeline:
    """Build the system that answers with the class shares of the training clips."""
    return _pipeline(DummyClassifier(strategy="prior"), num_classes)


def build_logistic(
    input_shape: tuple, num_classes: int, *, regularisation: Regularisation = 0.1
) -> Pipeline:
    """Build logistic regression with an L2 penalty."""
    classifier = LogisticRegression(C=regularisation, max_iter=5000)
    return _pipeline(classifier, num_classes)


def build_svm(
    input_shape: tuple,
    num_classes: int,
    *,
    kernel: Literal["rbf", "linear"] = "rbf",
    regularisation: Regularisation = 1.0,
) -> Pipeline:
    """Build one machine per class; the softmax of their margins is not calibrated."""
    machine = SVC(kernel=kernel, C=regularisation)
    return _pipeline(OneVsRestClassifier(machine), num_classes)


def clip_statistics(clips: np.ndarray) -> np.ndarray:
    """Return mean and deviation of every coefficient and of its change, (n, 4 c).

    A single frame is taken as it is: (n, c).
    """
    if clips.shape[1] == 1:
        return clips[:, 0]
    rows = []
    for clip in clips:
        values = clip.astype(np.float64)
        change = np.diff(values, axis=0, prepend=values[:1])
        parts = [values.mean(0), values.std(0), change.mean(0), change.std(0)]
        rows.append(np.concatenate(parts))
    return np.array(rows)


def predict(pipeline: Pipeline, clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return class probabilities (n, classes) and embeddings (n, width), float32."""
    embeddings, classifier = pipeline[:-1].transform(clips), pipeline[-1]
    if hasattr(classifier, "predict_proba"):
        found = classifier.predict_proba(embeddings)
    else:
        margins = classifier.decision_function(embeddings)
        if margins.ndim == 1:  # of two classes, that of the second
            margins = np.stack([-margins, margins], axis=1)
        found = softmax(margins, axis=1)
    # A class without a training clip is never the answer.
    probabilities = np.zeros((len(clips), pipeline.num_classes), np.float32)
    probabilities[:, classifier.classes_] = found
    return probabilities, embeddings.astype(np.float32)


def _pipeline(classifier, num_classes: int) -> Pipeline:
    statistics = FunctionTransformer(clip_statistics)
    pipeline = make_pipeline(statistics, StandardScaler(), classifier)
    pipeline.num_classes = num_classes
    return pipeline
