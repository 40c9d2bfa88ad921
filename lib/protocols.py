"""Folds: who trains, who validates, who tests.

To add a protocol, write a function from `Rows`, a number of folds (0 for its own), a
seed and the name of the corpus to folds, under `@protocol`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from sklearn.model_selection import (
    KFold,
    ShuffleSplit,
    StratifiedKFold,
    StratifiedShuffleSplit,
)

from lib.corpora.spelling import folded

MOST_SINGLE_SPEAKERS = 10  # up to here every speaker is a fold of its own


@dataclasses.dataclass(frozen=True)
class Fold:
    """The rows of one fold; one with a test row on its training side is refused."""

    number: int  # 1, 2, ...
    train: np.ndarray  # indices of rows, int64, sorted; likewise the two others
    validation: np.ndarray  # choose the epoch; empty where the last is taken
    test: np.ndarray
    validation_is_test: bool = False  # only for protocols that leak on purpose

    def parts(self) -> list[list[int]]:
        """Return the rows that train, validate and test, as plain numbers."""
        return [part.tolist() for part in (self.train, self.validation, self.test)]

    def __post_init__(self) -> None:
        number = self.number
        if not len(self.train):
            raise ValueError(
                f"fold {number} has no training rows left; use more folds, or another "
                "protocol"
            )
        if not len(self.test):
            raise ValueError(f"fold {number} has no test rows; use fewer folds")
        if np.intersect1d(self.train, self.test).size:
            raise ValueError(f"fold {number}: train and test share rows")
        if np.intersect1d(self.train, self.validation).size:
            raise ValueError(f"fold {number}: train and validation share rows")
        if self.validation_is_test:
            if not np.array_equal(self.validation, self.test):
                raise ValueError(f"fold {number}: validation is not the test part")
        elif np.intersect1d(self.validation, self.test).size:
            raise ValueError(f"fold {number}: validation and test share rows")


@dataclasses.dataclass(frozen=True)
class Rows:
    """What a protocol may know of every utterance, in row order."""

    y: np.ndarray  # label indices
    speaker: np.ndarray  # "" where unknown, as in the columns below
    sex: np.ndarray
    text: np.ndarray  # the sentence
    content: np.ndarray | None = None  # hash of what the recording holds
    label_names: Sequence[str] = ()  # for messages

    def name(self, label: int) -> str:
        """Return the name of a label, or its number where it has none."""
        names = list(self.label_names)
        return f"'{names[label]}'" if names else f"number {label}"


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What a protocol promises."""

    make: Callable[[Rows, int, int, str], Iterator[Fold]]
    title: str  # its name in figures
    folds: int  # if the user does not say; 0 where the corpus decides
    # What the tested epoch is chosen on: "last" (none is chosen), "validation", or
    # "test" (a leak, kept to show what it is worth).
    chosen_on: str
    speakers_apart: bool  # no speaker is on both sides

    @property
    def explanation(self) -> str:
        """One sentence for a reader."""
        return " ".join(self.make.__doc__.split())

    @property
    def leaks(self) -> bool:
        """True if test rows take part in choosing the epoch."""
        return self.chosen_on == "test"

    @property
    def label(self) -> str:
        """The title with its warnings, for figures and tables."""
        marks = [] if self.speakers_apart else ["speakers shared"]
        marks += ["epoch chosen on the test fold"] if self.leaks else []
        return self.title + (f" ({', '.join(marks)})" if marks else "")


PROTOCOLS: dict[str, Protocol] = {}


def protocol(title: str, folds: int, chosen_on: str, speakers_apart: bool = False):
    """Enter a function from rows to folds under its name; see `Protocol`."""

    def enter(make):
        entry = Protocol(make, title, folds, chosen_on, speakers_apart)
        PROTOCOLS[make.__name__] = entry
        return make

    return enter


