"""Related spaces, whose relation is the one that they name, and files of spaces."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist

from skinvariant.datasets import load_embeddings, make_related_spaces
from skinvariant.datasets._generators import _TRANSFORMATIONS
from skinvariant.metrics import TRANSFORMATIONS, Metric

DATA = os.environ.get("SKINVARIANT_DATA")
needs_data = pytest.mark.skipif(
    not DATA, reason="SKINVARIANT_DATA does not name a folder of real embeddings"
)
WIDENING = ("orthogonal", "linear", "affine")


def is_diagonal(matrix):
    """Whether there is nothing beside the diagonal."""
    return np.array_equal(matrix, np.diag(np.diag(matrix)))


def is_orthogonal(matrix):
    """Whether rows have norm 1 and are at right angles."""
    return np.allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=1e-12)


def is_a_unit_per_axis(matrix):
    """Whether each row and each column has one entry: 1 or -1."""
    ones = np.eye(len(matrix))
    return np.array_equal(np.sort(abs(matrix), axis=0), np.sort(ones, axis=0)) and (
        np.array_equal(np.sort(abs(matrix), axis=1), np.sort(ones, axis=1))
    )


#: Whether a map belongs to a class, by the definition of the class.
BELONGS = {
    "isotropic_scaling": lambda matrix, offset: (
        np.array_equal(matrix, matrix[0, 0] * np.eye(len(matrix)))
        and matrix[0, 0] > 0
        and not offset.any()
    ),
    "axis_scaling": lambda matrix, offset: (
        is_diagonal(matrix) and (np.diag(matrix) > 0).all() and not offset.any()
    ),
    "permutation": lambda matrix, offset: (
        is_a_unit_per_axis(matrix) and (matrix >= 0).all() and not offset.any()
    ),
    "signed_permutation": lambda matrix, offset: (
        is_a_unit_per_axis(matrix) and not offset.any()
    ),
    "orthogonal": lambda matrix, offset: is_orthogonal(matrix) and not offset.any(),
    "translation": lambda matrix, offset: np.array_equal(matrix, np.eye(len(matrix))),
    "linear": lambda matrix, offset: (
        np.linalg.matrix_rank(matrix) == len(matrix) and not offset.any()
    ),
    "affine": lambda matrix, offset: np.linalg.matrix_rank(matrix) == len(matrix),
}


def draws(transformation, n_draws=5, **params):
    """Some pairs of spaces that differ in their seed."""
    return [
        make_related_spaces(transformation=transformation, random_state=seed, **params)
        for seed in range(n_draws)
    ]


def test_every_class_is_defined_here():
    """No class of transformations escapes the tests of this file."""
    assert set(BELONGS) == set(TRANSFORMATIONS)
    assert _TRANSFORMATIONS == TRANSFORMATIONS


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
def test_a_map_belongs_to_its_class(transformation):
    """Maps have the property of their class, and relate the two spaces exactly."""
    for spaces in draws(transformation):
        assert BELONGS[transformation](spaces.matrix, spaces.offset)
        assert_array_equal(spaces.X_b, spaces.X_a @ spaces.matrix + spaces.offset)
        assert spaces.transformation == transformation


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
def test_a_map_is_noticed(transformation):
    """Rows move by a good part of the space's spread: no map is nearly nothing."""
    for spaces in draws(transformation):
        moved = np.linalg.norm(spaces.X_b - spaces.X_a, axis=1)
        assert np.median(moved) > 0.25 * np.linalg.norm(spaces.X_a.std(axis=0))


@pytest.mark.parametrize("narrow", TRANSFORMATIONS)
@pytest.mark.parametrize("wide", TRANSFORMATIONS)
def test_one_class_includes_another_if_its_maps_belong(wide, narrow):
    """Invariance to a class includes exactly the classes whose maps belong to it."""
    included = Metric("own", np.inner, invariances=[wide]).invariances
    belongs = [BELONGS[wide](s.matrix, s.offset) for s in draws(narrow)]
    assert all(belongs) == any(belongs) == (narrow in included)


