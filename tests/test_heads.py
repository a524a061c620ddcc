"""The heads: scikit-learn estimators around a network that skorch trains."""

import contextlib
import copy
import functools
import io
import json
import os
import pickle
import re
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.stats import ortho_group
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits, make_regression
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_predict, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import estimator_checks_generator

torch = pytest.importorskip("torch")
pytest.importorskip("skorch")

from skorch.callbacks import (  # noqa: E402
    Callback,
    EarlyStopping,
    EpochScoring,
    LRScheduler,
)
from torch.optim.lr_scheduler import StepLR  # noqa: E402

from skinvariant import (  # noqa: E402
    InvariantAggregator,
    InvariantVotingClassifier,
    stitch,
)
from skinvariant.heads import (  # noqa: E402
    InvariantClassifier,
    InvariantRegressor,
)
from skinvariant.heads._training import torch_device  # noqa: E402
from skinvariant.metrics import METRICS, euclidean  # noqa: E402
from skinvariant.nn import AGGREGATIONS, MLPSum  # noqa: E402
from skinvariant.persistence import TRUSTED, fingerprint  # noqa: E402

torch.set_num_threads(1)  # small networks are slower on more
BOTH = [InvariantClassifier, InvariantRegressor]
LEARNED = ("attention", "mlp_sum", "weighted")


@pytest.fixture(scope="module")
def digits():
    """Images of digits, in float32, 700 to train and 300 to test."""
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))[:1000]
    X, y = X[order].astype(np.float32), y[order]
    return X[:700], X[700:], y[:700], y[700:]


@pytest.fixture(scope="module")
def targets():
    """Two targets of a smooth function, in units of their own."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 4)).astype(np.float32)
    y = np.column_stack([1000 + 50 * X[:, 0], 0.01 * np.abs(X[:, 1])])
    return X[:500], X[500:], y[:500], y[500:]


@functools.cache
def fitted(aggregation="mlp_sum", **kwargs):
    """A classifier of digits, fitted once for all tests that do not change it."""
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))[:700]
    head = InvariantClassifier(60, aggregation=aggregation, random_state=0, **kwargs)
    return head.fit(X[order].astype(np.float32), y[order])


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_digits_are_learned(aggregation, digits):
    """Every aggregation learns them, in a network of its own class."""
    _, X, _, y = digits
    head = fitted(aggregation)
    assert head.score(X, y) > 0.85
    assert type(head.net_.module_.aggregation) is AGGREGATIONS[aggregation]
    probabilities = head.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert np.array_equal(head.classes_[probabilities.argmax(1)], head.predict(X))


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_transform_is_the_input_of_the_linear_head(aggregation, digits):
    """The linear head maps it to the probabilities."""
    _, X, _, _ = digits
    head = fitted(aggregation)
    space = head.transform(X)
    assert space.shape == (300, 240 if aggregation == "concat" else 60)
    assert len(head.get_feature_names_out()) == space.shape[1]
    with torch.no_grad():
        outputs = head.net_.module_.head(torch.from_numpy(space)).softmax(dim=1)
    np.testing.assert_allclose(outputs.numpy(), head.predict_proba(X), atol=1e-6)


def test_mean_is_the_aggregators_mean(digits):
    """With nothing learned, the space is that of `InvariantAggregator`."""
    X, X_test, y, _ = digits
    head = InvariantClassifier(
        60, aggregation="mean", post="layer", max_epochs=1, random_state=0
    )
    head.fit(X, y)
    aggregator = InvariantAggregator(
        60, post="layer", aggregation="mean", random_state=0
    ).fit(X)
    assert np.array_equal(head.anchor_indices_, aggregator.anchor_indices_)
    np.testing.assert_allclose(
        head.transform(X_test), aggregator.transform(X_test), atol=1e-5
    )


def test_regression_in_the_units_of_the_targets(targets):
    """Two targets, 1000 and 0.01 in size, together and each alone."""
    X, X_test, y, y_test = targets
    head = InvariantRegressor(80, hidden_layer_sizes=(50,), random_state=0).fit(X, y)
    assert head.predict(X_test).shape == (100, 2)
    assert head.score(X_test, y_test) > 0.9
    alone = clone(head).fit(X, y[:, 0])
    assert alone.predict(X_test).shape == (100,)
    assert alone.score(X_test, y_test[:, 0]) > 0.9
    column = clone(head).fit(X, y[:, :1])
    assert column.predict(X_test).shape == (100, 1)
    assert np.array_equal(column.predict(X_test).ravel(), alone.predict(X_test))


# --- another encoder ---------------------------------------------------------------


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_rebase_to_a_space_that_no_metric_distinguishes(aggregation, digits):
    """Pixels permuted, scaled and translated: the same probabilities."""
    _, X, _, _ = digits
    head = fitted(aggregation)
    other = 3 * X[:, ::-1] + 5
    moved = 3 * head.anchors_[:, ::-1] + 5
    without_angles = ("euclidean", "manhattan", "chebyshev")
    head = fitted(aggregation, metrics=without_angles, max_epochs=5)
    rebased = head.rebase(moved)
    assert rebased.agreement_ == pytest.approx(dict.fromkeys(without_angles, 1))
    np.testing.assert_allclose(
        rebased.predict_proba(other), head.predict_proba(X), atol=1e-4
    )
    assert "translation" in rebased.invariances_


def test_a_metric_that_disagrees_gets_a_small_weight(digits):
    """A rotation keeps angles and L2 distances but changes L-infinity."""
    _, X, _, y = digits
    head = fitted()
    turn = ortho_group.rvs(64, random_state=0).astype(np.float32)
    rebased = head.rebase(head.anchors_ @ turn)
    agreement = rebased.agreement_
    assert set(head.agreement_.values()) == {1.0}
    assert agreement["cosine"] == pytest.approx(1, abs=1e-5)
    assert agreement["euclidean"] == pytest.approx(1, abs=1e-5)
    assert agreement["chebyshev"] < 0.8 < agreement["manhattan"]
    factors = rebased.net_.module_.aggregation.factors.numpy()
    squares = np.array(list(agreement.values())) ** 2
    expected = squares / (1 - squares + 1e-3)
    np.testing.assert_allclose(factors, expected / expected.mean(), rtol=1e-5)
    blind = head.set_params(reweight=0).rebase(head.anchors_ @ turn)
    head.set_params(reweight=1.0)
    assert bool((blind.net_.module_.aggregation.factors == 1).all())
    assert rebased.score(X @ turn, y) >= blind.score(X @ turn, y)


def test_factors_are_finite_where_nothing_agrees():
    """Every space then has the weight of training."""
    head = fitted()
    constant = np.ones((60, 3), dtype=np.float32)
    constant[0] = 2
    with np.errstate(all="raise"):
        factors = head.rebase(constant).net_.module_.aggregation.factors
    assert bool(torch.isfinite(factors).all())


def test_rebase_leaves_the_head_alone(digits):
    """A new network with the same weights: training one does not change the other."""
    X, X_test, y, _ = digits
    head = fitted()
    before = head.predict_proba(X_test)
    rebased = head.rebase(X[head.anchor_indices_][:, ::-1])
    assert rebased.n_features_in_ == 64
    rebased.fine_tune(X[:50, ::-1], y[:50], part="all")
    rebased.partial_fit(X[:50, ::-1], y[:50])
    assert np.array_equal(head.predict_proba(X_test), before)
    assert len(head.history_) == 20
    again = rebased.rebase(head.anchors_)
    assert list(again.agreement_.values()) == pytest.approx([1] * 4)
    with pytest.raises(ValueError, match=r"60 rows, in the same order; got 9 rows"):
        head.rebase(X[:9])


@pytest.mark.parametrize("place", ["alone", "last", "before a classical head"])
def test_stitch(place, digits):
    """`stitch` finds the head in any place, and swaps the encoder as well."""
    X, X_test, y, y_test = digits
    head = InvariantClassifier(60, random_state=0)
    if place == "alone":
        model = head.fit(X, y)
        stitched = stitch(model, X[head.anchor_indices_][:, ::-1])
        score = stitched.score(X_test[:, ::-1], y_test)
    else:
        after = [] if place == "last" else [LogisticRegression(max_iter=1000)]
        model = make_pipeline(PCA(30, random_state=0), head, *after).fit(X, y)
        encoder = PCA(20, random_state=1).fit(X)
        stitched = stitch(model, X[head.anchor_indices_], encoder=encoder)
        score = stitched.score(X_test, y_test)
    assert model.score(X_test, y_test) > 0.85
    assert score > 0.8


# --- subspace selection ------------------------------------------------------------


def test_a_head_in_a_voting_model(digits):
    """One network for each metric and one for the space itself, rebased together."""
    X, X_test, y, y_test = digits
    head = InvariantClassifier(30, max_epochs=5, random_state=0)
    vote = InvariantVotingClassifier(
        head, n_anchors=60, metrics=("cosine",), random_state=0
    ).fit(X, y)
    rebased = vote.rebase(2 * X[vote.anchor_indices_][:, ::-1])
    assert rebased.named_estimators_["cosine"] is vote.named_estimators_["cosine"]
    scores = vote.score(X_test, y_test), rebased.score(2 * X_test[:, ::-1], y_test)
    assert min(scores) > 0.6
    assert abs(scores[0] - scores[1]) < 0.1


@pytest.mark.parametrize("part", ["aggregation", "head", "all"])
@pytest.mark.parametrize("aggregation", LEARNED)
def test_fine_tune_changes_its_part_alone(part, aggregation, digits):
    """The other weights, and the estimator itself, keep every bit."""
    X, _, y, _ = digits
    head = fitted(aggregation)
    before = copy.deepcopy(head.net_.module_.state_dict())
    tuned = (
        copy.copy(head)
        .set_params(max_epochs=2)
        .fine_tune(X[:100, ::-1], y[:100], part=part)
    )
    assert type(tuned) is type(head)
    for name, value in tuned.net_.module_.state_dict().items():
        trained = part in ("all", name.split(".")[0]) and "factors" not in name
        assert torch.equal(value, before[name]) != trained
        assert torch.equal(head.net_.module_.state_dict()[name], before[name])
    assert all(weight.requires_grad for weight in tuned.net_.module_.parameters())
    assert len(tuned.history_) == 2


def test_fine_tune_learns_the_new_space(digits):
    """Labels help in a space under which every metric changes."""
    X, X_test, y, y_test = digits
    bent = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    rebased = fitted("attention").rebase(X[fitted("attention").anchor_indices_] @ bent)
    tuned = rebased.fine_tune(X @ bent, y)
    assert tuned.score(X_test @ bent, y_test) > rebased.score(X_test @ bent, y_test)


def test_fine_tune_refuses_wrong_input(digits):
    """A part without weights, unknown labels, an unknown part."""
    X, _, y, _ = digits
    with pytest.raises(ValueError, match=r"'head' with aggregation='mean'.*got 'agg"):
        fitted("mean").fine_tune(X, y)
    with pytest.raises(ValueError, match=r"labels of classes_.*got \[77\]"):
        fitted().fine_tune(X, np.full(len(y), 77))
    with pytest.raises(ValueError, match="part must be one of"):
        fitted().fine_tune(X, y, part="encoder")


def test_space_weights_find_the_metric_that_matters():
    """Classes differ by the norm of a row, which changes distances but no angles."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 6))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    y = rng.integers(2, size=600)
    X = (X * np.where(y, 2, 1)[:, None]).astype(np.float32)
    head = InvariantClassifier(
        50,
        metrics=("cosine", "euclidean"),
        post="layer",
        aggregation="weighted",
        space_dropout=0,
        max_epochs=60,
        random_state=0,
    ).fit(X, y)
    weights = head.space_weights_
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["euclidean"] > 0.8


