"""The list of estimators is the public list."""

import sys
from importlib.util import find_spec

import pytest
from sklearn.base import is_classifier, is_regressor

from skinvariant.discovery import all_estimators

CORE = [
    "InvariantAggregator",
    "InvariantVotingClassifier",
    "InvariantVotingRegressor",
    "PooledClassifier",
    "PooledRegressor",
    "RelativeProjector",
    "SpaceTranslator",
    "Whitener",
]
HEADS = ["InvariantClassifier", "InvariantRegressor"]
CLASSIFIERS, REGRESSORS = (
    [f"Invariant{kind}", f"InvariantVoting{kind}", f"Pooled{kind}"]
    for kind in ("Classifier", "Regressor")
)
TRANSFORMERS = {*CORE, *HEADS}.difference(
    *(
        {f"InvariantVoting{kind}", f"Pooled{kind}"}
        for kind in ("Classifier", "Regressor")
    )
)


def test_all_of_them():
    """Every known one, sorted, and no other."""
    with_torch = find_spec("torch") and find_spec("skorch")
    known = sorted(CORE + HEADS) if with_torch else CORE
    assert [name for name, _ in all_estimators()] == known


def test_without_torch_the_heads_are_missing(monkeypatch):
    """And nothing else."""
    for module in ("skinvariant.heads", "skinvariant.nn"):
        monkeypatch.setitem(sys.modules, module, None)
    assert [name for name, _ in all_estimators()] == CORE


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("classifier", set(CLASSIFIERS)),
        ("regressor", set(REGRESSORS)),
        (["classifier", "regressor"], {*CLASSIFIERS, *REGRESSORS}),
        ("transformer", TRANSFORMERS),
        ([], set()),
    ],
)
def test_of_a_kind(kind, expected):
    """By the mixins of scikit-learn."""
    pytest.importorskip("torch", reason="heads need torch")
    pytest.importorskip("skorch", reason="heads need skorch")
    assert {name for name, _ in all_estimators(kind)} == expected


def test_kinds_agree_with_scikit_learn():
    """What is listed as a classifier says so itself."""
    for name, estimator in all_estimators():
        if name.startswith("Invariant") and name != "InvariantAggregator":
            listed = name in dict(all_estimators("classifier"))
            assert is_classifier(estimator()) == listed
            assert is_regressor(estimator()) != listed


def test_unknown_kinds_are_refused():
    """With what it may be."""
    with pytest.raises(ValueError, match=r"type_filter must be one of .*got 'head'"):
        all_estimators("head")
