"""Names, labels, counts, order and oddities of the built-in corpora."""

import itertools
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from sklearn.model_selection import KFold

from lib import corpora
from lib.corpora import ravdess
from lib.files import REPOSITORY

SHARED = REPOSITORY.parent / "shared"
CASIA_SPEAKERS = ("liuchanhg", "wangzhe", "zhaoquanyin", "ZhaoZuoxiang")


def parse(name, file):
    return corpora.get(name).parse(PurePosixPath(file))


def make(folder, files):
    """Create empty files: names alone are read."""
    for file in files:
        path = Path(folder) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def ravdess_files():
    """Enumerate the release from its naming rule, by brute force."""
    for actor, emotion, intensity, statement, take in itertools.product(
        range(1, 25), range(1, 9), (1, 2), (1, 2), (1, 2)
    ):
        if (emotion, intensity) != (1, 2):
            name = f"03-01-{emotion:02d}-{intensity:02d}-{statement:02d}-{take:02d}"
            yield f"Actor_{actor:02d}/{name}-{actor:02d}.wav"


def emovo_files():
    sentences = "b1 b2 b3 l1 l2 l3 l4 n1 n2 n3 n4 n5 d1 d2".split()
    for emotion in "neu dis gio pau rab sor tri".split():
        for speaker in "m1 m2 m3 f1 f2 f3".split():
            for sentence in sentences:
                yield f"{speaker}/{emotion}-{speaker}-{sentence}.wav"


def savee_files():
    for speaker in ("DC", "JE", "JK", "KL"):
        for code in ("a", "d", "f", "h", "n", "sa", "su"):
            for number in range(1, 31 if code == "n" else 16):
                yield f"AudioData/{speaker}/{code}{number:02d}.wav"


def casia_files():
    emotions = ("angry", "fear", "happy", "neutral", "sad", "surprise")
    for speaker, emotion in itertools.product(CASIA_SPEAKERS, emotions):
        for number in range(201, 251):
            yield f"{speaker}/{emotion}/{number}.wav"


def emodb_files():
    return [f"wav/{key}.wav" for key in corpora.load_checksums("EMODB")]


FILES = {
    "CASIA": casia_files,
    "EMODB": emodb_files,
    "EMOVO": emovo_files,
    "RAVDESS": ravdess_files,
    "SAVEE": savee_files,
}

# Class counts, number of folds, seed, and the classes tested in fold 1: published
# with the official TIM-Net arrays.
GOLDEN = {
    "CASIA": ([200] * 6, 8, 46, [29, 27, 19, 21, 28, 26], [0, 9, 13, 17, 18]),
    "EMODB": (
        [127, 81, 46, 69, 71, 79, 62],
        10,
        46,
        [14, 8, 4, 4, 6, 6, 12],
        [4, 10, 12, 17, 45],
    ),
    "EMOVO": ([84] * 7, 10, 46, [7, 8, 9, 7, 8, 13, 7], [3, 9, 10, 12, 45]),
    "RAVDESS": (
        [192, 192, 192, 192, 192, 96, 192, 192],
        10,
        46,
        [24, 21, 12, 20, 18, 12, 15, 22],
        [0, 9, 10, 15, 18],
    ),
    "SAVEE": (
        [60, 60, 60, 60, 120, 60, 60],
        8,
        46,
        [4, 7, 8, 4, 20, 12, 5],
        [4, 17, 45, 55, 62],
    ),
}