def test_space_weights_exist_where_the_aggregation_has_some():
    """One weight for each metric, with sum 1, and after `rebase` with the factors."""
    for aggregation in ("weighted", "attention"):
        head = fitted(aggregation)
        weights = head.space_weights_
        assert list(weights) == ["cosine", "euclidean", "manhattan", "chebyshev"]
        assert sum(weights.values()) == pytest.approx(1)
        turn = ortho_group.rvs(64, random_state=0).astype(np.float32)
        rebased = head.rebase(head.anchors_ @ turn).space_weights_
        assert sum(rebased.values()) == pytest.approx(1)
        assert rebased["chebyshev"] < weights["chebyshev"]
    assert not hasattr(fitted("mlp_sum"), "space_weights_")
    with pytest.raises(AttributeError, match="'weighted' and 'attention'; got 'mean'"):
        _ = fitted("mean").space_weights_


# --- targets and weights -----------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["yes", "no"]),
        np.array(["yes", "no"], dtype=object),
        np.array([-1.5, 2.0]),
        np.array([True, False]),
        np.array([10**12, -3]),
    ],
    ids=lambda labels: str(labels.dtype),
)
def test_labels_of_any_kind(labels, digits):
    """Predicted labels have the values and dtype of the fitted ones."""
    X, _, y, _ = digits
    named = labels[y % 2]
    if labels.dtype == np.float64:
        named = np.where(y % 2, 2.0, -1.0)
    head = InvariantClassifier(60, random_state=0, max_epochs=5).fit(X, named)
    assert np.array_equal(head.classes_, np.unique(named))
    assert head.predict(X).dtype == named.dtype
    assert (head.predict(X) == named).mean() > 0.8


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([None, "maybe"], "one kind and none missing.*'NoneType', 'str'"),
        ([1, "a"], "one kind and none missing.*'int', 'str'"),
        (np.array([1, "a"], object), "one kind and none missing.*'int', 'str'"),
        (np.array(["a", np.nan], object), "NaN|'float', 'str'"),
        (np.array([0.0, np.nan]), "NaN"),
        (np.array(["2020", "NaT"], "M8[D]"), "NaT"),
        (np.array([b"a", b"b"]), "bytes"),
        (np.array([0.5, 1.5]), "Unknown label type"),
        ([{1}, {2}], "types .*'set'"),
    ],
)
def test_labels_of_no_kind(labels, message, digits):
    """Before any training, and in whichever method."""
    X, _, y, _ = digits
    y = y[:200] % 2
    bad = [labels[label] for label in y]
    bad = np.array(bad, labels.dtype) if isinstance(labels, np.ndarray) else bad
    head = InvariantClassifier(20, max_epochs=1)
    for method in (head.fit, fitted().fine_tune):
        with pytest.raises((TypeError, ValueError), match=message):
            method(X[:200], bad)
    with pytest.raises((TypeError, ValueError), match=message):
        head.partial_fit(X[:200], bad, classes=[0, 1])
    with pytest.raises((TypeError, ValueError), match=f"classes.*({message})"):
        head.partial_fit(X[:200], y, classes=labels)


def test_several_labels_for_a_row(digits):
    """Indicators, lists of lists and sparse ones: all are refused."""
    X, _, y, _ = digits
    indicators = np.eye(10, dtype=int)[y]
    for bad in (indicators, indicators.tolist(), csr_array(indicators)):
        with pytest.raises((TypeError, ValueError), match=r"1d array|one label|parse"):
            InvariantClassifier(20).fit(X, bad)
    with pytest.raises(ValueError, match="1d array"):
        fitted().fine_tune(X, indicators)


