"""From few pairs to many: right matches, what they depend on, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from scipy.sparse import csr_array

from skinvariant.datasets import make_related_spaces
from skinvariant.matching import bootstrap_anchors

N_ROWS, N_KNOWN = 300, 10


def shuffled_spaces(transformation="orthogonal", *, noise=0.05, seed=0, **options):
    """Make two spaces in different orders, known pairs, and each row's partner."""
    spaces = make_related_spaces(
        N_ROWS,
        transformation=transformation,
        noise=noise,
        random_state=seed,
        **{"n_features": 12} | options,
    )
    order = np.random.default_rng(seed).permutation(N_ROWS)
    known = np.stack([order[:N_KNOWN], np.arange(N_KNOWN)], axis=1)
    return spaces.X_a, spaces.X_b[order], known, np.argsort(order)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_features_b", [12, 20])
def test_a_rotation_is_matched_without_an_error(n_features_b, seed):
    """All matches are right; the known pairs come first, the surest ones next."""
    X_a, X_b, known, partners = shuffled_spaces(seed=seed, n_features_b=n_features_b)
    found = bootstrap_anchors(X_a, X_b, known, n_anchors=200)
    assert found.pairs.shape == (200, 2)
    assert found.pairs.dtype == np.intp
    assert_array_equal(found.pairs[:N_KNOWN], known)
    assert_array_equal(partners[found.pairs[:, 0]], found.pairs[:, 1])
    assert len(set(found.pairs[:, 0])) == 200
    assert found.recall == 1.0
    assert np.isinf(found.confidence[:N_KNOWN]).all()
    leads = found.confidence[N_KNOWN:]
    assert leads.shape == (190,)
    assert (np.diff(leads) <= 0).all()
    assert 0 <= leads[-1] < leads[0] < 2


def test_confidence_ranks_right_matches_first():
    """Where some matches are wrong, the first half has fewer of them."""
    X_a, X_b, known, partners = shuffled_spaces(noise=0.4)
    found = bootstrap_anchors(X_a, X_b, known)
    rows_a, rows_b = found.pairs[N_KNOWN:].T
    right = partners[rows_a] == rows_b
    half = len(right) // 2
    assert right[:half].mean() > right[half:].mean() + 0.1 > 0.5


def test_rows_without_a_partner():
    """Of either space a third of the rows is missing; most matches are still right."""
    X_a, X_b, known, partners = shuffled_spaces()
    kept_a = np.union1d(np.arange(0, 200), known[:, 0])
    kept_b = np.union1d(partners[np.arange(100, 300)], known[:, 1])
    places = [
        np.searchsorted(*rows) for rows in zip((kept_a, kept_b), known.T, strict=True)
    ]
    found = bootstrap_anchors(X_a[kept_a], X_b[kept_b], np.stack(places, 1), 80)
    rows_a, rows_b = found.pairs.T
    right = partners[kept_a[rows_a]] == kept_b[rows_b]
    assert right.mean() >= 0.85
    assert found.recall == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_unrelated_spaces_are_named(seed):
    """A warning gives the share of held-out pairs, and few of the matches are right."""
    X_a, _, known, partners = shuffled_spaces(seed=seed)
    X_b = np.random.default_rng(seed + 9).standard_normal((N_ROWS, 12))
    with pytest.warns(UserWarning, match=r"probably wrong; got \d+% of 10 pairs"):
        found = bootstrap_anchors(X_a, X_b, known)
    rows_a, rows_b = found.pairs[N_KNOWN:].T
    assert found.recall < 0.3
    assert np.mean(partners[rows_a] == rows_b) < 0.1


def test_wrong_pairs_are_named():
    """Known pairs of which each is wrong find no other."""
    X_a, X_b, known, _ = shuffled_spaces()
    wrong = np.stack([known[:, 0], np.roll(known[:, 1], 1)], axis=1)
    with pytest.warns(UserWarning, match="most matches are probably wrong"):
        assert bootstrap_anchors(X_a, X_b, wrong).recall < 0.5


def test_the_order_of_rows_does_not_matter():
    """Rows in another order give the same pairs, by their new numbers."""
    X_a, X_b, known, _ = shuffled_spaces(noise=0.2)
    expected = bootstrap_anchors(X_a, X_b, known, n_anchors=100)
    order = np.random.default_rng(5).permutation(N_ROWS)
    places = np.argsort(order)
    moved = np.stack([places[known[:, 0]], known[:, 1]], axis=1)
    found = bootstrap_anchors(X_a[order], X_b, moved, n_anchors=100)
    pairs = np.stack([order[found.pairs[:, 0]], found.pairs[:, 1]], axis=1)
    assert set(map(tuple, pairs)) == set(map(tuple, expected.pairs))
    assert found.recall == expected.recall


