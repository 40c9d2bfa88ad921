"""Features are those of the published front ends, and are cached by content."""

import dataclasses
import hashlib
import json
import statistics
import sys

import librosa
import numpy as np
import pytest
import soundfile
from conftest import tiny_features

from lib import config, corpora, features, files


def speech_like(seconds, rate, seed=0):
    """Noise with a falling spectrum and a moving loudness."""
    rng = np.random.default_rng(seed)
    noise = np.cumsum(rng.normal(size=int(seconds * rate)))
    noise = noise - np.convolve(noise, np.ones(200) / 200, "same")
    loudness = 0.2 + np.abs(np.sin(np.linspace(0, 9, len(noise))))
    return (0.5 * noise * loudness / np.abs(noise * loudness).max()).astype(np.float32)


@pytest.fixture
def corpus():
    counts = {"calm": 3, "loud": 3}
    own = {"name": "TINY", "labels": tuple(counts), "counts": counts, "dilations": 4}
    return dataclasses.replace(corpora.get("DEMO"), clip_samples=22_050, **own)


@pytest.fixture
def clips(tmp_path):
    """Six clips of several rates and lengths."""
    items = []
    for index in range(6):
        rate = (16_000, 22_050, 48_000)[index % 3]
        path = tmp_path / f"{index}.wav"
        soundfile.write(path, speech_like(0.6 + 0.2 * index, rate, index), rate)
        label, speaker = ("calm", "loud")[index // 3], "ab"[index % 2]
        items.append(corpora.Clip(path, path.name, label, speaker, key=path.stem))
    return items


def extracted(corpus, clips, folder, preset="timnet", options=None, **chosen):
    """Return what `prepare` does, with the features in `folder`/MFCC."""
    given = {"workspace": str(folder), "features": preset, "verbose": 0}
    params = config.validated(given | {"feature_options": options or {}})
    return features.prepare(params, corpus, clips, **chosen)


def official_timnet(path, length, **options):
    """The official extractor's calls, in librosa's own words."""
    samples, rate = librosa.load(path, sr=22_050)
    samples = librosa.util.pad_center(samples, size=max(length, len(samples)))
    start = (len(samples) - length) // 2
    samples = samples[start : start + length]
    return librosa.feature.mfcc(y=samples, sr=rate, n_mfcc=39, **options).T


PAPER = {"win_length": 1102, "hop_length": 275, "window": "hamming"}


@pytest.mark.parametrize(
    ("preset", "options", "threads"),
    [("timnet", {}, True), ("timnet_paper", PAPER, False)],
)
def test_timnet_features_are_librosas_alone_and_in_a_corpus(
    preset, options, threads, clips, corpus, tmp_path, monkeypatch
):
    monkeypatch.setattr(features, "MANY_CLIPS", 1000 if threads else 0)
    # 1.0 s, of clips of 0.6 to 1.6 s: some are padded, some cropped.
    made, _ = extracted(corpus, clips, tmp_path, preset)
    for row, clip in enumerate(clips):
        alone = features.extract(clip.path, features.front_end(preset), 22_050)
        np.testing.assert_array_equal(made.x[row], alone)
        expected = official_timnet(clip.path, 22_050, **options)
        np.testing.assert_allclose(alone, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("preset", ["timnet", "timnet_paper", "lightsernet", "cktim"])
def test_mel_spectrograms_equal_librosa(preset):
    settings = features.front_end(preset)
    centred = settings.padding != "none"
    hop, window = settings.hop_samples, settings.window
    options = {"n_fft": settings.fft_samples, "hop_length": hop, "window": window}
    padding = settings.padding if centred else "constant"
    options |= {"win_length": settings.frame_samples, "pad_mode": padding}
    speech = speech_like(1.0, 22_050)
    signals = [np.pad(speech, (7000, 9001)), speech[: settings.fft_samples]]
    signals += [0 * speech, np.eye(1, 20_000, 3, dtype=np.float32)[0]]
    for samples in signals:
        spectrum = np.abs(librosa.stft(samples, center=centred, **options))
        expected = features.mel_filters(settings) @ spectrum**settings.power
        ours = features.mel_spectrogram(samples, settings)
        assert ours.dtype == np.float32
        assert ours.shape[1] == features.num_frames(settings, len(samples))
        # Single precision: 1e-5 of a value, or of what is 60 dB below the largest one.
        floor = 1e-11 * expected.max()
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=floor)


def test_lightsernet_front_end_equals_tensorflow_and_crops_before_it_scales(clips):
    import tensorflow as tf

    settings = features.front_end("lightsernet", {"clip_seconds": 1.0})
    samples, _ = librosa.load(clips[0].path, sr=16_000)  # 0.6 s: padded
    samples = np.clip(samples / np.percentile(np.abs(samples), 99.9), -1, 1)
    samples = librosa.util.pad_center(samples, size=16_000)
    spectrum = tf.abs(tf.signal.stft(samples.astype("f"), 1024, 256, 1024))
    filters = tf.signal.linear_to_mel_weight_matrix(128, 513, 16_000, 80.0, 7600.0)
    log_mel = tf.math.log(tf.matmul(spectrum, filters) + 1e-6)
    cepstra = tf.signal.mfccs_from_log_mel_spectrograms(log_mel)[:, :40]
    expected = tf.clip_by_value(cepstra, -10, 10).numpy()
    ours = features.extract(clips[0].path, settings, 16_000)
    assert ours.shape == expected.shape == (59, 40)
    # TensorFlow transforms in single precision.
    np.testing.assert_allclose(ours, expected, atol=2e-3)
    # An odd zero goes to the end, and a crop begins at the earlier sample.
    assert features.pad_or_crop(np.arange(1, 4), 6).tolist() == [0, 1, 2, 3, 0, 0]
    assert features.pad_or_crop(np.arange(6), 3).tolist() == [1, 2, 3]
    samples = speech_like(2.0, 16_000)[np.newaxis]
    samples[:, :2000] *= 30  # loud only where the crop cuts it off
    parts = samples, samples[:, 8000:24_000]
    made = [features.features_of(part, settings, 16_000) for part in parts]
    np.testing.assert_array_equal(*made)


def test_cktim_front_end_puts_right_after_left(tmp_path):
    settings = features.front_end("cktim")
    # As published, the filters assume another rate than the audio's.
    expected = librosa.filters.mel(sr=22_050, n_fft=2048, htk=True, norm=None)
    np.testing.assert_array_equal(features.mel_filters(settings), expected)
    sides = [speech_like(1.5, 48_000, seed) for seed in (1, 2)]
    made = []
    for samples in (np.stack(sides, 1), *sides):
        soundfile.write(tmp_path / "a.wav", samples, 48_000, subtype="FLOAT")
        made.append(features.extract(tmp_path / "a.wav", settings, 96_000))
    stereo, left, right = made
    assert stereo.shape == left.shape == (700, 39)
    np.testing.assert_array_equal(stereo, [*left[:350], *right[350:]])
    np.testing.assert_array_equal(left[:350], left[350:])


def test_audio_is_loaded_as_by_librosa(tmp_path):
    path = tmp_path / "a.wav"
    for rate, samples in ((8000, 1), (8000, 2408), (22_050, 1), (48_000, 14_448)):
        rows = [speech_like(1, rate, seed)[:samples] for seed in range(3)]
        soundfile.write(path, np.stack(rows, 1), rate)
        ours = features.load_audio(path, features.front_end("timnet"))
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours[0], librosa.load(path, sr=22_050)[0])


