"""Checks and array helpers: what passes unchanged, and what is said of the rest."""

import functools
import re
import sys
from fractions import Fraction
from numbers import Integral, Real

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy.sparse import csr_array, csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skinvariant import InvariantVotingClassifier, RelativeProjector, cross_stitch
from skinvariant._validation import (
    as_dtype,
    as_float,
    astype,
    canonical,
    check_choice,
    check_indices,
    check_labels,
    check_number,
    check_returned,
    namespace,
    svd,
    take_rows,
    to_numpy,
)
from skinvariant.anchors import stratified_anchors
from skinvariant.plotting import SpaceDisplay
from skinvariant.pooling import PooledClassifier

CONTAINERS = pytest.mark.parametrize(
    "make",
    [
        "numpy.asarray",
        "scipy.sparse.csr_array",
        "scipy.sparse.csr_matrix",
        "array_api_strict.asarray",
        "torch.asarray",
    ],
    indirect=True,
)


@pytest.fixture
def make(request):
    """Return what makes an array, from its dotted name, if it is installed."""
    module, _, name = request.param.rpartition(".")
    return getattr(pytest.importorskip(module), name)


@pytest.fixture(params=["numpy", "array_api_strict", "torch"])
def library(request):
    """Return an array library, if it is installed."""
    return pytest.importorskip(request.param)


def dense(X):
    """Return an array of any library as a numpy array."""
    X = to_numpy(X)
    return X if isinstance(X, np.ndarray) else X.toarray()


# --- array helpers --------------------------------------------------------------


@pytest.mark.parametrize(
    "X", [np.eye(2), np.float32(1), csr_array(np.eye(2)), csr_matrix(np.eye(2))]
)
def test_namespace_of_numpy(X):
    """Numpy is the namespace of numpy and of sparse input."""
    assert namespace(X) is np


def test_namespace_of_a_standard_array():
    """An array that knows its namespace has that one."""
    array_api_strict = pytest.importorskip("array_api_strict")
    assert namespace(array_api_strict.eye(2)) is array_api_strict


def test_namespace_of_torch():
    """A tensor's namespace is that of array-api-compat."""
    torch, compat = map(pytest.importorskip, ("torch", "array_api_compat"))
    assert namespace(torch.eye(2)) is compat.array_namespace(torch.eye(2))


def test_namespace_without_array_api_compat(monkeypatch):
    """Torch without array-api-compat is an ImportError with the install command."""
    torch = pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "array_api_compat", None)
    with pytest.raises(ImportError, match=r"torch\.Tensor .*skinvariant\[array-api\]"):
        namespace(torch.eye(2))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_to_numpy(library, dtype):
    """Arrays of any library come out as numpy, with the same values and dtype."""
    values = [[0, 1], [1, 1]]
    array = to_numpy(library.asarray(values, dtype=getattr(library, dtype)))
    assert type(array) is np.ndarray
    assert array.dtype == dtype
    assert_array_equal(array, values)


@pytest.mark.parametrize("make", [np.asarray, csr_array, csr_matrix])
def test_to_numpy_does_not_copy(make):
    """What numpy or scipy has already is given back as it is."""
    X = make(np.eye(2))
    assert to_numpy(X) is X


def test_to_numpy_of_a_list():
    """Lists become arrays, of text too."""
    assert_array_equal(to_numpy(["a", "b"]), np.array(["a", "b"]))


@CONTAINERS
def test_astype(make):
    """A cast changes the dtype and nothing else; of the same dtype, nothing."""
    X = make(np.array([[0.0, 0.1], [1.0, 2.0]]))
    narrow = astype(X, namespace(X).float32)
    assert narrow.dtype == namespace(X).float32
    assert_array_equal(dense(narrow), np.float32([[0, 0.1], [1, 2]]))
    assert astype(X, X.dtype) is X


@CONTAINERS
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_as_float_keeps_floats(kind, make):
    """Arrays of float32 and float64 pass as they are."""
    X = make(np.eye(2, dtype=kind))
    assert as_float(X) is X


@CONTAINERS
@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint8, np.bool_])
def test_as_float_widens(kind, make):
    """Arrays of whole numbers become float64, with the same values."""
    X = make(np.eye(2, dtype=kind))
    assert as_float(X).dtype == namespace(X).float64
    assert_array_equal(dense(as_float(X)), np.eye(2))


@pytest.mark.parametrize("kind", [np.float16, np.longdouble, np.dtype(">f8")])
def test_as_float_of_other_floats(kind):
    """Other floats become float64 or float32 of this machine's byte order."""
    X = as_float(np.array([[0.5, 2.0]], dtype=kind))
    assert X.dtype in (np.float32, np.float64)
    assert X.dtype.isnative
    assert_array_equal(X, [[0.5, 2.0]])


