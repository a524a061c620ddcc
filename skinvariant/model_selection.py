"""Search by the stitched score: heads trained on one space, scored on others."""

from collections.abc import Mapping
from copy import deepcopy
from numbers import Integral

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.metrics import check_scoring
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from skinvariant._dask import in_memory
from skinvariant._validation import check_choice
from skinvariant.anchors import select_anchors
from skinvariant.stitching import stitch

__all__ = ["AcrossEncoders", "stitched_scores"]

_AGGREGATES = {"mean": "stitched", "worst": "worst"}


def stitched_scores(model, X, y=None, *, sample_weight=None):
    """Score a fitted `AcrossEncoders` under its own and under other encoders.

    It is a scorer of several metrics for scikit-learn's searches and `cross_validate`:
    ``GridSearchCV(AcrossEncoders(...), grid, scoring=stitched_scores,
    refit="stitched")``.

    Parameters
    ----------
    model : AcrossEncoders or fitted search over one
        The models to score, by the metric that their parameter `scoring` names.
    X : {array-like, sparse matrix, data frame} of shape (n_samples, n_features)
        Rows in all spaces, side by side.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        Labels or targets.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows, for a metric that takes them.

    Returns
    -------
    dict of str to float
        "own": the score under the head's own encoder; "stitched" and "worst": the mean
        and the lowest score under another one; and the score of each pair, such as
        "old to new".  With ``own=None``, all of these over every head.

    Raises
    ------
    TypeError
        If `model` is neither.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import RidgeClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from skinvariant import RelativeProjector
    >>> from skinvariant.datasets import make_related_spaces
    >>> from skinvariant.model_selection import AcrossEncoders, stitched_scores
    >>> pair = make_related_spaces(300, transformation="affine", random_state=0)
    >>> X, y = np.hstack([pair.X_a, pair.X_b]), pair.y
    >>> model = make_pipeline(RelativeProjector(30, random_state=0), RidgeClassifier())
    >>> across = AcrossEncoders(
    ...     model, {"old": slice(0, 8), "new": slice(8, 16)}, own="old")
    >>> scores = stitched_scores(across.fit(X[:200], y[:200]), X[200:], y[200:])
    >>> {name: round(score, 1) for name, score in scores.items()}
    {'own': 1.0, 'stitched': 0.7, 'worst': 0.7, 'old to new': 0.7}
    """
    fitted = getattr(model, "best_estimator_", model)
    if not isinstance(fitted, AcrossEncoders):
        raise TypeError(
            "model must be AcrossEncoders, or a fitted search over it; got "
            f"{type(model).__name__}"
        )
    check_is_fitted(fitted)
    X, weights = fitted._validate(X, reset=False), {}
    if sample_weight is not None:
        weights["sample_weight"] = sample_weight
    scorer = check_scoring(fitted.estimator, scoring=fitted.scoring)

    def score(model, name):
        rows = fitted.columns_[name].transform(X)
        return float(scorer(model, rows, y, **weights))

    own = [score(model, name) for name, model in fitted.estimators_.items()]
    stitched = {
        f"{a} to {b}": score(model, b) for (a, b), model in fitted.stitched_.items()
    }
    found = list(stitched.values())
    means = {"own": np.mean(own), "stitched": np.mean(found), "worst": np.min(found)}
    return {name: float(value) for name, value in means.items()} | stitched


def _its_models_have(name):
    """Return a check of whether the model that predicts has a method."""

    def check(across):
        fitted = hasattr(across, "estimators_")
        getattr(across._first[1] if fitted else across.estimator, name)  # its own error
        return True

    return check


