"""What a user sees while a run trains: bars, plain lines, or nothing."""

from __future__ import annotations

from collections.abc import Mapping

from tqdm.auto import tqdm

LINE_EVERY = 25  # epochs between two plain lines


class Progress:
    """Shows folds and epochs.

    Args:
        folds: Number of folds, over all runs that are trained.
        epochs: Number of epochs of a fold.
        verbose: 0 silent, 1 bars, 2 plain lines.
    """

    def __init__(self, folds: int, epochs: int, verbose: int) -> None:
        self.folds, self.epochs, self.verbose = folds, epochs, verbose
        silent = verbose != 1
        self._folds = tqdm(total=folds, desc="folds", unit="fold", disable=silent)
        self._epochs = tqdm(total=epochs, desc="epochs", unit="epoch", disable=silent)

    def start_fold(self, fold: str) -> None:
        """Begin to show a fold."""
        self.fold = fold
        self._epochs.reset(self.epochs)
        self._epochs.set_description(fold)

    def epoch(self, row: Mapping[str, float]) -> None:
        """Show the figures of an epoch."""
        self._epochs.update()
        shown = {
            name: f"{row[name]:.3f}"
            for name in ("loss", "uar", "val_uar")
            if name in row
        }
        self._epochs.set_postfix(shown, refresh=False)
        number = int(row["epoch"])
        if self.verbose == 2 and (number % LINE_EVERY == 0 or number == self.epochs):
            figures = "  ".join(f"{name} {value}" for name, value in shown.items())
            print(f"{self.fold}  epoch {number}/{self.epochs}  {figures}", flush=True)

    def together(self, fold: str, row: Mapping[str, float]) -> None:
        """Show the figures of an epoch of one of several folds that train together."""
        self.fold = fold
        self._epochs.n = int(row["epoch"]) - 1
        self.epoch(row)

    def end_fold(self, fold: str, text: str) -> None:
        """Show that a fold is done."""
        self._folds.update()
        if self.verbose == 2:
            print(f"{fold} of {self.folds}  {text}", flush=True)

    def close(self) -> None:
        """Stop showing."""
        self._epochs.close()
        self._folds.close()
