"""skinvariant: relative spaces under a product of invariances.

Train a head once, swap the encoder, keep the head.
"""

from skinvariant.anchors import select_anchors
from skinvariant.diagnosis import diagnose
from skinvariant.forecast import forecast_swap
from skinvariant.guard import EncoderGuard
from skinvariant.relative import InvariantAggregator, RelativeProjector
from skinvariant.stitching import cross_stitch, stitch
from skinvariant.voting import InvariantVotingClassifier, InvariantVotingRegressor

# Pickles and files of `skinvariant.persistence` record this home, so that the modules
# behind it may change.
for _estimator in (
    EncoderGuard,
    InvariantAggregator,
    InvariantVotingClassifier,
    InvariantVotingRegressor,
    RelativeProjector,
):
    _estimator.__module__ = __name__
del _estimator

__version__ = "0.1.0"

__all__ = [
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
