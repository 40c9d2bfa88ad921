"""What a figure shows is what it was given."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from lib import features, plots

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


def test_other_labels_have_colours_that_stay_theirs():
    colours = plots.emotion_colours(["Anger", "sadness", "irony", "doubt"])
    assert colours["Anger"] == plots.EMOTION_COLOURS["angry"]
    assert len(set(colours.values())) == 4
    assert plots.emotion_colours(["irony"])["irony"] == colours["irony"]


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


def test_probabilities_are_bars_in_label_order_under_the_whole_title():
    p, labels = [0.7, 0.2, 0.1], ["sad", "happy", "calm"]
    title = "RAVDESS, random folds, best epoch (speakers shared, epoch chosen on test)"
    ax = drawn(plots.probabilities(labels, p, true_label="happy", title=title))
    bars = ax.containers[0]
    assert [bar.get_width() for bar in bars] == p
    shown = [to_hex(bar.get_facecolor()).upper() for bar in bars]
    assert shown == [plots.EMOTION_COLOURS[label] for label in labels]
    assert ticks(ax.yaxis) == ["sad", "happy (true)", "calm"] and ax.yaxis_inverted()
    assert [text.get_text() for text in ax.texts] == ["70%", "20%", "10%"]
    assert " ".join(ax.get_title(loc="left").split()) == title
    assert ax._left_title.get_window_extent().x1 <= ax.figure.bbox.x1


COLUMNS = ["point", "uar", "low", "high", "protocol", "synthetic", "reliable"]
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
    # A column may be named as what the figure adds.
    ax = plots.intervals(table, "uar", "point", "protocol", legend=legend, **what)
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
    expected = ["", f"{plus}50.0  [{plus}40.0, {plus}60.0]"]
    expected += [f"{plus}0.0  [−10.0, {plus}10.0]", "", f"{plus}90.0"]
    assert ticks(right.yaxis) == expected


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
    assert all(text.get_parse_math() for text in drawn(ax).findobj(Text))


def test_letters_come_from_a_font_that_has_them(recwarn):
    # Of the fonts that come with Matplotlib, STIX has these circled letters.
    drawn(plots.probabilities(["\u24b6", "\u24b7x"], [0.5, 0.5], title="\u24b8"))
    assert [str(warning.message) for warning in recwarn] == []
    with pytest.warns(UserWarning, match="Glyph 983040 .* missing"):  # of no font
        drawn(plots.probabilities(["\U000f0000"], [0.5]))
