"""The walk through fitted models: what it finds, and what it puts in its place."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    BaggingClassifier,
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import SelectFromModel
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, RANSACRegressor
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier

from skinvariant import (
    InvariantAggregator,
    InvariantVotingClassifier,
    RelativeProjector,
    select_anchors,
    stitch,
)
from skinvariant._models import path_to_step, projecting_steps, replace_step
from skinvariant.persistence import fingerprint
from skinvariant.pooling import PooledClassifier, PooledRegressor

rng = np.random.default_rng(0)
X = rng.standard_normal((80, 6))
y = (X[:, 0] + X[:, 1] > 0).astype(int)
# cosine is the same to the last bit on all rows four times as long
LONG = 4 * X
# and to rounding in a space that is turned, of another width
WIDE = X @ np.linalg.qr(rng.standard_normal((9, 9)))[0][:6]
RAW = np.arange(80)[:, None]


def encoder(space):
    """Return a fitted encoder of row numbers."""
    return FunctionTransformer(lambda rows: space[np.ravel(rows).astype(int)])


def votes(model):
    """Return a vote of two, and one that was dropped."""
    voters = [("one", model), ("out", "drop"), ("two", clone(model))]
    return VotingClassifier(voters, voting="soft", weights=[1, 9, 2])


# each of them is stitched; what the warning says is tested once
pytestmark = pytest.mark.filterwarnings("ignore:a decision threshold must suit")


def pool(kind):
    """Return what makes a pool of two fitted models."""

    def make(model):
        members = [("one", model.fit(X, y)), ("two", clone(model).fit(X, y))]
        return kind(members)

    return make


WRAPPERS = {
    "alone": lambda model: model,
    "nested": lambda model: make_pipeline(model[:-1], model[-1]),
    "frozen": lambda model: FrozenEstimator(model.fit(X, y)),
    "search": lambda model: GridSearchCV(model, {"logisticregression__C": [1, 2]}),
    "fixed threshold": lambda model: FixedThresholdClassifier(model, threshold=0.3),
    "tuned threshold": TunedThresholdClassifierCV,
    "self-training": lambda model: SelfTrainingClassifier(model, threshold=0.9),
    "calibrated": lambda model: CalibratedClassifierCV(model, ensemble=False, cv=3),
    "calibrated frozen": lambda model: CalibratedClassifierCV(
        FrozenEstimator(model.fit(X, y))
    ),
    "calibrated frozen folds": lambda model: CalibratedClassifierCV(
        FrozenEstimator(model.fit(X, y)), ensemble=True, cv=3
    ),
    "vote": votes,
    "pool": pool(PooledClassifier),
    "several": lambda model: FixedThresholdClassifier(
        CalibratedClassifierCV(FrozenEstimator(votes(model).fit(X, y)))
    ),
}
FITTED_BEFORE = (
    "frozen",
    "calibrated frozen",
    "calibrated frozen folds",
    "pool",
    "several",
)
LABELLED = np.arange(80) % 8 > 0  # of self-training


def fitted(name, *steps, rows=X):
    """Return a fitted model in a wrapper."""
    step = RelativeProjector(20, random_state=0)
    model = WRAPPERS[name](make_pipeline(*steps, step, LogisticRegression()))
    labels = np.where(LABELLED, y, -1) if name == "self-training" else y
    return model.fit(rows, labels)


def anchors_in(model, space):
    """Return the anchors of a model in a corresponding space."""
    step = projecting_steps(model)[0]
    if isinstance(model, SelfTrainingClassifier):  # not fitted on all rows
        space = space[model.transduction_ != -1]
    return space[step.anchor_indices_]


@pytest.mark.parametrize("name", WRAPPERS)
def test_select_anchors_reaches_the_step(name):
    """The rows that it holds; none where it was fitted on some of the rows."""
    model = fitted(name)
    if name == "self-training":
        with pytest.raises(ValueError, match=r"X must have the 7\d samples"):
            select_anchors(model, X)
        return
    assert_array_equal(select_anchors(model, X), path_to_step(model)[-1].anchors_)
    assert fingerprint(model)[:5] == "20x6-"


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapped_model_is_stitched_to_the_last_bit(name):
    """A model of the same class and shape; the one given is as it was."""
    model = fitted(name)
    expected = model.predict_proba(X)
    step = projecting_steps(model)[0]
    stitched = stitch(model, 4 * step.anchors_)
    assert type(stitched) is type(model)
    assert_array_equal(stitched.predict_proba(LONG), expected)
    assert_array_equal(stitched.predict(LONG), model.predict(X))
    assert all(
        type(one) is type(other)
        for one, other in zip(path_to_step(model), path_to_step(stitched), strict=True)
    )
    assert len(projecting_steps(model)) == len(projecting_steps(stitched))
    for new in projecting_steps(stitched):
        assert_array_equal(new.anchors_, 4 * step.anchors_)
    assert projecting_steps(model)[0] is step
    assert_array_equal(model.predict_proba(X), expected)


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_new_space_may_have_another_width(name):
    """What wrappers keep of the old one is brought up to date."""
    model = fitted(name)
    stitched = stitch(model, anchors_in(model, WIDE))
    assert_array_equal(stitched.predict(WIDE), model.predict(X))
    assert getattr(stitched, "n_features_in_", 9) == 9
    assert getattr(model, "n_features_in_", 6) == 6


@pytest.mark.parametrize("name", [x for x in WRAPPERS if x not in FITTED_BEFORE])
def test_names_of_columns_follow(name):
    """A frame in the old space, an array in the new one, and the other way round."""
    pandas = pytest.importorskip("pandas")
    named = fitted(name, rows=pandas.DataFrame(X, columns=list("abcdef")))
    anchors = anchors_in(named, WIDE)
    unnamed = stitch(named, anchors)
    assert not hasattr(unnamed, "feature_names_in_")
    assert_array_equal(unnamed.predict(WIDE), fitted(name).predict(X))
    if name == "self-training":
        return  # what is inside never gets frames
    names = list("ABCDEFGHI")
    again = stitch(unnamed, pandas.DataFrame(anchors, columns=names))
    wide = pandas.DataFrame(WIDE, columns=names)
    assert_array_equal(again.predict(wide), unnamed.predict(WIDE))
    with pytest.raises(ValueError, match="feature names should match"):
        again.predict(wide.rename(columns={"A": "a"}))


@pytest.mark.parametrize("name", [x for x in WRAPPERS if x not in FITTED_BEFORE])
def test_encoders_inside(name):
    """The new one takes the old one's place, time after time, and the check holds."""
    model = fitted(name, encoder(X), StandardScaler(with_mean=False), rows=RAW)
    anchors = anchors_in(model, RAW)
    with pytest.raises(ValueError, match=r"steps .*functiontrans.*standardsc"):
        stitch(model, anchors)
    wide, same = encoder(WIDE), make_pipeline(*steps_before(model))
    first = stitch(model, anchors, encoder=wide)
    assert type(first) is (Pipeline if name == "vote" else type(model))
    second = stitch(first, anchors, encoder=same)
    assert type(second) is type(first)
    assert_array_equal(second.predict_proba(RAW), model.predict_proba(RAW))
    third = stitch(second, anchors, encoder=wide)
    assert_array_equal(third.predict_proba(RAW), first.predict_proba(RAW))
    for stitched in (model, first, second):
        with pytest.raises(ValueError, match=r"in rows 0, 1, 2.*\(20 of 20\)"):
            stitch(stitched, anchors[::-1], encoder=wide)
    assert steps_before(third) == [wide]


