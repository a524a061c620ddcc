"""Spaces in ``.npz`` files."""

import zipfile
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch


def _part(name):
    """Return the part of the data that the name of a space ends with, or ""."""
    return next((part for part in ("_train", "_test") if name.endswith(part)), "")


def load_embeddings(path, *, dtype="float32"):
    """Load corresponding spaces, with their labels, from an ``.npz`` file.

    Parameters
    ----------
    path : str or path
        A file that `numpy.savez` or `numpy.savez_compressed` has written, with
        ``X_NAME_train`` and ``X_NAME_test`` for each encoder, ``y_train`` and
        ``y_test``.  Or with ``X_NAME`` for each encoder, ``y``, and the rows of each
        part: ``train_idx``, ``test_idx`` and perhaps ``val_idx``.  Class names may
        be in ``classes``.
    dtype : str or dtype, default="float32"
        What the spaces are cast to.  Files often hold float16, which has too few digits
        to compute with.

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
        If the file is not an ``.npz`` file, holds no space, holds Python objects, or if
        spaces and labels differ in their numbers of rows.

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
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(
                f"{str(path)!r} must be a complete .npz file, as numpy.savez writes "
                "it; got another file, or a part of one"
            )
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
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
            bunch[f"X{part}"][name[2 : -len(part)]] = array.astype(dtype)
        else:
            whole[name[2:]] = array.astype(dtype)
    if whole:
        bunch.X = whole
    for part, keys in (("train", ("train_idx", "val_idx")), ("test", ("test_idx",))):
        indices = [bunch[key] for key in keys if key in bunch]
        if not (whole and indices):
            continue
        rows = np.concatenate(indices)
        bunch[f"X_{part}"].update({name: X[rows] for name, X in whole.items()})
        if "y" in bunch:
            bunch[f"y_{part}"] = bunch.y[rows]
    labels = [bunch.get(key) for key in ("y", "y_train", "y_test")]
    labels = [values for values in labels if values is not None]
    names = np.unique(np.concatenate(labels)) if labels else []
    bunch.target_names = [str(name) for name in bunch.get("classes", names)]
    return bunch
