"""Files without pickle: the same bits again, nothing else, and the right anchors."""

import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from skinvariant import (
    EncoderGuard,
    InvariantAggregator,
    InvariantVotingClassifier,
    InvariantVotingRegressor,
    RelativeProjector,
    persistence,
    stitch,
)
from skinvariant.metrics import METRICS
from skinvariant.persistence import (
    _FIELDS,
    TRUSTED,
    _allowed,
    _unpack,
    fingerprint,
    load,
    read_manifest,
    save,
)
from skinvariant.pooling import PooledClassifier, PooledRegressor
from skinvariant.translation import SpaceTranslator

sio = pytest.importorskip("skops.io", reason="files are written by skops")

BUNDLES = Path(__file__).parent / "bundles"
PRES = (None, "center", "standardize", "whiten")
POSTS = (None, "layer", "l2", "standardize")
HEADS = ("InvariantClassifier", "InvariantRegressor")
VOTES = (InvariantVotingClassifier, InvariantVotingRegressor)
X, y = load_digits(return_X_y=True)
X_new = X[:, ::-1]
HOW = {"n_anchors": 30, "random_state": 0}


def encode(X):
    """Stand for an encoder of one's own."""
    return X


def pipeline(*steps, **how):
    """Return a fitted model of all the kinds of parts."""
    head = LogisticRegression(max_iter=2000)
    model = make_pipeline(*steps, InvariantAggregator(**HOW, **how), head)
    return model.fit(X[:300], y[:300])


def a_vote():
    """Return a fitted vote of one head for each metric."""
    voters = [
        (m, make_pipeline(RelativeProjector(metric=m, **HOW), LogisticRegression()))
        for m in ("cosine", "angular")
    ]
    return VotingClassifier(voters, voting="soft").fit(X[:300], y[:300])


def an_uneven_vote():
    """Return a fitted vote of pipelines of different lengths, one without anchors."""
    voters = [
        ("absolute", LogisticRegression(max_iter=5000)),
        ("cosine", make_pipeline(RelativeProjector(**HOW), LogisticRegression())),
        (
            "scaled",
            make_pipeline(StandardScaler(), RelativeProjector(**HOW), LinearSVC()),
        ),
    ]
    return VotingClassifier(voters).fit(X[:300], y[:300])


def a_pool():
    """Return a pool of a vote and of a head behind a translation."""
    translation = SpaceTranslator().fit(X[:300, ::-1], X[:300])
    translated = make_pipeline(translation, a_vote())
    pool = PooledClassifier([("vote", a_vote()), ("translated", translated)])
    return pool.fit(X[300:400], y[300:400])


def voting(kind, **params):
    """Return a fitted voting model."""
    params = HOW | {"metrics": ("cosine", "manhattan")} | params
    return kind(**params).fit(X[:300], y[:300])


def head_of(kind):
    """Return an unfitted head of a voting model that knows nothing of anchors."""
    if kind is InvariantVotingClassifier:
        return make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    return Ridge()


def outputs(model, X):
    """Return probabilities, or predictions of a regressor."""
    return getattr(model, "predict_proba", model.predict)(X)


def untrusted(model):
    """Return the types in a file that skops does not trust by itself."""
    return set(sio.get_untrusted_types(data=sio.dumps(model)))


# --- the lists of trusted types -------------------------------------------------------


