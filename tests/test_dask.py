"""Dask arrays: what is computed and when, and a cluster whose workers die."""

import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
from joblib import parallel_config
from scipy.sparse import csr_array
from sklearn import config_context
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skinvariant import InvariantAggregator, RelativeProjector, _dask, stitch
from skinvariant.anchors import STRATEGIES
from skinvariant.datasets import make_related_spaces
from skinvariant.metrics import METRICS

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
cloudpickle = pytest.importorskip("cloudpickle")
distributed = pytest.importorskip("distributed")

CHUNKS = (30, 30, 7, 33)
ESTIMATORS = {
    "projector": RelativeProjector(20, random_state=0),
    "product": InvariantAggregator(20, pre="center", random_state=0),
}


@pytest.fixture(autouse=True)
def _one_thread():
    """Blocks are computed one by one, where a test has no cluster of its own."""
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def X():
    """A space of 100 rows and 6 features."""
    return make_related_spaces(100, 6, random_state=0).X_a


@pytest.fixture
def y():
    """Its labels."""
    return make_related_spaces(100, 6, random_state=0).y


class Source:
    """An array on some disk, which writes down what is read of it."""

    def __init__(self, values):
        self.values = values
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim
        self.read = []

    def __getitem__(self, key):
        self.read.append(key[0])
        return self.values[key]

    def blocks(self):
        """First rows of the blocks that were read."""
        return sorted(rows.start for rows in self.read)


def lazy(source, chunks=10):
    """Return a dask array of a source, and forget what dask itself has read."""
    X = da.from_array(source, chunks=(chunks, source.shape[1]))
    source.read.clear()
    return X


def by_block(estimator, X, chunks):
    """The in-memory transform of each block of rows."""
    ends = np.cumsum(chunks)
    return np.concatenate(
        [
            estimator.transform(X[end - size : end])
            for size, end in zip(chunks, ends, strict=True)
        ]
    )


# --- transform ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.float16])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_transform_is_the_in_memory_one_block_by_block(name, dtype, X):
    """To the last bit, in the same dtype, shape and blocks of rows."""
    X = (10 * X).astype(dtype)
    estimator = clone(ESTIMATORS[name]).fit(X)
    output = estimator.transform(da.from_array(X, chunks=(CHUNKS, 2)))
    expected = by_block(estimator, X, CHUNKS)
    assert isinstance(output, da.Array)
    assert output.chunks == (CHUNKS, (expected.shape[1],))
    assert output.shape == expected.shape
    assert output.dtype == expected.dtype
    computed = output.compute()
    assert computed.dtype == expected.dtype
    np.testing.assert_array_equal(computed, expected)


THREADS = """
import dask.array as da
import numpy as np
from skinvariant import RelativeProjector
from threadpoolctl import threadpool_info

X = np.random.default_rng(0).standard_normal((9000, 100))
projector = RelativeProjector(100, metric="euclidean", random_state=0).fit(X)
output = projector.transform(da.from_array(X, chunks=(1500, 100)))
before = threadpool_info()
for _ in range(2):
    computed = output.compute(scheduler="threads", num_workers=8)
    assert threadpool_info() == before
np.testing.assert_array_equal(computed, output.compute(scheduler="synchronous"))
assert threadpool_info() == before
"""


