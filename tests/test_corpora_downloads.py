"""Downloads from a local server: checked, whole or absent."""

import hashlib
import http.server
import io
import threading
import zipfile

import pytest

from lib import corpora
from lib.corpora import downloads
from lib.files import REPOSITORY

ORIGINALS = {
    f"wav/{key}.wav": f"{key} ".encode() * 40_000 for key in ("03a01Fa", "03a01Wa")
}
HASHES = {
    name[4:-4]: hashlib.sha256(content).hexdigest()
    for name, content in ORIGINALS.items()
}


def archive(files):
    """Return an uncompressed zip, so that its size is that of the audio."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as target:
        for name, content in files.items():
            target.writestr(name, content)
    return packed.getvalue()


class Host(http.server.ThreadingHTTPServer):
    """Serves one file; `cuts` connections break in the middle of what they send."""

    content = b""
    cuts = 0
    asked: list[str]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # noqa: N802
        host = self.server
        host.asked.append(self.path)
        if self.path != "/download.zip":
            self.send_error(404)
            return
        body = host.content
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if host.cuts:
            host.cuts -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def host(monkeypatch):
    server = Host(("127.0.0.1", 0), Handler)
    server.asked, server.content = [], archive(ORIGINALS)
    server.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(downloads, "load_checksums", lambda name: dict(HASHES))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def fetch(host, datasets):
    corpus = corpora.get("EMODB")
    return corpora.download(corpus, datasets, base_url=host.url, progress=False)


def left_over(datasets):
    """Return everything below a folder, to prove what a failure leaves."""
    return sorted(p.relative_to(datasets).as_posix() for p in datasets.rglob("*"))


def test_a_corpus_arrives_whole_and_nothing_else_stays(host, tmp_path):
    folder = fetch(host, tmp_path)
    assert folder == tmp_path / "EMODB"
    for name, content in ORIGINALS.items():
        assert (folder / name).read_bytes() == content
    assert [u.label for u in corpora.scan(corpora.get("EMODB"), folder)] == [
        "angry",
        "happy",
    ]
    assert left_over(tmp_path) == [
        ".downloads",
        "EMODB",
        "EMODB/wav",
        "EMODB/wav/03a01Fa.wav",
        "EMODB/wav/03a01Wa.wav",
    ]


def test_a_whole_corpus_is_not_fetched_again(host, tmp_path):
    fetch(host, tmp_path)
    host.asked.clear()
    fetch(host, tmp_path)
    assert host.asked == []


def test_a_transfer_that_breaks_off_leaves_nothing_and_is_begun_again(host, tmp_path):
    host.cuts = 1
    with pytest.raises(OSError, match=r"download\.zip.*run the same again"):
        fetch(host, tmp_path)
    assert left_over(tmp_path) == [".downloads"]
    # Meanwhile the host packs the archive anew: nothing of the old one is left in it.
    host.content = archive(dict(reversed(ORIGINALS.items())))
    folder = fetch(host, tmp_path)
    assert (folder / "wav/03a01Wa.wav").read_bytes() == ORIGINALS["wav/03a01Wa.wav"]


def test_a_host_that_does_not_answer(host, tmp_path):
    host.url = "http://127.0.0.1:9"
    with pytest.raises(OSError, match="Check the connection"):
        fetch(host, tmp_path)


def test_a_damaged_archive_leaves_no_corpus_and_is_fetched_anew(host, tmp_path):
    good, bad = host.content, bytearray(host.content)
    bad[len(bad) // 2] ^= 0xFF
    host.content = bytes(bad)
    with pytest.raises(ValueError, match=r"damaged.*wav/03a01"):
        fetch(host, tmp_path)
    assert left_over(tmp_path) == [".downloads", ".downloads/download.zip.rejected"]
    host.content = good
    fetch(host, tmp_path)
    assert (tmp_path / "EMODB/wav/03a01Wa.wav").is_file()


def test_something_that_is_no_archive(host, tmp_path):
    host.content = b"<html>We have moved</html>"
    with pytest.raises(ValueError, match="damaged"):
        fetch(host, tmp_path)
    assert not (tmp_path / "EMODB").exists()


def test_altered_and_missing_files_are_named(host, tmp_path):
    host.content = archive({"wav/03a01Fa.wav": b"cut to two seconds"})
    with pytest.raises(ValueError) as error:
        fetch(host, tmp_path)
    assert "1 missing (03a01Wa)" in str(error.value)
    assert "1 altered (wav/03a01Fa.wav)" in str(error.value)
    assert not (tmp_path / "EMODB").exists()


def test_another_copy_is_never_overwritten(host, tmp_path):
    own = tmp_path / "EMODB" / "wav" / "03a01Fa.wav"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    with pytest.raises(ValueError, match="Move the folder away"):
        fetch(host, tmp_path)
    assert own.read_bytes() == b"mine"
    assert host.asked == []


def test_an_empty_corpus_folder_is_filled(host, tmp_path):
    (tmp_path / "EMODB").mkdir()
    fetch(host, tmp_path)
    assert (tmp_path / "EMODB/wav/03a01Fa.wav").is_file()


def test_a_missing_page_says_so(host, tmp_path):
    host.url += "/nowhere"
    with pytest.raises(OSError, match="404"):
        fetch(host, tmp_path)
    assert not (tmp_path / "EMODB").exists()


@pytest.mark.parametrize("name", ["CASIA", "IEMOCAP", "SAVEE", "EMOVO", "ASVP_ESD"])
def test_licensed_corpora_say_how_to_get_them(name, tmp_path):
    corpus = corpora.get(name)
    with pytest.raises(ValueError) as error:
        corpora.download(corpus, tmp_path)
    assert corpus.how_to_get in str(error.value)
    assert left_over(tmp_path) == []


def test_addresses_and_hash_lists_of_the_free_corpora():
    archives = {
        "EMODB": "https://emodb.bilderbar.info/download/download.zip",
        "RAVDESS": "https://zenodo.org/records/1188976/files/"
        "Audio_Speech_Actors_01-24.zip",
    }
    for name, url in archives.items():
        (part,) = corpora.get(name).download
        assert part.url == url
        assert len(corpora.load_checksums(part.checksums)) == sum(
            corpora.get(name).counts.values()
        )


def test_original_files_beside_the_project_have_the_listed_hashes():
    folder = REPOSITORY.parent / "shared/corpora/RAVDESS_original_wav"
    if not folder.is_dir():
        pytest.skip("original RAVDESS files are not beside the project")
    hashes = corpora.load_checksums("RAVDESS")
    files = sorted(folder.rglob("*.wav"))
    assert files
    for file in files:
        assert hashlib.sha256(file.read_bytes()).hexdigest() == hashes[file.stem]
