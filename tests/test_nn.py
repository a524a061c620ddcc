"""The torch modules: the same numbers as the arrays' path, and gradients."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from skinvariant import RelativeProjector  # noqa: E402
from skinvariant.metrics import METRICS  # noqa: E402
from skinvariant.nn import (  # noqa: E402
    _METRICS,
    _POST,
    _PRE,
    AGGREGATIONS,
    InvariantNetwork,
    MLPSum,
    ProductLayer,
    RelativeLayer,
    make_head,
)

ALL_PRE = (None, *_PRE)
ALL_POST = (None, *_POST)


def params_of(metric):
    """Parameters that make a metric its own, where it has some."""
    every = {
        "minkowski": {"p": 3},
        "mahalanobis": {"shrinkage": 0.1},
        "change_of_basis": {"alpha": 0.1},
    }
    return every.get(metric, {})


def space(n_samples=80, n_features=7, dtype=np.float32):
    """Rows off the origin, in correlated directions."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((n_features, n_features))
    return (rng.standard_normal((n_samples, n_features)) @ mixing + 2).astype(dtype)


def both(metric, pre, post, X, params=None):
    """The relative space of arrays, and that of tensors."""
    projector = RelativeProjector(
        30, metric=metric, metric_params=params, pre=pre, post=post, random_state=0
    ).fit(X)
    anchors = torch.from_numpy(projector.anchors_)
    layer = RelativeLayer(anchors, metric, metric_params=params, pre=pre, post=post)
    return projector.transform(X), layer(torch.from_numpy(X)).numpy()


def test_every_registered_metric_has_a_layer():
    """Of pre and post too, so that nothing is compared in the loops below by luck."""
    rows = {name for name, metric in METRICS.items() if metric.needs_rows}
    assert set(_METRICS) == set(METRICS) - rows
    assert len(_METRICS) >= 11
    assert set(_PRE) == {"center", "standardize", "whiten"}
    assert set(_POST) == {"l2", "layer", "standardize"}


@pytest.mark.grid
@pytest.mark.parametrize("post", ALL_POST)
@pytest.mark.parametrize("pre", ALL_PRE)
@pytest.mark.parametrize("metric", _METRICS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layers_equal_the_projector(metric, pre, post, dtype):
    """Within 1e-5 in float32, in units of the largest value; float64 far closer."""
    X = space(dtype=dtype)
    for params in ({}, params_of(metric)):
        expected, got = both(metric, pre, post, X, params)
        assert got.dtype == expected.dtype == dtype
        bound = 1e-5 if dtype == "float32" else 1e-12
        scale = max(1, abs(expected).max())
        np.testing.assert_allclose(got, expected, rtol=0, atol=bound * scale)


@pytest.mark.parametrize("metric", _METRICS)
def test_layers_equal_the_projector_far_from_the_origin_and_on_anchors(metric):
    """Where digits cancel, and at distance 0: every row is an anchor."""
    X = space(30) + np.float32(1000)
    expected, got = both(metric, None, None, X)
    scale = max(1, abs(expected).max())
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * scale)
    if METRICS[metric].homogeneous and not METRICS[metric].larger_is_closer:
        assert got.min() == 0


@pytest.mark.parametrize("metric", ["cosine", "correlation", "angular"])
@pytest.mark.filterwarnings("ignore:.* is undefined for")
def test_rows_without_a_direction(metric):
    """Zero and constant rows get what the projector gives them."""
    X = space(30)
    X[5], X[6], X[7] = 0, 3, 1e-30
    expected, got = both(metric, None, None, X)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


@pytest.mark.grid
@pytest.mark.parametrize("post", ALL_POST)
@pytest.mark.parametrize("pre", ALL_PRE)
@pytest.mark.parametrize("metric", _METRICS)
def test_gradients(metric, pre, post):
    """By finite differences in float64, through rows and through anchors."""
    X = torch.tensor(space(4, 3, np.float64), requires_grad=True)
    anchors = torch.tensor(space(9, 3, np.float64)[4:], requires_grad=True)
    layer = RelativeLayer(
        anchors, metric, metric_params=params_of(metric), pre=pre, post=post
    )
    assert torch.autograd.gradcheck(layer, (X, anchors))
    assert not list(layer.parameters())


def test_gradients_at_distance_zero_are_finite():
    """A row that is an anchor has a subgradient, not a NaN."""
    for metric in _METRICS:
        X = torch.tensor(space(6, 3), requires_grad=True)
        layer = RelativeLayer(X, metric, metric_params=params_of(metric))
        layer(X).sum().backward()
        assert bool(torch.isfinite(X.grad).all())


