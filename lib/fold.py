"""Train one fold, or several at once: the network, the checkpoint, the loop.

The loop is `train_folds`. A cut at any moment costs seconds and changes nothing.
"""

import dataclasses
import functools
import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from sklearn.utils.class_weight import compute_class_weight
from tensorboard.summary import Writer

from lib import augment, config, files, losses, metrics, models, planning
from lib.device import has_xla
from lib.planning import Plan
from lib.protocols import Fold
from lib.runs import RunFolders, is_locked

CHECKPOINT_SECONDS = 5.0
ANSWERED_AT_ONCE = 128  # clips

Metrics = dict[str, float]  # of an epoch
Report = Callable[["FoldTraining", Metrics], None]
State = Sequence[np.ndarray]  # the values of all variables


def scored(y: np.ndarray, probabilities: np.ndarray, prefix: str = "") -> Metrics:
    """Return the cross-entropy of the true labels, accuracy and UAR."""
    of_truth = np.clip(probabilities[np.arange(len(y)), y], 1e-7, 1.0)
    found = metrics.scores(y, probabilities.argmax(axis=1))
    loss = float(-np.log(of_truth).mean())
    row = {"loss": loss, "accuracy": found["war"], "uar": found["uar"]}
    return {f"{prefix}{name}": value for name, value in row.items()}


