"""The pictures of these pages, drawn from what the pages' own blocks compute.

A page says ``.. picture:: name``, and the function of that name draws it: once for
light pages and once for dark ones.  It gets a `Page`: ``page["head"]`` is what the
page's own blocks have made of the name ``head``.
"""

import contextlib
import doctest
import functools
import io
from itertools import product
from pathlib import Path

import matplotlib as mpl
import numpy as np
import tables  # in examples/paper, where the records are read
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from sklearn.datasets import make_blobs
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skinvariant import InvariantAggregator, RelativeProjector, stitch
from skinvariant.comparison import mean_reciprocal_rank
from skinvariant.datasets import make_related_spaces
from skinvariant.metrics import METRICS
from skinvariant.plotting import DiagnosisDisplay, StitchingDisplay

ROOT = Path(__file__).parents[1]
UNDATED = {"Date": None}
ON_WHITE = {"diagnosed", "forecasted", "searched"}
INK = {"light": "#222832", "dark": "#dfe3e8"}
# apart from each other in grey and for the colour blind, on white and on black
CLASSES = ("#2f7fd1", "#e08214", "#1f9e77")
GREY, BLUE, RED = "#8a94a0", "#2f7fd1", "#d1495b"
CIVIDIS = mpl.colormaps["cividis"]
# those that the records of the voting model have
TRANSLATIONS = ("ridge", "kernel", "orthogonal")
FOUR = ("cosine", "euclidean", "manhattan", "chebyshev")


class Page:
    """What the blocks of a page define; they run as far as the names asked for."""

    def __init__(self, path):
        text = Path(path).read_text(encoding="utf-8")
        self.names = {"__name__": "__main__"}
        self.blocks = iter(doctest.DocTestParser().get_examples(text))

    def __getitem__(self, name):
        """Run on until the name is there."""
        while name not in self.names:
            block = next(self.blocks)
            if block.exc_msg is None and "pytest" not in block.source:
                code = compile(block.source, "<page>", "single")
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(code, self.names)
        return self.names[name]


def draw(name, path, folder):
    """Draw a picture of a page, for light pages and for dark ones; return the files.

    What has greys of its own is drawn once, on white.
    """
    page, files = Page(path), {}
    folder.mkdir(parents=True, exist_ok=True)
    for theme, ink in ({"both": INK["light"]} if name in ON_WHITE else INK).items():
        svg = io.StringIO()
        with mpl.rc_context(style(ink)), contextlib.chdir(ROOT):
            figure = globals()[name](page)
            ground = "white" if name in ON_WHITE else "none"
            figure.savefig(svg, format="svg", facecolor=ground, metadata=UNDATED)
        files[theme] = folder / f"{path.stem}-{name}-{theme}.svg"
        if not files[theme].exists() or files[theme].read_text() != svg.getvalue():
            files[theme].write_text(svg.getvalue())
    return files


def style(ink):
    """Return settings of matplotlib: text and lines in one colour, on no ground."""
    names = ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor")
    names += ("xtick.color", "ytick.color")
    return dict.fromkeys(names, ink) | {
        "axes.facecolor": "none",
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 12,
        "figure.facecolor": "none",
        "font.size": 12,
        "grid.color": GREY,
        "legend.frameon": False,
        "svg.hashsalt": "skinvariant",
    }


def ink():
    """Return the colour of text."""
    return mpl.rcParams["text.color"]


