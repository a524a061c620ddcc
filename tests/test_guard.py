"""EncoderGuard: what it reports, what it lets pass, and where it is put."""

import copy
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skinvariant import (
    EncoderGuard,
    InvariantVotingClassifier,
    RelativeProjector,
    select_anchors,
    stitch,
)
from skinvariant._energy import coefficient, energy_coefficients
from skinvariant.persistence import load, save

LATENT = np.random.default_rng(0).standard_normal((2000, 8))
TURN = np.linalg.qr(np.random.default_rng(1).standard_normal((8, 8)))[0]
X = np.exp(0.5 * LATENT) * np.arange(1, 9)
X_OTHER = X @ TURN
X_LIVE, X_OTHER = X[1000:], X_OTHER[1000:]


def fit(**params):
    """Fit a guard on the first half of the rows."""
    return EncoderGuard(**{"random_state": 0} | params).fit(X[:1000])


def count_reports(guard, rows, size):
    """Pass rows in batches, and count those that are reported."""
    n_reported = 0
    for start in range(0, len(rows), size):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            guard.transform(rows[start : start + size])
        n_reported += len(caught)
    return n_reported


# --- what it reports ----------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 32, 100, 1000])
def test_right_rows_pass_and_other_rows_are_reported(size):
    """In batches of every size; the window forgets the rows of before."""
    guard = fit()
    assert np.isnan(guard.p_value_)
    assert count_reports(guard, X_LIVE, size) == 0
    assert guard.p_value_ > 0.001
    assert count_reports(guard, X_OTHER, size) > 0
    assert guard.p_value_ == pytest.approx(1e-4)


@pytest.mark.parametrize("size", [1, 8, 40])
def test_the_rate_of_false_alarms(size):
    """At most as stated, for rows of the distribution that it was fitted on."""
    rng, n_reported, n_batches = np.random.default_rng(0), 0, 0
    for seed in range(8):
        rows = rng.standard_normal((1500, 5)) ** 3
        guard = EncoderGuard(false_alarms=50, random_state=seed).fit(rows[:700])
        n_reported += count_reports(guard, rows[700:], size)
        n_batches += len(range(700, 1500, size))
    # reports come in groups, so that their number varies
    assert n_reported / n_batches <= 0.08


def test_the_p_values_of_right_rows_are_uniform():
    """Half of them are below one half."""
    p_values = []
    for seed in range(4):
        guard = fit(window=32, random_state=seed)
        for start in range(0, 960, 32):
            for rows in np.split(X_LIVE[start : start + 32], 16):
                guard.transform(rows)
            p_values.append(guard.p_value_)
            guard.reset()
    assert 0.3 < np.mean(np.array(p_values) < 0.5) < 0.7


def test_a_few_rows_of_an_empty_window_are_enough():
    """The first comparison is of four rows."""
    guard = fit(on_mismatch="raise")
    guard.transform(-X_OTHER[:3])
    with pytest.raises(ValueError, match=r"last 4 rows.*p value of 0\.0001"):
        guard.transform(-X_OTHER[3:4])


def test_rows_are_reported_until_they_are_right_again():
    """Between two comparisons, too; `reset` forgets the window."""
    guard = fit(on_mismatch="raise")
    guard.transform(X_LIVE[:100])
    with pytest.raises(ValueError, match="must be of the encoder"):
        guard.transform(X_OTHER[:600])
    with pytest.raises(ValueError, match="must be of the encoder"):
        guard.transform(X_LIVE[:1])
    guard.reset().transform(X_LIVE[:1])
    assert np.isnan(guard.p_value_)
    assert count_reports(guard, X_LIVE, 600) == 0


def test_a_large_batch_is_compared_by_rows_all_over_it():
    """So that sorted rows, as those of a test set by class, are no mismatch."""
    guard = fit()
    in_order = X_LIVE[np.argsort(X_LIVE[:, 0])]
    assert count_reports(guard, in_order, 1000) == 0
    assert count_reports(guard.reset(), in_order, 50) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda Z: Z / np.linalg.norm(Z, axis=1, keepdims=True),
            "normalised to norm 1",
        ),
        (lambda Z: 10 * Z, "their norms are .* times those of the encoder's rows"),
        (lambda Z: -Z, r"of right rows have$"),
    ],
)
def test_the_report_names_a_normalisation(change, message):
    """Where norms show one, and not elsewhere."""
    guard = fit(on_mismatch="raise")
    with pytest.raises(ValueError, match=message):
        guard.transform(change(X_LIVE))


