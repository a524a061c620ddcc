"""What the projector and the aggregator share: anchors, blocks of rows, rebase."""

import copy
import functools
from collections.abc import Mapping

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
from sklearn.utils import assert_all_finite, check_array, gen_batches, get_tags
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted, validate_data

from skinvariant._dask import (
    fetch_anchors,
    fetch_rows,
    in_memory,
    is_dask_array,
    stand_in,
    transform_lazily,
)
from skinvariant._threads import one_blas_thread
from skinvariant._validation import (
    are_rows,
    as_dtype,
    as_float,
    canonical,
    check_returned,
    namespace,
    take_rows,
    to_numpy,
)
from skinvariant.anchors import choose_anchors
from skinvariant.metrics._graphs import MOST_ROWS, rows_of_graph
from skinvariant.metrics._products import undefined_rows_allowed
from skinvariant.metrics._registry import (
    METRICS,
    compare_together,
    prepare_together,
    refuse_sparse,
)
from skinvariant.relative._steps import (
    POST,
    PRE,
    classes_after,
    find_step,
    fitted,
    removes_scale,
    rounding_after,
    unfitted,
)

# temporary memory of a worker; arrays of other libraries may be on a GPU
_BLOCK_MIB = 24
# values of a row that differ by no more than this part of the largest are the same
_ALIKE = 0.05


def copied(X):
    """Copy an array, for a transformer that might write into its input."""
    return X.copy() if namespace(X) is np else namespace(X).asarray(X, copy=True)


def check_metric_params(metric_params):
    """Return `metric_params` as a dict."""
    if metric_params is None:
        return {}
    if not isinstance(metric_params, Mapping):
        raise TypeError(f"metric_params must be a dict or None; got {metric_params!r}")
    return dict(metric_params)


def given_anchors(estimator, X):
    """Return the parameter `anchors` of an estimator; rows as a copy of the kind of X.

    Parameters
    ----------
    estimator : estimator
        It has validated `X`, so that its `n_features_in_` and `feature_names_in_` are
        those of the anchors, too.
    X : {ndarray, sparse matrix, array API array} of shape (n_samples, n_features)
        Validated rows of the space.

    Returns
    -------
    object
        Rows as a validated array or CSR matrix, of the library and device of `X` and
        in their own dtype; anything else as it is.

    Raises
    ------
    ValueError, TypeError
        If rows are not finite numbers, or have other columns than the space.
    """
    anchors = in_memory(estimator.anchors)
    if not are_rows(anchors):
        return anchors
    names = getattr(anchors, "columns", None)
    how = {"accept_sparse": "csr", "dtype": "numeric", "order": "C", "copy": True}
    anchors = check_array(anchors, input_name="anchors", **how)
    width = estimator.n_features_in_
    if anchors.shape[1] != width:
        raise ValueError(
            "anchors must be 1-D row indices, or rows of the space, which has "
            f"{width} features; got shape {anchors.shape}"
        )
    own = getattr(estimator, "feature_names_in_", None)
    if names is not None and own is not None and list(names) != list(own):
        raise ValueError(
            f"anchors must have the columns of X, {list(own)[:5]}, in their order; got "
            f"{list(names)[:5]}"
        )
    if namespace(X) is not np:
        dense = anchors.toarray() if issparse(anchors) else to_numpy(anchors)
        return namespace(X).asarray(dense, device=X.device)
    if issparse(X):
        return csr_array(to_numpy(anchors))
    return anchors.toarray() if issparse(anchors) else to_numpy(anchors)


