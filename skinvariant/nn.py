"""The mathematics of the package as torch modules: relative layers and aggregations.

All modules are differentiable, so that encoders can be trained through them, and hold
their anchors as buffers, so that a whole model can be saved, moved and exported.  They
need ``pip install 'skinvariant[torch]'`` and do not call scikit-learn.
"""

import inspect
import math
from numbers import Integral, Real

from skinvariant._validation import check_choice, check_number
from skinvariant.metrics import METRICS
from skinvariant.metrics._rows import ROUNDINGS

try:
    import torch
    from torch.nn import Dropout, Linear, Module, Parameter, ReLU, Sequential
except ImportError as error:
    raise ImportError(
        "skinvariant.nn and skinvariant.heads need torch and skorch: "
        "pip install 'skinvariant[torch]'"
    ) from error

__all__ = [
    "AGGREGATIONS",
    "AttentionSum",
    "Concat",
    "InvariantNetwork",
    "MLPSum",
    "Mean",
    "ProductLayer",
    "RelativeLayer",
    "WeightedSum",
    "make_head",
]


# --- rows, their directions and their statistics --------------------------------


def _wide(X):
    """Return `X` in float64, if its device supports that."""
    return X if X.device.type == "mps" else X.to(torch.float64)


def _or_one(column):
    """Replace zeros of a divisor by ones."""
    return torch.where(column > 0, column, torch.ones_like(column))


def _power_of_two(peaks):
    """Return the power of two next to each number from below, a unit; 1 for a 0."""
    ones = torch.ones_like(peaks)
    return torch.where(peaks > 0, torch.ldexp(ones, torch.frexp(peaks)[1] - 1), ones)


def _directions(X):
    """Scale rows of any scale to norm 1; zero rows stay zero."""
    X = X / _or_one(X.detach().abs().amax(dim=-1, keepdim=True))
    return X / _or_one((X * X).sum(dim=-1, keepdim=True)).sqrt()


def _centred(X):
    """Centre rows, up to scale; rows that are constant within rounding become zero."""
    X = X / _or_one(X.detach().abs().amax(dim=-1, keepdim=True))
    gaps = X - X.mean(dim=-1, keepdim=True)
    bound = ROUNDINGS * torch.finfo(X.dtype).eps
    constant = gaps.detach().abs().amax(dim=-1, keepdim=True) <= bound
    return torch.where(constant, torch.zeros_like(gaps), gaps)


def _layer_normalize(X):
    return _directions(_centred(X)) * math.sqrt(X.shape[-1])


def _column_statistics(X, *, with_std=True):
    """Return mean and deviation of columns, as scikit-learn's StandardScaler."""
    X = _wide(X)
    mean = X.mean(dim=0)
    if not with_std:
        return mean, torch.ones_like(mean)
    unit = _power_of_two(X.detach().abs().amax(dim=0))
    variance = (((X - mean) / unit) ** 2).mean(dim=0)
    rounding = len(X) * torch.finfo(X.dtype).eps
    varies = variance > rounding * variance + (rounding * mean / unit) ** 2
    deviation = torch.where(varies, variance, torch.ones_like(variance)).sqrt()
    return mean, torch.where(varies, deviation * unit, deviation)


def _whitening(anchors, shrinkage=0.0):
    """Return the mean of the anchors, and the symmetric matrix that whitens them."""
    check_number("metric_params shrinkage of mahalanobis", shrinkage, Real, 0, 1)
    n_anchors, n_features = anchors.shape
    wide = _wide(anchors)
    mean = wide.mean(dim=0)
    unit = _power_of_two((wide - mean).detach().abs().amax())
    _, values, axes = torch.linalg.svd((wide - mean) / unit, full_matrices=False)
    kept = values > values[0] * max(anchors.shape) * torch.finfo(anchors.dtype).eps
    nothing = torch.zeros_like(values)
    variances = torch.where(kept, values**2 / (n_anchors - 1), nothing)
    common = shrinkage * variances.sum() / n_features
    outside = 1 / common.sqrt() if shrinkage > 0 else torch.zeros_like(common)
    spread = (1 - shrinkage) * variances + common
    inverse = 1 / torch.where(kept, spread, torch.ones_like(spread)).sqrt()
    matrix = (axes.T * torch.where(kept, inverse - outside, nothing)) @ axes
    identity = torch.eye(n_features, dtype=matrix.dtype, device=matrix.device)
    return mean, (matrix + outside * identity) / unit


