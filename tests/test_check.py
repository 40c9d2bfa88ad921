"""The doctor: every kind of damage is found, named, and nothing else is."""

import dataclasses
import hashlib
import importlib
import io

import numpy as np
import pandas as pd
import pytest
import soundfile

from lib import corpora
from lib.corpora import records
from lib.files import REPOSITORY

# Its name is that of a function, too.
doctor = importlib.import_module("lib.corpora.check")
RATE = 16_000


def noise(name, seconds=None):
    """Return audible noise that is different and of another length for every name."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    random = np.random.default_rng(seed)
    length = round((seconds or random.uniform(1.2, 2.5)) * RATE)
    return 0.1 * random.uniform(-1, 1, length)


def stereo(left, right):
    return np.stack([left, right], axis=1)


def audio(samples, rate=RATE, subtype="PCM_16", format="WAV"):
    content = io.BytesIO()
    soundfile.write(content, samples, rate, subtype=subtype, format=format)
    return content.getvalue()


def write(folder, files):
    """Write contents by name; None for no file."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            (folder / name).write_bytes(content)
    return folder


# Five speakers say one sentence in the seven emotions of EMO-DB.
SPEAKERS = "03 08 09 10 11".split()
NAMES = [f"{who}a01{code}a" for code in "WLEAFNT" for who in SPEAKERS]
GOOD = {f"wav/{name}.wav": audio(noise(name)) for name in NAMES}
EMODB = corpora.get("EMODB")
EMODB = dataclasses.replace(EMODB, sexes={who: EMODB.sexes[who] for who in SPEAKERS})
# Without hashes, five utterances of each label are expected.
PLAIN = dataclasses.replace(EMODB, checksums="", counts=dict.fromkeys(EMODB.labels, 5))

FIRST, OTHER_LABEL = "wav/03a01Wa.wav", "wav/03a01Ta.wav"
OTHER_SPEAKER, OTHER_NAME = "wav/08a01Wa.wav", "wav/03a02Wa.wav"
FLAC = "wav/03a01Wa.flac"
SOUND = noise("03a01Wa")
WITH_NAN = np.where(np.arange(len(SOUND)) == 100, np.nan, SOUND)
FLIPPED = GOOD[FIRST][:1000] + bytes([GOOD[FIRST][1000] ^ 1]) + GOOD[FIRST][1001:]
# Programs that write to a pipe cannot know the size and declare the largest one.
PIPED = GOOD[FIRST][:40] + b"\xff" * 4 + GOOD[FIRST][44:]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
CLIPPED = audio(np.append(SOUND, np.ones(10)))
# Decoded from the 16 bits, so that the samples are the same.
SAMPLES = soundfile.read(io.BytesIO(GOOD[FIRST]))[0]
AS_FLAC = audio(SAMPLES, format="FLAC")
SWAPPED = {FIRST: GOOD[OTHER_LABEL], OTHER_LABEL: GOOD[FIRST]}
AGAIN = {f"again/{name}": data for name, data in GOOD.items()}
ONE_LENGTH = {name: audio(noise(name, 2)) for name in GOOD}


# What changes in the copy; whether hashes are known ("plain": no; "before", "after":
# those of the files then); severity, kind and files of what is found (FIRST where none
# is given, - for none, * for all, + for all that changed); a part of a message.
DAMAGES = [
    ({}, "before", "", ""),
    ({FIRST: None}, "plain", "error missing -", "angry 4 instead of 5"),
    ({FIRST: None}, "before", "error missing 03a01Wa", "1 of 35 utterances"),
    ({OTHER_NAME: audio(SOUND[9:])}, "before", "warning extra +", "not in"),
    ({"03a01Wb.mp3": b"mp3"}, "plain", "warning extra +", "not read"),
    (dict.fromkeys(GOOD, b""), "before", "error empty *", "and 31 more"),
    ({FIRST: POINTER}, "before", "error unreadable", "Git LFS"),
    ({FIRST: audio(WITH_NAN, subtype="FLOAT")}, "plain", "error unreadable", "numbers"),
    ({FIRST: GOOD[FIRST][:20_000]}, "before", "error truncated", "declares"),
    ({FIRST: PIPED}, "after", "", ""),
    ({FIRST: None, FLAC: AS_FLAC[:-900]}, "plain", f"error truncated {FLAC}", ""),
    ({FIRST: audio(np.zeros(2 * RATE))}, "before", "error silent", "-inf dBFS"),
    (SWAPPED, "before", "error mislabelled +", "original of 03a01Ta"),
    ({FIRST: FLIPPED}, "before", "warning altered", "Not the original"),
    ({FIRST: audio(SOUND[:8000])}, "before", "error length, error altered", "0.50 s"),
    (ONE_LENGTH, "plain", "error length *", "not EMODB as released"),
    ({FIRST: audio(SOUND, 12_000)}, "plain", "warning rate", "12,000 Hz"),
    ({FIRST: audio(stereo(SOUND, SOUND))}, "plain", "note channels", "2 channels"),
    ({FIRST: audio(stereo(SOUND, SOUND[::-1]))}, "plain", "warning channels", ""),
    ({FIRST: CLIPPED}, "plain", "warning clipped", "10 samples"),
    ({OTHER_LABEL: GOOD[FIRST]}, "plain", f"error duplicate {FIRST} +", f"{FIRST} = "),
    ({OTHER_NAME: GOOD[FIRST]}, "after", f"warning duplicate {FIRST} +", "one speaker"),
    (AGAIN, "before", "warning duplicate +", "same utterance"),
    ({FIRST: None, FLAC: AS_FLAC}, "before", f"note unverified {FLAC}", "compared"),
]


