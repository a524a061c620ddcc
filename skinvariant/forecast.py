"""What a change of encoder costs, from predictions alone, without labels."""

import dataclasses
from collections import Counter
from functools import cached_property
from numbers import Integral, Real

import numpy as np
from scipy.optimize import brentq
from scipy.sparse import issparse
from scipy.special import log_softmax, softmax
from scipy.stats import binomtest, norm
from sklearn.utils import check_array
from sklearn.utils.multiclass import type_of_target

from skinvariant._dask import in_memory
from skinvariant._files import parsing, read_json, write_json
from skinvariant._validation import (
    check_choice,
    check_indices,
    check_labels,
    check_number,
    in_numpy,
    to_numpy,
)

__all__ = [
    "SwapForecast",
    "accuracy_bounds",
    "expected_changes",
    "forecast_swap",
    "least_accuracy",
]

_FORMAT = "skinvariant.SwapForecast"
# Half an interval of 95%, as a part of the way from the middle of the bounds to one of
# them: the least multiple of .1 that covers .93 on each data set and way of swapping of
# examples/benchmarks/forecast.py; of numbers, from a trial on two data sets
_PART = {"probabilities": 0.5, "labels": 0.7, "numbers": 0.9}
_LEAST_PROBABILITY = 1e-6
# temperatures from 1/50 to 50
_MOST = np.log(50)
# by how much the sums of probabilities may differ from 1, in the median: logs round
_SUM = 0.1
# so few rows of two models may have no label in common
_FEW = 20
_KEPT = ("false_positives", "share")
_GATES = ("bound", "estimate")


# --- mathematics --------------------------------------------------------------------


def accuracy_bounds(own, disagreement):
    """Return between which values the accuracy of a second model must be.

    Its errors and those of the first model add up to the disagreement or more, and
    its accuracy differs by the disagreement at most.

    Parameters
    ----------
    own : float in [0, 1]
        Accuracy of the first model.
    disagreement : float in [0, 1]
        Share of the same rows for which the two predict different labels.

    Returns
    -------
    low : float
        The lower bound.
    high : float
        The upper one.  Each is reached by some labels where there are 3 classes or
        more.  Their middle is ``min(own, 1 - disagreement)``, unless it is cut at 0.

    Examples
    --------
    >>> from skinvariant.forecast import accuracy_bounds
    >>> [round(bound, 2) for bound in accuracy_bounds(0.9, 0.15)]
    [0.75, 0.95]
    >>> [round(bound, 2) for bound in accuracy_bounds(0.9, 0.05)]
    [0.85, 0.95]
    """
    low = max(own - disagreement, 0.0)
    return low, max(min(own + disagreement, 2 - own - disagreement), low)


def _tempered(proba, mean):
    """Return probabilities at the temperature at which the largest have this mean."""
    logs = np.log(np.maximum(proba, _LEAST_PROBABILITY))

    def excess(log_power):
        powered = log_softmax(np.exp(log_power) * logs, axis=1)
        return np.exp(powered.max(axis=1)).mean() - mean

    if excess(-_MOST) >= 0 or excess(_MOST) <= 0:
        power = np.exp(-_MOST if excess(-_MOST) >= 0 else _MOST)
    else:
        power = np.exp(brentq(excess, -_MOST, _MOST, xtol=1e-6))
    return softmax(power * logs, axis=1)


def _joint_posterior(old, new, own, after):
    """Return the product of two models' probabilities, each at its accuracy."""
    joint = _tempered(old, own) * _tempered(new, after)
    return joint / joint.sum(axis=1, keepdims=True)


def expected_changes(old, new, own):
    r"""Return by how much each row is expected to change the accuracy.

    Parameters
    ----------
    old, new : ndarray of shape (n_samples,), dtype int, or (n_samples, n_classes)
        What both models predict: numbers of the classes, or probabilities.
    own : float in [0, 1]
        Accuracy of the old model.

    Returns
    -------
    ndarray of shape (n_samples,)
        Expectations of "the new label is right" minus "the old label is right", in
        [-1, 1], and 0 where both are the same.

    Notes
    -----
    With labels alone, every row of which the labels differ has the same value, so that
    their mean leads to the middle of `accuracy_bounds`.

    With probabilities :math:`p_i` and :math:`q_i`, both are brought to the temperature
    at which the mean of the largest one is `own`, and the middle of the bounds.  Their
    product, normalised, is :math:`m_i`; of the labels :math:`o_i \ne n_i` of row i,

    .. math:: e_i = w (m_i(n_i) - m_i(o_i)) + (1 - w) e,

    where :math:`e` is the value with labels alone, and the probabilities count by
    :math:`w = 2 - d / (1 - \text{own})`, between 0 and 1: with a disagreement
    :math:`d \ge 2 (1 - \text{own})` the new model is certainly worse, and
    probabilities under a shift as large mislead.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.forecast import expected_changes
    >>> old, new = np.array([0, 1, 1, 0, 1]), np.array([0, 1, 0, 1, 1])
    >>> expected_changes(old, new, own=0.8).round(3).tolist()
    [0.0, 0.0, -0.5, -0.5, 0.0]
    """
    labels = [x if x.ndim == 1 else x.argmax(axis=1) for x in (old, new)]
    differ = labels[0] != labels[1]
    changes = np.zeros(len(differ))
    disagreement = differ.mean()
    if disagreement == 0:
        return changes
    middle = np.mean(accuracy_bounds(own, disagreement))
    changes[differ] = (middle - own) / disagreement
    if old.ndim == 1 or own == 1:
        return changes
    weight = np.clip(2 - disagreement / (1 - own), 0, 1)
    old_labels, new_labels = (x[differ] for x in labels)
    joint = _joint_posterior(old, new, own, middle)[differ]
    rows = np.arange(len(joint))
    gains = joint[rows, new_labels] - joint[rows, old_labels]
    changes[differ] += weight * (gains - changes[differ])
    return changes


