"""Downloads from a local server: checked, whole or absent."""

import dataclasses
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
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as target:
        for name, content in files.items():
            target.writestr(name, content)
    return packed.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one file; a connection breaks in the middle where `cut` is set."""

    def do_GET(self):  # noqa: N802
        host = self.server
        host.asked.append(self.path)
        if self.path != "/download.zip":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(host.content)))
        self.end_headers()
        end = len(host.content) // 2 if host.cut else None
        self.wfile.write(host.content[:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def host(monkeypatch, tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.content, server.cut = [], archive(ORIGINALS), False
    server.url = f"http://127.0.0.1:{server.server_port}/download.zip"
    lines = [f"{hashlib.sha256(c).hexdigest()}  {n}\n" for n, c in ORIGINALS.items()]
    (tmp_path / "EMODB.sha256").write_text("".join(lines))
    monkeypatch.setattr(records, "CHECKSUMS", tmp_path)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


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
    host.asked.clear()
    assert fetch() == folder and host.asked == []


def test_what_cannot_be_fetched_says_so_and_is_begun_again(host, fetch, tmp_path):
    good, right = host.content, host.url
    broken = bytearray(good)
    broken[100_000] ^= 1
    for content, cut, url, said in [
        (bytes(broken), False, right, "BadZipFile"),
        (b"<html>We have moved</html>", False, right, "BadZipFile"),
        (good, True, right, r"download\.zip.*Run the same again"),
        (good, False, f"{right}/no", "404"),
    ]:
        host.content, host.cut, host.url = content, cut, url
        with pytest.raises(OSError, match=said) as raised:
            fetch()
        assert EMODB.how_to_get in str(raised.value)
        assert not (tmp_path / "data" / "EMODB").exists()
    host.url = right
    assert (fetch() / "wav/03a01Wa.wav").read_bytes() == ORIGINALS["wav/03a01Wa.wav"]


def test_another_copy_is_refused_and_never_overwritten(host, fetch, tmp_path):
    host.content = archive({"wav/03a01Fa.wav": b"cut"})
    for _ in range(2):
        with pytest.raises(ValueError, match="2 files are.*03a01Fa, 03a01Wa.*away"):
            fetch()
    assert (tmp_path / "data/EMODB/wav/03a01Fa.wav").read_bytes() == b"cut"
    assert len(host.asked) == 1


def test_licensed_corpora_say_how_to_get_them(tmp_path):
    with pytest.raises(ValueError, match="for a licence"):
        corpora.download(corpora.get("CASIA"), tmp_path)


def test_the_free_corpora_have_the_hash_of_every_file():
    for corpus in map(corpora.get, ("EMODB", "RAVDESS")):
        assert len(records.load_checksums(corpus)) == sum(corpus.counts.values())
