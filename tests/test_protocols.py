"""Folds keep their promises."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.protocols import (
    PROTOCOLS,
    Fold,
    Rows,
    make_folds,
    repeated_recordings,
    untrained_labels,
)

RAVDESS_COUNTS = (192, 192, 192, 192, 192, 96, 192, 192)


def rows_of(counts, speakers=4, texts=2, sexes=True, label_names=()):
    """Rows blocked by class; speakers and texts take turns."""
    y = np.repeat(np.arange(len(counts)), counts)
    turn = np.concatenate([np.arange(count) for count in counts])
    speaker = np.array([f"s{value % speakers:02d}" for value in turn])
    sex = np.array([("female", "male")[value % speakers % 2] for value in turn])
    text = np.array([f"t{value // speakers % texts}" for value in turn])
    sex = sex if sexes else np.full(len(y), "")
    return Rows(y, speaker, sex, text, label_names=label_names)


# Supports of the test folds that the published result files show.
@pytest.mark.parametrize(
    ("counts", "folds", "seed", "first", "second", "rows"),
    [
        (
            (127, 81, 46, 69, 71, 79, 62),
            10,
            46,
            [14, 8, 4, 4, 6, 6, 12],
            [7, 12, 8, 9, 6, 5, 7],
            [4, 10, 12, 17, 45],
        ),
        (
            RAVDESS_COUNTS,
            10,
            46,
            [24, 21, 12, 20, 18, 12, 15, 22],
            [19, 24, 22, 15, 18, 10, 15, 21],
            [0, 9, 10, 15, 18],
        ),
        (
            (1103, 1636, 1708, 1084),
            2,
            46,
            [542, 819, 848, 557],
            [561, 817, 860, 527],
            [0, 1, 3, 5, 6],
        ),
        (
            (84,) * 7,
            10,
            46,
            [7, 8, 9, 7, 8, 13, 7],
            [9, 10, 10, 8, 10, 5, 7],
            [3, 9, 10, 12, 45],
        ),
    ],
)
def test_paper_folds_are_the_published_ones(counts, folds, seed, first, second, rows):
    made = make_folds("paper", rows_of(counts), folds=folds, seed=seed)
    y = np.repeat(np.arange(len(counts)), counts)
    assert np.bincount(y[made[0].test], minlength=len(counts)).tolist() == first
    assert np.bincount(y[made[1].test], minlength=len(counts)).tolist() == second
    assert made[0].test[:5].tolist() == rows


# --- any corpus ----------------------------------------------------------------------

COLUMNS = [field.name for field in dataclasses.fields(Rows)]
# What may not be on two sides of a fold, and the protocols that promise it.
APART = {
    "row": list(PROTOCOLS),
    "speaker": ["speaker"],
    "text": ["text"],
    "content": ["speaker", "text"],
}
ONCE = ("paper", "paper_best", "stratified", "speaker", "text")  # every row tests once
NAMES = ("Zoë", "anna", "BO", "01", "2", "s-10", "s9", "Ángel", "李", "x y", "_", "ß")


def sides(fold):
    """Return the parts of a fold that may share nothing."""
    parts = [fold.train, fold.test]
    return parts if fold.validation_is_test else [*parts, fold.validation]


@st.composite
def corpora(draw):
    """Return the rows of a corpus by column: a plan with gaps, or any few rows."""
    sizes = [draw(st.integers(low, high)) for low, high in ((2, 30), (2, 7), (1, 9))]
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    if draw(st.integers(0, 3)):
        plan = np.indices(sizes).reshape(3, -1)
        low, high = draw(st.sampled_from([(0, 1), (0, 3), (1, 1), (1, 3)]))
        table = np.repeat(plan, rng.integers(low, high + 1, plan.shape[1]), axis=1).T
        table = table if len(table) else plan.T[:1]
    else:
        row = st.tuples(*(st.integers(0, size - 1) for size in sizes))
        table = np.array(draw(st.lists(row, min_size=1, max_size=40)))
    speaker, y, text = rng.permutation(table).T
    # One person may be written in two ways, where that is a promise too.
    spellings = [f"{name}{turn}" for name in NAMES for turn in ("", "'", "''")]
    written = rng.permutation(spellings)[speaker]
    if draw(st.booleans()):
        written = np.where(rng.random(len(y)) < 0.5, np.char.upper(written), written)
    sex = np.array(draw(st.sampled_from([("",), ("female", "male"), ("male", "")])))
    content = np.arange(len(y))
    if draw(st.booleans()):
        content = rng.integers(0, max(1, draw(st.integers(1, 3)) * len(y) // 2), len(y))
    unknown = draw(st.sampled_from([None, None, "speaker", "text", "content"]))
    columns = {
        "y": y,
        "speaker": written,
        "sex": sex[speaker % len(sex)],
        "text": np.char.add("t", text.astype(str)),
        "content": np.char.add("hash ", content.astype(str)),
    }
    if unknown:
        columns[unknown] = np.where(rng.random(len(y)) < 0.2, "", columns[unknown])
    return columns


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
@settings(derandomize=True, deadline=None, database=None, max_examples=150)
@given(
    columns=corpora(),
    folds=st.sampled_from([0, 0, 0, 0, 3, 2, 4, 5, 31, 1]),
    seed=st.integers(0, 3),
    corpus=st.sampled_from(["", "", "DEMO"]),
)
def test_whatever_the_corpus_folds_are_as_promised_or_refused(
    protocol, columns, folds, seed, corpus
):
    rows = Rows(**{name: columns[name] for name in COLUMNS if name in columns})
    promise = PROTOCOLS[protocol]
    assert promise.speakers_apart == (protocol in APART["speaker"])
    try:
        made = make_folds(protocol, rows, folds=folds, seed=seed, corpus=corpus)
    except ValueError as error:
        assert len(f"{error}") > 20
        return
    count = len(columns["y"])
    members = {**columns, "row": np.arange(count)}
    members["speaker"] = [name.casefold() for name in columns["speaker"]]
    for fold in made:
        assert len(fold.train) and len(fold.test)
        assert bool(len(fold.validation)) == (promise.chosen_on != "last")
        assert fold.validation_is_test == promise.leaks
        for part in (fold.train, fold.validation, fold.test):
            assert np.all(np.diff(part) > 0) and np.all((part >= 0) & (part < count))
        if fold.validation_is_test:
            np.testing.assert_array_equal(fold.validation, fold.test)
        for what, promised in APART.items():
            if protocol in promised:
                of = np.asarray(members[what])
                for one, other in itertools.combinations(sides(fold), 2):
                    assert not (set(of[one]) & set(of[other])) - {""}, what
    assert [fold.number for fold in made] == list(range(1, len(made) + 1))
    if protocol in ONCE:
        tested = np.sort(np.concatenate([fold.test for fold in made]))
        np.testing.assert_array_equal(tested, np.arange(count))
    if folds:
        assert len(made) == folds


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_an_ordinary_corpus_is_split_by_every_protocol(protocol):
    made = make_folds(protocol, rows_of((40, 30, 50), speakers=8, texts=6))
    assert len(made) == (PROTOCOLS[protocol].folds or 8)


@pytest.mark.parametrize(
    ("speakers", "groups"), [(3, 3), (4, 4), (10, 10), (11, 3), (24, 6)]
)
def test_up_to_ten_speakers_test_alone_and_more_in_groups_of_four(speakers, groups):
    made = make_folds("speaker", rows_of((120, 120), speakers=speakers))
    assert len(made) == groups


# --- the corpora of the workbook -----------------------------------------------------


def test_ravdess_speakers_come_in_six_groups_of_two_women_and_two_men():
    rows = rows_of((240,) * 6, speakers=24)
    made = make_folds("speaker", rows, seed=46)
    assert len(made) == 6
    for fold in made:
        names = sorted(set(rows.speaker[fold.test]))
        sexes = [rows.sex[np.flatnonzero(rows.speaker == name)[0]] for name in names]
        assert sorted(sexes) == ["female", "female", "male", "male"]
        assert set(rows.sex[fold.validation]) == {"female", "male"}


def test_iemocap_tests_by_session():
    names = np.array([f"Ses0{s}{x}" for s in range(1, 6) for x in "FM"])
    speaker = np.tile(names, 12)
    sex = np.where(np.char.endswith(speaker, "F"), "female", "male")
    rows = Rows(np.tile([0, 1], 60), speaker, sex, np.full(120, "a"))
    made = make_folds("speaker", rows, corpus="IEMOCAP")
    assert [sorted(set(speaker[fold.test])) for fold in made] == [
        [f"Ses0{s}F", f"Ses0{s}M"] for s in range(1, 6)
    ]


def test_holdout_has_the_published_sizes():
    (fold,) = make_folds("holdout", rows_of((84,) * 7), seed=46)
    sizes = [len(fold.train), len(fold.validation), len(fold.test)]
    assert sizes == [406, 70, 112]


def test_stratified_folds_keep_the_class_shares():
    rows = rows_of((100, 50))
    for fold in make_folds("stratified", rows, folds=5, seed=0):
        assert np.bincount(rows.y[fold.test]).tolist() == [20, 10]
        assert np.bincount(rows.y[fold.validation]).tolist() == [20, 10]


@pytest.mark.parametrize(
    ("protocol", "rows", "folds", "message"),
    [
        ("paper", rows_of((3, 3)), 10, "6 utterances into 10 folds"),
        ("speaker", rows_of((20, 20), speakers=2), 0, "2 different speakers, and thr"),
        ("speaker", rows_of((20, 20), speakers=2), 2, "2 different speakers, and thr"),
        ("speaker", rows_of((20, 20), speakers=4), 9, "4 speakers into 9.* 2 to 4"),
        ("speaker", rows_of((20, 20), speakers=4), 2, "no training rows.* more folds"),
        ("text", rows_of((20, 20), texts=4), 2, "into 2 folds.* 3 to 4"),
        ("text", rows_of((20, 20), texts=2), 0, "2 different sentences"),
        (
            "stratified",
            rows_of((20, 3), label_names=("a", "b")),
            5,
            "3 clips .*'b'.*set `folds` to 3",
        ),
        ("holdout", rows_of((20, 3), label_names=("a", "b")), 0, "'b' has 3: at least"),
        ("nonsense", rows_of((20, 20)), 0, "unknown protocol 'nonsense'"),
    ],
)
def test_what_cannot_be_split_is_refused(protocol, rows, folds, message):
    with pytest.raises(ValueError, match=message):
        make_folds(protocol, rows, folds=folds)


def test_unknown_speakers_cannot_be_kept_apart():
    rows = rows_of((20, 20))
    blank = Rows(rows.y, np.full(40, ""), rows.sex, rows.text)
    with pytest.raises(ValueError, match="speaker.*40 have none.*stratified"):
        make_folds("speaker", blank)


def test_a_leaking_fold_cannot_be_built():
    train, test = np.arange(5), np.arange(4, 8)
    with pytest.raises(ValueError, match="train and test share rows"):
        Fold(1, train, np.empty(0, int), test)
    with pytest.raises(ValueError, match="validation and test share rows"):
        Fold(1, np.arange(4), test, test)
    with pytest.raises(ValueError, match="validation is not the test part"):
        Fold(1, np.arange(4), test[1:], test, validation_is_test=True)


# --- what training and test must not share --------------------------------------------


def with_copy(speaker, other):
    """Return rows in which a recording of one speaker is also one of another's."""
    rows = rows_of((24, 24), speakers=6, texts=4)
    content = np.array([f"{row:064x}" for row in range(len(rows.y))])
    first = np.flatnonzero(rows.speaker == speaker)[0]
    second = np.flatnonzero(rows.speaker == other)[1]
    content[second] = content[first]
    return dataclasses.replace(rows, content=content)


