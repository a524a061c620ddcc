"""Anchors: how many, chosen how, from where?

``python examples/paper/anchor_sets.py number`` stitches TREC and CIFAR-10 with 10 to
2000 random anchors: each metric, and what one might do instead with the same anchors:
translate the new space (orthogonal, ridge, kernel up to 1000), or train on the anchors'
labels.  Where do the curves cross?  From 1000 anchors on with three draws, for time.
The voting model has a script of its own, ``recommended.py``.

``... strategy`` chooses 30 and 300 anchors at random, stratified by class, by
k-means and as the farthest from each other, the last two in the head's space.  The
deviation over seeds is that of the draw, and of the start.

``... elsewhere`` takes the 300 anchors from other data: the encoders of CIFAR-10 see
JPEG images, whose rows no head was trained on and whose classes nobody looks at; and
heads of the JPEG images have anchors of the lossless ones.  The encoders are the four
ResNets that have seen both.

Heads are logistic regressions on 2,500 training rows, with C=0.3; those on few labels
with one that suits these.
"""

import warnings
from itertools import permutations

import ledger
from classification import absolute, logistic, matrix
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.utils.parallel import Parallel, delayed

from skinvariant import RelativeProjector, stitch
from skinvariant.anchors import choose_anchors
from skinvariant.translation import SpaceTranslator

FEW = 0.01  # strength of the heads on few labels, the best one for TREC
N_ROWS, MOST_FOR_KERNEL, STRENGTH = 2500, 1000, 0.3
NUMBERS = (10, 30, 100, 300, 1000, 2000)
STRATEGIES = ("random", "stratified", "kmeans", "farthest")


def metric_heads(anchors):
    """Make a head for each metric; the anchors need not be rows of the heads."""
    return {
        metric: make_pipeline(
            FrozenEstimator(
                RelativeProjector(
                    anchors="all",
                    metric=metric,
                    metric_params=params,
                    post="standardize",
                ).fit(anchors)
            ),
            logistic(STRENGTH),
        )
        for metric, params in ledger.SINGLE.items()
    }


def accuracies(spaces, y, y_test, seen, labels=None, translate=False):
    """Yield method and table: of each metric, and of what needs no relation.

    Parameters
    ----------
    spaces : dict
        Training and test rows, by encoder.
    y, y_test : ndarray
        Labels of these.
    seen : callable
        Takes the head's encoder and another, and returns the anchors as this one sees
        them.
    labels : ndarray, default=None
        Of the anchors, for a head trained on these alone.
    translate : bool, default=False
        Whether to translate as well.
    """
    warnings.simplefilter("ignore")  # of few anchors, in a worker
    heads = {
        a: {name: head.fit(X, y) for name, head in metric_heads(seen(a, a)).items()}
        for a, (X, _) in spaces.items()
    }
    plain = {a: absolute(STRENGTH).fit(X, y) for a, (X, _) in spaces.items()}
    pairs, first = list(permutations(spaces, 2)), next(iter(spaces))
    n_anchors = len(seen(first, first))

    def table(own, stitched):
        """Score the models of encoders, and those of pairs of head and encoder."""
        models = stitched | {(a, a): model for a, model in own.items()}
        return matrix(spaces, lambda a, b: models[a, b].score(spaces[b][1], y_test))

    for metric in ledger.SINGLE:
        own = {a: each[metric] for a, each in heads.items()}
        yield metric, table(own, {(a, b): stitch(own[a], seen(a, b)) for a, b in pairs})
    methods = ["orthogonal", "ridge"] if translate else []
    methods += ["kernel"] if translate and n_anchors <= MOST_FOR_KERNEL else []
    for method in methods:
        translated = {}
        for a, b in pairs:
            step = SpaceTranslator(method).fit(seen(a, b), seen(a, a))
            translated[a, b] = make_pipeline(step, plain[a])
        yield method, table(plain, translated)
    if labels is not None:
        few = {b: absolute(FEW).fit(seen(first, b), labels) for b in spaces}
        yield "few labels", table(few, {(a, b): few[b] for a, b in pairs})


def one_number(spaces, y, y_test, n_anchors, seed):
    """Rows of one number of random anchors."""
    anchors = ledger.draw(len(y), n_anchors, seed)

    def seen(a, b):
        return spaces[b][0][anchors]

    tables = accuracies(spaces, y, y_test, seen, y[anchors], translate=True)
    row = {"n_anchors": n_anchors, "seed": seed}
    return [{**row, "method": method, "scores": scores} for method, scores in tables]


def one_strategy(spaces, y, y_test, strategy, n_anchors, seed):
    """Rows of one way to choose anchors."""
    chosen = {
        a: choose_anchors(strategy, X, y, n_anchors, random_state=seed)
        for a, (X, _) in spaces.items()
    }

    def seen(a, b):
        return spaces[b][0][chosen[a]]

    row = {"strategy": strategy, "n_anchors": n_anchors, "seed": seed}
    tables = accuracies(spaces, y, y_test, seen)
    return [{**row, "method": method, "scores": scores} for method, scores in tables]


def one_place(here, there, same, n_anchors, seed):
    """Rows of heads of one data set, with the anchors of this or of another."""
    spaces, y, y_test = here
    others = spaces if same else there[0]
    anchors = ledger.draw(len(y if same else there[1]), n_anchors, seed)

    def seen(a, b):
        return others[b][0][anchors]

    row = {"anchors": "same data" if same else "other data", "seed": seed}
    tables = accuracies(spaces, y, y_test, seen, translate=True)
    return [{**row, "method": method, "scores": scores} for method, scores in tables]


def jobs_of(args):
    """Yield data, and the jobs on it."""
    if args.part == "elsewhere":
        names = ["digits", "digits"] if args.quick else ["cifar10", "cifar10_jpeg"]
        n_anchors = 60 if args.quick else 300
        both = [ledger.fewer(N_ROWS, *ledger.spaces(name)) for name in names]
        shared = set(both[0][0]) & set(both[1][0])
        for spaces, _, _ in both:
            for name in set(spaces) - shared:
                del spaces[name]
        for name, here, there in zip(names, both, both[::-1], strict=True):
            yield (
                name,
                here,
                [
                    delayed(one_place)(here, there, same, n_anchors, seed)
                    for same in (True, False)
                    for seed in range(args.seeds)
                ],
            )
        return
    for data in ["digits"] if args.quick else ["trec", "cifar10"]:
        drawn = ledger.fewer(N_ROWS, *ledger.spaces(data))
        if args.part == "number":
            numbers = (20, 60) if args.quick else NUMBERS
            cases = [(one_number, n) for n in numbers]
        else:
            numbers = (30,) if args.quick else (30, 300)
            cases = [(one_strategy, s, n) for s in STRATEGIES for n in numbers]
        jobs = [
            delayed(case)(*drawn, *rest, seed)
            for case, *rest in cases
            for seed in range(min(args.seeds, 3) if rest[-1] >= 1000 else args.seeds)
        ]
        yield data, drawn, jobs


def experiment(args):
    """Yield accuracies by data, choice of anchors, method and seed."""
    for data, (spaces, _, _), jobs in jobs_of(args):
        yield {"data": data, "encoders": list(spaces)}
        for rows in Parallel(ledger.n_jobs(args), return_as="generator")(jobs):
            yield from ({"data": data, **row} for row in rows)


if __name__ == "__main__":
    parser = ledger.options(__doc__)
    parser.add_argument("part", choices=("number", "strategy", "elsewhere"))
    ledger.run("anchor_sets_{part}", experiment, parser)
