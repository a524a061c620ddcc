"""InvariantAggregator: the product of several metrics' relative spaces."""

import copy
from numbers import Real

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skinvariant._validation import (
    check_choice,
    check_number,
    check_returned,
    namespace,
)
from skinvariant.metrics._registry import find_metric, prepare_together
from skinvariant.relative._base import RelativeTransformer, check_metric_params


def _concat(spaces):
    return namespace(spaces[0]).concat(spaces, axis=1)


def _sum(spaces):
    if len({space.shape[1] for space in spaces}) > 1:
        raise ValueError(
            "aggregation 'sum' and 'mean' need relative spaces of equal width; got "
            f"{[space.shape[1] for space in spaces]} (from `post`)"
        )
    total = spaces[0]
    for space in spaces[1:]:
        total = total + space
    return total


def _mean(spaces):
    return _sum(spaces) / len(spaces)


AGGREGATIONS = {"concat": _concat, "mean": _mean, "sum": _sum}


class InvariantAggregator(RelativeTransformer):
    """Combine the relative spaces of several metrics, each with its own invariances.

    You rarely know by which transformation two encoders differ.  The product of several
    metrics, each of which ignores another class of transformations, covers more cases
    than any one of them [1]_.  All metrics share one draw of anchors.

    Parameters
    ----------
    n_anchors : int, default=300
        How many anchors to choose among the fitted rows.  If there are fewer rows,
        all of them are chosen, with a warning.
    metrics : sequence of str, Metric or callable, default=("cosine", "euclidean", \
            "manhattan", "chebyshev")
        Values of `RelativeProjector`'s `metric`, with distinct names.
    metric_params : dict of str to dict, default=None
        Further parameters by the metric's name: ``{"minkowski": {"p": 3}}``.
    anchors : {"random", "stratified", "kmeans", "farthest", "all"}, array-like of \
            int, rows or callable, default="random"
        How to choose anchors, or the anchors themselves, as in `RelativeProjector`.
    pre : {"center", "standardize", "whiten"}, transformer or None, default=None
        Applied to rows and anchors before every metric, as in `RelativeProjector`.
    post : {"layer", "l2", "standardize"}, transformer or None, default="standardize"
        Applied to the relative vectors of each metric, as in `RelativeProjector`.
        Without it, metrics with large values outweigh the others.
    aggregation : {"concat", "sum", "mean"} or callable, default="concat"
        "concat" puts the relative spaces side by side.  "sum" and "mean" add them, with
        distances negated, so that larger means closer in all of them.  A callable
        gets the list of relative spaces, in the order of `metrics` and with unchanged
        signs, and returns an array of as many rows, each of which depends on that row
        alone.
    weights : array-like of shape (n_metrics,), default=None
        One number >= 0 per metric, not all 0, by which its relative space is
        multiplied; "mean" divides by their sum.  None: all 1.
    random_state : int, RandomState instance or None, default=None
        Seed of the choice of anchors.  None draws from numpy's global generator, as
        everywhere in scikit-learn.
    n_jobs : int, default=None
        Threads for `transform`.  None is 1, -1 all processors.  It never changes a
        bit of the result.

    Attributes
    ----------
    anchors_ : {ndarray, CSR matrix} of shape (n_anchors, n_features)
        The anchors.
    anchor_indices_ : ndarray of shape (n_anchors,), dtype int
        Their rows in the fitted `X`.  Anchors that are given as rows have none.
    n_samples_fit_ : int
        Number of rows of the fitted `X`, with `anchor_indices_` alone.
    pre_ : transformer or None
        The fitted `pre`.
    posts_ : list of transformer or None
        The fitted `post` of each metric.
    invariances_ : frozenset of str
        The classes of `skinvariant.metrics.TRANSFORMATIONS` that leave the output
        unchanged: those that every metric has.  A class that only some metrics ignore
        still leaves their columns of a "concat" output unchanged.
    n_features_in_ : int
        Width of the space.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names of the fitted `X`, if it had any.

    See Also
    --------
    RelativeProjector : One metric.
    skinvariant.stitch : Swap the encoder under a fitted model.

    References
    ----------
    .. [1] I. Cannistraci et al., "From Bricks to Bridges: Product of Invariances to
       Enhance Latent Space Communication", ICLR 2024, arXiv 2310.01211.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant import InvariantAggregator
    >>> X_a = np.random.default_rng(0).standard_normal((100, 8))
    >>> product = InvariantAggregator(n_anchors=20, pre="center", random_state=0)
    >>> relative = product.fit_transform(X_a)
    >>> relative.shape
    (100, 80)
    >>> sorted(product.invariances_)
    ['isotropic_scaling', 'permutation', 'signed_permutation', 'translation']

    The space of another encoder has other axes, another scale and another origin:

    >>> X_b = 3 * X_a[:, ::-1] + 5
    >>> rebased = product.rebase(X_b[product.anchor_indices_])
    >>> round(float(abs(rebased.transform(X_b) - relative).max()), 9)
    0.0
    """

    def __init__(
        self,
        n_anchors=300,
        *,
        metrics=("cosine", "euclidean", "manhattan", "chebyshev"),
        metric_params=None,
        anchors="random",
        pre=None,
        post="standardize",
        aggregation="concat",
        weights=None,
        random_state=None,
        n_jobs=None,
    ):
        self.n_anchors = n_anchors
        self.metrics = metrics
        self.metric_params = metric_params
        self.anchors = anchors
        self.pre = pre
        self.post = post
        self.aggregation = aggregation
        self.weights = weights
        self.random_state = random_state
        self.n_jobs = n_jobs

    @property
    def posts_(self):
        """The fitted `post` of each metric, or None."""
        check_is_fitted(self)
        return self._posts

    def _metrics_and_params(self):
        if isinstance(self.metrics, str) or not np.iterable(self.metrics):
            raise TypeError(
                "metrics must be a sequence of names, Metric or callables; got "
                f"{self.metrics!r}"
            )
        metrics = [find_metric(metric) for metric in self.metrics]
        names = [metric.name for metric in metrics]
        if not names or len(set(names)) < len(names):
            raise ValueError(
                "metrics must be at least one, with distinct names (a variant gets its "
                "own by skinvariant.metrics.Metric(name, function)); got "
                f"{names}"
            )
        params = check_metric_params(self.metric_params)
        if unknown := set(params).difference(names):
            raise ValueError(
                f"metric_params must be a dict by metric, of {names}; got {unknown}"
            )
        return [
            (metric, check_metric_params(params.get(metric.name))) for metric in metrics
        ]

    def _fit(self, X, y):
        # read once: a later set_params has no effect until the next fit
        if not callable(self.aggregation):
            check_choice(
                "aggregation", self.aggregation, AGGREGATIONS, or_else="a callable"
            )
        self._aggregation = self.aggregation
        metrics = [metric for metric, _ in self._metrics_and_params()]
        weights = [1.0] * len(metrics) if self.weights is None else self.weights
        weights = weights if np.iterable(weights) else [weights]
        weights = [check_number("weights", weight, Real, 0) for weight in weights]
        if len(weights) != len(metrics) or not 0 < sum(weights) < np.inf:
            raise ValueError(
                f"weights must be {len(metrics)} finite numbers >= 0, one per metric, "
                f"not all 0; got {self.weights!r}"
            )
        weights = np.asarray(weights, dtype=np.float64)
        if self.aggregation == "mean":
            weights = weights / weights.mean()
        if self.aggregation in ("sum", "mean"):
            closer = [metric.larger_is_closer for metric in metrics]
            weights = np.where(closer, weights, -weights)
        self._factors = weights.tolist()
        return super()._fit(X, y)

    def _with_metrics(self, names):
        """Return a fitted "concat" estimator with some of its metrics alone, or None.

        Its output are the columns of these metrics.
        """
        places = [
            place
            for place, (metric, _) in enumerate(self._metrics)
            if metric.name in names
        ]
        if len(places) == len(self._metrics):
            return self
        if not places:
            return None
        new = copy.copy(self)
        for name in ("_metrics", "_posts", "_widths", "_factors"):
            setattr(new, name, [getattr(self, name)[place] for place in places])
        new._n_features_out = sum(new._widths)
        new._groups = []
        for group, prepared in self._groups:
            kept = tuple(place for place in group if place in places)
            if kept and len(kept) < len(group):  # some of a family
                mapped = self._apply_pre(self.anchors_)
                pairs = [self._metrics[place] for place in kept]
                ((_, prepared),) = prepare_together(pairs, mapped)
            if kept:
                new._groups.append((tuple(map(places.index, kept)), prepared))
        return new

    def _combine(self, spaces):
        if any(factor != 1 for factor in self._factors):
            spaces = [
                factor * space
                for factor, space in zip(self._factors, spaces, strict=True)
            ]
        named = isinstance(self._aggregation, str)
        aggregation = AGGREGATIONS[self._aggregation] if named else self._aggregation
        combined = aggregation(spaces)
        if named:
            return combined
        source, width = "the aggregation callable", self._n_features_out
        return check_returned(combined, spaces[0], source, width)

    def _combine_names(self, names):
        aggregation = self._aggregation
        if aggregation == "concat":
            return [name for own in names for name in own]
        if isinstance(aggregation, str):
            first = self._metrics[0][0].name
            own = [name.removeprefix(f"{first}_") for name in names[0]]
            return [f"{aggregation}_{name}" for name in own]
        name = getattr(aggregation, "__name__", type(aggregation).__name__)
        return [f"{name.strip('<>')}{i}" for i in range(self._n_features_out)]
