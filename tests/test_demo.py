"""The DEMO corpus: reproducible, whole, speech-like, learnable but not trivial."""

import wave

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile
from scipy import signal
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lib import corpora
from lib.corpora import demo

RATE = 16_000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return demo.generate(tmp_path_factory.mktemp("corpus") / "DEMO", verbose=0)


@pytest.fixture(scope="module")
def clips(corpus):
    """Return a row per clip: what it is, and its samples by an independent library."""
    found, _ = corpora.find(corpora.get("DEMO"), corpus)
    table = pd.DataFrame(
        [[c.speaker, c.label, c.text, c.sex, soundfile.read(c.path)[0]] for c in found],
        columns=["speaker", "emotion", "text", "sex", "samples"],
    )
    table["seconds"] = table["samples"].map(len) / RATE
    table["level"] = table["samples"].map(lambda x: 20 * np.log10(x.std()))
    return table


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def pitch(samples):
    """Return the pitch in octaves of the voiced frames, by probabilistic YIN."""
    options = {"frame_length": 1024, "hop_length": 320, "resolution": 0.25}
    found, voiced, _ = librosa.pyin(samples, fmin=60, fmax=600, sr=RATE, **options)
    return np.log2(found[voiced])


def test_the_doctor_finds_every_clip_once_and_nothing_else(corpus, clips):
    report = corpora.check("DEMO", corpus)
    assert report.problems == () and len(report.usable) == 8 * 6 * 6
    assert set(clips.value_counts(["speaker", "emotion", "text"])) == {1}
    assert tuple(demo.EMOTIONS) == corpora.get("DEMO").labels
    assert tuple(demo.SPEAKERS) == corpora.get("DEMO").speakers
    assert corpora.get("DEMO").synthetic


def test_files_are_16_bit_mono_and_equal_the_function(corpus):
    for name in ("f1_angry_t1", "m4_sad_t6"):
        with wave.open(str(corpus / name[:2] / f"{name}.wav")) as file:
            assert file.getparams()[:3] == (1, 2, RATE)
            codes = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        samples, rate = demo.utterance(*name.split("_"))
        assert rate == RATE and samples.dtype == np.float32
        np.testing.assert_array_equal(samples, codes / np.float32(32768))


def test_what_is_unknown_is_refused(tmp_path):
    for wrong in [("x1", "sad", "t1"), ("f1", "Sad", "t1"), ("f1", "sad", "t7")]:
        with pytest.raises(ValueError, match="is not one of"):
            demo.utterance(*wrong)
    with pytest.raises(ValueError, match="seed -1"):
        demo.generate(tmp_path, seed=-1, verbose=0)
    assert not list(tmp_path.iterdir())


# Bookkeeping, with nine clips.


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(demo, "CLIPS", demo.CLIPS[:9])


def test_the_same_seed_gives_the_same_bytes(corpus, tmp_path, few):
    clips = contents(demo.generate(tmp_path, verbose=0))
    whole = contents(corpus)
    assert len(clips) == 9 + 1
    del clips[demo.MANIFEST]
    assert all(clips[file] == whole[file] for file in clips)


@pytest.mark.parametrize(
    "harm",
    [
        None,
        lambda clip, manifest: clip.unlink(),
        lambda clip, manifest: clip.write_bytes(clip.read_bytes()[:999]),
        lambda clip, manifest: clip.write_bytes(
            clip.with_name("f1_angry_t1.wav").read_bytes()
        ),
        lambda clip, manifest: manifest.unlink(),
        lambda clip, manifest: manifest.write_text("{"),
    ],
)
def test_a_whole_corpus_is_left_alone_and_a_harmed_one_mended(tmp_path, few, harm):
    demo.generate(tmp_path, verbose=0)
    whole, clip = contents(tmp_path), tmp_path / "f1" / "f1_angry_t2.wav"
    before = clip.stat().st_mtime_ns
    if harm:
        harm(clip, tmp_path / demo.MANIFEST)
    demo.generate(tmp_path, verbose=0)
    assert contents(tmp_path) == whole
    assert (clip.stat().st_mtime_ns > before) == (harm is not None)


def test_another_seed_or_version_replaces_the_clips(tmp_path, few, monkeypatch):
    first = contents(demo.generate(tmp_path, seed=0, verbose=0))
    second = contents(demo.generate(tmp_path, seed=1, verbose=0))
    assert first.keys() == second.keys()
    assert all(first[file] != second[file] for file in first)
    assert contents(demo.generate(tmp_path, seed=0, verbose=0)) == first
    monkeypatch.setattr(demo, "VERSION", demo.VERSION + 1)
    clip = tmp_path / "f1" / "f1_angry_t2.wav"
    before = clip.stat().st_mtime_ns
    demo.generate(tmp_path, seed=0, verbose=0)
    assert clip.stat().st_mtime_ns > before


