"""The compiled step: rows that fill up a batch count for nothing."""

from functools import partial

import keras
import numpy as np
import pytest

from lib import models
from lib.losses import cross_entropy
from lib.models.layers import batch_moments, real_rows
from lib.training.program import Program, Recipe
from lib.training.step import batches, make_step

PLAIN = {
    "timnet": {"filters": 6, "dilations": 2, "dropout": 0.0},
    "cnn": {"dropout": 0.0, "filters": 8},
    "light_sernet": {"dropout": 0.0, "width": 0.25},
}


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    clips = rng.normal(size=(27, 24, 12)).astype(np.float32)
    return clips, np.eye(3, dtype=np.float32)[rng.integers(0, 3, 27)]


def test_batches_hold_every_clip_once_and_fill_up_with_weight_zero():
    clips = np.arange(7, dtype=np.float32).reshape(7, 1, 1)
    labels = np.arange(7, dtype=np.float32)[:, None]
    order = np.array([3, 1, 6, 0, 2, 5, 4])
    found = list(batches(clips, labels, order, 3))
    assert [batch[0].shape for batch in found] == [(3, 1, 1)] * 3
    x, y, weights = (np.concatenate(part) for part in zip(*found, strict=True))
    assert weights.tolist() == [1] * 7 + [0, 0]
    assert x[weights == 1].ravel().tolist() == order.tolist()
    np.testing.assert_array_equal(x.ravel(), y.ravel())


def test_moments_are_those_of_the_real_rows_alone():
    values = np.random.default_rng(0).normal(3, 2, size=(2, 5, 7, 4)).astype("f")
    weights = np.array([1, 1, 0, 1, 0], np.float32)
    with real_rows(weights):
        mean, variance = batch_moments(values, 1, (2,))
    real = values[:, weights == 1].astype(np.float64)
    np.testing.assert_allclose(mean[:, 0, 0], real.mean(axis=(1, 2)), atol=1e-5)
    np.testing.assert_allclose(variance[:, 0, 0], real.var(axis=(1, 2)), atol=1e-4)


@pytest.mark.parametrize("name", PLAIN)
def test_an_epoch_is_that_of_keras_with_a_smaller_last_batch(data, name):
    clips, labels = data
    keras.utils.set_random_seed(46)
    network = models.build_model(name, (24, 12), 3, **PLAIN[name])
    twin = keras.models.clone_model(network)
    twin.set_weights(network.get_weights())
    optimizer = keras.optimizers.SGD(0.05)
    optimizer.build(network.trainable_variables)
    step = make_step(network, optimizer, cross_entropy(), 3, fused=False)
    twin.compile(
        keras.optimizers.SGD(0.05), "categorical_crossentropy", jit_compile=False
    )
    for epoch in range(2):
        order = np.random.default_rng(epoch).permutation(27)
        loss, counts = step.epoch(batches(clips, labels, order, 8))
        history = twin.fit(
            clips[order], labels[order], batch_size=8, shuffle=False, verbose=0
        )
        assert loss == pytest.approx(history.history["loss"][0], abs=1e-5)
        assert counts.sum() == 27
        np.testing.assert_array_equal(counts.sum(axis=1), labels.sum(axis=0))
    for ours, theirs in zip(network.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_what_fills_up_a_batch_changes_nothing(data):
    clips, labels = data
    network = models.build_model("timnet", (24, 12), 3, **PLAIN["timnet"])
    before = network.get_weights()
    optimizer = keras.optimizers.SGD(0.05)
    optimizer.build(network.trainable_variables)
    step = make_step(network, optimizer, cross_entropy(), 3, fused=False)
    results = []
    for filler in (0.0, 1e3):
        network.set_weights(before)
        x, weights = clips[:8].copy(), np.array([1] * 5 + [0] * 3, np.float32)
        x[5:] = filler
        results.append((step.epoch([(x, labels[:8], weights)]), network.get_weights()))
    (one, other) = results
    assert one[0][0] == pytest.approx(other[0][0], abs=1e-6)
    for left, right in zip(one[1], other[1], strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)


def test_averages_that_keras_names_otherwise_are_not_taken_for_none(monkeypatch):
    recipe = Recipe(1, 4, 0.05, 0.9, 0.99, 1e-8, 0.0, fused=False, weight_average=0.7)
    build = partial(models.build_model, "timnet", (12, 5), 3, dilations=2, filters=5)
    program = Program(build, recipe, 3)
    program.reset(1)
    averages, _ = program.answering(program.values())
    assert len(averages) == len(program.network.trainable_variables)
    # Every variable of the optimiser under a name without its kind.
    kind = type(program._optimizer.variables[0])
    monkeypatch.setattr(kind, "name", "variable")
    with pytest.raises(RuntimeError, match="averaged weights"):
        program.answering(program.values())
