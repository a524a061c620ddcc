"""cross_stitch: every head under every encoder, and the alternatives to it."""

import builtins
import dataclasses
import json
import re
import sys
from functools import partial
from itertools import permutations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm, ortho_group
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_digits
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier, RidgeCV
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    log_loss,
    make_scorer,
    r2_score,
    roc_auc_score,
    top_k_accuracy_score,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits

from skinvariant import (
    EncoderGuard,
    InvariantAggregator,
    InvariantVotingClassifier,
    RelativeProjector,
    stitch,
)
from skinvariant._files import dump_json
from skinvariant.anchors import choose_anchors
from skinvariant.datasets import make_related_spaces
from skinvariant.stitching import (
    BASELINES,
    StitchingReport,
    _cross_stitch,
    cross_stitch,
)
from skinvariant.stitching._methods import METHODS
from skinvariant.translation import SpaceTranslator

CHEAP = {"n_resamples": 0, "n_seeds": 2, "random_state": 0}
FREE = ("majority", "absolute", "few_shot", "retrained")


def split(X, n_train=80):
    """Training and test rows."""
    return X[:n_train], X[n_train:]


@pytest.fixture(scope="module")
def data():
    """Three spaces of two widths whose relation is affine, with some noise."""
    wide = make_related_spaces(
        140, 4, transformation="affine", n_features_b=6, noise=0.3, random_state=0
    )
    rng = np.random.default_rng(0)
    third = wide.X_a @ rng.standard_normal((4, 4)) + rng.standard_normal((140, 4))
    spaces = {"a": split(wide.X_a), "b": split(wide.X_b), "c": split(third)}
    return spaces, split(wide.y)


@pytest.fixture(scope="module")
def digits():
    """Pixels, a rotation of them and a permutation of them."""
    X, y = load_digits(return_X_y=True)
    X, y = X[:700] - X[:700].mean(axis=0), y[:700]
    turned = X @ ortho_group.rvs(64, random_state=0)
    shuffled = X[:, np.random.default_rng(1).permutation(64)]
    spaces = {"plain": X, "turned": turned, "shuffled": shuffled}
    return {name: split(X, 400) for name, X in spaces.items()}, split(y, 400)


def linear(n_anchors=20, **params):
    """A model whose head is quick."""
    return make_pipeline(RelativeProjector(n_anchors, **params), RidgeClassifier())


def report_of(scores, resampled=None, methods=("own", "stitched"), counts=(10,)):
    """Build a report of given scores, shape (methods, counts, seeds, n, n)."""
    scores = np.asarray(scores, dtype=float)
    if resampled is None:
        resampled = np.empty((len(methods), len(counts), 0, *scores.shape[-2:]))
    names = tuple("abcdefg"[: scores.shape[-1]])
    both = (np.asarray(array)[None] for array in (scores, resampled))
    return StitchingReport(names, methods, counts, "accuracy", *both)


# known answers


def test_invariant_heads_survive_and_absolute_heads_do_not(digits):
    """Rotations and permutations: every index is 1, and a plain swap is chance."""
    spaces, y = digits
    model = make_pipeline(
        InvariantAggregator(50, metrics=("cosine", "euclidean")), RidgeClassifier()
    )
    report = cross_stitch(model, spaces, y, baselines=["absolute", "majority"], **CHEAP)
    assert_array_equal(report.stitching_index(), np.ones((3, 3)))
    assert_array_equal(report.matrix("stitched"), report.matrix("own"))
    assert report.matrix("own").min() > 0.7
    others = ~np.eye(3, dtype=bool)
    # of 10 classes, 300 rows: 0.1, give or take twice 0.017, and structure
    assert report.matrix("absolute")[others].max() < 0.25
    assert report.passes(1.0)


def test_orthogonal_translation_undoes_a_rotation(digits):
    """Procrustes on anchors that span the space carries rows over exactly."""
    spaces, y = digits
    report = cross_stitch(
        linear(150), spaces, y, baselines=["translate_orthogonal", "retrained"], **CHEAP
    )
    own = np.repeat(report.matrix("retrained").diagonal()[:, None], 3, axis=1)
    assert_allclose(report.matrix("translate_orthogonal"), own, atol=2 / 300)


def test_shuffled_labels_give_the_majority(data):
    """Without information in the rows no method is much above the commonest class."""
    spaces, (y_train, y_test) = data
    rng = np.random.default_rng(0)
    y = rng.permutation(y_train), rng.permutation(y_test)
    report = cross_stitch(linear(), spaces, y, **CHEAP)
    floor = (y[1] == np.bincount(y[0]).argmax()).mean()
    assert_array_equal(report.matrix("majority"), np.full((3, 3), floor))
    for method in report.methods:  # 60 test rows: three standard errors
        assert report.interval(method)[0] < 1 / 3 + 3 * np.sqrt(2 / 9 / 60)


# the same by loops, written here


@pytest.mark.parametrize("anchors", ["random", "stratified", "kmeans", "farthest"])
def test_all_scores_equal_loops_written_here(data, anchors):
    """Every cell of every method, with anchors of the head's space carried over."""
    spaces, (y_train, y_test) = data
    model, head = linear(anchors=anchors), RidgeClassifier()
    report = cross_stitch(model, spaces, (y_train, y_test), **CHEAP)
    assert report.methods == ("own", "stitched", *BASELINES)
    seeds = np.random.RandomState(0).randint(2**31 - 1, size=2)
    expected = np.full((len(report.methods), 2, 3, 3), np.nan)
    cells = {name: expected[i] for i, name in enumerate(report.methods)}
    for s, seed in enumerate(seeds):
        for a, (A, _) in enumerate(spaces.values()):
            how = (20, int(seed))
            indices = choose_anchors(anchors, A, y_train, *how)
            fitted = clone(model).set_params(relativeprojector__anchors=indices)
            fitted.fit(A, y_train)
            absolute = make_pipeline(StandardScaler(), clone(head)).fit(A, y_train)
            few = make_pipeline(StandardScaler(), clone(head))
            few.fit(A[indices], y_train[indices])
            A_test = list(spaces.values())[a][1]
            cells["few_shot"][s, :, a] = few.score(A_test, y_test)
            cells["retrained"][s, :, a] = absolute.score(A_test, y_test)
            cells["own"][s, a, :] = fitted.score(A_test, y_test)
            for b, (B, B_test) in enumerate(spaces.values()):
                stitched = stitch(fitted, B[indices])
                cells["stitched"][s, a, b] = stitched.score(B_test, y_test)
                if B.shape[1] == A.shape[1]:
                    cells["absolute"][s, a, b] = absolute.score(B_test, y_test)
                for name in BASELINES:
                    if name.startswith("translate_"):
                        translator = SpaceTranslator(name[len("translate_") :])
                        translator.fit(B[indices], A[indices])
                        rows = B_test if a == b else translator.transform(B_test)
                        cells[name][s, a, b] = absolute.score(rows, y_test)
    dummy = DummyClassifier().fit(A, y_train)
    cells["majority"][:] = dummy.score(A_test, y_test)
    for name, values in cells.items():
        assert_allclose(
            report.scores[0, report.methods.index(name), 0], values, err_msg=name
        )
        assert_allclose(report.matrix(name), values.mean(axis=0))


@pytest.mark.parametrize("anchors", ["random", "stratified"])
def test_anchors_are_parallel_and_nested(data, anchors, monkeypatch):
    """Of one seed the same rows in every space, and fewer are the first of more."""
    spaces, y = data
    used, fit = [], RelativeProjector.fit
    monkeypatch.setattr(
        RelativeProjector,
        "fit",
        lambda self, X, y=None: used.append(tuple(self.anchors)) or fit(self, X, y),
    )
    how = {"baselines": [], "n_anchors": [30, 5, 12], **CHEAP}
    cross_stitch(linear(anchors=anchors), spaces, y, **how)
    by_size = {k: {x for x in used if len(x) == k} for k in (5, 12, 30)}
    assert [len(x) for x in by_size.values()] == [2, 2, 2]  # one a seed, for 3 spaces
    assert len(used) == 18
    assert by_size[5] == {x[:5] for x in by_size[30]}
    assert by_size[12] == {x[:12] for x in by_size[30]}


def test_kmeans_and_callables_draw_each_number_of_anchors(data):
    """Of clusters the first ones are not fewer clusters."""
    spaces, y = data

    def strategy(X, y, n_anchors, random_state):
        sizes.append(n_anchors)
        return random_state.permutation(len(X))[:n_anchors]

    sizes = []
    how = {"baselines": [], "n_anchors": [5, 9], **CHEAP}
    cross_stitch(linear(anchors=strategy), spaces, y, **how)
    assert sorted(sizes) == [5] * 6 + [9] * 6
    both = cross_stitch(linear(anchors="kmeans"), spaces, y, **how)
    one = cross_stitch(linear(anchors="kmeans"), spaces, y, **how | {"n_anchors": 5})
    assert_array_equal(both.scores[:, :, :1], one.scores)


