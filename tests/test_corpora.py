"""Names, labels, counts, order and oddities of the built-in corpora."""

from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from sklearn.model_selection import KFold

from lib import corpora
from lib.corpora.check import expected_utterances
from lib.files import REPOSITORY

SHARED = REPOSITORY.parent / "shared"
CASIA = ("liuchanhg", "wangzhe", "zhaoquanyin", "ZhaoZuoxiang")


def parse(name, file):
    return corpora.get(name).parse(PurePosixPath(file))


def make(folder, files):
    """Create empty files: names alone are read."""
    for file in files:
        path = Path(folder) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(name, folder, *files):
    """Return what is found among some files: clips, and problems in short."""
    make(folder, files)
    clips, problems = corpora.find(corpora.get(name), folder)
    return clips, [(p.severity, p.kind, p.file) for p in problems], problems


def release(name):
    """Return the names of a whole copy."""
    return [f"{key}.wav" for key in expected_utterances(corpora.get(name))]


# Class counts, number of folds, counts and first rows of test fold 1 with seed 46:
# published with the official TIM-Net arrays. Last the number of sentences.
GOLDEN = """
CASIA   | 200 200 200 200 200 200 | 8 | 29 27 19 21 28 26 | 0 9 13 17 18 | 50
EMODB   | 127 81 46 69 71 79 62 | 10 | 14 8 4 4 6 6 12 | 4 10 12 17 45 | 10
EMOVO   | 84 84 84 84 84 84 84 | 10 | 7 8 9 7 8 13 7 | 3 9 10 12 45 | 14
RAVDESS|192 192 192 192 192 96 192 192|10|24 21 12 20 18 12 15 22|0 9 10 15 18|2
SAVEE   | 60 60 60 60 120 60 60 | 8 | 4 7 8 4 20 12 5 | 4 17 45 55 62 | 30
"""


@pytest.mark.parametrize("row", GOLDEN.strip().splitlines())
def test_a_whole_copy_gives_the_published_rows_and_folds(tmp_path, row):
    name, *numbers = row.split("|")
    numbers = [[int(number) for number in field.split()] for field in numbers]
    counts, (folds,), supports, first_rows, (sentences,) = numbers
    corpus, name = corpora.get(name.strip()), name.strip()
    clips, problems, _ = found(name, tmp_path, *release(name))
    assert problems == []
    assert [corpus.counts[label] for label in corpus.labels] == counts
    assert Counter(clip.label for clip in clips) == corpus.counts
    assert len({clip.key for clip in clips}) == len(clips)
    assert {clip.speaker: clip.sex for clip in clips} == corpus.sexes
    assert set(corpus.speakers) == set(corpus.sexes)
    assert len({clip.text for clip in clips}) == sentences
    y = np.array([corpus.labels.index(clip.label) for clip in clips])
    assert (np.diff(y) >= 0).all(), "rows must be class-blocked"
    rows = next(KFold(folds, shuffle=True, random_state=46).split(y))[1]
    assert rows[:5].tolist() == first_rows
    assert np.bincount(y[rows], minlength=len(counts)).tolist() == supports


def test_emodb_has_the_known_speaker_by_class_matrix():
    # Columns: Wut, Langeweile, Ekel, Angst, Freude, Neutral, Trauer.
    matrix = """
    03 14 5 1 4 7 11 7     08 12 10 0 6 11 10 9    09 13 4 8 1 4 9 4
    10 10 8 1 8 4 4 3      11 11 8 2 10 8 9 7      12 12 5 2 6 2 4 4
    13 12 10 8 7 10 9 5    14 16 8 8 12 8 7 10     15 13 9 5 8 6 11 4
    16 14 14 11 7 11 5 9
    """.split()
    emotions = ("angry", "boredom", "disgust", "fear", "happy", "neutral", "sad")
    clips = [parse("EMODB", file) for file in release("EMODB")]
    counted = Counter((clip.speaker, clip.label) for clip in clips)
    for speaker, *expected in (matrix[i : i + 8] for i in range(0, 80, 8)):
        assert [counted[speaker, e] for e in emotions] == list(map(int, expected))


