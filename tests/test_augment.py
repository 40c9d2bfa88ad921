"""Altered clips are altered as they say, kept by content, and train alone."""

import dataclasses
import shutil

import numpy as np
import pytest
import soundfile
from conftest import small_plan, small_run

from lib import augment, config, corpora, features, models, test, train
from lib.device import select
from lib.train import Augmentation, predict_utterances

RATE = 16_000
TONE = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)


@pytest.fixture
def clips():
    return (rng(3).normal(size=(40, 30, 8)) * 5 - 20).astype(np.float32)


def rng(seed=0):
    return np.random.default_rng(seed)


# --- waveforms ------------------------------------------------------------------------


@pytest.mark.parametrize("decibel", [0.0, 30.0])
def test_noise_is_white_and_has_the_power_it_says_in_each_channel(decibel):
    stereo = np.stack([TONE, 0.1 * TONE])
    noise = augment.white_noise(stereo, rng(), decibel) - stereo
    ratio = 10 * np.log10((stereo**2).mean(axis=1) / (noise**2).mean(axis=1))
    # The power of 16,000 draws is known to 1.1 %, 0.05 dB.
    np.testing.assert_allclose(ratio, decibel, atol=0.2)
    assert abs(np.corrcoef(noise)[0, 1]) < 0.05
    power = np.abs(np.fft.rfft(noise[0])) ** 2
    assert power[:4000].sum() / power.sum() == pytest.approx(0.5, abs=0.03)


def test_a_shift_moves_by_a_published_share_and_lets_silence_in():
    ramp = np.arange(1, 101, dtype=np.float32)
    seen = set()
    for seed in range(60):
        moved = augment.time_shift(ramp[np.newaxis], rng(seed))[0]
        silent = int((moved == 0).sum())
        later = moved[0] == 0
        kept = moved[silent:] if later else moved[:-silent]
        np.testing.assert_array_equal(kept, ramp[:-silent] if later else ramp[silent:])
        seen.add(silent if later else -silent)
    assert seen == {sign * share for sign in (-1, 1) for share in (5, 10, 15, 20, 30)}
    # What is too short to be moved by a share stays.
    assert augment.time_shift(ramp[:2], rng()).tolist() == [1, 2]


@pytest.mark.parametrize("rate", augment.SPEEDS)
def test_stretching_changes_the_length_and_not_the_pitch(rate):
    made = augment.time_stretch(TONE, rng(), [rate])
    assert len(made) == pytest.approx(RATE / rate, rel=0.01)
    middle = made[len(made) // 4 : 3 * len(made) // 4]
    peak = np.abs(np.fft.rfft(middle * np.hanning(len(middle)))).argmax()
    assert peak * RATE / len(middle) == pytest.approx(440, abs=5)


@pytest.mark.parametrize("name", augment.WAVEFORM)
def test_every_alteration_keeps_the_channels_and_leaves_the_audio(name):
    stereo = np.stack([TONE, TONE[::-1]])
    before = stereo.copy()
    made = augment.WAVEFORM[name](stereo, rng(1))
    np.testing.assert_array_equal(stereo, before)
    assert made.dtype == np.float32 and made.shape[0] == 2


# --- cepstra --------------------------------------------------------------------------


@pytest.mark.parametrize("name", augment.CEPSTRUM)
def test_every_transform_keeps_the_shape_and_changes_its_share(clips, name):
    before = clips.copy()
    made = augment.augment_cepstra(clips, rng(), [name], 0.5)
    np.testing.assert_array_equal(clips, before)
    assert made.shape == clips.shape and made.dtype == np.float32
    assert np.isfinite(made).all()
    touched = (made != clips).any(axis=(1, 2)).mean()
    assert 0.2 < touched <= 0.75
    again, other = (augment.augment_cepstra(clips, rng(of), [name]) for of in (0, 1))
    np.testing.assert_array_equal(made, again)
    assert (made != other).any()


def test_a_shift_of_cepstra_repeats_the_edge(clips):
    made = augment.cepstrum_shift(clips, rng(), 2)
    frames = np.arange(30)
    possible = [clips[:, np.clip(frames - by, 0, 29)] for by in range(-2, 3)]
    matches = np.array([(made == one).all(axis=(1, 2)) for one in possible])
    assert matches.any(axis=0).all() and matches.any(axis=1).all()


@pytest.mark.parametrize(("name", "axis"), [("frame_mask", 0), ("coefficient_mask", 1)])
def test_a_mask_takes_two_neighbours_and_leaves_the_rest(clips, name, axis):
    made = augment.CEPSTRUM[name](clips, rng())
    for clip, masked in zip(clips, made, strict=True):
        changed = np.flatnonzero((clip != masked).all(axis=1 - axis))
        assert len(changed) == 2 and changed[1] == changed[0] + 1
        expected = np.broadcast_to(clip.mean(axis=0), clip.shape).copy()
        rest = np.delete(np.arange(clip.shape[axis]), changed)
        np.moveaxis(expected, axis, 0)[rest] = np.moveaxis(clip, axis, 0)[rest]
        np.testing.assert_array_equal(masked, expected)


def test_a_crop_and_a_stretch_of_a_straight_line_are_lines_of_another_slope():
    line = np.broadcast_to(np.arange(50.0)[None, :, None], (99, 50, 2)).astype("f")
    made = augment.crop(line, rng(), 0.8)
    np.testing.assert_allclose(np.diff(made, axis=1), 0.8, atol=1e-4)
    starts = made[:, 0, 0]
    assert starts.min() >= 0 and made.max() <= 49 and np.ptp(starts) > 5
    steps = np.diff(augment.stretch(line, rng()), axis=1)[:, :40]
    np.testing.assert_allclose(steps, steps[:, :1].repeat(40, axis=1), atol=1e-4)
    assert 0.9 <= steps.min() < 0.95 and 1.05 < steps.max() <= 1.1 + 1e-5


def test_cepstral_noise_is_relative_to_each_coefficient():
    x = rng(1).normal(size=(2, 20_000, 2)).astype(np.float32)
    x = x * np.float32([100, 1]) - np.float32([500, 0])
    noise = (augment.cepstrum_noise(x, rng(), 0.01) - x).std(axis=1)
    np.testing.assert_allclose(noise, [[1.0, 0.01]] * 2, rtol=0.05)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"transforms": ["nois"]}, r"transforms is \['nois'\]; give a list of noise"),
        ({"transforms": []}, r"transforms is \[\]; give a list of noise"),
        ({"transforms": "noise"}, "transforms is 'noise'; give a list of noise"),
        ({"probability": 2}, "probability is 2; give 0 to 1"),
    ],
)
def test_a_bad_option_is_named(clips, chosen, message):
    with pytest.raises(ValueError, match=message):
        augment.augment_cepstra(clips, rng(), **chosen)


