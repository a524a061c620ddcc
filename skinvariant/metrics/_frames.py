"""Metrics in the frame of the anchors, by least squares, and their inverses.

Whitening and the coordinates of a row in the frame of the anchors follow from one
singular value decomposition; so does the way back from relative values to rows.
"""

from numbers import Real

import numpy as np

from skinvariant._validation import (
    as_float,
    astype,
    check_number,
    in_numpy,
    namespace,
    svd,
)
from skinvariant.metrics._products import compare_euclidean, prepare_euclidean
from skinvariant.metrics._rows import (
    ROUNDINGS,
    directions,
    inner_products,
    peak,
    sums_of_squares,
)


def _beyond_rounding(singular, axes, noise, eps):
    """Whether anchors vary along each axis by more than the rounding of the columns."""
    least = np.maximum(singular[0] * eps, np.linalg.norm(axes * noise, axis=1))
    return singular > max(len(singular), axes.shape[1]) * least


def whitening(anchors, shrinkage=0.0):
    """Return the mean of the anchors and the matrix that whitens them.

    ``(anchors - mean) @ matrix`` has the identity as its covariance on the span of
    the centred anchors.  Of all such matrices this is the symmetric one, the inverse
    square root of the covariance, which changes the space least.

    Parameters
    ----------
    anchors : ndarray of shape (n_anchors, n_features)
        The anchors.
    shrinkage : float in [0, 1], default=0.0
        How much of the covariance S is replaced by a multiple of the identity:
        ``(1 - shrinkage) * S + shrinkage * trace(S) / n_features * I``, as in
        `sklearn.covariance.shrunk_covariance`.  0: nothing, and directions in which
        the anchors do not vary are dropped.  1: only the scale is removed.

    Returns
    -------
    mean : ndarray of shape (n_features,), dtype float64
        Mean of the anchors.
    matrix : ndarray of shape (n_features, n_features), dtype float64
        The whitening matrix, symmetric.
    full_rank : bool
        Whether the covariance of the anchors, before shrinkage, has full rank.

    Raises
    ------
    ValueError
        If all anchors are equal, or `shrinkage` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.metrics import whitening
    >>> rng = np.random.default_rng(0)
    >>> anchors = rng.standard_normal((50, 3)) @ rng.standard_normal((3, 3)) + 5
    >>> mean, matrix, full_rank = whitening(anchors)
    >>> full_rank
    True
    >>> np.cov((anchors - mean) @ matrix, rowvar=False).round(12).trace()
    np.float64(3.0)
    """
    return _whitening(anchors, shrinkage, 0.0)


def _whitening(anchors, shrinkage, rounding):
    """Do the work of `whitening` on values that may be off by the rounding."""
    check_number("shrinkage", shrinkage, Real, 0, 1)
    anchors = as_float(in_numpy("anchors", anchors))
    n_anchors, n_features = anchors.shape
    eps = np.finfo(anchors.dtype).eps
    centred = anchors.astype(np.float64)
    mean = centred.mean(axis=0)
    centred = centred - mean
    # a constant column, once centred, is the rounding of its mean
    noise = np.finfo(np.float64).eps * np.abs(mean)
    varies = np.abs(centred).max(axis=0) > ROUNDINGS * noise
    if not varies.any():
        raise ValueError(
            "the covariance of the anchors is zero: they must differ from each other; "
            f"got {n_anchors} equal ones (n_samples={n_anchors})"
        )
    unit = np.abs(centred[:, varies]).max()
    _, singular, axes = svd(centred[:, varies] / unit, full_matrices=False)
    noise = np.maximum(eps * np.abs(anchors).max(axis=0), rounding)[varies] / unit
    kept = _beyond_rounding(singular, axes, noise, eps)
    basis = np.zeros((kept.sum(), n_features))
    basis[:, varies] = axes[kept]
    variances = singular[kept] ** 2 / (n_anchors - 1)
    common = shrinkage * variances.sum() / n_features
    inverse = 1 / np.sqrt((1 - shrinkage) * variances + common)
    outside = 1 / np.sqrt(common) if common > 0 else 0.0
    matrix = (basis.T * (inverse - outside)) @ basis
    matrix[np.diag_indices(n_features)] += outside
    return mean, matrix / unit, bool(kept.sum() == n_features)


def prepare_mahalanobis(anchors, shrinkage=0.0, *, rounding=0.0):
    """Whiten the anchors, and prepare Euclidean distances between whitened rows."""
    mean, matrix, full_rank = _whitening(anchors, shrinkage, rounding)
    exact = full_rank and shrinkage == 0
    return mean, matrix, exact, *prepare_euclidean((anchors - mean) @ matrix)


