"""stitch: swap the encoder, keep the head, at any depth of a pipeline."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest, pearsonr
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics import r2_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import Bunch
from threadpoolctl import threadpool_limits

from skinvariant import InvariantAggregator, RelativeProjector, stitch
from skinvariant.comparison import space_agreement
from skinvariant.datasets import make_related_spaces
from skinvariant.metrics import METRICS, euclidean
from skinvariant.pooling import PooledClassifier, PooledRegressor
from skinvariant.stitching import mantel_test
from skinvariant.translation import SpaceTranslator

DATA = os.environ.get("SKINVARIANT_DATA")
real_data = pytest.mark.skipif(
    not DATA, reason="SKINVARIANT_DATA does not name a folder of real embeddings"
)


@pytest.fixture
def spaces():
    """Two corresponding spaces that differ by a rotation."""
    return make_related_spaces(120, 6, transformation="orthogonal", random_state=0)


@pytest.fixture
def model(spaces):
    """A head on the first space; cosine does not see the rotation."""
    projector = RelativeProjector(20, random_state=0)
    return make_pipeline(projector, LogisticRegression()).fit(spaces.X_a, spaces.y)


def anchors_of(spaces, projector):
    """The anchors as the second encoder sees them."""
    return spaces.X_b[projector.anchor_indices_]


def test_a_bare_estimator_is_rebased(spaces):
    """Stitching a projector is rebasing it."""
    projector = RelativeProjector(20, random_state=0).fit(spaces.X_a)
    stitched = stitch(projector, anchors_of(spaces, projector))
    np.testing.assert_allclose(
        stitched.transform(spaces.X_b), projector.transform(spaces.X_a), atol=1e-12
    )


def test_the_head_is_the_same_object_and_the_model_is_untouched(spaces, model):
    """Only the projecting step is new."""
    before = model.predict_proba(spaces.X_a)
    stitched = stitch(model, anchors_of(spaces, model[0]))
    assert stitched is not model
    assert stitched[-1] is model[-1]
    assert stitched[0] is not model[0]
    np.testing.assert_allclose(stitched.predict_proba(spaces.X_b), before, atol=1e-10)
    np.testing.assert_array_equal(model.predict_proba(spaces.X_a), before)
    assert [name for name, _ in stitched.steps] == [name for name, _ in model.steps]


def test_the_encoder_takes_the_place_of_every_step_before(spaces, model):
    """From raw inputs to predictions, with another encoder and the same head."""
    raw = np.arange(120.0)[:, None]
    encode_a, encode_b = (
        FunctionTransformer(lambda rows, X=X: X[rows[:, 0].astype(int)])
        for X in (spaces.X_a, spaces.X_b)
    )
    scaler = StandardScaler(with_mean=False, with_std=False)
    head = LogisticRegression()
    whole = make_pipeline(encode_a, scaler, RelativeProjector(20, random_state=0), head)
    whole.fit(raw, spaces.y)
    stitched = stitch(whole, raw[whole[2].anchor_indices_], encoder=encode_b)
    assert [name for name, _ in stitched.steps] == [
        "encoder",
        "relativeprojector",
        "logisticregression",
    ]
    assert stitched[0] is encode_b
    assert stitched[-1] is whole[-1]
    np.testing.assert_allclose(
        stitched.predict_proba(raw), whole.predict_proba(raw), atol=1e-10
    )


def test_an_encoder_before_a_bare_estimator_makes_a_pipeline(spaces):
    """The result starts from raw inputs."""
    projector = RelativeProjector(20, random_state=0).fit(spaces.X_a)
    encoder = PCA(4).fit(spaces.X_b)
    stitched = stitch(projector, anchors_of(spaces, projector), encoder=encoder)
    assert isinstance(stitched, Pipeline)
    assert stitched[0] is encoder
    assert stitched.transform(spaces.X_b).shape == (120, 20)


def test_the_name_of_the_encoder_is_free(spaces):
    """A later step called encoder is not shadowed."""
    steps = [
        ("relative", RelativeProjector(20, random_state=0)),
        ("encoder", StandardScaler()),
        ("head", LogisticRegression()),
    ]
    model = Pipeline(steps).fit(spaces.X_a, spaces.y)
    encoder = FunctionTransformer()
    stitched = stitch(model, anchors_of(spaces, model[0]), encoder=encoder)
    names = [name for name, _ in stitched.steps]
    assert names == ["new_encoder", "relative", "encoder", "head"]
    assert stitched.score(spaces.X_b, spaces.y) == model.score(spaces.X_a, spaces.y)


def test_nested_pipelines(spaces):
    """The projecting step may sit deeper, with steps before it at every level."""
    inner = make_pipeline(
        StandardScaler(with_mean=False, with_std=False),
        InvariantAggregator(20, metrics=("cosine", "euclidean"), random_state=0),
        StandardScaler(),
    )
    model = make_pipeline(FunctionTransformer(), inner, LogisticRegression())
    model.fit(spaces.X_a, spaces.y)
    anchors = anchors_of(spaces, model[1][1])
    with pytest.raises(ValueError, match=r"functiontransformer.*pipeline__standardsc"):
        stitch(model, anchors)
    stitched = stitch(model, anchors, encoder=FunctionTransformer())
    assert len(stitched[1]) == 2
    assert stitched[1][-1] is model[1][-1]
    np.testing.assert_allclose(
        stitched.predict_proba(spaces.X_b), model.predict_proba(spaces.X_a), atol=1e-8
    )
    assert len(model[1]) == 3


def test_passthrough_steps_are_no_encoder(spaces):
    """Nothing is left behind where nothing was done."""
    model = Pipeline(
        [
            ("nothing", "passthrough"),
            ("relative", RelativeProjector(20, random_state=0)),
            ("head", LogisticRegression()),
        ]
    ).fit(spaces.X_a, spaces.y)
    stitched = stitch(model, anchors_of(spaces, model[1]))
    assert stitched.score(spaces.X_b, spaces.y) == model.score(spaces.X_a, spaces.y)


def test_frozen_estimators_stay_frozen(spaces, model):
    """Around the head, the projector or the whole model."""
    frozen_head = make_pipeline(model[0], FrozenEstimator(model[1]))
    frozen_step = make_pipeline(FrozenEstimator(model[0]), model[1])
    whole = FrozenEstimator(model)
    anchors = anchors_of(spaces, model[0])
    expected = model.predict_proba(spaces.X_a)
    for candidate in (frozen_head, frozen_step, whole):
        stitched = stitch(candidate, anchors)
        np.testing.assert_allclose(
            stitched.predict_proba(spaces.X_b), expected, atol=1e-10
        )
    assert isinstance(stitch(whole, anchors), FrozenEstimator)
    assert isinstance(stitch(frozen_step, anchors)[0], FrozenEstimator)
    assert stitch(frozen_head, anchors)[-1] is frozen_head[-1]


def test_a_fitted_search_gives_its_best_estimator(spaces, model):
    """The search itself or its best_estimator_, with the same result."""
    grid = {"relativeprojector__metric": ["cosine", "euclidean"]}
    candidate = clone(model).set_params(logisticregression__max_iter=1000)
    search = GridSearchCV(candidate, grid, cv=3).fit(spaces.X_a, spaces.y)
    best = search.best_estimator_
    anchors = anchors_of(spaces, best[0])
    one, other = stitch(search, anchors), stitch(best, anchors)
    assert one[-1] is best[-1]
    np.testing.assert_array_equal(one.predict(spaces.X_b), other.predict(spaces.X_b))
    np.testing.assert_array_equal(one.predict(spaces.X_b), search.predict(spaces.X_a))


def test_a_later_projecting_step_belongs_to_the_head(spaces):
    """Only the first is rebased: a second one lives in the first one's output."""
    model = make_pipeline(
        RelativeProjector(20, random_state=0),
        RelativeProjector(10, metric="euclidean", random_state=0),
        LogisticRegression(),
    ).fit(spaces.X_a, spaces.y)
    stitched = stitch(model, anchors_of(spaces, model[0]))
    assert stitched[1] is model[1]
    assert stitched.score(spaces.X_b, spaces.y) == model.score(spaces.X_a, spaces.y)


