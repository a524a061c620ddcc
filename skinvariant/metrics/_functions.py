"""The registered metrics: each a function of rows and anchors, and what it ignores.

The decorator above each function declares all that the package knows about it.
"""

from numbers import Real

import numpy as np

from skinvariant._validation import check_number
from skinvariant.metrics import _differences, _frames, _graphs, _products, _rows
from skinvariant.metrics._registry import METRICS, Family, pairwise, register

PRODUCTS = Family(_products.prepare_products, _products.compare_products)
DIFFERENCES = Family(_differences.prepare_differences, _differences.compare_differences)


@register(
    family=PRODUCTS,
    larger_is_closer=True,
    invariances=("isotropic_scaling", "orthogonal"),
    sparse=True,
    array_api=True,
    preparation=_products.prepare_cosine,
    comparison=_products.compare_cosine,
    inverse=_frames.rows_from_cosine,
)
def cosine(X, anchors):
    r"""Cosine similarity, :math:`x \cdot a / (\|x\| \|a\|)`.

    This is the relative representation of Moschella et al., "Relative representations
    enable zero-shot latent space communication", ICLR 2023 (arXiv 2209.15430).

    Parameters
    ----------
    X : {array-like, CSR matrix} of shape (n_samples, n_features)
        Rows.  A zero row has no direction: its similarity to every anchor is 0, with
        a warning.
    anchors : {array-like, CSR matrix} of shape (n_anchors, n_features)
        Anchors.

    Returns
    -------
    ndarray of shape (n_samples, n_anchors)
        Similarities in [-1, 1] within rounding; larger means closer.

    Raises
    ------
    ValueError
        If all anchors are zero, widths differ or values are not finite.

    Examples
    --------
    >>> from skinvariant.metrics import cosine
    >>> cosine([[1e-30, 0.0]], [[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]]).tolist()
    [[1.0, 0.0, -1.0]]
    """
    return pairwise("cosine", X, anchors)


@register(
    family=PRODUCTS,
    invariances=("isotropic_scaling", "orthogonal"),
    sparse=True,
    array_api=True,
    preparation=_products.prepare_angular,
    comparison=_products.compare_angular,
)
def angular(X, anchors):
    r"""Angle as a part of the half circle, :math:`\arccos(\cos(x, a)) / \pi`.

    It is computed from the chord between unit rows, so that small angles keep their
    digits and the angle of a row to itself is 0.

    Parameters
    ----------
    X : {array-like, CSR matrix} of shape (n_samples, n_features)
        Rows.  A zero row has no direction: it gets 0.5, a right angle, to every
        anchor, with a warning.
    anchors : {array-like, CSR matrix} of shape (n_anchors, n_features)
        Anchors.

    Returns
    -------
    ndarray of shape (n_samples, n_anchors)
        Distances in [0, 1].

    Raises
    ------
    ValueError
        If all anchors are zero, widths differ or values are not finite.

    Examples
    --------
    >>> from skinvariant.metrics import angular
    >>> angular([[1.0, 0.0]], [[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]]).round(12).tolist()
    [[0.0, 0.5, 1.0]]
    """
    return pairwise("angular", X, anchors)


@register(
    larger_is_closer=True,
    invariances=("isotropic_scaling", "permutation"),
    array_api=True,
    preparation=_products.prepare_correlation,
    comparison=_products.compare_correlation,
)
def correlation(X, anchors):
    r"""Pearson correlation over features, :math:`\cos(x - \bar x, a - \bar a)`.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows.  A constant row has no correlation: it gets 0 to every anchor, with a
        warning.
    anchors : array-like of shape (n_anchors, n_features)
        Anchors.

    Returns
    -------
    ndarray of shape (n_samples, n_anchors)
        Similarities in [-1, 1] within rounding; larger means closer.

    Raises
    ------
    ValueError
        If all anchors are constant, widths differ or values are not finite.

    Examples
    --------
    >>> from skinvariant.metrics import correlation
    >>> correlation([[1.0, 2.0, 3.0]], [[10.0, 20.0, 30.0]]).round(12).tolist()
    [[1.0]]
    """
    return pairwise("correlation", X, anchors)


