"""The tables of the pages "Results", made of the records by ``report.py``."""

import functools
import json
import textwrap
from collections import defaultdict
from itertools import product
from pathlib import Path

import ledger
import numpy as np

TITLES = {
    "trec": "TREC, 6 classes",
    "trec_fine": "TREC, 50 classes",
    "cifar10": "CIFAR-10, lossless",
    "cifar10_jpeg": "CIFAR-10, JPEG",
    "cora": "Cora",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
}
MODALITIES = {
    "text": ("trec", "trec_fine"),
    "vision, frozen encoders": ("cifar10", "cifar10_jpeg"),
    "vision, trained from scratch": ("mnist", "fashion_mnist"),
    "graph": ("cora",),
}
DASH = "\N{EN DASH}"
METRICS = tuple(ledger.SINGLE)
AGGREGATIONS = ("concat", "sum", "mean", "weighted", "mlp_sum", "attention")
TRANSLATORS = ("orthogonal", "linear", "ridge", "affine", "kernel")
VOTE, LABELLED = "voting", "voting, labels"
WEAK = "glove50"  # a weak encoder: the index is also computed without its pairs


class Records:
    """The records, by name; each is read once, and those that are missing are none."""

    def __init__(self, folder):
        paths = sorted(Path(folder).glob("*.json"))
        self.all = {path.stem: json.loads(path.read_text()) for path in paths}

    def rows(self, name):
        """Return the rows of a record."""
        return self.all[name]["rows"] if name in self.all else []


# --- words and tables ---------------------------------------------------------------


def table(header, rows):
    """Write a list-table."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in [header, *rows]:
        lines += [
            f"   {'* -' if i == 0 else '  -'} {cell}".rstrip()
            for i, cell in enumerate(row)
        ]
    return [*lines, ""]


def paragraph(text):
    """Write a paragraph."""
    return [*textwrap.dedent(text).strip().splitlines(), ""]


def title(text, mark="="):
    """Write a heading."""
    return [text, mark * len(text), ""]


def spread(values, digits=3):
    """Write mean and standard deviation."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return f"{values.mean():.{digits}f}"
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}"


def number(value, digits=3):
    """Write a number, or a dash."""
    return DASH if value is None or np.isnan(value) else f"{value:.{digits}f}"


def picture(name, text, folder="generated/results"):
    """Show a picture: one that ``pictures.py`` draws, or one of an experiment."""
    return [f".. image:: /{folder}/{name}.png", f"   :alt: {text}", ""]


# --- classification -----------------------------------------------------------------


def summary(scores, kept=None, worst=np.min):
    """Own, stitched and worst score, and mean of stitched / own, of one matrix."""
    matrix = np.array(scores, dtype=float)
    if kept is not None:
        matrix = matrix[np.ix_(kept, kept)]
    off = ~np.eye(len(matrix), dtype=bool) & ~np.isnan(matrix)
    own = np.diag(matrix)
    if not off.any():
        return own.mean(), np.nan, np.nan, np.nan
    index = (matrix / own[:, np.newaxis])[off].mean()
    return own.mean(), matrix[off].mean(), worst(matrix[off]), index


@functools.cache
def best_rows(records, data, n_anchors=300, without=None, record="classification"):
    """Rows of each method at its best strength, each with its summary."""
    rows = records.rows(f"{record}_{data}")
    if not rows:
        return {}
    names = rows[0]["encoders"]
    kept = [i for i, name in enumerate(names) if name != without]
    found = defaultdict(lambda: defaultdict(list))
    for row in rows[1:]:
        if row.get("n_anchors", n_anchors) == n_anchors:
            summarised = {**row, "summary": summary(row["scores"], kept)}
            found[row["method"]][row["C"]].append(summarised)

    def stitched(drawn):  # own, where nothing can be stitched
        means = np.mean([row["summary"] for row in drawn], axis=0)
        return means[1] if np.isfinite(means[1]) else means[0]

    return {method: max(s.values(), key=stitched) for method, s in found.items()}