def _proportion(count, n, confidence, alternative="two-sided"):
    """Return the Clopper-Pearson interval of a share."""
    test = binomtest(int(count), int(n), alternative=alternative)
    low, high = test.proportion_ci(confidence, method="exact")
    return float(low), float(high)


def least_accuracy(n_differ, n_rows, own=None, own_rows=None, confidence=0.95):
    """Return how much accuracy a second model can lose, and how much it must keep.

    Parameters
    ----------
    n_differ, n_rows : int
        For how many of how many rows the two models predict different labels.
    own : float in [0, 1], default=None
        Accuracy of the first model.
    own_rows : int, default=None
        On how many rows `own` was measured; None: it is exact.
    confidence : float in (0, 1), default=0.95
        The probability with which both hold, by one-sided Clopper-Pearson intervals.

    Returns
    -------
    most_lost : float
        The accuracy is lower by this at most.
    bound : float or None
        The accuracy is this at least; None without `own`.

    Examples
    --------
    >>> from skinvariant.forecast import least_accuracy
    >>> [round(x, 3) for x in least_accuracy(30, 1000, own=0.9)]
    [0.04, 0.86]
    >>> [round(x, 3) for x in least_accuracy(30, 1000, own=0.9, own_rows=1000)]
    [0.043, 0.837]
    """
    # each of two uncertain parts may have half of the errors
    error = (1 - confidence) / (1 if own_rows is None else 2)
    most_lost = _proportion(n_differ, n_rows, 1 - error, "less")[1]
    if own is None:
        return most_lost, None
    if own_rows is not None:
        n_right = round(own * own_rows)
        own = _proportion(n_right, own_rows, 1 - error, "greater")[0]
    return most_lost, max(own - most_lost, 0.0)


def _combined(expected, labelled, z, spread):
    """Return the mean change of rows that differ, from labels too, and its variance.

    The expectations are the prior, of which `spread` is the standard deviation; the
    labels of a random part of the rows correct them.

    Parameters
    ----------
    expected : ndarray of shape (n_rows,)
        Expected changes of all rows that differ.
    labelled : ndarray of shape (n_labelled,), dtype int
        Which of them have a label.
    z : ndarray of shape (n_labelled,)
        Their true changes: -1, 0 or 1.
    spread : float
        Of the mean of the true changes around that of the expected ones; infinite
        where nothing is expected.
    """
    mean = expected.mean()
    if not len(labelled):
        return mean, spread**2
    gaps = z - expected[labelled]
    # one more gap of size 1, or the variance of few equal ones would be 0
    variance = (np.sum((gaps - gaps.mean()) ** 2) + 1) / len(gaps)
    variance *= (1 - len(gaps) / len(expected)) / len(gaps)
    if variance == 0:
        return mean + gaps.mean(), 0.0
    share = 1.0 if np.isinf(spread) else spread**2 / (spread**2 + variance)
    return mean + share * gaps.mean(), share * variance


# --- input --------------------------------------------------------------------------


def _read(name, values):
    """Return predictions as an array, and of which kind they are."""
    if issparse(values):
        raise TypeError(
            f"{name} must be dense; got a sparse matrix: use {name}.toarray()"
        )
    columns = getattr(values, "columns", None)
    array = np.asarray(to_numpy(in_numpy(name, in_memory(values))))
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(
            f"{name} must be predictions for one row or more, of shape (n_samples,), "
            f"(n_samples, n_classes) or (n_samples, n_outputs); got {array.shape}"
        )
    if array.ndim == 1:
        if array.dtype.kind not in "fc" or type_of_target(array) != "continuous":
            return _as_labels(name, array), "labels", None
        return _as_numbers(name, array), "numbers", None
    array = _as_numbers(name, array)
    sums = array.sum(axis=1)
    if array.min() < 0 or array.max() > 1 + _SUM or abs(np.median(sums) - 1) > _SUM:
        return array, "numbers", None
    if np.abs(sums - 1).max() > 2 * _SUM:
        raise ValueError(
            f"the rows of {name} must sum to 1, as probabilities do; got sums from "
            f"{sums.min():.3g} to {sums.max():.3g}"
        )
    names = None if columns is None else np.asarray(columns)
    return array, "probabilities", names


