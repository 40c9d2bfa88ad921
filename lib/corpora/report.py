"""What the doctor found in a corpus folder, for people and for code."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lib.corpora.base import Problem, Utterance

SEVERITIES = ("error", "warning", "note")
_LISTED = 10
# What a copy of a release can differ in.
_OF_THE_RELEASE = "missing extra altered length rate channels encoding".split()


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """The findings of the doctor on one copy of a corpus.

    Attributes:
        corpus: Name of the corpus.
        folder: The folder that was checked.
        utterances: Everything found, in the official row order.
        usable: Those whose audio could be read to its end, in the same order.
        problems: The findings, errors first.
        counts: Table by label: utterances `found` and `expected` (missing value
            where no number is known).
        clips: Table with one row per utterance: file, label, speaker, sex, text,
            key, seconds, sample_rate, channels, encoding, peak_dbfs, clipped
            (samples), original (True, False, or missing where it cannot be told),
            usable, sha256 (of the bytes), content (hash of the decoded samples, ""
            where they cannot be read).
        own: Whether it is a registered corpus, which has no release.
    """

    corpus: str
    folder: Path
    utterances: list[Utterance]
    usable: list[Utterance]
    problems: tuple[Problem, ...]
    counts: pd.DataFrame
    clips: pd.DataFrame
    own: bool = False

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Findings that make results wrong."""
        return self._of("error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Findings that make results differ from published ones."""
        return self._of("warning")

    @property
    def notes(self) -> tuple[Problem, ...]:
        """Findings for information."""
        return self._of("note")

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not self.errors

    def to_frame(self) -> pd.DataFrame:
        """Return one row per problem, errors first, for display."""
        rows = [
            {
                "severity": problem.severity,
                "kind": problem.kind,
                "files": len(problem.files) or int(bool(problem.file)),
                "message": problem.message,
                "fix": problem.fix,
            }
            for problem in self.problems
        ]
        return pd.DataFrame(
            rows, columns=["severity", "kind", "files", "message", "fix"]
        )

    def summary(self) -> str:
        """Return the outcome in a few sentences."""
        told = [
            _count(len(self._of(severity)), severity)
            for severity in SEVERITIES
            if self._of(severity)
        ]
        total = self.counts["expected"]
        of = "" if self.own or total.isna().any() else f" of {total.sum()}"
        text = (
            f"{self.corpus}: {len(self.utterances)}{of} utterances in "
            f"{self.folder}, {len(self.usable)} usable; {', '.join(told) or 'nothing'}"
            f"{'' if told else ' to complain about'}."
        )
        kinds = {problem.kind for problem in self.errors + self.warnings}
        differs = [kind for kind in _OF_THE_RELEASE if kind in kinds]
        if differs and not self.own:
            text += f" It differs from the release: {', '.join(differs)}."
        originals = int((self.clips["original"] == True).sum())  # noqa: E712
        if originals:
            text += f" {originals} are byte for byte the original files."
        return text

    def require_ok(self, ignore: bool = False) -> None:
        """Stop where the copy would give wrong results.

        Args:
            ignore: Go on although there are errors (`ignore_problems`).

        Raises:
            ValueError: If there are errors and they are not ignored, or if no
                utterance is usable; the message lists them with their fixes.
        """
        if self.usable and (self.ok or ignore):
            return
        lines = [
            f"{number}. {problem.message} {problem.fix}"
            for number, problem in enumerate(self.errors[:_LISTED], start=1)
        ]
        if len(self.errors) > _LISTED:
            lines.append(f"… and {len(self.errors) - _LISTED} more (see the report).")
        onward = (
            "Repair that, or set ignore_problems = True (01_preprocess and 02_train "
            f"take it) to go on with the {len(self.usable)} usable utterances."
            if self.usable
            else "Nothing in it can be used."
        )
        heading = (
            f"{self.corpus} in {self.folder}: "
            f"{_count(len(self.errors), 'error')} would make results wrong."
        )
        raise ValueError("\n".join([heading, *lines, onward]))

    def _of(self, severity: str) -> tuple[Problem, ...]:
        return tuple(item for item in self.problems if item.severity == severity)


def count_table(
    labels: Sequence[str], expected: dict[str, int], utterances: Sequence[Utterance]
) -> pd.DataFrame:
    """Return found and expected utterances by label, (labels, 2)."""
    found = Counter(utterance.label for utterance in utterances)
    table = {
        "found": [found[label] for label in labels],
        "expected": [expected.get(label) for label in labels],
    }
    return pd.DataFrame(table, index=pd.Index(labels, name="label"), dtype="Int64")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
