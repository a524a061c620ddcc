"""From few known pairs of rows to many, among the unlabelled rows of two spaces.

This is a room of its own, since it needs a translation, which needs anchors.
"""

import warnings
from numbers import Integral

import numpy as np
from sklearn.model_selection import KFold
from sklearn.utils import Bunch, check_array, gen_batches

from skinvariant._validation import check_indices, check_number, in_numpy
from skinvariant.translation import SpaceTranslator

__all__ = ["bootstrap_anchors"]

_FEWEST_PAIRS = 5
_N_FOLDS = 5
_N_NEIGHBOURS = 10
# how many times as many pairs each round has: wrong matches of a faster growth stay
_GROWTH = 1.5
# below it, matches are usually wrong
_LEAST_RECALL = 0.25
_ROWS_AT_ONCE = 512


def _shared_coordinates(X_a, X_b, pairs):
    """Return rows of two spaces in coordinates that an isometry would leave equal.

    These are the coordinates in the span of the pairs, of which the first space's are
    rotated onto the second's, and the distance from that span.  Inner products of rows
    of both spaces are cosines.

    Parameters
    ----------
    X_a, X_b : ndarray of shape (n_samples_a, n_features_a) and (n_samples_b, \
            n_features_b), dtype float32
        The spaces.
    pairs : ndarray of shape (n_pairs, 2)
        Row numbers of corresponding rows.

    Returns
    -------
    list of two ndarray of shape (n_samples_a, n_coordinates) and (n_samples_b, \
            n_coordinates)
        The coordinates.
    """
    inside, norms = [], []
    for X, rows in ((X_a, pairs[:, 0]), (X_b, pairs[:, 1])):
        X = X - X[rows].mean(axis=0)
        norms.append(np.linalg.norm(X, axis=1, keepdims=True))
        few = len(rows) < X.shape[1]
        inside.append(X @ np.linalg.qr(X[rows].T)[0] if few else X)
    a, b = inside
    rotation = SpaceTranslator("orthogonal", scale=False)
    rotation = rotation.fit(a[pairs[:, 0]], b[pairs[:, 1]]).coef_.T.astype(a.dtype)
    a = a @ rotation
    coordinates = []
    for x, in_span, norm in ((a, a, norms[0]), (b, b @ rotation.T, norms[1])):
        norm[norm == 0] = 1
        share = np.linalg.norm(in_span / norm, axis=1, keepdims=True)
        distance = np.sqrt(np.maximum(1 - share**2, 0))
        coordinates.append(np.hstack([x / norm, distance]))
    return coordinates


def _local_similarity(a, b):
    """Return the mean similarity of each row of `a` to the nearest rows of `b`."""
    k = min(_N_NEIGHBOURS, len(b))
    return np.concatenate(
        [
            np.partition(a[rows] @ b.T, -k, axis=1)[:, -k:].mean(axis=1)
            for rows in gen_batches(len(a), _ROWS_AT_ONCE)
        ]
    )


def _nearest(a, b):
    """Return the row of `b` nearest to each row of `a`, and its lead over the second.

    Rows that are near to everything count as less near, by CSLS.
    """
    hubness = _local_similarity(b, a) / 2
    found, leads = [], []
    for rows in gen_batches(len(a), _ROWS_AT_ONCE):
        similarity = a[rows] @ b.T - hubness
        found.append(similarity.argmax(axis=1))
        own = np.arange(len(similarity)), found[-1]
        first, similarity[own] = similarity[own], -np.inf
        leads.append(first - similarity.max(axis=1))
    return np.concatenate(found), np.concatenate(leads)


def _grow(X_a, X_b, seeds, n_anchors):
    """Return matches outside the seeds, best first, and their leads."""
    free_a = np.setdiff1d(np.arange(len(X_a)), seeds[:, 0])
    free_b = np.setdiff1d(np.arange(len(X_b)), seeds[:, 1])
    matches, size = seeds[:0], len(seeds)
    last = False
    while not last:
        last = size == n_anchors  # one more round, with all of the matches
        size = min(n_anchors, int(np.ceil(size * _GROWTH)))
        a, b = _shared_coordinates(X_a, X_b, np.concatenate([seeds, matches]))
        (to_b, leads_a), (to_a, leads_b) = (
            _nearest(*both) for both in ((a[free_a], b[free_b]), (b[free_b], a[free_a]))
        )
        mutual = np.flatnonzero(to_a[to_b] == np.arange(len(to_b)))
        leads = np.minimum(leads_a[mutual], leads_b[to_b[mutual]])
        best = np.argsort(-leads, kind="stable")[: size - len(seeds)]
        mutual = mutual[best]
        matches = np.stack([free_a[mutual], free_b[to_b[mutual]]], axis=1)
    return matches, leads[best]


def _n_found(X_a, X_b, pairs, held_out):
    """Count rows of pairs whose partner is among the nearest, seen from either side."""
    a, b = _shared_coordinates(X_a, X_b, pairs)
    n_found = 0
    for x, y, (rows, partners) in ((a, b, held_out.T), (b, a, held_out.T[::-1])):
        similarity = x[rows] @ y.T - _local_similarity(y, x) / 2
        own = similarity[np.arange(len(rows)), partners]
        at_least = np.sum(similarity >= own[:, np.newaxis], axis=1)  # itself included
        n_found += np.sum(at_least <= min(_N_NEIGHBOURS, np.ceil(len(y) / 100)))
    return n_found