def _map(X, mean, matrix):
    """Shift rows and multiply them by a matrix, or by one number for each column."""
    wide = _wide(X)
    gaps, matrix = wide - mean.to(wide), matrix.to(wide)
    return (gaps / matrix if matrix.ndim == 1 else gaps @ matrix).to(X.dtype)


# --- the metrics ----------------------------------------------------------------


def _distances(X, anchors, p=2.0):
    """Compute Lp distances from the differences themselves: no digits cancel."""
    check_number("metric_params p of minkowski", p, Real, 1, math.inf)
    if torch.onnx.is_in_onnx_export():  # ONNX has no cdist
        return torch.linalg.vector_norm(X[:, None] - anchors, float(p), dim=2)
    exactly = "donot_use_mm_for_euclid_dist"
    unit = _power_of_two(anchors.detach().abs().amax())
    X, anchors = X / unit, anchors / unit  # whose powers are within the dtype's range
    return unit * torch.cdist(X, anchors, p=float(p), compute_mode=exactly)


def _cosine(X, anchors):
    return _directions(X) @ _directions(anchors).T


def _angular(X, anchors):
    """Compute twice the arc tangent of two chords (Kahan): small angles keep digits."""
    X, anchors = _wide(X), _wide(anchors)
    unit, ends = _directions(X), _directions(anchors)
    chords = _distances(unit, ends), _distances(unit, -ends)
    if torch.onnx.is_in_onnx_export():  # ONNX runtime has no arc tangent in float64
        chords = [chord.to(torch.float32) for chord in chords]
    angles = torch.atan2(*chords)
    known = (unit != 0).any(dim=1)[:, None] & (ends != 0).any(dim=1)
    return torch.where(known, angles * (2 / math.pi), torch.full_like(angles, 0.5))


def _correlation(X, anchors):
    return _cosine(_centred(_wide(X)), _centred(_wide(anchors)))


def _inner(X, anchors):
    return X @ anchors.T


def _sqeuclidean(X, anchors):
    return _distances(X, anchors) ** 2


def _mahalanobis(X, anchors, mean, matrix):
    return _distances(_map(X, mean, matrix), _map(anchors, mean, matrix))


def _frame(anchors, alpha=0.0):
    """Compute the dual of the anchors: ridge-regularised least squares."""
    check_number("metric_params alpha of change_of_basis", alpha, Real, 0)
    wide, (n_anchors, n_features) = _wide(anchors), anchors.shape
    if alpha == 0:
        rounding = max(anchors.shape) * torch.finfo(anchors.dtype).eps
        return (torch.linalg.pinv(wide, rtol=rounding).T,)
    unit = _power_of_two(wide.detach().abs().amax())
    wide = wide / unit
    ridge = alpha * (wide**2).sum() / n_anchors
    identity = torch.eye(n_features, dtype=wide.dtype, device=wide.device)
    dual = torch.linalg.solve(wide.T @ wide + ridge * identity, wide, left=False)
    return (dual / unit,)


def _change_of_basis(X, anchors, dual):
    return _wide(X) @ dual.to(_wide(X)).T


def _lp(p):
    return lambda X, anchors: _distances(X, anchors, p)


# by name: how rows are compared, and what is computed from the anchors beforehand
_METRICS = {
    "angular": (_angular, None),
    "change_of_basis": (_change_of_basis, _frame),
    "chebyshev": (_lp(math.inf), None),
    "correlation": (_correlation, None),
    "cosine": (_cosine, None),
    "euclidean": (_lp(2), None),
    "inner": (_inner, None),
    "mahalanobis": (_mahalanobis, _whitening),
    "manhattan": (_lp(1), None),
    "minkowski": (_distances, None),
    "sqeuclidean": (_sqeuclidean, None),
}


# --- layers ----------------------------------------------------------------------

_PRE = {
    "center": lambda anchors: _column_statistics(anchors, with_std=False),
    "standardize": _column_statistics,
    "whiten": _whitening,
}
_POST = {"l2": _directions, "layer": _layer_normalize, "standardize": None}


def _check_anchors(anchors):
    if not isinstance(anchors, torch.Tensor) or not anchors.is_floating_point():
        got = getattr(anchors, "dtype", type(anchors).__name__)
        raise TypeError(f"anchors must be a tensor of floats; got {got}")
    if anchors.ndim != 2 or 0 in anchors.shape:
        raise ValueError(
            "anchors must be of shape (n_anchors, n_features), not empty; got "
            f"{tuple(anchors.shape)}"
        )


def _check_option(name, option, choices):
    """Return `pre` or `post` if it is None, a name or a module."""
    if option is not None and not isinstance(option, Module):
        check_choice(name, option, choices, or_else="a torch module, or None")
    return option


