"""Diagnosis: the truth where it is known, and a choice that serves where it is not."""

import builtins
import dataclasses
import itertools
import re

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import orthogonal_procrustes
from sklearn.linear_model import LinearRegression, Ridge, RidgeClassifier
from sklearn.metrics import r2_score

from skinvariant import InvariantAggregator
from skinvariant.datasets import make_related_spaces
from skinvariant.diagnosis import (
    _CLASSES,
    Diagnosis,
    diagnose,
    shared_directions,
    stitched_agreement,
)
from skinvariant.metrics import TRANSFORMATIONS

SIMILARITY = ("orthogonal", "isotropic_scaling", "translation")
#: One quick choice, for tests of everything but the choice.
QUICK = {"metrics": ("cosine",), "pre": (None,), "post": ("layer",)}
#: Pairs of classes of which the second has all the maps of the first.
NESTED = [
    ("none", "isotropic_scaling"),
    ("none", "translation"),
    ("none", "permutation"),
    ("permutation", "signed_permutation"),
    ("permutation", "permutation+axis_scaling"),
    ("axis_scaling", "permutation+axis_scaling"),
    ("isotropic_scaling", "axis_scaling"),
    ("isotropic_scaling", "orthogonal+isotropic_scaling"),
    ("isotropic_scaling+translation", "axis_scaling+translation"),
    ("axis_scaling", "axis_scaling+translation"),
    ("signed_permutation", "orthogonal"),
    ("orthogonal", "orthogonal+isotropic_scaling"),
    ("orthogonal", "orthogonal+translation"),
    ("orthogonal+translation", "orthogonal+isotropic_scaling+translation"),
    ("orthogonal+isotropic_scaling", "orthogonal+isotropic_scaling+translation"),
    ("orthogonal+isotropic_scaling", "linear"),
    ("permutation+axis_scaling", "linear"),
    ("axis_scaling+translation", "affine"),
    ("orthogonal+isotropic_scaling+translation", "affine"),
    ("linear", "affine"),
]


def related(transformation="orthogonal", n_samples=300, seed=0, **params):
    """Two spaces that differ by a class of transformations."""
    spaces = make_related_spaces(
        n_samples, transformation=transformation, random_state=seed, **params
    )
    return spaces.X_a, spaces.X_b


