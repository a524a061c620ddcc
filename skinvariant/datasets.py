"""Data to try things on: spaces whose relation is known, benchmarks and encoders."""

import zipfile
from functools import partial
from numbers import Integral, Real
from pathlib import Path

import numpy as np
from scipy.stats import ortho_group
from sklearn.datasets import make_blobs
from sklearn.utils import Bunch, check_random_state

from skinvariant import _benchmarks, _hub
from skinvariant._validation import check_choice, check_number
from skinvariant.metrics import TRANSFORMATIONS

__all__ = ["encode", "fetch_benchmark", "load_embeddings", "make_related_spaces"]

# of what encoders give
_SPACE_DTYPES = dict.fromkeys(("float16", "float32", "float64"))

# classes whose maps may lead into a wider space
_WIDENING = ("affine", "linear", "orthogonal")


def _scales(n, random_state):
    """Factors between 1/4 and 4, far enough from 1 to be noticed."""
    return 2.0 ** (random_state.uniform(0.5, 2, n) * random_state.choice([-1, 1], n))


def _rotation(n, random_state):
    if n == 1:
        return random_state.choice([-1.0, 1.0], (1, 1))
    return ortho_group.rvs(n, random_state=random_state)


def _draw_matrix(name, n, n_out, random_state):
    """Draw the matrix, of shape (n, n_out), of a transformation of a class."""
    if name == "isotropic_scaling":
        return _scales(1, random_state) * np.eye(n)
    if name == "axis_scaling":
        return np.diag(_scales(n, random_state))
    if name in ("permutation", "signed_permutation"):
        matrix = np.eye(n)[random_state.permutation(n)]
        signed = name == "signed_permutation"
        return matrix * random_state.choice([-1.0, 1.0], n) if signed else matrix
    if name == "orthogonal":
        return _rotation(n_out, random_state)[:n]
    if name in ("linear", "affine"):  # singular values known: well conditioned
        wide = _rotation(n_out, random_state)[:n]
        return _rotation(n, random_state) * _scales(n, random_state) @ wide
    return np.eye(n)  # a translation


def _check_relation(transformation, n_features, n_features_b):
    """Return the names of the transformations and the width of the second space."""
    alone = isinstance(transformation, str) or not np.iterable(transformation)
    names = (transformation,) if alone else tuple(transformation)
    if not names:
        raise ValueError("transformation must name at least one class; got []")
    for name in names:
        check_choice(
            "transformation", name, dict.fromkeys(TRANSFORMATIONS), or_else="several"
        )
    check_number("n_features", n_features, Integral, 1)
    n_out = n_features if n_features_b is None else n_features_b
    check_number("n_features_b", n_out, Integral, n_features)
    if n_out > n_features and not set(names) & set(_WIDENING):
        raise ValueError(
            f"n_features_b={n_out} is more than n_features={n_features}, which takes "
            f"one of {_WIDENING}; got transformation={transformation!r}"
        )
    return names, n_out


