"""Translation: one space mapped into another, fitted on corresponding rows."""

import heapq
from dataclasses import dataclass
from numbers import Real

import numpy as np
from scipy.linalg import eigh, pinv
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from skinvariant._correspondence import warn_of_mismatches
from skinvariant._validation import check_choice, check_number, in_numpy, svd
from skinvariant.metrics import METRICS, euclidean
from skinvariant.metrics._rows import power_of_two
from skinvariant.relative._steps import standardization

__all__ = ["SpaceTranslator"]

# times the sum of squares of the standardised source, or the trace of the kernel
_ALPHAS = np.logspace(-7, 1, 17)
_FLOATS = (np.float64, np.float32)
# the part of a column's spread that numbers too small for float64 may take from it
_LOST = 1e-12


def _procrustes_map(X_source, X_target, *, scale=False):
    """Compute the map with orthonormal rows or columns that fits best.

    The rows correspond, and both spaces are centred.  Where the widths differ, this is
    the orthogonal map between the spaces with columns of zeros added to the narrower
    one.  Where the rows do not span the narrower space, many maps fit best; this is the
    smallest one, which maps directions outside their span to 0.

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
    units = [power_of_two(np.abs(X).max()) for X in (X_source, X_target)]
    X_source, X_target = X_source / units[0], X_target / units[1]
    bases = [None, None]
    if len(X_source) < min(X_source.shape[1], X_target.shape[1]):
        # in bases of the spans of the rows there are only as many columns as rows
        bases, spans = zip(
            *(np.linalg.qr(X.T) for X in (X_source, X_target)), strict=True
        )
        cross = spans[0] @ spans[1].T
    else:
        cross = X_source.T @ X_target
    left, singular, right = svd(cross, full_matrices=False)
    shown = singular > max(cross.shape) * np.finfo(np.float64).eps * singular.max()
    left, right = left[:, shown], right[shown]
    if bases[0] is not None:
        left, right = bases[0] @ left, right @ bases[1].T
    turn = left @ right
    if not scale:
        return turn
    squares = np.sum((X_source @ turn) ** 2)
    factor = singular.sum() / squares if squares > 0 else 1.0
    return turn * (factor * (units[1] / units[0]))


@dataclass(frozen=True)
class _KernelSpectrum:
    """Kernel ridge regression of some rows, for any targets and any penalty.

    The regression has an intercept without penalty.  One eigendecomposition of the
    centred kernel, which `of_kernel` and `of_rows` compute, serves them all.

    Attributes
    ----------
    values : ndarray of shape (n_values,)
        Eigenvalues of the centred kernel, >= 0.  Those that are missing from the
        n_samples - 1 which an intercept leaves are 0.
    vectors : ndarray of shape (n_samples, n_values)
        The eigenvectors.

    References
    ----------
    G. C. Cawley and N. L. C. Talbot, "Fast exact leave-one-out cross-validation of
    sparse least-squares support vector machines", Neural Networks 17, 2004.

    Examples
    --------
    Almost without penalty each row is predicted by the line through the other two:

    >>> import numpy as np
    >>> from skinvariant.translation import _KernelSpectrum
    >>> x, y = np.array([[0.0], [1.0], [2.0]]), np.array([[0.0], [1.0], [4.0]])
    >>> _, left_out = _KernelSpectrum.of_rows(x).solve(y, 1e-9)
    >>> left_out.round(3).tolist()
    [[-2.0], [2.0], [2.0]]
    """

    values: np.ndarray
    vectors: np.ndarray

    @classmethod
    def of_kernel(cls, kernel):
        """Decompose a positive semi-definite kernel, centred or not."""
        means = kernel.mean(axis=0)
        kernel = kernel - means
        kernel -= (means - means.mean())[:, np.newaxis]
        # with the constant vector made the largest, the others are what an intercept
        # leaves; left in, it would leak each row's target by the sum of the others
        kernel += (2 * np.trace(kernel) or 1.0) / len(kernel)
        values, vectors = eigh(kernel, driver="evd", overwrite_a=True)
        return cls(np.maximum(values[:-1], 0), vectors[:, :-1])

    @classmethod
    def of_rows(cls, rows):
        """Decompose the linear kernel of rows, in the smaller of the two ways."""
        if len(rows) <= rows.shape[1] + 1:
            return cls.of_kernel(rows @ rows.T)
        left, singular, _ = svd(rows - rows.mean(axis=0), full_matrices=False)
        return cls(singular**2, left)

    @property
    def _unexplained(self):
        """1.0 where directions of eigenvalue 0 are missing from the vectors, or 0.0."""
        return float(self.vectors.shape[1] < len(self.vectors) - 1)

    def _weights(self, alphas):
        """Compute the weights of coordinates in residuals, and the leverage of rows.

        Returns
        -------
        weights : ndarray of shape (n_values, n_alphas)
            ``vectors @ (weights * (vectors.T @ targets))``, and for `_unexplained`
            the centred targets, are the residuals of the regression.
        diagonal : ndarray of shape (n_samples, n_alphas)
            The derivative of each residual by its own target: residuals over this are
            the leave-one-out errors.
        """
        rest = self._unexplained
        weights = alphas / (self.values[:, np.newaxis] + alphas) - rest
        diagonal = self.vectors**2 @ weights + rest * (1 - 1 / len(self.vectors))
        info = np.finfo(np.float64)
        return weights, np.maximum(diagonal, info.eps if rest else info.tiny)

    def solve(self, targets, alpha):
        """Fit the regression, and predict each row from a fit to all others.

        Parameters
        ----------
        targets : ndarray of shape (n_samples, n_targets)
            What to predict.
        alpha : float
            The penalty, greater than 0.

        Returns
        -------
        dual_coef : ndarray of shape (n_samples, n_targets)
            The weights of the rows: ``kernel @ dual_coef`` are the predictions, less
            the mean of the targets, with the kernel of new rows centred by the column
            means of that of the fitted ones.
        left_out : ndarray of shape (n_samples, n_targets)
            What a fit to the other rows, the intercept included, predicts for each
            row; exactly.  Of a single row, which leaves none, its target.
        """
        weights, diagonal = self._weights(np.array([alpha]))
        centred = targets - targets.mean(axis=0)
        residuals = self.vectors @ (weights * (self.vectors.T @ centred))
        if self._unexplained:
            residuals += centred
        return residuals / alpha, targets - residuals / diagonal


class _Sums:
    """Sums of squared leave-one-out errors on one kernel, at once or by bounds.

    Parameters
    ----------
    spectrum : _KernelSpectrum
        The kernel.
    targets : ndarray of shape (n_samples, n_targets)
        What to predict, centred, of norm 1.
    alphas : ndarray of shape (n_alphas,)
        The penalties.
    """

    def __init__(self, spectrum, targets, alphas):
        self.vectors, self.targets = spectrum.vectors, targets
        self.coordinates = self.vectors.T @ targets
        self.squares = np.linalg.vecdot(self.coordinates, self.coordinates)
        arrays = self.vectors, self.coordinates, targets
        self.singles = [array.astype(np.float32) for array in arrays]
        self.weights, self.diagonals = spectrum._weights(alphas)
        self.rest = spectrum._unexplained

    def bounds(self, k):
        """Yield bounds of the sum for penalty k, ever closer, and at last the sum.

        The errors are residuals over the diagonal.  The coordinates give the sum of
        squared residuals, and with it the first bounds.  Then the residuals of groups
        of rows, of decreasing diagonal, are computed in single precision, plus or minus
        what rounding may have changed.

        Yields
        ------
        lower, upper : float
            Bounds; the last two are equal.
        """
        peak = self.diagonals[:, k].max()
        weights, diagonal = self.weights[:, k] / peak, self.diagonals[:, k] / peak
        rest = self.rest / peak
        order = np.argsort(-diagonal)
        total = rest**2 + (weights * (weights + 2 * rest)) @ self.squares
        rounding = 1e-12 * (total + rest**2)
        least, most = max(total - rounding, 0.0), total + rounding
        smallest = diagonal[order[-1]]
        yield least, most / smallest**2

        length = np.sqrt(weights**2 @ self.squares) + rest
        slack = (len(weights) + 8) * np.finfo(np.float32).eps / 2 * length + 1e-30
        vectors, coordinates, targets = self.singles
        lower = upper = 0.0
        for rows in np.array_split(order, min(8, 1 + len(order) // 50)):
            residuals = (vectors[rows] * weights.astype(np.float32)) @ coordinates
            if rest:
                residuals += targets[rows] * np.float32(rest)
            norms = np.linalg.norm(residuals.astype(np.float64), axis=1)
            low, high = np.maximum(norms - slack, 0), norms + slack
            lower += np.sum((low / diagonal[rows]) ** 2)
            upper += np.sum((high / diagonal[rows]) ** 2)
            least, most = least - high @ high, most - low @ low
            if rows[-1] == order[-1]:
                yield lower, upper
            else:
                least_of_rest = max(least, 0.0) / diagonal[rows[-1]] ** 2
                yield lower + least_of_rest, upper + most / smallest**2

        residuals = self.vectors @ (weights[:, np.newaxis] * self.coordinates)
        if rest:
            residuals += rest * self.targets
        norms = np.linalg.norm(residuals, axis=1)
        error = np.sum((norms / diagonal) ** 2)
        yield error, error


def _choose_by_leaving_out(spectra, alphas, targets):
    """Choose kernel and penalty by the sum of squared leave-one-out errors, exactly.

    The choice with the smallest lower bound of its sum is always refined next, until no
    other can be smaller, so that few sums are computed in full.

    Parameters
    ----------
    spectra : list of _KernelSpectrum
        Kernels of the same rows.
    alphas : list of ndarray of shape (n_alphas,)
        Of each kernel, the penalties to choose among, greater than 0.
    targets : ndarray of shape (n_samples, n_targets)
        What to predict.

    Returns
    -------
    index : int
        Position of the chosen kernel.
    alpha : float
        The chosen penalty.

    Examples
    --------
    For a line the smaller penalty is better:

    >>> import numpy as np
    >>> from skinvariant.translation import _choose_by_leaving_out, _KernelSpectrum
    >>> x = np.arange(6.0)[:, np.newaxis]
    >>> spectra = [_KernelSpectrum.of_rows(x)]
    >>> index, alpha = _choose_by_leaving_out(spectra, [np.array([0.1, 1e-5])], 2 * x)
    >>> index, float(alpha)
    (0, 1e-05)
    """
    targets = targets - targets.mean(axis=0)
    if targets.shape[1] > len(targets):  # turned, which changes no sum of squares
        targets = np.linalg.qr(targets.T, mode="r").T
    targets = targets / (np.linalg.norm(targets) or 1.0)
    choices, bounds = [], []
    for i, (spectrum, penalties) in enumerate(zip(spectra, alphas, strict=True)):
        sums = _Sums(spectrum, targets, penalties)
        choices += [(i, alpha) for alpha in penalties]
        bounds += [sums.bounds(k) for k in range(len(penalties))]
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        queue = [(next(bound)[0], k) for k, bound in enumerate(bounds)]
        heapq.heapify(queue)
        while True:
            _, k = heapq.heappop(queue)
            lower, upper = next(bounds[k], (None, -np.inf))
            if not queue or (upper, k) <= queue[0]:
                return choices[k]
            heapq.heappush(queue, (lower, k))


def _has_inverse(translator):
    """Whether a map has an inverse; `available_if` passes the reason on if not."""
    if translator.method in ("ridge", "kernel"):
        raise AttributeError(
            "method must be 'orthogonal', 'linear' or 'affine' for an inverse (or fit "
            "a translator the other way round, from the target to the source); got "
            f"{translator.method!r}"
        )
    return True


class SpaceTranslator(
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Translate the rows of one space into another, from corresponding rows.

    It needs only corresponding rows: no labels, and no encoder.

    Parameters
    ----------
    method : {"orthogonal", "linear", "affine", "ridge", "kernel"}, default="ridge"
        The kind of map.

        - "orthogonal": a rotation or reflection of the centred rows (Procrustes) [1]_.
          Where the widths differ, into a subspace of the wider space or onto one;
          where there are few rows, 0 in directions outside their span.
        - "linear": least squares through the origin.
        - "affine": least squares with an offset.  Where there are few rows, this and
          "linear" take the smallest of the maps that fit best.
        - "ridge": least squares with a penalty, on columns standardised in both spaces.
        - "kernel": kernel ridge regression with a Gaussian kernel, on columns
          standardised in both spaces: a map that need not be linear.
    scale : bool, default=True
        For "orthogonal": whether the map may also scale, by one factor for all axes.
    alphas : array-like of float, default=None
        For "ridge" and "kernel": penalties to choose among, as fractions of the sum of
        squares of the standardised source ("ridge") or of the trace of the centred
        kernel.  None is ``numpy.logspace(-7, 1, 17)``.
    gammas : array-like of float, default=(0.1, 0.3, 1.0)
        For "kernel": widths to choose among, as fractions of 1 over the median squared
        distance of standardised source rows.
    check : bool, default=False
        Whether `fit` warns of rows that `skinvariant.comparison.mismatched_rows` finds
        to be other samples.  It needs 20 rows or more.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features_out, n_features_in)
        The map ``X @ coef_.T + intercept_``, for all methods but "kernel".
    intercept_ : ndarray of shape (n_features_out,)
        The offset.
    alpha_ : float
        The chosen penalty, as `sklearn.linear_model.Ridge` takes it on standardised
        columns.  For "ridge" and "kernel".
    gamma_ : float
        The chosen width, as `sklearn.metrics.pairwise.rbf_kernel` takes it on
        standardised columns.  For "kernel".
    dual_coef_ : ndarray of shape (n_samples, n_features_out)
        The weights of the fitted rows.  For "kernel".
    left_out_ : ndarray of shape (n_samples, n_features_out)
        Each fitted row, translated by a fit to all others.  For "ridge" and "kernel".
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
    "ridge" and "kernel" choose by the exact leave-one-out error, squared and summed
    over all standardised target columns, without further fits.  The intercept is that
    of the other rows; the means and spreads of the columns are those of all rows.  The
    time of "kernel" grows with the cube of the number of fitted rows, and it compares
    each transformed row with all of them.

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
        self,
        method="ridge",
        *,
        scale=True,
        alphas=None,
        gammas=(0.1, 0.3, 1.0),
        check=False,
    ):
        self.method = method
        self.scale = scale
        self.alphas = alphas
        self.gammas = gammas
        self.check = check

    _doc_link_module = "skinvariant"
    _doc_link_template = (
        "https://skinvariant.readthedocs.io/en/stable/generated/"
        "{estimator_module}.{estimator_name}.html"
    )

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

        Warns
        -----
        UserWarning
            With `check`, if rows seem to be other samples.
        """
        fit_map = check_choice("method", self.method, _METHODS)
        X, y = in_numpy("X", X), in_numpy("y", y)
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
        if self.check:
            warn_of_mismatches(X, y, samples="X and y", stacklevel=2)
        with np.errstate(over="ignore", invalid="ignore"):
            fit_map(self, X, y)
            map_ = self.coef_ if hasattr(self, "coef_") else self.dual_coef_
            # what the smallest numbers of float64 lose, in the target's columns
            lost = np.finfo(np.float64).smallest_subnormal * np.abs(X).sum(axis=0).max()
            spread = np.ptp(y, axis=0)
            too_small = (spread > 0) & (spread <= lost / _LOST)
        finite = np.isfinite(map_).all() and np.isfinite(self.intercept_).all()
        if not finite or (too_small.any() and self.method != "kernel"):
            raise ValueError(
                "the map must be finite in float64, with all its digits: rescale the "
                "spaces, whose values are too large or too small for one another; got "
                + ("numbers that are too small" if finite else "infinity or NaN")
            )
        self._fits_single = _fits_single(map_)
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
        check_is_fitted(self)
        X = validate_data(self, in_numpy("X", X), dtype=_FLOATS, reset=False)
        if hasattr(self, "coef_"):
            return _map(X, self.coef_.T, self.intercept_, self._fits_single)
        rows = (X - self._origin) / self._scale
        with np.errstate(all="ignore"):
            distances = METRICS["euclidean"].compare(rows, self._prepared)
            kernel = np.exp(-self.gamma_ * distances**2)
        kernel -= self._kernel_means
        return _in_dtype(kernel @ self.dual_coef_ + self.intercept_, X.dtype)

    @available_if(_has_inverse)
    def inverse_transform(self, X):
        """Map rows of the target space back into the source space.

        This is the pseudo-inverse of the map: among the rows that are translated to
        this one, or nearest to it, it gives the one nearest to the mean of the fitted
        rows ("linear": to the origin).  "ridge" and "kernel" have no inverse.

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
        X = check_array(in_numpy("X", X), dtype=_FLOATS, estimator=self)
        if X.shape[1] != self._n_features_out:
            raise ValueError(
                f"X must have {self._n_features_out} features, those of the target "
                f"space of this {type(self).__name__}; got {X.shape[1]}"
            )
        back = pinv(self.coef_.T, rtol=np.sqrt(np.finfo(np.float64).eps))
        offset = self._origin - (self._origin @ self.coef_.T + self.intercept_) @ back
        return _map(X, back, offset, _fits_single(back))

    def score(self, X, y):
        """Return the share of the target's variance that the translation explains.

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
        y = np.asarray(in_numpy("y", y), dtype=np.float64)
        found = self.transform(X)
        unit = power_of_two(np.abs(y).max(initial=0))
        with np.errstate(over="ignore"):
            return r2_score(y / unit, found / unit, multioutput="variance_weighted")

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
        (mean, scale), (target_mean, target_scale) = map(standardization, (X, y))
        rows, targets = (X - mean) / scale, (y - target_mean) / target_scale
        spectrum = _KernelSpectrum.of_rows(rows)
        alphas = self._penalties(np.sum(rows**2))
        _, self.alpha_ = _choose_by_leaving_out([spectrum], [alphas], targets)
        dual_coef, left_out = spectrum.solve(targets, self.alpha_)
        self.coef_ = dual_coef.T @ rows
        self.coef_ *= target_scale[:, np.newaxis]
        self.coef_ /= scale
        self.intercept_ = target_mean - self.coef_ @ mean
        self.left_out_ = left_out * target_scale + target_mean

    def _fit_kernel(self, X, y):
        # no distance depends on the origin; near the mean of one row that is far from
        # all others, these would lose their digits
        self._origin, (_, self._scale) = np.median(X, axis=0), standardization(X)
        target_mean, target_scale = standardization(y)
        self._rows = (X - self._origin) / self._scale
        targets = (y - target_mean) / target_scale
        # once for all calls of `transform`, which may be of single rows
        self._prepared = METRICS["euclidean"].prepare(self._rows)
        squares = euclidean(self._rows, self._rows) ** 2
        apart = squares[np.tri(len(X), k=-1, dtype=bool)]
        median = np.median(apart) if apart.size else 0.0
        if median == 0 and 2 * np.count_nonzero(self._rows.any(axis=1)) > len(X):
            raise ValueError(
                "the distances between rows of the source must differ by less than the "
                "range of float64: leave out rows that are far from all others; got a "
                "median distance of 0"
            )
        gammas = _positive("gammas", self.gammas) / (median or 1.0)
        spectra, alphas = [], []
        for gamma in gammas:
            kernel = np.exp(-gamma * squares)
            spectra.append(_KernelSpectrum.of_kernel(kernel))
            alphas.append(self._penalties(np.trace(kernel) - len(X) * kernel.mean()))
        index, self.alpha_ = _choose_by_leaving_out(spectra, alphas, targets)
        dual_coef, left_out = spectra[index].solve(targets, self.alpha_)
        self.gamma_ = gammas[index]
        self._kernel_means = np.exp(-self.gamma_ * squares).mean(axis=0)
        self.dual_coef_ = dual_coef * target_scale
        self.intercept_ = target_mean
        self.left_out_ = left_out * target_scale + target_mean

    def _penalties(self, total):
        """Return the penalties to choose among, absolute."""
        alphas = _ALPHAS if self.alphas is None else _positive("alphas", self.alphas)
        return alphas * (total if total > 0 else 1.0)


def _fits_single(matrix):
    """Whether float32 can hold all entries of a matrix, without denormal numbers."""
    info, sizes = np.finfo(np.float32), np.abs(matrix[matrix != 0])
    return not sizes.size or bool(info.tiny <= sizes.min() <= sizes.max() <= info.max)


def _map(X, matrix, offset, fits_single):
    """Return ``X @ matrix + offset``, in float64 if float32 cannot hold the map."""
    if X.dtype == np.float32 and not fits_single:
        return _in_dtype(X.astype(np.float64) @ matrix + offset, X.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        mapped = X @ matrix.astype(X.dtype) + offset.astype(X.dtype)
    return _in_dtype(mapped, X.dtype)


def _in_dtype(rows, dtype):
    """Return translated rows in a dtype, if all are finite in it."""
    with np.errstate(over="ignore"):
        rows = rows.astype(dtype, copy=False)
    if not np.isfinite(rows).all():
        raise ValueError(
            f"translated rows must be finite in {dtype}: give rows in float64, or "
            "rescale the spaces; got infinity or NaN"
        )
    return rows


def _positive(name, values):
    """Return an array of numbers greater than 0, or refuse what is none."""
    low = float(np.finfo(np.float64).tiny)
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
