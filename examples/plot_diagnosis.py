"""
What is the difference between two encoders?
============================================

Two encoders have encoded the same samples.  Is the new space the old one rotated,
scaled, shifted, or something else?  And which metric is insensitive to the difference?
``diagnose`` estimates both from the two spaces alone, without labels.
"""

# %%
# A difference that is known
# --------------------------
#
# The second space is the first one rotated, scaled and shifted, with some noise.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from skinvariant import InvariantVotingClassifier, diagnose, select_anchors, stitch
from skinvariant.datasets import make_related_spaces
from skinvariant.plotting import DiagnosisDisplay

threadpool_limits(1)  # the matrices are small: more threads would wait for each other
related = make_related_spaces(
    400,
    transformation=("orthogonal", "isotropic_scaling", "translation"),
    noise=0.05,
    random_state=0,
)
known = diagnose(related.X_a, related.X_b, n_anchors=100, random_state=0)
print(known)

# %%
# Each bar in the upper part shows how much of the new space a class of maps explains,
# on rows that the map was not fitted on.  The diagnosis names the simplest class
# that explains as much as any.  The lower part shows choices of metric, ``pre`` and
# ``post``, the best first.

DiagnosisDisplay.from_diagnosis(known).plot()
plt.show()

# %%
# Two networks
# ------------
#
# For two networks that were trained from different seeds the difference is unknown.

images, digits = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(
    images / 16, digits, test_size=1 / 3, stratify=digits, random_state=0
)


def hidden_layer(seed):
    """Train a network, and return its hidden layer."""
    network = MLPClassifier((64,), tol=1e-3, n_iter_no_change=3, random_state=seed)
    network.fit(X, y)
    weights, biases = network.coefs_[0], network.intercepts_[0]
    return [np.maximum(rows @ weights + biases, 0) for rows in (X, X_test)]


(old, old_test), (new, new_test) = hidden_layer(0), hidden_layer(1)
diagnosis = diagnose(old, new, n_anchors=200, random_state=0)
print(diagnosis.reason)
DiagnosisDisplay.from_diagnosis(diagnosis).plot()
plt.show()

# %%
# The recommendation is an ``InvariantAggregator`` that is not fitted yet.  A head on it
# is compared with the voting model, which needs no diagnosis:

print(diagnosis.recommended)
product = diagnosis.recommended.set_params(random_state=0)
model = make_pipeline(product, LogisticRegression(C=0.1, max_iter=1000)).fit(old, y)
vote = InvariantVotingClassifier(n_anchors=200, random_state=0).fit(old, y)
print(f"{'':<14}{'own':>6}{'stitched':>10}")
for name, fitted in {"recommended": model, "voting model": vote}.items():
    stitched = stitch(fitted, select_anchors(fitted, new))
    own, swapped = fitted.score(old_test, y_test), stitched.score(new_test, y_test)
    print(f"{name:<14}{own:6.3f}{swapped:10.3f}")
