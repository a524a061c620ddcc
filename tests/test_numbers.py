"""Numbers that no parameter takes, and spaces of any scale."""

import importlib.util
import re
from fractions import Fraction

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline

import skinvariant
from skinvariant import (
    comparison,
    datasets,
    diagnosis,
    matching,
    metrics,
    outofcore,
    pooling,
    relative,
)
from skinvariant.translation import _METHODS, SpaceTranslator

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 4))
X_B = np.tanh(X @ RNG.standard_normal((4, 4))) + 0.1 * RNG.standard_normal((60, 4))
LABELS = (X[:, 0] > 0).astype(int)
BAYES, RIDGE = GaussianNB().fit(X, LABELS), Ridge().fit(X, X_B)
LOGS = np.log(RNG.dirichlet((1, 1), (2, 60)))
QUICK = {"metrics": ("cosine",), "pre": (None,), "post": ("layer",)}
STITCHED = (
    make_pipeline(skinvariant.RelativeProjector(9), RidgeClassifier()),
    {"a": (X[:40], X[40:]), "b": (X_B[:40], X_B[40:])},
    (LABELS[:40], LABELS[40:]),
)
REPORT = skinvariant.cross_stitch(*STITCHED, n_seeds=1, n_resamples=5, random_state=0)


def fitted(estimator, *arguments):
    """Return a call that fits an estimator with changed parameters."""
    return lambda **changed: clone(estimator).set_params(**changed).fit(*arguments)


# what is documented, and a call of it in which one parameter at a time is changed
CALLS = {
    skinvariant.RelativeProjector: fitted(skinvariant.RelativeProjector(9), X),
    skinvariant.InvariantAggregator: fitted(skinvariant.InvariantAggregator(9), X),
    skinvariant.InvariantVotingClassifier: fitted(
        skinvariant.InvariantVotingClassifier(n_anchors=9), X, LABELS
    ),
    skinvariant.InvariantVotingRegressor: fitted(
        skinvariant.InvariantVotingRegressor(n_anchors=9), X, X[:, 0]
    ),
    SpaceTranslator: fitted(SpaceTranslator("kernel"), X, X_B),
    pooling.PooledClassifier: fitted(
        pooling.PooledClassifier([("one", FrozenEstimator(BAYES))]), X, LABELS
    ),
    pooling.PooledRegressor: fitted(
        pooling.PooledRegressor([("one", FrozenEstimator(RIDGE))]), X, X_B
    ),
    skinvariant.EncoderGuard: fitted(skinvariant.EncoderGuard(), X),
    relative.Whitener: fitted(relative.Whitener(), X),
    pooling.log_pool_weights: lambda **changed: pooling.log_pool_weights(
        LOGS, np.eye(2)[LABELS], **changed
    ),
    pooling.linear_pool_weights: lambda **changed: pooling.linear_pool_weights(
        X.T, X[:, 0], **changed
    ),
    pooling.signal_to_noise: lambda **changed: pooling.signal_to_noise(
        **{"agreements": [0.5, 0.9]} | changed
    ),
    pooling.smoothed_log: lambda **changed: pooling.smoothed_log(X[:1] ** 2, **changed),
    comparison.calibrated: lambda **changed: comparison.calibrated(
        comparison.cka, X, X_B, **changed
    ),
    comparison.cka: lambda **changed: comparison.cka(X, X_B, kernel="rbf", **changed),
    comparison.mutual_knn: lambda **changed: comparison.mutual_knn(X, X_B, **changed),
    comparison.top_k_jaccard: lambda **changed: comparison.top_k_jaccard(
        X, X_B, **changed
    ),
    comparison.encoder_test: lambda **changed: comparison.encoder_test(
        X, X + 1, **changed
    ),
    comparison.mantel_test: lambda **changed: comparison.mantel_test(X, X_B, **changed),
    diagnosis.diagnose: lambda **changed: diagnosis.diagnose(X, X_B, **QUICK | changed),
    diagnosis.shared_directions: lambda **changed: diagnosis.shared_directions(
        X, X_B, np.arange(40), **changed
    ),
    matching.bootstrap_anchors: lambda **changed: matching.bootstrap_anchors(
        X, X_B, np.stack([np.arange(20)] * 2, axis=1), **changed
    ),
    metrics.whitening: lambda **changed: metrics.whitening(X, **changed),
    metrics.minkowski: lambda **changed: metrics.minkowski(X, X, **changed),
    metrics.geodesic: lambda **changed: metrics.geodesic(X, X, **changed),
    metrics.mahalanobis: lambda **changed: metrics.mahalanobis(X, X, **changed),
    metrics.change_of_basis: lambda **changed: metrics.change_of_basis(X, X, **changed),
    datasets.make_related_spaces: lambda **changed: datasets.make_related_spaces(
        **changed
    ),
    outofcore.transform_batches: lambda **changed: outofcore.transform_batches(
        skinvariant.RelativeProjector(9).fit(X), X, np.empty((60, 9)), **changed
    ),
    skinvariant.cross_stitch: lambda **changed: skinvariant.cross_stitch(
        *STITCHED, **changed
    ),
    type(REPORT).interval: lambda **changed: REPORT.interval(
        REPORT.methods[0], **changed
    ),
    type(REPORT).passes: lambda **changed: REPORT.passes(
        **{"min_index": 0.5} | changed
    ),
}
if importlib.util.find_spec("torch"):
    from skinvariant.heads import InvariantClassifier

    CALLS[InvariantClassifier] = fitted(InvariantClassifier(9), X, LABELS)