def test_the_threads_of_dask_change_nothing():
    """And when they are done, BLAS has the threads that it had."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "4"}
    subprocess.run([sys.executable, "-c", THREADS], env=environment, check=True)


def test_transform_computes_nothing_and_then_each_block_once(X):
    """Also a part of the output costs the blocks of that part alone."""
    source = Source(X)
    projector = RelativeProjector(20, random_state=0).fit(X)
    output = projector.transform(lazy(source))
    assert source.read == []
    output[:15].compute()
    assert source.blocks() == [0, 10]
    source.read.clear()
    output.compute()
    assert source.blocks() == list(range(0, 100, 10))


def test_fit_transform_is_lazy_too(X):
    """Fitting reads the anchors, and transforming waits."""
    source = Source(X)
    projector = RelativeProjector(anchors=[95, 3], metric="euclidean")
    output = projector.fit_transform(lazy(source))
    assert source.blocks() == [0, 90]
    np.testing.assert_array_equal(output.compute(), projector.transform(X))


@pytest.mark.parametrize("anchors", ["random", [3, 1]])
def test_unknown_numbers_of_rows_stay_unknown(anchors, X):
    """A filter leaves any number in each block, and in some none."""
    keep = X[:, 0] > np.quantile(X[:, 0], 0.9)
    keep[CHUNKS[0] : 2 * CHUNKS[0]] = False
    projector = RelativeProjector(20, anchors=anchors, random_state=0).fit(X)
    dask_X = da.from_array(X, chunks=(CHUNKS, 2))
    output = projector.transform(dask_X[da.from_array(keep, chunks=30)])
    assert np.isnan(output.shape[0])
    assert output.shape[1] == len(projector.anchors_)
    np.testing.assert_allclose(
        output.compute(), projector.transform(X)[keep], rtol=0, atol=1e-15
    )


def test_a_later_fit_changes_no_array_that_was_made_before(X):
    """The graph holds the estimator as it was."""
    projector = RelativeProjector(20, random_state=0).fit(X)
    expected = by_block(projector, X, [50, 50])
    output = projector.transform(da.from_array(X, chunks=(50, 6)))
    projector.set_params(n_anchors=5, metric="euclidean", post="layer").fit(X + 1)
    np.testing.assert_array_equal(output.compute(), expected)


def test_the_graph_holds_the_anchors_once(X):
    """A block adds what names it, and no anchors; also after optimisation."""
    X = np.tile(X, 100)
    projector = RelativeProjector(20, anchors="all").fit(X)
    n_bytes = len(pickle.dumps(projector))

    def graphs(n_blocks):
        array = da.ones((n_blocks, X.shape[1]), chunks=(1, X.shape[1]))
        output = projector.transform(array)
        for graph in (output, *dask.optimize(output)):
            yield len(cloudpickle.dumps(graph.__dask_graph__()))

    for one, hundred in zip(graphs(1), graphs(100), strict=True):
        assert n_bytes < one < 1.1 * n_bytes
        assert hundred < 1.1 * one


def test_sparse_blocks(X):
    """Blocks may be SciPy's: of the same values the same relative space."""
    X = np.where(X > 0, X, 0)
    blocks = da.from_array(X, chunks=(CHUNKS, 6)).map_blocks(csr_array)
    projector = RelativeProjector(20, metric="euclidean", random_state=0)
    expected = projector.fit_transform(csr_array(X))
    np.testing.assert_allclose(
        projector.fit(blocks).transform(blocks).compute(), expected, atol=1e-7
    )
    with pytest.raises(TypeError, match="'chebyshev' does not take sparse input"):
        RelativeProjector(20, metric="chebyshev").fit(X).transform(blocks).compute()


# --- fit ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "anchors",
    [*STRATEGIES, [95, 3, 94, 40], lambda X, y, n, seed: np.argsort(np.asarray(y))[:n]],
    ids=[*STRATEGIES, "indices", "callable"],
)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_fit_is_the_in_memory_one(name, anchors, X, y):
    """The same anchors for the same seed, whatever the blocks."""
    estimator = clone(ESTIMATORS[name]).set_params(anchors=anchors)
    expected = clone(estimator).fit(X, y)
    output = by_block(expected, X, CHUNKS)
    for labels in (y, da.from_array(y, chunks=40)):
        dask_X = da.from_array(X, chunks=(CHUNKS, 4))
        fitted = estimator.fit(dask_X, labels)
        np.testing.assert_array_equal(fitted.anchor_indices_, expected.anchor_indices_)
        np.testing.assert_array_equal(fitted.anchors_, expected.anchors_)
        assert type(fitted.anchors_) is np.ndarray
        assert fitted.n_features_in_ == 6
        np.testing.assert_array_equal(fitted.transform(dask_X).compute(), output)


