"""Is system B better than system A on the same utterances?

Speakers, not utterances, are the independent witnesses. With n of them an exact
test cannot give a p-value below 2 / 2**n: four speakers never prove anything at
the 5 % level, so effect and interval come first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lib.metrics.bootstrap import (
    Interval,
    percentile_interval,
    resampled,
    speakers_known,
)
from lib.metrics.classification import checked
from lib.metrics.significance import mcnemar, sign_flip


@dataclasses.dataclass(frozen=True)
class PairedTest:
    """The comparison of B with A; positive differences favour B.

    Attributes:
        delta: UAR of B minus UAR of A, pooled over all utterances.
        interval: Paired bootstrap interval of `delta` over speakers.
        per_speaker: UAR of B minus UAR of A for each speaker.
        sign_flip_p: Two-sided p of the exact sign-flip test on the mean of
            `per_speaker`; NaN where speakers are unknown.
        smallest_p: The smallest p that so many speakers can give, 2 / 2**n.
        only_a: Utterances that A alone has right (with seeds: more often).
        only_b: The same of B.
        mcnemar_p: Two-sided exact McNemar test over utterances. Secondary: it
            takes clips of one speaker as independent. NaN where correctness is
            averaged over seeds.
    """

    delta: float
    interval: Interval
    per_speaker: Mapping[str, float]
    sign_flip_p: float
    smallest_p: float
    only_a: int
    only_b: int
    mcnemar_p: float


def paired_test(
    y_true: np.ndarray,
    correct_a: np.ndarray,
    correct_b: np.ndarray,
    speaker: np.ndarray,
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> PairedTest:
    """Compare two systems on the same utterances.

    Args:
        y_true: True label indices, (n,).
        correct_a: Whether A is right, (n,); or in which share of its seeds.
        correct_b: The same of B.
        speaker: Speakers, (n,); "" where unknown.
        draws: Number of bootstrap draws.
        level: Coverage of the interval.
        seed: Seed of all draws.
    """
    y_true, a, b, speaker = checked(y_true, correct_a, correct_b, speaker)
    a, b = a.astype(float), b.astype(float)
    gain = np.round(b - a, 12)  # equal shares of seeds must be equal numbers
    differences = {}
    if speakers_known(speaker):
        for name in np.unique(speaker):
            here = speaker == name
            differences[str(name)] = _mean_over_classes(y_true[here], gain[here])
    p = sign_flip(list(differences.values()), seed) if differences else np.nan
    whole = bool(np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all())
    only_a, only_b = int(np.sum(a > b)), int(np.sum(b > a))
    return PairedTest(
        delta=_mean_over_classes(y_true, gain),
        interval=_interval_of_gain(y_true, gain, speaker, draws, level, seed),
        per_speaker=differences,
        sign_flip_p=p,
        smallest_p=min(1.0, 2 / 2 ** len(differences)),
        only_a=only_a,
        only_b=only_b,
        mcnemar_p=mcnemar(only_a, only_b) if whole else float("nan"),
    )


def _mean_over_classes(y_true: np.ndarray, values: np.ndarray) -> float:
    """Return the mean over the classes that occur of the mean within each.

    UAR is this mean of correctness, so its difference is this mean of the
    difference in correctness, also after averaging over seeds.
    """
    return float(np.mean([values[y_true == k].mean() for k in np.unique(y_true)]))


def _interval_of_gain(
    y_true: np.ndarray,
    gain: np.ndarray,
    speaker: np.ndarray,
    draws: int,
    level: float,
    seed: int,
) -> Interval:
    pairs, cell = np.unique(
        np.stack([y_true, gain], axis=1), axis=0, return_inverse=True
    )
    counts = resampled(cell.ravel(), len(pairs), speaker, draws, seed)
    member = pairs[:, :1] == np.unique(y_true)  # (cells, classes)
    rows = counts @ member
    gains = (counts * pairs[:, 1]) @ member
    present = rows > 0
    means = np.where(present, gains / np.maximum(rows, 1), 0)
    values = means.sum(axis=1) / present.sum(axis=1)
    return percentile_interval(values, speaker, level)


def compare_predictions(
    a: pd.DataFrame | Sequence[pd.DataFrame],
    b: pd.DataFrame | Sequence[pd.DataFrame],
    **options,
) -> PairedTest:
    """Compare the predictions of two systems, matched by file.

    Args:
        a: Predictions of A (columns file, speaker, y_true, y_pred), each
            utterance once; or one frame per seed, to be averaged.
        b: The same of B.
        **options: `draws`, `level` and `seed` of `paired_test`.

    Raises:
        ValueError: If the utterances, their labels or speakers differ, or one
            occurs twice.
    """
    sides = [
        [side] if isinstance(side, pd.DataFrame) else list(side) for side in (a, b)
    ]
    if not all(sides):
        raise ValueError("one side has no predictions; give one frame or more")
    aligned = [[_by_file(frame) for frame in side] for side in sides]
    first = aligned[0][0]
    shares = []
    for side in aligned:
        for frame in side:
            _require_same(first, frame)
        shares.append(np.mean([frame.y_pred == frame.y_true for frame in side], axis=0))
    return paired_test(
        first.y_true.to_numpy(), *shares, first.speaker.to_numpy(object), **options
    )


def _by_file(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.set_index("file").sort_index()
    twice = frame.index[frame.index.duplicated()]
    if len(twice):
        raise ValueError(
            f"{twice[0]} was tested more than once; only protocols that test every "
            "utterance once can be paired"
        )
    return frame


def _require_same(first: pd.DataFrame, other: pd.DataFrame) -> None:
    if not first.index.equals(other.index):
        odd = first.index.symmetric_difference(other.index)
        raise ValueError(
            f"{len(odd)} utterances were tested by one system only, e.g. {odd[0]}; "
            "compare runs of the same corpus and kind of protocol"
        )
    for column in ("y_true", "speaker"):
        if not (first[column] == other[column]).all():
            raise ValueError(f"the two systems disagree about {column} of some files")