def steps_before(model):
    """Return the first chain of steps that a stitch would leave out."""
    return [step for _, step in replace_step(model, lambda step: step)[1][0]]


@pytest.mark.parametrize(
    "make",
    [
        lambda model: TransformedTargetRegressor(
            model, func=np.negative, inverse_func=np.negative
        ),
        lambda model: RANSACRegressor(model, min_samples=60, random_state=0),
        lambda model: VotingRegressor([("one", model), ("two", clone(model))]),
        pool(PooledRegressor),
    ],
)
def test_wrapped_regressors(make):
    """As classifiers."""
    step = InvariantAggregator(20, metrics=("cosine",), random_state=0)
    model = make(make_pipeline(step, LinearRegression()))
    model.fit(X, X[:, 0])
    anchors = projecting_steps(model)[0].anchors_
    stitched = stitch(model, 4 * anchors)
    assert type(stitched) is type(model)
    assert_array_equal(stitched.predict(LONG), model.predict(X))
    wide = stitch(model, anchors @ np.linalg.lstsq(X, WIDE)[0])
    assert np.isfinite(wide.predict(WIDE)).all()


# --- votes ----------------------------------------------------------------------------


def test_a_vote_keeps_its_heads_and_names():
    """The members' heads are the same objects."""
    model = fitted("vote")
    stitched = stitch(model, WIDE[projecting_steps(model)[0].anchor_indices_])
    assert list(stitched.named_estimators_) == ["one", "out", "two"]
    for new, old in zip(stitched.estimators_, model.estimators_, strict=True):
        assert new[-1] is old[-1]
    assert stitched.named_estimators_["two"] is stitched.estimators_[1]
    assert stitched.named_estimators_["out"] == "drop"