def _as_labels(name, labels):
    """Return labels, times as texts, which files can hold."""
    labels = check_labels(labels, name)
    return labels.astype(str) if labels.dtype.kind in "mM" else labels


def _as_numbers(name, array):
    return check_array(
        to_numpy(array), dtype=np.float64, ensure_2d=False, input_name=name, copy=True
    )


def _check_pair(old, new, classes):
    """Return two models' predictions, their kind, and the classes."""
    indices = [getattr(x, "index", None) for x in (old, new)]
    if all(hasattr(index, "equals") for index in indices):
        a, b = indices
        if (
            len(a) == len(b)
            and not a.equals(b)
            and a.sort_values().equals(b.sort_values())
        ):
            raise ValueError(
                "old and new must have their rows in the same order; got the same "
                "index in two orders: use new.loc[old.index]"
            )
    read = [_read(name, x) for name, x in (("old", old), ("new", new))]
    (old, kind, names), (new, other, new_names) = read
    if kind != other or len(old) != len(new) or old.shape[1:] != new.shape[1:]:
        raise ValueError(
            "old and new must be predictions of one kind for the same rows, labels, "
            f"probabilities of the same classes, or numbers; got {kind} of shape "
            f"{old.shape} and {other} of shape {new.shape}"
        )
    if names is not None and new_names is not None:
        if not np.array_equal(names, new_names):
            raise ValueError(
                "the columns of old and new must be the same classes in the same "
                f"order; got {names.tolist()[:10]} and {new_names.tolist()[:10]}"
            )
        classes = names if classes is None else classes
    if kind == "numbers":
        if classes is not None:
            raise ValueError(
                "with classes, old and new must be labels or probabilities of shape "
                f"(n_samples, n_classes), whose rows sum to 1; got shape {old.shape}"
            )
        return old, new, kind, None
    if kind == "labels":
        return *_check_both_labels(old, new, classes), kind, classes
    classes = np.arange(old.shape[1]) if classes is None else _check_classes(classes)
    if len(classes) != old.shape[1]:
        raise ValueError(
            "classes must name each column of the probabilities; got "
            f"{len(classes)} classes and {old.shape[1]} columns"
        )
    return old, new, kind, classes


def _check_classes(classes):
    classes = _as_labels("classes", np.asarray(to_numpy(classes)))
    if len(np.unique(classes)) < len(classes):
        raise ValueError(f"classes must be distinct; got {classes.tolist()}")
    return classes


def _check_both_labels(old, new, classes):
    """Refuse labels that cannot be compared."""
    texts = [x.dtype.kind in "UTOSMm" for x in (old, new)]
    common = set(old.tolist()) & set(new.tolist())
    if texts[0] != texts[1] or (not common and len(old) >= _FEW):
        raise ValueError(
            "old and new must have labels in common; got "
            f"{np.unique(old).tolist()[:5]} and {np.unique(new).tolist()[:5]}"
        )
    if classes is not None:
        known = set(_check_classes(classes).tolist())
        if unknown := (set(old.tolist()) | set(new.tolist())) - known:
            raise ValueError(
                f"old and new must have labels of classes, {sorted(known, key=str)}; "
                f"got {sorted(unknown, key=str)[:10]}"
            )
    return old, new


def _check_own_score(own_score, kind):
    """Return the own score, and how many rows it is from or the targets' deviation."""
    if own_score is None:
        return None, None
    pair = isinstance(own_score, tuple | list) and len(own_score) == 2
    if kind == "numbers":
        if not pair:
            raise ValueError(
                "own_score of numbers must be a pair (R2, standard deviation of the "
                f"targets, one or one for each output); got {own_score!r}"
            )
        check_number("the R2 in own_score", own_score[0], Real, -1e300, 1)
        spread = check_array(
            np.atleast_1d(own_score[1]), ensure_2d=False, dtype=np.float64
        )
        if (spread <= 0).any():
            raise ValueError(
                "the standard deviation in own_score must be above 0; got "
                f"{own_score[1]!r}"
            )
        return float(own_score[0]), spread
    if not pair:
        return float(check_number("own_score", own_score, Real, 0, 1)), None
    n_rows = check_number("n_rows in own_score", own_score[1], Integral, 1)
    n_right = check_number("n_right in own_score", own_score[0], Integral, 0, n_rows)
    return n_right / n_rows, int(n_rows)


def _check_targets(y, labelled, n_rows, kind, shape):
    """Return targets and the rows that they are of."""
    if y is None:
        if labelled is not None:
            raise ValueError("y must be the labels of the rows labelled; got None")
        return None, np.empty(0, dtype=np.intp)
    y = (_as_numbers if kind == "numbers" else _as_labels)("y", in_memory(y))
    y = y[:, 0] if y.shape[1:] == (1,) and not shape else y
    if labelled is None:
        labelled = np.arange(n_rows)
    labelled = check_indices(labelled, n_rows, source="labelled")
    if y.shape != (len(labelled), *shape):
        raise ValueError(
            f"y must be of shape {(len(labelled), *shape)}, one for each row of "
            f"labelled (or for all, without labelled); got shape {y.shape}"
        )
    return y, labelled


