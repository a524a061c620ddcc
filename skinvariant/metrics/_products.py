"""Metrics that follow from inner products: cosine, angle, correlation, Euclidean.

Each has a form of its own, for any array library and rows of any scale.  Several of
them, of dense NumPy rows of ordinary scale, are read off one matrix product; rows for
which the product is too inexact are computed again in the metrics' own forms.
"""

import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
from scipy.sparse import issparse

from skinvariant._validation import astype, namespace, take_rows
from skinvariant.metrics._rows import (
    BATCH,
    ORDINARY,
    centred_directions,
    directions,
    divide_rows,
    inner_products,
    replace_rows,
    row_peaks,
    sums_of_squares,
)

# below this ratio of squared distance to squared norms the expansion cancels, and the
# pair is computed from its difference
CANCELLED = 1e-4
# metrics that need rows around the origin
_CENTRED = {"euclidean", "sqeuclidean"}

# a filter of warnings would be one for all threads
_warns_of_undefined_rows = ContextVar("_warns_of_undefined_rows", default=True)


@contextmanager
def undefined_rows_allowed():
    """Compare rows that have no direction without a warning, in this thread.

    For the anchors in a fit: `transform` warns of them.
    """
    token = _warns_of_undefined_rows.set(False)
    try:
        yield
    finally:
        _warns_of_undefined_rows.reset(token)


# --- each metric on its own -----------------------------------------------------


def _directions_for(X, name):
    """Return directions as a metric defines them, and a word for rows without one."""
    xp = namespace(X)
    if name == "correlation":
        return *centred_directions(X, xp.finfo(xp.float64).eps), "constant"
    if name == "angular":
        X = astype(X, xp.float64)
    return *directions(X), "zero"


def _anchor_directions(anchors, name):
    """Return the directions of the anchors, of which at least one must have one."""
    unit, defined, lacking = _directions_for(anchors, name)
    if not bool(namespace(anchors).any(defined)):
        raise ValueError(
            f"metric {name!r} needs anchors that are not {lacking}; got {lacking} rows "
            f"only (after `pre`, if any): n_samples={anchors.shape[0]}, "
            f"n_features={anchors.shape[1]}"
        )
    return unit, defined


def _row_directions(X, name):
    """Return the directions of rows, and warn if a row has none."""
    unit, defined, lacking = _directions_for(X, name)
    if _warns_of_undefined_rows.get() and not bool(namespace(X).all(defined)):
        value = 0.5 if name == "angular" else 0
        warnings.warn(
            f"metric {name!r} is undefined for {lacking} rows (after `pre`, if any): "
            f"they get {value} to every anchor",
            UserWarning,
            stacklevel=2,
        )
    return unit, defined


def prepare_cosine(anchors):
    """Scale the anchors to norm 1."""
    return _anchor_directions(anchors, "cosine")[:1]


def compare_cosine(X, unit_anchors):
    """Multiply the directions of rows and anchors."""
    return inner_products(_row_directions(X, "cosine")[0], unit_anchors)


def prepare_correlation(anchors):
    """Centre each anchor and scale it to norm 1."""
    return _anchor_directions(anchors, "correlation")[:1]


def compare_correlation(X, unit_anchors):
    """Multiply the directions of centred rows and anchors."""
    return inner_products(_row_directions(X, "correlation")[0], unit_anchors)


def prepare_inner(anchors):
    """Check the anchors, which are used unchanged."""
    _anchor_directions(anchors, "inner")
    return (anchors,)


def prepare_angular(anchors):
    """Scale the anchors to norm 1 and prepare the chords between unit rows."""
    unit, defined = _anchor_directions(anchors, "angular")
    return (*prepare_euclidean(unit), defined)


def compare_angular(X, unit_anchors, shift, scale, centred, squares, anchor_defined):
    """Compute angles from the chords between unit rows.

    The arc cosine of the cosine would lose half of the digits of small angles.
    """
    unit, defined = _row_directions(X, "angular")
    chords = compare_euclidean(unit, unit_anchors, shift, scale, centred, squares)
    xp = namespace(chords)
    angles = xp.asin(xp.clip(chords / 2, 0, 1)) * (2 / np.pi)
    opposed = chords > 2 - CANCELLED  # here the chord to the antipode is exact
    if bool(xp.any(opposed)):
        i, j = xp.nonzero(opposed)
        rest = _distances_by_difference(unit, -unit_anchors, i, j)
        angles[opposed] = 1 - xp.asin(rest / 2) * (2 / np.pi)
    known = defined[:, None] & anchor_defined[None, :]
    return xp.where(known, angles, xp.full_like(angles, 0.5))


def _power_of_two(peaks):
    """Return powers of two next to peaks >= 0: scales that cost no rounding."""
    xp = namespace(peaks)
    exponent = xp.floor(xp.log2(xp.clip(peaks, 1e-300, 1e300)))
    return 2.0**exponent


