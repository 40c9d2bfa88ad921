"""Altered clips are altered as they say, kept by content, and train alone."""

import dataclasses
import shutil

import conftest
import numpy as np
import pytest
import soundfile
from conftest import small_run

from lib import augment, corpora, features, files, models, test

RATE = 16_000
TONE = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)


def rng(seed=0):
    return np.random.default_rng(seed)


CLIPS = (rng(3).normal(size=(40, 30, 8)) * 5 - 20).astype(np.float32)


def test_noise_has_the_power_it_says_in_each_channel():
    stereo = np.stack([TONE, 0.1 * TONE])
    noise = augment.white_noise(stereo, rng()) - stereo
    ratio = 10 * np.log10((stereo**2).mean(axis=1) / (noise**2).mean(axis=1))
    # The power of 16,000 draws is known to 1.1 %, 0.05 dB.
    np.testing.assert_allclose(ratio, 10, atol=0.2)
    assert abs(np.corrcoef(noise)[0, 1]) < 0.05


def test_a_shift_moves_by_a_published_share_and_lets_silence_in():
    ramp = np.arange(1, 101, dtype=np.float32)
    seen = set()
    for seed in range(60):
        moved = augment.time_shift(ramp[np.newaxis], rng(seed))[0]
        silent, later = int((moved == 0).sum()), moved[0] == 0
        kept = moved[silent:] if later else moved[:-silent]
        np.testing.assert_array_equal(kept, ramp[:-silent] if later else ramp[silent:])
        seen.add(silent if later else -silent)
    assert seen == {sign * share for sign in (-1, 1) for share in (5, 10, 15, 20, 30)}


