"""Steps before and after the comparison with anchors: `pre` and `post`."""

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, clone
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from skinvariant._validation import (
    as_float,
    astype,
    check_choice,
    in_numpy,
    namespace,
    to_numpy,
)
from skinvariant.metrics import TRANSFORMATIONS, whitening
from skinvariant.metrics._rows import (
    ORDINARY,
    centred_directions,
    directions,
    power_of_two,
)

# a row whose standard deviation is below this part of its mean has lost digits
_ALMOST_CONSTANT = 1e-3


def layer_normalize(X):
    """Standardise each row on its own: mean 0, standard deviation 1.

    LayerNorm without weights (Ba et al., 2016, arXiv 1607.06450) and without its
    epsilon, so that a factor or a shift common to a row is removed.  Rows that are
    constant within rounding become zero.

    Parameters
    ----------
    X : array of shape (n_samples, n_features), float32 or float64
        A relative space.

    Returns
    -------
    array of shape (n_samples, n_features)
        The standardised rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.relative import layer_normalize
    >>> layer_normalize(np.array([[1.0, 2.0, 3.0], [1e6, 3e6, 5e6]])).round(4).tolist()
    [[-1.2247, 0.0, 1.2247], [-1.2247, 0.0, 1.2247]]
    """
    if namespace(X) is not np:
        return _layer_normalize_any(X)
    with np.errstate(all="ignore"):
        mean = X.mean(axis=1, keepdims=True)
        gaps = X - mean
        gaps -= gaps.mean(axis=1, keepdims=True)  # the rounding of the mean
        variance = np.einsum("ij,ij->i", gaps, gaps) / X.dtype.type(X.shape[1])
        low, high = (bound**2 for bound in ORDINARY[X.dtype.name])
        inexact = ~((variance > low) & (variance < high))
        inexact |= variance < (_ALMOST_CONSTANT * mean[:, 0]) ** 2
        gaps /= np.sqrt(variance)[:, None]
    if inexact.any():
        gaps[inexact] = _layer_normalize_any(X[inexact])
    return gaps


def _layer_normalize_any(X):
    """Standardise rows of any scale, or almost constant, of any array library."""
    unit, _ = centred_directions(X, namespace(X).finfo(X.dtype).eps)
    return astype(unit * float(np.sqrt(X.shape[1])), X.dtype)


def l2_normalize(X):
    """Scale each row to Euclidean norm 1; a zero row stays zero.

    `sklearn.preprocessing.normalize` for rows of any scale, in any array library.

    Parameters
    ----------
    X : array of shape (n_samples, n_features), float32 or float64
        A relative space.

    Returns
    -------
    array of shape (n_samples, n_features)
        The scaled rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.relative import l2_normalize
    >>> l2_normalize(np.array([[3e-200, 4e-200]])).round(12).tolist()
    [[0.6, 0.8]]
    """
    return directions(X)[0]


