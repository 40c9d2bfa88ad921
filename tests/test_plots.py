"""What a figure shows is what it was given."""

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

from lib import corpora, features, files, plots

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 - after the backend is chosen


@pytest.fixture(autouse=True)
def styled():
    with matplotlib.rc_context():
        plots.style()
        yield
        plt.close("all")


def drawn(ax):
    ax.figure.canvas.draw()  # what cannot be drawn fails here
    return ax


def ticks(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


TO_XYZ = "0.4124564 0.3575761 0.1804375 0.2126729 0.7151522 0.0721750 "
TO_XYZ += "0.0193339 0.1191920 0.9503041"  # from linear sRGB
# Machado, Oliveira and Fernandes 2009, severity 1.
PROTANOPIA = "0.152286 1.052583 -0.204868 0.114503 0.786281 0.099216 "
PROTANOPIA += "-0.003882 -0.048116 1.051998"
DEUTERANOPIA = "0.367322 0.860646 -0.227968 0.280085 0.672501 0.047413 "
DEUTERANOPIA += "-0.011820 0.042940 0.968881"
EYES = {"full": "1 0 0 0 1 0 0 0 1", "red": PROTANOPIA, "green": DEUTERANOPIA}


def lab_as_seen(colour, eyes):
    to_xyz, seen = (
        np.array(text.split(), float).reshape(3, 3) for text in (TO_XYZ, eyes)
    )
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    t = to_xyz @ np.clip(seen @ linear, 0, 1) / to_xyz.sum(axis=1)
    f = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", EYES)
def test_emotions_of_a_corpus_are_told_apart_by_colour_blind_eyes(eyes):
    for corpus in corpora.names():
        colours = plots.emotion_colours(corpora.get(corpus).labels)
        seen = [lab_as_seen(colour, EYES[eyes]) for colour in colours.values()]
        least = min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))
        # Two steps of one in CIELAB are just told apart side by side.
        assert least > (18 if len(seen) > 8 else 30), corpus


def test_an_emotion_has_the_same_colour_in_every_figure():
    names, expected = zip(*plots.EMOTION_COLOURS.items(), strict=True)
    bars = plots.probabilities(names, np.full(13, 1 / 13)).containers[0]
    assert [to_hex(bar.get_facecolor()).upper() for bar in bars] == list(expected)
    points = np.arange(26.0).reshape(13, 2)
    cloud = plots.embedding(points, names).collections[0]
    where = zip(cloud.get_offsets().tolist(), cloud.get_facecolor(), strict=True)
    found = {tuple(place): to_hex(colour).upper() for place, colour in where}
    assert [found[tuple(place)] for place in points.tolist()] == list(expected)


def test_other_labels_and_speakers_have_colours_that_stay_theirs():
    colours = plots.emotion_colours(["Anger", "sadness", "irony", "doubt"])
    assert colours["Anger"] == plots.EMOTION_COLOURS["angry"]
    assert colours["sadness"] == plots.EMOTION_COLOURS["sad"]
    assert len(set(colours.values())) == 4
    assert plots.emotion_colours(["irony"])["irony"] == colours["irony"]
    assert len(plots.emotion_colours(map(str, range(30)))) == 30
    for count in (4, 24):
        speakers = [f"s{number}" for number in range(count)]
        colours = plots.speaker_colours(speakers)
        assert len(set(colours.values())) == count
        assert plots.speaker_colours(reversed(speakers)) == colours


def test_waveform_shows_the_samples_over_seconds_under_the_whole_title():
    samples = np.sin(np.arange(4000) / 10)
    title = "RAVDESS, random folds, best epoch (speakers shared, epoch chosen on test)"
    ax = drawn(plots.waveform(samples, 8000, title=title, ax=plt.figure().gca()))
    x, y = ax.lines[0].get_data()
    assert np.array_equal(y, samples) and x[1] == 1 / 8000
    assert ax.get_xlim() == (0, 0.5) and ax.get_xlabel() == "time (s)"
    assert " ".join(ax.get_title(loc="left").split()) == title
    assert ax._left_title.get_window_extent().x1 <= ax.figure.bbox.x1