def unrelated(seed, n=60, width_a=5, width_b=5):
    """Two spaces without relation."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, width_a)) + 1, rng.standard_normal((n, width_b)) - 2


def squares_left(name, X_a, X_b):
    """What the best map of a class leaves of the rows that it is fitted on."""
    return (_CLASSES[name].residuals((X_a, X_b), (X_a, X_b)) ** 2).sum()


# --- the transformation --------------------------------------------------------


@pytest.mark.parametrize("noise", [0, 0.05, 0.1])
@pytest.mark.parametrize("transformation", [*TRANSFORMATIONS, SIMILARITY])
def test_the_truth_is_found(transformation, noise):
    """The class that made the second space is named, in every draw."""
    names = [transformation] if isinstance(transformation, str) else transformation
    for seed in range(5):
        X_a, X_b = related(transformation, 400, seed, noise=noise)
        diagnosis = diagnose(X_a, X_b, **QUICK, random_state=seed)
        assert diagnosis.transformation == "+".join(names)
        assert diagnosis.transformations["+".join(names)] > 1 - 2 * noise**2 - 1e-9


@pytest.mark.parametrize("name", set(_CLASSES) - set(TRANSFORMATIONS) - {"none"})
def test_combinations_are_found(name):
    """Two or three classes at once are named as such."""
    X_a, X_b = related(name.split("+"), 400, noise=0.05)
    assert diagnose(X_a, X_b, **QUICK, random_state=0).transformation == name


@pytest.mark.parametrize("noise", [0, 0.05])
def test_no_transformation_at_all(noise):
    """An encoder and itself, or nearly, differ by nothing."""
    X_a, _ = related()
    X_b = X_a + noise * np.random.default_rng(0).standard_normal(X_a.shape)
    assert diagnose(X_a, X_b, **QUICK, random_state=0).transformation == "none"


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_rounding_is_no_transformation(dtype):
    """An encoder stored in fewer digits is the same encoder."""
    X_a, _ = related()
    diagnosis = diagnose(X_a, X_a.astype(dtype), **QUICK, random_state=0)
    assert diagnosis.transformation == "none"


@pytest.mark.parametrize("transformation", ["orthogonal", "linear", "affine"])
def test_wider_spaces(transformation):
    """A map into a wider space is found; classes that need equal widths are NaN."""
    X_a, X_b = related(transformation, 400, n_features_b=12, noise=0.05)
    diagnosis = diagnose(X_a, X_b, **QUICK, random_state=0)
    assert diagnosis.transformation == transformation
    missing = {k for k, v in diagnosis.transformations.items() if np.isnan(v)}
    kept = {name for name, value in _CLASSES.items() if value.any_width}
    assert missing == set(_CLASSES) - kept
    assert {"orthogonal", "orthogonal+translation", "linear", "affine"} <= kept


def test_a_narrower_space():
    """Axes that the new encoder does not have are left out: a projection."""
    X_a, X_b = related("orthogonal", 400, n_features_b=12)
    back = diagnose(X_b, X_a, **QUICK, random_state=0)
    assert back.transformation == "orthogonal"
    assert back.transformations["orthogonal"] > 1 - 1e-9


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("narrow", "wide"), NESTED)
def test_freer_classes_fit_better(narrow, wide, seed):
    """On the rows that it is fitted on, a class beats every class within it."""
    X_a, X_b = related("affine", 300, seed, noise=0.3)
    left = squares_left(wide, X_a, X_b)
    assert left <= squares_left(narrow, X_a, X_b) * (1 + 1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_permutations_are_the_best_of_all(seed):
    """No assignment of the axes, with signs or factors, leaves less: all are tried."""
    X_a, X_b = unrelated(seed, width_a=4, width_b=4)
    plain, signed, scaled = [], [], []
    for order in itertools.permutations(range(4)):
        moved = X_a[:, order]
        plain.append(((X_b - moved) ** 2).sum())
        factors = np.maximum(0, (moved * X_b).sum(axis=0) / (moved**2).sum(axis=0))
        scaled.append(((X_b - moved * factors) ** 2).sum())
        signed += [
            ((X_b - moved * signs) ** 2).sum()
            for signs in itertools.product([-1, 1], repeat=4)
        ]
    assert_allclose(squares_left("permutation", X_a, X_b), min(plain))
    assert_allclose(squares_left("signed_permutation", X_a, X_b), min(signed))
    assert_allclose(squares_left("permutation+axis_scaling", X_a, X_b), min(scaled))


def test_orthogonal_is_that_of_scipy():
    """The turn is scipy's solution of the orthogonal Procrustes problem."""
    X_a, X_b = unrelated(0)
    turn, _ = orthogonal_procrustes(X_a, X_b)
    assert_allclose(
        squares_left("orthogonal", X_a, X_b), ((X_b - X_a @ turn) ** 2).sum()
    )


@pytest.mark.parametrize(("name", "offset"), [("linear", False), ("affine", True)])
def test_linear_maps_are_least_squares_where_there_is_no_noise(name, offset):
    """With many rows and an exact map, what is explained is scikit-learn's R^2."""
    X_a, X_b = related(name, 400)
    X_b = X_b[:, :3]  # the rest is gone: the map is not square
    fitted, held_out = (X_a[:200], X_b[:200]), (X_a[200:], X_b[200:])
    model = LinearRegression(fit_intercept=offset).fit(*fitted)
    residuals = _CLASSES[name].residuals(fitted, held_out)
    assert_allclose(held_out[1] - residuals, model.predict(held_out[0]), atol=1e-5)