@pytest.mark.parametrize("transformation", ["isotropic_scaling", "axis_scaling"])
def test_scalings(transformation):
    """Factors lie between 1/4 and 4, and none is near 1."""
    factors = np.concatenate([np.diag(s.matrix) for s in draws(transformation, 20)])
    size = np.abs(np.log2(factors))
    assert (size >= 0.5).all()
    assert (size <= 2).all()
    assert (factors > 1).any()
    assert (factors < 1).any()


@pytest.mark.parametrize("n_features_b", [None, 8, 12])
@pytest.mark.parametrize("transformation", ["linear", "affine"])
def test_linear_maps_are_well_conditioned(transformation, n_features_b):
    """Singular values of linear maps lie between 1/4 and 4."""
    for spaces in draws(transformation, n_features_b=n_features_b):
        singular = np.linalg.svd(spaces.matrix, compute_uv=False)
        assert singular.shape == (8,)
        assert singular.min() >= 0.25 * (1 - 1e-12)
        assert singular.max() <= 4 * (1 + 1e-12)


def test_orthogonal_maps_turn_and_reflect():
    """Orthogonal maps of both determinants are drawn, as the class has both."""
    signs = {np.linalg.det(s.matrix).round(9) for s in draws("orthogonal", 20)}
    assert signs == {-1.0, 1.0}


def test_signed_permutations_have_both_signs():
    """Signed permutations flip some axes and not others."""
    matrix = make_related_spaces(transformation="signed_permutation", random_state=0)
    assert set(np.unique(matrix.matrix)) == {-1.0, 0.0, 1.0}


@pytest.mark.parametrize("n_features", [1, 2, 8])
@pytest.mark.parametrize("transformation", WIDENING)
def test_wider_spaces(transformation, n_features):
    """Orthogonal, linear and affine maps may lead into a wider space."""
    spaces = make_related_spaces(
        30, n_features, transformation=transformation, n_features_b=11, random_state=0
    )
    assert spaces.X_a.shape == (30, n_features)
    assert spaces.X_b.shape == (30, 11)
    assert spaces.offset.shape == (11,)
    assert spaces.matrix.shape == (n_features, 11)
    assert BELONGS[transformation](spaces.matrix, spaces.offset)
    assert_array_equal(spaces.X_b, spaces.X_a @ spaces.matrix + spaces.offset)


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
def test_one_feature(transformation):
    """Every class has a map of a single axis."""
    for spaces in draws(transformation, n_features=1):
        assert spaces.X_b.shape == (200, 1)
        assert BELONGS[transformation](spaces.matrix, spaces.offset)


@pytest.mark.parametrize(
    ("names", "result", "no_longer"),
    [
        (["isotropic_scaling", "translation"], "affine", "isotropic_scaling"),
        (("permutation", "axis_scaling"), "linear", "permutation"),
        (["signed_permutation", "permutation"], "signed_permutation", "permutation"),
        (["permutation", "orthogonal"], "orthogonal", "signed_permutation"),
        (["translation", "orthogonal"], "affine", "linear"),
    ],
)
def test_several_classes(names, result, no_longer):
    """Maps of several classes are composed, and leave the narrower ones."""
    for spaces in draws(names):
        assert BELONGS[result](spaces.matrix, spaces.offset)
        assert not BELONGS[no_longer](spaces.matrix, spaces.offset)
        assert_array_equal(spaces.X_b, spaces.X_a @ spaces.matrix + spaces.offset)


def test_a_translation_is_carried_through_later_maps():
    """An offset is turned with the space: a rotation about the old origin."""
    spaces = make_related_spaces(
        transformation=["translation", "orthogonal"], n_features_b=12, random_state=0
    )
    assert is_orthogonal(spaces.matrix)
    # the offset lies in the image of the rotation, as one added later would not
    image = spaces.matrix.T @ spaces.matrix
    assert_allclose(spaces.offset @ image, spaces.offset, atol=1e-12)
    assert np.linalg.norm(spaces.offset) > 1


