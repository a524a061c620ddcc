"""Distances along the rows of a space: shortest paths on a graph of neighbours."""

from numbers import Integral

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra
from sklearn.utils import gen_batches
from sklearn.utils.random import sample_without_replacement

from skinvariant._validation import check_number
from skinvariant.metrics._products import compare_euclidean, prepare_euclidean
from skinvariant.metrics._rows import BATCH

# a graph has no more rows than these beside the anchors, since all pairs are compared
MOST_ROWS = 5_000
# distances that differ by no more than this part are equal: so are they in float32, and
# after a rotation or `pre`, whose rounding breaks ties
_TIES = 1e-6


def rows_of_graph(n_rows):
    """Choose which rows of a space a graph is made of.

    Parameters
    ----------
    n_rows : int
        How many rows there are.

    Returns
    -------
    ndarray of shape (min(n_rows, MOST_ROWS),), dtype int
        All of them, or as many drawn at random; the same for every space of as many
        rows.

    Examples
    --------
    >>> from skinvariant.metrics._graphs import rows_of_graph
    >>> rows_of_graph(3).tolist(), len(rows_of_graph(100_000))
    ([0, 1, 2], 5000)
    """
    if n_rows <= MOST_ROWS:
        return np.arange(n_rows)
    return np.sort(sample_without_replacement(n_rows, MOST_ROWS, random_state=0))


def _neighbours(gaps, count):
    """Return which of the distances in each row are its `count` smallest, and ties."""
    last = min(count, gaps.shape[1]) - 1
    limits = np.partition(gaps, last, axis=1)[:, [last]]
    return gaps <= limits * (1 + _TIES)


def _bridges(gaps, labels):
    """Return the nearest pairs of rows, and ties, between each two components."""
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(labels.max() + 1))
    nearest = np.minimum.reduceat(gaps[:, order], starts, axis=1)
    nearest = np.minimum.reduceat(nearest[order], starts, axis=0)
    limits = nearest * (1 + _TIES)
    np.fill_diagonal(limits, -1.0)
    return gaps <= limits[labels][:, labels]


def prepare_geodesic(anchors, n_neighbors=10, *, rows=None):
    """Find the shortest paths from the anchors to all nodes: the anchors and `rows`."""
    check_number("metric_params n_neighbors of geodesic", n_neighbors, Integral, 1)
    both = anchors if rows is None else np.concatenate([anchors, rows])
    nodes, places = np.unique(both.astype(np.float64), axis=0, return_inverse=True)
    prepared = prepare_euclidean(nodes)
    gaps = compare_euclidean(nodes, *prepared)
    linked = _neighbours(gaps, n_neighbors + 1)  # each is itself the nearest one
    n_parts, labels = connected_components(csr_array(linked), directed=False)
    if n_parts > 1:
        linked |= _bridges(gaps, labels)
    graph = csr_array((gaps[linked], np.nonzero(linked)), shape=gaps.shape)
    sources = places.ravel()[: len(anchors)]
    paths = dijkstra(graph, directed=False, indices=sources)
    return np.ascontiguousarray(paths.T), int(n_neighbors), *prepared


def compare_geodesic(X, paths, n_neighbors, *euclidean):
    """Go from each row to one of its nearest rows of the graph, and on to the anchors.

    Of these ways the shortest counts, which for a row of the graph is its own path.
    """
    values = np.empty((len(X), paths.shape[1]))
    for batch in gen_batches(len(X), max(1, BATCH // len(paths))):
        gaps = compare_euclidean(X[batch], *euclidean)
        near = _neighbours(gaps, n_neighbors)
        for value, gap, chosen in zip(values[batch], gaps, near, strict=True):
            ways = paths[chosen] + gap[chosen, None]  # none where distances overflow
            np.min(ways, axis=0, out=value, initial=np.inf)
    return values
