"""A corpus of one's own: registered once, then found by name."""

import os
import pickle
import unicodedata

import numpy as np
import pytest
import soundfile

from lib import corpora, features, files

RATE = 8000
BY_SPEAKER = r"/(?P<speaker>s\d)/"


def tone(path, seconds=0.5):
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * RATE)) / RATE
    soundfile.write(path, 0.1 * np.sin(2 * np.pi * 220 * time), RATE)


@pytest.fixture
def folder(tmp_path):
    source = tmp_path / "recordings"
    for label in ("calm10", "calm9", "joy"):
        for speaker in ("s1", "s2"):
            tone(source / label / speaker / f"{speaker}_1.wav")
            tone(source / label / speaker / f"{speaker}_2.flac", seconds=1.0)
    (source / "joy" / "notes.txt").write_text("not audio")
    return source


@pytest.fixture
def table(tmp_path):
    """Return where a table of three recordings is to be written."""
    for name in ("a.wav", "b.wav", "c.wav"):
        tone(tmp_path / "audio" / name)
    return tmp_path / "audio" / "list.csv"


def write(table, *rows, heading="file,label,speaker,sex,text"):
    table.write_text("\n".join([heading, *rows]) + "\n", encoding="utf-8", newline="")
    return table


def clips_of(name, datasets):
    """Return the clips of a registered corpus, as another session would find them."""
    return corpora.scan(corpora.get(name, datasets), datasets / name)


def refused(source, datasets, name="MINE", **options):
    """Return the faults for which a source is refused, and see that nothing is left."""
    with pytest.raises(ValueError) as error:
        corpora.register(name, source, datasets / "New", **options)
    assert not (datasets / "New").exists()
    first, *faults = str(error.value).splitlines()
    assert "was not registered from" in first
    return faults


def test_a_folder_is_registered_and_read_back(folder, tmp_path, capsys):
    made = corpora.register("MINE", folder, tmp_path, speaker_pattern=BY_SPEAKER)
    told = "12 clips (calm9 4, calm10 4, joy 4); speakers s1, s2; registered in"
    assert told in capsys.readouterr().out
    corpus = corpora.get("MINE", tmp_path)
    assert corpus == made and corpus.own and corpus.speakers == ("s1", "s2")
    assert corpus.labels == ("calm9", "calm10", "joy")
    assert dict(corpus.counts) == dict.fromkeys(corpus.labels, 4)
    assert corpus.sample_rate == RATE
    assert corpora.names(tmp_path)[-1] == "MINE"
    clips = clips_of("MINE", tmp_path)
    assert [c.label for c in clips] == ["calm9"] * 4 + ["calm10"] * 4 + ["joy"] * 4
    assert clips[0].file == "calm9/s1/s1_1.wav"
    assert clips[0].path == folder / "calm9" / "s1" / "s1_1.wav"
    assert {clip.speaker for clip in clips} == {"s1", "s2"}
    # Worker processes receive it.
    assert pickle.loads(pickle.dumps(corpus)) == corpus


def test_clip_length_is_the_95th_percentile_unless_given(folder, tmp_path):
    # Six clips last 0.5 s and six 1.0 s, so the 95th percentile is 1.0 s.
    corpus = corpora.register("MINE", folder, tmp_path)
    assert corpus.clip_samples == 22_050 and corpus.seconds == (0.5, 1.0)
    assert corpus.speakers == ()
    assert {clip.speaker for clip in clips_of("MINE", tmp_path)} == {""}
    # 511 frames of 512 samples are 11.87 s: beyond, eight blocks see too little.
    for seconds, samples, dilations in ((2, 44_100, 8), (12.0, 264_600, 10)):
        corpora.register("MINE", folder, tmp_path, clip_seconds=seconds)
        corpus = corpora.get("MINE", tmp_path)
        assert (corpus.clip_samples, corpus.dilations) == (samples, dilations)


