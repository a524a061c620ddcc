"""The recommended model beside its rivals: every head under every encoder.

``python examples/paper/recommended.py data``, data being one of trec, cifar10,
cifar10_jpeg, cora, mnist, fashion_mnist; they need ``SKINVARIANT_DATA``.

Heads are trained on each encoder's training rows, 2,000 at most, and tested on the test
rows, 1,000 at most, of every encoder, with 10, 30, 100 and 300 anchors in 5 draws; with
``--many`` also with 1000, in 2 draws, which takes longer than all others:

voting, voting with labels
    `InvariantVotingClassifier` as it is by default, rebased without and with the
    anchors' labels
cosine, euclidean, manhattan, chebyshev, change_of_basis
    `RelativeProjector` and a logistic regression
product
    `InvariantAggregator` and a logistic regression, up to 300 anchors
first edition
    the same with ``pre="center"``, ``post="layer"`` and a weak penalty: what the first
    edition taught
pooled translations
    a head on the standardised space, by ``stitch(head, rows, old_anchors=old_rows)``
orthogonal, ridge, kernel
    `SpaceTranslator` from the tested encoder to the head's, under a head on the
    standardised space
few labels
    a head trained on the tested encoder's anchors and their labels alone
plain
    a head on the standardised space, tested on its own encoder

A row holds a matrix of accuracies, rows heads and columns encoders, for one draw and
one penalty C.  `report.py` takes each rival at the C that is best on the test rows, in
its favour; the voting model has its defaults, which were chosen on held-back training
rows of the same data.
"""

import warnings
from functools import partial

import ledger
import numpy as np
from classification import ABSOLUTE, absolute_heads, logistic, matrix, rivals
from sklearn.linear_model import LogisticRegression
from sklearn.utils.parallel import Parallel, delayed

from skinvariant import InvariantAggregator, InvariantVotingClassifier, stitch

COUNTS, MANY = (10, 30, 100, 300), 1000
N_ROWS, N_TEST = 2000, 1000
RELATIVE = (0.01, 0.1)
WANTED = ("orthogonal", "ridge", "kernel")


def accuracy(models, spaces, y_test, head, name):
    """Accuracy of the model of a head under an encoder."""
    return models[head, name].score(spaces[name][1], y_test)


def plain(heads, spaces, y_test, C, head, name):
    """Accuracy of a head on the space itself, on its own encoder; None elsewhere."""
    X_test = spaces[name][1]
    return heads[head, C].score(X_test, y_test) if head == name else None


def swap_all(fitted, spaces, anchors, y=None):
    """Rebase each fitted model to every other space."""
    given = {} if y is None else {"y": y}
    return {
        (a, b): model if a == b else model.rebase(spaces[b][0][anchors], **given)
        for a, model in fitted.items()
        for b in spaces
    }


def pooled(heads, spaces, anchors, C):
    """Stitch heads on the standardised spaces, which have no anchors of their own."""
    rows = {name: X[anchors] for name, (X, _) in spaces.items()}
    return {
        (a, b): heads[a, C]
        if a == b
        else stitch(heads[a, C], rows[b], old_anchors=rows[a])
        for a in spaces
        for b in spaces
    }


def products(spaces, y, y_test, anchors):
    """Yield method, C and accuracies of heads on a product or on one metric."""
    ready = {"anchors": anchors, "post": "standardize"}
    taught = {"anchors": anchors, "pre": "center", "post": "layer"}
    steps = {
        **{name: (step, RELATIVE) for name, step in ledger.projectors(anchors).items()},
        "product": (InvariantAggregator(**ready), RELATIVE[:1]),
        "first edition": (InvariantAggregator(**taught), (1.0,)),
    }
    if len(anchors) == MANY:  # heads on thousands of columns take minutes
        del steps["product"], steps["first edition"]
    for method, (step, strengths) in steps.items():
        seen = {}
        for a, (X, _) in spaces.items():
            fitted = step.fit(X)
            train = fitted.transform(X)
            tests = {
                b: (fitted if a == b else fitted.rebase(X_b[anchors])).transform(X_test)
                for b, (X_b, X_test) in spaces.items()
            }
            seen[a] = train, tests
        for C in strengths:
            weak = LogisticRegression(C=C, max_iter=1000)
            head = weak if method == "first edition" else logistic(C)
            scores = []
            for train, tests in seen.values():
                head.fit(train, y)
                scores.append([head.score(X_test, y_test) for X_test in tests.values()])
            yield method, C, ledger.rounded(scores)


def one_draw(heads, spaces, y, y_test, n_anchors, seed):
    """Rows of one draw of anchors."""
    warnings.simplefilter("ignore")  # of convergence, in a worker: none matters here
    anchors = ledger.draw(len(y), n_anchors, seed)
    found = [
        each
        for each in rivals(heads, spaces, y, y_test, anchors, WANTED)
        if each[0] in (*WANTED, "few labels")
    ]
    found += products(spaces, y, y_test, anchors)
    for C in RELATIVE:
        models = pooled(heads, spaces, anchors, C)
        scores = matrix(spaces, partial(accuracy, models, spaces, y_test))
        found.append(("pooled translations", C, scores))
    model = InvariantVotingClassifier(anchors=anchors)
    fitted = {
        a: InvariantVotingClassifier(**model.get_params()).fit(X, y)
        for a, (X, _) in spaces.items()
    }
    for method, labels in (("voting", None), ("voting, labels", y[anchors])):
        models = swap_all(fitted, spaces, anchors, labels)
        scores = matrix(spaces, partial(accuracy, models, spaces, y_test))
        found.append((method, None, scores))
    row = {"n_anchors": n_anchors, "seed": seed}
    return [{**row, "method": m, "C": C, "scores": scores} for m, C, scores in found]


def experiment(args):
    """Yield the rows of a data set."""
    spaces, y, y_test = ledger.fewer(N_ROWS, *ledger.spaces(args.data))
    rows = np.random.default_rng(1).permutation(len(y_test))[:N_TEST]
    spaces = {name: (X, X_test[rows]) for name, (X, X_test) in spaces.items()}
    y_test = y_test[rows]
    yield {"data": args.data, "encoders": list(spaces), "n_rows": len(y)}
    heads = absolute_heads(spaces, y)
    for C in ABSOLUTE:
        own = partial(plain, heads, spaces, y_test, C)
        yield {"method": "plain", "C": C, "scores": matrix(spaces, own)}
    counts = [20, 60] if args.quick else [*COUNTS]
    counts += [MANY] if args.many else []
    draws = [
        (n_anchors, seed)
        for n_anchors in counts
        for seed in range(min(args.seeds, 2) if n_anchors == MANY else args.seeds)
    ]
    jobs = (delayed(one_draw)(heads, spaces, y, y_test, *drawn) for drawn in draws)
    for rows in Parallel(ledger.n_jobs(args), return_as="generator")(jobs):
        yield from rows


if __name__ == "__main__":
    parser = ledger.options(__doc__)
    parser.add_argument("data", nargs="?", choices=ledger.DATA, default="trec")
    parser.add_argument("--many", action="store_true", help="1000 anchors, too")
    ledger.run("voting_{data}", experiment, parser)
