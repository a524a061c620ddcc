"""RelativeProjector: one metric, its options, its edges, and how it composes."""

import pickle
import re
import tracemalloc
import warnings

import numpy as np
import pytest
from scipy.sparse import csr_array, csr_matrix
from scipy.sparse.csgraph import shortest_path
from scipy.spatial.distance import cdist
from sklearn import config_context, set_config
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, Normalizer, StandardScaler
from threadpoolctl import threadpool_limits

from skinvariant import InvariantAggregator, RelativeProjector
from skinvariant.anchors import STRATEGIES
from skinvariant.datasets import make_related_spaces
from skinvariant.metrics import METRICS, Metric, _graphs
from skinvariant.persistence import load, save
from skinvariant.relative import _base
from skinvariant.relative._steps import POST, PRE

METRIC_NAMES = sorted(METRICS)
SPARSE = [name for name in METRIC_NAMES if METRICS[name].sparse]


@pytest.fixture
def X():
    """A space of 60 rows and 5 features."""
    return make_related_spaces(60, 5, random_state=0).X_a


@pytest.fixture
def y():
    """Its labels."""
    return make_related_spaces(60, 5, random_state=0).y


@pytest.fixture
def big(monkeypatch):
    """A space of many blocks, each of a few rows."""
    monkeypatch.setattr(_base, "_BLOCK_MIB", 0.05)
    return np.random.default_rng(0).standard_normal((2003, 16)) + 3


# --- what it computes -----------------------------------------------------------


@pytest.mark.parametrize("metric", METRIC_NAMES)
def test_the_output_is_the_metric_of_rows_and_anchors(metric, X):
    """Without pre and post the relative space is the function of the registry."""
    projector = RelativeProjector(20, metric=metric, random_state=0).fit(X)
    rows = {"rows": X} if METRICS[metric].needs_rows else {}
    expected = METRICS[metric].function(X, X[projector.anchor_indices_], **rows)
    np.testing.assert_allclose(projector.transform(X), expected, atol=1e-12)
    np.testing.assert_array_equal(projector.anchors_, X[projector.anchor_indices_])


def test_metric_params_reach_the_metric(X):
    """The order of a Minkowski distance is that of metric_params."""
    projector = RelativeProjector(
        metric="minkowski", metric_params={"p": 3}, anchors=[4, 2]
    ).fit(X)
    expected = cdist(X, X[[4, 2]], "minkowski", p=3)
    np.testing.assert_allclose(projector.transform(X), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("pre", "map_"),
    [
        ("center", lambda X, A: X - A.mean(axis=0)),
        ("standardize", lambda X, A: (X - A.mean(axis=0)) / A.std(axis=0)),
        (
            "whiten",
            lambda X, A: (
                (X - A.mean(axis=0))
                @ np.linalg.cholesky(np.linalg.inv(np.cov(A, rowvar=False)))
            ),
        ),
        (StandardScaler(with_std=False), lambda X, A: X - A.mean(axis=0)),
    ],
)
def test_pre_is_fitted_on_the_anchors(pre, map_, X):
    """Rows and anchors are mapped by statistics of the anchors alone."""
    projector = RelativeProjector(20, metric="euclidean", pre=pre, random_state=0)
    anchors = X[projector.fit(X).anchor_indices_]
    expected = cdist(map_(X, anchors), map_(anchors, anchors))
    np.testing.assert_allclose(projector.transform(X), expected, atol=1e-10)


@pytest.mark.parametrize(
    ("post", "map_"),
    [
        (
            "layer",
            lambda R, A: (
                (R - R.mean(axis=1, keepdims=True)) / R.std(axis=1, keepdims=True)
            ),
        ),
        ("l2", lambda R, A: R / np.linalg.norm(R, axis=1, keepdims=True)),
        ("standardize", lambda R, A: (R - A.mean(axis=0)) / A.std(axis=0)),
        (Normalizer("l1"), lambda R, A: R / np.abs(R).sum(axis=1, keepdims=True)),
    ],
)
def test_post_is_fitted_on_the_anchors_own_relative_vectors(post, map_, X):
    """Columns are standardised by the anchors' relative vectors, never the batch's."""
    projector = RelativeProjector(20, metric="manhattan", post=post, random_state=0)
    anchors = X[projector.fit(X).anchor_indices_]
    expected = map_(
        cdist(X, anchors, "cityblock"), cdist(anchors, anchors, "cityblock")
    )
    np.testing.assert_allclose(projector.transform(X), expected, atol=1e-12)
    np.testing.assert_allclose(projector.transform(X[:1]), expected[:1], atol=1e-12)


def test_mahalanobis_is_euclidean_after_whitening(X):
    """The two ways to take out the covariance agree."""
    one = RelativeProjector(20, metric="mahalanobis", random_state=0)
    other = RelativeProjector(20, metric="euclidean", pre="whiten", random_state=0)
    np.testing.assert_allclose(one.fit_transform(X), other.fit_transform(X), atol=1e-10)


def test_nested_parameters_of_transformers_can_be_searched(X, y):
    """pre__with_std is a parameter of the pipeline, as scikit-learn's users expect."""
    model = make_pipeline(
        RelativeProjector(20, pre=StandardScaler(), random_state=0),
        LogisticRegression(),
    )
    grid = {"relativeprojector__pre__with_std": [True, False]}
    search = GridSearchCV(model, grid, cv=3).fit(X, y)
    fitted = search.best_estimator_[0].pre_
    chosen = search.best_params_["relativeprojector__pre__with_std"]
    assert fitted.with_std == chosen
    assert model[0].pre.with_std is True  # the parameter itself is not touched
    assert not hasattr(model[0].pre, "mean_")


def test_pre_may_change_the_width(X):
    """Components of its own anchors stand for each space, which cosine lets differ."""
    projector = RelativeProjector(20, pre=PCA(3), random_state=0).fit(X)
    anchors = X[projector.anchor_indices_]
    mapped = PCA(3).fit(anchors)
    expected = METRICS["cosine"].function(
        mapped.transform(X), mapped.transform(anchors)
    )
    np.testing.assert_allclose(projector.transform(X), expected, atol=1e-12)
    turned = X @ np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0]
    rebased = projector.rebase(turned[projector.anchor_indices_])
    np.testing.assert_allclose(rebased.transform(turned), expected, atol=1e-12)


