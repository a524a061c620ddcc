"""Steps before the comparison with anchors."""

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from skinvariant._validation import as_float
from skinvariant.metrics import whitening

__all__ = ["Whitener"]


class Whitener(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Whitening by the inverse square root of the covariance: `pre="whiten"`.

    Parameters
    ----------
    shrinkage : float in [0, 1], default=0.0
        See `skinvariant.metrics.whitening`.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
        Mean of the fitted rows.
    matrix_ : ndarray of shape (n_features, n_features)
        The whitening matrix.
    full_rank_ : bool
        Whether the fitted rows vary in every direction.

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
            Itself.
        """
        X = as_float(validate_data(self, X, dtype="numeric"))
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
        X = as_float(validate_data(self, X, dtype="numeric", reset=False))
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
            Rows; of directions in which the fitted rows do not vary, their mean.
        """
        check_is_fitted(self)
        X = as_float(check_array(X, dtype="numeric", estimator=self))
        eps = np.finfo(self.matrix_.dtype).eps
        back = np.linalg.pinv(self.matrix_, len(self.matrix_) * eps, hermitian=True)
        return (X @ back + self.mean_).astype(X.dtype, copy=False)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
