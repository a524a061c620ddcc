"""Dask arrays: anchors computed from few blocks, and a lazy transform of each block."""

import copy
import sys
from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.random import sample_without_replacement

from skinvariant._threads import one_blas_thread
from skinvariant._validation import check_number
from skinvariant.metrics._products import undefined_rows_allowed

# "kmeans" and "farthest" choose among no more rows than these
SUBSAMPLE = 20_000
SUBSAMPLE_PER_ANCHOR = 10


def is_dask_array(X):
    """Return whether `X` is a dask array, without importing dask.

    Parameters
    ----------
    X : object
        Any input.

    Returns
    -------
    bool
        Whether it is one.

    Examples
    --------
    >>> from skinvariant._dask import is_dask_array
    >>> is_dask_array([[1.0]])
    False
    """
    # a dask array exists only if its module has been imported
    module = sys.modules.get("dask.array")
    return module is not None and isinstance(X, module.Array)


def in_memory(X):
    """Compute `X` if it is a dask array; anything else is returned unchanged.

    Parameters
    ----------
    X : object
        Any input.

    Returns
    -------
    object
        `X` without dask.
    """
    return X.compute() if is_dask_array(X) else X


def stand_in(X, n_rows=1):
    """Return rows of zeros, to validate in place of a dask array.

    Parameters
    ----------
    X : dask array of shape (n_samples, n_features)
        The space; the number of rows may be unknown.
    n_rows : int, default=1
        How many rows of it.

    Returns
    -------
    ndarray of shape (n_rows, n_features)
        With the width, dtype and number of dimensions of `X`.

    Raises
    ------
    ValueError
        If the number of columns is unknown.
    """
    if X.ndim != 2:
        return np.zeros((1,) * X.ndim, dtype=X.dtype)
    if np.isnan(X.shape[1]):
        raise ValueError(
            "the number of columns of a dask array must be known: call "
            f"X.compute_chunk_sizes() first; got shape {X.shape}"
        )
    return np.zeros((n_rows, X.shape[1]), dtype=X.dtype)


def fetch_anchors(estimator, X, y, *, choose, check):
    """Choose anchors among the rows of a dask array, and compute only the rows needed.

    "kmeans" and "farthest" choose among `SUBSAMPLE` random rows, or
    `SUBSAMPLE_PER_ANCHOR` for each anchor if these are more; a callable gets `X`
    itself.

    Parameters
    ----------
    estimator : RelativeTransformer
        Has `anchors`, `n_anchors` and `random_state`.
    X : dask array of shape (n_samples, n_features)
        The space.
    y : {array-like, dask array} of shape (n_samples,) or None
        Class labels, where the strategy needs them.
    choose : callable
        `skinvariant.anchors.choose_anchors`, which is built on this module.
    check : callable
        Takes rows in memory, and returns them validated.

    Returns
    -------
    rows : {ndarray, CSR matrix} of shape (n_anchors, n_features)
        The anchors.
    indices : ndarray of shape (n_anchors,), dtype int
        Which rows of `X` they are.

    Raises
    ------
    ValueError
        If the number of rows is unknown.
    """
    n_samples = X.shape[0] if X.ndim else 1
    if np.isnan(n_samples):
        raise ValueError(
            "to choose anchors, the number of rows of a dask array must be known: call "
            f"X.compute_chunk_sizes() before fit; got shape {X.shape}"
        )
    check(stand_in(X, min(1, n_samples)))
    anchors, n_anchors = estimator.anchors, estimator.n_anchors
    seed = estimator.random_state
    if not isinstance(anchors, str) or anchors not in ("farthest", "kmeans"):
        indices = choose(anchors, X, y, n_anchors, seed)
        return check(fetch_rows(X, indices)), indices
    n_anchors = int(check_number("n_anchors", n_anchors, Integral, 1))
    size = max(SUBSAMPLE, SUBSAMPLE_PER_ANCHOR * n_anchors)
    sample = np.arange(n_samples)
    if size < n_samples:
        seed = check_random_state(seed)
        sample = sample_without_replacement(n_samples, size, random_state=seed)
    rows = check(fetch_rows(X, sample))
    with one_blas_thread:
        chosen = choose(anchors, rows, y, n_anchors, seed)
    return rows[chosen], sample[chosen]


def fetch_rows(X, indices):
    """Compute some rows of a dask array.

    Parameters
    ----------
    X : dask array of shape (n_samples, n_features)
        The rows to choose from.
    indices : ndarray of shape (n,), dtype int
        Which rows, in which order.

    Returns
    -------
    {ndarray, CSR matrix} of shape (n, n_features)
        The rows.
    """
    if X.numblocks[0] > X.shape[0]:  # some are empty, which dask's indexing is not for
        X = X.rechunk({0: -1})
    order = np.argsort(indices)  # by sorted indices, dask takes each block once
    rows = X[indices[order]].compute()
    return rows[np.argsort(order)]


def transform_lazily(estimator, X):
    """Transform the rows of a dask array, block by block and when they are computed.

    Parameters
    ----------
    estimator : fitted RelativeTransformer
        The transformer.  A copy is kept, so that a later fit does not change the
        result.
    X : dask array of shape (n_samples, n_features)
        Rows, of the fitted width; their number may be unknown.

    Returns
    -------
    dask array of shape (n_samples, n_features_out)
        In row blocks as those of `X`, not computed.

    Raises
    ------
    TypeError
        If the estimator does not return NumPy arrays.
    """
    import dask
    import dask.array as da

    with undefined_rows_allowed():  # of one anchor, not of the user's rows
        output = estimator.transform(estimator.anchors_[:1])
    if not isinstance(output, np.ndarray):
        raise TypeError(
            f"for a dask array, transform of {type(estimator).__name__} must return "
            "NumPy arrays: set_output(transform='default'), and fit on NumPy or dask "
            f"arrays; got {type(output).__module__}.{type(output).__name__}"
        )
    width = output.shape[1]
    estimator = copy.copy(estimator)
    vars(estimator).pop("feature_names_in_", None)  # no block has names to compare
    dtype = X.dtype if X.dtype in (np.float32, np.float64) else np.dtype(np.float64)
    X = X.rechunk({1: -1})
    return da.map_blocks(
        project_block,
        X,
        # a single node of the graph, shared by all blocks
        dask.delayed(estimator, traverse=False),
        width=width,
        block_dtype=dtype,
        dtype=dtype,
        chunks=(X.chunks[0], (width,)),
        meta=np.empty((0, 0), dtype=dtype),
    )


def project_block(block, estimator, width, block_dtype):
    """Transform one block of rows.

    Parameters
    ----------
    block : {ndarray, CSR matrix} of shape (n_rows, n_features)
        The rows; there may be none.
    estimator : fitted RelativeTransformer
        The transformer.
    width : int
        Number of columns of the output.
    block_dtype : dtype
        Its dtype.

    Returns
    -------
    ndarray of shape (n_rows, width)
        The relative space of the block.
    """
    if block.shape[0] == 0:  # after a filter; scikit-learn refuses such input
        return np.empty((0, width), dtype=block_dtype)
    return np.asarray(estimator.transform(block), dtype=block_dtype)
