"""stitch: swap the encoder, keep the head, at any depth of a pipeline."""

import functools
import os
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from threadpoolctl import threadpool_limits

from skinvariant import InvariantAggregator, RelativeProjector, select_anchors, stitch
from skinvariant.datasets import make_related_spaces
from skinvariant.voting import pool_translations

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
    """A head on the first space; the rotation leaves cosines unchanged."""
    projector = RelativeProjector(20, random_state=0)
    return make_pipeline(projector, LogisticRegression()).fit(spaces.X_a, spaces.y)


def anchors_of(spaces, projector):
    """The anchors in the second space."""
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
    raw = np.arange(120)[:, None]
    encode_a, encode_b = (
        FunctionTransformer(lambda rows, X=X: X[rows[:, 0]])
        for X in (spaces.X_a, spaces.X_b)
    )
    inner = make_pipeline(
        StandardScaler(with_mean=False, with_std=False),
        InvariantAggregator(20, metrics=("cosine", "euclidean"), random_state=0),
        StandardScaler(),
    )
    model = make_pipeline(encode_a, inner, LogisticRegression()).fit(raw, spaces.y)
    anchors = select_anchors(model, raw)
    with pytest.raises(ValueError, match=r"functiontransformer.*pipeline__standardsc"):
        stitch(model, anchors)
    stitched = stitch(model, anchors, encoder=encode_b)
    assert [name for name, _ in stitched.steps] == [
        "encoder",
        "pipeline",
        "logisticregression",
    ]
    assert len(stitched[1]) == 2
    assert stitched[1][-1] is model[1][-1]
    np.testing.assert_allclose(
        stitched.predict_proba(raw), model.predict_proba(raw), atol=1e-8
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


def test_a_fitted_search_stays_one(spaces, model):
    """Its best estimator is the one that is stitched."""
    grid = {"relativeprojector__metric": ["cosine", "euclidean"]}
    candidate = clone(model).set_params(logisticregression__max_iter=1000)
    search = GridSearchCV(candidate, grid, cv=3).fit(spaces.X_a, spaces.y)
    best = search.best_estimator_
    anchors = anchors_of(spaces, best[0])
    one, other = stitch(search, anchors), stitch(best, anchors)
    assert isinstance(one, GridSearchCV)
    assert one.best_estimator_[-1] is best[-1]
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


def test_what_cannot_be_stitched_is_refused(spaces, model):
    """Nothing to rebase, steps left behind, a wrong number, no encoder, not fitted."""
    head = LogisticRegression(max_iter=1000).fit(spaces.X_a, spaces.y)
    for hopeless in (
        head,
        make_pipeline(StandardScaler(), head).fit(spaces.X_a, spaces.y),
        FrozenEstimator(head),
        OneVsRestClassifier(model).fit(spaces.X_a, spaces.y),
    ):
        with pytest.raises(TypeError, match="nothing in the model can be rebased"):
            stitch(hopeless, spaces.X_b[:20])
    behind = make_pipeline(PCA(4), clone(model)).fit(spaces.X_a, spaces.y)
    with pytest.raises(ValueError, match=r"encoder must .*steps \['pca'\] and no"):
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
        [arrays[f"X_{name}_{part}"].astype(np.float32) for part in ("train", "test")]
        for name in names
    ]
    return spaces, arrays["y_train"], arrays["y_test"]


def stitch_all(archive, make_step, head, seeds):
    """Accuracy of a head on each space, stitched to every space; the mean of seeds."""
    spaces, y_train, y_test = read(archive)
    accuracies = []
    for seed in seeds:
        indices = np.random.default_rng(seed).permutation(len(y_train))[:300]
        for X_train, _ in spaces:
            model = make_pipeline(make_step(indices), StandardScaler(), clone(head))
            model.fit(X_train, y_train)
            for X_other, X_test in spaces:
                stitched = stitch(model, X_other[indices])
                accuracies.append(stitched.score(X_test, y_test))
    n_spaces = len(spaces)
    return np.reshape(accuracies, (-1, n_spaces, n_spaces)).mean(axis=0)


