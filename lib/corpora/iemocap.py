"""IEMOCAP: American English, 10 actors in 5 sessions, 4 classes out of 10 labels.

The labels come from `Session<k>/dialog/EmoEvaluation/<dialog>.txt`, the audio from
`Session<k>/sentences/wav/<dialog>/<utterance>.wav`. Anger, happiness with excitement,
neutral and sadness are kept (5531 utterances); other labels, and xxx where the
annotators did not agree, are left out.

Speaker: the session and the letter of the LAST field of the name. The letter after
the session number only tells which actor wore the motion-capture markers, so
`Ses01F_impro05_M012` is the man of session 1, Ses01M.

Text: the part of the play for scripted dialogues (`script01_1`; retakes such as
`script01_1b` count as the same) and the scenario for improvised ones (`impro05`).
Improvised lines are never the same twice, but a scenario fixes topic and emotion, so
a split by text keeps it on one side.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from lib.corpora.base import Corpus, Problem, Tags, Utterance
from lib.corpora.walk import files_below, is_audio

EMOTIONS = {
    "ang": "angry",
    "hap": "happy",
    "exc": "happy",
    "neu": "neutral",
    "sad": "sad",
}
LEFT_OUT = frozenset({"xxx", "fru", "sur", "fea", "dis", "oth"})
LABELS = ("angry", "happy", "neutral", "sad")
SESSIONS = range(1, 6)
_PARTS = ("dialog", "sentences")
_LEVELS = 5
_LINE = re.compile(r"\[[\d.]+ - [\d.]+\]\s+(\S+)\s+(\w+)\s+\[.*\]")
_NAME = re.compile(
    r"(?P<dialog>(?P<session>Ses0[1-5])[FM]_"
    r"(?:(?P<script>script\d\d_\d+)|(?P<impro>impro\d\d))\w*?)_(?P<letter>[FM])\w+"
)


def find(folder: Path) -> tuple[list[Utterance], list[Problem]]:
    """Read annotations and audio of all sessions.

    Args:
        folder: The corpus folder: the release itself or folders around it.

    Returns:
        The utterances of the four classes, and what is missing or odd.
    """
    utterances: list[Utterance] = []
    problems: list[Problem] = []
    sessions = _sessions(folder)
    for number in SESSIONS:
        session = sessions.get(number)
        if session is None:
            problems.append(
                _problem(
                    "missing",
                    f"Session{number}",
                    f"there is no folder Session{number} with dialog and sentences "
                    f"in it or up to {_LEVELS} levels down.",
                    "Unpack the whole release into the corpus folder.",
                )
            )
            continue
        found, odd = _read_session(folder, session)
        utterances += found
        problems += odd
    return utterances, problems


def parse_name(name: str, emotion: str) -> Tags | None:
    """Return the tags of one annotated utterance.

    Args:
        name: Utterance, e.g. "Ses01F_impro05_M012".
        emotion: Annotated label, e.g. "exc".

    Returns:
        The tags; None for a label that the four-class task leaves out.

    Raises:
        ValueError: If the name or the label is not one of IEMOCAP.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name} is not an utterance name of IEMOCAP.")
    if emotion in LEFT_OUT:
        return None
    if emotion not in EMOTIONS:
        raise ValueError(f"{name} carries the unknown label {emotion!r}.")
    speaker = match["session"] + match["letter"]
    text = match["script"] or match["impro"]
    return Tags(EMOTIONS[emotion], speaker, _sex(speaker), text, name)


def read_annotations(file: Path) -> Iterator[tuple[str, str]]:
    """Yield utterance and label of every turn in one EmoEvaluation file.

    The lines of single evaluators (C- and A-) and the headings are passed over.
    """
    text = file.read_text(encoding="utf-8", errors="replace")
    for line in text.splitlines():
        if match := _LINE.fullmatch(line.strip()):
            yield match[1], match[2]


def parse(file: PurePosixPath) -> Tags | None:
    """Refuse: a file name of IEMOCAP does not hold the emotion.

    Raises:
        ValueError: Always; `find` reads the annotations instead.
    """
    raise ValueError(
        f"{file.name} does not tell its emotion; labels are in the EmoEvaluation files."
    )


def _sessions(folder: Path) -> dict[int, Path]:
    """Return the session folders by number: of each the one that is least deep."""
    names = {f"session{number}": number for number in SESSIONS}
    sessions: dict[int, Path] = {}
    for depth in range(_LEVELS):
        for path in sorted(folder.glob("*/" * (depth + 1))):
            number = names.get(path.name.lower())
            if number and any((path / part).is_dir() for part in _PARTS):
                sessions.setdefault(number, path)
        if len(sessions) == len(names):
            break
    return sessions


