"""Diagnose pairs of real encoders, and compare with a full search by labels.

``SKINVARIANT_DATA=folder python examples/benchmarks/diagnosis.py [test|dev] [head]
[seed]`` reads TREC, CIFAR-10 (lossless and JPEG) and Cora from the archives below.
"dev" tests on training rows that were held back.  The head is "ridge" (a
RidgeClassifier, fast) or "logistic" (C=0.01), on the relative spaces as they are.

For every ordered pair of encoders a head is trained on one and stitched to the other,
for every metric, `pre` and `post` and three products.  The mean accuracy of the choices
that `diagnose` recommends, without labels, is printed beside that of the best fixed
choice and of the best choice per pair, both of which know the test labels.
"""

import os
import sys
import time
from itertools import permutations, product
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeClassifier

from skinvariant import InvariantAggregator, RelativeProjector
from skinvariant.diagnosis import diagnose

ARCHIVES = {
    "TREC": "trec_text_embeddings.npz",
    "CIFAR-10, lossless": "cifar10_lossless_embeddings.npz",
    "CIFAR-10, JPEG": "cifar10_jpeg_resnet_embeddings.npz",
    "Cora": "cora.npz",
}
HEADS = {
    "ridge": RidgeClassifier(alpha=300),
    "logistic": LogisticRegression(C=0.01, max_iter=300, tol=1e-3),
}
METRICS = ("cosine", "euclidean", "manhattan", "chebyshev")
PRODUCTS = (("cosine", "euclidean"), ("cosine", "euclidean", "manhattan"), METRICS)
PRE = (None, "center", "standardize", "whiten")
POST = ("layer", "standardize")
N_ANCHORS, N_MORE, N_TRAIN = 300, 1000, 3000


def load(path, part, seed):
    """Return spaces, labels, and rows to diagnose, to train and to test on."""
    arrays = np.load(path)
    rng = np.random.default_rng(seed)
    names = [name for name in arrays if name.startswith("X_")]
    if "train_idx" in arrays:  # one graph: all its nodes are there without labels
        spaces = {name[2:]: arrays[name].astype(np.float32) for name in names}
        train = np.concatenate([arrays["train_idx"], arrays["val_idx"]])
        given, test = rng.permutation(len(arrays["y"])), arrays["test_idx"]
        labels = arrays["y"]
    else:
        n = len(arrays["y_train"])
        given = rng.permutation(n)[: N_TRAIN + 1000]
        labels = arrays["y_train"][given]
        spaces = {
            name[2:-6]: arrays[name][given].astype(np.float32)
            for name in names
            if name.endswith("_train")
        }
        if part == "test":
            labels = np.concatenate([labels[:N_TRAIN], arrays["y_test"]])
            for name, X in spaces.items():
                rest = arrays[f"X_{name}_test"].astype(np.float32)
                spaces[name] = np.concatenate([X[:N_TRAIN], rest])
        given = train = np.arange(N_TRAIN)
        test = np.arange(N_TRAIN, len(labels))
    return spaces, labels, given[: N_ANCHORS + N_MORE], train, test


def relative_spaces(X, anchors):
    """Return every relative space of a space, by metric, pre and post."""
    relative = {}
    for metric, pre in product(METRICS, PRE):
        projector = RelativeProjector(anchors=anchors, metric=metric, pre=pre)
        plain = projector.fit(X).transform(X)
        own = plain[anchors]
        for post, axis, values in (("layer", 1, plain), ("standardize", 0, own)):
            centre = values.mean(axis=axis, keepdims=True)
            spread = values.std(axis=axis, keepdims=True)
            relative[metric, pre, post] = (plain - centre) / spread
    return relative


def join(relative, choice):
    """Return the relative space of a choice, a product side by side."""
    metrics, pre, post = choice
    return np.hstack([relative[metric, pre, post] for metric in metrics])


def search(relative, labels, train, test, head):
    """Return stitched accuracies by pair of encoders and choice."""
    singles = [(metric,) for metric in METRICS]
    accuracy = {}
    for choice in product([*singles, *PRODUCTS], PRE, POST):
        for a, own in relative.items():
            model = head.fit(join(own, choice)[train], labels[train])
            for b, other in relative.items():
                score = model.score(join(other, choice)[test], labels[test])
                accuracy[a, b, choice] = score
    return accuracy


def recommended(spaces, rows, seed):
    """Return the recommended choice and the class of the map, by pair of encoders."""
    choices = {}
    for a, b in permutations(spaces, 2):
        diagnosis = diagnose(
            spaces[a][rows],
            spaces[b][rows],
            n_anchors=N_ANCHORS,
            random_state=seed,
            n_jobs=2,
        )
        found = diagnosis.recommended
        choice = (tuple(found.metrics), found.pre, found.post)
        explained = diagnosis.transformations[diagnosis.transformation]
        choices[a, b] = choice, diagnosis.transformation, explained
    return choices


def report(data, accuracy, choices):
    """Print one data set: the pairs, and the means over them."""
    every = sorted({choice for _, _, choice in accuracy}, key=str)
    means = {
        choice: np.mean([accuracy[a, b, choice] for a, b in choices])
        for choice in every
    }
    best = max(means, key=means.get)
    default = InvariantAggregator()
    print(f"\n{data}: old encoder, new encoder, map, explained, stitched, best, choice")
    picked, ceiling = [], []
    for (a, b), (choice, transformation, explained) in choices.items():
        own, most = (
            accuracy[a, b, choice],
            max(accuracy[a, b, other] for other in every),
        )
        picked.append(own)
        ceiling.append(most)
        print(
            f"  {a:18s} {b:18s} {transformation:30s} {explained:6.2f} {own:.3f} "
            f"{most:.3f} {choice}"
        )
    print(
        f"{data}: recommended {np.mean(picked):.3f}, best fixed {means[best]:.3f} "
        f"{best}, best per pair {np.mean(ceiling):.3f}, median fixed "
        f"{np.median(list(means.values())):.3f}, default "
        f"{means[default.metrics, default.pre, default.post]:.3f}",
        flush=True,
    )


def main(part="test", head="ridge", seed="0"):
    """Print every data set of the folder."""
    folder, seed = Path(os.environ["SKINVARIANT_DATA"]), int(seed)
    print(f"{part} rows, head {HEADS[head]}, {seed=}")
    for data, archive in ARCHIVES.items():
        start = time.perf_counter()
        spaces, labels, rows, train, test = load(folder / archive, part, seed)
        if part == "dev" and data not in list(ARCHIVES)[:2]:
            continue
        choices = recommended(spaces, rows, seed)
        relative = {
            name: relative_spaces(X, rows[:N_ANCHORS]) for name, X in spaces.items()
        }
        accuracy = search(relative, labels, train, test, HEADS[head])
        report(data, accuracy, choices)
        print(f"  {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