def test_the_lists_hold_what_files_need_and_no_more():
    """Every estimator with every option by name; no other type is in any file."""
    needed = {name: set() for name in TRUSTED if name not in HEADS}
    for metric, (pre, post) in product(METRICS, zip(PRES, POSTS, strict=True)):
        projector = RelativeProjector(metric=metric, pre=pre, post=post, **HOW)
        needed["RelativeProjector"] |= untrusted(projector.fit(X[:300]))
    for pre, post in zip(PRES, POSTS, strict=True):
        aggregator = InvariantAggregator(pre=pre, post=post, **HOW).fit(X[:300])
        needed["InvariantAggregator"] |= untrusted(aggregator)
    for kind in (RelativeProjector, InvariantAggregator):
        options = {} if kind is RelativeProjector else {"metrics": ("cosine", "inner")}
        sparse = kind(**HOW, **options).fit(csr_array(X[:300]))
        needed[kind.__name__] |= untrusted(sparse)
    needed["EncoderGuard"] |= untrusted(EncoderGuard().fit(X[:300]))
    for method in ("orthogonal", "ridge", "kernel"):
        needed["SpaceTranslator"] |= untrusted(SpaceTranslator(method).fit(X, X_new))
    for kind, pre, post in product(VOTES, ("center", "whiten"), ("layer", "l2")):
        model = voting(kind, pre=pre, post=post)
        rows = model.anchor_indices_
        for y_anchors in (None, y[rows]):
            new = model.rebase(X_new[rows], y_anchors)
            needed[kind.__name__] |= untrusted(model) | untrusted(new)
    for kind, pool in pools():
        needed[kind] |= untrusted(pool) | {"scipy.sparse._csr.csr_array"}
    assert needed == {name: set(TRUSTED[name]) for name in needed}


def pools():
    """Yield pools of a head on a product, of a vote, and behind a translation."""
    heads = {
        PooledClassifier: (LogisticRegression(max_iter=2000), VotingClassifier),
        PooledRegressor: (LinearRegression(), VotingRegressor),
    }
    for (kind, (head, vote)), (pre, post) in product(
        heads.items(), [("whiten", "layer"), (None, "l2")]
    ):
        how = {"n_anchors": 12, "random_state": 0, "pre": pre, "post": post}
        one = make_pipeline(InvariantAggregator(**how), head).fit(X[:99], y[:99])
        voter = make_pipeline(RelativeProjector(**how), head)
        options = {"voting": "soft"} if kind is PooledClassifier else {}
        votes = vote([("cosine", voter)], **options).fit(X[:99], y[:99])
        translation = SpaceTranslator().fit(X_new[:99], X[:99])
        members = {"product": one, "translated": make_pipeline(translation, votes)}
        yield kind.__name__, kind([*members.items()]).fit(X[:99], y[:99])


def test_the_lists_of_the_heads():
    """With every option by name."""
    heads = pytest.importorskip("skinvariant.heads")
    for name in HEADS:
        needed = set()
        for pre, post in zip(PRES, POSTS, strict=True):
            head = getattr(heads, name)(max_epochs=1, pre=pre, post=post, **HOW).fit(
                X[:300], y[:300]
            )
            needed |= untrusted(head)
        sparse = getattr(heads, name)(metrics=("cosine",), max_epochs=1, **HOW)
        needed |= untrusted(sparse.fit(csr_array(X[:300]), y[:300]))
        assert needed == set(TRUSTED[name])


@pytest.mark.parametrize("name", sorted(TRUSTED))
def test_listed_types_exist(name):
    """A renamed class must not stay on a list, where someone else might take it."""
    if name in HEADS:
        pytest.importorskip("torch", reason="heads need torch")
    for full in TRUSTED[name]:
        module, _, attribute = full.rpartition(".")
        __import__(module)
        assert hasattr(sys.modules[module], attribute)
        # modules may move, files stay: ours are listed under public names alone
        assert not full.startswith("skinvariant.") or "._" not in full


# --- there and back -----------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(pipeline(), id="pipeline"),
        pytest.param(pipeline(StandardScaler(), pre="whiten", post="l2"), id="scaled"),
        pytest.param(FrozenEstimator(pipeline()), id="frozen"),
        pytest.param(a_vote(), id="vote"),
        pytest.param(a_pool(), id="pool"),
        pytest.param(
            make_pipeline(
                RelativeProjector(**HOW, pre=MinMaxScaler(), post=StandardScaler()),
                KNeighborsClassifier(algorithm="brute"),
            ).fit(X[:300], y[:300]),
            id="transformers of scikit-learn",
        ),
    ],
)
def test_the_same_bits(model, tmp_path):
    """Predictions, parameters and anchors come back to the last bit."""
    path = tmp_path / "model.skops"
    save(model, path)
    loaded = load(path, expected=model)
    assert np.array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert fingerprint(loaded) == fingerprint(model)
    assert repr(loaded) == repr(model)
    assert os.listdir(tmp_path) == ["model.skops"]


