"""Opinion pools: weights that are known, and what a pool does with them."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_digits, make_regression
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import LinearSVC

from skinvariant.pooling import (
    PooledClassifier,
    PooledRegressor,
    linear_pool_weights,
    log_pool_weights,
    signal_to_noise,
)


@pytest.fixture
def opinions():
    """Random log-probabilities of 3 members about 200 rows, and what they pool to."""
    rng = np.random.default_rng(0)
    probas = rng.dirichlet(np.ones(4), size=(3, 200))
    weights = np.array([1.5, 0.4, 0.0])
    pooled = np.prod(probas ** weights[:, None, None], axis=0)
    return np.log(probas), pooled / pooled.sum(axis=1, keepdims=True), weights


def test_the_weights_of_a_log_pool_are_recovered(opinions):
    """Targets that are a pool of the members give back that pool's weights."""
    log_probas, targets, weights = opinions
    found = log_pool_weights(log_probas, targets, alpha=0)
    np.testing.assert_allclose(found, weights, atol=2e-3)


@pytest.mark.parametrize("alpha", [0.5, 20])
def test_the_log_pool_minimises_the_documented_loss(opinions, alpha):
    """A generic minimiser of the documented loss, without gradients, agrees."""
    log_probas, targets, _ = opinions
    prior = np.array([0.2, 0.3, 0.6])

    def loss(weights):
        logs = sum(w * lp for w, lp in zip(weights, log_probas, strict=True))
        logs = logs - logsumexp(logs, axis=1, keepdims=True)
        return -(targets * logs).sum() + alpha * ((weights - prior) ** 2).sum()

    bounds = [(0, None)] * 3
    slow = minimize(loss, prior, bounds=bounds, method="SLSQP", tol=1e-12)
    found = log_pool_weights(log_probas, targets, prior=prior, alpha=alpha)
    np.testing.assert_allclose(found, slow.x, atol=1e-3)
    assert loss(found) <= slow.fun + 1e-6


def test_without_evidence_the_prior_stays(opinions):
    """An alpha that outweighs all rows."""
    log_probas, targets, _ = opinions
    found = log_pool_weights(log_probas, targets, prior=[1, 2, 3], alpha=1e9)
    np.testing.assert_allclose(found, [1, 2, 3], rtol=1e-5)
    equal = log_pool_weights(log_probas, targets, alpha=1e9)
    np.testing.assert_allclose(equal, [1 / 3] * 3, rtol=1e-5)


def test_the_weights_of_a_linear_pool_are_recovered():
    """Targets that are a sum of predictions; several outputs too."""
    predictions = np.random.default_rng(0).standard_normal((3, 50, 2))
    targets = 0.5 * predictions[0] + 2 * predictions[2]
    found = linear_pool_weights(predictions, targets, alpha=0)
    np.testing.assert_allclose(found, [0.5, 0, 2], atol=1e-12)
    single = linear_pool_weights(predictions[..., 0], targets[..., 0], alpha=0)
    np.testing.assert_allclose(single, [0.5, 0, 2], atol=1e-12)


def test_a_linear_pool_is_a_ridge_regression_towards_the_prior():
    """Where no weight is at its bound, scikit-learn's Ridge gives the same."""
    rng = np.random.default_rng(0)
    predictions = rng.standard_normal((2, 100))
    targets = predictions.sum(axis=0) + rng.standard_normal(100)
    prior = np.array([0.3, 0.9])
    residual = targets - prior @ predictions
    unit = 2 * np.mean(residual**2)
    ridge = Ridge(alpha=5 * unit, fit_intercept=False).fit(predictions.T, residual)
    found = linear_pool_weights(predictions, targets, prior=prior, alpha=5)
    np.testing.assert_allclose(found, prior + ridge.coef_)
    exact = linear_pool_weights(predictions, prior @ predictions, prior=prior)
    np.testing.assert_array_equal(exact, prior)


@pytest.mark.parametrize("weigh", [log_pool_weights, linear_pool_weights])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prior": [1]}, r"prior must be 3 finite numbers >= 0.*got \[1.0\]"),
        (
            {"prior": [1, -1, 1]},
            r"prior must be a real number in \[0, 1e\+100\]; got -1",
        ),
        ({"alpha": -1}, "alpha must be a real number"),
        ({"targets": np.zeros((5, 4))}, r"got \(3, 200, 4\), and targets of \(5, 4\)"),
        ({"targets": np.full((200, 4), np.nan)}, "must be finite"),
    ],
)
def test_what_pool_weights_refuse(opinions, weigh, change, message):
    """Each wrong argument is named, with what was got."""
    log_probas, targets, _ = opinions
    arguments = {"targets": targets} | change
    with pytest.raises(ValueError, match=message):
        weigh(log_probas, **arguments)


def test_signal_to_noise_gives_the_best_mean_of_independent_members():
    """Its error, over many rows, is that of least squares within a hundredth."""
    rng = np.random.default_rng(0)
    truth = rng.standard_normal(100_000)
    noise = np.array([0.3, 1.0, 3.0])
    members = truth + noise[:, np.newaxis] * rng.standard_normal((3, len(truth)))
    weights = signal_to_noise([np.corrcoef(truth, m)[0, 1] for m in members])
    best = noise**-2.0 / np.sum(noise**-2.0)
    errors = [np.mean((w @ members - truth) ** 2) for w in (weights, best)]
    assert weights.sum() == pytest.approx(1)
    assert errors[0] < 1.01 * errors[1]
    np.testing.assert_array_equal(signal_to_noise([0, 0]), [0.5, 0.5])


