"""Used as any estimator of scikit-learn: frames, sparse rows, caches, weights."""

import importlib
import inspect
import pkgutil
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import estimator_html_repr

import skinvariant
from skinvariant import RelativeProjector, stitch
from skinvariant.datasets import make_related_spaces

STEPS = [
    "RelativeProjector",
    "InvariantAggregator",
    "InvariantClassifier",
    "InvariantRegressor",
]
HEADS = STEPS[2:]
SPACES = make_related_spaces(240, n_features_b=12, random_state=0)


def make(name, **params):
    """Make a small estimator of this package; heads need torch."""
    params = {"n_anchors": 30, "random_state": 0} | params
    if name not in HEADS:
        return getattr(skinvariant, name)(**params)
    pytest.importorskip("torch")
    pytest.importorskip("skorch")
    heads = importlib.import_module("skinvariant.heads")
    return getattr(heads, name)(max_epochs=2, **params)


def anchors_in(step):
    """Return indices as lists, which every frame takes."""
    return step.anchor_indices_.tolist()


# --- frames -------------------------------------------------------------------------


def as_frame(library, X, prefix):
    """Make a frame of named columns."""
    frames = pytest.importorskip(library)
    return frames.DataFrame({f"{prefix}{i}": X[:, i] for i in range(X.shape[1])})


def rows_of(frame, indices):
    """Take rows of a frame of any library."""
    return frame.iloc[indices] if hasattr(frame, "iloc") else frame[indices]


def old_and_new(rows_a, rows_b, take, name, output):
    """Fit a model behind an encoder, and stitch another encoder under it."""
    model = make_pipeline(StandardScaler(), make(name), LogisticRegression())
    model.set_output(transform=output).fit(rows_a, SPACES.y)
    encoder = StandardScaler().set_output(transform=output).fit(rows_b)
    anchors = take(rows_b, anchors_in(model[1]))
    return model, stitch(model, anchors, encoder=encoder)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_through_a_stitched_pipeline(library, name):
    """Inputs have the new encoder's names, the head keeps its own; values as ever."""
    X_a, X_b = SPACES.X_a, SPACES.X_b
    frame_a, frame_b = as_frame(library, X_a, "old"), as_frame(library, X_b, "new")
    model, stitched = old_and_new(frame_a, frame_b, rows_of, name, library)
    assert stitched.feature_names_in_.tolist() == [f"new{i}" for i in range(12)]
    assert stitched[1].feature_names_in_.tolist() == [f"new{i}" for i in range(12)]
    relative = stitched[:-1].transform(frame_b)
    assert type(relative) is type(frame_b)
    assert list(relative.columns) == list(model[-1].feature_names_in_)
    with pytest.raises(ValueError, match="feature names should match"):
        stitched.predict(frame_a)
    plain = old_and_new(X_a, X_b, lambda X, rows: X[rows], name, "default")[1]
    np.testing.assert_allclose(
        stitched.predict_proba(frame_b), plain.predict_proba(X_b), rtol=1e-6
    )


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_under_a_stitched_head(library, name):
    """A head without a pipeline takes the names of the new anchors as well."""
    frame_a, frame_b = (
        as_frame(library, X, prefix)
        for X, prefix in ((SPACES.X_a, "old"), (SPACES.X_b, "new"))
    )
    head = make(name).fit(frame_a, SPACES.y)
    stitched = stitch(head, rows_of(frame_b, anchors_in(head)))
    assert stitched.feature_names_in_.tolist() == [f"new{i}" for i in range(12)]
    assert head.feature_names_in_.tolist() == [f"old{i}" for i in range(8)]
    with pytest.raises(ValueError, match="feature names should match"):
        stitched.predict(frame_a)
    plain = clone(head).fit(SPACES.X_a, SPACES.y)
    plain = stitch(plain, SPACES.X_b[plain.anchor_indices_])
    np.testing.assert_allclose(
        stitched.predict(frame_b), plain.predict(SPACES.X_b), rtol=1e-6
    )


# --- sparse rows --------------------------------------------------------------------

WORDS = [f"word{i}" for i in range(60)]


