"""RelativeProjector: every row is compared with the anchors, under one metric."""

from numbers import Real

from scipy.sparse import issparse
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import check_array, metadata_routing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skinvariant._threads import one_blas_thread
from skinvariant._validation import as_dtype, as_float, check_number, check_returned
from skinvariant.metrics import METRICS
from skinvariant.metrics._registry import find_metric
from skinvariant.relative._base import (
    RelativeTransformer,
    check_metric_params,
    copied,
)
from skinvariant.relative._steps import POST, PRE, find_step


def _has_inverse(projector):
    """Return True if metric, `pre` and `post` can be inverted; for `available_if`."""
    if hasattr(projector, "anchors_"):  # as fitted, whatever was set since
        metric, _ = projector._metrics[0]
        steps = {"pre": projector.pre_, "post": projector.post_}
    else:
        metric = find_metric(projector.metric)
        steps = {
            "pre": find_step("pre", projector.pre, PRE),
            "post": find_step("post", projector.post, POST),
        }
    if metric.inverse is None:
        names = sorted(name for name, m in METRICS.items() if m.inverse is not None)
        raise AttributeError(
            f"inverse_transform needs a metric of {names}, or a Metric with an "
            f"inverse; got {metric.name!r}"
        )
    for name, step in steps.items():
        if isinstance(step, FunctionTransformer) and step.func is not None:
            invertible = step.inverse_func is not None
        else:
            invertible = step is None or hasattr(step, "inverse_transform")
        if not invertible:
            raise AttributeError(
                f"inverse_transform needs {name} to be None, 'standardize' or a "
                f"transformer with an inverse; got {step!r}"
            )
    return True


