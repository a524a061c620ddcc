"""Diagnosis: the truth where it is known, and a choice that serves where it is not."""

import dataclasses
import itertools
import subprocess
import sys

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
    _as_good,
    _winsorized,
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


@pytest.mark.parametrize("name", sorted({*_CLASSES} - {*TRANSFORMATIONS, "none"}))
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


def test_a_penalty_is_chosen_with_an_intercept_of_its_own():
    """Else each centred row tells of those left out, and the penalty is too small."""
    rng = np.random.default_rng(0)
    causes = rng.standard_normal((120, 5))
    X_a, X_b = (
        causes @ rng.standard_normal((5, width))
        + 0.7 * rng.standard_normal((120, width))
        + offset
        for width, offset in ((200, 0), (150, 30))
    )
    explained = diagnose(X_a, X_b, **QUICK, random_state=0).transformations
    assert explained["affine"] > 0.88  # 0.85 with the leak


def far_rows(name, seed, noise=0.02):
    """Two spaces of a class, in the first of which rows may be moved far away."""
    parts = ["isotropic_scaling"] if name == "none" else name.split("+")
    spaces = make_related_spaces(300, transformation=parts, random_state=seed)
    matrix = np.eye(8) if name == "none" else spaces.matrix
    offset = np.zeros(8) if name == "none" else spaces.offset
    rng = np.random.default_rng(seed)

    def other(X_a):
        return X_a @ matrix + offset + noise * rng.standard_normal(X_a.shape)

    return spaces.X_a, other


@pytest.mark.parametrize("rows", [[0], [0, 1, 2]], ids=len)
@pytest.mark.parametrize("factor", [100, 1e8])
@pytest.mark.parametrize("name", _CLASSES)
def test_a_few_long_rows_decide_nothing(name, factor, rows):
    """The class of all rows is named, whatever a few of them add to the sum."""
    right = 0
    for seed in range(4):
        X_a, other = far_rows(name, seed)
        X_a[rows] *= factor
        X_b = other(X_a)
        right += diagnose(X_a, X_b, **QUICK, random_state=seed).transformation == name
    assert right >= 3


def test_three_long_rows_of_many():
    """Three rows a hundred times as long are no reason to name no map at all."""
    rng = np.random.default_rng(0)
    X_a = rng.standard_normal((1300, 16))
    X_a[:3] *= 100
    turn = np.linalg.qr(rng.standard_normal((16, 16)))[0]
    for seed in range(5):
        diagnosis = diagnose(X_a, X_a @ turn, **QUICK, random_state=seed)
        assert diagnosis.transformation == "orthogonal"
        assert diagnosis.transformations["none"] < 0.1


def test_a_wrong_row_decides_nothing():
    """A row that is broken in one space alone hides no map of the others."""
    for seed in range(5):
        X_a, other = far_rows("orthogonal", seed)
        X_b = other(X_a)
        X_b[seed] = 1e6
        diagnosis = diagnose(X_a, X_b, **QUICK, random_state=seed)
        assert diagnosis.transformation == "orthogonal"


@pytest.mark.parametrize("factor", [1, 1e3, 1e10])
def test_winsorized_rows_obey_the_same_map(factor):
    """An affine map of the rows is that of the moved ones, and near rows stay."""
    X_a, other = far_rows("affine", 0, noise=0)
    X_a[:9] *= factor
    fitted = np.arange(5, 200)
    moved_a, moved_b = _winsorized((X_a, other(X_a)), fitted)
    assert_allclose(moved_b, other(moved_a), rtol=1e-5, atol=1e-4)
    assert_array_equal((moved_a == X_a).all(axis=1).sum() > 250, True)
    assert np.linalg.norm(moved_a, axis=1).max() < 100
    if factor == 1:
        assert_array_equal(moved_a[:100], X_a[:100])


