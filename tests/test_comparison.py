"""How alike two spaces are: known answers, other implementations, declared classes."""

import re
import subprocess
import sys
import tracemalloc
import warnings
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import orthogonal_procrustes
from scipy.spatial import procrustes
from scipy.spatial.distance import cdist
from scipy.stats import kstest, pearsonr, rankdata, spearmanr
from sklearn import config_context
from sklearn.cross_decomposition import CCA
from sklearn.datasets import load_digits
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_approximation import Nystroem
from sklearn.metrics.pairwise import (
    cosine_similarity,
    pairwise_kernels,
    rbf_kernel,
)
from sklearn.preprocessing import normalize

from skinvariant import comparison
from skinvariant.comparison import (
    _INVARIANCES,
    calibrated,
    cka,
    encoder_test,
    mantel_test,
    mean_canonical_correlation,
    mean_reciprocal_rank,
    mismatched_rows,
    mutual_knn,
    procrustes_distance,
    rowwise_pearson,
    rowwise_spearman,
    space_agreement,
    top_k_jaccard,
)
from skinvariant.datasets import make_related_spaces
from skinvariant.metrics import TRANSFORMATIONS, cosine

ANY_WIDTH = [
    (cka, {}),
    (cka, {"debiased": True}),
    (cka, {"kernel": "rbf"}),
    (cka, {"kernel": "rbf", "debiased": True}),
    (cka, {"kernel": "cosine"}),
    (procrustes_distance, {}),
    (mean_canonical_correlation, {}),
    (mutual_knn, {}),
    (mutual_knn, {"metric": "euclidean", "n_neighbors": 3}),
]
EQUAL_WIDTH = [
    (mean_reciprocal_rank, {}),
    (mean_reciprocal_rank, {"metric": "euclidean"}),
    (mean_reciprocal_rank, {"metric": "cityblock"}),
    (top_k_jaccard, {}),
    (top_k_jaccard, {"metric": "euclidean", "k": 3}),
    (rowwise_pearson, {}),
    (rowwise_spearman, {}),
]
PER_ROW = [
    mutual_knn,
    mean_reciprocal_rank,
    top_k_jaccard,
    rowwise_pearson,
    rowwise_spearman,
]
ALL = ANY_WIDTH + EQUAL_WIDTH
BEST = {
    function: 0.0 if function is procrustes_distance else 1.0 for function, _ in ALL
}
PROPERTY = settings(max_examples=5, deadline=None, derandomize=True, database=None)
seeds = st.integers(0, 2**32 - 1)


def named(cases):
    """Parametrize over measures with their parameters."""
    ids = [f"{function.__name__} {params}" for function, params in cases]
    return pytest.mark.parametrize(("measure", "params"), cases, ids=ids)


def alike(seed=0, n_samples=60, n_features=6, n_features_b=None, noise=0.5):
    """Two spaces somewhat alike, off the origin."""
    rng = np.random.default_rng(seed)
    X_a = rng.standard_normal((n_samples, n_features)) * rng.uniform(1, 3, n_features)
    n_features_b = n_features_b or n_features
    X_b = (X_a + noise * rng.standard_normal(X_a.shape)) @ (
        np.eye(n_features, n_features_b) + 0.3 * rng.standard_normal((n_features, 1))
    )
    X_b = X_b + 0.1 * rng.standard_normal(X_b.shape)
    return X_a + rng.uniform(1, 2, n_features), X_b + rng.uniform(1, 2, n_features_b)


# --- other implementations --------------------------------------------------------


def explicit_cka(K, L, debiased):
    """CKA by its definition, with all the n x n matrices."""
    n = len(K)
    if not debiased:
        H = np.eye(n) - 1 / n
        K, L = H @ K @ H, H @ L @ H
        return (K * L).sum() / np.sqrt((K * K).sum() * (L * L).sum())
    K, L = (kernel - np.diag(np.diag(kernel)) for kernel in (K, L))
    one = np.ones(n)

    def hsic(K, L):
        return (
            np.trace(K @ L)
            + (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
            - 2 / (n - 2) * (one @ K @ L @ one)
        ) / (n * (n - 3))

    return hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))


