"""The speech corpora: what they hold, how to get them, whether a copy is whole."""

# ruff: noqa: F401 - what this package offers
from lib.corpora import demo, layouts
from lib.corpora.check import Report, check
from lib.corpora.download import download, load_checksums
from lib.corpora.own import register
from lib.corpora.records import (
    Clip,
    Corpus,
    Problem,
    find,
    get,
    names,
    official_order,
    scan,
)
