"""The pictures of the pages "Results", drawn from the records by ``report.py``."""

import io
from collections import defaultdict

import matplotlib as mpl
import numpy as np
import tables
from matplotlib.figure import Figure

COLOURS = dict(
    zip(
        (
            *tables.METRICS,
            *("orthogonal", "ridge", "kernel", "few labels"),
        ),
        mpl.color_sequences["tab10"],
        strict=False,
    )
)
COLOURS |= {"absolute": "0.6", "product": "k", tables.VOTE: "k"}


def metrics(records):
    """Stitched accuracy of each metric, data set by data set."""
    names = [d for d in tables.TITLES if records.rows(f"classification_{d}")]
    figure = Figure(figsize=(8, 0.75 * len(names) + 1.4), layout="constrained")
    ax = figure.subplots()
    methods = tables.METRICS
    for row, data in enumerate(names):
        found = tables.classified(records, data)
        for i, method in enumerate(methods):
            values = found[method][:, 1]
            ax.errorbar(
                values.mean(),
                row + (i - 2) * 0.13,
                xerr=values.std(ddof=1) if len(values) > 1 else 0,
                fmt="o",
                color=COLOURS[method],
                label=method if row == 0 else None,
                capsize=2,
            )
    ax.set_yticks(range(len(names)), [tables.TITLES[d] for d in names])
    ax.invert_yaxis()
    ax.set_xlabel("stitched accuracy, 300 anchors; bars: standard deviation of draws")
    ax.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def curve(ax, x, runs, **style):
    """Draw the mean of the runs at each x, and their standard deviation."""
    mean = np.array([np.mean(values) for values in runs])
    (line,) = ax.plot(x, mean, marker=".", **style)
    if min(map(len, runs)) > 1:
        sd = np.array([np.std(values, ddof=1) for values in runs])
        ax.fill_between(x, mean - sd, mean + sd, color=line.get_color(), alpha=0.15)


def anchor_sets_number(records):
    """Accuracy against the number of anchors."""
    rows = records.rows("anchor_sets_number")
    found = tables.grouped(rows, "data", "method", "n_anchors")
    datas = list(dict.fromkeys(d for d, _, _ in found))
    figure = Figure(figsize=(5 * len(datas), 4.2), layout="constrained")
    axes = figure.subplots(1, len(datas), squeeze=False)[0]
    for ax, data in zip(axes, datas, strict=True):
        for method in dict.fromkeys(m for d, m, _ in found if d == data):
            numbers = sorted(n for d, m, n in found if (d, m) == (data, method))
            runs = [found[data, method, n] for n in numbers]
            rival = method not in tables.METRICS
            curve(
                ax,
                numbers,
                runs,
                label=method if ax is axes[0] else None,
                color=COLOURS[method],
                linestyle="--" if rival else "-",
                linewidth=1.2,
            )
        ax.set(xscale="log", xlabel="anchors", title=tables.TITLES.get(data, data))
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("stitched accuracy")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


def voting(records):
    """Accuracy of the voting model and its rivals against the number of anchors."""
    datas = [d for d in tables.TITLES if records.rows(f"voting_{d}")]
    figure = Figure(figsize=(10, 3.2 * -(-len(datas) // 3)), layout="constrained")
    axes = figure.subplots(-(-len(datas) // 3), min(3, len(datas)), squeeze=False)
    names = {tables.VOTE: (tables.VOTE,), tables.LABELLED: (tables.LABELLED,)}
    names |= {k: v for k, v in tables.RIVALS.items() if k != "weak penalty"}
    for ax, data in zip(axes.flat, datas, strict=False):
        drawn = dict(tables.voted(records, data))
        for label, methods in names.items():
            numbers = [n for n, found in drawn.items() if set(methods) <= set(found)]
            found = [drawn[n] for n in numbers]
            runs = [each[tables.best_of(each, methods)][:, 1] for each in found]
            vote = label.startswith(tables.VOTE)
            colour = "k" if vote else COLOURS.get(label, "tab:blue")
            style = {"linestyle": "-" if label == tables.VOTE else "--"}
            style |= {"color": colour, "linewidth": 2.2 if vote else 1.2}
            curve(
                ax, numbers, runs, label=label if ax is axes.flat[0] else None, **style
            )
        ax.set(xscale="log", xlabel="anchors", title=tables.TITLES[data])
        ax.grid(alpha=0.3)
    axes[0, 0].set_ylabel("stitched accuracy")
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    return figure


def transformations(records):
    """Accuracy against the strength of each transformation."""
    rows = records.rows("transformations")
    strengths = rows[0]["strengths"]
    found = defaultdict(list)
    for row in rows[1:]:
        found[row["data"], row["transformation"], row["method"]].append(row["scores"])
    datas = list(dict.fromkeys(d for d, _, _ in found))
    kinds = list(dict.fromkeys(k for _, k, _ in found))
    figure = Figure(figsize=(11, 5.2 * len(datas)), layout="constrained")
    axes = figure.subplots(2 * len(datas), -(-len(kinds) // 2), sharex=True)
    for i, data in enumerate(datas):
        block = axes[2 * i : 2 * i + 2].ravel()
        for ax, kind in zip(block, kinds, strict=False):
            for method in ("absolute", *tables.METRICS, "product"):
                runs = np.array(found[data, kind, method], dtype=float).T
                first = ax is axes.flat[0]
                curve(
                    ax,
                    strengths,
                    runs,
                    label=method if first else None,
                    color=COLOURS[method],
                    linewidth=2 if method == "product" else 1.2,
                )
            ax.set_title(f"{tables.TITLES.get(data, data)}\n{kind}", fontsize=9)
            ax.set_ylim(0, 1)
            ax.grid(alpha=0.3)
    figure.supxlabel("strength")
    figure.supylabel("accuracy")
    figure.legend(loc="outside upper center", ncols=7, frameon=False)
    return figure


def draw(records, folder):
    """Draw all, each into a file of its name."""
    for name, picture in (
        ("voting_cora", voting),
        ("classification_trec", metrics),
        ("anchor_sets_number", anchor_sets_number),
        ("transformations", transformations),
    ):
        if records.rows(name):
            figure = picture(records)
            file, path = io.BytesIO(), folder / f"{picture.__name__}.png"
            figure.savefig(file, dpi=110)
            if not path.exists() or path.read_bytes() != file.getvalue():
                path.write_bytes(file.getvalue())
