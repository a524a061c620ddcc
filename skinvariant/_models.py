"""The one walk through models: to the step that holds anchors, and back around it.

It handles estimators with a `rebase` method, and these inside a Pipeline, a
FrozenEstimator, a fitted search, a wrapper that predicts by one fitted ``estimator_``
or ``regressor_`` (a threshold, a transformed target), a CalibratedClassifierCV, a
VotingClassifier or VotingRegressor, and a pool of `skinvariant.pooling`, at any depth.

An `EncoderGuard` before that step stays, and is rebased with it.

It stops at models that train their members on other rows or columns than their own
(bagging, boosting, one-vs-rest, chains, stacking), and at feature selection.
"""

import copy

import numpy as np
from scipy.sparse import issparse
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import Bunch

from skinvariant._validation import to_numpy
from skinvariant.guard import EncoderGuard
from skinvariant.pooling import PooledClassifier, PooledRegressor

# where wrappers of scikit-learn keep the one fitted model that predicts for them
_ONE_INSIDE = ("best_estimator_", "estimator_", "regressor_")


def path_to_step(model):
    """Return the models on the way to the first one that holds anchors.

    Parameters
    ----------
    model : estimator
        A fitted model; of a Pipeline of bare steps also one that is not.

    Returns
    -------
    list of estimator
        From `model` itself to the first estimator with a `rebase` method, each inside
        the one before it.  Empty where there is none.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skinvariant import RelativeProjector
    >>> from skinvariant._models import path_to_step
    >>> model = make_pipeline(RelativeProjector(5), LogisticRegression())
    >>> [type(part).__name__ for part in path_to_step(model)]
    ['Pipeline', 'RelativeProjector']
    """
    if _holds_anchors(model):
        return [model]
    for part in _inside(model).values():
        if path := path_to_step(part):
            return [model, *path]
    return []


def projecting_steps(model):
    """Return everything in a model that holds anchors of the space its rows are from.

    Parameters
    ----------
    model : fitted estimator
        A fitted model.

    Returns
    -------
    list of estimator
        One; of a vote, a pool or calibrated folds one for each member that has one.

    Raises
    ------
    ValueError
        If these do not share their anchors.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.frozen import FrozenEstimator
    >>> from skinvariant import RelativeProjector
    >>> from skinvariant._models import projecting_steps
    >>> X = np.random.default_rng(0).standard_normal((20, 3))
    >>> model = FrozenEstimator(RelativeProjector(5, random_state=0).fit(X))
    >>> [step.anchors_.shape for step in projecting_steps(model)]
    [(5, 3)]
    """
    if _holds_anchors(model):
        return [model]
    found = [projecting_steps(part) for part in _inside(model).values()]
    found = [steps for steps in found if steps]
    if isinstance(model, Pipeline):  # a later one is part of the head
        return found[0] if found else []
    steps = [step for steps in found for step in steps]
    if all(_share_anchors(steps[0], step, _votes(model)) for step in steps[1:]):
        return steps
    if hasattr(model, "calibrated_classifiers_"):
        raise ValueError(
            f"the {len(model.calibrated_classifiers_)} folds of a "
            f"{type(model).__name__} have each drawn anchors of their own: fit it with "
            "ensemble=False, or around FrozenEstimator(model), so that there is one set"
        )
    raise ValueError(
        f"all members of a {type(model).__name__} must have the same anchors: give "
        "each the same indices, or the same random_state"
    )


def replace_step(model, replace, *, encoder=None):
    """Return a model of the same shape around another projecting step.

    Parameters
    ----------
    model : fitted estimator
        A fitted model.  It is not changed: what lies on the way is copied, all else
        is shared.
    replace : callable
        Takes an estimator with a `rebase` method and returns what takes its place.
        It is called once for each member of a vote, a pool or calibrated folds, and
        for each `EncoderGuard` before one.
    encoder : transformer, default=None
        Takes the place of the first steps that are left out; at the start of the
        whole model where there are none, or several members have such steps.

    Returns
    -------
    model : fitted estimator or None
        The new model; None where nothing can be replaced.
    left_out : list of list of (str, transformer)
        For each call of `replace` the steps before it, which belong to the old
        encoder and are not in the new model, by name from the outside in.

    Raises
    ------
    TypeError
        If some members of a vote or a pool hold anchors and others do not.
    ValueError
        If the members do not share their anchors.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skinvariant import RelativeProjector
    >>> from skinvariant._models import replace_step
    >>> X = np.random.default_rng(0).standard_normal((20, 3))
    >>> model = make_pipeline(StandardScaler(), RelativeProjector(5)).fit(X)
    >>> new, left_out = replace_step(model, lambda step: step.rebase(step.anchors_))
    >>> [name for name, _ in new.steps], [name for name, _ in left_out[0]]
    (['relativeprojector'], ['standardscaler'])
    """
    projecting_steps(model)  # for its check
    found = _replaced(model, replace, encoder)
    if found is None:
        return None, []
    new, left_out, placed = found
    if encoder is not None and not placed:
        is_pipeline = isinstance(new, Pipeline)
        new = _led_by(encoder, new) if is_pipeline else make_pipeline(encoder, new)
    return new, left_out


