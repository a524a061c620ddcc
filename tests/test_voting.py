"""The voting models: what their members predict, and how they are weighted."""

import copy
import functools
import pickle
import warnings

import numpy as np
import pytest
from joblib import parallel_config
from scipy.optimize import lsq_linear, minimize, minimize_scalar
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist
from scipy.special import log_softmax, softmax
from scipy.stats import ortho_group
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    KFold,
    TunedThresholdClassifierCV,
    train_test_split,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils import estimator_html_repr

from skinvariant import (
    InvariantVotingClassifier,
    InvariantVotingRegressor,
    RelativeProjector,
    forecast_swap,
    select_anchors,
    stitch,
)
from skinvariant.datasets import make_related_spaces
from skinvariant.metrics import METRICS, TRANSFORMATIONS, Metric, cosine
from skinvariant.persistence import load, save
from skinvariant.pooling import log_pool_weights, signal_to_noise, smoothed_log
from skinvariant.translation import SpaceTranslator
from skinvariant.voting import (
    _linear_discriminant,
    decision_agreement,
    log_odds,
    pool_translations,
)

SPACES = make_related_spaces(240, n_features_b=12, noise=0.1, random_state=0)
X_A, X_B, Y = SPACES.X_a, SPACES.X_b, SPACES.y
TARGETS = np.column_stack([X_A[:, 0] + X_A[:, 1], X_A[:, 2] ** 2])
VOTES = [InvariantVotingClassifier, InvariantVotingRegressor]
SMALL = {"n_anchors": 40, "metrics": ("cosine", "euclidean"), "random_state": 0}


def fitted(vote=InvariantVotingClassifier, y=None, **params):
    """Return a small voting model fitted on the first space."""
    y = (Y if vote is InvariantVotingClassifier else TARGETS[:, 0]) if y is None else y
    return vote(**SMALL | params).fit(X_A, y)


def rebased(model, X=X_B, y=None):
    """Return it on the second space, with labels of the anchors where `y` is given."""
    rows = model.anchor_indices_
    return model.rebase(X[rows], None if y is None else y[rows])


def outputs(model, X):
    """Return probabilities, or predictions of a regressor."""
    return getattr(model, "predict_proba", model.predict)(X)


def assert_close(actual, expected):
    """Compare values of arrays whose columns lie otherwise in memory."""
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


# --- mathematics --------------------------------------------------------------------


def test_log_odds_of_a_linear_classifier_are_its_centred_decision_values():
    """And probabilities of 0 count as one in a million."""
    head = LogisticRegression(C=0.01).fit(X_A, Y)
    values = head.decision_function(X_A)
    centred = values - values.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(log_odds(head.predict_proba(X_A)), centred, atol=1e-6)
    np.testing.assert_allclose(log_odds([[1, 0]]), [[np.log(1e3), -np.log(1e3)]])


def test_agreement_is_the_correlation_of_all_columns():
    """In [0, 1], whatever offsets the columns have; 0 where nothing varies."""
    rng = np.random.default_rng(0)
    values, others = rng.standard_normal((2, 50, 3))
    others = 5 + others + values
    flat = [(x - x.mean(axis=0)).ravel() for x in (values, others)]
    expected = np.corrcoef(*flat)[0, 1]
    assert decision_agreement(values, others) == pytest.approx(expected)
    assert decision_agreement(values, 1e200 * others) == pytest.approx(expected)
    assert decision_agreement(1e-200 * values, others) == pytest.approx(expected)
    assert decision_agreement(values, -others) == 0
    assert decision_agreement(values, np.ones((50, 3))) == 0


# --- recomputed by other means ------------------------------------------------------


def relative_by_hand(metric, rows, anchors, *, leave_out=False):
    """Return standardised distances to the anchors."""
    own = cdist(anchors, anchors, metric)
    values = cdist(rows, anchors, metric)
    if leave_out:
        n = len(anchors)
        others = (values.sum(axis=0) - np.diag(values)) / (n - 1)
        values = values + np.diag(others - np.diag(values))
    if metric == "cosine":
        own, values = 1 - own, 1 - values
    return (values - own.mean(axis=0)) / own.std(axis=0)


def smoothed(proba, n_rows=240):
    """Return logarithms after Laplace's rule of succession."""
    return np.log((n_rows * proba + 1) / (n_rows + proba.shape[1]))


def members_by_hand(head, y):
    """Return a head for each metric, one on the space, and the anchors' rows."""
    rows = fitted().anchor_indices_
    anchors, names = X_A[rows], {"cosine": "cosine", "euclidean": "euclidean"}
    heads = {
        name: clone(head).fit(relative_by_hand(metric, X_A, anchors), y)
        for name, metric in names.items()
    }
    heads["absolute"] = make_pipeline(StandardScaler(), clone(head)).fit(X_A, y)
    return heads, rows


def test_probabilities_before_rebase():
    """A logarithmic pool, of which the absolute head has 2/3 of the weight."""
    head = LogisticRegression(C=0.1, max_iter=1000)
    heads, rows = members_by_hand(head, Y)
    logs = 2 / 3 * smoothed(heads["absolute"].predict_proba(X_A))
    for name in ("cosine", "euclidean"):
        X = relative_by_hand(name, X_A, X_A[rows])
        logs += 1 / 6 * smoothed(heads[name].predict_proba(X))
    model = fitted()
    np.testing.assert_allclose(model.predict_proba(X_A), softmax(logs, axis=1), 1e-5)
    np.testing.assert_allclose(model.predict_log_proba(X_A), log_softmax(logs, axis=1))
    shares = {"cosine": 1 / 6, "euclidean": 1 / 6, "absolute": 2 / 3}
    assert model.weights_ == pytest.approx(shares)
    assert model.agreement_ == dict.fromkeys(model.weights_, 1.0)
    np.testing.assert_array_equal(model.predict(X_A), logs.argmax(axis=1))


def linear_pool_by_hand(predicted, targets, prior):
    """Return weights and intercept of a ridge regression towards the prior."""
    stack = np.stack([(p - p.mean(axis=0)).ravel() for p in predicted], axis=1)
    centred = (targets - targets.mean(axis=0)).ravel()
    unit = np.sqrt(2 * np.mean((stack @ prior - centred) ** 2))
    system = np.vstack([stack / unit, np.sqrt(50) * np.eye(len(prior))])
    goal = np.r_[centred / unit, np.sqrt(50) * np.asarray(prior)]
    weights = lsq_linear(system, goal, (0, np.inf)).x
    means = sum(w * p.mean(axis=0) for w, p in zip(weights, predicted, strict=True))
    return weights, targets.mean(axis=0) - means


def test_predictions_before_rebase():
    """A weighted sum of the heads' predictions, of several targets as well."""
    heads, rows = members_by_hand(RidgeCV(np.logspace(0, 5, 11)), TARGETS)
    predicted = [
        heads[name].predict(relative_by_hand(name, X_A, X_A[rows]))
        for name in ("cosine", "euclidean")
    ]
    predicted.append(heads["absolute"].predict(X_A))
    weights, intercept = linear_pool_by_hand(predicted, TARGETS, [1 / 6, 1 / 6, 2 / 3])
    model = fitted(InvariantVotingRegressor, TARGETS)
    assert list(model.weights_) == ["cosine", "euclidean", "absolute"]
    np.testing.assert_allclose(list(model.weights_.values()), weights, atol=1e-5)
    expected = np.tensordot(weights, predicted, 1) + intercept
    np.testing.assert_allclose(model.predict(X_A), expected, rtol=1e-4)


def translations_by_hand(old, new, values, head_outputs, behind):
    """Return what both members behind translations give for anchors left out."""
    left_out = SpaceTranslator("kernel").fit(new, values).left_out_
    turned = np.empty_like(old)
    for train, test in KFold(5, shuffle=True, random_state=0).split(new):
        a, b = (X[train] - X[train].mean(axis=0) for X in (new, old))
        u, s, vt = np.linalg.svd(a.T @ b, full_matrices=False)
        scale = s.sum() / np.sum((a @ u @ vt) ** 2)
        moved = (new[test] - new[train].mean(axis=0)) @ (scale * u @ vt)
        turned[test] = moved + old[train].mean(axis=0)
    return {"kernel": behind(left_out), "orthogonal": head_outputs(turned)}


def agreements_by_hand(found, references, values):
    """Return correlations with the references, by member."""
    result = {}
    for name, output in found.items():
        a, b = values(output), values(references.get(name, references["absolute"]))
        a, b = a - a.mean(axis=0), b - b.mean(axis=0)
        result[name] = max(0.0, np.corrcoef(a.ravel(), b.ravel())[0, 1])
    return result


def prior_by_hand(agreements):
    """Return weights of sum 1 by signal-to-noise ratios."""
    squares = np.array(list(agreements.values())) ** 2
    ratios = squares / (1.01 - squares)
    return ratios / ratios.sum()


# the direction that cosines cannot show is lost, and the axes are bent
BENT = np.tanh(X_B / 4)


def scale_by_hand(pool, own, y):
    """Return the inverse temperature of a pool: log-probabilities of the anchors."""
    labels = np.eye(own.shape[1])[y]

    def best(logs, targets, alpha):
        def loss(t):
            fit = -np.sum(targets * log_softmax(t * logs, axis=1))
            return fit + alpha * (t - 1) ** 2

        options = {"xatol": 1e-10}
        return minimize_scalar(loss, bounds=(0, 50), options=options).x

    n_changed = np.sum(pool.argmax(axis=1) != own.argmax(axis=1))
    share = n_changed / (n_changed + 1) / max(best(np.log(own), labels, 0), 1)
    return best(pool, share * labels + (1 - share) * own, 10)


