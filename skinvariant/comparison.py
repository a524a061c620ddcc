"""How alike two corresponding spaces are."""

import inspect
from dataclasses import dataclass
from functools import wraps
from numbers import Integral, Real
from typing import NamedTuple
from warnings import warn

import numpy as np
from scipy.spatial.distance import pdist
from scipy.stats import permutation_test, rankdata
from sklearn import get_config
from sklearn.metrics import pairwise_distances_chunked
from sklearn.metrics.pairwise import kernel_metrics, pairwise_kernels
from sklearn.neighbors import VALID_METRICS
from sklearn.utils import check_array, check_random_state, gen_batches

from skinvariant._correspondence import mismatched_rows
from skinvariant._energy import (
    compare_norms,
    distances_between,
    draw_subsets,
    energy_coefficients,
    fit_whitening,
    row_norms,
    share_reached,
    whiten,
)
from skinvariant._threads import one_blas_thread
from skinvariant._validation import (
    check_choice,
    check_corresponding,
    check_number,
    in_numpy,
    svd,
)
from skinvariant.metrics import euclidean, sqeuclidean, whitening
from skinvariant.metrics._rows import power_of_two
from skinvariant.relative import l2_normalize, layer_normalize
from skinvariant.relative._steps import standardization

__all__ = [
    "EncoderTest",
    "calibrated",
    "cka",
    "encoder_test",
    "mantel_test",
    "mean_canonical_correlation",
    "mean_reciprocal_rank",
    "mismatched_rows",
    "mutual_knn",
    "procrustes_distance",
    "rowwise_pearson",
    "rowwise_spearman",
    "space_agreement",
    "top_k_jaccard",
]

_SIMILARITY = frozenset(
    {
        "isotropic_scaling",
        "orthogonal",
        "translation",
        "permutation",
        "signed_permutation",
    }
)
_SCALING = frozenset({"isotropic_scaling"})

# The classes of `skinvariant.metrics.TRANSFORMATIONS` that leave a measure unchanged
# when applied to either of the two spaces: tuples of the measure's name, its
# parameters that are not the defaults, and the classes.
_INVARIANCES = (
    ("cka", {}, _SIMILARITY),
    ("cka", {"debiased": True}, _SIMILARITY),
    ("cka", {"kernel": "rbf"}, _SIMILARITY),
    ("cka", {"kernel": "cosine"}, _SIMILARITY - {"translation"}),
    ("procrustes_distance", {}, _SIMILARITY),
    (
        "mean_canonical_correlation",
        {},
        _SIMILARITY | {"axis_scaling", "linear", "affine"},
    ),
    ("mutual_knn", {}, _SIMILARITY - {"translation"}),
    ("mutual_knn", {"metric": "euclidean"}, _SIMILARITY),
    ("mean_reciprocal_rank", {}, _SCALING),
    ("mean_reciprocal_rank", {"metric": "euclidean"}, frozenset()),
    ("top_k_jaccard", {}, _SCALING),
    ("top_k_jaccard", {"metric": "euclidean"}, frozenset()),
    ("rowwise_pearson", {}, _SCALING),
    ("rowwise_spearman", {}, _SCALING),
)

_BLOCK_MIB = 24
# how many rows the median distance is computed from
_MEDIAN_ROWS = 2000
# one unrelated pair of spaces in this many exceeds the chance level
_ONE_IN = 20
# a difference below this is rounding
_ROUNDING = 1e-12
# directions whose length is at most this many rounding errors do not count
_ROUNDINGS = 8
# from a sum of singular values this near 1, subtraction leaves few digits
_NEAR = 1e-3
# kernels that are functions of inner products, and depend on the scale of a space
_OF_PRODUCTS = ("poly", "polynomial", "sigmoid")
_DISTANCES = dict.fromkeys(sorted(set(VALID_METRICS["brute"]) - {"precomputed"}))


# --- what all measures share ------------------------------------------------------


def _measure(by_order):
    """Turn a function of several orders of the rows of `X_b` into a measure.

    The function takes `X_a`, `X_b`, `orders` and the parameters of the measure, and
    returns the value of `X_a` and ``X_b[order]`` for each order: what does not depend
    on the order is computed once.  The measure takes the rows of `X_b` unchanged;
    `calibrated` calls the function itself, which is the attribute `by_order`.
    """
    signature = inspect.signature(by_order)
    kept = [part for part in signature.parameters.values() if part.name != "orders"]

    @wraps(by_order)
    def measure(X_a, X_b, **params):
        value = by_order(X_a, X_b, None, **params)[0]
        return value if np.ndim(value) else float(value)

    measure.by_order = by_order
    measure.__signature__ = signature.replace(parameters=kept)
    return measure


def _check_spaces(X_a, X_b, orders, *, min_rows, equal_width=False):
    """Return spaces that can be compared, and the orders; None: only that of `X_b`."""
    X_a, X_b = check_corresponding(X_a, X_b, min_rows=min_rows, equal_width=equal_width)
    for name, X in (("X_a", X_a), ("X_b", X_b)):
        if (X[0] == X).all():
            raise ValueError(
                f"{name} must not be constant, since similarity to a constant space is "
                f"undefined; got {len(X)} equal rows"
            )
    return X_a, X_b, np.arange(len(X_a))[np.newaxis] if orders is None else orders


def _limit_mib():
    return min(_BLOCK_MIB, get_config()["working_memory"])


