"""Fitted models as torch modules and as ONNX: voting models and neural heads.

Importing this loads torch; `skinvariant.voting` imports it where it is used.
"""

import copy
import json
import warnings

import numpy as np
from scipy.sparse import issparse
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import (
    ARDRegression,
    BayesianRidge,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Ridge,
    RidgeCV,
    SGDRegressor,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVR

from skinvariant.metrics import METRICS
from skinvariant.persistence import fingerprint
from skinvariant.translation import SpaceTranslator

try:
    import torch

    from skinvariant import nn
    from skinvariant._torch import own_settings
except ImportError as error:
    raise ImportError(
        "to_torch and to_onnx need torch: pip install 'skinvariant[onnx]'"
    ) from error

_DTYPE = torch.float64

# their probabilities are the softmax, or with two classes the sigmoid, of linear values
_CLASSIFIERS = (LinearDiscriminantAnalysis, LogisticRegression)
_REGRESSORS = (
    ARDRegression,
    BayesianRidge,
    Lasso,
    LinearRegression,
    LinearSVR,
    Ridge,
    RidgeCV,
    SGDRegressor,
)


# --- torch modules ----------------------------------------------------------------


class GaussianKernel(torch.nn.Module):
    """Standardised rows compared with fixed rows by a Gaussian kernel.

    Parameters
    ----------
    rows : Tensor of shape (n_rows, n_features)
        The fixed rows, standardised.
    mean, scale : Tensor of shape (n_features,)
        Mean and scale by which other rows are standardised.
    gamma : float
        The width parameter of `sklearn.metrics.pairwise.rbf_kernel`.

    Examples
    --------
    >>> import torch
    >>> from skinvariant._export import GaussianKernel
    >>> rows = torch.eye(2)
    >>> kernel = GaussianKernel(rows, torch.zeros(2), torch.ones(2), gamma=0.5)
    >>> kernel(rows).round(decimals=3).tolist()
    [[1.0, 0.36800000071525574], [0.36800000071525574, 1.0]]
    """

    def __init__(self, rows, mean, scale, gamma):
        super().__init__()
        self.register_buffer("rows", rows)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.gamma = float(gamma)

    def forward(self, X):
        """Compare rows with the fixed ones.

        Parameters
        ----------
        X : Tensor of shape (n_samples, n_features)
            Rows, not standardised.

        Returns
        -------
        Tensor of shape (n_samples, n_rows)
            The kernel.
        """
        X = (X - self.mean) / self.scale
        squares = (X * X).sum(dim=1, keepdim=True) + (self.rows**2).sum(dim=1)
        squares = torch.relu(squares - 2 * X @ self.rows.T)
        return torch.exp(-self.gamma * squares)


class LinearPool(torch.nn.Module):
    """The weighted sum of the members' outputs for the same rows.

    Parameters
    ----------
    members : dict of str to Module
        Each maps rows to a tensor of shape (n_samples, n_outputs).
    weights : sequence of float
        The weight of each.
    intercept : Tensor of shape (n_outputs,)
        Added to the sum.

    Examples
    --------
    >>> import torch
    >>> from skinvariant._export import LinearPool
    >>> members = {"one": torch.nn.Identity(), "other": torch.nn.ReLU()}
    >>> LinearPool(members, [0.5, 2.0], torch.ones(1))(torch.tensor([[4.0]])).tolist()
    [[11.0]]
    """

    def __init__(self, members, weights, intercept):
        super().__init__()
        self.members = torch.nn.ModuleDict(members)
        weights = torch.as_tensor(weights, dtype=intercept.dtype)
        self.register_buffer("weights", weights)
        self.register_buffer("intercept", intercept)

    def forward(self, X):
        """Pool the outputs of the members.

        Parameters
        ----------
        X : Tensor of shape (n_samples, n_features)
            Rows of any dtype; the module computes in its own.

        Returns
        -------
        Tensor of shape (n_samples, n_outputs)
            The pooled outputs, in the dtype of `X`.
        """
        rows = X.to(self.intercept.dtype)
        pooled = rows.new_zeros(rows.shape[0], 1) + self.intercept
        outputs = self._before(member(rows) for member in self.members.values())
        for weight, output in zip(self.weights, outputs, strict=True):
            pooled = pooled + weight * output
        return self._after(pooled).to(X.dtype)

    def _before(self, outputs):
        return outputs

    def _after(self, pooled):
        return pooled


class LogPool(LinearPool):
    """The logarithmic opinion pool of members whose outputs are logits.

    Probabilities are smoothed first, as by `skinvariant.pooling.smoothed_log`.

    Parameters
    ----------
    members : dict of str to Module
        Each maps rows to logits, a tensor of shape (n_samples, n_classes).
    weights : sequence of float
        The weight of each.
    intercept : Tensor of shape (n_classes,)
        Added to the weighted sum of the logarithms.
    n_rows : sequence of int
        The number of rows by which the probabilities of each are smoothed.

    Examples
    --------
    >>> import torch
    >>> from skinvariant._export import LogPool
    >>> pool = LogPool({"one": torch.nn.Identity()}, [1.0], torch.zeros(2), [98])
    >>> pool(torch.tensor([[0.0, 1000.0]])).exp().round(decimals=2).tolist()
    [[0.009999999776482582, 0.9900000095367432]]
    """

    def __init__(self, members, weights, intercept, n_rows):
        super().__init__(members, weights, intercept)
        self.n_rows = [int(n) for n in n_rows]

    def _before(self, outputs):
        for n_rows, logits in zip(self.n_rows, outputs, strict=True):
            proba = torch.softmax(logits, dim=1)
            yield torch.log((n_rows * proba + 1) / (n_rows + proba.shape[1]))

    def _after(self, pooled):
        return torch.log_softmax(pooled, dim=1)


# --- fitted estimators into modules ------------------------------------------------


@own_settings()
def voting_module(model):
    """Return a fitted voting model, from rows to outputs, as one torch module.

    Parameters
    ----------
    model : InvariantVotingClassifier or InvariantVotingRegressor
        Fitted.

    Returns
    -------
    LogPool or LinearPool
        In float64 and evaluation mode.

    Raises
    ------
    TypeError
        If a member of weight > 0 has no torch counterpart.
    """
    weights = {name: weight for name, weight in model.weights_.items() if weight > 0}
    members = {name: _member(model, name) for name in weights}
    layers = [m[0] for m in members.values() if isinstance(m[0], nn.RelativeLayer)]
    for layer in layers[1:]:
        layer.anchors = layers[0].anchors  # stored once
    if hasattr(model, "classes_"):
        zeros = torch.zeros(len(model.classes_), dtype=_DTYPE)
        n_rows = [model._smoothing_rows(name) for name in weights]
        return LogPool(members, list(weights.values()), zeros, n_rows).eval()
    intercept = _tensor(model.intercept_)
    return LinearPool(members, list(weights.values()), intercept).eval()


@own_settings()
def head_module(head):
    """Return a fitted neural head, from rows to outputs, as one torch module.

    Parameters
    ----------
    head : InvariantClassifier or InvariantRegressor
        Fitted.

    Returns
    -------
    torch.nn.Sequential
        A `skinvariant.nn.ProductLayer` and a copy of the network, in evaluation mode.

    Raises
    ------
    TypeError
        If a metric, `pre` or `post` has no torch counterpart.
    """
    network, aggregator = copy.deepcopy(head.net_.module_), head.aggregator_
    output = network.head[-1]
    on = {"dtype": output.bias.dtype, "device": output.bias.device}
    if not hasattr(head, "classes_"):  # targets in their own units
        scale, mean = (
            torch.as_tensor(values, **on)
            for values in (head._scaler.scale_, head._scaler.mean_)
        )
        with torch.no_grad():
            output.weight *= scale[:, None]
            output.bias.copy_(output.bias * scale + mean)
    anchors = head.anchors_.toarray() if issparse(head.anchors_) else head.anchors_
    anchors, post = torch.as_tensor(anchors, **on), _named("post", aggregator.post)
    pairs = aggregator._metrics
    layers = [_relative_layer(aggregator, anchors, *pair, post) for pair in pairs]
    return torch.nn.Sequential(nn.ProductLayer(layers), network).eval()


def _member(model, name):
    """Return one member, from rows to logits or targets."""
    front, affine, aggregator = [], _Affine(), model.aggregator_
    if aggregator is not None:
        pairs = zip(aggregator._metrics, aggregator.posts_, strict=True)
        for (metric, params), scaler in pairs:
            if metric.name == name:
                post = None
                if type(scaler) is StandardScaler:
                    affine.scale(scaler)
                else:
                    post = _named("post", aggregator.post)
                # prepared in the dtype of the anchors, whose rounding decides on rank
                anchors = torch.as_tensor(aggregator.anchors_)
                layer = _relative_layer(aggregator, anchors, metric, params, post)
                front = [layer.to(_DTYPE)]
    steps = _flat(model.named_estimators_[name])
    for i, step in enumerate(steps):
        if type(step) is StandardScaler:
            affine.scale(step)
        elif isinstance(step, SpaceTranslator) and hasattr(step, "coef_"):
            affine.multiply(step.coef_, step.intercept_)
        elif isinstance(step, SpaceTranslator) and i == 0 and not front:
            arrays = map(_tensor, (step._rows, step._origin, step._scale))
            front = [GaussianKernel(*arrays, step.gamma_)]
            offset = step.intercept_ - step._kernel_means @ step.dual_coef_
            affine.multiply(step.dual_coef_.T, offset)
        elif i == len(steps) - 1 and _is_linear(step):
            affine.multiply(*_coefficients(step))
        else:
            raise TypeError(
                f"member {name!r} must be linear for to_torch and to_onnx, such as a "
                "LogisticRegression, or of a regressor Ridge, LinearRegression and the "
                "like, alone or at the end of a Pipeline of StandardScalers; got "
                f"{model.named_estimators_[name]!r}"
            )
    return torch.nn.Sequential(*front, affine.layer())


def _relative_layer(aggregator, anchors, metric, params, post):
    """Return the relative space of one metric, with the `pre` of its aggregator."""
    known = METRICS.get(metric.name) == metric and not metric.needs_rows
    return nn.RelativeLayer(
        anchors,
        _named("metrics", metric, known).name,
        metric_params=params,
        pre=_named("pre", aggregator.pre),
        post=post,
    )


def _named(name, option, known=False):
    """Return an option that has a torch counterpart: None, a name or a known object."""
    if known or option is None or isinstance(option, str):
        return option
    raise TypeError(
        f"{name} must be given by name, and have a torch module, for to_torch and "
        f"to_onnx; got {option!r}"
    )


class _Affine:
    """The composition of affine maps: ``X @ coef.T + intercept``."""

    def __init__(self):
        self.coef, self.intercept = None, 0.0

    def multiply(self, coef, intercept):
        """Apply a matrix of shape (n_features_out, n_features), and add an offset."""
        coef = np.asarray(coef, dtype=np.float64)
        self.intercept = coef @ np.broadcast_to(self.intercept, coef.shape[1])
        self.intercept = self.intercept + intercept
        self.coef = coef if self.coef is None else coef @ self.coef

    def scale(self, scaler):
        """Apply a fitted StandardScaler."""
        factors = np.ones(scaler.n_features_in_)
        if scaler.with_std:
            factors /= scaler.scale_
        means = scaler.mean_ if scaler.with_mean else 0.0
        self.multiply(np.diag(factors), -means * factors)

    def layer(self):
        """Return the map as a torch module."""
        layer = torch.nn.Linear(*self.coef.shape[::-1], dtype=_DTYPE)
        with torch.no_grad():
            layer.weight.copy_(_tensor(self.coef))
            layer.bias.copy_(_tensor(self.intercept))
        return layer


def _tensor(array):
    return torch.tensor(np.asarray(array, dtype=np.float64))


def _flat(estimator):
    """Return the steps of nested pipelines without those that change nothing."""
    if isinstance(estimator, Pipeline):
        steps = [step for _, step in estimator.steps]
        return [part for step in steps for part in _flat(step)]
    if isinstance(estimator, FunctionTransformer) and estimator.func is None:
        return []
    return [] if estimator in (None, "passthrough") else [estimator]


def _is_linear(head):
    """Whether a head's predictions are linear, or the softmax of linear values."""
    kinds = {"predict_proba": _CLASSIFIERS, "predict": _REGRESSORS}
    method = "predict_proba" if hasattr(head, "classes_") else "predict"
    own = getattr(type(head), method, None)
    known = [getattr(kind, method) for kind in kinds[method]]
    return hasattr(head, "coef_") and own in known


def _coefficients(head):
    """Return a linear head's coefficients and intercept, of each class or target."""
    coef = np.atleast_2d(head.coef_)
    intercept = np.broadcast_to(head.intercept_, len(coef))
    if hasattr(head, "classes_") and len(coef) == 1:  # a softmax of two is the sigmoid
        return np.vstack([-coef, coef]) / 2, np.append(-intercept, intercept) / 2
    return coef, intercept


# --- ONNX ---------------------------------------------------------------------------


@own_settings()
def onnx_model(model, dtype=None):
    """Return a fitted model, from rows to probabilities or targets, as ONNX.

    Parameters
    ----------
    model : fitted estimator
        A voting model or a neural head.
    dtype : {"float32", "float64"}, default=None
        The dtype of the rows.  None: that of the anchors, or float64 where these are
        integers.

    Returns
    -------
    onnx.ModelProto
        The input "X" takes any number of rows.  The output is "probabilities" or
        "targets".  The metadata are the "fingerprint" of the anchors, and of a
        classifier "classes" as JSON, dates in ISO format.

    Raises
    ------
    ImportError
        If onnx or onnxscript is not installed.
    TypeError
        If a part of the model has no torch counterpart.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "to_onnx needs onnx and onnxscript: pip install 'skinvariant[onnx]'"
        ) from error
    module, name = model.to_torch(), "targets"
    properties = {"fingerprint": fingerprint(model)}
    if hasattr(model, "classes_"):
        module = torch.nn.Sequential(module, torch.nn.Softmax(dim=1))
        name = "probabilities"
        classes = model.classes_
        if classes.dtype.kind == "M":  # JSON has no dates
            classes = np.datetime_as_string(classes)
        properties["classes"] = json.dumps(classes.tolist())
    if dtype is None:
        dtype = "float32" if model.anchors_.dtype == np.float32 else "float64"
    rows = torch.zeros(2, model.n_features_in_, dtype=getattr(torch, dtype))
    with warnings.catch_warnings():  # torch warns of its own parts
        warnings.simplefilter("ignore", (DeprecationWarning, FutureWarning))
        program = torch.onnx.export(
            module.cpu().eval(),
            (rows,),
            dynamo=True,
            input_names=["X"],
            output_names=[name],
            dynamic_shapes=({0: torch.export.Dim("n_samples")},),
            verbose=False,
        )
    exported = program.model_proto  # a new one at each access
    onnx.helper.set_model_props(exported, properties)
    return exported
