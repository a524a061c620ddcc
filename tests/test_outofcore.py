"""Batch by batch, the output is that of `transform`, and a kill loses one batch."""

import hashlib
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array, issparse
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from threadpoolctl import ThreadpoolController

from skinvariant import InvariantAggregator, RelativeProjector
from skinvariant._files import dump_json
from skinvariant.metrics import METRICS
from skinvariant.outofcore import transform_batches

N_SAMPLES, N_FEATURES, N_ANCHORS = 103, 8, 20
ESTIMATORS = {
    "projector": RelativeProjector(N_ANCHORS, random_state=0),
    "aggregator": InvariantAggregator(N_ANCHORS, pre="center", random_state=0),
    "metric": RelativeProjector(
        N_ANCHORS, metric=METRICS["correlation"], random_state=0
    ),
    "pipeline": make_pipeline(
        StandardScaler(), PCA(4), RelativeProjector(N_ANCHORS, random_state=0)
    ),
}


@pytest.fixture
def X():
    """A space in float32."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((N_SAMPLES, N_FEATURES), dtype=np.float32)


@pytest.fixture
def projector(X):
    """A fitted projector."""
    return RelativeProjector(N_ANCHORS, random_state=0).fit(X)


@pytest.fixture
def out():
    """Room for its output, with no value that it could have."""
    return np.full((N_SAMPLES, N_ANCHORS), 7, dtype=np.float32)


class RowsOnly:
    """What is asked of an array, and nothing else."""

    def __init__(self, array):
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        return self._array[rows]

    def __setitem__(self, rows, values):
        assert isinstance(rows, slice)
        self._array[rows] = values


class Recording(BaseEstimator):
    """Twice the rows; the class notes how many, and fails when told."""

    n_rows = []
    fails_after = np.inf

    def transform(self, X):
        """Double."""
        if len(self.n_rows) >= self.fails_after:
            raise RuntimeError("killed")
        self.n_rows.append(X.shape[0])
        return 2 * X


@pytest.fixture
def recording(monkeypatch):
    """A transformer whose calls are known."""
    monkeypatch.setattr(Recording, "n_rows", [])
    return Recording()


def on_disk(path, array, mode):
    """Return a memory map with the values of an array."""
    stored = np.memmap(path, array.dtype, "w+", shape=array.shape)
    stored[:] = array
    stored.flush()
    return np.memmap(path, array.dtype, mode, shape=array.shape)


@pytest.mark.parametrize("batch_size", [1, 7, 102, 103, 1000, np.int64(50), None])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_output_is_that_of_transform(name, batch_size, X):
    """Within rounding, whatever the batch size."""
    transformer = ESTIMATORS[name].fit(X)
    expected = transformer.transform(X)
    out = np.full_like(expected, np.nan)
    assert transform_batches(transformer, X, out, batch_size=batch_size) is out
    assert_allclose(
        out, expected, atol=64 * np.finfo(X.dtype).eps * abs(expected).max()
    )


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_memory_maps(mode, projector, X, out, tmp_path):
    """Rows from a file, output in a file, as another process would see it."""
    rows = on_disk(tmp_path / "X", X, mode)
    stored = on_disk(tmp_path / "out", out, "r+")
    transform_batches(projector, rows, stored, batch_size=10)
    transform_batches(projector, X, out, batch_size=10)
    assert_array_equal(np.fromfile(tmp_path / "out", np.float32), out.ravel())
    assert_array_equal(rows, X)


def test_parts_of_memory_maps(projector, X, out, tmp_path):
    """Views, and views without the class of a memory map, are memory maps still."""
    rows = np.asarray(on_disk(tmp_path / "X", X, "r"))[3:]
    stored = on_disk(tmp_path / "out", out, "r+")
    transform_batches(projector, rows, stored[3:], batch_size=10)
    transform_batches(projector, X[3:], out[3:], batch_size=10)
    assert_array_equal(np.fromfile(tmp_path / "out", np.float32), out.ravel())


def test_what_has_a_shape_and_rows_is_enough(projector, X, out, tmp_path):
    """Input and output that can do nothing else, with a checkpoint too."""
    expected = transform_batches(projector, X, out.copy(), batch_size=10)
    params = {"batch_size": 10, "checkpoint": tmp_path / "done.json"}
    transform_batches(projector, RowsOnly(X), RowsOnly(out), **params)
    assert_array_equal(out, expected)


@pytest.mark.parametrize("batch_size", [10, None])
def test_sparse_rows(batch_size, projector, X, out):
    """CSR rows are sliced as they are."""
    transform_batches(projector, csr_array(X), out, batch_size=batch_size)
    assert_allclose(out, projector.transform(X), atol=64 * np.finfo(np.float32).eps)


def test_sparse_output_is_written_dense(X):
    """A transformer that returns CSR rows."""
    rows = csr_array(X * (X > 0))
    out = transform_batches(Recording(), rows, np.empty_like(X), batch_size=10)
    assert_array_equal(out, 2 * rows.toarray())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_dtypes_of_the_output(dtype, projector, X):
    """The values of `transform`, rounded to the dtype of `out`."""
    out = np.zeros((N_SAMPLES, N_ANCHORS), dtype)
    transform_batches(projector, X, out, batch_size=N_SAMPLES)
    assert_array_equal(out, projector.transform(X).astype(dtype))


@pytest.mark.parametrize("value", [65520, -1e5, 1e30])
def test_a_value_beyond_float16_is_not_written(value, recording):
    """The dtype is named, and the rows before the batch are there."""
    X, out = np.ones((9, 2)), np.zeros((9, 2), np.float16)
    X[7, 1] = value / 2
    with pytest.raises(ValueError, match=r"float16.* within 65504; got .* rows 6 to 8"):
        transform_batches(recording, X, out, batch_size=3)
    assert_array_equal(out[:, 0], [2, 2, 2, 2, 2, 2, 0, 0, 0])


def test_infinite_output_stays_infinite(recording):
    """Only what the dtype makes infinite is refused."""
    X = np.array([[np.inf, 32752.0], [np.nan, -np.inf]])
    out = transform_batches(recording, X, np.zeros((2, 2), np.float16))
    assert_array_equal(out, [[np.inf, 65504], [np.nan, -np.inf]])


@pytest.mark.parametrize("shape", [(102, 20), (103, 19), (103, 1), (103,), (1, 20)])
def test_an_output_of_another_shape(shape, projector, X):
    """Both shapes are named, and nothing is broadcast."""
    out = np.full(shape, 7, np.float32)
    message = re.escape(f"shape (103, 20), as the output is; got {shape}")
    with pytest.raises(ValueError, match=message):
        transform_batches(projector, X, out)
    assert (out == 7).all()


@pytest.mark.parametrize("dtype", [int, bool, complex, object, np.longdouble])
def test_an_output_of_another_dtype(dtype, projector, X):
    """Real floating numbers alone, no wider than the output."""
    if np.dtype(dtype) == np.float64:
        pytest.skip("longdouble is float64 on this platform")
    out = np.zeros((N_SAMPLES, N_ANCHORS), dtype)
    message = f"float16, float32 or float64; got dtype {out.dtype}"
    with pytest.raises(TypeError, match=message):
        transform_batches(projector, X, out)


def test_what_is_refused(projector, X, out):
    """Each with what it must be and what was got."""
    with pytest.raises(TypeError, match="transform method; got function"):
        transform_batches(lambda X: X, X, out)
    with pytest.raises(TypeError, match="X must be an array with a shape; got list"):
        transform_batches(projector, X.tolist(), out)
    with pytest.raises(TypeError, match="out must be an array with a shape; got NoneT"):
        transform_batches(projector, X, None)
    with pytest.raises(ValueError, match=r"at least one row; got shape \(0, 8\)"):
        transform_batches(projector, X[:0], out[:0])
    with pytest.raises(TypeError, match=r"batch_size must be an integer.*got 0\.5"):
        transform_batches(projector, X, out, batch_size=0.5)
    with pytest.raises(ValueError, match=r"batch_size .* got 0"):
        transform_batches(projector, X, out, batch_size=0)
    with pytest.raises(NotFittedError):
        transform_batches(RelativeProjector(), X, out)


class FirstRowOnly(BaseEstimator):
    """A transformer that loses rows."""

    def transform(self, X):
        """The first row."""
        return X[:1]


def test_rows_that_a_transformer_loses_are_missed(X):
    """One row for many would be broadcast."""
    with pytest.raises(ValueError, match=r"each of the 10 rows .* got shape \(1, 8\)"):
        transform_batches(FirstRowOnly(), X, np.empty_like(X), batch_size=10)


def test_changes_to_a_copy_on_write_map_are_kept(projector, X, out, tmp_path):
    """Its pages are not given back, since the file has not got the changes."""
    rows = on_disk(tmp_path / "X", X[::-1], "c")
    stored = on_disk(tmp_path / "out", out, "c")
    rows[:] = X
    transform_batches(projector, rows, stored, batch_size=10)
    transform_batches(projector, np.asarray(rows), np.asarray(stored), batch_size=10)
    assert_array_equal(rows, X)
    assert_array_equal(stored, transform_batches(projector, X, out, batch_size=10))
    assert (np.fromfile(tmp_path / "out", np.float32) == 7).all()


def test_a_failed_run_goes_on_where_it_was(recording, monkeypatch, X, tmp_path):
    """Only the rows that were not done are transformed."""
    out, params = np.zeros_like(X), {"checkpoint": str(tmp_path / "done.json")}
    monkeypatch.setattr(Recording, "fails_after", 4)
    with pytest.raises(RuntimeError, match="killed"):
        transform_batches(recording, X, out, batch_size=20, **params)
    stored = json.loads(Path(params["checkpoint"]).read_text())
    assert (stored["n_done"], stored["status"]) == (80, "incomplete")
    monkeypatch.setattr(Recording, "fails_after", np.inf)
    transform_batches(recording, X, out, batch_size=20, **params)
    assert recording.n_rows == [20, 20, 20, 20, 20, 3]
    assert_array_equal(out, 2 * X)


def test_a_run_that_is_done_does_nothing(recording, X, tmp_path):
    """No row is transformed, nothing is written."""
    out, params = np.zeros_like(X), {"checkpoint": tmp_path / "done.json"}
    transform_batches(recording, X, out, **params)
    stored = params["checkpoint"].read_bytes()
    assert json.loads(stored)["status"] == "complete"
    out.flags.writeable = False
    assert transform_batches(recording, X, out, **params) is out
    assert recording.n_rows == [N_SAMPLES]
    assert params["checkpoint"].read_bytes() == stored
    assert os.listdir(tmp_path) == ["done.json"]


def test_a_checkpoint_of_another_run(projector, X, out, tmp_path):
    """What differs is named, and the file, and what to do."""
    checkpoint = tmp_path / "done.json"

    def run(transformer=projector, X=X, out=out, batch_size=50):
        params = {"batch_size": batch_size, "checkpoint": checkpoint}
        return transform_batches(transformer, X, out, **params)

    run()
    before = out.copy()
    other = RelativeProjector(N_ANCHORS, random_state=1).fit(X)
    for params, difference in [
        ({"transformer": other}, "transformer is .*, was [^;]*"),
        ({"X": X[:100], "out": out[:100]}, r"X.shape is \[100, 8\], was \[103, 8\]"),
        ({"X": X.astype(float)}, "X.dtype is float64, was float32"),
        ({"out": out.astype(np.float16)}, "out.dtype is float16, was float32"),
        ({"batch_size": 51}, "batch_size is 51, was 50"),
    ]:
        message = f"done.json.*delete the file to start again.*; got {difference}$"
        with pytest.raises(ValueError, match=message):
            run(**params)
    assert_array_equal(out, before)
    checkpoint.unlink()
    run(batch_size=51)


def signed(**changes):
    """Return a checkpoint of another's making, with the digest of what it holds."""
    state = {"run": {}, "n_done": 2, "rows": {}, "status": "incomplete"}
    return dump_json(state | changes)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        "[" * 10**5,
        "{" * 10**5,
        '{"run": {}, "n_done": 2, "rows": {}, "status": ""}',
        '{"run": {}, "n_done": Infinity, "rows": {}, "status": "", "sha256": ""}',
        '{"run": {}, "n_done": 1e999, "rows": {}, "status": "", "sha256": ""}',
        signed(n_done=2.0),
        signed(n_done=True),
        signed(n_done="2"),
        signed(n_done=None),
        signed(run=[]),
        signed(rows=None),
        signed(status=0),
        signed().replace("incomplete", "complete"),
    ],
)
def test_another_file_in_the_place_of_the_checkpoint(text, projector, X, out, tmp_path):
    """It is not overwritten."""
    checkpoint = tmp_path / "mine.json"
    checkpoint.write_text(text)
    with pytest.raises(ValueError, match=r"mine\.json.* got another file"):
        transform_batches(projector, X, out, checkpoint=checkpoint)
    assert checkpoint.read_text() == text