@pytest.mark.parametrize("working_memory", [1024, 0.001])
@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("shape", [(40, 5, 7), (20, 30, 4), (20, 30, 50)])
@pytest.mark.parametrize(
    ("kernel", "params"),
    [
        ("linear", {}),
        ("cosine", {}),
        ("poly", {"degree": 2, "gamma": 0.1}),
        ("laplacian", {"gamma": 0.1}),
        ("sigmoid", {"gamma": 0.01}),
        ("rbf", {"gamma": 0.02}),
        (RBF(3.0), {}),
        (lambda x, y: np.exp(-abs(x - y).max()), {}),
    ],
)
def test_cka_is_the_explicit_formula(kernel, params, shape, debiased, working_memory):
    """Of any kernel, in blocks of any size, of long and of wide spaces."""
    n_samples, n_features, n_features_b = shape
    rng = np.random.default_rng(0)
    X_a = rng.standard_normal((n_samples, n_features)) + 1
    X_b = np.tanh(X_a @ rng.standard_normal((n_features, n_features_b)) / 3)
    K, L = (pairwise_kernels(X, metric=kernel, **params) for X in (X_a, X_b))
    with config_context(working_memory=working_memory):
        value = cka(X_a, X_b, kernel=kernel, kernel_params=params, debiased=debiased)
    assert_allclose(value, explicit_cka(K, L, debiased), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("debiased", [False, True])
def test_the_width_of_the_gaussian_is_a_fraction_of_the_median(debiased):
    """In each space its own median distance, of all pairs of rows."""
    X_a, X_b = alike(n_features_b=3)
    grams = []
    for X in (X_a, X_b):
        distances = cdist(X, X)[np.triu_indices(len(X), 1)]
        grams.append(rbf_kernel(X, gamma=1 / (2 * (0.4 * np.median(distances)) ** 2)))
    value = cka(X_a, X_b, kernel="rbf", bandwidth=0.4, debiased=debiased)
    assert_allclose(value, explicit_cka(*grams, debiased), rtol=1e-10)
    assert value != pytest.approx(cka(X_a, X_b, kernel="rbf", debiased=debiased))


def test_the_median_of_many_rows_is_that_of_evenly_spaced_ones(monkeypatch):
    """So that it takes no array of all pairs; it is no other for few rows."""
    X_a, X_b = alike(n_samples=101)
    monkeypatch.setattr(comparison, "_MEDIAN_ROWS", 51)
    some = [X[::2] for X in (X_a, X_b)]
    gammas = [
        1 / (2 * np.median(cdist(X, X)[np.triu_indices(51, 1)]) ** 2) for X in some
    ]
    K, L = (rbf_kernel(X, gamma=g) for X, g in zip((X_a, X_b), gammas, strict=True))
    assert_allclose(cka(X_a, X_b, kernel="rbf"), explicit_cka(K, L, False), rtol=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_procrustes_is_scipys(seed):
    """Up to the scaling that scipy's disparity allows once more."""
    X_a, X_b = alike(seed)
    disparity = procrustes(X_a, X_b)[2]
    expected = np.sqrt(2 - 2 * np.sqrt(1 - disparity))
    assert_allclose(procrustes_distance(X_a, X_b), expected, rtol=1e-10)


@pytest.mark.parametrize("shape", [(40, 5, 7), (40, 7, 5), (20, 30, 4), (20, 30, 50)])
def test_procrustes_of_unequal_widths_pads_by_zeros(shape):
    """As orthogonal_procrustes of scipy.linalg does it with the padded arrays."""
    n_samples, n_features, n_features_b = shape
    rng = np.random.default_rng(0)
    X_a = rng.standard_normal((n_samples, n_features)) + 1
    X_b = np.tanh(X_a @ rng.standard_normal((n_features, n_features_b)) / 3)
    width = max(n_features, n_features_b)
    padded = []
    for X in (X_a, X_b):
        X = X - X.mean(axis=0)
        X = X / np.linalg.norm(X)
        padded.append(np.pad(X, [(0, 0), (0, width - X.shape[1])]))
    rotation, _ = orthogonal_procrustes(*padded)
    expected = np.linalg.norm(padded[0] @ rotation - padded[1])
    assert_allclose(procrustes_distance(X_a, X_b), expected, rtol=1e-10)


@pytest.mark.parametrize("shape", [(5, 5), (5, 7), (7, 5)])
@pytest.mark.parametrize("noise", [1e-1, 1e-5, 1e-9, 1e-13])
def test_a_small_procrustes_distance_keeps_its_digits(noise, shape):
    """Down to the rounding of the spaces, not to its square root."""
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((500, 5))
    X_a, X_b = np.zeros((500, shape[0])), np.zeros((500, shape[1]))
    X_a[:, :5], X_b[:, :5] = signal, signal + noise * rng.standard_normal((500, 5))
    # what a rotation of 5 axes, a translation and a factor can explain is little
    expected = noise * np.sqrt((1 - (10 + 5 + 1) / 2500) / 1.0)
    assert procrustes_distance(X_a, X_b) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("widths", [(3, 3), (3, 5), (5, 2)])
def test_cca_is_scikit_learns(widths):
    """The correlations of the variates that scikit-learn finds by iteration."""
    rng = np.random.default_rng(0)
    X_a = rng.standard_normal((200, widths[0])) + 1
    mixed = X_a @ rng.standard_normal(widths)
    X_b = mixed + 2 * rng.standard_normal(mixed.shape) - 1
    n_components = min(widths)
    variates = CCA(n_components, max_iter=10000, tol=1e-14).fit_transform(X_a, X_b)
    pairs = zip(*(variate.T for variate in variates), strict=True)
    expected = np.mean([pearsonr(*pair)[0] for pair in pairs])
    value = mean_canonical_correlation(X_a, X_b)
    assert value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "cityblock"])
def test_mutual_knn_is_the_loop_over_rows(metric):
    """Sets of neighbours, their intersections, one row at a time."""
    X_a, X_b = alike(n_features_b=3)
    shared = []
    for i in range(len(X_a)):
        found = []
        for X in (X_a, X_b):
            distances = cdist(X[[i]], X, metric)[0]
            distances[i] = np.inf
            found.append(set(np.argsort(distances)[:7]))
        shared.append(len(found[0] & found[1]) / 7)
    values = mutual_knn(X_a, X_b, n_neighbors=7, metric=metric, average=False)
    assert_allclose(values, shared, rtol=1e-15)
    assert mutual_knn(X_a, X_b, n_neighbors=7, metric=metric) == np.mean(values)


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "cityblock", "correlation"])
def test_jaccard_is_the_loop_over_rows(metric):
    """Both rows search X_b, and the row itself is among what it finds."""
    X_a, X_b = alike()
    expected = []
    for row_a, row_b in zip(X_a, X_b, strict=True):
        found, own = (
            set(np.argsort(cdist([row], X_b, metric)[0])[:7]) for row in (row_a, row_b)
        )
        expected.append(len(found & own) / len(found | own))
    values = top_k_jaccard(X_a, X_b, k=7, metric=metric, average=False)
    assert_allclose(values, expected, rtol=1e-15)
    assert top_k_jaccard(X_a, X_b, k=7, metric=metric) == np.mean(values)


@pytest.mark.parametrize("working_memory", [1024, 0.001])
@pytest.mark.parametrize("metric", ["cosine", "euclidean", "cityblock", "correlation"])
def test_reciprocal_ranks_are_scipys_ranks(metric, working_memory):
    """Of the distances of row i of X_a to all rows of X_b, the rank of the i-th."""
    X_a, X_b = alike()
    ranks = np.diag(rankdata(cdist(X_a, X_b, metric), axis=1))
    with config_context(working_memory=working_memory):
        values = mean_reciprocal_rank(X_a, X_b, metric=metric, average=False)
        mean = mean_reciprocal_rank(X_a, X_b, metric=metric)
    assert_allclose(values, 1 / ranks, rtol=1e-15)
    assert mean == np.mean(values)


@pytest.mark.parametrize("working_memory", [1024, 0.001])
@pytest.mark.parametrize(
    ("measure", "one"), [(rowwise_pearson, pearsonr), (rowwise_spearman, spearmanr)]
)
def test_rowwise_correlations_are_scipys(measure, one, working_memory):
    """One row at a time; ties in the ranks included."""
    X_a, X_b = (X.round(0) for X in alike(n_features=9))
    expected = [one(*rows)[0] for rows in zip(X_a, X_b, strict=True)]
    with config_context(working_memory=working_memory):
        values = measure(X_a, X_b, average=False)
        mean = measure(X_a, X_b)
    assert_allclose(values, expected, atol=1e-13)
    assert mean == np.mean(values)


# --- known answers ----------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.2, 0.6, 0.95])
def test_gaussian_spaces_of_known_correlation(rho):
    """Each axis correlates by rho: CCA is rho, CKA rho squared."""
    rng = np.random.default_rng(0)
    X_a, noise = rng.standard_normal((2, 200_000, 3))
    X_b = rho * X_a + np.sqrt(1 - rho**2) * noise
    turned = X_b @ np.linalg.qr(rng.standard_normal((4, 4)))[0][:3] * 7 + 5
    assert mean_canonical_correlation(X_a, turned) == pytest.approx(rho, abs=0.01)
    assert cka(X_a, turned) == pytest.approx(rho**2, abs=0.01)
    assert cka(X_a, turned, debiased=True) == pytest.approx(rho**2, abs=0.01)
    distance = procrustes_distance(X_a, turned)
    assert distance == pytest.approx(np.sqrt(2 - 2 * rho), abs=0.01)


