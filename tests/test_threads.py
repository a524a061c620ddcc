"""No number of BLAS threads changes a bit, and each user gives back what it found."""

import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread, local
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn import config_context
from sklearn.datasets import load_digits
from sklearn.utils import get_tags
from threadpoolctl import ThreadpoolController

from skinvariant import InvariantAggregator, RelativeProjector, _threads
from skinvariant._threads import one_blas_thread, one_thread
from skinvariant.anchors import STRATEGIES
from skinvariant.diagnosis import diagnose
from skinvariant.metrics import METRICS
from skinvariant.relative._steps import POST, PRE

POOLS = ThreadpoolController()
BLAS = POOLS.select(user_api="blas")
if not BLAS.lib_controllers:
    pytest.skip("threadpoolctl knows no BLAS here", allow_module_level=True)


def n_threads(pools=BLAS):
    """Return the number of threads of each pool."""
    return [pool.num_threads for pool in pools.lib_controllers]


@pytest.fixture
def three():
    """Let BLAS have three threads, a number that nothing else sets."""
    with BLAS.limit(limits=3):
        if set(n_threads()) != {3}:
            pytest.skip("this BLAS cannot be given three threads")
        yield


# --- bits -----------------------------------------------------------------------


def outputs(estimator, X, X_new):
    """Fit, transform and rebase; return everything as bytes."""
    fitted = estimator.fit(X)
    needed = any(metric.needs_rows for metric, _ in fitted._metrics)
    anchors = X_new[fitted.anchor_indices_]
    rebased = fitted.rebase(anchors, X=X_new if needed else None)
    spaces = fitted.transform(X), rebased.transform(X_new), rebased.transform(X_new[:1])
    return [fitted.anchor_indices_.tobytes(), *(space.tobytes() for space in spaces)]


def assert_same_bits(estimator, X, X_new):
    """Compare the bytes under 1, 2 and 4 BLAS threads."""
    found = []
    for limit in (1, 2, 4):
        with BLAS.limit(limits=limit):
            found.append(outputs(estimator, X, X_new))
    assert found[0] == found[1] == found[2]


@pytest.fixture(scope="module")
def spaces():
    """Two spaces of different width, large enough for BLAS to share out the work."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 60))
    return X, np.tanh(X @ rng.standard_normal((60, 70)) / 8)


@pytest.mark.grid
@pytest.mark.parametrize("post", [None, *POST])
@pytest.mark.parametrize("pre", [None, *PRE])
@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_pre_and_post_has_the_same_bits(metric, pre, post, spaces):
    """In float64 and float32, and of CSR rows where they are taken."""
    params = {"p": 3} if metric == "minkowski" else None
    projector = RelativeProjector(
        70, metric=metric, metric_params=params, pre=pre, post=post, random_state=0
    )
    for dtype in (np.float64, np.float32):
        kinds = [tuple(X.astype(dtype) for X in spaces)]
        if get_tags(projector).input_tags.sparse:
            kinds.append([csr_array(np.maximum(X, 0)) for X in kinds[0]])
        for X, X_new in kinds:
            assert_same_bits(projector, X, X_new)


@pytest.mark.parametrize("aggregation", ["concat", "sum", "mean"])
def test_an_aggregation_has_the_same_bits(aggregation):
    """Of rows that make one block, as most inputs do."""
    X, _ = load_digits(return_X_y=True)
    product = InvariantAggregator(30, aggregation=aggregation, random_state=0)
    assert_same_bits(product, X, X[:, ::-1])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_anchors_are_chosen(strategy):
    """Also where rounding decides, among rows that are equally far apart."""
    X = np.random.default_rng(0).standard_normal((300, 300))
    X = np.linalg.qr(X)[0].repeat(2, axis=0)
    y = np.arange(600) % 3
    found = []
    for limit in (1, 2, 4):
        with BLAS.limit(limits=limit):
            projector = RelativeProjector(60, anchors=strategy, random_state=0)
            found.append(projector.fit(X, y).anchor_indices_.tolist())
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "inner", "change_of_basis"])
def test_the_way_back_has_the_same_bits(metric, spaces):
    """`inverse_transform`, too."""
    projector = RelativeProjector(70, metric=metric, random_state=0).fit(spaces[0])
    relative, found = projector.transform(spaces[0]), set()
    for limit in (1, 2, 4):
        with BLAS.limit(limits=limit):
            found.add(projector.inverse_transform(relative).tobytes())
    assert len(found) == 1


def test_a_diagnosis_has_the_same_bits(spaces):
    """How much each class of transformations explains, and each choice's agreement."""
    found = []
    for limit in (1, 2, 4):
        with BLAS.limit(limits=limit):
            diagnosis = diagnose(*spaces, metrics=["cosine"], random_state=0)
            found.append((diagnosis.transformations, diagnosis.agreement))
    assert found[0] == found[1] == found[2]


# --- limits ---------------------------------------------------------------------

