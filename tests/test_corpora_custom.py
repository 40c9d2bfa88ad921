"""A corpus of one's own: registered once, then found by name."""

import json
import os
import pickle
import unicodedata

import numpy as np
import pytest
import soundfile

from lib import corpora, features, files

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


def in_columns(*rows, heading="file,label,speaker,text"):
    return "\n".join([heading, *rows])


GOOD = {
    "semicolons": "file;label;speaker;text\na.wav;joy;;hi\nb.wav;anger;;hi\n",
    "tabs": "file\tlabel\tspeaker\ttext\na.wav\tjoy\t\thi\nb.wav\tanger\t\thi\n",
    "carriage returns": "file,label,speaker,text\r\na.wav,joy,,hi\r\nb.wav,anger,,hi",
    "empty rows": in_columns("a.wav,joy,,hi", "", "b.wav,anger,,hi", ",,,", ",", ""),
    "heading": in_columns(
        "hi,a.wav,joy,,", "hi,b.wav,anger,,", heading=" Text,FILE,Label ,speaker,notes"
    ),
    "spaces": in_columns(' a.wav , "joy", , hi', "b.wav,anger , ,hi\xa0"),
    "invisible": in_columns("a.wav,j\u200boy,,hi\u200b", "b.wav,\ufeffanger,,hi\0"),
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_tables_as_people_save_them(table, tmp_path, text):
    table.write_text(text, encoding="utf-8-sig", newline="")
    corpus = corpora.register("TABLE", table, tmp_path)
    assert dict(corpus.counts) == {"anger": 1, "joy": 1} and corpus.speakers == ()
    found, problems = corpora.find(corpus, tmp_path / "TABLE")
    assert [item.text for item in found] == ["hi", "hi"] and problems == []


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('"no, never"', "no, never"),
        ('"so\nwhat"', "so what"),
        ("so\u2028what", "so what"),
        ('"he said ""no"""', 'he said "no"'),
        ("e\u0301te\u0301", "\u00e9t\u00e9"),
    ],
)
def test_texts_keep_what_quotes_hold(table, tmp_path, written, read):
    text = in_columns(f"a.wav,joy,x,{written}", "b.wav,anger,y,hi")
    table.write_text(text, encoding="utf-8", newline="")
    corpora.register("TABLE", table, tmp_path)
    found = corpora.scan(corpora.get("TABLE", tmp_path), tmp_path / "TABLE")
    assert {item.path.name: item.text for item in found}["a.wav"] == read


@pytest.mark.parametrize(
    "labels", [("NA", "None"), ("9", "10"), ("-1", "1"), ("=x", "nan")]
)
def test_labels_stay_text(table, tmp_path, labels):
    write_table(table, [f"a.wav,{labels[0]},x,,", f"b.wav,{labels[1]},y,,"])
    assert set(corpora.register("TABLE", table, tmp_path).labels) == set(labels)


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (["a.wav,joy,x,no, never"], "heading: line 2 has 5. Put"),
        (["a.wav,well, joy,x,hi", "b.wav,joy,x"], "line 2 has 5, line 3 has 3"),
        (["a.wav,joy,x,hi", 'b.wav,joy,x,"so', 'what"', "c.wav,joy"], "line 5 has 2"),
        (['a.wav,joy,x,"never closed', "b.wav,joy,x,hi"], "line 2, unexpected end"),
        (["a.wav,joy,x,hi", 'b.wav,joy,x,"no" she said'], "line 3, ',' expected"),
    ],
)
def test_rows_that_do_not_fit_the_heading_are_named(table, tmp_path, rows, fault):
    table.write_text(in_columns(*rows), newline="")
    with pytest.raises(ValueError, match=fault):
        corpora.register("TABLE", table, tmp_path)


def test_names_of_files_are_found_in_the_normal_form_of_the_disk(table, tmp_path):
    tone(table.parent / unicodedata.normalize("NFD", "cl\u00e9o.wav"))
    write_table(table, ["cl\u00e9o.wav,joy,x,,", "b.wav,anger,y,,"])
    assert len(corpora.register("TABLE", table, tmp_path).counts) == 2


SPELLINGS = [
    ("Anger", "anger", "'Anger' (1) and 'anger' (1)"),
    ("cold anger", "cold  anger", "'cold  anger' (1) and 'cold anger' (1)"),
    ("cold anger", "cold_anger", "'cold anger' (1) and 'cold_anger' (1)"),
    ("anger", "an\u200bger", r"'anger' (1) and 'an\u200bger' (1)"),
    ("STRASSE", "stra\u00dfe", "'STRASSE' (1) and 'stra\u00dfe' (1)"),
    ("01", "1", "'01' (1) and '1' (1)"),
    ("s01", "S1", "'S1' (1) and 's01' (1)"),
    ("1.0", "1", "'1' (1) and '1.0' (1)"),
]


