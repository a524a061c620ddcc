"""
Choose the invariance
=====================

The recommended model, ``InvariantVotingClassifier``, needs no choice of a metric.  A
single head on a relative space does: a metric, and steps before and after it.
Cross-validation trains and tests a head inside one space, where most choices do well,
and does not show whether the head survives a new encoder.

So the score to search by is the *stitched* one: train on the space of one encoder, test
on other samples in the space of a second one.  Here one grid search computes both
scores, first for encoders of handwritten digits, with the voting model for comparison.
Then we use spaces whose relation is known, and compare what each choice survives with
what its ``invariances_`` promise.
"""

# %%
# One pipeline, one grid
# ----------------------
#
# ``AcrossEncoders`` takes the spaces side by side, as columns of one ``X``, and makes
# scikit-learn's searches score across them.

import sys
from time import perf_counter

import numpy as np
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from skinvariant import InvariantAggregator, InvariantVotingClassifier
from skinvariant.datasets import make_related_spaces
from skinvariant.metrics import TRANSFORMATIONS
from skinvariant.model_selection import AcrossEncoders, stitched_scores

start = perf_counter()
threadpool_limits(1)  # the matrices are small: more threads would wait for each other

model = Pipeline(
    [
        ("relative", InvariantAggregator(random_state=0)),
        ("scaler", StandardScaler()),
        ("classifier", LogisticRegression(C=0.01, max_iter=1000)),
    ]
)

# %%
# A product of one metric is that metric, so ``metrics`` searches over both.

product = ("cosine", "euclidean", "manhattan", "chebyshev")
grid = {
    "estimator__relative__metrics": [
        ("cosine",),
        ("euclidean",),
        ("manhattan",),
        product,
    ],
    "estimator__relative__pre": [None, "center", "standardize", "whiten"],
    "estimator__relative__post": [None, "standardize"],
    "estimator__relative__n_anchors": [50, 150],
}

# %%
# In each fold, the head is trained on the first space and stitched to each of the
# others, by anchors from among the training rows; then it is scored on the test rows
# in all of them.  ``stitched_scores`` returns all scores.


def across(estimator, spaces):
    """Put spaces side by side; return the estimator across them, and all rows."""
    ends = np.cumsum([0, *(space.shape[1] for space in spaces.values())])
    columns = {
        name: slice(begin, end)
        for name, begin, end in zip(spaces, ends[:-1], ends[1:], strict=True)
    }
    first = next(iter(spaces))
    return AcrossEncoders(estimator, columns, own=first), np.hstack([*spaces.values()])


def search(spaces, rows, y):
    """Score every choice of the grid by own and by stitched accuracies."""
    estimator, X = across(model, spaces)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    grid_search = GridSearchCV(
        estimator, grid, scoring=stitched_scores, cv=folds, refit=False
    )
    return grid_search.fit(X[rows], y[rows]).cv_results_


def describe(params):
    """Write what was chosen."""
    params = {name.removeprefix("estimator__relative__"): params[name] for name in grid}
    metrics = params["metrics"]
    metric = "product" if metrics == product else metrics[0]
    return f"{metric:<10}{params['pre'] or '-':<12}{params['post'] or '-':<12}"


# %%
# Encoders of digits
# ------------------
#
# The head is to be trained on the hidden layer of a network, and used on principal
# components.  Two more encoders are not used in the choice, nor are the test images,
# on which no encoder was fitted either.  (The networks were trained on all other
# images with their labels, so the accuracies of the search are a little too high.)

images, digits = load_digits(return_X_y=True)
images = images / 16
train, test = train_test_split(
    np.arange(len(digits)), test_size=1 / 3, stratify=digits, random_state=0
)


def hidden_layer(width, rows, seed):
    """Train a network with one hidden layer, and return this layer's outputs."""
    network = MLPClassifier((width,), tol=1e-3, max_iter=1000, random_state=seed)
    network.fit(images[rows], digits[rows])
    return np.maximum(images @ network.coefs_[0] + network.intercepts_[0], 0)


