"""A corpus of one's own: registered once, then found by name."""

import itertools
import pickle
import types

import numpy as np
import pytest
import soundfile

from lib import config, corpora, features, protocols

RATE = 8000
BY_SPEAKER = r"/(?P<speaker>s\W*\d)/"


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


def write(table, *rows):
    table.write_text("\n".join(["file,label,speaker,sex,text", *rows]), "utf-8")
    return table


def clips_of(name, datasets):
    """Return the clips of a registered corpus, as another session would find them."""
    return corpora.scan(corpora.get(name, datasets), datasets / name)


def refused(source, datasets, name="MINE", **options):
    """Return why a source is refused, and see that nothing is left of it."""
    with pytest.raises(ValueError) as error:
        corpora.register(name, source, datasets / "New", **options)
    assert not (datasets / "New").exists()
    return str(error.value)


def test_a_folder_is_registered_and_read_back(folder, tmp_path, capsys):
    made = corpora.register("MINE", folder, tmp_path, speaker_pattern=BY_SPEAKER)
    told = "12 clips (calm9 4, calm10 4, joy 4); speakers ['s1', 's2']; registered"
    assert told in capsys.readouterr().out
    corpus = corpora.get("MINE", tmp_path)
    assert corpus == made and corpus.own and [*corpus.sexes] == ["s1", "s2"]
    assert corpus.labels == ["calm9", "calm10", "joy"]
    assert dict(corpus.counts) == dict.fromkeys(corpus.labels, 4)
    assert corpora.names(tmp_path)[-1] == "MINE"
    clips = clips_of("MINE", tmp_path)
    assert [clip.label for clip in clips] == np.repeat(corpus.labels, 4).tolist()
    assert [clip.speaker for clip in clips] == ["s1", "s1", "s2", "s2"] * 3
    assert clips[0].path == folder / "calm9" / "s1" / "s1_1.wav"
    assert pickle.loads(pickle.dumps(corpus)) == corpus  # for worker processes


def test_clip_length_is_the_95th_percentile_unless_given(folder, tmp_path):
    # Six clips last 0.5 s and six 1.0 s, so the 95th percentile is 1.0 s.
    corpus = corpora.register("MINE", folder, tmp_path)
    assert corpus.clip_samples == 22_050 and corpus.seconds == [0.5, 1.0]
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
    assert corpus.labels == ["anger", "joy"]
    assert dict(corpus.sexes) == {"anna": "female", "ben": "male"}
    clips = {clip.path.name: clip for clip in clips_of("TABLE", tmp_path)}
    assert len(clips) == 4 and all(clip.path.is_file() for clip in clips.values())
    assert clips["c.wav"].speaker == "ben" and clips["c.wav"].text == "hello"
    assert clips["d.wav"].label == "anger" and clips["d.wav"].sex == "male"


