"""Write the files that later versions must be able to read.

``python tests/bundles/make.py`` at each release, and never again for the same version:
the test of `skinvariant.persistence` reads all that are here.
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import skinvariant
from skinvariant import InvariantAggregator, RelativeProjector, stitch
from skinvariant.heads import InvariantClassifier
from skinvariant.persistence import save

HERE = Path(__file__).parent


def models(X, y):
    """Return a small model of each kind, by name."""
    how = {"n_anchors": 12, "random_state": 0, "post": "standardize"}
    product = make_pipeline(
        InvariantAggregator(pre="center", **how), LogisticRegression(max_iter=1000)
    ).fit(X, y)
    voters = [
        (metric, make_pipeline(RelativeProjector(metric=metric, **how), each))
        for metric in ("cosine", "manhattan")
        for each in [LogisticRegression(max_iter=1000)]
    ]
    vote = VotingClassifier(voters, voting="soft").fit(X, y)
    anchors = X[:, ::-1][vote.estimators_[0][0].anchor_indices_]
    head = InvariantClassifier(12, max_epochs=3, aggregation="weighted", random_state=0)
    return {
        "product": product,
        "head": head.fit(X.astype(np.float32), y),
        "pool": stitch(vote, anchors, reweight=True),
    }


def main():
    """Write each model, and what it says of some rows."""
    X, y = load_digits(return_X_y=True)
    rows = X[1700:1710]
    for name, model in models(X[:300, :], y[:300]).items():
        path = HERE / f"{name}-{skinvariant.__version__}.skops"
        save(model, path)
        given = rows.astype(np.float32) if name == "head" else rows
        np.savetxt(path.with_suffix(".csv"), model.predict_proba(given), fmt="%.9g")
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