# --- copies of a corpus ---------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """DEMO, the features of twelve of its clips, and the folder of both."""
    folder = tmp_path_factory.mktemp("demo")
    corpora.demo.generate(folder / "DEMO", verbose=0)
    corpus = corpora.get("DEMO")
    found = corpora.scan(corpus, folder / "DEMO")[::24]
    return corpus, features.prepare(corpus, found, folder, verbose=0).features, folder


@pytest.fixture
def two(demo, tmp_path):
    """The same of two clips, with audio of their own."""
    corpus, _, folder = demo
    for clip in corpora.scan(corpus, folder / "DEMO")[72:97:24]:
        target = tmp_path / "DEMO" / clip.file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip.path, target)
    return of_two(tmp_path)


def of_two(folder):
    corpus = corpora.get("DEMO")
    found = corpora.scan(corpus, folder / "DEMO")
    return corpus, features.prepare(corpus, found, folder, verbose=0).features, folder


def copies(setting, *transforms, **given):
    corpus, data, folder = setting
    own = {"workspace": str(folder), "datasets_dir": str(folder), "verbose": 0}
    params = config.validated(own | {"corpus": "DEMO"} | given)
    chosen = transforms or tuple(augment.WAVEFORM)
    return augment.augmented_copies(params, corpus, data, chosen)


def test_copies_are_altered_audio_behind_the_same_front_end(demo):
    corpus, data, folder = demo
    made = copies(demo, "noise", "shift", "stretch", "reversal")
    assert made.shape == (12, 4, *data.x.shape[1:]) and np.isfinite(made).all()
    changed = np.abs(made - data.x[:, None]).max(axis=(2, 3)) > 1
    assert (changed.mean(axis=0) > 0.9).all()
    settings = features.front_end("timnet")
    length = features.clip_length(settings, corpus)
    for row, file in enumerate(data.file):
        samples = features.load_audio(folder / "DEMO" / file, settings)
        expected = features.features_of(samples[:, ::-1], settings, length)
        np.testing.assert_allclose(made[row, 3], expected, atol=1e-3)


def test_a_copy_depends_on_its_file_and_the_seed_alone(demo, two):
    np.testing.assert_array_equal(copies(demo)[3:5], copies(two))
    assert (copies(demo, seed=10)[:, 0] != copies(demo)[:, 0]).any()
    _, data, folder = two
    shutil.copy(*(folder / "DEMO" / file for file in data.file))
    made = copies(of_two(folder), "noise", "reversal")
    np.testing.assert_array_equal(made[0, 1], made[1, 1])
    assert (made[0, 0] != made[1, 0]).any()


def test_copies_are_kept_and_a_damaged_file_is_made_again(two):
    _, _, folder = two
    first = copies(two)
    (kept,) = (folder / "MFCC").glob("DEMO-timnet-augmented-*.npz")
    stamp, whole = kept.stat().st_mtime_ns, kept.read_bytes()
    copies(two)
    assert kept.stat().st_mtime_ns == stamp
    for broken in (whole[:1000], whole.replace(first.tobytes(), first[::-1].tobytes())):
        assert broken != whole
        kept.write_bytes(broken)
        np.testing.assert_array_equal(copies(two), first)
        assert kept.read_bytes() == whole
    kept.with_suffix(".json").write_text("[]")
    np.testing.assert_array_equal(copies(two), first)