@pytest.mark.parametrize("n_done", [-1, 0, 3, 104, 10**30])
def test_a_number_of_rows_that_no_run_has_done(n_done, projector, X, out, tmp_path):
    """It is no multiple of the batch size, or there are not so many."""
    checkpoint = tmp_path / "done.json"
    params = {"batch_size": 50, "checkpoint": checkpoint}
    transform_batches(projector, X, out, **params)
    state = json.loads(checkpoint.read_text()) | {"n_done": n_done}
    del state["sha256"]
    checkpoint.write_text(dump_json(state))
    with pytest.raises(ValueError, match=rf"got n_done = {n_done} of 103 rows"):
        transform_batches(projector, X, out, **params)


def test_damaged_checkpoints(projector, X, out, tmp_path, damages):
    """Each is the same state, or a ValueError that names the file."""
    checkpoint = tmp_path / "done.json"
    params = {"batch_size": 50, "checkpoint": checkpoint}
    transform_batches(projector, X, out, **params)
    before, refused = out.copy(), 0
    for content in damages(checkpoint.read_bytes(), 200):
        checkpoint.write_bytes(content)
        try:
            transform_batches(projector, X, out, **params)
        except ValueError as error:
            refused += "done.json" in str(error)
        assert_array_equal(out, before)
    assert refused > 190


