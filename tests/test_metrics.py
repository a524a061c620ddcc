"""Every metric against formulas written down on their own; the registry's promises."""

import copy
import dataclasses
import functools
import pickle
import warnings

import numpy as np
import pytest
import scipy.linalg
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array, csr_matrix
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.covariance import shrunk_covariance
from sklearn.datasets import make_swiss_roll
from sklearn.manifold import Isomap

from skinvariant import RelativeProjector, persistence
from skinvariant.metrics import (
    METRICS,
    TRANSFORMATIONS,
    Metric,
    _products,
    change_of_basis,
    euclidean,
    geodesic,
    mahalanobis,
    minkowski,
    whitening,
)
from skinvariant.metrics._registry import (
    compare_together,
    find_metric,
    prepare_together,
)
from skinvariant.metrics._rows import BATCH
from skinvariant.relative import layer_normalize

EPS = np.finfo(np.float64).eps
DTYPES = (np.float64, np.float32)
SCALES = (1e-200, 1e-30, 1e30, 1e200)


def angle(X, anchors):
    """Kahan's angle between rows, accurate from 0 to the half circle."""
    X = X / np.linalg.norm(X, axis=1)[:, None]
    anchors = anchors / np.linalg.norm(anchors, axis=1)[:, None]
    return 2 / np.pi * np.arctan2(cdist(X, anchors), cdist(X, -anchors))


#: Of rows in float64: not one line of these is shared with the package.
ORACLES = {
    "cosine": lambda X, A: 1 - cdist(X, A, "cosine"),
    "angular": angle,
    "correlation": lambda X, A: np.corrcoef(X, A)[: len(X), len(X) :],
    "inner": lambda X, A: np.array([[np.dot(x, a) for a in A] for x in X]),
    "euclidean": cdist,
    "sqeuclidean": lambda X, A: cdist(X, A, "sqeuclidean"),
    "manhattan": lambda X, A: cdist(X, A, "cityblock"),
    "chebyshev": lambda X, A: cdist(X, A, "chebyshev"),
    "minkowski": lambda X, A: np.array([[np.linalg.norm(x - a) for a in A] for x in X]),
    "mahalanobis": lambda X, A: cdist(
        X, A, "mahalanobis", VI=np.linalg.inv(np.cov(A.T))
    ),
    "change_of_basis": lambda X, A: np.linalg.lstsq(A.T, X.T)[0].T,
    "geodesic": lambda X, A: along(X, A, A),
}


def along(X, anchors, rows, k=10):
    """Shortest paths by Floyd and Warshall, among distinct rows."""
    nodes = np.unique(np.concatenate([anchors, rows]), axis=0)
    paths = cdist(nodes, nodes)
    linked = paths <= np.sort(paths, axis=1)[:, [k]] * (1 + 1e-6)
    paths[~(linked | linked.T)] = np.inf
    for i in range(len(nodes)):
        paths = np.minimum(paths, paths[:, [i]] + paths[[i], :])
    gaps = cdist(X, nodes)
    gaps[gaps > np.sort(gaps, axis=1)[:, [k - 1]] * (1 + 1e-6)] = np.inf
    to_anchors = paths[:, np.argmin(cdist(anchors, nodes), axis=1)]
    return np.min(gaps[:, :, None] + to_anchors, axis=1)


# what is asked of each metric, by its declared properties
DISTANCES = [name for name, metric in METRICS.items() if not metric.larger_is_closer]
HOMOGENEOUS = [name for name, metric in METRICS.items() if metric.homogeneous]
SPARSE = [name for name, metric in METRICS.items() if metric.sparse]
ARRAY_API = [name for name, metric in METRICS.items() if metric.array_api]
QUADRATIC = ("inner", "sqeuclidean")
LP = {"manhattan": {}, "chebyshev": {}, "minkowski": {"p": 3}}


@pytest.fixture(params=["numpy", "array_api_strict", "torch"])
def library(request):
    """Return an array library, if it is installed."""
    return pytest.importorskip(request.param)


def two_spaces(dtype=np.float64, *, n_samples=25, n_anchors=20, n_features=7, offset=0):
    """Rows and anchors in general position, in which an anchor is never a row."""
    rng = np.random.default_rng(3)
    X = offset + rng.standard_normal((n_samples, n_features))
    anchors = offset + rng.standard_normal((n_anchors, n_features))
    return X.astype(dtype), anchors.astype(dtype)


def values_of(name, X, anchors, **params):
    """Call the public function of a metric."""
    return METRICS[name].function(X, anchors, **params)


def assert_agree(name, actual, expected, rtol):
    """Distances agree each; similarities, which may cancel, by the largest."""
    atol = 0 if name in DISTANCES else rtol * np.abs(expected).max()
    assert_allclose(actual, expected, rtol=rtol, atol=atol)


def as_exact(X):
    """Widen numbers to the longest floats of this machine."""
    return np.asarray(X).astype(np.longdouble)


# --- values --------------------------------------------------------------------


def test_every_metric_has_an_oracle():
    """No metric escapes the comparisons of this file, and none of them is empty."""
    assert set(ORACLES) == set(METRICS)
    assert len(DISTANCES) >= 7
    assert len(HOMOGENEOUS) >= 6
    assert len(SPARSE) >= 6
    assert len(ARRAY_API) >= 8


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-12), (np.float32, 1e-5)])
@pytest.mark.parametrize("name", METRICS)
def test_values(name, dtype, rtol):
    """Values are those of scipy and numpy in float64, and keep the dtype of X."""
    X, anchors = two_spaces(dtype)
    expected = ORACLES[name](X.astype(np.float64), anchors.astype(np.float64))
    actual = values_of(name, X, anchors)
    assert actual.dtype == dtype
    assert_agree(name, actual, expected, rtol)


@pytest.mark.parametrize("n_features", [2, 64, 500])
@pytest.mark.parametrize("name", sorted(set(METRICS) - {"mahalanobis"}))
def test_values_of_any_width(name, n_features):
    """Spaces narrow and wide have the values of scipy and numpy."""
    X, anchors = two_spaces(n_features=n_features)
    expected = ORACLES[name](X, anchors)
    assert_agree(name, values_of(name, X, anchors), expected, 1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_prepared_comparison_is_the_function(name):
    """What fit prepares and transform completes is bit for bit the function."""
    X, anchors = two_spaces()
    fitted = METRICS[name].prepare(anchors)
    assert_array_equal(METRICS[name].compare(X, fitted), values_of(name, X, anchors))


@pytest.mark.parametrize("name", METRICS)
def test_rows_do_not_see_each_other(name):
    """A row has the same values alone as among others, up to the order of sums."""
    X, anchors = two_spaces()
    alone = np.vstack([values_of(name, row[None], anchors) for row in X])
    assert_agree(name, alone, values_of(name, X, anchors), 1e-13)


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"mahalanobis"}))
def test_one_of_each(name):
    """One row, one feature, one anchor: the values of school arithmetic."""
    expected = {
        "cosine": -1,
        "angular": 1,
        "inner": -15,
        "sqeuclidean": 64,
        "change_of_basis": -0.6,
    }.get(name, 8)
    if name == "correlation":
        with pytest.raises(ValueError, match="not constant"):
            values_of(name, [[3.0]], [[-5.0]])
    else:
        assert_allclose(values_of(name, [[3.0]], [[-5.0]]), [[expected]], rtol=EPS)


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"correlation"}))
def test_one_row_two_anchors_one_feature(name):
    """A single row keeps its shape, and a single feature has a spread."""
    X, anchors = np.array([[1.0]]), np.array([[2.0], [6.0]])
    expected = {
        "cosine": [1, 1],
        "angular": [0, 0],
        "inner": [2, 6],
        "sqeuclidean": [1, 25],
        "mahalanobis": np.array([1, 5]) / np.sqrt(8),
        "change_of_basis": [2 / 40, 6 / 40],
    }.get(name, [1, 5])
    assert_allclose(values_of(name, X, anchors), [expected], rtol=8 * EPS)