def test_stretching_changes_the_length_and_not_the_pitch():
    seen = set()
    for seed in range(12):
        made = augment.time_stretch(TONE, rng(seed))
        seen.add(round(RATE / len(made), 2))
        middle = made[len(made) // 4 : 3 * len(made) // 4]
        peak = np.abs(np.fft.rfft(middle * np.hanning(len(middle)))).argmax()
        assert peak * RATE / len(middle) == pytest.approx(440, abs=5)
    assert seen == {0.25, 0.5, 1.5, 2.0}


def test_every_transform_keeps_the_shape_and_changes_its_share():
    before = CLIPS.copy()
    for name in augment.CEPSTRUM:
        made, again = (augment.augment_cepstra(CLIPS, rng(), [name], 0.5) for _ in "ab")
        np.testing.assert_array_equal(CLIPS, before)
        np.testing.assert_array_equal(made, again)
        assert made.shape == CLIPS.shape and made.dtype == np.float32
        assert 0.2 < (made != CLIPS).any(axis=(1, 2)).mean() <= 0.75


def test_a_shift_of_cepstra_repeats_the_edge():
    made, frames = augment.cepstrum_shift(CLIPS, rng()), np.arange(30)
    possible = [CLIPS[:, np.clip(frames - by, 0, 29)] for by in range(-2, 3)]
    matches = np.array([(made == one).all(axis=(1, 2)) for one in possible])
    assert matches.any(axis=0).all() and matches.any(axis=1).all()


def test_a_mask_takes_two_neighbours_and_leaves_the_rest():
    for name, axis in (("frame_mask", 1), ("coefficient_mask", 2)):
        made = augment.CEPSTRUM[name](CLIPS, rng())
        changed = (made != CLIPS).all(axis=3 - axis)
        assert (changed.sum(axis=1) == 2).all()  # of 40 clips, each two together
        assert (changed[:, 1:] & changed[:, :-1]).any(axis=1).all()
        means = CLIPS.mean(axis=1, keepdims=True)
        expected = np.where(np.expand_dims(changed, 3 - axis), means, CLIPS)
        np.testing.assert_array_equal(made, expected)


def test_cepstral_noise_is_relative_to_each_coefficient():
    x = rng(1).normal(size=(2, 20_000, 2)).astype(np.float32)
    x = x * np.float32([100, 1]) - np.float32([500, 0])
    noise = (augment.cepstrum_noise(x, rng()) - x).std(axis=1)
    np.testing.assert_allclose(noise, [[0.5, 0.005]] * 2, rtol=0.05)


def parameters(folder, **given):
    return conftest.parameters(folder, datasets_dir=str(folder), **given)


@pytest.fixture
def two(tmp_path):
    """Two clips of noise under the names of DEMO's, and their features."""
    (tmp_path / "DEMO").mkdir()
    for take in (1, 2):
        noise = rng(take).normal(0, 0.1, 24_000)
        soundfile.write(tmp_path / "DEMO" / f"f1_angry_t{take}.wav", noise, RATE)
    return some_of(tmp_path)


def some_of(folder, rows=slice(None), **given):
    corpus = corpora.get("DEMO")
    clips = corpora.scan(corpus, folder / "DEMO")[rows]
    data, _ = features.prepare(parameters(folder, **given), corpus, clips)
    return corpus, data, folder


def copies(setting, *transforms, **given):
    corpus, data, folder = setting
    chosen = transforms or tuple(augment.WAVEFORM)
    return augment.augmented_copies(parameters(folder, **given), corpus, data, chosen)


def test_copies_are_altered_audio_behind_the_same_front_end(two):
    corpus, data, folder = two
    made = copies(two)
    assert made.shape == (2, 4, *data.x.shape[1:]) and made.dtype == np.float32
    assert (np.abs(made - data.x[:, None]).max(axis=(2, 3)) > 1).all()
    settings = features.front_end("timnet")
    length = features.clip_length(settings, corpus)
    samples = features.load_audio(folder / "DEMO" / data.file[0], settings)
    expected = features.features_of(samples[:, ::-1], settings, length)
    np.testing.assert_allclose(made[0, 3], expected, atol=1e-3)
    # A copy depends on its file and the seed alone.
    one = some_of(folder, slice(1, 2))
    np.testing.assert_array_equal(copies(one), made[1:])
    assert (copies(one, seed=10)[:, 0] != made[1:, 0]).any()
    # Copies of utterances in pieces are pieces.
    chosen = {"pieces": "all", "clip_seconds": 0.5}
    asked = {"features": "lightsernet", "feature_options": chosen}
    setting = some_of(folder, **asked)
    # Neither reversal nor a shift changes the length: as many pieces, twice.
    made = copies(setting, "reversal", "shift", **asked)
    _, owner = files.pieces(setting[1].x)
    _, of = files.pieces(made)
    np.testing.assert_array_equal(np.bincount(of), 2 * np.bincount(owner))


def test_copies_are_kept_and_those_of_other_audio_are_not_taken(two):
    _, data, folder = two
    first = copies(two, "noise")
    (kept,) = (folder / "MFCC").glob("DEMO-timnet-augmented-*.npz")
    stamp = kept.stat().st_mtime_ns
    copies(two, "noise")
    assert kept.stat().st_mtime_ns == stamp
    path = folder / "DEMO" / data.file[1]
    samples, rate = soundfile.read(path)
    soundfile.write(path, samples[::-1], rate)
    changed = (copies(some_of(folder), "noise") != first).any(axis=(1, 2, 3))
    assert changed.tolist() == [False, True]
    # Where there is no audio, what is kept is taken, unless it is of other audio.
    shutil.rmtree(folder / "DEMO")
    np.testing.assert_array_equal(copies(two, "noise"), first)
    about = {**data.about, "data_sha256": "another"}
    with pytest.raises(FileNotFoundError, match="2 of 2.*datasets_dir.*'cepstrum'"):
        copies((two[0], dataclasses.replace(data, about=about), folder), "noise")


def test_pieces_of_an_utterance_train_and_answer_together(tmp_path, tiny):
    pieces = np.stack([tiny.x[:, :10], tiny.x[:, 10:]], axis=1)
    pieces[::3, 1] = np.nan
    clips, owner = files.pieces(pieces)
    answers = models.mean_over_pieces(clips[:, 0], owner)
    np.testing.assert_allclose(answers, np.nanmean(pieces[:, :, 0], axis=1), rtol=1e-5)
    about = tiny.about | {"x_sha256": files.array_hash(pieces)}
    data = dataclasses.replace(tiny, x=pieces, about=about)
    folders = small_run(tmp_path, data, model="cnn", epochs=1)
    assert len(folders.predictions.read_text().splitlines()) == 1 + 48
    again, _ = test.retest(folders, data, verbose=0)
    assert len(again) == 48
