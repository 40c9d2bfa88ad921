"""The doctor: is a corpus folder whole, right and original, and if not, what to do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import joblib
from tqdm.auto import tqdm

from lib.corpora.audio_checks import (
    inspect_file,
    read_inspections,
    write_inspections,
)
from lib.corpora.base import Corpus, Problem, Utterance
from lib.corpora.checksums import load_checksums
from lib.corpora.clips import Clip, clip_table, compare_with_originals, listed
from lib.corpora.duplicates import repeated_audio, second_copies
from lib.corpora.expected import compare_with_release
from lib.corpora.findings import audible, content_problems
from lib.corpora.registry import get
from lib.corpora.report import SEVERITIES, Report, count_table
from lib.corpora.walk import files_below, find


def check(
    corpus: Corpus | str,
    folder: Path | str,
    *,
    jobs: int = -1,
    progress: bool = False,
    cache: Path | str | None = None,
) -> Report:
    """Examine a copy of a corpus: names, counts, audio, duplicates, hashes.

    Every file is read once, in threads; nothing in the corpus is changed.

    Args:
        corpus: The corpus, or its name; a registered one is looked up beside the
            folder.
        folder: Folder of the corpus, normally `<datasets>/<NAME>`.
        jobs: Number of threads; -1 is one per core.
        progress: Whether to draw a progress bar.
        cache: JSON file that keeps what files hold, by the hash of their bytes, so
            that a second check decodes only what is new; None keeps nothing.

    Returns:
        The report; hundreds of files with one fault are one problem.

    Raises:
        FileNotFoundError: If the folder does not exist or holds no utterance; the
            message says how to get the corpus.
        ValueError: If there is no corpus of that name.
    """
    folder = Path(folder)
    if isinstance(corpus, str):
        corpus = get(corpus, folder.parent)
    utterances, problems = find(corpus, folder)
    if not utterances:
        raise _nothing_found(corpus, folder, problems)
    copies, problems = _split_off_copies(corpus, folder, problems)
    clips = _clips(corpus, [*utterances, *copies], jobs, progress, cache)
    clips, copied = clips[: len(utterances)], clips[len(utterances) :]
    left_out = [problem.file for problem in problems if problem.kind == "mislabelled"]
    remedy = _remedy(corpus, folder)
    found = [
        *_aggregated(problems),
        *compare_with_release(corpus, utterances, left_out, remedy),
        *second_copies(clips, copied),
        *repeated_audio(audible(clips), remedy),
        *content_problems(corpus, clips, remedy),
    ]
    return Report(
        corpus=corpus.name,
        folder=folder,
        utterances=utterances,
        usable=[clip.utterance for clip in clips if clip.usable],
        problems=tuple(sorted(found, key=_gravity)),
        counts=count_table(corpus.labels, corpus.counts, utterances),
        clips=clip_table(clips),
    )


def _gravity(problem: Problem) -> int:
    return SEVERITIES.index(problem.severity)


def _nothing_found(
    corpus: Corpus, folder: Path, problems: Sequence[Problem]
) -> FileNotFoundError:
    """Return the error for a folder without a single utterance."""
    files = [str(file) for file in files_below(folder)]
    if not files:
        held = "it is empty"
    else:
        held = f"there are only other files: {listed(files)}"
    if problems:
        held += f"; {problems[0].message.rstrip('.')}"
    return FileNotFoundError(
        f"{folder} holds no utterance of {corpus.title}; {held}. {corpus.how_to_get}"
    )


def _remedy(corpus: Corpus, folder: Path) -> str:
    """Return how to get a good copy, in a sentence."""
    if corpus.synthetic:
        return (
            "Generate them again: notebook 01_preprocess does, and so does "
            "lib.corpora.demo.generate(folder)."
        )
    if corpus.download:
        return (
            f"Move {folder} away and fetch the original with "
            f'corpora.download(corpora.get("{corpus.name}"), datasets).'
        )
    if not corpus.citation:
        return f"Repair the files, or register the corpus again. {corpus.how_to_get}"
    return f"Take the files from an original copy. {corpus.how_to_get}"


def _clips(
    corpus: Corpus,
    utterances: Sequence[Utterance],
    jobs: int,
    progress: bool,
    cache: Path | str | None,
) -> list[Clip]:
    """Read all files, a few at a time, and compare them with the originals."""
    known = read_inspections(cache) if cache else {}
    # Decoding and hashing release the interpreter's lock.
    workers = joblib.Parallel(n_jobs=jobs, prefer="threads", return_as="generator")
    inspect = joblib.delayed(inspect_file)
    found = workers(inspect(item.path, known) for item in utterances)
    total = len(utterances)
    bar = tqdm(found, "doctor", total, unit="clip", disable=not progress)
    inspections = list(bar)
    new = {seen.sha256: seen for seen in inspections if not seen.fault}
    if cache and not new.keys() <= known.keys():
        write_inspections(cache, (known | new).values())
    hashes = load_checksums(corpus.checksums) if corpus.checksums else {}
    return compare_with_originals(utterances, inspections, hashes)


def _split_off_copies(
    corpus: Corpus, folder: Path, problems: Sequence[Problem]
) -> tuple[list[Utterance], list[Problem]]:
    """Split off the files that name an utterance found before, to compare them."""
    copies: list[Utterance] = []
    others: list[Problem] = []
    for problem in problems:
        tags = None
        if problem.kind == "duplicate" and corpus.find is None:
            tags = corpus.parse(PurePosixPath(problem.file))
        if tags is None:
            others.append(problem)
        else:
            copies.append(Utterance(folder / problem.file, problem.file, tags))
    return copies, others


def _aggregated(problems: Iterable[Problem]) -> Iterator[Problem]:
    """Yield one problem for all that share severity, kind and remedy."""
    groups: dict[tuple[str, str, str], list[Problem]] = defaultdict(list)
    for problem in problems:
        groups[problem.severity, problem.kind, problem.fix].append(problem)
    for (severity, kind, fix), group in groups.items():
        files = tuple(problem.file for problem in group if problem.file)
        message = group[0].message
        if len(group) > 1:
            others = [problem.file or problem.message for problem in group[1:]]
            message += f" And likewise {listed(others)}."
        yield Problem(severity, kind, group[0].file, message, fix, files)