class FloatsOf(Recording):
    """Twice the rows of any container."""

    def transform(self, X):
        """Double."""
        return super().transform(X if issparse(X) else np.asarray(X, dtype=float))


def frame(X):
    """Return a frame whose labels are no positions."""
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(X, index=np.arange(len(X))[::-1] / 2)


def objects(X):
    """Return Python objects, whose bytes are addresses."""
    return X.astype(object)


@pytest.mark.parametrize("kind", [np.asarray, csr_array, frame, objects])
@pytest.mark.parametrize("row", [0, 39])
def test_other_rows_are_not_gone_on_with(kind, row, recording, monkeypatch, tmp_path):
    """The first and the last row that is done are compared, whatever holds them."""
    X = np.arange(206.0).reshape(103, 2)
    changed = X.copy()
    changed[row, 1] += 1
    out, params = np.zeros_like(X), {"checkpoint": tmp_path / "done.json"}
    params["batch_size"] = 20
    monkeypatch.setattr(Recording, "fails_after", 2)
    with pytest.raises(RuntimeError, match="killed"):
        transform_batches(FloatsOf(), kind(X), out, **params)
    monkeypatch.setattr(Recording, "fails_after", np.inf)
    with pytest.raises(
        ValueError, match=rf"X must be .* got other values in row {row}"
    ):
        transform_batches(FloatsOf(), kind(changed), out, **params)
    transform_batches(FloatsOf(), kind(X), out, **params)
    assert_array_equal(out, 2 * X)


