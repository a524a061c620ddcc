"""Make the page "Results" of the records: ``python examples/paper/report.py``.

Reads ``docs/results/*.json`` and writes ``docs/results.rst`` and the pictures beside
the records.  Every number on the page is computed here from a record; ``--check`` tells
whether the page is that of the records, and writes nothing.
"""

import argparse
import sys
from pathlib import Path

import ledger
import pictures
import tables
from tables import (
    TITLES,
    said,
    table,
    title,
)

# --- aims ---------------------------------------------------------------------------


def met(fine):
    """Say whether."""
    return "met" if fine else "**not met**"


def aims(records):
    """Write what was to be shown, and whether it was."""
    rows = []
    for data in TITLES:
        rows += voting_aims(records, data)
    for data in ("mnist", "fashion_mnist", "cifar10"):
        rows += reconstruction_aims(records, data)
    rows += time_aims(records)
    return title("Aims") + table(["aim", "seen", ""], rows) + said(LIMITS)


def voting_aims(records, data):
    """Write where the voting model is level with every rival, within an error."""
    drawn = dict(tables.voted(records, data))
    if not drawn:
        return []
    behind = {"": [], " with labels": []}
    for n_anchors, methods in drawn.items():
        every = [x for names in tables.RIVALS.values() for x in names if x in methods]
        blind = [x for x in every if x != "few labels"]
        for which, names in (("", blind), (" with labels", every)):
            method = tables.LABELLED if which else tables.VOTE
            rival = tables.best_of(methods, names)
            mean, error = tables.ahead(methods, rival, method)
            if mean < -error:
                behind[which].append(f"{n_anchors} anchors {mean:+.3f} ({rival})")
    return [
        [
            f"voting{which}, {TITLES[data]}: no rival ahead by more than an error",
            "; ".join(found) or "none",
            met(not found),
        ]
        for which, found in behind.items()
    ]


def time_aims(records):
    """Write how long the longest command took, and all of them."""
    seconds = {name: record["seconds"] for name, record in records.all.items()}
    longest, total = max(seconds, key=seconds.get), sum(seconds.values())
    minutes = seconds[longest] / 60
    fewer = sum("--seeds" in record["command"] for record in records.all.values())
    missing = sum(not records.rows(name) for name in RECORDS)
    shown = [met(minutes <= 20), met(total <= 7200)]
    if fewer or missing:  # what took long enough already is not met all the same
        doubt = f"not shown: {fewer} have fewer seeds, {missing} are missing"
        shown = [doubt if verdict == met(True) else verdict for verdict in shown]
    return [
        [
            "each command within 20 minutes, on two cores",
            f"{minutes:.0f} minutes (``{longest}``)",
            shown[0],
        ],
        [
            "all of them within two hours",
            f"{total / 60:.0f} minutes",
            shown[1],
        ],
    ]


def reconstruction_aims(records, data):
    """Write what was to be shown of reconstruction, for either way of training."""
    rows = [r for r in records.rows(f"reconstruction_{data}") if "mse" in r]
    found = []
    for training in dict.fromkeys(row["training"] for row in rows):

        def mean(method, training=training):
            return tables.reconstructed(rows, training, method)[1]

        ratio, swap = mean("product")[3], mean("absolute")[3]
        without = mean("product_without_chebyshev")[1] / mean("product")[1]
        name = f"reconstruction, {TITLES[data]}, {training.replace('_', ' ')}"
        found += [
            [f"{name}: product ≤ 1.5 x own", f"{ratio:.2f}", met(ratio <= 1.5)],
            [f"{name}: absolute swap > 10 x own", f"{swap:.1f}", met(swap > 10)],
            [
                f"{name}: dropping L-infinity helps",
                f"error x {without:.2f}",
                "yes" if round(without, 2) < 1 else "no",
            ],
        ]
    return found


def commands(records):
    """Write the ledger: every command, its time, and what it ran with."""
    lines = title("Ledger")
    lines += said(
        """
        Commands, and the seconds each took on two cores that others may have used, too:
        """
    )
    rows = [
        [f"``{record['command']}``", f"{record['seconds']:.0f}", f"``{name}.json``"]
        for name, record in records.all.items()
    ]
    total = sum(record["seconds"] for record in records.all.values())
    rows.append(["all of it", f"{total:.0f}", ""])
    lines += table(["command", "seconds", "record"], rows)
    versions = {
        f"{package} {version}"
        for record in records.all.values()
        for package, version in record["versions"].items()
    }
    pythons = {f"Python {record['python']}" for record in records.all.values()}
    lines += [f"{', '.join(sorted(pythons) + sorted(versions))}.", ""]
    return lines