def test_post_may_change_the_width(X):
    """A transformer after the metric may reduce it; names say whose output it is."""
    projector = RelativeProjector(20, post=PCA(3), random_state=0).fit(X)
    assert projector.transform(X).shape == (60, 3)
    assert projector.get_feature_names_out().tolist() == [
        "cosine_pca0",
        "cosine_pca1",
        "cosine_pca2",
    ]


class EveryOther(BaseEstimator):
    """A transformer without names and without set_output."""

    def fit(self, X, y=None):
        """Learn nothing."""
        return self

    def transform(self, X):
        """Keep every other column."""
        return X[:, ::2]


def test_post_needs_no_more_than_fit_and_transform(X):
    """A bare transformer will do; its columns get names from us."""
    projector = RelativeProjector(4, post=EveryOther(), random_state=0).fit(X)
    plain = RelativeProjector(4, random_state=0).fit_transform(X)
    np.testing.assert_array_equal(projector.transform(X), plain[:, ::2])
    names = projector.get_feature_names_out().tolist()
    assert names == ["cosine_post0", "cosine_post1"]


def test_dense_and_sparse_rows_together(X):
    """Rows are taken in the form of the anchors, whichever they come in."""
    dense = RelativeProjector(20, metric="euclidean", random_state=0).fit(X)
    sparse = clone(dense).fit(csr_array(X))
    expected = dense.transform(X)
    for fitted in (dense, sparse):
        for rows in (X, csr_array(X), csr_matrix(X)):
            np.testing.assert_allclose(fitted.transform(rows), expected, atol=1e-12)


# --- anchors ---------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["random", "stratified"])
def test_equal_seeds_give_parallel_anchors(strategy, y):
    """Corresponding spaces get the same samples, whatever their widths."""
    rng = np.random.default_rng(0)
    indices = [
        RelativeProjector(20, anchors=strategy, random_state=7)
        .fit(rng.standard_normal((60, width)), y)
        .anchor_indices_
        for width in (3, 9)
    ]
    np.testing.assert_array_equal(*indices)


def test_all_rows_and_given_rows(X):
    """`all` takes each row in order; indices are used as they are."""
    everything = RelativeProjector(anchors="all").fit(X)
    np.testing.assert_array_equal(everything.anchors_, X)
    some = RelativeProjector(anchors=np.array([5, 3])).fit(X)
    np.testing.assert_array_equal(some.anchors_, X[[5, 3]])
    assert everything.transform(X).shape == (60, 60)


def test_a_callable_gets_rows_labels_number_and_generator(X, y):
    """A strategy of one's own sees what the built-in ones see."""
    seen = []

    def last(X, y, n_anchors, random_state):
        seen.append((X.shape, len(y), n_anchors, type(random_state)))
        return np.arange(len(X) - n_anchors, len(X))

    projector = RelativeProjector(4, anchors=last, random_state=0).fit(X, y)
    assert seen == [((60, 5), 60, 4, np.random.RandomState)]
    assert projector.anchor_indices_.tolist() == [56, 57, 58, 59]


def test_stratified_without_labels_says_so(X):
    """Labels are asked for by name."""
    with pytest.raises(ValueError, match="anchors='stratified' requires y"):
        RelativeProjector(4, anchors="stratified").fit(X)


# --- rebase ----------------------------------------------------------------------


def test_rebase_gives_a_new_estimator_and_leaves_the_old_one(X):
    """Anchors, width and pre are the new space's; the old one still fits the old."""
    projector = RelativeProjector(20, pre="center", post="standardize", random_state=0)
    before = projector.fit_transform(X)
    X_b = np.hstack([X, X])[:, ::-1]
    rebased = projector.rebase(X_b[projector.anchor_indices_])
    assert type(rebased) is RelativeProjector
    assert rebased is not projector
    assert (rebased.n_features_in_, projector.n_features_in_) == (10, 5)
    assert rebased.pre_.mean_.shape == (10,)
    np.testing.assert_array_equal(rebased.anchor_indices_, projector.anchor_indices_)
    np.testing.assert_array_equal(projector.transform(X), before)
    # the space twice side by side has the same angles
    np.testing.assert_allclose(rebased.transform(X_b), before, atol=1e-12)


@pytest.mark.parametrize("post", ["standardize", StandardScaler()])
def test_rebase_standardises_by_the_new_anchors(post, X):
    """Columns are anchors in either space, each with its own mean and spread there."""
    projector = RelativeProjector(20, metric="manhattan", post=post, random_state=0)
    own_mean = projector.fit(X).post_.mean_.copy()
    anchors = X[projector.anchor_indices_] ** 3
    rebased = projector.rebase(anchors)
    relative = cdist(anchors, anchors, "cityblock")
    np.testing.assert_allclose(rebased.post_.mean_, relative.mean(axis=0))
    np.testing.assert_allclose(rebased.post_.scale_, relative.std(axis=0))
    np.testing.assert_array_equal(projector.post_.mean_, own_mean)


@pytest.mark.parametrize("post", ["layer", "l2", PCA(3), Normalizer("l1")])
def test_rebase_keeps_any_other_post(post, X):
    """A head knows the components that it was trained on, and no others."""
    projector = RelativeProjector(20, post=post, random_state=0).fit(X)
    rebased = projector.rebase(X[projector.anchor_indices_] ** 3)
    assert rebased.post_ is projector.post_


def test_rebase_copies_the_anchors(X):
    """Writing into the given anchors afterwards changes nothing."""
    projector = RelativeProjector(20, metric="manhattan", random_state=0).fit(X)
    anchors = X[projector.anchor_indices_]
    rebased = projector.rebase(anchors)
    anchors[:] = 0
    np.testing.assert_array_equal(rebased.transform(X), projector.transform(X))


def test_rebase_names_both_numbers(X):
    """A wrong number of anchors is an error that says both."""
    projector = RelativeProjector(20, random_state=0).fit(X)
    with pytest.raises(ValueError, match=r"20 rows.*got 19 rows"):
        projector.rebase(X[:19])


def test_parameters_set_after_fit_wait_for_the_next_fit(X):
    """A fitted projector stays what it was fitted as, also through rebase."""
    projector = RelativeProjector(20, pre="center", post="l2", random_state=0).fit(X)
    before, promised = projector.transform(X), projector.invariances_
    projector.set_params(metric="euclidean", pre=None, post=None)
    rebased = projector.rebase(X[projector.anchor_indices_])
    for fitted in (projector, rebased):
        np.testing.assert_array_equal(fitted.transform(X), before)
        assert fitted.invariances_ == promised
        assert fitted.get_feature_names_out()[0].startswith("cosine")