# numbers that scikit-learn, joblib or NumPy take and check
OTHERS = {"random_state", "n_jobs", "verbose"}
BAD = {
    "huge": 10**400,
    "minus huge": -(10**400),
    "fraction": Fraction(10**400),
    "nan": np.nan,
    "-inf": -np.inf,
    "complex": 1j,
    "text": "one",
    "bool": True,
    "numpy bool": np.True_,
    "numpy nan": np.float32("nan"),
    "array": np.array([1.0, 2.0]),
    "0-d": np.array(1.5),
    "object": object(),
}


def numbers_of(function):
    """Return the parameters that are documented as one number, or as several."""
    text = function.__doc__.split("Parameters\n")[1]
    text = re.split(r"\n *(?:Returns|Attributes|Raises|Yields)\n", text)[0]
    indent = re.match(r" *-+\n( *)", text)[1]
    for line in re.findall(rf"^{indent}(\w.*) : (.*)$", text, re.MULTILINE):
        names, kind = line
        if re.match(r"(sequence of |array-like of |list of )?(int|float)\b", kind):
            for name in names.split(", "):
                if name not in OTHERS:
                    yield name, not kind.startswith(("int", "float"))


CASES = [
    pytest.param(call, name, several, id=f"{function.__qualname__}-{name}")
    for function, call in CALLS.items()
    for name, several in numbers_of(function)
] + [
    pytest.param(CALLS[f], name, True, id=f"{f.__qualname__}-{name}")
    for f, name in (
        (skinvariant.InvariantAggregator, "weights"),
        (SpaceTranslator, "gammas"),
        (SpaceTranslator, "alphas"),
        (pooling.log_pool_weights, "prior"),
        (pooling.linear_pool_weights, "prior"),
        (pooling.signal_to_noise, "agreements"),
    )
]


def test_every_documented_number_is_tried():
    """The cases follow from the docstrings of what is public."""
    tried = {case.id for case in CASES}
    assert len(tried) > 40
    missing = {
        f"{function.__qualname__}-{name}"
        for module in (comparison, diagnosis, pooling, metrics)
        for function in map(vars(module).get, module.__all__)
        if callable(function) and "Parameters\n" in (function.__doc__ or "")
        if function is not comparison.EncoderTest  # a result
        for name, _ in numbers_of(function)
    }
    assert missing <= tried


