"""Comparisons of runs, published numbers beside ours, and what figures draw of them."""

import itertools

import numpy as np
import pytest
import yaml
from conftest import tiny_features
from sklearn.metrics import balanced_accuracy_score
from test_runs import make_manifest, problem, write_run

from lib import compare, config, features, metrics, planning, runs

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


def board(results, frames):
    """Write runs with their predictions; return the leaderboard."""
    for run_id, (frame, own) in frames.items():
        write_run(results, run_id, uar=uar(frame), **own)
        runs.write_predictions(results / run_id / "predictions.csv", frame)
    return runs.leaderboard(runs.load_runs(results))


def test_systems_are_compared_and_their_seeds_averaged(tmp_path):
    good = [answers(20, seed=1), answers(18, seed=2)]
    bad = [answers(10, seed=3), answers(2, seed=4)]
    frames = {
        f"good{seed}": (good[seed], {"seed": seed, "epochs": 9}) for seed in (0, 1)
    }
    frames |= {"bad": (bad[0], {}), "worst": (bad[1], {"epochs": 1})}
    frames |= {"elsewhere": (bad[1], {"corpus": "SAVEE"})}  # nothing to compare it with
    found = compare.within_protocols(tmp_path, board(tmp_path, frames))
    names = ["timnet, epochs 9 (2 seeds)", "timnet, epochs 500", "timnet, epochs 1"]
    pairs = list(zip(found["first"], found["second"], strict=True))
    assert pairs == list(itertools.combinations(names, 2))
    row = found.iloc[0]
    expected = np.mean([uar(frame) for frame in good]) - uar(bad[0])
    assert row["difference"] == pytest.approx(expected) and row["difference"] > 0
    assert row["low"] <= row["difference"] <= row["high"] and not row["reliable"]
    assert row["speakers"] == 3 and row["smallest_p"] == 2 / 2**3
    assert np.isnan(row["mcnemar_p"]) and not np.isnan(found["mcnemar_p"].iloc[2])
    assert found["holm_p"].tolist() == metrics.holm(found["sign_flip_p"]).tolist()


def test_seeds_of_the_only_system_are_compared_with_each_other(tmp_path):
    frames = {"1": answers(20, seed=1), "2": answers(12, seed=2)}
    given = {name: (frame, {"seed": int(name)}) for name, frame in frames.items()}
    given["copy"] = (frames["2"], {"seed": 2, "finished": "2020-01-01T00:00:00+00:00"})
    found = compare.within_protocols(tmp_path, board(tmp_path, given))
    (row,) = found.to_dict("records")
    assert (row["first"], row["second"]) == ("timnet, seed 1", "timnet, seed 2 (2)")
    right = [frame.eval("y_true == y_pred") for frame in frames.values()]
    assert row["only_first"] == np.sum(right[0] & ~right[1])
    assert row["only_second"] == np.sum(~right[0] & right[1])


def test_what_cannot_be_compared_says_why(tmp_path):
    frames = {"one": (answers(12), {"epochs": 1}), "gone": (answers(12), {"epochs": 3})}
    frames["two"] = (answers(12).iloc[1:], {"epochs": 2})
    table = board(tmp_path, frames)
    (tmp_path / "gone" / "predictions.csv").unlink()
    found = compare.within_protocols(tmp_path, table)
    assert len(found) == 3 and found[["difference", "holm_p"]].isna().all(axis=None)
    assert found["note"].str.contains("no predictions at").sum() == 2
    assert found["note"].str.contains("tested by one system only").sum() == 1
    alone = table[table["run_id"] == "one"]
    for function in (compare.within_protocols, compare.across_protocols):
        found = function(tmp_path, alone)
        assert found.empty and "holm_p" in found


def test_a_leak_is_worth_the_difference_to_the_most_honest_protocol(tmp_path):
    frames = {"paper": answers(20, 1), "speaker": answers(11, 2), "text": answers(9, 3)}
    given = {
        name: (frame, {"protocol": name, "seed": 3 + len(name), "folds": len(name)})
        for name, frame in frames.items()
    }
    given["other"] = (answers(4), {"protocol": "paper", "batch_size": 8})
    given["features"] = (answers(4), {"protocol": "holdout", "features": "x"})
    found = compare.across_protocols(tmp_path, board(tmp_path, given))
    found = found.set_index("protocol")
    assert set(found.index) == {"paper − speaker", "text − speaker"}
    for protocol in ("paper", "text"):
        row = found.loc[f"{protocol} − speaker"]
        expected = uar(frames[protocol]) - uar(frames["speaker"])
        assert row["difference"] == pytest.approx(expected)
        assert "batch size 64" in row["system"] and row["second"] == "unseen speakers"
    label = "unseen sentences (speakers shared)"
    assert found.loc["text − speaker", "first"] == label


