"""Files: written as a whole, used by one run at a time, checked while they are read."""

import hashlib
import json
import math
import os
import struct
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
from numpy.lib import format as npy
from scipy.sparse import issparse

try:
    import fcntl
except ImportError:  # on Windows
    import msvcrt

    fcntl = None

__all__ = [
    "array_digest",
    "atomic_write",
    "check_arrays",
    "check_fields",
    "dump_json",
    "exclusive",
    "members_of",
    "parse_json",
    "parsing",
    "pieces_of",
    "read_arrays",
]

_PIECE = 2**20
_END = struct.Struct("<4s4H2LH")  # of a zip archive without a comment


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


# --- reading ------------------------------------------------------------------------


@contextmanager
def parsing(wanted, *passing):
    """Raise a ValueError for whatever fails while the content of a file is parsed.

    The libraries that parse a damaged file raise errors of twenty types.

    Parameters
    ----------
    wanted : str
        What the file must be: the beginning of the message.
    *passing : type
        Further exceptions that remain what they are.

    Yields
    ------
    None
        Nothing.

    Raises
    ------
    ValueError
        With the first error as its cause.  Warnings that are errors, and errors of
        imports and of memory, are not of the file and remain what they are.

    Examples
    --------
    >>> import json
    >>> from skinvariant._files import parsing
    >>> with parsing("path must be a JSON file"):
    ...     json.loads("{" * 10**5)
    Traceback (most recent call last):
        ...
    ValueError: path must be a JSON file; got another file, or a part of one, or a \
damaged one (Expecting property name ...
    """
    try:
        yield
    except (ImportError, MemoryError, Warning, *passing):
        raise
    except Exception as error:
        what = str(error) or type(error).__name__
        raise ValueError(
            f"{wanted}; got another file, or a part of one, or a damaged one ({what})"
        ) from error


def check_fields(content, fields):
    """Raise an error unless `content` is a dict with values of the right types.

    Parameters
    ----------
    content : object
        What was read.
    fields : dict of str to type or tuple of type
        The types by key.  A bool is no int here.

    Raises
    ------
    TypeError, KeyError
        If it is not.

    Examples
    --------
    >>> from skinvariant._files import check_fields
    >>> check_fields({"n_done": 3}, {"n_done": int})
    """
    if not isinstance(content, dict):
        raise TypeError(f"it must be a JSON object; got {type(content).__name__}")
    if missing := sorted(fields.keys() - content.keys()):
        raise KeyError(f"it must have the keys {missing}; got {sorted(content)}")
    for name, kinds in fields.items():
        kinds = kinds if isinstance(kinds, tuple) else (kinds,)
        if type(content[name]) not in kinds:
            names = " or ".join(kind.__name__ for kind in kinds)
            raise TypeError(f"{name} must be {names}; got {content[name]!r:.40}")


def _no_number(name):
    raise ValueError(f"numbers must be finite; got {name}")


def dump_json(content):
    """Return a dict as JSON that `parse_json` recognises.

    Parameters
    ----------
    content : dict
        What JSON can hold: no NaN and no infinity.

    Returns
    -------
    str
        The text, with a SHA-256 of the rest under the key "sha256".

    Examples
    --------
    >>> from skinvariant._files import dump_json, parse_json
    >>> text = dump_json({"n_done": 20})
    >>> parse_json(text, {"n_done": int})
    {'n_done': 20}
    >>> parse_json(text.replace("20", "21"), {"n_done": int})
    Traceback (most recent call last):
        ...
    ValueError: its digest must be that of the content; got '289e754370...
    """
    text = json.dumps(content, allow_nan=False)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps(content | {"sha256": digest})


def parse_json(text, fields):
    """Return the dict that `dump_json` has written.

    Parameters
    ----------
    text : str or bytes
        The text, as bytes in UTF-8.
    fields : dict of str to type or tuple of type
        As in `check_fields`.

    Returns
    -------
    dict
        The content, without the digest.

    Raises
    ------
    Exception
        Of many types, if the text is anything else: call it under `parsing`.
    """
    text = text.decode() if isinstance(text, bytes) else text
    content = json.loads(text, parse_constant=_no_number)
    check_fields(content, fields | {"sha256": str})
    stored = content.pop("sha256")
    text = json.dumps(content, allow_nan=False)
    if hashlib.sha256(text.encode()).hexdigest() != stored:
        raise ValueError(f"its digest must be that of the content; got {stored!r}")
    return content