def test_ravdess_emotion_codes_match_the_published_table():
    published = {5: 0, 2: 1, 7: 2, 6: 3, 3: 4, 1: 5, 4: 6, 8: 7}
    labels = corpora.get("RAVDESS").labels
    for code, index in published.items():
        clip = parse("RAVDESS", f"03-01-{code:02d}-01-01-01-01.wav")
        assert labels.index(clip.label) == index


# "=" is the name of the file without its suffix.
READ = """
EMODB    wav/03a01Fa.wav                    happy        03  male   a01 =
EMODB    16b10Ea.flac                       disgust      16  female b10 =
EMODB    disgust/08a07Ab.WAV                fear         08  female a07 =
EMOVO    F1/rab-f1-b1.wav                   angry        f1  female b1  =
EMOVO    gio-m3-d2.flac                     happy        m3  male   d2  =
EMOVO    fear/pau-f2-l4.wav                 fear         f2  female l4  =
SAVEE    AudioData/DC/a01.wav               angry        DC  male   01  DC_a01
SAVEE    KL/su15.wav                        surprise     KL  male   15  KL_su15
SAVEE    JK_n30.wav                         neutral      JK  male   30  JK_n30
SAVEE    je/je-h09.wav                      happy        JE  male   09  JE_h09
SAVEE    sad/DC_sa01.wav                    sad          DC  male   01  DC_sa01
CASIA    liuchanhg/angry/201.wav  angry liuchanhg    female 201 201-angry-liuchanhg
CASIA    250-sad-zhaozuoxiang.wav sad   ZhaoZuoxiang male   250 250-sad-ZhaoZuoxiang
CASIA    fear/202-surprise-wangzhe.wav surprise wangzhe     male    202 =
CASIA    wangzhe/sad_202.wav          sad      wangzhe      male    202 202-sad-wangzhe
RAVDESS  a/Actor_12/03-01-08-02-02-01-12.wav surprise    12  female 02  =
RAVDESS  actor-1/calm/03-01-01-01-01-01-01.flac neutral  01  male   01  =
ASVP_ESD a/actor_47/03-02-12-01-15-08-02-03.wav disappointed 047 female - =
ASVP_ESD 03-01-05-02-04-08-02-02-03.wav     angry        008 male   -   =
ASVP_ESD 03-01-05-02-04-00.wav              angry        000 -      -   =
DEMO     f1/f1_angry_t1.wav                 angry        f1  female t1  =
"""


@pytest.mark.parametrize("row", READ.strip().splitlines())
def test_all_layouts_are_read(row):
    name, file, *told = row.split()
    clip = parse(name, file)
    told = [{"-": "", "=": Path(file).stem}.get(field, field) for field in told]
    assert [clip.label, clip.speaker, clip.sex, clip.text, clip.key] == told


REFUSED = """
EMODB 02a01Fa 03a03Fa 03a01Xa 03a01F 03a01Fg
EMOVO rab-f4-b1 ang-f1-b1 rab-f1-d3
SAVEE a01 XX_a01 DC/a16 DC/s01 DC/n31 DC/a00
CASIA liuchanhg/201 liuchanhg/angry/251 liuchanhg/angry/201-copy liuchanhg/201/angry
CASIA 201-202-angry-wangzhe 201-angry-fear wangzhe/201-angry-fear
RAVDESS 03-01-09-01-01-01-01 03-01-01-02-01-01-01 03-01-05-01-01-01-25
RAVDESS 03-01-05-01-01-01
ASVP_ESD 03-01-14-01-01-01 03-03-01-01-01-01 03-01-00-01-01-01
DEMO f1_angry_t7 f5_angry_t1 f1_angry_t1_x
IEMOCAP Ses01F_impro05_M012
"""
OUTSIDE = """
RAVDESS Actor_01/03-02-05-01-01-01-01 Actor_01/01-01-05-01-01-01-01
ASVP_ESD actor_1/03-01-13-01-01-01-02 Bonus_baby/actor_1/03-02-04-01-01-01-04
"""
MISLABELLED = """
RAVDESS Actor_03/03-01-05-01-01-01-04
EMOVO m1/rab-f1-b1
SAVEE JE/DC_a01
CASIA wangzhe/201-angry-liuchanhg
DEMO m2/f1_angry_t1
"""


def rows(table):
    lines = [line.split() for line in table.strip().splitlines()]
    return [(name, f"{file}.wav") for name, *files in lines for file in files]


