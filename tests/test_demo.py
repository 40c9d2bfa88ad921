"""The DEMO corpus: reproducible, whole, speech-like, learnable but not trivial."""

from __future__ import annotations

import collections
import os
import wave
from pathlib import Path, PurePosixPath

import librosa
import numpy as np
import pytest
import soundfile
from scipy import signal
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lib.corpora import demo
from lib.corpora.base import Mislabelled
from lib.corpora.synthesis import Voice, speak
from lib.corpora.vocal_tract import filter_blocks, tract_filter

EMOTIONS = ("angry", "fear", "happy", "neutral", "sad", "surprise")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo.generate(tmp_path_factory.mktemp("corpus") / "DEMO", verbose=0)


@pytest.fixture(scope="module")
def clips(corpus: Path) -> dict[str, np.ndarray]:
    """Return every clip by its official name, read by an independent library."""
    return {path.stem: soundfile.read(path)[0] for path in corpus.rglob("*.wav")}


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def statistics(clips: dict[str, np.ndarray], column: int, values) -> dict:
    """Average `values` of the clips over one part of their names."""
    groups = collections.defaultdict(list)
    for name, samples in clips.items():
        groups[name.split("_")[column]].append(values(samples))
    return {key: np.mean(group) for key, group in groups.items()}


def pitch(samples: np.ndarray) -> np.ndarray:
    """Return the pitch in Hz of the voiced frames, by probabilistic YIN."""
    found, voiced, _ = librosa.pyin(
        samples,
        fmin=60,
        fmax=600,
        sr=16_000,
        frame_length=1024,
        hop_length=320,
        resolution=0.25,
    )
    return found[voiced]


def test_every_clip_is_there_once_and_balanced(corpus: Path) -> None:
    files = [path.relative_to(corpus) for path in corpus.rglob("*.wav")]
    tags = [demo.parse(PurePosixPath(file)) for file in files]
    assert demo.CORPUS.labels == EMOTIONS == tuple(sorted(EMOTIONS))
    assert demo.CORPUS.synthetic and "synthetic" in demo.CORPUS.title
    assert len(files) == len({tag.key for tag in tags}) == 8 * 6 * 6
    counts = collections.Counter(tag.label for tag in tags)
    assert counts == demo.CORPUS.counts == dict.fromkeys(EMOTIONS, 48)
    cells = collections.Counter((tag.speaker, tag.label, tag.text) for tag in tags)
    assert set(cells.values()) == {1}
    sexes = {tag.speaker: tag.sex for tag in tags}
    assert sexes == demo.CORPUS.sexes
    assert collections.Counter(sexes.values()) == {"female": 4, "male": 4}


def test_names_round_trip(corpus: Path) -> None:
    for path in corpus.rglob("*.wav"):
        tags = demo.parse(PurePosixPath(path.relative_to(corpus)))
        name = f"{tags.speaker}_{tags.label}_{tags.text}"
        assert path == corpus / tags.speaker / f"{name}.wav"
        assert tags.key == name
        assert demo.parse(PurePosixPath(f"flat/{name}.flac")) == tags


@pytest.mark.parametrize(
    "name",
    ["f1_angry.wav", "f9_angry_t1.wav", "f1_bored_t1.wav", "f1_angry_t9.wav"]
    + ["f1_angry_t1_copy.wav", "f1-angry-t1.wav", ".wav", "f1_Angry_t1.wav"],
)
def test_foreign_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="f1_angry_t1"):
        demo.parse(PurePosixPath("f1") / name)


def test_another_speakers_folder_is_told() -> None:
    with pytest.raises(Mislabelled, match="m2.*f1"):
        demo.parse(PurePosixPath("m2/f1_angry_t1.wav"))


def test_files_are_16_bit_mono_and_equal_the_function(corpus: Path) -> None:
    for name in ("f1_angry_t1", "m4_sad_t6"):
        with wave.open(str(corpus / name[:2] / f"{name}.wav")) as file:
            assert file.getparams()[:3] == (1, 2, 16_000)
            codes = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        samples, rate = demo.utterance(*name.split("_"))
        assert rate == 16_000 and samples.dtype == np.float32
        np.testing.assert_array_equal(samples, codes / np.float32(32768))


def test_same_seed_same_bytes_in_any_order(corpus: Path, tmp_path: Path) -> None:
    again = demo.generate(tmp_path / "DEMO", seed=0, verbose=0)
    assert contents(again) == contents(corpus)