@pytest.mark.parametrize("pre", ALL_PRE)
@pytest.mark.parametrize("metric", _METRICS)
def test_rebase_replaces_buffers(metric, pre):
    """Another width; the same as a layer made of the new anchors; all in buffers."""
    old, new = torch.tensor(space(12, 5)), torch.tensor(space(12, 3))
    kwargs = {"pre": pre, "post": "standardize", "metric_params": params_of(metric)}
    layer = RelativeLayer(old, metric, **kwargs)
    assert layer.rebase(new) is layer
    fresh = RelativeLayer(new, metric, **kwargs)
    assert torch.equal(layer(new), fresh(new))
    assert set(layer.state_dict()) == set(fresh.state_dict())
    with pytest.raises(ValueError, match="12 rows, in the same order; got 7 rows"):
        layer.rebase(new[:7])


def test_state_dict_takes_a_layer_along():
    """All that a layer knows of its anchors is in its state."""
    layer = RelativeLayer(torch.tensor(space(12)), pre="whiten", post="standardize")
    other = RelativeLayer(torch.tensor(space(12)) + 1, pre="whiten", post="standardize")
    other.load_state_dict(layer.state_dict())
    X = torch.tensor(space())
    assert torch.equal(layer(X), other(X))


def test_a_layer_is_not_tied_to_the_anchors_it_was_given():
    """A later change of the tensor changes nothing."""
    anchors, X = torch.tensor(space(12)), torch.tensor(space())
    layer = RelativeLayer(anchors)
    before = layer(X)
    anchors += 1
    assert torch.equal(layer(X), before)


@pytest.mark.grid
@pytest.mark.parametrize("pre", ALL_PRE)
@pytest.mark.parametrize("post", ALL_POST)
@pytest.mark.parametrize("metric", _METRICS)
def test_every_tensor_is_made_where_the_anchors_are(metric, pre, post):
    """A tensor made on the CPU by mistake would not go with those on "meta"."""
    anchors, X = torch.empty(12, 5, device="meta"), torch.empty(8, 5, device="meta")
    layer = RelativeLayer(
        anchors, metric, metric_params=params_of(metric), pre=pre, post=post
    )
    assert layer(X).device.type == "meta"
    assert layer(X).shape == (8, 12)
    assert {buffer.device.type for buffer in layer.buffers()} == {"meta"}


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_aggregations_on_another_device(name):
    """In training too, where numbers are drawn."""
    with torch.device("meta"):
        aggregation = AGGREGATIONS[name](4, 6, space_dropout=0.5)
    network = InvariantNetwork(aggregation, make_head(24 if name == "concat" else 6, 3))
    network = network.to_empty(device="meta")
    spaces = torch.empty(5, 4, 6, device="meta")
    assert network.train()(spaces).device.type == "meta"
    if hasattr(aggregation, "space_weights"):
        assert aggregation.space_weights(spaces).device.type == "meta"


@pytest.mark.parametrize("metric", ["cosine", "mahalanobis"])
def test_a_layer_follows_its_dtype(metric):
    """A layer follows `.to`, whatever the dtype of its rows."""
    layer = RelativeLayer(torch.tensor(space(12)), metric, pre="center").double()
    X = torch.tensor(space(dtype=np.float64))
    assert layer(X).dtype == torch.float64
    assert torch.isfinite(layer(X)).all()


def test_modules_as_pre_and_post():
    """Of the user's own; trained along with the rest."""
    torch.manual_seed(0)
    layer = RelativeLayer(
        torch.tensor(space(12, 5)),
        pre=torch.nn.Linear(5, 3),
        post=torch.nn.Linear(12, 2),
    )
    values = layer(torch.tensor(space(8, 5)))
    assert values.shape == (8, 2)
    assert len(list(layer.parameters())) == 4


def test_product_layer_stacks_and_aggregates():
    """The spaces in order, distances negated; all are rebased at once."""
    X, anchors = torch.tensor(space()), torch.tensor(space(12))
    layers = [RelativeLayer(anchors, name, post="layer") for name in _METRICS]
    product = ProductLayer(layers)
    assert product(X).shape == (80, 11, 12)
    for place, layer in enumerate(layers):
        sign = 1 if METRICS[layer.metric].larger_is_closer else -1
        assert torch.equal(product(X)[:, place], sign * layer(X))
    total = ProductLayer(layers, AGGREGATIONS["mean"](11, 12))
    np.testing.assert_allclose(
        total(X).numpy(), product(X).mean(1).numpy(), atol=1e-5, rtol=0
    )
    narrow = torch.tensor(space(12, 3))
    assert total.rebase(narrow) is total
    assert total(narrow).shape == (12, 12)