def test_given_anchors_and_all_rows_are_one_draw(data):
    """Nothing is drawn, so one seed is enough; of given ones fewer are the first."""
    spaces, y = data
    indices = np.arange(40)[::-1].copy()
    model = linear(anchors=indices)
    given = cross_stitch(model, spaces, y, n_anchors=[10, 40], baselines=[], **CHEAP)
    assert given.scores.shape[1:] == (2, 2, 1, 3, 3)
    A, A_test = spaces["a"]
    fitted = linear(anchors=indices[:10]).fit(A, y[0])
    assert given.matrix("own", n_anchors=10)[0, 0] == fitted.score(A_test, y[1])
    assert cross_stitch(model, spaces, y, baselines=[], **CHEAP).n_anchors == (40,)
    every = cross_stitch(linear(anchors="all"), spaces, y, baselines=[], **CHEAP)
    assert every.n_anchors == (80,)
    assert every.scores.shape[3] == 1


# scorers and heads


@pytest.mark.parametrize(
    ("scoring", "function"),
    [
        ("neg_log_loss", lambda y, m, X: -log_loss(y, m.predict_proba(X))),
        ("f1_macro", lambda y, m, X: f1_score(y, m.predict(X), average="macro")),
        (
            "roc_auc_ovr",
            lambda y, m, X: roc_auc_score(y, m.predict_proba(X), multi_class="ovr"),
        ),
        (make_scorer(accuracy_score), lambda y, m, X: m.score(X, y)),
        (lambda m, X, y: (m.predict(X) == y).mean(), lambda y, m, X: m.score(X, y)),
        (None, lambda y, m, X: m.score(X, y)),
    ],
)
def test_scorers(data, scoring, function):
    """Any scorer of scikit-learn or of one's own, on own and on stitched models."""
    spaces, y = data
    head = LogisticRegression(max_iter=5000)
    indices = np.arange(20)
    model = make_pipeline(RelativeProjector(anchors=indices), StandardScaler(), head)
    report = cross_stitch(model, spaces, y, scoring=scoring, **CHEAP)
    fitted = model.fit(spaces["a"][0], y[0])
    stitched = stitch(fitted, spaces["b"][0][indices])
    own = function(y[1], fitted, spaces["a"][1])
    assert_allclose(report.matrix()[0, 0], own, rtol=1e-12)
    other = function(y[1], stitched, spaces["b"][1])
    assert_allclose(report.matrix()[0, 1], other, rtol=1e-12)


def test_the_head_of_the_baselines_is_what_comes_after_the_projecting_step(data):
    """At any depth of pipelines, on unit scale; or the one that is given."""
    spaces, y = data
    projector = RelativeProjector(20, random_state=0)
    inner = make_pipeline(projector, StandardScaler())
    model = Pipeline([("no", "passthrough"), ("in", inner), ("out", RidgeClassifier())])
    A, A_test = spaces["a"]
    for given, head in (
        (None, make_pipeline(StandardScaler(), RidgeClassifier())),
        (LogisticRegression(C=0.01), LogisticRegression(C=0.01)),
    ):
        report = cross_stitch(model, spaces, y, head=given, **CHEAP)
        expected = head.fit(A, y[0]).score(A_test, y[1])
        assert report.matrix("retrained")[0, 0] == expected


def test_baselines_are_not_unfairly_weak(data):
    """A penalty that suits relative vectors does not weaken them on a small scale."""
    spaces, y = data
    model = make_pipeline(
        RelativeProjector(20, post="standardize", random_state=0),
        LogisticRegression(C=0.01, max_iter=5000),
    )
    small = {name: [X / 1000 for X in parts] for name, parts in spaces.items()}
    reports = [cross_stitch(model, each, y, **CHEAP) for each in (spaces, small)]
    for method in ("retrained", "translate_ridge", "few_shot"):
        usual, scaled = (report.matrix(method) for report in reports)
        assert_allclose(scaled, usual)
    assert reports[1].matrix("retrained").min() > 0.6  # chance is a third


def test_regression(data):
    """Targets of several outputs, scored by r2; the majority is the mean, at 0."""
    spaces, _ = data
    X = np.concatenate(spaces["a"])
    y = split(X @ np.random.default_rng(0).standard_normal((4, 2)))
    model = make_pipeline(RelativeProjector(30, metric="euclidean"), Ridge(1e-3))
    report = cross_stitch(model, spaces, y, **CHEAP | {"n_resamples": 3})
    assert report.scoring == "r2"
    head = make_pipeline(StandardScaler(), Ridge(1e-3)).fit(spaces["b"][0], y[0])
    expected = r2_score(y[1], head.predict(spaces["b"][1]))
    assert_allclose(report.matrix("retrained")[0, 1], expected)
    mean = np.broadcast_to(y[0].mean(axis=0), y[1].shape)
    assert_allclose(report.matrix("majority")[0, 0], r2_score(y[1], mean))
    assert report.matrix("own").min() > 0.5
    assert np.isfinite(report.resampled[0, report.methods.index("own")]).all()


def test_a_vote_of_one_head_per_metric(data):
    """All voters get the same anchors; its cells are those of a loop."""
    spaces, (y_train, y_test) = data
    indices = np.arange(0, 60, 3)
    voters = [
        (
            metric,
            make_pipeline(
                RelativeProjector(metric=metric, post="standardize"),
                LogisticRegression(max_iter=5000),
            ),
        )
        for metric in ("cosine", "euclidean")
    ]
    vote = VotingClassifier(voters, voting="soft")
    paths = {f"{name}__relativeprojector__anchors": indices for name, _ in voters}
    vote.set_params(cosine__relativeprojector__anchors=indices)
    report = cross_stitch(
        vote, spaces, (y_train, y_test), baselines=["few_shot"], **CHEAP
    )
    own = clone(vote).set_params(**paths).fit(spaces["a"][0], y_train)
    stitched = stitch(own, spaces["b"][0][indices])
    expected = [
        model.score(spaces[name][1], y_test)
        for model, name in ((own, "a"), (stitched, "b"))
    ]
    np.testing.assert_array_equal(report.matrix("stitched")[0, :2], expected)
    few = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    few.fit(spaces["b"][0][indices], y_train[indices])
    assert report.matrix("few_shot")[0, 1] == few.score(spaces["b"][1], y_test)


def test_a_vote_with_a_head_on_the_space_itself(data):
    """It holds no anchors, so it could not be stitched."""
    spaces, y = data
    relative = make_pipeline(RelativeProjector(20), LogisticRegression())
    voters = [("cosine", relative), ("absolute", LogisticRegression())]
    for members in (voters, voters[::-1], voters[1:]):
        with pytest.raises(TypeError, match=r"must be a classifier or reg.*got Logist"):
            cross_stitch(VotingClassifier(members), spaces, y, **CHEAP)


def test_a_head_that_projects_itself(data):
    """A neural head: its own anchors are set, the baselines have a linear head."""
    heads = pytest.importorskip("skinvariant.heads")
    spaces, y = data
    head = heads.InvariantClassifier(15, max_epochs=3)  # drawn by the seed
    report, again = (cross_stitch(head, spaces, y, **CHEAP) for _ in range(2))
    assert_array_equal(report.scores, again.scores)
    assert report.n_anchors == (15,)
    default = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    default.fit(spaces["c"][0], y[0])
    expected = default.score(spaces["c"][1], y[1])
    assert report.matrix("retrained")[0, 2] == expected


def test_a_regressor_that_projects_itself_has_a_ridge_head(data):
    """RidgeCV after a scaler."""
    heads = pytest.importorskip("skinvariant.heads")
    spaces, _ = data
    y = spaces["a"][0][:, 0], spaces["a"][1][:, 0]
    head = heads.InvariantRegressor(15, max_epochs=2)
    report = cross_stitch(head, spaces, y, baselines=["retrained"], **CHEAP)
    ridge = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-3, 3, 7)))
    ridge.fit(spaces["b"][0], y[0])
    expected = ridge.score(spaces["b"][1], y[1])
    assert_allclose(report.matrix("retrained")[0, 1], expected)


@pytest.mark.parametrize(
    "scoring", ["accuracy", "neg_log_loss", "roc_auc_ovr", "top_k_accuracy"]
)
@pytest.mark.parametrize("classes", [[1], [0, 2]])
def test_classes_that_the_anchors_lack(data, classes, scoring):
    """They have probability 0 by "few_shot"; one class alone is always predicted."""
    spaces, (y_train, y_test) = data
    indices = np.flatnonzero(np.isin(y_train, classes))[:20]
    head = LogisticRegression(max_iter=5000)
    model = make_pipeline(RelativeProjector(anchors=indices), StandardScaler(), head)
    how = {"baselines": ["few_shot"], "scoring": scoring, **CHEAP}
    report = cross_stitch(model, spaces, (y_train, y_test), **how)
    A, A_test = spaces["a"]
    few = (
        make_pipeline(StandardScaler(), head) if len(classes) > 1 else DummyClassifier()
    )
    few.fit(A[indices], y_train[indices])
    proba = np.zeros((len(A_test), 3))
    proba[:, classes] = few.predict_proba(A_test)
    expected = {
        "accuracy": (few.predict(A_test) == y_test).mean(),
        "neg_log_loss": -log_loss(y_test, proba),
        "roc_auc_ovr": roc_auc_score(y_test, proba, multi_class="ovr"),
        "top_k_accuracy": top_k_accuracy_score(y_test, proba),
    }
    assert_allclose(report.matrix("few_shot")[:, 0], expected[scoring])


