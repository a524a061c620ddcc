"""Every public use, on every kind of rows and under every global setting."""

import importlib
import re
from importlib.util import find_spec

import numpy as np
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

import skinvariant
from skinvariant import (
    EncoderGuard,
    InvariantAggregator,
    InvariantVotingClassifier,
    InvariantVotingRegressor,
    RelativeProjector,
    comparison,
    cross_stitch,
    diagnose,
    forecast_swap,
    select_anchors,
    stitch,
)
from skinvariant.diagnosis import shared_directions, stitched_agreement
from skinvariant.matching import bootstrap_anchors
from skinvariant.metrics import METRICS, whitening
from skinvariant.outofcore import transform_batches
from skinvariant.persistence import fingerprint
from skinvariant.plotting import SpaceDisplay
from skinvariant.pooling import PooledClassifier, PooledRegressor
from skinvariant.relative import Whitener, l2_normalize, layer_normalize
from skinvariant.translation import SpaceTranslator

PARALLEL = {"n_anchors": 12, "random_state": 0}


def relative(X_a, X_b, estimator):
    """Transform rows of both spaces, with the anchors of either."""
    estimator.fit(X_a)
    needed = any(metric.needs_rows for metric, _ in estimator._metrics)
    anchors = select_anchors(estimator, X_b)
    rebased = estimator.rebase(anchors, X=X_b if needed else None)
    return [estimator.transform(X_a), rebased.transform(X_b)]


def stitched(X_a, X_b, model, **options):
    """Predict from both spaces, by a model of the first."""
    chosen = select_anchors(model, X_b)
    return [model.predict(X_a), stitch(model, chosen, **options).predict(X_b)]


def voting(X_a, X_b, y, model):
    """Predict from both spaces; the rebased model has every kind of member."""
    model.fit(X_a, y)
    return stitched(X_a, X_b, model, y=y[model.anchor_indices_])


def pooled(X_a, X_b, y, pool, head):
    """Pool a model of a product, and stitch the pool."""
    product = InvariantAggregator(metrics=("cosine", "euclidean"), **PARALLEL)
    members = [("one", make_pipeline(product, head).fit(X_a, y))]
    return stitched(X_a, X_b, pool(members).fit(X_a, y))


def behind_translations(X_a, X_b, y):
    """Stitch a head that knows nothing of anchors."""
    head = LogisticRegression().fit(X_a, y)
    return stitch(head, X_b[:30], old_anchors=X_a[:30]).predict_proba(X_b)


def crossed(X_a, X_b, y, baselines):
    """Score a stitch between two spaces, and baselines."""
    model = make_pipeline(RelativeProjector(**PARALLEL), LogisticRegression())
    spaces = {"a": (X_a[:40], X_a[40:]), "b": (X_b[:40], X_b[40:])}
    options = {"n_seeds": 1, "n_resamples": 0, "random_state": 0}
    return cross_stitch(
        model, spaces, (y[:40], y[40:]), baselines=baselines, **options
    ).scores


def diagnosed(X_a, X_b):
    """Diagnose with few options; the result in words and numbers."""
    options = {"n_anchors": 12, "metrics": ("cosine", "manhattan")}
    found = diagnose(X_a, X_b, **options, post=("standardize",), random_state=0)
    values = found.transformations.values(), found.agreement.values()
    return [np.array([*part]) for part in values]


def displayed(X_a, X_b, projector=None):
    """Return the numbers of the picture of two spaces."""
    display = SpaceDisplay.from_spaces(X_a, X_b, projector=projector)
    return [*display.absolute, *display.relative]


def in_batches(X_a):
    """Transform by batches into an array."""
    out = np.empty((X_a.shape[0], 12))
    transform_batches(RelativeProjector(**PARALLEL).fit(X_a), X_a, out, batch_size=16)
    return out


def measured(name, X_a, X_b):
    """Compare two spaces by a measure."""
    found = getattr(comparison, name)(X_a, X_b)
    return np.array(found if np.ndim(found) == 0 else [*found], dtype=float)


