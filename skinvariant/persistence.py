"""Save and load fitted models without pickle, and tell their anchors from others.

A file is what `skops.io.dump` writes, arrays and a JSON schema in a zip archive, with a
manifest beside them.  It needs ``pip install 'skinvariant[persistence]'``.
"""

import hashlib
import io
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import check_is_fitted

from skinvariant._models import path_to_step
from skinvariant._validation import to_numpy

__all__ = ["TRUSTED", "fingerprint", "load", "read_manifest", "save"]

_MANIFEST = "manifest.json"
_FORMAT = 2
_PACKAGES = ("numpy", "scikit-learn", "skinvariant", "skops")

_PRE_AND_POST = (
    "skinvariant.relative.Whitener",
    "skinvariant.relative.l2_normalize",
    "skinvariant.relative.layer_normalize",
)
_SPARSE = "scipy.sparse._csr.csr_array"  # anchors of sparse rows
_PRODUCT = ("skinvariant.InvariantAggregator", _SPARSE, *_PRE_AND_POST)
_BUNCH = "sklearn.utils._bunch.Bunch"  # fitted members by name
_VOTING = (
    _BUNCH,
    "skinvariant.InvariantAggregator",
    *_PRE_AND_POST,
    "skinvariant.translation.SpaceTranslator",
)
_POOL = (
    _BUNCH,
    "skinvariant.RelativeProjector",
    *_PRODUCT,
    "skinvariant.translation.SpaceTranslator",
)
#: What a file of each estimator holds that skops does not trust by itself, to be its
#: `trusted`: types of this package by their public names, and containers.
#: What you put into an estimator yourself, a metric or transformer of your own, and an
#: encoder, is yours to trust as well.
TRUSTED = {
    "RelativeProjector": ["skinvariant.RelativeProjector", *_PRODUCT[1:]],
    "InvariantAggregator": [*_PRODUCT],
    "InvariantVotingClassifier": ["skinvariant.InvariantVotingClassifier", *_VOTING],
    "InvariantVotingRegressor": ["skinvariant.InvariantVotingRegressor", *_VOTING],
    "InvariantClassifier": ["skinvariant.heads.InvariantClassifier", *_PRODUCT],
    "InvariantRegressor": ["skinvariant.heads.InvariantRegressor", *_PRODUCT],
    "PooledClassifier": ["skinvariant.pooling.PooledClassifier", *_POOL],
    "PooledRegressor": ["skinvariant.pooling.PooledRegressor", *_POOL],
    "SpaceTranslator": ["skinvariant.translation.SpaceTranslator"],
}


def _skops():
    try:
        import skops.io
    except ImportError as error:
        raise ImportError(
            "save and load need skops: pip install 'skinvariant[persistence]'"
        ) from error
    return skops.io


# --- which anchors ------------------------------------------------------------------


def fingerprint(model):
    """Tell by a short text which anchors a fitted model has, in which space.

    Parameters
    ----------
    model : fitted estimator
        A `skinvariant.InvariantVotingClassifier` or `InvariantVotingRegressor`, a
        `RelativeProjector`, an `InvariantAggregator`, a neural head, or a model with
        one of these inside: a Pipeline, a search, a vote, or what `stitch` returned.

    Returns
    -------
    str
        Number and width of the anchors, and the start of the SHA-256 of their dtype and
        values: ``"300x768-..."``.  Equal for models with the same anchors in the same
        space, to the last bit, and different for any other: fewer anchors, another
        order, another encoder.  After `rebase` it is that of the new anchors.

    Raises
    ------
    TypeError
        If the model holds no anchors.
    sklearn.exceptions.NotFittedError
        If the model is not fitted.

    Notes
    -----
    An encoder that computes on another machine gives rows that differ by rounding, and
    these another fingerprint.  Compare those of fitted models and of files, not of rows
    encoded anew.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skinvariant import RelativeProjector
    >>> from skinvariant.persistence import fingerprint
    >>> X, _ = load_digits(return_X_y=True)
    >>> projector = RelativeProjector(n_anchors=100, random_state=0).fit(X)
    >>> fingerprint(projector)[:7]
    '100x64-'
    >>> other = RelativeProjector(n_anchors=100, random_state=1).fit(X)
    >>> fingerprint(projector) == fingerprint(other)
    False
    """
    check_is_fitted(model)
    path = path_to_step(model)
    if not path:
        raise TypeError(
            "model must be, or have inside, an InvariantVotingClassifier, "
            "RelativeProjector or other estimator with a rebase method; got "
            f"{model!r}"
        )
    anchors = to_numpy(path[-1].anchors_)
    arrays = [anchors]
    if issparse(anchors):
        arrays = [anchors.data, anchors.indices, anchors.indptr]
    digest = hashlib.sha256(str(arrays[0].dtype.name).encode())
    for array in arrays:
        wide = np.dtype(np.int64) if array.dtype.kind == "i" else array.dtype
        digest.update(np.ascontiguousarray(array, wide.newbyteorder("<")).tobytes())
    n_anchors, n_features = anchors.shape
    return f"{n_anchors}x{n_features}-{digest.hexdigest()[:16]}"