HEADING = "file,label,speaker,text"
GOOD = {
    "semicolons": "file;label;speaker;text\na.wav;joy;;hi\nb.wav;anger;;hi\n",
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
    assert dict(corpus.counts) == {"anger": 1, "joy": 1} and not corpus.sexes
    found, problems = corpora.find(corpus, tmp_path / "TABLE")
    assert [clip.text for clip in found] == ["hi", "hi"] and problems == []


@pytest.mark.parametrize("pair", ["NA None", "-1 1", "Jose Jos\u00e9", "1.05 1.5"])
def test_labels_and_speakers_stay_text_and_apart(table, tmp_path, pair):
    one, other = pair.split()
    rows = [f"a.wav,{one},{other},,", f"b.wav,{other},{one},,"]
    corpus = corpora.register("TABLE", write(table, *rows), tmp_path)
    assert {*corpus.labels} == {*corpus.sexes} == {one, other}


BAD_TABLES = [
    ("path,label\na.wav,joy", "counts once; this one has path, label."),
    ("file,label,speaker,text,Text\na.wav,joy,x,,", "has file, label, speaker, text"),
    (f'{HEADING}\na.wav,joy,x,"so\nwhat"\n\nc.wav,joy', "row 4 has 2."),
    (f'{HEADING}\na.wav,joy,x,"never closed\nb.wav,joy,x,hi', "unexpected end"),
    (f'{HEADING}\na.wav,joy,x,hi\nb.wav,joy,x,"no" she said', "',' expected"),
    ("file,label,speaker\n\u00e4.wav,joy,x\n".encode("utf-16"), "in UTF-8"),
    (f"{HEADING}\na.wav,joy,,\nb.wav,,x,\n,sad,x,", "or a label: row 3, row 4."),
    (f"{HEADING}\na.wav,joy,,\nb.wav,sad,x,", "whom others have: row 2."),
    ("file,label,speaker,sex\na.wav,joy,x,male\nb.wav,sad,x,female", "two sexes: x."),
    (f"{HEADING}\na.wav,joy,x,\n./a.wav,sad,y,", "more than once, or with several"),
    (f"{HEADING}\na.wav,joy,x,\ngone.wav,sad,y,", "gone.wav"),
]


@pytest.mark.parametrize(("content", "fault"), BAD_TABLES)
def test_bad_tables_are_refused(table, tmp_path, content, fault):
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert fault in refused(table, tmp_path)


def test_bad_options_are_refused(folder, table, tmp_path, monkeypatch):
    monkeypatch.setitem(corpora.records.BUILT_IN, "MyCorpus", None)
    for options, fault in (
        ({"clip_seconds": 0}, "between 0.1 and 60.0"),
        ({"name": "emodb"}, "'emodb'"),
        ({"name": "MYCORPUS"}, "'MYCORPUS'"),
        ({"speaker_pattern": r"s(\d"}, r"'s(\\d' (missing )"),
        ({"speaker_pattern": r"(?P<speaker>q\d)"}, "in: calm10/s1/s1_1.wav"),
    ):
        assert fault in refused(folder, tmp_path, **options)
    write(table, "a.wav,joy,x,,", "b.wav,sad,y,,")
    assert "is for folders" in refused(table, tmp_path, speaker_pattern=BY_SPEAKER)
    assert "no audio and no table in" in refused(tmp_path / "nowhere", tmp_path)
    (folder / "joy" / "b.m4a").touch()
    assert "to WAV or FLAC): joy/b.m4a (holds no" in refused(folder, tmp_path)


SPELLINGS = "Anger|anger,01|1,cold anger|cold_anger,1|1.0,STRASSE|stra\u00dfe"


@pytest.mark.parametrize("pair", SPELLINGS.split(","))
def test_what_differs_in_spelling_is_refused_but_one_in_texts(table, tmp_path, pair):
    one, other = pair.split("|")
    rows = [f"a.wav,fear,x,,{other}", f"b.wav,sad,y,,{one}", "c.wav,fear,z,,hi"]
    corpora.register("TABLE", write(table, *rows), tmp_path)
    texts = [clip.text for clip in clips_of("TABLE", tmp_path)]
    assert texts == [one, "hi", one]
    labels = [f"a.wav,{one},x,,", f"b.wav,{other},y,,", "c.wav,sad,z,,"]
    speakers = [f"a.wav,fear,{one},,", f"b.wav,sad,{other},,"]
    for kind, rows in (("label", labels), ("speaker", speakers)):
        fault = refused(write(table, *rows), tmp_path)
        assert f"{kind} {one!r} and {other!r}." in fault


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        ("train/joy/anna_1 test/sad/ben_2", "test, train name people or parts"),
        ("Actor_01/anna_1 Actor_02/ben_2", "Actor_01, Actor_02 name people"),
        ("anna/joy/1 ben/sad/2", "anna, ben name people"),
        ("joy/anna_1 bare_anna sad/anna_2", "outside a label folder: bare_anna.wav"),
        ("joy/anna_1 joy/anna_2", "there is only 'joy'"),
    ],
)
def test_folders_that_are_no_labels(tmp_path, names, fault):
    for file in names.split():
        tone(tmp_path / "in" / f"{file}.wav")
    pattern = "(?i)(?P<speaker>anna|ben)"
    assert fault in refused(tmp_path / "in", tmp_path, speaker_pattern=pattern)


FORMATS = """
wav WAV GSM610, mp3 MP3 MPEG_LAYER_III, opus OGG OPUS, flac FLAC PCM_24, aifc AIFF ULAW,
snd AU G721_32, caf CAF ALAC_16, sph NIST PCM_16
"""