def test_rebase_needs_a_fitted_estimator(X):
    """As everything else does."""
    with pytest.raises(NotFittedError):
        RelativeProjector().rebase(X)


def test_invariances_follow_the_new_anchors():
    """Anchors that span the old space may not span a wider one."""
    spaces = make_related_spaces(
        60, 5, transformation="linear", n_features_b=30, random_state=0
    )
    projector = RelativeProjector(20, metric="change_of_basis", random_state=0)
    assert "linear" in projector.fit(spaces.X_a).invariances_
    rebased = projector.rebase(spaces.X_b[projector.anchor_indices_])
    assert "linear" not in rebased.invariances_
    assert "orthogonal" in rebased.invariances_


# --- edges -----------------------------------------------------------------------


@pytest.mark.grid
@pytest.mark.parametrize("metric", METRIC_NAMES)
@pytest.mark.parametrize("pre", [None, *sorted(PRE)])
@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10, 1e30])
def test_scales_are_right_or_refused(metric, pre, scale, X):
    """Tiny and huge spaces have the values of the plain one, to rounding."""
    projector = RelativeProjector(20, metric=metric, pre=pre, random_state=0).fit(X)
    scaled = clone(projector).fit(X * scale)
    expected, got = projector.transform(X), scaled.transform(X * scale)
    if "isotropic_scaling" not in projector.invariances_:
        degree = 2 if metric in ("inner", "sqeuclidean") else 1
        got = got / scale**degree
    np.testing.assert_allclose(got, expected, atol=1e-11 * np.abs(expected).max())


def naive(metric, X, anchors):
    """Compute a metric as its formula stands; NaN where it is undefined."""
    if metric == "mahalanobis":
        inverse = np.linalg.pinv(np.cov(anchors, rowvar=False).reshape(X.shape[1], -1))
        gap = X[:, None] - anchors[None]
        return np.sqrt(np.einsum("nkd,de,nke->nk", gap, inverse, gap))
    if metric in ("cosine", "angular", "correlation"):
        if metric == "correlation":
            X = X - X.mean(axis=1, keepdims=True)
            anchors = anchors - anchors.mean(axis=1, keepdims=True)
        norms = np.linalg.norm(X, axis=1)[:, None] * np.linalg.norm(anchors, axis=1)
        cosine = np.clip(X @ anchors.T / norms, -1, 1)
        return np.arccos(cosine) / np.pi if metric == "angular" else cosine
    if metric == "inner":
        return X @ anchors.T
    if metric == "change_of_basis":
        return X @ np.linalg.pinv(anchors)
    if metric == "geodesic":
        nodes, places = np.unique(np.vstack([anchors, X]), axis=0, return_inverse=True)
        gaps = cdist(nodes, nodes)
        limits = np.sort(gaps, axis=1)[:, [min(10, len(nodes) - 1)]]
        gaps[gaps > limits * (1 + 1e-6)] = np.inf
        paths = shortest_path(gaps, method="FW", directed=False)
        places = places.ravel()
        return paths[places[len(anchors) :]][:, places[: len(anchors)]]
    return cdist(X, anchors, "cityblock" if metric == "manhattan" else metric)


def degenerate(case):
    """Return a space, and anchors in it, of an awkward kind."""
    X = make_related_spaces(40, 1 if case == "one feature" else 5, random_state=0).X_a
    if case == "constant column":
        X[:, 1] = 7.0
    if case == "zero row":
        X[20] = 0.0
    if case == "duplicate rows":
        X[10:30] = X[:20]
    if case == "one row":
        return X[:1], [0]
    return X, [3] if case == "one anchor" else np.arange(10)


@pytest.mark.grid
@pytest.mark.parametrize("metric", METRIC_NAMES)
@pytest.mark.parametrize("pre", [None, *sorted(PRE)])
@pytest.mark.parametrize("post", [None, *sorted(POST)])
@pytest.mark.parametrize(
    "case",
    [
        "constant column",
        "duplicate rows",
        "one anchor",
        "one feature",
        "one row",
        "zero row",
    ],
)
def test_degenerate_input_is_right_or_told_of(metric, pre, post, case):
    """The naive formula where it is defined; else an error or a warning, never NaN."""
    X, anchors = degenerate(case)
    projector = RelativeProjector(metric=metric, pre=pre, post=post, anchors=anchors)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            output = projector.fit(X).transform(X)
        except ValueError as error:
            refused = str(error)
        else:
            refused = None
    if refused is not None:
        assert case.startswith("one")
        assert "=1" in refused or "got 1" in refused
        return
    mapped = X if projector.pre_ is None else projector.pre_.transform(X)
    with np.errstate(all="ignore"):
        expected = naive(metric, mapped, mapped[anchors])
    assert np.isfinite(output).all()
    assert told or np.isfinite(expected).all()
    if post is None:
        right = np.isclose(output, expected, atol=1e-7)
        assert (right | ~np.isfinite(expected)).all()
    elif post in ("layer", "l2"):
        lost = np.ptp(expected, axis=1) if post == "layer" else abs(expected).max(1)
        assert (output.any(axis=1) | (lost < 1e-7) | np.isnan(lost)).all()


def test_one_anchor_cannot_be_layer_normalised(X):
    """One value minus its mean is 0: an error instead of a column of zeros."""
    with pytest.raises(ValueError, match="post='layer' needs at least 2 anchors"):
        RelativeProjector(1, post="layer").fit(X)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_an_anchor_is_at_distance_zero_from_itself_in_float32(offset):
    """Exactly, also where the data sits far from the origin."""
    X = np.random.default_rng(0).standard_normal((50, 64)).astype(np.float32) + offset
    X = X.astype(np.float32)
    for metric in ("euclidean", "sqeuclidean", "manhattan", "chebyshev"):
        output = RelativeProjector(metric=metric, anchors="all").fit_transform(X)
        np.testing.assert_array_equal(np.diag(output), 0)
        assert (output[~np.eye(50, dtype=bool)] > 0).all()


def test_values_beyond_the_dtype_are_an_error(X):
    """Not inf, not NaN: a message."""
    big = (X * 1e30).astype(np.float32)
    projector = RelativeProjector(10, metric="sqeuclidean", random_state=0)
    with pytest.raises(ValueError, match="not finite in float32"):
        projector.fit(X.astype(np.float32)).transform(big)