def test_dates_as_labels(digits):
    """They come back as dates; in ONNX, whose metadata are texts, in ISO format."""
    pytest.importorskip("onnxscript")
    X, _, y, _ = digits
    dates = np.array(["2024-02-29", "2025-01-01"], "M8[ns]")  # numbers as a list
    head = InvariantClassifier(20, metrics=("cosine",), max_epochs=1, random_state=0)
    head.fit(X[:99], dates[y[:99] % 2])
    assert set(head.predict(X[:99])) <= set(dates)
    model = head.to_onnx()
    found = json.loads({x.key: x.value for x in model.metadata_props}["classes"])
    assert np.array_equal(np.array(found, dates.dtype), dates)


@pytest.mark.parametrize("index", [[0] * 99, [(i, 0) for i in range(99)][::-1]])
def test_labels_of_an_index_do_not_matter(index, digits):
    """Rows, targets and weights go together by position."""
    pd = pytest.importorskip("pandas")
    X, _, y, _ = digits
    weights = np.arange(99.0)
    head = InvariantClassifier(20, max_epochs=1, random_state=0)
    expected = clone(head).fit(X[:99], y[:99], sample_weight=weights)
    index = pd.Index(index)
    series = pd.Series(y[:99], index), pd.Series(weights, index[::-1])
    found = head.fit(pd.DataFrame(X[:99], index), series[0], sample_weight=series[1])
    rows = pd.DataFrame(X[:99], index[::-1])
    expected = expected.predict_proba(X[:99])
    np.testing.assert_allclose(found.predict_proba(rows), expected, atol=1e-5)


def test_rows_without_weight_do_not_count(digits):
    """A fit with wrong labels of weight 0 equals one without these rows."""
    X, X_test, y, y_test = digits
    wrong, weights = y.copy(), np.ones(len(y))
    wrong[:300], weights[:300] = 0, 0
    head = InvariantClassifier(60, random_state=0)
    spoiled = clone(head).fit(X, wrong).score(X_test, y_test)
    weighted = clone(head).fit(X, wrong, sample_weight=weights).score(X_test, y_test)
    assert weighted > 0.85 > spoiled
    given = clone(head).set_params(anchors=np.arange(300, 360))
    without = clone(head).set_params(anchors=np.arange(60)).fit(X[300:], y[300:])
    given = given.fit(X, wrong, sample_weight=weights)
    assert np.array_equal(given.predict_proba(X), without.predict_proba(X))


def test_rows_without_weight_are_no_anchors(digits):
    """No strategy draws them, but indices that the user chose may contain them."""
    X, _, y, _ = digits
    weights = (np.arange(len(y)) % 2).astype(float)
    head = InvariantClassifier(30, max_epochs=1, random_state=0)
    for anchors in ("random", "stratified", "kmeans", "all", distinct_rows):
        fit = clone(head).set_params(anchors=anchors).fit(X, y, weights)
        assert (fit.anchor_indices_ % 2 == 1).all()
        assert np.array_equal(fit.anchors_, X[fit.anchor_indices_])
    fit = clone(head).set_params(anchors=[0, 2, 3]).fit(X, y, weights)
    assert fit.anchor_indices_.tolist() == [0, 2, 3]


def test_the_scale_of_weights_is_irrelevant(digits):
    """A common factor, a power of two, changes no bit."""
    X, _, y, _ = digits
    weights = np.random.default_rng(0).uniform(1, 2, len(y))
    head = InvariantClassifier(60, random_state=0, max_epochs=3)
    first = clone(head).fit(X, y, weights).predict_proba(X)
    assert np.array_equal(clone(head).fit(X, y, 1024 * weights).predict_proba(X), first)


def test_weights_count_as_repetitions_where_nothing_is_drawn(digits):
    """Full batches, given anchors and no noise: a weight of 2 is a row twice."""
    X, _, y, _ = digits
    X, y = X[:40].astype(np.float64), y[:40]
    weights = np.random.default_rng(0).integers(1, 4, size=40)
    quiet = {"space_dropout": 0, "noise": 0, "batch_size": 1000, "random_state": 0}
    anchors = np.arange(20)
    head = InvariantClassifier(anchors=anchors, **quiet).fit(X, y, weights)
    first = np.r_[0, np.cumsum(weights)[:-1]]
    repeated = InvariantClassifier(anchors=first[anchors], **quiet)
    repeated.fit(X.repeat(weights, axis=0), y.repeat(weights))
    np.testing.assert_allclose(
        head.predict_proba(X), repeated.predict_proba(X), rtol=1e-7
    )


def test_class_weight(digits):
    """A dict and "balanced" find the rare class; partial_fit takes only a dict."""
    X, X_test, y, y_test = digits
    rare = np.where(y == 8, "rare", "common")
    rows = np.r_[np.flatnonzero(y != 8), np.flatnonzero(y == 8)[:8]]
    head = InvariantClassifier(60, max_epochs=5, random_state=0)
    recall = {}
    for option in (None, "balanced", {"rare": 50.0}):
        fit = clone(head).set_params(class_weight=option).fit(X[rows], rare[rows])
        recall[str(option)] = (fit.predict(X_test[y_test == 8]) == "rare").mean()
    assert recall["balanced"] > recall["None"]
    assert recall["{'rare': 50.0}"] > recall["None"]
    head.set_params(class_weight="balanced")
    with pytest.raises(ValueError, match=r"must be a dict or None.*got 'balanced'"):
        head.partial_fit(X, y, classes=range(10))


def test_classes_of_no_weight(digits):
    """Some may have weight 0, but not all."""
    X, _, y, _ = digits
    head = InvariantClassifier(60, class_weight={0: 0.0}, random_state=0).fit(X, y)
    assert not (head.predict(X) == 0).any()
    head.set_params(class_weight=dict.fromkeys(range(10), 0.0))
    with pytest.raises(ValueError, match="got 0 for all 700"):
        head.fit(X, y)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(3), r"of shape \(700,\)"),
        (-np.ones(700), ">= 0, not all of them zero; got -1.0"),
        (np.zeros(700), "not all of them zero"),
        (np.full(700, np.nan), "sample_weight contains NaN"),
    ],
)
def test_wrong_weights_are_refused(weights, message, digits):
    """The error comes before any training."""
    X, _, y, _ = digits
    with pytest.raises(ValueError, match=message):
        InvariantClassifier(60).fit(X, y, sample_weight=weights)


# --- training ----------------------------------------------------------------------


def test_history_and_early_stopping(digits):
    """The head has the weights of the best epoch, and reproduces its score."""
    X, _, y, _ = digits
    head = InvariantClassifier(
        60,
        early_stopping=True,
        validation_fraction=0.3,
        n_iter_no_change=3,
        max_epochs=300,
        lr=0.03,
        random_state=0,
    ).fit(X, y)
    losses = [epoch["valid_loss"] for epoch in head.history_]
    assert [epoch["epoch"] for epoch in head.history_] == list(
        range(1, len(losses) + 1)
    )
    assert len(losses) < 300
    assert int(np.argmin(losses)) == len(losses) - 4
    keys = {"epoch", "train_loss", "valid_loss", "valid_score", "seconds"}
    assert all(set(epoch) == keys for epoch in head.history_)
    assert all(
        type(v) in (int, float) for epoch in head.history_ for v in epoch.values()
    )
    split = {"test_size": 0.3, "stratify": y, "random_state": head._seed}
    _, rows = train_test_split(np.arange(len(y)), **split)
    assert head.score(X[rows], y[rows]) == pytest.approx(
        head.history_[int(np.argmin(losses))]["valid_score"]
    )
    assert np.bincount(y[rows]).min() >= 15  # each class its share
    plain = fitted().history_
    assert set(plain[0]) == {"epoch", "train_loss", "seconds"}
    assert plain[-1]["train_loss"] < plain[0]["train_loss"] / 3