@pytest.fixture(scope="module", params=sorted(FILES))
def whole(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    make(folder, FILES[request.param]())
    return corpora.get(request.param), *corpora.find(corpora.get(request.param), folder)


def test_a_whole_copy_has_no_problems_and_the_expected_counts(whole):
    corpus, utterances, problems = whole
    assert problems == []
    counted = Counter(utterance.label for utterance in utterances)
    assert dict(counted) == dict(corpus.counts)
    assert [counted[label] for label in corpus.labels] == GOLDEN[corpus.name][0]
    assert len({utterance.key for utterance in utterances}) == len(utterances)


def test_rows_reproduce_the_published_folds(whole):
    corpus, utterances, _ = whole
    _, folds, seed, supports, first_rows = GOLDEN[corpus.name]
    y = np.array([corpus.labels.index(u.label) for u in utterances])
    assert (np.diff(y) >= 0).all(), "rows must be class-blocked"
    splitter = KFold(folds, shuffle=True, random_state=seed)
    rows = next(splitter.split(y))[1]
    assert rows[:5].tolist() == first_rows
    assert np.bincount(y[rows], minlength=len(corpus.labels)).tolist() == supports


def test_speakers_and_sexes_are_those_of_the_record(whole):
    corpus, utterances, _ = whole
    found = {u.speaker: u.sex for u in utterances}
    assert found == dict(corpus.sexes)
    assert set(corpus.speakers) == set(found)


def test_sentences_are_told_apart(whole):
    corpus, utterances, _ = whole
    sentences = {"CASIA": 50, "EMODB": 10, "EMOVO": 14, "RAVDESS": 2, "SAVEE": 30}
    assert len({u.text for u in utterances}) == sentences[corpus.name]


def test_emodb_has_the_known_speaker_by_class_matrix():
    # Columns: Wut, Langeweile, Ekel, Angst, Freude, Neutral, Trauer.
    matrix = {
        "03": (14, 5, 1, 4, 7, 11, 7),
        "08": (12, 10, 0, 6, 11, 10, 9),
        "09": (13, 4, 8, 1, 4, 9, 4),
        "10": (10, 8, 1, 8, 4, 4, 3),
        "11": (11, 8, 2, 10, 8, 9, 7),
        "12": (12, 5, 2, 6, 2, 4, 4),
        "13": (12, 10, 8, 7, 10, 9, 5),
        "14": (16, 8, 8, 12, 8, 7, 10),
        "15": (13, 9, 5, 8, 6, 11, 4),
        "16": (14, 14, 11, 7, 11, 5, 9),
    }
    emotions = ("angry", "boredom", "disgust", "fear", "happy", "neutral", "sad")
    counted = Counter(
        (tags.speaker, tags.label)
        for tags in (parse("EMODB", file) for file in emodb_files())
    )
    for speaker, expected in matrix.items():
        found = tuple(counted[speaker, emotion] for emotion in emotions)
        assert found == expected, speaker


@pytest.mark.parametrize(
    ("name", "file", "label", "speaker", "sex", "key"),
    [
        ("EMODB", "wav/03a01Fa.wav", "happy", "03", "male", "03a01Fa"),
        ("EMODB", "16b10Ea.flac", "disgust", "16", "female", "16b10Ea"),
        ("EMODB", "disgust/08a07Ab.WAV", "fear", "08", "female", "08a07Ab"),
        ("EMOVO", "f1/rab-f1-b1.wav", "angry", "f1", "female", "rab-f1-b1"),
        ("EMOVO", "gio-m3-d2.flac", "happy", "m3", "male", "gio-m3-d2"),
        ("EMOVO", "fear/pau-f2-l4.wav", "fear", "f2", "female", "pau-f2-l4"),
        ("SAVEE", "AudioData/DC/a01.wav", "angry", "DC", "male", "DC_a01"),
        ("SAVEE", "KL/su15.wav", "surprise", "KL", "male", "KL_su15"),
        ("SAVEE", "JK_n30.wav", "neutral", "JK", "male", "JK_n30"),
        ("SAVEE", "sad/DC_sa01.wav", "sad", "DC", "male", "DC_sa01"),
        (
            "CASIA",
            "liuchanhg/angry/201.wav",
            "angry",
            "liuchanhg",
            "female",
            "201-angry-liuchanhg",
        ),
        (
            "CASIA",
            "250-sad-zhaozuoxiang.wav",
            "sad",
            "ZhaoZuoxiang",
            "male",
            "250-sad-ZhaoZuoxiang",
        ),
        (
            "CASIA",
            "fear/202-surprise-wangzhe.wav",
            "surprise",
            "wangzhe",
            "male",
            "202-surprise-wangzhe",
        ),
        (
            "RAVDESS",
            "audio_speech_actors_01-24/Actor_12/03-01-08-02-02-01-12.wav",
            "surprise",
            "12",
            "female",
            "03-01-08-02-02-01-12",
        ),
        (
            "RAVDESS",
            "calm/03-01-01-01-01-01-01.flac",
            "neutral",
            "01",
            "male",
            "03-01-01-01-01-01-01",
        ),
        (
            "ASVP_ESD",
            "Audio/actor_47/03-02-12-01-15-47-02-03.wav",
            "disappointed",
            "047",
            "female",
            "03-02-12-01-15-47-02-03",
        ),
        (
            "ASVP_ESD",
            "03-01-05-02-04-08-02-02-03.wav",
            "angry",
            "008",
            "male",
            "03-01-05-02-04-08-02-02-03",
        ),
    ],
)
def test_all_layouts_are_read(name, file, label, speaker, sex, key):
    tags = parse(name, file)
    assert (tags.label, tags.speaker, tags.sex, tags.key) == (label, speaker, sex, key)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("EMODB", "02a01Fa.wav"),
        ("EMODB", "03a03Fa.wav"),
        ("EMODB", "03a01Xa.wav"),
        ("EMODB", "03a01F.wav"),
        ("EMOVO", "rab-f4-b1.wav"),
        ("EMOVO", "ang-f1-b1.wav"),
        ("EMOVO", "rab-f1-d3.wav"),
        ("SAVEE", "a01.wav"),
        ("SAVEE", "XX_a01.wav"),
        ("SAVEE", "DC/a16.wav"),
        ("SAVEE", "DC/s01.wav"),
        ("CASIA", "liuchanhg/201.wav"),
        ("CASIA", "liuchanhg/angry/251.wav"),
        ("CASIA", "liuchanhg/angry/201-copy.wav"),
        ("RAVDESS", "03-01-09-01-01-01-01.wav"),
        ("RAVDESS", "03-01-01-02-01-01-01.wav"),
        ("RAVDESS", "03-01-05-01-01-01-25.wav"),
        ("RAVDESS", "03-01-05-01-01-01.wav"),
        ("ASVP_ESD", "03-01-14-01-01-01.wav"),
        ("ASVP_ESD", "03-03-01-01-01-01.wav"),
    ],
)
def test_foreign_names_are_refused(name, file):
    with pytest.raises(ValueError):
        parse(name, file)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("RAVDESS", "Actor_01/03-02-05-01-01-01-01.wav"),
        ("RAVDESS", "Actor_01/01-01-05-01-01-01-01.wav"),
        ("ASVP_ESD", "actor_1/03-01-13-01-01-01-02.wav"),
        ("ASVP_ESD", "Bonus_baby/actor_1/03-02-04-01-01-01-04.wav"),
    ],
)
def test_song_video_and_other_classes_are_not_the_task(name, file):
    assert parse(name, file) is None


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("RAVDESS", "Actor_03/03-01-05-01-01-01-04.wav"),
        ("EMOVO", "m1/rab-f1-b1.wav"),
        ("SAVEE", "JE/DC_a01.wav"),
        ("CASIA", "wangzhe/201-angry-liuchanhg.wav"),
    ],
)
def test_a_contradicting_speaker_folder_is_reported(tmp_path, name, file):
    make(tmp_path, [file])
    utterances, problems = corpora.find(corpora.get(name), tmp_path)
    assert utterances == []
    assert [(p.severity, p.kind, p.file) for p in problems] == [
        ("error", "mislabelled", file)
    ]


