"""The DEMO corpus: reproducible and whole."""

import pytest

from lib import config, corpora, features
from lib.corpora import demo


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return demo.generate(tmp_path_factory.mktemp("corpus") / "DEMO", verbose=0)


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_whole_corpus_is_kept_a_harmed_one_mended(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "CLIPS", demo.CLIPS[:9])
    params = config.validated({"workspace": str(tmp_path)})
    folder = params.folders.datasets / "DEMO"
    mine, clip = folder / "f1" / "mine.wav", folder / "f1" / "f1_angry_t2.wav"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    demo.generate(folder, verbose=0)
    whole, manifest = contents(folder), folder / demo.MANIFEST
    older = manifest.read_text().replace('"version": 2', '"version": 1')
    harms = (
        lambda: demo.generate(folder),
        lambda: clip.unlink(),
        lambda: clip.write_bytes(clip.read_bytes()[:999]),
        lambda: manifest.write_text("{"),
        lambda: manifest.write_text(older),
    )
    for number, harm in enumerate(harms):
        before = clip.stat().st_mtime_ns
        harm()
        with pytest.raises(ValueError, match="Missing 279"):
            features.obtain(params)
        assert contents(folder) == whole
        assert (clip.stat().st_mtime_ns > before) == (number > 0)
    assert whole.pop("f1/mine.wav") == b"mine"
    del whole[demo.MANIFEST]
    assert whole.items() <= contents(corpus).items()
    report = corpora.check(corpora.get("DEMO"), corpus)
    assert report.problems == () and len(report.usable) == 8 * 6 * 6