def test_explained_is_the_variance_weighted_score():
    """What a class explains is R^2 over all columns, on rows that were held out."""
    X_a, X_b = related("affine", 2000, noise=0.5)
    diagnosis = diagnose(X_a, X_b, **QUICK, test_size=0.5, random_state=0)
    order = np.random.RandomState(0).permutation(2000)
    held_out, fitted = order[:1000], order[1000:]
    model = LinearRegression().fit(X_a[fitted], X_b[fitted])
    expected = r2_score(
        X_b[held_out], model.predict(X_a[held_out]), multioutput="variance_weighted"
    )
    assert_allclose(diagnosis.transformations["affine"], expected, atol=2e-3)


def test_more_columns_than_rows():
    """The penalty keeps a linear map of few rows better than no map at all."""
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((120, 3))
    X_a, X_b = (
        hidden @ rng.standard_normal((3, 200)) + 0.5 * rng.standard_normal((120, 200))
        for _ in range(2)
    )
    diagnosis = diagnose(X_a, X_b, **QUICK, random_state=0)
    assert 0.5 < diagnosis.transformations["linear"] < 1


def test_unrelated_spaces_explain_nothing():
    """Where there is no relation, no class explains more than the mean does."""
    X_a, X_b = unrelated(0, n=400)
    diagnosis = diagnose(X_a, X_b, **QUICK, random_state=0)
    assert max(diagnosis.transformations.values()) < 0.05
    assert "bend" in diagnosis.reason


@pytest.mark.parametrize("n_samples", [90, 200])
def test_an_offset_is_no_leak(n_samples):
    """With more columns than rows, centring does not spoil the choice of a penalty."""
    rng = np.random.default_rng(0)
    X_a = rng.standard_normal((n_samples, 100)) * np.linspace(3, 0.1, 100)
    X_b = X_a[:, :5] + 0.5 * rng.standard_normal((n_samples, 5))
    explained = diagnose(X_a, X_b, **QUICK, random_state=0).transformations
    assert explained["linear"] > 0.5
    assert abs(explained["affine"] - explained["linear"]) < 0.1


# --- the agreement -------------------------------------------------------------


def test_shared_directions_are_what_both_see():
    """Of several hidden causes, those that both spaces hold are found, on new rows."""
    rng = np.random.default_rng(0)
    both, a, b = (rng.standard_normal((2000, n)) for n in (2, 3, 4))
    X_a = np.hstack([both, a]) @ rng.standard_normal((5, 20))
    X_b = np.hstack([both, b]) @ rng.standard_normal((6, 30))
    found = shared_directions(X_a, X_b, np.arange(1000))
    assert found.shape == (2000, 5)
    model = LinearRegression().fit(both[:1000], found[:1000])
    scores = r2_score(
        found[1000:], model.predict(both[1000:]), multioutput="raw_values"
    )
    assert (scores[:2] > 0.999).all()
    assert (scores[2:] < 0.01).all()


def test_shared_directions_do_not_see_held_out_rows():
    """Held-out rows change nothing for the others, and each has its own value."""
    X_a, X_b = unrelated(0, n=100)
    fitted = np.arange(60)
    found = shared_directions(X_a, X_b, fitted)
    other_a, other_b = X_a.copy(), X_b.copy()
    other_a[80:], other_b[80:] = 7, -7
    other = shared_directions(other_a, other_b, fitted)
    assert_array_equal(found[:80], other[:80])
    assert_allclose(found[fitted].mean(axis=0), 0, atol=1e-12)
    assert_allclose(found[fitted].std(axis=0), 1)


def test_shared_directions_of_copied_columns():
    """Columns that are copies bring no directions of their own."""
    X_a, X_b = unrelated(0, n=200)
    doubled = shared_directions(np.hstack([X_a, X_a]), X_b, np.arange(150))
    single = shared_directions(X_a, X_b, np.arange(150))
    assert doubled.shape == single.shape == (200, 5)
    assert_allclose(abs(doubled), abs(single), atol=1e-6)


