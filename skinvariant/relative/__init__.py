"""Relative spaces: the estimators, and the steps before and after the comparison."""

from skinvariant.relative._aggregator import InvariantAggregator
from skinvariant.relative._projector import RelativeProjector
from skinvariant.relative._steps import Whitener, l2_normalize, layer_normalize

__all__ = [
    "InvariantAggregator",
    "RelativeProjector",
    "Whitener",
    "l2_normalize",
    "layer_normalize",
]

# Pickles and saved models record this home, so that the modules behind it may change.
for _public in (Whitener, l2_normalize, layer_normalize):
    _public.__module__ = __name__
del _public
