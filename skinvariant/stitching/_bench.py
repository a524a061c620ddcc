"""The measuring of `cross_stitch`: every head under every encoder."""

import warnings
from dataclasses import dataclass
from itertools import product
from threading import Lock

import numpy as np
from sklearn import config_context
from sklearn.base import clone
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.parallel import Parallel, delayed

from skinvariant._models import seeded_clone
from skinvariant._progress import progress_bar
from skinvariant._threads import one_thread
from skinvariant.anchors import choose_anchors
from skinvariant.stitching._methods import METHODS
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


def _score(bench, fitted, X):
    """Score a fitted estimator on all test rows and on each resample of them."""
    predictions = _StoredPredictions(fitted, X, bench.classes)
    scores = [bench.scorer(predictions, bench.rows[0], bench.y_test)]
    if bench.counts_hits:  # the scorer takes fifty times as long, for each resample
        hits = predictions.predict(bench.rows[0]) == bench.y_test
        if np.shape(hits) == bench.y_test.shape and hits.mean() == scores[0]:
            return np.array(scores + [hits[rows].mean() for rows in bench.rows[1:]])
    # a resample would only repeat the warnings of all rows; filters are those of all
    # threads
    with (
        _FILTERS,
        warnings.catch_warnings(),
        config_context(skip_parameter_validation=True),
    ):
        warnings.simplefilter("ignore")
        scores += [
            bench.scorer(predictions, rows, bench.y_test[rows])
            for rows in bench.rows[1:]
        ]
    return np.array(scores, dtype=float)


def _score_absolute(bench, a):
    """Train a head on absolute rows of space `a`; return it and its scores.

    These are a dict from method and encoder to an array.
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


def measure(bench, seeds, *, n_jobs, verbose):
    """Score every method, in parallel.

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
    ndarray of shape (n_methods, n_counts, n_seeds, n_spaces, n_spaces, n_rows)
        Scores by method, number of anchors, seed, head, encoder and rows: all test
        rows, then each resample.  NaN where there is no score.
    """
    n_spaces, n_counts = len(bench.train), len(bench.counts)
    shape = (n_counts, len(seeds), n_spaces, n_spaces, len(bench.rows))
    scores = np.full((len(bench.methods), *shape), np.nan)
    every = slice(None)

    def enter(found, draw, a):
        """Enter the scores of a draw and head wherever they belong."""
        for (method, b), values in found.items():
            for name, by_draw in zip(bench.methods, scores, strict=True):
                if METHODS[name].same_space == method:
                    by_draw[(*draw, a, a)] = values
                elif name == method:
                    pair = {
                        "none": (every, every),
                        "head": (a, every),
                        "encoder": (every, b),
                        "both": (a, b),
                    }[METHODS[name].belongs_to]
                    by_draw[(*draw, *pair)] = values

    if "majority" in bench.methods:
        dummy = DummyRegressor() if bench.classes is None else DummyClassifier()
        dummy.fit(np.zeros((len(bench.y_train), 1)), bench.y_train)
        floor = _score(bench, dummy, np.zeros((len(bench.y_test), 1)))
        enter({("majority", None): floor}, (every, every), None)
    draws = list(product(range(n_counts), range(len(seeds)), range(n_spaces)))
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
                enter(found, (every, every), a)
                advance(1)
        units = (
            delayed(_score_relative)(bench, a, bench.counts[k], seeds[s], heads[a])
            for k, s, a in draws
        )
        for (k, s, a), found in zip(draws, parallel(units), strict=True):
            enter(found, (k, s), a)
            advance(1)
    return scores