def test_zero_rows_are_told_of(X):
    """A row without direction has no cosine: 0 by convention, with a warning."""
    projector = RelativeProjector(10, random_state=0).fit(X)
    with pytest.warns(UserWarning, match="'cosine' is undefined for zero rows"):
        output = projector.transform(np.zeros((2, 5)))
    np.testing.assert_array_equal(output, 0)


# --- dtypes, blocks, jobs ----------------------------------------------------------


@pytest.mark.parametrize("metric", METRIC_NAMES)
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_float32_stays_float32(metric, n_jobs, X):
    """The dtype of the output is that of the rows, whatever the anchors' dtype."""
    projector = RelativeProjector(
        20, metric=metric, pre="center", post="layer", random_state=0, n_jobs=n_jobs
    )
    double = projector.fit(X).transform(X)
    assert double.dtype == np.float64
    assert projector.transform(X.astype(np.float32)).dtype == np.float32
    single = projector.fit(X.astype(np.float32)).transform(X.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, atol=2e-4)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, bool, np.float16])
def test_other_numbers_become_float64(dtype):
    """Integers and halves are widened block by block."""
    X = np.random.default_rng(0).integers(0, 2, (30, 6)).astype(dtype)
    X[:, 0] = 1
    output = RelativeProjector(5, random_state=0).fit_transform(X)
    assert output.dtype == np.float64
    expected = RelativeProjector(5, random_state=0).fit_transform(X.astype(float))
    np.testing.assert_array_equal(output, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("metric", METRIC_NAMES)
def test_n_jobs_never_changes_a_bit(metric, dtype, big):
    """1, 2 and all processors give the same bytes, over many blocks."""
    big = big.astype(dtype)
    projector = RelativeProjector(
        50, metric=metric, pre="center", post="standardize", random_state=0
    ).fit(big)
    assert projector._block_rows(big) < 500
    outputs = [
        projector.set_params(n_jobs=n_jobs).transform(big).tobytes()
        for n_jobs in (None, 1, 2, -1)
    ]
    assert len(set(outputs)) == 1


def test_the_threads_of_the_blas_never_change_a_bit():
    """Over many blocks each is the work of one thread, whatever the machine has."""
    X = np.random.default_rng(0).standard_normal((4000, 256)).astype(np.float32)
    projector = RelativeProjector(200, random_state=0, n_jobs=2).fit(X)
    outputs = []
    for limit in (1, 2):
        with threadpool_limits(limit, user_api="blas"):
            outputs.append(projector.transform(X).tobytes())
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("metric", METRIC_NAMES)
def test_the_size_of_blocks_changes_rounding_at_most(metric, big):
    """Bound: 64 rounding errors of float64, relative to the largest value."""
    projector = RelativeProjector(50, metric=metric, random_state=0).fit(big)
    one = projector.transform(big)
    with config_context(working_memory=0.005):
        assert projector._block_rows(big) < 10
        other = projector.transform(big)
    bound = 64 * np.finfo(np.float64).eps * np.abs(one).max()
    assert np.abs(one - other).max() <= bound


def test_transform_does_not_depend_on_the_batch(big):
    """Each row alone is what it is among others, to rounding."""
    projector = RelativeProjector(50, pre="standardize", post="layer", random_state=0)
    together = projector.fit(big).transform(big[:50])
    alone = np.vstack([projector.transform(row[None]) for row in big[:50]])
    np.testing.assert_allclose(together, alone, atol=1e-12)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_with_a_seed_the_global_generator_is_left_alone(strategy, X, y):
    """Not a single number is drawn from numpy's global generator."""
    before = np.random.get_state(legacy=False)
    RelativeProjector(10, anchors=strategy, random_state=0).fit(X, y).transform(X)
    after = np.random.get_state(legacy=False)
    np.testing.assert_array_equal(after["state"]["key"], before["state"]["key"])
    assert after["state"]["pos"] == before["state"]["pos"]


@pytest.mark.parametrize("pre", [None, *sorted(PRE), StandardScaler(copy=False)])
def test_x_is_never_written_to(pre, X):
    """Also where a transformer of one's own would write into its input."""
    before = X.copy()
    projector = RelativeProjector(
        10, pre=pre, post=StandardScaler(copy=False), random_state=0
    )
    projector.fit(X).transform(X)
    projector.rebase(X[:10])
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("metric", InvariantAggregator().metrics)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_memory_is_bounded_however_many_rows(metric, dtype):
    """Beyond the output less than 64 MiB, of which a copy of X would take more."""
    X = np.ones((300_000, 128), dtype=dtype)
    X[:, 0] = np.arange(300_000) % 100
    projector = RelativeProjector(8, metric=metric, random_state=0, n_jobs=2)
    projector.fit(X[:1000])
    assert X.nbytes > 64 * 2**20
    tracemalloc.start()
    output = projector.transform(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - output.nbytes < 64 * 2**20


def test_memory_mapped_rows(tmp_path, big):
    """A read-only memory map gives what an array gives."""
    path = tmp_path / "X.npy"
    np.save(path, big)
    mapped = np.load(path, mmap_mode="r")
    projector = RelativeProjector(50, random_state=0)
    expected = projector.fit_transform(big)
    np.testing.assert_array_equal(projector.fit(mapped).transform(mapped), expected)


# --- sparse --------------------------------------------------------------------------


def sparse_space(n_samples, density):
    """Rows of 30 features, most of them 0."""
    rng = np.random.default_rng(0)
    return csr_array(
        rng.random((n_samples, 30)) * (rng.random((n_samples, 30)) < density)
    )


@pytest.mark.filterwarnings("ignore:metric .* is undefined for zero")
@pytest.mark.parametrize("container", [csr_matrix, csr_array])
@pytest.mark.parametrize("metric", SPARSE)
def test_sparse_rows_equal_dense_rows(metric, container):
    """CSR matrix and array give what the dense array gives."""
    X = sparse_space(80, density=0.2)
    dense = RelativeProjector(20, metric=metric, random_state=0)
    expected = dense.fit_transform(X.toarray())
    projector = clone(dense).fit(container(X))
    output = projector.transform(container(X))
    assert isinstance(output, np.ndarray)
    np.testing.assert_allclose(output, expected, atol=1e-12)
    rebased = projector.rebase(container(X)[projector.anchor_indices_])
    np.testing.assert_array_equal(rebased.transform(container(X)), output)


@pytest.mark.parametrize("metric", SPARSE)
def test_sparse_rows_never_become_dense(metric):
    """A space of 16 GiB when dense needs less than 200 MiB."""
    rng = np.random.default_rng(0)
    columns = np.sort(rng.integers(0, 2**20, (2000, 4)), axis=1).ravel()
    row_starts = np.arange(0, 8001, 4)
    values = rng.standard_normal(8000)
    X = csr_array((values, columns, row_starts), shape=(2000, 2**20))
    projector = RelativeProjector(5, metric=metric, random_state=0)
    tracemalloc.start()
    output = projector.fit_transform(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert output.shape == (2000, 5)
    assert peak < 200 * 2**20


@pytest.mark.parametrize("metric", sorted(set(METRIC_NAMES) - set(SPARSE)))
def test_other_metrics_refuse_sparse_rows_by_name(metric):
    """They would have to make the space dense, and say so."""
    X = sparse_space(20, density=0.2)
    with pytest.raises(TypeError, match=f"metric '{metric}' does not take sparse"):
        RelativeProjector(5, metric=metric).fit(X)


def test_pre_refuses_or_takes_sparse_rows():
    """Centring would fill the zeros; scaling does not."""
    X = sparse_space(20, density=0.5)
    with pytest.raises(TypeError, match="pre='center' does not take sparse"):
        RelativeProjector(5, pre="center").fit(X)
    scaled = RelativeProjector(5, pre=MaxAbsScaler(), random_state=0)
    expected = clone(scaled).fit_transform(X.toarray())
    np.testing.assert_allclose(scaled.fit_transform(X), expected, atol=1e-12)


# --- what is refused ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"metric": "cosinus"}, ValueError, "metric must be one of.*got 'cosinus'"),
        ({"metric": 3}, TypeError, "metric must be one of.*got 3"),
        ({"metric_params": {"q": 3}}, TypeError, "'cosine' does not take"),
        ({"metric_params": 3}, TypeError, "metric_params must be a dict.*got 3"),
        ({"pre": "scale"}, ValueError, "pre must be one of.*got 'scale'"),
        ({"post": "scale"}, ValueError, "post must be one of.*got 'scale'"),
        ({"post": object()}, TypeError, "post must be one of"),
        ({"anchors": "best"}, ValueError, "anchors must be one of.*got 'best'"),
        ({"anchors": [0, 60]}, ValueError, r"anchors must lie in.*got \[60\]"),
        ({"anchors": [1, 1]}, ValueError, r"distinct; got repeated \[1\]"),
        ({"anchors": [0.5]}, TypeError, "integer row indices.*float64"),
        ({"anchors": None}, (TypeError, ValueError), "anchors must be"),
        ({"n_anchors": 0}, ValueError, "n_anchors must be.*got 0"),
        ({"n_anchors": 2.5}, TypeError, "n_anchors must be.*got 2.5"),
        ({"n_anchors": True}, TypeError, "n_anchors must be.*got True"),
        ({"random_state": "x"}, ValueError, "seed"),
    ],
)
def test_nonsense_parameters_are_named(params, error, message, X):
    """What the parameter must be, and what was got."""
    with pytest.raises(error, match=message):
        RelativeProjector(**({"n_anchors": 5} | params)).fit(X)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.full((3, 5), np.nan), "contains NaN"),
        (np.full((3, 5), np.inf), "contains infinity"),
        (np.zeros((3, 4)), "X has 4 features, but RelativeProjector is expecting 5"),
        (np.zeros(5), "Expected 2D array"),
        (np.zeros((0, 5)), "0 sample"),
        (np.zeros((3, 5), dtype=complex), "Complex data not supported"),
        (np.array([["a"] * 5]), "could not convert string|dtype='numeric'"),
        (np.zeros((3, 5, 1)), "dim 3|3 dim"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nonsense_rows_are_refused(rows, message, X):
    """By scikit-learn's own checks, at transform and at rebase."""
    projector = RelativeProjector(3, random_state=0).fit(X)
    with pytest.raises(ValueError, match=message):
        projector.transform(rows)
    if "features" not in message:
        with pytest.raises(ValueError, match=message):
            projector.rebase(rows)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_value_in_the_last_block_is_found(bad, big):
    """Rows are looked at block by block, each of them."""
    projector = RelativeProjector(20, random_state=0, n_jobs=2).fit(big)
    big[-1, -1] = bad
    with pytest.raises(ValueError, match="Input X contains"):
        projector.transform(big)


def test_another_library_than_the_fitted_one_is_refused(X):
    """Rows must come from the library of the anchors."""
    torch = pytest.importorskip("torch")
    projector = RelativeProjector(5, random_state=0).fit(X)
    with (
        config_context(array_api_dispatch=True),
        pytest.raises(ValueError, match="must use the same namespace"),
    ):
        projector.transform(torch.asarray(X))


def test_a_metric_for_numpy_alone_says_so(X):
    """Mahalanobis has no array API path."""
    xp = pytest.importorskip("array_api_strict")
    with (
        config_context(array_api_dispatch=True),
        pytest.raises(TypeError, match="needs NumPy input; got array_api_strict"),
    ):
        RelativeProjector(10, metric="mahalanobis").fit(xp.asarray(X))


def test_a_metric_that_returns_nan_is_caught(X):
    """A metric of one's own is checked too."""

    def broken(X, anchors):
        return np.full((len(X), len(anchors)), np.nan)

    with pytest.raises(ValueError, match="not finite"):
        RelativeProjector(5, metric=broken).fit(X)


# --- as scikit-learn has it ---------------------------------------------------------


def test_feature_names_carry_metric_and_row(X):
    """Names tell which anchor a column belongs to."""
    projector = RelativeProjector(metric="chebyshev", anchors=[17, 4]).fit(X)
    assert projector.get_feature_names_out().tolist() == [
        "chebyshev_anchor17",
        "chebyshev_anchor4",
    ]
    named = RelativeProjector(
        anchors=[0], metric=Metric("mine", METRICS["inner"].function)
    )
    assert named.fit(X).get_feature_names_out().tolist() == ["mine_anchor0"]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_in_and_out(library, X):
    """Frames keep float32, and set_output gives frames with our names."""
    frames = pytest.importorskip(library)
    columns = [f"x{i}" for i in range(5)]
    values = {c: X[:, i].astype(np.float32) for i, c in enumerate(columns)}
    frame = frames.DataFrame(values)
    projector = RelativeProjector(4, random_state=0).set_output(transform=library)
    output = projector.fit_transform(frame)
    assert isinstance(output, frames.DataFrame)
    assert list(output.columns) == list(projector.get_feature_names_out())
    assert projector.feature_names_in_.tolist() == columns
    assert output.to_numpy().dtype == np.float32
    rebased = projector.rebase(
        frame[projector.anchor_indices_.tolist()]
        if library == "polars"
        else frame.iloc[projector.anchor_indices_]
    )
    np.testing.assert_array_equal(
        rebased.transform(frame).to_numpy(), output.to_numpy()
    )


def test_global_output_does_not_leak_inside(X):
    """Both get arrays even where the user wants frames everywhere."""
    pytest.importorskip("pandas")
    projector = RelativeProjector(4, pre="standardize", post="layer", random_state=0)
    expected = projector.fit_transform(X)
    set_config(transform_output="pandas")
    try:
        output = clone(projector).fit_transform(X)
    finally:
        set_config(transform_output="default")
    np.testing.assert_array_equal(output.to_numpy(), expected)


@pytest.mark.parametrize("metric", METRIC_NAMES)
def test_pickles_give_the_same_bytes(metric, X):
    """Through pickle and back, nothing changes."""
    projector = RelativeProjector(10, metric=metric, pre="whiten", post="layer")
    projector.fit(X)
    copy = pickle.loads(pickle.dumps(projector))
    np.testing.assert_array_equal(copy.transform(X), projector.transform(X))
    assert copy.invariances_ == projector.invariances_


@pytest.mark.parametrize("pre", [None, *sorted(PRE)])
@pytest.mark.parametrize("post", [None, *sorted(POST)])
def test_skops_gives_the_same_bytes(pre, post, X):
    """Through skops and back; only types of ours and of scikit-learn are in it."""
    io = pytest.importorskip("skops.io")
    projector = RelativeProjector(10, pre=pre, post=post, metric="mahalanobis").fit(X)
    dumped = io.dumps(projector)
    untrusted = io.get_untrusted_types(data=dumped)
    assert all(name.startswith("skinvariant.") for name in untrusted)
    loaded = io.loads(dumped, trusted=untrusted)
    np.testing.assert_array_equal(loaded.transform(X), projector.transform(X))


def test_metadata_routing_leaves_sample_weight_to_the_head(X, y):
    """In a pipeline with routing on, weights reach the head and change it."""
    with config_context(enable_metadata_routing=True):
        head = LogisticRegression().set_fit_request(sample_weight=True)
        model = make_pipeline(RelativeProjector(10, random_state=0), head)
        weighted = clone(model).fit(X, y, sample_weight=np.where(y == 0, 9.0, 0.1))
        assert not np.allclose(model.fit(X, y)[1].coef_, weighted[1].coef_)


@pytest.mark.parametrize("estimator", [RelativeProjector(), InvariantAggregator()])
def test_the_html_repr_links_to_our_docs(estimator):
    """And not to scikit-learn's."""
    name = type(estimator).__name__
    link = f"https://skinvariant.readthedocs.io/en/stable/generated/skinvariant.{name}.html"
    assert link in estimator._repr_html_()


# --- back from the relative space -----------------------------------------------

LENGTHS_KEPT = ["change_of_basis", "euclidean", "inner", "sqeuclidean"]
UNDONE = [None, "center", "standardize", "whiten", StandardScaler(), PCA()]


@pytest.mark.parametrize("post", [None, "standardize", PCA()], ids=repr)
@pytest.mark.parametrize("pre", UNDONE, ids=repr)
@pytest.mark.parametrize("metric", LENGTHS_KEPT)
def test_rows_come_back(metric, pre, post, X):
    """Where the anchors span the space, the very rows, through pre and post."""
    projector = RelativeProjector(20, metric=metric, pre=pre, post=post, random_state=0)
    values = projector.fit(X).transform(X)
    np.testing.assert_allclose(
        projector.inverse_transform(values, alpha=0), X, atol=1e-8
    )


@pytest.mark.parametrize("pre", UNDONE, ids=repr)
def test_directions_come_back_from_cosines(pre, X):
    """Lengths are lost: rows come back at the anchors' mean length, as pre sees it."""
    projector = RelativeProjector(20, pre=pre, random_state=0).fit(X)
    back = projector.inverse_transform(projector.transform(X), alpha=0)
    see = (lambda X: X) if pre is None else projector.pre_.transform
    length = np.linalg.norm(see(projector.anchors_), axis=1).mean()
    expected = length * Normalizer().fit_transform(see(X))
    np.testing.assert_allclose(see(back), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("metric", "pre", "transformation"),
    [
        ("cosine", None, "orthogonal"),
        ("inner", None, "orthogonal"),
        ("euclidean", None, ["orthogonal", "translation"]),
        ("sqeuclidean", "center", ["orthogonal", "translation"]),
        ("change_of_basis", None, "linear"),
        ("change_of_basis", "center", "affine"),
        ("inner", "whiten", ["orthogonal", "isotropic_scaling", "translation"]),
    ],
)
def test_rows_of_another_encoder_become_rows_of_the_first(metric, pre, transformation):
    """What the metric does not see is undone: no training, and the widths differ."""
    wide = 12 if pre != "whiten" else 8  # of fewer directions another number is left
    spaces = make_related_spaces(
        transformation=transformation, n_features_b=wide, random_state=0
    )
    projector = RelativeProjector(20, metric=metric, pre=pre, random_state=0)
    rebased = projector.fit(spaces.X_a).rebase(spaces.X_b[projector.anchor_indices_])
    found = projector.inverse_transform(rebased.transform(spaces.X_b), alpha=0)
    expected = spaces.X_a
    if metric == "cosine":
        length = np.linalg.norm(projector.anchors_, axis=1).mean()
        expected = length * Normalizer().fit_transform(expected)
    np.testing.assert_allclose(found, expected, atol=1e-8)


@pytest.mark.parametrize("metric", ["cosine", "inner", "euclidean", "sqeuclidean"])
@pytest.mark.parametrize("alpha", [1e-3, 1.0])
def test_the_penalty_is_in_units_of_the_mean_squared_norm_of_the_anchors(
    metric, alpha, X
):
    """Against scikit-learn's ridge on the products that the metric stands for."""
    projector = RelativeProjector(20, metric=metric, random_state=0).fit(X)
    anchors = X[projector.anchor_indices_]
    mean = anchors.mean(axis=0) if metric.endswith("euclidean") else 0
    frame, rows = anchors - mean, X - mean
    if metric == "cosine":
        frame = Normalizer().fit_transform(frame)
        rows = Normalizer().fit_transform(rows)
    products = frame @ rows.T
    if metric.endswith("euclidean"):  # distances tell products but for a constant
        products = products - products.mean(axis=0)
    penalty = alpha * np.mean(np.sum(frame**2, axis=1))
    expected = Ridge(penalty, fit_intercept=False).fit(frame, products).coef_
    if metric == "cosine":
        length = np.linalg.norm(anchors, axis=1).mean()
        expected = length * Normalizer().fit_transform(expected)
    found = projector.inverse_transform(projector.transform(X), alpha=alpha)
    np.testing.assert_allclose(found, expected + mean, atol=1e-9)


def test_coordinates_put_together_in_another_space_are_ridge_regression():
    """The penalty of change_of_basis, and rows of the other encoder's anchors."""
    spaces = make_related_spaces(n_features_b=12, noise=0.3, random_state=0)
    params = {"alpha": 0.1}
    projector = RelativeProjector(
        20, metric="change_of_basis", metric_params=params, random_state=0
    ).fit(spaces.X_a)
    anchors = spaces.X_b[projector.anchor_indices_]
    penalty = 0.1 * np.mean(np.sum(anchors**2, axis=1))
    ridge = Ridge(penalty, fit_intercept=False).fit(anchors, projector.anchors_)
    values = projector.rebase(anchors).transform(spaces.X_b)
    found = projector.inverse_transform(values)
    np.testing.assert_allclose(found, ridge.predict(spaces.X_b), atol=1e-9)


@pytest.mark.parametrize("metric", LENGTHS_KEPT)
def test_few_anchors_give_what_they_span(metric, X):
    """The anchors themselves, and of other rows the part in the anchors' span."""
    projector = RelativeProjector(3, metric=metric, random_state=0).fit(X)
    anchors = projector.anchors_
    shift = anchors.mean(axis=0) if metric.endswith("euclidean") else 0
    span = np.linalg.pinv(anchors - shift, rcond=1e-10) @ (anchors - shift)
    found = projector.inverse_transform(projector.transform(X), alpha=0)
    np.testing.assert_allclose(found, (X - shift) @ span + shift, atol=1e-9)


@pytest.mark.parametrize("metric", LENGTHS_KEPT)
def test_dependent_columns_come_back(metric, X):
    """A direction in which anchors vary by rounding alone is none."""
    X = np.column_stack([X, X @ np.arange(1.0, 6.0), X[:, 0] / 3])
    projector = RelativeProjector(20, metric=metric, random_state=0).fit(X)
    found = projector.inverse_transform(projector.transform(X), alpha=0)
    np.testing.assert_allclose(found, X, atol=1e-9)


@pytest.mark.parametrize("metric", [*LENGTHS_KEPT, "cosine"])
@pytest.mark.parametrize("pre", [None, "whiten"])
def test_the_way_back_keeps_float32(metric, pre, X):
    """Nearly the same rows, in float32."""
    projector = RelativeProjector(20, metric=metric, pre=pre, random_state=0).fit(X)
    expected = projector.inverse_transform(projector.transform(X))
    narrow = clone(projector).fit(X.astype(np.float32))
    found = narrow.inverse_transform(narrow.transform(X.astype(np.float32)))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_the_way_back_from_sparse_anchors(X):
    """Anchors that are sparse give dense rows."""
    projector = RelativeProjector(20, metric="inner", random_state=0).fit(csr_array(X))
    values = projector.transform(csr_array(X))
    np.testing.assert_allclose(
        projector.inverse_transform(values, alpha=0), X, atol=1e-9
    )


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"metric": "manhattan"}, "needs a metric of .*got 'manhattan'"),
        ({"metric": np.dot}, "needs a metric of"),
        ({"metric": Metric("inner", np.dot)}, "needs a metric of"),
        ({"metric": "nonsense"}, "metric must be one of"),
        ({"post": "layer"}, "needs post to be None, .*layer_normalize"),
        ({"post": "l2"}, "needs post to be .*l2_normalize"),
        ({"pre": Normalizer()}, "needs pre to be .*Normalizer"),
    ],
)
def test_where_there_is_no_way_back_it_is_said(params, reason):
    """Neither hasattr nor a call promises what cannot be done."""
    projector = RelativeProjector(20, **params)
    assert not hasattr(projector, "inverse_transform")
    with pytest.raises(AttributeError, match="has no attribute") as caught:
        projector.inverse_transform([[1.0]])
    assert re.search(reason, str(caught.value.__cause__), re.DOTALL)


