"""How fast: every metric in units of one matrix product, beside other libraries.

Run ``python examples/benchmarks/speed.py [folder]``: prints the table, and with a
folder writes ``speed.json`` and ``speed.png`` (which needs matplotlib) into it.
20,000 x 768 float32 against 500 anchors, two threads.  All times are medians of at
least seven runs; competitors take turns within a run, so that a busy machine slows
all of them.  faiss-cpu and torch are peers, and left out where not installed.
"""

import datetime
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy
import sklearn
from scipy.spatial.distance import cdist
from sklearn.kernel_approximation import Nystroem
from sklearn.metrics import pairwise_distances

from skinvariant import InvariantAggregator, RelativeProjector
from skinvariant.anchors import farthest_anchors, kmeans_anchors
from skinvariant.relative import layer_normalize

METRICS = ("cosine", "euclidean", "manhattan", "chebyshev")
PEERS = {"faiss": "faiss-cpu", "torch": "torch"}
N_RUNS = 7
SLOWEST = {
    *((metric, peer) for metric in METRICS[1:] for peer in ("scipy", "torch")),
    *((metric, "scikit-learn") for metric in METRICS[2:]),
    ("chebyshev", "faiss"),
    ("product", "scikit-learn"),
}


def optional(name):
    """Import a peer, or return None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def side_by_side(functions, n_runs=N_RUNS):
    """Median seconds of each function, which take turns.

    Each turn begins with a call that does not count: the threads of the one before
    keep the processors busy for a while, waiting for more.
    """
    seconds = {name: [] for name in functions}
    for _ in range(n_runs):
        for name, function in functions.items():
            function()
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def projectors(X, n_anchors, n_jobs):
    """One projector a metric, and their product."""
    shared = {"anchors": np.arange(n_anchors), "n_jobs": n_jobs}
    fitted = {
        metric: RelativeProjector(metric=metric, **shared).fit(X) for metric in METRICS
    }
    return fitted | {"product": InvariantAggregator(**shared).fit(X)}


def peers_of(metric, X, anchors):
    """What else computes a metric: functions by the name of their library."""
    faiss, torch = (optional(name) for name in PEERS)
    functions = {
        "scikit-learn": lambda: pairwise_distances(X, anchors, metric=metric, n_jobs=2)
    }
    if metric != "cosine":
        name = "cityblock" if metric == "manhattan" else metric
        functions["scipy"] = lambda: cdist(X, anchors, name)
    if torch and metric != "cosine":
        torch.set_num_threads(2)
        p = {"euclidean": 2.0, "manhattan": 1.0, "chebyshev": float("inf")}[metric]
        pair = torch.from_numpy(X), torch.from_numpy(anchors)
        functions["torch"] = lambda: torch.cdist(*pair, p=p)
    if faiss and metric != "cosine":
        faiss.omp_set_num_threads(2)
        kinds = {"euclidean": "L2", "manhattan": "L1", "chebyshev": "Linf"}
        kind = getattr(faiss, f"METRIC_{kinds[metric]}")
        functions["faiss"] = lambda: faiss.pairwise_distances(X, anchors, metric=kind)
    return functions


def sklearn_product(X, anchors):
    """The four-metric product as one would write it with scikit-learn."""
    spaces = [pairwise_distances(X, anchors, metric=name, n_jobs=2) for name in METRICS]
    return np.concatenate([layer_normalize(space) for space in spaces], axis=1)


def ratios(X, n_anchors=500):
    """Cost of each metric in matrix products, and of its peers in our own cost."""
    anchors = X[:n_anchors].copy()
    table = {}
    for name, projector in projectors(X, n_anchors, 2).items():
        ours = {"product of matrices": lambda: X @ anchors.T}
        ours["skinvariant"] = lambda projector=projector: projector.transform(X)
        row = side_by_side(ours)
        if name == "product":
            peers = {"scikit-learn": lambda: sklearn_product(X, anchors)}
        else:
            peers = peers_of(name, X, anchors)
        # the slowest take fewer turns: they lose by far more than their noise
        both = {"skinvariant": ours["skinvariant"]}
        compared = {
            peer: side_by_side(
                both | {peer: function}, 3 if (name, peer) in SLOWEST else N_RUNS
            )
            for peer, function in peers.items()
        }
        table[name] = {
            "seconds": row["skinvariant"],
            "matrix products": row["skinvariant"] / row["product of matrices"],
            "times as fast as": {
                peer: values[peer] / values["skinvariant"]
                for peer, values in compared.items()
            },
        }
        print(
            f"{name:12s} {table[name]['matrix products']:5.2f} matrix products", end=""
        )
        for peer, ratio in table[name]["times as fast as"].items():
            print(f"   {ratio:6.2f} x {peer}", end="")
        print(flush=True)
    return table


def latency(X):
    """One row at a time: our cosine in units of Nystroem with as many landmarks."""
    projector = RelativeProjector(500, random_state=0).fit(X)
    nystroem = Nystroem(n_components=500, random_state=0).fit(X)
    row = X[:1]
    seconds = side_by_side(
        {
            "skinvariant": lambda: projector.transform(row),
            "Nystroem": lambda: nystroem.transform(row),
        },
        201,
    )
    return seconds["skinvariant"] / seconds["Nystroem"]


def threads(X):
    """How much faster two threads are than one, manhattan."""
    one, two = (projectors(X, 500, n_jobs)["manhattan"] for n_jobs in (1, 2))
    seconds = side_by_side(
        {"one": lambda: one.transform(X), "two": lambda: two.transform(X)}
    )
    return seconds["one"] / seconds["two"]


def plain_farthest(X, n_anchors):
    """The loop over anchors that one would write with NumPy."""
    chosen, distance = [0], np.full(len(X), np.inf)
    while len(chosen) < n_anchors:
        gap = X - X[chosen[-1]]
        distance = np.minimum(distance, (gap * gap).sum(axis=1))
        chosen.append(int(distance.argmax()))
    return chosen


def anchor_choice(X):
    """Seconds of kmeans; farthest in units of the plain loop.  300 anchors."""
    kmeans = side_by_side(
        {"kmeans": lambda: kmeans_anchors(X, n_anchors=300, random_state=0)}, 3
    )
    farthest = side_by_side(
        {
            "ours": lambda: farthest_anchors(X, n_anchors=300, random_state=0),
            "plain": lambda: plain_farthest(X, 300),
        },
        1,
    )
    return kmeans["kmeans"], farthest["ours"] / farthest["plain"]


START = """
import time
import numpy as np
from skinvariant import RelativeProjector
X = np.random.default_rng(0).standard_normal((64, 768), dtype=np.float32)
start = time.perf_counter()
RelativeProjector(8, metric="manhattan", random_state=0).fit(X).transform(X)
print(time.perf_counter() - start)
"""


def starts(folder):
    """Seconds of the first fit and transform: compiled anew, and in later processes."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder)}
    command = [sys.executable, "-c", START]
    seconds = [
        float(subprocess.check_output(command, text=True, env=environment))
        for _ in range(8)
    ]
    return seconds[0], float(np.median(seconds[1:]))


