"""Out of core: transform arrays that do not fit in memory, batch by batch."""

import json
import math
import mmap
import pickle
from numbers import Integral
from pathlib import Path

import numpy as np
from joblib.hashing import NumpyHasher
from scipy.sparse import issparse
from sklearn.utils import gen_batches

from skinvariant._files import array_digest, atomic_write
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
        It changes values only by rounding.
    checkpoint : str or path, default=None
        A small JSON file with the number of rows that are done, written after each
        batch.  If it exists, the run continues from there, and does nothing if all rows
        are done.  It stays when the run is complete: delete it to start again.  None:
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
        If the shape of `out` differs from that of the output, a value leaves the range
        of its dtype, `batch_size` is below 1 or there are no rows; if `checkpoint`
        belongs to another run, or `out` lacks the rows that it counts as done.
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
    fitted transformer, the shape and dtype of `X`, the dtype of `out` and the batch
    size, but not by the values of `X`.

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
    n_done = 0
    if checkpoint is not None:
        checkpoint = Path(checkpoint)
        run = {
            "transformer": _hash(transformer),
            "X.shape": list(X.shape),
            "X.dtype": str(getattr(X, "dtype", None)),
            "out.dtype": str(out.dtype),
            "batch_size": int(batch_size),
        }
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
                state = {
                    "run": run,
                    "n_done": rows.stop,
                    "last_row": _digest_of_row(out, rows.stop - 1),
                    "status": "complete" if rows.stop == n_samples else "incomplete",
                }
                with atomic_write(checkpoint) as file:
                    file.write(json.dumps(state, indent=1).encode())
            _release_pages(X)
            _release_pages(out)
            advance(rows.stop - rows.start)
    return out


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


def _digest_of_row(out, i):
    """Return the digest of a row that has been written."""
    return array_digest(np.asarray(out[i : i + 1]))


def _rows_done(checkpoint, run, out):
    """Return how many rows of a run its checkpoint counts as done."""
    if not checkpoint.exists():
        return 0
    try:
        stored = json.loads(checkpoint.read_text())
        before, n_done = dict(stored["run"]), int(stored["n_done"])
        last_row = stored["last_row"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"checkpoint {str(checkpoint)!r} must be a file that transform_batches "
            "has written, or not exist; got another file"
        ) from error
    differences = [
        f"{name} is {run[name]}, was {before.get(name)}"
        for name in run
        if run[name] != before.get(name)
    ]
    if differences:
        raise ValueError(
            f"checkpoint {str(checkpoint)!r} must be of the same run (delete the file "
            f"to start again); got {'; '.join(differences)}"
        )
    n_rows = tuple(out.shape[:1])
    if n_rows != (run["X.shape"][0],) or _digest_of_row(out, n_done - 1) != last_row:
        raise ValueError(
            f"out must have the {n_done} rows that checkpoint {str(checkpoint)!r} "
            "counts as done: open it with mode 'r+', since 'w+' makes it zeros, or "
            "delete the checkpoint to start again; got other values"
        )
    return n_done
