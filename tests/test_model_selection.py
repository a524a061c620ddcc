"""Searches by the stitched score: what is scored, on which rows, what is refused."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.sparse import csc_array, csr_array
from sklearn import config_context
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.ensemble import VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics import f1_score, get_scorer, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    StratifiedKFold,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinvariant import (
    InvariantAggregator,
    InvariantVotingClassifier,
    InvariantVotingRegressor,
    RelativeProjector,
    select_anchors,
    stitch,
)
from skinvariant.datasets import make_related_spaces
from skinvariant.model_selection import AcrossEncoders, stitched_scores

PAIR = make_related_spaces(150, 5, transformation="affine", n_classes=3, random_state=0)
OLD, NEW, Y = PAIR.X_a, PAIR.X_b, PAIR.y
OTHER = np.tanh(OLD[:, :4] / 4)
SPACES = {"old": slice(0, 5), "new": slice(5, 10), "other": slice(10, 14)}
ROWS = {"old": OLD, "new": NEW, "other": OTHER}
X = np.hstack(list(ROWS.values()))
TWO = {name: SPACES[name] for name in ("old", "new")}
FIT, TEST = slice(0, 100), slice(100, 150)
MODEL = make_pipeline(
    RelativeProjector(20, random_state=0), StandardScaler(), RidgeClassifier()
)
GRID = {"estimator__relativeprojector__pre": [None, "center", "whiten"]}


def by_hand(model, own, other, fit=FIT, test=TEST):
    """The score of a model under its own encoder, and under another one."""
    model = clone(model).fit(ROWS[own][fit], Y[fit])
    stitched = stitch(model, select_anchors(model, ROWS[other][fit]))
    return model.score(ROWS[own][test], Y[test]), stitched.score(
        ROWS[other][test], Y[test]
    )


# --- what is scored -----------------------------------------------------------------


def test_scores_are_those_of_stitched_models():
    """Of every pair, and their means, as computed without this estimator."""
    across = AcrossEncoders(MODEL, SPACES).fit(X[FIT], Y[FIT])
    scores = stitched_scores(across, X[TEST], Y[TEST])
    pairs = [(a, b) for a in SPACES for b in SPACES if a != b]
    expected = {f"{a} to {b}": by_hand(MODEL, a, b)[1] for a, b in pairs}
    assert list(across.estimators_) == list(SPACES)
    assert list(across.stitched_) == pairs
    assert scores.items() >= expected.items()
    stitched = list(expected.values())
    assert len({round(score, 9) for score in stitched}) > 2
    assert scores["stitched"] == pytest.approx(np.mean(stitched))
    assert scores["worst"] == min(stitched)
    own = [by_hand(MODEL, a, "old" if a != "old" else "new")[0] for a in SPACES]
    assert scores["own"] == pytest.approx(np.mean(own))
    assert across.score(X[TEST], Y[TEST]) == scores["stitched"]
    across.set_params(aggregate="worst")
    assert across.score(X[TEST], Y[TEST]) == scores["worst"]


def test_one_own_space():
    """The head is trained on it alone."""
    across = AcrossEncoders(MODEL, SPACES, own="new").fit(X[FIT], Y[FIT])
    assert list(across.estimators_) == ["new"]
    assert list(across.stitched_) == [("new", "old"), ("new", "other")]
    scores = stitched_scores(across, X[TEST], Y[TEST])
    assert (scores["own"], scores["new to old"]) == by_hand(MODEL, "new", "old")
    assert_array_equal(
        across.predict(X[TEST]), across.estimators_["new"].predict(NEW[TEST])
    )


def test_a_search_scores_each_fold_by_its_own_rows():
    """Anchors are among the training rows of a fold, scores are of its test rows."""
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(
        AcrossEncoders(MODEL, TWO, own="old"),
        GRID,
        scoring=stitched_scores,
        refit="stitched",
        cv=folds,
        n_jobs=2,
    ).fit(X, Y)
    for i, pre in enumerate(GRID["estimator__relativeprojector__pre"]):
        model = clone(MODEL).set_params(relativeprojector__pre=pre)
        for k, (fit, test) in enumerate(folds.split(X, Y)):
            found = [
                search.cv_results_[f"split{k}_test_{name}"][i]
                for name in ("own", "stitched")
            ]
            assert tuple(found) == by_hand(model, "old", "new", fit, test)
    stitched = search.cv_results_["mean_test_stitched"]
    assert search.best_index_ == stitched.argmax() != stitched.argmin()
    assert search.best_estimator_.n_features_in_ == X.shape[1]
    assert search.score(X, Y) == stitched_scores(search, X, Y)["stitched"]


def test_the_invariance_that_is_needed_is_found():
    """Which the own score does not show."""
    moved = make_related_spaces(200, transformation="translation", random_state=0)
    both = np.hstack([moved.X_a, moved.X_b])
    across = AcrossEncoders(MODEL, {"a": slice(0, 8), "b": slice(8, 16)}, own="a")
    grid = {"estimator__relativeprojector__pre": [None, "center"]}
    search = GridSearchCV(across, grid, cv=3).fit(both, moved.y)
    assert search.best_params_ == {"estimator__relativeprojector__pre": "center"}


@pytest.mark.filterwarnings("ignore:the old and the new anchors")
def test_a_random_encoder_falls_to_the_floor():
    """Under rows that have nothing to do with the samples nothing is left."""
    noise = np.random.default_rng(0).standard_normal((150, 5))
    across = AcrossEncoders(MODEL, TWO, own="old")
    scores = cross_validate(
        across, np.hstack([OLD, noise]), Y, scoring=stitched_scores, cv=3
    )
    assert scores["test_own"].mean() > 0.9
    assert scores["test_stitched"].mean() < np.bincount(Y).max() / len(Y) + 0.1


# --- spaces -------------------------------------------------------------------------


def mask(name):
    """Columns of a space, as a mask."""
    chosen = np.zeros(X.shape[1], dtype=bool)
    chosen[SPACES[name]] = True
    return chosen


COLUMNS = {
    "positions": lambda name: list(range(*SPACES[name].indices(14))),
    "array": lambda name: np.arange(14)[SPACES[name]],
    "mask": mask,
    "list mask": lambda name: mask(name).tolist(),
    "callable": lambda name: lambda X: np.arange(X.shape[1])[SPACES[name]],
    "negative": lambda name: [i - 14 for i in range(*SPACES[name].indices(14))],
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_spaces_are_columns_of_any_kind(kind):
    """As ColumnTransformer takes them."""
    spaces = {name: COLUMNS[kind](name) for name in SPACES}
    found = AcrossEncoders(MODEL, spaces).fit(X[FIT], Y[FIT])
    expected = AcrossEncoders(MODEL, SPACES).fit(X[FIT], Y[FIT])
    assert stitched_scores(found, X, Y) == stitched_scores(expected, X, Y)


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("output", ["default", "pandas"])
def test_data_frames(library, by_name, output):
    """By names and positions, whatever scikit-learn's transformers return."""
    pytest.importorskip("pandas")
    frames = pytest.importorskip(library)
    names = [f"x{i}" for i in range(14)]
    frame = frames.DataFrame(dict(zip(names, X.T, strict=True)))
    spaces = {k: names[v] for k, v in SPACES.items()} if by_name else SPACES
    expected = AcrossEncoders(MODEL, SPACES).fit(X, Y)
    scores, predicted = stitched_scores(expected, X, Y), expected.predict(X)
    with config_context(transform_output=output):
        found = AcrossEncoders(MODEL, spaces).fit(frame, Y)
        assert stitched_scores(found, frame, Y) == scores
        assert_array_equal(found.predict(frame), predicted)
    assert found.feature_names_in_.tolist() == names
    with pytest.raises(ValueError, match="feature names should match"):
        found.predict(frame[names[1:]])


