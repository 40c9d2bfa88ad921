"""The classical baselines answer as scikit-learn does."""

import keras
import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from lib import models


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 15)
    clips = rng.normal(size=(60, 12, 3)) + 0.7 * rng.normal(size=(4, 1, 3))[y]
    return clips.astype(np.float32), y


def statistics(clips):
    """Return mean and sd of values and changes, clip by clip."""
    rows = []
    for clip in clips.astype(np.float64):
        change = np.vstack([np.zeros(clip.shape[1]), np.diff(clip, axis=0)])
        rows.append(
            np.hstack([clip.mean(0), clip.std(0), change.mean(0), change.std(0)])
        )
    return np.array(rows)


def test_statistics_are_those_of_numpy(data):
    clips, _ = data
    network = models.build_model("logistic", (None, 3), 4)
    inside = keras.Model(network.input, network.get_layer("statistics").output)
    np.testing.assert_allclose(inside(clips), statistics(clips), atol=1e-5)


def test_features_without_time_are_taken_as_they_are():
    vectors = np.random.default_rng(0).normal(size=(5, 1, 7)).astype(np.float32)
    network = models.build_model("svm", (1, 7), 2)
    inside = keras.Model(network.input, network.get_layer("statistics").output)
    np.testing.assert_allclose(inside(vectors), vectors[:, 0])


def test_majority_gives_the_shares_of_the_training_side(data):
    clips, y = data
    y = np.where(y == 3, 0, y)
    probabilities, _ = models.predict(models.fit("majority", clips, y, 4), clips)
    wanted = DummyClassifier(strategy="prior").fit(clips[:, 0], y).predict_proba(clips)
    np.testing.assert_allclose(probabilities[:, :3], wanted, atol=1e-6)
    assert not probabilities[:, 3].any()


@pytest.mark.parametrize("classes", [2, 4])
def test_logistic_regression_is_scikit_learns(data, classes):
    clips, y = data
    kept = y < classes
    network = models.fit("logistic", clips[kept], y[kept], classes, regularisation=0.3)
    probabilities, _ = models.predict(network, clips)
    peer = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=5000))
    peer.fit(statistics(clips[kept]), y[kept])
    wanted = peer.predict_proba(statistics(clips))
    np.testing.assert_allclose(probabilities, wanted, atol=1e-3)


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_margins_are_those_of_one_machine_per_class(data, kernel):
    clips, y = data
    network = models.fit("svm", clips, y, 4, kernel=kernel, regularisation=2.0)
    probabilities, _ = models.predict(network, clips)
    scaler = StandardScaler().fit(statistics(clips))
    vectors = scaler.transform(statistics(clips))
    margins = [
        SVC(kernel=kernel, C=2.0, gamma="scale")
        .fit(vectors, y == index)
        .decision_function(vectors)
        for index in range(4)
    ]
    exponents = np.exp(np.transpose(margins))
    wanted = exponents / exponents.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, wanted, atol=1e-3)


@pytest.mark.parametrize("name", ["majority", "logistic", "svm"])
def test_a_class_nobody_trained_on_is_never_the_answer(data, name):
    clips, y = data
    network = models.fit(name, clips[y != 2], y[y != 2], 4)
    probabilities, _ = models.predict(network, clips)
    assert 2 not in probabilities.argmax(axis=1)


@pytest.mark.parametrize(
    ("name", "option", "value", "message"),
    [
        ("svm", "kernel", "poly", "svm option 'kernel': 'poly'; give one of 'rbf'"),
        ("svm", "regularisation", 0, "'regularisation': 0; give a number from"),
        ("logistic", "regularisation", "x", "'regularisation': 'x'"),
        ("majority", "kernel", "rbf", "majority has no option 'kernel'"),
    ],
)
def test_a_bad_option_is_named(name, option, value, message):
    with pytest.raises(ValueError, match=message):
        models.build_model(name, (None, 3), 4, **{option: value})
