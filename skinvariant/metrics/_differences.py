"""Metrics of differences: L1 and L-infinity in one compiled pass, and any Lp."""

import functools
import warnings

import numpy as np
from scipy.sparse import csr_array, issparse
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import manhattan_distances

from skinvariant._validation import namespace
from skinvariant.metrics._rows import BATCH, replace_rows


def prepare_nothing(anchors):
    """Return the anchors alone."""
    return (anchors,)


def compare_manhattan(X, anchors):
    """Compute L1 distances without the compiled kernels."""
    if issparse(X):
        # scikit-learn's sparse L1 distance needs 32-bit indices and sorts in place
        X, anchors = (
            csr_array(
                (
                    side.data.copy(),
                    side.indices.astype(np.int32),
                    side.indptr.astype(np.int32),
                ),
                shape=side.shape,
            )
            for side in (X, anchors)
        )
        return manhattan_distances(X, anchors)
    if namespace(X) is np:
        return cdist(X, anchors, "cityblock")
    return _by_anchor(X, anchors, lambda xp, gap: xp.sum(gap, axis=1))


def compare_chebyshev(X, anchors):
    """Compute L-infinity distances without the compiled kernels."""
    if namespace(X) is np:
        return cdist(X, anchors, "chebyshev")
    return _by_anchor(X, anchors, lambda xp, gap: xp.max(gap, axis=1))


def _by_anchor(X, anchors, reduce):
    """Reduce the absolute differences to each anchor in turn, in any array library."""
    xp = namespace(X)
    columns = [
        reduce(xp, xp.abs(X - anchors[j, :][None, :])) for j in range(anchors.shape[0])
    ]
    return xp.stack(columns, axis=1)


@functools.cache
def usable_kernels():
    """Import the compiled kernels; if they cannot be used, warn once and return None.

    Returns
    -------
    module or None
        `skinvariant.metrics._compiled`.
    """
    try:
        from skinvariant.metrics import _compiled

        _compiled.load()
    except Exception as error:  # of any kind: SciPy needs no compiler
        warnings.warn(
            "the compiled kernels of skinvariant cannot be used, so that SciPy "
            "computes manhattan and chebyshev, about ten times as slowly; got "
            f"{type(error).__name__}: {error}",
            UserWarning,
            stacklevel=2,
        )
        return None
    return _compiled


def prepare_differences(anchors, members):
    """Lay out the anchors for the compiled kernels, if these take them.

    Parameters
    ----------
    anchors : array of shape (n_anchors, n_features), float32 or float64
        The anchors.
    members : dict of str to Metric
        The metrics.

    Returns
    -------
    tuple
        For `compare_differences`.
    """
    dense = namespace(anchors) is np and not issparse(anchors)
    kernels = usable_kernels() if dense else None
    return anchors, None if kernels is None else kernels.pack(anchors)


def compare_differences(X, members, prepared):
    """Compute L1 and L-infinity distances, in one pass over the differences.

    Parameters
    ----------
    X : array of shape (n_samples, n_features), float32 or float64
        Rows.
    members : dict of str to Metric
        The metrics.
    prepared : tuple
        From `prepare_differences`.

    Returns
    -------
    dict of str to array of shape (n_samples, n_anchors)
        The distances by metric.
    """
    anchors, packed = prepared
    dense = namespace(X) is np and not issparse(X)
    kernels = usable_kernels() if dense else None
    if kernels is None:
        return {name: metric.comparison(X, anchors) for name, metric in members.items()}
    dtype = np.result_type(X, anchors)
    if packed is None or packed.dtype != dtype:
        packed = kernels.pack(anchors.astype(dtype))
    rows = X.astype(dtype, copy=False)
    values = kernels.compare(rows, packed, anchors.shape[0], tuple(members))
    for name, metric in members.items():
        if not values[name].max(initial=0) < np.inf:  # float64 may hold it
            beyond = ~np.isfinite(values[name]).all(axis=1)
            wide = metric.comparison(X[beyond], anchors)
            values[name] = replace_rows(values[name], beyond, wide)
    return values


def minkowski_distances(X, anchors, p):
    """Compute Lp distances of any finite order p, at any scale.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Rows.
    anchors : ndarray of shape (n_anchors, n_features)
        Anchors.
    p : float
        The order, at least 1.

    Returns
    -------
    ndarray of shape (n_samples, n_anchors)
        The distances, in float64.
    """
    distances = cdist(X, anchors, "minkowski", p=p)
    # sums of p-th powers leave the range of float64 long before the distances do
    with np.errstate(divide="ignore"):
        powers = p * np.log2(distances)
    rows, columns = np.nonzero(~((powers > -950) & (powers < 950)))
    step = max(1, BATCH // X.shape[1])
    for start in range(0, rows.size, step):
        i, j = rows[start : start + step], columns[start : start + step]
        gap = np.abs(X[i].astype(np.float64) - anchors[j])
        peaks = gap.max(axis=1)
        gap /= np.where(peaks > 0, peaks, 1)[:, None]
        distances[i, j] = peaks * (gap**p).sum(axis=1) ** (1 / p)
    return distances
