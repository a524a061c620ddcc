"""Metrics: functions that compare rows with anchors, and what each does not see.

Every metric is a function ``(X, anchors) -> (n_samples, n_anchors)``.  The registry
`METRICS` holds, beside each function, whether a larger value means closer and the
classes of transformations that leave the values unchanged when one transformation
is applied to rows and anchors alike: its *invariances*.

Numbers are taken seriously: rows keep their dtype (float32 in, float32 out),
Euclidean distances are exact for near and equal rows and far from the origin, and
rows of any scale that the dtype can hold are compared without under- or overflow.
"""

import functools
import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import numpy as np
from scipy.sparse import csr_array, issparse
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import manhattan_distances
from sklearn.utils import check_array

from skinvariant._validation import (
    as_dtype,
    as_float,
    astype,
    canonical,
    check_choice,
    check_number,
    namespace,
    svd,
    take_rows,
)

__all__ = [
    "METRICS",
    "TRANSFORMATIONS",
    "Metric",
    "angular",
    "change_of_basis",
    "chebyshev",
    "correlation",
    "cosine",
    "euclidean",
    "get_metric",
    "inner",
    "l2_normalize",
    "layer_normalize",
    "mahalanobis",
    "manhattan",
    "minkowski",
    "sqeuclidean",
    "whitening",
]

#: The classes of transformations an invariance can name.  Scalings are positive.
TRANSFORMATIONS = (
    "isotropic_scaling",
    "orthogonal",
    "translation",
    "permutation",
    "signed_permutation",
    "axis_scaling",
    "linear",
    "affine",
)

# what invariance to one class includes
_INCLUDES = {
    "affine": {"linear", "translation"},
    "linear": {"orthogonal", "axis_scaling"},
    "orthogonal": {"signed_permutation"},
    "signed_permutation": {"permutation"},
    "axis_scaling": {"isotropic_scaling"},
}

# a pair whose squared distance is this part of its squared norms has lost digits
_CANCELLED = 1e-4
# values at most this many rounding errors apart are taken as equal
_ROUNDINGS = 16
_BATCH = 2**18
# a row whose standard deviation is this part of its mean has lost digits
_ALMOST_CONSTANT = 1e-3


def _with_included(classes):
    """Add to some invariances those that they include."""
    found = set(classes)
    unknown = found.difference(TRANSFORMATIONS)
    if unknown:
        raise ValueError(
            f"invariances must be of {TRANSFORMATIONS}; got {sorted(unknown)}"
        )
    for _ in TRANSFORMATIONS:
        found.update(*(_INCLUDES.get(name, ()) for name in found))
        if {"orthogonal", "axis_scaling"} <= found:  # by the SVD
            found.add("linear")
        if {"linear", "translation"} <= found:
            found.add("affine")
    return frozenset(found)


@dataclass(frozen=True)
class Metric:
    """A function that compares rows with anchors, and what is known about it.

    Parameters
    ----------
    name : str
        Its name, as it appears in the names of output features.
    function : callable
        ``function(X, anchors, **params) -> array of shape (n_samples, n_anchors)``.
        Each row of the result may depend on that row of `X` and the anchors only.
    larger_is_closer : bool, default=False
        True for similarities, False for distances.
    invariances : collection of str, default=()
        The classes of `TRANSFORMATIONS` that leave the values unchanged when applied
        to rows and anchors alike.  Included classes (rotations in linear maps, say)
        are added by themselves.  The most that can hold, where they depend on
        parameters or anchors.
    homogeneous : bool, default=False
        Whether scaling rows and anchors by one factor multiplies all values by one
        factor, so that `post="layer"` and `post="l2"` remove it.
    sparse : bool, default=False
        Whether it takes CSR input.
    array_api : bool, default=False
        Whether it takes arrays of other libraries, under array API dispatch.
    prepare : callable, default=None
        ``prepare(anchors, **params) -> tuple``: what can be computed once, at fit.
        None: nothing.
    compare : callable, default=None
        ``compare(X, *prepared)``, the rest of the work; goes with `prepare`.
    fitted_invariances : callable, default=None
        ``fitted_invariances(*prepared) -> collection of str``: the invariances where
        they depend on parameters or anchors.  None: they do not.

    Examples
    --------
    A similarity of one's own, with its promise:

    >>> import numpy as np
    >>> from skinvariant.metrics import Metric, euclidean
    >>> def gaussian(X, anchors):
    ...     return np.exp(-0.5 * euclidean(X, anchors) ** 2)
    >>> rbf = Metric("rbf", gaussian, larger_is_closer=True,
    ...              invariances=("orthogonal", "translation"))
    >>> sorted(rbf.invariances)
    ['orthogonal', 'permutation', 'signed_permutation', 'translation']
    >>> values = rbf.function(np.zeros((1, 2)), np.array([[3.0, 4.0]]))
    >>> round(float(values[0, 0]), 8)
    3.73e-06
    """

    name: str
    function: Callable
    larger_is_closer: bool = False
    invariances: frozenset = frozenset()
    homogeneous: bool = False
    sparse: bool = False
    array_api: bool = False
    prepare: Callable | None = None
    compare: Callable | None = None
    fitted_invariances: Callable | None = None

    def __post_init__(self):
        object.__setattr__(self, "invariances", _with_included(self.invariances))

    def fit(self, anchors, params=None):
        """Compute once what depends on the anchors alone.

        Parameters
        ----------
        anchors : array of shape (n_anchors, n_features), float32 or float64
            The anchors, already validated.
        params : dict, default=None
            Parameters of the metric.

        Returns
        -------
        tuple
            For `transform`.

        Raises
        ------
        TypeError
            If the function does not take these parameters.
        """
        params = self._checked(params)
        if self.prepare is None:
            return anchors, params
        return self.prepare(anchors, **params)

    def transform(self, X, fitted):
        """Compare rows with the anchors of `fitted`.

        Parameters
        ----------
        X : array of shape (n_samples, n_features), float32 or float64
            The rows, already validated.
        fitted : tuple
            What `fit` returned.

        Returns
        -------
        array of shape (n_samples, n_anchors)
            The relative space, perhaps in a wider dtype than that of `X`.
        """
        if self.prepare is None:
            anchors, params = fitted
            return self.function(X, anchors, **params)
        return self.compare(X, *fitted)

    def _checked(self, params):
        """Return parameters as a dict, if the function takes them."""
        params = dict(params or {})
        try:
            inspect.signature(self.function).bind(None, None, **params)
        except ValueError:  # a builtin without a signature: its call will tell
            pass
        except TypeError as error:
            raise TypeError(
                f"metric {self.name!r} does not take metric_params={params}: {error}"
            ) from error
        return params

    def invariances_of(self, fitted):
        """Return the invariances that hold for these parameters and anchors.

        Parameters
        ----------
        fitted : tuple
            What `fit` returned.

        Returns
        -------
        frozenset of str
            Classes of `TRANSFORMATIONS`.
        """
        if self.fitted_invariances is None:
            return self.invariances
        return _with_included(self.fitted_invariances(*fitted))