@pytest.mark.parametrize(
    "name", [n for n in DISTANCES if n not in ("sqeuclidean", "mahalanobis")]
)
def test_distances_obey_the_triangle(name):
    """Distances are symmetric, zero on the diagonal and obey the triangle."""
    points = np.vstack([two_spaces()[0], 1e3 * two_spaces()[1], np.eye(7)])
    distance = values_of(name, points, points)
    assert_array_equal(np.diag(distance), 0)
    assert_allclose(distance, distance.T, rtol=1e-12)
    detour = (distance[:, :, None] + distance[None, :, :]).min(axis=1)
    assert (distance <= detour * (1 + 1e-12)).all()


# --- equal and near rows --------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 1e4, 1e5, 1e6])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", DISTANCES)
def test_anchors_are_at_distance_0_from_themselves(name, dtype, offset):
    """A row equal to an anchor is at distance 0, wherever the origin may be."""
    _, anchors = two_spaces(dtype, offset=offset)
    distance = values_of(name, anchors.copy(), anchors)
    assert np.diag(distance).max() <= 1e-6 * distance.max()
    if name in {"euclidean", "sqeuclidean", *LP}:
        assert_array_equal(np.diag(distance), 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["cosine", "correlation"])
def test_anchors_are_like_themselves(name, dtype):
    """The similarity of a row to itself is 1, within the rounding of one sum."""
    _, anchors = two_spaces(dtype)
    bound = anchors.shape[1] * np.finfo(dtype).eps
    assert_allclose(np.diag(values_of(name, anchors.copy(), anchors)), 1, rtol=bound)


@pytest.mark.parametrize("offset", [1e3, 1e6, 1e8])
@pytest.mark.parametrize("name", ["euclidean", "sqeuclidean"])
def test_near_rows_far_from_the_origin(name, offset):
    """Distances of near rows keep their digits where the expansion cancels."""
    X, anchors = two_spaces(offset=offset)
    X = anchors + 1e-4 * X[: len(anchors)] / offset
    squares = ((as_exact(X) - as_exact(anchors)) ** 2).sum(axis=1)
    expected = squares if name == "sqeuclidean" else np.sqrt(squares)
    assert 0 < squares.max() < 1e-6
    # subtracting the mean of the anchors rounds by eps / 2 of a row, which is ~1 here
    assert_allclose(np.diag(values_of(name, X, anchors)), expected, rtol=1e-10)


@pytest.mark.parametrize("gap", [1e-3, 1e-8, 1e-14])
@pytest.mark.parametrize("name", LP)
def test_near_rows_under_lp(name, gap):
    """Lp distances of near rows are those of exact differences."""
    X, anchors = two_spaces()
    X = anchors + gap * X[: len(anchors)]
    gaps = np.abs(as_exact(X) - as_exact(anchors))
    order = {"manhattan": 1, "chebyshev": np.inf}.get(name, 3)
    expected = [np.linalg.norm((row / row.max()).astype(float), order) for row in gaps]
    expected = expected * gaps.max(axis=1)
    actual = np.diag(values_of(name, X, anchors, **LP[name]))
    assert_allclose(actual, expected.astype(float), rtol=16 * EPS)


def test_near_rows_in_float32():
    """In float32, Euclidean distances of neighbouring numbers lose nothing."""
    _, anchors = two_spaces(np.float32, offset=1000)
    X = np.nextafter(anchors, np.float32(np.inf))
    expected = np.linalg.norm(as_exact(X) - as_exact(anchors), axis=1)
    actual = np.diag(values_of("euclidean", X, anchors))
    assert_allclose(actual, expected.astype(np.float32), rtol=1e-6)


@pytest.mark.parametrize("angle", [1e-3, 1e-6, 1e-9])
def test_small_angles(angle):
    """Small angles keep the digits that the arc cosine loses."""
    _, anchors = two_spaces(n_features=2)
    turn = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    actual = np.diag(values_of("angular", anchors @ turn, anchors))
    # each of four coordinates is off by some rounding, which is part of the angle
    assert_allclose(actual, angle / np.pi, rtol=8 * EPS / angle)


def test_two_far_groups_of_near_rows():
    """More cancelling pairs than one batch holds are all taken from differences."""
    rng = np.random.default_rng(0)
    X = np.repeat([[-1e6], [1e6]], 200, axis=0) + rng.standard_normal((400, 4))
    assert BATCH < 2 * 200**2 * 4
    assert_allclose(values_of("euclidean", X, X), cdist(X, X), rtol=1e-9)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.data())
def test_euclidean_on_a_grid(data):
    """On whole numbers, equal rows and all scales included, nothing is lost."""
    shape = st.tuples(st.integers(1, 6), st.just(data.draw(st.integers(1, 6))))
    grid = hnp.arrays(np.float64, shape, elements=st.integers(-1000, 1000))
    scale = 2.0 ** data.draw(st.integers(-300, 300))
    X, anchors = data.draw(grid), data.draw(grid)
    expected = np.sqrt(((X[:, None] - anchors) ** 2).sum(axis=2)) * scale
    actual = values_of("euclidean", X * scale, anchors * scale)
    # pairs down to 1e-4 of their norms are multiplied out: (6 + 4) eps / 1e-4 / 2
    assert_allclose(actual, expected, rtol=5e4 * EPS)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.data(), st.sampled_from(sorted(LP)))
def test_lp_distances_of_any_rows(data, name):
    """L1, L3 and L-infinity distances of any numbers are those of exact sums."""
    shape = st.tuples(st.integers(1, 4), st.just(data.draw(st.integers(1, 6))))
    rows = hnp.arrays(np.float64, shape, elements=st.floats(-1e100, 1e100))
    X, anchors = data.draw(rows), data.draw(rows)
    gaps = np.abs(X[:, None] - anchors).astype(np.longdouble)
    peak = gaps.max(axis=2)
    parts = gaps / np.where(peak > 0, peak, 1)[:, :, None]
    expected = {
        "manhattan": gaps.sum(axis=2),
        "chebyshev": peak,
        "minkowski": peak * (parts**3).sum(axis=2) ** (np.longdouble(1) / 3),
    }[name]
    actual = values_of(name, X, anchors, **LP[name])
    # half a rounding of the exponent 1 / 3, times the logarithm of 1e100, is 115;
    # below the smallest normal number, digits are lost by the format itself
    rtol = (128 if name == "minkowski" else 16) * EPS
    assert_allclose(actual, expected.astype(float), rtol=rtol, atol=1e-322)


# --- scales ---------------------------------------------------------------------


def degree_of(name):
    """Return the power of a common factor that comes out of a metric."""
    return (name in HOMOGENEOUS) + (name in QUADRATIC)


@pytest.mark.parametrize(
    ("name", "scale"),
    [(n, s) for n in METRICS for s in SCALES if abs(np.log10(s)) * degree_of(n) < 300],
)
def test_scales(name, scale):
    """A common factor comes out as it must, never as a silent zero or NaN."""
    degree = degree_of(name)
    X, anchors = two_spaces()
    expected = values_of(name, X, anchors) * scale**degree
    actual = values_of(name, X * scale, anchors * scale)
    assert actual.all()
    assert_agree(name, actual, expected, 1e-12)


@pytest.mark.parametrize("exponent", [-400, -100, 100, 400])
@pytest.mark.parametrize("name", METRICS)
def test_binary_scales(name, exponent):
    """A power of two, which costs no rounding, leaves every digit as it is."""
    X, anchors = two_spaces()
    expected = values_of(name, X, anchors) * 2.0 ** (exponent * degree_of(name))
    scale = 2.0**exponent
    actual = values_of(name, X * scale, anchors * scale)
    assert_agree(name, actual, expected, 8 * EPS)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ["cosine", "angular"])