class Network:
    """A network and its optimiser, compiled once and used for every fold of a run."""

    def __init__(self, settings: Mapping[str, Any], data: files.FeatureSet) -> None:
        shape = settings["model"], data.x.shape[-2:], len(data.label_names)
        options = dict(settings["model_options"])
        options["standardised"] = settings["normalisation"] == "train"
        self.build = functools.partial(models.build_model, *shape, **options)
        self.model = self.build()
        self.batch_size = settings["batch_size"]
        both = [self.model.output, self.model.get_layer("embedding").output]
        self.answering = keras.Model(self.model.input, both)
        self.loss = losses.LOSSES[settings["loss"]](**settings["loss_options"])
        self.optimizer = keras.optimizers.Adam(
            *(settings[name] for name in ("learning_rate", "beta_1", "beta_2")),
            epsilon=settings["epsilon"],
            use_ema=settings["weight_average"] > 0,
            ema_momentum=settings["weight_average"],
        )
        self.optimizer.build(self.model.trainable_variables)
        weights = self.model.trainable_variables + self.model.non_trainable_variables
        self.variables = weights + self.optimizer.variables
        self.unused = [variable.numpy() for variable in self.optimizer.variables]
        if keras.backend.backend() == "jax":
            from lib import together

            self.answering.jit_compile = True
            self.engine = together.Networks(self)
        else:
            compiled = models.SYSTEMS[settings["model"]].fused and has_xla()
            self.answering.jit_compile = compiled
            # An engine trains a list of folds; this one takes lists of a single fold.
            self.engine, self.step = self, self._tensorflow_step(compiled)

    def draw(self, seed: int, fold: int, x: np.ndarray) -> State:
        """Return an untrained state for the rows x, its weights drawn with a seed."""
        # All that Keras draws follows from here; TensorFlow's own seed would make it
        # lay out the compiled step anew.
        mixed = np.random.SeedSequence([seed, fold]).generate_state(1)[0]
        random.seed(int(mixed) % 2**31)
        model = self.build()
        if self.build.keywords["standardised"]:
            rows = files.pieces(x)[0].astype(float)
            statistics = rows.mean(axis=(0, 1)), rows.var(axis=(0, 1))
            model.get_layer("normalisation").set_weights(statistics)
        drawn = model.trainable_variables + model.non_trainable_variables
        return [variable.numpy() for variable in drawn] + self.unused

    def state(self, fold: int = 0) -> State:
        return [variable.numpy() for variable in self.variables]

    def assign(self, states: Sequence[State], average: bool = False) -> None:
        """Go back to states; with `average` to the EMA of the weights, if there is."""
        for variable, value in zip(self.variables, states[0], strict=True):
            variable.assign(value)
        if average and self.optimizer.use_ema:
            self.optimizer.finalize_variable_values(self.model.trainable_variables)

    def train_epoch(self, clips, labels, orders, rates, weights) -> list[tuple]:
        """Train on each order; return their weighted mean losses and probabilities."""
        self.optimizer.learning_rate = rates[0]
        order, total, found = orders[0], 0.0, []
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            counted = clips[rows], labels[rows], weights[0][rows]
            loss, probabilities = self.step(*counted)
            total += float(loss) * len(rows)
            found.append(probabilities.numpy())
        return [(total / len(order), np.concatenate(found))]

    def answer(self, clips: np.ndarray, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the probabilities of some clips, by the EMA weights if there are."""
        state = self.state()
        self.assign([state], average=True)
        answers = [self.predict(clips[rows[0]])[0]]
        self.assign([state])
        return answers

    def predict(self, x: np.ndarray) -> list[np.ndarray]:
        """Return the class probabilities and embeddings that `models.predict` does."""
        (clips, owner), parts = files.pieces(x), []
        for start in range(0, len(clips), ANSWERED_AT_ONCE):
            part = clips[start : start + ANSWERED_AT_ONCE]
            # Filled up: a batch of another size would be traced and compiled again.
            full = part[np.arange(ANSWERED_AT_ONCE) % len(part)]
            pair = self.answering.predict_on_batch(full)
            parts.append([np.asarray(array)[: len(part)] for array in pair])
        answers = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
        return [models.mean_over_pieces(answer, owner) for answer in answers]

    def _tensorflow_step(self, compiled: bool) -> Callable:
        import tensorflow

        def step(clips, labels, weights):
            with tensorflow.GradientTape() as tape:
                probabilities = self.model(clips, training=True)
                mean = keras.ops.mean(weights * self.loss(labels, probabilities))
                loss = mean + sum(self.model.losses)
            variables = self.model.trainable_variables
            gradients = tape.gradient(loss, [item.value for item in variables])
            self.optimizer.apply(gradients, variables)
            return loss, probabilities

        # Traced once, for batches of any size.
        shapes = self.model.input_shape, self.model.output_shape, (None,)
        return tensorflow.function(
            step,
            input_signature=[tensorflow.TensorSpec(shape) for shape in shapes],
            jit_compile=compiled,
            autograph=False,
        )


@dataclasses.dataclass
class FoldTraining:
    """Where the training of a fold stands; its files."""

    plan: Plan
    data: files.FeatureSet
    fold: Fold
    folders: RunFolders
    epochs: int | None = None  # to train
    epoch: int = 0
    seconds: float = 0.0
    history: list[Metrics] = dataclasses.field(default_factory=list)
    best_epoch: int = 0
    best_score: Sequence[float] = (float("-inf"), float("-inf"))
    best: State = ()  # the state after that epoch

    def __post_init__(self) -> None:
        settings = self.plan.settings
        self.epochs = self.epochs or settings["epochs"]
        chosen = planning.chosen_on(settings)
        self.chosen_on = chosen if len(self.fold.validation) else "last"
        # What a file belongs to. Each backend draws other weights from a seed.
        parts = self.folders.run_id, keras.backend.backend(), self.epochs
        self.owner = f"{' '.join(map(str, parts))} {config.digest(self.fold.parts())}"

    def write(self, path: Path, arrays: Mapping[str, Any], **rest: Any) -> None:
        """Write arrays and JSON values, marked as this fold's."""
        text = json.dumps(rest | {"owner": self.owner})
        files.write_npz(path, {**arrays, "rest": np.array(text)})

    def read(self, path: Path) -> dict[str, Any] | None:
        """Return what `write` wrote, or None if it is missing or damaged."""
        try:
            with np.load(path, allow_pickle=False) as file:
                content = dict(file)
            content |= json.loads(str(content.pop("rest")))
        except Exception:  # a flipped bit of a zip file can raise almost anything
            return None
        if (found := content.pop("owner", "not said")) != self.owner:
            fault = f"is of another run, backend or rows ({found}) than {self.owner}"
            raise ValueError(f"{path} {fault}; set overwrite=True to retrain it")
        return content

    def outcome(self) -> dict[str, Any] | None:
        """Return what a finished training has left, or None."""
        whole = self.folders.model(self.fold.number).is_file()
        return self.read(self.folders.outcome(self.fold.number)) if whole else None

    def begin(self, report: Report, untrained: State = ()) -> State:
        """Return the state of the last checkpoint, or the untrained one."""
        number, state = self.fold.number, untrained
        content = self.read(self.folders.checkpoint(number))
        if content and "0" in content:
            count = sum(map(str.isdigit, content))
            values = [content.pop(f"{place}") for place in range(count)]
            state, self.best = values[: len(state)], values[len(state) :]
            vars(self).update(content)
        # Events can only be appended; those that a cut has undone would stand twice.
        shutil.rmtree(self.folders.events(number), ignore_errors=True)
        self.events = Writer(str(self.folders.events(number)))
        for row in self.history:
            self.show(row, report)
        return state

    def ended(self) -> bool:
        """Tell whether the fold has had its last epoch."""
        patience, waited = self.plan.settings["early_stopping"], self.epoch
        waited -= self.best_epoch if self.chosen_on != "last" else self.epoch
        return 0 < patience <= waited or self.epoch >= self.epochs

    def under_paper(self) -> "FoldTraining | None":
        """Return the same training under `paper`, or None if that is not missing."""
        settings = self.plan.settings
        looks = settings["early_stopping"] or settings["schedule"] == "plateau"
        if settings["protocol"] != "paper_best" or looks:  # at the test fold
            return None
        plan = planning.under_paper(self.plan)
        folders = RunFolders(self.folders.workspace, config.make_run_id(plan.settings))
        if folders.model(self.fold.number).is_file() or is_locked(folders):
            return None
        (fold,) = (one for one in plan.folds if one.number == self.fold.number)
        other = FoldTraining(plan, self.data, fold, folders)
        folders.checkpoint(fold.number).unlink(missing_ok=True)  # of a cut training
        other.begin(lambda *_: None)
        other.epoch, other.seconds = self.epoch, self.seconds
        for row in self.history:
            row = {name: row[name] for name in row if not name.startswith("val_")}
            other.history.append(row)
            other.show(row, lambda *_: None)
        return other

    def weights(self, y: np.ndarray) -> np.ndarray:
        """Return what clips of labels y count in the loss, float32, (n,)."""
        share = np.ones(len(self.data.label_names))
        if self.plan.settings["class_weights"] == "balanced":
            trained = self.data.y[self.fold.train]
            there = np.unique(trained)  # n / (classes there * clips of the class):
            share[there] = compute_class_weight("balanced", classes=there, y=trained)
        return share[y].astype(np.float32)

    def next_epoch(self) -> tuple[float, np.random.Generator]:
        """Return the next learning rate and random numbers, the same after a cut."""
        settings, epoch = self.plan.settings, self.epoch + 1
        schedule = losses.SCHEDULES[settings["schedule"]]
        share = schedule(**settings["schedule_options"])(epoch, self.history)
        key = [settings["seed"], self.fold.number, epoch]
        return settings["learning_rate"] * share, np.random.default_rng(key)

    def add(self, row: Metrics, seconds: float, report: Report, said=None) -> bool:
        """Count an epoch; tell whether what it `said` of validation is the best."""
        self.epoch += 1
        if not np.isfinite(row["loss"]):
            fault = f"the loss is {row['loss']}; lower learning_rate"
            place = f"fold {self.fold.number}, epoch {self.epoch}"
            raise FloatingPointError(f"{place}: {fault}")
        score = self.best_score
        if said is not None:
            # The loss is that of labels that are not smoothed.
            row = row | scored(self.data.y[np.sort(self.fold.validation)], said, "val_")
            chosen = row["val_accuracy" if self.chosen_on == "test" else "val_uar"]
            # Equal scores go to the lower loss, and then to the earlier epoch.
            score = [chosen, -row["val_loss"]]
        self.seconds += seconds
        row = {"epoch": self.epoch} | row | {"seconds": round(seconds, 3)}
        self.history.append(row)
        self.show(row, report)
        if better := list(score) > list(self.best_score):
            self.best_score, self.best_epoch = score, self.epoch
        return better

    def show(self, row: Metrics, report: Report) -> None:
        """Report an epoch, and add it to TensorBoard's events."""
        report(self, row)
        for name in set(row) - {"epoch", "seconds"}:
            part = "validation" if name.startswith("val_") else "train"
            tag = f"{name.removeprefix('val_')}/{part}"
            self.events.add_scalar(tag, row[name], int(row["epoch"]))

    def save(self, state: State) -> None:
        """Write a checkpoint: all that the next epoch needs."""
        arrays = {f"{place}": value for place, value in enumerate([*state, *self.best])}
        names = ("epoch", "seconds", "history", "best_epoch", "best_score")
        rest = {name: getattr(self, name) for name in names}
        self.write(self.folders.checkpoint(self.fold.number), arrays, **rest)
        self.save_curves()

    def save_curves(self) -> None:
        """Bring the CSV file and TensorBoard's events up to date."""
        text = pd.DataFrame(self.history).to_csv(index=False, lineterminator="\n")
        files.write_text(self.folders.curves(self.fold.number), text)
        self.events.flush()

    def finish(self, model: Any, predict: Callable) -> dict[str, Any]:
        """Test and save the model: the fold is done when its outcome is written."""
        number, test = self.fold.number, self.fold.test
        self.save_curves()
        self.events.close()
        target = self.folders.model(number)
        # Saved elsewhere, then copied: HDF5 ends the process where a disk is full.
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / target.name
            models.save(model, made)
            with files.atomic_path(target) as temporary:
                shutil.copyfile(made, temporary)
        probabilities, z = predict(self.data.x[test])
        if not np.isfinite(probabilities).all():
            fault = "its last step left answers that are not finite"
            raise FloatingPointError(f"fold {number}: {fault}; lower learning_rate")
        arrays = {"rows": test, "probabilities": probabilities, "embeddings": z}
        rest = {
            "history": self.history,
            "epoch": self.best_epoch or self.epoch,
            "seconds": round(self.seconds, 3),
            "parameters": models.trainable_parameters(model),
        }
        self.write(self.folders.outcome(number), arrays, **rest)
        self.folders.checkpoint(number).unlink(missing_ok=True)
        return arrays | rest


def _corpus(plan: Plan, data: files.FeatureSet) -> tuple[np.ndarray, np.ndarray, int]:
    """Return all clips, altered copies last, the row of each, and how many are none."""
    clips, owner = files.pieces(data.x)
    count = len(owner)
    if plan.copies is not None:
        more, of = files.pieces(plan.copies)
        clips, owner = np.concatenate([clips, more]), np.concatenate([owner, of])
    return clips, owner, count


def train_folds(
    network: Network, trainings: Sequence[FoldTraining], report: Report
) -> list[dict[str, Any]]:
    """Train folds from the start or their last checkpoints; return their outcomes."""
    engine, plan, data = network.engine, trainings[0].plan, trainings[0].data
    corpus, owner, count = _corpus(plan, data)
    y, smoothing = data.y[owner], plan.settings["label_smoothing"]
    if plan.settings["loss_options"].get("smooth_twice"):
        smoothing = 1 - (1 - smoothing) ** 2
    labels = losses.smoothed_labels(y, len(data.label_names), smoothing)
    inside = [np.flatnonzero(np.isin(owner, one.fold.train)) for one in trainings]
    weights = [training.weights(y) for training in trainings]
    own = owner[:count]  # copies judge nothing
    judging = [np.flatnonzero(np.isin(own, one.fold.validation)) for one in trainings]
    judged = [owner[rows] for rows in judging]
    states = []
    for training in trainings:
        seed, rows = training.plan.settings["seed"], data.x[training.fold.train]
        untrained = network.draw(seed, training.fold.number, rows)
        states.append(training.begin(report, untrained))
    engine.assign(states)
    saved_at = time.monotonic()
    while still := [training for training in trainings if not training.ended()]:
        begun, clips = time.monotonic(), corpus
        # Folds that a cut has left behind catch up first.
        behind = min(training.epoch for training in still)
        active = [one.epoch == behind and not one.ended() for one in trainings]
        rates, randoms = zip(*(one.next_epoch() for one in trainings), strict=True)
        orders = [
            random.permutation(rows)[: len(rows) * trains]
            for random, rows, trains in zip(randoms, inside, active, strict=True)
        ]
        if plan.settings["augmentation"] == "cepstrum":  # one fold at a time
            clips, rows = corpus.copy(), inside[0]
            options = plan.settings["augmentation_options"]
            clips[rows] = augment.augment_cepstra(corpus[rows], randoms[0], **options)
        found = engine.train_epoch(clips, labels, orders, rates, weights)
        answers = [None] * len(trainings)
        if trainings[0].chosen_on != "last":
            answers = engine.answer(corpus, judging)
            answers = [*map(models.mean_over_pieces, answers, judged)]
        seconds = (time.monotonic() - begun) / sum(active)
        for place in np.flatnonzero(active):
            loss, probabilities = found[place]
            row = scored(y[orders[place]], probabilities) | {"loss": loss}
            if trainings[place].add(row, seconds, report, answers[place]):
                trainings[place].best = engine.state(place)
        if time.monotonic() - saved_at >= CHECKPOINT_SECONDS:
            for place, training in enumerate(trainings):
                training.save(engine.state(place))
            saved_at = time.monotonic()
    outcomes, last = [], [engine.state(place) for place in range(len(trainings))]
    for training, state in zip(trainings, last, strict=True):
        if other := training.under_paper():
            network.assign([state], average=True)
            other.finish(network.model, network.predict)
        network.assign([training.best or state], average=True)
        outcomes.append(training.finish(network.model, network.predict))
    return outcomes


def fit_fold(training: FoldTraining, report: Report) -> dict[str, Any]:
    """Fit a system without epochs, then test it; validation rows are only scored."""
    settings, data, fold = training.plan.settings, training.data, training.fold
    begun = time.monotonic()
    clips, owner, _ = _corpus(training.plan, data)
    inside = np.isin(owner, fold.train)
    shape, classes = clips.shape[1:], len(data.label_names)
    options = settings["model_options"]
    model = models.build_model(settings["model"], shape, classes, **options)
    if settings["class_weights"] != "none":  # in every one of an SVM's machines
        names = [name for name in model.get_params() if name.endswith("class_weight")]
        model.set_params(**dict.fromkeys(names, settings["class_weights"]))
    model.fit(clips[inside], data.y[owner[inside]])
    seconds, row = time.monotonic() - begun, {}
    predict = functools.partial(models.predict, model)
    for prefix, part in (("", fold.train), ("val_", fold.validation)):
        if len(part):
            probabilities, _ = predict(data.x[part])
            row |= scored(data.y[part], probabilities, prefix)
    training.begin(report)
    training.add(row, seconds, report)
    return training.finish(model, predict)