def test_scores_belong_where_the_table_of_methods_has_them(data):
    """They vary along head, encoder, both or neither, and agree in a single space."""
    spaces, y = data
    report = cross_stitch(linear(), spaces, y, **CHEAP)
    assert report.methods == tuple(METHODS)
    for name, method in METHODS.items():
        matrix = report.matrix(name)
        varies = {
            "head": np.ptp(matrix, axis=0).max() > 0,
            "encoder": np.ptp(matrix, axis=1).max() > 0,
        }
        if method.belongs_to == "both":
            expected = report.matrix(method.same_space).diagonal()
            assert_array_equal(matrix.diagonal(), expected)
        else:
            belongs = {axis: axis == method.belongs_to for axis in varies}
            assert varies == belongs, name


def test_no_fit_is_done_twice(data, monkeypatch):
    """One absolute head a space, one relative model and one few-shot head a draw."""
    spaces, y = data
    fits, fit = [], RidgeClassifier.fit
    monkeypatch.setattr(
        RidgeClassifier,
        "fit",
        lambda self, X, y: fits.append(X.shape) or fit(self, X, y),
    )
    cross_stitch(linear(), spaces, y, **CHEAP)
    assert len(fits) == 3 + 2 * 3 + 2 * 3
    fits.clear()
    cross_stitch(linear(), spaces, y, baselines=["majority"], **CHEAP)
    assert len(fits) == 2 * 3


# the same result again


def test_n_jobs_changes_nothing(data):
    """Not a bit, for a probabilistic score and with draws of every kind."""
    spaces, y = data
    head = LogisticRegression(max_iter=5000)
    model = make_pipeline(RelativeProjector(20), StandardScaler(), head)
    how = {"scoring": "neg_log_loss", **CHEAP, "n_resamples": 3}
    one, two = (cross_stitch(model, spaces, y, n_jobs=n, **how) for n in (1, 2))
    assert one.scores.tobytes() == two.scores.tobytes()
    assert one.resampled.tobytes() == two.resampled.tobytes()


class Reader(ClassifierMixin, BaseEstimator):
    """Predicts the first feature of each row."""

    def fit(self, X, y):
        """Learn the classes alone."""
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        """Return the first feature."""
        return X[:, 0].astype(int)


class Counter(Reader):
    """Counts the threads that it may use."""

    counts = set()

    def fit(self, X, y):
        """Count them and learn the classes."""
        self.counts.update(pool["num_threads"] for pool in threadpool_info())
        return super().fit(X, y)


def test_every_fit_has_one_thread(data):
    """However many there are outside, so that sums have one order."""
    spaces, y = data
    model = make_pipeline(RelativeProjector(20), Counter())
    with threadpool_limits(2):
        cross_stitch(model, spaces, y, baselines=["retrained"], **CHEAP)
    assert Counter.counts == {1}


def test_the_model_and_the_data_are_not_touched(data):
    """Clones are fitted, a fitted model is only cloned, and rows are not written to."""
    spaces, y = data
    before = {name: [X.copy() for X in pair] for name, pair in spaces.items()}
    model = linear(random_state=3).fit(spaces["a"][0], y[0])
    predicted = model.predict(spaces["a"][1])
    reports = [cross_stitch(m, spaces, y, **CHEAP) for m in (model, clone(model))]
    assert_array_equal(reports[0].scores, reports[1].scores)
    assert_array_equal(model.predict(spaces["a"][1]), predicted)
    for name, pair in spaces.items():
        for X, old in zip(pair, before[name], strict=True):
            assert_array_equal(X, old)


def test_other_containers(data):
    """Frames, lists and float32 rows give what arrays of float64 give."""
    pd = pytest.importorskip("pandas")
    spaces, y = data
    small = {n: [X.astype(np.float32) for X in p] for n, p in spaces.items()}
    plain = cross_stitch(linear(), small, y, baselines=FREE, **CHEAP)
    frames = {n: tuple(pd.DataFrame(X) for X in p) for n, p in small.items()}
    series = [pd.Series(part) for part in y]
    report = cross_stitch(linear(), frames, series, baselines=FREE, **CHEAP)
    assert_array_equal(report.scores, plain.scores)
    lists = {n: tuple(X.tolist() for X in p) for n, p in spaces.items()}
    targets = [[f"class {label}" for label in part] for part in y]
    report = cross_stitch(linear(), lists, targets, baselines=FREE, **CHEAP)
    assert_allclose(report.scores, plain.scores, atol=1.5 / 60)


def test_the_progress_bar(data, capsys):
    """Of absolute heads and of draws and spaces, on stderr; none by default."""
    pytest.importorskip("tqdm")
    spaces, y = data
    cross_stitch(linear(), spaces, y, baselines=FREE, **CHEAP)
    assert capsys.readouterr() == ("", "")
    cross_stitch(linear(), spaces, y, baselines=FREE, verbose=True, **CHEAP)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.findall(r"\d+\.\d+/9.00", printed.err)[0] == "0.00/9.00"
    assert re.findall(r"\d+\.\d+/9.00 \[", printed.err)[-1] == "9.00/9.00 ["
    cross_stitch(linear(), spaces, y, baselines=["majority"], verbose=True, **CHEAP)
    assert "6.00/6.00 [" in capsys.readouterr().err  # without absolute heads


def test_the_progress_bar_needs_tqdm(data, monkeypatch):
    """The error gives the command, before anything is fitted."""
    spaces, y = data
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(RidgeClassifier, "fit", None)
    with pytest.raises(ImportError, match=r"pip install 'skinvariant\[progress\]'"):
        cross_stitch(linear(), spaces, y, verbose=True, **CHEAP)


# intervals


def test_resampled_rows_give_the_interval_of_a_binomial_accuracy():
    """The half width is the normal quantile times sqrt(p (1 - p) / n)."""
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=400)
    right = rng.random(400) < 0.8
    read = np.where(right, y, 1 - y)[:, None] * np.ones((1, 3)) + [[0, 7, 9]]
    spaces = {"a": split(read, 100), "b": split(read, 100)}
    report = cross_stitch(
        linear(10),
        spaces,
        split(y, 100),
        head=Reader(),
        baselines=["absolute"],
        scoring=lambda model, X, y: (model.predict(X) == y).mean(),
        n_resamples=2000,
        n_seeds=1,
        random_state=0,
    )
    p = right[100:].mean()
    error = np.sqrt(p * (1 - p) / 300)
    for confidence in (0.5, 0.95):
        value, low, high = report.interval("absolute", confidence=confidence)
        assert_allclose(value, p)
        assert_allclose([value - low, high - value], (high - low) / 2)
        half = norm.ppf((1 + confidence) / 2) * error
        # of 2,000 resamples a deviation is known to 1.6 percent: three times that
        assert_allclose((high - low) / 2, half, rtol=0.05)


def test_resamples_keep_every_class(data):
    """A class of one test row is in each of them: no score is undefined."""
    spaces, (y_train, y_test) = data
    y_test = np.ones_like(y_test)
    y_test[[4, 7]] = 0, 2
    head = LogisticRegression(max_iter=5000)
    model = make_pipeline(RelativeProjector(20), StandardScaler(), head)
    how = {"scoring": "roc_auc_ovr", **CHEAP, "n_seeds": 1, "n_resamples": 20}
    report = cross_stitch(model, spaces, (y_train, y_test), baselines=[], **how)
    assert np.isfinite(report.resampled[:3]).all()


def test_resampled_scores_are_means_over_the_seeds(data, monkeypatch):
    """Resamples that are the rows themselves have the scores of the rows."""
    spaces, y = data
    rows = np.arange(len(y[1]))
    monkeypatch.setattr(_cross_stitch, "resample", lambda *args, **kwargs: rows)
    how = CHEAP | {"n_resamples": 1}
    report = cross_stitch(linear(), spaces, y, n_anchors=[5, 20], **how)
    assert_array_equal(report.resampled[:, :, :, 0], report.scores.mean(axis=3))


def test_an_interval_has_the_variance_of_rows_and_that_of_seeds():
    """The sum of two, of the mean over pairs of the difference of two methods."""
    rng = np.random.default_rng(0)
    scores = rng.random((3, 1, 4, 3, 3))
    resampled = rng.random((3, 1, 50, 3, 3))
    methods = ("own", "stitched", "retrained")
    report = report_of(scores, resampled, methods)
    value, low, high = report.interval("stitched", "retrained", confidence=0.9)
    seeds, rows = [], []
    for into, source, n in ((seeds, scores, 4), (rows, resampled, 50)):
        for i in range(n):
            lead = [
                source[1, 0, i, a, b] - source[2, 0, i, a, b]
                for a, b in permutations(range(3), 2)
            ]
            into.append(np.mean(lead))
    variance = np.var(seeds, ddof=1) / 4 + np.var(rows, ddof=1)
    assert_allclose(value, np.mean(seeds))
    half = norm.ppf(0.95) * np.sqrt(variance)
    assert_allclose([low, high], [value - half, value + half])
    one = report.interval("stitched", pair=("c", "a"))
    assert_allclose(one[0], scores[1, 0, :, 2, 0].mean())
    variance = scores[1, 0, :, 2, 0].var(ddof=1) / 4 + resampled[1, 0, :, 2, 0].var(
        ddof=1
    )
    assert_allclose(one[2] - one[0], norm.ppf(0.975) * np.sqrt(variance))


