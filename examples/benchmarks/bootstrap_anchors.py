"""Anchors found from few pairs: how many are right, and what a stitched model gains.

``SKINVARIANT_DATA=folder python examples/benchmarks/bootstrap_anchors.py [n_draws
[share]]`` reads the embeddings of TREC, CIFAR-10 and Cora.  Each draw takes 1,000
training rows of either space (Cora: all 640), in two orders, of which a share (1 by
default) is in both; 10, 20 or 30 pairs are known.  For all pairs of encoders, in an
order that alternates between draws, the voting model is fitted on the old space with
the anchors below, and gets their partners in the new space:

- "known", the known pairs alone;
- "found", up to 300 pairs by `bootstrap_anchors`, right or wrong;
- "rule", those found where `recall` is 0.25 or more, else the known ones;
- "true", the old space's rows of "found" with their true partners, if all have one.

Each line holds means over pairs of encoders and draws: the share of matches that are
right, that of matches of the same class, `recall`, and stitched accuracies on test
rows.  The settings of `bootstrap_anchors` were chosen on the pairs marked *, whose
figures stand apart.  One thread.
"""

import os
import sys
import warnings
from itertools import combinations
from pathlib import Path

import numba
import numpy as np
from negative_flips import ARCHIVES, load
from threadpoolctl import threadpool_limits

from skinvariant import InvariantVotingClassifier
from skinvariant.matching import bootstrap_anchors

N_PAIRS = 10, 20, 30
N_ROWS = 1000
CHOSEN_ON = {
    ("minilm_l6", "mpnet"),
    ("minilm_l6", "use_m3"),
    ("resnet20", "resnet56"),
    ("efficientnet_lite0", "resnet44"),
    ("gcn128_s3", "gcn64_s0"),
}
COLUMNS = "right", "class", "recall", "known", "found", "rule", "true"


def measure(spaces, y, names, n_pairs, draw, share):
    """Return the figures of one draw of one pair of encoders, by column."""
    (X_old, _), (X_new, test_new) = (spaces[name] for name in names)
    y_train, y_test = y
    rng = np.random.default_rng(draw)
    n_rows = min(N_ROWS, int(len(X_old) / (2 - share)))
    n_both = int(share * n_rows)
    rows = rng.permutation(len(X_old))
    old = rng.permutation(rows[:n_rows])
    new = rng.permutation(np.r_[rows[:n_both], rows[n_rows : 2 * n_rows - n_both]])
    place = np.full(len(X_old), -1)  # of each sample among the rows of the new space
    place[new] = np.arange(n_rows)
    partners = place[old]
    known = rng.permutation(np.flatnonzero(partners >= 0))[:n_pairs]
    known = np.stack([known, partners[known]], axis=1)
    found = bootstrap_anchors(X_old[old], X_new[new], known)
    rows_old, rows_new = found.pairs.T
    matches = slice(n_pairs, None)
    same = np.abs(X_old[new[rows_new]] - X_old[old[rows_old]]).max(axis=1) == 0
    figures = {
        "right": same[matches].mean(),
        "class": (y_train[old[rows_old]] == y_train[new[rows_new]])[matches].mean(),
        "recall": found.recall,
    }
    for name, (rows_old, rows_new) in (("known", known.T), ("found", found.pairs.T)):
        model = InvariantVotingClassifier(anchors=rows_old)
        model.fit(X_old[old], y_train[old])
        stitched = model.rebase(X_new[new[rows_new]])
        figures[name] = stitched.score(test_new, y_test)
    figures["true"] = np.nan
    if share == 1:
        stitched = model.rebase(X_new[old[rows_old]])
        figures["true"] = stitched.score(test_new, y_test)
    figures["rule"] = figures["found" if found.recall >= 0.25 else "known"]
    return [figures[name] for name in COLUMNS]


def line(label, runs):
    """Print the means of some runs."""
    if len(runs):
        values = "".join(f"{value:8.3f}" for value in np.mean(runs, axis=0))
        print(f"{label:<48}{len(runs):5d}{values}", flush=True)


def main(folder, n_draws, share):
    """Print a line for each pair of encoders and number of pairs, then their means."""
    header = "".join(f"{name:>8}" for name in COLUMNS)
    print(f"{'':<48}{'runs':>5}{header}")
    records = []
    for case, file in ARCHIVES.items():
        spaces, y = load(folder / file)
        for n_pairs in N_PAIRS:
            for names in combinations(sorted(spaces), 2):
                runs = [
                    measure(spaces, y, names[:: 1 - 2 * (i % 2)], n_pairs, i, share)
                    for i in range(n_draws)
                ]
                chosen_on = names in CHOSEN_ON and case != "CIFAR-10, JPEG"
                mark = "*" if chosen_on else " "
                line(f"{mark}{case}, {' '.join(names)}, {n_pairs}", runs)
                records += [(case, n_pairs, chosen_on, *run) for run in runs]
    for case in ARCHIVES:
        for n_pairs in N_PAIRS:
            line(
                f"{case}, {n_pairs}, without *",
                [r[3:] for r in records if r[:3] == (case, n_pairs, False)],
            )
    rest = [r[3:] for r in records if not r[2]]
    line("all without *", rest)
    line("  recall of 0.25 or more", [r for r in rest if r[2] >= 0.25])
    line("  recall below 0.25", [r for r in rest if r[2] < 0.25])
    line("all with *", [r[3:] for r in records if r[2]])


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "pairs must be enough", UserWarning)
    numba.set_num_threads(1)
    with threadpool_limits(1):
        main(
            Path(os.environ["SKINVARIANT_DATA"]),
            int(sys.argv[1]) if len(sys.argv) > 1 else 2,
            float(sys.argv[2]) if len(sys.argv) > 2 else 1.0,
        )
