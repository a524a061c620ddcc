"""Zero-shot stitching, classification: every head under every encoder.

``python examples/paper/classification.py data``, data being one of trec, trec_fine,
cifar10, cifar10_jpeg, cora, mnist, fashion_mnist (all but the last two need
``SKINVARIANT_DATA``: so do these, for their images).

A logistic regression is trained on the training rows of each encoder, seen through each
method, and tested on the test rows of every encoder:

absolute
    the space as it is, swapped where the widths match; "retrained" is the same head
    trained on the tested encoder
cosine, euclidean, manhattan, chebyshev, change_of_basis
    `RelativeProjector`
concat, sum, mean
    `InvariantAggregator` of the first four
weighted, mlp_sum, attention
    `InvariantClassifier`, which learns the aggregation, in 15 epochs, not 40
orthogonal, linear, ridge, affine, kernel
    `SpaceTranslator` from the tested encoder to the head's, under an absolute head
few labels
    a head trained on the tested encoder's anchors and their labels alone

Each row holds a matrix of accuracies, rows heads and columns encoders, for one draw of
anchors, and one strength C of the heads (null where they are not linear).  `report.py`
takes each method at the C that is best on the test rows, in its favour.  The voting
model has a script of its own, ``recommended.py``.

To stay within 20 minutes, and two hours for all data: 5,500 training rows at most, and
with 1280 anchors TREC and CIFAR-10 alone, three draws, of the metrics and their rivals.
"""

import warnings
from functools import partial

import ledger
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.parallel import Parallel, delayed

from skinvariant import InvariantAggregator, stitch
from skinvariant.translation import SpaceTranslator

METRICS = ledger.METRICS
AGGREGATIONS = ("concat", "sum", "mean")
LEARNED = ("weighted", "mlp_sum", "attention")
TRANSLATORS = ("orthogonal", "linear", "ridge", "affine", "kernel")
ABSOLUTE, RELATIVE = (0.001, 0.01, 0.1, 1.0), (0.01, 0.3)
MANY, N_ROWS, EPOCHS = {"trec": 1280, "cifar10": 1280}, 5500, 15


def logistic(C):
    """Make the head."""
    return LogisticRegression(C=C, max_iter=300, tol=1e-3)


def absolute(C):
    """Make a head on a space as it is."""
    return make_pipeline(StandardScaler(), logistic(C))


def matrix(spaces, score):
    """Fill a table, rows heads and columns encoders, rounded; None stays."""
    table = [[score(head, name) for name in spaces] for head in spaces]
    return [[x if x is None else round(float(x), 4) for x in row] for row in table]


def absolute_heads(spaces, y):
    """Fit a head on each space as it is, for each strength."""
    return {
        (name, C): absolute(C).fit(X, y)
        for name, (X, _) in spaces.items()
        for C in ABSOLUTE
    }


def swapped(heads, spaces, y_test, C, head, name):
    """Accuracy of an absolute head on a space as it is; None if its width differs."""
    X_test = spaces[name][1]
    fits = X_test.shape[1] == spaces[head][1].shape[1]
    return heads[head, C].score(X_test, y_test) if fits else None


def rivals(heads, spaces, y, y_test, anchors, translators=TRANSLATORS):
    """Yield method, C and accuracies of translations, and of few labels."""
    for method in translators:
        seen = {}
        for head, (X, _) in spaces.items():
            for name, (X_new, X_test) in spaces.items():
                if head != name:
                    translator = SpaceTranslator(method).fit(X_new[anchors], X[anchors])
                    X_test = translator.transform(X_test)
                seen[head, name] = X_test
        for C in ABSOLUTE:
            score = partial(translated, heads, seen, y_test, C)
            yield method, C, matrix(spaces, score)
    for C in ABSOLUTE:
        few = [
            absolute(C).fit(X[anchors], y[anchors]).score(X_test, y_test)
            for X, X_test in spaces.values()
        ]
        yield "few labels", C, ledger.rounded([few] * len(spaces))