components = PCA(24, random_state=0).fit(images[train])
kernel_map = Nystroem(gamma=0.2, random_state=0).fit(images[train])
spaces = {
    "MLP 64": hidden_layer(64, train, seed=0),
    "PCA 24": components.transform(images),
    "MLP 128": hidden_layer(128, train[: len(train) // 2], seed=2),
    "Nyström 100": kernel_map.transform(images),
}
two = {name: spaces[name] for name in ("MLP 64", "PCA 24")}
results = search(two, train, digits)

# %%
# Most own accuracies lie close together and hardly predict the stitched ones.  Some of
# the best choices by own accuracy lose much of it, or all, at the swap.

own, stitched = results["mean_test_own"], results["mean_test_stitched"]
for name, scores in {"own": own, "stitched": stitched}.items():
    low, middle, high = np.quantile(scores, [0.1, 0.5, 0.9])
    print(f"{name:<9} 10 % below {low:.3f}, median {middle:.3f}, 10 % above {high:.3f}")
print(f"rank correlation over {len(own)} choices: {spearmanr(own, stitched)[0]:.2f}")

for title, scores in {"own": own, "stitched": stitched}.items():
    print(f"\n{'best by ' + title:<34}anchors    own  stitched")
    for i in np.argsort(-scores, kind="stable")[:5]:
        params = results["params"][i]
        n_anchors, words = params["estimator__relative__n_anchors"], describe(params)
        print(f"{words}{n_anchors:>7}{own[i]:7.3f}{stitched[i]:10.3f}")

# %%
# Now the test images.  Either choice is fitted again on all training rows, and so is
# the voting model, with 150 anchors and no choice at all.

candidates = {}
for title, scores in {"by own": own, "by stitched": stitched}.items():
    params = results["params"][scores.argmax()]
    candidates[f"{title:<12}{describe(params)}"] = params
vote = InvariantVotingClassifier(n_anchors=150, random_state=0)
candidates["voting"] = {"estimator": vote}

print(f"\n{'chosen':<46}{''.join(f'{name:>12}' for name in spaces)}")
for title, params in candidates.items():
    estimator, X = across(model, spaces)
    estimator.set_params(**params).fit(X[train], digits[train])
    found = stitched_scores(estimator, X[test], digits[test])
    scores = [found["own"], *(found[f"MLP 64 to {name}"] for name in [*spaces][1:])]
    print(f"{title:<46}{''.join(f'{score:12.3f}' for score in scores)}")

# %%
# The choice by stitched accuracy is made for one pair of encoders, and need not be the
# best for a third.  Whitening, for example, needs many more anchors than the new space
# has axes.  If the next encoder is not known, choose by the worst of several, or use
# the voting model, which weights its members by the anchors at each swap.
#
# What is promised, and what survives
# -----------------------------------
#
# ``make_related_spaces`` gives pairs of spaces with a known transformation between
# them.  Of each class of transformations we draw one, all for the same first space,
# and search the same grid.

related = {
    name: make_related_spaces(300, 8, n_classes=10, transformation=name, random_state=0)
    for name in TRANSFORMATIONS
}
X, y = related["affine"].X_a, related["affine"].y
assert all(np.array_equal(X, pair.X_a) for pair in related.values())

others = {name: pair.X_b for name, pair in related.items()}
results = search({"first": X} | others, np.arange(len(X)), y)
own = results["mean_test_own"]
scores = [results[f"mean_test_first to {name}"] for name in others]
ratios = np.transpose(scores) / own[:, None]

# %%
# The fitted step lists the classes that leave its output unchanged.  For these, the
# stitched accuracy must be the own accuracy, in every fold.


def promises(params):
    """Return for each class of transformations whether the output is unchanged."""
    params = {name.removeprefix("estimator__"): x for name, x in params.items()}
    relative = model.set_params(**params)["relative"].fit(X)
    return [name in relative.invariances_ for name in TRANSFORMATIONS]


promised = np.array([promises(params) for params in results["params"]])
changes = [
    [
        results[f"split{k}_test_first to {name}"] - results[f"split{k}_test_own"]
        for k in range(3)
    ]
    for name in others
]
gaps = np.abs(changes).max(axis=1).T  # the largest of the folds
print(f"\n{'':<28}promised       not promised")
print(f"{'':<20}choices  largest gap    choices  largest gap")
for name, kept, gap in zip(others, promised.T, gaps.T, strict=True):
    line = f"{name:<20}"
    for part in (gap[kept], gap[~kept]):
        largest = f"{part.max():.3f}" if part.size else "-"
        line += f"{part.size:>7}{largest:>13}    "
    print(line.rstrip())
assert gaps[promised].max() < 0.02  # a fold has 100 rows: rounding may flip one

# %%
# No promise is broken.  A stitched head may also keep its accuracy without a promise,
# since promises are about the values, and a head tolerates some change of them.

best = {"own": own.argmax(), "worst stitched / own": ratios.min(axis=1).argmax()}
for title, i in best.items():
    words = f"best by {title:<21}{describe(results['params'][i])}"
    print(f"{words} own {own[i]:.3f}, worst ratio {ratios[i].min():.2f}")

# %%
# The picture shows stitched / own for every choice with the larger number of anchors,
# ordered by the worst of its row.  A dot stands for a ratio of 1 that is promised; for
# the rest, dark is bad.


def draw(shown):
    """Draw the ratios of some choices, as shades and numbers, promised ones as dots."""
    figure, ax = plt.subplots(figsize=(7, 8), layout="constrained")
    ax.imshow(ratios[shown], cmap="gray", vmin=0.3, vmax=1, aspect="auto")
    for (row, column), ratio in np.ndenumerate(ratios[shown]):
        text = "●" if promised[shown][row, column] else f"{ratio:.2f}"
        color = "white" if ratio < 0.65 else "black"
        ax.text(column, row, text, color=color, ha="center", va="center", fontsize=8)
    labels = [describe(results["params"][i]) for i in shown]
    ax.set_yticks(range(len(shown)), labels, family="monospace", fontsize=8)
    names = [name.replace("_", " ") for name in TRANSFORMATIONS]
    ax.set_xticks(range(len(names)), names, fontsize=9, rotation=35, ha="left")
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    return figure


try:
    import matplotlib.pyplot as plt
except ImportError:
    print("The picture needs matplotlib: pip install 'skinvariant[plot]'")
else:
    order = np.argsort(-ratios.min(axis=1), kind="stable")
    sizes = results["param_estimator__relative__n_anchors"]
    many = [i for i in order if sizes[i] == 150]
    figure = draw(many)
    if len(sys.argv) > 1:
        figure.savefig(sys.argv[1])
        print(f"picture saved to {sys.argv[1]}")

# %%

print(f"total: {perf_counter() - start:.0f} s")