def _check_anchors(found, expected, path):
    """Refuse a model whose fingerprint is not the expected one, with words."""
    if not isinstance(expected, str):
        expected = fingerprint(expected)
    if found == expected:
        return
    sizes = [text.partition("-")[0].split("x") for text in (found, expected)]
    if sizes[0][-1] != sizes[1][-1]:
        what = "the model is of an encoder of another width"
    elif sizes[0][0] != sizes[1][0]:
        what = "the model has another number of anchors"
    else:
        what = "the model has other anchors, or the same from another encoder"
    raise ValueError(
        f"{what}: expected the fingerprint {expected} (anchors x width - values); got "
        f"{found} in {path}"
    )


# --- files --------------------------------------------------------------------------


def _allowed(trusted):
    """Return the names of all types that may be in a file."""
    if isinstance(trusted, str):
        raise TypeError(f"trusted must be a list of type names; got {trusted!r}")
    own = {name for names in TRUSTED.values() for name in names}
    return sorted(own.union(trusted))


def _describe(model):
    """Return what a manifest tells of a model."""
    found, step = fingerprint(model), path_to_step(model)[-1]
    params = step.get_params(deep=False)
    metrics = params.get("metrics", [params.get("metric")])
    told = {name: params.get(name) for name in ("pre", "post", "aggregation")}
    return {
        "model": type(model).__name__,
        "projector": type(step).__name__,
        "fingerprint": found,
        "n_anchors": step.anchors_.shape[0],
        "n_features_in": step.anchors_.shape[1],
        "dtype": str(to_numpy(step.anchors_).dtype),
        "metrics": [getattr(m, "name", None) or _text(m) for m in metrics],
        **{name: value and _text(value) for name, value in told.items()},
    }


def _text(option):
    return option if isinstance(option, str) else repr(option)


def _digest(archive):
    """Return the SHA-256 of all that is in an archive, but for the manifest."""
    digest = hashlib.sha256()
    for name in sorted(set(archive.namelist()) - {_MANIFEST}):
        digest.update(f"{name} {archive.getinfo(name).file_size} ".encode())
        digest.update(archive.read(name))
    return digest.hexdigest()


def save(model, path, *, trusted=()):
    """Write a fitted model to a file, without pickle.

    Parameters
    ----------
    model : fitted estimator
        A voting model, projector or head, or a model with one inside, as `fingerprint`
        takes it.  Of a Pipeline that starts with an encoder save the rest,
        ``model[1:]``: encoders have files of their own.
    path : str or path-like
        The file; replaced at once when all is written, where there is one.  As it is a
        file of skops, too, ".skops" is a good ending.
    trusted : sequence of str, default=()
        Full names of further types that may be in the file: `load` must be told the
        same.

    Raises
    ------
    ImportError
        If skops is not installed.
    TypeError
        If the model holds no anchors, or something that `load` would not trust.
    sklearn.exceptions.NotFittedError
        If the model is not fitted.

    See Also
    --------
    load : Read it again.
    TRUSTED : What `load` trusts.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skinvariant import InvariantAggregator
    >>> from skinvariant.persistence import load, save
    >>> X, y = load_digits(return_X_y=True)
    >>> aggregator = InvariantAggregator(n_anchors=100, random_state=0)
    >>> model = make_pipeline(aggregator, LogisticRegression(max_iter=500)).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(model, Path(folder) / "digits.skops")
    ...     loaded = load(Path(folder) / "digits.skops", expected=model)
    >>> bool((loaded.predict_proba(X) == model.predict_proba(X)).all())
    True
    """
    skops_io, allowed = _skops(), _allowed(trusted)
    described = _describe(model)
    data = skops_io.dumps(model, compression=ZIP_DEFLATED)
    unknown = sorted(set(skops_io.get_untrusted_types(data=data)).difference(allowed))
    if unknown:
        raise TypeError(
            f"load would not trust {unknown} in this model: save it without its "
            "encoder (of a Pipeline, model[1:]; of a search, best_estimator_), use "
            "options by name, or give these names as trusted= to save and load; got "
            f"{type(model).__name__}"
        )
    buffer = io.BytesIO(data)
    with ZipFile(buffer, "a", compression=ZIP_DEFLATED) as archive:
        versions = {name: version(name) for name in _PACKAGES}
        manifest = {
            "format": _FORMAT,
            **described,
            "versions": {"python": platform.python_version(), **versions},
            "sha256": _digest(archive),
        }
        archive.writestr(_MANIFEST, json.dumps(manifest, indent=2))
    path = Path(path)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        unfinished.write_bytes(buffer.getbuffer())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _open(data, path):
    """Open an archive that was read from a path, or say that it is none."""
    try:
        return ZipFile(io.BytesIO(data))
    except BadZipFile as error:
        raise ValueError(f"{path} is no file of skinvariant.persistence") from error