def test_the_aggregator_has_no_way_back():
    """Several relative spaces made one are not taken apart."""
    assert not hasattr(InvariantAggregator(), "inverse_transform")


def test_parameters_set_after_fit_do_not_change_the_way_back(X):
    """It is that of the fitted metric, until the next fit."""
    projector = RelativeProjector(20, metric="euclidean", random_state=0).fit(X)
    values = projector.transform(X)
    projector.set_params(metric="manhattan", post="layer")
    np.testing.assert_allclose(
        projector.inverse_transform(values, alpha=0), X, atol=1e-9
    )
    projector = RelativeProjector(20, metric="manhattan", random_state=0).fit(X)
    assert not hasattr(projector.set_params(metric="cosine"), "inverse_transform")


@pytest.mark.parametrize("scale", [1e-200, 1e-160, 1e160, 1e200])
def test_distances_of_any_scale_come_back(scale, X):
    """Neither squares of distances nor of anchors leave the range of the dtype."""
    projector = RelativeProjector(20, metric="euclidean", random_state=0)
    values = projector.fit_transform(X * scale)
    found = projector.inverse_transform(values, alpha=0)
    np.testing.assert_allclose(found / scale, X, atol=1e-9)


@pytest.mark.parametrize("n_anchors", [40, 100])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_default_penalty_finds_the_rows_of_a_noisy_encoder(metric, n_anchors):
    """At most a fifth of the variance is missed; with no penalty all of it, or more."""
    spaces = make_related_spaces(400, 40, n_features_b=60, noise=0.5, random_state=0)
    projector = RelativeProjector(
        n_anchors, metric=metric, pre="center", random_state=0
    ).fit(spaces.X_a)
    rebased = projector.rebase(spaces.X_b[projector.anchor_indices_])
    values = rebased.transform(spaces.X_b)

    def missed(**params):
        gaps = projector.inverse_transform(values, **params) - spaces.X_a
        return np.mean(gaps**2) / spaces.X_a.var(axis=0).mean()

    assert missed() < 0.2
    assert missed(alpha=0) > 1