@pytest.mark.parametrize("preset", ["timnet", "lightsernet", "cktim"])
def test_mel_spectrogram_shows_the_array_in_decibel_at_its_time_and_frequency(preset):
    settings = features.front_end(preset)
    rate = settings.sample_rate
    tone = np.sin(2 * np.pi * 1000 * np.arange(2 * rate) / rate).astype(np.float32)
    mel = features.mel_spectrogram(tone, settings)
    ax = drawn(plots.mel_spectrogram(mel, settings))
    mesh = ax.collections[0]
    power = mel if settings.power == 2 else mel**2
    expected = 10 * np.log10(np.maximum(power, 1e-10) / power.max())
    shown = np.asarray(mesh.get_array())
    np.testing.assert_allclose(shown, np.maximum(expected, -80), atol=1e-3)
    # Filters that assume another rate than the audio's place the tone elsewhere.
    hertz = 1000 * (settings.mel_rate or rate) / rate
    centre = mesh.get_coordinates()[:, 0, 1][mel.mean(axis=1).argmax()]
    assert centre == pytest.approx(hertz, abs=60)  # a band is about 50 Hz wide there
    assert ax.get_xlim()[1] == pytest.approx(2, abs=2 * settings.hop_seconds + 0.1)


def test_probabilities_are_bars_in_label_order():
    p = [0.7, 0.2, 0.1]
    ax = drawn(plots.probabilities(["sad", "happy", "calm"], p, true_label="happy"))
    assert [bar.get_width() for bar in ax.containers[0]] == p
    assert ticks(ax.yaxis) == ["sad", "happy (true)", "calm"] and ax.yaxis_inverted()
    assert [text.get_text() for text in ax.texts] == ["70%", "20%", "10%"]


def history(folds, validation=True):
    pairs = list(itertools.product(range(1, folds + 1), range(1, 6)))
    frame = pd.DataFrame(pairs, columns=["fold", "epoch"])
    values = np.random.default_rng(0).random((2, len(frame)))
    return frame.assign(uar=values[0], val_uar=values[1] if validation else np.nan)


def test_curves_are_the_folds_and_their_mean_up_to_the_shortest_fold():
    frame = history(folds=3)
    frame = frame[(frame.fold != 2) | (frame.epoch <= 3)]
    ax = drawn(plots.training_curves(frame, "uar", chosen={2: 3}))
    for line, fold in zip(ax.lines, (1, 2, 3), strict=False):
        there = line.get_ydata()[np.isfinite(line.get_ydata())]
        assert np.array_equal(there, frame[frame.fold == fold].uar)
    bold = {line.get_label(): line for line in ax.lines if line.get_linewidth() > 2}
    assert list(bold) == ["training", "validation"]
    expected = frame[frame.epoch <= 3].groupby("epoch")["val_uar"].mean()
    assert bold["validation"].get_xdata().tolist() == [1, 2, 3]
    assert bold["validation"].get_ydata() == pytest.approx(expected.to_numpy())
    (mark,) = ax.collections[0].get_offsets().tolist()
    of_fold = frame[(frame.fold == 2) & (frame.epoch == 3)]
    assert mark == [3, of_fold.val_uar.item()] and ax.get_ylabel() == "UAR"
    frame = history(folds=1, validation=False)
    ax = drawn(plots.training_curves(frame, "uar", chosen={1: 5}))
    assert [line.get_label() for line in ax.lines] == ["training"]
    assert ax.collections[0].get_offsets().tolist() == [[5, frame.uar.iloc[-1]]]


COLUMNS = ["name", "uar", "low", "high", "protocol", "synthetic", "reliable"]
ROWS = [
    ("weak", 0.5, 0.4, 0.6, "unseen speakers", False, True),
    ("shown", 0.9, np.nan, np.nan, "random folds", False, True),
    ("strong", -0.0001, -0.1, 0.1, "unseen speakers", True, False),
]


