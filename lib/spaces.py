"""Held-out embeddings and their maps.

Every fold has a network and so a space of its own: maps and numbers are of one fold.
"""

import numpy as np
import pandas as pd
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from lib import runs

FEWEST_POINTS = 6


def held_out(folders: runs.RunFolders) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the predictions of a finished run and their embeddings (n, width)."""
    predictions, path = runs.read_predictions(folders.predictions), folders.embeddings
    again = "run 02_train again with overwrite=True (03_test for official weights)"
    if not path.is_file():
        raise FileNotFoundError(f"no embeddings at {path}; {again}")
    runs.require_unchanged(path)
    with np.load(path, allow_pickle=False) as saved:
        return predictions, saved["z"].astype(np.float64)


def tsne(
    z: np.ndarray, *, perplexity: float = 30.0, seed: int = 0, start: str = "pca"
) -> np.ndarray:
    """Return a t-SNE map (n, 2) of points (n, width) once they are standardised.

    A perplexity above (n - 1) / 3 is lowered to it, as there have to be others to keep
    away from. The seed counts where the start is "random", not where it is "pca".
    """
    if len(z) < FEWEST_POINTS:
        raise ValueError(f"{len(z)} points are too few; use fewer folds, or more data")
    perplexity = min(perplexity, (len(z) - 1) / 3)
    fitted = TSNE(perplexity=perplexity, init=start, random_state=seed)
    # Of a few hundred points, threads wait for each other more than they work.
    with threadpool_limits(1):
        return fitted.fit_transform(StandardScaler().fit_transform(z))
