"""The features of a corpus: front ends, and the files that keep what they computed.

The numbers of a front end are part of the model: the same weights on the same audio
lose up to eight points when only the resampler is changed.
"""

import dataclasses
import functools
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

import joblib
import numpy as np
import pydantic.dataclasses
import scipy.fft
import scipy.signal
import threadpoolctl
import yaml
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from sklearn.preprocessing import StandardScaler
from tqdm.auto import tqdm

from lib import config, corpora, files
from lib.corpora import Clip, Corpus, Report
from lib.corpora.check import read_blocks

OFFICIAL = "timnet_official"  # the authors' own arrays; see lib.official
MANY_CLIPS = 1000
FRAMES_AT_A_TIME = 16  # so that they stay in the processor's cache
PACKAGES = ("librosa", "soxr", "soundfile", "numpy", "scipy", "opensmile")


@pydantic.dataclasses.dataclass(frozen=True, config={"strict": True})
class FrontEnd:
    """Every number that decides the features; `PRESETS` has the published ones."""

    kind: Literal["cepstrum", "egemaps"] = "cepstrum"  # or eGeMAPSv02's functionals
    sample_rate: PositiveInt = 22_050  # Hz, after resampling
    clip_seconds: NonNegativeFloat = 0.0  # length of a clip; 0: the corpus's own
    # "all": an utterance is cut into pieces of clip_seconds, the rest is dropped. A row
    # stays one utterance, so that folds never part its pieces.
    pieces: Literal["one", "all"] = "one"
    channels: Literal[1, 2] = 1  # 1: their mean; 2: left, then right along time
    # "percentile": divided by the 99.9th of the magnitudes and clipped to [-1, 1].
    scale: Literal["none", "percentile"] = "none"
    window: str = "hann"  # a name that scipy.signal.get_window knows
    frame_samples: PositiveInt = 2048  # length of the window
    hop_samples: PositiveInt = 512  # between two frames
    fft_samples: PositiveInt = 2048
    padding: Literal["constant", "reflect", "none"] = "constant"  # "none": not centred
    power: Literal[1, 2] = 2  # 1: magnitudes; 2: power spectrum
    mel_bands: PositiveInt = 128
    # "slaney": of equal area; "htk_in_mel": triangles in mel, as TensorFlow has them.
    mel_filters: Literal["slaney", "htk", "htk_in_mel"] = "slaney"
    mel_rate: NonNegativeInt = 0  # Hz the filters assume; 0: sample_rate
    low_hertz: NonNegativeFloat = 0.0
    high_hertz: NonNegativeFloat = 0.0  # 0: half the rate
    # "decibel": not below the clip's maximum less 80 dB; "natural": of value + 1e-6.
    logarithm: Literal["decibel", "natural"] = "decibel"
    coefficients: PositiveInt = 39  # from c0
    limit: NonNegativeFloat = 0.0  # coefficients are clipped to +-limit; 0: they aren't

    @property
    def hop_seconds(self) -> float:
        """Time between two frames in seconds."""
        return self.hop_samples / self.sample_rate


_DATA = Path(__file__).parent / "data" / "front_ends.yaml"
_PRESETS = yaml.safe_load(_DATA.read_text(encoding="utf-8"))
PRESETS = {name: FrontEnd(**values) for name, values in _PRESETS.items()}


def front_end(preset: str, options: Mapping[str, object] | None = None) -> FrontEnd:
    """Return a preset with some of its values replaced."""
    if preset not in PRESETS:
        hint = config.did_you_mean(preset, PRESETS, "there are")
        if preset == OFFICIAL:
            hint = ": it is imported by 01_preprocess with official_features"
        raise ValueError(f"no feature preset '{preset}'{hint}")
    what = f"features '{preset}'"
    own = functools.partial(FrontEnd, **dataclasses.asdict(PRESETS[preset]))
    made = FrontEnd(**config.with_defaults(what, own, options or {}))
    half = (made.mel_rate or made.sample_rate) / 2
    band = [made.low_hertz, made.high_hertz or half, half]
    sizes = [made.hop_samples, made.frame_samples, made.fft_samples]
    rows = [made.coefficients, made.mel_bands]
    if any(row != sorted(row) for row in (band, sizes, rows)) or band[0] == band[1]:
        rule = f"low_hertz < high_hertz <= {half:g} (half the rate), hop_samples <= "
        rule += "frame_samples <= fft_samples and coefficients <= mel_bands"
        raise ValueError(f"{what}: give {rule}")
    only = dataclasses.replace(PRESETS["egemaps"], sample_rate=made.sample_rate)
    if made.kind == "egemaps" and made != only:
        raise ValueError("of the options of 'egemaps' only sample_rate can be replaced")
    scipy.signal.get_window(made.window, made.frame_samples)
    return made


