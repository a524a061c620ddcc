"""The transformation by which two encoders differ, and a relative space for both."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from numbers import Integral, Real

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn import config_context
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.utils import check_random_state
from sklearn.utils.parallel import Parallel, delayed

from skinvariant._correspondence import warn_of_mismatches
from skinvariant._threads import one_blas_thread
from skinvariant._validation import (
    check_corresponding,
    check_number,
    in_numpy,
    svd,
)
from skinvariant.metrics import euclidean
from skinvariant.metrics._rows import power_of_two
from skinvariant.relative import InvariantAggregator
from skinvariant.relative._steps import standardization

__all__ = ["Diagnosis", "diagnose", "shared_directions", "stitched_agreement"]

# penalties of the ridge, in units of the mean squared singular value
_PENALTIES = np.logspace(-9, 1, 11)
# a row farther from the centre than this times the median row counts as one there
_FAR = 3.0
# differences of explained variance below this are rounding of half precision
_ROUNDING = 1e-6
_MIN_ROWS = 20
# squared residuals beyond this, in units of the largest value, are equally bad
_MOST = 1e100
# penalty of the head that measures agreement, per row and unit of variance of a column
_HEAD_PENALTY = 0.1
# explained variance below this: more than an affine map and a little noise
_WEAK = 0.9
# agreement below this: a stitched head is more often wrong than right
_POOR = 0.5
# digits of an agreement; beyond them it is rounding, and the first choice is taken
_DIGITS = 6


# --- the best map of each class ------------------------------------------------


def _winsorized(spaces, fitted):
    """Move rows that are far from the centre towards it, alike in both spaces.

    A sum of squares over all rows would depend on a few very long rows alone.  If one
    space is an affine map of the other, it still is afterwards, by the same map: the
    centres are means with the same weights.

    Parameters
    ----------
    spaces : sequence of two ndarray of shape (n_samples, n_features)
        Corresponding spaces, in float64.
    fitted : ndarray of shape (n_fitted,), dtype int
        The rows that the centres, and the median distance from them, are taken from.

    Returns
    -------
    list of two ndarray of shape (n_samples, n_features)
        The spaces; rows no farther than `_FAR` times the median are unchanged.
    """
    weights = 1.0
    for X in spaces:
        distances = euclidean(X, np.median(X[fitted], axis=0)[np.newaxis])[:, 0]
        limit = _FAR * np.median(distances[fitted])
        if limit > 0:
            weights = np.minimum(weights, limit / np.maximum(distances, limit))
    weights = np.broadcast_to(weights, len(X))[:, np.newaxis]
    moved = []
    for X in spaces:
        near = weights * X
        centre = near[fitted].sum(axis=0) / weights[fitted].sum()
        moved.append(np.where(weights < 1, near + (1 - weights) * centre, X))
    return moved


def _positive(products, squares):
    """Return least-squares factors >= 0; 0 where the space to scale is 0."""
    safe = np.where(squares > 0, squares, 1)
    return np.where(squares > 0, np.maximum(products, 0) / safe, 0)


def _identity(X_a, X_b):
    return np.eye(X_a.shape[1])


def _isotropic_scaling(X_a, X_b):
    return _positive((X_a * X_b).sum(), (X_a**2).sum()) * np.eye(X_a.shape[1])


def _axis_scaling(X_a, X_b):
    X_a, units = _in_units(X_a)
    return np.diag(_positive((X_a * X_b).sum(axis=0), (X_a**2).sum(axis=0)) / units)


def _in_units(X):
    """Return a space in units of each column's own size, and these."""
    units = power_of_two(np.abs(X).max(axis=0))
    return X / units, units


def _assigned(gains, weights):
    """Return the matrix that assigns axes to axes with the largest sum of gains."""
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
    X_a, units = _in_units(X_a)
    products = X_a.T @ X_b
    factors = _positive(products, (X_a**2).sum(axis=0)[:, None])
    return _assigned(factors * products, factors / units[:, np.newaxis])


def _orthogonal(X_a, X_b):
    left, _, right = svd(X_a.T @ X_b, full_matrices=False)
    return left @ right


def _orthogonal_isotropic_scaling(X_a, X_b):
    turn = _orthogonal(X_a, X_b)
    turned = X_a @ turn
    return _positive((turned * X_b).sum(), (turned**2).sum()) * turn


def _linear(X_a, X_b, *, centred=False):
    """Return the map of a ridge regression whose penalty is chosen by leave-one-out.

    Centred rows sum to 0, so each one follows from the others: only an intercept that
    is fitted again without the left-out row makes its error an honest one.
    """
    scale = (X_a**2).sum() / min(X_a.shape) or 1.0
    ridge = RidgeCV(_PENALTIES * scale, fit_intercept=centred).fit(X_a, X_b)
    return np.reshape(ridge.coef_, (X_b.shape[1], X_a.shape[1])).T