def write_json(content, kind, path=None):
    """Write a dict as JSON that `read_json` recognises.

    Parameters
    ----------
    content : dict
        What JSON can hold: no NaN and no infinity.
    kind : str
        What it is, to be kept under the key "format".
    path : str or path-like, default=None
        Where to write it; None: return the text.

    Returns
    -------
    str or None
        The text, or None if it was written to `path`.
    """
    text = dump_json({"format": kind} | content)
    if path is None:
        return text
    with atomic_write(path) as file:
        file.write(text.encode())
    return None


def read_json(source, kind, fields):
    """Return the dict that `write_json` has written.

    Parameters
    ----------
    source : str or path-like
        The path of a file, or the text itself, which starts with ``{``.
    kind : str
        What it must be.
    fields : dict of str to type or tuple of type
        Its keys, all of them, as in `check_fields`.

    Returns
    -------
    dict
        The content.

    Raises
    ------
    Exception
        Of many types, if it is anything else: call it under `parsing`.
    """
    is_text = isinstance(source, str) and source.lstrip().startswith("{")
    text = source if is_text else Path(source).read_bytes()
    content = parse_json(text, fields | {"format": str})
    if (found := content.pop("format")) != kind:
        raise ValueError(f"its format must be {kind}; got {found!r}")
    if unknown := set(content) - set(fields):
        raise KeyError(f"it must have the keys {list(fields)}; got {sorted(unknown)}")
    return content


def members_of(archive):
    """Return the members of a zip archive by name, if they are as one writes them.

    Parameters
    ----------
    archive : ZipFile
        Open for reading.

    Returns
    -------
    dict of str to ZipInfo
        By name, in the order of the archive.

    Raises
    ------
    ValueError
        If there are not as many as the archive has, a name occurs twice or leads out
        of a folder, or a member is encrypted, packed by a method that cannot be read
        in pieces, or of an impossible size.
    """
    members = {}
    archive.fp.seek(-_END.size, os.SEEK_END)
    *_, n_members, n_bytes, start, _ = _END.unpack(archive.fp.read(_END.size))
    large = start == 2**32 - 1 or n_members == 2**16 - 1  # numbers are elsewhere
    if not large and n_members != len(archive.infolist()):
        raise ValueError(
            f"it must have {n_members} members; got {len(archive.infolist())}"
        )
    if not large and start + n_bytes + _END.size != archive.fp.tell():
        raise ValueError(
            f"it must be {start + n_bytes + _END.size} bytes; got {archive.fp.tell()}"
        )
    for info in archive.infolist():
        parts = info.filename.replace("\\", "/").split("/")
        if info.filename in members:
            raise ValueError(f"names must be unique; got {info.filename!r} twice")
        drive = parts[0][1:] == ":"
        if ".." in parts or not all(parts) or drive:
            raise ValueError(f"names must be plain; got {info.filename!r}")
        plain = info.compress_type == ZIP_STORED
        if info.flag_bits & 1 or not (plain or info.compress_type == ZIP_DEFLATED):
            raise ValueError(
                "members must be stored or deflated; got method "
                f"{info.compress_type}, flags {info.flag_bits} in {info.filename!r}"
            )
        if plain and info.compress_size != info.file_size:
            raise ValueError(
                f"{info.filename!r} must be {info.file_size} bytes; got "
                f"{info.compress_size}"
            )
        members[info.filename] = info
    return members