def test_equal_methods_have_a_lead_of_exactly_nothing(digits):
    """Rows and seeds are the same for all, so the difference has no spread."""
    spaces, y = digits
    how = {"baselines": [], "n_resamples": 10, "n_seeds": 2, "random_state": 0}
    report = cross_stitch(linear(50), spaces, y, **how)
    assert report.interval("stitched", "own") == (0, 0, 0)
    low, high = report.interval("stitched")[1:]
    assert high - low > 0.01


def test_without_resamples_and_seeds_there_is_no_interval():
    """A value alone, and no bounds that seem sure."""
    value, low, high = report_of(np.full((2, 1, 1, 2, 2), 0.5)).interval()
    assert value == 0.5
    assert np.isnan([low, high]).all()


# negative flips, classes and groups


@pytest.mark.parametrize("scoring", [None, "f1_macro"])
def test_measures_equal_loops_written_here(data, scoring):
    """Flips, disagreement, recall and group scores, from predictions made here."""
    spaces, (y_train, y_test) = data
    groups = np.array(["x", "y"])[np.arange(60) % 2]
    model, indices = linear(anchors=range(20)), np.arange(20)
    baselines = ["translate_ridge", "few_shot", "retrained"]
    how = {"baselines": baselines, "groups": groups, "scoring": scoring, **CHEAP}
    report = cross_stitch(model, spaces, (y_train, y_test), **how)
    names = ("score", "negative_flips", "disagreement", "class 0", "class 1", "class 2")
    assert report.measures == (*names, "group x", "group y")
    score = {None: accuracy_score, "f1_macro": partial(f1_score, average="macro")}
    for a, b in permutations(spaces, 2):
        (A, A_test), (B, B_test) = spaces[a], spaces[b]
        at = tuple(list(spaces).index(name) for name in (a, b))
        own = clone(model).fit(A, y_train)
        plain, few, retrained = (
            make_pipeline(StandardScaler(), RidgeClassifier()).fit(X, y)
            for X, y in [
                (A, y_train),
                (B[indices], y_train[indices]),
                (B, y_train),
            ]
        )
        translator = SpaceTranslator("ridge").fit(B[indices], A[indices])
        before = own.predict(A_test)
        after = {
            "own": before,
            "stitched": stitch(own, B[indices]).predict(B_test),
            "translate_ridge": plain.predict(translator.transform(B_test)),
            "few_shot": few.predict(B_test),
            "retrained": retrained.predict(B_test),
        }
        for method, labels in after.items():
            right, values = labels == y_test, {}
            values["negative_flips"] = ((before == y_test) & ~right).mean()
            values["disagreement"] = (before != labels).mean()
            for k in range(3):
                values[f"class {k}"] = right[y_test == k].mean()
            for group in "xy":
                part = groups == group
                values[f"group {group}"] = score[scoring](y_test[part], labels[part])
            for measure, value in values.items():
                found = report.matrix(method, measure=measure)[at]
                assert_allclose(found, value, err_msg=f"{method}, {measure}")


def test_resampled_measures_equal_loops_written_here(data, monkeypatch):
    """Flips, classes and groups are counted on the resampled rows, and so is a lead."""
    spaces, y = data
    rows = np.random.default_rng(0).integers(60, size=(4, 60))
    draws = iter(rows)
    monkeypatch.setattr(_cross_stitch, "resample", lambda *args, **kwargs: next(draws))
    groups = np.arange(60) % 3
    model, how = linear(anchors=range(20)), CHEAP | {"n_resamples": 4}
    report = cross_stitch(
        model, spaces, y, baselines=["retrained"], groups=groups, **how
    )
    own = clone(model).fit(spaces["a"][0], y[0])
    before = own.predict(spaces["a"][1]) == y[1]
    stitched = stitch(own, spaces["b"][0][:20]).predict(spaces["b"][1]) == y[1]
    at = report.methods.index("stitched"), 0, slice(None), 0, 1
    for measure, marked, part in [
        ("negative_flips", before & ~stitched, groups >= 0),
        ("class 1", stitched, y[1] == 1),
        ("group 2", stitched, groups == 2),
    ]:
        expected = [marked[drawn][part[drawn]].mean() for drawn in rows]
        found = report.resampled[report.measures.index(measure)][at]
        assert_allclose(found, expected, err_msg=measure)
        pair = ("a", "b")
        value, low, high = report.interval(measure=measure, pair=pair)
        assert_allclose(value, marked[part].mean())
        half = norm.ppf(0.975) * np.std(expected, ddof=1)
        assert_allclose([low, high], [value - half, value + half])


def test_a_column_has_no_flips_against_itself(digits):
    """An exact swap changes no prediction, and no interval claims to be sure of it."""
    spaces, y = digits
    how = {"baselines": [], **CHEAP, "n_resamples": 5}
    report = cross_stitch(linear(50), spaces, y, **how)
    for measure in ("negative_flips", "disagreement"):
        value, low, high = report.interval(measure=measure)
        assert value == 0
        assert np.isnan([low, high]).all()
        assert report.interval("stitched", "own", measure=measure) == (0, 0, 0)
    assert re.search(r"\nstitched .* 0\.000 +\? ", str(report))


def test_labels_that_no_class_has(data):
    """A prediction that is no label counts as wrong, and as another one."""
    _, (y_train, y_test) = data
    rows = tuple(
        np.where(np.arange(len(y)) % 2, y, unknown)[:, None] + [[0.0, 7, 9]]
        for y, unknown in ((y_train, -1), (y_test, 5))
    )
    report = cross_stitch(
        linear(),
        {"a": rows, "b": rows},
        (y_train, y_test),
        head=Reader(),
        baselines=["retrained"],
        **CHEAP,
    )
    assert_allclose(report.matrix("retrained"), 0.5)
    assert (report.matrix("retrained", measure="disagreement") >= 0.5).all()
    assert (report.matrix("retrained", measure="class 1") < 1).all()


def test_small_classes_and_groups_have_no_score(data):
    """Nine rows show little; the summary says for how many."""
    spaces, (y_train, y_test) = data
    y_test = y_test.copy()
    y_test[y_test == 2] = 0
    y_test[:9] = 2
    y_test[9:] %= 2
    groups = np.array(["few"] * 9 + ["many"] * 51)
    report = cross_stitch(
        linear(), spaces, (y_train, y_test), groups=groups, baselines=[], **CHEAP
    )
    for measure in ("class 2", "group few"):
        assert np.isnan(report.matrix(measure=measure)).all()
        assert np.isnan(report.interval(measure=measure)).all()
    for measure in ("class 0", "class 1", "group many"):
        assert np.isfinite(report.matrix(measure=measure)).all()
    assert report.worst("class") in ("class 0", "class 1")
    assert report.worst("group") == "group many"
    text = report.summary()
    assert "No score for 1 of 3 classes: fewer than 10 test rows" in text
    assert "No score for 1 of 2 groups: fewer than 10 test rows" in text
    assert "nan" not in text


@pytest.mark.parametrize("scoring", ["roc_auc_ovr", "neg_log_loss"])
def test_groups_without_a_score(data, scoring):
    """Those of one class have no area under a curve: NaN, and the rest has a score."""
    spaces, y = data
    groups = np.where(y[1] == 1, "one class", np.where(np.arange(60) % 2, "u", "v"))
    head = LogisticRegression(max_iter=5000)
    model = make_pipeline(RelativeProjector(20), StandardScaler(), head)
    how = {"groups": groups, "scoring": scoring, "baselines": [], **CHEAP}
    report = cross_stitch(model, spaces, y, **how)
    assert np.isnan(report.interval(measure="group one class")[0])
    assert np.isfinite(report.interval()[0])
    assert re.search(
        r"No score for . of 3 groups: .* or undefined there\.", str(report)
    )


