"""Random constructors on random input, against references in long double.

Each case is drawn from its own seed, so that a failure names the case that repeats it.
``--fuzz-cases`` says how many each test tries: few by default, many in the nightly run.
"""

from functools import partial

import numpy as np
from numpy.testing import assert_array_equal
from scipy.sparse import csc_array, csr_array
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.preprocessing import StandardScaler

from skinvariant import InvariantAggregator, RelativeProjector
from skinvariant.comparison import cka, procrustes_distance, rowwise_pearson
from skinvariant.metrics import METRICS
from skinvariant.pooling import linear_pool_weights, log_pool_weights
from skinvariant.translation import SpaceTranslator

#: Into how many items the cases of a test are dealt.
PARTS = 4
#: How many roundings of the input, and of each step, a value may be off.
ROUNDINGS = 20
#: The relative error that distances may have, from the page of promises.
PROMISED = {np.float64: 1e-12, np.float32: 1e-5}


def pytest_generate_tests(metafunc):
    """Deal the cases of every test to its items."""
    if "cases" in metafunc.fixturenames:
        n_cases = metafunc.config.getoption("--fuzz-cases")
        parts = [range(part, n_cases, PARTS) for part in range(PARTS)]
        ids = [f"part {part} of {PARTS}" for part in range(PARTS)]
        metafunc.parametrize("cases", parts, ids=ids)


def each(check, cases):
    """Run a check on the random numbers of every case."""
    assert len(cases) > 0
    for case in cases:
        try:
            check(np.random.default_rng(case))
        except Exception as error:
            error.add_note(f"by {check.__name__}(np.random.default_rng({case}))")
            raise


def rounded(rng, eps, values):
    """Return values with the error of one rounding of the largest in each column."""
    sizes = np.abs(values).max(axis=0, keepdims=True)
    return values + eps * sizes * rng.uniform(-1, 1, values.shape)


# --- relative spaces ----------------------------------------------------------------


def angular(X, A):
    """Kahan's angle, as a part of the half circle: 1 is none."""
    gaps, sums = ((unit(X)[:, None] + sign * unit(A)).astype(float) for sign in (-1, 1))
    angle = 2 * np.arctan2(*(np.sqrt((x**2).sum(axis=2)) for x in (gaps, sums)))
    return angle / np.pi


def unit(X):
    """Return rows of length 1."""
    scaled = X / np.abs(X).max(axis=1, keepdims=True)
    return scaled / np.sqrt((scaled**2).sum(axis=1, keepdims=True))


def centred(X):
    """Return rows of mean 0."""
    return X - X.mean(axis=1, keepdims=True)


def minkowski(X, A, p=2.0):
    """Return distances of any order."""
    gaps = np.abs(X[:, None] - A)
    largest = gaps.max(axis=2)
    if p == np.inf:
        return largest
    safe = np.where(largest > 0, largest, 1)
    sums = ((gaps / safe[:, :, None]) ** np.longdouble(p)).sum(axis=2)
    return largest * sums ** (1 / np.longdouble(p))


#: Of rows and anchors in long double.
REFERENCES = {
    "cosine": lambda X, A: unit(X) @ unit(A).T,
    "correlation": lambda X, A: unit(centred(X)) @ unit(centred(A)).T,
    "inner": lambda X, A: X @ A.T,
    "euclidean": minkowski,
    "sqeuclidean": lambda X, A: minkowski(X, A) ** 2,
    "manhattan": lambda X, A: minkowski(X, A, 1.0),
    "chebyshev": lambda X, A: minkowski(X, A, np.inf),
    "minkowski": minkowski,
}
PRES = {
    None: lambda X, A: X,
    "center": lambda X, A: X - A.mean(axis=0),
    "standardize": lambda X, A: (X - A.mean(axis=0)) / spread(A),
}
POSTS = {
    None: lambda V, own: V,
    "l2": lambda V, own: unit(V),
    "layer": lambda V, own: unit(centred(V)) * np.sqrt(np.longdouble(V.shape[1])),
    "standardize": lambda V, own: (V - own.mean(axis=0)) / spread(own),
}


