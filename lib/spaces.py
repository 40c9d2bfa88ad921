"""Held-out embeddings, their pictures in the plane, and which clips are neighbours.

Every fold has a network of its own, and no two networks lay out their embedding
space alike. So everything here is taken inside single folds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from lib import metrics, runs

NEIGHBOURS = 5
FEWEST_POINTS = NEIGHBOURS + 1


def held_out(folders: runs.RunFolders) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the predictions of a finished run and the embedding behind every one.

    Returns:
        The predictions and the embeddings (n, width), row by row the same clips.

    Raises:
        FileNotFoundError: If one of the two files is missing.
        ValueError: If the embeddings are damaged, or those of other predictions.
    """
    predictions = runs.read_predictions(folders.predictions)
    path = folders.embeddings
    again = "run 02_train again with overwrite=True (03_test for official weights)"
    if not path.is_file():
        raise FileNotFoundError(f"no embeddings at {path}; {again}")
    runs.require_unchanged(path)
    try:
        with np.load(path, allow_pickle=False) as saved:
            file, fold, z = (saved[name] for name in ("file", "fold", "z"))
    except Exception as error:  # NumPy and zipfile raise what they meet in a bad file
        raise ValueError(f"{path} is damaged; {again}") from error
    same = np.array_equal(file, predictions["file"].to_numpy(str))
    if not (same and np.array_equal(fold, predictions["fold"]) and len(z) == len(file)):
        raise ValueError(f"{path} holds other clips than predictions.csv; {again}")
    return predictions, z


def standardised(z: np.ndarray) -> np.ndarray:
    """Return points (n, width) with mean 0 and standard deviation 1 in each column."""
    return StandardScaler().fit_transform(np.asarray(z, np.float64))


def pca(z: np.ndarray) -> np.ndarray:
    """Return the projection (n, 2) of standardised points that keeps most variance."""
    _require_points(z)
    return PCA(2).fit_transform(standardised(z))


def tsne(
    z: np.ndarray, *, perplexity: float = 30.0, seed: int = 0, start: str = "pca"
) -> np.ndarray:
    """Return a t-SNE map of standardised points (van der Maaten and Hinton, 2008).

    Args:
        z: Points, (n, width), not yet standardised.
        perplexity: Roughly how many neighbours each point tries to keep; at most
            (n - 1) / 3 are used, as there have to be others to keep away from.
        seed: Seed of the start, where that is random.
        start: "pca", the same for every seed, or "random".

    Returns:
        Points, (n, 2), without unit or direction.
    """
    _require_points(z)
    if start not in ("pca", "random") or not perplexity > 0:
        raise ValueError(
            f"start is '{start}' and perplexity {perplexity}; give 'pca' or 'random', "
            "and a number above 0"
        )
    perplexity = min(perplexity, (len(z) - 1) / 3)
    fitted = TSNE(perplexity=perplexity, init=start, random_state=seed)
    # Of a few hundred points, threads wait for each other more than they work.
    with threadpool_limits(1):
        return fitted.fit_transform(standardised(z))


def each_fold(
    project: Callable[[np.ndarray], np.ndarray], z: np.ndarray, fold: np.ndarray
) -> np.ndarray:
    """Return what a function makes of the points of every fold taken alone.

    Args:
        project: From points (n, width) to points (n, any width).
        z: Points of all folds, (n, width).
        fold: Fold of every row, (n,).

    Returns:
        Points in the order of `z`; NaN in folds that are too small.
    """
    fold = np.asarray(fold)
    large = [n for n in np.unique(fold) if (fold == n).sum() >= FEWEST_POINTS]
    if not large:
        _require_points(z[fold == fold[0]])
    parts = {number: project(z[fold == number]) for number in large}
    result = np.full((len(z), parts[large[0]].shape[1]), np.nan)
    for number, points in parts.items():
        result[fold == number] = points
    return result


def purities(
    spaces: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    fold: np.ndarray,
    neighbours: int = NEIGHBOURS,
) -> pd.DataFrame:
    """Return the neighbourhood purity of every space, fold by fold.

    Args:
        spaces: Points (n, width) by name of the space; taken as they are.
        labels: Labels (n,) by kind, e.g. "emotion" and "speaker".
        fold: Fold of every row, (n,).
        neighbours: How many neighbours of each point count.

    Returns:
        Columns fold, space, kind, purity, chance. A kind of which all clips of
        a fold have the same label is left out there, as every neighbour is
        alike; so is a fold with no more clips than neighbours.
    """
    rows = []
    for number in np.unique(fold):
        here = np.asarray(fold) == number
        for kind, column in labels.items():
            names = np.asarray(column)[here]
            if here.sum() <= neighbours or len(np.unique(names)) < 2:
                continue
            chance = metrics.purity_by_chance(names)
            for space, z in spaces.items():
                purity = metrics.neighbourhood_purity(z[here], names, neighbours)
                rows.append((int(number), space, kind, purity, chance))
    return pd.DataFrame(rows, columns=["fold", "space", "kind", "purity", "chance"])


def _require_points(z: np.ndarray) -> None:
    if len(z) < FEWEST_POINTS:
        raise ValueError(
            f"{len(z)} points are too few for a picture; {FEWEST_POINTS} are needed. "
            "Take a protocol with fewer folds, or more data."
        )