def test_the_score_of_the_validation_rows_of_a_regressor(targets):
    """R² of the best epoch is the value of `score`."""
    X, _, y, _ = targets
    head = InvariantRegressor(80, early_stopping=True, random_state=0).fit(X, y)
    best = min(head.history_, key=lambda epoch: epoch["valid_loss"])
    split = {"test_size": 0.1, "random_state": head._seed}
    _, rows = train_test_split(np.arange(len(y)), **split)
    assert head.score(X[rows], y[rows]) == pytest.approx(best["valid_score"], abs=1e-3)


@pytest.mark.parametrize("head", BOTH)
def test_the_same_seed_gives_the_same_bits(head, digits):
    """Two fits are equal, and the global generators keep their states."""
    X, X_test, y, _ = digits
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    make = functools.partial(
        head,
        60,
        dropout=0.2,
        hidden_layer_sizes=(20,),
        max_epochs=3,
        early_stopping=True,
    )
    first = make(random_state=0).fit(X, y).predict(X_test)
    assert np.array_equal(make(random_state=0).fit(X, y).predict(X_test), first)
    other = make(random_state=1).fit(X, y)
    assert not np.array_equal(
        other.transform(X_test), make(random_state=0).fit(X, y).transform(X_test)
    )
    other.fine_tune(X, y)
    other.rebase(X[:60])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


FRESH = """
import hashlib
import json
import numpy as np
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from skinvariant import stitch
from skinvariant.heads import InvariantClassifier
X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = X[:700], X[700:1000], y[:700], y[700:1000]
def digest():
    head = InvariantClassifier(60, dropout=0.2, max_epochs=3, random_state=0).fit(X, y)
    return hashlib.sha256(head.predict_proba(X).tobytes()).hexdigest()
digests = [digest(), *Parallel(2)(delayed(digest)() for _ in range(2))]
grid = {"metrics": [("cosine",), ("cosine", "manhattan")]}
head = InvariantClassifier(60, max_epochs=5, random_state=0)
search = GridSearchCV(head, grid, cv=2, n_jobs=2).fit(X, y)
alone = clone(search.best_estimator_).fit(X, y)
same = np.array_equal(alone.predict(X_test), search.predict(X_test))
stitched = stitch(search, X[search.best_estimator_.anchor_indices_][:, ::-1])
scores = search.score(X_test, y_test), stitched.score(X_test[:, ::-1], y_test)
print(json.dumps({"digests": digests, "same": bool(same), "scores": scores}))
"""


@pytest.fixture(scope="module")
def fresh():
    """Run `FRESH` in an interpreter of its own, which has two workers.

    Workers left over from other tests may end just when they are called, and joblib
    then waits for them forever.
    """
    command = [sys.executable, "-c", FRESH]
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    output = subprocess.check_output(
        command, text=True, timeout=300, env=os.environ | one_thread
    )
    return json.loads(output)


def test_the_same_seed_gives_the_same_bits_in_another_process(fresh):
    """A fresh interpreter and its workers."""
    assert len(fresh["digests"]) == 3
    assert len(set(fresh["digests"])) == 1


def test_partial_fit_goes_on(digits):
    """Each call is an epoch with the optimiser's moments, also after unpickling."""
    X, X_test, y, y_test = digits
    head = InvariantClassifier(60, random_state=0)
    with pytest.raises(ValueError, match="first call of partial_fit needs classes"):
        head.partial_fit(X, y)
    for epoch in range(15):
        head.partial_fit(X, y, classes=np.arange(11) if epoch == 0 else None)
        if epoch == 7:
            loaded = pickle.loads(pickle.dumps(head))
    for _ in range(7):
        loaded.partial_fit(X, y)
    assert np.array_equal(loaded.predict_proba(X_test), head.predict_proba(X_test))
    assert head.predict_proba(X_test).shape == (300, 11)
    assert head.score(X_test, y_test) > 0.85
    assert [epoch["epoch"] for epoch in head.history_] == list(range(1, 16))
    with pytest.raises(ValueError, match="classes must be those of the first call"):
        head.partial_fit(X, y, classes=[1, 2])
    with pytest.raises(ValueError, match="y must be labels of classes_"):
        head.partial_fit(X, y + 90)
    with pytest.raises(ValueError, match="early_stopping must be False"):
        head.set_params(early_stopping=True).partial_fit(X, y)


def test_partial_fit_of_a_regressor(targets):
    """It learns from batches, and refuses another number of targets."""
    X, X_test, y, y_test = targets
    head = InvariantRegressor(80, random_state=0)
    for _ in range(20):
        for rows in np.array_split(np.arange(len(X)), 2):
            head.partial_fit(X[rows], y[rows])
    assert head.score(X_test, y_test) > 0.7
    with pytest.raises(ValueError, match="2 targets, as fitted; got 1"):
        head.partial_fit(X, y[:, 0])


def test_rows_beyond_the_working_memory_are_projected_when_due(digits, monkeypatch):
    """The result is that of all rows at once, within rounding."""
    X, X_test, y, _ = digits
    head = InvariantClassifier(60, max_epochs=2, random_state=0)
    sizes = []
    project = InvariantAggregator.transform
    monkeypatch.setattr(
        InvariantAggregator,
        "transform",
        lambda self, X: sizes.append(len(X)) or project(self, X),
    )
    at_once = clone(head).fit(X, y)
    assert max(sizes) == len(X)
    sizes.clear()
    with config_context(working_memory=1):
        by_batch = clone(head).fit(X, y)
    assert max(sizes) <= 128
    np.testing.assert_allclose(
        by_batch.predict_proba(X_test), at_once.predict_proba(X_test), atol=1e-3
    )


def test_verbose_prints_a_line_for_each_epoch(digits, capsys):
    """The default prints nothing."""
    X, _, y, _ = digits
    InvariantClassifier(60, max_epochs=2, random_state=0).fit(X, y)
    assert capsys.readouterr().out == ""
    InvariantClassifier(60, max_epochs=2, verbose=1, random_state=0).fit(X, y)
    assert "train_loss" in capsys.readouterr().out


def test_an_interruption_is_not_swallowed(digits, monkeypatch):
    """Control and C stops the whole program and leaves no fitted head."""
    X, _, y, _ = digits

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(MLPSum, "_map", interrupt)
    for early_stopping in (False, True):
        head = InvariantClassifier(60, early_stopping=early_stopping)
        with pytest.raises(KeyboardInterrupt):
            head.fit(X, y)


class Interrupting(Callback):
    """Raises what Control and C raises, in one of the methods of a callback."""

    def __init__(self, method, when=2):
        self.method = method
        self.when = when

    def notify(self, method, net):
        """Raise it at the second time."""
        if method == self.method:
            self.when -= 1
            if self.when == 0:
                raise KeyboardInterrupt

    def on_train_begin(self, net, **kwargs):
        """At the begin of the training."""
        self.notify("on_train_begin", net)

    def on_epoch_begin(self, net, **kwargs):
        """At the begin of an epoch."""
        self.notify("on_epoch_begin", net)

    def on_batch_end(self, net, **kwargs):
        """After a batch."""
        self.notify("on_batch_end", net)

    def on_epoch_end(self, net, **kwargs):
        """At the end of an epoch."""
        self.notify("on_epoch_end", net)


