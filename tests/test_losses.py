"""Losses and schedules are the published ones; `test_promises` trains by them."""

import math

import numpy as np
import pytest

from lib import config, losses


def test_the_focal_loss_of_a_certain_answer_is_a_number():
    certain = np.eye(3, dtype=np.float32)
    assert np.isfinite(np.asarray(losses.focal(0.5)(certain, certain))).all()


def test_light_sernets_schedule_ends_where_its_authors_say():
    share = losses.step()
    assert share(60, []) == 1.0
    assert share(61, []) == share(80, []) == pytest.approx(math.exp(-0.15))
    # 12 drops from 1e-4 in 300 epochs.
    assert 1e-4 * share(300, []) == pytest.approx(1.65e-5, abs=5e-8)


def test_plateau_falls_after_more_than_five_epochs_without_progress():
    for values, drops in (
        ([1] + [2] * 5, 0),  # five bad epochs are let pass
        ([1] + [2] * 12, 2),
        ([1] + [2] * 5 + [0.5] + [2] * 5, 0),  # a better one begins the count anew
        ([1] + [0.99995] * 6, 1),  # better by less than a ten-thousandth is not
    ):
        share, last = losses.plateau(0.25, 5), len(values) + 1
        scored = [{"loss": 9.0 - n, "val_loss": loss} for n, loss in enumerate(values)]
        # Where nobody validates, it watches the loss of training.
        for history in (scored, [{"loss": loss} for loss in values]):
            assert share(last, history) == pytest.approx(0.25**drops)


def test_cosine_rises_in_a_line_and_falls_as_half_a_cosine():
    share = losses.cosine(epochs=40, warm_up=8, floor=0.05)
    for epoch in (1, 4, 8, 9, 20, 39, 40, 45):
        half_turn = math.pi * (min(epoch, 40) - 8) / 32
        fall = 0.05 + 0.95 * (1 + math.cos(half_turn)) / 2
        told = epoch / 8 if epoch <= 8 else fall
        assert share(epoch, []) == pytest.approx(told, abs=1e-6)


def test_a_bad_option_is_named():
    for name, options, message in (
        ("cross_entropy", {"gamma": 1}, "has no option 'gamma'; there are none"),
        ("focal", {"gamma": -1}, "gamma is -1.0; input should be greater"),
        ("step", {"evry": 3}, "schedule 'step' has no option 'evry'.*'every'"),
        ("cosine", {"warm_up": 9, "epochs": 9}, "warm_up is 9, but .* has 9 epochs"),
    ):
        with pytest.raises(ValueError, match=message):
            made = (losses.LOSSES | losses.SCHEDULES)[name]
            config.with_defaults(f"schedule '{name}'", made, options)
