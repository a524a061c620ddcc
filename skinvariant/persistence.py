"""Save and load fitted models without pickle, and identify their anchors.

A file is an archive of `skops.io.dump`, with arrays and a JSON schema, to which a
manifest is added.  It needs ``pip install 'skinvariant[persistence]'``.
"""

import hashlib
import io
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from sklearn.utils.validation import check_is_fitted

from skinvariant._files import (
    array_digest,
    atomic_write,
    check_arrays,
    check_fields,
    members_of,
    parsing,
    pieces_of,
)
from skinvariant._models import path_to_step
from skinvariant._validation import to_numpy

__all__ = ["TRUSTED", "fingerprint", "load", "read_manifest", "save"]

_WRITER = "skinvariant.persistence.save"
_MANIFEST, _SCHEMA = "manifest.json", "schema.json"
_FORMAT = 2
_FIELDS = {
    "model": str,
    "projector": str,
    "fingerprint": str,
    "n_anchors": int,
    "n_features_in": int,
    "dtype": str,
    "metrics": list,
    "pre": (str, type(None)),
    "post": (str, type(None)),
    "aggregation": (str, type(None)),
    "versions": dict,
    "sha256": str,
}
# A file may unpack to its own size so many times, and so many bytes more: what repeats
# itself is packed a thousandfold.  Objects made of JSON take many times its size.
_TIMES = 4
_MORE = {"arrays": 2**26, "json": 2**22}
_PACKAGES = ("numpy", "scikit-learn", "skinvariant", "skops")