@pytest.mark.parametrize(("name", "file"), rows(REFUSED))
def test_foreign_names_are_refused(name, file):
    problem = parse(name, file)
    assert (problem.severity, problem.kind, problem.file) == ("warning", "extra", file)
    assert corpora.get(name).naming["expected"] in problem.message


@pytest.mark.parametrize(("name", "file"), rows(OUTSIDE))
def test_song_video_and_other_classes_are_not_the_task(name, file):
    assert parse(name, file) is None


@pytest.mark.parametrize(("name", "file"), rows(MISLABELLED))
def test_a_contradicting_speaker_folder_is_reported(tmp_path, name, file):
    clips, problems, _ = found(name, tmp_path, file)
    assert clips == [] and problems == [("error", "mislabelled", file)]


def test_a_contradicting_class_folder_is_a_warning_and_the_name_decides(tmp_path):
    files = ["sad/03a01Wa.wav", "happy/03a01Fa.wav"]
    clips, problems, (problem,) = found("EMODB", tmp_path, *files)
    assert [clip.label for clip in clips] == ["angry", "happy"]
    assert problems == [("warning", "mislabelled", files[0])]
    assert "folder sad, but its name says angry" in problem.message


def test_a_record_is_all_that_a_new_corpus_needs(tmp_path):
    corpus = corpora.Corpus(
        name="NEW",
        title="NEW",
        labels=("sad", "joy"),
        clip_samples=44_100,
        dilations=8,
        seconds=(1, 9),
        how_to_get="Ask.",
        naming={"pattern": r"(?P<label>[jsx]) (?P<speaker>\d+)", "expected": "j7 or s7"}
        | {"codes": {"j": "joy", "s": "sad", "x": None}, "key": "{speaker}{label}"}
        | {"digits": 2, "sex_rules": {"male": r"0\d"}, "left_out": "extra/"},
    )
    make(tmp_path, ["j7.wav", "s11.flac", "x3.wav", "extra/s4.wav", "k1.wav"])
    clips, problems = corpora.find(corpus, tmp_path)
    told = [(clip.label, clip.speaker, clip.sex, clip.key) for clip in clips]
    assert told == [("sad", "11", "", "11sad"), ("joy", "07", "male", "07joy")]
    foreign, outside = problems
    assert "k1.wav is not a file of NEW: j7 or s7" in foreign.message
    assert "2 audio files" in outside.message and outside.severity == "note"


def test_class_folders_give_the_same_rows_as_the_distributed_layout(tmp_path):
    """The official TIM-Net wants `<class>/<file>.wav`."""
    corpus = corpora.get("SAVEE")
    files = [f"AudioData/{file.replace('_', '/')}" for file in release("SAVEE")]
    make(tmp_path / "release", files)
    first = corpora.scan(corpus, tmp_path / "release")
    make(tmp_path / "sorted", [f"{c.label}/{c.key}.flac" for c in first])
    again = corpora.scan(corpus, tmp_path / "sorted")
    told = [[(c.label, c.speaker, c.text, c.key) for c in r] for r in (first, again)]
    assert told[0] == told[1] and len(first) == 480


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        # By number, then by speaker whatever the case.
        ("CASIA", [f"{n}-sad-{s}" for n in (201, 202) for s in CASIA]),
        ("ASVP_ESD", ["03-01-01-01-9-2-02", "03-01-01-01-10-2-02"]),
    ],
)
def test_rows_sort_naturally(tmp_path, name, keys):
    clips, _, _ = found(name, tmp_path, *(f"{key}.wav" for key in keys))
    assert [clip.key for clip in clips] == keys


def test_the_kaggle_copy_counts_every_utterance_once(tmp_path):
    near = "Actor_01/03-01-05-01-01-01-01.wav"
    far = f"audio_speech_actors_01-24/{near}"
    clips, problems, (problem,) = found("RAVDESS", tmp_path, near, far)
    assert [clip.file for clip in clips] == [near]
    assert problems == [("warning", "duplicate", far)] and near in problem.message


