"""Folds keep their promises."""

import itertools
import types

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lib import protocols
from lib.protocols import PROTOCOLS, Fold, make_folds


def rows_of(counts, speakers=4, texts=2, corpus="TINY", **columns):
    """What a protocol reads of features, by class; speakers and texts take turns."""
    y = np.repeat(np.arange(len(counts)), counts)
    turn = np.concatenate([np.arange(count) for count in counts])
    speaker = np.array([f"s{value % speakers:02d}" for value in turn])
    sex = np.array([("female", "male")[value % speakers % 2] for value in turn])
    text = np.array([f"t{value // speakers % texts}" for value in turn])
    rows = {"y": y, "speaker": speaker, "sex": sex, "text": text}
    rows |= {"content": np.full(len(y), ""), "label_names": "abcdefgh"}
    return types.SimpleNamespace(**rows | columns, about={"corpus": corpus})


def test_paper_folds_of_iemocap_are_the_published_ones():
    """By their result files; `test_corpora` has those of the other corpora."""
    rows = rows_of((1103, 1636, 1708, 1084))
    tested = make_folds("paper", rows, folds=2, seed=46)[0].test
    assert np.bincount(rows.y[tested]).tolist() == [542, 819, 848, 557]
    assert tested[:5].tolist() == [0, 1, 3, 5, 6]


# What may not be on two sides of a fold, and the protocols that promise it.
APART = {"row": list(PROTOCOLS), "text": ["text"], "content": ["speaker", "text"]}
APART["speaker"] = [name for name in PROTOCOLS if PROTOCOLS[name].speakers_apart]
ONCE = {*PROTOCOLS} - {"holdout", "repeated_holdout", "listed"}  # every row tests once


@st.composite
def corpora(draw):
    """Return the rows of a corpus by column: a plan with gaps and repetitions."""
    sizes = [draw(st.integers(low, high)) for low, high in ((2, 30), (2, 7), (1, 9))]
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    plan = np.indices(sizes).reshape(3, -1)
    low, high = draw(st.sampled_from([(0, 1), (0, 3), (1, 1), (1, 3)]))
    table = np.repeat(plan, rng.integers(low, high + 1, plan.shape[1]), axis=1).T
    assume(len(table))
    speaker, y, text = rng.permutation(table).T
    sex = np.array(draw(st.sampled_from([("",), ("female", "male"), ("male", "")])))
    content = rng.integers(0, draw(st.sampled_from([1, 3, 10**9])) * len(y), len(y))
    columns = {"y": y, "label_names": np.arange(y.max() + 1).astype(str)}
    columns |= {"speaker": np.char.add("s", speaker.astype(str))}
    columns |= {"text": np.char.add("t", text.astype(str))}
    columns |= {"content": np.char.add("hash ", content.astype(str))}
    columns["sex"] = sex[speaker % len(sex)]
    if unknown := draw(st.sampled_from([None, None, "speaker", "text", "content"])):
        columns[unknown] = np.where(rng.random(len(y)) < 0.2, "", columns[unknown])
    return columns


@pytest.mark.parametrize("protocol", sorted({*PROTOCOLS} - {"listed"}))
@settings(derandomize=True, deadline=None, database=None, max_examples=150)
@given(
    columns=corpora(),
    folds=st.sampled_from([0, 0, 0, 0, 3, 2, 4, 5, 31, 1]),
    seed=st.integers(0, 3),
    corpus=st.sampled_from(["", "", "DEMO"]),
)
def test_folds_are_as_promised_or_refused(protocol, columns, folds, seed, corpus):
    promise, count = PROTOCOLS[protocol], len(columns["y"])
    rows = types.SimpleNamespace(**columns, about={"corpus": corpus})
    try:
        made = make_folds(protocol, rows, folds=folds, seed=seed)
    except ValueError as error:
        assert len(f"{error}") > 20
        return
    members = {**columns, "row": np.arange(count)}
    for fold in made:
        assert len(fold.train) and len(fold.test)
        assert bool(len(fold.validation)) == (promise.chosen_on != "last")
        assert fold.validation_is_test == (promise.chosen_on == "test")
        parts = [fold.train, fold.test, fold.validation]
        for part in parts:
            assert np.all(np.diff(part) > 0) and np.all((part >= 0) & (part < count))
        if fold.validation_is_test:
            np.testing.assert_array_equal(parts.pop(), fold.test)
        for what, promised in APART.items():
            if protocol in promised:
                for one, other in itertools.combinations(parts, 2):
                    shared = np.intersect1d(members[what][one], members[what][other])
                    assert not set(shared) - {""}, what
    assert [fold.number for fold in made] == list(range(1, len(made) + 1))
    assert folds in (0, len(made))
    if protocol in ONCE:
        tested = np.sort(np.concatenate([fold.test for fold in made]))
        np.testing.assert_array_equal(tested, np.arange(count))


