"""The doctor: is a corpus folder whole, right and original, and if not, what to do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from lib.corpora.audio_checks import inspect_files
from lib.corpora.base import Corpus, Problem, Utterance
from lib.corpora.checksums import load_checksums
from lib.corpora.clips import clip_table, compare_with_originals, listed
from lib.corpora.design import design_problems, recording_problems
from lib.corpora.duplicates import repeated_audio, second_copies
from lib.corpora.expected import compare_with_release
from lib.corpora.findings import audible, content_problems
from lib.corpora.registry import get
from lib.corpora.report import SEVERITIES, Report, count_table
from lib.corpora.walk import files_below, find, printable


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
    everything = [*utterances, *copies]
    paths = [item.path for item in everything]
    inspections = inspect_files(paths, cache, jobs, progress)
    hashes = load_checksums(corpus.checksums) if corpus.checksums else {}
    clips = compare_with_originals(everything, inspections, hashes)
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
    table = clip_table(clips)
    if corpus.own:
        found += design_problems(utterances)
        found += recording_problems(table[table["usable"]])
    return Report(
        corpus=corpus.name,
        folder=folder,
        utterances=utterances,
        usable=[clip.utterance for clip in clips if clip.usable],
        problems=tuple(sorted(found, key=_gravity)),
        counts=count_table(corpus.labels, corpus.counts, utterances),
        clips=table,
        own=corpus.own,
    )


def _gravity(problem: Problem) -> int:
    return SEVERITIES.index(problem.severity)


def _nothing_found(
    corpus: Corpus, folder: Path, problems: Sequence[Problem]
) -> FileNotFoundError:
    """Return the error for a folder without a single utterance."""
    files = [printable(file) for file in files_below(folder)]
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
            f'corpora.download(corpora.get("{corpus.name}"), r"{folder.parent}").'
        )
    if corpus.own:
        return "Repair or remove the files, then register the corpus again."
    return f"Take the files from an original copy. {corpus.how_to_get}"


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