@pytest.mark.parametrize("scale", [1e-150, 1e-3, 1e6, 1e300])
def test_scale_and_offset_do_not_matter(scale):
    """A space in another unit, and around another point, has the same matches."""
    X_a, X_b, known, partners = shuffled_spaces()
    X_b = (X_b / np.abs(X_b).max() + 3) * scale
    rows_a, rows_b = bootstrap_anchors(X_a, X_b, known, n_anchors=150).pairs.T
    assert_array_equal(partners[rows_a], rows_b)


@pytest.mark.parametrize("make", [pd.DataFrame, np.float32, np.ndarray.tolist])
def test_containers(make):
    """Frames, single precision and lists give the pairs of arrays."""
    X_a, X_b, known, _ = shuffled_spaces()
    expected = bootstrap_anchors(X_a, X_b, known, n_anchors=100)
    found = bootstrap_anchors(make(X_a), make(X_b), known.tolist(), n_anchors=100)
    assert set(map(tuple, found.pairs)) == set(map(tuple, expected.pairs))


def test_nothing_is_written_and_the_result_repeats():
    """Read-only input will do, and no generator is touched."""
    X_a, X_b, known, _ = shuffled_spaces(noise=0.3)
    before = np.random.get_state()[1].copy()
    for array in (X_a, X_b, known):
        array.setflags(write=False)
    one, other = (bootstrap_anchors(X_a, X_b, known) for _ in range(2))
    assert_array_equal(one.pairs, other.pairs)
    assert_array_equal(one.confidence, other.confidence)
    assert_array_equal(before, np.random.get_state()[1])


def test_fewer_pairs_than_asked_for():
    """There are no more pairs than rows; of equal rows not all are mutual."""
    X_a, X_b, known, partners = shuffled_spaces()
    rows_a, rows_b = bootstrap_anchors(X_a, X_b, known, n_anchors=10_000).pairs.T
    assert N_ROWS / 2 < len(rows_a) <= N_ROWS
    assert np.mean(partners[rows_a] == rows_b) > 0.95


def test_constant_spaces():
    """Rows that are all equal have no match that leads, and no pair is found."""
    known = np.stack([np.arange(6), np.arange(6)], axis=1)
    with pytest.warns(UserWarning, match="got 0% of 6 pairs"):
        found = bootstrap_anchors(np.ones((40, 3)), np.ones((50, 3)), known)
    assert found.recall == 0.0
    assert found.confidence[6:].tolist() == [0.0]


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"pairs": [[0, 0]] * 4}, ValueError, "5 pairs .* or more.*shape \\(4, 2\\)"),
        ({"pairs": np.arange(9)}, ValueError, "got shape \\(9,\\)"),
        ({"pairs": np.zeros((9, 3), int)}, ValueError, "got shape \\(9, 3\\)"),
        ({"pairs": np.ones((9, 2))}, TypeError, "integer row indices"),
        ({"pairs": np.zeros((9, 2), int)}, ValueError, "X_a in pairs must be distinct"),
        ({"pairs": np.c_[:9, 295:304]}, ValueError, "X_b in pairs must lie in 0 .."),
        ({"pairs": np.c_[:299, :299]}, ValueError, "X_a must have 2 rows or more that"),
        ({"n_anchors": 10}, ValueError, "n_anchors"),
        ({"n_anchors": 50.5}, TypeError, "n_anchors"),
        ({"X_a": csr_array(np.eye(N_ROWS))}, TypeError, "[Ss]parse"),
        ({"X_b": np.full((N_ROWS, 4), np.nan)}, ValueError, "X_b contains NaN"),
        ({"X_a": np.zeros(N_ROWS)}, ValueError, "2D array"),
    ],
)
def test_errors(changed, error, message):
    """Each message names the argument, and ends with what was got."""
    X_a, X_b, known, _ = shuffled_spaces()
    arguments = {"X_a": X_a, "X_b": X_b, "pairs": known} | changed
    with pytest.raises(error, match=message):
        bootstrap_anchors(**arguments)
