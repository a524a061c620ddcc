"""Displays: what is drawn equals the data, and can be read."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skinvariant import RelativeProjector, forecast_swap
from skinvariant.datasets import make_related_spaces
from skinvariant.model_selection import AcrossEncoders, stitched_scores
from skinvariant.plotting import (
    AnchorCurveDisplay,
    DiagnosisDisplay,
    SearchDisplay,
    SpaceDisplay,
    StitchingDisplay,
    SwapForecastDisplay,
)
from skinvariant.stitching import StitchingReport, cross_stitch

plt = pytest.importorskip("matplotlib.pyplot")
colors = pytest.importorskip("matplotlib.colors")
container = pytest.importorskip("matplotlib.container")


@pytest.fixture(autouse=True)
def close_figures():
    """No test leaves a figure open."""
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def pair():
    """Two spaces, by an affine map."""
    return make_related_spaces(
        120, 6, transformation="affine", noise=0.1, n_classes=4, random_state=0
    )


@pytest.fixture(scope="module")
def report(pair):
    """A measured report of three numbers of anchors."""
    spaces = {
        "old": (pair.X_a[:80], pair.X_a[80:]),
        "new": (pair.X_b[:80], pair.X_b[80:]),
    }
    return cross_stitch(
        make_pipeline(RelativeProjector(), RidgeClassifier()),
        spaces,
        (pair.y[:80], pair.y[80:]),
        baselines=["majority", "absolute", "translate_orthogonal", "translate_affine"],
        n_anchors=[5, 10, 40],
        n_seeds=2,
        n_resamples=10,
        random_state=0,
    )


def made_report(by_method, counts=(10, 100)):
    """A report in which a method has one score for each number of anchors."""
    scores = np.array(list(by_method.values()), dtype=float)
    scores = np.tile(scores[:, :, None, None, None], (1, 1, 1, 2, 2))
    return StitchingReport(
        spaces=("old", "new"),
        methods=tuple(by_method),
        n_anchors=counts,
        scoring="accuracy",
        scores=scores[None],
        resampled=np.empty((1, len(by_method), len(counts), 0, 2, 2)),
    )


def boxes_of(labels):
    """The boxes around drawn texts."""
    labels[0].figure.draw_without_rendering()
    return [label.get_window_extent() for label in labels if label.get_text()]


def n_overlaps(labels):
    """How many pairs of texts overlap."""
    boxes = boxes_of(labels)
    return sum(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_importing_does_not_load_matplotlib():
    """Who draws nothing needs no matplotlib."""
    code = "import sys, skinvariant.plotting; print('matplotlib' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    "display",
    [
        StitchingDisplay(np.eye(2), ["a", "b"]),
        AnchorCurveDisplay([1, 2], [[1, 2]], [[0, 1]], [[2, 3]], methods=["own"]),
        DiagnosisDisplay({"none": 1.0}, "none", {(1, 2, 3): 1.0}, (1, 2, 3)),
        SearchDisplay([0.5], [0.5]),
        SpaceDisplay((np.eye(2),) * 2, (np.eye(2),) * 2),
        SwapForecastDisplay((), "ab", 1),
    ],
    ids=lambda display: type(display).__name__,
)
def test_without_matplotlib_it_is_said_how_to_install_it(monkeypatch, display):
    """The message is a command."""
    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'skinvariant\[plot\]'"):
        display.plot()


# --- head by encoder -----------------------------------------------------------


def test_cells_say_what_the_matrix_holds():
    """Row by row; an own score is bold, and NaN neither text nor colour."""
    matrix = np.array([[0.9, 0.123, np.nan], [0.5, 0.8, 0.4], [0.3, 0.2, 0.7]])
    display = StitchingDisplay(matrix, ["a", "b", "c"], name="accuracy")
    assert display.plot(values_format=".3f") is display
    for (i, j), value in np.ndenumerate(matrix):
        text = display.texts_[i, j]
        if np.isnan(value):
            assert text is None
            continue
        assert text.get_text() == f"{value:.3f}"
        assert text.get_position() == (j, i)
        assert (text.get_weight() == "bold") == (i == j)
    drawn = display.image_.get_array()
    np.testing.assert_array_equal(drawn.mask, np.isnan(matrix))
    np.testing.assert_array_equal(drawn.filled(np.nan), matrix)
    assert display.ax_.get_title() == "accuracy"
    assert [x.get_text() for x in display.ax_.get_xticklabels()] == ["a", "b", "c"]
    assert [x.get_text() for x in display.ax_.get_yticklabels()] == ["a", "b", "c"]
    assert display.ax_.get_ylabel() == "head trained on"


@pytest.mark.parametrize("cmap", ["cividis", "Greys", "viridis"])
def test_numbers_stand_out_from_their_cells(cmap):
    """Contrast of at least 4.5, what WCAG asks for, by matplotlib's own colours."""
    matrix = np.linspace(0, 1, 36).reshape(6, 6)
    display = StitchingDisplay(matrix, list("abcdef")).plot(cmap=cmap)

    def luminance(color):
        rgb = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
               for c in colors.to_rgb(color)]  # fmt: skip
        return 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]

    for (i, j), value in np.ndenumerate(matrix):
        cell = luminance(plt.get_cmap(cmap)(value))
        text = luminance(display.texts_[i, j].get_color())
        low, high = sorted([cell, text])
        assert (high + 0.05) / (low + 0.05) >= 4.5