def test_set_output_survives(spaces, model):
    """A model that returns frames returns frames after the swap."""
    pandas = pytest.importorskip("pandas")
    model.set_output(transform="pandas")
    stitched = stitch(model, anchors_of(spaces, model[0]))
    assert isinstance(stitched[0].transform(spaces.X_b), pandas.DataFrame)


def test_what_cannot_be_stitched_is_said(spaces, model):
    """Nothing to rebase, steps left behind, a wrong number, no encoder, not fitted."""
    head = LogisticRegression(max_iter=1000).fit(spaces.X_a, spaces.y)
    for hopeless in (
        head,
        make_pipeline(StandardScaler(), head).fit(spaces.X_a, spaces.y),
        FrozenEstimator(head),
        CalibratedClassifierCV(model, cv=3).fit(spaces.X_a, spaces.y),
    ):
        with pytest.raises(TypeError, match="nothing in the model can be rebased"):
            stitch(hopeless, spaces.X_b[:20])
    behind = make_pipeline(PCA(4), clone(model)).fit(spaces.X_a, spaces.y)
    with pytest.raises(ValueError, match=r"steps \['pca'\] before.*encoder="):
        stitch(behind, spaces.X_b[:20])
    with pytest.raises(ValueError, match=r"20 rows.*got 19 rows"):
        stitch(model, spaces.X_b[:19])
    with pytest.raises(
        TypeError, match=r"encoder must be a fitted transformer.*got fun"
    ):
        stitch(model, spaces.X_b[:20], encoder=lambda X: X)
    with pytest.raises(NotFittedError):
        stitch(clone(model), spaces.X_b[:20])
    with pytest.raises(NotFittedError):
        stitch(model, spaces.X_b[:20], encoder=StandardScaler())