def test_a_recording_under_two_speakers_is_refused_where_speakers_are_apart():
    with pytest.raises(ValueError, match=r"1 recordings .*\(speakers s01, s04\)"):
        make_folds("speaker", with_copy("s01", "s04"))
    make_folds("speaker", with_copy("s01", "s01"))  # always on one side


def test_recordings_that_test_and_train_are_counted_elsewhere():
    rows = with_copy("s01", "s04")
    for protocol in ("paper", "stratified", "paper_best"):
        folds = make_folds(protocol, rows)
        split = sum(
            len(set(rows.content[fold.test]) & set(rows.content[fold.train]))
            for fold in folds
        )
        found = sum(repeated_recordings(fold, rows.content) for fold in folds)
        assert split <= found <= 2
    unknown = np.full(len(rows.y), "")
    assert sum(repeated_recordings(fold, unknown) for fold in folds) == 0


def test_one_speaker_in_two_spellings_is_refused():
    rows = rows_of((24, 24), speakers=6)
    speaker = rows.speaker.astype("<U9")
    speaker[speaker == "s01"] = "anna"
    speaker[speaker == "s04"] = "Anna"
    with pytest.raises(ValueError, match="speaker 'anna' is on two sides"):
        make_folds("speaker", dataclasses.replace(rows, speaker=speaker))


def test_a_label_of_each_speaker_cannot_be_learnt():
    y = np.repeat([0, 1, 2, 3], 12)
    speaker = np.array([f"s{label}" for label in y])
    rows = Rows(y, speaker, np.full(48, ""), np.full(48, ""), None, list("abcd"))
    with pytest.raises(ValueError, match="nothing can be learnt"):
        make_folds("speaker", rows)
    keep = y < 3  # one speaker trains, one validates, one tests
    three = Rows(y[keep], speaker[keep], rows.sex[keep], rows.text[keep], None, "abc")
    with pytest.raises(ValueError, match="all 12 training clips have the label 'c'"):
        make_folds("speaker", three)


def test_a_label_of_one_speaker_is_named_where_it_tests():
    rows = rows_of((24, 24, 4), speakers=4)
    speaker = np.where(rows.y == 2, "s00", rows.speaker)
    folds = make_folds("speaker", dataclasses.replace(rows, speaker=speaker))
    assert [untrained_labels(fold, rows.y).tolist() for fold in folds][0] == [2]
    assert all(not len(untrained_labels(fold, rows.y)) for fold in folds[1:])