def curves(most=1_000_000):
    """Seconds of the product by rows, anchors and features, each on its own."""
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((20_000, 3072), dtype=np.float32)
    found = {"rows": {}, "anchors": {}, "features": {}}
    few = InvariantAggregator(anchors=np.arange(64), n_jobs=2)
    rows = np.resize(wide[:, :64], (most, 64))
    few.fit(rows[:1000])
    for n in (n for n in (1000, 10_000, 100_000, 1_000_000) if n <= most):
        timed = side_by_side({n: lambda n=n: few.transform(rows[:n])}, 3)
        found["rows"].update(timed)
    for n in (250, 500, 1000, 2000):
        many = InvariantAggregator(anchors=np.arange(n), n_jobs=2).fit(wide[:, :768])
        X = np.ascontiguousarray(wide[:, :768])
        found["anchors"].update(
            side_by_side({n: lambda many=many, X=X: many.transform(X)}, 3)
        )
    for n in (384, 768, 1536, 3072):
        X = np.ascontiguousarray(wide[:, :n])
        product = InvariantAggregator(anchors=np.arange(500), n_jobs=2).fit(X)
        found["features"].update(
            side_by_side({n: lambda product=product, X=X: product.transform(X)}, 3)
        )
    return found


def draw(found, path):
    """Draw the three curves beside lines of slope one."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
    titles = {
        "rows": "rows (64 features, 64 anchors)",
        "anchors": "anchors (20,000 rows, 768 features)",
        "features": "features (20,000 rows, 500 anchors)",
    }
    for axis, (name, points) in zip(axes, found.items(), strict=True):
        x, y = np.array(list(points)), np.array(list(points.values()))
        axis.loglog(x, y[-1] * x / x[-1], color="0.7", label="linear")
        axis.loglog(x, y, "o-", label="four-metric product")
        axis.set(xlabel=titles[name], ylabel="seconds")
        axis.minorticks_off()
        axis.set_xticks(x, [f"{value:,}" for value in x])
    axes[0].legend()
    figure.savefig(path, dpi=120)


def main(folder=None):
    """Measure, print and write."""
    where = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            module.__name__: module.__version__
            for module in (np, scipy, sklearn, *map(optional, ("numba", *PEERS)))
            if module
        },
        "not installed": [PEERS[name] for name in PEERS if not optional(name)],
    }
    print(json.dumps(where))
    X = np.random.default_rng(0).standard_normal((20_000, 768), dtype=np.float32)
    results = {"where": where, "table": ratios(X)}
    results["one row, of Nystroem"] = latency(X)
    results["two threads, of one"] = threads(X)
    kmeans, farthest = anchor_choice(X)
    results["kmeans seconds"], results["farthest, of the plain loop"] = kmeans, farthest
    with tempfile.TemporaryDirectory() as cache:
        first, later = starts(cache)
    results["first use, seconds"], results["later processes, seconds"] = first, later
    for name, value in list(results.items())[2:]:
        print(f"{name:32s} {value:6.2f}")
    results["curves"] = curves()
    for name, points in results["curves"].items():
        print(name, {n: round(seconds, 3) for n, seconds in points.items()})
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, "speed.json").write_text(json.dumps(results, indent=1))
        if optional("matplotlib"):
            draw(results["curves"], Path(folder, "speed.png"))


if __name__ == "__main__":
    main(*sys.argv[1:])