def pieces_of(archive, info):
    """Iterate over the bytes of a member, however many bytes it claims to be packed in.

    Parameters
    ----------
    archive : ZipFile
        Open for reading.
    info : ZipInfo
        One of `members_of`.

    Yields
    ------
    bytes
        At most 1 MiB.

    Raises
    ------
    ValueError
        At the end, if they are not as many as they should be.  Other errors of many
        types, if the member is damaged.
    """
    n_bytes = 0
    with archive.open(info) as file:
        while piece := file.read(_PIECE):
            n_bytes += len(piece)
            yield piece
    if n_bytes != info.file_size:
        raise ValueError(
            f"{info.filename!r} must be {info.file_size} bytes; got {n_bytes}"
        )


def check_arrays(archive, members):
    """Raise an error unless members are arrays that are as large as they announce.

    NumPy makes room for an announced array before it reads.

    Parameters
    ----------
    archive : ZipFile
        Open for reading.
    members : iterable of ZipInfo
        Some of `members_of`.

    Raises
    ------
    ValueError
        If sizes differ or an array is one of Python objects.  Errors of other types, if
        a header is damaged.
    """
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    for info in members:
        with archive.open(info) as file:
            shape, _, dtype = readers[npy.read_magic(file)](file)
            n_bytes = info.file_size - file.tell()
        if dtype.hasobject:
            raise ValueError("Python objects are not read: allow_pickle=False")
        announced = math.prod(shape) * dtype.itemsize
        if announced != n_bytes or any(size < 0 for size in shape):
            raise ValueError(
                f"an array of shape {shape} and dtype {dtype} must be {announced} "
                f"bytes; got {n_bytes}"
            )


def read_arrays(path):
    """Return the arrays of an ``.npz`` file.

    Parameters
    ----------
    path : str or path-like
        A file that `numpy.savez` or `numpy.savez_compressed` has written.

    Returns
    -------
    dict of str to ndarray
        The arrays by name.

    Raises
    ------
    ValueError
        If the file is anything else, or damaged.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from skinvariant._files import read_arrays
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "numbers.npz")
    ...     np.savez(path, some=np.arange(3))
    ...     read_arrays(path)
    {'some': array([0, 1, 2])}
    """
    wanted = f"{str(path)!r} must be a complete .npz file, as numpy.savez writes it"
    arrays = {}
    with Path(path).open("rb") as stored, parsing(wanted), ZipFile(stored) as archive:
        members = members_of(archive)
        check_arrays(archive, members.values())
        for name, info in members.items():
            with archive.open(info) as file:
                array = npy.read_array(file, allow_pickle=False)
                file.read(1)  # only at its end the checksum is compared
            arrays[name.removesuffix(".npy")] = array
    return arrays


# --- writing by one alone -----------------------------------------------------------


@contextmanager
def exclusive(path):
    """Hold a path, which no other thread or process can hold meanwhile.

    Those who hold it agree among themselves: it does not hinder others from reading or
    writing.  A process that is killed holds nothing any more.

    Parameters
    ----------
    path : str or path-like
        The path.  A file with the suffix ".lock" is there meanwhile.

    Yields
    ------
    None
        Nothing.

    Raises
    ------
    BlockingIOError
        If another one holds it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skinvariant._files import exclusive
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with exclusive(Path(folder, "numbers")):
    ...         with exclusive(Path(folder, "numbers")):
    ...             pass
    Traceback (most recent call last):
        ...
    BlockingIOError: ...numbers must be in use by one run at a time; got a second one
    """
    lock = Path(f"{path}.lock")
    held = None
    while held is None:
        file = lock.open("ab")
        try:
            if fcntl is None:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if lock.stat().st_ino == os.fstat(file.fileno()).st_ino:
                held = file
        except FileNotFoundError:  # removed by the one before, as below
            pass
        except (BlockingIOError, PermissionError) as error:
            raise BlockingIOError(
                f"{path} must be in use by one run at a time; got a second one"
            ) from error
        finally:
            if held is None:
                file.close()
    try:
        yield
    finally:
        if fcntl is not None:  # while it is held, so that nobody holds a removed file
            lock.unlink(missing_ok=True)
            fcntl.flock(held, fcntl.LOCK_UN)  # also of a process forked meanwhile
        held.close()
        if fcntl is None:
            with suppress(PermissionError):  # the next one has it open already
                lock.unlink(missing_ok=True)