def oracle(name, spaces, aggregation):
    """The formulas of the docstrings, in NumPy."""
    spaces = spaces.numpy().astype(np.float64)
    gaps = spaces - spaces.mean(axis=2, keepdims=True)
    normal = gaps / np.sqrt((gaps**2).mean(axis=2, keepdims=True))
    weights = {
        key: value.detach().numpy().astype(np.float64)
        for key, value in aggregation.state_dict().items()
    }
    if name == "concat":
        return np.concatenate(list(normal.transpose(1, 0, 2)), axis=1)
    if name == "mean":
        return normal.mean(axis=1)
    if name == "weighted":
        share = np.exp(weights["logits"]) / np.exp(weights["logits"]).sum()
        return np.einsum("i,nik->nk", share, normal)
    if name == "mlp_sum":
        mapped = np.einsum("nik,ikl->nil", normal, weights["weight"])
        return np.tanh(mapped + weights["bias"][:, 0]).mean(axis=1)
    query, key, value = (
        normal @ weights[f"{part}.weight"].T + weights[f"{part}.bias"]
        for part in ("query", "key", "value")
    )
    scores = np.exp(query @ key.transpose(0, 2, 1) / math.sqrt(spaces.shape[2]))
    return ((scores / scores.sum(axis=2, keepdims=True)) @ value).sum(axis=1)


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_aggregations_are_their_formulas(name):
    """Against NumPy, with weights that are not those of the start."""
    torch.manual_seed(0)
    aggregation = AGGREGATIONS[name](4, 9).eval()
    with torch.no_grad():
        for weight in aggregation.parameters():
            weight.normal_()
    spaces = 5 + 3 * torch.randn(20, 4, 9)
    got = aggregation(spaces).detach().numpy()
    np.testing.assert_allclose(got, oracle(name, spaces, aggregation), atol=1e-4)
    assert got.shape == (20, aggregation.n_features_out)


