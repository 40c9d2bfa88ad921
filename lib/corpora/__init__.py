"""The speech corpora: what they hold, how to get them, whether a copy is whole."""

# ruff: noqa: F401 - what this package offers
from lib.corpora import demo
from lib.corpora.check import Report, check
from lib.corpora.own import join, register
from lib.corpora.records import Clip, Corpus, download, find, get, names, scan