@pytest.mark.grid(strength=1)
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize(("call", "name", "several"), CASES)
def test_a_wrong_number_is_named(call, name, several, bad):
    """An error of the kind that is promised names the parameter and what was got."""
    value = [1.0, bad, 1.0, 1.0] if several else bad
    with pytest.raises((ValueError, TypeError), match=rf"{name}\b.* must .*got"):
        call(**{name: value})


# --- spaces of any scale ----------------------------------------------------------

SCALES = (1e-300, 1e-200, 1e-150, 1e-20, 1e20, 1e150, 1e200, 1e300)
MEASURES = [
    *((name, params) for name, params, _ in comparison._INVARIANCES),
    ("mantel_test", {}),
    *(
        ("mutual_knn", {"metric": metric})
        for metric in ("correlation", "mahalanobis", "seuclidean", "l2", "sqeuclidean")
    ),
]


def named(cases):
    """Return cases as parameters of a test, by name."""
    return [pytest.param(*case, id=" ".join(map(str, case))) for case in cases]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("name", "params"), named(MEASURES))
def test_no_measure_depends_on_the_unit(name, params, scale):
    """A common factor of both spaces changes nothing, up to the ends of float64."""
    measure = getattr(comparison, name)
    expected = measure(X, X_B, **params)
    np.testing.assert_allclose(
        measure(X * scale, X_B * scale, **params), expected, rtol=1e-9
    )


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e-3, 1e4, 1e5, 1e30])
@pytest.mark.parametrize("n_rows", [60, 150])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_rank_of_a_space_does_not_depend_on_its_unit(dtype, n_rows, scale):
    """Wide or not, with one unit for all columns or one for each."""
    rng = np.random.default_rng(0)
    X_a = rng.standard_normal((n_rows, 20)) @ rng.standard_normal((20, 100))
    X_b = rng.standard_normal((n_rows, 9))
    measure = comparison.mean_canonical_correlation
    expected = measure(X_a.astype(dtype), X_b.astype(dtype))
    reference = (
        np.linalg.qr(X_b - X_b.mean(axis=0))[0].T
        @ np.linalg.svd(X_a - X_a.mean(axis=0), full_matrices=False)[0][:, :20]
    )
    rtol = 1e-4 if dtype == np.float32 else 1e-9
    correlations = np.linalg.svd(reference, compute_uv=False)
    np.testing.assert_allclose(expected, correlations.mean(), rtol=rtol)
    columns = scale ** rng.uniform(-1, 1, 100)
    for factor in (scale, columns):
        scaled = measure((X_a * factor).astype(dtype), X_b.astype(dtype))
        np.testing.assert_allclose(scaled, expected, rtol=rtol)


@pytest.mark.parametrize("factor", [1e8, 1e16, 1e100])
def test_one_wild_row_leaves_the_neighbours_of_the_others(factor):
    """No expansion of squares cancels: a row far away moves none but itself."""
    wild = X.copy()
    wild[0] *= factor
    for metric in ("euclidean", "l2", "sqeuclidean"):
        kept = comparison.mutual_knn(wild, X, metric=metric, average=False)
        assert np.mean(kept[1:]) > 0.95
    whole = comparison.cka(X[1:], X_B[1:], kernel="rbf")
    assert abs(comparison.cka(wild, X_B, kernel="rbf") - whole) < 0.05


def test_a_kernel_out_of_range_is_an_error():
    """Kernels that depend on the scale give the right value or say what to do."""
    for kernel in ("poly", "sigmoid"):
        for name, spaces in (("X_a", (X * 1e200, X_B)), ("X_b", (X, X_B * 1e200))):
            with pytest.raises(ValueError, match=f"{name} must .*rescale it; got"):
                comparison.cka(*spaces, kernel=kernel)
    gram = (X @ X.T / 4 * 1e80 + 1) ** 3
    other = (X_B @ X_B.T / 4 + 1) ** 3
    centre = np.eye(60) - 1 / 60
    gram, other = (centre @ (k / k.max()) @ centre for k in (gram, other))
    expected = np.vdot(gram, other) / np.sqrt(np.vdot(gram, gram))
    actual = comparison.cka(X * 1e40, X_B, kernel="poly")
    np.testing.assert_allclose(actual, expected / np.linalg.norm(other), rtol=1e-9)


