"""Train one fold, so that a cut at any moment costs seconds and changes nothing."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lib import config, files, metrics
from lib.device import derived_seed
from lib.losses import smoothed_labels
from lib.protocols import Fold
from lib.runs import RunFolders
from lib.training.clips import Augmentation, predict_utterances
from lib.training.curves import Curves
from lib.training.program import Program
from lib.training.schedules import constant

CHECKPOINT_SECONDS = 5.0
NO_AUGMENTATION = Augmentation()
CONSTANT = constant()
Schedule = Callable[[int, list[dict[str, float]]], float]


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
        owner: The run and the rows of the fold, see `owner_of`.
    """

    rows: np.ndarray
    probabilities: np.ndarray
    embeddings: np.ndarray
    history: list[dict[str, float]]
    epoch: int
    seconds: float
    owner: str = ""

    def save(self, target: Path) -> None:
        """Write the outcome; the fold counts as done from then on."""
        rest = {
            "history": self.history,
            "epoch": self.epoch,
            "seconds": self.seconds,
            "owner": self.owner,
        }
        files.write_npz(
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


def owner_of(folders: RunFolders, fold: Fold) -> str:
    """Return what an outcome or checkpoint belongs to: a run, and the fold's rows."""
    return f"{folders.run_id} {config.digest(fold.parts())}"


def require_owner(path: Path, found: str, wanted: str) -> None:
    """Raise ValueError if a file belongs to another run, or to other rows."""
    if found != wanted:
        raise ValueError(
            f"{path} is of another run or of other rows ({found or 'not said'}) than "
            f"{wanted}; set overwrite=True to train this run anew"
        )


def _read_npz(path: Path) -> dict[str, np.ndarray] | None:
    """Return the arrays of a file, or None if it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception:  # a flipped bit of a zip file can raise almost anything
        return None


def figures(y: np.ndarray, probabilities: np.ndarray) -> list[tuple[str, float]]:
    """Return cross-entropy of the true labels, accuracy and UAR, by name."""
    of_truth = np.clip(probabilities[np.arange(len(y)), y], 1e-7, 1.0)
    scores = metrics.scores(y, probabilities.argmax(axis=1))
    loss = float(-np.log(of_truth).mean())
    return [("loss", loss), ("accuracy", scores["war"]), ("uar", scores["uar"])]


def save_whole(save: Callable[[Path], None], target: Path) -> None:
    """Save a network elsewhere, then copy the file to where it belongs.

    The HDF5 library takes the whole process down when its disk is full; a copy
    fails with an error that can be told.
    """
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / target.name
        save(made)
        with files.atomic_path(target) as temporary:
            shutil.copyfile(made, temporary)


@dataclasses.dataclass
class Progress:
    """Where the training of a fold stands.

    Attributes:
        epoch: Epochs done.
        seconds: Time spent on them.
        history: Their figures.
        best_epoch: The best of them, where one is chosen.
        best_score: Its score and the opposite of its loss.
        best: The state of the program at its end.
    """

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
        schedule: From an epoch and the figures before it to the share of the
            step size.
        augmentation: How the training clips are altered.
        patience: Epochs without a better validation after which the fold ends;
            0 for never.
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
        schedule: Schedule = CONSTANT,
        augmentation: Augmentation = NO_AUGMENTATION,
        patience: int = 0,
    ) -> None:
        self.program = program
        self.fold = fold
        self.x, self.y = x, y
        self.num_classes = num_classes
        self.seed = seed
        self.chosen_on = chosen_on
        self.folders = folders
        self.schedule = schedule
        self.augmentation = augmentation
        self.patience = patience
        self._saved_at = 0.0

    def run(self, report: Callable[[dict[str, float]], None]) -> Outcome:
        """Train from the start or from the last checkpoint, then test.

        Args:
            report: Called with the figures of every epoch.

        Returns:
            The outcome, which is on disk already.
        """
        progress = self.resume()
        curves = self.curves(progress)
        for row in progress.history:
            report(row)
        clips, rows = self.augmentation.training_clips(self.x, self.fold.train)
        labels = smoothed_labels(
            self.y[rows], self.num_classes, self.program.recipe.label_smoothing
        )
        while not self.ended(progress):
            row = self._epoch(progress, clips, labels)
            curves.add(row)
            report(row)
            if time.monotonic() - self._saved_at >= CHECKPOINT_SECONDS:
                self.save_checkpoint(progress)
                curves.save()
        curves.close()
        return self.finish(progress)

    def ended(self, progress: Progress) -> bool:
        """Tell whether a fold has had its last epoch."""
        waited = progress.epoch - progress.best_epoch
        patient = not self.patience or waited < self.patience
        return progress.epoch >= self.program.recipe.epochs or not patient

    def _epoch(
        self, progress: Progress, clips: np.ndarray, labels: np.ndarray
    ) -> dict[str, float]:
        """Train the next epoch, validate it, and keep the network if it is best."""
        start = time.monotonic()
        epoch = progress.epoch + 1
        rng = self.random(epoch)
        row: dict[str, float] = {"epoch": epoch}
        order = rng.permutation(len(clips))
        share = self.schedule(epoch, progress.history)
        row |= self.program.train_epoch(
            self.augmentation.altered(clips, rng), labels, order, share
        )
        self.require_finite(row)
        if self.chosen_on != "last":
            clips = self.x[self.fold.validation]
            with self.program.averaged():
                probabilities, _ = predict_utterances(self.program.predict, clips)
            if self.judge(progress, row, probabilities):
                progress.best = self.program.state()
        self.record(progress, row, time.monotonic() - start)
        return row

    def random(self, epoch: int) -> np.random.Generator:
        """Return the generator of an epoch's order; a resumed epoch repeats it."""
        return np.random.default_rng([self.seed, self.fold.number, epoch])

    def curves(self, progress: Progress) -> Curves:
        """Return the curves of the fold, those of an earlier attempt included."""
        number = self.fold.number
        return Curves(
            self.folders.curves(number), self.folders.events(number), progress.history
        )

    def require_finite(self, row: dict[str, float]) -> None:
        """Raise FloatingPointError if the loss of an epoch is no number."""
        if not np.isfinite(row["loss"]):
            raise FloatingPointError(
                f"fold {self.fold.number}, epoch {row['epoch']}: the loss is "
                f"{row['loss']}; lower learning_rate"
            )

    def judge(
        self, progress: Progress, row: dict[str, float], probabilities: np.ndarray
    ) -> bool:
        """Add the validation's figures to a row; tell whether it is the best so far.

        The loss is that of unsmoothed labels.

        Args:
            progress: Where the fold stands; takes note of the best epoch.
            row: The figures of the epoch.
            probabilities: What the network answers to the validation rows.
        """
        truth = self.y[self.fold.validation]
        row |= {f"val_{name}": score for name, score in figures(truth, probabilities)}
        # Ties go to the lower loss under UAR, to the later epoch never.
        chosen = row["val_accuracy" if self.chosen_on == "test" else "val_uar"]
        score = (chosen, -row["val_loss"])
        if score <= progress.best_score:
            return False
        progress.best_score, progress.best_epoch = score, int(row["epoch"])
        return True

    def record(self, progress: Progress, row: dict[str, float], seconds: float) -> None:
        """Count an epoch as done."""
        row["seconds"] = round(seconds, 3)
        progress.epoch = int(row["epoch"])
        progress.seconds += row["seconds"]
        progress.history.append(row)

    def finish(self, progress: Progress) -> Outcome:
        """Test the chosen network and write weights, then the outcome."""
        number = self.fold.number
        epoch = progress.epoch
        if progress.best and progress.best_epoch != progress.epoch:
            self.program.settle()
            save_whole(
                self.program.network.save_weights, self.folders.last_weights(number)
            )
            self.program.restore(progress.best)
            epoch = progress.best_epoch
        self.program.settle()
        save_whole(self.program.network.save, self.folders.model(number))
        probabilities, embeddings = predict_utterances(
            self.program.predict, self.x[self.fold.test]
        )
        outcome = Outcome(
            self.fold.test,
            probabilities,
            embeddings,
            progress.history,
            epoch,
            round(progress.seconds, 3),
            owner_of(self.folders, self.fold),
        )
        outcome.save(self.folders.outcome(number))
        self.folders.checkpoint(number).unlink(missing_ok=True)
        return outcome

    def save_checkpoint(self, progress: Progress) -> None:
        """Write all that the next epoch depends on."""
        rest = {
            "owner": owner_of(self.folders, self.fold),
            "epoch": progress.epoch,
            "seconds": progress.seconds,
            "history": progress.history,
            "best_epoch": progress.best_epoch,
            "best_score": list(progress.best_score) if progress.best else None,
        }
        best = {f"best_{name}": value for name, value in progress.best.items()}
        state = self.program.state()
        everything = {**state, **best, "rest": np.array(json.dumps(rest))}
        files.write_npz(self.folders.checkpoint(self.fold.number), everything)
        self._saved_at = time.monotonic()

    def resume(self) -> Progress:
        """Return the progress of the last checkpoint, or that of a fresh start."""
        self._saved_at = time.monotonic()
        self.program.reset(derived_seed(self.seed, self.fold.number))
        content = _read_npz(self.folders.checkpoint(self.fold.number))
        if content is None:
            return Progress()
        rest = json.loads(str(content.pop("rest")))
        require_owner(
            self.folders.checkpoint(self.fold.number),
            rest.pop("owner", ""),
            owner_of(self.folders, self.fold),
        )
        best = {
            name.removeprefix("best_"): value
            for name, value in content.items()
            if name.startswith("best_")
        }
        score = rest.pop("best_score")
        if score is not None:
            rest["best_score"] = tuple(score)
        self.program.restore(content)
        return Progress(best=best, **rest)