@pytest.mark.parametrize("method", ["on_epoch_begin", "on_batch_end", "on_epoch_end"])
@pytest.mark.parametrize("stop", [False, True])
def test_an_interruption_in_a_callback_is_not_swallowed(method, stop, digits):
    """At the end of an epoch neither, where skorch's EarlyStopping raises its own."""
    X, _, y, _ = digits
    callbacks = [Interrupting(method)]
    if stop:
        callbacks.insert(0, EarlyStopping("train_loss", patience=9))
    head = InvariantClassifier(30, max_epochs=4, callbacks=callbacks, random_state=0)
    threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        head.fit(X, y)
    assert head.history_ == []
    assert torch.get_num_threads() == threads
    expected = clone(head).set_params(callbacks=None).fit(X, y)
    head = head.set_params(callbacks=None).fit(X, y)
    assert np.array_equal(head.predict_proba(X), expected.predict_proba(X))
    with pytest.raises(KeyboardInterrupt):
        head.set_params(callbacks=callbacks).fine_tune(X, y)
    assert np.array_equal(head.predict_proba(X), expected.predict_proba(X))


def test_divergence_is_an_error(digits):
    """The error suggests a smaller learning rate."""
    X, _, y, _ = digits
    with pytest.raises(
        ValueError, match=r"diverged: choose a smaller lr; got lr=1e\+30"
    ):
        InvariantClassifier(60, lr=1e30, hidden_layer_sizes=(9,)).fit(X, y)


def test_callbacks_of_skorch(digits):
    """They follow the training, are copied by each fit, and stop it quietly."""
    X, _, y, _ = digits
    schedule = LRScheduler(StepLR, step_size=1, gamma=0.5)
    scores = ("accuracy", EpochScoring("accuracy", on_train=True, name="accuracy"))
    stop = EarlyStopping("train_loss", patience=1, threshold=0.9)
    head = InvariantClassifier(60, callbacks=[schedule, scores, stop], random_state=0)
    head = clone(head).fit(X, y)
    assert 1 < len(head.history_) < 20
    callbacks = dict(head.net_.callbacks_)
    assert callbacks["EarlyStopping"].misses_ == 1
    rates = head.net_.history[:, "event_lr"]
    assert rates == pytest.approx([1e-3 * 0.5**n for n in range(len(rates))])
    assert head.net_.history[-1, "accuracy"] > head.net_.history[0, "accuracy"]
    assert callbacks["accuracy"] is not head.callbacks[1][1]
    assert not hasattr(head.callbacks[1][1], "best_score_")
    assert not hasattr(head.callbacks[0], "lr_scheduler_")
    loaded = pickle.loads(pickle.dumps(head))
    assert len(loaded.fine_tune(X, y).history_) < 20
    assert len(head.set_params(callbacks=None).fit(X, y).history_) == 20


# --- settings of torch ---------------------------------------------------------------


@contextlib.contextmanager
def default_dtype(dtype):
    """Set it, and restore it."""
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        assert torch.get_default_dtype() == dtype
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def default_device(device):
    """Set it, and restore it."""
    torch.set_default_device(device)
    try:
        yield
    finally:
        assert torch.get_default_device() == torch.device(device)
        torch.set_default_device(None)


@contextlib.contextmanager
def no_gradients():
    """Set it as `torch.set_grad_enabled` does without a context, and restore it."""
    torch.set_grad_enabled(False)
    try:
        yield
    finally:
        assert not torch.is_grad_enabled()
        torch.set_grad_enabled(True)


@contextlib.contextmanager
def deterministic():
    """Set it, and restore it."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        assert torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(False)


@contextlib.contextmanager
def inference():
    """Enter the mode, and see that it is left as it was."""
    with torch.inference_mode():
        yield
        assert torch.is_inference_mode_enabled()


SETTINGS = {
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "meta": lambda: default_device("meta"),
    "no gradients": no_gradients,
    "no_grad": torch.no_grad,
    "inference": inference,
    "deterministic": deterministic,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


def everything(kind, aggregation):
    """Return what heads compute from fit to export, as bytes."""
    X, y = load_digits(return_X_y=True)
    X, y = X[:120].astype(np.float32), y[:120]
    how = {"hidden_layer_sizes": 9, "dropout": 0.1, "max_epochs": 2, "random_state": 0}
    head = kind(20, aggregation=aggregation, early_stopping=True, **how).fit(X, y)
    new = head.rebase(X[head.anchor_indices_, ::-1])
    tuned = new.fine_tune(X[:40, ::-1], y[:40], part="all")
    online = head.set_params(early_stopping=False).partial_fit(X[:40], y[:40])
    loaded = pickle.loads(pickle.dumps(online)).partial_fit(X[:40], y[:40])
    outputs = [head.transform(X), new.predict(X), tuned.predict(X), loaded.predict(X)]
    module = loaded.to_torch()
    tensors = [*module.parameters(), *module.buffers()]
    assert not any(tensor.is_inference() for tensor in tensors)
    return [x.tobytes() for x in outputs + [t.detach().numpy() for t in tensors]]


under_defaults = functools.cache(everything)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("kind", BOTH)
def test_settings_of_torch_change_nothing(kind, setting):
    """The same bits, and the setting is afterwards what it was."""
    expected = under_defaults(kind, "mlp_sum")
    with SETTINGS[setting]():
        assert everything(kind, "mlp_sum") == expected


@pytest.mark.parametrize("aggregation", sorted({*AGGREGATIONS} - {"mlp_sum"}))
@pytest.mark.parametrize("setting", ["float64", "inference"])
def test_settings_of_torch_change_no_aggregation(aggregation, setting):
    """Each names the dtype of its weights."""
    expected = under_defaults(InvariantClassifier, aggregation)
    with SETTINGS[setting]():
        assert everything(InvariantClassifier, aggregation) == expected


def test_exports_under_settings_of_torch(digits):
    """Under all at once, of a head and of a vote: the outputs are those without."""
    X, _, y, _ = digits
    how = {"n_anchors": 20, "metrics": ("cosine",), "random_state": 0}
    head = InvariantClassifier(max_epochs=1, **how).fit(X[:200], y[:200])
    vote = InvariantVotingClassifier(**how).fit(X[:200], y[:200])
    with contextlib.ExitStack() as stack:
        for setting in ("float64", "meta", "no_grad", "inference", "deterministic"):
            stack.enter_context(SETTINGS[setting]())
        modules = [vote.to_torch(), head.to_torch()]
        for model in (head, vote):
            outputs = by_onnx(model, X[:9])[0]
            expected = model.predict_proba(X[:9])
            np.testing.assert_allclose(outputs, expected, atol=1e-5)
    rows = torch.from_numpy(X[:9]).requires_grad_()
    for module in modules:
        module(rows).sum().backward()
    assert bool(torch.isfinite(rows.grad).all())


# --- devices -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "has", "expected"),
    [
        ("cpu", (), "cpu"),
        ("auto", (), "cpu"),
        ("auto", ("mps",), "mps"),
        ("auto", ("cuda", "mps"), "cuda"),
        ("cuda", ("cuda",), "cuda"),
        ("cuda:1", ("cuda",), "cuda:1"),
        ("mps", ("mps",), "mps"),
    ],
)
def test_choice_of_the_device(option, has, expected, monkeypatch):
    """It depends on the devices of the machine."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in has)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in has)
    assert str(torch_device(option)) == expected


