"""
A few labels after the swap: which part to train?
=================================================

A neural head was trained on one encoder, and the encoder is swapped.  Without labels
of the new space, the head is stitched and stays as trained.  A few labelled rows can
improve it, but training the whole network on them may spoil what it learned from
thousands.  *Subspace selection* trains the aggregation alone: with attention, the
query, key and value weights, which choose among the invariances.  This example compares
it with training the head alone, everything, or nothing, and with a new linear head on
the labelled rows, by the number of these rows.
"""

# %%
# Two different encoders
# ----------------------
#
# The head is trained on principal components of digits; the new encoder is a kernel
# map of a part of each image.

from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinvariant import select_anchors, stitch
from skinvariant.heads import InvariantClassifier

start = perf_counter()
torch.set_num_threads(1)  # the networks are small

images, digits = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)
split = train_test_split(images, digits, test_size=1 / 3, random_state=0)
X_train, X_test, y_train, y_test = split

old = PCA(24, random_state=0).fit(X_train)
new = Nystroem(gamma=0.3, n_components=100, random_state=0).fit(X_train[:, :40])
old_train = old.transform(X_train).astype(np.float32)
new_train = new.transform(X_train[:, :40]).astype(np.float32)
new_test = new.transform(X_test[:, :40]).astype(np.float32)

# %%
# Swap, then fine-tune
# --------------------

head = InvariantClassifier(150, aggregation="attention", random_state=0)
head.fit(old_train, y_train)
swapped = stitch(head, select_anchors(head, new_train))
print(f"own encoder          {head.score(old.transform(X_test), y_test):.3f}")
print(f"swapped, no labels   {swapped.score(new_test, y_test):.3f}")

# %%
# ``fine_tune`` returns a new head, and uses the learning rate and the epochs of its
# parameters; small steps preserve what was learned.  Three draws of labelled rows are
# used for each number of rows:

counts = (20, 50, 100, 200, 500)
parts = {"aggregation": "query, key, value", "head": "head alone", "all": "everything"}
curves = {label: [] for label in (*parts.values(), "a new linear head")}
swapped.set_params(lr=2e-4, max_epochs=10)
for n_rows in counts:
    scores = {label: [] for label in curves}
    for seed in range(3):
        rows = np.random.default_rng(seed).permutation(len(y_train))[:n_rows]
        for part, label in parts.items():
            tuned = swapped.fine_tune(new_train[rows], y_train[rows], part=part)
            scores[label].append(tuned.score(new_test, y_test))
        fresh = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        fresh.fit(new_train[rows], y_train[rows])
        scores["a new linear head"].append(fresh.score(new_test, y_test))
    for label, values in scores.items():
        curves[label].append((np.mean(values), np.std(values)))

print(f"{'labelled rows':22s}", *(f"{n_rows:6d}" for n_rows in counts))
for label, curve in curves.items():
    print(f"{label:22s}", *(f"{mean:6.3f}" for mean, _ in curve))

# %%
# Accuracy by the number of labels
# --------------------------------

figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
for place, (label, curve) in enumerate(curves.items()):
    means, spreads = np.transpose(curve)
    style = "--" if label.startswith("a new") else "-"
    axes.plot(counts, means, style, marker="o", color=f"C{place}", label=label)
    band = means - spreads, means + spreads
    axes.fill_between(counts, *band, color=f"C{place}", alpha=0.15)
axes.axhline(swapped.score(new_test, y_test), color="0.4", lw=1, label="no labels")
axes.set_xscale("log")
axes.set_xticks(counts, counts)
axes.minorticks_off()
axes.set_xlabel("labelled rows of the new space")
axes.set_ylabel("accuracy on the new encoder")
axes.legend()
plt.show()

# %%
# Up to two hundred labels, a fine-tuned head is better than a new one.  With so few of
# them the head alone is the safest part to train, and no part gains much from twenty
# rows.  With five hundred, the choice among the invariances gains as much as training
# everything, and a new head does best.

print(f"{perf_counter() - start:.0f} s")
