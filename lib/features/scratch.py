"""Memory that a thread uses again for every clip.

An operating system hands out large arrays as fresh pages and clears each of them:
a third of the time of an extraction, during which other threads wait.
"""

from __future__ import annotations

import math
import threading

import numpy as np

LARGEST = 16 * 2**20  # bytes kept under a name; what is larger comes and goes as usual


class _Kept(threading.local):
    """The memory of one thread, by name."""

    def __init__(self) -> None:
        self.blocks: dict[str, np.ndarray] = {}


_kept = _Kept()


def scratch(
    name: str, shape: tuple[int, ...], dtype: np.typing.DTypeLike
) -> np.ndarray:
    """Return an array to write to, its content whatever was left there.

    It is overwritten as soon as the same thread asks for the same name: never
    return it, or a view of it, to a caller that may keep it.

    Args:
        name: What it is for.
        shape: Shape of the array.
        dtype: Type of its numbers.
    """
    needed = math.prod(shape) * np.dtype(dtype).itemsize
    if needed > LARGEST:
        return np.empty(shape, dtype)
    block = _kept.blocks.get(name)
    if block is None or len(block) < needed:
        block = _kept.blocks[name] = np.empty(needed, np.uint8)
    return block[:needed].view(dtype).reshape(shape)
