"""Anchors: which rows each strategy chooses, and what it may depend on."""

import contextlib
import re

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.sparse import csr_array, csr_matrix, issparse
from scipy.spatial.distance import cdist
from sklearn import config_context
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.utils import check_random_state

from skinvariant import (
    InvariantAggregator,
    InvariantVotingClassifier,
    InvariantVotingRegressor,
    RelativeProjector,
    cross_stitch,
    stitch,
)
from skinvariant.anchors import (
    STRATEGIES,
    choose_anchors,
    farthest_anchors,
    kmeans_anchors,
    random_anchors,
    select_anchors,
    stratified_anchors,
)
from skinvariant.persistence import load, save

N_SAMPLES = 60
DRAWN = sorted(set(STRATEGIES) - {"all"})
BLIND = ("random", "stratified")
CONTAINERS = [
    "numpy.asarray",
    "scipy.sparse.csr_array",
    "scipy.sparse.csr_matrix",
    "array_api_strict.asarray",
    "torch.asarray",
]


@pytest.fixture
def make(request):
    """Return what makes an array, from its dotted name, if it is installed."""
    module, _, name = request.param.rpartition(".")
    return getattr(pytest.importorskip(module), name)


def labelled_space(seed=0):
    """Rows of six well separated classes, of 24, 15, 10, 5, 3 and 3."""
    y = np.repeat(np.arange(6), [24, 15, 10, 5, 3, 3])
    rng = np.random.default_rng(seed)
    order = rng.permutation(N_SAMPLES)
    centres = 200 * np.eye(6)[:, :4] - 50 * np.arange(6)[:, None]
    return (centres[y] + rng.standard_normal((N_SAMPLES, 4)))[order], y[order]


def assert_distinct(indices, n_anchors, n_samples=N_SAMPLES):
    """Check that these are as many different rows as asked for."""
    assert indices.shape == (n_anchors,)
    assert indices.dtype == np.intp
    assert len(set(indices.tolist()) & set(range(n_samples))) == n_anchors


# --- every strategy -------------------------------------------------------------


@pytest.mark.parametrize("n_anchors", [1, 7, N_SAMPLES])
@pytest.mark.parametrize("name", DRAWN)
def test_anchors_are_distinct_rows(name, n_anchors):
    """Each strategy chooses as many different rows as asked for."""
    X, y = labelled_space()
    assert_distinct(choose_anchors(name, X, y, n_anchors, 0), n_anchors)


@pytest.mark.parametrize("n_anchors", [1, 7, 1000])
def test_all_rows(n_anchors):
    """The strategy "all" takes every row in order, whatever n_anchors is."""
    X, y = labelled_space()
    assert_array_equal(choose_anchors("all", X, y, n_anchors), np.arange(N_SAMPLES))
    assert_array_equal(STRATEGIES["all"](X), np.arange(N_SAMPLES))


@pytest.mark.parametrize("name", DRAWN)
def test_random_state(name):
    """The same seed chooses the same rows; seeds differ; a state is used up."""
    X, y = labelled_space()
    chosen = [choose_anchors(name, X, y, 9, seed).tolist() for seed in range(6)]
    again = [choose_anchors(name, X, y, 9, seed).tolist() for seed in range(6)]
    state = np.random.RandomState(0)
    drawn = [choose_anchors(name, X, y, 9, state).tolist() for _ in range(6)]
    assert chosen == again
    assert chosen[0] == drawn[0]
    assert min(len(set(map(tuple, draws))) for draws in (chosen, drawn)) > 1


@pytest.mark.parametrize("name", DRAWN)
def test_the_function_is_the_strategy(name):
    """A strategy by name is the function of the registry, and nothing more."""
    X, y = labelled_space()
    expected = STRATEGIES[name](X, y, 9, 3)
    assert_array_equal(choose_anchors(name, X, y, 9, 3), expected)


@pytest.mark.parametrize("name", STRATEGIES)
def test_nothing_else_is_touched(name):
    """With a seed, neither numpy's global generator nor the rows change."""
    X, y = labelled_space()
    X.setflags(write=False)
    before = check_random_state(None).get_state(legacy=False)["state"]
    choose_anchors(name, X, y, 9, 0)
    after = check_random_state(None).get_state(legacy=False)["state"]
    assert_array_equal(before["key"], after["key"])
    assert before["pos"] == after["pos"]


