"""
How many anchors, and which method?
===================================

Anchors cost something: each must be encoded by the old encoder and the new one, and
some rivals of stitching want their labels.  With few anchors relative spaces do best,
with many a translation catches up.  Where do the curves cross?
"""

# %%
# Two encoders, and a vote of one head per metric
# -----------------------------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from skinvariant import RelativeProjector
from skinvariant.plotting import AnchorCurveDisplay
from skinvariant.stitching import cross_stitch

threadpool_limits(1)  # the matrices are small: more threads would wait for each other
images, digits = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(
    images / 16, digits, test_size=1 / 3, stratify=digits, random_state=0
)

# %%
# One encoder sees the pixels, the other only every second one, by its square root; a
# third sees random mixtures, without what is below zero.

random = np.random.default_rng(0).standard_normal((64, 96))
spaces = {
    "pixels": (X, X_test),
    "half": (X[:, ::2] ** 0.5, X_test[:, ::2] ** 0.5),
    "random": (np.maximum(X @ random, 0), np.maximum(X_test @ random, 0)),
}
vote = VotingClassifier(
    [
        (
            metric,
            make_pipeline(
                RelativeProjector(metric=metric, post="standardize"),
                LogisticRegression(C=0.03, max_iter=1000),
            ),
        )
        for metric in ("cosine", "euclidean", "manhattan", "chebyshev")
    ],
    voting="soft",
)

# %%
# The curves
# ----------
#
# Nested draws: the 10 anchors are among the 30.  "anchors" is a head trained on the
# new encoder's labelled anchors alone.

options = {
    "baselines": ["translate_ridge", "translate_kernel", "anchors"],
    "n_anchors": [10, 30, 100, 300],
    "n_seeds": 2,
    "n_resamples": 10,
    "random_state": 0,
}
report = cross_stitch(vote, spaces, (y, y_test), **options)
methods = ["own", "stitched", "translate_kernel", "anchors"]
AnchorCurveDisplay.from_report(report, methods).plot()
plt.show()

# %%
# ``reweight=True`` lets the anchors decide what to trust, and hears the translation as
# well.  It should be near the best of both at any number of anchors:

pool = cross_stitch(
    vote,
    spaces,
    (y, y_test),
    stitch_params={"reweight": True},
    **(options | {"baselines": []}),
)
off = ~np.eye(len(spaces), dtype=bool)
print("anchors  stitched  reweighted  kernel translation")
for n_anchors in report.n_anchors:
    scores = [
        method_report.matrix(method, n_anchors=n_anchors)[off].mean()
        for method_report, method in (
            (report, "stitched"),
            (pool, "stitched"),
            (report, "translate_kernel"),
        )
    ]
    print(f"{n_anchors:7d}" + "".join(f"{score:10.3f}" for score in scores))
