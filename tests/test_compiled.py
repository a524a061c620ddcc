"""The compiled kernels: right to the digit beside SciPy, and replaceable by it."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

import skinvariant
from skinvariant import InvariantAggregator, RelativeProjector
from skinvariant.metrics import METRICS, _compiled, _differences

BOTH = ("manhattan", "chebyshev")
IN_SCIPY = {"manhattan": "cityblock", "chebyshev": "chebyshev"}


def compared(X, anchors, names=BOTH):
    """Distances by the kernels."""
    return _compiled.compare(X, _compiled.pack(anchors), len(anchors), names)


@settings(deadline=None, max_examples=60)
@given(
    n_samples=st.integers(1, 270),
    n_anchors=st.integers(1, 35),
    n_features=st.integers(1, 300),
    names=st.sampled_from([BOTH, BOTH[:1], BOTH[1:]]),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 2**16),
)
def test_kernels_equal_scipy(n_samples, n_anchors, n_features, names, dtype, seed):
    """Of every shape: tiles, panels and chunks end where they must."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_samples, n_features)).astype(dtype)
    anchors = rng.standard_normal((n_anchors, n_features)).astype(dtype)
    values = compared(X, anchors, names)
    assert tuple(values) == names
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    for name in names:
        assert values[name].dtype == dtype
        wanted = cdist(X.astype(float), anchors.astype(float), IN_SCIPY[name])
        np.testing.assert_allclose(values[name], wanted, rtol=tolerance)


@pytest.mark.parametrize("names", [BOTH, BOTH[:1], BOTH[1:]])
def test_the_kernel_compiled_anew_is_the_one_from_the_cache(names):
    """Bit for bit; what is on disk was made by this code."""
    X = np.random.default_rng(0).standard_normal((20, 140)).astype(np.float32)
    fresh = numba.njit(nogil=True, error_model="numpy")(_compiled._compare)
    anew = _compiled._run(fresh, X, _compiled.pack(X), 20, names)
    for name, values in compared(X, X, names).items():
        np.testing.assert_array_equal(anew[name], values)


def test_sums_of_float32_do_not_drift():
    """Equal terms round the same way each time; 100,000 of them, and still 1e-5."""
    X = np.full((1, 100_000), 0.1, dtype=np.float32)
    wanted = 100_000 * float(np.float32(0.1))
    found = float(compared(X, np.zeros_like(X))["manhattan"][0, 0])
    assert abs(found / wanted - 1) < 1e-5


@pytest.mark.parametrize("offset", [0, 1e4, -3e7])
def test_anchors_are_at_distance_zero_also_far_from_the_origin(offset):
    """And only they: near rows keep their distance."""
    rng = np.random.default_rng(0)
    anchors = (rng.standard_normal((19, 130)) * 100 + offset).astype(np.float32)
    values = compared(anchors, anchors)
    for name in BOTH:
        wanted = cdist(anchors.astype(float), anchors.astype(float), IN_SCIPY[name])
        np.testing.assert_allclose(values[name], wanted, rtol=1e-5)
        assert (np.diag(values[name]) == 0).all()


@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1e-20, 1e30, 3e38])
@pytest.mark.parametrize("name", BOTH)
def test_every_scale_of_float32(name, scale):
    """What the sum in float32 cannot hold comes back in float64, and never as NaN."""
    X = np.float32(scale) * np.array([[1, -1, 0.5], [0.5, 0, -1]], dtype=np.float32)
    anchors = -X[:1]
    wanted = cdist(X.astype(float), anchors.astype(float), IN_SCIPY[name])
    values = METRICS[name].compare(X, METRICS[name].prepare(anchors))
    np.testing.assert_allclose(values, wanted, rtol=1e-5)


def test_read_only_strided_and_mapped_rows(tmp_path):
    """Rows need not lie as the kernel reads them, and are not written to."""
    X = np.random.default_rng(0).standard_normal((20, 30)).astype(np.float32)
    wanted = compared(X, X)["manhattan"]
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    fortran = np.asfortranarray(X)
    doubled = np.repeat(X, 2, axis=1)[:, ::2]
    for rows in (mapped, fortran, doubled):
        np.testing.assert_array_equal(compared(rows, X)["manhattan"], wanted)


@pytest.mark.parametrize("n_jobs", [1, 2, 3])
def test_two_metrics_in_one_pass_are_the_two_alone(n_jobs, monkeypatch):
    """Bit for bit, and with any number of threads."""
    monkeypatch.setattr("skinvariant.relative._base._BLOCK_MIB", 0.1)
    X = np.random.default_rng(0).standard_normal((500, 40)).astype(np.float32)
    options = {"anchors": np.arange(9), "n_jobs": n_jobs}
    both = InvariantAggregator(metrics=BOTH, post=None, **options).fit_transform(X)
    alone = [
        RelativeProjector(metric=name, **options).fit_transform(X) for name in BOTH
    ]
    np.testing.assert_array_equal(both, np.concatenate(alone, axis=1))


