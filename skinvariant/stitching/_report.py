"""StitchingReport: the scores of `cross_stitch`, and what is computed from them."""

import dataclasses
from numbers import Integral, Real

import numpy as np
from scipy.stats import norm

from skinvariant._files import parsing, read_json, write_json
from skinvariant._validation import check_choice, check_number
from skinvariant.stitching._methods import BASELINES, COMPARED, METHODS
from skinvariant.stitching._summary import (
    anchor_curve,
    details,
    methods_table,
    verdict,
)

_FORMAT = "skinvariant.StitchingReport"
_FIELDS = {
    "spaces": list,
    "methods": list,
    "n_anchors": list,
    "scoring": str,
    "scores": dict,
    "resampled": dict,
    "measures": list,
    "votes": bool,
}


@dataclasses.dataclass(frozen=True, eq=False)
class StitchingReport:
    r"""What `cross_stitch` has measured: every head under every encoder.

    All scores are in one array, complete for every pair of a head and an encoder.  A
    score that depends on only one of the two is repeated along the other.  Where head
    and encoder are of the same space there is nothing to transfer, so that a method
    has the scores of another one there:

    =====================  ==================  ====================
    method                 score belongs to    in a single space
    =====================  ==================  ====================
    "own"                  the head            itself
    "stitched"             head and encoder    "own"
    "majority"             neither             itself
    "absolute"             head and encoder    "retrained"
    "translate\_..."       head and encoder    "retrained"
    "few_shot"             the encoder         itself
    "retrained"            the encoder         itself
    =====================  ==================  ====================

    Further measures compare a classifier's predictions with those of "own", the head's
    model before the swap, and so belong to head and encoder for every method:

    - "disagreement", the share of test rows with another prediction;
    - "negative_flips", the share of test rows that "own" predicts right and the method
      wrong.

    "class ..." is the recall of a class, and "group ..." the score of a group of test
    rows.

    Parameters
    ----------
    spaces : tuple of str
        Names of the spaces.
    methods : tuple of str
        "own", "stitched" and the baselines.
    n_anchors : tuple of int
        Numbers of anchors, ascending.
    scoring : str
        What the scores are.
    scores : ndarray of shape (n_measures, n_methods, n_counts, n_seeds, n, n)
        By measure, method, number of anchors, seed, head and encoder, where n is the
        number of spaces; NaN where there is none ("absolute" between spaces of
        different width, or a small class).
    resampled : ndarray of shape (n_measures, n_methods, n_counts, n_resamples, n, n)
        Means over the seeds, on resampled test rows.  The rows of a resample are the
        same for every measure, method and pair.
    measures : tuple of str, default=("score",)
        What is measured: "score" first, and any of those above.
    votes : bool, default=False
        Whether the model is an InvariantVotingClassifier or InvariantVotingRegressor.

    Raises
    ------
    ValueError, TypeError
        If a parameter is not as documented.

    See Also
    --------
    cross_stitch : Makes the report.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.stitching import StitchingReport
    >>> own, stitched = [[0.9, 0.9], [0.8, 0.8]], [[0.9, 0.9], [0.6, 0.8]]
    >>> report = StitchingReport(
    ...     spaces=("old", "new"), methods=("own", "stitched"), n_anchors=(300,),
    ...     scoring="accuracy", scores=np.array([own, stitched])[None, :, None, None],
    ...     resampled=np.empty((1, 2, 1, 0, 2, 2)))
    >>> report.stitching_index().round(2).tolist()
    [[1.0, 1.0], [0.75, 1.0]]
    >>> report.passes(min_index=0.7), report.passes(min_index=0.8)
    (True, False)
    """

    spaces: tuple
    methods: tuple
    n_anchors: tuple
    scoring: str
    scores: np.ndarray
    resampled: np.ndarray
    measures: tuple = ("score",)
    votes: bool = False

    def __post_init__(self):
        for name in ("spaces", "methods", "n_anchors", "measures"):
            if not isinstance(values := getattr(self, name), tuple | list):
                raise TypeError(f"{name} must be a tuple; got {values!r}")
        for name in ("spaces", "methods"):
            values = getattr(self, name)
            texts = {value for value in values if isinstance(value, str)}
            if not len(texts) == len(values) >= 2:
                raise ValueError(
                    f"{name} must be two different names or more; got {values!r}"
                )
        if not {"own", "stitched"} <= set(self.methods) <= METHODS.keys():
            raise ValueError(
                "methods must be 'own', 'stitched' and others of "
                f"{list(BASELINES)}; got {self.methods!r}"
            )
        texts = [name for name in self.measures if isinstance(name, str)]
        kinds = ("class ", "group ")
        known = {x for x in texts[1:] if x in COMPARED or x.startswith(kinds)}
        if texts[:1] != ["score"] or len(known) != len(self.measures) - 1:
            raise ValueError(
                "measures must be 'score', and then each once: 'negative_flips', "
                f"'disagreement', 'class ...', 'group ...'; got {self.measures!r}"
            )
        for count in self.n_anchors:
            check_number("n_anchors", count, Integral, 1)
        if not self.n_anchors or list(self.n_anchors) != sorted(set(self.n_anchors)):
            raise ValueError(
                f"n_anchors must be ascending numbers; got {self.n_anchors!r}"
            )
        for name, kind in (("scoring", str), ("votes", bool)):
            if not isinstance(value := getattr(self, name), kind):
                raise TypeError(f"{name} must be a {kind.__name__}; got {value!r}")
        n, least = len(self.spaces), {"scores": 1, "resampled": 0}
        for name in least:
            array = np.asarray(getattr(self, name))
            if array.dtype.kind not in "fiu":
                raise TypeError(f"{name} must be numbers; got dtype {array.dtype}")
            sizes = tuple(map(len, (self.measures, self.methods, self.n_anchors)))
            expected = (*sizes, *array.shape[3:4], n, n)
            if array.shape != expected or array.shape[3] < least[name]:
                raise ValueError(
                    f"{name} must be of shape {(*sizes, 'k', n, n)}, "
                    f"k >= {least[name]}; got {array.shape}"
                )

    def matrix(self, method="stitched", *, measure="score", n_anchors=None):
        """Return the scores of a method, head by encoder, as means over the seeds.

        Parameters
        ----------
        method : str, default="stitched"
            One of `methods`.
        measure : str, default="score"
            One of `measures`.
        n_anchors : int, default=None
            One of the report's; None: the largest.

        Returns
        -------
        ndarray of shape (n_spaces, n_spaces)
            Row i is the head of ``spaces[i]``, column j the encoder of ``spaces[j]``.

        Raises
        ------
        ValueError
            If the report has no such method, measure or number of anchors.
        """
        return self.scores[self._at(method, n_anchors, measure)].mean(axis=0)

    def stitching_index(self, method="stitched", *, n_anchors=None):
        """Return what part of its own score each head keeps under each encoder.

        Parameters
        ----------
        method : str, default="stitched"
            One of `methods`: "stitched" for the stitching index, a baseline to see
            what part of the same score that one reaches.
        n_anchors : int, default=None
            One of the report's; None: the largest.

        Returns
        -------
        ndarray of shape (n_spaces, n_spaces)
            Means over the seeds of the scores, divided by those of "own".

        Raises
        ------
        ValueError
            If an own score is not positive, so that a ratio to it means nothing; or
            if the report has no such method or number of anchors.
        """
        own = self.matrix("own", n_anchors=n_anchors)
        if not (own > 0).all():
            raise ValueError(
                "the stitching index is a part of the head's own score, which must be "
                f"positive; got {own.min():.3g} by scoring={self.scoring!r}: use one "
                "that is 0 for a useless model, or compare scores by interval()"
            )
        return self.matrix(method, n_anchors=n_anchors) / own

    def interval(
        self,
        method="stitched",
        baseline=None,
        *,
        measure="score",
        pair=None,
        n_anchors=None,
        confidence=0.95,
    ):
        """Return the score of a method, or its lead over another, with an interval.

        The value is the mean over the seeds and over all pairs of a head and another
        encoder.  The variance of its error is the sum of two variances: that of the
        mean when the test rows are resampled, and that between the seeds divided by
        their number.  Methods are compared on the same rows and seeds.

        Parameters
        ----------
        method : str, default="stitched"
            One of `methods`.
        baseline : str, default=None
            One of `methods`, to be subtracted.
        measure : str, default="score"
            One of `measures`.  Of "negative_flips" and "disagreement" less is better.
        pair : tuple of (str, str), default=None
            Names of the head's and the encoder's space; None: the mean of all pairs
            of two different ones.
        n_anchors : int, default=None
            One of the report's; None: the largest.
        confidence : float in (0, 1), default=0.95
            How often such an interval contains the true value.

        Returns
        -------
        value : float
            The mean; NaN where no pair has a score.
        low, high : float
            The normal interval around it; NaN where there are neither resamples nor
            two seeds, or a score on resampled rows is NaN.  NaN as well where a
            measure other than "score" is the same for all seeds and resamples, as
            with no flip at all: then resampling cannot tell how far off it may be.
            Only a lead of exactly 0 then has an interval, of 0 alone.

        Raises
        ------
        ValueError, TypeError
            If a parameter is not as documented.

        Notes
        -----
        The interval covers the given encoders, and no others.  With fewer than five
        seeds the variance between them is only a rough estimate.
        """
        if not 0 < check_number("confidence", confidence, Real, 0, 1) < 1:
            raise ValueError(f"confidence must lie in (0, 1); got {confidence!r}")
        at = self._at(method, n_anchors, measure)
        by_seed, by_rows = self.scores[at], self.resampled[at]
        if baseline is not None:
            at = self._at(baseline, n_anchors, measure)
            with np.errstate(invalid="ignore"):  # infinite scores are none
                by_seed, by_rows = (
                    by_seed - self.scores[at],
                    by_rows - self.resampled[at],
                )
        pairs = self._pairs(pair) & np.isfinite(by_seed).all(axis=0)
        if not pairs.any():
            return (np.nan,) * 3
        by_seed, by_rows = (x[:, pairs].mean(axis=1) for x in (by_seed, by_rows))
        variances = []
        if len(by_rows) > 1:
            scored = np.isfinite(by_rows).all()
            variances.append(by_rows.var(ddof=1) if scored else np.nan)
        if len(by_seed) > 1:
            variances.append(by_seed.var(ddof=1) / len(by_seed))
        error = np.sqrt(sum(variances)) if variances else np.nan
        value = by_seed.mean()
        equal = baseline is not None and value == 0
        if error == 0 and measure != "score" and not equal:
            error = np.nan
        half = norm.ppf((1 + confidence) / 2) * error
        return float(value), float(value - half), float(value + half)

    def best_baseline(self, *, n_anchors=None):
        """Return the best of the alternatives to stitching.

        These are "absolute", the translations and "few_shot", which need no more than
        the anchors and their labels; neither "majority" nor "retrained".

        Parameters
        ----------
        n_anchors : int, default=None
            One of the report's; None: the largest.

        Returns
        -------
        str or None
            The baseline with the highest mean over all pairs of two spaces; None
            where none of them was measured.  A baseline without a score for every
            pair ("absolute" between spaces of different width) is left out.
        """
        others = self._pairs()
        means = {
            method: self.matrix(method, n_anchors=n_anchors)[others].mean()
            for method in self.methods
            if METHODS[method].alternative
        }
        means = {method: mean for method, mean in means.items() if np.isfinite(mean)}
        return max(means, key=means.get, default=None)

    def worst(self, kind, method="stitched", *, n_anchors=None):
        """Return the class or group with the lowest mean over all pairs.

        Parameters
        ----------
        kind : {"class", "group"}
            Which: by the recall of its rows, or by their score.
        method : str, default="stitched"
            One of `methods`.
        n_anchors : int, default=None
            One of the report's; None: the largest.

        Returns
        -------
        str or None
            The measure, for `interval` and `matrix`; None where none has a score.
            Chosen on the rows that it is measured on, it looks a little worse than it
            is.

        Raises
        ------
        ValueError
            If a parameter is not as documented.
        """
        check_choice("kind", kind, dict.fromkeys(("class", "group")))
        means = {
            measure: self.interval(method, measure=measure, n_anchors=n_anchors)[0]
            for measure in self.measures
            if measure.startswith(f"{kind} ")
        }
        means = {measure: mean for measure, mean in means.items() if np.isfinite(mean)}
        return min(means, key=means.get, default=None)

    def passes(self, min_index=0.95, *, n_anchors=None):
        """Return whether every head keeps enough of its score under every encoder.

        The worst pair decides, not the mean, since one encoder is swapped at a time.

        Parameters
        ----------
        min_index : float, default=0.95
            The least stitching index (a mean over the seeds) that is enough.
        n_anchors : int, default=None
            One of the report's; None: the largest.

        Returns
        -------
        bool
            Whether no pair has less.

        Raises
        ------
        ValueError, TypeError
            If a parameter is not as documented, or a pair has no index: see
            `stitching_index`.
        """
        check_number("min_index", min_index, Real, np.finfo(np.float64).min)
        index = self.stitching_index(n_anchors=n_anchors)
        if not np.isfinite(index).all():
            raise ValueError(
                "every head must have a stitched score under every encoder; got "
                f"{np.sum(~np.isfinite(index))} of {index.size} without (NaN)"
            )
        return bool((index >= min_index).all())

    def to_frame(self):
        """Return all scores as a long table.

        Returns
        -------
        pandas.DataFrame
            With columns "measure", "method", "head", "encoder", "n_anchors", "seed"
            (0, 1, ...) and "score".  Each score occurs once for each number of anchors
            and seed: those that belong to head and encoder where these are of two
            spaces, and all others where they are of the same space.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "StitchingReport.to_frame needs pandas: pip install pandas"
            ) from error
        names = ("measure", "method", "n_anchors", "seed", "head", "encoder")
        seeds = range(self.scores.shape[3])
        levels = (self.measures, self.methods, self.n_anchors, seeds, self.spaces)
        index = pd.MultiIndex.from_product([*levels, self.spaces], names=names)
        frame = pd.Series(self.scores.ravel(), index, name="score").reset_index()
        two_spaces = frame["head"] != frame["encoder"]
        methods = [name for name in self.methods if METHODS[name].belongs_to == "both"]
        of_both = frame["method"].isin(methods) | frame["measure"].isin(COMPARED)
        frame = frame[two_spaces == of_both].reset_index(drop=True)
        names = ["measure", "method", "head", "encoder", "n_anchors", "seed", "score"]
        return frame[names]

    def to_json(self, path=None):
        """Write the report as JSON.

        Parameters
        ----------
        path : str or path-like, default=None
            Where to write it; None: return the text.

        Returns
        -------
        str or None
            The text, or None if it was written to `path`.
        """
        content = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):  # JSON knows no NaN
                shape = list(value.shape)
                values = [x if np.isfinite(x) else None for x in value.ravel().tolist()]
                value = {"shape": shape, "values": values}
            content[field.name] = list(value) if isinstance(value, tuple) else value
        return write_json(content, _FORMAT, path)

    @classmethod
    def from_json(cls, source):
        """Read a report that `to_json` has written.

        Parameters
        ----------
        source : str or path-like
            The path of a file, or the text itself, which starts with ``{``.

        Returns
        -------
        StitchingReport
            The same report.

        Raises
        ------
        ValueError
            If `source` is no such report, or it was damaged or altered.
        """
        with parsing(f"source must be a report written by {_FORMAT}.to_json"):
            content = read_json(source, _FORMAT, _FIELDS)
            for name, value in content.items():
                if isinstance(value, list):
                    content[name] = tuple(value)
                elif isinstance(value, dict):
                    values = value["values"]
                    if unknown := {type(x) for x in values} - {float, int, type(None)}:
                        raise TypeError(f"{name} must be numbers; got {unknown}")
                    values = np.array(values, dtype=float)
                    content[name] = values.reshape(value["shape"])
            return cls(**content)

    def summary(self, *, n_anchors=None):
        """Return a table of the methods, a verdict and, of several counts, a curve.

        The verdict goes on with negative flips, the worst class and the worst group,
        where the report has them.

        Parameters
        ----------
        n_anchors : int, default=None
            One of the report's; None: the largest.

        Returns
        -------
        str
            The text, which ``str(report)`` and ``print(report)`` give as well.
        """
        lines = [*methods_table(self, n_anchors), "", *verdict(self, n_anchors)]
        lines += details(self, n_anchors)
        if len(self.n_anchors) > 1:
            lines += ["", *anchor_curve(self)]
        return "\n".join(lines)

    def __str__(self):
        return self.summary()

    def __repr__(self):
        return (
            f"StitchingReport(spaces={self.spaces!r}, n_anchors={self.n_anchors!r}, "
            f"scoring={self.scoring!r}, n_seeds={self.scores.shape[3]})"
        )

    def _at(self, method, n_anchors, measure="score"):
        """Return where a measure, a method and a number of anchors are stored."""
        methods, measures = (
            {name: place for place, name in enumerate(names)}
            for names in (self.methods, self.measures)
        )
        place = (
            check_choice("measure", measure, measures),
            check_choice("method", method, methods),
        )
        if n_anchors is None:
            return *place, len(self.n_anchors) - 1
        if np.ndim(n_anchors) or n_anchors not in self.n_anchors:
            raise ValueError(
                f"n_anchors must be one of {list(self.n_anchors)}; got {n_anchors!r}"
            )
        return *place, self.n_anchors.index(n_anchors)

    def _pairs(self, pair=None):
        """Return a mask of one pair, or of all of two different spaces."""
        if pair is None:
            return ~np.eye(len(self.spaces), dtype=bool)
        if len(pair) != 2 or not set(pair) <= set(self.spaces):
            raise ValueError(
                f"pair must name a head's and an encoder's space of "
                f"{list(self.spaces)}; got {pair!r}"
            )
        head, encoder = (np.array([name == x for x in self.spaces]) for name in pair)
        return np.outer(head, encoder)