def test_as_dtype(library):
    """Values that the dtype holds come out in it, the largest ones included."""
    largest = float(np.finfo(np.float32).max)
    values = library.asarray([[0.1, -largest]], dtype=library.float64)
    narrow = as_dtype(values, library.float32)
    assert narrow.dtype == library.float32
    assert_array_equal(dense(narrow), np.float32([[0.1, -largest]]))


@pytest.mark.parametrize("bad", [1e39, -np.inf, np.nan])
def test_as_dtype_overflow(library, bad):
    """A value that float32 does not hold is an error that names float32."""
    values = library.asarray([[1.0, bad]], dtype=library.float64)
    float32 = library.zeros(1, dtype=library.float32).dtype
    with pytest.raises(ValueError, match=r"is not finite in (\w+\.)?float32: rescale"):
        as_dtype(values, float32)


RETURNED = {
    "list": [[1, 2]] * 3,
    "integers": np.array([[1, 2]] * 3),
    "float16": np.float16([[1, 2]] * 3),
    "CSR": csr_array([[1.0, 2.0]] * 3),
    "matrix": csr_matrix([[1.0, 2.0]] * 3).todense(),
}


@pytest.mark.parametrize("kind", RETURNED)
def test_check_returned(kind):
    """What NumPy makes an array of comes out as one, in a float dtype."""
    values = check_returned(RETURNED[kind], np.zeros((3, 9)), "it", 2)
    assert type(values) is np.ndarray
    assert values.dtype == np.float64
    assert_array_equal(values, [[1, 2]] * 3)


def test_check_returned_of_a_library(library):
    """Arrays stay in the library of the rows, and in their dtype."""
    X = library.asarray(np.zeros((3, 9)))
    values = library.asarray(np.float32([[1, 2]] * 3))
    assert check_returned(values, X, "it", 2) is values


@pytest.mark.parametrize("values", [[[1.0, 2.0]] * 3, np.ones((3, 2)), None])
def test_check_returned_of_another_library(values):
    """They are not brought from one library to another."""
    X = pytest.importorskip("array_api_strict").zeros((3, 9))
    with pytest.raises(TypeError, match=f"it must .*got {type(values).__name__}"):
        check_returned(values, X, "it", 2)


def test_check_returned_keeps_sparse_rows():
    """In canonical form, and finite."""
    X, doubled = np.zeros((1, 9)), csr_array(([1, 2], [0, 0], [0, 2]), shape=(1, 2))
    values = check_returned(doubled, X, "it", 2, sparse=True)
    assert (values.format, values.data.tolist()) == ("csr", [3.0])
    with pytest.raises(ValueError, match="a value that it returns is not finite"):
        check_returned(doubled * np.nan, X, "it", 2, sparse=True)


def test_canonical_indices_have_32_bits():
    """Where these are enough, and the matrix that is given stays as it is."""
    X = csr_array(np.eye(3)[::-1])
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    assert canonical(X).indices.dtype == canonical(X).indptr.dtype == np.int32
    assert X.indices.dtype == np.int64


@CONTAINERS
def test_take_rows(make):
    """Rows come in the order asked for, as a copy, in the library of X."""
    values = np.arange(12.0).reshape(4, 3)
    X = make(values.copy())
    rows = take_rows(X, np.array([2, 0]))
    assert type(rows) is type(X)
    assert_array_equal(dense(rows), values[[2, 0]])
    rows[0, 0] = 99
    assert_array_equal(dense(X), values)


# --- checks of parameters -------------------------------------------------------


def test_check_choice():
    """A name gives the option of that name."""
    assert check_choice("colour", "red", {"red": 1, "blue": 2}, or_else="None") == 1


@pytest.mark.parametrize("value", [3, None, ["red"], b"red", np.nan])
def test_check_choice_of_no_name(value):
    """What is no string is a TypeError that repeats it."""
    with pytest.raises(TypeError) as caught:
        check_choice("colour", value, {"red": 1, "blue": 2}, or_else="None")
    expected = f"colour must be one of ['blue', 'red'], or None; got {value!r}"
    assert str(caught.value) == expected


@pytest.mark.parametrize("value", ["Red", "", "green"])
def test_check_choice_of_an_unknown_name(value):
    """An unknown name is a ValueError that repeats it and lists the known ones."""
    with pytest.raises(ValueError, match=rf"\['blue', 'red'\].* got '{value}'"):
        check_choice("colour", value, {"red": 1, "blue": 2}, or_else="None")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Integral, 1),
        (Integral, 5),
        (Integral, np.int8(3)),
        (Integral, np.uint64(3)),
        (Real, 1),
        (Real, 2.5),
        (Real, np.float32(2.5)),
        (Real, np.int64(2)),
        (Real, Fraction(5, 2)),
    ],
)
def test_check_number(kind, value):
    """Numbers of the kind, bounds included, pass as they are."""
    assert check_number("n", value, kind, 1, 5) is value


