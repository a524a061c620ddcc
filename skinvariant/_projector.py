"""RelativeProjector: every row compared with the anchors, under one metric."""

import copy
import functools
import warnings
from collections.abc import Mapping
from numbers import Real

import numpy as np
from scipy.sparse import csr_array, issparse
from sklearn import get_config
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    clone,
)
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import (
    assert_all_finite,
    check_array,
    gen_batches,
    get_tags,
    metadata_routing,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted, validate_data

from skinvariant._callbacks import CallbackSupportMixin, telling, with_callbacks
from skinvariant._dask import (
    fetch_anchors,
    in_memory,
    is_dask_array,
    stand_in,
    transform_lazily,
)
from skinvariant._threads import one_blas_thread
from skinvariant._validation import (
    as_dtype,
    as_float,
    canonical,
    check_choice,
    check_number,
    namespace,
    take_rows,
)
from skinvariant.anchors import choose_anchors
from skinvariant.metrics import (
    _INVERSES,
    METRICS,
    TRANSFORMATIONS,
    _fit_together,
    _transform_together,
    get_metric,
    l2_normalize,
    layer_normalize,
)
from skinvariant.relative import Whitener

# of temporary memory per worker; arrays of other libraries may sit on a GPU
_BLOCK_MIB = 24
_ANYTHING = "a scikit-learn transformer, or None"


_PRE = {
    "center": StandardScaler(with_std=False),
    "standardize": StandardScaler(),
    "whiten": Whitener(),
}
_POST = {
    "l2": FunctionTransformer(l2_normalize),
    "layer": FunctionTransformer(layer_normalize),
    "standardize": StandardScaler(),
}
_SCALE_FREE = (l2_normalize, layer_normalize)


def _transformer(name, option, choices):
    """Return an unfitted transformer for `pre` or `post`, or None."""
    if option is None:
        return None
    if not (hasattr(option, "fit") and hasattr(option, "transform")):
        option = check_choice(name, option, choices, or_else=_ANYTHING)
    option = clone(option)
    if hasattr(option, "set_output"):  # arrays, whatever the global configuration
        option.set_output(transform="default")
    return option


def _belongs_to_anchors(post):
    """Whether a fitted `post` is per anchor, so that another space has its own."""
    return type(post) is StandardScaler


def _scales_every_column(scaler):
    """Whether no column was constant when a StandardScaler was fitted.

    Such columns are left unscaled.
    """
    xp = namespace(scaler.var_)
    return not bool(xp.any(scaler.scale_ != xp.sqrt(scaler.var_)))


def _removes_scale(post):
    """Whether a fitted `post` takes out a factor that all relative values share."""
    if type(post) is StandardScaler:
        return post.with_std and _scales_every_column(post)
    return getattr(post, "func", None) in _SCALE_FREE


def _without_self(values):
    """Replace the diagonal by the mean of the rest of each column."""
    xp = namespace(values)
    on = {} if xp is np else {"device": values.device}
    own = xp.eye(values.shape[0], dtype=values.dtype, **on)
    others = (1 - own) / (values.shape[0] - 1)
    return values * (1 - own) + own * xp.sum(values * others, axis=0)


def _copied(X):
    """Copy, for a transformer that might write into what it is given."""
    return X.copy() if namespace(X) is np else namespace(X).asarray(X, copy=True)


def check_params(metric_params):
    """Return `metric_params` as a dict."""
    if metric_params is None:
        return {}
    if not isinstance(metric_params, Mapping):
        raise TypeError(f"metric_params must be a dict or None; got {metric_params!r}")
    return dict(metric_params)


def _left_by(pre):
    """Tell what a fitted `pre` leaves of each class of transformations.

    Maps class to class, or to None where `pre` takes it out altogether; classes about
    which nothing is known are missing.
    """
    left = {name: name for name in TRANSFORMATIONS}
    if pre is None:
        return left
    if type(pre) is Whitener:
        left["isotropic_scaling"] = left["translation"] = None
        exact = pre.full_rank_ and pre.shrinkage == 0
        turned = "orthogonal" if exact else "linear"
        return left | dict.fromkeys(("axis_scaling", "linear", "affine"), turned)
    if type(pre) is not StandardScaler:
        return {}
    if pre.with_mean:
        left |= {"translation": None, "affine": "linear"}
    if pre.with_std:
        scaling = None if _scales_every_column(pre) else "axis_scaling"
        left |= dict.fromkeys(("isotropic_scaling", "axis_scaling"), scaling)
        left["orthogonal"] = "linear"
    return left


class RelativeTransformer(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """What `RelativeProjector` and `InvariantAggregator` share.

    Subclasses say which metrics there are (`_metrics_and_params`) and how their
    relative spaces, and the names of their columns, become one (`_combine`,
    `_combine_names`).
    """

    _doc_link_module = "skinvariant"
    _doc_link_template = (
        "https://skinvariant.readthedocs.io/en/stable/generated/"
        "skinvariant.{estimator_name}.html"
    )

    @with_callbacks
    def fit(self, X, y=None):
        """Choose anchors among the rows of `X` and prepare the comparison.

        Parameters
        ----------
        X : {array-like, CSR matrix, dask array} of shape (n_samples, n_features)
            The space of the head.  Of a dask array only the anchors are computed; for
            "kmeans" and "farthest" a random subsample of 20,000 rows, or of 10 for
            each anchor if these are more; for "all" everything.
        y : {array-like, dask array} of shape (n_samples,), default=None
            Class labels, for `anchors="stratified"` or a callable that wants them.

        Returns
        -------
        object
            The fitted estimator itself.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the input is not as documented.
        """
        with telling(self, X=X, y=y):
            self._fit(X, y)
        return self

    def _fit(self, X, y):
        pairs = self._metrics_and_params()
        pre = _transformer("pre", self.pre, _PRE)
        check = functools.partial(self._validate, pairs=pairs, pre=pre, reset=True)
        if is_dask_array(X):
            anchors, indices = fetch_anchors(self, X, y, check)
        else:
            X, how = check(X), (self.n_anchors, self.random_state)
            with one_blas_thread:
                indices = choose_anchors(self.anchors, X, y, *how)
            anchors = take_rows(X, indices)
        # registered metrics by name: functions are no state
        self._metrics = [
            (metric.name if METRICS.get(metric.name) is metric else metric, params)
            for metric, params in pairs
        ]
        xp = namespace(anchors)
        on = {} if xp is np else {"device": anchors.device}
        self.anchor_indices_ = xp.asarray(indices, **on)
        self.n_samples_fit_ = int(X.shape[0])
        if isinstance(self.post, str) and self.post == "layer" and len(indices) < 2:
            raise ValueError(
                "post='layer' needs at least 2 anchors, since one value minus its mean "
                f"is always 0; got 1 (n_samples={X.shape[0]})"
            )
        mapped = self._set_space(anchors, pairs, pre)
        posts = [_transformer("post", self.post, _POST)] * len(pairs)
        return self._set_post(mapped, pairs, posts, to_fit=lambda post: True)

    def transform(self, X):
        """Compare rows with the anchors.

        Parameters
        ----------
        X : {array-like, CSR matrix, dask array} of shape (n_samples, n_features)
            Rows of the space that the anchors are from.

        Returns
        -------
        {ndarray, dask array} of shape (n_samples, n_features_out)
            The relative space, in float32 for float32 input and else in float64; an
            array of the same library as `X` under array API dispatch.  Of a dask
            array one in the same blocks of rows, not computed.

        Raises
        ------
        ValueError, TypeError
            If the input is not like the fitted one, or a value leaves the range of
            the dtype.
        """
        check_is_fitted(self)
        if is_dask_array(X):
            self._validate(stand_in(X), self._fitted_pairs(), self.pre_, reset=False)
            return transform_lazily(self, X)
        X = self._validate(X, self._fitted_pairs(), self.pre_, reset=False)
        self._check_library(X)
        xp = namespace(X)
        dtype = X.dtype if X.dtype in (xp.float32, xp.float64) else xp.float64
        on = {} if xp is np else {"device": X.device}
        output = xp.empty((X.shape[0], self._n_features_out), dtype=dtype, **on)
        batches = list(gen_batches(X.shape[0], self._block_rows(X)))

        def project(rows):
            output[rows, :] = as_dtype(self._project(self._block(X, rows)), dtype)

        if len(batches) == 1 or xp is not np:
            for rows in batches:
                project(rows)
            return output
        Parallel(n_jobs=self.n_jobs, require="sharedmem")(
            delayed(project)(rows) for rows in batches
        )
        return output

    def rebase(self, anchors):
        """Put another space's parallel anchors under this fitted estimator.

        What belongs to the anchors is fitted anew on these: `pre`, and of `post` a
        StandardScaler, whose columns are the same anchors in every space.  Any other
        `post` stays as it is: the head knows no other.

        Parameters
        ----------
        anchors : {array-like, CSR matrix, dask array} of shape (n_anchors, \
                n_features_new)
            The same samples as `anchors_`, in the same order, as the other encoder
            sees them.  Any width.

        Returns
        -------
        object
            A new fitted estimator of the same class.  This one is not changed.

        Raises
        ------
        ValueError
            If the number of anchors differs.
        """
        return self._rebase(anchors)[0]

    def _rebase(self, anchors):
        """Return the rebased estimator, and its anchors compared with each other."""
        check_is_fitted(self)
        new = copy.copy(self)
        pairs = self._fitted_pairs()
        pre = None if self.pre_ is None else clone(self.pre_)
        anchors = new._validate(in_memory(anchors), pairs, pre, reset=True)
        if anchors.shape[0] != self.anchors_.shape[0]:
            raise ValueError(
                f"{type(self).__name__}.rebase needs the same anchors in the new "
                f"space: {self.anchors_.shape[0]} rows, in the same order; got "
                f"{anchors.shape[0]} rows"
            )
        mapped = new._set_space(_copied(anchors), pairs, pre)
        values = new._set_post(mapped, pairs, self._posts, to_fit=_belongs_to_anchors)
        return new, values

    def get_feature_names_out(self, input_features=None):
        """Return the names of the output features, with the anchors' row indices.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Ignored, but checked against the names seen in `fit`.

        Returns
        -------
        ndarray of shape (n_features_out,), dtype object
            The names, such as ``"cosine_anchor17"``.

        Raises
        ------
        ValueError
            If `input_features` are not those seen in `fit`.
        """
        check_is_fitted(self)
        super().get_feature_names_out(input_features)  # for its check
        anchors = [f"anchor{int(index)}" for index in self.anchor_indices_]
        names = []
        for (metric, _), post, width in zip(
            self._fitted_pairs(), self._posts, self._widths, strict=True
        ):
            if width == len(anchors):
                own = anchors
            elif hasattr(post, "get_feature_names_out"):
                own = post.get_feature_names_out()
            else:
                own = [f"post{i}" for i in range(width)]
            names.append([f"{metric.name}_{name}" for name in own])
        return np.asarray(self._combine_names(names), dtype=object)

    @property
    def invariances_(self):
        """Classes of transformations that leave the fitted output unchanged.

        Of `skinvariant.metrics.TRANSFORMATIONS`, applied to rows and anchors alike.
        Empty where nothing can be promised, as after a `pre` of one's own.
        """
        check_is_fitted(self)
        left = _left_by(self.pre_)
        held = set(left)
        pairs = self._fitted_pairs()
        for place, fitted in (
            (place, fitted) for places, fitted in self._groups for place in places
        ):
            metric, post = pairs[place][0], self._posts[place]
            own = {None} | metric.invariances_of(fitted)
            if metric.homogeneous and _removes_scale(post):
                own.add("isotropic_scaling")
            held &= {name for name, rest in left.items() if rest in own}
        return frozenset(held)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.target_tags.required = (
            isinstance(self.anchors, str) and self.anchors == "stratified"
        )
        try:
            metrics = [metric for metric, _ in self._metrics_and_params()]
            pre = _transformer("pre", self.pre, _PRE)
            post = _transformer("post", self.post, _POST)
        except (TypeError, ValueError):  # fit says what is wrong
            return tags
        tags.input_tags.sparse = all(metric.sparse for metric in metrics) and (
            pre is None or get_tags(pre).input_tags.sparse
        )
        tags.array_api_support = all(metric.array_api for metric in metrics) and all(
            type(step) is FunctionTransformer or get_tags(step).array_api_support
            for step in (pre, post)
            if step is not None
        )
        return tags

    def _fitted_pairs(self):
        """Return metrics and parameters as they were at fit."""
        return [(get_metric(metric), params) for metric, params in self._metrics]

    def _validate(self, X, pairs, pre, *, reset):
        """Validate rows or anchors; ints and narrow floats are widened by block."""
        if issparse(X):
            for metric, _ in pairs:
                if not metric.sparse:
                    raise TypeError(
                        f"metric {metric.name!r} does not take sparse input, since it "
                        "would have to make it dense: use X.toarray() or another metric"
                    )
            if pre is not None and not get_tags(pre).input_tags.sparse:
                raise TypeError(
                    f"pre={self.pre!r} does not take sparse input, since it would have "
                    "to make it dense: use X.toarray() or another pre"
                )
        X = validate_data(
            self,
            X,
            accept_sparse="csr",
            dtype="numeric",
            reset=reset,
            ensure_all_finite=reset,  # transform looks block by block
        )
        if namespace(X) is not np and not get_tags(self).array_api_support:
            raise TypeError(
                f"{self!r} has a metric, pre or post that needs NumPy input; "
                f"got {type(X).__module__}.{type(X).__name__}"
            )
        return X

    def _check_library(self, X):
        """Refuse rows of another array library or device than the anchors."""
        xp, fitted = namespace(X), namespace(self.anchors_)
        if xp is fitted and (xp is np or X.device == self.anchors_.device):
            return
        places = [
            f"{module.__name__} on {getattr(array, 'device', 'cpu')}"
            for module, array in ((fitted, self.anchors_), (xp, X))
        ]
        raise ValueError(
            f"Inputs passed to {type(self).__name__}.transform() must use the same "
            f"namespace and the same device as those passed to fit(), {places[0]}; "
            f"got {places[1]}"
        )

    # here and below: no number of BLAS threads may change the order of sums
    @one_blas_thread
    @np.errstate(all="ignore")
    def _set_space(self, anchors, pairs, pre):
        """Store anchors and what follows from them; return them after `pre`."""
        self.anchors_ = as_float(canonical(anchors))
        self.pre_ = None if pre is None else pre.fit(_copied(self.anchors_))
        mapped = self._apply_pre(self.anchors_)
        self._groups = _fit_together(pairs, mapped)
        return mapped

    @one_blas_thread
    @np.errstate(all="ignore")
    def _set_post(self, mapped, pairs, posts, to_fit):
        """Store `posts`, fitted on the anchors' own relative vectors where `to_fit`.

        Returns these relative vectors, before `post`, by metric.
        """
        self._posts, self._widths, spaces = [], [], []
        with warnings.catch_warnings():  # of undefined rows transform tells
            warnings.filterwarnings("ignore", ".* is undefined for .* rows")
            all_values = _transform_together(mapped, pairs, self._groups)
        for values, post in zip(all_values, posts, strict=True):
            values = as_dtype(values, values.dtype)
            if post is not None:
                post = clone(post).fit(values) if to_fit(post) else post
                values = post.transform(values)
            self._posts.append(post)
            self._widths.append(values.shape[1])
            spaces.append(values)
        self._n_features_out = self._combine(spaces).shape[1]
        return all_values

    @one_blas_thread
    @np.errstate(all="ignore")
    def _leave_one_out(self, values):
        """Return the anchors' relative space with self-comparisons replaced.

        A new row is never compared with itself.  So that anchors can stand for new
        rows, each self-comparison becomes the mean of the others in its column.
        """
        return self._combine(self._apply_posts([_without_self(x) for x in values]))

    def _apply_pre(self, X):
        return X if self.pre_ is None else as_float(self.pre_.transform(_copied(X)))

    @one_blas_thread
    @np.errstate(all="ignore")
    def _project(self, X):
        """Rows to output, without checks: what is not finite is found afterwards."""
        X = self._apply_pre(X)
        spaces = _transform_together(X, self._fitted_pairs(), self._groups)
        return self._combine(self._apply_posts(spaces))

    def _apply_posts(self, spaces):
        return [
            values if post is None else post.transform(values)
            for values, post in zip(spaces, self._posts, strict=True)
        ]

    def _block(self, X, rows):
        """Return some rows, dense or CSR as the anchors are."""
        block = X[rows] if issparse(X) else X[rows, :]
        if issparse(self.anchors_):
            block = canonical(csr_array(block))
        elif issparse(block):
            block = block.toarray()
        block = as_float(block)
        assert_all_finite(block, estimator_name=type(self).__name__, input_name="X")
        return block

    def _block_rows(self, X):
        """How many rows to project at once, a matter of memory alone."""
        limit = min(_BLOCK_MIB, get_config()["working_memory"]) * 2**20
        sparse = issparse(X) and issparse(self.anchors_)
        width = X.nnz / X.shape[0] if sparse else X.shape[1]
        relative = self.anchors_.shape[0] * len(self._posts)
        return max(1, int(limit / (8 * 4 * (width + relative + 1))))


def _can_be_undone(step):
    """Whether a `pre` or `post` has an inverse; a function without one has none."""
    if isinstance(step, FunctionTransformer) and step.func is not None:
        return step.inverse_func is not None
    return step is None or hasattr(step, "inverse_transform")


def _has_inverse(projector):
    """Whether metric, pre and post can be undone; for `available_if`, or why not."""
    if hasattr(projector, "anchors_"):  # as it was fitted, whatever is set by now
        metric, _ = projector._fitted_pairs()[0]
        steps = {"pre": projector.pre_, "post": projector.post_}
    else:
        metric = get_metric(projector.metric)
        steps = {
            "pre": _transformer("pre", projector.pre, _PRE),
            "post": _transformer("post", projector.post, _POST),
        }
    if metric.name not in _INVERSES or METRICS.get(metric.name) is not metric:
        raise AttributeError(
            f"inverse_transform needs a metric of {sorted(_INVERSES)}; got "
            f"{metric.name!r}"
        )
    for name, step in steps.items():
        if not _can_be_undone(step):
            raise AttributeError(
                f"inverse_transform needs {name} to be None, 'standardize' or a "
                f"transformer with an inverse; got {step!r}"
            )
    return True


class RelativeProjector(RelativeTransformer):
    """Represent each row by its comparison with anchors, under one metric.

    Two encoders' spaces that differ by a transformation which the metric does not
    see have the same relative space, so that a head trained on one serves the other
    [1]_.  Which transformations these are, for the chosen `pre`, `metric` and `post`,
    is told by `invariances_`.

    Parameters
    ----------
    n_anchors : int, default=300
        How many anchors to choose among the fitted rows.  Where there are fewer rows,
        all of them, with a warning.
    metric : str, Metric or callable, default="cosine"
        A name of `skinvariant.metrics.METRICS`, a `skinvariant.metrics.Metric`, or a
        function ``(X, anchors) -> array of shape (n_samples, n_anchors)``.
    metric_params : dict, default=None
        Further parameters of the metric, such as ``{"p": 3}`` for "minkowski".
    anchors : {"random", "stratified", "kmeans", "farthest", "all"}, array-like of \
            int or callable, default="random"
        How to choose: a strategy of `skinvariant.anchors`; distinct row indices into
        the fitted rows, used as they are; or a callable
        ``(X, y, n_anchors, random_state) -> indices``.  Equal `random_state` on
        corresponding rows gives parallel anchors for "random" and "stratified";
        "kmeans" and "farthest" depend on the space: carry `anchor_indices_` over.
    pre : {"center", "standardize", "whiten"}, transformer or None, default=None
        Applied to rows and anchors before the metric, fitted on the anchors (anew at
        `rebase`).  "center" is ``StandardScaler(with_std=False)``, "standardize" is
        ``StandardScaler()``, "whiten" takes out the whole covariance.
    post : {"layer", "l2", "standardize"}, transformer or None, default=None
        Applied to the relative vectors.  "layer" standardises each vector on its own,
        "l2" scales it to norm 1; "standardize" (``StandardScaler()``) and a
        transformer are fitted on the anchors' own relative vectors: at `rebase` a
        StandardScaler anew, since its columns are the anchors, any other not.
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
        Their rows in the fitted `X`.
    n_samples_fit_ : int
        Number of rows of the fitted `X`.
    pre_ : transformer or None
        The fitted `pre`.
    post_ : transformer or None
        The fitted `post`.
    invariances_ : frozenset of str
        The classes of `skinvariant.metrics.TRANSFORMATIONS` that leave the output
        unchanged when applied to rows and anchors alike.  Empty where nothing can be
        promised, as after a `pre` of one's own.
    n_features_in_ : int
        Width of the space.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names of the fitted `X`, where it had some.

    See Also
    --------
    InvariantAggregator : Several metrics at once.
    skinvariant.stitch : Swap the encoder under a fitted model.
    sklearn.kernel_approximation.Nystroem : Kernel features from landmarks.

    Notes
    -----
    `transform` works in blocks of rows of about 24 MiB per thread (less if
    scikit-learn's `working_memory` says so).  The size of a block changes a value by
    rounding at most: without `post`, by 64 units of rounding of the largest value.

    References
    ----------
    .. [1] L. Moschella et al., "Relative representations enable zero-shot latent
       space communication", ICLR 2023, arXiv 2209.15430.

    Examples
    --------
    A rotation and a scaling between two encoders, and the same relative space:

    >>> import numpy as np
    >>> from scipy.stats import ortho_group
    >>> from skinvariant import RelativeProjector
    >>> X_a = np.random.default_rng(0).standard_normal((100, 8))
    >>> X_b = 3 * X_a @ ortho_group.rvs(8, random_state=0)
    >>> projector = RelativeProjector(n_anchors=20, random_state=0).fit(X_a)
    >>> rebased = projector.rebase(X_b[projector.anchor_indices_])
    >>> float(abs(X_a - X_b).max()) > 1
    True
    >>> bool(np.allclose(projector.transform(X_a), rebased.transform(X_b)))
    True
    >>> sorted(projector.invariances_)
    ['isotropic_scaling', 'orthogonal', 'permutation', 'signed_permutation']

    A translation, which only centring takes out:

    >>> centred = RelativeProjector(n_anchors=20, pre="center", random_state=0)
    >>> centred = centred.fit(X_a)
    >>> "translation" in centred.invariances_
    True
    >>> moved = centred.rebase(X_b[centred.anchor_indices_] + 10)
    >>> bool(np.allclose(centred.transform(X_a), moved.transform(X_b + 10)))
    True
    """

    # a number of the call, not one per sample: nothing to be routed
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

        For "cosine", "inner", "euclidean", "sqeuclidean" and "change_of_basis", with a
        `pre` and `post` that can be undone.  What `rebase` made of another encoder's
        rows becomes rows of the first encoder:
        ``projector.inverse_transform(projector.rebase(anchors_b).transform(X_b))``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features_out)
            Relative vectors of this projector, or of one that it was rebased to.
        alpha : float >= 0, default=1.0
            Ridge penalty, times the mean squared norm of the anchors (as the metric
            has them: after `pre`, of length 1 for "cosine", centred for distances).
            0: exact where the spaces differ by nothing but what the metric does not
            see; any other difference is blown up in directions in which the anchors
            hardly vary.  Real encoders take about 1, for few and for many anchors.
            No matter for "change_of_basis", which takes its own in `metric_params`.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows, exact where the anchors span the space (for distances: centred) and
            `alpha` is 0; else of what the anchors do span.  Of "cosine", which does
            not see lengths, rows of the anchors' mean length before `pre` is undone.

        Raises
        ------
        ValueError, TypeError
            If `alpha` or the width of `X` is not as documented.
        AttributeError
            If metric, `pre` or `post` cannot be undone.
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
        values = X if self.post_ is None else self.post_.inverse_transform(_copied(X))
        anchors = self._apply_pre(self.anchors_)
        anchors = anchors.toarray() if issparse(anchors) else anchors
        metric, _ = self._fitted_pairs()[0]
        rows = as_dtype(_INVERSES[metric.name](values, anchors, float(alpha)), X.dtype)
        return rows if self.pre_ is None else self.pre_.inverse_transform(rows)

    def _metrics_and_params(self):
        return [(get_metric(self.metric), check_params(self.metric_params))]

    def _combine(self, spaces):
        return spaces[0]

    def _combine_names(self, names):
        return names[0]