class RelativeLayer(Module):
    """Compare rows with anchors under one metric, differentiably.

    The values are those of `skinvariant.RelativeProjector`, for tensors on any device.
    The anchors are a buffer: they are saved with the module and move with it, but no
    optimiser changes them.

    Parameters
    ----------
    anchors : Tensor of shape (n_anchors, n_features)
        The anchors, floats.
    metric : str, default="cosine"
        A name of `skinvariant.metrics.METRICS`.
    metric_params : dict, default=None
        Further parameters of the metric, such as ``{"p": 3}`` for "minkowski".
    pre : {"center", "standardize", "whiten"}, Module or None, default=None
        Applied to rows and anchors before the metric; a step given by name is fitted
        on the anchors, a module is only applied.
    post : {"layer", "l2", "standardize"}, Module or None, default=None
        Applied to the relative vectors; "standardize" is fitted on the anchors' own
        relative vectors.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as documented.

    See Also
    --------
    skinvariant.RelativeProjector : The same for arrays, faster and without gradients.

    Notes
    -----
    At points without a derivative, which are distance 0 and the axes of L1 and
    L-infinity, the gradient is a subgradient.  Whitening and the two metrics that
    decompose the anchors compute in float64, except on "mps" devices, which lack it.

    References
    ----------
    .. [1] L. Moschella et al., "Relative representations enable zero-shot latent
       space communication", ICLR 2023, arXiv 2209.15430.

    Examples
    --------
    >>> import torch
    >>> from skinvariant.nn import RelativeLayer
    >>> anchors = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> layer = RelativeLayer(anchors, "euclidean")
    >>> X = torch.tensor([[1.0, 2.0]], requires_grad=True)
    >>> values = layer(X)
    >>> values.tolist()
    [[2.0, 1.0]]
    >>> values.sum().backward()
    >>> X.grad.tolist()
    [[1.0, 1.0]]

    Another encoder's anchors, of another width:

    >>> layer.rebase(torch.eye(3)[:2])(torch.zeros(1, 3)).tolist()
    [[1.0, 1.0]]
    """

    def __init__(
        self, anchors, metric="cosine", *, metric_params=None, pre=None, post=None
    ):
        super().__init__()
        compare, prepare = check_choice("metric", metric, _METRICS)
        params = dict(metric_params or {})
        taking, given = (prepare, 1) if prepare else (compare, 2)
        try:
            inspect.signature(taking).bind(*[None] * given, **params)
        except TypeError as error:
            raise TypeError(
                f"metric {metric!r} does not take metric_params={params}: {error}"
            ) from error
        self.metric = metric
        self.larger_is_closer = METRICS[metric].larger_is_closer
        self.metric_params = params
        self.pre = _check_option("pre", pre, _PRE)
        self.post = _check_option("post", post, _POST)
        self.rebase(anchors)

    def rebase(self, anchors):
        """Replace the anchors, and everything that is computed from them.

        Parameters
        ----------
        anchors : Tensor of shape (n_anchors, n_features_new)
            The same samples, in the same order, in another space.  Any width.

        Returns
        -------
        RelativeLayer
            This layer itself.

        Raises
        ------
        ValueError
            If the number of anchors differs.
        """
        _check_anchors(anchors)
        before = self._buffers.get("anchors")
        if before is not None and len(before) != len(anchors):
            raise ValueError(
                f"RelativeLayer.rebase needs the same anchors in the new space: "
                f"{len(before)} rows, in the same order; got {len(anchors)} rows"
            )
        with torch.no_grad():
            state = self._prepare(anchors.detach().clone())
        for name, value in state.items():
            self.register_buffer(name, value)
        return self

    def forward(self, X, anchors=None):
        """Compare rows with the anchors.

        Parameters
        ----------
        X : Tensor of shape (n_samples, n_features)
            Rows, on the device of the layer.
        anchors : Tensor of shape (n_anchors, n_features), default=None
            Anchors for this call alone, such as those encoded by an encoder in
            training; gradients flow through them too.  None: those of the layer.

        Returns
        -------
        Tensor of shape (n_samples, n_anchors)
            The relative space, in the dtype of `X`.

        Raises
        ------
        ValueError
            If `X` does not have the width of the anchors.
        """
        if anchors is None:
            state = dict(self.named_buffers(recurse=False))
        else:
            _check_anchors(anchors)
            state = self._prepare(anchors)
        width = state["anchors"].shape[1]
        if X.ndim != 2 or X.shape[1] != width:
            raise ValueError(
                f"X must be of shape (n_samples, {width}), as the anchors; got "
                f"{tuple(X.shape)}"
            )
        values = self._compare(self._before(X, state), state)
        if self.post == "standardize":
            return _map(values, state["post_mean"], state["post_scale"])
        if isinstance(self.post, str):
            return _POST[self.post](values)
        return values if self.post is None else self.post(values)

    def extra_repr(self):
        """Return the settings of the layer, for ``repr``.

        Returns
        -------
        str
            The metric, the shape of the anchors, `pre` and `post`.
        """
        n_anchors, n_features = self.anchors.shape
        return (
            f"{self.metric!r}, n_anchors={n_anchors}, n_features={n_features}, "
            f"pre={self.pre!r}, post={self.post!r}"
        )

    def _prepare(self, anchors):
        """Return all tensors that depend on the anchors, by name."""
        state = {"anchors": anchors}
        if isinstance(self.pre, str):
            state["pre_mean"], state["pre_scale"] = _PRE[self.pre](anchors)
        mapped = self._before(anchors, state)
        _, prepare = _METRICS[self.metric]
        prepared = prepare(mapped, **self.metric_params) if prepare else ()
        state |= {f"prepared{i}": value for i, value in enumerate(prepared)}
        if self.post == "standardize":
            statistics = _column_statistics(self._compare(mapped, state))
            state["post_mean"], state["post_scale"] = statistics
        return state

    def _before(self, X, state):
        if isinstance(self.pre, str):
            return _map(X, state["pre_mean"], state["pre_scale"])
        return X if self.pre is None else self.pre(X)

    def _compare(self, X, state):
        compare, prepare = _METRICS[self.metric]
        anchors = self._before(state["anchors"], state)
        if prepare is None:
            values = compare(X, anchors, **self.metric_params)
        else:
            names = sorted(name for name in state if name.startswith("prepared"))
            values = compare(X, anchors, *(state[name] for name in names))
        return values.to(X.dtype)