def spread(X):
    """Return the standard deviation of each column."""
    return np.sqrt(((X - X.mean(axis=0)) ** 2).mean(axis=0))


def relative(X, A, metrics, pre, post, shaken=lambda values: values):
    """Return the relative space, each step of which may be shaken."""
    X, A = shaken(X), shaken(A)
    X, A = (shaken(PRES[pre](x, A)) for x in (X, A))
    spaces = []
    for name, params in metrics:
        values, own = (
            shaken(REFERENCES[name](x, A, **params)).astype(np.longdouble)
            for x in (X, A)
        )
        spaces.append(POSTS[post](values, own))
    return np.hstack(spaces)


def drawn_rows(rng, n_rows, n_features):
    """Return rows of one of many kinds."""
    X = rng.standard_normal((n_rows, n_features))
    kind = rng.integers(7)
    if kind == 1:
        X += 10.0 ** rng.uniform(0, 3)
    elif kind == 2:
        X *= rng.random(X.shape) < 0.4
        X[:, 0] += 1  # no zero row
    elif kind == 3:
        X = np.round(X * 3)
        X[:, 0] += rng.choice([-20, 20], n_rows)
    elif kind == 4:  # long and short rows
        X *= 10.0 ** rng.uniform(-2, 2, (n_rows, 1))
    elif kind == 5:  # near one another
        X[1::2] = X[:-1:2] * (1 + 1e-3 * rng.standard_normal(X[1::2].shape))
    elif kind == 6:  # columns of unequal scale
        X *= 10.0 ** rng.uniform(-2, 2, n_features)
    return X * 10.0 ** rng.choice([0, 0, 0, rng.uniform(-15, 15)])


def container_of(rng, X, *, sparse):
    """Return the same rows in a container that scikit-learn users have."""
    strided = np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3]
    frozen = X.copy()
    frozen.flags.writeable = False
    choices = [X.copy(), np.asfortranarray(X), strided, frozen, X.tolist()]
    if sparse:
        choices += [csr_array(X), csc_array(X)]
    given = choices[rng.integers(len(choices))]
    return given, isinstance(given, list)


def copied(X):
    """Return a copy of rows in any container."""
    return X.copy() if hasattr(X, "copy") else [list(row) for row in X]


def as_array(X):
    """Return rows as a dense array."""
    return X.toarray() if hasattr(X, "toarray") else np.asarray(X)


def drawn_metrics(rng, n_metrics):
    """Return names of metrics, with their parameters."""
    names = rng.choice(sorted(REFERENCES), n_metrics, replace=False).tolist()
    orders = [1.0, 1.5, 2.0, 3.0, np.inf]
    minkowskis = {"p": orders[rng.integers(len(orders))]}
    return [(name, minkowskis if name == "minkowski" else {}) for name in names]


