"""Files that are written as a whole, and the digest that identifies arrays."""

import hashlib
import os
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import numpy as np
from scipy.sparse import issparse

__all__ = ["array_digest", "atomic_write"]


@contextmanager
def atomic_write(path):
    """Open a temporary file that replaces `path` when it is complete.

    A process that is killed leaves `path` as it was.  The temporary name is unique, so
    that several processes may write to one path: the last to finish wins.

    Parameters
    ----------
    path : str or path-like
        The file to write.  Its folder exists.

    Yields
    ------
    binary file
        The temporary file, in the same folder.  An exception removes it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skinvariant._files import atomic_write
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "numbers")
    ...     with atomic_write(path) as file:
    ...         n_bytes = file.write(b"1 2 3")
    ...         exists_early = path.exists()
    ...     exists_early, path.read_bytes()
    (False, b'1 2 3')
    """
    path = Path(path)
    unfinished = path.with_name(f"{path.name}.{uuid4().hex}.part")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def array_digest(X):
    """Return the SHA-256 of the dtype and values of an array.

    It is the same on every machine and in every process.  The shape does not enter, and
    neither does the memory layout.

    Parameters
    ----------
    X : ndarray or CSR matrix
        The array.

    Returns
    -------
    str
        64 hexadecimal digits.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant._files import array_digest
    >>> array_digest(np.array([[1.0, 2.0]]))[:8], array_digest(np.array([[1, 2]]))[:8]
    ('a3030f74', '731a5636')
    """
    parts = [X.data, X.indices, X.indptr] if issparse(X) else [X]
    digest = hashlib.sha256(parts[0].dtype.name.encode())
    for part in parts:
        # the width of indices is a matter of the platform
        wide = np.dtype(np.int64) if part.dtype.kind == "i" else part.dtype
        digest.update(np.ascontiguousarray(part, wide.newbyteorder("<")).tobytes())
    return digest.hexdigest()