def test_mistakes_on_the_way_back(X):
    """A wrong width, a negative penalty, no fit."""
    projector = RelativeProjector(20, random_state=0)
    with pytest.raises(NotFittedError):
        projector.inverse_transform(X)
    projector.fit(X)
    with pytest.raises(ValueError, match=r"X has 5 features, but .* of 20 features"):
        projector.inverse_transform(X)
    with pytest.raises(ValueError, match="alpha must be a real number"):
        projector.inverse_transform(projector.transform(X), alpha=-1)


# --- a metric along rows of the space ---------------------------------------------


@pytest.fixture
def along():
    """A fitted projector whose metric needs rows, and the other space."""
    spaces = make_related_spaces(150, 5, random_state=0)
    projector = RelativeProjector(20, metric="geodesic", random_state=0)
    return projector.fit(spaces.X_a), spaces


def test_rows_of_both_spaces(along):
    """The metric gets those of fit and of rebase, in any order, after `pre`."""
    projector, spaces = along
    X_a, X_b, indices = spaces.X_a, spaces.X_b, projector.anchor_indices_
    expected = METRICS["geodesic"].function(X_a, X_a[indices], X_a)
    np.testing.assert_allclose(projector.transform(X_a), expected, rtol=1e-12)
    others = np.setdiff1d(np.arange(150), indices)
    for rows in (X_b, X_b[::-1], X_b[others], X_b.tolist()):
        rebased = projector.rebase(X_b[indices], X=rows)
        np.testing.assert_allclose(rebased.transform(X_b), expected, rtol=1e-10)
    product = InvariantAggregator(
        metrics=("cosine", "geodesic"), pre="center", anchors=indices, post=None
    )
    product.fit(X_a)
    rebased = product.rebase(3 * X_b[indices], X=3 * X_b)
    np.testing.assert_allclose(product.transform(X_a)[:, 20:], expected, rtol=1e-10)
    np.testing.assert_allclose(rebased.transform(3 * X_b)[:, 20:], 3 * expected)


