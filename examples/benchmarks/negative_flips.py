"""Negative flips of real swaps: stitched, and trained again on the new encoder.

``SKINVARIANT_DATA=folder python examples/benchmarks/negative_flips.py [n_seeds]`` reads
the embeddings of TREC, CIFAR-10 and Cora.  A negative flip is a test row that the
voting model predicts right in its own space, before the swap, and that is wrong after
it.  After the swap there is one of four models:

- "stitched", without any label of the new encoder's rows;
- "labelled", stitched with the labels of the anchors;
- "plain", a logistic regression on standardised rows, trained on all labelled rows of
  the new encoder;
- "voting", the voting model, trained on the same.

Each line holds means over all pairs of encoders and the seeds, and in how many pairs
the model has fewer negative flips than the two that are trained again.  One thread.
"""

import os
import sys
from itertools import permutations
from pathlib import Path

import numba
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from skinvariant import InvariantVotingClassifier, stitch

ARCHIVES = {
    "TREC": "trec_text_embeddings.npz",
    "CIFAR-10, lossless": "cifar10_lossless_embeddings.npz",
    "CIFAR-10, JPEG": "cifar10_jpeg_resnet_embeddings.npz",
    "Cora": "cora.npz",
}
N_ANCHORS = 100, 300
METHODS = "stitched", "labelled", "plain", "voting"


def load(path):
    """Read the spaces of an archive, as pairs of rows, and a pair of labels."""
    arrays = dict(np.load(path))
    if "edge_i" in arrays:  # a graph: rows of all nodes, and which are for what
        train = np.concatenate([arrays["train_idx"], arrays["val_idx"]])
        parts = train, arrays["test_idx"]
        spaces = {
            name[2:]: [X[rows].astype(float) for rows in parts]
            for name, X in arrays.items()
            if name.startswith("X_")
        }
        return spaces, [arrays["y"][rows] for rows in parts]
    names = [name[2:-6] for name in arrays if name[:1] == "X" and "_train" in name]
    spaces = {
        name: [arrays[f"X_{name}_{part}"].astype(float) for part in ("train", "test")]
        for name in names
    }
    return spaces, [arrays["y_train"], arrays["y_test"]]


def measure(spaces, y, n_anchors, seed, plain):
    """Return accuracies and negative flips by pair, and own accuracies by space."""
    y_train, y_test = y
    indices = np.random.default_rng(seed).permutation(len(y_train))[:n_anchors]
    models = {
        name: InvariantVotingClassifier(anchors=indices).fit(X, y_train)
        for name, (X, _) in spaces.items()
    }
    right = {name: models[name].predict(X) == y_test for name, (_, X) in spaces.items()}
    accuracies, flips = ({name: [] for name in METHODS} for _ in range(2))
    for old, new in permutations(spaces, 2):
        X, X_test = spaces[new]
        stitched, labelled = (
            stitch(models[old], X[indices], y=labels).predict(X_test) == y_test
            for labels in (None, y_train[indices])
        )
        after = stitched, labelled, plain[new], right[new]
        for name, hits in zip(METHODS, after, strict=True):
            accuracies[name].append(hits.mean())
            flips[name].append((right[old] & ~hits).mean())
    own = np.mean([hits.mean() for hits in right.values()])
    return own, accuracies, flips


def main(folder, n_seeds):
    """Print a line for each case and number of anchors."""
    print(
        f"{'case':<20}{'anchors':>8}  {'after the swap':<15}{'accuracy':>9}{'flips':>7}"
        f"{'fewer than plain':>18}{'than voting':>13}"
    )
    for case, file in ARCHIVES.items():
        spaces, y = load(folder / file)
        head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        plain = {
            name: head.fit(X, y[0]).predict(X_test) == y[1]
            for name, (X, X_test) in spaces.items()
        }
        for n_anchors in N_ANCHORS:
            runs = [measure(spaces, y, n_anchors, s, plain) for s in range(n_seeds)]
            own = np.mean([run[0] for run in runs])
            accuracies, flips = (
                {
                    name: np.mean([run[i][name] for run in runs], axis=0)
                    for name in METHODS
                }
                for i in (1, 2)
            )
            line = f"{case:<20}{n_anchors:8d}  "
            print(f"{line}{'before it':<15}{own:9.3f}")
            for name in METHODS:
                counts = [
                    f"{np.sum(flips[name] < flips[other])} of {len(flips[name])}"
                    for other in METHODS[2:]
                ]
                print(
                    f"{line}{name:<15}{accuracies[name].mean():9.3f}"
                    f"{flips[name].mean():7.3f}{counts[0]:>18}{counts[1]:>13}",
                    flush=True,
                )


if __name__ == "__main__":
    numba.set_num_threads(1)
    with threadpool_limits(1):
        main(
            Path(os.environ["SKINVARIANT_DATA"]),
            int(sys.argv[1]) if len(sys.argv) > 1 else 3,
        )