@pytest.mark.parametrize("anchors", ["random", "stratified", [95, 3, 94, 40]])
def test_fit_reads_the_blocks_of_the_anchors_and_no_others(anchors, X, y):
    """Once each, since rows are fetched in order and put back in theirs."""
    source = Source(X)
    projector = RelativeProjector(4, anchors=anchors, random_state=0)
    projector.fit(lazy(source), y)
    wanted = np.unique(projector.anchor_indices_ // 10 * 10)
    assert source.blocks() == wanted.tolist()
    assert len(wanted) < 5
    np.testing.assert_array_equal(projector.anchors_, X[projector.anchor_indices_])


@pytest.mark.parametrize("anchors", ["kmeans", "farthest"])
def test_strategies_that_look_at_values_get_a_subsample(anchors, X, monkeypatch):
    """The indices are rows of the whole space all the same."""
    monkeypatch.setattr(_dask, "SUBSAMPLE", 7)
    monkeypatch.setattr(_dask, "SUBSAMPLE_PER_ANCHOR", 2)
    X = np.repeat(X, 10, axis=0)
    source = Source(X)
    projector = RelativeProjector(3, anchors=anchors, random_state=0)
    projector.fit(lazy(source))
    assert 0 < len(source.read) <= 7
    indices = projector.anchor_indices_
    assert len(set(indices)) == 3
    np.testing.assert_array_equal(projector.anchors_, X[indices])
    again = projector.fit(lazy(source)).anchor_indices_
    np.testing.assert_array_equal(again, indices)
    other = projector.set_params(random_state=1).fit(lazy(source)).anchor_indices_
    assert set(other) != set(indices)
    assert other.max() < len(X)


def test_the_subsample_grows_with_the_anchors(X, monkeypatch):
    """Two rows per anchor, where these are more than seven."""
    monkeypatch.setattr(_dask, "SUBSAMPLE", 7)
    monkeypatch.setattr(_dask, "SUBSAMPLE_PER_ANCHOR", 2)
    source = Source(X)
    projector = RelativeProjector(9, anchors="farthest", random_state=0)
    projector.fit(lazy(source, chunks=1))
    assert len(source.read) == 18


def test_a_callable_gets_the_lazy_array(X):
    """It reads what it wants to."""
    source, given = Source(X), []

    def first(X, y, n_anchors, random_state):
        given.append(X)
        return np.arange(n_anchors)

    dask_X = lazy(source)
    RelativeProjector(3, anchors=first).fit(dask_X)
    assert given[0] is dask_X
    assert source.blocks() == [0]


def test_more_blocks_than_rows(X):
    """Empty blocks, as a filter leaves them, do no harm."""
    dask_X = da.from_array(X[:3], chunks=((0, 2, 0, 0, 1, 0), 6))
    projector = RelativeProjector(anchors=[2, 0]).fit(dask_X)
    np.testing.assert_array_equal(projector.anchors_, X[[2, 0]])
    expected = by_block(projector, X[:3], (2, 1))
    np.testing.assert_array_equal(projector.transform(dask_X).compute(), expected)


def test_anchors_of_another_space_may_be_a_dask_array(X):
    """They are few, and computed."""
    projector = RelativeProjector(20, random_state=0).fit(X)
    X_b = da.from_array(2 * X[:, ::-1], chunks=(CHUNKS, 6))
    for rebase in (projector.rebase, lambda rows: stitch(projector, rows)):
        rebased = rebase(X_b[projector.anchor_indices_])
        np.testing.assert_allclose(
            rebased.transform(X_b).compute(), projector.transform(X), atol=1e-14
        )


def test_rows_that_a_metric_needs_may_be_a_dask_array(X):
    """Of fit and of rebase: they are computed, and values are those of arrays."""
    options = {"metric": "geodesic", "random_state": 0}
    expected = RelativeProjector(20, **options).fit(X)
    X_a, X_b = (da.from_array(x, chunks=(CHUNKS, 6)) for x in (X, 2 * X[:, ::-1]))
    for anchors in ("random", expected.anchors_):
        fitted = RelativeProjector(20, anchors=anchors, **options).fit(X_a)
        values = fitted.transform(X_a).compute()
        np.testing.assert_allclose(values, expected.transform(X), atol=1e-13)
        rebased = fitted.rebase(X_b[expected.anchor_indices_], X=X_b)
        values = rebased.transform(X_b).compute()
        np.testing.assert_allclose(values, 2 * expected.transform(X), atol=1e-13)
    unknown = X_b[X_b[:, 0] > 0]
    with pytest.raises(ValueError, match="number of rows of a dask array must be"):
        fitted.rebase(X_b[expected.anchor_indices_], X=unknown)


# --- what is refused, and where warnings come from --------------------------------


REFUSED = {
    "Expected 2D array, got 1D array instead": lambda X: X[:, 0],
    "Expected 2D array, got scalar array instead": lambda X: X[0, 0],
    "Found array with dim 3": lambda X: X[None],
    "Complex data not supported": lambda X: X.astype(complex),
    r"Found array with 0 feature\(s\)": lambda X: X[:, :0],
}
AT_FIT = {r"Found array with 0 sample\(s\)": lambda X: X[:0]}
AT_TRANSFORM = {
    "X has 3 features, but RelativeProjector is expecting 6": lambda X: X[:, :3]
}


@pytest.mark.parametrize("message", REFUSED | AT_TRANSFORM)
def test_transform_refuses_at_once_what_it_refuses_in_memory(message, X):
    """With the same words, and without a look at the values."""
    wrong = (REFUSED | AT_TRANSFORM)[message]
    projector = RelativeProjector(20).fit(X)
    source = Source(X)
    for space in (X, lazy(source)):
        with pytest.raises(ValueError, match=message):
            projector.transform(wrong(space))
    assert source.read == []


@pytest.mark.parametrize("message", REFUSED | AT_FIT)
@pytest.mark.parametrize("anchors", ["random", "kmeans", "all"])
def test_fit_refuses_what_it_refuses_in_memory(anchors, message, X):
    """With the same words, and without a look at the values."""
    wrong = (REFUSED | AT_FIT)[message]
    source = Source(X)
    for space in (X, lazy(source)):
        with pytest.raises(ValueError, match=message):
            RelativeProjector(20, anchors=anchors).fit(wrong(space))
    assert source.read == []


@pytest.mark.parametrize("n_anchors", [0, 2.5, "many"])
@pytest.mark.parametrize("anchors", ["random", "kmeans"])
def test_n_anchors_is_checked(anchors, n_anchors, X):
    """Before anything is computed from it."""
    source = Source(X)
    with pytest.raises((TypeError, ValueError), match="n_anchors must be an integer"):
        RelativeProjector(n_anchors, anchors=anchors).fit(lazy(source))
    assert source.read == []


@pytest.mark.parametrize("anchors", ["random", "farthest"])
def test_more_anchors_than_rows_warn(anchors, X):
    """As in memory."""
    projector = RelativeProjector(101, anchors=anchors)
    with pytest.warns(UserWarning, match="n_anchors=101 is more than n_samples=100"):
        projector.fit(da.from_array(X, chunks=(CHUNKS, 6)))
    assert len(projector.anchors_) == 100


def test_unknown_sizes_are_asked_for(X):
    """Choosing rows takes their number; everything takes that of the columns."""
    dask_X = da.from_array(X, chunks=(CHUNKS, 6))
    unknown_rows = dask_X[dask_X[:, 0] > 0]
    with pytest.raises(ValueError, match=r"number of rows .*compute_chunk_sizes\(\)"):
        RelativeProjector(20).fit(unknown_rows)
    unknown_columns = dask_X[:, dask_X[0] > 0]
    for method in (RelativeProjector(20).fit, RelativeProjector(20).fit(X).transform):
        with pytest.raises(ValueError, match=r"call X\.compute_chunk_sizes"):
            method(unknown_columns)
    projector = RelativeProjector(20).fit(unknown_rows.compute_chunk_sizes())
    assert len(projector.anchors_) == 20


@pytest.mark.parametrize("anchors", ["random", "kmeans"])
def test_values_that_are_not_finite_are_found_where_they_are_fetched(anchors, X):
    """At fit among the anchors, at transform when a block is computed."""
    projector = RelativeProjector(5, anchors=[0, 1]).fit(X)
    X[50] = np.nan
    dask_X = da.from_array(X, chunks=(CHUNKS, 6))
    output = projector.transform(dask_X)
    output[:30].compute()
    with pytest.raises(ValueError, match="Input X contains NaN"):
        output.compute()
    with pytest.raises(ValueError, match="Input X contains NaN"):
        RelativeProjector(100, anchors=anchors).fit(dask_X)
    RelativeProjector(anchors=[0, 1]).fit(dask_X)


def test_frames_have_no_lazy_form(X):
    """Rather than compute behind one's back, it says so."""
    pytest.importorskip("pandas")
    dask_X = da.from_array(X, chunks=(CHUNKS, 6))
    projector = RelativeProjector(20, random_state=0).fit(X)
    output = projector.transform(dask_X)
    with (
        config_context(transform_output="pandas"),
        pytest.raises(TypeError, match="must return NumPy arrays"),
    ):
        projector.transform(dask_X)
    projector.set_output(transform="pandas")
    with pytest.raises(TypeError, match=r"got pandas\..*DataFrame"):
        projector.transform(dask_X)
    np.testing.assert_array_equal(output.compute().shape, (100, 20))


def test_missing_names_are_told_once(X):
    """When transform is called, and not by every block."""
    pandas = pytest.importorskip("pandas")
    projector = RelativeProjector(20).fit(pandas.DataFrame(X).add_prefix("column"))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        output = projector.transform(da.from_array(X, chunks=(CHUNKS, 6)))
    assert output.compute().shape == (100, 20)
    assert len(projector.feature_names_in_) == 6


# --- a cluster ------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def sent_by_value():
    """Workers cannot import this file, so what it defines travels with the tasks."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@contextmanager
def two_workers(memory_limit):
    """Two worker processes of one thread each."""
    with (
        dask.config.set(scheduler=None),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            memory_limit=memory_limit,
            dashboard_address=":0",
        ) as cluster,
    ):
        yield cluster


@pytest.fixture(scope="module")
def cluster():
    """Workers of 600 MB, of which the imports take half."""
    with two_workers("600MB") as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    """A client of it, which all that is computed goes to."""
    with distributed.Client(cluster) as client, dask.config.set(scheduler=None):
        client.wait_for_workers(2)
        yield client


def random_rows(n_rows, n_features, block_info=None, seconds=0.0):
    """A block of random rows, the same whenever it is computed."""
    time.sleep(seconds)
    rng = np.random.default_rng(block_info[None]["chunk-location"][0])
    return rng.standard_normal((n_rows, n_features), dtype=np.float32)


def random_space(n_blocks, n_rows, n_features, seconds=0.0):
    """A space that is nowhere, until its blocks are computed."""
    return da.map_blocks(
        random_rows,
        n_rows,
        n_features,
        seconds=seconds,
        chunks=((n_rows,) * n_blocks, (n_features,)),
        dtype=np.float32,
        meta=np.empty((0, 0), dtype=np.float32),
    )


def test_a_cluster_gives_the_in_memory_result(client):
    """Fit and transform, to the last bit."""
    X = random_space(20, 50, 8)
    in_memory = X.compute()
    for estimator in ESTIMATORS.values():
        expected = clone(estimator).fit(in_memory)
        fitted = clone(estimator).fit(X)
        np.testing.assert_array_equal(fitted.anchors_, expected.anchors_)
        np.testing.assert_array_equal(
            fitted.transform(X).compute(), by_block(expected, in_memory, [50] * 20)
        )


def test_a_killed_worker_costs_its_blocks_and_no_more(client):
    """The others do its work, a new one takes its place; the result is the same."""
    X = random_space(60, 50, 8, seconds=0.05)
    projector = RelativeProjector(20, random_state=0).fit(X[:50])
    output = projector.transform(X).persist()
    futures = distributed.futures_of(output)
    while (done := sum(future.done() for future in futures)) < 10:
        time.sleep(0.01)
    before = client.run(os.getpid)
    victim = min(before.values())
    os.kill(victim, signal.SIGKILL)
    assert done < 50
    computed = output.compute()
    expected = by_block(projector, random_space(60, 50, 8).compute(), [50] * 60)
    np.testing.assert_array_equal(computed, expected)
    client.wait_for_workers(2)
    assert victim not in client.run(os.getpid).values()


def test_workers_hold_a_few_blocks_and_not_the_space(client):
    """1 GB of rows through two workers of 600 MB, of which none is restarted."""
    X = random_space(64, 16_000, 256)
    assert X.nbytes > 1e9
    before = client.run(os.getpid)
    projector = RelativeProjector(50, random_state=0).fit(X[:16_000])
    means = projector.transform(X).mean(axis=0).compute()
    assert client.run(os.getpid) == before
    assert means.shape == (50,)
    # cosines of random rows with an anchor: mean 0, deviation 1 / sqrt(256)
    assert abs(means).max() < 5 / np.sqrt(256 * X.shape[0])


class Traced:
    """A metric that writes down which process has unpickled it."""

    def __init__(self, path):
        self.path = path

    def __call__(self, X, anchors):  # noqa: D102
        return METRICS["cosine"].function(X, anchors)

    def __setstate__(self, state):
        self.__dict__.update(state)
        with open(self.path, "a") as file:
            file.write(f"{os.getpid()}\n")


def test_the_anchors_reach_each_worker_once(tmp_path):
    """However many blocks there are.

    The workers have room: short of memory they would put what they hold on their own
    disk, and unpickle it from there again and again.
    """
    path = tmp_path / "unpickled"
    X = random_space(60, 50, 8, seconds=0.01)
    projector = RelativeProjector(20, metric=Traced(str(path)), random_state=0)
    plain = RelativeProjector(20, random_state=0)
    with two_workers(0) as cluster, distributed.Client(cluster) as client:
        client.wait_for_workers(2)
        output = projector.fit(X[:50]).transform(X)
        path.write_text("")
        computed = output.compute()
        by_process = [int(line) for line in path.read_text().split()]
        workers = client.run(os.getpid).values()
        expected = plain.fit(X[:50]).transform(X).compute()
    assert [by_process.count(worker) for worker in workers] == [1, 1]
    np.testing.assert_array_equal(computed, expected)


def test_a_grid_search_runs_on_a_cluster(X, y):
    """By joblib's backend, with the scores that it has without a cluster."""
    model = make_pipeline(
        RelativeProjector(20, post="layer", random_state=0), LogisticRegression()
    )
    grid = {"relativeprojector__metric": ["cosine", "euclidean", "manhattan"]}
    expected = GridSearchCV(model, grid, cv=2).fit(X, y)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster),
        parallel_config(backend="dask"),
    ):
        search = GridSearchCV(model, grid, cv=2).fit(X, y)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"]
    )