def test_a_table_is_registered(table, tmp_path):
    tone(outside := tmp_path / "outside" / "d.wav")
    rows = ["a.wav,joy,anna,female,hello", "b.wav,anger,anna,Female,bye"]
    rows += ["c.wav,joy,ben,male,hello", f"{outside},anger,ben,male,bye"]
    corpus = corpora.register("TABLE", write(table, *rows), tmp_path)
    assert corpus.labels == ("anger", "joy")
    assert dict(corpus.sexes) == {"anna": "female", "ben": "male"}
    clips = {clip.path.name: clip for clip in clips_of("TABLE", tmp_path)}
    assert len(clips) == 4 and all(clip.path.is_file() for clip in clips.values())
    assert clips["c.wav"].speaker == "ben" and clips["c.wav"].text == "hello"
    assert clips["d.wav"].label == "anger" and clips["d.wav"].sex == "male"


HEADING = "file,label,speaker,text"
GOOD = {
    "semicolons": "file;label;speaker;text\na.wav;joy;;hi\nb.wav;anger;;hi\n",
    "tabs": "file\tlabel\tspeaker\ttext\na.wav\tjoy\t\thi\nb.wav\tanger\t\thi\n",
    "carriage returns": f"{HEADING}\r\na.wav,joy,,hi\r\nb.wav,anger,,hi",
    "empty rows": f"{HEADING}\na.wav,joy,,hi\n\nb.wav,anger,,hi\n,,,\n,\n",
    "heading": " Sentence,FILE,Label ,speaker,n\nhi,a.wav,joy,,\nhi,b.wav,anger,,",
    "spaces": f'{HEADING}\n a.wav , "joy", , hi\nb.wav,anger , ,hi\xa0',
    "invisible": f"{HEADING}\na.wav,j\u200boy,,hi\u200b\nb.wav,\ufeffanger,,hi\0",
    "two notes": "file,label,speaker,text,n,n\na.wav,joy,,hi,,\nb.wav,anger,,hi,1,2",
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_tables_as_people_save_them(table, tmp_path, text):
    table.write_text(text, encoding="utf-8-sig", newline="")
    corpus = corpora.register("TABLE", table, tmp_path)
    assert dict(corpus.counts) == {"anger": 1, "joy": 1} and corpus.speakers == ()
    found, problems = corpora.find(corpus, tmp_path / "TABLE")
    assert [clip.text for clip in found] == ["hi", "hi"] and problems == []


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
    write(table, f"a.wav,joy,x,,{written}", "b.wav,anger,y,,hi")
    corpora.register("TABLE", table, tmp_path)
    texts = {clip.path.name: clip.text for clip in clips_of("TABLE", tmp_path)}
    assert texts == {"a.wav": read, "b.wav": "hi"}


@pytest.mark.parametrize(
    ("column", "one", "other"),
    [("label", *pair.split()) for pair in ("NA None", "9 10", "-1 1", "=x nan")]
    + [("speaker", "Jose", "Jos\u00e9"), ("speaker", "a1", "b 1")]
    + [("speaker", *pair.split()) for pair in ("1 10", "1 -1", "1.05 1.5")],
)
def test_labels_and_speakers_stay_text_and_apart(table, tmp_path, column, one, other):
    rows = [f"{f}.wav,{x},s{f},," for f, x in (("a", one), ("b", other))]
    if column == "speaker":
        rows = [f"a.wav,joy,{one},,", f"b.wav,sad,{other},,"]
    corpus = corpora.register("TABLE", write(table, *rows), tmp_path)
    found = corpus.labels if column == "label" else corpus.speakers
    assert set(found) == {one, other}


BAD_TABLES = [
    ("path,label\na.wav,joy", "file, label and speaker, each column that counts once"),
    ("path,label\na.wav,joy", "this one has path, label."),
    ("", "this one has none."),
    ("file,label,speaker,text,Text\na.wav,joy,x,,", "has file, label, speaker, text"),
    (f"{HEADING}\na.wav,joy,x,no, never", "heading: row 2 has 5. Put"),
    (f"{HEADING}\na.wav,well, joy,x,hi\nb.wav,joy,x", "row 2 has 5, row 3 has 3"),
    (f'{HEADING}\na.wav,joy,x,hi\nb.wav,joy,x,"so\nwhat"\nc.wav,joy', "row 4 has 2"),
    (f'{HEADING}\na.wav,joy,x,"never closed\nb.wav,joy,x,hi', "row 2, unexpected end"),
    (f'{HEADING}\na.wav,joy,x,hi\nb.wav,joy,x,"no" she said', "row 3, ',' expected"),
    ("file,label,speaker\n\u00e4.wav,joy,x\n".encode("utf-16"), "in UTF-8: row 1"),
]


@pytest.mark.parametrize(("content", "fault"), BAD_TABLES)
def test_tables_that_cannot_be_read_are_refused(table, tmp_path, content, fault):
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert fault in " ".join(refused(table, tmp_path))


def test_all_faults_of_a_table_are_named_at_once(table, tmp_path):
    (table.parent / "broken.wav").write_bytes(b"no audio at all")
    (table.parent / "talk.m4a").write_bytes(b"m4a")
    rows = ["a.wav,joy,anna,female,", "./a.wav,joy,anna,female,"]
    rows += ["b.wav,,anna,female,", ",joy,anna,female,", "gone.wav,joy,anna,female,"]
    rows += ["broken.wav,joy,anna,male,", "talk.m4a,joy,ben,male,", "c.wav,joy,,robot,"]
    write(table, *rows)
    options = {"clip_seconds": -1, "speaker_pattern": BY_SPEAKER}
    faults = "\n".join(refused(table, tmp_path, "2 bad", **options))
    for fault in (
        "'2 bad' must begin with a letter",
        "clip_seconds is -1; it must lie between 0.1 and 60.0",
        "only 'joy'",
        "must not be empty: row 4 (label), row 5 (file), row 9 (speaker).",
        "row 9 (robot)",
        "gone.wav (cannot be opened",
        "broken.wav (is not readable as audio)",
        "talk.m4a (is not readable as audio)",
        "more than once: a.wav.",
        "two sexes: anna.",
        "is for folders; a table has a speaker column",
    ):
        assert fault in faults, fault


@pytest.mark.parametrize(
    ("name", "seconds", "fault"),
    [("MINE", s, f"is {s}; it must") for s in (0.05, 61, float("nan"), True, "2")]
    + [(n, None, repr(n)) for n in ("EMODB", "emodb", "../x", "a-b", "", "x" * 33)],
)
def test_bad_names_and_clip_lengths_are_refused(folder, tmp_path, name, seconds, fault):
    (found,) = refused(folder, tmp_path, name, clip_seconds=seconds)
    assert fault in found


SPELLINGS = [
    *(pair.split("|") for pair in ("Anger|anger", "cold  anger|cold anger", "01|1")),
    *(pair.split("|") for pair in ("cold anger|cold_anger", "S1|s01", "1|1.0")),
    *(
        pair.split("|")
        for pair in ("anger|an\u200bger", "joy|j\u043ey", "STRASSE|stra\u00dfe")
    ),
]


@pytest.mark.parametrize("kind", ["label", "speaker"])
@pytest.mark.parametrize(("one", "other"), SPELLINGS)
def test_names_that_differ_in_spelling_are_refused(table, tmp_path, kind, one, other):
    write(table, "a.wav,joy,x,,", "b.wav,sad,y,,")
    corpus = corpora.register("TABLE", table, tmp_path)
    rows = [f"a.wav,{one},x,,", f"b.wav,{other},y,,", "c.wav,joy,z,,"]
    if kind == "speaker":
        rows = [f"a.wav,joy,{one},,", f"b.wav,sad,{other},,"]
    (fault,) = refused(write(table, *rows), tmp_path)
    assert f"{kind} {min(one, other)!r} and {max(one, other)!r}." in fault
    # A source that was changed after it was registered is no better.
    _, problems = corpora.find(corpus, tmp_path / "TABLE")
    assert ("error", fault[2:]) in [(item.severity, item.message) for item in problems]


def test_accents_are_one_in_both_normal_forms(table, tmp_path):
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
    # A file is found in the form that its name has on the disk.
    tone(table.parent / f"{decomposed}.wav")
    write(table, f"{composed}.wav,joy,x,,", "b.wav,anger,y,,")
    assert len(corpora.register("TABLE", table, tmp_path).counts) == 2


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        ("joy/Anna_1 sad/anna_2", "speaker 'Anna' and 'anna'"),
        ("joy/anna_1 Joy/ben_2 sad/ben_1", "label 'Joy' and 'joy'"),
        ("train/joy/anna_1 test/sad/ben_2", "test, train name people or parts"),
        ("Train_Set/anna_1 dev/ben_2", "Train_Set, dev name people or parts"),
        ("fold1/anna_1 fold2/ben_2", "fold1, fold2 name people"),
        ("Actor_01/anna_1 Actor_02/ben_2", "Actor_01, Actor_02 name people"),
        ("anna/anna_1 ben/ben_2", "anna, ben name people"),
        ("anna/joy/1_ben anna/sad/2_ben ben/joy/1_anna", "anna, ben name people"),
        ("all/joy/anna_1 all/sad/anna_2", "labels all name people"),
        ("joy/anna_1 bare_anna sad/anna_2", "outside a label folder: bare_anna.wav"),
        ("joy/anna_1 joy/anna_2", "there is only 'joy'"),
        ("joy/anna_1 sad/3 sad/anna_2", "no speaker in: sad/3.wav"),
    ],
)
def test_folders_that_are_no_labels(tmp_path, names, fault):
    for file in names.split():
        tone(tmp_path / "in" / f"{file}.wav")
    pattern = "(?i)(?P<speaker>anna|ben)"
    faults = refused(tmp_path / "in", tmp_path, speaker_pattern=pattern)
    assert fault in "\n".join(faults)


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        (r"s(\d", r"'s(\\d' (missing )"),
        (r"s\d", "group named speaker, such as (?P<speaker>s"),
        (r"(?P<speaker>q\d)", "finds no speaker in: calm10/s1/s1_1.wav"),
        (r"(?P<speaker>q\d)", "joy/s1/s1_2.flac and 2 more."),
    ],
)
def test_faults_of_a_speaker_pattern(folder, tmp_path, pattern, fault):
    assert fault in " ".join(refused(folder, tmp_path, speaker_pattern=pattern))


