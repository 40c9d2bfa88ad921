"""Import Keras without the packages that only its extras use.

Keras imports scikit-learn for `keras.wrappers` and Matplotlib for
`keras.visualization`, if they are installed, and TensorFlow imports JAX to convert
its functions for phones. The workbook needs none of that to build a network or to
answer a recording, and together it takes a third of the start. A package that is
imported already stays; where it was not, these extras say that it is missing. Who
wants them imports keras before `lib`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def _backend() -> str:
    """Return the backend that Keras will choose."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    try:
        chosen = json.loads((home / "keras.json").read_text("utf-8"))["backend"]
    except (OSError, ValueError, KeyError):
        chosen = "tensorflow"
    return os.environ.get("KERAS_BACKEND") or chosen


if "keras" not in sys.modules:
    _extras = ["sklearn", "matplotlib"]
    if _backend() == "tensorflow":
        _extras.append("jax")
    _hidden = [name for name in _extras if name not in sys.modules]
    # Python's own way to say that a package cannot be imported.
    sys.modules.update(dict.fromkeys(_hidden))
    try:
        import keras  # noqa: F401
    finally:
        for _name in _hidden:
            del sys.modules[_name]