BEGIN = """
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from sklearn import config_context
from threadpoolctl import ThreadpoolController
from skinvariant import RelativeProjector
pools = ThreadpoolController().select(user_api="blas").lib_controllers
X = np.random.default_rng(0).standard_normal((600, 64))
projector = RelativeProjector(100, metric="euclidean", n_jobs=2, random_state=0).fit(X)

def together(function, n_calls=24):
    with ThreadPoolExecutor(8) as executor:
        return list(executor.map(lambda i: function(), range(n_calls)))

def n_threads():
    return [pool.num_threads for pool in pools]

before = n_threads()
"""
# joblib's threads and those of an executor; no context here is entered in another
# thread than it is left in, and blocks are small so that there are many
OVERLAPPING = {
    "transform": """
with config_context(working_memory=1):
    alone = projector.transform(X)
def transform():
    with config_context(working_memory=1):
        return projector.transform(X)
assert {output.tobytes() for output in together(transform)} == {alone.tobytes()}
""",
    "fit": """
def fit():
    return RelativeProjector(100, metric="mahalanobis", random_state=0).fit_transform(X)
assert len({output.tobytes() for output in together(fit)}) == 1
""",
    "diagnose": """
from skinvariant.diagnosis import diagnose
def agreement():
    with config_context(working_memory=1):
        return tuple(
            diagnose(
                X, X[:, ::-1], metrics=["cosine"], pre=[None, "whiten"],
                post=["layer"], n_anchors=80, random_state=0, n_jobs=2,
            ).agreement.values()
        )
assert len(set(together(agreement, 6))) == 1
""",
    "cross_stitch": """
from joblib import parallel_config
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from skinvariant.stitching import cross_stitch
y = (X[:, 0] > 0).astype(int)
spaces = {"a": (X[:400], X[400:]), "b": (X[:400, ::-1], X[400:, ::-1])}
model = make_pipeline(RelativeProjector(), RidgeClassifier())
def scores():
    report = cross_stitch(
        model, spaces, (y[:400], y[400:]), n_anchors=[20, 40], n_seeds=2,
        n_resamples=2, baselines=["translate_ridge", "retrained"], random_state=0,
    )
    return report.scores.tobytes() + report.resampled.tobytes()
alone = scores()
with parallel_config("threading", n_jobs=4):
    assert scores() == alone
assert set(together(scores, 4)) == {alone}
""",
    "transform_batches": """
from skinvariant.outofcore import transform_batches
alone = transform_batches(projector, X, np.empty((len(X), 100)), batch_size=50)
def transform():
    out = np.empty((len(X), 100))
    return transform_batches(projector, X, out, batch_size=50)
assert {output.tobytes() for output in together(transform)} == {alone.tobytes()}
""",
    "dask": """
import dask.array as da
lazy = projector.transform(da.from_array(X, chunks=(50, 64)))
alone = lazy.compute(scheduler="synchronous")
def both():
    with config_context(working_memory=1):
        projector.transform(X)
    return lazy.compute(scheduler="threads", num_workers=4)
assert {output.tobytes() for output in together(both)} == {alone.tobytes()}
""",
}


@pytest.mark.parametrize("call", OVERLAPPING)
def test_calls_that_overlap_give_back_what_they_found(call):
    """In a process of its own, where nothing has set the number of threads before."""
    if call == "dask":
        pytest.importorskip("dask")
    script = BEGIN + OVERLAPPING[call] + "assert n_threads() == before, n_threads()\n"
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, "4")
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)


def test_one_thread_inside_also_nested(three):
    """The inner one that is left does not lift the limit of the outer one."""
    with one_blas_thread:
        with one_blas_thread:
            assert set(n_threads()) == {1}
        assert set(n_threads()) == {1}
        with one_thread():
            assert set(n_threads(POOLS)) == {1}
        assert set(n_threads()) == {1}
    assert set(n_threads()) == {3}


@pytest.mark.parametrize("guard", [lambda: one_blas_thread, one_thread])
def test_an_error_inside_gives_the_threads_back(guard, three):
    """And the next use is as the first one."""
    before = n_threads(POOLS)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), guard():
            1 // (n_threads()[0] - 1)  # one thread: an error
        assert n_threads(POOLS) == before


def test_an_error_in_a_block_gives_the_threads_back(three):
    """Whatever the block."""
    X = np.random.default_rng(0).standard_normal((200, 50))
    projector = RelativeProjector(50, random_state=0).fit(X)
    projector._posts = [SimpleNamespace(transform=None)]
    with pytest.raises(TypeError), config_context(working_memory=0.1):
        projector.transform(X)
    assert set(n_threads()) == {3}


def hold(guard, held, release):
    """Enter in this thread, and leave when told."""
    with guard:
        held.set()
        assert release.wait(60)


def in_threads(guard, n_holders=2):
    """Start threads that hold the guard; return them with what releases each."""
    holders = []
    for _ in range(n_holders):
        held, release = Event(), Event()
        holder = Thread(target=hold, args=(guard, held, release))
        holder.start()
        assert held.wait(60)
        holders.append((holder, release))
    return holders


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_last_one_out_gives_the_threads_back(order, three):
    """In whichever order, and though it is not this thread that set the limit."""
    holders = in_threads(one_blas_thread)
    for i in order:
        assert set(n_threads()) == {1}
        holder, release = holders[i]
        release.set()
        holder.join()
    assert set(n_threads()) == {3}


