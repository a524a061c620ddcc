"""
Choose the invariance
=====================

Which metric, what before it and what after it?  A grid search would tell, if only it
were asked the right question.  Cross-validation trains and tests a head inside one
space, where nearly every choice does well.  Whether the head survives a new encoder
is another matter, and inside one space there is nothing to see of it.

So the score to search by is the *stitched* one: train on the space of one encoder,
test on the corresponding rows of another.  Here both scores are taken in one grid
search, first for spaces whose relation is known, where each choice *promises* by
``invariances_`` what it survives, then for encoders of real digits.
"""

# %%
# One pipeline, one grid
# ----------------------
#
# With precomputed spaces, a sample is a row number and an encoder is what looks it up.
# ``Lookup`` also remembers the rows that it was fitted on: in each fold of the
# cross-validation they tell which samples the anchors are.

import sys
from time import perf_counter

import numpy as np
from scipy.stats import spearmanr
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from skinvariant import InvariantAggregator, stitch
from skinvariant.datasets import make_related_spaces
from skinvariant.metrics import TRANSFORMATIONS

start = perf_counter()
threadpool_limits(1)  # the matrices are small: more threads would wait for each other


class Lookup(TransformerMixin, BaseEstimator):
    """An encoder of row numbers, into a space that is already there."""

    def __init__(self, space):
        self.space = space

    def fit(self, rows, y=None):
        self.rows_ = rows
        return self

    def transform(self, rows):
        return self.space[rows]


def make_model(space, C):
    """Make a pipeline of row numbers, product and head."""
    steps = [
        ("encoder", Lookup(space)),
        ("relative", InvariantAggregator(random_state=0)),
        ("head", LogisticRegression(C=C, max_iter=2000)),
    ]
    return Pipeline(steps)


# %%
# A product of one metric is that metric, so ``metrics`` searches over both.

product = ("cosine", "euclidean", "manhattan", "chebyshev")
grid = {
    "relative__metrics": [("cosine",), ("euclidean",), ("manhattan",), product],
    "relative__pre": [None, "center", "standardize", "whiten"],
    "relative__post": [None, "layer"],
    "relative__n_anchors": [50, 150],
}

# %%
# A scorer sees the model fitted on one part of the rows, and other rows.  It stitches
# the model to each other space, with the anchors among the fitted rows, and tests it on
# the same rows there.  A scorer may return many scores at once.


def score_by(spaces):
    """Make a scorer: own accuracy, and stitched accuracy on each of some spaces."""

    def score(model, rows, y):
        relative = model["relative"]
        anchors = model["encoder"].rows_[relative.anchor_indices_]
        scores = {"own": model.score(rows, y)}
        for name, space in spaces.items():
            stitched = stitch(model, anchors, encoder=Lookup(space).fit(rows))
            scores[name] = stitched.score(rows, y)
            scores[f"{name} promised"] = name in relative.invariances_
        return scores

    return score


def search(space, spaces, y, C):
    """Score every choice of the grid by own and stitched accuracy."""
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    model = make_model(space, C)
    searched = GridSearchCV(model, grid, scoring=score_by(spaces), cv=folds, refit=False)
    return searched.fit(np.arange(len(y)), y).cv_results_

# %%
t = perf_counter()
related = {
    name: make_related_spaces(
        300, 8, transformation=name, n_classes=10, random_state=0
    )
    for name in TRANSFORMATIONS
}
first = related["orthogonal"]
known = search(
    first.X_a, {name: spaces.X_b for name, spaces in related.items()}, first.y, 0.1
)
print(perf_counter()-t)
own = known["mean_test_own"]
print(own.min(), own.max())
import pandas as pd
d = pd.DataFrame({n: known[f"mean_test_{n}"]/own for n in TRANSFORMATIONS})
pr = pd.DataFrame({n: known[f"mean_test_{n} promised"] for n in TRANSFORMATIONS})
for i,p in enumerate(known["params"]):
    if p["relative__n_anchors"]==150: print(len(p["relative__metrics"]), p["relative__metrics"][0][:4], p["relative__pre"],p["relative__post"],round(own[i],3), *(f"{v:.2f}{'*' if q else ' '}" for v,q in zip(d.loc[i],pr.loc[i])))
