"""Files that are written as a whole, and digests of arrays."""

import os

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.sparse import csr_array

from skinvariant._files import array_digest, atomic_write


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