def check_relative_space(rng):
    """Values, whatever the container; no row depends on others; nothing is written."""
    n_rows, n_anchors = int(rng.integers(2, 30)), int(rng.integers(2, 20))
    n_features = int(rng.choice([2, 3, 8, 40]))
    dtype = rng.choice([np.float64, np.float32])
    X = drawn_rows(rng, n_rows + n_anchors, n_features).astype(dtype)
    chosen = rng.choice(len(X), n_anchors, replace=False)
    metrics = drawn_metrics(rng, int(rng.integers(1, 4)))
    pre = [None, None, "center", "standardize"][rng.integers(4)]
    post = [None, "l2", "layer", "standardize"][rng.integers(4)]
    sparse = pre is None and all(METRICS[name].sparse for name, _ in metrics)
    given, widened = container_of(rng, X, sparse=sparse)
    before = copied(given)

    def estimator():
        params = {name: values for name, values in metrics if values}
        steps = {"anchors": chosen, "pre": pre, "post": post}
        if len(metrics) == 1:
            ((name, values),) = metrics
            return RelativeProjector(metric=name, metric_params=values, **steps)
        names = [name for name, _ in metrics]
        return InvariantAggregator(metrics=names, metric_params=params, **steps)

    exact = X.astype(np.longdouble)
    with np.errstate(all="ignore"):
        expected = relative(exact, exact[chosen], metrics, pre, post)
        if not np.isfinite(expected).all():
            return  # undefined, as the layer of equal values: see test_metrics
        eps, off = PROMISED[dtype] / ROUNDINGS, np.zeros(len(X))
        for _ in range(4):
            shaken = partial(rounded, rng, eps)
            other = relative(exact, exact[chosen], metrics, pre, post, shaken)
            off = np.fmax(off, np.abs(other - expected).max(axis=1))
    allowed = ROUNDINGS * (off + eps * np.abs(expected).max(axis=1))
    try:
        fitted = estimator().fit(given)
        values = fitted.transform(given)
    except (UserWarning, ValueError) as error:  # rows constant within rounding
        if "is undefined for" in str(error) or "anchors that are not" in str(error):
            return
        raise
    assert_array_equal(as_array(given), as_array(before))
    assert values.dtype == (np.float64 if widened else dtype)
    error = np.abs(values - expected).max(axis=1)
    if post == "layer":  # of values constant within rounding all are 0
        by_metric = values.reshape(len(values), len(metrics), n_anchors)
        allowed[(by_metric == 0).all(axis=2).any(axis=1)] = np.inf
    assert (error <= allowed).all(), (metrics, pre, post, dtype, error / allowed)
    rows = given.tocsr() if hasattr(given, "tocsr") else np.asarray(given)
    others = fitted.rebase(rows[chosen]).transform(rows[::-2])
    assert (np.abs(others - values[::-2]).max(axis=1) <= allowed[::-2]).all()


def test_relative_spaces(cases):
    """The projector and the aggregator."""
    each(check_relative_space, cases)


# --- measures of two spaces -----------------------------------------------------------


def linear_cka(X, Y):
    """Return the cosine between the matrices of centred inner products."""
    products = [Z @ Z.T for Z in (X - X.mean(axis=0), Y - Y.mean(axis=0))]
    sizes = [np.sqrt((K**2).sum()) for K in products]
    return (products[0] * products[1]).sum() / (sizes[0] * sizes[1])


def rotated_distance(X, Y):
    """Return what is left after the best rotation, of spaces of norm 1."""
    X, Y = (Z - Z.mean(axis=0) for Z in (X, Y))
    X, Y = ((Z / np.sqrt((Z**2).sum())).astype(float) for Z in (X, Y))
    return np.sqrt(max(2 - 2 * np.linalg.svd(X.T @ Y, compute_uv=False).sum(), 0))


def mean_pearson(X, Y):
    """Return the mean correlation of rows."""
    return (unit(centred(X)) * unit(centred(Y))).sum(axis=1).mean()


MEASURES = [
    (cka, linear_cka),
    (procrustes_distance, rotated_distance),
    (rowwise_pearson, mean_pearson),
]


def check_measure(rng):
    """Of spaces of any width and unit, the value of the formula."""
    measure, reference = MEASURES[rng.integers(len(MEASURES))]
    n_rows, width = int(rng.integers(4, 40)), int(rng.integers(2, 12))
    other = width if measure is rowwise_pearson else int(rng.integers(2, 12))
    dtype = rng.choice([np.float64, np.float32])
    X, Y = (drawn_rows(rng, n_rows, w).astype(dtype) for w in (width, other))
    exact = [Z.astype(np.longdouble) for Z in (X, Y)]
    with np.errstate(all="ignore"):
        expected = reference(*exact)
        if not np.isfinite(expected):
            return
        eps = np.finfo(dtype).eps
        off = max(
            abs(reference(*(rounded(rng, eps, Z) for Z in exact)) - expected)
            for _ in range(4)
        )
    # a distance near 0 is the root of a difference, which is exact to a rounding
    least = np.sqrt(np.finfo(float).eps) if measure is procrustes_distance else eps
    assert abs(measure(X, Y) - expected) <= ROUNDINGS * (off + least)