def test_a_contradicting_class_folder_is_a_warning_and_the_name_decides(tmp_path):
    make(tmp_path, ["sad/03a01Wa.wav", "happy/03a01Fa.wav"])
    utterances, problems = corpora.find(corpora.get("EMODB"), tmp_path)
    assert [u.label for u in utterances] == ["angry", "happy"]
    assert [(p.severity, p.file) for p in problems] == [("warning", "sad/03a01Wa.wav")]
    assert "angry" in problems[0].message and "sad" in problems[0].message


def test_class_folders_give_the_same_rows_as_the_distributed_layout(tmp_path):
    """The official TIM-Net wants `<class>/<file>.wav`."""
    corpus = corpora.get("SAVEE")
    make(tmp_path / "release", savee_files())
    rows = corpora.scan(corpus, tmp_path / "release")
    sorted_copy = tmp_path / "sorted"
    make(sorted_copy, [f"{u.label}/{u.key}.flac" for u in rows])
    again = corpora.scan(corpus, sorted_copy)
    assert [u.tags for u in again] == [u.tags for u in rows]


def test_casia_sorts_by_number_then_by_speaker_whatever_the_case(tmp_path):
    make(tmp_path, casia_files())
    rows = corpora.scan(corpora.get("CASIA"), tmp_path)
    keys = [row.tags.key for row in rows[:6]]
    assert keys == [
        "201-angry-liuchanhg",
        "201-angry-wangzhe",
        "201-angry-zhaoquanyin",
        "201-angry-ZhaoZuoxiang",
        "202-angry-liuchanhg",
        "202-angry-wangzhe",
    ]


