"""SpaceTranslator: it recovers the maps it covers, and chooses by leaving rows out."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.distance import pdist
from scipy.stats import ortho_group
from sklearn.datasets import make_moons
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.preprocessing import StandardScaler

from skinvariant.datasets import make_related_spaces
from skinvariant.translation import (
    _ALPHAS,
    _METHODS,
    SpaceTranslator,
    _choose_by_leaving_out,
    _KernelSpectrum,
    _procrustes_map,
    _Sums,
)

COVERS = {
    "orthogonal": [
        "isotropic_scaling",
        "orthogonal",
        "translation",
        "permutation",
        "signed_permutation",
    ],
    "linear": ["linear", "axis_scaling", "orthogonal"],
    "affine": ["affine", "linear", "axis_scaling", "orthogonal", "translation"],
}
COVERED = [(method, name) for method, names in COVERS.items() for name in names]


def noisy(n_samples, n_features=6, n_features_b=9, noise=0.3):
    """Two spaces that differ by an affine map and much noise."""
    spaces = make_related_spaces(
        n_samples,
        n_features,
        n_features_b=max(n_features, n_features_b),
        transformation="affine",
        noise=noise,
        random_state=0,
    )
    return spaces.X_a, spaces.X_b[:, :n_features_b]


def squared_errors_by_refits(predictions, y):
    """Mean over rows and columns of what refits without each row miss."""
    return np.mean((predictions - y) ** 2)


# --- maps that are known --------------------------------------------------------


@pytest.mark.parametrize(("method", "transformation"), COVERED)
def test_the_map_is_recovered(method, transformation):
    """Of a class that a method covers the very map comes back, from some rows."""
    spaces = make_related_spaces(transformation=transformation, random_state=0)
    translator = SpaceTranslator(method).fit(spaces.X_a[:20], spaces.X_b[:20])
    assert_allclose(translator.coef_, spaces.matrix.T, atol=1e-9)
    assert_allclose(translator.intercept_, spaces.offset, atol=1e-8)
    assert_allclose(translator.transform(spaces.X_a), spaces.X_b, atol=1e-8)
    assert translator.score(spaces.X_a, spaces.X_b) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("method", "transformation"),
    [("orthogonal", "orthogonal"), ("linear", "linear"), ("affine", "affine")],
)
def test_the_map_into_a_wider_space_is_recovered_and_taken_back(method, transformation):
    """Wider targets, and back to where the rows came from."""
    spaces = make_related_spaces(
        transformation=transformation, n_features_b=12, random_state=0
    )
    translator = SpaceTranslator(method).fit(spaces.X_a[:20], spaces.X_b[:20])
    assert_allclose(translator.transform(spaces.X_a), spaces.X_b, atol=1e-8)
    assert_allclose(translator.inverse_transform(spaces.X_b), spaces.X_a, atol=1e-8)


def test_the_map_into_a_narrower_space_is_recovered():
    """From the wide space of a rotated narrow one the narrow one comes back."""
    spaces = make_related_spaces(
        transformation=["orthogonal", "isotropic_scaling", "translation"],
        n_features_b=12,
        random_state=0,
    )
    translator = SpaceTranslator("orthogonal").fit(spaces.X_b[:20], spaces.X_a[:20])
    assert_allclose(translator.transform(spaces.X_b), spaces.X_a, atol=1e-9)
    assert_allclose(translator.inverse_transform(spaces.X_a), spaces.X_b, atol=1e-8)


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize(("n_features", "n_features_b"), [(5, 5), (3, 7), (7, 3)])
def test_orthogonal_maps_are_orthogonal(n_features, n_features_b, scale):
    """Rows or columns at right angles, of one length: 1 without scaling."""
    rng = np.random.default_rng(0)
    X, y = (
        rng.standard_normal((50, n_features)),
        rng.standard_normal((50, n_features_b)),
    )
    coef = SpaceTranslator("orthogonal", scale=scale).fit(X, y).coef_
    narrow = coef if n_features_b < n_features else coef.T
    gram = narrow @ narrow.T
    factor = gram[0, 0]
    assert_allclose(gram, factor * np.eye(len(gram)), atol=1e-12)
    assert (factor == pytest.approx(1)) == (not scale)


@pytest.mark.parametrize("n_features_b", [4, 7])
def test_no_other_orthogonal_map_and_no_other_factor_fits_better(n_features_b):
    """What Procrustes finds beats many rotations near and far, and other factors."""
    X, y = noisy(40, 4, n_features_b)
    X, y = X - X.mean(axis=0), y - y.mean(axis=0)

    def loss(matrix):
        return np.sum((X @ matrix - y) ** 2)

    turn = _procrustes_map(X, y)
    rotations = ortho_group.rvs(n_features_b, size=300, random_state=0)
    assert all(loss(turn) < loss(rotation[:4]) for rotation in rotations)
    for source, target in ((X, y), (y, X)):
        best = source @ _procrustes_map(source, target, scale=True)
        for factor in (0.99, 1.01):
            assert np.sum((best - target) ** 2) < np.sum((factor * best - target) ** 2)


@pytest.mark.parametrize("n_samples", [1, 2, 8, 20])
@pytest.mark.parametrize("widths", [(24, 24), (20, 33), (33, 20)])
def test_few_rows_give_the_smallest_orthogonal_map(n_samples, widths):
    """An isometry of what the rows show, and 0 for directions that no row shows.

    It is as good as that by a singular value decomposition of the whole product.
    """
    rng = np.random.default_rng(0)
    X, y = (rng.standard_normal((n_samples, n)) for n in widths)
    X, y = X - X.mean(axis=0), y - y.mean(axis=0)
    turn = _procrustes_map(X, y)
    singular = np.linalg.svd(turn, compute_uv=False)
    rank = min(n_samples - 1, *widths)
    assert_allclose(singular[:rank], 1, atol=1e-12)
    assert_allclose(singular[rank:], 0, atol=1e-12)
    unseen = rng.standard_normal(widths[0])
    unseen -= np.linalg.pinv(X) @ (X @ unseen)
    assert_allclose(unseen @ turn, 0, atol=1e-9)
    best = np.linalg.svd(X.T @ y, compute_uv=False).sum()
    assert np.trace(turn.T @ X.T @ y) == pytest.approx(best, rel=1e-12, abs=1e-12)
    scaled = _procrustes_map(X, y, scale=True)
    if n_samples > 1:
        assert_allclose(scaled, turn * (best / np.sum((X @ turn) ** 2)), atol=1e-10)
    else:
        assert_allclose(scaled, turn)


def test_equal_rows_among_few_give_a_map_of_what_they_show():
    """Where the rows show fewer directions than there are rows."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((6, 30)), rng.standard_normal((6, 20))
    coef = SpaceTranslator("orthogonal", scale=False).fit(X[[0, 1] * 5], y[[2, 3] * 5])
    assert_allclose(np.linalg.svd(coef.coef_, compute_uv=False)[:2], [1, 0], atol=1e-12)
    assert_allclose(
        coef.transform(X[:2]) - y[2:4].mean(axis=0),
        (y[2:4] - y[2:4].mean(axis=0))
        * (np.linalg.norm(X[0] - X[1]) / np.linalg.norm(y[2] - y[3])),
        atol=1e-12,
    )


