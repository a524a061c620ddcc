"""What is known about a metric, and the registry of metrics by name."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_array, issparse
from sklearn.utils import check_array

from skinvariant._validation import (
    as_dtype,
    as_float,
    canonical,
    check_choice,
    check_returned,
    namespace,
)

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

# the classes that invariance to one class includes
_INCLUDES = {
    "affine": {"linear", "translation"},
    "linear": {"orthogonal", "axis_scaling"},
    "orthogonal": {"signed_permutation"},
    "signed_permutation": {"permutation"},
    "axis_scaling": {"isotropic_scaling"},
}

# filled by `register`, in the order of the functions
METRICS = {}


def with_included(classes):
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
class Family:
    """Metrics that are computed together, which takes less work than each alone.

    Its functions take the metrics in question as a dict by name, and turn to the
    metrics' own `preparation` and `comparison` for arrays that they do not take.
    """

    # (anchors, members) -> prepared
    prepare: Callable
    # (X, members, prepared) -> dict of values by name
    compare: Callable


@dataclass(frozen=True, repr=False)
class Metric:
    """A function that compares rows with anchors, and what is known about it.

    Parameters
    ----------
    name : str
        Its name, as it appears in the names of output features.
    function : callable
        ``function(X, anchors, **params) -> array of shape (n_samples, n_anchors)``.
        Each row of the result may depend only on that row of `X` and on the anchors.
    larger_is_closer : bool, default=False
        True for similarities, False for distances.
    invariances : collection of str, default=()
        The classes of `TRANSFORMATIONS` that leave the values unchanged when applied
        to rows and anchors alike.  Included classes (rotations in linear maps, for
        instance) are added automatically.  If they depend on parameters or anchors,
        the most that can hold.
    homogeneous : bool, default=False
        Whether scaling rows and anchors by one factor multiplies all values by one
        factor, so that `post="layer"` and `post="l2"` remove it.
    sparse : bool, default=False
        Whether it takes CSR input.
    array_api : bool, default=False
        Whether it takes arrays of other libraries, under array API dispatch.
    preparation : callable, default=None
        ``preparation(anchors, **params) -> tuple``: what can be computed once, at fit.
        None: nothing.
    comparison : callable, default=None
        ``comparison(X, *prepared)``: the rest of the work; required with `preparation`.
    fitted_invariances : callable, default=None
        ``fitted_invariances(*prepared) -> collection of str``: the invariances if
        they depend on parameters or anchors.  None: they do not.
    inverse : callable, default=None
        ``inverse(values, anchors, alpha) -> rows``: rows that have these values, with
        a penalty of at least 0.  None: the metric cannot be inverted.
    decides_rank : bool, default=False
        Whether `preparation` decides in which directions the anchors vary, and so takes
        `rounding` as well: how far their values may be off.
    needs_rows : bool, default=False
        Whether it compares along unlabelled rows of the space, and so `preparation`,
        or without one `function`, takes `rows` as well: an array of shape
        (n_rows, n_features).  They are those of the `X` of `fit` and of `rebase` that
        are not anchors, each once.

    Attributes
    ----------
    family : object or None
        For registered metrics: how they are computed together with others.

    Examples
    --------
    A similarity of your own, with its invariances:

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
    preparation: Callable | None = None
    comparison: Callable | None = None
    fitted_invariances: Callable | None = None
    inverse: Callable | None = None
    decides_rank: bool = False
    needs_rows: bool = False
    # set by `register` alone: a family knows its members by their registered names
    family: Family | None = field(default=None, init=False, repr=False)

    def __post_init__(self):
        object.__setattr__(self, "invariances", with_included(self.invariances))

    def __repr__(self):
        return f"Metric({self.name!r})"

    def __deepcopy__(self, memo):
        return self  # it does not change, and a clone keeps the registered metric

    def __getstate__(self):
        # a registered metric by its name, since files cannot hold functions
        registered = METRICS.get(self.name) == self
        return {"name": self.name} if registered else vars(self)

    def __setstate__(self, state):
        if set(state) == {"name"}:
            state = vars(check_choice("name", state["name"], METRICS))
        vars(self).update(state)

    def prepare(self, anchors, params=None, *, rounding=0.0, rows=None):
        """Compute once what does not depend on the rows to compare.

        Parameters
        ----------
        anchors : array of shape (n_anchors, n_features), float32 or float64
            The anchors, already validated.
        params : dict, default=None
            Parameters of the metric.
        rounding : float or ndarray of shape (n_features,), default=0.0
            How far the anchors' values in each column may be off.
        rows : array of shape (n_rows, n_features), default=None
            Further rows of the space, for a metric that needs them.

        Returns
        -------
        tuple
            For `compare`.

        Raises
        ------
        TypeError
            If the function does not take these parameters.
        """
        params = self._checked(params)
        if self.family is not None:
            return self.family.prepare(anchors, {self.name: self})
        if self.needs_rows:
            params = params | {"rows": rows}
        if self.preparation is None:
            return anchors, params
        if self.decides_rank:
            params = params | {"rounding": rounding}
        return self.preparation(anchors, **params)

    def compare(self, X, prepared):
        """Compare rows with prepared anchors.

        Parameters
        ----------
        X : array of shape (n_samples, n_features), float32 or float64
            The rows, already validated.
        prepared : tuple
            The result of `prepare`.

        Returns
        -------
        array of shape (n_samples, n_anchors)
            The relative space, possibly in a wider dtype than that of `X`.
        """
        if self.family is not None:
            return self.family.compare(X, {self.name: self}, prepared)[self.name]
        if self.preparation is None:
            anchors, params = prepared
            return self.function(X, anchors, **params)
        return self.comparison(X, *prepared)

    def _checked(self, params):
        """Return parameters as a dict, if the function takes them."""
        params = dict(params or {})
        taken = {"rows": None} if self.needs_rows else {}
        try:
            inspect.signature(self.function).bind(None, None, **taken, **params)
        except ValueError:  # a builtin without a signature fails when it is called
            pass
        except TypeError as error:
            raise TypeError(
                f"metric {self.name!r} does not take metric_params={params}: {error}"
            ) from error
        return params

    def invariances_of(self, prepared):
        """Return the invariances that hold for these parameters and anchors.

        Parameters
        ----------
        prepared : tuple
            The result of `prepare`.

        Returns
        -------
        frozenset of str
            Classes of `TRANSFORMATIONS`.
        """
        if self.fitted_invariances is None:
            return self.invariances
        return with_included(self.fitted_invariances(*prepared))