# --- real encoders -------------------------------------------------------------------

# accuracies of plain cosine over 300 anchors, mean of the seeds 0, 1, 2, as the README
# of the data gives them: rows are the encoder that the head was trained on
PLAIN_COSINE = {
    "cifar10_lossless_embeddings.npz": [
        [0.916, 0.929, 0.931, 0.925, 0.500],
        [0.914, 0.930, 0.929, 0.925, 0.595],
        [0.916, 0.926, 0.932, 0.922, 0.683],
        [0.908, 0.929, 0.932, 0.926, 0.631],
        [0.871, 0.901, 0.902, 0.910, 0.816],
    ],
    "trec_text_embeddings.npz": [
        [0.872, 0.553, 0.673, 0.245],
        [0.527, 0.904, 0.586, 0.237],
        [0.538, 0.531, 0.925, 0.211],
        [0.567, 0.695, 0.583, 0.683],
    ],
}
# as that README says: how far another solver or BLAS moves a cell
CELL = 0.02


def read(archive):
    """Read the training and test spaces of every encoder, and the labels."""
    arrays = np.load(Path(DATA) / archive)
    names = [key[2:-6] for key in arrays if key[0] == "X" and key.endswith("_train")]
    spaces = [
        [arrays[f"X_{name}_{part}"].astype(np.float64) for part in ("train", "test")]
        for name in names
    ]
    return spaces, arrays["y_train"], arrays["y_test"]


def stitch_all(archive, make_step, C, seeds):
    """Accuracy of a head on each space, stitched to every space; the mean of seeds."""
    spaces, y_train, y_test = read(archive)
    accuracies = []
    for seed in seeds:
        indices = np.random.default_rng(seed).permutation(len(y_train))[:300]
        for X_train, _ in spaces:
            head = LogisticRegression(C=C, max_iter=2000)
            model = make_pipeline(make_step(indices), StandardScaler(), head)
            model.fit(X_train, y_train)
            for X_other, X_test in spaces:
                stitched = stitch(model, X_other[indices])
                accuracies.append(stitched.score(X_test, y_test))
    n_spaces = len(spaces)
    return np.reshape(accuracies, (-1, n_spaces, n_spaces)).mean(axis=0)


@pytest.fixture
def one_thread():
    """Small solves wait for each other in more."""
    with threadpool_limits(1):
        yield


@real_data
@pytest.mark.parametrize("archive", PLAIN_COSINE)
def test_plain_cosine_has_the_known_accuracies(archive, one_thread):
    """Every cell of the published tables, to two points; their means, to one."""
    expected = np.array(PLAIN_COSINE[archive])
    got = stitch_all(
        archive, lambda rows: RelativeProjector(anchors=rows), 1.0, (0, 1, 2)
    )
    np.testing.assert_allclose(got, expected, atol=CELL)
    assert abs(got.mean() - expected.mean()) < CELL / 2


@real_data
@pytest.mark.parametrize("archive", PLAIN_COSINE)
def test_the_product_carries_heads_between_real_encoders(archive, one_thread):
    """Better than plain cosine on average and at worst, and far above a guess."""
    got = stitch_all(
        archive, lambda rows: InvariantAggregator(anchors=rows), 0.01, (0,)
    )
    other = ~np.eye(len(got), dtype=bool)
    plain = np.array(PLAIN_COSINE[archive])
    assert got[other].mean() > plain[other].mean()
    assert got[other].min() > plain[other].min() + 0.05
    y_test = read(archive)[2]
    commonest = np.bincount(y_test).max() / len(y_test)
    assert got[other].min() > commonest + 0.1
    assert np.diag(got).mean() > np.diag(plain).mean() - 0.01


