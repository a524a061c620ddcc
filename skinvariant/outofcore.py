"""Out of core: transform arrays that do not fit in memory, batch by batch."""

import math
import mmap
import pickle
from contextlib import nullcontext
from numbers import Integral
from pathlib import Path

import numpy as np
from joblib.hashing import NumpyHasher
from scipy.sparse import issparse
from sklearn.utils import gen_batches

from skinvariant._files import (
    array_digest,
    atomic_write,
    dump_json,
    exclusive,
    parse_json,
    parsing,
)
from skinvariant._progress import progress_bar
from skinvariant._validation import check_number, to_numpy

__all__ = ["transform_batches"]

_BATCH_MIB = 64  # of input and output together
_SHARED = ("r", "r+", "w+")  # modes of a memory map whose pages the file has too
_FIELDS = {"run": dict, "n_done": int, "rows": dict, "status": str}


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
        It changes values only by rounding.
    checkpoint : str or path, default=None
        A small JSON file with the number of rows that are done, written after each
        batch.  If it exists, the run continues from there, and does nothing if all rows
        are done.  It stays when the run is complete: delete it to start again.  One
        run alone can use it at a time.  None: every call starts from the first row.
    verbose : bool, default=False
        Whether to show a progress bar of rows, which needs tqdm.

    Returns
    -------
    same object as `out`
        `out`, with the transformed rows.

    Raises
    ------
    TypeError
        If `transformer` cannot transform, returns other than real numbers, or cannot
        be pickled for a `checkpoint`;
        if the dtype of `out` is not one of the above; if `batch_size` is no integer.
    ValueError
        If the shape of `out` differs from that of the output, a value leaves the range
        of its dtype, `batch_size` is below 1 or there are no rows; if `checkpoint`
        belongs to another run or is damaged, or `X` or `out` has other values in the
        rows that it counts as done, as far as these are compared.
    BlockingIOError
        If another thread or process is using the `checkpoint`.
    ImportError
        If `verbose`, and tqdm is not installed.

    See Also
    --------
    skinvariant.RelativeProjector : Rows compared with anchors, under one metric.

    Notes
    -----
    After each batch `out` is flushed, if it has a ``flush`` method, and the pages of
    memory maps are released to the operating system; except those of a copy-on-write
    map (mode "c"), which hold its changes.

    A run that is killed and started again ends with the same bytes as one that was
    not, because its batches are the same.  A checkpoint identifies its run by the
    fitted transformer, the shape and dtype of `X`, the dtype of `out`, the batch size,
    and digests of the first and the last row that is done, in `X` and in `out`.  The
    last row of `out` is compared before each batch, too, and reveals another process
    that writes the same file under another checkpoint.  Parts of one file may be
    written at the same time, each with a checkpoint of its own.

    Examples
    --------
    Rows and output on disk.  Mode "w+" makes a file of zeros, so a run that continues
    must open its output with "r+":

    >>> import json
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
    >>> round(float(abs(out - projector.transform(X)).max()), 4)  # out is float16
    0.0002
    >>> json.loads(checkpoint.read_text())["n_done"]
    1000
    >>> del out
    >>> folder.cleanup()
    """
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
    n_samples = X.shape[0]
    if n_samples == 0:
        raise ValueError(f"X must have at least one row; got shape {tuple(X.shape)}")
    dtype = np.dtype(out.dtype)
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise TypeError(f"out must be float16, float32 or float64; got dtype {dtype}")
    if batch_size is None:
        width = X.nnz / n_samples if issparse(X) else math.prod(X.shape[1:])
        itemsize = getattr(getattr(X, "dtype", None), "itemsize", 8)
        row = width * itemsize + math.prod(out.shape[1:]) * dtype.itemsize
        batch_size = max(1, int(_BATCH_MIB * 2**20 / max(1, row)))
    check_number("batch_size", batch_size, Integral, 1)
    checkpoint = None if checkpoint is None else Path(checkpoint)
    run = checkpoint and {
        "transformer": _hash(transformer),
        "X.shape": list(X.shape),
        "X.dtype": str(getattr(X, "dtype", None)),
        "out.dtype": str(out.dtype),
        "batch_size": int(batch_size),
    }
    with exclusive(checkpoint) if checkpoint else nullcontext():
        done = _read_checkpoint(checkpoint, run, X, out) if checkpoint else {}
        n_done = done.get("n_done", 0)
        bar = progress_bar(n_samples, unit="rows", verbose=verbose, done=n_done)
        with bar as advance:
            for rows in gen_batches(n_samples, int(batch_size)):
                if rows.stop <= n_done:
                    continue
                values = _transform(transformer, X, out, rows)
                if done:  # by no other process meanwhile
                    _check_rows(done, {"out": out}, checkpoint)
                out[rows] = values
                if hasattr(out, "flush"):
                    out.flush()
                if checkpoint:
                    done = {
                        "run": run,
                        "n_done": rows.stop,
                        "rows": _digests({"X": X, "out": out}, rows.stop),
                        "status": "complete"
                        if rows.stop == n_samples
                        else "incomplete",
                    }
                    with atomic_write(checkpoint) as file:
                        file.write(dump_json(done).encode())
                _release_pages(X)
                _release_pages(out)
                advance(rows.stop - rows.start)
    return out


def _rows(X):
    """Return what gives rows by position, whatever the labels of a frame are."""
    return getattr(X, "iloc", X)


def _transform(transformer, X, out, rows):
    """Return the output of some rows, checked, in the dtype of `out`."""
    values = transformer.transform(_rows(X)[rows])
    values = values.toarray() if issparse(values) else to_numpy(values)
    n_rows = rows.stop - rows.start
    if values.shape[:1] != (n_rows,):
        raise ValueError(
            f"transformer must return a row for each of the {n_rows} rows that it is "
            f"given; got shape {values.shape}"
        )
    if values.dtype.kind not in "biuf":
        raise TypeError(
            f"transformer must return real numbers; got dtype {values.dtype}"
        )
    shape = (X.shape[0], *values.shape[1:])
    if tuple(out.shape) != shape:
        raise ValueError(
            f"out must be of shape {shape}, as the output is; got {tuple(out.shape)}"
        )
    with np.errstate(over="ignore"):
        narrow = values.astype(np.dtype(out.dtype), copy=False)
    lost = values[np.isinf(narrow) & np.isfinite(values)]
    if lost.size:
        raise ValueError(
            f"out must have a wider dtype than {narrow.dtype}, whose values are within "
            f"{np.finfo(narrow.dtype).max:.6g}; got {lost[0]:.6g} in rows "
            f"{rows.start} to {rows.stop - 1}"
        )
    return narrow


def _release_pages(array):
    """Release the pages of a memory map; they are read from its file when needed."""
    mode = None
    while isinstance(array, np.ndarray):
        mode = array.mode if isinstance(array, np.memmap) else mode
        array = array.base
    possible = isinstance(array, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED")
    if possible and mode in _SHARED:
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
            "checkpoint needs a transformer that can be pickled, to recognise it "
            f"later (a function of a module in place of a lambda); got {transformer!r}"
        ) from error
    return _Hasher(hash_name="sha1", coerce_mmap=True).hash(stored)


def _digests(arrays, n_done):
    """Return digests of the first and the last row that is done, by array."""
    digests = {}
    for name, array in arrays.items():
        for i in (0, n_done - 1):
            row = _rows(array)[i : i + 1]
            row = row if issparse(row) else to_numpy(row)
            of_objects = row.dtype.hasobject  # whose bytes are addresses
            digest = _Hasher(hash_name="sha1").hash if of_objects else array_digest
            digests[f"{name}, row {i}"] = digest(row)
    return digests


def _check_rows(done, arrays, checkpoint):
    """Raise an error if rows that are done have other values than they had then."""
    for place, digest in _digests(arrays, done["n_done"]).items():
        if digest == done["rows"].get(place):
            continue
        name, _, row = place.partition(", ")
        if name == "X":
            raise ValueError(
                f"X must be that of the run of checkpoint {str(checkpoint)!r} (delete "
                f"the file to start again); got other values in {row}"
            )
        raise ValueError(
            f"out must have the {done['n_done']} rows that checkpoint "
            f"{str(checkpoint)!r} counts as done: open it with mode 'r+', since 'w+' "
            "makes it zeros, let one process alone write it, or delete the checkpoint "
            f"to start again; got other values in {row}"
        )


def _read_checkpoint(checkpoint, run, X, out):
    """Return the state of a run that its checkpoint has, {} where there is none."""
    if not checkpoint.exists():
        return {}
    data, n_samples = checkpoint.read_bytes(), run["X.shape"][0]
    wanted = (
        f"checkpoint {str(checkpoint)!r} must be a file that transform_batches has "
        "written, or not exist"
    )
    with parsing(wanted):
        done = parse_json(data, _FIELDS)
    differences = [
        f"{name} is {run[name]}, was {done['run'].get(name)}"
        for name in run
        if run[name] != done["run"].get(name)
    ]
    if differences:
        raise ValueError(
            f"checkpoint {str(checkpoint)!r} must be of the same run (delete the file "
            f"to start again); got {'; '.join(differences)}"
        )
    n_done = done["n_done"]
    if not 0 < n_done <= n_samples or (
        n_done % run["batch_size"] and n_done < n_samples
    ):
        raise ValueError(f"{wanted}; got n_done = {n_done} of {n_samples} rows")
    if tuple(out.shape[:1]) != (n_samples,):
        raise ValueError(
            f"out must have the {n_done} rows that are done, of {n_samples}; got shape "
            f"{tuple(out.shape)}"
        )
    _check_rows(done, {"X": X, "out": out}, checkpoint)
    return done