@pytest.mark.parametrize("method", ["linear", "affine"])
def test_few_rows_give_the_smallest_map(method):
    """Of all maps that fit, the one of least norm, as numpy's pinv has it."""
    X, y = noisy(5, 12, 15)
    translator = SpaceTranslator(method).fit(X, y)
    shift = X.mean(axis=0) if method == "affine" else np.zeros(12)
    mean = y.mean(axis=0) if method == "affine" else np.zeros(15)
    expected = np.linalg.pinv(X - shift, rcond=1e-10) @ (y - mean)
    assert_allclose(translator.coef_.T, expected, atol=1e-9)
    assert_allclose(translator.transform(X), y, atol=1e-9)


@pytest.mark.parametrize("method", ["orthogonal", "linear", "affine"])
@pytest.mark.parametrize("widths", [(6, 9), (9, 6), (6, 6)])
def test_there_and_back_again(method, widths):
    """Into a space and back changes nothing that the narrower one can hold."""
    X, y = noisy(30, 6, 9)
    X = {6: X, 9: y}[widths[0]]
    y = {6: noisy(30, 6, 6)[1], 9: y}[widths[1]]
    translator = SpaceTranslator(method).fit(X, y)
    there = translator.transform(X)
    back = translator.inverse_transform(there)
    assert_allclose(translator.transform(back), there, atol=1e-9)
    if widths[0] <= widths[1]:
        assert_allclose(back, X, atol=1e-9)
    elif method != "linear":  # the mean of the fitted rows stands for the rest
        assert_allclose(back.mean(axis=0), X.mean(axis=0), atol=1e-9)


