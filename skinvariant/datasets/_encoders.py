"""Encoders of three libraries by their names, and a cache of what they encoded."""

import hashlib
import os
import pickle
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from itertools import islice
from numbers import Integral
from pathlib import Path

import numpy as np

from skinvariant._files import array_digest, atomic_write, read_arrays
from skinvariant._progress import progress_bar
from skinvariant._validation import check_choice, check_number
from skinvariant.datasets._libraries import load_library, loading

# of the cache: another number where the same call gives other rows
_VERSION = 1
_LOCAL_TIMM = "local-dir:"
_DTYPES = dict.fromkeys(("float16", "float32", "float64"))


# --- loaders: each returns a function from a list of samples to a tensor of rows ---


def _load_transformers(name, kind, device, revision):
    transformers = load_library("transformers", "library='transformers'")
    model = transformers.AutoModel.from_pretrained(name, revision=revision)
    if getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    model = model.float().eval().to(device)
    methods = {"text": "get_text_features", "image": "get_image_features"}
    features = None
    if all(hasattr(model, method) for method in methods.values()):
        features = getattr(model, methods[kind])  # of a model of texts and images

    def rows_of(inputs):
        if features is not None:
            output = features(**inputs)
            return getattr(output, "pooler_output", output)  # a tensor before version 5
        hidden = model(**inputs).last_hidden_state
        if kind == "image":  # tokens, or a map of channels
            return hidden.mean(1) if hidden.ndim == 3 else hidden.flatten(2).mean(2)
        mask = inputs["attention_mask"].unsqueeze(2).to(hidden.dtype)
        return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)

    if kind == "image":
        processor = transformers.AutoImageProcessor.from_pretrained(
            name, revision=revision
        )
        return lambda images: rows_of(processor(images, return_tensors="pt").to(device))
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        name, revision=revision, padding_side="right"
    )
    if tokenizer.pad_token is None:  # padding is masked, so any token will do
        tokenizer.pad_token = tokenizer.eos_token
    longest = _max_length(tokenizer, model)
    return lambda texts: rows_of(
        tokenizer(
            texts,
            padding=True,
            truncation=longest is not None,
            max_length=longest,
            return_tensors="pt",
        ).to(device)
    )


def _max_length(tokenizer, model):
    """Return how many tokens a model can take, or None where there is no limit."""
    config = getattr(model.config, "text_config", model.config)
    n_positions = getattr(config, "max_position_embeddings", None) or 0
    embeddings = getattr(model, "embeddings", None)
    padding = getattr(
        getattr(embeddings, "position_embeddings", None), "padding_idx", 0
    )
    if padding:  # RoBERTa and its kin count positions from behind that of padding
        n_positions -= padding + 1
    # a tokenizer without a limit has 10^30
    limits = [tokenizer.model_max_length, n_positions]
    return min((limit for limit in limits if 0 < limit < 10**9), default=None)


def _load_sentence_transformers(name, kind, device, revision):
    library = load_library("sentence_transformers", "library='sentence-transformers'")
    model = library.SentenceTransformer(name, device=str(device), revision=revision)
    model = model.float().eval()

    def rows(samples):
        return model.encode(
            samples,
            batch_size=len(samples),
            show_progress_bar=False,
            convert_to_tensor=True,
        )

    return rows


def _load_timm(name, kind, device, revision):
    if kind == "text":
        raise TypeError(f"inputs must be images for timm's {name!r}; got texts")
    torch = load_library("torch", "library='timm'")
    timm = load_library("timm", "library='timm'")
    load_library("timm.data", "library='timm'")
    path = _timm_path(name, revision)
    model = timm.create_model(path, pretrained=True, num_classes=0)
    model = model.float().eval().to(device)
    config = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**config, is_training=False)

    def rows(images):
        return model(torch.stack([transform(image) for image in images]).to(device))

    return rows


def _timm_path(name, revision):
    """Return what timm calls a folder, a model on the hub or one of its own."""
    if name.startswith(_LOCAL_TIMM):
        return name
    if Path(name).is_dir():
        return f"{_LOCAL_TIMM}{name}"
    if "/" not in name and revision is None:
        return name
    hub_name = name if "/" in name else f"timm/{name}"
    return f"hf-hub:{hub_name}" + (f"@{revision}" if revision is not None else "")


LIBRARIES = {
    "sentence-transformers": _load_sentence_transformers,
    "timm": _load_timm,
    "transformers": _load_transformers,
}


def library_of(name):
    """Return the library that the prefix of a name belongs to.

    Parameters
    ----------
    name : str
        Name on the hub.

    Returns
    -------
    str
        A key of `LIBRARIES`.
    """
    prefix = name.partition("/")[0]
    if name.startswith(_LOCAL_TIMM):
        return "timm"
    return prefix if prefix in LIBRARIES else "transformers"


@contextmanager
def _own_random_state(torch, device):
    """Leave torch's global generators as they were."""
    device = torch.device(device)
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
        yield