@pytest.mark.parametrize("noise", [0.01, 0.5, 2])
def test_noise(noise):
    """Noise has the given part of the second space's deviation, on every axis."""
    spaces = make_related_spaces(
        20_000, 4, transformation="axis_scaling", noise=noise, random_state=0
    )
    clean = spaces.X_a @ spaces.matrix + spaces.offset
    spread = np.sqrt(clean.var(axis=0).mean())
    residual = spaces.X_b - clean
    # the deviation of n draws is known to 1 / sqrt(2 n); five times that
    assert_allclose(residual.std(axis=0), noise * spread, rtol=5 / np.sqrt(40_000))
    assert_allclose(residual.mean(axis=0), 0, atol=5 * noise * spread / np.sqrt(20_000))


def test_noise_changes_nothing_else():
    """The first space, the labels and the map do not depend on the noise."""
    clean = make_related_spaces(random_state=0)
    noisy = make_related_spaces(random_state=0, noise=0.1)
    for key in ("X_a", "y", "matrix", "offset"):
        assert_array_equal(clean[key], noisy[key])
    assert (clean.X_b != noisy.X_b).all()


@pytest.mark.parametrize("n_classes", [1, 3, 5])
def test_classes(n_classes):
    """Rows carry class labels of nearly equal counts, off the origin."""
    spaces = make_related_spaces(101, n_classes=n_classes, random_state=0)
    counts = np.bincount(spaces.y)
    assert counts.shape == (n_classes,)
    assert counts.max() - counts.min() <= 1
    assert np.linalg.norm(spaces.X_a.mean(axis=0)) > 1


def test_reproducible():
    """The same seed gives the same spaces, another one gives others."""
    one, two, other = (make_related_spaces(random_state=seed) for seed in (0, 0, 1))
    state = make_related_spaces(random_state=np.random.RandomState(0))
    for key in ("X_a", "X_b", "y", "matrix", "offset"):
        assert_array_equal(one[key], two[key])
        assert_array_equal(one[key], state[key])
    assert (one.X_a != other.X_a).all()


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"n_samples": 0}, ValueError, r"n_samples must .* got 0"),
        ({"n_samples": 2.5}, TypeError, r"n_samples must .* got 2.5"),
        ({"n_features": 0}, ValueError, r"n_features must .* got 0"),
        ({"n_features": "3"}, TypeError, r"n_features must .* got '3'"),
        ({"n_classes": -1}, ValueError, r"n_classes must .* got -1"),
        ({"n_classes": True}, TypeError, r"n_classes must .* got True"),
        ({"noise": -0.1}, ValueError, r"noise must .* got -0.1"),
        ({"noise": np.nan}, ValueError, r"noise must .* got nan"),
        ({"noise": None}, TypeError, r"noise must .* got None"),
        ({"n_features_b": 7}, ValueError, r"n_features_b must .* \[8, inf\); got 7"),
        ({"n_features_b": 9.0}, TypeError, r"n_features_b must .* got 9.0"),
        ({"transformation": "shear"}, ValueError, r"'affine'.* got 'shear'"),
        ({"transformation": ["linear", "shear"]}, ValueError, r"got 'shear'"),
        ({"transformation": ["linear", 3]}, TypeError, r"transformation .* got 3"),
    ],
)
def test_bad_parameters(params, error, message):
    """A parameter out of its range is refused, with its name and value."""
    with pytest.raises(error, match=message):
        make_related_spaces(**params)


@pytest.mark.parametrize("transformation", sorted(set(TRANSFORMATIONS) - {*WIDENING}))
def test_narrow_classes_keep_the_width(transformation):
    """A permutation, a scaling or a translation cannot lead into a wider space."""
    with pytest.raises(ValueError, match=r"n_features_b=9 is more than n_features=8"):
        make_related_spaces(transformation=transformation, n_features_b=9)
    two = make_related_spaces(transformation=[transformation, "linear"], n_features_b=9)
    assert two.X_b.shape == (200, 9)


@pytest.mark.parametrize("transformation", [None, 42, []])
def test_no_transformation(transformation):
    """What is no class and no sequence of classes is an error that repeats it."""
    expected = re.escape(f"got {transformation!r}")
    with pytest.raises((TypeError, ValueError), match=f"transformation .*{expected}"):
        make_related_spaces(transformation=transformation)