def test_check_number_without_upper_bound():
    """Without an upper bound, what NumPy cannot hold is refused; inf where allowed."""
    for kind, value in ((Real, np.inf), (Real, 10**400), (Integral, 2**63)):
        with pytest.raises(ValueError, match=r"p must be .* in .*; got "):
            check_number("p", value, kind, 1)
    assert check_number("p", np.finfo(float).max, Real, 1) == np.finfo(float).max
    assert check_number("p", np.inf, Real, 1, np.inf) == np.inf
    with pytest.raises(ValueError, match="got an integer of 1329 bits"):
        check_number("p", 10**400, Real, 1, np.inf)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.integers() | st.floats(), st.integers(-9, 9), st.integers(0, 9))
def test_check_number_bounds(value, low, width):
    """Just the numbers in the closed interval pass; NaN is in none."""
    high = low + width
    if low <= value <= high:
        assert check_number("n", value, Real, low, high) is value
    else:
        message = re.escape(f"number in [{low}, {high}]; got {value!r}")
        with pytest.raises(ValueError, match=f"^n must be .*{message}$"):
            check_number("n", value, Real, low, high)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Integral, 2.0),
        (Integral, "2"),
        (Integral, None),
        (Integral, True),
        (Integral, np.True_),
        (Integral, np.array([2])),
        (Real, "2"),
        (Real, 2j),
        (Real, False),
        (Real, [2.0]),
    ],
)
def test_check_number_of_another_kind(kind, value):
    """What is no number of the kind is a TypeError with its value and type."""
    with pytest.raises(TypeError) as caught:
        check_number("n", value, kind, 1)
    assert "n must be a" in str(caught.value)
    assert f"got {value!r} of type {type(value).__name__}" in str(caught.value)


@pytest.mark.parametrize(
    "indices",
    [
        [2, 0],
        (2, 0),
        range(2, -1, -2),
        np.uint8([2, 0]),
        np.array([2, 0]),
    ],
)
def test_check_indices(indices):
    """Indices of any kind of sequence come out in order, as integers of numpy."""
    checked = check_indices(indices, 3, source="rows", expected=2)
    assert checked.dtype == np.intp
    assert_array_equal(checked, [2, 0])


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.lists(st.integers(-3, 12), min_size=1), st.integers(1, 10))
def test_check_indices_of_any_list(indices, n_samples):
    """Just the lists of distinct indices in range pass, unchanged."""
    if set(indices) <= set(range(n_samples)) and len(set(indices)) == len(indices):
        assert check_indices(indices, n_samples, source="rows").tolist() == indices
    else:
        with pytest.raises(ValueError, match=r"^rows must "):
            check_indices(indices, n_samples, source="rows")


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        ([0, 1, 0, 2, 2], ValueError, r"distinct; got repeated \[0, 2\]"),
        ([0, 5, 7], ValueError, r"n_samples - 1 = 4; got \[5, 7\]"),
        ([0, -1], ValueError, r"0 \.\. n_samples - 1 = 4; got \[-1\]"),
        ([[0, 1]], ValueError, r"1-D, non-empty .* got shape \(1, 2\)"),
        ([], ValueError, r"1-D, non-empty .* got shape \(0,\)"),
        (3, ValueError, r"1-D, non-empty .* got shape \(\)"),
        ([True, False], TypeError, r"flatnonzero.* got dtype bool"),
        ([0.0, 1.0], TypeError, r"integer row indices .* got dtype float64"),
        (["0", "1"], TypeError, r"integer row indices .* got dtype <U1"),
        ([0, None], TypeError, r"integer row indices .* got dtype object"),
        ([2**64], TypeError, r"integer row indices .* got dtype object"),
    ],
)
def test_check_indices_of_nonsense(indices, error, message):
    """What is no list of distinct row indices is refused, with what is wrong in it."""
    with pytest.raises(error, match=f"^rows must .*{message}"):
        check_indices(indices, 5, source="rows")


def test_check_indices_counts():
    """A wrong number of indices: the error names both numbers."""
    with pytest.raises(ValueError, match="rows must be 3 indices; got 2"):
        check_indices([0, 1], 5, source="rows", expected=3)


