"""The speech corpora: what they hold, how to get them, whether a copy is whole."""

from lib.corpora import demo
from lib.corpora.base import Corpus, Download, Mislabelled, Problem, Tags, Utterance
from lib.corpora.checksums import load_checksums
from lib.corpora.custom import register
from lib.corpora.doctor import Report, check
from lib.corpora.downloads import download
from lib.corpora.registry import get, names
from lib.corpora.walk import find, official_order, scan

__all__ = [
    "Corpus",
    "Download",
    "Mislabelled",
    "Problem",
    "Report",
    "Tags",
    "Utterance",
    "check",
    "demo",
    "download",
    "find",
    "get",
    "load_checksums",
    "names",
    "official_order",
    "register",
    "scan",
]
