"""Neural heads on the product of several invariances, which learn the aggregation.

They need ``pip install 'skinvariant[torch]'``.
"""

try:
    import skorch  # noqa: F401
    import torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        "skinvariant.heads needs torch and skorch: pip install 'skinvariant[torch]'"
    ) from error

from skinvariant.heads._estimators import InvariantClassifier, InvariantRegressor

# Pickles and files of `skinvariant.persistence` record this home, so that the modules
# behind it may change.
for _estimator in (InvariantClassifier, InvariantRegressor):
    _estimator.__module__ = __name__
del _estimator

__all__ = ["InvariantClassifier", "InvariantRegressor"]
