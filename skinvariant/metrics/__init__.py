"""Metrics: functions that compare rows with anchors, and what each of them ignores.

Every metric is a function ``(X, anchors) -> (n_samples, n_anchors)``.  The registry
`METRICS` records for each function whether a larger value means closer, and its
*invariances*: the classes of transformations that leave the values unchanged when one
transformation is applied to rows and anchors alike.

Rows keep their dtype (float32 in, float32 out), Euclidean distances are exact for near
and equal rows and far from the origin, and rows of any scale that the dtype can hold
are compared without overflow or underflow.
"""

from skinvariant.metrics import _registry
from skinvariant.metrics._frames import whitening
from skinvariant.metrics._functions import (
    angular,
    change_of_basis,
    chebyshev,
    correlation,
    cosine,
    euclidean,
    geodesic,
    inner,
    mahalanobis,
    manhattan,
    minkowski,
    sqeuclidean,
)
from skinvariant.metrics._registry import Metric

__all__ = [
    "METRICS",
    "TRANSFORMATIONS",
    "Metric",
    "angular",
    "change_of_basis",
    "chebyshev",
    "correlation",
    "cosine",
    "euclidean",
    "geodesic",
    "inner",
    "mahalanobis",
    "manhattan",
    "minkowski",
    "sqeuclidean",
    "whitening",
]

#: The registry: every metric by name, with its properties.
METRICS = _registry.METRICS

#: The classes of transformations that an invariance can name.  Scalings are positive.
TRANSFORMATIONS = _registry.TRANSFORMATIONS

# Pickles and saved models record this home, so that the modules behind it may change.
for _public in (Metric, whitening, *(metric.function for metric in METRICS.values())):
    _public.__module__ = __name__
del _public
