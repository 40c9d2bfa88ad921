"""A run belongs to its data, and every clip is accounted for."""

import dataclasses

import conftest
import numpy as np
import pandas as pd
import pytest
import soundfile

from lib import config, corpora, features, files, planning, runs, test, train

RATE = 16_000
LABELS = ("calm", "cross", "merry")
SPEAKERS = ("ann", "ben", "cleo", "dan")


def write_table(folder, wrong=()):
    """Write recordings and their table; some rows name another speaker."""
    folder.mkdir(exist_ok=True)
    rows, time = [], np.arange(int(0.6 * RATE)) / RATE
    for row in range(24):
        label, speaker = LABELS[row // 8], SPEAKERS[row // 2 % 4]
        file = f"{label}_{speaker}_{row % 2}.wav"
        noise = 0.05 * np.random.default_rng(row).standard_normal(len(time))
        tone = 0.3 * np.sin(400 * np.pi * (1 + row // 8) * time)
        soundfile.write(folder / file, tone + noise, RATE)
        rows.append((file, label, "dan" if file in wrong else speaker))
    table = folder / "table.csv"
    pd.DataFrame(rows, columns=["file", "label", "speaker"]).to_csv(table, index=False)
    return table


def parameters(workspace, **given):
    own = {"corpus": "MINE", "model": "logistic"}
    return conftest.parameters(workspace, **own | given)


def planned(params):
    """Return the plan that notebook 02 would train, its run id, and the features."""
    _, data = features.obtain(params)
    plan = planning.make_plan(params, data)
    return plan, config.make_run_id(plan.settings), data


def trained(params):
    """Train a run as notebook 02 does; return its folders."""
    plan, _, data = planned(params)
    return train.train([plan], data, params.folders, device=conftest.CPU, verbose=0)[0]


@pytest.fixture
def mine(tmp_path):
    """Return a workspace with a registered corpus, and its table."""
    table = write_table(tmp_path / "rec")
    corpora.register("MINE", table, tmp_path / "Datasets", clip_seconds=0.6)
    return tmp_path, table


def test_corrected_speakers_are_another_run(tmp_path):
    wrong = ("calm_ann_0.wav", "cross_ann_1.wav", "merry_ann_0.wav")
    table = write_table(tmp_path / "rec", wrong)
    corpora.register("MINE", table, tmp_path / "Datasets")
    before = trained(parameters(tmp_path))
    kept = before.predictions.read_bytes()
    write_table(tmp_path / "rec")
    after = trained(parameters(tmp_path))
    assert before.predictions.read_bytes() == kept != after.predictions.read_bytes()
    # The old run cannot be tested on the corrected data.
    with pytest.raises(ValueError, match="other recordings, labels or speakers"):
        test.open_run(parameters(tmp_path, run_id=before.run_id), conftest.CPU)


def test_the_same_recordings_elsewhere_are_the_same_run(mine, tmp_path_factory):
    root, _ = mine
    other = tmp_path_factory.mktemp("elsewhere")
    table = write_table(other / "another name")
    corpora.register("MINE", table, other / "Datasets")

    def run_id(folder, one):
        return planned(parameters(folder, model_options={"regularisation": one}))[1]

    assert run_id(root, 1) == run_id(other, 1.0)
    corpora.register("MINE", table, other / "Datasets", clip_seconds=0.3)
    assert run_id(root, 1) != run_id(other, 1)


def test_a_broken_file_stops_stays_marked_and_is_taken_back_when_mended(mine):
    root, table = mine
    path = table.parent / "calm_ann_0.wav"
    whole = path.read_bytes()
    path.write_bytes(whole[:3000])
    with pytest.raises(ValueError, match="(?s)calm_ann_0.wav.*ignore_problems"):
        features.obtain(parameters(root))
    folders = trained(parameters(root, ignore_problems=True))
    audit = runs.read_manifest(folders.manifest)["data"]["audit"]
    assert [audit[name] for name in ("expected", "found", "used")] == [24, 24, 23]
    assert audit["dropped"] == {path.name: "truncated"}
    # 03 and 04 open the run without being told again; the decision is recorded.
    run = test.open_run(parameters(root), conftest.CPU)
    assert len(run.features) == 23
    assert path.name in runs.caveats(run.manifest)["23 of 24 clips"]
    (warning,) = runs.load_runs(folders.results.parent)["warning"]
    assert "errors ignored: truncated" in warning and "23 of 24 clips" in warning
    path.write_bytes(whole)
    corpus, data = features.obtain(parameters(root))
    assert len(data) == 24 and not data.about["audit"]["dropped"]
    report = corpora.check(corpus, root / "Datasets" / "MINE")
    by_file = report.clips.set_index("file")["content"]
    assert data.content.tolist() == by_file[data.file].tolist()
    # The hashes are the same, whether the report knows them or not.
    again, made = features.prepare(parameters(root), corpus, report.usable)
    assert made == 0 and again.about == data.about


def test_demo_is_made_where_it_is_missing(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(corpora.demo, "generate", lambda path, **_: made.append(path))
    with pytest.raises(FileNotFoundError, match="no clip of it was found"):
        features.obtain(config.validated({"workspace": str(tmp_path)}))
    assert made == [tmp_path / "Datasets" / "DEMO"]


def test_clips_without_features_stop_until_told(mine, monkeypatch):
    root, _ = mine
    real = features.load_audio

    def fails_for_one(path, settings):
        if path.name == "calm_ann_0.wav":
            raise ValueError("too short for this front end")
        return real(path, settings)

    monkeypatch.setattr(features, "load_audio", fails_for_one)
    said = "(?s)ignore_problems = True.*1 clips give no features: .*ann_0.*'too short"
    with pytest.raises(ValueError, match=said):
        features.obtain(parameters(root))
    _, data = features.obtain(parameters(root, ignore_problems=True))
    audit = data.about["audit"]
    assert audit["used"] == 23 and list(audit["dropped"]) == ["calm_ann_0.wav"]
    assert "without features" in [problem["kind"] for problem in audit["problems"]]


def test_without_audio_the_file_is_taken_with_its_verdict(mine):
    root, _ = mine
    _, data = features.obtain(parameters(root))
    emodb, problem = corpora.get("EMODB"), {"severity": "error", "message": "Missing"}
    own = {"clip_samples": emodb.clip_samples, "labels": list(emodb.labels)}
    own |= {"corpus": "EMODB", "audit": {"problems": [problem]}}
    right = {**data.about, **own}

    def taken(about, name="timnet", **given):
        path = root / "MFCC" / f"EMODB-{name}.npz"
        files.write_features(path, dataclasses.replace(data, about=about))
        asked = parameters(root, corpus="EMODB", features=name, **given)
        return features.obtain(asked)[1]

    with pytest.raises(ValueError, match="(?s)ignore_problems = True.*Missing"):
        taken(right)
    np.testing.assert_array_equal(taken(right, ignore_problems=True).x, data.x)
    for wrong in ({"labels": ["calm"]}, {"clip_samples": 13_230}):
        with pytest.raises(ValueError, match="another corpus.*01_preprocess"):
            taken(right | wrong, ignore_problems=True)
    with pytest.raises(ValueError, match="no feature_options"):
        taken(right, "timnet_official", feature_options={"limit": 3.0})