def test_copies_of_other_audio_are_not_taken(two):
    _, data, folder = two
    first = copies(two, "noise")
    path = folder / "DEMO" / data.file[1]
    samples, rate = soundfile.read(path)
    soundfile.write(path, samples[::-1], rate)
    changed = (copies(of_two(folder), "noise") != first).any(axis=(1, 2, 3))
    assert changed.tolist() == [False, True]
    # Where there is no audio, what is kept is taken, unless it is of other audio.
    shutil.rmtree(folder / "DEMO")
    np.testing.assert_array_equal(copies(two, "noise"), first)
    about = {**data.about, "data_sha256": "another"}
    with pytest.raises(FileNotFoundError, match="2 of 2"):
        copies((two[0], dataclasses.replace(data, about=about), folder), "noise")
    with pytest.raises(FileNotFoundError, match="2 of 2.*datasets_dir.*'cepstrum'"):
        copies(two, seed=77)


def test_what_cannot_be_altered_is_named(two):
    _, data, folder = two
    path = folder / "DEMO" / data.file[1]
    path.write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=f"copies of {data.file[1]}: not readable"):
        copies(two)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"1 of 2 files.*{data.file[1]}"):
        copies(two)
    with pytest.raises(ValueError, match="'window': 'hamming'.* do not go with 'timn"):
        copies(two, feature_options={"window": "hamming"})
    with pytest.raises(ValueError, match=r"transforms is \('crop',\); give .*noise"):
        copies(two, "crop")


def test_copies_of_utterances_in_pieces_are_pieces(demo):
    corpus, _, folder = demo
    found = corpora.scan(corpus, folder / "DEMO")[:3]
    given = "lightsernet", {"pieces": "all", "clip_seconds": 0.5}
    data = features.prepare(corpus, found, folder, *given, verbose=0).features
    # Neither reversal nor a shift changes the length: as many pieces, twice.
    asked = {"features": given[0], "feature_options": given[1]}
    made = copies((corpus, data, folder), "reversal", "shift", **asked)
    _, owner = features.pieces(data.x)
    _, of = features.pieces(made)
    np.testing.assert_array_equal(np.bincount(of), 2 * np.bincount(owner))


# --- training -------------------------------------------------------------------------


def test_copies_of_the_training_rows_train_and_no_others(tmp_path, tiny, monkeypatch):
    fit, seen = models.fit, []

    def watched(system, clips, y, *rest, **options):
        seen.append((clips, y))
        return fit(system, clips, y, *rest, **options)

    monkeypatch.setattr(models, "fit", watched)
    plan, params = small_plan(tmp_path, tiny, model="logistic")
    made = tiny.x[:, None] + np.float32([100, 200]).reshape(1, 2, 1, 1)
    chosen = {"device": select("cpu"), "augmentation": Augmentation(made)}
    train.train(plan.settings, tiny, plan.folds, params.folders, verbose=0, **chosen)
    assert len(seen) == len(plan.folds) == 3
    for fold, (clips, y) in zip(plan.folds, seen, strict=True):
        own = tiny.x[fold.train]
        expected = np.concatenate([own, *made[fold.train]])
        np.testing.assert_array_equal(clips, expected)
        assert y.tolist() == [*tiny.y[fold.train], *np.repeat(tiny.y[fold.train], 2)]


def test_pieces_of_an_utterance_answer_together():
    x = np.full((3, 3, 2, 1), np.nan, np.float32)
    for row, count in enumerate((2, 1, 3)):
        x[row, :count] = np.arange(count).reshape(-1, 1, 1) + 10 * row
    answers = predict_utterances(lambda c: (c[:, 0], c[:, 1] + 1), x)
    assert answers[0].ravel().tolist() == [0.5, 10.0, 21.0]
    assert answers[1].ravel().tolist() == [1.5, 11.0, 22.0]


@pytest.mark.parametrize("kind", ["waveform", "cepstrum"])
def test_a_run_trains_with_augmentation(tmp_path, tiny, kind, monkeypatch):
    def made(params, corpus, data, transforms):
        return np.repeat(data.x[:, None] + 0.1, len(transforms), axis=1)

    monkeypatch.setattr(augment, "augmented_copies", made)
    small_run(tmp_path, tiny, epochs=1, augmentation=kind)
    # Another augmentation is another run.
    plans = [small_plan(tmp_path, tiny, augmentation=one)[0] for one in (kind, "none")]
    assert plans[0].settings["augmentation_options"]["transforms"]
    assert len({config.make_run_id(plan.settings) for plan in plans}) == 2


def test_pieces_train_and_test_by_utterance(tmp_path, tiny):
    pieces = np.stack([tiny.x[:, :10], tiny.x[:, 10:]], axis=1)
    pieces[::3, 1] = np.nan
    about = tiny.about | {"x_sha256": features.array_hash(pieces)}
    data = dataclasses.replace(tiny, x=pieces, about=about)
    folders = small_run(tmp_path, data, model="svm")
    assert len(folders.predictions.read_text().splitlines()) == 1 + 48
    again, _ = test.retest(folders, data, verbose=0)
    assert len(again) == 48