def write_texts(n_texts=150):
    """Write texts of three kinds, each of which prefers a third of the words."""
    rng = np.random.default_rng(0)
    y = np.arange(n_texts) % 3
    share = np.where(np.arange(60) // 20 == y[:, None], 2.0, 1.0)
    share /= share.sum(axis=1, keepdims=True)
    return [" ".join(rng.choice(WORDS, 15, p=p)) for p in share], y


@pytest.mark.parametrize("name", STEPS)
def test_sparse_encoders_are_swapped(name):
    """Texts in, CSR inside: the same columns in another order change nothing."""
    texts, y = write_texts()
    metrics = ("cosine", "euclidean", "manhattan")
    step = make(name, **({"metrics": metrics} if name != STEPS[0] else {}))
    last = Ridge() if name == "InvariantRegressor" else LogisticRegression()
    old, new = (TfidfVectorizer(vocabulary=words) for words in (WORDS, WORDS[::-1]))
    model = make_pipeline(old, step, last).fit(texts, y)
    raw_anchors = [texts[i] for i in anchors_in(model[1])]
    stitched = stitch(model, raw_anchors, encoder=new.fit(texts))
    assert abs(new.transform(texts) - old.transform(texts)).max() > 0.1
    method = "predict" if name == "InvariantRegressor" else "predict_proba"
    np.testing.assert_allclose(
        getattr(stitched, method)(texts), getattr(model, method)(texts), atol=1e-10
    )


def test_sparse_rows_are_not_translated():
    """Translations take dense rows alone; stitch refuses, and not the first predict."""
    texts, y = write_texts()
    old, new = (TfidfVectorizer(vocabulary=words) for words in (WORDS, WORDS[::-1]))
    X_a, X_b = old.fit_transform(texts), new.fit_transform(texts)
    head = LogisticRegression().fit(X_a, y)
    for sparse in ((X_b[:60], X_a[:60].toarray()), (X_b[:60].toarray(), X_a[:60])):
        with pytest.raises(TypeError, match=r"toarray\(\)"):
            stitch(head, sparse[0], old_anchors=sparse[1])
    dense = X_b[:60].toarray(), X_a[:60].toarray()
    pool = stitch(head, dense[0], old_anchors=dense[1])
    assert pool.score(X_b.toarray(), y) > 0.6


# --- caches -------------------------------------------------------------------------


@pytest.fixture
def fits(monkeypatch):
    """Count fits by the name of the class."""
    counts = {}

    def count(name):
        estimator = type(make(name))
        fit = estimator.fit

        def counted(self, *args, **kwargs):
            counts[name] = counts.get(name, 0) + 1
            return fit(self, *args, **kwargs)

        monkeypatch.setattr(estimator, "fit", counted)
        return counts

    return count


@pytest.mark.parametrize("name", STEPS)
def test_a_cached_step_is_fitted_once(name, fits, tmp_path):
    """An equal pipeline takes it from the cache; stitch leaves the cache as it is."""
    X_a, X_b, y = SPACES.X_a, SPACES.X_b, SPACES.y
    steps = [("encoder", StandardScaler()), ("relative", make(name)), ("head", Ridge())]
    cached, plain = Pipeline(steps, memory=str(tmp_path)), clone(Pipeline(steps))
    plain, new_encoder = plain.fit(X_a, y), StandardScaler().fit(X_b)
    expected = plain.predict(X_a)
    anchors = X_b[plain[1].anchor_indices_]
    stitched = stitch(plain, anchors, encoder=new_encoder).predict(X_b)
    counts = fits(name)
    for _ in range(2):  # the second time from the cache, after a swap
        model = clone(cached).fit(X_a, y)
        assert counts == {name: 1}
        np.testing.assert_array_equal(model.predict(X_a), expected)
        swapped = stitch(model, anchors, encoder=new_encoder)
        np.testing.assert_array_equal(swapped.predict(X_b), stitched)
    clone(cached).set_params(relative__n_anchors=20).fit(X_a, y)
    assert counts == {name: 2}


# --- routed weights -----------------------------------------------------------------

# every third row is nonsense, with a wrong label and no weight
KEPT = np.arange(240) % 3 > 0
WEIGHTS = KEPT.astype(float)
Y = SPACES.y
WRONG = np.where(KEPT, Y, (Y + 1) % 3)
X_A, X_B = (np.where(KEPT[:, np.newaxis], X, 100.0) for X in (SPACES.X_a, SPACES.X_b))


@pytest.fixture
def routing():
    """Switch metadata routing on."""
    with config_context(enable_metadata_routing=True):
        yield


def first_rows(X, y, n_anchors, random_state):
    """Choose the first rows that make sense, as a projecting step has no weights."""
    return np.flatnonzero(X[:, 0] < 100)[:n_anchors]


def weighted(name, **params):
    """Make a model whose last step asks for weights, in fit and in score."""
    if name in HEADS:
        steps = FunctionTransformer(), make(name, **params)
    else:
        last = LogisticRegression(tol=1e-8, max_iter=5000)
        steps = make(name, anchors=first_rows, **params), last
    steps[-1].set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    return make_pipeline(*steps)


def kept_splits(splits):
    """Return splits of the rows that have weight, from splits of all rows."""
    position = np.cumsum(KEPT) - 1
    return [
        tuple(position[rows[KEPT[rows]]] for rows in (train, test))
        for train, test in splits
    ]


def assert_same(model, expected, X):
    """Compare what two models predict."""
    method = "predict_proba" if hasattr(model, "predict_proba") else "predict"
    ours, theirs = (getattr(m, method)(X) for m in (model, expected))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


SPLITS = [
    (np.flatnonzero(np.arange(240) % 4 != fold), np.arange(fold, 240, 4))
    for fold in range(4)
]


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("name", STEPS)
def test_weights_reach_the_head_of_a_pipeline(name):
    """Rows of weight 0 are as if they were not there."""
    model = weighted(name).fit(X_A, WRONG, sample_weight=WEIGHTS)
    assert_same(model, weighted(name).fit(X_A[KEPT], Y[KEPT]), SPACES.X_a)
    score = model.score(X_A, WRONG, sample_weight=WEIGHTS)
    assert score == pytest.approx(model.score(X_A[KEPT], Y[KEPT]))
    assert score > model.score(X_A, WRONG, sample_weight=np.ones(240)) + 0.1


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("name", STEPS)
def test_weights_reach_every_fold(name):
    """In training and in scoring; as the same folds of the rows with weight."""
    model, weights = weighted(name), {"sample_weight": WEIGHTS}
    scores = cross_val_score(model, X_A, WRONG, cv=SPLITS, params=weights)
    kept = kept_splits(SPLITS)
    expected = cross_val_score(model, X_A[KEPT], Y[KEPT], cv=kept)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("name", STEPS)
def test_weights_reach_a_search_and_what_is_stitched_of_it(name):
    """All candidates, and the best one; the stitched model still asks for them."""
    model, grid = weighted(name), {f"{name.lower()}__n_anchors": [5, 30]}
    search = GridSearchCV(model, grid, cv=SPLITS)
    search.fit(X_A, WRONG, sample_weight=WEIGHTS)
    expected = GridSearchCV(model, grid, cv=kept_splits(SPLITS))
    expected.fit(X_A[KEPT], Y[KEPT])
    scores, known = (s.cv_results_["mean_test_score"] for s in (search, expected))
    np.testing.assert_allclose(scores, known, rtol=1e-4)
    assert_same(search, expected, SPACES.X_a)
    best = search.best_estimator_
    anchors = X_B[best[name.lower()].anchor_indices_]
    encoder = FunctionTransformer() if name in HEADS else None
    stitched = stitch(search, anchors, encoder=encoder)
    score = stitched.score(X_B, WRONG, sample_weight=WEIGHTS)
    assert score == pytest.approx(stitched.score(X_B[KEPT], Y[KEPT]))
    assert score > stitched.score(X_B, WRONG, sample_weight=np.ones(240)) + 0.1
    new = stitched.best_estimator_
    again = clone(new).fit(X_B, WRONG, sample_weight=WEIGHTS)
    assert_same(again, clone(new).fit(X_B[KEPT], Y[KEPT]), SPACES.X_b)


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("name", STEPS)
def test_weights_reach_every_voter(name):
    """Each one trains as if the rows without weight were not there."""
    votes = VotingRegressor if name == "InvariantRegressor" else VotingClassifier
    vote = votes([(f"of{seed}", weighted(name, random_state=seed)) for seed in (0, 1)])
    model = clone(vote).fit(X_A, WRONG, sample_weight=WEIGHTS)
    expected = clone(vote).fit(X_A[KEPT], Y[KEPT])
    for ours, theirs in zip(model.estimators_, expected.estimators_, strict=True):
        assert_same(ours, theirs, SPACES.X_a)


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("learn", ["fine_tune", "partial_fit"])
@pytest.mark.parametrize("name", HEADS)
def test_weights_reach_what_a_stitched_head_learns_anew(name, learn):
    """The new rows of weight 0 teach nothing; nor is the old head taught."""
    head = make(name).fit(X_A, WRONG, sample_weight=WEIGHTS)
    before = head.predict(X_A)
    few = np.arange(90)
    kept = few[KEPT[few]]
    learned = []
    for rows, labels, weights in (
        (few, WRONG[few], WEIGHTS[few]),
        (kept, Y[kept], None),
    ):
        stitched = stitch(head, X_B[head.anchor_indices_])
        new = getattr(stitched, learn)(X_B[rows], labels, sample_weight=weights)
        learned.append(new)
    assert_same(*learned, SPACES.X_b)
    stitched = stitch(head, X_B[head.anchor_indices_])
    assert not np.allclose(learned[0].predict(X_B), stitched.predict(X_B), atol=1e-3)
    np.testing.assert_array_equal(head.predict(X_A), before)


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("name", HEADS)
def test_weights_that_nobody_asked_for_are_not_dropped(name):
    """A head in a pipeline that was told nothing about weights says so."""
    model = make_pipeline(FunctionTransformer(), make(name))
    with pytest.raises(ValueError, match=f"not requested for {name}.fit"):
        model.fit(X_A, WRONG, sample_weight=WEIGHTS)


# --- pages --------------------------------------------------------------------------


def pages():
    """Read off docs/api.rst which pages are generated: full names by short ones."""
    api = Path(__file__).parents[1] / "docs" / "api.rst"
    module, names = "", {}
    for line in api.read_text().splitlines():
        if match := re.fullmatch(r"\.\. currentmodule:: (\S+)", line):
            module = match[1]
        elif match := re.fullmatch(r"   (\w+)", line):
            names[match[1]] = f"{module}.{match[1]}"
    return names


def public_estimators():
    """The estimators that public modules list, by name."""
    found, modules = {}, ["skinvariant"]
    for info in pkgutil.iter_modules(skinvariant.__path__, "skinvariant."):
        if not info.name.startswith("skinvariant._"):
            modules.append(info.name)
    for module in modules:
        try:
            module = importlib.import_module(module)
        except ImportError:  # heads need torch
            continue
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) and issubclass(value, BaseEstimator):
                found[name] = value
    return sorted(found.items())