def preset_name(preset: str, options: Mapping[str, object] | None = None) -> str:
    """Return the name of a preset's files: replaced values add eight hex digits."""
    chosen = front_end(preset, options)
    digest = config.digest(dataclasses.asdict(chosen))
    return preset if chosen == PRESETS[preset] else f"{preset}-{digest}"


def load_audio(source: Path | BinaryIO, settings: FrontEnd) -> np.ndarray:
    """Read float32 (channels, samples), resampled to the rate of the front end."""
    import librosa  # in functions: training on ready-made features does not need them
    import soundfile

    try:
        with soundfile.SoundFile(source) as sound:
            samples = read_blocks(sound)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"not readable as audio: {error.error_string}") from error
    if not samples.size or not np.isfinite(samples).all():
        raise ValueError("holds no samples, or values that are not finite numbers")
    samples = samples.T if settings.channels == 1 else np.tile(samples.T, (2, 1))[:2]
    if len(samples) > settings.channels:
        samples = samples.mean(axis=0, keepdims=True)
    rates = {"orig_sr": sound.samplerate, "target_sr": settings.sample_rate}
    return librosa.resample(samples, **rates)


def pad_or_crop(samples: np.ndarray, length: int) -> np.ndarray:
    """Centre a signal (..., samples) in `length`: zeros around, or its middle."""
    # As in TIM-Net's code, an odd zero goes to the end; a crop's start is rounded down.
    lacking = length - samples.shape[-1]
    start, left = max(0, -lacking) // 2, max(0, lacking) // 2
    around = [(0, 0)] * (samples.ndim - 1) + [(left, max(0, lacking) - left)]
    return np.pad(samples[..., start : start + length], around)


def clip_length(settings: FrontEnd, corpus: Corpus) -> int:
    """Return the samples of a clip, or of a piece, at the rate of the front end."""
    seconds = settings.clip_seconds or corpus.clip_samples / 22_050  # Hz
    length = round(seconds * settings.sample_rate)
    if settings.kind == "cepstrum" and length < settings.fft_samples:
        raise ValueError(f"clip_seconds: {length} samples is shorter than a frame")
    return length


def num_frames(settings: FrontEnd, length: int) -> int:
    """Return how many frames a clip of `length` samples has, per channel."""
    if settings.kind == "egemaps":
        return 1
    outside = settings.fft_samples if settings.padding == "none" else 0
    return 1 + (length - outside) // settings.hop_samples


@functools.lru_cache(maxsize=16)
def mel_filters(settings: FrontEnd) -> np.ndarray:
    """Return the filter bank, float32, (mel_bands, fft_samples / 2 + 1)."""
    import librosa

    rate, size = settings.mel_rate or settings.sample_rate, settings.fft_samples
    low, high = settings.low_hertz, settings.high_hertz or rate / 2
    if settings.mel_filters != "htk_in_mel":
        htk = settings.mel_filters == "htk"
        kind = {"htk": htk, "norm": None if htk else "slaney"}
        band = {"n_mels": settings.mel_bands, "fmin": low, "fmax": high}
        return librosa.filters.mel(sr=rate, n_fft=size, **band, **kind)
    mels = librosa.hz_to_mel(librosa.fft_frequencies(sr=rate, n_fft=size), htk=True)
    ends = librosa.hz_to_mel(np.array([low, high]), htk=True)
    edges = np.linspace(*ends, settings.mel_bands + 2)
    corners = np.lib.stride_tricks.sliding_window_view(edges, 3)
    filters = np.stack([np.interp(mels, three, [0, 1, 0]) for three in corners])
    filters[:, 0] = 0  # the constant part of a signal carries no speech
    return filters.astype(np.float32)


