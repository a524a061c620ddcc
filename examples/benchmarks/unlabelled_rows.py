"""What rows without labels add to a swap of the voting model: ``rebase(anchors, X=X)``.

``SKINVARIANT_DATA=folder python examples/benchmarks/unlabelled_rows.py [--cases cora
...] [--anchors 10 30 ...] [--seeds n]`` fits the voting model on each encoder and
rebases it to each other one, without X and with it.  X are the training rows of the new
encoder other than the anchors, without their labels; no test row is in it.  Printed are
means over all pairs of encoders and draws of anchors, on the test rows:

- the accuracy in the own space, after a swap without X, and with it;
- the same with an X that is no sample of the rows to come, in which every other class
  is missing ("half"), and with 50 rows alone;
- the smallest gain of a pair with all rows;
- the expected calibration error in the own space, without X and with it.
"""

import argparse

import numpy as np
from calibration import ARCHIVES, calibration_error, load

from skinvariant import InvariantVotingClassifier


def kinds_of_rows(y, anchors, rng):
    """Return the training rows that X holds, by name."""
    others = rng.permutation(np.setdiff1d(np.arange(len(y)), anchors))
    half = others[np.isin(y[others], np.unique(y)[::2])]
    return {"without": None, "with": others, "half": half, "50 rows": others[:50]}


def measure(case, n_anchors, n_seeds):
    """Print one row of the table."""
    spaces, y, y_test = load(case)
    accuracies, errors = [], []
    for seed in range(n_seeds):
        rng = np.random.default_rng(200 + seed)
        anchors = rng.permutation(len(y))[:n_anchors]
        kinds = kinds_of_rows(y, anchors, rng)
        spaces = {
            name: [X.astype(np.float32) for X in pair] for name, pair in spaces.items()
        }
        for own, (X, X_test) in spaces.items():
            model = InvariantVotingClassifier(anchors=anchors).fit(X, y)
            codes = np.searchsorted(model.classes_, y_test)
            proba = model.predict_proba(X_test)
            first = np.mean(proba.argmax(axis=1) == codes)
            error = calibration_error(proba, codes)
            for name in spaces.keys() - {own}:
                new, new_test = spaces[name]
                accuracies.append([first])
                errors.append([error])
                for rows in kinds.values():
                    further = None if rows is None else new[rows]
                    swapped = model.rebase(new[anchors], X=further)
                    proba = swapped.predict_proba(new_test)
                    accuracies[-1].append(np.mean(proba.argmax(axis=1) == codes))
                    errors[-1].append(calibration_error(proba, codes))
    accuracies, errors = np.array(accuracies), np.array(errors)
    least = np.min(accuracies[:, 2] - accuracies[:, 1])
    print(
        f"{case:14s}{n_anchors:4d}  accuracy",
        *(f"{value:.3f}" for value in accuracies.mean(axis=0)),
        f" least gain {least:+.3f}  calibration error",
        *(f"{value:.3f}" for value in errors.mean(axis=0)[:3]),
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=ARCHIVES, default=ARCHIVES)
    parser.add_argument("--anchors", nargs="+", type=int, default=[10, 30, 100, 300])
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    print("accuracy: own, without X, with X, half of the classes, 50 rows", flush=True)
    for case in given.cases:
        for n_anchors in given.anchors:
            measure(case, n_anchors, given.seeds)