def encode_batches(name, samples, *, library, revision, device, batch_size, dtype):
    """Encode samples, a batch at a time.

    Parameters
    ----------
    name, library, revision, device, batch_size
        As in `skinvariant.datasets.encode`.
    samples : iterable of tuple (str, str or image)
        Those of `read_samples`.
    dtype : dtype
        Of the rows.

    Yields
    ------
    ndarray of shape (n_samples, n_features)
        The rows of a batch.

    Raises
    ------
    ValueError
        If a value is not finite.
    """
    encoder, n_done, samples = None, 0, iter(samples)
    while batch := list(islice(samples, batch_size)):
        torch = load_library("torch", "encode")
        from skinvariant._torch import own_settings

        state = _own_random_state(torch, device)
        with state, own_settings(), loading(f"{library}'s {name!r}"):
            if encoder is None:
                encoder = LIBRARIES[library](name, batch[0][0], device, revision)
        state = _own_random_state(torch, device)
        with state, own_settings(), torch.inference_mode():
            rows = encoder([sample for _, sample in batch])
            rows = rows.float().cpu().numpy()
        yield _checked(rows, len(batch), dtype, n_done, name)
        n_done += len(batch)


def _checked(rows, n_samples, dtype, n_done, name):
    """Return the rows of a batch in a dtype, in which they must be finite."""
    if rows.ndim != 2 or len(rows) != n_samples:
        raise ValueError(
            f"{name!r} must give one row for each of {n_samples} inputs; got shape "
            f"{rows.shape}"
        )
    with np.errstate(over="ignore"):
        narrow = rows.astype(dtype, copy=False)
    bad = np.flatnonzero(~np.isfinite(narrow).all(axis=1))
    if bad.size:
        raise ValueError(
            f"{name!r} must give finite values in {dtype}; got inf or NaN in row "
            f"{n_done + bad[0]}"
        )
    return narrow


# --- samples ------------------------------------------------------------------------


def check_inputs(inputs):
    """Raise an error for what is no series of samples, or one without an order.

    Parameters
    ----------
    inputs : object
        As in `skinvariant.datasets.encode`.

    Raises
    ------
    TypeError
        If it is a single sample, a set, a dict, or a frame, which iterates over its
        header.

    Examples
    --------
    >>> from skinvariant.datasets._encoders import check_inputs
    >>> check_inputs({"a text", "another"})
    Traceback (most recent call last):
        ...
    TypeError: inputs must be a list, array or generator of texts or of images, in an \
order; got set
    """
    message = (
        "inputs must be a list, array or generator of texts or of images, in an "
        f"order; got {type(inputs).__name__}"
    )
    # not of the object itself: the columns of a lazy frame are computed
    if hasattr(type(inputs), "columns"):
        raise TypeError(f"{message}: pass one of its columns")
    unordered = isinstance(inputs, str | bytes | bytearray | Mapping | Set)
    if unordered or not np.iterable(inputs) or getattr(inputs, "ndim", 1) == 0:
        raise TypeError(message)
    shape = getattr(inputs, "shape", ())
    if len(shape) == 3 and shape[2] in (1, 3, 4):
        raise TypeError(
            "inputs must be an array of shape (n_samples, height, width) or (n_samples,"
            f" height, width, channels), or a list of images; got shape {tuple(shape)},"
            " which is that of one image"
        )


def read_samples(inputs):
    """Iterate over the samples, each with its kind.

    Parameters
    ----------
    inputs : iterable
        As in `skinvariant.datasets.encode`.

    Yields
    ------
    tuple (str, str or image)
        "text" and a str, or "image" and an RGB image of PIL.

    Raises
    ------
    TypeError
        If a sample is neither, or differs in kind from those before.
    """
    first = None
    for position, value in enumerate(inputs):
        if isinstance(value, str):
            kind, sample = "text", str(value)
        elif type(value) is np.ndarray and value.dtype == np.uint8:
            grey = value.ndim == 3 and value.shape[2] == 1
            pixels = value[:, :, 0] if grey else value
            if pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)):
                raise TypeError(
                    f"input {position} must be an image of shape (height, width), "
                    f"(height, width, 1) or (height, width, 3); got {pixels.shape}"
                )
            image = load_library("PIL.Image", "an image").fromarray(pixels)
            kind, sample = "image", image.convert("RGB")
        elif type(value).__module__.partition(".")[0] == "PIL":
            if value.mode[0] in "IF":  # convert would cut values off at 255
                raise TypeError(
                    f"input {position} must be an image of 8 bits for each channel; "
                    f"got mode {value.mode!r}"
                )
            kind, sample = "image", value.convert("RGB")
        else:
            dtype = f" of {value.dtype}" if isinstance(value, np.ndarray) else ""
            raise TypeError(
                f"input {position} must be a str, a uint8 array or an image of PIL; "
                f"got {type(value).__name__}{dtype}"
            )
        first = first or kind
        if kind != first:
            raise TypeError(
                f"inputs must be texts alone or images alone; input {position} is "
                f"{kind}, and those before it are {first}"
            )
        yield kind, sample