def classified(records, data, n_anchors=300, without=None, record="classification"):
    """Summaries by method, (draws, 4), each method at its best strength."""
    best = best_rows(records, data, n_anchors, without, record)
    return {m: np.array([r["summary"] for r in rows]) for m, rows in best.items()}


def best_of(methods, names):
    """Return the name with the highest stitched mean."""
    return max(names, key=lambda name: methods[name][:, 1].mean())


def ahead(methods, rival, method=VOTE):
    """Mean and standard error of what the voting model is ahead of a rival, by draw."""
    difference = methods[method][:, 1] - methods[rival][:, 1]
    return difference.mean(), difference.std(ddof=1) / np.sqrt(len(difference))


# --- the recommended model ----------------------------------------------------------

#: The rivals by column; of several the best one.
RIVALS = {
    "best metric": METRICS,
    "ridge": ("ridge",),
    "kernel": ("kernel",),
    "orthogonal": ("orthogonal",),
    "product": ("product",),
    "weak penalty": ("first edition",),
    "few labels": ("few labels",),
}


def voted(records, data):
    """Yield the numbers of anchors, and the summaries of all methods with these."""
    rows = records.rows(f"voting_{data}")
    for n_anchors in sorted({row["n_anchors"] for row in rows if "n_anchors" in row}):
        yield n_anchors, classified(records, data, n_anchors, record="voting")


def lead(methods, names, method=VOTE):
    """Write what the voting model is ahead of the best of some rivals."""
    rival = best_of(methods, [name for name in names if name in methods])
    mean, error = ahead(methods, rival, method)
    text = f"{mean:+.3f} ± {error:.3f} ({rival})"
    return f"**{text}**" if mean < -error else text


def voting(records, data):
    """Write the tables of the voting model and its rivals, for one data set."""
    drawn = list(voted(records, data))
    if not drawn:
        return []
    lines = title("The voting model", "-")
    lines += paragraph(
        """
        `InvariantVotingClassifier` with its defaults, compared with what one might do
        instead with the same anchors.  *Own* is the mean accuracy of its heads under
        their own encoders, and *plain* that of a logistic regression on the
        standardised space.  All other columns are accuracies after the swap, means
        over all heads under all other encoders; *worst* is the lowest of these in
        each draw of anchors.  Every rival has the penalty of its head that is best on
        the test rows, a choice in its favour that nobody could make in practice.
        *Product* is one head on the comparisons under all metrics, *weak penalty* the
        same with ``pre="center"``, ``post="layer"`` and a weak penalty, and *few
        labels* a head trained on the anchors' labels alone.
        """
    )
    header = ["anchors", "own", "plain", "stitched", "worst"]
    header += ["with labels, worst", *RIVALS]
    cells, leads = [], []
    for n_anchors, methods in drawn:
        means = {method: v.mean(axis=0) for method, v in methods.items()}
        line = [n_anchors, number(means[VOTE][0])]
        line += [number(means["plain"][0]), number(means[VOTE][1])]
        line += [number(means[VOTE][2])]
        line += [f"{means[LABELLED][1]:.3f}, {means[LABELLED][2]:.3f}"]
        for names in RIVALS.values():
            names = [x for x in names if x in methods]
            found = means[best_of(methods, names)][1] if names else np.nan
            line.append(number(found))
        cells.append(line)
        every = [x for names in RIVALS.values() for x in names]
        blind = [x for x in every if x != "few labels"]
        leads.append(
            [
                n_anchors,
                lead(methods, blind),
                lead(methods, every, LABELLED),
                number(methods["pooled translations"][:, 1].mean()),
                lead(methods, TRANSLATORS, "pooled translations"),
            ]
        )
    lines += table(header, cells)
    lines += paragraph(
        """
        The lead of the voting model over the best rival that uses no labels, and with
        the anchors' labels over the best of all, each with its standard error over
        draws of anchors; bold where the voting model is behind by more than one.  The
        last two columns are about a head that was trained without this package:
        ``stitch(head, new_rows, old_anchors=old_rows)``, and its lead over the best
        single translation in front of the same head, each at its best penalty.
        """
    )
    header = ["anchors", "lead", "lead with labels", "plain head", "its lead"]
    return lines + table(header, leads)


