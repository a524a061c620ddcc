"""The promise of `invariances_`, both ways, generated from what the code declares.

For every combination of registry metric, pre and post, and every class of
transformations: where the class is declared the relative space stays, where it is not
there is a transformation of that class that moves it.  No entry is written by hand.
"""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from skinvariant import InvariantAggregator, RelativeProjector, stitch
from skinvariant.datasets import make_related_spaces
from skinvariant.metrics import METRICS, TRANSFORMATIONS, Metric, euclidean
from skinvariant.relative._steps import POST, PRE

# rounding errors of float64 and float32 that a declared invariance may cost: the maps
# have condition numbers up to 16, whitening and bases about as much again
TOLERANCE = {np.float64: 2**10, np.float32: 2**9}
# what a broken invariance moves, relative to the largest value
MOVED = 0.05
COMBINATIONS = list(
    itertools.product(sorted(METRICS), [None, *sorted(PRE)], [None, *sorted(POST)])
)
PROPERTY = settings(max_examples=3, deadline=None, derandomize=True, database=None)
# (n_anchors, n_features): anchors that span the space, and anchors that do not
SHAPES = [(30, 5), (6, 8)]
seeds = st.integers(0, 2**32 - 1)


def rows_for(fitted, X):
    """Return the rows that `rebase` needs beside the anchors, or None."""
    return X if any(metric.needs_rows for metric, _ in fitted._metrics) else None


def check_promise(estimator, seed, shape, dtype=np.float64):
    """Check every class of transformations for the space of one seed."""
    n_anchors, n_features = shape

    @functools.cache
    def fit(seed):
        """Fit to the first space of a pair, which depends on the seed alone."""
        X = make_related_spaces(60, n_features, random_state=seed).X_a
        fitted = clone(estimator).set_params(n_anchors=n_anchors, random_state=seed)
        fitted.fit(X.astype(dtype))
        return X, fitted, fitted.transform(X.astype(dtype))

    def moved_by(transformation, seed):
        """Return how far the transformation moves the relative space."""
        X, fitted, own = fit(seed)
        spaces = make_related_spaces(
            60, n_features, transformation=transformation, random_state=seed
        )
        assert np.array_equal(spaces.X_a, X)
        X_b = spaces.X_b.astype(dtype)
        anchors, rows = X_b[fitted.anchor_indices_], rows_for(fitted, X_b)
        other = fitted.rebase(anchors, X=rows).transform(X_b)
        return np.abs(own - other).max() / np.abs(own).max()

    for transformation in TRANSFORMATIONS:
        moved = moved_by(transformation, seed)
        if transformation in fit(seed)[1].invariances_:
            assert moved <= TOLERANCE[dtype] * np.finfo(dtype).eps, transformation
            continue
        # a transformation of the class that moves it: one of five will do
        others = (moved_by(transformation, seed ^ i) for i in range(1, 5))
        assert moved > MOVED or any(m > MOVED for m in others), transformation


@pytest.mark.grid(strength=3)
@pytest.mark.parametrize("shape", SHAPES, ids=["spanning", "not spanning"])
@pytest.mark.parametrize(("metric", "pre", "post"), COMBINATIONS)
@given(seed=seeds)
@PROPERTY
def test_declared_holds_and_undeclared_breaks(metric, pre, post, shape, seed):
    """A declared class leaves the relative space; an undeclared one moves it."""
    projector = RelativeProjector(metric=metric, pre=pre, post=post)
    check_promise(projector, seed, shape)


@pytest.mark.grid
@pytest.mark.parametrize(("metric", "pre", "post"), COMBINATIONS)
@given(seed=seeds)
@PROPERTY
def test_the_promise_holds_in_float32(metric, pre, post, seed):
    """The same, to the tolerance of single precision."""
    projector = RelativeProjector(metric=metric, pre=pre, post=post)
    check_promise(projector, seed, SHAPES[0], np.float32)


@pytest.mark.parametrize(
    ("metric", "params"),
    [
        ("minkowski", {"p": 1}),
        ("minkowski", {"p": 3.5}),
        ("minkowski", {"p": np.inf}),
        ("mahalanobis", {"shrinkage": 0.3}),
        ("mahalanobis", {"shrinkage": 1}),
        ("change_of_basis", {"alpha": 0.5}),
        ("geodesic", {"n_neighbors": 3}),
    ],
)
@given(seed=seeds)
@PROPERTY
def test_parameters_narrow_the_promise(metric, params, seed):
    """Where parameters take an invariance away, the fitted estimator says so."""
    projector = RelativeProjector(metric=metric, metric_params=params)
    check_promise(projector, seed, SHAPES[0])


@pytest.mark.parametrize("with_mean", [True, False])
@pytest.mark.parametrize("with_std", [True, False])
@pytest.mark.parametrize("metric", sorted(METRICS))
@given(seed=seeds)
@PROPERTY
def test_a_standard_scaler_object_is_understood(metric, with_mean, with_std, seed):
    """The promise follows the parameters of a StandardScaler given as pre."""
    pre = StandardScaler(with_mean=with_mean, with_std=with_std)
    check_promise(RelativeProjector(metric=metric, pre=pre), seed, SHAPES[0])