def _batches(n_samples, n_numbers, least=1):
    """Yield slices of rows, of `n_numbers` float64 each, that fit in a block."""
    fitting = int(_limit_mib() * 2**20 // (8 * n_numbers))
    return gen_batches(n_samples, max(fitting, least))


# --- chance -----------------------------------------------------------------------


def calibrated(measure, X_a, X_b, *, n_permutations=99, random_state=None, **params):
    """Calibrate a measure: subtract the similarity that is due to chance.

    The chance level is found by permutations of the rows of `X_b`, after which no rows
    correspond: it is the value that one permutation in 20 exceeds.

    Parameters
    ----------
    measure : callable
        A measure of this module; or a function of `X_a`, `X_b` and `params` whose value
        is 1 for identical spaces and less for others, which is called for each
        permutation.
    X_a, X_b : array-like of shape (n_samples, n_features_a) and (n_samples, \
n_features_b)
        Corresponding spaces.
    n_permutations : int >= 19, default=99
        How many permutations.
    random_state : int, RandomState instance or None, default=None
        Seed of the permutations.
    **params : object
        Parameters of `measure`.

    Returns
    -------
    float
        In [0, 1].  For a similarity s with chance level q,
        ``max(0, (s - q) / (1 - q))``: larger is more alike, 1 for identical spaces, and
        0 is no more than chance.  For `procrustes_distance`, whose chance level q is
        the distance that one permutation in 20 falls below, ``min(1, d / q)``: 0 for
        identical spaces, and 1 is no nearer than chance.

    Raises
    ------
    ValueError, TypeError
        If the numbers of rows differ, unrelated spaces are as alike as identical ones,
        a parameter is not as documented, or `average` is False.

    Warns
    -----
    UserWarning
        As `measure` does.

    Notes
    -----
    A value above 0, or a distance below 1, is also a test of the hypothesis that the
    rows do not correspond, at the level of 5 %.  The measures of this module compute
    once what does not depend on the order of the rows.

    References
    ----------
    Gröger et al., "Revisiting the Platonic Representation Hypothesis: an Aristotelian
    view", 2026, arXiv 2602.14486.

    Examples
    --------
    Two unrelated spaces, wider than long:

    >>> import numpy as np
    >>> from skinvariant.comparison import calibrated, cka
    >>> rng = np.random.default_rng(0)
    >>> X_a, X_b = rng.standard_normal((2, 100, 1000))
    >>> round(cka(X_a, X_b), 2)
    0.91
    >>> round(calibrated(cka, X_a, X_b, random_state=0), 2)
    0.0
    >>> round(calibrated(cka, X_a, X_a + X_b, random_state=0, kernel="rbf"), 2)
    0.51
    """
    if not callable(measure):
        raise TypeError(f"measure must be a function of two spaces; got {measure!r}")
    check_number("n_permutations", n_permutations, Integral, _ONE_IN - 1)
    if not params.get("average", True):
        raise ValueError(
            "average must be True, since the mean over the rows is calibrated; got "
            f"average={params['average']!r}"
        )
    X_a, X_b = check_corresponding(X_a, X_b)
    random_state = check_random_state(random_state)
    permutations = [random_state.permutation(len(X_a)) for _ in range(n_permutations)]
    orders = np.stack([np.arange(len(X_a)), *permutations])
    if hasattr(measure, "by_order"):
        values = measure.by_order(X_a, X_b, orders, **params)
    else:
        most = np.finfo(np.float64).max
        values = [
            check_number(
                "the value of measure",
                measure(X_a, X_b[order], **params),
                Real,
                -most,
                most,
            )
            for order in orders
        ]
    found, null = values[0], np.sort(values[1:])
    n_beyond = (n_permutations + 1) // _ONE_IN
    distance = measure is procrustes_distance
    chance = null[n_beyond - 1] if distance else null[-n_beyond]
    scale = chance if distance else 1 - chance
    if scale <= _ROUNDING:
        raise ValueError(
            "unrelated spaces must be less alike than identical ones: take more rows, "
            f"or fewer columns, for example by PCA; got {chance} for both"
        )
    return float(
        min(1, found / scale) if distance else max(0, (found - chance) / scale)
    )


# --- spaces by their cross products -----------------------------------------------


@dataclass(frozen=True)
class _Centred:
    """A space minus its mean, in float64, computed by blocks of rows.

    The unit, one for all columns or one for each, is such that no square leaves the
    range of float64.
    """

    X: np.ndarray
    mean: np.ndarray
    unit: float | np.ndarray

    def rows(self, which):
        return (self.X[which] - self.mean) / self.unit

    @property
    def n_features(self):
        return self.X.shape[1]

    def batches(self, *, n_others=0, least=1):
        n_numbers = 2 * (self.n_features + n_others)
        return _batches(len(self.X), n_numbers, least)


def _centred(X, name, units=None):
    """Centre a space; if wider than long, rotate it into as many columns as rows.

    The unit is the largest deviation, unless `units` gives one for each column.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        mean = X.mean(axis=0, dtype=np.float64)
        space = _Centred(X, mean, 1.0)
        # a large mean leaves a remainder by rounding
        mean = mean + sum(space.rows(b).sum(axis=0) for b in space.batches()) / len(X)
        space = _Centred(X, mean, 1.0)
        unit = max(np.abs(space.rows(b)).max() for b in space.batches())
    if not 0 < unit < np.inf:
        raise ValueError(
            f"{name} must have deviations from its mean within the range of float64: "
            f"rescale it; got {unit}"
        )
    space = _Centred(X, mean, unit if units is None else units)
    if space.n_features <= len(X):
        return space
    turned = np.linalg.qr(space.rows(slice(None)).T, mode="r").T
    return _Centred(turned, np.zeros(len(X)), 1.0)


def _cross_product(space_a, space_b, order, map_a=None, map_b=None):
    """Return ``A.T @ B[order]``, after a linear map of each space if it is given."""
    total = 0
    for batch in space_a.batches(n_others=space_b.n_features):
        rows_a, rows_b = space_a.rows(batch), space_b.rows(order[batch])
        rows_a = rows_a if map_a is None else rows_a @ map_a
        rows_b = rows_b if map_b is None else rows_b @ map_b
        total = total + rows_a.T @ rows_b
    return total


def _squared_norms(space):
    """Return the squared norm of each centred row."""
    blocks = (space.rows(batch) for batch in space.batches())
    return np.concatenate([np.einsum("ij,ij->i", rows, rows) for rows in blocks])


def _exact_if_identical(values, best, X_a, X_b):
    """Set the first value to the best one if the spaces are identical."""
    if np.array_equal(X_a, X_b):
        values[0] = best
    return values


# --- centred kernel alignment -----------------------------------------------------


def _hsic(products, sums_k, sums_l, debiased):
    """Return the Hilbert-Schmidt independence criterion, up to a common factor.

    It is computed from the sum of K * L and the row sums of K and L; if `debiased`, the
    diagonals of K and L are zero.
    """
    n_samples = len(sums_k)
    both, totals = sums_k @ sums_l, sums_k.sum() * sums_l.sum()
    if debiased:
        n_pairs = (n_samples - 1) * (n_samples - 2)
        return products + totals / n_pairs - 2 / (n_samples - 2) * both
    return products + totals / n_samples**2 - 2 / n_samples * both


def _linear_products(X_a, X_b, orders, debiased):
    """Return the sums of K * L for each order, of K * K and L * L, and the row sums.

    The kernel of centred rows has row sums of 0, from which `debiased` takes the
    diagonal.
    """
    spaces = _centred(X_a, "X_a"), _centred(X_b, "X_b")
    diagonals = [debiased * _squared_norms(space) for space in spaces]

    def product(one, other, order):
        squares = np.square(_cross_product(spaces[one], spaces[other], order)).sum()
        return squares - diagonals[one] @ diagonals[other][order]

    crossed = [product(0, 1, order) for order in orders]
    own = [product(space, space, orders[0]) for space in (0, 1)]
    return crossed, own, [-diagonal for diagonal in diagonals]


def _kernel_products(tile_a, tile_b, orders, debiased):
    """Return the same as `_linear_products`, by tiles of the upper triangle."""
    n_samples = orders.shape[1]
    side = max(1, int(np.sqrt(_limit_mib() * 2**20 / 8)))
    batches = list(gen_batches(n_samples, side))
    crossed, own, sums = np.zeros(len(orders)), np.zeros(2), np.zeros((2, n_samples))

    def values_of(tile, order, rows, columns):
        values = tile(order[rows], order[columns])
        if debiased and rows == columns:
            np.fill_diagonal(values, 0)
        return values

    for number, rows in enumerate(batches):
        for columns in batches[number:]:
            times = 1 if rows == columns else 2
            tiles = [
                values_of(tile, orders[0], rows, columns) for tile in (tile_a, tile_b)
            ]
            for space, tile in enumerate(tiles):
                own[space] += times * np.vdot(tile, tile)
                sums[space, rows] += tile.sum(axis=1)
                if times == 2:
                    sums[space, columns] += tile.sum(axis=0)
            crossed[0] += times * np.vdot(*tiles)
            for place, order in enumerate(orders[1:], 1):
                tile = values_of(tile_b, order, rows, columns)
                crossed[place] += times * np.vdot(tiles[0], tile)
    return crossed, own, sums


def _kernel_tile(X, name, kernel, kernel_params, bandwidth, *, hold):
    """Return a function that computes the kernel of some rows with others.

    The mean of some values is subtracted, and the rest is divided by their size, which
    changes no estimate: if all rows are almost alike, most digits would be lost to the
    mean.  `hold`: the kernel is computed once, if it fits in memory.
    """
    params, named = dict(kernel_params or {}), kernel if isinstance(kernel, str) else ""

    def rows_of(which):
        rows = X[which].astype(np.float64)
        return l2_normalize(rows) if named == "cosine" else rows  # of any scale

    if named == "rbf" and "gamma" not in params:
        # around the mean of one row that is far away, others would lose their digits
        origin = np.median(X, axis=0).astype(np.float64)
        space = _Centred(X, origin, _centred(X, name).unit)
        some = np.linspace(0, len(X) - 1, min(len(X), _MEDIAN_ROWS)).astype(int)
        rows_of, median = space.rows, np.median(pdist(space.rows(some)))
        if median == 0:
            raise ValueError(
                f"{name} must have a median distance between rows that is not 0, or "
                "gamma must be in kernel_params; got more than half of the pairs of "
                f"rows of {name} equal"
            )
        params["gamma"] = 1 / (2 * (bandwidth * median) ** 2)
    if named == "cosine":
        rounding, first = _ROUNDINGS * np.finfo(X.dtype).eps, rows_of([0])
        blocks = (rows_of(batch) for batch in _batches(len(X), 2 * X.shape[1]))
        if all(np.abs(rows - first).max() <= rounding for rows in blocks):
            raise ValueError(
                f"the rows of {name} must differ in direction by more than rounding, "
                "since otherwise all are equally alike; got parallel rows"
            )

    peak = max(X.max(), -X.min())
    if named in _OF_PRODUCTS and peak > np.sqrt(np.finfo(np.float64).max / X.shape[1]):
        raise ValueError(
            f"{name} must have inner products within the range of float64 for the "
            f"kernel {kernel!r}: rescale it; got values up to {peak}"
        )

    def compute(rows, columns):
        rows, columns = rows_of(rows), rows_of(columns)
        if named == "cosine":
            # minus 1, which changes no estimate: near 1 no small differences are left
            defined = rows.any(axis=1)[:, None] & columns.any(axis=1)
            return np.where(defined, -0.5 * sqeuclidean(rows, columns), -1.0)
        with np.errstate(over="ignore", invalid="ignore"):
            if named == "rbf" and [*params] == ["gamma"]:
                # that of scikit-learn loses the digits of near rows
                values = np.exp(-params["gamma"] * sqeuclidean(rows, columns))
            else:
                values = pairwise_kernels(rows, columns, metric=kernel, **params)
        if not np.isfinite(values).all():
            raise ValueError(
                f"the kernel {kernel!r} must be finite; got inf or NaN for {name}"
            )
        return values

    values = compute(*2 * [np.arange(min(len(X), 100))])
    shift = values.mean()
    unit = power_of_two(np.abs(values - shift).max())
    if hold and 8 * len(X) ** 2 <= get_config()["working_memory"] * 2**20:
        whole = (compute(slice(None), slice(None)) - shift) / unit
        return lambda rows, columns: whole[np.ix_(rows, columns)]
    return lambda rows, columns: (compute(rows, columns) - shift) / unit


@_measure
def cka(
    X_a,
    X_b,
    orders,
    *,
    kernel="linear",
    kernel_params=None,
    bandwidth=1.0,
    debiased=False,
):
    """Centred kernel alignment: the cosine between two centred kernel matrices.

    It is large if the same pairs of samples are similar in both spaces.  By default the
    kernel is the inner product (linear CKA), for which one product of the two spaces
    takes the place of the kernel matrices.

    Parameters
    ----------
    X_a, X_b : array-like of shape (n_samples, n_features_a) and (n_samples, \
n_features_b)
        Corresponding spaces of at least 3 rows, 4 for `debiased`.
    kernel : str or callable, default="linear"
        A kernel of `sklearn.metrics.pairwise.pairwise_kernels`, computed by blocks.
    kernel_params : dict, default=None
        Parameters of `kernel`, for both spaces.  Not for "linear", which has none.
    bandwidth : float > 0, default=1.0
        Of "rbf": the standard deviation of the Gaussian as a fraction of the median
        distance between rows, in each space its own (of 2000 evenly spaced rows where
        there are more).  Kornblith et al. try 0.2 to 0.8.  ``gamma`` in `kernel_params`
        takes its place.
    debiased : bool, default=False
        Whether to leave out each row's comparison with itself, so that the estimates of
        both terms of the cosine have no bias.  The biased estimate is near 1 for any
        two spaces that are wider than long; this one is about 0 for unrelated ones.

    Returns
    -------
    float
        In [0, 1], `debiased` in [-1, 1]; larger is more alike, 1 for spaces that differ
        by a rotation, a translation and a factor.  These applied to either space leave
        it unchanged; for the cosine kernel, all but the translation.

    Raises
    ------
    ValueError, TypeError
        If the numbers of rows differ, a space is constant, all its rows are equally
        similar by the kernel, or a parameter is not as documented.

    See Also
    --------
    calibrated : Subtracts the similarity that is due to chance.
    mutual_knn : Compares near rows only.

    References
    ----------
    Kornblith et al., "Similarity of neural network representations revisited", ICML
    2019.  Debiased: Song et al., "Feature selection via dependence maximization", JMLR
    2012, equation 4; Murphy et al., "Correcting biased centered kernel alignment
    measures in biological and artificial neural networks", 2024, arXiv 2405.01012.

    Examples
    --------
    Two unrelated spaces, wider than long:

    >>> import numpy as np
    >>> from skinvariant.comparison import cka
    >>> rng = np.random.default_rng(0)
    >>> X_a, X_b = rng.standard_normal((2, 100, 1000))
    >>> round(cka(X_a, X_b), 2)
    0.91
    >>> round(cka(X_a, X_b, debiased=True), 2)
    0.02
    """
    if not callable(kernel):
        check_choice(
            "kernel", kernel, dict.fromkeys(kernel_metrics()), or_else="a callable"
        )
    check_number("bandwidth", bandwidth, Real, np.finfo(float).tiny, 1e100)
    min_rows = 4 if debiased else 3
    X_a, X_b, orders = _check_spaces(X_a, X_b, orders, min_rows=min_rows)
    if isinstance(kernel, str) and kernel == "linear":
        if kernel_params:
            raise ValueError(
                f"kernel_params must be None for the linear kernel; got {kernel_params}"
            )
        crossed, own, sums = _linear_products(X_a, X_b, orders, debiased)
    else:
        options = (kernel, kernel_params, bandwidth)
        tile_a = _kernel_tile(X_a, "X_a", *options, hold=False)
        tile_b = _kernel_tile(X_b, "X_b", *options, hold=len(orders) > 1)
        crossed, own, sums = _kernel_products(tile_a, tile_b, orders, debiased)
    lengths = []
    for name, products, sums_k in zip(("X_a", "X_b"), own, sums, strict=True):
        squared = _hsic(products, sums_k, sums_k, debiased)
        if squared <= _ROUNDING * products:
            raise ValueError(
                "the kernel must differ between pairs of rows; got a kernel for which "
                f"all rows of {name} are equally alike"
            )
        lengths.append(np.sqrt(squared))
    values = [
        _hsic(products, sums[0], sums[1][order], debiased)
        for products, order in zip(crossed, orders, strict=True)
    ]
    with np.errstate(invalid="ignore"):
        values = np.clip(np.array(values) / lengths[0] / lengths[1], -1, 1)
    if not np.isfinite([*values, *lengths]).all():
        raise ValueError(
            "the kernel must have values whose squares are within the range of "
            "float64, in units of their size among the first rows: rescale the "
            f"spaces, or leave out rows that are far from all others; got {values[0]}"
        )
    return _exact_if_identical(values, 1.0, X_a, X_b)


# --- the best map from one space to the other -------------------------------------


@_measure
def procrustes_distance(
    X_a,
    X_b,
    orders,
):
    """Distance that remains after the best rotation of one space onto the other.

    Both spaces are centred and scaled to Frobenius norm 1, and columns of zeros are
    added to the narrower one.  Then the distance is ``min ||A Q - B||`` over orthogonal
    Q.

    Parameters
    ----------
    X_a, X_b : array-like of shape (n_samples, n_features_a) and (n_samples, \
n_features_b)
        Corresponding spaces of at least 3 rows.

    Returns
    -------
    float
        In [0, sqrt(2)]; larger is less alike, 0 for spaces that differ by a rotation, a
        translation and a factor.  These applied to either space leave it unchanged.

    Raises
    ------
    ValueError, TypeError
        If the numbers of rows differ, a space is constant, or a parameter is not as
        documented.

    Notes
    -----
    The squared distance is 2 - 2 s, with s the sum of the singular values of
    ``A.T @ B``.  `scipy.spatial.procrustes` gives ``1 - s**2``, since it scales A once
    more after the rotation; other authors define the distance as 2 - 2 s.

    References
    ----------
    Schönemann, "A generalized solution of the orthogonal Procrustes problem",
    Psychometrika 1966.  As a distance of representations: Williams et al., "Generalized
    shape metrics on neural representations", NeurIPS 2021.

    Examples
    --------
    >>> from skinvariant.comparison import procrustes_distance
    >>> from skinvariant.datasets import make_related_spaces
    >>> rotated = make_related_spaces(transformation="orthogonal", random_state=0)
    >>> round(procrustes_distance(rotated.X_a, rotated.X_b), 6)
    0.0
    >>> stretched = make_related_spaces(transformation="axis_scaling", random_state=0)
    >>> round(procrustes_distance(stretched.X_a, stretched.X_b), 2)
    0.2
    """
    X_a, X_b, orders = _check_spaces(X_a, X_b, orders, min_rows=3)
    space_a, space_b = _centred(X_a, "X_a"), _centred(X_b, "X_b")
    norm_a, norm_b = (
        np.sqrt(_squared_norms(space).sum()) for space in (space_a, space_b)
    )
    values = np.empty(len(orders))
    for place, order in enumerate(orders):
        product = _cross_product(space_a, space_b, order) / norm_a / norm_b
        alike = svd(product, compute_uv=False).sum()
        if 1 - alike > _NEAR:
            values[place] = np.sqrt(2 - 2 * alike)
            continue
        # the difference of almost equal numbers has few digits: rotate and subtract
        width = max(product.shape)
        padded = np.zeros((width, width))
        padded[: product.shape[0], : product.shape[1]] = product
        left, _, right = svd(padded)
        rotation = (left @ right)[: product.shape[0]]
        squares = 0.0
        for batch in space_a.batches(n_others=width):
            gaps = space_a.rows(batch) / norm_a @ rotation
            gaps[:, : product.shape[1]] -= space_b.rows(order[batch]) / norm_b
            squares += np.vdot(gaps, gaps)
        values[place] = np.sqrt(squares)
    return _exact_if_identical(values, 0.0, X_a, X_b)


@_measure
def mean_canonical_correlation(
    X_a,
    X_b,
    orders,
):
    """Mean canonical correlation: how much of one space is a linear map of the other.

    Canonical correlations are those of the best matching directions of both spaces,
    however little variance these have (CCA).  Two spaces that are wide for their number
    of rows correlate by chance, so take many more rows than columns, or few principal
    components.

    Parameters
    ----------
    X_a, X_b : array-like of shape (n_samples, n_features_a) and (n_samples, \
n_features_b)
        Corresponding spaces of at least 3 rows.

    Returns
    -------
    float
        In [0, 1]; larger is more alike, 1 where the space of lower rank is a linear map
        of the other.  Any invertible affine map of either space leaves it unchanged.

    Raises
    ------
    ValueError, TypeError
        If the numbers of rows differ, a space is constant, or a parameter is not as
        documented.

    Warns
    -----
    UserWarning
        If a space has n_samples - 1 directions, as nearly any wider one has: then all
        its canonical correlations with any space are 1.

    Notes
    -----
    The number of correlations is the lower rank of the two.  Directions within the
    rounding of a space's own dtype do not count.

    References
    ----------
    Hotelling, "Relations between two sets of variates", Biometrika 1936; Björck and
    Golub, "Numerical methods for computing angles between linear subspaces", 1973, for
    the computation.  As a measure of representations: Kornblith et al., ICML 2019,
    equation 8.

    Examples
    --------
    >>> from skinvariant.comparison import mean_canonical_correlation
    >>> from skinvariant.datasets import make_related_spaces
    >>> spaces = make_related_spaces(transformation="affine", random_state=0)
    >>> round(mean_canonical_correlation(spaces.X_a, spaces.X_b), 6)
    1.0
    >>> noisy = make_related_spaces(noise=1.0, random_state=0)
    >>> round(mean_canonical_correlation(noisy.X_a, noisy.X_b), 2)
    0.43
    """
    X_a, X_b, orders = _check_spaces(X_a, X_b, orders, min_rows=3)
    (space_a, map_a), (space_b, map_b) = (
        _whitened(X, name) for X, name in ((X_a, "X_a"), (X_b, "X_b"))
    )
    values = []
    for order in orders:
        product = _cross_product(space_a, space_b, order, map_a, map_b)
        correlations = svd(product, compute_uv=False)
        values.append(np.minimum(correlations, 1).mean())
    return _exact_if_identical(np.array(values), 1.0, X_a, X_b)


def _whitened(X, name):
    """Return the centred space, and the map that makes its columns orthonormal.

    In units of each column's largest value all entries have the same rounding, however
    much the columns differ in scale.
    """
    peaks = np.maximum(X.max(axis=0), -X.min(axis=0)).astype(np.float64)
    space = _centred(X, name, power_of_two(peaks))
    factor = np.empty((0, space.n_features))
    for batch in space.batches(least=2 * space.n_features):
        factor = np.linalg.qr(np.vstack([factor, space.rows(batch)]), mode="r")
    _, singular, directions = svd(factor, full_matrices=False)
    rounding = np.finfo(X.dtype).eps * np.sqrt(X.shape).sum()
    rounding += np.finfo(np.float64).eps * singular[0]  # that of the decomposition
    kept = singular > _ROUNDINGS * rounding
    if not kept.any():
        raise ValueError(
            f"{name} must differ between rows by more than the rounding of {X.dtype}; "
            f"got rows that are constant within it"
        )
    if kept.sum() == len(X) - 1:
        warn(
            f"{name} has n_samples - 1 directions, so that all its correlations with "
            "any space are 1: take more rows, or fewer columns, for example by PCA",
            stacklevel=5,
        )
    return space, directions[kept].T / singular[kept]


# --- neighbours -------------------------------------------------------------------


def _comparable(metric, *spaces):
    """Return the metric that gives the same order with most digits, and its spaces.

    Where it can be, that is the Euclidean distance of rows that are changed first, for
    "mahalanobis" and "seuclidean" by what the last space makes of them.
    """
    if not callable(metric):
        check_choice("metric", metric, _DISTANCES, or_else="a callable")
    spaces = [X.astype(np.float64) for X in spaces]
    if not isinstance(metric, str):
        return metric, *spaces
    if metric in ("cosine", "correlation"):
        step = l2_normalize if metric == "cosine" else layer_normalize
        for X in spaces:
            for batch in _batches(len(X), 8 * X.shape[1]):
                X[batch] = step(X[batch])
            lacking = np.flatnonzero(~X.any(axis=1))
            if lacking.size:
                what = "zero" if metric == "cosine" else "constant"
                raise ValueError(
                    f"rows must not be {what}, since these have no direction: leave "
                    "them out of both spaces, or take metric='euclidean'; got "
                    f"{what} row {lacking[0]}"
                )
    elif metric == "mahalanobis":
        mean, matrix, _ = whitening(spaces[-1])
        spaces = [(X - mean) @ matrix for X in spaces]
    elif metric == "seuclidean":
        _, scale = standardization(spaces[-1])
        spaces = [X / scale for X in spaces]
    elif metric not in ("euclidean", "l2", "sqeuclidean", "nan_euclidean"):
        return metric, *spaces
    return "euclidean", *spaces


def _distances(metric, queries, rows):
    """Yield the distances of a block of queries from all rows."""
    if metric == "euclidean":  # that of scikit-learn loses the digits of near rows
        tiles = list(_batches(len(rows), 16 * rows.shape[1], least=256))
        blocks = (
            np.hstack([euclidean(queries[batch], rows[tile]) for tile in tiles])
            for batch in _batches(len(queries), 8 * len(rows), least=32)
        )
    else:
        blocks = pairwise_distances_chunked(
            queries, rows, metric=metric, working_memory=_limit_mib()
        )
    for distances in blocks:
        if not np.isfinite(distances).all():
            raise ValueError(
                f"the distances of metric {metric!r} must be finite: rescale the "
                "spaces, if their values are too large; got inf or NaN"
            )
        yield distances


def _nearest(metric, rows, n_neighbors, queries=None):
    """Return the indices of the rows nearest to each query, or to each other row."""
    nearest = []
    for distances in _distances(metric, rows if queries is None else queries, rows):
        if queries is None:  # a row is no neighbour of its own
            own = sum(map(len, nearest)) + np.arange(len(distances))
            distances[np.arange(len(distances)), own] = np.inf
        order = np.argpartition(distances, n_neighbors - 1, axis=1)
        nearest.append(order[:, :n_neighbors].copy())  # the rest is freed
    return np.concatenate(nearest)


def _n_common(indices, others):
    """Return how many entries two rows of distinct indices share."""
    both = np.sort(np.hstack([indices, others]), axis=1)
    return (both[:, 1:] == both[:, :-1]).sum(axis=1)


@_measure
def mutual_knn(
    X_a,
    X_b,
    orders,
    *,
    n_neighbors=10,
    metric="cosine",
    average=True,
):
    """Mutual nearest neighbours: the share of each row's neighbours in both spaces.

    Parameters
    ----------
    X_a, X_b : array-like of shape (n_samples, n_features_a) and (n_samples, \
n_features_b)
        Corresponding spaces of at least 3 rows.
    n_neighbors : int, default=10
        How many neighbours, less than n_samples - 1, the row itself not included.
    metric : str or callable, default="cosine"
        A metric of `sklearn.metrics.pairwise_distances`, in each space.
    average : bool, default=True
        Whether to return the mean over the rows.

    Returns
    -------
    float, or ndarray of shape (n_samples,) if not `average`
        In [0, 1]; larger is more alike, 1 if all neighbours are the same.  The expected
        value of unrelated spaces is n_neighbors / (n_samples - 1).  A rotation or a
        factor applied to either space leaves it unchanged; with the Euclidean metric
        also a translation.

    Raises
    ------
    ValueError, TypeError
        If the numbers of rows differ, a space is constant, a row has no direction, or a
        parameter is not as documented.

    Notes
    -----
    Among rows at the same distance any may be the neighbours: if many rows are equal,
    the value depends on their order.  The covariance of "mahalanobis" and the variances
    of "seuclidean" are those of each space, the former on the span of its rows.

    References
    ----------
    Huh et al., "The Platonic Representation Hypothesis", ICML 2024, appendix A.

    Examples
    --------
    >>> from skinvariant.comparison import mutual_knn
    >>> from skinvariant.datasets import make_related_spaces
    >>> spaces = make_related_spaces(transformation="orthogonal", random_state=0)
    >>> mutual_knn(spaces.X_a, spaces.X_b)
    1.0
    >>> noisy = make_related_spaces(noise=0.3, random_state=0)
    >>> round(mutual_knn(noisy.X_a, noisy.X_b), 2)
    0.49
    """
    X_a, X_b, orders = _check_spaces(X_a, X_b, orders, min_rows=3)
    check_number("n_neighbors", n_neighbors, Integral, 1, len(X_a) - 2)
    own, other = (
        _nearest(*_comparable(metric, X), n_neighbors=n_neighbors) for X in (X_a, X_b)
    )
    shares = []
    for order in orders:
        place = np.argsort(order)
        shares.append(_n_common(own, place[other[order]]) / n_neighbors)
    return np.mean(shares, axis=1) if average else shares


@_measure
def top_k_jaccard(
    X_a,
    X_b,
    orders,
    *,
    k=10,
    metric="cosine",
    average=True,
):
    """Mean Jaccard index of the nearest rows of corresponding rows.

    Each row of `X_a` and the corresponding row of `X_b` have k nearest rows in `X_b`,
    the latter itself included.  The score of the row is the size of the intersection of
    the two sets, divided by the size of their union.

    Parameters
    ----------
    X_a, X_b : array-like of shape (n_samples, n_features)
        Corresponding spaces with the same columns: relative spaces of parallel anchors.
        The neighbours are rows of `X_b`.
    k : int, default=10
        How many nearest rows, less than n_samples.
    metric : str or callable, default="cosine"
        A metric of `sklearn.metrics.pairwise_distances`.
    average : bool, default=True
        Whether to return the mean over the rows.

    Returns
    -------
    float, or ndarray of shape (n_samples,) if not `average`
        In [0, 1]; larger is more alike, 1 if the sets are always equal.  With the
        cosine, a factor applied to either space leaves it unchanged, and no other
        transformation does.

    Raises
    ------
    ValueError, TypeError
        If the numbers of rows or columns differ, a space is constant, a row has no
        direction, or a parameter is not as documented.

    See Also
    --------
    mutual_knn : For spaces of any widths.

    References
    ----------
    Moschella et al., "Relative representations enable zero-shot latent space
    communication", ICLR 2023, section 4.1.

    Examples
    --------
    >>> from skinvariant import RelativeProjector
    >>> from skinvariant.comparison import top_k_jaccard
    >>> from skinvariant.datasets import make_related_spaces
    >>> spaces = make_related_spaces(noise=0.1, random_state=0)
    >>> projector = RelativeProjector(50, random_state=0).fit(spaces.X_a)
    >>> rebased = projector.rebase(spaces.X_b[projector.anchor_indices_])
    >>> relative = projector.transform(spaces.X_a), rebased.transform(spaces.X_b)
    >>> round(top_k_jaccard(*relative), 2)
    0.81
    """
    X_a, X_b, orders = _check_spaces(X_a, X_b, orders, min_rows=2, equal_width=True)
    check_number("k", k, Integral, 1, len(X_a) - 1)
    metric, X_a, X_b = _comparable(metric, X_a, X_b)
    found, expected = (_nearest(metric, X_b, k, queries=X) for X in (X_a, X_b))
    common = np.stack([_n_common(found, expected[order]) for order in orders])
    scores = common / (2 * k - common)
    return scores.mean(axis=1) if average else scores


@_measure
def mean_reciprocal_rank(
    X_a,
    X_b,
    orders,
    *,
    metric="cosine",
    average=True,
):
    """Mean reciprocal rank of the corresponding row among all rows of the other space.

    The rows of `X_b` are ranked by their distance from row i of `X_a`.  The score of
    row i is 1 divided by the rank of the corresponding row.

    Parameters
    ----------
    X_a, X_b : array-like of shape (n_samples, n_features)
        Corresponding spaces with the same columns: relative spaces of parallel anchors.
        The neighbours are rows of `X_b`.
    metric : str or callable, default="cosine"
        A metric of `sklearn.metrics.pairwise_distances`.
    average : bool, default=True
        Whether to return the mean over the rows.

    Returns
    -------
    float, or ndarray of shape (n_samples,) if not `average`
        In (0, 1]; larger is more alike, 1 if the corresponding row is always the
        nearest.  Unrelated spaces have about ``log(n_samples) / n_samples``.  With the
        cosine, a factor applied to either space leaves it unchanged, and no other
        transformation does.

    Raises
    ------
    ValueError, TypeError
        If the numbers of rows or columns differ, a space is constant, a row has no
        direction, or a parameter is not as documented.

    Notes
    -----
    Rows at the same distance have the mean of their ranks.  So a row that occurs twice
    has the rank 1.5 at best, also in identical spaces.

    References
    ----------
    Moschella et al., "Relative representations enable zero-shot latent space
    communication", ICLR 2023, section 4.1.

    Examples
    --------
    >>> from skinvariant import RelativeProjector
    >>> from skinvariant.comparison import mean_reciprocal_rank
    >>> from skinvariant.datasets import make_related_spaces
    >>> spaces = make_related_spaces(noise=0.1, random_state=0)
    >>> projector = RelativeProjector(50, random_state=0).fit(spaces.X_a)
    >>> rebased = projector.rebase(spaces.X_b[projector.anchor_indices_])
    >>> relative = projector.transform(spaces.X_a), rebased.transform(spaces.X_b)
    >>> round(mean_reciprocal_rank(*relative), 2)
    0.9
    """
    X_a, X_b, orders = _check_spaces(X_a, X_b, orders, min_rows=2, equal_width=True)
    metric, X_a, X_b = _comparable(metric, X_a, X_b)
    ranks, start = np.empty(orders.shape), 0
    for distances in _distances(metric, X_a, X_b):
        rows = slice(start, start + len(distances))
        ranks[:, rows] = _ranks(distances, orders[:, rows])
        start = rows.stop
    return (1 / ranks).mean(axis=1) if average else 1 / ranks


def _ranks(distances, columns):
    """Return ranks, of shape (n_orders, n_rows), of columns in rows of distances."""
    chosen = np.take_along_axis(distances, columns.T, axis=1)
    if len(columns) == 1:
        before = (distances < chosen).sum(axis=1)
        until = (distances <= chosen).sum(axis=1)
        return (before + until + 1) / 2
    ordered = np.sort(distances, axis=1)
    ranks = [
        np.searchsorted(row, values, "left") + np.searchsorted(row, values, "right") + 1
        for row, values in zip(ordered, chosen, strict=True)
    ]
    return np.array(ranks).T / 2


# --- corresponding rows -----------------------------------------------------------


def _rowwise(X_a, X_b, orders, standardize, average):
    """Return mean correlations of corresponding rows, standardised by a function."""
    X_a, X_b, orders = _check_spaces(X_a, X_b, orders, min_rows=2, equal_width=True)
    check_number("the number of columns", X_a.shape[1], Integral, 2)
    if len(orders) > 1:  # once for all of them
        X_a, X_b = (
            np.concatenate(
                [standardize(X[b]) for b in _batches(len(X), 4 * X.shape[1])]
            )
            for X in (X_a, X_b)
        )
    scores = np.empty(orders.shape)
    for batch in _batches(len(X_a), 8 * X_a.shape[1]):
        rows_a = standardize(X_a[batch])
        for place, order in enumerate(orders):
            rows_b = standardize(X_b[order[batch]])
            products, squares_a, squares_b = (
                np.einsum("ij,ij->i", *pair)
                for pair in ((rows_a, rows_b), (rows_a, rows_a), (rows_b, rows_b))
            )
            with np.errstate(invalid="ignore"):  # rows of zeros have no correlation
                correlations = products / np.sqrt(squares_a * squares_b)
            scores[place, batch] = np.clip(correlations, -1, 1)
    undefined = np.isnan(scores[0]).sum()
    if undefined:
        warn(
            f"{undefined} rows are constant in one space or both, so that they have no "
            "correlation: they count as 0",
            stacklevel=4,
        )
    scores = np.nan_to_num(scores, nan=0.0)
    return scores.mean(axis=1) if average else scores


def _standardize(rows):
    return layer_normalize(rows.astype(np.float64))


def _standardize_ranks(rows):
    return layer_normalize(rankdata(rows, axis=1))


@_measure
def rowwise_pearson(
    X_a,
    X_b,
    orders,
    *,
    average=True,
):
    """Mean correlation of corresponding rows.

    Of relative spaces: whether a sample's comparisons with the anchors differ by no
    more than a factor and a shift.

    Parameters
    ----------
    X_a, X_b : array-like of shape (n_samples, n_features)
        Corresponding spaces with the same columns: relative spaces of parallel anchors.
    average : bool, default=True
        Whether to return the mean over the rows.

    Returns
    -------
    float, or ndarray of shape (n_samples,) if not `average`
        In [-1, 1]; larger is more alike, 1 if corresponding rows differ by a factor and
        a shift, which may be others for each row.  A factor applied to either space
        leaves it unchanged, and no other transformation does.

    Raises
    ------
    ValueError, TypeError
        If the numbers of rows or columns differ, a space is constant, or a parameter is
        not as documented.

    Warns
    -----
    UserWarning
        If rows are constant.  They have no correlation and count as 0.

    See Also
    --------
    calibrated : Subtracts the similarity that is due to chance.
    space_agreement : For the anchors themselves.

    References
    ----------
    Pearson, "Note on regression and inheritance in the case of two parents", 1895.

    Examples
    --------
    What all rows have in common correlates too, until chance is subtracted:

    >>> import numpy as np
    >>> from skinvariant.comparison import calibrated, rowwise_pearson
    >>> rng = np.random.default_rng(0)
    >>> common, unrelated = rng.standard_normal(50), rng.standard_normal((2, 200, 50))
    >>> X_a, X_b = 3 * common + unrelated
    >>> round(rowwise_pearson(X_a, X_b), 2)
    0.89
    >>> round(calibrated(rowwise_pearson, X_a, X_b, random_state=0), 2)
    0.0
    """
    return _rowwise(X_a, X_b, orders, _standardize, average)


@_measure
def rowwise_spearman(
    X_a,
    X_b,
    orders,
    *,
    average=True,
):
    """Mean rank correlation of corresponding rows.

    Of relative spaces: whether the anchors have the same order of similarity to a
    sample.

    Parameters
    ----------
    X_a, X_b : array-like of shape (n_samples, n_features)
        Corresponding spaces with the same columns: relative spaces of parallel anchors.
    average : bool, default=True
        Whether to return the mean over the rows.

    Returns
    -------
    float, or ndarray of shape (n_samples,) if not `average`
        In [-1, 1]; larger is more alike, 1 if corresponding rows have the same order.
        Equal values have the mean of their ranks.  A factor applied to either space
        leaves it unchanged, and so does any increasing function of its values.

    Raises
    ------
    ValueError, TypeError
        If the numbers of rows or columns differ, a space is constant, or a parameter is
        not as documented.

    Warns
    -----
    UserWarning
        If rows are constant.  They have no correlation and count as 0.

    References
    ----------
    Spearman, "The proof and measurement of association between two things", 1904.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.comparison import rowwise_pearson, rowwise_spearman
    >>> X = np.random.default_rng(0).standard_normal((200, 50))
    >>> round(rowwise_pearson(X, np.exp(3 * X)), 2)
    0.53
    >>> rowwise_spearman(X, np.exp(3 * X))
    1.0
    """
    return _rowwise(X_a, X_b, orders, _standardize_ranks, average)


def space_agreement(relative_a, relative_b):
    """Mean correlation of the anchors' relative vectors in two spaces.

    Parameters
    ----------
    relative_a, relative_b : ndarray of shape (n_anchors, n_columns)
        Each anchor compared with all of them, in either space; or the output of `post`
        for that.  If there are n_anchors columns, an anchor's comparison with itself is
        left out.

    Returns
    -------
    float
        In [0, 1]: 1 if each anchor's comparisons with the others differ by no more than
        a factor and a shift.  Negative correlations count as 0.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.comparison import space_agreement
    >>> from skinvariant.metrics import cosine
    >>> anchors = np.random.default_rng(0).standard_normal((30, 5))
    >>> turned, bent = anchors[:, ::-1], anchors**3
    >>> round(space_agreement(cosine(anchors, anchors), cosine(turned, turned)), 6)
    1.0
    >>> round(space_agreement(cosine(anchors, anchors), cosine(bent, bent)), 2)
    0.85
    """
    relative_a, relative_b = check_corresponding(
        relative_a, relative_b, equal_width=True
    )
    n_anchors, n_columns = relative_a.shape
    kept = np.ones((n_anchors, n_columns), dtype=bool)
    if n_anchors == n_columns:
        np.fill_diagonal(kept, False)
    rows_a, rows_b = (
        layer_normalize(relative[kept].reshape(n_anchors, -1))
        for relative in (relative_a, relative_b)
    )
    return float(np.maximum((rows_a * rows_b).mean(axis=1), 0).mean())


def mantel_test(X_a, X_b, *, n_permutations=199, random_state=0):
    """Permutation test of whether the rows of two spaces correspond.

    Mantel's test [1]_ correlates the cosines between the rows of either space, after
    centring, and compares this correlation with those for random orders of the rows of
    `X_b`.

    Parameters
    ----------
    X_a : array-like of shape (n_samples, n_features_a)
        Rows in one space, 3 or more.
    X_b : array-like of shape (n_samples, n_features_b)
        What should be the same samples, in the same order, in another.
    n_permutations : int, default=199
        How many random orders; every order once, where there are no more.
    random_state : int, RandomState instance or None, default=0
        Seed of the orders.

    Returns
    -------
    correlation : float
        In [-1, 1], of the cosines of all pairs of rows.
    p_value : float
        In (0, 1]: the share of orders, the given one among them, that correlate as
        well.  Under a wrong order it is at most p with probability p, so that small
        values are evidence for corresponding rows.

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
    >>> from skinvariant.comparison import mantel_test
    >>> from skinvariant.datasets import make_related_spaces
    >>> spaces = make_related_spaces(30, transformation="linear", random_state=0)
    >>> mantel_test(spaces.X_a, spaces.X_b)[1]
    0.005
    >>> mantel_test(spaces.X_a, spaces.X_b[::-1])[1]
    0.37
    """
    X_a, X_b = check_corresponding(X_a, X_b, min_rows=3)
    check_number("n_permutations", n_permutations, Integral, 1)
    pairs = ~np.eye(len(X_a), dtype=bool)
    spaces = [_centred(X, name) for name, X in (("X_a", X_a), ("X_b", X_b))]
    directions = [l2_normalize(space.rows(slice(None))) for space in spaces]
    cosines_a, cosines_b = (rows @ rows.T for rows in directions)
    for cosines in (cosines_a, cosines_b):
        cosines -= cosines[pairs].mean()
        norm = np.linalg.norm(cosines[pairs])
        cosines *= pairs / (norm if norm > 0 else 1)

    def correlations(orders, axis):
        orders = orders[..., np.newaxis]
        permuted = cosines_b[orders, orders.swapaxes(-1, -2)]
        return np.einsum("...ij,ij->...", permuted, cosines_a)

    found = permutation_test(
        (np.arange(len(X_a)),),
        correlations,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=n_permutations,
        batch=max(1, 2**18 // len(X_a) ** 2),
        alternative="greater",
        random_state=check_random_state(random_state),
    )
    return float(found.statistic), float(found.pvalue)


class EncoderTest(NamedTuple):
    """Result of `encoder_test`.

    Parameters
    ----------
    statistic : float
        In [0, 1]: how far the two sets of rows are apart.
    p_value : float
        In (0, 1]: small values are evidence for another encoder, or other data.
    norms : str
        What the norms show of a normalisation; empty where they are alike.
    """

    statistic: float
    p_value: float
    norms: str


def encoder_test(anchors, X, *, n_permutations=999, random_state=0):
    """Permutation test of whether rows are of the encoder that embedded the anchors.

    Two encoders of one width cannot be distinguished by their shapes.  The same holds
    for another prompt, pooling, truncation or preprocessing.

    Parameters
    ----------
    anchors : array-like of shape (n_anchors, n_features)
        Rows of the encoder, 10 or more: a random sample of such data as `X`.  300 or
        more are better.
    X : array-like of shape (n_samples, n_features)
        The rows in question, 4 or more: other samples, without labels.
    n_permutations : int, default=999
        How many random partitions of all rows.
    random_state : int, RandomState instance or None, default=0
        Seed of the partitions.

    Returns
    -------
    EncoderTest
        A named tuple of the ``statistic``, the ``p_value``, and ``norms``, a sentence
        on a normalisation that one of the two sets lacks, or "".

    Raises
    ------
    ValueError
        If the widths differ, a value is not finite, all rows are equal, or there are
        too few.

    See Also
    --------
    skinvariant.EncoderGuard : The same at serve time, in a Pipeline.

    Notes
    -----
    All rows are whitened together, with 3% of a multiple of the identity in the
    covariance.  The statistic is the energy coefficient [1]_ of the two sets.  The
    p value is the share of random partitions of all rows, the given one among them,
    with a statistic as large.

    The null hypothesis is that all rows are drawn alike.  Anchors that were chosen by
    "kmeans" or "farthest" are no random sample: pass other rows of the same encoder in
    their place, such as those that the model was fitted on.  A small p value does not
    say what the difference is: where the data have changed, it is small for the right
    encoder, too.  Test rows of the same samples to exclude that.

    References
    ----------
    .. [1] Székely and Rizzo, "Energy statistics: a class of statistics based on
       distances", Journal of Statistical Planning and Inference 143(8), 2013.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn.preprocessing import normalize
    >>> from skinvariant.comparison import encoder_test
    >>> X, X_live = train_test_split(load_digits().data, test_size=50, random_state=0)
    >>> anchors = X[:300]
    >>> encoder_test(anchors, X_live).p_value
    0.654
    >>> result = encoder_test(anchors, normalize(X_live))
    >>> result.p_value
    0.001
    >>> result.norms
    'these rows are normalised to norm 1, and the encoder has norms of 51.1 to 75.9'
    """
    anchors, X = (
        check_array(
            in_numpy(name, rows),
            dtype=[np.float64, np.float32],
            ensure_min_samples=least,
            input_name=name,
        )
        for name, rows, least in (("anchors", anchors, 10), ("X", X, 4))
    )
    check_number("n_permutations", n_permutations, Integral, 1)
    if anchors.shape[1] != X.shape[1]:
        raise ValueError(
            "X must have the columns of the anchors, or it is of another encoder; got "
            f"{X.shape[1]} columns in X and {anchors.shape[1]} in anchors"
        )
    rows = np.concatenate([X.astype(np.float64), anchors])
    if (rows[0] == rows).all():
        raise ValueError(
            "anchors and X must differ from each other, or there is nothing to test; "
            f"got {len(rows)} equal rows"
        )
    given = np.arange(len(X))[np.newaxis]
    rng = check_random_state(random_state)
    subsets = draw_subsets(len(rows), len(X), n_permutations, rng)
    with one_blas_thread:
        unit, *frame = fit_whitening(rows)
        whitened = whiten(rows, unit, *frame)
        distances = distances_between(whitened, whitened)
    found, *null = energy_coefficients(distances, np.concatenate([given, subsets]))
    norms = row_norms(rows, unit)
    return EncoderTest(
        float(found),
        share_reached(np.sort(null), found),
        compare_norms(norms[len(X) :], norms[: len(X)], unit),
    )
