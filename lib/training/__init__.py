"""Fit a fold, fit all folds of a run, go on after a cut, and test what was saved."""

from lib.training.clips import prepare_augmentation
from lib.training.study import make_folds, resolve, train
from lib.training.testing import (
    caveats,
    find_run,
    load_fold,
    official_run,
    protocol_label,
    retest,
)

__all__ = [
    "caveats",
    "find_run",
    "load_fold",
    "make_folds",
    "prepare_augmentation",
    "protocol_label",
    "resolve",
    "retest",
    "official_run",
    "train",
]
