"""Checks and small array helpers that the modules of this package share."""

from contextlib import suppress
from numbers import Integral

import numpy as np
from scipy import linalg
from scipy.sparse import csr_array, issparse
from sklearn.utils import check_array
from sklearn.utils.multiclass import type_of_target


def namespace(X):
    """Return the array namespace of `X`: numpy, or that of an array API array.

    Parameters
    ----------
    X : ndarray, sparse matrix or array API array
        A validated array.

    Returns
    -------
    module
        The array namespace (numpy for sparse input).

    Raises
    ------
    ImportError
        If the library of `X` has no namespace of its own, as torch, and
        array-api-compat is not installed.
    """
    if isinstance(X, np.ndarray | np.generic) or issparse(X):
        return np
    if hasattr(X, "__array_namespace__"):
        return X.__array_namespace__()
    try:
        from array_api_compat import array_namespace
    except ImportError as error:
        raise ImportError(
            f"{type(X).__module__}.{type(X).__name__} input needs array-api-compat: "
            "pip install 'skinvariant[array-api]'"
        ) from error
    return array_namespace(X)


def to_numpy(array):
    """Return an array of any library as a NumPy or SciPy array, on the CPU.

    Parameters
    ----------
    array : array-like or sparse matrix
        Any array.

    Returns
    -------
    ndarray or sparse matrix
        The same values.
    """
    if issparse(array):
        return array
    try:
        return np.asarray(array)
    except (RuntimeError, TypeError):  # on another device
        return np.from_dlpack(array, device="cpu")


def in_numpy(name, array):
    """Return an array of another library as a NumPy array, for code that needs one.

    Parameters
    ----------
    name : str
        The array's name.
    array : object
        An array of any library on any device; or anything else, such as a list, a data
        frame or a sparse matrix, which is left to later checks.

    Returns
    -------
    ndarray or object
        The same values on the CPU; anything else itself.

    Raises
    ------
    TypeError
        If the array cannot be converted.
    """
    if isinstance(array, np.ndarray) or not hasattr(array, "__dlpack__"):
        return array
    try:
        return to_numpy(array)
    except Exception as error:  # each library has its own
        kind = f"{type(array).__module__}.{type(array).__name__}"
        raise TypeError(
            f"{name} must be a NumPy array, or one that can be converted: of a tensor "
            "take X.detach().cpu().float().numpy(), of another array "
            f"numpy.from_dlpack(X, device='cpu'); got {kind} of {array.dtype}: {error}"
        ) from error


def astype(X, dtype):
    """Return `X` in a dtype: itself if it has it, otherwise a copy.

    Parameters
    ----------
    X : ndarray, sparse matrix or array API array
        Any array.
    dtype : dtype
        A dtype of its library.

    Returns
    -------
    same type as `X`
        The array in this dtype.
    """
    xp = namespace(X)
    if xp is np:
        return X.astype(dtype, copy=False)
    return xp.astype(X, dtype, copy=False)


def as_float(X):
    """Return `X` in float64 unless it is already float32 or float64.

    Parameters
    ----------
    X : ndarray, sparse matrix or array API array
        Real numbers of any kind.

    Returns
    -------
    same type as `X`
        `X` itself, or a float64 copy.
    """
    xp = namespace(X)
    if X.dtype in (xp.float32, xp.float64):
        return X
    return astype(X, xp.float64)


def as_dtype(values, dtype, *, source="a relative value"):
    """Return values in a dtype, if all are finite in it.

    Parameters
    ----------
    values : ndarray, sparse matrix or array API array
        Relative values, or others.
    dtype : dtype
        float32 or float64.
    source : str, default="a relative value"
        What the values are, for the error message.

    Returns
    -------
    same type as `values`
        The values in `dtype`.

    Raises
    ------
    ValueError
        If a value is not finite in `dtype`.
    """
    xp = namespace(values)
    with np.errstate(over="ignore"):
        values = astype(values, dtype)
    numbers = values.data if issparse(values) else values
    finite = xp.isfinite(numbers)
    if not bool(xp.all(finite)):
        raise ValueError(
            f"{source} is not finite in {dtype}: rescale the space, if its "
            "values are too large or too small for this metric and dtype, or check a "
            f"metric, pre or post of your own; got {float(numbers[~finite][0])}"
        )
    return values