def test_transformations_from_a_generator():
    """Several classes may come from any iterable: none of them is lost."""
    names = ["orthogonal", "axis_scaling"]
    expected = make_related_spaces(transformation=names, random_state=0)
    actual = make_related_spaces(transformation=iter(names), random_state=0)
    assert_array_equal(actual.matrix, expected.matrix)


def test_infinite_noise():
    """Noise without bound is refused, as spaces are finite."""
    with pytest.raises(ValueError, match=r"noise must .* got inf"):
        make_related_spaces(noise=np.inf)


def write_spaces(path, **changes):
    """A file of two encoders and 5 + 3 samples, and the arrays in it."""
    rng = np.random.default_rng(0)
    arrays = {
        f"X_{name}_{part}": rng.standard_normal((n, width)).astype(np.float16)
        for name, width in (("bert_base", 4), ("use__m3", 6))
        for part, n in (("train", 5), ("test", 3))
    }
    arrays["y_train"] = np.array([0, 1, 2, 1, 0], np.uint8)
    arrays["y_test"] = np.array([2, 2, 1], np.uint8)
    arrays["y_fine_train"] = np.array([250, 1, 2, 3, 4], np.uint8)
    arrays["classes"] = np.array(["a", "b", "c"])
    arrays["scale"] = np.array([0.5])
    arrays |= changes
    arrays = {key: value for key, value in arrays.items() if value is not None}
    np.savez(path, **arrays)
    return arrays


def test_load_embeddings(tmp_path):
    """Spaces by encoder, labels, class names, and everything else by its name."""
    path = tmp_path / "spaces.npz"
    arrays = write_spaces(path)
    for given in (path, str(path)):
        bunch = load_embeddings(given)
        for part in ("train", "test"):
            assert list(bunch[f"X_{part}"]) == ["bert_base", "use__m3"]
            for name, X in bunch[f"X_{part}"].items():
                assert X.dtype == np.float32
                assert_array_equal(X, arrays[f"X_{name}_{part}"])
            assert bunch[f"y_{part}"].dtype == np.int64
            assert_array_equal(bunch[f"y_{part}"], arrays[f"y_{part}"])
        assert bunch.target_names == ["a", "b", "c"]
        assert bunch.y_fine_train.dtype == np.int64
        assert_array_equal(bunch.y_fine_train, arrays["y_fine_train"])
        assert bunch.scale == 0.5
        assert "X" not in bunch


@pytest.mark.parametrize("dtype", ["float64", np.float16])
def test_load_embeddings_in_a_dtype(tmp_path, dtype):
    """Spaces have the dtype that is asked for, and nothing else has."""
    write_spaces(tmp_path / "spaces.npz")
    bunch = load_embeddings(tmp_path / "spaces.npz", dtype=dtype)
    assert bunch.X_train["bert_base"].dtype == dtype
    assert bunch.X_test["use__m3"].dtype == dtype
    assert bunch.y_train.dtype == np.int64


def test_load_embeddings_without_labels(tmp_path):
    """Labels that there are not are None; names that there are not are the labels."""
    path = tmp_path / "spaces.npz"
    write_spaces(path, y_train=None, y_test=None, classes=None)
    bunch = load_embeddings(path)
    assert bunch.y_train is None
    assert bunch.y_test is None
    assert bunch.target_names == []
    write_spaces(path, y_test=np.array([3, 4, 5]), classes=None)
    assert load_embeddings(path).target_names == ["0", "1", "2", "3", "4", "5"]


def write_whole(path, **changes):
    """A file of whole spaces with the rows of each part, and the arrays in it."""
    rng = np.random.default_rng(0)
    arrays = {
        "X_gcn_s0": rng.standard_normal((9, 4)).astype(np.float16),
        "X_gcn_s1": rng.standard_normal((9, 5)).astype(np.float16),
        "y": np.arange(9, dtype=np.int8) % 3,
        "train_idx": np.array([6, 1], np.int16),
        "val_idx": np.array([0, 8, 3], np.int16),
        "test_idx": np.array([7, 2], np.int16),
        "edge_i": np.array([0, 200], np.int16),
    }
    arrays |= changes
    arrays = {key: value for key, value in arrays.items() if value is not None}
    np.savez(path, **arrays)
    return arrays


