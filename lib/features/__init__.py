"""From audio to arrays: load, resample, pad or crop, cepstral coefficients, cache.

The presets are the front ends of the published systems. Their numbers are part
of the models: the same weights on the same audio lose up to eight points when
only the resampler is changed.
"""

from lib.features.copies import augmented_copies
from lib.features.extraction import (
    Extraction,
    audio_paths,
    obtain,
    prepare,
    prepare_checked,
)
from lib.features.frontend import PRESETS, FrontEnd, front_end, preset_name
from lib.features.official import adopt_official, import_official, official_tags
from lib.features.signal import (
    clip_length,
    extract,
    load_audio,
    num_frames,
    pad_or_crop,
)
from lib.features.spectrum import cepstrum, mel_filters, mel_spectrogram
from lib.features.store import (
    FeatureSet,
    feature_path,
    load,
    pieces,
    read_about,
    save,
)

__all__ = [
    "PRESETS",
    "Extraction",
    "FeatureSet",
    "FrontEnd",
    "adopt_official",
    "audio_paths",
    "augmented_copies",
    "cepstrum",
    "clip_length",
    "extract",
    "feature_path",
    "front_end",
    "import_official",
    "load",
    "load_audio",
    "mel_filters",
    "mel_spectrogram",
    "num_frames",
    "pad_or_crop",
    "obtain",
    "official_tags",
    "pieces",
    "prepare",
    "prepare_checked",
    "preset_name",
    "read_about",
    "save",
]
