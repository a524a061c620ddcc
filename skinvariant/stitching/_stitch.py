"""stitch: the encoder of a fitted model swapped, and its head kept."""

import warnings
from inspect import signature

import numpy as np
from scipy.sparse import issparse
from sklearn.base import is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import (
    FixedThresholdClassifier,
    TunedThresholdClassifierCV,
)
from sklearn.pipeline import make_pipeline
from sklearn.utils import check_array
from sklearn.utils.extmath import row_norms
from sklearn.utils.validation import check_is_fitted

from skinvariant._correspondence import FEWEST_ROWS, warn_of_mismatches
from skinvariant._dask import in_memory
from skinvariant._models import (
    guards_in,
    path_to_step,
    projecting_steps,
    replace_step,
)
from skinvariant._validation import to_numpy
from skinvariant.guard import EncoderGuard
from skinvariant.metrics._rows import power_of_two
from skinvariant.voting import pool_translations

# how far an encoder's rows of the same samples may be apart: in roundings of their
# norm, and as a part of the distance between two anchors
_ROUNDINGS, _ALIKE = 1000, 0.01
# the strategies whose anchors are a random sample
_RANDOM = ("all", "random")


def stitch(model, anchors, *, encoder=None, y=None, X=None, old_anchors=None):
    """Swap the encoder of a fitted model, and keep its head.

    Parameters
    ----------
    model : fitted estimator
        A `skinvariant.InvariantVotingClassifier`, a `RelativeProjector`, or any other
        estimator with a `rebase` method; or a model with one inside: a Pipeline, a
        FrozenEstimator, a fitted search, a tuned threshold, a transformed target, a
        CalibratedClassifierCV with one set of anchors, or a VotingClassifier or
        VotingRegressor of such models, all with the same anchors; at any depth.  With
        `old_anchors` any fitted classifier or regressor.
    anchors : array-like of shape (n_anchors, n_features_new)
        The model's anchors in the new space, in the same order: of corresponding rows
        those at ``anchor_indices_``.  With `encoder` these samples raw, as
        `skinvariant.select_anchors` takes them from the rows of `fit`.
    encoder : fitted transformer, default=None
        The new encoder.  It replaces the old one, that is every step before the one
        that holds the anchors.  To use a function, wrap it in
        `sklearn.preprocessing.FunctionTransformer`.
    y : array-like of shape (n_anchors,), default=None
        Labels or targets of the anchors, for a `rebase` that takes them.
    X : array-like of shape (n_samples, n_features_new), default=None
        Further rows of the new space, without labels, for a `rebase` that takes them.
        They train one more member of an `InvariantVotingClassifier`, also of the one
        that `old_anchors` make; the metric "geodesic" needs them.  With `encoder` raw
        samples, as the anchors.
    old_anchors : array-like of shape (n_anchors, n_features), default=None
        For a model that holds no anchors: the same samples as `anchors`, in the space
        that the model was fitted on.  The model is then used behind translations that
        are fitted on the two sets.

    Returns
    -------
    fitted estimator
        A new model of the same class and steps; `model` is not changed.  With
        `encoder` it takes raw samples.  Where `model` does not start with an encoder
        itself, it is then a Pipeline of the encoder and the stitched model, which is
        its last step: ``stitched[-1].weights_``.

    Raises
    ------
    TypeError
        If nothing in `model` can be rebased, `encoder` has no `transform`, `anchors`
        or `old_anchors` are raw samples where rows are needed, or `y` or `X` is given
        for a model whose `rebase` takes none.
    ValueError
        If the number of anchors differs, the old encoder inside `model` shows them to
        be other samples, `encoder` cannot take them, the members of a vote differ in
        their anchors, or there is a step before the projecting one and no `encoder`
        to replace it.
    sklearn.exceptions.NotFittedError
        If `model` or `encoder` is not fitted.

    Warns
    -----
    UserWarning
        If an `EncoderGuard` in `model` is fitted on anchors that are no random sample
        of the rows: those of another strategy than "random" and "all".
    UserWarning
        If `model` has a decision threshold, fixed or tuned, which stays as it is: see
        Notes.
    UserWarning
        If `skinvariant.comparison.mismatched_rows` finds other samples among 20 or
        more anchors.

    See Also
    --------
    skinvariant.select_anchors : The anchors among the rows of `fit`.

    Notes
    -----
    Where `model` starts with an encoder and `encoder` replaces it, the raw anchors are
    checked: the old encoder must turn them into ``anchors_`` again.  A row may differ
    by rounding and by 1% of the distance between two anchors, since encoders round
    differently in batches of another size.  There is no check where the old encoder is
    random, cannot be called any more, or does not take the new one's input.

    A `FixedThresholdClassifier` or `TunedThresholdClassifierCV` in `model` keeps its
    threshold, which was chosen for the old model's probabilities.  Those of the new one
    are distributed otherwise: `skinvariant.forecast.SwapForecast.threshold` gives the
    threshold with as many false positives, from rows without labels.

    Examples
    --------
    A head for digits in pixels, used on the pixels in another order:

    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skinvariant import InvariantAggregator, select_anchors, stitch
    >>> X, y = load_digits(return_X_y=True)
    >>> aggregator = InvariantAggregator(n_anchors=100, random_state=0)
    >>> model = make_pipeline(aggregator, LogisticRegression(max_iter=500))
    >>> model = model.fit(X[:900], y[:900])
    >>> X_new = X[:, ::-1]
    >>> stitched = stitch(model, select_anchors(model, X_new[:900]))
    >>> round(model.score(X_new[900:], y[900:]), 2)  # not stitched
    0.44
    >>> round(model.score(X[900:], y[900:]), 2)  # in its own space
    0.94
    >>> round(stitched.score(X_new[900:], y[900:]), 2)
    0.94

    With an encoder inside the model, the anchors are raw samples:

    >>> from sklearn.decomposition import PCA, TruncatedSVD
    >>> model = make_pipeline(PCA(20), aggregator, LogisticRegression(max_iter=500))
    >>> model = model.fit(X[:900], y[:900])
    >>> new = TruncatedSVD(30, random_state=0).fit(X[:900])
    >>> stitched = stitch(model, select_anchors(model, X[:900]), encoder=new)
    >>> [name for name, _ in stitched.steps]
    ['encoder', 'invariantaggregator', 'logisticregression']
    >>> round(model.score(X[900:], y[900:]), 2)
    0.94
    >>> round(stitched.score(X[900:], y[900:]), 2)
    0.93
    >>> stitch(model, X[:100], encoder=new)
    Traceback (most recent call last):
        ...
    ValueError: anchors must be the model's own samples, in their order, as \
select_anchors(model, X) returns them...
    """
    check_is_fitted(model)
    if isinstance(anchors, str):
        raise TypeError(f"anchors must be several samples; got the text {anchors!r}")
    if encoder is not None and not hasattr(encoder, "transform"):
        raise TypeError(
            "encoder must be a fitted transformer (wrap a function in sklearn's "
            f"FunctionTransformer); got {type(encoder).__name__}"
        )
    anchors, old_anchors = in_memory(anchors), in_memory(old_anchors)
    targets = {} if y is None else {"y": in_memory(y)}
    steps = projecting_steps(model)
    if old_anchors is not None:
        if X is not None:
            targets["X"] = X if encoder is None else _encode(encoder, in_memory(X), "X")
        stitched, rows = _stitch_head(
            model, steps, anchors, old_anchors, encoder, targets
        )
    elif not steps:
        raise TypeError(
            "nothing in the model can be rebased: it must be, or have inside, an "
            "InvariantVotingClassifier, a RelativeProjector or another estimator with "
            "a rebase method (in a Pipeline before one-vs-rest, bagging and the like, "
            "not inside).  For any other head pass the anchors in its own space as "
            f"old_anchors=; got {model!r}"
        )
    else:
        old_anchors = getattr(steps[0], "anchors_", None)
        left_out = _check_steps(model, steps, encoder, y, X)
        rows = anchors if encoder is None else _encode(encoder, anchors)
        if encoder is not None:
            _check_samples(left_out[0], steps[0], anchors)
        if X is not None:
            targets["X"] = X if encoder is None else _encode(encoder, in_memory(X), "X")

        def rebase(step):
            options = {} if isinstance(step, EncoderGuard) else targets
            try:
                return step.rebase(rows, **options)
            except (TypeError, ValueError) as error:
                _check_rows("anchors", rows, error)
                raise

        stitched, _ = replace_step(model, rebase, encoder=encoder)
        chosen = getattr(steps[0], "anchors", None)
        if guards_in(stitched) and isinstance(chosen, str) and chosen not in _RANDOM:
            warnings.warn(
                "the anchors must be a random sample for the EncoderGuard to be fitted "
                "on them, or it reports right rows: fit the stitched model's guard "
                f"again, on rows of the new encoder; got anchors={chosen!r}",
                UserWarning,
                stacklevel=2,
            )
    _warn_of_thresholds(model)
    _warn_of_mismatches(old_anchors, rows)
    return stitched


