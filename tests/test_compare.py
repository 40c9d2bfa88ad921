"""Comparisons of runs, published numbers beside ours, and what figures draw of them."""

import itertools
import json

import numpy as np
import pytest
import yaml
from conftest import tiny_features
from sklearn.metrics import balanced_accuracy_score
from test_runs import make_manifest, write_run

from lib import compare, config, features, overview, runs, train

SPEAKERS = ("s1", "s2", "s3")
CLIPS = 24


def answers(right, seed=0):
    """Return predictions of which the first `right` of 24 clips are right."""
    y_true = np.tile([0, 1], CLIPS // 2)
    order = np.random.default_rng(seed).permutation(CLIPS)
    y_pred = np.where(order < right, y_true, 1 - y_true)
    return runs.predictions_table(
        file=np.array([f"{row:02d}.wav" for row in range(CLIPS)]),
        speaker=np.repeat(SPEAKERS, CLIPS // 3),
        sex=np.full(CLIPS, ""),
        fold=np.repeat([1, 2], CLIPS // 2),
        y_true=y_true,
        probabilities=np.eye(2)[y_pred],
        label_names=("a", "b"),
    )


def uar(frame):
    return balanced_accuracy_score(frame["y_true"], frame["y_pred"])


def board(results, frames, **changes):
    """Write runs with their predictions; return the leaderboard."""
    for run_id, (frame, own) in frames.items():
        write_run(results, run_id, uar=uar(frame), **changes | own)
        runs.write_predictions(results / run_id / "predictions.csv", frame)
    return overview.leaderboard(overview.load_runs(results))


def test_systems_are_compared_and_their_seeds_averaged(tmp_path):
    good = [answers(20, seed=1), answers(18, seed=2)]
    bad = [answers(10, seed=3), answers(2, seed=4)]
    frames = {
        f"good{seed}": (good[seed], {"seed": seed, "epochs": 9}) for seed in (0, 1)
    }
    frames |= {"bad": (bad[0], {}), "worst": (bad[1], {"epochs": 1})}
    frames |= {"elsewhere": (bad[1], {"corpus": "SAVEE"})}  # nothing to compare it with
    found = compare.within_protocols(tmp_path, board(tmp_path, frames))
    names = ["timnet, 9 epochs (2 seeds)", "timnet, 500 epochs", "timnet, 1 epochs"]
    pairs = list(zip(found["first"], found["second"], strict=True))
    assert pairs == list(itertools.combinations(names, 2))
    row = found.iloc[0]
    expected = np.mean([uar(frame) for frame in good]) - uar(bad[0])
    assert row["difference"] == pytest.approx(expected) and row["difference"] > 0
    assert row["low"] <= row["difference"] <= row["high"] and not row["reliable"]
    assert row["speakers"] == 3 and row["smallest_p"] == 2 / 2**3
    assert np.isnan(row["mcnemar_p"]) and not np.isnan(found["mcnemar_p"].iloc[2])
    ordered = np.sort(found["sign_flip_p"].to_numpy(float)) * (3, 2, 1)
    corrected = np.minimum(np.maximum.accumulate(ordered), 1)
    assert np.sort(found["holm_p"]) == pytest.approx(corrected)
    drawn = compare.differences(found)
    assert set(drawn["name"]) == {"unseen speakers"}
    assert drawn["label"].iloc[2] == f"{names[1]} minus {names[2]}"


def test_seeds_of_the_only_system_are_compared_with_each_other(tmp_path):
    frames = {"1": answers(20, seed=1), "2": answers(12, seed=2)}
    given = {name: (frame, {"seed": int(name)}) for name, frame in frames.items()}
    given["copy"] = (frames["2"], {"seed": 2, "finished": "2020-01-01T00:00:00+00:00"})
    found = compare.within_protocols(tmp_path, board(tmp_path, given))
    (row,) = found.to_dict("records")
    assert (row["first"], row["second"]) == ("timnet, seed 1", "timnet, seed 2")
    right = [frame.eval("y_true == y_pred") for frame in frames.values()]
    assert row["only_first"] == np.sum(right[0] & ~right[1])
    assert row["only_second"] == np.sum(~right[0] & right[1])
    gains = [
        uar(frames["1"].query("speaker == @name"))
        - uar(frames["2"].query("speaker == @name"))
        for name in SPEAKERS
    ]
    signs = np.array([*itertools.product((1, -1), repeat=3)])
    reached = np.abs(signs @ gains) >= abs(sum(gains)) - 1e-9
    assert row["sign_flip_p"] == pytest.approx(np.mean(reached))


def test_what_cannot_be_compared_says_why(tmp_path):
    frames = {"one": (answers(12), {"epochs": 1}), "gone": (answers(12), {"epochs": 3})}
    frames["two"] = (answers(12).iloc[1:], {"epochs": 2})
    table = board(tmp_path, frames)
    (tmp_path / "gone" / "predictions.csv").unlink()
    found = compare.within_protocols(tmp_path, table)
    assert len(found) == 3 and found[["difference", "holm_p"]].isna().all(axis=None)
    assert found["note"].str.contains("no predictions at").sum() == 2
    assert found["note"].str.contains("tested by one system only").sum() == 1
    assert compare.differences(found).empty
    alone = table[table["run_id"] == "one"]
    for function in (compare.within_protocols, compare.across_protocols):
        found = function(tmp_path, alone)
        assert found.empty and "holm_p" in found and compare.differences(found).empty


def test_a_leak_is_worth_the_difference_to_the_most_honest_protocol(tmp_path):
    frames = {"paper": answers(20, 1), "speaker": answers(11, 2), "text": answers(9, 3)}
    given = {
        name: (frame, {"protocol": name, "seed": 3 + len(name), "folds": len(name)})
        for name, frame in frames.items()
    }
    given["other"] = (answers(4), {"protocol": "paper", "batch_size": 8})
    given["features"] = (answers(4), {"protocol": "holdout", "features": "x"})
    found = compare.across_protocols(tmp_path, board(tmp_path, given))
    found = compare.differences(found).set_index("protocol")
    assert set(found.index) == {"paper − speaker", "text − speaker"}
    for protocol in ("paper", "text"):
        row = found.loc[f"{protocol} − speaker"]
        expected = uar(frames[protocol]) - uar(frames["speaker"])
        assert row["difference"] == pytest.approx(expected)
        assert row["name"] == row["system"] and "batch size 64" in row["name"]
    label = "unseen sentences (speakers shared) minus unseen speakers"
    assert found.loc["text − speaker", "label"] == label


def test_figures_get_what_they_draw(tmp_path):
    frames = {f"s{seed}": (answers(18), {"seed": seed}) for seed in (1, 2)}
    table = board(tmp_path, frames, protocol="paper", synthetic=True)
    table["warning"] = ["interval indicative only", ""]
    labels, names = {"s1": "random", "s2": "random"}, {"s1": "one", "s2": "two"}
    drawn = compare.runs_by_protocol(table, labels)
    expected = {"name": "timnet, seed 1", "uar": 0.75, "low": 0.66, "high": 0.74}
    expected |= {"protocol": "random", "synthetic": True, "reliable": False}
    assert drawn.iloc[0].to_dict() == expected
    assert drawn["reliable"].tolist() == [False, True]
    pairs = compare.beside(table)
    plain = compare.published_beside(pairs, names, labels)
    assert set(plain["name"]) == {"timnet on EMODB"}
    ours, theirs = (plain[plain["ours"] == mine] for mine in (True, False))
    assert ours["source"].tolist() == ["one", "two"]
    assert ours["value"].tolist() == pytest.approx([0.71, 0.71])
    numbers = compare.load_published().query("corpus == 'EMODB' and system == 'timnet'")
    expected = numbers.query("variant == ''")["uar"]
    assert sorted(100 * theirs["value"]) == pytest.approx(sorted(expected))
    # A system of which only variants are published shows them, each by its name.
    variants = numbers.query("variant != '' and uar == uar")
    found = compare.published_beside(pairs[pairs["variant"] != ""], names, labels)
    found = found[~found["ours"]]
    assert sorted(100 * found["value"]) == pytest.approx(sorted(variants["uar"]))
    for label, variant in zip(found["protocol"], variants["variant"], strict=True):
        assert label.endswith(variant)
    assert compare.published_beside(pairs.head(0), {}, {}).empty


# --- our runs beside published numbers ------------------------------------------------


def of_recipe(tmp_path, file, **changes):
    """Return one run of a recipe, some of it changed, beside the published numbers."""
    given = yaml.safe_load((compare.RECIPES / f"{file}.yaml").read_text("utf-8"))
    options = given["model_options"] | changes.pop("model_options", {})
    own = {name: changes.pop(name) for name in ("kind", "data") if name in changes}
    own["synthetic"] = changes.pop("synthetic", False)
    params = config.validated(given | changes | {"model_options": options})
    data = tiny_features()
    preset = params.feature_preset, params.feature_options
    data.about.update(corpus=params.corpus, features="timnet_official")
    if params.features != "timnet_official":
        data.about["features"] = features.preset_name(*preset)
        data.about["settings"] = vars(features.front_end(*preset))
    document = make_manifest("mine") | own | {"config": train.resolve(params, data)}
    document["metrics"]["mean"] = {"uar": 0.8719, "war": 0.8828}
    write_run(tmp_path, "mine", document)
    return compare.beside(overview.leaderboard(overview.load_runs(tmp_path)))


def aimed_at(joined, protocol, variant=""):
    rows = joined[joined["published_protocol"] == protocol]
    (row,) = rows[rows["variant"] == variant].to_dict("records")
    return row


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("timnet/casia", {}),
        ("gm_tcnet/savee_best", {}),
        # The authors' own arrays, and where it was trained, are no other recipe.
        ("timnet/emodb", {"features": "timnet_official"}),
        ("timnet/emodb", {"device": "cpu", "fold_parallel": "off"}),
    ],
)
def test_the_recipe_itself_is_comparable(tmp_path, file, changes):
    joined = of_recipe(tmp_path, file, **changes)
    assert joined["comparable"].tolist() == [True] + [False] * (len(joined) - 1)
    assert joined["why_not"].str.len().eq(0).tolist() == joined["comparable"].tolist()
    row = joined.iloc[0]
    assert row["variant"] == "" and row["uar"] == pytest.approx(87.19)
    assert row["uar_difference"] == pytest.approx(87.19 - row["published_uar"])
    assert row["war_difference"] == pytest.approx(88.28 - row["published_war"])
    assert set(joined["system"]) == {file.split("/")[0]}


def test_what_differs_is_named(tmp_path):
    changes = {
        "protocol": ("stratified", "paper"),
        "epochs": (300, 500),
        "folds": (5, 10),
        "seed": (47, 46),
        "beta_1": (0.9, 0.93),
        "schedule": ("cosine", "constant"),
        "weight_average": (0.9, 0.0),
        "loss": ("focal", "cross_entropy"),
        "augmentation": ("waveform", "none"),
    }
    options = {"backward": (False, True), "dilations": (6, 8)}
    reasons = {
        f"{name} {ours}, published {theirs}"
        for name, (ours, theirs) in (changes | options).items()
    }
    given = {name: value[0] for name, value in changes.items()}
    given["model_options"] = {name: value[0] for name, value in options.items()}
    row = aimed_at(of_recipe(tmp_path, "timnet/emodb", **given), "paper")
    assert not row["comparable"] and {*row["why_not"].split("; ")} == reasons


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"features": "timnet_paper"}, "features timnet_paper, published timnet"),
        ({"feature_options": {"hop_samples": 256}}, "hop_samples 256, published 512"),
        ({"synthetic": True}, "ours is on synthetic audio"),
        ({"kind": "official weights"}, "official weights: not trained here"),
    ],
)
def test_another_input_or_origin_is_named(tmp_path, changes, reason):
    row = aimed_at(of_recipe(tmp_path, "timnet/emodb", **changes), "paper")
    assert not row["comparable"] and reason in row["why_not"].split("; ")


