"""scikit-learn's own checks, those it yields and those it does not."""

import functools
import os

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils.estimator_checks import estimator_checks_generator

import skinvariant
from skinvariant import (
    EncoderGuard,
    InvariantAggregator,
    InvariantVotingClassifier,
    InvariantVotingRegressor,
    RelativeProjector,
)
from skinvariant.anchors import STRATEGIES
from skinvariant.metrics import METRICS, Metric, euclidean
from skinvariant.model_selection import AcrossEncoders
from skinvariant.relative._aggregator import AGGREGATIONS
from skinvariant.relative._steps import POST, PRE, Whitener
from skinvariant.translation import _METHODS, SpaceTranslator

# scikit-learn checks with as few as 20 rows
FEW = 6
OWN = Metric("own", euclidean)
# each takes code of its own; scikit-learn's checks run in full
DIFFERENT = [
    RelativeProjector(FEW),
    RelativeProjector(FEW, metric="change_of_basis"),
    RelativeProjector(FEW, metric="chebyshev"),
    RelativeProjector(FEW, metric="minkowski", metric_params={"p": 3}),
    RelativeProjector(FEW, pre="whiten"),
    RelativeProjector(FEW, pre=StandardScaler(), post=StandardScaler(), n_jobs=2),
    RelativeProjector(FEW, anchors="stratified"),
    InvariantAggregator(FEW),
    InvariantAggregator(FEW, aggregation="mean", anchors="kmeans"),
    InvariantAggregator(
        FEW, metrics=tuple(METRICS), weights=range(1, len(METRICS) + 1)
    ),
    SpaceTranslator("orthogonal"),
    SpaceTranslator("ridge"),
    SpaceTranslator("kernel"),
    Whitener(),
    EncoderGuard(false_alarms=50),
]
# the rest of the options, which share their code with those above
ALIKE = [
    *(RelativeProjector(FEW, metric=metric) for metric in METRICS),
    *(RelativeProjector(FEW, pre=pre) for pre in PRE),
    *(RelativeProjector(FEW, post=post) for post in POST),
    *(RelativeProjector(FEW, anchors=anchors) for anchors in STRATEGIES),
    RelativeProjector(FEW, anchors=[0]),
    *(InvariantAggregator(FEW, aggregation=name) for name in AGGREGATIONS),
    *(InvariantAggregator(FEW, anchors=anchors) for anchors in STRATEGIES),
    *(InvariantAggregator(FEW, pre=pre) for pre in PRE),
    *(InvariantAggregator(FEW, post=post) for post in (None, *POST)),
    InvariantAggregator(FEW, metrics=("cosine", "euclidean"), n_jobs=2),
    *(SpaceTranslator(method) for method in _METHODS),
]


def distinct(estimators, others=()):
    """Return estimators without those that are configured like another."""
    known = dict.fromkeys(map(repr, others))
    return [one for one in estimators if known.setdefault(repr(one), one) is one]


ALIKE = distinct(ALIKE, DIFFERENT)
ESTIMATORS = [*DIFFERENT, *ALIKE]

TWO = {"metrics": ("cosine", "euclidean"), "n_anchors": FEW}
DIFFERENT_VOTES = [
    InvariantVotingClassifier(n_anchors=FEW),
    # 6 anchors show too little of 10 axes
    InvariantVotingClassifier(n_anchors=10, absolute=False),
    InvariantVotingClassifier(RandomForestClassifier(5), **TWO),
    InvariantVotingRegressor(n_anchors=FEW),
    InvariantVotingRegressor(make_pipeline(StandardScaler(), Ridge()), **TWO),
]
OPTIONS = [
    {"absolute": False, "n_anchors": 10},
    {"metrics": ("euclidean",), "post": None},
    {"metrics": ("cosine", "mahalanobis", OWN)},
    {"metrics": ("euclidean",), "pre": "center", "post": "layer"},
    {"metrics": ("manhattan",), "pre": "standardize", "anchors": "kmeans"},
    {"metrics": ("chebyshev", "cosine"), "pre": "whiten"},
]
ALIKE_VOTES = [
    *(InvariantVotingClassifier(**{"n_anchors": FEW} | params) for params in OPTIONS),
    InvariantVotingClassifier(KNeighborsClassifier(3), **TWO),
    InvariantVotingClassifier(
        make_pipeline(StandardScaler(), LogisticRegression()), **TWO
    ),
    InvariantVotingClassifier(n_anchors=FEW, anchors="stratified"),
    *(InvariantVotingRegressor(**{"n_anchors": FEW} | params) for params in OPTIONS),
    InvariantVotingRegressor(Ridge(), **TWO),
    InvariantVotingRegressor(RandomForestRegressor(5), **TWO),
]
ALIKE_VOTES = distinct(ALIKE_VOTES, DIFFERENT_VOTES)
VOTES = [*DIFFERENT_VOTES, *ALIKE_VOTES]