@pytest.mark.parametrize("make", CONTAINERS, indirect=True)
@pytest.mark.parametrize("name", STRATEGIES)
def test_any_container(name, make):
    """Sparse rows and arrays of other libraries give the anchors of numpy."""
    X, y = labelled_space()
    chosen = choose_anchors(name, make(X), y, 6, 0)
    assert type(chosen) is np.ndarray
    assert_array_equal(chosen, choose_anchors(name, X, y, 6, 0))


@pytest.mark.parametrize("name", DRAWN)
def test_more_anchors_than_rows(name):
    """Where rows are few, all become anchors, and a warning names both numbers."""
    X, y = labelled_space()
    with pytest.warns(UserWarning, match="n_anchors=61 is more than n_samples=60"):
        chosen = choose_anchors(name, X, y, 61, 0)
    assert_distinct(chosen, N_SAMPLES)


@pytest.mark.parametrize("name", DRAWN)
def test_one_row(name):
    """Of a single row, that row is chosen."""
    assert choose_anchors(name, np.zeros((1, 3)), [0], 1, 0).tolist() == [0]


# --- random and stratified ------------------------------------------------------


@pytest.mark.parametrize("name", BLIND)
def test_corresponding_spaces_have_parallel_anchors(name):
    """Anchors of corresponding spaces are the same rows: values do not matter."""
    X, y = labelled_space()
    other = csr_array(np.random.default_rng(1).random((N_SAMPLES, 11)))
    expected = choose_anchors(name, X, y, 9, 0)
    assert_array_equal(choose_anchors(name, other, y, 9, 0), expected)


def test_random_anchors_ignore_labels():
    """Random anchors are the same with any labels, or none."""
    X, y = labelled_space()
    expected = random_anchors(X, n_anchors=9, random_state=0)
    assert_array_equal(random_anchors(X, y, 9, 0), expected)


@pytest.mark.parametrize("strategy", [random_anchors, farthest_anchors])
def test_fewer_anchors_are_the_first_of_more(strategy):
    """Draws are nested, so that a curve over the number of anchors is one draw."""
    X, _ = labelled_space()
    more = strategy(X, n_anchors=N_SAMPLES, random_state=0)
    for n_anchors in (1, 9, 59):
        fewer = strategy(X, n_anchors=n_anchors, random_state=0)
        assert_array_equal(fewer, more[:n_anchors])


def test_random_anchors_are_uniform():
    """Every row is equally often chosen, within the spread of fair draws."""
    X = np.zeros((10, 1))
    seeds = range(3000)
    chosen = [random_anchors(X, n_anchors=3, random_state=seed) for seed in seeds]
    counts = np.bincount(np.concatenate(chosen))
    # binomial of 3000 draws at 3 / 10; five standard deviations
    assert np.abs(counts - 900).max() < 5 * np.sqrt(3000 * 0.3 * 0.7)


@pytest.mark.parametrize("n_anchors", [12, 24, 36, 48, 60])
def test_stratified_anchors_have_the_shares_of_the_classes(n_anchors):
    """Each class has its share of the anchors: exactly where it comes out even."""
    X, y = labelled_space()
    counts = np.bincount(y[stratified_anchors(X, y, n_anchors, 0)], minlength=6)
    shares = np.bincount(y) * n_anchors / N_SAMPLES
    even = shares == shares.round()
    assert even.sum() >= 3
    assert_array_equal(counts[even], shares[even])
    assert np.abs(counts - shares).max() <= 1


@pytest.mark.parametrize("n_anchors", range(1, 8))
def test_few_stratified_anchors(n_anchors):
    """With fewer anchors than classes, the large classes come first."""
    X, y = labelled_space()
    counts = np.bincount(y[stratified_anchors(X, y, n_anchors, 0)], minlength=6)
    shares = np.bincount(y) * n_anchors / N_SAMPLES
    assert counts.sum() == n_anchors
    assert (counts >= np.floor(shares)).all()
    assert (counts <= np.ceil(shares)).all()