@pytest.mark.parametrize("n", [2, 5, 12])
def test_labels_and_numbers_do_not_overlap(n):
    """Not with twelve encoders of long names in a column, either."""
    names = [f"encoder, seed {i}" for i in range(n)]
    matrix = np.random.default_rng(0).uniform(-1, 1, (n, n))
    display = StitchingDisplay(matrix, names).plot()
    assert display.figure_.get_figwidth() == 3.5
    for labels in (display.ax_.get_xticklabels(), display.ax_.get_yticklabels()):
        assert n_overlaps(labels) == 0
    assert n_overlaps(list(display.texts_.flat)) == 0
    page = display.figure_.bbox
    around = display.ax_.get_tightbbox()
    assert around.x0 >= page.x0
    assert around.y0 >= page.y0
    assert around.x1 <= page.x1
    assert around.y1 <= page.y1
    assert min(text.get_size() for text in display.texts_.flat) >= 3.5


def test_short_labels_are_not_turned():
    """Only those that would overlap."""
    display = StitchingDisplay(np.eye(3), ["a", "b", "c"]).plot()
    assert display.ax_.get_xticklabels()[0].get_rotation() == 0
    display = StitchingDisplay(np.eye(3), ["a long name " * 2] * 3).plot()
    assert display.ax_.get_xticklabels()[0].get_rotation() == 90


def test_a_matrix_of_nothing_is_drawn_empty():
    """No warning, no number."""
    display = StitchingDisplay(np.full((2, 2), np.nan), ["a", "b"]).plot()
    assert not display.texts_.any()


def test_scores_are_those_of_the_report(report):
    """Of the method and the number of anchors asked for."""
    display = StitchingDisplay.from_report(report, "absolute", n_anchors=10)
    np.testing.assert_array_equal(
        display.matrix, report.matrix("absolute", n_anchors=10)
    )
    assert display.spaces == ("old", "new")
    assert display.name == "absolute, accuracy"
    default = StitchingDisplay.from_report(report)
    np.testing.assert_array_equal(
        default.matrix, report.matrix("stitched", n_anchors=40)
    )
    flips = StitchingDisplay.from_report(report, measure="negative_flips")
    assert flips.name == "stitched, negative flips"
    np.testing.assert_array_equal(
        flips.matrix, report.matrix("stitched", measure="negative_flips")
    )
    with pytest.raises(ValueError, match="method must be one of"):
        StitchingDisplay.from_report(report, "magic")
    with pytest.raises(ValueError, match="measure must be one of"):
        StitchingDisplay.from_report(report, measure="magic")


def test_limits_of_colours_are_taken():
    """So that two pictures can be compared."""
    display = StitchingDisplay(np.eye(2), ["a", "b"]).plot(vmin=-1, vmax=3)
    assert display.image_.get_clim() == (-1, 3)


