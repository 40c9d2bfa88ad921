"""The doctor: every kind of damage is found, named, and nothing else is."""

import dataclasses
import hashlib
import math
import shutil
import struct

import numpy as np
import pandas as pd
import pytest
import soundfile

from lib import corpora
from lib.corpora import audio_checks, checksums, expected
from lib.corpora.base import Problem
from lib.corpora.report import Report, count_table
from lib.files import REPOSITORY

SHARED = REPOSITORY.parent / "shared"
RATE = 16_000
# Five speakers say one sentence in the seven emotions of EMO-DB.
NAMES = [
    f"{speaker}a01{code}a" for code in "WLEAFNT" for speaker in "03 08 09 10 11".split()
]
FIRST = "wav/03a01Wa.wav"
EMODB = corpora.get("EMODB")


def noise(name, seconds=None):
    """Return audible noise that is different and of another length for every name."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    random = np.random.default_rng(seed)
    length = round((seconds or random.uniform(1.2, 2.5)) * RATE)
    return 0.1 * random.uniform(-1, 1, length)


def write(path, samples, rate=RATE, subtype="PCM_16", format=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype=subtype, format=format)


@pytest.fixture(scope="module")
def pattern(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pattern")
    for name in NAMES:
        write(folder / "wav" / f"{name}.wav", noise(name))
    return folder


@pytest.fixture
def copy(pattern, tmp_path):
    """A copy without list of hashes; five utterances of each label are expected."""
    folder = tmp_path / "EMODB"
    shutil.copytree(pattern, folder)
    return folder


def list_hashes(copy, folder):
    """Write the list of hashes of the files as they are now."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(copy.rglob("*.wav"))
    ]
    folder.mkdir()
    (folder / "EMODB.sha256").write_text("".join(lines))


@pytest.fixture
def release(copy, tmp_path, monkeypatch):
    """The same copy, its present files being the originals."""
    list_hashes(copy, tmp_path / "lists")
    monkeypatch.setattr(checksums, "FOLDER", tmp_path / "lists")
    return copy


PLAIN = dataclasses.replace(EMODB, checksums="", counts=dict.fromkeys(EMODB.labels, 5))


def outline(report):
    return [(p.severity, p.kind, p.files or (p.file,)) for p in report.problems]


def only(report, severity, kind, *files):
    """Return the only problem, which must be the one described."""
    assert outline(report) == [(severity, kind, files)]
    problem = report.problems[0]
    assert problem.file == files[0] and problem.message.endswith((".", "…"))
    assert problem.fix
    return problem


def test_an_undamaged_copy_has_no_problem(copy):
    report = corpora.check(PLAIN, copy)
    assert report.problems == () and report.ok
    assert len(report.utterances) == len(report.usable) == 35
    assert report.clips["original"].isna().all()
    report.require_ok()


def test_an_undamaged_release_is_recognised_as_the_original(release):
    report = corpora.check("EMODB", release)
    assert report.problems == ()
    assert report.clips["original"].tolist() == [True] * 35
    assert "35 are byte for byte the original files" in report.summary()


def test_missing_files_are_named_where_the_release_is_known(release):
    for name in ("03a01Wa", "08a01Wa", "03a01Ta"):
        (release / "wav" / f"{name}.wav").unlink()
    report = corpora.check(EMODB, release)
    problem = only(report, "error", "missing", "03a01Ta", "03a01Wa", "08a01Wa")
    assert "3 of 35 utterances (angry 2, sad 1)" in problem.message
    assert "EMODB: 32 of 535 utterances" in report.summary()
    assert "differs from the release: missing" in report.summary()
    assert f'corpora.download(corpora.get("EMODB"), r"{release.parent}")' in problem.fix
    assert report.counts.loc["angry"].tolist() == [3, 127]


def test_missing_files_are_counted_where_only_numbers_are_known(copy):
    (copy / FIRST).unlink()
    problem = only(corpora.check(PLAIN, copy), "error", "missing", "")
    assert "angry 4 instead of 5" in problem.message
    assert "5 speakers: 12, 13, 14, 15 and 1 more" in problem.message


def test_more_files_than_expected(copy):
    write(copy / "wav" / "03a01Wb.wav", noise("surplus"))
    problem = only(corpora.check(PLAIN, copy), "warning", "extra", "")
    assert "angry 6 instead of 5" in problem.message


def test_a_name_beyond_the_release(release):
    write(release / "wav" / "03a01Wb.wav", noise("surplus"))
    report = corpora.check(EMODB, release)
    only(report, "warning", "extra", "wav/03a01Wb.wav")


def test_foreign_names_are_one_problem(copy):
    for name in ("a", "b", "c", "d", "e", "f"):
        write(copy / f"{name}.wav", noise(name))
    problem = only(
        corpora.check(PLAIN, copy), "warning", "extra", *(f"{n}.wav" for n in "abcdef")
    )
    assert "a.wav" in problem.message and "b.wav" in problem.message
    assert "1 more" in problem.message