@functools.cache
def stitch_all_by_the_product(archive):
    """The same of the product of invariances, for one seed."""
    # this strong a penalty needs no more
    head = LogisticRegression(C=0.01, max_iter=2000, tol=1e-3)
    return stitch_all(
        archive, lambda rows: InvariantAggregator(anchors=rows), head, (0,)
    )


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
    head = LogisticRegression(max_iter=2000)
    got = stitch_all(
        archive, lambda rows: RelativeProjector(anchors=rows), head, (0, 1, 2)
    )
    np.testing.assert_allclose(got, expected, atol=CELL)
    assert abs(got.mean() - expected.mean()) < CELL / 2


@real_data
@pytest.mark.parametrize("archive", PLAIN_COSINE)
def test_the_product_carries_heads_between_real_encoders(archive, one_thread):
    """Better than plain cosine on average and at worst, and far above a guess."""
    got = stitch_all_by_the_product(archive)
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
    got = stitch_all_by_the_product(archive)
    stitched = got[:4, :4][~np.eye(4, dtype=bool)]
    assert np.mean(absolute) < 0.15
    assert stitched.min() > max(absolute) + 0.6


# --- do the anchors match? ----------------------------------------------------------


@pytest.mark.parametrize("wrong", ["shuffled", "shifted", "others"])
def test_anchors_that_do_not_match_are_warned_about(spaces, model, wrong):
    """Shuffled, shifted by one, or of other samples; the model is made all the same."""
    anchors = anchors_of(spaces, model[0])
    wrong_anchors = {
        "shuffled": np.random.default_rng(0).permutation(anchors),
        "shifted": np.roll(anchors, 1, axis=0),
        "others": spaces.X_b[np.setdiff1d(np.arange(120), model[0].anchor_indices_)],
    }[wrong][:20]
    with pytest.warns(
        UserWarning, match="must be the same samples in the same"
    ) as caught:
        stitched = stitch(model, wrong_anchors)
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(stitched[0].anchors_, wrong_anchors)


@pytest.mark.parametrize("wrong", [np.arange(200, 400), np.arange(0, 400, 10)])
def test_some_anchors_that_do_not_match_are_named(wrong):
    """Wherever they are, as long as they are enough to be no chance."""
    spaces = make_related_spaces(450, 12, transformation="linear", noise=0.2)
    model = RelativeProjector(400, random_state=0).fit(spaces.X_a)
    anchors = anchors_of(spaces, model)
    stitch(model, anchors)  # no warning
    anchors[wrong] = anchors[np.roll(wrong, 1)]
    with pytest.warns(UserWarning, match="the same samples in the same") as caught:
        stitch(model, anchors)
    named = re.findall(r"\d+", str(caught[0].message).rpartition("rows")[2])
    assert np.isin(np.array(named, dtype=int), wrong).mean() >= 0.9


def test_few_anchors_are_not_compared(spaces):
    """Nineteen are too few for a test."""
    projector = RelativeProjector(19, random_state=0).fit(spaces.X_a)
    anchors = anchors_of(spaces, projector)[::-1]
    np.testing.assert_array_equal(stitch(projector, anchors).anchors_, anchors)


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
    """It needs no more than a rebase."""
    model = make_pipeline(Offset(), LogisticRegression()).fit(spaces.X_a, spaces.y)
    assert stitch(model, spaces.X_b)[0].mean_.shape == (6,)
    with pytest.raises(TypeError, match=r"y must be None, since Offset\.rebase takes"):
        stitch(model, spaces.X_b, y=spaces.y)


# --- raw samples --------------------------------------------------------------------

TEXTS = [f"{word} {i}" for i in range(10, 40) for word in ("red", "green")]


@pytest.fixture
def on_texts():
    """A model that starts with an encoder of texts."""
    encoder = make_pipeline(TfidfVectorizer(), TruncatedSVD(5, random_state=0))
    model = make_pipeline(encoder, RelativeProjector(20, random_state=0), Ridge())
    return model.fit(TEXTS, np.arange(60.0))


@pytest.fixture
def other():
    """Another encoder of texts."""
    steps = TfidfVectorizer(analyzer="char"), TruncatedSVD(6, random_state=0)
    return make_pipeline(*steps).fit(TEXTS)