def canvas(height, width=5.7, **grid):
    """Make a figure and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(**grid)


def bare(ax):
    """Leave out what stands around a space: its axes mean nothing by themselves."""
    ax.set(xticks=[], yticks=[], aspect="equal")
    ax.spines[:].set_visible(False)


def bars(values, colours, *, label="share of test rows that are right"):
    """Draw one bar for each name, with its number."""
    figure, ax = canvas(0.5 * len(values) + 0.8, 5.2)
    drawn = ax.barh(list(values), list(values.values()), color=colours, height=0.62)
    ax.bar_label(drawn, fmt="%.2f", padding=4)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1.1), xticks=[0, 0.5, 1], xlabel=label)
    ax.tick_params(left=False)
    ax.spines["left"].set_visible(False)
    return figure


# --- the problem ---------------------------------------------------------------


@functools.cache
def toy():
    """Three classes in two spaces, a head on the first one, and a stitched head."""
    X, y = make_blobs(
        240, centers=[[0, 3], [-3, -1], [2.4, -2]], cluster_std=0.9, random_state=0
    )
    angle = np.deg2rad(135)
    turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    X_new = 0.6 * X @ turn + [5, 1]
    head = LogisticRegression().fit(X[:120], y[:120])
    product = InvariantAggregator(20, pre="center", random_state=0)
    model = make_pipeline(product, LogisticRegression(max_iter=1000))
    model.fit(X[:120], y[:120])
    anchors = product.anchor_indices_
    stitched = stitch(model, X_new[anchors])
    return X, X_new, y, head, stitched, anchors


def regions(X, y, model, anchors=None):
    """Draw rows, and what a model predicts for every place between them."""
    figure, ax = canvas(3.4, 3.2)
    low, high = X.min(axis=0) - 0.5, X.max(axis=0) + 0.5
    x, z = np.meshgrid(
        *(np.linspace(*ends, 120) for ends in zip(low, high, strict=True))
    )
    found = model.predict(np.column_stack([x.ravel(), z.ravel()])).reshape(x.shape)
    levels = np.arange(4) - 0.5
    ax.contourf(x, z, found, levels=levels, colors=CLASSES, alpha=0.28)
    for k, colour in enumerate(CLASSES):
        ax.scatter(*X[120:][y[120:] == k].T, s=14, color=colour)
    if anchors is not None:
        ax.scatter(*X[anchors].T, s=60, marker="*", color=ink(), zorder=3)
    bare(ax)
    right = model.score(X[120:], y[120:])
    ax.set_title(f"{right:.0%} right", fontsize=15)
    return figure


def old_space(page):
    """Draw the first space, under the head trained on it."""
    X, _, y, head, _, _ = toy()
    return regions(X, y, head)


def new_space(page):
    """Draw the second space, under the same head."""
    _, X_new, y, head, _, _ = toy()
    return regions(X_new, y, head)


def stitched_space(page):
    """Draw the second space, under the stitched head."""
    _, X_new, y, _, stitched, anchors = toy()
    return regions(X_new, y, stitched, anchors)


# --- spaces, metrics, pre ------------------------------------------------------


def comparisons(page):
    """One row and five anchors in two spaces, and its relative vector in both."""
    names = "12345"
    anchors = np.array([[0.0, 2.2], [2.6, 1.4], [2.2, -1.4], [-0.6, -2.0], [-2.4, 0.2]])
    row = np.array([[0.7, 0.5]])
    turn = make_related_spaces(n_features=2, random_state=3).matrix
    figure, axes = canvas(4.6, nrows=2, ncols=2, height_ratios=(1.6, 1))
    for (above, below), title, matrix in zip(
        axes.T, ("old encoder", "new encoder"), (np.eye(2), turn), strict=True
    ):
        ends, start = anchors @ matrix, (row @ matrix)[0]
        for end, name in zip(ends, names, strict=True):
            short = end - 0.42 * (end - start) / np.linalg.norm(end - start)
            above.plot(*zip(start, short, strict=True), color=GREY, lw=1)
            above.annotate(name, end, ha="center", va="center", fontsize=11)
        above.scatter(*ends.T, s=240, facecolor="none", edgecolor=ink())
        above.scatter(*start, s=90, marker="D", color=CLASSES[1], zorder=3)
        above.set(title=title, xlim=(-3.2, 3.2), ylim=(-3.2, 3.2))
        bare(above)
        values = METRICS["euclidean"].function(row @ matrix, ends)[0]
        below.bar(list(names), values, color=CLASSES[1], width=0.6)
        below.set(xlabel="anchor", yticks=[0, 1, 2, 3])
    axes[1, 0].set_ylabel("distance")
    return figure


def level_sets(page):
    """Places that are equally far from one anchor, under each of four metrics."""
    figure, axes = canvas(4.4, 4.2, nrows=2, ncols=2)
    ends = np.linspace(-3, 3, 120)
    places = np.stack(np.meshgrid(ends, ends), axis=-1).reshape(-1, 2)
    anchor = np.array([[1.2, 0.8]])
    for ax, name in zip(axes.flat, FOUR, strict=True):
        values = METRICS[name].function(places, anchor).reshape(120, 120)
        ax.contour(ends, ends, values, levels=7, colors=[BLUE], linestyles="solid")
        ax.scatter(*anchor[0], marker="*", s=120, color=RED, zorder=3)
        ax.scatter(0, 0, marker="+", s=60, color=ink())
        ax.set_title(name)
        bare(ax)
    return figure


def what_pre_does(page):
    """One cloud of anchors before the metric, after each ``pre``."""
    draws = np.random.default_rng(0).standard_normal((60, 2))
    X = draws * [2.2, 0.7] @ [[0.85, 0.53], [-0.53, 0.85]] + [3.6, 2.4]
    figure, axes = canvas(4.4, 4.2, nrows=2, ncols=2)
    for ax, pre in zip(
        axes.flat, (None, "center", "standardize", "whiten"), strict=True
    ):
        projector = RelativeProjector(pre=pre, anchors="all").fit(X)
        seen = X if pre is None else projector.pre_.transform(X)
        ax.axhline(0, color=GREY, lw=0.8)
        ax.axvline(0, color=GREY, lw=0.8)
        ax.scatter(*seen.T, s=9, color=BLUE)
        ax.set(title=f"pre={pre!r}" if pre is None else f'"{pre}"')
        bare(ax)
        ax.set(xlim=(-5, 8.5), ylim=(-5, 8.5))
    return figure


# --- the guide -----------------------------------------------------------------


def data_flow(page):
    """From samples to predictions; filled: what changes with the encoder."""
    places = {
        "encoder": (0, 2),
        "pre": (1, 2),
        "metric": (2, 2),
        "post": (3, 2),
        "anchors": (2, 1),
        "aggregation": (3, 1),
        "head": (3, 0),
    }
    arrows = [("encoder", "pre"), ("pre", "metric"), ("metric", "post")]
    arrows += [("anchors", "metric"), ("post", "aggregation"), ("aggregation", "head")]
    figure, ax = canvas(2.7)
    for start, end in arrows:
        line = {"arrowstyle": "-|>", "color": ink(), "shrinkA": 20, "shrinkB": 20}
        if places[start][1] == places[end][1]:
            line |= {"shrinkA": 38, "shrinkB": 38}
        ax.annotate("", places[end], places[start], arrowprops=line)
    for name, place in places.items():
        changes = name in ("encoder", "pre", "anchors")
        box = {"boxstyle": "round,pad=0.5", "edgecolor": ink()}
        box["facecolor"] = BLUE if changes else "none"
        colour = "white" if changes else ink()
        ax.text(*place, name, color=colour, ha="center", va="center", bbox=box)
    ax.text(-0.4, 0.5, "filled:\nchanges with\nthe encoder", va="center", color=BLUE)
    ax.set(xlim=(-0.45, 3.55), ylim=(-0.4, 2.4))
    ax.set_axis_off()
    return figure


def survivors(page):
    """How surely rows find their match after known transformations, by metric."""
    names = ("orthogonal", "translation", "permutation", "axis_scaling")
    figure, ax = canvas(2.6)
    for (i, metric), (j, name) in product(enumerate(FOUR), enumerate(names)):
        pair = make_related_spaces(transformation=name, random_state=0)
        projector = RelativeProjector(50, metric=metric, post="layer", random_state=0)
        old = projector.fit_transform(pair.X_a)
        rebased = projector.rebase(pair.X_b[projector.anchor_indices_])
        value = mean_reciprocal_rank(old, rebased.transform(pair.X_b))
        box = {"color": CIVIDIS(value), "lw": 2}
        ax.add_patch(Rectangle((j - 0.48, i - 0.46), 0.96, 0.92, **box))
        style = {"ha": "center", "va": "center", "size": 13}
        ax.text(
            j, i, f"{value:.2f}", color="black" if value > 0.5 else "white", **style
        )
    ax.set_xticks(range(4), [name.replace("_", " ") for name in names])
    ax.set_yticks(range(4), FOUR)
    ax.set(xlim=(-0.5, 3.5), ylim=(3.5, -0.5))
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    ax.spines[:].set_visible(False)
    return figure


def swapped_pipeline(page):
    """Draw the scores of the page before the swap and after it."""
    X, y = page["X_test"], page["y_test"]
    stitched, model, head = page["stitched"], page["model"], page["head"]
    values = {
        "plain head, own encoder": head.score(model[0].transform(X), y),
        "plain head, new encoder": head.score(page["new_encoder"].transform(X), y),
        "voting model, own encoder": model.score(X, y),
        "voting model, stitched": stitched.score(X, y),
    }
    return bars(values, [GREY, RED, GREY, BLUE])


def member_weights(page):
    """Draw the weight of each member after the swap of the page."""
    return bars(page["stitched"][-1].weights_, BLUE, label="weight in the pool")


def kept_metrics(page):
    """Draw the agreement of each metric at the swap of the page."""
    swapped = page["swapped"]
    return bars(swapped.agreement_, BLUE, label="agreement of the anchors")


def diagnosed(page):
    """Draw what the diagnosis of the page found."""
    figure = Figure(figsize=(4.8, 9.6), layout="constrained")
    axes = figure.subplots(2, height_ratios=(16, 10))
    display = DiagnosisDisplay.from_diagnosis(page["diagnosis"])
    with mpl.rc_context({"font.size": 16}):  # for phones; the labels are "xx-small"
        return display.plot(axes, n_choices=9).figure_


def forecasted(page):
    """Draw the forecast of the page."""
    figure, axes = canvas(6.9, 5.2, nrows=2, height_ratios=(4, 1))
    with mpl.rc_context({"font.size": 15}):  # for phones; the labels are "x-small"
        page["display"].plot(axes)
    return figure


def every_head(page):
    """Draw the matrices of the report of the page."""
    figure, axes = canvas(2.9, ncols=2)
    for ax, method in zip(axes, ("stitched", "translate_orthogonal"), strict=True):
        display = StitchingDisplay.from_report(page["report"], method)
        display.plot(ax, vmin=0.5, vmax=1)
        ax.set(title=method.replace("_", ", "))
    return figure


def few_and_many(page):
    """Draw translated and relative scores, for few paired rows and for many."""
    figure, ax = canvas(2.8)
    numbers = (10, 100)
    scores = np.transpose([page["few"], page["many"]])
    labels = ("translated", "relative")
    for shift, values, colour, label in zip(
        (-0.18, 0.18), scores, (GREY, BLUE), labels, strict=True
    ):
        places = np.arange(len(numbers)) + shift
        drawn = ax.bar(places, values, 0.34, color=colour, label=label)
        ax.bar_label(drawn, fmt="%.1f", padding=2)
    ax.set_xticks(range(len(numbers)), [f"{n} paired rows" for n in numbers])
    ax.set(ylim=(0, 1.1), yticks=[0, 0.5, 1], ylabel="share that is right")
    figure.legend(loc="outside right center")
    return figure


def searched(page):
    """Draw the two scores of each choice in the search of the page."""
    figure, ax = canvas(4.4, 5.2)
    page["display"].plot(ax, point_size=36)
    return figure


# --- from the records of the results -------------------------------------------


@functools.cache
def records():
    """Read the records of the results."""
    return tables.Records(ROOT / "docs" / "results")


def alternatives(data):
    """Write the accuracies of a data set, of the voting model and its rivals."""
    found = records()
    methods = tables.classified(found, data, record="voting")
    translation = tables.best_of(methods, TRANSLATIONS)
    mean = {name: values.mean(axis=0) for name, values in methods.items()}
    return (
        f"{mean['plain'][0]:.3f}",
        f"{mean[tables.VOTE][0]:.3f}",
        f"{mean[tables.VOTE][1]:.3f}",
        f"{mean[tables.LABELLED][1]:.3f}",
        f"{mean[translation][1]:.3f} ({translation})",
        f"{mean['few labels'][1]:.3f}",
    )


def ahead(page):
    """How far the voting model is ahead of what one might do instead, by data set."""
    found = records()
    names = [data for data in tables.TITLES if found.rows(f"voting_{data}")]
    figure, ax = canvas(0.45 * len(names) + 1.4)
    ax.axvline(0, color=ink(), lw=1)
    for row, data in enumerate(names):
        methods = tables.classified(found, data, record="voting")
        rivals = (tables.best_of(methods, TRANSLATIONS), "few labels")
        for shift, rival, colour in zip(
            (-0.13, 0.13), rivals, CLASSES[1:], strict=True
        ):
            mean, error = tables.ahead(methods, rival)
            style = {"fmt": "o", "color": colour, "capsize": 3}
            ax.errorbar(100 * mean, row + shift, xerr=100 * error, **style)
    for colour, label in zip(
        CLASSES[1:], ("the best translation", "the anchors' labels alone"), strict=True
    ):
        ax.errorbar([], [], [], fmt="o", color=colour, label=f"than {label}")
    ax.set_yticks(range(len(names)), [tables.TITLES[data] for data in names])
    ax.invert_yaxis()
    ax.set_xlabel("points of accuracy that stitching is ahead")
    figure.legend(loc="outside upper right")
    return figure


def by_number(page):
    """Draw accuracy against the number of anchors, of three methods."""
    found = records()
    datas = ("trec", "cora")
    figure, axes = canvas(3.3, ncols=len(datas), sharey=True)
    lines = {tables.VOTE: BLUE, "kernel": CLASSES[1], "few labels": GREY}
    labels = ("voting model", "translation", "anchors' labels")
    for ax, data in zip(axes, datas, strict=True):
        drawn = dict(tables.voted(found, data))
        for (method, colour), label in zip(lines.items(), labels, strict=True):
            numbers = [n for n, methods in drawn.items() if method in methods]
            runs = [drawn[n][method][:, 1] for n in numbers]
            mean, spread = (np.array([f(r) for r in runs]) for f in (np.mean, np.std))
            label = label if ax is axes[0] else None
            ax.plot(numbers, mean, marker="o", color=colour, label=label)
            ax.fill_between(
                numbers, mean - spread, mean + spread, color=colour, alpha=0.2
            )
        ax.set(xscale="log", title=tables.TITLES[data], xlabel="anchors")
        ax.set_xticks([10, 100, 1000], ["10", "100", "1000"])
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("stitched accuracy")
    figure.legend(loc="outside lower center", ncols=3, columnspacing=1)
    return figure


# --- how to --------------------------------------------------------------------


def four_bars(page, X, stitched):
    """Draw a plain head and the voting model, under both encoders of a page."""
    y, head = page["y_test"], page["head"]
    values = {
        "plain head, old encoder": head.score(page["old"].transform(X), y),
        "plain head, new encoder": head.score(page["new"].transform(X), y),
        "voting model, old encoder": page["model"].score(X, y),
        "voting model, stitched": page[stitched].score(X, y),
    }
    return bars(values, [GREY, RED, GREY, BLUE])


def ten_lines(page):
    """Draw the four scores of the first page."""
    return four_bars(page, page["X_test"], "stitched")


def swapped_text(page):
    """Draw the four scores of the page."""
    return four_bars(page, page["X_test"], "swapped")


def swapped_images(page):
    """Draw the four scores of the page."""
    return four_bars(page, page["images_test"], "swapped")


def many_heads(page):
    """Draw one head under each encoder of the page."""
    return bars(page["scores"], [GREY, BLUE, BLUE, BLUE])


def drawn_digits(page):
    """Draw test images of the page, and what decoders make of them."""
    rows = {
        "image": page["test"],
        "own decoder": page["own"],
        "stitched": page["stitched"],
        "absolute, swapped": page["swapped"],
    }
    figure, axes = canvas(2.3, nrows=4, ncols=10)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(line, images[:10], strict=True):
            ax.imshow(image.reshape(8, 8), cmap="gray", vmin=0, vmax=1)
            bare(ax)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def reading_order(file):
    """Return the place of an example among those that the gallery's header lists."""
    header = (ROOT / "examples" / "GALLERY_HEADER.rst").read_text(encoding="utf-8")
    return header.find(Path(file).stem)