@pytest.mark.parametrize("with_labels", [False, True])
def test_weights_after_rebase(with_labels):
    """Those that minimise the documented objective, by another optimiser."""
    head = LogisticRegression(C=0.1, max_iter=1000)
    heads, rows = members_by_hand(head, Y)
    old, new = X_A[rows], BENT[rows]
    own = {
        name: heads[name].predict_proba(relative_by_hand(name, old, old, leave_out=1))
        for name in ("cosine", "euclidean")
    }
    own["absolute"] = heads["absolute"].predict_proba(old)
    found = {
        name: heads[name].predict_proba(relative_by_hand(name, new, new, leave_out=1))
        for name in ("cosine", "euclidean")
    }
    found |= translations_by_hand(
        old,
        new,
        log_odds(own["absolute"]),
        heads["absolute"].predict_proba,
        lambda values: softmax(values, axis=1),
    )
    shares = {"cosine": 1 / 6, "euclidean": 1 / 6, "absolute": 2 / 3}
    logs = sum(share * smoothed(own[name]) for name, share in shares.items())
    targets = own_pool = softmax(logs, axis=1)
    if with_labels:
        left_out, few_shot = np.empty((40, 3)), make_pipeline(StandardScaler(), head)
        for train, test in KFold(5, shuffle=True, random_state=0).split(new):
            few_shot.fit(new[train], Y[rows][train])
            left_out[test] = few_shot.predict_proba(new[test])
        found["few_shot"], own["few_shot"] = left_out, targets
        targets = np.eye(3)[Y[rows]]
    agreements = agreements_by_hand(found, own, log_odds)
    prior = prior_by_hand(agreements)
    logs = [smoothed(p, 40 if k == "few_shot" else 240) for k, p in found.items()]

    def loss(weights):
        pooled = log_softmax(np.tensordot(weights, logs, 1), axis=1)
        return -np.sum(targets * pooled) + 50 * np.sum((weights - prior) ** 2)

    bounds = [(0, None)] * len(prior)
    expected = minimize(loss, prior, bounds=bounds, method="SLSQP", tol=1e-12).x
    pool = log_softmax(np.tensordot(expected, logs, 1), axis=1)
    expected *= scale_by_hand(pool, own_pool, Y[rows])
    model = rebased(fitted(), BENT, Y if with_labels else None)
    assert list(model.weights_) == list(found) == list(model.named_estimators_)
    assert model.agreement_ == pytest.approx(agreements, abs=1e-4)
    np.testing.assert_allclose(list(model.weights_.values()), expected, atol=1e-3)


def views(n_rows=40_000):
    """Return labels, and their posteriors given each of two independent views."""
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=n_rows)
    rows = np.eye(3)[y] + 0.8 * rng.standard_normal((2, n_rows, 3))
    return y, *softmax(rows / 0.8**2, axis=2)


@functools.cache
def without_translations():
    """Return a fitted model, which is not to be changed."""
    return fitted(absolute=False)


def scale_of(proba, own, codes):
    """Return by what a pool of one member with these probabilities is scaled."""
    model = copy.copy(without_translations())
    model.weights_, model._n_rows = {"cosine": 1.0}, 10**9
    model._scale_weights({"cosine": proba}, own, codes)
    return model.weights_["cosine"]


def powers(proba, exponent):
    """Return probabilities with another temperature."""
    return softmax(exponent * np.log(proba), axis=1)


def test_the_scale_recovers_a_known_temperature():
    """Of labels where these count, and of own probabilities where no class changes."""
    y, proba, own = views()
    for exponent in (0.5, 1.0, 2.0):
        sharp = powers(proba, exponent)
        assert scale_of(sharp, own, y) == pytest.approx(1 / exponent, rel=0.05)
        wrong = (y + 1) % 3
        for codes in (y, wrong, np.full(len(y), -1)):
            scale = scale_of(sharp, proba, codes)
            assert scale == pytest.approx(1 / exponent, rel=0.01)


def test_memorised_labels_do_not_count():
    """An own model that is always right fits its labels at any temperature."""
    y, proba, own = views(300)
    is_right = own.argmax(axis=1) == y
    y, proba, right = y[is_right], proba[is_right], own[is_right]
    assert np.any(proba.argmax(axis=1) != y)
    without = scale_of(proba, right, np.full(len(y), -1))
    assert scale_of(proba, right, y) == pytest.approx(without, rel=0.02)
    y[:20] = (y[:20] + 1) % 3
    assert scale_of(proba, right, y) != pytest.approx(without, rel=0.02)


def test_the_scale_is_never_zero():
    """Where all labels contradict the pool, the most probable class remains."""
    _, proba, own = views()
    assert scale_of(proba, own, proba.argmin(axis=1)) == 0.1


def test_the_scale_of_few_rows_is_close_to_one():
    """It takes 10 nats of evidence to move it by 1."""
    y, proba, own = views(200)
    for rows in np.arange(200).reshape(-1, 5):
        assert 0.6 < scale_of(proba[rows], own[rows], y[rows]) < 1.5


@pytest.mark.parametrize("with_labels", [False, True])
def test_the_scale_changes_no_class(with_labels, monkeypatch):
    """Left-out anchors and rows keep their class; log-probabilities are scaled."""
    y = Y.copy()
    y[::3] = np.random.default_rng(0).permutation(y[::3])
    model, labels = fitted(y=y), y if with_labels else None
    scaled = rebased(model, BENT, labels)
    monkeypatch.setattr("skinvariant.voting._SCALE_ALPHA", 1e100)
    plain = rebased(model, BENT, labels)
    total, before = (sum(m.weights_.values()) for m in (scaled, plain))
    assert total != pytest.approx(before, rel=1e-2)
    for actual, expected in (
        (scaled.predict_proba(BENT), plain.predict_proba(BENT)),
        (scaled.left_out_, plain.left_out_),
    ):
        assert np.array_equal(actual.argmax(axis=1), expected.argmax(axis=1))
        np.testing.assert_allclose(actual, powers(expected, total / before), rtol=1e-9)


def test_labels_of_rows_without_weight_do_not_count():
    """Nor are there any where a head is stitched by its old anchors."""
    weights = np.ones(240)
    weights[fitted().anchor_indices_[:30]] = 0
    wrong = np.where(weights > 0, Y, (Y + 1) % 3)
    right, other = (
        rebased(model.fit(X_A, y, sample_weight=weights), BENT)
        for model, y in ((InvariantVotingClassifier(**SMALL), y) for y in (Y, wrong))
    )
    assert right.weights_ == other.weights_
    head = make_pipeline(StandardScaler(), LogisticRegression()).fit(X_A, Y)
    pool = pool_translations(head, BENT[:40], X_A[:40])
    assert np.isfinite(pool.predict_log_proba(BENT)).all()


@pytest.mark.parametrize("with_targets", [False, True])
@pytest.mark.parametrize("columns", [0, slice(0, 2)], ids=["one", "two"])
def test_weights_of_a_regressor_after_rebase(columns, with_targets):
    """A ridge regression towards the prior, without negative weights."""
    y = TARGETS[:, columns]
    heads, rows = members_by_hand(RidgeCV(np.logspace(0, 5, 11)), y)
    old, new, flat = X_A[rows], BENT[rows], lambda p: np.asarray(p).reshape(40, -1)
    own, found = {"absolute": flat(heads["absolute"].predict(old))}, {}
    for name in ("cosine", "euclidean"):
        for space, kept in ((old, own), (new, found)):
            X = relative_by_hand(name, space, space, leave_out=True)
            kept[name] = flat(heads[name].predict(X))
    predict = lambda X: flat(heads["absolute"].predict(X))  # noqa: E731
    found |= translations_by_hand(old, new, own["absolute"], predict, flat)
    model = fitted(InvariantVotingRegressor, y)
    targets = sum(weight * own[name] for name, weight in model.weights_.items())
    targets = targets + model.intercept_
    if with_targets:
        ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 13)))
        left_out = np.empty_like(targets)
        for train, test in KFold(5, shuffle=True, random_state=0).split(new):
            ridge.fit(new[train], y[rows][train])
            left_out[test] = ridge.predict(new[test]).reshape(len(test), -1)
        found["few_shot"], own["few_shot"] = left_out, targets
        targets = flat(y[rows])
    prior = prior_by_hand(agreements_by_hand(found, own, flat))
    weights, intercept = linear_pool_by_hand(found.values(), targets, prior)
    model = rebased(model, BENT, y if with_targets else None)
    assert list(model.weights_) == list(found)
    np.testing.assert_allclose(list(model.weights_.values()), weights, atol=1e-5)
    np.testing.assert_allclose(model.intercept_, intercept, rtol=1e-3)


# --- known answers ------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    """Digits: rows to train with and rows to test with."""
    X, y = load_digits(return_X_y=True)
    return train_test_split(X, y, random_state=0, train_size=900)


@pytest.fixture(scope="module")
def digits_model(digits):
    """A voting model of the digits, all metrics, 100 anchors."""
    return InvariantVotingClassifier(n_anchors=100, random_state=0).fit(
        digits[0], digits[2]
    )


def on_digits(digits, model, encoder, y=None):
    """Return the model behind an encoder of digits, and its score."""
    rows = model.anchor_indices_
    labels = None if y is None else y[rows]
    new = model.rebase(encoder(digits[0])[rows], labels)
    return new, new.score(encoder(digits[1]), digits[3])


def test_a_rotation_costs_nothing(digits, digits_model):
    """Nor do another scale and origin."""
    turn = ortho_group.rvs(64, random_state=0)
    own = digits_model.score(digits[1], digits[3])
    _, score = on_digits(digits, digits_model, lambda X: 3 * X @ turn + 10)
    assert own > 0.95
    assert abs(score - own) <= 0.01


def test_the_metric_that_survives_has_the_largest_weight(digits):
    """Linear maps leave coordinates in the anchors' frame, and no other metric."""
    model = InvariantVotingClassifier(
        n_anchors=100, absolute=False, random_state=0
    ).fit(digits[0], digits[2])
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((64, 64)) * np.exp(rng.uniform(-3, 3, 64))
    new, score = on_digits(digits, model, lambda X: X @ matrix)
    assert max(new.weights_, key=new.weights_.get) == "change_of_basis"
    assert max(new.agreement_, key=new.agreement_.get) == "change_of_basis"
    assert score > 0.8


def test_a_map_that_is_not_linear(digits, digits_model):
    """The kernel learns it from the anchors, or the metrics survive: little is lost."""
    turn = ortho_group.rvs(64, random_state=0)
    _, score = on_digits(
        digits, digits_model, lambda X: np.tanh((X - 8) @ turn / 16) ** 3
    )
    assert score > 0.85


def test_anchors_of_noise_weigh_little(digits, digits_model):
    """No member predicts what the model did, and labels are not predictable either."""
    noise = np.random.default_rng(0).standard_normal((100, 64))
    for y in (None, digits[2][digits_model.anchor_indices_]):
        new = digits_model.rebase(noise, y)
        assert new.weights_["kernel"] == new.weights_["orthogonal"] == 0
        assert max(new.weights_.values()) < 0.15
        assert max(new.agreement_.values()) < 0.3
        assert np.mean(new.predict_proba(digits[1]).max(axis=1)) < 0.3
    own = digits_model.predict_proba(digits[1]).max(axis=1)
    assert np.mean(own) > 0.7