# --- our runs beside published numbers ------------------------------------------------


RUNS = {"kind", "synthetic", "used", "problems"}  # said of a run, not in its recipe


def of_recipe(tmp_path, file, **changes):
    """Return the leaderboard of one run of a recipe, some of it changed."""
    given = yaml.safe_load((compare.RECIPES / f"{file}.yaml").read_text("utf-8"))
    own = {name: changes.pop(name) for name in RUNS & changes.keys()}
    options = given["model_options"] | changes.pop("model_options", {})
    params = config.validated(given | changes | {"model_options": options})
    data, preset = tiny_features(), (params.feature_preset, params.feature_options)
    data.about.update(corpus=params.corpus, features="timnet_official")
    if params.features != "timnet_official":
        data.about["features"] = features.preset_name(*preset)
        data.about["settings"] = vars(features.front_end(*preset))
    document = make_manifest("mine", **own)
    document["config"] = planning.make_plan(params, data).settings
    write_run(tmp_path, "mine", document)
    return runs.leaderboard(runs.load_runs(tmp_path))


def aimed_at(table, file):
    """Return our run beside the number of a recipe."""
    joined = compare.beside(table).set_index("published_recipe")
    assert set(joined["published_system"]) == {file.split("/")[0]}
    return joined.loc[f"{file}.yaml"]


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("timnet/casia", {}),
        ("gm_tcnet/savee_best", {}),
        # The authors' own arrays, and where it was trained, are no other recipe.
        ("timnet/emodb", {"features": "timnet_official"}),
        ("timnet/emodb", {"device": "cpu", "fold_parallel": "off"}),
        ("timnet/emodb", {"problems": [problem("warning", "duplicate", 2)]}),
    ],
)
def test_the_recipe_itself_is_comparable(tmp_path, file, changes):
    table = of_recipe(tmp_path, file, **changes)
    row = aimed_at(table, file)
    assert row["comparable"] and row["why_not"] == ""
    assert (row["uar"], row["war"]) == pytest.approx((71, 73))
    joined = compare.beside(table)
    assert joined["comparable"].tolist() == [True] + [False] * (len(joined) - 1)
    assert joined["why_not"].str.len().eq(0).tolist() == joined["comparable"].tolist()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"protocol": "stratified"}, "protocol stratified, recipe paper"),
        ({"weight_average": 0.9}, "weight_average 0.9, recipe 0.0"),
        ({"model_options": {"backward": False}}, "backward False, recipe True"),
        ({"features": "timnet_paper"}, "features timnet_paper, recipe timnet"),
        ({"feature_options": {"hop_samples": 256}}, "hop_samples 256, recipe 512"),
        ({"synthetic": True}, "ours: synthetic audio"),
        ({"kind": "official weights"}, "official weights: not trained here"),
        ({"used": 9}, "ours: 9 of 10 clips"),
        ({"problems": [problem("error", "silent", 2)]}, "errors ignored: silent 2"),
        ({"problems": [problem("warning", "rate", 2)]}, "ours: data warnings: rate 2"),
        # All of the recipe agrees, but not all that was published is known or done.
        ({"file": "timnet/emodb_no_bd"}, "published seed not stated"),
        ({"file": "gm_tcnet/casia"}, "chosen here: everything as in the system's own"),
        ({"file": "modified_timnet/savee"}, "not as published: there, the epoch with"),
    ],
)
def test_what_differs_or_is_not_known_is_named(tmp_path, changes, reason):
    given = {"file": "timnet/emodb"} | changes
    row = aimed_at(of_recipe(tmp_path, **given), given["file"])
    assert not row["comparable"] and reason in row["why_not"]


def test_what_was_not_recorded_or_has_no_recipe_says_so(tmp_path):
    table = of_recipe(tmp_path, "timnet/casia")
    del table.loc[0, "config"]["weight_average"]
    row = aimed_at(table, "timnet/casia")
    assert row["why_not"] == "weight_average not recorded, recipe 0.0"
    joined = compare.beside(table)
    alone = joined[joined["published_variant"].str.startswith("one 80/20 hold-out")]
    assert "the seed and the epochs are not stated" in alone["why_not"].iloc[0]
    for changes in ({"corpus": "DEMO"}, {"model": "majority"}):
        assert compare.beside(table.assign(**changes)).empty