@real_data
def test_absolute_spaces_of_real_encoders_cannot_be_swapped(one_thread):
    """Between ResNets of equal width a head guesses; stitched, it keeps its score."""
    archive = "cifar10_lossless_embeddings.npz"
    spaces, y_train, y_test = read(archive)
    resnets = spaces[:4]
    absolute = []
    for X_train, _ in resnets:
        head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        head.fit(X_train, y_train)
        absolute += [
            head.score(X_test, y_test)
            for X_other, X_test in resnets
            if X_other is not X_train
        ]
    assert len(absolute) == 12
    got = stitch_all(
        archive, lambda rows: InvariantAggregator(anchors=rows), 0.01, (0,)
    )
    stitched = got[:4, :4][~np.eye(4, dtype=bool)]
    assert np.mean(absolute) < 0.15
    assert stitched.min() > max(absolute) + 0.6


# --- do the anchors match? ----------------------------------------------------------


def test_the_mantel_statistic_is_the_correlation_of_cosines(spaces):
    """Against scipy's, over the pairs; and the p-value counts by hand."""
    X_a, X_b = spaces.X_a[:15], spaces.X_b[:15, ::2]
    correlation, p_value = mantel_test(X_a, X_b, n_permutations=50, random_state=3)
    above = np.triu_indices(15, 1)
    cosines = [cosine_similarity(X - X.mean(axis=0)) for X in (X_a, X_b)]
    expected = pearsonr(*(values[above] for values in cosines)).statistic
    assert correlation == pytest.approx(expected)
    random_state = np.random.RandomState(3)
    orders = [random_state.permutation(15) for _ in range(50)]
    by_chance = [mantel_test(X_a, X_b[order], n_permutations=1)[0] for order in orders]
    assert p_value == (1 + np.sum(np.array(by_chance) >= correlation)) / 51


def test_the_p_values_of_wrong_orders_are_uniform():
    """So that a threshold of 0.01 lets 1 of 100 wrong orders pass."""
    spaces = make_related_spaces(30, random_state=0)
    rng = np.random.default_rng(0)
    p_values = [
        mantel_test(spaces.X_a, spaces.X_b[rng.permutation(30)])[1] for _ in range(200)
    ]
    assert kstest(p_values, "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    ("rows_a", "rows_b", "message"),
    [(5, 4, "same rows; got 5 and 4"), (2, 2, "minimum of 3 is required")],
)
def test_what_the_mantel_test_refuses(rows_a, rows_b, message):
    """Other rows, and too few."""
    with pytest.raises(ValueError, match=message):
        mantel_test(np.eye(6)[:rows_a], np.eye(6)[:rows_b])


@pytest.mark.parametrize("wrong", ["shuffled", "shifted", "others"])
def test_anchors_that_do_not_match_are_doubted(spaces, model, wrong):
    """Shuffled, shifted by one, or of other samples; the model is made all the same."""
    anchors = anchors_of(spaces, model[0])
    doubtful = {
        "shuffled": np.random.default_rng(0).permutation(anchors),
        "shifted": np.roll(anchors, 1, axis=0),
        "others": spaces.X_b[np.setdiff1d(np.arange(120), model[0].anchor_indices_)],
    }[wrong][:20]
    with pytest.warns(UserWarning, match="do not look like the old ones") as caught:
        stitched = stitch(model, doubtful)
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(stitched[0].anchors_, doubtful)


def test_few_anchors_are_not_doubted(spaces):
    """Nineteen tell too little."""
    projector = RelativeProjector(19, random_state=0).fit(spaces.X_a)
    stitch(projector, anchors_of(spaces, projector)[::-1])


# --- reweight -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def bent():
    """Digits in pixels, and an encoder that lost half of them and bends the others."""
    X, y = load_digits(return_X_y=True)
    return Bunch(X_a=X, X_b=X[:, ::2] ** 0.5, y=y)


def product_model(spaces, y=None, head=None, **params):
    """A head on the product of four metrics, fitted on the first 200 rows."""
    product = InvariantAggregator(100, post="standardize", random_state=0, **params)
    model = make_pipeline(product, head or LogisticRegression(C=0.1))
    return model.fit(spaces.X_a[:900], (spaces.y if y is None else y)[:900])


def vote(spaces, labels=None, **params):
    """One head per metric, all with the same anchors."""
    same = {"n_anchors": 100, "post": "standardize", "random_state": 0}
    heads = {
        metric: make_pipeline(
            RelativeProjector(metric=metric, **same), LogisticRegression(C=0.1)
        )
        for metric in ("cosine", "euclidean", "chebyshev")
    }
    voters = list(heads.items())
    y = spaces.y if labels is None else labels
    return VotingClassifier(voters, **params).fit(spaces.X_a[:900], y[:900])