def test_members_must_share_their_anchors():
    """By their values; in a vote, whose members get the same rows, by their indices."""
    same, other = (RelativeProjector(20, random_state=seed) for seed in (0, 1))
    head, few = LogisticRegression(), RelativeProjector(10, random_state=0)
    for differing in (other, few):
        voters = [
            ("a", make_pipeline(same, head)),
            ("b", make_pipeline(differing, head)),
        ]
        model = VotingClassifier(voters).fit(X, y)
        for call in (lambda m: stitch(m, X[:20]), lambda m: select_anchors(m, X)):
            with pytest.raises(
                ValueError, match=r"Voting.* must have the same anchors"
            ):
                call(model)
    plain = make_pipeline(same, head)
    scaled = make_pipeline(StandardScaler(), clone(same), head)
    model = VotingClassifier([("a", plain), ("b", scaled)]).fit(X, y)
    indices = model.estimators_[0][0].anchor_indices_
    assert_array_equal(select_anchors(model, RAW), RAW[indices])
    with pytest.raises(ValueError, match=r"got the steps \['b__standardscaler'\]"):
        stitch(model, X[indices])
    pooled = PooledClassifier([("a", plain.fit(X, y)), ("b", scaled.fit(X, y))])
    fewer = make_pipeline(few, clone(head)).fit(X, y)
    unequal = PooledClassifier([("a", plain), ("b", fewer)])
    for model in (pooled, unequal):
        with pytest.raises(
            ValueError, match="PooledClassifier must have the same anch"
        ):
            stitch(model.fit(X, y), X[indices])


@pytest.mark.parametrize("container", [np.asarray, csr_array])
def test_calibrated_folds_with_anchors_of_their_own(container):
    """The error says how to fit instead; equal anchors are no obstacle."""
    rows = container(X)
    model = make_pipeline(RelativeProjector(20, random_state=0), LogisticRegression())
    folds = CalibratedClassifierCV(model, cv=3).fit(rows, y)
    for call in (lambda m: stitch(m, rows[:20]), lambda m: select_anchors(m, rows)):
        with pytest.raises(ValueError, match=r"the 3 folds .* ensemble=False, or aro"):
            call(folds)
    frozen = FrozenEstimator(model.fit(rows, y))
    folds = CalibratedClassifierCV(frozen, cv=3, ensemble=True).fit(rows, y)
    assert len(projecting_steps(folds)) == 3
    stitched = stitch(folds, 4 * select_anchors(folds, rows))
    assert_array_equal(stitched.predict_proba(4 * rows), folds.predict_proba(rows))


def test_members_without_anchors():
    """They would stay in the old space."""
    step = RelativeProjector(20, random_state=0)
    voters = [
        ("relative", make_pipeline(step, LogisticRegression())),
        ("absolute", LogisticRegression(max_iter=1000)),
    ]
    model = VotingClassifier(voters).fit(X, y)
    deep = VotingClassifier([("votes", VotingClassifier(voters))]).fit(X, y)
    for uneven in (model, deep):
        with pytest.raises(TypeError, match=r"absolute=True.*; got 'absolute' without"):
            stitch(uneven, X[:20])
        assert select_anchors(uneven, X).shape == (20, 6)
        assert fingerprint(uneven) == fingerprint(model.estimators_[0])
    dropped = VotingClassifier(voters).set_params(absolute="drop").fit(X, y)
    assert len(stitch(dropped, select_anchors(dropped, X)).estimators_) == 1


@pytest.mark.parametrize(
    "make",
    [
        OneVsRestClassifier,
        lambda model: BaggingClassifier(model, 3),
        lambda model: StackingClassifier([("one", model)]),
        lambda model: MultiOutputClassifier(model),
        lambda model: make_pipeline(
            SelectFromModel(model, importance_getter=lambda _: X[0]),
            LogisticRegression(),
        ),
    ],
)
def test_where_the_walk_stops(make):
    """Members on other rows or columns, and selectors."""
    model = make_pipeline(RelativeProjector(20, random_state=0), LogisticRegression())
    model = make(model)
    model.fit(X, y[:, None] if isinstance(model, MultiOutputClassifier) else y)
    assert path_to_step(model) == projecting_steps(model) == []
    assert replace_step(model, lambda step: step) == (None, [])
    with pytest.raises(TypeError, match="nothing in the model can be rebased"):
        stitch(model, X[:20])


