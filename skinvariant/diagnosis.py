"""By which transformation two encoders differ, and which relative space they need."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from numbers import Integral, Real

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.linear_model import RidgeCV
from sklearn.utils import check_array, check_random_state
from sklearn.utils.parallel import Parallel, delayed

from skinvariant._aggregator import InvariantAggregator
from skinvariant._projector import RelativeProjector
from skinvariant._validation import check_number

__all__ = ["Diagnosis", "diagnose", "matching_rank"]

# penalties of the ridge, in units of the mean squared singular value
_PENALTIES = np.logspace(-9, 1, 11)
# differences of explained variance below it are rounding of half precision
_ROUNDING = 1e-6
_MIN_ROWS = 20
# below it the encoders differ by more than an affine map and a little noise
_WEAK = 0.9


# --- the best map of each class ------------------------------------------------


def _positive(products, squares):
    """Least-squares factors, not negative; 0 where there is nothing to scale."""
    safe = np.where(squares > 0, squares, 1)
    return np.where(squares > 0, np.maximum(products, 0) / safe, 0)


def _identity(X_a, X_b):
    return np.eye(X_a.shape[1])


def _isotropic_scaling(X_a, X_b):
    return _positive((X_a * X_b).sum(), (X_a**2).sum()) * np.eye(X_a.shape[1])


def _axis_scaling(X_a, X_b):
    return np.diag(_positive((X_a * X_b).sum(axis=0), (X_a**2).sum(axis=0)))


def _assigned(gains, weights):
    """Return the matrix that sends axes to axes so that gains are largest."""
    rows, columns = linear_sum_assignment(gains, maximize=True)
    matrix = np.zeros_like(gains)
    matrix[rows, columns] = weights[rows, columns]
    return matrix


def _permutation(X_a, X_b):
    gains = X_a.T @ X_b
    return _assigned(gains, np.ones_like(gains))


def _signed_permutation(X_a, X_b):
    gains = X_a.T @ X_b
    return _assigned(abs(gains), np.where(gains < 0, -1.0, 1.0))


def _permutation_axis_scaling(X_a, X_b):
    products = X_a.T @ X_b
    factors = _positive(products, (X_a**2).sum(axis=0)[:, None])
    return _assigned(factors * products, factors)


def _orthogonal(X_a, X_b):
    left, _, right = np.linalg.svd(X_a.T @ X_b, full_matrices=False)
    return left @ right


def _orthogonal_isotropic_scaling(X_a, X_b):
    turn = _orthogonal(X_a, X_b)
    turned = X_a @ turn
    return _positive((turned * X_b).sum(), (turned**2).sum()) * turn


def _linear(X_a, X_b):
    """Ridge, whose penalty is chosen by leave-one-out."""
    scale = (X_a**2).sum() / min(X_a.shape) or 1.0
    ridge = RidgeCV(_PENALTIES * scale, fit_intercept=False).fit(X_a, X_b)
    return np.reshape(ridge.coef_, (X_b.shape[1], X_a.shape[1])).T


@dataclass(frozen=True)
class _Class:
    """A class of transformations: how its matrix is found, and where it applies."""

    matrix: Callable
    translation: bool = False
    any_width: bool = False

    def residuals(self, fitted, held_out):
        """Return what the map fitted on some rows leaves of others, or None.

        Parameters
        ----------
        fitted, held_out : tuple of two ndarray of shape (n, n_features)
            Corresponding rows.

        Returns
        -------
        ndarray of shape (n_held_out, n_features_b) or None
            None where the widths differ and the class wants them equal.
        """
        X_a, X_b = fitted
        if not self.any_width and X_a.shape[1] != X_b.shape[1]:
            return None
        origins = [
            X.mean(axis=0) if self.translation else np.zeros(X.shape[1]) for X in fitted
        ]
        matrix = self.matrix(X_a - origins[0], X_b - origins[1])
        return held_out[1] - origins[1] - (held_out[0] - origins[0]) @ matrix


# from the simplest to the freest: what comes first is named first
_CLASSES = {
    "none": _Class(_identity),
    "isotropic_scaling": _Class(_isotropic_scaling),
    "permutation": _Class(_permutation),
    "signed_permutation": _Class(_signed_permutation),
    "translation": _Class(_identity, translation=True),
    "isotropic_scaling+translation": _Class(_isotropic_scaling, translation=True),
    "axis_scaling": _Class(_axis_scaling),
    "axis_scaling+translation": _Class(_axis_scaling, translation=True),
    "permutation+axis_scaling": _Class(_permutation_axis_scaling),
    "orthogonal": _Class(_orthogonal, any_width=True),
    "orthogonal+translation": _Class(_orthogonal, translation=True, any_width=True),
    "orthogonal+isotropic_scaling": _Class(
        _orthogonal_isotropic_scaling, any_width=True
    ),
    "orthogonal+isotropic_scaling+translation": _Class(
        _orthogonal_isotropic_scaling, translation=True, any_width=True
    ),
    "linear": _Class(_linear, any_width=True),
    "affine": _Class(_linear, translation=True, any_width=True),
}


def _as_good(squares, best, rounding):
    """Whether squared residuals exceed the best ones by two standard errors at most."""
    more = squares - best
    return more.mean() <= 2 * more.std(ddof=1) / np.sqrt(len(more)) + rounding


def _explain(fitted, held_out):
    """Return how much of held-out rows each class explains, and the class to name.

    Parameters
    ----------
    fitted, held_out : tuple of two ndarray of shape (n, n_features)
        Corresponding rows: those that the maps are fitted on, and others.

    Returns
    -------
    explained : dict of str to float
        Part of the variance, over all columns and around the mean of the fitted
        rows; NaN where the class does not apply.
    name : str
        The first class within two standard errors of the best.
    """
    total = ((held_out[1] - fitted[1].mean(axis=0)) ** 2).sum(axis=1)
    left = {}
    for name, transformation in _CLASSES.items():
        residuals = transformation.residuals(fitted, held_out)
        if residuals is not None:
            left[name] = (residuals**2).sum(axis=1)
    explained = {
        name: float(1 - left[name].sum() / total.sum()) if name in left else np.nan
        for name in _CLASSES
    }
    best = min(left.values(), key=np.sum)
    rounding = _ROUNDING * total.mean()
    name = next(
        name for name, squares in left.items() if _as_good(squares, best, rounding)
    )
    return explained, name


# --- the agreement of relative spaces ------------------------------------------


def _unit_rows(relative):
    """Rows without their mean, of norm 1; constant rows are 0."""
    centred = relative - relative.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.where(norms > 0, norms, 1)


def matching_rank(relative_a, relative_b):
    """Mean reciprocal rank of the row that is the same sample in the other space.

    Parameters
    ----------
    relative_a, relative_b : array-like of shape (n_samples, n_anchors)
        Relative spaces of corresponding rows.

    Returns
    -------
    float
        In (0, 1]; 1: the most correlated row of the other space is always the same
        sample.  Rows that tie with the right one count as nearer, so that relative
        spaces that tell no samples apart get 1 / n_samples.

    Raises
    ------
    ValueError
        If the shapes differ or values are not finite.

    Examples
    --------
    >>> from skinvariant.diagnosis import matching_rank
    >>> relative = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    >>> matching_rank(relative, relative)
    1.0
    >>> round(matching_rank(relative, [[1, 1, 1]] * 3), 3)
    0.333
    """
    relative_a, relative_b = check_array(relative_a), check_array(relative_b)
    if relative_a.shape != relative_b.shape:
        raise ValueError(
            "relative_a and relative_b must have one shape; got "
            f"{relative_a.shape} and {relative_b.shape}"
        )
    likeness = _unit_rows(relative_b) @ _unit_rows(relative_a).T
    ranks = (likeness >= np.diag(likeness)[:, None]).sum(axis=1)
    return float(np.mean(1 / ranks))


# --- the diagnosis -------------------------------------------------------------


def _spelled(transformation):
    return transformation.replace("+", ", ").replace("_", " ")


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What `diagnose` found.

    Parameters
    ----------
    transformations : dict of str to float
        How much of held-out rows of the second space the best map of each class
        explains: 1 all of their variance, 0 no more than their mean, less than 0
        less than that.  NaN where a class does not apply to the two widths.
    transformation : str
        The simplest class that explains as much as the best does.
    agreement : dict of tuple to float
        By ``(metric, pre, post)``, how well the relative spaces of held-out rows
        agree, between 0 and 1.
    recommended : InvariantAggregator
        An unfitted aggregator for these two encoders.
    reason : str
        Why, in words.

    See Also
    --------
    diagnose : Makes it.

    Examples
    --------
    >>> from skinvariant.datasets import make_related_spaces
    >>> from skinvariant.diagnosis import diagnose
    >>> spaces = make_related_spaces(transformation="orthogonal", random_state=0)
    >>> diagnosis = diagnose(spaces.X_a, spaces.X_b, random_state=0)
    >>> diagnosis.transformation
    'orthogonal'
    """

    transformations: dict
    transformation: str
    agreement: dict
    recommended: InvariantAggregator
    reason: str

    def __str__(self):
        explained = [
            f"  {name:42s} {value:7.3f}{' *' if name == self.transformation else ''}"
            for name, value in self.transformations.items()
            if not np.isnan(value)
        ]
        ordered = sorted(self.agreement.items(), key=lambda item: -item[1])
        agreement = [
            f"  {metric!s:12s} {pre!s:12s} {post!s:12s} {value:10.3f}"
            for (metric, pre, post), value in ordered[:5]
        ]
        return "\n".join(
            [
                "Part of held-out rows that the best map of a class explains:",
                *explained,
                f"Agreement of relative spaces, best of {len(ordered)}:",
                f"  {'metric':12s} {'pre':12s} {'post':12s} {'agreement':>10s}",
                *agreement,
                self.reason,
            ]
        )

    def to_frame(self):
        """Return the agreements as a table, the best first.

        Returns
        -------
        pandas.DataFrame
            Columns "metric", "pre", "post" and "agreement".

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_frame needs pandas: pip install pandas") from error
        rows = [(*choice, value) for choice, value in self.agreement.items()]
        columns = ["metric", "pre", "post", "agreement"]
        frame = pd.DataFrame(rows, columns=columns, dtype=object)
        frame["agreement"] = frame["agreement"].astype(float)
        return frame.sort_values(
            "agreement", ascending=False, kind="stable", ignore_index=True
        )


def _check_spaces(X_a, X_b):
    """Return the spaces as float arrays of equally many rows."""
    X_a, X_b = (
        check_array(
            X, dtype=[np.float64, np.float32], input_name=name, ensure_min_features=1
        )
        for name, X in (("X_a", X_a), ("X_b", X_b))
    )
    if len(X_a) != len(X_b):
        raise ValueError(
            "X_a and X_b must be corresponding rows, of the same samples in the same "
            f"order; got {len(X_a)} and {len(X_b)} rows"
        )
    if len(X_a) < _MIN_ROWS:
        raise ValueError(
            f"X_a and X_b must have at least {_MIN_ROWS} rows, some to fit and some to "
            f"hold out; got {len(X_a)}"
        )
    for name, X in (("X_a", X_a), ("X_b", X_b)):
        if not np.ptp(X, axis=0).any():
            raise ValueError(f"{name} must have rows that differ; all are equal")
    return X_a, X_b


def _check_options(name, options):
    """Return a sequence of options as a tuple."""
    if isinstance(options, str) or not np.iterable(options):
        raise TypeError(f"{name} must be a sequence of options; got {options!r}")
    options = tuple(options)
    if not options:
        raise ValueError(f"{name} must have at least one option; got none")
    return options


def _split(n_rows, n_anchors, test_size, random_state):
    """Return the rows to fit on, the anchors first, and those to hold out."""
    check_number("n_anchors", n_anchors, Integral, 1)
    check_number("test_size", test_size, Real, 0.1, 0.9)
    order = check_random_state(random_state).permutation(n_rows)
    n_held_out = max(2, round(test_size * n_rows))
    return order[n_held_out:], order[:n_held_out]


def _agree(metric, pre, post, spaces, anchors, held_out):
    """Agreement of the relative spaces of held-out rows, for one choice."""
    X_a, X_b = spaces
    projector = RelativeProjector(anchors=anchors, metric=metric, pre=pre, post=post)
    projector = projector.fit(X_a)
    rebased = projector.rebase(X_b[anchors])
    return matching_rank(
        projector.transform(X_a[held_out]), rebased.transform(X_b[held_out])
    )


def diagnose(
    X_a,
    X_b,
    *,
    n_anchors=300,
    metrics=("cosine", "euclidean", "manhattan", "chebyshev"),
    pre=(None, "center", "standardize", "whiten"),
    post=("layer", "standardize"),
    test_size=0.4,
    random_state=None,
    n_jobs=None,
    verbose=False,
):
    """Tell by which transformation two encoders differ, and what serves both.

    No labels are used.

    Parameters
    ----------
    X_a : array-like of shape (n_samples, n_features_a)
        The old encoder's rows: the anchors and some more.  1,300 serve well.
    X_b : array-like of shape (n_samples, n_features_b)
        The same samples, in the same order, as the new encoder sees them.
    n_anchors : int, default=300
        How many rows to take as anchors; at most those that are not held out.
    metrics : sequence of str, Metric or callable, default=("cosine", "euclidean", \
            "manhattan", "chebyshev")
        The metrics to choose from, as `InvariantAggregator` takes them.
    pre : sequence of str, transformer or None, default=(None, "center", \
            "standardize", "whiten")
        The options of `pre` to choose from.
    post : sequence of str, transformer or None, default=("layer", "standardize")
        The options of `post` to choose from.
    test_size : float in [0.1, 0.9], default=0.4
        Part of the rows to hold out.
    random_state : int, RandomState instance or None, default=None
        Seed of the choice of anchors and of held-out rows.
    n_jobs : int, default=None
        Threads.  None is 1, -1 all processors.  It changes no result.
    verbose : bool, default=False
        Whether to print each agreement as it is found.

    Returns
    -------
    Diagnosis
        The transformations, the agreements, and an aggregator to use.

    Raises
    ------
    ValueError, TypeError
        If the spaces have not the same number of rows, at least 20, or a parameter
        is not as documented.
    """
    X_a, X_b = spaces = _check_spaces(X_a, X_b)
    options = [
        _check_options(name, value)
        for name, value in (("metrics", metrics), ("pre", pre), ("post", post))
    ]
    fitted, held_out = _split(len(X_a), n_anchors, test_size, random_state)
    anchors = fitted[:n_anchors]
    wide = [X.astype(np.float64, copy=False) for X in spaces]
    transformations, transformation = _explain(
        [X[fitted] for X in wide], [X[held_out] for X in wide]
    )
    choices = list(product(*options))
    values = Parallel(n_jobs=n_jobs, prefer="threads")(
        delayed(_agree)(*choice, spaces, anchors, held_out) for choice in choices
    )
    agreement = dict(zip(choices, values, strict=True))
    return _conclude(
        transformations, transformation, agreement, len(anchors), random_state
    )


def _conclude(transformations, transformation, agreement, n_anchors, random_state):
    """Return the diagnosis: the best choice, and why, in words."""
    best = max(agreement, key=agreement.get)
    metric, pre, post = best
    recommended = InvariantAggregator(
        n_anchors, metrics=(metric,), pre=pre, post=post, random_state=random_state
    )
    explained = transformations[transformation]
    reason = (
        f"The simplest map between the two encoders that does as well as any is of the "
        f"class '{transformation}': it explains {explained:.1%} of held-out rows."
    )
    if explained < _WEAK:
        reason += (
            " The rest is no affine map: the encoders bend the space or see different "
            "things, so that no choice of metric will make them equal."
        )
    reason += (
        f" Of {len(agreement)} choices, metric={metric!r}, pre={pre!r}, post={post!r} "
        f"agrees best on held-out rows, at {agreement[best]:.3f}; the median choice is "
        f"at {np.median(list(agreement.values())):.3f}. Measure the stitched model "
        "before you use it."
    )
    return Diagnosis(transformations, transformation, agreement, recommended, reason)