@register(
    family=PRODUCTS,
    larger_is_closer=True,
    invariances=("orthogonal",),
    homogeneous=True,
    sparse=True,
    array_api=True,
    preparation=_products.prepare_inner,
    comparison=_rows.inner_products,
    inverse=_frames.rows_from_inner,
)
def inner(X, anchors):
    r"""Inner product, :math:`x \cdot a`.

    Parameters
    ----------
    X : {array-like, CSR matrix} of shape (n_samples, n_features)
        Rows.
    anchors : {array-like, CSR matrix} of shape (n_anchors, n_features)
        Anchors.

    Returns
    -------
    ndarray of shape (n_samples, n_anchors)
        Similarities, unbounded; larger means closer.

    Raises
    ------
    ValueError
        If widths differ or values are not finite.

    Examples
    --------
    >>> from skinvariant.metrics import inner
    >>> inner([[1.0, 2.0]], [[3.0, 4.0]]).tolist()
    [[11.0]]
    """
    return pairwise("inner", X, anchors)


@register(
    family=PRODUCTS,
    invariances=("orthogonal", "translation"),
    homogeneous=True,
    sparse=True,
    array_api=True,
    preparation=_products.prepare_euclidean,
    comparison=_products.compare_euclidean,
    inverse=_frames.rows_from_euclidean,
)
def euclidean(X, anchors):
    r"""Euclidean distance, :math:`\|x - a\|_2`.

    Parameters
    ----------
    X : {array-like, CSR matrix} of shape (n_samples, n_features)
        Rows.
    anchors : {array-like, CSR matrix} of shape (n_anchors, n_features)
        Anchors.

    Returns
    -------
    ndarray of shape (n_samples, n_anchors)
        Distances, >= 0.

    Raises
    ------
    ValueError
        If widths differ or values are not finite.

    Notes
    -----
    The mean of the anchors is subtracted, and the square is expanded into norms and
    inner products; pairs for which the expansion cancels are computed from their
    differences.  A row equal to an anchor is at distance 0, also far from the origin.

    Examples
    --------
    >>> from skinvariant.metrics import euclidean
    >>> euclidean([[1e8, 1e8]], [[1e8, 1e8], [1e8 + 3, 1e8 + 4]]).tolist()
    [[0.0, 5.0]]
    """
    return pairwise("euclidean", X, anchors)


@register(
    family=PRODUCTS,
    invariances=("orthogonal", "translation"),
    homogeneous=True,
    sparse=True,
    array_api=True,
    preparation=_products.prepare_euclidean,
    comparison=_products.compare_sqeuclidean,
    inverse=_frames.rows_from_sqeuclidean,
)
def sqeuclidean(X, anchors):
    r"""Squared Euclidean distance, :math:`\|x - a\|_2^2`.

    Parameters
    ----------
    X : {array-like, CSR matrix} of shape (n_samples, n_features)
        Rows.
    anchors : {array-like, CSR matrix} of shape (n_anchors, n_features)
        Anchors.

    Returns
    -------
    ndarray of shape (n_samples, n_anchors)
        Squared distances, >= 0.

    Raises
    ------
    ValueError
        If widths differ or values are not finite.

    Examples
    --------
    >>> from skinvariant.metrics import sqeuclidean
    >>> sqeuclidean([[0.0, 0.0]], [[3.0, 4.0]]).tolist()
    [[25.0]]
    """
    return pairwise("sqeuclidean", X, anchors)


@register(
    family=DIFFERENCES,
    invariances=("translation", "signed_permutation"),
    homogeneous=True,
    sparse=True,
    array_api=True,
    preparation=_differences.prepare_nothing,
    comparison=_differences.compare_manhattan,
)
def manhattan(X, anchors):
    r"""Manhattan (L1) distance, :math:`\sum_i |x_i - a_i|`.

    Parameters
    ----------
    X : {array-like, CSR matrix} of shape (n_samples, n_features)
        Rows.
    anchors : {array-like, CSR matrix} of shape (n_anchors, n_features)
        Anchors.

    Returns
    -------
    ndarray of shape (n_samples, n_anchors)
        Distances, >= 0.

    Raises
    ------
    ValueError
        If widths differ or values are not finite.

    Examples
    --------
    >>> from skinvariant.metrics import manhattan
    >>> manhattan([[0.0, 0.0]], [[3.0, 4.0]]).tolist()
    [[7.0]]
    """
    return pairwise("manhattan", X, anchors)


