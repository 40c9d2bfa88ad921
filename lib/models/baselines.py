"""Baselines on the statistics of a clip: scikit-learn pipelines a network has to beat.

Their steps are clip statistics, standardisation (whose output is the embedding) and a
classifier.
"""

from __future__ import annotations

from collections.abc import Sequence
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

Shape = Sequence[int | None]
# Inverse strength C of the penalty; less is simpler.
Regularisation = Annotated[float, Field(ge=1e-9, le=1e9)]


def build_majority(input_shape: Shape, num_classes: int) -> Pipeline:
    """Build the system that answers with the class shares of the training clips."""
    return _pipeline(DummyClassifier(strategy="prior"), num_classes)


def build_logistic(
    input_shape: Shape, num_classes: int, *, regularisation: Regularisation = 0.1
) -> Pipeline:
    """Build logistic regression with an L2 penalty."""
    classifier = LogisticRegression(C=regularisation, max_iter=5000)
    return _pipeline(classifier, num_classes)


def build_svm(
    input_shape: Shape,
    num_classes: int,
    *,
    kernel: Literal["rbf", "linear"] = "rbf",
    regularisation: Regularisation = 1.0,
) -> Pipeline:
    """Build support vector machines, one per class against the rest.

    Their probabilities are the softmax of the machines' margins: the largest margin
    wins, but nobody calibrated the numbers.
    """
    machine = SVC(kernel=kernel, C=regularisation)
    return _pipeline(OneVsRestClassifier(machine), num_classes)


def clip_statistics(clips: np.ndarray) -> np.ndarray:
    """Return what clips are like on the whole: (n, frames, c) to (n, 4 c).

    Mean and standard deviation over time of every coefficient, then of its change
    from one frame to the next. A single frame is taken as it is: (n, c).
    """
    if clips.shape[1] == 1:
        return clips[:, 0]
    rows = []
    for clip in clips:
        clip = clip.astype(np.float64)  # noqa: PLW2901
        change = np.diff(clip, axis=0, prepend=clip[:1])
        parts = [clip.mean(0), clip.std(0), change.mean(0), change.std(0)]
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