def test_every_row_may_have_its_own_scale(name, scale):
    """Direction is all that cosine and angle see of a row, at any length."""
    X, anchors = two_spaces()
    expected = values_of(name, X, anchors)
    assert_agree(name, values_of(name, X * scale, anchors), expected, 1e-13)
    assert_agree(name, values_of(name, X, anchors / scale), expected, 1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_overflow_is_an_error(name, dtype):
    """A value that the dtype cannot hold is an error that names the dtype."""
    large = np.full((1, 4), 0.75 * np.finfo(dtype).max, dtype)
    with pytest.raises(ValueError, match=f"not finite in {np.dtype(dtype).name}"):
        values_of(name, large, np.vstack([-large, -large / 2]))


@pytest.mark.parametrize("name", ["euclidean", *LP])
def test_large_float32_rows(name):
    """Distances that float32 can hold are right where its squares overflow."""
    X, anchors = two_spaces(np.float32)
    X, anchors = X * np.float32(1e37), anchors * np.float32(1e37)
    expected = ORACLES[name](X.astype(np.float64), anchors.astype(np.float64))
    assert_allclose(values_of(name, X, anchors), expected, rtol=1e-6)


# --- rows without a direction ----------------------------------------------------


@pytest.mark.parametrize("make", [np.asarray, csr_array])
@pytest.mark.parametrize(("name", "value"), [("cosine", 0), ("angular", 0.5)])
def test_zero_rows(name, value, make):
    """A zero row gets a right angle to every anchor, and a warning says so."""
    X, anchors = two_spaces()
    expected = values_of(name, X, anchors)
    X[3] = 0
    with pytest.warns(UserWarning, match=f"{name}.*zero rows.*get {value} "):
        actual = values_of(name, make(X), make(anchors))
    assert_array_equal(actual[3], value)
    assert_allclose(np.delete(actual, 3, 0), np.delete(expected, 3, 0), rtol=1e-12)


@pytest.mark.parametrize(("name", "value"), [("cosine", 0), ("angular", 0.5)])
def test_some_zero_anchors(name, value):
    """A zero anchor is at a right angle to every row; the others notice nothing."""
    X, anchors = two_spaces()
    expected = values_of(name, X, anchors)
    anchors[3] = 0
    expected[:, 3] = value
    assert_allclose(values_of(name, X, anchors), expected, rtol=1e-12)


@pytest.mark.parametrize("value", [0.1, 0.0, -7.3, 1e38 / 3, 1e-37 / 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_constant_rows(dtype, value):
    """A row that is constant, whatever rounding its mean has, correlates with none."""
    X, anchors = two_spaces(dtype)
    expected = values_of("correlation", X, anchors)
    X[3] = value
    with pytest.warns(UserWarning, match="correlation.*constant rows.*get 0 "):
        actual = values_of("correlation", X, anchors)
    assert_array_equal(actual[3], 0)
    assert_array_equal(np.delete(actual, 3, 0), np.delete(expected, 3, 0))


@pytest.mark.parametrize("name", ["cosine", "angular", "inner", "change_of_basis"])
def test_all_anchors_zero(name):
    """Anchors that are all zero are refused."""
    with pytest.raises(ValueError, match=f"{name}.*not zero"):
        values_of(name, np.ones((2, 3)), np.zeros((4, 3)))


def test_all_anchors_constant():
    """Anchors that are all constant have no correlation with anything."""
    with pytest.raises(ValueError, match=r"correlation.*not constant"):
        values_of("correlation", np.eye(3), np.full((4, 3), 0.1))


# --- minkowski ------------------------------------------------------------------


@pytest.mark.parametrize("scale", [*SCALES, 1.0])
@pytest.mark.parametrize("p", [1, 1.5, 2, 3, 50, 300])
def test_minkowski(p, scale):
    """Any order at any scale: powers are taken of parts of the largest gap."""
    X, anchors = two_spaces()
    gaps = np.abs(as_exact(X * scale)[:, None] - as_exact(anchors * scale))
    peak = gaps.max(axis=2)
    powers = ((gaps / peak[:, :, None]) ** p).sum(axis=2)
    expected = peak * powers ** (1 / np.longdouble(p))
    actual = minkowski(X * scale, anchors * scale, p=p)
    # the p-th root of a power that is off by p eps is off by eps
    assert_allclose(actual, expected.astype(float), rtol=64 * EPS)


def test_minkowski_limits():
    """Orders 1, 2 and infinity are the metrics with names of their own."""
    X, anchors = two_spaces()
    for p, name in ((1, "manhattan"), (2, "euclidean"), (np.inf, "chebyshev")):
        expected = values_of(name, X, anchors)
        assert_allclose(minkowski(X, anchors, p=p), expected, rtol=16 * EPS)
    nearly = minkowski(X, anchors, p=1e6)
    assert_allclose(nearly, values_of("chebyshev", X, anchors), rtol=np.log(7) / 1e6)


@pytest.mark.parametrize("scale", [1e-200, 1.0])
@pytest.mark.parametrize("p", [1, 2.5, 300])
def test_minkowski_of_equal_gaps(p, scale):
    """Gaps of g on each of n axes are a distance of n ** (1 / p) g; of none, 0."""
    anchors = scale * np.array([[5.0] * 9, [2.0] * 9])
    actual = minkowski(np.full((1, 9), 2 * scale), anchors, p=p)
    assert_allclose(actual, [[3 * scale * 9 ** (1 / p), 0]], rtol=8 * EPS)


def test_minkowski_over_many_pairs():
    """More pairs out of range than one batch holds all come out right."""
    X, anchors = two_spaces(n_samples=300, n_anchors=300, n_features=4)
    assert X.size * len(anchors) > BATCH
    expected = 1e-200 * cdist(X, anchors, "minkowski", p=4)
    assert_allclose(minkowski(X * 1e-200, anchors * 1e-200, p=4), expected, rtol=1e-12)


@pytest.mark.parametrize("p", [0.5, -1, 0, np.nan])
def test_minkowski_order_below_1(p):
    """Below order 1 the triangle inequality fails, and so does the call."""
    with pytest.raises(ValueError, match=rf"p of minkowski must be .* got {p}"):
        minkowski(*two_spaces(), p=p)


@pytest.mark.parametrize("p", ["2", None, True, 2j])
def test_minkowski_order_is_no_number(p):
    """An order that is no real number is a TypeError."""
    with pytest.raises(TypeError, match="p of minkowski must be"):
        minkowski(*two_spaces(), p=p)


# --- mahalanobis and whitening --------------------------------------------------


def rank_deficient(kind):
    """Rows, and anchors whose covariance has no inverse."""
    X, anchors = two_spaces(n_features=8)
    if kind == "few":
        return X, anchors[:5]
    anchors[:, 2] = 0.0 if kind == "zero axis" else anchors[:, 0] - 2 * anchors[:, 1]
    return X, anchors


@pytest.mark.parametrize("kind", ["few", "zero axis", "dependent axes"])
def test_mahalanobis_without_full_rank(kind):
    """Where the covariance has no inverse, its pseudo-inverse is taken."""
    X, anchors = rank_deficient(kind)
    VI = np.linalg.pinv(np.cov(anchors.T), rcond=1e-10, hermitian=True)
    expected = cdist(X, anchors, "mahalanobis", VI=VI)
    assert_allclose(mahalanobis(X, anchors), expected, rtol=1e-10)


@pytest.mark.parametrize("kind", ["full", "few", "zero axis"])
@pytest.mark.parametrize("shrinkage", [0.1, 0.7, 1.0, 1])
def test_mahalanobis_shrinkage(shrinkage, kind):
    """Shrinkage is that of scikit-learn, on the unbiased covariance."""
    X, anchors = two_spaces() if kind == "full" else rank_deficient(kind)
    S = shrunk_covariance(np.cov(anchors.T), shrinkage)
    expected = cdist(X, anchors, "mahalanobis", VI=np.linalg.inv(S))
    assert_allclose(mahalanobis(X, anchors, shrinkage=shrinkage), expected, rtol=1e-11)


def test_mahalanobis_under_full_shrinkage():
    """All shrunk, it is the Euclidean distance in units of the anchors' spread."""
    X, anchors = two_spaces()
    spread = np.sqrt(anchors.var(axis=0, ddof=1).mean())
    expected = cdist(X, anchors) / spread
    assert_allclose(mahalanobis(X, anchors, shrinkage=1), expected, rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e200 / 3, -1e-200 / 3])
@pytest.mark.parametrize("n_anchors", [1, 7])
def test_mahalanobis_needs_anchors_that_differ(n_anchors, value):
    """Equal anchors, or a single one, have no covariance to speak of."""
    with pytest.raises(ValueError, match=f"must differ .* got {n_anchors} equal"):
        mahalanobis(np.eye(3), np.full((n_anchors, 3), value))


@pytest.mark.parametrize("shrinkage", [-0.1, 1.1, np.nan])
def test_shrinkage_out_of_range(shrinkage):
    """Shrinkage is a part: from 0 to 1."""
    with pytest.raises(ValueError, match=rf"shrinkage must be .* got {shrinkage}"):
        mahalanobis(*two_spaces(), shrinkage=shrinkage)


@pytest.mark.parametrize("dtype", DTYPES)
def test_whitening_inverts_the_square_root(dtype):
    """The whitening matrix is the inverse square root of the covariance."""
    _, anchors = two_spaces(dtype, offset=3)
    mean, matrix, full_rank = whitening(anchors)
    exact = anchors.astype(np.float64)
    assert full_rank is True
    assert mean.dtype == matrix.dtype == np.float64
    assert_allclose(mean, exact.mean(axis=0), rtol=1e-14)
    root = scipy.linalg.sqrtm(np.cov(exact.T))
    assert_allclose(matrix, np.linalg.inv(root), rtol=0, atol=1e-12)
    assert_allclose(np.cov(((exact - mean) @ matrix).T), np.eye(7), atol=1e-12)


@pytest.mark.parametrize("scale", SCALES)
def test_whitening_at_any_scale(scale):
    """The covariance after whitening is the identity, also where S overflows."""
    _, anchors = two_spaces()
    mean, matrix, _ = whitening(anchors * scale)
    whitened = (anchors * scale - mean) @ matrix
    assert_allclose(np.cov(whitened.T), np.eye(7), atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "rank"), [("few", 4), ("zero axis", 7), ("dependent axes", 7)]
)
def test_whitening_on_the_span(kind, rank):
    """Without full rank, the covariance becomes the identity on the span alone."""
    _, anchors = rank_deficient(kind)
    mean, matrix, full_rank = whitening(anchors)
    assert full_rank is False
    assert_allclose(matrix, matrix.T, rtol=0, atol=8 * EPS)
    covariance = np.cov(((anchors - mean) @ matrix).T)
    expected = np.r_[np.zeros(8 - rank), np.ones(rank)]
    assert_allclose(np.linalg.eigvalsh(covariance), expected, atol=1e-12)


# --- change of basis ------------------------------------------------------------


@pytest.mark.parametrize("n_anchors", [3, 7, 20])
def test_change_of_basis_is_the_shortest_solution(n_anchors):
    """Coordinates are those of the pseudo-inverse, and give the row back."""
    X, anchors = two_spaces(n_anchors=n_anchors)
    coordinates = change_of_basis(X, anchors)
    inverse = np.linalg.pinv(anchors)
    assert_agree("change_of_basis", coordinates, X @ inverse, 1e-12)
    projected = X @ inverse @ anchors  # X itself where the anchors span the space
    assert_allclose(coordinates @ anchors, projected, atol=1e-12)
    assert (n_anchors < 7) != np.allclose(projected, X)


def test_change_of_basis_of_the_anchors():
    """In a frame of independent anchors, these are the unit vectors."""
    _, anchors = two_spaces(n_anchors=7)
    assert_allclose(change_of_basis(anchors, anchors), np.eye(7), atol=1e-12)


@pytest.mark.parametrize("n_anchors", [3, 20])
@pytest.mark.parametrize("alpha", [1e-3, 0.5, 10])
def test_change_of_basis_with_ridge(alpha, n_anchors):
    """With alpha, coordinates solve the normal equations of ridge regression."""
    X, anchors = two_spaces(n_anchors=n_anchors)
    ridge = alpha * (anchors**2).sum(axis=1).mean()
    gram = anchors @ anchors.T + ridge * np.eye(n_anchors)
    expected = np.linalg.solve(gram, anchors @ X.T).T
    assert_allclose(change_of_basis(X, anchors, alpha=alpha), expected, rtol=1e-9)


def test_change_of_basis_under_heavy_ridge():
    """For large alpha, coordinates are inner products over the penalty."""
    X, anchors = two_spaces()
    ridge = 1e9 * (anchors**2).sum(axis=1).mean()
    actual = change_of_basis(X, anchors, alpha=1e9) * ridge
    assert_agree("change_of_basis", actual, X @ anchors.T, 20 / 1e9)


@pytest.mark.parametrize("alpha", [-1, np.nan])
def test_change_of_basis_alpha_out_of_range(alpha):
    """A negative penalty is refused."""
    with pytest.raises(ValueError, match=rf"alpha of change_of_basis .* got {alpha}"):
        change_of_basis(*two_spaces(), alpha=alpha)


# --- what goes in ---------------------------------------------------------------


def sparse_spaces(dtype=np.float64):
    """Rows and anchors, mostly zero but never all, that share three rows."""
    X, anchors = two_spaces(dtype)
    X, anchors = X * (np.abs(X) > 0.7), anchors * (np.abs(anchors) > 0.7)
    X[:, 0], anchors[:, 0] = 1, 2
    X[:3] = anchors[:3]
    return X, anchors


@pytest.mark.parametrize("make", [csr_matrix, csr_array])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-13), (np.float32, 1e-6)])
@pytest.mark.parametrize("name", SPARSE)
def test_sparse_rows(name, dtype, rtol, make):
    """CSR rows have the values of the same rows held densely."""
    X, anchors = sparse_spaces(dtype)
    actual = values_of(name, make(X), make(anchors))
    expected = values_of(name, X, anchors)
    assert type(actual) is np.ndarray
    assert actual.dtype == dtype
    # equal rows: exactly 0 when sparse, 0 within rounding when dense and scaled
    atol = rtol * np.abs(expected).max()
    assert_allclose(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", [n for n in SPARSE if n not in QUADRATIC])
def test_sparse_scales(name, scale):
    """Sparse rows of any scale are compared without under- or overflow."""
    X, anchors = sparse_spaces()
    factor = scale if name in HOMOGENEOUS else 1
    expected = values_of(name, csr_array(X), csr_array(anchors)) * factor
    actual = values_of(name, csr_array(X * scale), csr_array(anchors * scale))
    assert_allclose(actual, expected, rtol=1e-12, atol=1e-14 * factor)


def test_sparse_groups_of_near_rows():
    """Sparse pairs that cancel, in more than one batch, come from differences."""
    rng = np.random.default_rng(0)
    X = np.repeat([[-1e6], [1e6]], 200, axis=0) + rng.standard_normal((400, 4))
    actual = values_of("euclidean", csr_array(X), csr_array(X))
    assert_allclose(actual, cdist(X, X), rtol=1e-9)


@pytest.mark.parametrize("make", [csr_matrix, csr_array])
@pytest.mark.parametrize("name", sorted(set(METRICS) - set(SPARSE)))
def test_sparse_rows_are_refused(name, make):
    """A metric that does not declare sparse input refuses it."""
    X, anchors = sparse_spaces()
    with pytest.raises(TypeError, match="Sparse data was passed for X"):
        values_of(name, make(X), make(anchors))


@pytest.mark.parametrize("library", ["array_api_strict", "torch"], indirect=True)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-12), (np.float32, 1e-5)])
@pytest.mark.parametrize("name", ARRAY_API)
def test_array_api(name, dtype, rtol, library):
    """Arrays of another library give the values of numpy, in that library."""
    X, anchors = two_spaces(dtype)
    X[:3] = anchors[:3]  # pairs that cancel
    expected = values_of(name, X, anchors)
    with sklearn.config_context(array_api_dispatch=True):
        actual = values_of(name, library.asarray(X), library.asarray(anchors))
    assert type(actual) is type(library.asarray(X))
    assert actual.dtype == getattr(library, np.dtype(dtype).name)
    atol = rtol * np.abs(expected).max()
    assert_allclose(np.from_dlpack(actual), expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", ["cosine", "angular", "correlation"])
def test_array_api_rows_without_direction(name, library):
    """Zero rows are treated alike in every library, and so are zero anchors."""
    X, anchors = two_spaces()
    X[1], anchors[4] = 0, 0
    prepared = METRICS[name].prepare(library.asarray(anchors))
    with pytest.warns(UserWarning, match=f"{name}.*rows"):
        actual = METRICS[name].compare(library.asarray(X), prepared)
    with pytest.warns(UserWarning, match=f"{name}.*rows"):
        expected = values_of(name, X, anchors)
    assert_allclose(np.from_dlpack(actual), expected, rtol=0, atol=1e-14)
    with pytest.raises(ValueError, match=f"{name}.*needs anchors that are not"):
        METRICS[name].prepare(library.zeros((3, 7)))


@pytest.mark.parametrize(
    ("kind_x", "kind_anchors", "kind_out"),
    [
        (np.float32, np.float64, np.float32),
        (np.float64, np.float32, np.float64),
        (np.int64, np.int32, np.float64),
        (np.float16, np.float32, np.float64),
        (np.bool_, np.float64, np.float64),
    ],
)
@pytest.mark.parametrize("name", METRICS)
def test_dtypes(name, kind_x, kind_anchors, kind_out):
    """Only float32 rows give float32 values; the anchors have no say in it."""
    X, anchors = two_spaces()
    X = np.where(X > 0, 1, 0).astype(kind_x)
    X[:, 0] = [i % 2 for i in range(len(X))]
    X[:, 1] = 1 - X[:, 0].astype(np.int8)  # neither zero rows nor constant ones
    anchors = (10 * anchors).astype(kind_anchors)
    actual = values_of(name, X, anchors)
    expected = ORACLES[name](X.astype(np.float64), anchors.astype(np.float64))
    assert actual.dtype == kind_out
    assert_agree(name, actual, expected, 1e-5)


@pytest.mark.parametrize("name", METRICS)
def test_input_is_only_read(name):
    """Read-only, Fortran-ordered and strided input is read and not written."""
    X, anchors = two_spaces()
    expected = values_of(name, X, anchors)
    frozen = np.asfortranarray(X), np.repeat(anchors, 2, axis=1)[:, ::2]
    for array in frozen:
        array.setflags(write=False)
    assert_agree(name, values_of(name, *frozen), expected, 1e-13)
    assert_agree(name, values_of(name, X.tolist(), anchors.tolist()), expected, 1e-13)


BAD_ROWS = {
    "1-D": ([1.0, 2.0, 3.0], "Expected 2D array, got 1D"),
    "3-D": (np.zeros((2, 3, 1)), "array with dim 3"),
    "NaN": ([[1.0, np.nan, 3.0]], "contains NaN"),
    "infinite": ([[1.0, np.inf, 3.0]], "contains infinity"),
    "complex": (np.ones((1, 3)) * 1j, "Complex data not supported"),
    "text": (np.array([["a", "b", "c"]], dtype=object), "could not convert string"),
    "no rows": (np.empty((0, 3)), r"0 sample\(s\)"),
    "no features": (np.empty((2, 0)), r"0 feature\(s\)"),
}


@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize(("bad", "message"), BAD_ROWS.values(), ids=BAD_ROWS)
@pytest.mark.parametrize("name", METRICS)
def test_bad_input(name, bad, message, position):
    """What is no table of finite real numbers is refused, in either place."""
    spaces = [np.eye(3), np.eye(3)]
    spaces[position] = bad
    with pytest.raises(ValueError, match=message):
        values_of(name, *spaces)


@pytest.mark.parametrize("name", METRICS)
def test_widths_must_agree(name):
    """Rows and anchors of different width: the error names both."""
    with pytest.raises(ValueError, match="number of features; got 3 and 4"):
        values_of(name, np.eye(3), np.eye(4))


# --- the registry ---------------------------------------------------------------

CLASSES = st.sets(st.sampled_from(TRANSFORMATIONS))


@settings(derandomize=True, deadline=None, max_examples=256)
@given(CLASSES, CLASSES)
def test_invariances_are_closed(some, others):
    """Included classes are added: once, all of them, and for every superset."""
    closed = Metric("own", np.inner, invariances=some).invariances
    assert isinstance(closed, frozenset)
    assert some <= closed <= set(TRANSFORMATIONS)
    assert ("affine" in closed) == ({"linear", "translation"} <= closed)
    assert Metric("own", np.inner, invariances=closed).invariances == closed
    assert closed <= Metric("own", np.inner, invariances=some | others).invariances


@pytest.mark.parametrize("name", METRICS)
def test_declared_invariances_follow_the_groups(name):
    """What a metric declares is closed under the inclusion of the groups."""
    declared = METRICS[name].invariances
    assert ("affine" in declared) == ({"linear", "translation"} <= declared)
    for wide, narrow in (
        ("linear", {"orthogonal", "axis_scaling"}),
        ("orthogonal", {"signed_permutation"}),
        ("signed_permutation", {"permutation"}),
        ("axis_scaling", {"isotropic_scaling"}),
    ):
        assert wide not in declared or narrow <= declared


@pytest.mark.parametrize("names", [["rotation"], ["linear", "rotation"], "affine"])
def test_unknown_invariances(names):
    """A class of a name that is not known is refused, and so is a bare string."""
    with pytest.raises(ValueError, match=r"invariances must be of .*; got \["):
        Metric("own", np.inner, invariances=names)


def test_metrics_are_frozen():
    """A registered metric cannot be changed by accident."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        METRICS["cosine"].sparse = False


@pytest.mark.parametrize("name", METRICS)
def test_fitted_invariances(name):
    """With default parameters and anchors in general position, all is kept."""
    metric = METRICS[name]
    kept = metric.invariances_of(metric.prepare(two_spaces()[1]))
    assert kept == metric.invariances


@pytest.mark.parametrize(
    ("name", "params", "kind", "lost"),
    [
        ("mahalanobis", {"shrinkage": 0.1}, "full", {"linear", "axis_scaling"}),
        ("mahalanobis", {}, "few", {"linear", "axis_scaling"}),
        ("change_of_basis", {"alpha": 0.1}, "full", {"linear", "axis_scaling"}),
        ("change_of_basis", {}, "few", {"linear", "axis_scaling"}),
        ("minkowski", {"p": 3}, "full", {"orthogonal"}),
        ("minkowski", {"p": np.inf}, "full", {"orthogonal"}),
    ],
)
def test_invariances_that_depend(name, params, kind, lost):
    """Regularisation, missing rank and an order other than 2 take some away."""
    anchors = two_spaces()[1] if kind == "full" else rank_deficient(kind)[1]
    metric = METRICS[name]
    default = metric.invariances_of(metric.prepare(two_spaces()[1]))
    kept = metric.invariances_of(metric.prepare(anchors, params))
    assert kept == default - lost - ({"affine"} if "linear" in lost else set())


@pytest.mark.parametrize("name", METRICS)
def test_unknown_parameters(name):
    """A parameter that a metric does not have is a TypeError that names both."""
    anchors = two_spaces()[1]
    with pytest.raises(TypeError, match=rf"'{name}' does not take .*nonsense"):
        METRICS[name].prepare(anchors, {"nonsense": 1})


def test_metric_of_ones_own():
    """A function of one's own is called with rows, anchors and parameters."""
    X, anchors = two_spaces()
    own = Metric("own", lambda X, anchors, *, power: (X @ anchors.T) ** power)
    fitted = own.prepare(anchors, {"power": 3})
    assert_array_equal(own.compare(X, fitted), (X @ anchors.T) ** 3)
    assert own.invariances_of(fitted) == frozenset()
    with pytest.raises(TypeError, match=r"'own' does not take .*power"):
        own.prepare(anchors)


@pytest.mark.parametrize("name", METRICS)
def test_find_metric_by_name(name):
    """A name gives the metric of that name, and a metric gives itself."""
    metric = find_metric(name)
    assert metric.name == name
    assert metric is METRICS[name]
    assert find_metric(metric) is metric


class Overlap:
    """A callable without a name of its own."""

    def __call__(self, X, anchors):
        """Return inner products."""
        return X @ anchors.T


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (cdist, "cdist"),
        (functools.partial(cdist, metric="cityblock"), "cdist"),
        (lambda X, anchors: X @ anchors.T, "lambda"),
        (Overlap(), "Overlap"),
        (functools.partial(Overlap()), "partial"),
    ],
)
def test_find_metric_of_a_callable(function, name):
    """A callable is a distance that promises nothing, under a readable name."""
    X, anchors = two_spaces()
    metric = find_metric(function)
    assert metric.name == name
    assert (metric.larger_is_closer, metric.invariances) == (False, frozenset())
    actual = metric.compare(X, metric.prepare(anchors))
    assert_array_equal(actual, function(X, anchors))