def test_load_whole_embeddings(tmp_path):
    """Whole spaces are cut by the file's own rows, validation after training."""
    path = tmp_path / "graph.npz"
    arrays = write_whole(path)
    bunch = load_embeddings(path)
    for name in ("gcn_s0", "gcn_s1"):
        X = arrays[f"X_{name}"]
        assert_array_equal(bunch.X[name], X)
        assert bunch.X[name].dtype == np.float32
        assert_array_equal(bunch.X_train[name], X[[6, 1, 0, 8, 3]])
        assert_array_equal(bunch.X_test[name], X[[7, 2]])
    assert_array_equal(bunch.y_train, [0, 1, 0, 2, 0])
    assert_array_equal(bunch.y_test, [1, 2])
    assert_array_equal(bunch.y, arrays["y"])
    assert bunch.target_names == ["0", "1", "2"]
    for name in ("train_idx", "val_idx", "test_idx", "edge_i"):
        assert bunch[name].dtype == np.int64
        assert_array_equal(bunch[name], arrays[name])


def test_load_whole_embeddings_of_fewer_parts(tmp_path):
    """Without validation rows, without any rows, and without labels."""
    path = tmp_path / "graph.npz"
    arrays = write_whole(path, val_idx=None)
    bunch = load_embeddings(path)
    assert_array_equal(bunch.X_train["gcn_s0"], arrays["X_gcn_s0"][[6, 1]])
    write_whole(path, train_idx=None, val_idx=None, test_idx=None, y=None)
    bunch = load_embeddings(path)
    assert bunch.X_train == {}
    assert bunch.y_train is None
    assert bunch.X["gcn_s0"].shape == (9, 4)
    arrays = write_whole(path, y=None)
    bunch = load_embeddings(path)
    assert bunch.y_train is bunch.y_test is None
    assert_array_equal(bunch.X_test["gcn_s1"], arrays["X_gcn_s1"][[7, 2]])


def test_load_bfloat16(tmp_path):
    """NumPy stores its bytes without a name: the upper half of a float32."""
    values = np.array([[1.0, -2.5], [3e38, 0.0], [np.inf, 2.0**-130]], np.float32)
    halves = (values.view(np.uint32) >> 16).astype(np.uint16).view("V2")
    expected = (halves.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    np.savez(tmp_path / "one.npz", X_a_train=halves, X_a_test=halves[:1], X_b=halves)
    bunch = load_embeddings(tmp_path / "one.npz", dtype="float64")
    for X, n_rows in ((bunch.X_train["a"], 3), (bunch.X_test["a"], 1)):
        assert X.dtype == np.float64
        assert_array_equal(X, expected[:n_rows])
    assert_array_equal(bunch.X["b"], expected)
    assert_allclose(expected, values, rtol=2**-7)


@pytest.mark.parametrize("kind", ["V1", "V3", "U3", "S2", "complex64", "M8[D]"])
def test_load_what_is_no_real_number(tmp_path, kind):
    """It is neither guessed nor parsed."""
    write_spaces(tmp_path / "spaces.npz", X_bert_base_test=np.zeros((3, 4), kind))
    with pytest.raises(
        ValueError, match="X_bert_base_test must hold real numbers; got"
    ):
        load_embeddings(tmp_path / "spaces.npz")


@pytest.mark.parametrize("name", ["idx", "mask"])
def test_load_masks_of_three_splits(tmp_path, name):
    """By either name, and the rows are those that indices would give."""
    path = tmp_path / "graph.npz"
    masks = {part: np.zeros(9, bool) for part in ("train", "val", "test")}
    for part, rows in (("train", [1, 6]), ("val", [0, 3, 8]), ("test", [2, 7])):
        masks[part][rows] = True
    none = dict.fromkeys(["train_idx", "val_idx", "test_idx"])
    named = {f"{part}_{name}": mask for part, mask in masks.items()}
    arrays = write_whole(path, **none | named)
    bunch = load_embeddings(path)
    X = arrays["X_gcn_s0"]
    assert_array_equal(bunch.X_train["gcn_s0"], X[[1, 6, 0, 3, 8]])
    assert_array_equal(bunch.X_test["gcn_s0"], X[[2, 7]])
    assert_array_equal(bunch.y_train, arrays["y"][[1, 6, 0, 3, 8]])
    assert_array_equal(bunch[f"val_{name}"], masks["val"])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"train_idx": np.ones(8, bool)},
            ValueError,
            r"of 9 samples; got shape \(8,\)",
        ),
        ({"train_idx": np.ones((9, 2), bool)}, ValueError, r"got shape \(9, 2\)"),
        (
            {"train_mask": np.ones(9, bool)},
            ValueError,
            r"\['train_idx', 'train_mask'\]",
        ),
        ({"test_idx": np.array([9])}, ValueError, r"test_idx must lie in .* got \[9\]"),
        ({"test_idx": np.array([-1])}, ValueError, r"test_idx must lie .* got \[-1\]"),
        ({"test_idx": np.array([1, 1])}, ValueError, r"must be distinct; got .* \[1\]"),
        ({"test_idx": np.array([0.5])}, TypeError, r"got dtype float64"),
        ({"test_idx": np.array([[0]])}, ValueError, r"got shape \(1, 1\)"),
    ],
)
def test_rows_that_are_not_of_a_space(tmp_path, changes, error, message):
    """No row is taken twice, or from the end."""
    write_whole(tmp_path / "graph.npz", **changes)
    with pytest.raises(error, match=message):
        load_embeddings(tmp_path / "graph.npz")