def _warn_of_thresholds(model):
    """Name the thresholds that a stitched model keeps."""
    thresholds = [
        part.best_threshold_
        if isinstance(part, TunedThresholdClassifierCV)
        else part.threshold
        for part in path_to_step(model)
        if isinstance(part, FixedThresholdClassifier | TunedThresholdClassifierCV)
    ]
    if kept := [f"{x:.3g}" for x in thresholds if x != "auto"]:
        warnings.warn(
            "a decision threshold must suit the model's probabilities, which change "
            "with the encoder: forecast_swap(old_proba, new_proba, own_score=...)"
            ".threshold(...) gives the new one, for a FixedThresholdClassifier around "
            f"the stitched model; got a model that keeps {', '.join(kept)}",
            UserWarning,
            stacklevel=3,
        )


def _stitch_head(model, steps, anchors, old_anchors, encoder, targets):
    """Return a head without anchors behind translations, and the new encoded anchors.

    `steps` are those of the model that hold anchors, of which there must be none.
    """
    if steps:
        raise ValueError(
            "old_anchors must be None for a model with anchors of its own, which "
            "stitch(model, anchors) takes in the new space; got a model with a "
            f"{type(steps[0]).__name__}"
        )
    if not (is_classifier(model) or is_regressor(model)):
        raise TypeError(
            "with old_anchors the model must be a fitted classifier or regressor; got "
            f"{model!r}"
        )
    if guards := guards_in(model):
        raise TypeError(
            "with old_anchors the model must have no EncoderGuard, which would report "
            "the rows of the new encoder, translated as they are; put a guard of the "
            f"new encoder before the stitched model; got the steps {list(guards)}"
        )
    rows = anchors if encoder is None else _encode(encoder, anchors)
    _check_rows("anchors", rows)
    _check_rows("old_anchors", old_anchors)
    n_rows = [_matrix(X).shape[0] for X in (rows, old_anchors)]
    if n_rows[0] != n_rows[1]:
        raise ValueError(
            "anchors and old_anchors must be the same samples in the same order; got "
            f"{n_rows[0]} and {n_rows[1]} rows"
        )
    stitched = pool_translations(model, rows, old_anchors, **targets)
    return (stitched if encoder is None else make_pipeline(encoder, stitched)), rows


