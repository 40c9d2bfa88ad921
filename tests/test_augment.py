"""Altered copies are altered as they say, and train alone."""

import dataclasses
import shutil

import numpy as np
import pytest
import soundfile
from conftest import tiny_features

from lib import augment, config, corpora, features, training
from lib.features import store
from lib.training.clips import Augmentation, predict_utterances

RATE = 16_000


@pytest.fixture
def tone():
    return np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)


@pytest.fixture
def clips():
    rng = np.random.default_rng(3)
    return (rng.normal(size=(40, 30, 8)) * 5 - 20).astype(np.float32)


def rng(seed=0):
    return np.random.default_rng(seed)


# --- waveforms ------------------------------------------------------------------------


@pytest.mark.parametrize("decibel", [0.0, 10.0, 30.0])
def test_noise_has_the_power_it_says_in_each_channel(tone, decibel):
    stereo = np.stack([tone, 0.1 * tone])
    noise = augment.white_noise(stereo, rng(), decibel) - stereo
    ratio = 10 * np.log10((stereo**2).mean(axis=1) / (noise**2).mean(axis=1))
    np.testing.assert_allclose(ratio, decibel, atol=0.2)
    assert abs(np.corrcoef(noise)[0, 1]) < 0.05
    # White: each half of the spectrum has half of the power.
    spectrum = np.abs(np.fft.rfft(noise[0])) ** 2
    assert spectrum[: len(spectrum) // 2].sum() / spectrum.sum() == pytest.approx(
        0.5, abs=0.03
    )


def test_a_shift_moves_by_a_published_share_and_lets_silence_in():
    ramp = np.arange(1, 101, dtype=np.float32)
    seen = set()
    for seed in range(60):
        moved = augment.time_shift(ramp, rng(seed))
        silent = int((moved == 0).sum())
        later = moved[0] == 0
        kept = moved[silent:] if later else moved[:-silent]
        np.testing.assert_array_equal(kept, ramp[:-silent] if later else ramp[silent:])
        seen.add(silent if later else -silent)
    assert seen == {sign * share for sign in (-1, 1) for share in (5, 10, 15, 20, 30)}


def test_stretching_changes_the_length_and_not_the_pitch(tone):
    for rate in augment.SPEEDS:
        made = augment.time_stretch(tone, rng(), [rate])
        assert len(made) == pytest.approx(RATE / rate, rel=0.01)
        middle = made[len(made) // 4 : 3 * len(made) // 4]
        peak = np.abs(np.fft.rfft(middle * np.hanning(len(middle)))).argmax()
        assert peak * RATE / len(middle) == pytest.approx(440, abs=5)


def test_reversal_twice_is_the_signal(tone):
    np.testing.assert_array_equal(augment.reverse(augment.reverse(tone)), tone)
    np.testing.assert_array_equal(augment.reverse(tone), tone[::-1])


# --- cepstra --------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(augment.CEPSTRUM))
def test_every_transform_keeps_the_shape_and_changes_what_it_touches(clips, name):
    before = clips.copy()
    made = augment.augment_cepstra(clips, rng(), [name], 0.5)
    np.testing.assert_array_equal(clips, before)
    assert made.shape == clips.shape and made.dtype == np.float32
    assert np.isfinite(made).all()
    touched = (made != clips).any(axis=(1, 2)).mean()
    assert 0.2 < touched <= 0.75


def test_the_same_generator_gives_the_same_clips(clips):
    one, two = (augment.augment_cepstra(clips, rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert (augment.augment_cepstra(clips, rng(6)) != one).any()


def test_a_shift_of_cepstra_repeats_the_edge(clips):
    made = augment.cepstrum_shift(clips, rng(), 2)
    for clip, moved in zip(clips, made, strict=True):
        wanted = []
        for by in range(-2, 3):
            frames = [clip[min(max(t - by, 0), 29)] for t in range(30)]
            wanted.append(np.array_equal(moved, frames))
        assert any(wanted)


@pytest.mark.parametrize(
    ("mask", "axis"), [(augment.frame_mask, 0), (augment.coefficient_mask, 1)]
)
def test_a_mask_takes_two_neighbours_and_leaves_the_rest(clips, mask, axis):
    made = mask(clips, rng(), 2)
    for clip, masked in zip(clips, made, strict=True):
        changed = np.flatnonzero((clip != masked).all(axis=1 - axis))
        assert len(changed) == 2 and changed[1] == changed[0] + 1
        np.testing.assert_array_equal(
            np.delete(clip, changed, axis), np.delete(masked, changed, axis)
        )


def test_a_crop_of_a_straight_line_is_a_flatter_line():
    line = np.broadcast_to(np.arange(50.0)[None, :, None], (3, 50, 2)).astype("f")
    made = augment.crop(line, rng(), 0.8)
    np.testing.assert_allclose(np.diff(made, axis=1), 0.8, atol=1e-4)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"transforms": ["nois"]}, "there is no transform 'nois'; there are: noise"),
        ({"transforms": []}, r"transforms is \[\]; give a list of noise"),
        ({"probability": 2}, "probability is 2; give 0 to 1"),
    ],
)
def test_a_bad_option_is_named(clips, chosen, message):
    with pytest.raises(ValueError, match=message):
        augment.augment_cepstra(clips, rng(), **chosen)


