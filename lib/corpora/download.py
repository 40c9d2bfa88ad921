"""Fetch the corpora that are free to fetch: checked, whole or absent."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import pooch

from lib.corpora.records import Corpus, find, first_few
from lib.files import DATASETS, located, sha256_file

CHECKSUMS = Path(__file__).resolve().parent.parent / "data" / "checksums"


def load_checksums(corpus: Corpus) -> dict[str, str]:
    """Return the SHA-256 of every original file by official key, {} if not known."""
    if not corpus.checksums:
        return {}
    text = (CHECKSUMS / f"{corpus.checksums}.sha256").read_text(encoding="utf-8")
    lines = [line.split("  ") for line in text.splitlines()]
    return {corpus.parse(PurePosixPath(file)).key: digest for digest, file in lines}


def download(corpus: Corpus, datasets: Path | str | None = None) -> Path:
    """Fetch a corpus into `<datasets>/<NAME>`, or find it there; return the folder.

    It appears only when every file has the hash of the original.
    """
    target = located(datasets or DATASETS) / corpus.name
    if not corpus.download:
        raise ValueError(f"{corpus.title} cannot be fetched. {corpus.how_to_get}")
    if target.is_dir() and any(target.iterdir()):
        if faults := _unlike_original(corpus, target):
            raise ValueError(
                f"{target} already holds files, but not the original {corpus.name} "
                f"({faults}). Move the folder away to fetch the original."
            )
        return target
    scratch = target.parent / ".downloads" / corpus.name
    shutil.rmtree(scratch, ignore_errors=True)
    # It would ask the user to copy a hash; that of an archive does not last.
    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(
            corpus.download,
            known_hash=None,
            fname="archive.zip",
            path=scratch,
            processor=pooch.Unzip(extract_dir="unpacked"),
            downloader=pooch.HTTPDownloader(progressbar=True),
        )
        faults = _unlike_original(corpus, scratch / "unpacked")
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        faults = f"{type(error).__name__}: {error}"
    if faults:
        shutil.rmtree(scratch, ignore_errors=True)
        raise OSError(
            f"{corpus.download} did not give the original {corpus.name} ({faults}). "
            "Nothing was installed. Check the connection and the disk and run the same "
            f"again, or get it by hand: {corpus.how_to_get}"
        )
    if target.is_dir():
        target.rmdir()
    (scratch / "unpacked").rename(target)
    shutil.rmtree(scratch)
    return target


def _unlike_original(corpus: Corpus, folder: Path) -> str:
    """Return which original files a folder lacks or holds altered, "" if none."""
    found = {clip.key: sha256_file(clip.path) for clip in find(corpus, folder)[0]}
    odd = sorted({key for key, _ in found.items() ^ load_checksums(corpus).items()})
    return f"{len(odd)} missing or altered: {first_few(odd, 4)}" if odd else ""