@pytest.mark.parametrize("rho", [0.3, 0.9])
def test_rows_of_known_correlation(rho):
    """Pearson is rho and Spearman 6 / pi arcsin(rho / 2), of Gaussian rows."""
    rng = np.random.default_rng(0)
    X_a, noise = rng.standard_normal((2, 20, 100_000))
    X_b = rho * X_a + np.sqrt(1 - rho**2) * noise
    assert rowwise_pearson(X_a, X_b) == pytest.approx(rho, abs=0.005)
    expected = 6 / np.pi * np.arcsin(rho / 2)
    assert rowwise_spearman(X_a, X_b) == pytest.approx(expected, abs=0.005)


def test_unrelated_spaces_have_the_chance_levels_of_the_docstrings():
    """K / (n - 1) common neighbours, and the mean of 1 / rank of any rank."""
    rng = np.random.default_rng(0)
    X_a, X_b = rng.standard_normal((2, 2000, 5))
    assert mutual_knn(X_a, X_b) == pytest.approx(10 / 1999, rel=0.1)
    ranks = np.arange(1, 2001)
    assert mean_reciprocal_rank(X_a, X_b) == pytest.approx((1 / ranks).mean(), rel=0.3)
    assert top_k_jaccard(X_a, X_b) < 0.01
    assert abs(cka(X_a, X_b, debiased=True)) < 0.01
    assert abs(rowwise_pearson(X_a, X_b)) < 0.03
    assert abs(rowwise_spearman(X_a, X_b)) < 0.03


def test_the_biased_estimate_nears_1_for_wide_spaces_and_the_debiased_does_not():
    """Which is why there are two."""
    X_a, X_b = np.random.default_rng(0).standard_normal((2, 50, 5000))
    assert cka(X_a, X_b) > 0.98
    assert abs(cka(X_a, X_b, debiased=True)) < 0.1


@named(ALL)
def test_identical_spaces_are_exactly_as_alike_as_can_be(measure, params):
    """Calibrated or not, whatever the rounding."""
    for seed in range(3):
        X, _ = alike(seed)
        assert measure(X, X.copy(), **params) == BEST[measure]
        assert calibrated(measure, X, X, random_state=0, **params) == BEST[measure]


@named(ALL)
def test_noise_makes_spaces_less_alike(measure, params):
    """More noise, less alike."""
    values = [measure(*alike(noise=noise), **params) for noise in (0.1, 0.5, 5)]
    sign = -1 if measure is procrustes_distance else 1
    assert sign * values[0] > sign * values[1] > sign * values[2]


@named(ANY_WIDTH)
def test_the_two_spaces_may_change_places(measure, params):
    """Measures of any two widths are symmetric."""
    X_a, X_b = alike(n_features_b=4)
    assert measure(X_a, X_b, **params) == pytest.approx(measure(X_b, X_a, **params))


@named(ALL)
def test_the_order_of_the_samples_does_not_matter(measure, params):
    """The same rows in another order, in both spaces."""
    X_a, X_b = alike()
    order = np.random.default_rng(1).permutation(len(X_a))
    expected = measure(X_a, X_b, **params)
    value = measure(X_a[order], X_b[order], **params)
    assert value == pytest.approx(expected, abs=1e-12)


# --- declared invariances ---------------------------------------------------------


def transformed(X, transformation, seed):
    """`X` under a transformation of a class."""
    spaces = make_related_spaces(
        4, X.shape[1], transformation=transformation, random_state=seed
    )
    return X @ spaces.matrix + spaces.offset


@pytest.mark.parametrize("side", [0, 1], ids=["X_a", "X_b"])
@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("entry", _INVARIANCES, ids=lambda e: f"{e[0]} {e[1]}")
@given(seed=seeds)
@PROPERTY
def test_declared_holds_and_undeclared_breaks(entry, transformation, side, seed):
    """A declared class, applied to either space, leaves the value; others move it."""
    name, params, classes = entry
    measure = getattr(comparison, name)
    spaces = alike(seed)
    before = measure(*spaces, **params)

    def moved(seed):
        changed = list(spaces)
        changed[side] = transformed(changed[side], transformation, seed)
        return abs(measure(*changed, **params) - before)

    if transformation in classes:
        assert moved(seed) < 1e-9
    else:  # one of five will do
        assert any(moved(seed ^ i) > 1e-3 for i in range(5))


@pytest.mark.parametrize("entry", _INVARIANCES, ids=lambda e: f"{e[0]} {e[1]}")
@given(seed=seeds)
@settings(PROPERTY, max_examples=2)
def test_calibrated_measures_keep_their_invariances(entry, seed):
    """What chance amounts to does not change either."""
    name, params, classes = entry
    measure = getattr(comparison, name)
    null = {"n_permutations": 19, "random_state": 0}
    X_a, X_b = alike(seed, noise=2)
    before = calibrated(measure, X_a, X_b, **params, **null)
    for transformation in sorted(classes):
        changed = transformed(X_b, transformation, seed)
        value = calibrated(measure, X_a, changed, **params, **null)
        assert abs(value - before) < 1e-9


def test_every_measure_has_declared_invariances():
    """And every declared name is a measure."""
    declared = {name for name, _, _ in _INVARIANCES}
    others = {"EncoderTest", "calibrated", "encoder_test", "mantel_test"}
    others |= {"mismatched_rows", "space_agreement"}
    measures = set(comparison.__all__) - others
    assert declared == measures
    for _, _, classes in _INVARIANCES:
        assert classes <= set(TRANSFORMATIONS)


def test_maps_into_wider_spaces_are_invariances_too():
    """A rotation into more columns, and for CCA any linear map into them."""
    X_a, X_b = alike()
    wide = make_related_spaces(
        transformation="orthogonal", n_features_b=9, n_features=6
    )
    for measure, params in ANY_WIDTH:
        expected = measure(X_a, X_b, **params)
        assert measure(X_a @ wide.matrix, X_b, **params) == pytest.approx(expected)
    mixed = X_a @ np.random.default_rng(0).standard_normal((6, 9))
    value = mean_canonical_correlation(mixed, X_b)
    assert value == pytest.approx(mean_canonical_correlation(X_a, X_b))


# --- chance -----------------------------------------------------------------------


@named(ALL)
def test_calibrated_is_the_definition(measure, params):
    """Against the measure of each permuted space, computed from the beginning."""
    X_a, X_b = alike(n_samples=30, noise=1)
    random_state = np.random.RandomState(0)
    orders = [random_state.permutation(30) for _ in range(39)]
    null = np.sort([measure(X_a, X_b[order], **params) for order in orders])
    value = measure(X_a, X_b, **params)
    if measure is procrustes_distance:
        expected = min(1, value / null[1])
    else:
        expected = max(0, (value - null[-2]) / (1 - null[-2]))
    null = {"n_permutations": 39, "random_state": 0}
    actual = calibrated(measure, X_a, X_b, **null, **params)
    assert actual == pytest.approx(expected, abs=1e-10)
    assert 0 < actual < 1


