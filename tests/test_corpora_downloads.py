"""Downloads from a local server: resumed, checked, whole or absent."""

import hashlib
import http.server
import io
import threading
import zipfile

import pytest

from lib import corpora
from lib.corpora import downloads
from lib.paths import REPOSITORY

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
    ranges = True
    asked: list[str | None]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # noqa: N802
        host, asked = self.server, self.headers.get("Range")
        host.asked.append(asked)
        if self.path != "/download.zip":
            self.send_error(404)
            return
        start = int(asked[6:-1]) if asked and host.ranges else 0
        size = len(host.content)
        if start >= size:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.end_headers()
            return
        body = host.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
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
    assert [u.tags.label for u in corpora.scan(corpora.get("EMODB"), folder)] == [
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


def test_one_cut_is_mended_in_the_same_call_with_a_range(host, tmp_path):
    host.cuts = 1
    folder = fetch(host, tmp_path)
    first, second = host.asked
    assert first is None
    # What was received is kept but for the chunk that broke.
    assert 0 < int(second.removeprefix("bytes=")[:-1]) <= len(host.content) // 2
    assert (folder / "wav/03a01Fa.wav").read_bytes() == ORIGINALS["wav/03a01Fa.wav"]


def test_a_dead_line_keeps_what_came_and_the_next_call_goes_on(host, tmp_path):
    part = tmp_path / ".downloads" / "download.zip.part"
    part.parent.mkdir()
    part.write_bytes(host.content[:1000])
    url, host.url = host.url, "http://127.0.0.1:9"
    with pytest.raises(OSError, match="run the same again") as error:
        fetch(host, tmp_path)
    assert str(part) in str(error.value)
    assert part.read_bytes() == host.content[:1000]
    assert left_over(tmp_path) == [".downloads", ".downloads/download.zip.part"]
    host.url = url
    fetch(host, tmp_path)
    assert host.asked == ["bytes=1000-"]
    assert not part.exists()


def test_a_server_without_ranges_begins_again(host, tmp_path):
    host.ranges, host.cuts = False, 1
    folder = fetch(host, tmp_path)
    assert len(host.asked) == 2
    assert (folder / "wav/03a01Wa.wav").read_bytes() == ORIGINALS["wav/03a01Wa.wav"]


def test_a_server_that_always_cuts_gives_up(host, tmp_path):
    host.ranges, host.cuts = False, 100
    with pytest.raises(OSError, match=r"download\.zip\.part"):
        fetch(host, tmp_path)
    assert host.cuts >= 98
    assert not (tmp_path / "EMODB").exists()


@pytest.mark.parametrize("extra", [0, 500])
def test_an_unfinished_file_that_is_complete_or_too_long(host, tmp_path, extra):
    part = tmp_path / ".downloads" / "download.zip.part"
    part.parent.mkdir()
    part.write_bytes(host.content + b"x" * extra)
    folder = fetch(host, tmp_path)
    assert (folder / "wav/03a01Fa.wav").read_bytes() == ORIGINALS["wav/03a01Fa.wav"]
    assert len(host.asked) == (2 if extra else 1)


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
