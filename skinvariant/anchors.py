"""Functions that choose anchors, the rows with which every other row is compared.

Each takes ``(X, y, n_anchors, random_state)`` and returns row indices instead of rows,
because indices are valid in every corresponding space.  A function of your own with
this signature can be the parameter `anchors` of every estimator of this package.
`select_anchors` selects the anchors of a fitted model from any container of samples.
"""

import warnings
from collections.abc import Mapping
from numbers import Integral

import numpy as np
from scipy.sparse import issparse
from sklearn import config_context
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils import check_consistent_length, check_random_state, resample
from sklearn.utils.validation import check_is_fitted

from skinvariant._dask import fetch_rows, is_dask_array
from skinvariant._models import projecting_steps
from skinvariant._validation import (
    are_rows,
    as_float,
    canonical,
    check_choice,
    check_indices,
    check_labels,
    check_number,
    take_rows,
    to_numpy,
)

__all__ = [
    "STRATEGIES",
    "choose_anchors",
    "farthest_anchors",
    "kmeans_anchors",
    "random_anchors",
    "select_anchors",
    "stratified_anchors",
]

# rounds of k-means; it need not converge, since anchors are rows and not centres
_ROUNDS = 20
# k-means++ chooses the first centres among so many rows for each
_ROWS_PER_CENTRE = 10


def random_anchors(X, y=None, n_anchors=300, random_state=None):
    """Choose rows at random, without replacement.

    Only the number of rows matters, so equal `random_state` on corresponding
    spaces gives parallel anchors, and fewer anchors are the first ones of more.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The space.
    y : ignored
        Not used.
    n_anchors : int, default=300
        How many rows, at most `n_samples`.
    random_state : int, RandomState instance or None, default=None
        Seed of the draw.

    Returns
    -------
    ndarray of shape (n_anchors,), dtype int
        Row indices, in the order of the draw.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.anchors import random_anchors
    >>> random_anchors(np.zeros((100, 2)), n_anchors=5, random_state=0).tolist()
    [26, 86, 2, 55, 75]
    """
    check_number("n_anchors", n_anchors, Integral, 1, X.shape[0])
    return check_random_state(random_state).permutation(X.shape[0])[:n_anchors]


def stratified_anchors(X, y, n_anchors=300, random_state=None):
    """Choose rows at random, each class in proportion to its size.

    The choice depends on the labels alone, so equal `random_state` on corresponding
    spaces gives parallel anchors.  A class too small for one anchor may get none.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The space.
    y : array-like of shape (n_samples,)
        Class labels.
    n_anchors : int, default=300
        How many rows, at most `n_samples`.
    random_state : int, RandomState instance or None, default=None
        Seed of the draw.

    Returns
    -------
    ndarray of shape (n_anchors,), dtype int
        Row indices.

    Raises
    ------
    ValueError, TypeError
        If `y` is None or is not of classes, or `n_anchors` is not in 1 .. `n_samples`.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.anchors import stratified_anchors
    >>> y = np.repeat(["common", "rare"], [75, 25])
    >>> chosen = stratified_anchors(np.zeros((100, 2)), y, 8, random_state=0)
    >>> int((y[chosen] == "rare").sum())
    2
    """
    check_number("n_anchors", n_anchors, Integral, 1, X.shape[0])
    if y is None:
        raise ValueError(
            "anchors='stratified' requires y to be passed, but the target y is None"
        )
    y = to_numpy(y)
    check_consistent_length(X, y)
    y = check_labels(y.ravel() if y.shape[1:] == (1,) else y)
    return resample(
        np.arange(X.shape[0]),
        replace=False,
        n_samples=n_anchors,
        stratify=y,
        random_state=random_state,
    )


def _around_origin(X):
    """Return a copy of a space around the origin, in which distances keep their digits.

    The largest entry is about 1, before the mean is taken, too: sums of the largest
    numbers overflow.
    """
    X = canonical(as_float(to_numpy(X)))  # SciPy sums duplicates in place
    X = X / (abs(X).max() or 1)
    if issparse(X):
        return X
    X = X - X.mean(axis=0)
    return X / (abs(X).max() or 1)


