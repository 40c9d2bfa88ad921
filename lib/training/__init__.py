"""Fit a fold, fit all folds of a run, go on after a cut, and test what was saved."""

from lib.training.clips import prepare_augmentation
from lib.training.settings import make_folds, resolve
from lib.training.study import Plan, train, train_seeds
from lib.training.testing import (
    caveats,
    find_run,
    load_fold,
    official_run,
    protocol_label,
    retest,
)

__all__ = [
    "Plan",
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
    "train_seeds",
]
