"""The experiments of the paper run, quickly, and find what is known of the digits."""

import functools
import importlib
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PAPER = Path(__file__).parents[1] / "examples" / "paper"


@pytest.fixture(scope="module", autouse=True)
def shared():
    """Let the scripts import each other; the encoders of digits are trained once."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PAPER)
        ledger = importlib.import_module("ledger")
        patch.setattr(ledger, "spaces", functools.cache(ledger.spaces))
        yield
    for path in PAPER.glob("*.py"):
        if path.stem not in before:
            sys.modules.pop(path.stem, None)


@pytest.fixture
def call(monkeypatch):
    """Call a script as from the command line, without the data folder."""
    monkeypatch.delenv("SKINVARIANT_DATA", raising=False)

    def call(script, *arguments):
        path = str(PAPER / script)
        monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
        runpy.run_path(path, run_name="__main__")

    return call


@pytest.fixture
def run(call, tmp_path):
    """Run an experiment on digits, and return the rows of its record."""
    pytest.importorskip("skorch")

    def run(script, *arguments):
        call(script, "--quick", *arguments, "--out", tmp_path)
        (path,) = tmp_path.glob("*.json")
        return json.loads(path.read_text(encoding="utf-8"))["rows"]

    return run


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


def test_reconstruction(tmp_path, run):
    """A product draws the latents of another encoder, an absolute decoder does not."""
    pytest.importorskip("matplotlib")
    rows = run("reconstruction.py", "--seeds", "1")
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


def stitched_means(rows, **wanted):
    """Mean of the cells off the diagonal, by method, of the rows that are wanted."""
    found = {}
    for row in rows:
        if "scores" in row and all(row.get(k) == v for k, v in wanted.items()):
            matrix = np.array(row["scores"], dtype=float)
            off = matrix[~np.eye(len(matrix), dtype=bool)]
            found.setdefault(row["method"], []).append(np.nanmean(off))
    return {method: np.mean(values) for method, values in found.items()}


def test_classification(run):
    """Every method is there; heads swapped as they are guess, relative ones do not."""
    rows = run("classification.py", "--seeds", "1")
    means = stitched_means(rows)
    expected = "cosine euclidean manhattan chebyshev concat sum mean weighted mlp_sum"
    expected += " attention change_of_basis orthogonal linear ridge affine kernel"
    rivals = {"absolute", "few labels"}
    assert set(expected.split()) | rivals == set(means)
    assert means.pop("absolute") < 0.3 < 0.6 < min(means.values())


def test_voting(run):
    """Every rival is there, and the voting model is ahead of what it is made of."""
    rows = run("recommended.py", "--seeds", "1")
    means = stitched_means(rows, n_anchors=60)
    expected = "cosine euclidean manhattan chebyshev change_of_basis product kernel"
    rivals = {"orthogonal", "ridge", "few labels", "first edition"}
    rivals.add("pooled translations")
    votes = {"voting", "voting, labels"}
    assert set(expected.split()) | rivals | votes == set(means)
    assert means["voting"] > max(means["product"], means["first edition"])
    own = {(row["method"], row["C"]): np.diag(row["scores"]) for row in rows[1:]}
    # the head on the space itself has the penalty of the voting model's heads
    assert own["voting", None].mean() > own["plain", 0.1].mean() - 0.01


def test_which_invariance(run):
    """Relative spaces of two networks have matching rows; the spaces have not."""
    rows = run("which_invariance.py", "--seeds", "1")
    means = {
        row["method"]: np.nanmean(np.array(row["mrr"], dtype=float))
        for row in rows
        if "mrr" in row
    }
    assert len(means) == 7
    assert means["product"] > 2 * means["absolute"]


def test_transformations(run):
    """What a metric declares not to see leaves its head as it is."""
    rows = run("transformations.py", "--seeds", "1")
    ends = {(r["transformation"], r["method"]): r["scores"] for r in rows[1:]}
    assert len(ends) == 8 * 7
    for kind in ("scaling", "permutation"):
        for method in ("cosine", "euclidean", "manhattan", "chebyshev", "product"):
            start, end = ends[kind, method]
            assert abs(start - end) < 0.005
    assert ends["rotation", "absolute"][1] < 0.5 < ends["rotation", "euclidean"][1]


def test_metric_subsets(run):
    """All sets are there, and a set of one is the same for vote and head."""
    rows = run("metric_subsets.py", "--seeds", "1")[1:]
    assert len({row["metrics"] for row in rows}) == 15 + 4 + 4
    single = [row["scores"] for row in rows if row["metrics"] == "cosine"]
    assert len(single) == 2
    np.testing.assert_allclose(*single)


def test_subspace_selection(run):
    """Every part is trained, on the digits from 30 labels."""
    rows = run("subspace_selection.py", "--seeds", "1")
    found = {row["method"]: row["accuracy"] for row in rows}
    assert set(found) == {"own", "stitched", "few labels", "aggregation", "head", "all"}
    assert found["own"] > found["stitched"] > 0.5


@pytest.mark.parametrize("part", ["number", "strategy", "elsewhere"])
def test_anchor_sets(run, part):
    """More anchors stitch better; no way to choose them is left out."""
    rows = run("anchor_sets.py", part, "--seeds", "1")
    if part == "number":
        few, many = (stitched_means(rows, n_anchors=n) for n in (20, 60))
        assert "few labels" in many
        assert few["ridge"] < many["ridge"]
        assert few["euclidean"] < many["euclidean"]
    elif part == "strategy":
        names = {row["strategy"] for row in rows[1:]}
        assert names == {"random", "stratified", "kmeans", "farthest"}
    else:
        same, other = (
            stitched_means(rows, anchors=f"{place} data") for place in ("same", "other")
        )
        assert set(same) == set(other)


def test_without_the_data(tmp_path):
    """What needs the data folder says so on the command line."""
    command = [sys.executable, PAPER / "classification.py", "trec", "--out", tmp_path]
    environment = {k: v for k, v in os.environ.items() if k != "SKINVARIANT_DATA"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "SKINVARIANT_DATA must name the folder" in done.stderr


def test_the_pages_are_those_of_the_records(tmp_path, call):
    """Each data set with a record has a page, with the means of its record."""
    pytest.importorskip("matplotlib")
    call("report.py", "--out", tmp_path)
    results = PAPER.parents[1] / "docs" / "results"
    datas = {path.stem.partition("_")[2] for path in results.glob("class*.json")}
    others = {"aims", "anchors", "methods", "transformations"}
    assert {path.stem for path in tmp_path.glob("*.rst")} == datas | others
    for data in datas:
        record = results / f"classification_{data}.json"
        rows = json.loads(record.read_text(encoding="utf-8"))["rows"][1:]
        rows = [r for r in rows if r["method"] == "cosine" and r["n_anchors"] == 300]
        # the penalty of the highest stitched mean, in the method's favour
        best = max(
            stitched_means(rows, C=C)["cosine"] for C in {row["C"] for row in rows}
        )
        page = (tmp_path / f"{data}.rst").read_text(encoding="utf-8")
        assert re.search(rf"\* - cosine\n +- .*\n +- {best:.3f} ± ", page)
    for path in results.glob("voting_*.json"):
        page = tmp_path / f"{path.stem.removeprefix('voting_')}.rst"
        assert "The voting model\n---" in page.read_text(encoding="utf-8")
    pictures = {path.stem for path in tmp_path.glob("*.png")}
    assert pictures == {"voting", "metrics", "anchor_sets_number", "transformations"}