def test_a_vote_is_stitched_voter_by_voter(spaces):
    """With the same heads, classes and weights."""
    names = np.array(["a", "b", "c"])[spaces.y]
    model = vote(spaces, names, voting="soft", weights=[1, 2, 3])
    anchors = spaces.X_b[model.estimators_[0][0].anchor_indices_]
    stitched = stitch(model, anchors)
    single = [stitch(voter, anchors) for voter in model.estimators_]
    expected = np.average(
        [voter.predict_proba(spaces.X_b) for voter in single], axis=0, weights=[1, 2, 3]
    )
    np.testing.assert_allclose(stitched.predict_proba(spaces.X_b), expected)
    assert set(stitched.predict(spaces.X_b)) <= {"a", "b", "c"}
    assert stitched.named_estimators_["cosine"][-1] is model.estimators_[0][-1]
    assert model.estimators_[0][0].anchors_.shape[1] == 6


def test_a_voter_that_cannot_be_rebased_is_refused(spaces):
    """It would stay in the old space."""
    step = RelativeProjector(20, random_state=0)
    voters = [
        ("relative", make_pipeline(step, LogisticRegression())),
        ("absolute", LogisticRegression(max_iter=1000)),
    ]
    model = VotingClassifier(voters).fit(spaces.X_a, spaces.y)
    with pytest.raises(TypeError, match="'absolute' has not"):
        stitch(model, spaces.X_b[:20])
    inside = make_pipeline(PCA(4), step, LogisticRegression())
    model = VotingClassifier([("inside", inside), voters[1]]).fit(spaces.X_a, spaces.y)
    with pytest.raises(TypeError, match=r"'absolute' has not.*got \['inside__pca'\]"):
        stitch(model, spaces.X_b[:20], encoder=PCA(4).fit(spaces.X_b), reweight=True)
    deep = VotingClassifier([("votes", VotingClassifier(voters))])
    with pytest.raises(TypeError, match="'absolute' has not"):
        stitch(deep.fit(spaces.X_a, spaces.y), spaces.X_b[:20], reweight=True)
    dropped = VotingClassifier(voters).set_params(absolute="drop")
    dropped.fit(spaces.X_a, spaces.y)
    anchors = spaces.X_b[dropped.estimators_[0][0].anchor_indices_]
    assert len(stitch(dropped, anchors).estimators_) == 1


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("kind", ["product", "vote"])
def test_reweighting_helps_where_spaces_are_bent(bent, kind, labelled):
    """Better than the plain stitch; what members there are is told by name."""
    model = product_model(bent) if kind == "product" else vote(bent, voting="soft")
    step = model[0] if kind == "product" else model.estimators_[0][0]
    indices = step.anchor_indices_
    anchors, y = bent.X_b[:900][indices], bent.y[:900][indices]
    pool = stitch(model, anchors, reweight=True, y=y if labelled else None)
    rows = bent.X_b[900:], bent.y[900:]
    assert pool.score(*rows) > stitch(model, anchors).score(*rows)
    names = list(pool.weights_by_name_)
    first = "stitched" if kind == "product" else "cosine"
    assert names[0] == first
    prefix = "" if kind == "product" else "cosine_"
    expected = [f"{prefix}translated_{how}" for how in ("kernel", "orthogonal")]
    assert names[1:3] == expected
    assert ("without_manhattan" in names) == (kind == "product")
    assert ("anchors" in names) == labelled
    again = stitch(model, anchors, reweight=True, y=y if labelled else None)
    np.testing.assert_array_equal(again.weights_, pool.weights_)


def test_a_space_that_is_no_use_gets_no_weight(bent):
    """A metric that is noise in the new space: what needs it is silenced."""

    def spoiled(X, anchors):
        rows = np.random.default_rng(len(X)).standard_normal((len(X), len(anchors)))
        return rows if X.shape[1] == 32 else euclidean(X, anchors)

    model = product_model(bent, metrics=("cosine", "manhattan", spoiled))
    anchors = bent.X_b[:900][model[0].anchor_indices_]
    plain, pool = stitch(model, anchors), stitch(model, anchors, reweight=True)
    weights = pool.weights_by_name_
    assert weights["without_spoiled"] > weights["stitched"]
    rows = bent.X_b[900:], bent.y[900:]
    assert pool.score(*rows) > plain.score(*rows) + 0.05


def test_no_anchor_is_its_own_in_the_evidence(spaces):
    """Each is compared with itself as with the mean of the others."""
    projector = RelativeProjector(20, metric="euclidean", random_state=0)
    apart = projector.fit(spaces.X_a)._apart().transform(projector.anchors_)
    whole = projector.transform(projector.anchors_)
    np.testing.assert_allclose(np.diag(whole), 0, atol=1e-6)
    others = ~np.eye(20, dtype=bool)
    np.testing.assert_array_equal(apart[others], whole[others])
    means = whole.sum(axis=0) / 19
    np.testing.assert_allclose(np.diag(apart), means)


