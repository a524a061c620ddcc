"""
How many anchors, and which method?
===================================

Anchors cost something: each must be encoded by the old encoder and by the new one.
With few anchors, relative spaces keep more accuracy than a translation of the new
space into the old one; with many, the translation overtakes them.  The voting model
pools both.  Here is its accuracy by the number of anchors, and that of its rivals.
"""

# %%
# Three encoders
# --------------
#
# One encoder has the pixels, another only every second one, by its square root, and the
# third has random mixtures, with zeros where they are negative.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from skinvariant import InvariantAggregator, InvariantVotingClassifier, cross_stitch
from skinvariant.plotting import AnchorCurveDisplay

threadpool_limits(1)  # the matrices are small: more threads would wait for each other
images, digits = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(
    (images / 16).astype(np.float32),
    digits,
    test_size=1 / 3,
    stratify=digits,
    random_state=0,
)
random = np.random.default_rng(0).standard_normal((64, 96), dtype=np.float32)
spaces = {
    "pixels": (X, X_test),
    "half": (X[:, ::2] ** 0.5, X_test[:, ::2] ** 0.5),
    "random": (np.maximum(X @ random, 0), np.maximum(X_test @ random, 0)),
}

# %%
# The curves
# ----------
#
# The rivals use a linear head on the embeddings.  Two of them translate the new space
# into the old one, by ridge regression and by kernel ridge regression, fitted on the
# anchors.  A few-shot head is trained on the anchors in the new space, and is the only
# one that needs their labels.  Draws are nested: the 10 anchors are
# among the 30.

head = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
options = {"n_anchors": [10, 30, 100, 300], "n_seeds": 2, "random_state": 0}
report = cross_stitch(
    InvariantVotingClassifier(),
    spaces,
    (y, y_test),
    head=head,
    baselines=["translate_ridge", "translate_kernel", "few_shot"],
    n_resamples=10,
    **options,
)
methods = ["own", "stitched", "translate_kernel", "few_shot"]
AnchorCurveDisplay.from_report(report, methods).plot()
plt.show()

# %%
# The same in numbers, with one head on the product of four metrics for comparison:

product = make_pipeline(
    InvariantAggregator(), LogisticRegression(C=0.03, max_iter=1000)
)
relative = cross_stitch(
    product, spaces, (y, y_test), baselines=[], n_resamples=0, **options
)
columns = {
    "voting": (report, "stitched"),
    "product": (relative, "stitched"),
    "ridge": (report, "translate_ridge"),
    "kernel": (report, "translate_kernel"),
    "few-shot": (report, "few_shot"),
}
off = ~np.eye(len(spaces), dtype=bool)
print("anchors" + "".join(f"{name:>10}" for name in columns))
for n_anchors in report.n_anchors:
    scores = [
        source.matrix(method, n_anchors=n_anchors)[off].mean()
        for source, method in columns.values()
    ]
    print(f"{n_anchors:7d}" + "".join(f"{score:10.3f}" for score in scores))

# %%
# The voting model is above its rivals at every number of anchors.  Its best rival is
# the relative space where anchors are few, and a translation where they are many.
