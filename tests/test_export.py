"""A voting model predicts the same as a torch module and as ONNX."""

import json
import sys
import warnings

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import (
    BayesianRidge,
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import LinearSVR

from skinvariant import InvariantVotingClassifier, InvariantVotingRegressor, stitch
from skinvariant.metrics import METRICS, euclidean
from skinvariant.persistence import fingerprint

torch = pytest.importorskip("torch", reason="modules of torch")

ALL = tuple(sorted(name for name, metric in METRICS.items() if not metric.needs_rows))


@pytest.fixture(scope="module")
def digits():
    """Rows of one space, of another of fewer columns, and labels."""
    X, y = load_digits(return_X_y=True)
    return X[:600], np.sqrt(X[:600, 60::-1]) + 0.1 * X[:600, 3:64], y[:600]


@pytest.fixture
def equal_weights(monkeypatch):
    """Give every member the same weight after `rebase`."""

    def weights(outputs, targets, *, prior, alpha):
        return np.full(len(outputs), 0.3)

    monkeypatch.setattr("skinvariant.voting.log_pool_weights", weights)
    monkeypatch.setattr("skinvariant.voting.linear_pool_weights", weights)


def in_every_place(model, old, new, y):
    """Yield a fitted model in its own space, and in another without labels and with."""
    rows = model.anchor_indices_
    yield model, old
    yield model.rebase(new[rows]), new
    yield model.rebase(new[rows], y[rows]), new


def by_torch(model, X):
    """Run a voting model as a torch module; return probabilities of a classifier."""
    with torch.no_grad():
        outputs = model.to_torch()(torch.from_numpy(np.ascontiguousarray(X)))
    assert outputs.dtype == getattr(torch, X.dtype.name)
    return (outputs.exp() if hasattr(model, "classes_") else outputs).numpy()


def expected_of(model, X):
    """Return the predictions of a voting model, one column for each output."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* is undefined for .* rows")
        if hasattr(model, "classes_"):
            return model.predict_proba(X)
        return model.predict(X).reshape(len(X), -1)


def assert_same(found, expected):
    """Check equality within 1e-5, for targets relative to their size."""
    size = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(found / size, expected / size, rtol=0, atol=1e-5)


# --- torch ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pre", "post", "dtype"),
    [
        (None, "standardize", np.float32),
        (None, "standardize", np.float64),
        ("center", "layer", np.float32),
        ("standardize", "l2", np.float64),
        ("whiten", StandardScaler(with_mean=False), np.float32),
        ("whiten", None, np.float64),
    ],
)
@pytest.mark.usefixtures("equal_weights")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_torch_classifier_with_all_metrics(pre, post, dtype, digits):
    """All built-in metrics and translations, also on rows where some are undefined."""
    old, new, y = digits
    old, new = old.astype(dtype), new.astype(dtype)
    fitted = InvariantVotingClassifier(
        LogisticRegression(C=0.1, max_iter=50),
        n_anchors=40,
        metrics=ALL,
        pre=pre,
        post=post,
        random_state=0,
    ).fit(old[:300], y[:300])
    for model, space in in_every_place(fitted, old, new, y):
        X = space[300:400].copy()
        X[0], X[1], X[2] = 0, 10 * X[1], model.anchors_[5]
        assert set(ALL) < {name for name, w in model.weights_.items() if w > 0}
        assert_same(by_torch(model, X), expected_of(model, X))


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    ("head", "absolute"),
    [
        (None, True),
        (None, False),
        (LinearDiscriminantAnalysis(), True),
        (
            make_pipeline(StandardScaler(), None, "passthrough", LogisticRegression()),
            True,
        ),
    ],
)
def test_torch_classifier_by_head(head, absolute, n_classes, digits):
    """The usual heads, with two classes (one row of coefficients) and with three."""
    old, new, y = digits
    fitted = InvariantVotingClassifier(
        head, n_anchors=40, absolute=absolute, random_state=0
    ).fit(old[:300], y[:300] % n_classes)
    for model, space in in_every_place(fitted, old, new, y % n_classes):
        assert_same(by_torch(model, space[300:]), expected_of(model, space[300:]))


@pytest.mark.usefixtures("equal_weights")
@pytest.mark.parametrize("n_classes", [3, 10])
def test_torch_where_the_anchors_miss_classes(n_classes, digits):
    """The few-shot head predicts these with probability 0."""
    old, new, y = digits
    y = y % n_classes
    few = np.flatnonzero(y[:300] < 2)[:20]
    model = InvariantVotingClassifier(anchors=few).fit(old[:300], y[:300])
    model = model.rebase(new[few], y[few])
    assert_same(by_torch(model, new[300:]), expected_of(model, new[300:]))


@pytest.mark.parametrize("columns", [0, (0,), (0, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.usefixtures("equal_weights")
def test_torch_regressor(dtype, columns, digits):
    """One target and several, in their units."""
    old, new, _ = digits
    old, new = old.astype(dtype), new.astype(dtype)
    y = np.column_stack([1000 + old[:, ::2].sum(axis=1), old[:, 20]])[:, columns]
    fitted = InvariantVotingRegressor(n_anchors=40, random_state=0)
    fitted.fit(old[:300], y[:300])
    for model, space in in_every_place(fitted, old, new, y):
        assert_same(by_torch(model, space[300:]), expected_of(model, space[300:]))


@pytest.mark.parametrize(
    "head",
    [
        BayesianRidge(),
        Lasso(),
        LinearRegression(),
        LinearSVR(),
        Ridge(fit_intercept=False),
        make_pipeline(StandardScaler(with_std=False), SGDRegressor()),
    ],
)
def test_torch_regressor_by_head(head, digits):
    """Every linear regressor is exported."""
    old, new, _ = digits
    y = old[:, ::2].sum(axis=1)
    model = InvariantVotingRegressor(head, n_anchors=40, random_state=0)
    model = model.fit(old[:300], y[:300]).rebase(new[model.anchor_indices_])
    assert_same(by_torch(model, new[300:]), expected_of(model, new[300:]))


def test_torch_of_a_head_behind_translations(digits):
    """A head that `stitch` pooled behind translations."""
    old, new, y = digits
    head = make_pipeline(StandardScaler(), LogisticRegression()).fit(old[:300], y[:300])
    model = stitch(head, new[:50], old_anchors=old[:50])
    assert_same(by_torch(model, new[300:]), expected_of(model, new[300:]))


def test_torch_has_gradients_and_computes_in_single_precision_if_asked(digits):
    """An encoder in front can be trained, and a device may lack float64."""
    old, new, y = digits
    model = InvariantVotingClassifier(n_anchors=40, random_state=0)
    model = model.fit(old[:300], y[:300]).rebase(new[model.anchor_indices_])
    module, X = model.to_torch(), torch.tensor(new[300:])
    X.requires_grad_()
    module(X)[:, 0].sum().backward()
    assert float(X.grad.abs().max()) > 0
    outputs = module.float()(X).detach().exp().numpy()
    np.testing.assert_allclose(outputs, expected_of(model, new[300:]), atol=1e-3)


def test_members_of_weight_zero_are_left_out(digits, monkeypatch):
    """They are neither computed nor refused."""
    monkeypatch.setattr(
        "skinvariant.voting.log_pool_weights",
        lambda outputs, *args, **params: np.eye(len(outputs))[0],
    )
    old, new, y = digits
    model = InvariantVotingClassifier(
        n_anchors=40, metrics=("cosine", euclidean), random_state=0
    ).fit(old[:300], y[:300])
    with pytest.raises(TypeError, match=r"metrics must be given by name.*euclidean"):
        model.to_torch()
    model = model.rebase(new[model.anchor_indices_])
    used = [name for name, weight in model.weights_.items() if weight > 0]
    assert len(used) == 1
    assert list(model.to_torch().members) == used
    assert_same(by_torch(model, new[300:]), expected_of(model, new[300:]))


@pytest.mark.parametrize(
    "head",
    [
        CalibratedClassifierCV(LogisticRegression()),
        OneVsRestClassifier(LogisticRegression()),
        RandomForestClassifier(5, random_state=0),
        SGDClassifier(loss="log_loss"),
        make_pipeline(MinMaxScaler(), LogisticRegression()),
    ],
)
def test_members_that_are_not_linear_are_refused(head, digits):
    """The error names the member, its class, and what would work."""
    old, _, y = digits
    model = InvariantVotingClassifier(head, n_anchors=20, metrics=("cosine",))
    model.fit(old[:200], y[:200])
    kind = type(head[-1] if hasattr(head, "steps") else head).__name__
    with pytest.raises(TypeError, match=rf"(?s)'cosine' must.*Logistic.*got .*{kind}"):
        model.to_torch()


@pytest.mark.parametrize("head", [PoissonRegressor(), RandomForestRegressor(5)])
def test_regressors_that_are_not_linear_are_refused(head, digits):
    """A nonlinear regressor is refused even if it has coefficients."""
    old, _, y = digits
    model = InvariantVotingRegressor(head, n_anchors=20, metrics=("cosine",))
    with pytest.raises(TypeError, match="Ridge, LinearRegression"):
        model.fit(old[:200], y[:200]).to_torch()


def test_a_transformer_as_pre_is_refused(digits):
    """It has no torch counterpart, as for neural heads."""
    old, _, y = digits
    model = InvariantVotingClassifier(n_anchors=20, pre=MinMaxScaler())
    with pytest.raises(TypeError, match=r"pre must be given by name.*MinMaxScaler"):
        model.fit(old[:200], y[:200]).to_torch()


# --- ONNX ----------------------------------------------------------------------------


def by_onnx(model, X, sizes=(1, 2, 7, 100)):
    """Run a voting model under onnxruntime in batches; also return its metadata."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX needs a runtime")
    pytest.importorskip("onnxscript", reason="to_onnx needs onnxscript")
    session = onnxruntime.InferenceSession(model.to_onnx().SerializeToString())
    (rows,), (output,) = session.get_inputs(), session.get_outputs()
    assert rows.name == "X"
    ends = np.cumsum(sizes)
    parts = [session.run(None, {"X": part})[0] for part in np.split(X, ends)[:-1]]
    assert [len(part) for part in parts] == list(sizes)
    found, notes = np.concatenate(parts), session.get_modelmeta().custom_metadata_map
    assert found.dtype == X.dtype
    assert notes["fingerprint"] == fingerprint(model)
    return found, output.name, notes