@pytest.mark.parametrize("factor", [1e-300, 1e-30, 1e30, 1e290])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rows_of_every_scale(factor, dtype):
    """The same p values as at ordinary scale."""
    if dtype == np.float32 and abs(np.log10(factor)) > 30:
        pytest.skip("out of its range")
    expected = fit()
    guard = EncoderGuard(random_state=0).fit((X[:1000] * factor).astype(dtype))
    for rows in (X_LIVE, X_OTHER):
        n_reported = count_reports(expected.reset(), rows, 1000)
        assert count_reports(guard.reset(), (rows * factor).astype(dtype), 1000) == (
            n_reported
        )
        assert guard.p_value_ == pytest.approx(expected.p_value_, abs=2e-3)
    if factor < 1:
        far = X_LIVE * (1e300 if dtype == np.float64 else 1e33)
        assert count_reports(guard.reset(), far.astype(dtype), 1000) == 1


def test_columns_that_did_not_vary():
    """A constant column that varies behind another encoder is a difference."""
    rows = X.copy()
    rows[:, 3] = 0
    guard = EncoderGuard(random_state=0).fit(rows[:1000])
    assert count_reports(guard, rows[1000:], 100) == 0
    rows[1000::2, 3] = 100
    assert count_reports(guard, rows[1000:], 100) > 0