@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        ("tpu", ValueError, "device must be 'cpu'"),
        ("cuda:x", ValueError, "device must be 'cpu'"),
        ("cpu:1", ValueError, "device must be 'cpu'"),
        (None, TypeError, "got None"),
        ("cuda", ValueError, "one that this machine has; got 'cuda'"),
        ("mps", ValueError, "one that this machine has; got 'mps'"),
    ],
)
def test_wrong_devices_are_refused(option, error, message, digits, monkeypatch):
    """`fit` names the parameter and its value."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    X, _, y, _ = digits
    with pytest.raises(error, match=message):
        InvariantClassifier(60, device=option).fit(X, y)


def test_a_head_of_another_device_runs_on_the_cpu(digits, monkeypatch):
    """A head pickled on a machine with a GPU is loaded without one, with a warning."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    _, X, _, _ = digits
    head = copy.copy(fitted())
    state = pickle.dumps(head.set_params(device="cuda"))
    assert b"torch" not in pickle.dumps(fitted())
    with pytest.warns(UserWarning, match="got 'cuda'; the CPU is used"):
        loaded = pickle.loads(state)
    assert np.array_equal(loaded.predict_proba(X), fitted().predict_proba(X))


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_every_tensor_of_training_is_made_where_the_network_is(
    aggregation, digits, monkeypatch
):
    """On "meta", where an operation with a tensor of the CPU fails.

    Values cannot be read from there, so neither are the losses.
    """
    X, _, y, _ = digits
    options = {"max_epochs": 1, "random_state": 0, "dropout": 0.1}
    head = InvariantClassifier(60, aggregation=aggregation, **options).fit(X, y)
    network = copy.deepcopy(head.net_.module_).to("meta").train()
    monkeypatch.setattr(head.net_, "device", "meta")
    rows = head._rows(X, y, np.ones(len(y)))
    outputs = []
    head.net_.set_params(batch_size=128)
    for inputs, targets in head.net_.get_iterator(rows, training=True):
        output = network(inputs["spaces"])
        loss = head.net_.get_loss(output, targets, inputs)
        loss.backward()
        outputs += [*inputs.values(), targets, output, loss]
    assert len(outputs) == 6 * 5
    assert {tensor.device.type for tensor in outputs} == {"meta"}


# --- the whole head as a torch module ------------------------------------------------


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize(("pre", "post"), [(None, "standardize"), ("center", "layer")])
def test_to_torch_is_the_whole_classifier(aggregation, pre, post, digits):
    """From pixels to probabilities, rebased, and with gradients for the pixels."""
    X, X_test, y, _ = digits
    head = InvariantClassifier(
        60, pre=pre, post=post, aggregation=aggregation, max_epochs=3, random_state=0
    ).fit(X, y)
    head = head.rebase(X[head.anchor_indices_][:, ::-1])
    pixels = torch.tensor(X_test[:, ::-1].copy(), requires_grad=True)
    module = head.to_torch()
    outputs = module(pixels).softmax(dim=1)
    expected = head.predict_proba(X_test[:, ::-1])
    np.testing.assert_allclose(outputs.detach().numpy(), expected, atol=1e-5)
    outputs[:, 0].sum().backward()
    assert float(pixels.grad.abs().max()) > 0
    torch.nn.init.zeros_(module[1].head[-1].weight)  # a copy
    assert np.array_equal(head.predict_proba(X_test[:, ::-1]), expected)


def test_to_torch_gives_targets_in_their_units(targets):
    """The targets of `predict`, 1000 and 0.01 in size."""
    X, X_test, y, _ = targets
    head = InvariantRegressor(80, hidden_layer_sizes=9, random_state=0).fit(X, y)
    outputs = head.to_torch()(torch.from_numpy(X_test)).detach().numpy()
    np.testing.assert_allclose(outputs, head.predict(X_test), rtol=1e-4, atol=1e-6)


def test_to_torch_refuses_what_has_no_counterpart(digits):
    """A transformer or a function as metric cannot become a torch module."""
    X, _, y, _ = digits
    head = InvariantClassifier(60, pre=PCA(20), max_epochs=1).fit(X, y)
    with pytest.raises(TypeError, match=r"pre must be given by name.*PCA"):
        head.to_torch()
    head = InvariantClassifier(60, metrics=(euclidean,), max_epochs=1).fit(X, y)
    with pytest.raises(TypeError, match=r"metrics must be given by name.*euclidean"):
        head.to_torch()
    head = InvariantClassifier(60, metrics=("geodesic",), max_epochs=1).fit(X, y)
    with pytest.raises(TypeError, match=r"have a torch module.*geodesic"):
        head.to_torch()


def test_rows_of_the_new_space_for_a_metric_that_needs_them(digits):
    """They are passed on at rebase, and refused where no metric needs them."""
    X, _, y, _ = digits
    how = {"max_epochs": 1, "random_state": 0}
    head = InvariantClassifier(30, metrics=("cosine", "geodesic"), **how).fit(X, y)
    rows = 2 * X[:, ::-1]
    new = head.rebase(rows[head.anchor_indices_], X=rows)
    assert min(new.agreement_.values()) > 0.999
    with pytest.raises(ValueError, match=r"X must be unlabelled rows"):
        head.rebase(rows[head.anchor_indices_])
    head = InvariantClassifier(30, **how).fit(X, y)
    with pytest.raises(TypeError, match=r"X must be None"):
        head.rebase(rows[head.anchor_indices_], X=rows)


# --- ONNX ----------------------------------------------------------------------------


def by_onnx(head, X):
    """Run a head under onnxruntime, in two batches, one of a single row."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX needs a runtime")
    pytest.importorskip("onnxscript", reason="to_onnx needs onnxscript")
    model = head.to_onnx()
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (rows,), (output,) = session.get_inputs(), session.get_outputs()
    assert rows.name == "X"
    parts = [session.run(None, {"X": rows})[0] for rows in (X[:1], X[1:])]
    properties = session.get_modelmeta().custom_metadata_map
    return np.concatenate(parts), output.name, properties


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_onnx_of_a_classifier_with_all_metrics(dtype, digits):
    """The head's probabilities, also for a row where some metrics are undefined."""
    X, X_test, y, _ = (array[:200] for array in digits)
    X, X_test = X.astype(dtype), X_test[:40].astype(dtype)
    X_test[3] = 0
    names = sorted(set(METRICS) - {"change_of_basis", "geodesic"})
    options = {"aggregation": "concat", "max_epochs": 2, "random_state": 0}
    head = InvariantClassifier(30, metrics=names, **options).fit(X, y)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* is undefined for .* rows")
        expected = head.predict_proba(X_test)
    found, name, _ = by_onnx(head, X_test)
    assert name == "probabilities"
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, atol=1e-5)
    head = InvariantClassifier(30, metrics=["change_of_basis"], **options).fit(X, y)
    found, _, _ = by_onnx(head, X_test[4:])
    np.testing.assert_allclose(found, head.predict_proba(X_test[4:]), atol=1e-5)


@pytest.mark.parametrize(
    ("aggregation", "metrics", "pre", "post"),
    [
        ("attention", ("cosine", "euclidean"), "whiten", None),
        ("concat", ("manhattan", "chebyshev"), "standardize", "l2"),
        ("mean", ("euclidean", "manhattan"), "center", "layer"),
        ("mlp_sum", ("cosine", "chebyshev"), None, "standardize"),
        ("weighted", ("cosine", "manhattan"), "center", None),
    ],
)
def test_onnx_of_a_rebased_classifier(aggregation, metrics, pre, post, digits):
    """It has the factors of the present space, the classes and the fingerprint."""
    X, X_test, y, _ = (array[:200] for array in digits)
    options = {"hidden_layer_sizes": (9,), "max_epochs": 2, "random_state": 0}
    options |= {"metrics": metrics, "pre": pre, "post": post}
    head = InvariantClassifier(30, aggregation=aggregation)
    labels = np.array(list("abcdefghij"))[y]
    head = head.set_params(**options).fit(X.astype(float), labels)
    head = head.rebase(X[head.anchor_indices_][:, ::2].astype(float))
    rows = X_test[:, ::2].astype(float)
    found, _, properties = by_onnx(head, rows)
    np.testing.assert_allclose(found, head.predict_proba(rows), atol=1e-5)
    assert json.loads(properties["classes"]) == head.classes_.tolist()
    assert properties["fingerprint"] == fingerprint(head)


