"""Stitching: another encoder under a fitted model, whose head stays as it is."""

import dataclasses
import json
import time
import warnings
from collections.abc import Mapping
from inspect import signature
from itertools import product
from numbers import Integral, Real
from pathlib import Path

import numpy as np
from scipy.sparse import issparse
from scipy.stats import norm
from sklearn import config_context
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import check_scoring, get_scorer
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array, check_random_state, get_tags, resample
from sklearn.utils.extmath import row_norms
from sklearn.utils.metaestimators import available_if
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted

from skinvariant._dask import in_memory
from skinvariant._models import path_to_step, projecting_steps, replace_step
from skinvariant._threads import one_thread
from skinvariant._validation import as_float, check_choice, check_number, to_numpy
from skinvariant.anchors import choose_anchors
from skinvariant.translation import SpaceTranslator
from skinvariant.voting import (
    InvariantVotingClassifier,
    InvariantVotingRegressor,
    pool_translations,
)

__all__ = ["BASELINES", "StitchingReport", "cross_stitch", "mantel_test", "stitch"]

# Mantel's test: of how many anchors, and at which level
_FEWEST_TO_COMPARE, _MOST_TO_COMPARE, _SIGNIFICANT = 20, 200, 0.01
# how far an encoder's rows of the same samples may be apart: in roundings of their
# norm, and as a part of the distance between two anchors
_ROUNDINGS, _ALIKE = 1000, 0.01


def stitch(model, anchors, *, encoder=None, y=None, old_anchors=None):
    """Put another encoder's space under a fitted model, whose head stays as it is.

    Parameters
    ----------
    model : fitted estimator
        A `skinvariant.InvariantVotingClassifier`, a `RelativeProjector`, or any other
        estimator with a `rebase` method; or a model with one inside: a Pipeline, a
        FrozenEstimator, a fitted search, a tuned threshold, a transformed target, a
        CalibratedClassifierCV with one set of anchors, or a VotingClassifier or
        VotingRegressor of such models, all with the same anchors; at any depth.  With
        `old_anchors` any fitted classifier or regressor.
    anchors : array-like of shape (n_anchors, n_features_new)
        The model's anchors in the new space, in the same order: of corresponding rows
        those at ``anchor_indices_``.  With `encoder` these samples raw, as
        `skinvariant.select_anchors` takes them from the rows of `fit`.
    encoder : fitted transformer, default=None
        The new encoder.  It takes the place of the old one, that is of every step
        before the one that holds the anchors.  A function becomes a transformer by
        `sklearn.preprocessing.FunctionTransformer`.
    y : array-like of shape (n_anchors,), default=None
        Labels or targets of the anchors, for a `rebase` that takes them.
    old_anchors : array-like of shape (n_anchors, n_features), default=None
        For a model that holds no anchors: the same samples as `anchors`, in the space
        that the model was fitted on.  The model is then used behind translations that
        are fitted on the two sets.

    Returns
    -------
    fitted estimator
        A new model of the same class and steps; `model` is not changed.  With
        `encoder` it takes raw samples: where `model` does not start with an encoder
        itself, it is a Pipeline of the encoder and the stitched model, whose
        attributes are those of its last step, as ``stitched[-1].weights_``.

    Raises
    ------
    TypeError
        If nothing in `model` can be rebased, `encoder` has no `transform`, `anchors`
        or `old_anchors` are raw samples where rows are needed, or `y` is given for a
        model whose `rebase` takes none.
    ValueError
        If the number of anchors differs, the old encoder inside `model` finds them to
        be other samples, `encoder` cannot take them, the members of a vote differ in
        their anchors, or a step before the projecting one would be left behind, since
        no `encoder` takes its place.
    sklearn.exceptions.NotFittedError
        If `model` or `encoder` is not fitted.

    Warns
    -----
    UserWarning
        If, of 20 or more anchors, the similarities in the new space correlate with
        those in the old space no better than in a random order: `mantel_test` gives
        p > 0.01 for the first 200.

    See Also
    --------
    skinvariant.select_anchors : The anchors among the rows of `fit`.

    Notes
    -----
    Where `model` starts with an encoder and `encoder` replaces it, the raw anchors are
    checked: the old encoder must give ``anchors_`` again.  A row may be off by rounding
    and by 1% of the distance between two anchors, since encoders round differently in
    batches of another size.  There is no check where the old encoder is random, cannot
    be called any more, or does not take what the new one takes.

    Examples
    --------
    A head for digits in pixels, used on the pixels in another order:

    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skinvariant import InvariantAggregator, select_anchors, stitch
    >>> X, y = load_digits(return_X_y=True)
    >>> aggregator = InvariantAggregator(n_anchors=100, random_state=0)
    >>> model = make_pipeline(aggregator, LogisticRegression(max_iter=500))
    >>> model = model.fit(X[:900], y[:900])
    >>> X_new = X[:, ::-1]
    >>> stitched = stitch(model, select_anchors(model, X_new[:900]))
    >>> round(model.score(X_new[900:], y[900:]), 2)  # not stitched
    0.44
    >>> model.score(X[900:], y[900:]) == stitched.score(X_new[900:], y[900:])
    True

    With an encoder inside the model, the anchors are raw samples:

    >>> from sklearn.decomposition import PCA, TruncatedSVD
    >>> model = make_pipeline(PCA(20), aggregator, LogisticRegression(max_iter=500))
    >>> model = model.fit(X[:900], y[:900])
    >>> new = TruncatedSVD(30, random_state=0).fit(X[:900])
    >>> stitched = stitch(model, select_anchors(model, X[:900]), encoder=new)
    >>> [name for name, _ in stitched.steps]
    ['encoder', 'invariantaggregator', 'logisticregression']
    >>> round(model.score(X[900:], y[900:]), 2)
    0.94
    >>> round(stitched.score(X[900:], y[900:]), 2)
    0.93
    >>> stitch(model, X[:100], encoder=new)
    Traceback (most recent call last):
        ...
    ValueError: anchors must be the model's own samples, in their order, as \
select_anchors(model, X) returns them: rows 0, 1, 2,...
    """
    check_is_fitted(model)
    if isinstance(anchors, str):
        raise TypeError(f"anchors must be several samples; got the text {anchors!r}")
    if encoder is not None and not hasattr(encoder, "transform"):
        raise TypeError(
            "encoder must be a fitted transformer (wrap a function in sklearn's "
            f"FunctionTransformer); got {type(encoder).__name__}"
        )
    anchors, old = in_memory(anchors), in_memory(old_anchors)
    steps = projecting_steps(model)
    if old is not None:
        _check_head(model, steps)
    elif not steps:
        raise TypeError(
            "nothing in the model can be rebased: it must be, or have inside, an "
            "InvariantVotingClassifier, a RelativeProjector or another estimator with "
            "a rebase method (in a Pipeline before one-vs-rest, bagging and the like, "
            "not inside).  For any other head pass the anchors in its own space as "
            f"old_anchors=; got {model!r}"
        )
    else:
        old = getattr(steps[0], "anchors_", None)
        left_out = _check_walk(model, steps, encoder, y)
    rows = anchors if encoder is None else _encode(encoder, anchors)
    targets = {} if y is None else {"y": in_memory(y)}
    if old_anchors is not None:
        stitched = _stitch_head(model, rows, old, targets)
        stitched = stitched if encoder is None else make_pipeline(encoder, stitched)
    else:
        if encoder is not None:
            _check_samples(left_out[0], steps[0], anchors)

        def rebase(step):
            try:
                return step.rebase(rows, **targets)
            except (TypeError, ValueError) as error:
                _check_rows("anchors", rows, error)
                raise

        stitched, _ = replace_step(model, rebase, encoder=encoder)
    _warn_of_other_samples(old, rows)
    return stitched


