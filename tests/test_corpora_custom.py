"""A corpus of one's own: registered once, then found by name."""

import json
import pickle

import numpy as np
import pytest
import soundfile

from lib import corpora

RATE = 8000


def tone(path, seconds=0.5, rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * rate)) / rate
    soundfile.write(path, 0.1 * np.sin(2 * np.pi * 220 * time), rate)


@pytest.fixture
def folder(tmp_path):
    source = tmp_path / "recordings"
    for label in ("calm10", "calm9", "joy"):
        for speaker in ("s1", "s2"):
            tone(source / label / speaker / f"{speaker}_1.wav")
            tone(source / label / speaker / f"{speaker}_2.flac", seconds=1.0)
    (source / "joy" / "notes.txt").write_text("not audio")
    return source


def write_table(path, rows, header="file,label,speaker,sex,text"):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def table(tmp_path):
    for name in ("a.wav", "b.wav", "c.wav"):
        tone(tmp_path / "audio" / name)
    outside = tmp_path / "outside" / "d.wav"
    tone(outside)
    return write_table(
        tmp_path / "audio" / "list.csv",
        [
            "a.wav,joy,anna,female,hello",
            "b.wav,anger,anna,female,bye",
            "c.wav,joy,ben,male,hello",
            f"{outside},anger,ben,male,bye",
        ],
    )


def test_a_folder_is_registered_and_read_back(folder, tmp_path):
    datasets = tmp_path / "Datasets"
    made = corpora.register(
        "MINE", folder, datasets, speaker_pattern=r"/(?P<speaker>s\d)/"
    )
    corpus = corpora.get("MINE", datasets)
    assert corpus.labels == made.labels == ("calm9", "calm10", "joy")
    assert dict(corpus.counts) == {"calm9": 4, "calm10": 4, "joy": 4}
    assert corpus.speakers == ("s1", "s2")
    assert corpus.sample_rate == RATE
    assert corpora.names(datasets)[-1] == "MINE"
    rows = corpora.scan(corpus, datasets / "MINE")
    assert [row.tags.label for row in rows] == ["calm9"] * 4 + ["calm10"] * 4 + [
        "joy"
    ] * 4
    assert rows[0].file == "calm9/s1/s1_1.wav"
    assert rows[0].path == folder / "calm9" / "s1" / "s1_1.wav"
    assert {row.tags.speaker for row in rows} == {"s1", "s2"}


def test_speakers_are_unknown_without_a_pattern(folder, tmp_path):
    corpus = corpora.register("MINE", folder, tmp_path)
    assert corpus.speakers == ()
    rows = corpora.scan(corpus, tmp_path / "MINE")
    assert {row.tags.speaker for row in rows} == {""}


def test_clip_length_is_the_95th_percentile_unless_given(folder, tmp_path):
    # Six clips last 0.5 s and six 1.0 s, so the 95th percentile is 1.0 s.
    assert corpora.register("MINE", folder, tmp_path).clip_samples == 22_050
    given = corpora.register("MINE", folder, tmp_path, clip_seconds=2.0)
    assert given.clip_samples == 44_100 and given.dilations == 8
    # 511 frames of 512 samples are 11.87 s: beyond, eight blocks see too little.
    longer = corpora.register("MINE", folder, tmp_path, clip_seconds=12.0)
    assert longer.dilations == 10
    assert corpora.get("MINE", tmp_path).clip_samples == 264_600


def test_a_table_is_registered(table, tmp_path):
    corpus = corpora.register("TABLE", table, tmp_path / "Datasets")
    assert corpus.labels == ("anger", "joy")
    assert dict(corpus.sexes) == {"anna": "female", "ben": "male"}
    rows = corpora.scan(corpus, tmp_path / "Datasets" / "TABLE")
    found = {row.path.name: row.tags for row in rows}
    assert len(found) == 4 and all(row.path.is_file() for row in rows)
    assert found["c.wav"].speaker == "ben" and found["c.wav"].text == "hello"
    assert found["d.wav"].label == "anger" and found["d.wav"].sex == "male"


def test_semicolons_byte_order_mark_and_missing_optional_columns(table, tmp_path):
    text = "file;label;speaker\na.wav;joy;\nb.wav;anger;\n"
    table.write_text(text, encoding="utf-8-sig")
    corpus = corpora.register("TABLE", table, tmp_path)
    assert dict(corpus.counts) == {"anger": 1, "joy": 1} and corpus.speakers == ()