@register(
    family=DIFFERENCES,
    invariances=("translation", "signed_permutation"),
    homogeneous=True,
    array_api=True,
    preparation=_differences.prepare_nothing,
    comparison=_differences.compare_chebyshev,
)
def chebyshev(X, anchors):
    r"""Chebyshev (L-infinity) distance, :math:`\max_i |x_i - a_i|`.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows.
    anchors : array-like of shape (n_anchors, n_features)
        Anchors.

    Returns
    -------
    ndarray of shape (n_samples, n_anchors)
        Distances, >= 0.

    Raises
    ------
    ValueError
        If widths differ or values are not finite.

    Examples
    --------
    >>> from skinvariant.metrics import chebyshev
    >>> chebyshev([[0.0, 0.0]], [[3.0, 4.0]]).tolist()
    [[4.0]]
    """
    return pairwise("chebyshev", X, anchors)


# minkowski of these orders is a metric with a name of its own
_SPECIAL_ORDERS = {1.0: "manhattan", 2.0: "euclidean", np.inf: "chebyshev"}


def _prepare_minkowski(anchors, p=2.0):
    p = float(check_number("metric_params p of minkowski", p, Real, 1, np.inf))
    name = _SPECIAL_ORDERS.get(p)
    return anchors, p, () if name is None else METRICS[name].prepare(anchors)


def _compare_minkowski(X, anchors, p, prepared):
    if p in _SPECIAL_ORDERS:
        return METRICS[_SPECIAL_ORDERS[p]].compare(X, prepared)
    return _differences.minkowski_distances(X, anchors, p)


def _minkowski_invariances(anchors, p, prepared):
    return {"translation", "orthogonal" if p == 2 else "signed_permutation"}


@register(
    invariances=("orthogonal", "translation"),
    homogeneous=True,
    preparation=_prepare_minkowski,
    comparison=_compare_minkowski,
    fitted_invariances=_minkowski_invariances,
)
def minkowski(X, anchors, p=2.0):
    r"""Minkowski (Lp) distance, :math:`(\sum_i |x_i - a_i|^p)^{1/p}`.

    `p=1` is `manhattan`, `p=2` `euclidean`, `p=inf` `chebyshev`.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows.
    anchors : array-like of shape (n_anchors, n_features)
        Anchors.
    p : float in [1, inf], default=2.0
        The order.

    Returns
    -------
    ndarray of shape (n_samples, n_anchors)
        Distances, >= 0.

    Raises
    ------
    ValueError
        If `p` is below 1, widths differ or values are not finite.

    Examples
    --------
    >>> from skinvariant.metrics import minkowski
    >>> minkowski([[0.0, 0.0]], [[3.0, 4.0]], p=3).round(4).tolist()
    [[4.4979]]
    """
    return pairwise("minkowski", X, anchors, p=p)


@register(
    invariances=("affine",),
    preparation=_frames.prepare_mahalanobis,
    comparison=_frames.compare_mahalanobis,
    fitted_invariances=_frames.mahalanobis_invariances,
    decides_rank=True,
)
def mahalanobis(X, anchors, shrinkage=0.0):
    r"""Mahalanobis distance, :math:`\sqrt{(x - a)^T S^{-1} (x - a)}`.

    S is the covariance of the anchors.  It equals `euclidean` after whitening.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows.
    anchors : array-like of shape (n_anchors, n_features)
        Anchors, of which at least two differ.
    shrinkage : float in [0, 1], default=0.0
        Part of S that is replaced by a multiple of the identity, see `whitening`.
        0: invariant to every affine map if S has full rank, which needs more anchors
        than features; otherwise the pseudo-inverse is used, and only the invariances
        to scaling, rotation and translation of the origin remain.  1: `euclidean`, in
        units of the anchors' spread.

    Returns
    -------
    ndarray of shape (n_samples, n_anchors)
        Distances, >= 0.

    Raises
    ------
    ValueError
        If all anchors are equal, widths differ or values are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.metrics import mahalanobis
    >>> rng = np.random.default_rng(0)
    >>> anchors, A = rng.standard_normal((10, 3)), rng.standard_normal((3, 3))
    >>> moved = mahalanobis(anchors @ A + 7, anchors @ A + 7)
    >>> mahalanobis(anchors, anchors)[0, :3].round(4).tolist()
    [0.0, 1.225, 2.7822]
    >>> moved[0, :3].round(4).tolist()
    [0.0, 1.225, 2.7822]
    """
    return pairwise("mahalanobis", X, anchors, shrinkage=shrinkage)


