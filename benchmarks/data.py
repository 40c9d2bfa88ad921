"""Stand-ins for corpora: numbers of the right shape, no speech in them."""

from __future__ import annotations

import dataclasses

import numpy as np

from lib.features import FeatureSet


@dataclasses.dataclass(frozen=True)
class Shape:
    """How large a corpus is.

    Attributes:
        clips: Number of utterances.
        frames: Frames per clip.
        classes: Number of emotions.
        speakers: Number of speakers.
        dilations: Levels of TIM-Net for clips of this length.
    """

    clips: int
    frames: int
    classes: int
    speakers: int
    dilations: int = 8


SHAPES = {
    "EMODB": Shape(535, 188, 7, 10),
    "EMOVO": Shape(588, 188, 7, 6),
    "RAVDESS": Shape(1440, 215, 8, 24),
    "IEMOCAP": Shape(5531, 606, 4, 10, 10),
}


def feature_set(name: str, shape: Shape, coefficients: int = 39) -> FeatureSet:
    """Return random features, float32, (clips, frames, coefficients).

    Args:
        name: What the corpus is called in run ids.
        shape: Its size.
        coefficients: Numbers per frame.
    """
    rng = np.random.default_rng(0)
    number = np.arange(shape.clips)
    y = number * shape.classes // shape.clips
    x = rng.normal(size=(shape.clips, shape.frames, coefficients)).astype(np.float32)
    # Something to learn, so that the loss is that of a training.
    x[..., 0] += y[:, None]
    speaker = np.array([f"{index:02d}" for index in number % shape.speakers])
    about = {
        "corpus": name,
        "features": "timnet",
        "settings": {},
        "counts": {},
        "left_out": {},
        "failed": {},
        "synthetic": True,
        "x_sha256": "none",
        "audio_sha256": "none",
    }
    return FeatureSet(
        x=x,
        y=y.astype(np.int64),
        label_names=np.array([f"class_{index}" for index in range(shape.classes)]),
        file=np.array([f"{index:05d}.wav" for index in number]),
        speaker=speaker,
        sex=np.where(number % shape.speakers % 2, "female", "male"),
        text=np.full(shape.clips, ""),
        about=about,
    )