def test_another_seed_is_another_corpus() -> None:
    one, _ = demo.utterance("f1", "happy", "t1", seed=0)
    other, _ = demo.utterance("f1", "happy", "t1", seed=1)
    assert one.shape != other.shape or not np.allclose(one, other)


@pytest.mark.parametrize("wrong", [("x1", "sad", "t1"), ("f1", "Sad", "t1")])
def test_unknown_utterance_is_refused(wrong: tuple[str, str, str]) -> None:
    with pytest.raises(ValueError, match="is not one of"):
        demo.utterance(*wrong)


def test_negative_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="seed -1"):
        demo.generate(tmp_path, seed=-1, verbose=0)
    assert not list(tmp_path.iterdir())


def shorten(monkeypatch: pytest.MonkeyPatch, count: int = 9) -> None:
    """Make the corpus small, where only its bookkeeping is tested."""
    some = demo._clips()[:count]
    monkeypatch.setattr(demo, "_clips", lambda: some)


def test_whole_corpus_is_left_alone(tmp_path: Path, monkeypatch) -> None:
    shorten(monkeypatch)
    demo.generate(tmp_path, verbose=0)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    demo.generate(tmp_path, verbose=0)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("harm", ["delete", "cut", "foreign", "manifest", "garbage"])
def test_harmed_corpus_is_mended(tmp_path: Path, monkeypatch, harm: str) -> None:
    shorten(monkeypatch)
    demo.generate(tmp_path, verbose=0)
    whole = contents(tmp_path)
    victim = tmp_path / "f1" / "f1_angry_t2.wav"
    if harm == "delete":
        victim.unlink()
    elif harm == "cut":
        victim.write_bytes(victim.read_bytes()[:999])
    elif harm == "foreign":
        victim.write_bytes((tmp_path / "f1" / "f1_angry_t1.wav").read_bytes())
    elif harm == "manifest":
        (tmp_path / demo.MANIFEST).unlink()
    else:
        (tmp_path / demo.MANIFEST).write_text("{", encoding="utf-8")
    demo.generate(tmp_path, verbose=0)
    assert contents(tmp_path) == whole


def test_other_seed_or_version_replaces_the_clips(tmp_path, monkeypatch) -> None:
    shorten(monkeypatch)
    first = contents(demo.generate(tmp_path, seed=0, verbose=0))
    second = contents(demo.generate(tmp_path, seed=1, verbose=0))
    assert first.keys() == second.keys()
    assert all(first[file] != second[file] for file in first)
    assert contents(demo.generate(tmp_path, seed=0, verbose=0)) == first
    monkeypatch.setattr(demo, "VERSION", demo.VERSION + 1)
    victim = next(tmp_path.rglob("*.wav"))
    before = victim.stat().st_mtime_ns
    demo.generate(tmp_path, seed=0, verbose=0)
    assert victim.stat().st_mtime_ns > before


@pytest.mark.filterwarnings("ignore:.*have been cancelled")
def test_cut_generation_has_no_manifest_and_is_completed(
    tmp_path: Path, monkeypatch
) -> None:
    shorten(monkeypatch)
    write, written = demo._write, []

    def cut(target: Path, codes: np.ndarray) -> None:
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(target)
        write(target, codes)

    monkeypatch.setattr(demo, "_write", cut)
    with pytest.raises(KeyboardInterrupt):
        demo.generate(tmp_path / "cut", verbose=0)
    assert len(contents(tmp_path / "cut")) == 4
    assert not (tmp_path / "cut" / demo.MANIFEST).exists()
    monkeypatch.setattr(demo, "_write", write)
    completed = contents(demo.generate(tmp_path / "cut", verbose=0))
    assert completed == contents(demo.generate(tmp_path / "fresh", verbose=0))
    assert len(completed) == 9 + 1


def test_only_old_leftovers_are_removed(tmp_path: Path, monkeypatch) -> None:
    shorten(monkeypatch)
    (tmp_path / "f1").mkdir()
    for name in ("notes.txt", "f1/mine.wav", "f1/.partial-new.wav"):
        (tmp_path / name).write_bytes(b"mine")
    old = tmp_path / "f1" / ".partial-old.wav"
    old.write_bytes(b"half")
    os.utime(old, (1, 1))
    found = contents(demo.generate(tmp_path, verbose=0))
    assert found["notes.txt"] == found["f1/mine.wav"] == b"mine"
    assert "f1/.partial-new.wav" in found
    assert "f1/.partial-old.wav" not in found


