"""A run belongs to its data, and every clip is accounted for."""

import numpy as np
import pandas as pd
import pytest
import soundfile

from lib import config, corpora, features, overview, runs, test, train
from lib.device import Device

CPU = Device("cpu", "a processor", "not needed")
RATE = 16_000
LABELS = ("calm", "cross", "merry")
SPEAKERS = ("ann", "ben", "cleo", "dan")


def voice(label, speaker, seconds=0.6):
    """Return noise around a tone that depends on the label."""
    seed = [LABELS.index(label), *speaker.encode(), int(1000 * seconds)]
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * 200 * (1 + LABELS.index(label)) * time)
    return 0.3 * tone + 0.05 * rng.standard_normal(len(time))


def write_table(folder, wrong=()):
    """Write recordings and their table; some rows name another speaker."""
    folder.mkdir(exist_ok=True)
    rows = []
    for label in LABELS:
        for speaker in SPEAKERS:
            for take in range(2):
                file = f"{label}_{speaker}_{take}.wav"
                samples = voice(label, f"{speaker}{take}")
                soundfile.write(folder / file, samples, RATE)
                said = "dan" if file in wrong else speaker
                rows.append((file, label, said))
    table = folder / "table.csv"
    columns = ["file", "label", "speaker"]
    pd.DataFrame(rows, columns=columns).to_csv(table, index=False)
    return table


def parameters(workspace, **given):
    own = {"workspace": str(workspace), "corpus": "MINE", "model": "logistic"}
    return config.validated(own | {"verbose": 0} | given)


def run_id_of(params):
    """Return the id of the run that notebook 02 would train, and the features."""
    _, data = features.obtain(params)
    return config.make_run_id(train.resolve(params, data)), data


def trained(params):
    """Train a run as notebook 02 does; return its folders."""
    _, data = features.obtain(params)
    plan = train.Plan(train.resolve(params, data), train.make_folds(params, data))
    return train.train_seeds([plan], data, params.folders, device=CPU, verbose=0)[0]


def files_of(folders):
    """Return the content of every file of a run, by its name."""
    root = folders.workspace.root
    return {name: (root / name).read_bytes() for name in runs.listing(folders)}


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
    kept = files_of(before)
    write_table(tmp_path / "rec")
    after = trained(parameters(tmp_path))
    assert after.run_id != before.run_id
    assert files_of(before) == kept
    assert not set(runs.listing(after)) & set(kept)
    table = runs.read_predictions(after.predictions)
    labels, speakers = zip(
        *(file.split("_")[:2] for file in table["file"]), strict=True
    )
    assert len(table) == 24 and table["speaker"].tolist() == [*speakers]
    assert table["y_true"].tolist() == [LABELS.index(label) for label in labels]
    assert table.groupby("speaker")["fold"].nunique().max() == 1
    # The old run cannot be tested on the corrected data.
    with pytest.raises(ValueError, match="other recordings, labels or speakers"):
        test.open_run(parameters(tmp_path, run_id=before.run_id), CPU)


@pytest.mark.parametrize(
    "change", ["label", "speaker", "sex", "audio", "clip length", "fewer", "renamed"]
)
def test_every_input_is_part_of_the_run(mine, change):
    root, table = mine
    params = parameters(root, protocol="stratified", folds=4)
    before, _ = run_id_of(params)
    rows = pd.read_csv(table)
    if change == "label":
        rows.loc[0, "label"] = "cross"
    elif change == "speaker":
        rows.loc[0, "speaker"] = "ben"
    elif change == "sex":
        rows["sex"] = np.where(rows["speaker"].isin(["ann", "cleo"]), "female", "male")
    elif change == "audio":
        soundfile.write(table.parent / rows.loc[0, "file"], voice("calm", "x"), RATE)
    elif change == "fewer":
        rows = rows.iloc[1:]
    elif change == "renamed":
        (table.parent / rows.loc[0, "file"]).rename(table.parent / "calm_ann_9.wav")
        rows.loc[0, "file"] = "calm_ann_9.wav"
    rows.to_csv(table, index=False)
    seconds = 0.3 if change == "clip length" else 0.6
    corpora.register("MINE", table, root / "Datasets", clip_seconds=seconds)
    after, data = run_id_of(params)
    assert after != before
    if change == "clip length":
        assert data.x.shape[1] == 1 + int(0.3 * 22_050) // 512


def test_the_same_recordings_elsewhere_are_the_same_run(mine, tmp_path_factory):
    root, _ = mine
    other = tmp_path_factory.mktemp("elsewhere")
    table = write_table(other / "another name")
    corpora.register("MINE", table, other / "Datasets")
    given = {"protocol": "paper", "folds": 3}
    ids = [run_id_of(parameters(folder, **given))[0] for folder in (root, other)]
    assert ids[0] == ids[1]


def test_equal_values_and_rows_are_the_same_run(tiny):
    """Whole or real, written out or left alone."""
    ids = [
        config.make_run_id(
            train.resolve(config.validated({"model": "svm"} | given), tiny)
        )
        for given in (
            {},
            {"learning_rate": 0.001},
            {"model_options": {"regularisation": 1}},
            {"model_options": {"regularisation": 1.0}},
        )
    ]
    assert ids[0] == ids[1] and ids[2] == ids[3]
    params = config.validated({"folds": 3, "protocol": "paper"})
    folds = train.make_folds(params, tiny)
    rows = [[part.tolist() for part in (f.train, f.validation, f.test)] for f in folds]
    settings = train.resolve(params, tiny)
    assert settings["folds_sha256"] == config.digest(rows, length=64)


def test_a_run_on_clips_of_another_length_is_refused(mine):
    root, table = mine
    run = trained(parameters(root))
    corpora.register("MINE", table, root / "Datasets", clip_seconds=0.3)
    with pytest.raises(ValueError, match="clip_?s.*13230.* not o[nf] .*6615"):
        test.open_run(parameters(root, run_id=run.run_id), CPU)


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
    assert list(audit["dropped"]) == [path.name]
    # 03 and 04 open the run without being told again; the decision is recorded.
    run = test.open_run(parameters(root), CPU)
    assert len(run.features) == 23
    said = runs.caveats(run.manifest)
    assert any(mark.startswith("errors ignored") for mark in said)
    assert path.name in said["23 of 24 clips"]
    (row,) = overview.load_runs(folders.results.parent).to_dict("records")
    for word in ("errors ignored", "truncated", "23 of 24 clips"):
        assert word in row["warning"]
    path.write_bytes(whole)
    _, data = features.obtain(parameters(root))
    assert len(data) == 24 and not data.about["audit"]["dropped"]


def test_the_copies_of_a_corpus_outside_the_datasets_are_made(mine):
    root, _ = mine
    chosen = {"augmentation_options": {"transforms": ["reversal"]}}
    params = parameters(root, augmentation="waveform", **chosen)
    corpus, data = features.obtain(params)
    made = train.prepare_augmentation(params, corpus, data)
    assert made.copies.shape[0] == len(data)
