"""Write the files that later versions must be able to read.

``python tests/bundles/make.py`` at each release, and never again for a version that was
released: the tests of `skinvariant.persistence` read all files that are here.
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import skinvariant
from skinvariant import InvariantAggregator, InvariantVotingClassifier
from skinvariant.heads import InvariantClassifier
from skinvariant.persistence import save

HERE = Path(__file__).parent


def models(X, y):
    """Return a small model of each kind, by name."""
    how = {"n_anchors": 12, "random_state": 0}
    product = make_pipeline(
        InvariantAggregator(pre="center", **how), LogisticRegression(max_iter=1000)
    ).fit(X, y)
    head = InvariantClassifier(max_epochs=3, aggregation="weighted", **how)
    voting = InvariantVotingClassifier(**how).fit(X, y)
    anchors = voting.anchor_indices_
    return {
        "head": head.fit(X.astype(np.float32), y),
        "product": product,
        "voting": voting.rebase(X[anchors, ::-1], y[anchors]),
    }


def main():
    """Write each model, and what it predicts for some rows."""
    X, y = load_digits(return_X_y=True)
    rows = X[1700:1710]
    for name, model in models(X[:300], y[:300]).items():
        path = HERE / f"{name}-{skinvariant.__version__}.skops"
        save(model, path)
        given = rows.astype(np.float32) if name == "head" else rows
        np.savetxt(path.with_suffix(".csv"), model.predict_proba(given), fmt="%.9g")
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
