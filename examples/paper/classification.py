"""Zero-shot stitching, classification: every head under every encoder.

``python examples/paper/classification.py data``, data being one of trec, trec_fine,
cifar10, cifar10_jpeg, cora, mnist, fashion_mnist (all but the last two need
``SKINVARIANT_DATA``: so do these, for their images).

A logistic regression is trained on the training rows of each encoder, seen through each
method, and tested on the test rows of every encoder:

absolute
    the space as it is, swapped where the widths match; "retrained" is the same head
    trained on the tested encoder
cosine, euclidean, manhattan, chebyshev
    `RelativeProjector`
concat, sum, mean
    `InvariantAggregator` of these four
weighted, mlp_sum, attention
    `InvariantClassifier`, which learns the aggregation, in 15 epochs, not 40
anchor-weighted
    one head per metric, heard as the anchors tell, ``stitch(..., reweight=True)``
orthogonal, linear, ridge, affine, kernel
    `SpaceTranslator` from the tested encoder to the head's, under an absolute head
few labels
    a head trained on the tested encoder's anchors and their labels alone

Each row holds a matrix of accuracies, rows heads and columns encoders, for one draw of
anchors, and one strength C of the heads.  `report.py` takes the rivals, which are the
translations and few labels, at the C that is best on the test rows, and all that is
relative at one C.

To stay within 20 minutes: with 1280 anchors TREC and CIFAR-10 alone, three draws, and
no learned aggregation.
"""

import warnings
from functools import partial

import ledger
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.parallel import Parallel, delayed

from skinvariant import InvariantAggregator, RelativeProjector, stitch
from skinvariant.translation import SpaceTranslator

METRICS = ledger.METRICS
AGGREGATIONS = ("concat", "sum", "mean")
LEARNED = ("weighted", "mlp_sum", "attention")
TRANSLATORS = ("orthogonal", "linear", "ridge", "affine", "kernel")
RELATIVE, ABSOLUTE = 0.03, (0.001, 0.01, 0.1, 1.0)
MANY = {"trec": 1280, "cifar10": 1280}


def logistic(C):
    """Make the head."""
    return LogisticRegression(C=C, max_iter=300, tol=1e-3)


def matrix(spaces, score):
    """Fill a table, rows heads and columns encoders, rounded; None stays."""
    table = [[score(head, name) for name in spaces] for head in spaces]
    return [[x if x is None else round(float(x), 4) for x in row] for row in table]


def absolute_heads(spaces, y):
    """Fit a head on each space as it is, for each strength."""
    return {
        (name, C): make_pipeline(StandardScaler(), logistic(C)).fit(X, y)
        for name, (X, _) in spaces.items()
        for C in ABSOLUTE
    }


def swapped(heads, spaces, y_test, C, head, name):
    """Accuracy of an absolute head on a space as it is; None if its width differs."""
    X_test = spaces[name][1]
    fits = X_test.shape[1] == spaces[head][1].shape[1]
    return heads[head, C].score(X_test, y_test) if fits else None


def rivals(heads, spaces, y, y_test, anchors):
    """Yield method, C and accuracies of translations, and of few labels."""
    for method in TRANSLATORS:
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
            make_pipeline(StandardScaler(), logistic(C))
            .fit(X[anchors], y[anchors])
            .score(X_test, y_test)
            for X, X_test in spaces.values()
        ]
        yield "few labels", C, ledger.rounded([few] * len(spaces))


def translated(heads, seen, y_test, C, head, name):
    """Accuracy of an absolute head on rows translated into its space."""
    return heads[head, C].score(seen[head, name], y_test)


def stitched(spaces, y_test, anchors, options, models, head, name):
    """Accuracy of a fitted head under an encoder."""
    X, X_test = spaces[name]
    model = models[head]
    if head != name:
        model = stitch(model, X[anchors], **options)
    return model.score(X_test, y_test)


def product_models(anchors, seed, learned):
    """Models over the product, by name, to fit on each space."""
    models = {
        name: make_pipeline(
            InvariantAggregator(anchors=anchors, post="standardize", aggregation=name),
            logistic(RELATIVE),
        )
        for name in AGGREGATIONS
    }
    if learned:
        from skinvariant.heads import InvariantClassifier

        for name in LEARNED:
            models[name] = InvariantClassifier(
                anchors=anchors, aggregation=name, max_epochs=15, random_state=seed
            )
    return models


def relative(spaces, y, y_test, anchors, seed, learned):
    """Yield method and accuracies of each metric, aggregation, and of the pool."""
    votes = {}
    for name, (X, _) in spaces.items():
        voters = []
        for metric in METRICS:
            step = RelativeProjector(anchors=anchors, metric=metric, post="standardize")
            voters.append((metric, make_pipeline(step, logistic(RELATIVE))))
        votes[name] = VotingClassifier(voters, voting="soft").fit(X, y)
    score = partial(stitched, spaces, y_test, anchors)
    for metric in METRICS:
        heads = {name: vote.named_estimators_[metric] for name, vote in votes.items()}
        yield metric, matrix(spaces, partial(score, {}, heads))
    for method, model in product_models(anchors, seed, learned).items():
        heads = {name: clone(model).fit(X, y) for name, (X, _) in spaces.items()}
        yield method, matrix(spaces, partial(score, {}, heads))
    yield "anchor-weighted", matrix(spaces, partial(score, {"reweight": True}, votes))


def one_draw(heads, spaces, y, y_test, n_anchors, seed, learned):
    """Rows of one draw of anchors."""
    warnings.simplefilter("ignore")  # of convergence, in a worker: none matters here
    anchors = ledger.draw(len(y), n_anchors, seed)
    row = {"n_anchors": n_anchors, "seed": seed}
    return [
        {**row, "method": method, "C": C, "scores": scores}
        for method, C, scores in rivals(heads, spaces, y, y_test, anchors)
    ] + [
        {**row, "method": method, "C": RELATIVE, "scores": scores}
        for method, scores in relative(spaces, y, y_test, anchors, seed, learned)
    ]


def experiment(args):
    """Yield the rows of a data set."""
    spaces, y, y_test = ledger.spaces(args.data)
    yield {"data": args.data, "encoders": list(spaces), "n_rows": len(y)}
    heads = absolute_heads(spaces, y)
    for C in ABSOLUTE:
        score = partial(swapped, heads, spaces, y_test, C)
        yield {"method": "absolute", "C": C, "scores": matrix(spaces, score)}
    draws = [(60 if args.quick else 300, seed, True) for seed in range(args.seeds)]
    if args.data in MANY:
        draws += [(MANY[args.data], seed, False) for seed in range(min(args.seeds, 3))]
    jobs = (delayed(one_draw)(heads, spaces, y, y_test, *drawn) for drawn in draws)
    jobs = Parallel(ledger.n_jobs(args), return_as="generator")(jobs)
    for rows in jobs:
        yield from rows


if __name__ == "__main__":
    parser = ledger.options(__doc__)
    parser.add_argument("data", nargs="?", choices=ledger.DATA, default="trec")
    ledger.run("classification_{data}", experiment, parser)
