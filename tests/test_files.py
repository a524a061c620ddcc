"""Files that are written as a whole, and digests of arrays."""

import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.sparse import csr_array

from skinvariant._files import (
    array_digest,
    atomic_write,
    dump_json,
    exclusive,
    parse_json,
    parsing,
    read_arrays,
)


def test_a_file_has_its_name_when_it_is_complete(tmp_path):
    """Until then the old one is there, and afterwards nothing but the new one."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_an_exception_leaves_the_old_file_alone(tmp_path):
    """Whether it comes from the writer or from the disk."""
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write():
        with atomic_write(path) as file:
            file.write(b"half of the n")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_two_writers_of_one_path_do_not_collide(tmp_path):
    """Each has a temporary file of its own, and the last one to finish wins."""
    path = tmp_path / "file"
    with atomic_write(path) as first:
        first.write(b"first, ")
        with atomic_write(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
        first.write(b"the longer one")
    assert path.read_bytes() == b"first, the longer one"
    assert os.listdir(tmp_path) == ["file"]


def test_a_new_file_has_the_usual_permissions(tmp_path):
    """Those of the process, as any other file that it makes."""
    usual, path = tmp_path / "usual", tmp_path / "file"
    usual.touch()
    with atomic_write(path):
        pass
    assert path.stat().st_mode == usual.stat().st_mode


def test_the_digest_is_of_dtype_and_values():
    """Not of the memory layout, the byte order or the platform's width of indices."""
    X = np.random.default_rng(0).standard_normal((6, 4))
    expected = array_digest(X)
    assert array_digest(np.asfortranarray(X)) == expected
    assert array_digest(X.astype(">f8")) == expected
    assert array_digest(np.repeat(X, 2, axis=0)[::2]) == expected
    changed = X.copy()
    changed[3, 2] = np.nextafter(X[3, 2], 1)
    others = [changed, X[::-1], X[:5], X.astype(np.float32), csr_array(X)]
    assert len({expected, *map(array_digest, others)}) == 6
    sparse = csr_array(X)
    wide = csr_array(X)
    wide.indices, wide.indptr = (
        part.astype(np.int64) for part in (wide.indices, wide.indptr)
    )
    assert array_digest(wide) == array_digest(sparse)
    assert_array_equal(wide.toarray(), X)


@pytest.mark.parametrize(
    "error",
    [
        EOFError(),
        KeyError("manifest.json"),
        NotImplementedError("method 97"),
        OSError(22, "Invalid argument"),
        RecursionError("maximum recursion depth exceeded"),
        RuntimeError("encrypted"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        struct.error("unpack requires a buffer of 4 bytes"),
        zipfile.BadZipFile("Bad CRC-32"),
        zlib.error("Error -3"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_fails_in_a_file_is_a_value_error(error):
    """What it must be, and what was wrong with it; the first error is the cause."""
    of_ours = pytest.raises(ValueError, match="path must be of ours; got another")
    with of_ours as caught, parsing("path must be of ours"):
        raise error
    assert str(error) in str(caught.value)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [ImportError, MemoryError, UserWarning, LookupError])
def test_errors_that_are_not_of_the_file(error):
    """They remain what they are; so does an interrupt."""
    for passed in (error, KeyboardInterrupt):
        with pytest.raises(passed), parsing("path must be of ours", LookupError):
            raise passed


@pytest.mark.parametrize(
    "content", [{}, {"a": 1, "b": [None, 0.1, "é"]}, {"a": 10**30}, {"a": 1e-300}]
)
def test_json_there_and_back(content):
    """The same content, however the text is laid out."""
    text = dump_json(content)
    assert parse_json(text, {}) == content
    assert parse_json(json.dumps(json.loads(text), indent=3).encode(), {}) == content
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump_json({"a": np.nan})


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_arrays(save, tmp_path, damages):
    """Each file has the same arrays, or is a ValueError that names it."""
    rng = np.random.default_rng(0)
    arrays = {
        "X": rng.standard_normal((9, 4)).astype(np.float16),
        "y": rng.integers(9, size=9),
        "names": np.array(["a", "b"]),
        "empty": np.empty((0, 3)),
        "one": np.array(2.5),
    }
    path, refused = tmp_path / "arrays.npz", 0
    save(path, **arrays)
    assert read_arrays(path).keys() == arrays.keys()
    for content in damages(path.read_bytes(), 400):
        path.write_bytes(content)
        try:
            found = read_arrays(path)
        except ValueError as error:
            refused += "arrays.npz' must be a complete .npz file" in str(error)
            continue
        assert found.keys() == arrays.keys()
        for name in arrays:
            assert found[name].dtype == arrays[name].dtype
            assert_array_equal(found[name], arrays[name])
    assert refused > 200


@pytest.mark.parametrize("shape", [(2, 3), (3, 1), (10**12,), (-1, -6), (6, 1, 2)])
def test_arrays_that_announce_another_shape(shape, tmp_path):
    """No room is made for it, and no fewer numbers are read in silence."""
    described = {"descr": "<f8", "fortran_order": False, "shape": shape}
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, described)
    with zipfile.ZipFile(tmp_path / "arrays.npz", "w") as archive:
        archive.writestr("X.npy", file.getvalue() + bytes(8 * 5))
    with pytest.raises(ValueError, match=r"must be -?\d+ bytes; got 40"):
        read_arrays(tmp_path / "arrays.npz")


@pytest.mark.parametrize("content", [b"", b"X", b"PK\x05\x06", pickle.dumps([1])])
def test_members_that_are_no_arrays(content, tmp_path):
    """Neither are they returned as bytes."""
    with zipfile.ZipFile(tmp_path / "arrays.npz", "w") as archive:
        archive.writestr("X.npy", content)
    with pytest.raises(ValueError, match=r"must be a complete .npz file"):
        read_arrays(tmp_path / "arrays.npz")


def test_one_run_at_a_time(tmp_path):
    """Also after an error, and whatever a killed one has left."""
    path = tmp_path / "done.json"
    (tmp_path / "done.json.lock").touch()
    with exclusive(path):
        assert os.listdir(tmp_path) == ["done.json.lock"]
        with pytest.raises(BlockingIOError, match="got a second one"), exclusive(path):
            pass
        assert os.listdir(tmp_path) == ["done.json.lock"]
    with pytest.raises(ZeroDivisionError), exclusive(path):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []
    with exclusive(path), exclusive(tmp_path / "other.json"):
        pass


def test_threads_take_turns(tmp_path):
    """Nobody holds a file that another one has removed."""
    inside, most, turns = [], [], []

    def run():
        while len(turns) < 200:
            try:
                with exclusive(tmp_path / "done.json"):
                    inside.append(1)
                    most.append(len(inside))
                    turns.append(1)
                    inside.pop()
            except BlockingIOError:
                pass

    with ThreadPoolExecutor(8) as executor:
        [future.result() for future in [executor.submit(run) for _ in range(8)]]
    assert set(most) == {1}
    assert os.listdir(tmp_path) == []