def test_sparse_rows_and_labels_of_text(tmp_path):
    """CSR anchors; labels that are objects."""
    labels = np.array([f"digit {label}" for label in y], dtype=object)
    projector = RelativeProjector(metric="cosine", **HOW)
    model = make_pipeline(projector, LogisticRegression(max_iter=1000))
    model.fit(csr_array(X[:300]), labels[:300])
    save(model, tmp_path / "model.skops")
    loaded = load(tmp_path / "model.skops", expected=fingerprint(model))
    rows = csr_array(X)
    assert np.array_equal(loaded.predict_proba(rows), model.predict_proba(rows))
    assert loaded.predict(rows[:1])[0] == model.predict(rows[:1])[0]


@pytest.mark.parametrize("kind", HEADS)
def test_heads_come_back_and_go_on(kind, tmp_path):
    """The same bits, also of a head that was rebased, and rebased after loading."""
    heads = pytest.importorskip("skinvariant.heads")
    head = getattr(heads, kind)(max_epochs=2, **HOW).fit(X[:300], y[:300])
    head = head.rebase(X_new[head.anchor_indices_])
    save(head, tmp_path / "head.skops")
    loaded = load(tmp_path / "head.skops", expected=head)
    assert np.array_equal(loaded.predict(X_new), head.predict(X_new))
    assert loaded.agreement_ == head.agreement_
    back = [each.rebase(X[head.anchor_indices_]) for each in (loaded, head)]
    assert np.array_equal(back[0].predict(X), back[1].predict(X))


def states(kind):
    """Return voting models before and after a swap of the encoder, by name."""
    model = voting(kind, pre="whiten")
    rows = model.anchor_indices_
    head = head_of(kind).fit(X[:300], y[:300])
    swap = {"old_anchors": X[:40], "y": y[:40]}
    return {
        "fitted": model,
        "relative alone": voting(kind, absolute=False).rebase(X_new[rows]),
        "rebased": model.rebase(X_new[rows, :40]),
        "rebased with labels": model.rebase(X_new[rows], y[rows]),
        "rebased twice": model.rebase(X_new[rows], y[rows]).rebase(X[rows, ::2]),
        "any head": stitch(head, X_new[:40], old_anchors=X[:40]),
        "any head, with labels": stitch(head, X_new[:40], **swap),
    }


@pytest.mark.parametrize("kind", VOTES)
def test_votes_come_back_and_go_on(kind, tmp_path):
    """The same bits before and after a swap, and the same from the next swap on."""
    for name, model in states(kind).items():
        path = tmp_path / f"{name}.skops"
        save(model, path)
        loaded, rows = load(path, expected=model), X[:, : model.n_features_in_]
        assert np.array_equal(outputs(loaded, rows), outputs(model, rows)), name
        assert repr(loaded) == repr(model)
        assert (loaded.weights_, loaded.agreement_) == (
            model.weights_,
            model.agreement_,
        )
        anchors = X_new[: len(model.anchors_), :50]
        again = [each.rebase(anchors) for each in (loaded, model)]
        assert again[0].weights_ == again[1].weights_
        assert np.array_equal(*(outputs(each, X[:, :50]) for each in again)), name


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("kind", VOTES)
def test_heads_of_frames_behind_translations(kind, library, tmp_path):
    """Whatever gives arrays their names again is trusted as well."""
    frames = pytest.importorskip(library)
    names = [f"pixel{i}" for i in range(64)]
    old, new = (
        frames.DataFrame(dict(zip(names, rows.T, strict=True))) for rows in (X, X_new)
    )
    head = head_of(kind).fit(old[:300], y[:300])
    model = stitch(head, new[:40], old_anchors=old[:40])
    save(model, tmp_path / "model.skops")
    loaded = load(tmp_path / "model.skops", expected=model)
    assert np.array_equal(outputs(loaded, new), outputs(model, new))