@pytest.mark.parametrize("result", [["a"], [None], [1j]])
def test_output_that_is_no_real_number(result, X):
    """It is not converted."""
    transformer = FunctionTransformer(lambda X: np.array([result] * len(X)))
    with pytest.raises(TypeError, match="must return real numbers; got dtype"):
        transform_batches(transformer, X, np.zeros((N_SAMPLES, 1)))


def test_threads_on_one_checkpoint(projector, X, out, tmp_path):
    """One wins, and all others know."""
    checkpoint, start = tmp_path / "done.json", Barrier(8)

    def run():
        start.wait(60)
        try:
            params = {"batch_size": 1, "checkpoint": checkpoint}
            transform_batches(projector, X, out, **params)
        except BlockingIOError as error:
            return str(error)

    with ThreadPoolExecutor(8) as executor:
        errors = [
            future.result() for future in [executor.submit(run) for _ in "12345678"]
        ]
    assert None in errors
    assert {error for error in errors if error} == {
        f"{checkpoint} must be in use by one run at a time; got a second one"
    }
    alone = transform_batches(projector, X, np.zeros_like(out), batch_size=1)
    assert_array_equal(out, alone)
    assert os.listdir(tmp_path) == ["done.json"]


def test_parts_of_one_output_at_once(projector, X, tmp_path):
    """Each with a checkpoint of its own, and the bits of one run."""
    out = np.memmap(
        tmp_path / "out", np.float64, "w+", shape=(8 * N_SAMPLES, N_ANCHORS)
    )

    def run(i):
        part = slice(i * N_SAMPLES, (i + 1) * N_SAMPLES)
        checkpoint = tmp_path / f"{i}.json"
        transform_batches(projector, X, out[part], batch_size=9, checkpoint=checkpoint)

    pools = ThreadpoolController().select(user_api="blas").lib_controllers
    before = [pool.num_threads for pool in pools]
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(run, range(8)))
    alone = transform_batches(
        projector, X, np.zeros((N_SAMPLES, N_ANCHORS)), batch_size=9
    )
    assert_array_equal(out, np.tile(alone, (8, 1)))
    assert [pool.num_threads for pool in pools] == before


