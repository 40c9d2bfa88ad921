"""Features of no audio, as large as those of the corpora."""

from __future__ import annotations

# clips, frames, classes, speakers
SHAPES = {
    "EMODB": (535, 188, 7, 10),
    "EMOVO": (588, 188, 7, 6),
    "RAVDESS": (1440, 215, 8, 24),
    "IEMOCAP": (5531, 606, 4, 10),
}


def feature_set(corpus: str, clips: int = 0):
    """Return random features, float32, (clips, frames, 39), of a corpus's shape.

    Args:
        corpus: One of `SHAPES`.
        clips: Number of clips; 0 for the corpus's own.
    """
    import numpy as np

    from lib.files import FeatureSet, array_hash

    own, frames, classes, speakers = SHAPES[corpus]
    clips = clips or own
    y = np.arange(clips) * classes // clips
    counts = np.bincount(y)
    turn = np.concatenate([np.arange(count) for count in counts])
    x = np.random.default_rng(0).standard_normal((clips, frames, 39), np.float32)
    names = [f"class_{number}" for number in range(classes)]
    about = {
        "corpus": corpus,
        "synthetic": True,
        "features": "timnet",
        "settings": None,
        "labels": names,
        "counts": dict(zip(names, counts.tolist(), strict=True)),
        "clip_samples": 0,
        "dilations": 10 if corpus == "IEMOCAP" else 8,
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
