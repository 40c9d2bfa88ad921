"""Features are those of the published front ends, and are cached by content."""

import concurrent.futures
import dataclasses
import io
import itertools
import os
import pickle
import sys
import threading
import weakref

import librosa
import numpy as np
import pytest
import soundfile
import threadpoolctl

from lib import corpora, features
from lib.corpora.base import Corpus, Tags, Utterance
from lib.features import egemaps, extraction, scratch, signal
from lib.features.official import read_official
from lib.files import REPOSITORY

STEP = 2.0**-23  # between neighbouring numbers of single precision, relative
ORACLES = REPOSITORY.parent / "shared" / "oracles" / "oracle_RAVDE.npz"
AUDIO = REPOSITORY.parent / "shared" / "corpora" / "RAVDESS"


def speech_like(seconds, rate, seed=0):
    """Noise with a falling spectrum and a moving loudness."""
    rng = np.random.default_rng(seed)
    noise = np.cumsum(rng.normal(size=int(seconds * rate)))
    noise = noise - np.convolve(noise, np.ones(200) / 200, "same")
    loudness = 0.2 + np.abs(np.sin(np.linspace(0, 9, len(noise))))
    return (0.5 * noise * loudness / np.abs(noise * loudness).max()).astype(np.float32)


@pytest.fixture
def corpus():
    return Corpus(
        name="TINY",
        title="Two voices",
        language="none",
        labels=("calm", "loud"),
        counts={"calm": 3, "loud": 3},
        sexes={"a": "female", "b": "male"},
        sample_rate=16_000,
        clip_samples=22_050,
        dilations=4,
        terms="",
        how_to_get="",
        citation="",
        parse=lambda path: None,
    )


@pytest.fixture
def clips(tmp_path):
    """Six clips of several rates and lengths."""
    items = []
    for index in range(6):
        rate = (16_000, 22_050, 48_000)[index % 3]
        path = tmp_path / "audio" / f"{index}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, speech_like(0.6 + 0.2 * index, rate, index), rate)
        tags = Tags(("calm", "loud")[index // 3], "ab"[index % 2], "", "", str(index))
        items.append(Utterance(path, path.name, tags))
    return items


def reference_timnet(path, length, **options):
    """The official extractor's calls, in librosa's own words."""
    samples, rate = librosa.load(path, sr=22_050)
    if len(samples) < length:
        left = (length - len(samples)) // 2
        samples = np.pad(samples, (left, length - len(samples) - left))
    else:
        start = (len(samples) - length) // 2
        samples = samples[start : start + length]
    return librosa.feature.mfcc(y=samples, sr=rate, n_mfcc=39, **options).T


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        ("timnet", {}),
        ("timnet_paper", {"win_length": 1102, "hop_length": 275, "window": "hamming"}),
    ],
)
def test_timnet_front_ends_equal_librosa(preset, options, clips, corpus, tmp_path):
    made = features.prepare(corpus, clips, tmp_path, preset, verbose=0).features
    for row, clip in enumerate(clips):
        expected = reference_timnet(clip.path, 22_050, **options)
        np.testing.assert_allclose(made.x[row], expected, atol=1e-4, rtol=STEP)


def test_features_are_librosas_on_one_thread_to_a_ten_thousandth(clips, corpus):
    # Several threads sum in another order, and c0 lies between -1000 and 1000.
    settings = features.front_end("timnet")
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        for clip in clips:
            made = features.extract(clip.path, settings, 96_000)
            expected = reference_timnet(clip.path, 96_000)
            assert np.abs(expected).max() > 500
            np.testing.assert_allclose(made, expected, atol=1e-4, rtol=0)


def products_threads():
    """Return how many threads the matrix products of this process have."""
    found = threadpoolctl.threadpool_info()
    return {each["num_threads"] for each in found if each["user_api"] == "blas"}