def voting_curves(records):
    """Show the curves of the voting model and its rivals, by the number of anchors."""
    lines = title("The voting model by the number of anchors", "-")
    text = "Curves of stitched accuracy against the number of anchors, by data set"
    return lines + picture("voting", text)


# --- classification, the papers' methods --------------------------------------------

CLASSIFICATION = """\
A head is trained on one encoder's training rows, 5,500 at most, and tested on every
encoder's test rows.  This gives a matrix of accuracies: *own* is the mean of its
diagonal, *stitched* the mean of the rest, *worst* its smallest cell, and *index* the
mean of stitched / own.  Means and standard deviations are over draws of anchors, which
are random training rows.  The penalty of the heads is chosen on the test rows for each
method, in its favour; learned aggregations have their defaults.
"""


def matrix_of(records, data, method, n_anchors=300):
    """Write a method's mean accuracy, heads in rows and encoders in columns."""
    names = records.rows(f"classification_{data}")[0]["encoders"]
    rows = best_rows(records, data, n_anchors)[method]
    mean = np.mean([row["scores"] for row in rows], axis=0)
    return table(
        ["head", *names],
        [
            [name, *(number(x) for x in line)]
            for name, line in zip(names, mean, strict=True)
        ],
    )


def classification_table(records, data, n_anchors=300):
    """Write own, stitched, worst and index of every method."""
    methods = classified(records, data, n_anchors)
    weak = classified(records, data, n_anchors, WEAK) if "trec" in data else {}
    order = ["absolute", *METRICS, *AGGREGATIONS, *TRANSLATORS, "few labels"]
    header = ["method", "own", "stitched", "worst", "index"]
    header += ["index without GloVe"] if weak else []
    lines = []
    for name in order:
        if name not in methods:
            continue
        values = methods[name]
        cells = [spread(values[:, i]) for i in (0, 1)]
        cells += [number(values[:, i].mean()) for i in (2, 3)]
        if name == "few labels":
            cells[0] = cells[3] = DASH
        if np.isnan(values[:, 1]).any():
            cells[1] = "widths differ"
        if weak:
            cells.append(number(weak[name][:, 3].mean()))
        if name == "few labels" and weak:
            cells[-1] = DASH
        lines.append([name, *cells])
    return table(header, lines)


def classification(records, data):
    """Write the tables of zero-shot classification, for one data set."""
    counts = {row.get("n_anchors") for row in records.rows(f"classification_{data}")}
    if not counts:
        return []
    lines = title("Every method", "-") + paragraph(CLASSIFICATION)
    for n_anchors in sorted(counts - {None}):
        lines += title(f"{n_anchors} anchors", "~")
        lines += classification_table(records, data, n_anchors)
        best = best_of(classified(records, data, n_anchors), METRICS)
        lines += [f"Every head under every encoder, {best}:", ""]
        lines += matrix_of(records, data, best, n_anchors)
    return lines


def ranking(records):
    """Write the ranks of the metrics by modality."""
    lines = title("Which metric is best", "-")
    lines += paragraph(
        """
        Stitched accuracy and its standard deviation over draws, 300 anchors, and
        how often each metric is the best one of the five in a pair of encoders
        and a draw.
        """
    )
    lines += picture("metrics", "Stitched accuracy of each metric, by data set")
    rows = []
    for modality, names in MODALITIES.items():
        for data in names:
            if not records.rows(f"classification_{data}"):
                continue
            methods = classified(records, data)
            cells = [spread(methods[metric][:, 1]) for metric in METRICS]
            wins = winners(records, data)
            cells += [" / ".join(f"{wins[m]:.0%}" for m in METRICS)]
            rows.append([modality, TITLES[data], *cells])
    header = ["modality", "data", *METRICS, "best in (same order)"]
    return lines + table(header, rows)


