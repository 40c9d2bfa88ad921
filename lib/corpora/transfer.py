"""Fetch one file over HTTP and go on where a broken transfer stopped."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import requests
from tqdm.auto import tqdm

_CHUNK = 1 << 16
_TIMEOUT = (15, 60)


def resumable(part: Path, progress: bool = True) -> Callable[..., None]:
    """Return a downloader for `pooch.retrieve` that keeps what it has received.

    pooch's own downloader begins again at every call; this one writes to `part`,
    asks the server for the rest of it, and begins again only if the server cannot
    send parts. It retries for as long as every try brings something.

    Args:
        part: Where the unfinished file is kept between calls.
        progress: Whether to draw a progress bar.

    Returns:
        A function of (url, output_file, pooch) that fetches `url`.
    """

    def fetch(url: str, output_file: str | Path, _pooch: object) -> None:
        while True:
            before = _size(part)
            try:
                _continue(url, part, progress)
                break
            except OSError as error:  # those of requests and of the disk are OSErrors
                if _size(part) <= before:
                    raise _broken(url, part, error) from error
        os.replace(part, output_file)

    return fetch


def _continue(url: str, part: Path, progress: bool) -> None:
    """Receive the rest of a file, or all of it where the server knows no parts."""
    start = _size(part)
    # Without "identity" the server may compress, and offsets would mean nothing.
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            if _total(response) == start:
                return
            # What was kept belongs to another version of the file.
            part.unlink()
            return _continue(url, part, progress)
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        _receive(response, part, start, total, progress)
    if total is not None and _size(part) != total:
        raise ConnectionError(f"received {_size(part)} of {total} bytes")


def _receive(
    response: requests.Response,
    part: Path,
    start: int,
    total: int | None,
    progress: bool,
) -> None:
    """Append what the server sends to the unfinished file."""
    with (
        open(part, "ab" if start else "wb") as file,
        tqdm(
            total=total,
            initial=start,
            unit="B",
            unit_scale=True,
            desc=part.stem,
            disable=not progress,
        ) as bar,
    ):
        for chunk in response.iter_content(_CHUNK):
            file.write(chunk)
            bar.update(len(chunk))


def _total(response: requests.Response) -> int | None:
    """Return the size of the whole file that a refused range tells."""
    size = response.headers.get("Content-Range", "").rpartition("/")[2]
    return int(size) if size.isdecimal() else None


def _size(part: Path) -> int:
    """Return how many bytes have been received so far."""
    return part.stat().st_size if part.exists() else 0


def _broken(url: str, part: Path, error: Exception) -> OSError:
    """Return the error of a transfer that cannot go on now."""
    received = _size(part)
    kept = (
        f"{received / 1e6:.1f} MB are kept in {part}; run the same again to go on."
        if received
        else "Check the connection and run the same again."
    )
    return OSError(f"Could not fetch {url}: {error}. {kept}")
