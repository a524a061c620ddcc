"""Stitching: another encoder under a fitted model, whose head stays as it is."""

import copy

from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.validation import check_is_fitted

__all__ = ["stitch"]


def stitch(model, anchors, *, encoder=None):
    """Put another encoder's space under a fitted model, without training.

    Parameters
    ----------
    model : fitted estimator
        A `RelativeProjector`, an `InvariantAggregator`, any estimator with a `rebase`
        method, or a Pipeline with one of these in it, at any depth; also a
        FrozenEstimator around one, or a fitted search, whose `best_estimator_` is
        taken.
    anchors : array-like of shape (n_anchors, n_features_new)
        The model's anchors, ``anchor_indices_`` in the same order, as the new encoder
        sees them.  With `encoder`: these samples raw, as `encoder.transform` takes
        them.
    encoder : fitted transformer, default=None
        The new encoder, to stand in place of every step before the projecting one.  A
        function becomes a transformer by `sklearn.preprocessing.FunctionTransformer`.

    Returns
    -------
    fitted estimator
        A new model whose projecting step is rebased and whose later steps are the
        same fitted objects.  `model` is not changed.  With `encoder`, a Pipeline that
        starts from raw inputs.

    Raises
    ------
    TypeError
        If nothing in `model` can be rebased, or `encoder` has no `transform`.
    ValueError
        If the number of anchors differs, or a step before the projecting one would be
        left behind, since no `encoder` takes its place.
    sklearn.exceptions.NotFittedError
        If `model` is not fitted.

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
    """
    check_is_fitted(model)
    if encoder is not None:
        if not hasattr(encoder, "transform"):
            raise TypeError(
                "encoder must be a fitted transformer (wrap a function in sklearn's "
                f"FunctionTransformer); got {type(encoder).__name__}"
            )
        anchors = encoder.transform(anchors)
    left_behind = []
    rebased = _rebase(model, anchors, left_behind)
    if rebased is None:
        raise TypeError(
            "nothing in the model can be rebased: it must be, or be a Pipeline with, a "
            f"RelativeProjector, InvariantAggregator or other estimator with a rebase "
            f"method; got {model!r}"
        )
    if encoder is None:
        if left_behind:
            raise ValueError(
                f"the steps {left_behind} before the projecting one belong to the old "
                "encoder and would be left behind: give the new one as encoder=, and "
                "raw anchors"
            )
        return rebased
    return _behind(encoder, rebased)


def _rebase(model, anchors, left_behind):
    """Rebase the first projecting step of a model; None where there is none.

    The names of the steps before it are added to `left_behind`, and those steps left
    out.
    """
    if isinstance(model, FrozenEstimator):  # first: it has all that is inside it
        rebased = _rebase(model.estimator, anchors, left_behind)
        return None if rebased is None else FrozenEstimator(rebased)
    if hasattr(model, "rebase"):
        return model.rebase(anchors)
    if hasattr(model, "best_estimator_"):
        return _rebase(model.best_estimator_, anchors, left_behind)
    if not isinstance(model, Pipeline):
        return None
    before = []
    for position, (name, step) in enumerate(model.steps):
        rebased = _rebase(step, anchors, inside := [])
        if rebased is None:
            if step is not None and step != "passthrough":
                before.append(name)
            continue
        left_behind += before + [f"{name}__{inner}" for inner in inside]
        new = copy.copy(model)
        new.steps = [(name, rebased), *model.steps[position + 1 :]]
        return new
    return None


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