def test_labels_help_where_the_spaces_have_little_in_common(digits, digits_model):
    """The head trained on the anchors gets the largest weight, and is right."""

    def shuffled(X):
        X = X - 8
        return np.column_stack([X * np.roll(X, 1, axis=1), np.abs(X)])

    plain, score = on_digits(digits, digits_model, shuffled)
    told, better = on_digits(digits, digits_model, shuffled, digits[2])
    assert "few_shot" in told.weights_
    assert "few_shot" not in plain.weights_
    assert better >= score - 0.01
    assert better > 0.75


def test_a_regressor_recovers_its_predictions_behind_a_rotation():
    """With R^2 as in its own space, also with a shifted scale of the new space."""
    turn = ortho_group.rvs(8, random_state=0)
    for y in (TARGETS[:, 0], TARGETS):
        model = fitted(InvariantVotingRegressor, y)
        X_new = 5 * X_A @ turn - 3
        score = rebased(model, X_new).score(X_new, y)
        assert score > model.score(X_A, y) - 0.02 > 0.7


def test_the_same_space_again(digits, digits_model):
    """Predictions agree with the own ones on nearly all rows."""
    new, _ = on_digits(digits, digits_model, lambda X: X)
    own, other = digits_model.predict(digits[1]), new.predict(digits[1])
    assert np.mean(own == other) > 0.98


EXACT = [
    (name, transformation)
    for name, metric in METRICS.items()
    for transformation in TRANSFORMATIONS
    if transformation in metric.invariances and not metric.needs_rows
]


@pytest.mark.parametrize(("metric", "transformation"), EXACT)
def test_what_a_metric_ignores_changes_no_probability(metric, transformation):
    """As declared: for spaces that differ by such a transformation, to 1e-8."""
    spaces = make_related_spaces(120, transformation=transformation, random_state=1)
    model = InvariantVotingClassifier(
        metrics=(metric,),
        metric_params={},
        absolute=False,
        n_anchors=30,
        random_state=0,
    ).fit(spaces.X_a, spaces.y)
    new = model.rebase(spaces.X_b[model.anchor_indices_])
    assert transformation in model.invariances_
    np.testing.assert_allclose(
        new.predict_proba(spaces.X_b), model.predict_proba(spaces.X_a), atol=1e-8
    )
    assert new.weights_ == pytest.approx({metric: 1.0}, abs=1e-6)


def test_rotation_and_scaling_change_no_probability():
    """Of cosines, nor of distances that are standardised by anchor.

    A regressor weights its members by other evidence in each space: it stays close.
    """
    spaces = make_related_spaces(
        transformation=("orthogonal", "isotropic_scaling"), random_state=0
    )
    for vote in VOTES:
        model = vote(**SMALL, absolute=False).fit(spaces.X_a, spaces.y)
        new = model.rebase(spaces.X_b[model.anchor_indices_])
        assert {"orthogonal", "isotropic_scaling"} <= new.invariances_
        own, other = outputs(model, spaces.X_a), outputs(new, spaces.X_b)
        if vote is InvariantVotingRegressor:
            assert r2_score(own, other) > 0.99
        else:
            np.testing.assert_allclose(other, own, atol=1e-8)


# --- rebase -------------------------------------------------------------------------


@pytest.mark.parametrize("vote", VOTES)
def test_rebase_changes_nothing_in_the_original(vote):
    """Bit by bit; and a later fit of the original changes nothing in the rebased."""
    model = fitted(vote)
    before, weights = outputs(model, X_A), dict(model.weights_)
    new = rebased(model)
    assert type(new) is vote
    np.testing.assert_array_equal(outputs(model, X_A), before)
    assert model.weights_ == weights
    after, again = outputs(new, X_B), rebased(model, BENT)
    model.set_params(n_anchors=20).fit(X_A[:100, :3], Y[:100])
    np.testing.assert_array_equal(outputs(new, X_B), after)
    indices = new.anchor_indices_
    np.testing.assert_array_equal(
        outputs(new.rebase(BENT[indices]), BENT), outputs(again, BENT)
    )


@pytest.mark.parametrize("vote", VOTES)
def test_a_rebased_model_is_rebased_as_the_original(vote):
    """To the same bits, there and back, with labels in between or not."""
    model = fitted(vote)
    rows, y = model.anchor_indices_, Y[fitted().anchor_indices_]
    direct = model.rebase(BENT[rows])
    for between in (model.rebase(X_B[rows]), model.rebase(X_B[rows], y)):
        again = between.rebase(BENT[rows])
        assert again.weights_ == direct.weights_
        np.testing.assert_array_equal(outputs(again, BENT), outputs(direct, BENT))
        back = between.rebase(X_A[rows])
        expected = outputs(model.rebase(X_A[rows]), X_A)
        np.testing.assert_array_equal(outputs(back, X_A), expected)


@pytest.mark.parametrize("vote", VOTES)
def test_a_rebased_model_fitted_again_is_as_new(vote):
    """Nothing of the rebase stays, the intercept of a regressor included."""
    y = Y if vote is InvariantVotingClassifier else TARGETS[:, 0]
    new, expected = rebased(fitted(vote), y=y), vote(**SMALL).fit(X_B, y)
    again = new.fit(X_B, y)
    np.testing.assert_array_equal(outputs(again, X_B), outputs(expected, X_B))
    assert again.weights_ == expected.weights_


def test_the_members_and_their_weights():
    """Names as documented, no negative weight, the same keys everywhere."""
    metrics = [name for name, metric in METRICS.items() if not metric.needs_rows]
    model = fitted(metrics=metrics)
    assert list(model.weights_) == [*metrics, "absolute"]
    for y, names in ((None, []), (Y, ["few_shot"])):
        new = rebased(model, y=y)
        assert list(new.weights_) == [*metrics, "kernel", "orthogonal", *names]
        assert list(new.named_estimators_) == list(new.weights_)
        assert min(new.weights_.values()) >= 0
        assert list(new.agreement_) == list(new.weights_)
    relative = rebased(fitted(absolute=False))
    assert list(relative.weights_) == ["cosine", "euclidean"]


class Counted:
    """Compare the first axis alone, sign included, and count rows that are compared."""

    def __init__(self):
        self.calls = []

    def __call__(self, X, anchors):
        """Compare."""
        self.calls.append(len(X))
        return X[:, :1] * np.abs(anchors[:, 0])


def test_anchors_are_compared_with_themselves_once():
    """At fit, and at rebase, where nothing else is compared."""
    counted = Counted()
    metrics = ("cosine", Metric("counted", counted), "euclidean")
    model = fitted(metrics=metrics)
    assert counted.calls == [40, 1, 240]  # one anchor alone, as a check
    for y in (None, Y):
        counted.calls.clear()
        rebased(model, y=y)
        assert counted.calls == [40, 1]


@pytest.mark.parametrize(
    "metrics", [("cosine", "euclidean"), ("cosine",), ("manhattan", "chebyshev")]
)
def test_members_of_no_weight_are_not_computed(metrics):
    """Neither the head nor the metric; `aggregator_` has them all the same."""
    counted, heads = Counted(), []

    class Head(LogisticRegression):
        def predict_proba(self, X):
            heads.append(self)
            return super().predict_proba(X)

    X = make_related_spaces(240, 4, random_state=0).X_a
    X = X - X.mean(axis=0)
    own = Metric("counted", counted)
    model = InvariantVotingClassifier(Head(), **SMALL | {"metrics": (own, *metrics)})
    y = (X[:, 0] > 0).astype(int)
    model.fit(X, y)
    X_new = X * [-1, 1, 1, 1]  # which no metric notices but this one
    new = rebased(model, X_new, y)
    assert new.weights_["counted"] == 0 < min(new.weights_[name] for name in metrics)
    counted.calls.clear()
    heads.clear()
    proba = new.predict_proba(X_new)
    assert counted.calls == []
    assert len(heads) == sum(
        weight > 0 and name not in ("kernel", "few_shot")
        for name, weight in new.weights_.items()
    )
    relative, logs = new.aggregator_.transform(X_new), 0
    assert counted.calls == [240]
    for place, (name, weight) in enumerate(new.weights_.items()):
        taken = name in ("counted", *metrics)
        rows = relative[:, 40 * place : 40 * place + 40] if taken else X_new
        member = new.named_estimators_[name]
        n_rows = 40 if name == "few_shot" else 240
        logs = logs + weight * smoothed(member.predict_proba(rows), n_rows)
    np.testing.assert_allclose(proba, softmax(logs, axis=1), rtol=1e-9)


@pytest.mark.parametrize(
    "kept", [["cosine"], ["euclidean", "chebyshev"], ["inner", "change_of_basis"]]
)
def test_some_metrics_of_an_aggregator(kept):
    """The columns are those that it gives among all metrics."""
    model = fitted(metrics=tuple(METRICS)).aggregator_
    some = model._with_metrics(kept)
    columns = np.split(model.transform(X_A), len(METRICS), axis=1)
    relative = dict(zip(METRICS, columns, strict=True))
    expected = np.hstack([values for name, values in relative.items() if name in kept])
    np.testing.assert_allclose(some.transform(X_A), expected, rtol=1e-9, atol=1e-9)
    assert some.get_feature_names_out().tolist() == [
        name
        for name in model.get_feature_names_out()
        if name.rpartition("_")[0] in kept
    ]
    assert model._with_metrics([*METRICS]) is model
    assert model._with_metrics(["kernel"]) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y: (X[:-1], None), "40 rows, in the same order; got 39"),
        (lambda X, y: (np.vstack([X, X]), None), "got 80"),
        (lambda X, y: (np.where(X[3, 3] == X, np.nan, X), None), "contains NaN"),
        (lambda X, y: (X[:, 0], None), "Expected 2D array"),
        (lambda X, y: (X, y[:-1]), "one label for each of the 40 anchors; got 39"),
        (lambda X, y: (X, y + 7), r"classes \[0, 1, 2\]; got \[7, 8, 9\]"),
        (lambda X, y: (X, np.where(y, None, "a")), r"got \[None, 'a'\]"),
        (lambda X, y: (X, np.eye(3)[y]), "should be a 1d array"),
    ],
)
def test_what_rebase_refuses(change, message):
    """With a ValueError that states what it must be."""
    model = fitted()
    rows = model.anchor_indices_
    with pytest.raises(ValueError, match=message):
        model.rebase(*change(X_B[rows], Y[rows]))