@pytest.mark.parametrize("signed", [False, True])
def test_a_row_has_its_point_interval_and_numbers_under_its_group(signed):
    table = pd.DataFrame(ROWS, columns=COLUMNS).convert_dtypes()  # as files are read
    what = {"x": "UAR (%)", "hollow": "synthetic", "mark": 0.125, "signed": signed}
    legend = ("recorded", "synthetic", "chance")
    ax = plots.intervals(table, "uar", "name", "protocol", legend=legend, **what)
    (right,) = drawn(ax).child_axes
    rows = ["unseen speakers", "weak", "strong", "random folds", "shown"]
    assert ticks(ax.yaxis) == rows and ax.yaxis_inverted()
    bold = [tick.get_fontweight() == "bold" for tick in ax.get_yticklabels()]
    assert bold == [True, False, False, True, False]
    filled, hollow, mark = ax.lines
    assert filled.get_xydata().tolist() == [[50, 1], [90, 4]]
    assert hollow.get_xydata().tolist() == [[-0.01, 2]]
    assert hollow.get_markerfacecolor() == "white"
    assert list(mark.get_xdata()) == [12.5, 12.5]
    assert [line.get_label() for line in ax.lines] == list(legend)
    spans = [40, 1, 60, 1], [-10, 2, 10, 2]
    for lines, span, dotted in zip(ax.collections, spans, (False, True), strict=True):
        place = [len(one) > 0 for one in lines.get_segments()].index(True)
        assert lines.get_segments()[place].ravel().tolist() == span
        assert (lines.get_linestyle()[place][1] is not None) == dotted
    plus = "+" * signed
    expected = ["", f"{plus}50.0  [{plus}40, {plus}60]"]
    expected += [f"{plus}0.0  [-10, {plus}10]", "", f"{plus}90.0"]
    assert ticks(right.yaxis) == expected


def test_points_without_intervals_are_drawn_on_the_axis_given():
    _, ax = plt.subplots()
    table = pd.DataFrame(ROWS, columns=COLUMNS)[["name", "uar", "protocol"]]
    assert plots.intervals(table, "uar", "name", "protocol", x="UAR (%)", ax=ax) is ax
    assert drawn(ax).lines[0].get_xdata().tolist() == pytest.approx([50, -0.01, 90])
    assert len(plt.get_fignums()) == 1


def test_names_are_drawn_as_they_are_written():
    names = ["a$x_1$b", "$\\frac{", "$$", "\\alpha", "x^2 $_$"]
    ax = drawn(plots.probabilities(names, [0.2] * 5, title=names[0]))
    for text in (*ax.get_yticklabels(), ax._left_title):
        plain = ax.figure.text(0, 0, text.get_text(), parse_math=False)
        plain.set_fontproperties(text.get_fontproperties())
        found, wanted = text.get_window_extent(), plain.get_window_extent()
        assert found.size == pytest.approx(wanted.size), text
        plain.remove()
    ax = plots.finish(plt.figure().add_subplot(xscale="log"))
    assert any("10^{" in text for text in ticks(drawn(ax).xaxis))
    assert all(text.get_parse_math() for text in ax.findobj(Text))


def test_letters_come_from_a_font_that_has_them_or_are_named(monkeypatch, recwarn):
    # Of the fonts that come with Matplotlib, STIX has these circled letters.
    drawn(plots.probabilities(["\u24b6", "\u24b7x"], [0.5, 0.5], title="\u24b8"))
    assert [str(warning.message) for warning in recwarn] == []
    families = plt.rcParams["font.family"]
    assert "STIXGeneral" in families and len(set(families)) == len(families)
    ours = [font for font in fontManager.ttflist if "DejaVu" in font.name]
    monkeypatch.setattr(fontManager, "ttflist", ours)
    plots.probabilities(["\u6124\u6012", "\ubd84\ub178"], [0.5, 0.5])
    said = str(recwarn[0].message)
    assert "\u6124" in said and "\ubd84" in said and "Noto Sans CJK" in said


def test_plots_do_not_import_tensorflow():
    code = "import sys, lib.plots; sys.exit('keras' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=files.REPOSITORY, check=True)
