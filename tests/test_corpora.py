"""Names, labels, counts, order and oddities of the built-in corpora."""

import os
import types
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from lib import corpora
from lib.corpora.check import expected_utterances
from lib.protocols import make_folds


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
    release = [f"{key}.wav" for key in expected_utterances(corpus)]
    clips, problems, _ = found(name, tmp_path, *release)
    assert problems == []
    assert [corpus.counts[label] for label in corpus.labels] == counts
    assert Counter(clip.label for clip in clips) == corpus.counts
    assert len({clip.key for clip in clips}) == len(clips)
    assert {clip.speaker: clip.sex for clip in clips} == corpus.sexes
    assert len({clip.text for clip in clips}) == sentences
    y = np.array([corpus.labels.index(clip.label) for clip in clips])
    assert (np.diff(y) >= 0).all(), "rows must be class-blocked"
    known = {"label_names": corpus.labels, "about": {"corpus": name}}
    read = types.SimpleNamespace(y=y, speaker=y, **known)
    rows = make_folds("paper", read, folds=folds, seed=46)[0].test
    assert rows[:5].tolist() == first_rows
    assert np.bincount(y[rows], minlength=len(counts)).tolist() == supports


# "=" is the name of the file without its suffix.
READ = """
EMODB    wav/03a01Fa.wav                    happy        03  male   a01 =
EMODB    disgust/08a07Ab.WAV                fear         08  female a07 =
EMOVO    F1/rab-f1-b1.wav                   angry        f1  female b1  =
SAVEE    AudioData/DC/a01.wav               angry        DC  male   01  DC_a01
SAVEE    je/je-h09.wav                      happy        JE  male   09  JE_h09
CASIA    liuchanhg/angry/201.wav  angry liuchanhg    female 201 201-angry-liuchanhg
CASIA    fear/202-surprise-wangzhe.wav surprise wangzhe     male    202 =
CASIA    wangzhe/sad_202.wav          sad      wangzhe      male    202 202-sad-wangzhe
RAVDESS  03-01-07-01-01-01-01.wav           disgust      01  male   01  =
RAVDESS  actor-1/calm/03-01-01-01-01-01-01.flac neutral  01  male   01  =
ASVP_ESD a/actor_47/03-02-12-01-15-08-02-03.wav disappointed 047 female - =
DEMO     f1/f1_angry_t1.wav                 angry        f1  female t1  =
"""


@pytest.mark.parametrize("row", READ.strip().splitlines())
def test_all_layouts_are_read(row):
    name, file, *told = row.split()
    clip = corpora.get(name).parse(PurePosixPath(file))
    told = [{"-": "", "=": Path(file).stem}.get(field, field) for field in told]
    assert [clip.label, clip.speaker, clip.sex, clip.text, clip.key] == told


NOT_READ = """
name EMODB 02a01Fa 03a03Fa 03a01Xa 03a01F 03a01Fg
name SAVEE a01 XX_a01 DC/a16 DC/s01 DC/n31
name CASIA liuchanhg/201 liuchanhg/angry/251 liuchanhg/angry/201-copy
name CASIA 201-202-angry-wangzhe 201-angry-fear-wangzhe
name RAVDESS 03-01-09-01-01-01-01 03-01-01-02-01-01-01 03-01-05-01-01-01-25
outside RAVDESS Actor_01/03-02-05-01-01-01-01 Actor_01/01-01-05-01-01-01-01
speaker RAVDESS Actor_03/03-01-05-01-01-01-04
speaker CASIA wangzhe/201-angry-liuchanhg
"""


@pytest.mark.parametrize("row", NOT_READ.strip().splitlines())
def test_foreign_names_other_tasks_and_contradictions_are_left_out(tmp_path, row):
    kind, name, *files = row.split()
    files = [f"{file}.wav" for file in files]
    clips, short, problems = found(name, tmp_path, *files)
    assert clips == []
    if kind == "outside":
        (problem,) = problems
        assert problem.severity == "note" and f"{len(files)} audio" in problem.message
        return
    severity = {"name": ("warning", "extra"), "speaker": ("error", "mislabelled")}[kind]
    assert sorted(short) == sorted((*severity, file) for file in files)


def test_the_name_decides_against_its_folder_and_sorts_naturally(tmp_path):
    (clip,), _, (problem,) = found("SAVEE", tmp_path, "angry/DC_sa01.wav")
    assert clip.label == "sad" and "folder angry" in problem.message
    who = ("wangzhe", "ZhaoZuoxiang")  # speakers whatever the case
    for name, keys in (
        ("CASIA", [f"{n}-sad-{s}" for n in (201, 202) for s in who]),
        ("ASVP_ESD", ["03-01-01-01-9-2-02", "03-01-01-01-10-2-02"]),
    ):
        clips, _, _ = found(name, tmp_path / name, *(f"{key}.wav" for key in keys))
        assert [clip.key for clip in clips] == keys


