"""The energy distance between a part of some rows and the rest of them.

`skinvariant.comparison.encoder_test` and `skinvariant.EncoderGuard` share it.
"""

import numpy as np
from scipy.sparse import csr_array

from skinvariant.metrics import whitening
from skinvariant.metrics._rows import peak

# How much of the covariance a multiple of the identity replaces.  Chosen on other rows
# than those of the figures in the documentation.
SHRINKAGE = 0.03
# within this part, norms are equal
_EQUAL = 1e-2
# whitened values beyond it are as good as infinite, and their squares are not
_FAR = 1e100


def fit_whitening(rows, *, shrinkage=SHRINKAGE):
    """Return what `whiten` needs, from rows of any scale.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
        Finite numbers, not all rows equal.
    shrinkage : float, default=SHRINKAGE
        See `skinvariant.metrics.whitening`.

    Returns
    -------
    unit : float
        The largest absolute value, in which rows are measured.
    mean : ndarray of shape (n_features,)
        Mean of the rows, in this unit.
    matrix : ndarray of shape (n_features, n_features)
        The whitening matrix, in this unit.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant._energy import fit_whitening
    >>> rows = np.array([[0.0, 0.0], [2e300, 0.0], [0.0, 2e300], [2e300, 2e300]])
    >>> unit, mean, matrix = fit_whitening(rows)
    >>> unit, mean.tolist()
    (2e+300, [0.5, 0.5])
    """
    unit = peak(rows)
    mean, matrix, _ = whitening(rows.astype(np.float64) / unit, shrinkage)
    return unit, mean, matrix


def whiten(rows, unit, mean, matrix):
    """Whiten rows of any scale.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
        Finite numbers.
    unit, mean, matrix : float and ndarrays
        As `fit_whitening` returns them; the matrix may have any number of columns.

    Returns
    -------
    ndarray of shape (n_rows, n_components), dtype float64
        The whitened rows; what is too far away is at a distance of about 1e100.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant._energy import whiten
    >>> whiten(np.array([[3.0, 1e300]]), 1.0, np.ones(2), np.eye(2)).tolist()
    [[2.0, 1e+100]]
    """
    limit = _FAR / max(np.abs(matrix).max(), 1)
    with np.errstate(over="ignore"):
        centred = rows.astype(np.float64) / unit - mean
    return np.clip(centred, -limit, limit) @ matrix


def distances_between(rows, others):
    """Euclidean distances by one matrix product, of rows that `whiten` returned.

    scikit-learn's own takes longer to check a few rows than to compare them.

    Parameters
    ----------
    rows, others : ndarray of shape (n_rows, n_components) and (n_others, n_components)
        Whitened rows.

    Returns
    -------
    ndarray of shape (n_rows, n_others)
        The distances, to about 1e-7 of the larger norm.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant._energy import distances_between
    >>> distances_between(np.eye(2), np.zeros((1, 2))).tolist()
    [[1.0], [1.0]]
    """
    squares = rows @ (-2 * others.T)
    squares += np.einsum("ij,ij->i", rows, rows)[:, np.newaxis]
    squares += np.einsum("ij,ij->i", others, others)
    np.maximum(squares, 0, out=squares)
    return np.sqrt(squares, out=squares)


def energy_coefficients(distances, subsets):
    """Energy coefficient of some rows and all others, for several choices of rows.

    Parameters
    ----------
    distances : ndarray of shape (n_rows, n_rows)
        Distances between all rows.
    subsets : ndarray of shape (n_subsets, size), dtype int
        Which rows are compared with the rest.

    Returns
    -------
    ndarray of shape (n_subsets,)
        In [0, 1]: the energy distance ``2 E d(x, y) - E d(x, x') - E d(y, y')``,
        divided by ``2 E d(x, y)``; 0 where all distances between the two are 0.

    References
    ----------
    Székely and Rizzo, "Energy statistics: a class of statistics based on distances",
    Journal of Statistical Planning and Inference 143(8), 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant._energy import energy_coefficients
    >>> rows = np.array([0.0, 1.0, 10.0, 11.0])
    >>> distances = np.abs(rows[:, None] - rows)
    >>> energy_coefficients(distances, np.array([[0, 1], [0, 2]])).round(2).tolist()
    [0.95, 0.09]
    """
    n_subsets, size = subsets.shape
    n_rest = len(distances) - size
    chosen = csr_array(
        (np.ones(subsets.size), subsets.ravel(), np.arange(n_subsets + 1) * size),
        shape=(n_subsets, len(distances)),
    )
    inside = np.take_along_axis(chosen @ distances, subsets, axis=1).sum(axis=1)
    by_row = distances.sum(axis=1)
    to_all = by_row[subsets].sum(axis=1)
    return coefficient(
        (to_all - inside) / (size * n_rest),
        inside / size**2,
        (by_row.sum() - 2 * to_all + inside) / n_rest**2,
    )


