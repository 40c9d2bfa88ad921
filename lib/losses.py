"""What training minimises, where Keras lacks it."""

from __future__ import annotations

import numpy as np


def smoothed_labels(y: np.ndarray, num_classes: int, smoothing: float) -> np.ndarray:
    """Return one-hot labels with a share spread evenly over all classes.

    y' = (1 - smoothing) * one_hot(y) + smoothing / num_classes, in a new array:
    smoothing in place would add up from fold to fold.

    Args:
        y: Label indices, int, (n,).
        num_classes: Number of classes.
        smoothing: Share in [0, 1).

    Returns:
        float32, (n, num_classes); rows sum to 1.

    >>> smoothed_labels(np.array([1]), 2, 0.1).round(2).tolist()
    [[0.05000000074505806, 0.949999988079071]]
    """
    one_hot = np.eye(num_classes, dtype=np.float32)[y]
    return one_hot * np.float32(1 - smoothing) + np.float32(smoothing / num_classes)