def get_metric(metric):
    """Return the `Metric` for a name, a `Metric` or a callable.

    Parameters
    ----------
    metric : str, Metric or callable
        A name of `METRICS`; a `Metric`; or a function ``(X, anchors) -> values``,
        taken as a distance without promised invariances.

    Returns
    -------
    Metric
        The metric.

    Raises
    ------
    TypeError, ValueError
        If it is none of these.

    Examples
    --------
    >>> from skinvariant.metrics import get_metric
    >>> get_metric("cosine").larger_is_closer
    True
    """
    if isinstance(metric, Metric):
        return metric
    if callable(metric):
        inner_function = getattr(metric, "func", metric)  # of a functools.partial
        name = getattr(inner_function, "__name__", type(metric).__name__)
        return Metric(name.strip("<>"), metric)
    return check_choice("metric", metric, METRICS, or_else="a Metric, or a callable")


def _pairwise(name, X, anchors, **params):
    """Validate, then compare: what every public function of this module does."""
    metric = METRICS[name]
    checks = {"accept_sparse": "csr" if metric.sparse else False}
    X = as_float(check_array(X, input_name="X", **checks))
    anchors = as_float(check_array(anchors, input_name="anchors", **checks))
    xp = namespace(X)
    if xp is not namespace(anchors):
        raise TypeError(
            "X and anchors must be arrays of one library; got "
            f"{type(X).__module__} and {type(anchors).__module__}"
        )
    if xp is not np and not metric.array_api:
        raise TypeError(
            f"metric {name!r} needs NumPy input; got {type(X).__module__}."
            f"{type(X).__name__}"
        )
    if X.shape[1] != anchors.shape[1]:
        raise ValueError(
            "X and anchors must have the same number of features; "
            f"got {X.shape[1]} and {anchors.shape[1]}"
        )
    if issparse(X) or issparse(anchors):
        X, anchors = canonical(csr_array(X)), canonical(csr_array(anchors))
    with np.errstate(all="ignore"):
        values = metric.transform(X, metric.fit(anchors, params))
    return as_dtype(values, X.dtype)


# --- the mathematics -----------------------------------------------------------


def _product(X, anchors):
    """All inner products, dense."""
    if issparse(X) or issparse(anchors):
        product = X @ anchors.T
        return product.toarray() if issparse(product) else product
    xp = namespace(X)
    if X.dtype != anchors.dtype:
        wide = xp.result_type(X.dtype, anchors.dtype)
        X, anchors = astype(X, wide), astype(anchors, wide)
    return X @ anchors.T


def _sum_of_squares(X):
    """Squared norm of each row, as a 1-D array."""
    if issparse(X):
        return np.asarray(X.multiply(X).sum(axis=1)).ravel()
    return namespace(X).sum(X * X, axis=1)


def _row_peaks(X):
    """Largest absolute entry of each row, as a column."""
    if issparse(X):
        return abs(X).max(axis=1).todense().reshape(-1, 1)
    xp = namespace(X)
    return xp.max(xp.abs(X), axis=1, keepdims=True)


def _divide_rows(X, column):
    """Divide each row by an entry of a column, 0 counting as 1."""
    xp = namespace(X)
    column = xp.where(column > 0, column, xp.ones_like(column))
    if not issparse(X):
        return X / column
    values = X.data / np.repeat(column[:, 0], np.diff(X.indptr))
    return csr_array((values, X.indices, X.indptr), shape=X.shape)


def _directions(X):
    """Rows scaled to norm 1, and which of them have a direction at all.

    Rows are divided by their largest entry first, so that no scale is lost.
    """
    peak = _row_peaks(X)
    X = _divide_rows(X, peak)
    norm = namespace(X).sqrt(_sum_of_squares(X))[:, None]
    return _divide_rows(X, norm), peak[:, 0] > 0


def _centred_directions(X, eps):
    """Rows minus their mean, scaled to norm 1, in float64.

    Those that vary by rounding alone, in units of `eps`, become 0: they have none.
    """
    xp = namespace(X)
    X = astype(X, xp.float64)
    X = _divide_rows(X, _row_peaks(X))
    X = X - xp.mean(X, axis=1, keepdims=True)
    constant = _row_peaks(X) <= _ROUNDINGS * eps
    return _directions(xp.where(constant, xp.zeros_like(X), X))


