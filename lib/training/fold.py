"""Train one fold, so that a cut at any moment costs seconds and changes nothing."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lib import metrics, paths
from lib.device import derived_seed
from lib.losses import smoothed_labels
from lib.protocols import Fold
from lib.runs import RunFolders
from lib.training.curves import Curves
from lib.training.program import Program

CHECKPOINT_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a trained fold leaves behind.

    Attributes:
        rows: Rows that were tested, int, (n,).
        probabilities: Class probabilities of those rows, (n, classes).
        embeddings: Vectors before the classifier, (n, width).
        history: One dictionary of figures per epoch.
        epoch: The epoch that was tested, from 1.
        seconds: Time spent training, over all attempts.
    """

    rows: np.ndarray
    probabilities: np.ndarray
    embeddings: np.ndarray
    history: list[dict[str, float]]
    epoch: int
    seconds: float

    def save(self, target: Path) -> None:
        """Write the outcome; the fold counts as done from then on."""
        rest = {"history": self.history, "epoch": self.epoch, "seconds": self.seconds}
        paths.write_npz(
            target,
            {
                "rows": self.rows,
                "probabilities": self.probabilities,
                "embeddings": self.embeddings,
                "rest": np.array(json.dumps(rest)),
            },
        )

    @classmethod
    def load(cls, path: Path) -> Outcome | None:
        """Return a saved outcome, or None if there is no whole one."""
        content = _read_npz(path)
        if content is None:
            return None
        rest = json.loads(str(content.pop("rest")))
        return cls(**content, **rest)


