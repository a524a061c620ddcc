"""Stitching: another encoder under a fitted model, and what it costs in score."""

from skinvariant.stitching import _methods
from skinvariant.stitching._cross_stitch import cross_stitch
from skinvariant.stitching._report import StitchingReport
from skinvariant.stitching._stitch import stitch

# Pickles and error messages name this home, so that the modules behind it may change.
for _public in (StitchingReport, cross_stitch, stitch):
    _public.__module__ = __name__
del _public

__all__ = ["BASELINES", "StitchingReport", "cross_stitch", "stitch"]

#: The baselines of `cross_stitch`, from the floor to the ceiling.
BASELINES = _methods.BASELINES
