"""The recommended model: a pool of one head per metric and one on the space itself."""

import copy

import numpy as np
from scipy.linalg import solve
from scipy.sparse import issparse
from scipy.special import log_softmax, softmax
from sklearn import get_config
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    RegressorMixin,
    clone,
    is_classifier,
    is_regressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    LabelEncoder,
    StandardScaler,
)
from sklearn.utils import Bunch, check_array, check_random_state, gen_batches
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import (
    check_is_fitted,
    column_or_1d,
    has_fit_parameter,
    validate_data,
)

from skinvariant._dask import in_memory
from skinvariant._models import seeded_clone
from skinvariant._validation import check_labels, namespace
from skinvariant.forecast import forecast_swap
from skinvariant.metrics import METRICS as _REGISTRY
from skinvariant.metrics._rows import power_of_two
from skinvariant.pooling import (
    linear_pool_weights,
    log_pool_weights,
    signal_to_noise,
    smoothed_log,
)
from skinvariant.relative import InvariantAggregator
from skinvariant.relative._base import given_anchors
from skinvariant.translation import SpaceTranslator

__all__ = [
    "InvariantVotingClassifier",
    "InvariantVotingRegressor",
    "decision_agreement",
    "log_odds",
    "pool_translations",
]

METRICS = ("cosine", "euclidean", "manhattan", "chebyshev", "change_of_basis")
# Without a penalty, coordinates in the frame of few anchors are mostly noise
_METRIC_PARAMS = {"change_of_basis": {"alpha": 0.1}}
_MEMBERS = ("absolute", "kernel", "orthogonal", "few_shot", "self_trained")

# Strength of the prior weights: how many nats of evidence move one by 1
_ALPHA = 50.0
# The same for the scale of all weights after a change of encoder, and its least value
_SCALE_ALPHA, _LEAST_SCALE = 10.0, 0.1
# The absolute head's weight in its own space: with few anchors it is the best member
_ABSOLUTE_SHARE = 2 / 3
_LEAST_PROBABILITY = 1e-6
# Of the self-trained member: the share of the unit matrix in its covariance, how many
# rows without labels an anchor counts for, and how many rows are read at a time
_SHRINKAGE, _ANCHOR_ROWS, _BATCH_ROWS = 0.3, 10, 1000


# --- mathematics --------------------------------------------------------------------


def log_odds(proba):
    """Return log-probabilities minus their mean over the classes.

    Of a linear classifier these are its decision values, centred.

    Parameters
    ----------
    proba : ndarray of shape (n_samples, n_classes)
        Probabilities; those below 1e-6 count as 1e-6.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        The centred log-probabilities, in float64.

    Examples
    --------
    >>> from skinvariant.voting import log_odds
    >>> log_odds([[0.8, 0.2]]).round(2).tolist()
    [[0.69, -0.69]]
    """
    logs = np.log(np.maximum(np.asarray(proba, dtype=np.float64), _LEAST_PROBABILITY))
    return logs - logs.mean(axis=1, keepdims=True)


def decision_agreement(values, others):
    """Return how far two sets of decision values agree: their correlation.

    Parameters
    ----------
    values, others : ndarray of shape (n_samples, n_outputs)
        Decision values for the same rows; each column is centred first.

    Returns
    -------
    float
        In [0, 1]; negative correlations, and values that do not vary, count as 0.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.voting import decision_agreement
    >>> values = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 8.0]])
    >>> round(decision_agreement(values, 2 * values + 1), 6)
    1.0
    >>> decision_agreement(values, -values)
    0.0
    """
    values, others = (x / power_of_two(np.abs(x).max()) for x in (values, others))
    values, others = (x - np.mean(x, axis=0) for x in (values, others))
    norms = np.linalg.norm(values) * np.linalg.norm(others)
    if norms == 0 or not np.isfinite(norms):
        return 0.0
    return float(np.clip(np.vdot(values, others) / norms, 0, 1))


def _linear_discriminant(scatter, sums, sizes, prior):
    r"""Return a linear discriminant analysis of rows whose classes are probabilities.

    With rows :math:`x_i` and probabilities :math:`p_{ic}`, every class has the mean
    :math:`\mu_c = \sum_i p_{ic} x_i / n_c` with :math:`n_c = \sum_i p_{ic}`, and all
    share one covariance, :math:`\Sigma`, of which 30% are replaced by the unit matrix
    of the same trace.  The decision values of a row x are
    :math:`x^T \Sigma^{-1} \mu_c - \mu_c^T \Sigma^{-1} \mu_c / 2 + \log \pi_c`.

    Parameters
    ----------
    scatter : ndarray of shape (n_features, n_features)
        The sum of ``np.outer(x, x)`` over the rows.
    sums : ndarray of shape (n_classes, n_features)
        The sum of the rows of each class, ``proba.T @ X``.
    sizes : ndarray of shape (n_classes,)
        The sum of the probabilities of each class.
    prior : ndarray of shape (n_classes,)
        How frequent each class is among rows to come.

    Returns
    -------
    coef : ndarray of shape (n_classes, n_features)
        The directions of the classes.
    intercept : ndarray of shape (n_classes,)
        Added to ``X @ coef.T``.

    References
    ----------
    J. H. Friedman, "Regularized discriminant analysis", Journal of the American
    Statistical Association 84, 1989.

    Examples
    --------
    Two classes around -1 and 1, and the boundary between them:

    >>> import numpy as np
    >>> from skinvariant.voting import _linear_discriminant
    >>> X, proba = np.array([[-2.0], [0.0], [0.0], [2.0]]), np.eye(2)[[0, 0, 1, 1]]
    >>> coef, intercept = _linear_discriminant(
    ...     X.T @ X, proba.T @ X, proba.sum(axis=0), np.array([0.5, 0.5])
    ... )
    >>> coef.ravel().tolist(), np.ptp(intercept).item()
    ([-1.0, 1.0], 0.0)
    """
    means = sums / np.maximum(sizes, np.finfo(np.float64).tiny)[:, np.newaxis]
    within = (scatter - means.T @ sums) / sizes.sum()
    level = np.trace(within) / len(within)
    level = level if level > 0 else 1.0
    within = (1 - _SHRINKAGE) * within + _SHRINKAGE * level * np.eye(len(within))
    coef = solve(within, means.T, assume_a="sym").T
    return coef, np.log(prior) - np.sum(coef * means, axis=1) / 2


# --- members ------------------------------------------------------------------------


def _in_use(weights):
    """Return the members of positive weight, or the first one where all are 0."""
    positive = {name: weight for name, weight in weights.items() if weight > 0}
    return positive or dict(list(weights.items())[:1])


def _folds(X):
    """Return the (train, test) splits of the anchors that leave each of them out."""
    return list(KFold(min(5, len(X)), shuffle=True, random_state=0).split(X))


