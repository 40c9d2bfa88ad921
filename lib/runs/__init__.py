"""Run folders, manifests, predictions, and the tables made of all runs."""

from lib.runs import (
    comparisons,
    excel,
    forests,
    manifest,
    names,
    predictions,
    published,
    table,
)
from lib.runs.manifest import RunFolders, chosen_epochs, curves, listing
from lib.runs.rows import caveats

__all__ = [
    "RunFolders",
    "caveats",
    "chosen_epochs",
    "comparisons",
    "curves",
    "excel",
    "forests",
    "listing",
    "manifest",
    "names",
    "predictions",
    "published",
    "table",
]