class ProductLayer(Module):
    """Compute several relative spaces of the same rows, and aggregate them.

    Distances are negated, so that larger means closer in all spaces and distances do
    not cancel similarities.

    Parameters
    ----------
    layers : sequence of RelativeLayer
        One for each metric, with equally many anchors.
    aggregation : Module, default=None
        One of `AGGREGATIONS`, or any module that takes a tensor of shape (n_samples,
        n_spaces, n_anchors).  None: the output is that tensor.

    Raises
    ------
    ValueError
        If there is no layer, or the numbers of anchors differ.

    References
    ----------
    .. [1] I. Cannistraci et al., "From Bricks to Bridges: Product of Invariances to
       Enhance Latent Space Communication", ICLR 2024, arXiv 2310.01211.

    Examples
    --------
    To train an encoder through its own relative space, encode the anchors again at
    every step; gradients flow through rows and anchors:

    >>> import torch
    >>> from skinvariant.nn import MLPSum, ProductLayer, RelativeLayer
    >>> _ = torch.manual_seed(0)
    >>> images, encoder = torch.randn(8, 6), torch.nn.Linear(6, 4)
    >>> anchors = encoder(images[:3])
    >>> layers = [RelativeLayer(anchors, name) for name in ("cosine", "euclidean")]
    >>> product = ProductLayer(layers, MLPSum(n_spaces=2, n_anchors=3))
    >>> output = product(encoder(images), anchors=anchors)
    >>> tuple(output.shape)
    (8, 3)
    >>> output.sum().backward()
    >>> tuple(encoder.weight.grad.shape)
    (4, 6)
    """

    def __init__(self, layers, aggregation=None):
        super().__init__()
        self.layers = torch.nn.ModuleList(layers)
        self.aggregation = aggregation
        counts = {len(layer.anchors) for layer in self.layers}
        if len(counts) != 1:
            raise ValueError(
                "layers must be at least one, with equally many anchors; got "
                f"{sorted(counts)}"
            )

    def rebase(self, anchors):
        """Replace the anchors of every layer.

        Parameters
        ----------
        anchors : Tensor of shape (n_anchors, n_features_new)
            The same samples, in the same order, in another space.  Any width.

        Returns
        -------
        ProductLayer
            This layer itself.

        Raises
        ------
        ValueError
            If the number of anchors differs.
        """
        for layer in self.layers:
            layer.rebase(anchors)
        return self

    def forward(self, X, anchors=None):
        """Compare rows with the anchors under every metric, and aggregate.

        Parameters
        ----------
        X : Tensor of shape (n_samples, n_features)
            Rows.
        anchors : Tensor of shape (n_anchors, n_features), default=None
            As in `RelativeLayer`.

        Returns
        -------
        Tensor of shape (n_samples, n_features_out)
            The output of the aggregation.
        """
        signs = (1 if layer.larger_is_closer else -1 for layer in self.layers)
        values = (layer(X, anchors) for layer in self.layers)
        closer = [sign * value for sign, value in zip(signs, values, strict=True)]
        spaces = torch.stack(closer, dim=1)
        return spaces if self.aggregation is None else self.aggregation(spaces)