def _with_missing_classes(head, n_classes):
    """Return a linear classifier of all classes, of which some were not in its rows."""
    coef, intercept = head.coef_, head.intercept_
    if len(head.classes_) == n_classes:
        return head
    if len(coef) == 1:
        coef, intercept = np.vstack([-coef, coef]) / 2, np.r_[-intercept, intercept] / 2
    wide = copy.copy(head)
    wide.classes_ = np.arange(n_classes)
    wide.coef_ = np.zeros((n_classes, coef.shape[1]))
    wide.intercept_ = np.full(n_classes, -1e3)  # a probability of 0
    wide.coef_[head.classes_], wide.intercept_[head.classes_] = coef, intercept
    return wide


def _linear_classifier(coef, intercept):
    """Return a logistic regression of given decision values, one for each class."""
    head = LogisticRegression()
    head.classes_ = np.arange(len(coef))
    if len(coef) == 2:
        coef, intercept = np.diff(coef, axis=0), np.diff(intercept)
    head.coef_, head.intercept_ = coef, intercept
    head.n_features_in_, head.n_iter_ = coef.shape[1], np.zeros(1, dtype=np.int32)
    return head


# --- estimators ---------------------------------------------------------------------


class _InvariantVoting(BaseEstimator):
    """What the classifier and the regressor share.

    A subclass defines how it encodes targets (`_encode`, `_encode_anchors`,
    `_indicators`), a member's outputs and decision values (`_outputs`, `_values`), how
    outputs are pooled and weighted (`_pool`, `_set_weights`, `_fit_weights`,
    `_scale_weights`), the head where none is given (`_default_head`, `_check_head`),
    and the members that are fitted on the anchors (`_behind`, `_as_outputs`,
    `_few_shot`).
    """

    _doc_link_module = "skinvariant"
    _doc_link_template = (
        "https://skinvariant.readthedocs.io/en/stable/generated/"
        "skinvariant.{estimator_name}.html"
    )

    def __init__(
        self,
        estimator=None,
        *,
        n_anchors=300,
        metrics=METRICS,
        metric_params=None,
        anchors="random",
        pre=None,
        post="standardize",
        absolute=True,
        random_state=None,
        n_jobs=None,
    ):
        self.estimator = estimator
        self.n_anchors = n_anchors
        self.metrics = metrics
        self.metric_params = metric_params
        self.anchors = anchors
        self.pre = pre
        self.post = post
        self.absolute = absolute
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X, y, **fit_params):
        """Draw the anchors and fit one head for each member.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The old encoder's space.
        y : array-like of shape (n_samples,) or, for the regressor, (n_samples, \
                n_outputs)
            Labels or targets.
        **fit_params : dict
            `sample_weight` for the members; with metadata routing enabled, whatever
            `estimator` requests.

        Returns
        -------
        object
            The fitted estimator itself.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the input is not as documented.
        """
        # two rows, since an anchor's comparison with itself is left out
        rows = {"ensure_min_samples": 2, "y_numeric": self._y_numeric}
        X, y = self._validate(X, y=y, multi_output=True, **rows)
        given, y = self._encode(y)
        estimator = self._head()
        if self.estimator is not None and self.random_state is not None:
            seed = check_random_state(self.random_state).randint(2**31 - 1)
            estimator = seeded_clone(estimator, seed)
        fit_params = self._routed(estimator, fit_params)
        aggregator = self._make_aggregator()
        aggregator.anchors = given_anchors(self, X)
        compared = aggregator._fit(X, given)
        if len(aggregator.anchors_) < 2:
            raise ValueError(
                f"{type(self).__name__} must have 2 anchors or more; got 1"
            )
        relative = dict(self._by_metric(aggregator, aggregator.transform(X)))
        if reserved := set(relative).intersection(_MEMBERS):
            raise ValueError(
                f"the names of metrics must not be those of members, {_MEMBERS}; got "
                f"{sorted(reserved)}"
            )
        rows = list(relative.values())
        if self.absolute:
            scaler = StandardScaler().set_output(transform="default")
            scaler.fit(X, sample_weight=fit_params.get("sample_weight"))
            rows.append(scaler.transform(X))
        heads = Parallel(n_jobs=self.n_jobs)(
            delayed(clone(estimator).fit)(x, y, **fit_params) for x in rows
        )
        members = dict(zip(relative, heads, strict=False))
        if self.absolute:
            members["absolute"] = make_pipeline(scaler, heads[-1])
        weight = fit_params.get("sample_weight")
        weight = np.broadcast_to(1.0 if weight is None else weight, len(X))
        self._set_own(members, aggregator, aggregator.anchors_, np.sum(weight > 0))
        outputs = (self._outputs(head, x) for head, x in zip(heads, rows, strict=True))
        self._fit_weights(outputs, y, weight)
        left_out = aggregator._leave_one_out(compared)
        self._own_outputs = {
            name: self._outputs(members[name], columns)
            for name, columns in self._by_metric(aggregator, left_out)
        }
        if self.absolute:
            self._own_outputs["absolute"] = self._outputs(
                members["absolute"], aggregator.anchors_
            )
        self.left_out_ = self._pool(self._own_outputs, list(self.weights_.values()))
        return self

    def _set_own(self, members, aggregator, anchors, n_rows):
        """Store the members in the space of `fit`, and their weights."""
        self.aggregator_ = aggregator
        self.anchors_ = anchors
        self.named_estimators_ = Bunch(**members)
        n_relative = len(members) - ("absolute" in members)
        share = 1 - _ABSOLUTE_SHARE * ("absolute" in members) if n_relative else 0.0
        self.weights_ = dict.fromkeys(members, share / max(n_relative, 1))
        if "absolute" in members:
            self.weights_["absolute"] = 1 - share
        self._n_rows = n_rows
        self.agreement_ = dict.fromkeys(members, 1.0)
        self._used_aggregator = aggregator
        self._own = None

    def rebase(self, anchors, y=None, *, X=None):
        """Return this model for another space, of which it gets the parallel anchors.

        Whatever is trained is trained on the anchors, and `X` where it is given.

        Parameters
        ----------
        anchors : array-like of shape (n_anchors, n_features_new)
            The same samples as `anchors_`, in the same order, in the new space.  Any
            width.
        y : array-like of shape (n_anchors,) or (n_anchors, n_outputs), default=None
            Labels or targets of the anchors.  They replace the model's own predictions
            as evidence for the weights, and train a few-shot head, one more member.
        X : array-like of shape (n_samples, n_features_new), default=None
            Further rows of the new space, without labels and in any order; thousands
            where you have them.  They train one more member of the classifier, and
            should be a sample of the rows to come, with all classes in it.  The
            metric "geodesic" needs them; a regressor without it takes none.

        Returns
        -------
        object
            A new fitted estimator of the same class.  This one is not changed.

        Raises
        ------
        ValueError
            If the number of anchors or targets differs, there are fewer than 2
            anchors, a label is not one of `classes_`, or `X` has another width, fewer
            than 2 rows, or infinity or NaN.
        TypeError
            If `X` is given to a regressor none of whose metrics compares along rows.
        """
        check_is_fitted(self)
        # a copy, since the user may fit this one again
        own = copy.copy(self) if self._own is None else self._own
        new = copy.copy(own)
        rows = new._validate(anchors)
        n_anchors = len(own.anchors_)
        if len(rows) != n_anchors or n_anchors < 2:
            raise ValueError(
                f"{type(self).__name__}.rebase needs the same anchors in the new "
                f"space, 2 or more: {n_anchors} rows, in the same order; got "
                f"{len(rows)}"
            )
        given = None if y is None else own._encode_anchors(y)
        aggregator = own.aggregator_
        along = aggregator is not None and aggregator._needing_rows()
        if X is not None:
            if not (along or is_classifier(self)):
                raise TypeError(
                    "X must be None for a regressor, unless a metric compares along "
                    f"rows; got a {type(X).__name__}"
                )
            X = new._validate(X, reset=False, ensure_min_samples=2)
        members, outputs, references = {}, {}, {}
        if aggregator is not None:
            new.aggregator_, compared = aggregator._rebase(rows, X if along else None)
            left_out = new.aggregator_._leave_one_out(compared)
            for name, columns in own._by_metric(new.aggregator_, left_out):
                members[name] = own.named_estimators_[name]
                outputs[name] = own._outputs(members[name], columns)
                references[name] = own._own_outputs[name]
        if "absolute" in own.named_estimators_:
            for name, member, output in own._translated(rows):
                members[name], outputs[name] = member, output
                references[name] = own._own_outputs["absolute"]
        # what the members predicted together for the anchors at fit
        targets = own.left_out_
        if y is not None:
            if few_shot := own._few_shot(rows, given):
                members["few_shot"], outputs["few_shot"] = few_shot
                references["few_shot"] = targets
            targets = own._indicators(given)
        new.agreement_ = {
            name: decision_agreement(
                own._values(outputs[name]), own._values(references[name])
            )
            for name in members
        }
        prior = signal_to_noise(list(new.agreement_.values()))
        new.anchors_ = rows if aggregator is None else new.aggregator_.anchors_
        new.named_estimators_ = Bunch(**members)
        new._set_weights(outputs, targets, prior)
        new._scale_weights(outputs, own.left_out_, given)
        if X is not None and is_classifier(self):
            outputs["self_trained"] = new._self_trained(X, own, outputs, targets, given)
            new._scale_weights(outputs, own.left_out_, given)
        new.left_out_ = new._pool(outputs, list(new.weights_.values()))
        if aggregator is not None:
            new._used_aggregator = new.aggregator_._with_metrics(_in_use(new.weights_))
        new._own = own
        return new

    def _behind_translations(self, new, kept=slice(None)):
        """Return the absolute head behind translations from some of the new anchors.

        "kernel" maps to the few decision values of the absolute head, not to all axes
        of its space, so that width and penalty suit the directions that matter.
        """
        targets = self._values(self._own_outputs["absolute"])
        kernel, turned = (
            SpaceTranslator(method)
            .set_output(transform="default")
            .fit(new[kept], values[kept])
            for method, values in (("kernel", targets), ("orthogonal", self.anchors_))
        )
        turned = make_pipeline(turned, self.named_estimators_["absolute"])
        return {"kernel": self._behind(kernel), "orthogonal": turned}

    def _translated(self, new):
        """Yield the members behind translations, and their left-out outputs."""
        members = self._behind_translations(new)
        left_out = members["kernel"][0].left_out_.reshape(len(new), -1)
        yield "kernel", members["kernel"], self._as_outputs(left_out)
        turned, head = members["orthogonal"]
        turned, old = clone(turned), self.anchors_
        rows, left_out = zip(
            *(
                (test, turned.fit(new[train], old[train]).transform(new[test]))
                for train, test in _folds(new)
            ),
            strict=True,
        )
        left_out = np.concatenate(left_out)[np.argsort(np.concatenate(rows))]
        yield "orthogonal", members["orthogonal"], self._outputs(head, left_out)

    def forecast(self, own_score=None, *, confidence=0.95):
        """Forecast what this change of encoder costs, from the anchors alone.

        Of a model after `rebase`.  It compares `left_out_` in both spaces.  Where there
        are further rows, `skinvariant.forecast_swap` is the better choice: see Notes.

        Parameters
        ----------
        own_score : float or tuple, default=None
            The score in the space of `fit`, as `skinvariant.forecast_swap` takes it.
        confidence : float in [0.5, 1), default=0.95
            How probable it is that an interval holds the true value.

        Returns
        -------
        SwapForecast
            Of the anchors.

        Raises
        ------
        ValueError, TypeError
            If a parameter is not as documented, or the model is in the space of `fit`.

        Notes
        -----
        Anchors are rows that the heads were trained on, and so no sample of the rows to
        come.  On 56 pairs of real encoders their disagreement was off that of test rows
        by .10, .08 and .06 in the mean, with 30, 100 and 300 anchors, in either
        direction: by +.13 for questions (TREC), by -.06 for images that the encoders
        had been trained on.  No correction is made, since its sign is not known
        beforehand.  The estimated accuracy was off by .08, .05 and .03; that from the
        predictions for test rows by .01 to .02.
        """
        check_is_fitted(self)
        if self._own is None:
            raise ValueError(
                "forecast needs a model in another space than that of fit: call it on "
                "what stitch or rebase returns; got one that was not rebased"
            )
        return forecast_swap(
            self._own.left_out_,
            self.left_out_,
            own_score=own_score,
            classes=getattr(self, "classes_", None),
            confidence=confidence,
        )

    def to_torch(self):
        """Return the whole fitted vote, from rows to outputs, as one torch module.

        It needs ``pip install 'skinvariant[torch]'``.  Members of weight 0 are left
        out.

        Returns
        -------
        torch.nn.Module
            In evaluation mode.  It takes rows of the space that the anchors are from,
            and gives log-probabilities in the order of `classes_`, or targets, one
            column for each, in the dtype of the rows.  It computes in float64,
            whatever that dtype is: see Notes.

        Raises
        ------
        ImportError
            If torch is not installed.
        TypeError
            If a member of weight > 0 is not linear: a logistic regression or linear
            discriminant analysis, or a linear regression with any penalty, alone or
            behind StandardScalers in a Pipeline.  Or if a metric, `pre` or `post` has
            no torch counterpart.

        See Also
        --------
        skinvariant.nn.RelativeLayer : What compares rows with anchors inside.

        Notes
        -----
        In float64 the outputs differ from those of this model by rounding alone, by
        less than 1e-5 for float32 rows, most of which is this model's own rounding.
        A device without float64 takes ``module.float()``; probabilities then differ
        by up to about 1e-4, since the kernel regression behind a translation loses
        digits.
        """
        check_is_fitted(self)
        from skinvariant._export import voting_module

        return voting_module(self)

    def to_onnx(self):
        """Return the whole fitted vote, from rows to outputs, as an ONNX model.

        It needs ``pip install 'skinvariant[onnx]'``, and gives the outputs of this
        model in any ONNX runtime, without Python, scikit-learn or torch.  Members of
        weight 0 are left out.

        Returns
        -------
        onnx.ModelProto
            To be written by ``onnx.save``.  Its input "X" takes any number of rows of
            the space that the anchors are from, in float32 if `anchors_` are and else
            in float64.  The output, of the same dtype, is "probabilities", in the order
            of `classes_`, or "targets", one column for each.  ``metadata_props`` holds
            "classes" as JSON, and the "fingerprint" of the anchors.

        Raises
        ------
        ImportError
            If torch, onnx or onnxscript is not installed.
        TypeError
            If a member, a metric, `pre` or `post` has no counterpart, as in `to_torch`.

        See Also
        --------
        skinvariant.persistence.fingerprint : Which anchors a model has.

        Notes
        -----
        ONNX has no pairwise distances: the differences of all rows and anchors are held
        at once, and computed in float64, 8 bytes for each row, anchor and feature, a
        few times.  Serve in batches of some ten rows.
        """
        check_is_fitted(self)
        from skinvariant._export import onnx_model

        return onnx_model(self)

    @property
    def anchor_indices_(self):
        """Rows of the anchors in the fitted `X`."""
        check_is_fitted(self)
        if self.aggregator_ is None:
            raise AttributeError(
                "a model stitched by old_anchors= has no anchor_indices_, since its "
                "anchors were given as rows"
            )
        return self.aggregator_.anchor_indices_

    @property
    def n_samples_fit_(self):
        """Number of rows of the fitted `X`."""
        check_is_fitted(self)
        if self.aggregator_ is None:
            raise AttributeError(
                "a model stitched by old_anchors= has no n_samples_fit_"
            )
        return self.aggregator_.n_samples_fit_

    @property
    def invariances_(self):
        """Classes of transformations that leave every relative member unchanged."""
        check_is_fitted(self)
        return (
            frozenset() if self.aggregator_ is None else self.aggregator_.invariances_
        )

    def get_metadata_routing(self):
        """Return the routing of `fit`'s metadata to the members.

        Returns
        -------
        MetadataRouter
            What `estimator` requests.
        """
        mapping = MethodMapping().add(caller="fit", callee="fit")
        router = MetadataRouter(owner=self).add_self_request(self)  # of `score`
        return router.add(estimator=self._head(), method_mapping=mapping)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def __sklearn_is_fitted__(self):
        return hasattr(self, "weights_")

    def _sk_visual_block_(self):
        """Return what a diagram shows: the members, or before `fit` the head."""
        from sklearn.ensemble import VotingClassifier  # loading it takes time

        fitted = self.__sklearn_is_fitted__()
        parts = self.named_estimators_ if fitted else {"estimator": self._head()}
        return VotingClassifier(list(parts.items()))._sk_visual_block_()

    def _validate(self, X, **options):
        """Return validated rows, and targets where there are some, as arrays."""
        if issparse(options.get("y")):
            raise TypeError("y must be dense; got a sparse matrix: use y.toarray()")
        checked = validate_data(self, in_memory(X), dtype="numeric", **options)
        for array in checked if isinstance(checked, tuple) else (checked,):
            if namespace(array) is not np:
                raise TypeError(
                    f"{type(self).__name__} needs NumPy input; got "
                    f"{type(array).__module__}.{type(array).__name__}"
                )
        return checked

    def _head(self):
        """Return the unfitted head."""
        if self.estimator is not None:
            head = clone(self.estimator)
            self._check_head(head)
            return head
        head = self._default_head()
        if get_config()["enable_metadata_routing"]:
            head.set_fit_request(sample_weight=True)
        return head

    def _routed(self, estimator, fit_params):
        """Return what the members' `fit` takes besides rows and targets."""
        if get_config()["enable_metadata_routing"]:
            return process_routing(self, "fit", **fit_params).estimator.fit
        if unknown := set(fit_params) - {"sample_weight"}:
            raise TypeError(
                "fit takes sample_weight (other metadata need scikit-learn's metadata "
                f"routing enabled); got {sorted(unknown)}"
            )
        if fit_params.get("sample_weight") is None:
            return {}
        if not has_fit_parameter(estimator, "sample_weight"):
            raise TypeError(
                "sample_weight must be None, since the fit of the estimator takes "
                f"none (a Pipeline needs metadata routing enabled); got {estimator!r}"
            )
        return fit_params

    def _make_aggregator(self):
        aggregator = InvariantAggregator(
            self.n_anchors,
            metrics=self.metrics,
            metric_params=self.metric_params,
            anchors=self.anchors,
            pre=self.pre,
            post=self.post,
            random_state=self.random_state,
            n_jobs=self.n_jobs,
        ).set_output(transform="default")
        if self.metric_params is None:
            used = [metric for metric, _ in aggregator._metrics_and_params()]
            aggregator.metric_params = {
                k: v for k, v in _METRIC_PARAMS.items() if _REGISTRY[k] in used
            }
        return aggregator

    @staticmethod
    def _by_metric(aggregator, relative):
        """Yield each metric's name and its columns of a concatenated relative space."""
        ends = np.cumsum(aggregator._widths)[:-1]
        columns = np.split(relative, ends, axis=1)
        for (metric, _), own in zip(aggregator._metrics, columns, strict=True):
            yield metric.name, own

    def _members_outputs(self, X):
        """Return the outputs and the weights of all members that have a weight."""
        check_is_fitted(self)
        X, weights = self._validate(X, reset=False), _in_use(self.weights_)
        aggregator, n_anchors = self._used_aggregator, len(self.anchors_)
        # of all rows at once, relative spaces would need many times the memory of X
        width = X.shape[1] + (len(weights) + 1) * n_anchors
        n_rows = max(1, int(get_config()["working_memory"] * 2**20 / (16 * width)))
        parts = {name: [] for name in weights}
        for rows in gen_batches(len(X), n_rows):
            relative = {}
            if aggregator is not None:
                columns = aggregator.transform(X[rows])
                relative = dict(self._by_metric(aggregator, columns))
            for name, outputs in parts.items():
                columns = relative.get(name, X[rows])
                outputs.append(self._outputs(self.named_estimators_[name], columns))
        outputs = {name: np.concatenate(part) for name, part in parts.items()}
        return outputs, list(weights.values())