def _stitch_head(model, anchors, old_anchors, targets):
    """Stitch a head that holds no anchors, behind translations."""
    _check_rows("anchors", anchors)
    _check_rows("old_anchors", old_anchors)
    n_rows = [_matrix(X).shape[0] for X in (anchors, old_anchors)]
    if n_rows[0] != n_rows[1]:
        raise ValueError(
            "anchors and old_anchors must be the same samples in the same order; got "
            f"{n_rows[0]} and {n_rows[1]} rows"
        )
    return pool_translations(model, anchors, old_anchors, **targets)


def _check_head(model, steps):
    """Refuse `old_anchors` where the model has its own, or makes no predictions."""
    if steps:
        raise ValueError(
            "old_anchors must be None for a model with anchors of its own: pass these "
            "in the new space, stitch(model, anchors); the model has a "
            f"{type(steps[0]).__name__}"
        )
    if not (is_classifier(model) or is_regressor(model)):
        raise TypeError(
            "with old_anchors the model must be a fitted classifier or regressor; got "
            f"{model!r}"
        )


def _check_walk(model, steps, encoder, y):
    """Refuse what would not arrive at the projecting steps; return those before."""
    _, left_out = replace_step(model, lambda step: step)
    names = [name for before in left_out for name, _ in before]
    if encoder is None and names:
        raise ValueError(
            f"the steps {names} before the projecting one belong to the old encoder "
            "and would be left behind: give the new one as encoder=, and raw anchors"
        )
    if y is None:
        return left_out
    for step in steps:
        if "y" not in signature(step.rebase).parameters:
            raise TypeError(
                f"y must be None, since {type(step).__name__}.rebase takes no labels "
                "or targets of the anchors; InvariantVotingClassifier and "
                "InvariantVotingRegressor take them"
            )
    changed = any(hasattr(part, "regressor_") for part in path_to_step(model))
    if is_classifier(model):
        changed |= not np.array_equal(model.classes_, steps[0].classes_)
    if changed:
        raise TypeError(
            f"y must be None, since the {type(steps[0]).__name__} inside the model was "
            "fitted on encoded labels or transformed targets; got a "
            f"{type(model).__name__}"
        )
    return left_out


def _encode(encoder, anchors):
    """Return raw anchors encoded; tell of rows that have been encoded before."""
    try:
        return encoder.transform(anchors)
    except NotFittedError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        if not _are_numbers(anchors):
            raise
        raise ValueError(
            "with encoder= the anchors must be raw samples, as the encoder takes them; "
            f"{type(encoder).__name__}.transform fails on rows of shape "
            f"{_matrix(anchors).shape}.  If they are encoded already, leave out "
            "encoder=, and of a model with an encoder inside stitch the steps after it"
        ) from error


def _check_samples(before, step, anchors):
    """Refuse raw anchors of which the old encoder does not make the model's own."""
    own = getattr(step, "anchors_", None)
    if own is None or not before:
        return

    def encode():
        X = anchors
        for _, transformer in before:
            X = transformer.transform(X)
        return _matrix(X).astype(np.float64)

    try:
        found = encode()
    except Exception:  # whatever keeps an encoder of the past from working
        return
    own = _matrix(own)
    if found.shape != own.shape:
        return  # rebase tells of another number of anchors
    own, rounding = own.astype(np.float64), np.finfo(own.dtype).eps
    one_before = np.roll(np.arange(own.shape[0]), 1)
    tolerance = _ROUNDINGS * rounding * row_norms(own)
    tolerance += _ALIKE * np.median(row_norms(own - own[one_before]))
    differ = ~(row_norms(found - own) <= tolerance)
    if not differ.any() or (row_norms(encode() - found) > tolerance).any():
        return  # the same, or by an encoder that is random
    rows = np.flatnonzero(differ).tolist()
    named = ", ".join(map(str, rows[:10])) + ", ..." * (len(rows) > 10)
    raise ValueError(
        "anchors must be the model's own samples, in their order, as "
        f"select_anchors(model, X) returns them: rows {named} differ by the encoder "
        f"inside the model ({len(rows)} of {len(differ)}).  Of samples that the two "
        "encoders take in different forms, stitch the steps after the encoder, on "
        "encoded anchors"
    )


def _are_numbers(X):
    """Whether these are rows of numbers, and not texts or images."""
    try:
        check_array(X, accept_sparse=True, ensure_all_finite=False)
    except (TypeError, ValueError):
        return False
    return True


def _check_rows(name, X, error=None):
    """Refuse raw samples in the place of rows."""
    if not _are_numbers(X):
        raise TypeError(
            f"{name} must be rows of numbers, of shape (n_anchors, n_features); got "
            f"raw samples, or other rows, in a {type(X).__name__}.  Pass the new "
            "encoder as encoder= for raw anchors; old_anchors are always encoded"
        ) from error


def _matrix(X):
    """Return rows of any library as an array or sparse matrix in memory."""
    X = to_numpy(in_memory(X))
    return X.tocsr() if issparse(X) else X


# --- are these the same samples in the same order? ----------------------------------