def check_returned(values, X, source, width=None, *, sparse=False):
    """Return what a metric, transformer or callable makes of rows, as an array.

    Users may pass functions of their own, so that anything may come back.

    Parameters
    ----------
    values : object
        The result: an array, or what NumPy makes an array of, as lists and data frames.
    X : ndarray, sparse matrix or array API array
        The rows that it was computed from, and so the number of rows and the library.
    source : str
        What returned it, for the error message.
    width : int, default=None
        The number of columns; None: any.
    sparse : bool, default=False
        Whether a sparse result stays sparse, in canonical CSR form.

    Returns
    -------
    array of shape (n_samples, width), float32 or float64
        The values, of the library of `X`.

    Raises
    ------
    TypeError
        If the result is no array of real numbers of the library of `X`.
    ValueError
        If its shape is another, or a value is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant._validation import check_returned
    >>> check_returned([[1, 2]], np.zeros((1, 5)), "metric 'own'").dtype
    dtype('float64')
    >>> check_returned([1, 2], np.zeros((2, 5)), "metric 'own'", 3)
    Traceback (most recent call last):
        ...
    ValueError: metric 'own' must return an array of shape (2, 3) of real numbers, one \
row for each row that it gets; got list of dtype int64 and shape (2,)
    """
    xp, kind = namespace(X), type(values).__name__
    real, shape = False, None
    if xp is np and not issparse(values):
        with suppress(ValueError):  # rows of unequal length
            values = np.asarray(values)
    # a list, None and the like belong to no library
    with suppress(ImportError, TypeError):
        if namespace(values) is xp:
            real = xp.isdtype(values.dtype, ("bool", "integral", "real floating"))
            shape = tuple(values.shape)
    fits = real and len(shape) == 2 and shape[0] == X.shape[0]
    if not fits or width not in (None, shape[1]):
        if shape is not None:
            kind += f" of dtype {values.dtype} and shape {shape}"
        width = "n_features_out" if width is None else width
        raise (ValueError if real else TypeError)(
            f"{source} must return an array of shape ({X.shape[0]}, {width}) of real "
            f"numbers, one row for each row that it gets; got {kind}"
        )
    if issparse(values):
        values = canonical(values) if sparse else values.toarray()
    values = as_float(values)
    return as_dtype(values, values.dtype, source=f"a value that {source} returns")


def canonical(X):
    """Return a CSR copy without duplicate or unsorted entries; a dense array itself.

    Its indices have 32 bits where these are enough, as scikit-learn wants them.

    Parameters
    ----------
    X : ndarray, sparse matrix or array API array
        Rows.

    Returns
    -------
    same type as `X`, csr_array if sparse
        The same values.
    """
    if not issparse(X):
        return X
    X = X.tocsr()
    narrow = max(X.nnz, X.shape[1]) <= np.iinfo(np.int32).max
    parts = [
        part.astype(np.int32 if narrow else np.int64) for part in (X.indices, X.indptr)
    ]
    X = csr_array((X.data.copy(), *parts), shape=X.shape)
    X.sum_duplicates()
    return X


def take_rows(X, indices):
    """Return a copy of some rows of `X`.

    Parameters
    ----------
    X : ndarray, sparse matrix or array API array of shape (n_samples, n_features)
        The rows to choose from.
    indices : ndarray of shape (n,), dtype int
        Which rows, in which order.

    Returns
    -------
    same type as `X`, of shape (n, n_features)
        The rows.
    """
    xp = namespace(X)
    if xp is np:
        return X[indices]
    return xp.take(X, xp.asarray(indices, device=X.device), axis=0)


def svd(matrix, **options):
    """Return `numpy.linalg.svd`, by a slower algorithm if LAPACK's usual one fails.

    On rare matrices "gesdd" does not converge, although nothing is wrong with them;
    "gesvd" does.

    Parameters
    ----------
    matrix : ndarray of shape (m, n)
        Finite numbers.
    **options : bool
        `full_matrices` and `compute_uv`.

    Returns
    -------
    tuple of ndarray, or ndarray
        As `numpy.linalg.svd`.
    """
    try:
        return np.linalg.svd(matrix, **options)
    except np.linalg.LinAlgError:
        return linalg.svd(matrix, lapack_driver="gesvd", **options)