@pytest.mark.parametrize(
    "relabel",
    [
        np.ndarray.tolist,
        lambda y: y[:, None],
        lambda y: y.astype(float),
        lambda y: np.array([*"abcdef"])[y],
        lambda y: np.array([*"abcdef"], dtype=object)[y],
        lambda y: pytest.importorskip("torch").asarray(y),
        lambda y: pytest.importorskip("pandas").Series(y, index=y[::-1]),
    ],
)
def test_labels_of_any_kind(relabel):
    """Labels may be numbers or text in any container: only their order matters."""
    X, y = labelled_space()
    expected = stratified_anchors(X, y, 9, 0)
    assert_array_equal(choose_anchors("stratified", X, relabel(y), 9, 0), expected)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, r"'stratified' requires y to be passed, but the target y is None"),
        (np.linspace(0, 1, N_SAMPLES), r"Unknown label type: continuous"),
        (np.eye(N_SAMPLES, 3, dtype=int), r"Unknown label type: multilabel"),
        (np.arange(120).reshape(-1, 2), r"label type: multiclass-multioutput"),
        (np.zeros(7), r"inconsistent numbers of samples: \[60, 7\]"),
    ],
)
def test_labels_that_are_no_classes(y, message):
    """Stratified anchors without one class per row are an error that says so."""
    with pytest.raises(ValueError, match=message):
        choose_anchors("stratified", labelled_space()[0], y, 9, 0)


# --- kmeans ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("seed", range(5))
def test_kmeans_finds_the_middle_of_each_cluster(seed, dtype):
    """Of separate clusters, the row nearest to the mean of each is chosen."""
    X, y = labelled_space(seed)
    X = X.astype(dtype)
    expected = set()
    for label in range(6):
        members = np.flatnonzero(y == label)
        gaps = np.linalg.norm(X[members] - X[members].mean(axis=0), axis=1)
        expected.add(members[gaps.argmin()])
    assert set(kmeans_anchors(X, n_anchors=6, random_state=seed)) == expected


@pytest.mark.parametrize("make", CONTAINERS, indirect=True)
def test_kmeans_with_few_distinct_rows(make):
    """Of rows that repeat, each value is chosen, and the rest are other rows."""
    X = np.repeat([[0.0, 1], [5, 5], [9, 0]], 4, axis=0)
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(3\)"):
        chosen = kmeans_anchors(make(X), n_anchors=7, random_state=0)
    assert_distinct(chosen, 7, 12)
    assert_array_equal(np.unique(X[chosen], axis=0), np.unique(X, axis=0))


def test_kmeans_with_equal_rows():
    """Where all rows are equal, any distinct ones do."""
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(1\)"):
        chosen = kmeans_anchors(np.ones((8, 2)), n_anchors=5, random_state=0)
    assert_distinct(chosen, 5, 8)


def test_kmeans_of_one_anchor():
    """A single anchor is the row nearest to the mean."""
    X, _ = labelled_space()
    expected = np.linalg.norm(X - X.mean(axis=0), axis=1).argmin()
    assert kmeans_anchors(X, n_anchors=1, random_state=0).tolist() == [expected]


# --- farthest -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("seed", range(5))
def test_each_farthest_anchor_is_the_farthest(seed, dtype):
    """After the first, each anchor is as far as can be from those before it."""
    X = labelled_space(seed)[0].astype(dtype)
    chosen = farthest_anchors(X, n_anchors=25, random_state=seed)
    assert_distinct(chosen, 25)
    distance = cdist(X, X)
    for k in range(1, 25):
        to_nearest = distance[:, chosen[:k]].min(axis=1)
        # squares of distances are expanded: off by some eps of the squared norms
        assert to_nearest[chosen[k]] >= to_nearest.max() * (1 - 1e-9)


def test_first_farthest_anchor_is_drawn():
    """The first anchor is drawn among all rows, and no row is left out."""
    X = np.zeros((5, 1))
    firsts = [farthest_anchors(X, n_anchors=1, random_state=s)[0] for s in range(60)]
    assert set(firsts) == set(range(5))


@pytest.mark.parametrize("make", CONTAINERS, indirect=True)
def test_farthest_with_few_distinct_rows(make):
    """Of rows that repeat, each value comes first, and then other rows."""
    X = np.repeat([[0.0, 1], [5, 5], [9, 0]], 4, axis=0)
    chosen = farthest_anchors(make(X), n_anchors=7, random_state=0)
    assert_distinct(chosen, 7, 12)
    assert_array_equal(np.unique(X[chosen[:3]], axis=0), np.unique(X, axis=0))


