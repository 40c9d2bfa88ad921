"""The step size falls as published."""

import math

import keras
import pytest

from lib import schedules


def test_light_sernets_schedule_ends_where_its_authors_say():
    share = schedules.step()
    assert share(60, []) == 1.0
    assert share(61, []) == share(80, []) == pytest.approx(math.exp(-0.15))
    # 12 drops from 1e-4 in 300 epochs.
    assert 1e-4 * share(300, []) == pytest.approx(1.65e-5, abs=5e-8)


def test_exponential_is_a_power_of_the_epochs_before():
    share = schedules.exponential(0.5)
    assert [share(epoch, []) for epoch in (1, 2, 4)] == [1.0, 0.5, 0.125]


@pytest.mark.parametrize(
    ("losses", "drops"),
    [
        ([5, 4, 3, 2], 0),
        ([1] + [2] * 5, 0),  # five bad epochs are let pass
        ([1] + [2] * 6, 1),
        ([1] + [2] * 12, 2),
        ([1] + [2] * 5 + [0.5] + [2] * 5, 0),  # a better one begins the count anew
        ([1] + [0.99995] * 6, 1),  # better by less than a ten-thousandth is not
    ],
)
def test_plateau_falls_after_more_than_five_epochs_without_progress(losses, drops):
    share, last = schedules.plateau(0.25, 5), len(losses) + 1
    validated = [{"loss": 9.0 - n, "val_loss": loss} for n, loss in enumerate(losses)]
    # Where nobody validates, it watches the loss of training.
    for history in (validated, [{"loss": loss} for loss in losses]):
        assert share(last, history) == pytest.approx(0.25**drops)


def test_cosine_is_keras_cosine_between_the_epochs_it_shares_with_it():
    share = schedules.cosine(epochs=40, warm_up=8, floor=0.05)
    other = keras.optimizers.schedules.CosineDecay(
        0.0, decay_steps=32, alpha=0.05, warmup_target=1.0, warmup_steps=8
    )
    for epoch in (1, 4, 8, 9, 20, 39, 40, 45):
        assert share(epoch, []) == pytest.approx(float(other(epoch)), abs=1e-6)
    # It ends with the training, unless told otherwise.
    assert schedules.resolved_options("cosine", {}, 60)["epochs"] == 60
    assert schedules.resolved_options("cosine", {"epochs": 9}, 60)["epochs"] == 9
    assert "epochs" not in schedules.resolved_options("plateau", {}, 60)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("step", {"evry": 3}, "schedule 'step' has no option 'evry'.*'every'"),
        ("step", {"start": 0}, "start is 0; input should be greater"),
        ("exponential", {"factor": 0}, "factor is 0.0; input should be greater"),
        ("plateau", {"patience": 1.5}, "patience is 1.5; input should be a valid int"),
        ("constant", {"factor": 0.1}, "schedule 'constant' has no option"),
        ("cosine", {"floor": 0}, "floor is 0.0; input should be greater"),
        ("cosine", {"warm_up": 9, "epochs": 9}, "warm_up is 9, but .* has 9 epochs"),
        ("cosine", {"warm_up": 0}, "warm_up is 0; input should be greater"),
    ],
)
def test_a_bad_option_is_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        schedules.resolved_options(name, options, 100)