def prepare_euclidean(anchors):
    """Centre the anchors, scale them to a size of about 1, and square their norms.

    Sparse anchors are not centred, which would make them dense.
    """
    xp = namespace(anchors)
    anchors = astype(anchors, xp.float64)
    shift = 0.0 if issparse(anchors) else xp.mean(anchors, axis=0)
    centred = anchors if issparse(anchors) else anchors - shift
    scale = float(_power_of_two(xp.max(row_peaks(centred))))
    centred = centred / scale
    return anchors, shift, scale, centred, sums_of_squares(centred)


def compare_euclidean(X, anchors, shift, scale, centred, squares):
    """Compute Euclidean distances in float64, by one matrix product.

    The squared distance is expanded into norms and inner products, each row in units
    of its own scale; pairs for which the expansion cancels are subtracted instead.
    """
    xp = namespace(X)
    rows = astype(X, xp.float64)
    X = rows if issparse(rows) else rows - shift
    scales = xp.clip(_power_of_two(row_peaks(X)), scale, None)
    X, ratio = divide_rows(X, scales), scale / scales
    norms = sums_of_squares(X)[:, None] + ratio**2 * squares[None, :]
    expanded = norms - 2 * ratio * inner_products(X, centred)
    cancelled = expanded <= CANCELLED * norms
    distances = xp.sqrt(xp.clip(expanded, 0, None)) * scales
    if bool(xp.any(cancelled)):
        i, j = xp.nonzero(cancelled)
        distances[cancelled] = _distances_by_difference(rows, anchors, i, j)
    return distances


def compare_sqeuclidean(X, *prepared):
    """Square the Euclidean distances."""
    return compare_euclidean(X, *prepared) ** 2


