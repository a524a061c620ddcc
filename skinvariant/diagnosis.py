"""By which transformation two encoders differ, and which relative space they need."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from numbers import Integral, Real

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.utils import check_array, check_random_state
from sklearn.utils.parallel import Parallel, delayed

from skinvariant._threads import one_blas_thread
from skinvariant._validation import check_number, svd
from skinvariant.relative import InvariantAggregator

__all__ = ["Diagnosis", "diagnose", "shared_directions", "stitched_agreement"]

# penalties of the ridge, in units of the mean squared singular value
_PENALTIES = np.logspace(-9, 1, 11)
# differences of explained variance below it are rounding of half precision
_ROUNDING = 1e-6
_MIN_ROWS = 20
# of the head that measures agreement, per row and unit of variance of a column
_HEAD_PENALTY = 0.1
# below it the encoders differ by more than an affine map and a little noise
_WEAK = 0.9
# agreement below it: a stitched head that is more wrong than right
_POOR = 0.5
# of an agreement: what differs beyond them is rounding, and the first choice is taken
_DIGITS = 6


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
    left, _, right = svd(X_a.T @ X_b, full_matrices=False)
    return left @ right


def _orthogonal_isotropic_scaling(X_a, X_b):
    turn = _orthogonal(X_a, X_b)
    turned = X_a @ turn
    return _positive((turned * X_b).sum(), (turned**2).sum()) * turn


def _linear(X_a, X_b, *, centred=False):
    """Ridge, whose penalty is chosen by leave-one-out.

    Of centred rows each is known from the others: only with an intercept of its own
    does a left-out row count as unseen.
    """
    scale = (X_a**2).sum() / min(X_a.shape) or 1.0
    ridge = RidgeCV(_PENALTIES * scale, fit_intercept=centred).fit(X_a, X_b)
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
    "affine": _Class(partial(_linear, centred=True), translation=True, any_width=True),
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


def _whitened(X, fitted, n_components):
    """Return leading principal components of standardised columns, with variance 1."""
    scaler = StandardScaler().fit(X[fitted])
    components = PCA(n_components, whiten=True, svd_solver="full")
    components.fit(scaler.transform(X[fitted]))
    real = components.explained_variance_ratio_ > _ROUNDING  # others are rounding
    return components.transform(scaler.transform(X))[:, real]


def shared_directions(X_a, X_b, fitted, *, n_components=60, n_directions=20):
    """Canonical variables of two spaces: what both of them see.

    Canonical correlation analysis (H. Hotelling, "Relations between two sets of
    variates", Biometrika 1936) of the leading principal components of each space, as
    those of small variance correlate by chance.

    Parameters
    ----------
    X_a, X_b : ndarray of shape (n_samples, n_features)
        Corresponding rows; widths may differ.
    fitted : ndarray of shape (n_fitted,), dtype int
        The rows from which to find the directions.
    n_components : int, default=60
        How many principal components to use; less in narrow spaces and few rows.
    n_directions : int, default=20
        How many directions at most.

    Returns
    -------
    ndarray of shape (n_samples, n_found)
        The sum of the two spaces' canonical variables, the most correlated first;
        standardised over the fitted rows.

    Examples
    --------
    One thing that both spaces see, and two that only one of them does:

    >>> import numpy as np
    >>> from skinvariant.diagnosis import shared_directions
    >>> both, a, b = np.random.default_rng(0).standard_normal((3, 500))
    >>> X_a, X_b = np.c_[both + a, a], np.c_[b, 5 * both]
    >>> first = shared_directions(X_a, X_b, np.arange(400))[:, 0]
    >>> round(abs(float(np.corrcoef(first, both)[0, 1])), 2)
    1.0
    """
    most = min(n_components, max(1, len(fitted) // 4))
    a, b = (_whitened(X, fitted, min(most, X.shape[1])) for X in (X_a, X_b))
    left, _, right = svd(a[fitted].T @ b[fitted], full_matrices=False)
    variables = (a @ left + b @ right.T)[:, :n_directions]
    return StandardScaler().fit(variables[fitted]).transform(variables)


def stitched_agreement(relative_a, targets_a, relative_b, targets_b):
    """Tell how well a head on one relative space reads another one.

    A ridge regression learns the targets from the relative space of one encoder, and
    predicts them for other rows from the relative space of the other encoder.

    Parameters
    ----------
    relative_a : ndarray of shape (n_a, n_columns)
        Relative space that the head is trained on.
    targets_a : ndarray of shape (n_a, n_targets)
        What it learns.
    relative_b : ndarray of shape (n_b, n_columns)
        Relative space of other rows, of the other encoder.
    targets_b : ndarray of shape (n_b, n_targets)
        What it should say.

    Returns
    -------
    float
        The mean over rows of the cosine between what the head says and what it
        should, between -1 and 1; 0 where the relative spaces carry no information.

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
    >>> abs(stitched_agreement(*parts)) < 0.1
    True
    """
    relative_a = relative_a.astype(np.float64, copy=False)
    alpha = _HEAD_PENALTY * len(relative_a) * relative_a.var(axis=0).mean()
    head = Ridge(alpha or 1.0).fit(relative_a, targets_a)
    said = head.predict(relative_b.astype(np.float64, copy=False))
    said = np.reshape(said, targets_b.shape)
    return float((normalize(said) * normalize(targets_b)).sum(axis=1).mean())


# --- the diagnosis -------------------------------------------------------------


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
        check_array(X, dtype=[np.float64, np.float32], input_name=name)
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
    return X_a, X_b


def _check_varied(spaces, *parts):
    """Refuse spaces that are constant in some part of the rows."""
    for (name, X), rows in product(zip(("X_a", "X_b"), spaces, strict=True), parts):
        if not np.ptp(X[rows], axis=0).any():
            raise ValueError(
                f"{name} must have rows that differ; all {len(rows)} rows of a part of "
                "it, held out or not, are equal"
            )


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
    check_number("n_anchors", n_anchors, Integral, 2)
    check_number("test_size", test_size, Real, 0.1, 0.9)
    order = check_random_state(random_state).permutation(n_rows)
    n_held_out = max(2, round(test_size * n_rows))
    return order[n_held_out:], order[:n_held_out]


def _aggregator(metric, pre, post, **params):
    """Return the aggregator of a choice; a tuple of metrics is a product."""
    metrics = metric if isinstance(metric, tuple) else (metric,)
    return InvariantAggregator(metrics=metrics, pre=pre, post=post, **params)


@one_blas_thread  # for itself, too: it runs in a thread of joblib's
def _agree(choice, spaces, targets, anchors, rows):
    """Agreement of one choice: head on fitted rows of X_a, held-out rows of X_b."""
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
    verbose=0,
):
    """Tell by which transformation two encoders differ, and what serves both.

    No labels are used.  Some rows are held out.  On the others, the best map of each
    class of transformations from the old space to the new one is found; and for each
    choice of metric, `pre` and `post` a linear head, which then reads the new
    encoder's held-out rows.

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
        The metrics to choose from.  A tuple of several stands for their product.
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
    verbose : int, default=0
        How much joblib prints of its progress through the choices.

    Returns
    -------
    Diagnosis
        The transformations, the agreements, and an aggregator to use.

    Raises
    ------
    ValueError, TypeError
        If the spaces have not the same number of rows, at least 20, or a parameter
        is not as documented.

    See Also
    --------
    skinvariant.InvariantAggregator : What is recommended.
    skinvariant.stitch : Swap the encoder under a fitted model.

    Notes
    -----
    The classes are fitted by least squares: "orthogonal" by singular value
    decomposition [1]_ (between spaces of unequal width the semi-orthogonal matrix of
    the largest trace), permutations by linear sum assignment, "linear" and "affine" by
    a ridge whose penalty leave-one-out chooses, since rows may be few.  Scalings are
    not negative.  Named is the simplest class, in the order of `transformations`,
    whose squared residuals exceed those of the best by not more than two standard
    errors of the paired difference over held-out rows (as [2]_ with one), or by a
    millionth of the variance, the rounding of half precision.

    Agreement is what a head would lose and keep at stitching, without labels: a ridge
    learns, on the old encoder's relative space, the directions that both encoders see
    (`shared_directions`), and predicts them from the new encoder's relative space
    (`stitched_agreement`).  It wants both information and agreement: relative spaces
    that are equal but say nothing get 0.

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
    >>> round(diagnosis.transformations["orthogonal"], 2) < 0.9
    True
    >>> relative = diagnosis.recommended.fit_transform(spaces.X_a)
    """
    X_a, X_b = spaces = _check_spaces(X_a, X_b)
    options = [
        _check_options(name, value)
        for name, value in (("metrics", metrics), ("pre", pre), ("post", post))
    ]
    fitted, held_out = _split(len(X_a), n_anchors, test_size, random_state)
    _check_varied(spaces, fitted, held_out)
    anchors = fitted[:n_anchors]
    wide = [X.astype(np.float64, copy=False) for X in spaces]
    transformations, transformation = _explain(
        [X[fitted] for X in wide], [X[held_out] for X in wide]
    )
    targets = shared_directions(*wide, fitted)
    choices = list(product(*options))
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
    """Say by what the encoders differ, and how far that goes."""
    held_out = f"{explained:.1%} of held-out rows is explained"
    if explained < _WEAK:
        return (
            f"Of the maps tried, one of the class '{transformation}' comes nearest: "
            f"taking that, {held_out}. The rest is no affine map: the encoders bend "
            "the space, or see different things, and no choice makes their relative "
            "spaces equal."
        )
    if transformation == "none":
        return f"The two encoders do not differ: {held_out} as it is."
    return (
        f"The two encoders differ by a map of the class '{transformation}': taking "
        f"that, {held_out}."
    )


def _about_the_choice(best, agreement, transformation, invariances):
    """Say which choice is best, by how much, and what it does not see."""
    metric, pre, post = best
    said = (
        f"Of {len(agreement)} choices, metric={metric!r}, pre={pre!r}, post={post!r} "
        f"agrees best on held-out rows: {agreement[best]:.3f}, against "
        f"{np.median(list(agreement.values())):.3f} for the median choice."
    )
    parts = set(transformation.split("+")) - {"none"}
    if parts and parts <= invariances:
        said += f" It is invariant to the class '{transformation}'."
    elif parts:
        said += (
            f" It is not invariant to the class '{transformation}' as a whole; it was "
            "chosen for what it measured."
        )
    if agreement[best] < _POOR:
        said += (
            " That is poor: expect to lose much when you stitch, and think of training "
            "the head anew."
        )
    return f"{said} Measure the stitched model before you use it."
