"""Pictures of reports, forecasts, diagnoses, searches and spaces, by matplotlib.

Each display holds data, and its `plot` draws them.  This needs
``pip install 'skinvariant[plot]'``.  The pictures fit a column of 3.5 inches and are
legible in grey.
"""

from itertools import pairwise
from numbers import Integral

import numpy as np
from sklearn import config_context
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from skinvariant._validation import (
    check_choice,
    check_corresponding,
    check_labels,
    check_number,
)
from skinvariant.anchors import select_anchors
from skinvariant.metrics._rows import power_of_two
from skinvariant.relative import RelativeProjector

__all__ = [
    "AnchorCurveDisplay",
    "DiagnosisDisplay",
    "SearchDisplay",
    "SpaceDisplay",
    "StitchingDisplay",
    "SwapForecastDisplay",
]

_COLUMN = 3.5  # inches
_MARKERS = "osD^vPX*<>"
_DASHES = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2))]
_DARK, _LIGHT = "0.2", "0.75"
# share of a cell's width that a number may take
_FILLED = 0.92
# relative luminance at which black and white have equal contrast (WCAG 2.1)
_MIDDLE = 0.179
# with more classes than this, there is no legend
_MOST_NAMES = 20
# digits of an agreement, as `diagnose` compares them
_DIGITS = 6
# cubehelix: directions of cosine and sine that leave the brightness of a colour
_HUES = np.array([[-0.14861, 1.78277], [-0.29227, -0.90649], [1.97294, 0.0]])