def test_a_wrong_class_folder(copy):
    (copy / "sad").mkdir()
    (copy / FIRST).rename(copy / "sad" / "03a01Wa.wav")
    only(corpora.check(PLAIN, copy), "warning", "mislabelled", "sad/03a01Wa.wav")


GARBAGE = {
    "empty": ("empty", b"", "no bytes"),
    "page": ("unreadable", b"<!DOCTYPE html><html>404</html>", "web page"),
    "pointer": (
        "unreadable",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "Git LFS",
    ),
    "rubbish": ("unreadable", bytes(range(256)) * 20, "not readable as audio"),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_files_that_are_not_audio(release, name):
    kind, content, said = GARBAGE[name]
    (release / FIRST).write_bytes(content)
    report = corpora.check(EMODB, release)
    assert said in only(report, "error", kind, FIRST).message
    assert FIRST not in [item.file for item in report.usable]
    assert len(report.usable) == 34 and len(report.utterances) == 35


def test_a_link_that_leads_nowhere(release):
    (release / FIRST).unlink()
    (release / FIRST).symlink_to(release / "nowhere.wav")
    problem = only(corpora.check(EMODB, release), "error", "unreadable", FIRST)
    assert "cannot be opened" in problem.message


def test_audio_without_samples(release):
    write(release / FIRST, np.zeros(0))
    only(corpora.check(EMODB, release), "error", "empty", FIRST)


@pytest.mark.parametrize("kept", [30, 44, 20_000])
def test_a_cut_off_wav(release, kept):
    content = (release / FIRST).read_bytes()
    (release / FIRST).write_bytes(content[:kept])
    report = corpora.check(EMODB, release)
    problem = only(report, "error", "truncated", FIRST)
    assert "declares" in problem.message
    assert len(report.usable) == 34


@pytest.mark.parametrize("share", [0.01, 0.5, 0.98])
def test_a_cut_off_flac(copy, share):
    flac = copy / "wav" / "03a01Wa.flac"
    write(flac, noise("03a01Wa"))
    (copy / FIRST).unlink()
    assert corpora.check(PLAIN, copy).problems == ()
    content = flac.read_bytes()
    flac.write_bytes(content[: int(share * len(content))])
    only(corpora.check(PLAIN, copy), "error", "truncated", "wav/03a01Wa.flac")


def with_declared_samples(flac, number):
    """Return the FLAC with another total in the 36 bits of its STREAMINFO."""
    # "fLaC", 4 bytes block header, 10 of sizes, then 64 bits: rate, channels, bits,
    # total number of samples.
    head = struct.unpack(">Q", flac[18:26])[0]
    return flac[:18] + struct.pack(">Q", head >> 36 << 36 | number) + flac[26:]


@pytest.mark.parametrize("declared", [50_000, 1 << 35])
def test_a_flac_that_declares_more_than_it_holds(tmp_path, declared):
    path = tmp_path / "a.flac"
    write(path, noise("a", seconds=2.0))
    seen = audio_checks.inspect_file(path)
    assert (seen.fault, seen.frames) == ("", 32_000)
    path.write_bytes(with_declared_samples(path.read_bytes(), declared))
    assert audio_checks.inspect_file(path).fault == "truncated"


def test_a_decoder_that_stops_early_without_an_error(tmp_path, monkeypatch):
    path = tmp_path / "a.flac"
    write(path, noise("a", seconds=2.0))
    read = soundfile.SoundFile.read
    monkeypatch.setattr(
        soundfile.SoundFile, "read", lambda *args, **options: read(*args, **options)[5:]
    )
    seen = audio_checks.inspect_file(path)
    assert seen.fault == "truncated"
    assert "32,000 samples but decodes to 31,995" in seen.reason


def test_values_that_are_no_numbers(copy):
    samples = noise("03a01Wa")
    samples[100] = np.nan
    write(copy / FIRST, samples, subtype="FLOAT")
    problem = only(corpora.check(PLAIN, copy), "error", "unreadable", FIRST)
    assert "finite" in problem.message


def test_silence(release):
    write(release / FIRST, np.zeros(2 * RATE))
    problem = only(corpora.check(EMODB, release), "error", "silent", FIRST)
    assert "only zeros" in problem.message


@pytest.mark.parametrize(("decibels", "silent"), [(-61, True), (-59, False)])
def test_the_limit_of_silence(copy, decibels, silent):
    samples = noise("03a01Wa")
    samples *= 10 ** (decibels / 20) / np.abs(samples).max()
    write(copy / FIRST, samples, subtype="PCM_24")
    report = corpora.check(PLAIN, copy)
    assert outline(report) == ([("error", "silent", (FIRST,))] if silent else [])
    peak = report.clips.set_index("file").loc[FIRST, "peak_dbfs"]
    assert peak == pytest.approx(decibels, abs=0.01)


def test_two_files_that_changed_places(release):
    one, other = release / FIRST, release / "wav" / "10a01Ta.wav"
    one.rename(release / "aside")
    other.rename(one)
    (release / "aside").rename(other)
    report = corpora.check(EMODB, release)
    problem = only(report, "error", "mislabelled", FIRST, "wav/10a01Ta.wav")
    assert f"{FIRST} is the original of 10a01Ta" in problem.message


def test_a_file_replaced_by_the_original_of_another(release):
    shutil.copy(release / "wav" / "10a01Ta.wav", release / FIRST)
    only(corpora.check(EMODB, release), "error", "mislabelled", FIRST)


def test_one_changed_bit_of_audio(release):
    content = bytearray((release / FIRST).read_bytes())
    content[1000] ^= 1
    (release / FIRST).write_bytes(content)
    report = corpora.check(EMODB, release)
    problem = only(report, "warning", "altered", FIRST)
    assert "35 compared" in problem.message
    assert report.ok and len(report.usable) == 35
    assert report.clips.set_index("file").loc[FIRST, "original"] == False  # noqa: E712


def test_a_shorter_re_encoding(release):
    write(release / FIRST, noise("03a01Wa")[: RATE // 2])
    report = corpora.check(EMODB, release)
    assert outline(report) == [
        ("error", "length", (FIRST,)),
        ("error", "altered", (FIRST,)),
    ]
    assert "0.50 s" in report.problems[0].message


def test_no_length_is_wrong_in_an_original(copy, tmp_path, monkeypatch):
    write(copy / FIRST, noise("03a01Wa", seconds=0.5))
    list_hashes(copy, tmp_path / "lists")
    monkeypatch.setattr(checksums, "FOLDER", tmp_path / "lists")
    assert corpora.check(EMODB, copy).problems == ()


@pytest.mark.parametrize(("seconds", "fine"), [(0.98, False), (0.995, True)])
def test_the_limit_of_length(copy, seconds, fine):
    write(copy / FIRST, noise("03a01Wa", seconds))
    report = corpora.check(PLAIN, copy)
    assert outline(report) == ([] if fine else [("error", "length", (FIRST,))])


def test_a_copy_re_cut_to_two_seconds_is_not_the_original(release):
    for path in release.rglob("*.wav"):
        write(path, noise(path.stem, 2.0 * 22_050 / RATE), rate=22_050)
    assert soundfile.info(release / FIRST).duration == 2.0
    report = corpora.check(EMODB, release)
    everything = tuple(item.file for item in report.utterances)
    assert outline(report) == [
        ("error", "length", everything),
        ("error", "altered", everything),
        ("warning", "rate", everything),
    ]
    assert "35 of 35 clips last exactly 2.000 s" in report.problems[0].message
    assert "Not the original" in report.problems[1].message
    with pytest.raises(ValueError, match="not EMODB as released"):
        report.require_ok()


def test_a_re_cut_copy_is_recognised_without_hashes(copy):
    for path in copy.rglob("*.wav"):
        write(path, noise(path.stem, 2.0))
    report = corpora.check(PLAIN, copy)
    assert [(p.severity, p.kind) for p in report.problems] == [("error", "length")]


def test_a_resampled_file(release):
    write(release / FIRST, noise("03a01Wa"), rate=12_000)
    report = corpora.check(EMODB, release)
    assert outline(report) == [
        ("warning", "altered", (FIRST,)),
        ("warning", "rate", (FIRST,)),
    ]
    message = report.problems[1].message
    assert "12,000 Hz mono" in message and "16,000 Hz mono" in message


def test_equal_channels_are_a_note(copy):
    samples = noise("03a01Wa")
    write(copy / FIRST, np.stack([samples, samples], axis=1))
    problem = only(corpora.check(PLAIN, copy), "note", "channels", FIRST)
    assert "Stereo with equal channels" in problem.message


def test_other_channels_are_a_warning(copy):
    samples = noise("03a01Wa")
    write(copy / FIRST, np.stack([samples, samples[::-1]], axis=1))
    only(corpora.check(PLAIN, copy), "warning", "channels", FIRST)


def test_mono_where_the_release_is_stereo(copy):
    report = corpora.check(dataclasses.replace(PLAIN, channels=2), copy)
    assert [(p.severity, p.kind, len(p.files)) for p in report.problems] == [
        ("warning", "channels", 35)
    ]


def test_lossy_compression(copy):
    write(copy / FIRST, noise("03a01Wa"), subtype="ULAW")
    problem = only(corpora.check(PLAIN, copy), "warning", "encoding", FIRST)
    assert "ULAW" in problem.message


def test_mpeg_audio_under_the_name_of_a_wav(copy):
    write(copy / FIRST, noise("03a01Wa"), subtype="MPEG_LAYER_III", format="MP3")
    only(corpora.check(PLAIN, copy), "warning", "encoding", FIRST)


def with_runs(length):
    samples = noise("03a01Wa")
    samples[500 : 500 + length] = 1.0
    samples[900 : 900 + length] = -1.0
    return samples


def test_clipping(copy):
    write(copy / FIRST, with_runs(7))
    problem = only(corpora.check(PLAIN, copy), "warning", "clipped", FIRST)
    assert "14 samples" in problem.message
    write(copy / FIRST, with_runs(2))
    assert corpora.check(PLAIN, copy).problems == ()


def test_clipping_in_the_release_is_a_note(copy, tmp_path, monkeypatch):
    write(copy / FIRST, with_runs(7))
    list_hashes(copy, tmp_path / "lists")
    monkeypatch.setattr(checksums, "FOLDER", tmp_path / "lists")
    only(corpora.check(EMODB, copy), "note", "clipped", FIRST)


@pytest.mark.parametrize(
    ("other", "severity"),
    [
        ("03a01Ta", "error"),  # another label
        ("08a01Wa", "error"),  # another speaker
        ("03a02Wa", "warning"),  # the same speaker and label
    ],
)
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_the_same_audio_under_two_names(copy, other, severity, suffix):
    for path in copy.rglob(f"{other}.wav"):
        path.unlink()
    path = copy / "wav" / f"{other}{suffix}"
    write(path, soundfile.read(copy / FIRST)[0])
    counts = dict(PLAIN.counts)
    counts["angry"] = 6 if other == "03a02Wa" else 5
    report = corpora.check(dataclasses.replace(PLAIN, counts=counts), copy)
    files = (FIRST, f"wav/{other}{suffix}")
    assert [(p.severity, p.kind, set(p.files)) for p in report.problems] == [
        (severity, "duplicate", set(files))
    ]


def test_a_pair_that_is_equal_in_the_release(copy, tmp_path, monkeypatch):
    shutil.copy(copy / FIRST, copy / "wav" / "03a02Wa.wav")
    list_hashes(copy, tmp_path / "lists")
    monkeypatch.setattr(checksums, "FOLDER", tmp_path / "lists")
    report = corpora.check(EMODB, copy)
    problem = only(report, "warning", "duplicate", FIRST, "wav/03a02Wa.wav")
    assert "so in the release" in problem.message


def test_everything_twice_is_one_warning(release):
    shutil.copytree(release / "wav", release / "again" / "wav")
    report = corpora.check(EMODB, release)
    assert [(p.severity, p.kind, len(p.files)) for p in report.problems] == [
        ("warning", "duplicate", 35)
    ]
    assert len(report.utterances) == 35


def test_wav_and_flac_of_the_same_audio_are_the_same_utterance(release):
    write(release / "wav" / "03a01Wa.flac", soundfile.read(release / FIRST)[0])
    report = corpora.check(EMODB, release)
    only(report, "warning", "duplicate", "wav/03a01Wa.flac")


def test_two_recordings_under_one_name(release):
    write(release / "again" / "wav" / "03a01Wa.wav", noise("other"))
    report = corpora.check(EMODB, release)
    only(report, "error", "duplicate", "again/wav/03a01Wa.wav")


def test_flac_cannot_be_compared_with_hashes_of_wav(release):
    for path in list(release.rglob("*.wav")):
        write(path.with_suffix(".flac"), soundfile.read(path)[0])
        path.unlink()
    report = corpora.check(EMODB, release)
    assert [(p.severity, p.kind, len(p.files)) for p in report.problems] == [
        ("note", "unverified", 35)
    ]
    assert report.clips["original"].isna().all()


def test_many_files_with_one_fault_are_one_problem(release):
    damaged = sorted(release.rglob("*a01[WLE]a.wav"))
    for path in damaged:
        path.write_bytes(b"")
    report = corpora.check(EMODB, release)
    assert [(p.kind, len(p.files)) for p in report.problems] == [("empty", 15)]
    assert "15 files" in report.problems[0].message
    assert "11 more" in report.problems[0].message


def test_two_copies_that_cannot_be_read_are_not_the_same(release):
    for folder in ("wav", "again/wav"):
        (release / folder).mkdir(parents=True, exist_ok=True)
        (release / folder / "03a01Wa.wav").write_bytes(b"no audio " * 40)
    report = corpora.check(EMODB, release)
    assert ("error", "duplicate", ("again/wav/03a01Wa.wav",)) in outline(report)


@pytest.fixture
def decoded(monkeypatch):
    """The number of files that were decoded."""
    calls = []
    decode = audio_checks._decode
    monkeypatch.setattr(
        audio_checks, "_decode", lambda *args: calls.append(1) or decode(*args)
    )
    return calls


def test_a_second_check_decodes_only_what_is_new(release, tmp_path, decoded):
    cache = tmp_path / "checked" / "EMODB.json"
    first = corpora.check(EMODB, release, cache=cache)
    assert len(decoded) == 35
    pd.testing.assert_frame_equal(
        corpora.check(EMODB, release, cache=cache).clips, first.clips
    )
    assert len(decoded) == 35
    assert "content" in first.clips and first.clips["content"].nunique() == 35
    # The rules are applied anew: another file under an old name is noticed.
    shutil.copy(release / "wav" / "10a01Ta.wav", release / FIRST)
    (release / "wav" / "08a01Wa.wav").write_bytes(b"no audio")
    report = corpora.check(EMODB, release, cache=cache)
    assert {kind for _, kind, _ in outline(report)} == {"mislabelled", "unreadable"}
    assert report.clips.set_index("file").loc["wav/08a01Wa.wav", "content"] == ""
    # A file that cannot be read is tried again each time.
    assert len(decoded) == 36


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace('"version": "', '"version": "0.'),
        lambda text: text.replace('"frames": ', '"frames": "many", "x": ', 1),
        lambda text: text.replace('"sample_rate": 16000', '"sample_rate": "16"', 1),
    ],
)
def test_a_damaged_or_foreign_cache_is_made_again(copy, tmp_path, decoded, damage):
    cache = tmp_path / "checked.json"
    corpora.check(PLAIN, copy, cache=cache)
    whole = cache.read_text()
    cache.write_text(damage(whole))
    assert cache.read_text() != whole
    assert corpora.check(PLAIN, copy, cache=cache).ok
    assert len(decoded) == 70 and cache.read_text() == whole


# One file, in every way it can be stored.


@pytest.mark.parametrize(
    ("suffix", "format", "subtype"),
    [
        (".flac", "FLAC", "PCM_16"),
        (".wav", "WAV", "PCM_24"),
        (".wav", "WAVEX", "PCM_24"),
        (".wav", "WAV", "PCM_32"),
        (".wav", "WAV", "FLOAT"),
        (".wav", "WAV", "DOUBLE"),
        (".wav", "RF64", "PCM_16"),
    ],
)
def test_content_is_the_same_however_it_is_stored(tmp_path, suffix, format, subtype):
    reference = tmp_path / "reference.wav"
    write(reference, noise("a"))
    samples = soundfile.read(reference)[0]
    wanted = audio_checks.inspect_file(reference)
    stored = tmp_path / f"stored{suffix}"
    for channels in (samples, np.stack([samples] * 2, axis=1)):
        write(stored, channels, subtype=subtype, format=format)
        seen = audio_checks.inspect_file(stored)
        assert seen.fault == "" and seen.encoding == subtype
        assert seen.content == wanted.content
        assert seen.peak == wanted.peak == np.abs(samples).max()
    samples[7] += 1 / 32768
    write(stored, samples, subtype=subtype, format=format)
    assert audio_checks.inspect_file(stored).content != wanted.content


def chunk(name, content):
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def wav_with_chunks(data, declared=None):
    """Return a WAV by hand, with odd-sized chunks before and after the audio."""
    form = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
    audio = chunk(b"data", data)
    if declared is not None:
        audio = b"data" + struct.pack("<I", declared) + audio[8:]
    body = b"WAVE" + chunk(b"fmt ", form) + chunk(b"FLLR", b"x" * 4043) + audio
    body += chunk(b"LIST", b"INFO" + chunk(b"ISFT", b"maker")) + chunk(
        b"_PMX", b"z" * 9
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_other_chunks_are_passed_over(tmp_path):
    data = struct.pack("<5000h", *range(-2500, 2500))
    path = tmp_path / "a.wav"
    path.write_bytes(wav_with_chunks(data))
    seen = audio_checks.inspect_file(path)
    assert (seen.fault, seen.frames, seen.peak) == ("", 5000, 2500 / 32768)
    assert audio_checks.wav_data_size(path.read_bytes()) == (10_000, 10_000)


def test_a_size_beyond_the_file_is_a_cut_and_an_unknown_one_is_not(tmp_path):
    data = struct.pack("<5000h", *range(-2500, 2500))
    path = tmp_path / "a.wav"
    path.write_bytes(wav_with_chunks(data, declared=20_000))
    assert audio_checks.inspect_file(path).fault == "truncated"
    path.write_bytes(wav_with_chunks(data, declared=0xFFFFFFFF))
    assert audio_checks.inspect_file(path).fault == ""


def test_clipping_is_judged_by_the_width_of_the_samples(tmp_path):
    path = tmp_path / "a.wav"
    for subtype, limit in [("PCM_U8", 128), ("PCM_16", 32768), ("PCM_24", 2**23)]:
        for top, clipped in [((limit - 1) / limit, 5), ((limit - 2) / limit, 0)]:
            samples = 0.2 * noise("a")
            samples[10:15] = top
            write(path, samples, subtype=subtype)
            assert audio_checks.inspect_file(path).clipped == clipped, subtype
    samples[10:15] = 1.5
    write(path, samples, subtype="FLOAT")
    assert audio_checks.inspect_file(path).clipped == 0


# Folders and other corpora.


def test_a_missing_and_an_empty_folder(tmp_path):
    for name in ("absent", "empty"):
        folder = tmp_path / name
        if name == "empty":
            folder.mkdir()
        with pytest.raises(FileNotFoundError) as error:
            corpora.check("EMODB", folder)
        assert str(folder) in str(error.value)
        assert "emodb.bilderbar.info" in str(error.value)
    assert "it is empty" in str(error.value)


def test_a_folder_of_something_else(tmp_path):
    write(tmp_path / "holiday.wav", noise("holiday"))
    with pytest.raises(FileNotFoundError, match="holiday.wav is not a file of EMODB"):
        corpora.check("EMODB", tmp_path)


@pytest.fixture(scope="module")
def demo_pattern(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    for key in expected.expected_utterances(corpora.get("DEMO")):
        write(folder / key.split("_")[0] / f"{key}.wav", noise(key))
    return folder


@pytest.fixture
def demo(demo_pattern, tmp_path):
    shutil.copytree(demo_pattern, tmp_path / "DEMO")
    return tmp_path / "DEMO"


def test_a_wrong_speaker_folder_is_not_reported_as_missing_too(demo):
    assert corpora.check("DEMO", demo).problems == ()
    (demo / "f1" / "f1_angry_t1.wav").rename(demo / "m1" / "f1_angry_t1.wav")
    report = corpora.check("DEMO", demo)
    only(report, "error", "mislabelled", "m1/f1_angry_t1.wav")
    assert len(report.utterances) == 287


def test_missing_names_follow_from_the_naming_scheme(demo):
    (demo / "f1" / "f1_angry_t1.wav").unlink()
    problem = only(corpora.check("DEMO", demo), "error", "missing", "f1_angry_t1")
    assert "Generate" in problem.fix


def test_single_files_with_other_channels_are_a_note(demo):
    samples = noise("stereo")
    file = "f1/f1_angry_t1.wav"
    write(demo / file, np.stack([samples, samples[::-1]], axis=1))
    only(corpora.check("DEMO", demo), "note", "channels", file)


@pytest.mark.parametrize(
    "name", ["CASIA", "DEMO", "EMODB", "EMOVO", "RAVDESS", "SAVEE"]
)
def test_expected_utterances_agree_with_the_published_counts(name):
    corpus = corpora.get(name)
    utterances = expected.expected_utterances(corpus)
    labels = [tags.label for tags in utterances.values()]
    assert {label: labels.count(label) for label in corpus.labels} == corpus.counts
    assert all(tags.key == key for key, tags in utterances.items())
    assert {tags.speaker for tags in utterances.values()} == set(corpus.speakers)


def test_a_corpus_without_fixed_release(tmp_path):
    for number in range(1, 12):
        name = f"03-01-{number:02d}-01-{number}-1-02.wav"
        write(tmp_path / "actor_1" / name, noise(name))
    report = corpora.check("ASVP_ESD", tmp_path)
    problem = only(report, "warning", "missing", "")
    assert "disappointed" in problem.message
    assert report.counts["expected"].isna().all()


# Registered corpora: no release, but a front end that hears the mean of the channels.


@pytest.fixture
def own(tmp_path):
    """Register four people with two emotions each; return source and a check."""
    source = tmp_path / "recordings"
    for label in ("anger", "joy"):
        for speaker in ("anna", "ben", "cleo", "dan"):
            for take in "123":
                name = f"{label}/{speaker}_{take}"
                write(source / f"{name}.wav", noise(name))

    def check(pattern="(?P<speaker>anna|ben|cleo|dan)"):
        corpora.register("MINE", source, tmp_path / "Datasets", speaker_pattern=pattern)
        return corpora.check("MINE", tmp_path / "Datasets" / "MINE")

    return source, check


def test_a_registered_corpus_is_checked_by_name(own, tmp_path):
    source, check = own
    report = check()
    assert report.problems == () and "release" not in report.summary()
    (source / "joy" / "anna_1.wav").write_bytes(b"")
    (source / "joy" / "anna_2.wav").unlink()
    report = corpora.check("MINE", tmp_path / "Datasets" / "MINE")
    assert outline(report) == [
        ("error", "missing", ("",)),
        ("error", "empty", ("joy/anna_1.wav",)),
    ]
    assert "fewer utterances than registered: joy 11" in report.problems[0].message
    assert "register the corpus again" in report.problems[0].fix
    with pytest.raises(ValueError, match="ignore_problems = True .*02_train"):
        report.require_ok()


def stereo(left, right):
    return {"samples": np.stack([left, right], axis=1)}


BEN = noise("joy/ben_1")


@pytest.mark.parametrize(
    ("recording", "found"),
    [
        (stereo(BEN, -BEN), ("error", "silent", "cancel")),
        (stereo(BEN, -0.9 * BEN), ("warning", "phase", "-26 dB")),
        # 20 dB is a factor of 0.1: 1 - x = 2 * 0.1.
        (stereo(BEN, -0.81 * BEN), ("warning", "phase", "")),
        (stereo(BEN, -0.79 * BEN), None),
        (stereo(BEN, 0 * BEN), None),
        (stereo(BEN, BEN[::-1]), None),
        (stereo(0 * BEN, 0 * BEN), ("error", "silent", "only zeros")),
        (
            {"samples": 32767 * BEN, "subtype": "FLOAT"},
            ("error", "scale", "+70.3 dBFS"),
        ),
        ({"samples": 21 * BEN, "subtype": "FLOAT"}, ("error", "scale", "+6.4 dBFS")),
        ({"samples": 19 * BEN, "subtype": "FLOAT"}, ("warning", "scale", "")),
        ({"samples": 10 * BEN, "subtype": "FLOAT"}, None),
        # A frame of 2048 samples at 22,050 Hz has 1486.08 at 16,000 Hz.
        ({"samples": BEN[:1486]}, ("warning", "length", "1486 samples")),
        ({"samples": BEN[:1487]}, None),
        ({"samples": BEN[:1]}, ("warning", "length", "(1 samples)")),
        ({"samples": np.tile(BEN, 400)[: 660 * RATE]}, ("warning", "length", "660 s")),
        ({"samples": BEN, "subtype": "ULAW"}, ("note", "encoding", "ULAW")),
    ],
)
def test_a_registered_recording_is_judged_as_the_front_end_hears_it(
    own, recording, found
):
    source, check = own
    write(source / "joy" / "ben_1.wav", **recording)
    report = check()
    if found is None:
        assert report.problems == ()
    else:
        severity, kind, said = found
        problem = only(report, severity, kind, "joy/ben_1.wav")
        assert said in problem.message
        assert "release" not in problem.message + problem.fix
    assert len(report.usable) == 24


def test_equal_lengths_are_as_good_as_any_in_a_registered_corpus(own):
    source, check = own
    for path in source.rglob("*.wav"):
        write(path, noise(path.stem + path.parent.name, seconds=1.0))
    assert check().problems == ()


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ("anger/*", [("warning", "sampling rate goes with"), ("note", "(12), 16,000")]),
        ("*/anna*", [("note", "8,000 Hz (6), 16,000 Hz (18)")]),
        ("joy/anna_1*", [("note", "8,000 Hz (1)")]),
        ("*/*", []),
    ],
)
def test_sampling_rates_that_tell_the_label_or_differ(own, changed, found):
    source, check = own
    for path in source.glob(changed):
        write(path, noise(path.stem + path.parent.name)[::2], rate=8000)
    problems = check().problems
    assert [problem.severity for problem in problems] == [kind for kind, _ in found]
    assert all(
        said in item.message for item, (_, said) in zip(problems, found, strict=True)
    )


ONLY_ONE = "'fear' is spoken by one speaker only: under unseen speakers it cannot be"


@pytest.mark.parametrize(
    ("spoken", "found"),
    [
        ({"anger": "abc", "joy": "abc"}, []),
        ({"anger": "ab", "joy": "ab"}, [("warning", "Only 2 speakers: a, b.")]),
        ({"anger": "a", "joy": "a"}, [("warning", "Only 1 speaker: a.")]),
        ({"anger": "abc", "joy": "abc", "fear": "c"}, [("warning", ONLY_ONE)]),
        ({"anger": "a", "joy": "b", "fear": "c"}, [("error", "Every label is spoken")]),
        ({"anger": "ad", "joy": "b", "fear": "c"}, [("error", "'fear', 'joy' are")]),
        ({"anger": "abc", "joy": "def"}, [("warning", "has one emotion only")]),
        ({"anger": "....", "joy": "...."}, [("note", "speakers are not known")]),
    ],
)
def test_labels_that_cannot_be_learnt_apart_from_people(tmp_path, spoken, found):
    rows = ["file,label,speaker"]
    for label, speakers in spoken.items():
        for name in [f"{label}{who}{take}" for who in speakers for take in range(5)]:
            file = f"{name}{len(rows)}.wav"
            write(tmp_path / file, noise(file, seconds=0.2))
            rows.append(f"{file},{label},{name[-2].strip('.')}")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    corpora.register("MINE", tmp_path / "list.csv", tmp_path)
    problems = corpora.check("MINE", tmp_path / "MINE").problems
    assert [problem.severity for problem in problems] == [kind for kind, _ in found]
    assert all(
        said in item.message for item, (_, said) in zip(problems, found, strict=True)
    )


def test_very_few_clips_are_said(own):
    source, check = own
    for path in source.glob("joy/*_[23].wav"):
        path.unlink()
    assert "Fewer than 5 clips: joy 4." in check().problems[0].message


def test_a_name_that_is_not_text_is_an_error_and_the_others_are_read(copy):
    (copy / "wav" / "\udcb1.wav").write_bytes((copy / FIRST).read_bytes())
    report = corpora.check(PLAIN, copy)
    only(report, "error", "extra", r"wav/\udcb1.wav")
    report.summary().encode()
    assert len(report.usable) == 35


# The report.


def test_the_table_of_clips(release):
    (release / FIRST).write_bytes(b"")
    report = corpora.check(EMODB, release, jobs=1)
    table = report.clips.set_index("file")
    assert list(table.index) == [item.file for item in report.utterances]
    for file, row in table.drop(FIRST).iterrows():
        samples, rate = soundfile.read(release / file)
        assert row["seconds"] == len(samples) / rate
        assert row["sample_rate"] == rate and row["channels"] == 1
        assert row["peak_dbfs"] == pytest.approx(20 * np.log10(np.abs(samples).max()))
        digest = hashlib.sha256((release / file).read_bytes()).hexdigest()
        assert row["sha256"] == digest and row["usable"]
    assert table.loc["wav/08a01Ta.wav", ["label", "speaker", "sex"]].tolist() == [
        "sad",
        "08",
        "female",
    ]
    assert not table.loc[FIRST, "usable"] and math.isnan(table.loc[FIRST, "seconds"])


def report_of(*problems, usable=1):
    utterances = [corpora.Utterance(None, "a.wav", corpora.Tags("x", "s"))]
    return Report(
        corpus="MINE",
        folder="here",
        utterances=utterances,
        usable=utterances[:usable],
        problems=problems,
        counts=count_table(("x", "y"), {"x": 2}, utterances),
        clips=pd.DataFrame({"original": pd.array([None], dtype="boolean")}),
    )


def errors(number):
    return [
        Problem("error", "empty", f"{n}.wav", f"Fault {n}.", f"Mend {n}.")
        for n in range(number)
    ]


def test_severities_are_told_apart():
    warning = Problem("warning", "rate", "b.wav", "W.", "F.", ("b.wav", "c.wav"))
    note = Problem("note", "channels", "", "N.", "F.")
    report = report_of(*errors(1), warning, note)
    assert (report.errors, report.warnings, report.notes) == (
        (report.problems[0],),
        (warning,),
        (note,),
    )
    assert not report.ok and report_of(warning, note).ok
    assert report.to_frame()["files"].tolist() == [1, 2, 0]
    assert report.summary() == (
        "MINE: 1 utterances in here, 1 usable; 1 error, 1 warning, 1 note. It differs "
        "from the release: rate."
    )
    assert report_of().to_frame().empty
    assert report.counts["found"].tolist() == [1, 0]
    assert report.counts["expected"].isna().tolist() == [False, True]


def test_errors_stop_unless_they_are_ignored():
    report_of(Problem("warning", "rate", "", "W.", "F.")).require_ok()
    report = report_of(*errors(13))
    with pytest.raises(ValueError) as raised:
        report.require_ok()
    message = str(raised.value)
    assert "13 errors" in message and "10. Fault 9. Mend 9." in message
    assert "Fault 10." not in message and "3 more" in message
    assert "ignore_problems = True" in message and "1 usable" in message
    report.require_ok(ignore=True)


def test_nothing_usable_stops_even_if_errors_are_ignored():
    with pytest.raises(ValueError, match="Nothing in it can be used"):
        report_of(*errors(1), usable=0).require_ok(ignore=True)


def test_errors_come_first(release):
    (release / FIRST).write_bytes(b"")
    write(release / "strange.wav", noise("strange"))
    write(release / "wav" / "08a01Wa.wav", noise("08a01Wa"), rate=12_000)
    frame = corpora.check(EMODB, release).to_frame()
    assert frame["severity"].tolist() == ["error", "warning", "warning", "warning"]
    assert frame["kind"].tolist() == ["empty", "extra", "altered", "rate"]


# Real recordings.


def beside(folder):
    path = SHARED / "corpora" / folder
    if not path.is_dir():
        pytest.skip(f"{folder} is not beside the project")
    return path


@pytest.mark.slow
def test_the_whole_of_ravdess_has_no_error():
    report = corpora.check("RAVDESS", beside("RAVDESS"))
    assert report.errors == () and len(report.usable) == 1440
    assert [(p.severity, p.kind, len(p.files)) for p in report.problems] == [
        ("warning", "duplicate", 2),
        ("note", "unverified", 1440),
        ("note", "channels", 5),
    ]
    assert {file.rpartition("/")[2][:20] for file in report.warnings[0].files} == {
        "03-01-03-01-02-01-07",
        "03-01-03-01-02-02-07",
    }
    assert report.clips["peak_dbfs"].min() == pytest.approx(
        20 * math.log10(0.0061), abs=0.1
    )


@pytest.mark.slow
def test_the_whole_of_emovo_has_no_error():
    report = corpora.check("EMOVO", beside("EMOVO"))
    assert len(report.usable) == 588
    assert [(p.severity, p.kind, len(p.files)) for p in report.problems] == [
        ("warning", "rate", 588)
    ]
    assert "22,050 Hz mono" in report.problems[0].message
    assert "48,000 Hz stereo" in report.problems[0].message


def test_original_files_are_verified_to_the_bit(tmp_path):
    folder = tmp_path / "RAVDESS"
    shutil.copytree(beside("RAVDESS_original_wav"), folder)
    file = "Actor_01/03-01-05-01-01-01-01.wav"
    report = corpora.check("RAVDESS", folder)
    assert report.clips["original"].tolist() == [True] * 6
    assert [(p.kind, len(p.files)) for p in report.problems] == [
        ("missing", 1434),
        ("channels", 2),
    ]
    content = (folder / file).read_bytes()
    # The audio begins behind 12 + 24 + 4052 + 8 bytes of headers.
    for position in (4096 + 100_001, len(content) - 5):
        changed = bytearray(content)
        changed[position] ^= 0x10
        (folder / file).chmod(0o644)
        (folder / file).write_bytes(changed)
        report = corpora.check("RAVDESS", folder)
        assert [(p.kind, p.files) for p in report.warnings] == [("altered", (file,))]
        assert len(report.usable) == 6