def make_folds(
    name: str, rows: Rows, *, folds: int = 0, seed: int = 46, corpus: str = ""
) -> list[Fold]:
    """Return the folds of a protocol.

    Args:
        name: One of `PROTOCOLS`.
        rows: Labels, speakers, sexes and sentences in row order.
        folds: Number of folds; 0 for the protocol's own.
        seed: Seed of every random choice.
        corpus: Name of the corpus; IEMOCAP's speakers are grouped by session.

    Returns:
        The folds in order. Except under `holdout` and `repeated_holdout`, every
        row tests exactly once.

    Raises:
        ValueError: If the rows cannot be split so: fewer speakers or rows than
            folds, unknown speakers, a class too small, nothing to learn.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol '{name}'; one of {list(PROTOCOLS)}")
    promise = PROTOCOLS[name]
    made = list(promise.make(rows, folds or promise.folds, seed, corpus))
    apart = {}
    if promise.speakers_apart:
        apart["speaker"] = [folded(str(name)) for name in rows.speaker]
    if name == "text":
        apart["sentence"] = [folded(str(name)) for name in rows.text]
    if apart and rows.content is not None:
        apart["recording"] = rows.content
    for fold, what in itertools.product(made, apart):
        _require_apart(fold, np.asarray(apart[what]), what, rows.speaker)
    _require_something_to_learn(made, rows)
    return made


def repeated_recordings(fold: Fold, content: np.ndarray) -> int:
    """Return how many clips of the test part train or validate under another name.

    Args:
        fold: The fold; where validation is the test part, only training counts.
        content: Hash of what every recording holds, "" where unknown.
    """
    used = [fold.train] if fold.validation_is_test else [fold.train, fold.validation]
    known = content[fold.test][content[fold.test] != ""]
    return int(np.isin(known, content[np.concatenate(used)]).sum())


def untrained_labels(fold: Fold, y: np.ndarray) -> np.ndarray:
    """Return the labels that a fold tests and does not train."""
    return np.setdiff1d(y[fold.test], y[fold.train])


@protocol("random folds, last epoch", 10, "last")
def paper(rows: Rows, folds: int, seed: int, corpus: str) -> Iterator[Fold]:
    """Random folds over utterances; the last epoch is tested."""
    _require_folds(folds, 2, len(rows.y), "utterances")
    splits = KFold(folds, shuffle=True, random_state=seed).split(rows.y)
    for number, (train, test) in enumerate(splits, start=1):
        yield Fold(number, train, np.empty(0, np.int64), test)


@protocol("random folds, best epoch", 10, "test")
def paper_best(rows: Rows, folds: int, seed: int, corpus: str) -> Iterator[Fold]:
    """Random folds over utterances; the epoch best on the test fold is reported."""
    for fold in paper(rows, folds, seed, corpus):
        yield dataclasses.replace(fold, validation=fold.test, validation_is_test=True)


@protocol("stratified folds", 10, "validation")
def stratified(rows: Rows, folds: int, seed: int, corpus: str) -> Iterator[Fold]:
    """Random folds with equal class shares; part of training chooses the epoch."""
    for label, clips in zip(*np.unique(rows.y, return_counts=True), strict=True):
        # One part tests, one as large chooses the epoch, the others train.
        _require_folds(folds, 3, clips, f"clips of the label {rows.name(label)}")
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for number, (side, test) in enumerate(splitter.split(rows.y, rows.y), start=1):
        size = max(len(test), len(np.unique(rows.y)))
        inner = StratifiedShuffleSplit(1, test_size=size, random_state=seed)
        try:
            train, validation = next(inner.split(side, rows.y[side]))
        except ValueError as error:
            raise ValueError(
                f"{len(side)} clips cannot be split by label into some that train and "
                f"{size} that choose the epoch ({error}); use more folds"
            ) from error
        yield Fold(number, np.sort(side[train]), np.sort(side[validation]), test)


@protocol("unseen speakers", 0, "validation", speakers_apart=True)
def speaker(rows: Rows, folds: int, seed: int, corpus: str) -> Iterator[Fold]:
    """The speakers who test are heard neither in training nor in choosing the epoch."""
    if not np.all(rows.speaker != ""):
        raise ValueError(
            "protocol 'speaker' needs the speaker of every clip and "
            f"{int(np.sum(rows.speaker == ''))} have none. Register the corpus from a "
            "CSV with a speaker column, or use protocol 'stratified' (its scores are "
            "not speaker-independent)."
        )
    sex_of = dict(zip(rows.speaker.tolist(), rows.sex.tolist(), strict=True))
    groups = _speaker_groups(sex_of, folds, seed, corpus)
    # The first speaker of each sex is enough to choose an epoch by.
    validators = [
        list({sex_of[name]: name for name in reversed(group)}.values())
        for group in groups
    ]
    yield from _grouped(groups, validators, rows.speaker)


def own_speaker_folds(corpus: str, speakers: int) -> int:
    """Return how many folds `speaker` has if the user does not say."""
    if corpus == "IEMOCAP":  # its sessions
        return 5
    if corpus == "DEMO":  # a class is watching while it trains
        return 4
    return speakers if speakers <= MOST_SINGLE_SPEAKERS else max(3, round(speakers / 4))


def _speaker_groups(
    sex_of: Mapping[str, str], folds: int, seed: int, corpus: str
) -> list[Sequence[str]]:
    """Return the speakers that test together, balanced by sex (RAVDESS 6 x 4)."""
    names = sorted(sex_of)
    _require_three(len(names), "speakers", "'stratified' (speakers shared)")
    if folds:
        _require_folds(folds, 2, len(names), "speakers")
    folds = folds or own_speaker_folds(corpus, len(names))
    if corpus == "IEMOCAP" and folds == 5:
        return [list(group) for _, group in itertools.groupby(names, lambda n: n[:-1])]
    if folds == len(names):
        return [[name] for name in names]
    rng = np.random.default_rng(seed)
    # Deal one sex after the other, so that groups differ by one speaker at most.
    dealt = [
        name
        for sex in sorted(set(sex_of.values()))
        for name in rng.permutation([name for name in names if sex_of[name] == sex])
    ]
    return [sorted(dealt[start::folds]) for start in range(folds)]


@protocol("unseen sentences", 5, "validation")
def text(rows: Rows, folds: int, seed: int, corpus: str) -> Iterator[Fold]:
    """The sentences that test are heard nowhere else; speakers are shared."""
    if not np.all(rows.text != ""):
        raise ValueError(
            "protocol 'text' needs to know what is said in every clip; this corpus "
            "does not tell. Use protocol 'speaker' or 'stratified'."
        )
    # The first of the spellings of a sentence stands for all of them.
    spelling = {folded(str(name)): name for name in reversed(np.unique(rows.text))}
    text = np.array([spelling[folded(str(name))] for name in rows.text])
    texts = np.unique(text)
    _require_three(len(texts), "sentences", "'speaker' or 'stratified'")
    _require_folds(folds, 3, len(texts), "different sentences")
    shuffled = np.random.default_rng(seed).permutation(texts)
    groups = [shuffled[start::folds] for start in range(folds)]
    yield from _grouped(groups, groups, text)


def _grouped(
    groups: Sequence[Sequence[str]],
    validators: Sequence[Sequence[str]],
    member: np.ndarray,
) -> Iterator[Fold]:
    """Yield folds in which group i tests and validators of the next one validate."""
    for index, group in enumerate(groups):
        following = validators[(index + 1) % len(groups)]
        test, validation = np.isin(member, group), np.isin(member, following)
        parts = (~test & ~validation, validation, test)
        yield Fold(index + 1, *map(np.flatnonzero, parts))


@protocol("one 70/20/10 split", 1, "validation")
def holdout(rows: Rows, folds: int, seed: int, corpus: str) -> Iterator[Fold]:
    """One random split by class: 70 % train, 20 % test, 10 % choose the epoch."""
    rng = np.random.default_rng(seed)
    for number in range(1, folds + 1):
        by_class = []
        for label in np.unique(rows.y):
            members = rng.permutation(np.flatnonzero(rows.y == label))
            if len(members) < 5:
                raise ValueError(
                    f"protocol 'holdout' splits the clips of every label 70/20/10, and "
                    f"{rows.name(label)} has {len(members)}: at least 5 are needed. "
                    "Use another protocol, or a corpus without that label."
                )
            first, second = int(0.7 * len(members)), int(0.2 * len(members))
            by_class.append(np.split(members, [first, first + second]))
        parts = (np.sort(np.concatenate(part)) for part in zip(*by_class, strict=True))
        train, test, validation = parts
        yield Fold(number, train, validation, test)


@protocol("ten random 80/20 splits", 10, "test")
def repeated_holdout(rows: Rows, folds: int, seed: int, corpus: str) -> Iterator[Fold]:
    """Overlapping random splits; the epoch best on the test part is reported."""
    if len(rows.y) < 5:
        raise ValueError(
            f"protocol 'repeated_holdout' tests a fifth of the clips, and there are "
            f"{len(rows.y)}: at least 5 are needed"
        )
    splitter = ShuffleSplit(folds, test_size=0.2, random_state=seed)
    for number, (train, test) in enumerate(splitter.split(rows.y), start=1):
        train, test = np.sort(train), np.sort(test)
        yield Fold(number, train, test, test, validation_is_test=True)


def _require_folds(folds: int, least: int, most: int, what: str) -> None:
    """Raise ValueError, with what `folds` may be, if it is something else."""
    if least <= folds <= most:
        return
    allowed = f"a number from {least} to {most}" if least < most else least
    way_out = f"set `folds` to {allowed}"
    if most < least:
        way_out = "use another protocol"
    raise ValueError(f"cannot split {most} {what} into {folds} folds; {way_out}")


def _require_three(there: int, what: str, others: str) -> None:
    """Raise ValueError if one cannot test, one validate and one train."""
    if there < 3:
        raise ValueError(
            f"there are {there} different {what}, and three are needed: one tests, "
            f"one chooses the epoch, one trains. Use protocol {others}, or more data."
        )


def _require_apart(
    fold: Fold, member: np.ndarray, what: str, speaker: np.ndarray
) -> None:
    """Raise ValueError if a speaker, sentence or recording is on two sides."""
    sides = [set(member[part]) - {""} for part in (fold.train, fold.validation)]
    sides.append(set(member[fold.test]) - {""})
    for one, other in itertools.combinations(sides, 2):
        shared = sorted(one & other)
        if not shared:
            continue
        if what == "recording":
            of = np.unique(speaker[np.isin(member, shared)])[:8]
            raise ValueError(
                f"fold {fold.number}: {len(shared)} recordings are on two sides, "
                f"each under several names (speakers {', '.join(of)}). Remove the "
                "wrong ones; 01_preprocess names them."
            )
        raise ValueError(
            f"fold {fold.number}: the {what} '{shared[0]}' is on two sides"
        )


def _require_something_to_learn(folds: Sequence[Fold], rows: Rows) -> None:
    """Raise ValueError if training has one label, or none of those that test."""
    for fold in folds:
        trained = np.unique(rows.y[fold.train])
        if len(trained) == 1:
            raise ValueError(
                f"fold {fold.number}: all {len(fold.train)} training clips have the "
                f"label {rows.name(trained[0])}; there is nothing to tell apart. Use "
                "another protocol, or more data."
            )
    if all(set(rows.y[f.test]) == set(untrained_labels(f, rows.y)) for f in folds):
        raise ValueError(
            "no label that tests in a fold trains in it: every speaker or sentence has "
            "labels of its own, so that nothing can be learnt. Use another protocol, "
            "or other data."
        )