def _pyplot():
    """Import matplotlib; without it, the error gives the install command."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "skinvariant.plotting needs matplotlib: pip install 'skinvariant[plot]'"
        ) from error
    return plt


def _is_light(color):
    """Return whether black has more contrast than white on an sRGB colour."""
    rgb = np.asarray(color[:3])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear @ (0.2126, 0.7152, 0.0722) > _MIDDLE


def _overlap(labels):
    """Return whether two neighbours of drawn labels overlap or nearly touch."""
    boxes = [label.get_window_extent().padded(1) for label in labels]
    return any(a.overlaps(b) for a, b in pairwise(boxes))


def _shades(plt, n):
    """Return an ordered scale of colours, distinct in grey as well, none too light."""
    return plt.get_cmap("cividis")(np.linspace(0, 0.8, n))


def _class_colors(n):
    """Return colours of unordered classes: hues far apart, brightness in equal steps.

    The hues are those of cubehelix (D. A. Green, "A colour scheme for the display of
    astronomical intensity images", 2011), which have the brightness that is asked for.
    Successive ones are a golden section of the circle apart.
    """
    brightness = np.linspace(0.12, 0.72, n)[:, np.newaxis]
    angles = 2 * np.pi * (0.3 + (np.sqrt(5) - 1) / 2 * np.arange(n))
    hues = np.stack([np.cos(angles), np.sin(angles)], axis=1) @ _HUES.T
    # as strong as red, green and blue within [0, 1] allow
    room = np.where(hues > 0, 1 - brightness, brightness) / np.abs(hues)
    return brightness + np.minimum(room.min(axis=1, keepdims=True), 0.4) * hues


# --- matrices ------------------------------------------------------------------


def _draw_matrix(ax, matrix, names, values_format, **colors):
    """Draw a heat map with numbers, those on the diagonal bold; return both."""
    image = ax.imshow(matrix, **colors)
    texts = np.full(matrix.shape, None, dtype=object)
    for i, j in np.argwhere(~np.ma.getmaskarray(matrix)):
        light = _is_light(image.cmap(image.norm(matrix[i, j])))
        texts[i, j] = ax.text(
            j,
            i,
            format(matrix[i, j], values_format),
            color="black" if light else "white",
            weight="bold" if i == j else "normal",
            ha="center",
            va="center",
        )
    ax.tick_params(length=0, labelsize="x-small")
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks(range(len(names)), names)
    return image, texts


def _fit_matrix(ax, texts):
    """Rotate labels that overlap, and shrink texts that do not fit their cells."""
    draw = ax.figure.draw_without_rendering
    points = 72 / ax.figure.dpi
    draw()
    if _overlap(ax.get_xticklabels()):
        ax.tick_params(axis="x", labelrotation=90)
        draw()
    cell = ax.get_window_extent().width / len(texts)
    labels = ax.get_xticklabels() + ax.get_yticklabels()
    # a line of text is about 1.2 times as high as its font
    size = min(labels[0].get_size(), cell * points / 1.3)
    ax.tick_params(labelsize=size)
    draw()
    texts = [text for text in texts.flat if text is not None]
    widest = max((max(text.get_window_extent().size) for text in texts), default=0)
    cell = ax.get_window_extent().width / len(ax.get_xticks())
    if widest > _FILLED * cell:
        for text in texts:
            text.set_size(text.get_size() * _FILLED * cell / widest)


# --- head by encoder -----------------------------------------------------------


class StitchingDisplay:
    """Scores of every head under every encoder, as a heat map with numbers.

    Parameters
    ----------
    matrix : ndarray of shape (n_spaces, n_spaces)
        Row i is the head trained on ``spaces[i]``, column j the encoder of
        ``spaces[j]``.  NaN if there is no score: the cell stays empty.
    spaces : sequence of str of length n_spaces
        Names of the spaces.
    name : str, default=None
        What the scores are: the title.

    Attributes
    ----------
    image_ : matplotlib AxesImage
        The heat map.
    texts_ : ndarray of shape (n_spaces, n_spaces), dtype object
        The numbers in the cells; None if a cell is empty.  Those on the diagonal, with
        head and encoder from the same space, are bold.
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        The figure around it.

    See Also
    --------
    skinvariant.cross_stitch : Measures the scores.
    StitchingDisplay.from_report : Takes them from a report.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.plotting import StitchingDisplay
    >>> matrix = np.array([[0.95, 0.88], [np.nan, 0.91]])
    >>> display = StitchingDisplay(matrix, ["old", "new"], name="accuracy").plot()
    >>> display.texts_[0, 1].get_text()
    '0.88'
    >>> display.texts_[1, 0] is None
    True
    """

    def __init__(self, matrix, spaces, *, name=None):
        self.matrix = matrix
        self.spaces = spaces
        self.name = name

    @classmethod
    def from_report(cls, report, method="stitched", *, measure="score", n_anchors=None):
        """Take the scores of a method from a report.

        Parameters
        ----------
        report : StitchingReport
            What `skinvariant.cross_stitch` returned.
        method : str, default="stitched"
            One of the report's methods.
        measure : str, default="score"
            One of the report's measures, such as "negative_flips".
        n_anchors : int, default=None
            One of the report's; None: the largest.

        Returns
        -------
        StitchingDisplay
            Not drawn yet.

        Raises
        ------
        ValueError
            If the report has no such method, measure or number of anchors.
        """
        matrix = report.matrix(method, measure=measure, n_anchors=n_anchors)
        what = report.scoring if measure == "score" else measure.replace("_", " ")
        return cls(matrix, report.spaces, name=f"{method}, {what}")

    def plot(
        self, ax=None, *, cmap="cividis", values_format=".2f", vmin=None, vmax=None
    ):
        """Draw the heat map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None: a new figure.
        cmap : str or matplotlib Colormap, default="cividis"
            Colours.  "Greys" is another one that is legible in grey.
        values_format : str, default=".2f"
            Format of the numbers.
        vmin, vmax : float, default=None
            Scores of the first and the last colour; None: the lowest and the highest
            one.  Give both to compare pictures.

        Returns
        -------
        StitchingDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        plt = _pyplot()
        if ax is None:
            size = _COLUMN, _COLUMN
            _, ax = plt.subplots(figsize=size, layout="compressed")
        self.ax_, self.figure_ = ax, ax.figure
        matrix = np.ma.masked_invalid(np.asarray(self.matrix, dtype=float))
        how = {"cmap": cmap, "vmin": vmin, "vmax": vmax}
        self.image_, self.texts_ = _draw_matrix(
            ax, matrix, self.spaces, values_format, **how
        )
        ax.set_xlabel("encoder")
        ax.set_ylabel("head trained on")
        if self.name is not None:
            ax.set_title(self.name, fontsize="medium")
        _fit_matrix(ax, self.texts_)
        return self


# --- score by number of anchors ------------------------------------------------


class AnchorCurveDisplay:
    """Scores against the number of anchors, with intervals as bands.

    Parameters
    ----------
    n_anchors : sequence of int of length n_counts
        Numbers of anchors, ascending.
    scores, low, high : ndarray of shape (n_methods, n_counts)
        Scores and the ends of their intervals; NaN if there is none.
    methods : sequence of str of length n_methods
        Names of the lines.
    score_name : str, default="score"
        What the scores are.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D of length n_methods
        The lines, each with its own dash, marker and shade.
    bands_ : list of matplotlib PolyCollection of length n_methods
        The intervals.
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        The figure around it.

    See Also
    --------
    skinvariant.cross_stitch : Measures for several numbers of anchors.
    AnchorCurveDisplay.from_report : Takes the scores from a report.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.plotting import AnchorCurveDisplay
    >>> scores = np.array([[0.7, 0.9], [0.75, 0.8]])
    >>> display = AnchorCurveDisplay(
    ...     [10, 100], scores, scores - 0.02, scores + 0.02,
    ...     methods=["stitched", "translate_orthogonal"], score_name="accuracy")
    >>> display.plot().lines_[0].get_ydata().tolist()
    [0.7, 0.9]
    """

    def __init__(self, n_anchors, scores, low, high, *, methods, score_name="score"):
        self.n_anchors = n_anchors
        self.scores = scores
        self.low = low
        self.high = high
        self.methods = methods
        self.score_name = score_name

    @classmethod
    def from_report(cls, report, methods=None, *, pair=None, confidence=0.95):
        """Take scores and intervals from a report.

        Parameters
        ----------
        report : StitchingReport
            What `skinvariant.cross_stitch` returned for several
            `n_anchors`.
        methods : sequence of str, default=None
            Some of the report's methods.  None: "own", "stitched" and every baseline
            that is the best one for some number of anchors.
        pair : tuple of (str, str), default=None
            Names of the head's and the encoder's space; None: the mean of all pairs
            of two different ones.
        confidence : float in (0, 1), default=0.95
            The share of such intervals that contain the true value.

        Returns
        -------
        AnchorCurveDisplay
            Not drawn yet.

        Raises
        ------
        ValueError, TypeError
            If a parameter is not as documented.
        """
        if isinstance(methods, str):
            raise TypeError(f"methods must be a sequence of names; got {methods!r}")
        counts = report.n_anchors
        if methods is None:
            best = [report.best_baseline(n_anchors=count) for count in counts]
            chosen = {"own", "stitched", *best}
            methods = [method for method in report.methods if method in chosen]
        methods = list(methods)
        if not methods:
            raise ValueError("methods must name at least one method; got []")
        how = {"pair": pair, "confidence": confidence}
        intervals = [
            [report.interval(method, n_anchors=count, **how) for count in counts]
            for method in methods
        ]
        scores, low, high = np.moveaxis(np.array(intervals), -1, 0)
        return cls(
            counts, scores, low, high, methods=methods, score_name=report.scoring
        )

    def plot(self, ax=None):
        """Draw the lines and bands.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None: a new figure.

        Returns
        -------
        AnchorCurveDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        plt = _pyplot()
        if ax is None:
            size = _COLUMN, 3.2
            _, ax = plt.subplots(figsize=size, layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        self.lines_, self.bands_ = [], []
        ax.set_xscale("log")
        shades = _shades(plt, len(self.methods))
        for i, color in enumerate(shades):
            (line,) = ax.plot(
                self.n_anchors,
                self.scores[i],
                color=color,
                linestyle=_DASHES[i % len(_DASHES)],
                marker=_MARKERS[i % len(_MARKERS)],
                markersize=4,
                linewidth=1.2,
                label=self.methods[i],
            )
            style = {"color": color, "alpha": 0.15, "linewidth": 0}
            band = ax.fill_between(self.n_anchors, self.low[i], self.high[i], **style)
            self.lines_.append(line)
            self.bands_.append(band)
        ax.set_xlabel("anchors")
        ax.set_ylabel(self.score_name)
        ax.minorticks_off()
        ax.set_xticks(self.n_anchors, self.n_anchors)
        ax.tick_params(labelsize="small")
        ax.legend(  # above the axes, where it covers nothing
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=2,
            fontsize="x-small",
            handlelength=3.5,
            frameon=False,
        )
        self.figure_.draw_without_rendering()
        if _overlap(ax.get_xticklabels()):
            ax.tick_params(axis="x", labelrotation=90)
        return self


# --- forecast ------------------------------------------------------------------


class SwapForecastDisplay:
    """Which labels change at a swap, and the score after it, with its bound.

    Parameters
    ----------
    flips : sequence of tuple (label, label, int)
        From which label of the old model to which other one, in how many rows.
    classes : sequence of label, or None
        All labels; None: the models predict numbers, and there is no matrix.
    n_rows : int
        Number of rows.
    own : float, default=0.0
        The old model's score; 0 if all scores are changes from it.
    bound : float, default=None
        The least score after the swap; None: neither `bound` nor `estimate` is known.
    estimate : float, default=None
        The estimated score after the swap.
    interval : tuple of (float, float), default=None
        The ends of its interval.
    confidence : float, default=0.95
        That of bound and interval.
    score_name : str, default="accuracy"
        What the scores are.

    Attributes
    ----------
    image_ : matplotlib AxesImage or None
        The heat map.
    texts_ : ndarray of shape (n_drawn, n_drawn), dtype object, or None
        The numbers in the cells; None if a cell is empty.
    own_, bound_ : matplotlib Line2D or None
        The marks of the old model's score, and of the bound.
    estimate_ : matplotlib ErrorbarContainer or None
        The mark of the estimate, with its interval.
    axes_ : ndarray of shape (2,) or (1,), dtype object
        Where matrix and scores are drawn; of numbers the scores alone.
    figure_ : matplotlib Figure
        The figure around it.

    See Also
    --------
    skinvariant.forecast_swap : Makes a forecast.
    SwapForecastDisplay.from_forecast : Takes the data from one.

    Examples
    --------
    >>> from skinvariant import forecast_swap
    >>> from skinvariant.plotting import SwapForecastDisplay
    >>> old = ["cat"] * 6 + ["dog"] * 4
    >>> new = ["cat"] * 5 + ["dog"] * 5
    >>> forecast = forecast_swap(old, new, own_score=0.9)
    >>> display = SwapForecastDisplay.from_forecast(forecast).plot()
    >>> display.texts_[0, 1].get_text()
    '1'
    >>> display.texts_[1, 0] is None
    True
    """

    def __init__(
        self,
        flips,
        classes,
        n_rows,
        *,
        own=0.0,
        bound=None,
        estimate=None,
        interval=None,
        confidence=0.95,
        score_name="accuracy",
    ):
        self.flips = flips
        self.classes = classes
        self.n_rows = n_rows
        self.own = own
        self.bound = bound
        self.estimate = estimate
        self.interval = interval
        self.confidence = confidence
        self.score_name = score_name

    @classmethod
    def from_forecast(cls, forecast):
        """Take the data from a forecast.

        Parameters
        ----------
        forecast : SwapForecast
            What `skinvariant.forecast_swap` returned.  Where it has no `own_score`, the
            scores are changes of the accuracy.

        Returns
        -------
        SwapForecastDisplay
            Not drawn yet.

        Raises
        ------
        ValueError
            If the forecast is one of numbers and has no `own_score`.
        """
        name = "accuracy" if forecast.classes is not None else "R2"
        scores = {
            "own": forecast.own_score,
            "bound": forecast.bound,
            "estimate": forecast.estimate,
            "interval": forecast.estimate_interval,
        }
        if forecast.own_score is None:
            if forecast.classes is None:
                raise ValueError(
                    "a forecast of numbers must have an R2 to be drawn: pass "
                    "own_score= or y= to forecast_swap; got one without"
                )
            name = f"change of {name}"
            scores = {
                "own": 0.0,
                "bound": -forecast.most_lost,
                "estimate": forecast.change,
                "interval": forecast.change_interval,
            }
        return cls(
            forecast.flips,
            forecast.classes,
            forecast.n_rows,
            confidence=forecast.confidence,
            score_name=name,
            **scores,
        )

    def plot(self, axes=None, *, n_classes=12, cmap="cividis_r"):
        """Draw the matrix and the scores.

        Parameters
        ----------
        axes : sequence of two matplotlib Axes, default=None
            Where to draw matrix and scores; of numbers one, for the scores.  None: a
            new figure.
        n_classes : int, default=12
            How many classes at most, those in the most changes.
        cmap : str or matplotlib Colormap, default="cividis_r"
            Colours of the counts.

        Returns
        -------
        SwapForecastDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If `n_classes` is not a positive integer.
        """
        check_number("n_classes", n_classes, Integral, 1)
        plt = _pyplot()
        if axes is None:
            heights = [1] if self.classes is None else [3, 1]
            _, axes = plt.subplots(
                len(heights),
                figsize=(_COLUMN, 1.15 * sum(heights)),
                layout="constrained",
                height_ratios=heights,
            )
        self.axes_ = np.ravel(np.asarray(axes, dtype=object))
        self.figure_ = self.axes_[0].figure
        self.image_ = self.texts_ = None
        self._draw_scores(self.axes_[-1])
        if self.classes is not None:
            self._draw_flips(self.axes_[0], n_classes, cmap)
        return self

    def _draw_flips(self, ax, n_classes, cmap):
        """Draw how often one label becomes another one."""
        places = {label: i for i, label in enumerate(self.classes)}
        counts = np.zeros((len(places), len(places)), dtype=int)
        for old, new, n_rows in self.flips:
            counts[places[old], places[new]] = n_rows
        title = f"{counts.sum()} of {self.n_rows} rows change their label"
        # of equally frequent ones the first
        order = np.argsort(-(counts.sum(axis=0) + counts.sum(axis=1)), kind="stable")
        drawn = np.sort(order[:n_classes])
        counts = counts[np.ix_(drawn, drawn)]
        if len(drawn) < len(places):
            title += (
                f"\n{counts.sum()} of them between these {len(drawn)} classes"
                f"\n(those that change most of {len(places)})"
            )
        ends = -0.5, len(drawn) - 0.5
        ax.plot(ends, ends, color=_LIGHT, linewidth=1, zorder=0)
        names = [str(self.classes[i]) for i in drawn]
        how = {"cmap": cmap, "vmin": 0, "vmax": max(counts.max(), 1)}
        matrix = np.ma.masked_equal(counts, 0)
        self.image_, self.texts_ = _draw_matrix(ax, matrix, names, "d", **how)
        ax.set_xlabel("new model's label", fontsize="small")
        ax.set_ylabel("old model's label", fontsize="small")
        ax.set_title(title, fontsize="small")
        _fit_matrix(ax, self.texts_)

    def _draw_scores(self, ax):
        """Draw the score before the swap, and what is known of the one after it."""
        ax.axvline(self.own, color=_LIGHT, linestyle="--", linewidth=1, zorder=0)
        style = {"color": _DARK, "linestyle": "none", "markersize": 6}
        (self.own_,) = ax.plot(self.own, 0, marker="D", **style)
        rows, values = ["before"], [self.own]
        self.estimate_ = self.bound_ = None
        if self.estimate is not None:
            ends = np.abs(np.subtract(self.interval, self.estimate))
            how = {"color": _DARK, "marker": "o", "capsize": 3, "elinewidth": 2}
            self.estimate_ = ax.errorbar(
                self.estimate, len(rows), xerr=ends[:, np.newaxis], **how
            )
            rows, values = [*rows, "estimate"], [*values, self.estimate]
        if self.bound is not None:
            (self.bound_,) = ax.plot(self.bound, len(rows), marker=">", **style)
            rows, values = [*rows, "at least"], [*values, self.bound]
        for place, value in enumerate(values):
            ax.annotate(  # in a column right of the axes
                f"{value:.3f}",
                (1, place),
                xytext=(4, 0),
                xycoords=ax.get_yaxis_transform(),
                textcoords="offset points",
                fontsize="x-small",
                va="center",
            )
        ax.set_yticks(range(len(rows)), rows, fontsize="x-small")
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0)
        ax.tick_params(axis="x", labelsize="x-small")
        ax.margins(x=0.08)
        ax.set_xlabel(
            f"{self.score_name}, {self.confidence:.0%} confidence", fontsize="small"
        )
        ax.spines[["top", "right"]].set_visible(False)


# --- diagnosis -----------------------------------------------------------------


def _word(option):
    """Return an option of a choice, a metric, pre or post, as text."""
    if option is None:
        return "–"  # noqa: RUF001
    if isinstance(option, tuple):  # the metrics of a product
        return "×".join(_word(part)[:3] for part in option)  # noqa: RUF001
    return getattr(option, "__name__", str(option))


def _in_lines(name, width=32):
    """Return the name of a class of transformations, in several lines if it is long."""
    lines = [""]
    for part in name.replace("_", " ").replace("+", " + |").split("|"):
        if lines[-1] and len(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.strip() for line in lines)


def _draw_bars(ax, labels, values, marked, title):
    """Draw horizontal bars from the top, the marked one dark, and their values."""
    places = np.arange(len(values))
    colors = np.where(places == marked, _DARK, _LIGHT)
    bars = ax.barh(places, values, color=colors, height=0.7)
    ax.set_yticks(places, labels, fontsize="xx-small", linespacing=0.9)
    for place, value in zip(places, values, strict=True):
        ax.annotate(  # in a column right of the axes, which a bar may fill
            f"{value:.2f}",
            (1, place),
            xytext=(3, 0),
            xycoords=ax.get_yaxis_transform(),
            textcoords="offset points",
            fontsize="x-small",
            weight="bold" if place == marked else "normal",
            va="center",
        )
    if marked is not None:
        ax.get_yticklabels()[marked].set_weight("bold")
    ax.set_xlim(0, 1)
    ax.set_ylim(len(values) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", labelsize="x-small")
    ax.set_title(title, fontsize="small", loc="right")
    ax.spines[["top", "right"]].set_visible(False)
    return bars


class DiagnosisDisplay:
    """Bars of the variance that each class explains, and of agreement by choice.

    Parameters
    ----------
    transformations : dict of str to float
        Share of the variance that the best map of each class explains.  NaN is left
        out; a negative value has a number, but no bar.
    transformation : str
        The class to mark.
    agreement : dict of tuple to float
        By ``(metric, pre, post)``, the agreement of the relative spaces.
    recommended : tuple
        The key of `agreement` to mark.

    Attributes
    ----------
    bars_ : tuple of two matplotlib BarContainer
        The bars of the classes and of the choices; the marked ones are dark.
    axes_ : ndarray of shape (2,), dtype object
        Where they are drawn.
    figure_ : matplotlib Figure
        The figure around it.

    See Also
    --------
    skinvariant.diagnose : Makes a diagnosis.
    DiagnosisDisplay.from_diagnosis : Takes the data from one.

    Examples
    --------
    >>> from skinvariant.plotting import DiagnosisDisplay
    >>> display = DiagnosisDisplay(
    ...     {"none": 0.2, "orthogonal": 1.0}, "orthogonal",
    ...     {("cosine", None, None): 0.9, ("manhattan", None, None): 0.5},
    ...     ("cosine", None, None))
    >>> [float(bar.get_width()) for bar in display.plot().bars_[0]]
    [0.2, 1.0]
    """

    def __init__(self, transformations, transformation, agreement, recommended):
        self.transformations = transformations
        self.transformation = transformation
        self.agreement = agreement
        self.recommended = recommended

    @classmethod
    def from_diagnosis(cls, diagnosis):
        """Take the data from a diagnosis.

        Parameters
        ----------
        diagnosis : Diagnosis
            What `skinvariant.diagnose` returned.

        Returns
        -------
        DiagnosisDisplay
            Not drawn yet.

        Raises
        ------
        ValueError
            If the recommended choice is not one of those in `agreement`.
        """
        best = diagnosis.recommended
        for metric, pre, post in diagnosis.agreement:
            metrics = metric if isinstance(metric, tuple) else (metric,)
            if (metrics, pre, post) == (best.metrics, best.pre, best.post):
                choice = metric, pre, post
                break
        else:
            raise ValueError(
                "the choice that diagnosis.recommended makes must be in "
                f"diagnosis.agreement; got {best!r}"
            )
        return cls(
            diagnosis.transformations,
            diagnosis.transformation,
            diagnosis.agreement,
            choice,
        )

    def plot(self, axes=None, *, n_choices=12):
        """Draw the bars.

        Parameters
        ----------
        axes : sequence of two matplotlib Axes, default=None
            Where to draw; None: a new figure.
        n_choices : int, default=12
            How many choices at most, the best ones.

        Returns
        -------
        DiagnosisDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If `n_choices` is not a positive integer.
        """
        check_number("n_choices", n_choices, Integral, 1)
        plt = _pyplot()
        classes = [k for k, value in self.transformations.items() if value == value]
        choices = sorted(  # of equally good ones, the recommended one first
            self.agreement,
            key=lambda k: (-round(self.agreement[k], _DIGITS), k != self.recommended),
        )[:n_choices]
        if axes is None:
            heights = np.array([len(classes), len(choices)]) + 3
            _, axes = plt.subplots(
                2,
                figsize=(_COLUMN, 0.19 * heights.sum()),
                layout="constrained",
                height_ratios=heights,
            )
        self.axes_ = np.ravel(np.asarray(axes, dtype=object))
        self.figure_ = self.axes_[0].figure
        where = {name: place for place, name in enumerate(classes)}
        above = _draw_bars(
            self.axes_[0],
            [_in_lines(name) for name in classes],
            [self.transformations[name] for name in classes],
            where.get(self.transformation),
            "explained by the best map of a class",
        )
        where = {choice: place for place, choice in enumerate(choices)}
        below = _draw_bars(
            self.axes_[1],
            [", ".join(map(_word, choice)) for choice in choices],
            [self.agreement[choice] for choice in choices],
            where.get(self.recommended),
            "agreement of metric, pre, post",
        )
        self.bars_ = above, below
        return self


# --- search --------------------------------------------------------------------


class SearchDisplay:
    """Stitched against own score, a dot for each choice of a search.

    Parameters
    ----------
    own, stitched : array-like of shape (n_choices,)
        Scores under the head's own encoder and under another one.  NaN if a choice
        has no score: it has no dot.
    labels : sequence of str of length n_choices, default=None
        What the choices are grouped by.
    by : str, default=None
        What these labels are: the title of the legend.
    stitched_name : str, default="stitched"
        What `stitched` is.

    Attributes
    ----------
    points_ : list of matplotlib PathCollection
        The dots, one collection for each label.
    best_ : list of two matplotlib PathCollection
        The rings around the best choice by own score and the best by the other.
    diagonal_ : matplotlib AxLine
        Where both scores are equal: on it, nothing is lost.
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        The figure around it.

    See Also
    --------
    skinvariant.model_selection.AcrossEncoders : The estimator to search with.
    SearchDisplay.from_search : Takes the scores from a fitted search.

    Examples
    --------
    >>> from skinvariant.plotting import SearchDisplay
    >>> display = SearchDisplay(
    ...     [0.95, 0.97, 0.96], [0.9, 0.3, 0.8], labels=["cosine", "inner", "cosine"])
    >>> [points.get_offsets().tolist() for points in display.plot().points_]
    [[[0.95, 0.9], [0.96, 0.8]], [[0.97, 0.3]]]
    """

    def __init__(
        self, own, stitched, *, labels=None, by=None, stitched_name="stitched"
    ):
        self.own = own
        self.stitched = stitched
        self.labels = labels
        self.by = by
        self.stitched_name = stitched_name

    @classmethod
    def from_search(cls, search, stitched="stitched", *, by=None):
        """Take the scores from a fitted search over `AcrossEncoders`.

        Parameters
        ----------
        search : fitted search
            A GridSearchCV, RandomizedSearchCV or other one with `cv_results_`, with
            ``scoring=stitched_scores`` of `skinvariant.model_selection`.
        stitched : str, default="stitched"
            The score that is drawn against "own": "stitched", "worst", or a pair such
            as "old to new".
        by : str, default=None
            A parameter of the search, by whose values the dots are grouped, such as
            "estimator__pre".

        Returns
        -------
        SearchDisplay
            Not drawn yet.

        Raises
        ------
        ValueError, TypeError
            If the search has no such scores, or no parameter `by`.
        """
        check_is_fitted(search)
        results = search.cv_results_
        scores = {
            name.removeprefix("mean_test_"): values
            for name, values in results.items()
            if name.startswith("mean_test_")
        }
        if "own" not in scores:
            raise ValueError(
                "search must be fitted with scoring=stitched_scores, so that there is "
                f"a score 'own'; got the scores {sorted(scores)}"
            )
        check_choice("stitched", stitched, scores)
        labels = None
        if by is not None:
            params = {name for choice in results["params"] for name in choice}
            check_choice("by", by, dict.fromkeys(params))
            labels = [_word(choice.get(by)) for choice in results["params"]]
        names = {"by": by, "stitched_name": stitched}
        return cls(scores["own"], scores[stitched], labels=labels, **names)

    def plot(self, ax=None, *, point_size=16):
        """Draw the dots.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None: a new figure.
        point_size : float, default=16
            Area of a dot, in square points.

        Returns
        -------
        SearchDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the lengths differ, or no choice has both scores.
        """
        own, stitched = (
            np.asarray(scores, dtype=float) for scores in (self.own, self.stitched)
        )
        labels = np.asarray([""] * len(own) if self.labels is None else self.labels)
        check_consistent_length(own, stitched, labels)
        scored = np.flatnonzero(~np.isnan(own + stitched))
        if not scored.size:
            raise ValueError("at least one choice must have both scores; got none")
        plt = _pyplot()
        if ax is None:
            size = _COLUMN, 3.4
            _, ax = plt.subplots(figsize=size, layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        groups = list(dict.fromkeys(labels[scored].tolist()))
        self.points_ = []
        colors = _class_colors(len(groups)) if len(groups) > 1 else [_DARK]
        for k, color in enumerate(colors):
            chosen = scored[labels[scored] == groups[k]]
            style = {"color": color, "marker": _MARKERS[k % len(_MARKERS)]}
            style |= {"s": point_size, "linewidths": 0, "label": groups[k]}
            self.points_.append(ax.scatter(own[chosen], stitched[chosen], **style))
        self.best_ = []
        for name, scores, line in (
            ("own", own, ":"),
            (self.stitched_name, stitched, "-"),
        ):
            best = scored[scores[scored].argmax()]
            style = {"s": 5 * point_size, "facecolors": "none", "edgecolors": "black"}
            style |= {"linestyles": line, "label": f"best by {name}"}
            self.best_.append(ax.scatter(own[best], stitched[best], **style))
        ax.autoscale(enable=False)  # the line may lie far from the dots
        self.diagonal_ = ax.axline((0, 0), slope=1, color=_LIGHT, linewidth=1, zorder=0)
        ax.set_xlabel("own score")
        ax.set_ylabel(f"{self.stitched_name} score")
        ax.tick_params(labelsize="small")
        named = 1 < len(groups) <= _MOST_NAMES
        ax.legend(  # above the axes, where it covers nothing
            handles=[*self.best_, *(self.points_ if named else [])],
            title=str(self.by).rpartition("__")[2] if named and self.by else None,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=2,
            fontsize="x-small",
            title_fontsize="x-small",
            frameon=False,
        )
        return self


# --- two spaces ----------------------------------------------------------------


def _plane(X_a, X_b):
    """Return both spaces in the plane of the first one's largest variance.

    Parameters
    ----------
    X_a, X_b : ndarray of shape (n_samples, n_features)
        Spaces.  If their widths differ, each has its own plane.

    Returns
    -------
    tuple of two ndarray of shape (n_samples, 2)
        Coordinates.
    """
    planes, fitted = [], X_a
    for X in (X_a, X_b):
        if X.shape[1] != fitted.shape[1]:
            fitted = X
        # in this unit no square leaves the range of float64
        unit = power_of_two(np.abs(fitted).max())
        pca = PCA(2, svd_solver="full").fit(fitted / unit)
        planes.append(pca.transform(X / unit) * unit)
    return tuple(planes)


class SpaceDisplay:
    """The same samples in two spaces, absolute above and relative below.

    Parameters
    ----------
    absolute : tuple of two ndarray of shape (n_samples, 2)
        Rows of the first and of the second space in the plane.
    relative : tuple of two ndarray of shape (n_samples, 2)
        Their relative rows in the plane.  Both are drawn with the same axes.
    y : array-like of shape (n_samples,), default=None
        Classes, for colours and markers.
    names : tuple of (str, str), default=("A", "B")
        Names of the spaces.

    Attributes
    ----------
    points_ : ndarray of shape (2, 2), dtype object
        For each panel, a list of matplotlib PathCollection, one for each class.
    axes_ : ndarray of shape (2, 2), dtype object
        Where they are drawn.
    figure_ : matplotlib Figure
        The figure around it.

    See Also
    --------
    SpaceDisplay.from_spaces : Computes the rows in the plane.

    Examples
    --------
    A rotation moves the rows, but leaves their cosines to anchors unchanged:

    >>> import numpy as np
    >>> from skinvariant.datasets import make_related_spaces
    >>> from skinvariant.plotting import SpaceDisplay
    >>> spaces = make_related_spaces(transformation="orthogonal", random_state=0)
    >>> display = SpaceDisplay.from_spaces(spaces.X_a, spaces.X_b, spaces.y)
    >>> for pair in display.absolute, display.relative:
    ...     print(abs(np.subtract(*pair)).max().round(2))
    15.9
    0.0
    >>> len(display.plot().points_[0, 0])
    3
    """

    def __init__(self, absolute, relative, *, y=None, names=("A", "B")):
        self.absolute = absolute
        self.relative = relative
        self.y = y
        self.names = names

    @classmethod
    @config_context(transform_output="default")
    def from_spaces(cls, X_a, X_b, y=None, *, projector=None, names=("A", "B")):
        """Compute the rows in the plane, by principal component analysis.

        The analysis is fitted on the first space and applied to both; if the absolute
        widths differ, each absolute space has its own.

        Parameters
        ----------
        X_a : array-like of shape (n_samples, n_features_a)
            Rows of the first space, from which the anchors are chosen.
        X_b : array-like of shape (n_samples, n_features_b)
            The same samples, in the same order, in the second space.
        y : array-like of shape (n_samples,), default=None
            Classes.
        projector : RelativeProjector or InvariantAggregator, default=None
            The estimator of the relative spaces; a clone of it is fitted on `X_a` and
            rebased on the parallel anchors of `X_b`.  None: cosine after centring, with
            300 anchors, or all rows if these are fewer.
        names : tuple of (str, str), default=("A", "B")
            Names of the spaces.

        Returns
        -------
        SpaceDisplay
            Not drawn yet.

        Raises
        ------
        ValueError
            If the numbers of rows differ, or a space has fewer than 2 columns.
        """
        X_a, X_b = check_corresponding(X_a, X_b, min_columns=2)
        check_consistent_length(X_a, y)
        y = None if y is None else check_labels(y)
        if projector is None:
            projector = RelativeProjector(
                min(300, len(X_a)), pre="center", random_state=0
            )
        own = clone(projector).fit(X_a, y)
        other = own.rebase(select_anchors(own, X_b))
        absolute = _plane(X_a, X_b)
        relative = _plane(own.transform(X_a), other.transform(X_b))
        return cls(absolute, relative, y=y, names=names)

    def plot(self, axes=None, *, point_size=8):
        """Draw the four panels.

        Parameters
        ----------
        axes : array-like of matplotlib Axes of shape (2, 2), default=None
            Where to draw; None: a new figure.
        point_size : float, default=8
            Area of a point, in square points.

        Returns
        -------
        SpaceDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        plt = _pyplot()
        if axes is None:
            size = _COLUMN, _COLUMN + 0.4
            _, axes = plt.subplots(2, 2, figsize=size, layout="constrained")
        self.axes_ = np.asarray(axes, dtype=object).reshape(2, 2)
        self.figure_ = self.axes_[0, 0].figure
        self.points_ = np.empty((2, 2), dtype=object)
        for (i, j), ax in np.ndenumerate(self.axes_):
            X = np.asarray((self.absolute, self.relative)[i][j])
            y = np.zeros(len(X)) if self.y is None else check_labels(self.y)
            classes = np.unique(y)
            self.points_[i, j] = [
                ax.scatter(
                    *X[y == classes[k]].T,
                    s=point_size,
                    color=color,
                    marker=_MARKERS[k % len(_MARKERS)],
                    linewidths=0,
                    label=str(classes[k]),
                )
                for k, color in enumerate(_class_colors(len(classes)))
            ]
            kind = ("absolute", "relative")[i]
            ax.set_title(f"{self.names[j]}, {kind}", fontsize="small")
            ax.tick_params(labelsize="xx-small", length=2)
        ends = np.concatenate(self.relative)
        low, high = ends.min(axis=0), ends.max(axis=0)
        margin = 0.05 * np.maximum(high - low, np.finfo(float).eps)
        for ax in self.axes_[1]:  # equal axes show whether the two coincide
            ax.set_xlim(low[0] - margin[0], high[0] + margin[0])
            ax.set_ylim(low[1] - margin[1], high[1] + margin[1])
        handles = self.points_[0, 0]
        if 1 < len(handles) <= _MOST_NAMES:
            outside = "outside " if self.figure_.get_layout_engine() else ""
            self.figure_.legend(
                handles=handles,
                loc=f"{outside}lower center",
                ncols=min(5, len(handles)),
                fontsize="x-small",
                markerscale=1.5,
                handletextpad=0.2,
                frameon=False,
            )
        return self