def test_find_metric_of_an_unknown_name():
    """An unknown name is a ValueError that lists the known ones."""
    with pytest.raises(ValueError, match=r"metric must be one of .*'cosine'.*'cosin'"):
        find_metric("cosin")


@pytest.mark.parametrize("nonsense", [None, 2, ["cosine"], {"cosine"}, b"cosine"])
def test_find_metric_of_nonsense(nonsense):
    """What is neither name nor metric nor callable is a TypeError."""
    with pytest.raises(TypeError, match=r"metric must be one of .* or a callable; got"):
        find_metric(nonsense)


@pytest.mark.parametrize("name", METRICS)
def test_a_renamed_metric_has_the_same_values(name):
    """It is a metric of its own, computed in its own form."""
    X, anchors = two_spaces()
    own = dataclasses.replace(METRICS[name], name="renamed")
    assert find_metric(own) is own
    values = own.compare(X, own.prepare(anchors))
    assert_agree(name, values, ORACLES[name](X, anchors), 1e-12)


@pytest.mark.parametrize("make", [csr_matrix, csr_array])
@pytest.mark.parametrize("name", SPARSE)
def test_sparse_and_dense_rows_together(name, make):
    """Where only one side is sparse, values are those of two dense sides."""
    X, anchors = (np.maximum(side, 0) + np.eye(1, 7) for side in two_spaces())
    expected = values_of(name, X, anchors)
    atol = 1e-13 * np.abs(expected).max()
    assert_allclose(values_of(name, make(X), anchors), expected, rtol=0, atol=atol)
    assert_allclose(values_of(name, X, make(anchors)), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("make", [csr_matrix, csr_array])
@pytest.mark.parametrize("name", SPARSE)
def test_sparse_rows_are_not_changed(name, make):
    """Unsorted and duplicate entries, and wide indices, are read and left alone."""

    def rows():
        data, indices = np.array([1.0, 2, 3, 5, 1]), np.array([2, 0, 2, 1, 0])
        return make((data, indices, np.array([0, 3, 5])), shape=(2, 3))

    X, anchors, dense = rows(), rows(), np.array([[2.0, 0, 4], [1, 5, 0]])
    expected = values_of(name, dense, dense)
    assert_allclose(values_of(name, X, anchors), expected, rtol=0, atol=1e-12)
    assert_allclose(values_of(name, X, X), expected, rtol=0, atol=1e-12)
    assert_array_equal(X.toarray(), dense)
    assert_array_equal(anchors.toarray(), dense)


@pytest.mark.parametrize("scale", [1e-200, 1e-170, 1e170, 1e200])
@pytest.mark.parametrize("n_anchors", [1, 5])
def test_one_anchor_at_any_scale(n_anchors, scale):
    """The scale of the rows counts also where the anchors have none of their own."""
    anchors = np.repeat([[0.0, 4.0]], n_anchors, axis=0) * scale
    actual = values_of("euclidean", np.array([[3.0, 0.0]]) * scale, anchors)
    assert_allclose(actual, np.full((1, n_anchors), 5 * scale), rtol=1e-14)


@pytest.mark.parametrize("far", [1e200, 1e-170])
def test_rows_of_another_scale_than_the_anchors(far):
    """A row much larger, or nearer to an anchor, than anchors are to each other."""
    actual = values_of("euclidean", [[far, 0.0]], [[0.0, 0.0], [0.0, 1.0]])
    assert_allclose(actual, [[far, max(far, 1.0)]], rtol=1e-14)


@pytest.mark.parametrize("gap", [1e-3, 1e-8, 1e-12, 1e-14])
def test_near_rows(gap):
    """Euclidean distances of near rows are those of exact differences."""
    X, anchors = two_spaces()
    X = anchors + gap * X[: len(anchors)]
    gaps = X.astype(np.longdouble) - anchors.astype(np.longdouble)
    expected = np.sqrt((gaps**2).sum(axis=1)).astype(float)
    actual = np.diag(values_of("euclidean", X, anchors))
    assert_allclose(actual, expected, rtol=1e-12)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-12), (np.float32, 1e-5)])
