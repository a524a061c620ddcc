"""Anchors that are means of rows, against anchors that are rows.

``SKINVARIANT_DATA=folder python examples/benchmarks/weighted_anchors.py [n_draws]``
reads the embeddings of TREC, CIFAR-10 and Cora.  The mean of some rows of the old space
is carried over to the new one as the mean of the same samples' rows there.  The voting
model is fitted on 1,000 training rows of the old space (Cora: 640), and is stitched
with 30, 100 or 300 anchors:

- "random" and "kmeans", rows;
- "means of 3" and "means of 10", of the rows nearest to each k-means centre.  They need
  more rows of the new space: "random, as many" are as many random rows as "means of 10"
  needs;
- "smoothed", the rows of "random", each replaced by the mean of the 3 nearest of them.

Each line holds stitched accuracies on test rows, which are used for nothing else.
One thread.
"""

import os
import sys
from pathlib import Path

import numba
import numpy as np
from negative_flips import ARCHIVES, load
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from skinvariant import InvariantVotingClassifier
from skinvariant.anchors import kmeans_anchors

PAIRS = {
    "TREC": [("minilm_l6", "mpnet"), ("use_m3", "minilm_l6"), ("mpnet", "glove50")],
    "CIFAR-10, lossless": [
        ("resnet56", "resnet20"),
        ("efficientnet_lite0", "resnet44"),
        ("resnet20", "efficientnet_lite0"),
    ],
    "Cora": [("gcn64_s0", "gcn128_s3"), ("gcn64_s1", "gcn64_s2")],
}
N_ROWS = 1000


def nearest(X, centres, n_neighbors):
    """Return the rows nearest to each centre, of shape (n_centres, n_neighbors)."""
    found = NearestNeighbors(n_neighbors=min(n_neighbors, len(X))).fit(X)
    return found.kneighbors(centres, return_distance=False)


def choices(X, n_anchors, draw):
    """Return the rows whose means are anchors, of shape (n_anchors, n_rows)."""
    order = np.random.default_rng(draw).permutation(len(X))
    rows = order[:n_anchors]
    central = kmeans_anchors(X, n_anchors=n_anchors, random_state=draw)
    kmeans = KMeans(n_anchors, init=X[central], n_init=1, max_iter=20).fit(X)
    means = {f"means of {n}": nearest(X, kmeans.cluster_centers_, n) for n in (3, 10)}
    n_needed = len(np.unique(means["means of 10"]))
    return {
        "random": rows[:, None],
        "kmeans": central[:, None],
        **means,
        "random, as many": order[:n_needed, None],
        "smoothed": rows[nearest(X[rows], X[rows], 3)],
    }


def main(folder, n_draws):
    """Print a line for each pair of encoders and number of anchors, then means."""
    records = {}
    for n_anchors in (30, 100, 300):
        for case, pairs in PAIRS.items():
            spaces, (y_train, y_test) = load(folder / ARCHIVES[case])
            for old, new in pairs:
                X_old, X_new = (spaces[name][0][:N_ROWS] for name in (old, new))
                scores = {}
                for draw in range(n_draws):
                    for name, rows in choices(X_old, n_anchors, draw).items():
                        model = InvariantVotingClassifier(anchors=X_old[rows].mean(1))
                        stitched = model.fit(X_old, y_train[:N_ROWS]).rebase(
                            X_new[rows].mean(1)
                        )
                        score = stitched.score(spaces[new][1], y_test)
                        scores.setdefault(name, []).append(score)
                scores = {name: np.mean(values) for name, values in scores.items()}
                records.setdefault(n_anchors, []).append([*scores.values()])
                values = ", ".join(f"{name} {v:.3f}" for name, v in scores.items())
                print(f"{case}, {old} {new}, {n_anchors}: {values}", flush=True)
        print(f"mean, {n_anchors}:", np.mean(records[n_anchors], axis=0).round(3))


if __name__ == "__main__":
    numba.set_num_threads(1)
    with threadpool_limits(1):
        main(
            Path(os.environ["SKINVARIANT_DATA"]),
            int(sys.argv[1]) if len(sys.argv) > 1 else 2,
        )