def test_few_rows_come_back_from_the_map_they_gave():
    """A map of the rank of its few rows is taken back on these rows."""
    X, y = noisy(5, 12, 15)
    for method in ("linear", "affine"):
        translator = SpaceTranslator(method).fit(X, y)
        assert_allclose(translator.inverse_transform(y), X, atol=1e-8)


@pytest.mark.parametrize("method", ["ridge", "kernel"])
def test_what_has_no_inverse(method):
    """Neither hasattr nor a call promises an inverse, and the error names a way."""
    translator = SpaceTranslator(method)
    assert not hasattr(translator, "inverse_transform")
    assert hasattr(SpaceTranslator("affine"), "inverse_transform")
    with pytest.raises(AttributeError, match="has no attribute") as caught:
        translator.inverse_transform([[1.0]])
    assert "fit a translator the other way round" in str(caught.value.__cause__)


# --- penalties and widths -------------------------------------------------------


def spectrum_of(rows, shape):
    """Kernel of a shape, and its decomposition."""
    if shape == "linear":
        return rows @ rows.T, _KernelSpectrum.of_rows(rows)
    kernel = rbf_kernel(rows, gamma=0.1)
    return kernel, _KernelSpectrum.of_kernel(kernel)


def sum_of_squares(spectrum, targets, alpha):
    """Sum of the squared leave-one-out errors."""
    return np.sum((targets - spectrum.solve(targets, alpha)[1]) ** 2)


@pytest.mark.parametrize(
    ("n_samples", "n_features"), [(12, 5), (12, 10), (12, 11), (12, 30), (2, 3)]
)
@pytest.mark.parametrize("shape", ["linear", "rbf"])
def test_left_out_are_the_predictions_of_refits(shape, n_samples, n_features):
    """Exact for intercept and kernel, also where there are fewer rows than columns."""
    X, y = noisy(n_samples, n_features, 30)
    X = StandardScaler().fit_transform(X)
    kernel, spectrum = spectrum_of(X, shape)
    for alpha in (1e-6, 0.1, 10.0):
        found = spectrum.solve(y, alpha)[1]
        for i in range(n_samples):
            rest = np.delete(np.arange(n_samples), i)
            mean = kernel[rest].mean(axis=0)
            centred = kernel - mean - mean[:, np.newaxis] + mean[rest].mean()
            model = KernelRidge(alpha=alpha, kernel="precomputed")
            offset = y[rest].mean(axis=0)
            model.fit(centred[np.ix_(rest, rest)], y[rest] - offset)
            predicted = model.predict(centred[i : i + 1, rest])[0] + offset
            assert_allclose(found[i], predicted, atol=1e-6)


