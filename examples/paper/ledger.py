"""What the experiments of this folder share: options, spaces, progress and records.

An experiment is a function that yields rows, dicts of plain numbers and names.
:func:`run` gives it its options, shows how far it is, and writes the rows to
``docs/results/<name>.json`` with the command, the time it took and the versions it ran
with.  ``report.py`` makes the page "Results" of these files, and nothing else writes a
number there.
"""

import argparse
import json
import os
import platform
import shlex
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parents[2] / "docs" / "results"
PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "skorch")


def options(description):
    """Read what every experiment can be told."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="digits, two seeds, a few seconds"
    )
    parser.add_argument("--seeds", type=int, help="how many seeds (5; 2 if quick)")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder of the JSON and the pictures (docs/results; if quick: none)",
    )
    return parser


def run(name, experiment, parser):
    """Run an experiment, and write what it yields.

    Parameters
    ----------
    name : str
        Of the JSON file; ``{data}`` in it becomes the option of this name.
    experiment : callable
        Takes the options, a Namespace, and yields rows.
    parser : ArgumentParser
        What `options` made, perhaps with more options.
    """
    args = parser.parse_args()
    args.seeds = args.seeds or (2 if args.quick else 5)
    if args.out is None and not args.quick:
        args.out = RESULTS
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
    start, rows = time.perf_counter(), []
    for row in experiment(args):
        rows.append(row)
        seconds = time.perf_counter() - start
        short = {k: v for k, v in row.items() if not isinstance(v, list | dict)}
        print(f"{seconds:6.0f} s", *(f"{k}={v}" for k, v in short.items()), flush=True)
    if not rows:
        raise RuntimeError(f"{name}: the experiment gave no rows")
    record = {
        "command": shlex.join(["python", _relative(sys.argv[0]), *sys.argv[1:]]),
        "seconds": round(time.perf_counter() - start, 1),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
        "rows": rows,
    }
    if args.out is not None:
        path = args.out / f"{name.format(**vars(args))}.json"
        lines = ",\n".join(json.dumps(row, allow_nan=False) for row in rows)
        head = json.dumps({**record, "rows": None})[: -len("null}")]
        path.write_text(f"{head}[\n{lines}\n]}}\n", encoding="utf-8")


def _relative(path):
    """Return a script's path as one types it in the repository."""
    path = Path(path).resolve()
    root = Path(__file__).resolve().parents[2]
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def archive(name):
    """Open a file of the data folder, as `numpy.load` does."""
    folder = os.environ.get("SKINVARIANT_DATA")
    if folder is None:
        raise SystemExit(
            "SKINVARIANT_DATA must name the folder of the real data; it is not set "
            "(--quick needs none)"
        )
    return np.load(Path(folder) / name)


def rounded(values, digits=4):
    """Return numbers as JSON takes them."""
    return np.round(np.asarray(values, dtype=float), digits).tolist()


def digits_images():
    """Read scikit-learn's digits: images in [0, 1] of 8 x 8, labels; train and test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = digits.images.astype(np.float32) / 16
    return train_test_split(images, digits.target, test_size=0.4, random_state=0)