def test_measures_of_ones_own_are_calibrated():
    """Called for each permutation, with their parameters."""
    X_a, X_b = alike(n_samples=30, noise=1)

    def own(X_a, X_b, *, power=1):
        return abs(np.corrcoef(X_a[:, 0], X_b[:, 0])[0, 1]) ** power

    order = np.random.RandomState(0)
    null = [own(X_a, X_b[order.permutation(30)], power=2) for _ in range(19)]
    found, chance = own(X_a, X_b, power=2), max(null)
    actual = calibrated(own, X_a, X_b, n_permutations=19, random_state=0, power=2)
    assert actual == pytest.approx((found - chance) / (1 - chance))
    assert actual > 0.1

    def alike_by_cka(X_a, X_b):
        return cka(X_a, X_b, debiased=True)

    expected = calibrated(cka, X_a, X_b, random_state=0, debiased=True)
    actual = calibrated(alike_by_cka, X_a, X_b, random_state=0)
    assert actual == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("kernel", ["rbf", "cosine"])
def test_a_kernel_that_does_not_fit_in_memory_is_computed_anew(kernel):
    """For each permutation, to the same result."""
    X_a, X_b = alike()
    null = {"random_state": 0, "kernel": kernel}
    expected = calibrated(cka, X_a, X_b, **null)
    with config_context(working_memory=0.001):
        assert calibrated(cka, X_a, X_b, **null) == pytest.approx(expected, rel=1e-9)


@named(ALL)
def test_unrelated_spaces_are_no_more_alike_than_chance(measure, params):
    """At most one in 20 is above 0, within what 60 draws can tell."""
    above = 0
    for seed in range(60):
        X_a, X_b = np.random.default_rng(seed).standard_normal((2, 20, 8)) + 1
        null = {"n_permutations": 19, "random_state": seed}
        value = calibrated(measure, X_a, X_b, **null, **params)
        chance = 1.0 if measure is procrustes_distance else 0.0
        above += value != chance
    assert above <= 9  # of a binomial distribution of mean 3: once in 1000


@named(ALL)
def test_the_seed_decides(measure, params):
    """Equal seeds, equal values; the global seed is not touched."""
    X_a, X_b = alike(noise=3, n_samples=25)
    state = np.random.get_state()[1].copy()
    first, second, third = (
        calibrated(measure, X_a, X_b, n_permutations=19, random_state=seed, **params)
        for seed in (0, 0, 1)
    )
    assert first == second
    assert 0 <= third <= 1
    assert_array_equal(np.random.get_state()[1], state)


def test_where_unrelated_spaces_are_fully_alike_calibration_is_refused():
    """Instead of a 0 that identical spaces would get too."""
    X_a, X_b = np.random.default_rng(0).standard_normal((2, 10, 30))
    with (
        pytest.warns(UserWarning, match="n_samples - 1 directions") as caught,
        pytest.raises(ValueError, match="less alike than identical ones"),
    ):
        calibrated(mean_canonical_correlation, X_a, X_b, random_state=0)
    assert caught[0].filename == __file__
    X = X_a[:3, :1]
    with pytest.raises(ValueError, match="less alike than identical ones"):
        calibrated(procrustes_distance, X, X, random_state=0)


# --- digits, dtypes, memory -------------------------------------------------------


@named(ALL)
def test_float32_spaces_are_computed_in_float64(measure, params):
    """The same value as of the same numbers in float64; the input stays as it is."""
    spaces = [X.astype(np.float32) for X in alike()]
    kept = [X.copy() for X in spaces]
    value = measure(*spaces, **params)
    expected = measure(*(X.astype(np.float64) for X in spaces), **params)
    assert value == pytest.approx(expected, abs=1e-12)
    assert isinstance(value, float)
    assert_array_equal(spaces, kept)


@pytest.mark.parametrize("measure", [mutual_knn, mean_reciprocal_rank, top_k_jaccard])
def test_nearly_parallel_float32_rows_are_told_apart(measure):
    """As relative vectors are, whose cosines have more digits than float32."""
    rng = np.random.default_rng(0)
    X = 1 + 1e-5 * rng.standard_normal((60, 6))
    spaces = X, X + 5e-6 * rng.standard_normal(X.shape)
    narrow = [X.astype(np.float32) for X in spaces]
    wide = [X.astype(np.float64) for X in narrow]
    expected = measure(*wide, average=False)
    assert 0.1 < expected.mean() < 0.9
    assert_array_equal(measure(*narrow, average=False), expected)


@named(ALL)
def test_lists_and_integers_are_taken(measure, params):
    """As scikit-learn takes them."""
    X_a, X_b = (np.round(X * 100).astype(int) for X in alike())
    expected = measure(X_a.astype(float), X_b.astype(float), **params)
    assert measure(X_a.tolist(), X_b, **params) == expected


@pytest.mark.parametrize("offset", [1e4, 1e6, 1e8])
@named(
    [
        case
        for case in ANY_WIDTH
        if case[1].get("metric") == "euclidean"
        or (case[0] is not mutual_knn and case[1].get("kernel") != "cosine")
    ]
)
def test_far_from_the_origin_no_digit_is_lost(measure, params, offset):
    """But those that the spaces themselves have lost by rounding."""
    X_a, X_b = alike()
    expected = measure(X_a, X_b, **params)
    value = measure(X_a + offset, X_b - 3 * offset, **params)
    assert value == pytest.approx(expected, abs=1e-14 * offset)


@named([*ANY_WIDTH[:2], (procrustes_distance, {}), (mean_canonical_correlation, {})])
def test_far_from_the_origin_many_rows_do_not_blur_the_mean(measure, params):
    """The offset is exact here, so that the space is the same to the last digit."""
    rng = np.random.default_rng(0)
    X_a, noise = np.round(rng.standard_normal((2, 100_000, 2)), 1) * 2**10
    X_b, offset = X_a + noise, 2.0**36 + 1 / 3
    X_a, X_b, offset = (np.round(values) for values in (X_a, X_b, offset * 2**10))
    assert_array_equal((X_a + offset) - offset, X_a)
    expected = measure(X_a, X_b, **params)
    value = measure(X_a + offset, X_b - offset, **params)
    assert value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("scale", [1e-200, 1e-20, 1e20, 1e200])
@named([case for case in ALL if case[1].get("metric", "cosine") == "cosine"])
def test_spaces_of_any_scale_have_the_same_values(measure, params, scale):
    """Although their squares are not numbers of float64."""
    X_a, X_b = alike()
    expected = measure(X_a, X_b, **params)
    assert measure(X_a * scale, X_b / scale, **params) == pytest.approx(expected)


def test_a_kernel_that_is_nearly_constant_keeps_its_digits():
    """Cosines far from the origin are all near 1."""
    X_a, X_b = (X + 1e4 for X in alike())
    K, L = (pairwise_kernels(X, metric="cosine") for X in (X_a, X_b))
    expected = explicit_cka(K - K.mean(), L - L.mean(), False)
    assert cka(X_a, X_b, kernel="cosine") == pytest.approx(expected, rel=1e-6)