def test_raw_anchors_without_an_encoder(on_texts, other):
    """The error names what is missing, not that texts are no rows of numbers."""
    anchors = select_anchors(on_texts, TEXTS)
    with pytest.raises(ValueError, match=r"encoder must .*steps \['pipeline'\]"):
        stitch(on_texts, anchors)
    with pytest.raises(TypeError, match="anchors must be several samples; got the tex"):
        stitch(on_texts, "red 7", encoder=other)
    for raw in (anchors, np.array(anchors), np.zeros((20, 8, 8, 3))):
        with pytest.raises(TypeError, match=r"rows of numbers.*pass the new encoder"):
            stitch(on_texts[1:], raw)
    again = stitch(on_texts, anchors, encoder=on_texts[0])
    np.testing.assert_array_equal(again.predict(TEXTS), on_texts.predict(TEXTS))


@pytest.mark.parametrize("container", ["list", "numpy", "pandas", "polars", "labelled"])
def test_containers_of_texts(on_texts, other, container):
    """All give the same model; an index of labels does not count."""
    pandas, polars = (pytest.importorskip(name) for name in ("pandas", "polars"))
    texts = {
        "list": TEXTS,
        "numpy": np.array(TEXTS),
        "pandas": pandas.Series(TEXTS),
        "polars": polars.Series(TEXTS),
        "labelled": pandas.Series(TEXTS, index=np.arange(60)[::-1]),
    }[container]
    stitched = stitch(on_texts, select_anchors(on_texts, texts), encoder=other)
    expected = stitch(on_texts, select_anchors(on_texts, TEXTS), encoder=other)
    np.testing.assert_array_equal(stitched.predict(texts), expected.predict(TEXTS))


def test_encoded_anchors_with_an_encoder(on_texts, other):
    """It takes raw samples; rows of numbers are encoded already."""
    anchors = select_anchors(on_texts, TEXTS)
    for rows in (other.transform(anchors), on_texts[0].transform(anchors)):
        with pytest.raises(ValueError, match=r"be raw samples.*shape \(20, [56]\)"):
            stitch(on_texts, rows, encoder=other)
    with pytest.raises(NotFittedError):
        stitch(on_texts, anchors, encoder=clone(other))
    with pytest.raises(AttributeError, match="lower"):  # the encoder's own error
        stitch(on_texts, [*anchors[1:], None], encoder=other)


def test_other_samples_are_refused(on_texts, other):
    """By the old encoder inside the model, one by one, before anything is rebased."""
    anchors = select_anchors(on_texts, TEXTS)
    strangers = [text for text in TEXTS if text not in anchors]
    for rows in ([3], [3, 17], list(range(20))):
        wrong = list(anchors)
        for row in rows:
            wrong[row] = strangers[row]
        named = ", ".join(map(str, rows[:10])) + (", ..." if len(rows) > 10 else "")
        expected = rf"got other samples in rows {named} \({len(rows)} of 20\)"
        with pytest.raises(ValueError, match=expected):
            stitch(on_texts, wrong, encoder=other)
    first = stitch(on_texts, anchors, encoder=other)
    with pytest.raises(ValueError, match=r"\(20 of 20\)"):
        stitch(first, strangers[:20], encoder=on_texts[0])
    back = stitch(first, anchors, encoder=on_texts[0])
    np.testing.assert_array_equal(back.predict(TEXTS), on_texts.predict(TEXTS))
    with pytest.raises(ValueError, match=r"20 rows, in the same order; got 19 rows"):
        stitch(on_texts, anchors[1:], encoder=other)


@pytest.mark.parametrize(
    ("dtype", "sparse"), [("float64", False), ("float32", False), ("float64", True)]
)
@pytest.mark.parametrize("offset", [0, 1000])
def test_rounding_is_no_other_sample(dtype, sparse, offset):
    """Encoders round differently in other batches; neighbours differ by far more."""
    rng = np.random.default_rng(0)
    space = (rng.standard_normal((60, 8)) + offset).astype(dtype)
    unit = np.sqrt(np.finfo(dtype).eps) if offset == 0 else 10 * np.finfo(dtype).eps
    rounding = unit * max(offset, 1) * rng.standard_normal((60, 8)).astype(dtype)
    container = csr_array if sparse else np.asarray
    fitted, off = [False], np.arange(60)

    def encode(rows):
        noise = rounding if fitted[0] else 0
        return container((space + noise).astype(dtype)[rows[:, 0]])

    old, raw = FunctionTransformer(encode), off[:, None]
    model = make_pipeline(old, RelativeProjector(20, random_state=0), Ridge())
    model.fit(raw, off)
    fitted[0] = True
    new = FunctionTransformer(lambda rows: space[rows[:, 0], ::-1])
    anchors = select_anchors(model, raw)
    np.testing.assert_array_equal(
        stitch(model, anchors, encoder=new).predict(raw),
        stitch(model[1:], new.transform(anchors)).predict(new.transform(raw)),
    )
    anchors[[4, 5]] = anchors[[5, 4]]
    with pytest.raises(ValueError, match=r"other samples in rows 4, 5 \(2 of 20\)"):
        stitch(model, anchors, encoder=new)


