"""What a file-name pattern cannot describe: the layouts of CASIA and IEMOCAP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from lib.corpora import records
from lib.corpora.records import Clip, Corpus, Problem, problem

_IN_SESSION = re.compile(
    r"(?:.*/)?(?i:session)[1-5]/"
    r"(?:dialog/EmoEvaluation/[^/]+\.txt|sentences/wav/.+(?i:\.wav|\.flac))"
)
# Lines of single evaluators begin with C- and A-.
_TURN = re.compile(r"(?m)^[ \t]*\[[\d.]+ - [\d.]+\]\s+(\S+)\s+(\w+)\s+\[.*\]\s*$")


def _casia_name(corpus: Corpus, file: PurePosixPath) -> str:
    """Return `<number>-<emotion>-<speaker>`, from the name, then from the folders."""
    fields = re.split("[-_ ]", file.stem.lower())
    folders = [part.lower() for part in reversed(file.parts[:-1])]
    chosen = [field for field in fields if field.isdecimal()][:1]
    told = len(chosen)
    for known in (corpus.labels, [speaker.lower() for speaker in corpus.sexes]):
        named = [field for field in fields if field in known]
        chosen += (named + [part for part in folders if part in known])[:1]
        told += bool(named)
    # A field that says nothing new, such as a second number, is not of the release.
    return "-".join(chosen) if told == len(fields) else ""


def _find_iemocap(corpus: Corpus, folder: Path) -> Iterator[Clip | Problem]:
    """Match the annotated turns of all sessions with their sentence files."""
    audio: dict[str, PurePosixPath] = {}
    turns: dict[str, tuple[str, PurePosixPath]] = {}
    files = records.files_below(folder, {".txt", *records.RELEASED_SUFFIXES})
    files = [file for file in files if _IN_SESSION.fullmatch(str(file))]
    # Of several copies the one that is least deep.
    for file in sorted(files, key=lambda file: len(file.parts)):
        if file.suffix != ".txt":
            audio.setdefault(file.stem, file)
            continue
        text = (folder / file).read_text(encoding="utf-8", errors="replace")
        for turn, code in _TURN.findall(text):
            turns.setdefault(turn, (code, file))
    for turn, (code, where) in turns.items():
        name = re.fullmatch(corpus.naming["pattern"], turn, re.VERBOSE)
        label = corpus.naming["codes"].get(code, "") if name else ""
        if label == "":
            yield problem("turn", str(where), turn=turn, code=code)
        elif label and turn in audio:
            speaker = name["session"] + name["letter"]
            told = (label, speaker, corpus.sexes[speaker], name["text"], turn)
            yield Clip(folder / audio[turn], str(audio[turn]), *told)
        elif label:
            yield problem("no audio", str(where), turn=turn)
    for turn in sorted(audio.keys() - turns.keys()):
        yield problem("no label", str(audio[turn]))


records.NAMES["CASIA"] = _casia_name
records.FINDERS["IEMOCAP"] = _find_iemocap
