"""The losses are the published formulas."""

import math

import numpy as np
import pytest

from lib import losses


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    labels = losses.smoothed_labels(rng.integers(0, 5, 8), 5, 0.1)
    probabilities = rng.dirichlet(np.ones(5), 8).astype(np.float32)
    return labels, probabilities


def test_focal_loss_is_the_reports_formula_clip_by_clip(pair):
    got = np.asarray(losses.focal(gamma=2.0, alpha=0.25)(*pair))
    for q, p, value in zip(*pair, got, strict=True):
        p_t = sum(float(a) * float(b) for a, b in zip(q, p, strict=True))
        entropy = -sum(float(a) * math.log(float(b)) for a, b in zip(q, p, strict=True))
        assert value == pytest.approx(0.25 * (1 - p_t) ** 2 * entropy, rel=1e-4)


def test_focal_loss_of_hard_labels_is_light_sernets(pair):
    _, probabilities = pair
    y = np.arange(8) % 5
    got = np.asarray(losses.focal(2.0, 1.0)(np.eye(5, dtype="f")[y], probabilities))
    of_truth = probabilities[np.arange(8), y].astype(float)
    wanted = (1 - of_truth) ** 2 * -np.log(of_truth)
    np.testing.assert_allclose(got, wanted, rtol=1e-4)


def test_focal_loss_without_focus_is_the_cross_entropy(pair):
    got = np.asarray(losses.focal(0.0, 1.0)(*pair))
    np.testing.assert_allclose(
        got, np.asarray(losses.cross_entropy()(*pair)), rtol=1e-5
    )


def test_focal_loss_is_a_number_where_the_network_is_certain():
    certain = np.eye(3, dtype=np.float32)
    assert np.isfinite(np.asarray(losses.focal(0.5)(certain, certain))).all()


def test_smoothing_twice_leaves_what_the_report_measured():
    smoothing = losses.effective_smoothing(0.1, {"smooth_twice": True})
    twice = losses.smoothed_labels(np.array([2]), 7, smoothing)[0]
    once = losses.smoothed_labels(np.array([2]), 7, 0.1)[0]
    np.testing.assert_allclose(twice, 0.9 * once + 0.1 / 7, rtol=1e-6)
    assert twice[2] == pytest.approx(0.8371, abs=5e-5)
    assert twice[0] == pytest.approx(0.0271, abs=5e-5)


def test_margin_loss_is_the_capsules_formula(pair):
    labels, probabilities = pair
    got = np.asarray(losses.margin()(labels, probabilities))
    for row in range(8):
        wanted = 0.0
        for q, p in zip(labels[row], probabilities[row], strict=True):
            wanted += q * max(0.0, 0.9 - p) ** 2
            wanted += 0.5 * (1 - q) * max(0.0, p - 0.1) ** 2
        assert got[row] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("focal", {"gama": 1}, "loss 'focal' has no option 'gama'.*'gamma'"),
        ("focal", {"gamma": -1}, "gamma is -1.0; give a number from 0"),
        ("focal", {"smooth_twice": 1}, "smooth_twice is 1; give True or False"),
        ("margin", {"present": 1.5}, "present is 1.5; give a number from 0 to 1"),
        ("cross_entropy", {"gamma": 1}, "cross_entropy' has no option 'gamma'"),
    ],
)
def test_a_bad_option_is_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        losses.resolved_options(name, options)