def test_cepstral_noise_is_relative_to_each_coefficient_or_absolute():
    x = rng(1).normal(size=(2, 20_000, 2)).astype(np.float32)
    x = x * np.float32([100, 1]) - np.float32([500, 0])
    relative = (augment.cepstrum_noise(x, rng(), 0.01) - x).std(axis=1)
    np.testing.assert_allclose(relative, [[1.0, 0.01]] * 2, rtol=0.05)
    absolute = (augment.cepstrum_noise(x, rng(), 0.01, relative=False) - x).std(axis=1)
    np.testing.assert_allclose(absolute, 0.01, rtol=0.05)


# --- copies of a corpus ---------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Return DEMO, its features in a folder, and that folder."""
    folder = tmp_path_factory.mktemp("demo")
    corpora.demo.generate(folder / "DEMO", verbose=0)
    corpus = corpora.get("DEMO")
    found = corpora.scan(corpus, folder / "DEMO")[::24]
    made = features.prepare(corpus, found, folder, verbose=0)
    return corpus, made.features, folder


def audio_of(data, folder):
    """Return where the files of DEMO lie; nothing where the folder is not there."""
    there = (folder / "DEMO").is_dir()
    return {file: folder / "DEMO" / file for file in data.file} if there else {}


def copies(demo, **chosen):
    corpus, data, folder = demo
    return features.augmented_copies(
        corpus, data, audio_of(data, folder), folder, "timnet", verbose=0, **chosen
    )


def test_each_utterance_has_one_copy_of_each_kind(demo):
    _, data, _ = demo
    made = copies(demo)
    assert made.shape == (len(data), 4, *data.x.shape[1:])
    assert np.isfinite(made).all()
    for index in range(4):
        assert (np.abs(made[:, index] - data.x).max(axis=(1, 2)) > 1.0).mean() > 0.9


def test_a_copy_goes_through_the_same_front_end(demo):
    corpus, data, folder = demo
    made = copies(demo, transforms=["reversal"])
    settings = features.front_end("timnet")
    length = features.clip_length(settings, corpus)
    samples = features.load_audio(folder / "DEMO" / data.file[0], settings)
    backwards = features.pad_or_crop(samples[:, ::-1], length)
    np.testing.assert_allclose(
        made[0, 0], features.cepstrum(backwards, settings), atol=1e-4
    )


def test_copies_do_not_depend_on_the_other_files(demo):
    corpus, data, folder = demo
    some = store.FeatureSet(
        **{
            name: getattr(data, name)[3:5]
            for name in ("x", "y", "file", "speaker", "sex", "text")
        },
        label_names=data.label_names,
        about=dict(data.about) | {"x_sha256": "another"},
    )
    np.testing.assert_array_equal(copies(demo)[3:5], copies((corpus, some, folder)))


