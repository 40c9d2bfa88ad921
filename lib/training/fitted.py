"""Fit one fold of a system that has no epochs."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping

import numpy as np

from lib import models
from lib.protocols import Fold
from lib.runs import RunFolders
from lib.training.clips import Augmentation, predict_utterances
from lib.training.curves import Curves
from lib.training.fold import (
    NO_AUGMENTATION,
    Outcome,
    figures,
    owner_of,
    save_whole,
)


@dataclasses.dataclass(frozen=True)
class FoldFit:
    """Fit and test one fold; validation rows, if any, are scored and nothing more.

    Attributes:
        name: The system.
        options: Its options.
        fold: Who trains, validates and tests.
        x: Features of the whole corpus.
        y: Labels of the whole corpus, (utterances,).
        num_classes: Number of classes.
        folders: Where the run's files lie.
        augmentation: How the training clips are altered.
    """

    name: str
    options: Mapping[str, object]
    fold: Fold
    x: np.ndarray
    y: np.ndarray
    num_classes: int
    folders: RunFolders
    augmentation: Augmentation = NO_AUGMENTATION

    def run(self, report: Callable[[dict[str, float]], None]) -> Outcome:
        """Return the outcome, which is on disk already.

        Args:
            report: Called with the figures of the one "epoch".
        """
        fold, folders, x, y = self.fold, self.folders, self.x, self.y
        begun = time.monotonic()
        clips, rows = self.augmentation.training_clips(x, fold.train)
        network = models.fit(
            self.name, clips, y[rows], self.num_classes, **self.options
        )
        seconds = round(time.monotonic() - begun, 3)
        predict = functools.partial(models.predict, network)
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
        outcome = Outcome(
            fold.test, *answers, [row], 1, seconds, owner_of(folders, fold)
        )
        outcome.save(folders.outcome(fold.number))
        return outcome