def _read_session(folder: Path, session: Path) -> tuple[list[Utterance], list[Problem]]:
    """Match the annotated turns of one session with its sentence files."""
    utterances: list[Utterance] = []
    annotated: set[str] = set()
    problems: list[Problem] = []
    audio = _audio(session)
    for file in _annotation_files(session):
        where = file.relative_to(folder).as_posix()
        for name, emotion in read_annotations(file):
            annotated.add(name)
            try:
                tags = parse_name(name, emotion)
            except ValueError as error:
                problems.append(_unknown(where, error))
                continue
            if tags is None:
                continue
            if name in audio:
                relative = audio[name].relative_to(folder).as_posix()
                utterances.append(Utterance(audio[name], relative, tags))
            else:
                problems.append(_no_audio(session, name))
    return utterances, problems + _no_annotation(folder, session, audio, annotated)


def _annotation_files(session: Path) -> list[Path]:
    """Return the annotation files of a session, without macOS resource files."""
    files = (session / "dialog" / "EmoEvaluation").glob("*.txt")
    return sorted(file for file in files if not file.name.startswith("."))


def _audio(session: Path) -> dict[str, Path]:
    """Return the sentence files of a session by utterance name."""
    root = session / "sentences" / "wav"
    return {file.stem: root / file for file in files_below(root) if is_audio(file)}


def _no_audio(session: Path, name: str) -> Problem:
    """Return the problem of an annotated turn without its sentence file."""
    dialog = name.rpartition("_")[0]
    return _problem(
        "missing",
        f"{session.name}/sentences/wav/{dialog}/{name}.wav",
        f"{name} is annotated, but its sentence file is missing.",
        f"Unpack sentences/wav of {session.name} again.",
    )


def _no_annotation(
    folder: Path, session: Path, audio: dict[str, Path], annotated: set[str]
) -> list[Problem]:
    """Return one problem per dialogue that has audio without annotation."""
    silent: dict[str, list[str]] = {}
    for name in sorted(set(audio) - annotated):
        silent.setdefault(name.rpartition("_")[0], []).append(name)
    problems = []
    for dialog, names in silent.items():
        problems.append(
            _problem(
                "unlabelled",
                audio[names[0]].relative_to(folder).as_posix(),
                f"{len(names)} sentence files of {dialog or session.name} have no "
                f"label in {session.name}/dialog/EmoEvaluation/{dialog}.txt, e.g. "
                f"{names[0]}.",
                f"Unpack dialog/EmoEvaluation of {session.name} again, or remove "
                "audio that is not part of the release.",
            )
        )
    return problems


def _unknown(where: str, error: ValueError) -> Problem:
    """Return the problem of an annotation line that cannot be understood."""
    return _problem(
        "mislabelled",
        where,
        f"{where}: {error}",
        "Compare the file with an original copy; until then the turn is left out.",
    )


def _problem(kind: str, file: str, message: str, fix: str) -> Problem:
    """Return a problem that makes results wrong."""
    return Problem("error", kind, file, message, fix)


def _sex(speaker: str) -> str:
    """Return the sex that the last letter of a speaker stands for."""
    return "female" if speaker.endswith("F") else "male"


SPEAKERS = tuple(f"Ses{number:02d}{letter}" for number in SESSIONS for letter in "FM")

CORPUS = Corpus(
    name="IEMOCAP",
    title="IEMOCAP, four classes",
    language="English (US)",
    labels=LABELS,
    counts=dict(zip(LABELS, (1103, 1636, 1708, 1084), strict=True)),
    sexes={speaker: _sex(speaker) for speaker in SPEAKERS},
    sample_rate=16_000,
    channels=1,
    clip_samples=310_000,
    dilations=10,
    terms="Licensed by the University of Southern California; do not redistribute.",
    how_to_get=(
        "Send the signed release form (https://sail.usc.edu/iemocap), fetch the "
        "release and unpack it there, so that Session1/dialog/EmoEvaluation and "
        "Session1/sentences/wav, and those of the other four sessions, lie in it."
    ),
    citation=(
        "Busso, C., Bulut, M., Lee, C.-C., Kazemzadeh, A., Mower, E., Kim, S., Chang, "
        "J. N., Lee, S. and Narayanan, S. S. (2008). IEMOCAP: interactive emotional "
        "dyadic motion capture database. Language Resources and Evaluation 42, 335-359."
    ),
    parse=parse,
    find=find,
    official_name="IEMOCAP",
    seconds=(0.3, 40.0),
)