@dataclass(frozen=True)
class _Class:
    """A class of transformations: how its matrix is fitted, and where it applies."""

    matrix: Callable
    translation: bool = False
    any_width: bool = False
    scales: bool = True

    def residuals(self, fitted, held_out, ratio=1.0):
        """Return the residuals of held-out rows under the best map of fitted rows.

        Parameters
        ----------
        fitted, held_out : tuple of two ndarray of shape (n, n_features)
            Corresponding rows.
        ratio : float, default=1.0
            The unit of the first space divided by that of the second.

        Returns
        -------
        ndarray of shape (n_held_out, n_features_b) or None
            None if the widths differ and the class needs equal ones.
        """
        X_a, X_b = fitted
        if not self.any_width and X_a.shape[1] != X_b.shape[1]:
            return None
        origins = [
            X.mean(axis=0) if self.translation else np.zeros(X.shape[1]) for X in fitted
        ]
        matrix = self.matrix(X_a - origins[0], X_b - origins[1])
        if not self.scales:
            matrix = matrix * ratio
        return held_out[1] - origins[1] - (held_out[0] - origins[0]) @ matrix


# from the simplest to the most general: of equally good ones the first is named
_CLASSES = {
    "none": _Class(_identity, scales=False),
    "isotropic_scaling": _Class(_isotropic_scaling),
    "permutation": _Class(_permutation, scales=False),
    "signed_permutation": _Class(_signed_permutation, scales=False),
    "translation": _Class(_identity, translation=True, scales=False),
    "isotropic_scaling+translation": _Class(_isotropic_scaling, translation=True),
    "axis_scaling": _Class(_axis_scaling),
    "axis_scaling+translation": _Class(_axis_scaling, translation=True),
    "permutation+axis_scaling": _Class(_permutation_axis_scaling),
    "orthogonal": _Class(_orthogonal, any_width=True, scales=False),
    "orthogonal+translation": _Class(
        _orthogonal, translation=True, any_width=True, scales=False
    ),
    "orthogonal+isotropic_scaling": _Class(
        _orthogonal_isotropic_scaling, any_width=True
    ),
    "orthogonal+isotropic_scaling+translation": _Class(
        _orthogonal_isotropic_scaling, translation=True, any_width=True
    ),
    "linear": _Class(_linear, any_width=True),
    "affine": _Class(partial(_linear, centred=True), translation=True, any_width=True),
}


def _as_good(squares, best, rounding):
    """Whether squared residuals exceed the best by at most two standard errors."""
    more = np.minimum(squares, _MOST) - best
    return more.mean() <= 2 * more.std(ddof=1) / np.sqrt(len(more)) + rounding


def _explain(fitted, held_out):
    """Return the variance of held-out rows that each class explains, and the class.

    Parameters
    ----------
    fitted, held_out : tuple of two ndarray of shape (n, n_features)
        Corresponding rows: those that the maps are fitted on, and others.

    Returns
    -------
    explained : dict of str to float
        Share of the variance, over all columns and around the mean of the fitted
        rows; NaN if the class does not apply.
    name : str
        The first class within two standard errors of the best.
    """
    units = [power_of_two(np.abs(X).max()) for X in fitted]
    fitted, held_out = (
        [X / unit for X, unit in zip(rows, units, strict=True)]
        for rows in (fitted, held_out)
    )
    total = ((held_out[1] - fitted[1].mean(axis=0)) ** 2).sum(axis=1)
    left = {}
    with np.errstate(over="ignore"):  # a class that cannot scale may be far off
        ratio = min(units[0] / units[1], np.finfo(np.float64).max)
        for name, transformation in _CLASSES.items():
            residuals = transformation.residuals(fitted, held_out, ratio)
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


def _whitened(X, fitted, n_components):
    """Return leading principal components of standardised columns, with variance 1."""
    mean, scale = standardization(X[fitted])
    X = (X - mean) / scale
    components = PCA(n_components, whiten=True, svd_solver="full").fit(X[fitted])
    real = components.explained_variance_ratio_ > _ROUNDING  # others are rounding
    return components.transform(X)[:, real]


