"""Stitching: another encoder under a fitted model, whose head stays as it is."""

import copy
import functools
import warnings
from numbers import Integral

import numpy as np
from scipy.sparse import issparse
from scipy.special import softmax
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    clone,
    is_classifier,
    is_regressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import r2_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import Bunch, check_array, check_random_state
from sklearn.utils.validation import check_is_fitted

from skinvariant._dask import in_memory
from skinvariant._validation import check_number, to_numpy
from skinvariant.comparison import space_agreement
from skinvariant.pooling import PooledClassifier, PooledRegressor
from skinvariant.translation import SpaceTranslator

__all__ = ["mantel_test", "stitch"]

# anchors: fewer tell too little, more are not needed to tell
_FEWEST, _MOST = 10, 300
_DOUBT = 0.05
_TINY = np.finfo(np.float64).tiny


def stitch(model, anchors, *, encoder=None, reweight=False, y=None):
    """Put another encoder's space under a fitted model, without training.

    Parameters
    ----------
    model : fitted estimator
        A `RelativeProjector`, an `InvariantAggregator`, any estimator with a `rebase`
        method, or a Pipeline with one of these in it, at any depth; also a
        FrozenEstimator around one, a fitted search, whose `best_estimator_` is taken,
        or a VotingClassifier or VotingRegressor of such models, all with the same
        anchors: a head for each metric.
    anchors : array-like of shape (n_anchors, n_features_new)
        The model's anchors, ``anchor_indices_`` in the same order, as the new encoder
        sees them.  With `encoder`: these samples raw, as `encoder.transform` takes
        them.
    encoder : fitted transformer, default=None
        The new encoder, to stand in place of every step before the projecting one.  A
        function becomes a transformer by `sklearn.preprocessing.FunctionTransformer`.
    reweight : bool, default=False
        Whether to weigh the metrics, and beside them a translation of the new space
        into the old one, by how well each of them serves the head on the anchors; see
        Notes.  The model must predict: a classifier with `predict_proba`, or a
        regressor.
    y : array-like of shape (n_anchors,), default=None
        Labels or targets of the anchors, with `reweight=True` alone: these are then
        the evidence, and a small model trained on the new anchors is heard as well.

    Returns
    -------
    fitted estimator
        A new model whose projecting step is rebased and whose later steps are the
        same fitted objects.  `model` is not changed.  With `encoder`, a Pipeline that
        starts from raw inputs.  With `reweight=True`, a
        `skinvariant.pooling.PooledClassifier` or `PooledRegressor` of such models,
        with its `weights_by_name_`.

    Raises
    ------
    TypeError
        If nothing in `model` can be rebased, `encoder` has no `transform`, or
        `reweight` asks for predictions that `model` does not make.
    ValueError
        If the number of anchors or labels differs, a label is unknown, or a step
        before the projecting one would be left behind, since no `encoder` takes its
        place.
    sklearn.exceptions.NotFittedError
        If `model` is not fitted.

    Warns
    -----
    UserWarning
        If 10 or more new anchors resemble each other no more like the old ones than
        in a random order would: `mantel_test` gives p > 0.05.

    Notes
    -----
    With `reweight=True` the fitted head is used in several ways, the members of a
    pool: on the rebased product; where the product is a concatenation, also without
    each metric, whose columns rest at the anchors' mean; and on the same after a kernel
    translation (`skinvariant.translation.SpaceTranslator`) of the new rows into the
    old space.  What each member says of the new anchors is compared with what the
    head says of the old ones, or with `y`.  For this no anchor is its own: its
    comparison with itself is replaced by the mean of the others', and it is translated
    by a map fitted on the others.  The weights are those of
    `skinvariant.pooling.log_pool_weights`.  Their prior: voters count by the
    signal-to-noise ratio :math:`c^2 / (1 - c^2)` of their spaces, where c is
    `skinvariant.comparison.space_agreement`; the translation gets half of the share of
    variance that it explains of the old anchors left out; what is trained on `y` gets
    1/4 beside these.  All of it is deterministic.

    Examples
    --------
    A head for digits in pixels, used on the pixels in another order:

    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skinvariant import InvariantAggregator, stitch
    >>> X, y = load_digits(return_X_y=True)
    >>> aggregator = InvariantAggregator(n_anchors=100, random_state=0)
    >>> model = make_pipeline(aggregator, LogisticRegression(max_iter=500))
    >>> model = model.fit(X[:900], y[:900])
    >>> X_new = X[:, ::-1]
    >>> stitched = stitch(model, X_new[model[0].anchor_indices_])
    >>> round(model.score(X_new[900:], y[900:]), 2)  # not stitched
    0.44
    >>> model.score(X[900:], y[900:]) == stitched.score(X_new[900:], y[900:])
    True

    An encoder that has lost half of the pixels, and bent the others:

    >>> X_new = X[:, ::2] ** 0.5
    >>> anchors = X_new[model[0].anchor_indices_]
    >>> round(stitch(model, anchors).score(X_new[900:], y[900:]), 2)
    0.82
    >>> pool = stitch(model, anchors, reweight=True)
    >>> round(pool.score(X_new[900:], y[900:]), 2)
    0.87
    """
    check_is_fitted(model)
    if y is not None and not reweight:
        raise ValueError("y is evidence for reweight=True alone; got reweight=False")
    if encoder is not None:
        if not hasattr(encoder, "transform"):
            raise TypeError(
                "encoder must be a fitted transformer (wrap a function in sklearn's "
                f"FunctionTransformer); got {type(encoder).__name__}"
            )
        anchors = encoder.transform(anchors)
    steps, left_behind = [], []
    stitched = _replaced(model, _rebase_on(anchors, steps), left_behind)
    if stitched is None:
        raise TypeError(
            "nothing in the model can be rebased: it must be, or be a Pipeline with, a "
            f"RelativeProjector, InvariantAggregator or other estimator with a rebase "
            f"method; got {model!r}"
        )
    if encoder is None and left_behind:
        raise ValueError(
            f"the steps {left_behind} before the projecting one belong to the old "
            "encoder and would be left behind: give the new one as encoder=, and raw "
            "anchors"
        )
    _doubt(steps, anchors)
    if reweight:
        stitched = _reweighted(model, steps, anchors, y)
    return stitched if encoder is None else _behind(encoder, stitched)