@register(
    larger_is_closer=True,
    invariances=("linear",),
    preparation=_frames.prepare_change_of_basis,
    comparison=_frames.compare_change_of_basis,
    fitted_invariances=_frames.change_of_basis_invariances,
    inverse=_frames.rows_from_change_of_basis,
    decides_rank=True,
)
def change_of_basis(X, anchors, alpha=0.0):
    r"""Coordinates in the frame of the anchors, by ridge-regularised least squares.

    The coordinates c minimise :math:`\|x - c A\|^2 + \lambda \|c\|^2`, where the
    anchors are the rows of A and :math:`\lambda` is `alpha` times the mean squared norm
    of the anchors; for `alpha=0` the shortest solution, :math:`c = x A^+`.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows.
    anchors : array-like of shape (n_anchors, n_features)
        Anchors.
    alpha : float >= 0, default=0.0
        Regularisation.  0: invariant to every invertible linear map if the anchors
        span the space.  Large: c is proportional to the inner products.

    Returns
    -------
    ndarray of shape (n_samples, n_anchors)
        Coordinates, unbounded; larger means closer.

    Raises
    ------
    ValueError
        If all anchors are zero, widths differ or values are not finite.

    Examples
    --------
    >>> from skinvariant.metrics import change_of_basis
    >>> change_of_basis([[3.0, 4.0]], [[1.0, 0.0], [0.0, 2.0]]).round(12).tolist()
    [[3.0, 2.0]]
    """
    return pairwise("change_of_basis", X, anchors, alpha=alpha)


@register(
    invariances=("orthogonal", "translation"),
    homogeneous=True,
    preparation=_graphs.prepare_geodesic,
    comparison=_graphs.compare_geodesic,
    needs_rows=True,
)
def geodesic(X, anchors, rows=None, n_neighbors=10):
    r"""Length of the shortest path along the rows of the space.

    Rows that lie on a bent surface are compared along the surface, and not through the
    space around it.  These distances of Isomap [1]_ do not change when the surface is
    bent otherwise, without being stretched.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows.
    anchors : array-like of shape (n_anchors, n_features)
        Anchors.
    rows : array-like of shape (n_rows, n_features), default=None
        A sample of the space, without labels, that shows its shape: a few thousand
        rows.  All pairs are compared, which takes 8 bytes for each several times over.
        None: the anchors alone.
    n_neighbors : int, default=10
        With how many of its nearest rows each row is joined.  Few: paths stay on the
        surface.  Many: they become straight lines, and the metric `euclidean`.

    Returns
    -------
    ndarray of shape (n_samples, n_anchors)
        Distances, >= 0.

    Raises
    ------
    ValueError, TypeError
        If `n_neighbors` is not as documented, widths differ or values are not finite.

    Notes
    -----
    Anchors and rows are the nodes of a graph, equal ones a single node.  Two are joined
    by an edge as long as their Euclidean distance if one is among the other's
    `n_neighbors` nearest.  Ties, to one part in a million, count all.  If the graph has
    several parts, each two parts are joined at their nearest pair.  A row that is not
    in the graph goes to whichever of its `n_neighbors` nearest nodes makes the path
    shortest; one that is has its own path.

    Unlike the other metrics' values, these jump: a small change of a row may change
    which nodes are the nearest.

    References
    ----------
    .. [1] J. B. Tenenbaum, V. de Silva and J. C. Langford, "A Global Geometric
       Framework for Nonlinear Dimensionality Reduction", Science 290, 2000.

    Examples
    --------
    The ends of a half circle are two radii apart, and half its circumference along it:

    >>> import numpy as np
    >>> from skinvariant.metrics import euclidean, geodesic
    >>> angles = np.linspace(0, np.pi, 100)
    >>> arc = np.c_[np.cos(angles), np.sin(angles)]
    >>> euclidean(arc[:1], arc[-1:]).round(4).tolist()
    [[2.0]]
    >>> geodesic(arc[:1], arc[-1:], arc, n_neighbors=2).round(4).tolist()
    [[3.1414]]
    """
    return pairwise("geodesic", X, anchors, rows=rows, n_neighbors=n_neighbors)