@pytest.mark.parametrize("kind", ["random", "gone", "of another form", "wider"])
def test_encoders_that_cannot_check(spaces, kind):
    """A random one, one that is no longer there, one of other raw samples."""
    state = {"fitted": False}
    rng = np.random.default_rng(0)

    def encode(rows):
        X = spaces.X_a[rows[:, 0]]
        if kind == "random":
            return X + rng.standard_normal(X.shape)
        if state["fitted"] and kind == "gone":
            raise ConnectionError("no such host")
        if kind == "of another form":
            return X[rows[:, 1]]
        return np.hstack([X, X]) if state["fitted"] else X

    raw = np.column_stack([np.arange(120), np.arange(120)])
    old = FunctionTransformer(encode)
    model = make_pipeline(old, RelativeProjector(20, random_state=0), Ridge())
    model.fit(raw, spaces.y)
    state["fitted"] = True
    new = FunctionTransformer(lambda rows: spaces.X_b[rows[:, 0]])
    anchors = select_anchors(model, raw)
    stitched = stitch(model, anchors[:, :1], encoder=new)
    np.testing.assert_array_equal(
        stitched[1].anchors_, spaces.X_b[model[1].anchor_indices_]
    )


def test_dask_anchors(spaces, model):
    """Rows, raw rows and old rows are computed."""
    dask = pytest.importorskip("dask.array")
    space = dask.from_array(spaces.X_b, chunks=(50, 6))
    anchors = select_anchors(model, space)
    expected = stitch(model, anchors_of(spaces, model[0]))
    for rows in (anchors, dask.from_array(anchors)):
        stitched = stitch(model, rows)
        np.testing.assert_array_equal(
            stitched.predict_proba(spaces.X_b), expected.predict_proba(spaces.X_b)
        )
        behind = stitch(model, rows, encoder=FunctionTransformer())
        np.testing.assert_array_equal(
            behind.predict_proba(spaces.X_b), expected.predict_proba(spaces.X_b)
        )


# --- heads that hold no anchors -----------------------------------------------------


@pytest.mark.parametrize("labelled", [False, True])
def test_any_head_with_its_old_anchors(spaces, labelled):
    """It is pooled behind translations, also behind an encoder."""
    head = LogisticRegression(max_iter=1000).fit(spaces.X_a, spaces.y)
    old, new = spaces.X_a[:30], spaces.X_b[:30]
    y = spaces.y[:30] if labelled else None
    stitched = stitch(head, new, old_anchors=old, y=y)
    expected = pool_translations(head, new, old, y)
    predicted = stitched.predict_proba(spaces.X_b)
    np.testing.assert_array_equal(predicted, expected.predict_proba(spaces.X_b))
    assert stitched.weights_ == expected.weights_
    np.testing.assert_array_equal(
        stitched.predict(spaces.X_b), head.predict(spaces.X_a)
    )
    raw = np.arange(120)[:, None]
    encoder = FunctionTransformer(lambda rows: spaces.X_b[rows[:, 0]])
    behind = stitch(head, raw[:30], encoder=encoder, old_anchors=old, y=y)
    assert behind[0] is encoder
    np.testing.assert_array_equal(behind.predict_proba(raw), predicted)
    with pytest.warns(
        UserWarning, match="must be the same samples in the same"
    ) as caught:
        stitch(head, new[::-1], old_anchors=old)
    assert caught[0].filename == __file__