def test_junk_is_passed_over_and_foreign_audio_is_reported(tmp_path):
    junk = ".DS_Store Thumbs.db wav/._03a01Fa.wav wav/03a01Fa.lab __MACOSX/03a01Fa.wav"
    junk = [*junk.split(), ".hidden/03a01Nc.wav"]
    others = ["wav/03a01Wa.mp3", "wav/03a01Wb.m4a", "wav/03a01Fa - Copy.wav"]
    clips, problems, _ = found("EMODB", tmp_path, *junk, *others, "wav/03a01Fa.WAV")
    assert [clip.file for clip in clips] == ["wav/03a01Fa.WAV"]
    assert clips[0].path == tmp_path / "wav" / "03a01Fa.WAV"
    assert sorted(problems) == sorted(("warning", "extra", file) for file in others)


def test_linked_folders_are_followed_once(tmp_path):
    make(tmp_path / "elsewhere", ["03-01-05-01-01-01-01.wav"])
    folder = tmp_path / "RAVDESS"
    folder.mkdir()
    (folder / "Actor_01").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(folder)
    clips = corpora.scan(corpora.get("RAVDESS"), folder)
    assert [clip.file for clip in clips] == ["Actor_01/03-01-05-01-01-01-01.wav"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("EMODB", ("emodb.bilderbar.info", "corpora.download(", "40 MB")),
        ("CASIA", ("licence",)),
        ("IEMOCAP", ("release form",)),
    ],
)
def test_a_missing_or_foreign_folder_says_what_to_do(tmp_path, name, words):
    corpus, folder = corpora.get(name), tmp_path / name
    clips, (problem,) = corpora.find(corpus, folder)
    assert clips == [] and problem.severity == "error" and str(folder) in problem.file
    for said in ("There is no folder", "holiday" if name != "IEMOCAP" else ""):
        with pytest.raises(FileNotFoundError) as error:
            corpora.scan(corpus, folder)
        for word in (str(folder), said, *words):
            assert word in str(error.value)
        make(folder, ["holiday.wav"])


def test_get_knows_every_name_and_hints_at_the_nearest():
    known = "DEMO CASIA EMODB EMOVO IEMOCAP RAVDESS SAVEE ASVP_ESD"
    assert " ".join(corpora.names()) == known
    assert [corpora.get(name).name for name in corpora.names()] == known.split()
    hints = "emodb EMODB EMO-DB EMODB RAVDE RAVDESS Ravdes RAVDESS SAVE SAVEE ASVP-ESD"
    hints = [*hints.split(), "ASVP_ESD"]
    for wrong, right in zip(hints[::2], hints[1::2], strict=True):
        with pytest.raises(ValueError, match=f"Did you mean {right}"):
            corpora.get(wrong)
    with pytest.raises(ValueError, match="'zzzz'. Known: DEMO, CASIA"):
        corpora.get("zzzz")


def test_official_clip_lengths_and_blocks():
    """Frames follow as 1 + floor(samples / 512)."""
    frames = dict(CASIA=172, EMODB=188, EMOVO=188, IEMOCAP=606, RAVDESS=215, SAVEE=254)
    for name, expected in frames.items():
        corpus = corpora.get(name)
        assert 1 + corpus.clip_samples // 512 == expected, name
        assert corpus.dilations == (10 if name == "IEMOCAP" else 8)
    assert corpora.get("RAVDESS").official_name == "RAVDE"


def test_ravdess_rows_equal_those_of_the_official_code():
    oracle, folder = SHARED / "oracles/oracle_RAVDE.npz", SHARED / "corpora/RAVDESS"
    if not (oracle.is_file() and folder.is_dir()):
        pytest.skip("the official answers on RAVDESS are not beside the project")
    corpus = corpora.get("RAVDESS")
    clips = corpora.scan(corpus, folder)
    with np.load(oracle, allow_pickle=False) as answers:
        stems = [Path(str(file)).stem for file in answers["files"]]
        assert stems == [clip.path.stem for clip in clips]
        y = [corpus.labels.index(clip.label) for clip in clips]
        assert answers["y"].tolist() == y


def test_emovo_beside_the_project_is_whole():
    folder = SHARED / "corpora/EMOVO"
    if not folder.is_dir():
        pytest.skip("EMOVO is not beside the project")
    clips, problems = corpora.find(corpora.get("EMOVO"), folder)
    assert len(clips) == 588 and problems == []