def test_directions_within_rounding_do_not_count():
    """A space of rank 3 in 8 columns, in either precision, has 3 correlations."""
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((300, 3)) * [1, 1, 1e-3]
    X_b = signal[:, :2] + rng.standard_normal((300, 2))
    expected = mean_canonical_correlation(signal, X_b[:, :1])
    for dtype in (np.float32, np.float64):
        for offset in (0, 100):
            X_a = (signal @ rng.standard_normal((3, 8)) + offset).astype(dtype)
            value = mean_canonical_correlation(X_a, X_b[:, :1])
            assert value == pytest.approx(expected, abs=2e-3)
            spread = mean_canonical_correlation(X_a, rng.standard_normal((300, 8)))
            assert spread == pytest.approx(0.15, abs=0.1)  # 8 would have 0.12 at most


def peak_mib(measure, *args, **params):
    """The memory that a measure takes beyond its input, with blocks of 1 MiB."""
    with config_context(working_memory=1):
        tracemalloc.start()
        measure(*args, **params)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak / 2**20


@named(
    [case for case in ALL if case[1].get("metric") != "cityblock"]
    + [(top_k_jaccard, {"metric": "correlation"})]
)
def test_no_measure_needs_an_array_of_all_pairs(measure, params, monkeypatch):
    """3000 x 3000 numbers would be 69 MiB; a space in float64 is 4.6 MiB."""
    rng = np.random.default_rng(0)
    X_a, X_b = rng.standard_normal((2, 3000, 200), dtype=np.float32)
    monkeypatch.setattr(comparison, "_MEDIAN_ROWS", 200)
    searched = (mutual_knn, mean_reciprocal_rank, top_k_jaccard)
    held = {mutual_knn: 1}.get(measure, 2) if measure in searched else 0
    assert peak_mib(measure, X_a, X_b, **params) < 5 * held + 12


@named([case for case in ANY_WIDTH if case[0] is not mutual_knn])
def test_no_measure_needs_an_array_of_all_pairs_of_columns(measure, params):
    """3000 x 3000 numbers would be 69 MiB, of spaces of 30 rows."""
    X_a, X_b = np.random.default_rng(0).standard_normal((2, 30, 3000))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X_. has n_samples - 1 directions")
        assert peak_mib(measure, X_a, X_b, **params) < 10


# --- what is refused --------------------------------------------------------------


@named(ALL)
def test_numbers_of_rows_must_agree(measure, params):
    """Both numbers are named."""
    X_a, X_b = alike()
    with pytest.raises(ValueError, match=r"60 rows in X_a and 59 in X_b"):
        measure(X_a, X_b[:-1], **params)


@named(EQUAL_WIDTH)
def test_unequal_widths_take_relative_spaces(measure, params):
    """Of measures that compare columns; the error says what to do."""
    X_a, X_b = alike()
    with pytest.raises(ValueError, match=r"relative spaces.* 6 .* X_a and 5"):
        measure(X_a, X_b[:, :5], **params)


@named(ALL)
@pytest.mark.parametrize("side", [0, 1])
def test_constant_spaces_are_refused(measure, params, side):
    """0.1 is not what its mean over rows gives, but constant all the same."""
    spaces = list(alike())
    spaces[side] = np.full_like(spaces[side], 0.1)
    with pytest.raises(ValueError, match=f"{('X_a', 'X_b')[side]} must not be const"):
        measure(*spaces, **params)


@named(ALL)
def test_too_few_rows_are_refused_and_the_fewest_are_not(measure, params):
    """Of 2 rows any two spaces of any widths are alike."""
    least = 4 if params.get("debiased") else 3
    least = 2 if (measure, params) in EQUAL_WIDTH else least
    X_a, X_b = alike()
    few = {**params}
    if measure is mutual_knn:
        few["n_neighbors"] = 1
    if measure is top_k_jaccard:
        few["k"] = 1
    with pytest.raises(ValueError, match=f"at least {least} rows"):
        measure(X_a[: least - 1], X_b[: least - 1], **few)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X_. has n_samples - 1 directions")
        value = measure(X_a[:least], X_b[:least], **few)
    assert -1 <= value <= np.sqrt(2)


@named(ALL)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_refused(measure, params, value):
    """By scikit-learn, with the name of the space."""
    X_a, X_b = alike()
    X_b[3, 2] = value
    with pytest.raises(ValueError, match="Input X_b contains"):
        measure(X_a, X_b, **params)


@named(ALL)
def test_what_null_takes_is_checked(measure, params):
    """Fewer permutations than 19 cannot tell one in 20."""
    X_a, X_b = alike()
    with pytest.raises(ValueError, match=r"n_permutations must be .*\[19"):
        calibrated(measure, X_a, X_b, n_permutations=18, **params)
    with pytest.raises(TypeError, match="n_permutations"):
        calibrated(measure, X_a, X_b, n_permutations=20.0, **params)
    with pytest.raises(ValueError, match="60 rows in X_a and 59 in X_b"):
        calibrated(measure, X_a, X_b[:-1], **params)
    with pytest.raises(TypeError, match="unexpected keyword argument 'own'"):
        calibrated(measure, X_a, X_b, own=1, **params)
    with pytest.raises(TypeError, match=r"measure must be a function .* got 'cka'"):
        calibrated("cka", X_a, X_b)


@pytest.mark.parametrize("measure", PER_ROW)
def test_rows_are_not_calibrated(measure):
    """Only their mean is."""
    X_a, X_b = alike()
    assert measure(X_a, X_b, average=False).shape == (60,)
    with pytest.raises(ValueError, match="average=False"):
        calibrated(measure, X_a, X_b, average=False)


@pytest.mark.parametrize("measure", [mutual_knn, mean_reciprocal_rank, top_k_jaccard])
def test_metrics_are_checked(measure):
    """Names, rows without a direction, and rows of which a metric is undefined."""
    X_a, X_b = alike()
    with pytest.raises(ValueError, match="metric must be one of"):
        measure(X_a, X_b, metric="no such metric")
    with pytest.raises(ValueError, match="metric must be one of"):
        measure(X_a, X_b, metric="precomputed")
    X_a[7] = 0
    with pytest.raises(ValueError, match=r"rows must not be zero.* row 7"):
        measure(X_a, X_b)
    X_a[7] = X_b[7] = 3
    with pytest.raises(ValueError, match=r"rows must not be constant.* row 7"):
        measure(X_a, X_b, metric="correlation")
    X_a[7:9] = X_b[7:9] = 0
    with (
        np.errstate(all="ignore"),
        pytest.raises(ValueError, match=r"'braycurtis' must be finite.* got inf"),
    ):
        measure(X_a, X_b, metric="braycurtis")


def test_callable_metrics_are_taken():
    """As scikit-learn takes them."""
    X_a, X_b = alike(n_samples=25)

    def city(x, y):
        return abs(x - y).sum()

    for measure in (mutual_knn, mean_reciprocal_rank, top_k_jaccard):
        expected = measure(X_a, X_b, metric="cityblock")
        assert measure(X_a, X_b, metric=city) == pytest.approx(expected)