@pytest.mark.parametrize("name", AGGREGATIONS)
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**16), order=st.permutations(range(4)))
def test_the_order_of_the_metrics_does_not_matter(name, seed, order):
    """Nowhere, once what belongs to a space moves with it; "concat" permutes blocks."""
    generator = torch.Generator().manual_seed(seed)
    aggregation = AGGREGATIONS[name](4, 6).double().eval()
    shuffled = AGGREGATIONS[name](4, 6).double().eval()
    aggregation.factors.uniform_(generator=generator)
    state = aggregation.state_dict()
    own = state if name in ("mlp_sum", "weighted") else ("factors",)
    state = {key: v[list(order)] if key in own else v for key, v in state.items()}
    shuffled.load_state_dict(state)
    spaces = torch.randn(5, 4, 6, generator=generator, dtype=torch.float64)
    expected, got = aggregation(spaces), shuffled(spaces[:, list(order)])
    if name == "concat":
        expected = expected.reshape(5, 4, 6)[:, list(order)].flatten(1)
    assert torch.allclose(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_the_scale_of_a_space_does_not_matter(name):
    """Each space is normalised, however small or large."""
    aggregation = AGGREGATIONS[name](3, 6).eval()
    spaces = torch.randn(5, 3, 6)
    scales = torch.tensor([1e-12, 1.0, 1e12])[:, None]
    assert torch.allclose(aggregation(spaces), aggregation(scales * spaces), atol=1e-4)
    nothing = aggregation(torch.ones(5, 3, 6))
    assert bool(torch.isfinite(nothing).all())


def test_space_weights_are_the_attention_and_the_softmax():
    """Sums of 1; what the formula says."""
    weighted = AGGREGATIONS["weighted"](3, 6)
    with torch.no_grad():
        weighted.logits.copy_(torch.tensor([0.0, math.log(2), math.log(5)]))
    weights = weighted.space_weights(torch.randn(4, 3, 6))
    assert torch.allclose(weights, torch.tensor([1, 2, 5]) / 8)
    attention = AGGREGATIONS["attention"](3, 6)
    weights = attention.space_weights(torch.randn(4, 3, 6))
    assert weights.shape == (4, 3)
    assert torch.allclose(weights.sum(dim=1), torch.ones(4))
    assert not weights.requires_grad


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_dropout_of_spaces_leaves_at_least_one(name):
    """In training only; what stays counts for what is gone."""
    torch.manual_seed(0)
    aggregation = AGGREGATIONS["mean"](4, 6, space_dropout=0.9)
    same = torch.randn(1, 1, 6).expand(500, 4, 6)
    expected = aggregation.eval()(same)
    assert torch.allclose(aggregation.train()(same), expected, atol=1e-5)
    aggregation = AGGREGATIONS[name](4, 6, space_dropout=0.5)
    spaces = torch.randn(50, 4, 6)
    noisy = aggregation.train()(spaces)
    assert not torch.equal(noisy, aggregation(spaces))
    assert torch.equal(aggregation.eval()(spaces), aggregation(spaces))


def test_dropout_of_spaces_has_its_probability():
    """Of three spaces, each stays in about half of the rows, and never none."""
    torch.manual_seed(0)
    aggregation = AGGREGATIONS["concat"](3, 2, space_dropout=0.5).train()
    spaces = torch.tensor([0.0, 1.0]).expand(20_000, 3, 2)
    kept = aggregation(spaces).reshape(20_000, 3, 2)[:, :, 1] > 0
    assert kept.sum(dim=1).min() == 1
    # one of the 8 draws is of no space, and is given one of the three
    assert abs(float(kept.float().mean()) - (1 / 2 + 1 / 24)) < 0.01


def test_noise_is_the_same_in_every_space_of_a_row():
    """Of the standard deviation asked for, in training only."""
    torch.manual_seed(0)
    aggregation = AGGREGATIONS["concat"](3, 50, noise=0.5)
    spaces = torch.randn(400, 3, 50)
    noise = aggregation.train()(spaces) - aggregation.eval()(spaces)
    noise = noise.reshape(400, 3, 50)
    assert torch.allclose(noise, noise[:, :1].expand(400, 3, 50), atol=1e-5)
    assert float(noise[:, 0].std()) == pytest.approx(0.5, rel=0.02)
    assert abs(float(noise.mean())) < 0.02


def test_factors_multiply_what_is_mapped_of_a_space():
    """A factor of 0 leaves a space out, which then counts as 0 in the mean."""
    aggregation = AGGREGATIONS["mean"](3, 6)
    spaces = torch.randn(5, 3, 6)
    aggregation.factors.copy_(torch.tensor([1.0, 0.0, 2.0]))
    single = [AGGREGATIONS["mean"](1, 6)(spaces[:, [place]]) for place in range(3)]
    expected = (single[0] + 2 * single[2]) / 3
    assert torch.allclose(aggregation(spaces), expected, atol=1e-6)


def test_head_and_network():
    """Hidden layers, dropout where asked for, and a module of one's own."""
    head = make_head(6, 2, (5, 4), dropout=0.5)
    kinds = [type(layer).__name__ for layer in head]
    assert kinds == ["Dropout", "Linear", "ReLU"] * 2 + ["Dropout", "Linear"]
    network = InvariantNetwork(MLPSum(4, 6), make_head(6, 2))
    assert network(torch.randn(3, 4, 6)).shape == (3, 2)


def test_an_encoder_is_trained_through_its_relative_space():
    """End to end: the loss falls, and the anchors of the layer stay."""
    torch.manual_seed(0)
    rows = torch.randn(64, 10)
    labels = (rows[:, 0] * rows[:, 1] > 0).long()
    encoder = torch.nn.Sequential(torch.nn.Linear(10, 16), torch.nn.Tanh())
    layers = [RelativeLayer(encoder(rows[:12]), m) for m in ("cosine", "manhattan")]
    product = ProductLayer(layers, MLPSum(2, 12))
    head = make_head(12, 2)
    before = layers[0].anchors.clone()
    parts = (encoder, product, head)
    weights = itertools.chain(*(part.parameters() for part in parts))
    optimizer = torch.optim.Adam(weights, lr=1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        outputs = head(product(encoder(rows), anchors=encoder(rows[:12])))
        loss = torch.nn.functional.cross_entropy(outputs, labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 < losses[0]
    assert torch.equal(layers[0].anchors, before)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: RelativeLayer([[1.0]]), TypeError, "tensor of floats; got list"),
        (lambda: RelativeLayer(torch.ones(2, 2).int()), TypeError, "torch.int32"),
        (lambda: RelativeLayer(torch.ones(2)), ValueError, "n_anchors, n_features"),
        (lambda: RelativeLayer(torch.ones(0, 2)), ValueError, "not empty"),
        (lambda: RelativeLayer(torch.ones(2, 2), "l2"), ValueError, "metric must be"),
        (
            lambda: RelativeLayer(torch.ones(2, 2), metric_params={"p": 3}),
            TypeError,
            "'cosine' does not take",
        ),
        (lambda: RelativeLayer(torch.ones(2, 2), pre="x"), ValueError, "pre must be"),
        (lambda: RelativeLayer(torch.ones(2, 2), post=1), TypeError, "post must be"),
        (
            lambda: RelativeLayer(torch.ones(2, 2))(torch.ones(2, 3)),
            ValueError,
            r"\(n_samples, 2\), as the anchors; got \(2, 3\)",
        ),
        (lambda: ProductLayer([]), ValueError, "at least one"),
        (lambda: MLPSum(0, 2), ValueError, "n_spaces must be"),
        (lambda: MLPSum(2, 2, space_dropout=2), ValueError, "space_dropout must be"),
        (
            lambda: MLPSum(2, 3)(torch.ones(4, 2)),
            ValueError,
            r"\(n_samples, 2, 3\); got \(4, 2\)",
        ),
    ],
)
def test_errors_say_what_it_must_be_and_what_was_got(make, error, message):
    """Each mistake, by name."""
    with pytest.raises(error, match=message):
        make()
