"""Downloads from a local server: checked, whole or absent."""

import dataclasses
import hashlib
import http.server
import importlib
import io
import threading
import zipfile

import pytest

from lib import corpora

ORIGINALS = {
    f"wav/{key}.wav": f"{key} ".encode() * 40_000 for key in ("03a01Fa", "03a01Wa")
}
EMODB = corpora.get("EMODB")


def archive(files, method=zipfile.ZIP_STORED):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as target:
        for name, content in files.items():
            target.writestr(name, content)
    return packed.getvalue()


def damaged(content):
    """Return an archive whose first file is overwritten where it begins."""
    start = content.index(b".wav") + len(b".wav")
    return content[:start] + b"\xff" * 20 + content[start + 20 :]


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one file; `cuts` connections break in the middle of what they send."""

    def do_GET(self):  # noqa: N802
        host = self.server
        host.asked.append(self.path)
        if self.path != "/download.zip":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(host.content)))
        self.end_headers()
        half = len(host.content) // 2 if host.cuts else len(host.content)
        host.cuts = max(0, host.cuts - 1)
        self.wfile.write(host.content[:half])

    def log_message(self, *_):
        pass


@pytest.fixture
def host(monkeypatch, tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.content, server.cuts = [], archive(ORIGINALS), 0
    server.url = f"http://127.0.0.1:{server.server_port}/download.zip"
    lines = [f"{hashlib.sha256(c).hexdigest()}  {n}\n" for n, c in ORIGINALS.items()]
    (tmp_path / "EMODB.sha256").write_text("".join(lines))
    # The module has the name of the function.
    module = importlib.import_module("lib.corpora.download")
    monkeypatch.setattr(module, "CHECKSUMS", tmp_path)
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


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (damaged(archive(ORIGINALS)), "BadZipFile"),
        (damaged(archive(ORIGINALS, zipfile.ZIP_DEFLATED)), "error"),
        (b"<html>We have moved</html>", "BadZipFile"),
        (archive({"wav/03a01Fa.wav": b"cut"}), "2 missing or altered: 03a01Fa, 03a01W"),
        (archive({}), "2 missing"),
    ],
)
def test_what_is_not_the_original_is_refused_and_fetched_anew(
    host, fetch, tmp_path, content, said
):
    good, host.content = host.content, content
    with pytest.raises(OSError, match=said) as raised:
        fetch()
    assert EMODB.how_to_get in str(raised.value)
    assert not (tmp_path / "data" / "EMODB").exists()
    # The host may pack the archive anew: nothing of the old one is left in it.
    host.content = good
    assert (fetch() / "wav/03a01Wa.wav").read_bytes() == ORIGINALS["wav/03a01Wa.wav"]


def test_a_transfer_that_fails_says_so_and_is_begun_again(host, fetch, tmp_path):
    host.cuts = 1
    with pytest.raises(OSError, match=r"download\.zip.*run the same again"):
        fetch()
    right = host.url
    for wrong, said in [(f"{right}/no", "404"), ("http://127.0.0.1:9", "onnection")]:
        host.url = wrong
        with pytest.raises(OSError, match=said):
            fetch()
    assert not (tmp_path / "data" / "EMODB").exists()
    host.url = right
    assert (fetch() / "wav/03a01Wa.wav").is_file()


def test_another_copy_is_never_overwritten(host, fetch, tmp_path):
    own = tmp_path / "data" / "EMODB" / "wav" / "03a01Fa.wav"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    with pytest.raises(ValueError, match="Move the folder away"):
        fetch()
    assert own.read_bytes() == b"mine" and host.asked == []


@pytest.mark.parametrize("name", ["CASIA", "IEMOCAP", "SAVEE", "EMOVO", "ASVP_ESD"])
def test_licensed_corpora_say_how_to_get_them(name, tmp_path):
    corpus = corpora.get(name)
    with pytest.raises(ValueError) as raised:
        corpora.download(corpus, tmp_path)
    assert corpus.how_to_get in str(raised.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["EMODB", "RAVDESS"])
def test_the_free_corpora_have_the_hash_of_every_file(name):
    corpus = corpora.get(name)
    assert corpus.download in corpus.how_to_get or "1188976" in corpus.how_to_get
    assert len(corpora.load_checksums(corpus)) == sum(corpus.counts.values())