# --- indices and callables ------------------------------------------------------


@pytest.mark.parametrize(
    "indices", [[4, 2], (4, 2), np.array([4, 2], np.int8), np.array([4, 2], np.uint64)]
)
def test_indices_are_taken_as_they_are(indices):
    """Indices are used in their order, and n_anchors does not matter."""
    chosen = choose_anchors(indices, np.zeros((5, 2)), n_anchors=300)
    assert chosen.dtype == np.intp
    assert chosen.tolist() == [4, 2]


NONSENSE = {
    "repeated": ([0, 3, 3, 1], ValueError, r"distinct; got repeated \[3\]"),
    "too large": ([0, 5, 1, 9], ValueError, r"n_samples - 1 = 4; got \[5, 9\]"),
    "negative": ([0, -1, 1, 2], ValueError, r"n_samples - 1 = 4; got \[-1\]"),
    "2-D": ([[0, 1], [2, 3]], ValueError, r"1-D.*; got shape \(2, 2\)"),
    "none": ([], ValueError, r"non-empty.*; got shape \(0,\)"),
    "a mask": ([True, True, True, True], TypeError, r"flatnonzero.* got dtype bool"),
    "floats": ([0.0, 1.0, 2.0, 3.0], TypeError, r"integer.* got dtype float64"),
    "text": ([*"0123"], TypeError, r"integer.* got dtype <U1"),
}


@pytest.mark.parametrize(
    ("indices", "error", "message"), NONSENSE.values(), ids=NONSENSE
)
def test_indices_that_are_none(indices, error, message):
    """What is no list of distinct rows is refused, with what is wrong in it."""
    with pytest.raises(error, match=f"^anchors must .*{message}"):
        choose_anchors(indices, np.zeros((5, 2)))


def test_callable():
    """A callable gets rows, labels, number and generator; its rows are taken."""
    X, y = labelled_space()
    seen = []

    def strategy(*args):
        seen.append(args)
        return [5, 1, 3]

    chosen = choose_anchors(strategy, X, y, 3, 7)
    assert chosen.dtype == np.intp
    assert chosen.tolist() == [5, 1, 3]
    [(rows, labels, n_anchors, random_state)] = seen
    assert rows is X
    assert labels is y
    assert n_anchors == 3
    assert random_state.randint(2**31) == np.random.RandomState(7).randint(2**31)


def test_callable_with_few_rows():
    """A callable is asked for no more anchors than there are rows."""
    with pytest.warns(UserWarning, match="n_anchors=9 is more than n_samples=2"):
        chosen = choose_anchors(lambda X, y, n, state: range(n), np.eye(2), None, 9)
    assert chosen.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("indices", "error", "message"), NONSENSE.values(), ids=NONSENSE
)
def test_callable_that_returns_nonsense(indices, error, message):
    """What a callable returns is checked as indices are, and the error names it."""
    with pytest.raises(error, match=f"^the result of the anchors callable .*{message}"):
        choose_anchors(lambda *args: indices, np.zeros((5, 2)), None, 4)


@pytest.mark.parametrize("n_returned", [1, 3, 5])
def test_callable_that_returns_another_number(n_returned):
    """A callable must return as many rows as asked for: the error names both."""
    with pytest.raises(ValueError, match=f"must be 4 indices; got {n_returned}"):
        choose_anchors(lambda *args: range(n_returned), np.zeros((5, 2)), None, 4)


def test_unknown_strategy():
    """An unknown name is a ValueError that lists the known ones."""
    expected = r"anchors must be one of \['all', .*'stratified'\], or .*got 'medoids'"
    with pytest.raises(ValueError, match=expected):
        choose_anchors("medoids", np.zeros((5, 2)))


@pytest.mark.parametrize("anchors", ["random", "all", [0, 1]])
@pytest.mark.parametrize(
    ("n_anchors", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (2.0, TypeError),
        ("3", TypeError),
        (True, TypeError),
        (None, TypeError),
    ],
)
def test_bad_number_of_anchors(anchors, n_anchors, error):
    """The number of anchors is a whole number from 1, and the error repeats it."""
    with pytest.raises(error, match=f"n_anchors must .*got {n_anchors!r}"):
        choose_anchors(anchors, np.zeros((5, 2)), n_anchors=n_anchors)