@pytest.mark.parametrize(("one", "other", "said"), SPELLINGS)
@pytest.mark.parametrize("kind", ["Labels", "Speakers"])
def test_names_that_differ_only_in_spelling_are_refused(
    table, tmp_path, kind, one, other, said
):
    rows = ["a.wav,joy,x,,", "b.wav,sad,y,,", "c.wav,joy,z,,"]
    write_table(table, rows)
    corpus = corpora.register("TABLE", table, tmp_path)
    rows[0] = f"a.wav,{one},x,," if kind == "Labels" else f"a.wav,joy,{one},,"
    rows[1] = f"b.wav,{other},y,," if kind == "Labels" else f"b.wav,sad,{other},,"
    write_table(table, rows)
    fault = f"{kind} that differ only in spelling: {said}. Write each in one way."
    with pytest.raises(ValueError) as error:
        corpora.register("TABLE", table, tmp_path)
    assert fault in str(error.value)
    # A source that was changed after it was registered is no better.
    _, problems = corpora.find(corpus, tmp_path / "TABLE")
    assert ("error", fault) in [(item.severity, item.message) for item in problems]


@pytest.mark.parametrize(
    ("one", "other"),
    [("Jose", "Jos\u00e9"), ("1", "10"), ("1", "-1"), ("1.05", "1.5"), ("a1", "b 1")],
)
def test_other_names_are_different_people(table, tmp_path, one, other):
    write_table(table, [f"a.wav,joy,{one},,", f"b.wav,sad,{other},,"])
    assert set(corpora.register("TABLE", table, tmp_path).speakers) == {one, other}


def test_composed_and_decomposed_accents_are_one_person_and_one_label(tmp_path):
    composed, decomposed = (
        unicodedata.normalize(form, "gaiet\u00e9") for form in ("NFC", "NFD")
    )
    for label, speaker in ((composed, decomposed), (decomposed, composed)):
        tone(tmp_path / "in" / label / f"{speaker}_{len(label)}.wav")
    tone(tmp_path / "in" / "joy" / "x_1.wav")
    pattern = f"(?P<speaker>{decomposed}|x)"
    corpus = corpora.register("MINE", tmp_path / "in", tmp_path, None, pattern)
    assert dict(corpus.counts) == {composed: 2, "joy": 1}
    assert set(corpus.speakers) == {composed, "x"}


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        (["joy/Anna_1", "sad/anna_2"], "Speakers that differ only in spelling: 'Anna'"),
        (["joy/anna_1", "Joy/ben_2", "sad/ben_1"], "'Joy' (1) and 'joy' (1)"),
        (["train/joy/anna_1", "test/sad/ben_2"], "test, train name parts of the data"),
        (["Train_Set/anna_1", "dev/ben_2"], "Train_Set, dev name parts"),
        (["fold1/anna_1", "fold2/ben_2"], "fold1, fold2 name parts"),
        (["Actor_01/anna_1", "Actor_02/ben_2"], "Actor_01, Actor_02 name people"),
        (["anna/anna_1", "ben/ben_2"], "anna, ben name people, not emotions"),
        (
            ["anna/joy/1_ben", "anna/sadness/2_ben", "ben/joy/1_anna"],
            "here anna, ben; but emotions seem to be further down (joy, sadness)",
        ),
        (["all/joy/anna_1", "all/sad/anna_2"], "further down (joy, sad)"),
    ],
)
def test_folders_that_are_no_labels(tmp_path, files, fault):
    for file in files:
        tone(tmp_path / "in" / f"{file}.wav")
    with pytest.raises(ValueError) as error:
        corpora.register(
            "MINE",
            tmp_path / "in",
            tmp_path,
            speaker_pattern="(?i)(?P<speaker>anna|ben)",
        )
    assert fault in str(error.value)


def test_people_below_their_labels_are_no_mistake(tmp_path):
    for label in ("joy", "sad"):
        for speaker in ("anna", "ben"):
            tone(tmp_path / "in" / label / speaker / "1.wav")
    assert corpora.register("MINE", tmp_path / "in", tmp_path).labels == ("joy", "sad")


def test_names_that_are_not_text_are_named_and_nothing_else(folder, tmp_path):
    (folder / "joy" / os.fsdecode(b"anna_\xb1\xb8.wav")).write_bytes(b"")
    with pytest.raises(ValueError) as error:
        corpora.register("MINE", folder, tmp_path)
    (fault,) = str(error.value).splitlines()[1:]
    assert r"not UTF-8 text (rename them): joy/anna_\udcb1\udcb8.wav." in fault


