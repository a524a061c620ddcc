"""Translation: one space mapped into another, fitted on corresponding rows."""

from numbers import Real

import numpy as np
from scipy.linalg import eigh, pinv, solve
from scipy.spatial.distance import pdist
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.metrics import r2_score
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import KernelCenterer, StandardScaler
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from skinvariant._callbacks import CallbackSupportMixin, telling, with_callbacks
from skinvariant._validation import check_choice, check_number, svd

__all__ = ["SpaceTranslator"]

# times the sum of squares of the standardised source, or the trace of the kernel
_ALPHAS = np.logspace(-7, 1, 17)
_FLOATS = (np.float64, np.float32)


def _with_arrays(step):
    """Return a step that makes arrays, whatever the global configuration."""
    return step.set_output(transform="default")


def _procrustes_map(X_source, X_target, *, scale=False):
    """Find the map with orthonormal rows or columns that best takes rows to rows.

    Of corresponding rows, both centred.  Where the widths differ, this is the
    orthogonal map between the spaces with columns of zeros added to the narrower one.

    Parameters
    ----------
    X_source : ndarray of shape (n_samples, n_features_source)
        Rows, whose mean is 0.
    X_target : ndarray of shape (n_samples, n_features_target)
        The corresponding rows, whose mean is 0.
    scale : bool, default=False
        Whether to multiply the map by the factor that fits best.

    Returns
    -------
    ndarray of shape (n_features_source, n_features_target)
        The map, for ``X_source @ map``.

    References
    ----------
    P. H. Schönemann, "A generalized solution of the orthogonal Procrustes problem",
    Psychometrika 31, 1966.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.translation import _procrustes_map
    >>> X_source = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, -2.0]])
    >>> X_target = 3 * X_source[:, ::-1]
    >>> found = _procrustes_map(X_source, X_target, scale=True)
    >>> bool(np.allclose(found, [[0, 3], [3, 0]]))
    True
    """
    left, singular, right = svd(X_source.T @ X_target, full_matrices=False)
    turn = left @ right
    if not scale:
        return turn
    squares = np.sum((X_source @ turn) ** 2)
    return turn * (singular.sum() / squares) if squares > 0 else turn


def _leave_one_out_errors(kernel, targets, alphas):
    """Compute the error of kernel ridge regression for each row, were it left out.

    The regression has an intercept without penalty, which is fitted without the row
    as well.  One eigendecomposition serves all penalties.

    Parameters
    ----------
    kernel : ndarray of shape (n_samples, n_samples)
        A positive semi-definite kernel of the rows; its centring changes nothing.
    targets : ndarray of shape (n_samples, n_targets)
        What to predict.
    alphas : array-like of shape (n_alphas,)
        Penalties, greater than 0.

    Returns
    -------
    ndarray of shape (n_alphas, n_samples, n_targets)
        Each target minus what a model fitted on all other rows predicts.  Of a single
        row, which leaves none, the target minus itself.

    References
    ----------
    G. C. Cawley and N. L. C. Talbot, "Fast exact leave-one-out cross-validation of
    sparse least-squares support vector machines", Neural Networks 17, 2004.

    Examples
    --------
    Almost no penalty, and each row is predicted by the line through the other two:

    >>> import numpy as np
    >>> from skinvariant.translation import _leave_one_out_errors
    >>> x, y = np.array([0.0, 1.0, 2.0]), np.array([[0.0], [1.0], [4.0]])
    >>> _leave_one_out_errors(np.outer(x, x), y, [1e-9]).round(3).tolist()
    [[[2.0], [-1.0], [2.0]]]
    """
    kernel = _with_arrays(KernelCenterer()).fit_transform(kernel)
    # with the constant vector made the largest, the others are what an intercept
    # leaves; left in, it would tell each row its own target by the sum of the others
    values, vectors = eigh(kernel + (1 + np.trace(kernel)) / len(kernel))
    values, vectors = np.maximum(values[:-1], 0), vectors[:, :-1]
    coordinates = vectors.T @ targets
    errors = []
    for alpha in alphas:
        dual = (vectors / (values + alpha)) @ coordinates
        diagonal = (vectors**2) @ (1 / (values + alpha))
        errors.append(dual / np.where(diagonal > 0, diagonal, 1)[:, np.newaxis])
    return np.asarray(errors)


def _has_inverse(translator):
    """Whether a map can be taken back; for `available_if`, which tells why not."""
    if translator.method in ("ridge", "kernel"):
        raise AttributeError(
            f"method={translator.method!r} has no inverse: fit a translator the other "
            "way round, from the target to the source"
        )
    return True