def _rebase_on(anchors, steps):
    """Return what rebases a step, and adds the old one to `steps`."""

    def rebase(step):
        steps.append(step)
        return step.rebase(anchors)

    return rebase


def _replaced(model, replace, left_behind):
    """Replace the first projecting step of a model; None where there is none.

    The names of the steps before it are added to `left_behind`, and those steps left
    out.
    """
    if isinstance(model, FrozenEstimator):  # first: it has all that is inside it
        inner = _replaced(model.estimator, replace, left_behind)
        return None if inner is None else FrozenEstimator(inner)
    if hasattr(model, "rebase"):
        return replace(model)
    if hasattr(model, "best_estimator_"):
        return _replaced(model.best_estimator_, replace, left_behind)
    if _votes(model):
        return _replaced_votes(model, replace, left_behind)
    if not isinstance(model, Pipeline):
        return None
    before = []
    for position, (name, step) in enumerate(model.steps):
        replaced = _replaced(step, replace, inside := [])
        if replaced is None:
            if step is not None and step != "passthrough":
                before.append(name)
            continue
        left_behind += before + [f"{name}__{inner}" for inner in inside]
        new = copy.copy(model)
        new.steps = [(name, replaced), *model.steps[position + 1 :]]
        return new
    return None


def _votes(model):
    """Whether a fitted model is a vote of several."""
    if not hasattr(model, "named_estimators_"):
        return False  # most are not, and loading the ensembles takes time
    from sklearn.ensemble import VotingClassifier, VotingRegressor

    return isinstance(model, VotingClassifier | VotingRegressor)


