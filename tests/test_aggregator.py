"""InvariantAggregator: the product, its aggregations and its weights."""

import pickle

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skinvariant import InvariantAggregator, RelativeProjector
from skinvariant.datasets import make_related_spaces
from skinvariant.metrics import METRICS, Metric, euclidean
from skinvariant.relative import _base
from skinvariant.relative._aggregator import AGGREGATIONS

DEFAULT = ("cosine", "euclidean", "manhattan", "chebyshev")


@pytest.fixture
def spaces():
    """Two corresponding spaces that differ by a signed permutation."""
    return make_related_spaces(
        80, 5, transformation="signed_permutation", random_state=0
    )


def parts(X, metrics=DEFAULT, **params):
    """The relative spaces of a product, one projector each."""
    return [
        RelativeProjector(20, metric=metric, random_state=0, **params).fit_transform(X)
        for metric in metrics
    ]


@pytest.mark.parametrize("pre", [None, "center", "standardize", "whiten"])
@pytest.mark.parametrize("post", [None, "layer", "l2", "standardize"])
def test_concat_is_projectors_side_by_side(pre, post, spaces):
    """One draw of anchors serves all metrics, each with its own pre and post."""
    aggregator = InvariantAggregator(20, pre=pre, post=post, random_state=0)
    expected = np.hstack(parts(spaces.X_a, pre=pre, post=post))
    output = aggregator.fit_transform(spaces.X_a)
    np.testing.assert_allclose(output, expected, atol=1e-12)
    assert len(aggregator.posts_) == 4