@pytest.mark.parametrize("n_features", [5, 30])
@pytest.mark.parametrize("shape", ["linear", "rbf"])
def test_dual_coef_is_that_of_kernel_ridge(shape, n_features):
    """One spectrum for several targets, of any width, as scikit-learn fits them."""
    X, y = noisy(12, n_features, 7)
    kernel, spectrum = spectrum_of(X, shape)
    mean = kernel.mean(axis=0)
    centred = kernel - mean - mean[:, np.newaxis] + mean.mean()
    for targets in (y, y[:, :1], 3 - y[:, 2:4]):
        model = KernelRidge(alpha=0.3, kernel="precomputed")
        model.fit(centred, targets - targets.mean(axis=0))
        found = spectrum.solve(targets, 0.3)[0]
        assert_allclose(found, model.dual_coef_, atol=1e-10)


def test_left_out_errors_do_not_vanish_with_the_penalty():
    """The row itself must not leak: noise cannot be predicted, whatever the penalty."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((20, 50)), rng.standard_normal((20, 4))
    spectrum = _KernelSpectrum.of_rows(X)
    sums = [sum_of_squares(spectrum, y, alpha) for alpha in np.logspace(-9, 3, 13)]
    assert min(sums) > 0.8 * np.sum(y**2)


def with_repeats(X, y):
    """The same with a row that occurs three times, and one far away."""
    X = np.vstack([X, X[:1], X[:1], 50 * X[1:2]])
    return X, np.vstack([y, y[:1], y[:1], y[1:2]])


@pytest.mark.parametrize("n_features", [5, 400])
@pytest.mark.parametrize("n_targets", [1, 9, 500])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_bounds_of_the_errors_hold_and_close(n_features, n_targets, noise):
    """What is never computed in full was bounded rightly, for kernels of all kinds."""
    X, y = with_repeats(*noisy(300, n_features, n_targets, noise=noise))
    X, y = StandardScaler().fit_transform(X), y - y.mean(axis=0)
    targets = y / np.linalg.norm(y)
    narrow = np.linalg.qr(targets.T, mode="r").T if n_targets > 303 else targets
    alphas = np.logspace(-9, 2, 12) * X.size
    for shape in ("linear", "rbf"):
        _, spectrum = spectrum_of(X, shape)
        sums = _Sums(spectrum, narrow, alphas)
        for k, alpha in enumerate(alphas):
            lower, upper = np.array(list(sums.bounds(k))).T
            exact = sum_of_squares(spectrum, targets, alpha)
            assert lower[-1] == upper[-1] == pytest.approx(exact, rel=1e-7)
            assert np.all(lower <= lower[-1] * (1 + 1e-9))
            assert np.all(upper >= lower[-1] * (1 - 1e-9))
            assert len(lower) > 6


@pytest.mark.parametrize("n_samples", [1, 2, 5, 40, 200])
@pytest.mark.parametrize("n_targets", [1, 30, 300])
def test_the_choice_is_that_of_the_smallest_sum(n_samples, n_targets):
    """Among kernels and penalties, and the first of equals."""
    X, y = noisy(n_samples, 50, n_targets, noise=0.5)
    spectra = [_KernelSpectrum.of_rows(X)] + [
        _KernelSpectrum.of_kernel(rbf_kernel(X, gamma=gamma)) for gamma in (1e-3, 1e-2)
    ]
    alphas = [np.logspace(-3, 6, 19), np.logspace(-7, 1, 17), np.logspace(-7, 1, 9)]
    index, alpha = _choose_by_leaving_out(spectra, alphas, y)
    sums = [
        [sum_of_squares(spectrum, y, alpha) for alpha in penalties]
        for spectrum, penalties in zip(spectra, alphas, strict=True)
    ]
    smallest = min(map(min, sums))
    position = list(alphas[index]).index(alpha)
    assert sums[index][position] == pytest.approx(smallest, rel=1e-10)
    again = _choose_by_leaving_out(spectra * 2, alphas * 2, y)
    assert again == (index, alpha)


@pytest.mark.parametrize(("n_samples", "n_features"), [(8, 6), (30, 6), (12, 30)])
def test_ridge_is_the_best_of_its_refits(n_samples, n_features):
    """The penalty that leaves the smallest error when each row is left out."""
    X, y = noisy(n_samples, n_features, 30, noise=1.0)
    translator = SpaceTranslator("ridge").fit(X, y)
    rows, targets = StandardScaler().fit_transform(X), StandardScaler().fit_transform(y)
    alphas = _ALPHAS * np.sum(rows**2)
    losses = [
        squared_errors_by_refits(
            cross_val_predict(Ridge(alpha), rows, targets, cv=n_samples), targets
        )
        for alpha in alphas
    ]
    assert translator.alpha_ == pytest.approx(alphas[np.argmin(losses)])
    assert alphas[0] < translator.alpha_ < alphas[-1]
    model = Ridge(translator.alpha_).fit(rows, targets)
    expected = StandardScaler().fit(y).inverse_transform(model.predict(rows))
    assert_allclose(translator.transform(X), expected, atol=1e-9)
    left_out = cross_val_predict(model, rows, targets, cv=n_samples)
    expected = StandardScaler().fit(y).inverse_transform(left_out)
    assert_allclose(translator.left_out_, expected, atol=1e-8)


@pytest.mark.parametrize("widths", [(64, 40), (20, 90), (90, 20), (300, 200)])
def test_ridge_is_that_of_scikit_learn(widths):
    """The penalty and the map of RidgeCV, on standardised columns."""
    X, y = noisy(65, *widths, noise=0.5)
    translator = SpaceTranslator("ridge").fit(X, y)
    source, target = StandardScaler().fit(X), StandardScaler().fit(y)
    rows = source.transform(X)
    model = RidgeCV(_ALPHAS * np.sum(rows**2)).fit(rows, target.transform(y))
    assert translator.alpha_ == pytest.approx(model.alpha_, rel=1e-12)
    expected = model.coef_ * target.scale_[:, np.newaxis] / source.scale_
    assert_allclose(translator.coef_, expected, atol=1e-8)


class CentredKernelRidge(KernelRidge):
    """Kernel ridge with an intercept: the kernel and the targets are centred."""

    def fit(self, X, y):
        """Fit on differences from the means."""
        self.mean_, self.X_ = y.mean(axis=0), X
        kernel = rbf_kernel(X, gamma=self.gamma)
        centred = kernel - kernel.mean(axis=0) - kernel.mean(axis=1, keepdims=True)
        centred = centred + kernel.mean()
        self.means_ = kernel.mean(axis=0), kernel.mean()
        self.weights_ = np.linalg.solve(
            centred + self.alpha * np.eye(len(X)), y - self.mean_
        )
        return self

    def predict(self, X):
        """Predict from the centred kernel."""
        kernel = rbf_kernel(X, self.X_, gamma=self.gamma)
        own = kernel.mean(axis=1, keepdims=True)
        centred = kernel - own - self.means_[0] + self.means_[1]
        return centred @ self.weights_ + self.mean_


@pytest.mark.parametrize("n_samples", [8, 30])
def test_kernel_is_the_best_of_its_refits(n_samples):
    """Penalty and width of the smallest error when each row is left out."""
    X, y = noisy(n_samples, 6, 9)
    alphas, gammas = [1e-4, 1e-2, 1.0], (0.1, 1.0, 5.0)
    translator = SpaceTranslator("kernel", alphas=alphas, gammas=gammas).fit(X, y)
    rows, targets = StandardScaler().fit_transform(X), StandardScaler().fit_transform(y)
    losses = {}
    for gamma in np.asarray(gammas) / np.median(pdist(rows, "sqeuclidean")):
        kernel = rbf_kernel(rows, gamma=gamma)
        trace = n_samples - kernel.mean() * n_samples  # of the centred kernel
        for alpha in np.asarray(alphas) * trace:
            model = CentredKernelRidge(alpha=alpha, gamma=gamma)
            predicted = cross_val_predict(model, rows, targets, cv=n_samples)
            losses[gamma, alpha] = squared_errors_by_refits(predicted, targets)
    gamma, alpha = min(losses, key=losses.get)
    assert translator.gamma_ == pytest.approx(gamma)
    assert translator.alpha_ == pytest.approx(alpha)
    model = CentredKernelRidge(alpha=alpha, gamma=gamma).fit(rows, targets)
    scaler = StandardScaler().fit(y)
    expected = scaler.inverse_transform(model.predict(rows))
    assert_allclose(translator.transform(X), expected, atol=1e-9)
    left_out = cross_val_predict(model, rows, targets, cv=n_samples)
    expected = scaler.inverse_transform(left_out)
    assert_allclose(translator.left_out_, expected, atol=1e-8)


@pytest.mark.parametrize("n_samples", [30, 300])
@pytest.mark.parametrize(("n_features", "n_features_b"), [(50, 1280), (1280, 50)])
def test_the_grid_is_wide_enough(n_samples, n_features, n_features_b):
    """A grid a million times wider gains nothing, for few and many rows."""
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((2 * n_samples, 20)) * np.geomspace(1, 0.1, 20)
    X, y = (
        hidden @ rng.standard_normal((20, n)) + rng.standard_normal((len(hidden), n))
        for n in (n_features, n_features_b)
    )
    rows = StandardScaler().fit_transform(X[:n_samples])
    targets = StandardScaler().fit_transform(y[:n_samples])
    for method in ("ridge", "kernel"):
        translator = SpaceTranslator(method).fit(X[:n_samples], y[:n_samples])
        if method == "ridge":
            kernel = rows @ rows.T
        else:
            kernel = rbf_kernel(rows, gamma=translator.gamma_)
        total = np.trace(kernel) - kernel.mean() * n_samples
        spectrum = _KernelSpectrum.of_kernel(kernel)
        best = min(
            sum_of_squares(spectrum, targets, alpha)
            for alpha in np.logspace(-10, 4, 29) * total
        )
        assert sum_of_squares(spectrum, targets, translator.alpha_) < 1.001 * best
        assert translator.score(X[n_samples:], y[n_samples:]) > 0.2


def test_a_curve_takes_a_kernel():
    """Where no linear map will do, the kernel does."""
    X, _ = make_moons(300, noise=0.05, random_state=0)
    y = np.column_stack([X[:, 0] * X[:, 1], np.sin(2 * X[:, 0]), X[:, 1] ** 2])
    scores = {
        method: SpaceTranslator(method).fit(X[:100], y[:100]).score(X[100:], y[100:])
        for method in ("affine", "ridge", "kernel")
    }
    assert scores["kernel"] > 0.99
    assert max(scores["affine"], scores["ridge"]) < 0.8


# --- rows, columns and dtypes ---------------------------------------------------


@pytest.mark.parametrize("method", _METHODS)
def test_float32_stays_float32(method):
    """Nearly the same values, in the dtype of the input."""
    X, y = noisy(30)
    wide = SpaceTranslator(method).fit(X, y)
    narrow = SpaceTranslator(method).fit(X.astype(np.float32), y.astype(np.float32))
    output = narrow.transform(X.astype(np.float32))
    assert output.dtype == np.float32
    assert_allclose(output, wide.transform(X), rtol=1e-4, atol=1e-4)
    if hasattr(narrow, "inverse_transform"):
        assert narrow.inverse_transform(output).dtype == np.float32
    assert wide.transform(X.astype(int)).dtype == np.float64


@pytest.mark.parametrize("method", _METHODS)
def test_one_row_at_a_time(method):
    """The translation of a row does not depend on the others."""
    X, y = noisy(30)
    translator = SpaceTranslator(method).fit(X, y)
    alone = np.vstack([translator.transform(X[i : i + 1]) for i in range(5)])
    assert_allclose(alone, translator.transform(X)[:5], atol=1e-10)


@pytest.mark.parametrize("method", _METHODS)
def test_fitted_on_one_row(method):
    """One row is fitted exactly, and with an offset all rows are mapped to it."""
    X, y = noisy(30)
    translator = SpaceTranslator(method).fit(X[:1], y[:1])
    assert_allclose(translator.transform(X[:1]), y[:1], atol=1e-9)
    if method in ("affine", "ridge", "kernel"):
        assert_allclose(translator.transform(X), np.tile(y[:1], (30, 1)), atol=1e-9)


@pytest.mark.parametrize("method", _METHODS)
def test_constant_columns(method):
    """A constant source column changes nothing, and a target one is fitted exactly."""
    X, y = noisy(30)
    constant = np.full((30, 1), 7.0)
    plain = SpaceTranslator(method).fit(X, y)
    more = SpaceTranslator(method).fit(np.hstack([X, constant]), y)
    if method not in ("linear", "orthogonal"):
        expected = plain.transform(X)
        assert_allclose(more.transform(np.hstack([X, constant])), expected, atol=1e-8)
    met = SpaceTranslator(method).fit(X, np.hstack([y, constant])).transform(X)
    assert met.shape == (30, 10)
    if method != "linear":
        assert_allclose(met[:, -1], 7, atol=1e-9)
        assert_allclose(met[:, :-1], plain.transform(X), atol=1e-8)


@pytest.mark.parametrize("method", _METHODS)
def test_a_space_of_equal_rows(method):
    """Where nothing varies, the only row there is comes out."""
    X, y = np.ones((4, 3)), np.full((4, 2), 5.0)
    translator = SpaceTranslator(method).fit(X, y)
    assert_allclose(translator.transform(X), y, atol=1e-9)


@pytest.mark.parametrize("method", _METHODS)
def test_one_column_may_have_one_dimension(method):
    """As scikit-learn's users give a target."""
    X, y = noisy(30)
    one = SpaceTranslator(method).fit(X, y[:, 0])
    assert_allclose(
        one.transform(X), SpaceTranslator(method).fit_transform(X, y[:, :1])
    )
    assert one.transform(X).shape == (30, 1)
    assert one.score(X, y[:, 0]) == one.score(X, y[:, :1])


