"""Downloads from a local server: checked, whole or absent."""

import dataclasses
import functools
import hashlib
import http.server
import io
import threading
import zipfile

import pytest

from lib import corpora
from lib.corpora import records

ORIGINALS = {
    f"wav/{key}.wav": f"{key} ".encode() * 40_000 for key in ("03a01Fa", "03a01Wa")
}
EMODB = corpora.get("EMODB")


def archive(files):
    with zipfile.ZipFile(packed := io.BytesIO(), "w") as target:
        for name, content in files.items():
            target.writestr(name, content)
    return packed.getvalue()


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; a connection breaks after `end` bytes where that is set."""

    def copyfile(self, source, target):
        target.write(source.read()[: self.server.end])

    def log_message(self, *_):
        self.server.asked += 1


@pytest.fixture
def host(monkeypatch, tmp_path):
    """Serve an archive of the originals, whose hashes are the known ones."""
    files = functools.partial(Handler, directory=tmp_path)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), files)
    server.asked, server.end, server.file = 0, None, tmp_path / "download.zip"
    server.file.write_bytes(archive(ORIGINALS))
    server.url = f"http://127.0.0.1:{server.server_port}/download.zip"
    lines = [f"{hashlib.sha256(c).hexdigest()}  {n}\n" for n, c in ORIGINALS.items()]
    (tmp_path / "EMODB.sha256").write_text("".join(lines))
    monkeypatch.setattr(records, "CHECKSUMS", tmp_path)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def fetch(host, tmp_path):
    """Return what fetches EMODB from the host into `tmp_path / "data"`."""
    (tmp_path / "data").mkdir()
    return lambda: corpora.download(
        dataclasses.replace(EMODB, download=host.url), tmp_path / "data"
    )


def test_a_corpus_arrives_whole_and_is_not_fetched_again(host, fetch, tmp_path):
    (tmp_path / "data" / "EMODB").mkdir()  # an empty folder is filled
    folder = fetch()
    assert folder == tmp_path / "data" / "EMODB"
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert {str(f.relative_to(folder)): f.read_bytes() for f in files} == ORIGINALS
    assert host.asked == 1 and fetch() == folder and host.asked == 1


def test_what_cannot_be_fetched_says_so_and_is_begun_again(host, fetch, tmp_path):
    good, right = host.file.read_bytes(), host.url
    broken = bytearray(good)
    broken[100_000] ^= 1
    for content, end, url, said in (
        (broken, None, right, "BadZipFile"),
        (b"<html>We have moved</html>", None, right, "BadZipFile"),
        (good, len(good) // 2, right, r"download\.zip.*Run the same again"),
        (good, None, f"{right}/no", "404"),
    ):
        host.file.write_bytes(content)
        host.end, host.url = end, url
        with pytest.raises(OSError, match=said) as raised:
            fetch()
        assert EMODB.how_to_get in str(raised.value)
        assert not (tmp_path / "data" / "EMODB").exists()
    host.url = right
    assert (fetch() / "wav/03a01Wa.wav").read_bytes() == ORIGINALS["wav/03a01Wa.wav"]


def test_another_copy_is_refused_and_never_overwritten(host, fetch, tmp_path):
    host.file.write_bytes(archive({"wav/03a01Fa.wav": b"cut"}))
    for _ in range(2):
        with pytest.raises(ValueError, match="2 files are.*03a01Fa, 03a01Wa.*away"):
            fetch()
    assert (tmp_path / "data/EMODB/wav/03a01Fa.wav").read_bytes() == b"cut"
    assert host.asked == 1


def test_free_corpora_have_the_hash_of_every_file_and_others_a_licence(tmp_path):
    for corpus in map(corpora.get, ("EMODB", "RAVDESS")):
        assert len(records.load_checksums(corpus)) == sum(corpus.counts.values())
    with pytest.raises(ValueError, match="for a licence"):
        corpora.download(corpora.get("CASIA"), tmp_path)