def unfitted_steps(model):
    """Return what would hold anchors in a model that need not be fitted.

    Parameters
    ----------
    model : estimator
        A Pipeline at any depth, a VotingClassifier or VotingRegressor of such, or an
        estimator alone.

    Returns
    -------
    paths : list of str
        The prefixes of the parameters of the first step with a `rebase` method and a
        parameter `anchors`; of a vote one for each member.
    later : list of estimator
        The steps after it; of a vote those of the first member.

    Raises
    ------
    TypeError
        If a model, or a member of a vote, does not start with such a step, or is no
        classifier or regressor.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skinvariant import RelativeProjector
    >>> from skinvariant._models import unfitted_steps
    >>> unfitted_steps(make_pipeline(RelativeProjector(5), LogisticRegression()))
    (['relativeprojector__'], [LogisticRegression()])
    """
    path, later, step = "", [], model
    while isinstance(step, Pipeline):
        steps = [x for x in step.steps if x[1] is not None and x[1] != "passthrough"]
        path += f"{steps[0][0]}__"
        later = [x for _, x in steps[1:]] + later
        step = steps[0][1]
    if not path and hasattr(model, "estimators") and hasattr(model, "weights"):
        members = {
            name: unfitted_steps(member)
            for name, member in model.estimators
            if member != "drop"
        }
        if members:
            paths = [f"{name}__{inner[0]}" for name, (inner, _) in members.items()]
            return paths, next(iter(members.values()))[1]
    holds_anchors = hasattr(step, "rebase") and "anchors" in step.get_params()
    if not holds_anchors or not (is_classifier(model) or is_regressor(model)):
        raise TypeError(
            "model must be a classifier or regressor: a Pipeline that starts with a "
            "RelativeProjector, InvariantAggregator or other projecting step, since "
            "spaces are encoded already, a vote of such, or a head that projects "
            f"itself; got {model!r}"
        )
    return [path], later


def seeded_clone(estimator, seed):
    """Return a clone that draws nothing at random but from a seed.

    Parameters
    ----------
    estimator : estimator
        An estimator, which need not be fitted.
    seed : int
        Takes the place of every `random_state` that is None, at any depth.

    Returns
    -------
    estimator
        The clone, not fitted.

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.pipeline import make_pipeline
    >>> from skinvariant._models import seeded_clone
    >>> seeded_clone(make_pipeline(PCA()), 3)[0].random_state
    3
    """
    unset = [
        name
        for name, value in estimator.get_params().items()
        if name.rpartition("__")[2] == "random_state" and value is None
    ]
    return clone(estimator).set_params(**dict.fromkeys(unset, seed))


def _holds_anchors(model):
    """Whether a model is itself what can be rebased; a frozen one has it inside."""
    others = FrozenEstimator | EncoderGuard
    return hasattr(model, "rebase") and not isinstance(model, others)


def guards_in(model):
    """Return the guards in a fitted model, at any depth, by name."""
    if isinstance(model, EncoderGuard):
        return {"": model}
    if isinstance(model, FrozenEstimator):
        return guards_in(model.estimator)
    return {
        f"{name}__{inner}".removesuffix("__"): guard
        for name, part in _inside(model).items()
        for inner, guard in guards_in(part).items()
    }


def _votes(model):
    """Whether a fitted model is a vote of several."""
    if not hasattr(model, "named_estimators_"):
        return False  # most are not, and loading the ensembles takes time
    from sklearn.ensemble import VotingClassifier, VotingRegressor

    return isinstance(model, VotingClassifier | VotingRegressor)


def _inside(model):
    """Return the fitted models that a model passes its rows to, by name.

    Of a Pipeline these are its steps, each of which gets what the one before returns.
    """
    if isinstance(model, FrozenEstimator):  # first: it has all attributes of its inside
        return {"estimator": model.estimator}
    if isinstance(model, Pipeline):
        steps = model.steps
        return {name: x for name, x in steps if x is not None and x != "passthrough"}
    if _votes(model):
        names = [name for name, member in model.estimators if member != "drop"]
        return dict(zip(names, model.estimators_, strict=True))
    if isinstance(model, PooledClassifier | PooledRegressor):
        return dict(model.estimators)
    if hasattr(model, "calibrated_classifiers_"):
        folds = enumerate(model.calibrated_classifiers_)
        return {f"fold {i}": fold.estimator for i, fold in folds}
    # of an ensemble estimator_ is a template, and a selector passes on fewer columns
    if not hasattr(model, "estimators_") and not hasattr(model, "get_support"):
        for name in _ONE_INSIDE:
            if hasattr(model, name):
                return {name: getattr(model, name)}
    return {}