def test_onnx_classifier_in_its_own_space_with_all_metrics(digits):
    """float32, with a row for which some metrics are undefined, and one far away."""
    old, _, y = digits
    old = old.astype(np.float32)
    model = InvariantVotingClassifier(n_anchors=40, metrics=ALL, random_state=0)
    model.fit(old[:300], y[:300])
    X = old[300:410].copy()
    X[3], X[4] = 0, 1e4 * X[4]
    found, name, notes = by_onnx(model, X)
    assert name == "probabilities"
    assert json.loads(notes["classes"]) == model.classes_.tolist()
    assert_same(found, expected_of(model, X))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.usefixtures("equal_weights")
def test_onnx_classifier_rebased_with_labels(dtype, digits):
    """Translations and few-shot head, two named classes, anchors among the rows."""
    old, new, y = digits
    new, y = new.astype(dtype), np.array(["even", "odd"])[y % 2]
    model = InvariantVotingClassifier(n_anchors=40, random_state=0)
    model.fit(old[:300], y[:300])
    model = model.rebase(new[model.anchor_indices_], y[model.anchor_indices_])
    X = np.concatenate([model.anchors_[:5], new[300:405]])
    X[6] *= 1e4
    found, _, notes = by_onnx(model, X)
    assert json.loads(notes["classes"]) == ["even", "odd"]
    assert_same(found, expected_of(model, X))


@pytest.mark.usefixtures("equal_weights")
def test_onnx_regressor(digits):
    """Two targets, rebased."""
    old, new, _ = digits
    y = np.column_stack([1000 + old[:, ::2].sum(axis=1), old[:, 20]])
    model = InvariantVotingRegressor(
        n_anchors=40, metrics=("angular", "mahalanobis"), random_state=0
    ).fit(old[:300], y[:300])
    model = model.rebase(new[model.anchor_indices_])
    found, name, notes = by_onnx(model, new[300:410])
    assert name == "targets"
    assert "classes" not in notes
    assert_same(found, expected_of(model, new[300:410]))


# --- missing packages ------------------------------------------------------------


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "torch"])
def test_missing_packages(package, digits, monkeypatch):
    """The error gives the command."""
    old, _, y = digits
    model = InvariantVotingClassifier(n_anchors=20, random_state=0)
    model.fit(old[:200], y[:200])
    monkeypatch.delitem(sys.modules, "skinvariant._export", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install 'skinvariant\[onnx\]'"):
        model.to_onnx()