# IEMOCAP: session, dialogue, annotated turns.
EVALUATORS = (
    "C-E2:\tNeutral;\t()\nC-F1:\tExcited;\t(happy)\n"
    "A-E3:\tval 3; act 2; dom  2;\t()\nA-F1:\tval 3; act 2; dom  1;\t()\n\n"
)
DIALOGS = """
1 Ses01F_impro05 F000 neu M012 ang M013 xxx F014 fru F015 oth
1 Ses01M_script01_1b F002 exc M010 hap M009 sad
2 Ses02F_script03_2 F000 ang
3 Ses03M_impro05a M001 sur
4 Ses04F_impro01 M000 fea
5 Ses05M_impro01 F000 dis
"""


def write_release(root, suffix=".wav"):
    for session, dialog, *turns in map(str.split, DIALOGS.strip().splitlines()):
        folder = root / f"Session{session}"
        text = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        for turn, emotion in zip(turns[::2], turns[1::2], strict=True):
            name = f"{dialog}_{turn}"
            text += f"[6.2901 - 8.2357]\t{name}\t{emotion}\t[2.5000, 2.5000, 2.5000]\n"
            text += EVALUATORS
            make(folder / "sentences" / "wav" / dialog, [f"{name}{suffix}"])
        evaluation = folder / "dialog" / "EmoEvaluation"
        make(folder, [f"dialog/wav/{dialog}.wav", f"sentences/{dialog}.txt"])
        make(evaluation / "Categorical", [f"{dialog}_e2_cat.txt"])
        (evaluation / f"{dialog}.txt").write_text(text)
        (evaluation / f"._{dialog}.txt").write_bytes(b"\x00\x05\x16\x07\xff")


@pytest.mark.parametrize("nested", ["", "IEMOCAP_full_release", "a/b/c/IEMOCAP"])
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("first", ["Session1", "session1"])
def test_iemocap_annotations_are_read_in_row_order(tmp_path, nested, suffix, first):
    """The speaker is the letter of the last field; the text is the dialogue."""
    write_release(tmp_path / nested, suffix)
    (tmp_path / nested / "Session1").rename(tmp_path / nested / first)
    corpus = corpora.get("IEMOCAP")
    clips, problems = corpora.find(corpus, tmp_path)
    assert problems == []
    told = [f"{c.label} {c.key} {c.speaker} {c.sex} {c.text}" for c in clips]
    assert told == [
        "angry Ses01F_impro05_M012 Ses01M male impro05",
        "angry Ses02F_script03_2_F000 Ses02F female script03_2",
        "happy Ses01M_script01_1b_F002 Ses01F female script01_1",
        "happy Ses01M_script01_1b_M010 Ses01M male script01_1",
        "neutral Ses01F_impro05_F000 Ses01F female impro05",
        "sad Ses01M_script01_1b_M009 Ses01M male script01_1",
    ]
    assert clips[0].path.is_file() and clips[0].path == tmp_path / clips[0].file
    assert list(corpus.counts.values()) == [1103, 1636, 1708, 1084]
    assert len(corpus.speakers) == 10


def with_joy(path):
    path.write_text(path.read_text().replace("\tang\t", "\tjoy\t"))


ANNOTATIONS = "Session1/dialog/EmoEvaluation/Ses01F_impro05.txt"
AUDIO = "Session1/sentences/wav/Ses01F_impro05/Ses01F_impro05_M012.wav"
JOY = "Session2/dialog/EmoEvaluation/Ses02F_script03_2.txt"


@pytest.mark.parametrize(
    ("place", "change", "clips", "kinds", "file", "words"),
    [
        (AUDIO, Path.unlink, 5, ["missing"], ANNOTATIONS, "Ses01F_impro05_M012 is"),
        (ANNOTATIONS, Path.unlink, 4, ["unlabelled"] * 5, AUDIO, "no label"),
        (JOY, with_joy, 5, ["mislabelled"], JOY, "'joy'"),
    ],
)
def test_what_iemocap_lacks_is_named(
    tmp_path, place, change, clips, kinds, file, words
):
    write_release(tmp_path)
    change(tmp_path / place)
    got, problems = corpora.find(corpora.get("IEMOCAP"), tmp_path)
    assert len(got) == clips and [problem.kind for problem in problems] == kinds
    assert {problem.severity for problem in problems} == {"error"}
    assert [words in problem.message for problem in problems if problem.file == file]