# --- forecast -----------------------------------------------------------------------


def logged(n_classes, share=0.2, n_rows=1000):
    """Labels of two models, of which some differ."""
    rng = np.random.default_rng(0)
    old, other = rng.integers(n_classes, size=(2, n_rows))
    return old, np.where(rng.random(n_rows) < share, other, old)


def test_a_forecast_is_drawn_as_it_is():
    """Counts off the diagonal and nothing on it; own score, estimate and bound."""
    old, new = logged(5)
    forecast = forecast_swap(old, new, own_score=(180, 200), confidence=0.9)
    display = SwapForecastDisplay.from_forecast(forecast)
    assert display.plot() is display
    for (i, j), text in np.ndenumerate(display.texts_):
        n_rows = np.sum((old == i) & (new == j))
        assert (text is None) == (i == j or not n_rows)
        assert text is None or text.get_text() == str(n_rows)
    matrix, scores = display.axes_
    assert [x.get_text() for x in matrix.get_xticklabels()] == list("01234")
    assert matrix.get_ylabel() == "old model's label"
    assert matrix.get_title() == f"{np.sum(old != new)} of 1000 rows change their label"
    assert display.own_.get_xdata() == [forecast.own_score]
    assert display.bound_.get_xdata() == [forecast.bound]
    dot, _, (bar,) = display.estimate_
    assert dot.get_xdata() == [forecast.estimate]
    ends = bar.get_segments()[0][:, 0]
    np.testing.assert_allclose(ends, forecast.estimate_interval)
    values = [forecast.own_score, forecast.estimate, forecast.bound]
    assert [text.get_text() for text in scores.texts] == [f"{x:.3f}" for x in values]
    assert scores.get_xlabel() == "accuracy, 90% confidence"
    low, high = scores.get_xlim()
    assert low < forecast.bound < forecast.own_score < high


@pytest.mark.parametrize("n_classes", [2, 3, 12, 200])
def test_a_forecast_of_many_classes_can_be_read(n_classes):
    """The classes that change most, as many as fit, and what is left out is written."""
    names = np.array([f"issue, kind {i:03d}" for i in range(n_classes)])
    old, new = logged(n_classes)
    old[:40], new[:40] = 0, n_classes - 1
    forecast = forecast_swap(names[old], names[new], own_score=0.9)
    display = SwapForecastDisplay.from_forecast(forecast).plot()
    matrix = display.axes_[0]
    drawn = [label.get_text() for label in matrix.get_yticklabels()]
    assert len(drawn) == min(n_classes, 12) == len(display.texts_)
    assert {drawn[0], drawn[-1]} == {names[0], names[-1]}
    assert display.figure_.get_figwidth() == 3.5
    for labels in (matrix.get_xticklabels(), matrix.get_yticklabels()):
        assert n_overlaps(labels) == 0
    assert n_overlaps([text for text in display.texts_.flat if text]) == 0
    page = display.figure_.bbox
    for ax in display.axes_:
        around = ax.get_tightbbox()
        assert around.x0 >= page.x0
        assert around.y0 >= page.y0
        assert around.x1 <= page.x1
        assert around.y1 <= page.y1
    among = np.isin(names[old], drawn) & np.isin(names[new], drawn) & (old != new)
    written = f"{among.sum()} of them between these 12 classes"
    assert (written in matrix.get_title()) == (n_classes > 12)
    fewer = SwapForecastDisplay.from_forecast(forecast).plot(n_classes=2)
    assert len(fewer.texts_) == 2


def test_a_forecast_without_own_score_is_drawn_as_a_change():
    """What is known: how much is lost at most, and with labels the estimate, too."""
    old, new = logged(3)
    forecast = forecast_swap(old, new)
    display = SwapForecastDisplay.from_forecast(forecast).plot()
    assert display.estimate_ is None
    assert display.own_.get_xdata() == [0]
    assert display.bound_.get_xdata() == [-forecast.most_lost]
    assert display.axes_[1].get_xlabel() == "change of accuracy, 95% confidence"
    rows = forecast.suspects(30)
    told = forecast_swap(old, new, y=old[rows], labelled=rows)
    display = SwapForecastDisplay.from_forecast(told).plot()
    assert display.estimate_[0].get_xdata() == [told.change]