@pytest.mark.parametrize("how", ["alone", "corpus", "threads"])
def test_products_have_one_thread_each(how, clips, corpus, tmp_path, monkeypatch):
    settings = features.front_end("timnet")
    inside, seen = signal.features_of, []

    def watched(*arguments):
        made = inside(*arguments)
        seen.append(products_threads())
        return made

    def extract():
        features.extract(clips[0].path, settings, 22_050)

    for module in (signal, extraction):
        monkeypatch.setattr(module, "features_of", watched)
    before = products_threads()
    if how == "corpus":
        features.prepare(corpus, clips, tmp_path, verbose=0)
    elif how == "alone":
        extract()
    else:
        threads = [threading.Thread(target=extract) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert products_threads() == before
    assert seen and all(each == {1} for each in seen)


@pytest.mark.parametrize("preset", ["timnet", "timnet_paper", "lightsernet", "cktim"])
@pytest.mark.parametrize("kind", ["speech", "padded", "silence", "click", "short"])
def test_mel_spectrograms_equal_librosa(preset, kind):
    settings = features.front_end(preset)
    samples = speech_like(1.0, 22_050)
    if kind == "padded":  # silence before and after, and once in the middle
        samples = np.pad(samples, (7000, 9001))
        samples[14_000:20_000] = 0
    elif kind == "silence":
        samples = np.zeros_like(samples)
    elif kind == "click":
        samples = np.eye(1, 20_000, 3, dtype=np.float32)[0]
    elif kind == "short":
        samples = samples[: settings.fft_samples]
    spectrum = librosa.stft(
        samples,
        n_fft=settings.fft_samples,
        hop_length=settings.hop_samples,
        win_length=settings.frame_samples,
        window=settings.window,
        center=settings.padding != "none",
        pad_mode="constant" if settings.padding == "none" else settings.padding,
    )
    expected = features.mel_filters(settings) @ np.abs(spectrum) ** settings.power
    ours = features.mel_spectrogram(samples, settings)
    assert ours.dtype == np.float32
    floor = 1e-6 * expected.max()
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5 * floor)
    if settings.logarithm == "decibel" and settings.padding == "constant":
        decibel = librosa.power_to_db(expected)
        cepstra = librosa.feature.mfcc(S=decibel, n_mfcc=39).T
        ours = features.cepstrum(samples[np.newaxis], settings)
        np.testing.assert_allclose(ours, cepstra, atol=1e-4, rtol=STEP)


@pytest.mark.parametrize("samples", [1, 2, 100])
@pytest.mark.parametrize("preset", ["timnet", "cktim"])
def test_clips_shorter_than_a_frame_equal_librosa(preset, samples, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(samples, 0.5), 48_000)
    settings = features.front_end(preset)
    length = 6000
    heard = features.load_audio(tmp_path / "a.wav", settings)[0]
    expected, _ = librosa.load(tmp_path / "a.wav", sr=settings.sample_rate)
    np.testing.assert_array_equal(heard, expected)
    made = features.extract(tmp_path / "a.wav", settings, length)
    assert made.shape[1] == 39 and np.isfinite(made).all()
    if preset == "timnet":
        expected = reference_timnet(tmp_path / "a.wav", length)
        np.testing.assert_allclose(made, expected, atol=1e-4, rtol=STEP)


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_audio_is_loaded_as_by_librosa(rate, channels, tmp_path):
    rows = [speech_like(0.301, rate, seed) for seed in range(channels)]
    soundfile.write(tmp_path / "a.wav", np.stack(rows, 1), rate)
    ours = features.load_audio(tmp_path / "a.wav", features.front_end("timnet"))
    expected, _ = librosa.load(tmp_path / "a.wav", sr=22_050)
    assert ours.flags["C_CONTIGUOUS"] and ours.dtype == np.float32
    np.testing.assert_array_equal(ours, expected[np.newaxis])


@pytest.mark.parametrize(
    ("form", "subtype"),
    [
        *itertools.product(("WAV", "WAVEX"), ("PCM_U8", "PCM_16", "PCM_24", "FLOAT")),
        *itertools.product(("FLAC", "AIFF"), ("PCM_16", "PCM_24")),
    ],
)
@pytest.mark.parametrize("opened", [False, True])
def test_every_form_of_audio_is_read_as_by_soundfile(subtype, form, opened, tmp_path):
    path = tmp_path / "a.wav"
    samples = np.stack([speech_like(0.1, 22_050), -np.ones(2205)], axis=1)
    soundfile.write(path, samples, 22_050, subtype, format=form)
    expected, _ = soundfile.read(path, dtype="float32")
    settings = features.front_end("timnet", {"channels": 2})
    source = io.BytesIO(path.read_bytes()) if opened else path
    ours = features.load_audio(source, settings)
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, expected.T)