@pytest.mark.parametrize(("offset", "scale"), [(1e8, 1), (0, 1e-200), (0, 1e200)])
def test_farthest_anywhere_and_at_any_scale(offset, scale):
    """The farthest row is that of exact differences, wherever the origin may be."""
    X = offset + np.random.default_rng(0).standard_normal((60, 4)) * scale
    chosen = farthest_anchors(X, n_anchors=10, random_state=0)
    distance = cdist((X - offset) / scale, (X - offset) / scale)
    for k in range(1, 10):
        to_nearest = distance[:, chosen[:k]].min(axis=1)
        assert to_nearest[chosen[k]] >= to_nearest.max() * (1 - 1e-9)


@pytest.mark.parametrize("offset", [0, 1e8])
def test_kmeans_anywhere(offset):
    """The row nearest to a centre is that of exact differences."""
    X = offset + np.array([[0.0], [1.0], [2.0], [50.0], [51.0], [52.0]])
    assert set(kmeans_anchors(X, n_anchors=2, random_state=0)) == {1, 4}


@pytest.mark.parametrize("value", [3, None, "x"])
def test_anchors_of_no_kind(value):
    """What is neither strategy nor indices nor callable is repeated in the error."""
    with pytest.raises((TypeError, ValueError), match=re.escape(f"got {value!r}")):
        choose_anchors(value, np.zeros((5, 2)))


# --- select_anchors ---------------------------------------------------------------

SELECTED = {
    "numpy": np.asarray,
    "images": lambda X: np.asarray(X).reshape(N_SAMPLES, 2, 2),
    "list": lambda X: X.tolist(),
    "tuple": lambda X: tuple(X.tolist()),
    "texts": lambda X: [f"row {row}" for row in X],
    "scipy.sparse.csr_array": None,
    "scipy.sparse.csc_array": None,
    "scipy.sparse.coo_array": None,
    "scipy.sparse.csr_matrix": None,
    "pandas.DataFrame": None,
    "pandas.Series": lambda make: lambda X: make(list(X)),
    "polars.DataFrame": None,
    "polars.Series": None,
    "dask.array.from_array": None,
    "torch.asarray": None,
    "array_api_strict.asarray": None,
}


def make_container(name):
    """Return what makes a container, if its library is installed."""
    how = SELECTED[name]
    module, _, attribute = name.rpartition(".")
    if not module:
        return how
    make = getattr(pytest.importorskip(module), attribute)
    return make if how is None else how(make)


def as_list(rows):
    """Return the values of a container as nested lists."""
    rows = rows.toarray() if hasattr(rows, "toarray") else rows
    rows = rows.to_numpy() if hasattr(rows, "to_numpy") else rows
    return rows if isinstance(rows, list) else np.asarray(rows).tolist()


@pytest.mark.parametrize("name", SELECTED)
def test_anchors_are_selected_by_position(name):
    """From any container, a container of the same kind."""
    X, _ = labelled_space()
    projector = RelativeProjector(7, random_state=0).fit(X)
    container = make_container(name)(X)
    anchors = select_anchors(projector, container)
    changed = {"tuple": list, "scipy.sparse.coo_array": csr_array}
    changed["dask.array.from_array"] = np.ndarray
    assert type(anchors) is changed.get(name, type(container))
    rows = as_list(container.compute() if "dask" in name else container)
    assert as_list(anchors) == [rows[i] for i in projector.anchor_indices_]


def test_labels_of_an_index_do_not_count():
    """A frame in another order of labels, with some twice; the labels are kept."""
    pandas = pytest.importorskip("pandas")
    X, _ = labelled_space()
    index = np.arange(N_SAMPLES)[::-1] // 2
    frame = pandas.DataFrame(X, index=index)
    projector = RelativeProjector(7, random_state=0).fit(frame)
    anchors = select_anchors(projector, frame)
    assert_array_equal(anchors, projector.anchors_)
    assert_array_equal(anchors.index, index[projector.anchor_indices_])
    series = pandas.Series([f"text {i}" for i in range(N_SAMPLES)], index=index)
    expected = [f"text {i}" for i in projector.anchor_indices_]
    assert select_anchors(projector, series).tolist() == expected


