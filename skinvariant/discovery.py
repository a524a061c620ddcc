"""All estimators of the package, for tools that go through them."""

import importlib
import inspect
import pkgutil

from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    RegressorMixin,
    TransformerMixin,
)

import skinvariant
from skinvariant._validation import check_choice

__all__ = ["all_estimators"]

_KINDS = {
    "classifier": ClassifierMixin,
    "regressor": RegressorMixin,
    "transformer": TransformerMixin,
}


def all_estimators(type_filter=None):
    """List the public estimators, as `sklearn.utils.discovery.all_estimators` does.

    Parameters
    ----------
    type_filter : {"classifier", "regressor", "transformer"} or list of these, \
            default=None
        Which kinds to list; with a list, those that are of any of them.  A neural head
        is a transformer as well.  None: all.

    Returns
    -------
    list of tuple of (str, type)
        Name and class of each estimator, sorted by name.  Without torch and skorch the
        neural heads are missing.

    Raises
    ------
    ValueError, TypeError
        If `type_filter` is not as documented.

    Examples
    --------
    >>> from skinvariant.discovery import all_estimators
    >>> "InvariantAggregator" in dict(all_estimators("transformer"))
    True
    >>> "PooledRegressor" in dict(all_estimators(["classifier", "transformer"]))
    False
    """
    wanted = [type_filter] if isinstance(type_filter, str) else type_filter
    kinds = [check_choice("type_filter", kind, _KINDS) for kind in wanted or ()]
    found = {}
    for module in _public_modules():
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) and issubclass(value, BaseEstimator):
                found[name] = value
    if type_filter is not None:
        found = {k: v for k, v in found.items() if issubclass(v, tuple(kinds))}
    return sorted(found.items())


def _public_modules():
    """Yield the package and its public modules that can be imported here."""
    yield skinvariant
    for info in pkgutil.iter_modules(skinvariant.__path__):
        if info.name.startswith("_") or info.name == "discovery":
            continue
        try:
            yield importlib.import_module(f"skinvariant.{info.name}")
        except ImportError:
            continue