def test_a_regressor_has_groups_and_no_flips(data):
    """Scores of each group's rows, by R2."""
    spaces, y = data
    y = tuple(X[:, 0] for X in spaces["a"])
    groups = np.arange(60) % 2 == 0
    model = make_pipeline(RelativeProjector(anchors=range(20)), Ridge())
    how = {"groups": groups, "baselines": FREE, **CHEAP, "n_resamples": 5}
    report = cross_stitch(model, spaces, y, **how)
    assert report.measures == ("score", "group False", "group True")
    fitted = clone(model).fit(spaces["a"][0], y[0])
    X_test = spaces["a"][1]
    for kept, measure in ((groups, "group True"), (~groups, "group False")):
        expected = r2_score(y[1][kept], fitted.predict(X_test[kept]))
        assert_allclose(report.matrix("own", measure=measure)[0, 0], expected)
        assert np.isfinite(report.interval(measure=measure)).all()
    assert "flips" not in str(report)
    assert f"Worst {report.worst('group')}, stitched: r2 " in str(report)
    assert report.worst("class") is None
    with pytest.raises(ValueError, match=r"measure must be one of \['group False'"):
        report.interval(measure="negative_flips")


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.arange(59) % 2, "one label for each of the 60 test rows; got 59"),
        (np.zeros((60, 2), int), "groups must be one label for each row"),
        ([None] * 30 + ["a"] * 30, "groups must be one label for each row"),
        (np.where(np.arange(60) % 2, np.nan, 1.0), "contains NaN"),
        (np.arange(60) % 7, "a group of 10 or more test rows.*; got 7 groups of .* 9"),
    ],
)
def test_wrong_groups(data, groups, message):
    """Before any fit."""
    spaces, y = data
    with pytest.raises(ValueError, match=message):
        cross_stitch(linear(), spaces, y, groups=groups, **CHEAP)


def test_groups_of_any_container(data):
    """By position, whatever the index."""
    pd = pytest.importorskip("pandas")
    spaces, y = data
    groups = [("de", "fr")[i % 2] for i in range(60)]
    how = {"baselines": [], **CHEAP}
    series = pd.Series(groups, index=range(60, 0, -1))
    reports = [
        cross_stitch(linear(), spaces, y, groups=each, **how)
        for each in (groups, series, series.astype("category"), np.array(groups))
    ]
    for report in reports[1:]:
        assert report.measures == reports[0].measures
        assert_array_equal(report.scores, reports[0].scores)


def flips_of(stitched, retrained, n_rows=0, kinds=()):
    """A report of given negative flips, by seed, and of further measures."""
    levels = np.zeros((2 + len(kinds), 3, 1, len(stitched), 2, 2))
    levels[0] = 0.8
    levels[1, 1], levels[1, 2] = (
        np.reshape(x, (1, -1, 1, 1)) for x in (stitched, retrained)
    )
    for i, (_, value) in enumerate(kinds):
        levels[2 + i] = value
    return StitchingReport(
        spaces=("a", "b"),
        methods=("own", "stitched", "retrained"),
        n_anchors=(10,),
        scoring="accuracy",
        scores=levels,
        resampled=np.zeros((2 + len(kinds), 3, 1, n_rows, 2, 2)),
        measures=("score", "negative_flips", *(name for name, _ in kinds)),
    )


@pytest.mark.parametrize(
    ("stitched", "retrained", "words"),
    [
        (
            [0.02, 0.021],
            [0.05, 0.052],
            "Stitching makes fewer right predictions wrong.",
        ),
        ([0.05, 0.052], [0.02, 0.021], "Retraining makes fewer right predictions"),
        ([0.02, 0.05], [0.05, 0.021], "do not show which makes fewer."),
        ([0.02], [0.05], "-0.030, without an interval, which two seeds or two"),
        ([0.02] * 2, [0.05] * 2, "-0.030, without an interval, since it is the same"),
        ([0.02] * 2, [0.02] * 2, "do not show which makes fewer."),
    ],
)
def test_the_summary_compares_flips_by_their_interval(stitched, retrained, words):
    """With an interval a sentence about which is better, and without one none."""
    text = flips_of(stitched, retrained).summary()
    assert "Negative flips, stitched minus retrained: " in text
    assert words in text
    assert "nan" not in text
    if "without" in words:
        assert "fewer" not in text


def test_the_summary_names_the_worst_class_and_group():
    """The lowest mean over all pairs, beside the head's own."""
    kinds = [("class x", 0.7), ("class y", 0.5), ("group de", 0.6), ("group fr", 0.65)]
    report = flips_of([0.02, 0.03], [0.05, 0.05], kinds=kinds)
    at = report.measures.index("class y"), 1
    report.scores[at][0, :, 0, 1] = 0.3, 0.4
    assert report.worst("class") == "class y"
    assert report.worst("class", "own") == "class y"
    assert report.worst("group") == "group de"
    text = report.summary()
    assert "Worst class y, stitched: recall 0.425, 95% interval 0.376 to 0.474" in text
    assert "; own: 0.500.\n" in text
    words = (
        "Worst group de, stitched: accuracy 0.600, without an interval, since it is "
    )
    assert f"{words}the same for all resampled rows and seeds; own: 0.600." in text
    with pytest.raises(ValueError, match=r"kind must be one of \['class', 'group'\]"):
        report.worst("pair")
    report.scores[at] = np.nan
    assert report.worst("class") == "class x"
    assert "No score for 1 of 2 classes: " in report.summary()
    again = StitchingReport.from_json(report.to_json())
    assert str(again) == str(report)
    assert again.measures == report.measures


@pytest.mark.parametrize(
    "model",
    [
        InvariantVotingClassifier(n_anchors=40),
        make_pipeline(InvariantAggregator(40), LogisticRegression(C=0.01)),
    ],
    ids=["voting", "product"],
)
@pytest.mark.filterwarnings("ignore:.*the old and the new anchors:UserWarning")
def test_a_noise_encoder_falls_to_the_majority(model):
    """Rows without any relation to the samples leave a head the labels' frequencies."""
    rng = np.random.default_rng(0)
    n_train, n_test = 200, 400
    y = rng.choice(3, p=[0.5, 0.3, 0.2], size=n_train + n_test)
    real = 3 * np.eye(3, 8)[y] + rng.standard_normal((len(y), 8))
    noise = rng.standard_normal((len(y), 6))
    spaces = {"real": split(real, n_train), "noise": split(noise, n_train)}
    how = {"baselines": ["majority"], "n_seeds": 2, "random_state": 0}
    report = cross_stitch(model, spaces, split(y, n_train), **how)
    floor = (y[n_train:] == 0).mean()
    assert report.matrix("own")[0, 0] > floor + 0.3
    error = np.sqrt(floor * (1 - floor) / n_test)
    # not the reverse: a head that is trained on noise learns its anchors' labels by
    # heart, and classifies by the nearest anchor under the real encoder
    value, low, _ = report.interval("stitched", "majority", pair=("real", "noise"))
    assert low <= 0
    assert value < 2 * error
    assert report.matrix("stitched")[0, 1] < report.matrix("own")[0, 0] - 0.25
    text = report.summary()
    assert re.search(r"In [12] of 2 pairs stitching is no better than the maj", text)
    assert "Worst pair: head from real under encoder noise" in text


def test_noise_gets_no_advice_to_stitch():
    """Better than an alternative is not enough below the majority."""
    methods = ("own", "stitched", "majority", "translate_ridge")
    levels = np.array([0.9, 0.3, 0.5, 0.1])[:, None, None, None, None]
    by_seed = np.array([[-1, 0, 1], [1, -2, 1], [0, 0, 0], [-1, 2, -1]]) / 128
    scores = (levels + by_seed[:, None, :, None, None]) * np.ones((2, 2))
    text = report_of(scores, methods=methods).summary()
    assert text.endswith("Use neither.")
    scores[1, ..., 1, 0] += 0.5
    text = report_of(scores, methods=methods).summary()
    assert "In 1 of 2 pairs stitching is no better than the majority." in text
    assert text.endswith("Stitch.")


def test_a_guard_is_left_out(data):
    """It changes no row, and would report what is measured on purpose."""
    spaces, y = data
    guard = EncoderGuard(on_mismatch="raise", false_alarms=100, window=8)
    how = {"baselines": ["few_shot"], **CHEAP}
    expected = cross_stitch(linear(), spaces, y, **how)
    for model in (
        make_pipeline(guard, *linear()),
        make_pipeline(guard, linear()),
        make_pipeline(make_pipeline(guard, linear()[0]), linear()[1]),
    ):
        report = cross_stitch(model, spaces, y, **how)
        assert_array_equal(report.scores, expected.scores)
        assert any(isinstance(x, EncoderGuard) for x in model.get_params().values())
    with pytest.raises(TypeError, match="model must be a classifier or regressor"):
        cross_stitch(guard, spaces, y, **how)


# the report


@pytest.fixture(scope="module")
def report(data):
    """Everything, for two numbers of anchors."""
    spaces, y = data
    how = {"n_anchors": (10, 30), "n_seeds": 2, "n_resamples": 5, "random_state": 0}
    return cross_stitch(linear(), spaces, y, **how)


def test_json_there_and_back(report, tmp_path):
    """The same report, by a text or a file; NaN is null, as JSON wants it."""
    text = report.to_json()
    assert json.loads(text)["scoring"] == "accuracy"
    assert "NaN" not in text
    path = tmp_path / "report.json"
    assert report.to_json(path) is None
    for source in (text, path, str(path)):
        again = StitchingReport.from_json(source)
        for field in dataclasses.fields(report):
            assert_array_equal(getattr(again, field.name), getattr(report, field.name))
            assert type(getattr(again, field.name)) is type(getattr(report, field.name))
        assert str(again) == str(report)


