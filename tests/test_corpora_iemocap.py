"""IEMOCAP: annotations, speakers, and what may be missing."""

import pytest

from lib import corpora

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
EVALUATORS = (
    "C-E2:\tNeutral;\t()\n"
    "C-E3:\tNeutral; Anger;\t()\n"
    "C-F1:\tExcited;\t(happy)\n"
    "A-E3:\tval 3; act 2; dom  2;\t()\n"
    "A-F1:\tval 3; act 2; dom  1;\t()\n\n"
)
DIALOGS = {
    (1, "Ses01F_impro05"): [
        ("Ses01F_impro05_F000", "neu"),
        ("Ses01F_impro05_M012", "ang"),
        ("Ses01F_impro05_M013", "xxx"),
        ("Ses01F_impro05_F014", "fru"),
        ("Ses01F_impro05_F015", "oth"),
    ],
    (1, "Ses01M_script01_1b"): [
        ("Ses01M_script01_1b_F002", "exc"),
        ("Ses01M_script01_1b_M010", "hap"),
        ("Ses01M_script01_1b_M009", "sad"),
    ],
    (2, "Ses02F_script03_2"): [("Ses02F_script03_2_F000", "ang")],
    (3, "Ses03M_impro05a"): [("Ses03M_impro05a_M001", "sur")],
    (4, "Ses04F_impro01"): [("Ses04F_impro01_M000", "fea")],
    (5, "Ses05M_impro01"): [("Ses05M_impro01_F000", "dis")],
}


def write_release(root, suffix=".wav"):
    for (session, dialog), turns in DIALOGS.items():
        folder = root / f"Session{session}"
        evaluations = folder / "dialog" / "EmoEvaluation"
        (evaluations / "Categorical").mkdir(parents=True, exist_ok=True)
        text = HEADER
        for index, (name, emotion) in enumerate(turns):
            text += (
                f"[{6.2901 + index:.4f} - {8.2357 + index:.4f}]\t{name}\t{emotion}\t"
                f"[2.5000, 2.5000, 2.5000]\n{EVALUATORS}"
            )
            wav = folder / "sentences" / "wav" / dialog / f"{name}{suffix}"
            wav.parent.mkdir(parents=True, exist_ok=True)
            wav.touch()
        (evaluations / f"{dialog}.txt").write_text(text)
        (evaluations / f"._{dialog}.txt").write_bytes(b"\x00\x05\x16\x07\xff")
        evaluator = evaluations / "Categorical" / f"{dialog}_e2_cat.txt"
        evaluator.write_text(f"{turns[0][0]} :Neutral state; ()\n")
        dialog_wav = folder / "dialog" / "wav" / f"{dialog}.wav"
        dialog_wav.parent.mkdir(parents=True, exist_ok=True)
        dialog_wav.touch()


@pytest.mark.parametrize("nested", ["", "IEMOCAP_full_release", "a/b/c/IEMOCAP"])
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_annotations_are_read_in_row_order(tmp_path, nested, suffix):
    write_release(tmp_path / nested, suffix)
    utterances, problems = corpora.find(corpora.get("IEMOCAP"), tmp_path)
    assert problems == []
    assert [(u.label, u.key) for u in utterances] == [
        ("angry", "Ses01F_impro05_M012"),
        ("angry", "Ses02F_script03_2_F000"),
        ("happy", "Ses01M_script01_1b_F002"),
        ("happy", "Ses01M_script01_1b_M010"),
        ("neutral", "Ses01F_impro05_F000"),
        ("sad", "Ses01M_script01_1b_M009"),
    ]
    first = utterances[0]
    assert first.path.is_file() and first.path == tmp_path / first.file


def test_sessions_are_found_in_any_case(tmp_path):
    write_release(tmp_path)
    (tmp_path / "Session1").rename(tmp_path / "session1")
    utterances, problems = corpora.find(corpora.get("IEMOCAP"), tmp_path)
    assert len(utterances) == 6 and problems == []


def test_speaker_is_the_letter_of_the_last_field_and_text_the_dialogue(tmp_path):
    write_release(tmp_path)
    rows = {u.key: u.tags for u in corpora.scan(corpora.get("IEMOCAP"), tmp_path)}
    facts = {
        "Ses01F_impro05_M012": ("Ses01M", "male", "impro05"),
        "Ses01F_impro05_F000": ("Ses01F", "female", "impro05"),
        "Ses01M_script01_1b_F002": ("Ses01F", "female", "script01_1"),
        "Ses02F_script03_2_F000": ("Ses02F", "female", "script03_2"),
    }
    for key, expected in facts.items():
        assert (rows[key].speaker, rows[key].sex, rows[key].text) == expected
    corpus = corpora.get("IEMOCAP")
    assert len(corpus.speakers) == 10
    assert all(corpus.sexes[tags.speaker] == tags.sex for tags in rows.values())


def test_expected_counts_are_the_published_ones():
    corpus = corpora.get("IEMOCAP")
    assert [corpus.counts[label] for label in corpus.labels] == [1103, 1636, 1708, 1084]
    assert sum(corpus.counts.values()) == 5531


def test_missing_audio_is_a_problem_with_its_place(tmp_path):
    write_release(tmp_path)
    place = "Session1/sentences/wav/Ses01F_impro05/Ses01F_impro05_M012.wav"
    (tmp_path / place).unlink()
    utterances, problems = corpora.find(corpora.get("IEMOCAP"), tmp_path)
    assert len(utterances) == 5
    assert [(p.severity, p.kind, p.file) for p in problems] == [
        ("error", "missing", place)
    ]


def test_missing_annotation_is_one_problem_per_dialogue(tmp_path):
    write_release(tmp_path)
    (tmp_path / "Session1/dialog/EmoEvaluation/Ses01M_script01_1b.txt").unlink()
    utterances, problems = corpora.find(corpora.get("IEMOCAP"), tmp_path)
    assert len(utterances) == 3
    assert len(problems) == 1 and problems[0].severity == "error"
    assert "3 sentence files" in problems[0].message
    assert "EmoEvaluation/Ses01M_script01_1b.txt" in problems[0].message


def test_missing_sessions_are_named(tmp_path):
    write_release(tmp_path)
    (tmp_path / "Session4").rename(tmp_path / "elsewhere")
    _, problems = corpora.find(corpora.get("IEMOCAP"), tmp_path)
    assert [(p.kind, p.file) for p in problems] == [("missing", "Session4")]


def test_an_unknown_label_is_a_problem(tmp_path):
    write_release(tmp_path)
    file = tmp_path / "Session2/dialog/EmoEvaluation/Ses02F_script03_2.txt"
    file.write_text(file.read_text().replace("\tang\t", "\tjoy\t"))
    utterances, problems = corpora.find(corpora.get("IEMOCAP"), tmp_path)
    assert len(utterances) == 5
    assert [p.kind for p in problems] == ["mislabelled"]
    assert "joy" in problems[0].message


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="release form"):
        corpora.scan(corpora.get("IEMOCAP"), tmp_path)
