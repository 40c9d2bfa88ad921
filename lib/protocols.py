"""Folds: who trains, who validates, who tests.

To add a protocol, write a function from the features of a corpus, a number of folds (0
for its own) and a seed to folds, under `@protocol`.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import PurePath

import numpy as np
import pandas as pd
from sklearn import model_selection as split

from lib.files import FeatureSet, located


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
        train, validation, test = map(set, self.parts())
        same = self.validation_is_test
        checks = [
            (train, "no training rows are left; use more folds, or another protocol"),
            (test, "there are no test rows; use fewer folds"),
            (train.isdisjoint(test), "train and test share rows"),
            (train.isdisjoint(validation), "train and validation share rows"),
            (same or validation.isdisjoint(test), "validation and test share rows"),
            (not same or validation == test, "validation is not the test part"),
        ]
        for holds, fault in checks:
            if not holds:
                raise ValueError(f"fold {self.number}: {fault}")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What a protocol promises."""

    make: Callable[[FeatureSet, int, int], Iterator[Fold]]
    title: str  # its name in figures
    # How many folds of a corpus and its number of speakers; 0 is for a file to say.
    own_folds: Callable[[str, int], int]
    # What the tested epoch is chosen on: "last" (none is chosen), "validation", or
    # "test" (a leak, kept to show what it is worth).
    chosen_on: str
    # No speaker is on both sides; None: that is for the list of the folds to say.
    speakers_apart: bool | None

    @property
    def explanation(self) -> str:
        """One sentence for a reader."""
        return " ".join(self.make.__doc__.partition("\n\n")[0].split())

    @property
    def label(self) -> str:
        """The title with its warnings, for figures and tables."""
        marks = ["speakers shared"] if self.speakers_apart is False else []
        marks += ["epoch chosen on the test fold"] if self.chosen_on == "test" else []
        return self.title + (f" ({', '.join(marks)})" if marks else "")


PROTOCOLS: dict[str, Protocol] = {}
PARTS = ("train", "validation", "test")


def protocol(title: str, folds, chosen_on: str, speakers_apart: bool | None = False):
    """Enter a function under its name; `folds` is a number, or `Protocol.own_folds`."""

    def enter(make):
        own = folds if callable(folds) else lambda *_: folds
        PROTOCOLS[make.__name__] = Protocol(make, title, own, chosen_on, speakers_apart)
        return make

    return enter