def test_numbers_in_names_sort_as_numbers(tmp_path):
    stems = ["03-01-01-01-9-2-02", "03-01-01-01-10-2-02"]
    make(tmp_path, [f"{stem}.wav" for stem in stems])
    rows = corpora.scan(corpora.get("ASVP_ESD"), tmp_path)
    assert [row.tags.key for row in rows] == stems


def test_the_kaggle_copy_counts_every_utterance_once(tmp_path):
    files = [
        "Actor_01/03-01-05-01-01-01-01.wav",
        "audio_speech_actors_01-24/Actor_01/03-01-05-01-01-01-01.wav",
    ]
    make(tmp_path, files)
    corpus = corpora.get("RAVDESS")
    assert [row.file for row in corpora.scan(corpus, tmp_path)] == files[:1]
    _, problems = corpora.find(corpus, tmp_path)
    assert [(p.severity, p.kind, p.file) for p in problems] == [
        ("warning", "duplicate", files[1])
    ]
    assert files[0] in problems[0].message


def test_junk_is_passed_over_and_foreign_audio_is_reported(tmp_path):
    junk = [
        ".DS_Store",
        "Thumbs.db",
        "_desktop.ini",
        "wav/._03a01Fa.wav",
        "wav/03a01Fa.lab",
        "wav/03a01Fa.peak",
        "wav/03a01Fa.tag",
        "__MACOSX/wav/03a01Fa.wav",
        ".hidden/03a01Nc.wav",
    ]
    make(tmp_path, [*junk, "wav/03a01Fa.wav", "wav/holiday.wav", "wav/03a01Wa.mp3"])
    utterances, problems = corpora.find(corpora.get("EMODB"), tmp_path)
    assert [u.file for u in utterances] == ["wav/03a01Fa.wav"]
    assert utterances[0].path == tmp_path / "wav" / "03a01Fa.wav"
    assert sorted((p.kind, p.file) for p in problems) == [
        ("extra", "wav/03a01Wa.mp3"),
        ("extra", "wav/holiday.wav"),
    ]


def test_song_is_left_out_with_one_note(tmp_path):
    make(
        tmp_path,
        [
            "Actor_01/03-01-05-01-01-01-01.wav",
            "Actor_01/03-02-05-01-01-01-01.wav",
            "Actor_01/03-02-05-01-01-02-01.wav",
        ],
    )
    utterances, problems = corpora.find(corpora.get("RAVDESS"), tmp_path)
    assert len(utterances) == 1
    assert [p.severity for p in problems] == ["note"]
    assert "2 audio files" in problems[0].message


def test_linked_folders_are_followed_once(tmp_path):
    make(tmp_path / "elsewhere", ["03-01-05-01-01-01-01.wav"])
    corpus_folder = tmp_path / "RAVDESS"
    corpus_folder.mkdir()
    (corpus_folder / "Actor_01").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(corpus_folder)
    rows = corpora.scan(corpora.get("RAVDESS"), corpus_folder)
    assert [row.file for row in rows] == ["Actor_01/03-01-05-01-01-01-01.wav"]


def test_a_missing_folder_says_what_to_do(tmp_path):
    folder = tmp_path / "EMODB"
    for function in (corpora.scan, corpora.find):
        with pytest.raises(FileNotFoundError) as error:
            function(corpora.get("EMODB"), folder)
        message = str(error.value)
        assert str(folder) in message
        assert "emodb.bilderbar.info" in message
        assert "corpora.download(" in message
    with pytest.raises(FileNotFoundError) as error:
        corpora.scan(corpora.get("CASIA"), tmp_path / "CASIA")
    assert "licence" in str(error.value)
    assert "corpora.download(" not in str(error.value)