@pytest.mark.parametrize("gap", [0, 1e-4, 1e-2])
def test_opposite_rows(gap, dtype, rtol):
    """Angles near the half circle are as accurate as small ones."""
    X, anchors = two_spaces(dtype)
    X = (gap * X[:20] - anchors).astype(dtype)
    expected = np.diag(angle(X.astype(float), anchors.astype(float)))
    assert_allclose(np.diag(values_of("angular", X, anchors)), expected, rtol=rtol)


@pytest.mark.parametrize("value", [0.1, 123.456, 1e6 + 0.1, 10000.1])
def test_whitening_of_a_constant_axis(value):
    """An axis constant in the anchors is dropped, whatever rounding its mean has."""
    X, anchors = two_spaces()
    anchors[:, 2] = value
    _, matrix, full_rank = whitening(anchors)
    assert not full_rank
    assert np.abs(matrix).max() < 100
    rest = np.arange(7) != 2
    VI = np.linalg.inv(np.cov(anchors[:, rest].T))
    expected = cdist(X[:, rest], anchors[:, rest], "mahalanobis", VI=VI)
    assert_allclose(mahalanobis(X, anchors), expected, rtol=1e-10)


def test_anchors_that_differ_on_a_small_axis():
    """Anchors that differ are not taken as equal for a large value on another axis."""
    anchors = np.array([[1e16, 0.0], [1e16, 1.0]])
    assert_allclose(mahalanobis(anchors, anchors)[0, 1], np.sqrt(2), rtol=1e-12)