class SpaceTranslator(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Translate the rows of one space into another, from corresponding rows.

    Nothing but the corresponding rows is needed: no labels, and no encoder.

    Parameters
    ----------
    method : {"orthogonal", "linear", "affine", "ridge", "kernel"}, default="ridge"
        The kind of map.

        - "orthogonal": a rotation or reflection of the centred rows (Procrustes) [1]_.
          Where the widths differ, into a part of the wider space or onto one.
        - "linear": least squares through the origin.
        - "affine": least squares with an offset.  As in "linear", the smallest of the
          maps that fit best, where rows are few.
        - "ridge": least squares with a penalty, on columns standardised in both spaces.
        - "kernel": kernel ridge regression with a Gaussian kernel, on columns
          standardised in both spaces: a map that need not be linear.
    scale : bool, default=True
        Of "orthogonal": whether the map may also scale, by one factor for all axes.
    alphas : array-like of float, default=None
        Of "ridge" and "kernel": penalties to choose among, as fractions of the sum of
        squares of the standardised source ("ridge") or of the trace of the centred
        kernel.  None is ``numpy.logspace(-7, 1, 17)``.
    gammas : array-like of float, default=(0.1, 0.3, 1.0)
        Of "kernel": widths to choose among, as fractions of 1 over the median squared
        distance of standardised source rows.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features_out, n_features_in)
        The map, of all methods but "kernel": ``X @ coef_.T + intercept_``.
    intercept_ : ndarray of shape (n_features_out,)
        The offset.
    alpha_ : float
        The chosen penalty, as `sklearn.linear_model.Ridge` takes it on standardised
        columns.  Of "ridge" and "kernel".
    gamma_ : float
        The chosen width, as `sklearn.metrics.pairwise.rbf_kernel` takes it on
        standardised columns.  Of "kernel".
    dual_coef_ : ndarray of shape (n_samples, n_features_out)
        The weights of the fitted rows.  Of "kernel".
    left_out_ : ndarray of shape (n_samples, n_features_out)
        Each fitted row as it is translated from all others.  Of "kernel".
    n_features_in_ : int
        Width of the source space.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names of the fitted source, where it had some.

    See Also
    --------
    skinvariant.RelativeProjector : One space for both encoders.
    sklearn.cross_decomposition.PLSRegression : Regression through few components.

    Notes
    -----
    "ridge" and "kernel" choose by the squared error of each row when left out, over
    all standardised target columns; exactly, without fitting anew.  The intercept is
    that of the other rows; the means and spreads of the columns are those of all rows.
    "kernel" takes time with the cube of the number of fitted rows, and each
    transformed row is compared with all of them.

    References
    ----------
    .. [1] V. Maiorca et al., "Latent space translation via semantic alignment",
       NeurIPS 2023, arXiv 2311.00664.

    Examples
    --------
    >>> from skinvariant.datasets import make_related_spaces
    >>> from skinvariant.translation import SpaceTranslator
    >>> spaces = make_related_spaces(transformation="affine", n_features_b=12,
    ...                              noise=0.1, random_state=0)
    >>> X_a, X_b = spaces.X_a, spaces.X_b
    >>> translator = SpaceTranslator().fit(X_a[:30], X_b[:30])
    >>> translator.transform(X_a[30:]).shape
    (170, 12)
    >>> round(translator.score(X_a[30:], X_b[30:]), 2)
    0.99
    """

    def __init__(
        self, method="ridge", *, scale=True, alphas=None, gammas=(0.1, 0.3, 1.0)
    ):
        self.method = method
        self.scale = scale
        self.alphas = alphas
        self.gammas = gammas

    _doc_link_module = "skinvariant"
    _doc_link_template = (
        "https://skinvariant.readthedocs.io/en/stable/generated/"
        "{estimator_module}.{estimator_name}.html"
    )

    @with_callbacks
    def fit(self, X, y):
        """Fit the map on corresponding rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the source space, such as its anchors.
        y : array-like of shape (n_samples, n_features_out) or (n_samples,)
            The same rows in the target space.  One dimension is one column.

        Returns
        -------
        SpaceTranslator
            Itself.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the input is not as documented, or the numbers of rows
            differ.
        """
        fit_map = check_choice("method", self.method, _METHODS, or_else="no other")
        X, y = validate_data(
            self,
            X,
            y,
            validate_separately=(
                {"dtype": _FLOATS},
                {"dtype": _FLOATS, "ensure_2d": False},
            ),
        )
        check_consistent_length(X, y)
        X, y = X.astype(np.float64), y.reshape(len(y), -1).astype(np.float64)
        self._n_features_out = y.shape[1]
        with telling(self, X=X, y=y):
            fit_map(self, X, y)
        return self

    def transform(self, X):
        """Translate rows of the source space into the target space.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the source space.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            Rows of the target space, in float32 for float32 input and else in float64.
        """
        return self.predict(X)

    def predict(self, X):
        """Translate rows as `transform` does, for tools that ask for a `predict`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the source space.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            Rows of the target space; an array, whatever `set_output` says.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=_FLOATS, reset=False)
        if hasattr(self, "coef_"):
            return X @ self.coef_.T.astype(X.dtype) + self.intercept_.astype(X.dtype)
        rows = self._scaler.transform(X)
        kernel = rbf_kernel(rows, self._rows, gamma=self.gamma_)
        kernel = self._centerer.transform(kernel)
        return (kernel @ self.dual_coef_ + self.intercept_).astype(X.dtype, copy=False)

    @available_if(_has_inverse)
    def inverse_transform(self, X):
        """Take rows of the target space back into the source space.

        By the pseudo-inverse of the map: of all rows that are translated to this one,
        or nearest to it, that which is nearest to the mean of the fitted rows
        ("linear": to the origin).  Not for "ridge" and "kernel".

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features_out)
            Rows of the target space.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows of the source space.
        """
        check_is_fitted(self)
        X = check_array(X, dtype=_FLOATS, estimator=self)
        if X.shape[1] != self._n_features_out:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} translates "
                f"into a space of {self._n_features_out} features"
            )
        back = pinv(self.coef_.T, rtol=np.sqrt(np.finfo(np.float64).eps))
        offset = self._origin - (self._origin @ self.coef_.T + self.intercept_) @ back
        return X @ back.astype(X.dtype) + offset.astype(X.dtype)

    def score(self, X, y):
        """Compute how much of the target's variance the translation explains.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the source space.
        y : array-like of shape (n_samples, n_features_out) or (n_samples,)
            The same rows in the target space.

        Returns
        -------
        float
            R^2, the columns weighted by their variance; 1 is perfect, 0 no better than
            the mean.
        """
        return r2_score(y, self.predict(X), multioutput="variance_weighted")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags

    def _fit_orthogonal(self, X, y):
        self._origin = X.mean(axis=0)
        mean = y.mean(axis=0)
        self.coef_ = _procrustes_map(X - self._origin, y - mean, scale=self.scale).T
        self.intercept_ = mean - self._origin @ self.coef_.T

    def _fit_least_squares(self, X, y):
        affine = self.method == "affine"
        regression = LinearRegression(fit_intercept=affine).fit(X, y)
        self.coef_ = regression.coef_
        self.intercept_ = np.broadcast_to(regression.intercept_, y.shape[1]).copy()
        self._origin = X.mean(axis=0) if affine else np.zeros(X.shape[1])

    def _fit_ridge(self, X, y):
        source = _with_arrays(StandardScaler()).fit(X)
        target = _with_arrays(StandardScaler()).fit(y)
        rows = source.transform(X)
        alphas = self._penalties(np.sum(rows**2))
        with np.errstate(invalid="ignore"):  # of a single row any penalty will do
            regression = RidgeCV(alphas).fit(rows, target.transform(y))
        self.alpha_ = regression.alpha_
        coef = regression.coef_.reshape(y.shape[1], -1)
        self.coef_ = coef * target.scale_[:, np.newaxis] / source.scale_
        self.intercept_ = target.mean_ - self.coef_ @ source.mean_

    def _fit_kernel(self, X, y):
        self._scaler = _with_arrays(StandardScaler()).fit(X)
        target = _with_arrays(StandardScaler()).fit(y)
        self._rows, y = self._scaler.transform(X), target.transform(y)
        distances = pdist(self._rows, "sqeuclidean")
        median = np.median(distances) if distances.size else 0.0
        best = np.inf
        for gamma in _positive("gammas", self.gammas) / (median or 1.0):
            kernel = rbf_kernel(self._rows, gamma=gamma)
            centerer = _with_arrays(KernelCenterer()).fit(kernel)
            centred = centerer.transform(kernel)
            alphas = self._penalties(np.trace(centred))
            errors = _leave_one_out_errors(centred, y, alphas)
            squares = np.sum(errors**2, axis=(1, 2))
            if squares.min() < best:
                best = squares.min()
                self.gamma_, self.alpha_ = gamma, alphas[squares.argmin()]
                self._centerer, chosen = centerer, centred
                left_out = y - errors[squares.argmin()]
        ridge = np.diag(np.full(len(y), self.alpha_))
        self.dual_coef_ = solve(chosen + ridge, y, assume_a="pos") * target.scale_
        self.intercept_ = target.mean_
        self.left_out_ = target.inverse_transform(left_out)

    def _penalties(self, total):
        """Return the penalties to choose among, absolute."""
        alphas = _ALPHAS if self.alphas is None else _positive("alphas", self.alphas)
        return alphas * (total if total > 0 else 1.0)


def _positive(name, values):
    """Return numbers greater than 0 as an array, or say what is wrong with them."""
    low = np.finfo(np.float64).tiny
    values = [check_number(name, value, Real, low, 1 / low) for value in values]
    if not values:
        raise ValueError(f"{name} must hold at least one number; got none")
    return np.asarray(values, dtype=np.float64)


_METHODS = {
    "orthogonal": SpaceTranslator._fit_orthogonal,
    "linear": SpaceTranslator._fit_least_squares,
    "affine": SpaceTranslator._fit_least_squares,
    "ridge": SpaceTranslator._fit_ridge,
    "kernel": SpaceTranslator._fit_kernel,
}