def test_a_folder_of_something_else_is_refused(tmp_path):
    make(tmp_path, ["holiday.wav"])
    with pytest.raises(FileNotFoundError, match="holiday.wav"):
        corpora.scan(corpora.get("EMODB"), tmp_path)


def test_get_knows_every_name_and_hints_at_the_nearest():
    assert set(corpora.names()) == {
        "DEMO",
        "CASIA",
        "EMODB",
        "EMOVO",
        "IEMOCAP",
        "RAVDESS",
        "SAVEE",
        "ASVP_ESD",
    }
    for name in corpora.names():
        assert corpora.get(name).name == name
    for wrong, right in [
        ("emodb", "EMODB"),
        ("EMO-DB", "EMODB"),
        ("RAVDE", "RAVDESS"),
        ("Ravdes", "RAVDESS"),
        ("SAVE", "SAVEE"),
        ("ASVP-ESD", "ASVP_ESD"),
    ]:
        with pytest.raises(ValueError, match=f"Did you mean {right}"):
            corpora.get(wrong)
    with pytest.raises(ValueError, match="Known: DEMO, CASIA"):
        corpora.get("zzzz")


def test_official_clip_lengths_and_blocks():
    """Frames follow as 1 + floor(samples / 512)."""
    frames = {
        "CASIA": (172, 8),
        "EMODB": (188, 8),
        "EMOVO": (188, 8),
        "IEMOCAP": (606, 10),
        "RAVDESS": (215, 8),
        "SAVEE": (254, 8),
    }
    for name, (expected, dilations) in frames.items():
        corpus = corpora.get(name)
        assert 1 + corpus.clip_samples // 512 == expected, name
        assert corpus.dilations == dilations, name
    assert corpora.get("RAVDESS").official_name == "RAVDE"


@pytest.mark.parametrize(
    ("name", "number", "key"),
    [
        ("EMODB", 535, "03a01Fa"),
        ("RAVDESS", 1440, "03-01-05-01-01-01-01"),
        ("SAVEE", 480, "DC_a01"),
    ],
)
def test_checksums_cover_every_original_file(name, number, key):
    hashes = corpora.load_checksums(name)
    assert len(hashes) == number and key in hashes
    assert all(len(bytes.fromhex(digest)) == 32 for digest in hashes.values())
    with pytest.raises(ValueError, match="EMODB, RAVDESS, SAVEE"):
        corpora.load_checksums("CASIA")


def test_ravdess_checksums_name_exactly_the_enumerated_files():
    enumerated = {PurePosixPath(file).stem for file in ravdess_files()}
    assert set(corpora.load_checksums("RAVDESS")) == enumerated


def test_ravdess_intensity_and_emotion_codes_match_the_published_table():
    published = {5: 0, 2: 1, 7: 2, 6: 3, 3: 4, 1: 5, 4: 6, 8: 7}
    for code, index in published.items():
        tags = parse("RAVDESS", f"03-01-{code:02d}-01-01-01-01.wav")
        assert ravdess.LABELS.index(tags.label) == index


def test_ravdess_rows_equal_those_of_the_official_code():
    oracle, folder = SHARED / "oracles/oracle_RAVDE.npz", SHARED / "corpora/RAVDESS"
    if not (oracle.is_file() and folder.is_dir()):
        pytest.skip("the official answers on RAVDESS are not beside the project")
    corpus = corpora.get("RAVDESS")
    rows = corpora.scan(corpus, folder)
    with np.load(oracle, allow_pickle=False) as answers:
        assert [Path(str(f)).stem for f in answers["files"]] == [
            row.path.stem for row in rows
        ]
        assert answers["y"].tolist() == [
            corpus.labels.index(row.tags.label) for row in rows
        ]


def test_emovo_beside_the_project_is_whole():
    folder = SHARED / "corpora/EMOVO"
    if not folder.is_dir():
        pytest.skip("EMOVO is not beside the project")
    utterances, problems = corpora.find(corpora.get("EMOVO"), folder)
    assert len(utterances) == 588 and problems == []