@pytest.mark.parametrize("scales", [(1e150, 1), (1, 1e150), (1e200, 1e200), (1, 1e-99)])
@pytest.mark.parametrize("method", _METHODS)
def test_translations_of_any_unit(method, scales):
    """The translation, its score and its inverse have the unit of their rows."""
    a, b = scales
    expected = SpaceTranslator(method).fit(X, X_B)
    found = SpaceTranslator(method).fit(X * a, X_B * b)
    shown = found.transform(X * a) / b
    np.testing.assert_allclose(shown, expected.transform(X), atol=1e-9)
    score = found.score(X * a, X_B * b)
    np.testing.assert_allclose(score, expected.score(X, X_B), rtol=1e-9)
    if hasattr(expected, "inverse_transform"):
        back = found.inverse_transform(X_B * b) / a
        np.testing.assert_allclose(back, expected.inverse_transform(X_B), atol=1e-9)


@pytest.mark.parametrize("method", ["orthogonal", "linear", "affine", "ridge"])
def test_a_map_out_of_range_is_an_error(method):
    """Coefficients of 1e-400 and 1e400 are no map, and float32 rows stay finite."""
    for a, b in ((1e200, 1e-200), (1e-200, 1e200)):
        with pytest.raises(ValueError, match=r"map must be .*rescale the spaces.*got"):
            SpaceTranslator(method).fit(X * a, X_B * b)
    narrow = (X * 1e30).astype(np.float32)
    found = SpaceTranslator(method).fit(narrow, (X_B * 1e-30).astype(np.float32))
    expected = SpaceTranslator(method).fit(X, X_B).transform(X)
    shown = found.transform(narrow).astype(np.float64) * 1e30
    np.testing.assert_allclose(shown, expected, atol=1e-5)
    large = SpaceTranslator(method).fit(X, X_B * 1e60)
    with pytest.raises(ValueError, match="finite in float32: give rows in float64"):
        large.transform(X.astype(np.float32))


@pytest.mark.parametrize("factor", [1e8, 1e12, 1e16, 1e100])
def test_one_wild_row_leaves_the_kernel_translation(factor):
    """The other rows keep their digits, however far one row is."""
    wild = X.copy()
    wild[0] *= factor
    found = SpaceTranslator("kernel").fit(wild, X_B)
    near = X.copy()
    near[0] *= 1e5
    expected = SpaceTranslator("kernel").fit(near, X_B).transform(near)
    np.testing.assert_allclose(found.transform(wild), expected, atol=1e-3)


@pytest.mark.parametrize("scale", SCALES)
def test_pools_and_pictures_of_any_unit(scale):
    """Weights do not depend on the unit, and a picture is in that of its rows."""
    expected = pooling.linear_pool_weights(X.T, X_B[:, 0])
    actual = pooling.linear_pool_weights(X.T * scale, X_B[:, 0] * scale)
    np.testing.assert_allclose(actual, expected, rtol=1e-9)
    plotting = pytest.importorskip("skinvariant.plotting")
    for other in (X_B, X_B[:, :3]):
        shown = plotting._plane(X * scale, other * scale)
        for found, plane in zip(shown, plotting._plane(X, other), strict=True):
            np.testing.assert_allclose(found / scale, plane, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
@pytest.mark.parametrize("step", [{"pre": "standardize"}, {"post": "standardize"}])
def test_a_standard_scaler_out_of_range_is_an_error(step, scale):
    """Its variances would be 0 or infinite, and its columns unscaled or 0."""
    projector = skinvariant.RelativeProjector(9, metric="euclidean", **step)
    with pytest.raises(ValueError, match=r"variance of each column must .*; got"):
        projector.fit(X * scale)
    constant = np.c_[X, np.full(60, 7.0), np.zeros(60)]
    projector.fit(constant)
