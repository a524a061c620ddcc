"""One `stitch` against its rivals, at 30, 100 and 300 anchors, on real encoders.

``SKINVARIANT_DATA=folder python examples/benchmarks/reweight.py [n_seeds] [name ...]``
prints, for each data set and number of anchors, the stitched accuracy over all ordered
pairs of encoders, mean and worst, of the rivals: each metric alone, their
concatenation, translators between the absolute spaces, a head trained on the new
encoder's labelled anchors alone; and of ``stitch(model, anchors, reweight=True)``, for
a vote of one head per metric and for one head on the concatenation, without and with
the anchors' labels.  Below, what reweighting is ahead of the best single metric, of the
best translator and of the few-label head: mean and standard error of the paired
differences over seeds.

Heads are logistic regressions.  Rivals stand at their best value of C on the test rows,
by their stitched mean; reweighted models have C=0.1 throughout.
"""

import os
import sys
import time
from collections import defaultdict
from itertools import permutations
from pathlib import Path

import numpy as np
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinvariant import InvariantAggregator, RelativeProjector, stitch
from skinvariant.translation import SpaceTranslator

ARCHIVES = {
    "TREC": "trec_text_embeddings.npz",
    "CIFAR-10 lossless": "cifar10_lossless_embeddings.npz",
    "CIFAR-10 JPEG": "cifar10_jpeg_resnet_embeddings.npz",
    "Cora": "cora.npz",
}
METRICS = InvariantAggregator().metrics
TRANSLATORS = ("orthogonal", "linear", "ridge", "affine", "kernel")
RELATIVE, ABSOLUTE, OURS = (0.01, 0.1), (0.001, 0.01, 0.1, 1.0), 0.1
ROWS = {"train": 5452, "test": 2000}  # at most, for time: all but of CIFAR-10 JPEG


def load(path):
    """Read spaces, in float32, and labels: training and test rows."""
    arrays = np.load(path)
    if "train_idx" in arrays:
        train = np.r_[arrays["train_idx"], arrays["val_idx"]].astype(int)
        test = arrays["test_idx"].astype(int)
        spaces = {k: arrays[k].astype(np.float32) for k in arrays if k[:2] == "X_"}
        spaces = {k: (X[train], X[test]) for k, X in spaces.items()}
        y, y_test = arrays["y"][train], arrays["y"][test]
    else:
        names = [k[2:-6] for k in arrays if k[:2] == "X_" and k.endswith("_train")]
        spaces = {
            name: [
                arrays[f"X_{name}_{part}"][:n].astype(np.float32)
                for part, n in ROWS.items()
            ]
            for name in names
        }
        y, y_test = (arrays[f"y_{part}"][:n] for part, n in ROWS.items())
    return spaces, y.astype(int), y_test.astype(int)


def logistic(C):
    """A head."""
    return LogisticRegression(C=C, max_iter=300, tol=1e-3)


def relative_models(X, y, anchors, C):
    """A vote of one head per metric, and one head on the concatenation."""
    voters = [
        (metric, RelativeProjector(anchors=anchors, metric=metric, post="standardize"))
        for metric in METRICS
    ]
    voters = [(metric, make_pipeline(step, logistic(C))) for metric, step in voters]
    product = InvariantAggregator(anchors=anchors, post="standardize")
    return (
        VotingClassifier(voters, voting="soft").fit(X, y),
        make_pipeline(product, logistic(C)).fit(X, y),
    )