@pytest.fixture
def told(monkeypatch):
    """What a pool is told: its members by name, evidence, targets and prior."""
    kept = {}
    fit = PooledClassifier._fit_weights

    def fit_and_keep(self, probas, targets):
        names = [name for name, _ in self.estimators]
        kept["evidence"] = dict(zip(names, probas, strict=True))
        kept["prior"] = dict(zip(names, self.prior, strict=True))
        kept["targets"] = targets
        return fit(self, probas, targets)

    monkeypatch.setattr(PooledClassifier, "_fit_weights", fit_and_keep)
    return kept


def without_self(values):
    """Each anchor's comparison with itself is the mean of the others'."""
    others = values[~np.eye(len(values), dtype=bool)].reshape(len(values), -1)
    values = values.copy()
    np.fill_diagonal(values, others.mean(axis=1))
    return values


def test_evidence_and_prior_of_a_vote(bent, told):
    """By hand: predictions without oneself, agreement, and what is translated."""
    indices = np.arange(0, 900, 15)
    old, new = bent.X_a[indices], bent.X_b[indices]
    voters = [
        (
            metric,
            make_pipeline(
                RelativeProjector(metric=metric, anchors=indices),
                StandardScaler(),
                LogisticRegression(C=0.01),
            ),
        )
        for metric in ("euclidean", "chebyshev")
    ]
    model = VotingClassifier(voters).fit(bent.X_a[:900], bent.y[:900])
    stitch(model, new, reweight=True, y=bent.y[indices])
    folds = KFold(10, shuffle=True, random_state=0)
    turn = SpaceTranslator("orthogonal")
    left_out = {
        "kernel": SpaceTranslator("kernel").fit(new, old).left_out_,
        "orthogonal": cross_val_predict(turn, new, old, cv=folds),
    }
    parts = [max(r2_score(old, rows), 0) / 3 for rows in left_out.values()]
    assert 0.05 < sum(parts) < 0.45
    ratios = []
    for (name, _), voter in zip(voters, model.estimators_, strict=True):
        function = METRICS[name].function
        relative_a, relative_b = function(old, old), function(new, new)
        agreement = space_agreement(relative_a, relative_b)
        ratios.append(agreement**2 / (1 - agreement**2 + 1e-3))
        expected = voter[1:].predict_proba(without_self(relative_b))
        np.testing.assert_allclose(told["evidence"][name], expected, atol=1e-6)
        for how, rows in left_out.items():
            through = told["evidence"][f"{name}_translated_{how}"]
            np.testing.assert_allclose(through, voter.predict_proba(rows))
    shares = np.array(ratios) / sum(ratios)
    assert abs(shares[0] - 0.5) > 0.01
    parts = [1 - sum(parts), *parts]
    prior = [share * part for share in shares for part in parts]
    np.testing.assert_allclose(list(told["prior"].values()), [*prior, 0.25])
    np.testing.assert_array_equal(told["targets"].argmax(axis=1), bent.y[indices])
    few = np.empty((60, 10))
    for train, test in KFold(5, shuffle=True, random_state=0).split(new):
        head = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
        head.fit(new[train], bent.y[indices][train])
        few[test] = 0
        few[np.ix_(test, head.classes_)] = head.predict_proba(new[test])
    np.testing.assert_allclose(told["evidence"]["anchors"], few)


def test_a_head_on_the_space_itself_is_heard_behind_translations(bent, told):
    """Its share is that of all others, translated; by itself it says nothing."""
    same = {"n_anchors": 100, "post": "standardize", "random_state": 0}
    voters = [
        (metric, make_pipeline(RelativeProjector(metric=metric, **same), head))
        for metric, head in (
            ("cosine", LogisticRegression(C=0.1)),
            ("chebyshev", LogisticRegression(C=0.1)),
        )
    ]
    absolute = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    both = VotingClassifier([*voters, ("absolute", absolute)], voting="soft")
    both.fit(bent.X_a[:900], bent.y[:900])
    indices = both.estimators_[0][0].anchor_indices_
    old, new = bent.X_a[indices], bent.X_b[indices]
    pool = stitch(both, new, reweight=True)
    prior, evidence = told["prior"], dict(told["evidence"])
    assert "absolute" not in evidence
    assert abs(sum(prior.values()) - 1) < 1e-12
    for how in ("translated_kernel", "translated_orthogonal"):
        relative = prior[f"cosine_{how}"] + prior[f"chebyshev_{how}"]
        np.testing.assert_allclose(prior[f"absolute_{how}"], relative)
    assert prior["absolute_translated_kernel"] > 0.1
    kernel = SpaceTranslator("kernel").fit(new, old)
    head = both.named_estimators_["absolute"]
    np.testing.assert_allclose(
        evidence["absolute_translated_kernel"], head.predict_proba(kernel.left_out_)
    )
    own = [
        v[1:].predict_proba(v[0]._apart().transform(old)) for v in both.estimators_[:2]
    ]
    opinion = np.exp(np.mean(np.log([*own, head.predict_proba(old)]), axis=0))
    opinion /= opinion.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(told["targets"], opinion)
    assert dict(pool.estimators)["absolute_translated_kernel"][-1].estimators_ == [head]
    rows = bent.X_b[900:], bent.y[900:]
    four = VotingClassifier(voters, voting="soft").fit(bent.X_a[:900], bent.y[:900])
    assert pool.score(*rows) > stitch(four, new, reweight=True).score(*rows)


