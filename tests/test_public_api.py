"""The public list equals what is defined, and all of it is documented."""

import importlib
import inspect
from importlib.util import find_spec

import pytest

import skinvariant

MODULES = [
    "skinvariant",
    "skinvariant.anchors",
    "skinvariant.comparison",
    "skinvariant.datasets",
    "skinvariant.diagnosis",
    "skinvariant.forecast",
    "skinvariant.guard",
    "skinvariant.matching",
    "skinvariant.metrics",
    "skinvariant.model_selection",
    "skinvariant.outofcore",
    "skinvariant.persistence",
    "skinvariant.plotting",
    "skinvariant.pooling",
    "skinvariant.relative",
    "skinvariant.stitching",
    "skinvariant.translation",
    "skinvariant.voting",
]
NEED_TORCH = ["skinvariant.heads", "skinvariant.nn"]
if find_spec("torch") and find_spec("skorch"):
    MODULES += NEED_TORCH
# numpydoc's checks that do not hold here, each with its reason
NOT_ASKED = {
    "EX01",  # methods are shown in their class's example
    "GL01",  # text may start on the line of the quotes
    "GL08",  # dunder methods
    "RT03",  # a named return value speaks for itself
    "SA01",  # a See Also only where there is something to see
    "SA04",
    "ES01",  # an extended summary only where there is more to say
    "PR06",  # "array-like of shape" is scikit-learn's language
    "SS05",  # the names of some metrics end on an s
    "SS06",
}


def defined_in(module):
    """Public functions and classes whose home is this module."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    }


@pytest.mark.parametrize("name", MODULES[1:])
def test_what_is_public_is_listed_and_what_is_listed_exists(name):
    """Both ways; constants are listed by hand, so they must exist."""
    module = importlib.import_module(name)
    assert defined_in(module) <= set(module.__all__)
    for member in module.__all__:
        assert hasattr(module, member)
        value = getattr(module, member)
        if callable(value):
            home = value.__module__.partition("._")[0]  # of a package's private module
            assert home in (name, "skinvariant")


def test_the_package_lists_its_names_and_nothing_else():
    """All names, importable from the top, and no others."""
    assert skinvariant.__all__ == [
        "EncoderGuard",
        "InvariantAggregator",
        "InvariantVotingClassifier",
        "InvariantVotingRegressor",
        "RelativeProjector",
        "cross_stitch",
        "diagnose",
        "forecast_swap",
        "select_anchors",
        "stitch",
    ]
    listed = {
        name
        for name, value in vars(skinvariant).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert listed == set(skinvariant.__all__)


def test_the_version_is_the_installed_one():
    """One version in one place."""
    from importlib.metadata import version

    assert skinvariant.__version__ == version("skinvariant")


def public_estimators():
    """The estimators, by full name."""
    yield from ("skinvariant.RelativeProjector", "skinvariant.InvariantAggregator")
    if "skinvariant.heads" in MODULES:
        yield "skinvariant.heads.InvariantClassifier"
        yield "skinvariant.heads.InvariantRegressor"


def public_names():
    """Every public function, class and method of its own, by full name."""
    for name in MODULES[1:]:
        module = importlib.import_module(name)
        for member in module.__all__:
            if callable(getattr(module, member)):
                yield f"{name}.{member}"
    for name in public_estimators():
        yield name
        for method in ("fit", "transform", "rebase"):
            yield f"{name}.{method}"
        own = ("predict", "partial_fit", "fine_tune", "to_torch", "to_onnx")
        own = own if "heads" in name else ("get_feature_names_out",)
        yield from (f"{name}.{method}" for method in own)
    report = "skinvariant.stitching.StitchingReport"
    methods = ("matrix", "stitching_index", "interval", "best_baseline", "passes")
    methods += ("to_frame", "to_json", "from_json", "summary")
    yield from (f"{report}.{method}" for method in methods)
    methods = ("suspects", "threshold", "passes", "summary", "to_frame", "to_json")
    for method in (*methods, "from_json"):
        yield f"skinvariant.forecast.SwapForecast.{method}"
    for kind in ("Classifier", "Regressor"):
        for method in ("fit", "predict"):
            yield f"skinvariant.pooling.Pooled{kind}.{method}"
    for method in ("predict_proba", "predict_log_proba"):
        yield f"skinvariant.pooling.PooledClassifier.{method}"
    for display, source in (
        ("AnchorCurveDisplay", "from_report"),
        ("DiagnosisDisplay", "from_diagnosis"),
        ("SearchDisplay", "from_search"),
        ("SpaceDisplay", "from_spaces"),
        ("StitchingDisplay", "from_report"),
        ("SwapForecastDisplay", "from_forecast"),
    ):
        for method in (source, "plot"):
            yield f"skinvariant.plotting.{display}.{method}"
    for kind, methods in (
        ("Classifier", ("predict_proba", "predict_log_proba")),
        ("Regressor", ()),
    ):
        for method in ("fit", "rebase", "predict", "get_metadata_routing", *methods):
            yield f"skinvariant.voting.InvariantVoting{kind}.{method}"
    yield "skinvariant.RelativeProjector.inverse_transform"
    methods = ("fit", "score", "predict", "predict_proba", "predict_log_proba")
    for method in (*methods, "decision_function", "get_metadata_routing"):
        yield f"skinvariant.model_selection.AcrossEncoders.{method}"
    for method in ("fit", "fit_transform", "transform", "reset", "rebase"):
        yield f"skinvariant.guard.EncoderGuard.{method}"
    for method in ("fit", "transform", "inverse_transform", "score"):
        yield f"skinvariant.translation.SpaceTranslator.{method}"
    if "skinvariant.heads" in MODULES:
        yield "skinvariant.heads.InvariantClassifier.predict_proba"
        yield "skinvariant.nn.RelativeLayer.forward"
        yield "skinvariant.nn.RelativeLayer.rebase"
        yield "skinvariant.nn.ProductLayer.forward"
        yield "skinvariant.nn.ProductLayer.rebase"
        yield "skinvariant.nn.MLPSum.forward"
        yield "skinvariant.nn.WeightedSum.space_weights"
        yield "skinvariant.nn.InvariantNetwork.forward"


@pytest.mark.parametrize("name", sorted(public_names()))
def test_docstrings_are_numpydoc(name):
    """Every parameter described, in scikit-learn's language, by numpydoc's checks."""
    validate = pytest.importorskip("numpydoc.validate").validate
    errors = {
        code: text for code, text in validate(name)["errors"] if code not in NOT_ASKED
    }
    assert not errors


@pytest.mark.parametrize("name", list(public_estimators()))
def test_constructors_are_those_of_the_design(name):
    """The number of anchors is positional, everything else by keyword."""
    module, _, name = name.rpartition(".")
    estimator = getattr(importlib.import_module(module), name)
    parameters = list(inspect.signature(estimator).parameters.values())
    assert parameters[0].name == "n_anchors"
    assert parameters[0].default == 300
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters[1:])


@pytest.mark.parametrize("kind", ["Classifier", "Regressor"])
def test_constructors_of_the_votes(kind):
    """The head is positional; the others have the names and defaults of the parts."""
    vote = getattr(skinvariant, f"InvariantVoting{kind}")
    first, *parameters = inspect.signature(vote).parameters.values()
    assert (first.name, first.default) == ("estimator", None)
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters)
    part = inspect.signature(skinvariant.InvariantAggregator).parameters
    own = {
        p.name: p.default for p in parameters if p.name not in ("absolute", "metrics")
    }
    assert own == {name: part[name].default for name in own}
