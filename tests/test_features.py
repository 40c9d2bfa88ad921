"""Features are those of the published front ends, and are cached by content."""

import dataclasses
import hashlib
import io
import json
import subprocess
import sys
import threading

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile
import threadpoolctl

from lib import audio, config, corpora, features
from lib.files import REPOSITORY

ORACLE = REPOSITORY.parent / "shared" / "oracles" / "oracle_RAVDE.npz"
RAVDESS = REPOSITORY.parent / "shared" / "corpora" / "RAVDESS"
CEPSTRAL = ["timnet", "timnet_paper", "lightsernet", "cktim"]


def speech_like(seconds, rate, seed=0):
    """Noise with a falling spectrum and a moving loudness."""
    rng = np.random.default_rng(seed)
    noise = np.cumsum(rng.normal(size=int(seconds * rate)))
    noise = noise - np.convolve(noise, np.ones(200) / 200, "same")
    loudness = 0.2 + np.abs(np.sin(np.linspace(0, 9, len(noise))))
    return (0.5 * noise * loudness / np.abs(noise * loudness).max()).astype(np.float32)


@pytest.fixture
def corpus():
    return dataclasses.replace(
        corpora.get("DEMO"),
        name="TINY",
        labels=("calm", "loud"),
        counts={"calm": 3, "loud": 3},
        clip_samples=22_050,
        dilations=4,
    )


