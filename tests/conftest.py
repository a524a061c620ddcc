"""Settings that must be made before scipy is imported, and shared fixtures."""

import functools
import itertools
import os
import random

import pytest

os.environ.setdefault("SCIPY_ARRAY_API", "1")
# no windows
os.environ.setdefault("MPLBACKEND", "Agg")
# nothing may wait for a network
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"


def pytest_addoption(parser):
    """Add the option of the nightly run."""
    parser.addoption(
        "--full-grids",
        action="store_true",
        help="run every combination of the tests marked `grid`",
    )
    parser.addoption(
        "--fuzz-cases",
        type=int,
        default=400,
        help="how many random cases each test of test_fuzz.py tries",
    )


@pytest.hookimpl(optionalhook=True)  # pytest-xdist may be missing
def pytest_xdist_setupnodes(config, specs):
    """Give each of several workers one BLAS thread: they share the cores."""
    if len(specs) > 1:
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.setdefault(name, "1")


shown = functools.cache(repr)  # an estimator's takes a millisecond


def values_of(item):
    """Return the value of each parameter of a test item, as something hashable."""
    values = {}
    for name, value in item.callspec.params.items():
        if isinstance(value, str | int | float | None):
            values[name] = value
        elif isinstance(value, functools.partial):  # a check of scikit-learn's
            values[name] = value.func.__name__
        elif hasattr(value, "get_params"):
            values[name] = shown(value)
        else:
            values[name] = id(value)
    return values.items()


def covering(items, strength):
    """Choose items among which every combination of so many values occurs.

    Each item is the one with the most combinations that none before it has.
    """
    combinations = {
        item: set(itertools.combinations(values_of(item), strength)) for item in items
    }
    missing, chosen = set().union(*combinations.values()), []
    while missing:
        best = max(combinations, key=lambda item: len(combinations[item] & missing))
        chosen.append(best)
        missing -= combinations.pop(best)
    return chosen


def pytest_collection_modifyitems(config, items):
    """Leave combinations of the tests marked `grid` to the nightly run."""
    if config.getoption("--full-grids"):
        return
    grids = {}
    for item in items:
        if marker := item.get_closest_marker("grid"):
            test = item.function, marker.kwargs.get("strength", 2)
            grids.setdefault(test, []).append(item)
    dropped = set()
    for (_, strength), grid in grids.items():
        dropped.update(set(grid).difference(covering(grid, strength)))
    if dropped:
        config.hook.pytest_deselected(items=[item for item in items if item in dropped])
        items[:] = [item for item in items if item not in dropped]


@pytest.fixture
def damages():
    """Yield damaged copies of the bytes of a file: bits flipped, parts cut out."""

    def damage(content, n_copies, seed=0):
        rng = random.Random(seed)
        for i in range(n_copies):
            copy = bytearray(content)
            start, n_bytes = rng.randrange(len(copy)), rng.choice([1, 1, 2, 8, 64])
            if i % 4 == 0:
                del copy[start:]
            elif i % 4 == 1:
                del copy[start : start + n_bytes]
            else:
                for place in range(start, min(start + n_bytes, len(copy))):
                    copy[place] ^= 1 << rng.randrange(8)
            yield bytes(copy)

    return damage