@pytest.mark.parametrize(
    ("y", "shape", "message"),
    [
        (TARGETS[:, 0], (39,), r"shape \(40,\); got \(39,\)"),
        (TARGETS[:, 0], (40, 2), r"shape \(40,\); got \(40, 2\)"),
        (TARGETS, (40,), r"shape \(40, 2\); got \(40,\)"),
        (TARGETS[:, :1], (40,), r"shape \(40, 1\); got \(40,\)"),
    ],
)
def test_what_rebase_of_a_regressor_refuses(y, shape, message):
    """Targets of another shape, and targets that are no numbers."""
    model = fitted(InvariantVotingRegressor, y)
    anchors = X_B[model.anchor_indices_]
    with pytest.raises(ValueError, match=message):
        model.rebase(anchors, np.zeros(shape))
    with pytest.raises(ValueError, match="y contains NaN"):
        model.rebase(anchors, np.full((40, *y.shape[1:]), np.nan))
    with pytest.raises(ValueError, match="could not convert"):
        model.rebase(anchors, np.full((40, *y.shape[1:]), "a"))


def test_nothing_works_before_fit():
    """As everywhere in scikit-learn."""
    for vote in VOTES:
        model = vote()
        for call in (model.predict, model.rebase):
            with pytest.raises(NotFittedError):
                call(X_A)
        for name in ("anchor_indices_", "n_samples_fit_", "invariances_"):
            with pytest.raises(NotFittedError):
                getattr(model, name)


def test_classes_that_the_anchors_miss():
    """The few-shot head gives them nothing, the pool predicts them all the same."""
    anchors = np.flatnonzero(Y != 2)[:40]
    model = fitted(anchors=anchors)
    new = rebased(model, y=Y)
    few_shot = new.named_estimators_["few_shot"]
    np.testing.assert_array_equal(few_shot.predict_proba(X_B)[:, 2], 0)
    own = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    own.fit(X_B[anchors], Y[anchors])
    np.testing.assert_allclose(
        few_shot.predict_proba(X_B)[:, :2], own.predict_proba(X_B), rtol=1e-9
    )
    assert new.predict_proba(X_B).shape == (240, 3)
    assert np.mean(new.predict(X_B)[Y == 2] == 2) > 0.8


def test_one_missing_class_of_four():
    """More than two classes among the anchors: the coefficients go to their places."""
    X, y = load_digits(n_class=4, return_X_y=True)
    anchors = np.flatnonzero(y != 1)[:60]
    model = InvariantVotingClassifier(
        anchors=anchors, n_anchors=60, metrics=("cosine",)
    ).fit(X, y)
    new = model.rebase(X[anchors], y[anchors])
    proba = new.named_estimators_["few_shot"].predict_proba(X)
    own = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    own.fit(X[anchors], y[anchors])
    np.testing.assert_allclose(proba[:, [0, 2, 3]], own.predict_proba(X), rtol=1e-9)
    np.testing.assert_array_equal(proba[:, 1], 0)
    assert new.score(X, y) > 0.9


def test_anchors_of_one_class_train_no_head():
    """The member is left out, and the labels still count for the weights."""
    anchors = np.flatnonzero(Y == 1)[:20]
    model = fitted(anchors=anchors, n_anchors=20)
    new = rebased(model, y=Y)
    assert list(new.weights_) == list(rebased(model).weights_)
    assert new.score(X_B, Y) > 0.6


@pytest.mark.parametrize("vote", VOTES)
@pytest.mark.parametrize("n_anchors", range(2, 11))
def test_few_anchors(vote, n_anchors):
    """From two on; the weights stay close to the prior."""
    model = fitted(vote, n_anchors=n_anchors)
    y = Y if vote is InvariantVotingClassifier else TARGETS[:, 0]
    for new in (rebased(model), rebased(model, y=y)):
        assert np.isfinite(outputs(new, X_B)).all()
        assert min(new.weights_.values()) >= 0
    members = rebased(model).agreement_
    prior = signal_to_noise(list(members.values()))
    weights = np.array(list(rebased(model).weights_.values()))
    assert np.abs(weights - prior).max() < 0.35


def test_one_anchor_is_not_enough():
    """Its comparison with itself is all that there is."""
    for vote in VOTES:
        with pytest.raises(ValueError, match="2 anchors or more; got 1"):
            fitted(vote, anchors=[3])
        with pytest.raises(ValueError, match=r"n_samples=|1 sample"):
            vote(**SMALL).fit(X_A[:1], Y[:1])


@pytest.mark.parametrize("with_labels", [False, True])
def test_a_head_that_always_predicts_the_same(with_labels):
    """99 rows in 100 are of one class: the votes are constant, and finite."""
    y = np.zeros(240, dtype=int)
    y[:6] = 1
    model = fitted(y=y, estimator=LogisticRegression(C=1e-8))
    new = rebased(model, y=y if with_labels else None)
    assert set(new.predict(X_B)) == {0}
    assert np.isfinite(new.predict_log_proba(X_B)).all()


@pytest.mark.parametrize("vote", VOTES)
def test_targets_of_one_value_and_columns_of_one_value(vote):
    """Constant columns, duplicated rows and columns of zeros are no obstacle."""
    X, X_new = X_A.copy(), X_B.copy()
    X[:, 0], X[:, 1], X_new[:, 3] = 7, 0, 5
    X[1::2], X_new[1::2] = X[::2], X_new[::2]
    y = Y.copy() if vote is InvariantVotingClassifier else TARGETS[:, 2 // 2].copy()
    y[1::2] = y[::2]
    metrics = ("cosine", "euclidean", "mahalanobis", "change_of_basis")
    model = vote(**SMALL | {"metrics": metrics, "anchors": "all"}).fit(X, y)
    for new in (rebased(model, X_new), rebased(model, X_new, y)):
        assert new.score(X_new, y) > 0.5
        same = outputs(new, X_new)
        np.testing.assert_allclose(same[1::2], same[::2], rtol=1e-9)
    if vote is InvariantVotingRegressor:
        model = fitted(vote, np.full(240, 3.0))
        new = rebased(model, y=np.full(240, 4.0))
        np.testing.assert_allclose(rebased(model).predict(X_B), 3)
        np.testing.assert_allclose(new.predict(X_B), 4)


def test_anchors_without_any_variation():
    """All anchors are the same row: nothing to learn from, and no error."""
    for vote in VOTES:
        model = fitted(vote)
        new = model.rebase(np.ones((40, 5)))
        assert np.isfinite(outputs(new, np.ones((3, 5)))).all()


def test_a_pool_of_no_weight_predicts_all_classes_alike():
    """Where every member is worse than none, all weights are 0."""
    model = fitted(absolute=False)
    proba = model._own_outputs["cosine"]
    new = rebased(model)
    new._set_weights(
        {"cosine": proba, "euclidean": proba},
        1 - np.round(proba),
        [0, 0],
    )
    assert set(new.weights_.values()) == {0.0}
    np.testing.assert_allclose(new.predict_proba(X_B), 1 / 3)


# --- inputs -------------------------------------------------------------------------


def as_frame(library, X, prefix):
    """Make a frame of named columns."""
    frames = pytest.importorskip(library)
    return frames.DataFrame({f"{prefix}{i}": X[:, i] for i in range(X.shape[1])})


@pytest.mark.parametrize("output", ["default", "pandas", "polars"])
@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("vote", VOTES)
def test_frames(vote, library, output):
    """Columns are checked by name, of the space that is current; values as ever."""
    frame_a, frame_b = as_frame(library, X_A, "old"), as_frame(library, X_B, "new")
    y = TARGETS if vote is InvariantVotingRegressor else Y
    plain = fitted(vote, y)
    with config_context(transform_output=output):
        model = vote(**SMALL).fit(frame_a, y)
        assert model.feature_names_in_.tolist() == [f"old{i}" for i in range(8)]
        assert_close(outputs(model, frame_a), outputs(plain, X_A))
        anchors = select_anchors(model, frame_b)
        new = stitch(model, anchors)
        told = model.rebase(anchors, select_anchors(model, y))
        assert new.feature_names_in_.tolist() == [f"new{i}" for i in range(12)]
        assert new.n_features_in_ == 12
        assert_close(outputs(new, frame_b), outputs(rebased(plain), X_B))
        assert_close(outputs(told, frame_b), outputs(rebased(plain, y=y), X_B))
        with pytest.raises(ValueError, match="feature names should match"):
            new.predict(frame_a)
        back = new.rebase(X_A[model.anchor_indices_])
        assert not hasattr(back, "feature_names_in_")
        assert outputs(back, X_A) is not None
        with pytest.raises(ValueError, match="12 features, but"):
            back.predict(X_B)


@pytest.mark.parametrize("output", ["default", "pandas"])
def test_heads_with_steps_of_their_own_under_global_output(output):
    """A head may be a pipeline; its steps make frames, if asked to, or not."""
    pytest.importorskip("pandas")
    head = make_pipeline(StandardScaler(), LogisticRegression())
    with config_context(transform_output=output):
        model = fitted(estimator=head)
        assert rebased(model, y=Y).score(X_B, Y) > 0.9


def pandas_labels(dtype):
    """Return labels as a column of a dtype of pandas."""
    pd = pytest.importorskip("pandas")
    words = pd.Series(np.array(["no", "yes", "maybe"])[Y])
    numbers = pd.Series(Y + 1)
    series = {
        "words": words,
        "string": words.astype("string"),
        "object": words.astype(object),
        "category": words.astype("category"),
        "Int64": numbers.astype("Int64"),
        "Float64": numbers.astype("Float64"),
        "int8": numbers.astype("int8"),
        "category of numbers": numbers.astype("category"),
        "bool": numbers > 1,
        "boolean": (numbers > 1).astype("boolean"),
    }
    return series[dtype]


@pytest.mark.parametrize(
    "dtype",
    [
        *("words", "string", "object", "category", "Int64", "Float64", "int8"),
        *("category of numbers", "bool", "boolean"),
    ],
)
def test_labels_of_pandas(dtype):
    """Predicted are labels as scikit-learn's own classifiers give them."""
    y = pandas_labels(dtype)
    expected = LogisticRegression(max_iter=1000).fit(X_A, y)
    model = fitted(y=y)
    new = model.rebase(X_B[model.anchor_indices_], select_anchors(model, y))
    for pool, X in ((model, X_A), (new, X_B)):
        predicted = pool.predict(X)
        assert predicted.dtype == expected.predict(X_A).dtype
        np.testing.assert_array_equal(pool.classes_, expected.classes_)
        assert np.mean(predicted == np.asarray(y)) > 0.9
    np.testing.assert_array_equal(
        new.predict(X_B),
        model.classes_[rebased(fitted(y=codes(y)), y=codes(y)).predict(X_B)],
    )


def codes(y):
    """Return labels as numbers from 0."""
    return np.unique(np.asarray(y), return_inverse=True)[1]


@pytest.mark.parametrize(
    "y",
    [
        np.array(["no", "yes", "maybe"])[Y],
        np.array(["no", "yes", "maybe"], dtype=object)[Y],
        Y.astype(np.uint8),
        Y - 1.0,
        Y == 1,
        (Y == 1).tolist(),
        np.array(["a", "b", "c"])[Y].tolist(),
    ],
    ids=lambda y: str(getattr(y, "dtype", "list")),
)
def test_labels_of_any_kind(y):
    """Their dtype is that of the predicted ones, and the labels of anchors match."""
    model = fitted(y=y)
    anchors = X_B[model.anchor_indices_]
    new = model.rebase(anchors, np.asarray(y)[model.anchor_indices_].tolist())
    assert model.classes_.dtype == np.asarray(y).dtype
    assert new.predict(X_B).dtype == np.asarray(y).dtype
    assert new.score(X_B, y) > 0.9


def test_polars_labels():
    """Series of polars, as labels and as labels of the anchors."""
    pl = pytest.importorskip("polars")
    y = pl.Series(np.array(["no", "yes", "maybe"])[Y])
    model = fitted(y=y)
    new = model.rebase(X_B[model.anchor_indices_], y[model.anchor_indices_.tolist()])
    assert new.score(X_B, y) > 0.9


@pytest.mark.parametrize(
    "y",
    [
        np.array([None, "maybe", "no"])[Y],
        np.array(["maybe", 1, 2.5], dtype=object)[Y],
        np.array([True, "yes", b"no"], dtype=object)[Y],
    ],
)
def test_labels_of_mixed_kinds_are_refused(y):
    """With their kinds in the message."""
    kinds = sorted({type(label).__name__ for label in y})
    with pytest.raises(ValueError, match="all of one kind") as error:
        fitted(y=y)
    assert str(kinds) in str(error.value)


def test_labels_that_are_missing_or_continuous_are_refused():
    """As scikit-learn's own."""
    pd = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match="y contains NaN"):
        fitted(y=pd.Series(Y).astype("Int64").where(Y > 0))
    with pytest.raises(ValueError, match="y contains NaN"):
        fitted(y=np.where(Y > 0, Y, np.nan))
    with pytest.raises(ValueError, match="Unknown label type"):
        fitted(y=X_A[:, 0])
    with pytest.raises(ValueError, match="2 classes or more; got 1 class"):
        fitted(y=np.ones(240), estimator=GaussianNB())


