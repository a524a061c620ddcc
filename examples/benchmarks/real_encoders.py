"""Stitch a logistic regression over real encoders: encoder x encoder accuracies.

``SKINVARIANT_DATA=folder python examples/benchmarks/real_encoders.py [n_seeds]`` reads
TREC and CIFAR-10 embeddings from ``trec_text_embeddings.npz`` and
``cifar10_lossless_embeddings.npz``: arrays ``X_<encoder>_train``, ``X_<encoder>_test``,
``y_train``, ``y_test``.  300 anchors, the same rows for every encoder and method; rows
of a matrix are the encoder that the head was trained on.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinvariant import InvariantAggregator, RelativeProjector, stitch

ARCHIVES = {
    "TREC": "trec_text_embeddings.npz",
    "CIFAR-10, lossless": "cifar10_lossless_embeddings.npz",
}


def methods(indices):
    """Every projecting step, with the inverse regularisation C of the head on it."""
    metrics = InvariantAggregator().metrics
    # rebase fits a StandardScaler anew, and keeps what is any other transformer
    scalers = {
        "standardized": "standardize",
        "standardized as in the head's space": make_pipeline(StandardScaler()),
    }
    single = {
        metric: (RelativeProjector(anchors=indices, metric=metric, post="layer"), 0.01)
        for metric in metrics
    }
    return {
        "cosine, no post": (RelativeProjector(anchors=indices), 1.0),
        **single,
        "product": (InvariantAggregator(anchors=indices), 0.01),
        "product, centred": (InvariantAggregator(anchors=indices, pre="center"), 0.01),
        **{
            f"{metric}, {how}": (
                RelativeProjector(anchors=indices, metric=metric, post=post),
                0.01,
            )
            for metric in ("cosine", "euclidean")
            for how, post in scalers.items()
        },
        "product, standardized": (
            InvariantAggregator(anchors=indices, post="standardize"),
            0.01,
        ),
    }


def head(C):
    """A logistic regression on standardised columns."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=2000))


def load(path):
    """Read the spaces, in float64, and labels of an archive."""
    arrays = np.load(path)
    names = [key[2:-6] for key in arrays if key.endswith("_train") and key[0] == "X"]
    spaces = {
        name: [arrays[f"X_{name}_{part}"].astype(float) for part in ("train", "test")]
        for name in names
    }
    return spaces, arrays["y_train"], arrays["y_test"]


def stitched_matrix(step, spaces, y_train, y_test, C):
    """Accuracies of heads trained on each space and stitched to every one."""
    rows = []
    for X_train, _ in spaces.values():
        model = make_pipeline(step, head(C)).fit(X_train, y_train)
        indices = step.anchor_indices_
        rows.append(
            [
                stitch(model, other[indices]).score(X_test, y_test)
                for other, X_test in spaces.values()
            ]
        )
    return np.array(rows)


def absolute_matrix(spaces, y_train, y_test):
    """The same without anchors, where widths match; NaN elsewhere."""
    rows = []
    for X_train, _ in spaces.values():
        model = head(1.0).fit(X_train, y_train)
        same = [X.shape[1] == X_train.shape[1] for _, X in spaces.values()]
        rows.append(
            [
                model.score(X, y_test) if fits else np.nan
                for fits, (_, X) in zip(same, spaces.values(), strict=True)
            ]
        )
    return np.array(rows)


def report(title, matrix, names):
    """Print a matrix and its summary: own, stitched, worst, index."""
    off = matrix[~np.eye(len(names), dtype=bool)]
    off = off[~np.isnan(off)]
    own = np.diag(matrix).mean()
    print(f"\n{title}")
    for name, row in zip(names, matrix, strict=True):
        print(f"  {name:16s}", *(f"{value:6.3f}" for value in row))
    if off.size:
        stitched, worst, index = off.mean(), off.min(), off.mean() / own
        print(f"  {own=:.3f}, {stitched=:.3f}, {worst=:.3f}, {index=:.3f}")


def main(n_seeds):
    """Print every matrix of every data set."""
    folder = Path(os.environ["SKINVARIANT_DATA"])
    for data, archive in ARCHIVES.items():
        spaces, y_train, y_test = load(folder / archive)
        report(f"{data}: absolute", absolute_matrix(spaces, y_train, y_test), spaces)
        for name in methods(None):
            start = time.perf_counter()
            matrices = []
            for seed in range(n_seeds):
                order = np.random.default_rng(seed).permutation(len(y_train))
                step, C = methods(order[:300])[name]
                matrices.append(stitched_matrix(step, spaces, y_train, y_test, C))
            title = f"{data}: {name}, {C=}, {n_seeds} seeds"
            report(title, np.mean(matrices, axis=0), spaces)
            print(f"  {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