class AcrossEncoders(MetaEstimatorMixin, BaseEstimator):
    """Fit an estimator in one space, and score it in others.

    Ordinary cross-validation trains and tests in one space, and does not show whether a
    head survives a change of encoder.  Inside scikit-learn's searches, this estimator
    makes them choose by the stitched score: in each fold the head is trained on the
    training rows of one space, stitched to the others by anchors among the same rows,
    and scored on the test rows there.

    Parameters
    ----------
    estimator : estimator
        A classifier or regressor that holds anchors, as `skinvariant.stitch` takes it:
        a voting model, a Pipeline that starts with a `RelativeProjector` or
        `InvariantAggregator`, a neural head.
    spaces : mapping of str to columns
        Two spaces or more by name: the columns of `X` that each one consists of, as
        `sklearn.compose.ColumnTransformer` takes them: a slice, positions, names of a
        data frame's columns, a mask, or a callable of `X`.  ``np.hstack([X_old,
        X_new])`` puts spaces side by side.
    own : str, default=None
        The space that the head is trained on; it is scored on all others.  None: each
        in turn, so that every pair of spaces counts.
    aggregate : {"mean", "worst"}, default="mean"
        Which of the stitched scores `score` returns: their mean, or the lowest one.
    scoring : str or callable, default=None
        The metric of all scores: a scorer of scikit-learn, such as "f1_macro".  None:
        the estimator's own `score`.  Here, and not as a search's parameter `scoring`,
        which would score what `predict` returns: the own space alone.

    Attributes
    ----------
    estimators_ : dict of str to estimator
        The fitted estimator of each own space, which takes rows of that space alone.
    stitched_ : dict of (str, str) to estimator
        By own space and other one, the estimator stitched to the other one.  It takes
        rows of the other space alone.
    columns_ : dict of str to ColumnTransformer
        What takes the rows of each space out of `X`.
    classes_ : ndarray of shape (n_classes,)
        The labels, of a classifier.
    n_features_in_ : int
        Width of `X`, all spaces together.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names of the fitted `X`, if it had any.

    See Also
    --------
    stitched_scores : All scores at once, for searches with several metrics.
    skinvariant.plotting.SearchDisplay : Own against stitched, a dot for each choice.
    skinvariant.cross_stitch : Measures one choice in full, with the alternatives.

    Notes
    -----
    `predict` and its like use rows of the own space; with ``own=None`` those of the
    first one.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import RidgeClassifier
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.pipeline import make_pipeline
    >>> from skinvariant import RelativeProjector
    >>> from skinvariant.datasets import make_related_spaces
    >>> from skinvariant.model_selection import AcrossEncoders
    >>> pair = make_related_spaces(300, transformation="translation", random_state=0)
    >>> X = np.hstack([pair.X_a, pair.X_b])
    >>> model = make_pipeline(RelativeProjector(30, random_state=0), RidgeClassifier())
    >>> across = AcrossEncoders(model, {"old": slice(0, 8), "new": slice(8, 16)})
    >>> grid = {"estimator__relativeprojector__pre": [None, "center"]}
    >>> search = GridSearchCV(across, grid, cv=3).fit(X, pair.y)
    >>> search.cv_results_["mean_test_score"].round(2).tolist()
    [0.95, 0.99]
    >>> search.best_params_
    {'estimator__relativeprojector__pre': 'center'}

    The model for the new encoder takes rows of its space:

    >>> model = search.best_estimator_.stitched_["old", "new"]
    >>> round(model.score(pair.X_b, pair.y), 1)
    1.0
    """

    _doc_link_module = "skinvariant"
    _doc_link_template = (
        "https://skinvariant.readthedocs.io/en/stable/generated/"
        "skinvariant.model_selection.{estimator_name}.html"
    )

    def __init__(self, estimator, spaces, *, own=None, aggregate="mean", scoring=None):
        self.estimator = estimator
        self.spaces = spaces
        self.own = own
        self.aggregate = aggregate
        self.scoring = scoring

    def fit(self, X, y=None, **fit_params):
        """Fit the estimator in each own space, and stitch it to the others.

        Parameters
        ----------
        X : {array-like, sparse matrix, data frame} of shape (n_samples, n_features)
            Rows in all spaces, side by side.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Labels or targets.
        **fit_params : dict
            What the estimator's `fit` takes besides, such as `sample_weight`; with
            metadata routing enabled, what it requests.

        Returns
        -------
        AcrossEncoders
            The fitted estimator itself.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the input is not as documented, or the estimator has no
            anchors that were chosen among its rows.
        """
        self._check_params()
        X = self._validate(X, reset=True)
        if get_config()["enable_metadata_routing"]:
            fit_params = process_routing(self, "fit", **fit_params).estimator.fit
        self.columns_, rows = {}, {}
        for name, columns in self.spaces.items():
            self._check_columns(name, columns)
            space = ColumnTransformer(
                [("space", "passthrough", columns)], sparse_threshold=1.0
            )
            self.columns_[name] = space.set_output(transform="default")
            rows[name] = space.fit_transform(X)
            if rows[name].shape[1] == 0:
                raise ValueError(
                    f"spaces[{name!r}] must be at least one of the "
                    f"{self.n_features_in_} columns of X; got none by {columns!r}"
                )
        self.estimators_, self.stitched_ = {}, {}
        for own in self.spaces if self.own is None else [self.own]:
            model = clone(self.estimator).fit(rows[own], y, **fit_params)
            self.estimators_[own] = model
            for other in self.spaces:
                if other != own:
                    anchors = select_anchors(model, rows[other])
                    self.stitched_[own, other] = stitch(model, anchors)
        return self

    def score(self, X, y=None, sample_weight=None):
        """Return the mean or the lowest stitched score, as `aggregate` names it.

        Parameters
        ----------
        X : {array-like, sparse matrix, data frame} of shape (n_samples, n_features)
            Rows in all spaces, side by side.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Labels or targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, for a metric that takes them.

        Returns
        -------
        float
            The score; larger is better.
        """
        name = check_choice("aggregate", self.aggregate, _AGGREGATES)
        return stitched_scores(self, X, y, sample_weight=sample_weight)[name]

    @available_if(_its_models_have("predict"))
    def predict(self, X):
        """Predict by the own space's columns of `X`.

        Parameters
        ----------
        X : {array-like, sparse matrix, data frame} of shape (n_samples, n_features)
            Rows in all spaces, side by side.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            What the estimator of the own space predicts.
        """
        return self._by_own_space("predict", X)

    @available_if(_its_models_have("predict_proba"))
    def predict_proba(self, X):
        """Predict probabilities by the own space's columns of `X`.

        Parameters
        ----------
        X : {array-like, sparse matrix, data frame} of shape (n_samples, n_features)
            Rows in all spaces, side by side.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities, in the order of `classes_`.
        """
        return self._by_own_space("predict_proba", X)

    @available_if(_its_models_have("predict_log_proba"))
    def predict_log_proba(self, X):
        """Predict logarithms of probabilities by the own space's columns of `X`.

        Parameters
        ----------
        X : {array-like, sparse matrix, data frame} of shape (n_samples, n_features)
            Rows in all spaces, side by side.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Logarithms, in the order of `classes_`.
        """
        return self._by_own_space("predict_log_proba", X)

    @available_if(_its_models_have("decision_function"))
    def decision_function(self, X):
        """Return decision values by the own space's columns of `X`.

        Parameters
        ----------
        X : {array-like, sparse matrix, data frame} of shape (n_samples, n_features)
            Rows in all spaces, side by side.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Decision values, in the order of `classes_`.
        """
        return self._by_own_space("decision_function", X)

    @property
    def classes_(self):
        """The labels."""
        check_is_fitted(self)
        return self._first[1].classes_

    @property
    def _first(self):
        """The own space that predicts, and its estimator."""
        return next(iter(self.estimators_.items()))

    def _by_own_space(self, method, X):
        check_is_fitted(self)
        name, model = self._first
        X = self.columns_[name].transform(self._validate(X, reset=False))
        return getattr(model, method)(X)

    def get_metadata_routing(self):
        """Return the routing of `fit`'s metadata to the estimator.

        Returns
        -------
        MetadataRouter
            What `estimator` requests in `fit`, and this estimator in `score`.
        """
        mapping = MethodMapping().add(caller="fit", callee="fit")
        router = MetadataRouter(owner=self).add_self_request(self)  # of `score`
        return router.add(estimator=self.estimator, method_mapping=mapping)

    def __sklearn_tags__(self):
        tags, inner = super().__sklearn_tags__(), deepcopy(get_tags(self.estimator))
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags = inner.classifier_tags
        tags.regressor_tags = inner.regressor_tags
        tags.target_tags = inner.target_tags
        tags.input_tags.sparse = inner.input_tags.sparse
        return tags

    def _validate(self, X, *, reset):
        """Validate rows; a data frame keeps its columns, which have names."""
        return validate_data(
            self,
            in_memory(X),
            reset=reset,
            skip_check_array=hasattr(X, "columns"),
            accept_sparse="csr",
            ensure_all_finite=False,  # the estimator decides
        )

    def _check_params(self):
        if not isinstance(self.spaces, Mapping):
            raise TypeError(
                "spaces must be a mapping of names to columns of X; got "
                f"{self.spaces!r}"
            )
        if len(self.spaces) < 2:
            raise ValueError(f"spaces must be at least 2; got {list(self.spaces)}")
        for name in self.spaces:
            if not isinstance(name, str) or " to " in name:
                raise ValueError(
                    f"the names of spaces must be strings without ' to '; got {name!r}"
                )
        if self.own is not None:
            check_choice("own", self.own, self.spaces, or_else="None")
        check_choice("aggregate", self.aggregate, _AGGREGATES)
        if isinstance(self.scoring, str) or callable(self.scoring):
            return
        if self.scoring is not None:  # several would be no score
            raise TypeError(
                "scoring must be a string, a callable or None (for several scores pass "
                f"stitched_scores to the search); got {self.scoring!r}"
            )

    def _check_columns(self, name, columns):
        """Refuse a slice or a mask of another width than that of X."""
        width = self.n_features_in_
        ends = (columns.start, columns.stop) if isinstance(columns, slice) else ()
        if any(isinstance(end, Integral) and abs(end) > width for end in ends):
            raise ValueError(
                f"spaces[{name!r}] must be columns of X, which has {width}; got "
                f"{columns!r}"
            )
        mask = np.asarray(columns)
        if mask.dtype == bool and mask.shape != (width,):
            raise ValueError(
                f"spaces[{name!r}] must be a mask of the {width} columns of X; got "
                f"{mask.size} values"
            )