# --- the forecast -------------------------------------------------------------------


def forecast_swap(
    old,
    new,
    *,
    own_score=None,
    y=None,
    labelled=None,
    groups=None,
    classes=None,
    confidence=0.95,
):
    r"""Predict what a change of encoder costs, from predictions, without labels.

    Parameters
    ----------
    old, new : array-like of shape (n_samples,) or (n_samples, n_columns)
        What the old and the new model predict for the same rows, in the same order;
        logs are enough.  Three kinds: labels; probabilities, a column for each class,
        whose rows sum to 1; or the numbers of regressors, that is real numbers which
        are not all whole, or several columns that are no probabilities.
    own_score : float or tuple, default=None
        The old model's score on rows of this kind.  Of classifiers its accuracy, as a
        number, which is taken as exact, or as ``(n_right, n_rows)``, whose
        uncertainty is then included.  Of regressors ``(R2, deviation)``: the second
        is the standard deviation of the targets, a number or one for each output.
        None: only what does not depend on it is computed.
    y : array-like of shape (n_labelled,) or (n_labelled, n_outputs), default=None
        Labels or targets of some of the rows.
    labelled : array-like of shape (n_labelled,), dtype int, default=None
        Which rows `y` is of, a random sample: of classifiers either of all rows, or
        of those with different labels, as `SwapForecast.suspects` draws it.  None: all
        rows.
    groups : array-like of shape (n_samples,), default=None
        A name for each row, such as its language or customer, to compare groups.
    classes : array-like of shape (n_classes,), default=None
        The labels, in the order of the columns of probabilities: ``model.classes_``.
        None: the column names of frames, or 0, 1, ...
    confidence : float in [0.5, 1), default=0.95
        How probable it is that an interval holds the true value.

    Returns
    -------
    SwapForecast
        The disagreement, bounds and estimates.  `print` it first.

    Raises
    ------
    ValueError, TypeError
        If a parameter is not as documented.

    See Also
    --------
    skinvariant.cross_stitch : The same question, answered with labels.

    Notes
    -----
    *Bound.*  Each row that changes the accuracy is one for which the two models differ,
    so that the accuracy is no less than own accuracy minus disagreement.  `bound` has
    the upper end of a one-sided Clopper-Pearson interval of the disagreement, and of
    ``(n_right, n_rows)`` the lower one, each with half of the error allowed.

    *Estimate.*  It is the own accuracy plus the mean of `expected_changes`, whose
    Notes give the formulas.  The middle of the bounds has the largest part where the
    models differ in many rows, the product of both models' probabilities where they
    differ in few.  Agreement between models as an estimate of accuracy is due to [1]_.

    *Interval of the estimate.*  Nothing in the rows tells where between the bounds the
    accuracy is.  Half the width is .5 times the way from the middle of the bounds to
    their ends (.7 with labels alone, .9 of numbers) at 95%, and in proportion to the
    normal quantile at other `confidence`; the sampling errors of rows and of
    `own_score` are added, in squares.  The first two factors were chosen on 56 pairs of
    encoders, with 30 to 300 anchors, and the third on targets for two of their data
    sets; ``examples/benchmarks/forecast.py`` measures the first two, and the page
    :doc:`/forecast` gives the errors.

    *Labels.*  Only rows with different labels tell a change.  Labels of a random part
    of them correct the estimate by their mean deviation from what was expected, in
    proportion to the precision of both.

    *Numbers.*  Root mean squared errors, in units of the targets' deviation, obey the
    triangle inequality: with the root mean squared difference D between the models,
    ``sqrt(1 - R2)`` changes by D at most.  The middle of these bounds on ``1 - R2`` is
    ``1 - own R2 + D ** 2``, the value where the differences are not correlated with
    the old model's errors.

    References
    ----------
    .. [1] Y. Jiang et al., "Assessing generalization of SGD via disagreement", ICLR
       2022, arXiv 2106.13799.

    Examples
    --------
    A head for digits, when the images' pixels lose their grey tones:

    >>> from sklearn.datasets import load_digits
    >>> from skinvariant import InvariantVotingClassifier, forecast_swap
    >>> X, y = load_digits(return_X_y=True)
    >>> X_new = (X > 7).astype(float)
    >>> old = InvariantVotingClassifier(random_state=0).fit(X[:900], y[:900])
    >>> new = old.rebase(X_new[old.anchor_indices_])
    >>> own = old.score(X[900:1300], y[900:1300])
    >>> forecast = forecast_swap(
    ...     old.predict_proba(X[1300:]), new.predict_proba(X_new[1300:]), own_score=own
    ... )
    >>> print(forecast.summary().splitlines()[0])
    497 rows, 10 classes: the models disagree for 8.7% (95% interval 6.3% to 11.5%).
    >>> round(forecast.estimate, 2), round(forecast.bound, 2)
    (0.91, 0.85)
    >>> round(new.score(X_new[1300:], y[1300:]), 2)
    0.89
    """
    check_number("confidence", confidence, Real, 0.5, np.nextafter(1.0, 0))
    old, new, kind, classes = _check_pair(old, new, classes)
    own, own_rows = _check_own_score(own_score, kind)
    y, labelled = _check_targets(
        y, labelled, len(old), kind, old.shape[1:2] if kind == "numbers" else ()
    )
    if groups is not None:
        groups = _as_labels("groups", in_memory(groups))
        if len(groups) != len(old):
            raise ValueError(
                f"groups must have one name for each of the {len(old)} rows; got "
                f"{len(groups)}"
            )
    if kind == "numbers":
        content = _forecast_numbers(old, new, own, own_rows, y, labelled, confidence)
    else:
        content = _forecast_labels(
            old, new, classes, own, own_rows, y, labelled, confidence
        )
    differences, changes = content.pop("differences"), content.pop("changes")
    of_class = content.pop("of_class", None)
    parts = {"per_class": of_class, "per_group": groups}
    return SwapForecast(
        kind=kind,
        n_rows=len(old),
        confidence=float(confidence),
        **{
            name: _by_part(part, differences, changes, confidence)
            for name, part in parts.items()
        },
        **content,
    )


