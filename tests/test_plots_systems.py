"""Figures of what the systems are, cost and look at."""

import itertools

import matplotlib
import numpy as np
import pytest

from lib import models, plots
from lib.models import light_sernet
from lib.plots.diagrams import DIAGRAMS
from lib.plots.schematics import HEIGHT, structure
from lib.systems import SYSTEMS

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 - after the backend is chosen

EVERY_DRAWING = pytest.mark.parametrize("name", DIAGRAMS)


@pytest.fixture(autouse=True)
def styled():
    with matplotlib.rc_context():
        plots.style()
        yield
        plt.close("all")


def texts(ax):
    return [text.get_text() for text in ax.texts]


def lines(ax, points=2):
    return [line for line in ax.lines if len(line.get_xdata()) >= points]


# --- drawings -------------------------------------------------------------------------


def test_every_system_that_is_trained_has_a_drawing_of_its_own():
    trained = {name for name, system in SYSTEMS.items() if not system.fit}
    assert trained <= set(DIAGRAMS)


def test_a_drawing_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match="'lstm'; there are: block, cktim"):
        structure("lstm")


@EVERY_DRAWING
def test_every_box_is_reached_from_the_first_one(name):
    diagram = DIAGRAMS[name]
    follows = {}
    for chain in diagram.arrows:
        names = chain.split()[::2]
        assert set(chain.split()[1::2]) <= {">", "^"}
        for start, end in itertools.pairwise(names):
            follows.setdefault(start, set()).add(end)
    first = next(iter(diagram.boxes))
    reached, waiting = {first}, [first]
    while waiting:
        new = follows.get(waiting.pop(), set()) - reached
        reached |= new
        waiting += new
    assert reached == set(diagram.boxes)


@EVERY_DRAWING
def test_no_two_boxes_overlap(name):
    for one, other in itertools.combinations(DIAGRAMS[name].boxes.values(), 2):
        beside = abs(one.x - other.x) >= one.half + other.half
        assert beside or abs(one.y - other.y) >= HEIGHT, (one.text, other.text)


@EVERY_DRAWING
def test_text_stays_inside_its_box_and_the_picture_fits_a_page(name):
    ax = structure(name, title="a title that goes on in a second line " * 2)
    ax.figure.canvas.draw()
    width, _ = ax.figure.get_size_inches()
    assert width <= 10
    of_text = {text.get_text(): text.get_window_extent() for text in ax.texts}
    # Layout may have scaled the drawing a little; text does not scale with it.
    for box in DIAGRAMS[name].boxes.values():
        corners = [(box.x - box.half, box.y), (box.x + box.half, box.y)]
        left, right = ax.transData.transform(corners)[:, 0]
        extent = of_text[box.text]
        assert extent.width <= right - left, box.text


@EVERY_DRAWING
def test_the_legend_names_the_colours_that_are_there(name):
    there = {box.kind for box in DIAGRAMS[name].boxes.values()}
    shown = texts(structure(name))
    assert ("has weights" in shown) == ("learned" in there)
    assert ("the idea of this system" in shown) == ("idea" in there)
    assert "has weights" not in texts(structure(name, legend=False))


def written(name):
    return " ".join(box.text for box in DIAGRAMS[name].boxes.values())


def test_numbers_in_the_drawings_are_those_of_the_networks():
    for frames, coefficients in light_sernet.PATHS.values():
        assert f"{frames} × {coefficients}" in written("light_sernet")
    for channels, kernel, _ in light_sernet.BLOCKS:
        assert f"{kernel} × {kernel} to {channels}" in " ".join(
            written("light_sernet").split()
        )
    assert f"{models.options('gm_tcnet')['pairs']} such" in written("gated_level")
    assert f"{models.options('cpac')['capsules']} capsules" in written("cpac")
    drawn = [box.text for box in DIAGRAMS["cnn"].boxes.values()]
    assert sum("norm" in text for text in drawn) == models.options("cnn")["blocks"]
    assert models.options("timnet")["filters"] == 39  # as "t × 39" says


# --- quantities -----------------------------------------------------------------------


