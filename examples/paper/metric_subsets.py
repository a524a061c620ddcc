"""Other sets of metrics: all 15 subsets of the four, and four more.

``python examples/paper/metric_subsets.py`` stitches, on TREC, CIFAR-10 and Cora, the
concatenation of each subset of cosine, euclidean, manhattan and chebyshev under one
logistic regression; the same subset as a vote of one head per metric; and the four with
angular, correlation, mahalanobis (shrinkage .1) or change_of_basis (alpha .1) added,
and each of these alone.  300 anchors, and of the training rows 2,000, for time.
"""

from itertools import combinations

import ledger
import numpy as np
from classification import METRICS, logistic
from sklearn.utils.parallel import Parallel, delayed

from skinvariant import RelativeProjector

MORE = {
    "angular": None,
    "correlation": None,
    "mahalanobis": {"shrinkage": 0.1},
    "change_of_basis": {"alpha": 0.1},
}
DATA, N_ROWS = ("trec", "cifar10", "cora"), 2000


def subsets():
    """All sets of metrics, from the smallest to the largest."""
    sets = [s for n in range(1, 5) for s in combinations(METRICS, n)]
    return sets + [(m,) for m in MORE] + [(*METRICS, m) for m in MORE]


def relative_spaces(spaces, anchors):
    """Project each encoder's rows by each metric once: {metric: {encoder: parts}}."""
    found = {}
    for metric in (*METRICS, *MORE):
        projector = RelativeProjector(
            anchors=anchors,
            metric=metric,
            metric_params=MORE.get(metric),
            post="standardize",
        )
        found[metric] = {
            name: [projector.fit(X).transform(X), projector.transform(X_test)]
            for name, (X, X_test) in spaces.items()
        }
    return found


def concatenated(relative, chosen, y, y_test):
    """Accuracies of one head on several relative spaces side by side."""
    parts = {
        name: [np.hstack([relative[m][name][part] for m in chosen]) for part in (0, 1)]
        for name in relative[chosen[0]]
    }
    heads = {name: logistic(0.1).fit(X, y) for name, (X, _) in parts.items()}
    return [
        [head.score(X_test, y_test) for _, X_test in parts.values()]
        for head in heads.values()
    ]


def probabilities(relative, y):
    """What each metric's head says under each encoder: {metric: (a, b, rows, c)}."""
    return {
        metric: np.array(
            [
                [head.predict_proba(X_test) for _, X_test in parts.values()]
                for head in [logistic(0.1).fit(X, y) for X, _ in parts.values()]
            ]
        )
        for metric, parts in relative.items()
    }


def one_draw(spaces, y, y_test, data, n_anchors, seed):
    """Accuracies of every set of metrics for one draw of anchors."""
    relative = relative_spaces(spaces, ledger.draw(len(y), n_anchors, seed))
    said, classes = probabilities(relative, y), np.unique(y)
    rows = []
    for chosen in subsets():
        row = {"data": data, "seed": seed, "metrics": "+".join(chosen)}
        vote = sum(said[metric] for metric in chosen).argmax(axis=-1)
        scores = np.mean(classes[vote] == y_test, axis=-1)
        rows.append({**row, "method": "vote", "scores": ledger.rounded(scores)})
        scores = (
            scores if len(chosen) == 1 else concatenated(relative, chosen, y, y_test)
        )
        rows.append({**row, "method": "concat", "scores": ledger.rounded(scores)})
    return rows


def experiment(args):
    """Yield accuracies by data, set of metrics, way to join them, and seed."""
    for data in ["digits"] if args.quick else DATA:
        spaces, y, y_test = ledger.fewer(N_ROWS, *ledger.spaces(data))
        yield {"data": data, "encoders": list(spaces)}
        jobs = (
            delayed(one_draw)(spaces, y, y_test, data, 60 if args.quick else 300, seed)
            for seed in range(args.seeds)
        )
        for rows in Parallel(ledger.n_jobs(args), return_as="generator")(jobs):
            yield from rows


if __name__ == "__main__":
    ledger.run("metric_subsets", experiment, ledger.options(__doc__))