class Whitener(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Whiten by the inverse square root of the covariance: `pre="whiten"`.

    As `pre` of an estimator, ``Whitener(shrinkage=0.1)`` is the regularised form.

    Parameters
    ----------
    shrinkage : float in [0, 1], default=0.0
        Part of the covariance that is replaced by a multiple of the identity, see
        `skinvariant.metrics.whitening`.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
        Mean of the fitted rows.
    matrix_ : ndarray of shape (n_features, n_features)
        The whitening matrix.
    full_rank_ : bool
        Whether the fitted rows vary in every direction.
    n_features_in_ : int
        Width of the fitted rows.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names of the fitted rows, if they had any.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.relative import Whitener
    >>> X = np.random.default_rng(0).standard_normal((50, 2)) * [1, 100]
    >>> np.cov(Whitener().fit_transform(X), rowvar=False).round(6).tolist()
    [[1.0, -0.0], [-0.0, 1.0]]
    """

    _doc_link_module = "skinvariant"
    _doc_link_template = (
        "https://skinvariant.readthedocs.io/en/stable/generated/"
        "{estimator_module}.{estimator_name}.html"
    )

    def __init__(self, shrinkage=0.0):
        self.shrinkage = shrinkage

    def fit(self, X, y=None):
        """Compute the whitening matrix of `X`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The anchors.
        y : ignored
            Not used.

        Returns
        -------
        Whitener
            The fitted transformer itself.
        """
        X = as_float(validate_data(self, in_numpy("X", X), dtype="numeric"))
        self.mean_, self.matrix_, self.full_rank_ = whitening(X, self.shrinkage)
        return self

    def transform(self, X):
        """Whiten rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Whitened rows.
        """
        check_is_fitted(self)
        X = as_float(
            validate_data(self, in_numpy("X", X), dtype="numeric", reset=False)
        )
        return ((X - self.mean_) @ self.matrix_).astype(X.dtype, copy=False)

    def inverse_transform(self, X):
        """Undo the whitening.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Whitened rows.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows; in directions in which the fitted rows do not vary, their mean.
        """
        check_is_fitted(self)
        X = as_float(check_array(in_numpy("X", X), dtype="numeric", estimator=self))
        eps = np.finfo(self.matrix_.dtype).eps
        back = np.linalg.pinv(self.matrix_, len(self.matrix_) * eps, hermitian=True)
        return (X @ back + self.mean_).astype(X.dtype, copy=False)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


# the steps by name
PRE = {
    "center": StandardScaler(with_std=False),
    "standardize": StandardScaler(),
    "whiten": Whitener(),
}
POST = {
    "l2": FunctionTransformer(l2_normalize),
    "layer": FunctionTransformer(layer_normalize),
    "standardize": StandardScaler(),
}
_SCALE_FREE = (l2_normalize, layer_normalize)


def find_step(name, option, choices):
    """Return the transformer that a parameter stands for.

    Parameters
    ----------
    name : {"pre", "post"}
        The parameter.
    option : str, transformer or None
        Its value.
    choices : dict of str to transformer
        `PRE` or `POST`.

    Returns
    -------
    transformer or None
        Not a copy.

    Raises
    ------
    TypeError, ValueError
        If it is none of these.
    """
    if option is None or (hasattr(option, "fit") and hasattr(option, "transform")):
        return option
    expected = "a scikit-learn transformer, or None"
    return check_choice(name, option, choices, or_else=expected)


def fitted(step, X):
    """Fit a step, unless a StandardScaler would do what it does not promise.

    Parameters
    ----------
    step : transformer
        The step.
    X : array of shape (n_samples, n_features)
        Rows.

    Returns
    -------
    transformer
        The fitted step.

    Raises
    ------
    ValueError
        If the variance of a column is beyond the range of its dtype, so that a
        StandardScaler would take the column for a constant one or make it 0.
    """
    step = step.fit(X)
    if type(step) is StandardScaler and step.with_std and not issparse(X):
        xp, variance = namespace(step.var_), step.var_
        info = xp.finfo(variance.dtype)
        low, high = info.smallest_normal, info.max
        varies = xp.any(X[:1, :] != X, axis=0)
        if bool(xp.any(varies & ~((variance >= low) & (variance <= high)))):
            raise ValueError(
                "the variance of each column must be within the range of "
                f"{variance.dtype} for a StandardScaler: rescale the space; got values "
                f"up to {float(xp.max(xp.abs(X)))}"
            )
    return step


def rounding_after(pre, X):
    """Return how far values may be off after `pre`, which may subtract large numbers.

    Parameters
    ----------
    pre : transformer or None
        The fitted step.
    X : array of shape (n_samples, n_features), float32 or float64
        Rows before it.

    Returns
    -------
    ndarray of shape (n_features,) or float
        An absolute error for each column; 0.0 where the step subtracts nothing, or is
        one of the user's own.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skinvariant.relative._steps import rounding_after
    >>> X = np.array([[1e6, 1], [1e6 + 1, 2], [1e6 + 2, 3]])
    >>> rounding_after(StandardScaler().fit(X), X).round(12).tolist()
    [5.44e-10, 0.0]
    """
    if type(pre) is StandardScaler and pre.with_mean:
        sizes = (abs(X) + abs(pre.mean_)) / (pre.scale_ if pre.with_std else 1)
    elif type(pre) is Whitener:
        sizes = (abs(X) + abs(pre.mean_)) @ abs(pre.matrix_)
    else:
        return 0.0
    xp = namespace(X)
    return to_numpy(xp.max(sizes, axis=0)) * float(xp.finfo(X.dtype).eps)


def standardization(X):
    """Return what a StandardScaler subtracts and divides by, at any magnitude.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), dtype float64
        Rows.

    Returns
    -------
    mean, scale : ndarray of shape (n_features,)
        Mean and standard deviation of each column; the scale of a constant one is 1.
    """
    peaks = np.abs(X).max(axis=0)
    ordinary = (peaks > 1e-100) & (peaks < 1e100)
    units = np.where(ordinary, 1.0, power_of_two(peaks))
    scaler = StandardScaler().fit(X / units)
    return scaler.mean_ * units, scaler.scale_ * units


def unfitted(step):
    """Return an unfitted copy of a step, or None.

    Parameters
    ----------
    step : transformer or None
        From `find_step`.

    Returns
    -------
    transformer or None
        Its output are arrays, whatever the global configuration is.
    """
    if step is None:
        return None
    step = clone(step)
    if hasattr(step, "set_output"):
        step.set_output(transform="default")
    return step


def _scales_every_column(scaler):
    """Return whether no column was constant when a StandardScaler was fitted.

    A StandardScaler does not scale constant columns.
    """
    xp = namespace(scaler.var_)
    return not bool(xp.any(scaler.scale_ != xp.sqrt(scaler.var_)))


def removes_scale(post):
    """Return whether a fitted `post` removes a factor that all values share.

    Parameters
    ----------
    post : transformer or None
        The fitted step.

    Returns
    -------
    bool
        False also where nothing is known about it.
    """
    if type(post) is StandardScaler:
        return post.with_std and _scales_every_column(post)
    return getattr(post, "func", None) in _SCALE_FREE


def classes_after(pre):
    """Return what a fitted `pre` makes of each class of transformations.

    Parameters
    ----------
    pre : transformer or None
        The fitted step.

    Returns
    -------
    dict of str to str or None
        By class of transformations before `pre`, the class by which rows still differ
        after it; None if they no longer differ.  Classes about which nothing is known
        are missing.
    """
    after = {name: name for name in TRANSFORMATIONS}
    if pre is None:
        return after
    if type(pre) is Whitener:
        after["isotropic_scaling"] = after["translation"] = None
        exact = pre.full_rank_ and pre.shrinkage == 0
        turned = "orthogonal" if exact else "linear"
        return after | dict.fromkeys(("axis_scaling", "linear", "affine"), turned)
    if type(pre) is not StandardScaler:
        return {}
    if pre.with_mean:
        after |= {"translation": None, "affine": "linear"}
    if pre.with_std:
        scaling = None if _scales_every_column(pre) else "axis_scaling"
        after |= dict.fromkeys(("isotropic_scaling", "axis_scaling"), scaling)
        after["orthogonal"] = "linear"
    return after
