"""
Swap the encoder, keep the head
===============================

You trained a classifier, the *head*, on the embeddings that one encoder makes of your
data.  Then the encoder is replaced: another seed, another architecture, another
training set.  The new encoder captures much the same information in different
coordinates, perhaps of another number, and the head is worthless.

Here a model is trained on one encoder of handwritten digits and swapped to five others
without any training.  The swap needs a few hundred images, the *anchors*, that both
encoders have encoded, and no labels.  We repeat this for every encoder in turn and
measure how much accuracy is left: with the recommended model, with a head behind a
translation of the new space into the old one, and with heads on single metrics.
"""

# %%
# Digits, and six encoders of them
# --------------------------------
#
# A third of the images is kept for the tests and never used before.

import sys
from time import perf_counter

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from threadpoolctl import threadpool_limits

from skinvariant import (
    InvariantAggregator,
    InvariantVotingClassifier,
    RelativeProjector,
    cross_stitch,
    select_anchors,
    stitch,
)

start = perf_counter()
threadpool_limits(1)  # the matrices are small: more threads would wait for each other

images, digits = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    (images / 16).astype(np.float32),
    digits,
    test_size=1 / 3,
    stratify=digits,
    random_state=0,
)
print(f"{len(X_train)} images to train, {len(X_test)} to test")

# %%
# An encoder is a fitted transformer from raw pixels to a space.  Ours are as different
# as scikit-learn can make them in a few seconds: the hidden layers of three networks,
# two of which differ only by their seed, and one was trained on half of the images;
# principal components; random ReLU features; and a kernel map.


def relu_layer(weights, biases=0.0):
    """Make a transformer of one layer."""
    return FunctionTransformer(lambda X: np.maximum(X @ weights + biases, 0))


def hidden_layer(width, X, y, seed):
    """Train a network with one hidden layer, and return this layer."""
    network = MLPClassifier((width,), tol=1e-3, max_iter=1000, random_state=seed)
    network.fit(X, y)
    return relu_layer(network.coefs_[0], network.intercepts_[0])


half = len(X_train) // 2
random_weights = np.random.default_rng(0).standard_normal((64, 128), dtype=np.float32)
encoders = {
    "MLP 64": hidden_layer(64, X_train, y_train, seed=0),
    "MLP 64, other seed": hidden_layer(64, X_train, y_train, seed=1),
    "MLP 128, half the data": hidden_layer(128, X_train[:half], y_train[:half], seed=2),
    "PCA 24": PCA(24, random_state=0).fit(X_train),
    "random ReLU 128": relu_layer(random_weights),
    "Nyström 100": Nystroem(gamma=0.2, random_state=0).fit(X_train),
}

# %%
# One swap
# --------
#
# The model is a pipeline of an encoder and a voting classifier.  This trains one head
# for each of several metrics, which compare a sample with 300 anchors, and one on the
# embeddings themselves.  ``stitch`` encodes the anchor images by the new encoder, puts
# them in place of the old ones, and leaves the heads as trained.

old, new = encoders["MLP 64"], encoders["PCA 24"]

model = make_pipeline(old, InvariantVotingClassifier(random_state=0))
model.fit(X_train, y_train)
stitched = stitch(model, select_anchors(model, X_train), encoder=new)

print(f"own encoder, MLP 64:  {model.score(X_test, y_test):.3f}")
print(f"stitched, on PCA 24:  {stitched.score(X_test, y_test):.3f}")

# %%
# The anchors also determine how much each member of the vote counts after the swap.
# "kernel" and "orthogonal" are the head on the embeddings themselves, behind two
# translations of the new space into the old one.

for name, weight in stitched[-1].weights_.items():
    print(f"{name:<16}{weight:.2f}")

# %%
# Every swap
# ----------
#
# Encode once.  ``cross_stitch`` then trains a model on each space and stitches it to
# all the others.  With the same ``random_state`` and corresponding rows, the anchors
# are the same images everywhere.

spaces = {
    name: (encoder.transform(X_train), encoder.transform(X_test))
    for name, encoder in encoders.items()
}
results = {}


def swap_all(title, model, **options):
    """Measure a model; store a row for each head, a column for each encoder."""
    report = cross_stitch(
        model,
        spaces,
        (y_train, y_test),
        n_seeds=1,
        n_resamples=0,
        random_state=0,
        **{"baselines": [], **options},
    )
    results[title] = report.matrix("stitched")
    return report