@pytest.mark.parametrize(
    ("file", "fault"),
    [
        (os.fsdecode(b"a\xb1.wav"), r"(rename them): joy/a\udcb1.wav."),
        ("b.m4a", "convert other formats to WAV or FLAC): joy/b.m4a (holds no bytes)."),
        ("s1/s1_1.mp3", "(keep one): joy/s1/s1_1.mp3, joy/s1/s1_1.wav."),
        (
            "s1/s1_1.wav",
            "joy/s1/s1_1.wav (declares 8000 bytes of audio but holds 1956)",
        ),
        ("s1/s1_2.flac", "joy/s1/s1_2.flac (is cut off or damaged)"),
    ],
)
def test_files_that_do_not_belong_there(folder, tmp_path, file, fault):
    path = folder / "joy" / file
    path.write_bytes(path.read_bytes()[:2000] if path.exists() else b"")
    faults = refused(folder, tmp_path)
    assert fault in faults[0] and len(faults) == 1 + file.endswith("mp3")


def test_nothing_is_refused(tmp_path):
    assert "no audio and no table in" in refused(tmp_path / "nowhere", tmp_path)[0]
    (tmp_path / "empty").mkdir()
    assert "no audio and no table in" in refused(tmp_path / "empty", tmp_path)[0]


FORMATS = """
wav WAV GSM610, wav WAV MS_ADPCM, WAV MP3 MPEG_LAYER_III, mp3 MP3 MPEG_LAYER_III,
ogg OGG VORBIS, oga OGG VORBIS, opus OGG OPUS, flac FLAC PCM_24, aif AIFF PCM_16,
aifc AIFF ULAW, au AU PCM_16, snd AU G721_32, caf CAF ALAC_16, w64 W64 PCM_16,
rf64 RF64 PCM_16, voc VOC PCM_16, sph NIST PCM_16
"""