@pytest.mark.parametrize("method", ["ridge", "kernel"])
def test_a_wild_row_leaves_the_others_as_they_are(method):
    """One source row a hundred million times as long: the kernel ignores it."""
    X, y = noisy(60)
    plain = SpaceTranslator("kernel").fit(X[1:40], y[1:40])
    wild = X[:40].copy()
    wild[0] *= 1e8
    translator = SpaceTranslator(method).fit(wild, y[:40])
    assert np.isfinite(translator.transform(X)).all()
    if method == "kernel":
        score = translator.score(X[40:], y[40:])
        assert score > plain.score(X[40:], y[40:]) - 0.1
        narrow = translator.transform(X.astype(np.float32))
        assert_allclose(narrow, translator.transform(X), atol=1e-4)


@pytest.mark.parametrize("method", _METHODS)
@pytest.mark.parametrize("exponents", [(180, 180), (-180, -180), (180, 0), (0, -180)])
def test_units_of_any_size(method, exponents):
    """Very large and very small spaces give the same in their units."""
    X, y = noisy(30)
    plain = SpaceTranslator(method).fit(X, y)
    unit, target_unit = (10.0**exponent for exponent in exponents)
    translator = SpaceTranslator(method).fit(X * unit, y * target_unit)
    found = translator.transform(X * unit) / target_unit
    assert_allclose(found, plain.transform(X), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("method", ["orthogonal", "linear", "affine", "ridge"])
def test_a_map_beyond_the_range_of_numbers_is_refused(method):
    """From a space of 1e-200 into one of 1e200 a map would need 1e400."""
    X, y = noisy(30)
    with pytest.raises(ValueError, match=r"must be finite.*rescale"):
        SpaceTranslator(method).fit(X * 1e-200, y * 1e200)


def test_score_weighs_columns_by_variance():
    """One minus the squared errors of all columns over their squared deviations."""
    X, y = noisy(60)
    translator = SpaceTranslator().fit(X[:30], y[:30])
    missed = np.sum((translator.transform(X[30:]) - y[30:]) ** 2)
    total = np.sum((y[30:] - y[30:].mean(axis=0)) ** 2)
    assert translator.score(X[30:], y[30:]) == pytest.approx(1 - missed / total)


def test_grid_search_takes_it():
    """The method by cross-validation; score is what is compared."""
    spaces = make_related_spaces(40, transformation="affine", random_state=0)
    search = GridSearchCV(SpaceTranslator(), {"method": list(_METHODS)}, cv=4)
    search.fit(spaces.X_a, spaces.X_b)
    assert search.best_params_ == {"method": "affine"}
    assert search.best_score_ == pytest.approx(1)


def test_frames_and_names():
    """Named columns in, named columns out."""
    pandas = pytest.importorskip("pandas")
    X, y = noisy(30)
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    translator = SpaceTranslator().set_output(transform="pandas")
    output = translator.fit_transform(frame, pandas.DataFrame(y))
    assert output.columns.tolist() == [f"spacetranslator{i}" for i in range(9)]
    assert translator.feature_names_in_.tolist() == list("abcdef")


# --- mistakes -------------------------------------------------------------------


def test_numbers_of_rows_must_agree():
    """Rows that do not correspond are refused, with both numbers."""
    X, y = noisy(30)
    with pytest.raises(ValueError, match=r"\[30, 29\]"):
        SpaceTranslator().fit(X, y[:29])


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"method": "cubic"}, ValueError, r"method must be one of \['affine'.*'cubic'"),
        ({"method": 3}, TypeError, "method must be one of"),
        ({"alphas": [0.0]}, ValueError, "alphas must be a real number"),
        ({"alphas": []}, ValueError, "alphas must hold at least one number"),
        ({"alphas": [1.0, np.inf]}, ValueError, "alphas must be a real number"),
        ({"alphas": [10**400]}, ValueError, "alphas must be a real number"),
        ({"method": "kernel", "alphas": [np.nan]}, ValueError, "alphas must be"),
        ({"alphas": ["a"]}, TypeError, "alphas must be a real number"),
        ({"method": "kernel", "gammas": (-1,)}, ValueError, "gammas must be"),
        ({"method": "kernel", "gammas": ()}, ValueError, "gammas must hold"),
    ],
)
def test_parameters_are_checked(params, error, message):
    """What a parameter must be, and what was got."""
    X, y = noisy(30)
    with pytest.raises(error, match=message):
        SpaceTranslator(**params).fit(X, y)