def winners(records, data):
    """Share of pairs and draws in which each metric is best; ties are shared."""
    rows = best_rows(records, data)
    scores = np.array([[row["scores"] for row in rows[m]] for m in METRICS])
    off = ~np.eye(scores.shape[-1], dtype=bool)
    pairs = scores[..., off].reshape(len(METRICS), -1)
    best = pairs == pairs.max(axis=0)
    return dict(zip(METRICS, (best / best.sum(axis=0)).mean(axis=1), strict=True))


def ablation(records):
    """Write the table of aggregations."""
    lines = title("Aggregations", "-")
    lines += paragraph(
        """
        Stitched accuracy with 300 anchors.  A logistic regression is trained on the
        output of concat, sum and mean; the others are learned together with their
        head.
        """
    )
    names = [d for d in TITLES if records.rows(f"classification_{d}")]
    rows = []
    for method in AGGREGATIONS:
        cells = [spread(classified(records, d)[method][:, 1]) for d in names]
        rows.append([method, *cells])
    return lines + table(["aggregation", *(TITLES[d] for d in names)], rows)


# --- which invariance ---------------------------------------------------------------


SCORES = ("cka", "pearson", "mrr")


def agreements(records, data):
    """Read the measures of each method, arrays of draws by pairs of encoders."""
    rows = [r for r in records.rows("which_invariance") if r["data"] == data]
    methods = ("absolute", *METRICS, "product") if rows else ()
    return {
        (method, score): np.array(
            [row[score] for row in rows if row.get("method") == method], dtype=float
        )
        for method, score in product(methods, SCORES)
    }


def agreement(records, data):
    """Write how similar the relative spaces of two encoders are, for one data set."""
    found = agreements(records, data)
    if not found:
        return []
    lines = title("Similarity of the spaces", "-")
    lines += paragraph(
        """
        Similarity of the test rows of two encoders, mean and standard deviation over
        all pairs of encoders and draws of 300 anchors: the centred kernel alignment
        (CKA), the mean correlation of corresponding rows (Pearson) and the mean
        reciprocal rank of the corresponding row (MRR).  Pearson and MRR compare
        columns, so absolute spaces need equal widths for them.
        """
    )
    cells = []
    for method in dict.fromkeys(method for method, _ in found):
        line = [method]
        for score in SCORES:
            values = found[method, score]
            finite = values[np.isfinite(values)]
            line.append(spread(finite) if finite.size else DASH)
        cells.append(line)
    return lines + table(["relative space", "CKA", "Pearson", "MRR"], cells)


def best_agreement(records):
    """Write how often the relative spaces of each metric are the most similar ones."""
    lines = title("Which invariance relates two spaces", "-")
    lines += paragraph(
        """
        The number of pairs of encoders in which each metric has the most similar
        relative spaces (highest mean over draws), by CKA and by MRR.
        """
    )
    wins, n_pairs = defaultdict(lambda: defaultdict(int)), 0
    for data in TITLES:
        found = agreements(records, data)
        means = {key: values.mean(axis=0) for key, values in found.items()}
        n_pairs += len(means.get(("cosine", "cka"), ()))
        for score in ("cka", "mrr") if means else ():
            best = np.argmax([means[metric, score] for metric in METRICS], axis=0)
            for i in best:
                wins[score][METRICS[i]] += 1
    lines += table(
        ["most similar by", *METRICS, "pairs"],
        [[s, *(wins[s][m] for m in METRICS), n_pairs] for s in ("cka", "mrr")],
    )
    several = all(max(w.values()) < n_pairs for w in wins.values())
    verdict = "confirmed" if several else "refuted"
    return [*lines, f"That no single class is best for all pairs: **{verdict}**.", ""]


