"""What the voting model costs: stitching, prediction and fit, beside their parts.

``python examples/benchmarks/voting.py`` fits 20,000 x 768 float32 rows in ten classes
and swaps them to 1,024 columns, on one thread.  Seconds are those of the processor, so
that other programs hardly count.  What is compared takes turns; seconds are medians,
and ratios medians of the ratios within a turn.  ``--quick`` takes small sizes, to see
that it runs, ``--only`` some of the parts, and ``--turns`` another number of turns.
"""

import argparse
from dataclasses import dataclass, replace
from functools import partial
from time import process_time

import numba
import numpy as np
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from skinvariant import (
    InvariantAggregator,
    InvariantVotingClassifier,
    select_anchors,
    stitch,
)
from skinvariant.translation import SpaceTranslator

HEAD = LogisticRegression(C=0.1, max_iter=1000)  # that of the voting model


@dataclass(frozen=True)
class Size:
    """How large the spaces are, and how often each part is repeated."""

    n_rows: int = 20_000
    widths: tuple = (768, 1024)
    n_anchors: tuple = (300, 1000)
    n_fewer: int = 5_000  # to predict, and to fit where no fit is measured
    n_turns: int = 7
    n_turns_fit: int = 3


QUICK = Size(
    n_rows=300,
    widths=(24, 32),
    n_anchors=(30, 60),
    n_fewer=200,
    n_turns=2,
    n_turns_fit=1,
)


def make_spaces(size, n_classes=10, n_latent=64):
    """Make two spaces of the same rows, by maps that are not linear, and labels."""
    rng = np.random.default_rng(0)
    n_latent = min(n_latent, *size.widths)  # or the spaces have little in common
    y = rng.integers(n_classes, size=size.n_rows)
    latent = rng.standard_normal((n_classes, n_latent))[y]
    latent += 2 * rng.standard_normal((size.n_rows, n_latent))

    def encode(width):
        weights = rng.standard_normal((n_latent, width)) / np.sqrt(n_latent)
        rows = np.tanh(latent @ weights) + 0.1 * rng.standard_normal((len(y), width))
        return rows.astype(np.float32)

    return *map(encode, size.widths), y