class RelativeTransformer(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Base class of `RelativeProjector` and `InvariantAggregator`.

    Subclasses define their metrics (`_metrics_and_params`) and how the relative spaces,
    and the names of their columns, are combined (`_combine`, `_combine_names`).
    """

    _doc_link_module = "skinvariant"
    _doc_link_template = (
        "https://skinvariant.readthedocs.io/en/stable/generated/"
        "skinvariant.{estimator_name}.html"
    )

    def fit(self, X, y=None):
        """Choose anchors among the rows of `X` and prepare the comparison.

        Parameters
        ----------
        X : {array-like, CSR matrix, dask array} of shape (n_samples, n_features)
            The space to choose from; only its width and names matter where `anchors`
            are rows.  Of a dask array only the anchors are computed;
            for "kmeans" and "farthest" a random subsample of 20,000 rows, or of 10 for
            each anchor if these are more; for "all" everything.  The metric "geodesic"
            takes all rows, or a random subsample of 5,000.
        y : {array-like, dask array} of shape (n_samples,), default=None
            Class labels, for `anchors="stratified"` or a callable that uses them.

        Returns
        -------
        object
            The fitted estimator itself.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the input is not as documented.
        """
        self._fit(X, y)
        return self

    def _fit(self, X, y):
        """Fit, and return the anchors' own relative spaces, before `post`."""
        pairs = self._metrics_and_params()
        pre = unfitted(find_step("pre", self.pre, PRE))
        post = find_step("post", self.post, POST)
        check = functools.partial(self._validate, pairs=pairs, pre=pre, reset=True)
        for name in ("anchor_indices_", "n_samples_fit_"):  # of an earlier fit
            vars(self).pop(name, None)
        indices, space = None, X
        if are_rows(self.anchors):
            X = check(stand_in(X) if is_dask_array(X) else X)
            anchors = given_anchors(self, X)
        elif is_dask_array(X):
            how = {"choose": choose_anchors, "check": check}
            anchors, indices = fetch_anchors(self, X, y, **how)
        else:
            X, seed = check(X), self.random_state
            with one_blas_thread:
                indices = choose_anchors(self.anchors, X, y, self.n_anchors, seed)
            anchors = take_rows(X, indices)
        self._metrics = pairs
        if indices is not None:
            xp = namespace(anchors)
            on = {} if xp is np else {"device": anchors.device}
            self.anchor_indices_ = xp.asarray(indices, **on)
            self.n_samples_fit_ = int(X.shape[0])
        few = anchors.shape[0] < 2
        if isinstance(self.post, str) and self.post == "layer" and few:
            raise ValueError(
                "post='layer' needs at least 2 anchors, since one value minus its mean "
                f"is always 0; got 1 (n_samples={X.shape[0]})"
            )
        needing = any(metric.needs_rows for metric, _ in pairs)
        rows = self._sample(space, check) if needing else None
        mapped = self._set_anchors(anchors, pre, rows)
        return self._set_posts(mapped, [unfitted(post)] * len(pairs), rebased=False)

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
            array of the same library as `X` under array API dispatch.  For a dask
            array, a dask array in the same blocks of rows, not computed.

        Raises
        ------
        ValueError, TypeError
            If the input does not match the fitted one, or a value leaves the range
            of the dtype.
        """
        check_is_fitted(self)
        if is_dask_array(X):
            self._validate(stand_in(X), self._metrics, self.pre_, reset=False)
            return transform_lazily(self, X)
        X = self._validate(X, self._metrics, self.pre_, reset=False)
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

    def rebase(self, anchors, *, X=None):
        """Replace the anchors by parallel anchors of another space.

        Steps that belong to the anchors are refitted on the new ones: `pre`, and a
        StandardScaler as `post`, whose columns are the same anchors in every space.
        Any other `post` is kept, because the head was trained on its output.

        Parameters
        ----------
        anchors : {array-like, CSR matrix, dask array} of shape (n_anchors, \
                n_features_new)
            The same samples as `anchors_`, in the same order, in the other encoder's
            space.  Any width.
        X : {array-like, dask array} of shape (n_samples, n_features_new), default=None
            Other rows of the new space, without labels and in any order, for a metric
            that compares along them ("geodesic"): a sample like that of `fit`, about as
            large.  Of more than 5,000 rows as many are drawn at random.

        Returns
        -------
        object
            A new fitted estimator of the same class.  This one is not changed.

        Raises
        ------
        ValueError
            If the number of anchors differs, or `X` is missing or of another width
            where a metric needs it.
        TypeError
            If `X` is given and no metric needs it.
        """
        return self._rebase(anchors, X)[0]

    def _needing_rows(self):
        """Return the names of the metrics that compare along rows of the space."""
        return [metric.name for metric, _ in self._metrics if metric.needs_rows]

    def _rebase(self, anchors, X=None):
        """Return the rebased estimator, and its anchors' own relative spaces."""
        check_is_fitted(self)
        new = copy.copy(self)
        pre = None if self.pre_ is None else clone(self.pre_)
        anchors = new._validate(in_memory(anchors), self._metrics, pre, reset=True)
        if anchors.shape[0] != self.anchors_.shape[0]:
            raise ValueError(
                f"{type(self).__name__}.rebase needs the same anchors in the new "
                f"space: {self.anchors_.shape[0]} rows, in the same order; got "
                f"{anchors.shape[0]} rows"
            )
        needing = self._needing_rows()
        if needing and X is None:
            raise ValueError(
                f"X must be unlabelled rows of the new space, up to {MOST_ROWS}, along "
                f"which the metrics {needing} compare: rebase(anchors, X=rows) or "
                "stitch(model, anchors, X=rows); got None"
            )
        if X is not None and not needing:
            names = [metric.name for metric, _ in self._metrics]
            raise TypeError(
                "X must be None, unless a metric such as 'geodesic' compares along "
                f"rows of the new space; got rows and the metrics {names}"
            )
        rows = None
        if needing:
            how = {"pairs": self._metrics, "pre": pre, "reset": False}
            rows = new._sample(X, functools.partial(new._validate, **how))
        mapped = new._set_anchors(copied(anchors), pre, rows)
        return new, new._set_posts(mapped, self._posts, rebased=True)

    def get_feature_names_out(self, input_features=None):
        """Return the names of the output features, with the anchors' row indices.

        Anchors that were given as rows have their positions among these.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Not used, but checked against the names given to `fit`.

        Returns
        -------
        ndarray of shape (n_features_out,), dtype object
            The names, such as ``"cosine_anchor17"``.

        Raises
        ------
        ValueError
            If `input_features` are not those given to `fit`.
        """
        check_is_fitted(self)
        super().get_feature_names_out(input_features)  # for its check
        numbers = getattr(self, "anchor_indices_", range(self.anchors_.shape[0]))
        anchors = [f"anchor{int(number)}" for number in numbers]
        names = []
        for (metric, _), post, width in zip(
            self._metrics, self._posts, self._widths, strict=True
        ):
            if width == len(anchors):
                own = anchors
            elif hasattr(post, "get_feature_names_out"):
                own = post.get_feature_names_out()
            else:
                own = [f"post{i}" for i in range(width)]
            names.append([f"{metric.name}_{name}" for name in own])
        return np.asarray(self._combine_names(names), dtype=object)

    @functools.cached_property  # what `fit` stores comes before it
    def anchor_indices_(self):
        """Rows of the anchors in the fitted `X`."""
        check_is_fitted(self)
        raise AttributeError(
            "an estimator whose anchors were given as rows has no anchor_indices_"
        )

    @functools.cached_property
    def n_samples_fit_(self):
        """Number of rows of the fitted `X`."""
        check_is_fitted(self)
        raise AttributeError(
            "an estimator whose anchors were given as rows has no n_samples_fit_"
        )

    @property
    def invariances_(self):
        """Classes of transformations that leave the fitted output unchanged.

        Of `skinvariant.metrics.TRANSFORMATIONS`, applied to rows and anchors alike.
        Empty if nothing is known, as after a `pre` of your own.
        """
        check_is_fitted(self)
        after = classes_after(self.pre_)
        held = set(after)
        for places, prepared in self._groups:
            for place in places:
                metric, _ = self._metrics[place]
                own = {None} | metric.invariances_of(prepared)
                if metric.homogeneous and removes_scale(self._posts[place]):
                    own.add("isotropic_scaling")
                held &= {name for name, rest in after.items() if rest in own}
        return frozenset(held)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.target_tags.required = (
            isinstance(self.anchors, str) and self.anchors == "stratified"
        )
        try:
            metrics = [metric for metric, _ in self._metrics_and_params()]
            pre = find_step("pre", self.pre, PRE)
            post = find_step("post", self.post, POST)
        except (TypeError, ValueError):  # fit raises it again
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

    def _validate(self, X, pairs, pre, *, reset):
        """Validate rows or anchors; integers and narrow floats are widened by block."""
        X = validate_data(
            self,
            X,
            accept_sparse="csr",
            dtype="numeric",
            reset=reset,
            ensure_all_finite=reset,  # transform checks block by block
        )
        refuse_sparse(X, pairs)  # now, since data frames of sparse columns are CSR
        if issparse(X) and pre is not None and not get_tags(pre).input_tags.sparse:
            raise TypeError(
                f"pre={self.pre!r} does not take sparse input, since it would have to "
                "make it dense: use X.toarray(), of a data frame X.sparse.to_dense(), "
                f"or another pre; got {type(X).__name__}"
            )
        if namespace(X) is not np and not get_tags(self).array_api_support:
            raise TypeError(
                f"{self!r} has a metric, pre or post that needs NumPy input; "
                f"got {type(X).__module__}.{type(X).__name__}"
            )
        return X

    def _sample(self, X, check):
        """Return the rows along which a metric compares; `check` validates them."""
        if is_dask_array(X):
            check(stand_in(X))
            if np.isnan(X.shape[0]):
                raise ValueError(
                    "the number of rows of a dask array must be known for a metric that"
                    " compares along them: call X.compute_chunk_sizes() first; got "
                    f"shape {X.shape}"
                )
            X = fetch_rows(X, rows_of_graph(X.shape[0]))
        X = check(X)
        assert_all_finite(X, estimator_name=type(self).__name__, input_name="X")
        return take_rows(X, rows_of_graph(X.shape[0]))

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
    def _set_anchors(self, anchors, pre, rows=None):
        """Store anchors and what is prepared from them; return them after `pre`."""
        self.anchors_ = as_float(canonical(anchors))
        self.pre_ = None if pre is None else fitted(pre, copied(self.anchors_))
        self._n_features_mapped = None
        mapped = self._apply_pre(self.anchors_)
        self._n_features_mapped = mapped.shape[1]
        rounding = rounding_after(self.pre_, self.anchors_)
        if rows is not None:  # equal ones once, which `pre` may round in different ways
            both = np.concatenate([self.anchors_, as_float(rows)])
            _, first = np.unique(both, axis=0, return_index=True)
            others = both[first[first >= len(self.anchors_)]]
            rows = self._apply_pre(others) if len(others) else others
        self._groups = prepare_together(self._metrics, mapped, rounding, rows)
        return mapped

    @one_blas_thread
    @np.errstate(all="ignore")
    def _set_posts(self, mapped, posts, *, rebased):
        """Fit `posts` on the anchors' own relative spaces, store them, return these.

        When the estimator is rebased, only a StandardScaler is fitted.
        """
        self._posts, self._widths, spaces = [], [], []
        self._n_features_out = None
        with undefined_rows_allowed():
            compared = self._compare(mapped)
            for values, post in zip(compared, posts, strict=True):
                values = as_dtype(values, values.dtype)
                if post is not None and (not rebased or type(post) is StandardScaler):
                    post = fitted(clone(post), values)
                values = self._apply(post, values, "post")
                self._posts.append(post)
                self._widths.append(values.shape[1])
                spaces.append(values)
            self._n_features_out = self._combine(spaces).shape[1]
            # As many rows as anchors may be transposed unnoticed; one row cannot be.
            first = take_rows(self.anchors_, np.zeros(1, dtype=np.intp))
            alone = self._compare(self._apply_pre(first))
            self._combine(self._apply_posts(alone))
        both = zip(self._metrics, compared, alone, strict=True)
        for (metric, _), values, own in both:
            xp, row = namespace(values), values[:1, :]
            differ = xp.max(xp.abs(own - row)) > _ALIKE * xp.max(xp.abs(row))
            if metric != METRICS.get(metric.name) and bool(differ):
                raise ValueError(
                    f"metric {metric.name!r} must compare each row on its own, "
                    "whatever rows it gets with it; got other values of the first "
                    "anchor alone than among all anchors"
                )
        return compared

    @one_blas_thread
    @np.errstate(all="ignore")
    def _leave_one_out(self, compared):
        """Return the anchors' relative space with each self-comparison replaced.

        A new row is never compared with itself.  In the anchors' own relative spaces,
        each self-comparison therefore becomes the mean of the others in its column.
        """
        spaces = []
        for values in compared:
            xp, n_anchors = namespace(values), values.shape[0]
            on = {} if xp is np else {"device": values.device}
            own = xp.eye(n_anchors, dtype=values.dtype, **on)
            others = (1 - own) / (n_anchors - 1)
            spaces.append(values * (1 - own) + own * xp.sum(values * others, axis=0))
        return self._combine(self._apply_posts(spaces))

    def _apply_pre(self, X):
        width = self._n_features_mapped
        X = X if self.pre_ is None else copied(X)
        return self._apply(self.pre_, X, "pre", width, sparse=True)

    def _apply(self, step, X, name, width=None, **options):
        """Transform rows by a step, and check what it returns."""
        if step is None:
            return X
        return check_returned(step.transform(X), X, name, width, **options)

    def _compare(self, mapped):
        n_anchors = self.anchors_.shape[0]
        return compare_together(mapped, self._metrics, self._groups, n_anchors)

    @one_blas_thread
    @np.errstate(all="ignore")
    def _project(self, X):
        """Transform rows without checks: values that are not finite are found later."""
        spaces = self._compare(self._apply_pre(X))
        return self._combine(self._apply_posts(spaces))

    def _apply_posts(self, spaces):
        return [
            self._apply(post, values, "post", width)
            for values, post, width in zip(
                spaces, self._posts, self._widths, strict=True
            )
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
        """Return how many rows to transform at once, which memory alone decides."""
        limit = min(_BLOCK_MIB, get_config()["working_memory"]) * 2**20
        sparse = issparse(X) and issparse(self.anchors_)
        width = X.nnz / X.shape[0] if sparse else X.shape[1]
        relative = self.anchors_.shape[0] * len(self._posts)
        return max(1, int(limit / (8 * 4 * (width + relative + 1))))
