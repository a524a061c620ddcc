"""What a change of encoder costs: bounds that hold, estimates of known answers."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from scipy.stats import beta

from skinvariant import forecast_swap
from skinvariant.forecast import (
    SwapForecast,
    accuracy_bounds,
    expected_changes,
    least_accuracy,
)


def two_models(n_rows=4000, n_classes=4, seed=0, noise=1.0):
    """Return the probabilities of two models, and labels drawn from the first ones.

    The first model is calibrated; the second sees its evidence with some noise.
    """
    rng = np.random.default_rng(seed)
    evidence = 2.5 * rng.standard_normal((n_rows, n_classes))
    old = softmax(evidence, axis=1)
    y = (old.cumsum(axis=1) < rng.random((n_rows, 1))).sum(axis=1)
    new = softmax(evidence + noise * rng.standard_normal(old.shape), axis=1)
    return old, new, y


def independent_models(signals, n_rows=6000, n_classes=4, seed=0):
    """Return exact posteriors of models that see a label with noise of their own.

    The product of both, normalised, is then the posterior of what both see.
    """
    rng = np.random.default_rng(seed)
    y = rng.integers(n_classes, size=n_rows)
    seen = rng.standard_normal((len(signals), n_rows, n_classes))
    posteriors = []
    for signal, noise in zip(signals, seen, strict=True):
        evidence = signal * np.eye(n_classes)[y] + noise
        posteriors.append(softmax(signal * evidence, axis=1))
    return *posteriors, y


def accuracy(predicted, y):
    """Return the share of right labels."""
    codes = predicted if predicted.ndim == 1 else predicted.argmax(axis=1)
    return float(np.mean(codes == y))


labels = st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=40)


# --- bounds -------------------------------------------------------------------------


@settings(derandomize=True, deadline=None, max_examples=300)
@given(labels)
def test_no_labels_violate_the_bounds(rows):
    """Whatever the true labels, the accuracy is within the bounds."""
    old, new, y = np.transpose(rows)
    own, after = accuracy(old, y), accuracy(new, y)
    low, high = accuracy_bounds(own, np.mean(old != new))
    assert low - 1e-12 <= after <= high + 1e-12
    forecast = forecast_swap(old, new, own_score=own, classes=range(4))
    assert forecast.bound <= after + 1e-12
    assert abs(after - own) <= forecast.most_lost + 1e-12


@pytest.mark.parametrize(
    ("own", "disagreement"), [(0.9, 0.05), (0.9, 0.15), (0.6, 0.5)]
)
def test_some_labels_reach_the_bounds(own, disagreement):
    """The bounds are sharp: constructed labels have exactly these accuracies."""
    n_rows = 100
    wrong, differ = round(n_rows * (1 - own)), round(n_rows * disagreement)
    y = np.zeros(n_rows, dtype=int)
    old = np.where(np.arange(n_rows) < wrong, 1, 0)
    low, high = accuracy_bounds(own, disagreement)
    worse, better = old.copy(), old.copy()
    worse[n_rows - differ :] = 2  # right rows first
    worse[: max(differ - (n_rows - wrong), 0)] = 2
    better[: min(differ, wrong)] = 0  # wrong rows first, then right ones
    better[wrong : wrong + max(differ - wrong, 0)] = 2
    assert accuracy(worse, y) == pytest.approx(low)
    assert accuracy(better, y) == pytest.approx(high)


def test_least_accuracy_is_clopper_and_pearson():
    """Both parts are quantiles of beta distributions, with half of the error each."""
    most_lost, bound = least_accuracy(30, 1000, own=0.9)
    assert most_lost == pytest.approx(beta.ppf(0.95, 31, 970))
    assert bound == pytest.approx(0.9 - most_lost)
    most_lost, bound = least_accuracy(30, 1000, own=0.9, own_rows=500)
    assert most_lost == pytest.approx(beta.ppf(0.975, 31, 970))
    assert bound == pytest.approx(beta.ppf(0.025, 450, 51) - most_lost)
    assert least_accuracy(0, 10, own=0.0) == pytest.approx((1 - 0.05**0.1, 0))


def test_the_bound_holds_of_samples():
    """Of samples of two models, it is violated in no more than 5% of cases."""
    old, new, y = two_models(40_000, noise=2.0)
    truth, rng = accuracy(new, y), np.random.default_rng(1)
    violated = 0
    for _ in range(300):
        measured, rows = rng.choice(len(y), (2, 200))
        right = int(np.sum(old[measured].argmax(axis=1) == y[measured]))
        differ = int(np.sum(old[rows].argmax(axis=1) != new[rows].argmax(axis=1)))
        violated += truth < least_accuracy(differ, 200, right / 200, 200)[1]
    assert violated <= 15


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.integers(0, 10**6), st.integers(1, 3), st.floats(0.01, 100))
def test_no_targets_violate_the_bound_of_numbers(seed, n_outputs, unit):
    """The triangle inequality, in the units of each output."""
    rng = np.random.default_rng(seed)
    y, old, new = unit * rng.standard_normal((3, 60, n_outputs))
    old, new = y + 0.5 * old, y + rng.uniform(0, 1) * new
    deviation = y.std(axis=0)

    def r2(predicted):
        return 1 - np.mean((predicted - y) ** 2 / deviation**2)

    forecast = forecast_swap(old, new, own_score=(r2(old), deviation))
    assert forecast.bound <= r2(new) + 1e-12
    told = forecast_swap(old, new, y=y)
    assert told.own_score == pytest.approx(r2(old))
    assert told.estimate == pytest.approx(r2(new))


# --- estimates ----------------------------------------------------------------------


def test_without_probabilities_the_middle_of_the_bounds():
    """The estimate is the smaller one of own accuracy and agreement."""
    old = np.array([0] * 100)
    for n_differ, expected in ((5, 0.9), (30, 0.7)):
        new = np.array([1] * n_differ + [0] * (100 - n_differ))
        forecast = forecast_swap(old, new, own_score=0.9)
        assert forecast.estimate == pytest.approx(expected)
        low, high = forecast.estimate_interval
        assert forecast.bound <= low <= expected <= high


@pytest.mark.parametrize("signal", [2.2, 2.5, 3.0])
def test_probabilities_name_the_better_model(signal):
    """Where both are independent, the estimate is nearer to the truth with them."""
    old, new, y = independent_models((2.0, signal))
    own, after = accuracy(old, y), accuracy(new, y)
    forecast = forecast_swap(old, new, own_score=own)
    alone = forecast_swap(old.argmax(axis=1), new.argmax(axis=1), own_score=own)
    assert after > own + 0.02
    assert abs(forecast.estimate - after) < 0.85 * abs(alone.estimate - after)


def test_equal_models_change_nothing():
    """No row differs: the accuracy stays, within what the number of rows allows."""
    old, _, _ = two_models(500)
    forecast = forecast_swap(
        old, old**1.5 / (old**1.5).sum(axis=1)[:, None], own_score=0.8
    )
    assert forecast.disagreement == forecast.change == 0
    assert forecast.estimate == 0.8
    assert forecast.flips == ()
    assert len(forecast.suspects(5)) == 0
    assert forecast.most_lost == pytest.approx(1 - 0.05 ** (1 / 500))
    assert 0.79 < forecast.estimate_interval[0] < 0.8 < forecast.estimate_interval[1]


@pytest.mark.parametrize("own", [0.0, 0.1, 0.5, 0.99, 1.0])
def test_any_own_accuracy(own):
    """Even one that the probabilities cannot have: everything is finite, in order."""
    old, new, _ = two_models(300)
    changes = expected_changes(old, new, own)
    assert np.abs(changes).max() <= 1 + 1e-12
    assert_array_equal(changes[old.argmax(axis=1) == new.argmax(axis=1)], 0)
    forecast = forecast_swap(old, new, own_score=own)
    low, high = forecast.estimate_interval
    assert 0 <= forecast.bound <= low <= forecast.estimate <= high <= 1


def test_all_labels_give_the_accuracy():
    """With the labels of all rows nothing is estimated."""
    old, new, y = two_models(400)
    forecast = forecast_swap(old, new, y=y)
    assert forecast.own_score == pytest.approx(accuracy(old, y))
    assert forecast.estimate == pytest.approx(accuracy(new, y))
    differ = np.flatnonzero(old.argmax(axis=1) != new.argmax(axis=1))
    by_suspects = forecast_swap(
        old, new, own_score=accuracy(old, y), y=y[differ], labelled=differ
    )
    assert by_suspects.estimate == pytest.approx(accuracy(new, y))
    assert len(by_suspects.unlabelled) == 0


def test_labels_of_suspects_halve_the_error():
    """Beside as many labels at random, whose share of right ones is the estimate."""
    errors = {"suspects": [], "random": []}
    for seed in range(40):
        old, new, y = two_models(1000, seed=seed, noise=1.5)
        truth, own = accuracy(new, y), accuracy(old, y)
        rows = forecast_swap(old, new, own_score=own).suspects(50)
        told = forecast_swap(old, new, own_score=own, y=y[rows], labelled=rows)
        errors["suspects"].append(told.estimate - truth)
        errors["random"].append(accuracy(new[:50], y[:50]) - truth)
    suspects, at_random = (np.abs(values).mean() for values in errors.values())
    assert suspects < 0.5 * at_random


def test_labels_alone_have_no_bias():
    """Without an own score the change is the mean of the labelled rows that differ."""
    errors = []
    for seed in range(100):
        old, new, y = two_models(300, seed=seed, noise=3.0)
        rows = forecast_swap(old, new).suspects(20)
        change = forecast_swap(old, new, y=y[rows], labelled=rows).change
        errors.append(change - accuracy(new, y) + accuracy(old, y))
    assert abs(np.mean(errors)) < 3 * np.std(errors) / 10


def test_labels_without_an_own_score():
    """They tell the change, not the accuracy."""
    old, new, y = two_models(1000, noise=3.0)
    rows = forecast_swap(old, new).suspects(200)
    forecast = forecast_swap(old, new, y=y[rows], labelled=rows)
    change = accuracy(new, y) - accuracy(old, y)
    assert forecast.estimate is None
    assert forecast.change == pytest.approx(change, abs=0.03)
    assert forecast.change_interval[0] <= change <= forecast.change_interval[1]


def test_suspects_are_new_rows_that_differ():
    """They are drawn in one order, without those that have a label."""
    old, new, y = two_models(300)
    forecast = forecast_swap(old, new, own_score=0.8)
    rows = forecast.suspects(20)
    assert (old.argmax(axis=1) != new.argmax(axis=1))[rows].all()
    assert_array_equal(forecast.suspects(8), rows[:8])
    told = forecast_swap(old, new, own_score=0.8, y=y[rows], labelled=rows)
    assert not set(told.suspects(1000)) & set(rows)
    assert len(told.suspects(1000)) == len(forecast.unlabelled) - 20


def test_classes_groups_and_flips():
    """They are counted by hand."""
    old = np.array(["a", "a", "a", "b", "b", "c"])
    new = np.array(["a", "b", "b", "b", "a", "c"])
    groups = ["x", "x", "y", "y", "y", "y"]
    forecast = forecast_swap(old, new, own_score=0.9, groups=groups)
    assert forecast.flips == (("a", "b", 2), ("b", "a", 1))
    assert [row[:2] for row in forecast.per_class.values()] == [
        (3, pytest.approx(2 / 3)),
        (2, 0.5),
        (1, 0.0),
    ]
    assert forecast.per_group["x"][:2] == (2, 0.5)
    whole = sum(row[0] * row[4] for row in forecast.per_group.values()) / 6
    assert whole == pytest.approx(forecast.change)
    low, high = forecast.per_class["a"][2:4]
    assert (low, high) == pytest.approx((beta.ppf(0.025, 2, 2), beta.ppf(0.975, 3, 1)))


# --- decisions ----------------------------------------------------------------------


def test_a_threshold_passes_the_same_share():
    """Exactly, up to ties."""
    old, new, _ = two_models(1000)
    forecast = forecast_swap(old, new)
    for class_ in range(4):
        threshold, low, high = forecast.threshold(0.7, class_, keep="share")
        assert np.sum(new[:, class_] >= threshold) == np.sum(old[:, class_] >= 0.7)
        assert low < threshold < high


@pytest.mark.parametrize("signals", [(3.0, 2.0), (2.5, 2.0)])
def test_a_threshold_keeps_false_positives(signals):
    """Where the share of passing rows would not, since the new model is worse."""
    old, new, y = independent_models(signals, 40_000)
    forecast = forecast_swap(old, new, own_score=accuracy(old, y))
    for class_ in range(4):
        others = y != class_
        before = np.mean(old[others, class_] >= 0.8)
        off = {}
        for keep in ("false_positives", "share"):
            threshold, _, _ = forecast.threshold(0.8, class_, keep=keep)
            off[keep] = abs(np.mean(new[others, class_] >= threshold) - before)
        assert off["false_positives"] < min(0.005, 0.7 * off["share"])


def test_the_gate():
    """By the loss that is not exceeded, or by the estimate."""
    old, new = np.zeros(1000, dtype=int), np.repeat([0, 1], [985, 15])
    forecast = forecast_swap(old, new, own_score=0.9)
    assert forecast.passes(0.025)
    assert not forecast.passes(0.02)
    assert forecast.passes(0.0, by="estimate")  # 1.5% differ, of 10% errors
    with pytest.raises(ValueError, match="needs own_score= or y="):
        forecast_swap(old, new).passes(by="estimate")
    with pytest.raises(ValueError, match="by must be one of"):
        forecast.passes(by="chance")


# --- input and output ---------------------------------------------------------------


def test_any_container_gives_the_same():
    """Lists, frames, Series and arrays of other libraries."""
    pd = pytest.importorskip("pandas")
    pl = pytest.importorskip("polars")
    old, new, _ = two_models(50)
    expected = forecast_swap(old, new, own_score=0.8).to_json()
    containers = [list, pd.DataFrame, pl.DataFrame, np.asfortranarray]
    for make in containers:
        found = forecast_swap(make(old), make(new), own_score=0.8, classes=range(4))
        assert found.to_json() == expected
    names = np.array(["ant", "bee", "cat", "dog"])
    codes = [names[x.argmax(axis=1)] for x in (old, new)]
    expected = forecast_swap(*codes, own_score=(40, 50)).to_json()
    for make in (list, pd.Series, pl.Series):
        assert (
            forecast_swap(*map(make, codes), own_score=(40, 50)).to_json() == expected
        )
    framed = [pd.DataFrame(x, columns=names) for x in (old, new)]
    assert forecast_swap(*framed).classes == tuple(names)


@pytest.mark.parametrize("n_classes", [2, 10, 30])
@pytest.mark.parametrize("decimals", [2, 4])
def test_rounded_logs_are_probabilities(n_classes, decimals):
    """Even where their rows sum to 1 roughly."""
    old, new, _ = two_models(200, n_classes)
    exact = forecast_swap(old, new, own_score=0.8)
    found = forecast_swap(old.round(decimals), new.round(decimals), own_score=0.8)
    assert found.kind == "probabilities"
    assert found.estimate == pytest.approx(exact.estimate, abs=0.02)


def test_rows_and_columns_in_another_order_are_refused():
    """Frames name their rows and columns; a mismatch is no disagreement."""
    pd = pytest.importorskip("pandas")
    old, new, _ = two_models(30)
    a, b = (pd.DataFrame(x, columns=list("abcd")) for x in (old, new))
    with pytest.raises(ValueError, match="same order"):
        forecast_swap(a, b.iloc[::-1])
    with pytest.raises(ValueError, match="columns of old and new"):
        forecast_swap(a, b[list("badc")])
    by_name = [pd.Series(list("ab"), index=index) for index in (["x", "y"], ["y", "x"])]
    with pytest.raises(ValueError, match="same order"):
        forecast_swap(*by_name)


OLD, NEW, Y = two_models(40)
DAYS = np.array(["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"], "M8[D]")


@pytest.mark.parametrize(
    ("arguments", "params", "message"),
    [
        ((OLD, NEW[:5]), {}, "of one kind for the same rows"),
        ((OLD, NEW.argmax(axis=1)), {}, "of one kind for the same rows"),
        ((OLD, NEW[:, :3]), {}, "of one kind for the same rows"),
        ((OLD, 2 * NEW), {}, "of one kind for the same rows"),
        ((OLD, NEW * np.where(Y > 0, 1, 0.5)[:, None]), {}, "must sum to 1"),
        ((OLD, NEW), {"classes": [0, 1, 2]}, "name each column"),
        ((OLD, NEW), {"classes": [0, 1, 2, 2]}, "distinct"),
        ((OLD[:, 0], NEW[:, 0]), {"classes": [0, 1]}, "whose rows sum to 1"),
        ((OLD, np.where(NEW > 0.9, np.nan, NEW)), {}, "NaN"),
        ((np.empty(0), np.empty(0)), {}, "one row or more"),
        ((Y, Y.astype(str)), {}, "labels in common"),
        ((Y, Y + 10), {}, "labels in common"),
        ((Y, Y), {"classes": [0, 1]}, "labels of classes"),
        ((Y, Y), {"own_score": 1.5}, "own_score must be"),
        ((Y, Y), {"own_score": (5, 4)}, "n_right in own_score"),
        ((Y, Y), {"own_score": (0.5, 4)}, "n_right in own_score"),
        ((OLD[:, 0], NEW[:, 0]), {"own_score": 0.5}, "must be a pair"),
        ((OLD[:, 0], NEW[:, 0]), {"own_score": (0.5, 0)}, "above 0"),
        ((OLD[:, 0], NEW[:, 0]), {"own_score": (0.5, [1, 2])}, "one deviation"),
        ((OLD[:, 0], NEW[:, 0]), {"y": np.ones(40)}, "that differ"),
        ((OLD[:1, 0], NEW[:1, 0]), {}, "2 rows"),
        ((Y, Y), {"labelled": [1]}, "y must be the labels"),
        ((Y, Y), {"y": [1, 2], "labelled": [1]}, "one for each row"),
        ((Y, Y), {"y": [1, 2], "labelled": [1, 1]}, "distinct"),
        ((Y, Y), {"y": [1], "labelled": [40]}, "lie in"),
        ((Y, Y), {"groups": ["a"]}, "one name for each"),
        ((Y, Y), {"confidence": 1.0}, "confidence must be"),
        ((Y, Y), {"confidence": 0.1}, "confidence must be"),
    ],
)
def test_wrong_arguments(arguments, params, message):
    """Each is refused, with what it must be."""
    with pytest.raises((ValueError, TypeError), match=message):
        forecast_swap(*arguments, **params)


@pytest.mark.parametrize(
    ("forecast", "call", "message"),
    [
        (forecast_swap(Y, Y), lambda f: f.threshold(0.5, 0), "needs the probabilities"),
        (forecast_swap(OLD, NEW), lambda f: f.threshold(0.5, 7), "class_ must be"),
        (forecast_swap(OLD, NEW), lambda f: f.threshold(0.5, 0), "needs the old model"),
        (
            forecast_swap(OLD, NEW),
            lambda f: f.threshold(1.0, 0, keep="share"),
            "passed",
        ),
        (forecast_swap(OLD, NEW), lambda f: f.threshold(2.0, 0), "old_threshold"),
        (forecast_swap(OLD, NEW), lambda f: f.suspects(0), "n must be"),
        (forecast_swap(OLD[:, 0], NEW[:, 0]), lambda f: f.suspects(3), "of numbers"),
        (forecast_swap(OLD[:, 0], NEW[:, 0]), lambda f: f.passes(), "needs own_score"),
    ],
)
def test_what_a_forecast_lacks(forecast, call, message):
    """It is named."""
    with pytest.raises((ValueError, TypeError), match=message):
        call(forecast)


@pytest.mark.parametrize(
    "forecast",
    [
        forecast_swap(OLD, NEW, own_score=0.8, groups=["a", "b"] * 20),
        forecast_swap(OLD, NEW),
        forecast_swap(Y.astype(str), Y.astype(str), own_score=(30, 40)),
        forecast_swap(OLD[:, :2] * 3, NEW[:, :2] * 3, own_score=(0.9, [1, 2])),
        forecast_swap(OLD[:1], NEW[:1], own_score=0.8),
        forecast_swap(OLD[:, 0], NEW[:, 0], groups=["a"] * 38 + ["b", "c"]),
        forecast_swap(DAYS[Y], DAYS[NEW.argmax(axis=1)], classes=DAYS),
        forecast_swap(Y > 1, OLD.argmax(axis=1) > 1, y=Y > 0),
    ],
    ids=[
        "probabilities",
        "no own score",
        "labels",
        "numbers",
        "one row",
        "groups of one row",
        "times",
        "bools",
    ],
)
def test_json(forecast, tmp_path):
    """Everything but the probabilities returns, and the same words."""
    forecast.to_json(tmp_path / "forecast.json")
    read = SwapForecast.from_json(tmp_path / "forecast.json")
    assert str(read) == str(forecast)
    assert read.to_json() == forecast.to_json()
    assert_array_equal(read.unlabelled, forecast.unlabelled)
    assert (read.per_class, read.flips) == (forecast.per_class, forecast.flips)
    content = json.loads(forecast.to_json())
    for damage in ({"bound": 0.5}, {"kind": None}, {"more": 1}):
        with pytest.raises(ValueError, match="source must be a forecast"):
            SwapForecast.from_json(json.dumps(content | damage))


def test_tables():
    """As data frames."""
    pytest.importorskip("pandas")
    forecast = forecast_swap(OLD, NEW, own_score=0.8, groups=["a", "b"] * 20)
    assert list(forecast.to_frame()["n_rows"]) == [
        row[0] for row in forecast.per_class.values()
    ]
    assert list(forecast.to_frame("group")["group"]) == ["a", "b"]
    assert forecast.to_frame("flips")["n_rows"].sum() == len(forecast.unlabelled)


def test_the_summary_says_what_to_do():
    """Which numbers, and what would make them better."""
    old, new, y = two_models(1000, noise=2.0)
    text = str(forecast_swap(old, new))
    assert "falls by" in text
    assert "own_score=" in text
    forecast = forecast_swap(old, new, own_score=0.8, groups=["a", "b"] * 500)
    assert f"about {forecast.estimate:.3f}" in str(forecast)
    assert "suspects(50)" in str(forecast)
    assert "The group that changes most" in str(forecast)
    told = forecast_swap(old, new, y=y)
    assert "suspects" not in str(told)


def test_the_same_rows_in_another_order():
    """No row depends on its place."""
    order = np.random.default_rng(0).permutation(40)
    expected = forecast_swap(OLD, NEW, own_score=0.8)
    found = forecast_swap(OLD[order], NEW[order], own_score=0.8)
    assert_allclose(found.estimate, expected.estimate, rtol=1e-12)
    assert found.threshold(0.5, 1) == pytest.approx(expected.threshold(0.5, 1))
    assert_array_equal(np.sort(order[found.unlabelled]), expected.unlabelled)