def test_labels_in_a_column():
    """A frame of one column is taken, with scikit-learn's warning."""
    pd = pytest.importorskip("pandas")
    y = pd.DataFrame({"label": Y})
    with pytest.warns(DataConversionWarning, match="column-vector y was passed"):
        model = fitted(y=y)
    np.testing.assert_array_equal(model.predict_proba(X_A), fitted().predict_proba(X_A))
    with pytest.warns(DataConversionWarning, match="column-vector y was passed"):
        new = model.rebase(X_B[model.anchor_indices_], select_anchors(model, y))
    np.testing.assert_array_equal(new.predict(X_B), rebased(model, y=Y).predict(X_B))


@pytest.mark.parametrize(
    "estimator",
    [
        None,
        OneVsRestClassifier(LogisticRegression()),
        MLPClassifier(),
        MultiOutputClassifier(LogisticRegression()),
    ],
)
def test_several_labels_per_row_are_refused(estimator):
    """Whatever the head might do with them."""
    for y in (np.eye(3, dtype=int)[Y], np.column_stack([Y, Y]), np.eye(3)[Y] > 0):
        with pytest.raises(TypeError, match="one label per row; got several"):
            fitted(y=y, estimator=estimator)


def test_sparse_targets_and_rows_are_refused():
    """With what to do."""
    from scipy.sparse import csr_array

    for vote in VOTES:
        with pytest.raises(TypeError, match=r"y must be dense.*toarray"):
            vote(**SMALL).fit(X_A, csr_array(np.eye(3)[Y]))
        with pytest.raises(TypeError, match=r"[Ss]parse data was passed"):
            vote(**SMALL).fit(csr_array(X_A), Y)
        with pytest.raises(TypeError, match=r"[Ss]parse data was passed"):
            fitted(vote).rebase(csr_array(X_B[:40]))


def test_tensors_are_refused_where_they_are_not_converted():
    """Under array API dispatch, by name; without it they are arrays."""
    torch = pytest.importorskip("torch")
    X = torch.asarray(X_A)
    np.testing.assert_array_equal(
        InvariantVotingClassifier(**SMALL).fit(X, Y).predict(X), fitted().predict(X_A)
    )
    with config_context(array_api_dispatch=True):
        for vote in VOTES:
            with pytest.raises(
                TypeError, match=r"needs NumPy input; got torch\.Tensor"
            ):
                vote(**SMALL).fit(X, torch.asarray(Y))


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.float16, "O"])
def test_numbers_of_any_kind(dtype):
    """Predictions as those of the same numbers in double precision."""
    X_a, X_b = (np.round(4 * X).astype(dtype) for X in (X_A, X_B))
    for vote in VOTES:
        y = Y if vote is InvariantVotingClassifier else TARGETS[:, 0]
        model, plain = (vote(**SMALL).fit(x, y) for x in (X_a, X_a.astype(float)))
        np.testing.assert_allclose(
            outputs(model, X_a), outputs(plain, X_a.astype(float)), rtol=2e-2, atol=2e-3
        )
        new, plain = rebased(model, X_b), rebased(plain, X_b.astype(float))
        np.testing.assert_allclose(
            outputs(new, X_b), outputs(plain, X_b.astype(float)), rtol=2e-2, atol=5e-3
        )


# --- several outputs ----------------------------------------------------------------