@pytest.mark.parametrize("rows", [csr_array, csc_array])
def test_sparse_rows(rows):
    """Stay sparse, for estimators that take them."""
    model = make_pipeline(
        RelativeProjector(20, metric="euclidean", random_state=0), RidgeClassifier()
    )
    sparse = np.where(np.abs(X) > 0.1, X, 0)
    found = AcrossEncoders(model, SPACES).fit(rows(sparse), Y)
    expected = AcrossEncoders(model, SPACES).fit(sparse, Y)
    assert isinstance(found.estimators_["old"][0].anchors_, csr_array)
    scores = stitched_scores(found, rows(sparse), Y)
    assert scores == pytest.approx(stitched_scores(expected, sparse, Y))


def test_rows_in_single_precision_stay_so():
    """Nothing is widened on the way."""
    across = AcrossEncoders(MODEL, SPACES).fit(X.astype(np.float32), Y)
    assert across.estimators_["other"][0].anchors_.dtype == np.float32


def test_lists_and_dask_arrays():
    """As arrays."""
    da = pytest.importorskip("dask.array")
    expected = AcrossEncoders(MODEL, SPACES).fit(X, Y)
    for rows in (X.tolist(), da.from_array(X, chunks=50)):
        found = AcrossEncoders(MODEL, SPACES).fit(rows, Y)
        assert stitched_scores(found, rows, Y) == stitched_scores(expected, X, Y)