def coefficient(between, inside, outside):
    """Energy coefficient of the mean distances between two sets and within either.

    Parameters
    ----------
    between, inside, outside : float or ndarray
        Mean distances, those of rows from themselves among them.

    Returns
    -------
    ndarray
        In [0, 1].

    Examples
    --------
    >>> from skinvariant._energy import coefficient
    >>> coefficient(10.0, 0.5, 0.5).tolist()
    0.95
    """
    between = np.asarray(between)
    some = between > 0
    parts = (inside + outside) / (2 * np.where(some, between, 1))
    return np.where(some, np.maximum(1 - parts, 0), 0.0)


def draw_subsets(n_rows, size, n_subsets, rng):
    """Draw sets of different rows.

    Parameters
    ----------
    n_rows, size, n_subsets : int
        How many rows there are, are in a set, and how many sets.
    rng : RandomState
        The source of randomness.

    Returns
    -------
    ndarray of shape (n_subsets, size), dtype int
        The sets.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant._energy import draw_subsets
    >>> draw_subsets(5, 5, 1, np.random.RandomState(0)).tolist()
    [[2, 0, 1, 3, 4]]
    """
    return np.array([rng.permutation(n_rows)[:size] for _ in range(n_subsets)])


def share_reached(null, found):
    """Share of values under the null hypothesis, the one found among them, as large.

    Parameters
    ----------
    null : ndarray of shape (n_values,)
        Simulated values, sorted.
    found : float
        The value found.

    Returns
    -------
    float
        In (0, 1]: a p value.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant._energy import share_reached
    >>> share_reached(np.array([0.1, 0.2, 0.3]), 0.25)
    0.5
    """
    reached = len(null) - np.searchsorted(null, found * (1 - 1e-9))
    return float((1 + reached) / (1 + len(null)))


def row_norms(rows, unit):
    """Euclidean norms of rows of any scale.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
        Finite numbers.
    unit : float
        What the norms are measured in.

    Returns
    -------
    ndarray of shape (n_rows,), dtype float64
        The norms, divided by `unit`, and 1e100 at most.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant._energy import row_norms
    >>> row_norms(np.array([[3e300, 4e300]]), 1e300).tolist()
    [5.0]
    """
    with np.errstate(over="ignore"):
        scaled = np.clip(rows.astype(np.float64) / unit, -_FAR, _FAR)
    return np.minimum(np.linalg.norm(scaled, axis=1), _FAR)


def compare_norms(reference, norms, unit=1.0):
    """Describe what norms show of a normalisation that one of two sets lacks.

    Parameters
    ----------
    reference : ndarray of shape (n_reference,)
        Norms of rows of the encoder.
    norms : ndarray of shape (n_rows,)
        Norms of the rows in question.
    unit : float, default=1.0
        What both are measured in.

    Returns
    -------
    str
        A sentence without its full stop; empty where the norms are alike.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant._energy import compare_norms
    >>> compare_norms(np.ones(3), np.array([3.0, 4.0, 5.0]))
    'the encoder has normalised its rows to norm 1, and these have norms of 3 to 5'
    >>> compare_norms(np.array([3.0, 4.0, 5.0]), np.array([3.2, 4.1, 4.9]))
    ''
    """
    low, high = (norms.min(), norms.max())
    constant, now_constant = (np.ptp(x) <= _EQUAL * x.max() for x in (reference, norms))
    own = f"{reference.min() * unit:.3g} to {reference.max() * unit:.3g}"
    if constant and not now_constant:
        return (
            f"the encoder has normalised its rows to norm {reference[0] * unit:.3g}, "
            f"and these have norms of {low * unit:.3g} to {high * unit:.3g}"
        )
    if now_constant and not constant:
        return (
            f"these rows are normalised to norm {low * unit:.3g}, and the encoder has "
            f"norms of {own}"
        )
    # a quarter of either set lies beyond each quartile
    quartiles = [np.quantile(x, [0.25, 0.5, 0.75]) for x in (reference, norms)]
    if quartiles[0][2] < quartiles[1][0] or quartiles[1][2] < quartiles[0][0]:
        factor = quartiles[1][1] / quartiles[0][1] if quartiles[0][1] > 0 else np.inf
        return f"their norms are {factor:.3g} times those of the encoder's rows"
    return ""
