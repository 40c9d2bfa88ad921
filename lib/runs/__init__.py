"""Run folders, manifests, predictions, and the tables made of all runs."""

from lib.runs import manifest, predictions
from lib.runs.manifest import RunFolders

__all__ = ["RunFolders", "manifest", "predictions"]