@pytest.mark.parametrize("protocol", sorted({*PROTOCOLS} - {"listed"}))
def test_every_protocol_splits_an_ordinary_corpus_and_the_seed_decides(protocol):
    rows, drawn = rows_of((40, 30, 50), speakers=8, texts=6), []
    assert len(make_folds(protocol, rows)) == PROTOCOLS[protocol].own_folds("", 8)
    for seed in (1, 1, 2, 3):
        made = make_folds(protocol, rows, 3 * (protocol == "speaker"), seed)
        drawn.append(str([fold.parts() for fold in made]))
    assert drawn[0] == drawn[1] and len(set(drawn)) == 3


def test_up_to_ten_speakers_test_alone_and_ravdess_in_six_groups_of_both_sexes():
    assert len(make_folds("speaker", rows_of((120, 120), speakers=10))) == 10
    assert len(make_folds("speaker", rows_of((120, 120), 10, corpus="DEMO"))) == 4
    rows = rows_of((240,) * 6, speakers=24)
    made = make_folds("speaker", rows, seed=46)
    assert len(made) == 6
    for fold in made:
        tested = {*zip(rows.sex[fold.test], rows.speaker[fold.test], strict=True)}
        sexes = sorted(sex for sex, _ in tested)
        assert sexes == ["female", "female", "male", "male"]
        assert set(rows.sex[fold.validation]) == {"female", "male"}


def test_iemocap_tests_by_session():
    names = np.array([f"Ses0{s}{x}" for s in range(1, 6) for x in "FM"])
    rows = rows_of((60, 60), speaker=np.tile(names, 12), corpus="IEMOCAP")
    tested = [sorted(set(rows.speaker[f.test])) for f in make_folds("speaker", rows)]
    assert tested == names.reshape(5, 2).tolist()


def test_holdout_has_the_published_sizes():
    (fold,) = make_folds("holdout", rows_of((84,) * 7), seed=46)
    assert [len(part) for part in fold.parts()] == [406, 70, 112]


def test_stratified_folds_keep_the_class_shares_and_the_sizes_of_speaker():
    rows = rows_of((100, 50), speaker=np.full(150, ""))
    assert len(make_folds("stratified", rows)) == 10
    for fold in make_folds("stratified", rows, folds=5, seed=0):
        assert np.bincount(rows.y[fold.test]).tolist() == [20, 10]
        assert np.bincount(rows.y[fold.validation]).tolist() == [20, 10]
    who = np.repeat([*"abcdefghijkl"], [9, 31, 12, 25, 18, 7, 14, 22, 16, 11, 20, 15])
    rows = rows_of((100, 60, 40), speaker=who)
    pairs = [make_folds(name, rows) for name in ("stratified", "speaker")]
    for fold, other in zip(*pairs, strict=True):
        assert [*map(len, fold.parts())] == [*map(len, other.parts())]
        for part in fold.parts():  # a stretch, so less than one clip off at both ends
            share = len(part) * np.array([0.5, 0.3, 0.2])
            assert (np.abs(np.bincount(rows.y[part]) - share) < 2).all()


