"""Which invariance relates two spaces?

``python examples/paper/which_invariance.py`` compares, for every data set and every
pair of encoders, the test rows of both: as they are, and in the relative space of each
metric and of the product, anchors being training rows.  The agreement is told by linear
CKA, by Pearson's correlation of corresponding rows, and by the mean reciprocal rank
(MRR) at which a row finds its match.  The last two compare columns: of the spaces as
they are only where the widths match.

Cosine between relative vectors is not used: it is .97 where the MRR is .03.
"""

from itertools import combinations

import ledger

from skinvariant.comparison import cka, mean_reciprocal_rank, rowwise_pearson

N_ANCHORS, N_ROWS = 300, 1000


def agreement(seen):
    """Agreement of each pair of spaces: lists of CKA, Pearson and MRR."""
    scores = {"cka": [], "pearson": [], "mrr": []}
    for X_a, X_b in combinations(seen, 2):
        scores["cka"].append(round(float(cka(X_a, X_b)), 4))
        for name, score in (
            ("pearson", rowwise_pearson),
            ("mrr", mean_reciprocal_rank),
        ):
            fits = X_a.shape[1] == X_b.shape[1]
            scores[name].append(round(float(score(X_a, X_b)), 4) if fits else None)
    return scores


def experiment(args):
    """Yield the agreement of all pairs, by data, what they are seen through, seed."""
    for data in ["digits"] if args.quick else ledger.DATA:
        if data == "trec_fine":  # the spaces of TREC
            continue
        spaces, y, _ = ledger.spaces(data)
        pairs = [list(pair) for pair in combinations(spaces, 2)]
        yield {"data": data, "pairs": pairs}
        tests = [X_test[:N_ROWS] for _, X_test in spaces.values()]
        yield {"data": data, "method": "absolute", "seed": 0, **agreement(tests)}
        for seed in range(args.seeds):
            anchors = ledger.draw(len(y), N_ANCHORS, seed)
            for name, projector in ledger.projectors(anchors).items():
                seen = [
                    projector.fit(X).transform(X_test)
                    for (X, _), X_test in zip(spaces.values(), tests, strict=True)
                ]
                row = {"data": data, "method": name, "seed": seed}
                yield {**row, **agreement(seen)}


if __name__ == "__main__":
    ledger.run("which_invariance", experiment, ledger.options(__doc__))