def changed(report, **changes):
    """Return the JSON of a report with other values, and their digest."""
    content = json.loads(report.to_json())
    del content["sha256"]
    return dump_json(content | changes)


@pytest.mark.parametrize("text", ['{"a": 1}', "{}", "{", '{"a":' * 10**5, "{\udcff"])
def test_other_json_is_refused(text, tmp_path):
    """Not every JSON is a report."""
    path = tmp_path / "report.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    for source in (text, path):
        with pytest.raises(ValueError, match=r"must be a report written by .*; got an"):
            StitchingReport.from_json(source)
    for content in (b"", b"[]", b"null", b"\xff"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"must be a report written by .*; got an"):
            StitchingReport.from_json(path)


SHAPE = [1, 2, 1, 1, 2, 2]


@pytest.mark.parametrize(
    "changes",
    [
        {"scores": 3},
        {"scores": None},
        {"scores": [0.5]},
        {"scores": {}},
        {"scores": {"shape": SHAPE}},
        {"scores": {"shape": SHAPE, "values": [0.5] * 7}},
        {"scores": {"shape": SHAPE, "values": ["0.5"] * 8}},
        {"scores": {"shape": SHAPE, "values": [True] * 8}},
        {"scores": {"shape": SHAPE, "values": [[0.5]] * 8}},
        {"scores": {"shape": SHAPE, "values": 8}},
        {"scores": {"shape": [8], "values": [0.5] * 8}},
        {"scores": {"shape": [1, 2, 1, 2, 2], "values": [0.5] * 8}},
        {"scores": {"shape": [1, 2, 1, 0, 2, 2], "values": []}},
        {"scores": {"shape": "ab", "values": []}},
        {"scores": {"shape": [10**30], "values": []}},
        {"resampled": {"shape": SHAPE, "values": [0.5]}},
        {"resampled": {"shape": [1, *SHAPE], "values": [0.5] * 8}},
        {"spaces": ["a"]},
        {"spaces": ["a", "a"]},
        {"spaces": ["a", 3]},
        {"spaces": ["a", ["b"]]},
        {"spaces": "ab"},
        {"spaces": ["a", "b", "c"]},
        {"methods": ["own", "retrained"]},
        {"methods": ["own", "stitched", "best"]},
        {"methods": []},
        {"n_anchors": []},
        {"n_anchors": [0]},
        {"n_anchors": [2.5]},
        {"n_anchors": [20, 10]},
        {"n_anchors": ["ten"]},
        {"n_anchors": 10},
        {"scoring": None},
        {"scoring": ["accuracy"]},
        {"votes": 1},
        {"measures": []},
        {"measures": "score"},
        {"measures": ["accuracy"]},
        {"measures": ["score", "score"]},
        {"measures": ["score", "negative_flips"]},
        {"measures": [["score"]]},
        {"format": "skinvariant.OtherReport"},
        {"format": 1},
        {"seeds": 3},
    ],
    ids=repr,
)
def test_a_report_is_checked_while_it_is_read(changes):
    """Every field, though the digest is right: nothing fails at the first print."""
    report = report_of(np.full(SHAPE[1:], 0.5))
    assert StitchingReport.from_json(changed(report)).scores.shape == tuple(SHAPE)
    with pytest.raises(ValueError, match=r"must be a report written by .*; got an"):
        StitchingReport.from_json(changed(report, **changes))


@pytest.mark.parametrize("key", ["format", "scores", "spaces", "votes", "sha256"])
def test_a_report_without_a_field(key):
    """It is named."""
    content = json.loads(report_of(np.full(SHAPE[1:], 0.5)).to_json())
    del content[key]
    with pytest.raises(ValueError, match=rf"must have the keys \['{key}'\]"):
        StitchingReport.from_json(json.dumps(content))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "0.25"])
def test_other_numbers_in_a_report(number):
    """JSON has neither NaN nor infinity, and another number is another report."""
    text = report_of(np.full(SHAPE[1:], 0.5)).to_json()
    with pytest.raises(ValueError, match="must be a report written by"):
        StitchingReport.from_json(text.replace("0.5", number, 1))


def test_damaged_reports(report, tmp_path, damages):
    """Each is the same report, or a ValueError."""
    path, refused = tmp_path / "report.json", 0
    for content in damages(report_of(np.full(SHAPE[1:], 0.5)).to_json().encode(), 500):
        path.write_bytes(content)
        try:
            again = StitchingReport.from_json(path)
        except ValueError as error:
            refused += "must be a report written by" in str(error)
            continue
        assert_array_equal(again.scores, np.full(SHAPE, 0.5))
        assert again.methods == ("own", "stitched")
    assert refused > 480


@pytest.mark.parametrize(
    ("error", "changes"),
    [
        (ValueError, {"methods": ("own", "stitch")}),
        (TypeError, {"spaces": "ab"}),
        (ValueError, {"scores": np.zeros((2, 1, 1, 3, 3))}),
        (TypeError, {"scores": np.full(SHAPE, "0.5")}),
        (TypeError, {"n_anchors": 10}),
    ],
)
def test_a_report_is_checked_while_it_is_made(error, changes):
    """Also by its constructor."""
    with pytest.raises(error, match="must be"):
        dataclasses.replace(report_of(np.full(SHAPE[1:], 0.5)), **changes)


def test_the_frame_has_each_score_once(report):
    """Where it belongs: its groups have the means that the report has."""
    pytest.importorskip("pandas")
    frame = report.to_frame()
    names = ["measure", "method", "head", "encoder", "n_anchors", "seed", "score"]
    assert list(frame.columns) == names
    assert not frame.duplicated(names[:-1]).any()
    assert set(frame["measure"]) == set(report.measures)
    flips = frame.query("measure == 'negative_flips'")
    assert len(flips) == 2 * 2 * len(report.methods) * 6
    for method, part in flips.groupby("method"):
        means = [
            report.interval(method, measure="negative_flips", n_anchors=k)[0]
            for k in report.n_anchors
        ]
        assert_allclose(part["score"].mean(), np.mean(means))
    frame = frame[frame["measure"] == "score"]
    one_space = {"own", "majority", "few_shot", "retrained"}
    assert len(frame) == 2 * 2 * (4 * 3 + (len(report.methods) - 4) * 6)
    for (method, count), part in frame.groupby(["method", "n_anchors"]):
        same = part["head"] == part["encoder"]
        assert same.all() if method in one_space else not same.any()
        mean = report.interval(method, n_anchors=count)[0]
        assert_allclose(part["score"].mean(), mean)
    cell = frame.query("method == 'stitched' and head == 'c' and encoder == 'a'")
    cell = cell.query("n_anchors == 10 and seed == 1")["score"].item()
    assert cell == report.scores[0, 1, 0, 1, 2, 0]


def test_the_frame_needs_pandas(report, monkeypatch):
    """Without pandas the error gives the command."""
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "pandas":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install pandas"):
        report.to_frame()


def test_the_gate_looks_at_the_worst_pair():
    """One pair below is enough to fail, the mean is no help, and equal passes."""
    own = np.full((2, 2), 0.8)
    report = report_of([[[own]], [[np.array([[0.8, 0.8], [0.4, 0.8]])]]])
    assert report.passes(0.5)
    assert not report.passes(0.51)
    assert not report.passes()
    assert_array_equal(report.stitching_index(), [[1, 1], [0.5, 1]])


def test_scores_that_are_not_positive_have_no_index():
    """The ratio of two losses would call the worse one better."""
    own, stitched = np.full((2, 2), -0.5), np.array([[-0.5, -2.0], [-1.0, -0.5]])
    report = report_of([[[own]], [[stitched]]])
    with pytest.raises(ValueError, match=r"must be positive; got -0.5 by"):
        report.passes()
    text = str(report)
    assert "keeps" not in text
    assert "Worst pair: head from a under encoder b, at -2.000." in text


def test_the_best_baseline_is_one_that_can_stand_in_for_stitching():
    """Not the ceiling; and not one that some pairs lack."""
    methods = ("own", "stitched", "absolute", "translate_ridge", "few_shot")
    methods += ("retrained",)
    levels = np.array([0.9, 0.8, 0.89, 0.7, 0.6, 0.95])
    scores = np.ones((6, 1, 1, 2, 2)) * levels[:, None, None, None, None]
    assert report_of(scores, methods=methods).best_baseline() == "absolute"
    scores[2, ..., 0, 1] = np.nan
    assert report_of(scores, methods=methods).best_baseline() == "translate_ridge"
    assert report_of(scores[:2]).best_baseline() is None


@pytest.mark.parametrize(
    ("lead", "verdict"),
    [
        (0.1, "Stitch."),
        (0.002, "do not show which of the two is better"),
        (-0.1, "Better translate, or stitch a vote (InvariantVotingClassifier"),
    ],
)
def test_the_verdict_follows_from_the_paired_interval(lead, verdict):
    """Stitch, translate, or undecided; with the figures that decide."""
    methods = ("own", "stitched", "majority", "translate_ridge")
    levels = np.array([0.9, 0.6 + lead, 0.3, 0.6])[:, None, None, None, None]
    by_seed = np.array([[-1, 0, 1], [1, -2, 1], [0, 0, 0], [-1, 2, -1]]) / 128
    scores = (levels + by_seed[:, None, :, None, None]) * np.ones((2, 2))
    text = report_of(scores, methods=methods).summary()
    assert verdict in text
    assert f"Stitching minus this: {lead:+.3f}, 95% interval" in text
    assert "translation (ridge): 0.600." in text
    assert "no better than the majority" not in text