def test_another_process_reads_it(tmp_path):
    """What is needed is in the file.

    However many threads BLAS has here and there: the relative space is the same to the
    bit.  The head's own product is scikit-learn's, whose sums are in another order
    under another number of threads: probabilities are the same within rounding.
    """
    model, path = pipeline(), tmp_path / "model.skops"
    save(model, path)
    code = (
        "import sys, numpy as np; from sklearn.datasets import load_digits;"
        "from skinvariant.persistence import load;"
        "model = load(sys.argv[1]); X, _ = load_digits(return_X_y=True);"
        "np.savez(sys.argv[2], relative=model[:-1].transform(X),"
        " probabilities=model.predict_proba(X))"
    )
    command = [sys.executable, "-c", code, path, tmp_path / "outputs.npz"]
    for limit in (1, 2):
        environment = os.environ | {"OPENBLAS_NUM_THREADS": str(limit)}
        subprocess.run(command, check=True, env=environment)
        outputs = np.load(tmp_path / "outputs.npz")
        with threadpool_limits(3 - limit, user_api="blas"):
            assert np.array_equal(outputs["relative"], model[:-1].transform(X))
            probabilities = model.predict_proba(X)
        assert np.allclose(outputs["probabilities"], probabilities, rtol=0, atol=1e-12)


def test_a_file_replaces_another_whole(tmp_path, monkeypatch):
    """A save that fails leaves what was there."""
    path, first = tmp_path / "model.skops", pipeline()
    save(first, path)

    def full(descriptor):
        raise OSError("no space left")

    with monkeypatch.context() as context:
        context.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space"):
            save(pipeline(pre="center"), path)
    assert load(path, expected=first) is not None


def test_a_save_that_fails_leaves_no_half_of_a_file(tmp_path, monkeypatch):
    """Neither under its name nor under another."""

    def fails(*paths):
        raise OSError("it is in use")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="in use"):
        save(pipeline(), tmp_path / "model.skops")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("path", sorted(BUNDLES.glob("*.skops")), ids=lambda p: p.stem)
@pytest.mark.filterwarnings(
    # other versions of scikit-learn read these files, too
    "ignore::sklearn.exceptions.InconsistentVersionWarning"
)
def test_files_of_earlier_versions(path):
    """Models that were saved by a release are read by all later ones."""
    if path.stem.startswith("head"):
        pytest.importorskip("torch", reason="heads need torch")
    model, rows = load(path), X[1700:1710]
    rows = rows.astype(np.float32) if path.stem.startswith("head") else rows
    said = np.loadtxt(path.with_suffix(".csv"))
    assert_allclose(model.predict_proba(rows), said, rtol=1e-4, atol=1e-6)
    assert read_manifest(path)["versions"]["skinvariant"] in path.stem


def test_there_are_files_of_earlier_versions():
    """An empty loop must not pass."""
    assert len(list(BUNDLES.glob("*.skops"))) >= 3


# --- what is told --------------------------------------------------------------------


def test_the_manifest_tells_what_is_inside(tmp_path):
    """Without the model being loaded; and the file is one of skops as well."""
    model = pipeline(pre="center", weights=(1, 2, 1, 1))
    save(model, tmp_path / "model.skops")
    manifest = read_manifest(tmp_path / "model.skops")
    told = {name: manifest[name] for name in ("model", "projector", "pre", "post")}
    assert told == {
        "model": "Pipeline",
        "projector": "InvariantAggregator",
        "pre": "center",
        "post": "standardize",
    }
    assert manifest["metrics"] == ["cosine", "euclidean", "manhattan", "chebyshev"]
    assert (manifest["n_anchors"], manifest["n_features_in"]) == (30, 64)
    assert manifest["dtype"] == "float64"
    assert manifest["fingerprint"] == fingerprint(model)
    assert set(manifest["versions"]) >= {"python", "numpy", "scikit-learn", "skops"}
    plain = sio.load(tmp_path / "model.skops", trusted=_allowed(()))
    assert np.array_equal(plain.predict(X), model.predict(X))


