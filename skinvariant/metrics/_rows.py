"""Rows of any scale and array library, dense or CSR: norms, directions, products."""

import numpy as np
from scipy.sparse import csr_array, issparse

from skinvariant._validation import astype, namespace

# values that differ by no more rounding errors than this count as equal
ROUNDINGS = 16
# how many numbers one batch of differences holds
BATCH = 2**18
# range of norms whose squares neither overflow nor underflow
ORDINARY = {"float32": (1e-15, 1e15), "float64": (1e-140, 1e140)}


def inner_products(X, anchors):
    """Multiply all rows with all anchors; the result is dense."""
    if issparse(X) or issparse(anchors):
        product = X @ anchors.T
        return product.toarray() if issparse(product) else product
    xp = namespace(X)
    if X.dtype != anchors.dtype:
        wide = xp.result_type(X.dtype, anchors.dtype)
        X, anchors = astype(X, wide), astype(anchors, wide)
    return X @ anchors.T


def sums_of_squares(X):
    """Return the squared norm of each row, as a 1-D array."""
    if issparse(X):
        return np.asarray(X.multiply(X).sum(axis=1)).ravel()
    return namespace(X).sum(X * X, axis=1)


def row_peaks(X):
    """Return the largest absolute entry of each row, as a column."""
    if issparse(X):
        return abs(X).max(axis=1).todense().reshape(-1, 1)
    xp = namespace(X)
    return xp.max(xp.abs(X), axis=1, keepdims=True)


def peak(X):
    """Return the largest absolute entry, or 1 if all entries are 0.

    In units of it, squares of the entries neither overflow nor underflow together.
    """
    return float(namespace(X).max(row_peaks(X))) or 1.0


def power_of_two(peaks):
    """Return the power of two next to each number from below; 1 for a 0.

    As units they cost no rounding.

    Parameters
    ----------
    peaks : ndarray or float
        Finite numbers >= 0.

    Returns
    -------
    ndarray or float
        Powers of two, in float64.
    """
    return np.where(peaks > 0, np.exp2(np.frexp(peaks)[1] - 1.0), 1.0)[()]


def divide_rows(X, column):
    """Divide each row by its entry of a column; a divisor of 0 counts as 1."""
    xp = namespace(X)
    column = xp.where(column > 0, column, xp.ones_like(column))
    if not issparse(X):
        return X / column
    values = X.data / np.repeat(column[:, 0], np.diff(X.indptr))
    return csr_array((values, X.indices, X.indptr), shape=X.shape)


def directions(X):
    """Scale rows to norm 1; also return which rows have a direction, being not zero.

    Rows are first divided by their largest entry, so that rows of every scale keep
    their digits.
    """
    peaks = row_peaks(X)
    X = divide_rows(X, peaks)
    norms = namespace(X).sqrt(sums_of_squares(X))[:, None]
    return divide_rows(X, norms), peaks[:, 0] > 0


def centred_directions(X, eps):
    """Subtract from each row its mean and scale it to norm 1, in float64.

    Rows that vary only by rounding, in units of `eps`, have no direction and become 0.
    """
    xp = namespace(X)
    X = astype(X, xp.float64)
    X = divide_rows(X, row_peaks(X))
    X = X - xp.mean(X, axis=1, keepdims=True)
    X = X - xp.mean(X, axis=1, keepdims=True)  # the rounding of the mean
    constant = row_peaks(X) <= ROUNDINGS * eps
    return directions(xp.where(constant, xp.zeros_like(X), X))


def replace_rows(values, rows, wide):
    """Write float64 rows into an array; all becomes float64 if its dtype is too small.

    `values` is overwritten where its dtype can hold the new rows.
    """
    info, sizes = np.finfo(values.dtype), np.abs(wide[wide != 0])
    if sizes.size and not info.tiny <= sizes.min() <= sizes.max() <= info.max:
        values = values.astype(wide.dtype)
    values[rows] = wide
    return values
