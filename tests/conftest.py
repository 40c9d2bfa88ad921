"""What several test modules need."""

from __future__ import annotations

import numpy as np
import pytest

from lib.features import FeatureSet
from lib.features.store import array_hash


def tiny_features(
    seed=0, clips=48, frames=20, coefficients=5, classes=3, speakers=6, signal=1.0
):
    """Return separable random features of a few speakers."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(classes), clips // classes)
    turn = np.tile(np.arange(clips // classes), classes)
    centres = signal * rng.normal(size=(classes, 1, coefficients))
    x = centres[y] + rng.normal(size=(clips, frames, coefficients))
    x = x.astype(np.float32)
    labels = [f"class_{index}" for index in range(classes)]
    about = {
        "corpus": "TINY",
        "synthetic": True,
        "features": "timnet",
        "settings": None,
        "labels": labels,
        "counts": {label: clips // classes for label in labels},
        "left_out": {},
        "failed": {},
        "audio_sha256": f"audio {seed}",
        "x_sha256": array_hash(x),
        "hop_seconds": 0.02,
    }
    return FeatureSet(
        x=x,
        y=y,
        label_names=np.array(labels),
        file=np.array([f"{row:03d}.wav" for row in range(clips)]),
        speaker=np.array([f"s{value % speakers}" for value in turn]),
        sex=np.array([("female", "male")[value % speakers % 2] for value in turn]),
        text=np.array([f"t{value // speakers}" for value in turn]),
        about=about,
    )


@pytest.fixture
def tiny():
    return tiny_features()