def test_a_forecast_of_numbers_has_no_matrix():
    """One axis, of R2; without an R2 there is nothing to draw."""
    old = np.linspace(-1.5, 1.5, 50)
    forecast = forecast_swap(old, old + 0.1 * np.cos(old), own_score=(0.8, 1.0))
    display = SwapForecastDisplay.from_forecast(forecast).plot()
    assert display.image_ is display.texts_ is None
    (scores,) = display.axes_
    assert scores.get_xlabel() == "R2, 95% confidence"
    assert display.estimate_[0].get_xdata() == [forecast.estimate]
    with pytest.raises(ValueError, match=r"must have an R2 .*: pass own_score="):
        SwapForecastDisplay.from_forecast(forecast_swap(old, old + 0.1))


def test_models_that_agree_are_drawn():
    """Without a warning, and with no number in any cell; in given axes, too."""
    old, _ = logged(3)
    _, axes = plt.subplots(2)
    forecast = forecast_swap(old, old, own_score=0.9)
    display = SwapForecastDisplay.from_forecast(forecast).plot(axes)
    assert not display.texts_.any()
    assert list(display.axes_) == list(axes)
    with pytest.raises(ValueError, match="n_classes must be"):
        display.plot(n_classes=0)


# --- two spaces ----------------------------------------------------------------


def test_points_are_the_rows_of_their_classes(pair):
    """In each panel, class by class, with a legend that names the classes."""
    display = SpaceDisplay.from_spaces(pair.X_a, pair.X_b, pair.y).plot()
    for (i, j), points in np.ndenumerate(display.points_):
        X = (display.absolute, display.relative)[i][j]
        assert [part.get_label() for part in points] == ["0", "1", "2", "3"]
        for k, part in enumerate(points):
            np.testing.assert_array_equal(part.get_offsets(), X[pair.y == k])
    (legend,) = display.figure_.legends
    assert [text.get_text() for text in legend.get_texts()] == ["0", "1", "2", "3"]


def test_points_without_classes_have_one_colour(pair):
    """And no legend."""
    display = SpaceDisplay.from_spaces(pair.X_a, pair.X_b).plot()
    assert [len(points) for points in display.points_.flat] == [1] * 4
    assert not display.figure_.legends


@pytest.mark.parametrize("n_classes", [2, 3, 5, 10])
def test_classes_have_colours_that_differ_in_brightness_too(n_classes):
    """So that they can be told apart in grey, and none is lost on white."""
    y = np.arange(2 * n_classes) % n_classes
    X = np.random.default_rng(0).standard_normal((2 * n_classes, 2))
    display = SpaceDisplay((X, X), (X, X), y=y).plot()
    rgb = np.array([part.get_facecolor()[0, :3] for part in display.points_[0, 0]])
    brightness = rgb @ [0.299, 0.587, 0.114]
    assert np.diff(brightness).min() >= 0.5 / n_classes
    assert brightness.max() < 0.8
    hues = [colors.rgb_to_hsv(color)[0] for color in rgb]
    apart = abs(np.diff(hues))
    assert np.minimum(apart, 1 - apart).min() > 0.1


def test_spaces_must_correspond(pair):
    """By their numbers of rows, which the labels share, and be wide enough."""
    with pytest.raises(ValueError, match="120 rows in X_a and 119 in X_b"):
        SpaceDisplay.from_spaces(pair.X_a, pair.X_b[:-1])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        SpaceDisplay.from_spaces(pair.X_a, pair.X_b, pair.y[:-1])
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        SpaceDisplay.from_spaces(pair.X_a, pair.X_b[:, :1])