def check_choice(name, value, choices, *, or_else=None):
    """Return `choices[value]`, if `value` is an option.

    Parameters
    ----------
    name : str
        The parameter's name.
    value : str
        The parameter's value.
    choices : mapping of str to object
        The options by name.
    or_else : str, default=None
        What the parameter may be instead, for the error message.

    Returns
    -------
    object
        The option.

    Raises
    ------
    ValueError
        If `value` is not an option.
    TypeError
        If `value` is not a string.
    """
    wanted = f"{sorted(choices)}" + (f", or {or_else}" if or_else else "")
    message = f"{name} must be one of {wanted}; got {value!r}"
    if not isinstance(value, str):
        raise TypeError(message)
    if value not in choices:
        raise ValueError(message)
    return choices[value]


def check_number(name, value, kind, low, high=None):
    """Return `value` if it is a number of this kind in [`low`, `high`].

    Parameters
    ----------
    name : str
        The parameter's name.
    value : object
        The parameter's value.
    kind : type
        `numbers.Integral` or `numbers.Real`.
    low, high : float
        The bounds, both included.  `high` None: the largest number that NumPy's own
        integers or float64 hold.

    Returns
    -------
    int or float
        The value.

    Raises
    ------
    TypeError
        If it is not a number of this kind; a bool is not one.
    ValueError
        If it is out of bounds or NaN.
    """
    noun = "an integer" if kind is Integral else "a real number"
    end = "inf)" if high is None else f"{high}]"
    wanted = f"{name} must be {noun} in [{low}, {end}"
    if high is None:
        high = (np.iinfo(np.intp) if kind is Integral else np.finfo(np.float64)).max
    if not isinstance(value, kind) or isinstance(value, bool | np.bool_):
        raise TypeError(f"{wanted}; got {value!r} of type {type(value).__name__}")
    try:
        within = low <= value <= high and float(value) is not None
    except OverflowError:
        within = False
    if not within:
        raise ValueError(f"{wanted}; got {_shortened(value)}")
    return value


def check_labels(y, name="y"):
    """Return class labels as an array, if they are of one kind and none is missing.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Strings, whole numbers, bools or `numpy.datetime64`; of an array of Python
        objects strings alone.
    name : str, default="y"
        What they are called, for the error message.

    Returns
    -------
    ndarray of shape (n_samples,)
        The labels.

    Raises
    ------
    ValueError
        If they are anything else, or several for a row.

    Examples
    --------
    >>> from skinvariant._validation import check_labels
    >>> check_labels([None, "maybe"])
    Traceback (most recent call last):
        ...
    ValueError: y must be one label for each row, all of one kind and none missing; \
got Unknown label type: ..., types ['NoneType', 'str']
    """
    found, types = None, set()
    kind = getattr(getattr(y, "dtype", None), "kind", None)
    if isinstance(y, list | tuple) or kind == "O":
        types = {str if isinstance(label, str) else type(label) for label in y}
    try:
        with np.errstate(invalid="ignore"):  # NaN, which is an error later
            target = type_of_target(y, input_name=name)  # of frames, too
        array = to_numpy(y)
        if target not in ("binary", "multiclass") or array.ndim != 1:
            found = f"{target}, of shape {np.shape(array)}"
        elif len(types) > 1 and str in types:  # which would all become strings
            found = "labels of several kinds"
        elif array.dtype.kind in "mM" and np.isnat(array).any():
            found = "NaT"
        elif np.ma.is_masked(y):
            found = "masked labels"
    except (TypeError, ValueError) as error:
        found = str(error)
    if found is not None:
        names = f", types {sorted(x.__name__ for x in types)}" if types else ""
        raise ValueError(
            f"{name} must be one label for each row, all of one kind and none missing; "
            f"got Unknown label type: {found}{names}"
        )
    return array


def _shortened(value):
    """Return a number as text, of which Python refuses more than 4300 digits."""
    if isinstance(value, int) and abs(value) > 10**30:
        return f"an integer of {value.bit_length()} bits"
    return repr(value)


