"""Out of core: transform arrays that do not fit in memory, batch by batch."""

import hashlib
import json
import math
import mmap
import os
import pickle
from numbers import Integral
from pathlib import Path

import numpy as np
from joblib.hashing import NumpyHasher
from scipy.sparse import issparse
from sklearn.utils import gen_batches

from skinvariant._progress import progress_bar
from skinvariant._validation import check_number, to_numpy

__all__ = ["transform_batches"]

_BATCH_MIB = 64  # of input and output together
_SHARED = ("r", "r+", "w+")  # modes of a memory map whose pages the file has too


def transform_batches(
    transformer, X, out, *, batch_size=None, checkpoint=None, verbose=False
):
    """Transform rows batch by batch, from one array on disk into another.

    Parameters
    ----------
    transformer : fitted transformer
        A `RelativeProjector`, an `InvariantAggregator`, a Pipeline, or anything else
        with `transform`, each row of whose output depends on that row of `X` alone.
    X : array-like of shape (n_samples, n_features)
        Rows.  Anything with a `shape` that can be sliced by rows: a `numpy.memmap`,
        a dataset of h5py or zarr, an array, a CSR matrix.
    out : array of shape (n_samples, n_features_out), dtype float16, float32 or float64
        Where the output goes.  Anything that can be assigned by rows; with
        `checkpoint` it is also read by rows.
    batch_size : int, default=None
        How many rows to transform at once.  None: about 64 MiB of input and output.
        It changes a value by rounding at most.
    checkpoint : str or path, default=None
        A small JSON file that says how many rows are done, written after each batch.
        Where it exists, the run goes on from there, and does nothing where all rows
        are done.  It stays when the run is complete: delete it to start anew.  None:
        every call starts from the first row.
    verbose : bool, default=False
        Whether to show a progress bar of rows, which needs tqdm.

    Returns
    -------
    same object as `out`
        `out`, with the transformed rows.

    Raises
    ------
    TypeError
        If `transformer` cannot transform, or cannot be pickled for a `checkpoint`;
        if the dtype of `out` is not one of the above; if `batch_size` is no integer.
    ValueError
        If `out` has another shape than the output, a value leaves the range of its
        dtype, `batch_size` is below 1 or there are no rows; if `checkpoint` is of
        another run, or `out` has not the rows that it counts.
    ImportError
        If `verbose` and tqdm is not installed.

    See Also
    --------
    RelativeProjector : Rows compared with anchors, under one metric.

    Notes
    -----
    After each batch `out` is flushed, where it can be, and the pages of memory maps
    are given back to the system, where it takes them; never those of a copy-on-write
    map (mode "c"), which hold its changes.

    A run that is killed and started again ends with the same bytes as one that was
    not: its batches are the same.  A run is known by its fitted transformer, the shape
    and dtype of `X`, the dtype of `out` and the batch size, not by the values of `X`.

    Examples
    --------
    Rows and output on disk.  Mode "w+" makes a file of zeros, so a run that goes on
    must open its output with "r+":

    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from skinvariant import RelativeProjector
    >>> from skinvariant.outofcore import transform_batches
    >>> folder = tempfile.TemporaryDirectory()
    >>> path, checkpoint = Path(folder.name, "out"), Path(folder.name, "done.json")
    >>> X = np.random.default_rng(0).standard_normal((1000, 8), dtype=np.float32)
    >>> projector = RelativeProjector(n_anchors=20, random_state=0).fit(X)
    >>> mode = "r+" if path.exists() else "w+"
    >>> out = np.memmap(path, np.float16, mode, shape=(1000, 20))
    >>> out = transform_batches(projector, X, out, batch_size=64, checkpoint=checkpoint)
    >>> float(abs(out - projector.transform(X)).max()) < 2**-11  # float16 in [-1, 1]
    True
    >>> "complete" in checkpoint.read_text()
    True
    >>> del out
    >>> folder.cleanup()
    """
    _check(transformer, X, out)
    n_samples = X.shape[0]
    if batch_size is None:
        batch_size = _batch_rows(X, out)
    check_number("batch_size", batch_size, Integral, 1)
    n_done = 0
    if checkpoint is not None:
        checkpoint = Path(checkpoint)
        run = _describe(transformer, X, out, batch_size)
        n_done = _rows_done(checkpoint, run, out)
    bar = progress_bar(n_samples, unit="rows", verbose=verbose, done=n_done)
    with bar as advance:
        for rows in gen_batches(n_samples, int(batch_size)):
            if rows.stop <= n_done:
                continue
            out[rows] = _transform(transformer, X, out, rows)
            if hasattr(out, "flush"):
                out.flush()
            if checkpoint is not None:
                _record(checkpoint, run, out, rows.stop)
            _give_back(X)
            _give_back(out)
            advance(rows.stop - rows.start)
    return out


def _check(transformer, X, out):
    """Refuse what cannot be transformed, or not into `out`."""
    if not hasattr(transformer, "transform"):
        raise TypeError(
            "transformer must be a fitted estimator with a transform method; got "
            f"{type(transformer).__name__}"
        )
    for name, array in (("X", X), ("out", out)):
        if not hasattr(array, "shape"):
            raise TypeError(
                f"{name} must be an array with a shape; got {type(array).__name__}"
            )
    if X.shape[0] == 0:
        raise ValueError(f"X must have at least one row; got shape {tuple(X.shape)}")
    dtype = np.dtype(out.dtype)
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise TypeError(f"out must be float16, float32 or float64; got dtype {dtype}")