@pytest.mark.parametrize("cut", [1, 2, 1001])
def test_a_file_that_ends_too_early_is_read_as_by_soundfile(cut, tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, speech_like(0.1, 22_050), 22_050)
    path.write_bytes(path.read_bytes()[:-cut])
    expected, _ = soundfile.read(path, dtype="float32")
    ours = features.load_audio(path, features.front_end("timnet"))
    np.testing.assert_array_equal(ours[0], expected)


def test_samples_that_are_no_numbers_leave_a_clip_out(clips, corpus, tmp_path):
    samples = speech_like(1.0, 16_000)
    samples[100] = np.nan
    soundfile.write(clips[0].path, samples, 16_000, subtype="FLOAT")
    made = features.prepare(corpus, clips, tmp_path, verbose=0)
    assert made.failed == {"0.wav": "holds samples that are not finite numbers"}


def in_a_new_thread(work):
    """What `work` returns in a thread that has extracted nothing before."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


@pytest.mark.parametrize("rate", [22_050, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_what_was_given_out_stays_when_the_next_file_is_read(rate, channels, tmp_path):
    settings = features.front_end("timnet", {"channels": channels})
    for seed, name in enumerate(["first.wav", "second.wav"]):
        rows = [speech_like(1.0, rate, seed + one) for one in range(channels)]
        soundfile.write(tmp_path / name, np.stack(rows, 1), rate, "PCM_16")

    def everything(name):
        samples = features.load_audio(tmp_path / name, settings)
        mel = features.mel_spectrogram(samples[0], settings)
        return samples, mel, features.cepstrum(samples, settings)

    given = everything("first.wav")
    before = [array.copy() for array in given]
    everything("second.wav")
    for now, then in zip(given, before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("preset", ["timnet", "timnet_paper", "lightsernet", "cktim"])
def test_a_clip_has_no_trace_of_the_clip_before(preset):
    settings = features.front_end(preset)
    loud = [speech_like(2.0, 22_050, seed) for seed in range(2)]
    quiet = np.zeros(44_100, np.float32)
    quiet[20_000:25_000] = speech_like(1.0, 22_050, 2)[:5000]
    short = speech_like(0.2, 22_050, 3)

    def alone(samples):
        return in_a_new_thread(lambda: features.cepstrum(samples[None], settings))

    expected = {name: alone(clip) for name, clip in (("q", quiet), ("s", short))}
    for name, clip in (("q", quiet), ("s", short)):
        features.cepstrum(np.stack(loud), settings)
        made = features.cepstrum(clip[None], settings)
        np.testing.assert_array_equal(made, expected[name])


def test_memory_is_used_again_by_its_own_thread_only():
    first = scratch.scratch("a", (3, 4), np.float32)
    assert first.shape == (3, 4) and first.dtype == np.float32
    smaller = scratch.scratch("a", (2,), np.complex128)
    assert np.shares_memory(first, smaller)
    assert not np.shares_memory(first, scratch.scratch("b", (3, 4), np.float32))
    elsewhere = in_a_new_thread(lambda: scratch.scratch("a", (3, 4), np.float32))
    assert not np.shares_memory(first, elsewhere)


def test_memory_of_a_long_recording_is_given_back():
    large = scratch.LARGEST // 8 + 1
    ours = scratch.scratch("a", (large,), np.float64)
    assert not np.shares_memory(ours, scratch.scratch("a", (large,), np.float64))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_every_file_is_opened_once(clips, corpus, tmp_path):
    """A pipe gives its content once, to the first that opens it, and no more."""
    expected = features.prepare(corpus, clips, tmp_path / "files", verbose=0)
    for clip in clips:
        content = clip.path.read_bytes()
        clip.path.unlink()
        os.mkfifo(clip.path)
        write = threading.Thread(target=clip.path.write_bytes, args=(content,))
        write.daemon = True
        write.start()
    made = []
    extract = threading.Thread(
        target=lambda: made.append(
            features.prepare(corpus, clips, tmp_path / "pipes", verbose=0)
        ),
        daemon=True,  # a second opening would wait for ever
    )
    extract.start()
    extract.join(timeout=120)
    assert made, "a file was opened more than once"
    np.testing.assert_array_equal(made[0].features.x, expected.features.x)
    hashes = [one.features.about["audio_sha256"] for one in (made[0], expected)]
    assert hashes[0] == hashes[1]


def test_audio_of_finished_clips_is_let_go(clips, corpus, tmp_path, monkeypatch):
    loaded, alive = [], []
    load = signal.load_audio

    def followed(*arguments):
        samples = load(*arguments)
        loaded.append(weakref.ref(samples))
        alive.append(sum(there() is not None for there in loaded))
        return samples

    monkeypatch.setattr(extraction, "load_audio", followed)
    many = [
        dataclasses.replace(clip, file=f"{turn}/{clip.file}")
        for turn in range(10)
        for clip in clips
    ]
    features.prepare(corpus, many, tmp_path, jobs=2, verbose=0)
    assert len(loaded) == 60
    assert max(alive) <= 2  # what the two workers are at


def test_lightsernet_front_end_equals_tensorflow(clips, corpus):
    import tensorflow as tf

    settings = features.front_end("lightsernet", {"clip_seconds": 1.0})
    samples, _ = librosa.load(clips[0].path, sr=16_000)  # 0.6 s: padded
    samples = np.clip(samples / np.percentile(np.abs(samples), 99.9), -1, 1)
    left = (16_000 - len(samples)) // 2
    samples = np.pad(samples, (left, 16_000 - len(samples) - left))
    spectrum = tf.abs(tf.signal.stft(samples.astype("f"), 1024, 256, 1024))
    filters = tf.signal.linear_to_mel_weight_matrix(128, 513, 16_000, 80.0, 7600.0)
    log_mel = tf.math.log(tf.matmul(spectrum, filters) + 1e-6)
    cepstra = tf.signal.mfccs_from_log_mel_spectrograms(log_mel)[:, :40]
    expected = tf.clip_by_value(cepstra, -10, 10).numpy()
    ours = features.extract(clips[0].path, settings, 16_000)
    assert ours.shape == expected.shape == (59, 40)
    np.testing.assert_allclose(ours, expected, atol=2e-3)


def test_lightsernet_crops_before_it_scales(tmp_path):
    samples = speech_like(2.0, 16_000)
    samples[:2000] *= 30  # loud only where the crop cuts it off
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "b.wav", samples[8000:24_000], 16_000, subtype="FLOAT")
    settings = features.front_end("lightsernet", {"clip_seconds": 1.0})
    whole = features.extract(tmp_path / "a.wav", settings, 16_000)
    part = features.extract(tmp_path / "b.wav", settings, 16_000)
    np.testing.assert_allclose(whole, part, atol=1e-4)


def test_cktim_front_end_puts_right_after_left(tmp_path):
    stereo = np.stack([speech_like(1.5, 48_000, 1), speech_like(1.5, 48_000, 2)], 1)
    soundfile.write(tmp_path / "a.wav", stereo, 48_000, subtype="FLOAT")
    settings = features.front_end("cktim")
    ours = features.extract(tmp_path / "a.wav", settings, 96_000)
    assert ours.shape == (700, 39)
    for side in (0, 1):
        padded = np.pad(stereo[:, side], 12_000)
        # librosa's mfcc has no switch for the filters' own normalisation.
        mel = librosa.feature.melspectrogram(
            y=padded,
            sr=22_050,  # as published: not the audio's rate
            n_fft=2048,
            win_length=1102,
            hop_length=275,
            window="hamming",
            pad_mode="reflect",
            htk=True,
            norm=None,
            n_mels=128,
        )
        expected = librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=39).T
        np.testing.assert_allclose(
            ours[350 * side : 350 * (side + 1)], expected, atol=1e-3, rtol=1e-4
        )
    soundfile.write(tmp_path / "mono.wav", stereo[:, 0], 48_000, subtype="FLOAT")
    mono = features.extract(tmp_path / "mono.wav", settings, 96_000)
    np.testing.assert_array_equal(mono[:350], mono[350:])


@pytest.mark.parametrize(
    ("samples", "frames"),
    [(88_000, 172), (96_000, 188), (310_000, 606), (110_000, 215), (130_000, 254)],
)
def test_frames_of_the_official_clip_lengths(samples, frames):
    settings = features.front_end("timnet")
    assert features.num_frames(settings, samples) == frames
    clip = np.zeros((1, samples), np.float32)
    assert features.cepstrum(clip, settings).shape == (frames, 39)


def test_a_silent_clip_has_the_known_coefficients():
    made = features.cepstrum(
        np.zeros((1, 22_050), np.float32), features.front_end("timnet")
    )
    # 10 log10(1e-10) dB in 128 bands: c0 = -100 sqrt(128).
    np.testing.assert_allclose(made[:, 0], -1131.37, atol=0.01)
    np.testing.assert_allclose(made[:, 1:], 0, atol=1e-3)


@pytest.mark.parametrize(
    ("there", "wanted", "expected"),
    [
        ([1, 2, 3], 6, [0, 1, 2, 3, 0, 0]),
        ([1, 2], 6, [0, 0, 1, 2, 0, 0]),
        ([1, 2, 3, 4, 5, 6], 3, [2, 3, 4]),
        ([1, 2, 3], 3, [1, 2, 3]),
    ],
)
def test_padding_and_cropping_are_centred(there, wanted, expected):
    assert features.pad_or_crop(np.array(there), wanted).tolist() == expected


def test_the_oracles_first_file_and_moments(tmp_path):
    if not ORACLES.is_file() or not AUDIO.is_dir():
        pytest.skip(f"the oracle {ORACLES.name} or its audio is not beside the project")
    oracle = np.load(ORACLES)
    path = AUDIO / "Actor_01" / "03-01-05-01-01-01-01.flac"
    made = features.extract(path, features.front_end("timnet"), 110_000)
    np.testing.assert_allclose(made, oracle["mfcc_first_file"], atol=1e-3)
    # Printed on the authors' page, from another version of librosa.
    assert made[0, 0] == pytest.approx(-732.261, rel=2e-3)


def test_a_second_run_does_nothing(clips, corpus, tmp_path):
    first = features.prepare(corpus, clips, tmp_path, verbose=0)
    stamp = first.path.stat().st_mtime_ns
    second = features.prepare(corpus, clips, tmp_path, verbose=0)
    assert (first.made, second.made) == (6, 0)
    assert first.path.stat().st_mtime_ns == stamp
    np.testing.assert_array_equal(first.features.x, second.features.x)
    assert second.features.speaker.tolist() == ["a", "b"] * 3
    assert second.features.y.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_changed_setting_makes_a_new_file(clips, corpus, tmp_path):
    first = features.prepare(corpus, clips, tmp_path, verbose=0)
    other = features.prepare(
        corpus, clips, tmp_path, "timnet", {"coefficients": 13}, verbose=0
    )
    assert first.path != other.path
    assert first.path.is_file()
    assert other.features.x.shape[-1] == 13


def test_changed_audio_is_extracted_again(clips, corpus, tmp_path):
    first = features.prepare(corpus, clips, tmp_path, verbose=0)
    info = os.stat(clips[2].path)
    samples, rate = soundfile.read(clips[2].path)
    soundfile.write(clips[2].path, samples[::-1], rate)
    os.utime(clips[2].path, ns=(info.st_atime_ns, info.st_mtime_ns))
    second = features.prepare(corpus, clips, tmp_path, verbose=0)
    assert second.made == 6
    changed = np.abs(second.features.x - first.features.x).max(axis=(1, 2)) > 0
    assert changed.tolist() == [False, False, True, False, False, False]


def test_a_corrected_label_is_not_taken_from_the_cache(clips, corpus, tmp_path):
    features.prepare(corpus, clips, tmp_path, verbose=0)
    tags = dataclasses.replace(clips[0].tags, label="loud", speaker="b")
    corrected = [dataclasses.replace(clips[0], tags=tags), *clips[1:]]
    again = features.prepare(corpus, corrected, tmp_path, verbose=0)
    assert again.features.y[0] == 1
    assert again.features.speaker[0] == "b"


def test_one_bad_clip_does_not_lose_the_others(clips, corpus, tmp_path):
    clips[1].path.write_bytes(b"RIFF....WAVE")
    clips[4].path.write_bytes(b"")
    result = features.prepare(corpus, clips, tmp_path, verbose=0)
    assert sorted(result.failed) == ["1.wav", "4.wav"]
    assert result.features.file.tolist() == ["0.wav", "2.wav", "3.wav", "5.wav"]
    assert result.features.about["failed"].keys() == {"1.wav", "4.wav"}
    for clip in clips:
        clip.path.write_bytes(b"")
    with pytest.raises(ValueError, match="none of the 6 clips can be read"):
        features.prepare(corpus, clips, tmp_path, verbose=0)


def test_a_damaged_cache_is_noticed_and_made_again(clips, corpus, tmp_path):
    made = features.prepare(corpus, clips, tmp_path, verbose=0)
    content = bytearray(made.path.read_bytes())
    content[5000] ^= 1
    made.path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="damaged|does not match"):
        features.load(made.path)
    assert features.prepare(corpus, clips, tmp_path, verbose=0).made == 6
    assert np.array_equal(features.load(made.path).x, made.features.x)


@pytest.mark.parametrize("beside", ["[]", "{}", "{"])
def test_a_damaged_description_is_noticed_and_made_again(
    clips, corpus, tmp_path, beside
):
    made = features.prepare(corpus, clips, tmp_path, verbose=0)
    made.path.with_suffix(".json").write_text(beside)
    with pytest.raises((ValueError, FileNotFoundError)):
        features.load(made.path)
    assert features.prepare(corpus, clips, tmp_path, verbose=0).made == 6


def test_a_file_that_asks_for_a_password_is_damaged(clips, corpus, tmp_path):
    made = features.prepare(corpus, clips, tmp_path, verbose=0)
    content = bytearray(made.path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    made.path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="damaged"):
        features.load(made.path)
    assert features.prepare(corpus, clips, tmp_path, verbose=0).made == 6


def test_a_missing_file_says_what_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="01_preprocess"):
        features.load(tmp_path / "X-timnet.npz")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coeficients": 3}, "'coeficients' – did you mean 'coefficients'"),
        ({"coefficients": 0}, "'coefficients': 0; give a whole number from 1"),
        ({"coefficients": 200}, "200 exceeds mel_bands 128"),
        ({"frame_samples": 4096}, "4096 exceeds fft_samples 2048"),
        ({"padding": "mirror"}, "'padding': 'mirror'; give one of"),
        ({"hop_samples": 1.5}, "'hop_samples': 1.5"),
    ],
)
def test_wrong_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        features.front_end("timnet", options)


# --- the authors' own arrays ---------------------------------------------------


def test_official_arrays_are_imported(corpus, tmp_path):
    x = np.random.default_rng(0).normal(size=(6, 4, 39)).astype(np.float32)
    one_hot = np.eye(2, dtype=np.float32)[[0, 0, 0, 1, 1, 1]]
    np.save(tmp_path / "TINY.npy", {"x": x, "y": one_hot}, allow_pickle=True)
    made = features.import_official(tmp_path / "TINY.npy", corpus)
    np.testing.assert_array_equal(made.x, x)
    assert made.y.tolist() == [0, 0, 0, 1, 1, 1]
    target = features.feature_path(tmp_path, "TINY", "timnet_official")
    features.save(target, made)
    np.testing.assert_array_equal(features.load(target).x, x)
    other = dataclasses.replace(corpus, counts={"calm": 2, "loud": 4})
    with pytest.raises(ValueError, match=r"\[3, 3\].*\[2, 4\]"):
        features.import_official(tmp_path / "TINY.npy", other)


def stems(rows):
    return [file.rsplit("/")[-1].removesuffix(".wav") for file, _ in rows]


def test_rows_of_the_official_arrays_are_known_without_audio(tmp_path):
    if not ORACLES.is_file():
        pytest.skip("the official answers are not beside the repository")
    oracle = np.load(ORACLES)
    ravdess = corpora.get("RAVDESS")
    rows = features.official_tags(ravdess, tmp_path / "none")
    official = [name.removesuffix(".wav") for name in oracle["files"].tolist()]
    assert stems(rows) == official
    y = [ravdess.labels.index(tags.label) for _, tags in rows]
    assert y == oracle["y"].tolist()


def test_rows_of_the_official_arrays_take_the_names_of_the_audio_at_hand(tmp_path):
    demo = corpora.get("DEMO")
    clip = tmp_path / "elsewhere" / "f1_angry_t2.wav"
    clip.parent.mkdir()
    soundfile.write(clip, speech_like(0.5, 16_000), 16_000)
    rows = features.official_tags(demo, tmp_path)
    assert len(rows) == sum(demo.counts.values())
    by_stem = dict(zip(stems(rows), rows, strict=True))
    assert by_stem["f1_angry_t2"][0] == "elsewhere/f1_angry_t2.wav"
    assert by_stem["f1_angry_t3"][0] == "f1_angry_t3.wav"
    assert by_stem["f1_angry_t3"][1].speaker == "f1"


def test_adopted_arrays_are_a_feature_file_with_speakers(tmp_path):
    demo = corpora.get("DEMO")
    y = np.repeat(np.arange(len(demo.labels)), list(demo.counts.values()))
    x = np.random.default_rng(0).normal(size=(len(y), 4, 39)).astype(np.float32)
    content = {"x": x, "y": np.eye(len(demo.labels), dtype=np.float32)[y]}
    np.save(tmp_path / "DEMO.npy", content, allow_pickle=True)
    target, made = features.adopt_official(
        str(tmp_path / "DEMO.npy"), demo, tmp_path / "none", tmp_path / "MFCC"
    )
    assert target == tmp_path / "MFCC" / "DEMO-timnet_official.npz"
    kept = features.load(target)
    np.testing.assert_array_equal(kept.x, x)
    assert set(kept.speaker) == set(demo.speakers)
    labels = [name.split("_")[1] for name in kept.file]
    assert labels == kept.label_names[kept.y].tolist()


def test_official_features_are_not_extracted():
    with pytest.raises(ValueError, match="imported, not extracted.*01_preprocess"):
        features.front_end("timnet_official")


class Attack:
    """Runs code when it is unpickled the ordinary way."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