USE = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    {before}
    import numpy as np
    import skinvariant
    from skinvariant.metrics import manhattan, chebyshev
    X = np.array([[0.0, 0.0], [1.0, 1.0]])
    for _ in range(2):
        print(manhattan(X, [[3.0, 4.0]]).ravel(), chebyshev(X, [[3.0, 4.0]]).ravel())
for warning in caught:
    print(warning.message)
"""


def used(before="pass", **options):
    """What a fresh interpreter prints when it uses the kernels."""
    command = [sys.executable, "-c", USE.format(before=before)]
    return subprocess.check_output(command, text=True, **options).splitlines()


@pytest.mark.parametrize(
    "before",
    ["import sys; sys.modules['numba'] = None", "import numba; numba.njit = None"],
)
def test_without_a_compiler_scipy_does_it(before):
    """The same values, and one warning."""
    first, second, *warned = used(before)
    assert first == second == "[7. 5.] [4. 3.]"
    assert len(warned) == 1
    assert "cannot be used" in warned[0]


def test_without_a_cache_folder(tmp_path):
    """Compiled anew, and one warning that says what to set."""
    copied = tmp_path / "skinvariant"
    source = Path(skinvariant.__file__).parent
    shutil.copytree(source, copied, ignore=shutil.ignore_patterns("__pycache__"))
    cache = copied / "metrics" / "__pycache__"
    cache.write_text("a file, where a folder would have to be")
    nowhere = dict.fromkeys(("HOME", "XDG_CACHE_HOME"), str(copied / "__init__.py"))
    environment = {
        name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"
    }
    before = f"import sys; sys.path.insert(0, {str(tmp_path)!r})"
    first, second, *warned = used(before, env=environment | nowhere)
    assert first == second == "[7. 5.] [4. 3.]"
    assert len(warned) == 1
    assert "NUMBA_CACHE_DIR" in warned[0]


def fill(X, packed, manhattan, chebyshev, sums, maxima):
    """Compile in no time."""
    manhattan[:] = 7


DAMAGE = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "garbage": lambda data: np.random.default_rng(0).bytes(len(data)),
    "another object": lambda data: pickle.dumps(data),
}


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Store a small kernel in a folder of its own; return its files by suffix."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(_compiled, "_compare", fill)
    _compiled._warn_of_files.cache_clear()
    assert not _compiled.load.__wrapped__().stats.cache_hits
    files = {suffix: [*tmp_path.rglob(f"*.{suffix}")] for suffix in ("nbi", "nbc")}
    assert all(files.values())
    return files


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_damaged_files_are_written_again(stored, suffix, damage):
    """One process compiles, without a warning; the next ones load."""
    for path in stored[suffix]:
        path.write_bytes(DAMAGE[damage](path.read_bytes()))
    mended = _compiled.load.__wrapped__()
    one = np.zeros((1, 1), dtype=np.float32)
    values = _compiled._run(mended, one, _compiled.pack(one), 1, ("manhattan",))
    assert values["manhattan"].tolist() == [[7]]
    assert sum(_compiled.load.__wrapped__().stats.cache_hits.values()) == 1


def test_damaged_files_that_cannot_be_replaced(stored, monkeypatch):
    """The kernels are compiled without them, with one warning for all kinds."""

    def refuse(self, *args):
        raise PermissionError("read-only")

    for path in stored["nbi"]:
        path.write_bytes(b"")
    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.flush", refuse)
    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.save", refuse)
    with pytest.warns(UserWarning, match=r"cannot be stored.*got Perm"):
        _compiled.load.__wrapped__("float32")
    _compiled.load.__wrapped__("float64")  # warnings are errors


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("names", [BOTH, BOTH[:1], BOTH[1:], BOTH[::-1]])
def test_every_kind_is_loaded_before_it_is_used(names, dtype, monkeypatch):
    """Nothing else reads numba's files, so that no damage is met later."""
    X = np.ones((2, 3), dtype=dtype)
    kernel = _compiled.load.__wrapped__(X.dtype.name, names)
    assert len(kernel.signatures) == 1
    monkeypatch.setattr(_compiled, "load", lambda dtype, names: kernel)
    compared(X, X, names)
    assert len(kernel.signatures) == 1


def test_kernels_that_appear_or_vanish_after_fit(monkeypatch):
    """A model fitted with a compiler serves without one, and the other way round."""
    X = np.random.default_rng(0).standard_normal((30, 5))
    compiled = RelativeProjector(8, metric="manhattan", random_state=0).fit(X)
    wanted = compiled.transform(X)
    monkeypatch.setattr(_differences, "usable_kernels", lambda: None)
    np.testing.assert_allclose(compiled.transform(X), wanted, rtol=1e-13)
    plain = RelativeProjector(8, metric="manhattan", random_state=0).fit(X)
    monkeypatch.undo()
    np.testing.assert_allclose(plain.transform(X), wanted, rtol=1e-13)