def test_the_verdict_names_a_remedy_that_was_not_tried():
    """A vote is no remedy for a vote."""
    own, stitched, ridge = (np.full((1, 3, 2, 2), x) for x in (0.9, 0.5, 0.8))
    scores = [own, stitched, ridge] + np.linspace(0, 0.01, 3)[:, None, None]
    report = report_of(scores, methods=("own", "stitched", "translate_ridge"))
    assert "Better translate, or stitch a vote" in report.summary()
    report = dataclasses.replace(report, votes=True)
    assert "Better translate, or stitch with more anchors." in report.summary()
    assert StitchingReport.from_json(report.to_json()).votes is True


def test_the_report_records_whether_the_model_is_a_vote():
    """Also as the last step of a pipeline."""
    pair = make_related_spaces(120, n_classes=3, random_state=0)
    spaces = {
        "old": (pair.X_a[:80], pair.X_a[80:]),
        "new": (pair.X_b[:80], pair.X_b[80:]),
    }
    given = spaces, (pair.y[:80], pair.y[80:])
    few = {"baselines": [], "n_seeds": 1, "n_resamples": 0, "random_state": 0}
    vote = InvariantVotingClassifier(n_anchors=20)
    report = cross_stitch(vote, *given, **few)
    assert report.votes
    assert report.matrix()[0, 1] > 0.9 * report.matrix("own")[0, 0]
    product = make_pipeline(InvariantAggregator(20), LogisticRegression())
    assert not cross_stitch(product, *given, **few).votes


def test_without_an_interval_there_is_no_verdict():
    """One seed and no resamples show no difference, nor that there is none."""
    levels = np.array([0.9, 0.8, 0.6])[:, None, None, None, None]
    methods = ("own", "stitched", "translate_ridge")
    text = report_of(levels * np.ones((2, 2)), methods=methods).summary()
    assert "Stitching minus this: +0.200, without an interval, " in text
    assert "which two seeds or two resamples would give." in text
    assert "nan" not in text
    assert "Stitch." not in text
    assert "do not show" not in text


def test_without_scores_there_is_no_verdict():
    """A scorer that returns NaN leaves no worst pair."""
    report = report_of(np.full((2, 1, 1, 2, 2), np.nan))
    text = report.summary()
    assert text.endswith("No pair of a head and another encoder has a stitched score.")
    assert "inf" not in text
    with pytest.raises(ValueError, match="must be positive; got nan"):
        report.passes(0)


VERDICTS = ("Stitch.", "Better", "do not show", "Not tried")


@pytest.mark.parametrize("missing", [np.nan, -np.inf])
def test_without_some_scores_there_is_no_verdict(missing):
    """The pairs that have none could be the bad ones."""
    levels = np.array([0.9, 0.8, 0.6])[:, None, None, None, None]
    scores = levels + np.zeros((3, 1, 3, 3, 3))
    scores[1, 0, 2, 0, 1] = missing  # one seed
    methods = ("own", "stitched", "translate_ridge")
    report = report_of(scores, scores, methods=methods)
    text = report.summary()
    assert "No verdict: 1 of 6 pairs have no stitched score (NaN)." in text
    assert re.search(r"\nstitched .* \(5 of 6 pairs\)\n", text)
    assert not any(verdict in text for verdict in VERDICTS)
    assert " nan" not in text
    assert "inf" not in text
    with pytest.raises(ValueError, match=r"got 1 of 9 without \(NaN\)"):
        report.passes(0)


def test_without_scores_of_some_resamples_there_is_no_verdict():
    """Those that are undefined may be the extreme ones."""
    levels = np.array([0.9, 0.8, 0.6])[:, None, None, None, None]
    resampled = levels + np.random.default_rng(0).random((3, 1, 9, 2, 2)) / 99
    resampled[1, 0, 4, 0, 1] = np.nan
    methods = ("own", "stitched", "translate_ridge")
    scores = levels + np.zeros((3, 1, 2, 2, 2))
    report = report_of(scores, resampled, methods=methods)
    text = report.summary()
    assert "Stitching minus this: +0.200, without an interval, " in text
    assert text.endswith("since some resampled rows have no score (NaN).")
    assert np.isnan(report.interval("stitched")[1:]).all()
    assert np.isfinite(report.interval("own")).all()


def test_the_summary_names_the_worst_pair_and_useless_ones():
    """A person reads which encoder not to swap for which."""
    own = np.array([[0.8, 0.8], [0.4, 0.4]])
    stitched = np.array([[0.8, 0.32], [0.2, 0.4]])  # the lowest one keeps more
    methods, floor = ("own", "stitched", "majority"), np.full((2, 2), 0.32)
    report = report_of([[[own]], [[stitched]], [[floor]]], methods=methods)
    text = str(report)
    assert re.search(r"stitched +0.260 +\? +0.200  head from b under encoder a\n", text)
    assert "Stitching keeps 0.45 of the head's own score." in text
    assert "Worst pair: head from a under encoder b, which keeps 0.40." in text
    assert "In 2 of 2 pairs the stitched score is no higher than the majority's" in text
    assert repr(report).startswith("StitchingReport(spaces=('a', 'b')")


def test_a_curve_has_a_line_for_each_method(report):
    """The largest number is the report's, the others have their own lines."""
    text = str(report)
    assert "3 spaces, 30 anchors, 2 seed(s), scoring: accuracy" in text
    assert "10 anchors" in report.summary(n_anchors=10)
    line = next(x for x in text.splitlines()[::-1] if x.startswith("stitched"))
    means = [report.interval("stitched", n_anchors=k)[0] for k in (10, 30)]
    assert line.split()[1:] == [f"{mean:.3f}" for mean in means]


def test_what_a_report_does_not_have(report):
    """Errors name what there is."""
    with pytest.raises(ValueError, match=r"method must be one of \['absolute'"):
        report.matrix("translate")
    with pytest.raises(ValueError, match=r"one of \[10, 30\]; got 20"):
        report.matrix(n_anchors=20)
    with pytest.raises(ValueError, match=r"pair must name .* \['a', 'b', 'c'\]"):
        report.interval(pair=("a", "z"))
    with pytest.raises(ValueError, match=r"confidence must lie in \(0, 1\); got 1"):
        report.interval(confidence=1)


# a user's mistakes


def wrong(spaces, name, X_train=None, X_test=None):
    """Return the spaces with one of them changed."""
    old = spaces[name]
    new = tuple(
        b if b is not None else a for a, b in zip(old, (X_train, X_test), strict=True)
    )
    return spaces | {name: new}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: list(s.values()), "must be a mapping of names"),
        (lambda s: {"a": s["a"]}, r"at least 2; got \['a'\]"),
        (lambda s: s | {1: s["a"]}, "must be strings; got 1"),
        (lambda s: s | {"b": s["b"][0]}, r"\['b'\] must be a pair .*; got ndarray"),
        (lambda s: s | {"b": (*s["b"], s["b"][0])}, r"be a pair .*; got tuple of 3"),
        (lambda s: s | {"b": s["b"][:1]}, r"must be a pair .*; got tuple of 1"),
        (lambda s: s | {"b": np.zeros((2, 80, 4))}, r"be a pair .*; got ndarray"),
        (lambda s: s | {"b": {0: s["b"][0], 1: s["b"][1]}}, "be a pair .*; got dict"),
        (lambda s: s | {"b": [s["b"][0][0], s["b"][1]]}, "Expected 2D array"),
        (lambda s: wrong(s, "b", s["b"][0][1:]), "'a' with 80 rows, of 'b' with 79"),
        (lambda s: wrong(s, "c", None, s["c"][1][1:]), "60 rows, of 'c' with 59"),
        (lambda s: wrong(s, "c", None, s["b"][1]), "4 features, X_test with 6"),
        (lambda s: wrong(s, "c", s["c"][0] * np.nan), r"X_train of spaces\['c'\]"),
    ],
)
def test_wrong_spaces(data, change, message):
    """Each error names the space, what it must be and what it is."""
    spaces, y = data
    with pytest.raises((TypeError, ValueError), match=message):
        cross_stitch(linear(), change(spaces), y, **CHEAP)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"baselines": ["translate"]}, r"baselines must be one of \['absolute'"),
        ({"n_anchors": 81}, "n_anchors must be at most the 80 training rows; got 81"),
        ({"n_anchors": []}, "at least one number; got none"),
        ({"n_anchors": [10, 2.5]}, "n_anchors must be an integer"),
        ({"n_anchors": [0, 3]}, r"n_anchors must be an integer in \[1"),
        ({"n_seeds": 0}, r"n_seeds must be an integer in \[1"),
        ({"n_resamples": -1}, r"n_resamples must be an integer in \[0"),
        ({"scoring": ["accuracy", "f1"]}, "a string or a callable"),
        ({"scoring": accuracy_score}, "make_scorer"),
        ({"scoring": "accurate"}, "'accurate'"),
    ],
)
def test_wrong_parameters(data, params, message):
    """Each error states what it must be and what was got."""
    spaces, y = data
    with pytest.raises((TypeError, ValueError), match=message):
        cross_stitch(linear(), spaces, y, **CHEAP | params)