def kmeans_anchors(X, y=None, n_anchors=300, random_state=None):
    """Choose the real rows nearest to the centres of k-means clusters.

    Anchors cover the space evenly, whatever the density.  k-means++ on at most 10 rows
    per anchor finds the first centres; at most 20 rounds of Lloyd's algorithm on all
    rows follow.  Every index is chosen once; if `X` has fewer distinct rows than
    `n_anchors`, the rest is drawn at random from the rows not yet chosen.

    Parameters
    ----------
    X : {array, CSR matrix} of shape (n_samples, n_features)
        The space.
    y : ignored
        Not used.
    n_anchors : int, default=300
        How many rows, at most `n_samples`.
    random_state : int, RandomState instance or None, default=None
        Seed of k-means.

    Returns
    -------
    ndarray of shape (n_anchors,), dtype int
        Row indices.  They depend on the space: use the same ones in another space.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        If there are fewer distinct rows than `n_anchors`.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.anchors import kmeans_anchors
    >>> X = np.array([[0.0], [1.0], [2.0], [50.0], [51.0], [52.0]])
    >>> sorted(kmeans_anchors(X, n_anchors=2, random_state=0).tolist())
    [1, 4]
    """
    # as Python's int, since ten times a narrow one of NumPy overflows
    n_anchors = int(check_number("n_anchors", n_anchors, Integral, 1, X.shape[0]))
    X = _around_origin(X)
    random_state = check_random_state(random_state)
    with config_context(array_api_dispatch=False):  # X is a NumPy array by now
        n_rows = min(X.shape[0], _ROWS_PER_CENTRE * n_anchors)
        rows = random_state.permutation(X.shape[0])[:n_rows]
        sample = X[rows].astype(np.float64)  # several times as fast as float32
        _, chosen = kmeans_plusplus(sample, n_anchors, random_state=random_state)
        centres = X[rows[chosen]]
        centres = centres.toarray() if issparse(centres) else centres
        kmeans = KMeans(n_anchors, init=centres, n_init=1, max_iter=_ROUNDS).fit(X)
    to_centre = np.empty(X.shape[0])
    for cluster, centre in enumerate(kmeans.cluster_centers_):
        members = np.flatnonzero(kmeans.labels_ == cluster)
        if members.size:
            to_centre[members] = euclidean_distances(X[members], centre[None])[:, 0]
    # the nearest member of each cluster: sort by cluster, then by distance
    order = np.lexsort((to_centre, kmeans.labels_))
    _, first = np.unique(kmeans.labels_[order], return_index=True)
    chosen = order[first]
    rest = np.setdiff1d(np.arange(X.shape[0]), chosen)
    fill = random_state.permutation(rest)[: n_anchors - chosen.size]
    return np.concatenate([chosen, fill])


def farthest_anchors(X, y=None, n_anchors=300, random_state=None):
    """Choose each row as far as possible from those chosen before (Gonzalez, 1985).

    The first row is drawn at random.  Anchors cover the whole extent of the
    space, outliers first.  Every index is chosen once, even if rows repeat.

    Parameters
    ----------
    X : {array, CSR matrix} of shape (n_samples, n_features)
        The space.
    y : ignored
        Not used.
    n_anchors : int, default=300
        How many rows, at most `n_samples`.
    random_state : int, RandomState instance or None, default=None
        Seed of the first row.

    Returns
    -------
    ndarray of shape (n_anchors,), dtype int
        Row indices, in the order of choice: fewer anchors are the first ones of
        more.  They depend on the space: use the same ones in another space.

    References
    ----------
    T. F. Gonzalez, "Clustering to minimize the maximum intercluster distance",
    Theoretical Computer Science 38, 1985.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.anchors import farthest_anchors
    >>> X = np.array([[0.0], [1.0], [5.0], [9.0], [10.0]])
    >>> sorted(farthest_anchors(X, n_anchors=3, random_state=0).tolist())
    [0, 2, 4]
    """
    check_number("n_anchors", n_anchors, Integral, 1, X.shape[0])
    X = _around_origin(X)
    chosen = [check_random_state(random_state).randint(X.shape[0])]
    distance = np.full(X.shape[0], np.inf)
    while len(chosen) < n_anchors:
        to_last = euclidean_distances(X, X[[chosen[-1]]], squared=True)[:, 0]
        np.minimum(distance, to_last, out=distance)
        distance[chosen[-1]] = -1.0
        chosen.append(int(np.argmax(distance)))
    return np.array(chosen)


def _every_row(X, y=None, n_anchors=None, random_state=None):
    return np.arange(X.shape[0])


#: The strategies by name, as the ``anchors`` parameter takes them.
STRATEGIES = {
    "all": _every_row,
    "farthest": farthest_anchors,
    "kmeans": kmeans_anchors,
    "random": random_anchors,
    "stratified": stratified_anchors,
}