def pair_scores(heads, a, b, anchors, spaces, y, y_test):
    """Accuracies of every method, by name and C, for a head of `a` under `b`."""
    X_test, X_b = spaces[b][1], spaces[b][0][anchors]
    scores = {}
    for C in RELATIVE:
        vote, product = heads[a, C]
        models = {**vote.named_estimators_, "concatenation": product}
        for name, (step, head) in models.items():
            stitched = make_pipeline(step.rebase(X_b), head)
            scores[name, C] = stitched.score(X_test, y_test)
    for method in TRANSLATORS:
        translator = SpaceTranslator(method).fit(X_b, spaces[a][0][anchors])
        there = translator.transform(X_test)
        for C in ABSOLUTE:
            scores[method, C] = heads[a, "absolute", C].score(there, y_test)
    for C in ABSOLUTE:
        scores["labelled anchors", C] = heads[b, "few", C].score(X_test, y_test)
    vote, product = heads[a, OURS]
    for name, model, labels in (
        ("reweighted vote", vote, None),
        ("reweighted vote, labels", vote, y[anchors]),
        ("reweighted product", product, None),
    ):
        pool = stitch(model, X_b, reweight=True, y=labels)
        scores[name, OURS] = pool.score(X_test, y_test)
    return scores


def seed_scores(spaces, y, y_test, n_anchors, seed, absolute):
    """Stitched mean and worst of every method, by name and C."""
    anchors = np.random.default_rng(seed).permutation(len(y))[:n_anchors]
    heads = dict(absolute)
    for name, (X, _) in spaces.items():
        for C in RELATIVE:
            heads[name, C] = relative_models(X, y, anchors, C)
        for C in ABSOLUTE:
            few = make_pipeline(StandardScaler(), logistic(C))
            heads[name, "few", C] = few.fit(X[anchors], y[anchors])
    pairs = [
        pair_scores(heads, a, b, anchors, spaces, y, y_test)
        for a, b in permutations(spaces, 2)
    ]
    return {
        key: (np.mean(values), min(values))
        for key in pairs[0]
        for values in [[pair[key] for pair in pairs]]
    }


def at_best_strength(results):
    """Seeds x (mean, worst) of each method, at its best C by the mean of means."""
    methods = defaultdict(dict)
    for (name, C), values in results.items():
        methods[name][C] = np.array(values)
    return {
        name: max(by_strength.values(), key=lambda values: values[:, 0].mean())
        for name, by_strength in methods.items()
    }


def best(methods, names):
    """The rival with the best stitched mean."""
    return max(names, key=lambda name: methods[name][:, 0].mean())


def ahead(ours, rival):
    """Mean and standard error of paired differences, of mean and of worst."""
    difference = ours - rival
    error = difference.std(axis=0, ddof=1) / np.sqrt(len(difference))
    return "   ".join(
        f"{d:+.3f} ± {e:.3f}"
        for d, e in zip(difference.mean(axis=0), error, strict=True)
    )


def report(title, methods):
    """Print the table of a data set at one number of anchors."""
    print(f"\n{title}: stitched mean, worst pair")
    for name, values in methods.items():
        mean, worst = values.mean(axis=0)
        print(f"  {name:26s} {mean:.3f}  {worst:.3f}")
    rivals = [best(methods, METRICS), best(methods, TRANSLATORS)]
    for ours in [name for name in methods if name.startswith("reweighted")]:
        for rival in (*rivals, *["labelled anchors"] * ours.endswith("labels")):
            print(f"  {ours} - {rival}: {ahead(methods[ours], methods[rival])}")
    sys.stdout.flush()


def main(n_seeds, names):
    """Print every table."""
    for name in names:
        start = time.perf_counter()
        path = Path(os.environ["SKINVARIANT_DATA"]) / ARCHIVES[name]
        spaces, y, y_test = load(path)
        absolute = {
            (space, "absolute", C): make_pipeline(StandardScaler(), logistic(C)).fit(
                X, y
            )
            for space, (X, _) in spaces.items()
            for C in ABSOLUTE
        }
        for n_anchors in (30, 100, 300):
            results = defaultdict(list)
            for seed in range(n_seeds):
                scores = seed_scores(spaces, y, y_test, n_anchors, seed, absolute)
                for key, value in scores.items():
                    results[key].append(value)
            report(f"{name}, {n_anchors} anchors", at_best_strength(results))
        print(f"  {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5, sys.argv[2:] or list(ARCHIVES))
