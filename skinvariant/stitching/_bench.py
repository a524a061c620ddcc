"""The measuring of `cross_stitch`: every head under every encoder."""

import warnings
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from threading import Lock

import numpy as np
from sklearn import config_context
from sklearn.base import clone
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.utils import column_or_1d, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.parallel import Parallel, delayed

from skinvariant._models import seeded_clone
from skinvariant._progress import progress_bar
from skinvariant._threads import one_thread
from skinvariant.anchors import choose_anchors
from skinvariant.stitching._methods import COMPARED, METHODS
from skinvariant.stitching._stitch import stitch
from skinvariant.translation import SpaceTranslator

_FILTERS = Lock()


@dataclass(frozen=True)
class Bench:
    """What every part of the measuring needs; all of it is checked."""

    train: list  # the training rows of each space
    test: list
    y_train: np.ndarray
    y_test: np.ndarray
    classes: np.ndarray | None  # None: of a regressor
    model: object
    paths: list  # of the projecting steps' parameters
    strategy: object
    head: object
    methods: tuple
    counts: tuple
    scorer: object
    counts_hits: bool  # whether the scores are accuracies
    rows: list  # all test rows first, then the resamples
    times: np.ndarray  # (n_rows, n_test): how often each of `rows` has each test row
    in_class: dict  # by measure: a mask of test rows, or None where they are too few
    in_group: dict

    @property
    def measures(self):
        """The names of all that is measured, in order."""
        compared = () if self.classes is None else COMPARED
        return ("score", *compared, *self.in_class, *self.in_group)


def _stored(name):
    """Return a method that looks predictions up, and makes them the first time."""

    def method(self, rows):
        if name not in self.stored:
            self.stored[name] = self.compute(name)
        return self.stored[name][rows]

    method.__name__ = name  # scorers look at it
    return available_if(lambda self: self.has(name))(method)


class _StoredPredictions:
    """A fitted estimator's predictions for the test rows, looked up by row number.

    With these, scorers cost little on many resamples.  Classes that the estimator was
    not trained on have probability 0.
    """

    predict = _stored("predict")
    predict_proba = _stored("predict_proba")
    decision_function = _stored("decision_function")

    def __init__(self, fitted, X, classes):
        self.fitted, self.X, self.stored = fitted, X, {}
        self.trained_on = None
        if classes is not None:
            self.classes_ = classes
            self.trained_on = np.isin(classes, fitted.classes_)

    def __sklearn_tags__(self):
        return get_tags(self.fitted)

    def has(self, name):
        """Whether the estimator makes such predictions, for all classes."""
        complete = self.trained_on is None or self.trained_on.all()
        return hasattr(self.fitted, name) and (complete or name != "decision_function")

    def compute(self, name):
        """Return the predictions for all rows."""
        predictions = np.asarray(getattr(self.fitted, name)(self.X))
        if name != "predict_proba" or self.trained_on is None or self.trained_on.all():
            return predictions
        widened = np.zeros((len(predictions), len(self.trained_on)))
        widened[:, self.trained_on] = predictions
        return widened


def _shares(bench, marked, part):
    """Return the share of a part's rows that are marked, in all rows and resamples."""
    times = bench.times[:, part]
    with np.errstate(invalid="ignore"):  # 0 / 0 where a resample has none of the part
        return marked[..., part] @ times.T / times.sum(axis=1)


