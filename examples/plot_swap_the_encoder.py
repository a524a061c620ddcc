"""
Swap the encoder, keep the head
===============================

You trained a classifier, the *head*, on what one encoder makes of your data.  Then
the encoder is replaced: another seed, another architecture, another training set.
The new space has other axes, another scale, perhaps another width, and the head is
worthless, although both encoders have seen the same images and learned much the same.

Here a head is trained on one encoder of handwritten digits and used on five others
without any training.  All it takes is a few hundred images, the *anchors*, that both
encoders have seen.  We do this for every encoder in turn and ask what is left of the
accuracy: with the spaces as they are, with each of four metrics, with the product of
the four, and with one metric after whitening.
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

from skinvariant import InvariantAggregator, RelativeProjector, stitch

start = perf_counter()
threadpool_limits(1)  # the matrices are small: more threads would wait for each other

images, digits = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    images / 16, digits, test_size=1 / 3, stratify=digits, random_state=0
)
print(f"{len(X_train)} images to train, {len(X_test)} to test")

# %%
# An encoder is a fitted transformer from raw pixels to a space.  Ours are as different
# as scikit-learn can make them in a few seconds: the hidden layers of three networks,
# of which two differ by their seed alone and one has seen half of the images;
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
random_weights = np.random.default_rng(0).standard_normal((64, 128))
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
# The model is an ordinary pipeline: encoder, product of metrics, head.  ``stitch``
# takes the same anchor images as the new encoder sees them, puts them in place of the
# old ones and leaves the head as it is.
#
# What to do before and after the metric, and how much to regularise the head, has been
# tried out on a part of the training images.  Encoders put their spaces anywhere: a
# ReLU layer lies on the positive side of every axis, principal components lie around
# the origin.  So ``pre="center"``, fitted on the anchors, takes out the origin.  And
# encoders differ in scale, so ``post="layer"`` standardises every relative vector on
# its own.  To take out the scale of each axis as well, by ``pre="standardize"``, would
# be too much here: how far an axis spreads tells something, and the last principal
# component would get as much say as the first.


def head():
    """Make the same classical head for every space."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))


choices = {"n_anchors": 300, "pre": "center", "post": "layer", "random_state": 0}
product = InvariantAggregator(**choices)
model = make_pipeline(encoders["MLP 64"], product, head()).fit(X_train, y_train)

anchor_images = X_train[product.anchor_indices_]
stitched = stitch(model, anchor_images, encoder=encoders["PCA 24"])

print(f"own encoder, MLP 64:  {model.score(X_test, y_test):.3f}")
print(f"stitched, on PCA 24:  {stitched.score(X_test, y_test):.3f}")
print(f"what cannot change it: {', '.join(sorted(product.invariances_))}")

# %%
# Every swap
# ----------
#
# Encode once, then train a head on each space and stitch it to all of them.  Equal
# ``random_state`` on corresponding rows draws the same anchors in every space.

train = {name: encoder.transform(X_train) for name, encoder in encoders.items()}
test = {name: encoder.transform(X_test) for name, encoder in encoders.items()}


def swap_all(projector):
    """Return the accuracies, one row per head, one column per encoder under it."""
    accuracies = []
    for X_own in train.values():
        model = make_pipeline(projector, head()).fit(X_own, y_train)
        anchors = projector.anchor_indices_
        for name, X_other in train.items():
            stitched = stitch(model, X_other[anchors])
            accuracies.append(stitched.score(test[name], y_test))
    return np.reshape(accuracies, (len(train), len(train)))


def swap_all_absolute():
    """Do the same with the spaces as they are: NaN where the widths differ."""
    accuracies = []
    for X_own in train.values():
        model = head().fit(X_own, y_train)
        for X_other in test.values():
            fits = X_other.shape[1] == X_own.shape[1]
            accuracies.append(model.score(X_other, y_test) if fits else np.nan)
    return np.reshape(accuracies, (len(train), len(train)))


results = {"absolute": swap_all_absolute()}
for metric in product.metrics:
    results[metric] = swap_all(RelativeProjector(metric=metric, **choices))
results["product"] = swap_all(product)
whitened = RelativeProjector(metric="cosine", **choices | {"pre": "whiten"})
results["whitened cosine"] = swap_all(whitened)

# %%
# The same head everywhere, the same anchors, and test images only.  A row is a head, a
# column the encoder put under it.

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

print(f"{'':<16}{'own':>9}{'stitched':>9}{'worst':>9}{'index':>9}")
swapped = ~np.eye(len(encoders), dtype=bool)
for title, accuracies in results.items():
    own, others = np.diag(accuracies).mean(), accuracies[swapped]
    mean, worst = np.nanmean(others), np.nanmin(others)
    print(f"{title:<16}{own:9.3f}{mean:9.3f}{worst:9.3f}{mean / own:9.3f}")

share = np.bincount(y_test).max() / len(y_test)
error = np.sqrt(0.9 * 0.1 / len(y_test))
print(f"always the commonest digit: {share:.3f}")
print(f"standard error of an accuracy near 0.9: {error:.3f}")

# %%
# As they are, the spaces cannot be swapped: where the widths happen to agree, the head
# does little better than guess, also between two networks that differ by their seed
# alone.  Relative spaces carry most of the accuracy over.  What is lost depends more on
# the new encoder than on the head: look down the columns, whose diagonal is what a head
# trained on that very encoder achieves.
#
# Of all with centring, the product gives the best heads on their own encoder; after
# the swap it lies level with cosine and euclidean, within what so few test images can
# tell.  Chebyshev alone is a poor choice, and as one of four it does little harm.  Yet
# after the swap, cosine is better than all of these if the space is whitened first,
# which takes out affine maps as well.  This needs many more anchors than the space has
# axes, and does not suit every metric: the example *Choose the invariance* shows how
# to search among such choices.


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
    figure.supxlabel("encoder under the head", fontsize="medium")
    return figure


try:
    import matplotlib.pyplot as plt
except ImportError:
    print("The picture needs matplotlib: pip install 'skinvariant[plot]'")
else:
    figure = draw(["absolute", "cosine", "product", "whitened cosine"])
    if len(sys.argv) > 1:
        figure.savefig(sys.argv[1])
        print(f"picture saved to {sys.argv[1]}")

# %%
# Accuracy on the test images in per cent, rows by the encoder of the head, columns by
# the encoder under it.  Own accuracies are bold; a dash where the widths differ.

print(f"total: {perf_counter() - start:.0f} s")