@contextmanager
def readable_twice(inputs, folder):
    """Make inputs readable twice: an iterator is written to a temporary file first.

    Parameters
    ----------
    inputs : iterable
        As in `skinvariant.datasets.encode`.
    folder : Path
        Where the temporary file goes, which has no name.

    Yields
    ------
    callable
        Returns an iterator over the samples of `read_samples`; may be called again.
    """
    if not isinstance(inputs, Iterator):
        yield lambda: read_samples(inputs)
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        for sample in read_samples(inputs):
            pickle.dump(sample, file)

        def again():
            file.seek(0)
            size = os.fstat(file.fileno()).st_size
            while file.tell() < size:
                yield pickle.load(file)

        file.flush()
        yield again


# --- the cache ----------------------------------------------------------------------


def _update(digest, *parts):
    """Add strings to a digest, each with its length, which keeps them apart."""
    for part in parts:
        part = part.encode() if isinstance(part, str) else part
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)


def cache_key(name, samples, *, library, revision, dtype):
    """Return a hash of an encoder and the samples that it encodes.

    Parameters
    ----------
    name, library, revision
        As in `skinvariant.datasets.encode`.
    samples : iterable of tuple (str, str or image)
        Those of `read_samples`.
    dtype : dtype
        Of the rows.

    Returns
    -------
    key : str
        The hash.
    n_samples : int
        How many samples there are.
    """
    digest = hashlib.sha256()
    _update(digest, str(_VERSION), library, repr(revision), np.dtype(dtype).name)
    folder = Path(name.removeprefix(_LOCAL_TIMM))
    if folder.is_dir():  # another folder with the same files is the same model
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
            _update(digest, path.relative_to(folder).as_posix(), content)
    else:
        _update(digest, name)
    n_samples = 0
    for kind, sample in samples:
        if kind == "image":
            _update(digest, kind, repr(sample.size), array_digest(np.asarray(sample)))
        else:
            _update(digest, kind, sample.encode("utf-8", "surrogatepass"))
        n_samples += 1
    return digest.hexdigest(), n_samples


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
        (n_samples, height, width, 1) or (n_samples, height, width, 3).  Of a generator
        only one batch at a time is in memory.
    batch_size : int, default=32
        How many samples to encode at once.  It changes values only by rounding.
    device : str, default="cpu"
        Where to run the encoder, as torch names it.
    library : {"sentence-transformers", "timm", "transformers"}, default=None
        The library that loads the encoder.  None: that of the name's prefix ("timm/",
        "sentence-transformers/"), else "transformers".
    revision : str, default=None
        Branch, tag or commit on the hub.  None: the newest.
    cache : str or path, default=None
        A folder that keeps the space: the next call with the same encoder, revision,
        samples and dtype reads it there and does not load the encoder.  None: no space
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
        If a sample is neither text nor image, or not of the encoder's kind.
    ImportError
        If a library is not installed.

    Warns
    -----
    UserWarning
        If a file of the cache is broken; then the samples are encoded again.

    See Also
    --------
    fetch_benchmark : Samples to encode.
    load_embeddings : Spaces that were encoded and stored before.

    Notes
    -----
    A row depends on the library:

    - "transformers": the mean of the last hidden states, over the tokens that are not
      padding, or over all positions of an image; of a model of both texts and images
      (CLIP) its projected features instead;
    - "timm": the features before the classifier, of images that the model's own
      transform has prepared;
    - "sentence-transformers": the output of the model's own ``encode``.

    A text that is longer than the encoder can take is cut.

    Without a `revision`, the cache does not notice new weights under the same name on
    the hub: pass a commit.  Of a folder all files are compared.  The samples of a
    generator are needed twice, so they are kept in a temporary file meanwhile.

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
    name, dtype = str(name), np.dtype(dtype)
    check_number("batch_size", batch_size, Integral, 1)
    check_choice("dtype", str(dtype), _DTYPES)
    library = library_of(name) if library is None else library
    check_choice("library", library, LIBRARIES)
    check_inputs(inputs)
    known = {"library": library, "revision": revision, "dtype": dtype}

    def space_of(samples, n_samples):
        batches = []
        with progress_bar(n_samples, unit="rows", verbose=verbose) as advance:
            for rows in encode_batches(
                name, samples, device=device, batch_size=int(batch_size), **known
            ):
                batches.append(rows)
                advance(len(rows))
        if not batches:
            raise ValueError("inputs must hold at least one text or image; got none")
        return np.concatenate(batches)

    if cache is None:
        n_samples = len(inputs) if hasattr(inputs, "__len__") else None
        return space_of(read_samples(inputs), n_samples)
    cache = Path(cache)
    with readable_twice(inputs, cache) as samples:
        key, n_samples = cache_key(name, samples(), **known)
        path = cache / f"{key}.npz"
        if path.exists():
            try:
                (X,) = read_arrays(path).values()
                if X.dtype == dtype and X.ndim == 2 and len(X) == n_samples:
                    return X
                error = f"its space is of shape {X.shape}, dtype {X.dtype}"
            except ValueError as damage:
                error = damage
            message = f"{str(path)!r} is broken ({error}): encoding again"
            warnings.warn(message, stacklevel=2)
        X = space_of(samples(), n_samples)
        cache.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            np.savez(file, X=X)
    return X
