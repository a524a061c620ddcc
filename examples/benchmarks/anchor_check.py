"""How often `stitch` doubts anchors, right ones and wrong ones, on real encoders.

``SKINVARIANT_DATA=folder python examples/benchmarks/anchor_check.py [n_draws]`` draws
anchors at random, for every ordered pair of encoders of every data set, and prints the
share of draws with p > 0.01 in `skinvariant.comparison.mantel_test`: of right anchors
(false alarms), and of wrong ones (detections): in random order, shifted by one, half of
them in random order, and those of another data set.
"""

import os
import sys
from itertools import permutations
from pathlib import Path

import numpy as np

from skinvariant.comparison import mantel_test

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
    """Anchors as they should be, and as they should not."""
    half = np.arange(len(X_b))
    half[::2] = rng.permutation(half[::2])
    return {
        "right": (X_a, X_b),
        "shuffled": (X_a, X_b[rng.permutation(len(X_b))]),
        "shifted by one": (X_a, np.roll(X_b, 1, axis=0)),
        "half shuffled": (X_a, X_b[half]),
        "another data set": (X_a, X_other),
    }


def main(n_draws):
    """Print the table."""
    folder = Path(os.environ["SKINVARIANT_DATA"])
    spaces = {name: load(folder / archive) for name, archive in ARCHIVES.items()}
    rng = np.random.default_rng(0)
    for number, (name, encoders) in enumerate(spaces.items()):
        others = spaces[list(spaces)[number - 1]]
        for n_anchors in (10, 20, 30, 100, 300):
            doubted = {}
            for a, b in permutations(range(len(encoders)), 2):
                for _ in range(n_draws):
                    rows = rng.permutation(len(encoders[a]))[:n_anchors]
                    other = others[b % len(others)]
                    other = other[rng.permutation(len(other))[:n_anchors]]
                    pair = encoders[a][rows], encoders[b][rows], other
                    for case, (X_a, X_b) in cases(*pair, rng).items():
                        p_value = mantel_test(X_a, X_b)[1]
                        doubted.setdefault(case, []).append(p_value > 0.01)
            shares = (f"{case} {np.mean(found):.3f}" for case, found in doubted.items())
            print(f"{name:18s} {n_anchors:4d} anchors: ", ", ".join(shares), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
