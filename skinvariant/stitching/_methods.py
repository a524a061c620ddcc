"""What `cross_stitch` measures: one table for all that depends on the method."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """How a method of `cross_stitch` makes a score of a head and an encoder."""

    belongs_to: str  # what the score depends on: "head", "encoder", "both" or "none"
    same_space: str | None = None  # of "both": which method it is in a single space
    translator: str | None = None  # the kind of `SpaceTranslator` before the head
    alternative: bool = False  # whether it could replace stitching, at no more cost


def _translated(kind):
    return Method("both", "retrained", translator=kind, alternative=True)


METHODS = {
    "own": Method("head"),
    "stitched": Method("both", "own"),
    "majority": Method("none"),
    "absolute": Method("both", "retrained", alternative=True),
    "translate_orthogonal": _translated("orthogonal"),
    "translate_linear": _translated("linear"),
    "translate_ridge": _translated("ridge"),
    "translate_affine": _translated("affine"),
    "translate_kernel": _translated("kernel"),
    "few_shot": Method("encoder", alternative=True),
    "retrained": Method("encoder"),
}
BASELINES = tuple(name for name in METHODS if name not in ("own", "stitched"))
# measures that compare predictions with those of "own"
COMPARED = ("negative_flips", "disagreement")
# of fewer test rows a class or a group has no score
FEWEST_ROWS = 10