def _check_steps(model, steps, encoder, y, X):
    """Refuse steps or inputs that a stitch would lose; return the steps before."""
    _, left_out = replace_step(model, lambda step: step)
    names = [name for before in left_out for name, _ in before]
    if encoder is None and names:
        raise ValueError(
            "encoder must be the new encoder, and anchors raw samples, where a model "
            "has steps before the projecting one, which belong to the old encoder; got "
            f"the steps {names} and no encoder"
        )
    for step in steps:
        if X is not None and "X" not in signature(step.rebase).parameters:
            raise TypeError(
                f"X must be None, since {type(step).__name__}.rebase takes no rows "
                f"beside the anchors; got a {type(X).__name__}"
            )
    if y is None:
        return left_out
    for step in steps:
        if "y" not in signature(step.rebase).parameters:
            raise TypeError(
                f"y must be None, since {type(step).__name__}.rebase takes no labels "
                "or targets of the anchors (InvariantVotingClassifier and "
                f"InvariantVotingRegressor take them); got {type(y).__name__}"
            )
    changed = any(hasattr(part, "regressor_") for part in path_to_step(model))
    if is_classifier(model):
        changed |= not np.array_equal(model.classes_, steps[0].classes_)
    if changed:
        raise TypeError(
            f"y must be None, since the {type(steps[0]).__name__} inside the model was "
            "fitted on encoded labels or transformed targets; got a "
            f"{type(model).__name__}"
        )
    return left_out


