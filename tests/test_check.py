"""The doctor: every kind of damage is found, named, and nothing else is."""

import dataclasses
import hashlib
import importlib
import io
import shutil
import struct

import numpy as np
import pandas as pd
import pytest
import soundfile

from lib import corpora
from lib.files import REPOSITORY

# Their names are those of functions, too.
doctor = importlib.import_module("lib.corpora.check")
downloads = importlib.import_module("lib.corpora.download")
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
    """Write contents by name; None for no file, a string for a link to it."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            (folder / name).symlink_to(content)
        elif content is not None:
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
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
WEB_PAGE = b"<!DOCTYPE html><html>404</html>"
NONSENSE = bytes(range(256)) * 20
MP3 = audio(SOUND, subtype="MPEG_LAYER_III", format="MP3")
# Decoded from the 16 bits, so that the samples are the same.
FLACS = {
    name.replace(".wav", ".flac"): audio(
        soundfile.read(io.BytesIO(data))[0], format="FLAC"
    )
    for name, data in GOOD.items()
}
ONLY_FLAC = dict.fromkeys(GOOD) | FLACS
CUT_FLAC = {FIRST: None, FLAC: FLACS[FLAC][:20_000]}
CUT_LATE = {FIRST: None, FLAC: FLACS[FLAC][:-900]}
STRANGE = {f"{name}.wav": audio(noise(name)) for name in "abcdef"}
IN_SAD = {FIRST: None, "sad/03a01Wa.wav": GOOD[FIRST]}
SWAPPED = {FIRST: GOOD[OTHER_LABEL], OTHER_LABEL: GOOD[FIRST]}
AGAIN = {f"again/{name}": data for name, data in GOOD.items()}
ONE_LENGTH = {name: audio(noise(name, 2)) for name in GOOD}
RESAMPLED = {name: audio(noise(name, 2.75625), 22_050) for name in GOOD}  # 2 s
OF_TWO_SPEAKERS = {OTHER_SPEAKER: None, "wav/08a01Wa.flac": FLACS[FLAC]}
OF_TWO_NAMES = {OTHER_SPEAKER: None, OTHER_NAME: GOOD[FIRST]}
OTHER_AGAIN = {f"again/{FIRST}": GOOD[OTHER_LABEL]}
NONSENSE_AGAIN = {FIRST: NONSENSE, f"again/{FIRST}": NONSENSE}


def at_peak(decibels):
    samples = SOUND * 10 ** (decibels / 20) / np.abs(SOUND).max()
    return audio(samples, subtype="PCM_24")


def with_runs(length):
    samples = SOUND.copy()
    samples[500 : 500 + length], samples[900 : 900 + length] = 1.0, -1.0
    return audio(samples)


# What changes in the copy; whether hashes are known ("plain": no; "before", "after":
# those of the files then); severity, kind and files of what is found (FIRST where none
# is given, - for none, * for all, + for all that changed); a part of a message.
DAMAGES = [
    ({}, "plain", "", ""),
    ({}, "before", "", ""),
    ({FIRST: None}, "plain", "error missing -", "angry 4 instead of 5"),
    ({FIRST: None}, "before", "error missing 03a01Wa", "1 of 35 utterances"),
    ({OTHER_NAME: audio(SOUND[9:])}, "plain", "warning extra -", "6 instead of 5"),
    ({OTHER_NAME: audio(SOUND[9:])}, "before", "warning extra +", "not in"),
    (STRANGE, "plain", "warning extra +", "and 1 more"),
    ({"03a01Wb.mp3": MP3}, "plain", "warning extra +", "not read"),
    ({"\udcb1.wav": GOOD[FIRST]}, "plain", r"error extra \udcb1.wav", "UTF-8"),
    (IN_SAD, "plain", "warning mislabelled sad/03a01Wa.wav", "folder sad"),
    ({FIRST: b""}, "before", "error empty", "no bytes"),
    ({FIRST: audio(np.zeros(0))}, "before", "error empty", "no samples"),
    (dict.fromkeys(GOOD, b""), "before", "error empty *", "and 31 more"),
    ({FIRST: WEB_PAGE}, "before", "error unreadable", "web page"),
    ({FIRST: POINTER}, "before", "error unreadable", "Git LFS"),
    ({FIRST: NONSENSE}, "before", "error unreadable", "not readable as audio"),
    ({FIRST: audio(WITH_NAN, subtype="FLOAT")}, "plain", "error unreadable", "finite"),
    ({FIRST: "nowhere.wav"}, "before", "error unreadable", "cannot be opened"),
    ({FIRST: GOOD[FIRST][:30]}, "before", "error truncated", "cut off"),
    ({FIRST: GOOD[FIRST][:44]}, "before", "error truncated", "declares"),
    ({FIRST: GOOD[FIRST][:20_000]}, "before", "error truncated", "declares"),
    (CUT_FLAC, "plain", f"error truncated {FLAC}", ""),
    (CUT_LATE, "plain", f"error truncated {FLAC}", ""),
    ({FIRST: audio(np.zeros(2 * RATE))}, "before", "error silent", "-inf dBFS"),
    ({FIRST: at_peak(-61)}, "plain", "error silent", "-61"),
    ({FIRST: at_peak(-59)}, "plain", "", ""),
    (SWAPPED, "before", "error mislabelled +", "original of 03a01Ta"),
    ({FIRST: GOOD[OTHER_LABEL]}, "before", "error mislabelled", "original of 03a01Ta"),
    ({FIRST: FLIPPED}, "before", "warning altered", "Not the original"),
    ({FIRST: audio(SOUND[:8000])}, "before", "error length, error altered", "0.50 s"),
    ({FIRST: audio(SOUND[:8000])}, "after", "", ""),
    ({FIRST: audio(noise("a", 0.98))}, "plain", "error length", "0.98 s"),
    ({FIRST: audio(noise("a", 0.995))}, "plain", "", ""),
    (
        RESAMPLED,
        "before",
        "error length *, error altered *, warning rate *",
        "35 of 35",
    ),
    (ONE_LENGTH, "plain", "error length *", "not EMODB as released"),
    ({FIRST: audio(SOUND, 12_000)}, "before", "warning altered, warning rate", ""),
    ({FIRST: audio(SOUND, 12_000)}, "plain", "warning rate", "12,000 Hz"),
    ({FIRST: audio(stereo(SOUND, SOUND))}, "plain", "note channels", "2 channels"),
    ({FIRST: audio(stereo(SOUND, SOUND[::-1]))}, "plain", "warning channels", ""),
    ({FIRST: audio(SOUND, subtype="ULAW")}, "plain", "warning encoding", "ULAW"),
    ({FIRST: MP3}, "plain", "warning encoding", "MPEG_LAYER_III"),
    ({FIRST: with_runs(7)}, "plain", "warning clipped", "14 samples"),
    ({FIRST: with_runs(2)}, "plain", "", ""),
    ({FIRST: with_runs(7)}, "after", "note clipped", "14 samples"),
    ({OTHER_LABEL: GOOD[FIRST]}, "plain", f"error duplicate {FIRST} +", f"{FIRST} = "),
    (OF_TWO_SPEAKERS, "plain", f"error duplicate {FIRST} +", "several speakers"),
    (OF_TWO_NAMES, "plain", f"warning duplicate {FIRST} +", "one speaker and label"),
    ({OTHER_NAME: GOOD[FIRST]}, "after", f"warning duplicate {FIRST} +", "one speaker"),
    (AGAIN, "before", "warning duplicate +", "twice"),
    ({FLAC: FLACS[FLAC]}, "before", "warning duplicate +", f"beside {FIRST}"),
    (OTHER_AGAIN, "before", "error duplicate +", "different"),
    (NONSENSE_AGAIN, "before", f"error unreadable, error duplicate again/{FIRST}", ""),
    (ONLY_FLAC, "before", "note unverified +", "cannot be compared"),
]


def list_hashes(monkeypatch, folder, files):
    """Make the wav files the originals."""
    lines = [
        f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        for name, content in files.items()
        if isinstance(content, bytes)
    ]
    (folder / "EMODB.sha256").write_text("".join(lines))
    monkeypatch.setattr(downloads, "CHECKSUMS", folder)


@pytest.fixture
def release(tmp_path, monkeypatch):
    """Return a copy whose files are the originals."""
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
        files = {"": [FIRST], "-": [], "*": [*GOOD]}.get("".join(files), files)
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
    lost = {
        file
        for _, kind, *files in wanted(found, changes)
        if kind in ("empty", "unreadable", "truncated")
        for file in files
    }
    kept = [item.file for item in report.utterances if item.file not in lost]
    assert [item.file for item in report.usable] == kept
    report.summary().encode()
    if not kept:
        with pytest.raises(ValueError, match="Nothing in it can be used"):
            report.require_ok(ignore=True)
    elif "error" in found:
        with pytest.raises(ValueError, match="ignore_problems = True"):
            report.require_ok()
        report.require_ok(ignore=True)
    else:
        report.require_ok()


# One file, in every way it can be stored.


@pytest.fixture
def seen(tmp_path):
    """Return what tells what a file of some content holds."""

    def inspect(content):
        (tmp_path / "file").write_bytes(content)
        return doctor.inspect(tmp_path / "file", {})

    return inspect


@pytest.mark.parametrize(
    ("format", "subtype"),
    [("FLAC", "PCM_16"), ("WAV", "PCM_24"), ("WAVEX", "PCM_24")]
    + [("WAV", "FLOAT"), ("WAV", "DOUBLE"), ("RF64", "PCM_16"), ("AIFF", "PCM_16")],
)
def test_content_is_the_same_however_it_is_stored(seen, format, subtype):
    samples = soundfile.read(io.BytesIO(GOOD[FIRST]))[0]
    content = seen(GOOD[FIRST])["content"]
    for channels in (samples, stereo(samples, samples)):
        found = seen(audio(channels, subtype=subtype, format=format))
        assert (found["fault"], found["encoding"]) == ("", subtype)
        assert found["content"] == content
        assert found["peak"] == np.abs(samples).max()
    samples[7] += 1 / 32768
    found = seen(audio(samples, subtype=subtype, format=format))
    assert found["content"] != content


def chunk(name, data):
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


@pytest.mark.parametrize(
    ("declared", "behind", "fault"),
    [(10_000, chunk(b"LIST", b"INFO" + chunk(b"ISFT", b"me")), "")]
    + [(20_000, b"", "truncated"), (0xFFFFFFFF, b"", "")],  # the last wrote to a pipe
)
def test_a_wav_is_cut_where_it_declares_more_than_it_holds(
    seen, declared, behind, fault
):
    data = struct.pack("<5000h", *range(-2500, 2500))
    form = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16))
    body = b"WAVE" + form + chunk(b"FLLR", b"x" * 4043)
    body += b"data" + struct.pack("<I", declared) + data + behind
    found = seen(b"RIFF" + struct.pack("<I", len(body)) + body)
    assert (found["fault"], found["frames"]) == (fault, 5000)
    assert fault or found["peak"] == 2500 / 32768


@pytest.mark.parametrize("format", ["AIFF", "AU"])
def test_other_formats_are_cut_too(seen, format):
    whole = audio(SOUND, format=format)
    assert seen(whole)["fault"] == ""
    assert seen(whole[:20_000])["fault"] == "truncated"


@pytest.mark.parametrize("declared", [50_000, 1 << 35])
def test_a_flac_that_declares_more_than_it_holds(seen, declared):
    # The total is the last 36 bits of the 64 behind 18 bytes of header.
    flac = FLACS[FLAC]
    head = struct.unpack(">Q", flac[18:26])[0] >> 36 << 36 | declared
    assert seen(flac[:18] + struct.pack(">Q", head) + flac[26:])["fault"] == "truncated"


@pytest.mark.parametrize(
    ("subtype", "limit"), [("PCM_U8", 128), ("PCM_16", 32768), ("PCM_24", 2**23)]
)
def test_clipping_is_judged_by_the_width_of_the_samples(seen, subtype, limit):
    samples = stereo(0.2 * SOUND, 0.1 * SOUND)
    for top, clipped in [((limit - 1) / limit, 5), ((limit - 2) / limit, 0)]:
        samples[10:15, 1] = top
        assert seen(audio(samples, subtype=subtype))["clipped"] == clipped
    samples[10:15] = 1.5
    assert seen(audio(samples, subtype="FLOAT"))["clipped"] == 0


# What is kept between two checks.


@pytest.fixture
def decoded(monkeypatch):
    """Return a list that grows with every file that is decoded."""
    calls, read = [], doctor.read_blocks
    monkeypatch.setattr(
        doctor, "read_blocks", lambda sound: calls.append(1) or read(sound)
    )
    return calls


def test_a_second_check_decodes_only_what_is_new(release, tmp_path, decoded):
    cache = tmp_path / "checked" / "EMODB.json"
    first = corpora.check(EMODB, release, cache=cache).clips
    again = corpora.check(EMODB, release, cache=cache).clips
    pd.testing.assert_frame_equal(again, first)
    assert len(decoded) == 35 and first["content"].nunique() == 35
    # The rules are applied anew: another file under an old name is noticed.
    write(release, {FIRST: GOOD[OTHER_LABEL], OTHER_SPEAKER: GOOD[FIRST][:20_000]})
    for times in (36, 37):  # a file that cannot be read is tried again each time
        report = corpora.check(EMODB, release, cache=cache)
        assert {item.kind for item in report.problems} == {"mislabelled", "truncated"}
        assert report.clips.set_index("file").loc[OTHER_SPEAKER, "content"] == ""
        assert len(decoded) == times


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace('"version": "', '"version": "0.'),
    ],
)
def test_a_damaged_or_foreign_cache_is_made_again(release, tmp_path, decoded, damage):
    cache = tmp_path / "checked.json"
    corpora.check(PLAIN, release, cache=cache)
    whole = cache.read_text()
    cache.write_text(damage(whole))
    assert cache.read_text() != whole
    assert corpora.check(PLAIN, release, cache=cache).errors == ()
    assert len(decoded) == 70 and cache.read_text() == whole


# Folders and other corpora.


def test_a_release_whose_names_follow_from_a_scheme(tmp_path):
    # All are of one length, as in a release of cut clips.
    corpus = dataclasses.replace(corpora.get("DEMO"), seconds=(1, 1))
    clips = {
        f"{k[:2]}/{k}.wav": audio(noise(k, 1))
        for k in doctor.expected_utterances(corpus)
    }
    assert corpora.check(corpus, write(tmp_path / "whole", clips)).problems == ()
    changes = {"m1/f1_angry_t1.wav": clips.pop("f1/f1_angry_t1.wav")}
    changes["f2/f2_sad_t1.wav"] = audio(stereo(noise("a", 1), noise("b", 1)))
    clips.pop("f1/f1_sad_t1.wav")
    report = corpora.check(corpus, write(tmp_path / "damaged", clips | changes))
    # What lies in a wrong folder is not missing, too; one of 288 is a single file.
    assert outline(report) == [
        ("error", "mislabelled", "m1/f1_angry_t1.wav"),
        ("error", "missing", "f1_sad_t1"),
        ("note", "channels", "f2/f2_sad_t1.wav"),
    ]
    assert "Generate" in report.problems[1].fix and len(report.utterances) == 286
    assert report.counts.loc["sad"].tolist() == [47, 48]


def test_a_corpus_without_fixed_release(tmp_path):
    names = [f"actor_1/03-01-{n:02d}-01-{n}-1-02.wav" for n in range(1, 12)]
    clips = {name: audio(noise(name)) for name in names}
    clips[names[-1]] = audio(noise("a", 0.05))
    report = corpora.check("ASVP_ESD", write(tmp_path, clips))
    # The limits of length are a guess: no error.
    assert outline(report) == [("warning", "length", names[-1]), ("warning", "missing")]
    assert any("disappointed" in problem.message for problem in report.problems)
    assert report.counts["expected"].isna().all()
    assert "11 utterances" in report.summary()


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

    def check(changes, source="recordings"):
        folder = write(tmp_path / source, OWN | changes)
        pattern = "(?P<speaker>anna|ben|cleo|dan)"
        corpora.register("MINE", folder, tmp_path / "Datasets", speaker_pattern=pattern)
        return corpora.check("MINE", tmp_path / "Datasets" / "MINE")

    return check


def test_a_registered_corpus_is_checked_by_name(own, tmp_path):
    assert own({}).problems == () and "release" not in own({}).summary()
    write(tmp_path / "recordings", {"joy/anna_1.wav": b""})
    (tmp_path / "recordings" / "joy" / "anna_2.wav").unlink()
    report = corpora.check("MINE", tmp_path / "Datasets" / "MINE")
    assert outline(report) == [
        ("error", "empty", "joy/anna_1.wav"),
        ("error", "missing"),
    ]
    assert any("joy 11 instead of 12" in problem.message for problem in report.errors)
    assert "register the corpus again" in report.problems[0].fix


BEN = noise("joyben1")


@pytest.mark.parametrize(
    ("content", "found", "said"),
    [
        (audio(stereo(BEN, -BEN)), "error silent", "cancel"),
        (audio(stereo(BEN, -0.9 * BEN)), "warning phase", "-26 dB"),
        # 20 dB is a factor of 0.1: 1 - x = 2 * 0.1.
        (audio(stereo(BEN, -0.81 * BEN)), "warning phase", ""),
        (audio(stereo(BEN, -0.79 * BEN)), "", ""),
        (audio(stereo(BEN, 0 * BEN)), "", ""),
        (audio(stereo(BEN, BEN[::-1])), "", ""),
        (audio(stereo(0 * BEN, 0 * BEN)), "error silent", "-inf"),
        (audio(32767 * BEN, subtype="FLOAT"), "error scale", "+70.3"),
        (audio(21 * BEN, subtype="FLOAT"), "error scale", "+6.4 dBFS"),
        (audio(19 * BEN, subtype="FLOAT"), "warning scale", ""),
        (audio(10 * BEN, subtype="FLOAT"), "", ""),
        # A frame of 2048 samples at 22,050 Hz has 1486.08 at 16,000 Hz.
        (audio(BEN[:1486]), "warning length", "1486 samples"),
        (audio(BEN[:1487]), "", ""),
        (audio(np.tile(BEN, 60)[: 61 * RATE]), "warning length", "61 s"),
        (audio(BEN, subtype="ULAW"), "note encoding", "ULAW"),
        (with_runs(7), "warning clipped", "lower level"),
    ],
)
def test_a_registered_recording_is_judged_as_the_front_end_hears_it(
    own, content, found, said
):
    report = own({"joy/ben_1.wav": content})
    assert len(report.usable) == 24
    assert outline(report) == ([(*found.split(), "joy/ben_1.wav")] if found else [])
    for problem in report.problems:
        assert said in problem.message + problem.fix
        assert "release" not in problem.message + problem.fix


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ("/", []),  # all of one rate, and of one length
        ("joy/anna_1", ["1 of 24 clips"]),
        ("anna", ["6 of 24 clips"]),
        ("anger", ["sample rate (most often anger 8000, joy 16000)", "12 of 24 clips"]),
    ],
)
def test_sampling_rates_that_tell_the_label_or_differ(own, changed, found):
    other = {name: audio(noise(name, 0.5), 8000) for name in OWN if changed in name}
    problems = own(other).problems
    severities = ["warning", "note"][2 - len(found) :]
    assert [problem.severity for problem in problems] == severities
    for problem, said in zip(problems, found, strict=True):
        assert problem.kind == "design" and said in problem.message


@pytest.mark.parametrize(
    ("spoken", "severity", "said"),
    [
        ({"anger": "abc", "joy": "abc"}, None, ""),
        ({"anger": "ab", "joy": "ab"}, "warning", "Too few speakers, only a, b."),
        ({"anger": "a", "joy": "a"}, "warning", "Too few speakers, only a."),
        ({"anger": "abc", "joy": "abc", "fear": "c"}, "warning", "'fear'"),
        ({"anger": "a", "joy": "b", "fear": "c"}, "error", "Every label is spoken"),
        ({"anger": "ad", "joy": "b", "fear": "c"}, "error", "'fear', 'joy'"),
        ({"anger": "abc", "joy": "def"}, "warning", "has one emotion only"),
        ({"anger": "....", "joy": "...."}, "note", "speakers are not known"),
        ({"anger": "abc", "joy": "ab", "many": "abc"}, "warning", "clips: joy 4."),
    ],
)
def test_labels_that_cannot_be_learnt_apart_from_people(spoken, severity, said):
    rows = [
        (label, who.strip("."), 8000, 1, "PCM_16", "")
        for label, speakers in spoken.items()
        for who in speakers
        for _ in range(2 if "many" in spoken else 5)
    ]
    columns = ["label", "speaker", "sample_rate", "channels", "encoding", "sex"]
    found = list(doctor.study_problems(pd.DataFrame(rows, columns=columns)))
    assert [item.severity for item in found] == [severity] * (severity is not None)
    assert all(said in problem.message for problem in found)


# The report.


def test_the_table_of_clips(release):
    report = corpora.check(EMODB, release)
    assert report.clips["file"].tolist() == [item.file for item in report.utterances]
    for row in report.clips.itertuples():
        samples, rate = soundfile.read(io.BytesIO(GOOD[row.file]))
        assert (row.seconds, row.sample_rate) == (len(samples) / rate, rate)
        assert row.peak_dbfs == pytest.approx(20 * np.log10(np.abs(samples).max()))
        assert row.sha256 == hashlib.sha256(GOOD[row.file]).hexdigest()
        assert row.original and row.usable
    clip = report.clips.set_index("file").loc["wav/08a01Ta.wav"]
    assert clip[["label", "speaker", "sex"]].tolist() == ["sad", "08", "female"]


def test_the_report_puts_errors_first_and_stops_on_them(release):
    strange = {"strange.wav": audio(SOUND)}
    slow = {OTHER_SPEAKER: audio(noise("08a01Wa"), 12_000)}
    report = corpora.check(EMODB, write(release, {FIRST: b"", **strange, **slow}))
    frame = report.to_frame()
    assert frame["severity"].tolist() == ["error", "warning", "warning", "warning"]
    assert sorted(frame["kind"]) == ["altered", "empty", "extra", "rate"]
    assert frame["files"].tolist() == [1, 1, 1, 1]
    assert report.summary() == (
        f"EMODB: 35 of 535 utterances in {release}, 34 usable; 1 error, 3 warnings. "
        "33 are byte for byte the original files."
    )
    with pytest.raises(ValueError) as raised:
        report.require_ok()
    problem = report.errors[0]
    assert problem.message in str(raised.value) and problem.fix in str(raised.value)
    assert "34 usable" in str(raised.value)


# Real recordings.


def beside(folder):
    if not (path := REPOSITORY.parent / "shared" / "corpora" / folder).is_dir():
        pytest.skip(f"{folder} is not beside the project")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("RAVDESS", ["warning duplicate 2", "note unverified 1440", "note channels 5"]),
        ("EMOVO", ["warning rate 588"]),
    ],
)
def test_whole_copies_have_no_error(name, found):
    problems = corpora.check(name, beside(name)).problems
    assert [f"{p.severity} {p.kind} {len(p.files)}" for p in problems] == found


def test_original_files_are_verified_to_the_bit(tmp_path):
    folder = shutil.copytree(beside("RAVDESS_original_wav"), tmp_path / "RAVDESS")
    report = corpora.check("RAVDESS", folder)
    assert report.clips["original"].tolist() == [True] * 6
    kinds = [(item.kind, len(item.files)) for item in report.problems]
    assert kinds == [("missing", 1434), ("channels", 2)]
    file = folder / "Actor_01/03-01-05-01-01-01-01.wav"
    changed = bytearray(file.read_bytes())
    # The audio begins behind 12 + 24 + 4052 + 8 bytes of headers.
    changed[4096 + 100_001] ^= 0x10
    file.chmod(0o644)
    file.write_bytes(changed)
    report = corpora.check("RAVDESS", folder)
    assert ("altered", 1) in [(item.kind, len(item.files)) for item in report.problems]
    assert len(report.usable) == 6