FORMATS = [
    ("wav", "WAV", "GSM610"),
    ("wav", "WAV", "MS_ADPCM"),
    ("WAV", "MP3", "MPEG_LAYER_III"),
    ("mp3", "MP3", "MPEG_LAYER_III"),
    ("ogg", "OGG", "VORBIS"),
    ("oga", "OGG", "VORBIS"),
    ("opus", "OGG", "OPUS"),
    ("flac", "FLAC", "PCM_24"),
    ("aif", "AIFF", "PCM_16"),
    ("aifc", "AIFF", "ULAW"),
    ("au", "AU", "PCM_16"),
    ("snd", "AU", "G721_32"),
    ("caf", "CAF", "ALAC_16"),
    ("w64", "W64", "PCM_16"),
    ("rf64", "RF64", "PCM_16"),
    ("voc", "VOC", "PCM_16"),
    ("sph", "NIST", "PCM_16"),
]


def test_what_the_audio_library_reads_goes_through_every_door(tmp_path):
    rng = np.random.default_rng(0)
    rows, decoded = [], {}
    for number, (suffix, container, subtype) in enumerate(FORMATS):
        path = tmp_path / f"{number}.{suffix}"
        soundfile.write(
            path, 0.3 * rng.uniform(-1, 1, RATE), RATE, subtype, format=container
        )
        # With a number of frames, because some formats have no random access.
        frames = soundfile.info(path).frames
        decoded[path.name] = soundfile.read(path, frames=frames, dtype="float32")[0]
        rows.append(f"{path.name},{'joy' if number % 2 else 'sad'},,,")
    corpora.register("MINE", write_table(tmp_path / "list.csv", rows), tmp_path)
    report = corpora.check("MINE", tmp_path / "MINE")
    assert report.errors == () and len(report.usable) == len(FORMATS)
    settings = features.FrontEnd(sample_rate=RATE)
    for item in report.usable:
        wanted = decoded[item.path.name]
        heard = features.load_audio(item.path, settings)[0]
        # Reading in one go rewinds first, which moves the MP3 decoder's last bit.
        np.testing.assert_allclose(heard, wanted, rtol=0, atol=2**-23)
        with open(item.path, "rb") as file:
            assert np.isfinite(features.extract(file, settings, RATE)).all()


def test_eleven_minutes_are_registered_checked_and_extracted(folder, tmp_path):
    tone(folder / "joy" / "long.wav", seconds=661)
    corpora.register("MINE", folder, tmp_path)
    report = corpora.check("MINE", tmp_path / "MINE")
    assert len(report.usable) == 13
    assert "long.wav (661 s)" in " ".join(item.message for item in report.warnings)
    settings = features.FrontEnd()
    made = features.extract(folder / "joy" / "long.wav", settings, 22_050)
    assert made.shape == (44, 39)


@pytest.mark.parametrize("name", ["s1_1.wav", "s1_2.flac"])
def test_a_recording_that_is_cut_off_is_refused(folder, tmp_path, name):
    path = folder / "joy" / "s1" / name
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=rf"cannot be read as audio: joy/s1/{name} \("):
        corpora.register("MINE", folder, tmp_path)


def test_files_that_differ_only_in_the_suffix_are_refused(folder, tmp_path):
    tone(folder / "joy" / "s1" / "s1_1.mp3")
    with pytest.raises(
        ValueError, match=r"keep one\): joy/s1/s1_1.mp3, joy/s1/s1_1.wav"
    ):
        corpora.register("MINE", folder, tmp_path)


def test_snippets_work_from_the_folder_of_the_notebooks(folder, monkeypatch, capsys):
    root = folder.parent / "workbook"
    (root / "notebooks").mkdir(parents=True)
    (root / "Datasets").mkdir()
    folder.rename(root / "recordings")
    monkeypatch.setattr(files, "REPOSITORY", root)
    monkeypatch.setattr(corpora.custom, "DATASETS", root / "Datasets")
    monkeypatch.chdir(root / "notebooks")
    for name, datasets in (("MINE", ()), ("OLD", ("Datasets",))):
        corpora.register(name, "recordings", *datasets)
        assert (root / "Datasets" / name / "corpus.json").is_file()
        assert f"registered in {root / 'Datasets' / name}" in capsys.readouterr().out
    assert list((root / "notebooks").iterdir()) == []


def test_the_record_counts_clips_by_speaker_and_label(folder, tmp_path):
    corpora.register("MINE", folder, tmp_path, speaker_pattern=r"/(?P<speaker>s\d)/")
    record = json.loads((tmp_path / "MINE" / "corpus.json").read_text())
    row = {"calm9": 2, "calm10": 2, "joy": 2}
    assert record["clips_by_speaker"] == {"s1": row, "s2": row}


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
    (tmp_path / "audio" / "talk.m4a").write_bytes(b"m4a")
    write_table(
        table,
        [
            "a.wav,joy,anna,female,",
            "./a.wav,joy,anna,female,",
            "b.wav,,anna,female,",
            ",joy,anna,female,",
            "gone.wav,joy,anna,female,",
            "broken.wav,joy,anna,male,",
            "talk.m4a,joy,ben,male,",
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
        "not read (convert them to WAV or FLAC): talk.m4a",
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