@pytest.mark.parametrize(
    "scales", [(1e150, 1), (1, 1e150), (1e-200, 1e-200), (1, 1e200)]
)
def test_the_unit_of_a_space_is_its_own(scales):
    """What scaled classes explain depends on neither unit; the others are far off."""
    X_a, X_b = related("orthogonal", 200, noise=0.05)
    expected = diagnose(X_a, X_b, **QUICK, random_state=0)
    found = diagnose(X_a * scales[0], X_b * scales[1], **QUICK, random_state=0)
    for name, value in found.transformations.items():
        if _CLASSES[name].scales or scales[0] == scales[1]:
            assert_allclose(value, expected.transformations[name], rtol=1e-6, atol=1e-9)
        else:
            assert value < 0.01
    same = scales[0] == scales[1]
    assert found.transformation == "orthogonal" + "+isotropic_scaling" * (not same)


@pytest.mark.parametrize(("errors", "good"), [(1.0, True), (1.9, True), (2.1, False)])
def test_two_standard_errors(errors, good):
    """Up to two standard errors above the best, a class is as good."""
    best = np.ones(50)
    spread = np.resize([-1.0, 1.0], 50)
    error = spread.std(ddof=1) / np.sqrt(50)
    assert _as_good(best + spread + errors * error, best, rounding=0) == good


# --- the agreement -------------------------------------------------------------


def test_shared_directions_are_those_of_both_spaces():
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