def test_what_old_anchors_refuse(spaces, model):
    """A model with anchors, no predictions, raw samples, other numbers of rows."""
    head = LogisticRegression(max_iter=1000).fit(spaces.X_a, spaces.y)
    old, new = spaces.X_a[:30], spaces.X_b[:30]
    with pytest.raises(ValueError, match=r"None for a model .* got a model with a Rel"):
        stitch(model, new, old_anchors=old)
    with pytest.raises(TypeError, match=r"classifier or regressor; got StandardScaler"):
        stitch(StandardScaler().fit(old), new, old_anchors=old)
    with pytest.raises(TypeError, match="old_anchors must be rows of numbers"):
        stitch(head, new, old_anchors=TEXTS[:30])
    with pytest.raises(TypeError, match=r"^anchors must be rows of numbers"):
        stitch(head, TEXTS[:30], old_anchors=old)
    with pytest.raises(ValueError, match="same order; got 29 and 30 rows"):
        stitch(head, new[1:], old_anchors=old)
    with pytest.raises(TypeError, match=r"in its own space as old_anchors=; got Log"):
        stitch(head, new)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_raw_anchors_are_checked_at_any_scale(spaces, scale):
    """The squares of rows this long are not finite, and of rows this short are 0."""
    encoder = FunctionTransformer(lambda rows: rows * scale)
    model = make_pipeline(encoder, RelativeProjector(20, random_state=0))
    model.fit(spaces.X_a)
    anchors = select_anchors(model, spaces.X_a)
    stitch(model, anchors, encoder=FunctionTransformer())
    anchors[[3, 7]] = anchors[[7, 3]]
    with pytest.raises(ValueError, match=r"got other samples in rows 3, 7 \(2 of 20\)"):
        stitch(model, anchors, encoder=FunctionTransformer())


# --- further rows of the new space ------------------------------------------------


@pytest.fixture
def bent():
    """A rolled plane and the same one in waves, of another width."""
    how = {"transformation": "isometry", "n_features_b": 12, "n_classes": 5}
    return make_related_spaces(800, **how, random_state=0)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_head_along_the_rows_survives_a_bend(bent, seed):
    """Distances along the surface agree, so that a head transfers; others do not."""
    train, test = slice(0, 500), slice(500, None)
    found = {}
    for metric in ("geodesic", "euclidean"):
        projector = RelativeProjector(
            40, metric=metric, post="standardize", random_state=seed
        )
        model = make_pipeline(projector, LogisticRegression())
        model.fit(bent.X_a[train], bent.y[train])
        anchors = select_anchors(model, bent.X_b[train])
        rows = bent.X_b[train] if metric == "geodesic" else None
        with pytest.warns(UserWarning, match="must have something in common"):
            stitched = stitch(model, anchors, X=rows)
        pair = model[0].transform(bent.X_a[test]), stitched[0].transform(bent.X_b[test])
        found[metric] = (
            np.corrcoef(*map(np.ravel, pair))[0, 1],
            model.score(bent.X_a[test], bent.y[test]),
            stitched.score(bent.X_b[test], bent.y[test]),
        )
    correlation, own, across = found["geodesic"]
    assert correlation > 0.999
    assert own > 0.95
    assert across > own - 0.01
    correlation, own, across = found["euclidean"]
    assert correlation < 0.5
    assert own > 0.95
    assert across < 0.6


def test_rows_are_encoded_as_the_anchors(bent):
    """With an encoder the rows are raw samples, too."""
    projector = RelativeProjector(40, metric="geodesic", random_state=0)
    model = make_pipeline(PCA(5), projector, Ridge()).fit(bent.X_a, bent.y)
    anchors, new = select_anchors(model, bent.X_a), PCA(4).fit(bent.X_a)
    stitched = stitch(model, anchors, encoder=new, X=bent.X_a)
    expected = projector.fit(bent.X_a).transform(bent.X_a)
    np.testing.assert_allclose(
        stitched[:-1].transform(bent.X_a), expected, atol=1e-9 * expected.max()
    )


def test_rows_that_nothing_takes_are_refused(bent):
    """And rows that a metric needs, but does not get."""

    class Own(BaseEstimator):
        def fit(self, X, y=None):
            self.fitted_ = True
            return self

        def rebase(self, anchors):
            return self

    with pytest.raises(TypeError, match=r"X must be None, since Own.rebase takes no"):
        stitch(Own().fit(bent.X_a), bent.X_b[:9], X=bent.X_b)
    head = Ridge().fit(bent.X_a, bent.y)
    with pytest.raises(TypeError, match=r"X must be None for a regressor"):
        stitch(head, bent.X_b[:9], old_anchors=bent.X_a[:9], X=bent.X_b)
    projector = RelativeProjector(40, metric="geodesic", random_state=0).fit(bent.X_a)
    with pytest.raises(ValueError, match=r"X must be unlabelled rows .* got None"):
        stitch(projector, select_anchors(projector, bent.X_b))