def list_hashes(monkeypatch, folder, files):
    """Make the wav files the originals."""
    files = {name: data for name, data in files.items() if data is not None}
    lines = [f"{hashlib.sha256(d).hexdigest()}  {n}\n" for n, d in files.items()]
    (folder / "EMODB.sha256").write_text("".join(lines))
    monkeypatch.setattr(records, "CHECKSUMS", folder)


@pytest.fixture
def release(tmp_path, monkeypatch):
    list_hashes(monkeypatch, tmp_path, GOOD)
    return write(tmp_path / "EMODB", GOOD)


def outline(report):
    """Return severity, kind and files of the problems, each of which has a fix."""
    assert all(item.fix and item.message.endswith(".") for item in report.problems)
    return sorted((p.severity, p.kind, *sorted(p.files)) for p in report.problems)


def wanted(found, changes):
    """Read what is found, as `DAMAGES` says it."""
    new = [name for name, content in changes.items() if content]
    for part in filter(None, found.split(", ")):
        severity, kind, *files = part.split()
        files = {"": [FIRST], "-": [""], "*": [*GOOD]}.get("".join(files), files)
        files = [name for file in files for name in (new if file == "+" else [file])]
        yield severity, kind, *sorted(files)


@pytest.mark.parametrize(("changes", "hashes", "found", "said"), DAMAGES)
def test_damage_is_found_and_nothing_else(
    tmp_path, monkeypatch, changes, hashes, found, said
):
    list_hashes(monkeypatch, tmp_path, GOOD | changes if hashes == "after" else GOOD)
    folder = write(tmp_path / "EMODB", GOOD | changes)
    report = corpora.check(PLAIN if hashes == "plain" else EMODB, folder)
    assert outline(report) == sorted(wanted(found, changes))
    assert not said or any(said in item.message for item in report.problems)
    if "error" not in found:
        report.require_ok()
    elif report.usable:
        with pytest.raises(ValueError, match="ignore_problems = True"):
            report.require_ok()
        report.require_ok(ignore=True)
    else:
        with pytest.raises(ValueError, match="Nothing can be used"):
            report.require_ok(ignore=True)


def test_content_is_the_same_however_it_is_stored(tmp_path):
    def seen(samples, *stored):
        (tmp_path / "file").write_bytes(audio(samples, RATE, *stored))
        return doctor.inspect(tmp_path / "file", {})

    content = seen(SAMPLES)["content"]
    for stored in ("PCM_16", "FLAC"), ("PCM_24",), ("DOUBLE",), ("PCM_16", "AIFF"):
        for channels in (SAMPLES, stereo(SAMPLES, SAMPLES)):
            found = seen(channels, *stored)
            assert (found["fault"], found["encoding"]) == ("", stored[0])
            assert (found["content"], found["peak"]) == (content, np.abs(SAMPLES).max())
        other = np.append(SAMPLES[:-1], SAMPLES[-1] + 1 / 32768)
        assert seen(other, *stored)["content"] != content


def test_a_second_check_decodes_only_what_is_new(release, tmp_path, monkeypatch):
    decoded, read = [], doctor.read_blocks
    monkeypatch.setattr(
        doctor, "read_blocks", lambda sound: decoded.append(1) or read(sound)
    )
    cache = tmp_path / "checked" / "EMODB.json"
    first = corpora.check(EMODB, release, cache=cache).clips
    whole = cache.read_text()
    again = corpora.check(EMODB, release, cache=cache).clips
    pd.testing.assert_frame_equal(again, first)
    assert len(decoded) == 35 and first["content"].nunique() == 35
    # A damaged or foreign cache is made again.
    for damaged in (whole[:999], "[]", whole.replace('"version": "', '"version": "0.')):
        cache.write_text(damaged)
        corpora.check(EMODB, release, cache=cache)
        assert cache.read_text() == whole
    decoded.clear()
    # The rules are applied anew: another file under an old name is noticed.
    write(release, {FIRST: GOOD[OTHER_LABEL], OTHER_SPEAKER: GOOD[FIRST][:20_000]})
    for times in (1, 2):  # a file that cannot be read is tried again each time
        report = corpora.check(EMODB, release, cache=cache)
        assert {item.kind for item in report.problems} == {"mislabelled", "truncated"}
        assert report.clips.set_index("file").loc[OTHER_SPEAKER, "content"] == ""
        assert len(decoded) == times


# Registered corpora: no release, but a front end that hears the mean of the channels.
OWN = {
    f"{label}/{who}_{take}.wav": audio(noise(label + who + take))
    for label in ("anger", "joy")
    for who in ("anna", "ben", "cleo", "dan")
    for take in "123"
}