def mel_spectrogram(samples: np.ndarray, settings: FrontEnd) -> np.ndarray:
    """Return the mel spectrogram (mel_bands, frames) of one channel (samples,)."""
    size = settings.fft_samples
    if settings.padding != "none":
        samples = np.pad(samples, size // 2, mode=settings.padding)
    window = scipy.signal.get_window(settings.window, settings.frame_samples)
    window = pad_or_crop(window, size)
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)
    frames = frames[:: settings.hop_samples]  # (frames, fft_samples)
    power = np.zeros((len(frames), size // 2 + 1), np.float32)
    sounding = np.flatnonzero(frames.any(axis=1))  # the rest of a padded clip stays 0
    for some in np.array_split(sounding, len(sounding) // FRAMES_AT_A_TIME + 1):
        # librosa's roundings: the transform in double precision, the rest in single.
        spectra = scipy.fft.rfft(frames[some] * window).astype(np.complex64)
        power[some] = np.abs(spectra) ** settings.power
    return mel_filters(settings) @ power.T


def cepstrum(samples: np.ndarray, settings: FrontEnd) -> np.ndarray:
    """Return the cepstra (frames, coefficients) of a clip (channels, samples)."""
    rows = []  # the frames of the left channel, then those of the right one
    for channel in samples:
        mel = mel_spectrogram(channel, settings)
        if settings.logarithm == "decibel":
            logarithm = 10 * np.log10(np.maximum(mel, 1e-10))
            logarithm = np.maximum(logarithm, logarithm.max() - 80)
        else:
            logarithm = np.log(mel + 1e-6)
        kept = scipy.fft.dct(logarithm, axis=0, norm="ortho")[: settings.coefficients]
        if settings.logarithm == "natural":
            kept[0] *= np.sqrt(2.0)  # TensorFlow scales c0 like the other ones
        rows.append(kept.T)
    limit = settings.limit or np.inf
    return np.clip(np.concatenate(rows), -limit, limit)


def features_of(samples: np.ndarray, settings: FrontEnd, length: int) -> np.ndarray:
    """Return float32 ([pieces,] frames, coefficients) of (channels, samples)."""
    if settings.kind == "egemaps":
        return _functionals(samples[0], settings.sample_rate)
    if settings.pieces == "one":
        # Crop first: loudness outside the clip must not decide its scale.
        samples = pad_or_crop(samples, min(length, samples.shape[-1]))
    if settings.scale == "percentile":
        loud = np.percentile(np.abs(samples), 99.9) or 1.0
        samples = np.clip(samples / loud, -1.0, 1.0)
    if samples.shape[-1] < length:
        samples = pad_or_crop(samples, length)
    count = samples.shape[-1] // length
    clips = np.split(samples[..., : count * length], count, axis=-1)
    made = np.stack([cepstrum(clip, settings) for clip in clips])
    return made if settings.pieces == "all" else made[0]


def extract(source: Path | BinaryIO, settings: FrontEnd, length: int) -> np.ndarray:
    """Return float32 ([pieces,] frames, coefficients) of one audio file."""
    with _limiting, _one_thread_a_product():
        return features_of(load_audio(source, settings), settings, length)


# Several threads sum in another order: a cached clip would differ from one that is
# extracted alone. The limit is the process's: two would lift it for each other.
_blas = threadpoolctl.ThreadpoolController()
_one_thread_a_product = functools.partial(_blas.limit, limits=1, user_api="blas")
_limiting = threading.Lock()
_in_opensmile = threading.Lock()  # which does not promise that threads may share it


def _functionals(samples: np.ndarray, rate: int) -> np.ndarray:
    """Return the eGeMAPS of one channel, float32, (1, 88); what is undefined is 0."""
    try:
        import opensmile
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("'egemaps' need `pip install opensmile`") from error
    with _in_opensmile:
        smile = opensmile.Smile("eGeMAPSv02", "func")
        row = smile.process_signal(samples, rate).to_numpy(np.float32)
    if np.isnan(row).all():
        raise ValueError(f"{len(samples)} samples are too short for eGeMAPS")
    return np.nan_to_num(row, nan=0.0, posinf=0.0, neginf=0.0)


def in_parallel(function: Callable, items: Sequence, bar: str = "") -> list:
    """Return a function's results for all items; `bar` names a progress bar."""
    # Threads wait for each other; processes do not, but take seconds to start.
    way = "threads" if len(items) < MANY_CLIPS else "processes"
    workers = joblib.Parallel(-1, prefer=way, return_as="generator")
    with _limiting, _one_thread_a_product():
        results = workers(joblib.delayed(function)(item) for item in items)
        return list(tqdm(results, bar, len(items), unit="clip", disable=not bar))


def data_hash(clips: Sequence[Clip], content: Sequence[str]) -> str:
    """Return the SHA-256 of files, their contents and what is said of them."""
    rows = [
        [clip.file, one, clip.label, clip.speaker, clip.sex, clip.text, clip.key]
        for clip, one in zip(clips, content, strict=True)
    ]
    return config.digest(rows, length=64)


def write(
    folder: Path, corpus: Corpus, clips: Sequence[Clip], x: np.ndarray, about: dict
) -> files.FeatureSet:
    """Write the feature file of clips, with all that is known of them."""
    labels = [clip.label for clip in clips]
    about = {
        "corpus": corpus.name,
        "synthetic": corpus.synthetic,
        "labels": list(corpus.labels),
        "counts": {label: labels.count(label) for label in corpus.labels},
        "shape": list(x.shape),
        "dilations": corpus.dilations,
    } | about
    y = np.array([corpus.labels.index(label) for label in labels])
    names = ("file", "speaker", "sex", "text")
    tags = (np.array([getattr(clip, name) for clip in clips]) for name in names)
    made = files.FeatureSet(x, y, np.array(corpus.labels), *tags, about)
    name = f"{corpus.name}-{about['features']}.npz"
    return files.write_features(folder / name, made)


def prepare(
    params: config.Parameters,
    corpus: Corpus,
    clips: Sequence[Clip],
    report: Report | None = None,
    *,
    overwrite: bool = False,
) -> tuple[files.FeatureSet, int]:
    """Return the features of clips, and how many were extracted just now.

    Changed audio, labels, speakers or settings never take the old numbers. The document
    says which clips have "failed" and, with a report, in "audit" what is wrong.
    """
    preset = params.feature_preset, params.feature_options
    settings, name = front_end(*preset), preset_name(*preset)
    length = clip_length(settings, corpus)
    if report:
        known = report.clips.set_index("file")
        hashes = known["sha256"][[clip.file for clip in clips]].tolist()
    else:
        hashes = in_parallel(files.sha256_file, [clip.path for clip in clips])
    key = {
        "settings": dataclasses.asdict(settings),
        "labels": list(corpus.labels),
        "synthetic": corpus.synthetic,
        "clip_samples": length,
        "dilations": corpus.dilations,
        # Clips that failed are in it too: one that was mended is noticed.
        "audio_sha256": data_hash(clips, hashes),
    }
    target, new = params.folders.features / f"{corpus.name}-{name}.npz", 0
    features = None if overwrite else files.find_features(target, key)
    if features is None:

        def attempt(clip: Clip) -> np.ndarray | str:
            try:
                row = features_of(load_audio(clip.path, settings), settings, length)
            except ValueError as error:
                return str(error)
            return row if np.isfinite(row).all() else "its features are not finite"

        made = in_parallel(attempt, clips, "clips" if params.verbose == 1 else "")
        parts = list(zip(clips, hashes, made, strict=True))
        failed = {clip.file: why for clip, _, why in parts if isinstance(why, str)}
        if len(failed) == len(clips):
            raise ValueError(f"no clip can be read: {[*failed.items()][:4]}")
        good = (part for part in parts if part[0].file not in failed)
        kept, content, rows = zip(*good, strict=True)
        used = [sys.modules[name] for name in PACKAGES if name in sys.modules]
        about = {
            "features": name,
            "hop_seconds": settings.hop_seconds,
            "failed": failed,
            "data_sha256": data_hash(kept, content),
            "versions": {module.__name__: module.__version__ for module in used},
        }
        features = write(target.parent, corpus, kept, files.stacked(rows), about | key)
        new = len(features)
    if report:
        failed, expected = features.about["failed"], report.counts["expected"]
        table = report.to_frame().query("severity != 'note'")
        problems = table.drop(columns="fix").to_dict("records")
        if failed:
            message = f"{len(failed)} clips give no features: {[*failed.items()][:4]}."
            kind = {"severity": "error", "kind": "without features"}
            problems.append(kind | {"files": len(failed), "message": message})
        audit = {
            "expected": None if expected.isna().any() else int(expected.sum()),
            "found": len(report.utterances),
            "used": len(features),
            "dropped": known["fault"][~known["usable"]].to_dict() | failed,
            "problems": problems,
        }
        content = known["content"][features.file].tolist()
        about = {**features.about, "audit": audit, "content": content}
        if about != features.about:
            files.write_json(target.with_suffix(".json"), about)
        features = dataclasses.replace(features, about=about)
    return features, new


def obtain(params: config.Parameters) -> tuple[Corpus, files.FeatureSet]:
    """Return the corpus and the features that the parameters ask for.

    DEMO is generated if it is not whole. A copy of a corpus is always examined. Where
    only a feature file is at hand, it is taken with its verdict.
    """
    datasets, folder = params.folders.datasets, params.folders.features
    corpus, name = corpora.get(params.corpus, datasets), params.feature_preset
    length, options = corpus.clip_samples, params.feature_options
    if name != OFFICIAL:
        length = clip_length(front_end(name, options), corpus)
        name = preset_name(name, options)
    elif options:
        raise ValueError(f"features '{OFFICIAL}' have no feature_options")
    audio, target = datasets / corpus.name, folder / f"{corpus.name}-{name}.npz"
    if corpus.name == "DEMO" and name != OFFICIAL:
        corpora.demo.generate(audio, verbose=params.verbose)
    if name == OFFICIAL or not audio.is_dir() and target.is_file():
        features = files.read_features(target)
        own = {"corpus": corpus.name, "labels": list(corpus.labels)}
        own |= {"features": name, "clip_samples": length}
        if {**features.about, **own} != features.about:
            fault = "is of another corpus, or of other labels or clip lengths"
            raise ValueError(f"{target} {fault}; make it again with 01_preprocess")
    else:
        progress, known = params.verbose == 1, folder / f"{corpus.name}-audio.json"
        report = corpora.check(corpus, audio, cache=known, progress=progress)
        report.require_ok(params.ignore_problems)
        features, _ = prepare(params, corpus, report.usable, report)
    problems = features.about.get("audit", {}).get("problems", [])
    errors = [one["message"] for one in problems if one["severity"] == "error"]
    if errors and not params.ignore_problems:
        way = "set ignore_problems = True to use these features all the same"
        raise ValueError("\n".join([f"{target}: {len(errors)} errors; {way}", *errors]))
    return corpus, normalised(features, params.normalisation)


def normalised(features: files.FeatureSet, how: str) -> files.FeatureSet:
    """Return features of which every coefficient is normalised, clip by clip.

    "clip" subtracts its mean over the clip. "speaker" also divides by the deviation,
    both over all clips of the speaker, the tested ones too: it is transductive. "none"
    leaves all as it is; so does "train", which the network itself does, by its rows.
    """
    x = features.x
    if how == "clip":
        x = without_mean(x)
    elif how == "speaker":
        x = x.copy()
        for rows in (features.speaker == name for name in np.unique(features.speaker)):
            frames = x[rows].reshape(-1, x.shape[-1])  # lacking pieces are NaN
            x[rows] = StandardScaler().fit_transform(frames).reshape(x[rows].shape)
    return dataclasses.replace(features, x=x)


def without_mean(x: np.ndarray) -> np.ndarray:
    """Return clips (..., frames, coefficients) less their mean over the frames."""
    return x - x.mean(axis=-2, keepdims=True, dtype=float).astype(np.float32)


def audio_paths(params: config.Parameters, corpus: Corpus) -> dict[str, Path]:
    """Return where the audio of every file lies, empty where it is not at hand."""
    clips, _ = corpora.find(corpus, params.folders.datasets / corpus.name)
    return {clip.file: clip.path for clip in clips}