def test_anchors_given_as_rows_are_part_of_the_graph(along):
    """They need not be among the rows of fit."""
    projector, spaces = along
    given = RelativeProjector(metric="geodesic", anchors=projector.anchors_)
    values = given.fit(spaces.X_a[20:]).transform(projector.anchors_)
    np.testing.assert_array_equal(np.diag(values), 0)
    expected = METRICS["geodesic"].function(
        projector.anchors_, projector.anchors_, spaces.X_a[20:]
    )
    np.testing.assert_array_equal(values, expected)


def test_pre_may_round_equal_rows_in_different_ways():
    """By a matrix product the anchors, and the same rows among others, differ."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 150)) @ rng.standard_normal((150, 150))
    turned = X @ np.linalg.qr(rng.standard_normal((150, 150)))[0]
    projector = RelativeProjector(200, metric="geodesic", pre="whiten", random_state=0)
    expected = projector.fit(X).transform(X)
    indices = projector.anchor_indices_
    for rows in (X, X[::-1], np.vstack([X[7:], X, X[5:]]), np.delete(X, indices, 0)):
        values = projector.rebase(X[indices], X=rows).transform(X)
        np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-9)
    values = projector.rebase(turned[indices], X=turned).transform(turned)
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-9)
    alone = projector.rebase(X[indices], X=X[indices]).transform(X[indices])
    np.testing.assert_allclose(np.diag(alone), 0, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda X: None,
            ValueError,
            r"X must be unlabelled rows .*geodesic.* got None",
        ),
        (lambda X: X[:, 1:], ValueError, "X has 4 features, but .* expecting 5"),
        (lambda X: np.where(X[3, 3] == X, np.nan, X), ValueError, "X contains NaN"),
        (lambda X: X[:0], ValueError, "0 sample"),
        (csr_array, TypeError, "geodesic.* does not take sparse"),
    ],
)
def test_rows_that_are_missing_or_wrong(along, change, error, message):
    """They are refused, and so are rows that no metric needs."""
    projector, spaces = along
    anchors = spaces.X_b[projector.anchor_indices_]
    with pytest.raises(error, match=message):
        projector.rebase(anchors, X=change(spaces.X_b))
    plain = RelativeProjector(20, random_state=0).fit(spaces.X_a)
    with pytest.raises(TypeError, match=r"X must be None.* got rows .*cosine"):
        plain.rebase(anchors, X=spaces.X_b)


def test_of_many_rows_some_are_drawn(along, monkeypatch):
    """The same of every space, whatever the seed, so that all is as of these."""
    projector, spaces = along
    monkeypatch.setattr(_graphs, "MOST_ROWS", 60)
    drawn = _graphs.rows_of_graph(150)
    assert len({*drawn.tolist()}) == 60
    assert drawn.max() > 130
    X_a, X_b, indices = spaces.X_a, spaces.X_b, projector.anchor_indices_
    expected = METRICS["geodesic"].function(X_a, X_a[indices], X_a[drawn])
    state = np.random.get_state()[1].copy()
    fitted = clone(projector).fit(X_a)
    np.testing.assert_allclose(fitted.transform(X_a), expected, rtol=1e-12)
    rebased = fitted.rebase(X_b[indices], X=X_b)
    np.testing.assert_allclose(rebased.transform(X_b), expected, rtol=1e-10)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_a_saved_projector_keeps_its_paths(along, tmp_path):
    """The file needs no more types than others, and values have the same bits."""
    pytest.importorskip("skops")
    projector, spaces = along
    save(projector, tmp_path / "model.skops")
    loaded, X = load(tmp_path / "model.skops"), spaces.X_a[:30] + 0.1
    np.testing.assert_array_equal(loaded.transform(X), projector.transform(X))
    anchors = spaces.X_b[projector.anchor_indices_]
    pairs = [each.rebase(anchors, X=spaces.X_b) for each in (loaded, projector)]
    new, expected = (each.transform(spaces.X_b) for each in pairs)
    np.testing.assert_array_equal(new, expected)