def test_what_the_audio_library_reads_goes_through_every_door(table, tmp_path):
    rng = np.random.default_rng(0)
    rows, decoded = [], {}
    for number, form in enumerate(FORMATS.split(",")):
        suffix, container, subtype = form.split()
        path = table.parent / f"{number}.{suffix}"
        samples = 0.3 * rng.uniform(-1, 1, RATE)
        soundfile.write(path, samples, RATE, subtype, format=container)
        # With a number of frames, because some formats have no random access.
        frames = soundfile.info(path).frames
        decoded[path.name] = soundfile.read(path, frames=frames, dtype="float32")[0]
        rows.append(f"{path.name},{'joy' if number % 2 else 'sad'},,,")
    corpora.register("MINE", write(table, *rows), tmp_path)
    report = corpora.check("MINE", tmp_path / "MINE")
    assert report.errors == () and len(report.usable) == len(rows)
    settings = features.FrontEnd(sample_rate=RATE)
    for clip in report.usable:
        heard = features.load_audio(clip.path, settings)[0]
        # Reading in one go rewinds first, which moves the MP3 decoder's last bit.
        wanted = decoded[clip.path.name]
        np.testing.assert_allclose(heard, wanted, rtol=0, atol=2**-23)


def test_snippets_work_from_the_folder_of_the_notebooks(folder, monkeypatch, capsys):
    root = folder.parent / "workbook"
    (root / "notebooks").mkdir(parents=True)
    (root / "Datasets").mkdir()
    folder.rename(root / "recordings")
    monkeypatch.setattr(files, "REPOSITORY", root)
    monkeypatch.setattr(corpora.own, "DATASETS", root / "Datasets")
    monkeypatch.chdir(root / "notebooks")
    for name, datasets in (("MINE", ()), ("OLD", ("Datasets",))):
        corpora.register(name, "recordings", *datasets)
        assert (root / "Datasets" / name / "corpus.json").is_file()
        assert f"registered in {root / 'Datasets' / name}" in capsys.readouterr().out
    assert list((root / "notebooks").iterdir()) == []