@pytest.fixture(scope="module")
def digits():
    """Digits: rows for members, for weights, and for scores."""
    X, y = load_digits(return_X_y=True)
    return X[:600], y[:600], X[600:900], y[600:900], X[900:], y[900:]


@pytest.fixture(scope="module")
def members(digits):
    """Three fitted classifiers, one of which guesses."""
    models = {
        "guess": DummyClassifier(),
        "bayes": GaussianNB(),
        "logistic": LogisticRegression(C=0.01, max_iter=1000),
    }
    return [(name, model.fit(*digits[:2])) for name, model in models.items()]


def test_a_pool_is_as_good_as_its_best_member(digits, members):
    """The one that guesses does not change the predicted class."""
    pool = PooledClassifier(members).fit(*digits[2:4])
    scores = {name: member.score(*digits[4:]) for name, member in members}
    assert pool.score(*digits[4:]) >= max(scores.values()) > scores["guess"] + 0.5
    weights = pool.weights_by_name_
    assert list(weights) == ["guess", "bayes", "logistic"]
    assert weights["logistic"] == pool.weights_[2] > 0.5


def test_probabilities_are_those_of_the_formula(digits, members):
    """A product of smoothed probabilities to the power of the weights."""
    pool = PooledClassifier(members).fit(*digits[2:4])
    X = digits[4][:50]
    smoothed = [(300 * m.predict_proba(X) + 1) / 310 for _, m in members]
    powers = [p**w for p, w in zip(smoothed, pool.weights_, strict=True)]
    expected = np.prod(powers, axis=0)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(pool.predict_proba(X), expected)
    np.testing.assert_allclose(pool.predict_log_proba(X), np.log(expected))
    np.testing.assert_array_equal(pool.predict(X), expected.argmax(axis=1))


def test_a_probability_of_zero_is_no_veto(digits):
    """Naive Bayes gives probabilities of exactly 0; the logarithm stays finite."""
    sure = GaussianNB(var_smoothing=1e-12).fit(digits[0] * 100, digits[1])
    X = digits[2] * 100
    assert (sure.predict_proba(X) == 0).any()
    pool = PooledClassifier([("sure", sure)]).fit(X, digits[3])
    assert np.isfinite(pool.predict_log_proba(X)).all()


def test_labels_of_any_kind(digits):
    """Classes are those of the members, in their order."""
    names = np.array(["zero", "one", "two"])
    few = digits[1] < 3
    member = GaussianNB().fit(digits[0][few], names[digits[1][few]])
    kept = digits[3] < 3
    pool = PooledClassifier([("only", member)])
    pool.fit(digits[2][kept], names[digits[3][kept]])
    assert pool.classes_.tolist() == ["one", "two", "zero"]
    np.testing.assert_array_equal(
        pool.predict(digits[2][kept]), member.predict(digits[2][kept])
    )
    with pytest.raises(ValueError, match=r"members' classes.*got \['four'\]"):
        pool.fit(digits[2][:1], ["four"])


def test_a_pool_of_regressors_scales_what_is_too_small():
    """A member that predicts half of the deviation gets twice the weight."""
    X, y = make_regression(300, 4, random_state=0)
    half = LinearRegression().fit(X, y / 2 + 10)
    flat = DummyRegressor().fit(X, y)
    pool = PooledRegressor([("half", half), ("flat", flat)], alpha=0)
    pool.fit(X[:150], y[:150])
    assert set(pool.weights_by_name_) == {"half", "flat"}
    assert pool.center_ == pytest.approx(y[:150].mean())
    expected = pool.center_ + sum(
        w * (m.predict(X) - m.predict(X[:150]).mean())
        for w, (_, m) in zip(pool.weights_, pool.estimators, strict=True)
    )
    np.testing.assert_allclose(pool.predict(X), expected)
    assert pool.weights_by_name_["half"] == pytest.approx(2)
    np.testing.assert_allclose(pool.predict(X), y)


def test_several_outputs():
    """Targets of two columns have one weight per member, and a centre each."""
    X, y = make_regression(100, 4, n_targets=2, random_state=0)
    pool = PooledRegressor([("all", LinearRegression().fit(X, y))], alpha=0).fit(X, y)
    np.testing.assert_allclose(pool.weights_, [1])
    np.testing.assert_allclose(pool.center_, y.mean(axis=0))
    np.testing.assert_allclose(pool.predict(X), y)


def test_what_a_pool_refuses(digits, members):
    """No members, unfitted ones, without probabilities, or of other classes."""
    X, y = digits[2:4]
    with pytest.raises(ValueError, match="at least one"):
        PooledClassifier([]).fit(X, y)
    with pytest.raises(NotFittedError):
        PooledClassifier([("new", GaussianNB())]).fit(X, y)
    with pytest.raises(NotFittedError):
        PooledClassifier(members).predict(X)
    with pytest.raises(
        TypeError, match="must have predict_proba; got 'svc', LinearSVC"
    ):
        PooledClassifier([("svc", LinearSVC().fit(X, y))]).fit(X, y)
    other = GaussianNB().fit(X[y < 5], y[y < 5])
    with pytest.raises(ValueError, match="got 'few' with"):
        PooledClassifier([*members, ("few", other)]).fit(X, y)


@pytest.mark.parametrize("pool", [PooledClassifier, PooledRegressor])
def test_constructors_only_store(pool):
    """So that a pool can be cloned with its parameters."""
    made = pool([("a", DummyClassifier())], prior=[2], alpha=3)
    assert isinstance(made, BaseEstimator)
    copied = clone(made).get_params(deep=False)
    assert copied["prior"] == [2]
    assert copied["alpha"] == 3