def test_all_estimators_are_found():
    """An empty loop must not pass."""
    known = {f"Invariant{kind}" for kind in ("Aggregator", "VotingClassifier")}
    known |= {"InvariantVotingRegressor", "PooledClassifier", "PooledRegressor"}
    known |= {"EncoderGuard", "RelativeProjector", "SpaceTranslator", "Whitener"}
    known |= {"AcrossEncoders"}
    if find_spec("torch") and find_spec("skorch"):
        known |= set(HEADS)
    assert {name for name, _ in public_estimators()} == known


def needed(name):
    """Return the arguments without which a constructor does not work."""
    if name == "AcrossEncoders":  # of the kind of the estimator inside
        return [RelativeProjector(), {}]
    return [[]] if name.startswith("Pooled") else []


@pytest.mark.parametrize(("name", "estimator"), public_estimators())
def test_kinds_are_those_of_the_names(name, estimator):
    """What is called a classifier or a regressor is one by scikit-learn's tags."""
    made = estimator(*needed(name))
    assert is_classifier(made) == name.endswith("Classifier")
    assert is_regressor(made) == name.endswith("Regressor")


@pytest.mark.parametrize(("name", "estimator"), public_estimators())
def test_the_diagram_links_to_a_page_of_ours(name, estimator):
    """Every estimator has its page in the API, and its diagram links there."""
    diagram = estimator_html_repr(estimator(*needed(name)))
    site = "https://skinvariant.readthedocs.io/en/stable/generated"
    assert f'href="{site}/{pages()[name]}.html' in diagram