@pytest.mark.parametrize("kind", VOTES)
def test_the_manifest_of_a_vote(kind, tmp_path):
    """Its metrics and steps stay at a swap; the anchors are those of the new space."""
    model = voting(kind, pre="center", post="l2")
    anchors = X_new[model.anchor_indices_, :40].astype(np.float32)
    found = {}
    for name, each in (("old", model), ("new", model.rebase(anchors))):
        save(make_pipeline(each), tmp_path / name)
        found[name] = read_manifest(tmp_path / name)
        told = {key: found[name][key] for key in ("model", "projector", "pre", "post")}
        assert told == {
            "model": "Pipeline",
            "projector": kind.__name__,
            "pre": "center",
            "post": "l2",
        }
        assert found[name]["metrics"] == ["cosine", "manhattan"]
        assert found[name]["aggregation"] is None
        assert found[name]["fingerprint"] == fingerprint(each)
    assert found["old"]["fingerprint"].startswith("30x64-")
    assert found["new"]["fingerprint"].startswith("30x40-")
    assert (found["old"]["dtype"], found["new"]["dtype"]) == ("float64", "float32")
    relative = RelativeProjector(anchors="all").fit(anchors)
    assert found["new"]["fingerprint"] == fingerprint(relative)
    head = head_of(kind).fit(X[:300], y[:300])
    save(stitch(head, X_new[:40], old_anchors=X[:40]), tmp_path / "translated")
    manifest = read_manifest(tmp_path / "translated")
    assert (manifest["metrics"], manifest["n_anchors"]) == ([], 40)


@pytest.mark.parametrize("kind", [np.float32, np.float64, csr_array])
def test_fingerprints_are_of_the_values(kind):
    """Equal where all values are, whatever the memory order, and else different."""
    projector = RelativeProjector(metric="cosine", **HOW)
    known = fingerprint(clone(projector).fit(kind(X)))
    if kind is not csr_array:
        fortran = np.asfortranarray(X, dtype=kind)
        assert fingerprint(clone(projector).fit(fortran)) == known
    changed = X.copy()
    changed[projector.fit(X).anchor_indices_[7], 3] += 0.5
    assert fingerprint(clone(projector).fit(kind(changed))) != known
    order = RelativeProjector(anchors=projector.anchor_indices_[::-1]).fit(kind(X))
    assert fingerprint(order) != known
    assert fingerprint(projector.fit(X)) == fingerprint(pipeline_of(projector))


def pipeline_of(projector):
    """Return the same fitted projector inside a pipeline, frozen."""
    return make_pipeline(StandardScaler(), FrozenEstimator(projector)).fit(X)


def test_the_fingerprint_of_a_vote():
    """Is that of the first voter that has anchors, however long the voters are."""
    vote = an_uneven_vote()
    assert fingerprint(vote) == fingerprint(vote.named_estimators_["cosine"])


# --- what is refused ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (pipeline(StandardScaler()), "other anchors, or the same from another encoder"),
        (RelativeProjector(20, random_state=0).fit(X), "another number of anchors"),
        (
            RelativeProjector(**HOW).fit(X[:300, :60]),
            "an encoder of another width",
        ),
    ],
)
def test_other_anchors_are_refused(other, said, tmp_path):
    """By fingerprint, with words, before anything is built."""
    model, path = pipeline(), tmp_path / "model.skops"
    save(model, path)
    for expected in (other, fingerprint(other)):
        with pytest.raises(ValueError, match=said) as error:
            load(path, expected=expected)
        assert fingerprint(other) in str(error.value)
        assert fingerprint(model) in str(error.value)


def rewritten(path, change):
    """Write the file anew, each part changed by a function of name and content."""
    with zipfile.ZipFile(path) as before:
        parts = {name: before.read(name) for name in before.namelist()}
    with zipfile.ZipFile(path, "w") as after:
        for name, content in parts.items():
            after.writestr(name, change(name, content))


def test_an_altered_file_is_refused(tmp_path):
    """One number of the head, one bit of the file, or half of the file."""
    path = tmp_path / "model.skops"
    save(pipeline(), path)
    whole = path.read_bytes()

    def flip(name, content):
        return content[:-1] + b"\1" if name.endswith(".npy") else content

    rewritten(path, flip)
    with pytest.raises(ValueError, match="damaged or altered"):
        load(path)
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(ValueError, match="damaged or altered"):
        load(path)
    path.write_bytes(whole[:middle])
    with pytest.raises(ValueError, match=r"persistence\.save has written; got "):
        load(path)