USES = {
    "EncoderGuard": lambda a, b, y: EncoderGuard(random_state=0).fit(a).transform(a),
    "RelativeProjector": lambda a, b, y: relative(a, b, RelativeProjector(**PARALLEL)),
    "RelativeProjector, built-in steps": lambda a, b, y: relative(
        a, b, RelativeProjector(pre="whiten", post="standardize", **PARALLEL)
    ),
    "RelativeProjector, pipelines as steps": lambda a, b, y: relative(
        a,
        b,
        RelativeProjector(
            pre=make_pipeline(MaxAbsScaler(), MaxAbsScaler()),
            post=make_pipeline(StandardScaler()),
            **PARALLEL,
        ),
    ),
    "RelativeProjector, inverse": lambda a, b, y: (
        RelativeProjector(**PARALLEL).fit(a).inverse_transform(np.eye(12))
    ),
    "InvariantAggregator": lambda a, b, y: relative(
        a, b, InvariantAggregator(pre="standardize", **PARALLEL)
    ),
    "InvariantVotingClassifier": lambda a, b, y: voting(
        a, b, y, InvariantVotingClassifier(**PARALLEL)
    ),
    "InvariantVotingRegressor": lambda a, b, y: voting(
        a, b, y * 0.5, InvariantVotingRegressor(**PARALLEL)
    ),
    "PooledClassifier": lambda a, b, y: pooled(
        a, b, y, PooledClassifier, LogisticRegression()
    ),
    "PooledRegressor": lambda a, b, y: pooled(a, b, y * 0.5, PooledRegressor, Ridge()),
    "SpaceDisplay": lambda a, b, y: displayed(a, b),
    "SpaceTranslator": lambda a, b, y: [
        np.asarray(SpaceTranslator(method).fit(a, b).transform(a))
        for method in ("orthogonal", "affine", "kernel")
    ],
    "Whitener": lambda a, b, y: Whitener().fit(a).transform(a),
    "bootstrap_anchors": lambda a, b, y: (
        bootstrap_anchors(a, b, np.stack([np.arange(20)] * 2, axis=1)).pairs
    ),
    "calibrated": lambda a, b, y: comparison.calibrated(
        comparison.cka, a, b, n_permutations=19, random_state=0
    ),
    "forecast_swap": lambda a, b, y: np.array(
        forecast_swap(a, b, own_score=(0.5, 1.0)).estimate_interval
    ),
    "cross_stitch": lambda a, b, y: crossed(
        a, b, y, ("absolute", "few_shot", "retrained")
    ),
    "cross_stitch, translations": lambda a, b, y: crossed(
        a, b, y, ("translate_affine", "translate_kernel")
    ),
    "diagnose": lambda a, b, y: diagnosed(a, b),
    "encoder_test": lambda a, b, y: np.array(
        comparison.encoder_test(a[:30], a[30:], n_permutations=99)[:2]
    ),
    "fingerprint": lambda a, b, y: fingerprint(
        RelativeProjector(**PARALLEL).fit(a)
    ).partition("-")[0],
    "select_anchors": lambda a, b, y: stitched(
        a, b, make_pipeline(RelativeProjector(**PARALLEL), Ridge()).fit(a, y)
    ),
    "stitch": behind_translations,
    "transform_batches": lambda a, b, y: in_batches(a),
}
USES |= {
    f"choose_anchors, {name}": lambda a, b, y, name=name: relative(
        a, b, RelativeProjector(anchors=name, **PARALLEL)
    )
    for name in ("farthest", "kmeans", "random")
}
USES |= {
    name: lambda a, b, y, name=name: METRICS[name].function(a, a[:9])
    for name in METRICS
}
USES |= {
    f"RelativeProjector, {name}": lambda a, b, y, name=name: relative(
        a, b, RelativeProjector(metric=name, **PARALLEL)
    )
    for name in METRICS
}
USES |= {
    name: lambda a, b, y, name=name: measured(name, a, b)
    for name in comparison.__all__
    if name not in ("EncoderTest", "calibrated", "encoder_test")
}
# these take arrays of NumPy alone
OF_ARRAYS = {
    "l2_normalize": lambda a, b, y: l2_normalize(a),
    "layer_normalize": lambda a, b, y: layer_normalize(a),
    "shared_directions": lambda a, b, y: shared_directions(a, b, np.arange(40)),
    "stitched_agreement": lambda a, b, y: stitched_agreement(a, a, b, b),
    "whitening": lambda a, b, y: whitening(a)[1],
}
if find_spec("torch") and find_spec("skorch"):
    from skinvariant.heads import InvariantClassifier, InvariantRegressor

    HEAD = {"max_epochs": 1, **PARALLEL}
    USES |= {
        "InvariantClassifier": lambda a, b, y: stitched(
            a, b, InvariantClassifier(**HEAD).fit(a, y)
        ),
        "InvariantRegressor": lambda a, b, y: stitched(
            a, b, InvariantRegressor(pre="center", **HEAD).fit(a, y * 0.5)
        ),
    }
NO_ROWS = {  # of the modules below, what takes no rows
    "BASELINES",
    "Diagnosis",
    "EncoderTest",
    "METRICS",
    "Metric",
    "StitchingReport",
    "TRANSFORMATIONS",
}


def test_every_use_is_here():
    """A new public function or estimator that takes rows is to be added."""
    modules = ("comparison", "diagnosis", "matching", "metrics", "outofcore")
    modules += ("relative", "stitching", "translation")
    public = set(skinvariant.__all__)
    for name in modules:
        public |= {*importlib.import_module(f"skinvariant.{name}").__all__}
    used = {name.partition(",")[0] for name in USES | OF_ARRAYS}
    assert public - NO_ROWS <= used