def _read_npz(path: Path) -> dict[str, np.ndarray] | None:
    """Return the arrays of a file, or None if it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None


def _save_whole(save: Callable[[Path], None], target: Path) -> None:
    """Save a network elsewhere, then copy the file to where it belongs.

    The HDF5 library takes the whole process down when its disk is full; a copy
    fails with an error that can be told.
    """
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / target.name
        save(made)
        with paths.atomic_path(target) as temporary:
            shutil.copyfile(made, temporary)


@dataclasses.dataclass
class _Progress:
    """Where the training of a fold stands."""

    epoch: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best_epoch: int = 0
    best_score: tuple[float, float] = (float("-inf"), float("-inf"))
    best: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


class FoldTraining:
    """Train and test one fold.

    Args:
        program: The compiled network.
        fold: Its rows.
        x: Features of the whole corpus, (utterances, frames, coefficients).
        y: Labels of the whole corpus, (utterances,).
        num_classes: Number of classes.
        seed: Seed of the run; weights, order and dropout follow from it.
        chosen_on: "last", "validation" or "test".
        folders: Where the run's files lie.
    """

    def __init__(
        self,
        program: Program,
        fold: Fold,
        x: np.ndarray,
        y: np.ndarray,
        *,
        num_classes: int,
        seed: int,
        chosen_on: str,
        folders: RunFolders,
    ) -> None:
        self.program = program
        self.fold = fold
        self.x, self.y = x, y
        self.num_classes = num_classes
        self.seed = seed
        self.chosen_on = chosen_on
        self.folders = folders
        self._saved_at = 0.0

    def run(self, report: Callable[[dict[str, float]], None]) -> Outcome:
        """Train from the start or from the last checkpoint, then test.

        Args:
            report: Called with the figures of every epoch.

        Returns:
            The outcome, which is on disk already.
        """
        progress = self._resume()
        number = self.fold.number
        curves = Curves(
            self.folders.curves(number), self.folders.events(number), progress.history
        )
        for row in progress.history:
            report(row)
        labels = smoothed_labels(
            self.y[self.fold.train],
            self.num_classes,
            self.program.recipe.label_smoothing,
        )
        clips = self.x[self.fold.train]
        while progress.epoch < self.program.recipe.epochs:
            row = self._epoch(progress, clips, labels)
            curves.add(row)
            report(row)
            if time.monotonic() - self._saved_at >= CHECKPOINT_SECONDS:
                self._save_checkpoint(progress)
                curves.save()
        curves.close()
        return self._finish(progress)

    def _epoch(
        self, progress: _Progress, clips: np.ndarray, labels: np.ndarray
    ) -> dict[str, float]:
        """Train the next epoch, validate it, and keep the network if it is best."""
        start = time.monotonic()
        epoch = progress.epoch + 1
        # The order follows from (seed, fold, epoch): a resumed epoch repeats it.
        rng = np.random.default_rng([self.seed, self.fold.number, epoch])
        row: dict[str, float] = {"epoch": epoch}
        row |= self.program.train_epoch(clips, labels, rng.permutation(len(clips)))
        if not np.isfinite(row["loss"]):
            raise FloatingPointError(
                f"fold {self.fold.number}, epoch {epoch}: the loss is {row['loss']}; "
                "lower learning_rate"
            )
        if self.chosen_on != "last":
            row |= self._validate()
            # Ties go to the lower loss under UAR, to the later epoch never.
            chosen = row["val_accuracy" if self.chosen_on == "test" else "val_uar"]
            score = (chosen, -row["val_loss"])
            if score > progress.best_score:
                progress.best_score, progress.best_epoch = score, epoch
                progress.best = self.program.state()
        row["seconds"] = round(time.monotonic() - start, 3)
        progress.epoch = epoch
        progress.seconds += row["seconds"]
        progress.history.append(row)
        return row

    def _validate(self) -> dict[str, float]:
        """Return loss (of unsmoothed labels), accuracy and UAR of the validation."""
        y = self.y[self.fold.validation]
        probabilities, _ = self.program.predict(self.x[self.fold.validation])
        of_truth = np.clip(probabilities[np.arange(len(y)), y], 1e-7, 1.0)
        scores = metrics.scores(y, probabilities.argmax(axis=1))
        return {
            "val_loss": float(-np.log(of_truth).mean()),
            "val_accuracy": scores["war"],
            "val_uar": scores["uar"],
        }

    def _finish(self, progress: _Progress) -> Outcome:
        """Test the chosen network and write weights, then the outcome."""
        number = self.fold.number
        epoch = progress.epoch
        if progress.best and progress.best_epoch != progress.epoch:
            _save_whole(
                self.program.network.save_weights, self.folders.last_weights(number)
            )
            self.program.restore_network(progress.best)
            epoch = progress.best_epoch
        _save_whole(self.program.network.save, self.folders.model(number))
        probabilities, embeddings = self.program.predict(self.x[self.fold.test])
        outcome = Outcome(
            self.fold.test,
            probabilities,
            embeddings,
            progress.history,
            epoch,
            round(progress.seconds, 3),
        )
        outcome.save(self.folders.outcome(number))
        self.folders.checkpoint(number).unlink(missing_ok=True)
        return outcome

    def _save_checkpoint(self, progress: _Progress) -> None:
        """Write all that the next epoch depends on."""
        rest = {
            "epoch": progress.epoch,
            "seconds": progress.seconds,
            "history": progress.history,
            "best_epoch": progress.best_epoch,
            "best_score": list(progress.best_score) if progress.best else None,
        }
        best = {f"best_{name}": value for name, value in progress.best.items()}
        state = self.program.state()
        everything = {**state, **best, "rest": np.array(json.dumps(rest))}
        paths.write_npz(self.folders.checkpoint(self.fold.number), everything)
        self._saved_at = time.monotonic()

    def _resume(self) -> _Progress:
        """Return the progress of the last checkpoint, or that of a fresh start."""
        self._saved_at = time.monotonic()
        self.program.reset(derived_seed(self.seed, self.fold.number))
        content = _read_npz(self.folders.checkpoint(self.fold.number))
        if content is None:
            return _Progress()
        rest = json.loads(str(content.pop("rest")))
        best = {
            name.removeprefix("best_"): value
            for name, value in content.items()
            if name.startswith("best_")
        }
        score = rest.pop("best_score")
        if score is not None:
            rest["best_score"] = tuple(score)
        self.program.restore(content)
        return _Progress(best=best, **rest)