def _replaced_votes(model, replace, left_behind):
    """Replace the projecting step of each voter; None where none has one."""
    names = [name for name, voter in model.estimators if voter != "drop"]
    voters = []
    for name, voter in zip(names, model.estimators_, strict=True):
        voters.append(_replaced(voter, replace, inside := []))
        left_behind += [f"{name}__{inner}" for inner in inside]
    if all(voter is None for voter in voters):
        return None
    for name, voter in zip(names, voters, strict=True):
        if voter is None:
            raise TypeError(
                "every voter must have something that can be rebased, or it would stay "
                f"in the old space; {name!r} has not"
            )
    new = copy.copy(model)
    new.estimators_ = voters
    new.named_estimators_ = Bunch(**dict(zip(names, voters, strict=True)))
    return new


def _behind(encoder, model):
    """Make a pipeline of the encoder and the rebased model."""
    if not isinstance(model, Pipeline):
        return make_pipeline(encoder, model)
    names = {name for name, _ in model.steps}
    name = "encoder"
    while name in names:
        name = f"new_{name}"
    new = copy.copy(model)
    new.steps = [(name, encoder), *model.steps]
    return new


# --- are these the same samples in the same order? ----------------------------------


def mantel_test(X_a, X_b, *, n_permutations=99, random_state=0):
    """Permutation test of whether the rows of two spaces correspond [1]_.

    The cosines between the rows of either space, after centring, are correlated; so
    they are with the rows of `X_b` in random orders.

    Parameters
    ----------
    X_a : array-like of shape (n_samples, n_features_a)
        Rows in one space, 3 or more.
    X_b : array-like of shape (n_samples, n_features_b)
        What should be the same samples, in the same order, in another.
    n_permutations : int, default=99
        How many random orders.
    random_state : int, RandomState instance or None, default=0
        Seed of the orders.

    Returns
    -------
    correlation : float
        In [-1, 1], of the cosines of all pairs of rows.
    p_value : float
        In (0, 1]: the share of orders, the given one among them, that correlate as
        well.  Under a wrong order it is at most p with probability p; so small values
        speak for corresponding rows.

    Raises
    ------
    ValueError
        If the numbers of rows differ, or there are fewer than 3.

    References
    ----------
    .. [1] N. Mantel, "The detection of disease clustering and a generalized regression
       approach", Cancer Research 27(2), 1967.

    Examples
    --------
    >>> from skinvariant.datasets import make_related_spaces
    >>> from skinvariant.stitching import mantel_test
    >>> spaces = make_related_spaces(30, transformation="linear", random_state=0)
    >>> mantel_test(spaces.X_a, spaces.X_b)[1]
    0.01
    >>> mantel_test(spaces.X_a, spaces.X_b[::-1])[1] > 0.05
    True
    """
    X_a, X_b = (check_array(X, ensure_min_samples=3) for X in (X_a, X_b))
    if len(X_a) != len(X_b):
        raise ValueError(
            f"X_a and X_b must have the same rows; got {len(X_a)} and {len(X_b)}"
        )
    check_number("n_permutations", n_permutations, Integral, 1)
    random_state = check_random_state(random_state)
    pairs = ~np.eye(len(X_a), dtype=bool)
    cosines_a, cosines_b = (
        cosine_similarity(X.astype(np.float64) - X.mean(axis=0)) for X in (X_a, X_b)
    )
    for cosines in (cosines_a, cosines_b):
        cosines -= cosines[pairs].mean()
        norm = np.linalg.norm(cosines[pairs])
        cosines *= pairs / (norm if norm > 0 else 1)
    found = np.vdot(cosines_a, cosines_b)
    reached = 1
    for _ in range(n_permutations):
        order = random_state.permutation(len(X_a))
        reached += np.vdot(cosines_a, cosines_b[np.ix_(order, order)]) >= found
    return float(found), float(reached / (n_permutations + 1))


def _doubt(steps, anchors):
    """Warn if the new anchors hardly resemble the old ones."""
    old = getattr(steps[0], "anchors_", None)
    if old is None or old.shape[0] < _FEWEST:
        return
    few = slice(0, _MOST)  # enough to tell, and quick
    old, new = (_plain(anchors)[few] for anchors in (old, anchors))
    correlation, p_value = mantel_test(old, new)
    if p_value > _DOUBT:
        warnings.warn(
            "the new anchors do not look like the old ones: the cosines between them "
            f"correlate by {correlation:.2f}, as in {p_value:.0%} of random orders.  "
            "They must be the same samples, in the same order",
            UserWarning,
            stacklevel=3,
        )


