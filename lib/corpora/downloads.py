"""Fetch the corpora that are free to fetch: checked, whole or absent.

Archives are not checked by their own hash, because hosts pack them anew; every audio
file in them is compared with the hash of the original.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path, PurePosixPath

import pooch

from lib.corpora.base import Corpus, Download, Tags
from lib.corpora.checksums import load_checksums
from lib.corpora.walk import files_below, is_audio
from lib.files import DATASETS, located, sha256_file

_NAMED = 5


def download(
    corpus: Corpus,
    datasets: Path | str | None = None,
    base_url: str = "",
    progress: bool = True,
) -> Path:
    """Fetch a corpus into `<datasets>/<NAME>`.

    The corpus folder appears only when every file in it has the hash of the original.

    Args:
        corpus: The corpus to fetch.
        datasets: Folder of the corpora; None is the workbook's own.
        base_url: Address of a mirror that holds the archives under their own names;
            "" is the official host.
        progress: Whether to draw a progress bar.

    Returns:
        The corpus folder.

    Raises:
        ValueError: If the corpus cannot be fetched without its owner's consent, if
            another copy is already there, or if an archive is damaged or altered.
        OSError: If the transfer breaks off.
    """
    if not corpus.download:
        raise ValueError(
            f"{corpus.title} cannot be fetched automatically. {corpus.how_to_get}"
        )
    datasets = located(datasets or DATASETS)
    target = datasets / corpus.name
    if target.is_dir() and any(target.iterdir()):
        return _existing(corpus, target)
    archives = [_fetch(part, datasets, base_url, progress) for part in corpus.download]
    with tempfile.TemporaryDirectory(
        prefix=f".{corpus.name}-", dir=datasets, ignore_cleanup_errors=True
    ) as scratch:
        unpacked = Path(scratch) / corpus.name
        for archive in archives:
            _unpack(archive, unpacked)
        if faults := _altered(corpus, unpacked):
            for archive in archives:
                _set_aside(archive)
            raise ValueError(
                f"The archive of {corpus.name} is not the original: {faults} Nothing "
                f"was installed. It was set aside in {archives[0].parent}. Try again "
                f"later, or get it by hand: {corpus.how_to_get}"
            )
        if target.is_dir():
            target.rmdir()
        unpacked.rename(target)
    for archive in archives:
        archive.unlink()
    return target


def _fetch(part: Download, datasets: Path, base_url: str, progress: bool) -> Path:
    """Fetch one archive into the folder of downloads."""
    name = PurePosixPath(part.url).name
    url = f"{base_url.rstrip('/')}/{name}" if base_url else part.url
    # It would ask the user to copy the hash of the archive into the program.
    pooch.get_logger().setLevel("WARNING")
    try:
        archive = pooch.retrieve(
            url,
            known_hash=None,
            fname=name,
            path=datasets / ".downloads",
            downloader=pooch.HTTPDownloader(progressbar=progress),
        )
    except OSError as error:  # those of the connection and of the disk
        raise OSError(
            f"Could not fetch {url}: {error}. Check the connection and the disk, and "
            "run the same again."
        ) from error
    return Path(archive)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip archive, every member's own check sum being verified."""
    try:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
    except (zipfile.BadZipFile, EOFError, ValueError) as error:
        _set_aside(archive)
        raise ValueError(
            f"{archive.name} is damaged ({error}). Nothing was installed; run the same "
            "again to fetch it anew."
        ) from error


def _set_aside(archive: Path) -> None:
    """Rename an archive that failed, so that the next call does not trust it."""
    if archive.exists():
        archive.replace(archive.with_name(f"{archive.name}.rejected"))


def _existing(corpus: Corpus, folder: Path) -> Path:
    """Return a corpus folder that is whole already, else refuse to touch it."""
    if faults := _altered(corpus, folder):
        raise ValueError(
            f"{folder} already holds files, but not the original {corpus.name}: "
            f"{faults} Move the folder away to fetch the original."
        )
    return folder


def _altered(corpus: Corpus, folder: Path) -> str:
    """Return which original files a folder lacks or holds altered, "" if none."""
    expected = load_checksums(corpus.download[0].checksums)
    found: dict[str, list[Path]] = {}
    for file in files_below(folder):
        if is_audio(file) and (tags := _tags(corpus, file)):
            found.setdefault(tags.key, []).append(folder / file)
    missing = sorted(set(expected) - set(found))
    altered = sorted(
        path.relative_to(folder).as_posix()
        for key, paths in found.items()
        for path in paths
        if sha256_file(path) != expected.get(key)
    )
    return _said("missing", missing) + _said("altered", altered)


def _tags(corpus: Corpus, file: PurePosixPath) -> Tags | None:
    """Return the tags of a file, None where it is not the corpus's."""
    try:
        return corpus.parse(file)
    except ValueError:
        return None


def _said(what: str, names: list[str]) -> str:
    """Return how many files are missing or altered, and the first of them."""
    if not names:
        return ""
    more = ", …" if len(names) > _NAMED else ""
    return f"{len(names)} {what} ({', '.join(names[:_NAMED])}{more}). "