def test_wrong_targets(data):
    """A pair, as long as the rows."""
    spaces, (y_train, y_test) = data
    with pytest.raises(ValueError, match=r"y must be a pair .*; got ndarray"):
        cross_stitch(linear(), spaces, y_train, **CHEAP)
    with pytest.raises(ValueError, match=r"y must be a pair .*; got tuple of 3"):
        cross_stitch(linear(), spaces, (y_train, y_test, y_test), **CHEAP)
    with pytest.raises(ValueError, match=r"y must be a pair .*; got list of 1"):
        cross_stitch(linear(), spaces, [y_train], **CHEAP)
    with pytest.raises(ValueError, match=r"y must be a pair .*; got dict"):
        cross_stitch(linear(), spaces, {0: y_train, 1: y_test}, **CHEAP)
    with pytest.raises(ValueError, match=r"y must be a pair .*; got ndarray"):
        cross_stitch(linear(), spaces, np.array([y_test, y_test]), **CHEAP)
    with pytest.raises(
        ValueError, match=r"y_test must have .* 60 .* got shape \(59,\)"
    ):
        cross_stitch(linear(), spaces, (y_train, y_test[1:]), **CHEAP)


def test_targets_of_different_shapes(data):
    """A column against rows would be compared as a table of all with all."""
    spaces, (y_train, y_test) = data
    column, columns = y_train[:, None], y_test[:, None]
    for y in ((y_train, columns), (column, y_test), (y_train, np.c_[y_test, y_test])):
        with pytest.raises(ValueError, match=r"have the same columns; got shapes \("):
            cross_stitch(linear(), spaces, y, **CHEAP)
    with pytest.raises(ValueError, match=r"one label; got shapes \(80, 1\)"):
        cross_stitch(linear(), spaces, (column, columns), **CHEAP)
    model = make_pipeline(RelativeProjector(20), Ridge())
    how = {"baselines": FREE, **CHEAP}
    one, two = (
        cross_stitch(model, spaces, y, **how)
        for y in ((y_train, y_test), (column, columns))
    )
    assert_allclose(two.scores, one.scores)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (lambda y: np.where(y, y, np.nan), "contains NaN"),
        (lambda y: [None if label == 1 else "a" for label in y], "'NoneType', 'str'"),
        (lambda y: [label or "a" for label in y.tolist()], r"types \['int', 'str'\]"),
        (lambda y: np.array([str(label).encode() for label in y]), "bytes"),
        (lambda y: y + 0.5, "continuous"),
        (lambda y: [{label} for label in y], r"types \['set'\]"),
        (lambda y: [[label] * label for label in y.tolist()], "multi-label|inhomogen"),
        (lambda y: np.eye(3, dtype=int)[y], "one label; got shapes"),
        (lambda y: np.array(["2020", "2021", "NaT"], "M8[D]")[y], "NaT"),
    ],
)
def test_labels_of_no_kind(data, labels, message):
    """Missing, mixed, continuous or several: refused before any fit."""
    spaces, y = data
    both = tuple(labels(part) for part in y)
    with pytest.raises(ValueError, match=message):
        cross_stitch(linear(), spaces, both, **CHEAP)
    if "shapes" not in message:
        with pytest.raises(ValueError, match=rf"y_test must be one label.*({message})"):
            cross_stitch(linear(), spaces, (y[0], both[1]), **CHEAP)


@pytest.mark.parametrize(
    "kind",
    [
        lambda y: y == 1,
        lambda y: y - 1.0,
        lambda y: np.array(["one", "two", "three"])[y],
        lambda y: np.array(["one", "two", "three"], dtype=object)[y],
        lambda y: np.array(["2020", "2021", "2022"], "M8[D]")[y],
    ],
)
def test_labels_of_any_kind(data, kind):
    """Their names do not matter, nor what indexes them: rows go by position."""
    spaces, y = data
    spaces = {name: spaces[name] for name in "ab"}
    y = tuple(kind(part) for part in y)
    numbers = tuple(np.searchsorted(np.unique(y[0]), part) for part in y)
    how = {"baselines": ["few_shot"], "random_state": 0}
    how |= {"n_seeds": 1, "n_resamples": 3}
    expected = cross_stitch(linear(), spaces, numbers, **how)
    found = [cross_stitch(linear(), spaces, y, **how)]
    if y[0].dtype.kind != "M":
        pd = pytest.importorskip("pandas")
        index = [[(0, i % 2) for i in range(len(part))] for part in y]
        series = tuple(map(pd.Series, y, index))
        frames = {name: tuple(map(pd.DataFrame, spaces[name], index)) for name in "ab"}
        found.append(cross_stitch(linear(), frames, series, **how))
    for report in found:
        assert_array_equal(report.scores, expected.scores)
        assert_array_equal(report.resampled, expected.resampled)


@pytest.mark.parametrize("kind", [int, str])
def test_accuracies_of_resamples_are_those_of_scikit_learn(data, kind):
    """They are counted, since the scorer is slow."""
    spaces, y = data
    y = tuple(part.astype(kind) for part in y)
    how = {"baselines": ["majority", "few_shot"], **CHEAP, "n_resamples": 5}
    counted = cross_stitch(linear(), spaces, y, **how)
    scorer = make_scorer(accuracy_score)
    scored = cross_stitch(linear(), spaces, y, scoring=scorer, **how)
    assert_array_equal(counted.scores, scored.scores)
    assert_array_equal(counted.resampled, scored.resampled)


class ColumnReader(Reader):
    """Predicts a column, as some models do."""

    def predict(self, X):
        """Return the first feature, as a table of one column."""
        return super().predict(X)[:, None]


def test_predictions_that_are_a_column(data):
    """They are not compared as n x n."""
    _, (y_train, y_test) = data
    rows = tuple(part[:, None] * np.ones(3) + [[0, 7, 9]] for part in (y_train, y_test))
    report = cross_stitch(
        linear(),
        {"a": rows, "b": rows},
        (y_train, y_test),
        head=ColumnReader(),
        baselines=["retrained"],
        **CHEAP | {"n_resamples": 2},
    )
    assert (report.matrix("retrained") == 1).all()
    assert (report.resampled[0, 2] == 1).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_targets_of_a_regressor_that_are_not_finite(data, value):
    """Nor words."""
    spaces, y = data
    model = make_pipeline(RelativeProjector(20), Ridge())
    for bad in (np.where(y[1] == 0, value, 1.0), np.array(["a", "b"])[y[1] % 2]):
        with pytest.raises(ValueError, match=r"y_test|Convert"):
            cross_stitch(model, spaces, (y[0], bad), **CHEAP)


def test_labels_that_are_not_trained_on(data):
    """Words against numbers would all be wrong; a single unknown label is named."""
    spaces, (y_train, y_test) = data
    words = np.array(["x", "y", "z"])
    with pytest.raises(ValueError, match=r"\['x', 'y', 'z'\]; got \[0, 1, 2\]"):
        cross_stitch(linear(), spaces, (words[y_train], y_test), **CHEAP)
    one_more = np.where(np.arange(60) == 7, 9, y_test)
    with pytest.raises(ValueError, match=r"y_train, \[0, 1, 2\]; got \[9\]"):
        cross_stitch(linear(), spaces, (y_train, one_more), **CHEAP)
    how = {"baselines": [], **CHEAP}
    integers, floats = (
        cross_stitch(linear(), spaces, (y_train, y_test.astype(dtype)), **how)
        for dtype in (int, float)
    )
    assert_array_equal(integers.scores, floats.scores)


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        RelativeProjector(),
        make_pipeline(StandardScaler(), RelativeProjector(), LogisticRegression()),
        make_pipeline(RelativeProjector(), StandardScaler()),
        make_pipeline(FrozenEstimator(RelativeProjector()), LogisticRegression()),
    ],
)
def test_wrong_models(data, model):
    """No projecting step, one that is not the first, or no head."""
    spaces, y = data
    with pytest.raises(TypeError, match="model must be a classifier or regressor"):
        cross_stitch(model, spaces, y, **CHEAP)


def test_wrong_numbers_of_given_anchors(data):
    """All rows are all, and of given anchors there are no more."""
    spaces, y = data
    with pytest.raises(ValueError, match=r"must be None with anchors='all'; got 10"):
        cross_stitch(linear(anchors="all"), spaces, y, n_anchors=10, **CHEAP)
    with pytest.raises(ValueError, match="at most the 7 given anchors; got 9"):
        cross_stitch(linear(anchors=range(7)), spaces, y, n_anchors=9, **CHEAP)