def test_a_strangers_type_is_refused(tmp_path, monkeypatch):
    """Even if the digest is right, no code of the file's choice is imported."""
    (tmp_path / "evil.py").write_text("raise SystemExit('the code of a stranger ran')")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "model.skops"
    save(pipeline(), path)

    def name_another(name, content):
        if name != "schema.json":
            return content
        assert b'"__module__": "skinvariant"' in content
        return content.replace(b'"skinvariant"', b'"evil"')

    rewritten(path, name_another)
    digest = digest_of(path)

    def sign(name, content):
        if name != "manifest.json":
            return content
        return json.dumps(json.loads(content) | {"sha256": digest})

    rewritten(path, sign)
    with pytest.raises(Exception, match="Untrusted types found"):
        load(path)
    assert "evil" not in sys.modules


def digest_of(path):
    """Return the digest as a stranger would compute it."""
    with open(path, "rb") as file:
        return _unpack(file, os.path.getsize(path))[1]


def small():
    """Return a fitted model whose file is small."""
    return RelativeProjector(9, metric="euclidean", random_state=0).fit(X[:40, 20:30])


def hostile(path, change, *, sign=True):
    """Write a file whose parts were changed, with the digest of what it holds then.

    A stranger can make it from its names, sizes and contents, as here, and need not
    have the sizes checked.
    """
    with zipfile.ZipFile(path) as before:
        parts = {name: before.read(name) for name in before.namelist()}
    parts = change(parts)
    manifest = json.loads(parts.pop("manifest.json"))
    if sign:
        digest = hashlib.sha256()
        for name in sorted(parts):
            digest.update(f"{name} {len(parts[name])} ".encode())
            digest.update(parts[name])
        manifest["sha256"] = digest.hexdigest()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as after:
        for name, content in parts.items():
            after.writestr(name, content)
        after.writestr("manifest.json", json.dumps(manifest))


def in_place_of_an_array(content):
    """Return a change of the parts of a file: one array becomes something else."""

    def change(parts):
        name = max(x for x in parts if x.endswith(".npy"))
        return parts | {name: content}

    return change


def npz_of(**arrays):
    """Return the bytes of a compressed file of arrays."""
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def header_of(shape):
    """Return the beginning of a file of numpy's, without the array."""
    file = io.BytesIO()
    described = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)
    return file.getvalue()


