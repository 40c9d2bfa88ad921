"""What the TIM-Net authors publish: arrays of features, and weights."""

import itertools
import pickle
import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from lib import corpora, features, files, models
from lib.corpora.check import expected_utterances
from lib.corpora.records import official_order

# What NumPy and `_codecs` give to a pickled dictionary of arrays.
_ALLOWED = ("ndarray", "dtype", "_reconstruct", "scalar", "encode")
_KINDS = ("conv1d", "batch_normalization", "weight_layer", "dense")  # with weights


class _ArraysOnly(pickle.Unpickler):
    """A pickle can run any code when it is loaded; this one knows arrays only."""

    def find_class(self, module: str, name: str) -> object:
        package = module.split(".")[0]
        if package not in ("numpy", "_codecs") or name not in _ALLOWED:
            raise ValueError(f"it asks for {module}.{name}, which arrays do not need")
        return super().find_class(module, name)


def read_official(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read x, float32, (n, frames, coefficients), and one-hot y; run no code in it."""
    if not path.is_file():
        raise FileNotFoundError(f"no official features at {path}; see TIM-Net's page")
    try:
        with open(path, "rb") as file:
            np.lib.format.read_magic(file)
            if not np.lib.format.read_array_header_1_0(file)[2].hasobject:
                raise ValueError("it holds a plain array, not the authors' dictionary")
            content = _ArraysOnly(file).load().item()
        x, y = np.asarray(content["x"]), np.asarray(content["y"])
        plain = x.dtype.kind == "f" and y.dtype.kind in "fiu"
        if not plain or x.ndim != 3 or y.ndim != 2 or len(x) != len(y):
            raise ValueError(f"x {x.shape} {x.dtype} and y {y.shape} are not features")
    except Exception as error:  # there is nothing that a wrong pickle cannot raise
        raise ValueError(f"{path} is refused: {error}") from error
    return x.astype(np.float32), y


def adopt_official(
    source: Path | str, corpus: corpora.Corpus, audio: Path, folder: Path
) -> files.FeatureSet:
    """Import the authors' `<DATA>.npy` as `folder/<CORPUS>-timnet_official.npz`.

    Its rows are the clips of the release, where it is known by name; else those in the
    folder `audio`, which need not exist: then speakers and sentences stay unknown.
    """
    path = files.located(source)
    x, one_hot = read_official(path)
    counts = one_hot.astype(bool).sum(axis=0).tolist()
    if counts != (expected := [corpus.counts[label] for label in corpus.labels]):
        own = f"{corpus.name} has {expected}"
        raise ValueError(f"{path} holds {counts} clips per class, {own}")
    labels = [corpus.labels[index] for index in one_hot.argmax(axis=1)]
    clips, _ = corpora.find(corpus, audio)
    if release := expected_utterances(corpus):
        here = {clip.key: clip for clip in clips}
        named = {k: replace(clip, file=f"{k}.wav") for k, clip in release.items()}
        clips = official_order(corpus, [here.get(key, named[key]) for key in named])
    elif not clips:
        rows = enumerate(labels)
        clips = [corpora.Clip(path, f"row_{row:05d}", label, "") for row, label in rows]
    if [clip.label for clip in clips] != labels:
        raise ValueError(f"{path}: its labels are not those of the {corpus.name} files")
    sha256 = files.sha256_file(path)
    about = {
        "features": features.OFFICIAL,
        "settings": None,
        "hop_seconds": features.PRESETS["timnet"].hop_seconds,
        "clip_samples": corpus.clip_samples,
        "source_sha256": sha256,
        "data_sha256": features.data_hash(clips, [sha256] * len(clips)),
    }
    return features.write(folder, corpus, clips, x, about)


def fold_files(folder: Path, folds: int) -> list[Path]:
    """Return the official weight files of folds 1 to `folds`."""
    found = []
    for fold in range(1, folds + 1):
        pattern = f"*-fold_weights_best_{fold}.hdf5"
        matches = sorted(folder.glob(pattern))
        if len(matches) != 1:
            fault = f"{len(matches)} files, not one, match {pattern} in {folder}"
            raise FileNotFoundError(f"{fault}; set `folds` or `weights_dir`")
        found += matches
    return found


def load_weights(path: Path, input_shape: tuple, num_classes: int):
    """Return the TIM-Net of the authors' HDF5 file for clips (frames, coefficients)."""
    theirs = _layers_by_creation(path)
    convolutions, blocks = theirs["conv1d"], len(theirs["conv1d"]) // 4
    found = [len(theirs[kind]) for kind in _KINDS]
    if found != [4 * blocks + 2, 4 * blocks, 1, 1] or not blocks:
        raise ValueError(f"{path} is not a TIM-Net: of {_KINDS} it has {found}")
    known = convolutions[0][0].shape[1], theirs["dense"][0][1].size
    if known != (input_shape[-1], num_classes):
        ours = f"the corpus has {(input_shape[-1], num_classes)}"
        raise ValueError(f"{path} has {known} coefficients and classes, {ours}")
    kernel_size, _, filters = convolutions[2][0].shape
    sizes = {"filters": filters, "kernel_size": kernel_size, "dilations": blocks}
    shape = (None, input_shape[-1])
    model = models.build_model("timnet", shape, num_classes, dropout=0.0, **sizes)
    # Theirs were created in this order: the input convolutions of both directions; for
    # every block forward sub-block 1 and 2, then backward sub-block 1 and 2.
    sides = ("forward", "backward")
    order = itertools.product(range(1, blocks + 1), sides, (1, 2))
    parts = [model.get_layer("block_{}_{}_{}".format(*place)) for place in order]
    ours = [model.get_layer(f"input_{side}") for side in sides]
    ours += [part.convolution for part in parts]
    ours += [part.normalisation for part in parts]
    ours += [model.get_layer("fusion"), model.get_layer("probabilities")]
    arrays = itertools.chain.from_iterable(theirs[kind] for kind in _KINDS)
    for layer, values in zip(ours, arrays, strict=True):
        layer.set_weights(values)  # Keras 2 and 3 list them in the same order
    return model


def _layers_by_creation(path: Path) -> dict[str, list[list[np.ndarray]]]:
    """Return the arrays of every layer by kind, in the order of creation."""
    # Their numbers go on from fold to fold: only the order inside a file has a meaning.
    found = {kind: {} for kind in _KINDS}
    try:
        with h5py.File(path, "r") as file:
            for name in file.attrs["layer_names"].astype(str):
                layer, weights = file[name], file[name].attrs["weight_names"]
                kind, number = re.fullmatch(r"(.+?)_?(\d*)", name).groups()
                if len(weights):
                    found[kind][int(number or 0)] = [layer[key][()] for key in weights]
    except (OSError, KeyError) as error:
        raise ValueError(f"{path} is not an official weight file: {error}") from error
    return {kind: [of[number] for number in sorted(of)] for kind, of in found.items()}