def test_a_source_inside_the_corpus_folder_moves_with_it(tmp_path):
    inside = tmp_path / "old" / "MINE"
    tone(inside / "joy" / "a.wav")
    tone(inside / "anger" / "b.wav")
    corpora.register("MINE", inside, tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    corpus = corpora.get("MINE", tmp_path / "new")
    rows = corpora.scan(corpus, tmp_path / "new" / "MINE")
    assert [row.file for row in rows] == ["anger/b.wav", "joy/a.wav"]
    assert all(row.path.is_file() for row in rows)


def test_a_registered_corpus_reaches_worker_processes(folder, tmp_path):
    corpus = pickle.loads(pickle.dumps(corpora.register("MINE", folder, tmp_path)))
    assert len(corpora.scan(corpus, tmp_path / "MINE")) == 12


def test_changes_after_registration_are_reported(folder, tmp_path):
    corpus = corpora.register("MINE", folder, tmp_path)
    tone(folder / "fear" / "new.wav")
    tone(folder / "bare.wav")
    utterances, problems = corpora.find(corpus, tmp_path / "MINE")
    assert len(utterances) == 12
    messages = " ".join(problem.message for problem in problems)
    assert "'fear'" in messages and "bare.wav" in messages


def test_a_source_that_moved_away_is_named(folder, tmp_path):
    corpus = corpora.register("MINE", folder, tmp_path)
    folder.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match="recordings"):
        corpora.scan(corpus, tmp_path / "MINE")


def test_all_faults_of_a_table_are_named_at_once(table, tmp_path):
    (tmp_path / "audio" / "broken.wav").write_bytes(b"no audio at all")
    (tmp_path / "audio" / "talk.mp3").write_bytes(b"mp3")
    write_table(
        table,
        [
            "a.wav,joy,anna,female,",
            "./a.wav,joy,anna,female,",
            "b.wav,,anna,female,",
            ",joy,anna,female,",
            "gone.wav,joy,anna,female,",
            "broken.wav,joy,anna,male,",
            "talk.mp3,joy,ben,male,",
            "c.wav,joy,,robot,",
        ],
    )
    with pytest.raises(ValueError) as error:
        corpora.register("2 bad", table, tmp_path / "Datasets", clip_seconds=-1)
    message = str(error.value)
    for fault in (
        "'2 bad' must begin with a letter",
        "clip_seconds is -1",
        "only 'joy'",
        "Rows without a file: line 5",
        "Rows without a label: line 4",
        "Rows without a speaker: line 9",
        "line 9 (robot)",
        "do not exist: gone.wav",
        "neither WAV nor FLAC: talk.mp3",
        "more than once: a.wav",
        "two sexes: anna",
        "cannot be read as audio: broken.wav",
    ):
        assert fault in message, fault
    assert not (tmp_path / "Datasets").exists()


def test_missing_columns_and_encodings_are_named(table, tmp_path):
    write_table(table, ["a.wav,joy"], header="path,label")
    with pytest.raises(
        ValueError, match="lacks the columns file, speaker.*path, label"
    ):
        corpora.register("TABLE", table, tmp_path)
    table.write_bytes("file,label,speaker\nä.wav,joy,x\n".encode("utf-16"))
    with pytest.raises(ValueError, match="UTF-8"):
        corpora.register("TABLE", table, tmp_path)
    table.write_text("")
    with pytest.raises(ValueError, match="it has none"):
        corpora.register("TABLE", table, tmp_path)


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        (r"s(\d", "no regular expression"),
        (r"s\d", "no group named speaker"),
        (r"(?P<speaker>q\d)", "finds no speaker in"),
    ],
)
def test_faults_of_a_speaker_pattern(folder, tmp_path, pattern, fault):
    with pytest.raises(ValueError, match=fault):
        corpora.register("MINE", folder, tmp_path, speaker_pattern=pattern)


def test_faults_of_a_folder(tmp_path):
    source = tmp_path / "recordings"
    tone(source / "joy" / "a.wav")
    tone(source / "bare.wav")
    (source / "joy" / "b.m4a").write_bytes(b"m4a")
    with pytest.raises(ValueError) as error:
        corpora.register("MINE", source, tmp_path)
    for fault in ("label folder: bare.wav", "joy/b.m4a", "only 'joy'"):
        assert fault in str(error.value)
    with pytest.raises(ValueError, match="no folder and no table"):
        corpora.register("MINE", tmp_path / "nowhere", tmp_path)


@pytest.mark.parametrize(
    "name", ["EMODB", "emodb", "DEMO", "../x", "a-b", "", "x" * 33]
)
def test_bad_names_are_refused(folder, tmp_path, name):
    with pytest.raises(ValueError, match="The name"):
        corpora.register(name, folder, tmp_path / "Datasets")
    assert not (tmp_path / "Datasets").exists()


def test_an_unregistered_folder_names_the_call(tmp_path):
    tone(tmp_path / "MINE" / "joy" / "a.wav")
    with pytest.raises(ValueError, match=r'corpora\.register\("MINE"'):
        corpora.get("MINE", tmp_path)
    with pytest.raises(ValueError, match="Unknown corpus"):
        corpora.get("OTHER", tmp_path)


def test_names_of_registered_corpora_are_hinted_at(folder, tmp_path):
    corpora.register("KITCHEN", folder, tmp_path)
    with pytest.raises(ValueError, match="Did you mean KITCHEN"):
        corpora.get("KITCHN", tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"name": "MINE"}'])
def test_a_damaged_record_is_named(folder, tmp_path, content):
    corpora.register("MINE", folder, tmp_path)
    record = tmp_path / "MINE" / "corpus.json"
    assert json.loads(record.read_text())["labels"] == ["calm9", "calm10", "joy"]
    record.write_text(content)
    with pytest.raises(ValueError, match="corpus.json is damaged"):
        corpora.get("MINE", tmp_path)
