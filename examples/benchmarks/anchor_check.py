"""How often `stitch` warns of anchors, right ones and wrong ones, on real encoders.

``SKINVARIANT_DATA=folder python examples/benchmarks/anchor_check.py [n_draws]`` draws
anchors at random, for every pair of encoders of every data set, and prints the share of
draws in which `skinvariant.comparison.mismatched_rows` finds some: among right anchors
(false alarms) and among wrong ones (detections): all, half or a tenth of them in an
order without one in its place, shifted by one, and those of another data set.  The last
column is the share of right ones among those that it names, where a tenth is wrong.
"""

import os
import sys
from itertools import combinations
from pathlib import Path

import numpy as np

from skinvariant.comparison import mismatched_rows

ARCHIVES = {
    "TREC": "trec_text_embeddings.npz",
    "CIFAR-10 lossless": "cifar10_lossless_embeddings.npz",
    "CIFAR-10 JPEG": "cifar10_jpeg_resnet_embeddings.npz",
    "Cora": "cora.npz",
}


def load(path):
    """Training rows of every encoder, in the order of the file."""
    arrays = np.load(path)
    names = [name for name in arrays if name[:2] == "X_" and name[-5:] != "_test"]
    return [arrays[name].astype(np.float32) for name in names]


def cases(X_a, X_b, X_other, rng):
    """Anchors as they should be, and as they should not, and which are wrong."""
    n_anchors = len(X_b)
    spaces, wrong = {"right": X_b}, {}
    for name, share in (("all wrong", 1.0), ("half", 0.5), ("a tenth", 0.1)):
        wrong[name] = rng.permutation(n_anchors)[: max(2, round(share * n_anchors))]
        order = np.arange(n_anchors)
        order[wrong[name]] = np.roll(wrong[name], 1)
        spaces[name] = X_b[order]
    spaces["shifted by one"] = np.roll(X_b, 1, axis=0)
    spaces["other data"] = X_other
    return {name: (X_a, X) for name, X in spaces.items()}, wrong["a tenth"]


def main(n_draws):
    """Print the table."""
    folder = Path(os.environ["SKINVARIANT_DATA"])
    spaces = {name: load(folder / archive) for name, archive in ARCHIVES.items()}
    rng = np.random.default_rng(0)
    for number, (name, encoders) in enumerate(spaces.items()):
        others = spaces[list(spaces)[number - 1]]
        for n_anchors in (20, 30, 100, 300, 1000):
            alarms, named = {}, []
            for a, b in combinations(range(len(encoders)), 2):
                for _ in range(n_draws if n_anchors <= 300 else max(1, n_draws // 10)):
                    rows = rng.permutation(len(encoders[a]))[:n_anchors]
                    other = others[b % len(others)]
                    other = other[rng.permutation(len(other))[:n_anchors]]
                    anchors, wrong = cases(
                        encoders[a][rows], encoders[b][rows], other, rng
                    )
                    for case, pair in anchors.items():
                        found = mismatched_rows(*pair)
                        alarms.setdefault(case, []).append(len(found) > 0)
                        if case == "a tenth":
                            named += np.isin(found, wrong).tolist()
            shares = (f"{case} {np.mean(found):.3f}" for case, found in alarms.items())
            right = f"{np.mean(named):.2f}" if named else "-"
            print(f"{name:18s} {n_anchors:4d}: ", ", ".join(shares), right, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