def test_progress_is_a_bar_or_a_line_or_nothing(tmp_path, monkeypatch, capfd) -> None:
    shorten(monkeypatch, 2)
    demo.generate(tmp_path / "0", verbose=0)
    assert capfd.readouterr() == ("", "")
    demo.generate(tmp_path / "1", verbose=1)
    assert "2/2" in "".join(capfd.readouterr())
    demo.generate(tmp_path / "2", verbose=2)
    assert capfd.readouterr().out.count("\n") == 1


def test_durations(clips: dict[str, np.ndarray]) -> None:
    seconds = np.array([len(samples) / 16_000 for samples in clips.values()])
    assert 1.0 < seconds.min() and seconds.max() < 3.5
    covered = demo.CORPUS.clip_samples / 22_050
    assert np.mean(seconds <= covered) > 0.85
    shortest, longest = demo.CORPUS.seconds
    assert shortest < seconds.min() and seconds.max() < longest


def test_no_clip_is_clipped_silent_or_offset(clips: dict[str, np.ndarray]) -> None:
    for name, samples in clips.items():
        assert 0.01 < np.abs(samples).max() < 0.95, name
        assert samples.std() > 10 ** (-45 / 20), name
        assert abs(samples.mean()) < 0.05 * samples.std(), name
        edges = np.concatenate([samples[:1000], samples[-400:]])
        assert edges.std() < 0.2 * samples.std(), name


def test_speech_is_voiced_and_unvoiced_with_energy_below_4_khz(clips) -> None:
    for name in ("f1_neutral_t2", "m1_neutral_t2"):
        samples = clips[name]
        spectrum = np.abs(librosa.stft(samples, n_fft=512, hop_length=160)) ** 2
        # Bins of 31.25 Hz: the sentence starts with "sh" and "a".
        share = spectrum[64:].sum(0) / spectrum.sum(0)
        loud = spectrum.sum(0) > 1e-3 * spectrum.sum(0).max()
        assert share[loud].max() > 0.8, name
        assert np.median(share[loud]) < 0.2, name
        assert spectrum[128:].sum() < 0.2 * spectrum.sum(), name


def test_pitch_orders_sexes_speakers_and_emotions(clips) -> None:
    some = {name: samples for name, samples in clips.items() if name.endswith("t1")}
    tracks = {name: pitch(samples) for name, samples in some.items()}
    median = {name: np.log2(np.median(track)) for name, track in tracks.items()}
    by_speaker = statistics(median, 0, float)
    lowest_woman = min(by_speaker[f"f{i}"] for i in range(1, 5))
    assert lowest_woman > max(by_speaker[f"m{i}"] for i in range(1, 5)) + 0.2
    level = statistics(median, 1, float)
    assert level["sad"] < level["neutral"] < level["angry"]
    for high in ("fear", "happy", "surprise"):
        assert level["neutral"] + 1 / 6 < level[high]
    spread = statistics(tracks, 1, lambda track: np.log2(track).std())
    assert spread["sad"] < spread["neutral"]
    assert spread["neutral"] < min(spread[e] for e in ("angry", "happy", "surprise"))
    assert spread["fear"] < spread["happy"]
    end = statistics(tracks, 1, lambda f: np.log2(f[-5:].mean() / np.median(f)))
    assert max(end, key=end.get) == "surprise"


def test_neutral_pitch_is_the_speakers(clips) -> None:
    for speaker, who in demo.SPEAKERS.items():
        measured = [
            np.median(pitch(clips[f"{speaker}_neutral_{t}"])) for t in "t1 t4".split()
        ]
        assert abs(12 * np.log2(np.mean(measured) / who.pitch)) < 2.5, speaker


def test_intensity_rate_and_brightness_order_emotions(clips) -> None:
    level = statistics(clips, 1, lambda x: 20 * np.log10(x.std()))
    assert level["angry"] > level["happy"] > level["neutral"] > level["sad"] + 3
    seconds = statistics(clips, 1, len)
    assert seconds["fear"] < seconds["neutral"] < seconds["sad"]
    assert max(seconds["angry"], seconds["happy"]) < seconds["neutral"]

    def above_1_khz(samples: np.ndarray) -> float:
        frequency, power = signal.welch(samples, 16_000, nperseg=1024)
        return 10 * np.log10(power[frequency > 1000].sum() / power.sum())

    bright = statistics(clips, 1, above_1_khz)
    assert bright["angry"] > bright["happy"] > bright["neutral"] > bright["sad"]