def test_labels_of_different_kinds(tmp_path):
    """Words and numbers would all become words."""
    write_spaces(tmp_path / "spaces.npz", y_test=np.array(["1", "2", "0"]))
    with pytest.raises(ValueError, match=r"one kind; got dtypes \['int64', '<U1'\]"):
        load_embeddings(tmp_path / "spaces.npz")


def test_load_images(tmp_path):
    """Raw images are no space: they stay as they are."""
    images = np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4)
    np.savez(
        tmp_path / "images.npz",
        X_train=images,
        X_test=images[:2],
        y_train=np.arange(5, dtype=np.uint8),
        y_test=np.arange(2, dtype=np.uint8),
    )
    bunch = load_embeddings(tmp_path / "images.npz")
    assert bunch.X_train.dtype == bunch.X_test.dtype == np.uint8
    assert_array_equal(bunch.X_train, images)
    assert_array_equal(bunch.X_test, images[:2])
    assert bunch.target_names == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("write", "changes", "message"),
    [
        (
            write_spaces,
            {"X_use__m3_train": np.zeros((4, 6))},
            "5 in X_bert_base_train and 4 in X_use__m3_train",
        ),
        (
            write_spaces,
            {"y_test": np.zeros(2)},
            "3 in X_bert_base_test and 2 in y_test",
        ),
        (
            write_spaces,
            {"y_train": np.array(1)},
            "5 in X_bert_base_train and 1 in y_train",
        ),
        (write_whole, {"X_gcn_s1": np.zeros((8, 5))}, "9 in X_gcn_s0 and 8 in X_gcn"),
        (write_whole, {"y": np.zeros(7)}, "9 in X_gcn_s0 and 7 in y"),
    ],
)
def test_embeddings_that_do_not_correspond(tmp_path, write, changes, message):
    """Numbers of rows that differ are an error with both names and numbers."""
    path = tmp_path / "spaces.npz"
    write(path, **changes)
    expected = f"arrays of '{path}' must have a row for each sample; got {message}"
    with pytest.raises(ValueError, match=re.escape(expected)):
        load_embeddings(path)