def test_shared_directions_do_not_depend_on_held_out_rows():
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
    """The mean cosine of a ridge's predictions, computed here by hand."""
    rng = np.random.default_rng(0)
    relative_a, relative_b = rng.standard_normal((2, 100, 6)) + 5
    targets_a, targets_b = rng.standard_normal((2, 100, 3))
    targets_a += relative_a[:, :3] - 5
    targets_b += relative_b[:, :3] - 5
    predicted = Ridge(0.1 * 100 * relative_a.var(axis=0).mean()).fit(
        relative_a, targets_a
    )
    predicted = predicted.predict(relative_b)
    cosines = [
        predicted[i]
        @ targets_b[i]
        / np.sqrt((predicted[i] @ predicted[i]) * (targets_b[i] ** 2).sum())
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


def stitched_accuracies(spaces, choices, half=300):
    """Accuracies, with labels, of a head on the first space, by choice."""
    X_a, X_b, y = spaces.X_a, spaces.X_b, spaces.y
    accuracies = []
    for metric, pre, post in choices:
        own = InvariantAggregator(
            100, metrics=[metric], pre=pre, post=post, random_state=0
        ).fit(X_a[:half])
        head = RidgeClassifier(10.0).fit(own.transform(X_a[:half]), y[:half])
        rebased = own.rebase(X_b[:half][own.anchor_indices_])
        accuracies.append(head.score(rebased.transform(X_b[half:]), y[half:]))
    return np.array(accuracies)


def test_the_recommended_choice_serves():
    """With labels, a stitched head on it is nearly as good as on the best choice."""
    lost, lost_by_median = [], []
    for transformation in [*TRANSFORMATIONS, SIMILARITY]:
        spaces = make_related_spaces(
            600, transformation=transformation, noise=0.1, n_classes=5, random_state=1
        )
        diagnosis = diagnose(spaces.X_a[:300], spaces.X_b[:300], random_state=0)
        choices = list(diagnosis.agreement)
        accuracies = stitched_accuracies(spaces, choices)
        found = diagnosis.recommended
        chosen = choices.index((*found.metrics, found.pre, found.post))
        lost.append(accuracies.max() - accuracies[chosen])
        lost_by_median.append(accuracies.max() - np.median(accuracies))
    assert np.mean(lost) < 0.03
    assert np.mean(lost_by_median) > 2 * np.mean(lost)


def test_a_tuple_of_metrics_is_a_product():
    """Products may be among the choices, and may be recommended."""
    X_a, X_b = related(noise=0.05)
    both = ("cosine", "euclidean")
    diagnosis = diagnose(X_a, X_b, metrics=[both], random_state=0)
    assert {metric for metric, _, _ in diagnosis.agreement} == {both}
    assert diagnosis.recommended.metrics == both


# --- the result ----------------------------------------------------------------


def test_the_recommended_aggregator_is_ready_to_use():
    """It is unfitted, has the best choice, and rebases to the other encoder."""
    X_a, X_b = related(noise=0.05)
    diagnosis = diagnose(X_a, X_b, n_anchors=50, random_state=0)
    found = diagnosis.recommended
    assert isinstance(found, InvariantAggregator)
    assert not hasattr(found, "anchors_")
    assert found.n_anchors == 50
    assert found.random_state == 0
    choice = (*found.metrics, found.pre, found.post)
    assert diagnosis.agreement[choice] == max(diagnosis.agreement.values())
    found.fit(X_a)
    rebased = found.rebase(X_b[found.anchor_indices_])
    assert rebased.transform(X_b).shape == (300, 50)


@pytest.mark.parametrize(("n_anchors", "expected"), [(300, 30), (30, 30), (7, 7)])
def test_anchors_are_capped(n_anchors, expected):
    """There are no more anchors than rows that are not held out."""
    X_a, X_b = related(n_samples=50)
    diagnosis = diagnose(X_a, X_b, **QUICK, n_anchors=n_anchors, random_state=0)
    assert diagnosis.recommended.n_anchors == expected


def test_reproducible():
    """A seed decides everything; threads and dtype of the container nothing."""
    X_a, X_b = related(noise=0.1)
    once = diagnose(X_a, X_b, random_state=0)
    for other in (
        diagnose(X_a, X_b, random_state=0, n_jobs=2),
        diagnose(X_a.tolist(), X_b.tolist(), random_state=np.random.RandomState(0)),
    ):
        assert other.transformations == pytest.approx(
            once.transformations, abs=1e-12, nan_ok=True
        )
        assert other.agreement == once.agreement
        assert other.transformation == once.transformation
        assert other.reason == once.reason
    assert diagnose(X_a, X_b, random_state=1).agreement != once.agreement


def test_nothing_of_the_caller_is_changed():
    """Neither the spaces nor the global seed is touched."""
    X_a, X_b = related()
    before, state = (X_a.copy(), X_b.copy()), np.random.get_state()[1].copy()
    X_a.flags.writeable = X_b.flags.writeable = False
    diagnose(X_a, X_b, **QUICK, random_state=0)
    assert_array_equal(X_a, before[0])
    assert_array_equal(X_b, before[1])
    assert_array_equal(np.random.get_state()[1], state)


def test_float32():
    """Narrow floats give what wide ones do, within rounding."""
    X_a, X_b = related(noise=0.1)
    wide = diagnose(X_a, X_b, random_state=0)
    narrow = diagnose(X_a.astype(np.float32), X_b.astype(np.float32), random_state=0)
    assert narrow.transformation == wide.transformation
    assert narrow.agreement == pytest.approx(wide.agreement, abs=1e-3)


def test_diagnosis_is_frozen():
    """What was found does not change."""
    diagnosis = diagnose(*related(), **QUICK, random_state=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        diagnosis.transformation = "none"


def test_text_names_what_was_found():
    """The text has the classes that apply, the best choices and the reason."""
    X_a, X_b = related(n_features_b=12)
    diagnosis = diagnose(X_a, X_b, metrics=["cosine"], random_state=0)
    lines = str(diagnosis).splitlines()
    marked = [line for line in lines if line.endswith("*")]
    assert [line.split() for line in marked] == [["orthogonal", "1.000", "*"]]
    assert not any("axis_scaling" in line for line in lines)
    assert lines[-1] == diagnosis.reason
    for word in ("'orthogonal'", "100.0%", "8 choices", "metric='cosine'", "invariant"):
        assert word in diagnosis.reason


def test_reason_says_what_is_not_covered():
    """A choice that is not invariant to the map, or agrees poorly, is called so."""
    X_a, X_b = related("affine", noise=0.05)
    poor = diagnose(X_a, X_b, metrics=["chebyshev"], pre=[None], random_state=0)
    assert "not invariant to the class 'affine'" in poor.reason
    unlike = diagnose(*unrelated(0, n=200), **QUICK, random_state=0)
    assert "poor" in unlike.reason
    same = diagnose(X_a, X_a, **QUICK, random_state=0)
    assert "do not differ" in same.reason
    assert "invariant" not in same.reason


def test_frame():
    """The table has one row per choice, the best first."""
    diagnosis = diagnose(*related(noise=0.1), random_state=0)
    frame = diagnosis.to_frame()
    assert list(frame.columns) == ["metric", "pre", "post", "agreement"]
    assert frame["agreement"].is_monotonic_decreasing
    rows = {tuple(row[:3]): row[3] for row in frame.itertuples(index=False)}
    assert rows == diagnosis.agreement


def test_frame_without_pandas(monkeypatch):
    """Without pandas, the error says how to get it."""
    diagnosis = diagnose(*related(), **QUICK, random_state=0)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        diagnosis.to_frame()


@pytest.mark.parametrize("n_samples", [20, 31])
@pytest.mark.parametrize("test_size", [0.1, 0.4, 0.9])
def test_few_rows(n_samples, test_size):
    """The fewest rows that are taken are enough to say something."""
    diagnosis = diagnose(
        *related(n_samples=n_samples), **QUICK, test_size=test_size, random_state=0
    )
    assert np.isfinite(list(diagnosis.transformations.values())).all()
    assert np.isfinite(list(diagnosis.agreement.values())).all()


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"n_anchors": 1}, ValueError, r"n_anchors must .* got 1"),
        ({"n_anchors": 2.5}, TypeError, r"n_anchors must .* got 2.5"),
        ({"test_size": 0.95}, ValueError, r"test_size must .* got 0.95"),
        ({"test_size": "half"}, TypeError, r"test_size must .* got 'half'"),
        ({"metrics": "cosine"}, TypeError, r"metrics must be a sequence .* 'cosine'"),
        ({"metrics": []}, ValueError, r"metrics must have at least one"),
        ({"metrics": ["cos"]}, ValueError, r"'cos'"),
        ({"pre": None}, TypeError, r"pre must be a sequence of options; got None"),
        ({"pre": ["bleach"]}, ValueError, r"'bleach'"),
        ({"post": "layer"}, TypeError, r"post must be a sequence of options"),
        ({"post": ()}, ValueError, r"post must have at least one"),
    ],
)
def test_bad_parameters(params, error, message):
    """A parameter out of its range is refused, with its name and value."""
    with pytest.raises(error, match=message):
        diagnose(*related(n_samples=60), **params, random_state=0)