@pytest.mark.parametrize("aggregation", ["concat", "sum", "mean"])
@pytest.mark.parametrize("pre", [None, *sorted(PRE)])
@given(
    metrics=st.lists(
        st.sampled_from(sorted(METRICS)), min_size=1, max_size=4, unique=True
    ),
    seed=seeds,
)
@PROPERTY
def test_the_product_has_what_all_its_metrics_have(aggregation, pre, metrics, seed):
    """The promise of any product of registry metrics holds both ways."""
    aggregator = InvariantAggregator(
        metrics=tuple(metrics), pre=pre, aggregation=aggregation
    )
    check_promise(aggregator, seed, SHAPES[0])


@pytest.mark.parametrize("pre", [None, *sorted(PRE)])
@pytest.mark.parametrize("metric", sorted(METRICS))
@given(seed=seeds)
@PROPERTY
def test_constant_columns_are_taken_into_account(metric, pre, seed):
    """All that is declared holds where a column is constant in the anchors alone."""
    X_a = make_related_spaces(60, 5, random_state=seed).X_a
    X_a[:30, 2] = 1.0
    projector = RelativeProjector(anchors=np.arange(30), metric=metric, pre=pre)
    own = projector.fit(X_a).transform(X_a)
    bound = TOLERANCE[np.float64] * np.finfo(np.float64).eps * np.abs(own).max()
    assert "permutation" in projector.invariances_
    for transformation in sorted(projector.invariances_):
        spaces = make_related_spaces(
            60, 5, transformation=transformation, random_state=seed
        )
        X_b = X_a @ spaces.matrix + spaces.offset
        rows = rows_for(projector, X_b)
        other = projector.rebase(X_b[:30], X=rows).transform(X_b)
        assert np.abs(own - other).max() <= bound, transformation


def test_nothing_is_promised_for_a_pre_of_unknown_kind():
    """A pre of one's own may do anything, so nothing is promised."""
    pre = QuantileTransformer(n_quantiles=10)
    X = make_related_spaces(60, 5, random_state=0).X_a
    projector = RelativeProjector(30, pre=pre, random_state=0).fit(X)
    assert projector.invariances_ == frozenset()


def test_a_callable_promises_what_pre_takes_out():
    """Of an unknown function nothing is known but what pre removes before it."""
    X = make_related_spaces(60, 5, random_state=0).X_a
    bare = RelativeProjector(30, metric=euclidean, random_state=0).fit(X)
    assert bare.invariances_ == frozenset()
    standardized = RelativeProjector(
        30, metric=euclidean, pre="standardize", random_state=0
    )
    assert standardized.fit(X).invariances_ == {
        "isotropic_scaling",
        "axis_scaling",
        "translation",
    }
    declared = Metric("mine", euclidean, invariances=("orthogonal", "translation"))
    kept = RelativeProjector(30, metric=declared, random_state=0).fit(X)
    assert "signed_permutation" in kept.invariances_


@pytest.mark.grid
@pytest.mark.parametrize(("metric", "pre", "post"), COMBINATIONS)
@given(data=st.data())
@settings(PROPERTY, max_examples=2)
def test_stitched_predictions_are_equal_where_promised(metric, pre, post, data):
    """If B is a transformed A and the class is declared, no prediction changes."""
    spaces = make_related_spaces(60, 5, random_state=0)
    projector = RelativeProjector(20, metric=metric, pre=pre, post=post, random_state=0)
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    model = make_pipeline(projector, head).fit(spaces.X_a, spaces.y)
    transformation = data.draw(st.sampled_from(sorted(model[0].invariances_)))
    spaces_b = make_related_spaces(
        60, 5, transformation=transformation, random_state=data.draw(seeds)
    )
    X_b = spaces.X_a @ spaces_b.matrix + spaces_b.offset
    anchors = X_b[model[0].anchor_indices_]
    stitched = stitch(model, anchors, X=rows_for(model[0], X_b))
    np.testing.assert_allclose(
        model.predict_proba(spaces.X_a), stitched.predict_proba(X_b), atol=1e-6
    )
    np.testing.assert_array_equal(model.predict(spaces.X_a), stitched.predict(X_b))


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-6), (np.float32, 0.05)])
@pytest.mark.parametrize("pre", ["center", "standardize", "whiten"])
@pytest.mark.parametrize("metric", ["change_of_basis", "mahalanobis"])
def test_rounding_of_pre_is_no_direction(metric, pre, dtype, rtol):
    """Anchors that do not span the space vary by the rounding of what `pre` subtracts.

    In some of these spaces this is much more than the rounding of what is left.
    """
    tried = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        n_anchors, n_features = rng.integers(3, 10, 2)
        X = rng.standard_normal((60, n_features)) * 10.0 ** rng.uniform(
            -2, 2, n_features
        )
        if seed % 3 == 0:
            X[:, 0] = X[:, 1]
        far = 10.0 ** rng.uniform(0, 4 if dtype == np.float64 else 2)
        moved = X + far * rng.standard_normal(n_features)
        X, moved = X.astype(dtype), moved.astype(dtype)
        indices = np.arange(n_anchors)
        projector = RelativeProjector(metric=metric, pre=pre, anchors=indices).fit(X)
        values = projector.transform(X)
        rebased = projector.rebase(moved[:n_anchors]).transform(moved)
        if "translation" in projector.invariances_:
            tried += 1
            np.testing.assert_allclose(
                rebased, values, atol=rtol * np.abs(values).max()
            )
    assert tried > 10