def take_turns(functions, n_turns, *, warm=True):
    """Return the seconds of each function in each turn."""
    seconds = {name: [] for name in functions}
    for function in functions.values() if warm else ():
        function()
    for _ in range(n_turns):
        for name, function in functions.items():
            start = process_time()
            function()
            seconds[name].append(process_time() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def show(what, seconds, limit=None, beside=(), unit="s"):
    """Print the median of some seconds, and ratios to those of others."""
    factor = {"s": 1, "ms": 1000}[unit]
    time = f"{np.median(seconds) * factor:8.2f} {unit:<2}"
    wanted = "" if limit is None else f"{limit:.1f} {unit}"
    rows = [
        (name, f"{np.median(seconds / others):6.2f} x", "" if most is None else most)
        for name, others, most in beside
    ] or [("", "", "")]
    for name, ratio, most in rows:
        line = f"{what:<28}{time:>11}{wanted:>9}  {name:<34}{ratio:>8}{most:>6}"
        print(line.rstrip(), flush=True)
        what = time = wanted = ""


def show_stitching(X, X_new, y, size):
    """Measure rebase and stitch beside the translations that are fitted in them."""
    for n_anchors, limit in zip(size.n_anchors, (1.2, 5.0), strict=True):
        few = slice(size.n_fewer)
        model = InvariantVotingClassifier(n_anchors=n_anchors, random_state=0)
        model.fit(X[few], y[few])
        old, new = (select_anchors(model, each[few]) for each in (X, X_new))
        values = model.named_estimators_["absolute"].decision_function(old)
        kernel, orthogonal = map(SpaceTranslator, ("kernel", "orthogonal"))
        functions = {
            "rebase": partial(model.rebase, new),
            "stitch": partial(stitch, model, new),
            "kernel": partial(kernel.fit, new, values),
            "orthogonal": partial(orthogonal.fit, new, old),
        }
        seconds = take_turns(functions, size.n_turns)
        slowest = max(("kernel", "orthogonal"), key=lambda name: seconds[name].mean())
        beside = [(f"its {slowest} translation", seconds[slowest], 3)]
        for name in ("rebase", "stitch"):
            show(f"{name}, {n_anchors} anchors", seconds[name], limit, beside)


def show_translations(X, X_new, size):
    """Measure translations of the whole space, fitted on many anchors."""
    n_anchors = size.n_anchors[-1]
    old, new = X[:n_anchors], X_new[:n_anchors]
    for method, limit in {"kernel": 1.5, "ridge": 0.5}.items():
        fit = {method: partial(SpaceTranslator(method).fit, new, old)}
        seconds = take_turns(fit, size.n_turns)[method]
        show(f"{method}, {n_anchors} anchors", seconds, limit)


def stitched_models(X, X_new, y, size):
    """Fit the voting model and its rivals, and swap each."""
    few = slice(size.n_fewer)
    vote = InvariantVotingClassifier(n_anchors=size.n_anchors[0], random_state=0)
    vote.fit(X[few], y[few])
    same = {
        "metrics": vote.metrics,
        "metric_params": vote.aggregator_.metric_params,
        "random_state": 0,
    }
    products = {
        "product of the same metrics": InvariantAggregator(size.n_anchors[0], **same),
        "product of four metrics": InvariantAggregator(
            size.n_anchors[0], random_state=0
        ),
    }
    models = {"voting": vote}
    for name, product in products.items():
        models[name] = make_pipeline(product, clone(HEAD)).fit(X[few], y[few])
    old, new = (select_anchors(vote, each[few]) for each in (X, X_new))
    models = {name: stitch(model, new) for name, model in models.items()}
    translator = SpaceTranslator("ridge").fit(new, old)
    head = vote.named_estimators_["absolute"]
    return models | {"ridge translation": make_pipeline(translator, head)}


def show_predictions(X, X_new, y, size):
    """Measure predictions of stitched models, of one row and of many."""
    models = stitched_models(X, X_new, y, size)
    n_members = sum(weight > 0 for weight in models["voting"].weights_.values())
    print(f"members with a weight after the swap: {n_members}")
    for n_rows, unit, n_turns in [(1, "ms", 10), (size.n_fewer, "s", 1)]:
        rows = X_new[-n_rows:]
        predict = {name: partial(model.predict, rows) for name, model in models.items()}
        seconds = take_turns(predict, size.n_turns * n_turns)
        own = seconds.pop("voting")
        limits = (4, 4, None)
        beside = [
            (*pair, most) for pair, most in zip(seconds.items(), limits, strict=True)
        ]
        what = f"predict, {n_rows} row" + "s" * (n_rows > 1)
        show(what, own, beside=beside, unit=unit)


def show_fit(X, y, size):
    """Measure a fit beside those of its heads, on what they are trained on."""
    vote = InvariantVotingClassifier(n_anchors=size.n_anchors[0], random_state=0)
    # compiles, and names the metrics' columns
    fitted = clone(vote).fit(X[: size.n_fewer], y[: size.n_fewer])
    aggregator = fitted.aggregator_

    def project():
        relative = clone(aggregator).fit(X).transform(X)
        spaces = np.split(relative, len(vote.metrics), axis=1)
        return [*spaces, StandardScaler().fit_transform(X)]

    spaces = [np.ascontiguousarray(space) for space in project()]
    seconds = take_turns(
        {
            "fit": lambda: clone(vote).fit(X, y),
            "heads": lambda: [clone(HEAD).fit(space, y) for space in spaces],
            "projection": project,
        },
        size.n_turns_fit,
        warm=False,
    )
    heads, projection = seconds["heads"], seconds["projection"]
    beside = [
        ("its heads alone", heads, 1.15),
        ("its heads and the projection", heads + projection, None),
    ]
    show(f"fit, {size.n_rows} rows", seconds["fit"], beside=beside)
    show("projection alone", projection)


PARTS = ("stitching", "predictions", "fit", "translations")


def main(size, parts):
    """Print the table."""
    X, X_new, y = make_spaces(size)
    print(
        f"{size.n_rows} x {X.shape[1]} float32 rows, swapped to {X_new.shape[1]} "
        f"columns; one thread; medians of {size.n_turns} turns, of the fit "
        f"{size.n_turns_fit}"
    )
    print(f"{'':<28}{'time':>10}{'wanted':>10}  {'beside':<34}{'ratio':>8}{'most':>6}")
    if "stitching" in parts:
        show_stitching(X, X_new, y, size)
    if "predictions" in parts:
        show_predictions(X, X_new, y, size)
    if "fit" in parts:
        show_fit(X, y, size)
    if "translations" in parts:
        show_translations(X, X_new, size)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--turns", type=int)
    args = parser.parse_args()
    size = QUICK if args.quick else Size()
    if args.turns is not None:
        size = replace(size, n_turns=args.turns, n_turns_fit=args.turns)
    numba.set_num_threads(1)
    with threadpool_limits(1):
        main(size, args.only)