def test_speakers_differ_in_loudness_and_room(clips) -> None:
    level = statistics(clips, 0, lambda x: 20 * np.log10(x.std()))
    assert max(level.values()) - min(level.values()) > 4
    room = statistics(clips, 0, lambda x: 20 * np.log10(x[:800].std()))
    for speaker, who in demo.SPEAKERS.items():
        assert abs(room[speaker] - who.noise) < 1.5, speaker


def test_formants_are_where_the_vowel_has_them() -> None:
    voice = Voice(pitch=100, accent=0, final=0, tilt=8000, breath=0, jitter=0)
    targets = {"a": (730, 1090), "i": (270, 2290), "e": (530, 1840)}
    for vowel, expected in targets.items():
        sound = speak(vowel * 6, voice, np.random.default_rng(0))
        middle = sound[3000:9000]
        frequency, power = signal.welch(middle, 16_000, nperseg=512)
        decibels = 10 * np.log10(power)
        for formant in expected:
            near = np.abs(frequency - formant) <= 100
            around = np.abs(np.abs(frequency - formant) - 320) <= 60
            assert decibels[near].max() > decibels[around].mean() + 3, (vowel, formant)


def test_jitter_is_the_spread_of_the_cycles() -> None:
    steady = Voice(pitch=100, accent=0, final=0, jitter=0, shimmer=0, breath=0)
    rough = Voice(pitch=100, accent=0, final=0, jitter=0.03, shimmer=0, breath=0)
    spread = []
    for voice in (steady, rough):
        sound = speak("aaaaaaaaaa", voice, np.random.default_rng(1))
        band = signal.butter(4, [60, 150], "band", fs=16_000, output="sos")
        low = signal.sosfiltfilt(band, sound)[2000:-2000]
        rises = np.flatnonzero((low[:-1] < 0) & (low[1:] >= 0))
        crossing = rises - low[rises] / (low[rises + 1] - low[rises])
        spread.append(np.std(np.diff(crossing)) / 160)
    assert spread[0] < 0.001
    # The narrow filter evens neighbouring cycles out a little.
    assert 0.01 < spread[1] < 0.04


def test_unknown_phone_is_named() -> None:
    with pytest.raises(ValueError, match="'x'"):
        speak("maxi", Voice(pitch=100), np.random.default_rng(0))
    with pytest.raises(ValueError, match="no vowel"):
        speak("m", Voice(pitch=100), np.random.default_rng(0))


def test_still_tract_equals_an_ordinary_filter() -> None:
    samples = np.random.default_rng(0).standard_normal(8000)
    formants = np.tile([500.0, 1500.0, 2500.0], (500, 1))
    numerator, denominator = tract_filter(formants, 1.0, 1000.0)
    assert np.allclose(denominator, denominator[0])
    expected = signal.lfilter(numerator[0], denominator[0], samples)
    result = filter_blocks(samples, numerator, denominator)
    # What is left differs by the ringing after 48 ms that the blocks cut off.
    assert np.abs(result - expected).max() < 2e-3 * np.abs(expected).max()


def test_learnable_on_new_speakers_and_easier_on_known_ones(clips) -> None:
    names = sorted(clips)
    rows = []
    for name in names:
        at_22050 = librosa.resample(clips[name], orig_sr=16_000, target_sr=22_050)
        mfcc = librosa.feature.mfcc(y=at_22050, sr=22_050, n_mfcc=39)
        rows.append(np.concatenate([mfcc.mean(axis=1), mfcc.std(axis=1)]))
    x = np.array(rows)
    speaker, y, _ = np.array([name.split("_") for name in names]).T
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))

    def recall(folds, groups=None) -> float:
        guessed = cross_val_predict(model, x, y, groups=groups, cv=folds)
        return balanced_accuracy_score(y, guessed)

    new_speakers = recall(GroupKFold(4), speaker)
    known_speakers = recall(StratifiedKFold(4, shuffle=True, random_state=0))
    assert 0.45 < new_speakers < 0.8
    assert new_speakers + 0.05 < known_speakers < 0.95