def test_rows_of_another_width_do_not_come_back():
    """The inverse takes rows of the target space only."""
    X, y = noisy(30)
    translator = SpaceTranslator("affine").fit(X, y)
    with pytest.raises(ValueError, match=r"X must have 9 features.*; got 6"):
        translator.inverse_transform(X)


def test_wrong_rows_are_warned_about_on_demand():
    """With `check`; right rows are fine, and nothing else changes."""
    X, y = noisy(60)
    SpaceTranslator(check=True).fit(X, y)
    wrong = np.roll(y, 1, axis=0)
    with pytest.warns(UserWarning, match="X and y must be the same samples") as caught:
        checked = SpaceTranslator(check=True).fit(X, wrong)
    assert caught[0].filename == __file__
    assert_allclose(checked.coef_, SpaceTranslator().fit(X, wrong).coef_, rtol=0)


@pytest.mark.parametrize(("speed", "fraction"), [(0.1, 0.1), (0.3, 0.3), (1.0, 1.0)])
def test_the_default_widths_are_all_in_use(speed, fraction):
    """Slow, ordinary and quick curves each take another of the three fractions."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 5))
    y = np.sin(speed * X @ rng.standard_normal((5, 5)))
    y += 0.05 * rng.standard_normal(y.shape)
    squares = pdist((X - X.mean(axis=0)) / X.std(axis=0), "sqeuclidean")
    found = SpaceTranslator("kernel").fit(X, y).gamma_
    assert_allclose(found, fraction / np.median(squares))