BIG = 9 * 2**23  # above 64 MiB
HOSTILE = {
    "an extra member": lambda parts: parts | {"extra": bytes(BIG)},
    "a small extra member": lambda parts: parts | {"extra": b"1"},
    "another schema": lambda parts: parts | {"a/schema.json": b"{}"},
    "a path outside": lambda parts: parts | {"../extra": b"1"},
    "an absolute path": lambda parts: parts | {"/extra": b"1"},
    "a drive": lambda parts: parts | {"C:\\extra": b"1"},
    "a folder": lambda parts: parts | {"folder/": b""},
    "a large schema": lambda parts: parts | {"schema.json": b"[" + b"[]," * (BIG // 4)},
    "a deep schema": lambda parts: parts | {"schema.json": b"[" * 10**5},
    "an empty schema": lambda parts: parts | {"schema.json": b"{}"},
    "a list as schema": lambda parts: parts | {"schema.json": b"[]"},
    "no text": lambda parts: parts | {"schema.json": b"\xff\xfe"},
    "a large array": in_place_of_an_array(bytes(BIG)),
    "a large sparse matrix": in_place_of_an_array(npz_of(data=np.zeros(BIG // 8))),
    "a path in a matrix": in_place_of_an_array(npz_of(**{"../data": np.zeros(1)})),
    "no array in a matrix": in_place_of_an_array(sio.dumps(small())),
    "a nested file": in_place_of_an_array(npz_of(data=np.zeros(3))),
    "a large shape": in_place_of_an_array(header_of((10**12,))),
    "a short array": in_place_of_an_array(header_of((10**6,)) + bytes(99)),
    "a negative shape": in_place_of_an_array(header_of((-1, -8)) + bytes(64)),
    "a pickle": in_place_of_an_array(pickle.dumps([1, 2])),
    "nothing": in_place_of_an_array(b""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name, tmp_path):
    """A ValueError, though the digest is right, in a few MiB of memory."""
    path = tmp_path / "model.skops"
    save(small(), path)
    hostile(path, HOSTILE[name])
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"model\.skops must be"):
            load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**25


def set_sizes(info):
    """Announce a part of a member, with the checksum of this part."""
    info.file_size, info.CRC = 100, zlib.crc32(bytes(100))


@pytest.mark.parametrize(
    ("content", "method", "change"),
    [
        (bytes(BIG), zipfile.ZIP_DEFLATED, set_sizes),
        (bytes(BIG // 9), zipfile.ZIP_LZMA, set_sizes),
        (bytes(99), zipfile.ZIP_BZIP2, None),
        (bytes(99), zipfile.ZIP_STORED, lambda info: setattr(info, "file_size", 98)),
        (bytes(99), zipfile.ZIP_DEFLATED, lambda info: setattr(info, "file_size", 999)),
        (bytes(99), zipfile.ZIP_DEFLATED, lambda info: setattr(info, "flag_bits", 1)),
        (bytes(99), zipfile.ZIP_STORED, lambda info: setattr(info, "compress_type", 7)),
    ],
)
def test_members_that_are_not_what_they_seem(content, method, change, tmp_path):
    """In place of the schema and of the manifest, which are read first."""
    for replaced in ("schema.json", "manifest.json"):
        path = tmp_path / "model.skops"
        save(small(), path)
        with zipfile.ZipFile(path) as before:
            parts = {name: before.read(name) for name in before.namelist()}
        with zipfile.ZipFile(path, "w") as after:
            for name in parts.keys() - {replaced}:
                after.writestr(name, parts[name])
            after.writestr(replaced, content, method)
            if change is not None:  # in the directory, from which sizes are read
                change(after.getinfo(replaced))
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match=r"model\.skops must be"):
                load(path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 2**25


def test_a_name_occurs_once(tmp_path):
    """What is checked would be one of them, and what is read perhaps the other."""
    path = tmp_path / "model.skops"
    save(small(), path)
    with zipfile.ZipFile(path, "a") as archive:
        manifest = archive.read("manifest.json")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("manifest.json", manifest)
    for read in (load, read_manifest):
        with pytest.raises(ValueError, match=r"unique; got 'manifest\.json' twice"):
            read(path)


@pytest.mark.parametrize("key", [*_FIELDS, "format"])
def test_manifests_lack_nothing(key, tmp_path):
    """Without a key, or with another type in its place, nothing is read."""
    path = tmp_path / "model.skops"
    save(small(), path)
    whole = path.read_bytes()
    for value in (None, [], {}, "3", 3, 2.5, True, -1):
        path.write_bytes(whole)
        fields = _FIELDS | {"format": int}
        kinds = fields[key] if isinstance(fields[key], tuple) else (fields[key],)
        if type(value) in kinds and value != -1:
            continue

        def change(parts, value=value):
            manifest = json.loads(parts["manifest.json"]) | {key: value}
            if value == -1:
                del manifest[key]
            return parts | {"manifest.json": json.dumps(manifest)}

        hostile(path, change, sign=False)
        for read in (load, read_manifest):
            with pytest.raises(ValueError, match=r"persistence\.save has written; got"):
                read(path)


@pytest.mark.parametrize("manifest", [b"", b"[]", b"null", b"\xff", b"[" * 10**5])
def test_other_manifests(manifest, tmp_path):
    """Texts that are not JSON objects."""
    path = tmp_path / "model.skops"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", manifest)
    for read in (load, read_manifest):
        with pytest.raises(ValueError, match=r"persistence\.save has written; got"):
            read(path)


def test_a_model_that_repeats_itself_is_saved(tmp_path, monkeypatch):
    """It would unpack to a hundred times its size, which load does not allow."""
    monkeypatch.setitem(persistence._MORE, "arrays", 2**16)
    head = KNeighborsClassifier(algorithm="brute")
    rows = np.repeat(X[:30], 300, axis=0)
    model = make_pipeline(RelativeProjector(20, random_state=0), head)
    model.fit(rows, np.repeat(y[:30], 300))
    path = tmp_path / "model.skops"
    save(model, path)
    assert path.stat().st_size > 2**20
    assert np.array_equal(load(path).predict(X[:9]), model.predict(X[:9]))


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_damaged_files(kind, tmp_path, damages):
    """Each is the same model, or a ValueError that names the file."""
    model, path = small(), tmp_path / "model.skops"
    if kind == "sparse":
        rows = csr_array(X[:40, 20:30])
        model = RelativeProjector(9, metric="cosine", random_state=0).fit(rows)
    save(model, path)
    expected, refused, equal = model.transform(model.anchors_), 0, 0
    for content in damages(path.read_bytes(), 300):
        path.write_bytes(content)
        try:
            loaded = load(path)
        except ValueError as error:
            refused += "model.skops" in str(error)
            continue
        assert repr(loaded) == repr(model)
        assert np.array_equal(loaded.transform(model.anchors_), expected)
        equal += 1
    assert refused + equal == 300
    assert refused > 200


def test_a_manifest_that_tells_of_other_anchors_is_refused(tmp_path):
    """What was compared before loading is what was loaded."""
    path, other = tmp_path / "model.skops", RelativeProjector(**HOW).fit(X)
    save(pipeline(), path)

    def lie(name, content):
        if name != "manifest.json":
            return content
        return json.dumps(json.loads(content) | {"fingerprint": fingerprint(other)})

    rewritten(path, lie)
    with pytest.raises(ValueError, match="other anchors"):
        load(path, expected=other)


@pytest.mark.parametrize(
    ("number", "todo"),
    [(1, "fit and save the model again"), (3, "update skinvariant")],
)
def test_other_formats_are_refused(number, todo, tmp_path):
    """With the version that wrote them, and what to do."""
    path = tmp_path / "model.skops"
    save(pipeline(), path)

    def other(name, content):
        if name != "manifest.json":
            return content
        versions = {"skinvariant": "9.0"}
        told = json.loads(content) | {"format": number, "versions": versions}
        return json.dumps(told)

    rewritten(path, other)
    said = rf"format 2; got {number}, written by skinvariant 9\.0: {todo}"
    for read in (load, read_manifest):
        with pytest.raises(ValueError, match=said):
            read(path)


def test_no_files_of_ours(tmp_path):
    """A pickle, a plain file of skops, and none at all."""
    path = tmp_path / "model"
    for content in (b"not a zip", sio.dumps(pipeline())):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"skinvariant\.persistence\.save has"):
            load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing")


def test_what_cannot_be_saved_says_so_before_it_is_written(tmp_path):
    """An encoder inside; a metric of one's own; a model without anchors."""
    path = tmp_path / "model.skops"
    model = pipeline(FunctionTransformer(encode))
    name = f"{encode.__module__}.encode"
    with pytest.raises(TypeError, match=rf"would refuse.*model\[1:\].*got .*{name}"):
        save(model, path)
    with pytest.raises(TypeError, match="must be, or have inside, an Invariant"):
        save(LogisticRegression().fit(X[:300] / 16, y[:300]), path)
    with pytest.raises(TypeError, match="trusted must be a list of type names"):
        save(model, path, trusted=name)
    search = GridSearchCV(pipeline(), {"logisticregression__C": [0.1, 1]}, cv=2)
    search.fit(X[:300], y[:300])
    with pytest.raises(TypeError, match="of a search, best_estimator_"):
        save(search, path)
    assert not path.exists()
    save(search.best_estimator_, path)
    assert load(path, expected=search).get_params() != pipeline().get_params()
    save(model[1:], path)
    assert np.array_equal(load(path).predict(X), model.predict(X))


def test_types_that_the_user_trusts(tmp_path):
    """With their names given to both, they pass; to one alone, they do not."""
    model, path = pipeline(FunctionTransformer(np.fliplr)), tmp_path / "model.skops"
    (name,) = untrusted(model) - set(_allowed(()))
    save(model, path, trusted=[name])
    with pytest.raises(Exception, match="Untrusted types found"):
        load(path)
    loaded = load(path, trusted=[name])
    assert np.array_equal(loaded.predict(X), model.predict(X))


def test_without_skops(tmp_path, monkeypatch):
    """The error gives the command."""
    monkeypatch.setitem(sys.modules, "skops.io", None)
    with pytest.raises(ImportError, match=r"pip install 'skinvariant\[persistence\]'"):
        save(pipeline(), tmp_path / "model.skops")
