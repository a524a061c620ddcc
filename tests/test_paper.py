"""The experiments of the paper run, quickly, and find what is known of the digits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PAPER = Path(__file__).parents[1] / "examples" / "paper"


def run(tmp_path, script, *arguments):
    """Run an experiment on digits, and return the rows of its record."""
    command = [sys.executable, "-W", "error", PAPER / script, "--quick"]
    # no data folder: digits are all there is
    environment = {k: v for k, v in os.environ.items() if k != "SKINVARIANT_DATA"}
    done = subprocess.run(
        [*command, *arguments, "--out", tmp_path],
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*.json")
    return json.loads(path.read_text(encoding="utf-8"))["rows"]


def own_and_stitched(rows, training, method):
    """Mean errors on and off the diagonal, over seeds."""
    matrices = np.array(
        [
            row["mse"]
            for row in rows
            if (row["training"], row["method"]) == (training, method)
        ],
        dtype=float,
    )
    own = np.eye(matrices.shape[1], dtype=bool)
    return matrices[:, own].mean(), np.nanmean(matrices[:, ~own])


def test_reconstruction(tmp_path):
    """A product draws the latents of another encoder, an absolute decoder does not."""
    pytest.importorskip("skorch")
    pytest.importorskip("matplotlib")
    rows = run(tmp_path, "reconstruction.py", "--seeds", "1")
    metrics = {"cosine", "euclidean", "manhattan", "chebyshev"}
    end_to_end = metrics | {"absolute", "product", "product_without_chebyshev"}
    translations = {"orthogonal", "ridge", "kernel"}
    methods = {
        "frozen": end_to_end
        | {f"translation_{name}" for name in translations}
        | {"product_affine", "product_without_noise"},
        "end_to_end": end_to_end,
    }
    assert {row["data"] for row in rows} == {"digits"}
    for training, names in methods.items():
        found = [row for row in rows if row["training"] == training]
        assert sorted(row["method"] for row in found) == sorted(names)
        own, swapped = own_and_stitched(rows, training, "absolute")
        assert own < swapped / 2
        assert own_and_stitched(rows, training, "product")[1] < swapped / 2
    for row in rows:
        assert np.shape(row["mse"]) == (len(row["encoders"]),) * 2
        widths = [name.split(",")[0].split()[-1] for name in row["encoders"]]
        same = np.equal.outer(widths, widths) | (row["method"] != "absolute")
        assert np.array_equal(np.array(row["mse"]) == None, ~same)  # noqa: E711
    (picture,) = tmp_path.glob("*.png")
    assert picture.name == "reconstruction_digits.png"
    assert picture.stat().st_size < 250_000
