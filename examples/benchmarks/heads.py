"""Neural heads over real encoders: the product against its metrics, and its options.

``SKINVARIANT_DATA=folder python examples/benchmarks/heads.py test [n_seeds]`` prints,
for each data set, own accuracy, stitched mean and stitched worst (of all pairs of
encoders) for the voting model, and for each metric alone and the product under the same
neural head.  Mean and standard deviation over draws of 300 anchors, which are the same
rows for every encoder.

``... heads.py options [n_seeds]`` holds back a part of the training rows instead of
looking at test rows, and changes one option of `InvariantClassifier` at a time: the
defaults were chosen by it.
"""

import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed

from skinvariant import InvariantVotingClassifier, nn
from skinvariant.heads import InvariantClassifier

METRICS = InvariantClassifier().metrics
ARCHIVES = {
    "TREC": "trec_text_embeddings.npz",
    "CIFAR-10 lossless": "cifar10_lossless_embeddings.npz",
    "CIFAR-10 JPEG": "cifar10_jpeg_resnet_embeddings.npz",
    "Cora": "cora.npz",
}
# rows to train on and to look at, of those for training
HELD_BACK = {
    "TREC": (4000, 1452),
    "CIFAR-10 lossless": (3000, 1000),
    "CIFAR-10 JPEG": (3000, 2000),
}


class Smoothed(InvariantClassifier):
    """The same with label smoothing."""

    _loss = torch.nn.CrossEntropyLoss(reduction="none", label_smoothing=0.1)


class AnchorDropout(nn.MLPSum):
    """The same with whole anchors left out, in training."""

    def _map(self, spaces):
        return super()._map(torch.nn.functional.dropout1d(spaces.mT, 0.3).mT)


class WithoutAnchors(InvariantClassifier):
    """A head whose anchors are dropped."""

    def _build(self, *args):
        nn.AGGREGATIONS["mlp_sum"] = AnchorDropout
        try:
            super()._build(*args)
        finally:
            nn.AGGREGATIONS["mlp_sum"] = nn.MLPSum


TEST = {
    "voting model": InvariantVotingClassifier(),
    **{metric: InvariantClassifier(metrics=(metric,)) for metric in METRICS},
    "mean": InvariantClassifier(aggregation="mean"),
    "weighted": InvariantClassifier(aggregation="weighted"),
    "attention": InvariantClassifier(aggregation="attention"),
    "mlp_sum": InvariantClassifier(),
}
OPTIONS = {
    "the defaults": InvariantClassifier(),
    "weight_decay=0.01": InvariantClassifier(weight_decay=0.01),
    "weight_decay=3": InvariantClassifier(weight_decay=3.0),
    "space_dropout=0": InvariantClassifier(space_dropout=0),
    "space_dropout=0.7": InvariantClassifier(space_dropout=0.7),
    "noise=0": InvariantClassifier(noise=0),
    "noise=1": InvariantClassifier(noise=1.0),
    "dropout=0.5": InvariantClassifier(dropout=0.5),
    "dropout of anchors, 0.3": WithoutAnchors(),
    "label smoothing, 0.1": Smoothed(),
    "reweight=0": InvariantClassifier(reweight=0),
    "reweight=0, space_dropout=0, noise=0": InvariantClassifier(
        reweight=0, space_dropout=0, noise=0
    ),
    "post='layer'": InvariantClassifier(post="layer"),
    "aggregation='mean'": InvariantClassifier(aggregation="mean"),
}


def load(folder, data, held_back):
    """Read spaces in float32 (rows to fit, and to see), labels and weights."""
    arrays = np.load(folder / ARCHIVES[data])
    if data == "Cora":  # all nodes may be anchors, 640 have labels
        names = [name for name in arrays if name.startswith("X_")]
        labelled = np.r_[arrays["train_idx"], arrays["val_idx"]]
        seen = np.setdiff1d(np.arange(len(arrays["y"])), labelled)
        seen = (
            np.setdiff1d(seen, arrays["test_idx"]) if held_back else arrays["test_idx"]
        )
        spaces = {name: [arrays[name]] * 2 for name in names}
        y_fit = y_seen = arrays["y"]
        fit, weights = (
            slice(None),
            np.isin(np.arange(len(y_fit)), labelled).astype(float),
        )
    else:
        ends = "_train", "_train" if held_back else "_test"
        names = [n[2:-6] for n in arrays if n[0] == "X" and n.endswith("_train")]
        spaces = {name: [arrays[f"X_{name}{end}"] for end in ends] for name in names}
        y_fit, y_seen = (arrays[f"y{end}"] for end in ends)
        fit = seen = slice(None)
        if held_back:
            n_fit, n_seen = HELD_BACK[data]
            order = np.random.default_rng(7).permutation(len(y_fit))
            fit, seen = order[:n_fit], order[n_fit : n_fit + n_seen]
        weights = np.ones(len(y_fit[fit]))
    spaces = {
        name: (X[fit].astype(np.float32), X_seen[seen].astype(np.float32))
        for name, (X, X_seen) in spaces.items()
    }
    return spaces, y_fit[fit], weights, y_seen[seen]


def accuracies(head, seed, spaces, y, weights, y_seen):
    """Own accuracy, mean and worst of the stitched ones, for one draw of anchors."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # workers do not inherit the filters
    anchors = np.random.default_rng(seed).permutation(len(y))[:300]
    rows = []
    for X, _ in spaces.values():
        head.set_params(anchors=anchors, random_state=seed)
        head.fit(X, y, sample_weight=weights)
        stitched = [
            head if other is X else head.rebase(other[anchors])
            for other, _ in spaces.values()
        ]
        pairs = zip(stitched, spaces.values(), strict=True)
        rows.append([model.score(X_seen, y_seen) for model, (_, X_seen) in pairs])
    matrix = np.array(rows)
    off = matrix[~np.eye(len(matrix), dtype=bool)]
    return np.diag(matrix).mean(), off.mean(), off.min()


def described(values):
    """Mean and standard deviation of own, stitched and worst."""
    columns = zip(values.mean(axis=0), values.std(axis=0, ddof=1), strict=True)
    return "   ".join(f"{mean:6.3f} ± {spread:.3f}" for mean, spread in columns)


def main(what, n_seeds):
    """Print a table for each data set."""
    folder = Path(os.environ["SKINVARIANT_DATA"])
    heads = TEST if what == "test" else OPTIONS
    for data in ARCHIVES:
        start = time.perf_counter()
        rows = load(folder, data, held_back=what != "test")
        print(f"\n{data}: {n_seeds} draws\n{'':38s}own              stitched", end="")
        print("         worst", flush=True)
        tasks = [
            delayed(accuracies)(head, seed, *rows)
            for head in heads.values()
            for seed in range(n_seeds)
        ]
        results = np.array(Parallel(n_jobs=2)(tasks)).reshape(len(heads), n_seeds, 3)
        results = dict(zip(heads, results, strict=True))
        for name, values in results.items():
            print(f"{name:36s}{described(values)}", flush=True)
        if what == "test":
            best = max(METRICS, key=lambda metric: results[metric][:, 1].mean())
            gap = described(results["mlp_sum"] - results[best])
            print(f"{'mlp_sum - ' + best:36s}{gap}")
        print(f"{time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5)