# --- aggregations ----------------------------------------------------------------


class _Aggregation(Module):
    """Normalise spaces, map each on its own, and sum them.

    Each mapped space is multiplied by its number in the buffer `factors`.  These are 1
    until `skinvariant.heads` weights the spaces for another encoder.

    Parameters
    ----------
    n_spaces : int
        Number of relative spaces.
    n_anchors : int
        Width of each.
    space_dropout : float in [0, 1), default=0.0
        Probability with which a whole space is left out of a row, in training.  At
        least one is kept, and the kept ones are scaled up accordingly.
    noise : float >= 0, default=0.0
        Standard deviation of the Gaussian noise that is added to the normalised
        spaces, in training.  All spaces of a row get the same noise, so larger should
        mean closer in all of them.
    dtype : torch.dtype, default=None
        Of the weights.  None: torch's default.
    """

    def __init__(
        self, n_spaces, n_anchors, *, space_dropout=0.0, noise=0.0, dtype=None
    ):
        super().__init__()
        self.n_spaces = check_number("n_spaces", n_spaces, Integral, 1)
        self.n_anchors = check_number("n_anchors", n_anchors, Integral, 1)
        self.space_dropout = check_number("space_dropout", space_dropout, Real, 0, 1)
        self.noise = check_number("noise", noise, Real, 0)
        self.n_features_out = n_anchors
        self.register_buffer("factors", torch.ones(n_spaces, dtype=dtype))

    def forward(self, spaces):
        """Aggregate several relative spaces.

        Parameters
        ----------
        spaces : Tensor of shape (n_samples, n_spaces, n_anchors)
            The relative spaces.

        Returns
        -------
        Tensor of shape (n_samples, n_features_out)
            The aggregated space.

        Raises
        ------
        ValueError
            If `spaces` is of another shape.
        """
        if spaces.ndim != 3 or spaces.shape[1:] != (self.n_spaces, self.n_anchors):
            raise ValueError(
                f"spaces must be of shape (n_samples, {self.n_spaces}, "
                f"{self.n_anchors}); got {tuple(spaces.shape)}"
            )
        spaces = _layer_norm(spaces)
        if self.training and self.noise:
            # the same in every space, since a row that moves does so in each metric
            spaces = spaces + self.noise * torch.randn_like(spaces[:, :1])
        mapped = self._map(spaces) * self.factors[:, None]
        if self.training and self.space_dropout and self.n_spaces > 1:
            mapped = mapped * self._kept(spaces)
        return self._reduce(mapped)

    def _map(self, spaces):
        return spaces

    def _reduce(self, spaces):
        return spaces.sum(dim=1)

    def _kept(self, spaces):
        """Draw the spaces that are kept in each row, and their factor."""
        draws = torch.rand(spaces.shape[:2], dtype=spaces.dtype, device=spaces.device)
        kept = (draws >= self.space_dropout) | (draws == draws.amax(1, keepdim=True))
        kept = kept.to(spaces.dtype)  # a quotient of integers has the default dtype
        return (kept * self.n_spaces / kept.sum(dim=1, keepdim=True))[:, :, None]

    def extra_repr(self):
        """Return the settings of the module, for ``repr``.

        Returns
        -------
        str
            Its sizes, dropout and noise.
        """
        return (
            f"n_spaces={self.n_spaces}, n_anchors={self.n_anchors}, "
            f"space_dropout={self.space_dropout}, noise={self.noise}"
        )


def _layer_norm(spaces):
    """LayerNorm without weights, by torch's own kernel; it removes any factor."""
    if torch.onnx.is_in_onnx_export():  # whose kernels do not keep constant rows at 0
        return _layer_normalize(spaces)
    tiny = torch.finfo(spaces.dtype).tiny
    return torch.nn.functional.layer_norm(spaces, spaces.shape[-1:], eps=tiny)


