"""Load the weights that the TIM-Net authors publish.

Their files hold one Keras 2 model each, layers named by the order of creation.
All folds of a run share one session, so the numbers in the names go on from
file to file: only their order inside a file means anything.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import h5py
import keras
import numpy as np

from lib.models.timnet import build_timnet

PATTERN = "*-fold_weights_best_{fold}.hdf5"
_KINDS = {
    "conv1d": ("kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "weight_layer": ("kernel",),
    "dense": ("kernel", "bias"),
}
Group = Mapping[str, np.ndarray]


def fold_files(folder: Path, folds: int) -> list[Path]:
    """Return the official weight files of folds 1 to `folds`.

    Raises:
        FileNotFoundError: If the folder or one of the files is missing.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"weights_dir: there is no folder {folder}")
    files = []
    for fold in range(1, folds + 1):
        found = sorted(folder.glob(PATTERN.format(fold=fold)))
        if len(found) != 1:
            raise FileNotFoundError(
                f"weights_dir: {len(found)} files match {PATTERN.format(fold=fold)} in "
                f"{folder}; one weight file is needed for each of {folds} folds. "
                "Set `folds` to the number of files, or point to the right folder."
            )
        files.append(found[0])
    return files


def load_official(path: Path, input_shape: tuple, num_classes: int) -> keras.Model:
    """Build the TIM-Net that an official weight file describes, with its weights.

    Args:
        path: A weights-only HDF5 file of the authors' code.
        input_shape: (frames, coefficients) of the clips to classify.
        num_classes: Number of classes the corpus has.

    Returns:
        The model; width, taps and number of blocks are the file's own.

    Raises:
        ValueError: If the file is not such a file, or was made for other
            features or another number of classes.
    """
    groups = read_groups(path)
    convolutions = groups["conv1d"]
    blocks, left = divmod(len(convolutions) - 2, 4)
    wanted = {"batch_normalization": 4 * blocks, "weight_layer": 1, "dense": 1}
    found = {kind: len(groups[kind]) for kind in wanted}
    if left or blocks < 1 or found != wanted:
        raise ValueError(
            f"{path} is not a TIM-Net: it has {len(convolutions)} convolutions and "
            f"{found}; a TIM-Net of n blocks has 4 n + 2 and {{'batch_normalization': "
            "4 n, 'weight_layer': 1, 'dense': 1}"
        )
    classes = groups["dense"][0]["kernel"].shape[1]
    coefficients = convolutions[0]["kernel"].shape[1]
    if (coefficients, classes) != (input_shape[-1], num_classes):
        raise ValueError(
            f"{path} was trained on {coefficients} coefficients and {classes} classes; "
            f"the corpus has {input_shape[-1]} and {num_classes}. Are corpus, features "
            "and weights_dir the same corpus's?"
        )
    kernel_size, _, filters = convolutions[2]["kernel"].shape
    model = build_timnet(
        (None, coefficients),
        classes,
        filters=filters,
        kernel_size=kernel_size,
        dilations=blocks,
        dropout=0.0,
    )
    _assign(model, groups, blocks, path)
    return model


def read_groups(path: Path) -> dict[str, list[Group]]:
    """Return the weights of a file by kind of layer, in the order of creation.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no HDF5 file or names an unknown layer.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no weight file {path}")
    numbered: dict[str, dict[int, Group]] = defaultdict(dict)
    try:
        with h5py.File(path, "r") as file:
            for name, group in file.items():
                weights = _datasets(group)
                if weights:
                    kind, number = _kind_and_number(name)
                    if kind not in _KINDS or set(weights) != set(_KINDS[kind]):
                        raise ValueError(f"layer '{name}' is not part of a TIM-Net")
                    numbered[kind][number] = weights
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not an official weight file: {error}") from error
    return {
        kind: [numbered[kind][number] for number in sorted(numbered[kind])]
        for kind in _KINDS
    }


def _datasets(group: h5py.Group) -> Group:
    """Return a layer's arrays by short name, e.g. "kernel"."""
    found: dict[str, np.ndarray] = {}

    def visit(name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset):
            found[name.rsplit("/", 1)[-1].split(":")[0]] = item[()]

    group.visititems(visit)
    return found


def _kind_and_number(name: str) -> tuple[str, int]:
    """Split "conv1d_34" into ("conv1d", 34); a bare name is number 0."""
    match = re.fullmatch(r"(.*?)(?:_(\d+))?", name)
    return match[1], int(match[2] or 0)


def _assign(
    model: keras.Model, groups: Mapping[str, list[Group]], blocks: int, path: Path
) -> None:
    """Copy the official arrays into the model's stacked ones.

    Order of creation: the two input convolutions; then for every block forward
    sub-block 1 and 2, backward sub-block 1 and 2.
    """
    convolutions, norms = groups["conv1d"], groups["batch_normalization"]
    pairs = [(model.get_layer("input_convolution"), (convolutions[0], convolutions[1]))]
    for block in range(blocks):
        layer = model.get_layer(f"block_1_dilation_{2**block}")
        for part in (0, 1):
            first, second = 4 * block + part, 4 * block + 2 + part
            pairs.append(
                (
                    layer.convolutions[part],
                    (convolutions[2 + first], convolutions[2 + second]),
                )
            )
            pairs.append((layer.normalisations[part], (norms[first], norms[second])))
    pairs.append((model.get_layer("embedding"), (groups["weight_layer"][0],)))
    pairs.append((model.get_layer("probabilities"), (groups["dense"][0],)))
    for layer, sources in pairs:
        for variable in layer.weights:
            arrays = [source[variable.name] for source in sources]
            value = np.stack(arrays) if len(arrays) == 2 else arrays[0]
            try:
                variable.assign(np.reshape(value, variable.shape))
            except ValueError as error:
                raise ValueError(
                    f"{path}: {layer.name}/{variable.name} has shape {value.shape}, "
                    f"the network needs {tuple(variable.shape)}"
                ) from error