def test_wrong_settings_are_named():
    for preset, options, message in (
        ("timmet", {}, "'timmet' – did you mean 'timnet'"),
        ("timnet_official", {}, "imported by 01_preprocess with official_features"),
        ("timnet", {"coeficients": 3}, "'coeficients' – did you mean 'coefficients'"),
        ("timnet", {"coefficients": 200}, "coefficients <= mel_bands"),
        ("timnet", {"low_hertz": 9e3, "high_hertz": 8e3}, "low_hertz < high_hertz"),
        ("egemaps", {"pieces": "all", "clip_seconds": 2}, "only sample_rate"),
    ):
        with pytest.raises(ValueError, match=message):
            features.front_end(preset, options)


def test_the_file_is_what_it_promises_and_is_made_once(clips, corpus, tmp_path):
    made, new = extracted(corpus, clips, tmp_path)
    assert new == 6
    path = tmp_path / "MFCC" / "TINY-timnet.npz"
    arrays = dict(np.load(path, allow_pickle=False))
    assert arrays["x"].shape == (6, 44, 39) and arrays["x"].dtype == np.float32
    assert arrays["y"].tolist() == [0, 0, 0, 1, 1, 1]
    assert arrays["file"].tolist() == [clip.file for clip in clips]
    assert arrays["speaker"].tolist() == ["a", "b"] * 3
    about = json.loads(path.with_suffix(".json").read_text())
    assert about == made.about == files.read_features(path).about
    rows = []
    for clip in clips:
        content = hashlib.sha256(clip.path.read_bytes()).hexdigest()
        tags = clip.label, clip.speaker, clip.sex, clip.text, clip.key
        rows.append([clip.file, content, *tags])
    text = json.dumps(rows, separators=(",", ":"))
    assert about["data_sha256"] == hashlib.sha256(text.encode()).hexdigest()
    stamp = path.stat().st_mtime_ns
    again, new = extracted(corpus, clips, tmp_path)
    assert new == 0 and path.stat().st_mtime_ns == stamp
    np.testing.assert_array_equal(made.x, again.x)
    assert extracted(corpus, clips, tmp_path, overwrite=True)[1] == 6
    # What is damaged is noticed, and made again.
    npz, text = path.read_bytes(), path.with_suffix(".json").read_bytes()
    files.write_npz(path, arrays | {"x": made.x + 1})
    other = path.read_bytes()
    for damaged, beside, fault in (
        (npz[:1000], text, ""),
        (other, text, "not match"),
        (npz, text[:100], ""),
    ):
        path.write_bytes(damaged)
        path.with_suffix(".json").write_bytes(beside)
        said = f"damaged.*{fault}.*01_preprocess with overwrite=True"
        with pytest.raises(ValueError, match=said):
            files.read_features(path)
    assert extracted(corpus, clips, tmp_path)[1] == 6
    np.testing.assert_array_equal(files.read_features(path).x, made.x)