def _score(bench, fitted, X):
    """Score a fitted estimator on all test rows and on each resample of them.

    Returns scores of shape (1 + n_groups, n_rows), of all test rows and of each group,
    and a classifier's predictions: places in the classes, one more for any other label.
    """
    predictions = _StoredPredictions(fitted, X, bench.classes)
    places, everywhere = None, np.ones(len(bench.y_test), dtype=bool)
    scores = np.full((1 + len(bench.in_group), len(bench.rows)), np.nan)
    parts = [everywhere, *bench.in_group.values()]
    if bench.classes is not None:
        labels = column_or_1d(predictions.predict(bench.rows[0]))
        places = np.searchsorted(bench.classes, labels)
        places = places.clip(max=len(bench.classes) - 1)
        places[bench.classes[places] != labels] = len(bench.classes)
        if bench.counts_hits:  # the scorer takes fifty times as long, for each resample
            for values, part in zip(scores, parts, strict=True):
                if part is not None:
                    values[:] = _shares(bench, labels == bench.y_test, part)
            return scores, places
    scores[0, 0] = bench.scorer(predictions, bench.rows[0], bench.y_test)
    # a resample would only repeat the warnings of all rows; filters are those of all
    # threads
    with (
        _FILTERS,
        warnings.catch_warnings(),
        config_context(skip_parameter_validation=True),
    ):
        warnings.simplefilter("ignore")
        for r, rows in enumerate(bench.rows[1:], 1):
            scores[0, r] = bench.scorer(predictions, rows, bench.y_test[rows])
        for g, part in enumerate(parts[1:], 1):
            for r, rows in enumerate(bench.rows if part is not None else ()):
                chosen = rows[part[rows]]
                with suppress(ValueError):  # undefined there, though not for all rows
                    scores[g, r] = bench.scorer(
                        predictions, chosen, bench.y_test[chosen]
                    )
    return scores, places


def _score_absolute(bench, a):
    """Train a head on absolute rows of space `a`; return it and what `_score` returns.

    That is a dict by method and encoder.
    """
    with one_thread():  # whatever n_jobs: the same order of sums
        head = clone(bench.head).fit(bench.train[a], bench.y_train)
        scores = {("retrained", a): _score(bench, head, bench.test[a])}
        if "absolute" in bench.methods:
            for b, X in enumerate(bench.test):
                if b != a and X.shape[1] == bench.test[a].shape[1]:
                    scores["absolute", b] = _score(bench, head, X)
    return head, scores


def _score_relative(bench, a, n_anchors, seed, head):
    """Score everything that takes one draw of anchors and a head of space `a`."""
    nested = not callable(bench.strategy) and not (
        isinstance(bench.strategy, str) and bench.strategy == "kmeans"
    )
    n_drawn = bench.counts[-1] if nested else n_anchors
    X, y = bench.train[a], bench.y_train
    with one_thread():
        indices = choose_anchors(bench.strategy, X, y, n_drawn, seed)[:n_anchors]
        model = seeded_clone(bench.model, seed)
        model.set_params(**{f"{path}anchors": indices for path in bench.paths})
        model.fit(X, y)
        scores = {("own", a): _score(bench, model, bench.test[a])}
        for b, X_test in enumerate(bench.test):
            if b == a:
                continue
            anchors = bench.train[b][indices]
            scores["stitched", b] = _score(bench, stitch(model, anchors), X_test)
            for name in bench.methods:
                if kind := METHODS[name].translator:
                    translator = SpaceTranslator(kind).set_output(transform="default")
                    translator.fit(anchors, X[indices])
                    scores[name, b] = _score(bench, head, translator.transform(X_test))
        if "few_shot" in bench.methods:
            # of one class alone no head can be trained
            one_class = bench.classes is not None and len(np.unique(y[indices])) == 1
            few_shot = clone(DummyClassifier() if one_class else bench.head)
            few_shot.fit(X[indices], y[indices])
            scores["few_shot", a] = _score(bench, few_shot, bench.test[a])
    return scores


def _measure_all(bench, scores, places):
    """Return every measure of one draw, (n_measures, n_methods, n, n, n_rows).

    `scores` are (n_methods, n, n, 1 + n_groups, n_rows), and `places`, of classifiers,
    (n_methods, n, n, n_test), below 0 where there is no prediction.
    """
    groups = np.moveaxis(scores[..., 1:, :], -2, 0)
    if bench.classes is None:
        return np.concatenate([scores[None, ..., 0, :], groups])
    right = places == np.searchsorted(bench.classes, bench.y_test)
    own = bench.methods.index("own")
    everywhere = np.ones(len(bench.y_test), dtype=bool)
    shares = [
        np.full(scores.shape[:3] + scores.shape[-1:], np.nan)
        if part is None
        else _shares(bench, marked, part)
        for marked, part in [
            (right[own] & ~right, everywhere),
            (places[own] != places, everywhere),
            *((right, part) for part in bench.in_class.values()),
        ]
    ]
    shares = np.where(places[..., :1] < 0, np.nan, shares)
    return np.concatenate([scores[None, ..., 0, :], shares, groups])


