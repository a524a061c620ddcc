"""Whether the rows of two spaces are the same samples, row by row."""

from warnings import warn

import numpy as np
from scipy import linalg
from scipy.stats import trim_mean

from skinvariant._validation import check_corresponding
from skinvariant.relative import l2_normalize

# the fewest rows that are searched for mismatches, and how many at once, since the time
# grows with their cube
FEWEST_ROWS, _MOST_AT_ONCE = 20, 500


def _similarity_profiles(X):
    """Return the similarities of each row to the others, of mean 0 and norm 1."""
    scale = np.abs(X).max()
    X = X.astype(np.float64) / (scale if scale > 0 else 1)
    # a few wild rows change no other row's similarities
    X = l2_normalize(X - trim_mean(X, 0.05))
    # a few directions that all rows share make up the cosines of many encoders: this
    # whitens the rows, but not entirely
    gram = X @ X.T
    hat = linalg.solve(gram + 2 * np.eye(len(X)), gram, assume_a="pos")
    lengths = np.sqrt(np.maximum(hat.diagonal(), np.finfo(np.float64).tiny))
    hat /= lengths * lengths[:, np.newaxis]
    np.fill_diagonal(hat, 0)
    hat -= hat.sum(axis=1, keepdims=True) / (len(X) - 1)
    np.fill_diagonal(hat, 0)
    return l2_normalize(hat)


def mismatched_rows(X_a, X_b):
    r"""Find the rows that do not seem to be the same sample in two spaces.

    If row i is the same sample in both, its similarities to all other rows are alike in
    both: they correlate more than the similarities of two different rows.

    Parameters
    ----------
    X_a : array-like of shape (n_samples, n_features_a)
        Rows in one space, 20 or more.
    X_b : array-like of shape (n_samples, n_features_b)
        What should be the same samples, in the same order, in another.

    Returns
    -------
    ndarray of shape (n_mismatched,), dtype int
        Their indices, the least alike first: about 4 in 10 of wrong rows.  None unless
        there are more than ``3 + n_samples / 100``, since so many are found by chance
        where all rows are right.

    Raises
    ------
    ValueError
        If the numbers of rows differ, or there are fewer than 20.

    See Also
    --------
    skinvariant.comparison.mantel_test : Whether the rows correspond at all.

    Notes
    -----
    Similarities are cosines by the hat matrix of a ridge regression,

    .. math:: H = G (G + 2 I)^{-1}, \quad s_{ij} = H_{ij} / \sqrt{H_{ii} H_{jj}},

    where G holds the cosines of the centred rows.  With :math:`r_{ij}` the correlation
    of row i of the similarities in one space and row j of those in the other, row i is
    mismatched where :math:`r_{ii}` is not above the mean of :math:`r_{ij}` over j, or
    of :math:`r_{ji}`.  More than 500 rows are compared in parts of at most 500.

    Two encoders that have next to nothing in common look like wrong rows: neither
    serves to replace the other.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.comparison import mismatched_rows
    >>> from skinvariant.datasets import make_related_spaces
    >>> spaces = make_related_spaces(100, transformation="linear", random_state=0)
    >>> mismatched_rows(spaces.X_a, spaces.X_b)
    array([], dtype=int64)
    >>> order = np.r_[:80, 99:79:-1]
    >>> found = mismatched_rows(spaces.X_a, spaces.X_b[order])
    >>> len(found), int(found.min())
    (12, 81)
    """
    X_a, X_b = check_corresponding(X_a, X_b, min_rows=FEWEST_ROWS)
    n_samples = len(X_a)
    n_parts = -(-n_samples // _MOST_AT_ONCE)
    margins = np.empty(n_samples)
    for part in range(n_parts):
        rows = slice(part, None, n_parts)
        correlations = (
            _similarity_profiles(X_a[rows]) @ _similarity_profiles(X_b[rows]).T
        )
        others = np.maximum(correlations.mean(axis=0), correlations.mean(axis=1))
        margins[rows] = correlations.diagonal() - others
    mismatched = np.flatnonzero(margins <= 0)
    if len(mismatched) <= 3 + n_samples / 100:
        return mismatched[:0]
    return mismatched[np.argsort(margins[mismatched], kind="stable")]


def warn_of_mismatches(X_a, X_b, *, samples, stacklevel):
    """Warn where rows of two spaces seem to be different samples.

    Parameters
    ----------
    X_a, X_b : array-like of shape (n_samples, n_features)
        What should be the same samples, in the same order.
    samples : str
        What the rows are, for the message.
    stacklevel : int
        As `warnings.warn` takes it, counted from the caller.

    Warns
    -----
    UserWarning
        If `mismatched_rows` finds some.
    """
    mismatched = mismatched_rows(X_a, X_b)
    if len(mismatched):
        rows = ", ".join(map(str, mismatched[:10])) + ", ..." * (len(mismatched) > 10)
        warn(
            f"{samples} must be the same samples in the same order, and their two "
            f"encoders must have something in common; got {len(mismatched)} of "
            f"{len(X_a)} rows whose similarities to the others differ, which is about "
            f"4 in 10 of wrong rows: rows {rows}",
            UserWarning,
            stacklevel=stacklevel + 1,
        )