# --- the others ---------------------------------------------------------------------


def reconstruction(records, data):
    """Write the tables and the picture of reconstruction, for one data set."""
    name = f"reconstruction_{data}"
    rows = [r for r in records.rows(name) if "mse" in r]
    if not rows:
        return []
    lines = title("Reconstruction", "-")
    lines += paragraph(
        """
        A decoder is trained on the latent space of one autoencoder, in the relative
        space of each method, and then used with every other encoder.  Mean squared
        error of test images, mean and standard deviation over seeds; *ratio* is
        stitched / own.
        """
    )
    for training in dict.fromkeys(r["training"] for r in rows):
        lines += [f"Training: {training.replace('_', ' ')}.", ""]
        lines += table(
            ["method", "own", "stitched", "worst", "ratio"],
            [
                [method, *reconstructed(rows, training, method)[0]]
                for method in dict.fromkeys(
                    r["method"] for r in rows if r["training"] == training
                )
            ],
        )
    text = f"Images of {data}, reconstructed by stitched decoders"
    return lines + picture(name, text, "results")


def reconstructed(rows, training, method):
    """Write own, stitched, worst, ratio; and return the means of these."""
    values = np.array(
        [
            summary(row["mse"], worst=np.max)
            for row in rows
            if (row["training"], row["method"]) == (training, method)
        ]
    )
    cells = [spread(values[:, i], 4) for i in (0, 1)]
    cells += [number(values[:, 2].mean(), 4), number(values[:, 3].mean(), 2)]
    return cells, values.mean(axis=0)


def subspace(records):
    """Write the table of subspace selection."""
    rows = records.rows("subspace_selection")
    lines = title("A few labels after the swap", "-")
    lines += paragraph(
        """
        The attention head is stitched and then trained on a few labelled rows of the
        new encoder: only its query, key and value weights (the papers' *subspace
        selection*), only the head after these, or all of it.
        """
    )
    names = {
        "own": "own",
        "stitched": "stitched, not trained",
        "aggregation": "query, key and value",
        "head": "head",
        "all": "all",
        "few labels": "a head on the new space",
    }
    datas = list(dict.fromkeys(row["data"] for row in rows))
    cells = []
    for method, name in names.items():
        for n in sorted({r["n_labels"] for r in rows if r["method"] == method}):
            line = [name, n or DASH]
            for data in datas:
                key = data, method, n
                line.append(
                    spread(
                        [
                            r["accuracy"]
                            for r in rows
                            if (r["data"], r["method"], r["n_labels"]) == key
                        ]
                    )
                )
            cells.append(line)
    return lines + table(
        ["trained", "labels", *(TITLES.get(d, d) for d in datas)], cells
    )


def off_mean(row):
    """Stitched mean of a row's matrix."""
    return summary(row["scores"])[1]


def grouped(rows, *keys):
    """Stitched means of rows by the values of some keys."""
    found = defaultdict(list)
    for row in rows:
        if "scores" in row:
            found[tuple(row[key] for key in keys)].append(off_mean(row))
    return found


def number_of_anchors(records, data):
    """Write accuracy by the number of anchors, for one data set."""
    found = grouped(records.rows("anchor_sets_number"), "data", "method", "n_anchors")
    numbers = sorted({n for d, _, n in found if d == data})
    if not numbers:
        return []
    lines = title("Number of anchors", "-")
    lines += paragraph(
        """
        Stitched accuracy.  All heads are trained on 2,500 rows with C=0.3, except
        those on few labels, which have 0.01: a smaller one would be better for single
        metrics on TREC.
        """
    )
    cells = [
        [
            method,
            *(
                spread(found[data, method, n]) if (data, method, n) in found else DASH
                for n in numbers
            ),
        ]
        for method in dict.fromkeys(m for d, m, _ in found if d == data)
    ]
    return lines + table(["method", *numbers], cells)


