"""Subspace selection: after a swap, train the attention alone, or the head alone?

``python examples/paper/subspace_selection.py`` fits `InvariantClassifier` with the
attention on each encoder of TREC and CIFAR-10, puts every other encoder's 300 anchors
in, and trains on a few labelled rows of the new encoder, the first of its anchors: the
query, key and value weights alone (what the papers call subspace selection), the head
alone, or the whole network.  "stitched" is without training; "few labels" is a logistic
regression trained on the same rows of the new space as it is; "own" is the head under
its own encoder.

Each fit takes 15 epochs, each fine-tuning 30 epochs at a tenth of the learning rate.
The ablation of the aggregations themselves is in the tables of `classification.py`.
"""

import warnings

import ledger
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.parallel import Parallel, delayed

from skinvariant.heads import InvariantClassifier

PARTS = ("aggregation", "head", "all")
DATA, N_LABELS, N_ROWS = ("trec", "cifar10"), (30, 300), 3000


def fine_tuned(head, X, y, part):
    """Train a part of a head that stands in a new space."""
    quiet = {"max_epochs": 30, "lr": head.lr / 10}
    return head.set_params(**quiet).fine_tune(X, y, part=part)


def one_draw(spaces, y, y_test, n_anchors, n_labels, seed):
    """Rows of one draw of anchors: mean accuracy over all pairs, and over heads."""
    warnings.simplefilter("ignore")  # a worker has no filters
    anchors = ledger.draw(len(y), n_anchors, seed)
    scores = {}

    def note(method, n, model, name):
        score = model.score(spaces[name][1], y_test)
        scores.setdefault((method, n), []).append(score)

    for name, (X, _) in spaces.items():
        head = InvariantClassifier(
            anchors=anchors, aggregation="attention", max_epochs=15, random_state=seed
        ).fit(X, y)
        note("own", 0, head, name)
        for n in n_labels:
            few = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
            note("few labels", n, few.fit(X[anchors[:n]], y[anchors[:n]]), name)
        for other in set(spaces) - {name}:
            stitched = head.rebase(spaces[other][0][anchors])
            note("stitched", 0, stitched, other)
            for n in n_labels:
                rows = spaces[other][0][anchors[:n]], y[anchors[:n]]
                for part in PARTS:
                    note(part, n, fine_tuned(stitched, *rows, part), other)
    return [
        {"seed": seed, "method": m, "n_labels": n, "accuracy": round(np.mean(v), 4)}
        for (m, n), v in scores.items()
    ]


def experiment(args):
    """Yield mean accuracies by data, what is trained, number of labels, and seed."""
    sizes = (60, (30,)) if args.quick else (300, N_LABELS)
    drawn = {
        data: ledger.fewer(N_ROWS, *ledger.spaces(data))
        for data in (["digits"] if args.quick else DATA)
    }
    cases = [(data, seed) for data in drawn for seed in range(args.seeds)]
    jobs = (delayed(one_draw)(*drawn[data], *sizes, seed) for data, seed in cases)
    results = Parallel(ledger.n_jobs(args), return_as="generator")(jobs)
    for (data, _), rows in zip(cases, results, strict=True):
        yield from ({"data": data, **row} for row in rows)


if __name__ == "__main__":
    ledger.run("subspace_selection", experiment, ledger.options(__doc__))