@pytest.mark.parametrize("offset", [1e2, 1e3, 1e4])
def test_float32_far_from_the_origin(offset):
    """Float32 values are those of the same rows in float64, far from the origin too."""
    X, anchors = two_spaces(np.float32, offset=offset)
    x, a = X.astype(float), anchors.astype(float)
    expected = 1 - cdist(x, a, "correlation")
    assert_allclose(values_of("correlation", X, anchors), expected, rtol=0, atol=1e-5)
    assert_allclose(values_of("angular", X, anchors), angle(x, a), rtol=1e-5)
    standard = (x - x.mean(axis=1)[:, None]) / x.std(axis=1)[:, None]
    assert_allclose(layer_normalize(X), standard, rtol=0, atol=1e-5)


def test_rotations_and_axis_scalings_make_all_linear_maps():
    """By the SVD every linear map is a rotation, a scaling of axes and a rotation."""
    metric = Metric("own", np.inner, invariances=["orthogonal", "axis_scaling"])
    assert "linear" in metric.invariances
    more = Metric("own", np.inner, invariances={*metric.invariances, "translation"})
    assert "affine" in more.invariances


@pytest.mark.parametrize("function", [max, print])
def test_callable_without_signature(function):
    """A callable that Python cannot inspect is not refused for that."""
    anchors = two_spaces()[1]
    fitted = find_metric(function).prepare(anchors)
    assert fitted[0] is anchors