def make_related_spaces(
    n_samples=200,
    n_features=8,
    *,
    transformation="orthogonal",
    n_features_b=None,
    noise=0.0,
    n_classes=3,
    random_state=None,
):
    """Make two corresponding spaces that differ by a known transformation.

    The first holds Gaussian classes of different spread per axis, off the origin, so
    that no transformation goes unnoticed.  The second is
    ``X_a @ matrix + offset``, plus noise.

    Parameters
    ----------
    n_samples : int, default=200
        How many rows.
    n_features : int, default=8
        Width of the first space.
    transformation : str or sequence of str, default="orthogonal"
        A class of `skinvariant.metrics.TRANSFORMATIONS` to draw from; or several, one
        after the other.  Scalings have factors between 1/4 and 4.
    n_features_b : int, default=None
        Width of the second space, not less than `n_features`; None: the same.  More
        takes an orthogonal, linear or affine map.
    noise : float >= 0, default=0.0
        Standard deviation of Gaussian noise added to the second space, in units of
        that space's root mean squared deviation from its mean.
    n_classes : int, default=3
        How many classes.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    Bunch
        With ``X_a`` of shape (n_samples, n_features), ``X_b`` of shape
        (n_samples, n_features_b), labels ``y`` of shape (n_samples,), and the
        transformation: ``matrix`` of shape (n_features, n_features_b), ``offset`` of
        shape (n_features_b,) and its name ``transformation``.

    Raises
    ------
    ValueError, TypeError
        If a parameter is not as documented.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.datasets import make_related_spaces
    >>> spaces = make_related_spaces(transformation="orthogonal", n_features_b=12,
    ...                              random_state=0)
    >>> spaces.X_a.shape, spaces.X_b.shape
    ((200, 8), (200, 12))
    >>> bool(np.allclose(spaces.X_b, spaces.X_a @ spaces.matrix + spaces.offset))
    True
    >>> bool(np.allclose(spaces.matrix @ spaces.matrix.T, np.eye(8)))
    True
    """
    check_number("n_samples", n_samples, Integral, 1)
    check_number("n_classes", n_classes, Integral, 1)
    check_number("noise", noise, Real, 0, np.finfo(float).max)
    names, n_out = _check_relation(transformation, n_features, n_features_b)
    random_state = check_random_state(random_state)
    X_a, y = make_blobs(
        n_samples,
        n_features,
        centers=n_classes,
        center_box=(-4, 4),
        random_state=random_state,
    )
    X_a = X_a * _scales(n_features, random_state) + random_state.uniform(
        1, 3, n_features
    )
    matrix, offset = np.eye(n_features), np.zeros(n_features)
    for name in names:
        width = n_out if name in _WIDENING else matrix.shape[1]
        step = _draw_matrix(name, matrix.shape[1], width, random_state)
        matrix, offset = matrix @ step, offset @ step
        if name in ("translation", "affine"):
            offset = offset + 4 * random_state.standard_normal(width)
    X_b = X_a @ matrix + offset
    spread = np.sqrt(((X_b - X_b.mean(axis=0)) ** 2).mean())
    X_b = X_b + noise * spread * random_state.standard_normal(X_b.shape)
    return Bunch(
        X_a=X_a,
        X_b=X_b,
        y=y,
        matrix=matrix,
        offset=offset,
        transformation=transformation,
    )


