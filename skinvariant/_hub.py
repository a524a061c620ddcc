"""Encoders of three libraries as one function from a batch to rows, and their cache."""

import hashlib
import os
import pickle
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from itertools import islice
from pathlib import Path
from uuid import uuid4

import numpy as np

from skinvariant._progress import progress_bar

# of what is cached: another number where the same call gives other rows
_VERSION = 1
_LOCAL_TIMM = "local-dir:"


def load_library(name, what):
    """Return an optional module, or say how to install it.

    Parameters
    ----------
    name : str
        The module.
    what : str
        What needs it, for the error message.

    Returns
    -------
    module
        The module.

    Raises
    ------
    ImportError
        If it cannot be imported.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{what} needs {name.partition('.')[0]}, which cannot be imported: "
            "pip install 'skinvariant[benchmarks]'"
        ) from error


@contextmanager
def loading(what):
    """Say in errors of other libraries what they were asked for.

    Parameters
    ----------
    what : str
        What is being loaded.

    Yields
    ------
    None
        Nothing.
    """
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        error.add_note(f"skinvariant was loading {what}")
        raise


@contextmanager
def _own_random_state(torch, device):
    """Leave torch's global generators as they were."""
    device = torch.device(device)
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
        yield


# The loaders: each returns a function from a list of samples to a tensor of rows.


def _load_transformers(name, kind, device, revision):
    transformers = load_library("transformers", "library='transformers'")
    model = transformers.AutoModel.from_pretrained(name, revision=revision)
    if getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    model = model.float().eval().to(device)
    features = _features_of_two(model, kind)
    if kind == "image":
        processor = transformers.AutoImageProcessor.from_pretrained(
            name, revision=revision
        )

        def rows(images):
            pixels = processor(images, return_tensors="pt").to(device)
            return features(pixels) if features else _mean_position(model(**pixels))

        return rows
    tokenizer = _tokenizer(transformers, name, revision)
    longest = _longest(tokenizer, model)

    def rows(texts):
        tokens = tokenizer(
            texts,
            padding=True,
            truncation=longest is not None,
            max_length=longest,
            return_tensors="pt",
        ).to(device)
        return features(tokens) if features else _mean_token(model(**tokens), tokens)

    return rows


def _features_of_two(model, kind):
    """Return what gives the features of a model of texts and images, else None."""
    methods = {"text": "get_text_features", "image": "get_image_features"}
    if not all(hasattr(model, method) for method in methods.values()):
        return None
    method = getattr(model, methods[kind])

    def features(inputs):
        output = method(**inputs)
        return getattr(output, "pooler_output", output)  # a tensor before version 5

    return features


def _mean_position(output):
    """Mean over the tokens of a transformer, or over a map of channels."""
    hidden = output.last_hidden_state
    return hidden.mean(1) if hidden.ndim == 3 else hidden.flatten(2).mean(2)


def _mean_token(output, tokens):
    """Mean over the tokens that are not padding."""
    hidden = output.last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(2).to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)


def _tokenizer(transformers, name, revision):
    """Return a tokenizer that pads behind the text, whatever model it belongs to."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        name, revision=revision, padding_side="right"
    )
    if tokenizer.pad_token is None:  # it is masked: any will do
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _longest(tokenizer, model):
    """Return how many tokens a model can take, or None where there is no limit."""
    config = getattr(model.config, "text_config", model.config)
    n_positions = getattr(config, "max_position_embeddings", None) or 0
    embeddings = getattr(model, "embeddings", None)
    padding = getattr(
        getattr(embeddings, "position_embeddings", None), "padding_idx", 0
    )
    if padding:  # RoBERTa and its kin count positions from behind that of padding
        n_positions -= padding + 1
    # a tokenizer that knows no limit says 10^30
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
    """Return the library that a name belongs to.

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