def test_bad_spaces():
    """Rows that do not correspond, too few of them, constant or not finite."""
    X_a, X_b = related(n_samples=60)
    with pytest.raises(ValueError, match=r"same order; got 60 rows .* and 59"):
        diagnose(X_a, X_b[:59])
    with pytest.raises(ValueError, match=r"at least 20 rows.* got 19"):
        diagnose(X_a[:19], X_b[:19])
    with pytest.raises(ValueError, match=r"X_b must have rows that differ"):
        diagnose(X_a, np.ones_like(X_b))
    X_a[3, 3] = np.nan
    with pytest.raises(ValueError, match=r"X_a contains NaN"):
        diagnose(X_a, X_b)


def test_threads_of_blas_are_given_back():
    """Choices compared in threads leave BLAS with as many threads as it had.

    In a process of its own, where no test has set the number before, and with little
    memory, so that a space takes many blocks of rows, as a large one does.
    """
    script = """
import numpy as np
from sklearn import config_context
from threadpoolctl import threadpool_info
from skinvariant.diagnosis import diagnose
X = np.random.default_rng(0).standard_normal((800, 64))
before = {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}
with config_context(working_memory=1):
    diagnose(X, X[:, ::-1], random_state=0, n_jobs=2)
after = {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}
assert {path: after[path] for path in before} == before
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_wrong_rows_are_warned_about_on_demand():
    """With `check`; right rows are fine, and the verdict is the same."""
    X_a, X_b = related()
    diagnose(X_a, X_b, check=True, **QUICK)
    wrong = X_a, np.roll(X_b, 1, axis=0)
    with pytest.warns(UserWarning, match="X_a and X_b must be the same s") as caught:
        checked = diagnose(*wrong, check=True, random_state=0, **QUICK)
    assert caught[0].filename == __file__
    assert checked.agreement == diagnose(*wrong, random_state=0, **QUICK).agreement