def _with_inside(model, parts):
    """Return a copy of a model, not a Pipeline, around other fitted models."""
    if isinstance(model, FrozenEstimator):
        return FrozenEstimator(*parts.values())
    new, members = copy.copy(model), list(parts.values())
    if _votes(model):
        new.estimators_ = members
        new.named_estimators_ = Bunch(**{**model.named_estimators_, **parts})
    elif isinstance(model, PooledClassifier | PooledRegressor):
        new.estimators = list(parts.items())
    elif hasattr(model, "calibrated_classifiers_"):
        new.calibrated_classifiers_ = [
            copy.copy(fold) for fold in model.calibrated_classifiers_
        ]
        for fold, member in zip(new.calibrated_classifiers_, members, strict=True):
            fold.estimator = member
    else:
        (name,) = parts
        setattr(new, name, members[0])
    for name in ("n_features_in_", "feature_names_in_"):
        vars(new).pop(name, None)
        if hasattr(members[0], name) and not hasattr(new, name):  # no property of it
            setattr(new, name, getattr(members[0], name))
    return new


def _replaced(model, replace, encoder):
    """Do the work of `replace_step`; return third whether the encoder has its place."""
    if _holds_anchors(model):
        return replace(model), [[]], False
    if isinstance(model, Pipeline):
        return _replaced_in_pipeline(model, replace, encoder)
    inside = _inside(model)
    alone = len(inside) == 1
    found = {
        name: _replaced(part, replace, encoder if alone else None)
        for name, part in inside.items()
    }
    if not any(found.values()):
        return None
    if without := [name for name in found if found[name] is None]:
        raise TypeError(
            f"every member of a {type(model).__name__} must hold anchors, or it would "
            f"stay in the old space (an InvariantVotingClassifier or "
            "InvariantVotingRegressor may have a member on the space itself: "
            f"absolute=True); got {without[0]!r} without anchors"
        )
    left_out = [
        [(name if alone else f"{member}__{name}", step) for name, step in steps]
        for member, (_, chains, _) in found.items()
        for steps in chains
    ]
    new = _with_inside(model, {name: part for name, (part, *_) in found.items()})
    return new, left_out, alone and all(placed for *_, placed in found.values())


def _replaced_in_pipeline(model, replace, encoder):
    """Replace in the first step that holds anchors, and leave out those before it."""
    before, guards = [], []
    for position, (name, step) in enumerate(model.steps):
        if step is None or step == "passthrough":
            continue
        first = not before and not guards
        found = _replaced(step, replace, encoder if first else None)
        if found is None:
            kept = guards_in(step)
            guards += [(f"{name}__{x}".strip("_"), one) for x, one in kept.items()]
            if list(kept) != [""]:
                before.append((name, step))
            continue
        replaced, left_out, placed = found
        new = copy.copy(model)
        guards = [(x.replace("__", "_"), replace(guard)) for x, guard in guards]
        new.steps = [*guards, (name, replaced), *model.steps[position + 1 :]]
        if not first and encoder is not None:
            new, placed = _led_by(encoder, new), True
        inner = [[(f"{name}__{x}", step) for x, step in steps] for steps in left_out]
        return new, [before + steps for steps in inner], placed
    return None


def _led_by(encoder, model):
    """Return a Pipeline with an encoder before its steps, under a name of its own."""
    names, name = {name for name, _ in model.steps}, "encoder"
    while name in names:
        name = f"new_{name}"
    new = copy.copy(model)
    new.steps = [(name, encoder), *model.steps]
    return new


def _share_anchors(step, other, same_rows):
    """Whether two fitted steps have the same samples as anchors.

    By their values; or by their indices, where both were fitted on the same rows.
    """
    held = [getattr(x, "anchors_", None) for x in (step, other)]
    if held[0] is None or held[1] is None:
        return True  # a projecting step of one's own need not store them
    sizes = {getattr(x, "n_samples_fit_", None) for x in (step, other)}
    if same_rows and len(sizes) == 1 and None not in sizes:
        return np.array_equal(*(to_numpy(x.anchor_indices_) for x in (step, other)))
    if held[0].shape != held[1].shape:
        return False
    a, b = (to_numpy(anchors) for anchors in held)
    if issparse(a) or issparse(b):
        return abs(a - b).sum() == 0
    return np.array_equal(a, b)