def translated(heads, seen, y_test, C, head, name):
    """Accuracy of an absolute head on rows translated into its space."""
    return heads[head, C].score(seen[head, name], y_test)


def stitched(spaces, y_test, anchors, models, head, name):
    """Accuracy of a fitted head under an encoder."""
    X, X_test = spaces[name]
    model = models[head]
    if head != name:
        model = stitch(model, X[anchors])
    return model.score(X_test, y_test)


def product_models(anchors, C):
    """Models over the product, by name, to fit on each space."""
    return {
        name: make_pipeline(
            InvariantAggregator(anchors=anchors, post="standardize", aggregation=name),
            logistic(C),
        )
        for name in AGGREGATIONS
    }


def learned_models(anchors, seed, n_epochs):
    """Models that learn how to join the metrics, by name."""
    from skinvariant.heads import InvariantClassifier

    how = {"anchors": anchors, "max_epochs": n_epochs, "random_state": seed}
    return {name: InvariantClassifier(aggregation=name, **how) for name in LEARNED}


def metric_models(anchors, C):
    """Models over one metric each, by name, to fit on each space."""
    return {
        name: make_pipeline(step, logistic(C))
        for name, step in ledger.projectors(anchors).items()
        if name != "product"
    }


def relative(spaces, y, y_test, anchors, seed, n_epochs):
    """Yield method, C, accuracies: of metrics; with epochs: of aggregations, too."""
    models = {}
    for C in RELATIVE:
        ready = metric_models(anchors, C)
        ready |= product_models(anchors, C) if n_epochs else {}
        models |= {(name, C): model for name, model in ready.items()}
    if n_epochs:
        learned = learned_models(anchors, seed, n_epochs)
        models |= {(m, None): model for m, model in learned.items()}
    score = partial(stitched, spaces, y_test, anchors)
    for (method, C), model in models.items():
        heads = {a: clone(model).fit(X, y) for a, (X, _) in spaces.items()}
        yield method, C, matrix(spaces, partial(score, heads))


def one_draw(heads, spaces, y, y_test, n_anchors, seed, n_epochs):
    """Rows of one draw of anchors."""
    warnings.simplefilter("ignore")  # of convergence, in a worker: none matters here
    anchors = ledger.draw(len(y), n_anchors, seed)
    found = [
        *rivals(heads, spaces, y, y_test, anchors),
        *relative(spaces, y, y_test, anchors, seed, n_epochs),
    ]
    row = {"n_anchors": n_anchors, "seed": seed}
    return [{**row, "method": m, "C": C, "scores": scores} for m, C, scores in found]


def experiment(args):
    """Yield the rows of a data set."""
    spaces, y, y_test = ledger.fewer(N_ROWS, *ledger.spaces(args.data))
    yield {"data": args.data, "encoders": list(spaces), "n_rows": len(y)}
    heads = absolute_heads(spaces, y)
    for C in ABSOLUTE:
        score = partial(swapped, heads, spaces, y_test, C)
        yield {"method": "absolute", "C": C, "scores": matrix(spaces, score)}
    n_anchors, n_epochs = (60, 5) if args.quick else (300, EPOCHS)
    draws = [(n_anchors, seed, n_epochs) for seed in range(args.seeds)]
    if args.data in MANY:  # first: what takes longest
        many = [(MANY[args.data], seed, 0) for seed in range(min(args.seeds, 3))]
        draws = many + draws
    jobs = (delayed(one_draw)(heads, spaces, y, y_test, *drawn) for drawn in draws)
    jobs = Parallel(ledger.n_jobs(args), return_as="generator")(jobs)
    for rows in jobs:
        yield from rows


if __name__ == "__main__":
    parser = ledger.options(__doc__)
    parser.add_argument("data", nargs="?", choices=ledger.DATA, default="trec")
    ledger.run("classification_{data}", experiment, parser)
