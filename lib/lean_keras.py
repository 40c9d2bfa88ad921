"""Import Keras without the packages that only its extras use.

Keras imports scikit-learn for `keras.wrappers` and Matplotlib for
`keras.visualization`, if they are installed. The workbook needs neither to build a
network or to answer a recording, and both together take a third of the start. A
package that is imported already stays; where neither was, the two extras say that
their package is missing. Who wants them imports keras before `lib`.
"""

from __future__ import annotations

import sys

EXTRAS = ("sklearn", "matplotlib")

_hidden = [name for name in EXTRAS if name not in sys.modules]
if "keras" not in sys.modules:
    # Python's own way to say that a package cannot be imported.
    sys.modules.update(dict.fromkeys(_hidden))
    try:
        import keras  # noqa: F401
    finally:
        for _name in _hidden:
            del sys.modules[_name]
