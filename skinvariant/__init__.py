"""skinvariant: relative spaces under a product of invariances.

Train a head once, swap the encoder, keep the head.
"""

from skinvariant._aggregator import InvariantAggregator
from skinvariant._projector import RelativeProjector
from skinvariant.stitching import stitch

__version__ = "0.1.0"

__all__ = ["InvariantAggregator", "RelativeProjector", "stitch"]