class RelativeProjector(RelativeTransformer):
    """Represent each row by its comparison with anchors, under one metric.

    If two encoders' spaces differ by a transformation that the metric ignores, they
    have the same relative space, so that a head trained on one works on the other
    [1]_.  The attribute `invariances_` lists these transformations for the chosen
    `pre`, `metric` and `post`.

    Parameters
    ----------
    n_anchors : int, default=300
        How many anchors to choose among the fitted rows.  If there are fewer rows,
        all of them are chosen, with a warning.
    metric : str, Metric or callable, default="cosine"
        A name of `skinvariant.metrics.METRICS`, a `skinvariant.metrics.Metric`, or a
        function ``(X, anchors) -> array of shape (n_samples, n_anchors)``.
    metric_params : dict, default=None
        Further parameters of the metric, such as ``{"p": 3}`` for "minkowski".
    anchors : {"random", "stratified", "kmeans", "farthest", "all"}, array-like of \
            int, rows or callable, default="random"
        How to choose: a strategy of `skinvariant.anchors`; distinct row indices into
        the fitted rows, used in this order; or a callable
        ``(X, y, n_anchors, random_state) -> indices``.  Equal `random_state` on
        corresponding rows gives parallel anchors for "random" and "stratified";
        "kmeans" and "farthest" depend on the space: reuse `anchor_indices_` instead.
        Or the anchors themselves, an array-like of shape (n_anchors, n_features): they
        are the same in every fit, as in the folds of a cross-validation, and need not
        be rows of `X`.
    pre : {"center", "standardize", "whiten"}, transformer or None, default=None
        Applied to rows and anchors before the metric; fitted on the anchors, and
        refitted at `rebase`.  "center" is ``StandardScaler(with_std=False)``,
        "standardize" is ``StandardScaler()``, and "whiten" removes the whole
        covariance (`skinvariant.relative.Whitener`, which can be regularised).
    post : {"layer", "l2", "standardize"}, transformer or None, default=None
        Applied to the relative vectors.  "layer" standardises each vector on its own,
        "l2" scales it to norm 1; "standardize" (``StandardScaler()``) and a
        transformer are fitted on the anchors' own relative vectors.  At `rebase` a
        StandardScaler is refitted, since its columns are the anchors; any other
        transformer is kept.
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
    post_ : transformer or None
        The fitted `post`.
    invariances_ : frozenset of str
        The classes of `skinvariant.metrics.TRANSFORMATIONS` that leave the output
        unchanged when applied to rows and anchors alike.  Empty if nothing is known,
        as after a `pre` of your own.
    n_features_in_ : int
        Width of the space.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names of the fitted `X`, if it had any.

    See Also
    --------
    InvariantAggregator : Several metrics at once.
    skinvariant.stitch : Swap the encoder under a fitted model.
    sklearn.kernel_approximation.Nystroem : Kernel features from landmarks.

    Notes
    -----
    `transform` works in blocks of rows of about 24 MiB per thread (less if
    scikit-learn's `working_memory` is smaller).  The size of a block changes a value by
    rounding at most: without `post`, by 64 units of rounding of the largest value.

    References
    ----------
    .. [1] L. Moschella et al., "Relative representations enable zero-shot latent
       space communication", ICLR 2023, arXiv 2209.15430.

    Examples
    --------
    Two encoders that differ by a rotation and a scaling have the same relative space:

    >>> import numpy as np
    >>> from scipy.stats import ortho_group
    >>> from skinvariant import RelativeProjector
    >>> X_a = np.random.default_rng(0).standard_normal((100, 8))
    >>> X_b = 3 * X_a @ ortho_group.rvs(8, random_state=0)
    >>> projector = RelativeProjector(n_anchors=20, random_state=0).fit(X_a)
    >>> rebased = projector.rebase(X_b[projector.anchor_indices_])
    >>> round(float(abs(X_a - X_b).max()))
    12
    >>> gaps = projector.transform(X_a) - rebased.transform(X_b)
    >>> round(float(abs(gaps).max()), 9)
    0.0
    >>> sorted(projector.invariances_)
    ['isotropic_scaling', 'orthogonal', 'permutation', 'signed_permutation']

    Only centring removes a translation of the origin:

    >>> centred = RelativeProjector(n_anchors=20, pre="center", random_state=0)
    >>> centred = centred.fit(X_a)
    >>> sorted(centred.invariances_ - projector.invariances_)
    ['translation']
    >>> moved = centred.rebase(X_b[centred.anchor_indices_] + 10)
    >>> gaps = centred.transform(X_a) - moved.transform(X_b + 10)
    >>> round(float(abs(gaps).max()), 9)
    0.0
    """

    # one number for the call, not one per sample: there is nothing to route
    __metadata_request__inverse_transform = {"alpha": metadata_routing.UNUSED}

    def __init__(
        self,
        n_anchors=300,
        *,
        metric="cosine",
        metric_params=None,
        anchors="random",
        pre=None,
        post=None,
        random_state=None,
        n_jobs=None,
    ):
        self.n_anchors = n_anchors
        self.metric = metric
        self.metric_params = metric_params
        self.anchors = anchors
        self.pre = pre
        self.post = post
        self.random_state = random_state
        self.n_jobs = n_jobs

    @property
    def post_(self):
        """The fitted `post`, or None."""
        check_is_fitted(self)
        return self._posts[0]

    @available_if(_has_inverse)
    @one_blas_thread
    def inverse_transform(self, X, *, alpha=1.0):
        """Find the rows of the anchors' space that have these relative vectors.

        Available for "cosine", "inner", "euclidean", "sqeuclidean" and
        "change_of_basis", with a `pre` and `post` that can be inverted.  Rows of
        another encoder, made relative by the rebased projector, become rows of the
        first encoder:
        ``projector.inverse_transform(projector.rebase(anchors_b).transform(X_b))``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features_out)
            Relative vectors of this projector, or of one that it was rebased to.
        alpha : float >= 0, default=1.0
            Ridge penalty, times the mean squared norm of the anchors (after `pre`; of
            length 1 for "cosine", centred for distances).  0: exact if the spaces
            differ only by transformations that the metric ignores; any other
            difference is amplified in directions in which the anchors hardly vary.
            Real encoders need about 1, for few and for many anchors.  Not used for
            "change_of_basis", which has its own in `metric_params`.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows, exact if the anchors (for distances: centred) span the space and
            `alpha` is 0; otherwise their part in the span of the anchors.  "cosine"
            ignores lengths: its rows have the anchors' mean length before `pre` is
            inverted.

        Raises
        ------
        ValueError, TypeError
            If `alpha` or the width of `X` is not as documented.
        AttributeError
            If metric, `pre` or `post` cannot be inverted.
        """
        check_is_fitted(self)
        check_number("alpha", alpha, Real, 0)
        X = as_float(check_array(X, dtype="numeric", estimator=self))
        if X.shape[1] != self._n_features_out:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} makes "
                f"relative vectors of {self._n_features_out} features"
            )
        self._check_library(X)
        values = X
        if self.post_ is not None:
            width = self.anchors_.shape[0]
            values = self.post_.inverse_transform(copied(X))
            values = check_returned(values, X, "the inverse of post", width)
        anchors = self._apply_pre(self.anchors_)
        anchors = anchors.toarray() if issparse(anchors) else anchors
        metric, _ = self._metrics[0]
        rows = metric.inverse(values, anchors, float(alpha))
        source, width = f"the inverse of metric {metric.name!r}", anchors.shape[1]
        rows = as_dtype(check_returned(rows, X, source, width), X.dtype)
        if self.pre_ is None:
            return rows
        rows, width = self.pre_.inverse_transform(rows), self.anchors_.shape[1]
        return as_dtype(check_returned(rows, X, "the inverse of pre", width), X.dtype)

    def _metrics_and_params(self):
        return [(find_metric(self.metric), check_metric_params(self.metric_params))]

    def _combine(self, spaces):
        return spaces[0]

    def _combine_names(self, names):
        return names[0]