def test_an_arbitrary_pickle_is_refused_and_nothing_of_it_runs(tmp_path):
    trap = tmp_path / "run"
    content = {"x": Attack(trap), "y": np.eye(2)}
    np.save(tmp_path / "bad.npy", content, allow_pickle=True)
    with pytest.raises(ValueError, match="refused: it asks for posix.mkdir"):
        read_official(tmp_path / "bad.npy")
    assert not trap.exists()
    np.load(tmp_path / "bad.npy", allow_pickle=True)  # the trap is a real one
    assert trap.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        pickle.dumps({"x": 1}),
    ],
)
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "bad.npy").write_bytes(content)
    with pytest.raises(ValueError, match="refused"):
        read_official(tmp_path / "bad.npy")


def test_arrays_of_the_wrong_kind_are_refused(tmp_path):
    path = tmp_path / "bad.npy"
    np.save(path, np.zeros(3))
    with pytest.raises(ValueError, match="plain array"):
        read_official(path)
    np.save(path, {"x": np.zeros((2, 3)), "y": np.eye(2)}, allow_pickle=True)
    with pytest.raises(ValueError, match="are not"):
        read_official(path)
    with pytest.raises(FileNotFoundError, match="no official features"):
        read_official(tmp_path / "none.npy")


def test_a_clip_that_failed_is_not_tried_again_until_it_changes(
    clips, corpus, tmp_path
):
    whole = clips[1].path.read_bytes()
    clips[1].path.write_bytes(b"")
    assert features.prepare(corpus, clips, tmp_path, verbose=0).made == 5
    again = features.prepare(corpus, clips, tmp_path, verbose=0)
    assert (again.made, sorted(again.failed)) == (0, ["1.wav"])
    clips[1].path.write_bytes(whole)
    assert features.prepare(corpus, clips, tmp_path, verbose=0).made == 6