@pytest.mark.parametrize(
    ("file", "changes", "reasons"),
    [
        (
            "modified_timnet/savee",
            {"loss_options": {"alpha": 1.0}, "model_options": {"attention": False}},
            ["loss_options.alpha 1.0, published 0.25"]
            + ["loss_options.smooth_twice False, published True"]
            + ["attention False, published True"],
        ),
        (
            "modified_timnet/savee",
            {"loss": "cross_entropy", "loss_options": {}},
            ["loss cross_entropy, published focal"],
        ),
        # Known, and not done again: all of the recipe agrees.
        (
            "modified_timnet/savee",
            {},
            ["not as published: there, the epoch with the lowest loss on the test fold "
            "was kept"],
        ),
        # Nothing is known of the second run of GM-TCNet but its protocol.
        (
            "gm_tcnet/casia",
            {"batch_size": 32},
            [f"published {name} not stated" for name in ("folds", "seed", "epochs")]
            + ["batch_size 32, assumed 64"]
            + ["not published, chosen here: everything as in the system's own "
            "public code"],
        ),
        ("timnet/emodb_best", {}, ["published epochs not stated"]),
        ("timnet/emodb_no_bd", {}, ["published seed not stated"]),
    ],
)  # fmt: skip
def test_what_is_not_known_or_not_repeated_is_not_comparable(
    tmp_path, file, changes, reasons
):
    joined = of_recipe(tmp_path, file, **changes)
    assert not joined["comparable"].any()
    protocol = "paper" if file == "gm_tcnet/casia" else "paper_best"
    variant = "ablation: forward direction only (w/o BD)" if "_bd" in file else ""
    row = aimed_at(joined, protocol, variant)
    assert set(reasons) <= set(row["why_not"].split("; "))