@pytest.fixture
def clips(tmp_path):
    """Six clips of several rates and lengths."""
    items = []
    (tmp_path / "audio").mkdir()
    for index in range(6):
        rate = (16_000, 22_050, 48_000)[index % 3]
        path = tmp_path / "audio" / f"{index}.wav"
        soundfile.write(path, speech_like(0.6 + 0.2 * index, rate, index), rate)
        label, speaker = ("calm", "loud")[index // 3], "ab"[index % 2]
        items.append(corpora.Clip(path, path.name, label, speaker, key=path.stem))
    return items


def extracted(corpus, clips, folder, preset="timnet", options=None, **chosen):
    return features.prepare(corpus, clips, folder, preset, options, verbose=0, **chosen)


# --- the numbers ----------------------------------------------------------------------


def official_timnet(path, length, **options):
    """The official extractor's calls, in librosa's own words."""
    samples, rate = librosa.load(path, sr=22_050)
    if len(samples) < length:
        left = (length - len(samples)) // 2
        samples = np.pad(samples, (left, length - len(samples) - left))
    else:
        start = (len(samples) - length) // 2
        samples = samples[start : start + length]
    return librosa.feature.mfcc(y=samples, sr=rate, n_mfcc=39, **options).T


PAPER = {"win_length": 1102, "hop_length": 275, "window": "hamming"}


@pytest.mark.parametrize(
    ("preset", "options"), [("timnet", {}), ("timnet_paper", PAPER)]
)
def test_timnet_features_are_librosas_alone_and_in_a_corpus(
    preset, options, clips, corpus, tmp_path
):
    # 1.0 s, of clips of 0.6 to 1.6 s: some are padded, some cropped.
    made = extracted(corpus, clips, tmp_path, preset).features
    assert np.abs(made.x).max() > 500
    for row, clip in enumerate(clips):
        alone = features.extract(clip.path, features.front_end(preset), 22_050)
        np.testing.assert_array_equal(made.x[row], alone)
        # On one thread: several sum in another order.
        with threadpoolctl.threadpool_limits(1, user_api="blas"):
            expected = official_timnet(clip.path, 22_050, **options)
        np.testing.assert_allclose(alone, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("preset", CEPSTRAL)
@pytest.mark.parametrize("kind", ["speech", "padded", "silence", "click", "short"])
def test_mel_spectrograms_equal_librosa(preset, kind):
    settings = features.front_end(preset)
    samples = {
        "speech": speech_like(1.0, 22_050),
        "padded": np.pad(speech_like(0.5, 22_050), (7000, 9001)),
        "silence": np.zeros(22_050, np.float32),
        "click": np.eye(1, 20_000, 3, dtype=np.float32)[0],
        "short": speech_like(1.0, 22_050)[: settings.fft_samples],
    }[kind]
    centred = settings.padding != "none"
    spectrum = librosa.stft(
        samples,
        n_fft=settings.fft_samples,
        hop_length=settings.hop_samples,
        win_length=settings.frame_samples,
        window=settings.window,
        center=centred,
        pad_mode=settings.padding if centred else "constant",
    )
    expected = features.mel_filters(settings) @ np.abs(spectrum) ** settings.power
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
    left = (16_000 - len(samples)) // 2
    samples = np.pad(samples, (left, 16_000 - len(samples) - left))
    spectrum = tf.abs(tf.signal.stft(samples.astype("f"), 1024, 256, 1024))
    filters = tf.signal.linear_to_mel_weight_matrix(128, 513, 16_000, 80.0, 7600.0)
    log_mel = tf.math.log(tf.matmul(spectrum, filters) + 1e-6)
    cepstra = tf.signal.mfccs_from_log_mel_spectrograms(log_mel)[:, :40]
    expected = tf.clip_by_value(cepstra, -10, 10).numpy()
    ours = features.extract(clips[0].path, settings, 16_000)
    assert ours.shape == expected.shape == (59, 40)
    # TensorFlow transforms in single precision.
    np.testing.assert_allclose(ours, expected, atol=2e-3)
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


def test_the_oracles_first_file():
    if not ORACLE.is_file() or not RAVDESS.is_dir():
        pytest.skip(f"the oracle {ORACLE.name} or its audio is not beside the project")
    path = RAVDESS / "Actor_01" / "03-01-05-01-01-01-01.flac"
    made = features.extract(path, features.front_end("timnet"), 110_000)
    expected = np.load(ORACLE)["mfcc_first_file"]
    np.testing.assert_allclose(made, expected, atol=1e-3)
    # Printed on the authors' page, from another version of librosa.
    assert made[0, 0] == pytest.approx(-732.261, rel=2e-3)


@pytest.mark.parametrize(
    ("there", "wanted", "expected"),
    [
        ([1, 2, 3], 6, [0, 1, 2, 3, 0, 0]),
        ([1, 2, 3, 4, 5, 6], 3, [2, 3, 4]),
        ([1, 2, 3], 3, [1, 2, 3]),
    ],
)
def test_padding_and_cropping_are_centred(there, wanted, expected):
    assert features.pad_or_crop(np.array(there), wanted).tolist() == expected
    both = features.pad_or_crop(np.array([there, there]), wanted)
    assert both.tolist() == [expected, expected]


def blas_threads():
    found = threadpoolctl.threadpool_info()
    return [each["num_threads"] for each in found if each["user_api"] == "blas"]


def test_extracting_in_many_threads_leaves_the_products_as_they_were(
    clips, monkeypatch
):
    before, seen, inside = blas_threads(), [], audio.features_of

    def watched(*arguments):
        seen.extend(blas_threads())
        return inside(*arguments)

    monkeypatch.setattr(audio, "features_of", watched)
    given = clips[0].path, features.front_end("timnet"), 22_050
    threads = [threading.Thread(target=features.extract, args=given) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert blas_threads() == before
    assert set(seen) == {1}


def test_training_needs_no_package_that_reads_audio():
    code = """
import sys
audio = ("librosa", "soxr")  # soundfile and natsort too, once lib.corpora can
sys.modules |= dict.fromkeys(audio)
import lib.audio, lib.augment, lib.features, lib.fold, lib.official, lib.train
"""
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


# --- audio ----------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 22_050, 48_000])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_audio_is_loaded_as_by_librosa(rate, channels, tmp_path):
    for samples in (1, 3, int(0.301 * rate)):
        rows = [speech_like(1, rate, seed)[:samples] for seed in range(channels)]
        soundfile.write(tmp_path / "a.wav", np.stack(rows, 1), rate)
        ours = features.load_audio(tmp_path / "a.wav", features.front_end("timnet"))
        expected, _ = librosa.load(tmp_path / "a.wav", sr=22_050)
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, expected[np.newaxis])


@pytest.mark.parametrize(
    ("form", "subtype"), [("WAV", "PCM_16"), ("WAVEX", "FLOAT"), ("AIFF", "PCM_24")]
)
def test_files_that_end_too_early_are_read_as_far_as_they_go(form, subtype, tmp_path):
    path = tmp_path / "a.wav"
    samples = np.stack([speech_like(0.1, 22_050), -np.ones(2205)], axis=1)
    soundfile.write(path, samples, 22_050, subtype, format=form)
    path.write_bytes(path.read_bytes()[:-1001])
    expected, _ = soundfile.read(path, dtype="float32")
    settings = features.front_end("timnet", {"channels": 2})
    for source in (path, io.BytesIO(path.read_bytes())):
        ours = features.load_audio(source, settings)
        np.testing.assert_array_equal(ours, expected.T)


# --- the numbers of a front end -------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "options", "message"),
    [
        ("timmet", {}, "'timmet' – did you mean 'timnet'"),
        ("timnet_official", {}, "imported, not extracted.*01_preprocess"),
        ("timnet", {"coeficients": 3}, "'coeficients' – did you mean 'coefficients'"),
        ("timnet", {"coefficients": 0}, "coefficients.*greater than or equal to 1"),
        ("timnet", {"coefficients": 200}, "coefficients exceeds mel_bands"),
        ("timnet", {"coefficients": True}, "coefficients.*valid integer"),
        ("timnet", {"frame_samples": 4096}, "frame_samples exceeds fft_samples"),
        ("timnet", {"padding": "mirror"}, "padding.*'constant', 'reflect' or 'none'"),
        ("timnet", {"hop_samples": 10**9}, "hop_samples exceeds frame_samples"),
        ("timnet", {"power": 3}, "power.*less than or equal to 2"),
        ("timnet", {"window": "hunn"}, "Invalid window name 'hunn'"),
        ("timnet", {"low_hertz": 9e3, "high_hertz": 8e3}, "not below high_hertz"),
        ("timnet", {"high_hertz": 2e4}, "above half the rate, 11025"),
        ("timnet", {"limit": float("nan")}, "limit.*greater than|limit.*finite"),
        ("timnet", {"clip_seconds": float("inf")}, "clip_seconds.*finite"),
        ("timnet", {"pieces": "all", "clip_seconds": 1e-9}, "needs clip_seconds"),
        ("timnet", {"kind": "egemaps"}, "only sample_rate can be replaced"),
        ("egemaps", {"pieces": "all", "clip_seconds": 2}, "only sample_rate"),
    ],
)
def test_wrong_settings_are_named(preset, options, message):
    with pytest.raises(ValueError, match=message):
        features.front_end(preset, options)


def test_the_same_numbers_have_the_same_name():
    for preset, settings in features.PRESETS.items():
        assert features.preset_name(preset) == preset
        assert features.preset_name(preset, dataclasses.asdict(settings)) == preset
    same = {"mel_rate": 22_050}, {"high_hertz": 11_025}, {"clip_seconds": 0}
    assert {features.preset_name("timnet", one) for one in same} == {"timnet"}
    numbers = 13, 14
    names = [features.preset_name("timnet", {"coefficients": one}) for one in numbers]
    assert len({*names, "timnet"}) == 3
    assert names[0].startswith("timnet-") and len(names[0]) == 15


# --- the feature file -----------------------------------------------------------------


def test_the_file_is_what_it_promises_and_is_made_once(clips, corpus, tmp_path):
    made = extracted(corpus, clips, tmp_path)
    assert made.path == tmp_path / "TINY-timnet.npz" and made.made == 6
    with np.load(made.path, allow_pickle=False) as file:
        arrays = dict(file)
    assert list(arrays) == list(features.ARRAYS)
    assert arrays["x"].shape == (6, 44, 39) and arrays["x"].dtype == np.float32
    assert arrays["y"].tolist() == [0, 0, 0, 1, 1, 1]
    assert arrays["label_names"].tolist() == ["calm", "loud"]
    assert arrays["file"].tolist() == [f"{index}.wav" for index in range(6)]
    assert arrays["speaker"].tolist() == ["a", "b"] * 3
    about = json.loads(made.path.with_suffix(".json").read_text())
    assert about == made.features.about == features.load(made.path).about
    assert about["counts"] == {"calm": 3, "loud": 3} and about["failed"] == {}
    assert about["hop_seconds"] == 512 / 22_050
    assert (about["clip_samples"], about["dilations"]) == (22_050, 4)
    assert about["settings"] == dataclasses.asdict(features.front_end("timnet"))
    assert about["x_sha256"] == hashlib.sha256(arrays["x"].tobytes()).hexdigest()
    rows = []
    for clip in clips:
        content = hashlib.sha256(clip.path.read_bytes()).hexdigest()
        tags = clip.label, clip.speaker, clip.sex, clip.text, clip.key
        rows.append([clip.file, content, *tags])
    text = json.dumps(rows, separators=(",", ":"))
    assert about["data_sha256"] == hashlib.sha256(text.encode()).hexdigest()
    stamp = made.path.stat().st_mtime_ns
    again = extracted(corpus, clips, tmp_path)
    assert again.made == 0 and made.path.stat().st_mtime_ns == stamp
    np.testing.assert_array_equal(made.features.x, again.features.x)
    assert extracted(corpus, clips, tmp_path, overwrite=True).made == 6


def test_other_data_or_settings_never_take_the_old_numbers(clips, corpus, tmp_path):
    first = extracted(corpus, clips, tmp_path)
    with pytest.raises(ValueError, match="441 samples is shorter than a frame of"):
        extracted(corpus, clips, tmp_path, "timnet", {"clip_seconds": 0.02})
    other = extracted(corpus, clips, tmp_path, "timnet", {"coefficients": 13})
    assert other.path != first.path and other.features.x.shape[-1] == 13
    corrected = dataclasses.replace(clips[0], label="loud", speaker="b")
    made = extracted(corpus, [corrected, *clips[1:]], tmp_path)
    assert made.made == 6
    assert (made.features.y[0], made.features.speaker[0]) == (1, "b")
    longer = dataclasses.replace(corpus, clip_samples=44_100)
    assert extracted(longer, clips, tmp_path).features.x.shape == (6, 87, 39)
    deeper = dataclasses.replace(corpus, dilations=5)
    assert extracted(deeper, clips, tmp_path).features.about["dilations"] == 5
    samples, rate = soundfile.read(clips[2].path)
    soundfile.write(clips[2].path, samples[::-1], rate)
    made = extracted(corpus, clips, tmp_path)
    differs = (made.features.x != first.features.x).any(axis=(1, 2))
    assert differs.tolist() == [False, False, True, False, False, False]


def test_bad_clips_are_left_out_reported_and_taken_back(clips, corpus, tmp_path):
    kept = clips[1].path.read_bytes()
    clips[1].path.write_bytes(b"RIFF....WAVE")
    soundfile.write(clips[3].path, [], 16_000)
    soundfile.write(clips[4].path, [0.1, np.nan, 0.1], 16_000, subtype="FLOAT")
    made = extracted(corpus, clips, tmp_path)
    failed = made.features.about["failed"]
    assert sorted(failed) == ["1.wav", "3.wav", "4.wav"]
    assert failed["3.wav"] == "holds no samples"
    assert failed["4.wav"] == "holds samples that are not finite numbers"
    assert made.features.file.tolist() == ["0.wav", "2.wav", "5.wav"]
    assert extracted(corpus, clips, tmp_path).made == 0
    clips[1].path.write_bytes(kept)
    assert extracted(corpus, clips, tmp_path).made == 4
    for clip in clips:
        clip.path.write_bytes(b"")
    nothing = "no clip can be read: .*'0.wav', 'not readable"
    with pytest.raises(ValueError, match=nothing):
        extracted(corpus, clips, tmp_path)
    clips[2].path.unlink()
    with pytest.raises(FileNotFoundError, match="2.wav"):
        extracted(corpus, clips, tmp_path)


def flip(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGE = [
    lambda npz, about: (flip(npz, 5000), about),
    lambda npz, about: (npz[:1000], about),
    # A flag of the zip directory that asks for a password.
    lambda npz, about: (flip(npz, npz.index(b"PK\x01\x02") + 8), about),
    lambda npz, about: (npz, b"[]"),
    lambda npz, about: (npz, about[:100]),
    lambda npz, about: (npz, about.replace(b'"arrays_sha256"', b'"arrays"')),
]


def test_damaged_files_and_other_arrays_are_noticed_and_made_again(
    clips, corpus, tmp_path
):
    with pytest.raises(FileNotFoundError, match="01_preprocess"):
        features.load(tmp_path / "X-timnet.npz")
    made = extracted(corpus, clips, tmp_path)
    beside = made.path.with_suffix(".json")
    whole = made.path.read_bytes(), beside.read_bytes()
    for damage in DAMAGE:
        npz, about = damage(*whole)
        made.path.write_bytes(npz)
        beside.write_bytes(about)
        with pytest.raises(ValueError, match="damaged.*01_preprocess"):
            features.load(made.path)
    assert extracted(corpus, clips, tmp_path).made == 6
    np.testing.assert_array_equal(features.load(made.path).x, made.features.x)
    twice = np.array(["0.wav"] * 6)
    features.save(made.path, dataclasses.replace(made.features, file=twice))
    with pytest.raises(ValueError, match="holds a clip twice"):
        features.load(made.path)


# --- pieces and functionals -----------------------------------------------------------


def test_pieces_are_the_parts_of_an_utterance(clips, corpus, tmp_path):
    chosen = {"pieces": "all", "clip_seconds": 0.5}
    settings = features.front_end("lightsernet", chosen)
    made = extracted(corpus, clips, tmp_path, "lightsernet", chosen)
    # 0.6, 0.8, ... 1.6 seconds; what remains after the last whole piece is dropped.
    expected = [1, 1, 2, 2, 2, 3]
    x = made.features.x
    clips_of_all, owner = features.pieces(x)
    assert x.shape[:2] == (6, 3)
    assert owner.tolist() == np.repeat(np.arange(6), expected).tolist()
    assert np.isnan(x).all(axis=(2, 3)).sum() == x.shape[1] * 6 - sum(expected)
    samples = features.load_audio(clips[5].path, settings)
    samples = np.clip(samples / np.percentile(np.abs(samples), 99.9), -1, 1)
    for number, piece in enumerate(clips_of_all[owner == 5]):
        part = samples[:, 8000 * number : 8000 * (number + 1)]
        np.testing.assert_allclose(piece, features.cepstrum(part, settings), atol=1e-5)
    assert extracted(corpus, clips, tmp_path, "lightsernet", chosen).made == 0
    short = features.features_of(samples[:, :10], settings, 8000)
    assert short.shape == clips_of_all[:1].shape  # padded to one piece
    _, rows = features.pieces(x[:, 0])
    assert rows.tolist() == list(range(6))


def test_without_opensmile_the_command_that_installs_it_is_named(
    clips, corpus, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(ModuleNotFoundError, match="pip install opensmile"):
        extracted(corpus, clips, tmp_path, "egemaps")
    assert not list(tmp_path.glob("*.npz"))


def test_functionals_are_those_of_opensmile(clips, corpus, tmp_path):
    opensmile = pytest.importorskip("opensmile")
    soundfile.write(clips[1].path, np.zeros(300), 16_000)
    made = extracted(corpus, clips, tmp_path, "egemaps").features
    assert made.x.shape == (5, 1, 88) and np.isfinite(made.x).all()
    assert "too short for eGeMAPS" in made.about["failed"]["1.wav"]
    assert "opensmile" in made.about["versions"]
    samples, _ = librosa.load(clips[0].path, sr=16_000)
    peer = opensmile.Smile("eGeMAPSv02", "func").process_signal(samples, 16_000)
    np.testing.assert_allclose(made.x[0, 0], peer.to_numpy()[0], rtol=1e-5)


# --- what the parameters ask for ------------------------------------------------------


@pytest.fixture
def mine(tmp_path):
    """A workspace with a registered corpus of 8 clips, and their folder."""
    recordings, rows = tmp_path / "recordings", []
    recordings.mkdir()
    for index in range(8):
        file, label = f"{index}.wav", ("calm", "cross")[index % 2]
        soundfile.write(recordings / file, speech_like(0.6, 16_000, index), 16_000)
        rows.append((file, label, f"s{index // 2}"))
    table = recordings / "table.csv"
    pd.DataFrame(rows, columns=["file", "label", "speaker"]).to_csv(table, index=False)
    corpora.register("MINE", table, tmp_path / "Datasets", clip_seconds=0.6)
    return tmp_path, recordings


def asked(root, **given):
    own = {"workspace": str(root), "corpus": "MINE", "verbose": 0}
    return config.validated(own | given)


def test_what_was_obtained_accounts_for_every_clip(mine):
    root, recordings = mine
    corpus, data = features.obtain(asked(root))
    audit = data.about["audit"]
    assert [audit[name] for name in ("expected", "found", "used")] == [8, 8, 8]
    assert audit["dropped"] == {} and (root / "MFCC" / "MINE-audio.json").is_file()
    report = corpora.check(corpus, root / "Datasets" / "MINE")
    by_file = report.clips.set_index("file")["content"]
    assert data.content.tolist() == by_file[data.file].tolist()
    assert features.load(root / "MFCC" / "MINE-timnet.npz").about == data.about
    assert set(features.audio_paths(asked(root), corpus)) == set(data.file)
    (recordings / "3.wav").write_bytes((recordings / "3.wav").read_bytes()[:3000])
    with pytest.raises(ValueError, match="(?s)3.wav.*ignore_problems"):
        features.obtain(asked(root))
    _, data = features.obtain(asked(root, ignore_problems=True))
    audit = data.about["audit"]
    assert (audit["found"], audit["used"], len(data)) == (8, 7, 7)
    assert audit["dropped"] == {"3.wav": "truncated"}
    assert "truncated" in [problem["kind"] for problem in audit["problems"]]


def test_clips_without_features_stop_until_told(mine, monkeypatch):
    root, _ = mine
    real = features.features_of

    def fails_for_one(samples, *rest):
        if np.array_equal(samples, refused):
            raise ValueError("too short for this front end")
        return real(samples, *rest)

    refused = features.load_audio(mine[1] / "0.wav", features.front_end("timnet"))
    monkeypatch.setattr(features, "features_of", fails_for_one)
    said = "(?s)1 clips give no features: .*'0.wav', 'too short.*ignore_problems = True"
    for _ in range(2):
        with pytest.raises(ValueError, match=said):
            features.obtain(asked(root))
    _, data = features.obtain(asked(root, ignore_problems=True))
    audit = data.about["audit"]
    assert audit["used"] == 7 and list(audit["dropped"]) == ["0.wav"]
    assert "without features" in [problem["kind"] for problem in audit["problems"]]


def test_without_audio_the_file_is_taken_with_its_verdict(mine):
    root, _ = mine
    _, data = features.obtain(asked(root))
    emodb, folder = corpora.get("EMODB"), root / "MFCC"
    problem = {"severity": "error", "kind": "missing", "message": "Missing 529 of 535."}
    right = {
        **data.about,
        "corpus": "EMODB",
        "labels": list(emodb.labels),
        "clip_samples": emodb.clip_samples,
        "audit": {"problems": [problem]},
    }

    def taken(about, **given):
        path = features.feature_path(folder, "EMODB", given.get("features", "timnet"))
        features.save(path, dataclasses.replace(data, about=about))
        return features.obtain(asked(root, corpus="EMODB", **given))[1]

    with pytest.raises(FileNotFoundError, match="(?i)emo-?db"):
        features.obtain(asked(root, corpus="EMODB"))
    with pytest.raises(ValueError, match="(?s)Missing 529.*ignore_problems = True"):
        taken(right)
    np.testing.assert_array_equal(taken(right, ignore_problems=True).x, data.x)
    for wrong in (
        {"corpus": "MINE"},
        {"labels": ["calm", "cross"]},
        {"clip_samples": 13_230},
        {"features": "cktim"},
    ):
        with pytest.raises(ValueError, match="holds .* by '.*'.*01_preprocess"):
            taken(right | wrong, ignore_problems=True)
    with pytest.raises(ValueError, match="holds EMODB by 'timnet'.*01_preprocess"):
        taken(right | {"settings": None}, features="timnet_official")
    with pytest.raises(ValueError, match="no feature_options"):
        taken(right, features="timnet_official", feature_options={"limit": 3.0})
