"""
Will my heads survive?
======================

A new encoder is to replace the old one.  How much of its score does a model keep, and
would a plain head behind a translation of the new space into the old one do better?
``cross_stitch`` measures both before you swap, and the pictures summarise it.
"""

# %%
# Five encoders of digits
# -----------------------
#
# Three small networks, principal components, and random features.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from skinvariant import InvariantVotingClassifier, cross_stitch
from skinvariant.plotting import StitchingDisplay

threadpool_limits(1)  # the matrices are small: more threads would wait for each other
images, digits = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    (images / 16).astype(np.float32),
    digits,
    test_size=1 / 3,
    stratify=digits,
    random_state=0,
)


def hidden_layer(width, seed):
    """Train a network, and return its hidden layer."""
    network = MLPClassifier((width,), tol=1e-3, n_iter_no_change=3, random_state=seed)
    network.fit(X_train, y_train)
    weights, biases = network.coefs_[0], network.intercepts_[0]
    return [np.maximum(X @ weights + biases, 0) for X in (X_train, X_test)]


pca = PCA(24, random_state=0).fit(X_train)
random = np.random.default_rng(0).standard_normal((64, 128), dtype=np.float32)
spaces = {
    "MLP 64": hidden_layer(64, 0),
    "MLP 64 b": hidden_layer(64, 1),
    "MLP 128": hidden_layer(128, 2),
    "PCA": [pca.transform(X_train), pca.transform(X_test)],
    "random": [np.maximum(X @ random, 0) for X in (X_train, X_test)],
}

# %%
# The report
# ----------
#
# Every model on every encoder, with two draws of 200 anchors; for a decision use five.
# The rivals use ``head`` on the embeddings.

head = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
report = cross_stitch(
    InvariantVotingClassifier(n_anchors=200),
    spaces,
    (y_train, y_test),
    head=head,
    baselines=["majority", "absolute", "translate_ridge", "translate_kernel"],
    n_seeds=2,
    n_resamples=20,
    random_state=0,
)
print(report)

# %%
# A row is the space that a model was trained on, a column the encoder that it is
# swapped to, and the diagonal is its own encoder.  Left the voting model, right the
# best of the rivals.

figure, axes = plt.subplots(1, 2, figsize=(7.5, 3.6), layout="constrained")
best = report.best_baseline()
for ax, method in zip(axes, ("stitched", best), strict=True):
    display = StitchingDisplay.from_report(report, method)
    display.plot(ax, vmin=0.5, vmax=1)
    ax.set_title(method)
plt.show()

# %%
# A check in continuous integration
# ---------------------------------
#
# One line decides, by the worst pair:

print(f"index of the worst pair: {np.nanmin(report.stitching_index()):.2f}")
print("passes at 0.95:", report.passes(0.95))
