"""Controlled transformations: what does each metric not see, and how far?

``python examples/paper/transformations.py`` trains a head on a real space, seen through
each metric and through the product, and swaps the encoder for the same one followed by
a transformation that is known, at growing strength from 0, which is none, to 1:

rotation
    all axes turned, by the power of a random rotation
scaling
    all axes by a factor, of up to 100
axis scaling
    each axis by a factor of its own, their logarithms normal, deviation up to 1
shear
    a part of each axis added to others, along a random unit upper triangular matrix
translation
    all rows moved, by up to 10 times their spread
permutation
    a share of the axes reordered
noise
    normal noise on every value, of up to the spread of the axis
dropped dimensions
    a share of the axes, up to 90 %, removed

The spaces are resnet56 of CIFAR-10 and minilm_l6 of TREC.  What is declared in
`RelativeProjector.invariances_` must be flat; the rest shows how gracefully it falls.
"""

import ledger
import numpy as np
from classification import absolute, logistic
from scipy.linalg import expm
from sklearn.pipeline import make_pipeline
from sklearn.utils.parallel import Parallel, delayed

STRENGTHS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
SPACES = {"trec": "minilm_l6", "cifar10": "resnet56"}


def rotation(X, strength, rng):
    """Turn all axes: the exponential of a part of an antisymmetric matrix."""
    free = rng.normal(size=(X.shape[1],) * 2) / np.sqrt(X.shape[1])
    return X @ expm(np.pi * strength * (free - free.T)).astype(X.dtype)


def scaling(X, strength, rng):
    """Scale all axes alike."""
    return X * 100**strength


def axis_scaling(X, strength, rng):
    """Scale each axis by a factor of its own."""
    return X * np.exp(strength * rng.normal(size=X.shape[1])).astype(X.dtype)


def shear(X, strength, rng):
    """Add a part of each axis to those after it."""
    upper = np.triu(rng.normal(size=(X.shape[1],) * 2), 1) * strength
    return X + X @ (upper / np.sqrt(X.shape[1])).astype(X.dtype)


def translation(X, strength, rng):
    """Move all rows."""
    spread = X.std(axis=0, dtype=float)
    return X + (10 * strength * spread * rng.normal(size=X.shape[1])).astype(X.dtype)


def permutation(X, strength, rng):
    """Reorder a share of the axes."""
    order = np.arange(X.shape[1])
    some = rng.permutation(X.shape[1])[: round(strength * X.shape[1])]
    order[some] = rng.permutation(some)
    return X[:, order]


def noise(X, strength, rng):
    """Add noise to each value."""
    spread = strength * X.std(axis=0, dtype=float)
    return X + (spread * rng.normal(size=X.shape)).astype(X.dtype)


def dropped_dimensions(X, strength, rng):
    """Remove a share of the axes."""
    kept = max(1, round((1 - 0.9 * strength) * X.shape[1]))
    return X[:, np.sort(rng.permutation(X.shape[1])[:kept])]


TRANSFORMATIONS = (
    rotation,
    scaling,
    axis_scaling,
    shear,
    translation,
    permutation,
    noise,
    dropped_dimensions,
)


def fitted_heads(X, y, anchors):
    """Fit a head on what each metric and the product make of a space."""
    models = {
        name: make_pipeline(step, logistic(0.1))
        for name, step in ledger.projectors(anchors).items()
    }
    models["absolute"] = absolute(0.1)
    return {name: model.fit(X, y) for name, model in models.items()}


def one_draw(X, X_test, y, y_test, data, strengths, seed):
    """Accuracies under every transformation at every strength."""
    anchors = ledger.draw(len(y), 300, seed)
    heads = fitted_heads(X, y, anchors)
    rows = []
    for transformation in TRANSFORMATIONS:
        scores = {name: [] for name in heads}
        for strength in strengths:
            rng = np.random.default_rng(seed)  # the same direction at each strength
            both = np.vstack([X[anchors], X_test])
            moved = transformation(both, strength, rng)
            new, test = moved[: len(anchors)], moved[len(anchors) :]
            for name, head in heads.items():
                if name != "absolute":
                    rebased = make_pipeline(head[0].rebase(new), head[1])
                    score = rebased.score(test, y_test)
                elif test.shape[1] == X_test.shape[1]:
                    score = head.score(test, y_test)
                else:
                    score = None
                scores[name].append(score if score is None else round(score, 4))
        name = transformation.__name__.replace("_", " ")
        row = {"data": data, "seed": seed, "transformation": name}
        rows += [{**row, "method": m, "scores": values} for m, values in scores.items()]
    return rows


def experiment(args):
    """Yield accuracies by data, transformation, method and seed."""
    strengths = (0.0, 1.0) if args.quick else STRENGTHS
    yield {"strengths": list(strengths)}
    for data, encoder in ({"digits": "mlp32_s0"} if args.quick else SPACES).items():
        spaces, *labels = ledger.spaces(data)
        jobs = (
            delayed(one_draw)(*spaces[encoder], *labels, data, strengths, seed)
            for seed in range(args.seeds)
        )
        for rows in Parallel(ledger.n_jobs(args), return_as="generator")(jobs):
            yield from rows


if __name__ == "__main__":
    ledger.run("transformations", experiment, ledger.options(__doc__))