@pytest.mark.parametrize("rows", [np.asarray, csr_array, "dask.array.from_array"])
def test_the_number_of_fitted_samples_is_known(rows):
    """That of the fit, whatever is rebased later."""
    X, y = labelled_space()
    if isinstance(rows, str):
        rows = make_container(rows)
    for step in (
        RelativeProjector(7, random_state=0),
        InvariantAggregator(7, metrics=("cosine",), random_state=0),
    ):
        step.fit(rows(X), y)
        assert step.n_samples_fit_ == N_SAMPLES
        assert isinstance(step.n_samples_fit_, int)
        again = step.rebase(X[:7, :2])
        assert again.n_samples_fit_ == N_SAMPLES
        assert len(select_anchors(again, range(N_SAMPLES))) == 7
        with pytest.raises(ValueError, match=r"the 60 samples .* fitted on; got 59"):
            select_anchors(again, X[1:])


def test_anchors_of_a_neural_head():
    """As of its aggregation."""
    heads = pytest.importorskip("skinvariant.heads")
    X, y = labelled_space()
    head = heads.InvariantClassifier(7, max_epochs=1, random_state=0).fit(X, y)
    assert head.n_samples_fit_ == N_SAMPLES
    assert_array_equal(select_anchors(head, X), X[head.anchor_indices_])


@pytest.mark.parametrize("X", ["text", b"text", {0: 1}, {1, 2}, np.array(1), None])
def test_what_holds_no_samples_in_an_order(X):
    """The error says what does."""
    projector = RelativeProjector(7, random_state=0).fit(labelled_space()[0])
    with pytest.raises(TypeError, match=r"X must be an array, data frame, .*; got"):
        select_anchors(projector, X)


def test_models_without_chosen_anchors():
    """Not fitted, without anchors, or with others than rows of the fit."""
    X, y = labelled_space()
    with pytest.raises(NotFittedError):
        select_anchors(RelativeProjector(7), X)
    head = LogisticRegression(max_iter=1000).fit(X, y)
    with pytest.raises(TypeError, match=r"with anchor_indices_; got LogisticReg"):
        select_anchors(head, X)


# --- more anchors than rows, or than rows that differ -------------------------------


