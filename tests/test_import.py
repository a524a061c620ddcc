"""What an import costs: nothing beyond what scikit-learn loads itself.

The time that it takes is printed by ``examples/benchmarks/import_time.py``.
"""

import subprocess
import sys

import pytest

# the parts of scikit-learn that the package builds on
SCIKIT_LEARN = ("cluster", "dummy", "frozen", "metrics", "pipeline", "preprocessing")


def loaded_by(*modules):
    """Names of all modules that a fresh interpreter has after some imports."""
    statements = "; ".join(f"import {module}" for module in modules)
    code = f"import sys; {statements}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    return set(subprocess.check_output(command, text=True).split())


@pytest.mark.parametrize(
    "module",
    ["torch", "skorch", "matplotlib", "numba", "array_api_compat", "dask", "pytest"],
)
def test_nothing_heavy_is_loaded(module):
    """Optional packages wait until they are used."""
    assert module not in loaded_by("skinvariant")


def test_data_sets_load_no_library_of_the_hub():
    """Encoders and benchmarks load theirs when they are asked for."""
    loaded = {name.split(".")[0] for name in loaded_by("skinvariant.datasets")}
    heavy = {"PIL", "datasets", "pandas", "sentence_transformers", "timm", "torch"}
    heavy |= {"torch_geometric", "torchvision", "tqdm", "transformers"}
    # pandas comes with scikit-learn where it is installed, as in scikit-learn's own
    theirs = {name.split(".")[0] for name in loaded_by("sklearn.datasets")}
    assert not loaded & (heavy - theirs)


def test_nothing_is_loaded_but_our_own_modules_and_scikit_learn():
    """So an import takes what scikit-learn's own takes, and our few files."""
    theirs = loaded_by(*(f"sklearn.{part}" for part in SCIKIT_LEARN))
    added = loaded_by("skinvariant") - theirs
    ours = {name for name in added if name.split(".")[0] == "skinvariant"}
    assert len(ours) >= 6
    assert added == ours