@pytest.mark.parametrize(
    "estimator", [None, Ridge(), RandomForestRegressor(5), DecisionTreeRegressor()]
)
def test_shapes_of_targets(estimator):
    """(n,), (n, 1) and (n, 2) come back; one column is predicted as one dimension."""
    predicted = {}
    for y in (TARGETS[:, 0], TARGETS[:, :1], TARGETS):
        model = fitted(InvariantVotingRegressor, y, estimator=estimator)
        for new in (rebased(model), rebased(model, y=y)):
            assert model.predict(X_A).shape == new.predict(X_B).shape == y.shape
            assert np.shape(new.intercept_) == (y.size // 240,)
            assert new.score(X_B, y) > 0.3
        predicted[y.shape] = new.predict(X_B)
    np.testing.assert_array_equal(predicted[240,], predicted[240, 1].ravel())


def test_frames_of_targets():
    """Columns of a frame, with the values of arrays."""
    pd = pytest.importorskip("pandas")
    y = pd.DataFrame(TARGETS, columns=["sum", "square"])
    model, plain = (fitted(InvariantVotingRegressor, t) for t in (y, TARGETS))
    new = model.rebase(X_B[model.anchor_indices_], select_anchors(model, y))
    assert_close(new.predict(X_B), rebased(plain, y=TARGETS).predict(X_B))


# --- weights of samples -------------------------------------------------------------

KEPT = np.arange(240) % 3 > 0
SAMPLE_WEIGHT = KEPT.astype(float)
EXACT_HEAD = LogisticRegression(tol=1e-10, max_iter=10_000)


def without_weight(vote, head, **params):
    """Return a model of weighted rows, and one of the rows that have weight."""
    y = Y if vote is InvariantVotingClassifier else TARGETS[:, 0]
    wrong = np.where(KEPT, y, y[::-1])
    X = np.where(KEPT[:, np.newaxis], X_A, 100.0)
    rows = np.flatnonzero(KEPT)[:40]
    weighted = vote(head, **SMALL | {"anchors": rows} | params)
    removed = vote(head, **SMALL | {"anchors": np.arange(40)} | params)
    weighted.fit(X, wrong, sample_weight=SAMPLE_WEIGHT)
    return weighted, removed.fit(X_A[KEPT], y[KEPT])


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize(
    ("vote", "head"),
    [
        (InvariantVotingClassifier, EXACT_HEAD),
        (InvariantVotingClassifier, GaussianNB(var_smoothing=0)),
        (InvariantVotingRegressor, Ridge()),
    ],
)
def test_rows_without_weight_do_not_count(vote, head, absolute):
    """As if they were not there, before and after rebase."""
    weighted, removed = without_weight(vote, head, absolute=absolute)
    np.testing.assert_allclose(outputs(weighted, X_A), outputs(removed, X_A), atol=1e-6)
    rows = weighted.anchor_indices_
    weighted, removed = weighted.rebase(X_B[rows]), removed.rebase(X_B[rows])
    np.testing.assert_allclose(outputs(weighted, X_B), outputs(removed, X_B), atol=1e-5)


@pytest.mark.parametrize("vote", VOTES)
def test_the_default_head_takes_weights(vote):
    """And equal ones change nothing; None is no weight."""
    y = Y if vote is InvariantVotingClassifier else TARGETS[:, 0]
    plain = outputs(fitted(vote), X_A)
    for weights in (None, np.ones(240)):
        model = vote(**SMALL).fit(X_A, y, sample_weight=weights)
        np.testing.assert_allclose(outputs(model, X_A), plain, rtol=1e-4, atol=1e-5)
    model = vote(**SMALL).fit(X_A, y, sample_weight=np.where(Y == 1, 10, 0.1))
    assert np.abs(outputs(model, X_A) - plain).max() > 1e-2


@pytest.mark.parametrize(
    "head",
    [KNeighborsClassifier(), make_pipeline(StandardScaler(), LogisticRegression())],
)
def test_weights_that_the_head_does_not_take(head):
    """Are refused, with the head in the message."""
    model = InvariantVotingClassifier(head, **SMALL)
    with pytest.raises(TypeError, match=r"(?s)takes none.*got (KNeigh|Pipeline)"):
        model.fit(X_A, Y, sample_weight=SAMPLE_WEIGHT)
    assert model.fit(X_A, Y, sample_weight=None).score(X_A, Y) > 0.9
    with pytest.raises(TypeError, match=r"fit takes sample_weight.*\['groups'\]"):
        model.fit(X_A, Y, groups=Y)


@pytest.mark.parametrize("head", ["default", "linear", "pipeline"])
def test_routed_weights(head):
    """Through a Pipeline, a search, and a head that is a Pipeline itself."""
    with config_context(enable_metadata_routing=True):
        weighted = clone(EXACT_HEAD).set_fit_request(sample_weight=True)
        estimator = {
            "default": None,
            "linear": weighted,
            "pipeline": make_pipeline(FunctionTransformer(), weighted),
        }[head]
        rows = np.flatnonzero(KEPT)[:40]
        vote = InvariantVotingClassifier(estimator, **SMALL | {"anchors": rows})
        vote.set_score_request(sample_weight=True)
        model = make_pipeline(FunctionTransformer(), vote)
        wrong, X = np.where(KEPT, Y, (Y + 1) % 3), X_A
        expected = clone(vote).fit(X, wrong, sample_weight=SAMPLE_WEIGHT)
        model.fit(X, wrong, sample_weight=SAMPLE_WEIGHT)
        np.testing.assert_array_equal(model.predict_proba(X), expected.predict_proba(X))
        assert model.score(X, Y) > 0.9
        assert model.score(X, wrong, sample_weight=SAMPLE_WEIGHT) > 0.9
        grid = {"invariantvotingclassifier__pre": [None, "center"]}
        search = GridSearchCV(model, grid, cv=[(np.arange(240), np.arange(240))])
        search.fit(X, wrong, sample_weight=SAMPLE_WEIGHT)
        np.testing.assert_array_equal(
            clone(model)
            .set_params(**search.best_params_)
            .fit(X, wrong, sample_weight=SAMPLE_WEIGHT)
            .predict_proba(X),
            search.predict_proba(X),
        )
        assert min(search.cv_results_["mean_test_score"]) > 0.9
        neighbours = InvariantVotingClassifier(KNeighborsClassifier(), **SMALL)
        with pytest.raises(TypeError, match="sample_weight"):
            neighbours.fit(X, Y, sample_weight=SAMPLE_WEIGHT)


def test_routing_draws_nothing():
    """A generator given as `random_state` is not used up by looking at the request."""
    state = np.random.RandomState(0)
    model = InvariantVotingClassifier(RandomForestClassifier(), random_state=state)
    before = state.get_state()[1].copy()
    model.get_metadata_routing()
    estimator_html_repr(model)
    np.testing.assert_array_equal(state.get_state()[1], before)


# --- parameters ---------------------------------------------------------------------


def test_parameters_of_the_head():
    """Set by name; searched; and clone keeps them all."""
    model = InvariantVotingClassifier(LogisticRegression(), **SMALL)
    model.set_params(estimator__C=0.5)
    assert clone(model).get_params()["estimator__C"] == 0.5
    assert model.fit(X_A, Y).named_estimators_["cosine"].C == 0.5
    assert clone(rebased(model)).get_params()["n_anchors"] == 40
    with pytest.raises(ValueError, match="Invalid parameter 'D'"):
        model.set_params(estimator__D=1)


@pytest.mark.parametrize(
    "grid",
    [
        {"estimator__C": [1e-3, 1.0]},
        {"metrics": [("cosine",), ["manhattan", "chebyshev"]], "pre": [None, "center"]},
        {"post": [None, "layer", "standardize"], "n_anchors": [10, 30]},
        {"absolute": [True, False], "anchors": ["kmeans", "random"]},
    ],
)
def test_a_search(grid):
    """Over the parameters of the head and of the vote; the best model is stitched."""
    head = LogisticRegression(max_iter=1000)
    model = InvariantVotingClassifier(head, **SMALL)
    search = GridSearchCV(model, grid, cv=2).fit(X_A, Y)
    assert search.best_score_ > 0.9
    best = clone(model).set_params(**search.best_params_).fit(X_A, Y)
    np.testing.assert_array_equal(search.predict_proba(X_A), best.predict_proba(X_A))
    new = stitch(search, X_B[search.best_estimator_.anchor_indices_])
    assert new.score(X_B, Y) > 0.9


def test_seeds_reach_the_heads():
    """Where they have none; a seed of their own stays."""
    forest = RandomForestClassifier(3)
    models = [
        InvariantVotingClassifier(forest, **SMALL | {"random_state": seed}).fit(X_A, Y)
        for seed in (0, 0, 1, np.random.RandomState(0), np.random.RandomState(0))
    ]
    proba = [model.predict_proba(X_A) for model in models]
    np.testing.assert_array_equal(proba[0], proba[1])
    np.testing.assert_array_equal(proba[3], proba[4])
    assert not np.array_equal(proba[0], proba[2])
    own = clone(forest).set_params(random_state=5)
    model = InvariantVotingClassifier(own, **SMALL).fit(X_A, Y)
    assert model.named_estimators_["cosine"].random_state == 5
    assert forest.random_state is None


def test_the_default_penalty_of_coordinates():
    """Applies where the metric is used, by name or not, and `metric_params` wins."""
    used = METRICS["change_of_basis"]
    for metrics in (("change_of_basis", "cosine"), (used, "cosine")):
        models = [
            fitted(metrics=metrics, metric_params=p)
            for p in (
                None,
                {"change_of_basis": {"alpha": 0.1}},
                {},
            )
        ]
        proba = [model.predict_proba(X_A) for model in models]
        np.testing.assert_array_equal(proba[0], proba[1])
        assert not np.array_equal(proba[0], proba[2])
        assert models[0].metric_params is None
    assert fitted().aggregator_.metric_params == {}


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"metrics": 5}, TypeError, "metrics must be a sequence"),
        ({"metrics": "cosine"}, TypeError, "metrics must be a sequence"),
        ({"metrics": ()}, ValueError, "metrics must be at least one"),
        ({"metrics": ("nothing",)}, ValueError, "'nothing'"),
        ({"metrics": (Metric("kernel", cosine),)}, ValueError, "names of metrics must"),
        ({"post": "nothing"}, ValueError, "post must be"),
        ({"pre": "nothing"}, ValueError, "pre must be"),
        ({"n_anchors": 0}, ValueError, "n_anchors"),
        ({"estimator": LinearSVC()}, TypeError, "with predict_proba is needed"),
        ({"estimator": Ridge()}, TypeError, "with predict_proba is needed"),
        ({"estimator": "forest"}, TypeError, "Cannot clone"),
        ({"metric_params": {"cosine": {"p": 3}}}, TypeError, "p"),
    ],
)
def test_what_fit_refuses(params, error, message):
    """With a message that states what it must be."""
    with pytest.raises(error, match=message):
        fitted(**params)


def test_what_a_regressor_refuses():
    """A classifier as its head, and words as targets."""
    with pytest.raises(TypeError, match="must be a regressor; got Logistic"):
        fitted(InvariantVotingRegressor, estimator=LogisticRegression())
    with pytest.raises(ValueError, match="could not convert string to float"):
        fitted(InvariantVotingRegressor, np.array(["a", "b", "c"])[Y])


def test_a_choice_of_anchors_gets_the_labels():
    """As they were given: a function of one's own, and the stratified choice."""
    words = np.array(["no", "yes", "maybe"])[Y]
    seen = []

    def choose(X, y, n_anchors, random_state):
        seen.append(y)
        return np.flatnonzero(y == "yes")[:n_anchors]

    model = fitted(y=words, anchors=choose)
    np.testing.assert_array_equal(seen[0], words)
    assert set(words[model.anchor_indices_]) == {"yes"}
    model = fitted(y=words, anchors="stratified")
    projector = RelativeProjector(40, anchors="stratified", random_state=0)
    np.testing.assert_array_equal(
        model.anchor_indices_, projector.fit(X_A, words).anchor_indices_
    )


def test_equal_anchors_as_the_other_estimators():
    """Equal seeds choose equal anchors, also of a generator."""
    for seed in (0, 7):
        rows = [
            RelativeProjector(40, random_state=state).fit(X_A).anchor_indices_
            for state in (seed, np.random.RandomState(seed))
        ]
        for state, expected in zip(
            (seed, np.random.RandomState(seed)), rows, strict=True
        ):
            model = fitted(random_state=state)
            np.testing.assert_array_equal(model.anchor_indices_, expected)


def test_jobs_change_nothing():
    """Not a bit."""
    expected = fitted()
    with parallel_config("threading"):
        model = fitted(n_jobs=2)
    np.testing.assert_array_equal(model.predict_proba(X_A), expected.predict_proba(X_A))


# --- around it ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda vote: CalibratedClassifierCV(vote, cv=3, ensemble=False),
        lambda vote: CalibratedClassifierCV(FrozenEstimator(vote.fit(X_A, Y > 0))),
        lambda vote: TunedThresholdClassifierCV(vote, cv=3),
        lambda vote: FixedThresholdClassifier(vote, threshold=0.4),
    ],
)
def test_calibrated_and_with_a_threshold(wrap):
    """They fit and predict around a vote, and are stitched with it."""
    model = wrap(InvariantVotingClassifier(**SMALL)).fit(X_A, Y > 0)
    assert model.score(X_A, Y > 0) > 0.9
    rows = fitted().anchor_indices_
    with warnings.catch_warnings():  # of the threshold: see test_models
        warnings.filterwarnings("ignore", "a decision threshold must suit")
        assert stitch(model, X_B[rows]).score(X_B, Y > 0) > 0.9


@pytest.mark.parametrize("vote", VOTES)
def test_forecast_from_the_anchors(vote):
    """That of the outputs for anchors left out; a space of one's own has none."""
    model = fitted(vote)
    new = rebased(model)
    own = (0.9, 1.0) if vote is InvariantVotingRegressor else 0.9
    forecast = new.forecast(own)
    expected = forecast_swap(model.left_out_, new.left_out_, own_score=own)
    assert forecast.estimate == expected.estimate
    assert forecast.n_rows == len(model.anchors_)
    if vote is InvariantVotingClassifier:
        assert forecast.classes == tuple(model.classes_.tolist())
    with pytest.raises(ValueError, match="was not rebased"):
        model.forecast()