class Concat(_Aggregation):
    r"""Concatenate the normalised spaces: N k features from N spaces of k anchors.

    :math:`\phi(r_1, \dots, r_N) = (\mathrm{LN}(r_1), \dots, \mathrm{LN}(r_N))`.

    Parameters
    ----------
    n_spaces : int
        Number of relative spaces, N.
    n_anchors : int
        Width of each, k.
    space_dropout : float in [0, 1), default=0.0
        Probability with which a whole space is left out of a row, in training.  At
        least one is kept, and the kept ones are scaled up accordingly.
    noise : float >= 0, default=0.0
        Standard deviation of the Gaussian noise that is added to the normalised
        spaces, in training.  All spaces of a row get the same noise, so larger should
        mean closer in all of them.
    dtype : torch.dtype, default=None
        Of the weights.  None: torch's default.

    Examples
    --------
    >>> import torch
    >>> from skinvariant.nn import Concat
    >>> spaces = torch.tensor([[[1.0, 3.0], [6.0, 2.0]]])
    >>> Concat(n_spaces=2, n_anchors=2)(spaces).round(decimals=4).tolist()
    [[-1.0, 1.0, 1.0, -1.0]]
    """

    def __init__(
        self, n_spaces, n_anchors, *, space_dropout=0.0, noise=0.0, dtype=None
    ):
        params = {"space_dropout": space_dropout, "noise": noise, "dtype": dtype}
        super().__init__(n_spaces, n_anchors, **params)
        self.n_features_out = n_spaces * n_anchors

    def _reduce(self, spaces):
        return spaces.flatten(1)


class Mean(_Aggregation):
    r"""Average the normalised spaces: k features.

    :math:`\phi(r_1, \dots, r_N) = \frac{1}{N} \sum_i \mathrm{LN}(r_i)`, in any order.

    Parameters
    ----------
    n_spaces : int
        Number of relative spaces, N.
    n_anchors : int
        Width of each, k.
    space_dropout : float in [0, 1), default=0.0
        Probability with which a whole space is left out of a row, in training.  At
        least one is kept, and the kept ones are scaled up accordingly.
    noise : float >= 0, default=0.0
        Standard deviation of the Gaussian noise that is added to the normalised
        spaces, in training.  All spaces of a row get the same noise, so larger should
        mean closer in all of them.
    dtype : torch.dtype, default=None
        Of the weights.  None: torch's default.

    Examples
    --------
    >>> import torch
    >>> from skinvariant.nn import Mean
    >>> spaces = torch.tensor([[[1.0, 3.0], [2.0, 6.0]]])
    >>> Mean(n_spaces=2, n_anchors=2)(spaces).round(decimals=4).tolist()
    [[-1.0, 1.0]]
    """

    def _reduce(self, spaces):
        return spaces.mean(dim=1)


class WeightedSum(_Aggregation):
    r"""Average the normalised spaces with learned weights: k features.

    :math:`\phi(r_1, \dots, r_N) = \sum_i w_i \, \mathrm{LN}(r_i)` with
    :math:`w = \mathrm{softmax}(v)` for N learned numbers v, initially 0.  Permuting
    the spaces together with v changes nothing.

    Parameters
    ----------
    n_spaces : int
        Number of relative spaces, N.
    n_anchors : int
        Width of each, k.
    space_dropout : float in [0, 1), default=0.0
        Probability with which a whole space is left out of a row, in training.  At
        least one is kept, and the kept ones are scaled up accordingly.
    noise : float >= 0, default=0.0
        Standard deviation of the Gaussian noise that is added to the normalised
        spaces, in training.  All spaces of a row get the same noise, so larger should
        mean closer in all of them.
    dtype : torch.dtype, default=None
        Of the weights.  None: torch's default.

    Examples
    --------
    >>> import torch
    >>> from skinvariant.nn import WeightedSum
    >>> weighted = WeightedSum(n_spaces=2, n_anchors=2)
    >>> spaces = torch.tensor([[[1.0, 3.0], [2.0, 6.0]]])
    >>> weighted(spaces).detach().round(decimals=4).tolist()
    [[-1.0, 1.0]]
    >>> weighted.space_weights(spaces).tolist()
    [[0.5, 0.5]]
    """

    def __init__(
        self, n_spaces, n_anchors, *, space_dropout=0.0, noise=0.0, dtype=None
    ):
        params = {"space_dropout": space_dropout, "noise": noise, "dtype": dtype}
        super().__init__(n_spaces, n_anchors, **params)
        self.logits = Parameter(torch.zeros(n_spaces, dtype=dtype))

    def _map(self, spaces):
        return torch.softmax(self.logits, dim=0)[:, None] * spaces

    def space_weights(self, spaces):
        """Return the weight of each space, the same for all rows.

        Parameters
        ----------
        spaces : Tensor of shape (n_samples, n_spaces, n_anchors)
            The relative spaces.

        Returns
        -------
        Tensor of shape (n_samples, n_spaces)
            Weights >= 0 that sum to 1.
        """
        weights = torch.softmax(self.logits.detach(), dim=0)
        return weights.expand(len(spaces), self.n_spaces)