def test_magnitudes_stand_at_their_values_and_are_written_out():
    ax = plots.magnitudes({"a": 2.0, "b": 2e6, "c": float("nan")}, "things")
    (dots,) = [line for line in ax.lines if line.get_marker() == "o"]
    np.testing.assert_array_equal(dots.get_xdata(), [2, 2e6, np.nan])
    assert texts(ax) == ["2", "2 M", "–"]
    assert ax.get_xscale() == "log" and ax.get_xlabel() == "things"
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b", "c"]


def test_written_magnitudes_stay_inside_the_figure():
    values = {"a": 0.0136, "b": 1_380_834.0, "c": 104_496.0}
    _, axs = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
    for ax in axs:
        plots.magnitudes(values, "parameters", ax=ax, names=ax is axs[0])
    axs[0].figure.canvas.draw()
    assert texts(axs[0]) == ["0.0136", "1.38 M", "104 k"]
    for ax in axs:
        edge = ax.get_window_extent().x1
        assert all(text.get_window_extent().x1 <= edge + 1 for text in ax.texts)


# --- where they look ------------------------------------------------------------------


def test_a_footprint_leaves_white_what_has_no_effect():
    change = np.array([[0.0, 0.5, 1.0, 0.0, 0.0], [0.1, 0.2, 4.0, 0.0, 0.0]])
    ax = plots.footprint(change, [1, 2], 0.5)
    (image,) = ax.images
    shown = np.ma.filled(image.get_array().astype(float), np.nan)
    np.testing.assert_allclose(
        shown, [[np.nan, 0.5, 1, np.nan, np.nan], [0.025, 0.05, 1, np.nan, np.nan]]
    )
    left, right = ax.get_xlim()
    assert (left, right) == (-1.25, 1.25)  # the middle frame lies around zero
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["1", "2"]


def test_a_footprint_is_counted_from_the_frame_looked_at():
    ax = plots.footprint(np.ones((1, 5)), [1], 1.0, at=4)
    assert ax.get_xlim() == (-4.5, 0.5)


def test_curves_over_time_begin_and_step_as_told():
    curves = {"one": np.array([1.0, 2, 3]), "other": np.array([3.0, 2, 0])}
    ax = plots.over_time(curves, 0.25, "size (m)", start=-0.5)
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [-0.5, -0.25, 0])
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [3, 2, 0])
    assert texts(ax) == ["one", "other"] and ax.get_ylabel() == "size (m)"


def test_each_clip_has_a_dot_at_each_level_in_the_colour_of_its_emotion():
    weights = np.array([[0.2, 0.8], [0.5, 0.5], [0.1, 0.9]])
    ax = plots.level_weights(weights, ["sad", "angry", "sad"], [1, 2])
    by_emotion = {dots.get_label(): dots for dots in ax.collections}
    points = by_emotion["sad"].get_offsets()
    np.testing.assert_allclose(np.sort(points[:, 1]), [0.1, 0.2, 0.8, 0.9])
    assert set(np.round(points[:, 0])) == {0, 1}
    colour = matplotlib.colors.to_hex(by_emotion["sad"].get_facecolor()[0])
    assert colour.upper() == plots.emotion_colours(["sad"])["sad"].upper()


def test_a_histogram_is_of_shares_and_marks_a_value():
    ax = plots.histogram(
        np.array([[0.1, 0.1], [0.9, 0.9]]), "gate", mark=0.5, mark_label="half"
    )
    heights = [bar.get_height() for bar in ax.patches]
    assert sum(heights) == pytest.approx(1) and max(heights) == pytest.approx(0.5)
    assert texts(ax) == ["half"] and list(ax.lines[0].get_xdata()) == [0.5, 0.5]


def test_the_best_epochs_are_drawn_beside_the_truth():
    ax = plots.best_so_far({"54 clips": np.array([0.5, 0.6, 0.7])}, 0.5)
    curve, truth = lines(ax)
    np.testing.assert_allclose(curve.get_xdata(), [1, 2, 3])
    assert set(truth.get_ydata()) == {0.5} and "the truth" in texts(ax)