def test_copies_are_kept_and_a_damaged_file_is_made_again(demo):
    _, _, folder = demo
    first = copies(demo, seed=9)
    (kept,) = [
        path
        for path in folder.glob("DEMO-timnet-augmented-*.npz")
        if '"seed": 9' in path.with_suffix(".json").read_text()
    ]
    stamp = kept.stat().st_mtime_ns
    copies(demo, seed=9)
    assert kept.stat().st_mtime_ns == stamp
    whole, beside = kept.read_bytes(), kept.with_suffix(".json")
    # A flag of the zip directory that asks for a password.
    encrypted = bytearray(whole)
    encrypted[whole.rindex(b"PK\x01\x02") + 8] |= 1
    for broken in (whole[:1000], bytes(encrypted)):
        kept.write_bytes(broken)
        np.testing.assert_array_equal(copies(demo, seed=9), first)
        assert kept.read_bytes() == whole
    beside.write_text("[]")
    np.testing.assert_array_equal(copies(demo, seed=9), first)
    assert (copies(demo, seed=10)[:, 0] != first[:, 0]).any()


@pytest.fixture
def copied(demo, tmp_path):
    """Return DEMO's corpus and two rows, with audio and cache of their own."""
    corpus, data, folder = demo
    two = dataclasses.replace(
        data,
        **{
            name: getattr(data, name)[:2]
            for name in ("x", "y", "file", "speaker", "sex", "text")
        },
    )
    for file in two.file:
        target = tmp_path / "DEMO" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "DEMO" / file, target)
    return corpus, two, tmp_path


def test_copies_of_other_audio_are_not_taken(copied):
    _, data, folder = copied
    path = folder / "DEMO" / data.file[1]
    original = path.read_bytes()
    first = copies(copied, transforms=["noise"])
    samples, rate = soundfile.read(path)
    soundfile.write(path, samples[::-1], rate)
    changed = copies(copied, transforms=["noise"])
    differs = (changed != first).any(axis=(1, 2, 3))
    assert differs.tolist() == [False, True]
    path.write_bytes(original)
    np.testing.assert_array_equal(copies(copied, transforms=["noise"]), first)
    # Where there is no audio at all, what is kept is taken.
    shutil.rmtree(folder / "DEMO")
    np.testing.assert_array_equal(copies(copied, transforms=["noise"]), first)


def test_two_files_of_the_same_audio_get_noise_of_their_own(copied):
    _, data, folder = copied
    one, two = (folder / "DEMO" / file for file in data.file)
    shutil.copy(one, two)
    made = copies(copied, transforms=["noise", "reversal"])
    np.testing.assert_array_equal(made[0, 1], made[1, 1])
    assert (made[0, 0] != made[1, 0]).any()


def test_whole_copies_that_are_not_the_described_ones_are_made_again(copied):
    _, _, folder = copied
    first = copies(copied, transforms=["reversal"])
    (kept,) = folder.glob("*-augmented-*.npz")
    np.savez(kept, copies=first + 1)
    np.testing.assert_array_equal(copies(copied, transforms=["reversal"]), first)


def test_a_file_that_cannot_be_altered_is_named(copied):
    _, data, folder = copied
    path = folder / "DEMO" / data.file[1]
    path.write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=f"copies of {data.file[1]}: not readable"):
        copies(copied)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"1 of 2 files.*{data.file[1]}"):
        copies(copied)


def test_copies_by_another_front_end_are_refused(demo):
    with pytest.raises(
        ValueError, match="'timnet-[0-9a-f]{8}' do not go with.*'timnet"
    ):
        corpus, data, folder = demo
        features.augmented_copies(
            corpus,
            data,
            audio_of(data, folder),
            folder,
            "timnet",
            {"window": "hamming"},
        )


def test_copies_of_utterances_in_pieces_are_pieces(demo):
    corpus, _, folder = demo
    chosen = {"pieces": "all", "clip_seconds": 0.5}
    found = corpora.scan(corpus, folder / "DEMO")[:3]
    data = features.prepare(
        corpus, found, folder, "lightsernet", chosen, verbose=0
    ).features
    made = features.augmented_copies(
        corpus,
        data,
        audio_of(data, folder),
        folder,
        "lightsernet",
        chosen,
        transforms=["reversal", "shift"],
        verbose=0,
    )
    # Neither reversal nor a shift changes the length: as many pieces, twice.
    _, owner = features.pieces(data.x)
    _, of = features.pieces(made)
    np.testing.assert_array_equal(np.bincount(of), 2 * np.bincount(owner))