def fetch_benchmark(
    name, *, subset="train", data_home=None, revision=None, return_X_y=False
):
    """Fetch a benchmark by name, through the library that has it.

    Parameters
    ----------
    name : {"CIFAR-10", "CIFAR-100", "Cora", "DBpedia", "Fashion-MNIST", "MNIST", \
            "N24News", "TREC"}
        The benchmark.
    subset : {"train", "test", "all"}, default="train"
        Which part of it; "all": the training samples, then the test samples.
        Validation samples, where there are any, follow the training samples.
    data_home : str or path, default=None
        Where downloads are kept.  None: where the library keeps them; with
        torchvision and PyTorch Geometric, where scikit-learn does.  "N24News" must be
        there already.
    revision : str or int, default=None
        Of "DBpedia" and "TREC" a branch, tag or commit on the hub, of "MNIST" and
        "Fashion-MNIST" a version on OpenML.  None: the usual one.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` alone.

    Returns
    -------
    Bunch or tuple
        With the samples ``data``: a list of str, or an array of images, uint8, of shape
        (n_samples, height, width) or (n_samples, height, width, 3); the class of each
        sample ``target``, of shape (n_samples,), dtype int64; the list of classes
        ``target_names``; and what it is, ``DESCR``.  Further:

        - "Cora": ``data`` are the features of nodes, of shape (n_samples, 1433);
          ``nodes`` are their numbers, ``edges`` those of the whole graph, of shape
          (2, n_edges), in both directions; ``train_idx``, ``val_idx`` and ``test_idx``
          the nodes of each part.  "all": every node, in order.
        - "DBpedia": ``title``.
        - "N24News": ``data`` are the abstracts; ``headline``, ``caption``, ``body`` and
          the paths ``images``.
        - "TREC": ``target`` are the coarse classes; ``target_fine`` and
          ``target_fine_names``.

    Raises
    ------
    ValueError
        If there is no benchmark or subset of this name, or it has no revisions.
    FileNotFoundError
        If "N24News" is not in `data_home`.
    ImportError
        If the library is not installed.

    See Also
    --------
    encode : Spaces of these samples.

    Notes
    -----
    What goes wrong in a download is an error of the library that downloads.

    Examples
    --------
    >>> from skinvariant.datasets import fetch_benchmark
    >>> questions = fetch_benchmark("TREC")  # doctest: +SKIP
    >>> len(questions.data), questions.target_names  # doctest: +SKIP
    (5452, ['ABBR', 'ENTY', 'DESC', 'HUM', 'LOC', 'NUM'])
    """
    fetch, description = check_choice("name", name, _benchmarks.BENCHMARKS)
    check_choice("subset", subset, dict.fromkeys(("train", "test", "all")))
    bunch = fetch(name, subset, data_home, revision)
    bunch.DESCR = description
    return (bunch.data, bunch.target) if return_X_y else bunch


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
        What the spaces are cast to.  Files often hold float16, which is too narrow to
        calculate with.

    Returns
    -------
    Bunch
        With dicts ``X_train`` and ``X_test`` from the encoder's name to its space,
        labels ``y_train`` and ``y_test`` (None if the file has none) and the list
        ``target_names``.  A file of whole spaces also gives these, as the dict ``X``;
        its validation rows follow the training rows in ``X_train``.  Every other
        array keeps its name; one called ``X_train`` or ``X_test`` (raw images) is
        handed over as it is.  Integers are widened to int64.

    Raises
    ------
    ValueError
        If the file is no ``.npz`` file, has no space, has Python objects in it, or if
        spaces and labels have different numbers of rows.

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
    arrays = _read_npz(path)
    spaces = [name for name in arrays if name.startswith("X_")]
    if not spaces:
        raise ValueError(
            f"{str(path)!r} must hold a space, called X_NAME_train and X_NAME_test or "
            f"X_NAME; got {sorted(arrays)}"
        )
    _check_rows(path, arrays)
    bunch = Bunch(X_train={}, X_test={}, y_train=None, y_test=None)
    bunch.update({name: _widen(arrays[name]) for name in arrays if name not in spaces})
    for name in spaces:
        part = _part(name)
        if name == f"X{part}":
            bunch[name] = arrays[name]
        elif part:
            bunch[f"X{part}"][name[2 : -len(part)]] = arrays[name].astype(dtype)
    whole = {name[2:]: arrays[name].astype(dtype) for name in spaces if not _part(name)}
    if whole:
        bunch.X = whole
        _take_parts(bunch)
    bunch.target_names = _class_names(bunch)
    return bunch


def _read_npz(path):
    """Return the arrays of an ``.npz`` file by name."""
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(
                f"{str(path)!r} must be an .npz file, as numpy.savez writes it; it is "
                "another file, or not complete"
            )
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _widen(array):
    """Integers in int64, so that sums and indices cannot overflow."""
    return array.astype(np.int64) if array.dtype.kind in "iu" else array


def _part(name):
    """Return the part of the data that the name of a space ends with, or nothing."""
    return next((part for part in ("_train", "_test") if name.endswith(part)), "")


def _check_rows(path, arrays):
    """Refuse spaces and labels that cannot be of the same samples."""
    first = {}
    for name in arrays:
        if not name.startswith("X_") and name not in ("y", "y_train", "y_test"):
            continue
        n_rows = len(np.atleast_1d(arrays[name]))
        other, expected = first.setdefault(_part(name), (name, n_rows))
        if n_rows != expected:
            raise ValueError(
                f"arrays of {str(path)!r} must have a row for each sample; got "
                f"{expected} in {other} and {n_rows} in {name}"
            )


def _take_parts(bunch):
    """Cut whole spaces into training (with validation) and test rows."""
    parts = {
        "train": [bunch[key] for key in ("train_idx", "val_idx") if key in bunch],
        "test": [bunch[key] for key in ("test_idx",) if key in bunch],
    }
    for part, indices in parts.items():
        if not indices:
            continue
        rows = np.concatenate(indices)
        for name, X in bunch.X.items():
            bunch[f"X_{part}"][name] = X[rows]
        if "y" in bunch:
            bunch[f"y_{part}"] = bunch.y[rows]


def _class_names(bunch):
    """Names of the classes: those of the file, or the labels themselves."""
    if "classes" in bunch:
        return [str(name) for name in bunch.classes]
    labels = [bunch.get(key) for key in ("y", "y_train", "y_test")]
    labels = [part for part in labels if part is not None]
    return [str(label) for label in np.unique(np.concatenate(labels))] if labels else []