@pytest.fixture
def own(tmp_path):
    """Return what registers and checks four people, some recordings replaced."""

    def check(changes):
        folder = write(tmp_path / "recordings", OWN | changes)
        pattern = "(?P<speaker>anna|ben|cleo|dan)"
        corpus = corpora.register("MINE", folder, tmp_path, None, pattern)
        return corpora.check(corpus, tmp_path / "MINE")

    return check


BEN = noise("joyben1")


def test_a_registered_recording_is_judged_as_the_front_end_hears_it(own):
    for content, found, said in (
        (audio(stereo(BEN, -BEN)), "error silent", "mean of the channels"),
        (audio(21 * BEN, subtype="FLOAT"), "error scale", "+6.4 dBFS"),
        (audio(19 * BEN, subtype="FLOAT"), "warning scale", ""),
        (audio(BEN[:1486]), "warning length", "1486 samples"),
        (audio(np.tile(BEN, 60)[: 61 * RATE]), "warning length", "61 s"),
        (CLIPPED, "warning clipped", "lower level"),
    ):
        report = own({"joy/ben_1.wav": content})
        assert outline(report) == [(*found.split(), "joy/ben_1.wav")]
        assert said in report.problems[0].message + report.problems[0].fix
    assert own({"joy/ben_1.wav": audio(BEN)}).problems == ()
    # Sampling rates that tell the label.
    slow = {name: audio(noise(name, 0.5), 8000) for name in OWN if "anger" in name}
    first, second = own(slow).problems
    assert (first.kind, first.severity) == ("design", "warning")
    assert "anger 8000 Hz, joy 16000 Hz" in first.message
    assert second.severity == "note" and "12 of 24 clips" in second.message


@pytest.mark.parametrize(
    ("spoken", "severity", "said"),
    [
        ({"anger": "abc", "joy": "abc"}, None, ""),
        ({"anger": "ab", "joy": "ab"}, "warning", "Too few speakers, only a, b."),
        ({"anger": "abc", "joy": "abc", "fear": "c"}, "warning", "'fear'"),
        ({"anger": "a", "joy": "b", "fear": "c"}, "error", "Every label is spoken"),
        ({"anger": "abc", "joy": "def"}, "warning", "has one emotion only"),
        ({"anger": "xxxx", "joy": "xxxx"}, "note", "speakers are not known"),
        ({"anger": "abc", "joy": "ab", "many": "abc"}, "warning", "clips: joy 4."),
    ],
)
def test_labels_that_cannot_be_learnt_apart(tmp_path, spoken, severity, said):
    for label, speakers in spoken.items():
        for place, who in enumerate(speakers):
            for take in range(2 if "many" in spoken else 5):
                name = f"{label}/{who}{place}_{take}.wav"
                write(tmp_path / "in", {name: audio(noise(name))})
    pattern = "" if "xxxx" in spoken.values() else r"/(?P<speaker>[a-f])\d_"
    corpus = corpora.register("MINE", tmp_path / "in", tmp_path, None, pattern)
    found = corpora.check(corpus, tmp_path / "MINE").problems
    assert [item.severity for item in found] == [severity] * (severity is not None)
    assert all(said in problem.message for problem in found)


def test_the_report_puts_errors_first_and_stops_on_them(release):
    strange = {"strange.wav": audio(SOUND)}
    slow = {OTHER_SPEAKER: audio(noise("08a01Wa"), 12_000)}
    report = corpora.check(EMODB, write(release, {FIRST: b"", **strange, **slow}))
    frame = report.to_frame()
    assert frame["severity"].tolist() == ["error", "warning", "warning", "warning"]
    assert sorted(frame["kind"]) == ["altered", "empty", "extra", "rate"]
    assert "35 clips (535 expected), 34 usable" in report.summary()
    assert report.clips["usable"].tolist() == (report.clips["file"] != FIRST).tolist()
    left = report.clips.set_index("file").loc["wav/08a01Ta.wav"]
    samples, rate = soundfile.read(io.BytesIO(GOOD[left.name]))
    assert (left["seconds"], left["sample_rate"]) == (len(samples) / rate, rate)
    assert left["peak_dbfs"] == pytest.approx(20 * np.log10(np.abs(samples).max()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "found", "originals"),
    [
        ("RAVDESS", "warning duplicate 2, note unverified 1440, note channels 5", 0),
        ("EMOVO", "warning rate 588", 0),
        ("RAVDESS_original_wav", "error missing 1434, note channels 2", 6),
    ],
)
def test_whole_copies_have_no_error_and_originals_are_known(folder, found, originals):
    if not (path := REPOSITORY.parent / "shared" / "corpora" / folder).is_dir():
        pytest.skip(f"{folder} is not beside the project")
    report = corpora.check(corpora.get(folder.partition("_")[0]), path)
    problems = [f"{p.severity} {p.kind} {len(p.files)}" for p in report.problems]
    assert ", ".join(problems) == found
    assert report.clips["original"].sum() == originals