shown = functools.cache(repr)  # an estimator's takes a millisecond


def every_check(estimators):
    """Parametrize as `parametrize_with_checks`, writing each estimator out once."""
    pairs = [pair for one in estimators for pair in estimator_checks_generator(one)]
    ids = [f"{shown(estimator)}-{check.func.__name__}" for estimator, check in pairs]
    return pytest.mark.parametrize(("estimator", "check"), pairs, ids=ids)


def each(different, alike):
    """Return what runs with every check, and what runs so in the nightly run alone."""
    once = pytest.mark.grid(strength=1)
    return [*different, *(pytest.param(estimator, marks=once) for estimator in alike)]


# the checks have rows of many widths, so each space is all columns
BOTH = {"old": slice(0, None), "new": slice(0, None)}
ACROSS = [
    AcrossEncoders(InvariantVotingClassifier(n_anchors=FEW, random_state=0), BOTH),
    AcrossEncoders(
        InvariantVotingRegressor(n_anchors=10, random_state=0), BOTH, own="new"
    ),
]

BAYES = InvariantVotingClassifier(GaussianNB(), n_anchors=FEW)

# hardware and libraries that a machine may lack: scikit-learn skips those checks itself
NAMESPACES = [
    {"array_namespace": "numpy"},
    {"array_namespace": "array_api_strict", "dtype_name": "float64"},
    {"array_namespace": "array_api_strict", "dtype_name": "float32"},
    {"array_namespace": "torch", "device_name": "cpu", "dtype_name": "float64"},
    {"array_namespace": "torch", "device_name": "cpu", "dtype_name": "float32"},
]


@every_check([*DIFFERENT, *DIFFERENT_VOTES, *ACROSS])
def test_scikit_learn_checks(estimator, check):
    """Every check that scikit-learn yields, without an expected failure."""
    check(estimator)


@pytest.mark.grid(strength=1)
@every_check([*ALIKE, *ALIKE_VOTES])
def test_scikit_learn_checks_of_further_configurations(estimator, check):
    """The same for configurations that share their code with those above."""
    check(estimator)


# GaussianNB warns of a class without weight, in its own checks as well
@pytest.mark.filterwarnings("ignore:divide by zero encountered in log:RuntimeWarning")
@every_check([BAYES])
def test_scikit_learn_checks_of_a_naive_head(estimator, check):
    """The same around a head that is not calibrated at all."""
    check(estimator)


# they fit with column names and transform without, and the other way round
@pytest.mark.filterwarnings("ignore:X .* feature names")
@pytest.mark.parametrize("estimator", each(DIFFERENT, ALIKE), ids=shown)
@pytest.mark.parametrize(
    "check",
    [
        "check_dataframe_column_names_consistency",
        "check_global_output_transform_pandas",
        "check_global_set_output_transform_polars",
        "check_inplace_ensure_writeable",
        "check_set_output_transform",
        "check_set_output_transform_pandas",
        "check_set_output_transform_polars",
        "check_transformer_get_feature_names_out",
        "check_transformer_get_feature_names_out_pandas",
    ],
)
def test_checks_that_scikit_learn_does_not_yield(estimator, check):
    """Those of its checks that it runs for its own estimators only."""
    pytest.importorskip("pandas")
    pytest.importorskip("polars")
    getattr(estimator_checks, check)(type(estimator).__name__, estimator)


@pytest.mark.filterwarnings("ignore:X .* feature names")
@pytest.mark.parametrize(
    "estimator", each([*DIFFERENT_VOTES, *ACROSS], ALIKE_VOTES), ids=shown
)
@pytest.mark.parametrize(
    "check",
    ["check_dataframe_column_names_consistency", "check_inplace_ensure_writeable"],
)
def test_checks_of_votes_that_scikit_learn_does_not_yield(estimator, check):
    """Those of its checks that are not of transformers."""
    pytest.importorskip("pandas")
    getattr(estimator_checks, check)(type(estimator).__name__, estimator)