def test_counts_of_neighbours_are_checked():
    """Where all rows are neighbours of all, nothing is compared."""
    X_a, X_b = alike(n_samples=12)
    for n_neighbors in (0, 11, 12):
        with pytest.raises(ValueError, match=r"n_neighbors must be .*\[1, 10\]"):
            mutual_knn(X_a, X_b, n_neighbors=n_neighbors)
    for k in (0, 12):
        with pytest.raises(ValueError, match=r"k must be .*\[1, 11\]"):
            top_k_jaccard(X_a, X_b, k=k)
    assert mutual_knn(X_a, X_b, n_neighbors=10) >= 8 / 10
    assert top_k_jaccard(X_a, X_b, k=11) >= 10 / 12


def test_kernels_are_checked():
    """Names, parameters, and kernels that are constant or not finite."""
    X_a, X_b = alike()
    with pytest.raises(ValueError, match="kernel must be one of"):
        cka(X_a, X_b, kernel="no such kernel")
    with pytest.raises(TypeError, match="kernel must be one of"):
        cka(X_a, X_b, kernel=3)
    with pytest.raises(ValueError, match="kernel_params must be None for the linear"):
        cka(X_a, X_b, kernel_params={"gamma": 1})
    with pytest.raises(ValueError, match="bandwidth"):
        cka(X_a, X_b, kernel="rbf", bandwidth=0)
    with pytest.raises(ValueError, match="all rows of X_a are equally alike"):
        cka(np.eye(60), X_b, debiased=True)
    with pytest.raises(ValueError, match="all rows of X_a are equally alike"):
        cka(X_a, X_b, kernel=lambda x, y: 1.0)
    with pytest.raises(ValueError, match="must be finite; got inf or NaN for X_a"):
        cka(X_a, X_b, kernel=lambda x, y: np.nan)
    X_b[:50] = 1
    with pytest.raises(ValueError, match="pairs of rows of X_b equal"):
        cka(X_a, X_b, kernel="rbf")
    assert 0 < cka(X_a, X_b, kernel="rbf", kernel_params={"gamma": 0.1}) < 1


def test_values_beyond_the_range_of_float64_are_an_error():
    """Not a NaN."""
    X_a, X_b = alike()
    X_a[:3] = 1.7e308
    for measure in (cka, procrustes_distance, mean_canonical_correlation):
        with pytest.raises(
            ValueError, match=r"X_a must have deviations .* range of float64"
        ):
            measure(X_a, X_b)


def test_wide_spaces_correlate_fully_with_a_warning():
    """Of canonical correlations, once the rows are all spanned."""
    rng = np.random.default_rng(0)
    X_a, X_b = rng.standard_normal((20, 19)), rng.standard_normal((20, 3))
    with pytest.warns(UserWarning, match="X_a has n_samples - 1 directions") as caught:
        assert mean_canonical_correlation(X_a, X_b) == pytest.approx(1)
    assert caught[0].filename == __file__
    assert mean_canonical_correlation(X_a[:, :18], X_b) < 1 - 1e-6


def test_constant_within_rounding_is_no_space():
    """For directions are counted, and there are none."""
    X_a, X_b = alike()
    X_a = np.full_like(X_a, 1e8)
    X_a[0, 0] = np.nextafter(1e8, 2e8)
    with pytest.raises(
        ValueError, match=r"X_a must differ .* by more than the rounding"
    ):
        mean_canonical_correlation(X_a, X_b)


# --- ties and rows without a correlation ------------------------------------------


def test_rows_at_the_same_distance_share_their_ranks():
    """Where two rows are equal, the match has the rank 1 or 2: 1.5."""
    X = np.array([[1.0, 2.0], [1.0, 2.0], [3.0, -1.0], [-2.0, 1.0]])
    ranks = mean_reciprocal_rank(X, X, metric="cityblock", average=False)
    assert_allclose(ranks, [1 / 1.5, 1 / 1.5, 1, 1])
    X_a = np.array([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0]])
    X_b = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
    tied = mean_reciprocal_rank(X_a, X_b, metric="cityblock", average=False)
    assert_allclose(tied, 1 / 2)
    # with a null, by another way
    ordered = comparison._ranks(cdist(X_a, X_b), np.array([[0, 1, 2], [2, 0, 1]]))
    assert_array_equal(ordered, 2)


def test_equal_rows_are_taken_as_neighbours_find_them():
    """Ties are broken alike in identical spaces."""
    X = np.repeat(alike(n_samples=10)[0], 3, axis=0)
    assert mutual_knn(X, X.copy(), n_neighbors=2) == 1
    assert top_k_jaccard(X, X.copy(), k=4) == 1


@pytest.mark.parametrize("measure", [rowwise_pearson, rowwise_spearman])
def test_constant_rows_count_as_0_with_a_warning(measure):
    """As everywhere in this package: neither near nor far."""
    X_a, X_b = alike()
    X_a[3], X_b[3], X_b[5] = 1.1, 2.2, 3.3
    with pytest.warns(UserWarning, match="2 rows are constant") as caught:
        values = measure(X_a, X_b, average=False)
    assert caught[0].filename == __file__
    assert_array_equal(np.flatnonzero(values == 0), [3, 5])
    with pytest.raises(ValueError, match="number of columns"):
        measure(X_a[:, :1], X_b[:, :1])


# --- agreement of anchors ---------------------------------------------------------


def test_agreement_of_random_spaces_is_near_zero():
    """And of spaces that differ by a factor and a shift it is 1."""
    rng = np.random.default_rng(0)
    spaces = rng.standard_normal((2, 200, 200))
    assert space_agreement(*spaces) < 0.05
    assert space_agreement(spaces[0], 7 + 3 * spaces[0]) == pytest.approx(1)
    assert space_agreement(spaces[0], -spaces[0]) == 0


def test_agreement_is_the_correlation_without_oneself():
    """Of rows that correlate positively; each anchor's own column is left out."""
    X_a, X_b = alike()
    relative = [cosine(X, X) for X in (X_a - X_a.mean(axis=0), X_b - X_b.mean(axis=0))]
    others = [values[~np.eye(60, dtype=bool)].reshape(60, 59) for values in relative]
    correlations = rowwise_pearson(*others, average=False)
    expected = np.maximum(correlations, 0).mean()
    assert space_agreement(*relative) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shape", [(20, 60), (60, 20)])
def test_agreement_of_rows_that_are_no_anchors(shape):
    """Only where rows and columns are the same anchors is the diagonal left out."""
    a, b = np.random.default_rng(0).standard_normal((2, *shape))
    b += a
    expected = np.maximum(rowwise_pearson(a, b, average=False), 0).mean()
    assert space_agreement(a, b) == pytest.approx(expected, abs=1e-12)


def test_comparison_takes_no_torch():
    """It can be imported where torch is not installed, and loads nothing of it."""
    code = "import sys, skinvariant.comparison; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


