"""How well `encoder_test` and `EncoderGuard` find wrong rows, on real encoders.

``SKINVARIANT_DATA=folder python examples/benchmarks/guard.py [n_trials [plants.npz]]``
prints the share of trials with p <= 0.01, 300 anchors of the training rows, 50 rows:

- of the right encoder, other training rows (false alarms) and test rows (which may
  have drifted);
- of every other encoder of the same width;
- of planted faults, if a file of them is given: arrays ``encoder/right`` and
  ``encoder/fault``, the same samples in the same order, 100 rows;

and of the guard the reports per 1,000 batches, and the rows until the first report.
"""

import os
import sys
import warnings
from pathlib import Path

import numpy as np

from skinvariant import EncoderGuard
from skinvariant.comparison import encoder_test

ARCHIVES = {
    "TREC": "trec_text_embeddings.npz",
    "CIFAR-10": "cifar10_lossless_embeddings.npz",
    "Cora": "cora.npz",
}
LEVEL = 0.01


def load(path):
    """Training and test rows of every encoder; of Cora two random halves."""
    arrays = np.load(path)
    spaces = {}
    for key in arrays:
        if key.startswith("X_gcn"):
            rows = np.random.default_rng(0).permutation(arrays[key].astype(np.float32))
            spaces[key[2:]] = np.split(rows, 2)
        elif key.startswith("X_") and key.endswith("_train"):
            parts = key, key.replace("_train", "_test")
            spaces[key[2:-6]] = [arrays[part].astype(np.float32) for part in parts]
    return spaces


def share_found(anchors, rows, n_trials, n_rows, rng, *, disjoint=False):
    """Share of trials in which rows are found to be of another encoder."""
    found = []
    for _ in range(n_trials):
        order = rng.permutation(len(anchors))
        n_anchors = min(300, len(anchors) // 2)
        chosen = (
            order[n_anchors:][:n_rows]
            if disjoint
            else rng.permutation(len(rows))[:n_rows]
        )
        test = encoder_test(anchors[order[:n_anchors]], rows[chosen])
        found.append(test.p_value <= LEVEL)
    return np.mean(found)


def reports(guard, rows, size, n_batches, rng):
    """Number of batches reported, and rows until the first report."""
    n_reported, first = 0, np.inf
    for number in range(n_batches):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            guard.transform(rows[rng.integers(0, len(rows), size)])
        if caught:
            n_reported += 1
            first = min(first, (number + 1) * size)
    return n_reported, first


def main(n_trials, plants=None):
    """Print the tables."""
    folder, rng = Path(os.environ["SKINVARIANT_DATA"]), np.random.default_rng(0)
    for data, archive in ARCHIVES.items():
        spaces = load(folder / archive)
        for name, (train, test) in spaces.items():
            right = share_found(train, train, n_trials, 50, rng, disjoint=True)
            drift = share_found(train, test, n_trials, 50, rng)
            others = [
                share_found(train, rows, max(n_trials // 4, 1), 50, rng)
                for other, (_, rows) in spaces.items()
                if other != name and rows.shape[1] == train.shape[1]
            ]
            wrong = f"{np.mean(others):.2f}" if others else "-"
            print(
                f"{data:9s} {name:18s} right {right:.3f}  test rows {drift:.3f}  "
                f"other encoders {wrong}",
                flush=True,
            )
            half = len(train) // 2
            for size, n_batches in ((1, 1000), (8, 500), (32, 250), (100, 250)):
                guard = EncoderGuard(random_state=0).fit(train[:half])
                own = reports(guard, train[half:], size, n_batches, rng)[0]
                drifted = reports(guard.reset(), test, size, n_batches, rng)[0]
                until = [
                    reports(guard.reset(), rows, size, 100, rng)[1]
                    for other, (_, rows) in spaces.items()
                    if other != name and rows.shape[1] == train.shape[1]
                ]
                print(
                    f"    guard, batches of {size:3d}, per 1,000: right "
                    f"{own * 1000 / n_batches:5.1f}, test rows "
                    f"{drifted * 1000 / n_batches:6.1f}; rows until a report, "
                    f"other encoders, at most: {max(until, default='-')}",
                    flush=True,
                )
    if plants is None:
        return
    arrays = np.load(plants)
    for key in arrays:
        name, _, fault = key.partition("/")
        if not fault:
            continue
        n_rows = 600 if name == "lite0" else 1500
        right = arrays[f"{name}/right"][:n_rows]
        rows = arrays[key][:n_rows]
        found = []
        for _ in range(n_trials):
            order = rng.permutation(n_rows)
            result = encoder_test(right[order[:300]], rows[order[300:400]])
            found.append((result.p_value <= LEVEL, result.norms))
        shown = next((norms for _, norms in found if norms), "")
        share = np.mean([one for one, _ in found])
        print(f"{key:32s} {share:.2f}  {shown}", flush=True)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    main(count, *sys.argv[2:3])
