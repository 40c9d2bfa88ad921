"""Run folders, manifests, predictions, and the tables made of all runs."""

from lib.runs import excel, manifest, predictions, published, table
from lib.runs.manifest import RunFolders, chosen_epochs, curves, listing

__all__ = [
    "RunFolders",
    "chosen_epochs",
    "curves",
    "excel",
    "listing",
    "manifest",
    "predictions",
    "published",
    "table",
]
