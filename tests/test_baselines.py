"""The baselines answer as scikit-learn does; the small networks are what they say."""

import numpy as np
import pytest
from references import clips as random_clips
from references import inside, randomise
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from lib import models
from lib.models.baselines import clip_statistics
from lib.models.small import build_cnn, build_gru


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 15)
    clips = rng.normal(size=(60, 12, 3)) + 0.7 * rng.normal(size=(4, 1, 3))[y]
    return clips.astype(np.float32), y


def statistics(clips):
    """Return mean and sd of values and changes, by their formulas."""
    values = clips.astype(np.float64)
    change = np.zeros_like(values)
    change[:, 1:] = values[:, 1:] - values[:, :-1]
    parts = []
    for each in (values, change):
        mean = each.sum(axis=1) / each.shape[1]
        square = (each**2).sum(axis=1) / each.shape[1]
        parts += [mean, np.sqrt(square - mean**2)]
    return np.hstack(parts)


def fitted(name, clips, y, classes, **options):
    return models.build_model(name, clips.shape[1:], classes, **options).fit(clips, y)


def test_statistics_are_their_formulas_and_standardised_the_embedding(data):
    clips, y = data
    np.testing.assert_allclose(clip_statistics(clips), statistics(clips), atol=1e-9)
    np.testing.assert_array_equal(clip_statistics(clips[:, :1]), clips[:, 0])
    _, embedding = models.predict(fitted("svm", clips, y, 4), clips)
    wanted = StandardScaler().fit_transform(statistics(clips))
    np.testing.assert_allclose(embedding, wanted, atol=1e-5)


def test_majority_gives_the_shares_of_the_training_side(data):
    clips, y = data
    y = np.where(y == 3, 0, y)
    probabilities, _ = models.predict(fitted("majority", clips, y, 4), clips)
    np.testing.assert_allclose(probabilities, [[0.5, 0.25, 0.25, 0]] * 60)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_margins_are_those_of_one_machine_per_class(data, kernel, classes):
    clips, y = data
    clips, y = clips[y < classes], y[y < classes]
    model = fitted("svm", clips, y, classes, kernel=kernel, regularisation=2.0)
    vectors = StandardScaler().fit_transform(statistics(clips))
    margins = [
        SVC(kernel=kernel, C=2.0).fit(vectors, y == index).decision_function(vectors)
        for index in range(classes)
    ]
    powers = np.exp(np.transpose(margins))
    wanted = powers / powers.sum(axis=1, keepdims=True)
    # libsvm stops at violations of 1e-3, and two classes share one machine.
    np.testing.assert_allclose(models.predict(model, clips)[0], wanted, atol=1e-3)


@pytest.mark.parametrize("name", ["majority", "logistic", "svm"])
def test_a_class_nobody_trained_on_has_no_probability(data, name):
    clips, y = data
    for left in ([0, 1, 3], [1, 3]):
        kept = np.isin(y, left)
        model = fitted(name, clips[kept], y[kept], 4)
        probabilities, _ = models.predict(model, clips)
        assert np.flatnonzero(probabilities.any(axis=0)).tolist() == left
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_the_cnn_averages_its_last_block_and_the_gru_its_states():
    model = build_cnn((None, 5), 3, filters=6)
    randomise(model)
    names = ("conv_1", "conv_2", "conv_3", "normalisation_3", "embedding")
    *convolved, last, embedding = inside(model, random_clips(13, 5), *names)
    assert [part.shape[1] for part in convolved] == [13, 7, 4]
    wanted = np.maximum(last, 0).mean(axis=1)
    np.testing.assert_allclose(embedding, wanted, atol=1e-5)
    model = build_gru((None, 5), 3, units=6)
    randomise(model)
    states, found = inside(model, random_clips(13, 5), "recurrent", "embedding")
    assert states.shape == (4, 13, 12)
    np.testing.assert_allclose(found, states.mean(axis=1), atol=1e-5)
