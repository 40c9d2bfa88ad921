"""Folds: who trains, who validates, who tests.

A `Fold` cannot be built with a test row on its training side. The one protocol
that chooses its epoch on the test fold has to say so and is marked everywhere.
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
# Eight speakers in four groups: a class is watching while DEMO trains.
OWN_SPEAKER_FOLDS = {"DEMO": 4}


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What a protocol promises.

    Attributes:
        name: Its name in parameters, run ids and tables.
        title: Its name in figures.
        folds: Number of folds if the user does not say; 0 where the corpus
            decides.
        chosen_on: What the tested epoch is chosen on: "last" (none is chosen),
            "validation", or "test" (a leak, kept to show what it is worth).
        speakers_apart: True if no speaker is on both sides.
        explanation: One sentence for a reader.
    """

    name: str
    title: str
    folds: int
    chosen_on: str
    speakers_apart: bool
    explanation: str

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


PROTOCOLS: Mapping[str, Protocol] = {
    item.name: item
    for item in (
        Protocol(
            "paper",
            "random folds, last epoch",
            10,
            "last",
            False,
            "Random folds over utterances; the last epoch is tested.",
        ),
        Protocol(
            "paper_best",
            "random folds, best epoch",
            10,
            "test",
            False,
            "Random folds over utterances; the epoch that is best on the test "
            "fold is reported, as the first published numbers were.",
        ),
        Protocol(
            "stratified",
            "stratified folds",
            10,
            "validation",
            False,
            "Random folds with equal class shares; the epoch is chosen on a part "
            "of the training rows.",
        ),
        Protocol(
            "speaker",
            "unseen speakers",
            0,
            "validation",
            True,
            "The speakers who test are heard neither in training nor in choosing "
            "the epoch.",
        ),
        Protocol(
            "text",
            "unseen sentences",
            5,
            "validation",
            False,
            "The sentences that test are heard neither in training nor in choosing "
            "the epoch; speakers are shared.",
        ),
        Protocol(
            "holdout",
            "one 70/20/10 split",
            1,
            "validation",
            False,
            "One random split by class: 70 % train, 20 % test, 10 % choose the epoch.",
        ),
        Protocol(
            "repeated_holdout",
            "ten random 80/20 splits",
            10,
            "test",
            False,
            "Overlapping random splits; the epoch that is best on the test part is "
            "reported, as published.",
        ),
    )
}


@dataclasses.dataclass(frozen=True)
class Fold:
    """The rows of one fold.

    Attributes:
        number: 1, 2, ...
        train: Indices of the rows that train, int64, sorted.
        validation: Indices of the rows that choose the epoch; empty where the
            last epoch is taken.
        test: Indices of the rows that test.
        validation_is_test: True only for the protocols that leak on purpose.
    """

    number: int
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    validation_is_test: bool = False

    def parts(self) -> list[list[int]]:
        """Return the rows that train, validate and test, as plain numbers."""
        return [part.tolist() for part in (self.train, self.validation, self.test)]

    def __post_init__(self) -> None:
        if not len(self.train):
            raise ValueError(
                f"fold {self.number} has no training rows left; use more folds, or "
                "another protocol"
            )
        if not len(self.test):
            raise ValueError(f"fold {self.number} has no test rows; use fewer folds")
        for one, other in (("train", "validation"), ("train", "test")):
            if np.intersect1d(getattr(self, one), getattr(self, other)).size:
                raise ValueError(f"fold {self.number}: {one} and {other} share rows")
        shared = np.intersect1d(self.validation, self.test).size
        if self.validation_is_test:
            if not np.array_equal(self.validation, self.test):
                raise ValueError(f"fold {self.number}: validation is not the test part")
        elif shared:
            raise ValueError(f"fold {self.number}: validation and test share rows")


