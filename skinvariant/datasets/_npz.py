"""Spaces in ``.npz`` files."""

from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from skinvariant._files import read_arrays
from skinvariant._validation import check_indices


def _part(name):
    """Return the part of the data that the name of a space ends with, or ""."""
    return next((part for part in ("_train", "_test") if name.endswith(part)), "")


def _as_numbers(name, array, dtype):
    """Return a space in a dtype, if it consists of real numbers."""
    if array.dtype == "V2":  # bfloat16, which NumPy does not know by name
        array = (array.view("<u2").astype("<u4") << 16).view("<f4")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers; got dtype {array.dtype}")
    return array.astype(dtype)


def _rows_of(part, arrays, n_samples):
    """Return the rows of a part of whole spaces; None where there are none."""
    found = [name for name in (f"{part}_idx", f"{part}_mask") if name in arrays]
    if not found:
        return None
    if len(found) > 1:
        raise ValueError(f"the rows of a part must be given once; got {found}")
    rows = arrays[found[0]]
    if rows.dtype == bool:
        if rows.shape != (n_samples,):
            raise ValueError(
                f"{found[0]} must have one entry for each of {n_samples} samples; got "
                f"shape {rows.shape}"
            )
        return np.flatnonzero(rows)
    return check_indices(rows, n_samples, source=found[0]) if rows.size else rows


def load_embeddings(path, *, dtype="float32"):
    """Load corresponding spaces, with their labels, from an ``.npz`` file.

    Parameters
    ----------
    path : str or path
        A file that `numpy.savez` or `numpy.savez_compressed` has written, with
        ``X_NAME_train`` and ``X_NAME_test`` for each encoder, ``y_train`` and
        ``y_test``.  Or with ``X_NAME`` for each encoder, ``y``, and the rows of each
        part: ``train_idx``, ``test_idx`` and perhaps ``val_idx``, or masks
        ``train_mask`` and so on.  Class names may be in ``classes``.
    dtype : str or dtype, default="float32"
        What the spaces are cast to.  Files often hold float16 or bfloat16, which have
        too few digits to compute with.

    Returns
    -------
    Bunch
        With dicts ``X_train`` and ``X_test`` from the encoder's name to its space,
        labels ``y_train`` and ``y_test`` (None if the file has none) and the list
        ``target_names``.  A file of whole spaces also gives these, as the dict ``X``;
        its validation rows follow the training rows in ``X_train``.  Every other
        array keeps its name; one called ``X_train`` or ``X_test`` (raw images) also
        keeps its dtype.  Integers become int64.

    Raises
    ------
    ValueError
        If the file is not an ``.npz`` file, is damaged, holds no space or holds Python
        objects; if a space is not of real numbers, rows are not of a space, or spaces
        and labels differ in their numbers of rows.
    TypeError
        If rows are not given by integers or masks.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from skinvariant.datasets import load_embeddings, make_related_spaces
    >>> made = make_related_spaces(n_features_b=12, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "spaces.npz")
    ...     np.savez(
    ...         path,
    ...         X_small_train=made.X_a[:150].astype(np.float16),
    ...         X_small_test=made.X_a[150:].astype(np.float16),
    ...         X_large_train=made.X_b[:150].astype(np.float16),
    ...         X_large_test=made.X_b[150:].astype(np.float16),
    ...         y_train=made.y[:150],
    ...         y_test=made.y[150:],
    ...     )
    ...     spaces = load_embeddings(path)
    >>> {name: X.shape for name, X in spaces.X_train.items()}
    {'small': (150, 8), 'large': (150, 12)}
    >>> spaces.X_test["large"].dtype, spaces.y_test.shape
    (dtype('float32'), (50,))
    """
    path = Path(path)
    arrays = read_arrays(path)
    spaces = [name for name in arrays if name.startswith("X_")]
    if not spaces:
        raise ValueError(
            f"{str(path)!r} must hold a space, called X_NAME_train and X_NAME_test or "
            f"X_NAME; got {sorted(arrays)}"
        )
    first = {}  # array of each part; the others must have as many rows
    for name in arrays:
        if name not in spaces and name not in ("y", "y_train", "y_test"):
            continue
        n_rows = len(np.atleast_1d(arrays[name]))
        other, expected = first.setdefault(_part(name), (name, n_rows))
        if n_rows != expected:
            raise ValueError(
                f"arrays of {str(path)!r} must have a row for each sample; got "
                f"{expected} in {other} and {n_rows} in {name}"
            )
    bunch = Bunch(X_train={}, X_test={}, y_train=None, y_test=None)
    whole = {}
    for name, array in arrays.items():
        part = _part(name)
        if name not in spaces:  # sums and indices of narrow integers overflow
            integers = array.dtype.kind in "iu"
            bunch[name] = array.astype(np.int64) if integers else array
        elif name == f"X{part}":
            bunch[name] = array
        elif part:
            space = _as_numbers(name, array, dtype)
            bunch[f"X{part}"][name[2 : -len(part)]] = space
        else:
            whole[name[2:]] = _as_numbers(name, array, dtype)
    if whole:
        bunch.X = whole
    n_samples = len(next(iter(whole.values()))) if whole else 0
    for part, subparts in (("train", ("train", "val")), ("test", ("test",))):
        indices = [_rows_of(x, arrays, n_samples) for x in subparts] if whole else []
        indices = [rows for rows in indices if rows is not None]
        if not indices:
            continue
        rows = np.concatenate(indices)
        bunch[f"X_{part}"].update({name: X[rows] for name, X in whole.items()})
        if "y" in bunch:
            bunch[f"y_{part}"] = bunch.y[rows]
    labels = [bunch.get(key) for key in ("y", "y_train", "y_test")]
    labels = [values for values in labels if values is not None]
    if len({values.dtype.kind in "US" for values in labels}) > 1:
        raise ValueError(
            f"labels of {str(path)!r} must be of one kind; got dtypes "
            f"{[str(values.dtype) for values in labels]}"
        )
    names = np.unique(np.concatenate(labels)) if labels else []
    bunch.target_names = [str(name) for name in bunch.get("classes", names)]
    return bunch