def _batch_rows(X, out):
    """How many rows of input and output take about 64 MiB together."""
    width = X.nnz / X.shape[0] if issparse(X) else math.prod(X.shape[1:])
    itemsize = getattr(getattr(X, "dtype", None), "itemsize", 8)
    row = width * itemsize + math.prod(out.shape[1:]) * out.dtype.itemsize
    return max(1, int(_BATCH_MIB * 2**20 / max(1, row)))


def _transform(transformer, X, out, rows):
    """Return the output of some rows, checked, in the dtype of `out`."""
    values = transformer.transform(X[rows])
    values = values.toarray() if issparse(values) else to_numpy(values)
    n_rows = rows.stop - rows.start
    if values.shape[:1] != (n_rows,):
        raise ValueError(
            f"transformer must return a row for each of the {n_rows} rows that it is "
            f"given; got shape {values.shape}"
        )
    shape = (X.shape[0], *values.shape[1:])
    if tuple(out.shape) != shape:
        raise ValueError(
            f"out must be of shape {shape}, as the output is; got {tuple(out.shape)}"
        )
    return _as_dtype(values, np.dtype(out.dtype), rows)


def _as_dtype(values, dtype, rows):
    """Return values in a dtype, or say which would be infinite in it."""
    with np.errstate(over="ignore"):
        narrow = values.astype(dtype, copy=False)
    lost = values[np.isinf(narrow) & np.isfinite(values)]
    if lost.size:
        raise ValueError(
            f"out has dtype {dtype}, whose values must be within "
            f"{np.finfo(dtype).max:.6g}; got {lost[0]:.6g} in rows {rows.start} to "
            f"{rows.stop - 1}: give an out of a wider dtype"
        )
    return narrow


def _give_back(array):
    """Give the pages of a memory map back; the file has them when they are needed."""
    mode = None
    while isinstance(array, np.ndarray):
        mode = array.mode if isinstance(array, np.memmap) else mode
        array = array.base
    can = isinstance(array, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED")
    if can and mode in _SHARED:
        array.flush()
        array.madvise(mmap.MADV_DONTNEED)


class _Hasher(NumpyHasher):
    """That of `joblib.hash`, with frozensets in the same order in every process."""

    dispatch = NumpyHasher.dispatch | {frozenset: NumpyHasher.save_set}


def _hash(transformer):
    """Return a hash of a fitted transformer that is the same in every process."""
    try:
        # memory layout and shared parts as after loading it from a file
        stored = pickle.loads(pickle.dumps(transformer))
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        raise TypeError(
            "checkpoint needs a transformer that can be pickled, to know it again "
            f"(a function of a module in place of a lambda); got {transformer!r}"
        ) from error
    return _Hasher(hash_name="sha1", coerce_mmap=True).hash(stored)


def _describe(transformer, X, out, batch_size):
    """Return what a run must have in common with the one that it goes on with."""
    return {
        "transformer": _hash(transformer),
        "X.shape": list(X.shape),
        "X.dtype": str(getattr(X, "dtype", None)),
        "out.dtype": str(out.dtype),
        "batch_size": int(batch_size),
    }


def _rows_done(checkpoint, run, out):
    """Return how many rows of this run are done, by its checkpoint."""
    if not checkpoint.exists():
        return 0
    before, n_done, last_row = _read(checkpoint)
    differences = [
        f"{name} is {run[name]}, was {before.get(name)}"
        for name in run
        if run[name] != before.get(name)
    ]
    if differences:
        raise ValueError(
            f"checkpoint {str(checkpoint)!r} must be of the same run: "
            f"{'; '.join(differences)}; delete the file to start anew"
        )
    if tuple(out.shape[:1]) != (run["X.shape"][0],) or _row(out, n_done) != last_row:
        raise ValueError(
            f"out must have the {n_done} rows that checkpoint {str(checkpoint)!r} "
            "counts as done; got other values: open it with mode 'r+', since 'w+' "
            "makes it zeros, or delete the checkpoint to start anew"
        )
    return n_done


def _read(checkpoint):
    """Return the run of a checkpoint, the rows done and the hash of the last one."""
    try:
        stored = json.loads(checkpoint.read_text())
        return dict(stored["run"]), int(stored["n_done"]), stored["last_row"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"checkpoint {str(checkpoint)!r} must be a file that transform_batches "
            "has written, or not exist; got another file"
        ) from error


def _row(out, n_done):
    """Return a hash of the last row that is done."""
    row = np.asarray(out[n_done - 1 : n_done])
    return hashlib.sha256(row.tobytes()).hexdigest()


def _record(checkpoint, run, out, n_done):
    """Write the checkpoint, so that a kill leaves either the old or the new one."""
    state = {
        "run": run,
        "n_done": n_done,
        "last_row": _row(out, n_done),
        "status": "complete" if n_done == run["X.shape"][0] else "going on",
    }
    beside = checkpoint.with_name(checkpoint.name + ".tmp")
    with beside.open("w") as file:
        json.dump(state, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, checkpoint)
