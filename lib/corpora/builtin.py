"""The corpora that the workbook knows by heart, in the order they are listed."""

from __future__ import annotations

from lib.corpora import asvp_esd, casia, demo, emodb, emovo, iemocap, ravdess, savee
from lib.corpora.base import Corpus

_MODULES = (demo, casia, emodb, emovo, iemocap, ravdess, savee, asvp_esd)

BUILT_IN: dict[str, Corpus] = {module.CORPUS.name: module.CORPUS for module in _MODULES}