@pytest.mark.parametrize(
    "n_anchors", [0, -1, N_SAMPLES + 1, 10**6, True, 2.0, "3", None]
)
@pytest.mark.parametrize("name", DRAWN)
def test_every_strategy_checks_the_number_of_anchors(name, n_anchors):
    """Called on its own as well, where none may repeat an index or return fewer."""
    X, y = labelled_space()
    error = ValueError if type(n_anchors) is int else TypeError
    with pytest.raises(error, match=r"n_anchors must be an integer in \[1, 60\]; got"):
        STRATEGIES[name](X, y, n_anchors, 0)


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
@pytest.mark.parametrize("container", [np.asarray, csr_array])
@pytest.mark.parametrize("n_distinct", [1, 2, 3])
@pytest.mark.parametrize("n_anchors", [1, 3, np.int64(5), np.uint8(N_SAMPLES)])
@pytest.mark.parametrize("name", DRAWN)
def test_rows_that_repeat(name, n_anchors, n_distinct, container):
    """Indices are distinct, although rows are not; distinct rows come first."""
    X, y = labelled_space()
    X = np.repeat(X[:n_distinct], -(-N_SAMPLES // n_distinct), axis=0)[:N_SAMPLES]
    chosen = STRATEGIES[name](container(X), y, n_anchors, 0)
    assert_distinct(chosen, int(n_anchors))
    if name in ("farthest", "kmeans"):
        n_found = len(np.unique(X[chosen], axis=0))
        assert n_found == min(n_distinct, n_anchors)


@pytest.mark.parametrize("scale", [2.0**-1000, 2.0**-500, 2.0**500, 2.0**1023])
@pytest.mark.parametrize("name", ["farthest", "kmeans"])
def test_choice_at_any_scale(name, scale):
    """Sums and squares of the rows may leave the range of float64."""
    X, y = labelled_space()
    X = X / np.abs(X).max()
    chosen = STRATEGIES[name](X * scale, y, 20, 0)
    assert_array_equal(chosen, STRATEGIES[name](X, y, 20, 0))


# --- anchors that are rows themselves -----------------------------------------------

ROW_CONTAINERS = [
    "numpy",
    "list",
    "scipy.sparse.coo_array",
    "scipy.sparse.csr_matrix",
    "pandas.DataFrame",
    "polars.DataFrame",
    "dask.array.from_array",
]


def holders(anchors):
    """Every estimator with a parameter `anchors`."""
    yield RelativeProjector(anchors=anchors, metric="euclidean")
    yield InvariantAggregator(anchors=anchors, metrics=("cosine", "euclidean"))
    yield InvariantVotingClassifier(anchors=anchors, metrics=("cosine",))
    yield InvariantVotingRegressor(anchors=anchors, metrics=("cosine",))
    with contextlib.suppress(ImportError):
        from skinvariant.heads import InvariantClassifier, InvariantRegressor

        yield InvariantClassifier(anchors=anchors, max_epochs=1, random_state=0)
        yield InvariantRegressor(anchors=anchors, max_epochs=1, random_state=0)


def output(model, X):
    """What a transformer or model makes of rows."""
    return np.asarray((model.predict if is_model(model) else model.transform)(X))


def is_model(estimator):
    """Whether it predicts."""
    return hasattr(estimator, "predict")


@pytest.mark.parametrize("name", ROW_CONTAINERS)
def test_rows_are_the_anchors_that_their_indices_are(name):
    """From any container, of a space in any; in the same order, to the last bit."""
    X, y = labelled_space()
    chosen = [40, 3, 17, 22, 5, 51, 8, 30]
    anchors = make_container(name)(X[chosen])
    for by_rows, by_indices in zip(holders(anchors), holders(chosen), strict=True):
        by_rows, by_indices = clone(by_rows).fit(X, y), by_indices.fit(X, y)
        assert type(by_rows.anchors_) is np.ndarray
        assert_array_equal(by_rows.anchors_, X[chosen], strict=True)
        assert_array_equal(output(by_rows, X), output(by_indices, X))
        rebased = [model.rebase(X[chosen, ::-1]) for model in (by_rows, by_indices)]
        assert_array_equal(*(output(model, X[:, ::-1]) for model in rebased))


@pytest.mark.parametrize("make", CONTAINERS, indirect=True)
def test_rows_are_of_the_kind_of_the_space(make):
    """Dense rows for a sparse space, arrays for those of other libraries."""
    X, y = labelled_space()
    X, chosen, kind = X.astype(np.float32), X[::9], make(X)
    with config_context(array_api_dispatch=not issparse(kind)):
        found = RelativeProjector(anchors=chosen).fit(kind, y)
        expected = RelativeProjector(anchors=np.arange(N_SAMPLES)[::9]).fit(kind, y)
    assert type(found.anchors_) is type(expected.anchors_)
    assert found.anchors_.dtype == expected.anchors_.dtype


def test_rows_stay_in_every_fold_and_need_not_be_of_the_space():
    """The same anchors in each clone, a copy of those given."""
    X, y = labelled_space()
    anchors = X[:9] + 0.5
    model = make_pipeline(RelativeProjector(anchors=anchors), LogisticRegression())
    folds = cross_validate(model, X, y, cv=3, return_estimator=True)["estimator"]
    for fold in folds:
        assert_array_equal(fold[0].anchors_, anchors, strict=True)
    anchors[:] = 0
    assert (folds[0][0].anchors_ != 0).all()


def test_rows_of_a_lazy_space():
    """Nothing of it is computed, and its number of rows need not be known."""
    da = pytest.importorskip("dask.array")
    X, y = labelled_space()
    lazy = da.from_array(X, chunks=20)
    lazy = lazy[lazy[:, 0] > -np.inf]  # of unknown length
    projector = RelativeProjector(anchors=X[:9]).fit(lazy, y)
    expected = RelativeProjector(anchors=X[:9]).fit(X, y).transform(X)
    assert_array_equal(projector.transform(lazy).compute(), expected)


def test_rows_have_no_indices():
    """Their attributes are missing, and the error gives the reason, after any fit."""
    X, y = labelled_space()
    for model in holders(X[:9]):
        again = clone(model).set_params(anchors="all").fit(X, y)
        assert len(again.anchor_indices_) == again.n_samples_fit_ == N_SAMPLES
        again.set_params(anchors=X[:9]).fit(X, y)
        for fitted in (model.fit(X, y), model.rebase(X[:9, ::-1]), again):
            for name in ("anchor_indices_", "n_samples_fit_"):
                assert not hasattr(fitted, name)
                with pytest.raises(AttributeError, match=f"as rows has no {name}"):
                    getattr(fitted, name)
            with pytest.raises(TypeError, match=r"anchors given as rows, encode the"):
                select_anchors(fitted, X)
    with pytest.raises(NotFittedError):
        _ = RelativeProjector(anchors=X[:9]).anchor_indices_


def test_names_of_columns_for_rows():
    """The positions of the rows."""
    X, _ = labelled_space()
    names = RelativeProjector(anchors=X[5:7]).fit(X).get_feature_names_out()
    assert names.tolist() == ["cosine_anchor0", "cosine_anchor1"]


@pytest.mark.parametrize(
    ("anchors", "error", "message"),
    [
        (np.zeros((5, 3)), ValueError, r"which has 4 features; got shape \(5, 3\)"),
        (np.zeros((0, 4)), ValueError, "0 sample"),
        (np.full((5, 4), np.nan), ValueError, "Input anchors contains NaN"),
        (np.full((5, 4), "a"), ValueError, "string"),
        (np.zeros((5, 4, 2)), ValueError, "anchors must be a 1-D"),
        (np.full((5, 4), 1j), ValueError, "[Cc]omplex"),
    ],
)
def test_rows_that_are_no_anchors(anchors, error, message):
    """Every estimator refuses them, with the reason."""
    X, y = labelled_space()
    for model in holders(anchors):
        with pytest.raises(error, match=message):
            model.fit(X, y)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_rows_have_the_columns_of_the_space(library):
    """In their order: others would be compared in silence."""
    frames = pytest.importorskip(library)
    X, y = labelled_space()
    X = frames.DataFrame(dict(zip("abcd", X.T, strict=True)))
    for model in holders(X[:9]):
        assert_array_equal(model.fit(X, y).anchors_, np.asarray(X)[:9])
    for model in holders(X[list("abdc")][:9]):
        with pytest.raises(ValueError, match=r"the columns of X, \['a', .* got \['a',"):
            model.fit(X, y)


def test_rows_are_no_choice():
    """Where anchors are chosen in several spaces, rows of one are refused."""
    X, y = labelled_space()
    with pytest.raises(ValueError, match=r"rows of one space; got shape \(9, 4\)"):
        choose_anchors(X[:9], X, y)
    model = make_pipeline(RelativeProjector(anchors=X[:9]), LogisticRegression())
    spaces = {"a": (X, X), "b": (X, X)}
    for anchors in (X[:9], csr_array(X[:9])):
        model.set_params(relativeprojector__anchors=anchors)
        with pytest.raises(ValueError, match="rows of one space"):
            cross_stitch(model, spaces, (y, y), baselines=[])


@pytest.mark.parametrize("rows", [np.asarray, csr_array])
def test_rows_are_saved(rows, tmp_path):
    """Arrays and sparse matrices, with the estimator and its parameters."""
    pytest.importorskip("skops")
    X, y = labelled_space()
    for model in holders(rows(X[:9])):
        save(model.fit(X, y), tmp_path / "model.skops")
        loaded = load(tmp_path / "model.skops", expected=model)
        assert_array_equal(output(loaded, X), output(model, X))
        assert_array_equal(output(clone(loaded).fit(X, y), X), output(model, X))
        assert not hasattr(loaded, "anchor_indices_")
    with pytest.raises(TypeError, match="csr_matrix"):  # a type that load must trust
        save(RelativeProjector(anchors=csr_matrix(X[:9])).fit(X), tmp_path / "model")


def test_votes_share_rows():
    """Members of a vote have the same anchors, and are stitched together."""
    X, y = labelled_space()
    members = [
        (
            metric,
            make_pipeline(
                RelativeProjector(anchors=X[:9], metric=metric), RidgeClassifier()
            ),
        )
        for metric in ("cosine", "euclidean")
    ]
    vote = VotingClassifier(members).fit(X, y)
    stitched = stitch(vote, X[:9, ::-1])
    assert_array_equal(stitched.predict(X[:, ::-1]), vote.predict(X))