def check_indices(indices, n_samples, *, source, expected=None):
    """Return row indices as an integer array, if they are valid.

    Parameters
    ----------
    indices : array-like of shape (n_anchors,)
        Row indices.
    n_samples : int
        Number of rows.
    source : str
        Name of the indices, for the error message.
    expected : int, default=None
        How many there must be; None: at least one.

    Returns
    -------
    ndarray of shape (n_anchors,), dtype intp
        The indices.

    Raises
    ------
    TypeError
        If they are not integers.
    ValueError
        If they are not 1-D, empty, too many, out of range or repeated.
    """
    indices = np.asarray(indices)
    if indices.ndim != 1 or indices.size == 0:
        raise ValueError(
            f"{source} must be a 1-D, non-empty list of row indices; "
            f"got shape {indices.shape}"
        )
    if not np.issubdtype(indices.dtype, np.integer):
        raise TypeError(
            f"{source} must be integer row indices (of a boolean mask take "
            f"numpy.flatnonzero); got dtype {indices.dtype}"
        )
    if expected is not None and indices.size != expected:
        raise ValueError(f"{source} must be {expected} indices; got {indices.size}")
    outside = indices[(indices < 0) | (indices >= n_samples)]
    if outside.size:
        raise ValueError(
            f"{source} must lie in 0 .. n_samples - 1 = {n_samples - 1}; "
            f"got {outside[:5].tolist()}"
        )
    values, counts = np.unique(indices, return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"{source} must be distinct; got repeated {values[counts > 1][:5].tolist()}"
        )
    return indices.astype(np.intp)


def are_rows(anchors):
    """Return whether a parameter `anchors` holds rows, and not a way to choose them.

    Parameters
    ----------
    anchors : object
        The parameter's value.

    Returns
    -------
    bool
        Whether it has two dimensions.

    Examples
    --------
    >>> from skinvariant._validation import are_rows
    >>> are_rows([[0.5, 1.0]]), are_rows([3, 5]), are_rows("random")
    (True, False, False)
    """
    return not isinstance(anchors, str) and np.ndim(anchors) == 2


def check_corresponding(X_a, X_b, *, min_rows=1, min_columns=1, equal_width=False):
    """Return two corresponding spaces as arrays of floating-point numbers.

    Whether row i is the same sample in both is not checked: see
    `skinvariant.comparison.mismatched_rows`.

    Parameters
    ----------
    X_a, X_b : array-like of shape (n_samples, n_features_a) and (n_samples, \
n_features_b)
        The spaces.
    min_rows, min_columns : int, default=1
        The least numbers of rows and columns.
    equal_width : bool, default=False
        Whether the numbers of columns must be equal.

    Returns
    -------
    tuple of two ndarray, dtype float64 or float32
        The spaces: themselves where they are such arrays, else copies.

    Raises
    ------
    ValueError
        If the numbers of rows differ or are too small, the widths are not as asked for,
        or a value is not a finite number.

    Examples
    --------
    >>> from skinvariant._validation import check_corresponding
    >>> X_a, X_b = check_corresponding([[1], [2]], [[1.5, 0], [2, 1]])
    >>> X_a.dtype, X_b.shape
    (dtype('float64'), (2, 2))
    """
    X_a, X_b = (
        check_array(
            X,
            dtype=[np.float64, np.float32],
            ensure_min_features=min_columns,
            input_name=name,
        )
        for name, X in (("X_a", in_numpy("X_a", X_a)), ("X_b", in_numpy("X_b", X_b)))
    )
    if len(X_a) != len(X_b):
        raise ValueError(
            "X_a and X_b must be corresponding spaces, the same samples in the same "
            f"order; got {len(X_a)} rows in X_a and {len(X_b)} in X_b"
        )
    if len(X_a) < min_rows:
        raise ValueError(
            f"X_a and X_b must have at least {min_rows} rows; got {len(X_a)}"
        )
    if equal_width and X_a.shape[1] != X_b.shape[1]:
        raise ValueError(
            "X_a and X_b must have the same columns, as relative spaces of parallel "
            f"anchors have; got {X_a.shape[1]} columns in X_a and {X_b.shape[1]} in X_b"
        )
    return X_a, X_b
