"""How alike two corresponding spaces are."""

from dataclasses import dataclass
from numbers import Integral, Real
from warnings import warn

import numpy as np
from scipy.spatial.distance import pdist
from scipy.stats import permutation_test, rankdata
from sklearn import config_context, get_config
from sklearn.metrics import pairwise_distances_chunked
from sklearn.metrics.pairwise import kernel_metrics, pairwise_kernels
from sklearn.neighbors import VALID_METRICS, NearestNeighbors
from sklearn.utils import check_array, check_random_state, gen_batches

from skinvariant._validation import check_choice, check_number, svd
from skinvariant.relative import l2_normalize, layer_normalize

__all__ = [
    "INVARIANCES",
    "cka",
    "mantel_test",
    "mean_canonical_correlation",
    "mean_reciprocal_rank",
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

#: Which classes of `skinvariant.metrics.TRANSFORMATIONS` leave a measure unchanged when
#: applied to one of the two spaces, either of them: tuples of the measure's name, its
#: parameters where not the defaults, and the classes.
INVARIANCES = (
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
# of rows from which the median distance is taken
_MEDIAN_ROWS = 2000
# one unrelated pair of spaces in so many exceeds the chance level
_ONE_IN = 20
# a difference from 1 below this is rounding
_ROUNDING = 1e-12
# directions of at most this many rounding errors are none
_ROUNDINGS = 8
# a sum of singular values this near 1 leaves a distance of few digits
_NEAR = 1e-3
_DISTANCES = dict.fromkeys(sorted(set(VALID_METRICS["brute"]) - {"precomputed"}))


# --- what all measures share ------------------------------------------------------


def _check_spaces(X_a, X_b, *, min_rows, equal_width=False):
    """Return both spaces, floating point and finite, or say what is wrong with them."""
    X_a, X_b = (
        check_array(X, dtype=[np.float64, np.float32], input_name=name)
        for name, X in (("X_a", X_a), ("X_b", X_b))
    )
    if len(X_a) != len(X_b):
        raise ValueError(
            "X_a and X_b must be corresponding spaces, row by row the same samples; "
            f"got {len(X_a)} rows in X_a and {len(X_b)} in X_b"
        )
    if len(X_a) < min_rows:
        raise ValueError(
            f"this measure takes at least {min_rows} rows, since of fewer it is the "
            f"same for all spaces or undefined; got {len(X_a)}"
        )
    if equal_width and X_a.shape[1] != X_b.shape[1]:
        raise ValueError(
            "X_a and X_b must have the same columns, which two encoders' spaces do "
            "not have: compare their relative spaces, with parallel anchors; got "
            f"{X_a.shape[1]} columns in X_a and {X_b.shape[1]} in X_b"
        )
    for name, X in (("X_a", X_a), ("X_b", X_b)):
        if (X[0] == X).all():
            raise ValueError(
                f"{name} is constant: all its rows are equal, so that nothing is as "
                "alike or unlike it as anything else"
            )
    return X_a, X_b


def _orders(n_samples, null_calibrated, n_permutations, random_state):
    """Return orders of the rows of X_b: as they are, and then those of the null."""
    check_number("n_permutations", n_permutations, Integral, _ONE_IN - 1)
    random_state = check_random_state(random_state)
    drawn = [
        random_state.permutation(n_samples)
        for _ in range(n_permutations if null_calibrated else 0)
    ]
    return np.stack([np.arange(n_samples), *drawn])


def _score(values):
    """Return a similarity, the first of `values`, above those of the null, if any."""
    if len(values) == 1:
        return float(values[0])
    chance = np.sort(values[1:])[-(len(values) // _ONE_IN)]
    if 1 - chance <= _ROUNDING:
        _raise_blind()
    return float(max(0.0, (values[0] - chance) / (1 - chance)))


def _distance(values):
    """Return a distance, the first of `values`, in units of those of the null."""
    if len(values) == 1:
        return float(values[0])
    chance = np.sort(values[1:])[len(values) // _ONE_IN - 1]
    if chance <= _ROUNDING:
        _raise_blind()
    return float(min(1.0, values[0] / chance))


def _raise_blind():
    raise ValueError(
        "unrelated spaces of these widths are as alike as identical ones, so that "
        "nothing lies between: take more rows, or reduce both spaces first, say by PCA"
    )


def _row_scores(rows, average):
    """Return the mean of each order's rows, calibrated; or the rows as they are."""
    if average:
        return _score(rows.mean(axis=1))
    if len(rows) > 1:
        raise ValueError(
            "null_calibrated=True is about the mean over the rows; got average=False"
        )
    return rows[0]


def _limit_mib():
    return min(_BLOCK_MIB, get_config()["working_memory"])


def _batches(n_samples, n_numbers, least=1):
    """Yield slices of rows, of `n_numbers` float64 each, that fit in a block."""
    fitting = int(_limit_mib() * 2**20 // (8 * n_numbers))
    return gen_batches(n_samples, max(fitting, least))


# --- spaces by their cross products -----------------------------------------------


@dataclass(frozen=True)
class _Centred:
    """A space about its mean, in float64, to be read by blocks of rows.

    The unit is the largest deviation, so that no square leaves the range of float64.
    """

    X: np.ndarray
    mean: np.ndarray
    unit: float

    def rows(self, which):
        return (self.X[which] - self.mean) / self.unit

    @property
    def n_features(self):
        return self.X.shape[1]

    def batches(self, *, n_others=0, least=1):
        n_numbers = 2 * (self.n_features + n_others)
        return _batches(len(self.X), n_numbers, least)


def _centred(X, name):
    """Centre a space; one wider than long is turned into as many columns as rows."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean = X.mean(axis=0, dtype=np.float64)
        space = _Centred(X, mean, 1.0)
        # what rounding left of the mean, where that is large
        mean = mean + sum(space.rows(b).sum(axis=0) for b in space.batches()) / len(X)
        space = _Centred(X, mean, 1.0)
        unit = max(np.abs(space.rows(b)).max() for b in space.batches())
    if not 0 < unit < np.inf:
        raise ValueError(f"the values of {name} leave the range of float64: rescale it")
    space = _Centred(X, mean, unit)
    if space.n_features <= len(X):
        return space
    turned = np.linalg.qr(space.rows(slice(None)).T, mode="r").T
    return _Centred(turned, np.zeros(len(X)), 1.0)


def _cross_product(space_a, space_b, order, map_a=None, map_b=None):
    """Return A.T @ B[order], after a linear map of either where one is given."""
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
    """Put the best value first where spaces are identical, for rounding is no news."""
    if np.array_equal(X_a, X_b):
        values[0] = best
    return values


# --- centred kernel alignment -----------------------------------------------------


def _hsic(products, sums_k, sums_l, debiased):
    """Return the Hilbert-Schmidt independence criterion but for a common factor.

    Of the sum of K * L and the row sums of K and L; `debiased`: of K and L with a zero
    diagonal.
    """
    n_samples = len(sums_k)
    both, totals = sums_k @ sums_l, sums_k.sum() * sums_l.sum()
    if debiased:
        n_pairs = (n_samples - 1) * (n_samples - 2)
        return products + totals / n_pairs - 2 / (n_samples - 2) * both
    return products + totals / n_samples**2 - 2 / n_samples * both


def _linear_products(X_a, X_b, orders, debiased):
    """Return sums of K * L for each order, of K * K and L * L, and the row sums.

    Centred rows have a kernel whose rows sum to 0, but for a diagonal that is left out.
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
    """Return what `_linear_products` does, by tiles of the upper triangle."""
    n_samples = orders.shape[1]
    side = max(1, int(np.sqrt(_limit_mib() * 2**20 / 8)))
    batches = list(gen_batches(n_samples, side))
    crossed, own, sums = np.zeros(len(orders)), np.zeros(2), np.zeros((2, n_samples))

    def read(tile, order, rows, columns):
        values = tile(order[rows], order[columns])
        if debiased and rows == columns:
            np.fill_diagonal(values, 0)
        return values

    for number, rows in enumerate(batches):
        for columns in batches[number:]:
            times = 1 if rows == columns else 2
            tiles = [read(tile, orders[0], rows, columns) for tile in (tile_a, tile_b)]
            for space, tile in enumerate(tiles):
                own[space] += times * np.vdot(tile, tile)
                sums[space, rows] += tile.sum(axis=1)
                if times == 2:
                    sums[space, columns] += tile.sum(axis=0)
            crossed[0] += times * np.vdot(*tiles)
            for place, order in enumerate(orders[1:], 1):
                tile = read(tile_b, order, rows, columns)
                crossed[place] += times * np.vdot(tiles[0], tile)
    return crossed, own, sums


def _median_distance(space):
    """Return the median distance of two rows, of evenly spaced rows where many."""
    n_samples = len(space.X)
    some = np.linspace(0, n_samples - 1, min(n_samples, _MEDIAN_ROWS)).astype(int)
    return np.median(pdist(space.rows(some)))


def _kernel_tile(X, name, kernel, kernel_params, bandwidth, *, hold):
    """Return a function that computes the kernel of some rows with others.

    A constant is taken off, which no estimate notices, lest most digits be lost to it
    where all rows are almost alike.  `hold`: computed once, where it fits in memory.
    """
    params = dict(kernel_params or {})

    def read(rows):
        rows = X[rows].astype(np.float64)
        return l2_normalize(rows) if kernel == "cosine" else rows  # of any scale

    if isinstance(kernel, str) and kernel == "rbf" and "gamma" not in params:
        space = _centred(X, name)
        read, median = space.rows, _median_distance(space)
        if median == 0:
            raise ValueError(
                f"more than half of the pairs of rows of {name} are equal, so that "
                "their median distance is 0: give gamma in kernel_params"
            )
        params["gamma"] = 1 / (2 * (bandwidth * median) ** 2)

    def compute(rows, columns):
        values = pairwise_kernels(read(rows), read(columns), metric=kernel, **params)
        if not np.isfinite(values).all():
            raise ValueError(f"the kernel {kernel!r} of {name} is not finite")
        return values

    some = np.arange(min(len(X), 100))
    shift = compute(some, some).mean()
    if hold and 8 * len(X) ** 2 <= get_config()["working_memory"] * 2**20:
        whole = compute(slice(None), slice(None)) - shift
        return lambda rows, columns: whole[np.ix_(rows, columns)]
    return lambda rows, columns: compute(rows, columns) - shift


def cka(
    X_a,
    X_b,
    *,
    kernel="linear",
    kernel_params=None,
    bandwidth=1.0,
    debiased=False,
    null_calibrated=False,
    n_permutations=99,
    random_state=None,
):
    """Centred kernel alignment: do both spaces find the same pairs of samples alike.

    The cosine between the two centred kernel matrices.  By default of inner products
    (linear CKA), which takes one product of the two spaces and no kernel matrix.

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
        Whether to leave each row's comparison with itself out and estimate without
        bias both terms of the cosine.  The biased estimate nears 1 for any two spaces
        that are wider than long; this one is about 0 for unrelated ones.
    null_calibrated : bool, default=False
        Whether to return what exceeds chance: ``max(0, (s - q) / (1 - q))``, where q is
        a value that one in 20 permutations of the rows of `X_b` exceeds.
    n_permutations : int >= 19, default=99
        How many permutations.
    random_state : int, RandomState instance or None, default=None
        Seed of the permutations.

    Returns
    -------
    float
        In [0, 1], `debiased` in [-1, 1]; larger is more alike, 1 for spaces that differ
        by a rotation, a translation and a factor.  These applied to either space leave
        it unchanged; for the cosine kernel, all but the translation.

    Raises
    ------
    ValueError, TypeError
        If rows do not correspond, a space is constant or the kernel finds all its rows
        alike, or a parameter is not as documented.

    See Also
    --------
    mutual_knn : Compares near rows only.

    References
    ----------
    Kornblith et al., "Similarity of neural network representations revisited", ICML
    2019.  Debiased: Song et al., "Feature selection via dependence maximization", JMLR
    2012, equation 4; Murphy et al., "Correcting biased centered kernel alignment
    measures in biological and artificial neural networks", 2024, arXiv 2405.01012.
    Calibrated: Gröger et al., "Revisiting the Platonic Representation Hypothesis: an
    Aristotelian view", 2026, arXiv 2602.14486.

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
    >>> round(cka(X_a, X_b, null_calibrated=True, random_state=0), 2)
    0.0
    """
    if not callable(kernel):
        check_choice(
            "kernel", kernel, dict.fromkeys(kernel_metrics()), or_else="a callable"
        )
    check_number("bandwidth", bandwidth, Real, np.finfo(float).tiny, 1e100)
    X_a, X_b = _check_spaces(X_a, X_b, min_rows=4 if debiased else 3)
    orders = _orders(len(X_a), null_calibrated, n_permutations, random_state)
    if isinstance(kernel, str) and kernel == "linear":
        if kernel_params:
            raise ValueError(
                f"kernel_params must be None for the linear kernel; got {kernel_params}"
            )
        crossed, own, sums = _linear_products(X_a, X_b, orders, debiased)
    else:
        options = (kernel, kernel_params, bandwidth)
        tile_a = _kernel_tile(X_a, "X_a", *options, hold=False)
        tile_b = _kernel_tile(X_b, "X_b", *options, hold=null_calibrated)
        crossed, own, sums = _kernel_products(tile_a, tile_b, orders, debiased)
    values = _aligned(crossed, own, sums, orders, debiased)
    return _score(_exact_if_identical(values, 1.0, X_a, X_b))


def _aligned(crossed, own, sums, orders, debiased):
    """Return the cosine of the kernels for each order."""
    lengths = []
    for name, products, sums_k in zip(("X_a", "X_b"), own, sums, strict=True):
        squared = _hsic(products, sums_k, sums_k, debiased)
        if squared <= _ROUNDING * products:
            raise ValueError(
                f"the kernel finds all rows of {name} equally alike, so that there is "
                "nothing to align"
            )
        lengths.append(np.sqrt(squared))
    aligned = [
        _hsic(products, sums[0], sums[1][order], debiased)
        for products, order in zip(crossed, orders, strict=True)
    ]
    return np.clip(np.array(aligned) / lengths[0] / lengths[1], -1, 1)


# --- the best map from one space to the other -------------------------------------


def procrustes_distance(
    X_a,
    X_b,
    *,
    null_calibrated=False,
    n_permutations=99,
    random_state=None,
):
    """Distance that remains after the best rotation of one space onto the other.

    Both are centred and scaled to Frobenius norm 1; the narrower one is widened by
    zeros.  Then the distance is ``min ||A Q - B||`` over orthogonal Q.

    Parameters
    ----------
    X_a, X_b : array-like of shape (n_samples, n_features_a) and (n_samples, \
n_features_b)
        Corresponding spaces of at least 3 rows.
    null_calibrated : bool, default=False
        Whether to return the distance in units of chance: ``min(1, d / q)``, where one
        in 20 permutations of the rows of `X_b` comes nearer than q.
    n_permutations : int >= 19, default=99
        How many permutations.
    random_state : int, RandomState instance or None, default=None
        Seed of the permutations.

    Returns
    -------
    float
        In [0, sqrt(2)], calibrated in [0, 1]; larger is less alike, 0 for spaces that
        differ by a rotation, a translation and a factor.  These applied to either space
        leave it unchanged.

    Raises
    ------
    ValueError, TypeError
        If rows do not correspond, a space is constant, or a parameter is not as
        documented.

    Notes
    -----
    The squared distance is 2 - 2 s, with s the sum of the singular values of
    ``A.T @ B``.  `scipy.spatial.procrustes` gives ``1 - s**2``, since it scales
    A once more after the rotation; other authors give 2 - 2 s itself.

    References
    ----------
    Schönemann, "A generalized solution of the orthogonal Procrustes problem",
    Psychometrika 1966.  As a distance of representations: Williams et al., "Generalized
    shape metrics on neural representations", NeurIPS 2021.  Calibrated: Gröger et al.,
    2026, arXiv 2602.14486.

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
    X_a, X_b = _check_spaces(X_a, X_b, min_rows=3)
    orders = _orders(len(X_a), null_calibrated, n_permutations, random_state)
    spaces = _centred(X_a, "X_a"), _centred(X_b, "X_b")
    norms = [np.sqrt(_squared_norms(space).sum()) for space in spaces]
    values = np.array([_residual(*spaces, *norms, order) for order in orders])
    return _distance(_exact_if_identical(values, 0.0, X_a, X_b))


def _residual(space_a, space_b, norm_a, norm_b, order):
    """Return the Procrustes distance of two centred spaces."""
    product = _cross_product(space_a, space_b, order) / norm_a / norm_b
    alike = svd(product, compute_uv=False).sum()
    if 1 - alike > _NEAR:
        return np.sqrt(2 - 2 * alike)
    # the difference of almost equal numbers has few digits: rotate and subtract
    width = max(product.shape)
    padded = np.zeros((width, width))
    padded[: product.shape[0], : product.shape[1]] = product
    left, _, right = svd(padded)
    rotation = (left @ right)[: product.shape[0]]
    total = 0.0
    for batch in space_a.batches(n_others=width):
        gaps = space_a.rows(batch) / norm_a @ rotation
        gaps[:, : product.shape[1]] -= space_b.rows(order[batch]) / norm_b
        total += np.vdot(gaps, gaps)
    return np.sqrt(total)


def mean_canonical_correlation(
    X_a,
    X_b,
    *,
    null_calibrated=False,
    n_permutations=99,
    random_state=None,
):
    """Mean of the canonical correlations: how much is a linear map of the other.

    The correlations of the best matching directions of both spaces (CCA), however
    little variance these have.  Two spaces that are wide for their number of rows
    correlate by chance, so take many more rows than columns, or few principal
    components.

    Parameters
    ----------
    X_a, X_b : array-like of shape (n_samples, n_features_a) and (n_samples, \
n_features_b)
        Corresponding spaces of at least 3 rows.
    null_calibrated : bool, default=False
        Whether to return what exceeds chance: ``max(0, (s - q) / (1 - q))``, where q is
        a value that one in 20 permutations of the rows of `X_b` exceeds.
    n_permutations : int >= 19, default=99
        How many permutations.
    random_state : int, RandomState instance or None, default=None
        Seed of the permutations.

    Returns
    -------
    float
        In [0, 1]; larger is more alike, 1 where the space of lower rank is a linear map
        of the other.  Any invertible affine map of either space leaves it unchanged.

    Raises
    ------
    ValueError, TypeError
        If rows do not correspond, a space is constant, or a parameter is not as
        documented.

    Warns
    -----
    UserWarning
        If a space has as many directions as rows but one, as nearly any wider one has:
        then all its canonical correlations with any space are 1.

    Notes
    -----
    The mean is over the rank of the space of lower rank.  Directions within the
    rounding of a space's own dtype do not count.

    References
    ----------
    Hotelling, "Relations between two sets of variates", Biometrika 1936; Björck and
    Golub, "Numerical methods for computing angles between linear subspaces", 1973, for
    the computation.  As a measure of representations: Kornblith et al., ICML 2019,
    equation 8.  Calibrated: Gröger et al., 2026, arXiv 2602.14486.

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
    X_a, X_b = _check_spaces(X_a, X_b, min_rows=3)
    orders = _orders(len(X_a), null_calibrated, n_permutations, random_state)
    (space_a, map_a), (space_b, map_b) = (
        _whitened(X, name) for X, name in ((X_a, "X_a"), (X_b, "X_b"))
    )
    values = []
    for order in orders:
        product = _cross_product(space_a, space_b, order, map_a, map_b)
        correlations = svd(product, compute_uv=False)
        values.append(np.minimum(correlations, 1).mean())
    return _score(_exact_if_identical(np.array(values), 1.0, X_a, X_b))


def _whitened(X, name):
    """Return the centred space, and the map that makes its columns orthonormal."""
    space = _centred(X, name)
    factor = np.empty((0, space.n_features))
    for batch in space.batches(least=2 * space.n_features):
        factor = np.linalg.qr(np.vstack([factor, space.rows(batch)]), mode="r")
    _, singular, directions = svd(factor, full_matrices=False)
    peak = max(X.max(), -X.min()) / space.unit
    rounding = np.finfo(X.dtype).eps * peak * np.sqrt(X.shape).sum()
    kept = singular > _ROUNDINGS * rounding
    if not kept.any():
        raise ValueError(f"{name} is constant within the rounding of {X.dtype}")
    if kept.sum() == len(X) - 1:
        warn(
            f"{name} has as many directions as rows but one, so that it correlates "
            "fully with any space: take more rows, or reduce it first, say by PCA",
            stacklevel=4,
        )
    return space, directions[kept].T / singular[kept]


# --- neighbours -------------------------------------------------------------------


def _comparable(metric, *spaces):
    """Return spaces in float64, as a metric's own function takes them, and its name."""
    if not callable(metric):
        check_choice("metric", metric, _DISTANCES, or_else="a callable")
    spaces = [X.astype(np.float64) for X in spaces]
    if not isinstance(metric, str):
        return metric, *spaces
    if metric == "cosine":  # of unit vectors the distance has the same order
        for X in spaces:
            if not X.any(axis=1).all():
                raise ValueError(
                    f"row {np.flatnonzero(~X.any(axis=1))[0]} of a space is zero and "
                    "has no direction: leave such rows out of both spaces, or take "
                    "metric='euclidean'"
                )
            for batch in _batches(len(X), 8 * X.shape[1]):
                X[batch] = l2_normalize(X[batch])
        return "euclidean", *spaces
    if metric == "euclidean":  # scikit-learn's loses digits far from the origin
        mean = spaces[-1].mean(axis=0)
        for X in spaces:
            X -= mean
    return metric, *spaces


def _nearest(metric, rows, n_neighbors, queries=None):
    """Return the indices of the nearest rows; without queries, of other rows."""
    with config_context(working_memory=_limit_mib()):
        index = NearestNeighbors(n_neighbors=n_neighbors, metric=metric)
        index.set_params(algorithm="brute").fit(rows)
        distances, indices = index.kneighbors(queries)
    _check_defined(distances, metric)
    return indices


def _check_defined(distances, metric):
    if not np.isfinite(distances).all():
        raise ValueError(f"metric {metric!r} is undefined for some rows, or too large")


def _n_common(indices, others):
    """Return how many entries two rows of distinct indices share."""
    both = np.sort(np.hstack([indices, others]), axis=1)
    return (both[:, 1:] == both[:, :-1]).sum(axis=1)


def mutual_knn(
    X_a,
    X_b,
    *,
    n_neighbors=10,
    metric="cosine",
    average=True,
    null_calibrated=False,
    n_permutations=99,
    random_state=None,
):
    """Mutual nearest neighbours: the part of each row's neighbours that both share.

    Parameters
    ----------
    X_a, X_b : array-like of shape (n_samples, n_features_a) and (n_samples, \
n_features_b)
        Corresponding spaces of at least 3 rows.
    n_neighbors : int, default=10
        How many neighbours, less than n_samples - 1.  A row is no neighbour of its own.
    metric : str or callable, default="cosine"
        A metric of `sklearn.neighbors.NearestNeighbors`, in each space.
    average : bool, default=True
        Whether to return the mean over the rows.
    null_calibrated : bool, default=False
        Whether to return what exceeds chance: ``max(0, (s - q) / (1 - q))``, where q is
        a value that one in 20 permutations of the rows of `X_b` exceeds.
    n_permutations : int >= 19, default=99
        How many permutations.
    random_state : int, RandomState instance or None, default=None
        Seed of the permutations.

    Returns
    -------
    float, or ndarray of shape (n_samples,) if not `average`
        In [0, 1]; larger is more alike, 1 where all neighbours are the same.  Of
        unrelated spaces n_neighbors / (n_samples - 1) in the mean.  A rotation or a
        factor applied to either space leaves it unchanged; with the Euclidean metric
        also a translation.

    Raises
    ------
    ValueError, TypeError
        If rows do not correspond, a space is constant, a row has no direction, or a
        parameter is not as documented.

    Notes
    -----
    Of neighbours at the same distance, those that NearestNeighbors finds count: where
    many rows are equal, the value is about which of these come first.

    References
    ----------
    Huh et al., "The Platonic Representation Hypothesis", ICML 2024, appendix A.
    Calibrated: Gröger et al., 2026, arXiv 2602.14486.

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
    X_a, X_b = _check_spaces(X_a, X_b, min_rows=3)
    n_samples = len(X_a)
    check_number("n_neighbors", n_neighbors, Integral, 1, n_samples - 2)
    orders = _orders(n_samples, null_calibrated, n_permutations, random_state)
    own, other = (
        _nearest(*_comparable(metric, X), n_neighbors=n_neighbors) for X in (X_a, X_b)
    )
    rows = []
    for order in orders:
        place = np.argsort(order)
        rows.append(_n_common(own, place[other[order]]) / n_neighbors)
    return _row_scores(np.stack(rows), average)


def top_k_jaccard(
    X_a,
    X_b,
    *,
    k=10,
    metric="cosine",
    average=True,
    null_calibrated=False,
    n_permutations=99,
    random_state=None,
):
    """Jaccard index of what is found in one space by its own rows and the other's.

    Row i of `X_a` and row i of `X_b` both search the rows of `X_b`.  The score of row i
    is the size of the intersection of the two sets of k nearest rows, divided by that
    of their union.  The row of `X_b` itself is among the rows that it finds.

    Parameters
    ----------
    X_a, X_b : array-like of shape (n_samples, n_features)
        Corresponding spaces with the same columns: relative spaces of parallel anchors.
        `X_b` is the one that is searched.
    k : int, default=10
        How many rows are found, less than n_samples.
    metric : str or callable, default="cosine"
        A metric of `sklearn.neighbors.NearestNeighbors`.
    average : bool, default=True
        Whether to return the mean over the rows.
    null_calibrated : bool, default=False
        Whether to return what exceeds chance: ``max(0, (s - q) / (1 - q))``, where q is
        a value that one in 20 permutations of the rows of `X_b` exceeds.
    n_permutations : int >= 19, default=99
        How many permutations.
    random_state : int, RandomState instance or None, default=None
        Seed of the permutations.

    Returns
    -------
    float, or ndarray of shape (n_samples,) if not `average`
        In [0, 1]; larger is more alike, 1 where both rows always find the same.  With
        the cosine a factor applied to either space leaves it unchanged, and nothing
        else does.

    Raises
    ------
    ValueError, TypeError
        If rows or columns do not correspond, a space is constant, a row has no
        direction, or a parameter is not as documented.

    See Also
    --------
    mutual_knn : Of spaces of any widths.

    References
    ----------
    Moschella et al., "Relative representations enable zero-shot latent space
    communication", ICLR 2023, section 4.1.  Calibrated: Gröger et al., 2026, arXiv
    2602.14486.

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
    X_a, X_b = _check_spaces(X_a, X_b, min_rows=2, equal_width=True)
    check_number("k", k, Integral, 1, len(X_a) - 1)
    orders = _orders(len(X_a), null_calibrated, n_permutations, random_state)
    metric, X_a, X_b = _comparable(metric, X_a, X_b)
    found, expected = (_nearest(metric, X_b, k, queries=X) for X in (X_a, X_b))
    common = np.stack([_n_common(found, expected[order]) for order in orders])
    return _row_scores(common / (2 * k - common), average)


def mean_reciprocal_rank(
    X_a,
    X_b,
    *,
    metric="cosine",
    average=True,
    null_calibrated=False,
    n_permutations=99,
    random_state=None,
):
    """Mean reciprocal rank at which rows of one space find their match in the other.

    Row i of `X_a` ranks the rows of `X_b` from near to far.  Its score is 1 divided by
    the rank of row i.

    Parameters
    ----------
    X_a, X_b : array-like of shape (n_samples, n_features)
        Corresponding spaces with the same columns: relative spaces of parallel anchors.
        `X_b` is the one that is searched.
    metric : str or callable, default="cosine"
        A metric of `sklearn.metrics.pairwise_distances`.
    average : bool, default=True
        Whether to return the mean over the rows.
    null_calibrated : bool, default=False
        Whether to return what exceeds chance: ``max(0, (s - q) / (1 - q))``, where q is
        a value that one in 20 permutations of the rows of `X_b` exceeds.
    n_permutations : int >= 19, default=99
        How many permutations.
    random_state : int, RandomState instance or None, default=None
        Seed of the permutations.

    Returns
    -------
    float, or ndarray of shape (n_samples,) if not `average`
        In (0, 1]; larger is more alike, 1 where every row's match is the nearest.  Of
        unrelated spaces about ``log(n_samples) / n_samples``.  With the cosine a factor
        applied to either space leaves it unchanged, and nothing else does.

    Raises
    ------
    ValueError, TypeError
        If rows or columns do not correspond, a space is constant, a row has no
        direction, or a parameter is not as documented.

    Notes
    -----
    Rows at the same distance share the mean of their ranks.  So a row that occurs twice
    has the rank 1.5 at best, also in identical spaces.

    References
    ----------
    Moschella et al., "Relative representations enable zero-shot latent space
    communication", ICLR 2023, section 4.1.  Calibrated: Gröger et al., 2026, arXiv
    2602.14486.

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
    X_a, X_b = _check_spaces(X_a, X_b, min_rows=2, equal_width=True)
    orders = _orders(len(X_a), null_calibrated, n_permutations, random_state)
    metric, X_a, X_b = _comparable(metric, X_a, X_b)
    ranks, start = np.empty(orders.shape), 0
    for distances in pairwise_distances_chunked(
        X_a, X_b, metric=metric, working_memory=_limit_mib()
    ):
        _check_defined(distances, metric)
        rows = slice(start, start + len(distances))
        ranks[:, rows] = _ranks(distances, orders[:, rows])
        start = rows.stop
    return _row_scores(1 / ranks, average)


def _ranks(distances, columns):
    """Return the ranks of some columns, (n, n_rows), in each row of distances."""
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


def _rowwise(X_a, X_b, standardize, average, *null):
    """Return the mean correlation of corresponding rows, standardised by a function."""
    X_a, X_b = _check_spaces(X_a, X_b, min_rows=2, equal_width=True)
    check_number("the number of columns", X_a.shape[1], Integral, 2)
    orders = _orders(len(X_a), *null)
    if len(orders) > 1:  # not anew for each order
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
            scores[place, batch] = _correlations(rows_a, rows_b)
    undefined = np.isnan(scores[0]).sum()
    if undefined:
        warn(
            f"{undefined} rows are constant in one space or both, so that they have no "
            "correlation: they count as 0",
            stacklevel=3,
        )
    return _row_scores(np.nan_to_num(scores, nan=0.0), average)


def _correlations(rows_a, rows_b):
    """Return the correlations of standardised rows; NaN where one of them is zero."""
    products, squares_a, squares_b = (
        np.einsum("ij,ij->i", *pair)
        for pair in ((rows_a, rows_b), (rows_a, rows_a), (rows_b, rows_b))
    )
    with np.errstate(invalid="ignore"):
        return np.clip(products / np.sqrt(squares_a * squares_b), -1, 1)


def _standardize(rows):
    return layer_normalize(rows.astype(np.float64))


def _standardize_ranks(rows):
    return layer_normalize(rankdata(rows, axis=1))


def rowwise_pearson(
    X_a,
    X_b,
    *,
    average=True,
    null_calibrated=False,
    n_permutations=99,
    random_state=None,
):
    """Mean correlation of corresponding rows: do samples see the anchors alike.

    Parameters
    ----------
    X_a, X_b : array-like of shape (n_samples, n_features)
        Corresponding spaces with the same columns: relative spaces of parallel anchors.
    average : bool, default=True
        Whether to return the mean over the rows.
    null_calibrated : bool, default=False
        Whether to return what exceeds chance: ``max(0, (s - q) / (1 - q))``, where q is
        a value that one in 20 permutations of the rows of `X_b` exceeds.
    n_permutations : int >= 19, default=99
        How many permutations.
    random_state : int, RandomState instance or None, default=None
        Seed of the permutations.

    Returns
    -------
    float, or ndarray of shape (n_samples,) if not `average`
        In [-1, 1]; larger is more alike, 1 where corresponding rows differ by a factor
        and a shift of their own.  A factor applied to either space leaves it unchanged,
        and nothing else does.

    Raises
    ------
    ValueError, TypeError
        If rows or columns do not correspond, a space is constant, or a parameter is not
        as documented.

    Warns
    -----
    UserWarning
        If rows are constant.  They have no correlation and count as 0.

    See Also
    --------
    space_agreement : Of the anchors themselves.

    References
    ----------
    Calibrated: Gröger et al., 2026, arXiv 2602.14486.

    Examples
    --------
    What all rows have in common correlates too, until chance is taken off:

    >>> import numpy as np
    >>> from skinvariant.comparison import rowwise_pearson
    >>> rng = np.random.default_rng(0)
    >>> common, unrelated = rng.standard_normal(50), rng.standard_normal((2, 200, 50))
    >>> X_a, X_b = 3 * common + unrelated
    >>> round(rowwise_pearson(X_a, X_b), 2)
    0.89
    >>> round(rowwise_pearson(X_a, X_b, null_calibrated=True, random_state=0), 2)
    0.0
    """
    null = null_calibrated, n_permutations, random_state
    return _rowwise(X_a, X_b, _standardize, average, *null)


def rowwise_spearman(
    X_a,
    X_b,
    *,
    average=True,
    null_calibrated=False,
    n_permutations=99,
    random_state=None,
):
    """Mean rank correlation of corresponding rows: do they order the anchors alike.

    Parameters
    ----------
    X_a, X_b : array-like of shape (n_samples, n_features)
        Corresponding spaces with the same columns: relative spaces of parallel anchors.
    average : bool, default=True
        Whether to return the mean over the rows.
    null_calibrated : bool, default=False
        Whether to return what exceeds chance: ``max(0, (s - q) / (1 - q))``, where q is
        a value that one in 20 permutations of the rows of `X_b` exceeds.
    n_permutations : int >= 19, default=99
        How many permutations.
    random_state : int, RandomState instance or None, default=None
        Seed of the permutations.

    Returns
    -------
    float, or ndarray of shape (n_samples,) if not `average`
        In [-1, 1]; larger is more alike, 1 where corresponding rows have the same
        order.  Equal values share the mean of their ranks.  A factor applied to either
        space leaves it unchanged, and so does any increasing function of its values.

    Raises
    ------
    ValueError, TypeError
        If rows or columns do not correspond, a space is constant, or a parameter is not
        as documented.

    Warns
    -----
    UserWarning
        If rows are constant.  They have no correlation and count as 0.

    References
    ----------
    Spearman, "The proof and measurement of association between two things", 1904.
    Calibrated: Gröger et al., 2026, arXiv 2602.14486.

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
    null = null_calibrated, n_permutations, random_state
    return _rowwise(X_a, X_b, _standardize_ranks, average, *null)


def space_agreement(relative_a, relative_b):
    """Mean correlation of the anchors' relative vectors in two spaces.

    Parameters
    ----------
    relative_a, relative_b : ndarray of shape (n_anchors, n_columns)
        Each anchor compared with all of them, in either space; or what a `post` made of
        that.  Of n_anchors columns, an anchor's comparison with itself is left out.

    Returns
    -------
    float
        In [0, 1]: 1 where each anchor sees the others in the same proportions.
        Negative correlations count as 0.

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
    0.5
    """
    X_a, X_b = (check_array(X, ensure_min_samples=3) for X in (X_a, X_b))
    if len(X_a) != len(X_b):
        raise ValueError(
            f"X_a and X_b must have the same rows; got {len(X_a)} and {len(X_b)}"
        )
    check_number("n_permutations", n_permutations, Integral, 1)
    pairs = ~np.eye(len(X_a), dtype=bool)
    cosines_a, cosines_b = (
        pairwise_kernels(X.astype(np.float64) - X.mean(axis=0), metric="cosine")
        for X in (X_a, X_b)
    )
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