def test_left_out_outputs_by_hand():
    """On a relative space, an anchor's comparison with itself is the mean of others."""
    params = {"metrics": ("euclidean",), "absolute": False, "post": None}
    model = fitted(InvariantVotingRegressor, **params)
    for each, anchors in ((model, model.anchors_), (rebased(model), None)):
        rows = each.anchors_ if anchors is None else anchors
        distances = cdist(rows, rows)
        np.fill_diagonal(distances, distances.sum(axis=1) / (len(rows) - 1))
        predicted = each.named_estimators_["euclidean"].predict(distances)
        expected = each.weights_["euclidean"] * predicted + each.intercept_
        np.testing.assert_allclose(each.left_out_[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("vote", VOTES)
def test_rows_for_a_metric_that_compares_along_them(vote):
    """They reach it by rebase and stitch; without them it is refused."""
    model = fitted(vote, metrics=("cosine", "geodesic"))
    anchors = X_B[model.anchor_indices_]
    with pytest.raises(ValueError, match="X must be unlabelled rows of the new space"):
        model.rebase(anchors)
    new = model.rebase(anchors, X=X_B)
    assert ("self_trained" in new.weights_) == (vote is InvariantVotingClassifier)
    others = X_B[:, ::-1]  # of the metrics, none depends on the order of columns
    reversed_ = stitch(model, others[model.anchor_indices_], X=others)
    np.testing.assert_allclose(
        reversed_.weights_["geodesic"], new.weights_["geodesic"], atol=1e-3
    )


@pytest.mark.parametrize("vote", VOTES)
def test_copies(vote):
    """Pickled and copied, before and after rebase: the same bits."""
    model = fitted(vote)
    for each, X in ((model, X_A), (rebased(model, y=Y), X_B)):
        for again in (pickle.loads(pickle.dumps(each)), copy.deepcopy(each)):
            np.testing.assert_array_equal(outputs(again, X), outputs(each, X))
            np.testing.assert_array_equal(
                outputs(rebased(again, BENT), BENT), outputs(rebased(each, BENT), BENT)
            )


def test_the_diagram():
    """The head before fit, the members after it, and the link to our page."""
    model = InvariantVotingClassifier(KNeighborsClassifier(), **SMALL)
    assert "KNeighborsClassifier" in estimator_html_repr(model)
    assert "LogisticRegression" in estimator_html_repr(InvariantVotingClassifier())
    model = model.fit(X_A, Y)
    for each in (model, rebased(model, y=Y)):
        diagram = estimator_html_repr(each)
        assert all(name in diagram for name in each.weights_)
        assert "generated/skinvariant.InvariantVotingClassifier.html" in diagram


# --- any fitted model behind translations -------------------------------------------

HEADS = [
    LogisticRegression(max_iter=1000),
    make_pipeline(StandardScaler(), LogisticRegression()),
    RandomForestClassifier(20, random_state=0),
    KNeighborsClassifier(),
    CalibratedClassifierCV(SVC(), ensemble=False),
    GridSearchCV(LogisticRegression(max_iter=1000), {"C": [0.1, 1.0]}),
    Ridge(),
    RandomForestRegressor(20, random_state=0),
    make_pipeline(StandardScaler(), Ridge()),
]
ROWS = np.random.default_rng(0).permutation(240)[:60]


@pytest.mark.parametrize("head", HEADS, ids=repr)
@pytest.mark.parametrize("library", [None, "pandas", "polars"])
def test_any_model_behind_translations(head, library):
    """Of arrays and of frames, without a warning; nothing in the model changes."""
    X_a, X_b = X_A, X_B
    if library is not None:
        X_a, X_b = as_frame(library, X_A, "old"), as_frame(library, X_B, "new")
    take = lambda X: X.iloc[ROWS] if library == "pandas" else X[ROWS]  # noqa: E731
    model = clone(head).fit(X_a, Y)
    before = outputs(model, X_a)
    for y in (None, Y[ROWS]):
        pool = pool_translations(model, take(X_b), take(X_a), y)
        assert pool.score(X_b, Y) > 0.9 * model.score(X_a, Y)
        names = ["kernel", "orthogonal", *([] if y is None else ["few_shot"])]
        assert list(pool.weights_) == names
        assert pool.invariances_ == frozenset()
        again = pool.rebase(take(X_b), y)
        np.testing.assert_array_equal(outputs(again, X_b), outputs(pool, X_b))
        turned = pool.named_estimators_["orthogonal"]
        assert type(turned[-1]) in (type(model), type(make_pipeline(None)))
    np.testing.assert_array_equal(outputs(model, X_a), before)
    copied = pickle.loads(pickle.dumps(pool))
    np.testing.assert_array_equal(outputs(copied, X_b), outputs(pool, X_b))
    for name in ("anchor_indices_", "n_samples_fit_"):
        with pytest.raises(AttributeError, match="stitched by old_anchors"):
            getattr(pool, name)


def test_columns_by_name_behind_translations():
    """A model that chooses its columns by name gets them by name."""
    pytest.importorskip("pandas")
    from sklearn.compose import make_column_transformer

    columns = make_column_transformer((StandardScaler(), ["old1", "old0", "old5"]))
    frame = as_frame("pandas", X_A, "old")
    model = make_pipeline(columns, LogisticRegression()).fit(frame, Y)
    pool = pool_translations(model, X_B[ROWS], frame.iloc[ROWS])
    assert pool.score(X_B, Y) > 0.95 * model.score(frame, Y)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_classes_keep_their_order(n_classes):
    """Words, two or three; also where the model has them in an order of its own."""
    words = np.array(["no", "yes", "maybe"])[np.minimum(Y, n_classes - 1)]
    model = LogisticRegression(max_iter=1000).fit(X_A, words)
    for y in (None, words[ROWS]):
        pool = pool_translations(model, X_B[ROWS], X_A[ROWS], y)
        np.testing.assert_array_equal(pool.classes_, model.classes_)
        assert pool.predict(X_B).dtype == words.dtype
        assert pool.score(X_B, words) > 0.9

    class Reversed(LogisticRegression):
        def fit(self, X, y):
            super().fit(X, y)
            self.order_, self.classes_ = self.classes_, self.classes_[::-1]
            return self

        def predict_proba(self, X):
            return super().predict_proba(X)[:, ::-1]

    reversed_ = Reversed(max_iter=1000).fit(X_A, words)
    other = pool_translations(reversed_, X_B[ROWS], X_A[ROWS], words[ROWS])
    np.testing.assert_array_equal(other.classes_, model.classes_[::-1])
    np.testing.assert_allclose(
        other.predict_proba(X_B)[:, ::-1], pool.predict_proba(X_B), atol=1e-4
    )


@pytest.mark.parametrize("y", [TARGETS[:, 0], TARGETS[:, :1], TARGETS])
def test_targets_behind_translations(y):
    """Of the shape that the model predicts."""
    model = Ridge().fit(X_A, y)
    shape = model.predict(X_A).shape
    pool = pool_translations(model, X_B[ROWS], X_A[ROWS])
    assert pool.predict(X_B).shape == shape
    assert pool.score(X_B, y) > model.score(X_A, y) - 0.1
    told = pool_translations(
        model, X_B[ROWS], X_A[ROWS], y[ROWS].reshape(60, *shape[1:])
    )
    assert told.predict(X_B).shape == shape


def test_models_that_cannot_be_pooled():
    """Without probabilities, with what to do; and what predicts nothing at all."""
    svc = LinearSVC().fit(X_A, Y)
    with pytest.raises(TypeError, match=r"CalibratedClassifierCV\(FrozenEstimator"):
        pool_translations(svc, X_B[ROWS], X_A[ROWS])
    calibrated = CalibratedClassifierCV(FrozenEstimator(svc)).fit(X_A, Y)
    assert pool_translations(calibrated, X_B[ROWS], X_A[ROWS]).score(X_B, Y) > 0.9
    with pytest.raises(TypeError, match="a fitted classifier or regressor"):
        pool_translations(StandardScaler().fit(X_A), X_B[ROWS], X_A[ROWS])
    lonely = KNeighborsClassifier().fit(X_A, np.zeros(240))
    with pytest.raises(ValueError, match="2 classes or more"):
        pool_translations(lonely, X_B[ROWS], X_A[ROWS])
    several = np.column_stack([X_A[:, 0] > 0, X_A[:, 1] > 0]).astype(int)
    for head in (
        OneVsRestClassifier(LogisticRegression()),  # one array of probabilities
        KNeighborsClassifier(),  # a list of them
    ):
        with pytest.raises(TypeError, match=r"one label per row.* of shape \(\d+, 2\)"):
            pool_translations(head.fit(X_A, several), X_B[ROWS], X_A[ROWS])


def test_what_is_given_is_not_written_to():
    """Rows, targets and weights that cannot be written to are no obstacle."""
    arrays = [X_A.copy(), TARGETS.copy(), np.ones(240), X_B.copy()]
    for array in arrays:
        array.setflags(write=False)
    X, y, weights, X_new = arrays
    model = InvariantVotingRegressor(**SMALL).fit(X, y, sample_weight=weights)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new = model.rebase(X_new[model.anchor_indices_], y[model.anchor_indices_])
        assert new.predict(X_new).shape == y.shape


@pytest.mark.parametrize("vote", [InvariantVotingClassifier, InvariantVotingRegressor])
def test_rows_are_predicted_in_blocks_of_limited_memory(vote):
    """The same predictions, from relative spaces of a few rows at a time."""
    X = np.random.default_rng(0).standard_normal((300, 6))
    y = (X[:, 0] > 0).astype(int)
    model = vote(n_anchors=20, random_state=0).fit(X, y)
    stitched = model.rebase(X[model.anchor_indices_] @ np.triu(np.ones((6, 6))))
    for each in (model, stitched):
        whole = each.predict(X)
        with config_context(working_memory=0.1):
            in_blocks = each.predict(X)
        np.testing.assert_allclose(in_blocks, whole, rtol=1e-12)


# --- rows without labels --------------------------------------------------------------


def with_rows(model, X=X_B, y=None, rows=slice(None)):
    """Return a model rebased to a space, with some of its rows as X."""
    anchors = model.anchor_indices_
    y = None if y is None else y[anchors]
    return model.rebase(X[anchors], y, X=X[rows])


def test_a_discriminant_of_labels_is_that_of_sklearn():
    """Where each probability is 0 or 1, and the rows are about any origin."""
    proba = np.eye(3)[np.argsort(np.argsort(X_A[:, 0])) % 3]
    sums, sizes = proba.T @ X_A, proba.sum(axis=0)
    prior = sizes / len(X_A)  # by which sklearn weights the covariances, too
    coef, intercept = _linear_discriminant(X_A.T @ X_A, sums, sizes, prior)
    expected = LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage=0.3, priors=prior
    ).fit(X_A, proba.argmax(axis=1))
    np.testing.assert_allclose(coef, expected.coef_, rtol=1e-8)
    np.testing.assert_allclose(intercept, expected.intercept_, rtol=1e-8)


@pytest.mark.parametrize("with_labels", [False, True])
def test_the_self_trained_member_by_hand(with_labels):
    """Its labels are the pool's; to leave an anchor out, the pool is fitted without."""
    model = fitted()
    y, rows = Y if with_labels else None, model.anchor_indices_
    pool = rebased(model, y=y)
    new = with_rows(model, y=y)
    targets = np.eye(3)[Y[rows]] if with_labels else model.left_out_
    scaler = StandardScaler().fit(X_B)
    X, anchors = scaler.transform(X_B), scaler.transform(X_B[rows])
    shares = (np.bincount(Y) + 1) / (len(Y) + 3)

    def trained(proba, kept):
        P = np.vstack([proba, *[targets[kept]] * 10])
        Z = np.vstack([X, *[anchors[kept]] * 10])
        means = P.T @ Z / P.sum(axis=0)[:, None]
        apart = Z[:, None] - means  # of each row from each mean
        within = np.einsum("ik,ikd,ike->de", P, apart, apart) / P.sum()
        within = 0.7 * within + 0.3 * np.trace(within) / 12 * np.eye(12)
        inverse = np.linalg.inv(within)
        return lambda Z: log_softmax(
            [
                [
                    np.log(s) - (z - m) @ inverse @ (z - m) / 2
                    for m, s in zip(means, shares, strict=True)
                ]
                for z in Z
            ],
            axis=1,
        )

    expected = trained(pool.predict_proba(X_B), np.arange(40))(X)
    found = new.named_estimators_["self_trained"].predict_log_proba(X_B)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)

    at_anchors = np.split(pool.aggregator_.transform(X_B[rows]), 2, axis=1)
    at_anchors = dict(zip(SMALL["metrics"], at_anchors, strict=True))
    left_out = np.empty((40, 3))
    head = model.named_estimators_["absolute"]
    values = log_odds(head.predict_proba(X_A[rows]))
    for kept, others in KFold(5, shuffle=True, random_state=0).split(rows):
        kernel = SpaceTranslator("kernel").fit(X_B[rows][kept], values[kept])
        turned = SpaceTranslator("orthogonal").fit(X_B[rows][kept], X_A[rows][kept])
        parts = {
            "kernel": softmax(kernel.transform(X_B), axis=1),
            "orthogonal": head.predict_proba(turned.transform(X_B)),
        }
        relative = np.split(pool.aggregator_.transform(X_B), 2, axis=1)
        for name, columns in zip(SMALL["metrics"], relative, strict=True):
            columns[:, others] = np.mean(at_anchors[name], axis=0)[others]
            parts[name] = model.named_estimators_[name].predict_proba(columns)
        if with_labels:
            few = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
            few.fit(X_B[rows][kept], Y[rows][kept])
            parts["few_shot"] = few.predict_proba(X_B)
        n_rows = {"few_shot": 40}
        logs = sum(
            weight * smoothed_log(parts[name], n_rows.get(name, 240))
            for name, weight in pool.weights_.items()
        )
        left_out[others] = trained(softmax(logs, axis=1), kept)(anchors[others])
    left_out = np.exp(left_out)
    agreements = [
        decision_agreement(log_odds(proba), log_odds(model.left_out_))
        for proba in (left_out, pool.left_out_)
    ]
    assert new.agreement_["self_trained"] == pytest.approx(agreements[0], rel=1e-6)
    prior = signal_to_noise(agreements) * [240 / 252, 1]
    logs = [smoothed_log(left_out, 240), np.log(pool.left_out_)]
    expected = log_pool_weights(logs, targets, prior=prior / prior.sum(), alpha=50)
    # up to the inverse temperature of all
    names = list(pool.weights_)
    assert list(new.weights_) == [*names, "self_trained"]
    rest = np.array([new.weights_[name] for name in names])
    old = np.array([pool.weights_[name] for name in names])
    np.testing.assert_allclose(rest * old.sum(), old * rest.sum(), atol=1e-9)
    share = new.weights_["self_trained"] / (rest.sum() / old.sum())
    assert share == pytest.approx(expected[0] / expected[1], rel=1e-4)


