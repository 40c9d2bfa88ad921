"""Fit one fold of a system that has no epochs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from lib import models
from lib.protocols import Fold
from lib.runs import RunFolders
from lib.training.clips import Augmentation, predict_utterances
from lib.training.curves import Curves
from lib.training.fold import NO_AUGMENTATION, Outcome, figures, save_whole


def fit_fold(
    name: str,
    options: Mapping[str, object],
    fold: Fold,
    x: np.ndarray,
    y: np.ndarray,
    *,
    num_classes: int,
    folders: RunFolders,
    report: Callable[[dict[str, float]], None],
    augmentation: Augmentation = NO_AUGMENTATION,
) -> Outcome:
    """Fit and test one fold; validation rows, if any, are scored and nothing more.

    Args:
        name: The system.
        options: Its options.
        fold: Who trains, validates and tests.
        x: Features of the whole corpus.
        y: Labels of the whole corpus, (utterances,).
        num_classes: Number of classes.
        folders: Where the run's files lie.
        report: Called with the figures of the one "epoch".
        augmentation: How the training clips are altered.

    Returns:
        The outcome, which is on disk already.
    """
    begun = time.monotonic()
    clips, rows = augmentation.training_clips(x, fold.train)
    network = models.fit(name, clips, y[rows], num_classes, **options)
    seconds = round(time.monotonic() - begun, 3)

    def predict(some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return models.predict(network, some)

    row: dict[str, float] = {"epoch": 1}
    for prefix, part in (("", fold.train), ("val_", fold.validation)):
        if len(part):
            scored = figures(y[part], predict_utterances(predict, x[part])[0])
            row |= {f"{prefix}{figure}": score for figure, score in scored}
    row["seconds"] = seconds
    curves = Curves(folders.curves(fold.number), folders.events(fold.number))
    curves.add(row)
    curves.close()
    report(row)
    save_whole(network.save, folders.model(fold.number))
    answers = predict_utterances(predict, x[fold.test])
    outcome = Outcome(fold.test, *answers, [row], 1, seconds)
    outcome.save(folders.outcome(fold.number))
    return outcome