def test_a_limit_set_meanwhile_is_kept(three):
    """It is obeyed after the guard, not inside it."""
    [(holder, release)] = in_threads(one_blas_thread, 1)
    with BLAS.limit(limits=2):
        with one_blas_thread:
            assert set(n_threads()) == {1}
        release.set()
        holder.join()
        assert set(n_threads()) == {2}


def test_the_pools_are_looked_for_once(monkeypatch):
    """It takes milliseconds; `transform` of one row takes less."""
    X = np.random.default_rng(0).standard_normal((50, 5))
    projector = RelativeProjector(5, random_state=0).fit(X)
    first = projector.transform(X[:1])
    monkeypatch.setattr(_threads, "ThreadpoolController", None)
    for _ in range(3):
        np.testing.assert_array_equal(projector.transform(X[:1]), first)


class Pool:
    """What threadpoolctl knows of a library, of four threads."""

    user_api, internal_api, prefix = "blas", "openblas", "libopenblas"
    threading_layer = "pthreads"

    def __init__(self, filepath, **attributes):
        self.filepath, self.state = filepath, SimpleNamespace()
        vars(self).update(attributes)

    @property
    def num_threads(self):
        """The present limit."""
        return getattr(self.state, "n_threads", 4)

    def set_num_threads(self, n_threads):
        """Set it."""
        self.state.n_threads = n_threads


@pytest.fixture
def pools(monkeypatch):
    """Pools that are found by a guard."""
    found = []
    monkeypatch.setattr(
        _threads,
        "ThreadpoolController",
        lambda: SimpleNamespace(lib_controllers=list(found)),
    )
    return found


def test_a_library_that_is_loaded_later(pools, monkeypatch):
    """Those inside when it is loaded do not know it; whoever comes next does."""
    guard = _threads._Guard(_threads._blas_pools)
    first, later = Pool("first"), Pool("later")
    pools.append(first)
    with guard:
        pools.append(later)
        assert (first.num_threads, later.num_threads) == (1, 4)
        monkeypatch.setitem(sys.modules, "loaded_later", ModuleType("loaded_later"))
        with guard:
            assert (first.num_threads, later.num_threads) == (1, 1)
        assert (first.num_threads, later.num_threads) == (1, 1)
    assert (first.num_threads, later.num_threads) == (4, 4)


@pytest.mark.parametrize("kind", ["openmp", "mkl"])
def test_a_limit_of_the_calling_thread_alone(kind, pools):
    """Every thread inside has it, and none keeps it."""
    guard = _threads._Guard(_threads._blas_pools)
    if kind == "mkl":
        symbols = ("MKL_Set_Num_Threads_Local",)
        runtime = Pool("mkl", internal_api="mkl", check_symbols=symbols)
        pools.append(runtime)
    else:
        runtime = Pool("gomp", user_api="openmp", internal_api="openmp")
        pools.extend([Pool("blas", threading_layer="openmp"), runtime])
    runtime.state = local()
    seen = []

    def inside():
        with guard:
            seen.append(runtime.num_threads)
        seen.append(runtime.num_threads)

    with guard, ThreadPoolExecutor(1) as executor:
        assert runtime.num_threads == 1
        executor.submit(inside).result()
    assert runtime.num_threads == 4
    assert seen == [1, 4]


FORK = """
import os, threading
from threadpoolctl import ThreadpoolController
from skinvariant._threads import one_blas_thread
pools = ThreadpoolController().select(user_api="blas").lib_controllers
before = [pool.num_threads for pool in pools]
held, release = threading.Event(), threading.Event()
def hold():
    with one_blas_thread:
        held.set()
        release.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
def check():
    assert [pool.num_threads for pool in pools] == before
    with one_blas_thread:
        assert {pool.num_threads for pool in pools} == {1}
    assert [pool.num_threads for pool in pools] == before
child = os.fork()
if child == 0:
    try:
        check()
    except BaseException:
        os._exit(1)
    os._exit(0)
_, status = os.waitpid(child, 0)
release.set()
thread.join()
assert status == 0
check()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_does_not_wait_for_threads_it_lacks():
    """Its BLAS has the threads back that one of the parent's threads had limited."""
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK], check=True, timeout=120
    )


def test_fits_in_threads_leave_the_filters_of_warnings_alone():
    """A filter is one for all threads: a fit that sets one may take another's back."""
    X = np.random.default_rng(0).standard_normal((60, 4))
    X[:10] = 0  # without a direction, of which transform warns
    before = list(warnings.filters)

    def fit():
        for _ in range(20):
            RelativeProjector(30, random_state=0).fit(X)

    with ThreadPoolExecutor(6) as threads:
        for done in [threads.submit(fit) for _ in range(6)]:
            done.result()
    assert warnings.filters == before
    with pytest.warns(UserWarning, match="is undefined for zero rows"):
        RelativeProjector(30, random_state=0).fit(X).transform(X)