class InvariantVotingClassifier(ClassifierMixin, _InvariantVoting):
    r"""A vote of one head for each metric and one on the space itself.

    This is the recommended model.  Train it on one encoder's embeddings; when the
    encoder is replaced, `stitch` (or `rebase`) needs only the anchors.  From these it
    estimates which metrics survive the change, and how well a translation does.

    Parameters
    ----------
    estimator : classifier with `predict_proba`, default=None
        The head, of which each member is a clone.  None: a logistic regression with
        ``C=0.1``.  On held-back rows of text, image and graph encoders, weaker
        penalties lost up to .03 after a change of encoder, and stronger ones up to .1
        in the encoder's own space with few anchors.
    n_anchors : int, default=300
        How many anchors to choose among the fitted rows.  Where there are fewer rows,
        all of them, with a warning.
    metrics : sequence of str, Metric or callable
        One member for each, as `InvariantAggregator` takes them; by default "cosine",
        "euclidean", "manhattan", "chebyshev" and "change_of_basis".
    metric_params : dict of str to dict, default=None
        Further parameters by the metric's name.  None:
        ``{"change_of_basis": {"alpha": 0.1}}`` where that metric is used.
    anchors : str, array-like of int, rows or callable, default="random"
        How to choose anchors, as in `RelativeProjector`: "random", "stratified",
        "kmeans", "farthest", "all", indices, a function; or the anchors themselves, an
        array-like of shape (n_anchors, n_features).
    pre : {"center", "standardize", "whiten"}, transformer or None, default=None
        Applied to rows and anchors before every metric.
    post : {"layer", "l2", "standardize"}, transformer or None, default="standardize"
        Applied to the relative vectors of each metric.
    absolute : bool, default=True
        Whether a head on the standardised space itself is a member, too.  Without it
        there are no members behind translations after `rebase`.
    random_state : int, RandomState instance or None, default=None
        Seed of the choice of anchors, and of every `random_state` in `estimator` that
        is None.
    n_jobs : int, default=None
        Jobs that fit the members, and threads of `InvariantAggregator`.  None is 1.

    Attributes
    ----------
    anchors_ : ndarray of shape (n_anchors, n_features)
        The anchors in the present space.
    anchor_indices_ : ndarray of shape (n_anchors,), dtype int
        Their rows in the fitted `X`.
    n_samples_fit_ : int
        Number of rows of the fitted `X`.
    weights_ : dict of str to float
        The weight of each member, >= 0.  After `rebase` they need not sum to 1.
    agreement_ : dict of str to float
        How well the decision values of each member for the anchors correlate with those
        in the space of `fit`, in [0, 1]; 1 before `rebase`.
    named_estimators_ : Bunch
        The fitted members.  Those named after a metric take that metric's columns of
        `aggregator_`, all others rows of the present space.
    left_out_ : ndarray of shape (n_anchors, n_classes)
        Probabilities of the classes for each anchor, by members to which it was no
        evidence: see Notes.
    aggregator_ : InvariantAggregator
        The relative spaces of all metrics.
    classes_ : ndarray of shape (n_classes,)
        The labels.
    invariances_ : frozenset of str
        Classes of transformations that leave every relative member unchanged.
    n_features_in_ : int
        Width of the present space.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Its column names, where it had some.

    See Also
    --------
    InvariantVotingRegressor : The same for numbers.
    skinvariant.stitch : Swap the encoder under a fitted model.
    skinvariant.heads.InvariantClassifier : A neural head that learns the aggregation.

    Notes
    -----
    The members form a logarithmic opinion pool with weights :math:`w_m`,

    .. math:: p(c) \propto \prod_m p_m(c)^{w_m}.

    In the space of `fit`, with M metrics, the weights are fixed:

    ============  ====================================================  =========
    member        what it is                                            weight
    ============  ====================================================  =========
    metric names  a head on each relative space                         1 / (3 M)
    "absolute"    a head on the standardised space                      2 / 3
    ============  ====================================================  =========

    After `rebase` the members are

    ==============  ==================================================================
    metric names    the fitted heads on the rebased relative spaces
    "kernel"        a kernel ridge regression from the new anchors to the absolute
                    head's decision values for the old ones
    "orthogonal"    the absolute head behind an orthogonal map (Procrustes)
    "few_shot"      with `y`: a logistic regression trained on the new anchors
    "self_trained"  with `X`: a linear discriminant analysis of rows without labels
    ==============  ==================================================================

    and `skinvariant.pooling.log_pool_weights` with ``alpha=50`` computes their weights
    from what each predicts for the anchors.  The targets are what this model predicts
    for the old anchors, or `y`.  The prior weights are signal-to-noise ratios of the
    correlations :math:`c_m` in `agreement_`, scaled to sum 1:

    .. math:: w_m \propto c_m^2 / (1 - c_m^2 + 0.01).

    These weights are then multiplied by one inverse temperature [3]_, which changes
    probabilities and not which class is the most probable one.
    `log_pool_weights` computes it with ``prior=[1]`` and ``alpha=10`` from what the
    whole pool predicts for the anchors; it is 0.1 or more.  Its targets are a mean of
    this model's probabilities of the old anchors and of the anchors' labels, those of
    `fit` or `y`.  The share of the labels is

    .. math:: \frac{n}{n + 1} \cdot \frac{1}{\max(t, 1)},

    where n counts the anchors whose most probable class changes, and
    :math:`p^t` with its sum scaled to 1 fits the labels best for this model's
    probabilities p.  A large t shows that the labels of these training rows are
    memorised, by the heads or the encoder, and so are no evidence for other rows.
    Labels of rows whose `sample_weight` is 0 do not count.

    For "self_trained" [4]_ the weighted pool of the other members predicts the classes
    of the rows of `X`, and a linear discriminant analysis, whose covariance is shrunk
    by 30%, is fitted to these rows with the predicted probabilities as labels.  Each
    anchor is added with its target and counts for 10 rows.  The prior probabilities of
    the classes are their shares in `fit`.  Then the pool and this member are pooled by
    `log_pool_weights` with ``alpha=50``, and scaled as above.  Their prior weights are
    signal-to-noise ratios, that of the member times :math:`n / (n + d)` for n rows of d
    features, in sum 1.  To leave an anchor out, the translations and "few_shot" are
    fitted without it, and comparisons with it replaced by their mean, before the pool
    labels `X`.

    No anchor is evidence for itself.  On a relative space its self-comparison is
    replaced by the mean of its other comparisons; what is fitted on the anchors
    predicts each of them from a fit without it.  With 10 anchors or fewer the weights
    stay close to the prior.  Members of weight 0 are not computed in `predict`.

    Each member's probabilities are smoothed as shares of the rows that it was fitted on
    (`skinvariant.pooling.smoothed_log`), so that none can veto a class.  Classes that
    the anchors lack have probability 0 by "few_shot" alone; this member is left out
    where all anchors are of one class.  Without the absolute head, a transformation of
    `invariances_` changes no prediction.  Nothing in `rebase` is random.

    References
    ----------
    .. [1] I. Cannistraci et al., "From Bricks to Bridges: Product of Invariances to
       Enhance Latent Space Communication", ICLR 2024, arXiv 2310.01211.
    .. [2] V. Maiorca et al., "Latent space translation via semantic alignment",
       NeurIPS 2023, arXiv 2311.00664.
    .. [3] C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017,
       arXiv 1706.04599.
    .. [4] G. J. McLachlan, "Iterative reclassification procedure for constructing an
       asymptotically optimal rule of allocation in discriminant analysis", Journal of
       the American Statistical Association 70, 1975.

    Examples
    --------
    Two encoders of digits that differ by their seed:

    >>> from sklearn.datasets import load_digits
    >>> from sklearn.kernel_approximation import Nystroem
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn.pipeline import make_pipeline
    >>> from skinvariant import InvariantVotingClassifier, select_anchors, stitch
    >>> X, X_test, y, y_test = train_test_split(
    ...     *load_digits(return_X_y=True), random_state=0
    ... )
    >>> old = Nystroem(gamma=1e-3, n_components=200, random_state=0).fit(X)
    >>> new = Nystroem(gamma=1e-3, n_components=200, random_state=1).fit(X)
    >>> model = make_pipeline(old, InvariantVotingClassifier(random_state=0)).fit(X, y)
    >>> round(model.score(X_test, y_test), 2)
    0.99
    >>> stitched = stitch(model, select_anchors(model, X), encoder=new)
    >>> round(stitched.score(X_test, y_test), 2)
    0.98
    >>> max(stitched[-1].weights_, key=stitched[-1].weights_.get)
    'kernel'

    With 30 anchors, and with the same 30 and further rows of the new encoder:

    >>> few = InvariantVotingClassifier(n_anchors=30, random_state=0)
    >>> few = few.fit(old.transform(X), y)
    >>> X_new, X_new_test = new.transform(X), new.transform(X_test)
    >>> anchors = X_new[few.anchor_indices_]
    >>> round(few.rebase(anchors).score(X_new_test, y_test), 2)
    0.92
    >>> round(few.rebase(anchors, X=X_new).score(X_new_test, y_test), 2)
    0.96
    """

    _y_numeric = False

    def _encode(self, y):
        """Return labels, and as numbers of the classes, which are stored."""
        if y.ndim == 2 and y.shape[1] > 1:
            raise TypeError(
                "y must hold one label per row; got several, "
                f"{type_of_target(y)} of shape {y.shape}: fit one model for each column"
            )
        y = check_labels(column_or_1d(y, warn=True))
        encoder = LabelEncoder().fit(y)
        self._set_classes(encoder.classes_)
        return y, encoder.transform(y)

    def _set_classes(self, classes):
        if len(classes) < 2:
            raise ValueError(
                f"y must have 2 classes or more; got 1 class, {classes.tolist()}"
            )
        self.classes_ = classes

    def _encode_anchors(self, y):
        y = column_or_1d(y, warn=True)
        if len(y) != len(self.anchors_):
            raise ValueError(
                f"y must be one label for each of the {len(self.anchors_)} anchors; "
                f"got {len(y)}"
            )
        codes = {label: code for code, label in enumerate(self.classes_.tolist())}
        if unknown := set(y.tolist()).difference(codes):
            raise ValueError(
                f"y must hold the model's classes {self.classes_.tolist()}; got "
                f"{sorted(unknown, key=str)}"
            )
        return np.array([codes[label] for label in y.tolist()])

    def _indicators(self, codes):
        return (codes[:, np.newaxis] == np.arange(len(self.classes_))).astype(float)

    @staticmethod
    def _default_head():
        return LogisticRegression(C=0.1, max_iter=1000)

    @staticmethod
    def _check_head(head):
        if not hasattr(head, "predict_proba"):
            raise TypeError(
                "a classifier with predict_proba is needed, such as "
                "CalibratedClassifierCV(estimator) of one without (of a fitted one, "
                f"CalibratedClassifierCV(FrozenEstimator(estimator))); got {head!r}"
            )

    @staticmethod
    def _outputs(estimator, X):
        return np.asarray(estimator.predict_proba(X), dtype=np.float64)

    @staticmethod
    def _values(outputs):
        return log_odds(outputs)

    def _behind(self, kernel):
        n_classes = len(self.classes_)
        head = _linear_classifier(np.eye(n_classes), np.zeros(n_classes))
        return make_pipeline(kernel, head)

    @staticmethod
    def _as_outputs(values):
        return softmax(values, axis=1)

    def _few_shot_head(self, X, codes):
        """Return a head of all classes; of labels of one class, of equal ones."""
        n_classes = len(self.classes_)
        if len(np.unique(codes)) < 2:
            return _linear_classifier(
                np.zeros((n_classes, X.shape[1])), np.zeros(n_classes)
            )
        scaler = StandardScaler().set_output(transform="default")
        head = LogisticRegression(C=0.1, max_iter=1000)
        model = make_pipeline(scaler, head).fit(X, codes)
        return make_pipeline(model[0], _with_missing_classes(model[1], n_classes))

    def _few_shot(self, X, codes):
        """Return a head fitted on the anchors, and its outputs for those left out."""
        if len(np.unique(codes)) < 2:
            return None
        outputs = np.empty((len(X), len(self.classes_)))
        for train, test in _folds(X):
            head = self._few_shot_head(X[train], codes[train])
            outputs[test] = self._outputs(head, X[test])
        return self._few_shot_head(X, codes), outputs

    def _self_trained(self, X, own, outputs, targets, codes):
        """Add a member trained on rows without labels, and return its left-out outputs.

        The pool of the other members labels these rows by its probabilities; `targets`
        are the labels of the anchors.
        """
        anchors = self.anchors_
        folds = [*_folds(anchors), (slice(None), [])]  # at last the pool of all anchors
        teachers = [own._fitted_on(anchors, kept, codes) for kept, _ in folds[:-1]]
        teachers.append({})
        scaler = StandardScaler().set_output(transform="default")
        batches = list(gen_batches(len(X), _BATCH_ROWS))
        for batch in batches:
            scaler.partial_fit(X[batch])
        scatter = np.zeros((X.shape[1], X.shape[1]))
        sizes = np.zeros((len(folds), len(self.classes_)))
        sums = np.zeros((*sizes.shape, X.shape[1]))
        means = self._relative(anchors)
        means = {name: columns.mean(axis=0) for name, columns in means.items()}
        for batch in batches:
            rows = scaler.transform(X[batch].astype(np.float64))
            scatter += rows.T @ rows
            relative = self._relative(X[batch])
            for k, teacher in enumerate(teachers):
                out = folds[k][1]
                proba = self._pool_without(X[batch], relative, teacher, out, means)
                sums[k] += proba.T @ rows
                sizes[k] += proba.sum(axis=0)

        left_out = np.empty_like(targets)
        anchors = scaler.transform(anchors.astype(np.float64))
        for k, (train, test) in enumerate(folds):
            rows, proba = anchors[train], _ANCHOR_ROWS * targets[train]
            head = _linear_classifier(
                *_linear_discriminant(
                    scatter + _ANCHOR_ROWS * rows.T @ rows,
                    sums[k] + proba.T @ rows,
                    sizes[k] + proba.sum(axis=0),
                    own._class_shares,
                )
            )
            if len(test):
                left_out[test] = self._outputs(head, anchors[test])
        self.named_estimators_["self_trained"] = make_pipeline(scaler, head)

        pooled = self._log_pool(outputs, self.weights_.values())
        agreements = [
            decision_agreement(log_odds(proba), log_odds(own.left_out_))
            for proba in (left_out, np.exp(pooled))
        ]
        # a covariance of few rows is poor, and few anchors do not show it
        enough = len(X) / (len(X) + X.shape[1])
        prior = signal_to_noise(agreements) * [enough, 1]
        logs = [smoothed_log(left_out, len(X)), pooled]
        share, rest = log_pool_weights(
            logs, targets, prior=prior / prior.sum(), alpha=_ALPHA
        ).tolist()
        self.weights_ = {name: rest * weight for name, weight in self.weights_.items()}
        self.weights_["self_trained"] = share
        self.agreement_["self_trained"] = agreements[0]
        return left_out

    def _relative(self, X):
        """Return the relative space of each metric."""
        if self.aggregator_ is None:
            return {}
        columns = self.aggregator_.transform(X)
        return dict(self._by_metric(self.aggregator_, columns))

    def _fitted_on(self, anchors, kept, codes):
        """Return the members that are fitted on the new anchors, fitted on some."""
        members = {}
        if "absolute" in self.named_estimators_:
            members = self._behind_translations(anchors, kept)
        if codes is not None:
            members["few_shot"] = self._few_shot_head(anchors[kept], codes[kept])
        return members

    def _pool_without(self, X, relative, refitted, anchors, means):
        """Return the pool's probabilities of rows, without what some anchors add.

        Members that are fitted on anchors are given without these, as `refitted`; the
        comparisons with them are replaced by the `means` of their columns.
        """
        weights, outputs = _in_use(self.weights_), {}
        members = self.named_estimators_ | refitted
        for name in weights:
            columns = relative.get(name, X)
            if name in relative and columns.shape[1] == len(self.anchors_):
                columns = columns.copy()
                columns[:, anchors] = means[name][anchors]
            outputs[name] = self._outputs(members[name], columns)
        return self._pool(outputs, weights.values())

    def _fit_weights(self, outputs, y, sample_weight):
        """Keep the weights: probabilities of fitted rows are too high to learn them.

        What `rebase` needs is stored: how frequent each class is, and the labels of
        the anchors, -1 where there is none.
        """
        sizes = np.bincount(y, sample_weight, minlength=len(self.classes_))
        self._class_shares = (sizes + 1) / np.sum(sizes + 1)
        codes = np.where(sample_weight > 0, y, -1)
        rows = getattr(self, "anchor_indices_", None)
        self._anchor_codes = (
            np.full(len(self.anchors_), -1) if rows is None else codes[rows]
        )

    def _smoothing_rows(self, name):
        """Return how many rows a member's head was fitted on."""
        if name == "self_trained":
            return int(self.named_estimators_[name][0].n_samples_seen_)
        return len(self.anchors_) if name == "few_shot" else self._n_rows

    def _smoothed(self, outputs):
        return [
            smoothed_log(output, self._smoothing_rows(name))
            for name, output in outputs.items()
        ]

    def _log_pool(self, outputs, weights):
        logs = zip(weights, self._smoothed(outputs), strict=True)
        return log_softmax(sum(weight * log for weight, log in logs), axis=1)

    def _pool(self, outputs, weights):
        return np.exp(self._log_pool(outputs, weights))

    def _set_weights(self, outputs, targets, prior):
        weights = log_pool_weights(
            self._smoothed(outputs), targets, prior=prior, alpha=_ALPHA
        )
        self.weights_ = dict(zip(outputs, weights.tolist(), strict=True))

    def _scale_weights(self, outputs, own, codes):
        """Multiply the weights by an inverse temperature: see Notes of the class.

        `own` are probabilities of the anchors in the space of `fit`, `codes` their
        labels, or None for those of `fit`.
        """
        labels = self._indicators(self._anchor_codes if codes is None else codes)
        pooled = self._log_pool(outputs, self.weights_.values())
        memorised = log_pool_weights([np.log(own)], labels, prior=[1.0], alpha=0.0)[0]
        n_changed = np.sum(pooled.argmax(axis=1) != own.argmax(axis=1))
        share = n_changed / (n_changed + 1) / max(memorised, 1.0)
        share = share * labels.sum(axis=1, keepdims=True)  # 0 without a label
        targets = share * labels + (1 - share) * own
        scale = log_pool_weights([pooled], targets, prior=[1.0], alpha=_SCALE_ALPHA)[0]
        scale = max(float(scale), _LEAST_SCALE)
        self.weights_ = {name: scale * w for name, w in self.weights_.items()}

    def predict_log_proba(self, X):
        """Return the logarithms of the pooled probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the space that the anchors are from.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Log-probabilities in the order of `classes_`.
        """
        return self._log_pool(*self._members_outputs(X))

    def predict_proba(self, X):
        """Return the pooled probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the space that the anchors are from.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities in the order of `classes_`.
        """
        return np.exp(self.predict_log_proba(X))

    def predict(self, X):
        """Return the most probable class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the space that the anchors are from.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels of `classes_`.
        """
        logs = self.predict_log_proba(X)  # first: it checks that the model is fitted
        return self.classes_[logs.argmax(axis=1)]


