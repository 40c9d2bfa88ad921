"""Fit a fold, fit all folds of a run, go on after a cut, and test what was saved."""

from lib.training.clips import prepare_augmentation
from lib.training.settings import make_folds, resolve
from lib.training.study import Plan, train, train_seeds
from lib.training.testing import (
    OpenedRun,
    find_run,
    load_fold,
    official_run,
    open_run,
    protocol_label,
    require_data,
    retest,
)

__all__ = [
    "OpenedRun",
    "Plan",
    "find_run",
    "load_fold",
    "make_folds",
    "prepare_augmentation",
    "protocol_label",
    "require_data",
    "resolve",
    "retest",
    "official_run",
    "open_run",
    "train",
    "train_seeds",
]
