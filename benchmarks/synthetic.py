"""Features of no audio, of any shape, and runs on them in a folder that is dropped."""

from __future__ import annotations

import dataclasses
import tempfile

CORPUS = "SYNTHETIC"


@dataclasses.dataclass(frozen=True)
class Shape:
    """How large a corpus is.

    Attributes:
        clips: Number of utterances.
        frames: Frames of each.
        classes: Number of emotions.
        speakers: Number of speakers.
        dilations: Number of TIM-Net's dilations for clips of this length.
    """

    clips: int
    frames: int
    classes: int
    speakers: int
    dilations: int = 8

    def features(self):
        """Return random features of this shape, with 39 coefficients."""
        return feature_set(self.clips, self.frames, 39, self.classes, self.speakers)


SHAPES = {
    "EMODB": Shape(535, 188, 7, 10),
    "EMOVO": Shape(588, 188, 7, 6),
    "RAVDESS": Shape(1440, 215, 8, 24),
    "IEMOCAP": Shape(5531, 606, 4, 10, 10),
}


def feature_set(
    clips: int, frames: int, coefficients: int, classes: int, speakers: int
):
    """Return random features of some speakers, every class with each of them.

    Args:
        clips: Number of utterances.
        frames: Frames of each.
        coefficients: Coefficients of a frame.
        classes: Number of classes, as equal as can be.
        speakers: Number of speakers.

    Returns:
        A `lib.features.FeatureSet`, float32, (clips, frames, coefficients).
    """
    import numpy as np

    from lib.features import FeatureSet
    from lib.features.store import array_hash

    rng = np.random.default_rng(0)
    y = np.arange(clips) * classes // clips
    counts = np.bincount(y)
    turn = np.concatenate([np.arange(count) for count in counts])
    # Float32 from the beginning: a copy in float64 would be part of the peak.
    x = rng.standard_normal((clips, frames, coefficients), np.float32)
    names = [f"class_{number}" for number in range(classes)]
    about = {
        "corpus": CORPUS,
        "synthetic": True,
        "features": "timnet",
        "settings": None,
        "labels": names,
        "counts": dict(zip(names, counts.tolist(), strict=True)),
        "clip_samples": 0,
        "dilations": 8,
        "failed": {},
        "audio_sha256": "",
        "data_sha256": array_hash(x),
        "x_sha256": array_hash(x),
        "hop_seconds": 0.02,
    }
    return FeatureSet(
        x=x,
        y=y,
        label_names=np.array(names),
        file=np.array([f"{row:05d}.wav" for row in range(clips)]),
        speaker=np.array([f"speaker_{value % speakers:02d}" for value in turn]),
        sex=np.array([("female", "male")[value % speakers % 2] for value in turn]),
        text=np.array([f"text_{value // speakers}" for value in turn]),
        about=about,
    )


def train(
    data, *, epochs: int, folds: int, only: int | None = None, dilations: int = 8
) -> None:
    """Train TIM-Net under the protocol `speaker`, as notebook 02 does.

    Args:
        data: What `feature_set` returned.
        epochs: Epochs of every fold.
        folds: Number of folds that the speakers are split into.
        only: How many of the folds are trained; None for all.
        dilations: Number of TIM-Net's dilations.
    """
    from lib import config, training
    from lib.device import select

    with tempfile.TemporaryDirectory() as folder:
        params = config.validated(
            {
                "workspace": folder,
                "protocol": "speaker",
                "folds": folds,
                "epochs": epochs,
                "batch_size": 64,
                "model_options": {"dilations": dilations},
            }
        )
        training.train(
            training.resolve(params, data),
            data,
            training.make_folds(params, data)[:only],
            params.folders,
            device=select("cpu", side_by_side=params.folds_side_by_side),
            verbose=0,
        )
