"""The losses are the published formulas; `test_promises` trains by them."""

import numpy as np
import pytest

from lib import losses


def test_focal_loss_of_hard_labels_is_light_sernets_and_without_focus_the_entropy():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(5), 8).astype("f")
    y = np.arange(8) % 5
    hard = np.eye(5, dtype=np.float32)[y]
    of_truth = probabilities[np.arange(8), y].astype(float)
    got = np.asarray(losses.focal(2.0, 1.0)(hard, probabilities))
    np.testing.assert_allclose(got, (1 - of_truth) ** 2 * -np.log(of_truth), rtol=1e-4)
    soft = losses.smoothed_labels(y, 5, 0.1)
    got = np.asarray(losses.focal(0.0, 1.0)(soft, probabilities))
    np.testing.assert_allclose(got, -(soft * np.log(probabilities)).sum(1), rtol=1e-5)
    certain = np.eye(3, dtype=np.float32)
    assert np.isfinite(np.asarray(losses.focal(0.5)(certain, certain))).all()


def test_smoothing_twice_leaves_what_the_report_measured():
    smoothing = losses.effective_smoothing(0.1, {"smooth_twice": True})
    twice = losses.smoothed_labels(np.array([2]), 7, smoothing)[0]
    once = losses.smoothed_labels(np.array([2]), 7, 0.1)[0]
    np.testing.assert_allclose(twice, 0.9 * once + 0.1 / 7, rtol=1e-6)
    assert twice[2] == pytest.approx(0.8371, abs=5e-5)
    assert twice[0] == pytest.approx(0.0271, abs=5e-5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("focal", {"gama": 1}, "loss 'focal' has no option 'gama'.*'gamma'"),
        ("focal", {"gamma": -1}, "gamma is -1.0; input should be greater"),
        ("focal", {"smooth_twice": 1}, "smooth_twice is 1; .* a valid bool"),
        ("margin", {"present": 1.5}, "present is 1.5; input should be less than"),
        ("cross_entropy", {"gamma": 1}, "cross_entropy' has no option 'gamma'"),
    ],
)
def test_a_bad_option_is_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        losses.resolved_options(name, options)