def choose_anchors(anchors, X, y=None, n_anchors=300, random_state=None):
    """Choose rows by the name of a strategy, by indices or by a callable.

    Parameters
    ----------
    anchors : {"random", "stratified", "kmeans", "farthest", "all"}, array-like or \
            callable
        A strategy; distinct row indices, used in this order; or a callable
        ``(X, y, n_anchors, random_state) -> indices``.
    X : array of shape (n_samples, n_features)
        The space.
    y : array-like of shape (n_samples,), default=None
        Class labels, if the strategy needs them.
    n_anchors : int, default=300
        How many rows.  If it is more than `n_samples`, every row is chosen, with a
        warning.  "all" and indices ignore it.
    random_state : int, RandomState instance or None, default=None
        Seed of the draw.

    Returns
    -------
    ndarray of shape (n_anchors,), dtype int
        Distinct row indices.

    Raises
    ------
    TypeError, ValueError
        If `anchors`, `n_anchors` or the result of a callable is not as above.

    Warns
    -----
    UserWarning
        If `X` has fewer rows than `n_anchors`.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.anchors import choose_anchors
    >>> choose_anchors([4, 2], np.zeros((5, 2))).tolist()
    [4, 2]
    """
    n_samples = X.shape[0]
    n_anchors = int(check_number("n_anchors", n_anchors, Integral, 1))
    strategy = anchors
    if are_rows(anchors):
        raise ValueError(
            "anchors must be a strategy, 1-D row indices or a callable where they are "
            "chosen among the rows of X, and not rows of one space; got shape "
            f"{np.shape(anchors)}"
        )
    if isinstance(anchors, str) or (np.ndim(anchors) == 0 and not callable(anchors)):
        strategy = check_choice(
            "anchors",
            anchors,
            STRATEGIES,
            or_else="row indices, rows, or a callable",
        )
    if not callable(strategy):
        return check_indices(anchors, n_samples, source="anchors")
    if n_anchors > n_samples and anchors != "all":
        warnings.warn(
            f"n_anchors={n_anchors} is more than n_samples={n_samples}: "
            "every row becomes an anchor",
            UserWarning,
            stacklevel=2,
        )
    wanted = n_samples if anchors == "all" else min(n_anchors, n_samples)
    indices = strategy(X, y, wanted, check_random_state(random_state))
    return check_indices(
        indices, n_samples, source="the result of the anchors callable", expected=wanted
    )


def select_anchors(model, X):
    """Select the anchors of a fitted model among the samples that it was fitted on.

    The samples may be raw or their rows in any space.  Applied to the new encoder's
    rows, this gives the `anchors` for `skinvariant.stitch`.

    Parameters
    ----------
    model : fitted estimator
        A projector, aggregator, voting model or head of this package, or a model that
        contains one: a Pipeline, a fitted search, a vote, or any other that
        `skinvariant.stitch` takes.
    X : {array, sparse matrix, dask array, data frame, Series, sequence} of length \
            n_samples
        The samples that `model` was fitted on, or the same samples in another form, in
        the same order.  They are selected by position; index labels are ignored.

    Returns
    -------
    same type as `X`, of length n_anchors
        The anchors in the model's order: a list for a sequence, CSR for other sparse
        formats, a NumPy array for a dask array.

    Raises
    ------
    TypeError
        If `model` has no anchors chosen among rows, as one that got them as rows, or
        `X` is not an ordered container of samples.
    ValueError
        If `X` does not have as many samples as `model` was fitted on.
    sklearn.exceptions.NotFittedError
        If `model` is not fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant import RelativeProjector, select_anchors
    >>> X = np.arange(20.0).reshape(10, 2) ** 2
    >>> projector = RelativeProjector(3, random_state=0).fit(X)
    >>> projector.anchor_indices_.tolist()
    [2, 8, 4]
    >>> select_anchors(projector, [f"text {i}" for i in range(10)])
    ['text 2', 'text 8', 'text 4']
    >>> select_anchors(projector, X[:9])
    Traceback (most recent call last):
        ...
    ValueError: X must have the 10 samples that the model was fitted on; got 9
    """
    check_is_fitted(model)
    step = next(iter(projecting_steps(model)), None)
    if not hasattr(step, "anchor_indices_"):
        raise TypeError(
            "model must be, or have inside, a RelativeProjector, InvariantAggregator "
            "or other estimator that has chosen its anchors among the rows of fit (of "
            "anchors given as rows, encode the same samples): one with "
            f"anchor_indices_; got {model!r}"
        )
    # the length of a dict or a text is not a number of samples
    ordered = hasattr(X, "__getitem__") and not isinstance(X, str | bytes | Mapping)
    if not ordered or getattr(X, "shape", None) == ():
        raise TypeError(
            "X must be an array, data frame, Series or sequence of samples; got "
            f"{type(X).__name__}"
        )
    indices = to_numpy(step.anchor_indices_)
    n_samples = X.shape[0] if hasattr(X, "shape") else len(X)
    n_fitted = getattr(step, "n_samples_fit_", n_samples)  # users' own steps lack it
    if n_samples != n_fitted:
        raise ValueError(
            f"X must have the {n_fitted} samples that the model was fitted on; got "
            f"{n_samples}"
        )
    if is_dask_array(X):
        return fetch_rows(X, indices)
    if hasattr(X, "iloc"):
        return X.iloc[indices]
    if issparse(X):
        return (X if X.format == "csc" else X.tocsr())[indices]
    if hasattr(X, "__array_namespace__"):
        return take_rows(X, indices)
    if hasattr(X, "shape"):  # polars, torch and whatever indexes like an array
        return X[indices]
    return [X[index] for index in indices.tolist()]
