"""Held-out embeddings, their pictures in the plane, and who neighbours whom.

Every fold has a network of its own, and no two networks lay out their embedding
space alike. So everything here is taken inside single folds.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from lib import metrics, runs
from lib.runs import RunFolders

NEIGHBOURS = 5
FEWEST_POINTS = NEIGHBOURS + 1


def held_out(folders: RunFolders) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the predictions of a run and the embedding behind every one of them.

    Args:
        folders: A finished run.

    Returns:
        The predictions and the embeddings (n, width), row by row the same clips.

    Raises:
        FileNotFoundError: If one of the two files is missing.
        ValueError: If the embeddings are damaged, or those of other predictions.
    """
    predictions = runs.predictions.read(folders.predictions)
    path = folders.embeddings
    again = "run 02_train again with overwrite=True (03_test for official weights)"
    if not path.is_file():
        raise FileNotFoundError(f"no embeddings at {path}; {again}")
    runs.predictions.require_unchanged(path)
    try:
        with np.load(path, allow_pickle=False) as saved:
            file, fold, z = (saved[name] for name in ("file", "fold", "z"))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged; {again}") from error
    same = (
        len(z) == len(predictions)
        and np.array_equal(file, predictions["file"].to_numpy(str))
        and np.array_equal(fold, predictions["fold"])
    )
    if not same:
        raise ValueError(f"{path} holds other clips than predictions.csv; {again}")
    return predictions, z


def standardised(z: np.ndarray) -> np.ndarray:
    """Return the points with mean 0 and deviation 1 in every dimension.

    Args:
        z: Points, (n, width); a dimension that never varies becomes 0.
    """
    return StandardScaler().fit_transform(np.asarray(z, np.float64))


def explained_variance(z: np.ndarray) -> np.ndarray:
    """Return which share of the variance each principal axis carries, largest first.

    Args:
        z: Points, (n, width), not yet standardised.
    """
    return PCA().fit(standardised(z)).explained_variance_ratio_


def pca(z: np.ndarray) -> np.ndarray:
    """Return the flat shadow of standardised points that keeps the most variance.

    Args:
        z: Points, (n, width), not yet standardised.

    Returns:
        Points, (n, 2).

    Raises:
        ValueError: If there are too few points.
    """
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

    Raises:
        ValueError: If there are too few points, or a value is out of range.
    """
    _require_points(z)
    if start not in ("pca", "random") or not perplexity > 0:
        raise ValueError(
            f"start is '{start}' and perplexity {perplexity}; give 'pca' or 'random', "
            "and a number above 0"
        )
    perplexity = min(perplexity, (len(z) - 1) / 3)
    fitted = TSNE(perplexity=perplexity, init=start, random_state=seed)
    # Of a few hundred points, threads wait for each other more than they work:
    # on a busy machine two take twenty times as long as one.
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

    Raises:
        ValueError: If all folds are too small.
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
    fold = np.asarray(fold)
    for number in np.unique(fold):
        here = fold == number
        if here.sum() <= neighbours:
            continue
        for kind, column in labels.items():
            names = np.asarray(column)[here]
            if len(np.unique(names)) < 2:
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
