"""How the step size changes from epoch to epoch.

Each schedule is a function of the epoch and of the figures of the epochs before
it, and of nothing else: a training that was cut off goes on with the step size
it would have had.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence

from lib import config

History = Sequence[Mapping[str, float]]


def constant() -> Callable[[int, History], float]:
    """Return the schedule that leaves the step size alone."""
    return lambda epoch, history: 1.0


def step(
    factor: float = 0.8607079764250578, start: int = 61, every: int = 20
) -> Callable[[int, History], float]:
    """Return a schedule that multiplies by a factor at certain epochs.

    The defaults are Light-SERNet's: exp(-0.15) at its epochs 60, 80, 100, ...,
    which it counts from 0.

    Args:
        factor: The factor, in (0, 1].
        start: First epoch that has the smaller step, from 1.
        every: Epochs between two of them.

    Raises:
        ValueError: If an option is out of range.
    """
    _require_factor(factor)
    _require_whole(start, "start")
    _require_whole(every, "every")

    def share(epoch: int, history: History) -> float:
        drops = 0 if epoch < start else 1 + (epoch - start) // every
        return factor**drops

    return share


def exponential(factor: float = 0.9) -> Callable[[int, History], float]:
    """Return a schedule that multiplies by a factor after every epoch.

    Args:
        factor: The factor, in (0, 1].

    Raises:
        ValueError: If it is out of range.
    """
    _require_factor(factor)
    return lambda epoch, history: factor ** (epoch - 1)


def plateau(factor: float = 0.25, patience: int = 5) -> Callable[[int, History], float]:
    """Return a schedule that falls when the loss has stopped falling.

    It watches the validation loss, or the training loss where nobody validates.
    After more than `patience` epochs that are not better than the best so far
    (by a ten-thousandth of it) the step size is multiplied by the factor and the
    count begins anew: PyTorch's ReduceLROnPlateau, as CkTIM-net uses it.

    Args:
        factor: The factor, in (0, 1].
        patience: Epochs without improvement that are let pass.

    Raises:
        ValueError: If an option is out of range.
    """
    _require_factor(factor)
    _require_whole(patience, "patience")

    def share(epoch: int, history: History) -> float:
        best, waited, drops = float("inf"), 0, 0
        for row in history:
            loss = row.get("val_loss", row["loss"])
            if loss < best * (1 - 1e-4):
                best, waited = loss, 0
                continue
            waited += 1
            if waited > patience:
                drops, waited = drops + 1, 0
        return factor**drops

    return share


def cosine(
    epochs: int = 100, warm_up: int = 5, floor: float = 0.01
) -> Callable[[int, History], float]:
    """Return a schedule that rises in a line, then falls as half a cosine wave.

    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts"
    (2017), equation 5, without restarts; the warm-up is that of Goyal and others,
    "Accurate, large minibatch SGD" (2017), section 2.2.

    Args:
        epochs: Epoch at which the floor is reached; those after it stay there.
        warm_up: Epochs until the full step size.
        floor: Share that is left at the end, in (0, 1].

    Raises:
        ValueError: If an option is out of range.
    """
    _require_whole(epochs, "epochs")
    _require_whole(warm_up, "warm_up")
    _require_factor(floor, "floor")
    if warm_up >= epochs:
        raise ValueError(
            f"schedule_options: warm_up is {warm_up}, but the schedule has {epochs} "
            "epochs; give a smaller warm_up"
        )

    def share(epoch: int, history: History) -> float:
        if epoch <= warm_up:
            return epoch / warm_up
        passed = min((epoch - warm_up) / (epochs - warm_up), 1.0)
        return floor + (1 - floor) * (1 + math.cos(math.pi * passed)) / 2

    return share


SCHEDULES: Mapping[str, Callable[..., Callable[[int, History], float]]] = {
    "constant": constant,
    "step": step,
    "exponential": exponential,
    "plateau": plateau,
    "cosine": cosine,
}


def resolved_options(
    name: str, chosen: Mapping[str, object], epochs: int
) -> dict[str, object]:
    """Return the options of a schedule, the defaults filled in.

    Args:
        name: The schedule.
        chosen: Options that replace a default.
        epochs: Length of the training, for a schedule that has to know it.

    Raises:
        ValueError: If it has no such option, or a value is out of range.
    """
    if "epochs" in inspect.signature(SCHEDULES[name]).parameters:
        chosen = {"epochs": epochs, **chosen}
    options = config.with_defaults(f"schedule '{name}'", SCHEDULES[name], chosen)
    SCHEDULES[name](**options)
    return options


def _require_factor(value: object, name: str = "factor") -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value <= 1:
        raise ValueError(
            f"schedule_options: {name} is {value!r}; give a number above 0, at most 1"
        )


def _require_whole(value: object, name: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"schedule_options: {name} is {value!r}; give a whole number from 1"
        )
