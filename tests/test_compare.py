"""Comparisons of runs, published numbers beside ours, and what figures draw of them."""

import numpy as np
import pytest
import yaml
from conftest import tiny_features
from sklearn.metrics import balanced_accuracy_score
from test_runs import make_manifest, problem, write_run

from lib import compare, config, features, metrics, planning, runs

SPEAKERS = ("s1", "s2", "s3", "s4", "s5", "s6")
CLIPS = 24


def answers(right, seed=0):
    """Return predictions of which the first `right` of 24 clips are right."""
    y_true = np.tile([0, 1], CLIPS // 2)
    order = np.random.default_rng(seed).permutation(CLIPS)
    y_pred = np.where(order < right, y_true, 1 - y_true)
    speaker = np.repeat(SPEAKERS, CLIPS // len(SPEAKERS))
    given = {"file": np.array([f"{row:02d}.wav" for row in range(CLIPS)])}
    given |= {"fold": np.repeat([1, 2], CLIPS // 2), "sex": np.full(CLIPS, "")}
    given |= {"probabilities": np.eye(2)[y_pred], "label_names": ("a", "b")}
    return runs.predictions_table(**given, speaker=speaker, y_true=y_true)


def uar(frame):
    return balanced_accuracy_score(frame["y_true"], frame["y_pred"])


def board(results, frames):
    """Write runs with their predictions; return the leaderboard."""
    for run_id, (frame, own) in frames.items():
        own = {"train": {"n": 36, "speakers": ["01", "02"]}} | own
        write_run(results, run_id, uar=uar(frame), **own)
        frame.to_csv(results / run_id / "predictions.csv", index=False)
    return runs.leaderboard(runs.load_runs(results))


def test_systems_are_compared_with_a_named_one_over_the_seeds_that_both_have(tmp_path):
    good = [answers(right, seed) for seed, right in enumerate((22, 20, 21))]
    bad = [answers(12, seed=3), answers(8, seed=4)]
    frames = {f"good{n}": (good[n], {"seed": n, "epochs": 9}) for n in range(3)}
    frames |= {f"bad{n}": (bad[n], {"seed": n}) for n in range(2)}
    frames |= {"steady": (answers(11, seed=5), {"seed": 1, "epochs": 1})}
    places = {"there": {"corpus": "SAVEE"}, "text": {"protocol": "text"}}
    for name, place in places.items():
        own = place | {"seed": 0}
        frames |= {name: (good[0], own), f"{name}0": (bad[0], own | {"epochs": 2})}
    table = board(tmp_path, frames)
    usual = ["timnet, epochs 500", "timnet, epochs 2"]
    table["variant"] = table["system"].replace(usual, "usual")
    table.loc[table["run_id"].isin(["there", "text"]), "variant"] = "new"
    found = compare.systems(tmp_path, table, "usual", by="variant")
    for _, place in found.groupby(["corpus", "protocol"]):
        assert place["uar"].is_monotonic_decreasing  # by the mean, not the best seed
    found = found.set_index(["corpus", "protocol", "system"]).sort_index()
    row = found.loc[("EMODB", "speaker", "timnet, epochs 9")]
    both = np.mean([uar(good[n]) - uar(bad[n]) for n in range(2)])
    assert row["uar"] == pytest.approx(np.mean([*map(uar, good)]))
    assert row["difference"] == pytest.approx(both)
    assert (row["seeds"], row["matched"], row["speakers"]) == (3, 2, 6)
    assert row["low_seeds"] < row["low"] < both < row["high"] < row["high_seeds"]
    assert row["uar_low"] < row["uar"] < row["uar_high"] and row["trainers"] == "2"
    assert row["smallest_p"] == 2 / 2**6
    # The reference has a score and no p; two rows of one family, one of the others.
    p = found.loc["EMODB", "speaker"]["p"]
    assert p.isna().tolist() == [name == "usual" for name in p.index]
    corrected = found.loc["EMODB", "speaker"]["holm_p"].dropna()
    assert corrected.tolist() == pytest.approx(metrics.holm(p.dropna()).tolist())
    for place in (("SAVEE", "speaker", "new"), ("EMODB", "text", "new")):
        other = found.loc[place]
        assert other["holm_p"] == other["p"] and other["reference"] == "usual"


@pytest.mark.parametrize("protocol", ["paper", "stratified"])
def test_random_splits_are_tested_by_the_corrected_t(tmp_path, protocol):
    sides = {"logistic": (12, 14), "svm": (13, 8), "timnet": (20, 22)}
    frames, gains = {}, []
    for model, rights in sides.items():
        for seed, right in enumerate(rights):
            own = {"model": model, "protocol": protocol, "seed": seed}
            frames[f"{model}{seed}"] = answers(right, seed), own
    better = {"model": "svm", "protocol": protocol, "normalisation": "speaker"}
    frames["speaker"] = answers(19), better | {"seed": 0}
    for seed in range(2):
        ours, theirs = (frames[f"{name}{seed}"][0] for name in ("timnet", "logistic"))
        for fold in (1, 2):
            pair = [uar(side[side["fold"] == fold]) for side in (ours, theirs)]
            gains.append(pair[0] - pair[1])
    found = compare.systems(tmp_path, board(tmp_path, frames)).set_index("system")
    # Of baselines that are not transductive it is the best. 12 clips test, 36 train.
    assert set(found["reference"]) == {"logistic"}
    row = found.loc["timnet"]
    assert row["p"] == pytest.approx(metrics.corrected_t(gains, 12 / 36))
    assert np.isnan(row["smallest_p"]) and row["note"] == ""


def test_what_cannot_be_compared_says_why(tmp_path):
    one = answers(12)
    few = one.assign(speaker=one["speaker"].replace({"s5": "s1", "s6": "s2"}))
    frames = {"usual": (one, {}), "gone": (one, {"epochs": 3})}
    frames |= {"less": (one.iloc[1:], {"epochs": 2})}
    frames |= {"seed": (one, {"epochs": 4, "seed": 1})}
    frames |= {"folds": (one.assign(fold=[2, *one["fold"][1:-1], 1]), {"epochs": 5})}
    for name, frame, epochs in (("a", few, 1), ("b", few, 2)):
        frames[name] = frame, {"corpus": "SAVEE", "epochs": epochs}
        single = {"protocol": "holdout", "epochs": epochs}
        frames[f"{name}-split"] = frame.assign(fold=1), single
    table = board(tmp_path, frames)
    (tmp_path / "gone" / "predictions.csv").unlink()
    found = compare.systems(tmp_path, table, "timnet, epochs 500").set_index("system")
    assert "no predictions at" in found.loc["timnet, epochs 3", "note"]
    assert "no finished run of the same" in found.loc["timnet, epochs 4", "note"]
    assert found.loc["timnet, epochs 5", "note"] == "no p: the folds differ"
    table = table.assign(variant=table["run_id"].str.replace("-split", ""))
    both = table[table["variant"].isin(["a", "b"])]
    found = compare.systems(tmp_path, both, "a", "variant")
    notes = found[found["system"] == "b"].set_index("protocol")["note"]
    assert notes["speaker"] == "no p: with 4 speakers it cannot be below 0.125"
    assert notes["holdout"] == "no p: one split, or no spread over splits"
    assert found["difference"].notna().sum() == 2 and found["holm_p"].isna().all()
    alone = table[table["run_id"] == "usual"]
    assert compare.systems(tmp_path, alone)["note"].str.contains("the same seed").all()
    kept = [{"path": "Results/usual/predictions.csv", "sha256": "another"}]
    write_run(tmp_path, "usual", artefacts=kept)
    with pytest.raises(RuntimeError, match="was changed after its run"):
        compare.systems(tmp_path, alone)


def test_protocols_of_a_system_are_compared_as_rows_of_one_group(tmp_path):
    frames = {"paper": answers(20, 1), "speaker": answers(11, 2), "text": answers(9, 3)}
    given = {name: (frame, {"protocol": name}) for name, frame in frames.items()}
    given["paper"][1]["train"] = {"n": 48, "speakers": ["01"]}
    table = board(tmp_path, given)
    group = table.assign(protocol="any", rule=table["protocol"])
    found = compare.systems(tmp_path, group, "speaker", by="rule").set_index("system")
    assert found["clips"].to_dict() == {"speaker": 36, "text": 36, "paper": 48}
    for rule in ("paper", "text"):
        expected = uar(frames[rule]) - uar(frames["speaker"])
        assert found.loc[rule, "difference"] == pytest.approx(expected)


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
