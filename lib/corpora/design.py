"""What the labels and the people of one's own corpus allow to be learnt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
from scipy.stats import chi2_contingency
from scipy.stats.contingency import association

from lib.corpora.base import Problem, Utterance
from lib.corpora.clips import first_few

_FEW_CLIPS = 5
# Cramér's V of two independent columns is near 0, of a fixed assignment 1.
_STRONG, _BY_CHANCE = 0.5, 0.01


def design_problems(utterances: Sequence[Utterance]) -> Iterator[Problem]:
    """Yield what the table of labels and speakers says against a study.

    Args:
        utterances: The utterances of a registered corpus.
    """
    tags = pd.DataFrame([vars(item.tags) for item in utterances])
    counts = tags["label"].value_counts(sort=False)
    few = [f"{label} {count}" for label, count in counts.items() if count < _FEW_CLIPS]
    if few:
        yield _problem(
            "warning",
            f"Fewer than {_FEW_CLIPS} clips: {first_few(few)}.",
            "Add clips: what is counted over so few says next to nothing.",
        )
    known = tags[tags["speaker"] != ""]
    if known.empty:
        yield _problem(
            "note",
            "The speakers are not known.",
            "Give them if you can: without, there is no test on unseen speakers.",
        )
        return
    speakers = known["speaker"].unique()
    if len(speakers) < 3:
        yield _problem(
            "warning",
            f"Only {len(speakers)} speaker{'s'[: len(speakers) > 1]}: "
            f"{', '.join(speakers)}.",
            "The protocol `speaker` needs three, one each to train, to choose the "
            "epoch and to test; other protocols hear the same people in all of them.",
        )
    if len(speakers) > 1:
        yield from _confounded(pd.crosstab(known["label"], known["speaker"]) > 0)


def _confounded(heard: pd.DataFrame) -> Iterator[Problem]:
    """Yield what cannot be told apart from a person; heard (labels, speakers)."""
    by_label = heard.sum(axis=1)
    alone = [f"{label!r}" for label in heard.index[by_label == 1]]
    apart = "Record every emotion with several people, and several emotions with each."
    if len(alone) == len(heard):
        yield _problem(
            "error",
            "Every label is spoken by one speaker only: an emotion cannot be learnt "
            "apart from its speaker.",
            f"{apart} If the labels are people, register the emotions instead.",
        )
    elif (heard.sum(axis=0) == 1).all():
        yield _problem(
            "error" if alone else "warning",
            "Every speaker has one emotion only: emotions cannot be told apart from "
            f"people.{_only_one(alone)}",
            apart,
        )
    elif alone:
        yield _problem("warning", _only_one(alone).strip(), apart)


def _only_one(labels: Sequence[str]) -> str:
    """Return a sentence on the labels that one speaker has, or nothing."""
    if not labels:
        return ""
    verb, it = ("is", "it") if len(labels) == 1 else ("are", "they")
    each = "" if len(labels) == 1 else " each"
    return (
        f" {first_few(labels)} {verb}{each} spoken by one speaker only: under unseen "
        f"speakers {it} cannot be learnt."
    )


def recording_problems(clips: pd.DataFrame) -> Iterator[Problem]:
    """Yield the properties of the recordings that tell the label, and mixed rates.

    Args:
        clips: The doctor's table of clips that can be read.
    """
    told = clips.assign(sex=clips["sex"].replace("", None))
    for column, name in (
        ("sample_rate", "sampling rate"),
        ("channels", "number of channels"),
        ("encoding", "encoding"),
        ("sex", "sex"),
    ):
        table = pd.crosstab(told["label"], told[column])
        if min(table.shape) > 1 and _goes_together(table):
            first = told.groupby("label")[column].agg(lambda found: found.mode()[0])
            usual = [f"{label} {value}" for label, value in first.items()]
            yield _problem(
                "warning",
                f"The {name} goes with the label (most often {first_few(usual)}): a "
                "system may learn that instead of the emotion.",
                "Record all labels in one way, or use recordings of one kind only.",
            )
    rates = clips["sample_rate"].value_counts().sort_index()
    if len(rates) > 1:
        listed = [f"{rate:,} Hz ({count})" for rate, count in rates.items()]
        yield _problem(
            "note",
            f"Sampling rates differ between clips: {first_few(listed)}.",
            "All are resampled to one rate, but a low one holds no high frequencies.",
        )


def _goes_together(table: pd.DataFrame) -> bool:
    """Tell whether two columns go together, more than by chance."""
    by_chance = chi2_contingency(table, correction=False).pvalue
    return association(table) > _STRONG and by_chance < _BY_CHANCE


def _problem(severity: str, message: str, fix: str) -> Problem:
    return Problem(severity, "design", "", message, fix)