def test_validation_rows_train_where_nothing_is_chosen():
    rows = rows_of((40, 30), speakers=8)
    for protocol in ("speaker", "stratified"):
        before = make_folds(protocol, rows)
        after = make_folds(protocol, rows, validation="none")
        for one, other in zip(before, after, strict=True):
            assert not len(other.validation)
            both = [*one.train, *one.validation]
            assert other.train.tolist() == sorted(both) and len(set(both)) == len(both)
            np.testing.assert_array_equal(one.test, other.test)


@pytest.fixture
def listed(tmp_path):
    """Return rows with files, and a function from a list to its folds."""
    rows = rows_of((24, 24), speakers=6, texts=4)
    rows.file = np.array([f"{s}/clip{i}.wav" for i, s in enumerate(rows.speaker)])

    def make(text, **given):
        (tmp_path / "list.csv").write_text(text)
        given["fold_file"] = str(tmp_path / "list.csv")
        return make_folds("listed", rows, **given)

    return rows, make


def test_listed_folds_are_those_of_the_file(listed):
    rows, make = listed
    made = make("speaker,fold\ns00,a\ns01, a \ns02,b\ns03,b\ns04,c\n")
    speakers = [{*rows.speaker[part]} for fold in made for part in fold.parts()]
    s00, s01, s02, s03, s04 = (f"s0{number}" for number in range(5))
    assert speakers[:3] == [{s04}, {s02, s03}, {s00, s01}]  # s05 is in no line
    assert speakers[3:6] == [{s00, s01}, {s04}, {s02, s03}]
    assert speakers[6:] == [{s02, s03}, {s00, s01}, {s04}]
    lines = "speaker,fold,part\ns00,1,test\ns01,1,train\ns02,1,train\ns03,1,train\n"
    (fold,) = make(lines)
    assert 0 < len(fold.validation) and 0 < len(fold.train) < 24
    (fold,) = make(lines, validation="none")
    assert (len(fold.validation), len(fold.train), len(fold.test)) == (0, 24, 8)
    (fold, _) = make("speaker,fold\ns00,1\ns01,2\n", validation="none")
    assert {*rows.speaker[fold.train]} == {s01}
    # As EmoBox has them: another folder and format, training lines, a part left out.
    parts = zip(rows.file, ["train", "test", ""] * 16, strict=True)
    lines = [f"downloads/x/{f[:-4]}.flac,1,{part}\n" for f, part in parts if part]
    (fold,) = make("".join(["file,fold,part\n", *lines]), validation="none")
    assert fold.train.tolist() == list(range(0, 48, 3))
    assert fold.test.tolist() == list(range(1, 48, 3))


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        ("file,fold\nclip0,1\nnobody,2\n", {}, "1 files are not one clip.*nobody"),
        ("file,fold\ns01/clip0,1\n", {}, "1 files are not one clip.*s01/clip0"),
        ("speaker,fold\ns00,1\ns77,2\n", {}, "'s77,2' .1 so.: the corpus has no"),
        ("speaker,group\ns00,1\n", {}, "needs file or speaker, and fold"),
        ("file,fold,part\nclip0,1,dev\n", {}, "'clip0,1,dev'.*part is none of"),
        ("speaker,fold\ns00,1\ns01,\n", {}, "fold is empty"),
        ("speaker,fold,part\ns00,1,train\n", {}, "nothing tests in this fold"),
        ("file,fold\nclip0,1\ns00/clip0,1\n", {}, "'s00/clip0,1'.* the file twice"),
        ("speaker,fold\ns00,1\ns01,2\ns00,2\n", {}, "'s00,2'.*another fold too"),
        ("speaker,fold\ns00,1\ns01,2\n", {"folds": 3}, "has 2 folds; leave"),
        ("speaker,fold\ns00,1\ns01,1\n", {}, "no training rows are left"),
        ("speaker,fold\n", {}, "0 rows of"),
        ("", {}, "cannot be read .No columns"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(listed, text, given, message):
    with pytest.raises(ValueError, match=message):
        listed[1](text, **given)


def test_who_validates_is_refused_where_nothing_is_chosen():
    for protocol in ("paper", "paper_best", "repeated_holdout"):
        with pytest.raises(ValueError, match="has no validation part of its own"):
            make_folds(protocol, rows_of((40, 40)), validation="refit")
    for wrong in ({"name": "speaker", "fold_file": "a.csv"}, {"name": "listed"}):
        with pytest.raises(ValueError, match="fold_file belong together"):
            make_folds(data=rows_of((40, 40)), **wrong)


def test_the_five_lists_of_ravdess_are_those_of_the_literature():
    actors = np.array([f"{number:02d}" for number in range(1, 25)])
    rows = rows_of((240, 240), speaker=np.tile(actors, 20))
    path = "lib/data/folds/ravdess_five.csv"
    made = make_folds("listed", rows, fold_file=path, validation="none")
    tested = [" ".join(np.unique(rows.speaker[fold.test])) for fold in made]
    assert tested[:2] == ["02 05 14 15 16", "03 06 07 13 18"]
    assert tested[2:4] == ["10 11 12 19 20", "08 17 21 23 24"]
    assert tested[4] == "01 04 09 22" and sorted(" ".join(tested).split()) == [*actors]


UNKNOWN = {"speaker": np.full(40, "")}
BY_LABEL = {"speaker": np.repeat(["a", "b", "c", "d"], 12)}  # one trains, of three


@pytest.mark.parametrize(
    ("protocol", "rows", "folds", "message"),
    [
        ("paper", rows_of((3, 3)), 10, "6 clips into 10 folds"),
        ("speaker", rows_of((20, 20), speakers=1), 0, "1 speakers into 1.*another pro"),
        ("speaker", rows_of((20, 20), speakers=4), 9, "4 speakers into 9.* 2 to 4"),
        ("speaker", rows_of((20, 20), **UNKNOWN), 0, "40 clips have no speaker.*strat"),
        ("speaker", rows_of((12,) * 4, **BY_LABEL), 0, "no fold trains a label"),
        ("text", rows_of((20, 20), texts=2), 0, "2 different sentences.*another pro"),
        ("stratified", rows_of((20, 3)), 5, "3 clips of 'b'.*set `folds` .* 3 to 3"),
        ("holdout", rows_of((20, 3)), 0, "'b' has 3"),
        ("nonsense", rows_of((20, 20)), 0, "unknown protocol 'nonsense'"),
    ],
)
def test_what_cannot_be_split_is_refused(protocol, rows, folds, message):
    with pytest.raises(ValueError, match=message):
        make_folds(protocol, rows, folds=folds)


@pytest.mark.parametrize(
    ("train", "validation", "test", "same", "message"),
    [
        ([1, 2], [], [2, 3], False, "train and test share rows"),
        ([1, 2], [2], [3], False, "train and validation share rows"),
        ([1], [2, 3], [3], False, "validation and test share rows"),
        ([1], [2], [2, 3], True, "validation is not the test part"),
    ],
)
def test_a_leaking_fold_cannot_be_built(train, validation, test, same, message):
    parts = [np.array(part, int) for part in (train, validation, test)]
    with pytest.raises(ValueError, match=message):
        Fold(1, *parts, same)


def test_a_recording_under_two_speakers_is_refused_or_counted():
    rows = rows_of((24, 24), speakers=6, texts=4)
    rows.content[[1, 10]] = "the same"  # of s01 and s04
    with pytest.raises(ValueError, match=r"1 recordings .*\(speakers s01, s04\)"):
        make_folds("speaker", rows)
    for fold in make_folds("stratified", rows):
        used = np.concatenate([fold.train, fold.validation])
        wanted = [row for row in (1, 10) if row in fold.test and 11 - row in used]
        assert protocols.repeated_recordings(fold, rows.content) == len(wanted)


def test_a_label_of_one_speaker_is_named_where_it_tests():
    rows = rows_of((24, 24, 4))
    rows.speaker[rows.y == 2] = "s00"
    first, *others = make_folds("speaker", rows)
    assert protocols.untrained_labels(first, rows.y).tolist() == [2]
    assert all(not len(protocols.untrained_labels(fold, rows.y)) for fold in others)