@pytest.mark.parametrize("name", ["cosine", "angular", "euclidean", "manhattan"])
@pytest.mark.parametrize("scale", [1e-310, 1e-315])
def test_sparse_rows_of_the_smallest_scale(name, scale):
    """Sparse rows below the normal range have the values of dense ones."""
    X = np.array([[1.0, 2, 0], [0, 0, 3], [2, 1, 1]]) * scale
    expected = values_of(name, X, X)
    assert_allclose(values_of(name, csr_array(X), csr_array(X)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "name", [name for name, metric in METRICS.items() if not metric.array_api]
)
def test_metrics_for_numpy_alone_name_themselves(name):
    """Tensors are refused by name where there is no array API path."""
    xp = pytest.importorskip("array_api_strict")
    X = xp.asarray(two_spaces()[0])
    with (
        sklearn.config_context(array_api_dispatch=True),
        pytest.raises(TypeError, match=f"'{name}' needs NumPy input; got array_api_s"),
    ):
        METRICS[name].function(X, X)


def test_two_libraries_at_once():
    """Rows and anchors of different libraries are not compared."""
    xp = pytest.importorskip("array_api_strict")
    X, anchors = two_spaces()
    with (
        sklearn.config_context(array_api_dispatch=True),
        pytest.raises(TypeError, match="arrays of one library; got array_api_strict"),
    ):
        METRICS["cosine"].function(xp.asarray(X), anchors)


FROM_ONE_PRODUCT = ("cosine", "angular", "inner", "euclidean", "sqeuclidean")


@pytest.mark.parametrize("offset", [0.0, 3.0, 300.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spread", [1.0, 0.05])
@pytest.mark.parametrize("left_out", [(), ("angular",)])  # which sends near rows back
def test_metrics_that_share_a_product_are_as_right_as_alone(
    offset, dtype, spread, left_out
):
    """Beside float64, also where rows lie in clusters, far away, or are anchors."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((5, 200))
    X = centres[rng.integers(5, size=300)] + spread * rng.standard_normal((300, 200))
    X = (X + offset).astype(dtype)
    X[7], X[8] = X[0] * 1e-12, X[0] * 1e12
    anchors = X[:100:3].copy()
    names = [name for name in FROM_ONE_PRODUCT if name not in left_out]
    pairs = [(METRICS[name], {}) for name in names]
    with np.errstate(all="ignore"):
        groups = prepare_together(pairs, anchors)
        spaces = compare_together(X, pairs, groups, len(anchors))
    wide, wide_anchors = X.astype(float), anchors.astype(float)
    euclid = cdist(wide, wide_anchors)
    inner = wide @ wide_anchors.T
    lengths = np.linalg.norm(wide, axis=1)[:, None] * np.linalg.norm(
        wide_anchors, axis=1
    )
    single = dtype == np.float32
    got = dict(zip(names, spaces, strict=True))
    assert_allclose(got["euclidean"], euclid, rtol=1e-5 if single else 1e-9)
    assert_allclose(got["sqeuclidean"], euclid**2, rtol=2e-5 if single else 2e-9)
    bound = 1e-5 if single else 1e-12
    assert (abs(got["inner"] - inner) / lengths).max() < bound
    assert abs(got["cosine"] - inner / lengths).max() < bound
    if "angular" in left_out:
        return
    # rows 7 and 8 are parallel to an anchor, but for the rounding of the data
    rounding = 2 * np.finfo(dtype).eps
    wanted = angle(wide, wide_anchors)
    rtol = 1e-5 if single else 1e-9
    assert_allclose(got["angular"], wanted, rtol=rtol, atol=rounding)


@pytest.mark.parametrize(("offset", "n_products"), [(0.0, 1), (3.0, 1), (300.0, 2)])
def test_one_product_serves_where_it_loses_nothing(offset, n_products, monkeypatch):
    """Far from the origin there are two; alone, every metric has one."""
    X = np.random.default_rng(0).standard_normal((60, 200)) + offset
    X[3::7] /= 10 if n_products == 2 else 1
    calls = []
    read_off = _products._read_off
    monkeypatch.setattr(
        _products,
        "_read_off",
        lambda X, product: calls.append(product.names) or read_off(X, product),
    )
    pairs = [(METRICS[name], {}) for name in FROM_ONE_PRODUCT]
    groups = prepare_together(pairs, X[:30])
    compare_together(X, pairs, groups, 30)
    assert len(calls) == n_products
    assert sorted(sum(calls, ())) == sorted(FROM_ONE_PRODUCT)


# --- the registered metrics, copied and stored ------------------------------------


def through_a_file(metric, tmp_path):
    """Store a fitted model that holds the metric, and load it."""
    pytest.importorskip("skops")
    X, _ = two_spaces()
    path = tmp_path / "model.skops"
    persistence.save(RelativeProjector(9, metric=metric, random_state=0).fit(X), path)
    return persistence.load(path).metric


@pytest.mark.parametrize(
    "copied",
    [
        lambda metric, _: copy.copy(metric),
        lambda metric, _: copy.deepcopy(metric),
        lambda metric, _: clone(metric, safe=False),
        lambda metric, _: pickle.loads(pickle.dumps(metric)),
        through_a_file,
    ],
)
@pytest.mark.parametrize("name", METRICS)
def test_a_copy_is_the_registered_metric(name, copied, tmp_path):
    """With all that belongs to it: its inverse, its family, its name."""
    metric = copied(METRICS[name], tmp_path)
    assert metric == METRICS[name]
    assert find_metric(metric) is METRICS[name]
    X, _ = two_spaces()
    projector = RelativeProjector(9, metric=metric, random_state=0)
    assert hasattr(projector, "inverse_transform") == (
        METRICS[name].inverse is not None
    )
    by_name = RelativeProjector(9, metric=name, random_state=0).fit(X)
    assert_array_equal(projector.fit(X).transform(X), by_name.transform(X))


def test_a_stored_name_that_is_not_registered():
    """An error that lists the names, and not half a metric."""
    state = METRICS["cosine"].__getstate__()
    assert state == {"name": "cosine"}
    with pytest.raises(ValueError, match=r"name must be one of .*; got 'sine'"):
        Metric.__new__(Metric).__setstate__({"name": "sine"})


def test_a_metric_of_ones_own_keeps_its_fields_in_a_pickle():
    """Also one that differs from a registered metric in its properties alone."""
    own = Metric("cosine", METRICS["cosine"].function, invariances=("permutation",))
    assert pickle.loads(pickle.dumps(own)) == own != METRICS["cosine"]


# --- digits ------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [1e-1, 1e-3, 1e-5])
@pytest.mark.parametrize("n_features", [512, 2048])
@pytest.mark.parametrize("name", sorted(set(METRICS) - {"mahalanobis"}))
def test_near_pairs_in_wide_float32_rows(name, n_features, gap):
    """Right within 1e-5, however much of the norms cancels in the distance."""
    X, anchors = two_spaces(np.float32, n_samples=20, n_features=n_features)
    X = (anchors + np.float32(gap) * X).astype(np.float32)
    X[::3] = X[::3] * 2  # rows that are not near, beside those that are
    expected = ORACLES[name](X.astype(np.float64), anchors.astype(np.float64))
    assert_agree(name, values_of(name, X, anchors), expected, 1e-5)


@pytest.mark.parametrize("gap", [1e-1, 1e-3])
def test_near_pairs_in_wide_float32_rows_after_whitening(gap):
    """The covariance has full rank only with more anchors than columns."""
    X, anchors = two_spaces(np.float32, n_samples=540, n_anchors=540, n_features=512)
    X = (anchors + np.float32(gap) * X).astype(np.float32)[:5]
    expected = ORACLES["mahalanobis"](X.astype(float), anchors.astype(float))
    assert_agree("mahalanobis", mahalanobis(X, anchors), expected, 1e-5)


@pytest.mark.parametrize("metrics", [("cosine", "euclidean", "inner"), tuple(METRICS)])
@pytest.mark.parametrize("gap", [1e-1, 1e-3, 1e-5])
def test_near_pairs_in_wide_float32_rows_by_one_product(metrics, gap):
    """The same where metrics are computed together."""
    metrics = [name for name in metrics if name != "mahalanobis"]
    X, anchors = two_spaces(np.float32, n_samples=20, n_features=768)
    X = (anchors + np.float32(gap) * X).astype(np.float32)
    pairs = [(METRICS[name], {}) for name in metrics]
    groups = prepare_together(pairs, anchors)
    found = compare_together(X, pairs, groups, len(anchors))
    for name, values in zip(metrics, found, strict=True):
        expected = ORACLES[name](X.astype(np.float64), anchors.astype(np.float64))
        assert_agree(name, values, expected, 1e-5)


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
@pytest.mark.parametrize("kind", ["dense", "CSR", "array_api_strict", "torch"])
@pytest.mark.parametrize("name", METRICS)
def test_float64_rows_with_float32_anchors(name, kind, scale):
    """Values have the digits of the rows, as though the anchors were in float64."""
    metric = METRICS[name]
    if kind not in ("dense", "CSR"):
        make = pytest.importorskip(kind).asarray
    else:
        make = np.asarray if kind == "dense" else csr_array
    X, anchors = two_spaces()
    X, anchors = X * scale, (anchors * scale).astype(np.float32)
    if not (kind == "dense" or (metric.sparse if kind == "CSR" else metric.array_api)):
        pytest.skip("declared: not of this kind")
    wide = metric.compare(X, metric.prepare(anchors.astype(np.float64)))
    values = metric.compare(make(X), metric.prepare(make(anchors)))
    assert_allclose(np.asarray(values), wide, rtol=1e-12, atol=1e-12 * abs(wide).max())


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("name", [n for n, m in METRICS.items() if m.inverse])
def test_inverses_of_float64_values_with_float32_anchors(name, alpha):
    """They lose no digits to the dtype of the anchors, either."""
    _, anchors = two_spaces(np.float32)
    values = values_of(name, two_spaces()[0], anchors)
    rows = METRICS[name].inverse(values, anchors, alpha)
    wide = METRICS[name].inverse(values, anchors.astype(np.float64), alpha)
    assert_allclose(rows, wide, rtol=1e-12, atol=1e-12 * abs(wide).max())


# --- shortest paths -------------------------------------------------------------


@pytest.mark.parametrize("n_neighbors", [3, 5, 10])
def test_paths_are_those_of_isomap(n_neighbors):
    """Of a rolled plane, and of three parts, whose nearest pairs are joined."""
    roll, _ = make_swiss_roll(300, random_state=0)
    rng = np.random.default_rng(0)
    parts = np.vstack([rng.standard_normal((n, 4)) + 20 * n for n in (12, 30, 50)])
    for rows in (roll, parts):
        isomap = Isomap(n_neighbors=n_neighbors)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The number of connected components")
            warnings.filterwarnings("ignore", category=scipy.sparse.SparseWarning)
            expected = isomap.fit(rows).dist_matrix_
        found = geodesic(rows, rows[:20], rows, n_neighbors=n_neighbors)
        assert_allclose(found, expected[:, :20], rtol=1e-10, atol=1e-10)


def test_rows_between_those_of_the_graph():
    """A new row goes to the best of its nearest rows, and on along the path."""
    rng = np.random.default_rng(0)
    rows, anchors, X = (rng.standard_normal((n, 3)) for n in (80, 10, 40))
    found = geodesic(X, anchors, rows, n_neighbors=4)
    assert_allclose(found, along(X, anchors, rows, 4), rtol=1e-12)
    own = geodesic(np.vstack([anchors, rows]), anchors, rows, n_neighbors=4)
    assert_array_equal(np.diag(own), 0)
    assert_array_equal(geodesic(rows[::-3], anchors, rows, 4), own[10:][::-3])


def test_paths_on_a_line_with_gaps():
    """Parts of two rows and of one are joined with others at their nearest pairs."""
    rows = np.array([0.0, 1, 2, 3, 10, 11, 20])[:, None]
    found = geodesic(rows, rows[:1], rows, n_neighbors=1)
    assert_array_equal(found, rows)
    found = geodesic([[-5.0], [30.0], [12.0]], rows[:1], rows, n_neighbors=1)
    assert_allclose(found, [[5], [30], [12]], rtol=1e-15)


def test_equal_rows_count_once():
    """However often a row is there, and whether it is an anchor, too."""
    rng = np.random.default_rng(0)
    rows, X = rng.standard_normal((60, 3)), rng.standard_normal((20, 3))
    expected = geodesic(X, rows[:10], rows, n_neighbors=4)
    for others in (rows[10:], rows[::-1], rows[rng.integers(0, 60, 900)]):
        others = np.vstack([others, rows[10:]])
        found = geodesic(X, rows[:10], others, n_neighbors=4)
        assert_allclose(found, expected, rtol=1e-12)
    same = np.ones((5, 3))
    assert_array_equal(geodesic(same, same[:2], same), np.zeros((5, 2)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_neighbors", [1, 2, 4, 6])
def test_ties_survive_a_rotation(dtype, n_neighbors):
    """The rows of a grid have many nearest rows at one distance: all of them count."""
    grid = np.stack(np.meshgrid(*[np.arange(4.0)] * 3), axis=-1).reshape(-1, 3)
    turned = grid @ scipy.linalg.qr(np.random.default_rng(0).random((3, 3)))[0] + 7
    grid, turned = grid.astype(dtype), turned.astype(dtype)
    found = geodesic(turned, turned[:9], turned, n_neighbors=n_neighbors)
    expected = geodesic(grid, grid[:9], grid, n_neighbors=n_neighbors)
    assert found.dtype == dtype
    assert_allclose(found, expected, rtol=1e-5)
    if n_neighbors < 4:
        assert_allclose(expected, cdist(grid, grid[:9], "cityblock"))


def test_with_all_rows_as_neighbours_paths_are_straight():
    """Then nothing is left of the graph, and few rows have no more neighbours."""
    X, anchors = two_spaces()
    expected = cdist(X, anchors)
    assert_allclose(geodesic(X, anchors, X, n_neighbors=60), expected, rtol=1e-12)
    assert_allclose(geodesic(X[:1], anchors[:1]), expected[:1, :1], rtol=1e-12)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"n_neighbors": 0},
            r"n_neighbors of geodesic must be an integer in \[1, .* 0",
        ),
        ({"n_neighbors": 2.0}, r"n_neighbors of geodesic must be .* got 2.0"),
        ({"rows": np.ones((3, 2))}, r"rows must have as many features .*7; got 2"),
        ({"rows": [[np.nan] * 7]}, "rows contains NaN"),
    ],
)
def test_bad_parameters_of_geodesic(params, message):
    """An error names the parameter and its value."""
    X, anchors = two_spaces()
    with pytest.raises((TypeError, ValueError), match=message):
        geodesic(X, anchors, **params)


def test_rows_are_no_parameter_of_a_projector():
    """They are the rows of fit, whatever the parameters are."""
    X, _ = two_spaces()
    projector = RelativeProjector(5, metric="geodesic", metric_params={"rows": X})
    with pytest.raises(TypeError, match=r"does not take metric_params.*rows"):
        projector.fit(X)


def test_a_metric_of_your_own_may_need_rows():
    """Its function gets those of fit, and of rebase, that are not anchors."""

    def crowd(X, anchors, rows):
        return euclidean(X, anchors) / len(rows)

    own = Metric("crowd", crowd, needs_rows=True)
    X, _ = two_spaces()
    projector = RelativeProjector(metric=own, anchors=[0, 1]).fit(X)
    assert_allclose(projector.transform(X), cdist(X, X[:2]) / 23)
    rebased = projector.rebase(X[:2], X=X[:10])
    assert_allclose(rebased.transform(X), cdist(X, X[:2]) / 8)
