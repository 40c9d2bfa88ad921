import itertools
import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.font_manager import fontManager
from matplotlib.text import Text

from lib import corpora, files, metrics, plots, protocols
from lib.plots.look import EMOTION_COLOURS, ROLE_COLOURS, spread

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 - after the backend is chosen

LABELS = corpora.get("RAVDESS").labels
SPEAKERS = [f"{number:02d}" for number in range(1, 25)]


@pytest.fixture(autouse=True)
def styled():
    with matplotlib.rc_context():
        plots.style()
        yield
        plt.close("all")


def texts(ax):
    return [text.get_text() for text in ax.texts]


def ticks(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def drawn(ax):
    """Render the figure: what cannot be drawn fails here."""
    ax.figure.canvas.draw()
    return ax


def widths(bars):
    return [bar.get_width() for bar in bars]


# Colours


def lab_as_seen(colour, eyes):
    """CIELAB of an sRGB colour after a linear transform of linear RGB."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
    xyz = np.array(to_xyz) @ np.clip(np.array(eyes) @ linear, 0, 1)
    t = xyz / np.sum(to_xyz, axis=1)
    f = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# Machado, Oliveira and Fernandes 2009, severity 1.
EYES = {
    "full": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("corpus", corpora.names())
def test_emotions_of_a_corpus_are_told_apart_by_colour_blind_eyes(corpus, eyes):
    labels = corpora.get(corpus).labels
    seen = {name: lab_as_seen(EMOTION_COLOURS[name], EYES[eyes]) for name in labels}
    least = min(
        np.linalg.norm(seen[a] - seen[b]) for a, b in itertools.combinations(seen, 2)
    )
    # Two steps of one in CIELAB are just told apart side by side.
    assert least > (18 if len(labels) > 8 else 30)


def test_an_emotion_has_the_same_colour_in_every_figure():
    table = pd.DataFrame({"recall": 0.5, "support": 3}, index=list(LABELS))
    upright = plots.class_recall(table).containers[0]
    lying = plots.probabilities(LABELS, np.full(8, 1 / 8)).containers[0]
    counted = plots.label_counts(dict.fromkeys(LABELS, 3)).containers[0]
    for bars in (upright, lying, counted):
        found = [to_hex(bar.get_facecolor()).upper() for bar in bars]
        assert found == [EMOTION_COLOURS[name] for name in LABELS]
    ax = plots.duration_histogram(np.arange(8.0), LABELS)
    of_label = {
        bars[0].get_label(): to_hex(bars[0].get_facecolor()).upper()
        for bars in ax.containers
    }
    assert of_label == {name: EMOTION_COLOURS[name] for name in LABELS}
    points = np.arange(16.0).reshape(8, 2)
    cloud = plots.embedding(points, np.array(LABELS)).collections[0]
    where = {
        tuple(place): to_hex(colour).upper()
        for place, colour in zip(
            cloud.get_offsets().tolist(), cloud.get_facecolor(), strict=True
        )
    }
    expected = [EMOTION_COLOURS[name] for name in LABELS]
    assert [where[tuple(place)] for place in points.tolist()] == expected


def test_other_names_of_an_emotion_share_its_colour():
    colours = plots.emotion_colours(["Anger", "sadness", "calm"])
    assert list(colours.values()) == [
        EMOTION_COLOURS[name] for name in ("angry", "sad", "calm")
    ]


def test_unknown_emotions_keep_their_colours_and_differ():
    alone = plots.emotion_colours(["irony"])["irony"]
    among = plots.emotion_colours(["angry", "irony", "doubt", "shame"])
    assert among["angry"] == EMOTION_COLOURS["angry"]
    assert alone == plots.emotion_colours(["irony"])["irony"]
    assert len(set(among.values())) == 4
    many = plots.emotion_colours([f"mood {number}" for number in range(30)])
    assert len(many) == 30


def test_speakers_have_colours_of_their_own():
    colours = plots.speaker_colours(SPEAKERS)
    assert len(set(colours.values())) == 24
    assert plots.speaker_colours(reversed(SPEAKERS)) == colours


# Clips


def test_waveform_shows_the_samples_over_seconds():
    samples = np.sin(np.arange(4000) / 10)
    ax = drawn(plots.waveform(samples, 8000, title="a clip"))
    x, y = ax.lines[0].get_data()
    assert np.array_equal(y, samples)
    assert x[1] == 1 / 8000 and ax.get_xlim() == (0, 0.5)
    assert ax.get_xlabel() == "time (s)" and ax.get_title(loc="left") == "a clip"


def test_mel_spectrogram_has_its_loudest_spot_where_the_tone_is():
    rate = 16_000
    seconds = np.arange(rate) / rate
    ax = drawn(plots.mel_spectrogram(np.sin(2 * np.pi * 1000 * seconds), rate))
    level = ax.collections[0].get_array().reshape(128, -1)
    assert level.max() == 0
    edges = ax.collections[0].get_coordinates()[:, 0, 1]
    band = level.mean(axis=1).argmax()
    assert edges[band] - 60 <= 1000 <= edges[band + 1] + 60
    bar = ax.figure.axes[-1]
    assert "dB" in bar.get_ylabel() and "Hz" in ax.get_ylabel()


def test_mfcc_image_is_the_array_with_time_along():
    array = np.random.default_rng(0).normal(0, 5, (50, 13))
    ax = drawn(plots.mfcc(array, 0.02))
    image = ax.images[0]
    assert np.array_equal(image.get_array(), array.T)
    assert image.get_extent() == [0, 1.0, -0.5, 12.5]
    low, high = image.get_clim()
    assert low == -high
    assert high == pytest.approx(np.quantile(np.abs(array[:, 2:]), 0.98))


def test_probabilities_are_bars_in_label_order():
    p = [0.7, 0.2, 0.1]
    ax = drawn(plots.probabilities(["sad", "happy", "calm"], p, true_label="happy"))
    assert widths(ax.containers[0]) == p
    assert ticks(ax.yaxis) == ["sad", "happy (true)", "calm"]
    assert texts(ax) == ["70 %", "20 %", "10 %"]
    assert ax.yaxis_inverted()


# Corpora


def test_durations_are_counted_and_the_cropped_share_is_said():
    seconds = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    ax = drawn(plots.duration_histogram(seconds, clip_seconds=3.5, bins=4))
    assert sum(bar.get_height() for bar in ax.patches) == 5
    assert ax.lines[0].get_xdata() == [3.5, 3.5]
    assert "40.0 % are longer" in texts(ax)[0]
    assert ax.get_xlabel() == "duration (s)"


def test_counts_are_written_in_their_cells():
    labels = np.array(["sad", "sad", "happy"])
    table = pd.crosstab(labels, np.array(["b", "a", "b"]))
    ax = drawn(plots.counts(table))
    assert np.array_equal(ax.images[0].get_array(), table.to_numpy())
    assert texts(ax) == ["0", "1", "1", "1"]
    assert ticks(ax.yaxis) == ["happy", "sad"] and ticks(ax.xaxis) == ["a", "b"]
    wide = pd.DataFrame(np.ones((2, 130), int), columns=range(130))
    assert texts(drawn(plots.counts(wide))) == []


def test_label_counts_say_what_is_missing():
    ax = drawn(plots.label_counts({"sad": 5, "happy": 7}, {"happy": 7, "sad": 9}))
    assert ticks(ax.yaxis) == ["happy", "sad"]
    assert widths(ax.containers[0]) == [7, 5]
    assert texts(ax) == ["7", "5 of 9"]
    assert [line.get_xdata()[0] for line in ax.lines] == [7, 9]


# Folds and curves


def rows_of_ravdess():
    speaker = np.repeat(SPEAKERS, 60)
    sex = np.where(speaker.astype(int) % 2 == 0, "female", "male")
    y = np.tile(np.repeat(np.arange(8), [8, 8, 8, 8, 8, 4, 8, 8]), 24)
    return protocols.Rows(y, speaker, sex, np.full(len(y), ""))


def segments(ax):
    """Shares of the cells by (role, fold from 0, speaker row)."""
    found = {}
    for bars in ax.containers:
        for bar in bars:
            column = round(bar.get_x() + bar.get_width() / 2)
            row = round(bar.get_y() + bar.get_height() / 2)
            found[bars.get_label(), column, row] = bar.get_width() / 0.92
    return found


def test_the_grid_shows_one_role_a_cell_for_unseen_speakers():
    rows = rows_of_ravdess()
    folds = protocols.make_folds("speaker", rows)
    ax = drawn(plots.folds_grid(folds, rows.speaker))
    found = segments(ax)
    assert list(found.values()) == pytest.approx([1] * 6 * 24)
    for column, fold in enumerate(folds):
        testing = {
            SPEAKERS[row] for role, c, row in found if (role, c) == ("tests", column)
        }
        assert testing == set(rows.speaker[fold.test])
    assert texts(ax) == ["60"] * 144
    for bars in ax.containers:
        colour = to_hex(bars[0].get_facecolor()).upper()
        assert colour == ROLE_COLOURS[bars.get_label()]


def test_the_grid_shows_shares_where_speakers_are_on_several_sides():
    rows = rows_of_ravdess()
    folds = protocols.make_folds("paper_best", rows)
    ax = drawn(plots.folds_grid(folds, rows.speaker))
    found = segments(ax)
    assert {role for role, _, _ in found} == {"trains", "tests and chooses"}
    fold = folds[3]
    for row, name in enumerate(SPEAKERS):
        share = np.mean(rows.speaker[fold.test] == name) * len(fold.test) / 60
        assert found.get(("tests and chooses", 3, row), 0) == pytest.approx(share)
        assert found["trains", 3, row] == pytest.approx(1 - share)


def history(folds, epochs=5, validation=True):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        list(itertools.product(range(1, folds + 1), range(1, epochs + 1))),
        columns=["fold", "epoch"],
    )
    for name in ("loss", "accuracy", "uar"):
        frame[name] = rng.random(len(frame))
        frame[f"val_{name}"] = rng.random(len(frame)) if validation else np.nan
    return frame


def test_curves_are_the_folds_and_their_mean():
    frame = history(folds=3)
    ax = drawn(plots.training_curves(frame, "loss", chosen={2: 4}, floor=0.4))
    by_fold = [frame[frame.fold == fold].loss for fold in (1, 2, 3)]
    for line, expected in zip(ax.lines, by_fold, strict=False):
        assert np.array_equal(line.get_ydata(), expected)
    bold = {line.get_label(): line for line in ax.lines if line.get_linewidth() > 2}
    expected = frame.groupby("epoch")["val_loss"].mean()
    assert bold["validation"].get_ydata() == pytest.approx(expected.to_numpy())
    assert bold["validation"].get_linestyle() == "--"
    assert bold["training"].get_linestyle() == "-"
    mark = ax.collections[0].get_offsets().tolist()
    of_fold = frame[(frame.fold == 2) & (frame.epoch == 4)]
    assert mark == [[4, of_fold.val_loss.item()]]
    assert any(list(line.get_ydata()) == [0.4, 0.4] for line in ax.lines)
    assert "floor 0.400" in texts(ax) and ax.get_ylabel() == "loss (nats)"


def test_the_mean_ends_where_the_first_fold_does():
    frame = history(folds=3)
    frame = frame[(frame.fold != 2) | (frame.epoch <= 3)]
    ax = drawn(plots.training_curves(frame, "loss"))
    bold = {line.get_label(): line for line in ax.lines if line.get_linewidth() > 2}
    expected = frame[frame.epoch <= 3].groupby("epoch")["loss"].mean()
    assert bold["training"].get_xdata().tolist() == [1, 2, 3]
    assert bold["training"].get_ydata() == pytest.approx(expected.to_numpy())


def test_without_validation_there_is_one_curve_and_the_mark_is_on_it():
    frame = history(folds=1, validation=False)
    ax = drawn(plots.training_curves(frame, "uar", chosen={1: 5}))
    assert texts(ax) == ["training"]
    assert ax.collections[0].get_offsets().tolist() == [[5, frame.uar.iloc[-1]]]
    with pytest.raises(ValueError, match="history lacks 'f1'"):
        plots.training_curves(frame, "f1")


# Results


def test_confusions_are_coloured_by_row_and_counted():
    counts = np.array([[8, 2, 0], [1, 3, 0], [0, 0, 0]])
    ax = drawn(plots.confusion_matrix(counts, ["angry", "sad", "calm"]))
    image = np.asarray(ax.images[0].get_array())
    assert image[:2] == pytest.approx(np.array([[0.8, 0.2, 0], [0.25, 0.75, 0]]))
    assert texts(ax)[:6] == [
        "80 %\n8",
        "20 %\n2",
        "0 %\n0",
        "25 %\n1",
        "75 %\n3",
        "0 %\n0",
    ]
    assert texts(ax)[6:] == ["–"] * 3
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")
    assert ticks(ax.yaxis) == ["angry", "sad", "calm"]


def test_class_recall_shows_chance_and_numbers():
    table = metrics.per_class(
        np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), ["sad", "fear", "calm"]
    )
    ax = drawn(plots.class_recall(table))
    assert [bar.get_height() for bar in ax.containers[0]] == [0.5, 1, 0]
    assert texts(ax) == ["50 %", "100 %", "–", "chance 33.3 %"]
    assert ticks(ax.xaxis) == ["sad\nn = 2", "fear\nn = 2", "calm\nn = 0"]
    assert ax.lines[-1].get_ydata()[0] == pytest.approx(1 / 3)


def test_speakers_are_dots_from_worst_to_best():
    table = pd.DataFrame(
        {
            "speaker": ["a", "b", "c"],
            "sex": ["female", "male", "female"],
            "n": [10, 12, 10],
            "uar": [0.9, 0.4, 0.6],
        }
    )
    ax = drawn(plots.speaker_dots(table, pooled=0.6, interval=(0.5, 0.7), chance=0.2))
    dots = {group.get_label(): group.get_offsets().tolist() for group in ax.collections}
    assert dots == {"women": [[1, 0.6], [2, 0.9]], "men": [[0, 0.4]]}
    assert ticks(ax.xaxis) == ["b\n12", "c\n10", "a\n10"]
    assert texts(ax) == ["pooled 60.0 %", "chance 20.0 %"]
    band = ax.patches[0].get_extents().transformed(ax.transData.inverted())
    assert (band.y0, band.y1) == pytest.approx((0.5, 0.7))
    plain = drawn(plots.speaker_dots(table.drop(columns="sex")))
    assert plain.get_legend() is None and len(plain.collections[0].get_offsets()) == 3


def test_the_reliability_diagram_shows_the_filled_bins():
    y_true = np.array([0, 1, 0])
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.55, 0.45]])
    table = metrics.reliability(y_true, p, bins=4)
    ax = drawn(plots.reliability_diagram(table, error=0.123))
    dots = np.asarray(ax.collections[-1].get_offsets())
    assert dots == pytest.approx(np.array([[0.55, 1], [0.85, 0.5]]))
    assert "12.3 %" in texts(ax)[0] and "3 clips" in texts(ax)[0]


@pytest.mark.parametrize("sure", [True, False])
def test_the_note_of_the_reliability_diagram_keeps_clear_of_the_dots(sure):
    confidence = np.linspace(0.55, 0.95, 200)
    right = np.random.default_rng(0).random(200) < (0.1 if sure else 0.99)
    p = np.column_stack([confidence, 1 - confidence])
    table = metrics.reliability(np.where(right, 0, 1), p)
    ax = drawn(plots.reliability_diagram(table, error=0.3))
    note = ax.texts[0].get_window_extent()
    dots = ax.transData.transform(ax.collections[-1].get_offsets())
    assert not any(note.contains(*dot) for dot in dots)
    axis = ax.get_window_extent()
    assert note.x0 >= axis.x0 and note.x1 <= axis.x1


def runs():
    return pd.DataFrame(
        [
            ("weak", 0.5, 0.4, 0.6, "unseen speakers", False, True),
            ("shown", 0.9, 0.8, 0.95, "random folds", False, True),
            ("strong", 0.7, 0.6, 0.8, "unseen speakers", True, False),
        ],
        columns=["name", "uar", "low", "high", "protocol", "synthetic", "reliable"],
    )


def test_the_leaderboard_ranks_inside_protocols_and_marks_synthetic_audio():
    ax = drawn(plots.leaderboard(runs(), chance=0.125))
    names = ["strong (synthetic audio)", "weak", "shown"]
    assert ticks(ax.yaxis) == names
    points = [line for line in ax.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in points] == [0.7, 0.5, 0.9]
    heights = [line.get_ydata()[0] for line in points]
    assert heights == sorted(heights) and ax.get_ylim()[0] > ax.get_ylim()[1]
    hollow = [to_hex(line.get_markerfacecolor()) == "#ffffff" for line in points]
    assert hollow == [True, False, False]
    spans = [line for line in ax.lines if line.get_marker() == "None"][:3]
    assert [tuple(line.get_xdata()) for line in spans] == [
        (0.6, 0.8),
        (0.4, 0.6),
        (0.8, 0.95),
    ]
    assert [line.get_linestyle() for line in spans] == [":", "-", "-"]
    assert {"unseen speakers", "random folds", "70.0 %  [60, 80]"} <= set(texts(ax))


def test_published_scores_stand_beside_ours_with_their_protocol():
    table = pd.DataFrame(
        [
            ("TIM-Net on EMODB", "Ye et al.", "best epoch", 0.95, False),
            ("TIM-Net on SAVEE", "Ye et al.", "best epoch", 0.86, False),
            ("TIM-Net on EMODB", "this workbook", "unseen speakers", 0.7, True),
        ],
        columns=["name", "source", "protocol", "value", "ours"],
    )
    ax = drawn(plots.published_versus_ours(table, metric="WAR"))
    assert ticks(ax.yaxis) == [
        "Ye et al.: best epoch",
        "this workbook: unseen speakers",
        "Ye et al.: best epoch",
    ]
    points = [line for line in ax.lines if len(line.get_xdata())]
    assert [line.get_xdata()[0] for line in points] == [0.95, 0.7, 0.86]
    hollow = [to_hex(line.get_markerfacecolor()) == "#ffffff" for line in points]
    assert hollow == [True, False, True]
    assert {"TIM-Net on EMODB", "TIM-Net on SAVEE", "95.0 %"} <= set(texts(ax))
    assert ax.get_xlabel() == "WAR"


@pytest.mark.parametrize("width", [0.02, 0.1, 0.16, 0.25, 0.6])
def test_ticks_of_forest_plots_are_written_as_they_lie(width):
    table = runs().assign(uar=0.5, low=0.5 - width / 2, high=0.5 + width / 2)
    ax = drawn(plots.leaderboard(table))
    written = [float(text.removesuffix(" %")) for text in ticks(ax.xaxis)]
    assert written == pytest.approx(list(100 * ax.get_xticks())) and len(written) > 2


def test_the_legend_of_published_scores_is_clear_of_title_and_label():
    row = ("TIM-Net on EMODB", "Ye et al.", "random folds " * 7, 0.95, False)
    columns = ["name", "source", "protocol", "value", "ours"]
    table = pd.DataFrame([row], columns=columns)
    title = "A title that is longer than the figure of a few rows is wide"
    ax = drawn(plots.published_versus_ours(table, title=title))
    legend = ax.get_legend().get_window_extent()
    for text in (ax.title, ax._left_title, ax.xaxis.label):
        assert not (text.get_text() and legend.overlaps(text.get_window_extent()))


def test_differences_are_in_points_with_a_sign_and_a_line_at_none():
    table = pd.DataFrame(
        [
            ("unseen speakers", "b minus a", 0.123, -0.02, 0.26, True),
            ("unseen speakers", "c minus a", -0.0001, -0.1, 0.1, False),
        ],
        columns=["name", "label", "difference", "low", "high", "reliable"],
    )
    ax = drawn(plots.differences(table, title="TINY"))
    assert ticks(ax.yaxis) == ["b minus a", "c minus a"]
    assert {"+12.3  [−2, +26]", "0.0  [−10, +10]"} <= set(texts(ax))
    assert ax.get_xlabel() == "difference in UAR (percentage points)"
    (zero,) = [line for line in ax.lines if list(line.get_xdata()) == [0, 0]]
    assert zero.get_linestyle() == "-"
    assert "0" in ticks(ax.xaxis) and "+10" in ticks(ax.xaxis)
    spans = [line for line in ax.lines if list(line.get_xdata()) == [-0.1, 0.1]]
    assert [line.get_linestyle() for line in spans] == [":"]


# Spaces


def test_groups_are_named_at_their_medoids():
    rng = np.random.default_rng(0)
    labels = np.repeat(["angry", "calm", "sad"], 30)
    points = rng.normal(0, 1, (90, 2)) + np.repeat([[0, 0], [40, 0], [0, 40]], 30, 0)
    ax = drawn(plots.embedding(points, labels))
    for text in ax.texts:
        group = points[labels == text.get_text()]
        sums = [np.linalg.norm(group - point, axis=1).sum() for point in group]
        assert tuple(text.xy) == tuple(group[int(np.argmin(sums))])
    cloud = ax.collections[0].get_offsets()
    assert sorted(map(tuple, cloud)) == sorted(map(tuple, points))


def test_names_of_groups_do_not_cover_each_other():
    rng = np.random.default_rng(1)
    points, labels = rng.normal(0, 1, (480, 2)), np.tile(SPEAKERS, 20)
    ax = drawn(plots.embedding(points, labels, palette="speaker"))
    boxes = [text.get_bbox_patch().get_window_extent() for text in ax.texts]
    assert len(boxes) == 24
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    with pytest.raises(ValueError, match="palette is 'sex'"):
        plots.embedding(points, labels, palette="sex")


def test_purity_stands_beside_chance():
    table = pd.DataFrame(
        [
            ("MFCC", "emotion", 0.3, 0.1),
            ("MFCC", "speaker", 0.8, 0.05),
            ("embedding", "emotion", 0.9, 0.1),
            ("embedding", "speaker", 0.2, 0.05),
        ],
        columns=["space", "kind", "purity", "chance"],
    )
    ax = drawn(plots.purity_bars(table))
    heights = [[bar.get_height() for bar in bars] for bars in ax.containers]
    assert heights == [[0.3, 0.9], [0.8, 0.2]]
    chances = [lines.get_segments()[0][0][1] for lines in ax.collections]
    assert chances == [0.1, 0.05]
    assert ticks(ax.xaxis) == ["MFCC", "embedding"]


def test_values_are_moved_apart_no_more_than_needed():
    assert spread([0.0, 5.0, 10.0], 1.0).tolist() == [0, 5, 10]
    assert spread([2.0, 2.0], 1.0).tolist() == [1.5, 2.5]
    placed = spread([3.0, 1.0, 1.1, 1.2], 1.0)
    ordered = np.sort(placed)
    assert np.diff(ordered).min() >= 1 - 1e-9
    assert np.argsort(placed).tolist() == [1, 2, 3, 0]


# TIM-Net


def frames_seen(dilations, kernel_size, convolutions):
    """Count the inputs that the last output depends on, by following all taps."""
    counts, taps = [], {0}
    for dilation in dilations:
        for _ in range(convolutions):
            taps = {t - dilation * k for t in taps for k in range(kernel_size)}
        # A chain depends on all blocks before, so the last block's span counts.
        counts.append(1 - min(taps))
    return counts


@pytest.mark.parametrize("kernel_size, convolutions", [(2, 2), (3, 1), (5, 2)])
def test_receptive_frames_follow_the_taps(kernel_size, convolutions):
    dilations = [1, 2, 4, 8, 16]
    found = plots.receptive_frames(dilations, kernel_size, convolutions)
    assert found.tolist() == frames_seen(dilations, kernel_size, convolutions)


def test_the_receptive_field_of_the_published_timnet():
    dilations = [2**level for level in range(8)]
    ax = drawn(plots.receptive_field(dilations, 2, 512 / 22_050, clip_seconds=4.99))
    ends = [bar.get_x() + bar.get_width() for bar in ax.containers[0]]
    assert ends[-1] == pytest.approx(511 * 512 / 22_050)
    assert ends[0] == pytest.approx(3 * 512 / 22_050)
    assert texts(ax)[7] == "511 frames, 11.87 s" and texts(ax)[-1] == "clip 4.99 s"
    assert ticks(ax.yaxis) == [str(dilation) for dilation in dilations]
    assert plots.receptive_frames([2**level for level in range(10)], 2)[-1] == 2047


def test_fusion_weights_show_folds_and_their_mean():
    weights = np.array([[0.1, -0.2, 0.3], [0.3, 0.0, 0.1]])
    ax = drawn(plots.fusion_weights(weights, [1, 2, 4], 0.01))
    heights = [bar.get_height() for bar in ax.containers[0]]
    assert heights == pytest.approx([0.2, -0.1, 0.2])
    dots = ax.collections[0].get_offsets()
    assert sorted(dots[:, 1]) == sorted(weights.ravel())
    assert ticks(ax.xaxis) == ["1\n0.03 s", "2\n0.07 s", "4\n0.15 s"]
    assert len(plots.fusion_weights(weights[0], [1, 2, 4], 0.01).collections) == 0
    with pytest.raises(ValueError, match="3 weights but 2 dilations"):
        plots.fusion_weights(weights, [1, 2], 0.01)


def test_a_given_axis_is_drawn_on_and_returned():
    _, ax = plt.subplots()
    assert plots.waveform(np.zeros(10), 10, ax=ax) is ax
    assert plots.leaderboard(runs(), ax=ax) is ax
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize("width", [4, 5, 8])
def test_a_long_title_is_not_cut_off(width):
    title = "RAVDESS, random folds, best epoch (speakers shared, epoch chosen on test)"
    _, ax = plt.subplots(figsize=(width, 3), layout="constrained")
    drawn(plots.waveform(np.zeros(10), 10, ax=ax, title=title))
    assert " ".join(ax.get_title(loc="left").split()) == title
    box, figure = ax._left_title.get_window_extent(), ax.figure.bbox
    assert box.x1 <= figure.x1 and box.y1 <= figure.y1


def named(names):
    """Draw every figure that shows names of emotions, speakers, corpora or runs."""
    rng = np.random.default_rng(0)
    square = np.arange(len(names) ** 2).reshape(len(names), -1)
    table = pd.DataFrame(square, index=names, columns=names)
    yield plots.counts(table, title=names[0])
    yield plots.label_counts(dict.fromkeys(names, 3))
    yield plots.confusion_matrix(square, names)
    scores = {"recall": 0.5, "support": 4, "uar": 0.5, "n": 4, "sex": "female"}
    rows = pd.DataFrame(scores, index=names).assign(speaker=names)
    yield plots.class_recall(rows)
    yield plots.speaker_dots(rows, pooled=0.6, interval=(0.5, 0.7), chance=0.2)
    yield plots.probabilities(names, np.full(len(names), 1 / len(names)))
    labels = np.repeat(names, 10)
    yield plots.embedding(rng.normal(size=(len(labels), 2)), labels)
    yield plots.embedding(rng.normal(size=(len(labels), 2)), labels, palette="speaker")
    rows = protocols.Rows(np.arange(len(labels)) % 2, labels, *2 * [labels])
    folds = protocols.make_folds("stratified", rows)
    yield plots.folds_grid(folds, labels)


@pytest.mark.parametrize(
    "names",
    [
        ["a$x_1$b", "$5", "x^2 $_$", "\\alpha", "{a}"],
        ["$\\frac{", "$$", "a$\\b$c", "\\$x$", "%"],
    ],
)
def test_names_are_drawn_as_they_are_written(names):
    for ax in named(names):
        seen = [text for text in drawn(ax).findobj(Text) if text.get_visible()]
        lines = {line for text in seen for line in text.get_text().split("\n")}
        assert set(names) <= lines
        for text in seen:
            if text.get_text() in names and text.get_bbox_patch() is None:
                literal = ax.figure.text(0, 0, text.get_text(), parse_math=False)
                literal.set_fontproperties(text.get_fontproperties())
                literal.set_rotation(text.get_rotation())
                found, wanted = text.get_window_extent(), literal.get_window_extent()
                assert found.size == pytest.approx(wanted.size), text
                literal.remove()


def test_a_logarithmic_axis_keeps_its_powers_of_ten():
    ax = plots.magnitudes({"one": 2e3, "two": 9e6}, "parameters")
    assert any("10^{" in text for text in ticks(drawn(ax).xaxis))
    assert all(text.get_parse_math() for text in ax.get_xticklabels())


def test_letters_of_other_scripts_come_from_a_font_that_has_them(recwarn):
    # Of the fonts that come with Matplotlib, STIX has these circled letters.
    for ax in named(["\u24b6", "\u24b7x", "plain"]):
        drawn(ax)
    assert [str(warning.message) for warning in recwarn] == []
    assert len(set(plt.rcParams["font.family"])) == len(plt.rcParams["font.family"])
    assert "STIXGeneral" in plt.rcParams["font.family"]


def test_letters_that_no_font_has_are_named_once(monkeypatch, recwarn):
    ours = [font for font in fontManager.ttflist if "DejaVu" in font.name]
    monkeypatch.setattr(fontManager, "ttflist", ours)
    for ax in named(["\u6124\u6012", "\u559c\u60a6", "\ubd84\ub178", "plain"]):
        drawn(ax)
    (said,) = [str(warning.message) for warning in recwarn]
    assert "\u6124" in said and "\ubd84" in said and "Noto Sans CJK" in said


def test_plots_do_not_import_tensorflow():
    code = (
        "import sys; from lib import metrics, plots; "
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=files.REPOSITORY, check=True)