def test_another_writer_of_the_output_is_noticed(recording, monkeypatch, X, tmp_path):
    """Under a checkpoint of its own, or with none."""
    out = np.zeros_like(X)
    params = {"batch_size": 20, "checkpoint": tmp_path / "done.json"}
    transform = Recording.transform

    def transform_and_spoil(self, X):
        if len(self.n_rows) == 2:
            out[:] = 0
        return transform(self, X)

    monkeypatch.setattr(Recording, "transform", transform_and_spoil)
    with pytest.raises(ValueError, match=r"out must have the 40 rows .* in row 0"):
        transform_batches(recording, X, out, **params)


def test_an_output_made_anew_is_not_gone_on_with(recording, monkeypatch, X, tmp_path):
    """A file opened with "w+" has lost the rows that are done."""
    params = {"batch_size": 20, "checkpoint": tmp_path / "done.json"}
    out = np.memmap(tmp_path / "out", X.dtype, "w+", shape=X.shape)
    monkeypatch.setattr(Recording, "fails_after", 2)
    with pytest.raises(RuntimeError, match="killed"):
        transform_batches(recording, X, out, **params)
    monkeypatch.setattr(Recording, "fails_after", np.inf)
    out = np.memmap(tmp_path / "out", X.dtype, "w+", shape=X.shape)
    with pytest.raises(ValueError, match=r"out must have the 40 rows .* 'r\+'"):
        transform_batches(recording, X, out, **params)
    with pytest.raises(ValueError, match="out must have the 40 rows"):
        transform_batches(recording, X, out[:30], **params)


def test_a_checkpoint_needs_a_transformer_that_pickles(X, out, tmp_path):
    """A lambda cannot be known again; without a checkpoint it need not."""
    transformer = RelativeProjector(
        N_ANCHORS, metric=lambda X, anchors: X @ anchors.T, random_state=0
    ).fit(X)
    transform_batches(transformer, X, out)
    with pytest.raises(TypeError, match=r"can be pickled.*got RelativeProjector"):
        transform_batches(transformer, X, out, checkpoint=tmp_path / "done.json")


#: Goes on with a finished run, of which it does not transform a row.
GO_ON = """
import pickle, sys
from skinvariant.outofcore import transform_batches
with open(sys.argv[1], "rb") as file:
    runs = pickle.load(file)
for transformer, X, out, checkpoint in runs:
    out.flags.writeable = False
    transform_batches(transformer, X, out, checkpoint=checkpoint)
print(len(runs))
"""


def test_a_transformer_is_known_again_in_another_process(X, tmp_path):
    """Loaded from a file, whatever the order of its sets and the layout of arrays."""
    X = X.astype(float, order="F")
    runs = []
    for name, estimator in ESTIMATORS.items():
        transformer = estimator.fit(X)
        transformer.strided_ = X[::2, ::2]
        out, checkpoint = np.zeros((N_SAMPLES, 80)), tmp_path / f"{name}.json"
        out = out[:, : transformer.transform(X[:2]).shape[1]]
        transform_batches(transformer, X, out, checkpoint=checkpoint)
        runs.append((transformer, X, out, checkpoint))
    path = tmp_path / "runs"
    path.write_bytes(pickle.dumps(runs))
    for seed in "12":
        environment = os.environ | {"PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", GO_ON, str(path)]
        done = subprocess.check_output(command, env=environment, text=True)
        assert int(done) == len(ESTIMATORS) == 4


#: A run with a rest after each batch; prints the numbers of the rows that it does.
RUN = """
import sys, time
from pathlib import Path
import numpy as np
from skinvariant import RelativeProjector
from skinvariant.outofcore import transform_batches

class Slow:
    def __init__(self, projector):
        self.projector = projector
    def transform(self, X):
        time.sleep(float(sys.argv[2]))
        print(int(X[0, 0]), flush=True)
        return self.projector.transform(X)

folder = Path(sys.argv[1])
X = np.random.default_rng(0).standard_normal((1000, 8), dtype=np.float32)
X[:, 0] = np.arange(1000)
transformer = Slow(RelativeProjector(20, metric="euclidean", random_state=0).fit(X))
path = folder / "out"
out = np.memmap(path, np.float32, "r+" if path.exists() else "w+", shape=(1000, 20))
checkpoint = folder / "done.json"
transform_batches(transformer, X, out, batch_size=30, checkpoint=checkpoint)
"""


