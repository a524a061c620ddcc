"""Arrays of other libraries, under array API dispatch, in everything that is public."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline

import skinvariant
from skinvariant import anchors, comparison, diagnosis, pooling, relative
from skinvariant.translation import _METHODS, SpaceTranslator

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 4))
X_B = X[:, ::-1] + 0.1 * RNG.standard_normal((60, 4))
LABELS = (X[:, 0] > 0).astype(int)
ROWS = np.arange(40)
BAYES, RIDGE = GaussianNB().fit(X, LABELS), Ridge().fit(X, X_B)
HEAD = make_pipeline(
    skinvariant.RelativeProjector(9, random_state=0), RidgeClassifier()
).fit(X, LABELS)
QUICK = {"metrics": ("cosine",), "pre": (None,), "post": ("layer",), "random_state": 0}


def translate(method):
    """Return a call that fits a translation and uses all of it."""

    def call(to):
        translator = SpaceTranslator(method).fit(to(X), to(X_B))
        back = []
        if hasattr(translator, "inverse_transform"):
            back = [translator.inverse_transform(to(X_B)).ravel()]
        score = [translator.score(to(X), to(X_B))]
        return np.concatenate([translator.transform(to(X)).ravel(), score, *back])

    return call


def diagnose(to):
    """Return what each class explains."""
    found = diagnosis.diagnose(to(X), to(X_B), **QUICK)
    return list(found.transformations.values())


def display(to):
    """Return what a picture of two spaces shows."""
    plotting = pytest.importorskip("skinvariant.plotting")
    shown = plotting.SpaceDisplay.from_spaces(to(X), to(X_B), to(LABELS))
    return np.concatenate([*shown.absolute, *shown.relative])


def cross_stitch(to):
    """Return the scores of a short report."""
    return skinvariant.cross_stitch(
        HEAD,
        {"a": (to(X[:40]), to(X[40:])), "b": (to(X_B[:40]), to(X_B[40:]))},
        (to(LABELS[:40]), to(LABELS[40:])),
        n_seeds=1,
        n_resamples=0,
        random_state=0,
    ).scores


def stitched(to):
    """Return what a stitched model predicts."""
    own = skinvariant.select_anchors(HEAD, to(X_B))
    return skinvariant.stitch(HEAD, own).predict(to(X_B))


# each takes a function that converts an array, and returns numbers
CALLS = {
    **{
        f"{name} {params}": lambda to, name=name, params=params: getattr(
            comparison, name
        )(to(X), to(X_B), **params)
        for name, params, _ in comparison._INVARIANCES
    },
    "mantel_test": lambda to: comparison.mantel_test(to(X), to(X_B)),
    "encoder_test": lambda to: comparison.encoder_test(to(X[:30]), to(X[30:]))[:2],
    "mismatched_rows": lambda to: comparison.mismatched_rows(to(X), to(X[::-1].copy())),
    "calibrated": lambda to: comparison.calibrated(
        comparison.cka, to(X), to(X_B), random_state=0
    ),
    "space_agreement": lambda to: comparison.space_agreement(to(X), to(X_B)),
    **{f"translation {method}": translate(method) for method in _METHODS},
    "diagnose": diagnose,
    "shared_directions": lambda to: diagnosis.shared_directions(
        to(X), to(X_B), to(ROWS)
    ),
    "stitched_agreement": lambda to: diagnosis.stitched_agreement(
        to(X), to(X_B), to(X), to(X_B)
    ),
    "display": display,
    "signal_to_noise": lambda to: pooling.signal_to_noise(to(np.array([0.5, 0.9]))),
    "smoothed_log": lambda to: pooling.smoothed_log(to(X**2), 9),
    "linear_pool_weights": lambda to: pooling.linear_pool_weights(
        [to(X), to(X_B)], to(X), prior=to(np.array([0.5, 0.5]))
    ),
    "log_pool_weights": lambda to: pooling.log_pool_weights(
        [to(np.log(X**2)), to(np.log(X_B**2))], to(X**2)
    ),
    "PooledClassifier": lambda to: (
        pooling.PooledClassifier([("one", FrozenEstimator(BAYES))])
        .fit(X, to(LABELS))
        .weights_
    ),
    "PooledRegressor": lambda to: (
        pooling.PooledRegressor([("one", FrozenEstimator(RIDGE))])
        .fit(X, to(X_B))
        .weights_
    ),
    "Whitener": lambda to: relative.Whitener().fit(to(X)).transform(to(X)),
    "choose_anchors": lambda to: anchors.choose_anchors(
        "farthest", to(X), n_anchors=9, random_state=0
    ),
    "select_anchors": lambda to: skinvariant.select_anchors(HEAD, to(X)),
    "InvariantVotingClassifier": lambda to: (
        skinvariant.InvariantVotingClassifier(n_anchors=9, random_state=0)
        .fit(to(X), to(LABELS))
        .predict_proba(to(X))
    ),
    "cross_stitch": cross_stitch,
    "stitch": stitched,
}


# those that say so; that of a head is scikit-learn's own error, and tells the way
REFUSED = {
    "InvariantVotingClassifier": "needs NumPy input",
    "stitch": "must use the same namespace and the same device",
}


def converter(library):
    """Return a function that makes arrays of a library."""
    module = pytest.importorskip(library)
    return module.asarray


@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
@pytest.mark.parametrize("name", CALLS)
def test_the_values_of_numpy_or_a_word_about_it(name, library):
    """A function computes the same, or its error says that it needs NumPy arrays."""
    to = converter(library)
    expected = CALLS[name](lambda array: array)
    with config_context(array_api_dispatch=True):
        try:
            found = CALLS[name](to)
        except (TypeError, ValueError) as error:
            assert REFUSED[name] in str(error)  # noqa: PT017
            return
    assert name not in REFUSED
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-6, atol=1e-9)


def test_a_tensor_that_cannot_be_converted():
    """The error says how to convert it."""
    torch = pytest.importorskip("torch")
    bad = (torch.asarray(X).requires_grad_(), torch.asarray(X).to(torch.bfloat16))
    for tensor in bad:
        for call in (comparison.cka, SpaceTranslator().fit, diagnosis.diagnose):
            with pytest.raises(TypeError, match=r"X\w* must be a NumPy array.*\.numpy"):
                call(tensor, X)