@pytest.mark.parametrize(
    ("audit", "said"),
    [
        ({"used": 565}, "ours: 565 of 588 clips"),
        ({"problems": [("error", "silent")]}, "ours: errors ignored: silent 2"),
        ({"problems": [("warning", "rate")]}, "ours: data warnings: rate 2"),
        ({"problems": [("warning", "duplicate")]}, ""),
    ],
)
def test_another_copy_of_the_recordings_is_not_comparable(tmp_path, audit, said):
    whole = {"expected": 588, "found": 588, "used": 588, "dropped": {}}
    problems = [
        {"severity": severity, "kind": kind, "files": 2, "message": "X."}
        for severity, kind in audit.get("problems", ())
    ]
    found = {"audit": whole | audit | {"problems": problems}}
    row = aimed_at(of_recipe(tmp_path, "timnet/emodb", data=found), "paper")
    assert (row["why_not"], row["comparable"]) == (said, not said)


def test_what_was_not_recorded_or_has_no_recipe_says_so(tmp_path):
    joined = of_recipe(tmp_path, "timnet/casia")
    row = joined[joined["variant"].str.startswith("one 80/20 hold-out")].iloc[0]
    assert not row["comparable"] and "no recipe" in row["why_not"]
    assert "the seed and the epochs are not stated" in row["why_not"]
    table = overview.leaderboard(overview.load_runs(tmp_path))
    settings = json.loads(table.loc[0, "settings"])
    del settings["weight_average"]
    table["settings"] = json.dumps(settings)
    row = aimed_at(compare.beside(table), "paper")
    assert row["why_not"] == "weight_average not recorded, published 0.0"
    for changes in ({"corpus": "DEMO"}, {"model": "majority"}):
        assert "comparable" in compare.beside(table.assign(**changes)).columns
        assert compare.beside(table.assign(**changes)).empty


def test_everything_that_decides_a_run_is_compared():
    decisive = train.resolve(config.validated({}), tiny_features())
    apart = {"corpus", "features", "feature_settings", "model", "model_options"}
    # What the copy of the corpus decides; the check compares it with the release.
    apart |= {"clip_samples", "data_sha256", "folds_sha256"}
    assert set(decisive) == {*compare.COMPARED, *apart}
