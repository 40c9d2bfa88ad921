"""A run belongs to its data, and every clip is accounted for."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import small_plan

from lib import config, corpora, features, files, runs, training
from lib.corpora.expected import expected_utterances
from lib.device import Device
from lib.features import extraction
from lib.training import study

CPU = Device("cpu", "a processor", "not needed")
RATE = 16_000
LABELS = ("calm", "cross", "merry")
SPEAKERS = ("ann", "ben", "cleo", "dan")
# A corpus that is built in, whose names are a scheme, and that holds no secret.
EMOVO = corpora.get("EMOVO")


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


def train(params):
    """Train a run as notebook 02 does; return its folders."""
    _, data = features.obtain(params)
    return training.train(
        training.resolve(params, data),
        data,
        training.make_folds(params, data),
        params.folders,
        device=CPU,
        overwrite=params.overwrite,
        verbose=0,
    )


def files_of(folders):
    """Return the content of every file of a run, by its name."""
    return {
        name: (folders.workspace.root / name).read_bytes()
        for name in runs.listing(folders)
    }


@pytest.fixture
def mine(tmp_path):
    """Return a workspace with a registered corpus, and its table."""
    table = write_table(tmp_path / "rec")
    corpora.register("MINE", table, tmp_path / "Datasets", clip_seconds=0.6)
    return tmp_path, table


# --- a run belongs to its data --------------------------------------------------------


def test_corrected_speakers_are_another_run(tmp_path):
    wrong = ("calm_ann_0.wav", "cross_ann_1.wav", "merry_ann_0.wav")
    table = write_table(tmp_path / "rec", wrong)
    corpora.register("MINE", table, tmp_path / "Datasets")
    before = train(parameters(tmp_path))
    kept = files_of(before)
    write_table(tmp_path / "rec")
    after = train(parameters(tmp_path))
    assert after.run_id != before.run_id
    assert files_of(before) == kept
    assert not set(runs.listing(after)) & set(kept)
    table = runs.predictions.read(after.predictions)
    truth = [file.split("_")[1] for file in table["file"]]
    assert table["speaker"].tolist() == truth
    assert table.groupby("speaker")["fold"].nunique().max() == 1
    # The old run cannot be tested on the corrected data.
    with pytest.raises(ValueError, match="other recordings, labels or speakers"):
        training.open_run(parameters(tmp_path, run_id=before.run_id), CPU)


@pytest.mark.parametrize(
    "change", ["label", "speaker", "sex", "audio", "clip length", "fewer", "renamed"]
)
def test_every_input_is_part_of_the_run(mine, change):
    root, table = mine
    params = parameters(root, protocol="stratified", folds=4)
    _, data = features.obtain(params)
    before = config.make_run_id(training.resolve(params, data))
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
    _, data = features.obtain(params)
    assert config.make_run_id(training.resolve(params, data)) != before
    if change == "clip length":
        assert data.x.shape[1] == 1 + int(0.3 * 22_050) // 512


def test_the_same_recordings_elsewhere_are_the_same_run(mine, tmp_path_factory):
    root, _ = mine
    other = tmp_path_factory.mktemp("elsewhere")
    table = write_table(other / "another name")
    corpora.register("MINE", table, other / "Datasets")
    ids = []
    for folder in (root, other):
        params = parameters(folder, protocol="paper", folds=3)
        _, data = features.obtain(params)
        ids.append(config.make_run_id(training.resolve(params, data)))
    assert ids[0] == ids[1]


def test_the_rows_of_the_folds_are_part_of_the_run(tiny):
    params = config.validated({"folds": 3, "protocol": "paper"})
    kept = training.resolve(params, tiny)
    folds = training.make_folds(params, tiny)
    rows = [[part.tolist() for part in (f.train, f.validation, f.test)] for f in folds]
    assert kept["folds_sha256"] == config.digest(rows, length=64)


def test_equal_values_are_the_same_run(tiny):
    """Whole or real, written out or left alone."""
    resolve = [
        training.resolve(config.validated({"model": "svm"} | given), tiny)
        for given in (
            {},
            {"learning_rate": 0.001},
            {"model_options": {"regularisation": 1}},
            {"model_options": {"regularisation": 1.0}},
        )
    ]
    ids = [config.make_run_id(settings) for settings in resolve]
    assert ids[0] == ids[1] and ids[2] == ids[3]
    names = [
        features.preset_name("timnet", options)
        for options in ({}, {"mel_rate": 22_050}, {"high_hertz": 11_025.0})
    ]
    assert names == ["timnet"] * 3


def test_a_corpus_is_not_taken_for_another(mine, tmp_path_factory):
    root, _ = mine
    shutil.copytree(root / "Datasets" / "MINE", root / "Datasets" / "COPY")
    with pytest.raises(ValueError, match="record of the corpus 'MINE'"):
        features.obtain(parameters(root, corpus="COPY"))
    features.obtain(parameters(root))
    elsewhere = tmp_path_factory.mktemp("features")
    (elsewhere / "MFCC").mkdir()
    for suffix in ("npz", "json"):
        made = root / "MFCC" / f"MINE-timnet.{suffix}"
        for name in ("EMODB-timnet", "EMODB-timnet_paper"):
            shutil.copy(made, elsewhere / "MFCC" / f"{name}.{suffix}")
    for chosen in ("timnet", "timnet_paper"):
        with pytest.raises(ValueError, match="holds MINE by 'timnet'"):
            features.obtain(parameters(elsewhere, corpus="EMODB", features=chosen))


@pytest.mark.parametrize("name", ["y", "speaker", "file", "x"])
def test_a_feature_file_with_other_arrays_is_made_again(mine, name):
    root, _ = mine
    _, honest = features.obtain(parameters(root))
    path = root / "MFCC" / "MINE-timnet.npz"
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    arrays[name] = arrays[name][::-1]
    files.write_npz(path, arrays)
    _, again = features.obtain(parameters(root))
    np.testing.assert_array_equal(getattr(again, name), getattr(honest, name))


def test_a_run_on_clips_of_another_length_is_refused(mine):
    root, table = mine
    run = train(parameters(root))
    corpora.register("MINE", table, root / "Datasets", clip_seconds=0.3)
    with pytest.raises(ValueError, match="clips of 13230 samples, not of 6615"):
        training.open_run(parameters(root, run_id=run.run_id), CPU)


# --- an unfinished run ----------------------------------------------------------------


def unfinished(tmp_path, data, monkeypatch, **given):
    """Train two of three folds; return the plan, the parameters and the folders."""
    plan, params = small_plan(tmp_path, data, model="majority", **given)
    fit, seen = study.FoldFit.run, []

    def cut(self, report):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(self.fold.number)
        return fit(self, report)

    monkeypatch.setattr(study.FoldFit, "run", cut)
    with pytest.raises(KeyboardInterrupt):
        training.train(
            plan.configuration, data, plan.folds, params.folders, device=CPU, verbose=0
        )
    monkeypatch.setattr(study.FoldFit, "run", fit)
    folders = runs.RunFolders(params.folders, config.make_run_id(plan.configuration))
    return plan, params, folders


def test_an_interrupted_run_is_not_left_running_and_remembers_its_attempts(
    tmp_path, tiny, monkeypatch
):
    plan, params, folders = unfinished(tmp_path, tiny, monkeypatch)
    document = json.loads(folders.manifest.read_text())
    assert (document["status"], document["error"]) == ("failed", "KeyboardInterrupt")
    other = Device("gpu", "another machine", "agrees")
    training.train(
        plan.configuration, tiny, plan.folds, params.folders, device=other, verbose=0
    )
    document = json.loads(folders.manifest.read_text())
    assert document["status"] == "done"
    assert [fold["attempt"] for fold in document["folds"]] == [1, 1, 2]
    devices = [attempt["device"]["name"] for attempt in document["attempts"]]
    assert devices == ["cpu", "gpu"]


def test_an_outcome_of_other_rows_is_refused(tmp_path, tiny, monkeypatch):
    """Files of a run under another seed are put into this run's folders."""
    plan, params, folders = unfinished(tmp_path, tiny, monkeypatch)
    _, _, other = unfinished(tmp_path, tiny, monkeypatch, seed=5)
    shutil.copy(other.outcome(1), folders.outcome(1))
    with pytest.raises(ValueError, match="of another run or of other rows.*overwrite"):
        training.train(
            plan.configuration, tiny, plan.folds, params.folders, device=CPU, verbose=0
        )