def _forecast_labels(old, new, classes, own, own_rows, y, labelled, confidence):
    """Return the content of a forecast for labels and probabilities."""
    if old.ndim == 1:
        kind, (names, codes) = "labels", np.unique([old, new], return_inverse=True)
        predicted = codes = list(codes)
    else:
        kind, names, predicted = "probabilities", classes, [old, new]
        codes = [x.argmax(axis=1) for x in predicted]
    rows, n_rows = np.flatnonzero(codes[0] != codes[1]), len(old)
    disagreement, told = len(rows) / n_rows, np.isin(rows, labelled)
    right = np.zeros((2, n_rows), dtype=int)
    if y is not None:
        right[:, labelled] = [names[x[labelled]] == y for x in codes]
        if own is None and len(labelled) == n_rows:
            own, own_rows = right[0].mean(), n_rows
    most_lost, bound = least_accuracy(len(rows), n_rows, own, own_rows, confidence)
    change = change_interval = estimate = interval = changes = None
    if own is not None or told.any() or (y is not None and not len(rows)):
        low, high = (0.0, np.inf) if own is None else accuracy_bounds(own, disagreement)
        spread = _PART[kind] / norm.ppf(0.975) * (high - low) / 2
        changes = np.zeros(n_rows) if own is None else expected_changes(*predicted, own)
        mean, variance = 0.0, 0.0
        if len(rows):
            mean, variance = _combined(
                changes[rows],
                np.flatnonzero(told),
                (right[1] - right[0])[rows[told]],
                spread / disagreement,
            )
            changes[rows] += mean - changes[rows].mean()
        change = disagreement * mean
        share = (len(rows) + 0.5) / (n_rows + 1)
        of_rows = max(share - change**2, 0.0) / n_rows
        variance = disagreement**2 * variance + of_rows
        half = norm.ppf((1 + confidence) / 2) * np.sqrt(variance)
        change_interval = _around(change, half, -most_lost, most_lost)
    if own is not None:
        estimate = float(np.clip(own + change, 0, 1))
        if own_rows is not None:
            share = (own * own_rows + 0.5) / (own_rows + 1)
            variance += share * (1 - share) / own_rows
        half = norm.ppf((1 + confidence) / 2) * np.sqrt(variance)
        interval = _around(estimate, half, bound, 1.0)
    pairs = zip(*(names[x[rows]].tolist() for x in codes), strict=True)
    return {
        "classes": tuple(names.tolist()),
        "own_score": own,
        "disagreement": disagreement,
        "disagreement_interval": _proportion(len(rows), n_rows, confidence),
        "most_lost": most_lost,
        "bound": bound,
        "change": change,
        "change_interval": change_interval,
        "estimate": estimate,
        "estimate_interval": interval,
        "flips": tuple((*pair, n) for pair, n in Counter(pairs).most_common()),
        "unlabelled": rows[~told],
        "predictions": predicted if kind == "probabilities" else None,
        "of_class": names[codes[0]],
        "differences": codes[0] != codes[1],
        "changes": changes,
    }