# --- labels of the anchors ------------------------------------------------------------


class Head(ClassifierMixin, BaseEstimator):
    """A head that projects itself and takes labels of the anchors."""

    def fit(self, X, y):
        """Keep ten anchors."""
        self.anchors_, self.anchor_indices_ = X[:10], np.arange(10)
        self.classes_, self.n_samples_fit_ = np.unique(y), len(X)
        self.n_features_in_ = X.shape[1]
        return self

    def rebase(self, anchors, y=None):
        """Keep the labels, too."""
        new = clone(self).fit(anchors, self.classes_)
        new.y_ = y
        return new

    def predict_proba(self, X):
        """Give any probabilities."""
        return np.tile([0.25, 0.75], (len(X), 1))

    def predict(self, X):
        """Give the second class."""
        return np.full(len(X), self.classes_[1])


LABELS = np.array(["no", "yes"])[y]


@pytest.mark.parametrize(
    "make",
    [
        lambda head: head,
        lambda head: make_pipeline(FunctionTransformer(), head),
        lambda head: FrozenEstimator(head.fit(X, LABELS)),
        lambda head: CalibratedClassifierCV(FrozenEstimator(head.fit(X, LABELS))),
        lambda head: FixedThresholdClassifier(head, threshold=0.3, pos_label="yes"),
        lambda head: GridSearchCV(head, {}),
    ],
)
def test_labels_arrive(make):
    """As they were given, wherever the head is."""
    model = make(Head()).fit(X, LABELS)
    encoder = FunctionTransformer() if isinstance(model, Pipeline) else None
    stitched = stitch(model, X[:10], encoder=encoder, y=LABELS[:10])
    assert_array_equal(projecting_steps(stitched)[0].y_, LABELS[:10])
    assert projecting_steps(stitch(model, X[:10], encoder=encoder))[0].y_ is None


@pytest.mark.parametrize(
    ("wrap", "kept"),
    [
        (lambda head: FixedThresholdClassifier(head, threshold=0.3), "0.3"),
        (lambda head: TunedThresholdClassifierCV(head, cv=3), None),
        (
            lambda head: make_pipeline(
                FunctionTransformer(), FixedThresholdClassifier(head, threshold=0.25)
            ),
            "0.25",
        ),
    ],
)
def test_a_threshold_that_stays_is_named(wrap, kept):
    """It suits the old probabilities; one that nobody chose needs no warning."""
    vote = InvariantVotingClassifier(n_anchors=10, random_state=0)
    model = wrap(vote).fit(X, y)
    encoder = FunctionTransformer() if isinstance(model, Pipeline) else None
    kept = f"{model.best_threshold_:.3g}" if kept is None else kept
    message = rf"threshold\(\.\.\.\) gives the new one.* got a model that keeps {kept}$"
    with pytest.warns(UserWarning, match=message):
        stitch(model, select_anchors(model, X), encoder=encoder)
    automatic = FixedThresholdClassifier(vote).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stitch(automatic, select_anchors(automatic, X))


def test_steps_of_ones_own_need_not_store_anchors():
    """Members are then taken to share them, and nothing can be selected."""
    pair = [Head().fit(X, y), Head().fit(X, y)]
    for head in pair:
        del head.anchors_, head.anchor_indices_
    model = PooledClassifier(list(zip("ab", pair, strict=True))).fit(X, y)
    assert projecting_steps(stitch(model, WIDE[:10]))[1].anchors_.shape == (10, 9)
    with pytest.raises(TypeError, match="other estimator that has chosen its anchors"):
        select_anchors(model, X)


def test_labels_that_would_not_arrive():
    """Encoded ones are not those of the model, nor are transformed targets."""
    vote = VotingClassifier([("head", Head())])
    with pytest.raises(TypeError, match=r"encoded labels .* got a VotingClassifier"):
        stitch(vote.fit(X, LABELS), X[:10], y=LABELS[:10])
    stitched = stitch(vote.fit(X, y), X[:10], y=y[:10])  # codes and labels are one
    assert_array_equal(stitched.estimators_[0].y_, y[:10])
    logs = TransformedTargetRegressor(
        Head(), func=np.negative, inverse_func=np.negative
    )
    with pytest.raises(TypeError, match="transformed targets; got a TransformedTarget"):
        stitch(logs.fit(X, y), X[:10], y=y[:10])