def register(*, family=None, **properties):
    """Return a decorator that enters a function into `METRICS`, under its own name."""

    def enter(function):
        metric = Metric(function.__name__, function, **properties)
        object.__setattr__(metric, "family", family)
        METRICS[metric.name] = metric
        return function

    return enter


def find_metric(metric):
    """Return the `Metric` for a name, a `Metric` or a callable.

    Parameters
    ----------
    metric : str, Metric or callable
        A name of `METRICS`; a `Metric`, of which a copy of a registered one counts as
        the registered one; or a function ``(X, anchors) -> values``, which counts as a
        distance without invariances.

    Returns
    -------
    Metric
        The metric.

    Raises
    ------
    TypeError, ValueError
        If it is none of these.
    """
    if isinstance(metric, Metric):
        return METRICS[metric.name] if METRICS.get(metric.name) == metric else metric
    if callable(metric):
        function = metric.func if isinstance(metric, functools.partial) else metric
        name = getattr(function, "__name__", type(metric).__name__)
        return Metric(name.strip("<>"), metric)
    return check_choice("metric", metric, METRICS, or_else="a Metric, or a callable")


def pairwise(name, X, anchors, *, rows=None, **params):
    """Validate rows and anchors, and compare them by a registered metric.

    Parameters
    ----------
    name : str
        A name of `METRICS`.
    X : {array-like, CSR matrix} of shape (n_samples, n_features)
        Rows.
    anchors : {array-like, CSR matrix} of shape (n_anchors, n_features)
        Anchors.
    rows : array-like of shape (n_rows, n_features), default=None
        Further rows of the space, for a metric that needs them.
    **params : object
        Parameters of the metric.

    Returns
    -------
    array of shape (n_samples, n_anchors)
        The values, float32 for float32 rows and else float64.

    Raises
    ------
    TypeError, ValueError
        If the input is not as documented, or a value is out of range.
    """
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
    if rows is not None:
        rows = as_float(check_array(rows, input_name="rows"))
        if rows.shape[1] != X.shape[1]:
            raise ValueError(
                "rows must have as many features as X and anchors, "
                f"{X.shape[1]}; got {rows.shape[1]}"
            )
    if issparse(X) or issparse(anchors):
        X, anchors = canonical(csr_array(X)), canonical(csr_array(anchors))
    with np.errstate(all="ignore"):
        values = metric.compare(X, metric.prepare(anchors, params, rows=rows))
    return as_dtype(values, X.dtype)