def test_other_data_or_settings_never_take_the_old_numbers(clips, corpus, tmp_path):
    first, _ = extracted(corpus, clips, tmp_path)
    assert extracted(corpus, clips, tmp_path, "timnet", {"clip_seconds": 0})[1] == 0
    other, _ = extracted(corpus, clips, tmp_path, "timnet", {"coefficients": 13})
    assert other.x.shape[-1] == 13
    with pytest.raises(ValueError, match="441 samples is shorter than a frame"):
        extracted(corpus, clips, tmp_path, "timnet", {"clip_seconds": 0.02})
    corrected = dataclasses.replace(clips[0], label="loud", speaker="b")
    made, new = extracted(corpus, [corrected, *clips[1:]], tmp_path)
    assert (new, made.y[0], made.speaker[0]) == (6, 1, "b")
    other = dataclasses.replace(corpus, clip_samples=44_100, dilations=5)
    made, _ = extracted(other, clips, tmp_path)
    assert made.x.shape == (6, 87, 39) and made.about["dilations"] == 5
    samples, rate = soundfile.read(clips[2].path)
    soundfile.write(clips[2].path, samples[::-1], rate)
    made, _ = extracted(corpus, clips, tmp_path)
    differs = (made.x != first.x).any(axis=(1, 2))
    assert differs.tolist() == [False, False, True, False, False, False]


def test_bad_clips_are_left_out_reported_and_taken_back(clips, corpus, tmp_path):
    kept = clips[1].path.read_bytes()
    clips[1].path.write_bytes(b"RIFF....WAVE")
    soundfile.write(clips[3].path, [], 16_000)
    soundfile.write(clips[4].path, [0.1, np.nan, 0.1], 16_000, subtype="FLOAT")
    made, _ = extracted(corpus, clips, tmp_path)
    failed = made.about["failed"]
    assert "not readable" in failed["1.wav"] and "no samples" in failed["3.wav"]
    assert "not finite" in failed["4.wav"]
    assert made.file.tolist() == ["0.wav", "2.wav", "5.wav"]
    assert extracted(corpus, clips, tmp_path)[1] == 0
    clips[1].path.write_bytes(kept)
    assert extracted(corpus, clips, tmp_path)[1] == 4
    with pytest.raises(ValueError, match="no clip can be read: .*'3.wav', 'holds no"):
        extracted(corpus, clips[3:5], tmp_path)


def test_pieces_are_the_parts_of_an_utterance(clips, corpus, tmp_path):
    chosen = {"pieces": "all", "clip_seconds": 0.5}
    settings = features.front_end("lightsernet", chosen)
    made, _ = extracted(corpus, clips, tmp_path, "lightsernet", chosen)
    # 0.6, 0.8, ... 1.6 seconds; what remains after the last whole piece is dropped.
    expected = [1, 1, 2, 2, 2, 3]
    parts, owner = files.pieces(made.x)
    assert owner.tolist() == np.repeat(np.arange(6), expected).tolist()
    samples = features.load_audio(clips[5].path, settings)
    samples = np.clip(samples / np.percentile(np.abs(samples), 99.9), -1, 1)
    for number, piece in enumerate(parts[owner == 5]):
        part = samples[:, 8000 * number : 8000 * (number + 1)]
        np.testing.assert_allclose(piece, features.cepstrum(part, settings), atol=1e-5)
    short = features.features_of(samples[:, :10], settings, 8000)
    assert short.shape == parts[:1].shape  # padded to one piece


def test_functionals_need_opensmile(clips, corpus, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(ModuleNotFoundError, match="pip install opensmile"):
        extracted(corpus, clips, tmp_path, "egemaps")


def test_normalised_features_are_those_of_the_formula():
    data = tiny_features()
    by_clip = features.normalised(data, "clip").x
    by_speaker = features.normalised(data, "speaker").x
    for row in range(len(data)):
        for coefficient in range(data.x.shape[-1]):
            values = data.x[row, :, coefficient].astype(float)
            wanted = values - sum(values) / len(values)
            np.testing.assert_allclose(by_clip[row, :, coefficient], wanted, atol=1e-5)
            theirs = data.x[data.speaker == data.speaker[row], :, coefficient].ravel()
            mean = statistics.fmean(theirs)
            deviation = statistics.pstdev(map(float, theirs))
            found, wanted = by_speaker[row, :, coefficient], (values - mean) / deviation
            np.testing.assert_allclose(found, wanted, atol=1e-4)
    for how in ("none", "train"):
        assert features.normalised(data, how).x is data.x
