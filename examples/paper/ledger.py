"""What the experiments of this folder share: options, spaces, progress and records.

An experiment is a function that yields rows, dicts of plain numbers and names.
:func:`run` gives it its options, shows how far it is, and writes the rows to
``docs/results/<name>.json`` with the command, the time it took and the versions it ran
with.  ``report.py`` makes the pages "Results" of these files when the documentation is
built, and nothing else writes a number there.
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

from skinvariant import InvariantAggregator, RelativeProjector
from skinvariant.datasets import load_embeddings

METRICS = InvariantAggregator().metrics
#: What a single relative space is made by, with its parameters.
SINGLE = dict.fromkeys(METRICS) | {"change_of_basis": {"alpha": 0.1}}
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
    if args.quick:
        args.data = "digits"
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


def n_jobs(args):
    """Return how many processes to work in: two, but for what is quick."""
    return 1 if args.quick else 2


def _relative(path):
    """Return a script's path as one types it in the repository."""
    path = Path(path).resolve()
    root = Path(__file__).resolve().parents[2]
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def data_file(name):
    """Return the path of a file of the data folder."""
    folder = os.environ.get("SKINVARIANT_DATA")
    if folder is None:
        raise SystemExit(
            "SKINVARIANT_DATA must name the folder of the real data; it is not set "
            "(--quick needs none)"
        )
    return Path(folder) / name


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


#: The frozen encoders of the data folder.
FROZEN = {
    "trec": "trec_text_embeddings.npz",
    "trec_fine": "trec_text_embeddings.npz",
    "cifar10": "cifar10_lossless_embeddings.npz",
    "cifar10_jpeg": "cifar10_jpeg_resnet_embeddings.npz",
    "cora": "cora.npz",
}
#: Data whose encoders are trained here, from scratch.
TRAINED = {"mnist": "mnist_images.npz", "fashion_mnist": "fashion_mnist_images.npz"}
DATA = (*FROZEN, *TRAINED)


def spaces(data):
    """Read or make corresponding spaces.

    Parameters
    ----------
    data : str
        One of `DATA`, or "digits".

    Returns
    -------
    spaces : dict
        Of (training rows, test rows) in float32, by the encoder's name.
    y, y_test : ndarray
        Labels of the rows.
    """
    if data == "digits":
        return trained_spaces(*digits_images(), width=32, n_epochs=8, n_encoders=3)
    if data in TRAINED:
        stored = load_embeddings(data_file(TRAINED[data]))
        images = (X.astype(np.float32) / 255 for X in (stored.X_train, stored.X_test))
        return trained_spaces(*images, stored.y_train, stored.y_test)
    stored = load_embeddings(data_file(FROZEN[data]))
    fine = "_fine" if data == "trec_fine" else ""
    found = {name: (X, stored.X_test[name]) for name, X in stored.X_train.items()}
    return found, stored[f"y{fine}_train"], stored[f"y{fine}_test"]


def trained_spaces(images, images_test, y, y_test, width=64, n_epochs=3, n_encoders=4):
    """Train classifiers of images from scratch, and take their last hidden layers.

    Dense and convolutional networks in turn, each from a seed of its own.
    """
    from sklearn.utils.parallel import Parallel, delayed

    kinds = [("mlp", width), ("cnn", width), ("mlp", 2 * width), ("cnn", 2 * width)]
    kinds = kinds[:n_encoders]
    jobs = (
        delayed(_trained)(kind, wide, seed, images, images_test, y, n_epochs)
        for seed, (kind, wide) in enumerate(kinds)
    )
    found = Parallel(n_jobs=2 if len(y) > 5000 else 1)(jobs)
    names = (f"{kind}{wide}_s{seed}" for seed, (kind, wide) in enumerate(kinds))
    return dict(zip(names, found, strict=True)), y.astype(int), y_test.astype(int)


def _trained(kind, width, seed, images, images_test, y, n_epochs, batch_size=64):
    """Train one network by Adam; return the spaces of training and test images."""
    import torch

    torch.set_num_threads(1)
    X, X_test = (torch.tensor(part)[:, None] for part in (images, images_test))
    targets = torch.tensor(y).long()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = (_dense if kind == "mlp" else _convolutional)(X.shape[-1], width)
        network = torch.nn.Sequential(body, torch.nn.Linear(width, len(set(y))))
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        for _ in range(n_epochs):
            for rows in torch.randperm(len(X)).split(batch_size):
                optimizer.zero_grad()
                logits = network(X[rows])
                torch.nn.functional.cross_entropy(logits, targets[rows]).backward()
                optimizer.step()
    with torch.inference_mode():
        return tuple(body(part).numpy() for part in (X, X_test))


def _dense(size, width):
    from torch.nn import Flatten, Linear, ReLU, Sequential

    return Sequential(
        Flatten(), Linear(size**2, 256), ReLU(), Linear(256, width), ReLU()
    )


def _convolutional(size, width):
    from torch.nn import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential

    return Sequential(
        *(Conv2d(1, 8, 3, padding=1), ReLU(), MaxPool2d(2)),
        *(Conv2d(8, 16, 3, padding=1), ReLU(), MaxPool2d(2), Flatten()),
        *(Linear(16 * (size // 4) ** 2, width), ReLU()),
    )


def draw(n_rows, n_anchors, seed):
    """Draw anchors: indices of distinct rows."""
    return np.random.default_rng(seed).permutation(n_rows)[:n_anchors]


def fewer(n_rows, spaces, y, y_test):
    """Take random rows of those for training, in their order, and all for testing."""
    rows = np.sort(np.random.default_rng(0).permutation(len(y))[:n_rows])
    return {k: (X[rows], X_test) for k, (X, X_test) in spaces.items()}, y[rows], y_test


def projectors(anchors):
    """Make what spaces are seen through: each metric, and a product, by name."""
    found = {
        metric: RelativeProjector(
            anchors=anchors, metric=metric, metric_params=params, post="standardize"
        )
        for metric, params in SINGLE.items()
    }
    return found | {"product": InvariantAggregator(anchors=anchors, post="standardize")}