def compare_mahalanobis(X, mean, matrix, exact, *euclidean):
    """Compute Euclidean distances between whitened rows and anchors."""
    return compare_euclidean((X - mean) @ matrix, *euclidean)


def mahalanobis_invariances(mean, matrix, exact, *euclidean):
    """Return what is unchanged: all affine maps, if the covariance has full rank."""
    return {"affine"} if exact else {"isotropic_scaling", "orthogonal", "translation"}


def prepare_change_of_basis(anchors, alpha=0.0, *, rounding=0.0):
    """Compute the dual of the anchors: ridge-regularised least squares."""
    check_number("metric_params alpha of change_of_basis", alpha, Real, 0)
    n_anchors, n_features = anchors.shape
    unit = np.abs(anchors).max()
    if unit == 0:
        raise ValueError(
            "metric 'change_of_basis' needs anchors that are not zero; got zero rows "
            f"only (after `pre`, if any): n_samples={n_anchors}, "
            f"n_features={n_features}"
        )
    left, singular, right = svd(anchors.astype(np.float64) / unit, full_matrices=False)
    noise = np.broadcast_to(rounding / unit, n_features)
    kept = _beyond_rounding(singular, right, noise, np.finfo(anchors.dtype).eps)
    left, singular, right = left[:, kept], singular[kept], right[kept]
    ridge = alpha * (singular**2).sum() / n_anchors
    dual = (left * (singular / (singular**2 + ridge))) @ right
    return dual / unit, bool(alpha == 0 and kept.sum() == n_features)


def compare_change_of_basis(X, dual, exact):
    """Multiply the rows with the dual of the anchors."""
    return inner_products(X, dual)


def change_of_basis_invariances(dual, exact):
    """Return what is unchanged: all linear maps, if the anchors span the space."""
    return {"linear"} if exact else {"isotropic_scaling", "orthogonal"}


# --- inverses: from relative values back to rows --------------------------------


def rows_from_inner(values, anchors, alpha, eps=None):
    """Find the rows whose inner products with the anchors are nearest to `values`.

    By ridge regression with `alpha` times the mean squared norm of the anchors as the
    penalty.  With 0, the shortest of the nearest rows.

    Parameters
    ----------
    values : array of shape (n_samples, n_anchors)
        Inner products.
    anchors : array of shape (n_anchors, n_features), float32 or float64
        The anchors.
    alpha : float
        The penalty, at least 0.
    eps : float, default=None
        Unit of rounding of the anchors.  None: that of their dtype.

    Returns
    -------
    array of shape (n_samples, n_features)
        The rows, in float64.
    """
    xp = namespace(anchors)
    eps = xp.finfo(anchors.dtype).eps if eps is None else eps
    unit = peak(anchors)
    left, singular, right = xp.linalg.svd(
        astype(anchors, xp.float64) / unit, full_matrices=False
    )
    kept = singular > singular[0] * max(anchors.shape) * eps
    ridge = alpha * xp.sum(singular**2) / anchors.shape[0]
    penalised = xp.where(kept, singular**2 + ridge, 1.0)
    factors = xp.where(kept, singular / penalised, 0.0)
    return ((astype(values, xp.float64) @ left) * factors) @ right / unit


def rows_from_cosine(values, anchors, alpha):
    """Find the directions of rows, and give them the mean length of the anchors."""
    xp = namespace(anchors)
    eps, unit = xp.finfo(anchors.dtype).eps, peak(anchors)
    anchors = astype(anchors, xp.float64)
    length = xp.mean(xp.sqrt(sums_of_squares(anchors / unit)))
    rows = rows_from_inner(values, directions(anchors)[0], alpha, eps)
    return directions(rows)[0] * length * unit


def rows_from_euclidean(values, anchors, alpha):
    """Find the rows at these distances from the anchors: trilateration.

    Squared distances minus their mean over the anchors are linear in the row.
    """
    xp = namespace(anchors)
    mean = xp.mean(astype(anchors, xp.float64), axis=0)
    centred = anchors - mean
    unit = peak(centred)
    centred, squares = centred / unit, (astype(values, xp.float64) / unit) ** 2
    squares = squares - xp.sum(centred**2, axis=1)
    products = (xp.mean(squares, axis=1, keepdims=True) - squares) / 2
    rows = rows_from_inner(products, centred, alpha, xp.finfo(anchors.dtype).eps)
    return mean + unit * rows


def rows_from_sqeuclidean(values, anchors, alpha):
    """Find the rows at these squared distances from the anchors."""
    xp = namespace(values)
    distances = xp.sqrt(xp.clip(values, 0, None))
    return rows_from_euclidean(distances, anchors, alpha)


def rows_from_change_of_basis(values, anchors, alpha):
    """Sum the anchors, weighted by coordinates; `alpha` is that of the metric."""
    return values @ anchors
