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
anchor-weighted
    one head per metric, and one on the space as it is, which is heard behind
    translations; all as the anchors tell, ``stitch(..., reweight=True)``
anchor-weighted, four metrics
    the same of the first four metrics alone
anchor-weighted, labels
    all of it, told the anchors' labels
orthogonal, linear, ridge, affine, kernel
    `SpaceTranslator` from the tested encoder to the head's, under an absolute head
few labels
    a head trained on the tested encoder's anchors and their labels alone

Each row holds a matrix of accuracies, rows heads and columns encoders, for one draw of
anchors, and one strength C of the heads (null where they are not linear).  `report.py`
takes each method at the C that is best on the test rows, in its favour; but the pools
have one C, 0.3, which was chosen on held-back training rows, as were their members.

To stay within 20 minutes, and two hours for all data: 5,500 training rows at most, and
with 1280 anchors TREC and CIFAR-10 alone, three draws, of the metrics, the pool and its
rivals.
"""

import warnings
from functools import partial

import ledger
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
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
ABSOLUTE, RELATIVE = (0.001, 0.01, 0.1, 1.0), (0.01, 0.3)
POOLED = 0.3
MANY, N_ROWS = {"trec": 1280, "cifar10": 1280}, 5500


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
            absolute(C).fit(X[anchors], y[anchors]).score(X_test, y_test)
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


def product_models(anchors, C):
    """Models over the product, by name, to fit on each space."""
    return {
        name: make_pipeline(
            InvariantAggregator(anchors=anchors, post="standardize", aggregation=name),
            logistic(C),
        )
        for name in AGGREGATIONS
    }


def learned_models(anchors, seed):
    """Models that learn how to join the metrics, by name."""
    from skinvariant.heads import InvariantClassifier

    how = {"anchors": anchors, "max_epochs": 15, "random_state": seed}
    return {name: InvariantClassifier(aggregation=name, **how) for name in LEARNED}


def vote(X, y, anchors, C=POOLED):
    """Fit a head for each metric, and one on the space as it is.

    The anchors need not be rows of X.
    """
    voters = []
    for metric, params in ledger.SINGLE.items():
        step = RelativeProjector(
            anchors="all", metric=metric, metric_params=params, post="standardize"
        )
        step = FrozenEstimator(step.fit(anchors))
        voters.append((metric, make_pipeline(step, logistic(C))))
    voters.append(("absolute", absolute(C)))
    return VotingClassifier(voters, voting="soft").fit(X, y)


def of_four(vote, X, y):
    """Make a vote of the heads that see the four metrics, as they are."""
    voters = [(m, FrozenEstimator(vote.named_estimators_[m])) for m in METRICS]
    return VotingClassifier(voters, voting="soft").fit(X, y)


def relative(spaces, y, y_test, anchors, seed, whole):
    """Yield method, C and accuracies of each metric and the pool.

    The whole: of each aggregation, and of other pools, as well.
    """
    score = partial(stitched, spaces, y_test, anchors)
    models = {}
    for C in RELATIVE:
        votes = {a: vote(X, y, X[anchors], C) for a, (X, _) in spaces.items()}
        for metric in ledger.SINGLE:
            heads = {a: each.named_estimators_[metric] for a, each in votes.items()}
            yield metric, C, matrix(spaces, partial(score, {}, heads))
        if C == POOLED:
            yield from pools(votes, spaces, y, y_test, anchors, whole)
        if whole:
            models |= {(m, C): model for m, model in product_models(anchors, C).items()}
    if whole:
        learned = learned_models(anchors, seed)
        models |= {(m, None): model for m, model in learned.items()}
    for (method, C), model in models.items():
        heads = {a: clone(model).fit(X, y) for a, (X, _) in spaces.items()}
        yield method, C, matrix(spaces, partial(score, {}, heads))


def pools(votes, spaces, y, y_test, anchors, whole):
    """Yield method, C and accuracies of votes that are heard as the anchors tell."""
    score, told = partial(stitched, spaces, y_test, anchors), {"reweight": True}
    yield "anchor-weighted", POOLED, matrix(spaces, partial(score, told, votes))
    if whole:
        four = {a: of_four(votes[a], X, y) for a, (X, _) in spaces.items()}
        scores = matrix(spaces, partial(score, told, four))
        yield "anchor-weighted, four metrics", POOLED, scores
        scores = matrix(spaces, partial(score, told | {"y": y[anchors]}, votes))
        yield "anchor-weighted, labels", POOLED, scores


def one_draw(heads, spaces, y, y_test, n_anchors, seed, whole):
    """Rows of one draw of anchors."""
    warnings.simplefilter("ignore")  # of convergence, in a worker: none matters here
    anchors = ledger.draw(len(y), n_anchors, seed)
    found = [
        *rivals(heads, spaces, y, y_test, anchors),
        *relative(spaces, y, y_test, anchors, seed, whole),
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
    draws = [(60 if args.quick else 300, seed, True) for seed in range(args.seeds)]
    if args.data in MANY:  # first: what takes longest
        many = [(MANY[args.data], seed, False) for seed in range(min(args.seeds, 3))]
        draws = many + draws
    jobs = (delayed(one_draw)(heads, spaces, y, y_test, *drawn) for drawn in draws)
    jobs = Parallel(ledger.n_jobs(args), return_as="generator")(jobs)
    for rows in jobs:
        yield from rows


if __name__ == "__main__":
    parser = ledger.options(__doc__)
    parser.add_argument("data", nargs="?", choices=ledger.DATA, default="trec")
    ledger.run("classification_{data}", experiment, parser)