def test_stitched_agreement_is_that_of_a_head():
    """The mean cosine of a ridge's answers, computed here by hand."""
    rng = np.random.default_rng(0)
    relative_a, relative_b = rng.standard_normal((2, 100, 6)) + 5
    targets_a, targets_b = rng.standard_normal((2, 100, 3))
    targets_a += relative_a[:, :3] - 5
    targets_b += relative_b[:, :3] - 5
    said = Ridge(0.1 * 100 * relative_a.var(axis=0).mean()).fit(relative_a, targets_a)
    said = said.predict(relative_b)
    cosines = [
        said[i]
        @ targets_b[i]
        / np.sqrt((said[i] @ said[i]) * (targets_b[i] ** 2).sum())
        for i in range(100)
    ]
    actual = stitched_agreement(relative_a, targets_a, relative_b, targets_b)
    assert_allclose(actual, np.mean(cosines))
    scaled = stitched_agreement(9 * relative_a, targets_a, 9 * relative_b, targets_b)
    assert_allclose(scaled, actual)


def test_agreement_without_information_is_nothing():
    """Relative spaces that are equal but say nothing are not recommended."""

    def constant(X, anchors):
        return np.ones((len(X), len(anchors)))

    X_a, X_b = related(noise=0.1)
    diagnosis = diagnose(
        X_a, X_b, metrics=(constant, "cosine"), pre=[None], post=[None], random_state=0
    )
    assert abs(diagnosis.agreement[constant, None, None]) < 0.2
    assert diagnosis.recommended.metrics == ("cosine",)


@pytest.mark.parametrize("transformation", [*TRANSFORMATIONS, SIMILARITY])
def test_invariant_choices_lose_nothing(transformation):
    """Where the choice does not see the map, a space agrees as with itself."""
    X_a, X_b = related(transformation, noise=0)
    own = diagnose(X_a, X_a, random_state=0)
    other = diagnose(X_a, X_b, random_state=0)
    names = {transformation} if isinstance(transformation, str) else {*transformation}
    invariant = 0
    for (metric, pre, post), value in other.agreement.items():
        aggregator = InvariantAggregator(
            60, metrics=[metric], pre=pre, post=post, random_state=0
        )
        if names <= aggregator.fit(X_a).invariances_:
            invariant += 1
            # the head's targets differ by a linear map at most
            assert_allclose(value, own.agreement[metric, pre, post], atol=0.02)
    assert invariant


@pytest.mark.parametrize("transformation", [*TRANSFORMATIONS, SIMILARITY])
def test_the_recommended_choice_serves(transformation):
    """With labels, a stitched head on it is near the best of all choices."""
    spaces = make_related_spaces(
        600, transformation=transformation, noise=0.1, n_classes=5, random_state=1
    )
    half = slice(300), slice(300, None)
    X_a, X_b, y = spaces.X_a, spaces.X_b, spaces.y
    diagnosis = diagnose(X_a[half[0]], X_b[half[0]], random_state=0)
    accuracy = {}
    for metric, pre, post in diagnosis.agreement:
        own = InvariantAggregator(
            100, metrics=[metric], pre=pre, post=post, random_state=0
        ).fit(X_a[half[0]])
        head = RidgeClassifier(10.0).fit(own.transform(X_a[half[0]]), y[half[0]])
        rebased = own.rebase(X_b[half[0]][own.anchor_indices_])
        accuracy[metric, pre, post] = head.score(
            rebased.transform(X_b[half[1]]), y[half[1]]
        )
    found = diagnosis.recommended
    chosen = accuracy[(*found.metrics, found.pre, found.post)]
    assert chosen >= max(accuracy.values()) - 0.03


def test_a_tuple_of_metrics_is_a_product():
    """Products may be among the choices, and may be recommended."""
    X_a, X_b = related(noise=0.05)
    both = ("cosine", "euclidean")
    diagnosis = diagnose(X_a, X_b, metrics=[both], random_state=0)
    assert {metric for metric, _, _ in diagnosis.agreement} == {both}
    assert diagnosis.recommended.metrics == both