def _encode(encoder, raw, name="the anchors"):
    """Return raw samples encoded, or refuse rows that are encoded already."""
    try:
        return encoder.transform(raw)
    except NotFittedError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        if not _are_numbers(raw):
            raise
        raise ValueError(
            f"with encoder= {name} must be raw samples, as the encoder takes them "
            "(for encoded ones leave out encoder=, and of a model with an encoder "
            "inside stitch the steps after it); got rows on which "
            f"{type(encoder).__name__}.transform fails, of shape "
            f"{_matrix(raw).shape}"
        ) from error


def _check_samples(before, step, anchors):
    """Refuse raw anchors of which the old encoder does not make the model's own."""
    own = getattr(step, "anchors_", None)
    if own is None or not before:
        return

    def encode():
        X = anchors
        for _, transformer in before:
            X = transformer.transform(X)
        return _matrix(X).astype(np.float64)

    try:
        found = encode()
    except Exception:  # whatever keeps an old encoder from working
        return
    own = _matrix(own)
    if found.shape != own.shape:
        return  # rebase refuses another number of anchors
    own, rounding = own.astype(np.float64), np.finfo(own.dtype).eps
    unit = power_of_two(abs(own).max())
    own, found = own / unit, found / unit
    one_before = np.roll(np.arange(own.shape[0]), 1)
    tolerance = _ROUNDINGS * rounding * row_norms(own)
    tolerance += _ALIKE * np.median(row_norms(own - own[one_before]))
    differ = ~(row_norms(found - own) <= tolerance)
    if not differ.any() or (row_norms(encode() / unit - found) > tolerance).any():
        return  # the same samples, or a random encoder
    rows = np.flatnonzero(differ).tolist()
    named = ", ".join(map(str, rows[:10])) + ", ..." * (len(rows) > 10)
    raise ValueError(
        "anchors must be the model's own samples, in their order, as "
        "select_anchors(model, X) returns them (where the two encoders take samples in "
        "different forms, stitch the steps after the encoder, on encoded anchors); by "
        f"the encoder inside the model, got other samples in rows {named} "
        f"({len(rows)} of {len(differ)})"
    )


def _are_numbers(X):
    """Whether these are rows of numbers, and not texts or images."""
    try:
        check_array(X, accept_sparse=True, ensure_all_finite=False)
    except (TypeError, ValueError):
        return False
    return True


def _check_rows(name, X, error=None):
    """Refuse raw samples in the place of rows."""
    if not _are_numbers(X):
        raise TypeError(
            f"{name} must be rows of numbers, of shape (n_anchors, n_features) (for "
            "raw anchors pass the new encoder as encoder=; old_anchors are always "
            f"encoded); got raw samples, or other rows, in a {type(X).__name__}"
        ) from error


def _matrix(X):
    """Return rows of any library as an array or sparse matrix in memory."""
    X = to_numpy(in_memory(X))
    return X.tocsr() if issparse(X) else X


def _warn_of_mismatches(old, new):
    """Warn if the new anchors seem to be other samples than the old ones."""
    if old is None or _matrix(old).shape[0] < FEWEST_ROWS:
        return
    old, new = (_matrix(X) for X in (old, new))
    warn_of_mismatches(
        *(X.toarray() if issparse(X) else X for X in (old, new)),
        samples="the old and the new anchors",
        stacklevel=3,
    )