# %%
# First the recommended model with its defaults.  Its rivals use the same kind of head
# on the embeddings: "absolute" applies it to the new space unchanged, and "ridge
# translation" first translates the new space by a ridge regression that is fitted on
# the same anchors.

head = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
rivals = {"absolute": "absolute", "ridge translation": "translate_ridge"}
report = swap_all(
    "voting", InvariantVotingClassifier(), head=head, baselines=rivals.values()
)
for title, method in rivals.items():
    results[title] = report.matrix(method)

# %%
# Then one head on a relative space: of each of four metrics, and of their product, that
# is the columns of all four side by side.  What to do before the metric, and how much
# to regularise the head, was chosen on a part of the training images.

choices = {"n_anchors": 300, "pre": "center"}
steps = {
    metric: RelativeProjector(metric=metric, post="standardize", **choices)
    for metric in ("cosine", "euclidean", "manhattan", "chebyshev")
}
steps["product"] = InvariantAggregator(**choices)
for title, step in steps.items():
    small_head = LogisticRegression(C=0.01, max_iter=1000, tol=1e-3)
    swap_all(title, make_pipeline(step, small_head))

# %%
# A row is a head, a column the encoder that it is used on; test images only.

letters = "abcdef"
labels = [f"{a}  {name}" for a, name in zip(letters, encoders, strict=True)]
for title, accuracies in results.items():
    print(f"{title:<28}{'      '.join(letters)}")
    for label, row in zip(labels, accuracies, strict=True):
        cells = ["    -" if np.isnan(value) else f"{value:.3f}" for value in row]
        print(f"{label:<26}{'  '.join(cells)}")
    print()

# %%
# In short: the mean over own encoders, the mean and the worst over all other encoders,
# and the stitching index, stitched / own.

print(f"{'':<18}{'own':>8}{'stitched':>10}{'worst':>8}{'index':>8}")
swapped = ~np.eye(len(encoders), dtype=bool)
for title, accuracies in results.items():
    own, others = np.diag(accuracies).mean(), accuracies[swapped]
    mean, worst = np.nanmean(others), np.nanmin(others)
    print(f"{title:<18}{own:8.3f}{mean:10.3f}{worst:8.3f}{mean / own:8.3f}")

share = np.bincount(y_test).max() / len(y_test)
error = np.sqrt(0.95 * 0.05 / len(y_test))
print(f"always the commonest digit: {share:.3f}")
print(f"standard error of an accuracy near 0.95: {error:.3f}")

# %%
# The spaces themselves cannot be swapped: where the widths happen to agree, the head is
# no better than chance, even between two networks that differ only by their seed.
# A relative space keeps most of the accuracy; how much depends on the metric.
# Chebyshev alone is a poor choice, but as one of four metrics it does little harm.
# With as many as 300 anchors, the ridge translation keeps more than any of them.
#
# The voting model has the best mean and the best worst case on other encoders, and on
# its own encoder no other is better.  Its members need not be chosen, since their
# weights are estimated from the anchors at each swap.


def draw(shown):
    """Draw four of the matrices, in per cent, own accuracies in bold."""
    figure, axes = plt.subplots(2, 2, figsize=(7, 6.4), layout="constrained")
    for ax, title in zip(axes.flat, shown, strict=True):
        percent = 100 * results[title]
        ax.imshow(percent, cmap="gray", vmin=0, vmax=100, aspect="auto")
        for (i, j), value in np.ndenumerate(percent):
            text = "-" if np.isnan(value) else f"{value:.0f}"
            color = "white" if value < 50 else "black"
            weight = "bold" if i == j else "normal"
            ax.text(j, i, text, color=color, weight=weight, ha="center", va="center")
        ax.set_title(title)
        ax.set_xticks(range(len(letters)), letters)
        ax.set_yticks(range(len(letters)), letters)
        ax.tick_params(length=0)
    for ax in axes[:, 0]:
        ax.set_yticks(range(len(labels)), labels)
    figure.supxlabel("encoder in use", fontsize="medium")
    return figure


try:
    import matplotlib.pyplot as plt
except ImportError:
    print("The picture needs matplotlib: pip install 'skinvariant[plot]'")
else:
    figure = draw(["absolute", "product", "ridge translation", "voting"])
    if len(sys.argv) > 1:
        figure.savefig(sys.argv[1])
        print(f"picture saved to {sys.argv[1]}")

# %%
# Accuracy on the test images in per cent, rows by the encoder that the model was
# trained on, columns by the one that it is used on.  Own accuracies are bold; a dash
# where the widths differ.

print(f"total: {perf_counter() - start:.0f} s")