# --- pieces and functionals -----------------------------------------------------------


def test_all_pieces_of_a_clip_are_those_of_its_parts():
    settings = features.front_end("lightsernet", {"clip_seconds": 1.0, "pieces": "all"})
    samples = np.random.default_rng(0).normal(size=(1, 40_000)).astype(np.float32)
    made = signal.features_of(samples, settings, 16_000)
    scaled = signal.rescale(samples)
    assert made.shape == (2, 59, 40)  # 40,000 samples are two seconds and a half
    for index in range(2):
        part = scaled[:, 16_000 * index : 16_000 * (index + 1)]
        np.testing.assert_allclose(
            made[index], features.cepstrum(part, settings), atol=1e-5
        )


def test_a_clip_shorter_than_a_piece_is_padded_to_one():
    samples = np.ones((1, 9), np.float32)
    (piece,) = signal.cut(samples, 20)
    assert piece.shape == (1, 20) and piece.sum() == 9


def test_pieces_of_unequal_number_fill_up_with_nothing():
    rows = [np.ones((3, 2, 4)), np.zeros((1, 2, 4))]
    x = extraction.stacked(rows)
    assert x.shape == (2, 3, 2, 4)
    assert np.isnan(x[1, 1:]).all() and not np.isnan(x[0]).any()
    clips, owner = features.pieces(x)
    assert len(clips) == 4 and owner.tolist() == [0, 0, 0, 1]


