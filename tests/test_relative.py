"""Steps around the comparison: row normalisations, whitening, regularised as `pre`."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import coo_array, csr_array
from sklearn.base import clone
from sklearn.preprocessing import FunctionTransformer

from skinvariant.metrics import METRICS, Metric, euclidean, mahalanobis
from skinvariant.relative import (
    InvariantAggregator,
    RelativeProjector,
    Whitener,
    l2_normalize,
    layer_normalize,
)

EPS = np.finfo(np.float64).eps


@pytest.fixture(params=["numpy", "array_api_strict", "torch"])
def library(request):
    """Return an array library, if it is installed."""
    return pytest.importorskip(request.param)


def space(dtype=np.float64):
    """Return 25 rows of 7 features in general position."""
    return np.random.default_rng(3).standard_normal((25, 7)).astype(dtype)


# --- normalisations -------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-14), (np.float32, 1e-6)])
def test_layer_normalize(dtype, rtol):
    """Each row is standardised on its own, by its population deviation."""
    X = space(dtype)
    exact = X.astype(np.float64)
    expected = (exact - exact.mean(axis=1)[:, None]) / exact.std(axis=1)[:, None]
    actual = layer_normalize(X)
    assert actual.dtype == dtype
    assert_allclose(actual, expected, rtol=0, atol=rtol * 7)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    hnp.arrays(np.float64, (3, 5), elements=st.integers(-50, 50), unique=True),
    st.floats(1e-200, 1e200),
    st.integers(-10, 10),
)
def test_layer_normalize_forgets_scale_and_shift(X, scale, shift):
    """A common factor and a common shift are removed, at any scale."""
    moved = layer_normalize((X + shift) * scale)
    assert_allclose(moved.mean(axis=1), 0, atol=64 * EPS)
    assert_allclose(moved.std(axis=1), 1, rtol=64 * EPS)
    # rows reach 60 and spread by 1.4 at least: rounding grows by 60 / 1.4
    assert_allclose(moved, layer_normalize(X), rtol=0, atol=64 * 43 * EPS)


@pytest.mark.parametrize("value", [0.0, 0.1, -1 / 3, 1e200 / 3, 1e-200 / 3])
@pytest.mark.parametrize("n_features", [1, 2, 7, 1000])
def test_layer_normalize_of_constant_rows(n_features, value):
    """Rows that are constant within rounding become zero, not noise."""
    X = np.full((2, n_features), value)
    X[1, 0] = np.nextafter(value, 0)
    assert_array_equal(layer_normalize(X), 0)


@pytest.mark.parametrize("gap", 2.0 ** np.arange(-36, 0, 4))
def test_layer_normalize_of_almost_constant_rows(gap):
    """The rounding of a mean that is large beside the gaps is removed."""
    base = np.random.default_rng(0).uniform(0.3, 1, (1000, 1))
    found = layer_normalize(base + 0.7 * gap * np.array([-1, 1]))
    # of two values always -1 and 1, however the values were rounded
    assert_allclose(found, np.tile([-1.0, 1.0], (1000, 1)), rtol=0, atol=8 * EPS)


@pytest.mark.parametrize("function", [layer_normalize, l2_normalize])
def test_normalisations_in_any_library(function, library):
    """Both normalisations have the same values in every array library."""
    X = space()
    X[2] = 0
    actual = function(library.asarray(X))
    assert type(actual) is type(library.asarray(X))
    assert_allclose(np.from_dlpack(actual), function(X), rtol=0, atol=16 * EPS)


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1.0, 1e30, 1e300])
def test_l2_normalize(scale):
    """Rows of any scale get norm 1, and zero rows stay zero."""
    X = space()
    X[2] = 0
    norms = np.linalg.norm(X, axis=1)
    expected = X / np.where(norms > 0, norms, 1)[:, None]
    assert_allclose(l2_normalize(X * scale), expected, rtol=16 * EPS)
    assert l2_normalize(X.astype(np.float32)).dtype == np.float32


# --- whitening ------------------------------------------------------------------


@pytest.mark.parametrize("shrinkage", [0.1, 0.7, 1.0])
def test_a_regularised_whitener_as_pre(shrinkage):
    """Euclidean distances after it are Mahalanobis distances with this shrinkage."""
    X = space()
    pre = Whitener(shrinkage=shrinkage)
    projector = RelativeProjector(metric="euclidean", pre=pre, anchors=range(9))
    expected = mahalanobis(X, X[:9], shrinkage=shrinkage)
    assert_allclose(projector.fit_transform(X), expected, rtol=1e-10)
    assert projector.get_params()["pre__shrinkage"] == shrinkage
    assert not hasattr(pre, "matrix_")


def test_a_whitener_of_too_few_rows_is_the_pseudo_inverse():
    """Its inverse gives back the part of each row in the span of the fitted rows."""
    X = space()
    whitener = Whitener().fit(X[:4])
    assert whitener.full_rank_ is False
    span = np.linalg.pinv(X[:4] - X[:4].mean(axis=0), rcond=1e-10)
    span = span @ (X[:4] - X[:4].mean(axis=0))
    expected = (X - X[:4].mean(axis=0)) @ span + X[:4].mean(axis=0)
    back = whitener.inverse_transform(whitener.transform(X))
    assert_allclose(back, expected, atol=1e-10)


# --- metrics of a fitted estimator ------------------------------------------------


@pytest.mark.parametrize("copied", [clone, copy.deepcopy, copy.copy])
def test_a_copy_of_a_registered_metric_is_the_registered_one(copied):
    """Through clone as well; so it shares work, and its name is all that is stored."""
    product = InvariantAggregator(9, metrics=[METRICS["cosine"], METRICS["inner"]])
    fitted = copied(product).fit(space())
    assert [metric for metric, _ in fitted._metrics] == [
        METRICS["cosine"],
        METRICS["inner"],
    ]
    assert all(METRICS[metric.name] is metric for metric, _ in fitted._metrics)
    stored = [metric.__getstate__() for metric, _ in fitted._metrics]
    assert stored == [{"name": "cosine"}, {"name": "inner"}]
    assert len(fitted._groups) == 1


def squared(X, anchors):
    """Return squared inner products."""
    return (X @ anchors.T) ** 2


def test_a_metric_of_your_own_is_stored_whole():
    """Also under the name of a registered one."""
    own = Metric("cosine", squared)
    fitted = RelativeProjector(9, metric=own, random_state=0).fit(space())
    loaded = pickle.loads(pickle.dumps(fitted))
    assert loaded._metrics == [(own, {})]
    assert_array_equal(loaded.transform(space()), fitted.transform(space()))


def halves(X, anchors):
    """Return inner products with half of the anchors."""
    return X @ anchors.T / 2


def from_halves(values, anchors, alpha):
    """Solve for the rows, by least squares."""
    return 2 * values @ np.linalg.pinv(anchors).T


def test_a_metric_of_your_own_with_an_inverse():
    """Rows come back from its values."""
    metric = Metric("half", halves, inverse=from_halves)
    projector = RelativeProjector(9, metric=metric, random_state=0).fit(space())
    back = projector.inverse_transform(projector.transform(space()))
    assert_allclose(back, space(), atol=1e-12)


# --- what a metric or step of your own returns --------------------------------------


def plus_half(X):
    """Return other values of the same shape."""
    return X + 0.5


def named(X):
    """Return a data frame."""
    return pytest.importorskip("pandas").DataFrame(X)


#: By what they make of an array: results that have the same values, in another form.
SAME_VALUES = {
    "list": np.ndarray.tolist,
    "data frame": named,
    "CSR": csr_array,
    "COO": coo_array,
    "read-only": lambda X: np.broadcast_to(X, X.shape),
    "big-endian": lambda X: X.astype(">f8"),
}
#: Results whose values are other numbers, but numbers.
ROUNDED = {
    "integers": lambda X: np.rint(4 * X).astype(int),
    "booleans": lambda X: X > 0.5,
    "float16": lambda X: X.astype(np.float16),
}
#: Results that cannot be used, and the error.
UNUSABLE = {
    "one dimension": (lambda X: X[:, 0], ValueError),
    "three dimensions": (lambda X: X[None], ValueError),
    "transposed": (np.transpose, ValueError),
    "a row missing": (lambda X: X[1:], ValueError),
    "a row too many": (lambda X: np.vstack([X, X[:1]]), ValueError),
    "a column for each row": (lambda X: X[:, [0] * len(X)], ValueError),
    "NaN": (lambda X: X * np.nan, ValueError),
    "one infinity": (lambda X: np.where(X.max() > X, X, np.inf), ValueError),
    "complex": (lambda X: X + 0j, TypeError),
    "objects": (lambda X: X.astype(object), TypeError),
    "texts": (lambda X: X.astype(str), TypeError),
    "dates": (lambda X: X.astype("M8[s]"), TypeError),
    "nothing": (lambda X: None, TypeError),
    "rows of unequal length": (lambda X: [[1.0], *X[1:].tolist()], TypeError),
}
#: By the place of the function: an estimator that uses it there.
PLACES = {
    "metric": lambda change: RelativeProjector(
        metric=lambda X, anchors: change(euclidean(X, anchors)), anchors=range(7)
    ),
    "metric with preparation": lambda change: RelativeProjector(
        metric=Metric(
            "own",
            euclidean,
            preparation=lambda anchors: (anchors,),
            comparison=lambda X, anchors: change(euclidean(X, anchors)),
        ),
        anchors=range(7),
    ),
    "one of two metrics": lambda change: InvariantAggregator(
        metrics=["manhattan", lambda X, anchors: change(euclidean(X, anchors))],
        anchors=range(7),
        post=None,
    ),
    "pre": lambda change: RelativeProjector(
        metric="euclidean", pre=FunctionTransformer(change), anchors=range(7)
    ),
    "post": lambda change: RelativeProjector(
        metric="euclidean", post=FunctionTransformer(change), anchors=range(7)
    ),
    "aggregation": lambda change: InvariantAggregator(
        metrics=["euclidean"],
        aggregation=lambda spaces: change(spaces[0]),
        anchors=range(7),
        post=None,
    ),
}


@pytest.mark.parametrize("form", SAME_VALUES | ROUNDED)
@pytest.mark.parametrize("place", PLACES)
def test_a_result_in_another_form_has_its_values(place, form):
    """Whatever NumPy makes an array of real numbers of."""
    change = (SAME_VALUES | ROUNDED)[form]

    def plain(X):
        return np.array(ROUNDED[form](X), dtype=float) if form in ROUNDED else X

    X = np.random.default_rng(3).integers(1, 9, (25, 7)).astype(float)
    found = PLACES[place](change).fit(X).transform(X)
    assert found.dtype == np.float64
    assert_allclose(found, PLACES[place](plain).fit(X).transform(X), atol=1e-12)


@pytest.mark.parametrize("form", UNUSABLE)
@pytest.mark.parametrize("place", PLACES)
def test_a_result_that_cannot_be_used_is_an_error(place, form):
    """At `fit`, also of a turned result with as many rows as columns."""
    change, error = UNUSABLE[form]
    message = f"{place.split()[0]}.*(must return|is not finite)"
    message = message.replace("one", "metric 'lambda'")
    X = np.abs(space()[:7])
    with pytest.raises(error, match=message):
        PLACES[place](change).fit(X)


@pytest.mark.parametrize("place", PLACES)
def test_a_width_that_changes_after_fit_is_an_error(place):
    """A kernel that reads beyond the columns it gets would return anything."""
    narrow = []
    estimator = PLACES[place](lambda X: X[:, : 3 if narrow else 7]).fit(space())
    narrow.append(True)
    with pytest.raises(ValueError, match=r"must return an array of shape \(25, 7\)"):
        estimator.transform(space())


@pytest.mark.parametrize("metric", METRICS)
def test_sparse_rows_from_pre(metric):
    """They count as sparse input: a metric takes them, or refuses them by name."""
    X = np.abs(space())
    options = {"metric": metric, "anchors": range(9)}
    projector = RelativeProjector(pre=FunctionTransformer(coo_array), **options)
    if METRICS[metric].sparse:
        found = projector.fit(X).transform(X)
        wanted = RelativeProjector(**options).fit(X).transform(X)
        assert_allclose(found, wanted, atol=1e-12)
    else:
        with pytest.raises(TypeError, match=f"'{metric}' does not take sparse input"):
            projector.fit(X)


@pytest.mark.parametrize("built_in", ["center", "standardize", "whiten"])
def test_sparse_columns_of_a_frame_before_pre(built_in):
    """They are refused like a sparse matrix, by the name of the step."""
    frames = pytest.importorskip("pandas")
    X = frames.DataFrame.sparse.from_spmatrix(csr_array(np.abs(space())))
    with pytest.raises(TypeError, match=f"pre='{built_in}' does not take sparse input"):
        RelativeProjector(9, pre=built_in, random_state=0).fit(X)


@pytest.mark.parametrize("part", ["metric", "pre", "post"])
@pytest.mark.parametrize("form", [np.transpose, lambda X: X[1:], lambda X: X * np.nan])
def test_what_an_inverse_returns(part, form):
    """It is checked as well."""
    step = FunctionTransformer(plus_half, inverse_func=form, check_inverse=False)
    metric = Metric("half", halves, inverse=lambda *args: form(from_halves(*args)))
    options = {"metric": metric} if part == "metric" else {part: step}
    projector = RelativeProjector(9, random_state=0, **options).fit(space())
    relative = projector.transform(space())
    with pytest.raises(ValueError, match=r"the inverse of .* (must return|is not fin)"):
        projector.inverse_transform(relative)


@pytest.mark.parametrize(
    "metric",
    [
        lambda X, anchors: euclidean(X, anchors) / euclidean(X, anchors).max(),
        lambda X, anchors: euclidean(X, anchors) - euclidean(X, anchors).mean(axis=0),
        lambda X, anchors: euclidean(X - X.mean(axis=0), anchors),
        lambda X, anchors: euclidean(X[::-1], anchors),
    ],
)
def test_a_metric_that_mixes_rows_is_an_error(metric):
    """Its values would depend on the rows that happen to share a block."""
    with pytest.raises(ValueError, match="'lambda' must compare each row on its own"):
        RelativeProjector(9, metric=metric, random_state=0).fit(space())