def _forecast_numbers(old, new, own, deviation, y, labelled, confidence):
    """Return the content of a forecast for numbers."""
    if len(old) < 2:
        raise ValueError("old and new must be 2 rows of numbers or more; got 1")
    old, new = (x.reshape(len(x), -1) for x in (old, new))
    quantile, n_outputs = norm.ppf((1 + confidence) / 2), old.shape[1]
    if y is not None:
        y = y.reshape(len(y), -1)
        if len(y) < 2 or (y.std(axis=0) == 0).any():
            raise ValueError(
                f"y must be 2 targets or more that differ, in each output; got {len(y)}"
            )
        deviation = y.std(axis=0) if deviation is None else deviation
    if deviation is not None and len(deviation) not in (1, n_outputs):
        raise ValueError(
            f"own_score must have one deviation, or one for each of {n_outputs} "
            f"outputs; got {len(deviation)}"
        )
    squares = ((new - old) ** 2 / (1 if deviation is None else deviation**2)).mean(1)
    mean, half = _mean_and_half(squares, confidence)
    sides = [np.sqrt(max(mean + x, 0)) for x in (0, -half, half)]
    most_lost = bound = change = change_interval = estimate = interval = None
    if y is not None:
        errors = [
            ((x[labelled] - y) ** 2 / deviation**2).mean(axis=1) for x in (old, new)
        ]
        own = 1 - errors[0].mean() if own is None else own
    if own is not None:
        # of root mean squared errors, in units of the targets' deviation
        rest, most = np.sqrt(1 - own), sides[2]
        bound = float(1 - (rest + most) ** 2)
        most_lost, change = float(own - bound), -mean
        spread = _PART["numbers"] / norm.ppf(0.975) * 2 * rest * np.sqrt(mean)
        half = np.hypot(half, quantile * spread)
        if y is not None:
            change, half = _mean_and_half(errors[0] - errors[1], confidence)
        change_interval = _around(change, half, -most_lost, 2 * rest * most)
        estimate = float(min(own + change, 1))
        interval = _around(estimate, half, bound, 1.0)
    return {
        "classes": None,
        "own_score": own,
        "disagreement": float(sides[0]),
        "disagreement_interval": (float(sides[1]), float(sides[2])),
        "most_lost": most_lost,
        "bound": bound,
        "change": change,
        "change_interval": change_interval,
        "estimate": estimate,
        "estimate_interval": interval,
        "flips": (),
        "unlabelled": np.empty(0, dtype=np.intp),
        "predictions": None,
        "differences": squares,
        "changes": None,
    }


def _mean_and_half(values, confidence):
    """Return a mean and half of its interval; that of one value is infinite."""
    if len(values) == 1:
        return float(values[0]), np.inf
    error = values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(norm.ppf((1 + confidence) / 2) * error)


def _around(value, half, low, high):
    """Return an interval, within bounds."""
    return tuple(float(np.clip(value + side, low, high)) for side in (-half, half))


def _by_part(names, differences, changes, confidence):
    """Return for each class or group what the forecast has for all rows."""
    found = {}
    for name in () if names is None else np.unique(names).tolist():
        rows = names == name
        n_rows, part = int(rows.sum()), differences[rows]
        change = None if changes is None else float(changes[rows].mean())
        if part.dtype == bool:
            low, high = _proportion(part.sum(), n_rows, confidence)
            found[name] = (n_rows, float(part.mean()), low, high, change)
            continue
        mean, half = _mean_and_half(part, confidence)
        ends = (np.sqrt(max(mean + x, 0)) for x in (0, -half, half))
        value, low, high = map(float, ends)
        if n_rows == 1:
            low = high = None
        found[name] = (n_rows, value, low, high, change)
    return found


_FIELDS = {
    "kind": str,
    "n_rows": int,
    "confidence": float,
    "classes": (list, type(None)),
    "own_score": (float, type(None)),
    "disagreement": float,
    "disagreement_interval": list,
    "most_lost": (float, type(None)),
    "bound": (float, type(None)),
    "change": (float, type(None)),
    "change_interval": (list, type(None)),
    "estimate": (float, type(None)),
    "estimate_interval": (list, type(None)),
    "flips": list,
    "per_class": list,
    "per_group": list,
    "unlabelled": list,
}