class InvariantVotingRegressor(RegressorMixin, _InvariantVoting):
    r"""A vote of one regressor for each metric and one on the space itself.

    This is the recommended model for numbers: see `InvariantVotingClassifier`.

    Parameters
    ----------
    estimator : regressor, default=None
        The head, of which each member is a clone.  None: a ridge regression that
        chooses its penalty by generalised cross-validation.
    n_anchors : int, default=300
        How many anchors to choose among the fitted rows.  Where there are fewer rows,
        all of them, with a warning.
    metrics : sequence of str, Metric or callable
        One member for each, as `InvariantAggregator` takes them; by default "cosine",
        "euclidean", "manhattan", "chebyshev" and "change_of_basis".
    metric_params : dict of str to dict, default=None
        Further parameters by the metric's name.  None:
        ``{"change_of_basis": {"alpha": 0.1}}`` where that metric is used.
    anchors : str, array-like of int, rows or callable, default="random"
        How to choose anchors, as in `RelativeProjector`: "random", "stratified",
        "kmeans", "farthest", "all", indices, a function; or the anchors themselves, an
        array-like of shape (n_anchors, n_features).
    pre : {"center", "standardize", "whiten"}, transformer or None, default=None
        Applied to rows and anchors before every metric.
    post : {"layer", "l2", "standardize"}, transformer or None, default="standardize"
        Applied to the relative vectors of each metric.
    absolute : bool, default=True
        Whether a head on the standardised space itself is a member, too.  Without it
        there are no members behind translations after `rebase`.
    random_state : int, RandomState instance or None, default=None
        Seed of the choice of anchors, and of every `random_state` in `estimator` that
        is None.
    n_jobs : int, default=None
        Jobs that fit the members, and threads of `InvariantAggregator`.  None is 1.

    Attributes
    ----------
    anchors_ : ndarray of shape (n_anchors, n_features)
        The anchors in the present space.
    anchor_indices_ : ndarray of shape (n_anchors,), dtype int
        Their rows in the fitted `X`.
    n_samples_fit_ : int
        Number of rows of the fitted `X`.
    weights_ : dict of str to float
        The weight of each member, >= 0.  After `rebase` they need not sum to 1.
    agreement_ : dict of str to float
        How well the decision values of each member for the anchors correlate with those
        in the space of `fit`, in [0, 1]; 1 before `rebase`.
    named_estimators_ : Bunch
        The fitted members.  Those named after a metric take that metric's columns of
        `aggregator_`, all others rows of the present space.
    left_out_ : ndarray of shape (n_anchors, n_outputs)
        Predictions for each anchor, by members to which it was no evidence.
    aggregator_ : InvariantAggregator
        The relative spaces of all metrics.
    intercept_ : ndarray of shape (n_outputs,)
        Added to the weighted sum of the members' predictions.
    invariances_ : frozenset of str
        Classes of transformations that leave every relative member unchanged.
    n_features_in_ : int
        Width of the present space.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Its column names, where it had some.

    See Also
    --------
    InvariantVotingClassifier : The same for labels, with all details.

    Notes
    -----
    The members form a linear pool of their predictions :math:`f_m`, with weights
    :math:`w_m` and an intercept,

    .. math:: f(x) = b + \sum_m w_m f_m(x).

    `skinvariant.pooling.linear_pool_weights` with ``alpha=50`` computes the weights in
    both spaces.  In the space of `fit` it does so from the fitted rows, where the fixed
    weights of `InvariantVotingClassifier` are the prior.  After `rebase` it uses the
    anchors; members and prior weights are then those of `InvariantVotingClassifier`,
    with predictions as decision values.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skinvariant import InvariantVotingRegressor
    >>> X, y = load_digits(return_X_y=True)
    >>> ink = X[:, ::2].sum(axis=1)
    >>> model = InvariantVotingRegressor(random_state=0).fit(X[:1200], ink[:1200])
    >>> X_new = X[:, ::-1] ** 0.5
    >>> stitched = model.rebase(X_new[model.anchor_indices_])
    >>> round(stitched.score(X_new[1200:], ink[1200:]), 2)
    0.9
    """

    _y_numeric = True

    def _encode(self, y):
        """Return targets, and as the heads take them: one column is one dimension."""
        self._n_outputs = None if y.ndim == 1 else y.shape[1]
        self.intercept_ = np.zeros(self._n_outputs or 1)
        return y, y.ravel() if self._n_outputs == 1 else y

    def _encode_anchors(self, y):
        y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        shape = (len(self.anchors_), *([self._n_outputs] if self._n_outputs else []))
        if y.shape != shape:
            raise ValueError(f"y must be of shape {shape}; got {y.shape}")
        return y.ravel() if self._n_outputs == 1 else y

    @staticmethod
    def _indicators(y):
        return y.reshape(len(y), -1)

    @staticmethod
    def _default_head():
        return RidgeCV(np.logspace(0, 5, 11))

    @staticmethod
    def _check_head(head):
        if is_classifier(head) or not hasattr(head, "predict"):
            raise TypeError(f"estimator must be a regressor; got {head!r}")

    @staticmethod
    def _outputs(estimator, X):
        return np.asarray(estimator.predict(X), dtype=np.float64).reshape(len(X), -1)

    @staticmethod
    def _values(outputs):
        return outputs

    def _behind(self, kernel):
        # a linear regression that predicts its inputs, the translated predictions
        n_outputs, head = self._own_outputs["absolute"].shape[1], LinearRegression()
        head.coef_, head.intercept_ = np.eye(n_outputs), np.zeros(n_outputs)
        head.n_features_in_ = n_outputs
        return make_pipeline(kernel, head)

    @staticmethod
    def _as_outputs(values):
        return values

    def _few_shot(self, X, y):
        """Return a head fitted on the anchors, and its outputs for those left out."""
        if len(X) < 3:  # with one of two left out, no penalty can be chosen
            return None
        scaler = StandardScaler().set_output(transform="default")
        model = make_pipeline(scaler, RidgeCV(np.logspace(-2, 4, 13)))
        left_out = cross_val_predict(model, X, y, cv=_folds(X))
        return model.fit(X, y), left_out.reshape(len(X), -1)

    def _fit_weights(self, outputs, y, sample_weight):
        """Compute the weights from the fitted rows that have a weight."""
        kept, prior = sample_weight > 0, list(self.weights_.values())
        outputs = (output[kept] for output in outputs)
        outputs = dict(zip(self.weights_, outputs, strict=True))
        targets = self._indicators(y[kept])
        self._set_weights(outputs, targets, prior, sample_weight[kept])

    def _scale_weights(self, outputs, own, y):
        """Keep the weights: a scale would change the predictions."""

    def _pool(self, outputs, weights):
        return self.intercept_ + sum(
            w * output for output, w in zip(outputs.values(), weights, strict=True)
        )

    def _set_weights(self, outputs, targets, prior, sample_weight=None):
        # a constant error of a member, or of all of them, does not count
        center, *centers = (
            np.average(x, axis=0, weights=sample_weight)
            for x in (targets, *outputs.values())
        )
        scale = 1.0
        if sample_weight is not None:
            scale = np.sqrt(sample_weight / np.mean(sample_weight))[:, np.newaxis]
        weights = linear_pool_weights(
            [scale * (x - c) for x, c in zip(outputs.values(), centers, strict=True)],
            scale * (targets - center),
            prior=prior,
            alpha=_ALPHA,
        )
        self.weights_ = dict(zip(outputs, weights.tolist(), strict=True))
        self.intercept_ = center - sum(
            weight * c for weight, c in zip(weights, centers, strict=True)
        )

    def predict(self, X):
        """Return the pooled predictions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the space that the anchors are from.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predictions.
        """
        outputs, weights = self._members_outputs(X)
        pooled = self._pool(outputs, weights)
        return pooled.ravel() if self._n_outputs is None else pooled

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def pool_translations(model, anchors, old_anchors, y=None, *, X=None):
    """Pool a fitted model of one space behind translations from another.

    `skinvariant.stitch` does this with `old_anchors`.

    Parameters
    ----------
    model : fitted classifier with `predict_proba`, or regressor
        It takes rows of the old space.
    anchors, old_anchors : array-like of shape (n_anchors, n_features)
        The same samples in the new and in the old space.
    y : array-like of shape (n_anchors,) or (n_anchors, n_outputs), default=None
        Labels or targets of the anchors.
    X : array-like of shape (n_samples, n_features_new), default=None
        Of a classifier: further rows of the new space, without labels.

    Returns
    -------
    InvariantVotingClassifier or InvariantVotingRegressor
        Fitted, on rows of the new space, without members on relative spaces.
    """
    if not (is_classifier(model) or is_regressor(model)):
        raise TypeError(
            "model must be a fitted classifier or regressor of the old space; got "
            f"{model!r}"
        )
    rows, predicted = check_array(old_anchors), np.asarray(model.predict(old_anchors))
    if is_classifier(model):
        if predicted.ndim > 1:
            raise TypeError(
                "model must predict one label per row: stitch one model for each "
                f"column; got labels of shape {predicted.shape} by {model!r}"
            )
        pool = InvariantVotingClassifier(model, n_anchors=len(rows), metrics=())
        pool._check_head(model)
        pool._set_classes(model.classes_)
        pool._anchor_codes = np.full(len(rows), -1)
    else:
        pool = InvariantVotingRegressor(model, n_anchors=len(rows), metrics=())
    pool._n_outputs = None if predicted.ndim == 1 else predicted.shape[1]
    pool.intercept_ = 0.0
    member, library = model, type(old_anchors).__module__.partition(".")[0]
    if library in ("pandas", "polars"):
        # no callable of this package, so that files of persistence load the step
        step = FunctionTransformer(feature_names_out="one-to-one").fit(old_anchors)
        if hasattr(step, "feature_names_in_"):
            member = make_pipeline(step.set_output(transform=library), model)
    pool._own_outputs = {"absolute": pool._outputs(member, old_anchors)}
    pool._set_own({"absolute": member}, None, rows, len(rows))
    pool.left_out_ = pool._pool(pool._own_outputs, [1.0])
    pool._class_shares = pool.left_out_.mean(axis=0)  # of `fit` they are not known
    return pool.rebase(anchors, y, X=X)
