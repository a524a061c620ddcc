"""Calibration after a swap: how far confidence is from accuracy, before and after it.

``SKINVARIANT_DATA=folder python examples/benchmarks/calibration.py [--cases cora ...]
[--seeds n] [--heads logistic ...]`` fits the voting model on each encoder, stitches it
to each other one by 30, 100 and 300 anchors, without labels and with them, and prints
for the test rows

- the expected calibration error (15 bins of equal width of the highest probability) of
  the model in its own space, and of the stitched one, unscaled and scaled: the mean
  over all pairs of encoders and draws of anchors.  "unscaled" has the weights before
  they are multiplied by the inverse temperature;
- its ratio to the own one, of the means, and of the worst pair;
- the mean log loss and Brier score of all three.

With some hundred test rows the error of a perfectly calibrated model is not 0 but about
0.03, in both spaces.  The case "trec split" draws the test rows from all rows, since
those of TREC come from another source than its training rows.
"""

import argparse
import os
from pathlib import Path
from unittest.mock import patch

import numpy as np
from scipy.special import softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import brier_score_loss, log_loss
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC

from skinvariant import InvariantVotingClassifier

ARCHIVES = {
    "cora": "cora.npz",
    "trec": "trec_text_embeddings.npz",
    "trec fine": "trec_text_embeddings.npz",
    "cifar10": "cifar10_lossless_embeddings.npz",
    "cifar10 jpeg": "cifar10_jpeg_resnet_embeddings.npz",
    "trec split": "trec_text_embeddings.npz",
}
HEADS = {
    "logistic": None,
    "forest": RandomForestClassifier(100, min_samples_leaf=3, random_state=0),
    "svc": CalibratedClassifierCV(LinearSVC(C=0.01), cv=3),
    "knn": KNeighborsClassifier(15),
}
N_ANCHORS = (30, 100, 300)


def load(case):
    """Return (training rows, test rows) of each encoder, and the labels of both."""
    arrays = np.load(Path(os.environ["SKINVARIANT_DATA"]) / ARCHIVES[case])
    if case == "cora":
        rows = np.r_[arrays["train_idx"], arrays["val_idx"]], arrays["test_idx"]
        names = [key[2:] for key in arrays if key.startswith("X_")]
        everything = {name: arrays[f"X_{name}"] for name in names}
        y = arrays["y"]
    else:
        label = "y_fine" if "fine" in case else "y"
        names = [
            key[2:-6] for key in arrays if key[:2] == "X_" and key[-6:] == "_train"
        ]
        parts = ("train", "test")
        everything = {
            name: np.concatenate([arrays[f"X_{name}_{part}"] for part in parts])
            for name in names
        }
        y = np.concatenate([arrays[f"{label}_{part}"] for part in parts])
        order = np.arange(len(y))
        n_train = len(arrays["y_train"])
        if "split" in case:
            order = np.random.default_rng(7).permutation(len(y))
            n_train = len(y) - 1400
        rows = order[:n_train], order[n_train:]
    spaces = {
        name: [X[part].astype(np.float64) for part in rows]
        for name, X in everything.items()
    }
    return spaces, *(y[part].astype(int) for part in rows)


def calibration_error(proba, codes, n_bins=15):
    """Return the expected calibration error of the most probable class."""
    confidence, is_right = proba.max(axis=1), proba.argmax(axis=1) == codes
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = np.bincount(bins, is_right - confidence, minlength=n_bins)
    return np.abs(gaps).sum() / len(codes)


def scores(proba, codes):
    """Return the calibration error, log loss and Brier score."""
    classes = np.arange(proba.shape[1])
    return (
        calibration_error(proba, codes),
        log_loss(codes, proba, labels=classes),
        brier_score_loss(codes, proba, labels=classes, scale_by_half=False),
    )


def stitched_scores(model, anchors, X, codes, y):
    """Return the scores of a stitched model, unscaled and scaled, and its scale."""
    new = model.rebase(anchors, y)
    with patch("skinvariant.voting._SCALE_ALPHA", 1e100):
        unscaled = sum(model.rebase(anchors, y).weights_.values())
    scale = sum(new.weights_.values()) / unscaled if unscaled else 1.0
    logs = new.predict_log_proba(X)
    before = softmax(logs / scale, axis=1)
    assert np.array_equal(before.argmax(axis=1), logs.argmax(axis=1))
    return *scores(before, codes), *scores(np.exp(logs), codes), scale


def measure(case, head, n_seeds):
    """Print one row for each number of anchors, without labels and with them."""
    spaces, y, y_test = load(case)
    for n_anchors in N_ANCHORS:
        found = {False: [], True: []}
        for seed in range(n_seeds):
            indices = np.random.default_rng(100 + seed).permutation(len(y))[:n_anchors]
            for own, (X, X_test) in spaces.items():
                model = InvariantVotingClassifier(head, anchors=indices).fit(X, y)
                codes = np.searchsorted(model.classes_, y_test)
                before = scores(model.predict_proba(X_test), codes)
                for name, (other, other_test) in spaces.items():
                    for labelled in found if name != own else ():
                        labels, rows = y[indices] if labelled else None, other[indices]
                        found[labelled].append(
                            before
                            + stitched_scores(model, rows, other_test, codes, labels)
                        )
        for labelled, values in found.items():
            values = np.array(values)
            errors, logs, briers = (values[:, k:9:3].mean(axis=0) for k in range(3))
            ratios = values[:, 3:9:3] / values[:, [0]]
            print(
                f"{case:16s}{n_anchors:4d}{'labels' if labelled else '':>7s}",
                *(f"{error:6.3f}" for error in errors),
                " ratio",
                *(f"{error / errors[0]:5.2f}" for error in errors[1:]),
                " worst",
                *(f"{ratio:4.1f}" for ratio in ratios.max(axis=0)),
                " log loss",
                *(f"{value:.3f}" for value in logs),
                " Brier",
                *(f"{value:.3f}" for value in briers),
                f" scale {values[:, 9].mean():.2f}",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=ARCHIVES, default=ARCHIVES)
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=["logistic"])
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    for head in given.heads:
        print(f"{head}: each triple is own, unscaled, scaled", flush=True)
        for case in given.cases:
            measure(case, HEADS[head], given.seeds)