def number_curves(records):
    """Show the curves of every method, by the number of anchors."""
    lines = title("Every method by the number of anchors", "-")
    lines += paragraph(
        """
        Stitched accuracy; the bands are standard deviations.  The pages of the data
        sets have the numbers.
        """
    )
    text = "Curves of accuracy against the number of anchors, for each method"
    return lines + picture("anchor_sets_number", text)


def strategies(records):
    """Write the table of ways to choose anchors."""
    lines = title("Ways to choose anchors", "-")
    found = grouped(
        records.rows("anchor_sets_strategy"), "data", "n_anchors", "strategy", "method"
    )
    methods = METRICS
    cells = [
        [TITLES.get(d, d), n, s, *(spread(found[d, n, s, m]) for m in methods)]
        for d, n, s in dict.fromkeys((d, n, s) for d, n, s, _ in found)
    ]
    cells.sort(key=lambda line: (line[0], line[1]))
    return lines + table(["data", "anchors", "strategy", *methods], cells)


def anchors_from_elsewhere(records):
    """Write the table of anchors that are rows of other data."""
    lines = title("Anchors from other data", "-")
    found = grouped(records.rows("anchor_sets_elsewhere"), "data", "anchors", "method")
    methods = (*METRICS, "orthogonal", "ridge", "kernel")
    cells = [
        [TITLES.get(d, d), a, *(spread(found[d, a, m]) for m in methods)]
        for d, a in dict.fromkeys((d, a) for d, a, _ in found)
    ]
    return lines + table(["heads of", "anchors of the", *methods], cells)


def transformations(records):
    """Write the table of controlled transformations."""
    rows = records.rows("transformations")
    lines = paragraph(
        """
        The same encoder, followed by a known transformation of growing strength
        from 0 (none) to 1; after each metric the columns are standardised on the
        anchors.
        """
    )
    lines += picture("transformations", "Accuracy against the strength")
    found = defaultdict(list)
    for row in rows:
        if "scores" in row:
            found[row["data"], row["transformation"], row["method"]].append(
                row["scores"][-1]
            )
    methods = ("absolute", *METRICS, "product")
    cells = [
        [
            TITLES.get(data, data),
            kind,
            *(
                DASH if None in found[data, kind, m] else spread(found[data, kind, m])
                for m in methods
            ),
        ]
        for data, kind in dict.fromkeys((d, k) for d, k, _ in found)
    ]
    lines += ["At strength 1:", ""]
    return lines + table(["data", "transformation", *methods], cells)


def subsets(records):
    """Write the table of sets of metrics."""
    found = grouped(records.rows("metric_subsets"), "data", "metrics", "method")
    lines = title("Other sets of metrics", "-")
    lines += paragraph(
        """
        Stitched accuracy of each set: one head on the concatenation, and a plain
        vote of one head per metric.
        """
    )
    datas = list(dict.fromkeys(d for d, _, _ in found))
    cells = []
    for chosen in dict.fromkeys(m for _, m, _ in found):
        line = [chosen.replace("+", ", ")]
        for data in datas:
            line += [spread(found[data, chosen, way]) for way in ("concat", "vote")]
        cells.append(line)
    header = [f"{TITLES.get(d, d)}: {way}" for d in datas for way in ("concat", "vote")]
    lines += table(["metrics", *header], cells)
    for data in datas:
        sentences = []
        for way in ("concat", "vote"):
            sets = {m: v for (d, m, w), v in found.items() if (d, w) == (data, way)}
            best = max(sets, key=lambda m: np.mean(sets[m]))
            sentences.append(f"{best.replace('+', ', ')} ({way}, {spread(sets[best])})")
        lines += [f"Best on {TITLES.get(data, data)}: {'; '.join(sentences)}.", ""]
    return lines
