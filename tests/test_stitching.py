"""stitch: swap the encoder, keep the head, at any depth of a pipeline."""

import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from threadpoolctl import threadpool_limits

from skinvariant import InvariantAggregator, RelativeProjector, stitch
from skinvariant.datasets import make_related_spaces

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
    head = LogisticRegression().fit(spaces.X_a, spaces.y)
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
