"""
The same samples in two spaces
==============================

Two encoders that were trained on the same task put the same samples in different
places.  A plot of both spaces shows that; a plot of their relative spaces shows what
they have in common.
"""

# %%
# The two spaces are the hidden layers of two networks that were trained on the same
# digits from different seeds.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from skinvariant import RelativeProjector
from skinvariant.plotting import SpaceDisplay

threadpool_limits(1)  # the matrices are small: more threads would wait for each other
X, y = load_digits(n_class=5, return_X_y=True)
X = X / 16


def hidden_layer(seed):
    """Train a network, and return its hidden layer."""
    network = MLPClassifier((64,), tol=1e-3, n_iter_no_change=3, random_state=seed)
    network.fit(X, y)
    return np.maximum(X @ network.coefs_[0] + network.intercepts_[0], 0)


old, new = hidden_layer(0), hidden_layer(1)

# %%
# The upper row shows the spaces themselves, the lower one their relative spaces:
# centred cosines with 100 anchors.  In the lower row both are drawn along the same two
# directions, the principal ones of the first: a head can use what coincides there.

projector = RelativeProjector(100, pre="center", post="standardize", random_state=0)
display = SpaceDisplay.from_spaces(
    old, new, y, projector=projector, names=("seed 0", "seed 1")
)
display.plot()
plt.show()