def test_onnx_of_a_regressor_gives_targets_in_their_units(targets):
    """The targets of `predict`, 1000 and 0.01 in size."""
    X, X_test, y, _ = targets
    head = InvariantRegressor(80, max_epochs=2, random_state=0).fit(X, y)
    found, name, properties = by_onnx(head, X_test)
    assert name == "targets"
    assert "classes" not in properties
    np.testing.assert_allclose(found, head.predict(X_test), rtol=1e-4, atol=1e-6)


def test_onnx_without_its_packages(digits, monkeypatch):
    """The error gives the command."""
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"pip install 'skinvariant\[onnx\]'"):
        fitted().to_onnx()


# --- saving ------------------------------------------------------------------------


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_pickle_and_copies(aggregation, digits):
    """They predict the same bits, each with its own network."""
    _, X, _, _ = digits
    head = fitted(aggregation)
    for other in (
        pickle.loads(pickle.dumps(head)),
        copy.copy(head),
        copy.deepcopy(head),
    ):
        assert np.array_equal(other.predict_proba(X), head.predict_proba(X))
        assert other.net_ is not head.net_
        assert other.history_ == head.history_


@pytest.mark.parametrize("kind", BOTH)
def test_skops_with_the_published_list(kind, digits):
    """A loaded head predicts the same bits; the file has only types of the list."""
    io_skops = pytest.importorskip("skops.io")
    X, X_test, y, _ = digits
    for aggregation in AGGREGATIONS:
        head = kind(60, aggregation=aggregation, max_epochs=2, random_state=0)
        head.fit(X, y)
        file, trusted = io_skops.dumps(head), TRUSTED[kind.__name__]
        assert set(io_skops.get_untrusted_types(data=file)) <= set(trusted)
        loaded = io_skops.loads(file, trusted=trusted)
        assert np.array_equal(loaded.predict(X_test), head.predict(X_test))
        assert np.array_equal(loaded.transform(X_test), head.transform(X_test))
    with pytest.raises(Exception, match="Untrusted types found"):
        io_skops.loads(file, trusted=[])


def tampered(file, old, new):
    """The same skops file with one name in its schema replaced."""
    result = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(file)) as before,
        zipfile.ZipFile(result, "w") as after,
    ):
        for name in before.namelist():
            content = before.read(name)
            if name == "schema.json":
                assert old.encode() in content
                content = content.replace(old.encode(), new.encode())
            after.writestr(name, content)
    return result.getvalue()