def encode(
    name,
    inputs,
    *,
    batch_size=32,
    device="cpu",
    library=None,
    revision=None,
    cache=None,
    dtype="float32",
    verbose=0,
):
    """Encode texts or images by a pretrained encoder, batch by batch.

    Parameters
    ----------
    name : str or path
        Name of the encoder on the Hugging Face hub, or a folder that it was saved to.
    inputs : iterable of str, of uint8 arrays or of PIL images
        The samples.  An array of images has the shape (n_samples, height, width),
        (n_samples, height, width, 1) or (n_samples, height, width, 3).  A generator is
        read as it is needed: no more than a batch is in memory.
    batch_size : int, default=32
        How many samples to encode at once.  It changes a value by rounding at most.
    device : str, default="cpu"
        Where to run the encoder, as torch names it.
    library : {"sentence-transformers", "timm", "transformers"}, default=None
        What loads the encoder.  None: that of the name's prefix ("timm/",
        "sentence-transformers/"), else "transformers".
    revision : str, default=None
        Branch, tag or commit on the hub.  None: the newest.
    cache : str or path, default=None
        A folder that keeps the space: the next call with the same encoder, revision,
        samples and dtype reads it there, and does not load the encoder.  None: nothing
        is kept.
    dtype : {"float16", "float32", "float64"}, default="float32"
        Of the space.  The encoder itself runs in float32.
    verbose : int or bool, default=0
        Whether to show a progress bar, which needs tqdm.

    Returns
    -------
    ndarray of shape (n_samples, n_features)
        The space: row i is that of sample i.

    Raises
    ------
    ValueError
        If there are no samples, if a value is not finite in `dtype`, or a parameter is
        not as documented.
    TypeError
        If a sample is neither text nor image, or the encoder cannot take it.
    ImportError
        If a library is not installed.

    Warns
    -----
    UserWarning
        If a file of the cache is broken; its space is made anew.

    See Also
    --------
    fetch_benchmark : Samples to encode.
    load_embeddings : Spaces that were encoded and stored before.

    Notes
    -----
    With "transformers" a row is the mean of the last hidden states, over the tokens
    that are not padding, or over all positions of an image; a model of both texts and
    images (CLIP) gives its projected features instead.  With "timm" it is what the
    model has before its classifier, of images that its own transform has prepared.
    With "sentence-transformers" it is what the model's own ``encode`` gives.  A text
    that is longer than the encoder can take is cut.

    Without a `revision` the cache does not notice that a name has got other weights on
    the hub: give a commit.  Of a folder all files are compared.  A generator is kept in
    a temporary file meanwhile, as its samples are needed twice.

    Examples
    --------
    >>> from skinvariant.datasets import encode
    >>> X = encode(
    ...     "sentence-transformers/all-MiniLM-L6-v2",
    ...     ["How far is it from Denver to Aspen ?", "What is an atom ?"],
    ...     cache="spaces",
    ... )  # doctest: +SKIP
    >>> X.shape  # doctest: +SKIP
    (2, 384)
    """
    name = str(name)
    check_number("batch_size", batch_size, Integral, 1)
    check_choice("dtype", str(np.dtype(dtype)), _SPACE_DTYPES)
    library = _hub.library_of(name) if library is None else library
    check_choice("library", library, _hub.LIBRARIES)
    _hub.check_inputs(inputs)
    known = {"library": library, "revision": revision, "dtype": np.dtype(dtype)}
    run = partial(
        _hub.encode_batches, name, device=device, batch_size=int(batch_size), **known
    )
    if cache is None:
        n_samples = len(inputs) if hasattr(inputs, "__len__") else None
        return _hub.collect(run(_hub.read_samples(inputs)), n_samples, verbose)
    cache = Path(cache)
    with _hub.readable_twice(inputs, cache) as samples:
        key, n_samples = _hub.cache_key(name, samples(), **known)
        path = cache / f"{key}.npz"
        X = _hub.read_cache(path)
        if X is None:
            X = _hub.collect(run(samples()), n_samples, verbose)
            _hub.write_cache(path, X)
    return X