def test_a_corpus_in_pieces_is_kept_with_one_row_per_utterance(clips, corpus, tmp_path):
    chosen = {"pieces": "all", "clip_seconds": 0.5}
    made = features.prepare(corpus, clips, tmp_path, "lightsernet", chosen, verbose=0)
    # 0.6, 0.8, ... 1.6 seconds; what remains after the last whole piece is dropped.
    expected = [1, 1, 2, 2, 2, 3]
    x = made.features.x
    assert x.shape[:2] == (6, 3)
    there = np.isfinite(x).all(axis=(2, 3))
    assert there.sum(axis=1).tolist() == expected
    assert np.isnan(x[~there]).all()
    _, owner = features.pieces(x)
    assert owner.tolist() == np.repeat(np.arange(6), expected).tolist()
    again = features.prepare(corpus, clips, tmp_path, "lightsernet", chosen, verbose=0)
    assert again.made == 0
    np.testing.assert_array_equal(features.load(made.path).x, x)


@pytest.mark.parametrize("name", ["timnet", "timnet_paper", "lightsernet", "cktim"])
def test_what_is_one_clip_is_its_own_piece(name):
    assert features.preset_name(name) == name
    assert features.front_end(name).pieces == "one"
    x = np.zeros((3, 5, 2), np.float32)
    clips, owner = features.pieces(x)
    assert clips.shape == x.shape and owner.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("preset", "options", "message"),
    [
        ("timnet", {"pieces": "all"}, "pieces 'all' needs clip_seconds"),
        ("timnet", {"pieces": "some"}, "'pieces': 'some'; give one of 'one', 'all'"),
        ("timnet", {"pieces": "all", "clip_seconds": 1e-9}, "needs clip_seconds"),
        ("egemaps", {"coefficients": 80}, "egemaps are 88 coefficients"),
        ("egemaps", {"channels": 2}, "only sample_rate can be replaced"),
        ("egemaps", {"pieces": "all", "clip_seconds": 2}, "only sample_rate"),
    ],
)
def test_what_cannot_be_cut_is_named(preset, options, message):
    with pytest.raises(ValueError, match=message):
        features.front_end(preset, options)


