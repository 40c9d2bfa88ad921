"""How the learning rate changes from epoch to epoch.

A schedule is a function of the epoch and the metrics of the epochs before it alone: a
training that was cut off goes on with the rate it would have had.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, validate_call

from lib import config

# From epoch and history to the share of the learning rate.
Schedule = Callable[[int, Sequence[Mapping[str, float]]], float]
Factor = Annotated[float, Field(gt=0, le=1)]
Epochs = Annotated[int, Field(ge=1)]
checked = validate_call(config={"strict": True})


def constant() -> Schedule:
    """Leave the learning rate alone."""
    return lambda epoch, history: 1.0


@checked
def step(
    factor: Factor = 0.8607079764250578, start: Epochs = 61, every: Epochs = 20
) -> Schedule:
    """Multiply by a factor at epoch `start` and `every` so often."""
    # Light-SERNet's: exp(-0.15) at its epochs 60, 80, ..., which it counts from 0.
    return lambda epoch, history: factor ** max(0, 1 + (epoch - start) // every)


@checked
def exponential(factor: Factor = 0.9) -> Schedule:
    """Multiply by a factor after every epoch."""
    return lambda epoch, history: factor ** (epoch - 1)


@checked
def plateau(factor: Factor = 0.25, patience: Epochs = 5) -> Schedule:
    """Multiply by a factor after more than `patience` epochs without a better loss."""

    # PyTorch's ReduceLROnPlateau, as CkTIM-net uses it.
    def share(epoch: int, history: Sequence[Mapping[str, float]]) -> float:
        best, waited, drops = math.inf, 0, 0
        for row in history:
            loss = row.get("val_loss", row["loss"])
            if loss < best * (1 - 1e-4):
                best, waited = loss, 0
            elif waited == patience:
                drops, waited = drops + 1, 0
            else:
                waited += 1
        return factor**drops

    return share


@checked
def cosine(epochs: Epochs = 100, warm_up: Epochs = 5, floor: Factor = 0.01) -> Schedule:
    """Rise in a line, then fall to `floor` as half a cosine wave.

    Loshchilov and Hutter, "SGDR" (2017), equation 5, without restarts; the warm-up is
    that of Goyal and others, "Accurate, large minibatch SGD" (2017), section 2.2.
    """
    if warm_up >= epochs:
        raise ValueError(
            f"schedule_options: warm_up is {warm_up}, but the schedule has {epochs} "
            "epochs; give a smaller warm_up"
        )

    def share(epoch: int, history: object) -> float:
        passed = min((epoch - warm_up) / (epochs - warm_up), 1.0)
        wave = floor + (1 - floor) * (1 + math.cos(math.pi * passed)) / 2
        return epoch / warm_up if epoch <= warm_up else wave

    return share


SCHEDULES = {made.__name__: made for made in (constant, step, exponential, plateau)}
SCHEDULES["cosine"] = cosine


def resolved_options(
    name: str, chosen: Mapping[str, Any], epochs: int
) -> dict[str, Any]:
    """Return the options of a schedule for a training of so many epochs."""
    if "epochs" in inspect.signature(SCHEDULES[name]).parameters:
        chosen = {"epochs": epochs, **chosen}
    return config.with_defaults(f"schedule '{name}'", SCHEDULES[name], chosen)