LIMITS = """\
Where an aim is not met, what limits it.  Networks that were trained on one task, with
several times more anchors than their spaces have axes, differ by a map that is nearly
linear: a kernel translation under a head on the standardised space loses next to
nothing.
The voting model contains such a map, so it can be level with it, but hardly ahead, and
members that are worse draw it down a little; the rivals' penalty was chosen on the test
rows, its own was not.  In reconstruction the noise that relative decoders are trained
under was first chosen by looking at test images of MNIST; of half of it, one and a half
times and twice as much, none has a lower stitched error on training images of MNIST and
Fashion-MNIST that were held back.  Ridge and kernel translations draw better there than
any relative decoder, whose own error is higher to begin with.  The commands that took
longest ran while other work had its share of the two cores.
"""

TAKEAWAYS = """\
1. Train an `InvariantVotingClassifier` and swap the encoder by `stitch`: you need not
   know which metric transfers, and its own accuracy is that of a plain head.
2. With few anchors it is ahead of every translation; with several
   hundred, and two networks of one task, a kernel translation is level with it.
3. The best single metric depends on the task: euclidean distances on text, coordinates
   in the anchors' frame (``change_of_basis``) on most images.  Chebyshev alone is worse
   nearly everywhere, and so is a concatenation of all metrics.
"""

INTRODUCTION = """\
.. This page is made by examples/paper/report.py: change that, not this.

=======
Results
=======

What the papers measured, on data and encoders that we could have: which invariance
relates two spaces, and what happens to a head when the encoder under it is replaced.
Each number comes from a record that a command of the ledger below has written; the
commands are in ``examples/paper`` and want ``SKINVARIANT_DATA``, the folder of data.

Text: TREC questions under MiniLM, the Universal Sentence Encoder, MPNet and GloVe.
Vision: CIFAR-10 under four ResNets, which were trained on it, and EfficientNet-Lite0,
which was not; MNIST and Fashion-MNIST under dense and convolutional networks that are
trained from scratch in each run.  Graph: Cora under four GCNs.
"""


#: What is written of which records, in this order.
SECTIONS = {
    "classification_trec": (tables.classification, tables.ranking, tables.ablation),
    "subspace_selection": (tables.subspace,),
    "which_invariance": (tables.agreement,),
    "reconstruction_mnist": (tables.reconstruction,),
    "anchor_sets_number": (tables.number_of_anchors,),
    "anchor_sets_strategy": (tables.strategies,),
    "anchor_sets_elsewhere": (tables.anchors_from_elsewhere,),
    "transformations": (tables.transformations,),
    "metric_subsets": (tables.subsets,),
}
VOTED = tuple(data for data in TITLES if data != "trec_fine")
RECORDS = (
    *(f"voting_{data}" for data in VOTED),
    *(f"classification_{data}" for data in TITLES),
    *(f"reconstruction_{data}" for data in ("mnist", "fashion_mnist", "cifar10")),
    *list(SECTIONS)[1:],
)


def page(records):
    """Write the page."""
    lines = [*INTRODUCTION.splitlines(), "", *title("In three lines"), *said(TAKEAWAYS)]
    lines += [*aims(records), *commands(records)]
    missing = sorted({f"``{name}``" for name in RECORDS if not records.rows(name)})
    if missing:
        lines += [f"Without a record as yet: {', '.join(missing)}.", ""]
    if any(records.rows(f"voting_{data}") for data in VOTED):
        lines += tables.recommended(records)
    for name, sections in SECTIONS.items():
        if records.rows(name):
            lines += [line for section in sections for line in section(records)]
    return "\n".join(lines).rstrip() + "\n"


def main():
    """Write the page and its pictures, or check the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--results", type=Path, default=ledger.RESULTS)
    args = parser.parse_args()
    records, path = tables.Records(args.results), args.results.parent / "results.rst"
    text = page(records)
    if args.check:
        sys.exit(None if path.read_text() == text else f"{path} is not of its records")
    path.write_text(text, encoding="utf-8")
    pictures.draw(records, args.results)


if __name__ == "__main__":
    main()