# --- estimators ---------------------------------------------------------------------


def estimators():
    """Classifiers of every kind that holds anchors, and regressors."""
    few = {"n_anchors": 15, "metrics": ("cosine", "euclidean"), "random_state": 0}
    aggregator = InvariantAggregator(**few)
    yield InvariantVotingClassifier(**few)
    yield InvariantVotingRegressor(Ridge(), **few)
    yield make_pipeline(aggregator, RidgeClassifier())
    yield make_pipeline(aggregator, Ridge())
    yield VotingClassifier(
        [("one", make_pipeline(aggregator, RidgeClassifier()))], voting="hard"
    )
    yield GridSearchCV(
        make_pipeline(aggregator, RidgeClassifier()), {"ridgeclassifier__alpha": [1, 9]}
    )


@pytest.mark.parametrize(
    "estimator", list(estimators()), ids=lambda one: type(one).__name__
)
def test_every_estimator_that_holds_anchors(estimator):
    """It is classifier or regressor, and has the methods, as what is inside."""
    across = AcrossEncoders(estimator, TWO)
    assert is_classifier(across) == is_classifier(estimator)
    assert is_regressor(across) == is_regressor(estimator)
    results = cross_validate(across, X, Y, cv=2, scoring=stitched_scores)
    assert set(results) >= {"test_own", "test_stitched", "test_worst"}
    assert results["test_own"].min() > 0.5
    across.fit(X, Y)
    for name in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        assert hasattr(across, name) == hasattr(across.estimators_["old"], name)
        if hasattr(across, name):
            expected = getattr(across.estimators_["old"], name)(OLD)
            assert_array_equal(getattr(across, name)(X), expected)
    if is_classifier(estimator):
        assert_array_equal(across.classes_, np.unique(Y))


def test_neural_heads():
    """As others."""
    heads = pytest.importorskip("skinvariant.heads")
    head = heads.InvariantClassifier(15, max_epochs=5, random_state=0)
    scores = cross_validate(
        AcrossEncoders(head, TWO, own="old"), X, Y, cv=2, scoring=stitched_scores
    )
    assert scores["test_own"].mean() > 0.8


# --- searches -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "search",
    [
        GridSearchCV(AcrossEncoders(MODEL, TWO), GRID, cv=2),
        RandomizedSearchCV(
            AcrossEncoders(MODEL, TWO), GRID, n_iter=2, cv=2, random_state=0
        ),
        HalvingGridSearchCV(
            AcrossEncoders(MODEL, TWO, aggregate="worst"),
            GRID,
            cv=2,
            min_resources=60,
            random_state=0,
        ),
        GridSearchCV(
            AcrossEncoders(MODEL, TWO),
            GRID,
            cv=2,
            scoring=stitched_scores,
            refit="worst",
        ),
    ],
    ids=lambda search: type(search).__name__,
)
def test_nested_searches(search):
    """Inside a cross-validation, by one score and by all."""
    nested = cross_validate(search, X, Y, cv=2, return_estimator=True)
    for k, (fit, test) in enumerate(StratifiedKFold(2).split(X, Y)):
        inner = nested["estimator"][k]
        best = clone(inner.best_estimator_).fit(X[fit], Y[fit])
        assert nested["test_score"][k] == best.score(X[test], Y[test])
    every = cross_validate(search, X, Y, cv=2, scoring=stitched_scores)
    refit = search.refit if isinstance(search.refit, str) else None
    refit = refit or {"mean": "stitched"}.get(search.estimator.aggregate, "worst")
    assert_array_equal(every[f"test_{refit}"], nested["test_score"])