def test_a_tampered_file_runs_no_code(digits, tmp_path, monkeypatch):
    """A file with another type is refused before any of its code is called."""
    io_skops = pytest.importorskip("skops.io")
    (tmp_path / "evil.py").write_text(
        "raise SystemExit('the code of a stranger ran')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    file = io_skops.dumps(fitted())
    bad = tampered(file, '"skinvariant"', '"evil"')
    assert "evil.InvariantAggregator" in io_skops.get_untrusted_types(data=bad)
    with pytest.raises(Exception, match="Untrusted types found"):
        io_skops.loads(bad, trusted=TRUSTED["InvariantClassifier"])
    assert "evil" not in sys.modules


def test_weights_of_another_shape_are_refused(digits):
    """A file whose arrays do not fit the network is an error."""
    state = fitted().__getstate__()
    state["_weights"] = dict(state["_weights"], **{"head.0.bias": np.zeros(3)})
    head = InvariantClassifier.__new__(InvariantClassifier)
    with pytest.raises(RuntimeError, match=r"size mismatch for head\.0\.bias"):
        head.__setstate__(state)


# --- scikit-learn's checks -----------------------------------------------------------


def distinct_rows(X, y, n_anchors, random_state):
    """Anchors that depend on what rows there are, not on their order or number."""
    _, first = np.unique(X, axis=0, return_index=True)
    rest = np.setdiff1d(np.arange(len(X)), first)
    return np.r_[first, rest][:n_anchors]


# nothing is drawn but the first weights: rows may come in any order, and repeated
EXACT = {
    "anchors": distinct_rows,
    "batch_size": 10_000,
    "noise": 0,
    "space_dropout": 0,
}
# few anchors and few rows take larger steps, and less to hold them back
FEW = {"lr": 0.03, "space_dropout": 0}
CHECKED = [
    InvariantClassifier(4, lr=0.1, max_epochs=8),
    InvariantRegressor(8, lr=0.1, space_dropout=0, max_epochs=8),
]
NOTHING_DRAWN = [
    InvariantClassifier(4, **EXACT, lr=0.1, weight_decay=0, max_epochs=150),
    InvariantRegressor(8, **EXACT, lr=0.1, max_epochs=150),
]
# the quickest first: of equals, a thinned grid takes the first
FURTHER = [
    InvariantClassifier(4, **FEW, aggregation="attention", weight_decay=0),
    InvariantRegressor(8, **FEW, aggregation="concat", hidden_layer_sizes=30),
    *NOTHING_DRAWN,
]
# a weight of 2 is a row twice only where rows are not drawn
DRAWN = "check_sample_weight_equivalence_on_dense_data"


def all_checks(heads, *, drawn):
    """Every check of scikit-learn for these heads, or that of `DRAWN` alone."""
    for head in heads:
        for estimator, check in estimator_checks_generator(head):
            if (check.func.__name__ == DRAWN) == drawn:
                yield estimator, check


@pytest.mark.parametrize(
    ("head", "check"),
    [*all_checks(CHECKED, drawn=False), *all_checks(NOTHING_DRAWN, drawn=True)],
    ids=lambda value: getattr(value, "func", type(value)).__name__,
)
def test_scikit_learn_checks(head, check):
    """No check is expected to fail."""
    check(head)


@pytest.mark.grid(strength=1)
@pytest.mark.parametrize(
    ("head", "check"),
    list(all_checks(FURTHER, drawn=False)),
    ids=lambda value: getattr(value, "func", type(value)).__name__,
)
def test_scikit_learn_checks_of_further_configurations(head, check):
    """The same with random anchors, and with other options."""
    check(head)


@pytest.mark.filterwarnings("ignore:X .* feature names")
@pytest.mark.parametrize("head", CHECKED, ids=lambda head: type(head).__name__)
@pytest.mark.parametrize(
    "check",
    [
        "check_dataframe_column_names_consistency",
        "check_global_output_transform_pandas",
        "check_global_set_output_transform_polars",
        "check_inplace_ensure_writeable",
        "check_set_output_transform",
        "check_set_output_transform_pandas",
        "check_set_output_transform_polars",
        "check_transformer_get_feature_names_out",
        "check_transformer_get_feature_names_out_pandas",
    ],
)
def test_checks_that_scikit_learn_does_not_yield(head, check):
    """Checks that scikit-learn runs for its own estimators only."""
    pytest.importorskip("pandas")
    pytest.importorskip("polars")
    getattr(estimator_checks, check)(type(head).__name__, head)


# --- together with scikit-learn ------------------------------------------------------


def test_grid_search_in_two_processes(fresh):
    """Invariances are a parameter like others."""
    assert fresh["same"]
    assert min(fresh["scores"]) > 0.75


def test_cross_validation_calibration_and_classical_heads(digits):
    """They fit copies, and use probabilities, weights or `transform`."""
    X, X_test, y, y_test = digits
    head = InvariantClassifier(60, max_epochs=10, random_state=0)
    predicted = cross_val_predict(head, X, y, cv=3, method="predict_proba")
    assert (predicted.argmax(axis=1) == y).mean() > 0.8
    calibrated = CalibratedClassifierCV(head, cv=3)
    calibrated.fit(X, y, sample_weight=np.ones(len(y)))
    assert calibrated.score(X_test, y_test) > 0.85
    before_ridge = make_pipeline(InvariantRegressor(60, random_state=0), Ridge())
    assert before_ridge.fit(X, y).score(X_test, y_test) > 0.5


@pytest.mark.parametrize("container", ["list", "pandas", "polars", "float64", "torch"])
def test_containers(container, digits):
    """Equal numbers give equal heads, and column names are checked."""
    X, X_test, y, _ = digits
    head = InvariantClassifier(60, max_epochs=2, random_state=0)
    expected = clone(head).fit(X.astype(np.float64), y).predict(X_test)
    if container == "list":
        given, labels = X.astype(np.float64).tolist(), y.tolist()
    elif container == "float64":
        given, labels = X.astype(np.float64), y
    elif container == "torch":
        given, labels = torch.tensor(X, requires_grad=True), torch.tensor(y)
        expected = clone(head).fit(X, y).predict(X_test)
    else:
        library = pytest.importorskip(container)
        columns = {f"pixel{i}": X[:, i].astype(np.float64) for i in range(64)}
        given, labels = library.DataFrame(columns), library.Series(y)
    fit = head.fit(given, labels)
    test = X_test
    if container in ("pandas", "polars"):
        assert list(fit.feature_names_in_) == list(columns)
        test = library.DataFrame({f"pixel{i}": X_test[:, i] for i in range(64)})
    assert np.array_equal(fit.predict(test), expected)
    assert isinstance(fit.predict_proba(test), np.ndarray)


def test_float32_stays_float32(digits):
    """The network has the dtype of the fitted rows, outputs that of their rows."""
    X, _, y, _ = digits
    head = InvariantClassifier(60, max_epochs=1, random_state=0)
    for dtype in (np.float32, np.float64):
        fit = clone(head).fit(X.astype(dtype), y)
        weights = fit.net_.module_.state_dict().values()
        assert {str(weight.dtype) for weight in weights} == {f"torch.{dtype.__name__}"}
        assert fit.transform(X.astype(dtype)).dtype == dtype
        assert fit.predict_proba(X.astype(dtype)).dtype == dtype


def test_sparse_rows(digits):
    """Metrics that take sparse rows give the dense result; others are an error."""
    X, X_test, y, _ = digits
    head = InvariantClassifier(
        60, metrics=("cosine", "euclidean", "manhattan"), max_epochs=2, random_state=0
    )
    dense = clone(head).fit(X, y).predict(X_test)
    sparse = clone(head).fit(csr_array(X), y).predict(csr_array(X_test))
    assert (dense == sparse).mean() > 0.98
    head = clone(head).fit(csr_array(X), y)
    outputs = head.to_torch()(torch.from_numpy(X_test))
    assert (outputs.argmax(dim=1).numpy() == sparse).mean() > 0.98
    with pytest.raises(TypeError, match="'chebyshev' does not take sparse input"):
        InvariantClassifier(60).fit(csr_array(X), y)


def test_the_global_output_configuration_does_not_reach_inside(digits):
    """`transform` returns a frame, and the network still gets arrays."""
    pandas = pytest.importorskip("pandas")
    X, X_test, y, _ = digits
    with config_context(transform_output="pandas"):
        head = InvariantClassifier(60, max_epochs=1, random_state=0).fit(X, y)
        frame = head.transform(X_test)
        assert isinstance(frame, pandas.DataFrame)
        assert next(iter(frame.columns)) == "invariantclassifier0"
        assert isinstance(head.predict_proba(X_test), np.ndarray)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"aggregation": "max"}, ValueError, "aggregation must be one of"),
        ({"hidden_layer_sizes": (0,)}, ValueError, "hidden_layer_sizes must be"),
        ({"hidden_layer_sizes": "no"}, TypeError, "hidden_layer_sizes must be"),
        ({"dropout": 1.0}, ValueError, "dropout must be below 1"),
        ({"space_dropout": -1}, ValueError, "space_dropout must be"),
        ({"noise": -1}, ValueError, "noise must be"),
        ({"reweight": -1}, ValueError, "reweight must be"),
        ({"max_epochs": 0}, ValueError, "max_epochs must be"),
        ({"batch_size": 0}, ValueError, "batch_size must be"),
        ({"batch_size": "all"}, ValueError, "batch_size must be"),
        ({"lr": "fast"}, TypeError, "lr must be"),
        ({"weight_decay": -1}, ValueError, "weight_decay must be"),
        (
            {"early_stopping": True, "validation_fraction": 1},
            ValueError,
            "validation_fraction must be",
        ),
        ({"n_iter_no_change": 0.5}, TypeError, "n_iter_no_change must be"),
        ({"metrics": "cosine"}, TypeError, "metrics must be a sequence"),
        ({"callbacks": EarlyStopping()}, TypeError, "callbacks must be a list"),
        ({"callbacks": [print]}, TypeError, "for set_callbacks; got .*print"),
        ({"anchors": [0]}, ValueError, "at least 2 anchors"),
        ({"post": PCA(0.9)}, ValueError, "equally many columns for each metric"),
    ],
)
def test_wrong_parameters_are_refused(params, error, message, digits):
    """`fit` names each of them."""
    X, _, y, _ = digits
    with pytest.raises(error, match=message):
        InvariantClassifier(**{"n_anchors": 60, **params}).fit(X[:200], y[:200])


def test_an_int_is_a_hidden_layer(digits):
    """scikit-learn's own networks take an int, too."""
    X, _, y, _ = digits
    head = InvariantClassifier(60, hidden_layer_sizes=7, max_epochs=1).fit(X, y)
    assert head.net_.module_.head[0].out_features == 7


def test_transformers_as_pre_and_post(digits):
    """Their width is free if it is the same for all metrics."""
    X, X_test, y, y_test = digits
    head = InvariantClassifier(
        60, pre=PCA(20), post=make_pipeline(StandardScaler(), PCA(30)), random_state=0
    ).fit(X, y)
    assert head.transform(X_test).shape == (300, 30)
    assert head.score(X_test, y_test) > 0.8
    other = head.rebase(3 * X[head.anchor_indices_][:, ::-1])
    assert set(other.agreement_) == set(head.agreement_)
    same = head.rebase(head.anchors_)
    assert list(same.agreement_.values()) == pytest.approx([1] * 4)
    np.testing.assert_allclose(
        same.predict_proba(X_test), head.predict_proba(X_test), atol=1e-5
    )
    sign = InvariantClassifier(60, pre=FunctionTransformer(np.sign), random_state=0)
    assert sign.fit(X, y).score(X_test, y_test) > 0.7


def test_a_single_class_is_always_predicted(digits):
    """scikit-learn's own classifiers do so, too."""
    X, _, y, _ = digits
    head = InvariantClassifier(60, max_epochs=1).fit(X, np.full(len(y), "only"))
    assert set(head.predict(X)) == {"only"}


def test_regression_is_not_classification():
    """A classifier refuses continuous targets."""
    X, y = make_regression(100, 5, random_state=0)
    with pytest.raises(ValueError, match="Unknown label type"):
        InvariantClassifier(20).fit(X, y)


def test_without_torch_the_error_has_the_install_command():
    """The rest of the package works without it."""
    code = """
import sys
class Absent:
    def find_spec(self, name, *rest):
        if name == absent:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
for absent in ("torch", "skorch"):
    try:
        from skinvariant.heads import InvariantClassifier
    except ImportError as error:
        print(absent, error)
"""
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    messages = re.split("^(?:torch|skorch) ", output, flags=re.M)
    assert messages.pop(0) == ""
    assert len(messages) == 2
    assert all("pip install 'skinvariant[torch]'" in message for message in messages)
