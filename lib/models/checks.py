"""Options out of range are named, with what is allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence


def check_whole(system: str, name: str, value: object, low: int, high: int) -> None:
    """Raise ValueError unless a value is a whole number from `low` to `high`."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not low <= value <= high:
        _refuse(system, name, value, f"a whole number from {low} to {high}")


def check_number(
    system: str, name: str, value: object, low: float, high: float
) -> None:
    """Raise ValueError unless a value is a number from `low` to `high`."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        _refuse(system, name, value, f"a number from {low:g} to {high:g}")


def check_share(system: str, name: str, value: object) -> None:
    """Raise ValueError unless a value is a number in [0, 1)."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < 1:
        _refuse(system, name, value, "0 to below 1")


def check_choice(
    system: str, name: str, value: object, allowed: Sequence[object]
) -> None:
    """Raise ValueError unless a value is one of those allowed."""
    if value not in allowed:
        _refuse(system, name, value, f"one of {', '.join(map(repr, allowed))}")


def check_switch(system: str, **values: object) -> None:
    """Raise ValueError unless all values are True or False."""
    for name, value in values.items():
        if not isinstance(value, bool):
            _refuse(system, name, value, "True or False")


def _refuse(system: str, name: str, value: object, allowed: str) -> None:
    raise ValueError(f"{system} option '{name}': {value!r}; give {allowed}")