def test_without_opensmile_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    egemaps._extractor.cache_clear()
    with pytest.raises(ModuleNotFoundError, match="pip install opensmile"):
        egemaps.functionals(np.zeros(16_000, np.float32), 16_000)


def test_a_corpus_without_opensmile_fails_once_with_the_command(
    clips, corpus, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    egemaps._extractor.cache_clear()
    with pytest.raises(ModuleNotFoundError, match="pip install opensmile"):
        features.prepare(corpus, clips, tmp_path, "egemaps", verbose=0)
    assert not list(tmp_path.glob("*.npz"))


def test_functionals_of_a_corpus_are_one_row_for_a_clip(clips, corpus, tmp_path):
    pytest.importorskip("opensmile")
    soundfile.write(clips[1].path, np.zeros(300), 16_000)
    made = features.prepare(corpus, clips, tmp_path, "egemaps", verbose=0)
    assert made.features.x.shape == (5, 1, 88)
    assert np.isfinite(made.features.x).all()
    assert "too short for eGeMAPS" in made.failed["1.wav"]
    assert "opensmile" in made.features.about["versions"]


def test_functionals_are_those_of_opensmile():
    opensmile = pytest.importorskip("opensmile")
    time = np.arange(32_000) / 16_000
    samples = np.sin(2 * np.pi * 150 * time).astype(np.float32)
    made = signal.features_of(samples[None], features.front_end("egemaps"), 0)
    assert made.shape == (1, 88)
    peer = opensmile.Smile("eGeMAPSv02", "func").process_signal(samples, 16_000)
    pitch = peer["F0semitoneFrom27.5Hz_sma3nz_amean"].iloc[0]
    assert pitch == pytest.approx(12 * np.log2(150 / 27.5), abs=0.3)
    np.testing.assert_allclose(made[0], peer.to_numpy()[0], rtol=1e-5)