def encode_batches(name, samples, *, library, revision, device, batch_size, dtype):
    """Encode samples, a batch at a time.

    Parameters
    ----------
    name, library, revision, device, batch_size
        As of `skinvariant.datasets.encode`.
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
        with _own_random_state(torch, device), loading(f"{library}'s {name!r}"):
            if encoder is None:
                encoder = LIBRARIES[library](name, batch[0][0], device, revision)
        with _own_random_state(torch, device), torch.inference_mode():
            rows = encoder([sample for _, sample in batch])
            rows = rows.float().cpu().numpy()
        yield _checked(rows, len(batch), dtype, n_done, name)
        n_done += len(batch)


def _checked(rows, n_samples, dtype, n_done, name):
    """Return the rows of a batch in a dtype, or say what is wrong with them."""
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
            f"{name!r} must give finite values in {dtype}; row {n_done + bad[0]} has "
            "others"
        )
    return narrow


# The samples


def read_samples(inputs):
    """Give the samples one by one, each with its kind.

    Parameters
    ----------
    inputs : iterable
        As of `skinvariant.datasets.encode`.

    Yields
    ------
    tuple (str, str or image)
        "text" and a str, or "image" and an RGB image of PIL.

    Raises
    ------
    TypeError
        If a sample is neither, or of another kind than those before.
    """
    first = None
    for position, value in enumerate(inputs):
        kind, sample = _read_sample(value, position)
        first = first or kind
        if kind != first:
            raise TypeError(
                f"inputs must be texts alone or images alone; input {position} is "
                f"{kind}, and those before it are {first}"
            )
        yield kind, sample


def _read_sample(value, position):
    """Return the kind of a sample, and the sample as encoders take it."""
    if isinstance(value, str):
        return "text", str(value)
    image = None
    if isinstance(value, np.ndarray) and value.dtype == np.uint8:
        single = value.ndim == 3 and value.shape[2] == 1
        image = value[:, :, 0] if single else value
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
            raise TypeError(
                f"input {position} must be an image of shape (height, width), "
                f"(height, width, 1) or (height, width, 3); got {value.shape}"
            )
        image = load_library("PIL.Image", "an image").fromarray(image)
    elif type(value).__module__.partition(".")[0] == "PIL":
        image = value
    if image is None:
        raise TypeError(
            f"input {position} must be a str, a uint8 array or an image of PIL; got "
            f"{type(value).__name__}"
            + (f" of {value.dtype}" if isinstance(value, np.ndarray) else "")
        )
    return "image", image.convert("RGB")


def check_inputs(inputs):
    """Refuse what can be iterated over, but is not a series of samples.

    Parameters
    ----------
    inputs : object
        What the user gave.

    Raises
    ------
    TypeError
        If it is a single sample, a dict, or nothing to iterate over.
    """
    single = isinstance(inputs, str | bytes | Mapping) or not np.iterable(inputs)
    if single or getattr(inputs, "ndim", 1) == 0:
        raise TypeError(
            "inputs must be a list, array or generator of texts or of images; got "
            f"{type(inputs).__name__}"
        )


# The cache


@contextmanager
def readable_twice(inputs, folder):
    """Give inputs that can be read twice: an iterator is written to a file first.

    Parameters
    ----------
    inputs : iterable
        As of `skinvariant.datasets.encode`.
    folder : Path
        Where the file goes; it has no name and is gone in the end.

    Yields
    ------
    callable
        Returns an iterator over the samples of `read_samples`, once or more.
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


def _add(digest, *parts):
    """Add some strings, each with its length, so that none runs into the next."""
    for part in parts:
        part = part.encode() if isinstance(part, str) else part
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)


def _add_folder(digest, folder):
    """Add the names and the contents of all files of a folder."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        _add(digest, path.relative_to(folder).as_posix(), content)


def cache_key(name, samples, *, library, revision, dtype):
    """Return what a space is known by: its encoder and its samples.

    Parameters
    ----------
    name, library, revision
        As of `skinvariant.datasets.encode`.
    samples : iterable of tuple (str, str or image)
        Those of `read_samples`.
    dtype : dtype
        Of the rows.

    Returns
    -------
    key : str
        A hash.
    n_samples : int
        How many samples there are.
    """
    digest = hashlib.sha256()
    _add(digest, str(_VERSION), library, repr(revision), np.dtype(dtype).name)
    folder = Path(name.removeprefix(_LOCAL_TIMM))
    if folder.is_dir():  # another folder with the same files is the same model
        _add_folder(digest, folder)
    else:
        _add(digest, name)
    n_samples = 0
    for kind, sample in samples:
        if kind == "image":
            _add(digest, kind, repr(sample.size), sample.tobytes())
        else:
            _add(digest, kind, sample.encode("utf-8", "surrogatepass"))
        n_samples += 1
    return digest.hexdigest(), n_samples


def read_cache(path):
    """Return the array of a file of the cache, or None if it cannot be used.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    ndarray or None
        The array.

    Warns
    -----
    UserWarning
        If the file is there, but broken.
    """
    if not path.exists():
        return None
    try:
        # reading to the end compares the checksum, which is why it is a zip file
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return stored["X"]
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError) as error:
        warnings.warn(
            f"{str(path)!r} is broken ({error}): encoding again", stacklevel=3
        )
        return None


def write_cache(path, X):
    """Write an array, so that a kill leaves either no file or a whole one.

    Parameters
    ----------
    path : Path
        The file.
    X : ndarray
        The array.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.stem}.{uuid4().hex}.tmp")
    try:
        with beside.open("wb") as file:
            np.savez(file, X=X)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def collect(batches, n_samples, verbose):
    """Return the rows of all batches as one array, with a progress bar.

    Parameters
    ----------
    batches : iterable of ndarray
        Those of `encode_batches`.
    n_samples : int or None
        How many rows there will be, if that is known.
    verbose : int
        Whether to show the bar.

    Returns
    -------
    ndarray of shape (n_samples, n_features)
        The rows.

    Raises
    ------
    ValueError
        If there are none.
    """
    collected = []
    with progress_bar(n_samples, unit="rows", verbose=verbose) as advance:
        for rows in batches:
            collected.append(rows)
            advance(len(rows))
    if not collected:
        raise ValueError("inputs must hold at least one text or image; got none")
    return np.concatenate(collected)