def start_run(folder, rest, **params):
    """Start the run in a process of its own."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", RUN, str(folder), str(rest)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **params)


def rows_done(folder):
    """How many rows the checkpoint counts."""
    path = folder / "done.json"
    return json.loads(path.read_text())["n_done"] if path.exists() else 0


def digest(folder):
    """Hash of the bytes of the output."""
    return hashlib.sha256((folder / "out").read_bytes()).hexdigest()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_run_ends_with_the_same_bytes(tmp_path):
    """The second run starts at the first row that the killed one had not done."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with start_run(whole, 0) as process:
        starts = [int(line) for line in process.stdout]
    assert process.returncode == 0
    assert starts == list(range(0, 1000, 30))
    with start_run(killed, 0.05) as process:
        while rows_done(killed) < 120 and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    n_done = rows_done(killed)
    assert 120 <= n_done < 1000
    assert digest(killed) != digest(whole)
    with start_run(killed, 0) as process:
        starts = [int(line) for line in process.stdout]
    assert process.returncode == 0
    assert starts == list(range(n_done, 1000, 30))
    assert digest(killed) == digest(whole)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_two_processes_on_one_output(tmp_path):
    """The first one goes on, the second one says so, and a kill leaves no lock."""
    with start_run(tmp_path, 0.6) as process:
        while rows_done(tmp_path) < 30 and process.poll() is None:
            time.sleep(0.01)
        with start_run(tmp_path, 0, stderr=subprocess.PIPE) as second:
            _, message = second.communicate()
        assert second.returncode == 1
        assert "done.json must be in use by one run at a time" in message
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
    n_done = rows_done(tmp_path)
    with start_run(tmp_path, 0) as process:
        starts = [int(line) for line in process.stdout]
    assert process.returncode == 0
    assert starts == list(range(n_done, 1000, 30))
    assert sorted(os.listdir(tmp_path)) == ["done.json", "out"]


#: Prints by how many MiB the peak of resident memory is above the start.
GROWTH = """
import re, sys
from pathlib import Path
import numpy as np
from skinvariant import RelativeProjector
from skinvariant.outofcore import transform_batches

def mib(field):
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\\s+(\\d+) kB", status)[1]) / 1024

X = np.memmap(sys.argv[1] + "/X", np.float32, "r", shape=(100_000, 768))
out = np.memmap(sys.argv[1] + "/out", np.float16, "w+", shape=(100_000, 100))
projector = RelativeProjector(100, random_state=0).fit(X[:1000])
start = mib("VmRSS")
transform_batches(projector, X, out)
print(mib("VmHWM") - start)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_is_that_of_a_batch():
    """A file of 293 MiB, and output of 19, through memory for 64 and a little."""
    rng = np.random.default_rng(0)
    block = rng.standard_normal((1000, 768), dtype=np.float32).tobytes()
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/X", "wb") as file:
            for _ in range(100):
                file.write(block)
        command = [sys.executable, "-c", GROWTH, folder]
        growth = float(subprocess.check_output(command, text=True))
    assert growth < 200


def test_the_progress_bar(recording, monkeypatch, capsys, X, tmp_path):
    """Of rows, on stderr, from the rows already done; none by default."""
    pytest.importorskip("tqdm")
    out, params = np.zeros_like(X), {"batch_size": 20, "checkpoint": tmp_path / "json"}
    monkeypatch.setattr(Recording, "fails_after", 2)
    with pytest.raises(RuntimeError, match="killed"):
        transform_batches(recording, X, out, **params)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(Recording, "fails_after", np.inf)
    transform_batches(recording, X, out, verbose=True, **params)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.findall(r"\d+\.?\d*/\d+", printed.err)[0] == "40.0/103"
    assert "0.00/103" not in printed.err
    assert re.findall(r"\d+\.?\d*/\d+", printed.err)[-1] == "103/103"


def test_the_progress_bar_needs_tqdm(recording, monkeypatch, X):
    """Which the error says how to install, before any work."""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match=r"pip install 'skinvariant\[progress\]'"):
        transform_batches(recording, X, np.zeros_like(X), verbose=True)
    assert recording.n_rows == []
    transform_batches(recording, X, np.zeros_like(X))
