"""The words of a StitchingReport: its table, its verdict and its curve, as lines."""

from itertools import permutations

import numpy as np

from skinvariant.stitching._methods import FEWEST_ROWS, METHODS


def methods_table(report, n_anchors):
    """Yield a line for each method that has a score: mean, half interval, worst pair.

    Where there are negative flips, their mean and half interval come in between.

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
        f"{report.scores.shape[3]} seed(s), scoring: {report.scoring}"
    )
    flips = "negative_flips" in report.measures
    title = f" {'flips':>7} {'+-':>6}" * flips
    yield f"{'':<20} {'mean':>7} {'+-':>6}{title} {'worst':>7}"
    for method in report.methods:
        columns = _mean_and_half(report.interval(method, n_anchors=n_anchors))
        if "nan" in columns:
            continue
        if flips:
            at = {"measure": "negative_flips", "n_anchors": n_anchors}
            part = _mean_and_half(report.interval(method, **at))
            columns += " " + (part if method != "own" else " " * len(part))
        matrix = report.matrix(method, n_anchors=n_anchors)
        worst, head, encoder = _worst_pair(report, matrix)
        where = {
            "head": head,
            "encoder": encoder,
            "both": f"head from {head} under encoder {encoder}",
            "none": "",
        }[METHODS[method].belongs_to]
        line = f"{method:<20} {columns} {worst:7.3f}  {where}".rstrip()
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
    stitched, n_useless = report.matrix(**at), 0
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
        leads = [
            report.interval("stitched", "majority", pair=pair, **at)[:2]
            for pair in permutations(report.spaces, 2)
        ]
        known = np.isfinite(leads).all()
        if n_useless := sum(not (low if known else lead) > 0 for lead, low in leads):
            yield f"In {n_useless} of {n_pairs} pairs " + (
                "stitching is no better than the majority."
                if known
                else "the stitched score is no higher than the majority's."
            )
    best = report.best_baseline(**at)
    if best is None:
        return
    name, advice = {
        "absolute": ("the head on the new encoder's rows", "use that head unchanged"),
        "few_shot": ("a head on the labelled anchors", "label them and train on them"),
    }.get(best, (f"translation ({METHODS[best].translator})", "translate"))
    yield f"The best alternative, {name}: {report.interval(best, **at)[0]:.3f}."
    methods = "stitched", best
    _, low, high = lead = report.interval(*methods, **at)
    yield f"Stitching minus this: {_in_words(report, lead, 'score', *methods)}."
    if np.isnan(low):
        return
    remedy = "stitch with more anchors"
    if not report.votes:
        remedy = (
            "stitch a vote (InvariantVotingClassifier, InvariantVotingRegressor), "
            "which pools heads on several metrics with translations"
        )
    if low > 0:
        yield "Stitch." if n_useless < n_pairs else "Use neither."
    elif high < 0:
        yield f"Better {advice}, or {remedy}."
    else:
        yield "These rows and seeds do not show which of the two is better."
        if not report.votes:
            yield f"Not tried: to {remedy}."


def details(report, n_anchors):
    """Yield sentences: negative flips, the worst class and the worst group.

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
    at = {"n_anchors": n_anchors}
    if "negative_flips" in report.measures and "retrained" in report.methods:
        methods, measure = ("stitched", "retrained"), "negative_flips"
        value, low, high = lead = report.interval(*methods, measure=measure, **at)
        if np.isfinite(value):
            words = _in_words(report, lead, measure, *methods)
            yield f"Negative flips, stitched minus retrained: {words}."
        if low > 0 or high < 0:
            fewer = "Stitching" if high < 0 else "Retraining"
            yield f"{fewer} makes fewer right predictions wrong."
        elif np.isfinite(low):
            yield "These rows and seeds do not show which makes fewer."
    for kind, plural, score in (
        ("class", "classes", "recall"),
        ("group", "groups", report.scoring),
    ):
        measures = [name for name in report.measures if name.startswith(f"{kind} ")]
        if (worst := report.worst(kind, **at)) is not None:
            interval = report.interval(measure=worst, **at)
            own = report.interval("own", measure=worst, **at)[0]
            words = _in_words(report, interval, worst, "stitched")
            yield f"Worst {worst}, stitched: {score} {words}; own: {own:.3f}."
        tables = [report.matrix(measure=measure, **at) for measure in measures]
        if n_missing := sum(not np.isfinite(table).all() for table in tables):
            yield (
                f"No score for {n_missing} of {len(measures)} {plural}: fewer than "
                f"{FEWEST_ROWS} test rows, or undefined there."
            )


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


def _mean_and_half(interval):
    """Return two columns: a value, and half the width of its interval."""
    value, low, high = interval
    return f"{value:7.3f} " + (
        f"{(high - low) / 2:6.3f}" if np.isfinite(low) else f"{'?':>6}"
    )


def _in_words(report, interval, measure, *methods):
    """Return an interval, of a method or of a lead, in words; or why there is none."""
    value, low, high = interval
    sign = "+" if len(methods) > 1 else ""
    if np.isfinite(low):
        return f"{value:{sign}.3f}, 95% interval {low:{sign}.3f} to {high:{sign}.3f}"
    places = [report.methods.index(method) for method in methods]
    resampled = report.resampled[report.measures.index(measure)][places]
    if max(report.scores.shape[3], report.resampled.shape[3]) < 2:
        why = "which two seeds or two resamples would give"
    elif np.isfinite(resampled).all():
        why = "since it is the same for all resampled rows and seeds"
    else:
        why = "since some resampled rows have no score (NaN)"
    return f"{value:{sign}.3f}, without an interval, {why}"


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