@functools.cache
def few_anchors_of_digits(n_anchors):
    """Return a model of the digits, and rows of another encoder with their labels."""
    X, y = load_digits(return_X_y=True)
    model = InvariantVotingClassifier(n_anchors=n_anchors, random_state=0)
    model.fit(X[:900], y[:900])
    new = Nystroem(gamma=1e-3, n_components=100, random_state=0).fit(X[:900])
    return model, new.transform(X), y


def test_rows_without_labels_help_where_anchors_are_few():
    """Thirty anchors of a map that is not linear."""
    model, X, y = few_anchors_of_digits(30)
    anchors = X[model.anchor_indices_]
    without = model.rebase(anchors).score(X[900:], y[900:])
    found = model.rebase(anchors, X=X[:900])
    assert found.score(X[900:], y[900:]) > without + 0.05
    assert found.weights_["self_trained"] > 0.1


@pytest.mark.parametrize("kind", ["noise", "half", "few"])
def test_unsuitable_rows_without_labels_do_little_harm(kind):
    """Noise, rows without every other class, and fewer rows than features."""
    model, X, y = few_anchors_of_digits(100)
    rows = {
        "noise": np.random.default_rng(0).permuted(X[:900], axis=0),
        "half": X[:900][y[:900] % 2 == 0],
        "few": X[:50],
    }[kind]
    anchors = X[model.anchor_indices_]
    without = model.rebase(anchors).score(X[900:], y[900:])
    found = model.rebase(anchors, X=rows)
    assert found.score(X[900:], y[900:]) > without - 0.01


def test_an_anchor_is_no_evidence_for_itself_through_rows_without_labels():
    """In a space of noise, those left out agree by chance alone.

    With all anchors in the pool that labels the rows, it would be .21 on average.
    """
    model, found = fitted(), []
    for seed in range(8):
        noise = np.random.default_rng(seed).standard_normal(X_B.shape)
        new = with_rows(model, noise)
        found.append(new.agreement_["self_trained"])
    assert np.mean(found) < 0.13


def test_rows_without_labels_change_nothing_else():
    """Not the model, nor what it is rebased to later; in any order and batches."""
    model = fitted()
    before, plain = model.predict_proba(X_A), rebased(model).predict_proba(X_B)
    given = X_B.copy()
    new = model.rebase(given[model.anchor_indices_], X=given)
    found = new.predict_proba(X_B)
    np.testing.assert_array_equal(given, X_B)
    np.testing.assert_array_equal(model.predict_proba(X_A), before)
    np.testing.assert_array_equal(with_rows(model).predict_proba(X_B), found)
    np.testing.assert_array_equal(with_rows(new).predict_proba(X_B), found)
    again = rebased(new)
    np.testing.assert_array_equal(again.predict_proba(X_B), plain)
    assert "self_trained" not in again.weights_
    backwards = with_rows(model, rows=slice(None, None, -1))
    np.testing.assert_allclose(backwards.predict_proba(X_B), found, rtol=1e-6)


def test_rows_without_labels_are_read_in_batches(monkeypatch):
    """Of batches of seven rows comes the same model as of one batch."""
    found = with_rows(fitted()).predict_proba(X_B)
    monkeypatch.setattr("skinvariant.voting._BATCH_ROWS", 7)
    np.testing.assert_allclose(with_rows(fitted()).predict_proba(X_B), found, rtol=1e-6)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_self_trained_member_is_saved_and_exported(n_classes, tmp_path):
    """As every other member, in files and as a torch module."""
    torch = pytest.importorskip("torch")
    model = fitted(y=np.minimum(Y, n_classes - 1))
    new = with_rows(model)
    assert new.weights_["self_trained"] > 0
    found = new.predict_proba(X_B)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(new)).predict_proba(X_B), found
    )
    save(new, tmp_path / "new.skinv")
    np.testing.assert_array_equal(
        load(tmp_path / "new.skinv").predict_proba(X_B), found
    )
    logs = new.to_torch()(torch.as_tensor(X_B)).detach().numpy()
    np.testing.assert_allclose(np.exp(logs), found, atol=1e-9)


@pytest.mark.parametrize("n_rows", [2, 3])
def test_few_and_equal_rows_without_labels(n_rows):
    """Even rows that do not vary give probabilities."""
    for rows in (X_B[:n_rows], np.ones((n_rows, 12)), 1e150 * X_B[:n_rows]):
        model = fitted()
        new = model.rebase(X_B[model.anchor_indices_], X=rows)
        np.testing.assert_allclose(new.predict_proba(X_B).sum(axis=1), 1)
        assert new.score(X_B, Y) > rebased(model).score(X_B, Y) - 0.02


@pytest.mark.parametrize("params", [{"absolute": False}, {"metrics": ()}])
def test_rows_without_labels_for_some_members(params):
    """Without the absolute head, and behind translations alone."""
    if "metrics" in params:
        old = make_pipeline(StandardScaler(), LogisticRegression()).fit(X_A, Y)
        rows = np.arange(40)
        new = pool_translations(old, X_B[rows], X_A[rows], X=X_B)
    else:
        new = with_rows(fitted(**params))
    assert new.weights_["self_trained"] > 0
    assert new.score(X_B, Y) > 0.9


def test_frames_of_rows_without_labels():
    """The columns must be those of the anchors."""
    pytest.importorskip("pandas")
    model, frame = fitted(), as_frame("pandas", X_B, "new")
    anchors = frame.iloc[model.anchor_indices_]
    new = model.rebase(anchors, X=frame)
    expected = with_rows(model).predict_proba(X_B)
    np.testing.assert_allclose(new.predict_proba(frame), expected, rtol=1e-9)
    with pytest.raises(ValueError, match="feature names"):
        model.rebase(anchors, X=as_frame("pandas", X_B, "old"))


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (X_B[:, :5], ValueError, "X has 5 features.*12"),
        (X_B[:1], ValueError, "1 sample"),
        (np.full((3, 12), np.nan), ValueError, "NaN"),
        (csr_array(X_B), TypeError, "[Ss]parse"),
    ],
    ids=["width", "one row", "NaN", "sparse"],
)
def test_rows_without_labels_that_are_refused(rows, error, message):
    """Before anything is fitted."""
    model = fitted()
    with pytest.raises(error, match=message):
        model.rebase(X_B[model.anchor_indices_], X=rows)


def test_a_regressor_takes_no_rows_without_targets():
    """They train a member of classifiers."""
    model = fitted(InvariantVotingRegressor)
    with pytest.raises(
        TypeError, match=r"X must be None for a regressor.*got a ndarray"
    ):
        with_rows(model)