def test_parameters_are_nested():
    """Those of the estimator, and spaces and own space themselves."""
    across = AcrossEncoders(clone(MODEL), TWO)
    across.set_params(estimator__relativeprojector__metric="euclidean", own="new")
    assert clone(across).get_params()["estimator__relativeprojector__metric"] == (
        "euclidean"
    )
    search = GridSearchCV(across, {"own": ["old", "new", None]}, cv=2).fit(X, Y)
    assert len(set(search.cv_results_["mean_test_score"])) == 3


MICRO = make_scorer(f1_score, average="micro")


def first_row(model, X, y):
    """A scorer of one's own, which returns a value of the rows that it gets."""
    return float(X[0, 0])


@pytest.mark.parametrize(
    ("scoring", "expected"),
    [
        ("f1_macro", get_scorer("f1_macro")),
        ("neg_log_loss", get_scorer("neg_log_loss")),
        (
            make_scorer(f1_score, average="micro"),
            make_scorer(f1_score, average="micro"),
        ),
        (lambda model, X, y: float(len(X)), lambda model, X, y: float(len(X))),
    ],
)
def test_any_metric(scoring, expected):
    """By name, as a scorer or a function, of every score."""
    model = InvariantVotingClassifier(
        n_anchors=15, metrics=("cosine",), absolute=False, random_state=0
    )
    across = AcrossEncoders(model, TWO, own="old", scoring=scoring).fit(X[FIT], Y[FIT])
    scores = stitched_scores(across, X[TEST], Y[TEST])
    own = across.estimators_["old"], OLD[TEST]
    other = across.stitched_["old", "new"], NEW[TEST]
    assert scores["own"] == expected(*own, Y[TEST])
    assert (
        scores["worst"] == across.score(X[TEST], Y[TEST]) == expected(*other, Y[TEST])
    )


# --- weights ------------------------------------------------------------------------

WEIGHTS = np.where(Y == 0, 5.0, 0.2) + np.arange(150) / 150


@pytest.mark.parametrize("scoring", [None, "accuracy"])
def test_weights_without_routing(scoring):
    """In fit they go to the estimator, in score to the metric."""
    model = InvariantVotingClassifier(
        n_anchors=15, metrics=("cosine",), absolute=False, random_state=0
    )
    across = AcrossEncoders(model, TWO, own="old", scoring=scoring)
    across.fit(X[FIT], Y[FIT], sample_weight=WEIGHTS[FIT])
    expected = clone(model).fit(OLD[FIT], Y[FIT], sample_weight=WEIGHTS[FIT])
    assert_array_equal(across.predict_proba(X), expected.predict_proba(OLD))
    plain = AcrossEncoders(model, TWO, own="old").fit(X[FIT], Y[FIT])
    assert (across.predict_proba(X) != plain.predict_proba(X)).any()
    stitched = stitch(expected, select_anchors(expected, NEW[FIT]))
    weighted = stitched.score(NEW[TEST], Y[TEST], sample_weight=WEIGHTS[TEST])
    assert across.score(X[TEST], Y[TEST], sample_weight=WEIGHTS[TEST]) == weighted
    assert across.score(X[TEST], Y[TEST]) != weighted


@pytest.mark.parametrize("scoring", [None, "accuracy"])
def test_weights_by_routing(scoring):
    """Through a search to the head in a pipeline, and to the score."""
    with config_context(enable_metadata_routing=True):
        head = LogisticRegression(C=0.01).set_fit_request(sample_weight=True)
        head.set_score_request(sample_weight=True)  # Pipeline.score asks
        model = make_pipeline(RelativeProjector(15, random_state=0), head)
        across = AcrossEncoders(model, TWO, own="old", scoring=scoring)
        across.set_score_request(sample_weight=True)
        grid = {"estimator__logisticregression__C": [0.01]}
        search = GridSearchCV(across, grid, cv=2).fit(X, Y, sample_weight=WEIGHTS)
        found = search.cv_results_["split0_test_score"][0]
        fit, test = next(StratifiedKFold(2).split(X, Y))
        model.fit(OLD[fit], Y[fit], sample_weight=WEIGHTS[fit])
        stitched = stitch(model, select_anchors(model, NEW[fit]))
        score = stitched.score(NEW[test], Y[test], sample_weight=WEIGHTS[test])
        assert found == score
        assert score != stitched.score(NEW[test], Y[test])
        plain = clone(across).fit(X[fit], Y[fit])
        assert (plain.predict_proba(X[test]) != model.predict_proba(OLD[test])).any()