@pytest.mark.filterwarnings("ignore:.*have been cancelled")
def test_a_cut_generation_has_no_manifest_and_is_completed(tmp_path, few, monkeypatch):
    make, written = demo.atomic_path, []

    def cut(target):
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(target)
        return make(target)

    monkeypatch.setattr(demo, "atomic_path", cut)
    with pytest.raises(KeyboardInterrupt):
        demo.generate(tmp_path / "cut", verbose=0)
    assert len(contents(tmp_path / "cut")) == 4
    monkeypatch.setattr(demo, "atomic_path", make)
    completed = contents(demo.generate(tmp_path / "cut", verbose=0))
    assert completed == contents(demo.generate(tmp_path / "fresh", verbose=0))


def test_other_files_stay(tmp_path, few):
    (tmp_path / "f1").mkdir()
    mine = ["notes.txt", "f1/mine.wav"]
    for name in mine:
        (tmp_path / name).write_bytes(b"mine")
    found = contents(demo.generate(tmp_path, verbose=0))
    assert [found[name] for name in mine] == [b"mine"] * 2


# The sound.


def test_clips_are_speech_of_a_usable_length_and_level(clips):
    shortest, longest = corpora.get("DEMO").seconds
    assert clips["seconds"].between(shortest, longest).all()
    covered = corpora.get("DEMO").clip_samples / 22_050
    assert (clips["seconds"] <= covered).mean() > 0.85
    for samples in clips["samples"]:
        assert 0.01 < np.abs(samples).max() < 0.95
        assert abs(samples.mean()) < 0.05 * samples.std()
        edges = np.concatenate([samples[:1000], samples[-400:]])
        assert edges.std() < 0.2 * samples.std()


def test_pitch_tells_sexes_speakers_and_emotions(clips):
    some = clips[clips["text"] == "t1"].copy()
    tracks = some["samples"].map(pitch)
    some["median"], some["spread"] = tracks.map(np.median), tracks.map(np.std)
    some["end"] = tracks.map(lambda track: track[-5:].mean() - np.median(track))
    speakers = some.groupby(["sex", "speaker"])["median"].mean()
    assert speakers["female"].min() > speakers["male"].max() + 0.2
    for row in some[some["emotion"] == "neutral"].itertuples():
        asked = np.log2(demo.SPEAKERS[row.speaker].pitch)
        assert abs(row.median - asked) < 3 / 12  # octaves
    found = some.groupby("emotion")[["median", "spread", "end"]].mean()
    level, spread = found["median"], found["spread"]
    assert level["sad"] < level["neutral"] < level["angry"]
    assert level["neutral"] + 1 / 6 < level[["fear", "happy", "surprise"]].min()
    assert spread["sad"] < spread["neutral"]
    assert spread["neutral"] < spread[["angry", "happy", "surprise"]].min()
    assert spread["fear"] < spread["happy"] and found["end"].idxmax() == "surprise"


def test_intensity_rate_and_brightness_tell_emotions(clips):
    def above_1_khz(samples):
        frequency, power = signal.welch(samples, RATE, nperseg=1024)
        return 10 * np.log10(power[frequency > 1000].sum() / power.sum())

    clips = clips.assign(bright=clips["samples"].map(above_1_khz))
    found = clips.groupby("emotion")[["level", "seconds", "bright"]].mean()
    level, seconds, bright = found["level"], found["seconds"], found["bright"]
    assert level["angry"] > level["happy"] > level["neutral"] > level["sad"] + 3
    assert seconds["fear"] < seconds["neutral"] < seconds["sad"]
    assert seconds[["angry", "happy"]].max() < seconds["neutral"]
    assert bright["angry"] > bright["happy"] > bright["neutral"] > bright["sad"]


def test_learnable_on_new_speakers_and_easier_on_known_ones(clips):
    rows = []
    for samples in clips["samples"]:
        at_22050 = librosa.resample(samples, orig_sr=RATE, target_sr=22_050)
        mfcc = librosa.feature.mfcc(y=at_22050, sr=22_050, n_mfcc=39)
        rows.append(np.concatenate([mfcc.mean(axis=1), mfcc.std(axis=1)]))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    truth = clips["emotion"]

    def recall(folds, groups=None):
        guessed = cross_val_predict(
            model, np.array(rows), truth, groups=groups, cv=folds
        )
        return balanced_accuracy_score(truth, guessed)

    new_speakers = recall(GroupKFold(4), clips["speaker"])
    known_speakers = recall(StratifiedKFold(4, shuffle=True, random_state=0))
    assert 0.45 < new_speakers < 0.8
    assert new_speakers + 0.05 < known_speakers < 0.95