# --- search -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def search(pair):
    """A search over metrics and steps before them."""
    model = make_pipeline(RelativeProjector(20, random_state=0), RidgeClassifier())
    across = AcrossEncoders(model, {"old": slice(0, 6), "new": slice(6, 12)}, own="old")
    grid = {
        "estimator__relativeprojector__metric": ["cosine", "euclidean"],
        "estimator__relativeprojector__pre": [None, "center", "whiten"],
    }
    how = {"scoring": stitched_scores, "refit": "stitched", "cv": 2}
    X = np.hstack([pair.X_a, pair.X_b])
    return GridSearchCV(across, grid, **how).fit(X, pair.y)


def dots(collections):
    """Where all dots are, as a set."""
    return {tuple(dot) for points in collections for dot in points.get_offsets().data}


@pytest.mark.parametrize("stitched", ["stitched", "worst", "old to new"])
def test_each_choice_of_a_search_is_a_dot(search, stitched):
    """At its scores; the best ones have a ring, and the line is where both agree."""
    display = SearchDisplay.from_search(search, stitched).plot()
    results = search.cv_results_
    own, other = results["mean_test_own"], results[f"mean_test_{stitched}"]
    assert dots(display.points_) == set(zip(own, other, strict=True))
    rings = [ring.get_offsets().data[0].tolist() for ring in display.best_]
    best = own.argmax(), other.argmax()
    assert rings == [[own[i], other[i]] for i in best]
    assert display.diagonal_.get_slope() == 1
    assert display.ax_.get_ylabel() == f"{stitched} score"
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["best by own", f"best by {stitched}"]


def test_dots_are_grouped_by_a_parameter(search):
    """Each value has its own marker and colour, and its name in the legend."""
    name = "estimator__relativeprojector__pre"
    display = SearchDisplay.from_search(search, by=name).plot()
    results = search.cv_results_
    for points, pre in zip(display.points_, [None, "center", "whiten"], strict=True):
        chosen = [params[name] == pre for params in results["params"]]
        scores = results["mean_test_own"], results["mean_test_stitched"]
        expected = np.transpose(scores)[chosen]
        np.testing.assert_array_equal(points.get_offsets().data, expected)
    assert len({tuple(points.get_facecolor()[0]) for points in display.points_}) == 3
    legend = display.ax_.get_legend()
    texts = [text.get_text() for text in legend.get_texts()][2:]
    assert texts == [points.get_label() for points in display.points_]
    assert texts[1:] == ["center", "whiten"]
    assert legend.get_title().get_text() == "pre"
    assert not n_overlaps(legend.get_texts())


def test_the_line_does_not_stretch_the_axes():
    """They fit the dots."""
    display = SearchDisplay([0.90, 0.95], [0.3, 0.4]).plot()
    assert 0.89 < display.ax_.get_xlim()[0] < 0.90
    assert 0.40 < display.ax_.get_ylim()[1] < 0.41


def test_choices_without_a_score_have_no_dot():
    """As those of a search whose fit failed."""
    own, stitched = [0.9, np.nan, 0.99, 0.8], [0.5, 0.7, np.nan, 0.6]
    display = SearchDisplay(own, stitched, labels=list("abcd")).plot()
    assert dots(display.points_) == {(0.9, 0.5), (0.8, 0.6)}
    assert dots(display.best_) == {(0.9, 0.5), (0.8, 0.6)}
    with pytest.raises(ValueError, match="at least one choice must have both scores"):
        SearchDisplay([np.nan, 1], [1, np.nan]).plot()
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        SearchDisplay([1, 2], [1]).plot()


def test_searches_that_cannot_be_drawn(search, pair):
    """Not fitted, with other scores, or without the parameter."""
    with pytest.raises(ValueError, match="not fitted"):
        SearchDisplay.from_search(GridSearchCV(search.estimator, {}))
    with pytest.raises(ValueError, match=r"stitched must be .*; got 'new to old'"):
        SearchDisplay.from_search(search, "new to old")
    with pytest.raises(ValueError, match=r"by must be one of .*; got 'pre'"):
        SearchDisplay.from_search(search, by="pre")
    plain = GridSearchCV(RidgeClassifier(), {"alpha": [1]}).fit(pair.X_a, pair.y)
    with pytest.raises(ValueError, match=r"scoring=stitched_scores.*got .*'score'"):
        SearchDisplay.from_search(plain)