def test_the_coefficient_is_the_formula():
    """Against means over pairs."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((12, 3))
    distances = np.linalg.norm(rows[:, None] - rows, axis=-1)
    subset = rng.permutation(12)[:5]
    rest = np.setdiff1d(np.arange(12), subset)
    means = [
        distances[np.ix_(*pair)].mean()
        for pair in ((subset, rest), (subset, subset), (rest, rest))
    ]
    expected = (2 * means[0] - means[1] - means[2]) / (2 * means[0])
    assert energy_coefficients(distances, subset[None]) == pytest.approx(expected)
    assert coefficient(*means) == pytest.approx(expected)


# --- what it lets pass --------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64])
def test_rows_are_unchanged(dtype):
    """Values and dtype, whatever is in the window."""
    guard = fit()
    rows = X_LIVE[:50].astype(dtype)
    before = rows.copy()
    for _ in range(2):
        passed = guard.transform(rows)
        assert passed.dtype == dtype
        assert_array_equal(passed, before)
    assert_array_equal(rows, before)


def test_rows_that_come_again_count_once():
    """Several methods called with the same rows, or one request many times."""
    guard = fit()
    guard.transform(X_LIVE[:40])
    p_value = guard.p_value_
    assert count_reports(guard, np.tile(X_LIVE[:40], (50, 1)), 40) == 0
    assert guard.p_value_ == p_value
    assert count_reports(guard, np.repeat(X_LIVE, 5, axis=0), 1) == 0


def test_later_changes_of_the_rows_do_not_reach_the_window():
    """It keeps copies."""
    guard, other = fit(), fit()
    rows = X_LIVE[:3].copy()
    guard.transform(rows)
    rows[:] = 1e6
    guard.transform(X_LIVE[3:8])
    other.transform(X_LIVE[:3])
    other.transform(X_LIVE[3:8])
    assert guard.p_value_ == other.p_value_


def test_the_rows_of_fit_do_not_count():
    """`fit_transform` passes them, in whatever order they are."""
    guard = EncoderGuard(random_state=0)
    in_order = X[np.argsort(X[:, 0])]
    assert_array_equal(guard.fit_transform(in_order), in_order)
    assert np.isnan(guard.p_value_)


@pytest.mark.parametrize(
    ("params", "rows", "message"),
    [
        ({"on_mismatch": "ignore"}, X, "on_mismatch must be one of"),
        ({"false_alarms": 0}, X, "false_alarms must be a real number"),
        ({"window": 3}, X, "window must be an integer"),
        ({"n_reference": 7}, X, "n_reference must be an integer"),
        ({}, X[:9], "must have more rows.*got n_samples=9"),
        ({}, np.ones((100, 3)), "equal ones"),
        ({}, np.full((100, 3), np.nan), "NaN"),
    ],
)
def test_what_fit_refuses(params, rows, message):
    """Parameters out of range, and rows of which windows cannot be drawn."""
    with pytest.raises(ValueError, match=message):
        EncoderGuard(**params).fit(rows)


def test_what_transform_refuses():
    """Other widths, missing values, and use before `fit`."""
    guard = fit()
    with pytest.raises(ValueError, match="8 features"):
        guard.transform(X_LIVE[:, :5])
    with pytest.raises(ValueError, match="NaN"):
        guard.transform(np.full((1, 8), np.nan))
    for use in ("reset", "rebase", "transform"):
        arguments = [] if use == "reset" else [X]
        with pytest.raises(NotFittedError):
            getattr(EncoderGuard(), use)(*arguments)
    da = pytest.importorskip("dask.array")
    with pytest.raises(TypeError, match="dask"):
        guard.transform(da.from_array(X_LIVE))


# --- threads and copies -------------------------------------------------------------


def test_threads_share_a_window():
    """Any number of them: the same rows out, and all rows in the window."""
    guard = fit()
    with ThreadPoolExecutor(8) as pool:
        passed = list(pool.map(guard.transform, np.split(X_LIVE, 200)))
    assert_array_equal(np.concatenate(passed), X_LIVE)
    window = guard._window
    assert len(window.compared[0]) == 64
    assert all(np.isfinite(part).all() for part in window.compared)
    assert guard.p_value_ > 0.001


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        lambda guard: pickle.loads(pickle.dumps(guard)),
        lambda guard: joblib.Parallel(2)(joblib.delayed(clone_of)(guard) for _ in "1")[
            0
        ],
    ],
)
def test_copies_start_with_an_empty_window(copied):
    """They have the same reference, and a lock of their own."""
    guard = fit()
    guard.transform(X_LIVE[:100])
    other = copied(guard)
    assert np.isnan(other.p_value_)
    assert other._window.lock is not guard._window.lock
    other.transform(X_LIVE[:100])
    assert other.p_value_ == guard.p_value_
    assert not hasattr(clone(guard), "_window")


def clone_of(guard):
    """Return what a worker has got."""
    return guard


def test_the_seed_decides():
    """Equal seeds, equal p values."""
    guards = [fit(random_state=seed) for seed in (0, 0, 1)]
    for guard in guards:
        guard.transform(X_LIVE[:500])
    p_values = [guard.p_value_ for guard in guards]
    assert p_values[0] == p_values[1] != p_values[2]


def test_files(tmp_path):
    """A model with a guard is saved and loaded without pickle."""
    pytest.importorskip("skops")
    model = make_pipeline(EncoderGuard(random_state=0), RelativeProjector(30))
    model.fit(X[:1000])
    save(model, tmp_path / "model.skops")
    loaded = load(tmp_path / "model.skops", expected=model)
    assert_array_equal(loaded.transform(X_LIVE), model.transform(X_LIVE))
    assert loaded[0].p_value_ == model[0].p_value_
    with pytest.warns(UserWarning, match="must be of the encoder"):
        loaded.transform(X_OTHER)


# --- its place ----------------------------------------------------------------------

HEAD = LogisticRegression(max_iter=5000)
Y = (LATENT[:, 0] > 0).astype(int)
RAW = np.arange(2000)[:, None]


def encoder(space):
    """Return a fitted encoder of row numbers."""
    return FunctionTransformer(lambda rows: space[np.ravel(rows).astype(int)]).fit(RAW)


OLD, NEW = X, np.exp(0.4 * np.hstack([LATENT[:, ::-1], LATENT[:, :3]]))


def test_in_a_search_and_in_cross_validation():
    """Copies are fitted, and none of them reports."""
    model = make_pipeline(EncoderGuard(random_state=0), HEAD)
    plain = cross_val_score(HEAD, X, Y, cv=3)
    assert_array_equal(cross_val_score(model, X, Y, cv=3), plain)
    search = GridSearchCV(model, {"logisticregression__C": [0.1, 1]}, cv=3).fit(X, Y)
    assert search.predict(X[:5]).shape == (5,)
    frozen = FrozenEstimator(model.fit(X, Y))
    assert_array_equal(frozen.predict(X[:5]), model.predict(X[:5]))


PLACES = {
    "behind": lambda old, guard, head: make_pipeline(old, guard, head),
    "before a step": lambda old, guard, head: make_pipeline(
        old, guard, StandardScaler(), head
    ),
    "in the encoder": lambda old, guard, head: Pipeline(
        [("encode", make_pipeline(old, guard)), ("head", head)]
    ),
    "in the head": lambda old, guard, head: Pipeline(
        [("encode", old), ("head", make_pipeline(guard, head))]
    ),
    "before the head": lambda old, guard, head: Pipeline(
        [
            ("encode", old),
            ("guard", guard),
            ("head", make_pipeline(head, "passthrough")),
        ]
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_stitch_fits_the_guard_to_the_new_encoder(place):
    """It passes the new encoder's rows, reports the old one's, and stands behind it."""
    guard, head = EncoderGuard(random_state=0), RelativeProjector(300, random_state=0)
    model = PLACES[place](encoder(OLD), guard, head).fit(RAW[:1000])
    stitched = stitch(model, select_anchors(model, RAW[:1000]), encoder=encoder(NEW))
    plain = stitch(
        make_pipeline(encoder(OLD), head).fit(RAW[:1000]),
        RAW[head.fit(OLD[:1000]).anchor_indices_],
        encoder=encoder(NEW),
    )
    relative = stitched.transform(RAW)
    if place != "before a step":  # which has other anchors
        assert_array_equal(relative, plain.transform(RAW))
    steps = flat(stitched)
    kinds = [type(step).__name__ for step in steps]
    assert kinds[:3] == ["FunctionTransformer", "EncoderGuard", "RelativeProjector"]
    rebased = steps[1]
    assert rebased.n_features_in_ == 11
    assert rebased.p_value_ > 0.001
    with pytest.warns(UserWarning, match="must be of the encoder"):
        rebased.transform(-NEW)


def flat(model):
    """Steps of nested pipelines, in order."""
    if not isinstance(model, Pipeline):
        return [] if model == "passthrough" else [model]
    return [step for _, part in model.steps for step in flat(part)]


@pytest.mark.parametrize("wrap", [lambda guard: guard, FrozenEstimator])
def test_stitch_of_encoded_anchors(wrap):
    """A guard before the head is no step of the old encoder."""
    guard = wrap(EncoderGuard(random_state=0).fit(OLD[:1000]))
    model = make_pipeline(
        guard,
        InvariantVotingClassifier(n_anchors=100, metrics=("cosine",), random_state=0),
    )
    model.fit(OLD[:1000], Y[:1000])
    indices = model[-1].anchor_indices_
    stitched = stitch(model, NEW[indices], y=Y[indices])
    assert stitched[0].n_features_in_ == 11
    assert stitched.score(NEW[1000:], Y[1000:]) > 0.8
    assert stitched[0].p_value_ > 0.001


@pytest.mark.parametrize("anchors", ["farthest", "kmeans", "stratified"])
def test_stitch_warns_where_anchors_are_no_random_sample(anchors):
    """A guard that is fitted on chosen rows would report right ones."""
    projector = RelativeProjector(100, anchors=anchors, random_state=0)
    model = make_pipeline(EncoderGuard(random_state=0), projector)
    model.fit(OLD[:1000], Y[:1000])
    with pytest.warns(UserWarning, match=f"random sample.*got anchors={anchors!r}"):
        stitch(model, NEW[model[-1].anchor_indices_])


def test_stitch_refuses_a_guard_where_rows_are_translated():
    """It would report them."""
    model = make_pipeline(EncoderGuard(random_state=0), HEAD)
    model.fit(OLD[:1000], Y[:1000])
    with pytest.raises(TypeError, match=r"no EncoderGuard.*\['encoderguard'\]"):
        stitch(model, NEW[:100], old_anchors=OLD[:100])
