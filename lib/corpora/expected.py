"""Which utterances a whole copy of a corpus has, and which of them are not there."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath

from lib.corpora import casia, demo, emovo
from lib.corpora.base import Corpus, Problem, Tags, Utterance
from lib.corpora.checksums import load_checksums
from lib.corpora.clips import first_few, listed


def _casia() -> Iterable[str]:
    for fields in itertools.product(range(201, 251), casia.LABELS, casia.SEXES):
        yield "-".join(map(str, fields))


def _emovo() -> Iterable[str]:
    parts = (emovo.EMOTIONS, emovo.SPEAKERS, emovo.SENTENCES)
    return map("-".join, itertools.product(*parts))


def _demo() -> Iterable[str]:
    parts = (demo.SPEAKERS, demo.EMOTIONS, demo.TEXTS)
    return map("_".join, itertools.product(*parts))


_SCHEMES: dict[str, Callable[[], Iterable[str]]] = {
    "CASIA": _casia,
    "DEMO": _demo,
    "EMOVO": _emovo,
}


def expected_utterances(corpus: Corpus) -> dict[str, Tags]:
    """Return the tags of every utterance of the release, by official key.

    They come from the list of original hashes, or from a naming scheme that was
    recorded in full; empty where neither is known.
    """
    if corpus.checksums:
        keys: Iterable[str] = load_checksums(corpus.checksums)
    else:
        keys = _SCHEMES.get(corpus.name, tuple)()
    parsed = ((key, corpus.parse(PurePosixPath(key))) for key in keys)
    return {key: tags for key, tags in parsed if tags is not None}


def compare_with_release(
    corpus: Corpus,
    utterances: Sequence[Utterance],
    left_out: Iterable[str],
    remedy: str,
) -> list[Problem]:
    """Return what is missing and what is there beyond the release.

    Args:
        corpus: The corpus.
        utterances: What was found.
        left_out: Files already reported, which are not reported as missing too.
        remedy: How to get a good copy, in a sentence.

    Returns:
        At most one problem of missing and one of surplus utterances.
    """
    expected = expected_utterances(corpus)
    if not expected:
        return _compare_counts(corpus, utterances, remedy)
    known = {utterance.key for utterance in utterances}
    known |= {PurePosixPath(file).stem for file in left_out}
    missing = {key: tags for key, tags in expected.items() if key not in known}
    surplus = [item.file for item in utterances if item.key not in expected]
    problems = [_missing(corpus, missing, len(expected), utterances, remedy)]
    return (problems if missing else []) + _surplus(corpus, surplus)


def _missing(
    corpus: Corpus,
    missing: dict[str, Tags],
    total: int,
    utterances: Sequence[Utterance],
    remedy: str,
) -> Problem:
    """Return one problem that names everything that is missing."""
    counted = Counter(tags.label for tags in missing.values())
    labels = ", ".join(
        f"{label} {counted[label]}" for label in corpus.labels if counted[label]
    )
    return Problem(
        "error",
        "missing",
        next(iter(missing), ""),
        f"Missing {len(missing)} of {total} utterances ({labels}): "
        f"{first_few(tuple(missing))}."
        f"{_absent_speakers(corpus, utterances)}",
        remedy,
        tuple(missing),
    )


def _surplus(corpus: Corpus, files: list[str]) -> list[Problem]:
    """Return the problem of well-formed names that the release does not have."""
    if not files:
        return []
    message = f"Named like {corpus.name}, but not in the release: {listed(files)}."
    fix = "Remove them: with them, results differ from published ones."
    return [Problem("warning", "extra", files[0], message, fix, tuple(files))]


def _compare_counts(
    corpus: Corpus, utterances: Sequence[Utterance], remedy: str
) -> list[Problem]:
    """Compare the number of utterances of each label with that of the release."""
    found = Counter(utterance.label for utterance in utterances)
    if not corpus.counts:
        absent = [label for label in corpus.labels if not found[label]]
        message = f"There is no utterance of {', '.join(absent)}."
        return [Problem("warning", "missing", "", message, remedy)] if absent else []
    problems = []
    less = [name for name in corpus.labels if found[name] < corpus.counts[name]]
    more = [name for name in corpus.labels if found[name] > corpus.counts[name]]
    for severity, kind, word, labels in (
        ("error", "missing", "fewer", less),
        ("warning", "extra", "more", more),
    ):
        told = ", ".join(
            f"{label} {found[label]} instead of {corpus.counts[label]}"
            for label in labels
        )
        known = "registered" if corpus.own else "expected"
        message = f"There are {word} utterances than {known}: {told}."
        if kind == "missing":
            message += _absent_speakers(corpus, utterances)
        if labels:
            problems.append(Problem(severity, kind, "", message, remedy))
    return problems


def _absent_speakers(corpus: Corpus, utterances: Sequence[Utterance]) -> str:
    """Return a sentence on the speakers of whom nothing is there, or nothing."""
    heard = {utterance.speaker for utterance in utterances}
    absent = [speaker for speaker in corpus.speakers if speaker not in heard]
    if not absent:
        return ""
    return f" Nothing is there of {listed(absent, 'speakers')}."