# --- several metrics at once ------------------------------------------------------


def refuse_sparse(X, pairs):
    """Raise an error if rows are sparse and a metric does not take them.

    Parameters
    ----------
    X : array or CSR matrix of shape (n_samples, n_features)
        Rows or anchors.
    pairs : list of (Metric, dict)
        Metrics and their parameters.

    Raises
    ------
    TypeError
        If a metric does not take sparse rows.
    """
    for metric, _ in pairs:
        if issparse(X) and not metric.sparse:
            raise TypeError(
                f"metric {metric.name!r} does not take sparse input (here or from "
                "`pre`), since it would have to make it dense: use X.toarray(), of a "
                "data frame X.sparse.to_dense(), or another metric; got "
                f"{type(X).__name__}"
            )


def prepare_together(pairs, anchors, rounding=0.0, rows=None):
    """Compute once what does not depend on the rows to compare, for several metrics.

    Parameters
    ----------
    pairs : list of (Metric, dict)
        Metrics and their parameters.
    anchors : array of shape (n_anchors, n_features), float32 or float64
        The anchors, already validated.
    rounding : float or ndarray of shape (n_features,), default=0.0
        How far their values in each column may be off.
    rows : array of shape (n_rows, n_features), default=None
        Further rows of the space, for metrics that need them.

    Returns
    -------
    list of (tuple of int, tuple)
        Groups that are compared together: places in `pairs`, and what was prepared.

    Raises
    ------
    TypeError
        If a metric does not take its parameters, or sparse anchors.
    """
    refuse_sparse(anchors, pairs)
    groups = {}
    for place, (metric, params) in enumerate(pairs):
        metric._checked(params)
        key = place if metric.family is None else metric.family
        groups.setdefault(key, []).append(place)
    prepared = []
    for places in groups.values():
        metric, params = pairs[places[0]]
        if metric.family is None:
            own = metric.prepare(anchors, params, rounding=rounding, rows=rows)
            prepared.append((tuple(places), own))
        else:
            members = {pairs[place][0].name: pairs[place][0] for place in places}
            shared = metric.family.prepare(anchors, members)
            prepared.append((tuple(places), shared))
    return prepared


def compare_together(X, pairs, groups, n_anchors):
    """Compare rows with anchors by several metrics.

    Parameters
    ----------
    X : array of shape (n_samples, n_features), float32 or float64
        The rows, already validated.
    pairs : list of (Metric, dict)
        The argument of `prepare_together`.
    groups : list of (tuple of int, tuple)
        Its result.
    n_anchors : int
        The number of anchors.

    Returns
    -------
    list of array of shape (n_samples, n_anchors)
        The relative spaces, in the order of `pairs`.

    Raises
    ------
    TypeError, ValueError
        If a metric does not take sparse rows, or does not return finite real numbers of
        this shape.
    """
    refuse_sparse(X, pairs)
    spaces = [None] * len(pairs)
    for places, prepared in groups:
        metric = pairs[places[0]][0]
        if metric.family is None:
            values = metric.compare(X, prepared)
            source = f"metric {metric.name!r}"
            spaces[places[0]] = check_returned(values, X, source, n_anchors)
            continue
        members = {pairs[place][0].name: pairs[place][0] for place in places}
        values = metric.family.compare(X, members, prepared)
        for place in places:
            spaces[place] = values[pairs[place][0].name]
    return spaces
