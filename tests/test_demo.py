"""The DEMO corpus: reproducible, whole, speech-like, learnable but not trivial."""

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lib import config, corpora, features
from lib.corpora import demo

RATE = 16_000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return demo.generate(tmp_path_factory.mktemp("corpus") / "DEMO", verbose=0)


@pytest.fixture(scope="module")
def clips(corpus):
    """Return a row per clip: what it is, and its samples by an independent library."""
    found, _ = corpora.find(corpora.get("DEMO"), corpus)
    table = pd.DataFrame(
        [[c.speaker, c.label, c.text, c.sex, soundfile.read(c.path)[0]] for c in found],
        columns=["speaker", "emotion", "text", "sex", "samples"],
    )
    return table


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_doctor_finds_every_clip_once_and_nothing_else(corpus, clips):
    report = corpora.check(corpora.get("DEMO"), corpus)
    assert report.problems == () and len(report.usable) == 8 * 6 * 6
    assert set(clips.value_counts(["speaker", "emotion", "text"])) == {1}


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


def test_learnable_on_new_speakers_and_easier_on_known_ones(clips):
    rows = []
    for samples in clips["samples"]:
        mfcc = librosa.feature.mfcc(y=samples, sr=RATE, n_mfcc=39)
        rows.append(np.concatenate([mfcc.mean(axis=1), mfcc.std(axis=1)]))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    truth = clips["emotion"]

    def recall(folds, groups=None):
        told = cross_val_predict(model, np.array(rows), truth, groups=groups, cv=folds)
        return balanced_accuracy_score(truth, told)

    new_speakers = recall(GroupKFold(4), clips["speaker"])
    known_speakers = recall(StratifiedKFold(4, shuffle=True, random_state=0))
    assert 0.45 < new_speakers < 0.8
    assert new_speakers + 0.05 < known_speakers < 0.95