def mantel_test(X_a, X_b, *, n_permutations=199, random_state=0):
    """Permutation test of whether the rows of two spaces correspond.

    The cosines between the rows of either space, after centring, are correlated; so
    they are with the rows of `X_b` in random orders [1]_.

    Parameters
    ----------
    X_a : array-like of shape (n_samples, n_features_a)
        Rows in one space, 3 or more.
    X_b : array-like of shape (n_samples, n_features_b)
        What should be the same samples, in the same order, in another.
    n_permutations : int, default=199
        How many random orders.
    random_state : int, RandomState instance or None, default=0
        Seed of the orders.

    Returns
    -------
    correlation : float
        In [-1, 1], of the cosines of all pairs of rows.
    p_value : float
        In (0, 1]: the share of orders, the given one among them, that correlate as
        well.  Under a wrong order it is at most p with probability p; so small values
        speak for corresponding rows.

    Raises
    ------
    ValueError
        If the numbers of rows differ, or there are fewer than 3.

    References
    ----------
    .. [1] N. Mantel, "The detection of disease clustering and a generalized regression
       approach", Cancer Research 27(2), 1967.

    Examples
    --------
    >>> from skinvariant.datasets import make_related_spaces
    >>> from skinvariant.stitching import mantel_test
    >>> spaces = make_related_spaces(30, transformation="linear", random_state=0)
    >>> mantel_test(spaces.X_a, spaces.X_b)[1]
    0.005
    >>> mantel_test(spaces.X_a, spaces.X_b[::-1])[1] > 0.05
    True
    """
    X_a, X_b = (check_array(X, ensure_min_samples=3) for X in (X_a, X_b))
    if len(X_a) != len(X_b):
        raise ValueError(
            f"X_a and X_b must have the same rows; got {len(X_a)} and {len(X_b)}"
        )
    check_number("n_permutations", n_permutations, Integral, 1)
    random_state = check_random_state(random_state)
    pairs = ~np.eye(len(X_a), dtype=bool)
    cosines_a, cosines_b = (
        cosine_similarity(X.astype(np.float64) - X.mean(axis=0)) for X in (X_a, X_b)
    )
    for cosines in (cosines_a, cosines_b):
        cosines -= cosines[pairs].mean()
        norm = np.linalg.norm(cosines[pairs])
        cosines *= pairs / (norm if norm > 0 else 1)
    found = np.vdot(cosines_a, cosines_b)
    reached = 1
    for _ in range(n_permutations):
        order = random_state.permutation(len(X_a))
        reached += np.vdot(cosines_a, cosines_b[np.ix_(order, order)]) >= found
    return float(found), float(reached / (n_permutations + 1))


def _warn_of_other_samples(old, new):
    """Warn if similarities of the new anchors hardly correlate with the old ones'."""
    if old is None or _matrix(old).shape[0] < _FEWEST_TO_COMPARE:
        return
    X_old, X_new = (_matrix(X)[:_MOST_TO_COMPARE] for X in (old, new))
    correlation, p_value = mantel_test(
        *(X.toarray() if issparse(X) else X for X in (X_old, X_new))
    )
    if p_value > _SIGNIFICANT:
        warnings.warn(
            "the new anchors do not look like the old ones: the cosines between them "
            f"correlate by {correlation:.2f}, as in {p_value:.0%} of random orders.  "
            "They must be the same samples, in the same order",
            UserWarning,
            stacklevel=3,
        )


#: The baselines of `cross_stitch`, from the floor to the ceiling.
BASELINES = (
    "majority",
    "absolute",
    "translate_orthogonal",
    "translate_linear",
    "translate_ridge",
    "translate_affine",
    "translate_kernel",
    "anchors",
    "retrained",
)
# methods of one space: in the long table they stand where head and encoder agree
_ONE_SPACE = ("own", "majority", "anchors", "retrained")
# what one might do instead of stitching, with no more than the anchors and their labels
_RIVALS = tuple(name for name in BASELINES if name not in ("majority", "retrained"))
_TRANSLATE = "translate_"
_FORMAT = "skinvariant.StitchingReport"