class MLPSum(_Aggregation):
    r"""Average one learned layer for each space: k features.

    :math:`\phi(r_1, \dots, r_N) = \frac{1}{N} \sum_i \tanh(W_i \, \mathrm{LN}(r_i) +
    b_i)` with :math:`W_i` of shape (k, k), as a DeepSet (Zaheer et al., 2017,
    arXiv 1703.06114).  Permuting the spaces together with their layers changes
    nothing.  The papers' sum has no factor 1 / N; with it, one learning rate and one
    weight decay serve any number of spaces.

    Parameters
    ----------
    n_spaces : int
        Number of relative spaces, N.
    n_anchors : int
        Width of each, k.
    space_dropout : float in [0, 1), default=0.0
        Probability with which a whole space is left out of a row, in training.  At
        least one is kept, and the kept ones are scaled up accordingly.
    noise : float >= 0, default=0.0
        Standard deviation of the Gaussian noise that is added to the normalised
        spaces, in training.  All spaces of a row get the same noise, so larger should
        mean closer in all of them.
    dtype : torch.dtype, default=None
        Of the weights.  None: torch's default.

    References
    ----------
    .. [1] I. Cannistraci et al., "From Bricks to Bridges: Product of Invariances to
       Enhance Latent Space Communication", ICLR 2024, arXiv 2310.01211.

    Examples
    --------
    >>> import torch
    >>> from skinvariant.nn import MLPSum
    >>> mlp_sum = MLPSum(n_spaces=4, n_anchors=300)
    >>> tuple(mlp_sum(torch.randn(5, 4, 300)).shape)
    (5, 300)
    >>> sum(parameter.numel() for parameter in mlp_sum.parameters())
    361200
    """

    def __init__(
        self, n_spaces, n_anchors, *, space_dropout=0.0, noise=0.0, dtype=None
    ):
        params = {"space_dropout": space_dropout, "noise": noise, "dtype": dtype}
        super().__init__(n_spaces, n_anchors, **params)
        sizes = (n_spaces, n_anchors, n_anchors)
        self.weight = Parameter(torch.empty(sizes, dtype=dtype))
        self.bias = Parameter(torch.empty(n_spaces, 1, n_anchors, dtype=dtype))
        bound = 1 / math.sqrt(n_anchors)  # as torch.nn.Linear
        for parameter in (self.weight, self.bias):
            torch.nn.init.uniform_(parameter, -bound, bound)

    def _map(self, spaces):
        mapped = torch.baddbmm(self.bias, spaces.transpose(0, 1), self.weight)
        return torch.tanh(mapped).transpose(0, 1) / self.n_spaces