# --- do the rows of two spaces correspond? ----------------------------------------


def mantel_correlation(X_a, X_b):
    """Correlation of the cosines of all pairs, by scipy."""
    above = np.triu_indices(len(X_a), 1)
    cosines = [cosine_similarity(X - X.mean(axis=0)) for X in (X_a, X_b)]
    return pearsonr(*(values[above] for values in cosines)).statistic


def test_the_mantel_statistic_is_the_correlation_of_cosines():
    """Against scipy's, over the pairs."""
    X_a, X_b = alike()
    correlation, p_value = mantel_test(X_a[:15], X_b[:15, ::2], n_permutations=50)
    assert correlation == pytest.approx(mantel_correlation(X_a[:15], X_b[:15, ::2]))
    assert 1 <= 51 * p_value <= 51
    assert 51 * p_value == pytest.approx(round(51 * p_value))


@pytest.mark.parametrize("seed", range(5))
def test_the_p_value_of_few_rows_counts_all_orders(seed):
    """Of 5 rows there are 120 orders, all of which are tried."""
    X_a, X_b = np.random.default_rng(seed).standard_normal((2, 5, 4))
    correlation, p_value = mantel_test(X_a, X_b)
    by_chance = [
        mantel_correlation(X_a, X_b[list(order)]) for order in permutations(range(5))
    ]
    reached = np.sum(np.array(by_chance) >= correlation - 1e-12)
    assert p_value == pytest.approx(reached / 120)


def test_the_p_value_of_many_rows_has_the_seed_of_its_orders():
    """It estimates the share of all orders, and equal seeds give equal values."""
    X_a, X_b = np.random.default_rng(1).standard_normal((2, 6, 4))
    correlation, few = mantel_test(X_a, X_b, n_permutations=400, random_state=3)
    assert (correlation, few) == mantel_test(
        X_a, X_b, n_permutations=400, random_state=np.random.RandomState(3)
    )
    exact = mantel_test(X_a, X_b, n_permutations=720)[1]
    # three standard errors of a share of 400
    assert abs(few - exact) < 3 * np.sqrt(exact * (1 - exact) / 400)
    assert mantel_test(X_a, X_b, n_permutations=400, random_state=4)[1] != few


def test_the_p_values_of_wrong_orders_are_uniform():
    """So that a threshold of 0.01 lets 1 of 100 wrong orders pass."""
    spaces = make_related_spaces(30, random_state=0)
    rng = np.random.default_rng(0)
    p_values = [
        mantel_test(spaces.X_a, spaces.X_b[rng.permutation(30)])[1] for _ in range(200)
    ]
    assert kstest(p_values, "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    ("rows_a", "rows_b", "message"),
    [(5, 4, "got 5 rows in X_a and 4"), (2, 2, "at least 3 rows; got 2")],
)
def test_what_the_mantel_test_refuses(rows_a, rows_b, message):
    """Other rows, and too few."""
    with pytest.raises(ValueError, match=message):
        mantel_test(np.eye(6)[:rows_a], np.eye(6)[:rows_b])


def margins(X_a, X_b):
    """How much more each row correlates with its like than with an average row.

    Computed as the docstring of `mismatched_rows` says, without its short cuts.
    """
    similarities = []
    for X in (X_a, X_b):
        low, high = int(0.05 * len(X)), len(X) - int(0.05 * len(X))
        cosines = cosine_similarity(X - np.sort(X, axis=0)[low:high].mean(axis=0))
        hat = cosines @ np.linalg.inv(cosines + 2 * np.eye(len(X)))
        similarities.append(hat / np.sqrt(np.outer(hat.diagonal(), hat.diagonal())))
    others = [
        np.array([np.delete(row, i) for i, row in enumerate(values)])
        for values in similarities
    ]
    # the similarity to itself counts as the mean of the others
    whole = [
        np.array([np.insert(row, i, row.mean()) for i, row in enumerate(values)])
        for values in others
    ]
    correlations = np.corrcoef(*whole)[: len(X_a), len(X_a) :]
    means = np.maximum(correlations.mean(axis=0), correlations.mean(axis=1))
    return correlations.diagonal() - means


@pytest.mark.parametrize("seed", range(3))
def test_mismatched_rows_are_those_of_the_formula(seed):
    """All of them, the least alike first."""
    rng = np.random.default_rng(seed)
    X_a, X_b = rng.standard_normal((2, 60, 4))
    expected = margins(X_a, X_b)
    found = mismatched_rows(X_a, X_b)
    assert_array_equal(found, np.argsort(expected)[: np.sum(expected <= 0)])