def test_evidence_without_labels_is_what_the_head_says(bent, told):
    """Of the old anchors, none its own; of several heads the geometric mean."""
    model = vote(bent, voting="soft")
    old = model.estimators_[0][0].anchors_
    stitch(model, old, reweight=True)  # the same space
    names = ("cosine", "euclidean", "chebyshev")
    logs = np.mean([np.log(told["evidence"][name]) for name in names], axis=0)
    expected = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(told["targets"], expected)


def test_a_metric_is_left_out_at_the_mean_of_the_anchors(bent):
    """Its columns rest where the old anchors, none its own, have their mean."""
    model = product_model(bent)
    anchors = bent.X_b[:900][model[0].anchor_indices_]
    pool = stitch(model, anchors, reweight=True)
    relative = model[0].rebase(anchors).transform(bent.X_b)
    own = np.hstack(
        [
            StandardScaler()
            .fit(function(model[0].anchors_, model[0].anchors_))
            .transform(without_self(function(model[0].anchors_, model[0].anchors_)))
            for function in (METRICS[name].function for name in model[0].metrics)
        ]
    )
    relative[:, 100:200] = own.mean(axis=0)[100:200]
    without = dict(pool.estimators)["without_euclidean"]
    np.testing.assert_allclose(
        without.predict_proba(bent.X_b), model[1].predict_proba(relative), atol=1e-6
    )
    assert np.abs(own.mean(axis=0)[100:200]).max() > 0.01


def test_regressors_are_pooled_too(bent):
    """By least squares."""
    y = bent.X_a[:, 1::2].mean(axis=1)  # of the pixels that the second space lost
    model = product_model(bent, y, head=Ridge(10))
    indices = model[0].anchor_indices_
    anchors, rows = bent.X_b[:900][indices], (bent.X_b[900:], y[900:])
    plain = stitch(model, anchors).score(*rows)
    pool = stitch(model, anchors, reweight=True)
    labelled = stitch(model, anchors, reweight=True, y=y[:900][indices])
    assert isinstance(pool, PooledRegressor)
    assert pool.score(*rows) > plain
    assert labelled.score(*rows) > plain
    with pytest.raises(ValueError, match=r"targets of shape \(100,\); got \(3,\)"):
        stitch(model, anchors, reweight=True, y=[1, 2, 3])


def test_reweighting_behind_an_encoder(bent):
    """Raw inputs are encoded once, for all members."""
    model = product_model(bent)
    raw = np.arange(1797)[:, None]
    encoder = FunctionTransformer(lambda rows: bent.X_b[rows[:, 0]])
    anchors = raw[:900][model[0].anchor_indices_]
    whole = stitch(model, anchors, encoder=encoder, reweight=True)
    inner = stitch(model, bent.X_b[anchors[:, 0]], reweight=True)
    assert whole[0] is encoder
    np.testing.assert_allclose(
        whole.predict_proba(raw[900:]), inner.predict_proba(bent.X_b[900:])
    )


def test_a_vote_behind_an_encoder(bent):
    """As the last step of a pipeline; anywhere else it is refused."""
    raw = np.arange(1797)[:, None]
    encode_a, encode_b = (
        FunctionTransformer(lambda rows, X=X: X[rows[:, 0]])
        for X in (bent.X_a, bent.X_b)
    )
    model = make_pipeline(encode_a, vote(bent, voting="soft"))
    model.fit(raw[:900], bent.y[:900])
    indices = model[-1].estimators_[0][0].anchor_indices_
    whole = stitch(model, raw[indices], encoder=encode_b, reweight=True)
    inner = stitch(model[-1], bent.X_b[indices], reweight=True)
    np.testing.assert_array_equal(whole[-1].weights_, inner.weights_)
    search = GridSearchCV(model[-1], {"weights": [None]}, cv=2)
    votes = VotingClassifier([("search", search)]).fit(bent.X_a[:900], bent.y[:900])
    fitted = votes.estimators_[0].best_estimator_.estimators_[0][0]
    with pytest.raises(TypeError, match="3 projecting steps"):
        stitch(votes, bent.X_b[fitted.anchor_indices_], reweight=True)