# --- what is refused ----------------------------------------------------------------


def with_new(columns):
    """Return parameters with other columns for the second space."""
    return {"spaces": {"old": [0], "new": columns}}


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"spaces": [slice(0, 5)]}, TypeError, r"spaces must be a mapping .* got \["),
        ({"spaces": {"old": slice(0, 5)}}, ValueError, r"at least 2; got \['old'\]"),
        ({"spaces": {"old": [0], 1: [1]}}, ValueError, r"must be strings .* got 1"),
        ({"spaces": {"old": [0], "a to b": [1]}}, ValueError, "got 'a to b'"),
        ({"own": "older"}, ValueError, r"own must be one of \['new', .*; got 'older'"),
        ({"own": 0}, TypeError, r"own must be one of .* or None; got 0"),
        ({"aggregate": "max"}, ValueError, r"aggregate must be one .*; got 'max'"),
        ({"scoring": ["accuracy"]}, TypeError, r"scoring must be .*; got \['acc"),
        ({"scoring": "acc"}, ValueError, "acc"),
        (
            with_new(slice(5, 99)),
            ValueError,
            r"'new'\] must be .* slice\(5, 99",
        ),
        (with_new(slice(-15, None)), ValueError, r"has 14; got slice\(-15"),
        (with_new(slice(5, 5)), ValueError, r"'new'\] must be at least one"),
        (with_new([False] * 14), ValueError, r"'new'\] must be at least one"),
        (with_new([14]), ValueError, "all features must be in"),
        (with_new([True] * 9), ValueError, r"a mask of the 14 columns .* 9 values"),
        (with_new(np.ones(20, bool)), ValueError, r"a mask of the 14 .* 20 values"),
        (with_new(["x"]), ValueError, "only supported for dataframes"),
        (
            {"estimator": LogisticRegression()},
            TypeError,
            "or have inside, a Rel",
        ),
        (
            {"estimator": make_pipeline(RelativeProjector(anchors=OLD[:9]), Ridge())},
            TypeError,
            "anchors given as rows",
        ),
        (
            {"estimator": make_pipeline(StandardScaler(), *MODEL)},
            ValueError,
            r"the steps \['standardscaler.*'\] and no encoder",
        ),
    ],
)
def test_parameters_that_are_refused(params, error, message):
    """With what was got."""
    across = AcrossEncoders(MODEL, TWO).set_params(**params)
    with pytest.raises(error, match=message):
        across.fit(X, Y).score(X, Y)


def test_names_that_are_missing():
    """Of columns of a frame."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=[f"x{i}" for i in range(14)])
    with pytest.raises(ValueError, match="not columns of the dataframe"):
        AcrossEncoders(MODEL, {"old": ["x0"], "new": ["y0"]}).fit(frame, Y)


def test_what_cannot_be_scored():
    """Another estimator, and a search over another one."""
    fitted = clone(MODEL).fit(OLD, Y)
    for model in (
        fitted,
        FrozenEstimator(fitted),
        GridSearchCV(MODEL, {"relativeprojector__pre": [None]}).fit(OLD, Y),
    ):
        with pytest.raises(TypeError, match=r"must be AcrossEncoders, or .*; got"):
            stitched_scores(model, X, Y)


def test_it_is_not_itself_stitched():
    """It has anchors of several spaces: its fitted models are."""
    across = AcrossEncoders(MODEL, TWO).fit(X, Y)
    with pytest.raises(TypeError, match="nothing in the model can be rebased"):
        stitch(across, OLD[:20])
    own = across.estimators_["old"]
    predicted = stitch(own, select_anchors(own, NEW)).predict(NEW)
    assert_array_equal(predicted, across.stitched_["old", "new"].predict(NEW))