def _distances_by_difference(X, anchors, rows, columns):
    """Compute Euclidean distances of pairs from their differences, at any scale."""
    xp = namespace(X)
    step = max(1, BATCH // X.shape[1])
    parts = []
    for start in range(0, rows.shape[0], step):
        chosen = slice(start, min(start + step, rows.shape[0]))
        gap = take_rows(X, rows[chosen]) - take_rows(anchors, columns[chosen])
        peaks = row_peaks(gap)
        squares = sums_of_squares(divide_rows(gap, peaks))
        parts.append(peaks[:, 0] * xp.sqrt(squares))
    return xp.concat(parts)


# --- several metrics from one matrix product ------------------------------------


@dataclass(frozen=True)
class _Product:
    """What some metrics need of the anchors; fitted models hold the fields as a tuple.

    Either `own` is given, or all that the product needs.
    """

    # the metrics that are computed from it
    names: tuple
    # the anchors before any change, for rows and pairs that are computed again
    anchors: np.ndarray
    # what each metric's own form prepared, by name; None where the product is used
    own: dict | None = None
    # the right-hand side of the product: the anchors, centred or scaled to norm 1
    right: np.ndarray | None = None
    # squared norms of `right`
    squares: np.ndarray | None = None
    # norms of the anchors
    lengths: np.ndarray | None = None
    # mean of the anchors, subtracted from both sides; None: both stay where they are
    shift: np.ndarray | None = None
    # inner products of anchors and shift, by which products become uncentred again
    offsets: np.ndarray | None = None
    # a centred row longer than this times its uncentred norm loses digits on the way
    longest: float | None = None
    # a squared distance at most this part of the squared norms has lost digits
    lost: float | None = None


def prepare_products(anchors, members):
    """Prepare what several metrics read off one matrix product, or at most two.

    Distances need rows around the origin.  One product serves all metrics if the
    products of uncentred rows can be recovered from it without loss.

    Parameters
    ----------
    anchors : array of shape (n_anchors, n_features), float32 or float64
        The anchors.
    members : dict of str to Metric
        The metrics.

    Returns
    -------
    tuple
        The fields of one `_Product` or two, for `compare_products`.
    """
    names = tuple(members)
    centred = tuple(name for name in names if name in _CENTRED)
    direct = tuple(name for name in names if name not in _CENTRED)
    for name in direct:
        _anchor_directions(anchors, name)  # for its check
    product = None
    dense = namespace(anchors) is np and not issparse(anchors)
    if dense:
        product = _prepare_product(anchors, names, centred, direct)
        if product is None and centred and direct:
            return sum(
                (
                    prepare_products(anchors, {name: members[name] for name in part})
                    for part in (centred, direct)
                ),
                (),
            )
    if product is None:
        own = {name: metric.preparation(anchors) for name, metric in members.items()}
        product = _Product(names, anchors, own)
    return (tuple(vars(product).values()),)


def _norms(X):
    """Return the norm of each row, in float64."""
    return np.linalg.norm(X.astype(np.float64), axis=1)


def _prepare_product(anchors, names, centred, direct):
    """Return the product for all these metrics, or None if it would be too inexact."""
    dtype = anchors.dtype
    low, high = ORDINARY[dtype.name]
    lost = CANCELLED
    if dtype == np.float32:
        # above it distances are right within 1e-5, since the product is wrong by about
        # sqrt(n_features) units of rounding
        eps = float(np.finfo(dtype).eps)
        lost = 5e4 * eps / 2 * float(np.sqrt(anchors.shape[1] + 16))
    lengths = _norms(anchors)
    if lost > 0.5 or (direct and not low < lengths.min() <= lengths.max() < high):
        return None
    shift, right, offsets, longest = None, anchors, None, None
    if centred:
        shift = anchors.mean(axis=0, dtype=np.float64).astype(dtype)
        right = anchors - shift
    elif "inner" not in names:
        right = (anchors / lengths[:, None]).astype(dtype)
    spread = _norms(right)
    if not low < spread.max() < high:
        return None
    if centred and direct:
        reach = spread.max() + np.linalg.norm(shift.astype(np.float64))
        longest = float(4 * lengths.min() / reach)
        if (spread > longest * lengths).any():
            return None
        offsets = (anchors.astype(np.float64) @ shift).astype(dtype)
    return _Product(
        names,
        anchors,
        right=right,
        squares=(spread**2).astype(dtype),
        lengths=lengths.astype(dtype),
        shift=shift,
        offsets=offsets,
        longest=longest,
        lost=lost,
    )


def compare_products(X, members, prepared):
    """Compute several metrics, from one matrix product for each part of `prepared`.

    Parameters
    ----------
    X : array of shape (n_samples, n_features), float32 or float64
        Rows.
    members : dict of str to Metric
        The metrics.
    prepared : tuple
        From `prepare_products`.

    Returns
    -------
    dict of str to array of shape (n_samples, n_anchors)
        The values by metric.
    """
    values = {}
    for fields in prepared:
        product = _Product(*fields)
        names, anchors = product.names, product.anchors
        dtype = namespace(X).result_type(X.dtype, anchors.dtype)
        if dtype != anchors.dtype:  # what was prepared is exact in its dtype only
            chosen = {name: members[name] for name in names}
            wide = prepare_products(astype(anchors, dtype), chosen)
            values |= compare_products(X, chosen, wide)
            continue
        if product.own is not None:
            for name in names:
                values[name] = members[name].comparison(X, *product.own[name])
            continue
        rows = X.astype(dtype, copy=False)
        found, inexact = _read_off(rows, product)
        if inexact.any():
            for name in names:
                metric = members[name]
                own = metric.comparison(rows[inexact], *metric.preparation(anchors))
                found[name] = replace_rows(found[name], inexact, own)
        values |= found
    return values


def _read_off(X, product):
    """Compute values from one matrix product; find the rows where it is too inexact."""
    names, shift = product.names, product.shift
    low, high = (bound**2 for bound in ORDINARY[X.dtype.name])
    moved = X if shift is None else X - shift
    squares = np.einsum("ij,ij->i", moved, moved)
    products = moved @ product.right.T
    inexact = ~((squares > low) & (squares < high))
    values = {}
    if not _CENTRED.isdisjoint(names):
        kept = products if _CENTRED.issuperset(names) else products.copy()
        distances, crowded = _expanded_distances(X, kept, squares, product)
        inexact |= crowded
        values = {"euclidean": distances}
        if "sqeuclidean" in names:
            values["sqeuclidean"] = distances**2
    if not _CENTRED.issuperset(names):
        lengths = np.sqrt(squares)
        if shift is not None:
            products += (moved @ shift)[:, None]
            products += product.offsets
            squares = np.einsum("ij,ij->i", X, X)
            inexact |= ~((squares > low) & (squares < high))
            inexact |= lengths > product.longest * np.sqrt(squares)
            lengths = np.sqrt(squares)
        values["inner"] = products
        if not {"cosine", "angular"}.isdisjoint(names):
            out = None if "inner" in names else products
            cosines = np.divide(products, lengths[:, None], out=out)
            if "inner" in names or shift is not None:
                cosines /= product.lengths
            values["cosine"] = cosines
        if "angular" in names:  # small angles lose the digits of their cosines
            inexact |= (np.abs(cosines) > 1 - product.lost).any(axis=1)
            values["angular"] = np.arccos(np.clip(cosines, -1, 1)) / np.pi
    return {name: values[name] for name in names}, inexact


def _expanded_distances(X, products, squares, product):
    """Turn inner products into Euclidean distances, by the expansion of the square.

    Pairs that cancel are computed from their differences, except in rows that have
    many of them: these rows are returned as crowded.
    """
    anchors = product.anchors
    both = squares[:, None] + product.squares
    gaps = np.multiply(products, -2, out=products)
    gaps += both
    both *= product.lost
    near = gaps <= both
    distances = np.sqrt(np.maximum(gaps, 0, out=gaps), out=gaps)
    crowded = np.zeros(X.shape[0], dtype=bool)
    if near.any():
        crowded = np.count_nonzero(near, axis=1) > max(1, anchors.shape[0] // 32)
        near[crowded] = False
        i, j = np.nonzero(near)
        if i.size:
            distances[i, j] = _distances_by_difference(X, anchors, i, j)
    return distances, crowded
