"""Import the feature arrays that the TIM-Net authors publish.

Their `<DATA>.npy` is a pickled dictionary. A pickle can run any code when it is
loaded, so these are read by an unpickler that knows nothing but NumPy arrays.
"""

from __future__ import annotations

import dataclasses
import pickle
import typing
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib import config, corpora, files
from lib.corpora.base import Corpus, Tags, Utterance
from lib.corpora.expected import expected_utterances
from lib.features.frontend import OFFICIAL as NAME
from lib.features.frontend import PRESETS
from lib.features.store import FeatureSet, array_hash, feature_path, save

# What NumPy itself writes when it pickles a dictionary of arrays, under the
# module names of NumPy 1 and 2.
_ALLOWED = {
    (f"numpy.{core}.{module}", name)
    for core in ("core", "_core")
    for module, name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"))
} | {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that refuses everything but NumPy arrays."""

    def find_class(self, module: str, name: str) -> typing.Any:
        """Return an allowed constructor or refuse."""
        if (module, name) not in _ALLOWED:
            raise ValueError(f"it asks for {module}.{name}, which arrays do not need")
        return super().find_class(module, name)


def read_official(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the authors' features without running code that they might hold.

    Args:
        path: A `<DATA>.npy` holding {"x": (n, frames, 39), "y": one-hot (n, k)}.

    Returns:
        x as float32 (utterances, frames, coefficients) and y as one-hot rows.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is anything else; nothing in it has been run.
    """
    try:
        with open(path, "rb") as file:
            _skip_header(file)
            content = _ArraysOnly(file).load()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"no official features at {path}; they are linked from the TIM-Net page"
        ) from None
    except (ValueError, pickle.UnpicklingError, EOFError, AttributeError) as error:
        raise ValueError(f"{path} is refused: {error}") from error
    if isinstance(content, np.ndarray) and content.shape == ():
        content = content.item()
    if not isinstance(content, dict) or not {"x", "y"} <= content.keys():
        raise ValueError(f"{path} is refused: it is no dictionary with 'x' and 'y'")
    x, y = np.asarray(content["x"]), np.asarray(content["y"])
    plain = x.dtype.kind == "f" and y.dtype.kind in "fiu"
    if not plain or x.ndim != 3 or y.ndim != 2 or len(x) != len(y):
        raise ValueError(
            f"{path} is refused: x {x.shape} {x.dtype} and y {y.shape} {y.dtype} are "
            "not (n, frames, coefficients) and one-hot (n, classes)"
        )
    return x.astype(np.float32), y


def _skip_header(file: typing.BinaryIO) -> None:
    """Move behind the header of a `.npy` file that holds one object."""
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"its .npy format {version} is unknown")
    _, _, kind = read(file)
    if not kind.hasobject:
        raise ValueError("it holds a plain array, not the authors' dictionary")


def import_official(
    path: Path, corpus: Corpus, tags: Sequence[tuple[str, Tags]] = ()
) -> FeatureSet:
    """Return the authors' features as a feature set of this workbook.

    Args:
        path: Their `<DATA>.npy`.
        corpus: The corpus it belongs to; its counts are checked.
        tags: (file, tags) of every utterance in official row order, where known.
            Without it speakers and sentences stay unknown, and only the
            protocols that need neither can be used.

    Returns:
        The feature set, named `timnet_official`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is refused or is not of this corpus.
    """
    x, one_hot = read_official(path)
    y = one_hot.argmax(axis=1).astype(np.int64)
    counts = np.bincount(y, minlength=one_hot.shape[1]).tolist()
    expected = [corpus.counts[label] for label in corpus.labels]
    if counts != expected:
        raise ValueError(
            f"{path} holds {counts} clips per class, {corpus.name} has {expected} "
            f"({', '.join(corpus.labels)}); is it another corpus's file?"
        )
    labels = [corpus.labels[index] for index in y]
    if tags and [tag.label for _, tag in tags] != labels:
        raise ValueError(f"{path}: its labels are not those of the {corpus.name} files")
    known = list(tags) or [
        (f"row_{row:05d}", Tags(label, "")) for row, label in enumerate(labels)
    ]
    rows = [[file, *dataclasses.astuple(tag)] for file, tag in known]
    source = files.sha256_file(path)
    about = {
        "schema_version": 1,
        "corpus": corpus.name,
        "synthetic": False,
        "features": NAME,
        "settings": None,
        "hop_seconds": PRESETS["timnet"].hop_seconds,
        "labels": list(corpus.labels),
        "counts": dict(Counter(labels)),
        "shape": list(x.shape),
        "clip_samples": corpus.clip_samples,
        "dilations": corpus.dilations,
        "failed": {},
        "versions": {},
        "audio_sha256": "",
        "source_sha256": source,
        "data_sha256": config.digest([source, rows], length=64),
        "x_sha256": array_hash(x),
    }
    return FeatureSet(
        x=x,
        y=y,
        label_names=np.array(corpus.labels),
        file=np.array([file for file, _ in known]),
        speaker=np.array([tag.speaker for _, tag in known]),
        sex=np.array([tag.sex for _, tag in known]),
        text=np.array([tag.text for _, tag in known]),
        about=about,
    )


def official_tags(corpus: Corpus, audio: Path) -> list[tuple[str, Tags]]:
    """Return who says what in every row of the authors' array of a corpus.

    Args:
        corpus: The corpus.
        audio: Its folder, which need not exist. Where the release is not known
            by name, what lies there is taken instead.

    Returns:
        (file, tags) in official row order, empty where neither is known. Files
        that are not there carry their official name.
    """
    found = corpora.find(corpus, audio)[0] if audio.is_dir() else []
    here = {item.key: item for item in found}
    rows = [
        here.get(key) or Utterance(audio / f"{key}.wav", f"{key}.wav", tags)
        for key, tags in expected_utterances(corpus).items()
    ]
    rows = corpora.official_order(corpus, rows) if rows else found
    return [(item.file, item.tags) for item in rows]


def adopt_official(
    source: Path | str, corpus: Corpus, audio: Path, folder: Path
) -> tuple[Path, FeatureSet]:
    """Import the authors' features and keep them as a feature file.

    Args:
        source: Their `<DATA>.npy`.
        corpus: The corpus it belongs to.
        audio: Folder of the corpus, which need not exist.
        folder: Folder of the feature files.

    Returns:
        The feature file `<CORPUS>-timnet_official.npz` and its content.

    Raises:
        FileNotFoundError: If there is no such source.
        ValueError: If the source is refused or is not of this corpus.
    """
    path = Path(source).expanduser()
    features = import_official(path, corpus, official_tags(corpus, audio))
    target = feature_path(folder, corpus.name, NAME)
    save(target, features)
    return target, features