def _directions_for(X, name):
    """Directions as a metric takes them, and the word for rows that have none."""
    xp = namespace(X)
    if name == "correlation":
        return *_centred_directions(X, xp.finfo(xp.float64).eps), "constant"
    if name == "angular":
        X = astype(X, xp.float64)
    return *_directions(X), "zero"


def _anchor_directions(anchors, name):
    """Directions of the anchors, of which at least one must have one."""
    unit, defined, what = _directions_for(anchors, name)
    if not bool(namespace(anchors).any(defined)):
        raise ValueError(
            f"metric {name!r} needs anchors that are not {what}; got {what} rows only "
            f"(after `pre`, if any): n_samples={anchors.shape[0]}, "
            f"n_features={anchors.shape[1]}"
        )
    return unit, defined


def _row_directions(X, name):
    """Directions of the rows, with a warning where there is none."""
    unit, defined, what = _directions_for(X, name)
    if not bool(namespace(X).all(defined)):
        value = 0.5 if name == "angular" else 0
        warnings.warn(
            f"metric {name!r} is undefined for {what} rows (after `pre`, if any): "
            f"they get {value} to every anchor",
            UserWarning,
            stacklevel=2,
        )
    return unit, defined


def _fit_cosine(anchors):
    return _anchor_directions(anchors, "cosine")[:1]


def _cosine(X, unit_anchors):
    return _product(_row_directions(X, "cosine")[0], unit_anchors)


def _fit_correlation(anchors):
    return _anchor_directions(anchors, "correlation")[:1]


def _correlation(X, unit_anchors):
    return _product(_row_directions(X, "correlation")[0], unit_anchors)


def _fit_angular(anchors):
    unit, defined = _anchor_directions(anchors, "angular")
    return (*_fit_euclidean(unit), defined)


def _angular(X, unit_anchors, shift, scale, centred, squares, anchor_defined):
    # from the chord between unit rows: arccos of the cosine loses half the digits
    unit, defined = _row_directions(X, "angular")
    chords = _euclidean(unit, unit_anchors, shift, scale, centred, squares)
    xp = namespace(chords)
    angles = xp.asin(xp.clip(chords / 2, 0, 1)) * (2 / np.pi)
    opposed = chords > 2 - _CANCELLED  # where the chord to the antipode is exact
    if bool(xp.any(opposed)):
        i, j = xp.nonzero(opposed)
        rest = _distances_by_difference(unit, -unit_anchors, i, j)
        angles[opposed] = 1 - xp.asin(rest / 2) * (2 / np.pi)
    known = defined[:, None] & anchor_defined[None, :]
    return xp.where(known, angles, xp.full_like(angles, 0.5))


def _fit_inner(anchors):
    _anchor_directions(anchors, "inner")  # for its check
    return (anchors,)


def _power_of_two(peak):
    """Powers of two next to peaks >= 0: scales that cost no rounding."""
    xp = namespace(peak)
    exponent = xp.floor(xp.log2(xp.clip(peak, 1e-300, 1e300)))
    return 2.0**exponent


def _fit_euclidean(anchors):
    """Anchors around the origin, of size about 1, and their squared norms.

    A shift would make sparse anchors dense, so these stay where they are.
    """
    xp = namespace(anchors)
    anchors = astype(anchors, xp.float64)
    shift = 0.0 if issparse(anchors) else xp.mean(anchors, axis=0)
    centred = anchors if issparse(anchors) else anchors - shift
    scale = float(_power_of_two(xp.max(_row_peaks(centred))))
    centred = centred / scale
    return anchors, shift, scale, centred, _sum_of_squares(centred)