@config_context(transform_output="default")
def shared_directions(X_a, X_b, fitted, *, n_components=60, n_directions=20):
    """Return canonical variables of two spaces: the directions that both represent.

    Canonical correlation analysis (H. Hotelling, "Relations between two sets of
    variates", Biometrika 1936) of the leading principal components of each space, since
    those of small variance correlate by chance.

    Parameters
    ----------
    X_a, X_b : ndarray of shape (n_samples, n_features)
        Corresponding rows; widths may differ.
    fitted : ndarray of shape (n_fitted,), dtype int
        The rows to fit the directions on.
    n_components : int, default=60
        How many principal components to use; fewer if the space is narrow or the rows
        are few.
    n_directions : int, default=20
        How many directions at most.

    Returns
    -------
    ndarray of shape (n_samples, n_found)
        The sum of the two spaces' canonical variables, the most correlated first;
        standardised over the fitted rows.

    Examples
    --------
    One cause that both spaces represent, and two that only one of them does:

    >>> import numpy as np
    >>> from skinvariant.diagnosis import shared_directions
    >>> both, a, b = np.random.default_rng(0).standard_normal((3, 500))
    >>> X_a, X_b = np.c_[both + a, a], np.c_[b, 5 * both]
    >>> first = shared_directions(X_a, X_b, np.arange(400))[:, 0]
    >>> round(abs(float(np.corrcoef(first, both)[0, 1])), 2)
    1.0
    """
    check_number("n_components", n_components, Integral, 1)
    check_number("n_directions", n_directions, Integral, 1)
    X_a, X_b, fitted = in_numpy("X_a", X_a), in_numpy("X_b", X_b), np.asarray(fitted)
    most = min(n_components, max(1, len(fitted) // 4))
    a, b = (_whitened(X, fitted, min(most, X.shape[1])) for X in (X_a, X_b))
    left, _, right = svd(a[fitted].T @ b[fitted], full_matrices=False)
    variables = (a @ left + b @ right.T)[:, :n_directions]
    return StandardScaler().fit(variables[fitted]).transform(variables)


def stitched_agreement(relative_a, targets_a, relative_b, targets_b):
    """Measure how well a head trained on one relative space predicts from another.

    A ridge regression is trained on the relative space of one encoder, and predicts the
    targets of other rows from the relative space of the other encoder.

    Parameters
    ----------
    relative_a : ndarray of shape (n_a, n_columns)
        Relative space that the head is trained on.
    targets_a : ndarray of shape (n_a, n_targets)
        Its targets.
    relative_b : ndarray of shape (n_b, n_columns)
        Relative space of other rows, of the other encoder.
    targets_b : ndarray of shape (n_b, n_targets)
        The true targets of these rows.

    Returns
    -------
    float
        The mean over rows of the cosine between the prediction and the true target,
        between -1 and 1; 0 if the relative spaces carry no information.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.diagnosis import stitched_agreement
    >>> rng = np.random.default_rng(0)
    >>> relative, noise = rng.standard_normal((2, 1000, 20))
    >>> half = slice(500), slice(500, None)
    >>> targets = relative[:, :3]
    >>> parts = [array[part] for part in half for array in (relative, targets)]
    >>> round(stitched_agreement(*parts), 3)
    1.0
    >>> parts[2] = noise[500:]
    >>> round(stitched_agreement(*parts), 2)
    -0.01
    """
    relative_a, targets_a = in_numpy("relative_a", relative_a), np.asarray(targets_a)
    relative_b, targets_b = in_numpy("relative_b", relative_b), np.asarray(targets_b)
    relative_a = relative_a.astype(np.float64, copy=False)
    alpha = _HEAD_PENALTY * len(relative_a) * relative_a.var(axis=0).mean()
    head = Ridge(alpha or 1.0).fit(relative_a, targets_a)
    predicted = head.predict(relative_b.astype(np.float64, copy=False))
    predicted = np.reshape(predicted, targets_b.shape)
    return float((normalize(predicted) * normalize(targets_b)).sum(axis=1).mean())


# --- the diagnosis -------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The result of `diagnose`.

    Parameters
    ----------
    transformations : dict of str to float
        The share of the variance of held-out rows in the second space that the best map
        of each class explains: 1 is all of it, 0 no more than the mean explains, and
        less than 0 is worse, down to -inf beyond the range of float64.  NaN if a class
        does not apply to the two widths.
    transformation : str
        The simplest class that explains as much as the best one.
    agreement : dict of tuple to float
        By ``(metric, pre, post)``, how well the relative spaces of held-out rows agree:
        1 is best, and 0 no agreement.
    recommended : InvariantAggregator
        An unfitted aggregator for these two encoders.
    reason : str
        The reason for the recommendation, in words.

    See Also
    --------
    diagnose : Returns it.

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
                "Share of held-out variance that the best map of a class explains:",
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


def _aggregator(metric, pre, post, **params):
    """Return the aggregator of a choice; a tuple of metrics is a product."""
    metrics = metric if isinstance(metric, tuple) else (metric,)
    return InvariantAggregator(metrics=metrics, pre=pre, post=post, **params)


@one_blas_thread  # the guard of `diagnose` does not reach into joblib's threads
def _agree(choice, spaces, targets, anchors, rows):
    """Return the agreement of one choice, of a head trained on the fitted rows."""
    (X_a, X_b), (fitted, held_out) = spaces, rows
    own = _aggregator(*choice, anchors=anchors).fit(X_a)
    rebased = own.rebase(X_b[anchors])
    return stitched_agreement(
        own.transform(X_a[fitted]),
        targets[fitted],
        rebased.transform(X_b[held_out]),
        targets[held_out],
    )


@one_blas_thread  # the number of BLAS threads changes no result
@config_context(transform_output="default")
def diagnose(
    X_a,
    X_b,
    *,
    n_anchors=300,
    metrics=("cosine", "euclidean", "manhattan", "chebyshev"),
    pre=(None, "center", "standardize", "whiten"),
    post=("layer", "standardize"),
    test_size=0.4,
    check=False,
    random_state=None,
    n_jobs=None,
    verbose=0,
):
    """Find the transformation by which two encoders differ, and what serves both.

    No labels are used.  Some rows are held out.  The others serve to fit the best map
    of each class of transformations from the old space to the new one, and a linear
    head for each choice of metric, `pre` and `post`.  Both are scored on the new
    encoder's held-out rows.

    Parameters
    ----------
    X_a : array-like of shape (n_samples, n_features_a)
        The old encoder's rows: the anchors and some more; 1,300 are enough.
    X_b : array-like of shape (n_samples, n_features_b)
        The new encoder's rows of the same samples, in the same order.
    n_anchors : int, default=300
        How many rows to take as anchors; no more than are not held out.
    metrics : sequence of str, Metric or callable, default=("cosine", "euclidean", \
            "manhattan", "chebyshev")
        The metrics to choose from.  A tuple of several is their product.
    pre : sequence of str, transformer or None, default=(None, "center", \
            "standardize", "whiten")
        The options of `pre` to choose from.
    post : sequence of str, transformer or None, default=("layer", "standardize")
        The options of `post` to choose from.
    test_size : float in [0.1, 0.9], default=0.4
        Share of the rows to hold out.
    check : bool, default=False
        Whether to warn of rows that `skinvariant.comparison.mismatched_rows` finds to
        be other samples.
    random_state : int, RandomState instance or None, default=None
        Seed of the choice of anchors and of held-out rows.
    n_jobs : int, default=None
        How many threads.  None is 1, -1 all processors.  The result does not depend on
        it.
    verbose : int, default=0
        How much of its progress through the choices joblib prints.

    Returns
    -------
    Diagnosis
        The transformations, the agreements, and an aggregator to use.

    Raises
    ------
    ValueError, TypeError
        If the numbers of rows differ or are below 20, or a parameter is not as
        documented.

    Warns
    -----
    UserWarning
        With `check`, if rows seem to be other samples.

    See Also
    --------
    skinvariant.InvariantAggregator : The estimator that is recommended.
    skinvariant.stitch : Replaces the encoder of a fitted model.

    Notes
    -----
    The classes are fitted by least squares: "orthogonal" by singular value
    decomposition [1]_ (between spaces of unequal width the semi-orthogonal matrix of
    the largest trace), permutations by linear sum assignment, "linear" and "affine" by
    a ridge whose penalty is chosen by leave-one-out, since rows may be few.  Scalings
    are not negative.  `transformation` is the first class, in the order of
    `transformations`, whose squared residuals exceed those of the best by at most two
    standard errors of the paired difference over held-out rows ([2]_ uses one), or by a
    millionth of the variance, the rounding of half precision.  Rows that are more than
    three times as far from the centre of a space as the median row are first moved to
    that distance, alike in both spaces, so that a few long rows decide nothing; an
    affine map between the spaces is the same for moved rows.

    Agreement estimates without labels what a head keeps when it is stitched: a ridge
    is trained on the old encoder's relative space to predict the directions that both
    encoders represent (`shared_directions`), and then predicts them from the new
    encoder's relative space (`stitched_agreement`).  It needs both information and
    agreement: relative spaces that are equal but carry no information score 0.

    References
    ----------
    .. [1] P. H. Schönemann, "A generalized solution of the orthogonal Procrustes
       problem", Psychometrika 1966.
    .. [2] L. Breiman et al., "Classification and Regression Trees", 1984,
       section 3.4.3.

    Examples
    --------
    >>> from skinvariant.datasets import make_related_spaces
    >>> from skinvariant.diagnosis import diagnose
    >>> spaces = make_related_spaces(
    ...     transformation=["orthogonal", "translation"], noise=0.05, random_state=0
    ... )
    >>> diagnosis = diagnose(spaces.X_a, spaces.X_b, random_state=0)
    >>> diagnosis.transformation
    'orthogonal+translation'
    >>> round(diagnosis.transformations["orthogonal+translation"], 2)
    1.0
    >>> round(diagnosis.transformations["orthogonal"], 1)
    -0.4
    >>> relative = diagnosis.recommended.fit_transform(spaces.X_a)
    """
    X_a, X_b = spaces = check_corresponding(X_a, X_b, min_rows=_MIN_ROWS)
    options = {"metrics": metrics, "pre": pre, "post": post}
    for name, values in options.items():
        if isinstance(values, str) or not np.iterable(values):
            raise TypeError(f"{name} must be a sequence of options; got {values!r}")
        options[name] = tuple(values)
        if not options[name]:
            raise ValueError(f"{name} must have at least one option; got none")
    check_number("n_anchors", n_anchors, Integral, 2)
    check_number("test_size", test_size, Real, 0.1, 0.9)
    if check:
        # 4, since two decorators are called in between
        warn_of_mismatches(X_a, X_b, samples="X_a and X_b", stacklevel=4)
    order = check_random_state(random_state).permutation(len(X_a))
    n_held_out = max(2, round(test_size * len(X_a)))
    held_out, fitted = order[:n_held_out], order[n_held_out:]
    for (name, X), rows in product(
        zip(("X_a", "X_b"), spaces, strict=True), (fitted, held_out)
    ):
        if not np.ptp(X[rows], axis=0).any():
            raise ValueError(
                f"{name} must have rows that differ, held out or not; got {len(rows)} "
                "equal ones"
            )
    anchors = fitted[:n_anchors]
    wide = [X.astype(np.float64, copy=False) for X in spaces]
    wide = _winsorized(wide, fitted)
    transformations, transformation = _explain(
        [X[fitted] for X in wide], [X[held_out] for X in wide]
    )
    targets = shared_directions(*wide, fitted)
    choices = list(product(*options.values()))
    values = Parallel(n_jobs=n_jobs, prefer="threads", verbose=verbose)(
        delayed(_agree)(choice, spaces, targets, anchors, (fitted, held_out))
        for choice in choices
    )
    agreement = dict(zip(choices, values, strict=True))
    best = max(choices, key=lambda choice: round(agreement[choice], _DIGITS))
    invariances = _aggregator(*best, anchors=anchors).fit(X_a).invariances_
    return Diagnosis(
        transformations=transformations,
        transformation=transformation,
        agreement=agreement,
        recommended=_aggregator(
            *best, n_anchors=len(anchors), random_state=random_state
        ),
        reason=" ".join(
            [
                _about_the_map(transformation, transformations[transformation]),
                _about_the_choice(best, agreement, transformation, invariances),
            ]
        ),
    )


def _about_the_map(transformation, explained):
    """Describe the transformation by which the encoders differ."""
    share = f"explains {explained:.1%} of the held-out variance"
    if explained < _WEAK:
        return (
            f"Of all maps tried, the best of the class '{transformation}' {share}. The "
            "rest is not an affine map: one encoder bends the space of the other, or "
            "they represent different information, and no choice makes their relative "
            "spaces equal."
        )
    if transformation == "none":
        return f"The two encoders do not differ: one space {share} in the other."
    return (
        f"The two encoders differ by a map of the class '{transformation}': it {share}."
    )


def _about_the_choice(best, agreement, transformation, invariances):
    """Describe the best choice: its agreement and its invariance."""
    metric, pre, post = best
    text = (
        f"Of {len(agreement)} choices, metric={metric!r}, pre={pre!r}, post={post!r} "
        f"has the best agreement on held-out rows: {agreement[best]:.3f}, against "
        f"{np.median(list(agreement.values())):.3f} for the median choice."
    )
    parts = set(transformation.split("+")) - {"none"}
    if parts and parts <= invariances:
        text += f" It is invariant to the class '{transformation}'."
    elif parts:
        text += (
            f" It is not invariant to the class '{transformation}' as a whole; it was "
            "chosen for its measured agreement."
        )
    if agreement[best] < _POOR:
        text += (
            " This is poor: a stitched head is likely to lose much, so consider "
            "training the head again."
        )
    return f"{text} Measure the stitched model before you use it."