def test_without_audio_the_way_out_is_named(demo):
    corpus, data, folder = demo
    with pytest.raises(FileNotFoundError, match="datasets_dir.*'cepstrum'"):
        features.augmented_copies(corpus, data, {}, folder, "timnet", seed=77)


# --- in training ----------------------------------------------------------------------


def test_copies_of_the_training_rows_train_and_no_others():
    x = np.arange(6, dtype=np.float32).reshape(6, 1, 1)
    copies = 100 + 10 * x[:, None] + np.arange(2, dtype=np.float32).reshape(1, 2, 1, 1)
    rows = np.array([4, 1])
    clips, owner = Augmentation(copies=copies).training_clips(x, rows)
    assert clips.ravel().tolist() == [4, 1, 140, 141, 110, 111]
    assert owner.tolist() == [4, 1, 4, 4, 1, 1]


def test_pieces_of_an_utterance_answer_together():
    x = np.full((3, 3, 2, 1), np.nan, np.float32)
    for row, count in enumerate((2, 1, 3)):
        x[row, :count] = np.arange(count).reshape(-1, 1, 1) + 10 * row
    clips, owner = features.pieces(x)
    assert owner.tolist() == [0, 0, 1, 2, 2, 2]
    answers = predict_utterances(lambda c: (c[:, 0], c[:, 1] + 1), x)
    assert answers[0].ravel().tolist() == [0.5, 10.0, 21.0]
    assert answers[1].ravel().tolist() == [1.5, 11.0, 22.0]


@pytest.mark.parametrize("kind", ["waveform", "cepstrum"])
def test_a_run_trains_with_augmentation(tmp_path, tiny, kind, monkeypatch):
    def made(corpus, data, *rest, **chosen):
        return np.repeat(data.x[:, None] + 0.1, 2, axis=1)

    monkeypatch.setattr(features, "augmented_copies", made)
    params = config.validated(
        {
            "workspace": str(tmp_path),
            "model": "cnn",
            "model_options": {"filters": 4, "blocks": 1},
            "epochs": 1,
            "folds": 3,
            "augmentation": kind,
        }
    )
    settings = training.resolve(params, tiny)
    assert settings["augmentation_options"]["transforms"]
    folds = training.make_folds(params, tiny)
    from lib.device import select

    training.train(
        settings,
        tiny,
        folds,
        params.folders,
        device=select("cpu"),
        augmentation=training.prepare_augmentation(params, corpora.get("DEMO"), tiny),
        verbose=0,
    )
    # Another augmentation is another run.
    plain = training.resolve(params.model_copy(update={"augmentation": "none"}), tiny)
    assert config.make_run_id(plain) != config.make_run_id(settings)


def test_pieces_train_and_test_by_utterance(tmp_path):
    whole = tiny_features()
    pieces = np.stack([whole.x[:, :10], whole.x[:, 10:]], axis=1)
    pieces[::3, 1] = np.nan
    data = store.FeatureSet(
        **{
            name: getattr(whole, name)
            for name in ("y", "label_names", "file", "speaker", "sex", "text")
        },
        x=pieces,
        about=dict(whole.about) | {"x_sha256": store.array_hash(pieces)},
    )
    params = config.validated({"workspace": str(tmp_path), "model": "svm", "folds": 3})
    from lib.device import select

    folders = training.train(
        training.resolve(params, data),
        data,
        training.make_folds(params, data),
        params.folders,
        device=select("cpu"),
        verbose=0,
    )
    assert len(folders.predictions.read_text().splitlines()) == 1 + 48
    again, _ = training.retest(folders, data, verbose=0)
    assert len(again) == 48


def test_options_without_an_augmentation_are_an_error(tiny):
    params = config.validated({"augmentation_options": {"transforms": ["noise"]}})
    with pytest.raises(ValueError, match="augmentation 'none' has no option"):
        training.resolve(params, tiny)
