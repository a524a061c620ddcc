"""Make the tables of the pages "Results": ``python examples/paper/report.py``.

Reads ``docs/results/*.json`` and writes one page for each data set, and pages about
methods, anchors, transformations and aims, with their pictures, into
``docs/generated/results``.  The build of the documentation does the same, and puts the
aims that were not reached and the ledger on the page "Results".  Every number is
computed here from a record; none is typed by hand.
"""

import argparse
from pathlib import Path

import ledger
import pictures
import tables
from tables import TITLES, table, title

# --- aims ---------------------------------------------------------------------------


MET, NOT_MET = "met", "**not met**"


def met(fine):
    """Write whether an aim is met."""
    return MET if fine else NOT_MET


def aims(records):
    """Return every aim with what was measured and whether it is met."""
    rows = []
    for data in TITLES:
        rows += voting_aims(records, data)
    for data in RECONSTRUCTED:
        rows += reconstruction_aims(records, data)
    return rows + time_aims(records)


def missed(records):
    """Write the table of the aims that are not met."""
    rows = aims(records)
    fine, missing = (sum(row[2] == each for row in rows) for each in (MET, NOT_MET))
    lines = [f"Of the aims of these experiments {fine} are met, and {missing} are not:"]
    short = [[aim, measured] for aim, measured, verdict in rows if verdict == NOT_MET]
    return [*lines, "", *table(["aim", "measured"], short)]


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
    if fewer or missing:  # an aim that is missed already stays so
        reason = f"not shown: {fewer} have fewer seeds, {missing} are missing"
        shown = [reason if verdict == MET else verdict for verdict in shown]
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


# --- ledger -------------------------------------------------------------------------


def commands(records):
    """Write the ledger: every command, its time, and what it ran with."""
    rows = [
        [f"``{record['command']}``", f"{record['seconds']:.0f}", f"``{name}.json``"]
        for name, record in records.all.items()
    ]
    total = sum(record["seconds"] for record in records.all.values())
    rows.append(["all of them", f"{total:.0f}", ""])
    lines = table(["command", "seconds", "record"], rows)
    versions = {
        f"{package} {version}"
        for record in records.all.values()
        for package, version in record["versions"].items()
    }
    pythons = {f"Python {record['python']}" for record in records.all.values()}
    lines += [f"{', '.join(sorted(pythons) + sorted(versions))}.", ""]
    missing = sorted({f"``{name}``" for name in RECORDS if not records.rows(name)})
    if missing:
        lines += [f"Without a record so far: {', '.join(missing)}.", ""]
    return lines


# --- pages --------------------------------------------------------------------------

RECONSTRUCTED = ("mnist", "fashion_mnist", "cifar10")
VOTED = tuple(data for data in TITLES if data != "trec_fine")
RECORDS = (
    *(f"voting_{data}" for data in VOTED),
    *(f"classification_{data}" for data in TITLES),
    *(f"reconstruction_{data}" for data in RECONSTRUCTED),
    *("subspace_selection", "which_invariance", "transformations", "metric_subsets"),
    *(f"anchor_sets_{part}" for part in ("number", "strategy", "elsewhere")),
)
#: The sections of the page of each data set.
OF_ONE = (
    tables.voting,
    tables.classification,
    tables.agreement,
    tables.reconstruction,
    tables.number_of_anchors,
)
#: The pages about all data sets: title, and sections by the record they need.
OF_ALL = {
    "methods": (
        "Methods and metrics",
        {
            "classification_trec": (tables.ranking, tables.ablation),
            "which_invariance": (tables.best_agreement,),
            "metric_subsets": (tables.subsets,),
            "subspace_selection": (tables.subspace,),
        },
    ),
    "anchors": (
        "Number and choice of anchors",
        {
            "voting_cora": (tables.voting_curves,),
            "anchor_sets_number": (tables.number_curves,),
            "anchor_sets_strategy": (tables.strategies,),
            "anchor_sets_elsewhere": (tables.anchors_from_elsewhere,),
        },
    ),
    "transformations": (
        "Known transformations",
        {"transformations": (tables.transformations,)},
    ),
}


def pages(records):
    """Write every page that the records make, by name."""
    written = {}
    for data, name in TITLES.items():
        lines = [line for section in OF_ONE for line in section(records, data)]
        if lines:
            written[data] = title(f"Results: {name}") + lines
    for page, (name, sections) in OF_ALL.items():
        lines = [
            line
            for record, writers in sections.items()
            if records.rows(record)
            for write in writers
            for line in write(records)
        ]
        if lines:
            written[page] = title(f"Results: {name}") + lines
    written["aims"] = title("Results: Aims")
    written["aims"] += table(["aim", "measured", ""], aims(records))
    return {name: "\n".join(lines).rstrip() + "\n" for name, lines in written.items()}


def write(records, folder):
    """Write the pages and their pictures into a folder, only those that changed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages(records).items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    pictures.draw(records, folder)


def main():
    """Write the pages from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=ledger.RESULTS)
    parser.add_argument("--out", type=Path, help="folder (docs/generated/results)")
    args = parser.parse_args()
    folder = args.out or args.results.parent / "generated" / "results"
    write(tables.Records(args.results), folder)


if __name__ == "__main__":
    main()