class AttentionSum(_Aggregation):
    r"""Sum one head of self-attention over the spaces as tokens: k features.

    With the normalised spaces as the N rows of R:
    :math:`\phi = \sum_i A_i (R W_v + b_v)`,
    :math:`A = \mathrm{softmax}((R W_q + b_q)(R W_k + b_k)^T / \sqrt{k})`.  The order
    of the spaces changes nothing.

    Parameters
    ----------
    n_spaces : int
        Number of relative spaces, N.
    n_anchors : int
        Width of each, k.
    space_dropout : float in [0, 1), default=0.0
        Probability with which a whole space is left out of a row, in training.  At
        least one is kept, and the kept ones are scaled up accordingly.
    noise : float >= 0, default=0.0
        Standard deviation of the Gaussian noise that is added to the normalised
        spaces, in training.  All spaces of a row get the same noise, so larger should
        mean closer in all of them.
    dtype : torch.dtype, default=None
        Of the weights.  None: torch's default.

    References
    ----------
    .. [1] I. Cannistraci et al., "From Bricks to Bridges: Product of Invariances to
       Enhance Latent Space Communication", ICLR 2024, arXiv 2310.01211.

    Examples
    --------
    >>> import torch
    >>> from skinvariant.nn import AttentionSum
    >>> attention, spaces = AttentionSum(n_spaces=4, n_anchors=9), torch.randn(5, 4, 9)
    >>> tuple(attention(spaces).shape)
    (5, 9)
    >>> gaps = attention(spaces) - attention(spaces[:, [2, 0, 3, 1]])
    >>> round(gaps.abs().max().item(), 4)
    0.0
    >>> attention.space_weights(spaces).sum(dim=1).round(decimals=4).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """

    def __init__(
        self, n_spaces, n_anchors, *, space_dropout=0.0, noise=0.0, dtype=None
    ):
        params = {"space_dropout": space_dropout, "noise": noise, "dtype": dtype}
        super().__init__(n_spaces, n_anchors, **params)
        self.query = Linear(n_anchors, n_anchors, dtype=dtype)
        self.key = Linear(n_anchors, n_anchors, dtype=dtype)
        self.value = Linear(n_anchors, n_anchors, dtype=dtype)

    def _attention(self, spaces):
        scores = self.query(spaces) @ self.key(spaces).transpose(1, 2)
        return torch.softmax(scores / math.sqrt(self.n_anchors), dim=2)

    def _map(self, spaces):
        return self._attention(spaces) @ self.value(spaces)

    def space_weights(self, spaces):
        """Return the attention that each space gets, averaged over the tokens.

        Parameters
        ----------
        spaces : Tensor of shape (n_samples, n_spaces, n_anchors)
            The relative spaces.

        Returns
        -------
        Tensor of shape (n_samples, n_spaces)
            Weights >= 0 that sum to 1 in each row.
        """
        with torch.no_grad():
            return self._attention(_layer_norm(spaces)).mean(dim=1)


#: The aggregations by name, as the heads' parameter `aggregation` takes them.
AGGREGATIONS = {
    "attention": AttentionSum,
    "concat": Concat,
    "mean": Mean,
    "mlp_sum": MLPSum,
    "weighted": WeightedSum,
}


# --- the network -----------------------------------------------------------------


def make_head(n_inputs, n_outputs, hidden_layer_sizes=(), dropout=0.0, dtype=None):
    """Return hidden layers with ReLU, each after dropout, and an output layer.

    Parameters
    ----------
    n_inputs : int
        Width of the aggregated space.
    n_outputs : int
        Number of classes, or of targets.
    hidden_layer_sizes : sequence of int, default=()
        Widths of the hidden layers.
    dropout : float in [0, 1), default=0.0
        Probability with which a value before a layer is dropped in training.
    dtype : torch.dtype, default=None
        Of the weights.  None: torch's default.

    Returns
    -------
    torch.nn.Sequential
        The layers; the output is not normalised by a softmax.

    Examples
    --------
    >>> from skinvariant.nn import make_head
    >>> [type(layer).__name__ for layer in make_head(300, 10, (64,))]
    ['Linear', 'ReLU', 'Linear']
    """
    layers = []
    drop = [Dropout(dropout)] if dropout else []
    for width in hidden_layer_sizes:
        layers += [*drop, Linear(n_inputs, width, dtype=dtype), ReLU()]
        n_inputs = width
    return Sequential(*layers, *drop, Linear(n_inputs, n_outputs, dtype=dtype))


class InvariantNetwork(Module):
    """An aggregation of relative spaces, followed by a head.

    Parameters
    ----------
    aggregation : Module
        One of `AGGREGATIONS`, or any module that takes a tensor of shape (n_samples,
        n_spaces, n_anchors).
    head : Module
        Takes the aggregated space: from `make_head`, or a module of your own such as a
        convolutional decoder.

    Examples
    --------
    A decoder that maps relative spaces to images of 8 by 8 pixels:

    >>> import torch
    >>> from skinvariant.nn import InvariantNetwork, MLPSum
    >>> decoder = torch.nn.Sequential(
    ...     torch.nn.Unflatten(1, (1, 4, 4)),
    ...     torch.nn.ConvTranspose2d(1, 1, kernel_size=2, stride=2),
    ... )
    >>> network = InvariantNetwork(MLPSum(n_spaces=4, n_anchors=16), decoder)
    >>> tuple(network(torch.randn(5, 4, 16)).shape)
    (5, 1, 8, 8)
    """

    def __init__(self, aggregation, head):
        super().__init__()
        self.aggregation = aggregation
        self.head = head

    def forward(self, spaces):
        """Aggregate and apply the head.

        Parameters
        ----------
        spaces : Tensor of shape (n_samples, n_spaces, n_anchors)
            The relative spaces.

        Returns
        -------
        Tensor of shape (n_samples, ...)
            The output of the head.
        """
        return self.head(self.aggregation(spaces))