def test_measures(cases):
    """Their definitions, in long double."""
    each(check_measure, cases)


# --- translations ---------------------------------------------------------------------


def check_translation(rng):
    """Least squares by scikit-learn, and a rotation that none of many others beats."""
    n_rows, width, other = (int(rng.integers(low, 12)) for low in (3, 2, 1))
    n_rows += 2 * width
    X = rng.standard_normal((n_rows, width)) + rng.uniform(-3, 3, width)
    Y = X @ rng.standard_normal((width, other)) + rng.standard_normal((n_rows, other))
    units = 10.0 ** rng.uniform(-12, 12, 2)
    method = str(rng.choice(["linear", "affine", "ridge", "orthogonal"]))
    alpha = 10.0 ** rng.uniform(-4, 1)
    params = {"alphas": [alpha]} if method == "ridge" else {}
    translator = SpaceTranslator(method, **params).fit(X * units[0], Y * units[1])
    found = translator.transform(X * units[0]) / units[1]
    if method in ("linear", "affine"):
        reference = LinearRegression(fit_intercept=method == "affine").fit(X, Y)
        expected = reference.predict(X).reshape(n_rows, other)
        np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(Y).max())
    elif method == "ridge":
        scalers = [StandardScaler().fit(Z) for Z in (X, Y)]
        rows, targets = scalers[0].transform(X), scalers[1].transform(Y)
        penalty = alpha * n_rows * width
        predicted = Ridge(penalty).fit(rows, targets).predict(rows)
        expected = scalers[1].inverse_transform(predicted.reshape(n_rows, other))
        np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(Y).max())
    else:
        if other < width:  # then the rotation has the largest trace, not the least rest
            return
        centred = [Z - Z.mean(axis=0) for Z in (X, Y)]
        left = np.sum((found - Y) ** 2)
        for _ in range(20):
            turn = np.linalg.qr(rng.standard_normal((other, other)))[0][:width]
            turned = centred[0] @ turn
            scale = max((turned * centred[1]).sum() / (turned**2).sum(), 0)
            assert left <= np.sum((scale * turned - centred[1]) ** 2) * (1 + 1e-9)


def test_translations(cases):
    """In any units of the two spaces."""
    each(check_translation, cases)


# --- pools ----------------------------------------------------------------------------


def check_pool(rng):
    """No other weights near the found ones, and none drawn at random, are better."""
    n_members, n_rows, n_outputs = (int(rng.integers(2, high)) for high in (6, 40, 5))
    alpha = 10.0 ** rng.uniform(-3, 3)
    prior = rng.dirichlet(np.ones(n_members))
    shape = n_members, n_rows, n_outputs
    if rng.random() < 0.5:
        members = log_softmax(3 * rng.standard_normal(shape), axis=2)
        targets = softmax(3 * rng.standard_normal(shape[1:]), axis=1)
        found = log_pool_weights(members, targets, prior=prior, alpha=alpha)

        def loss(weights):
            pooled = log_softmax(np.tensordot(weights, members, 1), axis=1)
            return alpha * np.sum((weights - prior) ** 2) - np.sum(targets * pooled)
    else:
        members, targets = rng.standard_normal(shape), rng.standard_normal(shape[1:])
        found = linear_pool_weights(members, targets, prior=prior, alpha=0)

        def loss(weights):
            return np.sum((np.tensordot(weights, members, 1) - targets) ** 2)

    assert (found >= 0).all()
    least = loss(found)
    steps = 10.0 ** rng.uniform(-4, 0, (60, 1)) * rng.standard_normal((60, n_members))
    others = [loss(np.maximum(found + step, 0)) for step in steps]
    others += [loss(rng.exponential(size=n_members)) for _ in range(20)]
    assert least <= min(others) + 1e-6 * abs(least)


def test_pools(cases):
    """Their objectives, written down on their own."""
    each(check_pool, cases)
