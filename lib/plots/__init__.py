"""Every figure of the workbook: data and an axis in, the axis out.

Call `style()` once in a notebook. Every function takes `ax=None` (a new figure
of its own size) and `title=""`, and returns the axis. Scores are shares (0 to 1)
and are shown in per cent. An emotion has the same colour in every figure.
"""

from lib.plots.clips import mel_spectrogram, mfcc, probabilities, waveform
from lib.plots.corpus import counts, duration_histogram, label_counts
from lib.plots.forest import differences, leaderboard, published_versus_ours
from lib.plots.look import emotion_colours, speaker_colours, style
from lib.plots.results import (
    class_recall,
    confusion_matrix,
    reliability_diagram,
    speaker_dots,
)
from lib.plots.schematics import structure
from lib.plots.space import embedding, purity_bars
from lib.plots.systems import (
    best_so_far,
    footprint,
    histogram,
    level_weights,
    magnitudes,
    over_time,
)
from lib.plots.timnet import fusion_weights, receptive_field, receptive_frames
from lib.plots.training import folds_grid, training_curves

__all__ = [
    "best_so_far",
    "class_recall",
    "confusion_matrix",
    "counts",
    "differences",
    "duration_histogram",
    "embedding",
    "emotion_colours",
    "folds_grid",
    "footprint",
    "fusion_weights",
    "histogram",
    "label_counts",
    "leaderboard",
    "level_weights",
    "magnitudes",
    "mel_spectrogram",
    "mfcc",
    "over_time",
    "probabilities",
    "published_versus_ours",
    "purity_bars",
    "receptive_field",
    "receptive_frames",
    "reliability_diagram",
    "speaker_colours",
    "speaker_dots",
    "structure",
    "style",
    "training_curves",
    "waveform",
]
