"""Stitch models over real encoders: encoder x encoder accuracies of each method.

``SKINVARIANT_DATA=folder python examples/benchmarks/real_encoders.py [n_seeds]`` reads
TREC and CIFAR-10 embeddings from ``trec_text_embeddings.npz`` and
``cifar10_lossless_embeddings.npz``: arrays ``X_<encoder>_train``, ``X_<encoder>_test``,
``y_train``, ``y_test``.  300 anchors, the same rows for every encoder and method; rows
of a matrix are the encoder that the model was trained on.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinvariant import (
    InvariantAggregator,
    InvariantVotingClassifier,
    RelativeProjector,
    select_anchors,
    stitch,
)
from skinvariant.translation import SpaceTranslator

ARCHIVES = {
    "TREC": "trec_text_embeddings.npz",
    "CIFAR-10, lossless": "cifar10_lossless_embeddings.npz",
}


def relative_models(indices):
    """Return the voting model, and heads on single relative spaces and products."""
    metrics = InvariantAggregator().metrics
    # rebase fits a StandardScaler again, and keeps what is any other transformer
    kept = make_pipeline(StandardScaler())
    steps = {
        "cosine, no post": (RelativeProjector(anchors=indices), 1.0),
        **{
            metric: (projector(indices, metric=metric, post="standardize"), 0.01)
            for metric in metrics
        },
        **{
            f"{metric}, scaled as in the head's space": (
                projector(indices, metric=metric, post=kept),
                0.01,
            )
            for metric in ("cosine", "euclidean")
        },
        "product": (InvariantAggregator(anchors=indices), 0.01),
        "product, centred": (InvariantAggregator(anchors=indices, pre="center"), 0.01),
        "product, layer": (InvariantAggregator(anchors=indices, post="layer"), 0.01),
    }
    vote = InvariantVotingClassifier(anchors=indices)
    return {"voting": vote} | {
        f"{name}, {C=}": make_pipeline(step, head(C))
        for name, (step, C) in steps.items()
    }


def projector(indices, **params):
    """Return a projector on given anchors."""
    return RelativeProjector(anchors=indices, **params)


def head(C):
    """Return a logistic regression on standardised columns."""
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


def stitched_matrix(model, spaces, y_train, y_test):
    """Return accuracies of a model trained on each space and stitched to the others."""
    rows = []
    for own, (X_train, _) in spaces.items():
        model.fit(X_train, y_train)
        rows.append([])
        for name, (other, X_test) in spaces.items():
            swapped = model
            if name != own:
                swapped = stitch(model, select_anchors(model, other))
            rows[-1].append(swapped.score(X_test, y_test))
    return np.array(rows)


def absolute_matrices(spaces, y_train, y_test, draws):
    """Return those of heads on the embeddings: untouched, and behind translations.

    Untouched, NaN where the widths differ.
    """
    untouched, translated = [], []
    for own, (X_train, _) in spaces.items():
        model = head(0.1).fit(X_train, y_train)
        untouched.append([])
        translated.append([])
        for name, (other, X_test) in spaces.items():
            fits = X_test.shape[1] == X_train.shape[1]
            untouched[-1].append(model.score(X_test, y_test) if fits else np.nan)
            scores = [
                model.score(translator.transform(X_test), y_test)
                for translator in (
                    SpaceTranslator("ridge").fit(other[indices], X_train[indices])
                    for indices in draws
                    if name != own
                )
            ]
            translated[-1].append(np.mean(scores) if scores else untouched[-1][-1])
    return np.array(untouched), np.array(translated)


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
        print(f"  {own=:.3f}, {stitched=:.3f}, {worst=:.3f}, {index=:.3f}", flush=True)


def main(n_seeds):
    """Print every matrix of every data set."""
    folder = Path(os.environ["SKINVARIANT_DATA"])
    for data, archive in ARCHIVES.items():
        spaces, y_train, y_test = load(folder / archive)
        draws = [
            np.random.default_rng(seed).permutation(len(y_train))[:300]
            for seed in range(n_seeds)
        ]
        for name in relative_models(None):
            start = time.perf_counter()
            matrices = [
                stitched_matrix(relative_models(indices)[name], spaces, y_train, y_test)
                for indices in draws
            ]
            title = f"{data}: {name}, {n_seeds} seeds"
            report(title, np.mean(matrices, axis=0), spaces)
            print(f"  {time.perf_counter() - start:.0f} s", flush=True)
        untouched, translated = absolute_matrices(spaces, y_train, y_test, draws)
        report(f"{data}: head on the embeddings, untouched", untouched, spaces)
        title = f"{data}: the same behind a ridge translation, {n_seeds} seeds"
        report(title, translated, spaces)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