def measure(bench, seeds, *, n_jobs, verbose):
    """Measure every method, in parallel.

    Parameters
    ----------
    bench : Bench
        What to measure, and on what.
    seeds : list of int
        One for each draw of anchors.
    n_jobs : int or None
        How many processes.
    verbose : bool
        Whether to show a progress bar.

    Returns
    -------
    scores : ndarray of shape (n_measures, n_methods, n_counts, n_seeds, n, n)
        By measure, method, number of anchors, seed, head and encoder.  NaN where there
        is no score.
    resampled : ndarray of shape (n_measures, n_methods, n_counts, n_resamples, n, n)
        Means over the seeds, on resampled rows.
    """
    n_spaces, n_rows, n_methods = len(bench.train), len(bench.rows), len(bench.methods)
    cells, every = (n_methods, n_spaces, n_spaces), slice(None)
    of_draw = np.full((*cells, 1 + len(bench.in_group), n_rows), np.nan)
    places = np.full((*cells, len(bench.y_test)), -1)
    shape = (len(bench.measures), n_methods, len(bench.counts))
    scores = np.full((*shape, len(seeds), n_spaces, n_spaces), np.nan)
    resampled = np.zeros((*shape, n_rows - 1, n_spaces, n_spaces))

    def enter(found, a):
        """Enter the scores and predictions of a head wherever they belong."""
        for (method, b), (values, predicted) in found.items():
            for m, name in enumerate(bench.methods):
                pair = {
                    "none": (every, every),
                    "head": (a, every),
                    "encoder": (every, b),
                    "both": (a, b),
                }[METHODS[name].belongs_to]
                if METHODS[name].same_space == method:
                    pair = a, a
                elif name != method:
                    continue
                of_draw[m][pair] = values
                if predicted is not None:
                    places[m][pair] = predicted

    if "majority" in bench.methods:
        dummy = DummyRegressor() if bench.classes is None else DummyClassifier()
        dummy.fit(np.zeros((len(bench.y_train), 1)), bench.y_train)
        floor = _score(bench, dummy, np.zeros((len(bench.y_test), 1)))
        enter({("majority", None): floor}, None)
    draws = list(product(range(len(bench.counts)), range(len(seeds)), range(n_spaces)))
    absolute = any(
        "retrained" in (name, METHODS[name].same_space) for name in bench.methods
    )
    n_heads = len(draws) + n_spaces * absolute
    bar = progress_bar(n_heads, unit="heads", verbose=verbose)
    # one Parallel: joblib frees what both rounds of workers share once, not twice
    with bar as advance, Parallel(n_jobs=n_jobs, return_as="generator") as parallel:
        heads = [None] * n_spaces
        if absolute:
            units = (delayed(_score_absolute)(bench, a) for a in range(n_spaces))
            for a, (heads[a], found) in enumerate(parallel(units)):
                enter(found, a)
                advance(1)
        units = (
            delayed(_score_relative)(bench, a, bench.counts[k], seeds[s], heads[a])
            for k, s, a in draws
        )
        for (k, s, a), found in zip(draws, parallel(units), strict=True):
            enter(found, a)
            advance(1)
            if a == n_spaces - 1:  # every head of the draw is there
                measured = _measure_all(bench, of_draw, places)
                scores[:, :, k, s] = measured[..., 0]
                resampled[:, :, k] += np.moveaxis(measured[..., 1:], -1, 2)
    return scores, resampled / len(seeds)