def test_labels_that_miss_a_class(bent):
    """The model on the labelled anchors knows fewer classes than the head."""
    model = product_model(bent)
    anchors = bent.X_b[:900][model[0].anchor_indices_]
    for y in (np.zeros(100, dtype=int), np.arange(100) % 2):
        pool = stitch(model, anchors, reweight=True, y=y)
        assert pool.predict_proba(bent.X_b).shape == (1797, 10)
        few = dict(pool.estimators)["anchors"].predict_proba(bent.X_b)
        np.testing.assert_allclose(few[:, np.unique(y)].sum(axis=1), 1)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1], r"one label per anchor, \(100,\); got \(2,\)"),
        (np.full(100, 10), r"classes \[0, .*, 9\]; got \[10\]"),
    ],
)
def test_labels_that_do_not_fit(bent, y, message):
    """Too few, or unknown."""
    model = product_model(bent)
    anchors = bent.X_b[:900][model[0].anchor_indices_]
    with pytest.raises(ValueError, match=message):
        stitch(model, anchors, reweight=True, y=y)


def test_what_reweighting_refuses(spaces, model):
    """What does not predict, has few anchors, or several sets; labels by themselves."""
    anchors = anchors_of(spaces, model[0])
    with pytest.raises(ValueError, match="y is evidence for reweight=True alone"):
        stitch(model, anchors, y=spaces.y[:20])
    with pytest.raises(TypeError, match="must be a classifier with predict_proba"):
        stitch(model[0], anchors, reweight=True)
    ridge = make_pipeline(model[0], RidgeClassifier()).fit(spaces.X_a, spaces.y)
    with pytest.raises(TypeError, match="got model=Pipeline"):
        stitch(ridge, anchors, reweight=True)
    few = make_pipeline(RelativeProjector(5, random_state=0), LogisticRegression())
    few.fit(spaces.X_a, spaces.y)
    with pytest.raises(ValueError, match=r"needs 10 or more anchors.*got 5"):
        stitch(few, anchors_of(spaces, few[0]), reweight=True)
    voters = [
        (f"v{seed}", make_pipeline(RelativeProjector(20, random_state=seed), head))
        for seed, head in enumerate([LogisticRegression(), LogisticRegression()])
    ]
    votes = VotingClassifier(voters).fit(spaces.X_a, spaces.y)
    anchors = spaces.X_b[votes.estimators_[0][0].anchor_indices_]
    with pytest.raises(ValueError, match="all voters must have the same anchors"):
        stitch(votes, anchors, reweight=True)


class Offset(TransformerMixin, BaseEstimator):
    """A projecting step of a user's own, with no more than it must have."""

    def fit(self, X, y=None):
        """Learn where the origin is."""
        self.mean_ = X.mean(axis=0)
        return self

    def transform(self, X):
        """Take the mean off."""
        return X - self.mean_

    def rebase(self, anchors):
        """Do the same elsewhere."""
        return Offset().fit(anchors)


def test_a_projecting_step_of_ones_own(spaces):
    """It is stitched, but there is no evidence to weigh."""
    model = make_pipeline(Offset(), LogisticRegression()).fit(spaces.X_a, spaces.y)
    assert stitch(model, spaces.X_b)[0].mean_.shape == (6,)
    with pytest.raises(TypeError, match="the projecting steps of this package"):
        stitch(model, spaces.X_b, reweight=True)


def test_raw_anchors_without_an_encoder():
    """The error says what is missing, not that texts are no rows of numbers."""
    texts = [f"{word} {i}" for i in range(15) for word in ("red", "green")]
    encoder = make_pipeline(TfidfVectorizer(), TruncatedSVD(5, random_state=0))
    model = make_pipeline(encoder, RelativeProjector(10, random_state=0), Ridge())
    model.fit(texts, np.arange(30.0))
    anchors = [texts[i] for i in model[1].anchor_indices_]
    with pytest.raises(ValueError, match=r"\['pipeline'\] before .* give the new one"):
        stitch(model, anchors)
    with pytest.raises(TypeError, match="anchors must be several samples; got the tex"):
        stitch(model, "red 7", encoder=encoder)
    again = stitch(model, anchors, encoder=encoder)
    np.testing.assert_allclose(again.predict(texts), model.predict(texts))
