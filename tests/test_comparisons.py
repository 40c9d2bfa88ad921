"""Names of runs, comparisons of runs, and the tables of the forest plots."""

import itertools
import json

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score
from test_table import make_manifest

from lib.runs import comparisons, forests, names, predictions, published, table

LABELS = ("a", "b")
SPEAKERS = ("s1", "s2", "s3")
CLIPS = 24


def answers(right, seed=0):
    """Return predictions of which the first `right` of 24 clips are right."""
    y_true = np.tile([0, 1], CLIPS // 2)
    order = np.random.default_rng(seed).permutation(CLIPS)
    y_pred = np.where(order < right, y_true, 1 - y_true)
    return predictions.assemble(
        file=np.array([f"{row:02d}.wav" for row in range(CLIPS)]),
        speaker=np.repeat(SPEAKERS, CLIPS // 3),
        sex=np.full(CLIPS, ""),
        fold=np.repeat([1, 2], CLIPS // 2),
        y_true=y_true,
        probabilities=np.eye(2)[y_pred],
        label_names=LABELS,
    )


def write_run(results, run_id, frame, **changes):
    uar = balanced_accuracy_score(frame["y_true"], frame["y_pred"])
    document = make_manifest(run_id, uar=uar, **changes)
    (results / run_id).mkdir(parents=True)
    (results / run_id / "run.json").write_text(json.dumps(document))
    predictions.write(results / run_id / "predictions.csv", frame)


def board(results):
    return table.leaderboard(table.load_runs(results))


def uar(frame):
    return balanced_accuracy_score(frame["y_true"], frame["y_pred"])


# --- names ----------------------------------------------------------------------------


def test_a_name_says_only_what_differs(tmp_path):
    frame = answers(12)
    write_run(tmp_path, "one", frame)
    assert names.short_names(board(tmp_path)).tolist() == ["timnet, seed 46"]
    options = {"dilations": 3}
    write_run(tmp_path, "two", frame, model_options=options, epochs=4)
    write_run(tmp_path, "other", frame, corpus="SAVEE", epochs=7)
    found = board(tmp_path).assign(name=names.short_names)
    assert found.set_index("run_id")["name"].to_dict() == {
        "one": "timnet, 500 epochs, dilations 8, seed 46",
        "two": "timnet, 4 epochs, dilations 3, seed 46",
        "other": "timnet, seed 46",
    }


def test_folds_are_named_where_they_differ_under_one_protocol(tmp_path):
    frame = answers(12)
    write_run(tmp_path, "one", frame)
    write_run(tmp_path, "random", frame, protocol="paper")
    frames = board(tmp_path)
    assert names.system_names(frames).tolist() == ["timnet", "timnet"]
    write_run(tmp_path, "two", frame, protocol="paper", folds=5)
    found = board(tmp_path).set_index("run_id").pipe(names.system_names).to_dict()
    assert found == {
        "one": "timnet",
        "random": "timnet, 2 folds",
        "two": "timnet, 5 folds",
    }


def test_runs_that_no_setting_tells_apart_are_told_apart_by_their_id(tmp_path):
    frame = answers(12)
    write_run(tmp_path, "x-01234567", frame)
    write_run(tmp_path, "x-89abcdef", frame)
    assert sorted(names.short_names(board(tmp_path))) == [
        "timnet, seed 46 (01234567)",
        "timnet, seed 46 (89abcdef)",
    ]


def test_weights_of_others_are_named_as_such(tmp_path):
    write_run(tmp_path, "one", answers(12), kind="official weights", epochs=None)
    assert names.system_names(board(tmp_path)).tolist() == ["timnet, official weights"]


# --- comparisons ----------------------------------------------------------------------


def test_systems_are_compared_and_their_seeds_averaged(tmp_path):
    good = [answers(20, seed=1), answers(18, seed=2)]
    bad = answers(10, seed=3)
    for seed, frame in enumerate(good):
        write_run(tmp_path, f"good-{seed}", frame, seed=seed, epochs=9)
    write_run(tmp_path, "bad", bad)
    (found,) = comparisons.within_protocols(tmp_path, board(tmp_path))
    assert found.first.name == "timnet, 9 epochs (2 seeds)"
    assert set(found.first.run_ids) == {"good-0", "good-1"}
    assert found.second == comparisons.Side("timnet, 500 epochs", ("bad",))
    row = comparisons.as_table([found]).iloc[0]
    expected = np.mean([uar(frame) for frame in good]) - uar(bad)
    assert row["difference"] == pytest.approx(expected) and row["difference"] > 0
    assert row["low"] <= row["difference"] <= row["high"]
    assert row["speakers"] == len(SPEAKERS)
    assert row["smallest_p"] == 2 / 2 ** len(SPEAKERS)
    assert np.isnan(row["mcnemar_p"])


def test_seeds_of_the_only_system_are_compared_with_each_other(tmp_path):
    frames = {1: answers(20, seed=1), 2: answers(12, seed=2)}
    for seed, frame in frames.items():
        write_run(tmp_path, f"s{seed}", frame, seed=seed)
    (found,) = comparisons.within_protocols(tmp_path, board(tmp_path))
    assert found.first.name == "timnet, seed 1"
    row = comparisons.as_table([found]).iloc[0]
    right = [frames[seed].eval("y_true == y_pred").to_numpy() for seed in (1, 2)]
    assert row["only_first"] == np.sum(right[0] & ~right[1])
    assert row["only_second"] == np.sum(~right[0] & right[1])
    signs = itertools.product((1, -1), repeat=len(SPEAKERS))
    speaker = frames[1]["speaker"].to_numpy()
    gains = [
        uar(frames[1][speaker == name]) - uar(frames[2][speaker == name])
        for name in SPEAKERS
    ]
    reached = [abs(np.dot(sign, gains)) >= abs(sum(gains)) - 1e-9 for sign in signs]
    assert row["sign_flip_p"] == pytest.approx(np.mean(reached))


def test_several_comparisons_are_corrected_by_holm(tmp_path):
    for number, right in enumerate((6, 12, 22)):
        write_run(tmp_path, f"r{number}", answers(right, number), epochs=1 + number)
    found = comparisons.as_table(
        comparisons.within_protocols(tmp_path, board(tmp_path))
    )
    p = found["sign_flip_p"].to_numpy(float)
    ordered = np.sort(p) * (3, 2, 1)
    expected = np.minimum(np.maximum.accumulate(ordered), 1)
    assert np.sort(found["holm_p"]) == pytest.approx(expected)


def test_one_run_has_nothing_to_be_compared_with(tmp_path):
    write_run(tmp_path, "one", answers(12))
    write_run(tmp_path, "other", answers(14), corpus="SAVEE")
    for compare in (comparisons.within_protocols, comparisons.across_protocols):
        found = comparisons.as_table(compare(tmp_path, board(tmp_path)))
        assert found.empty and "holm_p" in found
        assert forests.differences(found).empty


def test_what_cannot_be_compared_says_why(tmp_path):
    write_run(tmp_path, "one", answers(12), epochs=1)
    write_run(tmp_path, "two", answers(12).iloc[1:], epochs=2)
    write_run(tmp_path, "gone", answers(12), epochs=3)
    (tmp_path / "gone" / "predictions.csv").unlink()
    found = comparisons.as_table(
        comparisons.within_protocols(tmp_path, board(tmp_path))
    )
    assert len(found) == 3 and found["difference"].isna().all()
    assert found["holm_p"].isna().all() and (found["note"] != "").all()
    assert sum("no predictions at" in note for note in found["note"]) == 2
    assert sum("tested by one system only" in note for note in found["note"]) == 1
    assert forests.differences(found).empty


def test_a_copy_of_a_run_is_no_second_run(tmp_path):
    write_run(tmp_path, "one", answers(12))
    write_run(tmp_path, "copy", answers(12))
    assert comparisons.within_protocols(tmp_path, board(tmp_path)) == []


def test_a_leak_is_worth_the_difference_to_the_most_honest_protocol(tmp_path):
    frames = {"paper": answers(20, 1), "speaker": answers(11, 2), "text": answers(9, 3)}
    for protocol, frame in frames.items():
        write_run(tmp_path, protocol, frame, protocol=protocol, seed=3, folds=5)
    write_run(tmp_path, "other", answers(4), protocol="paper", batch_size=8)
    found = comparisons.as_table(
        comparisons.across_protocols(tmp_path, board(tmp_path))
    ).set_index("protocol")
    assert set(found.index) == {"paper − speaker", "text − speaker"}
    for protocol in ("paper", "text"):
        row = found.loc[f"{protocol} − speaker"]
        expected = uar(frames[protocol]) - uar(frames["speaker"])
        assert row["difference"] == pytest.approx(expected)
    assert found.loc["paper − speaker", "system"] == "timnet, batch size 64"
    rows = forests.differences(found.reset_index()).set_index("protocol")
    assert rows.loc["text − speaker", "name"] == "timnet, batch size 64"
    label = "unseen sentences (speakers shared) minus unseen speakers"
    assert rows.loc["text − speaker", "label"] == label


# --- tables of the forest plots -------------------------------------------------------


def test_runs_of_a_forest_plot_carry_interval_protocol_and_warning(tmp_path):
    write_run(tmp_path, "one", answers(18), synthetic=True)
    frame = board(tmp_path).assign(warning="interval indicative only")
    (row,) = forests.runs_by_protocol(frame, {"one": "unseen"}).to_dict("records")
    assert row == {
        "name": "timnet, seed 46",
        "uar": 0.75,
        "low": 0.66,
        "high": 0.74,
        "protocol": "unseen",
        "synthetic": True,
        "reliable": False,
    }


def test_published_numbers_stand_beside_ours_once_each(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path, f"s{seed}", answers(18), seed=seed, protocol="paper")
    pairs = published.beside(board(tmp_path))
    labels = {"s1": "random", "s2": "random"}
    found = forests.published_beside(pairs, {"s1": "one", "s2": "two"}, labels)
    ours = found[found["ours"]]
    assert ours["source"].tolist() == ["one", "two"]
    assert ours["value"].tolist() == pytest.approx([0.71, 0.71])
    theirs = found[~found["ours"]]
    numbers = published.load_published()
    plain = numbers.query("corpus == 'EMODB' and system == 'timnet' and variant == ''")
    assert sorted(100 * theirs["value"]) == pytest.approx(sorted(plain["uar"]))
    assert set(found["name"]) == {"timnet on EMODB"}
    empty = pairs.head(0)
    assert forests.published_beside(empty, {}, {}).empty
    # A system of which only variants are published shows them, each by its name.
    variants = numbers.query("corpus == 'EMODB' and system == 'timnet'").query(
        "variant != '' and uar == uar"
    )
    found = forests.published_beside(
        pairs[pairs["variant"] != ""], {"s1": "one", "s2": "two"}, labels
    ).query("not ours")
    assert sorted(100 * found["value"]) == pytest.approx(sorted(variants["uar"]))
    for label, variant in zip(found["protocol"], variants["variant"], strict=True):
        assert label.endswith(variant)
