"""
Learn how to join the invariances
=================================

The relative spaces of several metrics can be joined by a sum, or by a network that
learns how.  Here the aggregations of the neural heads are trained on one encoder of
handwritten digits and swapped to three others, together with the voting model, which
does without a network.  Then we look at two attributes of a head: the weight of each
metric (``space_weights_``), and how well each agrees with itself after the swap
(``agreement_``).
"""

# %%
# Four encoders of the same images
# --------------------------------
#
# The hidden layers of two networks, principal components, and a kernel map.

from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.kernel_approximation import Nystroem
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from skinvariant import InvariantVotingClassifier, select_anchors, stitch
from skinvariant.heads import InvariantClassifier

start = perf_counter()
torch.set_num_threads(1)  # the networks are small

images, digits = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)
split = train_test_split(images, digits, test_size=1 / 3, random_state=0)
X_train, X_test, y_train, y_test = split


def hidden_layer(width, seed):
    """Train a network with one hidden layer, and return this layer."""
    network = MLPClassifier((width,), tol=1e-3, max_iter=1000, random_state=seed)
    network.fit(X_train, y_train)
    weights, biases = network.coefs_[0], network.intercepts_[0]
    return lambda X: np.maximum(X @ weights + biases, 0)


encoders = {
    "MLP 64": hidden_layer(64, seed=0),
    "MLP 128": hidden_layer(128, seed=1),
    "PCA 24": PCA(24, random_state=0).fit(X_train).transform,
    "Nyström 100": Nystroem(gamma=0.2, random_state=0).fit(X_train).transform,
}
spaces = {
    name: [encode(X).astype(np.float32) for X in (X_train, X_test)]
    for name, encode in encoders.items()
}

# %%
# One head for each encoder, tested on all
# ----------------------------------------
#
# ``stitch`` replaces the anchors by those of the other encoder; nothing is trained.
# The anchors are the same images for every encoder.


def accuracies(model):
    """Return the mean own accuracy, and the mean accuracy on the other encoders."""
    own, stitched = [], []
    for name, (X, X_test_own) in spaces.items():
        model.fit(X, y_train)
        own.append(model.score(X_test_own, y_test))
        for other, (X_other, X_other_test) in spaces.items():
            if other != name:
                swapped = stitch(model, select_anchors(model, X_other))
                stitched.append(swapped.score(X_other_test, y_test))
    return np.mean(own), np.mean(stitched)


vote = InvariantVotingClassifier(n_anchors=150, random_state=0)
results = {"voting model": accuracies(vote)}
choices = {
    "L∞ alone": {"metrics": ("chebyshev",)},
    "L1 alone": {"metrics": ("manhattan",)},
    "L2 alone": {"metrics": ("euclidean",)},
    "cosine alone": {"metrics": ("cosine",)},
    "mean": {"aggregation": "mean"},
    "weighted": {"aggregation": "weighted"},
    "attention": {"aggregation": "attention"},
    "mlp_sum": {},
    "mlp_sum, not reweighted": {"reweight": 0},
}
for name, options in choices.items():
    results[name] = accuracies(InvariantClassifier(150, random_state=0, **options))
for name, (own, stitched) in results.items():
    print(f"{name:24s} own {own:.3f}   stitched {stitched:.3f}")

# %%
# The weight of each metric, and its agreement
# --------------------------------------------
#
# The weights of "weighted" are learned numbers; those of "attention" are the attention
# that each metric gets.  Both are learned within one space, where most metrics do well,
# and do not predict which metric survives a swap.  The anchors do: ``agreement_``
# compares their relative vectors in the new space with those in the old one.

heads = {
    name: InvariantClassifier(150, aggregation=name, random_state=0)
    for name in ("weighted", "attention")
}
own = spaces["MLP 64"][0]
weights = {name: head.fit(own, y_train).space_weights_ for name, head in heads.items()}
head = InvariantClassifier(150, random_state=0).fit(own, y_train)
agreements = {
    f"MLP 64 → {other}": stitch(head, select_anchors(head, X)).agreement_
    for other, (X, _) in spaces.items()
    if other != "MLP 64"
}
for name, values in (weights | agreements).items():
    print(f"{name:22s}", {metric: round(value, 2) for metric, value in values.items()})

# %%
# One picture of all three
# ------------------------

figure, (left, middle, right) = plt.subplots(
    1, 3, figsize=(12, 4.2), width_ratios=(1.4, 1, 1), layout="constrained"
)
places = np.arange(len(results))
own_scores, stitched_scores = np.transpose(list(results.values()))
left.barh(places - 0.2, own_scores, 0.38, label="own encoder", color="0.75")
left.barh(places + 0.2, stitched_scores, 0.38, label="another encoder", color="C0")
left.set_yticks(places, results)
left.set_xlim(max(0, stitched_scores.min() - 0.05), 1)
left.set_xlabel("accuracy")
left.invert_yaxis()
left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, frameon=False)
left.set_title("Aggregations, and metrics alone")

for axes, values, title in (
    (middle, weights, "space_weights_ in the own space"),
    (right, agreements, "agreement_ after the swap"),
):
    metrics = list(next(iter(values.values())))
    height = 0.8 / len(values)
    for place, (name, by_metric) in enumerate(values.items()):
        axes.barh(
            np.arange(len(metrics)) + place * height,
            list(by_metric.values()),
            height,
            label=name,
            color=f"C{place + 1}",
        )
    axes.set_yticks(np.arange(len(metrics)) + 0.4 - height / 2, metrics)
    axes.invert_yaxis()
    axes.set_title(title)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), frameon=False)
plt.show()

# %%
# Of the metrics, L∞ alone loses most at the swap and L2 alone least.  Cross-validation
# on the old encoder would not have shown this, since in its own space all metrics are
# equally good.  "mlp_sum" comes close to the best metric.  The voting model keeps most,
# because its members include a head behind translations, which neural heads lack.

print(f"{perf_counter() - start:.0f} s")
