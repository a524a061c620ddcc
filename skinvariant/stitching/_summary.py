"""The words of a StitchingReport: its table, its verdict and its curve, as lines."""

import numpy as np

from skinvariant.stitching._methods import METHODS


def methods_table(report, n_anchors):
    """Yield a line for each method that has a score: mean, half interval, worst pair.

    Parameters
    ----------
    report : StitchingReport
        The numbers.
    n_anchors : int or None
        For which number of anchors; None: the largest.

    Yields
    ------
    str
        A line.
    """
    count = report.n_anchors[-1] if n_anchors is None else n_anchors
    yield (
        f"{len(report.spaces)} spaces, {count} anchors, "
        f"{report.scores.shape[2]} seed(s), scoring: {report.scoring}"
    )
    yield f"{'':<20} {'mean':>7} {'+-':>6} {'worst':>7}"
    for method in report.methods:
        value, low, high = report.interval(method, n_anchors=n_anchors)
        if np.isnan(value):
            continue
        matrix = report.matrix(method, n_anchors=n_anchors)
        worst, head, encoder = _worst_pair(report, matrix)
        where = {
            "head": head,
            "encoder": encoder,
            "both": f"head from {head} under encoder {encoder}",
            "none": "",
        }[METHODS[method].belongs_to]
        spread = f"{(high - low) / 2:6.3f}" if np.isfinite(low) else f"{'?':>6}"
        line = f"{method:<20} {value:7.3f} {spread} {worst:7.3f}  {where}".rstrip()
        n_scored, n_pairs = _count_scored(matrix)
        yield line + (f" ({n_scored} of {n_pairs} pairs)" * (n_scored < n_pairs))


def verdict(report, n_anchors):
    """Yield sentences: what stitching keeps, the worst pair, and what to do.

    Parameters
    ----------
    report : StitchingReport
        The numbers.
    n_anchors : int or None
        For which number of anchors; None: the largest.

    Yields
    ------
    str
        A sentence or two.
    """
    at, others = {"n_anchors": n_anchors}, ~np.eye(len(report.spaces), dtype=bool)
    stitched = report.matrix(**at)
    n_scored, n_pairs = _count_scored(stitched)
    if not n_scored:
        yield "No pair of a head and another encoder has a stitched score."
        return
    has_index = (report.matrix("own", **at) > 0).all()
    table = report.stitching_index(**at) if has_index else stitched
    worst, head, encoder = _worst_pair(report, table)
    where = f"Worst pair: head from {head} under encoder {encoder}"
    if missing := n_pairs - n_scored:
        yield f"{where}, at {worst:.2f}."
        yield f"No verdict: {missing} of {n_pairs} pairs have no stitched score (NaN)."
        return
    if has_index:
        kept = table[others].mean()
        yield f"Stitching keeps {kept:.2f} of the head's own score."
        yield f"{where}, which keeps {worst:.2f}."
    else:
        yield f"{where}, at {worst:.3f}."
    if "majority" in report.methods:
        floor = report.matrix("majority", **at)
        if useless := int((stitched <= floor)[others].sum()):
            yield (
                f"In {useless} of {others.sum()} pairs stitching is no better than the "
                "majority."
            )
    best = report.best_baseline(**at)
    if best is None:
        return
    name, advice = {
        "absolute": ("the head on the new encoder's rows", "use that head unchanged"),
        "few_shot": ("a head on the labelled anchors", "label them and train on them"),
    }.get(best, (f"translation ({METHODS[best].translator})", "translate"))
    yield f"The best alternative, {name}: {report.interval(best, **at)[0]:.3f}."
    lead, low, high = report.interval("stitched", best, **at)
    if np.isnan(low):
        yield f"Stitching minus this: {lead:+.3f}, without an interval, " + (
            "which two seeds or two resamples would give."
            if max(report.scores.shape[2], report.resampled.shape[2]) < 2
            else "since some resampled rows have no score (NaN)."
        )
        return
    yield f"Stitching minus this: {lead:+.3f}, 95% interval {low:+.3f} to {high:+.3f}."
    remedy = "stitch with more anchors"
    if not report.votes:
        remedy = (
            "stitch a vote (InvariantVotingClassifier, InvariantVotingRegressor), "
            "which pools heads on several metrics with translations"
        )
    if low > 0:
        yield "Stitch."
    elif high < 0:
        yield f"Better {advice}, or {remedy}."
    else:
        yield "These rows and seeds do not show which of the two is better."
        if not report.votes:
            yield f"Not tried: to {remedy}."


def anchor_curve(report):
    """Yield a line for each method: its mean over all pairs, by number of anchors.

    Parameters
    ----------
    report : StitchingReport
        The numbers.

    Yields
    ------
    str
        A line.
    """
    yield "Mean of all pairs by number of anchors:"
    yield f"{'':<20} " + " ".join(f"{count:7d}" for count in report.n_anchors)
    for method in report.methods:
        values = [report.interval(method, n_anchors=k)[0] for k in report.n_anchors]
        if np.isfinite(values).any():
            yield f"{method:<20} " + " ".join(f"{value:7.3f}" for value in values)


def _count_scored(matrix):
    """Return how many pairs of two spaces have a score, and how many there are."""
    pairs = matrix[~np.eye(len(matrix), dtype=bool)]
    return int(np.isfinite(pairs).sum()), pairs.size


def _worst_pair(report, matrix):
    """Return the lowest of a matrix off the diagonal, and its head and encoder."""
    others = ~np.eye(len(report.spaces), dtype=bool)
    matrix = np.where(others & np.isfinite(matrix), matrix, np.inf)
    head, encoder = np.unravel_index(matrix.argmin(), matrix.shape)
    return matrix[head, encoder], report.spaces[head], report.spaces[encoder]