def test_every_column_is_standardised_by_default(spaces):
    """So no metric outweighs another: the anchors have mean 0 and variance 1."""
    aggregator = InvariantAggregator(20, random_state=0).fit(spaces.X_a)
    relative = aggregator.transform(aggregator.anchors_)
    np.testing.assert_allclose(relative.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(relative.std(axis=0), 1)


@pytest.mark.parametrize("aggregation", sorted(AGGREGATIONS))
@pytest.mark.parametrize(
    "later",
    [
        {"aggregation": "concat"},
        {"aggregation": "mean"},
        {"aggregation": lambda relative: relative[0][:, :2]},
        {"aggregation": "max"},
        {"weights": [0, 5, 1, 1]},
        {"weights": "not read"},
        {"aggregation": "sum", "weights": [4, 3, 2, 1]},
    ],
)
def test_what_is_set_after_fit_counts_from_the_next_fit(aggregation, later, spaces):
    """Rows, rebased rows and names stay those of the aggregation that was fitted."""
    how = {"aggregation": aggregation, "weights": [1, 2, 0.5, 1]}
    aggregator = InvariantAggregator(20, random_state=0, **how).fit(spaces.X_a)

    def results():
        rebased = aggregator.rebase(spaces.X_b[aggregator.anchor_indices_])
        return (
            aggregator.transform(spaces.X_a),
            aggregator.get_feature_names_out(),
            rebased.transform(spaces.X_b),
            rebased.get_feature_names_out(),
        )

    before = results()
    aggregator.set_params(**later)
    for found, expected in zip(results(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_next_fit_reads_what_was_set(spaces):
    """As an estimator that was made so."""
    later = {"aggregation": "mean", "weights": [4, 3, 2, 1]}
    aggregator = InvariantAggregator(20, random_state=0).fit(spaces.X_a)
    aggregator.set_params(**later).fit(spaces.X_a)
    new = InvariantAggregator(20, random_state=0, **later).fit(spaces.X_a)
    for method in (lambda a: a.transform(spaces.X_a), lambda a: a.anchors_):
        np.testing.assert_array_equal(method(aggregator), method(new))
    names = aggregator.get_feature_names_out(), new.get_feature_names_out()
    np.testing.assert_array_equal(*names)


def test_sum_and_mean_count_closeness(spaces):
    """Distances enter negated, so that larger means closer in every term."""
    cosine, *distances = parts(spaces.X_a, post="standardize")
    expected = cosine - sum(distances)
    total = InvariantAggregator(20, aggregation="sum", random_state=0)
    np.testing.assert_allclose(total.fit_transform(spaces.X_a), expected, atol=1e-12)
    mean = InvariantAggregator(20, aggregation="mean", random_state=0)
    np.testing.assert_allclose(mean.fit_transform(spaces.X_a), expected / 4, atol=1e-12)
    # the anchor nearest by every metric is the largest in the sum: itself
    total.set_params(post="layer").fit(spaces.X_a)
    own = total.transform(total.anchors_)
    np.testing.assert_array_equal(own.argmax(axis=1), np.arange(20))


def test_the_order_of_metrics_does_not_matter_to_a_sum(spaces):
    """Addition commutes, to rounding."""
    one = InvariantAggregator(20, aggregation="sum", random_state=0)
    other = InvariantAggregator(
        20, metrics=DEFAULT[::-1], aggregation="sum", random_state=0
    )
    np.testing.assert_allclose(
        one.fit_transform(spaces.X_a), other.fit_transform(spaces.X_a), atol=1e-12
    )


def test_weights_scale_each_space(spaces):
    """In concat and sum as they are; in mean divided by their sum."""
    weights = [1.0, 0.0, 2.5, 0.5]
    cosine, *distances = scaled = [
        weight * part
        for weight, part in zip(
            weights, parts(spaces.X_a, post="standardize"), strict=True
        )
    ]
    total = cosine - sum(distances)
    for aggregation, expected in (
        ("concat", np.hstack(scaled)),
        ("sum", total),
        ("mean", total / 4.0),
    ):
        aggregator = InvariantAggregator(
            20, aggregation=aggregation, weights=weights, random_state=0
        )
        output = aggregator.fit_transform(spaces.X_a)
        np.testing.assert_allclose(output, expected, atol=1e-12)


def test_equal_weights_are_no_weights(spaces):
    """The mean with any equal weights is the plain mean."""
    plain = InvariantAggregator(20, aggregation="mean", random_state=0)
    equal = InvariantAggregator(
        20, aggregation="mean", weights=[3, 3, 3, 3], random_state=0
    )
    np.testing.assert_allclose(
        plain.fit_transform(spaces.X_a), equal.fit_transform(spaces.X_a), atol=1e-12
    )


def test_a_callable_gets_the_spaces_in_order_as_they_are(spaces):
    """No sign is changed; its output may have any width; names tell its own."""

    def stacked(relative):
        assert len(relative) == 2
        return np.hstack([relative[1], relative[0][:, :1]])

    aggregator = InvariantAggregator(
        20, metrics=("euclidean", "cosine"), aggregation=stacked, random_state=0
    )
    euclid, cosine = parts(spaces.X_a, ("euclidean", "cosine"), post="standardize")
    output = aggregator.fit_transform(spaces.X_a)
    np.testing.assert_allclose(output, np.hstack([cosine, euclid[:, :1]]), atol=1e-12)
    names = aggregator.get_feature_names_out()
    assert names.tolist() == [f"stacked{i}" for i in range(21)]


def test_names_of_concat_sum_and_a_reduced_post(spaces):
    """Metric and row of the anchor; the aggregation's name where metrics are mixed."""
    X = spaces.X_a
    metrics = ("cosine", "change_of_basis")

    def names(**params):
        aggregator = InvariantAggregator(metrics=metrics, anchors=[7, 3], **params)
        return aggregator.fit(X).get_feature_names_out().tolist()

    assert names() == [
        "cosine_anchor7",
        "cosine_anchor3",
        "change_of_basis_anchor7",
        "change_of_basis_anchor3",
    ]
    assert names(aggregation="sum") == ["sum_anchor7", "sum_anchor3"]
    assert names(post=PCA(1)) == ["cosine_pca0", "change_of_basis_pca0"]
    assert names(post=PCA(1), aggregation="mean") == ["mean_pca0"]
    assert names(aggregation=lambda spaces: spaces[0]) == ["lambda0", "lambda1"]


def test_metric_params_go_by_name(spaces):
    """Each metric gets its own parameters, and the user's dict is not changed."""
    params = {"minkowski": {"p": 3}}
    aggregator = InvariantAggregator(
        20,
        metrics=("cosine", "minkowski"),
        metric_params=params,
        post=None,
        random_state=0,
    )
    output = aggregator.fit_transform(spaces.X_a)
    expected = RelativeProjector(
        20, metric="minkowski", metric_params={"p": 3}, random_state=0
    ).fit_transform(spaces.X_a)
    np.testing.assert_allclose(output[:, 20:], expected, atol=1e-12)
    assert params == {"minkowski": {"p": 3}}


def test_variants_of_one_metric_take_names_of_their_own(spaces):
    """Two orders of Minkowski side by side, by way of Metric."""
    variants = tuple(
        Metric(f"l{p}", lambda X, A, p=p: METRICS["minkowski"].function(X, A, p=p))
        for p in (3, 5)
    )
    aggregator = InvariantAggregator(20, metrics=variants, random_state=0)
    assert aggregator.fit_transform(spaces.X_a).shape == (80, 40)
    assert aggregator.get_feature_names_out()[-1].startswith("l5_anchor")


def test_one_metric_is_its_projector(spaces):
    """A product of one is that one."""
    one = InvariantAggregator(20, metrics=["cosine"], random_state=0)
    expected = parts(spaces.X_a, ["cosine"], post="standardize")[0]
    np.testing.assert_array_equal(one.fit_transform(spaces.X_a), expected)


@pytest.mark.parametrize("aggregation", sorted(AGGREGATIONS))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_n_jobs_never_changes_a_bit(aggregation, dtype, monkeypatch):
    """Over many blocks, in both dtypes."""
    monkeypatch.setattr(_base, "_BLOCK_MIB", 0.1)
    X = np.random.default_rng(0).standard_normal((1501, 16)).astype(dtype)
    aggregator = InvariantAggregator(40, aggregation=aggregation, random_state=0)
    aggregator.fit(X)
    assert aggregator._block_rows(X) < 200
    outputs = [
        aggregator.set_params(n_jobs=n_jobs).transform(X) for n_jobs in (None, 2, -1)
    ]
    assert {output.dtype.name for output in outputs} == {np.dtype(dtype).name}
    assert len({output.tobytes() for output in outputs}) == 1


def test_rebase_keeps_every_metric_in_step(spaces):
    """A signed permutation is declared by all four, so nothing moves."""
    aggregator = InvariantAggregator(20, random_state=0)
    own = aggregator.fit_transform(spaces.X_a)
    rebased = aggregator.rebase(spaces.X_b[aggregator.anchor_indices_])
    assert type(rebased) is InvariantAggregator
    np.testing.assert_allclose(rebased.transform(spaces.X_b), own, atol=1e-10)
    with pytest.raises(ValueError, match=r"20 rows.*got 3 rows"):
        aggregator.rebase(spaces.X_b[:3])


@pytest.mark.filterwarnings("ignore:metric .* is undefined for zero")
def test_sparse_rows_where_all_metrics_take_them():
    """One that does not is named."""
    rng = np.random.default_rng(0)
    X = csr_array(rng.random((60, 30)) * (rng.random((60, 30)) < 0.2))
    metrics = ("cosine", "euclidean", "manhattan")
    aggregator = InvariantAggregator(10, metrics=metrics, random_state=0)
    expected = aggregator.fit_transform(X.toarray())
    np.testing.assert_allclose(aggregator.fit_transform(X), expected, atol=1e-12)
    with pytest.raises(TypeError, match="metric 'chebyshev' does not take sparse"):
        InvariantAggregator(10).fit(X)


def test_metrics_can_be_searched_in_a_pipeline(spaces):
    """The invariances are parameters like any other."""
    model = make_pipeline(
        InvariantAggregator(20, random_state=0), LogisticRegression(max_iter=1000)
    )
    grid = {
        "invariantaggregator__metrics": [("cosine",), ("cosine", "chebyshev")],
        "invariantaggregator__aggregation": ["concat", "sum"],
    }
    search = GridSearchCV(model, grid, cv=2, n_jobs=2).fit(spaces.X_a, spaces.y)
    assert search.best_score_ > 0.8
    assert len(search.cv_results_["params"]) == 4


def test_pickle_and_skops(spaces):
    """Saved and loaded, the same bytes come out."""
    aggregator = InvariantAggregator(20, pre="whiten", random_state=0)
    expected = aggregator.fit_transform(spaces.X_a)
    copy = pickle.loads(pickle.dumps(aggregator))
    np.testing.assert_array_equal(copy.transform(spaces.X_a), expected)
    io = pytest.importorskip("skops.io")
    dumped = io.dumps(aggregator)
    trusted = io.get_untrusted_types(data=dumped)
    assert all(name.startswith("skinvariant.") for name in trusted)
    loaded = io.loads(dumped, trusted=trusted)
    np.testing.assert_array_equal(loaded.transform(spaces.X_a), expected)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"metrics": "cosine"}, TypeError, "metrics must be a sequence.*got 'cosine'"),
        ({"metrics": None}, TypeError, "metrics must be a sequence.*got None"),
        ({"metrics": ()}, ValueError, r"at least one.*got \[\]"),
        ({"metrics": ("cosine", "cosine")}, ValueError, "distinct names"),
        ({"metrics": ("cosine", "cos")}, ValueError, "metric must be one of.*'cos'"),
        ({"metrics": (euclidean, "euclidean")}, ValueError, "distinct names"),
        ({"metric_params": {"p": 3}}, ValueError, "by metric.*got {'p'}"),
        ({"metric_params": {"cosine": 3}}, TypeError, "must be a dict.*got 3"),
        ({"aggregation": "max"}, ValueError, "aggregation must be one of.*got 'max'"),
        ({"aggregation": None}, TypeError, "aggregation must be one of.*got None"),
        ({"aggregation": lambda s: s[0][:3]}, ValueError, r"shape \(20, n_features"),
        ({"aggregation": lambda s: s[0][:, 0]}, ValueError, "of shape"),
        ({"aggregation": lambda s: s}, ValueError, "must return an array"),
        ({"weights": [1, 2]}, ValueError, r"weights must be 4.*got \[1, 2\]"),
        ({"weights": [1, 2, 3, -1]}, ValueError, "weights must be.*got -1"),
        ({"weights": [0, 0, 0, 0]}, ValueError, "not all 0"),
        ({"weights": [1, 1, 1, np.nan]}, ValueError, "weights must be.*got nan"),
        ({"weights": [1, 1, 1, np.inf]}, ValueError, r"in \[0, inf\); got inf"),
        ({"weights": ["a"] * 4}, TypeError, "weights must be.*got 'a'"),
        ({"weights": 3}, ValueError, "weights must be 4"),
    ],
)
def test_nonsense_parameters_are_named(params, error, message, spaces):
    """What the parameter must be, and what was got."""
    with pytest.raises(error, match=message):
        InvariantAggregator(20, **params).fit(spaces.X_a)


def test_sum_refuses_spaces_of_unequal_width(spaces):
    """A post that keeps another number of columns per metric cannot be added."""
    aggregator = InvariantAggregator(
        20,
        metrics=("cosine", "chebyshev"),
        post=PCA(0.99),
        aggregation="sum",
        random_state=0,
    )
    with pytest.raises(ValueError, match="relative spaces of equal width; got"):
        aggregator.fit(spaces.X_a)