def test_junk_is_passed_over_and_foreign_audio_is_reported(tmp_path):
    junk = ".DS_Store Thumbs.db wav/._03a01Fa.wav wav/03a01Fa.lab __MACOSX/03a01Fa.wav"
    others = ["wav/03a01Wa.mp3", "wav/03a01Wb.m4a", "wav/03a01Fa - Copy.wav"]
    junk = [*junk.split(), ".hidden/03a01Nc.wav", *others, "elsewhere/03a01Fa.WAV"]
    make(tmp_path, junk)
    (tmp_path / "EMODB").mkdir()
    (tmp_path / "EMODB" / "wav").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "EMODB")
    clips = corpora.scan(corpora.get("EMODB"), tmp_path / "EMODB")
    assert [clip.file for clip in clips] == ["wav/03a01Fa.WAV"]
    assert clips[0].path.is_file()
    clips, problems = corpora.find(corpora.get("EMODB"), tmp_path / "wav")
    assert clips == [] and {item.kind for item in problems} == {"extra"}
    assert sorted(f"wav/{item.file}" for item in problems) == sorted(others)
    make(tmp_path / "EMODB", [os.fsdecode(b"03a01F\xb1.wav")])
    with pytest.raises(ValueError, match=r"03a01F.udcb1.wav is not UTF-8"):
        corpora.scan(corpora.get("EMODB"), tmp_path / "EMODB")


def test_a_missing_or_foreign_folder_says_what_to_do(tmp_path):
    corpus, folder = corpora.get("EMODB"), tmp_path / "EMODB"
    for said in ("no clip", "holiday"):
        with pytest.raises(FileNotFoundError, match=said) as error:
            corpora.scan(corpus, folder)
        assert str(folder) in str(error.value) and corpus.how_to_get in str(error.value)
        make(folder, ["holiday.wav"])


def test_official_numbers_of_frames_and_blocks():
    frames = dict(CASIA=172, EMODB=188, EMOVO=188, IEMOCAP=606, RAVDESS=215, SAVEE=254)
    for name, expected in frames.items():
        corpus = corpora.get(name)
        assert 1 + corpus.clip_samples // 512 == expected, name
        assert corpus.dilations == (10 if name == "IEMOCAP" else 8)


# IEMOCAP: session, dialogue, annotated turns.
EVALUATORS = "C-E2:\tNeutral;\t()\nA-E3:\tval 3; act 2; dom  2;\t()\n\n"
DIALOGS = """
1 Ses01F_impro05 F000 neu M012 ang M013 xxx F014 fru F015 oth
1 Ses01M_script01_1b F002 exc M010 hap M009 sad
2 Ses02F_script03_2 F000 ang
3 Ses03M_impro05a M001 sur
"""


def write_release(root):
    for session, dialog, *turns in map(str.split, DIALOGS.strip().splitlines()):
        folder = root / f"Session{session}"
        text = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        for turn, emotion in zip(turns[::2], turns[1::2], strict=True):
            name = f"{dialog}_{turn}"
            text += f"[6.2901 - 8.2357]\t{name}\t{emotion}\t[2.5000, 2.5000, 2.5000]\n"
            text += EVALUATORS
            make(folder / "sentences" / "wav" / dialog, [f"{name}.wav"])
        evaluation = folder / "dialog" / "EmoEvaluation"
        make(folder, [f"dialog/wav/{dialog}.wav", f"sentences/{dialog}.txt"])
        make(evaluation / "Categorical", [f"{dialog}_e2_cat.txt"])
        (evaluation / f"{dialog}.txt").write_text(text)
        (evaluation / f"._{dialog}.txt").write_bytes(b"\x00\x05\x16\x07\xff")


def test_iemocap_annotations_are_read_in_row_order(tmp_path):
    """The speaker is the letter of the last field; the text is the dialogue."""
    write_release(tmp_path / "a/b/IEMOCAP")
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


ANNOTATIONS = "Session1/dialog/EmoEvaluation/Ses01F_impro05.txt"
AUDIO = "Session1/sentences/wav/Ses01F_impro05/Ses01F_impro05_M012.wav"
JOY = "Session2/dialog/EmoEvaluation/Ses02F_script03_2.txt"


@pytest.mark.parametrize(
    ("place", "new", "clips", "kinds", "file", "words"),
    [
        (AUDIO, None, 5, ["missing"], ANNOTATIONS, "Ses01F_impro05_M012 is"),
        (ANNOTATIONS, None, 4, ["unlabelled"] * 5, AUDIO, "no label"),
        (JOY, "joy", 5, ["mislabelled"], JOY, "'joy'"),
    ],
)
def test_what_iemocap_lacks_is_named(tmp_path, place, new, clips, kinds, file, words):
    write_release(tmp_path)
    text = (tmp_path / place).read_text()
    (tmp_path / place).unlink()
    if new:
        (tmp_path / place).write_text(text.replace("\tang\t", f"\t{new}\t"))
    got, problems = corpora.find(corpora.get("IEMOCAP"), tmp_path)
    assert len(got) == clips and [problem.kind for problem in problems] == kinds
    assert {problem.severity for problem in problems} == {"error"}
    assert [words in problem.message for problem in problems if problem.file == file]
