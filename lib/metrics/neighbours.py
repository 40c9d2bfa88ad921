"""Who lies beside whom in a space of embeddings."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors


def neighbourhood_purity(
    z: np.ndarray, labels: np.ndarray, neighbours: int = 10
) -> float:
    """Return the share of nearest neighbours that carry the same label.

    Unlike the look of a t-SNE map it can be taken in the original space too, and
    for emotions and speakers alike.

    Args:
        z: Embeddings, (n, width).
        labels: Emotion or speaker of every row, (n,).
        neighbours: How many neighbours of each point count (Euclidean
            distance, the point itself left out).

    Returns:
        Mean share, 0 to 1; to be read against `purity_by_chance`.

    Raises:
        ValueError: If there are not more points than neighbours, or the lengths
            differ.
    """
    z, labels = np.asarray(z), np.asarray(labels)
    if len(z) != len(labels):
        raise ValueError(f"there are {len(z)} points but {len(labels)} labels")
    if not 0 < neighbours < len(z):
        raise ValueError(
            f"neighbours is {neighbours}, but each of {len(z)} points has "
            f"{len(z) - 1} others; give a number from 1 to {len(z) - 1}"
        )
    fitted = NearestNeighbors(n_neighbors=neighbours).fit(z)
    near = fitted.kneighbors(return_distance=False)  # of the fitted: never itself
    return float(np.mean(labels[near] == labels[:, None]))


def purity_by_chance(labels: np.ndarray) -> float:
    """Return the purity to expect if labels were dealt to points at random.

    Args:
        labels: Emotion or speaker of every point, (n,), n at least 2.

    Returns:
        The probability that two different points carry the same label.

    Raises:
        ValueError: If there are fewer than two points.
    """
    counts = np.unique(labels, return_counts=True)[1].astype(float)
    n = counts.sum()
    if n < 2:
        raise ValueError("purity needs two points at least")
    return float((counts * (counts - 1)).sum() / (n * (n - 1)))