@dataclasses.dataclass(frozen=True, eq=False)
class StitchingReport:
    """What `cross_stitch` has measured: every head under every encoder.

    All scores are in one array, complete for every pair of a head and an encoder.  A
    score that depends on one of the two alone is repeated along the other: "own" is
    that of the head, "anchors" and "retrained" are those of the encoder, "majority" is
    the same everywhere.  Where head and encoder agree there is nothing to transfer:
    "stitched" equals "own" there, and "absolute" and the translations "retrained".

    Parameters
    ----------
    spaces : tuple of str
        Names of the spaces.
    methods : tuple of str
        "own", "stitched" and the baselines.
    n_anchors : tuple of int
        Numbers of anchors, ascending.
    scoring : str
        What the scores are.
    scores : ndarray of shape (n_methods, n_counts, n_seeds, n_spaces, n_spaces)
        Scores by method, number of anchors, seed, head and encoder; NaN where there
        is none ("absolute" between spaces of different width).
    resampled : ndarray of shape (n_methods, n_counts, n_resamples, n_spaces, n_spaces)
        Means over the seeds, on resampled test rows.  The rows of a resample are the
        same for every method and pair.
    votes : bool, default=False
        Whether the model is an InvariantVotingClassifier or InvariantVotingRegressor.

    See Also
    --------
    cross_stitch : Makes the report.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.stitching import StitchingReport
    >>> own, stitched = [[0.9, 0.9], [0.8, 0.8]], [[0.9, 0.9], [0.6, 0.8]]
    >>> report = StitchingReport(
    ...     spaces=("old", "new"), methods=("own", "stitched"), n_anchors=(300,),
    ...     scoring="accuracy", scores=np.array([own, stitched])[:, None, None],
    ...     resampled=np.empty((2, 1, 0, 2, 2)))
    >>> report.stitching_index().round(2).tolist()
    [[1.0, 1.0], [0.75, 1.0]]
    >>> report.passes(min_index=0.7), report.passes(min_index=0.8)
    (True, False)
    """

    spaces: tuple
    methods: tuple
    n_anchors: tuple
    scoring: str
    scores: np.ndarray
    resampled: np.ndarray
    votes: bool = False

    def matrix(self, method="stitched", *, n_anchors=None):
        """Return the scores of a method, head by encoder, as means over the seeds.

        Parameters
        ----------
        method : str, default="stitched"
            One of `methods`.
        n_anchors : int, default=None
            One of the report's; None: the largest.

        Returns
        -------
        ndarray of shape (n_spaces, n_spaces)
            Row i is the head of ``spaces[i]``, column j the encoder of ``spaces[j]``.

        Raises
        ------
        ValueError
            If the report has no such method or number of anchors.
        """
        return self.scores[self._at(method, n_anchors)].mean(axis=0)

    def stitching_index(self, method="stitched", *, n_anchors=None):
        """Return what part of its own score each head keeps under each encoder.

        Parameters
        ----------
        method : str, default="stitched"
            One of `methods`: "stitched" for the stitching index, a baseline to see
            what part of the same score that one reaches.
        n_anchors : int, default=None
            One of the report's; None: the largest.

        Returns
        -------
        ndarray of shape (n_spaces, n_spaces)
            Means over the seeds of the scores, divided by those of "own".

        Raises
        ------
        ValueError
            If an own score is not positive, so that a ratio to it means nothing; or
            if the report has no such method or number of anchors.
        """
        own = self.matrix("own", n_anchors=n_anchors)
        if not (own > 0).all():
            raise ValueError(
                "the stitching index is a part of the head's own score, which must be "
                f"positive; got {own.min():.3g} by scoring={self.scoring!r}: use one "
                "that is 0 for a useless model, or compare scores by interval()"
            )
        return self.matrix(method, n_anchors=n_anchors) / own

    def interval(
        self,
        method="stitched",
        baseline=None,
        *,
        pair=None,
        n_anchors=None,
        confidence=0.95,
    ):
        """Return the score of a method, or its lead over another, with an interval.

        The value is the mean over the seeds and over all pairs of a head and another
        encoder.  The variance of its error is the sum of two: that of the mean when
        the test rows are resampled, and that between the seeds divided by their
        number.  Methods are compared on the same rows and seeds.

        Parameters
        ----------
        method : str, default="stitched"
            One of `methods`.
        baseline : str, default=None
            One of `methods`, to be subtracted.
        pair : tuple of (str, str), default=None
            Names of the head's and the encoder's space; None: the mean of all pairs
            of two different ones.
        n_anchors : int, default=None
            One of the report's; None: the largest.
        confidence : float in (0, 1), default=0.95
            How often such an interval holds the true value.

        Returns
        -------
        value : float
            The mean; NaN where no pair has a score.
        low, high : float
            The normal interval around it; NaN where there are neither resamples nor
            two seeds.

        Raises
        ------
        ValueError, TypeError
            If a parameter is not as documented.

        Notes
        -----
        The encoders are taken as they are: the interval tells nothing about others.
        With fewer than five seeds the variance between them is known roughly.
        """
        if not 0 < check_number("confidence", confidence, Real, 0, 1) < 1:
            raise ValueError(f"confidence must lie in (0, 1); got {confidence!r}")
        at = self._at(method, n_anchors)
        by_seed, by_rows = self.scores[at], self.resampled[at]
        if baseline is not None:
            at = self._at(baseline, n_anchors)
            by_seed, by_rows = by_seed - self.scores[at], by_rows - self.resampled[at]
        pairs = self._pairs(pair) & np.isfinite(by_seed).all(axis=0)
        if not pairs.any():
            return (np.nan,) * 3
        by_seed, by_rows = (x[:, pairs].mean(axis=1) for x in (by_seed, by_rows))
        variances = []
        if len(by_rows) > 1:
            variances.append(by_rows.var(ddof=1))
        if len(by_seed) > 1:
            variances.append(by_seed.var(ddof=1) / len(by_seed))
        error = np.sqrt(sum(variances)) if variances else np.nan
        value, half = by_seed.mean(), norm.ppf((1 + confidence) / 2) * error
        return float(value), float(value - half), float(value + half)

    def best_baseline(self, *, n_anchors=None):
        """Return the best of what might be done instead of stitching.

        These are "absolute", the translations and "anchors", which need no more than
        the anchors and their labels; neither "majority" nor "retrained".

        Parameters
        ----------
        n_anchors : int, default=None
            One of the report's; None: the largest.

        Returns
        -------
        str or None
            The baseline with the highest mean over all pairs of two spaces; None
            where none of them was asked for.  A baseline without a score for every
            pair ("absolute" between spaces of different width) is left out.
        """
        others = self._pairs()
        means = {
            method: self.matrix(method, n_anchors=n_anchors)[others].mean()
            for method in self.methods
            if method in _RIVALS
        }
        means = {method: mean for method, mean in means.items() if np.isfinite(mean)}
        return max(means, key=means.get, default=None)

    def passes(self, min_index=0.95, *, n_anchors=None):
        """Tell whether every head keeps enough of its own score under every encoder.

        The worst pair decides, not the mean: it is one encoder that is swapped.

        Parameters
        ----------
        min_index : float, default=0.95
            The least stitching index (a mean over the seeds) that will do.
        n_anchors : int, default=None
            One of the report's; None: the largest.

        Returns
        -------
        bool
            Whether no pair has less.

        Raises
        ------
        ValueError, TypeError
            If a parameter is not as documented, or there is no index: see
            `stitching_index`.
        """
        check_number("min_index", min_index, Real, -np.inf)
        return bool((self.stitching_index(n_anchors=n_anchors) >= min_index).all())

    def to_frame(self):
        """Return all scores as a long table.

        Returns
        -------
        pandas.DataFrame
            With columns "method", "head", "encoder", "n_anchors", "seed" (0, 1, ...)
            and "score".  Each score is there once for each number of anchors and
            seed: "own", "majority", "anchors" and "retrained" where head and encoder
            are of the same space, all others where they are not.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "StitchingReport.to_frame needs pandas: pip install pandas"
            ) from error
        names = ("method", "n_anchors", "seed", "head", "encoder")
        n_seeds = self.scores.shape[2]
        levels = (self.methods, self.n_anchors, range(n_seeds), self.spaces)
        index = pd.MultiIndex.from_product([*levels, self.spaces], names=names)
        frame = pd.Series(self.scores.ravel(), index, name="score").reset_index()
        same = frame["head"] == frame["encoder"]
        frame = frame[same == frame["method"].isin(_ONE_SPACE)].reset_index(drop=True)
        return frame[["method", "head", "encoder", "n_anchors", "seed", "score"]]

    def to_json(self, path=None):
        """Write the report as JSON.

        Parameters
        ----------
        path : str or path-like, default=None
            Where to; None: return the text.

        Returns
        -------
        str or None
            The text, or None if it was written to `path`.
        """
        content = {"format": _FORMAT}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):  # JSON knows no NaN
                shape = list(value.shape)
                values = [x if np.isfinite(x) else None for x in value.ravel().tolist()]
                value = {"shape": shape, "values": values}
            content[field.name] = value
        text = json.dumps(content, allow_nan=False)
        if path is None:
            return text
        Path(path).write_text(text, encoding="utf-8")
        return None

    @classmethod
    def from_json(cls, source):
        """Read a report that `to_json` has written.

        Parameters
        ----------
        source : str or path-like
            The path of a file, or the text itself, which starts with ``{``.

        Returns
        -------
        StitchingReport
            The same report.

        Raises
        ------
        ValueError
            If `source` holds something else.
        """
        is_text = isinstance(source, str) and source.lstrip().startswith("{")
        text = source if is_text else Path(source).read_text(encoding="utf-8")
        content = json.loads(text)
        if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
            raise ValueError(f"source is not a report written by {_FORMAT}.to_json")
        for name, value in content.items():
            if isinstance(value, list):
                content[name] = tuple(value)
            elif isinstance(value, dict):
                values = np.array(value["values"], dtype=float)
                content[name] = values.reshape(value["shape"])
        return cls(**content)

    def summary(self, *, n_anchors=None):
        """Return a text to act on: a table of the methods and a verdict.

        Parameters
        ----------
        n_anchors : int, default=None
            One of the report's; None: the largest.

        Returns
        -------
        str
            The text, which ``str(report)`` and ``print(report)`` give as well.
        """
        lines = [*self._table(n_anchors), "", *self._verdict(n_anchors)]
        if len(self.n_anchors) > 1:
            lines += ["", *self._curve()]
        return "\n".join(lines)

    def __str__(self):
        return self.summary()

    def __repr__(self):
        return (
            f"StitchingReport(spaces={self.spaces!r}, n_anchors={self.n_anchors!r}, "
            f"scoring={self.scoring!r}, n_seeds={self.scores.shape[2]})"
        )

    def _at(self, method, n_anchors):
        """Return where a method and a number of anchors are in the arrays."""
        methods = {name: place for place, name in enumerate(self.methods)}
        place = check_choice("method", method, methods, or_else="measure another one")
        if n_anchors is None:
            return place, len(self.n_anchors) - 1
        if n_anchors not in self.n_anchors:
            raise ValueError(
                f"n_anchors must be one of {list(self.n_anchors)}; got {n_anchors!r}"
            )
        return place, self.n_anchors.index(n_anchors)

    def _pairs(self, pair=None):
        """Return a mask of one pair, or of all of two different spaces."""
        if pair is None:
            return ~np.eye(len(self.spaces), dtype=bool)
        if len(pair) != 2 or not set(pair) <= set(self.spaces):
            raise ValueError(
                f"pair must name a head's and an encoder's space of "
                f"{list(self.spaces)}; got {pair!r}"
            )
        head, encoder = (np.array([name == x for x in self.spaces]) for name in pair)
        return np.outer(head, encoder)

    def _worst(self, matrix):
        """Return the lowest of a matrix and the names of its head and encoder."""
        matrix = np.where(self._pairs() & np.isfinite(matrix), matrix, np.inf)
        head, encoder = np.unravel_index(matrix.argmin(), matrix.shape)
        return matrix[head, encoder], self.spaces[head], self.spaces[encoder]

    def _table(self, n_anchors):
        """Write one line for each method that has a score."""
        count = self.n_anchors[self._at("own", n_anchors)[1]]
        yield (
            f"{len(self.spaces)} spaces, {count} anchors, "
            f"{self.scores.shape[2]} seed(s), scoring: {self.scoring}"
        )
        yield f"{'':<20} {'mean':>7} {'+-':>6} {'worst':>7}"
        for method in self.methods:
            value, low, high = self.interval(method, n_anchors=n_anchors)
            if np.isnan(value):
                continue
            worst, head, encoder = self._worst(self.matrix(method, n_anchors=n_anchors))
            where = f"head from {head} under encoder {encoder}"
            where = {"own": head, "majority": ""}.get(method, where)
            where = encoder if method in ("anchors", "retrained") else where
            spread = f"{(high - low) / 2:6.3f}" if np.isfinite(low) else f"{'?':>6}"
            line = f"{method:<20} {value:7.3f} {spread} {worst:7.3f}  {where}"
            yield line.rstrip()

    def _verdict(self, n_anchors):
        """Write what follows from the table, in sentences."""
        at = {"n_anchors": n_anchors}
        has_index = (self.matrix("own", **at) > 0).all()
        table = self.stitching_index(**at) if has_index else self.matrix(**at)
        worst, head, encoder = self._worst(table)
        where = f"Worst pair: head from {head} under encoder {encoder}"
        if has_index:
            kept = table[self._pairs()].mean()
            yield f"Stitching keeps {kept:.2f} of the head's own score."
            yield f"{where}, which keeps {worst:.2f}."
        else:
            yield f"{where}, at {worst:.3f}."
        if "majority" in self.methods:
            stitched, floor = self.matrix(**at), self.matrix("majority", **at)
            useless = int((stitched <= floor)[self._pairs()].sum())
            if useless:
                yield (
                    f"In {useless} of {self._pairs().sum()} pairs stitching is no "
                    "better than the majority."
                )
        best = self.best_baseline(**at)
        if best is not None:
            yield from self._comparison(best, n_anchors)

    def _comparison(self, best, n_anchors):
        """Write what to do: to stitch, or what the best baseline does."""
        lead, low, high = self.interval("stitched", best, n_anchors=n_anchors)
        level = self.interval(best, n_anchors=n_anchors)[0]
        name = "a head trained on the labelled anchors"
        advice = "label the anchors and train on them"
        if best == "absolute":
            name, advice = "the head as it is, on absolute rows,", "use it so"
        elif best.startswith("translate_"):
            name = f"translation ({best.removeprefix('translate_')})"
            advice = "translate"
        yield f"The best alternative, {name}: {level:.3f}."
        interval = f"95% interval {low:+.3f} to {high:+.3f}"
        yield f"Stitching minus this: {lead:+.3f}, {interval}."
        remedy = "stitch with more anchors"
        if not self.votes:
            remedy = (
                "stitch a vote (InvariantVotingClassifier, InvariantVotingRegressor), "
                "which pools heads on several metrics with translations"
            )
        if low > 0:
            yield "Stitch."
        elif high < 0:
            yield f"Better {advice}, or {remedy}."
        else:
            yield "The two cannot be told apart with these rows and seeds."
            if not self.votes:
                yield f"Not tried: to {remedy}."

    def _curve(self):
        """Write the means of each method for each number of anchors."""
        yield "Mean of all pairs by number of anchors:"
        yield f"{'':<20} " + " ".join(f"{count:7d}" for count in self.n_anchors)
        for method in self.methods:
            values = [self.interval(method, n_anchors=k)[0] for k in self.n_anchors]
            if np.isfinite(values).any():
                yield f"{method:<20} " + " ".join(f"{value:7.3f}" for value in values)


def cross_stitch(
    model,
    spaces,
    y,
    *,
    head=None,
    baselines=BASELINES,
    n_anchors=None,
    n_seeds=5,
    scoring=None,
    n_resamples=100,
    random_state=None,
    n_jobs=None,
    verbose=0,
):
    """Measure every head under every encoder, beside what one might do instead.

    For each space and each draw of anchors a clone of the model is fitted ("own"),
    and stitched to every other space ("stitched").  The anchors of one seed are the
    same rows in every space, for stitching and for the baselines.

    Parameters
    ----------
    model : estimator
        A classifier or regressor: an `InvariantVotingClassifier`, or another head that
        projects itself, as `skinvariant.heads.InvariantClassifier`; a Pipeline that
        starts with a projecting step, as
        ``make_pipeline(InvariantAggregator(), LogisticRegression())``; or a
        VotingClassifier or VotingRegressor of such, which all get the same anchors.
        Clones of it are fitted, so it need not be.
    spaces : mapping of str to (X_train, X_test)
        Two spaces or more by name, each an array-like of shape
        (n_train, n_features) and one of shape (n_test, n_features).  All correspond:
        the same samples in the same order, of any width.
    y : tuple of (y_train, y_test)
        The targets of the training and the test rows.
    head : estimator, default=None
        What the baselines train on absolute rows.  None: a StandardScaler, since
        absolute rows may have any scale, and the steps of the model after the
        projecting one; of a head that projects itself LogisticRegression or RidgeCV.
    baselines : sequence of str, default=BASELINES
        What to measure besides "own" and "stitched":

        - "majority": no rows, the most frequent class or the mean target;
        - "absolute": the head trained on absolute rows of one space, given those of
          the other as they are, where the widths agree;
        - "translate_orthogonal" and so on: the same head, given rows of the other
          space that a `skinvariant.translation.SpaceTranslator`, fitted on the
          anchors, has carried over;
        - "anchors": the head trained on the encoder's anchors alone, whose labels it
          takes; the one class where all are of one;
        - "retrained": the head trained on all of the encoder's training rows.
    n_anchors : int or sequence of int, default=None
        How many anchors; several for a curve, where fewer are the first ones of more.
        None: as the model has it.
    n_seeds : int, default=5
        How many draws of anchors.  There is one alone where nothing is drawn: with
        ``anchors="all"`` or indices.
    scoring : str or callable, default=None
        A scorer of scikit-learn; larger is better.  None: "accuracy" of a
        classifier, "r2" of a regressor.
    n_resamples : int, default=100
        How often the test rows are resampled for the intervals; 0: never.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws and of the resamples.  Every `random_state` in the model and
        head that is None is set, too.
    n_jobs : int, default=None
        How many processes.  None is 1, -1 all processors.  Each works with one
        thread, so that it never changes the result.
    verbose : int, default=0
        Above 0: one printed line for each part of the work that is done, with the
        time that is left.

    Returns
    -------
    StitchingReport
        All scores.  `print` it first.

    Raises
    ------
    ValueError, TypeError
        If a parameter is not as documented.

    Notes
    -----
    Anchors are drawn by the strategy of the model.  "kmeans", "farthest" and
    callables see the space of the head (for the baseline "anchors", that of the
    encoder), and the row indices are carried over to the other.  For "kmeans" and
    callables several `n_anchors` are drawn one by one and not nested.

    Resampling is the bootstrap: n_test test rows with replacement, of class labels
    within each class, so that no class gets lost.  Every model predicts the test rows
    once.  A scorer gets an estimator that knows these predictions, and row numbers as
    `X`: one that looks into `X` itself will not work.

    A class that the anchors lack has probability 0 by the baseline "anchors".

    References
    ----------
    L. Moschella et al., "Relative representations enable zero-shot latent space
    communication", ICLR 2023, arXiv 2209.15430 (stitching and its index);
    V. Maiorca et al., "Latent space translation via semantic alignment", NeurIPS
    2023, arXiv 2311.00664 (translation by the same anchors).

    Examples
    --------
    Two spaces that differ by a rotation, which cosine does not see:

    >>> from sklearn.linear_model import RidgeClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from skinvariant import RelativeProjector
    >>> from skinvariant.datasets import make_related_spaces
    >>> from skinvariant.stitching import cross_stitch
    >>> pair = make_related_spaces(300, n_classes=5, random_state=1)
    >>> spaces = {"old": (pair.X_a[:200], pair.X_a[200:]),
    ...           "new": (pair.X_b[:200], pair.X_b[200:])}
    >>> model = make_pipeline(RelativeProjector(30), RidgeClassifier())
    >>> report = cross_stitch(model, spaces, (pair.y[:200], pair.y[200:]),
    ...                       baselines=["majority", "absolute"], random_state=0)
    >>> report.stitching_index().round(3).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    >>> bool(report.matrix("absolute")[0, 1] < 0.5)
    True
    """
    names, train, test = _check_spaces(spaces)
    y_train, y_test = _check_targets(y, train[0].shape[0], test[0].shape[0])
    paths, later = _find_projecting_steps(model)
    strategy, n_own = (
        model.get_params()[paths[0] + name] for name in ("anchors", "n_anchors")
    )
    check_number("n_seeds", n_seeds, Integral, 1)
    check_number("n_resamples", n_resamples, Integral, 0)
    random_state = check_random_state(random_state)
    drawn = callable(strategy) or (isinstance(strategy, str) and strategy != "all")
    seeds = random_state.randint(2**31 - 1, size=n_seeds if drawn else 1).tolist()
    labels = is_classifier(model) and y_train.ndim == 1
    scorer, scoring = _check_scorer(scoring, model, labels)
    bench = _Bench(
        train=train,
        test=test,
        y_train=y_train,
        y_test=y_test,
        classes=np.unique(y_train) if labels else None,
        model=model,
        paths=paths,
        strategy=strategy,
        head=_seeded(
            _default_head(model, later, train[0]) if head is None else head, seeds[0]
        ),
        baselines=_check_baselines(baselines),
        counts=_check_counts(n_anchors, n_own, strategy, train[0].shape[0]),
        scorer=scorer,
        rows=_resampled_rows(y_test, labels, n_resamples, random_state),
    )
    everything = _measure(bench, seeds, n_jobs, verbose)
    return StitchingReport(
        spaces=names,
        methods=("own", "stitched", *bench.baselines),
        n_anchors=bench.counts,
        scoring=scoring,
        scores=everything[..., 0, :, :],
        resampled=everything[..., 1:, :, :].mean(axis=2),
        votes=isinstance(
            model[-1] if isinstance(model, Pipeline) else model,
            InvariantVotingClassifier | InvariantVotingRegressor,
        ),
    )


@dataclasses.dataclass(frozen=True)
class _Bench:
    """What every unit of the work needs."""

    train: list
    test: list
    y_train: np.ndarray
    y_test: np.ndarray
    classes: np.ndarray | None  # None: not a target of one class per row
    model: object
    paths: list  # of the projecting steps' parameters
    strategy: object
    head: object
    baselines: tuple
    counts: tuple
    scorer: object
    rows: list  # all test rows first, then the resamples


def _answers_with(name):
    """Make a method that looks up the answers of the fitted estimator's own."""

    def method(self, rows):
        if name not in self.known:
            self.known[name] = self.ask(name)
        return self.known[name][rows]

    method.__name__ = name  # scorers look at it
    return available_if(lambda self: self.can(name))(method)


class _Answers:
    """A fitted estimator's answers to the test rows, looked up by row number.

    For scorers, which then cost little on many resamples.  Of classes that the
    estimator has not seen it says that they have probability 0.
    """

    predict = _answers_with("predict")
    predict_proba = _answers_with("predict_proba")
    decision_function = _answers_with("decision_function")

    def __init__(self, fitted, X, classes):
        self.fitted, self.X, self.known = fitted, X, {}
        self.seen = None
        if classes is not None:
            self.classes_, self.seen = classes, np.isin(classes, fitted.classes_)

    def __sklearn_tags__(self):
        return get_tags(self.fitted)

    def can(self, name):
        """Tell whether there are such answers, for all classes."""
        complete = self.seen is None or self.seen.all() or name != "decision_function"
        return complete and hasattr(self.fitted, name)

    def ask(self, name):
        """Return the answers to all rows."""
        answers = np.asarray(getattr(self.fitted, name)(self.X))
        if name != "predict_proba" or self.seen is None or self.seen.all():
            return answers
        widened = np.zeros((len(answers), len(self.seen)))
        widened[:, self.seen] = answers
        return widened


def _score(bench, fitted, X):
    """Score a fitted estimator on all test rows and on each resample of them."""
    answers = _Answers(fitted, X, bench.classes)
    scores = [bench.scorer(answers, bench.rows[0], bench.y_test)]
    # what there is to tell, all rows have told
    with warnings.catch_warnings(), config_context(skip_parameter_validation=True):
        warnings.simplefilter("ignore")
        scores += [
            bench.scorer(answers, rows, bench.y_test[rows]) for rows in bench.rows[1:]
        ]
    return np.array(scores, dtype=float)


def _score_absolute(bench, a):
    """Train a head on absolute rows of space `a`; return it and its scores.

    These are a dict from method and encoder to an array.
    """
    with one_thread():  # whatever n_jobs: the same order of sums
        head = clone(bench.head).fit(bench.train[a], bench.y_train)
        scores = {("retrained", a): _score(bench, head, bench.test[a])}
        if "absolute" in bench.baselines:
            for b, X in enumerate(bench.test):
                if b != a and X.shape[1] == bench.test[a].shape[1]:
                    scores["absolute", b] = _score(bench, head, X)
    return head, scores


def _score_relative(bench, a, n_anchors, seed, head):
    """Do with one draw of anchors all that has its head in space `a`."""
    with one_thread():
        indices = _draw(bench, a, n_anchors, seed)
        model = _seeded(bench.model, seed).set_params(
            **{f"{path}anchors": indices for path in bench.paths}
        )
        model.fit(bench.train[a], bench.y_train)
        scores = {("own", a): _score(bench, model, bench.test[a])}
        for b, X in enumerate(bench.test):
            if b == a:
                continue
            anchors = bench.train[b][indices]
            stitched = stitch(model, anchors)
            scores["stitched", b] = _score(bench, stitched, X)
            for name in bench.baselines:
                if name.startswith(_TRANSLATE):
                    translator = SpaceTranslator(name.removeprefix(_TRANSLATE))
                    translator.fit(anchors, bench.train[a][indices])
                    scores[name, b] = _score(bench, head, translator.transform(X))
        if "anchors" in bench.baselines:
            few = _fit_few(bench, bench.train[a][indices], bench.y_train[indices])
            scores["anchors", a] = _score(bench, few, bench.test[a])
    return scores


def _fit_few(bench, X, y):
    """Train the head on anchors; of one class alone no head can be trained."""
    one_class = bench.classes is not None and len(np.unique(y)) == 1
    return clone(DummyClassifier() if one_class else bench.head).fit(X, y)


def _draw(bench, a, n_anchors, seed):
    """Draw anchors in space `a`; fewer are the first ones of more where it can be."""
    nested = not callable(bench.strategy) and not (
        isinstance(bench.strategy, str) and bench.strategy == "kmeans"
    )
    n_drawn = bench.counts[-1] if nested else n_anchors
    how = (bench.train[a], bench.y_train, n_drawn, seed)
    return choose_anchors(bench.strategy, *how)[:n_anchors]


def _seeded(model, seed):
    """Return a clone that draws nothing at random but from this seed."""
    params = {
        name: seed
        for name, value in model.get_params().items()
        if name.rpartition("__")[2] == "random_state" and value is None
    }
    return clone(model).set_params(**params)


def _work(bench, seeds, n_jobs):
    """Do the work in parallel; yield where its scores belong, and the scores."""
    n_spaces = len(bench.train)
    # within "with": joblib frees what both rounds of workers share once, not twice
    with Parallel(n_jobs=n_jobs, return_as="generator") as parallel:
        heads = [None] * n_spaces
        if _needs_absolute(bench.baselines):
            units = (delayed(_score_absolute)(bench, a) for a in range(n_spaces))
            for a, (heads[a], scores) in enumerate(parallel(units)):
                yield (slice(None), slice(None), a), scores
        places = list(
            product(range(len(bench.counts)), range(len(seeds)), range(n_spaces))
        )
        units = (
            delayed(_score_relative)(bench, a, bench.counts[k], seeds[s], heads[a])
            for k, s, a in places
        )
        yield from zip(places, parallel(units), strict=True)


def _needs_absolute(baselines):
    """Tell whether any baseline trains a head on all absolute rows."""
    return bool(set(baselines) - {"majority", "anchors"})


def _measure(bench, seeds, n_jobs, verbose):
    """Fill one array with all scores: method, count, seed, rows, head, encoder."""
    methods, n_spaces = ("own", "stitched", *bench.baselines), len(bench.train)
    shape = (len(bench.counts), len(seeds), len(bench.rows), n_spaces, n_spaces)
    everything = np.full((len(methods), *shape), np.nan)
    by_method = dict(zip(methods, everything, strict=True))
    if "majority" in methods:
        dummy = DummyRegressor() if bench.classes is None else DummyClassifier()
        dummy.fit(np.zeros((len(bench.y_train), 1)), bench.y_train)
        scores = _score(bench, dummy, np.zeros((len(bench.y_test), 1)))
        by_method["majority"][:] = scores[:, None, None]
    n_units = n_spaces * (len(bench.counts) * len(seeds))
    n_units += n_spaces * _needs_absolute(bench.baselines)
    start = time.perf_counter()
    for done, ((k, s, a), scores) in enumerate(_work(bench, seeds, n_jobs), 1):
        for (method, b), values in scores.items():
            _enter(by_method, method, (k, s), a, b, values)
        if verbose > 0:
            passed = time.perf_counter() - start
            left = passed / done * (n_units - done)
            print(
                f"cross_stitch: {done} of {n_units} done in {passed:.0f} s, "
                f"about {left:.0f} s left",
                flush=True,
            )
    return everything


def _enter(by_method, method, place, a, b, values):
    """Enter the scores of a head and an encoder wherever they belong."""
    same = {"own": ("stitched",)}.get(method, ())
    if method == "retrained":
        same = [x for x in by_method if x == "absolute" or x.startswith(_TRANSLATE)]
    for name in same:
        by_method[name][place][..., a, a] = values
    if method not in by_method:
        return
    table = by_method[method][place]
    if method == "own":
        table[..., a, :] = values[:, None]
    elif method in _ONE_SPACE:
        table[..., :, b] = values[:, None]
    else:
        table[..., a, b] = values


def _check_spaces(spaces):
    """Return names, training and test rows of spaces that correspond."""
    if not isinstance(spaces, Mapping):
        raise TypeError(
            "spaces must be a mapping of names to (X_train, X_test); got "
            f"{type(spaces).__name__}"
        )
    if len(spaces) < 2:
        raise ValueError(f"spaces must be at least 2; got {list(spaces)}")
    parts = ([], [])
    for name, pair in spaces.items():
        if not isinstance(name, str):
            raise TypeError(f"the names of spaces must be strings; got {name!r}")
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(f"spaces[{name!r}] must be a pair (X_train, X_test)")
        for what, part, X in zip(("train", "test"), parts, pair, strict=True):
            X = check_array(
                X, accept_sparse="csr", input_name=f"X_{what} of spaces[{name!r}]"
            )
            if part and X.shape[0] != part[0].shape[0]:
                raise ValueError(
                    f"spaces must correspond row by row: X_{what} of "
                    f"{next(iter(spaces))!r} has {part[0].shape[0]} rows, of {name!r} "
                    f"{X.shape[0]}"
                )
            part.append(as_float(X))
        if parts[0][-1].shape[1] != parts[1][-1].shape[1]:
            raise ValueError(
                f"spaces[{name!r}] must have one width; X_train has "
                f"{parts[0][-1].shape[1]} features, X_test {parts[1][-1].shape[1]}"
            )
    return tuple(spaces), *parts


def _check_targets(y, n_train, n_test):
    """Return the targets of the training and the test rows as arrays."""
    if not isinstance(y, tuple | list) or len(y) != 2:
        raise ValueError("y must be a pair (y_train, y_test)")
    targets = [np.asarray(part) for part in y]
    for name, part, n_rows in zip(
        ("y_train", "y_test"), targets, (n_train, n_test), strict=True
    ):
        if part.ndim not in (1, 2) or len(part) != n_rows:
            raise ValueError(
                f"{name} must have one entry for each of the {n_rows} rows of the "
                f"spaces; got shape {part.shape}"
            )
    return targets


def _find_projecting_steps(model):
    """Return the paths of the projecting steps' parameters, and all steps after them.

    One step, or of a vote one for each member; after them come those of the first.
    """
    path, later, step = "", [], model
    while isinstance(step, Pipeline):
        steps = [x for x in step.steps if x[1] is not None and x[1] != "passthrough"]
        path += f"{steps[0][0]}__"
        later = [x for _, x in steps[1:]] + later
        step = steps[0][1]
    if not path and hasattr(model, "estimators") and hasattr(model, "weights"):
        found = {
            name: _find_projecting_steps(member)
            for name, member in model.estimators
            if member != "drop"
        }
        if found:
            paths = [f"{name}__{inner[0]}" for name, (inner, _) in found.items()]
            return paths, next(iter(found.values()))[1]
    projects = hasattr(step, "rebase") and "anchors" in step.get_params()
    if not projects or not (is_classifier(model) or is_regressor(model)):
        raise TypeError(
            "model must be a classifier or regressor: a Pipeline that starts with a "
            "RelativeProjector, InvariantAggregator or other projecting step, since "
            "spaces are encoded already, a vote of such, or a head that projects "
            f"itself; got {model!r}"
        )
    return [path], later


def _default_head(model, later, X):
    """Return what comes after the projecting step, or a linear head, on unit scale.

    A head that was made for relative vectors of unit scale has its penalty for these:
    on small absolute values it would be a rival of straw.
    """
    scaler = StandardScaler(with_mean=not issparse(X))
    if later:
        scaled = any(isinstance(step, StandardScaler) for step in later)
        return make_pipeline(*([] if scaled else [scaler]), *later)
    linear = RidgeCV(alphas=np.logspace(-3, 3, 7))
    if is_classifier(model):
        linear = LogisticRegression(max_iter=1000)
    return make_pipeline(scaler, linear)


def _accuracy(model, rows, y):
    """Score as "accuracy" does, without its checks, which take a hundred times as long.

    That is what resampling costs.
    """
    return (model.predict(rows) == y).mean()


def _check_scorer(scoring, model, labels):
    """Return a scorer and its name."""
    if scoring is None:
        scoring = "accuracy" if is_classifier(model) else "r2"
    if isinstance(scoring, str):
        if scoring == "accuracy" and labels:
            return _accuracy, scoring
        return get_scorer(scoring), scoring
    if not callable(scoring):
        raise TypeError(f"scoring must be a string or a callable; got {scoring!r}")
    # check_scoring refuses a metric function in the place of a scorer
    name = getattr(scoring, "__name__", repr(scoring))
    return check_scoring(model, scoring=scoring), name


def _check_baselines(baselines):
    """Return the baselines in their order, once each."""
    baselines = [baselines] if isinstance(baselines, str) else list(baselines)
    for name in baselines:
        choices = dict.fromkeys(BASELINES)
        check_choice("baselines", name, choices, or_else="a sequence of these")
    return tuple(name for name in BASELINES if name in baselines)


def _check_counts(n_anchors, n_own, strategy, n_rows):
    """Return the numbers of anchors, ascending, once each."""
    most, of = n_rows, "training rows"
    if isinstance(strategy, str) and strategy == "all":
        n_own = n_rows
        if n_anchors is not None:
            raise ValueError("n_anchors must be None with anchors='all'")
    elif not isinstance(strategy, str) and not callable(strategy):
        n_own = most = len(strategy)
        of = "given anchors"
    counts = np.atleast_1d(np.array(n_own if n_anchors is None else n_anchors, object))
    if counts.size == 0:
        raise ValueError("n_anchors must be at least one number; got none")
    for count in counts:
        check_number("n_anchors", count, Integral, 1)
    if max(counts) > most:
        raise ValueError(f"n_anchors={max(counts)} is more than the {most} {of}")
    return tuple(sorted({int(count) for count in counts}))


def _resampled_rows(y_test, labels, n_resamples, random_state):
    """Return all test rows, then those of each resample."""
    rows = np.arange(len(y_test))
    stratify = y_test if labels else None
    return [rows] + [
        resample(rows, stratify=stratify, random_state=random_state)
        for _ in range(n_resamples)
    ]
