"""How many small changes to the mathematics the tests notice: a sample, by a seed.

``pip install cosmic-ray``, then ``python tests/mutation.py [n_mutants] [seed]`` changes
one operator, number, comparison, condition, loop or decorator at a time, in a copy of
the package, and runs the tests of its room.  It prints those that no test notices, and
ends with an error where they are more than 1 in 20, those in `EQUIVALENT` apart.
"""

import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome

ROOT = Path(__file__).parents[1]
#: The tests of each room or module.
TESTS = {
    "metrics": ["metrics", "compiled", "invariance", "fuzz", "projector"],
    "relative": ["relative", "projector", "aggregator", "invariance", "fuzz"],
    "anchors": ["anchors"],
    "comparison": ["comparison"],
    "diagnosis": ["diagnosis"],
    "pooling": ["pooling", "voting"],
    "stitching": ["stitching", "cross_stitch"],
    "translation": ["translation"],
    "voting": ["voting"],
}
#: What changes no result, by module, function and changed line, and why.
EQUIVALENT = {
    (
        "skinvariant/comparison.py",
        "_rowwise",
        "[standardize(X[b]) for b in _batches(len(X), 4 * X.shape[ 0])]",
    ): "the size of a block",
    (
        "skinvariant/diagnosis.py",
        "stitched_agreement",
        "predicted = head.predict(relative_b.astype(np.float64, copy=True))",
    ): "a copy",
    (
        "skinvariant/metrics/_compiled.py",
        "load",
        "one = np.zeros(( 2, 1), dtype=dtype)",
    ): "any rows will do for a test call",
    (
        "skinvariant/metrics/_rows.py",
        "replace_rows",
        "if sizes.size and not info.tiny <= sizes.min() "
        "is not sizes.max() <= info.max:",
    ): "the least is never above the largest",
    (
        "skinvariant/relative/_aggregator.py",
        "_fit",
        "if len(weights) is not len(metrics) or not 0 < sum(weights) < np.inf:",
    ): "small integers are identical",
    (
        "skinvariant/relative/_steps.py",
        "layer_normalize",
        "inexact |= variance is not (_ALMOST_CONSTANT * mean[:, 0]) ** 2",
    ): "all rows take the slower way",
    (
        "skinvariant/relative/_steps.py",
        "layer_normalize",
        "inexact |= variance < (_ALMOST_CONSTANT * mean[:, 0]) % 2",
    ): "more rows take the slower way",
    (
        "skinvariant/translation.py",
        "bounds",
        "for rows in np.array_split(order, min(8, 1 + len(order) // 49)):",
    ): "the size of a block",
    (
        "skinvariant/translation.py",
        "bounds",
        "slack = (len(weights) + 8) / np.finfo(np.float32).eps / 2 * length + 1e-30",
    ): "wider bounds leave out fewer candidates",
}
#: Seconds that the tests of a room may take; an endless loop is a change noticed.
TIMEOUT = 900
#: An assertion, which changes nothing as long as it holds.
ASSERTION = "strict=True"


def room_of(path):
    """Return the name of a room or module."""
    return Path(path).relative_to("skinvariant").parts[0].removesuffix(".py")


def line_of(mutant):
    """Return the line that a mutant changes."""
    lines = Path(mutant.module_path).read_text(encoding="utf-8").splitlines()
    return lines[mutant.start_pos[0] - 1]


def sampled(n_mutants, seed):
    """Return mutants of the rooms, as many of each operator as there happen to be."""
    paths = [
        path
        for room in TESTS
        for path in (
            sorted(Path("skinvariant", room).glob("_*.py"))
            or [Path("skinvariant", f"{room}.py")]
        )
        if path.name != "__init__.py"
    ]
    with use_db(":memory:") as mutants:
        init(paths, mutants, {})
        found = [
            mutant
            for item in mutants.work_items
            for mutant in item.mutations
            if ASSERTION not in line_of(mutant)
        ]
    key = lambda m: (str(m.module_path), m.operator_name, m.occurrence)  # noqa: E731
    return random.Random(seed).sample(sorted(found, key=key), n_mutants)


def main(n_mutants=100, seed=0):
    """Run the tests of every mutant of the sample."""
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in ("skinvariant", "tests"):
            shutil.copytree(ROOT / name, Path(folder, name))
        shutil.copy(ROOT / "pyproject.toml", folder)
        os.chdir(folder)
        os.environ["PYTHONPATH"] = folder
        mutants = sampled(n_mutants, seed)
        for number, mutant in enumerate(mutants, 1):
            names = TESTS[room_of(mutant.module_path)]
            files = " ".join(f"tests/test_{name}.py" for name in names)
            command = f"{sys.executable} -m pytest -x -q --fuzz-cases 100 {files}"
            result = mutate_and_test([mutant], command, TIMEOUT)
            if result.worker_outcome != WorkerOutcome.NORMAL:
                raise RuntimeError(result.output)
            lines = result.diff.splitlines()
            changed = [x[1:].strip() for x in lines[2:] if x[0] == "+" != x[1:2]]
            place = str(mutant.module_path), mutant.definition_name, " ".join(changed)
            if result.test_outcome == TestOutcome.SURVIVED and place not in EQUIVALENT:
                survivors += 1
                print(f"not noticed: {place}", *lines[2:], sep="\n", flush=True)
            print(f"{number} of {n_mutants}: {number - survivors} noticed", flush=True)
    if survivors > n_mutants / 20:
        sys.exit(f"{survivors} of {n_mutants} were not noticed")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