def spaces():
    """Two sparse spaces of 60 rows and 6 columns, as arrays, and labels."""
    rng = np.random.default_rng(0)
    X = np.round(rng.exponential(size=(60, 6)) * (rng.random((60, 6)) < 0.6), 2)
    X[:, 0] += 0.5  # no zero rows
    return X, 2.0 * X[:, rng.permutation(6)], (X[:, 1] > X[:, 2]).astype(int)


def close(found, wanted, **tolerance):
    """Compare what a use returns, a text or an array or a list of arrays."""
    if isinstance(wanted, str):
        assert found == wanted
    elif isinstance(wanted, list):
        for part, other in zip(found, wanted, strict=True):
            close(part, other, **tolerance)
    else:
        np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), **tolerance)


@pytest.mark.parametrize(
    ("library", "named"), [("pandas", False), ("pandas", True), ("polars", True)]
)
@pytest.mark.parametrize("use", sorted(USES | OF_ARRAYS))
def test_a_global_container_changes_no_value(use, library, named):
    """scikit-learn's `transform_output` neither breaks anything nor warns."""
    frames = pytest.importorskip(library)
    X_a, X_b, y = spaces()
    if named and use not in OF_ARRAYS:
        X_a, X_b = (
            frames.DataFrame({f"{name}{i}": column for i, column in enumerate(X.T)})
            for name, X in (("a", X_a), ("b", X_b))
        )
    wanted = (USES | OF_ARRAYS)[use](X_a, X_b, y)
    with config_context(transform_output=library):
        found = (USES | OF_ARRAYS)[use](X_a, X_b, y)
    close(found, wanted, rtol=1e-10, atol=1e-12)


def messy(X, make, index):
    """Store an array as a sparse matrix with all that a format allows.

    Values in two parts, entries that are 0 and columns out of order; nothing can be
    written to.
    """
    rows, columns = np.nonzero(X)
    rows, columns = np.r_[rows, rows, 3], np.r_[columns, columns, 5]
    values = np.r_[X[X != 0] * 0.25, X[X != 0] * 0.75, 0.0]
    order = np.random.default_rng(1).permutation(len(rows))
    of_csr = "csr" in make.__name__
    outer, inner = (rows, columns) if of_csr else (columns, rows)
    order = order[np.argsort(outer[order], kind="stable")]
    matrix = make(X.shape)
    ends = np.cumsum(np.bincount(outer, minlength=X.shape[0 if of_csr else 1]))
    matrix.data, matrix.indices = values[order], inner[order].astype(index)
    matrix.indptr = np.r_[0, ends].astype(index)
    for part in (matrix.data, matrix.indices, matrix.indptr):
        part.flags.writeable = False
    return matrix


FORMATS = [
    (sparse.csr_array, np.int64),
    (sparse.csr_matrix, np.int32),
    (sparse.csc_array, np.int32),
]


def check_sparse(use, rows, arrays):
    """Assert that a use of sparse rows has the values of dense ones, or is refused."""
    refused = None
    try:
        found = USES[use](*rows, arrays[-1])
    except TypeError as error:
        refused = str(error)
    metric = METRICS.get(use.rpartition(", ")[2])
    if metric is not None:
        assert (refused is None) == metric.sparse
    if refused is None:
        close(found, USES[use](*arrays), rtol=1e-9, atol=1e-9)
    else:
        assert re.search("[Ss]parse", refused)


@pytest.mark.parametrize(("make", "index"), FORMATS)
@pytest.mark.parametrize("use", sorted(USES))
def test_sparse_rows_are_read_as_dense_ones_or_refused(use, make, index):
    """In any form that a format allows, and they stay as they are, to the bit."""
    X_a, X_b, y = spaces()
    rows = [messy(X, make, index) for X in (X_a, X_b)]
    before = [[*map(np.copy, (X.data, X.indices, X.indptr))] for X in rows]
    check_sparse(use, rows, (X_a, X_b, y))
    for X, parts in zip(rows, before, strict=True):
        for part, copy in zip((X.data, X.indices, X.indptr), parts, strict=True):
            np.testing.assert_array_equal(part, copy, strict=True)


@pytest.mark.parametrize("use", sorted(USES))
def test_sparse_columns_of_a_frame_are_sparse_rows(use):
    """They become CSR as they are validated, and are read or refused as these are."""
    frames = pytest.importorskip("pandas")
    X_a, X_b, y = spaces()
    rows = [
        frames.DataFrame.sparse.from_spmatrix(sparse.csr_array(X)) for X in (X_a, X_b)
    ]
    check_sparse(use, rows, (X_a, X_b, y))