def make_folds(
    name: str,
    data: FeatureSet,
    folds: int = 0,
    seed: int = 46,
    *,
    validation: str = "speakers",
    fold_file: str = "",
) -> list[Fold]:
    """Return the folds of a protocol in order; 0 `folds` is its own number of them.

    Every row tests once, except under `holdout`, `repeated_holdout` and `listed` (once
    at most). With `validation` "none" the rows that would validate train. ValueError if
    the rows cannot be split so, or if nothing could be learnt.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol '{name}'; one of {list(PROTOCOLS)}")
    promise, lists = PROTOCOLS[name], (fold_file, validation) * (name == "listed")
    if bool(fold_file) != bool(lists):
        raise ValueError("protocol 'listed' and fold_file belong together; give both")
    if validation != "speakers" and promise.chosen_on != "validation":
        fault = f"protocol '{name}' has no validation part of its own"
        raise ValueError(f"validation '{validation}': {fault}; leave validation out")
    own = promise.own_folds(data.about["corpus"], len(np.unique(data.speaker)))
    made = list(promise.make(data, folds or own, seed, *lists))
    if validation == "none":
        made = [trained_on_all(fold) for fold in made]
    elif promise.chosen_on == "validation" and not all(len(f.validation) for f in made):
        raise ValueError("a fold has no validation rows; set validation to 'none'")
    apart = {"speaker": data.speaker} if promise.speakers_apart else {}
    apart |= {"sentence": data.text} if name == "text" else {}
    apart |= {"recording": data.content} if apart else {}
    for fold in made:
        for what, member in apart.items():
            _require_apart(fold, what, member, data)
        if len(np.unique(data.y[fold.train])) == 1:
            raise ValueError(f"fold {fold.number} trains one label; change protocol")
    if all(set(data.y[one.test]) == set(untrained_labels(one, data.y)) for one in made):
        raise ValueError("no fold trains a label that it tests; use another protocol")
    return made


def trained_on_all(fold: Fold) -> Fold:
    """Return a fold whose validation rows train."""
    train = np.union1d(fold.train, fold.validation)
    return dataclasses.replace(fold, train=train, validation=fold.validation[:0])


def repeated_recordings(fold: Fold, content: np.ndarray) -> int:
    """Return how many tested clips train or validate too; `content` holds hashes."""
    used = [fold.train] if fold.validation_is_test else [fold.train, fold.validation]
    known = content[fold.test][content[fold.test] != ""]
    return int(np.isin(known, content[np.concatenate(used)]).sum())


def untrained_labels(fold: Fold, y: np.ndarray) -> np.ndarray:
    """Return the labels that a fold tests and does not train."""
    return np.setdiff1d(y[fold.test], y[fold.train])


@protocol("random folds, last epoch", 10, "last")
def paper(data: FeatureSet, folds: int, seed: int) -> Iterator[Fold]:
    """Random folds over clips; the last epoch is tested."""
    _require_folds(folds, 2, len(data.y), "clips")
    splitter = split.KFold(folds, shuffle=True, random_state=seed)
    for number, (train, test) in enumerate(splitter.split(data.y), start=1):
        yield Fold(number, train, np.empty(0, np.int64), test)


@protocol("random folds, best epoch", 10, "test")
def paper_best(data: FeatureSet, folds: int, seed: int) -> Iterator[Fold]:
    """Random folds over clips; the epoch best on the test fold is reported.

    Its training is that of `paper` too, which then only has to be written down.
    """
    for fold in paper(data, folds, seed):
        yield dataclasses.replace(fold, validation=fold.test, validation_is_test=True)


def own_speaker_folds(corpus: str, speakers: int) -> int:
    """Return how many folds `speaker` has if the user does not say."""
    usual = speakers if speakers <= 10 else max(3, round(speakers / 4))
    return {"IEMOCAP": 5, "DEMO": 4}.get(corpus, usual)  # sessions; a class is watching


def own_stratified_folds(corpus: str, speakers: int) -> int:
    """Return as many folds as `speaker` has, or ten where it cannot be used."""
    return own_speaker_folds(corpus, speakers) if speakers > 2 else 10


@protocol("stratified folds", own_stratified_folds, "validation")
def stratified(data: FeatureSet, folds: int, seed: int) -> Iterator[Fold]:
    """Random folds by class; as many clips train, validate and test as in `speaker`.

    Where there are not so many speakers, as many clips validate as test.
    """
    labels, counts = np.unique(data.y, return_counts=True)
    for label, clips in zip(labels, counts, strict=True):
        # One part tests, one chooses the epoch, the others train.
        _require_folds(folds, 3, clips, f"clips of '{data.label_names[label]}'")
    # In this order every stretch has the class shares of the whole.
    drawn = pd.Series(np.random.default_rng(seed).random(len(data.y)))
    order = drawn.groupby(data.y).rank(pct=True).argsort(kind="stable").to_numpy()
    names = np.unique(data.speaker)
    if folds <= len(names) and "" not in names:
        made = speaker(data, folds, seed)
        sizes = [(len(fold.test), len(fold.validation)) for fold in made]
    else:
        sizes = [(len(part), len(part)) for part in np.array_split(order, folds)]
    for number, (tests, validates) in enumerate(sizes, start=1):
        parts = np.split(order, [tests, tests + validates])
        test, validation, train = map(np.sort, parts)
        yield Fold(number, train, validation, test)
        order = np.roll(order, -tests)


@protocol("unseen speakers", own_speaker_folds, "validation", speakers_apart=True)
def speaker(data: FeatureSet, folds: int, seed: int) -> Iterator[Fold]:
    """Test speakers are in neither training nor validation."""
    _require_known(data.speaker, "speaker")
    corpus = data.about["corpus"]
    sex_of = dict(zip(data.speaker.tolist(), data.sex.tolist(), strict=True))
    names = sorted(sex_of)
    _require_folds(folds, 2, len(names), "speakers")
    # One sex is dealt after the other, so that groups differ by one speaker at most.
    rng = np.random.default_rng(seed)
    dealt = [
        name
        for sex in sorted(set(sex_of.values()))
        for name in rng.permutation([name for name in names if sex_of[name] == sex])
    ]
    groups = [sorted(dealt[start::folds]) for start in range(folds)]
    if folds == len(names):
        groups = [[name] for name in names]
    if corpus == "IEMOCAP" and folds == 5:
        sessions = itertools.groupby(names, key=lambda name: name[:-1])
        groups = [list(group) for _, group in sessions]
    validators = [_first_of_each_sex(group, sex_of) for group in groups]
    yield from _grouped(groups, validators, data.speaker)


def _first_of_each_sex(speakers: list[str], sex_of: dict[str, str]) -> list[str]:
    """Return the speakers of a group who are enough to choose an epoch by."""
    return list({sex_of[name]: name for name in reversed(speakers)}.values())


@protocol("unseen sentences", 5, "validation")
def text(data: FeatureSet, folds: int, seed: int) -> Iterator[Fold]:
    """Test sentences occur in no other part; speakers are shared."""
    _require_known(data.text, "text")
    texts = np.unique(data.text)
    _require_folds(folds, 3, len(texts), "different sentences")
    shuffled = np.random.default_rng(seed).permutation(texts)
    groups = [shuffled[start::folds] for start in range(folds)]
    yield from _grouped(groups, groups, data.text)


def _grouped(groups, validators, member: np.ndarray) -> Iterator[Fold]:
    """Yield folds in which group i tests and validators of the next one validate."""
    for index, group in enumerate(groups):
        following = validators[(index + 1) % len(groups)]
        test, validation = np.isin(member, group), np.isin(member, following)
        parts = (~test & ~validation, validation, test)
        yield Fold(index + 1, *map(np.flatnonzero, parts))


@protocol("one 70/20/10 split", 1, "validation")
def holdout(data: FeatureSet, folds: int, seed: int) -> Iterator[Fold]:
    """One random split by class: 70 % train, 20 % test, the rest choose the epoch."""
    rng = np.random.default_rng(seed)
    for number in range(1, folds + 1):
        by_class = []
        for label in np.unique(data.y):
            members = rng.permutation(np.flatnonzero(data.y == label))
            if len(members) < 5:
                fault = f"'{data.label_names[label]}' has {len(members)} clips"
                raise ValueError(f"{fault}, 'holdout' needs 5; use another protocol")
            first, second = int(0.7 * len(members)), int(0.2 * len(members))
            by_class.append(np.split(members, [first, first + second]))
        parts = (np.sort(np.concatenate(part)) for part in zip(*by_class, strict=True))
        train, test, validation = parts
        yield Fold(number, train, validation, test)


@protocol("ten random 80/20 splits", 10, "test")
def repeated_holdout(data: FeatureSet, folds: int, seed: int) -> Iterator[Fold]:
    """Overlapping random splits; the epoch best on the test part is reported."""
    splitter = split.ShuffleSplit(folds, test_size=0.2, random_state=seed)
    for number, (train, test) in enumerate(splitter.split(data.y), start=1):
        train, test = np.sort(train), np.sort(test)
        yield Fold(number, train, test, test, validation_is_test=True)


@protocol("listed folds", 0, "validation", speakers_apart=None)
def listed(
    data: FeatureSet, folds: int, seed: int, fold_file: str, wanted: str
) -> Iterator[Fold]:
    """A file defines the folds; clips it does not name are not used.

    Its columns are file or speaker, fold, and perhaps part (train, validation, test).
    Where a fold has no lines for training, all others of the file train; where it has
    none for validation, the first speakers of the next fold's test validate, or of all
    who train; nobody, if "none" are `wanted`.
    """
    try:
        lines = pd.read_csv(located(fold_file), dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        fault = f"fold_file {fold_file} cannot be read ({error}); give a CSV in UTF-8"
        raise ValueError(fault) from error
    lines = lines.apply(lambda column: column.str.strip())
    by = "speaker" if "speaker" in lines else "file"
    if not {by, "fold"} <= set(lines) <= {by, "fold", "part"} or lines.empty:
        wanted = "it needs file or speaker, and fold, and may have part"
        raise ValueError(f"{fold_file}: {len(lines)} rows of {[*lines]}; {wanted}")
    table, member = lines.assign(part=lines.get("part", "test")), data.speaker
    if by == "file":
        rows = _rows_of(table[by], data.file, fold_file)
        table, member = table.assign(file=rows), np.arange(len(data.y))
    names = sorted(table["fold"].unique(), key=lambda name: (len(name), name))
    tests = table["part"] == "test"
    faults = {
        f"part is none of {PARTS}": ~table["part"].isin(PARTS),
        f"the corpus has no such {by}": ~table[by].isin(member),
        "fold is empty": table["fold"] == "",
        "nothing tests in this fold": ~table["fold"].isin(table["fold"][tests]),
        f"this fold names the {by} twice": table.duplicated([by, "fold"]),
        "it tests in another fold too": tests & table.duplicated([by, "part"]),
    }
    for fault, found in faults.items():
        if found.any():
            line = ",".join(lines[found].iloc[0])
            raise ValueError(f"{fold_file}, line {line!r} ({found.sum()} so): {fault}")
    if folds not in (0, len(names)):
        raise ValueError(f"{fold_file} has {len(names)} folds; leave `folds` out")
    named, made = np.isin(member, table[by]), []
    for name in names:
        parts = table[table["fold"] == name].groupby("part")[by].agg(list)
        made.append([np.isin(member, parts.get(part, [])) for part in PARTS])
    sex_of = dict(zip(data.speaker.tolist(), data.sex.tolist(), strict=True))
    for index, (train, validation, test) in enumerate(made):
        train = train if train.any() else named & ~test & ~validation
        if not validation.any() and wanted != "none" and "" not in sex_of:
            following = train & made[(index + 1) % len(made)][2]
            rows = following if following.any() else train
            chosen = _first_of_each_sex(np.unique(data.speaker[rows]).tolist(), sex_of)
            validation = train & np.isin(data.speaker, chosen)
        parts = (train & ~validation, validation, test)
        yield Fold(index + 1, *map(np.flatnonzero, parts))


def _rows_of(listed_files: pd.Series, files: np.ndarray, fold_file: str) -> list[int]:
    """Return the rows of listed files, also of other folders and formats of them."""
    known = {}
    for row, file in enumerate(files):
        path = PurePath(file).with_suffix("")
        for start in range(len(path.parts)):
            known.setdefault(path.parts[start:], set()).add(row)
    found, folders = [], {part for path in known for part in path[:-1]}
    for file in listed_files:
        parts = PurePath(file).with_suffix("").parts
        tails = (parts[start:] for start in range(len(parts)))
        rows = next((known[tail] for tail in tails if tail in known), set())
        inside = {part for row in rows for part in PurePath(files[row]).parts}
        # In another folder of the corpus it may be another speaker's clip.
        found.append(rows if folders.intersection(parts[:-1]) <= inside else set())
    wrong = [f for f, rows in zip(listed_files, found, strict=True) if len(rows) != 1]
    if wrong:
        fault = f"{len(wrong)} files are not one clip of the corpus each: {wrong[:4]}"
        raise ValueError(f"{fold_file}: {fault}")
    return [row for rows in found for row in rows]


def _require_folds(folds: int, least: int, most: int, what: str) -> None:
    if not least <= folds <= most:
        way_out = f"set `folds` to a number from {least} to {most}"
        way_out = way_out if least <= most else "use another protocol"
        raise ValueError(f"cannot split {most} {what} into {folds} folds; {way_out}")


def _require_known(names: np.ndarray, column: str) -> None:
    if np.any(names == ""):
        fault = f"{np.sum(names == '')} clips have no {column}; register the corpus "
        raise ValueError(f"{fault}from a CSV with it, or use protocol 'stratified'")


def _require_apart(fold: Fold, what: str, member: np.ndarray, data: FeatureSet) -> None:
    """Raise ValueError if a speaker, sentence or recording is on two sides."""
    sides = [set(member[part]) - {""} for part in fold.parts()]
    for one, other in itertools.combinations(sides, 2):
        if shared := one & other:
            who = np.unique(data.speaker[np.isin(member, list(shared))])[:8]
            told = f"{len(shared)} {what}s are on two sides (speakers {', '.join(who)})"
            raise ValueError(f"fold {fold.number}: {told}; 01_preprocess says which")