def _plain(anchors):
    """Return anchors of any library as a dense array."""
    anchors = to_numpy(in_memory(anchors))
    return anchors.toarray() if issparse(anchors) else anchors


# --- reweight: evidence from the anchors --------------------------------------------


def _reweighted(model, steps, anchors, y):
    """Pool all ways to use a model in a new space, weighed by what the anchors tell."""
    voters = _voters(model)
    method = _method(voters)
    _check_steps(steps)
    old, new = _plain(steps[0].anchors_), _plain(anchors)
    translator = SpaceTranslator("kernel").fit(new, old)
    shares = _shares(steps, anchors)
    translated = max(r2_score(old, translator.left_out_), 0) / 2
    members, evidence, prior = [], [], []
    for (name, voter), step, share in zip(voters, steps, shares, strict=True):
        views = _views(step)
        for view, keep in views.items():
            label = "_".join(filter(None, (name, view)))
            rebase = lambda s, keep=keep: keep(s.rebase(anchors))  # noqa: E731
            members.append((label or "stitched", _replaced(voter, rebase, [])))
            rebase = lambda s, keep=keep: keep(_apart(s.rebase(anchors)))  # noqa: E731
            evidence.append(_say(_replaced(voter, rebase, []), new, method))
            kept = _replaced(voter, keep, [])
            label = f"{label}_translated".strip("_")
            members.append((label, make_pipeline(translator, kept)))
            evidence.append(_say(kept, translator.left_out_, method))
            prior += [(1 - translated) * share / len(views)]
            prior += [translated * share / len(views)]
    own = [_say(_replaced(voter, _apart, []), old, method) for _, voter in voters]
    if y is None:
        targets = _joint_opinion(own, method)
    else:
        targets, y = _targets(y, own[0].shape, voters[0][1], method), np.asarray(y)
        few = _few_shot(voters[0][1], method)
        members.append(("anchors", clone(few).fit(new, y)))
        evidence.append(_held_out(few, new, y, method))
        prior.append(0.25)
    pool = PooledRegressor if method == "predict" else PooledClassifier
    return pool(members, prior=prior)._fit_weights(evidence, targets)


def _shares(steps, anchors):
    """Return by how much each voter counts beforehand: its signal-to-noise ratio."""
    agreement = [
        space_agreement(
            np.asarray(step.transform(step.anchors_)),
            np.asarray(step.rebase(anchors).transform(anchors)),
        )
        for step in steps
    ]
    squares = np.square(agreement)
    ratios = squares / (1 - squares + 1e-3)
    return (
        ratios / ratios.sum() if ratios.any() else np.full(len(steps), 1 / len(steps))
    )


def _voters(model):
    """Return the models that vote, by name; a model alone has no name."""
    while isinstance(model, FrozenEstimator) or hasattr(model, "best_estimator_"):
        frozen = isinstance(model, FrozenEstimator)
        model = model.estimator if frozen else model.best_estimator_
    if not _votes(model):
        return [("", model)]
    voters = []
    names = [name for name, voter in model.estimators if voter != "drop"]
    for name, fitted in zip(names, model.estimators_, strict=True):
        voter = copy.copy(model)  # of one, so that classes are spelt as the user does
        voter.estimators, voter.estimators_ = [(name, fitted)], [fitted]
        voter.weights = None
        if is_classifier(voter):
            voter.voting = "soft"
        voters.append((name, voter))
    return voters


def _method(voters):
    """Return the method to compare predictions by, or say that there is none."""
    for name, voter in voters:
        method = "predict_proba" if is_classifier(voter) else "predict"
        fitted = getattr(voter, "estimators_", [voter])[0] if name else voter
        if not (is_classifier(voter) or is_regressor(voter)) or not hasattr(
            fitted, method
        ):
            raise TypeError(
                "reweight=True compares predictions: the model must be a classifier "
                f"with predict_proba, or a regressor; got {name or 'model'}={fitted!r}"
            )
    return method