@dataclasses.dataclass(frozen=True, eq=False)
class SwapForecast:
    """What `forecast_swap` predicts of a change of encoder.

    Parameters
    ----------
    kind : {"labels", "probabilities", "numbers"}
        What the models predict.
    n_rows : int
        Number of rows.
    confidence : float
        That of all intervals and of `bound`.
    classes : tuple or None
        The labels; None of numbers.
    own_score : float or None
        The old model's accuracy or R2; None if it was not given.
    disagreement : float
        Share of rows with different labels, in [0, 1].  Of numbers the root mean
        squared difference, in units of the targets' deviation where it is known.
    disagreement_interval : tuple of (float, float)
        Its interval (Clopper and Pearson's, of a share).
    most_lost : float or None
        The score is lower by this at most.
    bound : float or None
        The score after the change of encoder is this at least.
    change, estimate : float or None
        Estimates of the change of the score, and of the score after it.
    change_interval, estimate_interval : tuple of (float, float) or None
        Their intervals.
    flips : tuple of (label, label, int)
        From which label to which other one, in how many rows; the most first.
    per_class, per_group : dict of label to tuple
        Number of rows, disagreement with both ends of its interval, and expected change
        of the score (None where it is not known), for the rows of each label of the old
        model, and of each group.
    unlabelled : ndarray of int
        Rows with different labels whose true label was not given.
    predictions : list of two ndarray of shape (n_rows, n_classes), default=None
        Both models' probabilities; None of labels and numbers, and read from JSON.

    See Also
    --------
    forecast_swap : Makes it, with details in its Notes.
    skinvariant.plotting.SwapForecastDisplay : Draws it.
    """

    kind: str
    n_rows: int
    confidence: float
    classes: tuple | None
    own_score: float | None
    disagreement: float
    disagreement_interval: tuple
    most_lost: float | None
    bound: float | None
    change: float | None
    estimate: float | None
    change_interval: tuple | None
    estimate_interval: tuple | None
    flips: tuple
    per_class: dict
    per_group: dict
    unlabelled: np.ndarray
    predictions: list | None = dataclasses.field(default=None, repr=False)

    def suspects(self, n):
        """Draw rows to label next.

        Only rows with different labels tell which model is better, so these are drawn
        from, at random, without those that have a label.  The labels of all rows drawn
        so far go into `forecast_swap` as `y` and `labelled`.

        Parameters
        ----------
        n : int
            How many rows.

        Returns
        -------
        ndarray of shape (min(n, n_unlabelled),), dtype int
            The rows, always in the same order: more of them start with the same.

        Raises
        ------
        ValueError, TypeError
            If `n` is not a positive integer, or the models predict numbers.
        """
        check_number("n", n, Integral, 1)
        if self.kind == "numbers":
            raise TypeError(
                "suspects needs labels or probabilities (of numbers, take targets of "
                "rows at random); got a forecast of numbers"
            )
        return np.random.default_rng(0).permutation(self.unlabelled)[:n]

    def threshold(self, old_threshold, class_, *, keep="false_positives"):
        """Return the new model's threshold that corresponds to one of the old model.

        Parameters
        ----------
        old_threshold : float in [0, 1]
            Rows pass if the old model's probability of `class_` is this or more.
        class_ : label
            One of `classes`.
        keep : {"false_positives", "share"}, default="false_positives"
            What stays as it is: the estimated share of rows of other classes that
            pass, which needs an `own_score`; or the share of all rows that pass.

        Returns
        -------
        threshold : float
            The new model's threshold.
        low : float
            The lower end of its interval, which is due to the number of rows.
        high : float
            The upper one.

        Raises
        ------
        ValueError, TypeError
            If a parameter is not as documented, the forecast has no probabilities, or
            all rows or none pass.

        Notes
        -----
        A row is of another class with the probability that `expected_changes`
        describes, the product of both models' at the temperatures of their accuracies.
        Where the new model is worse, it loses right rows, and passing as many rows as
        before lets wrong ones in.

        Examples
        --------
        >>> import numpy as np
        >>> from skinvariant import forecast_swap
        >>> p = np.linspace(0.01, 0.99, 99)
        >>> old, new = (np.column_stack([1 - x, x]) for x in (p, p**2))
        >>> forecast = forecast_swap(old, new, own_score=0.75)
        >>> threshold, low, high = forecast.threshold(0.8, 1)
        >>> round(threshold, 2), round(low, 2), round(high, 2)
        (0.64, 0.46, 0.98)
        """
        check_number("old_threshold", old_threshold, Real, 0, 1)
        check_choice("keep", keep, dict.fromkeys(_KEPT))
        if self.predictions is None:
            raise ValueError(
                "threshold needs the probabilities of both models, which labels and "
                "JSON do not have: forecast_swap(old.predict_proba(X), "
                f"new.predict_proba(X)); got a forecast of {self.kind} without them"
            )
        if class_ not in self.classes:
            raise ValueError(
                f"class_ must be one of {list(self.classes)}; got {class_!r}"
            )
        column = self.classes.index(class_)
        old, new = (proba[:, column] for proba in self.predictions)
        others = np.ones(self.n_rows)
        if keep == "false_positives":
            if self.own_score is None:
                raise ValueError(
                    "keep='false_positives' needs the old model's accuracy: pass "
                    "own_score= to forecast_swap, or keep='share'; got a forecast "
                    "without own_score"
                )
            others -= self._joint[:, column]
        passing = old >= old_threshold
        if passing.all() or not passing.any():
            raise ValueError(
                "old_threshold must be passed by some rows and not by all; got "
                f"{old_threshold}, which {passing.sum()} of {self.n_rows} rows pass"
            )
        order = np.argsort(-new, kind="stable")
        shares = np.cumsum(others[order]) / others.sum()
        share = others[passing].sum() / others.sum()
        # both shares are of a sample
        error = np.sqrt(2 * share * (1 - share) / others.sum())
        half = norm.ppf((1 + self.confidence) / 2) * error
        wanted = np.array([share, share + half, share - half])
        places = np.searchsorted(shares, wanted - 1e-9).clip(0, self.n_rows - 1)
        return tuple(new[order][places].tolist())

    @cached_property
    def _joint(self):
        """The probabilities of the classes by both models, for all thresholds."""
        after = np.mean(accuracy_bounds(self.own_score, self.disagreement))
        return _joint_posterior(*self.predictions, self.own_score, after)

    def passes(self, max_loss=0.02, *, by="bound"):
        """Return whether the change of encoder costs little enough.

        Parameters
        ----------
        max_loss : float, default=0.02
            How much of the score may be lost, >= 0.
        by : {"bound", "estimate"}, default="bound"
            What may not be more: the loss that is not exceeded at `confidence`, or its
            estimate.

        Returns
        -------
        bool
            Whether it is not.

        Raises
        ------
        ValueError, TypeError
            If a parameter is not as documented, or the forecast lacks what `by` needs.
        """
        check_number("max_loss", max_loss, Real, 0)
        check_choice("by", by, dict.fromkeys(_GATES))
        loss = self.most_lost if by == "bound" else self.change
        if loss is None:
            raise ValueError(
                f"by={by!r} needs own_score= or y= in forecast_swap; got a forecast "
                "with neither"
            )
        return bool((loss if by == "bound" else -loss) <= max_loss)

    def summary(self):
        """Return what the change of encoder costs, and what to do next, in words.

        Returns
        -------
        str
            The text, which ``str(forecast)`` and ``print(forecast)`` give as well.
        """
        level = f"{self.confidence:.0%}"
        low, high = self.disagreement_interval
        if self.kind == "numbers":
            lines = [
                f"{self.n_rows} rows: the models differ by {self.disagreement:.3g} "
                f"(root mean square, {level} interval {low:.3g} to {high:.3g})."
            ]
        else:
            lines = [
                f"{self.n_rows} rows, {len(self.classes)} classes: the models disagree "
                f"for {self.disagreement:.1%} ({level} interval {low:.1%} to "
                f"{high:.1%})."
            ]
        score = "R2" if self.kind == "numbers" else "accuracy"
        if self.estimate is not None:
            low, high = self.estimate_interval
            lines += [
                f"The {score} was {self.own_score:.3f}; after the change it is about "
                f"{self.estimate:.3f} ({level} interval {low:.3f} to {high:.3f}), and "
                f"{self.bound:.3f} or more."
            ]
        elif self.most_lost is None:
            lines += ["Pass own_score= for the R2 after the change."]
        else:
            lines += [
                f"The accuracy falls by {self.most_lost:.3f} at most.  Pass own_score= "
                "for the accuracy after the change."
            ]
        if self.flips:
            flips = (f"{a} to {b} ({n})" for a, b, n in self.flips[:3])
            lines += [f"Most frequent changes of label: {', '.join(flips)}."]
        for what, part in (("class", self.per_class), ("group", self.per_group)):
            # one row has no interval
            known = {name: row for name, row in part.items() if row[2] is not None}
            if len(known) > 1:
                worst = max(known, key=lambda name: known[name][1])
                n, *values, _ = known[worst]
                form = ".3g" if self.kind == "numbers" else ".1%"
                value, low, high = (format(x, form) for x in values)
                lines += [
                    f"The {what} that changes most: {worst}, {value} ({low} to {high}) "
                    f"in {n} rows."
                ]
        if self.kind != "numbers" and len(self.unlabelled):
            n = min(50, len(self.unlabelled))
            lines += [
                f"To know more: label the rows suspects({n}), and pass the labels as "
                "y= and the rows as labelled=."
            ]
        return "\n".join(lines)

    def __str__(self):
        return self.summary()

    def to_frame(self, by="class"):
        """Return the changes of labels, or what is known of classes or groups.

        Parameters
        ----------
        by : {"class", "group", "flips"}, default="class"
            What the rows of the table are.

        Returns
        -------
        pandas.DataFrame
            With the columns "class" or "group", "n_rows", "disagreement", "low", "high"
            and "change"; of flips "old", "new" and "n_rows".

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        tables = {"class": self.per_class, "group": self.per_group, "flips": None}
        part = check_choice("by", by, tables)
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "SwapForecast.to_frame needs pandas: pip install pandas"
            ) from error
        if part is None:
            return pd.DataFrame(self.flips, columns=["old", "new", "n_rows"])
        names = [by, "n_rows", "disagreement", "low", "high", "change"]
        return pd.DataFrame([(x, *row) for x, row in part.items()], columns=names)

    def to_json(self, path=None):
        """Write the forecast as JSON, without the models' probabilities.

        Parameters
        ----------
        path : str or path-like, default=None
            Where to write it; None: return the text.

        Returns
        -------
        str or None
            The text, or None if it was written to `path`.
        """
        content = {name: getattr(self, name) for name in _FIELDS}
        content["unlabelled"] = self.unlabelled.tolist()
        for name in ("per_class", "per_group"):
            content[name] = [[key, *row] for key, row in content[name].items()]
        return write_json(content, _FORMAT, path)

    @classmethod
    def from_json(cls, source):
        """Read a forecast that `to_json` has written.

        Parameters
        ----------
        source : str or path-like
            The path of a file, or the text itself, which starts with ``{``.

        Returns
        -------
        SwapForecast
            The same forecast; it has no `threshold`, which needs probabilities.

        Raises
        ------
        ValueError
            If `source` is no such forecast, or it was damaged or altered.
        """
        with parsing(f"source must be a forecast written by {_FORMAT}.to_json"):
            content = read_json(source, _FORMAT, _FIELDS)
            for name in ("per_class", "per_group"):
                content[name] = {key: tuple(row) for key, *row in content[name]}
            content["unlabelled"] = np.array(content["unlabelled"], dtype=np.intp)
            content["flips"] = tuple(tuple(flip) for flip in content["flips"])
            for name, value in content.items():
                if isinstance(value, list):
                    content[name] = tuple(value)
            return cls(**content)