@pytest.mark.parametrize("transformation", sorted(TRANSFORMATIONS))
@pytest.mark.parametrize("n_samples", [300, 1200])
def test_a_tenth_of_wrong_rows_is_found(transformation, n_samples):
    """Whatever the difference; hardly any right row is named, and none without them."""
    spaces = make_related_spaces(
        n_samples, n_features=20, transformation=transformation, noise=0.3
    )
    X_a, X_b = spaces.X_a, spaces.X_b
    assert len(mismatched_rows(X_a, X_b)) == 0
    wrong = np.arange(n_samples - n_samples // 10, n_samples)
    order = np.r_[: wrong[0], np.roll(wrong, 1)]
    found = mismatched_rows(X_a, X_b[order])
    assert len(found) > n_samples / 40
    assert np.isin(found, wrong).mean() >= 0.9


def test_right_rows_are_not_mismatched():
    """Of 102 draws of 20 to 60 rows of two encoders of digits, hardly any."""
    X = load_digits().data
    seeds = {"gamma": 1e-3, "n_components": 60}
    X_a, X_b = (Nystroem(random_state=i, **seeds).fit_transform(X) for i in (0, 1))
    rng = np.random.default_rng(0)
    draws = [rng.choice(len(X), size, replace=False) for size in [20, 30, 60] * 34]
    alarms = [len(mismatched_rows(X_a[rows], X_b[rows])) > 0 for rows in draws]
    assert np.mean(alarms) <= 0.01
    shifted = [
        len(mismatched_rows(X_a[rows], X_b[np.roll(rows, 1)])) > 0 for rows in draws
    ]
    assert np.mean(shifted) >= 0.99


@pytest.mark.parametrize("scale", [1e-150, 1e-3, 1.0, 1e150])
def test_mismatched_rows_of_any_scale_and_with_wild_rows(scale):
    """Neither a unit, nor one row that is far from all others, changes a verdict."""
    X_a, X_b = alike(noise=0.1)
    order = np.r_[:30, 30 + np.roll(np.arange(len(X_a) - 30), 1)]
    for other in (X_b, X_b[order]):
        expected = mismatched_rows(X_a, other)
        assert_array_equal(mismatched_rows(X_a * scale, other), expected)
        wild = other.copy()
        wild[3] *= 1e8
        assert set(mismatched_rows(X_a, wild)) ^ set(expected) <= {3}


def test_rows_in_two_groups_are_not_mismatched():
    """Where right and wrong rows of a group are alike, none of them is named."""
    X_a = np.repeat(np.eye(2), [36, 4], axis=0)
    noise = 0.01 * np.random.default_rng(0).standard_normal((2, 40, 2))
    assert len(mismatched_rows(X_a + noise[0], X_a[:, ::-1] * 3 + noise[1])) == 0
    assert len(mismatched_rows(X_a, X_a)) == 0


def test_a_constant_space_matches_nothing():
    """All its rows are mismatched."""
    X_a, _ = alike()
    assert_array_equal(np.sort(mismatched_rows(X_a, np.ones((60, 3)))), np.arange(60))


def test_what_mismatched_rows_refuses():
    """Fewer than 20 rows."""
    with pytest.raises(ValueError, match="at least 20 rows; got 19"):
        mismatched_rows(np.eye(19), np.eye(19))


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cosine_cka_of_parallel_rows(dtype, debiased):
    """Rows parallel within rounding are equally alike: an error, and not noise."""
    rng = np.random.default_rng(0)
    X = rng.uniform(0.1, 10, (60, 1)) * rng.standard_normal(8)
    with pytest.raises(ValueError, match="X_a must differ in direction"):
        cka(
            X.astype(dtype),
            rng.standard_normal((60, 5)),
            kernel="cosine",
            debiased=debiased,
        )


@pytest.mark.parametrize("gap", [1.0, 1e-4, 1e-8, 1e-10])
def test_cosine_cka_of_nearly_parallel_rows(gap):
    """Directions that differ by little have little to cancel."""
    rng = np.random.default_rng(0)
    X, Y = 1 + gap * rng.standard_normal((40, 8)), rng.standard_normal((40, 5))
    kernels = []
    for rows in (X, Y):
        unit = rows.astype(np.longdouble)
        unit = unit / np.sqrt((unit**2).sum(axis=1, keepdims=True))
        # minus 1: the distances of unit rows
        kernel = -((unit[:, None] - unit) ** 2).sum(axis=2) / 2
        kernel = kernel - kernel.mean(axis=0)
        kernels.append(kernel - kernel.mean(axis=1)[:, None])
    a, b = kernels
    expected = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    rounding = 1e-13 + 4 * np.finfo(float).eps / gap
    assert abs(cka(X, Y, kernel="cosine") - float(expected)) < rounding


def test_cosine_cka_with_zero_rows():
    """A zero row has a cosine of 0 with every row, itself included."""
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((40, 8)), rng.standard_normal((40, 5))
    X[::9] = 0
    unit = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-9)
    expected = cka(unit, Y / np.linalg.norm(Y, axis=1, keepdims=True))
    assert cka(X, Y, kernel="cosine") == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, None, 1j, True, "0.5", [0.5]])
def test_a_measure_of_ones_own_must_return_a_number(value):
    """A value that is none would make a similarity of 0, or of NaN."""
    X = np.random.default_rng(0).standard_normal((20, 3))
    with pytest.raises((TypeError, ValueError), match="the value of measure must be"):
        calibrated(lambda X_a, X_b: value, X, X, n_permutations=19)


# --- encoder_test -------------------------------------------------------------------


def skewed(n_samples=400, seed=0):
    """Rows that no rotation leaves alike."""
    rng = np.random.default_rng(seed)
    return np.exp(0.5 * rng.standard_normal((n_samples, 12))) * np.arange(1, 13)


def test_rows_of_another_encoder_are_found():
    """Right rows are not; turned and reflected ones are, from 4 rows on."""
    X = skewed()
    turned = X[300:] @ np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))[0]
    for n_rows in (4, 20, 100):
        assert encoder_test(X[:300], X[300 : 300 + n_rows]).p_value > 0.05
        statistic, p_value, norms = encoder_test(X[:300], turned[:n_rows])
        assert p_value == 0.001
        assert 0 < statistic <= 1
        assert norms == ""


def test_the_p_values_of_right_rows_are_uniform():
    """Whatever the width, more columns than rows among them."""
    p_values = []
    for seed in range(60):
        X = np.random.default_rng(seed).standard_t(4, (60, (3, 90)[seed % 2]))
        p_values.append(encoder_test(X[:40], X[40:], n_permutations=99).p_value)
    assert kstest(p_values, "uniform").pvalue > 0.01


@pytest.mark.parametrize("factor", [1e-300, 1e-30, 1e30, 1e299])
def test_the_encoder_test_at_every_scale(factor):
    """The same values; float32 as well, in its range."""
    X = skewed(60)
    expected = encoder_test(X[:40], X[40:])
    dtypes = [np.float64, np.float32] if 1e-35 < factor < 1e35 else [np.float64]
    for dtype in dtypes:
        scaled = (X * factor).astype(dtype)
        found = encoder_test(scaled[:40], scaled[40:])
        assert found.statistic == pytest.approx(expected.statistic, rel=1e-4)
        assert found.p_value == pytest.approx(expected.p_value, abs=0.002)
    shifted = encoder_test(X[:40] + 1e6, X[40:] + 1e6)
    assert shifted.statistic == pytest.approx(expected.statistic, rel=1e-4)


@pytest.mark.parametrize(
    ("anchors", "X", "norms"),
    [
        (normalize, None, "the encoder has normalised its rows to norm 1"),
        (None, normalize, "these rows are normalised to norm 1"),
        (None, lambda X: 100 * X, "their norms are .* times those"),
        (normalize, normalize, "^$"),
        (None, None, "^$"),
    ],
)
def test_what_norms_show(anchors, X, norms):
    """A normalisation of one of the two, or a factor."""
    rows = skewed()
    pair = [
        part if change is None else change(part)
        for part, change in ((rows[:300], anchors), (rows[300:], X))
    ]
    result = encoder_test(*pair)
    assert re.search(norms, result.norms)
    assert (result.p_value == 0.001) == (anchors is not X)


def test_the_seed_of_the_encoder_test():
    """Equal seeds give equal values, and X is not changed."""
    X = skewed(60)
    before = X.copy()
    first, again, other = (
        encoder_test(X[:40], X[40:], random_state=seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert first.statistic == other.statistic
    assert first.p_value != other.p_value
    assert_array_equal(X, before)


@pytest.mark.parametrize(
    ("anchors", "X", "message"),
    [
        (
            skewed(20),
            skewed(20)[:, :5],
            "encoder; got 5 columns in X and 12",
        ),
        (skewed(9), skewed(20), "minimum of 10"),
        (skewed(20), skewed(3), "minimum of 4"),
        (skewed(20), np.full((9, 12), np.nan), "Input X contains NaN"),
        (np.full((20, 12), np.inf), skewed(9), "Input anchors contains inf"),
        (np.ones((20, 3)), np.ones((9, 3)), "29 equal rows"),
    ],
)
def test_what_the_encoder_test_refuses(anchors, X, message):
    """Another width, too few rows, values that are missing, and nothing to test."""
    with pytest.raises(ValueError, match=message):
        encoder_test(anchors, X)