@pytest.mark.parametrize("readonly_memmap", [True, False])
@pytest.mark.parametrize("estimator", each(DIFFERENT, ALIKE), ids=shown)
def test_read_only_memory(estimator, readonly_memmap):
    """Input that cannot be written to is no obstacle."""
    name = type(estimator).__name__
    estimator_checks.check_transformer_general(
        name, estimator, readonly_memmap=readonly_memmap
    )


def test_array_api_dispatch_is_really_on():
    """Without this setting scikit-learn skips its array API checks in silence."""
    assert os.environ["SCIPY_ARRAY_API"] == "1"
    with config_context(array_api_dispatch=True):  # raises where it is not in force
        pass


@pytest.mark.parametrize(
    "estimator",
    [
        *(
            RelativeProjector(FEW, metric=name, random_state=0)
            for name, metric in METRICS.items()
            if metric.array_api
        ),
        RelativeProjector(FEW, pre="standardize", post="layer", random_state=0),
        InvariantAggregator(FEW, random_state=0),
        InvariantAggregator(
            FEW, aggregation="mean", pre="center", post="l2", random_state=0
        ),
        InvariantAggregator(FEW, anchors="farthest", random_state=0),
        InvariantAggregator(FEW, anchors="stratified", random_state=0),
    ],
    ids=repr,
)
@pytest.mark.parametrize("case", NAMESPACES, ids=lambda case: "-".join(case.values()))
def test_array_api_values(estimator, case):
    """Arrays of other libraries give the same values, in the same library."""
    pytest.importorskip(case["array_namespace"])
    assert estimator.__sklearn_tags__().array_api_support
    check = functools.partial(estimator_checks.check_array_api_input, **case)
    check(type(estimator).__name__, estimator, check_values=True)


def test_no_array_api_check_skips_for_want_of_a_setting():
    """The checks of the default estimators that need only libraries at hand run."""
    for library in ("torch", "array_api_strict"):
        pytest.importorskip(library)
    results = estimator_checks.check_estimator(
        InvariantAggregator(FEW), on_skip=None, on_fail="raise"
    )
    array_api = [r for r in results if r["check_name"].startswith("check_array_api")]
    assert sum(r["status"] == "passed" for r in array_api) >= 7
    excuses = ("installed", "cuda", "XPU", "MPS", "dpnp", "cupy")
    for result in array_api:
        if result["status"] == "skipped":
            assert any(excuse in str(result["exception"]) for excuse in excuses)


@pytest.mark.parametrize("estimator", [RelativeProjector, InvariantAggregator])
def test_tags_tell_what_the_parameters_ask_for(estimator):
    """Labels for stratified anchors; sparse rows and tensors where all parts do."""
    assert get_tags(estimator(anchors="stratified")).target_tags.required
    assert not get_tags(estimator()).target_tags.required
    single = {"metric": "chebyshev"} if estimator is RelativeProjector else {}
    assert not get_tags(estimator(**single)).input_tags.sparse
    assert get_tags(estimator(**single)).array_api_support
    assert not get_tags(estimator(pre="whiten")).array_api_support
    assert not get_tags(estimator(pre="center")).input_tags.sparse
    get_tags(estimator(pre="nonsense"))  # no error before fit


def test_every_public_estimator_is_checked():
    """A new estimator cannot be forgotten here."""
    public = {
        value
        for value in vars(skinvariant).values()
        if isinstance(value, type) and issubclass(value, BaseEstimator)
    }
    assert len(public) >= 2
    assert public <= {type(estimator) for estimator in [*ESTIMATORS, *VOTES]}


@pytest.mark.parametrize("estimator", [RelativeProjector(), InvariantAggregator()])
def test_the_default_number_of_anchors_warns_on_few_rows(estimator):
    """300 anchors of 20 rows: all rows are taken, and it is said."""
    X = np.random.default_rng(0).standard_normal((20, 3))
    with pytest.warns(UserWarning, match="n_anchors=300 is more than n_samples=20"):
        estimator.fit(X)
    assert estimator.anchors_.shape == (20, 3)