def test_a_source_inside_the_corpus_folder_moves_with_it(tmp_path):
    inside = tmp_path / "old" / "MINE"
    tone(inside / "joy" / "a.wav")
    tone(inside / "anger" / "b.wav")
    corpora.register("MINE", inside, tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    clips = clips_of("MINE", tmp_path / "new")
    assert [clip.file for clip in clips] == ["anger/b.wav", "joy/a.wav"]
    assert all(clip.path.is_file() for clip in clips)


def test_changes_after_registration_are_reported(folder, tmp_path):
    corpus = corpora.register("MINE", folder, tmp_path)
    tone(folder / "fear" / "new.wav")
    tone(folder / "bare.wav")
    clips, problems = corpora.find(corpus, tmp_path / "MINE")
    messages = " ".join(problem.message for problem in problems)
    assert len(clips) == 12 and "'fear'" in messages and "bare.wav" in messages
    folder.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match="recordings"):
        corpora.scan(corpus, tmp_path / "MINE")


@pytest.mark.parametrize("content", ["{", "[]", '{"name": "MINE"}'])
def test_what_is_not_registered_or_damaged_is_named(folder, tmp_path, content):
    corpora.register("KITCHEN", folder, tmp_path)
    with pytest.raises(ValueError, match="Did you mean KITCHEN.*corpora.register"):
        corpora.get("KITCHN", tmp_path)
    (tmp_path / "KITCHEN" / "corpus.json").write_text(content)
    with pytest.raises(ValueError, match="corpus.json is damaged"):
        corpora.get("KITCHEN", tmp_path)