def _check_steps(steps):
    """Refuse projecting steps whose anchors tell too little, or different things."""
    for step in steps:
        if not hasattr(step, "_apart"):
            raise TypeError(
                "reweight=True takes the projecting steps of this package; got "
                f"{step!r}"
            )
    old = _plain(steps[0].anchors_)
    if len(old) < _FEWEST:
        raise ValueError(
            f"reweight=True needs {_FEWEST} or more anchors as evidence; got {len(old)}"
        )
    if not all(np.array_equal(_plain(step.anchors_), old) for step in steps[1:]):
        raise ValueError(
            "all voters must have the same anchors: give each the same indices, or the "
            "same random_state"
        )


def _apart(step):
    """Return a fitted step for whose `transform` no anchor is its own."""
    return step._apart()


def _say(model, X, method):
    """Return what a fitted model says of rows, in float64."""
    return np.asarray(getattr(model, method)(X), dtype=np.float64)


def _held_out(estimator, X, y, method):
    """Return what an estimator says of rows that it has not been fitted on."""
    said = None
    for train, test in KFold(5, shuffle=True, random_state=0).split(X):
        new = _say(clone(estimator).fit(X[train], y[train]), X[test], method)
        said = np.empty((len(X), *new.shape[1:])) if said is None else said
        said[test] = new
    return said


def _views(step):
    """Return the ways to look at a projecting step, by name, as functions of it.

    Of a concatenation also without each metric, its columns at the anchors' mean.
    """
    views = {"": lambda step: step}
    if getattr(step, "aggregation", None) != "concat" or not hasattr(step, "posts_"):
        return views
    at = np.asarray(_apart(step).transform(step.anchors_)).mean(axis=0)
    end = 0
    for (metric, _), width in zip(step._fitted_pairs(), step._widths, strict=True):
        start, end = end, end + width
        kept = np.ones(len(at), dtype=at.dtype)
        kept[start:end] = 0
        drop = FunctionTransformer(_rest, kw_args={"kept": kept, "at": at * (1 - kept)})
        views[f"without_{metric.name}"] = functools.partial(_followed, after=drop)
    return views if len(views) > 2 else {"": views[""]}


def _followed(step, after):
    return make_pipeline(step, after)


def _rest(X, kept, at):
    """Hold the columns that are not kept at a value."""
    return X * kept + at


def _joint_opinion(said, method):
    """Return mean predictions, or normalised geometric means of probabilities."""
    if method == "predict":
        return np.mean(said, axis=0)
    return softmax(np.mean(np.log(np.maximum(said, _TINY)), axis=0), axis=1)


def _targets(y, shape, voter, method):
    """Return anchors' targets as the head puts them, or say what is wrong with them."""
    y = np.asarray(y)
    if method == "predict":
        if y.shape != shape:
            raise ValueError(f"y must be targets of shape {shape}; got {y.shape}")
        return y.astype(np.float64)
    if y.shape != shape[:1]:
        raise ValueError(f"y must be one label per anchor, {shape[:1]}; got {y.shape}")
    classes = voter.classes_
    if unknown := set(y.tolist()).difference(classes.tolist()):
        raise ValueError(
            f"y must hold the model's classes {classes.tolist()}; got {sorted(unknown)}"
        )
    return (y[:, None] == classes).astype(np.float64)


def _few_shot(voter, method):
    """Return what is trained on the labelled anchors alone."""
    if method == "predict":
        return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 13)))
    return _FewShotClassifier(voter.classes_)


class _FewShotClassifier(ClassifierMixin, BaseEstimator):
    """A logistic regression on few rows, where some classes may be missing.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        All classes.
    """

    def __init__(self, classes):
        self.classes = classes

    def fit(self, X, y):
        """Fit on the classes that are there."""
        self.classes_ = self.classes
        self.present_ = np.isin(self.classes, y)
        self.model_ = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
        if self.present_.sum() > 1:
            self.model_.fit(X, y)
        return self

    def predict_proba(self, X):
        """Give the missing classes no probability."""
        proba = np.zeros((len(X), len(self.classes)))
        proba[:, self.present_] = (
            self.model_.predict_proba(X) if self.present_.sum() > 1 else 1
        )
        return proba