def test_a_run_folder_of_other_settings_is_refused(tmp_path, tiny, monkeypatch):
    plan, params, folders = unfinished(tmp_path, tiny, monkeypatch)
    document = json.loads(folders.manifest.read_text())
    document["config"]["data_sha256"] = "other"
    folders.manifest.write_text(json.dumps(document))
    with pytest.raises(ValueError, match="other settings or data.*overwrite"):
        training.train(
            plan.configuration, tiny, plan.folds, params.folders, device=CPU, verbose=0
        )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": "svm", "epochs": 3}, "svm .* no use for epochs"),
        ({"model": "majority", "loss": "focal", "beta_1": 0.5}, "no use for beta_1, l"),
        ({"model": "svm", "augmentation": "cepstrum"}, "no use for augmentation"),
        ({"model": "svm", "model_options": {"kernel_size": 3}}, "no option 'kernel"),
        ({"protocol": "paper", "early_stopping": 3}, "no validation to stop on"),
        ({"epochs": 9, "early_stopping": 9}, "can never stop anything"),
        ({"epochs": 20, "schedule": "step"}, "changes nothing in 20 epochs"),
        ({"epochs": 5, "schedule": "plateau"}, "changes nothing in 5 epochs"),
        (
            {"schedule": "exponential", "schedule_options": {"factor": 1}},
            "changes nothing in 20",
        ),
        *(
            ({"augmentation": "cepstrum", "augmentation_options": options}, message)
            for options, message in (
                ({"transforms": "noise"}, "give a list of"),
                ({"transforms": {"noise": 1}}, "give a list of"),
                ({"transforms": ["nois"]}, "no transform 'nois'"),
                ({"probability": 0}, "above 0"),
                ({"probability": True}, "above 0"),
                ({"probability": "0.5"}, "above 0"),
            )
        ),
    ],
)
def test_a_parameter_that_would_change_nothing_is_refused(tiny, given, message):
    with pytest.raises(ValueError, match=message):
        training.resolve(config.validated(given), tiny)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"power": 3}, "'power': 3; give one of 1, 2"),
        ({"power": 2.0}, "'power': 2.0; give one of"),
        ({"channels": 3}, "'channels': 3; give one of 1, 2"),
        ({"window": "hunn"}, "'window': 'hunn'"),
        ({"low_hertz": 9000.0, "high_hertz": 8000.0}, "span 9000 to 8000 Hz"),
        ({"high_hertz": 20_000.0}, "up to 11025"),
        ({"hop_samples": 10**9}, "hop_samples 1000000000 exceeds"),
    ],
)
def test_options_of_a_front_end_that_it_has_no_meaning_for(options, message):
    with pytest.raises(ValueError, match=message):
        features.front_end("timnet", options)