def bootstrap_anchors(X_a, X_b, pairs, n_anchors=300):
    """Find more parallel anchors from few known pairs and unlabelled rows.

    The rows of the two spaces need not correspond, and may be without a partner.  Ten
    to thirty known pairs are enough where two encoders have much in common.

    Parameters
    ----------
    X_a, X_b : array-like of shape (n_samples_a, n_features_a) and (n_samples_b, \
            n_features_b)
        The spaces, in any order of rows.
    pairs : array-like of shape (n_pairs, 2), dtype int
        The known pairs, 5 or more: the row of `X_a`, and the row of `X_b` that is the
        same sample.
    n_anchors : int, default=300
        How many pairs to return at most, the known ones included.

    Returns
    -------
    Bunch
        What was found, with these attributes:

        - pairs : ndarray of shape (n_found, 2), dtype int.  Row numbers: the known
          pairs in their order, then the matches, of decreasing confidence.  No row is
          in two pairs.
        - confidence : ndarray of shape (n_found,).  Of each match, the lead of its
          similarity over that of the next best partner of either row, at least 0; of
          known pairs infinity.
        - recall : float in [0, 1].  Of known pairs that were held out, in 5 folds, the
          share of rows whose partner is then among the 10 nearest rows, or the nearest
          hundredth of fewer than 1,000 rows.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or a space has fewer than 2 rows that are in no
        known pair.

    Warns
    -----
    UserWarning
        If `recall` is below 0.25: most matches are probably wrong then.

    See Also
    --------
    skinvariant.comparison.mismatched_rows : Wrong pairs among known ones.

    Notes
    -----
    Each round compares the rows of both spaces in the relative space of the present
    pairs: their coordinates in the span of the pairs, rotated onto each other
    (Procrustes), and their distance from it, of which an isometry would change nothing.
    Matches are mutual nearest neighbours by the cosine there, corrected for hubs (CSLS)
    [2]_.  Those with the largest leads become pairs of the next round, 1.5 times as
    many as before, until there are `n_anchors`; one more round follows.  Growing a
    dictionary from 25 pairs by such rounds is due to [3]_, and the question, answered
    there by gradient descent on the anchors, to [1]_.

    Time and memory: for 5,000 rows of either space, less than a minute on one core, and
    a few copies of the spaces in float32.  The time grows with the product of both
    numbers of rows.

    References
    ----------
    .. [1] I. Cannistraci et al., "Bootstrapping parallel anchors for relative
       representations", ICLR 2023 Tiny Papers, arXiv 2303.00721.
    .. [2] A. Conneau et al., "Word translation without parallel data", ICLR 2018,
       arXiv 1710.04087.
    .. [3] M. Artetxe, G. Labaka and E. Agirre, "Learning bilingual word embeddings with
       (almost) no bilingual data", ACL 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.datasets import make_related_spaces
    >>> from skinvariant.matching import bootstrap_anchors
    >>> spaces = make_related_spaces(400, transformation="orthogonal", noise=0.05,
    ...                              random_state=0)
    >>> order = np.random.default_rng(0).permutation(400)
    >>> X_a, X_b = spaces.X_a, spaces.X_b[order]
    >>> known = np.stack([order[:10], np.arange(10)], axis=1)
    >>> found = bootstrap_anchors(X_a, X_b, known, n_anchors=100)
    >>> rows_a, rows_b = found.pairs.T
    >>> len(rows_a), float(np.mean(order[rows_b] == rows_a)), found.recall
    (100, 1.0, 1.0)
    """
    spaces = []
    for name, X in (("X_a", X_a), ("X_b", X_b)):
        X = in_numpy(name, X)
        X = check_array(X, dtype=[np.float64, np.float32], input_name=name)
        X = X / (np.abs(X).max() or 1)  # sums of the largest numbers overflow
        X = X - X.mean(axis=0)
        spaces.append((X / (np.abs(X).max() or 1)).astype(np.float32))
    pairs = np.asarray(in_numpy("pairs", pairs))
    if pairs.ndim != 2 or pairs.shape[1] != 2 or len(pairs) < _FEWEST_PAIRS:
        raise ValueError(
            f"pairs must be {_FEWEST_PAIRS} pairs of row numbers or more, of shape "
            f"(n_pairs, 2); got shape {pairs.shape}"
        )
    for X, rows, name in zip(spaces, pairs.T, ("X_a", "X_b"), strict=True):
        check_indices(rows, len(X), source=f"the rows of {name} in pairs")
        if len(X) < len(pairs) + 2:
            raise ValueError(
                f"{name} must have 2 rows or more that are in no pair; got {len(X)} "
                f"rows and {len(pairs)} pairs"
            )
    pairs = pairs.astype(np.intp)
    n_anchors = int(check_number("n_anchors", n_anchors, Integral, len(pairs) + 1))
    n_anchors = min(n_anchors, *map(len, spaces))
    matches, leads = _grow(*spaces, pairs, n_anchors)
    n_found = 0
    folds = KFold(_N_FOLDS, shuffle=True, random_state=0).split(pairs)
    for kept, held_out in folds:
        seeds = pairs[kept]
        grown = np.concatenate([seeds, _grow(*spaces, seeds, n_anchors)[0]])
        n_found += _n_found(*spaces, grown, pairs[held_out])
    recall = float(n_found / (2 * len(pairs)))
    if recall < _LEAST_RECALL:
        warnings.warn(
            f"pairs must be enough for the two spaces: of held-out pairs at least "
            f"{_LEAST_RECALL:.0%} must be among the {_N_NEIGHBOURS} nearest, or most "
            f"matches are probably wrong; got {recall:.0%} of {len(pairs)} pairs",
            UserWarning,
            stacklevel=2,
        )
    return Bunch(
        pairs=np.concatenate([pairs, matches]),
        confidence=np.concatenate([np.full(len(pairs), np.inf), leads]),
        recall=recall,
    )