@pytest.mark.parametrize("compute_uv", [True, False])
def test_svd_where_the_usual_way_fails(compute_uv, monkeypatch):
    """The slower driver gives the same decomposition of a known matrix."""
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 3)))[0]
    matrix = turn * [3.0, 2.0, 1.0]

    def fails(*args, **kwargs):
        raise np.linalg.LinAlgError("SVD did not converge")

    options = {"full_matrices": False, "compute_uv": compute_uv}
    usual = svd(matrix, **options)
    monkeypatch.setattr(np.linalg, "svd", fails)
    slower = svd(matrix, **options)
    if not compute_uv:
        usual, slower = (None, usual, None), (None, slower, None)
    for values in (usual[1], slower[1]):
        np.testing.assert_allclose(values, [3, 2, 1], rtol=1e-12)
    if compute_uv:
        left, values, right = slower
        np.testing.assert_allclose((left * values) @ right, matrix, atol=1e-12)


# --- labels ---------------------------------------------------------------------------

NO_LABELS = {
    "missing": [None, "maybe"],
    "missing objects": np.array([None, "maybe"], dtype=object),
    "mixed": [1, "maybe"],
    "mixed objects": np.array([1, "maybe"], dtype=object),
    "NaN": np.array([1.0, np.nan]),
    "NaN among words": np.array(["maybe", np.nan], dtype=object),
    "infinite": np.array([1.0, np.inf]),
    "not a time": np.array(["2020", "NaT"], dtype="M8[D]"),
    "masked": np.ma.array([1, 2], mask=[True, False]),
    "continuous": np.array([0.5, 1.5]),
    "bytes": np.array([b"a", b"b"]),
    "sets": [{1}, {2}],
    "several": np.eye(2, dtype=int),
    "several in lists": [[1, 2], [1]],
    "sparse": csr_array(np.eye(2)),
    "a number": np.array(3),
    "a text": "ab",
    "a set": {1, 2},
    "a dict": {1: 2},
    "none": None,
}


@pytest.mark.parametrize("name", NO_LABELS)
def test_what_are_no_labels(name):
    """One message for all, with the name and what was got."""
    message = r"labels must be one label for each row.*; got Unknown label type: ."
    with pytest.raises(ValueError, match=message):
        check_labels(NO_LABELS[name], "labels")


@pytest.mark.parametrize(
    "labels",
    [
        [1, 2],
        [1.0, 2.0],
        [True, False],
        ["yes", "no"],
        np.array(["yes", "no"], dtype=object),
        np.array([1, 2], dtype=np.uint8),
        np.array(["2020", "2021"], dtype="M8[ns]"),
    ],
    ids=repr,
)
def test_labels_stay_as_they_are(labels):
    """In the dtype that NumPy gives them, also from frames."""
    found = check_labels(labels)
    assert found.dtype == np.asarray(labels).dtype
    assert_array_equal(found, labels)
    pd = pytest.importorskip("pandas")
    assert_array_equal(check_labels(pd.Series(labels, index=[7, 7])), labels)


TAKE_LABELS = {
    "stratified_anchors": lambda X, y: stratified_anchors(X, y, 5),
    "RelativeProjector": lambda X, y: RelativeProjector(5, anchors="stratified").fit(
        X, y
    ),
    "InvariantVotingClassifier": lambda X, y: InvariantVotingClassifier(
        n_anchors=5
    ).fit(X, y),
    "rebase": lambda X, y: voting().rebase(X[voting().anchor_indices_], y[:5]),
    "PooledClassifier": lambda X, y: PooledClassifier([("one", voting())]).fit(X, y),
    "SpaceDisplay": lambda X, y: SpaceDisplay.from_spaces(X, X, y),
    "cross_stitch": lambda X, y: cross_stitch(
        make_pipeline(RelativeProjector(5), LogisticRegression()),
        {"a": (X, X), "b": (X, X)},
        (y, y),
    ),
}


@functools.cache
def voting():
    """Return a small fitted model."""
    X = np.random.default_rng(0).standard_normal((40, 3))
    return InvariantVotingClassifier(n_anchors=5, random_state=0).fit(X, X[:, 0] > 0)


@pytest.mark.parametrize("function", TAKE_LABELS)
@pytest.mark.parametrize(
    "labels", [["maybe", None], ["maybe", 1], ["maybe", np.nan]], ids=repr
)
def test_labels_of_several_kinds(function, labels):
    """An error about them in all that takes labels, not about comparing them."""
    X = np.random.default_rng(0).standard_normal((40, 3))
    y = np.array(labels * 20, dtype=object)
    with pytest.raises((TypeError, ValueError), match=r"must|label|NaN") as caught:
        TAKE_LABELS[function](X, y)
    assert "'<' not supported" not in str(caught.value).partition("; got")[0]