_METRIC = "skinvariant.metrics.Metric"  # a registered one is stored by its name
_STEPS = (
    _METRIC,
    "skinvariant.relative.Whitener",
    "skinvariant.relative.l2_normalize",
    "skinvariant.relative.layer_normalize",
)
_SPARSE = "scipy.sparse._csr.csr_array"  # anchors of sparse rows
_PRODUCT = ("skinvariant.InvariantAggregator", _SPARSE, *_STEPS)
_BUNCH = "sklearn.utils._bunch.Bunch"  # fitted members by name
_VOTING = (
    _BUNCH,
    "skinvariant.InvariantAggregator",
    *_STEPS,
    "skinvariant.translation.SpaceTranslator",
)
_POOL = (
    _BUNCH,
    "skinvariant.RelativeProjector",
    *_PRODUCT,
    "skinvariant.translation.SpaceTranslator",
)
#: The types in a file of each estimator that are not in skops' own list of trusted
#: types: types of this package by their public names, and containers.  `load` accepts
#: them.  If an estimator holds a metric, a transformer or an encoder of your own, pass
#: its type as `trusted`.
TRUSTED = {
    "RelativeProjector": ["skinvariant.RelativeProjector", *_PRODUCT[1:]],
    "InvariantAggregator": [*_PRODUCT],
    "InvariantVotingClassifier": ["skinvariant.InvariantVotingClassifier", *_VOTING],
    "InvariantVotingRegressor": ["skinvariant.InvariantVotingRegressor", *_VOTING],
    "InvariantClassifier": ["skinvariant.heads.InvariantClassifier", *_PRODUCT],
    "InvariantRegressor": ["skinvariant.heads.InvariantRegressor", *_PRODUCT],
    "PooledClassifier": ["skinvariant.pooling.PooledClassifier", *_POOL],
    "PooledRegressor": ["skinvariant.pooling.PooledRegressor", *_POOL],
    "EncoderGuard": ["skinvariant.EncoderGuard"],
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
    """Identify the anchors of a fitted model, and their space, by a short text.

    Parameters
    ----------
    model : fitted estimator
        A `skinvariant.InvariantVotingClassifier` or `InvariantVotingRegressor`, a
        `RelativeProjector`, an `InvariantAggregator`, a neural head, or a model with
        one of these inside: a Pipeline, a search, a vote, or what `stitch` returned.

    Returns
    -------
    str
        Number and width of the anchors, and the first 16 digits of the SHA-256 of their
        dtype and values: ``"300x768-..."``.  It is equal for models whose anchors are
        equal to the last bit, and different for all others: fewer anchors, another
        order, another encoder.  After `rebase` it is that of the new anchors.

    Raises
    ------
    TypeError
        If the model holds no anchors.
    sklearn.exceptions.NotFittedError
        If the model is not fitted.

    Notes
    -----
    On another machine the same encoder gives rows that differ by rounding, and thus
    another fingerprint.  Compare the fingerprints of fitted models and files, not of
    rows that were encoded again.

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
    n_anchors, n_features = anchors.shape
    return f"{n_anchors}x{n_features}-{array_digest(anchors)[:16]}"


def _check_anchors(found, expected, path):
    """Raise an error, with the likely reason, if a fingerprint is not as expected."""
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
    """Return the part of the manifest that describes a model."""
    found, step = fingerprint(model), path_to_step(model)[-1]
    params = step.get_params(deep=False)
    metrics = params.get("metrics", [params.get("metric")])
    steps = {name: params.get(name) for name in ("pre", "post", "aggregation")}
    return {
        "model": type(model).__name__,
        "projector": type(step).__name__,
        "fingerprint": found,
        "n_anchors": step.anchors_.shape[0],
        "n_features_in": step.anchors_.shape[1],
        "dtype": str(to_numpy(step.anchors_).dtype),
        "metrics": [getattr(m, "name", None) or _text(m) for m in metrics],
        **{name: None if x is None else _text(x) for name, x in steps.items()},
    }


def _text(option):
    return option if isinstance(option, str) else repr(option)


def _check_size(what, unpacked, n_bytes):
    """Raise an error if a file of `n_bytes` unpacks to more than an honest one does."""
    most = _MORE[what] + _TIMES * n_bytes
    if unpacked > most:
        raise ValueError(
            f"the {what} of a file of {n_bytes} bytes must be at most {most} bytes; "
            f"got {unpacked}"
        )


def _json_of(archive, info, n_bytes):
    """Return the content of a JSON member of a file of `n_bytes`."""
    _check_size("json", info.file_size, n_bytes)
    return b"".join(pieces_of(archive, info))


def _unpack(file, n_bytes):
    """Return what skops needs of a file, as an archive in memory, and its digest.

    Members are read in pieces; sizes are checked before, and names and headers, too.
    """
    with ZipFile(file) as archive:
        members, kinds = members_of(archive), {_SCHEMA: set()}
        members.pop(_MANIFEST, None)  # save has yet to write it
        schema = _json_of(archive, members[_SCHEMA], n_bytes)

        def note(node):
            if "file" in node:
                kinds.setdefault(node["file"], set()).add(node["__loader__"])

        json.loads(schema, object_hook=note)
        if other := sorted(members.keys() - kinds.keys()):
            raise ValueError(f"all members must be parts of the model; got {other[:3]}")
        total = sum(info.file_size for info in members.values())
        _check_size("arrays", total, n_bytes)
        digest, unpacked = hashlib.sha256(), io.BytesIO()
        with ZipFile(unpacked, "w") as copy:
            for name in sorted(members):
                digest.update(f"{name} {members[name].file_size} ".encode())
                with copy.open(name, "w", force_zip64=True) as target:
                    for piece in pieces_of(archive, members[name]):
                        digest.update(piece)
                        target.write(piece)
    with ZipFile(unpacked) as copy:
        for name in members:
            if "NdArrayNode" in kinds[name]:
                check_arrays(copy, [copy.getinfo(name)])
            if "SparseMatrixNode" in kinds[name]:  # an archive of arrays
                with ZipFile(io.BytesIO(copy.read(name))) as inner:
                    parts = members_of(inner).values()
                    total += sum(part.file_size for part in parts)
                    _check_size("arrays", total, n_bytes)
                    check_arrays(inner, parts)
    return unpacked, digest.hexdigest()


def save(model, path, *, trusted=()):
    """Write a fitted model to a file, without pickle.

    Parameters
    ----------
    model : fitted estimator
        A voting model, projector or head, or a model with one inside, as in
        `fingerprint`.  Of a Pipeline that starts with an encoder save the rest,
        ``model[1:]``: encoders have files of their own.
    path : str or path-like
        The file.  An existing file is replaced when the new one is complete.  skops can
        read it too, so ".skops" is a good suffix.
    trusted : sequence of str, default=()
        Full names of further types that may be in the file.  `load` takes the same.

    Raises
    ------
    ImportError
        If skops is not installed.
    TypeError
        If the model holds no anchors, or a type that `load` would refuse.
    sklearn.exceptions.NotFittedError
        If the model is not fitted.

    See Also
    --------
    load : Reads the file.
    TRUSTED : The types that `load` accepts.

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
    >>> float(abs(loaded.predict_proba(X) - model.predict_proba(X)).max())
    0.0
    """
    skops_io, allowed = _skops(), _allowed(trusted)
    described = _describe(model)
    data = skops_io.dumps(model, compression=ZIP_DEFLATED)
    unknown = sorted(set(skops_io.get_untrusted_types(data=data)).difference(allowed))
    if unknown:
        raise TypeError(
            "model must hold no types that load would refuse: save it without its "
            "encoder (of a Pipeline, model[1:]; of a search, best_estimator_), use "
            "options by name, or pass these types as trusted to save and load; got "
            f"{unknown} in a {type(model).__name__}"
        )
    try:
        _, digest = _unpack(io.BytesIO(data), len(data))
    except ValueError:  # it repeats itself so much that load would refuse it packed
        data = skops_io.dumps(model)
        _, digest = _unpack(io.BytesIO(data), len(data))
    buffer = io.BytesIO(data)
    with ZipFile(buffer, "a", compression=ZIP_DEFLATED) as archive:
        versions = {name: version(name) for name in _PACKAGES}
        manifest = {
            "format": _FORMAT,
            **described,
            "versions": {"python": platform.python_version(), **versions},
            "sha256": digest,
        }
        archive.writestr(_MANIFEST, json.dumps(manifest, indent=2))
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def _manifest_of(file, path):
    """Return the manifest of an open file, in which all fields are as save made them.

    Returns
    -------
    manifest : dict
        The manifest.
    n_bytes : int
        The size of the file.
    """
    n_bytes = file.seek(0, os.SEEK_END)
    with parsing(f"{path} must be a file that {_WRITER} has written"):
        with ZipFile(file) as archive:
            info = members_of(archive)[_MANIFEST]
            manifest = json.loads(_json_of(archive, info, n_bytes))
        check_fields(manifest, {"format": int})
        if manifest["format"] == _FORMAT:
            check_fields(manifest, _FIELDS)
    if (found := manifest["format"]) != _FORMAT:
        writer = manifest.get("versions")
        writer = writer.get("skinvariant") if isinstance(writer, dict) else None
        old = found < _FORMAT
        todo = "fit and save the model again" if old else "update skinvariant"
        raise ValueError(
            f"{path} must be of format {_FORMAT}; got {found!r}, written by "
            f"skinvariant {writer}: {todo}"
        )
    return manifest, n_bytes


def read_manifest(path):
    """Return the description of the model in a file, without loading the model.

    Parameters
    ----------
    path : str or path-like
        A file that `save` wrote.

    Returns
    -------
    dict
        "model", "projector", "fingerprint", "n_anchors", "n_features_in", "dtype",
        "metrics", "pre", "post" and "aggregation" of the model, the "versions" of the
        packages that wrote it, the "format", and the "sha256" of the rest of the file.

    Raises
    ------
    ValueError
        If `save` did not write the file, its manifest is damaged, or this version
        cannot read its format.

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
    with Path(path).open("rb") as file:
        return _manifest_of(file, path)[0]


def load(path, *, expected=None, trusted=()):
    """Read a fitted model from a file of `save`, and check that it is the right one.

    No code in the file is executed, and only types of scikit-learn, `TRUSTED` and
    `trusted` are built.

    Parameters
    ----------
    path : str or path-like
        The file.
    expected : str or fitted estimator, default=None
        The `fingerprint` that the model must have, or a model that has it.  None: any.
    trusted : sequence of str, default=()
        Full names of further types that may be in the file.  Check what they do.

    Returns
    -------
    fitted estimator
        The model.

    Raises
    ------
    ImportError
        If skops is not installed, or torch for a neural head.
    ValueError
        If `save` did not write the file, if it is damaged or was altered, if it would
        unpack to far more than its own size, if this version cannot read its format,
        or if its anchors are not those of `expected`.
    skops.io.exceptions.UntrustedTypesFoundException
        If the file holds a type that is not trusted.

    Warns
    -----
    sklearn.exceptions.InconsistentVersionWarning
        If another version of scikit-learn wrote the file.

    Notes
    -----
    The digest in the manifest reveals damage and accidental changes.  Someone who
    alters the file deliberately can also replace the digest, but still cannot make it
    execute code.  Only a signature of your own protects the values.

    What the file holds is read in pieces, and must not be more than 64 MiB and four
    times the size of the file; `save` does not compress a model that repeats itself
    more than that.  Loading takes about four times the memory of the arrays.

    Examples
    --------
    A head for one encoder is not mistaken for a head for another:

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
    with Path(path).open("rb") as file:
        manifest, n_bytes = _manifest_of(file, path)
        if expected is not None:  # before anything is unpacked
            _check_anchors(manifest["fingerprint"], expected, path)
        refused = skops_io.exceptions.UntrustedTypesFoundException
        wanted = f"{path} must be as save wrote it, not damaged or altered"
        with parsing(wanted, refused):
            unpacked, digest = _unpack(
                file, n_bytes
            )  # what is checked is what is built
            if digest != manifest["sha256"]:
                raise ValueError(f"SHA-256 must be {manifest['sha256']}; got {digest}")
            model = skops_io.load(unpacked, trusted=allowed)
            found = fingerprint(model)
    _check_anchors(found, manifest["fingerprint"], path)
    return model