def _manifest_of(archive, path):
    """Read the manifest, and refuse what this version cannot read."""
    try:
        manifest = json.loads(archive.read(_MANIFEST))
        found = manifest["format"]
    except (BadZipFile, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no file of skinvariant.persistence") from error
    if found != _FORMAT:
        writer = manifest.get("versions", {}).get("skinvariant")
        old = found in range(_FORMAT)
        todo = "fit and save the model again" if old else "update skinvariant"
        raise ValueError(
            f"{path} must be of format {_FORMAT}; got {found!r}, written by "
            f"skinvariant {writer}: {todo}"
        )
    return manifest


def read_manifest(path):
    """Tell what is in a file, without loading the model.

    Parameters
    ----------
    path : str or path-like
        A file that `save` wrote.

    Returns
    -------
    dict
        "model", "projector", "fingerprint", "n_anchors", "n_features_in", "dtype" and
        "metrics", "pre", "post" and "aggregation" of the model, the "versions" that
        wrote it, the "format", and the "sha256" of the rest of the file.

    Raises
    ------
    ValueError
        If it is no such file, or of a format that this version does not know.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_digits
    >>> from skinvariant import RelativeProjector
    >>> from skinvariant.persistence import read_manifest, save
    >>> X, _ = load_digits(return_X_y=True)
    >>> projector = RelativeProjector(n_anchors=100, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(projector, f"{folder}/cosine.skops")
    ...     manifest = read_manifest(f"{folder}/cosine.skops")
    >>> manifest["metrics"], manifest["n_anchors"], manifest["n_features_in"]
    (['cosine'], 100, 64)
    """
    with _open(Path(path).read_bytes(), path) as archive:
        return _manifest_of(archive, path)


def load(path, *, expected=None, trusted=()):
    """Read a fitted model from a file of `save`, and check that it is the right one.

    Nothing in the file is run, and nothing is built that is not of scikit-learn, of
    `TRUSTED`, or `trusted`.

    Parameters
    ----------
    path : str or path-like
        The file.
    expected : str or fitted estimator, default=None
        The `fingerprint` that the model must have, or a model that has it.  None: any.
    trusted : sequence of str, default=()
        Full names of further types that may be in the file.  Look at what they do.

    Returns
    -------
    fitted estimator
        The model.

    Raises
    ------
    ImportError
        If skops is not installed, or torch for a neural head.
    ValueError
        If the file is none of `save`, is damaged or was altered, is of a format that
        this version does not know, or holds other anchors than `expected`.
    skops.io.exceptions.UntrustedTypesFoundException
        If the file asks for a type that is not trusted.

    Warns
    -----
    sklearn.exceptions.InconsistentVersionWarning
        If another version of scikit-learn wrote the file.

    Notes
    -----
    The digest in the manifest finds what was damaged or changed by mistake.  Someone
    who alters the file deliberately can also replace the digest, but still cannot make
    it execute code.  Only a signature of your own protects the values.

    Examples
    --------
    A head of one encoder does not pass for a head of another:

    >>> import tempfile
    >>> from sklearn.datasets import load_digits
    >>> from skinvariant import RelativeProjector
    >>> from skinvariant.persistence import fingerprint, load, save
    >>> X, _ = load_digits(return_X_y=True)
    >>> projector = RelativeProjector(n_anchors=100, random_state=0).fit(X)
    >>> other = projector.rebase(X[projector.anchor_indices_, ::2])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(other, f"{folder}/other.skops")
    ...     load(f"{folder}/other.skops", expected=projector)
    Traceback (most recent call last):
        ...
    ValueError: the model is of an encoder of another width: expected the fingerprint \
100x64-...
    """
    skops_io, allowed = _skops(), _allowed(trusted)
    data = Path(path).read_bytes()  # once: what is checked is what is built
    with _open(data, path) as archive:
        manifest = _manifest_of(archive, path)
        try:
            whole = _digest(archive) == manifest["sha256"]
        except BadZipFile:
            whole = False
    if not whole:
        raise ValueError(f"{path} was damaged or altered after it was saved")
    if expected is not None:  # before anything is built
        _check_anchors(manifest["fingerprint"], expected, path)
    model = skops_io.loads(data, trusted=allowed)
    _check_anchors(fingerprint(model), manifest["fingerprint"], path)
    return model