@dataclasses.dataclass(frozen=True)
class Rows:
    """What a protocol may know of every utterance, in row order.

    Attributes:
        y: Label indices, int, (utterances,).
        speaker: Speakers, "" where unknown.
        sex: "female", "male" or "".
        text: Sentence identifiers, "" where unknown.
        content: Hash of what every recording holds, "" where unknown.
        label_names: Names of the labels in index order, for messages.
    """

    y: np.ndarray
    speaker: np.ndarray
    sex: np.ndarray
    text: np.ndarray
    content: np.ndarray | None = None
    label_names: Sequence[str] = ()

    def name(self, label: int) -> str:
        """Return the name of a label, or its number where it has none."""
        names = list(self.label_names)
        return f"'{names[label]}'" if names else f"number {label}"


def make_folds(
    protocol: str, rows: Rows, *, folds: int = 0, seed: int = 46, corpus: str = ""
) -> list[Fold]:
    """Return the folds of a protocol.

    Args:
        protocol: One of `PROTOCOLS`.
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
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol '{protocol}'; one of {list(PROTOCOLS)}")
    count = folds or PROTOCOLS[protocol].folds
    made = list(_MAKERS[protocol](rows, count, seed, corpus))
    for fold in made:
        if PROTOCOLS[protocol].speakers_apart:
            _require_apart(fold, _folded(rows.speaker), "speaker")
        if protocol == "text":
            _require_apart(fold, _folded(rows.text), "sentence")
        if protocol in ("speaker", "text"):
            _require_recordings_apart(fold, rows)
    _require_something_to_learn(made, rows)
    return made


def repeated_recordings(fold: Fold, content: np.ndarray) -> int:
    """Return how many clips of the test part train or validate under another name.

    Args:
        fold: The fold; where validation is the test part, only training counts.
        content: Hash of what every recording holds, "" where unknown.
    """
    used = fold.train
    if not fold.validation_is_test:
        used = np.concatenate([fold.train, fold.validation])
    known = content[fold.test][content[fold.test] != ""]
    return int(np.isin(known, content[used]).sum())


def untrained_labels(fold: Fold, y: np.ndarray) -> np.ndarray:
    """Return the labels that a fold tests and does not train."""
    return np.setdiff1d(y[fold.test], y[fold.train])


def _paper(rows: Rows, folds: int, seed: int, corpus: str) -> Iterator[Fold]:
    nothing = np.empty(0, np.int64)
    for number, train, test in _random_folds(rows, folds, seed):
        yield Fold(number, train, nothing, test)


def _paper_best(rows: Rows, folds: int, seed: int, corpus: str) -> Iterator[Fold]:
    for number, train, test in _random_folds(rows, folds, seed):
        yield Fold(number, train, test, test, validation_is_test=True)


def _random_folds(rows: Rows, folds: int, seed: int) -> Iterator[tuple]:
    _require_folds(folds, 2, len(rows.y), "utterances")
    splitter = KFold(folds, shuffle=True, random_state=seed)
    for number, (train, test) in enumerate(splitter.split(rows.y), start=1):
        yield number, train, test


def _stratified(rows: Rows, folds: int, seed: int, corpus: str) -> Iterator[Fold]:
    for label, clips in zip(*np.unique(rows.y, return_counts=True), strict=True):
        # One part tests, one as large chooses the epoch, the others train.
        _require_folds(folds, 3, clips, f"clips of the label {rows.name(label)}")
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for number, (side, test) in enumerate(splitter.split(rows.y, rows.y), start=1):
        # As many rows choose the epoch as test it.
        inner = StratifiedShuffleSplit(
            1, test_size=max(len(test), len(np.unique(rows.y))), random_state=seed
        )
        try:
            train, validation = next(inner.split(side, rows.y[side]))
        except ValueError as error:
            raise ValueError(
                f"{len(side)} clips cannot be split by label into some that train and "
                f"{inner.test_size} that choose the epoch ({error}); use more folds"
            ) from error
        yield Fold(number, np.sort(side[train]), np.sort(side[validation]), test)


def _speaker(rows: Rows, folds: int, seed: int, corpus: str) -> Iterator[Fold]:
    if not np.all(rows.speaker != ""):
        raise ValueError(
            "protocol 'speaker' needs the speaker of every clip and "
            f"{int(np.sum(rows.speaker == ''))} have none. Register the corpus from a "
            "CSV with a speaker column, or use protocol 'stratified' (its scores are "
            "not speaker-independent)."
        )
    groups = speaker_groups(rows.speaker, rows.sex, folds, seed, corpus)
    sexes = {name: sex for name, sex in zip(rows.speaker, rows.sex, strict=True)}
    validators = [_one_of_each_sex(group, sexes) for group in groups]
    yield from _grouped(groups, validators, rows.speaker)


def _one_of_each_sex(group: np.ndarray, sexes: Mapping[str, str]) -> np.ndarray:
    """Return the first speaker of each sex: enough to choose an epoch by."""
    first: dict[str, str] = {}
    for name in group:
        first.setdefault(sexes[name], name)
    return np.array(list(first.values()))


def _text(rows: Rows, folds: int, seed: int, corpus: str) -> Iterator[Fold]:
    if not np.all(rows.text != ""):
        raise ValueError(
            "protocol 'text' needs to know what is said in every clip; this corpus "
            "does not tell. Use protocol 'speaker' or 'stratified'."
        )
    text = _in_one_spelling(rows.text)
    texts = np.unique(text)
    _require_three(len(texts), "sentences", "'speaker' or 'stratified'")
    _require_folds(folds, 3, len(texts), "different sentences")
    shuffled = np.random.default_rng(seed).permutation(texts)
    groups = [shuffled[start::folds] for start in range(folds)]
    yield from _grouped(groups, groups, text)


def _holdout(rows: Rows, folds: int, seed: int, corpus: str) -> Iterator[Fold]:
    rng = np.random.default_rng(seed)
    for number in range(1, folds + 1):
        parts: tuple[list, list, list] = ([], [], [])
        for label in np.unique(rows.y):
            members = rng.permutation(np.flatnonzero(rows.y == label))
            if len(members) < 5:
                raise ValueError(
                    f"protocol 'holdout' splits the clips of every label 70/20/10, and "
                    f"{rows.name(label)} has {len(members)}: at least 5 are needed. "
                    "Use another protocol, or a corpus without that label."
                )
            first, second = int(0.7 * len(members)), int(0.2 * len(members))
            cuts = np.split(members, [first, first + second])
            for part, rows_of_class in zip(parts, cuts, strict=True):
                part.append(rows_of_class)
        train, test, validation = (np.sort(np.concatenate(part)) for part in parts)
        yield Fold(number, train, validation, test)


def _repeated_holdout(rows: Rows, folds: int, seed: int, corpus: str) -> Iterator[Fold]:
    if len(rows.y) < 5:
        raise ValueError(
            f"protocol 'repeated_holdout' tests a fifth of the clips, and there are "
            f"{len(rows.y)}: at least 5 are needed"
        )
    splitter = ShuffleSplit(folds, test_size=0.2, random_state=seed)
    for number, (train, test) in enumerate(splitter.split(rows.y), start=1):
        train, test = np.sort(train), np.sort(test)
        yield Fold(number, train, test, test, validation_is_test=True)


_MAKERS: Mapping[str, Callable[[Rows, int, int, str], Iterator[Fold]]] = {
    "paper": _paper,
    "paper_best": _paper_best,
    "stratified": _stratified,
    "speaker": _speaker,
    "text": _text,
    "holdout": _holdout,
    "repeated_holdout": _repeated_holdout,
}


def own_speaker_folds(corpus: str, speakers: int) -> int:
    """Return how many folds `speaker` has if the user does not say."""
    if corpus == "IEMOCAP":
        return 5
    if corpus in OWN_SPEAKER_FOLDS:
        return OWN_SPEAKER_FOLDS[corpus]
    if speakers <= MOST_SINGLE_SPEAKERS:
        return speakers
    return max(3, round(speakers / 4))


def speaker_groups(
    speaker: np.ndarray, sex: np.ndarray, folds: int, seed: int, corpus: str = ""
) -> list[np.ndarray]:
    """Return the groups of speakers that test together.

    Ten or fewer speakers are a fold each; more are dealt into groups balanced
    by sex (RAVDESS 6 groups of 2 women and 2 men); IEMOCAP's are its sessions.

    Args:
        speaker: Speaker of every row.
        sex: Sex of every row.
        folds: Number of groups; 0 for the corpus's own.
        seed: Seed of the dealing.
        corpus: Name of the corpus.

    Raises:
        ValueError: If there are fewer than three speakers, or fewer than folds.
    """
    names = np.unique(speaker)
    _require_three(len(names), "speakers", "'stratified' (speakers shared)")
    if folds:
        _require_folds(folds, 2, len(names), "speakers")
    if corpus == "IEMOCAP" and folds in (0, 5):  # its sessions
        sessions = np.array([name[:-1] for name in names])
        return [names[sessions == session] for session in np.unique(sessions)]
    folds = folds or own_speaker_folds(corpus, len(names))
    if folds == len(names):
        return [names[index : index + 1] for index in range(len(names))]
    sex_of = {name: sex[np.flatnonzero(speaker == name)[0]] for name in names}
    rng = np.random.default_rng(seed)
    # Deal one sex after the other, so that groups differ by one speaker at most.
    dealt = np.concatenate(
        [
            rng.permutation([name for name in names if sex_of[name] == kind])
            for kind in sorted(set(sex_of.values()))
        ]
    )
    return [np.sort(dealt[start::folds]) for start in range(folds)]


def _grouped(
    groups: list[np.ndarray], validators: list[np.ndarray], member: np.ndarray
) -> Iterator[Fold]:
    """Yield folds in which group i tests and validators of the next one validate."""
    for index, group in enumerate(groups):
        test = np.flatnonzero(np.isin(member, group))
        following = validators[(index + 1) % len(groups)]
        validation = np.flatnonzero(np.isin(member, following))
        train = np.setdiff1d(np.arange(len(member)), np.concatenate([test, validation]))
        yield Fold(index + 1, train, validation, test)


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


def _folded(names: np.ndarray) -> np.ndarray:
    """Return what the spellings of each name have in common."""
    return np.array([folded(str(name)) for name in names])


def _in_one_spelling(names: np.ndarray) -> np.ndarray:
    """Return names, each in the first of its spellings."""
    first: dict[str, str] = {}
    for name in np.unique(names):
        first.setdefault(folded(str(name)), name)
    return np.array([first[folded(str(name))] for name in names])


def _require_apart(fold: Fold, member: np.ndarray, what: str) -> None:
    sides = [set(member[part]) for part in (fold.train, fold.validation, fold.test)]
    for one, other in itertools.combinations(sides, 2):
        if shared := sorted(one & other):
            raise ValueError(
                f"fold {fold.number}: the {what} '{shared[0]}' is on two sides"
            )


def _require_recordings_apart(fold: Fold, rows: Rows) -> None:
    """Raise ValueError if a recording is on two sides under two names."""
    if rows.content is None:
        return
    parts = (fold.train, fold.validation, fold.test)
    for one, other in itertools.combinations(parts, 2):
        shared = set(rows.content[one]) & set(rows.content[other]) - {""}
        if not shared:
            continue
        of = np.unique(rows.speaker[np.isin(rows.content, list(shared))])[:8]
        raise ValueError(
            f"fold {fold.number}: {len(shared)} recordings are on two sides, "
            f"each under several names (speakers {', '.join(of)}). Remove the wrong "
            "ones; 01_preprocess names them."
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