def test_what_the_audio_library_reads_goes_through_every_door(table, tmp_path):
    rows, decoded = [], {}
    for number, form in enumerate(FORMATS.split(",")):
        suffix, container, subtype = form.split()
        path = table.parent / f"{number}.{suffix}"
        samples = 0.3 * np.random.default_rng(number).uniform(-1, 1, RATE)
        soundfile.write(path, samples, RATE, subtype, format=container)
        # With a number of frames, because some formats have no random access.
        frames = soundfile.info(path).frames
        decoded[path.name] = soundfile.read(path, frames=frames, dtype="float32")[0]
        rows.append(f"{path.name},{'joy' if number % 2 else 'sad'},,,")
    corpus = corpora.register("MINE", write(table, *rows), tmp_path)
    report = corpora.check(corpus, tmp_path / "MINE")
    assert report.errors == () and len(report.usable) == len(rows)
    for clip in report.usable:
        heard = features.load_audio(clip.path, features.FrontEnd(sample_rate=RATE))[0]
        # Reading in one go rewinds first, which moves the MP3 decoder's last bit.
        np.testing.assert_allclose(heard, decoded[clip.path.name], rtol=0, atol=2**-23)


def test_what_changed_is_not_registered_or_damaged_is_named(folder, tmp_path):
    corpus = corpora.register("MINE", folder, tmp_path)
    tone(folder / "fear" / "new.wav")
    with pytest.raises(ValueError, match="register it again.: fear"):
        corpora.find(corpus, tmp_path / "MINE")
    folder.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match="recordings"):
        corpora.scan(corpus, tmp_path / "MINE")
    with pytest.raises(ValueError, match="did you mean 'MINE'.*corpora.register"):
        corpora.get("MIN", tmp_path)
    (tmp_path / "MINE" / "corpus.json").write_text("{")
    with pytest.raises(ValueError, match="corpus.json is damaged"):
        corpora.get("MINE", tmp_path)


def test_joined_corpora_test_what_the_others_teach(tmp_path):
    tone(tmp_path / "audio" / "THE_OTHER" / "z" / "s3" / "1.wav")  # not joined
    for name, labels in (("ONE", "xy"), ("THE_OTHER", "yxz")):
        for label, speaker in itertools.product(labels, ("s1", "s, 2")):
            tone(tmp_path / "audio" / name / label / speaker / "1.wav")
        source, given = tmp_path / "audio" / name, {"speaker_pattern": BY_SPEAKER}
        corpora.register(name, source, tmp_path, **given, synthetic=name == "ONE")
    both = ["ONE", "THE_OTHER"]
    for names, labels, fault in (
        (both, ["x", "z"], "not all of these corpora have.*z"),
        ([], [], "one at least; given: none"),
        (["ONE", "EMODB"], [], "not there: .*EMODB"),
    ):
        with pytest.raises(ValueError, match=fault):
            corpora.join("BOTH", names, tmp_path, labels)
    some = corpora.join("SOME", both[1:], tmp_path, ["y", "z"])
    assert some.labels == ["y", "z"] and not some.synthetic
    joined = corpora.join("BOTH", both, tmp_path)
    assert [*joined.labels] == ["x", "y"] and sum(joined.counts.values()) == 8
    params = {"corpus": "BOTH", "datasets_dir": str(tmp_path), "verbose": 0}
    params |= {"workspace": str(tmp_path / "work"), "ignore_problems": True}
    _, data = features.obtain(config.validated(params))
    assert data.about["synthetic"] and len(data) == 8  # as one of the corpora is
    corpora.register("ONE", tmp_path / "audio" / "ONE", tmp_path, **given)
    corpora.join("BOTH", both, tmp_path)
    assert not features.obtain(config.validated(params))[1].about["synthetic"]
    clips = clips_of("BOTH", tmp_path)
    rows = types.SimpleNamespace(label_names=joined.labels, about={"corpus": "BOTH"})
    rows.y = np.array([[*joined.labels].index(clip.label) for clip in clips])
    for column in ("file", "speaker", "sex"):
        vars(rows)[column] = np.array([getattr(clip, column) for clip in clips])
    lists = str(tmp_path / "BOTH_folds.csv")
    made = protocols.make_folds("listed", rows, fold_file=lists, validation="none")
    for fold, name in zip(made, both, strict=True):
        assert len(fold.train) == len(fold.test) == 4
        assert all(f"/{name}/" in file for file in rows.file[fold.test])
        assert set(rows.speaker[fold.test]) == {f"{name} s1", f"{name} s, 2"}
    corpora.register("NAMELESS", tmp_path / "audio" / "THE_OTHER", tmp_path)
    with pytest.raises(ValueError, match="without a speaker, whom others have"):
        corpora.join("HALF", ["ONE", "NAMELESS"], tmp_path)