def _distances_by_difference(X, anchors, rows, columns):
    """Euclidean distances of chosen pairs, from their differences, at any scale."""
    xp = namespace(X)
    step = max(1, _BATCH // X.shape[1])
    parts = []
    for start in range(0, rows.shape[0], step):
        chosen = slice(start, min(start + step, rows.shape[0]))
        gap = take_rows(X, rows[chosen]) - take_rows(anchors, columns[chosen])
        peak = _row_peaks(gap)
        squares = _sum_of_squares(_divide_rows(gap, peak))
        parts.append(peak[:, 0] * xp.sqrt(squares))
    return xp.concat(parts)


def _euclidean(X, anchors, shift, scale, centred, squares):
    """Euclidean distances in float64, by one matrix product.

    That is the expansion into norms and inner products, each row in units of its own
    scale; pairs for which it cancels are subtracted instead.
    """
    xp = namespace(X)
    rows = astype(X, xp.float64)
    X = rows if issparse(rows) else rows - shift
    scales = xp.clip(_power_of_two(_row_peaks(X)), scale, None)
    X, ratio = _divide_rows(X, scales), scale / scales
    norms = _sum_of_squares(X)[:, None] + ratio**2 * squares[None, :]
    expanded = norms - 2 * ratio * _product(X, centred)
    cancelled = expanded <= _CANCELLED * norms
    distances = xp.sqrt(xp.clip(expanded, 0, None)) * scales
    if bool(xp.any(cancelled)):
        i, j = xp.nonzero(cancelled)
        distances[cancelled] = _distances_by_difference(rows, anchors, i, j)
    return distances


def _sqeuclidean(X, *fitted):
    return _euclidean(X, *fitted) ** 2


# each metric of the matrix product on its own, at any scale and for any array
_SLOW = {
    "cosine": (_fit_cosine, _cosine),
    "angular": (_fit_angular, _angular),
    "inner": (_fit_inner, _product),
    "euclidean": (_fit_euclidean, _euclidean),
    "sqeuclidean": (_fit_euclidean, _sqeuclidean),
}
# those that need rows around the origin
_CENTRED = {"euclidean", "sqeuclidean"}
# norms whose squares neither over- nor underflow
_ORDINARY = {"float32": (1e-15, 1e15), "float64": (1e-140, 1e140)}


def _part_lost(dtype, n_features):
    """Return which part of its squared norms a squared distance must exceed.

    Above it, a float32 distance is right within 1e-5, the product being wrong by
    some sqrt(n_features) units of rounding.
    """
    if dtype == np.float64:
        return _CANCELLED
    return 5e4 * float(np.finfo(dtype).eps) / 2 * float(np.sqrt(n_features + 16))


def _fit_products(anchors, names):
    """Prepare what several metrics read off one matrix product, or at most two.

    Distances need rows around the origin.  One product serves all metrics where those
    of the rows as they were can be had back from it without loss.
    """
    for name in names:
        if name not in _CENTRED:
            _anchor_directions(anchors, name)  # for its check
    dense = namespace(anchors) is np and not issparse(anchors)
    fast = _fit_product(anchors, names) if dense else None
    parts = [
        tuple(name for name in names if (name in _CENTRED) == centred)
        for centred in (True, False)
    ]
    if dense and all(parts) and not (fast and fast["shared"]):
        return _fit_products(anchors, parts[0]) + _fit_products(anchors, parts[1])
    slow = None if fast else {name: _SLOW[name][0](anchors) for name in names}
    return ((names, anchors, fast, slow),)


def _fit_product(anchors, names):
    """Compute norms and more of the anchors; None if they are of no ordinary scale."""
    dtype, direct = anchors.dtype, not _CENTRED.issuperset(names)
    low, high = _ORDINARY[dtype.name]
    shift, centred, lengths = None, anchors, _norms(anchors)
    lost = _part_lost(dtype, anchors.shape[1])
    if lost > 0.5 or (direct and not low < lengths.min() <= lengths.max() < high):
        return None
    if not _CENTRED.isdisjoint(names):
        shift = anchors.mean(axis=0, dtype=np.float64).astype(dtype)
        centred = anchors - shift
    elif "inner" not in names:
        centred = (anchors / lengths[:, None]).astype(dtype)
    spread = _norms(centred)
    if not low < spread.max() < high:
        return None
    fast = {"right": centred, "shift": shift, "lost": lost, "shared": True}
    fast["squares"] = (spread**2).astype(dtype)
    fast["lengths"] = lengths.astype(dtype)
    if direct and shift is not None:
        reach = spread.max() + np.linalg.norm(shift.astype(np.float64))
        # rows that, shifted, are longer than this part of themselves lose digits
        fast["longest"] = float(4 * lengths.min() / reach)
        fast["shared"] = bool((spread <= fast["longest"] * lengths).all())
        fast["offsets"] = (anchors.astype(np.float64) @ shift).astype(dtype)
    return fast


def _norms(X):
    """Norm of each row, in float64."""
    return np.linalg.norm(X.astype(np.float64), axis=1)


def _products(X, *parts):
    """Values of several metrics by name, from one matrix product for each part."""
    values = {}
    for part in parts:
        values |= _one_product(X, *part)
    return values


def _one_product(X, names, anchors, fast, slow):
    if fast is None:
        return {name: _SLOW[name][1](X, *slow[name]) for name in names}
    dtype = np.result_type(X, anchors)
    if dtype != anchors.dtype:
        return _products(X, *_fit_products(anchors.astype(dtype), names))
    X = X.astype(dtype, copy=False)
    values, doubtful = _read_off(X, names, anchors, fast)
    if doubtful.any():
        for name in names:
            fit, compare = _SLOW[name]
            slow = compare(X[doubtful], *fit(anchors))
            values[name] = _with_rows(values[name], doubtful, slow)
    return values


def _with_rows(values, rows, wide):
    """Put float64 rows among others, all in float64 if their dtype cannot hold them."""
    info, sizes = np.finfo(values.dtype), np.abs(wide[wide != 0])
    if sizes.size and not info.tiny <= sizes.min() <= sizes.max() <= info.max:
        values = values.astype(wide.dtype)
    values[rows] = wide
    return values


def _read_off(X, names, anchors, fast):
    """Read values off one matrix product, and tell in which rows they are doubtful."""
    low, high = (bound**2 for bound in _ORDINARY[X.dtype.name])
    shift = fast["shift"]
    moved = X if shift is None else X - shift
    squares = np.einsum("ij,ij->i", moved, moved)
    product = moved @ fast["right"].T
    doubtful = ~((squares > low) & (squares < high))
    values = {}
    if not _CENTRED.isdisjoint(names):
        kept = product if _CENTRED.issuperset(names) else product.copy()
        distances, crowded = _expanded(X, anchors, kept, squares, fast)
        doubtful |= crowded
        if "euclidean" in names:
            values["euclidean"] = distances
        if "sqeuclidean" in names:
            values["sqeuclidean"] = distances**2
    if _CENTRED.issuperset(names):
        return values, doubtful
    lengths = np.sqrt(squares)
    if shift is not None:
        product += (moved @ shift)[:, None]
        product += fast["offsets"]
        squares = np.einsum("ij,ij->i", X, X)
        doubtful |= ~((squares > low) & (squares < high))
        doubtful |= lengths > fast["longest"] * np.sqrt(squares)
        lengths = np.sqrt(squares)
    direct, undecided = _directed(product, lengths, names, fast)
    return values | direct, doubtful | undecided


def _expanded(X, anchors, product, squares, fast):
    """Turn products into Euclidean distances; find the rows with many that cancel."""
    both = squares[:, None] + fast["squares"]
    gaps = np.multiply(product, -2, out=product)
    gaps += both
    both *= fast["lost"]
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


def _directed(product, lengths, names, fast):
    """Inner products, cosines and angles, and the rows where angles are too sharp."""
    sharp = np.zeros(product.shape[0], dtype=bool)
    values = {"inner": product}
    if not {"cosine", "angular"}.isdisjoint(names):
        plain = "inner" in names
        cosines = np.divide(product, lengths[:, None], out=None if plain else product)
        if plain or fast["shift"] is not None:
            cosines /= fast["lengths"]
        values["cosine"] = cosines
    if "angular" in names:
        sharp = (np.abs(cosines) > 1 - fast["lost"]).any(axis=1)
        values["angular"] = np.arccos(np.clip(cosines, -1, 1)) / np.pi
    return {name: values[name] for name in names if name in values}, sharp


def _by_anchor(X, anchors, reduce):
    """Reduce the absolute differences to each anchor in turn, in any array library."""
    xp = namespace(X)
    columns = [
        reduce(xp, xp.abs(X - anchors[j, :][None, :])) for j in range(anchors.shape[0])
    ]
    return xp.stack(columns, axis=1)


def _narrow(X):
    """CSR with 32-bit indices, as scikit-learn's sparse L1 distance needs them."""
    indices, starts = X.indices.astype(np.int32), X.indptr.astype(np.int32)
    return csr_array((X.data.copy(), indices, starts), shape=X.shape)


_IN_SCIPY = {"manhattan": "cityblock", "chebyshev": "chebyshev"}


@functools.cache
def _usable_kernels():
    """Import the compiled kernels, or say once that they cannot be used."""
    try:
        from skinvariant import _kernels

        _kernels.load()
    except Exception as error:  # whatever the compiler says: SciPy needs none
        warnings.warn(
            "the compiled kernels of skinvariant cannot be used, so that manhattan and "
            "chebyshev are left to SciPy, which takes some ten times as long: "
            f"{type(error).__name__}: {error}",
            UserWarning,
            stacklevel=2,
        )
        return None
    return _kernels


def _fit_differences(anchors, names):
    """Lay out anchors for the kernels, where these take them."""
    dense = namespace(anchors) is np and not issparse(anchors)
    kernels = _usable_kernels() if dense else None
    return names, anchors, None if kernels is None else kernels.pack(anchors)


def _differences(X, names, anchors, packed):
    """L1 and L-infinity distances, from one pass over the differences."""
    if issparse(X):
        return {"manhattan": manhattan_distances(_narrow(X), _narrow(anchors))}
    if namespace(X) is not np:
        reduced = {
            "manhattan": lambda xp, gap: xp.sum(gap, axis=1),
            "chebyshev": lambda xp, gap: xp.max(gap, axis=1),
        }
        return {name: _by_anchor(X, anchors, reduced[name]) for name in names}
    kernels = _usable_kernels()
    if kernels is None:
        return {name: cdist(X, anchors, _IN_SCIPY[name]) for name in names}
    dtype = np.result_type(X, anchors)
    if packed is None or packed.dtype != dtype:
        packed = kernels.pack(anchors.astype(dtype))
    rows = X.astype(dtype, copy=False)
    values = kernels.compare(rows, packed, anchors.shape[0], names)
    for name in names:
        if not values[name].max(initial=0) < np.inf:  # float64 may hold it
            beyond = ~np.isfinite(values[name]).all(axis=1)
            wide = cdist(X[beyond], anchors, _IN_SCIPY[name])
            values[name] = _with_rows(values[name], beyond, wide)
    return values


_SPECIAL_ORDERS = {1.0: "manhattan", 2.0: "euclidean", np.inf: "chebyshev"}


def _fit_minkowski(anchors, p=2.0):
    p = float(check_number("metric_params p of minkowski", p, Real, 1))
    name = _SPECIAL_ORDERS.get(p)
    return anchors, p, () if name is None else METRICS[name].fit(anchors)


def _minkowski(X, anchors, p, fitted):
    if p in _SPECIAL_ORDERS:
        return METRICS[_SPECIAL_ORDERS[p]].transform(X, fitted)
    distances = cdist(X, anchors, "minkowski", p=p)
    # sums of p-th powers leave the range of float64 long before the distances do
    with np.errstate(divide="ignore"):
        powers = p * np.log2(distances)
    rows, columns = np.nonzero(~((powers > -950) & (powers < 950)))
    step = max(1, _BATCH // X.shape[1])
    for start in range(0, rows.size, step):
        i, j = rows[start : start + step], columns[start : start + step]
        gap = np.abs(X[i].astype(np.float64) - anchors[j])
        peak = gap.max(axis=1)
        gap /= np.where(peak > 0, peak, 1)[:, None]
        distances[i, j] = peak * (gap**p).sum(axis=1) ** (1 / p)
    return distances


def _minkowski_invariances(anchors, p, fitted):
    return {"translation", "orthogonal" if p == 2 else "signed_permutation"}


def whitening(anchors, shrinkage=0.0):
    """Return the mean of the anchors and the matrix that whitens them.

    ``(anchors - mean) @ matrix`` has the identity as its covariance on the span of
    the centred anchors.  Of all such matrices this is the symmetric one, the inverse
    square root of the covariance, which turns the space least.

    Parameters
    ----------
    anchors : ndarray of shape (n_anchors, n_features)
        The anchors.
    shrinkage : float in [0, 1], default=0.0
        How much of the covariance S is replaced by a multiple of the identity:
        ``(1 - shrinkage) * S + shrinkage * trace(S) / n_features * I``, as in
        `sklearn.covariance.shrunk_covariance`.  0: nothing, and directions in which
        the anchors do not vary are dropped.  1: only the scale is taken out.

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
    check_number("shrinkage", shrinkage, Real, 0, 1)
    anchors = as_float(anchors)
    n_anchors, n_features = anchors.shape
    eps = np.finfo(anchors.dtype).eps
    centred = anchors.astype(np.float64)
    mean = centred.mean(axis=0)
    centred = centred - mean
    # of a constant column nothing is left but the rounding of its mean
    noise = _ROUNDINGS * np.finfo(np.float64).eps * np.abs(mean)
    varies = np.abs(centred).max(axis=0) > noise
    if not varies.any():
        raise ValueError(
            "the covariance of the anchors is zero: they must differ from each other; "
            f"got {n_anchors} equal ones (n_samples={n_anchors})"
        )
    peak = np.abs(centred[:, varies]).max()
    _, singular, axes = svd(centred[:, varies] / peak, full_matrices=False)
    kept = singular > singular[0] * max(anchors.shape) * eps
    basis = np.zeros((kept.sum(), n_features))
    basis[:, varies] = axes[kept]
    variances = singular[kept] ** 2 / (n_anchors - 1)
    common = shrinkage * variances.sum() / n_features
    inverse = 1 / np.sqrt((1 - shrinkage) * variances + common)
    outside = 1 / np.sqrt(common) if common > 0 else 0.0
    matrix = (basis.T * (inverse - outside)) @ basis
    matrix[np.diag_indices(n_features)] += outside
    return mean, matrix / peak, bool(kept.sum() == n_features)


def _fit_mahalanobis(anchors, shrinkage=0.0):
    mean, matrix, full_rank = whitening(anchors, shrinkage)
    return (
        mean,
        matrix,
        full_rank and shrinkage == 0,
        *_fit_euclidean((anchors - mean) @ matrix),
    )


def _mahalanobis(X, mean, matrix, exact, *euclidean):
    return _euclidean((X - mean) @ matrix, *euclidean)


def _mahalanobis_invariances(mean, matrix, exact, *euclidean):
    return {"affine"} if exact else {"isotropic_scaling", "orthogonal", "translation"}


def _fit_change_of_basis(anchors, alpha=0.0):
    check_number("metric_params alpha of change_of_basis", alpha, Real, 0)
    n_anchors, n_features = anchors.shape
    peak = np.abs(anchors).max()
    if peak == 0:
        raise ValueError(
            "metric 'change_of_basis' needs anchors that are not zero; got zero rows "
            f"only (after `pre`, if any): n_samples={n_anchors}, "
            f"n_features={n_features}"
        )
    left, singular, right = svd(anchors.astype(np.float64) / peak, full_matrices=False)
    kept = singular > singular[0] * max(anchors.shape) * np.finfo(anchors.dtype).eps
    left, singular, right = left[:, kept], singular[kept], right[kept]
    ridge = alpha * (singular**2).sum() / n_anchors
    dual = (left * (singular / (singular**2 + ridge))) @ right
    return dual / peak, bool(alpha == 0 and kept.sum() == n_features)


def _change_of_basis(X, dual, exact):
    return _product(X, dual)


def _change_of_basis_invariances(dual, exact):
    return {"linear"} if exact else {"isotropic_scaling", "orthogonal"}


def _rows_of_products(values, anchors, alpha):
    """Find the rows whose inner products with the anchors are nearest to `values`.

    By ridge regression, with `alpha` times the mean squared norm of the anchors as the
    penalty; 0: the smallest of the rows that are nearest.
    """
    xp = namespace(anchors)
    eps, peak = xp.finfo(anchors.dtype).eps, _peak(anchors)
    left, singular, right = xp.linalg.svd(
        astype(anchors, xp.float64) / peak, full_matrices=False
    )
    kept = singular > singular[0] * max(anchors.shape) * eps
    ridge = alpha * xp.sum(singular**2) / anchors.shape[0]
    penalised = xp.where(kept, singular**2 + ridge, 1.0)
    factors = xp.where(kept, singular / penalised, 0.0)
    return ((astype(values, xp.float64) @ left) * factors) @ right / peak


def _peak(X):
    """Largest absolute entry, as the unit in which squares stay in range; or 1."""
    return float(namespace(X).max(_row_peaks(X))) or 1.0


def _rows_of_cosine(values, anchors, alpha):
    """Find directions of rows, and give them the mean length of the anchors."""
    xp = namespace(anchors)
    peak = _peak(anchors)
    length = xp.mean(xp.sqrt(_sum_of_squares(astype(anchors, xp.float64) / peak)))
    rows = _rows_of_products(values, l2_normalize(anchors), alpha)
    return l2_normalize(rows) * length * peak


def _rows_of_euclidean(values, anchors, alpha):
    """Find the rows at these distances from the anchors: trilateration.

    Less their mean over the anchors, squared distances are linear in the row.
    """
    xp = namespace(anchors)
    mean = xp.mean(astype(anchors, xp.float64), axis=0)
    centred = anchors - mean
    peak = _peak(centred)
    centred, squares = centred / peak, (astype(values, xp.float64) / peak) ** 2
    squares = squares - xp.sum(centred**2, axis=1)
    products = (xp.mean(squares, axis=1, keepdims=True) - squares) / 2
    rows = _rows_of_products(products, astype(centred, anchors.dtype), alpha)
    return mean + peak * rows


#: By metric: ``(values, anchors, alpha) -> rows``, back from a relative space.
_INVERSES = {
    "cosine": _rows_of_cosine,
    "inner": _rows_of_products,
    "euclidean": _rows_of_euclidean,
    "sqeuclidean": lambda values, anchors, alpha: _rows_of_euclidean(
        namespace(values).sqrt(namespace(values).clip(values, 0, None)), anchors, alpha
    ),
    # coordinates in the frame of the anchors, put together
    "change_of_basis": lambda values, anchors, alpha: values @ anchors,
}


def layer_normalize(X):
    """Standardise each row on its own: mean 0, standard deviation 1.

    LayerNorm without weights (Ba et al., 2016, arXiv 1607.06450) and without its
    epsilon, so that a factor or a shift common to a row leaves no trace.  Rows that
    are constant within rounding become zero: nothing in them tells anchors apart.

    Parameters
    ----------
    X : array of shape (n_samples, n_features), float32 or float64
        A relative space.

    Returns
    -------
    array of shape (n_samples, n_features)
        The standardised rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.metrics import layer_normalize
    >>> layer_normalize(np.array([[1.0, 2.0, 3.0], [1e6, 3e6, 5e6]])).round(4).tolist()
    [[-1.2247, 0.0, 1.2247], [-1.2247, 0.0, 1.2247]]
    """
    if namespace(X) is not np:
        return _layer_normalize_slowly(X)
    with np.errstate(all="ignore"):
        mean = X.mean(axis=1, keepdims=True)
        gaps = X - mean
        gaps -= gaps.mean(axis=1, keepdims=True)  # what rounding left of the mean
        variance = np.einsum("ij,ij->i", gaps, gaps) / X.dtype.type(X.shape[1])
        low, high = (bound**2 for bound in _ORDINARY[X.dtype.name])
        doubtful = ~((variance > low) & (variance < high))
        doubtful |= variance < (_ALMOST_CONSTANT * mean[:, 0]) ** 2
        gaps /= np.sqrt(variance)[:, None]
    if doubtful.any():
        gaps[doubtful] = _layer_normalize_slowly(X[doubtful])
    return gaps


def _layer_normalize_slowly(X):
    """Standardise rows of any scale, or almost constant, of any array library."""
    unit, _ = _centred_directions(X, namespace(X).finfo(X.dtype).eps)
    return astype(unit * float(np.sqrt(X.shape[1])), X.dtype)


def l2_normalize(X):
    """Scale each row to Euclidean norm 1; a zero row stays zero.

    `sklearn.preprocessing.normalize` for rows of any scale, in any array library.

    Parameters
    ----------
    X : array of shape (n_samples, n_features), float32 or float64
        A relative space.

    Returns
    -------
    array of shape (n_samples, n_features)
        The scaled rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.metrics import l2_normalize
    >>> l2_normalize(np.array([[3e-200, 4e-200]])).round(12).tolist()
    [[0.6, 0.8]]
    """
    return _directions(X)[0]


def _alone(compare, X, *fitted):
    """Return the values of the one metric that was prepared."""
    (values,) = compare(X, *fitted).values()
    return values


# metrics that share their work: how they are prepared and compared at once
_FAMILIES = {
    **dict.fromkeys(_SLOW, (_fit_products, _products)),
    **dict.fromkeys(("manhattan", "chebyshev"), (_fit_differences, _differences)),
}


def _family_of(metric):
    """Return how a registered metric works together with others, or None."""
    registered = METRICS.get(metric.name) is metric
    return _FAMILIES.get(metric.name) if registered else None


def _fit_together(pairs, anchors):
    """Compute once what depends on the anchors, for several metrics.

    Parameters
    ----------
    pairs : list of (Metric, dict)
        Metrics and their parameters.
    anchors : array of shape (n_anchors, n_features), float32 or float64
        The anchors, already validated.

    Returns
    -------
    list of (tuple of int, tuple)
        Groups that are compared at once: places in `pairs`, and what was computed.

    Raises
    ------
    TypeError
        If a metric does not take its parameters.
    """
    groups = {}
    for place, (metric, params) in enumerate(pairs):
        metric._checked(params)
        groups.setdefault(_family_of(metric) or place, []).append(place)
    fitted = []
    for family, places in groups.items():
        metric, params = pairs[places[0]]
        if _family_of(metric) is None:
            fitted.append((tuple(places), metric.fit(anchors, params)))
        else:
            names = tuple(pairs[place][0].name for place in places)
            fitted.append((tuple(places), family[0](anchors, names)))
    return fitted


def _transform_together(X, pairs, groups):
    """Compare rows with anchors under several metrics.

    Parameters
    ----------
    X : array of shape (n_samples, n_features), float32 or float64
        The rows, already validated.
    pairs : list of (Metric, dict)
        What `_fit_together` got.
    groups : list of (tuple of int, tuple)
        What it returned.

    Returns
    -------
    list of array of shape (n_samples, n_anchors)
        The relative spaces, in the order of `pairs`.
    """
    spaces = [None] * len(pairs)
    for places, fitted in groups:
        metric = pairs[places[0]][0]
        family = _family_of(metric)
        if family is None:
            spaces[places[0]] = metric.transform(X, fitted)
            continue
        values = family[1](X, *fitted)
        for place in places:
            spaces[place] = values[pairs[place][0].name]
    return spaces


# --- the public functions ------------------------------------------------------


def cosine(X, anchors):
    r"""Cosine similarity, :math:`x \cdot a / (\|x\| \|a\|)`.

    The relative representation of Moschella et al., "Relative representations enable
    zero-shot latent space communication", ICLR 2023 (arXiv 2209.15430).

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
    return _pairwise("cosine", X, anchors)


def angular(X, anchors):
    r"""Angle as a part of the half circle, :math:`\arccos(\cos(x, a)) / \pi`.

    Computed from the chord between unit rows, so that small angles keep their
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
    return _pairwise("angular", X, anchors)


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
    return _pairwise("correlation", X, anchors)


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
    return _pairwise("inner", X, anchors)


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
    Rows are shifted by the mean of the anchors and multiplied out in float64; pairs
    whose digits cancel are subtracted instead.  A row equal to an anchor is at
    distance 0, also far from the origin.

    Examples
    --------
    >>> from skinvariant.metrics import euclidean
    >>> euclidean([[1e8, 1e8]], [[1e8, 1e8], [1e8 + 3, 1e8 + 4]]).tolist()
    [[0.0, 5.0]]
    """
    return _pairwise("euclidean", X, anchors)


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
    return _pairwise("sqeuclidean", X, anchors)


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
    return _pairwise("manhattan", X, anchors)


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
    return _pairwise("chebyshev", X, anchors)


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
    return _pairwise("minkowski", X, anchors, p=p)


def mahalanobis(X, anchors, shrinkage=0.0):
    r"""Mahalanobis distance, :math:`\sqrt{(x - a)^T S^{-1} (x - a)}`.

    S is the covariance of the anchors.  The same as `euclidean` after whitening.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows.
    anchors : array-like of shape (n_anchors, n_features)
        Anchors; at least two that differ.
    shrinkage : float in [0, 1], default=0.0
        Amount by which S is drawn to a multiple of the identity, see `whitening`.
        0: invariant to every affine map where S has full rank, which takes more
        anchors than features; where it has not, the pseudo-inverse is used and only
        scaling, rotation and translation are left.  1: `euclidean`, in units of the
        anchors' spread.

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
    >>> bool(np.allclose(mahalanobis(anchors, anchors), moved))
    True
    """
    return _pairwise("mahalanobis", X, anchors, shrinkage=shrinkage)


def change_of_basis(X, anchors, alpha=0.0):
    r"""Coordinates in the frame of the anchors, by ridge-regularised least squares.

    The row c that minimises :math:`\|x - c A\|^2 + \lambda \|c\|^2`, where A holds
    the anchors in its rows and :math:`\lambda` is `alpha` times the mean squared norm
    of the anchors; for `alpha=0` the shortest solution, :math:`c = x A^+`.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows.
    anchors : array-like of shape (n_anchors, n_features)
        Anchors.
    alpha : float >= 0, default=0.0
        Regularisation.  0: invariant to every invertible linear map where the anchors
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
    return _pairwise("change_of_basis", X, anchors, alpha=alpha)


_ROTATION = ("orthogonal",)
_SIMILARITY = ("isotropic_scaling", "orthogonal")
_RIGID = ("orthogonal", "translation")
_LP = ("translation", "signed_permutation")

#: The registry: every metric by name, with its properties.
METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "cosine",
            cosine,
            larger_is_closer=True,
            invariances=_SIMILARITY,
            sparse=True,
            array_api=True,
            prepare=functools.partial(_fit_products, names=("cosine",)),
            compare=functools.partial(_alone, _products),
        ),
        Metric(
            "angular",
            angular,
            invariances=_SIMILARITY,
            sparse=True,
            array_api=True,
            prepare=functools.partial(_fit_products, names=("angular",)),
            compare=functools.partial(_alone, _products),
        ),
        Metric(
            "correlation",
            correlation,
            larger_is_closer=True,
            invariances=("isotropic_scaling", "permutation"),
            array_api=True,
            prepare=_fit_correlation,
            compare=_correlation,
        ),
        Metric(
            "inner",
            inner,
            larger_is_closer=True,
            invariances=_ROTATION,
            homogeneous=True,
            sparse=True,
            array_api=True,
            prepare=functools.partial(_fit_products, names=("inner",)),
            compare=functools.partial(_alone, _products),
        ),
        Metric(
            "euclidean",
            euclidean,
            invariances=_RIGID,
            homogeneous=True,
            sparse=True,
            array_api=True,
            prepare=functools.partial(_fit_products, names=("euclidean",)),
            compare=functools.partial(_alone, _products),
        ),
        Metric(
            "sqeuclidean",
            sqeuclidean,
            invariances=_RIGID,
            homogeneous=True,
            sparse=True,
            array_api=True,
            prepare=functools.partial(_fit_products, names=("sqeuclidean",)),
            compare=functools.partial(_alone, _products),
        ),
        Metric(
            "manhattan",
            manhattan,
            invariances=_LP,
            homogeneous=True,
            sparse=True,
            array_api=True,
            prepare=functools.partial(_fit_differences, names=("manhattan",)),
            compare=functools.partial(_alone, _differences),
        ),
        Metric(
            "chebyshev",
            chebyshev,
            invariances=_LP,
            homogeneous=True,
            array_api=True,
            prepare=functools.partial(_fit_differences, names=("chebyshev",)),
            compare=functools.partial(_alone, _differences),
        ),
        Metric(
            "minkowski",
            minkowski,
            invariances=_RIGID,
            homogeneous=True,
            prepare=_fit_minkowski,
            compare=_minkowski,
            fitted_invariances=_minkowski_invariances,
        ),
        Metric(
            "mahalanobis",
            mahalanobis,
            invariances=("affine",),
            prepare=_fit_mahalanobis,
            compare=_mahalanobis,
            fitted_invariances=_mahalanobis_invariances,
        ),
        Metric(
            "change_of_basis",
            change_of_basis,
            larger_is_closer=True,
            invariances=("linear",),
            prepare=_fit_change_of_basis,
            compare=_change_of_basis,
            fitted_invariances=_change_of_basis_invariances,
        ),
    )
}