def test_no_embeddings(tmp_path):
    """Files that are not what they should be are told apart."""
    path = tmp_path / "spaces.npz"
    with pytest.raises(FileNotFoundError):
        load_embeddings(path)
    path.write_text("X, y")
    with pytest.raises(ValueError, match=r"spaces.npz' must be a complete .npz file"):
        load_embeddings(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r"must be a complete .npz file"):
        load_embeddings(path)
    np.savez(path, y_train=np.zeros(3), features=np.zeros(3))
    with pytest.raises(ValueError, match=r"hold a space.*\['features', 'y_train'\]"):
        load_embeddings(path)
    write_spaces(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"got another file, or a part of one"):
        load_embeddings(path)
    write_spaces(path, X_bert_base_train=np.array([{"a": 1}] * 5, dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load_embeddings(path)


@needs_data
@pytest.mark.parametrize(
    ("name", "encoders", "shape", "classes"),
    [
        (
            "trec_text_embeddings",
            ["minilm_l6", "use_m3", "mpnet", "glove50"],
            (5452, 500),
            ["ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"],
        ),
        (
            "cifar10_jpeg_resnet_embeddings",
            ["resnet20", "resnet32", "resnet44", "resnet56"],
            (10_000, 5000),
            [str(digit) for digit in range(10)],
        ),
        (
            "cora",
            ["gcn64_s0", "gcn64_s1", "gcn64_s2", "gcn128_s3"],
            (640, 1000),
            [f"class_{i}" for i in range(7)],
        ),
    ],
)
def test_load_real_embeddings(name, encoders, shape, classes):
    """The real files, each as its description says."""
    bunch = load_embeddings(Path(DATA, f"{name}.npz"))
    assert bunch.target_names == classes
    for part, n_samples in zip(("train", "test"), shape, strict=True):
        assert list(bunch[f"X_{part}"]) == encoders
        for X in bunch[f"X_{part}"].values():
            assert X.dtype == np.float32
            assert len(X) == n_samples
        assert len(bunch[f"y_{part}"]) == n_samples


@needs_data
@pytest.mark.parametrize("name", ["mnist_images", "fashion_mnist_images"])
def test_load_real_images(name):
    """Raw images of the real files."""
    bunch = load_embeddings(Path(DATA, f"{name}.npz"))
    assert bunch.X_train.shape == (10_000, 28, 28)
    assert bunch.X_test.dtype == np.uint8
    assert len(bunch.target_names) == 10


@pytest.mark.parametrize("seed", range(3))
def test_an_isometry_keeps_the_distances_of_neighbours(seed):
    """A bent plane: short distances are equal, long ones and lengths are not."""
    how = {"n_features_b": 11, "random_state": seed}
    spaces = make_related_spaces(2000, 4, transformation="isometry", **how)
    assert spaces.X_a.shape == (2000, 4)
    assert spaces.X_b.shape == (2000, 11)
    assert spaces.matrix is spaces.offset is None
    assert sorted(set(spaces.y.tolist())) == [0, 1, 2]
    gaps_a, gaps_b = cdist(spaces.X_a, spaces.X_a), cdist(spaces.X_b, spaces.X_b)
    near_a, near_b = (gaps < 1.0 for gaps in (gaps_a, gaps_b))
    assert np.mean(near_a == near_b) > 0.9999
    assert_allclose(gaps_b[near_a & near_b], gaps_a[near_a & near_b], atol=0.03)
    assert abs(np.corrcoef(gaps_a.ravel(), gaps_b.ravel())[0, 1]) < 0.5
    for X, width in ((spaces.X_a, 3), (spaces.X_b, 3)):
        assert np.linalg.matrix_rank(X - X.mean(axis=0)) == width


def test_an_isometry_among_others():
    """What comes with it is applied, too, and a plane in a plane cannot be bent."""
    names = ("isometry", "isotropic_scaling")
    alone, both = (
        make_related_spaces(300, transformation=name, random_state=0)
        for name in (names[:1], names)
    )
    assert_array_equal(alone.X_a, both.X_a)
    ratio = cdist(both.X_b, both.X_b[:1])[1:] / cdist(alone.X_b, alone.X_b[:1])[1:]
    assert_allclose(ratio, ratio[0, 0])
    assert abs(np.log2(ratio[0, 0])) >= 0.5
    with pytest.raises(ValueError, match=r"n_features must be .* \[3, .* got 2"):
        make_related_spaces(n_features=2, transformation="isometry")