# --- every clip is accounted for ------------------------------------------------------


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Return a workspace with a copy of EMOVO's names that is not whole.

    Made-up voices; 20 files are missing, 3 are cut off, 2 are silent, 2 swapped.
    """
    root = tmp_path_factory.mktemp("broken")
    rng = np.random.default_rng(0)
    keys = sorted(expected_utterances(EMOVO))
    assert len(keys) == 588
    for key in keys:
        path = root / "Datasets" / "EMOVO" / key.split("-")[1] / f"{key}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = 0.1 * rng.standard_normal(int(rng.uniform(1.1, 1.4) * 8000))
        soundfile.write(path, samples, 8000)
    files = sorted((root / "Datasets").rglob("*.wav"))
    lost, cut, silent, swapped = files[:20], files[100:103], files[200:202], files[-2:]
    for path in lost:
        path.unlink()
    for path in cut:
        path.write_bytes(path.read_bytes()[:6000])
    for path in silent:
        soundfile.write(path, np.zeros(9600), 8000)
    one, other = (path.read_bytes() for path in swapped)
    swapped[0].write_bytes(other)
    swapped[1].write_bytes(one)
    return root, [path.name for path in cut]


def test_a_broken_copy_stops_whoever_asks_for_it(broken):
    root, _ = broken
    for given in ({}, {"features": "lightsernet"}):
        with pytest.raises(ValueError) as error:
            features.obtain(parameters(root, corpus="EMOVO", **given))
        message = str(error.value)
        for word in ("Missing 20 of 588", "Truncated: 3", "Silent", "ignore_problems"):
            assert word in message, message


def test_a_broken_copy_that_is_used_all_the_same_stays_marked(broken):
    root, cut = broken
    asked = {"corpus": "EMOVO", "ignore_problems": True}
    folders = train(parameters(root, **asked))
    audit = runs.manifest.read(folders.manifest)["data"]["audit"]
    counts = [audit[name] for name in ("expected", "found", "used")]
    assert counts == [588, 568, 565]
    assert sorted(file.split("/")[1] for file in audit["dropped"]) == cut
    # 03 and 04 open the run without being told again; the decision is recorded.
    run = training.open_run(parameters(root, corpus="EMOVO"), CPU)
    assert len(run.features) == 565
    said = runs.caveats(run.manifest)
    (errors,) = (said[mark] for mark in said if mark.startswith("errors ignored"))
    for word in ("Missing 20 of 588", "Truncated: 3", "Silent"):
        assert word in errors
    assert cut[0] in said["565 of 588 clips"]
    results = folders.results.parent
    runs.table.write_leaderboard(results / "board.csv", runs.table.load_runs(results))
    (row,) = pd.read_csv(results / "board.csv").to_dict("records")
    for word in ("errors ignored", "missing 20", "truncated 3", "565 of 588 clips"):
        assert word in row["warning"]


def test_a_machine_without_the_audio_is_told_what_was_ignored(broken, tmp_path):
    root, _ = broken
    features.obtain(parameters(root, corpus="EMOVO", ignore_problems=True))
    shutil.copytree(root / "MFCC", tmp_path / "MFCC")
    with pytest.raises(ValueError, match="(?s)Missing 20.*ignore_problems = True"):
        features.obtain(parameters(tmp_path, corpus="EMOVO"))
    _, data = features.obtain(
        parameters(tmp_path, corpus="EMOVO", ignore_problems=True)
    )
    assert data.about["audit"]["used"] == len(data) == 565


def test_a_mended_file_is_taken_back(mine):
    root, table = mine
    path = table.parent / "calm_ann_0.wav"
    whole = path.read_bytes()
    path.write_bytes(whole[:3000])
    with pytest.raises(ValueError, match="calm_ann_0.wav"):
        features.obtain(parameters(root))
    _, data = features.obtain(parameters(root, ignore_problems=True))
    assert len(data) == 23 and list(data.about["audit"]["dropped"]) == [path.name]
    path.write_bytes(whole)
    _, data = features.obtain(parameters(root))
    assert len(data) == 24 and not data.about["audit"]["dropped"]


def test_a_clip_that_gives_no_features_stops_until_told(mine, monkeypatch):
    root, _ = mine
    load = extraction.load_audio

    def fails(source, settings):
        samples = load(source, settings)
        if samples.shape[-1] and fails.left:
            fails.left -= 1
            raise ValueError("too short for this front end")
        return samples

    monkeypatch.setattr(extraction, "load_audio", fails)
    fails.left = 1
    with pytest.raises(ValueError, match="1 clips give no features.*too short"):
        features.obtain(parameters(root))
    _, data = features.obtain(parameters(root, ignore_problems=True))
    assert len(data) == 23
    problems = [item["kind"] for item in data.about["audit"]["problems"]]
    assert "without features" in problems


def test_labels_by_file_are_the_true_ones_in_the_predictions(mine):
    root, _ = mine
    table = runs.predictions.read(train(parameters(root)).predictions)
    truth = [LABELS.index(file.split("_")[0]) for file in table["file"]]
    assert table["y_true"].tolist() == truth
    assert sorted(table["file"]) == sorted({*table["file"]}) and len(table) == 24


def test_the_copies_of_a_corpus_outside_the_datasets_are_made(mine):
    root, _ = mine
    chosen = {"augmentation_options": {"transforms": ["reversal"]}}
    params = parameters(root, augmentation="waveform", **chosen)
    corpus, data = features.obtain(params)
    made = training.prepare_augmentation(params, corpus, data)
    assert made.copies.shape[0] == len(data)
